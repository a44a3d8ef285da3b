//! One session, and all of them by their slots.

use std::collections::BTreeSet;

use crate::access::Who;
use crate::store::{Scope, ScopedKey, Standing};
use crate::types::{Author, ConnId, IdempotencyKey, MemberId, Millis, Name, Right, RoomId, SessionId, SessionSlot};

/// Somebody and the rooms they are in. Outlives its connections.
#[derive(Clone)]
pub struct Session {
    pub id: SessionId,
    pub member: MemberId,
    pub name: Name,
    /// Who its client has shown to be.
    pub who: Who,
    /// [`ConnId::NOBODY`] while it is detached.
    pub client: ConnId,
    /// The highest generation of its token that was presented.
    pub generation: u32,
    /// When its last token was issued, in the server's running seconds.
    pub token_issued: u64,
    /// Whether it began over a connection that cannot be read in transit (TLS or sealed).
    pub private: bool,
    /// Whether it was ever in a room, so that the store is told what becomes of it.
    pub was_in_room: bool,
    /// Whether it only listens: it is not announced, and neither kept after a drop nor parked.
    pub follows: bool,
    /// Distinguishes it from earlier sessions with the same index.
    pub(super) slot_generation: u32,
    pub(super) rooms: Vec<Membership>,
    pub(super) absence: Option<Box<Absence>>,
}

/// What became of a session that was in a room, for the store, and the client of whom it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Became {
    pub session: SessionId,
    pub standing: Standing,
    pub client: ConnId,
}

/// Bytes of one session that is in no room, with its name, its entry by id, and its absence.
pub const SESSION_BYTES: usize = size_of::<Session>()
    + Name::MAX * 4
    + 2 * (size_of::<SessionId>() + size_of::<SessionSlot>())
    + size_of::<Absence>()
    + 4 * size_of::<(Millis, SessionSlot)>();

#[derive(Clone, Hash)]
pub(super) struct Membership {
    pub room: RoomId,
    /// The index of the member in the room's list.
    pub seat: u32,
    /// What the session may do in the room: looked up when it joins, and when that may have changed.
    pub right: Option<Right>,
}

/// A session without a client.
#[derive(Clone)]
pub(super) struct Absence {
    /// When its rooms are told that it is away; `None` once they were.
    pub away_at: Option<Millis>,
    /// When it is parked.
    pub until: Millis,
}

/// The detached sessions, by time.
#[derive(Clone, Default)]
pub struct Absences {
    pub away: BTreeSet<(Millis, SessionSlot)>,
    pub until: BTreeSet<(Millis, SessionSlot)>,
}

impl Absences {
    pub fn deadline(&self) -> Option<Millis> {
        [self.away.first(), self.until.first()].into_iter().flatten().map(|(at, _)| *at).min()
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    pub fn forget(&mut self, slot: SessionSlot, absence: &Absence) {
        self.until.remove(&(absence.until, slot));
        if let Some(at) = absence.away_at {
            self.away.remove(&(at, slot));
        }
    }
}

/// All sessions, attached and detached.
#[derive(Clone, Default)]
pub struct Sessions {
    slab: slab::Slab<Session>,
    /// The generation of the next session. A stale slot can find another session after 2^32 sessions at the earliest.
    next_generation: u32,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Adds a session and returns its slot.
    pub fn insert(&mut self, mut session: Session) -> SessionSlot {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        session.slot_generation = generation;
        SessionSlot { index: self.slab.insert(session) as u32, generation }
    }

    /// Returns the session in a slot; `None` if it is gone, even if another session has the index by now.
    pub fn get(&self, slot: SessionSlot) -> Option<&Session> {
        self.slab.get(slot.index as usize).filter(|session| session.slot_generation == slot.generation)
    }

    /// Like [`Sessions::get`].
    pub fn get_mut(&mut self, slot: SessionSlot) -> Option<&mut Session> {
        self.slab.get_mut(slot.index as usize).filter(|session| session.slot_generation == slot.generation)
    }

    /// Removes the session from its slot.
    pub fn remove(&mut self, slot: SessionSlot) -> Option<Session> {
        self.get(slot)?;
        self.slab.try_remove(slot.index as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionSlot, &Session)> {
        self.slab
            .iter()
            .map(|(index, session)| (SessionSlot { index: index as u32, generation: session.slot_generation }, session))
    }
}

impl Session {
    pub(super) fn membership(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|m| m.room == *room)
    }

    pub(super) fn membership_in(&self, room: &RoomId) -> Option<&Membership> {
        self.rooms.iter().find(|m| m.room == *room)
    }

    pub(super) fn seat(&self, room: &RoomId) -> Option<usize> {
        self.membership_in(room).map(|m| m.seat as usize)
    }

    /// Returns a key of its own in the scope to which it belongs: that of an identity's credential, else the session's.
    pub(super) fn scoped(&self, key: IdempotencyKey) -> ScopedKey {
        match &self.who {
            Who::Known(identity) => ScopedKey { scope: Scope::Common, key: identity.scoped(key) },
            Who::Guest => ScopedKey { scope: Scope::Session(self.id), key },
        }
    }

    pub(super) fn author(&self) -> Author {
        Author { member: Some(self.member), name: self.name.clone() }
    }

    pub(super) fn is_detached(&self) -> bool {
        self.absence.is_some()
    }

    /// Returns whether its rooms were told that it is away.
    pub(super) fn is_shown_away(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.away_at.is_none())
    }

    /// Returns the rooms that it is in, including those whose `joined` its client has not received.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.iter().map(|m| &m.room)
    }

    /// Returns whether it is in no room.
    pub fn is_idle(&self) -> bool {
        self.rooms.is_empty()
    }
}
