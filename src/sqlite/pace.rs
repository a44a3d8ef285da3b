//! The pace of commits: a commit costs nearly the same for one message as for ten, so that under load each begins no
//! sooner than some time after the last one began, and what arrives meanwhile shares it. A message that comes alone
//! never waits. Where waiting gains nothing, since the senders wait for their answers themselves, it is given up, and
//! tried again from time to time. Pure.

use std::time::{Duration, Instant};

/// Maximum number of commits between two attempts to wait while waiting gains nothing.
const MOST_SKIPPED: u32 = 64;

/// Decides when the next commit begins.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last commit began.
    began: Option<Instant>,
    /// The number of writes that were there when the present wait began.
    waited_with: Option<usize>,
    /// Number of commits that begin at once, and how many will the next time that a wait is in vain.
    skipped: u32,
    next_skipped: u32,
}

impl Pace {
    /// Returns how long a commit of `writes` writes, which could begin now, is to wait for more.
    pub fn wait(&mut self, now: Instant, delay: Duration, writes: usize) -> Option<Duration> {
        let due = self.began? + delay;
        if self.skipped > 0 || now >= due {
            return None;
        }
        self.waited_with.get_or_insert(writes);
        Some(due - now)
    }

    /// Records that a commit of `writes` writes begins.
    pub fn begin(&mut self, now: Instant, writes: usize) {
        self.began = Some(now);
        match self.waited_with.take() {
            // Half as many more are worth it.
            Some(before) if writes >= before + before.div_ceil(2) => self.next_skipped = 0,
            Some(_) => {
                self.next_skipped = (self.next_skipped * 2).clamp(1, MOST_SKIPPED);
                self.skipped = self.next_skipped;
            }
            None => self.skipped = self.skipped.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(2);

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_lone_message_never_waits() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..10 {
            let now = start + DELAY * n;
            assert_eq!(pace.wait(now, DELAY, 1), None);
            pace.begin(now, 1);
        }
    }

    #[test]
    fn under_load_each_begins_a_delay_after_the_last() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.begin(start, 1);
        for n in 0..100 {
            let began = start + DELAY * n;
            assert_eq!(pace.wait(began + micros(400), DELAY, 4), Some(micros(1_600)));
            assert_eq!(pace.wait(began + micros(1_000), DELAY, 10), Some(micros(1_000)), "it goes on waiting");
            assert_eq!(pace.wait(began + DELAY, DELAY, 20), None);
            pace.begin(began + DELAY, 20);
        }
        assert_eq!(pace.wait(start + DELAY * 100, Duration::ZERO, 20), None, "without a delay");
    }

    #[test]
    fn waiting_in_vain_is_given_up_and_tried_again() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        pace.begin(now, 1);
        let mut waits = 0;
        // A sender that repeats at once, whenever it has its answer.
        for _ in 0..1_000 {
            now += micros(400);
            if let Some(wait) = pace.wait(now, DELAY, 1) {
                waits += 1;
                now += wait;
            }
            pace.begin(now, 1);
        }
        assert_eq!(waits, 21, "at 1, 3, 6, 11, 20, ...");
        // Others join it.
        let mut waits = 0;
        for _ in 0..200 {
            now += micros(400);
            if let Some(wait) = pace.wait(now, DELAY, 2) {
                waits += 1;
                now += wait;
            }
            pace.begin(now, 5);
        }
        assert!(waits > 130, "{waits}");
    }
}
