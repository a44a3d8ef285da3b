//! The line of rooms with members that catch up. The work of a turn is bounded, so what does not fit waits for the
//! next. Rooms take turns, and so do the members of a room: whoever lags in many rooms, or with many members, holds up
//! nobody for long.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use super::clients::{Clients, Notice};
use super::member::{State, Wait};
use super::room::Room;
use super::{Hub, HubLimits};
use crate::types::RoomId;

/// Members of one room that go on before the next room has its turn.
const AT_ONCE: usize = 8;

/// What telling one client alone costs, in deliveries.
pub(super) const NOTICE: usize = 4;

#[derive(Clone)]
pub(super) struct Turns {
    /// Rooms with members that wait for a turn.
    line: VecDeque<RoomId>,
    /// What may still be done for members that catch up until the next turn, in deliveries.
    left: usize,
    /// What was done.
    done: usize,
    /// Tells this turn from those just before.
    number: u8,
}

impl Hash for Turns {
    /// Hashes what decides what comes next, without numbers that only rise.
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.line, self.left).hash(to);
    }
}

impl Turns {
    pub fn new(limits: &HubLimits) -> Turns {
        Turns { line: VecDeque::new(), left: limits.delivery_budget, done: 0, number: 0 }
    }

    /// Returns whether a member that would go on has to wait: work is spent, or others wait already.
    pub fn must_wait(&self) -> bool {
        self.left == 0 || !self.line.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub fn spend(&mut self, work: usize) {
        self.left = self.left.saturating_sub(work);
        self.done += work;
    }

    /// Returns the number of this turn.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Begins the next turn, which may do this much.
    pub fn renew(&mut self, work: usize) {
        (self.left, self.done) = (work, 0);
        self.number = self.number.wrapping_add(1);
    }

    /// Returns whether a room is in the line, for tests.
    pub fn has(&self, room: &RoomId) -> bool {
        self.line.contains(room)
    }
}

impl Hub {
    /// Makes a member wait for its turn.
    pub(super) fn wait_for_turn(&mut self, room_id: &RoomId, seat: usize) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        if let Some(member) = room.members.get_mut(seat) {
            member.set_wait(Wait::Turn);
            room.line_up(&mut self.turns);
        }
    }

    /// Lets members that wait for a turn go on, while there is work left. Returns what was done for members that catch
    /// up since the last turn ended.
    pub(super) fn serve_turns(&mut self, clients: &mut impl Clients) -> usize {
        while self.turns.left > 0 {
            let Some(room) = self.turns.line.front().cloned() else { break };
            let is_done = !self.serve_room(&room, clients);
            self.turns.line.pop_front();
            if !is_done {
                self.turns.line.push_back(room);
            }
        }
        self.turns.done
    }

    /// Lets some members of a room go on. Returns whether others may still wait there.
    fn serve_room(&mut self, room_id: &RoomId, clients: &mut impl Clients) -> bool {
        for _ in 0..AT_ONCE {
            if self.turns.left == 0 {
                return true;
            }
            let Some(room) = self.rooms.get_mut(room_id) else { return false };
            let Some(seat) = room.next_in_turn() else {
                // The next page is read once everyone has had the last one.
                room.log.leave_line();
                room.trim(self.limits.tail_bytes);
                self.tails.touch(room_id, &mut self.rooms, self.limits.tail_bytes_total);
                self.read_room(room_id);
                return false;
            };
            let state = room.members.get(seat).map(|member| &member.state);
            let left_behind = match state {
                Some(State::Lagging { wait: Wait::Notice(since), .. }) => Some(*since),
                _ => None,
            };
            if let Some(member) = room.members.get_mut(seat) {
                member.set_wait(Wait::Nothing);
            }
            self.turns.spend(1);
            match left_behind {
                Some(since) => self.left_behind(room_id, seat, since, clients),
                None => self.proceed(room_id, seat, 1, clients),
            }
        }
        true
    }

    /// Notifies a member that it lags, since the turn with this number. The log is read for it as soon as its client's
    /// queue has room, which may be now: a page may fit where a large turn does not.
    fn left_behind(&mut self, room_id: &RoomId, seat: usize, since: u8, clients: &mut impl Clients) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let Some(member) = room.members.get(seat) else { return };
        let State::Lagging { cursor, .. } = member.state else { return };
        let (client, slot) = (member.client, member.session);
        let behind = room.log.head.0.saturating_sub(cursor.0);
        clients.tell(client, Notice::Lagging { room: room_id, behind });
        self.turns.spend(NOTICE);
        if cursor < room.live_from(seat) {
            self.advance(room_id, seat, 1, clients);
        } else if clients.has_room(client) {
            // Only the roster did not fit.
            match since == self.turns.number {
                // Nothing was written since. Retry after a while, not in the next turn, so that no client makes the hub
                // spin.
                true => self.stall(slot, room_id.clone()),
                false => self.advance(room_id, seat, 1, clients),
            }
        }
    }
}

impl Room {
    /// Puts the room in the line of those with members that wait for a turn.
    pub(super) fn line_up(&mut self, turns: &mut Turns) {
        if self.log.join_line() {
            turns.line.push_back(self.id.clone());
        }
    }

    /// Returns the seat of the member whose turn is next, if one waits.
    fn next_in_turn(&mut self) -> Option<usize> {
        let from = (self.log.next_turn as usize).min(self.members.len());
        let waits = |seats: std::ops::Range<usize>| {
            let of = seats.start;
            self.members.get(seats)?.iter().position(|member| member.waits_for_turn()).map(|at| of + at)
        };
        let seat = waits(from..self.members.len()).or_else(|| waits(0..from))?;
        self.log.next_turn = seat as u32 + 1;
        Some(seat)
    }
}
