//! When the writer folds, and what stands in its way.

use std::fs;

use rusqlite::Connection;

use crate::sqlite::contract::{Bench, options};
use crate::sqlite::repair::{backup, check, restore, salvage};
use crate::sqlite::tests::{open_quick, outside, sized, wait_until};
use crate::sqlite::{SetClock, SteppedLog, StoreOptions};
use crate::store::samples::{ALICE, BOB, append, body_of, keyed, stored};
use crate::store::{Append, Bounds, Outcome, Scope, ScopedKey, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, IdempotencyKey, Millis, PageSize, SessionId, WallMillis};

/// A log that is stepped by the second.
struct Hand {
    log: SteppedLog,
    clock: SetClock,
    second: u64,
    outside: Connection,
    /// What the log has told while the time passed.
    told: Vec<StoreEvent>,
}

impl Hand {
    fn open(options: &StoreOptions) -> Hand {
        let clock = SetClock::default();
        let log = SteppedLog::open(options, clock.clone()).unwrap();
        Hand { log, clock, second: 0, outside: outside(&options.path), told: Vec::new() }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            self.clock.set(Millis(self.second * 1000), WallMillis(1_790_000_000_000 + self.second * 1000));
            // A fold is a piece each time.
            for _ in 0..100 {
                if self.log.patience().is_some_and(|patience| patience.is_zero()) {
                    self.log.use_the_pause(&mut self.told);
                }
            }
        }
    }

    fn append(&mut self, appends: impl IntoIterator<Item = Append>) -> Vec<Outcome> {
        let mut requests = appends.into_iter().map(StoreRequest::Append).collect();
        let mut events = Vec::new();
        self.log.answer(&mut requests, &mut events);
        let appended = events.into_iter().filter_map(|event| match event {
            StoreEvent::Appended(list) => Some(list.into_iter().map(|one| one.outcome)),
            _ => None,
        });
        appended.flatten().collect()
    }

    /// Returns the head in the row of a room: that of the last fold.
    fn folded(&self, room: &str) -> i64 {
        let sql = "SELECT head FROM rooms WHERE name = ?1";
        self.outside.query_row(sql, [room], |row| row.get(0)).unwrap()
    }
}

fn by(sender: u64, to: &str, key: u64) -> Append {
    let scope = Scope::Session(SessionId(u128::from(sender).to_be_bytes()));
    let key = Some(ScopedKey { scope, key: IdempotencyKey::of(&key.to_be_bytes()) });
    Append { key, ..append(to, &body_of(100), 1) }
}

#[test]
fn a_slow_conversation_is_folded_once_an_hour() {
    let directory = TempDir::new();
    let mut hand = Hand::open(&options(directory.path(), Durability::Full));
    for n in 0..230 {
        hand.append([by(1, "a", n)]);
        assert_eq!(hand.folded("a"), 0, "at {} s", hand.second);
        hand.pass(15);
    }
    hand.pass(3600 - 230 * 15);
    assert_eq!(hand.folded("a"), 230);
    hand.append([by(1, "a", 230)]);
    hand.pass(3599);
    assert_eq!(hand.folded("a"), 230);
    hand.pass(2);
    assert_eq!(hand.folded("a"), 231);
}

#[test]
fn a_log_that_falls_quiet_is_folded_if_it_is_worth_it() {
    let directory = TempDir::new();
    let mut hand = Hand::open(&options(directory.path(), Durability::Full));
    hand.append((0..255).map(|n| by(1, "a", n)));
    hand.pass(60);
    assert_eq!(hand.folded("a"), 0, "few");
    hand.append([by(1, "a", 255)]);
    hand.pass(9);
    assert_eq!(hand.folded("a"), 0, "not quiet yet");
    hand.pass(2);
    assert_eq!(hand.folded("a"), 256);
    assert_eq!(hand.log.patience(), None, "nothing is left to do");
}

#[test]
fn where_messages_go_by_their_age_none_waits_longer_than_a_part_of_it() {
    let directory = TempDir::new();
    let mut options = options(directory.path(), Durability::Full);
    options.bounds.keep_for = 6_400_000;
    let mut hand = Hand::open(&options);
    hand.append([by(1, "a", 1)]);
    hand.pass(99);
    assert_eq!(hand.folded("a"), 0);
    hand.pass(2);
    assert_eq!(hand.folded("a"), 1);
}

/// The cache of rooms holds 4,096; what waits for a fold is not in it.
#[test]
fn heads_and_keys_outlive_the_cache_of_rooms() {
    let directory = TempDir::new();
    let mut hand = Hand::open(&options(directory.path(), Durability::Normal));
    let room = |n: u64| format!("room-{n}");
    hand.append([by(1, "first", 1)]);
    for part in 0..5 {
        let outcomes = hand.append((part * 1000..(part + 1) * 1000).map(|n| by(1, &room(n), 1)));
        assert!(outcomes.iter().all(|outcome| stored(outcome).seq.0 == 1));
    }
    assert_eq!(hand.folded("first"), 0);
    assert!(matches!(hand.append([by(1, "first", 1)])[0], Outcome::Duplicate { .. }));
    assert_eq!(stored(&hand.append([by(1, "first", 2)])[0]).seq.0, 2);
    let again = hand.append((0..1000).map(|n| by(1, &room(n), 1)));
    assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })));
    let next = hand.append((0..1000).map(|n| by(2, &room(n), 1)));
    assert!(next.iter().all(|outcome| stored(outcome).seq.0 == 2));
}

/// Nothing is folded when the log ends: the next one takes it in from the rows.
#[test]
fn what_was_not_folded_is_known_after_a_kill() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut hand = Hand::open(&options);
    hand.append((0..100).map(|n| by(n % 3, "a", n)));
    hand.append((0..10).map(|n| keyed("a", "1", Scope::Common, &format!("common-{n}"))));
    assert_eq!(hand.folded("a"), 0);
    drop(hand);
    assert!(check(&options.path, None).unwrap().is_well(), "nothing is wrong with it");
    for _ in 0..2 {
        let mut hand = Hand::open(&options);
        let again = hand.append((0..100).map(|n| by(n % 3, "a", n)));
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })));
        let again = hand.append((0..10).map(|n| keyed("a", "1", Scope::Common, &format!("common-{n}"))));
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })));
        assert_eq!(hand.folded("a"), 0);
        drop(hand);
    }
    let hand = Hand::open(&options);
    hand.log.finish().unwrap();
    let mut hand = Hand::open(&options);
    assert_eq!(hand.folded("a"), 0, "a log that nobody used knows of nothing to fold");
    hand.append([by(1, "a", 100)]);
    hand.log.finish().unwrap();
    let head: i64 = hand.outside.query_row("SELECT head FROM rooms", [], |row| row.get(0)).unwrap();
    assert_eq!(head, 111, "a clean end folds");
}

/// A copy has what was not folded in its rows, and so has what is salvaged.
#[test]
fn copies_and_salvage_keep_what_was_not_folded() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut hand = Hand::open(&options);
    hand.append((0..70).map(|n| by(1, "a", n)));
    hand.append([keyed("a", "1", Scope::Common, "common"), keyed("b", "1", BOB, "k")]);
    let at = |name: &str| directory.path().join(name);
    backup(&options.path, &at("backup"), false, Box::new(|_, _| ())).unwrap();
    drop(hand);
    salvage(&options.path, &at("salvaged"), None).unwrap();
    restore(&at("backup"), &at("restored.db"), Box::new(|_, _| ())).unwrap();
    for (name, folded) in [("restored.db", 0), ("salvaged", 71)] {
        let checked = check(&at(name), None).unwrap();
        assert!(checked.is_well(), "{name}: {checked:?}");
        let mut hand = Hand::open(&StoreOptions { path: at(name), ..options.clone() });
        assert_eq!(hand.folded("a"), folded, "{name}");
        let again = hand.append((6..70).map(|n| by(1, "a", n)));
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })), "{name}: {again:?}");
        let again = hand.append([keyed("a", "1", Scope::Common, "common"), keyed("b", "1", BOB, "k")]);
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })), "{name}: {again:?}");
        assert_eq!(stored(&hand.append([by(1, "a", 5)])[0]).seq.0, 72, "{name}: 64 are kept");
    }
}

/// Where holes are closed, keys move with their messages, and those of lost messages may be sent again.
#[test]
fn salvage_moves_keys_that_were_not_folded() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut hand = Hand::open(&options);
    hand.append((1..=20).map(|n| by(1, "a", n)));
    drop(hand);
    outside(&options.path).execute_batch("DELETE FROM messages WHERE id IN ((1 << 39) + 8, (1 << 39) + 9)").unwrap();
    let path = directory.path().join("salvaged");
    salvage(&options.path, &path, None).unwrap();
    assert!(check(&path, None).unwrap().is_well());
    let mut hand = Hand::open(&StoreOptions { path, ..options });
    let seqs = |outcomes: Vec<Outcome>| -> Vec<u64> {
        let seq = |outcome: &Outcome| match outcome {
            Outcome::Duplicate { seq, .. } => seq.0,
            other => stored(other).seq.0 + 1000,
        };
        outcomes.iter().map(seq).collect()
    };
    assert_eq!(seqs(hand.append([1, 7, 10, 20].map(|n| by(1, "a", n)))), [3, 9, 10, 20]);
    assert_eq!(seqs(hand.append([8, 9].map(|n| by(1, "a", n)))), [1021, 1022]);
}

/// A message goes only once its key is folded: the sender may repeat it for longer than it is kept.
#[test]
fn retention_folds_before_it_deletes() {
    let directory = TempDir::new();
    let mut options = options(directory.path(), Durability::Full);
    options.bounds.keep_messages = 5;
    let mut hand = Hand::open(&options);
    hand.append((0..60).map(|n| by(1, "a", n)));
    hand.pass(5);
    let count: i64 = hand.outside.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert_eq!((count, hand.folded("a")), (5, 60));
    drop(hand);
    let mut hand = Hand::open(&options);
    let again = hand.append((0..60).map(|n| by(1, "a", n)));
    assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })));
}

impl Hand {
    fn count(&self, room: &str) -> i64 {
        let sql = "SELECT count(*) FROM messages JOIN rooms ON messages.id >> 39 = rooms.id WHERE rooms.name = ?1";
        self.outside.query_row(sql, [room], |row| row.get(0)).unwrap()
    }

    /// Returns the lines about damage.
    fn damage(&self) -> Vec<&str> {
        let mut lines = Vec::new();
        for event in &self.told {
            if let StoreEvent::Unreadable(line) = event {
                lines.push(line.as_str());
            }
        }
        lines
    }
}

/// One room that cannot be read or folded keeps nobody else's messages, and somebody hears of it.
#[test]
fn retention_goes_on_beside_a_damaged_room() {
    const WEEK: u64 = 7 * 24 * 3600;
    let last = "UPDATE messages SET at = 'damaged' WHERE id = (1 << 39) + 26";
    let waiting = "UPDATE messages SET at = 'damaged' WHERE id = (1 << 39) + 20";
    let window = "UPDATE keys SET entries = 'damaged'";
    for (damage, is_killed, is_old) in [(last, true, false), (waiting, true, true), (window, false, false)] {
        let directory = TempDir::new();
        let mut options = options(directory.path(), Durability::Full);
        let mut hand = Hand::open(&options);
        hand.append((0..6).map(|n| by(1, "a", n)));
        hand.pass(3601);
        assert_eq!(hand.folded("a"), 6);
        hand.append((6..26).map(|n| by(1, "a", n)));
        hand.append((0..20).map(|n| by(2, "b", n)));
        options.bounds.keep_messages = 5;
        if is_killed {
            drop(hand);
            // Where a week has passed, the window in the damaged room is old, too.
            let seconds = if is_old { WEEK + 7_200 } else { 0 };
            let later = format!("UPDATE meta SET running = running + {seconds}");
            outside(&options.path).execute_batch(&later).unwrap();
            hand = Hand::open(&options);
        } else {
            hand.log.set_bounds(options.bounds, &mut Vec::new());
        }
        hand.outside.execute_batch(damage).unwrap();
        hand.pass(5);
        assert_eq!((hand.count("b"), hand.folded("b")), (5, 20), "{damage}");
        let told = hand.damage();
        assert!(!told.is_empty() && told.iter().all(|line| line.contains("racerd salvage")), "{damage}: {told:?}");
        assert!(told.iter().any(|line| line.contains("of room a cannot be")), "{damage}: {told:?}");
        let lines = told.len();
        hand.append((20..40).map(|n| by(2, "b", n)));
        hand.pass(200);
        assert_eq!(hand.count("b"), 5, "{damage}");
        assert_eq!(hand.damage().len(), lines, "{damage}: each is told once: {:?}", hand.damage());
        let noted: Option<String> = hand.outside.query_row("SELECT damage FROM meta", [], |row| row.get(0)).unwrap();
        assert!(noted.is_some(), "the next start looks at it");
    }
}

/// A table that cannot be read is no reason to keep old messages.
#[test]
fn retention_goes_on_beside_damaged_sessions_and_keys() {
    for table in ["parked", "keys"] {
        let directory = TempDir::new();
        let mut options = options(directory.path(), Durability::Full);
        options.bounds.keep_messages = 5;
        let mut hand = Hand::open(&options);
        hand.append((0..20).map(|n| append("b", &n.to_string(), 1)));
        hand.outside.execute_batch(&format!("DROP TABLE {table}")).unwrap();
        hand.pass(200);
        assert_eq!(hand.count("b"), 5, "{table}");
    }
}

/// After many kills in a row, a batch that uses all rooms takes in no more of what was not folded than may wait, and
/// one room.
#[test]
fn rooms_of_many_runs_are_taken_in_a_few_at_a_time() {
    let directory = TempDir::new();
    let options = sized(4 << 20, directory.path());
    let room = |n: u64| format!("room{n}");
    for run in 0..10 {
        let mut hand = Hand::open(&options);
        for n in run * 3..run * 3 + 3 {
            hand.append((0..100).map(|sender| by(sender, &room(n), 1)));
        }
    }
    let mut hand = Hand::open(&options);
    assert!((0..30).all(|n| hand.folded(&room(n)) == 0));
    let outcomes = hand.append((0..30).flat_map(|n| [by(1, &room(n), 1), by(1, &room(n), 2)]));
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Duplicate { seq, .. } if n % 2 == 0 => assert_eq!(seq.0, 2),
            other => assert_eq!((n % 2, stored(other).seq.0), (1, 101), "{n}"),
        }
    }
    assert_eq!(outcomes.len(), 60);
    // A reserve of 128 KiB, at 192 bytes a key: 682 may wait.
    let folded = (0..30).filter(|n| hand.folded(&room(*n)) > 0).count();
    assert!(folded >= 22, "{folded} of 30 rooms are folded before the last is taken in");
    hand.log.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

/// A key used since the last fold keeps its sender's window, although the stored time of last use is old.
#[test]
fn no_window_goes_while_something_waits_in_its_room() {
    const WEEK: u64 = 7 * 24 * 3600;
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut hand = Hand::open(&options);
    hand.append([by(1, "a", 1), by(2, "a", 1)]);
    hand.pass(3601);
    assert_eq!(hand.folded("a"), 2);
    // A week later, of which the log is told by the running seconds alone.
    hand.append([by(1, "a", 2)]);
    drop(hand);
    outside(&options.path).execute_batch(&format!("UPDATE meta SET running = running + {}", WEEK + 7_200)).unwrap();
    let mut hand = Hand::open(&options);
    let windows =
        |hand: &Hand| -> i64 { hand.outside.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap() };
    // The sweep meets old windows in a room with something to fold, folds it, and the next one deletes.
    hand.pass(1);
    assert_eq!(hand.folded("a"), 3);
    hand.pass(130);
    assert_eq!(windows(&hand), 1, "the second sender's is gone");
    assert!(matches!(hand.append([by(1, "a", 1)])[0], Outcome::Duplicate { .. }));
    assert!(matches!(hand.append([by(1, "a", 2)])[0], Outcome::Duplicate { .. }));
}

/// A small database with nothing folded is full sooner than most of what fills it could be folded.
#[test]
fn a_small_database_keeps_going_and_keeps_its_keys() {
    let directory = TempDir::new();
    let options = sized(1 << 20, directory.path());
    let options = StoreOptions { bounds: Bounds { keep_messages: 100_000, ..options.bounds }, ..options };
    let mut hand = Hand::open(&options);
    let mut key = 0;
    for round in 0..300 {
        let outcomes = hand.append((0..100).map(|n| by((key + n) % 60, "a", key + n)));
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))), "{round}: {outcomes:?}");
        key += 100;
        let again = hand.append((key.saturating_sub(300)..key).map(|n| by(n % 60, "a", n)));
        let known = again.iter().filter(|outcome| matches!(outcome, Outcome::Duplicate { .. })).count();
        assert!(round < 3 || known == 300, "{round}: {known}");
        let bytes = fs::metadata(&options.path).unwrap().len();
        assert!(bytes <= 1 << 20, "{round}: {bytes} bytes");
        if round % 100 == 50 {
            drop(hand);
            hand = Hand::open(&options);
        }
    }
    hand.log.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

/// Senders who all have the same number of keys need more pages for their windows at the same time than are kept free
/// for folds: old messages make space for them.
#[test]
fn windows_that_grow_together_find_space() {
    for page_size in [PageSize::TwoKib, PageSize::FourKib] {
        let directory = TempDir::new();
        let options = sized(1 << 20, directory.path());
        let bounds = Bounds { keep_messages: 100_000, ..options.bounds };
        let mut hand = Hand::open(&StoreOptions { bounds, page_size, durability: Durability::Normal, ..options });
        for key in 0..100 {
            for senders in [0..40, 40..80, 80..120] {
                let outcomes = hand.append(senders.map(|n| by(n, &format!("room{}", n % 30), key)));
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))), "{key}: {outcomes:?}");
            }
        }
        let again = hand.append((36..100).map(|key| by(7, "room7", key)));
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate { .. })), "{again:?}");
        hand.log.finish().unwrap();
    }
}

/// Nothing may be deleted, and no message fits any more: what waits can still be folded.
#[test]
fn a_full_database_has_space_for_its_folds() {
    let directory = TempDir::new();
    // Of a size at which the last fold was some messages ago.
    let options = sized((1 << 20) + (8 << 10), directory.path());
    let mut hand = Hand::open(&options);
    let mut count = 0;
    while let Outcome::Stored(_) = hand.append([by(count, "a", count)])[0] {
        count += 1;
        assert!(count < 10_000, "the bound holds");
    }
    let waiting = count as i64 - hand.folded("a");
    assert!(waiting > 20, "{waiting} of {count} messages wait");
    hand.log.finish().unwrap();
    let head: i64 = hand.outside.query_row("SELECT head FROM rooms", [], |row| row.get(0)).unwrap();
    assert_eq!(head as u64, count);
    assert!(fs::metadata(&options.path).unwrap().len() <= 1 << 20);
}

/// A fold that fails stops nobody until twice as much waits as should; then the reason is told, and the log recovers.
#[test]
fn a_fold_that_fails_is_in_the_way_only_in_the_end() {
    let directory = TempDir::new();
    let options = sized(4 << 20, directory.path());
    let mut bench = open_quick(&options);
    let say = |bench: &mut Bench, n: u64| bench.append(by(n, "a", n));
    say(&mut bench, 0);
    let outside = outside(&options.path);
    outside
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'no such luck'); END")
        .unwrap();
    // A reserve of 128 KiB, at 192 bytes a key.
    let most = (128 << 10) / 192;
    let mut count = 1;
    while matches!(say(&mut bench, count), Outcome::Stored(_)) {
        count += 1;
        assert!(count < 2 * most, "the bound holds");
    }
    assert!((most..most + 10).contains(&count), "{count}");
    assert!(bench.next_available().unwrap_err().contains("no such luck"));
    outside.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    for n in 0..count {
        assert!(matches!(say(&mut bench, n), Outcome::Duplicate { .. }), "{n}");
    }
    assert!(matches!(say(&mut bench, count), Outcome::Stored(_)));
    wait_until("it is folded", || {
        let windows: i64 = outside.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap();
        windows as u64 >= count
    });
    bench.store.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

#[test]
fn a_rekey_forgets_keys_that_were_not_folded() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut hand = Hand::open(&options);
    let said = || [keyed("a", "1", ALICE, "k"), keyed("a", "1", Scope::Common, "k")];
    hand.append(said());
    assert_eq!(hand.folded("a"), 0);
    drop(hand);
    let key = crate::crypto::at_rest::DataKey::new([1; 32]);
    crate::sqlite::rekey(&options.path, None, Some(&key), Box::new(|_, _| ())).unwrap();
    let keys: i64 = outside(&options.path)
        .query_row("SELECT count(*) FROM messages WHERE key IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(keys, 0);
    let mut hand = Hand::open(&StoreOptions { data_key: Some(key), ..options });
    assert_eq!(hand.folded("a"), 0);
    let seqs: Vec<u64> = hand.append(said()).iter().map(|outcome| stored(outcome).seq.0).collect();
    assert_eq!(seqs, [3, 4], "its head is known from the rows");
}
