//! The hub's view of the connections: its values rendered as frames, as events or as HTTP answers, and queued.

use core::ops::Range;

use super::ChatLimits;
use super::encoding::{Encoding, message, named, object};
use crate::api::answers;
use crate::api::events::Event;
use crate::conn::{Form, Rate};
use crate::engine::Connections;
use crate::hub::{Broadcast, Clients, Delivery, HubError, Notice};
use crate::protocol::reasons::{Reason, StoreFault};
use crate::protocol::{ErrorCode, server};
use crate::store::NO_ID;
use crate::types::{ConnId, Epoch, RoomId, Seq};
use crate::ws::code;

pub struct Outbox<'a> {
    net: &'a mut Connections,
    epoch: &'a Epoch,
    /// Faulty requests that a client may make.
    errors: Rate,
    /// What an unavailable store means here.
    outage: StoreFault,
}

impl Clients for Outbox<'_> {
    type Frames<'a> = Encoding<'a>;

    fn encode<'a>(&mut self, room: &'a RoomId, broadcast: Broadcast<'a>) -> Encoding<'a> {
        Encoding::new(room, broadcast)
    }

    fn deliver(&mut self, client: ConnId, frames: &Encoding<'_>, part: Range<usize>) -> Delivery {
        match self.net.push_shared(client, |form| frames.part(form, self.epoch, part)) {
            true => Delivery::Taken,
            false => Delivery::Full,
        }
    }

    fn tell(&mut self, client: ConnId, notice: Notice<'_>) {
        let Some(connection) = self.net.get(client) else { return };
        match connection.form() {
            Some(form) => self.say(client, form, notice),
            None if connection.is_http() => self.answer(client, notice),
            None => {}
        }
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
        net.doom(client, code::POLICY, "too many faulty requests");
    }
}

impl<'a> Outbox<'a> {
    /// Makes the way out for one call of the hub.
    pub fn new(net: &'a mut Connections, epoch: &'a Epoch, limits: &ChatLimits, outage: StoreFault) -> Outbox<'a> {
        Outbox { net, epoch, errors: limits.errors, outage }
    }

    /// Tells a client that hears frames or events.
    fn say(&mut self, client: ConnId, form: Form, notice: Notice<'_>) {
        let epoch = self.epoch;
        let mut object_of = |event: Event<'_>, write: &mut dyn FnMut(&mut Vec<u8>)| {
            self.net.push_own(client, |form, out| object(form, event, out, |out| write(out)));
        };
        match notice {
            Notice::Joined { id, room, epoch, head, from, recovered, after, members } => {
                let joined = server::Joined { epoch, head, from, recovered, members };
                // Who drops before the first message begins here again.
                let cursor = Seq(from.0.saturating_sub(1));
                let event = Event { name: Some("joined"), cursor: Some((epoch, cursor)) };
                object_of(event, &mut |out| server::joined(out, id, room, &joined));
                if form == Form::Events && !recovered {
                    let after = after.map_or(Seq::ZERO, |after| after.min(cursor));
                    object_of(named("gap"), &mut |out| server::gap(out, room, after, from));
                }
            }
            Notice::Left { id, room } => object_of(named("left"), &mut |out| server::left(out, id, room)),
            Notice::Ack { id, room, seq, at, duplicate } => {
                object_of(named("ack"), &mut |out| server::ack(out, id, room, seq, at, duplicate));
            }
            Notice::CatchUp { messages } => self.net.push_own(client, |form, out| {
                for one in messages {
                    message(form, epoch, out, one);
                }
            }),
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
            Notice::Gap { room, after, from } => {
                let event = Event { name: Some("gap"), cursor: Some((epoch, Seq(from.0.saturating_sub(1)))) };
                object_of(event, &mut |out| server::gap(out, room, after, from));
            }
            Notice::Refused { error, .. } if form == Form::Events => self.end_stream(client, error),
            Notice::Refused { id, error } => {
                let refusal = Reason::of(error, self.outage).refusal(id);
                object_of(named("error"), &mut |out| server::error(out, &refusal));
                charge(self.net, client, refusal.code, self.errors);
            }
        }
    }

    /// A stream whose join came to nothing would be silent for ever: it ends, and its client comes again.
    fn end_stream(&mut self, client: ConnId, error: HubError) {
        let Reason { code, text, .. } = Reason::of(error, self.outage);
        self.net.push_own(client, |form, out| {
            object(form, named("bye"), out, |out| server::bye(out, code.as_str(), Some(&text), None));
        });
        self.net.doom(client, code::OVERLOADED, "the stream could not begin");
    }

    /// The same for a client that asked by HTTP: its one answer.
    fn answer(&mut self, client: ConnId, notice: Notice<'_>) {
        match notice {
            Notice::Ack { seq, at, duplicate, .. } => {
                self.net.respond(client, answers::published(seq, at, duplicate), false);
            }
            Notice::Page { page } => self.net.respond(client, answers::messages(page, self.epoch), false),
            Notice::Refused { error, .. } => {
                self.net.refuse(client, answers::refusal(Reason::of(error, self.outage)), None)
            }
            // Only members hear these, and members have sockets or streams.
            _ => {}
        }
    }
}
