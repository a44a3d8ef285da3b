//! Checks pruning by age, by count and by size, with a formulation of the guarantee of its own: a message's age is
//! measured from the lowest time that the wall clock has shown within the last `min(24 h, keep-for / 4)` of running
//! time, carried on by running time. Nothing is pruned before it may be, and a message that is due is pruned within a
//! bounded time.

use super::agenda::Micros;
use super::keeping::Keeping;
use super::model::Room;
use super::scene::{Checked, violation};

const EARLY: &str = "retention: nothing goes before its time";
const LATE: &str = "retention: what is due goes";

const DAY: i64 = 86_400_000;
/// 2026-01-01T00:00:00Z: a clock that shows less was never set.
const EARLIEST: i64 = 1_767_225_600_000;
/// A change of less than this, in milliseconds, may not count as a leap.
const JITTER: i64 = 1_000;
/// The server remembers at most this many leaps exactly.
const LEAPS: usize = 24;
/// Milliseconds: the least time between two looks, and the most that a due step may take.
const LOOK: u64 = 10_000;
const SLACK: u64 = 5_000;

#[derive(Clone, Debug, Default)]
pub struct Retention {
    seen: Vec<Seen>,
    /// The running time when it was last looked at.
    running: u64,
    is_unset: bool,
    /// Due messages per room: up to this seq, since this running time.
    due: Vec<Option<(u64, u64)>>,
}

/// An offset of the clock to the running time, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    offset: i64,
    /// The running time at which it was first seen, at the latest and at the earliest: after a crash, which sets the
    /// running time back, the server may have recorded for how long it had held, or not.
    since: u64,
    early: u64,
}

/// The present time for ages, within what the two clocks allow.
#[derive(Clone, Copy, Debug)]
struct Ages {
    low: i64,
    high: i64,
    keep_for: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    TooOld,
    Young,
    /// A clock was wrong at that time.
    Unknown,
}

impl Ages {
    /// Judges an age at its highest: may the message be too old?
    fn at_most(self, at: u64) -> Age {
        let at = at as i64;
        match () {
            () if at < EARLIEST => Age::Unknown,
            () if at < self.high - self.keep_for => Age::TooOld,
            () if at > self.low + DAY => Age::Unknown,
            () => Age::Young,
        }
    }

    /// Judges an age at its lowest: is the message certainly too old?
    fn at_least(self, at: u64) -> Age {
        let at = at as i64;
        match () {
            () if at < EARLIEST || at > self.high + DAY => Age::Unknown,
            () if at < self.low - self.keep_for => Age::TooOld,
            () => Age::Young,
        }
    }
}

impl Retention {
    fn hold(keeping: &Keeping) -> u64 {
        (keeping.keep_for / 4).min(DAY as u64)
    }

    /// Starts a server on the log, which reports this running time in milliseconds; `newest` is the stamp of its newest
    /// message.
    pub fn begin(&mut self, running: u64, newest: Option<u64>) {
        let lost = self.running.saturating_sub(running);
        for seen in &mut self.seen {
            seen.since = running.min(seen.since);
            seen.early = running.min(seen.early.saturating_sub(lost));
        }
        self.running = running;
        if let (true, Some(newest)) = (self.seen.is_empty(), newest) {
            self.seen.push(Seen { offset: newest as i64 - running as i64, since: 0, early: 0 });
        }
        self.rest();
    }

    /// Restarts the grace time of all that is due, since nothing could be pruned meanwhile.
    pub fn rest(&mut self) {
        self.due.clear();
    }

    /// Notes that the server reads its clock.
    pub fn look(&mut self, wall: u64, running: u64) {
        self.is_unset = (wall as i64) < EARLIEST;
        let offset = wall as i64 - running as i64;
        if !self.is_unset && self.seen.last().is_none_or(|last| last.offset != offset) {
            self.seen.push(Seen { offset, since: running, early: running });
        }
    }

    /// Notes the present running time.
    pub fn runs(&mut self, running: u64) {
        self.running = running;
    }

    /// Returns the lowest offset within the last `hold` of running time, and the number of leaps in it, where `since`
    /// says when each was first seen.
    fn lowest(&self, running: u64, hold: u64, since: impl Fn(&Seen) -> u64) -> Option<(i64, usize)> {
        let (mut lowest, mut leaps): (Option<i64>, usize) = (None, 0);
        for seen in self.seen.iter().rev() {
            let offset = &seen.offset;
            leaps += usize::from(lowest.is_some_and(|lowest| lowest + JITTER < *offset || *offset + JITTER < lowest));
            lowest = Some(lowest.map_or(*offset, |lowest| lowest.min(*offset)));
            if since(seen) + hold <= running {
                break;
            }
        }
        lowest.map(|lowest| (lowest, leaps))
    }

    fn ages(&self, running: u64, keeping: &Keeping) -> Option<Ages> {
        if keeping.keep_for == 0 || self.is_unset {
            return None;
        }
        let hold = Retention::hold(keeping);
        let (highest, _) = self.lowest(running, hold, |seen| seen.early)?;
        let (lowest, _) = self.lowest(running, hold, |seen| seen.since)?;
        let (long, leaps) = self.lowest(running, hold * 3, |seen| seen.since)?;
        let surely = if leaps > LEAPS { long } else { lowest };
        let time = |offset: i64| offset + running as i64;
        Some(Ages { low: time(surely) - JITTER, high: time(highest), keep_for: keeping.keep_for as i64 })
    }

    /// Judges the loss of the room's oldest messages, up to the one before `oldest`. With `is_large` the database may
    /// be near its bound. Returns the first of them that was pruned for the database's size alone; `oldest` if none
    /// was.
    pub fn judge_gone(
        &self,
        room: &Room,
        oldest: u64,
        running: u64,
        keeping: &Keeping,
        is_large: bool,
    ) -> Checked<u64> {
        let head = room.head();
        let mut may_go = if keeping.messages > 0 { head.saturating_sub(keeping.messages) } else { 0 };
        let ages = self.ages(running, keeping);
        if let Some(ages) = ages {
            may_go = may_go.max(old(room, room.oldest.max(may_go + 1), |at| ages.at_most(at)));
        }
        let by_size = room.oldest.max(may_go + 1).min(oldest);
        if is_large && keeping.lets_go() {
            // A new room of a sender over its share goes as a whole, and where nothing else is left, so does any.
            may_go = may_go.max(head);
        }
        if oldest <= room.oldest.max(may_go + 1) {
            return Ok(by_size);
        }
        let text = format!(
            "{} begins at {oldest} of {head}, and what may go ends with {may_go}; its stamp is {:?}, and {ages:?}, {:?}",
            room.id,
            room.at(oldest - 1),
            self.seen.iter().rev().take(8).collect::<Vec<_>>(),
        );
        violation(EARLY, text)
    }

    /// Judges the bytes of messages that were pruned at once for the database's size alone: at most enough to make room
    /// for one batch, which is one sixteenth of its bound or 64 KiB, plus one share of each room.
    pub fn judge_squeezed(bytes: u64, keeping: &Keeping) -> Checked {
        let batch = (keeping.bytes / 16).max(64 << 10);
        let most = 2 * batch + keeping.bytes / 8;
        if bytes <= most {
            return Ok(());
        }
        violation(EARLY, format!("{bytes} bytes went for the size, and {most} would have been enough"))
    }

    /// Checks that this room has lost every message that is due and has been for a long time.
    pub fn judge_kept(&mut self, index: usize, room: &Room, running: u64, keeping: &Keeping) -> Checked {
        let mut due = if keeping.messages > 0 { room.head().saturating_sub(keeping.messages) } else { 0 };
        let ages = self.ages(running, keeping);
        if let Some(ages) = ages {
            due = due.max(old(room, room.oldest.max(due + 1), |at| ages.at_least(at)));
        }
        self.due.resize(self.due.len().max(index + 1), None);
        let is_due = due >= room.oldest;
        match &mut self.due[index] {
            entry if !is_due => *entry = None,
            // Only messages that were due all the time count.
            Some((upto, _)) if *upto >= room.oldest && *upto <= due => {}
            entry => *entry = Some((due, running)),
        }
        let part = (keeping.keep_for / 64).clamp(LOOK, 3_600_000);
        match self.due[index] {
            Some((upto, since)) if running > since + part + SLACK => {
                let text = format!(
                    "{} keeps {} to {upto}, which are due since {} ms: {ages:?}, {keeping:?}",
                    room.id,
                    room.oldest,
                    running - since
                );
                violation(LATE, text)
            }
            _ => Ok(()),
        }
    }

    /// Returns the running time in microseconds within which every dated message is pruned, once the clock runs evenly.
    pub fn patience(keeping: &Keeping) -> Micros {
        (Retention::hold(keeping) + keeping.keep_for + 2 * LOOK) * 1000
    }
}

/// Returns the last message, from `from` on, that is too old and has no young one before it.
fn old(room: &Room, from: u64, age: impl Fn(u64) -> Age) -> u64 {
    let mut last = 0;
    for seq in from..=room.head() {
        match room.at(seq).map(&age) {
            Some(Age::TooOld) => last = seq,
            Some(Age::Unknown) => {}
            Some(Age::Young) | None => break,
        }
    }
    last
}
