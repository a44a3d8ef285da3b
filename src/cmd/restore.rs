//! `racerd restore FILE`, or `-` for standard input: a backup comes into the place of the database.

use super::stream::Source;
use super::{Failure, complain, data, file_first, progress, say, shown};
use crate::sqlite;
use crate::types::counted;
use std::ffi::OsString;

/// Puts a copy of the backup into the place of the database that the settings name.
///
/// # Errors
/// [`Failure::Usage`] where no backup is named or a server uses the database; [`Failure::Failed`] where the backup is
/// damaged or it cannot be written.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (Some(file), args) = file_first(args) else {
        return Err(Failure::Usage(
            "restore needs a backup first, or - for standard input: racerd restore FILE [--data FILE]".to_string(),
        ));
    };
    let data = data(args, environment)?;
    let from = Source::of(file)?;
    let restored = sqlite::restore(&from.path(), &data, progress()).map_err(|error| from.named(error.into()))?;
    let mut text = format!(
        "{} is restored from {}: {} in {}; clients will be told that it is another log\n",
        shown(&data),
        shown(&from.name()),
        counted(restored.messages, "message"),
        counted(restored.rooms, "room")
    );
    if let Some(kept) = restored.kept {
        text.push_str(&format!("what was there before is kept as {}\n", shown(&kept)));
    }
    for remark in restored.remarks {
        complain(&remark);
    }
    say(&text);
    Ok(())
}
