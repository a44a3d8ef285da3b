//! `racerd check [FILE]`: looks through a database, also one that a server writes to.

use super::{Failure, file_first, given::Given, say};
use crate::server::key_file;
use crate::server::log::escape;
use crate::store;
use std::ffi::OsString;

/// Looks through the file, or else the database that the settings name, and says what it has found.
///
/// # Errors
/// [`Failure::Usage`] where there is no database; [`Failure::Failed`] where it cannot be read or is not sound.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (file, args) = file_first(args);
    let settings = Given::new(args, environment).read()?.settings;
    let key = key_file::data_key(&settings).map_err(Failure::Usage)?;
    let path = file.unwrap_or(settings.storage.data);
    let checked = store::check(&path, key.as_ref())?;
    let mut text = String::new();
    for line in checked.faults.iter().chain(&checked.remarks) {
        // A damaged name may hold anything.
        text.push_str(&escape(line));
        text.push('\n');
    }
    let count = checked.faults.len() as u64 + checked.more;
    if checked.is_well() {
        text.push_str(&format!(
            "{} is sound: {} messages in {} rooms\n",
            path.display(),
            checked.messages,
            checked.rooms
        ));
    }
    say(&text);
    if checked.is_well() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Failed(format!(
        "{path} is damaged: {count} faults; 'racerd salvage {path} NEW' copies what can be read, or restore a backup"
    )))
}
