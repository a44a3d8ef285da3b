//! The log on disk: two threads with a connection each. The writer decides and commits appends, batch by batch, in the
//! order in which they came; the reader reads pages. Each answers by a channel and then calls `wake`; what one answers
//! may overtake what the other does. A thread that panics says [`StoreEvent::Died`](crate::store::StoreEvent::Died) as its last word (in a build with
//! `panic = "abort"` the process ends instead). They own the database and nothing else.

mod ages;
mod batch;
mod clock;
mod dating;
mod error;
mod files;
mod limits;
mod lock;
mod log;
mod open;
mod options;
mod parked;
mod piecemeal;
mod prune;
mod reader;
mod repair;
mod retention;
mod rows;
mod schema;
mod scrub;
mod sealed_bodies;
mod sealing;
mod stepped;
mod upkeep;
mod wal;
mod worker;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod sealed_bodies_tests;
#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod tests;

pub use self::clock::SetClock;
pub use self::error::{OpenError, OperationError};
pub use self::log::{FIXED_BYTES, Sqlite};
pub use self::options::StoreOptions;
pub use self::repair::{
    Checked, Progress, Rekeyed, Restored, Salvaged, backup, check, rekey, restore, salvage, side_file_of,
};
pub use self::stepped::SteppedLog;
