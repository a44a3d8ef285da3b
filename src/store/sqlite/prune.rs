//! Dropping key windows that nobody has used for long, a stretch of rows at a time, so that it never holds the writer
//! up for long. Ages count running seconds: a machine that was off, or whose clock jumps, loses nobody's keys.

use rusqlite::{Connection, params};

use super::schema::integer;

/// How long a window is kept after its last use, in running seconds: 7 days, as `park_for`.
const KEPT: u64 = 7 * 24 * 3600;

/// Rows looked at in one step.
const ROWS: i64 = 2_000;

/// How far the walk through the windows has come; it starts over at the end.
#[derive(Default)]
pub(super) struct Prune {
    after: (i64, Vec<u8>),
}

impl Prune {
    /// Looks at the next stretch of windows, `now` in running seconds; how many it dropped.
    pub fn step(&mut self, conn: &Connection, now: u64) -> rusqlite::Result<usize> {
        let Some(before) = now.checked_sub(KEPT) else { return Ok(0) };
        let (room, session) = &self.after;
        let mut statement = conn.prepare_cached(
            "SELECT room, session FROM keys WHERE (room, session) > (?1, ?2)
             ORDER BY room, session LIMIT 1 OFFSET ?3",
        )?;
        let end: Option<(i64, Vec<u8>)> = statement
            .query_map(params![room, session, ROWS - 1], |row| Ok((row.get(0)?, row.get(1)?)))?
            .next()
            .transpose()?;
        // Beyond the last stretch: no room has this id.
        let (to_room, to_session) = end.clone().unwrap_or((i64::MAX, Vec::new()));
        let dropped = conn
            .prepare_cached(
                "DELETE FROM keys WHERE (room, session) > (?1, ?2) AND (room, session) <= (?3, ?4) AND used < ?5",
            )?
            .execute(params![room, session, to_room, to_session, integer(before)])?;
        self.after = end.unwrap_or_default();
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;

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
        assert_eq!(prune.step(&conn, 150).unwrap(), 0, "younger than the time for which they are kept");
        let now = KEPT + 150;
        let steps: Vec<usize> = (0..6).map(|_| prune.step(&conn, now).unwrap()).collect();
        assert_eq!((steps, count()), (vec![1000, 1000, 500, 0, 0, 0], 2500));
        let old = conn.query_row("SELECT count(*) FROM keys WHERE used < 150", [], |row| row.get::<_, i64>(0));
        assert_eq!(old, Ok(0));
    }
}
