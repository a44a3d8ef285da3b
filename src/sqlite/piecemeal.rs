//! Reads a page of a room's log message by message where the database is damaged. An unreadable message keeps its place
//! and is delivered as unreadable, so that a room with damaged history can still be joined, its pages have no gaps, and
//! everything else in it is delivered whole and in order.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _};

use super::damage::is_damage;
use super::fold;
use super::reader;
use super::schema::{last_id, message_id, number, seq_of};
use super::sealing;
use crate::crypto::at_rest::{RecordKey, Unreadable};
use crate::sqlite::error::DAMAGED;
use crate::store::{Page, Read, Span};
use crate::types::{Author, Body, Era, Message, RoomId, Seq, WallMillis};

/// Maximum number of messages in one page of the database: a row takes at least 30 bytes of at most 4,096.
const LEAF: u64 = 128;

/// A message that is delivered as unreadable, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub seq: Seq,
    pub why: Why,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its sealed record does not open; the database around it may be sound.
    Sealed(Unreadable),
    /// The database is damaged there.
    Damage(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Sealed(why) => why.fmt(f),
            Why::Damage(why) => f.write_str(why),
        }
    }
}

/// Returns the log lines for these losses of a room: one for each run of consecutive messages with the same reason.
pub(super) fn told(room: &RoomId, losses: &[Loss]) -> Vec<String> {
    let stretches = losses.chunk_by(|a, b| a.seq.next() == b.seq && a.why == b.why);
    stretches.filter_map(|stretch| told_stretch(room, stretch)).collect()
}

fn told_stretch(room: &RoomId, stretch: &[Loss]) -> Option<String> {
    let (first, last) = (stretch.first()?, stretch.last()?);
    let which = match stretch {
        [one] => format!("message {} of room {room}", one.seq.0),
        _ => format!("messages {} to {} of room {room}", first.seq.0, last.seq.0),
    };
    let advice = match first.why {
        Why::Sealed(_) => "a backup may have it",
        Why::Damage(_) => DAMAGED,
    };
    let as_what = if stretch.len() == 1 { "it is" } else { "they are" };
    Some(format!(
        "{which} cannot be read: {}; {as_what} delivered as unreadable, all others unchanged; {advice}",
        first.why
    ))
}

/// The end of a room's log.
pub(super) struct Ends {
    pub room: i64,
    pub head: Seq,
    /// The timestamp of the head.
    pub at: WallMillis,
    pub era: Era,
}

/// Reads one page, and adds its unreadable messages to `losses`, in ascending order.
///
/// # Errors
/// The disk does not answer. Damage is not an error here.
pub(super) fn page(
    conn: &Connection,
    read: &Read,
    ends: &Ends,
    records: Option<&RecordKey>,
    losses: &mut Vec<Loss>,
) -> rusqlite::Result<Page> {
    let oldest = match oldest(conn, ends) {
        Err(error) if is_damage(&error) => search_oldest(conn, ends)?,
        known => known?,
    };
    let (Seq(first), Seq(last)) = reader::reach(read.span, oldest, ends.head);
    let is_rising = matches!(read.span, Span::After(_));
    let mut found = Vec::new();
    let mut left = read.bytes as usize;
    let mut more = false;
    let mut next = if is_rising { first } else { last };
    while first <= next && next <= last {
        let (message, why) = look_up(conn, read, ends, Seq(next), records)?;
        let bytes = message.as_ref().map_or(0, |message| message.body.len());
        more = found.len() >= read.limit as usize || (bytes > left && !found.is_empty());
        if more {
            break;
        }
        left = left.saturating_sub(bytes);
        found.push((Seq(next), message, why));
        match (is_rising, next) {
            (true, _) => next += 1,
            (false, 0) => break,
            (false, _) => next -= 1,
        }
    }
    if !is_rising {
        found.reverse();
    }
    let mut page = Page { more, ..reader::nothing(read, (ends.head, oldest), ends.era) };
    // An unreadable message gets the date of a neighbor.
    let mut at = found.iter().find_map(|(_, message, _)| message.as_ref()).map_or(ends.at, |message| message.at);
    for (seq, message, why) in found {
        losses.extend(why.map(|why| Loss { seq, why }));
        let message = match message {
            Some(message) => message,
            None => unreadable(&read.room, seq, at)?,
        };
        at = message.at;
        page.messages.push(message);
    }
    Ok(page)
}

/// Returns a placeholder for an unreadable message.
fn unreadable(room: &RoomId, seq: Seq, at: WallMillis) -> rusqlite::Result<Message> {
    let name = sealing::nobody().ok_or_else(reader::no_name)?;
    Ok(Message { room: room.clone(), seq, at, author: Author { member: None, name }, body: Body::unreadable() })
}

/// Looks one message up; if it is unreadable, also returns the reason.
fn look_up(
    conn: &Connection,
    read: &Read,
    ends: &Ends,
    seq: Seq,
    records: Option<&RecordKey>,
) -> rusqlite::Result<(Option<Message>, Option<Why>)> {
    let lost = |why: String| Ok((None, Some(Why::Damage(why))));
    let Some(id) = message_id(ends.room, seq) else { return lost("it is missing".to_owned()) };
    let found = conn.prepare_cached("SELECT id, at, member, name, body FROM messages WHERE id = ?1").and_then(
        |mut statement| {
            statement.query_row([id], |row| reader::message_of(&read.room, ends.era, row, records)).optional()
        },
    );
    match found {
        Ok(Some((message, why))) => Ok((Some(message), why.map(Why::Sealed))),
        Ok(None) => lost("it is missing".to_owned()),
        Err(error) if is_damage(&error) => lost(error.to_string()),
        Err(error) => Err(error),
    }
}

/// Returns the oldest stored seq; the head's successor if none is.
pub(super) fn oldest(conn: &Connection, ends: &Ends) -> rusqlite::Result<Seq> {
    first_after(conn, ends, Seq::ZERO)
}

fn first_after(conn: &Connection, ends: &Ends, seq: Seq) -> rusqlite::Result<Seq> {
    let (after, all) = (last_id(ends.room, seq), last_id(ends.room, Seq(u64::MAX)));
    let found = conn
        .prepare_cached("SELECT id FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")?
        .query_row([after, all], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(ends.head.next(), seq_of))
}

/// Searches for the oldest seq, in steps that double and then halve, if the beginning of the room's messages is
/// damaged. The number of messages stored before the first readable one is unknown: as many as fit in a page of the
/// database are assumed to be damaged, so that the loss is reported.
fn search_oldest(conn: &Connection, ends: &Ends) -> rusqlite::Result<Seq> {
    let look = |seq: u64| match first_after(conn, ends, Seq(seq)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    };
    let (mut damaged, mut readable) = (0, 1);
    let mut found = loop {
        if readable >= ends.head.0 {
            break ends.head.next();
        }
        match look(readable)? {
            Some(found) => break found,
            None => (damaged, readable) = (readable, readable.saturating_mul(2)),
        }
    };
    readable = readable.min(ends.head.0);
    while readable - damaged > 1 {
        let middle = damaged + (readable - damaged) / 2;
        match look(middle)? {
            Some(earlier) => (readable, found) = (middle, earlier),
            None => damaged = middle,
        }
    }
    Ok(Seq(found.0.saturating_sub(LEAF).max(1)))
}

/// Reads where a room's log ends: at its last message, or where its row says, if that is further. `None` if there is no
/// such room. Where the last messages are damaged, it ends at the last one that is known.
pub(super) fn ends(conn: &Connection, room: &RoomId) -> rusqlite::Result<Option<Ends>> {
    let found = conn
        .prepare_cached("SELECT id, head, at, era FROM rooms WHERE name = ?1")?
        .query_row([room.as_str()], |row| {
            let at = WallMillis(number(row.get_ref(2)?.as_i64().unwrap_or(0)));
            let era = Era(number(row.get(3)?));
            Ok(Ends { room: row.get(0)?, head: Seq(number(row.get(1)?)), at, era })
        })
        .optional()?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(match fold::last_behind(conn, row.room, row.head) {
        Ok(None) => row,
        Ok(Some((head, at))) => Ends { head, at, ..row },
        Err(error) if is_damage(&error) => last_readable(conn, row)?,
        Err(error) => return Err(error),
    }))
}

/// Returns the end of a room's log if its last messages are damaged: the last one before them.
fn last_readable(conn: &Connection, row: Ends) -> rusqlite::Result<Ends> {
    let mut statement = conn.prepare_cached("SELECT id, at FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id")?;
    let mut rows = statement.query([last_id(row.room, row.head), last_id(row.room, Seq(u64::MAX))])?;
    let mut ends = row;
    loop {
        match rows.next() {
            Ok(Some(row)) => (ends.head, ends.at) = (seq_of(row.get(0)?), WallMillis(number(row.get(1)?))),
            Ok(None) => return Ok(ends),
            Err(error) if is_damage(&error) => return Ok(ends),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
