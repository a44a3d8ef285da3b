//! The members of each room as the others have to see them, judged from outside after each turn: the sessions that the
//! server has, shown as away if they have had no client for two seconds. `bounds` checks that each session has a socket
//! that is open or was open a moment ago; the clients check that they are in the rooms that they were told of.

use std::collections::{BTreeMap, BTreeSet};

use racerd::chat::Chat;
use racerd::engine::Engine;
use racerd::hub::Session;
use racerd::types::{ConnId, MemberId, SessionId, SessionSlot};

use super::limits::Limits;
use super::model::Model;
use super::scene::{Checked, violation};

const CHECKER: &str = "4: a member who dropped is waited for, and then gone";

/// Milliseconds after which a member whose client dropped is shown as away.
const AWAY_AFTER: u64 = 2000;
/// Milliseconds between two counts that a large room sends.
const COUNT_INTERVAL: u64 = 1000;

#[derive(Default)]
pub struct Here {
    rooms: Vec<RoomHere>,
    /// Sessions without a client, by slot.
    absent: BTreeMap<SessionSlot, Absent>,
    /// Sessions that got a client back since the last check. Within a turn, a session may have been one too many before
    /// another client returned.
    returned: usize,
}

#[derive(Clone, Copy)]
struct Absent {
    id: SessionId,
    /// The token that its client had last. It differs if the client came back for a moment.
    token: (u32, u64),
    since: u64,
    until: u64,
}

#[derive(Clone, Default)]
pub struct RoomHere {
    /// Members by the name that clients hear, and whether they are away.
    pub members: BTreeMap<String, bool>,
    /// Members who were here after some turn.
    pub known: BTreeSet<String>,
    digest: u64,
    /// A hash of the members alone, regardless of whether they are away.
    set: u64,
    /// The server learns whether a room is large when a member comes or goes: the lowest limit since then.
    presence_max: usize,
    /// When the set of members last changed, by the server's clock in milliseconds.
    pub changed: u64,
    /// When the room was last too large to be a small one.
    large: Option<u64>,
}

/// Returns the name by which clients hear of a member.
pub fn member_name(member: MemberId) -> String {
    format!("m-{:012x}", member.as_u64())
}

impl Here {
    /// Checks the server after a turn.
    pub fn look(&mut self, engine: &Engine<Chat>, model: &Model, limits: &Limits, mono: u64) -> Checked {
        let hub = &engine.app.hub;
        self.rooms.resize_with(model.rooms.len(), RoomHere::default);
        self.returned = 0;
        let (mut digests, mut sets) = ([0u64; 8], [0u64; 8]);
        for (slot, session) in hub.sessions().filter(|(_, session)| !session.follows) {
            let absent = self.absent(slot, session, limits, mono)?;
            let weight = session.member.as_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for room in session.rooms().filter_map(|room| model.room(room.as_str())) {
                digests[room] = digests[room].wrapping_add(weight.rotate_left(u32::from(absent)));
                sets[room] = sets[room].wrapping_add(weight);
            }
        }
        self.forget(engine, limits)?;
        for (index, room) in self.rooms.iter_mut().enumerate() {
            let was = room.members.len();
            if room.digest != digests[index] {
                room.digest = digests[index];
                room.changed = mono;
                let id = &model.rooms[index].id;
                let is_here = |id: &SessionId, slot: SessionSlot| {
                    !self.absent.get(&slot).is_some_and(|a| a.id == *id && a.is_away(mono))
                };
                let here =
                    hub.sessions().filter(|(_, session)| !session.follows && session.rooms().any(|room| room == id));
                let here = here.map(|(slot, session)| (member_name(session.member), !is_here(&session.id, slot)));
                room.members = here.collect();
                room.known.extend(room.members.keys().cloned());
            }
            let has_come = std::mem::replace(&mut room.set, sets[index]) != sets[index];
            let before = if has_come { usize::MAX } else { room.presence_max };
            room.presence_max = limits.presence_max.min(before);
            // It was so up to this turn, before which the machine may have been suspended.
            if was.max(room.members.len()) > room.presence_max {
                room.large = Some(mono);
            }
        }
        Ok(())
    }

    /// Returns whether this session is to be shown as away.
    fn absent(&mut self, slot: SessionSlot, session: &Session, limits: &Limits, mono: u64) -> Checked<bool> {
        if session.client != ConnId::NOBODY {
            if !self.absent.is_empty() && self.absent.remove(&slot).is_some() {
                self.returned += 1;
            }
            return Ok(false);
        }
        let (id, token, until) = (session.id, (session.generation, session.token_issued), mono + limits.resume_within);
        let new = Absent { id, token, since: mono, until };
        let absent = self.absent.entry(slot).or_insert(new);
        if (absent.id, absent.token) != (id, token) {
            *absent = new;
        }
        if mono >= absent.until && mono > absent.since {
            return violation(
                CHECKER,
                format!("a session is waited for since {} and until {}", absent.since, absent.until),
            );
        }
        Ok(absent.is_away(mono))
    }

    /// Forgets the sessions that are no longer kept: their time is over, or too many are kept.
    fn forget(&mut self, engine: &Engine<Chat>, limits: &Limits) -> Checked {
        if self.absent.is_empty() {
            return Ok(());
        }
        let hub = &engine.app.hub;
        let is_there = |slot: SessionSlot, id: SessionId| hub.session(slot).is_some_and(|session| session.id == id);
        let gone: Vec<SessionSlot> =
            self.absent.iter().filter(|(slot, a)| !is_there(**slot, a.id)).map(|(slot, _)| *slot).collect();
        for slot in gone {
            let Some(absent) = self.absent.remove(&slot) else { continue };
            let mono = engine.net.now().mono.0;
            if mono < absent.until && hub.detached_count() + self.returned < limits.detached_max {
                let text = format!("a session is gone at {mono} that was to be waited for until {}", absent.until);
                return violation(CHECKER, text);
            }
        }
        Ok(())
    }

    pub fn room(&self, room: usize) -> Option<&RoomHere> {
        self.rooms.get(room)
    }
}

impl Absent {
    fn is_away(&self, mono: u64) -> bool {
        mono >= self.since + AWAY_AFTER
    }
}

impl RoomHere {
    /// Returns whether the room announces names, each change in its own turn. Otherwise it announces counts.
    pub fn is_small(&self, mono: u64) -> bool {
        self.large.is_none_or(|large| mono > large + COUNT_INTERVAL)
    }

    /// Returns whether every client that can be told has been told by now.
    pub fn is_told(&self, mono: u64) -> bool {
        match self.large {
            Some(large) if large == mono => mono > self.changed + COUNT_INTERVAL,
            Some(large) if mono <= large + COUNT_INTERVAL => false,
            _ => true,
        }
    }
}
