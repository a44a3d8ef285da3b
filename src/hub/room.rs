//! One room: its members with their cursors, and what is to be told to them at the end of the turn. Who stands where is
//! decided here; `fan_out` and `presence` do the telling.

use std::collections::VecDeque;

use super::clients::{Clients, Live, PresenceEvent};
use super::reads::Reads;
use super::{HubLimits, Presence, SessionKey, Start};
use crate::store::{Append, Purpose, Read, Span, Ticket};
use crate::types::{ConnId, Millis, RoomId, Seq, SessionId};

/// A room that somebody is in.
pub struct Room {
    pub id: RoomId,
    /// The last seq that a commit told of, or the log's when the first page was read; meaningful once `head_known`.
    pub head: Seq,
    pub head_known: bool,
    pub members: Vec<Member>,
    /// Those of them that only listen: nobody is told of them.
    pub followers: usize,
    /// What this turn said, in order; messages in rising order of seq.
    pub live: Vec<Live>,
    /// The log holds messages up to `head` that no commit brought here.
    pub unheard: bool,
    /// Joins are held until the store has decided what is on its way to it.
    pub awaits_commit: bool,
    /// Who came and went in this turn.
    pub events: Vec<PresenceEvent>,
    /// The number of members changed since it was last told.
    pub count_changed: bool,
    /// More than `presence_max` members, or so until a moment ago: only counts are told.
    pub is_large: bool,
    /// When a large room may tell its count again, or become a small one.
    pub next_count: Millis,
    /// A deadline for that is set.
    pub count_armed: bool,
    /// A live member is owed the list of members or their number.
    pub roster_owed: bool,
    /// Stands in the hub's list of rooms with something to tell.
    pub dirty: bool,
}

/// One session's presence in the room.
pub struct Member {
    pub session: SessionKey,
    pub session_id: SessionId,
    pub client: ConnId,
    /// Tells this stay from an earlier one of the same session, for answers that come late.
    pub visit: u32,
    /// The last seq queued to the client.
    pub cursor: Seq,
    pub state: State,
    pub presence: Presence,
    /// It missed something of who is here, and is owed the list of members (or their number, if that is all it hears).
    pub owed_roster: bool,
    /// A read for it is on its way.
    pub reading: bool,
    /// Present until `joined` was sent.
    pub joining: Option<Box<Joining>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `joined` is not sent yet: nothing of the room may precede it.
    Joining,
    /// The log is read for it, after its cursor.
    Lagging,
    /// Its cursor stands at the end of what was fanned out.
    Live,
    /// Its client dropped and may come back: nothing is queued.
    Away,
}

pub struct Joining {
    pub id: Option<u64>,
    pub start: Start,
    /// What the member said meanwhile. It goes to the store after `joined`, so that no ack precedes that and the
    /// member hears its own message.
    pub sends: Vec<Append>,
    /// It was a member before, and only its client is new.
    pub resumes: bool,
}

impl Room {
    pub fn new(id: RoomId) -> Room {
        Room {
            id,
            head: Seq::ZERO,
            head_known: false,
            members: Vec::new(),
            followers: 0,
            live: Vec::new(),
            unheard: false,
            awaits_commit: false,
            events: Vec::new(),
            count_changed: false,
            is_large: false,
            next_count: Millis(0),
            count_armed: false,
            roster_owed: false,
            dirty: false,
        }
    }

    /// Puts the room on the list of those with something to tell.
    pub fn mark_dirty(&mut self, dirty: &mut VecDeque<RoomId>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push_back(self.id.clone());
        }
    }

    pub fn presence_changed(&mut self, event: PresenceEvent, dirty: &mut VecDeque<RoomId>) {
        self.events.push(event);
        self.count_changed = true;
        self.mark_dirty(dirty);
    }

    /// How many members there are in the eyes of the others.
    pub fn count(&self) -> usize {
        self.members.len() - self.followers
    }

    /// The seq that a member has to have reached to be live: what lies after it, this turn's fan-out brings.
    pub fn live_from(&self) -> Seq {
        let first = self.live.iter().find_map(|live| match live {
            Live::Message(message) => Some(Seq(message.seq.0.saturating_sub(1))),
            Live::Signal { .. } => None,
        });
        first.unwrap_or(self.head)
    }

    /// Asks for a page for a member.
    pub fn read(&mut self, slot: usize, span: Span, messages: u32, reads: &mut Reads, limits: &HubLimits) {
        let Some(member) = self.members.get_mut(slot) else { return };
        member.reading = true;
        reads.push(Read {
            ticket: member.ticket(),
            room: self.id.clone(),
            span,
            limit: messages,
            bytes: limits.page_bytes as u32,
            upto: self.head,
        });
    }

    /// Makes the member live if its cursor allows; else asks for the next page when the client can take one. True if
    /// the room has something to tell it now.
    pub fn advance(&mut self, slot: usize, reads: &mut Reads, limits: &HubLimits, clients: &mut impl Clients) -> bool {
        let live_from = self.live_from();
        let Some(member) = self.members.get_mut(slot) else { return false };
        if member.cursor >= live_from {
            member.state = State::Live;
            self.roster_owed |= member.owed_roster;
            return member.owed_roster;
        }
        member.state = State::Lagging;
        if !member.reading && clients.has_room(member.client) {
            let after = Span::After(member.cursor);
            self.read(slot, after, limits.page_messages, reads, limits);
        }
        false
    }
}

impl Member {
    pub fn ticket(&self) -> Ticket {
        Ticket { conn: self.client, purpose: Purpose::Deliver, tag: super::visit_tag(self.session, self.visit) }
    }

    /// The client took no more: the log is read for it when it can. It misses who comes and goes meanwhile.
    pub fn lag(&mut self) {
        self.state = State::Lagging;
        self.owed_roster |= self.presence == Presence::Full;
    }
}
