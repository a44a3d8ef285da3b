//! The oldest message of each room, kept in the room's row, so that retention finds what is due without a look at the
//! other rooms. Written in the transaction that changes it. Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::{integer, last_id, number, seq_of};
use crate::types::{Seq, WallMillis};

/// A room's oldest message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oldest {
    pub seq: Seq,
    pub at: WallMillis,
}

/// Writes the oldest message of a room to its row.
pub(super) fn put(conn: &Connection, room: i64, oldest: Oldest) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET oldest = ?2, oldest_at = ?3 WHERE id = ?1")?
        .execute([room, integer(oldest.seq.0), integer(oldest.at.0)])
        .map(drop)
}

/// Records that a room has no message left: that is a use of it, at this running second.
fn put_none(conn: &Connection, room: i64, running: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET oldest = NULL, oldest_at = NULL, used = ?2, bytes = 0 WHERE id = ?1")?
        .execute([room, integer(running)])
        .map(drop)
}

/// Looks up a room's oldest message at this running second, and writes it to the room's row if that has another one,
/// `known`. Returns whether it had.
pub(super) fn correct(conn: &Connection, room: i64, known: Option<Oldest>, running: u64) -> rusqlite::Result<bool> {
    let found = find(conn, room)?;
    if found == known {
        return Ok(false);
    }
    match found {
        Some(oldest) => put(conn, room, oldest)?,
        None => put_none(conn, room, running)?,
    }
    Ok(true)
}

/// Finds a room's oldest message.
fn find(conn: &Connection, room: i64) -> rusqlite::Result<Option<Oldest>> {
    conn.prepare_cached("SELECT id, at FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")?
        .query_row([last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))], |row| {
            Ok(Oldest { seq: seq_of(row.get(0)?), at: WallMillis(number(row.get(1)?)) })
        })
        .optional()
}

/// Returns the oldest message as columns of a room's row have it.
pub(super) fn of_row(seq: Option<i64>, at: Option<i64>) -> Option<Oldest> {
    Some(Oldest { seq: Seq(number(seq?)), at: WallMillis(number(at?)) })
}
