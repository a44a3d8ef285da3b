//! The common keys of rooms: those of POSTs without an identity. A room keeps at least the last [`COMMON`], and all of
//! them go once none was used for as long as a sender's window stays. They are evicted many at a time, so that their
//! pages are written once for many. Independent of threads, files and clocks.
//!
//! When a room's common keys were last used is in a row of the table of windows, the room's *mark*: that of an empty
//! session, with no entries.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fold;
use super::schema::{integer, number};
use crate::store::idempotency::{COMMON, Entry};
use crate::types::Seq;

/// Number of keys beyond those to keep at which the oldest are evicted together, and number of evicted keys at which a
/// step ends, so that none evicts twice as many. A piece of a fold adds a fourth as many: a room never holds more than
/// [`COMMON`] and 1.25 times this.
pub(super) const SPARE: u64 = 1_024;

/// A repeat renews the last use of a window, or of a room's common keys, only if that is at least this old, in running
/// seconds: most repeats should not cost a write.
pub(super) const TOUCH: u64 = 3_600;

/// Maximum number of rooms examined in one step.
const ROOMS: u32 = 512;

/// The index by age names the oldest keys in order, and each of them is found by its whole primary key: nothing is read
/// but what goes.
const EVICT: &str = "DELETE FROM common_keys WHERE room = ?1
                     AND key IN (SELECT key FROM common_keys WHERE room = ?1 ORDER BY seq LIMIT ?2)";

const THIN: &str = "DELETE FROM common_keys WHERE room = ?1 AND at < ?3
                    AND key IN (SELECT key FROM common_keys WHERE room = ?1 ORDER BY seq LIMIT ?2)";

/// Writes common keys of a room, last used at the running second `used`, and evicts the oldest beyond the number that
/// is kept.
pub(super) fn write(conn: &Connection, room: i64, keys: &[&Entry], used: u64) -> rusqlite::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut insert = conn
        .prepare_cached("INSERT OR IGNORE INTO common_keys (room, key, body, seq, at) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut added = 0;
    for Entry { key, body, seq, at } in keys {
        added += insert.execute(params![room, key.0.0, body.0, integer(seq.0), integer(at.0)])? as u64;
    }
    let before: i64 =
        conn.prepare_cached("SELECT common FROM rooms WHERE id = ?1")?.query_row([room], |row| row.get(0))?;
    let count = number(before).saturating_add(added);
    set_count(conn, room, count - evict(conn, room, due(count))?.min(count))?;
    mark(conn, room, used)
}

/// Returns how many of so many keys of a room are to be evicted now.
fn due(count: u64) -> u64 {
    let keep = COMMON as u64;
    if count < keep + SPARE { 0 } else { count - keep }
}

/// Evicts the oldest keys of a room, at most so many. Returns how many went.
fn evict(conn: &Connection, room: i64, most: u64) -> rusqlite::Result<u64> {
    if most == 0 {
        return Ok(0);
    }
    Ok(conn.prepare_cached(EVICT)?.execute([room, integer(most)])? as u64)
}

fn set_count(conn: &Connection, room: i64, count: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET common = ?2 WHERE id = ?1")?.execute([room, integer(count)]).map(drop)
}

fn subtract(conn: &Connection, room: i64, gone: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET common = max(common - ?2, 0) WHERE id = ?1")?
        .execute([room, integer(gone)])
        .map(drop)
}

/// Records that common keys of a room were used at this running second.
fn mark(conn: &Connection, room: i64, used: u64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO keys (room, session, used, entries) VALUES (?1, x'', ?2, x'')
         ON CONFLICT (room, session) DO UPDATE SET used = max(used, excluded.used)",
    )?
    .execute([room, integer(used)])
    .map(drop)
}

/// Records that a common key of a room was repeated at this running second, unless the mark is young.
pub(super) fn renew(conn: &Connection, room: i64, now: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE keys SET used = ?2 WHERE room = ?1 AND session = x'' AND used <= ?3")?
        .execute([room, integer(now), integer(now.saturating_sub(TOUCH))])
        .map(drop)
}

/// The result of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Number of keys, or of windows and keys, that it deleted.
    pub dropped: usize,
    /// Rooms that have old ones, and something that waits for a fold.
    pub waiting: Vec<i64>,
}

/// Walks through the rooms that have common keys, by id, and starts over at the end.
#[derive(Default)]
pub(super) struct Walk {
    after: i64,
    /// Whether it has come to the end of the rooms, at least once.
    pub has_ended: bool,
    /// Whether it writes no mark, for which a full database might have no page.
    pub only_deletes: bool,
    /// Whether rooms that are in use give their oldest ones, too.
    pub thins: bool,
}

impl Walk {
    /// Examines the next rooms, and deletes the common keys of those where none was used since the running second
    /// `before`, a bounded number at a time. A room without a mark, of an older racerd, gets one.
    pub fn step(&mut self, conn: &Connection, now: u64, before: u64) -> rusqlite::Result<Step> {
        let transaction = conn.unchecked_transaction()?;
        let mut step = Step::default();
        for _ in 0..ROOMS {
            let next: Option<i64> = transaction
                .prepare_cached("SELECT room FROM common_keys WHERE room > ?1 ORDER BY room LIMIT 1")?
                .query_row([self.after], |row| row.get(0))
                .optional()?;
            let Some(room) = next else {
                (self.after, self.has_ended) = (0, true);
                break;
            };
            let used: Option<i64> = transaction
                .prepare_cached("SELECT used FROM keys WHERE room = ?1 AND session = x''")?
                .query_row([room], |row| row.get(0))
                .optional()?;
            match used.map(number) {
                None if self.only_deletes => {}
                None => mark(&transaction, room, now)?,
                Some(used) if used >= before && !self.thins => {}
                // A key that waits may have been used since.
                Some(_) if waits(&transaction, room)? => step.waiting.push(room),
                Some(used) => {
                    let gone = match used >= before {
                        true => thin(&transaction, room, now - before)?,
                        false => forget(&transaction, room)?,
                    };
                    step.dropped += usize::try_from(gone).unwrap_or(usize::MAX);
                    if gone >= SPARE || step.dropped as u64 >= SPARE {
                        // The rest of this room, if there is any, is next.
                        break;
                    }
                }
            }
            self.after = room;
        }
        transaction.commit()?;
        Ok(step)
    }
}

/// Deletes the oldest common keys of a room as far as one step goes, and the mark with the last.
fn forget(conn: &Connection, room: i64) -> rusqlite::Result<u64> {
    let gone = evict(conn, room, SPARE)?;
    if gone < SPARE {
        set_count(conn, room, 0)?;
        conn.prepare_cached("DELETE FROM keys WHERE room = ?1 AND session = x''")?.execute([room])?;
    } else {
        subtract(conn, room, gone)?;
    }
    Ok(gone)
}

/// Deletes the oldest common keys of a room that is in use as far as one step goes: those of messages that were said so
/// many seconds before the last one with such a key, by the clock that dated both.
fn thin(conn: &Connection, room: i64, seconds: u64) -> rusqlite::Result<u64> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT at FROM common_keys WHERE room = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([room], |row| row.get(0))
        .optional()?;
    let old = number(newest.unwrap_or_default()).saturating_sub(seconds.saturating_mul(1_000));
    let gone = conn.prepare_cached(THIN)?.execute([room, integer(SPARE), integer(old)])? as u64;
    if gone > 0 {
        subtract(conn, room, gone)?;
    }
    Ok(gone)
}

/// Returns whether something waits for a fold in a room.
fn waits(conn: &Connection, room: i64) -> rusqlite::Result<bool> {
    let head: Option<i64> =
        conn.prepare_cached("SELECT head FROM rooms WHERE id = ?1")?.query_row([room], |row| row.get(0)).optional()?;
    Ok(match head {
        Some(head) => fold::last_behind(conn, room, Seq(number(head)))?.is_some(),
        None => false,
    })
}

#[cfg(test)]
mod tests;
