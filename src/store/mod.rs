//! The log as everyone sees it: appends, reads and heads, and parked sessions beside it. Requests go in, events come out.
//! Pure, but for what keeps it: the log in memory is here, others stand behind [`Store`].

mod in_memory;
pub mod keys;
mod memory;
mod request;
#[cfg(test)]
pub mod samples;

pub use in_memory::InMemory;
pub use memory::{FIXED_BYTES, MemoryLog};
pub use request::*;

use crate::types::Epoch;

/// What a log may take and keeps: the part of its options that may change while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that the database file may grow to; 0 is what the file had at the start and 80 % of the free
    /// space, which follows what others take of the disk.
    /// The WAL beside it comes on top: some 4 MiB, more while another program reads the database.
    pub max_database_size: u64,
    /// Bytes of messages per room ...
    pub memory_room_bytes: usize,
    /// ... and in all that [`Durability::Memory`](crate::types::Durability::Memory) keeps.
    pub memory_total_bytes: usize,
    /// Messages kept in each room; 0: all.
    pub keep_messages: u64,
    /// Milliseconds for which a message is kept, by the wall clock; 0: for ever.
    pub keep_for: u64,
    /// Parked sessions.
    pub parked_max: u64,
    /// Seconds that racerd runs for which a parked session is kept, and the keys of a sender after their last use.
    pub park_for: u64,
}

/// A log, as the event loop holds it: hand requests over with [`submit`](Store::submit); when the log has called its
/// owner's `wake`, collect answers with [`take`](Store::take). Neither blocks. How much may be waiting is bounded by the
/// caller.
pub trait Store {
    /// Returns the log's epoch: another one means that it is another log.
    fn epoch(&self) -> &Epoch;

    /// Returns the key that session tokens are sealed with. It lives as long as the log, or is made from the data key.
    fn token_key(&self) -> [u8; 32];

    /// Returns the seconds that racerd had run on this log in all when it was opened: the clock of stored ages. After a
    /// crash it may lag by a minute.
    fn running_seconds(&self) -> u64;

    /// Returns what the opening has found that somebody should read, a line each.
    fn remarks(&self) -> &[String] {
        &[]
    }

    /// Returns what a health check should say though the log is well: a damaged database lies beside the one in use.
    fn note(&self) -> Option<&str> {
        None
    }

    /// Returns the bounds that hold.
    fn bounds(&self) -> Bounds;

    /// Sets other bounds. What a database has over them goes a little at a time; what memory has, at once.
    fn set_bounds(&mut self, bounds: Bounds);

    /// Hands over all requests. Appends, parkings and claims are decided in the order in which they were submitted.
    fn submit(&mut self, requests: &mut Vec<StoreRequest>);

    /// Adds the answers that are there to `events`.
    fn take(&mut self, events: &mut Vec<StoreEvent>);

    /// Returns whether answers are there as soon as `submit` returns, without a wake.
    fn is_inline(&self) -> bool;

    /// Returns the bytes of SQLite's write-ahead log as last measured, 0 without one. Usually below 8 MiB; more means that
    /// another program holds a read of the database open.
    fn wal_bytes(&self) -> u64 {
        0
    }

    /// Commits everything that was submitted, marks the end as clean and releases what the log holds; takes as long as
    /// that takes. Answers that were not taken are dropped. The error says why the log may not be complete on disk.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// Returns the text of an epoch: 16 hexadecimal digits.
pub fn new_epoch(random: &[u8; 8]) -> Epoch {
    Epoch(data_encoding::HEXLOWER.encode(random).into())
}
