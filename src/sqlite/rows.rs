//! Reads rows of the table of messages, a bounded number at a time, for walks through all of them.

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::number;
use crate::types::{Era, WallMillis};

/// A message's row, sealed or plain.
pub(super) struct Row {
    pub id: i64,
    pub at: WallMillis,
    pub member: Option<u64>,
    pub name: Vec<u8>,
    pub body: Vec<u8>,
}

/// Reads at most `max` rows with ids above `after`, in order, and stops after `max_bytes` of bodies.
pub(super) fn read(conn: &Connection, after: i64, max: usize, max_bytes: usize) -> rusqlite::Result<Vec<Row>> {
    let sql = "SELECT id, at, member, name, body FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([after, i64::try_from(max).unwrap_or(i64::MAX)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes
        && let Some(row) = rows.next()?
    {
        let body = row.get_ref(4)?.as_bytes()?.to_vec();
        bytes += body.len();
        found.push(Row {
            id: row.get(0)?,
            at: WallMillis(number(row.get(1)?)),
            member: row.get::<_, Option<i64>>(2)?.map(number),
            name: row.get_ref(3)?.as_bytes()?.to_vec(),
            body,
        });
    }
    Ok(found)
}

/// Returns the name of a room, and which of that name it is; `None` if its row is lost.
pub(super) fn room_name(conn: &Connection, room: i64) -> rusqlite::Result<Option<(String, Era)>> {
    conn.prepare_cached("SELECT name, era FROM rooms WHERE id = ?1")?
        .query_row([room], |row| Ok((row.get(0)?, Era(number(row.get(1)?)))))
        .optional()
}
