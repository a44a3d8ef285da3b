//! The lock that lets one racerd in, of two parts. The file `NAME.lock` is there before a database is, and stays while one
//! takes another's place; but people delete it. So the database's own inode is locked, too, which also has no second name:
//! a hard link to a database in use is refused.
//!
//! This is flock(2), which does not meet SQLite's own locks (fcntl(2)) on a local file system. Closing any descriptor of a
//! file drops all fcntl locks that the process holds on it: a [`Lock`] is taken before SQLite opens the database, and is
//! dropped after it has closed it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fstatfs};

use super::files::{Files, MODE};
use crate::sqlite::OpenError;

/// How often the lock's file may be deleted just while it is being locked.
const TRIES: u32 = 10;

/// File systems that make flock(2) of fcntl(2), so that it would shut SQLite out: NFS, SMB and CIFS, 9P
/// (`include/uapi/linux/magic.h`). There, the lock's file alone has to do.
const EMULATED: [u64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` on a medium that nobody can write to, where there is nothing to lock.
    _beside: Option<File>,
    /// `None` where there is no database yet.
    database: Option<File>,
}

impl Lock {
    /// Locks the database at this place, or the place where there is none.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another racerd has it; the lock's file cannot be made.
    pub fn take(files: &Files) -> Result<Lock, OpenError> {
        let mut lock = Lock { _beside: beside(files)?, database: None };
        lock.hold(files)?;
        Ok(lock)
    }

    /// Locks what is there to be read or replaced, and makes nothing where there is nothing.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another racerd has it.
    pub fn of_existing(files: &Files) -> Result<Lock, OpenError> {
        Ok(Lock { _beside: held_beside(files)?, database: inode(&files.database, files)? })
    }

    /// Locks a database that is only read: as [`Lock::take`], but no lock's file is made where nobody lets us.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another racerd has it.
    pub fn to_read(files: &Files) -> Result<Lock, OpenError> {
        match Lock::take(files) {
            Err(OpenError::Directory { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                Lock::of_existing(files)
            }
            other => other,
        }
    }

    /// Whether the database's own inode is locked: no racerd opens it, then, through whatever mount.
    pub fn holds_database(&self) -> bool {
        self.database.is_some()
    }

    /// Locks the database that lies there now, instead of the one before. Call it while SQLite has neither open.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another racerd has it.
    pub fn hold(&mut self, files: &Files) -> Result<(), OpenError> {
        self.database = None;
        self.database = inode(&files.database, files)?;
        Ok(())
    }
}

/// Locks a file under this name, if there is one, for whatever is to be done with it.
pub(super) fn inode(path: &Path, files: &Files) -> Result<Option<File>, OpenError> {
    // Opening a FIFO would wait for its other end.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::File { action: "open", path: path.into(), error }),
    };
    let kind = fstatfs(&file).map_or(0, |found| u64::try_from(found.f_type).unwrap_or(0) & 0xffff_ffff);
    if EMULATED.contains(&kind) {
        return Ok(None);
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(locked(files)),
        // A file system without locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn beside(files: &Files) -> Result<Option<File>, OpenError> {
    for _ in 0..TRIES {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = match options.open(&files.lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(OpenError::File { action: "open", path: files.lock.clone(), error });
            }
            Err(error) => return Err(OpenError::Directory { path: files.directory().into(), error }),
        };
        match file.try_lock() {
            Ok(()) if is_named(&file, &files.lock) => return Ok(Some(file)),
            // Deleted meanwhile: others would lock another one.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(files)),
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::File { action: "lock", path: files.lock.clone(), error });
            }
        }
    }
    Err(locked(files))
}

/// Locks the lock's file where there is one. One that cannot be opened is nobody's that could be met here.
fn held_beside(files: &Files) -> Result<Option<File>, OpenError> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&files.lock) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(locked(files)),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

fn locked(files: &Files) -> OpenError {
    OpenError::Locked { path: files.database.clone(), lock: files.lock.clone() }
}

/// Whether the path still means this file.
fn is_named(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(here), Ok(there)) if same(&here, &there))
}
