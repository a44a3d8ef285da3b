//! Sessions that could not be parked yet, since the store failed or its database was full. They wait in memory, where
//! those who come back find them, and go with later batches, a bounded number at a time. Independent of threads, files
//! and clocks.

use std::collections::{BTreeMap, HashMap};

use super::batch::Write;
use crate::store::Parked;
use crate::types::SessionId;

/// Maximum number of sessions that wait. Beyond it the oldest are lost, as in a crash.
const SESSIONS: usize = 10_000;

/// Maximum number that go with a batch. While they do not fit, fewer and fewer do.
const AT_ONCE: usize = 256;

/// The sessions that wait, each once.
pub(super) struct Late {
    /// By the order in which they came, each with the running second since when it waits.
    waiting: BTreeMap<u64, (u64, Parked)>,
    places: HashMap<SessionId, u64>,
    next: u64,
    /// Number of those that go with the next batch.
    at_once: usize,
    /// How many of the first are in the batch that is being written.
    tried: usize,
}

impl Default for Late {
    fn default() -> Late {
        Late { waiting: BTreeMap::new(), places: HashMap::new(), next: 0, at_once: AT_ONCE, tried: 0 }
    }
}

impl Late {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns how many wait, and how many of them go with the next batch: one of the two changes with each attempt,
    /// until not even one fits.
    pub fn progress(&self) -> (usize, usize) {
        (self.waiting.len(), self.at_once)
    }

    /// Adds a session at this running second, in the place of an earlier record of it.
    pub fn push(&mut self, parked: Parked, now: u64) {
        self.remove(parked.session);
        self.places.insert(parked.session, self.next);
        self.waiting.insert(self.next, (now, parked));
        self.next += 1;
        if self.waiting.len() > SESSIONS {
            self.pop_first();
        }
    }

    /// Removes what has waited for longer than `keep`, in running seconds: the rooms of those sessions may have been
    /// removed since.
    pub fn expire(&mut self, now: u64, keep: u64) {
        while self.waiting.first_key_value().is_some_and(|(_, (since, _))| since.saturating_add(keep) < now) {
            self.pop_first();
        }
    }

    /// Removes and returns a session that comes back, or is parked anew; `None` if it does not wait here.
    pub fn remove(&mut self, session: SessionId) -> Option<Parked> {
        let place = self.places.remove(&session)?;
        self.waiting.remove(&place).map(|(_, parked)| parked)
    }

    fn pop_first(&mut self) {
        if let Some((_, (_, parked))) = self.waiting.pop_first() {
            self.places.remove(&parked.session);
        }
    }

    /// Returns the oldest, for the beginning of a batch. They wait here until it is written.
    pub fn begin(&mut self) -> Vec<Write> {
        self.tried = self.waiting.len().min(self.at_once);
        self.waiting.values().take(self.tried).map(|(_, parked)| Write::Park(parked.clone())).collect()
    }

    /// Notes that so many requests of the batch were written. Returns how many of the others wait here.
    pub fn written(&mut self, count: usize) -> usize {
        let parked = count.min(self.tried);
        (0..parked).for_each(|_| self.pop_first());
        if parked > 0 {
            self.at_once = (self.at_once * 2).min(AT_ONCE);
        }
        std::mem::take(&mut self.tried) - parked
    }

    /// Takes the sessions that wait here out of a batch that failed.
    pub fn take_back(&mut self, batch: &mut Vec<Write>) {
        if self.tried > 0 {
            self.at_once = (self.at_once / 2).max(1);
        }
        batch.drain(..std::mem::take(&mut self.tried));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::session_in;

    fn parked(number: u64) -> Parked {
        session_in(number, &[])
    }

    fn park(number: u64) -> Write {
        Write::Park(parked(number))
    }

    fn numbers(batch: &[Write]) -> Vec<u64> {
        let number = |session: SessionId| u64::from_be_bytes(*session.0.first_chunk().unwrap());
        let of = |write: &Write| match write {
            Write::Park(parked) => number(parked.session),
            _ => unreachable!("no other is in these batches"),
        };
        batch.iter().map(of).collect()
    }

    fn waiting(late: &Late) -> Vec<u64> {
        assert_eq!(late.waiting.len(), late.places.len());
        late.waiting.values().map(|(_, parked)| parked.member.as_u64()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_wait_until_they_are_written() {
        let mut late = Late::default();
        (0..600).for_each(|n| late.push(parked(n), 5));
        let batch = late.begin();
        assert_eq!(numbers(&batch), (0..256).collect::<Vec<_>>());
        // Only a part of the batch was written.
        assert_eq!((late.written(200), waiting(&late)), (56, (200..600).collect()));
        late.begin();
        assert_eq!((late.written(300), waiting(&late)), (0, (456..600).collect()));
        (0..20_000).for_each(|n| late.push(parked(n), 7));
        assert_eq!(waiting(&late), (10_000..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn fewer_go_while_they_do_not_fit() {
        let mut late = Late::default();
        (0..600).for_each(|n| late.push(parked(n), 5));
        for at_once in [256, 128, 64, 32, 16, 8, 4, 2, 1, 1] {
            let mut batch = late.begin();
            batch.push(park(900));
            assert_eq!(batch.len(), at_once + 1);
            late.take_back(&mut batch);
            assert_eq!(numbers(&batch), [900]);
        }
        assert_eq!(late.progress(), (600, 1));
        for at_once in [1, 2, 4, 8] {
            assert_eq!(late.begin().len(), at_once);
            late.written(at_once);
        }
        assert_eq!(late.progress(), (585, 16));
    }

    #[test]
    fn who_comes_back_is_found_once_and_not_after_too_long() {
        let mut late = Late::default();
        (0..4).for_each(|n| late.push(parked(n), n));
        late.expire(10, 10);
        assert_eq!((late.remove(parked(2).session), late.remove(parked(2).session)), (Some(parked(2)), None));
        late.expire(11, 10);
        assert_eq!((late.remove(parked(0).session), waiting(&late)), (None, vec![1, 3]));
        // Its latest record counts.
        let again = Parked { generation: 7, ..parked(1) };
        late.push(again.clone(), 12);
        assert_eq!((waiting(&late), late.remove(parked(1).session)), (vec![3, 1], Some(again)));
    }
}
