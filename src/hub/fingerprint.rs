//! A hub's state as a hash, for the test that walks through all states: two hubs with the same fingerprint behave the
//! same from then on. Times are hashed relative to now, and numbers that only rise by their order; otherwise no state
//! would ever repeat. Each struct is destructured in full, so that a new field cannot be forgotten here.

use std::hash::{Hash as _, Hasher};

use super::headcount::Headcount;
use super::room::Room;
use super::session::Absence;
use super::{Hub, Session};
use crate::types::{Millis, RoomId};

impl Hub {
    /// Hashes everything that decides what the hub does next, except the limits: a caller that changes them hashes
    /// them.
    pub fn fingerprint(&self, to: &mut impl Hasher) {
        let Hub {
            limits: _,
            // The sums of what the rooms hold.
            memberships: _,
            untold: _,
            epoch,
            // Follows from the epoch.
            first: _,
            rooms,
            sessions,
            // Follow from the sessions.
            by_id: _,
            absences: _,
            parks,
            became,
            reads,
            appends,
            appending,
            removal,
            dirty,
            is_behind,
            counts,
            stalled,
            retry_at,
            next_stay,
            tails,
            turns,
            now,
        } = self;
        // Not when the next requests of it are due: an hour is beyond every walk.
        removal.under_way().for_each(|room| room.hash(to));
        removal.requests().len().hash(to);
        epoch.0.hash(to);
        let mut ids: Vec<&RoomId> = rooms.keys().collect();
        ids.sort_unstable();
        for room in ids.into_iter().filter_map(|id| rooms.get(id)) {
            hash_room(room, *now, to);
        }
        for (slot, session) in sessions.iter() {
            slot.hash(to);
            hash_session(session, *now, to);
        }
        (parks, became, reads, appends, dirty, turns, is_behind, next_stay).hash(to);
        for (slot, room) in stalled {
            (slot, sessions.get(*slot).is_some(), room).hash(to);
        }
        let mut undecided: Vec<(&RoomId, &u32)> = appending.iter().collect();
        undecided.sort_unstable();
        undecided.hash(to);
        for (at, room) in counts {
            (at.since(*now), room).hash(to);
        }
        retry_at.map(|at| at.since(*now)).hash(to);
        tails.rooms_by_age().for_each(|room| room.hash(to));
    }
}

fn hash_room(room: &Room, now: Millis, to: &mut impl Hasher) {
    let Room { id, stay, members, log, agenda, headcount, touched } = room;
    let Headcount { followers, events, change, size, next_count, timer } = headcount;
    (id, stay, members, log, agenda, touched.map(|(_, bytes)| bytes)).hash(to);
    (followers, events, change, size, next_count.since(now), timer).hash(to);
}

fn hash_session(session: &Session, now: Millis, to: &mut impl Hasher) {
    let Session {
        id,
        member,
        name,
        who,
        client,
        generation,
        token_issued,
        private,
        was_in_room,
        follows,
        slot_generation: _,
        rooms,
        absence,
    } = session;
    (id, member, name, client, generation, token_issued, private, was_in_room, follows, rooms).hash(to);
    who.identity().map(|identity| identity.sub.as_str()).hash(to);
    if let Some(absence) = absence {
        let Absence { away_at, until } = **absence;
        (away_at.map(|at| at.since(now)), until.since(now)).hash(to);
    }
}
