//! The writer's clocks, monotonic and wall: the system's, or ones that a caller sets. Durations come from the monotonic
//! clock alone, dates from the wall clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::{Millis, WallMillis};

/// The source of the writer's time.
#[derive(Clone, Debug, Default)]
pub(super) enum Clock {
    #[default]
    System,
    Set(SetClock),
}

impl Clock {
    /// Returns the monotonic time.
    pub fn now(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            Clock::Set(clock) => clock.base + Duration::from_millis(clock.hands().mono.0),
        }
    }

    /// Returns the time since `then`; zero if `then` is in the future.
    pub fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }

    /// Returns the wall clock time.
    pub fn wall(&self) -> WallMillis {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Clock::Set(clock) => {
                let mut hands = clock.hands();
                hands.dates += 1;
                hands.wall
            }
        }
    }
}

/// Two clocks that stand still until they are set, shared by all clones. For a log that is stepped manually.
#[derive(Clone, Debug)]
pub struct SetClock {
    base: Instant,
    hands: Arc<Mutex<Hands>>,
}

#[derive(Debug, Default)]
struct Hands {
    /// Past `base`; `wall` counts from 1970.
    mono: Millis,
    wall: WallMillis,
    /// Number of times that `wall` was read.
    dates: u64,
}

impl Default for SetClock {
    fn default() -> SetClock {
        SetClock { base: Instant::now(), hands: Arc::default() }
    }
}

impl SetClock {
    /// Sets both clocks.
    pub fn set(&self, mono: Millis, wall: WallMillis) {
        let mut hands = self.hands();
        (hands.mono, hands.wall) = (mono, wall);
    }

    /// Returns the number of times that the wall clock was read, so that a caller knows which of its steps the log has
    /// seen.
    pub fn dates_read(&self) -> u64 {
        self.hands().dates
    }

    /// Locks the clocks. A thread that panicked meanwhile cannot have left them half set.
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
