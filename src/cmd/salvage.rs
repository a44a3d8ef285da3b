//! `racerd salvage FILE NEW`, each also `-`: what can be read of a damaged database, in a new one.

use super::stream::{self, Source, is_stream};
use super::{Failure, complain, file_first, given::Given, say, shown};
use crate::key_file;
use crate::sqlite;
use std::ffi::OsString;
use std::path::Path;

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
    let key = key_file::data_key(&settings).map_err(Failure::of_file)?;
    let from = Source::of(from)?;
    let salvage = |to: &Path| sqlite::salvage(&from.path(), to, key.as_ref()).map_err(|error| from.named(error.into()));
    if is_stream(&to) {
        let report = stream::send(salvage)?;
        complain(&report.to_string());
        return Ok(());
    }
    let report = salvage(&to)?;
    say(&format!("{report}\n{} can be served with --data, or be restored\n", shown(&to)));
    Ok(())
}
