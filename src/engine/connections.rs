//! The table of all connections and what they share: the limits, the time of the turn, the outputs. It knows
//! connections, but not the messages sent over them.
//!
//! Each of the files beside it has one job on this table: `lifecycle` opens, upgrades and drops connections, `writing`
//! fills their queues, `reading` pauses and resumes them, `timers` keeps their deadlines, `handshakes` admits
//! handshakes or has them wait.

use core::net::IpAddr;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::admission::network_of;
use super::client_rates::ClientRates;
use super::handshake_line::HandshakeLine;
use super::memory::Memory;
use super::places::Places;
use super::returns::Returns;
use super::slot::{Counted, Slot, UNARMED};
use super::{Admission, Budget, Fact, Now, Output};
use crate::conn::{ConnLimits, Connection, Door};
use crate::types::{ConnId, Millis};

pub struct Connections {
    /// The limits of the settings; `queue_bytes` is lower while memory is short.
    pub(super) limits: Rc<ConnLimits>,
    /// `queue_bytes` of the settings.
    pub(super) most_queued: usize,
    /// The earlier, higher bound on waiting bytes, and until when it still holds.
    pub(super) bound_before: Option<(usize, Millis)>,
    pub(super) admission: Admission,
    pub(super) client_rates: ClientRates,
    pub(super) places: Places,
    pub(super) handshake_line: HandshakeLine,
    pub(super) returns: Returns,
    pub(super) memory: Memory,
    /// Connections of which the kernel holds too much unread, to be closed in the next turn.
    pub(super) overfull: Vec<ConnId>,
    pub(super) now: Now,
    /// The Date header of this second.
    pub(super) date: (u64, String),
    pub(super) slots: Vec<Option<Slot>>,
    /// At most one entry for each connection: the deadline in its slot's `armed`.
    pub(super) deadlines: BTreeSet<(Millis, ConnId)>,
    /// Connections to flush at the end of the turn.
    pub(super) dirty: Vec<ConnId>,
    /// The buffer in which plaintext to be sealed is put together.
    pub(super) scratch: Vec<u8>,
    /// Connections of which bytes are here that may be parsed now.
    pub(super) unread: Vec<ConnId>,
    /// Connections whose reading may be resumed.
    pub(super) released: VecDeque<ConnId>,
    /// The server stops: nothing more is read but the ends of connections.
    pub(super) is_stopping: bool,
    /// The server has reached its connection limit.
    pub(super) is_full: bool,
    /// Connections to close with a code and reason, once nothing is borrowed.
    pub(super) scheduled_closes: VecDeque<(ConnId, u16, &'static str)>,
    outputs: VecDeque<Output>,
}

/// Milliseconds of jitter for deadlines that shorter timeouts have made due all at once.
const SPREAD: u64 = 1000;

impl Connections {
    /// Returns a table without connections.
    pub fn new(limits: ConnLimits, admission: Admission) -> Connections {
        Connections {
            most_queued: limits.queue_bytes,
            limits: Rc::new(limits),
            bound_before: None,
            admission,
            client_rates: ClientRates::default(),
            places: Places::default(),
            handshake_line: HandshakeLine::default(),
            returns: Returns::default(),
            memory: Memory::new(Budget::UNLIMITED),
            overfull: Vec::new(),
            now: Now::default(),
            date: (u64::MAX, String::new()),
            slots: Vec::new(),
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            scratch: Vec::new(),
            unread: Vec::new(),
            released: VecDeque::new(),
            is_stopping: false,
            is_full: false,
            scheduled_closes: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Applies new limits, also to open connections.
    ///
    /// A deadline that becomes earlier is armed now; one that becomes later is found when the old one fires. Deadlines
    /// that are already past are spread over a second. Reading resumes where only the old limits paused it. A
    /// connection with more waiting bytes than a lowered limit allows is not read and gets no broadcasts until it has
    /// drained, but it is not closed for that within `write_wait`.
    pub(super) fn set_limits(&mut self, limits: ConnLimits, admission: Admission) {
        let (before, write_wait) = (self.max_waiting(), self.limits.write_wait.max(limits.write_wait));
        let is_lower = limits.queue_bytes + limits.reply_bytes < self.most_queued + self.limits.reply_bytes;
        self.most_queued = limits.queue_bytes;
        self.limits = Rc::new(limits);
        self.fit_queues();
        if is_lower {
            // If the bound is lowered twice, connections within the bound in between get their time, too.
            let until = self.now.mono.after(write_wait);
            self.bound_before = Some((before, self.bound_before.map_or(until, |(_, before)| before.max(until))));
        }
        self.admission.set_limits(admission);
        for (number, id) in self.ids().into_iter().enumerate() {
            // A shorter ping period must not ping every silent connection in one turn.
            self.arm_after(id, self.now.mono.after(number as u64 % SPREAD));
            self.release(id);
        }
    }

    /// Returns the time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    pub fn limits(&self) -> &ConnLimits {
        &self.limits
    }

    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(super) fn clock_and_limits(&self) -> (Now, Rc<ConnLimits>) {
        (self.now, Rc::clone(&self.limits))
    }

    /// Returns the number of connections.
    pub fn count(&self) -> usize {
        self.memory.count as usize
    }

    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        self.slot(id).map(|slot| &slot.connection)
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slot_mut(id).map(|slot| &mut slot.connection)
    }

    /// Returns the address that a connection counts against where addresses have limits; `None` for loopback, for a
    /// trusted proxy's own, and for connections that are gone.
    pub(super) fn rated_address(&self, id: ConnId) -> Option<IpAddr> {
        let connection = self.get(id)?;
        // A proxy's connection carries the next request of anyone.
        let address = if connection.is_http() { connection.peer.address().ip() } else { connection.peer.asker() };
        (!self.admission.is_exempt(address)).then_some(address)
    }

    /// Returns the network of a connection's client (IPv6: its /64), also of a proxy's present request; `None` for
    /// loopback and for a trusted proxy's own.
    pub(super) fn client_network(&self, id: ConnId) -> Option<IpAddr> {
        let address = self.get(id)?.peer.asker();
        (!self.admission.is_exempt(address)).then(|| network_of(address))
    }

    pub(super) fn slot(&self, id: ConnId) -> Option<&Slot> {
        self.slots.get(id.index as usize)?.as_ref().filter(|slot| is_of(id, slot.generation))
    }

    pub(super) fn slot_mut(&mut self, id: ConnId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize)?.as_mut().filter(|slot| is_of(id, slot.generation))
    }

    /// Returns the ids of all connections, by index.
    pub fn ids(&self) -> Vec<ConnId> {
        self.slots_by_id().map(|(id, _)| id).collect()
    }

    /// Checks the invariants, for tests: the set of deadlines and the lists hold exactly the connections whose slots
    /// say so, each address counts exactly its open connections, and the memory budget exactly what they hold.
    pub fn check(&self) -> Result<(), String> {
        self.check_memory()?;
        let count = |is_it: fn(&Slot) -> bool| self.slots.iter().flatten().filter(|slot| is_it(slot)).count();
        let counted = count(|slot| slot.counted != Counted::Not);
        if counted != self.admission.counted() {
            return Err(format!("{counted} connections count, {} are counted", self.admission.counted()));
        }
        let in_line = count(|slot| matches!(slot.connection.door(), Some(Door::Line(_))));
        if in_line != self.handshake_line.len() {
            return Err(format!("{in_line} connections wait for a handshake, {} in line", self.handshake_line.len()));
        }
        let excess = count(|slot| slot.connection.is_excess());
        if excess != self.places.excess {
            return Err(format!("{excess} connections are in excess, {} are counted", self.places.excess));
        }
        let armed = count(|slot| slot.armed != UNARMED);
        if armed != self.deadlines.len() {
            return Err(format!("{armed} connections are armed, the set has {} deadlines", self.deadlines.len()));
        }
        if let Some((at, id)) = self.deadlines.iter().find(|(at, id)| self.slot(*id).is_none_or(|s| s.armed != *at)) {
            return Err(format!("the deadline {at:?} of {id} belongs to no connection"));
        }
        let listed = |list: &[ConnId], is_it: fn(&Slot) -> bool| {
            list.iter().filter(|id| self.slot(**id).is_some_and(is_it)).count()
        };
        let (dirty, in_list) = (count(|slot| slot.is_dirty), listed(&self.dirty, |slot| slot.is_dirty));
        if dirty != in_list {
            return Err(format!("{dirty} connections are dirty, the list has {in_list}"));
        }
        Ok(())
    }

    pub(super) fn push_output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Queues a fact for the log.
    pub fn log(&mut self, fact: Fact) {
        self.push_output(Output::Log(fact));
    }
}

/// Returns whether this is the connection that the id means: an earlier one in its slot had another generation.
fn is_of(id: ConnId, generation: u32) -> bool {
    generation == id.generation
}

#[cfg(test)]
pub(super) mod tests;
