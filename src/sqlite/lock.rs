//! The lock that admits one racerd to a database. It has two parts. The file `NAME.lock` exists before the database
//! does and stays while a database is replaced, but people delete it. So the database's own inode is locked as well,
//! which also covers hard links to a database in use.
//!
//! The locks are flock(2), which is independent of SQLite's fcntl(2) locks on a local file system. Closing any
//! descriptor of a file drops all fcntl locks of the process on it: a [`Lock`] is taken before SQLite opens the
//! database, and dropped after SQLite has closed it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fstatfs};

use super::files::{Files, MODE};
use crate::sqlite::OpenError;

/// Maximum attempts to lock a lock file that others keep deleting.
const TRIES: u32 = 10;

/// File systems that emulate flock(2) with fcntl(2), where it would lock SQLite out: NFS, SMB and CIFS, 9P
/// (`include/uapi/linux/magic.h`). Only the lock file is used there.
const EMULATED: [u32; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` on a read-only medium, where there is nothing to lock.
    _beside: Option<File>,
    /// `None` if there is no database yet.
    database: Option<File>,
}

impl Lock {
    /// Locks the database at this path, whether or not it exists yet.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another racerd has the lock; other errors if the lock file cannot be created.
    pub fn take(files: &Files) -> Result<Lock, OpenError> {
        let mut lock = Lock { _beside: beside(files)?, database: None };
        lock.hold(files)?;
        Ok(lock)
    }

    /// Locks an existing database that is to be read or replaced; creates no lock file.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another racerd has it.
    pub fn of_existing(files: &Files) -> Result<Lock, OpenError> {
        Ok(Lock { _beside: held_beside(files)?, database: inode(&files.database, files)? })
    }

    /// Locks a database that is only read: like [`Lock::take`], but without a lock file where none may be created.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another racerd has it.
    pub fn to_read(files: &Files) -> Result<Lock, OpenError> {
        match Lock::take(files) {
            Err(OpenError::Directory { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                Lock::of_existing(files)
            }
            other => other,
        }
    }

    /// Returns whether the database's own inode is locked, so that no racerd can open it, through any mount.
    pub fn holds_database(&self) -> bool {
        self.database.is_some()
    }

    /// Locks the database that is now at the path, instead of the previous one. Call it while SQLite has neither open.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another racerd has it.
    pub fn hold(&mut self, files: &Files) -> Result<(), OpenError> {
        self.database = None;
        self.database = inode(&files.database, files)?;
        Ok(())
    }
}

/// Locks the inode of the file at this path, if there is one.
pub(super) fn inode(path: &Path, files: &Files) -> Result<Option<File>, OpenError> {
    // Opening a FIFO would wait for its other end.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::File { action: "open", path: path.into(), error }),
    };
    if fstatfs(&file).is_ok_and(|found| is_emulated(found.f_type)) {
        return Ok(None);
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(locked(files)),
        // A file system without locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Returns whether this kind of file system is one of [`EMULATED`]. The kernel's word has 32 or 64 bits and a sign or
/// none, whichever the processor; the kind is its lower 32 bits.
fn is_emulated(word: impl Into<i128>) -> bool {
    let [.., a, b, c, d] = word.into().to_be_bytes();
    EMULATED.contains(&u32::from_be_bytes([a, b, c, d]))
}

fn beside(files: &Files) -> Result<Option<File>, OpenError> {
    let unusable = |error| OpenError::Directory { path: files.directory().into(), error };
    // Before anything is made in it: without reading a folder, nobody can sync it.
    File::open(files.directory()).map_err(unusable)?;
    for _ in 0..TRIES {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = match options.open(&files.lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(OpenError::File { action: "open", path: files.lock.clone(), error });
            }
            // Such as /proc: the folder is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unusable(io::Error::other("its file system takes no new files")));
            }
            Err(error) => return Err(unusable(error)),
        };
        match file.try_lock() {
            Ok(()) if is_named(&file, &files.lock) => return Ok(Some(file)),
            // The file was deleted in the meantime: others would lock a different file.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(files)),
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::File { action: "lock", path: files.lock.clone(), error });
            }
        }
    }
    Err(locked(files))
}

/// Locks the lock file if it exists. One that cannot be opened is not in use by a racerd of this user.
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

/// Returns whether the path still refers to this file.
fn is_named(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(here), Ok(there)) if same(&here, &there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulated_locks_are_known_by_words_of_any_width() {
        for kind in EMULATED {
            let signed = kind.cast_signed();
            assert!(is_emulated(kind) && is_emulated(signed), "{kind:x}: 32 bits");
            assert!(is_emulated(i64::from(kind)) && is_emulated(i64::from(signed)), "{kind:x}: 64 bits");
        }
        // ext4, overlayfs, btrfs.
        for kind in [0xef53, 0x794c_7630, 0x9123_683e_u32] {
            assert!(!is_emulated(kind) && !is_emulated(kind.cast_signed()), "{kind:x}");
        }
    }
}
