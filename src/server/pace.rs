//! How much work the end of a turn may be: a delivery cannot be interrupted by the clock, so what one costs is taken
//! from the turns before.

use std::time::Duration;

/// Fewer deliveries than this are never allowed, however slow the machine is: large rooms have to come to an end.
const LEAST: usize = 256;

/// What a delivery costs on the slowest machine that racerd is meant for.
const AT_FIRST: Duration = Duration::from_micros(2);

/// What a delivery costs at least, in picoseconds: a turn in which the clock stood still tells nothing.
const CHEAPEST: u64 = 10_000;

/// The part of what is known that each turn replaces.
const WEIGHT: u64 = 8;

/// What one delivery costs at present.
#[derive(Debug)]
pub struct Pace {
    /// In picoseconds: a delivery may cost less than a hundred nanoseconds.
    cost: u64,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { cost: AT_FIRST.as_nanos() as u64 * 1000 }
    }

    /// Returns how many deliveries take about this long.
    pub fn within(&self, time: Duration) -> usize {
        let picoseconds = u64::try_from(time.as_nanos().saturating_mul(1000)).unwrap_or(u64::MAX);
        usize::try_from(picoseconds / self.cost).unwrap_or(usize::MAX).max(LEAST)
    }

    /// Returns whether so many deliveries tell what one costs. Of a few, other things take most of the time.
    pub fn tells(deliveries: usize) -> bool {
        deliveries >= LEAST
    }

    /// Notes that so many deliveries took this long.
    pub fn note(&mut self, deliveries: usize, taken: Duration) {
        let each = u64::try_from(taken.as_nanos().saturating_mul(1000) / deliveries.max(1) as u128).unwrap_or(u64::MAX);
        // A turn in which the machine did something else must not make all later ones short.
        let each = each.min(self.cost.saturating_mul(4));
        self.cost = (self.cost / WEIGHT * (WEIGHT - 1)).saturating_add(each / WEIGHT).max(CHEAPEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(2);

    #[test]
    fn work_follows_what_it_costs() {
        let mut pace = Pace::new();
        assert_eq!(pace.within(PART), 1000);
        (0..100).for_each(|_| pace.note(1000, Duration::from_micros(100)));
        assert!((15_000..25_000).contains(&pace.within(PART)), "{pace:?}");
        pace.note(1000, Duration::from_secs(3));
        assert!(pace.within(PART) > 10_000, "one pause: {pace:?}");
        assert!(!Pace::tells(3));
        (0..100).for_each(|_| pace.note(1000, Duration::from_millis(500)));
        assert_eq!(pace.within(PART), LEAST, "{pace:?}");
    }

    #[test]
    fn no_clock_makes_it_fail() {
        let mut pace = Pace::new();
        (0..1000).for_each(|_| pace.note(usize::MAX, Duration::ZERO));
        assert!(pace.within(Duration::MAX) > LEAST);
        (0..1000).for_each(|_| pace.note(LEAST, Duration::MAX));
        assert_eq!(pace.within(PART), LEAST);
    }
}
