//! Who a session's client is, and what it may do in its rooms. Decided elsewhere, and kept here: a send costs a
//! comparison.

use super::Hub;
use super::clients::{Clients, Notice, Removed};
use super::session::Session;
use crate::access::{Operation, Who};
use crate::types::{Right, RoomId, SessionSlot};

impl Hub {
    /// Notes who the session's client has shown to be. What that changes in its rooms is for [`Hub::handle_rights`].
    pub fn handle_identity(&mut self, slot: SessionSlot, who: Who) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.who = who;
        }
    }

    /// Applies what the session may do in each of its rooms by now. It is taken out of those that it may no longer
    /// read, and its client is told.
    pub fn handle_rights(
        &mut self,
        slot: SessionSlot,
        rights: &dyn Fn(&RoomId) -> Option<Right>,
        clients: &mut impl Clients,
    ) {
        let mut lost = Vec::new();
        if let Some(Session { who, rooms, .. }) = self.sessions.get_mut(slot) {
            for membership in rooms {
                membership.right = rights(&membership.room);
                if Operation::Join.check(who, membership.right).is_err() {
                    lost.push(membership.room.clone());
                }
            }
        }
        for room in lost {
            self.take_out(slot, &room, Removed::Forbidden, clients);
        }
    }

    /// Notes what the session may do in a room in which it is.
    pub(super) fn set_right(&mut self, slot: SessionSlot, room: &RoomId, right: Option<Right>) {
        let rooms = self.sessions.get_mut(slot).map(|session| session.rooms.as_mut_slice()).unwrap_or_default();
        if let Some(membership) = rooms.iter_mut().find(|membership| membership.room == *room) {
            membership.right = right;
        }
    }

    /// Takes a session out of a room in which it may be, and tells its client why it is not, or no longer, there.
    pub(super) fn take_out(&mut self, slot: SessionSlot, room: &RoomId, removed: Removed, clients: &mut impl Clients) {
        let Some(client) = self.session(slot).map(|session| session.client) else { return };
        let id = self.remove_member(slot, room).and_then(|member| member.joining().and_then(|joining| joining.id));
        clients.tell(client, Notice::Left { id, room, removed: Some(removed) });
    }
}
