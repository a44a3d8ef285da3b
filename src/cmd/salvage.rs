//! `racerd salvage FILE NEW`: what can be read of a damaged database, in a new one.

use super::{Failure, say};
use crate::store;
use std::ffi::OsString;
use std::path::Path;

/// Copies what can be read, row by row, and says what was lost.
///
/// # Errors
/// [`Failure::Usage`] where the files are not both named, the new one exists, or a server uses the database;
/// [`Failure::Failed`] where nothing can be read or it cannot be written.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    let [from, to] = args else {
        return Err(Failure::Usage("salvage needs two files: racerd salvage FILE NEW".to_string()));
    };
    let (from, to) = (Path::new(from), Path::new(to));
    let report = store::salvage(from, to)?;
    say(&format!("{report}\n{} can be served with --data, or be restored\n", to.display()));
    Ok(())
}
