//! The log on disk: three threads with a connection each. The writer decides and commits appends in batches, in the
//! order of their arrival; the reader reads pages; the copier copies the WAL into the database file. Writer and reader
//! answer over a channel and then call `wake`; their answers may overtake each other. A thread that panics sends
//! [`StoreEvent::Died`](crate::store::StoreEvent::Died) last (in a build with `panic = "abort"` the process ends
//! instead). The threads own the database and nothing else.

mod ages;
#[cfg(any(test, feature = "testing"))]
pub mod back;
mod batch;
mod check;
mod checkpoint;
mod clock;
mod common;
mod damage;
mod dating;
mod error;
mod files;
mod fold;
mod folding;
mod late;
mod limits;
mod lock;
mod log;
mod log_salt;
mod message_key;
mod obstacle;
mod oldest;
mod open;
mod options;
mod outcome;
mod pace;
mod pages;
mod parked;
mod piecemeal;
mod prune;
mod reader;
mod removal;
mod repair;
mod retention;
mod rounds;
mod rows;
mod schema;
mod scrub;
mod sealed_bodies;
mod sealing;
mod shortage;
mod sizes;
mod space;
mod standings;
mod start_check;
mod stepped;
mod unfolded;
mod upkeep;
mod wal;
mod weight;
mod windows;
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

pub use self::check::Checked;
pub use self::clock::SetClock;
pub use self::error::{OpenError, OperationError};
pub use self::files::{real_path, side_file_of};
pub use self::log::{FIXED_BYTES, Sqlite};
pub use self::options::StoreOptions;
pub use self::repair::{Progress, Rekeyed, Restored, Salvaged, backup, check, rekey, restore, salvage};
pub use self::space::rooms_within;
pub use self::stepped::SteppedLog;
