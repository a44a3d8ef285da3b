//! The in-memory log behind [`Store`]: it answers immediately, and ends with the process.

use super::{Bounds, MemoryLog, Store, StoreEvent, StoreRequest, new_epoch};
use crate::types::Epoch;

/// An in-memory log, with the answers that were not taken yet.
pub struct InMemory {
    log: MemoryLog,
    bounds: Bounds,
    token_key: [u8; 32],
    events: Vec<StoreEvent>,
}

impl InMemory {
    /// Creates an empty log. `epoch` and `token_key` are random.
    pub fn new(bounds: Bounds, epoch: &[u8; 8], token_key: [u8; 32]) -> InMemory {
        let mut log = MemoryLog::new(new_epoch(epoch), bounds.memory_room_bytes, bounds.memory_total_bytes);
        log.set_rooms_max(bounds.rooms_max);
        log.set_parked_max(bounds.parked_max);
        InMemory { log, bounds, token_key, events: Vec::new() }
    }
}

impl Store for InMemory {
    fn epoch(&self) -> &Epoch {
        self.log.epoch()
    }

    fn token_key(&self) -> [u8; 32] {
        self.token_key
    }

    fn running_seconds(&self) -> u64 {
        0
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn set_bounds(&mut self, bounds: Bounds) {
        self.log.set_limits(bounds.memory_room_bytes, bounds.memory_total_bytes);
        self.events.extend(self.log.set_rooms_max(bounds.rooms_max));
        self.log.set_parked_max(bounds.parked_max);
        self.bounds = bounds;
    }

    fn submit(&mut self, requests: &mut Vec<StoreRequest>) {
        self.log.answer(requests, &mut self.events);
    }

    fn take(&mut self, events: &mut Vec<StoreEvent>) {
        events.append(&mut self.events);
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}
