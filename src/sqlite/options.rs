//! The options of a database: its location, limits and keys.

use std::path::PathBuf;

use crate::crypto::at_rest::DataKey;
use crate::store::Bounds;
use crate::types::{Digest, Durability, OnDamage, PageSize};

/// The location of a log, and how it is stored.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file; unused with [`Durability::Memory`].
    pub path: PathBuf,
    pub durability: Durability,
    /// Of a new database.
    pub page_size: PageSize,
    pub bounds: Bounds,
    pub on_damage: OnDamage,
    /// Rate of the weekly background check of the whole database for damage, in bytes per second; 0 turns it off.
    pub scrub_rate: u64,
    /// Seals bodies, names and parked sessions, and is the source of the key for session tokens. Unused with
    /// [`Durability::Memory`], whose log never reaches a disk.
    pub data_key: Option<DataKey>,
    /// Random bytes for a new epoch, should one be needed.
    pub new_epoch: [u8; 8],
    /// Random bytes for the session token key, should the log have none yet.
    pub new_token_salt: [u8; 32],
    /// Random bytes for the salt of the key of sealed rows, should the log have none yet.
    pub new_log_salt: [u8; 16],
    /// Returns the digest of a stored body if it is encrypted. For messages older than the index of these digests.
    pub sealed_body: fn(&str) -> Option<Digest>,
    /// The kernel's boot id; empty if unknown, which counts as a different boot each time.
    pub boot_id: String,
}

#[cfg(any(test, fuzzing, feature = "testing"))]
impl StoreOptions {
    /// Returns the options of a database for tests and benches: nothing is deleted, and nothing runs in the background.
    pub fn sample(path: PathBuf) -> StoreOptions {
        StoreOptions {
            path,
            durability: Durability::Normal,
            page_size: PageSize::FourKib,
            bounds: Bounds {
                max_database_size: 1 << 30,
                memory_room_bytes: 64 << 20,
                memory_total_bytes: 256 << 20,
                keep_messages: 0,
                keep_for: 0,
                rooms_max: 0xff_ffff,
                parked_max: 5,
                park_for: 7 * 24 * 3600,
                commit_delay: std::time::Duration::ZERO,
            },
            on_damage: OnDamage::Stop,
            scrub_rate: 0,
            data_key: None,
            new_epoch: [0x1a; 8],
            new_token_salt: [0x3c; 32],
            new_log_salt: [0x4d; 16],
            sealed_body: |_| None,
            boot_id: "this-boot".to_owned(),
        }
    }
}
