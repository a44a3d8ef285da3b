//! Messages read from their table as they lie there, a bounded stretch at a time, for those who walk through all of them.

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::number;
use crate::types::WallMillis;

/// A message's row, sealed or plain.
pub(super) struct Row {
    pub id: i64,
    pub at: WallMillis,
    pub member: Option<u64>,
    pub name: Vec<u8>,
    pub body: Vec<u8>,
}

/// Reads the rows with ids above `after`, in their order: at most so many, and no more after this many bytes of bodies.
pub(super) fn read(conn: &Connection, after: i64, most: usize, most_bytes: usize) -> rusqlite::Result<Vec<Row>> {
    let sql = "SELECT id, at, member, name, body FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([after, i64::try_from(most).unwrap_or(i64::MAX)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < most_bytes
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

/// The name of a room; `None` where its row is lost.
pub(super) fn room_name(conn: &Connection, room: i64) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT name FROM rooms WHERE id = ?1")?.query_row([room], |row| row.get(0)).optional()
}
