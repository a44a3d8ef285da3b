//! The server's two clocks, derived from virtual time. The monotonic clock runs fast or slow and jumps ahead. The wall
//! clock is independent of it: it may be wrong by decades, step both ways, run fast or slow, and stand still.

use racerd::engine::Now;
use racerd::testing::Random;
use racerd::types::{Millis, WallMillis};

use super::agenda::{MILLISECOND, Micros, SECOND};

/// Wall time at which most runs begin, in microseconds since 1970.
pub const USUAL_WALL: Micros = 1_790_000_000 * SECOND;

const DAY: Micros = 86_400 * SECOND;

pub struct Clock {
    mono: Hand,
    wall: Hand,
}

/// A clock that runs evenly since it was last set.
struct Hand {
    /// Virtual time at which it showed `shown`.
    since: Micros,
    shown: Micros,
    /// In thousandths of virtual time; 0 for one that stands still.
    speed: u64,
}

impl Hand {
    fn at(&self, now: Micros) -> Micros {
        self.shown.saturating_add((now - self.since) * self.speed / 1000)
    }

    fn set(&mut self, now: Micros, shown: Micros) {
        (self.since, self.shown) = (now, shown);
    }
}

impl Clock {
    /// Creates the clocks of a machine; `speed` in thousandths, `wall` in microseconds since 1970.
    pub fn new(speed: u64, wall: Micros) -> Clock {
        Clock { mono: Hand { since: 0, shown: 0, speed }, wall: Hand { since: 0, shown: wall, speed: 1000 } }
    }

    /// Restarts the monotonic time, for a new process.
    pub fn restart(&mut self, now: Micros) {
        self.mono.set(now, 0);
    }

    pub fn read(&self, now: Micros) -> Now {
        Now { mono: Millis(self.mono.at(now) / MILLISECOND), wall: WallMillis(self.wall.at(now) / MILLISECOND) }
    }

    /// Suspends the machine for a time. Perhaps only one of the clocks notices.
    pub fn sleep(&mut self, now: Micros, by: Micros, random: &mut Random) {
        self.mono.set(now, self.mono.at(now) + by);
        if random.coin() {
            self.wall.set(now, self.wall.at(now) + by);
        }
    }

    /// Lets time pass on both clocks.
    pub fn pass(&mut self, now: Micros, by: Micros) {
        self.mono.set(now, self.mono.at(now) + by);
        self.wall.set(now, self.wall.at(now) + by);
    }

    /// Disturbs the wall clock: it shows another time, or runs at another speed from now on.
    pub fn meddle(&mut self, now: Micros, random: &mut Random) {
        let shown = self.wall.at(now);
        let speed = if random.below(4) == 0 { *random.pick(&[0, 500, 990, 1010, 2000]) } else { 1000 };
        let (step, far) = (random.magnitude((MILLISECOND, DAY)), random.magnitude((DAY, 20 * 365 * DAY)));
        let next = match random.below(10) {
            // The clock was never set, or its battery is empty.
            0 => *random.pick(&[0, 5 * SECOND]),
            1 | 2 => USUAL_WALL + now,
            3 => shown,
            4 => shown.saturating_sub(far),
            5 => shown + far,
            6 | 7 => shown.saturating_sub(step),
            _ => shown + step,
        };
        // No clock shows more than a few thousand years.
        self.wall = Hand { since: now, shown: next.min(USUAL_WALL * 100), speed };
    }

    /// Sets the wall clock right for good.
    pub fn mend(&mut self, now: Micros) {
        self.wall = Hand { since: now, shown: USUAL_WALL + now, speed: 1000 };
    }

    /// Returns the virtual time at which the monotonic clock shows `due`, or `now` if it already does.
    pub fn when(&self, due: Millis, now: Micros) -> Micros {
        let ahead = due.0.saturating_mul(MILLISECOND).saturating_sub(self.mono.at(now));
        now.saturating_add(ahead.saturating_mul(1000).div_ceil(self.mono.speed))
    }
}
