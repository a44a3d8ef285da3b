//! The log in the simplest possible form: a list of messages for each room, searched from end to end. It is the
//! reference that the real logs are compared with (src/sqlite/contract), and what the hub's tests and the walk read
//! from: so the fake store that they trust is held against the real ones.

use std::collections::BTreeMap;

use crate::store::{Append, Outcome, Page, Read, ScopedKey, Span};
use crate::types::{Body, Era, Message, RoomId, Seq, WallMillis};

/// A log that forgets nothing by itself: neither messages nor keys. It does not tell encrypted bodies apart.
#[derive(Clone, Debug, Default, Hash)]
pub struct NaiveLog {
    rooms: BTreeMap<RoomId, Vec<Message>>,
    /// Seqs below these are no longer kept.
    oldest: BTreeMap<RoomId, u64>,
    keys: Vec<Known>,
}

/// A key that was used in a room, with the message that it stands for.
#[derive(Clone, Debug, Hash)]
struct Known {
    room: RoomId,
    key: ScopedKey,
    body: Body,
    seq: Seq,
    at: WallMillis,
}

impl NaiveLog {
    pub fn head(&self, room: &RoomId) -> u64 {
        self.rooms.get(room).map_or(0, |list| list.len() as u64)
    }

    /// Returns the oldest seq that is kept; the head's successor if none is.
    pub fn oldest(&self, room: &RoomId) -> u64 {
        self.oldest.get(room).copied().unwrap_or(1)
    }

    /// Returns the message with this seq, also one that is no longer kept.
    pub fn message(&self, room: &RoomId, seq: u64) -> Option<&Message> {
        self.rooms.get(room)?.get(seq.checked_sub(1)? as usize)
    }

    /// Keeps only the messages from this seq on.
    pub fn prune(&mut self, room: &RoomId, oldest: u64) {
        let oldest = oldest.clamp(self.oldest(room), self.head(room) + 1);
        self.oldest.insert(room.clone(), oldest);
    }

    /// Stores a message, unless its key was used in the room before.
    pub fn append(&mut self, append: &Append) -> Outcome {
        let Append { room, author, key, body, sealed, at, .. } = append.clone();
        if append.ticket.makes_nothing() && self.head(&room) == 0 {
            return Outcome::NotMade;
        }
        assert_eq!(sealed, None, "an encrypted body, which this log does not tell from others");
        if let Some(known) = self.keys.iter().find(|known| known.room == room && Some(known.key) == key) {
            let Known { seq, at, .. } = *known;
            return if known.body == body { Outcome::Duplicate { seq, at } } else { Outcome::KeyReused };
        }
        let list = self.rooms.entry(room.clone()).or_default();
        let at = stamp(at, list.last().map(|last| last.at));
        let message = Message { room, seq: Seq(list.len() as u64 + 1), at, author, body };
        list.push(message.clone());
        if let Some(key) = key {
            let Message { room, seq, body, .. } = message.clone();
            self.keys.push(Known { room, key, body, seq, at });
        }
        Outcome::Stored(message)
    }

    pub fn read(&self, read: &Read) -> Page {
        let (head, oldest) = (self.head(&read.room), self.oldest(&read.room));
        let kept = self.rooms.get(&read.room).map(|list| &list[oldest as usize - 1..]).unwrap_or_default();
        let forwards = matches!(read.span, Span::After(_));
        let is_in = |m: &&Message| match read.span {
            Span::After(seq) => m.seq > seq,
            Span::Before(seq) => m.seq < seq,
            Span::Newest => true,
        };
        let mut wanted: Vec<&Message> = kept.iter().filter(is_in).collect();
        if !forwards {
            wanted.reverse();
        }
        let (mut bytes, total) = (0, wanted.len());
        let fits = |m: &&Message| {
            let first = bytes == 0;
            bytes += m.body.len();
            first || bytes <= read.bytes as usize
        };
        let mut messages: Vec<Message> =
            wanted.into_iter().take(read.limit as usize).take_while(fits).cloned().collect();
        let more = messages.len() < total;
        if !forwards {
            messages.reverse();
        }
        let (ticket, room, span) = (read.ticket, read.room.clone(), read.span);
        Page { ticket, room, span, messages, oldest: Seq(oldest), head: Seq(head), more, era: Era::FIRST }
    }
}

/// Computes the date of a message by the rule of docs/guarantees.md, without the server's own code: a room's last stamp
/// stays while it is ahead of the clock by at most a minute, otherwise the clock is used, and `at` goes back.
pub fn stamp(clock: WallMillis, last: Option<WallMillis>) -> WallMillis {
    match last {
        Some(last) if last > clock && last.0 - clock.0 <= 60_000 => last,
        _ => clock,
    }
}
