//! A rate with a burst, in eight bytes (the generic cell rate algorithm: one remembers when the bucket will be full
//! again); and when those who were refused may come again.

use crate::types::Millis;

/// So many a period, and so many at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Microseconds between two; 0 for no limit.
    interval: u64,
    burst: u64,
}

impl Rate {
    /// `count` in `period` milliseconds, of which `burst` may come at once. A count of 0 is no limit.
    pub fn new(count: u32, period: u64, burst: u32) -> Rate {
        let interval = if count == 0 { 0 } else { (period * 1000 / u64::from(count)).max(1) };
        Rate { interval, burst: u64::from(burst.max(1)) }
    }

    /// Milliseconds in which so many pass.
    pub fn time_for(self, count: usize) -> u64 {
        self.interval.saturating_mul(count as u64) / 1000
    }
}

/// Ordered by how much was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// When it will be full, in microseconds.
    full_at: u64,
}

impl Bucket {
    /// Takes one. If none is left: the milliseconds until one is.
    pub fn take(&mut self, rate: Rate, now: Millis) -> Result<(), u64> {
        let now = now.0.saturating_mul(1000);
        // The rate may be another than before: a bucket is never emptier than empty.
        let full_at = self.full_at.clamp(now, now.saturating_add(rate.interval * rate.burst));
        self.full_at = full_at;
        let over = (full_at - now).saturating_sub(rate.interval * (rate.burst - 1));
        if over > 0 {
            return Err(over.div_ceil(1000));
        }
        self.full_at = full_at + rate.interval;
        Ok(())
    }

    /// Is it as if nothing had been taken? Then it need not be kept.
    pub fn is_full(&self, now: Millis) -> bool {
        self.full_at <= now.0.saturating_mul(1000)
    }
}

/// The turns that those whom a rate refuses are told to wait for: each one of its own. Told the same time, they would all
/// come at once, and all but a few in vain. Nobody is held to it, and nobody's turn is kept free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// The last one that somebody was told, in microseconds.
    last: u64,
}

/// Nobody is told to wait for longer, in milliseconds; past it, turns begin again from the front.
const LONGEST: u64 = 60_000;

impl Turns {
    /// The milliseconds until the next free turn. `wait`: until the rate has something at all.
    pub fn next(&mut self, rate: Rate, wait: u64, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1000);
        let first = now + wait * 1000;
        let turn = first.max(self.last + rate.interval);
        self.last = if turn - now > LONGEST * 1000 { first } else { turn };
        (self.last - now).div_ceil(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_one_apart() {
        let rate = Rate::new(1000, 1000, 2000);
        let (mut bucket, mut turns) = (Bucket::default(), Turns::default());
        let now = Millis(7_000);
        let mut waits = Vec::new();
        for _ in 0..10_000 {
            if let Err(wait) = bucket.take(rate, now) {
                waits.push(turns.next(rate, wait, now));
            }
        }
        assert_eq!(waits, (1..=8000).collect::<Vec<u64>>());
        // Those who come when they were told are let in, all of them.
        for wait in waits {
            assert_eq!(bucket.take(rate, now.after(wait)), Ok(()), "{wait}");
        }
        // Who comes later begins at the front.
        assert_eq!(turns.next(rate, 3, Millis(60_000)), 3);
        // Nobody waits for long, however many there are.
        let slow = Rate::new(1, 1000, 1);
        let mut turns = Turns::default();
        let waits: Vec<u64> = (0..150).map(|_| turns.next(slow, 1000, now)).collect();
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
    fn another_rate_from_now_on() {
        let (slow, fast, none) = (Rate::new(1, 1000, 10), Rate::new(1000, 1000, 10), Rate::new(0, 1000, 1));
        let at = Millis(5_000);
        let mut empty = Bucket::default();
        while empty.take(slow, at).is_ok() {}
        assert_eq!({ empty }.take(none, at), Ok(()));
        assert_eq!(empty.take(fast, at), Err(1), "the next comes at the new rate");
        assert_eq!(empty.take(fast, at.after(1)), Ok(()));
        let mut used = Bucket::default();
        while used.take(fast, at).is_ok() {}
        assert_eq!(used.take(slow, at.after(10)), Ok(()), "what was refilled at the old rate counts");
    }

    #[test]
    fn no_limit() {
        let rate = Rate::new(0, 1000, 1);
        let mut bucket = Bucket::default();
        assert!((0..10_000).all(|_| bucket.take(rate, Millis(1)).is_ok()));
        assert!(bucket.is_full(Millis(1)));
    }
}
