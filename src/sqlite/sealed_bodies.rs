//! The index of sealed bodies: one row for each stored encrypted message, so that no ciphertext is accepted twice, from
//! any sender and under any idempotency key. Rows are added and deleted with their messages; messages older than the
//! index are added in the background. Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{self, Row};
use super::schema::{last_id, room_of, seq_of};
use super::sealing::{Sealing, message_place, open_parts};
use crate::types::{Digest, Era, Seq};

/// Maximum number of messages in one step ...
const ROWS: usize = 500;

/// ... and maximum size of their bodies in bytes, not counting the last one.
const BYTES: usize = 256 << 10;

/// Number of steps that find no encrypted message after which the progress is recorded anyway: each record costs a
/// commit.
const NOTED: u32 = 32;

/// Returns whether a stored message of the room has this sealed body; `digest` in its stored form.
pub(super) fn holds(conn: &Connection, room: i64, digest: Digest) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM sealed_bodies WHERE digest = ?1 AND id > ?2 AND id <= ?3 LIMIT 1")?
        .query_row(params![digest.0, last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Adds the sealed body of the message with this id.
pub(super) fn put(conn: &Connection, id: i64, digest: Digest) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO sealed_bodies (id, digest) VALUES (?1, ?2)")?
        .execute(params![id, digest.0])
        .map(drop)
}

/// Deletes the rows of messages with ids above `above` and up to `upto`.
pub(super) fn forget(conn: &Connection, above: i64, upto: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM sealed_bodies WHERE id > ?1 AND id <= ?2")?.execute([above, upto]).map(drop)
}

/// Empties the index, some rows at a time, so that it is built again. For operations that change the data key or move
/// rows.
pub(super) fn restart(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("UPDATE sealed_bodies_filled SET upto = 0", [])?;
    while conn.execute("DELETE FROM sealed_bodies WHERE id IN (SELECT id FROM sealed_bodies LIMIT 1000)", [])? > 0 {}
    Ok(())
}

/// The walk that indexes older messages.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// The last message examined; `None` until it is read from the database.
    after: Option<i64>,
    /// Number of steps since the progress was recorded.
    steps: u32,
}

impl Filling {
    /// Indexes the next messages, in one transaction. Returns whether there are more. `digest` returns the digest of an
    /// encrypted body.
    pub fn step(
        &mut self,
        conn: &Connection,
        sealing: Option<&Sealing>,
        digest: fn(&str) -> Option<Digest>,
    ) -> rusqlite::Result<bool> {
        let after = match self.after {
            Some(after) => after,
            None => conn.query_row("SELECT upto FROM sealed_bodies_filled", [], |row| row.get(0))?,
        };
        self.after = Some(after);
        if after == i64::MAX {
            return Ok(false);
        }
        let rows = rows::read(conn, after, ROWS, BYTES)?;
        let upto = rows.last().map_or(i64::MAX, |row| row.id);
        let mut found = Vec::new();
        let mut room = (0, Default::default());
        for row in &rows {
            if room.0 != room_of(row.id) {
                room = (room_of(row.id), rows::room_name(conn, room_of(row.id))?.unwrap_or_default());
            }
            if let Some(digest) = digest_of(row, &room.1, sealing, digest) {
                found.push((row.id, digest));
            }
        }
        self.steps += 1;
        if !found.is_empty() || self.steps >= NOTED || upto == i64::MAX {
            let transaction = conn.unchecked_transaction()?;
            for (id, digest) in found {
                put(&transaction, id, digest)?;
            }
            transaction.execute("UPDATE sealed_bodies_filled SET upto = ?1", [upto])?;
            transaction.commit()?;
            self.steps = 0;
        }
        self.after = Some(upto);
        Ok(upto != i64::MAX)
    }
}

/// Returns the digest of a message as stored in the index; `None` if the message is not encrypted, or unreadable.
fn digest_of(
    row: &Row,
    (name, era): &(String, Era),
    sealing: Option<&Sealing>,
    digest: fn(&str) -> Option<Digest>,
) -> Option<Digest> {
    let Some(sealing) = sealing else { return digest(str::from_utf8(&row.body).ok()?) };
    let place = message_place((name, *era), seq_of(row.id), row.at, row.member);
    let (_, body) = open_parts(sealing.records(), &place, &row.body).ok()?;
    digest(str::from_utf8(&body).ok()?).map(|digest| sealing.sealed_body(room_of(row.id), digest))
}
