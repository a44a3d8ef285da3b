//! Operations on a database that is stopped or damaged, or copied while in use: check, copy, salvage, and change of the
//! data key.

pub(super) mod check;
mod copying;
pub(super) mod damage;
pub(super) mod image;
mod operations;
mod rekey;
pub(super) mod salvage;
mod sealed_salvage;
pub(super) mod target;

#[cfg(test)]
pub(super) mod damage_tests;

pub use self::check::Checked;
pub use self::copying::Progress;
pub use self::operations::{Restored, backup, check, restore, salvage};
pub use self::rekey::{Rekeyed, rekey};
pub use self::salvage::Salvaged;
pub use self::target::side_file_of;
