//! The hub: rooms, members, sessions, and delivery by cursor. Pure: it is fed (`handle_*`) and drained (`poll_*`,
//! `end_turn`), and knows clients through [`Clients`] only: no socket, no JSON, no clock, no file.
//!
//! A room is in the map from the first join to the last leave and no longer; the map's entry is made in the join itself,
//! so that two requests for one id can only meet one entry. Every member has a cursor, the last seq queued to it; fan-out
//! gives seq n to cursor n-1 only, and whoever stands further back reads the log until it is live.

mod clients;
mod reads;
mod room;

use std::collections::{BTreeSet, HashMap, VecDeque};

pub use clients::{Broadcast, Clients, Delivery, HubError, Live, Notice, PresenceEvent, PresenceKind, Roster};
use reads::Reads;
use room::{Joining, Member, Room, State};

use crate::store::{
    Append, Appended, NO_ID, Outcome, Page, Purpose, Read, ReadFailed, Scope, ScopedKey, Span, StoreRequest, Ticket,
};
use crate::types::{Author, Body, ConnId, Digest, Epoch, MemberId, Millis, Name, RoomId, Seq, SessionId, WallMillis};

/// A session's place in the hub, for as long as it lives.
pub type SessionKey = u32;

/// What the hub keeps within (DESIGN: "Bounds").
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub rooms_per_session: usize,
    /// A room of more members sends only counts.
    pub presence_max: usize,
    /// A page of history or members is cut here, in bytes.
    pub page_bytes: usize,
    /// Messages of a page.
    pub page_messages: u32,
    pub reads_in_flight: usize,
    /// Deliveries of one turn; the rest waits for the next.
    pub delivery_budget: usize,
}

/// Where in a room's log a member begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From now on.
    Now,
    /// After this seq of this epoch (of the current one, if none is named).
    After { seq: Seq, epoch: Option<Box<str>> },
    /// With the newest so many.
    Last(u32),
}

/// What a member wants to hear of others coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Full,
    Count,
    Off,
}

/// What outlives a connection: who one is, and the rooms one is in.
pub struct Session {
    pub id: SessionId,
    pub member: MemberId,
    pub name: Name,
    pub client: ConnId,
    rooms: Vec<Membership>,
}

struct Membership {
    room: RoomId,
    /// Where the member stands in the room's list.
    slot: u32,
}

impl Session {
    fn membership(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|m| m.room == *room)
    }

    fn author(&self) -> Author {
        Author { member: Some(self.member), name: self.name.clone() }
    }
}

pub struct Hub {
    limits: HubLimits,
    epoch: Epoch,
    rooms: HashMap<RoomId, Room>,
    sessions: slab::Slab<Session>,
    reads: Reads,
    appends: Vec<Append>,
    /// Rooms with something to tell, in the order in which they got it.
    dirty: VecDeque<RoomId>,
    /// When large rooms tell their count.
    counts: BTreeSet<(Millis, RoomId)>,
    /// Members whose read failed; tried again at `retry_at`.
    stalled: Vec<(SessionKey, RoomId)>,
    retry_at: Option<Millis>,
    next_visit: u32,
}

/// Milliseconds until a failed read of the log is tried again.
const RETRY: u64 = 1000;

fn visit_tag(session: SessionKey, visit: u32) -> u64 {
    u64::from(session) << 32 | u64::from(visit)
}

impl Hub {
    pub fn new(limits: HubLimits, epoch: Epoch) -> Hub {
        Hub {
            limits,
            epoch,
            rooms: HashMap::new(),
            sessions: slab::Slab::new(),
            reads: Reads::default(),
            appends: Vec::new(),
            dirty: VecDeque::new(),
            counts: BTreeSet::new(),
            stalled: Vec::new(),
            retry_at: None,
            next_visit: 0,
        }
    }

    // Looking.

    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// How many rooms somebody is in.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key as usize)
    }

    /// Is the session in this room?
    pub fn is_member(&self, key: SessionKey, room: &RoomId) -> bool {
        self.session(key).is_some_and(|s| s.membership(room).is_some())
    }

    /// A room's members: how many, as many of them as a page holds, and whether that is not all.
    pub fn roster(&self, room: &RoomId) -> (usize, Vec<(MemberId, Name)>, bool) {
        let Some(room) = self.rooms.get(room) else { return (0, Vec::new(), false) };
        let (members, more) = room.roster(&self.limits, &self.sessions);
        (room.members.len(), members, more)
    }

    /// The last seq queued to the session in each of its rooms that it has joined.
    pub fn heads(&self, key: SessionKey) -> impl Iterator<Item = (&RoomId, Seq)> {
        let rooms = self.session(key).map(|s| s.rooms.as_slice()).unwrap_or_default();
        rooms.iter().filter_map(|m| {
            let member = self.rooms.get(&m.room)?.members.get(m.slot as usize)?;
            (member.state != State::Joining).then_some((&m.room, member.cursor))
        })
    }

    /// When [`Hub::handle_time`] wants to be called.
    pub fn deadline(&self) -> Option<Millis> {
        let count = self.counts.first().map(|(at, _)| *at);
        [count, self.retry_at].into_iter().flatten().min()
    }

    /// The invariants that hold between any two calls, for tests: a description of the first that does not.
    pub fn check(&self) -> Result<(), String> {
        let mut memberships = 0usize;
        for (key, session) in &self.sessions {
            for membership in &session.rooms {
                memberships += 1;
                let room = self.rooms.get(&membership.room).ok_or(format!("{} is gone", membership.room))?;
                let member = room.members.get(membership.slot as usize).ok_or("a slot beyond the members")?;
                if member.session as usize != key || member.client != session.client {
                    return Err(format!("slot {} of {} is another's", membership.slot, room.id));
                }
                if (member.state == State::Joining) != member.joining.is_some() {
                    return Err(format!("a member of {} is half joined", room.id));
                }
            }
        }
        // Only sums and a verdict come out of this walk, so its order shows nowhere.
        #[allow(clippy::iter_over_hash_type)]
        for room in self.rooms.values() {
            if room.members.is_empty() {
                return Err(format!("{} has no member", room.id));
            }
            memberships = memberships.checked_sub(room.members.len()).ok_or("a member without a session")?;
        }
        if memberships == 0 { Ok(()) } else { Err("a membership without a member".into()) }
    }

    // Feeding.

    /// A client came: its session begins, in no room.
    pub fn handle_session(&mut self, id: SessionId, member: MemberId, name: Name, client: ConnId) -> SessionKey {
        self.sessions.insert(Session { id, member, name, client, rooms: Vec::new() }) as SessionKey
    }

    /// The client is gone: its session leaves every room and ends. Of a session that ended already: nothing.
    pub fn handle_gone(&mut self, key: SessionKey) {
        while let Some(room) = self.session(key).and_then(|s| s.rooms.last()).map(|m| m.room.clone()) {
            self.remove_member(key, &room);
        }
        self.sessions.try_remove(key as usize);
    }

    /// Joins a room; the room appears here if it is the first to. `joined` follows at once where the room's head is
    /// known and nothing has to be read, else with the store's answer.
    ///
    /// # Errors
    /// [`HubError::AlreadyJoined`], [`HubError::TooManyRooms`].
    pub fn handle_join(
        &mut self,
        key: SessionKey,
        id: Option<u64>,
        room_id: RoomId,
        start: Start,
        presence: Presence,
        clients: &mut impl Clients,
    ) -> Result<(), HubError> {
        let limit = self.limits.rooms_per_session;
        let Some(session) = self.sessions.get_mut(key as usize) else { return Err(HubError::NotJoined) };
        if session.membership(&room_id).is_some() {
            return Err(HubError::AlreadyJoined);
        }
        if session.rooms.len() >= limit {
            return Err(HubError::TooManyRooms { limit });
        }
        let room = self.rooms.entry(room_id.clone()).or_insert_with(|| Room::new(room_id.clone()));
        let slot = room.members.len();
        self.next_visit = self.next_visit.wrapping_add(1);
        room.members.push(Member {
            session: key,
            session_id: session.id,
            client: session.client,
            visit: self.next_visit,
            cursor: Seq::ZERO,
            state: State::Joining,
            presence,
            needs_snapshot: presence == Presence::Full,
            reading: false,
            joining: Some(Box::new(Joining { id, start: start.clone() })),
        });
        session.rooms.reserve_exact(1);
        session.rooms.push(Membership { room: room_id.clone(), slot: slot as u32 });
        let event = PresenceEvent { kind: PresenceKind::Join, member: session.member, name: session.name.clone() };
        presence_changed(room, event, &mut self.dirty);

        let head = room.head;
        let same_epoch = |epoch: &Option<Box<str>>| epoch.as_deref().is_none_or(|e| *e == *self.epoch.0);
        let known = match &start {
            Start::Now => room.head_known,
            Start::After { seq, epoch } => room.head_known && *seq == head && same_epoch(epoch),
            Start::Last(_) => false,
        };
        if known {
            self.complete_join(&room_id, slot, head, true, head, clients);
            return Ok(());
        }
        let (span, limit) = match start {
            Start::Now => (Span::Newest, 0),
            Start::After { seq, epoch } if same_epoch(&epoch) => (Span::After(seq), self.limits.page_messages),
            // Of another log: all that is kept of this one is new to it.
            Start::After { .. } => (Span::After(Seq::ZERO), self.limits.page_messages),
            Start::Last(n) => (Span::Newest, n),
        };
        let member = &mut room.members[slot];
        member.reading = true;
        self.reads.push(Read {
            ticket: member.ticket(),
            room: room_id,
            span,
            limit,
            bytes: self.limits.page_bytes as u32,
            upto: head,
        });
        Ok(())
    }

    /// Leaves a room, which goes from the map with its last member.
    ///
    /// # Errors
    /// [`HubError::NotJoined`].
    pub fn handle_leave(
        &mut self,
        key: SessionKey,
        id: Option<u64>,
        room: &RoomId,
        clients: &mut impl Clients,
    ) -> Result<(), HubError> {
        let client = self.session(key).map(|s| s.client).ok_or(HubError::NotJoined)?;
        if !self.remove_member(key, room) {
            return Err(HubError::NotJoined);
        }
        clients.tell(client, Notice::Left { id, room });
        Ok(())
    }

    /// A member says something: it goes to the store, and to the room when that has committed it.
    ///
    /// # Errors
    /// [`HubError::NotJoined`].
    pub fn handle_send(
        &mut self,
        key: SessionKey,
        id: Option<u64>,
        room: RoomId,
        idempotency: Option<Digest>,
        body: Body,
        at: WallMillis,
    ) -> Result<(), HubError> {
        let session = self.sessions.get(key as usize).ok_or(HubError::NotJoined)?;
        session.membership(&room).ok_or(HubError::NotJoined)?;
        self.appends.push(Append {
            ticket: Ticket { conn: session.client, purpose: Purpose::Send, tag: id.unwrap_or(NO_ID) },
            room,
            author: session.author(),
            key: idempotency.map(|key| ScopedKey { scope: Scope::Session(session.id), key }),
            body,
            at,
        });
        Ok(())
    }

    /// Something is published from outside any session.
    pub fn handle_publish(&mut self, append: Append) {
        self.appends.push(append);
    }

    /// Tells the other members something that is not kept.
    ///
    /// # Errors
    /// [`HubError::NotJoined`].
    pub fn handle_signal(&mut self, key: SessionKey, room: &RoomId, body: Body) -> Result<(), HubError> {
        let session = self.sessions.get(key as usize).ok_or(HubError::NotJoined)?;
        session.membership(room).ok_or(HubError::NotJoined)?;
        let room = self.rooms.get_mut(room).ok_or(HubError::NotJoined)?;
        room.live.push(Live::Signal { from: session.author(), session: session.id, body });
        mark_dirty(room, &mut self.dirty);
        Ok(())
    }

    /// Asks the store for a page of a room's log.
    pub fn handle_read(&mut self, ticket: Ticket, room: RoomId, span: Span, limit: u32) {
        let upto = self.rooms.get(&room).map_or(Seq::ZERO, |r| r.head);
        self.reads.push(Read { ticket, room, span, limit, bytes: self.limits.page_bytes as u32, upto });
    }

    /// The store decided an append: it is acknowledged to its sender, and fanned out at the end of the turn.
    pub fn handle_appended(&mut self, appended: Appended, clients: &mut impl Clients) {
        let Appended { ticket, room, outcome, .. } = appended;
        let id = (ticket.tag != NO_ID).then_some(ticket.tag);
        let (seq, at, duplicate) = match &outcome {
            Outcome::Stored(message) => (message.seq, message.at, false),
            Outcome::Duplicate { seq, at } => (*seq, *at, true),
            Outcome::KeyReused => {
                return clients.tell(ticket.conn, Notice::Refused { id, error: HubError::KeyReused });
            }
            Outcome::Unavailable => {
                return clients.tell(ticket.conn, Notice::Refused { id, error: HubError::StorageUnavailable });
            }
        };
        clients.tell(ticket.conn, Notice::Ack { id, room: &room, seq, at, duplicate });
        if let (Outcome::Stored(message), Some(room)) = (outcome, self.rooms.get_mut(&room)) {
            room.head = room.head.max(message.seq);
            room.head_known = true;
            room.live.push(Live::Message(message));
            mark_dirty(room, &mut self.dirty);
        }
    }

    /// The store read a page.
    pub fn handle_page(&mut self, mut page: Page, clients: &mut impl Clients) {
        self.reads.answered();
        trim(&mut page, self.limits.page_bytes);
        if let Some(room) = self.rooms.get_mut(&page.room) {
            // It may have been overtaken by commits, or have overtaken them.
            room.head = room.head.max(page.head);
            room.head_known = true;
        }
        if page.ticket.purpose != Purpose::Deliver {
            return clients.tell(page.ticket.conn, Notice::Page { page: &page });
        }
        let epoch = self.epoch.clone();
        let Some((room, slot)) = self.find_visit(&page.ticket, &page.room) else { return };
        let room_id = room.id.clone();
        let member = &mut room.members[slot];
        member.reading = false;
        let client = member.client;
        if let Some(joining) = &member.joining {
            let oldest_cursor = Seq(page.oldest.0.saturating_sub(1));
            let (cursor, recovered) = match &joining.start {
                Start::Now => (room.head, true),
                Start::Last(n) => (Seq(page.head.0.saturating_sub(u64::from(*n))).max(oldest_cursor), true),
                Start::After { epoch: Some(named), .. } if **named != *epoch.0 => (oldest_cursor, false),
                Start::After { seq, .. } if *seq > page.head => (page.head, false),
                Start::After { seq, .. } => ((*seq).max(oldest_cursor), *seq >= oldest_cursor),
            };
            let head = room.head;
            self.complete_join(&room_id, slot, cursor, recovered, head, clients);
        }
        let Some(room) = self.rooms.get_mut(&room_id) else { return };
        let member = &mut room.members[slot];
        if page.oldest > member.cursor.next() && page.head > member.cursor {
            let from = page.oldest;
            clients.tell(client, Notice::Gap { room: &room_id, after: member.cursor, from });
            member.cursor = Seq(from.0 - 1);
        }
        // A page that begins further on than the cursor (the newest so many did not fit) is read again from there.
        let skip = page.messages.partition_point(|m| m.seq <= member.cursor);
        let fresh = &page.messages[skip..];
        if fresh.first().is_some_and(|m| m.seq == member.cursor.next()) {
            clients.tell(client, Notice::CatchUp { messages: fresh });
            member.cursor = fresh.last().map_or(member.cursor, |m| m.seq);
        }
        room.advance(slot, &mut self.reads, (self.limits.page_messages, self.limits.page_bytes as u32), clients);
        if room.snapshot_wanted {
            mark_dirty(room, &mut self.dirty);
        }
    }

    /// The store could not read. A join is refused; who was catching up is served when the store is well again.
    pub fn handle_read_failed(&mut self, failed: ReadFailed, now: Millis, clients: &mut impl Clients) {
        self.reads.answered();
        let id = (failed.ticket.tag != NO_ID).then_some(failed.ticket.tag);
        if failed.ticket.purpose != Purpose::Deliver {
            let error = HubError::StorageUnavailable;
            return clients.tell(failed.ticket.conn, Notice::Refused { id, error });
        }
        let Some((room, slot)) = self.find_visit(&failed.ticket, &failed.room) else { return };
        let member = &mut room.members[slot];
        member.reading = false;
        let (key, client) = (member.session, member.client);
        match member.joining.as_ref().map(|j| j.id) {
            Some(id) => {
                clients.tell(client, Notice::Refused { id, error: HubError::StorageUnavailable });
                self.remove_member(key, &failed.room);
            }
            None => {
                self.stalled.push((key, failed.room));
                self.retry_at.get_or_insert(now.after(RETRY));
            }
        }
    }

    /// The client's queue has room again: whoever lags reads on.
    pub fn handle_drained(&mut self, key: SessionKey, clients: &mut impl Clients) {
        let count = self.session(key).map_or(0, |s| s.rooms.len());
        for index in 0..count {
            let Some(room) = self.session(key).and_then(|s| s.rooms.get(index)).map(|m| m.room.clone()) else { return };
            self.read_on(key, &room, clients);
        }
    }

    /// Time passed: fires what is due.
    pub fn handle_time(&mut self, now: Millis, clients: &mut impl Clients) {
        while self.counts.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.counts.pop_first() else { break };
            if let Some(room) = self.rooms.get_mut(&id) {
                room.count_armed = false;
                mark_dirty(room, &mut self.dirty);
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for (key, room) in std::mem::take(&mut self.stalled) {
                self.read_on(key, &room, clients);
            }
        }
    }

    // Draining.

    /// The next request for the store.
    pub fn poll_request(&mut self) -> Option<StoreRequest> {
        self.reads.poll(self.limits.reads_in_flight).map(StoreRequest::Read)
    }

    /// Moves out the appends of this turn, in order.
    pub fn poll_appends(&mut self) -> impl Iterator<Item = Append> {
        self.appends.drain(..)
    }

    /// Ends the turn: every room with something to tell tells it. True if some had to wait for the next turn.
    pub fn end_turn(&mut self, now: Millis, clients: &mut impl Clients) -> bool {
        let mut deliveries = 0;
        while deliveries < self.limits.delivery_budget {
            let Some(id) = self.dirty.pop_front() else { return false };
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            room.dirty = false;
            deliveries += room.fan_out(now, &self.limits, &self.sessions, clients);
            if room.count_changed && !room.count_armed {
                room.count_armed = true;
                self.counts.insert((room.next_count, id));
            }
        }
        !self.dirty.is_empty()
    }

    // Helpers.

    fn complete_join(
        &mut self,
        room_id: &RoomId,
        slot: usize,
        cursor: Seq,
        recovered: bool,
        head: Seq,
        clients: &mut impl Clients,
    ) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let members = room.members.len();
        let Some(member) = room.members.get_mut(slot) else { return };
        let Some(joining) = member.joining.take() else { return };
        member.cursor = cursor;
        // Live at once where nothing lies between; `handle_page` goes on from here otherwise.
        member.state = State::Lagging;
        let (id, from) = (joining.id, cursor.next());
        let notice = Notice::Joined { id, room: room_id, epoch: &self.epoch, head, from, recovered, members };
        clients.tell(member.client, notice);
        if cursor >= head {
            room.advance(slot, &mut self.reads, (self.limits.page_messages, self.limits.page_bytes as u32), clients);
            mark_dirty(room, &mut self.dirty);
        }
    }

    fn read_on(&mut self, key: SessionKey, room_id: &RoomId, clients: &mut impl Clients) {
        let Some(session) = self.session(key) else { return };
        let Some(slot) = session.membership(room_id).map(|i| session.rooms[i].slot as usize) else { return };
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        if room.members.get(slot).is_some_and(|m| m.state == State::Lagging && !m.reading) {
            room.advance(slot, &mut self.reads, (self.limits.page_messages, self.limits.page_bytes as u32), clients);
            if room.snapshot_wanted {
                mark_dirty(room, &mut self.dirty);
            }
        }
    }

    /// The member that a read was for, if it is still on the same visit.
    fn find_visit(&mut self, ticket: &Ticket, room: &RoomId) -> Option<(&mut Room, usize)> {
        let session = self.sessions.get((ticket.tag >> 32) as usize)?;
        let slot = session.rooms[session.membership(room)?].slot as usize;
        let room = self.rooms.get_mut(room)?;
        let member = room.members.get(slot)?;
        (member.client == ticket.conn && member.visit == ticket.tag as u32).then_some((room, slot))
    }

    /// Takes a session out of a room, and the room out of the map if that was the last. False if it was not in.
    fn remove_member(&mut self, key: SessionKey, room_id: &RoomId) -> bool {
        let Some(session) = self.sessions.get_mut(key as usize) else { return false };
        let Some(index) = session.membership(room_id) else { return false };
        let slot = session.rooms.swap_remove(index).slot as usize;
        let event = PresenceEvent { kind: PresenceKind::Leave, member: session.member, name: session.name.clone() };
        let Some(room) = self.rooms.get_mut(room_id) else { return false };
        room.members.swap_remove(slot);
        if let Some(moved) = room.members.get(slot)
            && let Some(session) = self.sessions.get_mut(moved.session as usize)
            && let Some(membership) = session.rooms.iter_mut().find(|m| m.room == *room_id)
        {
            membership.slot = slot as u32;
        }
        if room.members.is_empty() {
            if room.count_armed {
                self.counts.retain(|(_, id)| id != room_id);
            }
            self.rooms.remove(room_id);
        } else {
            presence_changed(room, event, &mut self.dirty);
        }
        true
    }
}

fn mark_dirty(room: &mut Room, dirty: &mut VecDeque<RoomId>) {
    if !room.dirty {
        room.dirty = true;
        dirty.push_back(room.id.clone());
    }
}

fn presence_changed(room: &mut Room, event: PresenceEvent, dirty: &mut VecDeque<RoomId>) {
    room.events.push(event);
    room.count_changed = true;
    mark_dirty(room, dirty);
}

/// About what a message takes on the wire beside body and name, in bytes.
const ENVELOPE: usize = 140;

/// Cuts a page at so many bytes as it will be sent: at its far end, seen from where the reading began. One message stays.
fn trim(page: &mut Page, page_bytes: usize) {
    let cost = |m: &crate::types::Message| m.body.len() + m.author.name.as_str().len() + ENVELOPE;
    let mut bytes = 0;
    let mut fits = |m| {
        bytes += cost(m);
        bytes <= page_bytes
    };
    let keep = match page.span {
        Span::After(_) => page.messages.iter().take_while(|m| fits(*m)).count(),
        Span::Before(_) | Span::Newest => page.messages.iter().rev().take_while(|m| fits(*m)).count(),
    };
    let keep = keep.max(1);
    if keep < page.messages.len() {
        page.more = true;
        match page.span {
            Span::After(_) => page.messages.truncate(keep),
            Span::Before(_) | Span::Newest => drop(page.messages.drain(..page.messages.len() - keep)),
        }
    }
}

#[cfg(test)]
mod tests;
