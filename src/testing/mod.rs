//! Test doubles and helpers that tests of every kind share: unit tests, fuzz targets, and the tests in `tests/`, which
//! link the library without `cfg(test)` and so need the feature `testing`. No release has this module: `tests/run`
//! looks for it in the sources of the release build.
//!
//! Three things stay with their tests, since they are not the same knowledge. The simulator's store plans on a virtual
//! clock and keeps what a disk would. The steps of proptest and of the fuzz targets come from their own input, which
//! has to shrink. And each world has its own evidence beside the [`judge`]: open requests, acknowledgements, what is
//! stored.

pub mod judge;
mod late_store;
mod log;
pub mod older;
mod random;
mod store;
mod temp_dir;
mod turn_counts;

pub use late_store::{Failure, LateStore};
pub use log::{NaiveLog, stamp};
pub use random::{Ppm, Random, nonces};
pub use store::{Fate, Store};
pub use temp_dir::TempDir;
pub use turn_counts::TurnCounts;
