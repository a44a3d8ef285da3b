//! About how many bytes each room's messages take, kept in the room's row, so that the largest are found when space is
//! needed. Folds add what they write, and retention takes off what it deletes; a room without messages has none.
//! Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::{integer, last_id, number};
use crate::types::Seq;

/// Rooms of at least so many bytes are large. The index has only these, so that small rooms cost it nothing. It stands
/// in the statements below and in the schema.
#[cfg(test)]
pub(super) const LARGE: u64 = 16 << 10;

/// Bytes of a message besides its body.
const BESIDE: u64 = 48;

/// A room, with its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Large {
    pub bytes: i64,
    pub room: i64,
}

/// Returns the size of so many messages with so many bytes of bodies.
pub(super) fn of(messages: u64, bodies: u64) -> u64 {
    messages.saturating_mul(BESIDE).saturating_add(bodies)
}

/// Takes off what was deleted in a room.
pub(super) fn shrink(conn: &Connection, room: i64, bytes: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET bytes = max(bytes - ?2, 0) WHERE id = ?1")?
        .execute([room, integer(bytes)])
        .map(drop)
}

/// Returns the largest room below this one; the largest of all without one.
pub(super) fn largest(conn: &Connection, below: Option<Large>) -> rusqlite::Result<Option<Large>> {
    let Large { bytes, room } = below.unwrap_or(Large { bytes: i64::MAX, room: i64::MAX });
    conn.prepare_cached(
        "SELECT bytes, id FROM rooms WHERE bytes >= 16384 AND (bytes, id) < (?1, ?2) ORDER BY bytes DESC, id DESC LIMIT 1",
    )?
    .query_row([bytes, room], |row| Ok(Large { bytes: row.get(0)?, room: row.get(1)? }))
    .optional()
}

/// Writes the size of a room by its messages, for operations that write all of them.
pub(super) fn correct(conn: &Connection, room: i64) -> rusqlite::Result<()> {
    let (messages, bodies): (i64, i64) = conn
        .prepare_cached("SELECT count(*), coalesce(sum(length(body)), 0) FROM messages WHERE id > ?1 AND id <= ?2")?
        .query_row([last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))], |row| Ok((row.get(0)?, row.get(1)?)))?;
    conn.prepare_cached("UPDATE rooms SET bytes = ?2 WHERE id = ?1")?
        .execute([room, integer(of(number(messages), number(bodies)))])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;

    #[test]
    fn large_rooms_are_found_the_largest_first() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let sizes = [LARGE - 1, 5 * LARGE, LARGE, 5 * LARGE, 0];
        for (room, bytes) in (1_i64..).zip(sizes) {
            let sql = "INSERT INTO rooms (id, name, head, at, common, bytes) VALUES (?1, 'r' || ?1, 0, 0, 0, ?2)";
            conn.execute(sql, [room, bytes as i64]).unwrap();
        }
        let all =
            || std::iter::successors(largest(&conn, None).unwrap(), |large| largest(&conn, Some(*large)).unwrap());
        let rooms: Vec<i64> = all().map(|large| large.room).collect();
        assert_eq!(rooms, [4, 2, 3]);
        shrink(&conn, 4, 4 * LARGE + 1).unwrap();
        assert_eq!(all().map(|large| large.room).collect::<Vec<i64>>(), [2, 3]);
        shrink(&conn, 2, u64::MAX).unwrap();
        assert_eq!(all().map(|large| large.room).collect::<Vec<i64>>(), [3], "never less than nothing");
    }
}
