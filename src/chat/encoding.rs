//! Broadcasts of a room as bytes: frames for WebSockets, lines for sealed ones, events for event streams, all with the
//! same JSON. Each encoding is made once, when the first member that takes it is served, and not at all if none does.

use core::cell::OnceCell;
use core::ops::Range;

use crate::api::events::Event;
use crate::conn::{Encoding, Ledger, Shared, SharedBytes};
use crate::hub::{Broadcast, Live};
use crate::protocol::server;
use crate::types::{Epoch, Message, RoomId};
use crate::ws::{begin_text, end_text};

/// One broadcast to a room, encoded on demand and shared by all members.
pub struct SharedFrames<'a> {
    room: &'a RoomId,
    epoch: &'a Epoch,
    broadcast: Broadcast<'a>,
    ledger: Ledger,
    frames: OnceCell<Encoded>,
    lines: OnceCell<Encoded>,
    events: OnceCell<Encoded>,
}

struct Encoded {
    bytes: Shared,
    /// The end of each item in `bytes`.
    ends: Vec<u32>,
}

/// Appends one object in this encoding. `event` names it in an event stream; in frames and lines, the object itself
/// does.
pub fn object(encoding: Encoding, event: Event<'_>, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    match encoding {
        Encoding::Frames => {
            let mark = begin_text(out);
            write(out);
            end_text(out, mark);
        }
        Encoding::Lines => line(out, write),
        Encoding::Events => event.write(out, write),
    }
}

/// Appends one object as a line. Line breaks in it become spaces, which changes nothing: JSON allows line breaks only
/// between tokens (RFC 8259 §2, §7).
fn line(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    for byte in out.iter_mut().skip(start).filter(|byte| **byte == b'\n') {
        *byte = b' ';
    }
    out.push(b'\n');
}

/// Appends a message in this encoding.
pub fn message(encoding: Encoding, epoch: &Epoch, out: &mut Vec<u8>, message: &Message) {
    let event = Event { name: None, cursor: Some((epoch, message.seq)) };
    object(encoding, event, out, |out| server::message(out, message));
}

/// Returns where the first so many items end, given the end of each.
pub fn end_of(ends: &[u32], items: usize) -> u32 {
    items.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0)
}

impl<'a> SharedFrames<'a> {
    /// Returns a broadcast that is not encoded yet.
    pub fn new(room: &'a RoomId, epoch: &'a Epoch, broadcast: Broadcast<'a>, ledger: &Ledger) -> SharedFrames<'a> {
        let (frames, lines, events) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        SharedFrames { room, epoch, broadcast, ledger: ledger.clone(), frames, lines, events }
    }

    /// Returns the part of the shared bytes that holds these items in this encoding.
    pub fn part(&self, encoding: Encoding, items: Range<usize>) -> (&Shared, u32, u32) {
        let cell = match encoding {
            Encoding::Frames => &self.frames,
            Encoding::Lines => &self.lines,
            Encoding::Events => &self.events,
        };
        let encoded = cell.get_or_init(|| self.encode(encoding));
        (&encoded.bytes, end_of(&encoded.ends, items.start), end_of(&encoded.ends, items.end))
    }

    fn encode(&self, encoding: Encoding) -> Encoded {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let (room, epoch) = (self.room, self.epoch);
        match self.broadcast {
            Broadcast::Live(list) => {
                let size: usize = list.iter().map(Live::size).sum();
                bytes.reserve(size);
                ends.reserve(list.len());
                for live in list {
                    match live {
                        Live::Message(live) => message(encoding, epoch, &mut bytes, live),
                        Live::Signal { .. } => {
                            object(encoding, named("signal"), &mut bytes, |out| server::live(out, room, live));
                        }
                    }
                    ends.push(bytes.len() as u32);
                }
            }
            Broadcast::Presence { count, events } => {
                object(encoding, named("presence"), &mut bytes, |out| server::presence(out, room, count, events));
                ends.push(bytes.len() as u32);
            }
            Broadcast::Members(roster) => {
                object(encoding, named("members"), &mut bytes, |out| server::members(out, None, room, &roster));
                ends.push(bytes.len() as u32);
            }
        }
        Encoded { bytes: SharedBytes::share(bytes, &self.ledger), ends }
    }
}

/// Returns an event with this name that moves no cursor.
pub fn named(name: &'static str) -> Event<'static> {
    Event { name: Some(name), cursor: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Author, Body, Name, Seq, WallMillis};
    use std::rc::Rc;

    /// Each encoding is made once, however many members take it, and not at all if none does.
    #[test]
    fn an_encoding_is_made_when_somebody_takes_it() {
        let room = RoomId::parse("r").unwrap();
        let author = Author { member: None, name: Name::parse("a").unwrap() };
        let live = |seq| {
            let (room, author, body) = (room.clone(), author.clone(), Body::checked("{\n\"a\":\n1\n}".into()));
            Live::Message(Message { room, seq: Seq(seq), at: WallMillis(5), author, body })
        };
        let list = [live(7), live(8)];
        let epoch = Epoch("k3f9".into());
        let shared = SharedFrames::new(&room, &epoch, Broadcast::Live(&list), &Ledger::default());
        assert!(shared.frames.get().is_none() && shared.events.get().is_none());
        let (all, start, end) = shared.part(Encoding::Events, 0..2);
        assert_eq!((start, end as usize), (0, all.len()));
        let (again, start, end) = shared.part(Encoding::Events, 1..2);
        assert!(Rc::ptr_eq(all, again));
        let text = String::from_utf8(again[start as usize..end as usize].to_vec()).unwrap();
        assert!(text.starts_with("id: k3f9:8\ndata: {\"type\":\"message\",") && text.ends_with("}\n\n"), "{text}");
        assert!(shared.frames.get().is_none(), "no socket takes it");
        let (frames, _, end) = shared.part(Encoding::Frames, 0..2);
        assert_eq!((frames[0], end as usize), (0x81, frames.len()));
        let (lines, start, end) = shared.part(Encoding::Lines, 1..2);
        let text = String::from_utf8(lines[start as usize..end as usize].to_vec()).unwrap();
        assert!(text.starts_with("{\"type\":\"message\",") && text.ends_with("\"body\":{ \"a\": 1 }}\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
    }
}
