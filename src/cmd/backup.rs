//! `racerd backup FILE`, or `-` for standard output: a copy of the database, also of one that a server writes to.

use super::stream::{self, is_stream};
use super::{Failure, complain, data, file_first, progress, say, shown};
use crate::sqlite;
use std::ffi::OsString;

/// Copies the database that the settings name to the file.
///
/// # Errors
/// [`Failure::Usage`] where no file is named, it exists (without `--force`), or there is no database;
/// [`Failure::Failed`] where it cannot be read or the copy cannot be written.
pub fn run(
    mut args: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let before = args.len();
    args.retain(|arg| arg != "--force");
    let force = args.len() < before;
    let (Some(file), args) = file_first(args) else {
        return Err(Failure::Usage(
            "backup needs a file first, or - for standard output: racerd backup FILE [--force] [--data FILE]"
                .to_string(),
        ));
    };
    let data = data(args, environment)?;
    if is_stream(&file) {
        let bytes = stream::send(|copy| Ok(sqlite::backup(&data, copy, false, progress())?))?;
        complain(&format!("standard output has a backup of {}: {bytes} bytes", data.display()));
        return Ok(());
    }
    let bytes = sqlite::backup(&data, &file, force, progress())?;
    say(&format!("{} is a backup of {}: {bytes} bytes\n", shown(&file), shown(&data)));
    Ok(())
}
