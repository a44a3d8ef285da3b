//! The hub itself: its limits, its state, and the requests that clients make of it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::clients::{Clients, HubError, Live, Notice, PresenceEvent, PresenceKind, Present};
use super::headcount::{Change, Timer};
use super::limits::HubLimits;
use super::log::Incarnation;
use super::member::{Joining, Member, State, Wait};
use super::reads::Reads;
use super::removal::Removal;
use super::requests::{Entry, Said};
use super::room::Room;
use super::session::{Absences, Became, Membership, SESSION_BYTES, Session, Sessions};
use super::tail::Tails;
use super::turns::Turns;
use crate::access::Operation;
use crate::store::{Append, NO_ID, Parked, Purpose, Read, Span, Standing, StoreRequest, Ticket};
use crate::types::{Body, Epoch, Era, Millis, RoomId, Seq, SessionId, SessionSlot};

/// Bytes of a room besides its members and messages.
const ROOM_BYTES: usize = size_of::<Room>() + 3 * size_of::<RoomId>() + RoomId::MAX;

/// Bytes of one member of a room.
const MEMBER_BYTES: usize = size_of::<Membership>() + size_of::<Member>();

/// Bytes of one membership, including a room of its own and one queued read.
pub const MEMBERSHIP_BYTES: usize = size_of::<Membership>()
    + size_of::<Member>()
    + size_of::<Joining>()
    + size_of::<Room>()
    + 2 * size_of::<RoomId>()
    + RoomId::MAX
    + size_of::<Read>();

#[derive(Clone)]
pub struct Hub {
    pub(super) limits: HubLimits,
    pub(super) epoch: Epoch,
    /// The incarnation of most rooms, shared by them.
    pub(super) first: Arc<Incarnation>,
    pub(super) rooms: HashMap<RoomId, Room>,
    pub(super) sessions: Sessions,
    pub(super) by_id: HashMap<SessionId, SessionSlot>,
    pub(super) absences: Absences,
    /// Sessions that did not come back, for the store to keep.
    pub(super) parks: Vec<Parked>,
    /// What became of sessions, for the store.
    pub(super) became: Vec<Became>,
    pub(super) reads: Reads,
    pub(super) appends: Vec<Append>,
    /// Undecided appends of sessions, by room. The room may have no member any more.
    pub(super) appending: HashMap<RoomId, u32>,
    pub(super) removal: Removal,
    /// Rooms with something to tell, in the order in which they were marked.
    pub(super) dirty: VecDeque<RoomId>,
    /// The last turn has left something to tell.
    pub(super) is_behind: bool,
    /// The times at which large rooms tell their count, or go on after a rest.
    pub(super) counts: BTreeSet<(Millis, RoomId)>,
    /// Members to retry at `retry_at`: their read failed or brought nothing, or their client took no roster.
    pub(super) stalled: Vec<(SessionSlot, RoomId)>,
    pub(super) retry_at: Option<Millis>,
    pub(super) next_stay: u32,
    /// The members of all rooms.
    pub(super) memberships: usize,
    pub(super) tails: Tails,
    /// Bytes of messages and signals that rooms are still to tell after the last turn.
    pub(super) untold: usize,
    pub(super) turns: Turns,
    /// The latest time that a caller passed in.
    pub(super) now: Millis,
}

impl Hub {
    pub fn new(limits: HubLimits, epoch: Epoch) -> Hub {
        Hub {
            turns: Turns::new(&limits),
            limits,
            first: Arc::new(Incarnation::new(&epoch, Era::FIRST)),
            epoch,
            rooms: HashMap::new(),
            sessions: Sessions::default(),
            by_id: HashMap::new(),
            absences: Absences::default(),
            parks: Vec::new(),
            became: Vec::new(),
            reads: Reads::default(),
            appends: Vec::new(),
            appending: HashMap::new(),
            removal: Removal::default(),
            dirty: VecDeque::new(),
            is_behind: false,
            counts: BTreeSet::new(),
            stalled: Vec::new(),
            retry_at: None,
            next_stay: 0,
            memberships: 0,
            tails: Tails::default(),
            untold: 0,
            now: Millis::default(),
        }
    }

    // Looking.

    pub fn limits(&self) -> &HubLimits {
        &self.limits
    }

    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Returns the number of rooms that have a member.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Returns the bytes of memory that sessions, rooms, members and the messages kept of rooms take.
    pub fn memory(&self) -> usize {
        let sessions = self.sessions.len() * SESSION_BYTES;
        let rooms = self.rooms.len() * ROOM_BYTES + self.memberships * MEMBER_BYTES;
        sessions + rooms + self.tails.bytes() + self.untold
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns all sessions, attached and detached.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionSlot, &Session)> {
        self.sessions.iter()
    }

    /// Returns the number of appends that are not with the store yet, and the bytes of their bodies: those held back
    /// until `joined`, and those of this turn.
    pub fn held(&self) -> (usize, usize) {
        let joining = |(slot, session): (SessionSlot, &Session)| -> Vec<&Joining> {
            let members = session.rooms.iter().filter_map(move |m| self.member(slot, &m.room));
            members.filter_map(Member::joining).collect()
        };
        let sends = self.sessions().flat_map(joining).flat_map(|joining| &joining.sends).chain(&self.appends);
        sends.fold((0, 0), |(count, bytes), append| (count + 1, bytes + append.body.len()))
    }

    pub fn session(&self, slot: SessionSlot) -> Option<&Session> {
        self.sessions.get(slot)
    }

    /// Returns the session's member in a room.
    pub(super) fn member(&self, slot: SessionSlot, room: &RoomId) -> Option<&Member> {
        let seat = self.session(slot)?.seat(room)?;
        self.rooms.get(room)?.members.get(seat)
    }

    /// Returns whether the session is in this room.
    pub fn is_member(&self, slot: SessionSlot, room: &RoomId) -> bool {
        self.session(slot).is_some_and(|s| s.membership(room).is_some())
    }

    /// Returns the number of a room's members, as many of them as fit a page, and whether there are more.
    pub fn roster(&self, room: &RoomId) -> (usize, Vec<Present>, bool) {
        let Some(room) = self.rooms.get(room) else { return (0, Vec::new(), false) };
        let (members, more) = room.roster(&self.limits, &self.sessions);
        (room.count(), members, more)
    }

    /// Returns the last seq queued to the session, for each room whose `joined` it has.
    pub fn heads(&self, slot: SessionSlot) -> impl Iterator<Item = (&RoomId, Seq)> {
        let rooms = self.session(slot).map(|s| s.rooms.as_slice()).unwrap_or_default();
        rooms.iter().filter_map(|m| {
            let member = self.rooms.get(&m.room)?.members.get(m.seat as usize)?;
            if member.joining().is_some() { None } else { Some((&m.room, member.cursor()?)) }
        })
    }

    /// Returns the bytes of messages that each room keeps in memory: the newest, and those read from the log lately;
    /// and whether members wait for their turn to get them. For tests.
    pub fn kept_in_memory(&self) -> impl Iterator<Item = (&RoomId, usize, usize, bool)> {
        self.rooms.values().map(|room| (&room.id, room.log.tail.bytes(), room.log.past.bytes(), room.log.is_in_line()))
    }

    /// Returns the number of reads and appends without an answer, and of members to retry. For tests.
    pub fn pending(&self) -> usize {
        self.reads.len() + self.appends.len() + self.appending.len() + self.stalled.len()
    }

    /// Returns until when rooms rest that have something to tell: the latest of those times. For tests.
    pub fn rests_until(&self) -> Option<Millis> {
        let (now, batch_bytes) = (self.now, self.limits.batch_bytes);
        let has_something = |room: &&Room| room.agenda.has_something() || room.headcount.change == Change::Untold;
        let until = |room: &Room| room.agenda.rests_until(now, batch_bytes);
        self.rooms.values().filter(has_something).filter_map(until).max()
    }

    /// Returns when to call [`Hub::handle_time`] and [`Hub::handle_absences`] next.
    pub fn deadline(&self) -> Option<Millis> {
        let count = self.counts.first().map(|(at, _)| *at);
        let renewal = self.removal.deadline().filter(|_| !self.rooms.is_empty());
        [count, self.retry_at, self.absences.deadline(), renewal].into_iter().flatten().min()
    }

    /// Checks the invariants that hold between any two calls, for tests.
    ///
    /// # Errors
    /// Describes the first that does not hold.
    pub fn check(&self) -> Result<(), String> {
        let mut memberships = 0usize;
        for (slot, session) in self.sessions.iter() {
            for membership in &session.rooms {
                memberships += 1;
                let room = self.rooms.get(&membership.room).ok_or_else(|| format!("{} is gone", membership.room))?;
                let member = room.members.get(membership.seat as usize).ok_or("a seat beyond the members")?;
                if member.session != slot || member.client != session.client {
                    return Err(format!("seat {} of {} is another's", membership.seat, room.id));
                }
                if matches!(member.state, State::Away { .. }) != session.is_detached() {
                    return Err(format!(
                        "a member of {} is away, and its session is not, or the other way round",
                        room.id
                    ));
                }
                let retries = self.stalled.iter().any(|(s, r)| *s == slot && *r == room.id);
                if member.joining().is_some() && !member.waits() && !member.waits_for_turn() && !retries {
                    return Err(format!("nothing will end a join of {}", room.id));
                }
                if member.waits() && room.log.may_read() {
                    return Err(format!("a member of {} waits for nothing", room.id));
                }
                if member.waits_for_turn() && !room.log.is_in_line() {
                    return Err(format!("a member of {} waits for a turn that never comes", room.id));
                }
                if member.roster_due() && !room.agenda.owes_roster() {
                    return Err(format!("a live member of {} waits for the roster", room.id));
                }
            }
        }
        if memberships != self.memberships {
            return Err(format!("the sessions are in {memberships} rooms, {} are counted", self.memberships));
        }
        // This walk yields only sums and a verdict, so its order does not matter.
        #[allow(clippy::iter_over_hash_type)]
        for room in self.rooms.values() {
            if room.members.is_empty() {
                return Err(format!("{} has no member", room.id));
            }
            if room.log.is_in_line() && !self.turns.has(&room.id) {
                return Err(format!("{} is not in the line in which it waits", room.id));
            }
            let is_resting = room.agenda.last_rest().is_some_and(|at| self.counts.contains(&(at, room.id.clone())));
            room.agenda.check(is_resting).map_err(|fault| format!("{}: {fault}", room.id))?;
            let follows = |m: &&Member| self.session(m.session).is_some_and(|s| s.follows);
            if room.members.iter().filter(follows).count() != room.headcount.followers {
                return Err(format!("{} does not know who only listens", room.id));
            }
            memberships = memberships.checked_sub(room.members.len()).ok_or("a member without a session")?;
        }
        self.tails.check(&self.rooms)?;
        let detached = self.sessions.iter().filter(|(_, s)| s.is_detached()).count();
        if detached != self.absences.len() || self.by_id.len() != self.sessions.len() {
            return Err(format!("{detached} sessions are detached, {} are waited for", self.absences.len()));
        }
        if memberships == 0 { Ok(()) } else { Err("a membership without a member".into()) }
    }

    // Feeding.

    /// Applies new limits from the next decision on. A room applies `presence_max` when a member next comes or goes.
    pub fn set_limits(&mut self, limits: HubLimits) {
        self.limits = limits;
    }

    /// Joins a room, and creates it for its first member. `joined` follows at once if the room's head is known and
    /// nothing has to be read, otherwise with the store's answer.
    ///
    /// # Errors
    /// [`HubError::AlreadyJoined`], [`HubError::TooManyRooms`], [`HubError::Denied`].
    pub fn handle_join(
        &mut self,
        slot: SessionSlot,
        id: Option<u64>,
        entry: Entry,
        clients: &mut impl Clients,
    ) -> Result<(), HubError> {
        let Entry { room: room_id, start, presence, right } = entry;
        let limit = self.limits.rooms_per_session;
        let Some(session) = self.sessions.get_mut(slot) else { return Err(HubError::NotJoined) };
        if session.membership(&room_id).is_some() {
            return Err(HubError::AlreadyJoined);
        }
        Operation::Join.check(&session.who, right).map_err(HubError::Denied)?;
        if session.rooms.len() >= limit {
            return Err(HubError::TooManyRooms { limit });
        }
        let (stay, first) = (&mut self.next_stay, &self.first);
        let room = self.rooms.entry(room_id).or_insert_with_key(|id| {
            *stay = stay.wrapping_add(1);
            Room::new(id.clone(), *stay, first.clone())
        });
        // Not the request's own copy of the text: thousands of idle members would keep thousands of copies.
        let room_id = room.id.clone();
        let seat = room.members.len();
        room.members.push(Member {
            session: slot,
            member: session.member,
            client: session.client,
            presence,
            state: State::Joining(Box::new(Joining { id, start, sends: Vec::new(), kept: None, wait: Wait::Nothing })),
        });
        self.memberships += 1;
        if !session.follows && !std::mem::replace(&mut session.was_in_room, true) && session.generation > 0 {
            let standing = Standing::Presented(session.generation);
            self.became.push(Became { session: session.id, standing, client: session.client });
        }
        session.rooms.reserve_exact(1);
        session.rooms.push(Membership { room: room_id.clone(), seat: seat as u32, right });
        if session.follows {
            room.headcount.followers += 1;
        } else {
            let event = PresenceEvent { kind: PresenceKind::Join, member: session.member, name: session.name.clone() };
            room.presence_changed(event, &mut self.dirty);
        }
        self.proceed(&room_id, seat, 0, clients);
        Ok(())
    }

    /// Leaves a room, which is removed with its last member.
    ///
    /// # Errors
    /// [`HubError::NotJoined`].
    pub fn handle_leave(
        &mut self,
        slot: SessionSlot,
        id: Option<u64>,
        room: &RoomId,
        clients: &mut impl Clients,
    ) -> Result<(), HubError> {
        let client = self.session(slot).map(|s| s.client).ok_or(HubError::NotJoined)?;
        let member = self.remove_member(slot, room).ok_or(HubError::NotJoined)?;
        if let Some(Joining { id: Some(join), .. }) = member.joining() {
            // Every request gets an answer, even a join that was never completed.
            clients.tell(client, Notice::Refused { id: Some(*join), error: HubError::NotJoined });
        }
        clients.tell(client, Notice::Left { id, room, removed: None });
        Ok(())
    }

    /// Sends a member's message to the store; the room gets it once it is committed. Before `joined` the message is
    /// held back. Every accepted send reaches the store and is answered.
    ///
    /// # Errors
    /// [`HubError::NotJoined`], [`HubError::Denied`].
    pub fn handle_send(
        &mut self,
        slot: SessionSlot,
        id: Option<u64>,
        room: RoomId,
        said: Said,
    ) -> Result<(), HubError> {
        let Said { key, body, sealed, at, payer, making, needs } = said;
        let session = self.sessions.get(slot).ok_or(HubError::NotJoined)?;
        let Membership { seat, right, .. } = session.membership_in(&room).ok_or(HubError::NotJoined)?;
        Operation::Send.check(&session.who, *right).map_err(HubError::Denied)?;
        let seat = *seat as usize;
        let ticket = Ticket::new(session.client, Purpose::Send, id.unwrap_or(NO_ID));
        let append = Append {
            ticket: ticket.paid_by(payer).making(making).needing(needs),
            room,
            author: session.author(),
            key: key.map(|key| session.scoped(key)),
            body,
            sealed,
            // Decided when it goes.
            era: None,
            at,
        };
        let member = self.rooms.get_mut(&append.room).and_then(|room| room.members.get_mut(seat));
        match member.map(|m| &mut m.state) {
            Some(State::Joining(joining)) => joining.sends.push(append),
            _ => self.append(append),
        }
        Ok(())
    }

    /// Publishes a message from outside any session.
    pub fn handle_publish(&mut self, append: Append) {
        self.append(append);
    }

    /// Relays a signal to the other members; it is not stored.
    ///
    /// # Errors
    /// [`HubError::NotJoined`], [`HubError::Denied`].
    pub fn handle_signal(&mut self, slot: SessionSlot, room: &RoomId, body: Body) -> Result<(), HubError> {
        let session = self.sessions.get(slot).ok_or(HubError::NotJoined)?;
        let right = session.membership_in(room).ok_or(HubError::NotJoined)?.right;
        Operation::Signal.check(&session.who, right).map_err(HubError::Denied)?;
        let room = self.rooms.get_mut(room).ok_or(HubError::NotJoined)?;
        room.say(Live::Signal { from: session.author(), body }, &mut self.dirty);
        Ok(())
    }

    /// Requests a page of a room's log from the store.
    pub fn handle_read(&mut self, ticket: Ticket, room: RoomId, span: Span, limit: u32) {
        let upto = self.rooms.get(&room).map_or(Seq::ZERO, |r| r.log.head);
        self.reads.push(Read { ticket, room, span, limit, bytes: self.limits.page_bytes as u32, upto });
    }

    /// Resumes a session's lagging members: its client's queue has room again.
    pub fn handle_drained(&mut self, slot: SessionSlot, clients: &mut impl Clients) {
        let count = self.session(slot).map_or(0, |s| s.rooms.len());
        for index in 0..count {
            let Some(room) = self.session(slot).and_then(|s| s.rooms.get(index)).map(|m| m.room.clone()) else {
                return;
            };
            self.read_on(slot, &room, clients);
        }
    }

    /// Fires the timers that are due at `now`, but for those of absent sessions: see [`Hub::handle_absences`].
    pub fn handle_time(&mut self, now: Millis, clients: &mut impl Clients) {
        self.now = now;
        while self.counts.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.counts.pop_first() else { break };
            if let Some(room) = self.rooms.get_mut(&id) {
                room.headcount.timer = Timer::Idle;
                room.mark_dirty(&mut self.dirty);
            }
        }
        self.retry(now, clients);
        self.renew_use();
    }

    // Draining.

    /// Returns the next request for the store. Any call may have made one possible, so call this at the end of each
    /// turn.
    pub fn poll_request(&mut self) -> Option<StoreRequest> {
        let (rooms, removal) = (&self.rooms, &self.removal);
        let is_wanted = |read: &Read| Hub::is_wanted(rooms, read);
        let is_held = |read: &Read| removal.holds(&read.room);
        self.reads.poll(self.limits.reads_in_flight, is_wanted, is_held).map(StoreRequest::Read)
    }

    /// Drains the appends of this turn, in order, except those to rooms whose removal is under way. Pages and
    /// departures release some, too, so call this at the end of each turn.
    pub fn poll_appends(&mut self) -> impl Iterator<Item = Append> {
        let removal = &self.removal;
        self.appends.extract_if(.., |append| !removal.holds(&append.room))
    }

    /// Ends the turn: fans out rooms with something to tell, then lets members catch up that wait for it. Each of the
    /// two goes as far as this much `work` allows, in deliveries, and `delivery_budget` at most; the next turn goes
    /// on. Returns the work done.
    pub fn end_turn(&mut self, now: Millis, work: usize, clients: &mut impl Clients) -> usize {
        self.now = now;
        let work = work.min(self.limits.delivery_budget).max(1);
        let turn = self.turns.number();
        let mut done = 0;
        let mut unfinished = Vec::new();
        while done < work {
            let Some(id) = self.dirty.pop_front() else { break };
            // A room that was removed and created again meanwhile is in the line twice.
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            if !room.agenda.leave_line() {
                continue;
            }
            if let Some(until) = room.agenda.rests_until(now, self.limits.batch_bytes) {
                room.agenda.weigh(&mut self.untold);
                self.counts.insert((until, id));
                continue;
            }
            let fanned_out = room.fan_out(now, &self.limits, &self.sessions, (turn, work - done), clients);
            if let Some(at) = room.headcount.arm() {
                self.counts.insert((at, id.clone()));
            }
            if fanned_out.lagging {
                room.line_up(&mut self.turns);
            }
            room.agenda.weigh(&mut self.untold);
            done += fanned_out.deliveries;
            self.tails.touch(&id, &mut self.rooms, self.limits.tail_bytes_total);
            if fanned_out.more {
                unfinished.push(id);
            }
        }
        // After all rooms: a member that catches up from memory at once may be owed a roster, and a room speaks once a
        // turn.
        done += self.serve_turns(clients);
        for id in unfinished {
            if let Some(room) = self.rooms.get_mut(&id) {
                room.mark_dirty(&mut self.dirty);
            }
        }
        self.turns.renew(work);
        self.is_behind = !self.dirty.is_empty();
        done
    }

    /// Returns whether the end of the next turn has something to do.
    pub fn is_unfinished(&self) -> bool {
        !self.dirty.is_empty() || !self.turns.is_empty()
    }

    /// Returns whether a room is known to have had messages. Without members here, nothing is known of it.
    pub fn has_messages(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|room| room.log.head > Seq::ZERO)
    }

    /// Returns whether the last turn has left something to tell, and this room has something to tell. Nothing more is
    /// to be said there until it has.
    pub fn is_behind(&self, room: &RoomId) -> bool {
        self.is_behind && self.rooms.get(room).is_some_and(|room| !room.agenda.live().is_empty())
    }

    // Helpers.

    /// Removes a session from a room, and the room with its last member. Messages that the member sent while joining
    /// still go to the store.
    pub(super) fn remove_member(&mut self, slot: SessionSlot, room_id: &RoomId) -> Option<Member> {
        let session = self.sessions.get_mut(slot)?;
        let seat = session.rooms.swap_remove(session.membership(room_id)?).seat as usize;
        let event = PresenceEvent { kind: PresenceKind::Leave, member: session.member, name: session.name.clone() };
        let follows = session.follows;
        let room = self.rooms.get_mut(room_id)?;
        room.headcount.followers -= usize::from(follows);
        self.memberships -= 1;
        let (mut member, taken) = room.vacate(seat);
        for seat in taken {
            if let Some(moved) = room.members.get(seat)
                && let Some(session) = self.sessions.get_mut(moved.session)
                && let Some(membership) = session.rooms.iter_mut().find(|m| m.room == *room_id)
            {
                membership.seat = seat as u32;
            }
        }
        if room.members.is_empty() {
            if room.headcount.timer == Timer::Armed || room.agenda.last_rest().is_some() {
                self.counts.retain(|(_, id)| id != room_id);
            }
            self.tails.forget(room);
            room.agenda.weigh_off(&mut self.untold);
            self.rooms.remove(room_id);
        } else if !follows {
            room.presence_changed(event, &mut self.dirty);
        }
        if let State::Joining(joining) = &mut member.state {
            for append in std::mem::take(&mut joining.sends) {
                self.append(append);
            }
        }
        Some(member)
    }
}
