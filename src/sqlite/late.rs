//! What is to be written of sessions and could not be yet, since the store failed or its database was full: sessions to
//! be parked, and what became of others. It waits in memory, where those who come back find it, and goes with later
//! batches, a bounded number at a time. Independent of threads, files and clocks.

use std::collections::{BTreeMap, HashMap};

use super::batch::Write;
use crate::store::{Holder, Holders, Mark, Parked, Victim};
use crate::types::SessionId;

/// Maximum number of sessions that wait. Beyond it those are lost, as in a crash, that came first of the network that
/// has most.
const SESSIONS: usize = 10_000;

/// Maximum number that go with a batch. While they do not fit, fewer and fewer do.
const AT_ONCE: usize = 256;

/// What waits.
pub(super) trait Waits: Clone {
    fn session(&self) -> SessionId;

    /// Returns the network that pays for it, as far as that is known.
    fn holder(&self) -> Holder {
        Holder::of(None)
    }

    fn write(&self) -> Write;
}

impl Waits for Parked {
    fn session(&self) -> SessionId {
        self.session
    }

    fn write(&self) -> Write {
        Write::Park(self.clone())
    }
}

impl Waits for Mark {
    fn session(&self) -> SessionId {
        self.session
    }

    fn holder(&self) -> Holder {
        self.holder
    }

    fn write(&self) -> Write {
        Write::Mark(*self)
    }
}

/// What waits, of each session once.
pub(super) struct Late<T> {
    /// By the order in which they came, each with the running second since when it waits.
    waiting: BTreeMap<u64, (u64, T)>,
    places: HashMap<SessionId, u64>,
    holders: Holders<SessionId>,
    next: u64,
    /// Number of those that go with the next batch.
    at_once: usize,
    /// How many of the first are in the batch that is being written.
    tried: usize,
    /// How many were lost for want of a place, and nobody was told of.
    lost: u64,
}

impl<T> Default for Late<T> {
    fn default() -> Late<T> {
        Late {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            holders: Holders::default(),
            next: 0,
            at_once: AT_ONCE,
            tried: 0,
            lost: 0,
        }
    }
}

impl<T: Waits> Late<T> {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns how many wait, and how many of them go with the next batch: one of the two changes with each attempt,
    /// until not even one fits.
    pub fn progress(&self) -> (usize, usize) {
        (self.waiting.len(), self.at_once)
    }

    /// Returns how many were lost since it was last asked.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Adds one at this running second, in the place of an earlier one of its session.
    pub fn push(&mut self, late: T, now: u64) {
        let session = late.session();
        self.remove(session);
        self.places.insert(session, self.next);
        self.holders.put(session, late.holder());
        self.waiting.insert(self.next, (now, late));
        self.next += 1;
        if self.waiting.len() > SESSIONS
            && let Some(Victim::Record(session, _)) = self.holders.next_victim(0)
        {
            self.remove(session);
            self.lost += 1;
        }
    }

    /// Removes what has waited for longer than `keep`, in running seconds: nobody can come back for it, and the rooms
    /// of those sessions may have been removed since.
    pub fn expire(&mut self, now: u64, keep: u64) {
        while self.waiting.first_key_value().is_some_and(|(_, (since, _))| since.saturating_add(keep) < now) {
            self.pop_first();
        }
    }

    /// Returns what waits of a session.
    pub fn get(&self, session: SessionId) -> Option<&T> {
        let place = self.places.get(&session)?;
        self.waiting.get(place).map(|(_, late)| late)
    }

    /// Removes and returns what waits of a session; `None` if nothing does.
    pub fn remove(&mut self, session: SessionId) -> Option<T> {
        let place = self.places.remove(&session)?;
        self.holders.remove(&session);
        self.waiting.remove(&place).map(|(_, late)| late)
    }

    fn pop_first(&mut self) {
        if let Some((_, (_, late))) = self.waiting.pop_first() {
            self.places.remove(&late.session());
            self.holders.remove(&late.session());
        }
    }

    /// Returns the oldest, for the beginning of a batch. They wait here until it is written.
    pub fn begin(&mut self) -> Vec<Write> {
        self.tried = self.waiting.len().min(self.at_once);
        self.waiting.values().take(self.tried).map(|(_, late)| late.write()).collect()
    }

    /// Notes that so many requests of the batch, from those of here on, were written. Returns how many of these are
    /// from here, and how many of the others wait here.
    pub fn written(&mut self, count: usize) -> (usize, usize) {
        let written = count.min(self.tried);
        (0..written).for_each(|_| self.pop_first());
        if written > 0 {
            self.at_once = (self.at_once * 2).min(AT_ONCE);
        }
        (written, std::mem::take(&mut self.tried) - written)
    }

    /// Takes what waits here out of a batch that failed, whose first requests are from here.
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
    use crate::store::Standing;
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

    fn waiting(late: &Late<Parked>) -> Vec<u64> {
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
        assert_eq!((late.written(200), waiting(&late)), ((200, 56), (200..600).collect()));
        late.begin();
        assert_eq!((late.written(300), waiting(&late)), ((256, 0), (456..600).collect()));
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

    #[test]
    fn of_too_many_marks_the_oldest_of_the_largest_network_are_lost_and_counted() {
        let mark = |number: u64, network: u8| Mark {
            session: parked(number).session,
            standing: Standing::Ended,
            holder: Holder::of(Some([192, 0, 2, network].into())),
            asker: None,
        };
        let mut late = Late::default();
        (0..10).for_each(|n| late.push(mark(n, 1), 5));
        (10..SESSIONS as u64 + 100).for_each(|n| late.push(mark(n, 2), 5));
        assert!((0..10).all(|n| late.get(parked(n).session) == Some(&mark(n, 1))));
        assert_eq!((late.get(parked(109).session), late.get(parked(110).session)), (None, Some(&mark(110, 2))));
        assert_eq!((late.take_lost(), late.take_lost()), (100, 0));
    }
}
