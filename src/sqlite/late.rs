//! Sessions that could not be parked yet, since the store failed or its database was full. They wait in memory, where
//! those who come back find them, and go with later batches, a bounded number at a time. Independent of threads, files
//! and clocks.

use std::collections::{HashSet, VecDeque};

use super::batch::Write;
use crate::store::Parked;
use crate::types::SessionId;

/// Maximum number of sessions that wait. Beyond it the oldest are lost, as in a crash.
const SESSIONS: usize = 10_000;

/// Maximum number that go with a batch.
const AT_ONCE: usize = 256;

/// The sessions that wait, the oldest first, each with the running second since when it does.
#[derive(Default)]
pub(super) struct Late {
    waiting: VecDeque<(u64, Parked)>,
    /// How many of the first are in the batch that is being written.
    tried: usize,
}

impl Late {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a session at this running second.
    pub fn push(&mut self, parked: Parked, now: u64) {
        self.waiting.push_back((now, parked));
        if self.waiting.len() > SESSIONS {
            self.waiting.pop_front();
            self.tried = self.tried.saturating_sub(1);
        }
    }

    /// Removes and returns a session that comes back; `None` if it does not wait here. What has waited for longer than
    /// `keep`, in running seconds, goes: its rooms may have been removed since.
    pub fn claim(&mut self, session: SessionId, now: u64, keep: u64) -> Option<Parked> {
        self.waiting.retain(|(since, _)| since.saturating_add(keep) >= now);
        let place = self.waiting.iter().rposition(|(_, parked)| parked.session == session)?;
        self.waiting.remove(place).map(|(_, parked)| parked)
    }

    /// Returns the oldest, for the beginning of a batch. They wait here until it is written.
    pub fn begin(&mut self, now: u64, keep: u64) -> Vec<Write> {
        self.waiting.retain(|(since, _)| since.saturating_add(keep) >= now);
        self.tried = self.waiting.len().min(AT_ONCE);
        self.waiting.range(..self.tried).map(|(_, parked)| Write::Park(parked.clone())).collect()
    }

    /// Notes that so many requests of the batch were written. Returns how many of the others wait here.
    pub fn written(&mut self, count: usize) -> usize {
        let parked = count.min(self.tried);
        self.waiting.drain(..parked);
        std::mem::take(&mut self.tried) - parked
    }

    /// Takes the sessions to be parked out of a batch that does not fit, but for those that it claims itself. Returns
    /// whether there were any.
    pub fn set_aside(&mut self, batch: &mut Vec<Write>, now: u64) -> bool {
        let before = batch.len();
        batch.drain(..std::mem::take(&mut self.tried));
        let claimed: HashSet<SessionId> = batch.iter().filter_map(claimed).collect();
        for write in std::mem::take(batch) {
            match write {
                Write::Park(parked) if !claimed.contains(&parked.session) => self.push(parked, now),
                other => batch.push(other),
            }
        }
        batch.len() < before
    }

    /// Takes the sessions that wait here out of a batch that failed.
    pub fn take_back(&mut self, batch: &mut Vec<Write>) {
        batch.drain(..std::mem::take(&mut self.tried));
    }
}

fn claimed(write: &Write) -> Option<SessionId> {
    match write {
        Write::Claim(claim) => Some(claim.session),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{session_in, ticket};
    use crate::store::{Claim, Purpose};

    fn parked(number: u64) -> Parked {
        session_in(number, &[])
    }

    fn park(number: u64) -> Write {
        Write::Park(parked(number))
    }

    fn claim(number: u64) -> Write {
        Write::Claim(Claim { ticket: ticket(Purpose::Resume, number), session: parked(number).session })
    }

    fn numbers(batch: &[Write]) -> Vec<u64> {
        let number = |session: SessionId| u64::from_be_bytes(*session.0.first_chunk().unwrap());
        let of = |write: &Write| match write {
            Write::Park(parked) => number(parked.session),
            Write::Claim(claim) => 1_000 + number(claim.session),
            _ => unreachable!("no other is in these batches"),
        };
        batch.iter().map(of).collect()
    }

    fn waiting(late: &Late) -> Vec<u64> {
        late.waiting.iter().map(|(_, parked)| parked.member.as_u64()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_wait_until_they_are_written() {
        let mut late = Late::default();
        (0..600).for_each(|n| late.push(parked(n), 5));
        let mut batch = late.begin(6, 10);
        assert_eq!(numbers(&batch), (0..256).collect::<Vec<_>>());
        batch.push(claim(3));
        late.take_back(&mut batch);
        assert_eq!((numbers(&batch), late.len()), (vec![1_003], 600));
        // Only a part of the batch was written.
        late.begin(6, 10);
        assert_eq!((late.written(200), waiting(&late)), (56, (200..600).collect()));
        late.begin(6, 10);
        assert_eq!((late.written(300), waiting(&late)), (0, (456..600).collect()));
        (0..20_000).for_each(|n| late.push(parked(n), 7));
        assert_eq!((late.len(), waiting(&late)[0]), (SESSIONS, 10_000));
    }

    #[test]
    fn who_comes_back_is_found_but_not_after_too_long() {
        let mut late = Late::default();
        (0..4).for_each(|n| late.push(parked(n), n));
        assert_eq!(late.claim(parked(2).session, 10, 10), Some(parked(2)));
        assert_eq!(late.claim(parked(2).session, 10, 10), None);
        assert_eq!((late.claim(parked(0).session, 11, 10), waiting(&late)), (None, vec![1, 3]));
        assert_eq!(numbers(&late.begin(12, 10)), [3]);
    }

    #[test]
    fn what_does_not_fit_waits_but_for_what_its_batch_claims() {
        let mut late = Late::default();
        late.push(parked(9), 0);
        let mut batch = late.begin(1, 10);
        batch.extend([park(1), park(2), claim(2), park(3)]);
        assert!(late.set_aside(&mut batch, 1));
        assert_eq!((numbers(&batch), waiting(&late)), (vec![2, 1_002], vec![9, 1, 3]));
        assert!(!late.set_aside(&mut batch, 1));
        assert_eq!(late.written(2), 0);
        assert_eq!(late.waiting[0].0, 0, "it waits since then");
    }
}
