//! The time of a turn, and the connections' deadlines in order.

use super::slot::UNARMED;
use super::{Connections, Now};
use crate::types::{ConnId, Millis};

impl Connections {
    /// Sets the time of this turn. The monotonic time never steps back: if the caller's does, this one stands still.
    pub(super) fn set_now(&mut self, now: Now) {
        self.now = Now { mono: now.mono.max(self.now.mono), wall: now.wall };
    }

    /// Returns when something is due next: the earliest armed deadline, or a handshake of somebody who waits.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.armed_deadline().into_iter().chain(self.handshake_deadline()).min()
    }

    fn armed_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Returns the milliseconds in which the handshake rate admits as many connections as are open now.
    pub fn return_time(&self) -> u64 {
        self.admission.handshakes.time_for(self.count())
    }

    /// Arms the connection's deadline, if it is earlier than the armed one. A later one is found when the armed one
    /// fires, so that a busy connection does not change the set at each byte.
    pub(super) fn arm(&mut self, id: ConnId) {
        self.arm_after(id, Millis(0));
    }

    /// Arms the deadline of a connection whose last one just fired: strictly after `fired`, so that the loop cannot
    /// spin.
    pub(super) fn arm_after(&mut self, id: ConnId, fired: Millis) {
        // One look-up: this runs for every delivery.
        let slot = self.slots.get_mut(id.index as usize).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.generation == id.generation) else { return };
        self.memory.weigh(slot);
        let Some(due) = slot.connection.deadline(&self.limits) else { return };
        let due = due.max(fired.after(1));
        if due < slot.armed {
            let before = std::mem::replace(&mut slot.armed, due);
            if before != UNARMED {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.insert((due, id));
        }
    }

    /// Returns the next connection whose deadline has come by then, and disarms it.
    pub(super) fn pop_due(&mut self, until: Millis) -> Option<ConnId> {
        if self.armed_deadline()? > until {
            return None;
        }
        let (_, id) = self.deadlines.pop_first()?;
        if let Some(slot) = self.slot_mut(id) {
            slot.armed = UNARMED;
        }
        Some(id)
    }
}
