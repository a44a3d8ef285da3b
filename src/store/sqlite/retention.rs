//! Which messages go, the oldest of a room first, in steps that are bounded in rows and bytes; and giving free pages back
//! to the file system. A room's row stays, so no seq is given twice. Knows no thread, file or clock.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::schema::{last_id, number, seq_of};
use super::sealed_bodies;
use crate::types::{Seq, WallMillis};

/// Rooms that one step looks at.
const ROOMS: usize = 64;

/// Messages that one step drops ...
const ROWS: usize = 1_000;

/// ... and, but for the last of them, so many bytes of bodies.
const BYTES: u64 = 1 << 20;

/// Where too much is kept in all, a step takes one of so many of a room's messages, so that all rooms give alike.
const SHARE: u64 = 16;

/// Free pages that the file keeps for what comes next; more than these and one eighth of the file go back.
const SLACK: i64 = 256;

/// Pages that go back in one step.
const VACUUMED: u32 = 128;

/// What may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Messages that each room keeps; 0: all.
    pub keep_messages: u64,
    /// Milliseconds for which a message is kept; 0: for ever.
    pub keep_for: u64,
    /// There is too much in all: every room gives some.
    pub squeeze: bool,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub dropped: usize,
    /// The walk has come round, and has found nothing to drop since it began.
    pub done: bool,
}

/// The walk through the rooms, by their ids; it starts over at the end.
#[derive(Debug, Default)]
pub(super) struct Retention {
    after: i64,
    dropped_in_round: usize,
    /// The newest message's time, over all rooms; `None` until it is needed.
    newest: Option<WallMillis>,
}

impl Retention {
    /// A message was stored at this time.
    pub fn saw(&mut self, at: WallMillis) {
        self.newest = self.newest.map(|newest| newest.max(at));
    }

    /// Begins the walk anew: more may have to go now.
    pub fn restart(&mut self) {
        *self = Retention { newest: self.newest, ..Retention::default() };
    }

    /// Looks at the next rooms and drops what may go of them, in one transaction; `now` by the wall clock. By age nothing
    /// goes while the clock is behind the newest message: it is wrong then.
    pub fn step(&mut self, conn: &Connection, policy: &Policy, now: WallMillis) -> rusqlite::Result<Step> {
        let too_old = match policy.keep_for {
            0 => WallMillis(0),
            keep_for if self.newest(conn)? <= now => WallMillis(now.0.saturating_sub(keep_for)),
            _ => WallMillis(0),
        };
        let transaction = rusqlite::Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        let mut budget = Budget { rows: ROWS, bytes: BYTES };
        let mut step = Step::default();
        for _ in 0..ROOMS {
            let next: Option<(i64, i64)> = transaction
                .prepare_cached("SELECT id, head FROM rooms WHERE id > ?1 ORDER BY id LIMIT 1")?
                .query_row([self.after], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((room, head)) = next else {
                step.done = self.dropped_in_round + step.dropped == 0;
                (self.after, self.dropped_in_round) = (0, 0);
                break;
            };
            let whole = drop_oldest(&transaction, room, Seq(number(head)), policy, too_old, &mut budget, &mut step)?;
            // What was cut short goes on with the next step, unless every room is to give its share.
            self.after = if whole || policy.squeeze { room } else { room - 1 };
            if budget.is_spent() {
                break;
            }
        }
        transaction.commit()?;
        // The round may have ended within this step.
        if self.after != 0 {
            self.dropped_in_round += step.dropped;
        }
        Ok(step)
    }

    fn newest(&mut self, conn: &Connection) -> rusqlite::Result<WallMillis> {
        if let Some(newest) = self.newest {
            return Ok(newest);
        }
        let newest: Option<i64> = conn.query_row("SELECT max(at) FROM rooms", [], |row| row.get(0))?;
        Ok(*self.newest.insert(WallMillis(number(newest.unwrap_or(0)))))
    }
}

struct Budget {
    rows: usize,
    bytes: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}

/// Drops the oldest messages of one room as far as the policy and the budget go. Whether the policy was the end of it.
fn drop_oldest(
    conn: &Connection,
    room: i64,
    head: Seq,
    policy: &Policy,
    too_old: WallMillis,
    budget: &mut Budget,
    step: &mut Step,
) -> rusqlite::Result<bool> {
    let (none, all) = (last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX)));
    let too_many = if policy.keep_messages == 0 { Seq::ZERO } else { Seq(head.0.saturating_sub(policy.keep_messages)) };
    let mut share = Seq::ZERO;
    let (mut last, mut count, mut whole) = (None, 0, true);
    {
        // A blob's length stands in its row; its pages are not read for it.
        let mut statement = conn.prepare_cached(
            "SELECT id, at, length(body) FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut rows = statement.query([none, all, budget.rows as i64])?;
        while let Some(row) = rows.next()? {
            let (id, at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let seq = seq_of(id);
            if policy.squeeze && last.is_none() {
                let kept = head.0.saturating_sub(seq.0).saturating_add(1);
                share = Seq((seq.0 - 1).saturating_add((kept / SHARE).max(1)).min(head.0.saturating_sub(1)));
            }
            if seq > too_many && seq > share && WallMillis(number(at)) >= too_old {
                break;
            }
            (last, count) = (Some(id), count + 1);
            budget.rows -= 1;
            budget.bytes = budget.bytes.saturating_sub(number(bytes));
            if budget.is_spent() {
                whole = false;
                break;
            }
        }
    }
    if let Some(last) = last {
        conn.prepare_cached("DELETE FROM messages WHERE id > ?1 AND id <= ?2")?.execute([none, last])?;
        sealed_bodies::forget(conn, none, last)?;
    }
    step.dropped += count;
    Ok(whole)
}

/// Pages of the database, and those of them that are free.
pub(super) fn pages(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok((read("PRAGMA page_count")?, read("PRAGMA freelist_count")?))
}

/// Gives some of the free pages at the end of the file back, where there are more than the file needs; whether there are
/// more. A database without `auto_vacuum` has none to give.
pub(super) fn give_back(conn: &Connection) -> rusqlite::Result<bool> {
    let (all, free) = pages(conn)?;
    let slack = SLACK.max(all / 8);
    if free <= slack || !can_shrink(conn)? {
        return Ok(false);
    }
    // One page for each row that it gives.
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({VACUUMED})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - i64::from(VACUUMED) > slack)
}

/// Whether pages can be given back at all, which is decided when a database is made.
pub(super) fn can_shrink(conn: &Connection) -> rusqlite::Result<bool> {
    const INCREMENTAL: i64 = 2;
    Ok(conn.prepare_cached("PRAGMA auto_vacuum")?.query_row([], |row| row.get::<_, i64>(0))? == INCREMENTAL)
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::super::schema::{message_id, migrate};
    use super::*;

    /// Rooms 1, 2, ... with so many messages each, of this many bytes, at the times 1, 2, ...
    fn log(rooms: &[u64], bytes: usize) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        for (room, count) in (1..).zip(rooms) {
            for seq in 1..=*count {
                let sql = "INSERT INTO messages (id, at, name, body) VALUES (?1, ?2, 'x', zeroblob(?3))";
                conn.execute(sql, params![message_id(room, Seq(seq)), seq as i64, bytes as i64]).unwrap();
            }
            let sql = "INSERT INTO rooms (id, name, head, at, common) VALUES (?1, ?2, ?3, ?3, 0)";
            conn.execute(sql, params![room, format!("r{room}"), *count as i64]).unwrap();
        }
        conn
    }

    /// Oldest seq and count of each room.
    fn kept(conn: &Connection, rooms: i64) -> Vec<(u64, u64)> {
        let of = |room: i64| {
            let sql = "SELECT ifnull(min(id), 0), count(*) FROM messages WHERE id > ?1 AND id <= ?2";
            conn.query_row(sql, [last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))], |row| {
                Ok((seq_of(row.get(0)?).0, number(row.get(1)?)))
            })
            .unwrap()
        };
        (1..=rooms).map(of).collect()
    }

    fn run(conn: &Connection, policy: Policy, now: u64) -> Vec<usize> {
        let mut retention = Retention::default();
        let mut steps = Vec::new();
        loop {
            let step = retention.step(conn, &policy, WallMillis(now)).unwrap();
            steps.push(step.dropped);
            if step.done {
                return steps;
            }
            assert!(steps.len() < 1000, "it comes to an end");
        }
    }

    #[test]
    fn each_room_keeps_its_newest() {
        let conn = log(&[3, 2500, 0, 10], 10);
        let steps = run(&conn, Policy { keep_messages: 5, ..Policy::default() }, 0);
        assert_eq!(kept(&conn, 4), [(1, 3), (2496, 5), (0, 0), (6, 5)]);
        assert_eq!(steps, [1000, 1000, 500, 0], "1000 rows a step, and a last round that finds nothing");
    }

    #[test]
    fn a_step_is_bounded_in_bytes() {
        let conn = log(&[100], 300_000);
        let steps = run(&conn, Policy { keep_messages: 90, ..Policy::default() }, 0);
        assert_eq!((steps, kept(&conn, 1)), (vec![4, 4, 2, 0], vec![(11, 90)]));
    }

    #[test]
    fn age_counts_by_the_wall_clock_and_rests_while_that_is_behind() {
        let conn = log(&[100, 50], 10);
        let policy = Policy { keep_for: 60, ..Policy::default() };
        run(&conn, policy, 99);
        assert_eq!(kept(&conn, 2), [(1, 100), (1, 50)], "behind the newest message, if by a millisecond");
        run(&conn, policy, 100);
        assert_eq!(kept(&conn, 2), [(40, 61), (40, 11)]);
        run(&conn, policy, 111);
        assert_eq!(kept(&conn, 2), [(51, 50), (0, 0)], "a room may lose all that it has");
        let heads: i64 = conn.query_row("SELECT sum(head) FROM rooms", [], |row| row.get(0)).unwrap();
        assert_eq!(heads, 150, "and keeps its head");
        run(&conn, Policy { keep_messages: 10, keep_for: 60, squeeze: false }, 0);
        assert_eq!(kept(&conn, 2), [(91, 10), (0, 0)], "by count it never rests");
    }

    #[test]
    fn where_there_is_too_much_every_room_gives_its_share() {
        let conn = log(&[160, 16, 2, 1], 10);
        let mut retention = Retention::default();
        let policy = Policy { squeeze: true, ..Policy::default() };
        let step = retention.step(&conn, &policy, WallMillis(0)).unwrap();
        assert_eq!(
            (step, kept(&conn, 4)),
            (Step { dropped: 12, done: false }, vec![(11, 150), (2, 15), (2, 1), (1, 1)])
        );
        for _ in 0..1000 {
            retention.step(&conn, &policy, WallMillis(0)).unwrap();
        }
        assert_eq!(kept(&conn, 4), [(160, 1), (16, 1), (2, 1), (1, 1)], "never the last one");
        assert!(retention.step(&conn, &policy, WallMillis(0)).unwrap().done);
    }
}
