//! Sessions outlive connections. A session is attached to a client; detached when the client drops, with its places in
//! its rooms kept; parked with the store if the client does not come back in time. Tokens are checked before they reach
//! the hub.

use super::answers::may_be_of;
use super::clients::{Clients, HubError, PresenceEvent, PresenceKind, Removed};
use super::member::{Joining, Member, State, Wait};
use super::session::{Absence, Became, Membership, Session};
use super::{Cursor, Entry, Hub, Presence, Start};
use crate::access::{Operation, Who};
use crate::store::{Barred, Parked, Standing, admit};
use crate::types::{ConnId, Millis, Name, Right, RoomId, Seq, SessionClaim, SessionId, SessionSlot};

/// Milliseconds after which a dropped member is shown as away. A shorter drop is not shown at all.
pub const AWAY_AFTER: u64 = 2000;

/// The result of a resumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub slot: SessionSlot,
    /// The client that the session had until now, whose connection is to be closed.
    pub superseded: Option<ConnId>,
}

impl Hub {
    // Looking.

    /// Returns the session with this id, attached or detached.
    pub fn find_session(&self, id: SessionId) -> Option<SessionSlot> {
        self.by_id.get(&id).copied()
    }

    /// Returns the number of detached sessions.
    pub fn detached_count(&self) -> usize {
        self.absences.len()
    }

    // Feeding.

    /// Starts a session for a new client, in no room.
    pub fn handle_session(&mut self, claim: SessionClaim, client: ConnId) -> SessionSlot {
        let SessionClaim { session: id, member, name, generation, private } = claim;
        let session = Session {
            id,
            member,
            name,
            who: Who::Guest,
            client,
            generation,
            token_issued: 0,
            private,
            was_in_room: false,
            follows: false,
            slot_generation: 0,
            rooms: Vec::new(),
            absence: None,
        };
        let slot = self.sessions.insert(session);
        self.by_id.insert(id, slot);
        slot
    }

    /// Sets the name of a session that is in no room. Returns false if it is in one: its members know its name.
    pub fn handle_name(&mut self, slot: SessionSlot, name: Name) -> bool {
        match self.sessions.get_mut(slot) {
            Some(session) if session.is_idle() => {
                session.name = name;
                true
            }
            _ => false,
        }
    }

    /// Starts a session for a client that only listens and keeps its own cursor, in no room.
    pub fn handle_follower(&mut self, claim: SessionClaim, client: ConnId) -> SessionSlot {
        let slot = self.handle_session(claim, client);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.follows = true;
        }
        slot
    }

    /// Notes when the session's last token was issued.
    pub fn handle_token(&mut self, slot: SessionSlot, issued: u64) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.token_issued = issued;
        }
    }

    /// Ends the session of a client that left for good. Does nothing if the session has another client by now.
    pub fn handle_gone(&mut self, slot: SessionSlot, client: ConnId) {
        let Some(session) = self.session(slot).filter(|s| s.client == client) else { return };
        if session.was_in_room {
            self.became.push(Became { session: session.id, standing: Standing::Ended, client });
        }
        self.end_session(slot);
    }

    /// Detaches the session of a client that dropped: it keeps its place in every room for `resume_within`. A session
    /// in no room ends. Does nothing if the session has another client by now.
    pub fn handle_dropped(&mut self, slot: SessionSlot, client: ConnId, now: Millis) {
        self.now = now;
        if self.session(slot).is_none_or(|s| s.client != client) {
            return;
        }
        self.give_up_joins(slot);
        if self.limits.resume_within == 0 || self.session(slot).is_none_or(|s| s.follows || s.is_idle()) {
            return self.end_session(slot);
        }
        for room in self.rooms_of(slot) {
            self.unseat(slot, &room, ConnId::NOBODY, |cursor| State::Away { cursor });
        }
        let (away, until) = (now.after(AWAY_AFTER), now.after(self.limits.resume_within));
        if let Some(session) = self.sessions.get_mut(slot) {
            session.client = ConnId::NOBODY;
            session.absence = Some(Box::new(Absence { away_at: Some(away), until }));
            self.absences.away.insert((away, slot));
            self.absences.until.insert((until, slot));
        }
        while self.absences.len() > self.limits.detached_max {
            let Some((_, oldest)) = self.absences.until.pop_first() else { break };
            self.park(oldest);
        }
    }

    /// Attaches the session `claim` to the returning `client`, whose session `provisional` ends. `parked` is the
    /// store's record of a session that is not here, if it has one, and `standing` what the store knows of it. The
    /// client is who it has shown to be in its provisional session: whether that is whose session this is, the caller
    /// has checked. Once the client has been greeted, call [`Hub::handle_return`].
    ///
    /// # Errors
    /// [`HubError::NotResumable`] where a later generation of the token was presented, or the provisional session
    /// joined a room; [`HubError::SessionEnded`]; [`HubError::UnknownToken`].
    pub fn handle_resume(
        &mut self,
        provisional: SessionSlot,
        client: ConnId,
        claim: SessionClaim,
        parked: Option<&Parked>,
        standing: Option<Standing>,
    ) -> Result<Resumed, HubError> {
        let (id, generation) = (claim.session, claim.generation);
        let known = match self.find_session(id).and_then(|slot| self.session(slot)) {
            Some(session) => Some(Standing::Presented(session.generation)),
            None => parked.map(|parked| Standing::Presented(parked.generation)).max(standing),
        };
        admit(known, generation).map_err(|barred| match barred {
            Barred::Earlier => HubError::NotResumable,
            Barred::Ended => HubError::SessionEnded,
            Barred::Forged => HubError::UnknownToken,
        })?;
        let is_provisional = self.session(provisional).is_some_and(|s| s.client == client && s.is_idle());
        if !is_provisional {
            return Err(HubError::NotResumable);
        }
        let presented = Standing::Presented(generation);
        let who =
            self.sessions.get_mut(provisional).map(|session| std::mem::take(&mut session.who)).unwrap_or_default();
        let Some(slot) = self.find_session(id) else {
            self.end_session(provisional);
            let name = match (&who, parked) {
                (Who::Known(identity), _) => identity.name.clone(),
                // It may have been named after this token was issued, and its client have missed the newer token.
                (Who::Guest, Some(parked)) => parked.name.clone(),
                (Who::Guest, None) => claim.name,
            };
            let slot = self.handle_session(SessionClaim { name, ..claim }, client);
            let was_in_room = parked.is_some() || standing.is_some();
            if let Some(session) = self.sessions.get_mut(slot) {
                session.was_in_room = was_in_room;
                session.who = who;
            }
            if was_in_room && standing != Some(presented) {
                self.became.push(Became { session: id, standing: presented, client });
            }
            return Ok(Resumed { slot, superseded: None });
        };
        if slot != provisional {
            self.end_session(provisional);
        }
        let Some(session) = self.sessions.get_mut(slot) else { return Err(HubError::NotResumable) };
        if session.was_in_room && session.generation != generation {
            self.became.push(Became { session: id, standing: presented, client });
        }
        session.generation = generation;
        session.who = who;
        let before = std::mem::replace(&mut session.client, client);
        let was_shown_away = session.is_shown_away();
        if let Some(absence) = session.absence.take() {
            self.absences.forget(slot, &absence);
        }
        self.give_up_joins(slot);
        if was_shown_away {
            self.announce(slot, PresenceKind::Back);
        }
        let superseded = (before != ConnId::NOBODY && before != client).then_some(before);
        Ok(Resumed { slot, superseded })
    }

    /// Seats a resumed session in its rooms again: in those that the client names, from the cursor that it claims; in
    /// the others, from the last seq queued to it. Each gets a `joined`, as after a join, or a `left` if it may no
    /// longer read the room. `id` is the request's, and `rights` says what it may do in a room.
    pub fn handle_return(
        &mut self,
        slot: SessionSlot,
        id: Option<u64>,
        cursors: Vec<Cursor>,
        parked: Option<Parked>,
        rights: &dyn Fn(&RoomId) -> Option<Right>,
        clients: &mut impl Clients,
    ) {
        let Some(client) = self.session(slot).map(|s| s.client) else { return };
        let mut seats = cursors;
        let parked = parked.map(|p| p.rooms).unwrap_or_default();
        let kept = self.rooms_of(slot).into_iter().filter_map(|room| {
            let cursor = self.member(slot, &room)?.cursor()?;
            Some((room, cursor))
        });
        for (room, seq) in kept.collect::<Vec<_>>().into_iter().chain(parked) {
            if !seats.iter().any(|seat| seat.room == room) {
                seats.push(Cursor { room, epoch: None, seq, presence: None });
            }
        }
        let mut refused = None;
        for Cursor { room, epoch, seq, presence } in seats {
            let is_of_room = may_be_of(&self.epoch, self.rooms.get(&room), &epoch);
            let known = if is_of_room { seq } else { Seq::ZERO };
            let start = Start::After { seq, epoch };
            let right = rights(&room);
            if self.session(slot).is_some_and(|session| Operation::Join.check(&session.who, right).is_err()) {
                self.take_out(slot, &room, Removed::Forbidden, clients);
                continue;
            }
            if self.member(slot, &room).is_some() {
                self.reseat(slot, &room, start, presence, clients);
                self.set_right(slot, &room, right);
                continue;
            }
            let presence = presence.unwrap_or(Presence::Full);
            let entry = Entry { room: room.clone(), start, presence, right };
            match self.handle_join(slot, None, entry, clients) {
                Ok(()) => self.keep_place(slot, &room, known),
                Err(error) => refused = Some(error),
            }
        }
        // One refusal, however many rooms the client named.
        if let Some(error) = refused {
            clients.tell(client, super::Notice::Refused { id, error });
        }
    }

    /// Marks an unfinished join as that of an earlier member, whose place is `cursor`.
    fn keep_place(&mut self, slot: SessionSlot, room: &RoomId, cursor: Seq) {
        let Some(seat) = self.session(slot).and_then(|s| s.seat(room)) else { return };
        let member = self.rooms.get_mut(room).and_then(|room| room.members.get_mut(seat));
        if let Some(State::Joining(joining)) = member.map(|member| &mut member.state) {
            joining.kept = Some(cursor);
        }
    }

    /// Parks every session that is in a room, so that it may resume after the server has restarted.
    pub fn handle_stop(&mut self) {
        let slots: Vec<SessionSlot> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(parked) = self.parked(slot) {
                self.parks.push(parked);
            }
        }
    }

    /// Announces sessions as away whose grace was over at `until`, and parks those whose time was. A session may return
    /// as long as this was not called, so it is called when everything that had come by then is handled.
    pub fn handle_absences(&mut self, until: Millis) {
        while let Some((_, slot)) = self.absences.away.first().copied().filter(|(at, _)| *at <= until) {
            self.absences.away.pop_first();
            if let Some(absence) = self.sessions.get_mut(slot).and_then(|s| s.absence.as_mut()) {
                absence.away_at = None;
            }
            self.announce(slot, PresenceKind::Away);
        }
        while let Some((_, slot)) = self.absences.until.first().copied().filter(|(at, _)| *at <= until) {
            self.absences.until.pop_first();
            self.park(slot);
        }
    }

    /// Drains the sessions that the store is to keep.
    pub fn poll_parks(&mut self) -> impl Iterator<Item = Parked> {
        self.parks.drain(..)
    }

    /// Drains what became of sessions.
    pub fn poll_became(&mut self) -> impl Iterator<Item = Became> {
        self.became.drain(..)
    }

    // Helpers.

    fn rooms_of(&self, slot: SessionSlot) -> Vec<RoomId> {
        self.session(slot).map(|s| s.rooms.iter().map(|m| m.room.clone()).collect()).unwrap_or_default()
    }

    /// Removes the session from rooms whose `joined` its client never received; the client doesn't know it is a member.
    fn give_up_joins(&mut self, slot: SessionSlot) {
        for room in self.rooms_of(slot) {
            let joining = self.member(slot, &room).and_then(Member::joining);
            if joining.is_some_and(|joining| joining.kept.is_none()) {
                self.remove_member(slot, &room);
            }
        }
    }

    /// Returns the record of a session for the store; `None` if it is in no room.
    fn parked(&self, slot: SessionSlot) -> Option<Parked> {
        let session = self.session(slot).filter(|s| !s.follows)?;
        let place = |m: &Membership| {
            let member = self.rooms.get(&m.room)?.members.get(m.seat as usize)?;
            Some((m.room.clone(), member.cursor()?))
        };
        let rooms: Vec<(RoomId, Seq)> = session.rooms.iter().filter_map(place).collect();
        (!rooms.is_empty()).then(|| Parked {
            session: session.id,
            member: session.member,
            name: session.name.clone(),
            generation: session.generation,
            rooms,
        })
    }

    /// Parks a detached session that did not come back: members see it leave, and the store keeps what it needs to
    /// return.
    fn park(&mut self, slot: SessionSlot) {
        self.parks.extend(self.parked(slot));
        self.end_session(slot);
    }

    /// Ends a session: it leaves every room.
    pub(super) fn end_session(&mut self, slot: SessionSlot) {
        for room in self.rooms_of(slot) {
            self.remove_member(slot, &room);
        }
        let Some(session) = self.sessions.remove(slot) else { return };
        // Another session with the same id may have started meanwhile.
        if self.by_id.get(&session.id) == Some(&slot) {
            self.by_id.remove(&session.id);
        }
        if let Some(absence) = session.absence {
            self.absences.forget(slot, &absence);
        }
    }

    fn announce(&mut self, slot: SessionSlot, kind: PresenceKind) {
        let Some(session) = self.sessions.get(slot) else { return };
        for membership in &session.rooms {
            // A large room announces only its count, which this does not change.
            if let Some(room) = self.rooms.get_mut(&membership.room).filter(|room| !room.headcount.is_large()) {
                let event = PresenceEvent { kind, member: session.member, name: session.name.clone() };
                room.presence_changed(event, &mut self.dirty);
            }
        }
    }

    /// Gives a member another client or none. Requests made by the old client are no longer answered, except that
    /// messages which it sent while joining go to the store.
    fn unseat(&mut self, slot: SessionSlot, room: &RoomId, client: ConnId, state: impl FnOnce(Seq) -> State) {
        let Some(seat) = self.session(slot).and_then(|s| s.seat(room)) else { return };
        let Some(member) = self.rooms.get_mut(room).and_then(|room| room.members.get_mut(seat)) else { return };
        member.client = client;
        let state = state(member.cursor().unwrap_or(Seq::ZERO));
        if let State::Joining(joining) = std::mem::replace(&mut member.state, state) {
            for append in joining.sends {
                self.append(append);
            }
        }
    }

    /// Restarts a member at `start` for its new client. Others see neither a leave nor a join.
    fn reseat(
        &mut self,
        slot: SessionSlot,
        room_id: &RoomId,
        start: Start,
        presence: Option<Presence>,
        clients: &mut impl Clients,
    ) {
        let Some((client, seat)) = self.session(slot).and_then(|s| Some((s.client, s.seat(room_id)?))) else { return };
        self.unseat(slot, room_id, client, |cursor| {
            let joining = Joining { id: None, start, sends: Vec::new(), kept: Some(cursor), wait: Wait::Nothing };
            State::Joining(Box::new(joining))
        });
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let Some(member) = room.members.get_mut(seat) else { return };
        member.presence = presence.unwrap_or(member.presence);
        self.proceed(room_id, seat, 0, clients);
    }
}
