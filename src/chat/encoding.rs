//! What a room says, as bytes: frames for sockets, lines for sealed ones, events for event streams, all with the same JSON. Each form is
//! encoded when the first who takes it is served, once for all of them, and not at all where nobody does.

use core::cell::OnceCell;
use core::ops::Range;
use std::rc::Rc;

use crate::api::events::Event;
use crate::conn::{Form, Shared};
use crate::hub::{Broadcast, Live};
use crate::protocol::server;
use crate::types::{Epoch, Message, RoomId};
use crate::ws::{begin_text, end_text};

/// Something that a whole room hears, to be encoded for those who are there.
pub struct Encoding<'a> {
    room: &'a RoomId,
    broadcast: Broadcast<'a>,
    frames: OnceCell<Encoded>,
    lines: OnceCell<Encoded>,
    events: OnceCell<Encoded>,
}

struct Encoded {
    bytes: Shared,
    /// Where each item ends.
    ends: Vec<u32>,
}

/// Appends one object in this form. Of what `event` says, a frame needs nothing: the object has it, too.
pub fn object(form: Form, event: Event<'_>, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    match form {
        Form::Frames => {
            let mark = begin_text(out);
            write(out);
            end_text(out, mark);
        }
        Form::Lines => line(out, write),
        Form::Events => event.write(out, write),
    }
}

/// Appends one object as a line. A line break in it becomes a blank: between the tokens of JSON, the only place where JSON
/// has any (RFC 8259 §2, §7), that changes nothing.
fn line(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    for byte in out.iter_mut().skip(start).filter(|byte| **byte == b'\n') {
        *byte = b' ';
    }
    out.push(b'\n');
}

/// Appends a message in this form.
pub fn message(form: Form, epoch: &Epoch, out: &mut Vec<u8>, message: &Message) {
    let event = Event { name: None, cursor: Some((epoch, message.seq)) };
    object(form, event, out, |out| server::message(out, message));
}

/// About what a message takes on the wire beside its body, for the size of the buffer.
const ENVELOPE: usize = 160;

impl<'a> Encoding<'a> {
    pub fn new(room: &'a RoomId, broadcast: Broadcast<'a>) -> Encoding<'a> {
        Encoding { room, broadcast, frames: OnceCell::new(), lines: OnceCell::new(), events: OnceCell::new() }
    }

    /// These items in this form: which part of which bytes.
    pub fn part(&self, form: Form, epoch: &Epoch, items: Range<usize>) -> (&Shared, u32, u32) {
        let cell = match form {
            Form::Frames => &self.frames,
            Form::Lines => &self.lines,
            Form::Events => &self.events,
        };
        let encoded = cell.get_or_init(|| self.encode(form, epoch));
        let end = |items: usize| if items == 0 { 0 } else { encoded.ends.get(items - 1).copied().unwrap_or(0) };
        (&encoded.bytes, end(items.start), end(items.end))
    }

    fn encode(&self, form: Form, epoch: &Epoch) -> Encoded {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let room = self.room;
        match self.broadcast {
            Broadcast::Live(list) => {
                let size: usize = list.iter().map(|live| live.body().len() + ENVELOPE).sum();
                bytes.reserve(size);
                ends.reserve(list.len());
                for live in list {
                    match live {
                        Live::Message(live) => message(form, epoch, &mut bytes, live),
                        Live::Signal { .. } => {
                            object(form, named("signal"), &mut bytes, |out| server::live(out, room, live));
                        }
                    }
                    ends.push(bytes.len() as u32);
                }
            }
            Broadcast::Presence { count, events } => {
                object(form, named("presence"), &mut bytes, |out| server::presence(out, room, count, events));
                ends.push(bytes.len() as u32);
            }
            Broadcast::Members(roster) => {
                object(form, named("members"), &mut bytes, |out| server::members(out, None, room, &roster));
                ends.push(bytes.len() as u32);
            }
        }
        Encoded { bytes: Rc::new(bytes), ends }
    }
}

/// An event that moves no cursor.
pub fn named(name: &'static str) -> Event<'static> {
    Event { name: Some(name), cursor: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Author, Body, Name, Seq, WallMillis};

    /// Each form once, however many take it; and none that nobody takes.
    #[test]
    fn a_form_is_encoded_when_somebody_takes_it() {
        let room = RoomId::parse("r").unwrap();
        let author = Author { member: None, name: Name::parse("a").unwrap() };
        let live = |seq| {
            let (room, author, body) = (room.clone(), author.clone(), Body::checked("{\n\"a\":\n1\n}".into()));
            Live::Message(Message { room, seq: Seq(seq), at: WallMillis(5), author, body })
        };
        let list = [live(7), live(8)];
        let encoding = Encoding::new(&room, Broadcast::Live(&list));
        let epoch = Epoch("k3f9".into());
        assert!(encoding.frames.get().is_none() && encoding.events.get().is_none());
        let (all, start, end) = encoding.part(Form::Events, &epoch, 0..2);
        assert_eq!((start, end as usize), (0, all.len()));
        let (again, start, end) = encoding.part(Form::Events, &epoch, 1..2);
        assert!(Rc::ptr_eq(all, again));
        let text = String::from_utf8(again[start as usize..end as usize].to_vec()).unwrap();
        assert!(text.starts_with("id: k3f9:8\ndata: {\"type\":\"message\",") && text.ends_with("}\n\n"), "{text}");
        assert!(encoding.frames.get().is_none(), "no socket is there");
        let (frames, _, end) = encoding.part(Form::Frames, &epoch, 0..2);
        assert_eq!((frames[0], end as usize), (0x81, frames.len()));
        let (lines, start, end) = encoding.part(Form::Lines, &epoch, 1..2);
        let text = String::from_utf8(lines[start as usize..end as usize].to_vec()).unwrap();
        assert!(text.starts_with("{\"type\":\"message\",") && text.ends_with("\"body\":{ \"a\": 1 }}\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
    }
}
