//! `racerd restore FILE`: a backup comes into the place of the database.

use super::{Failure, data, file_first, progress, say};
use crate::store;
use std::ffi::OsString;

/// Puts a copy of the backup into the place of the database that the settings name.
///
/// # Errors
/// [`Failure::Usage`] where no backup is named or a server uses the database; [`Failure::Failed`] where the backup is
/// damaged or it cannot be written.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (Some(file), args) = file_first(args) else {
        return Err(Failure::Usage("restore needs a backup first: racerd restore FILE [--data FILE]".to_string()));
    };
    let data = data(args, environment)?;
    let restored = store::restore(&file, &data, progress())?;
    let mut text = format!(
        "{} is restored from {}: {} messages in {} rooms; clients will be told that it is another log\n",
        data.display(),
        file.display(),
        restored.messages,
        restored.rooms
    );
    if let Some(kept) = restored.kept {
        text.push_str(&format!("what was there before is kept as {}\n", kept.display()));
    }
    say(&text);
    Ok(())
}
