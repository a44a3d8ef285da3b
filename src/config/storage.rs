//! Settings: the log on disk.

use super::setting::{Kind, settings};
use crate::types::Durability;
use std::path::PathBuf;

settings! {
    /// The log on disk.
    Storage in storage {
        /// The database file. NAME-wal, NAME-shm and NAME.lock lie beside it.
        data: PathBuf = "racerd.db", Kind::Path, live false;
        /// What an acknowledgement promises. full: on disk and synced, survives a power cut. normal: survives the
        /// process being killed. memory: nothing is kept over a restart.
        durability: Durability = "full", Kind::Choice(&["full", "normal", "memory"]), live false;
        /// Largest size of the database; past it, sends are refused until there is room. 0: what is there at start, and
        /// 80 % of the free space.
        max_database_size: u64 = "0", Kind::Size { min: 0, max: 1 << 46 }, live true;
        /// Sessions that are kept after their grace period; past it, the oldest go.
        parked_max: u32 = "100000", Kind::Count { min: 0, max: 10_000_000 }, live true;
        /// How long such a session is kept, and the keys of a sender after their last use. Only the time in which the
        /// server runs counts.
        park_for: u64 = "7d", Kind::Duration { min: 1000, max: 3650 * 86_400_000 }, live true;
    }
}
