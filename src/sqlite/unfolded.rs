//! What is committed with the messages alone, and not written yet to where it is looked up: heads of rooms, key windows
//! and common keys. A commit would rewrite a page for each of them, so they are written together now and then, by a
//! fold. This is the writer's copy of them in memory; all of it can be made anew from the rows of the messages. Pure.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::message_key::MessageKey;
use crate::store::Scope;
use crate::store::idempotency::{Entry, Window};
use crate::types::{Digest, IdempotencyKey, Seq, SessionId, WallMillis};

/// Memory in bytes that an entry takes: in a window (whose buffer may be twice as long as its content), in the table of
/// common keys.
const WINDOW_ENTRY: usize = 96;
const COMMON_ENTRY: usize = 112;

/// Memory in bytes that a window takes beside its entries, with the prints of 64 stored ones, and a room
/// with when its common keys were used.
const WINDOW: usize = 288;
const ROOM: usize = 96;

/// Estimate of the bytes by which a fold grows the database for one key: a row of its own, its entry in an index, and
/// the unused space of pages that are not full. Windows that grow together may take more, since their pages split at
/// the same time; then old messages make space, or the fold waits.
const GROWTH: u64 = 192;

/// The same for a room whose common keys were used, beside these.
const MARK_GROWTH: u64 = 64;

/// How much may wait. A fold begins at these limits; at twice as much, commits wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoldLimits {
    /// Memory in bytes.
    pub memory: usize,
    /// Number of messages: so many, and twice as many at most, are read again after a kill.
    pub rows: u64,
    /// Size of their bodies in bytes, for the same reason.
    pub bytes: u64,
    /// Age of the oldest, in running seconds.
    pub age: u64,
    /// Number of messages from which a fold begins once nothing is written any more.
    pub quiet: u64,
}

impl FoldLimits {
    pub const USUAL: FoldLimits = FoldLimits { memory: 3 << 20, rows: 32_768, bytes: 16 << 20, age: 3_600, quiet: 256 };
}

/// Maximum memory of all that waits, in bytes.
pub(super) const MOST_MEMORY: usize = 2 * FoldLimits::USUAL.memory;

/// The end of a room's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub head: Seq,
    /// The timestamp of the head.
    pub at: WallMillis,
    /// Number of messages that wait.
    pub rows: u64,
    /// Size of their bodies in bytes.
    pub bytes: u64,
}

impl Tail {
    /// Returns the number of those that are left behind this seq, and the size of their bodies. The bodies are not
    /// known one by one: those that are left count as the average of all.
    fn left_behind(&self, upto: Seq) -> (u64, u64) {
        let left = self.head.0.saturating_sub(upto.0).min(self.rows);
        (left, if left == 0 { 0 } else { self.bytes / self.rows * left })
    }

    /// Returns the number of those up to this seq, and the size of their bodies.
    pub fn upto(&self, upto: Seq) -> (u64, u64) {
        let (rows, bytes) = self.left_behind(upto);
        (self.rows - rows, self.bytes - bytes)
    }
}

/// The keys that a sender has used in a room since the last fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    /// When the last one was used, in running seconds.
    pub used: u64,
    pub window: Window,
    /// The keys before those, in the stored window; `None` if they were not looked at yet.
    pub stored: Option<Prints>,
}

/// A short print of each key of a stored window, oldest first: enough to know of nearly every new key that it is not
/// there, without reading the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prints(Box<[u16]>);

fn print(key: IdempotencyKey) -> u16 {
    let [a, b, ..] = key.0.0;
    u16::from_le_bytes([a, b])
}

impl Prints {
    pub fn of(window: &Window) -> Prints {
        Prints(window.entries().map(|entry| print(entry.key)).collect())
    }

    /// Returns whether the key can be one of the newest `count`.
    pub fn may_hold(&self, key: IdempotencyKey, count: usize) -> bool {
        let Prints(prints) = self;
        let late = prints.len().saturating_sub(count);
        // `late` is at most their number.
        prints[late..].contains(&print(key))
    }
}

/// All that waits, by the ids of the rooms.
#[derive(Debug, Default)]
pub(super) struct Unfolded {
    rooms: BTreeMap<i64, Tail>,
    windows: BTreeMap<(i64, SessionId), Recent>,
    common: BTreeMap<(i64, IdempotencyKey), Entry>,
    /// When a common key of a room was last used, in running seconds.
    common_used: BTreeMap<i64, u64>,
    /// Number of entries in `windows`.
    entries: usize,
    rows: u64,
    bytes: u64,
    /// No message waits for longer than since then, in running seconds.
    since: u64,
}

/// The part that a piece of a fold has written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folded {
    pub windows: Vec<(i64, SessionId)>,
    pub common: Vec<(i64, IdempotencyKey)>,
    /// Rooms all of whose keys up to this seq are written.
    pub rooms: Vec<(i64, Seq)>,
}

impl Unfolded {
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Returns the number of messages that wait.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn tail(&self, room: i64) -> Option<Tail> {
        self.rooms.get(&room).copied()
    }

    pub fn recent(&self, room: i64, session: SessionId) -> Option<&Recent> {
        self.windows.get(&(room, session))
    }

    pub fn common(&self, room: i64, key: IdempotencyKey) -> Option<&Entry> {
        self.common.get(&(room, key))
    }

    /// Returns when a common key of a room was last used since the last fold, in running seconds.
    pub fn common_used(&self, room: i64) -> u64 {
        self.common_used.get(&room).copied().unwrap_or(0)
    }

    /// Adds a message of `bytes` bytes, with its key if it has one; `now` in running seconds.
    pub fn add(&mut self, room: i64, seq: Seq, at: WallMillis, bytes: u64, key: Option<MessageKey>, now: u64) {
        if self.rooms.is_empty() {
            self.since = now;
        }
        let tail = self.rooms.entry(room).or_default();
        (tail.head, tail.at) = (seq, at);
        tail.rows += 1;
        tail.bytes += bytes;
        self.rows += 1;
        self.bytes += bytes;
        let Some(key) = key else { return };
        let entry = key.entry(seq, at);
        match key.key.scope {
            Scope::Session(session) => {
                let recent = self.windows.entry((room, session)).or_default();
                let before = recent.window.count();
                recent.window.push(entry);
                recent.used = now;
                self.entries += recent.window.count() - before;
            }
            Scope::Common => {
                self.common.insert((room, entry.key), entry);
                self.common_used.insert(room, now);
            }
        }
    }

    /// Records that a sender has repeated one of its keys.
    pub fn renew(&mut self, room: i64, session: SessionId, now: u64) {
        if let Some(recent) = self.windows.get_mut(&(room, session)) {
            recent.used = now;
        }
    }

    /// Records which keys a sender has in its stored window, for the next lookups.
    pub fn know_stored(&mut self, room: i64, session: SessionId, stored: Prints) {
        if let Some(recent) = self.windows.get_mut(&(room, session)) {
            recent.stored = Some(stored);
        }
    }

    /// Returns the next room from this id on in which something waits.
    pub fn next_room(&self, from: i64) -> Option<(i64, Tail)> {
        self.rooms.range(from..).next().map(|(room, tail)| (*room, *tail))
    }

    /// Returns the windows of a room, behind that of `after`.
    pub fn windows_after(&self, room: i64, after: Option<SessionId>) -> impl Iterator<Item = (SessionId, &Recent)> {
        let from = after.map_or(Included((room, SessionId([0; 16]))), |after| Excluded((room, after)));
        self.windows
            .range((from, Unbounded))
            .take_while(move |((of, _), _)| *of == room)
            .map(|((_, session), recent)| (*session, recent))
    }

    /// Returns the common keys of a room, behind this one.
    pub fn common_after(&self, room: i64, after: Option<IdempotencyKey>) -> impl Iterator<Item = &Entry> {
        let from = after.map_or(Included((room, IdempotencyKey(Digest([0; 16])))), |after| Excluded((room, after)));
        self.common.range((from, Unbounded)).take_while(move |((of, _), _)| *of == room).map(|(_, entry)| entry)
    }

    /// Forgets what is written now. A room's messages behind the written ones go on waiting.
    pub fn forget(&mut self, folded: &Folded) {
        for window in &folded.windows {
            if let Some(recent) = self.windows.remove(window) {
                self.entries -= recent.window.count();
            }
        }
        for key in &folded.common {
            self.common.remove(key);
        }
        for (room, upto) in &folded.rooms {
            let Some(tail) = self.rooms.get_mut(room) else { continue };
            let (left, bytes) = tail.left_behind(*upto);
            self.rows -= tail.rows - left;
            self.bytes -= tail.bytes - bytes;
            (tail.rows, tail.bytes) = (left, bytes);
            if left == 0 {
                self.rooms.remove(room);
                self.common_used.remove(room);
            }
        }
    }

    /// Forgets all of a room, which was not read to its end.
    pub fn abandon(&mut self, room: i64) {
        let folded = Folded {
            windows: self.windows_after(room, None).map(|(session, _)| (room, session)).collect(),
            common: self.common_after(room, None).map(|entry| (room, entry.key)).collect(),
            rooms: self.tail(room).map(|tail| (room, tail.head)).into_iter().collect(),
        };
        self.forget(&folded);
    }

    /// Records that all which waited at this time, in running seconds, is written.
    pub fn all_since(&mut self, now: u64) {
        self.since = now;
    }

    /// Returns the running second at which the oldest is too old; `None` if nothing waits.
    pub fn too_old_at(&self, limits: &FoldLimits) -> Option<u64> {
        (!self.rooms.is_empty()).then_some(self.since.saturating_add(limits.age))
    }

    /// Returns whether so many wait that they are written once nothing else is.
    pub fn are_many(&self, limits: &FoldLimits) -> bool {
        self.rows >= limits.quiet
    }

    /// Returns whether as much waits as the limits allow, or `times` as much. `reserve` is the number of bytes by which
    /// a fold may grow the database, as far as that can be estimated.
    pub fn is_at(&self, limits: &FoldLimits, times: u64, reserve: u64) -> bool {
        let FoldLimits { memory, rows, bytes, .. } = limits;
        let times_memory = usize::try_from(times).unwrap_or(usize::MAX).saturating_mul(*memory);
        self.rows >= times.saturating_mul(*rows)
            || self.bytes >= times.saturating_mul(*bytes)
            || self.memory() >= times_memory
            || self.growth() >= reserve.saturating_mul(times) / 2
    }

    /// Returns the memory that all of it takes, in bytes.
    fn memory(&self) -> usize {
        self.rooms.len() * ROOM
            + self.windows.len() * WINDOW
            + self.entries * WINDOW_ENTRY
            + self.common.len() * COMMON_ENTRY
    }

    /// Estimates the number of bytes by which a fold grows the database.
    fn growth(&self) -> u64 {
        let keys = (self.entries as u64 + self.common.len() as u64).saturating_mul(GROWTH);
        keys.saturating_add((self.common_used.len() as u64).saturating_mul(MARK_GROWTH))
    }
}
