//! Who is here, as the members are told: in a small room by name, each coming and going; in a large one by number, at
//! most once a second, since a thousand members who come back at once must not make a million frames.

use super::clients::{Broadcast, Clients, Delivery, Present, Roster};
use super::fan_out::FannedOut;
use super::headcount::{Change, Size};
use super::member::Member;
use super::room::Room;
use super::session::Sessions;
use super::{HubLimits, Presence};
use crate::types::Millis;

/// Milliseconds between two counts of a large room.
const COUNT_INTERVAL: u64 = 1000;
/// About what one entry of a `members` takes beside the name, in bytes.
const ROSTER_ENTRY: usize = 48;

impl Room {
    /// Tells the turn's comings and goings, or how many are here.
    pub fn tell_presence(&mut self, now: Millis, limits: &HubLimits, done: &mut FannedOut, clients: &mut impl Clients) {
        if self.headcount.change == Change::Told {
            return;
        }
        let count = self.count();
        let was_large = self.headcount.is_large();
        // Small again at the earliest when the next count is due, so that a room at the edge sends no list a turn.
        let is_large = count > limits.presence_max || (was_large && now < self.headcount.next_count);
        self.headcount.size = if is_large { Size::Large } else { Size::Small };
        if is_large || was_large {
            self.headcount.events.clear();
            if now < self.headcount.next_count {
                return;
            }
            self.headcount.next_count = now.after(COUNT_INTERVAL);
        }
        if was_large && !is_large {
            // Nobody knows by name who came and went meanwhile.
            for member in &mut self.members {
                if member.presence == Presence::Full {
                    member.owe_roster();
                }
                if member.roster_due() {
                    self.agenda.owe_roster_now();
                }
            }
        }
        self.headcount.change = Change::Told;
        let events = std::mem::take(&mut self.headcount.events);
        let hears = |m: &Member, what| m.presence == what && m.is_live() && !m.roster_due();
        let wanted = |what| self.members.iter().any(|m| hears(m, what));
        let (by_name, by_number) = match events.is_empty() {
            true => (false, wanted(Presence::Full) || wanted(Presence::Count)),
            false => (wanted(Presence::Full), wanted(Presence::Count)),
        };
        let named = by_name.then(|| clients.encode(&self.id, Broadcast::Presence { count, events: &events }));
        let numbered = by_number.then(|| clients.encode(&self.id, Broadcast::Presence { count, events: &[] }));
        for member in &mut self.members {
            if member.presence == Presence::Off {
                continue;
            }
            let frames = if member.presence == Presence::Full { named.as_ref() } else { None };
            let Some(frames) = frames.or(numbered.as_ref()).filter(|_| hears(member, member.presence)) else {
                // Whoever cannot hear it now is told all of it later.
                member.owe_roster();
                continue;
            };
            done.deliveries += 1;
            if clients.deliver(member.client, frames, 0..1) == Delivery::Full {
                done.lag(member);
                member.owe_roster();
            }
        }
    }

    /// Tells those who missed something who is here, or how many.
    pub fn tell_roster(
        &mut self,
        limits: &HubLimits,
        sessions: &Sessions,
        done: &mut FannedOut,
        clients: &mut impl Clients,
    ) {
        if !self.agenda.take_roster() {
            return;
        }
        let count = self.count();
        let is_large = self.headcount.is_large();
        let by_name = |m: &Member| m.presence == Presence::Full && !is_large;
        let due = Member::roster_due;
        let named = self.members.iter().any(|m| due(m) && by_name(m)).then(|| self.roster(limits, sessions));
        let list = named.as_ref().map(|(members, more)| {
            clients.encode(&self.id, Broadcast::Members(Roster { count, members, more: *more }))
        });
        let number = self.members.iter().any(|m| due(m) && !by_name(m));
        let number = number.then(|| clients.encode(&self.id, Broadcast::Presence { count, events: &[] }));
        for member in self.members.iter_mut().filter(|m| due(m)) {
            let is_named = member.presence == Presence::Full && !is_large;
            let Some(frames) = (if is_named { &list } else { &number }) else { continue };
            done.deliveries += 1;
            match clients.deliver(member.client, frames, 0..1) {
                Delivery::Taken => member.roster_told(),
                Delivery::Full => done.lag(member),
            }
        }
    }

    /// The members by name, as many as fit a page; and whether there are more.
    pub fn roster(&self, limits: &HubLimits, sessions: &Sessions) -> (Vec<Present>, bool) {
        let mut bytes = 0;
        let mut list = Vec::new();
        for member in &self.members {
            let Some(session) = sessions.get(member.session).filter(|s| !s.follows) else { continue };
            bytes += session.name.as_str().len() + ROSTER_ENTRY;
            if bytes > limits.page_bytes {
                return (list, true);
            }
            list.push(Present { member: session.member, name: session.name.clone(), away: session.is_shown_away() });
        }
        (list, false)
    }
}
