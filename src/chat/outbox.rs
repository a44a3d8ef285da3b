//! The hub's view of the connections: renders its notices as frames, events or HTTP answers, and queues them.

use core::ops::Range;

use super::ChatLimits;
use super::encoding::{SharedFrames, named, object};
use super::pages::Pages;
use crate::api::answers;
use crate::api::events::Event;
use crate::conn::{Connection, Encoding, Rate};
use crate::engine::Connections;
use crate::hub::{Broadcast, CaughtUp, Clients, Delivery, HubError, Notice};
use crate::protocol::reasons::{Reason, StoreFault};
use crate::protocol::{ErrorCode, server};
use crate::store::NO_ID;
use crate::types::{ConnId, Epoch, Message, RoomId, Seq};
use crate::ws::code;

/// Bytes that are encoded in about the time of one delivery.
const ENCODED_AT_ONCE: usize = 128;

/// The way out for one call of the hub.
pub struct Outbox<'a> {
    net: &'a mut Connections,
    pages: &'a mut Pages,
    epoch: &'a Epoch,
    /// The error budget of one client.
    errors: Rate,
    /// Why the store refuses, for clients that are refused because of it.
    outage: StoreFault,
}

impl Clients for Outbox<'_> {
    type Frames<'a> = SharedFrames<'a>;

    fn encode<'a>(&mut self, room: &'a RoomId, epoch: &'a Epoch, broadcast: Broadcast<'a>) -> SharedFrames<'a> {
        SharedFrames::new(room, epoch, broadcast, self.net.ledger())
    }

    fn deliver(&mut self, client: ConnId, frames: &SharedFrames<'_>, part: Range<usize>) -> Delivery {
        match self.net.push_shared(client, |encoding| frames.part(encoding, part)) {
            true => Delivery::Taken,
            false => Delivery::Full,
        }
    }

    fn tell(&mut self, client: ConnId, notice: Notice<'_>) {
        let Some(connection) = self.net.get(client) else { return };
        match connection.encoding() {
            Some(encoding) => self.push_notice(client, encoding, notice),
            None if connection.is_http() => self.answer(client, notice),
            None => {}
        }
    }

    fn catch_up(&mut self, client: ConnId, stay: u32, epoch: &Epoch, messages: &[Message]) -> CaughtUp {
        let encoding = self.net.get(client).and_then(Connection::encoding);
        let Some(encoding) = encoding else { return CaughtUp { messages: messages.len(), work: 1 } };
        let part = self.pages.part((stay, encoding), epoch, messages, self.net.ledger());
        self.net.push_page(client, &part.bytes, part.start, part.end);
        CaughtUp { messages: part.messages, work: 1 + part.encoded / ENCODED_AT_ONCE }
    }

    fn has_room(&mut self, client: ConnId) -> bool {
        self.net.has_room(client)
    }
}

/// Counts a refusal against the client's error budget, if the client is at fault. A client that has spent it is closed.
pub fn charge(net: &mut Connections, client: ConnId, refused: ErrorCode, errors: Rate) {
    let now = net.now().mono;
    if refused.is_clients_fault()
        && let Some(open) = net.get_mut(client).and_then(|c| c.open_mut())
        && open.errors.take(errors, now).is_err()
    {
        net.schedule_close(client, code::POLICY, "too many faulty requests");
    }
}

impl<'a> Outbox<'a> {
    /// Returns the way out for one call of the hub.
    pub fn new(
        net: &'a mut Connections,
        pages: &'a mut Pages,
        epoch: &'a Epoch,
        limits: &ChatLimits,
        outage: StoreFault,
    ) -> Outbox<'a> {
        Outbox { net, pages, epoch, errors: limits.errors, outage }
    }

    /// Queues a notice for a client with a WebSocket or an event stream.
    fn push_notice(&mut self, client: ConnId, encoding: Encoding, notice: Notice<'_>) {
        let mut object_of = |event: Event<'_>, write: &mut dyn FnMut(&mut Vec<u8>)| {
            self.net.push_own(client, |encoding, out| object(encoding, event, out, |out| write(out)));
        };
        match notice {
            Notice::Joined { id, room, epoch, head, from, recovered, after, members } => {
                let joined = server::Joined { epoch, head, from, recovered, members };
                // A client that drops before the first message starts here again.
                let cursor = Seq(from.0.saturating_sub(1));
                let event = Event { name: Some("joined"), cursor: Some((epoch, cursor)) };
                object_of(event, &mut |out| server::joined(out, id, room, &joined));
                if encoding == Encoding::Events && !recovered {
                    let after = after.map_or(Seq::ZERO, |after| after.min(cursor));
                    object_of(named("gap"), &mut |out| server::gap(out, room, after, from));
                }
            }
            Notice::Left { id, room, removed } => {
                object_of(named("left"), &mut |out| server::left(out, id, room, removed));
                if encoding == Encoding::Events {
                    self.end_stream(client, HubError::NotJoined);
                }
            }
            Notice::Ack { id, room, seq, at, duplicate } => {
                object_of(named("ack"), &mut |out| server::ack(out, id, room, seq, at, duplicate));
            }
            Notice::Page { page } => {
                let id = (page.ticket.tag != NO_ID).then_some(page.ticket.tag);
                object_of(named("history"), &mut |out| {
                    server::history(out, id, &page.room, &page.messages, page.oldest, page.more);
                });
            }
            Notice::Members { id, room, roster } => {
                object_of(named("members"), &mut |out| server::members(out, id, room, &roster));
            }
            Notice::Lagging { room, behind } => {
                object_of(named("lagging"), &mut |out| server::lagging(out, room, behind));
            }
            Notice::Gap { room, epoch, after, from } => {
                let event = Event { name: Some("gap"), cursor: Some((epoch, Seq(from.0.saturating_sub(1)))) };
                object_of(event, &mut |out| server::gap(out, room, after, from));
            }
            Notice::Refused { error, .. } if encoding == Encoding::Events => self.end_stream(client, error),
            Notice::Refused { id, error } => {
                let refusal = Reason::of(error, self.outage).refusal(id);
                object_of(named("error"), &mut |out| server::error(out, &refusal));
                charge(self.net, client, refusal.code, self.errors);
            }
        }
    }

    /// Ends an event stream whose join failed, so that its client reconnects: otherwise it would be silent for ever.
    fn end_stream(&mut self, client: ConnId, error: HubError) {
        let Reason { code, text, .. } = Reason::of(error, self.outage);
        self.net.push_own(client, |encoding, out| {
            object(encoding, named("bye"), out, |out| server::bye(out, code.as_str(), Some(&text), None));
        });
        self.net.schedule_close(client, code::OVERLOADED, "the stream could not start");
    }

    /// Answers a client that asked by HTTP.
    fn answer(&mut self, client: ConnId, notice: Notice<'_>) {
        match notice {
            Notice::Ack { seq, at, duplicate, .. } => {
                self.net.respond(client, answers::published(seq, at, duplicate), false);
            }
            Notice::Page { page } => {
                self.net.respond(client, answers::messages(page, &self.epoch.of_room(page.era)), false);
            }
            Notice::Refused { error, .. } => {
                self.net.refuse(client, answers::refusal(Reason::of(error, self.outage)), None)
            }
            // Only members get the others, and members have WebSockets or event streams.
            _ => {}
        }
    }
}
