//! Detects whether a database is damaged, as far as a start checks it, and salvages it without the user. Damage means
//! that bytes written by racerd have changed since; a disk that does not answer is another matter.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, ErrorCode};
use serde::de::IgnoredAny;

use super::check;
use super::salvage::{self, Failed, Salvaged};
use crate::crypto::at_rest::DataKey;
use crate::sqlite::OpenError;
use crate::sqlite::files::{Aside, Files};
use crate::sqlite::schema;
use crate::sqlite::wal::Wal;
use crate::types::{Cause, harmless_start};

/// Time limit of the check at a start, after a run that was not shut down cleanly.
pub(in crate::sqlite) const LOOK_FOR: Duration = Duration::from_secs(10);

/// Time limit after a clean shutdown, for each of two checks: one from the beginning, one of samples. It guarantees
/// nothing.
pub(in crate::sqlite) const SAMPLE_FOR: Duration = Duration::from_millis(150);

/// Number of SQLite steps between two checks of the time limit.
const STEPS: i32 = 200;

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sqlite) enum Found {
    Well,
    /// No damage so far, but the time was up.
    TimeUp,
    /// The same with the short time limit that suffices after a clean shutdown.
    ShortTimeUp,
    /// The WAL has lost some of its content, which can happen if it was not synced: seqs may be assigned again.
    Lost,
    Damage(String),
}

/// Returns whether a plain body is complete, which only the sender's JSON can tell. (serde_json skips over strings
/// without checking that they are UTF-8.)
pub(in crate::sqlite) fn is_whole(body: &[u8]) -> bool {
    str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Returns whether this error means that the bytes are wrong.
pub(in crate::sqlite) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            Error::InvalidColumnType(..)
                | Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
        )
}

/// Checks the tables, and the whole database if the last run was not shut down cleanly, taking at most `most`. `wal` is
/// the WAL as it was before SQLite opened it: the part of a damaged WAL that SQLite accepts may end with the clean
/// shutdown of an older run.
pub(in crate::sqlite) fn look(conn: &mut Connection, wal: &Wal, boot: &str, most: Duration) -> rusqlite::Result<Found> {
    if let Some(wrong) = schema::wrong_tables(conn)? {
        return Ok(Found::Damage(wrong));
    }
    let last = schema::last_run(conn, boot)?;
    match (wal.damage, &last) {
        (Some(_), Some(last)) if last.holes => return Ok(Found::Lost),
        (Some(damage), _) => return Ok(Found::Damage(damage.to_owned())),
        (None, _) => {}
    }
    match last {
        None => Ok(Found::Well),
        Some(last) if last.clean => Ok(match quick_check(conn, SAMPLE_FOR.min(most))? {
            Found::TimeUp => Found::ShortTimeUp,
            found => found,
        }),
        Some(_) => quick_check(conn, most),
    }
}

fn quick_check(conn: &mut Connection, most: Duration) -> rusqlite::Result<Found> {
    let checked =
        within(conn, most, |conn| conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)))?;
    Ok(match checked {
        Some(text) if text == "ok" => Found::Well,
        Some(text) => Found::Damage(one_line(&text)),
        None => Found::TimeUp,
    })
}

/// Runs `ask`, and returns its result; `None` if that takes longer than `most`.
fn within<T>(
    conn: &mut Connection,
    most: Duration,
    ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let begun = Instant::now();
    conn.progress_handler(STEPS, Some(move || begun.elapsed() > most))?;
    let outcome = ask(conn);
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match outcome {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the damage that an earlier run has recorded, and whether the record still holds: it does not if the whole
/// database can be read within `most` and is intact.
pub(in crate::sqlite) fn noted(
    conn: &mut Connection,
    key: Option<&DataKey>,
    most: Duration,
) -> rusqlite::Result<Option<Noted>> {
    let Some(what) = schema::noted_damage(conn)? else { return Ok(None) };
    Ok(Some(match within(conn, most, |conn| check::look(conn, key)) {
        Ok(Some(checked)) if checked.is_well() => Noted::Mended(what),
        Err(error) if !is_damage(&error) => return Err(error),
        _ => Noted::Holds(what),
    }))
}

/// A record of damage by an earlier run.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sqlite) enum Noted {
    Holds(String),
    /// The whole database was read, and is intact.
    Mended(String),
}

/// Formats the result of an SQLite check for one line, without the line that only names the database. Escapes it, since
/// it may quote a damaged schema.
pub(in crate::sqlite) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("***") && !line.is_empty()).collect();
    harmless_start(&lines.join(", "), check::LONGEST_TOLD)
}

/// Copies what can be read of the damaged database into a new one, and replaces the damaged one with it. Returns what
/// was copied, and where the damaged one is kept.
pub(in crate::sqlite) fn salvage_in_place(
    files: &Files,
    key: Option<&DataKey>,
) -> Result<(Salvaged, String), OpenError> {
    let draft = files.draft();
    let report = salvage_to(files, &draft, key)?;
    let kept = files.replace(Aside::Damaged)?;
    Ok((report, kept.map_or_else(String::new, |path| path.display().to_string())))
}

/// Copies what can be read of a database to a new file, and syncs it. An old file of that name is replaced.
pub(in crate::sqlite) fn salvage_to(
    files: &Files,
    new: &std::path::Path,
    key: Option<&DataKey>,
) -> Result<Salvaged, OpenError> {
    let because = |cause: Cause, why: String| OpenError::Salvage { path: files.database.clone(), why, cause };
    let failed = |why: String| because(Cause::Disk, why);
    let outcome =
        super::copying::begin(new).map_err(|error| failed(format!("{}: {error}", new.display()))).and_then(|_| {
            let conn = salvage::create(new).map_err(|error| failed(error.to_string()))?;
            salvage::copy(files, &conn, key).map_err(|error| match error {
                Failed::Read(error) => failed(error.to_string()),
                Failed::Write(error) => failed(format!("writing to {}: {error}", new.display())),
                Failed::Nothing => because(Cause::Foreign, "nothing of racerd's is in it".to_owned()),
                Failed::Key(why) => because(Cause::Key, why),
            })
        });
    let synced = outcome.and_then(|report| {
        let sync = File::open(new).and_then(|file| file.sync_all());
        sync.map(|()| report).map_err(|error| failed(format!("{}: {error}", new.display())))
    });
    if synced.is_err() {
        let _ = fs::remove_file(new);
    }
    synced
}
