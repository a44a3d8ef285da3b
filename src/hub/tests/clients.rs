//! Clients that record their input, with queues that fill and drain when the test says so.

use core::ops::Range;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::hub::{Broadcast, CaughtUp, Clients, Delivery, HubError, Live, Notice, PresenceEvent, Present};
use crate::store::NO_ID;
use crate::types::{Author, Body, ConnId, Epoch, Message, RoomId};

/// One item that a client received.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Joined { id: Option<u64>, room: RoomId, epoch: String, head: u64, from: u64, recovered: bool, members: usize },
    Left { id: Option<u64>, room: RoomId },
    Ack { id: Option<u64>, room: RoomId, seq: u64, duplicate: bool },
    Message(Message),
    Signal { room: RoomId, from: Author, body: Body },
    Presence { room: RoomId, count: usize, events: Vec<PresenceEvent> },
    Members { room: RoomId, count: usize, members: Vec<Present>, more: bool },
    Page { id: Option<u64>, seqs: Vec<u64>, more: bool },
    Lagging { room: RoomId, behind: u64 },
    Gap { room: RoomId, after: u64, from: u64 },
    Refused { id: Option<u64>, error: HubError },
}

/// Encoded of an encoded item, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    Live,
    Presence,
    Members,
}

pub struct Frames(Rc<Vec<Heard>>);

#[derive(Debug)]
pub struct Inbox {
    pub heard: Vec<Heard>,
    /// Items that the client has not taken yet.
    pub queued: usize,
    /// Deliveries that exceed this bound are refused ...
    pub bound: usize,
    /// ... even by an empty queue.
    pub strict: bool,
    /// All deliveries are refused, though there is room.
    pub deaf: bool,
    wants_drained: bool,
}

#[derive(Default)]
pub struct Fakes {
    pub inboxes: BTreeMap<(u32, u32), Inbox>,
    pub encoded: Vec<(RoomId, Encoded)>,
    pub deliveries: usize,
    /// Pages that were queued.
    pub pages: usize,
    /// The most messages that a page takes at once, if it is bounded.
    pub page: Option<usize>,
}

impl Fakes {
    pub fn open(&mut self, client: ConnId) {
        let inbox =
            Inbox { heard: Vec::new(), queued: 0, bound: usize::MAX, strict: false, deaf: false, wants_drained: false };
        self.inboxes.insert((client.index, client.generation), inbox);
    }

    pub fn close(&mut self, client: ConnId) {
        self.inboxes.remove(&(client.index, client.generation));
    }

    pub fn inbox(&mut self, client: ConnId) -> Option<&mut Inbox> {
        self.inboxes.get_mut(&(client.index, client.generation))
    }

    /// Empties the client's queue. True if the hub asked to be notified of it.
    pub fn drain(&mut self, client: ConnId) -> bool {
        let Some(inbox) = self.inbox(client) else { return false };
        inbox.queued = 0;
        std::mem::take(&mut inbox.wants_drained)
    }

    /// Returns the items encoded since the last call.
    pub fn take_encoded(&mut self) -> Vec<(RoomId, Encoded)> {
        std::mem::take(&mut self.encoded)
    }
}

impl Clients for Fakes {
    type Frames<'a> = Frames;

    fn encode(&mut self, room: &RoomId, _epoch: &Epoch, broadcast: Broadcast<'_>) -> Frames {
        let room = room.clone();
        let (kind, items) = match broadcast {
            Broadcast::Live(list) => {
                let heard = |live: &Live| match live {
                    Live::Message(message) => Heard::Message(message.clone()),
                    Live::Signal { from, body } => {
                        Heard::Signal { room: room.clone(), from: from.clone(), body: body.clone() }
                    }
                };
                (Encoded::Live, list.iter().map(heard).collect())
            }
            Broadcast::Presence { count, events } => {
                (Encoded::Presence, vec![Heard::Presence { room: room.clone(), count, events: events.to_vec() }])
            }
            Broadcast::Members(roster) => {
                let (count, members, more) = (roster.count, roster.members.to_vec(), roster.more);
                (Encoded::Members, vec![Heard::Members { room: room.clone(), count, members, more }])
            }
        };
        self.encoded.push((room, kind));
        Frames(Rc::new(items))
    }

    fn deliver(&mut self, client: ConnId, frames: &Frames, part: Range<usize>) -> Delivery {
        self.deliveries += 1;
        assert!(!part.is_empty(), "an empty delivery");
        let Some(inbox) = self.inbox(client) else { return Delivery::Taken };
        if inbox.deaf || inbox.queued + part.len() > inbox.bound && (inbox.strict || inbox.queued > 0) {
            return Delivery::Full;
        }
        inbox.queued += part.len();
        inbox.heard.extend_from_slice(&frames.0[part]);
        Delivery::Taken
    }

    fn tell(&mut self, client: ConnId, notice: Notice<'_>) {
        let Some(inbox) = self.inbox(client) else { return };
        let before = inbox.heard.len();
        match notice {
            Notice::Joined { id, room, epoch, head, from, recovered, members, .. } => {
                let (room, epoch, head, from) = (room.clone(), epoch.0.to_string(), head.0, from.0);
                inbox.heard.push(Heard::Joined { id, room, epoch, head, from, recovered, members });
            }
            Notice::Left { id, room, removed } => {
                assert!(id.is_some() || removed.is_some(), "it left a room and nobody asked for that");
                inbox.heard.push(Heard::Left { id, room: room.clone() });
            }
            Notice::Ack { id, room, seq, duplicate, .. } => {
                inbox.heard.push(Heard::Ack { id, room: room.clone(), seq: seq.0, duplicate });
            }
            Notice::Page { page } => {
                let seqs = page.messages.iter().map(|m| m.seq.0).collect();
                let id = (page.ticket.tag != NO_ID).then_some(page.ticket.tag);
                inbox.heard.push(Heard::Page { id, seqs, more: page.more });
            }
            Notice::Members { room, roster, .. } => inbox.heard.push(Heard::Members {
                room: room.clone(),
                count: roster.count,
                members: roster.members.to_vec(),
                more: roster.more,
            }),
            Notice::Lagging { room, behind } => inbox.heard.push(Heard::Lagging { room: room.clone(), behind }),
            Notice::Gap { room, after, from, .. } => {
                inbox.heard.push(Heard::Gap { room: room.clone(), after: after.0, from: from.0 });
            }
            Notice::Refused { id, error } => inbox.heard.push(Heard::Refused { id, error }),
        }
        inbox.queued += inbox.heard.len() - before;
    }

    fn catch_up(&mut self, client: ConnId, _stay: u32, _epoch: &Epoch, messages: &[Message]) -> CaughtUp {
        assert!(!messages.is_empty(), "a page of nothing");
        self.pages += 1;
        let count = self.page.unwrap_or(usize::MAX).min(messages.len());
        if let Some(inbox) = self.inbox(client) {
            inbox.heard.extend(messages.iter().take(count).cloned().map(Heard::Message));
            inbox.queued += count;
        }
        CaughtUp { messages: count, work: 1 }
    }

    fn has_room(&mut self, client: ConnId) -> bool {
        let Some(inbox) = self.inbox(client) else { return false };
        let has_room = inbox.queued <= inbox.bound / 4;
        inbox.wants_drained = !has_room;
        has_room
    }
}
