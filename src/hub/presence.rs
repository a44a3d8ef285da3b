//! Presence: a small room announces each join and leave by name; a large one announces its count, at most once a
//! second, so that a thousand members that resume at once do not cause a million frames.

use super::clients::{Broadcast, Clients, Delivery, Present, Roster};
use super::fan_out::FannedOut;
use super::headcount::{Change, Size};
use super::member::Member;
use super::room::Room;
use super::session::Sessions;
use super::{HubLimits, Presence};
use crate::types::Millis;

/// Milliseconds between two counts of a large room, at least.
const COUNT_INTERVAL: u64 = 1000;
/// The most counts that a large room sends, in a millisecond of the time between two.
const COUNTS_PER_MS: u64 = 10;
/// Approximate bytes of one entry of a `members` frame beside the name.
const ROSTER_ENTRY: usize = 48;

impl Room {
    /// Announces the turn's joins and leaves, or the count.
    pub fn announce_presence(
        &mut self,
        now: Millis,
        limits: &HubLimits,
        done: &mut FannedOut,
        clients: &mut impl Clients,
    ) {
        if self.headcount.change == Change::Told {
            return;
        }
        let count = self.count();
        let was_large = self.headcount.is_large();
        // Small again at the earliest when the next count is due, so that a room at the edge does not send a list each
        // turn.
        let is_large = count > limits.presence_max || (was_large && now < self.headcount.next_count);
        self.headcount.size = if is_large { Size::Large } else { Size::Small };
        if is_large || was_large {
            self.headcount.events.clear();
            if now < self.headcount.next_count {
                return;
            }
            self.headcount.next_count = now.after(COUNT_INTERVAL.max(count as u64 / COUNTS_PER_MS));
            self.headcount.change = Change::Told;
            // They are told as far as this turn goes, and the others in the next. A room that is small again owes
            // names: no member was told of those that came and went meanwhile.
            for member in self.members.iter_mut().filter(|member| member.presence != Presence::Off) {
                member.owe_roster();
                if member.roster_due() {
                    self.agenda.owe_roster_now();
                }
            }
            return;
        }
        self.headcount.change = Change::Told;
        let events = std::mem::take(&mut self.headcount.events);
        let hears = |m: &Member, what| m.presence == what && m.is_live() && !m.roster_due();
        let wanted = |what| self.members.iter().any(|m| hears(m, what));
        let (by_name, by_number) = (wanted(Presence::Full), wanted(Presence::Count));
        let named = by_name.then(|| {
            clients.encode(&self.id, &self.log.incarnation.epoch, Broadcast::Presence { count, events: &events })
        });
        let numbered = by_number
            .then(|| clients.encode(&self.id, &self.log.incarnation.epoch, Broadcast::Presence { count, events: &[] }));
        for member in &mut self.members {
            if member.presence == Presence::Off {
                continue;
            }
            let frames = if member.presence == Presence::Full { named.as_ref() } else { None };
            let Some(frames) = frames.or(numbered.as_ref()).filter(|_| hears(member, member.presence)) else {
                // A member that cannot take it now gets the whole roster later.
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

    /// Sends the roster, or the count, to the members that are owed it: to one at least, and to others while there is
    /// `work` left.
    pub fn send_rosters(
        &mut self,
        limits: &HubLimits,
        sessions: &Sessions,
        work: usize,
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
            clients.encode(
                &self.id,
                &self.log.incarnation.epoch,
                Broadcast::Members(Roster { count, members, more: *more }),
            )
        });
        let number = self.members.iter().any(|m| due(m) && !by_name(m));
        let number = number
            .then(|| clients.encode(&self.id, &self.log.incarnation.epoch, Broadcast::Presence { count, events: &[] }));
        let most = work.max(done.deliveries + 1);
        for member in self.members.iter_mut().filter(|m| due(m)) {
            let Some(frames) = (if by_name(member) { &list } else { &number }) else { continue };
            if done.deliveries >= most {
                self.agenda.owe_roster_now();
                done.more = true;
                break;
            }
            done.deliveries += 1;
            match clients.deliver(member.client, frames, 0..1) {
                Delivery::Taken => member.roster_told(),
                Delivery::Full => done.lag(member),
            }
        }
    }

    /// Returns the members by name, as many as fit a page, and whether there are more.
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
