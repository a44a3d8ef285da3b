//! Copies whole databases, into a file that cannot be mistaken for a database until it is complete and synced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::OFlags;

use crate::sqlite::OpenError;
use crate::sqlite::files::{Files, MODE, beside};
use crate::sqlite::lock::Lock;
use crate::sqlite::retention;
use crate::sqlite::schema::{self, VERSION};

/// How long a copy waits for another program that is writing.
const BUSY: Duration = Duration::from_secs(10);

/// Number of SQLite steps between two checks of the clock, and interval between two progress reports.
const STEPS: i32 = 10_000;
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Receives the number of bytes written so far, and about how many there are in total.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// Maximum attempts to create the file of a copy while other processes keep creating it.
const TRIES: u32 = 10;

/// Creates an empty file that only the owner may access, replacing the leftover of an interrupted copy. The file stays
/// locked as long as the result is held, so that no two copies write to it. Anything that is not such a leftover is
/// left alone: a link, through which another file would be written, or a database that was served under this name.
pub(super) fn begin(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
            Ok(file) => {
                lock(&file)?;
                file.set_permissions(fs::Permissions::from_mode(MODE))?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_leftover(path)?,
            Err(error) => return Err(error),
        }
    }
    Err(in_use())
}

/// Deletes the leftover of an interrupted copy: only this name, whatever other names the file has.
fn remove_leftover(path: &Path) -> io::Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let foreign = || io::Error::other("what lies there is not left by an earlier copy; move it away");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Err(foreign()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() || beside(path, ".lock").exists() {
        return Err(foreign());
    }
    lock(&file)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::other("another racerd is writing to it")
}

/// Copies a snapshot of the database, even while others write to it, into an empty file, and removes the copy's epoch.
/// The copy is not synced yet.
pub(super) fn copy(mut from: Reading, to: &Path, mut progress: Progress) -> rusqlite::Result<()> {
    let Some(name) = to.to_str() else { return Err(rusqlite::Error::InvalidPath(to.into())) };
    let conn = &mut from.conn;
    let total: i64 =
        conn.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))?;
    let (mut told, path) = (Instant::now(), to.to_owned());
    let tell = move || {
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            progress(fs::metadata(&path).map_or(0, |file| file.len()), schema::number(total));
        }
        false
    };
    conn.progress_handler(STEPS, Some(tell))?;
    conn.execute("VACUUM INTO ?1", [name])?;
    drop(from);

    let copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // No journal or sync is needed: an incomplete copy has a name that marks it as such.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    if !retention::can_shrink(&copy)? {
        // The setting is fixed when a database is created; only a rewrite (VACUUM) changes it.
        copy.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
    }
    schema::forget_epoch(&copy)
}

/// Removes the record of damage from a copy that was found intact.
pub(super) fn forget_damage(copy: &Path) -> rusqlite::Result<()> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(copy, access)?;
    conn.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    schema::forget_damage(&conn)
}

/// A database opened for reading only.
pub(super) struct Reading {
    pub conn: Connection,
    /// Held if SQLite takes no locks of its own; dropped after the connection.
    _lock: Option<Lock>,
}

/// Opens a database for reading only, even while another racerd writes to it.
///
/// # Errors
/// The database cannot be read; its last messages are in a WAL that SQLite could read only if it could write beside it;
/// or a newer racerd wrote it, which its WAL alone may tell.
pub(super) fn open(files: &Files) -> Result<Reading, OpenError> {
    let reading = open_any(files)?;
    let version = schema::version(&reading.conn);
    match version.map_err(|error| OpenError::Sqlite { action: "read", path: files.database.clone(), error })? {
        version if version > VERSION => Err(OpenError::Newer { path: files.database.clone(), version }),
        _ => Ok(reading),
    }
}

fn open_any(files: &Files) -> Result<Reading, OpenError> {
    let failed = |error| OpenError::Sqlite { action: "read", path: files.database.clone(), error };
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(&files.database, access).and_then(set_up) {
        Ok(conn) => Ok(Reading { conn, _lock: None }),
        Err(error) if cannot_write(&error) => open_unwritable(files, failed(error)),
        Err(error) => Err(failed(error)),
    }
}

/// Opens a database in a read-only location, after SQLite has failed for that reason: without SQLite's own locks, which
/// is safe while nobody writes, and without a WAL, which must be empty.
fn open_unwritable(files: &Files, failed: OpenError) -> Result<Reading, OpenError> {
    if let Some(log) = files.unapplied() {
        return Err(OpenError::Unwritable { path: files.database.clone(), log });
    }
    let lock = Lock::of_existing(files)?;
    if !lock.holds_database() && !files.is_on_read_only_medium() {
        return Err(failed);
    }
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(immutable(&files.database), access).and_then(set_up);
    let conn = conn.map_err(|error| OpenError::Sqlite { action: "read", path: files.database.clone(), error })?;
    Ok(Reading { conn, _lock: Some(lock) })
}

/// Returns the URI of a database that does not change (<https://www.sqlite.org/uri.html>).
fn immutable(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

/// Returns whether SQLite failed because it could not write beside the database.
fn cannot_write(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn set_up(conn: Connection) -> rusqlite::Result<Connection> {
    conn.busy_timeout(BUSY)?;
    conn.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192")?;
    // SQLite opens nothing before the first read.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}
