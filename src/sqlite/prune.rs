//! Deletes key windows and common keys that have not been used for long, a bounded number of rows at a time, so
//! that the writer is never held up. Ages count running seconds: no key is lost because a machine was off or its
//! clock jumped. A window stays while something waits for a fold in its room: its sender may have used it since.

use rusqlite::{Connection, OptionalExtension as _};

use super::common::{self, Step};
use super::schema::integer;

/// Maximum number of rows examined in one step.
const ROWS: i64 = 2_000;

/// The condition under which something waits for a fold in the room of a window: a message behind the head in the
/// room's row. See [`super::schema::message_id`].
const WAITS: &str = "EXISTS (SELECT 1 FROM rooms JOIN messages ON messages.id > (rooms.id << 39) + rooms.head
                             AND messages.id < (rooms.id + 1) << 39 WHERE rooms.id = keys.room)";

/// Walks through the windows by id, and starts over at the end.
#[derive(Default)]
pub(super) struct Prune {
    after: i64,
    has_ended: bool,
    common: common::Walk,
}

impl Prune {
    /// Returns a walk that writes nothing new: common keys without a mark, of an older racerd, stay.
    pub fn only_deleting() -> Prune {
        let mut prune = Prune::default();
        prune.common.only_deletes = true;
        prune
    }

    /// Sets whether rooms that are in use give their oldest common keys, too.
    pub fn thins(&mut self, thins: bool) {
        self.common.thins = thins;
    }

    /// Returns whether it has come through all windows and all common keys, at least once.
    pub fn has_ended(&self) -> bool {
        self.has_ended && self.common.has_ended
    }

    /// Examines the next windows, and deletes those last used more than `keep` ago. Both times in running seconds.
    pub fn step(&mut self, conn: &Connection, now: u64, keep: u64) -> rusqlite::Result<Step> {
        let Some(before) = now.checked_sub(keep) else {
            // None can be that old.
            (self.has_ended, self.common.has_ended) = (true, true);
            return Ok(Step::default());
        };
        let end: Option<i64> = conn
            .prepare_cached("SELECT id FROM keys WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
            .query_row([self.after, ROWS - 1], |row| row.get(0))
            .optional()?;
        let old = [self.after, end.unwrap_or(i64::MAX), integer(before)];
        let dropped = conn
            .prepare_cached(&format!(
                "DELETE FROM keys WHERE id > ?1 AND id <= ?2 AND used < ?3 AND session <> x'' AND NOT {WAITS}"
            ))?
            .execute(old)?;
        let waiting = conn
            .prepare_cached(
                "SELECT DISTINCT room FROM keys WHERE id > ?1 AND id <= ?2 AND used < ?3 AND session <> x''",
            )?
            .query_map(old, |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        self.after = end.unwrap_or_default();
        self.has_ended |= end.is_none();
        let common = self.common.step(conn, now, before)?;
        Ok(Step { dropped: dropped + common.dropped, waiting: [waiting, common.waiting].concat() })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::super::schema::migrate;
    use super::*;

    #[test]
    fn a_walk_has_ended_once_it_has_come_through_both_tables() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        for room in 1..=600 {
            let sql = "INSERT INTO common_keys (room, key, body, seq, at) VALUES (?1, x'01', x'01', 1, 1)";
            conn.execute(sql, [room]).unwrap();
            conn.execute("INSERT INTO keys (room, session, used, entries) VALUES (?1, x'', ?1 % 2, x'')", [room])
                .unwrap();
        }
        let mut prune = Prune::default();
        let mut step = || (prune.step(&conn, 101, 100).unwrap().dropped, prune.has_ended());
        assert_eq!([step(), step()], [(256, false), (44, true)], "the small rooms of a step together");
        let mut early = Prune::default();
        assert_eq!((early.step(&conn, 99, 100).unwrap(), early.has_ended()), (Step::default(), true));
    }

    #[test]
    fn old_windows_go_in_steps_and_used_ones_stay() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let insert = "INSERT INTO keys (room, session, used, entries) VALUES (?1, ?2, ?3, x'')";
        for n in 0..5_000_i64 {
            let used = if n % 2 == 0 { 100 } else { 200 };
            conn.execute(insert, params![n / 10 + 1, n.to_be_bytes(), used]).unwrap();
        }
        let count = || conn.query_row("SELECT count(*) FROM keys", [], |row| row.get::<_, i64>(0)).unwrap();
        let mut prune = Prune::default();
        assert_eq!(
            prune.step(&conn, 150, 1000).unwrap(),
            Step::default(),
            "younger than the time for which they are kept"
        );
        let steps: Vec<usize> = (0..6).map(|_| prune.step(&conn, 1150, 1000).unwrap().dropped).collect();
        assert_eq!((steps, count()), (vec![1000, 1000, 500, 0, 0, 0], 2500));
        let old = conn.query_row("SELECT count(*) FROM keys WHERE used < 150", [], |row| row.get::<_, i64>(0));
        assert_eq!(old, Ok(0));
    }
}
