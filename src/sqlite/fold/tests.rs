//! Folds at any moment, against a model that knows of none: what a sender's last keys are, and where each room ends.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::batch::{Batches, Decision, Write};
use super::super::check;
use super::super::parked::Parking;
use super::super::schema::{migrate, number};
use super::super::sealing::Sealing;
use super::{Position, Which};
use crate::crypto::at_rest::{DataKey, LogSalt};
use crate::sqlite::schema::Sealed;
use crate::store::idempotency::{WINDOW, Window};
use crate::store::samples::{ALICE, BOB, append};
use crate::store::{Append, Scope, ScopedKey};
use crate::types::{IdempotencyKey, Seq, SessionId};

const ROOMS: [&str; 3] = ["a", "b", "c"];
const SCOPES: [Scope; 4] = [ALICE, BOB, Scope::Session(SessionId([3; 16])), Scope::Common];

/// Room, scope, key, and which of two bodies.
type Saying = (usize, Option<(usize, u8)>, bool);

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Saying>),
    /// A batch that fails at its last message.
    Fail(Vec<Saying>),
    /// The next piece of a fold.
    Fold,
    /// A piece of a fold of this room alone.
    FoldRoom(i64),
    /// The same, but its commit comes to nothing.
    FoldFails,
    /// The same, and the process ends right behind its commit.
    FoldAndKill,
    Kill,
    /// So many rooms are used that the cache is cleared.
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let saying = (0..3usize, proptest::option::weighted(0.9, (0..4usize, 0..90u8)), any::<bool>());
    let batch = || proptest::collection::vec(saying.clone(), 1..60);
    let step = prop_oneof![
        6 => batch().prop_map(Step::Commit),
        2 => batch().prop_map(Step::Fail),
        6 => Just(Step::Fold),
        2 => (1..4i64).prop_map(Step::FoldRoom),
        1 => Just(Step::FoldFails),
        1 => Just(Step::FoldAndKill),
        1 => Just(Step::Kill),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A key that was used, with its body and the seq of its message.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    key: u8,
    body: bool,
    seq: u64,
}

#[derive(Clone, Default)]
struct Model {
    heads: [u64; 3],
    keys: BTreeMap<(usize, usize), Vec<Known>>,
}

impl Model {
    fn say(&mut self, (room, key, body): Saying) -> Expected {
        let known = key.map(|(scope, key)| (key, self.keys.entry((room, scope)).or_default(), scope));
        if let Some((key, list, _)) = &known
            && let Some(found) = list.iter().rev().find(|known| known.key == *key)
        {
            return if found.body == body { Expected::Duplicate(found.seq) } else { Expected::KeyReused };
        }
        self.heads[room] += 1;
        let seq = self.heads[room];
        if let Some((key, list, scope)) = known {
            list.push(Known { key, body, seq });
            if SCOPES[scope] != Scope::Common && list.len() > WINDOW {
                list.remove(0);
            }
        }
        Expected::Stored(seq)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Stored(u64),
    Duplicate(u64),
    KeyReused,
}

fn got(decision: &Decision) -> Expected {
    match decision {
        Decision::Stored { seq, .. } => Expected::Stored(seq.0),
        Decision::Duplicate { seq, .. } => Expected::Duplicate(seq.0),
        Decision::KeyReused(_) => Expected::KeyReused,
        other => panic!("{other:?}"),
    }
}

fn write_of((room, key, body): Saying) -> Write {
    let key = key.map(|(scope, key)| ScopedKey { scope: SCOPES[scope], key: IdempotencyKey::of(&[key]) });
    Write::Append(Append { key, ..append(ROOMS[room], if body { "1" } else { "2" }, 1) })
}

struct Log {
    conn: Connection,
    batches: Batches,
    data_key: Option<DataKey>,
    position: Option<Position>,
}

impl Log {
    fn new(data_key: Option<DataKey>) -> Log {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let sealed = Sealed { with: data_key.as_ref().map(DataKey::id), rekey: None };
        crate::sqlite::schema::put_sealed(&conn, sealed).unwrap();
        crate::sqlite::log_salt::put(&conn, LogSalt([2; 16])).unwrap();
        // Makes one body fail.
        conn.execute_batch(
            "CREATE TEMP TRIGGER fails BEFORE INSERT ON messages WHEN NEW.at = 666
             BEGIN SELECT RAISE(ABORT, 'failed as it should'); END",
        )
        .unwrap();
        let mut log = Log { conn, batches: batches(None), data_key, position: None };
        log.kill();
        log
    }

    fn kill(&mut self) {
        (self.batches, self.position) = (batches(self.data_key.as_ref()), None);
    }

    fn commit(&mut self, batch: &[Write]) -> rusqlite::Result<Vec<Decision>> {
        self.batches.commit(&self.conn, batch, 0, |_| false)
    }

    fn fold(&mut self) -> rusqlite::Result<()> {
        self.position = self.batches.fold(&self.conn, self.position.unwrap_or_default())?;
        Ok(())
    }

    fn fold_all(&mut self) {
        self.position = None;
        // Rooms that nobody has used since the last kill.
        for room in 1..=3 {
            self.batches.take_in(&self.conn, room, 0).unwrap();
        }
        loop {
            self.fold().unwrap();
            if self.position.is_none() {
                break;
            }
        }
        assert!(self.batches.unfolded.is_empty());
    }

    fn check(&self) {
        let checked = check::look(&self.conn, self.data_key.as_ref()).unwrap();
        assert!(checked.is_well(), "{checked:?}");
    }

    /// Returns the stored seqs of each window, and of the common keys, by room and scope.
    fn stored(&self) -> BTreeMap<(String, Option<Vec<u8>>), Vec<u64>> {
        let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        let name = "(SELECT name FROM rooms WHERE id = room)";
        let mut statement =
            self.conn.prepare(&format!("SELECT {name}, session, entries FROM keys WHERE session <> x''")).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let window = Window::from_bytes(row.get_ref(2).unwrap().as_blob().unwrap());
            let seqs = window.entries().map(|entry| entry.seq.0).collect();
            found.insert((row.get(0).unwrap(), Some(row.get(1).unwrap())), seqs);
        }
        let mut statement = self.conn.prepare(&format!("SELECT {name}, seq FROM common_keys ORDER BY seq")).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let seq = number(row.get(1).unwrap());
            found.entry((row.get(0).unwrap(), None)).or_default().push(seq);
        }
        found
    }
}

fn batches(key: Option<&DataKey>) -> Batches {
    Batches::new(Parking::new(10, 1_000), key.map(|key| Sealing::new(key, &LogSalt([2; 16]))))
}

fn run(steps: Vec<Step>, data_key: Option<DataKey>) {
    let (mut log, mut model) = (Log::new(data_key), Model::default());
    for step in steps {
        match step {
            Step::Commit(list) => {
                let expected: Vec<Expected> = list.iter().map(|saying| model.say(*saying)).collect();
                let batch: Vec<Write> = list.into_iter().map(write_of).collect();
                let decisions = log.commit(&batch).unwrap();
                assert_eq!(decisions.iter().map(got).collect::<Vec<_>>(), expected);
            }
            Step::Fail(list) => {
                let mut batch: Vec<Write> = list.into_iter().map(write_of).collect();
                batch.push(Write::Append(append("a", "3", 666)));
                log.commit(&batch).unwrap_err();
            }
            Step::Fold => log.fold().unwrap(),
            Step::FoldRoom(room) => {
                log.batches.fold_rooms(&log.conn, &[room]).unwrap();
            }
            Step::FoldFails => {
                log.conn.execute_batch("BEGIN").unwrap();
                let from = log.position.unwrap_or_default();
                super::piece(&log.conn, &log.batches.unfolded, Which::All, from).unwrap();
                log.conn.execute_batch("ROLLBACK").unwrap();
            }
            Step::FoldAndKill => {
                log.fold().unwrap();
                log.kill();
            }
            Step::Kill => log.kill(),
            Step::Forget => {
                // More rooms than the cache holds, none of which gets a message.
                log.batches.clear_cache();
            }
        }
        log.check();
    }
    for (room, head) in ROOMS.iter().zip(model.heads) {
        let end = super::super::piecemeal::ends(&log.conn, &crate::store::samples::room(room)).unwrap();
        assert_eq!(end.map_or(0, |end| end.head.0), head, "what a reader is told");
    }
    log.fold_all();
    log.check();
    let heads = |log: &Log| -> Vec<u64> {
        let head = |room: &&str| {
            let sql = "SELECT ifnull((SELECT head FROM rooms WHERE name = ?1), 0)";
            log.conn.query_row(sql, [room], |row| Ok(number(row.get(0)?))).unwrap()
        };
        ROOMS.iter().map(head).collect()
    };
    assert_eq!(heads(&log), model.heads);
    let expected: BTreeMap<_, Vec<u64>> = model
        .keys
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|((room, scope), list)| {
            let session = if let Scope::Session(session) = SCOPES[*scope] { Some(session.0.to_vec()) } else { None };
            ((ROOMS[*room].to_owned(), session), list.iter().map(|known| known.seq).collect())
        })
        .collect();
    assert_eq!(log.stored(), expected);
    // Again from the beginning, as after a kill that has lost all memory but not the rows.
    log.conn.execute_batch("UPDATE rooms SET head = 0").unwrap();
    log.kill();
    log.fold_all();
    assert_eq!((heads(&log), log.stored()), (model.heads.to_vec(), expected));
    log.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn folds_at_any_moment_change_nothing_that_is_told(steps in steps()) {
        run(steps, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn nor_in_a_sealed_log(steps in steps()) {
        run(steps, Some(DataKey::new([1; 32])));
    }
}

/// A room with so many senders that its fold takes several pieces goes on taking messages in between, and its head is
/// not written before the keys of its last message.
#[test]
fn a_fold_of_a_busy_room_ends() {
    let mut log = Log::new(None);
    let say = |log: &mut Log, sender: u8, n: u32| {
        let scope = Scope::Session(SessionId([sender; 16]));
        let key = Some(ScopedKey { scope, key: IdempotencyKey::of(&n.to_be_bytes()) });
        log.commit(&[Write::Append(Append { key, ..append("a", "1", 1) })]).unwrap();
    };
    for sender in 0..100 {
        say(&mut log, sender, 0);
    }
    let head =
        |log: &Log| -> u64 { log.conn.query_row("SELECT head FROM rooms", [], |row| Ok(number(row.get(0)?))).unwrap() };
    let mut pieces = 0;
    loop {
        log.fold().unwrap();
        pieces += 1;
        log.check();
        if log.position.is_none() {
            break;
        }
        assert_eq!(head(&log), 0, "not all of its keys are written");
        assert!(pieces < 10, "it comes to an end");
        for sender in 0..100 {
            say(&mut log, sender, pieces);
        }
    }
    assert_eq!((pieces, head(&log)), (4, 100));
    let tail = log.batches.unfolded.tail(1).unwrap();
    assert_eq!((tail.head, tail.rows), (Seq(400), 300), "what came meanwhile waits for the next");
    log.fold_all();
    assert_eq!(head(&log), 400);
    let stored = log.stored();
    assert_eq!(stored.len(), 100);
    assert!(stored.values().all(|seqs| seqs.len() == 4), "each sender has each of its keys: {stored:?}");
}

/// The prints in memory recognize each key of a stored window that is among the last 64.
#[test]
fn stored_keys_are_known_beside_those_that_wait() {
    let mut log = Log::new(None);
    let say = |log: &mut Log, keys: std::ops::Range<u8>| -> Vec<Expected> {
        let batch: Vec<Write> = keys.map(|key| write_of((0, Some((0, key)), true))).collect();
        log.commit(&batch).unwrap().iter().map(got).collect()
    };
    say(&mut log, 0..64);
    log.fold_all();
    assert_eq!(say(&mut log, 64..65), [Expected::Stored(65)]);
    for _ in 0..2 {
        let again = say(&mut log, 1..65);
        assert_eq!(again, (2..66).map(Expected::Duplicate).collect::<Vec<_>>());
    }
    assert_eq!(say(&mut log, 0..1), [Expected::Stored(66)], "it is the 65th from the end");
    assert_eq!(say(&mut log, 1..2), [Expected::Stored(67)], "now this one is");
}

/// A room of which only a part could be read ends where it ended before.
#[test]
fn a_read_that_fails_halfway_leaves_nothing_in_memory() {
    let mut log = Log::new(None);
    let say = |log: &mut Log, key: u8| {
        let decisions = log.commit(&[write_of((0, Some((0, key)), true)), write_of((0, Some((3, key)), true))])?;
        Ok::<_, rusqlite::Error>(decisions.iter().map(got).collect::<Vec<_>>())
    };
    for key in 0..5 {
        say(&mut log, key).unwrap();
    }
    log.kill();
    // Takes the place of the table of messages, and has a row that cannot be read.
    log.conn
        .execute_batch(
            "CREATE TEMP TABLE messages AS SELECT * FROM main.messages;
             UPDATE temp.messages SET at = 'damaged' WHERE id = (SELECT max(id) FROM temp.messages)",
        )
        .unwrap();
    say(&mut log, 5).unwrap_err();
    assert!(log.batches.take_in(&log.conn, 1, 0).is_err());
    assert!(log.batches.unfolded.is_empty());
    log.conn.execute_batch("DROP TABLE temp.messages").unwrap();
    assert_eq!(say(&mut log, 5).unwrap(), [Expected::Stored(11), Expected::Stored(12)]);
    assert_eq!(say(&mut log, 0).unwrap(), [Expected::Duplicate(1), Expected::Duplicate(2)]);
    log.fold_all();
    assert_eq!(log.stored().values().map(Vec::len).collect::<Vec<_>>(), [6, 6]);
    log.check();
}

/// Once what was taken in is enough, a batch ends before the next room that might bring more, and not before a known
/// one.
#[test]
fn a_batch_ends_where_it_has_taken_in_enough() {
    let mut log = Log::new(None);
    let batch = |rooms: &[u32]| -> Vec<Write> {
        let write = |n: &u32| Write::Append(append(&format!("room{n}"), "1", 1));
        rooms.iter().map(write).collect()
    };
    let rooms: Vec<u32> = (0..10).collect();
    for _ in 0..5 {
        log.commit(&batch(&rooms)).unwrap();
    }
    log.kill();
    let is_enough = |unfolded: &crate::sqlite::unfolded::Unfolded| unfolded.rows() >= 12;
    let commit =
        |log: &mut Log, rooms: &[u32]| log.batches.commit(&log.conn, &batch(rooms), 0, is_enough).unwrap().len();
    assert_eq!(commit(&mut log, &[0, 0, 1, 2, 2, 1, 0, 3, 4]), 7);
    assert_eq!(log.batches.unfolded.rows(), 22, "three rooms, and seven messages");
    assert_eq!(commit(&mut log, &[3, 4]), 1, "one at least");
    assert_eq!(commit(&mut log, &[0, 11, 12]), 3, "nothing was taken in");
    log.fold_all();
    assert_eq!(commit(&mut log, &[5, 6, 7, 8]), 3);
    assert_eq!(log.batches.unfolded.rows(), 18);
    log.check();
}
