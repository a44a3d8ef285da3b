//! How many lines strangers can have written. Each kind of line has a rate of its own, so that a flood of one leaves
//! room for the others, and all of them share a number of bytes. What is left out is counted, and told with the next
//! line of its kind or soon after the last. Lines about errors are not counted here: nothing keeps them out. Pure: the
//! time is passed in.

use super::parts::LONGEST_LINE;
use crate::types::Millis;

/// A kind of line that strangers can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end of an HTTP connection.
    Http,
    /// The end of a WebSocket or event stream.
    Session,
    /// A connection that TLS has ended.
    Tls,
    /// A request for another host's name.
    Stranger,
    /// A request over the rate limit.
    TooFast,
    /// A request that cannot be served now.
    Unavailable,
    /// Any other refused request.
    Refused,
}

pub const KINDS: [Kind; 7] =
    [Kind::Http, Kind::Session, Kind::Tls, Kind::Stranger, Kind::TooFast, Kind::Unavailable, Kind::Refused];

impl Kind {
    /// Returns its name in a line about those that were left out.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::Session => "session",
            Kind::Tls => "tls",
            Kind::Stranger => "other host",
            Kind::TooFast => "too fast",
            Kind::Unavailable => "unavailable",
            Kind::Refused => "refused",
        }
    }

    /// Returns how many lines may come at once, and the milliseconds in which one more may.
    fn rate(self) -> (u64, u64) {
        match self {
            Kind::Http | Kind::Session | Kind::Tls | Kind::Refused => (100, 50),
            // Each name has a line of its own before these.
            Kind::Stranger => (1, 60_000),
            // They say all there is to say.
            Kind::TooFast | Kind::Unavailable => (1, 1_000),
        }
    }
}

/// Bytes of all these lines at once, and those that are added each millisecond: in no second more than 97,536. A line
/// is allowed while there are as many as the longest has.
const BYTES: u64 = 65_536;
const BYTES_EACH: u64 = 32;

/// Milliseconds without a line of a kind after which those left out are told by themselves.
const SILENCE: u64 = 1_000;

/// A bucket that fills with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    most: u64,
    /// What it holds, and since when.
    level: u64,
    at: Millis,
}

impl Bucket {
    fn full(most: u64) -> Bucket {
        Bucket { most, level: most, at: Millis(0) }
    }

    /// Fills it by this much for each millisecond that has passed.
    fn fill(&mut self, now: Millis, each: u64) {
        self.level = self.most.min(self.level.saturating_add(now.since(self.at).saturating_mul(each)));
        self.at = self.at.max(now);
    }
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    kind: Kind,
    /// In milliseconds: a line takes the time in which one more may come.
    lines: Bucket,
    left_out: u64,
    /// When a line of this kind last wanted to be written.
    last: Millis,
}

/// The rates of all kinds.
#[derive(Debug)]
pub struct Rates {
    kinds: [Counted; KINDS.len()],
    bytes: Bucket,
    /// Number of kinds with lines that were left out and are not told yet.
    owed: usize,
}

impl Default for Rates {
    fn default() -> Rates {
        let kinds = KINDS.map(|kind| {
            let (most, period) = kind.rate();
            Counted { kind, lines: Bucket::full(most * period), left_out: 0, last: Millis(0) }
        });
        Rates { kinds, bytes: Bucket::full(BYTES), owed: 0 }
    }
}

impl Rates {
    /// Returns, if a line of this kind may be written now, the number of those left out since the last one. Its length
    /// then goes to [`Rates::written`].
    pub fn pass(&mut self, kind: Kind, now: Millis) -> Option<u64> {
        let has_room = self.has_room(now);
        let counted = self.kinds.iter_mut().find(|counted| counted.kind == kind)?;
        counted.last = now;
        // Taking a line forgets what was left out before it.
        if has_room && let Some(left_out) = counted.take(now) {
            self.owed -= usize::from(left_out > 0);
            return Some(left_out);
        }
        self.owed += usize::from(counted.left_out == 0);
        counted.left_out = counted.left_out.saturating_add(1);
        None
    }

    /// Returns a kind of which lines were left out and none wants to be written any more, with their number. Free of
    /// cost while there is none.
    pub fn untold(&mut self, now: Millis) -> Option<(Kind, u64)> {
        if self.owed == 0 || !self.has_room(now) {
            return None;
        }
        let is_over = |counted: &&mut Counted| counted.left_out > 0 && now.since(counted.last) >= SILENCE;
        let (kind, left_out) = self.kinds.iter_mut().filter(is_over).find_map(|counted| {
            let left_out = counted.take(now)?;
            Some((counted.kind, left_out))
        })?;
        self.owed -= 1;
        Some((kind, left_out))
    }

    /// Counts the bytes of a line that was allowed.
    pub fn written(&mut self, bytes: usize) {
        self.bytes.level = self.bytes.level.saturating_sub(bytes as u64);
    }

    fn has_room(&mut self, now: Millis) -> bool {
        self.bytes.fill(now, BYTES_EACH);
        self.bytes.level >= LONGEST_LINE as u64
    }
}

impl Counted {
    /// Takes a line, if there may be one. Returns the number of those left out before it.
    fn take(&mut self, now: Millis) -> Option<u64> {
        let (_, period) = self.kind.rate();
        self.lines.fill(now, 1);
        self.lines.level = self.lines.level.checked_sub(period)?;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kind_that_floods_leaves_room_for_the_others() {
        let mut rates = Rates::default();
        let written = (0..10_000).filter(|_| rates.pass(Kind::Refused, Millis(5)).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!((rates.pass(Kind::Session, Millis(5)), rates.pass(Kind::Tls, Millis(5))), (Some(0), Some(0)));
        assert_eq!(rates.pass(Kind::Refused, Millis(54)), None);
        assert_eq!(rates.pass(Kind::Refused, Millis(55)), Some(9_901));
        assert_eq!(rates.pass(Kind::Refused, Millis(105)), Some(0));
    }

    #[test]
    fn what_is_left_out_is_told_when_the_flood_is_over() {
        let mut rates = Rates::default();
        for millisecond in 0..3_000 {
            if rates.pass(Kind::TooFast, Millis(millisecond)).is_some() {
                rates.written(100);
            }
            assert_eq!(rates.untold(Millis(millisecond)), None, "the next line tells it");
        }
        assert_eq!(rates.untold(Millis(3_998)), None);
        assert_eq!(rates.untold(Millis(3_999)), Some((Kind::TooFast, 999)));
        assert_eq!(rates.untold(Millis(9_999)), None);
    }

    /// A clock that stands still or goes back neither fills anything nor fails.
    #[test]
    fn time_that_does_not_pass_fills_nothing() {
        let mut rates = Rates::default();
        assert_eq!(rates.pass(Kind::TooFast, Millis(5_000)), Some(0));
        assert_eq!([4_000, 5_000, 0].map(|now| rates.pass(Kind::TooFast, Millis(now))), [None; 3]);
        assert_eq!(rates.pass(Kind::TooFast, Millis(u64::MAX)), Some(3));
    }

    proptest! {
        /// Whatever comes, and when: every line is written or counted, and no second has more than 100 KB.
        #[test]
        fn nothing_is_lost_and_no_second_has_too_much(
            asked in prop::collection::vec((0..KINDS.len(), 0..40u64, 1..=4_096usize), 1..3_000),
        ) {
            let (mut rates, mut now) = (Rates::default(), 0);
            let (mut wanted, mut told) = ([0u64; KINDS.len()], [0u64; KINDS.len()]);
            let mut lines: Vec<(u64, usize)> = Vec::new();
            for (kind, pause, bytes) in asked {
                now += pause;
                wanted[kind] += 1;
                if let Some(left_out) = rates.pass(KINDS[kind], Millis(now)) {
                    told[kind] += left_out + 1;
                    rates.written(bytes);
                    lines.push((now, bytes));
                }
                if let Some((kind, left_out)) = rates.untold(Millis(now)) {
                    told[KINDS.iter().position(|known| *known == kind).unwrap()] += left_out;
                }
            }
            // A day later all is told.
            for _ in KINDS {
                if let Some((kind, left_out)) = rates.untold(Millis(now + 86_400_000)) {
                    told[KINDS.iter().position(|known| *known == kind).unwrap()] += left_out;
                }
            }
            prop_assert_eq!(wanted, told);
            for (index, (begin, _)) in lines.iter().enumerate() {
                let second = lines[index..].iter().take_while(|(at, _)| at - begin < 1_000);
                let sum: usize = second.map(|(_, bytes)| bytes).sum();
                prop_assert!(sum <= 100_000, "{} bytes in a second", sum);
            }
        }
    }
}
