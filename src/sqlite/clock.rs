//! The writer's clocks, monotonic and wall: the system's, or ones that a caller sets. Durations come from the monotonic
//! clock alone, dates from the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
            Clock::Set(clock) => clock.0.base + Duration::from_millis(clock.0.mono.load(Ordering::Relaxed)),
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
                clock.0.dates.fetch_add(1, Ordering::Relaxed);
                WallMillis(clock.0.wall.load(Ordering::Relaxed))
            }
        }
    }
}

/// Two clocks that stand still until they are set, shared by all clones. For a log that is stepped manually.
#[derive(Clone, Debug)]
pub struct SetClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    base: Instant,
    /// Milliseconds past `base`; `wall` counts from 1970.
    mono: AtomicU64,
    wall: AtomicU64,
    /// Number of times that `wall` was read.
    dates: AtomicU64,
}

impl Default for SetClock {
    fn default() -> SetClock {
        let new = || AtomicU64::new(0);
        SetClock(Arc::new(Hands { base: Instant::now(), mono: new(), wall: new(), dates: new() }))
    }
}

impl SetClock {
    /// Sets both clocks.
    pub fn set(&self, mono: Millis, wall: WallMillis) {
        self.0.mono.store(mono.0, Ordering::Relaxed);
        self.0.wall.store(wall.0, Ordering::Relaxed);
    }

    /// Returns the number of times that the wall clock was read, so that a caller knows which of its steps the log has
    /// seen.
    pub fn dates_read(&self) -> u64 {
        self.0.dates.load(Ordering::Relaxed)
    }
}
