//! Whole copies of a database: into a file that nobody takes for one until it is complete and synced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::files::{Files, MODE};
use super::{retention, schema};

/// How long a copy waits for whoever is just writing.
const BUSY: Duration = Duration::from_secs(10);

/// Steps of SQLite between two looks at the clock, and how often somebody hears how far it is.
const STEPS: i32 = 10_000;
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Hears how many bytes are written of about how many.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// Makes an empty file for the owner only, or empties what a copy that was cut short has left there. Two at the same
/// file are one too many: it stays locked as long as the result is held.
pub(super) fn begin(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::other("another racerd is writing to it")),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.set_len(0)?;
    Ok(file)
}

/// Copies the database as of one moment, while others may write to it, into an empty file, and takes the copy's epoch
/// away. It is not synced yet.
pub(super) fn copy(from: &Files, to: &Path, mut progress: Progress) -> rusqlite::Result<()> {
    let Some(name) = to.to_str() else { return Err(rusqlite::Error::InvalidPath(to.into())) };
    let mut conn = open(from)?;
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
    drop(conn);

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

/// Opens a database that perhaps another racerd writes to, to read only.
pub(super) fn open(files: &Files) -> rusqlite::Result<Connection> {
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&files.database, access)?;
    conn.busy_timeout(BUSY)?;
    conn.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192")?;
    Ok(conn)
}
