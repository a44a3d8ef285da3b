//! Keeps the [`Memory`] budget: weighs connections when they change, lowers the bound of their queues when memory runs
//! short, and chooses those to close when it has.

use std::rc::Rc;

use super::memory::{Holding, Memory, largest_first};
use super::slot::{Reading, Slot};
use super::{Budget, Connections};
use crate::conn::{ConnLimits, Ledger};
use crate::types::ConnId;

/// When in a turn the kernel is asked what it holds unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measuring {
    BeforeReads,
    BehindReads,
}

/// How a connection is closed for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    /// What waits for it is dropped, and it is told why.
    Told(ConnId),
    /// The kernel's buffers are to be freed: nothing more can be told.
    Dropped(ConnId),
}

impl Memory {
    /// Counts what a connection holds now.
    pub(super) fn weigh(&mut self, slot: &mut Slot) {
        let held = u32::try_from(slot.connection.memory()).unwrap_or(u32::MAX);
        if held != slot.held {
            self.connections += u64::from(held);
            self.connections -= u64::from(std::mem::replace(&mut slot.held, held));
        }
    }
}

impl Connections {
    /// Returns the table with this budget.
    pub fn within(mut self, budget: Budget) -> Connections {
        self.memory = Memory::new(budget);
        self
    }

    /// Applies another budget.
    pub(super) fn set_budget(&mut self, budget: Budget) {
        self.memory.budget = budget;
    }

    /// Returns the budget.
    pub fn budget(&self) -> &Budget {
        &self.memory.budget
    }

    /// Returns the ledger of the buffers that connections share.
    pub fn ledger(&self) -> &Ledger {
        &self.memory.shared
    }

    /// Returns how many more connections the memory budget allows.
    pub fn openings(&self) -> usize {
        self.memory.openings()
    }

    /// Returns the bytes that racerd holds, and the bytes that the kernel may hold, if the app holds this much.
    pub(super) fn held(&self, app: u64) -> (u64, u64) {
        (self.memory.own() - self.memory.app + app, self.memory.kernel())
    }

    /// Counts what a connection holds now. Must be called after whatever may have changed it.
    pub(super) fn weigh(&mut self, id: ConnId) {
        let slot = self.slots.get_mut(id.index as usize).and_then(Option::as_mut);
        if let Some(slot) = slot.filter(|slot| slot.generation == id.generation) {
            self.memory.weigh(slot);
        }
    }

    /// Counts that layers above or below hold so many bytes more for a connection, or less.
    pub fn grows_beside(&mut self, id: ConnId, bytes: i64) {
        if bytes == 0 {
            return;
        }
        let Some(slot) = self.slot_mut(id) else { return };
        let after = u32::try_from((i64::from(slot.beside) + bytes).max(0)).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut slot.beside, after);
        self.memory.connections += u64::from(after);
        self.memory.connections -= u64::from(before);
    }

    /// Counts nothing more for a connection that is about to be dropped.
    pub(super) fn weigh_off(&mut self, id: ConnId) {
        self.set_reading(id, Reading::Allowed);
        let Some(slot) = self.slot(id) else { return };
        let held = u64::from(slot.held) + u64::from(slot.beside);
        let unsent = slot.connection.is_backed_up();
        self.memory.connections -= held;
        self.memory.count -= 1;
        self.memory.unsent -= u32::from(unsent);
    }

    /// Changes whether a connection is read.
    pub(super) fn set_reading(&mut self, id: ConnId, reading: Reading) {
        let Some(slot) = self.slot_mut(id) else { return };
        let before = std::mem::replace(&mut slot.reading, reading);
        let counts = |reading| u32::from(reading == Reading::Stalled);
        self.memory.unread = self.memory.unread + counts(reading) - counts(before);
    }

    /// Sets the bound of queues to what the memory that is left allows.
    pub(super) fn fit_queues(&mut self) {
        let bound = self.memory.queue_bound(self.most_queued);
        if bound != self.limits.queue_bytes {
            self.limits = Rc::new(ConnLimits { queue_bytes: bound, ..ConnLimits::clone(&self.limits) });
        }
    }

    /// Begins a turn: `app` is what the app holds. Returns the connections to close, since too much memory is held.
    pub(super) fn relieve(&mut self, app: u64) -> Vec<Relief> {
        self.memory.app = app;
        self.memory.pass(self.now.mono);
        self.fit_queues();
        let (excess, innocent) = (self.memory.excess(), self.memory.innocent());
        let mut chosen: Vec<Relief> = std::mem::take(&mut self.overfull).into_iter().map(Relief::Dropped).collect();
        if excess.kernel > 0 {
            let bytes = u64::from(self.memory.budget.unsent);
            let holdings = self.holdings(|slot| if slot.connection.is_backed_up() { bytes } else { 0 });
            chosen.extend(largest_first(holdings, excess.kernel, innocent).into_iter().map(Relief::Dropped));
        }
        if excess.own > 0 {
            let shared = |slot: &Slot| slot.connection.waiting() as u64;
            let holdings = self.holdings(|slot| u64::from(slot.held) + u64::from(slot.beside) + shared(slot));
            for conn in largest_first(holdings, excess.own, innocent) {
                // What was told it is closed, and still holds memory, is closed for good.
                let is_open = self.get(conn).is_some_and(|connection| connection.session().is_some());
                chosen.push(if is_open { Relief::Told(conn) } else { Relief::Dropped(conn) });
            }
        }
        chosen
    }

    /// Notes how many connections could be read and had no turn. If what the kernel holds unread is to be measured,
    /// returns the connections that are not read beside those.
    pub(super) fn note_unserved(&mut self, unserved: usize, now: Measuring) -> Option<Vec<ConnId>> {
        self.memory.unserved = unserved as u32;
        let ids = || self.slots_by_id().filter(|(_, slot)| slot.reading == Reading::Stalled).map(|(id, _)| id);
        // What was too much before this turn's reads is looked at again behind them.
        let is_over = || self.memory.measured.is_some() && self.memory.excess().kernel > 0;
        let wants = self.memory.wants_measure() || now == Measuring::BehindReads && is_over();
        wants.then(|| ids().collect())
    }

    /// Takes over what the kernel holds unread, and, behind a turn's reads, chooses the connections to close for it in
    /// the next turn.
    pub(super) fn measured(&mut self, unread: impl Iterator<Item = (ConnId, u64)>, now: Measuring) {
        let most = u64::from(self.memory.budget.unread);
        let holding = |(conn, bytes): (ConnId, u64)| Holding {
            payer: self.payer(conn),
            conn,
            // The kernel counts its own structures in.
            bytes: bytes.saturating_mul(2).min(most),
        };
        let holdings: Vec<Holding> = unread.map(holding).collect();
        let all: u64 = holdings.iter().map(|holding| holding.bytes).sum();
        self.memory.measured = Some((self.now.mono, all));
        if now == Measuring::BeforeReads {
            return;
        }
        self.overfull = largest_first(holdings, self.memory.excess().kernel, self.memory.innocent());
    }

    pub(super) fn slots_by_id(&self) -> impl Iterator<Item = (ConnId, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref().map(|slot| (ConnId { index: index as u32, generation: slot.generation }, slot))
        })
    }

    fn holdings(&self, bytes: impl Fn(&Slot) -> u64) -> Vec<Holding> {
        let all = self.slots_by_id();
        all.map(|(conn, slot)| Holding { payer: self.payer(conn), conn, bytes: bytes(slot) }).collect()
    }

    /// Checks that the budget counts what the connections hold.
    pub(super) fn check_memory(&self) -> Result<(), String> {
        let slots = || self.slots.iter().flatten();
        let held: u64 = slots().map(|slot| u64::from(slot.held) + u64::from(slot.beside)).sum();
        let count = |is_it: fn(&Slot) -> bool| slots().filter(|slot| is_it(slot)).count() as u32;
        let memory = &self.memory;
        let counted = (memory.connections, memory.count, memory.unsent, memory.unread);
        let found = (
            held,
            count(|_| true),
            count(|slot| slot.connection.is_backed_up()),
            count(|slot| slot.reading == Reading::Stalled),
        );
        if counted != found {
            return Err(format!("the memory budget counts {counted:?}, and the connections hold {found:?}"));
        }
        let unweighed = slots().find(|slot| slot.connection.memory() != slot.held as usize);
        match unweighed {
            Some(slot) => Err(format!(
                "{} holds {} bytes, and was weighed with {}",
                slot.connection.peer.address(),
                slot.connection.memory(),
                slot.held
            )),
            None => Ok(()),
        }
    }
}
