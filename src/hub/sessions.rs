//! Sessions: what outlives a connection. Attached to a client; detached when that drops, with its places in its rooms
//! kept; parked with the store when it does not come back in time. Knows no token: who a client says it was is checked
//! before it comes here.

use std::collections::BTreeSet;

use super::answers::same_epoch;
use super::clients::{Clients, HubError, PresenceEvent, PresenceKind};
use super::room::{Joining, State};
use super::{Hub, Presence, SessionKey, Start};
use crate::store::{Append, Parked};
use crate::types::{Author, ConnId, Identity, MemberId, Millis, Name, RoomId, Seq, SessionId};

/// Milliseconds after which a dropped member is shown as away. A shorter drop is not shown at all.
pub const AWAY_AFTER: u64 = 2000;

/// What outlives a connection: who one is, and the rooms one is in.
#[derive(Clone)]
pub struct Session {
    pub id: SessionId,
    pub member: MemberId,
    pub name: Name,
    /// [`ConnId::NOBODY`] while it is detached.
    pub client: ConnId,
    /// The highest generation of its token that was presented.
    pub generation: u32,
    /// When its last token was made, in the server's running seconds; for who makes them.
    pub token_issued: u64,
    /// It began where nobody on the way could read.
    pub private: bool,
    /// It only listens: nobody is told that it is there, and it is neither waited for nor parked.
    pub follows: bool,
    pub(super) rooms: Vec<Membership>,
    pub(super) absence: Option<Box<Absence>>,
}

/// Bytes of one session that is in no room, with its name, its place among the ids, and what its absence takes.
pub const SESSION_BYTES: usize = size_of::<Session>()
    + Name::MAX * 4
    + 2 * (size_of::<SessionId>() + size_of::<SessionKey>())
    + size_of::<Absence>()
    + 4 * size_of::<(Millis, SessionKey)>();

#[derive(Clone, Hash)]
pub(super) struct Membership {
    pub room: RoomId,
    /// Where the member stands in the room's list.
    pub slot: u32,
}

/// A session without a client.
#[derive(Clone)]
pub(super) struct Absence {
    /// When its rooms are told; `None` once they were.
    pub away_at: Option<Millis>,
    /// When it is waited for no longer.
    pub until: Millis,
}

/// Which sessions are detached, by time.
#[derive(Clone, Default)]
pub struct Absences {
    away: BTreeSet<(Millis, SessionKey)>,
    until: BTreeSet<(Millis, SessionKey)>,
}

impl Absences {
    pub fn deadline(&self) -> Option<Millis> {
        [self.away.first(), self.until.first()].into_iter().flatten().map(|(at, _)| *at).min()
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    fn forget(&mut self, key: SessionKey, absence: &Absence) {
        self.until.remove(&(absence.until, key));
        if let Some(at) = absence.away_at {
            self.away.remove(&(at, key));
        }
    }
}

/// Where a client says it was in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub room: RoomId,
    pub epoch: Option<Box<str>>,
    pub seq: Seq,
    /// `None`: as before.
    pub presence: Option<Presence>,
}

/// A session has a client again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub key: SessionKey,
    /// The client that it had until now: its connection is to be closed.
    pub superseded: Option<ConnId>,
}

impl Session {
    pub(super) fn membership(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|m| m.room == *room)
    }

    pub(super) fn slot(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().find(|m| m.room == *room).map(|m| m.slot as usize)
    }

    pub(super) fn author(&self) -> Author {
        Author { member: Some(self.member), name: self.name.clone() }
    }

    pub(super) fn is_detached(&self) -> bool {
        self.absence.is_some()
    }

    /// Its rooms were told that it is away.
    pub(super) fn is_shown_away(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.away_at.is_none())
    }

    /// The rooms that it is in, also where its client has not heard `joined` yet.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.iter().map(|m| &m.room)
    }

    /// Is it in no room?
    pub fn is_idle(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Hub {
    // Looking.

    /// The session with this id, attached or detached.
    pub fn find_session(&self, id: SessionId) -> Option<SessionKey> {
        self.by_id.get(&id).copied()
    }

    /// How many sessions wait for their clients.
    pub fn detached_count(&self) -> usize {
        self.absences.len()
    }

    // Feeding.

    /// A client came: its session begins, in no room.
    pub fn handle_session(&mut self, identity: Identity, client: ConnId) -> SessionKey {
        let Identity { session: id, member, name, generation, private } = identity;
        let session = Session {
            id,
            member,
            name,
            client,
            generation,
            token_issued: 0,
            private,
            follows: false,
            rooms: Vec::new(),
            absence: None,
        };
        let key = self.sessions.insert(session) as SessionKey;
        self.by_id.insert(id, key);
        key
    }

    /// A client says its name after its session began. False if the session is in a room: there it has one.
    pub fn handle_name(&mut self, key: SessionKey, name: Name) -> bool {
        match self.sessions.get_mut(key as usize) {
            Some(session) if session.is_idle() => {
                session.name = name;
                true
            }
            _ => false,
        }
    }

    /// A client came that only listens, and keeps its own cursor: its session begins, in no room.
    pub fn handle_follower(&mut self, identity: Identity, client: ConnId) -> SessionKey {
        let key = self.handle_session(identity, client);
        if let Some(session) = self.sessions.get_mut(key as usize) {
            session.follows = true;
        }
        key
    }

    /// A token was made for the session.
    pub fn handle_token(&mut self, key: SessionKey, issued: u64) {
        if let Some(session) = self.sessions.get_mut(key as usize) {
            session.token_issued = issued;
        }
    }

    /// The client left for good: its session leaves every room and ends. Nothing happens if the session has another
    /// client by now.
    pub fn handle_gone(&mut self, key: SessionKey, client: ConnId) {
        if self.session(key).is_some_and(|s| s.client == client) {
            self.end_session(key);
        }
    }

    /// The client dropped: its session keeps its place in every room for `resume_within`. One that is in no room ends;
    /// nothing happens if the session has another client by now.
    pub fn handle_dropped(&mut self, key: SessionKey, client: ConnId, now: Millis) {
        self.now = now;
        if self.session(key).is_none_or(|s| s.client != client) {
            return;
        }
        self.give_up_joins(key);
        if self.limits.resume_within == 0 || self.session(key).is_none_or(|s| s.follows || s.is_idle()) {
            return self.end_session(key);
        }
        for room in self.rooms_of(key) {
            self.unseat(key, &room, ConnId::NOBODY, State::Away);
        }
        let (away, until) = (now.after(AWAY_AFTER), now.after(self.limits.resume_within));
        if let Some(session) = self.sessions.get_mut(key as usize) {
            session.client = ConnId::NOBODY;
            session.absence = Some(Box::new(Absence { away_at: Some(away), until }));
            self.absences.away.insert((away, key));
            self.absences.until.insert((until, key));
        }
        while self.absences.len() > self.limits.detached_max {
            let Some((_, oldest)) = self.absences.until.pop_first() else { break };
            self.park(oldest);
        }
    }

    /// A client comes back: `client`, whose provisional session `provisional` ends. Of a session that is not here,
    /// `parked` is what the store kept, if anything. To be followed by [`Hub::handle_return`], once the client was
    /// greeted.
    ///
    /// # Errors
    /// [`HubError::NotResumable`] where a later generation of the token was presented, or the session joined a room.
    pub fn handle_resume(
        &mut self,
        provisional: SessionKey,
        client: ConnId,
        identity: Identity,
        parked: Option<&Parked>,
    ) -> Result<Resumed, HubError> {
        let presented = match (self.find_session(identity.session), parked) {
            (Some(key), _) => self.session(key).map_or(0, |s| s.generation),
            (None, Some(parked)) => parked.generation,
            (None, None) => 0,
        };
        let is_provisional = self.session(provisional).is_some_and(|s| s.client == client && s.is_idle());
        if identity.generation < presented || !is_provisional {
            return Err(HubError::NotResumable);
        }
        let generation = identity.generation;
        let Some(key) = self.find_session(identity.session) else {
            self.end_session(provisional);
            // It may have been named after this token was made, and not have heard so.
            let name = parked.map_or(identity.name, |parked| parked.name.clone());
            let key = self.handle_session(Identity { name, ..identity }, client);
            return Ok(Resumed { key, superseded: None });
        };
        if key != provisional {
            self.end_session(provisional);
        }
        let Some(session) = self.sessions.get_mut(key as usize) else { return Err(HubError::NotResumable) };
        session.generation = generation;
        let before = std::mem::replace(&mut session.client, client);
        let was_shown_away = session.is_shown_away();
        if let Some(absence) = session.absence.take() {
            self.absences.forget(key, &absence);
        }
        self.give_up_joins(key);
        if was_shown_away {
            self.tell_rooms(key, PresenceKind::Back);
        }
        let superseded = (before != ConnId::NOBODY && before != client).then_some(before);
        Ok(Resumed { key, superseded })
    }

    /// Seats a resumed session in its rooms again: those that the client names from where it says it was, the others
    /// from what was last queued to it. Each gets its `joined`, as of a join. `id` is the request's.
    pub fn handle_return(
        &mut self,
        key: SessionKey,
        id: Option<u64>,
        cursors: Vec<Cursor>,
        parked: Option<Parked>,
        clients: &mut impl Clients,
    ) {
        let Some(client) = self.session(key).map(|s| s.client) else { return };
        let mut seats = cursors;
        let parked = parked.map(|p| p.rooms).unwrap_or_default();
        let kept = self.rooms_of(key).into_iter().filter_map(|room| {
            let cursor = self.member(key, &room)?.cursor;
            Some((room, cursor))
        });
        for (room, seq) in kept.collect::<Vec<_>>().into_iter().chain(parked) {
            if !seats.iter().any(|seat| seat.room == room) {
                seats.push(Cursor { room, epoch: None, seq, presence: None });
            }
        }
        let mut refused = None;
        for Cursor { room, epoch, seq, presence } in seats {
            let known = if same_epoch(&self.epoch, &epoch) { seq } else { Seq::ZERO };
            let start = Start::After { seq, epoch };
            if self.member(key, &room).is_some() {
                self.reseat(key, &room, start, presence, clients);
                continue;
            }
            let presence = presence.unwrap_or(Presence::Full);
            match self.handle_join(key, None, room.clone(), start, presence, clients) {
                Ok(()) => self.keep_place(key, &room, known),
                Err(error) => refused = Some(error),
            }
        }
        // Once, however many rooms the client named.
        if let Some(error) = refused {
            clients.tell(client, super::Notice::Refused { id, error });
        }
    }

    /// A join that has not come to `joined` goes on as of one who was here before, up to `cursor`.
    fn keep_place(&mut self, key: SessionKey, room: &RoomId, cursor: Seq) {
        let Some(slot) = self.session(key).and_then(|s| s.slot(room)) else { return };
        let member = self.rooms.get_mut(room).and_then(|room| room.members.get_mut(slot));
        if let Some(member) = member
            && let Some(joining) = member.joining.as_mut()
        {
            joining.resumes = true;
            member.cursor = cursor;
        }
    }

    /// The server stops: every session that is in a room is parked, so that it may resume after.
    pub fn handle_stop(&mut self) {
        let keys: Vec<SessionKey> = self.sessions.iter().map(|(key, _)| key as SessionKey).collect();
        for key in keys {
            if let Some(parked) = self.parked(key) {
                self.parks.push(parked);
            }
        }
    }

    /// Fires what is due: who is shown as away, who is parked.
    pub(super) fn absences_time(&mut self, now: Millis) {
        while let Some((_, key)) = self.absences.away.first().copied().filter(|(at, _)| *at <= now) {
            self.absences.away.pop_first();
            if let Some(absence) = self.sessions.get_mut(key as usize).and_then(|s| s.absence.as_mut()) {
                absence.away_at = None;
            }
            self.tell_rooms(key, PresenceKind::Away);
        }
        while let Some((_, key)) = self.absences.until.first().copied().filter(|(until, _)| *until <= now) {
            self.absences.until.pop_first();
            self.park(key);
        }
    }

    /// Moves out what the store is to keep of sessions that did not come back.
    pub fn poll_parks(&mut self) -> impl Iterator<Item = Parked> {
        self.parks.drain(..)
    }

    // Helpers.

    fn rooms_of(&self, key: SessionKey) -> Vec<RoomId> {
        self.session(key).map(|s| s.rooms.iter().map(|m| m.room.clone()).collect()).unwrap_or_default()
    }

    /// Takes a session whose client is gone out of the rooms whose `joined` that has not heard: it does not know that it
    /// is there.
    fn give_up_joins(&mut self, key: SessionKey) {
        for room in self.rooms_of(key) {
            let joining = self.member(key, &room).and_then(|m| m.joining.as_deref());
            if joining.is_some_and(|joining| !joining.resumes) {
                self.remove_member(key, &room);
            }
        }
    }

    /// What is to be kept of a session that is in a room.
    fn parked(&self, key: SessionKey) -> Option<Parked> {
        let session = self.session(key).filter(|s| !s.follows)?;
        let place = |m: &Membership| {
            let member = self.rooms.get(&m.room)?.members.get(m.slot as usize)?;
            let knows = member.joining.as_deref().is_none_or(|joining| joining.resumes);
            knows.then(|| (m.room.clone(), member.cursor))
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

    /// A detached session did not come back: members see it leave, the store keeps what it needs to return later.
    fn park(&mut self, key: SessionKey) {
        self.parks.extend(self.parked(key));
        self.end_session(key);
    }

    /// The session leaves every room, and is no more.
    pub(super) fn end_session(&mut self, key: SessionKey) {
        for room in self.rooms_of(key) {
            self.remove_member(key, &room);
        }
        let Some(session) = self.sessions.try_remove(key as usize) else { return };
        // Another with the same id may have come meanwhile.
        if self.by_id.get(&session.id) == Some(&key) {
            self.by_id.remove(&session.id);
        }
        if let Some(absence) = session.absence {
            self.absences.forget(key, &absence);
        }
    }

    fn tell_rooms(&mut self, key: SessionKey, kind: PresenceKind) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        for membership in &session.rooms {
            // A large room tells numbers only, and this changes none.
            if let Some(room) = self.rooms.get_mut(&membership.room).filter(|room| !room.is_large) {
                let event = PresenceEvent { kind, member: session.member, name: session.name.clone() };
                room.presence_changed(event, &mut self.dirty);
            }
        }
    }

    /// Takes a member's client from it, and gives it another or none. What was asked for the old one is its no more;
    /// what it said while it was joining is taken.
    fn unseat(&mut self, key: SessionKey, room: &RoomId, client: ConnId, state: State) {
        let Some(slot) = self.session(key).and_then(|s| s.slot(room)) else { return };
        let Some(member) = self.rooms.get_mut(room).and_then(|room| room.members.get_mut(slot)) else { return };
        member.client = client;
        member.state = state;
        member.waiting = false;
        let sends: Vec<Append> = member.joining.take().map(|joining| joining.sends).unwrap_or_default();
        for append in sends {
            self.append(append);
        }
    }

    /// Lets a member begin anew at `start`, for its new client, without coming or going in the eyes of the others.
    fn reseat(
        &mut self,
        key: SessionKey,
        room_id: &RoomId,
        start: Start,
        presence: Option<Presence>,
        clients: &mut impl Clients,
    ) {
        let Some((client, slot)) = self.session(key).and_then(|s| Some((s.client, s.slot(room_id)?))) else { return };
        self.unseat(key, room_id, client, State::Joining);
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let Some(member) = room.members.get_mut(slot) else { return };
        member.presence = presence.unwrap_or(member.presence);
        member.joining = Some(Box::new(Joining { id: None, start, sends: Vec::new(), resumes: true }));
        self.proceed(room_id, slot, clients);
    }
}
