//! The server's two clocks, made of virtual time: the monotonic one runs fast or slow and jumps ahead, the wall clock
//! jumps both ways and may begin in 1970.

use racerd::engine::Now;
use racerd::types::{Millis, WallMillis};

use super::agenda::{MILLISECOND, Micros};

pub struct Clock {
    /// Virtual time at which the monotonic one was `mono`.
    since: Micros,
    mono: Micros,
    /// Its speed, in thousandths.
    speed: u64,
    /// The wall clock is virtual time plus this.
    wall: Micros,
}

impl Clock {
    /// Clocks of a machine; `speed` in thousandths, `wall` in microseconds since 1970.
    pub fn new(speed: u64, wall: Micros) -> Clock {
        Clock { since: 0, mono: 0, speed, wall }
    }

    /// A process began: its monotonic time does, too.
    pub fn restart(&mut self, now: Micros) {
        self.since = now;
        self.mono = 0;
    }

    pub fn read(&self, now: Micros) -> Now {
        let wall = now.saturating_add(self.wall) / MILLISECOND;
        Now { mono: Millis(self.mono_at(now) / MILLISECOND), wall: WallMillis(wall) }
    }

    fn mono_at(&self, now: Micros) -> Micros {
        self.mono + (now - self.since) * self.speed / 1000
    }

    pub fn jump_ahead(&mut self, now: Micros, by: Micros) {
        self.mono = self.mono_at(now) + by;
        self.since = now;
    }

    pub fn set_wall(&mut self, wall: Micros) {
        self.wall = wall;
    }

    /// The virtual time at which the monotonic clock shows `due`; now, if it does already.
    pub fn when(&self, due: Millis, now: Micros) -> Micros {
        let ahead = due.0.saturating_mul(MILLISECOND).saturating_sub(self.mono_at(now));
        now.saturating_add(ahead.saturating_mul(1000).div_ceil(self.speed))
    }
}
