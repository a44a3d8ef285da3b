//! The reference time for the ages of messages. The wall clock may be wrong by decades and may step, so it is trusted
//! only as far as racerd's own running time explains it, or once it has held for a while. Pure: times come in as
//! numbers.
//!
//! A *line* is a wall clock that runs with racerd: its offset is the wall time minus the running time. While the clock
//! is right and racerd runs, there is one line. A clock that leaps ahead starts a second line above it, and ages follow
//! the lowest line until the clock has been at or above the next one for as long as the caller asks. So the reference
//! time is, in effect, the lowest that the clock has shown recently, advanced by the running time since. A clock that
//! steps back is trusted immediately: it makes messages look younger, and nothing is deleted too early.
//!
//! It would not work to wait for the new time to hold without deleting anything: a machine that runs for some hours a
//! day would begin to wait at each start, and never delete anything.

use crate::types::WallMillis;

/// Smaller leaps, in milliseconds, are ignored: the two clocks are not read at the same moment.
const JITTER: i64 = 1_000;

/// Maximum number of lines. If there are more, one is dropped, and its offset counts as not held yet.
const LINES: usize = 32;

/// Size of a stored line in bytes.
const LINE_BYTES: usize = 16;

/// The relevant history of the clock: lines in ascending order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ages {
    lines: Vec<Line>,
    /// Whether the clock shows a time before racerd existed.
    is_unset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// Running milliseconds since which the clock has not been below this line.
    since: u64,
    /// Milliseconds since 1970 at running time 0.
    offset: i64,
}

/// The reason why ages do not follow the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It shows a time before racerd existed: nothing expires.
    Unset,
    /// It has leapt ahead.
    Leapt {
        /// Milliseconds by which it is ahead of the reference time.
        ahead: u64,
    },
}

impl Ages {
    /// Returns how long a clock has to hold, in running milliseconds, if messages are kept for `keep_for` milliseconds:
    /// a quarter of that, and at most a day.
    pub fn hold(keep_for: u64) -> u64 {
        const DAY: u64 = 86_400_000;
        (keep_for / 4).min(DAY)
    }

    /// Returns the history of a clock of which only the time of the newest message is known; without messages, the
    /// clock is trusted.
    pub fn since(newest: Option<WallMillis>, running: u64) -> Ages {
        let line = |newest: WallMillis| Line { since: 0, offset: signed(newest.0).saturating_sub(signed(running)) };
        Ages { lines: newest.map(line).into_iter().collect(), is_unset: false }
    }

    /// Returns whether nothing is known of the clock.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Decodes what [`Ages::to_bytes`] has encoded.
    pub fn from_bytes(bytes: &[u8]) -> Ages {
        let line = |bytes: &[u8]| {
            let (since, offset) = bytes.split_first_chunk::<8>()?;
            Some(Line { since: u64::from_le_bytes(*since), offset: i64::from_le_bytes(offset.try_into().ok()?) })
        };
        let mut lines: Vec<Line> = bytes.chunks_exact(LINE_BYTES).filter_map(line).take(LINES).collect();
        if !lines.is_sorted_by(|a, b| a.offset < b.offset && a.since <= b.since) {
            // Only damage causes this.
            lines.clear();
        }
        Ages { lines, is_unset: false }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| [line.since.to_le_bytes(), line.offset.to_le_bytes()]).flatten().collect()
    }

    /// Records that the clock shows `wall` at this running time; `hold` as from [`Ages::hold`]. Returns whether the
    /// lines have changed.
    pub fn observe(&mut self, wall: WallMillis, running: u64, hold: u64) -> bool {
        self.is_unset = !wall.is_date();
        if self.is_unset {
            // The clock is known to be wrong, so it says nothing about the right time.
            return false;
        }
        let before = self.clone();
        let offset = signed(wall.0).saturating_sub(signed(running));
        // After a crash the running time is behind what is stored.
        self.lines.iter_mut().for_each(|line| line.since = line.since.min(running));
        let mut since = running;
        while let Some(last) = self.lines.last().filter(|last| last.offset > offset) {
            since = last.since;
            self.lines.pop();
        }
        match self.lines.last() {
            Some(last) if offset - last.offset < JITTER => {}
            _ => self.lines.push(Line { since, offset }),
        }
        if self.lines.len() > LINES {
            // The dropped line's offset then counts as held only since the `since` of the line above it.
            self.lines.remove(LINES - 1);
        }
        let held = self.lines.iter().rposition(|line| running - line.since >= hold).unwrap_or(0);
        self.lines.drain(..held);
        *self != before
    }

    /// Returns the reference time for ages; `None` if it is unknown.
    pub fn now(&self, running: u64) -> Option<WallMillis> {
        let lowest = self.lines.first().filter(|_| !self.is_unset)?;
        Some(WallMillis(u64::try_from(lowest.offset.saturating_add(signed(running))).unwrap_or(0)))
    }

    /// Returns the reason why the clock is not trusted, if it is worth reporting: a leap of an hour, or less if
    /// messages are kept for hours only.
    pub fn doubt(&self, hold: u64) -> Option<Doubt> {
        const HOUR: u64 = 3_600_000;
        if self.is_unset {
            return Some(Doubt::Unset);
        }
        let (lowest, highest) = (self.lines.first()?, self.lines.last()?);
        let ahead = highest.offset.abs_diff(lowest.offset);
        (ahead > hold.min(HOUR)).then_some(Doubt::Leapt { ahead })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000_000;
    const DAY: u64 = 86_400_000;
    const YEARS: u64 = 12 * 365 * DAY;

    /// A clock that is read from time to time.
    struct Bench {
        ages: Ages,
        running: u64,
        hold: u64,
    }

    impl Bench {
        fn new(hold: u64) -> Bench {
            Bench { ages: Ages::default(), running: 0, hold }
        }

        /// Lets `after` of running time pass, after which the clock shows `wall`. Returns the reference time.
        fn look(&mut self, after: u64, wall: u64) -> Option<u64> {
            self.running += after;
            self.ages.observe(WallMillis(wall), self.running, self.hold);
            self.ages = Ages::from_bytes(&self.ages.to_bytes());
            self.ages.observe(WallMillis(wall), self.running, self.hold);
            self.ages.now(self.running).map(|now| now.0)
        }

        fn doubt(&self) -> Option<Doubt> {
            self.ages.doubt(self.hold)
        }
    }

    #[test]
    fn a_clock_that_runs_is_believed() {
        let mut bench = Bench::new(DAY);
        for n in 0..100 {
            // The two clocks are not read at the same moment.
            let wall = NOW + n * 3_600_000 + n % 7;
            let now = bench.look(if n == 0 { 0 } else { 3_600_000 }, wall).unwrap();
            assert!(now.abs_diff(wall) < 10 && bench.doubt().is_none());
        }
    }

    #[test]
    fn a_leap_is_believed_once_it_has_held() {
        let mut bench = Bench::new(DAY);
        bench.look(0, NOW);
        assert_eq!(bench.look(4_000, NOW + YEARS), Some(NOW + 4_000));
        assert_eq!(bench.doubt(), Some(Doubt::Leapt { ahead: YEARS - 4_000 }));
        assert_eq!(bench.look(DAY - 1, NOW + YEARS + DAY - 1), Some(NOW + 4_000 + DAY - 1));
        assert_eq!(bench.look(1, NOW + YEARS + DAY), Some(NOW + YEARS + DAY));
        assert_eq!(bench.doubt(), None);
    }

    #[test]
    fn a_leap_that_is_taken_back_leaves_nothing() {
        let mut bench = Bench::new(DAY);
        bench.look(0, NOW);
        bench.look(DAY, NOW + YEARS);
        bench.look(DAY - 1, NOW + YEARS + DAY);
        assert_eq!(bench.look(1, NOW + 2 * DAY), Some(NOW + 2 * DAY));
        assert_eq!(bench.doubt(), None);
        // A second leap begins a new wait.
        assert_eq!(bench.look(1, NOW + YEARS), Some(NOW + 2 * DAY + 1));
    }

    #[test]
    fn the_time_of_before_goes_on_while_another_waits_to_be_believed() {
        let mut bench = Bench::new(DAY);
        let mut wall = NOW;
        bench.look(0, wall);
        // Eight hours a day.
        for _ in 0..30 {
            bench.look(DAY / 3, wall + DAY / 3);
            wall += DAY;
            bench.look(0, wall);
        }
        let now = bench.ages.now(bench.running).unwrap().0;
        assert!(wall - now <= 3 * DAY, "{} ms behind", wall - now);
    }

    #[test]
    fn back_is_believed_at_once_and_forth_again_is_a_leap() {
        const BACK: u64 = 100 * DAY;
        let mut bench = Bench::new(DAY);
        bench.look(0, NOW);
        assert_eq!(bench.look(1_000, NOW - BACK), Some(NOW - BACK));
        assert_eq!(bench.doubt(), None);
        assert_eq!(bench.look(1_000, NOW), Some(NOW - BACK + 1_000));
        // A clock that stands still.
        assert_eq!(bench.look(DAY / 2, NOW), Some(NOW - BACK + 1_000 + DAY / 2));
        assert_eq!(bench.look(DAY / 2, NOW), Some(NOW));
        assert_eq!(bench.look(DAY, NOW), Some(NOW));
    }

    #[test]
    fn an_unset_clock_says_nothing() {
        let mut bench = Bench::new(DAY);
        bench.look(0, NOW);
        assert_eq!(bench.look(60_000, 17), None);
        assert_eq!(bench.doubt(), Some(Doubt::Unset));
        assert_eq!(bench.look(60_000, NOW + 120_000), Some(NOW + 120_000));
        assert_eq!(bench.doubt(), None);
    }

    #[test]
    fn without_what_was_stored_the_newest_message_is_the_last_known_time() {
        let mut ages = Ages::since(Some(WallMillis(NOW)), 5_000);
        ages.observe(WallMillis(NOW + YEARS), 6_000, DAY);
        assert_eq!(ages.now(6_000), Some(WallMillis(NOW + 1_000)));
        let mut ages = Ages::since(None, 5_000);
        ages.observe(WallMillis(NOW + YEARS), 6_000, DAY);
        assert_eq!(ages.now(6_000), Some(WallMillis(NOW + YEARS)));
        // The message's own timestamp was wrong.
        let mut ages = Ages::since(Some(WallMillis(NOW + YEARS)), 0);
        ages.observe(WallMillis(NOW), 0, DAY);
        assert_eq!(ages.now(0), Some(WallMillis(NOW)));
        assert_eq!(Ages::from_bytes(&[0xff; 40]).lines.len(), 0, "damaged");
    }

    proptest! {
        /// States the rule another way: the reference time is never above the lowest line that the clock was on within
        /// `hold`, and it equals the clock once that has been on one line for `hold`.
        #[test]
        fn ages_go_by_the_lowest_line_of_late(
            looks in proptest::collection::vec((1_000..20_000u64, 0..8u64, 0..3u8), 1..120)
        ) {
            let hold = 60_000;
            let mut bench = Bench::new(hold);
            let mut seen: Vec<(u64, i64)> = Vec::new();
            let mut offset = NOW;
            for (after, leap, kind) in looks {
                if kind == 0 {
                    offset = NOW + leap * 10_000_000;
                }
                let running = bench.running + after;
                let now = bench.look(after, offset + running).unwrap();
                seen.push((running, offset as i64));
                let late = seen.iter().filter(|(at, _)| at + hold > running).map(|(_, offset)| *offset);
                let lowest = late.min().unwrap();
                let found = now as i64 - running as i64;
                prop_assert!(found <= lowest, "{found} is above {lowest}");
                let first = seen.iter().rev().take_while(|(_, at)| *at == offset as i64).last().unwrap().0;
                if running - first >= hold {
                    prop_assert_eq!(found, offset as i64);
                }
            }
        }
    }
}
