//! Opens the log on disk. A damaged database is salvaged first, if the options say so: its readable rows go into a new
//! database in its place.

use super::salvage::{Salvaged, recognises, salvage_to};
use crate::crypto::at_rest::DataKey;
use crate::sqlite::clock::SetClock;
use crate::sqlite::files::{Aside, Files, NO_SQLITE};
use crate::sqlite::lock::Lock;
use crate::sqlite::open::{self, Opened};
use crate::sqlite::writer::Timing;
use crate::sqlite::{OpenError, Sqlite, SteppedLog, StoreOptions};
use crate::types::OnDamage;

impl Sqlite {
    /// Opens the database, or creates it, and starts its threads, which call `wake` when they have sent an answer.
    ///
    /// # Errors
    /// The database cannot be opened, or a thread cannot be started.
    pub fn open(options: &StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Result<Sqlite, OpenError> {
        Sqlite::open_timed(options, wake, Timing::USUAL)
    }

    pub(in crate::sqlite) fn open_timed(
        options: &StoreOptions,
        wake: impl Fn() + Send + Clone + 'static,
        timing: Timing,
    ) -> Result<Sqlite, OpenError> {
        let (lock, opened) = open(options)?;
        Sqlite::start(options, lock, opened, wake, timing)
    }
}

impl SteppedLog {
    /// Opens the database, or creates it.
    ///
    /// # Errors
    /// Those of [`Sqlite::open`], except that no thread can fail to start.
    pub fn open(options: &StoreOptions, clock: SetClock) -> Result<SteppedLog, OpenError> {
        let (lock, opened) = open(options)?;
        Ok(SteppedLog::start(options, lock, opened, clock))
    }
}

/// Opens the database, or creates it. A file that this racerd may not write is left untouched; a damaged database is
/// salvaged or refused, depending on the options. The lock must outlive the connections.
pub(in crate::sqlite) fn open(options: &StoreOptions) -> Result<(Lock, Opened), OpenError> {
    let (mut lock, files) = open::lock(&options.path)?;
    let what = match open_sound(options, &files, &mut lock) {
        Err(OpenError::Damaged { what, .. }) if options.on_damage == OnDamage::Salvage => what,
        other => return other.map(|opened| (lock, opened)),
    };
    let (report, kept) = salvage_in_place(&files, options.data_key.as_ref())?;
    let mut opened = open_sound(options, &files, &mut lock)?;
    let path = files.database.display();
    opened.remarks.insert(0, format!("{path} was damaged ({what}); {report}; the damaged file is kept as {kept}"));
    Ok((lock, opened))
}

/// As [`open::open_sound`]. A file without SQLite's header whose pages are racerd's is damaged, not foreign.
fn open_sound(options: &StoreOptions, files: &Files, lock: &mut Lock) -> Result<Opened, OpenError> {
    match open::open_sound(options, files, lock) {
        Err(OpenError::Foreign { what: NO_SQLITE, .. }) if recognises(files) => {
            Err(OpenError::damaged(&files.database, "its header is overwritten"))
        }
        other => other,
    }
}

/// Copies what can be read of the damaged database into a new one, and replaces the damaged one with it. Returns what
/// was copied, and where the damaged one is kept.
fn salvage_in_place(files: &Files, key: Option<&DataKey>) -> Result<(Salvaged, String), OpenError> {
    let draft = files.draft();
    let report = salvage_to(files, &draft, key)?;
    let kept = files.replace(Aside::Damaged)?;
    Ok((report, kept.map_or_else(String::new, |path| path.display().to_string())))
}
