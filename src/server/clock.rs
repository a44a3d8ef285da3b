//! The two clocks, read once per turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;
use crate::types::{Millis, WallMillis};

pub struct Clock {
    start: Instant,
    last: Now,
}

impl Clock {
    pub fn start() -> Clock {
        let mut clock = Clock { start: Instant::now(), last: Now::default() };
        clock.now();
        clock
    }

    /// Reads both clocks.
    pub fn now(&mut self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.last = Now { mono: Millis(self.start.elapsed().as_millis() as u64), wall: WallMillis(wall) };
        self.last
    }

    /// Returns the times of the last reading.
    pub fn last(&self) -> Now {
        self.last
    }
}
