//! When a connection's bytes may be read: reading pauses while the connection owes or awaits something, and ends
//! when the server stops.

use std::rc::Rc;

use super::Connections;
use super::slot::Reading;
use crate::types::ConnId;

impl Connections {
    /// Returns whether the socket may be read: nothing pauses it, and no bytes read earlier wait here.
    pub(super) fn may_read(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.get(id) else { return true };
        let waits = connection.has_input();
        self.may_go_on(id) && !waits
    }

    /// Returns whether the connection may parse more bytes. If it may not, the slot records what pauses it.
    pub(super) fn may_go_on(&mut self, id: ConnId) -> bool {
        let limits = Rc::clone(&self.limits);
        let is_stopping = self.is_stopping;
        let Some(connection) = self.get(id) else { return true };
        if connection.is_closing() {
            return true;
        }
        let may = !is_stopping && !connection.is_held(&limits);
        if !may {
            let pause = if connection.is_stalled(&limits) { Reading::Stalled } else { Reading::Held };
            self.set_reading(id, pause);
        }
        may
    }

    pub(super) fn is_reading(&self, id: ConnId) -> bool {
        self.slot(id).is_some_and(|slot| slot.reading == Reading::Allowed)
    }

    /// Records that one send of this connection was answered, after its client was told.
    pub fn answered(&mut self, id: ConnId) {
        let now = self.now.mono;
        if self.get_mut(id).is_some_and(|connection| connection.answered(now)) {
            self.mark_dirty(id);
            self.arm(id);
        }
    }

    /// Does not read a connection for so many milliseconds, since its peer is over its rate.
    pub fn slow(&mut self, id: ConnId, wait: u64) {
        let now = self.now.mono;
        if let Some(connection) = self.get_mut(id) {
            connection.slow_until(now.after(wait), now);
        }
    }

    /// Schedules another check of a paused connection, since the reason for the pause may be gone.
    pub fn release(&mut self, id: ConnId) {
        if self.slot(id).is_some_and(|slot| slot.reading != Reading::Allowed) {
            self.released.push_back(id);
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    pub(super) fn take_unread(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.unread);
    }

    pub(super) fn pop_released(&mut self) -> Option<ConnId> {
        self.released.pop_front()
    }
}
