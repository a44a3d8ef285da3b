//! Rooms whose rows the store may remove: those without messages that nobody has used for long. The store proposes
//! them; the hub, which alone knows of members, has it remove those that nobody is in and for which nothing is under
//! way. Until the store has answered, appends to such a room and reads of it are held back: a member that joined
//! meanwhile could otherwise be told of the room as it was.

use std::collections::BTreeSet;

use super::Hub;
use crate::store::{Append, Page, Removed, StoreRequest};
use crate::types::{Millis, RoomId, Seq};

/// Maximum number of rooms of which the store is told at once that they are in use, and milliseconds until it is told
/// of more.
const TOLD_AT_ONCE: usize = 500;
const TOLD_EACH: u64 = 100;

#[derive(Clone, Default)]
pub(super) struct Removal {
    /// Rooms for which the store has not answered yet.
    under_way: BTreeSet<RoomId>,
    requests: Vec<StoreRequest>,
    /// When the store is next told that rooms are in use; `None` until one is that ever had a message.
    renewed_at: Option<Millis>,
    /// Rooms of which it is still to be told this time.
    untold: Vec<RoomId>,
}

impl Removal {
    /// Returns whether appends to a room and reads of it are held back.
    pub fn holds(&self, room: &RoomId) -> bool {
        !self.under_way.is_empty() && self.under_way.contains(room)
    }

    /// Returns the rooms for which the store has not answered yet.
    pub fn under_way(&self) -> impl Iterator<Item = &RoomId> {
        self.under_way.iter()
    }

    /// Returns the requests that wait for the end of the turn.
    pub fn requests(&self) -> &[StoreRequest] {
        &self.requests
    }

    pub fn deadline(&self) -> Option<Millis> {
        self.renewed_at
    }

    /// Notes that a room is in use.
    pub fn note_use(&mut self, room: &RoomId) {
        self.requests.push(StoreRequest::Use(room.clone()));
    }
}

impl Hub {
    /// Returns whether the store has not answered yet whether it removed this room. For tests.
    pub fn is_being_removed(&self, room: &RoomId) -> bool {
        self.removal.holds(room)
    }

    /// Takes the store's proposal to remove these rooms.
    pub fn handle_unused(&mut self, rooms: Vec<RoomId>) {
        for room in rooms {
            if self.removal.holds(&room) {
                continue;
            }
            if self.rooms.contains_key(&room) {
                self.removal.note_use(&room);
            } else if !self.is_asked_for(&room) {
                self.removal.requests.push(StoreRequest::Remove(room.clone()));
                self.removal.under_way.insert(room);
            }
        }
    }

    /// Takes the store's answer to a request to remove a room. What was held back goes on.
    pub fn handle_removed(&mut self, removed: &Removed) {
        self.removal.under_way.remove(&removed.room);
    }

    /// Drains the requests about rooms that may be removed, or may not.
    pub fn poll_removals(&mut self) -> impl Iterator<Item = StoreRequest> {
        self.removal.requests.drain(..)
    }

    /// Returns whether something is under way for a room.
    fn is_asked_for(&self, room: &RoomId) -> bool {
        let is_of = |append: &Append| append.room == *room;
        self.appending.contains_key(room) || self.appends.iter().any(is_of) || self.reads.has(room)
    }

    /// Notes by a room's page that it has members, if the store may not know that: it sees what is written. A room that
    /// never had a message has nothing to remove.
    pub(super) fn note_page(&mut self, page: &Page) {
        if page.head == Seq::ZERO {
            return;
        }
        if page.oldest > page.head {
            self.removal.note_use(&page.room);
        }
        self.watch_use();
    }

    /// Begins to tell the store now and then which rooms have members: it only knows when a room was last written to.
    pub(super) fn watch_use(&mut self) {
        if self.removal.renewed_at.is_none() && self.limits.renew_use > 0 {
            self.removal.renewed_at = Some(self.now.after(self.limits.renew_use));
        }
    }

    /// Tells the store which rooms have members, if that is due: of some of them, and soon of more.
    pub(super) fn renew_use(&mut self) {
        if self.removal.renewed_at.is_none_or(|at| at > self.now) {
            return;
        }
        let Removal { requests, renewed_at, untold, .. } = &mut self.removal;
        *renewed_at = None;
        if untold.is_empty() {
            let mut used: Vec<_> = self.rooms.values().filter(|room| room.log.head > Seq::ZERO).collect();
            used.sort_unstable_by_key(|room| room.stay);
            untold.extend(used.into_iter().map(|room| room.id.clone()));
        }
        if untold.is_empty() {
            return;
        }
        requests.extend(untold.drain(untold.len().saturating_sub(TOLD_AT_ONCE)..).map(StoreRequest::Use));
        if untold.is_empty() {
            self.watch_use();
        } else {
            *renewed_at = Some(self.now.after(TOLD_EACH));
        }
    }
}
