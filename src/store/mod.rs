//! The log as its callers see it: appends, reads and heads, and parked sessions beside it. Requests go in, events come
//! out. The in-memory log is here, too; other implementations stand behind [`Store`].

mod holders;
pub mod idempotency;
mod in_memory;
mod memory;
mod request;
#[cfg(test)]
pub mod samples;
mod standing;

pub use holders::{HOLDER_BYTES, Holder, Holders, Victim};
pub use in_memory::InMemory;
pub use memory::{FIXED_BYTES, MemoryLog};
pub use request::*;
pub use standing::{Barred, Mark, STANDINGS, Standing, admit};

use std::time::Duration;

use crate::types::Epoch;

/// Limits on what a log stores and keeps: the part of its options that may change at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum size of the database file in bytes. 0 means its size at the start plus 80 % of the free space, adjusted
    /// as other programs use or free disk space. The WAL is not included: about 4 MiB; while another program reads the
    /// database at most a quarter of this size, or 64 MiB if that is more.
    pub max_database_size: u64,
    /// Bytes of messages that [`Durability::Memory`](crate::types::Durability::Memory) keeps in each room ...
    pub memory_room_bytes: usize,
    /// ... and in all rooms together.
    pub memory_total_bytes: usize,
    /// Maximum number of messages kept in each room; 0 keeps all.
    pub keep_messages: u64,
    /// How long a message is kept, in milliseconds of the wall clock; 0 means forever.
    pub keep_for: u64,
    /// Maximum number of rooms; messages to a further one are refused.
    pub rooms_max: u64,
    /// Maximum number of parked sessions.
    pub parked_max: u64,
    /// How long a parked session is kept, and a sender's idempotency keys after their last use, in seconds of racerd's
    /// own running time.
    pub park_for: u64,
    /// Under load, how long after the beginning of a commit the next one begins; zero means as soon as it can.
    pub commit_delay: Duration,
}

/// Returns after how many running seconds the use of an empty room is recorded again, where sessions stay parked for
/// `park_for` seconds.
pub fn use_recorded_after(park_for: u64) -> u64 {
    park_for.clamp(1, 3_600)
}

/// A log as the event loop uses it: [`submit`](Store::submit) hands requests over, and once the log has called its
/// owner's `wake`, [`take`](Store::take) collects the answers. Neither blocks. The caller bounds how many requests are
/// pending.
pub trait Store {
    /// Returns the log's epoch. A different epoch means a different log.
    fn epoch(&self) -> &Epoch;

    /// Returns the key that seals session tokens. It lives as long as the log, or is derived from the data key.
    fn token_key(&self) -> [u8; 32];

    /// Returns how many seconds racerd had run on this log in total when it was opened. Stored ages use this clock.
    /// After a crash it may be a minute behind.
    fn running_seconds(&self) -> u64;

    /// Returns remarks for the operator about the opening, one line each.
    fn remarks(&self) -> &[String] {
        &[]
    }

    /// Returns the note that a health check shows although the log works: a damaged database lies beside the one in
    /// use.
    fn note(&self) -> Option<&str> {
        None
    }

    /// Returns the limits in effect.
    fn bounds(&self) -> Bounds;

    /// Replaces the limits. A database drops excess content a little at a time, the in-memory log at once.
    fn set_bounds(&mut self, bounds: Bounds);

    /// Submits all requests. Appends, parkings and claims are decided in the order of submission.
    fn submit(&mut self, requests: &mut Vec<StoreRequest>);

    /// Moves the answers that are ready to `events`.
    fn take(&mut self, events: &mut Vec<StoreEvent>);

    /// Returns whether answers are ready as soon as `submit` returns, without a wake-up.
    fn is_inline(&self) -> bool;

    /// Commits everything submitted, records a clean shutdown and releases the log's resources. Blocks until done.
    /// Answers that were not taken are dropped.
    ///
    /// # Errors
    /// The reason why the log may not be complete on disk.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// Returns the text of an epoch: 16 hexadecimal digits.
pub fn new_epoch(random: &[u8; 8]) -> Epoch {
    Epoch(data_encoding::HEXLOWER.encode(random).into())
}
