//! Whole copies of a database: into a file that nobody takes for one until it is complete and synced.

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
use crate::sqlite::{retention, schema};

/// How long a copy waits for whoever is just writing.
const BUSY: Duration = Duration::from_secs(10);

/// Steps of SQLite between two looks at the clock, and how often somebody hears how far it is.
const STEPS: i32 = 10_000;
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Hears how many bytes are written of about how many.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// How often another may come just while the file of a copy is made.
const TRIES: u32 = 10;

/// Makes an empty file for the owner only, instead of what a copy that was cut short has left there. Two at the same
/// file are one too many: it stays locked as long as the result is held. What is no such leftover stays as it is: a
/// link, through which another file would be written, and a database that was served under this name.
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

/// Deletes what a copy that was cut short has left: only its name, whatever other names the file has.
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

/// Copies the database as of one moment, while others may write to it, into an empty file, and takes the copy's epoch
/// away. It is not synced yet.
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
    // Whoever finds half of it, finds it under a name that says so.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    if !retention::can_shrink(&copy)? {
        // A database keeps for its life how it was made in this, but for a rewrite.
        copy.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
    }
    schema::forget_epoch(&copy)
}

/// Takes a note about damage out of a copy that was found to be sound.
pub(super) fn forget_damage(copy: &Path) -> rusqlite::Result<()> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(copy, access)?;
    conn.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    // One of an older version has no place for a note.
    if schema::is_newest(&conn)? { schema::forget_damage(&conn) } else { Ok(()) }
}

/// A database that is only read.
pub(super) struct Reading {
    pub conn: Connection,
    /// Where SQLite takes no locks of its own; dropped after the connection.
    _lock: Option<Lock>,
}

/// Opens a database that perhaps another racerd writes to, to read only.
///
/// # Errors
/// It cannot be read; or its last messages are in a WAL that SQLite could only read if it could write beside it.
pub(super) fn open(files: &Files) -> Result<Reading, OpenError> {
    let failed = |error| OpenError::Sqlite { action: "read", path: files.database.clone(), error };
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(&files.database, access).and_then(set_up) {
        Ok(conn) => Ok(Reading { conn, _lock: None }),
        Err(error) if cannot_write(&error) => open_unwritable(files, failed(error)),
        Err(error) => Err(failed(error)),
    }
}

/// Opens a database beside which nothing can be written, where SQLite has failed so: without its own locks, which is
/// safe while nobody writes, and without a WAL, which must hold nothing.
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

/// The URI of a database that does not change (<https://www.sqlite.org/uri.html>).
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

/// Whether SQLite wanted to write beside the database and could not.
fn cannot_write(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn set_up(conn: Connection) -> rusqlite::Result<Connection> {
    conn.busy_timeout(BUSY)?;
    conn.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192")?;
    // Nothing is opened before the first read.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}
