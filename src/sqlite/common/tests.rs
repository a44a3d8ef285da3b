//! What a room keeps of its common keys, against a model; what eviction costs, counted in SQLite's own steps; and the
//! age at which all go.

use proptest::prelude::*;
use rusqlite::{Connection, StatementStatus};

use super::super::schema::migrate;
use super::*;
use crate::types::{Digest, IdempotencyKey, WallMillis};

const KEEP: u64 = COMMON as u64;

fn log() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    migrate(&conn).unwrap();
    conn.execute_batch("INSERT INTO rooms (id, name, head, at, common) VALUES (1, 'a', 0, 0, 0), (2, 'b', 0, 0, 0)")
        .unwrap();
    conn
}

/// Gives a room the keys of the messages 1 to `count`, which were used at the running second 0.
fn fill(conn: &Connection, room: i64, count: u64) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
               INSERT INTO common_keys SELECT ?1, randomblob(16), randomblob(16), i, 1 FROM n";
    conn.execute(sql, [room, count as i64]).unwrap();
    conn.execute("UPDATE rooms SET head = ?2, common = ?2 WHERE id = ?1", [room, count as i64]).unwrap();
}

fn entry(seq: u64) -> Entry {
    let key = IdempotencyKey::of(&seq.to_be_bytes());
    Entry { key, body: Digest::of(b"x"), seq: Seq(seq), at: WallMillis(1) }
}

fn put(conn: &Connection, room: i64, seqs: std::ops::Range<u64>, used: u64) {
    // In the order of their keys, as folds have them.
    let mut entries: Vec<Entry> = seqs.map(entry).collect();
    entries.sort_by_key(|entry| entry.key.0.0);
    write(conn, room, &entries.iter().collect::<Vec<_>>(), used).unwrap();
}

/// Returns the count in the room's row, the number of its keys, and the oldest seq of them.
fn kept(conn: &Connection, room: i64) -> (u64, u64, u64) {
    let sql = "SELECT (SELECT common FROM rooms WHERE id = ?1), count(*), ifnull(min(seq), 0) FROM common_keys WHERE room = ?1";
    conn.query_row(sql, [room], |row| Ok((number(row.get(0)?), number(row.get(1)?), number(row.get(2)?)))).unwrap()
}

fn marks(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM keys WHERE session = x''", [], |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Pieces of any size, some of them written twice as after a kill: the newest stay, at least 100,000 of them and at
    /// most 101,280.
    #[test]
    fn a_room_keeps_its_newest_keys(pieces in proptest::collection::vec((1..=256u64, any::<bool>()), 1..20)) {
        let conn = log();
        fill(&conn, 1, KEEP + SPARE - 500);
        fill(&conn, 2, 3);
        let mut head = KEEP + SPARE - 500;
        for (size, again) in pieces {
            for _ in 0..=u32::from(again) {
                put(&conn, 1, head + 1..head + 1 + size, 7);
            }
            head += size;
            let (told, count, oldest) = kept(&conn, 1);
            prop_assert_eq!((told, oldest), (count, head + 1 - count), "a count that is true, and the newest without a hole");
            prop_assert!((KEEP..=KEEP + SPARE + SPARE / 4).contains(&count), "{} keys", count);
        }
        prop_assert_eq!(kept(&conn, 2), (3, 3, 1), "nothing of another room went");
    }
}

/// A key costs its eviction a fixed number of SQLite's steps, however many keys there are beside it.
#[test]
fn eviction_costs_nothing_for_keys_that_stay() {
    let steps = |beside: u64| {
        let conn = log();
        fill(&conn, 1, SPARE + beside);
        fill(&conn, 2, beside);
        let mut statement = conn.prepare(EVICT).unwrap();
        assert_eq!(statement.execute([1, SPARE as i64]), Ok(SPARE as usize));
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0);
        assert_eq!(statement.get_status(StatementStatus::Sort), 0);
        u64::try_from(statement.get_status(StatementStatus::VmStep)).unwrap()
    };
    let (few, many) = (steps(100), steps(KEEP));
    assert_eq!(few, many);
    assert!(many <= 40 * SPARE, "{many} steps for {SPARE} keys");
}

/// Keys are evicted when there are enough of them, not one with each that comes.
#[test]
fn keys_are_evicted_together() {
    assert_eq!([KEEP - 1, KEEP, KEEP + 1, KEEP + SPARE - 1].map(due), [0; 4]);
    assert_eq!((due(KEEP + SPARE), due(KEEP + SPARE + 255)), (SPARE, SPARE + 255));
}

#[test]
fn the_keys_of_a_room_go_once_none_was_used_for_long() {
    let conn = log();
    put(&conn, 1, 1..2_501, 100);
    put(&conn, 2, 1..11, 200);
    let mut walk = Walk::default();
    assert_eq!(walk.step(&conn, 300, 100).unwrap(), Step::default(), "young enough");
    let steps: Vec<usize> = (0..5).map(|_| walk.step(&conn, 300, 150).unwrap().dropped).collect();
    assert_eq!(steps, [1024, 1024, 452, 0, 0]);
    assert_eq!((kept(&conn, 1), kept(&conn, 2), marks(&conn)), ((0, 0, 0), (10, 10, 1), 1));
}

#[test]
fn a_repeat_renews_them_but_not_each_time() {
    let conn = log();
    put(&conn, 1, 1..11, 100);
    let used = || conn.query_row("SELECT used FROM keys", [], |row| row.get::<_, i64>(0)).unwrap();
    renew(&conn, 1, 100 + TOUCH - 1).unwrap();
    assert_eq!(used(), 100);
    renew(&conn, 1, 100 + TOUCH).unwrap();
    assert_eq!(used(), 100 + TOUCH as i64);
    put(&conn, 1, 11..12, 50);
    assert_eq!(used(), 100 + TOUCH as i64, "a fold of what was used before does not make them older");
}

/// Keys that an older racerd wrote, without a mark, begin to age; what waits for a fold may have been used since.
#[test]
fn keys_without_a_mark_get_one_and_what_waits_is_folded_first() {
    let conn = log();
    fill(&conn, 1, 10);
    let mut walk = Walk::default();
    assert_eq!((walk.step(&conn, 300, 250).unwrap(), marks(&conn)), (Step::default(), 1));
    let sql = "INSERT INTO messages (id, at, name, body) VALUES (?1, 1, 'x', 'x')";
    let id = super::super::schema::message_id(1, Seq(11));
    conn.execute(sql, [id]).unwrap();
    assert_eq!(walk.step(&conn, 999, 500).unwrap(), Step { dropped: 0, waiting: vec![1] });
    conn.execute("UPDATE rooms SET head = 11 WHERE id = 1", []).unwrap();
    assert_eq!(Walk::default().step(&conn, 999, 500).unwrap(), Step { dropped: 10, waiting: vec![] });
    assert_eq!((kept(&conn, 1), marks(&conn)), ((0, 0, 0), 0));
}
