//! A rate limit with a burst in eight bytes (the generic cell rate algorithm, which stores when the bucket will be full
//! again), and the times at which refused clients may retry.

use crate::types::Millis;

/// How many actions are allowed per period, and how many of them at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Microseconds between two actions; 0 for no limit.
    interval: u64,
    burst: u64,
}

impl Rate {
    /// Returns a rate of `count` per `period` milliseconds, `burst` of which may come at once. A count of 0 is no
    /// limit.
    pub fn new(count: u32, period: u64, burst: u32) -> Rate {
        let interval = if count == 0 { 0 } else { (period * 1000 / u64::from(count)).max(1) };
        Rate { interval, burst: u64::from(burst.max(1)) }
    }

    /// Returns how many actions it allows in so many milliseconds, besides those that may come at once.
    pub fn in_time(self, milliseconds: u64) -> usize {
        let actions = (milliseconds * 1000).checked_div(self.interval);
        actions.map_or(usize::MAX, |actions| usize::try_from(actions).unwrap_or(usize::MAX))
    }

    /// Returns so many times this rate.
    pub fn times(self, shares: u32) -> Rate {
        let interval = if self.interval == 0 { 0 } else { (self.interval / u64::from(shares.max(1))).max(1) };
        Rate { interval, burst: self.burst.saturating_mul(u64::from(shares)) }
    }

    /// Returns how many actions may come at once.
    pub fn burst(self) -> usize {
        self.burst as usize
    }

    /// Returns the milliseconds that `count` actions take at this rate.
    pub fn time_for(self, count: usize) -> u64 {
        self.interval.saturating_mul(count as u64) / 1000
    }
}

/// The amount taken from a rate. Buckets are ordered by that amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// When the bucket will be full again, in microseconds.
    full_at: u64,
}

impl Bucket {
    /// Takes one action.
    ///
    /// # Errors
    /// The rate is spent: the milliseconds until one more action is free.
    pub fn take(&mut self, rate: Rate, now: Millis) -> Result<(), u64> {
        let now = now.0.saturating_mul(1000);
        // The rate may have changed since: a bucket is never emptier than empty.
        let full_at = self.full_at.clamp(now, now.saturating_add(rate.interval * rate.burst));
        self.full_at = full_at;
        let over = (full_at - now).saturating_sub(rate.interval * (rate.burst - 1));
        if over > 0 {
            return Err(over.div_ceil(1000));
        }
        self.full_at = full_at + rate.interval;
        Ok(())
    }

    /// Takes one action even beyond the rate, for one of `sharers` who each wait until what they took is paid for: so
    /// many at most are owed. Returns when the next one is free.
    pub fn spend(&mut self, rate: Rate, sharers: u32, now: Millis) -> Millis {
        if rate.interval == 0 {
            return now;
        }
        self.full_at = self.owing(rate, sharers, now).saturating_add(rate.interval);
        self.free_at(rate, sharers.saturating_add(1), now)
    }

    /// Returns when the next action is free, with so many sharers.
    pub fn free_at(&self, rate: Rate, sharers: u32, now: Millis) -> Millis {
        let free_at = self.owing(rate, sharers, now).saturating_sub(rate.interval * (rate.burst - 1));
        Millis(free_at.div_ceil(1000)).max(now)
    }

    /// Returns when the bucket will be full again, in microseconds, if no more is owed than so many sharers may.
    fn owing(&self, rate: Rate, sharers: u32, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1000);
        let owed = rate.interval.saturating_mul(u64::from(sharers.saturating_sub(1)));
        self.full_at.clamp(now, now.saturating_add(rate.interval * rate.burst).saturating_add(owed))
    }

    /// Returns the milliseconds until one more action is free, if `pending` others come first.
    pub fn wait(&self, rate: Rate, pending: usize, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1000);
        let full_at = self.full_at.clamp(now, now.saturating_add(rate.interval * rate.burst));
        let taken = (full_at - now).saturating_add(rate.interval.saturating_mul(pending as u64));
        taken.saturating_sub(rate.interval * (rate.burst - 1)).div_ceil(1000)
    }

    /// Returns whether everything that was taken has been refilled. Such a bucket need not be kept.
    pub fn is_full(&self, now: Millis) -> bool {
        self.full_at <= now.0.saturating_mul(1000)
    }
}

/// Gives each client that a rate refuses its own time to retry. With a common time they would all retry at once, most
/// of them in vain. The times are advice: they are neither enforced nor reserved.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetrySlots {
    /// The last time that was given, in microseconds.
    last: u64,
}

/// The longest wait that is given, in milliseconds. Past it, the times start over at the earliest one.
const MAX_WAIT: u64 = 60_000;

impl RetrySlots {
    /// Returns the milliseconds until the next time that no client was given. `wait`: milliseconds until the rate
    /// allows anything at all.
    pub fn next(&mut self, rate: Rate, wait: u64, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1000);
        let first = now + wait * 1000;
        let next = first.max(self.last + rate.interval);
        self.last = if next - now > MAX_WAIT * 1000 { first } else { next };
        (self.last - now).div_ceil(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_slots_are_one_interval_apart() {
        let rate = Rate::new(1000, 1000, 2000);
        let (mut bucket, mut slots) = (Bucket::default(), RetrySlots::default());
        let now = Millis(7_000);
        let mut waits = Vec::new();
        for _ in 0..10_000 {
            if let Err(wait) = bucket.take(rate, now) {
                waits.push(slots.next(rate, wait, now));
            }
        }
        assert_eq!(waits, (1..=8000).collect::<Vec<u64>>());
        // Every client that retries at its time is admitted.
        for wait in waits {
            assert_eq!(bucket.take(rate, now.after(wait)), Ok(()), "{wait}");
        }
        // A later refusal starts over at the earliest time.
        assert_eq!(slots.next(rate, 3, Millis(60_000)), 3);
        // No wait is long, however many clients there are.
        let slow = Rate::new(1, 1000, 1);
        let mut slots = RetrySlots::default();
        let waits: Vec<u64> = (0..150).map(|_| slots.next(slow, 1000, now)).collect();
        assert_eq!((waits[0], waits[59], waits[60], waits.iter().max()), (1000, 60_000, 1000, Some(&60_000)));
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(20, 1000, 100);
        let mut bucket = Bucket::default();
        let at = Millis(5_000);
        for _ in 0..100 {
            assert_eq!(bucket.take(rate, at), Ok(()));
        }
        assert_eq!(bucket.take(rate, at), Err(50));
        assert!(!bucket.is_full(at.after(4999)) && bucket.is_full(at.after(5000)));
        assert_eq!(bucket.take(rate, at.after(49)), Err(1));
        assert_eq!(bucket.take(rate, at.after(50)), Ok(()));
        assert_eq!(bucket.take(rate, at.after(50)), Err(50));
        assert_eq!((0..200).filter(|_| bucket.take(rate, at.after(60_000)).is_ok()).count(), 100);
    }

    #[test]
    fn what_is_pending_comes_first() {
        let rate = Rate::new(20, 1000, 3);
        let (mut bucket, at) = (Bucket::default(), Millis(5_000));
        assert_eq!([0, 2, 3, 4].map(|pending| bucket.wait(rate, pending, at)), [0, 0, 50, 100]);
        bucket.spend(rate, 1, at);
        bucket.spend(rate, 1, at);
        assert_eq!([0, 1, 2].map(|pending| bucket.wait(rate, pending, at)), [0, 50, 100]);
        assert_eq!([0, 1, 2].map(|pending| bucket.wait(rate, pending, at.after(49))), [0, 1, 51]);
        assert_eq!(bucket.wait(rate, 1, at.after(50)), 0);
        assert_eq!(bucket.wait(Rate::new(0, 1000, 1), 1000, at), 0, "no limit");
    }

    #[test]
    fn what_is_spent_beyond_the_rate_has_to_be_waited_for() {
        let rate = Rate::new(20, 1000, 100);
        let mut bucket = Bucket::default();
        let at = Millis(5_000);
        for _ in 0..99 {
            assert_eq!(bucket.spend(rate, 1, at), at);
        }
        assert_eq!(bucket.spend(rate, 1, at), at.after(50), "the burst is over");
        assert_eq!(bucket.spend(rate, 1, at.after(50)), at.after(100));
        for _ in 0..1_000 {
            bucket.spend(rate, 1, at.after(100));
        }
        assert_eq!(bucket.spend(rate, 1, at.after(100)), at.after(200), "one at most is owed");
        assert_eq!(bucket.spend(rate, 1, at.after(60_000)), at.after(60_000));
        assert_eq!(Bucket::default().spend(Rate::new(0, 1000, 1), 1, at), at, "no limit");
    }

    #[test]
    fn a_rate_may_change() {
        let (slow, fast, none) = (Rate::new(1, 1000, 10), Rate::new(1000, 1000, 10), Rate::new(0, 1000, 1));
        let at = Millis(5_000);
        let mut empty = Bucket::default();
        while empty.take(slow, at).is_ok() {}
        assert_eq!({ empty }.take(none, at), Ok(()));
        assert_eq!(empty.take(fast, at), Err(1), "the next one comes at the new rate");
        assert_eq!(empty.take(fast, at.after(1)), Ok(()));
        let mut used = Bucket::default();
        while used.take(fast, at).is_ok() {}
        assert_eq!(used.take(slow, at.after(10)), Ok(()), "what was refilled at the old rate counts");
    }

    #[test]
    fn a_rate_may_be_multiplied() {
        let (rate, at) = (Rate::new(20, 1000, 40).times(16), Millis(5_000));
        let mut bucket = Bucket::default();
        assert_eq!((0..1000).filter(|_| bucket.take(rate, at).is_ok()).count(), 640);
        assert_eq!((0..1000).filter(|_| bucket.take(rate, at.after(1000)).is_ok()).count(), 320);
        assert_eq!(Bucket::default().wait(Rate::new(0, 1000, 1).times(16), 1000, at), 0, "no limit stays none");
        assert!(Bucket::default().wait(Rate::new(1_000_000, 1000, 1).times(16), 10_000, at) > 0, "a limit stays one");
    }

    #[test]
    fn no_limit() {
        let rate = Rate::new(0, 1000, 1);
        let mut bucket = Bucket::default();
        assert!((0..10_000).all(|_| bucket.take(rate, Millis(1)).is_ok()));
        assert!(bucket.is_full(Millis(1)));
    }
}
