//! Folds: writes the heads, key windows and common keys that were committed with the messages alone to where they are
//! looked up, a bounded piece at a time. A fold is idempotent: a window takes only entries behind its newest, a common
//! key is written only if it is not there, a head only rises, and a room's head is written after all of its keys. So
//! it leaves no trace of how far it came, and a kill at any moment costs nothing but its repetition. Independent of
//! threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::common;
use super::message_key::MessageKey;
use super::schema::{integer, last_id, number, seq_of};
use super::sizes;
use super::unfolded::{Folded, Tail, Unfolded};
use crate::store::idempotency::{Entry, Window};
use crate::types::{IdempotencyKey, Seq, SessionId, WallMillis};

/// Work of one piece: so many common keys are written, or an eighth as many windows, which takes about 2 ms.
const PIECE: u32 = 256;
const WINDOW_WORK: u32 = 8;

/// The position of a fold, which walks through the rooms by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    room: i64,
    goal: Option<Goal>,
}

/// The part of a room's log whose keys are written before its head is. Messages that arrive meanwhile wait for the next
/// fold: otherwise a busy room would keep this one from ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    upto: Seq,
    at: WallMillis,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The next window is that behind this session's.
    Windows(Option<SessionId>),
    /// The next common key is the one behind this.
    Common(Option<IdempotencyKey>),
}

impl Position {
    /// Returns the position at which a fold of one room begins.
    pub fn of_room(room: i64) -> Position {
        Position { room, goal: None }
    }
}

/// The rooms that a fold writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// This one alone.
    Room(i64),
}

/// Writes the next piece, in the caller's transaction. Returns what it has written and where to go on; `None` if this
/// was the last.
pub(super) fn piece(
    conn: &Connection,
    unfolded: &Unfolded,
    which: Which,
    from: Position,
) -> rusqlite::Result<(Folded, Option<Position>)> {
    let mut folded = Folded::default();
    let mut position = from;
    let mut work = PIECE;
    let is_meant = |(room, _): &(i64, Tail)| which == Which::All || which == Which::Room(*room);
    while let Some((room, tail)) = unfolded.next_room(position.room).filter(is_meant) {
        let begun = position.goal.filter(|_| position.room == room);
        let mut goal = begun.unwrap_or(Goal { upto: tail.head, at: tail.at, part: Part::Windows(None) });
        if let Part::Windows(mut after) = goal.part {
            for (session, recent) in unfolded.windows_after(room, after) {
                if work == 0 {
                    goal.part = Part::Windows(after);
                    return Ok((folded, Some(Position { room, goal: Some(goal) })));
                }
                write_window(conn, room, session, tail.head, recent.used, &recent.window)?;
                folded.windows.push((room, session));
                after = Some(session);
                work = work.saturating_sub(WINDOW_WORK);
            }
            goal.part = Part::Common(None);
        }
        if let Part::Common(after) = goal.part {
            let keys: Vec<&Entry> = unfolded.common_after(room, after).take(work as usize).collect();
            common::write(conn, room, &keys, unfolded.common_used(room))?;
            folded.common.extend(keys.iter().map(|entry| (room, entry.key)));
            work -= u32::try_from(keys.len()).unwrap_or(work).min(work);
            if work == 0 {
                goal.part = Part::Common(keys.last().map(|entry| entry.key).or(after));
                return Ok((folded, Some(Position { room, goal: Some(goal) })));
            }
        }
        let (rows, bytes) = tail.upto(goal.upto);
        write_head(conn, room, (goal.upto, goal.at), sizes::of(rows, bytes))?;
        folded.rooms.push((room, goal.upto));
        work -= 1;
        position = Position { room: room + 1, goal: None };
        if work == 0 {
            return Ok((folded, Some(position)));
        }
    }
    Ok((folded, None))
}

/// A row of the table of windows.
pub(super) struct StoredWindow {
    pub id: i64,
    /// When a key was last used, in running seconds.
    pub used: u64,
    pub window: Window,
}

/// Reads a sender's stored window, if it has one.
pub(super) fn stored_window(
    conn: &Connection,
    room: i64,
    session: SessionId,
) -> rusqlite::Result<Option<StoredWindow>> {
    conn.prepare_cached("SELECT id, used, entries FROM keys WHERE room = ?1 AND session = ?2")?
        .query_row(params![room, session.0], |row| {
            let window = Window::from_bytes(row.get_ref(2)?.as_blob()?);
            Ok(StoredWindow { id: row.get(0)?, used: number(row.get(1)?), window })
        })
        .optional()
}

/// Adds a sender's keys to its stored window. Entries beyond the room's head are damage: nothing new would ever be
/// behind them.
fn write_window(
    conn: &Connection,
    room: i64,
    session: SessionId,
    head: Seq,
    used: u64,
    recent: &Window,
) -> rusqlite::Result<()> {
    match stored_window(conn, room, session)? {
        Some(StoredWindow { id, used: before, window }) => {
            let window = window.plausible(|entry| entry.seq <= head).followed_by(recent);
            conn.prepare_cached("UPDATE keys SET used = ?2, entries = ?3 WHERE id = ?1")?.execute(params![
                id,
                integer(used.max(before)),
                window.as_bytes()
            ])
        }
        None => conn
            .prepare_cached("INSERT INTO keys (room, session, used, entries) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![room, session.0, integer(used), recent.as_bytes()]),
    }
    .map(drop)
}

fn write_head(conn: &Connection, room: i64, (head, at): (Seq, WallMillis), bytes: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET head = ?2, at = ?3, bytes = bytes + ?4 WHERE id = ?1 AND head < ?2")?
        .execute([room, integer(head.0), integer(at.0), integer(bytes)])
        .map(drop)
}

/// Returns the seq and the timestamp of a room's last message, if it has one behind this seq.
pub(super) fn last_behind(conn: &Connection, room: i64, seq: Seq) -> rusqlite::Result<Option<(Seq, WallMillis)>> {
    conn.prepare_cached("SELECT id, at FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1")?
        .query_row([last_id(room, seq), last_id(room, Seq(u64::MAX))], |row| {
            Ok((seq_of(row.get(0)?), WallMillis(number(row.get(1)?))))
        })
        .optional()
}

/// Reads what waits in a room, whose row has this head, from the rows of its messages; `now` in running seconds.
///
/// # Errors
/// Nothing of the room is in memory: a part of it would be taken for all, and its seqs given out once more.
pub(super) fn read(conn: &Connection, unfolded: &mut Unfolded, room: i64, head: Seq, now: u64) -> rusqlite::Result<()> {
    read_rows(conn, unfolded, room, head, now).inspect_err(|_| unfolded.abandon(room))
}

fn read_rows(conn: &Connection, unfolded: &mut Unfolded, room: i64, head: Seq, now: u64) -> rusqlite::Result<()> {
    let mut statement =
        conn.prepare_cached("SELECT id, at, length(body), key FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id")?;
    let mut rows = statement.query([last_id(room, head), last_id(room, Seq(u64::MAX))])?;
    while let Some(row) = rows.next()? {
        let (seq, at) = (seq_of(row.get(0)?), WallMillis(number(row.get(1)?)));
        // A damaged key may let one repeat through; an error would refuse the room's messages for ever.
        let key = row.get_ref(3)?.as_blob_or_null().ok().flatten().and_then(MessageKey::decode);
        unfolded.add(room, seq, at, number(row.get(2)?), key, now);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
