//! `racerd version`, `--version`.

use super::{Failure, say};

/// Prints name and version.
///
/// # Errors
/// None.
pub fn run() -> Result<(), Failure> {
    say(concat!("racerd ", env!("CARGO_PKG_VERSION"), "\n"));
    Ok(())
}
