//! Retention by the writer thread: which messages are deleted, that space is returned, and that commits continue
//! meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::tests::{open_quick, outside, wait_until};
use super::{SetClock, SteppedLog, StoreOptions, backup, check, restore};
use crate::sqlite::contract::{Bench, options};
use crate::store::samples::{append, body_of, keyed, read, stored};
use crate::store::{About, Bounds, Outcome, Span, StoreEvent};
use crate::testing::TempDir;
use crate::types::{Durability, Millis, Seq, WallMillis};

fn keeping(directory: &Path, change: impl FnOnce(&mut Bounds)) -> StoreOptions {
    let mut options = options(directory, Durability::Normal);
    change(&mut options.bounds);
    options
}

fn edge(bench: &mut Bench, room: &str) -> (Seq, Seq) {
    let page = bench.page(read(room, Span::Newest, 0, 0));
    (page.oldest, page.head)
}

fn say(bench: &mut Bench, room: &str, count: u64, bytes: usize, at: u64) {
    for outcome in bench.append_all((0..count).map(|_| append(room, &body_of(bytes), at)).collect()) {
        stored(&outcome.outcome);
    }
}

#[test]
fn each_room_keeps_its_newest_messages_and_space_comes_back() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_messages = 0);
    let mut bench = open_quick(&options);
    for _ in 0..10 {
        say(&mut bench, "a", 1000, 1000, 5);
        say(&mut bench, "b", 7, 1000, 5);
    }
    bench.store.finish().unwrap();
    let large = fs::metadata(&options.path).unwrap().len();
    assert!(large > 10 << 20);

    let mut bench = open_quick(&keeping(directory.path(), |bounds| bounds.keep_messages = 100));
    wait_until("room a has its newest", || edge(&mut bench, "a") == (Seq(9901), Seq(10_000)));
    assert_eq!(edge(&mut bench, "b"), (Seq(1), Seq(70)));
    wait_until("the file is small", || fs::metadata(&options.path).unwrap().len() < large / 5);
    // Across the edge: a page requested from before the oldest message begins at that message.
    let page = bench.page(read("a", Span::After(Seq(50)), 3, 10_000));
    assert_eq!((page.messages[0].seq, page.oldest), (Seq(9901), Seq(9901)));
    let page = bench.page(read("a", Span::Before(Seq(9000)), 3, 10_000));
    assert_eq!((page.messages.len(), page.oldest, page.more), (0, Seq(9901), false));
    say(&mut bench, "a", 1, 10, 6);
    wait_until("the oldest goes", || edge(&mut bench, "a") == (Seq(9902), Seq(10_001)));
    assert_eq!(bench.available, []);
    bench.store.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

#[test]
fn old_messages_go_and_their_room_keeps_its_head_and_keys() {
    let directory = TempDir::new();
    let hour = 3_600_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut bench = open_quick(&keeping(directory.path(), |bounds| bounds.keep_for = hour));
    let scope = crate::store::samples::ALICE;
    let old = WallMillis(now - 2 * hour);
    let key = crate::store::Append { at: old, ..keyed("a", "1", scope, "k") };
    assert_eq!(stored(&bench.append(key.clone())).seq, Seq(1));
    say(&mut bench, "b", 1, 10, now);
    wait_until("it is gone", || edge(&mut bench, "a") == (Seq(2), Seq(1)));
    assert_eq!(bench.append(key), Outcome::Duplicate { seq: Seq(1), at: old }, "a key outlives its message");
    assert_eq!(stored(&bench.append(append("a", "2", now))).seq, Seq(2));
    assert_eq!(edge(&mut bench, "b"), (Seq(1), Seq(1)));
    bench.store.finish().unwrap();
}

/// A log that is stepped manually, with clocks that the test sets.
struct Stepped {
    log: SteppedLog,
    clock: SetClock,
    mono: u64,
    events: Vec<StoreEvent>,
}

impl Stepped {
    fn open(options: &StoreOptions, wall: u64) -> Stepped {
        let clock = SetClock::default();
        clock.set(Millis(0), WallMillis(wall));
        let log = SteppedLog::open(options, clock.clone()).unwrap();
        Stepped { log, clock, mono: 0, events: Vec::new() }
    }

    fn say(&mut self, room: &str, at: u64) {
        self.log.answer(&mut vec![crate::store::StoreRequest::Append(append(room, "1", at))], &mut self.events);
    }

    /// Lets `milliseconds` pass, after which the clock shows `wall`; the writer does all upkeep that is due.
    fn later(&mut self, milliseconds: u64, wall: u64) {
        self.mono += milliseconds;
        self.clock.set(Millis(self.mono), WallMillis(wall));
        for _ in 0..50 {
            self.mono += 200;
            self.clock.set(Millis(self.mono), WallMillis(wall + 200));
            self.log.use_the_pause(&mut self.events);
        }
    }

    fn edge(&mut self, room: &str) -> (Seq, Seq) {
        self.events.clear();
        self.log.read(read(room, Span::Newest, 0, 0), &mut self.events);
        match &self.events[..] {
            [StoreEvent::Page(page)] => (page.oldest, page.head),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the texts of the notes about the clock, an empty one for the end of a note, and the remarks.
    fn told(&self) -> Vec<&str> {
        let told = self.events.iter().filter_map(|event| match event {
            StoreEvent::Note { about: About::Clock, text } => Some(text.as_deref().unwrap_or_default()),
            StoreEvent::Remark(line) => Some(line.as_str()),
            _ => None,
        });
        told.collect()
    }
}

const TODAY: u64 = 1_790_000_000_000;
const DAY: u64 = 86_400_000;
const IN_2038: u64 = 2_150_000_000_000;

#[test]
fn a_clock_that_is_ahead_for_seconds_prunes_nothing_and_one_that_stays_ahead_is_believed() {
    let directory = TempDir::new();
    let keep = 8 * DAY;
    let options = keeping(directory.path(), |bounds| bounds.keep_for = keep);
    let mut log = Stepped::open(&options, TODAY);
    log.say("a", TODAY - keep - 1);
    log.say("a", TODAY);
    log.later(0, TODAY);
    assert_eq!(log.edge("a"), (Seq(2), Seq(2)));
    log.log.finish().unwrap();
    // A start while the clock shows 2038.
    let mut log = Stepped::open(&options, IN_2038);
    log.later(4_000, IN_2038 + 4_000);
    let told = log.told().join("|");
    assert!(told.contains("the clock is 11 years ahead") && told.contains("24 hours more"), "{told}");
    assert_eq!(log.edge("a"), (Seq(2), Seq(2)));
    log.log.finish().unwrap();
    // The clock is right again.
    let mut log = Stepped::open(&options, TODAY + 60_000);
    log.later(0, TODAY + 60_000);
    assert_eq!(log.told(), [] as [&str; 0]);
    log.later(0, IN_2038);
    assert_eq!(log.edge("a"), (Seq(2), Seq(2)), "nor does a step in the midst");
    for hour in 1..24 {
        log.later(3_600_000, IN_2038 + hour * 3_610_000);
    }
    assert_eq!(log.edge("a"), (Seq(2), Seq(2)));
    // The clock is read once an hour.
    for hour in 24..26 {
        log.later(3_600_000, IN_2038 + hour * 3_610_000);
    }
    assert_eq!(log.told(), [""]);
    assert_eq!(log.edge("a"), (Seq(3), Seq(2)), "what has held for a day is believed");
    log.log.finish().unwrap();
}

#[test]
fn one_message_of_a_clock_that_was_ahead_ends_no_pruning() {
    let directory = TempDir::new();
    let keep = 8 * DAY;
    let options = keeping(directory.path(), |bounds| bounds.keep_for = keep);
    let mut log = Stepped::open(&options, IN_2038);
    for room in ["ahead", "mixed"] {
        log.say(room, IN_2038);
    }
    log.later(0, IN_2038);
    log.log.finish().unwrap();
    let mut log = Stepped::open(&options, TODAY);
    log.say("other", TODAY);
    log.say("mixed", TODAY);
    log.later(0, TODAY);
    let told = log.told().join("|");
    assert!(told.contains("a clock was wrong when some messages were stored"), "{told}");
    assert_eq!((log.edge("other"), log.edge("mixed")), ((Seq(1), Seq(1)), (Seq(1), Seq(2))));
    log.later(keep, TODAY + keep + 10_000);
    assert_eq!((log.edge("other"), log.edge("mixed")), ((Seq(2), Seq(1)), (Seq(3), Seq(2))));
    assert_eq!(log.edge("ahead"), (Seq(1), Seq(1)), "nothing says how old this one is");
    log.log.finish().unwrap();
}

/// A room that lost all of its messages is found again once those that came later are too old, too.
#[test]
fn a_room_that_was_emptied_is_emptied_again() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_for = DAY);
    let mut log = Stepped::open(&options, TODAY);
    for day in 0..5 {
        let now = TODAY + day * 2 * DAY;
        log.later(DAY * 2, now);
        assert_eq!(log.edge("a"), (Seq(1 + day), Seq(day)));
        // In a room that the writer knows, and not for the first time after a restart.
        log.say("a", now);
        log.say("other", now);
        if day == 3 {
            log.log.finish().unwrap();
            log = Stepped::open(&options, now);
        }
    }
    log.log.finish().unwrap();
    assert_eq!(check(&options.path, None).unwrap().faults, [""; 0]);
}

#[test]
fn a_clock_that_was_never_set_drops_nothing() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_for = DAY);
    let mut log = Stepped::open(&options, 5_000);
    log.say("a", 5_000);
    log.later(0, 5_000);
    assert!(log.told().join("|").contains("never set"));
    log.later(2 * DAY, 2 * DAY);
    assert_eq!(log.edge("a"), (Seq(1), Seq(1)));
    // The clock is set right, and the conversation continues.
    log.say("a", TODAY);
    log.later(60_000, TODAY);
    log.later(DAY / 2, TODAY + DAY / 2);
    assert_eq!(log.edge("a"), (Seq(1), Seq(2)), "what has no date is as old as the next one that has");
    log.later(DAY, TODAY + 2 * DAY);
    assert_eq!(log.edge("a"), (Seq(3), Seq(2)));
    log.log.finish().unwrap();
}

#[test]
fn near_its_bound_a_database_gives_its_oldest_messages_if_it_may() {
    let directory = TempDir::new();
    let size = 2 << 20;
    let options =
        keeping(directory.path(), |bounds| (bounds.max_database_size, bounds.keep_messages) = (size, 1 << 30));
    let mut bench = open_quick(&options);
    say(&mut bench, "quiet", 16, 100, 5);
    for n in 0..40 {
        // Ten times the maximum size, in batches of a quarter of it.
        say(&mut bench, "loud", 50, 10_000, n);
        assert!(fs::metadata(&options.path).unwrap().len() <= size);
    }
    let (oldest, head) = edge(&mut bench, "loud");
    assert_eq!(head, Seq(2000));
    assert!(head.0 - oldest.0 > 50, "it kept a good part: {oldest:?}");
    let (_, head) = edge(&mut bench, "quiet");
    assert_eq!(head, Seq(16));
    assert_eq!(bench.available, [], "nobody was refused");
    bench.store.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

/// A message that cannot fit at all is refused; the log is not emptied for it.
#[test]
fn one_message_too_large_for_the_database_prunes_only_a_part_of_it() {
    let directory = TempDir::new();
    let size = 1 << 20;
    let options =
        keeping(directory.path(), |bounds| (bounds.max_database_size, bounds.keep_messages) = (size, 1 << 30));
    let mut bench = open_quick(&options);
    say(&mut bench, "a", 60, 10_000, 1);
    assert_eq!(bench.append(append("a", &body_of(3 << 20), 1)), Outcome::Full);
    assert!(bench.next_available().unwrap_err().contains("max_database_size"));
    let (oldest, head) = edge(&mut bench, "a");
    assert!(head == Seq(60) && oldest < Seq(40), "{oldest:?} {head:?}");
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(stored(&bench.append(append("a", "1", 1))).seq, Seq(61));
    bench.store.finish().unwrap();
}

/// A long read by another program keeps the WAL from being emptied; the writer retries until it can be.
#[test]
fn a_wal_that_cannot_be_emptied_now_is_emptied_later() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |_| ());
    let wal_bytes = || fs::metadata(directory.path().join("racerd.db-wal")).unwrap().len();
    let mut log = Stepped::open(&options, TODAY);
    log.say("a", TODAY);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN").unwrap();
    let _: i64 = conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    log.say("a", TODAY);
    // Longer than the idle time after which the WAL is emptied.
    log.later(60_000, TODAY + 60_000);
    assert!(wal_bytes() > 0, "somebody reads what is in it");
    assert!(log.log.patience().is_some(), "it is tried again, though nobody says anything");
    conn.execute_batch("COMMIT").unwrap();
    log.later(60_000, TODAY + 120_000);
    assert_eq!(wal_bytes(), 0);
    let patience = log.log.patience().unwrap();
    assert!(patience > Duration::from_secs(3_000), "nothing is left but a fold of two messages: {patience:?}");
    log.log.finish().unwrap();
}

#[test]
fn bounds_that_change_while_running_hold_at_once() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.max_database_size = 400 << 10);
    let mut bench = open_quick(&options);
    while let Outcome::Stored(_) = bench.append(append("a", &body_of(10_000), 1)) {}
    assert!(bench.next_available().unwrap_err().contains("max_database_size"));
    let (_, head) = edge(&mut bench, "a");
    bench.store.set_bounds(Bounds { max_database_size: 4 << 20, ..options.bounds });
    assert_eq!(bench.next_available(), Ok(()));
    say(&mut bench, "a", 10, 10_000, 1);
    bench.store.set_bounds(Bounds { max_database_size: 4 << 20, keep_messages: 3, ..options.bounds });
    wait_until("three are left", || edge(&mut bench, "a") == (Seq(head.0 + 8), Seq(head.0 + 10)));
    bench.store.finish().unwrap();
}

#[test]
fn a_database_that_cannot_shrink_says_so() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_messages = 5);
    open_quick(&options).store.finish().unwrap();
    outside(&options.path).execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
    let bench = open_quick(&options);
    assert!(bench.store.remarks()[0].contains("never shrinks"), "{:?}", bench.store.remarks());
    bench.store.finish().unwrap();
    let copy = directory.path().join("copy.db");
    backup(&options.path, &copy, false, Box::new(|_, _| ())).unwrap();
    restore(&copy, &options.path, Box::new(|_, _| ())).unwrap();
    let bench = open_quick(&options);
    assert_eq!(bench.store.remarks(), [] as [String; 0], "a restored backup can");
    bench.store.finish().unwrap();
}
