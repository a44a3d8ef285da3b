//! Makes space in a database that has reached its maximum size, if messages may be deleted for it. What harms least
//! goes first, and something always does: such a database refuses no message for long.

use std::time::{Duration, Instant};

use super::batch::roll_back;
use super::common::TOUCH;
use super::prune::Prune;
use super::retention::{self, Policy, Shortage};
use super::schema::number;
use super::weight::Weight;
use super::writer::{WriterLoop, is_full};
use crate::types::WallMillis;

/// One in this many pages is kept free, if messages may be deleted for it.
const FREE_PART: i64 = 16;

/// Minimum batch size in bytes, however small the database may be.
const LEAST_BATCH: i64 = 64 << 10;

/// Maximum number of steps to make space for one batch: several times its size.
const SPACE_STEPS: usize = 64;

/// Number of pages beyond the maximum that a deletion may take: it may have to split a page of an index before it frees
/// others, when folds have left none.
const BEYOND: i64 = 4;

/// Pause between two searches once all has given what it could, and that was too little.
const REST: Duration = Duration::from_secs(1);

/// Ages of the keys that go, in running seconds since their recorded use. The record may be [`TOUCH`] older than the
/// last use, so at twice that age no key goes that was used in the last hour. At a minute only the message itself
/// counts: its repeats renew no record that young.
const OLD_KEYS: u64 = 2 * TOUCH;
const KEYS: u64 = 60;

/// Keys give way before messages while they take more than this part of the maximum size: anybody can make as many as
/// messages, a sender for each.
const KEYS_PART: i64 = 4;

/// Maximum number of steps of counting keys for one batch.
const COUNT_STEPS: usize = 32;

/// Where keys younger than [`KEYS`] alone take too much, running seconds until they are looked at again. Messages give
/// way meanwhile.
const LOOKED_AT_AFTER: u64 = 2;

/// What gives way, each once those before have nothing more to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Resort {
    /// While all keys take too much, those that were not used for so many running seconds, which become fewer.
    ManyKeys { unused_for: u64 },
    /// Messages of senders over their share, of large rooms, and of all rooms but for the last one of each.
    #[default]
    Messages,
    /// Keys that were not used for an hour.
    OldKeys,
    /// The oldest messages, whatever room they are in.
    OldestMessages,
    /// Keys of a minute ago. Whoever repeats a message because its acknowledgement was lost usually does so sooner.
    Keys,
}

/// How far the writer has come in what gives way.
#[derive(Default)]
pub(super) struct Giving {
    resort: Resort,
    /// The walk through the keys, while those give way.
    walk: Prune,
    /// The shortest time in running seconds for which a key that was given up had not been used.
    youngest_key: Option<u64>,
    /// All that had something to give gave too little: the next search is then, not with each message.
    rests_until: Option<Instant>,
    /// How much the keys take.
    weight: Weight,
    /// The running second at which all keys had given what they could because they took too much.
    keys_given: Option<u64>,
}

impl Giving {
    /// Returns the running seconds for which no key that was given up had been used, if any was.
    pub fn youngest_key(&self) -> Option<u64> {
        self.youngest_key
    }

    /// Begins with what harms least: there is space again, or the limits have changed.
    pub fn begin_anew(&mut self) {
        let weight = std::mem::take(&mut self.weight);
        let Giving { youngest_key, keys_given, .. } = *self;
        *self = Giving { youngest_key, weight, keys_given, ..Giving::default() };
    }

    /// Turns to what gives way now.
    fn turn_to(&mut self, resort: Resort) {
        (self.resort, self.walk) = (resort, Prune::only_deleting());
        self.walk.thins(resort != Resort::OldKeys);
    }

    /// Goes on to what gives way next, at this running second. Returns whether there is anything; otherwise it begins
    /// anew after a pause.
    fn go_on(&mut self, now: Instant, running: u64) -> bool {
        let next = match self.resort {
            // Half as long, down to a minute.
            Resort::ManyKeys { unused_for } if unused_for > KEYS => {
                Some(Resort::ManyKeys { unused_for: (unused_for / 2).max(KEYS) })
            }
            Resort::ManyKeys { .. } => {
                self.keys_given = Some(running);
                Some(Resort::Messages)
            }
            Resort::Messages => Some(Resort::OldKeys),
            Resort::OldKeys => Some(Resort::OldestMessages),
            Resort::OldestMessages => Some(Resort::Keys),
            Resort::Keys => None,
        };
        self.turn_to(next.unwrap_or_default());
        if next.is_none() {
            self.rests_until = Some(now + REST);
        }
        next.is_some()
    }
}

/// The result of a step.
struct Given {
    /// Number of messages, or of windows and keys.
    dropped: usize,
    /// Whether there is nothing more of this kind.
    is_all: bool,
}

impl WriterLoop {
    /// Returns whether messages may be deleted, and must be, to keep some space free.
    pub fn is_near_bound(&self) -> rusqlite::Result<bool> {
        if self.policy() == Policy::default() {
            return Ok(false);
        }
        let (pages, free) = retention::pages(&self.parts.conn)?;
        Ok(pages - free > self.parts.most_pages - self.parts.most_pages / FREE_PART)
    }

    /// Makes space for one batch in a full database, if messages may be deleted. Returns whether anything went.
    pub fn make_space(&mut self) -> bool {
        let begun = self.parts.clock.now();
        let rests = self.giving.rests_until.is_some_and(|until| begun < until);
        if rests || self.policy() == Policy::default() || !self.is_at_bound() {
            return false;
        }
        let wanted = self.parts.most_pages / FREE_PART;
        let now = self.time_of_ages().unwrap_or(None);
        let running = self.running();
        let mut dropped = 0;
        self.weigh_keys();
        for _ in 0..SPACE_STEPS {
            // Otherwise most of what could go might wait for a fold. If that finds no page either, what was folded
            // before makes space for it.
            if self.fold_all().is_err_and(|error| !is_full(&error)) {
                break;
            }
            let given = self.give(now);
            dropped += given.dropped;
            let free = retention::pages(&self.parts.conn).map_or(0, |(_, free)| free);
            if free > wanted {
                return true;
            }
            let were_keys = matches!(self.giving.resort, Resort::ManyKeys { .. });
            if given.is_all && !self.giving.go_on(begun, running) {
                return dropped > 0;
            }
            // Less is enough while it is keys that come.
            if were_keys && self.giving.resort == Resort::Messages && free > wanted / KEYS_PART {
                return true;
            }
        }
        // So many rooms or keys without enough to give: what comes next is found sooner.
        self.giving.go_on(begun, running);
        dropped > 0
    }

    /// Deletes some of what gives way next. What cannot be deleted does not keep the rest.
    fn give(&mut self, now: Option<WallMillis>) -> Given {
        self.try_to_give(now).unwrap_or_else(|error| {
            roll_back(&self.parts.conn);
            self.tell_of_damage("what is to give way in a full database", &error);
            Given { dropped: 0, is_all: true }
        })
    }

    fn try_to_give(&mut self, now: Option<WallMillis>) -> rusqlite::Result<Given> {
        match self.giving.resort {
            // Some more than that, so that they are not counted again with each few messages.
            Resort::ManyKeys { unused_for } if self.giving.weight.exceeds(self.most_of_keys() / 8 * 7) => {
                self.give_keys(unused_for)
            }
            Resort::ManyKeys { .. } => {
                self.giving.resort = Resort::ManyKeys { unused_for: KEYS };
                Ok(Given { dropped: 0, is_all: true })
            }
            Resort::Messages => self.give_messages(Shortage::Near, now),
            Resort::OldKeys => self.give_keys(OLD_KEYS),
            Resort::OldestMessages => self.give_messages(Shortage::Utmost, now),
            Resort::Keys => self.give_keys(KEYS),
        }
    }

    fn give_messages(&mut self, shortage: Shortage, now: Option<WallMillis>) -> rusqlite::Result<Given> {
        let policy = Policy { shortage, ..self.policy() };
        let step = self.prune_messages(&policy, now)?;
        Ok(Given { dropped: step.dropped, is_all: step.done })
    }

    /// Deletes some keys, if they take too much. Returns whether there is more to do before messages give way.
    pub fn give_many_keys(&mut self) -> bool {
        self.weigh_keys();
        if !matches!(self.giving.resort, Resort::ManyKeys { .. }) {
            // Before anything is known of the keys, no message gives way for them.
            return !self.giving.weight.is_known();
        }
        if self.give(None).is_all {
            self.giving.go_on(self.parts.clock.now(), self.running());
        }
        self.giving.resort != Resort::Messages
    }

    /// Begins with the keys, if they take too much. Counts them before, if they may.
    fn weigh_keys(&mut self) {
        let (messages, running) = (self.batches.space.messages(), self.running());
        if self.giving.weight.is_unknown(self.most_of_keys(), messages, running) {
            // What cannot be counted is damaged, as the search for what may go will find.
            let mut step = || self.giving.weight.step(&self.parts.conn, messages, running).unwrap_or(true);
            _ = (0..COUNT_STEPS).any(|_| step());
        }
        let is_certain = !self.giving.weight.is_unknown(self.most_of_keys(), messages, running);
        let is_time =
            is_certain && self.giving.keys_given.is_none_or(|given| running >= given.saturating_add(LOOKED_AT_AFTER));
        if self.giving.resort == Resort::Messages && is_time && self.giving.weight.exceeds(self.most_of_keys()) {
            self.giving.turn_to(Resort::ManyKeys { unused_for: OLD_KEYS });
        }
    }

    /// Returns how many bytes the keys may take before they give way.
    fn most_of_keys(&self) -> u64 {
        number(self.parts.pages.bytes(self.parts.most_pages / KEYS_PART))
    }

    fn give_keys(&mut self, unused_for: u64) -> rusqlite::Result<Given> {
        let running = self.running();
        let keep = unused_for.min(self.parts.bounds.park_for);
        let step = self.with_pages_to_delete(|writer| writer.giving.walk.step(&writer.parts.conn, running, keep))?;
        self.batches.space.changed();
        if step.dropped > 0 {
            self.untidy = true;
            self.giving.weight.drop(step.dropped);
            self.giving.youngest_key = self.giving.youngest_key.into_iter().chain([keep]).min();
        }
        Ok(Given { dropped: step.dropped, is_all: self.giving.walk.has_ended() })
    }

    /// Deletes something with the pages that only deletions may take.
    pub fn with_pages_to_delete<T>(
        &mut self,
        delete: impl FnOnce(&mut WriterLoop) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.with_pages(self.parts.most_pages.saturating_add(BEYOND), delete)
    }

    /// Returns how many bytes [`WriterLoop::make_space`] frees, which limits the size of a batch.
    pub fn share(&self) -> usize {
        let bytes = self.parts.pages.bytes(self.parts.most_pages / FREE_PART).max(LEAST_BATCH);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Returns whether its maximum size, not the disk, keeps the database from growing.
    pub fn is_at_bound(&self) -> bool {
        // The last batch may have needed more pages than were left: twice the maximum size of a batch, in bytes.
        const BATCH: i64 = 16 << 20;
        const ENOUGH: u64 = 1 << 20;
        let Ok((pages, _)) = retention::pages(&self.parts.conn) else { return false };
        let is_near =
            self.parts.most_pages - pages <= self.parts.pages.in_bytes(BATCH).max(self.parts.most_pages / FREE_PART);
        is_near && self.parts.files.free_space().is_ok_and(|free| free > ENOUGH)
    }
}
