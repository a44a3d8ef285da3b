//! The commands on a whole database: back it up, restore it, check it, salvage it. Each leaves either its complete
//! result under the given name, or nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::copying::{self, Progress, Reading};
use super::salvage::{self, Salvaged};
use super::target::Target;
use crate::crypto::at_rest::DataKey;
use crate::sqlite::check::{self, Checked};
use crate::sqlite::damage::is_damage;
use crate::sqlite::files::{Aside, Files, NO_SQLITE, beside, refuse_side_file};
use crate::sqlite::limits::advice;
use crate::sqlite::lock::Lock;
use crate::sqlite::obstacle::Obstacle;
use crate::sqlite::schema;
use crate::sqlite::{OpenError, OperationError};
use crate::types::Reason;

/// Copies the database at `data` to a new file `to`, even while a racerd writes to it: everything that was acknowledged
/// before the call is in the copy. Returns the copy's size in bytes.
///
/// # Errors
/// `to` exists and must not be replaced (`force`), there is no database, or it cannot be read or the copy written.
pub fn backup(data: &Path, to: &Path, force: bool, progress: Progress) -> Result<u64, OperationError> {
    let from = database(data)?;
    let target = Target::at(to, &from, force)?;
    let draft = target.draft();
    let reading = reading(&from)?;
    let copy = |_: &File| copying::copy(reading, &draft, progress).map_err(|error| copy_failed(&from, &draft, error));
    let bytes = finish(&draft, copy)?;
    target.put(&draft)?;
    Ok(bytes)
}

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub rooms: u64,
    pub messages: u64,
    /// Describes a database of an older version, after a word for it.
    pub version: Option<String>,
    /// The path at which the previous database is kept.
    pub kept: Option<PathBuf>,
    /// Remarks for the operator, one line each.
    pub remarks: Vec<String>,
}

/// Replaces the database at `data` with a copy of the backup `from`, and keeps the old one beside it. The log has a new
/// epoch then.
///
/// A backup of an older version stays one. A server of this racerd migrates it at its start, like any other; until then
/// the older racerd can serve it as well, and whoever restores a backup may be going back to that.
///
/// # Errors
/// A racerd uses the database; the backup is not a database, or is damaged; the copy cannot be written.
pub fn restore(from: &Path, data: &Path, progress: Progress) -> Result<Restored, OperationError> {
    let from = database(from)?;
    let files = Files::at(data)?;
    if files.database == from.database {
        return Err(Obstacle::Itself { path: from.database }.into());
    }
    refuse_side_file(&files)?;
    let _lock = Lock::take(&files)?;
    files.finish_replacing()?;
    let draft = files.draft();
    let reading = reading(&from)?;
    let mut checked = Checked::default();
    finish(&draft, |_| {
        let failed = |error| copy_failed(&from, &draft, error);
        copying::copy(reading, &draft, progress).map_err(failed)?;
        let copied = copying::open(&Files::at(&draft)?)?;
        checked = check::look(&copied.conn, None).map_err(failed)?;
        drop(copied);
        match checked.faults.first() {
            Some(fault) => Err(Obstacle::Unsound { path: from.database.clone(), fault: fault.clone() }.into()),
            // Damage recorded in the original does not apply to this copy.
            None => copying::forget_damage(&draft).map_err(failed),
        }
    })?;
    let kept = files.replace(Aside::Replaced)?;
    let remarks = files.tighten();
    let version = schema::older(checked.version);
    Ok(Restored { rooms: checked.rooms, messages: checked.messages, version, kept, remarks })
}

/// Checks the database at `data`, even while a racerd writes to it; with its key, also whether sealed rows open.
///
/// # Errors
/// There is no database, or it cannot be read. Faults inside the database are not errors, but the result.
pub fn check(data: &Path, key: Option<&DataKey>) -> Result<Checked, OperationError> {
    let files = Files::at(data)?;
    match files.is_database() {
        Err(OpenError::Foreign { what: NO_SQLITE, .. }) if salvage::recognises(&files) => {
            return Ok(Checked::of("its header is overwritten"));
        }
        Ok(true) => {}
        _ => drop(database(data)?),
    }
    let looked = match copying::open(&files) {
        Ok(reading) => check::look(&reading.conn, key),
        Err(OpenError::Sqlite { error, .. }) => Err(error),
        Err(error) => return Err(error.into()),
    };
    match looked {
        Ok(checked) => Ok(checked),
        Err(error) if is_damage(&error) => Ok(Checked::of(&error.to_string())),
        Err(error) => {
            let text = format!("cannot read {}: {error}", files.database.display());
            Err(OperationError::Failed(Reason::with(text, error)))
        }
    }
}

/// Copies what can be read of the damaged database `from` to a new file `to`. Sealed rows need no key as long as each
/// keeps its seq; with `key`, only those that open are copied.
///
/// # Errors
/// A racerd uses the database; `to` exists; nothing can be read; sealed rows have to move, and no key or the wrong one
/// was given; the copy cannot be written.
pub fn salvage(from: &Path, to: &Path, key: Option<&DataKey>) -> Result<Salvaged, OperationError> {
    let files = Files::at(from)?;
    match fs::metadata(&files.database) {
        // Opening a FIFO would wait for its other end, and a device may have no end.
        Ok(found) if !found.is_file() => return Err(OpenError::NotAFile { path: files.database }.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OperationError::failed(format!("{} does not exist", files.database.display())));
        }
        _ => {}
    }
    let _lock = Lock::to_read(&files)?;
    let target = Target::at(to, &files, false)?;
    let draft = target.draft();
    let report = salvage::salvage_to(&files, &draft, key)?;
    target.put(&draft)?;
    Ok(report)
}

/// Returns the files of the racerd database at a path, if there is one.
fn database(path: &Path) -> Result<Files, OperationError> {
    let files = Files::at(path)?;
    if files.is_database()? {
        Ok(files)
    } else {
        let line = format!("there is no database at {}; name it with --data", files.database.display());
        Err(OperationError::failed(line))
    }
}

/// Opens a database to copy it.
fn reading(from: &Files) -> Result<Reading, OperationError> {
    copying::open(from).map_err(|error| match error {
        OpenError::Sqlite { error, .. } if is_damage(&error) => damaged(from, &error),
        other => other.into(),
    })
}

/// Creates a file, has `make` fill it, and syncs it; deletes it if that fails. Returns its size in bytes.
fn finish(draft: &Path, make: impl FnOnce(&File) -> Result<(), OperationError>) -> Result<u64, OperationError> {
    let failed = |error: io::Error| {
        OperationError::Failed(Reason::with(format!("cannot write to {}: {error}", draft.display()), error))
    };
    let file = copying::begin(draft).map_err(failed)?;
    let made = make(&file).and_then(|()| {
        // SQLite may have written through another descriptor; a sync covers the whole file.
        file.sync_all().and_then(|()| file.metadata()).map(|metadata| metadata.len()).map_err(failed)
    });
    if made.is_err() {
        let _ = fs::remove_file(draft);
        let _ = fs::remove_file(beside(draft, "-journal"));
    }
    made
}

/// Explains why the copy could not be made, with the limit that was in the way.
fn copy_failed(from: &Files, draft: &Path, error: rusqlite::Error) -> OperationError {
    if is_damage(&error) {
        return damaged(from, &error);
    }
    let advice = advice(&error, draft);
    let text = format!("cannot copy {} to {}: {error}{advice}", from.database.display(), draft.display());
    OperationError::Failed(Reason::with(text, error))
}

fn damaged(from: &Files, error: &rusqlite::Error) -> OperationError {
    Obstacle::Damaged { path: from.database.clone(), error: error.to_string() }.into()
}
