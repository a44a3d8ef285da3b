//! The hub's view of the connections: its values rendered as frames or as HTTP answers, and queued.

use core::ops::Range;
use std::rc::Rc;

use crate::api::answers;
use crate::conn::Shared;
use crate::engine::Connections;
use crate::hub::{Broadcast, Clients, Delivery, Notice};
use crate::protocol::server;
use crate::store::NO_ID;
use crate::types::{ConnId, Epoch, RoomId};
use crate::ws::{begin_text, end_text};

pub struct Outbox<'a> {
    pub net: &'a mut Connections,
    pub epoch: &'a Epoch,
}

/// What a room said in a turn, as frames: encoded once, shared by all queues.
pub struct Frames {
    bytes: Shared,
    /// Where each item ends.
    ends: Vec<u32>,
}

fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mark = begin_text(out);
    write(out);
    end_text(out, mark);
}

/// About what a message takes on the wire beside its body, for the size of the buffer.
const ENVELOPE: usize = 160;

impl Clients for Outbox<'_> {
    type Frames = Frames;

    fn encode(&mut self, room: &RoomId, broadcast: Broadcast<'_>) -> Frames {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        match broadcast {
            Broadcast::Live(list) => {
                let size: usize = list.iter().map(|live| live.body().len() + ENVELOPE).sum();
                bytes.reserve(size);
                ends.reserve(list.len());
                for live in list {
                    frame(&mut bytes, |out| server::live(out, room, live));
                    ends.push(bytes.len() as u32);
                }
            }
            Broadcast::Presence { count, events } => {
                frame(&mut bytes, |out| server::presence(out, room, count, events));
                ends.push(bytes.len() as u32);
            }
            Broadcast::Members(roster) => {
                frame(&mut bytes, |out| server::members(out, None, room, &roster));
                ends.push(bytes.len() as u32);
            }
        }
        Frames { bytes: Rc::new(bytes), ends }
    }

    fn deliver(&mut self, client: ConnId, frames: &Frames, part: Range<usize>) -> Delivery {
        let end = |items: usize| if items == 0 { 0 } else { frames.ends.get(items - 1).copied().unwrap_or(0) };
        match self.net.push_shared(client, &frames.bytes, end(part.start), end(part.end)) {
            true => Delivery::Taken,
            false => Delivery::Full,
        }
    }

    fn tell(&mut self, client: ConnId, notice: Notice<'_>) {
        if self.net.get(client).is_some_and(|c| c.is_http()) {
            return self.answer(client, notice);
        }
        let mut frame_of = |write: &mut dyn FnMut(&mut Vec<u8>)| {
            self.net.push_frames(client, |out| frame(out, |out| write(out)));
        };
        match notice {
            Notice::Joined { id, room, epoch, head, from, recovered, members } => {
                let joined = server::Joined { epoch, head, from, recovered, members };
                frame_of(&mut |out| server::joined(out, id, room, &joined));
            }
            Notice::Left { id, room } => frame_of(&mut |out| server::left(out, id, room)),
            Notice::Ack { id, room, seq, at, duplicate } => {
                frame_of(&mut |out| server::ack(out, id, room, seq, at, duplicate));
            }
            Notice::CatchUp { messages } => self.net.push_frames(client, |out| {
                for message in messages {
                    frame(out, |out| server::message(out, message));
                }
            }),
            Notice::Page { page } => {
                let id = (page.ticket.tag != NO_ID).then_some(page.ticket.tag);
                frame_of(&mut |out| {
                    server::history(out, id, &page.room, &page.messages, page.oldest, page.more);
                });
            }
            Notice::Members { id, room, roster } => frame_of(&mut |out| server::members(out, id, room, &roster)),
            Notice::Lagging { room, behind } => frame_of(&mut |out| server::lagging(out, room, behind)),
            Notice::Gap { room, after, from } => frame_of(&mut |out| server::gap(out, room, after, from)),
            Notice::Refused { id, error } => {
                let refusal = server::refusal(id, error);
                frame_of(&mut |out| server::error(out, &refusal));
            }
        }
    }

    fn has_room(&mut self, client: ConnId) -> bool {
        self.net.has_room(client)
    }
}

impl Outbox<'_> {
    /// The same for a client that asked by HTTP: its one answer.
    fn answer(&mut self, client: ConnId, notice: Notice<'_>) {
        match notice {
            Notice::Ack { seq, at, duplicate, .. } => {
                self.net.respond(client, answers::published(seq, at, duplicate), false);
            }
            Notice::Page { page } => self.net.respond(client, answers::messages(page, self.epoch), false),
            Notice::Refused { error, .. } => self.net.refuse(client, answers::refusal(error)),
            // Only members hear these, and members have sockets.
            _ => {}
        }
    }
}
