//! `racerd salvage FILE NEW`: what can be read of a damaged database, in a new one.

use super::{Failure, file_first, given::Given, say};
use crate::server::key_file;
use crate::store;
use std::ffi::OsString;

/// Copies what can be read, row by row, and says what was lost.
///
/// # Errors
/// [`Failure::Usage`] where the files are not both named, the new one exists, or a server uses the database;
/// [`Failure::Failed`] where nothing can be read or it cannot be written.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (from, args) = file_first(args);
    let (to, args) = file_first(args);
    let (Some(from), Some(to)) = (from, to) else {
        return Err(Failure::Usage("salvage needs two files: racerd salvage FILE NEW [SETTINGS]".to_string()));
    };
    let settings = Given::new(args, environment).read()?.settings;
    let key = key_file::data_key(&settings).map_err(Failure::Usage)?;
    let report = store::salvage(&from, &to, key.as_ref())?;
    say(&format!("{report}\n{} can be served with --data, or be restored\n", to.display()));
    Ok(())
}
