//! The log: append, read, head; parked sessions beside it. Requests in, events out. One handle for the loop, whatever keeps the log: SQLite with
//! two threads of its own, or memory. It knows the words of `types` and nobody who asks.

mod error;
mod keys;
mod memory;
mod request;
mod sqlite;

#[cfg(test)]
mod contract;

use std::path::PathBuf;

pub use error::{OpenError, OperationError};
pub use memory::MemoryLog;
pub use request::*;
pub use sqlite::{
    Checked, Progress, Rekeyed, Restored, Salvaged, SetClock, SteppedLog, backup, check, rekey, restore, salvage,
    side_file_of,
};

use self::sqlite::Sqlite;
use crate::crypto::at_rest::DataKey;
use crate::types::{Digest, Durability, Epoch, OnDamage};

/// Where the log is and what it may take.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file; unused with [`Durability::Memory`].
    pub path: PathBuf,
    pub durability: Durability,
    pub bounds: Bounds,
    pub on_damage: OnDamage,
    /// Bytes per second at which all of the database is read for damage, once a week of running; 0: it is not.
    pub scrub_rate: u64,
    /// Seals bodies, names and parked sessions, and makes the key for session tokens; unused with
    /// [`Durability::Memory`], whose log no disk sees.
    pub data_key: Option<DataKey>,
    /// Random: the epoch, should a new one be needed.
    pub new_epoch: [u8; 8],
    /// Random: the key for session tokens, should the log have none yet.
    pub new_token_key: [u8; 32],
    /// Takes a stored body apart: the digest of an encrypted one. For messages of before the log kept these digests.
    pub sealed_body: fn(&str) -> Option<Digest>,
    /// The kernel's id of this boot; empty where it is not known, which counts as another one each time.
    pub boot_id: String,
}

/// What the log may take and keeps: the part of [`StoreOptions`] that may change while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that the database file may grow to; 0 is what the file had at the start and 80 % of the free
    /// space, which follows what others take of the disk.
    /// The WAL beside it comes on top: some 4 MiB, more while another program reads the database.
    pub max_database_size: u64,
    /// Bytes of messages per room ...
    pub memory_room_bytes: usize,
    /// ... and in all that [`Durability::Memory`] keeps.
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

/// The log, as the loop holds it: hand requests over with [`submit`](Store::submit); when `wake` was called, collect
/// answers with [`take`](Store::take). Neither blocks. How much may be waiting is bounded by who asks.
pub struct Store {
    log: Log,
    bounds: Bounds,
}

enum Log {
    Memory { log: Box<MemoryLog>, token_key: [u8; 32], events: Vec<StoreEvent> },
    Sqlite(Sqlite),
}

impl Store {
    /// Opens the log, or makes a new one. The store's threads call `wake` after each batch of events; the memory log
    /// does not. Takes a while where a disk is slow: call it before serving.
    pub fn open(options: StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Result<Store, OpenError> {
        let bounds = options.bounds;
        let log = match options.durability {
            Durability::Memory => {
                let epoch = new_epoch(&options.new_epoch);
                let mut log = MemoryLog::new(epoch, bounds.memory_room_bytes, bounds.memory_total_bytes);
                log.keep_parked(bounds.parked_max);
                Log::Memory { log: Box::new(log), token_key: options.new_token_key, events: Vec::new() }
            }
            Durability::Full | Durability::Normal => Log::Sqlite(Sqlite::open(&options, wake)?),
        };
        Ok(Store { log, bounds })
    }

    /// Other bounds hold from now on. What a database has over them goes a little at a time; what memory has, at once.
    pub fn keep_within(&mut self, bounds: Bounds) {
        match &mut self.log {
            Log::Memory { log, .. } => {
                log.keep_within(bounds.memory_room_bytes, bounds.memory_total_bytes);
                log.keep_parked(bounds.parked_max);
            }
            Log::Sqlite(sqlite) => sqlite.keep_within(bounds),
        }
        self.bounds = bounds;
    }

    /// The bounds that hold.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// What the opening has found that somebody should read, a line each.
    pub fn remarks(&self) -> &[String] {
        match &self.log {
            Log::Memory { .. } => &[],
            Log::Sqlite(sqlite) => sqlite.remarks(),
        }
    }

    /// What whoever asks whether the server is well should read, though it is: a damaged database lies beside the one in
    /// use.
    pub fn note(&self) -> Option<&str> {
        match &self.log {
            Log::Memory { .. } => None,
            Log::Sqlite(sqlite) => sqlite.note(),
        }
    }

    pub fn epoch(&self) -> &Epoch {
        match &self.log {
            Log::Memory { log, .. } => log.epoch(),
            Log::Sqlite(sqlite) => sqlite.epoch(),
        }
    }

    /// The key that session tokens are sealed with: made with the log, and kept as long as it; or made from the data key.
    pub fn token_key(&self) -> [u8; 32] {
        match &self.log {
            Log::Memory { token_key, .. } => *token_key,
            Log::Sqlite(sqlite) => sqlite.token_key(),
        }
    }

    /// Seconds that racerd had run on this log in all when it was opened: the clock of stored ages. After a crash it may
    /// lag by a minute.
    pub fn running_seconds(&self) -> u64 {
        match &self.log {
            Log::Memory { .. } => 0,
            Log::Sqlite(sqlite) => sqlite.running_seconds(),
        }
    }

    /// Hands over all requests. Appends, parkings and claims are decided in the order in which they were submitted.
    pub fn submit(&mut self, requests: &mut Vec<StoreRequest>) {
        match &mut self.log {
            Log::Memory { log, events, .. } => log.answer(requests, events),
            Log::Sqlite(sqlite) => sqlite.submit(requests),
        }
    }

    /// Adds the answers that are there to `events`.
    pub fn take(&mut self, events: &mut Vec<StoreEvent>) {
        match &mut self.log {
            Log::Memory { events: ready, .. } => events.append(ready),
            Log::Sqlite(sqlite) => sqlite.take(events),
        }
    }

    /// Whether answers are there as soon as `submit` returns, without a wake.
    pub fn is_inline(&self) -> bool {
        matches!(self.log, Log::Memory { .. })
    }

    /// Bytes of SQLite's write-ahead log as last measured, 0 without one. Usually below 8 MiB; more means that another
    /// program holds a read of the database open.
    pub fn wal_bytes(&self) -> u64 {
        match &self.log {
            Log::Memory { .. } => 0,
            Log::Sqlite(sqlite) => sqlite.wal_bytes(),
        }
    }

    /// Commits everything that was submitted, marks the end as clean and joins the threads; takes as long as that takes.
    /// Answers that were not taken are dropped. The error says why the log may not be complete on disk.
    pub fn finish(self) -> Result<(), String> {
        match self.log {
            Log::Memory { .. } => Ok(()),
            Log::Sqlite(sqlite) => sqlite.finish(),
        }
    }
}

/// Bytes of memory that the log may take beside the messages that it was told to keep.
pub fn fixed_bytes(durability: Durability) -> usize {
    match durability {
        Durability::Memory => memory::FIXED_BYTES,
        Durability::Full | Durability::Normal => sqlite::FIXED_BYTES,
    }
}

/// The text of an epoch: 16 hexadecimal digits.
fn new_epoch(random: &[u8; 8]) -> Epoch {
    Epoch(data_encoding::HEXLOWER.encode(random).into())
}
