//! Settings: the log on disk.

use super::setting::{Kind, settings};
use crate::types::{Durability, OnDamage, PageSize};
use std::path::PathBuf;

settings! {
    /// The log on disk.
    Storage in storage {
        /// The database file. NAME-wal, NAME-shm and NAME.lock lie beside it.
        data: PathBuf = "racerd.db", Kind::Path, live false;
        /// What an acknowledgement promises. full: on disk and synced, survives a power cut. normal: survives the
        /// process being killed. memory: nothing is kept over a restart.
        durability: Durability = "full", Kind::Choice(&["full", "normal", "memory"]), live false;
        /// What a start does with a damaged database. stop: it says so and ends. salvage: it copies what can be read
        /// into a new one and keeps the damaged one beside it, as NAME.damaged-1.
        on_damage: OnDamage = "stop", Kind::Choice(&["stop", "salvage"]), live false;
        /// How many bytes per second are read while a background pass looks through the whole database for damage, once
        /// in a week of running. What it finds is logged, told by /readyz, and noted for the next start. 0: no pass.
        scrub_rate: u64 = "1MiB", Kind::Size { min: 0, max: 1 << 30 }, live false;
        /// Seals messages, names and parked sessions in the database with the key in this file, which racerd
        /// keygen --data makes and nobody else may read. none: racerd-data-key among systemd's credentials, if it is
        /// there.
        data_key_file: Option<PathBuf> = "", Kind::PathOrNone, live false;
        /// Size of the pages of a new database; an existing one keeps its own. Smaller pages write less for each
        /// message, which spares flash, and take more work for large messages.
        page_size: PageSize = "2KiB", Kind::SizeChoice(&["1KiB", "2KiB", "4KiB"]), live false;
        /// Under load, how long after the beginning of a commit the next one begins, so that what is sent meanwhile
        /// shares it: less work and less writing for each message. A message that comes alone never waits. 0: none
        /// does.
        commit_delay: u64 = "2ms", Kind::Duration { min: 0, max: 1000 }, live true;
        /// Largest size of the database. Near it, racerd deletes the oldest messages of the largest rooms if
        /// keep-messages or keep-for is set. Otherwise it deletes none, and refuses messages from addresses that have
        /// written more than their share, and in the end all messages. A file that is larger already grows no further;
        /// its messages stay, unless keep-messages or keep-for is set. At least 1MiB. 0: what is there at start, and
        /// 80 % of the free space.
        max_database_size: u64 = "0", Kind::Size { min: 0, max: 1 << 46 }, live true;
        /// Newest messages that are kept of each room; older ones go, a little at a time. 0: all.
        keep_messages: u64 = "0", Kind::Count { min: 0, max: 1 << 39 }, live true;
        /// How long a message is kept, by the wall clock. A clock that leaps ahead is believed once it has held for a
        /// quarter of that, and at most for a day, of the time in which the server runs. 0: for ever.
        keep_for: u64 = "0s", Kind::Duration { min: 0, max: 36_500 * 86_400_000 }, live true;
        /// Rooms that have messages, or had some lately. Messages to further ones are refused; the log, /readyz and the
        /// refusal say so. At most as many as fit in about a quarter of max_database_size, at 128 bytes each; with
        /// durability memory at most 100000.
        rooms_max: u32 = "1000000", Kind::Count { min: 1, max: 0xff_ffff }, live true;
        /// Sessions that are kept after their grace period, in at most an eighth of max_database_size; past it, the
        /// oldest go.
        parked_max: u32 = "100000", Kind::Count { min: 0, max: 10_000_000 }, live true;
        /// How long such a session is kept, and the keys of a sender after their last use. Only the time in which the
        /// server runs counts.
        park_for: u64 = "7d", Kind::Duration { min: 1000, max: 3650 * 86_400_000 }, live true;
    }
}
