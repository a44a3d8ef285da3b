//! `racerd check [FILE]`, or `-` for standard input: looks through a database, also one that a server writes to.

use super::stream::Source;
use super::{Failure, file_first, given::Given, say, shown};
use crate::key_file;
use crate::sqlite;
use crate::types::{counted, harmless};
use std::ffi::OsString;

/// Looks through the file, or else the database that the settings name, and says what it has found.
///
/// # Errors
/// [`Failure::Usage`] where there is no database; [`Failure::Failed`] where it cannot be read or is not sound.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (file, args) = file_first(args);
    let settings = Given::new(args, environment).read()?.settings;
    let key = key_file::data_key(&settings).map_err(Failure::of_file)?;
    let from = Source::of(file.unwrap_or(settings.storage.data))?;
    let checked = sqlite::check(&from.path(), key.as_ref()).map_err(|error| from.named(error.into()))?;
    let path = from.name();
    let mut text = String::new();
    for line in checked.faults.iter().chain(&checked.remarks) {
        // A damaged name may hold anything.
        text.push_str(&harmless(line));
        text.push('\n');
    }
    let count = checked.faults.len() as u64 + checked.more;
    if checked.is_well() {
        text.push_str(&format!(
            "{} is sound: {} in {}\n",
            shown(&path),
            counted(checked.messages, "message"),
            counted(checked.rooms, "room")
        ));
    }
    say(&text);
    if checked.is_well() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Failed(format!(
        "{path} is damaged: {}; 'racerd salvage {path} NEW' copies what can be read, or restore a backup",
        counted(count, "fault")
    )))
}
