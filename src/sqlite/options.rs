//! Where a database is, and how it is kept.

use std::path::PathBuf;

use crate::crypto::at_rest::DataKey;
use crate::store::Bounds;
use crate::types::{Digest, Durability, OnDamage};

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
