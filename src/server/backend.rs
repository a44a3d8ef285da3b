//! Chooses and opens the log that the settings ask for.

use crate::sqlite::{OpenError, Sqlite, StoreOptions};
use crate::store::{self, InMemory, Store};
use crate::types::Durability;

/// Opens the log, or creates one. Its own threads call `wake` after each batch of events; the in-memory log has none.
/// Can take a while on a slow disk: call it before serving.
pub fn open(options: StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Result<Box<dyn Store>, OpenError> {
    Ok(match options.durability {
        Durability::Memory => Box::new(InMemory::new(options.bounds, &options.new_epoch, options.new_token_salt)),
        Durability::Full | Durability::Normal => Box::new(Sqlite::open(&options, wake)?),
    })
}

/// Returns the bytes of memory that the log may use besides the messages it is told to keep.
pub fn fixed_bytes(durability: Durability) -> usize {
    match durability {
        Durability::Memory => store::FIXED_BYTES,
        Durability::Full | Durability::Normal => crate::sqlite::FIXED_BYTES,
    }
}
