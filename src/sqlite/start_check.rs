//! Checks for damage at a start, in a limited time.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::damage::{is_damage, one_line};
use super::wal::Wal;
use super::{check, schema};
use crate::crypto::at_rest::DataKey;

/// Time limit of the check at a start, after a run that was not shut down cleanly.
pub(super) const LOOK_FOR: Duration = Duration::from_secs(10);

/// Time limit after a clean shutdown, for each of two checks: one from the beginning, one of samples. It guarantees
/// nothing.
pub(super) const SAMPLE_FOR: Duration = Duration::from_millis(150);

/// Number of SQLite steps between two checks of the time limit.
const STEPS: i32 = 200;

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Well,
    /// No damage so far, but the time was up.
    TimeUp,
    /// The same with the short time limit that suffices after a clean shutdown.
    ShortTimeUp,
    /// The WAL has lost some of its content, which can happen if it was not synced: seqs may be assigned again.
    Lost,
    Damage(String),
}

/// Checks the tables, and the whole database if the last run was not shut down cleanly, taking at most `most`. `wal` is
/// the WAL as it was before SQLite opened it: the part of a damaged WAL that SQLite accepts may end with the clean
/// shutdown of an older run.
pub(super) fn look(conn: &mut Connection, wal: &Wal, boot: &str, most: Duration) -> rusqlite::Result<Found> {
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
pub(super) fn noted(conn: &mut Connection, key: Option<&DataKey>, most: Duration) -> rusqlite::Result<Option<Noted>> {
    let Some(what) = schema::noted_damage(conn)? else { return Ok(None) };
    Ok(Some(match within(conn, most, |conn| check::look(conn, key)) {
        Ok(Some(checked)) if checked.is_well() => Noted::Mended(what),
        Err(error) if !is_damage(&error) => return Err(error),
        _ => Noted::Holds(what),
    }))
}

/// A record of damage by an earlier run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Holds(String),
    /// The whole database was read, and is intact.
    Mended(String),
}
