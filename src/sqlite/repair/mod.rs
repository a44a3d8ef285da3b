//! Operations on a database that is stopped or damaged, or copied while in use: check, copy, salvage, and change of the
//! data key.

mod copying;
pub(super) mod image;
pub(super) mod opening;
mod operations;
mod rekey;
mod salvage;
mod sealed_salvage;
mod target;

#[cfg(test)]
pub(super) mod damage_tests;

pub use self::copying::Progress;
pub use self::operations::{Restored, backup, check, restore, salvage};
pub use self::rekey::{Rekeyed, rekey};
pub use self::salvage::Salvaged;
