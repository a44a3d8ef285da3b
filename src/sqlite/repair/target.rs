//! Decides where a command may write a file: never over a database in use, nor under the name of a file that belongs to
//! a database.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::sqlite::OperationError;
use crate::sqlite::files::{Files, beside, refuse_side_file};
use crate::sqlite::lock::Lock;
use crate::sqlite::obstacle::Obstacle;
use crate::types::Reason;

/// Files that SQLite would apply to a new database beside them.
const APPLIED: [&str; 2] = ["-wal", "-journal"];

/// The destination of a finished copy.
pub(super) struct Target {
    files: Files,
    /// The existing file that is to be replaced; nobody opens it meanwhile.
    replaced: Option<Replaced>,
}

struct Replaced {
    _lock: Lock,
    id: (u64, u64),
}

impl Target {
    /// Checks the destination for a copy of `from`. An existing file is replaced only with `force`, and only if it is a
    /// racerd database or empty, and nobody has it open.
    pub fn at(to: &Path, from: &Files, force: bool) -> Result<Target, OperationError> {
        let files = Files::at(to)?;
        let id = id(&files.database);
        if files.database == from.database || id.is_some() && id == self::id(&from.database) {
            return Err(Obstacle::Itself { path: files.database }.into());
        }
        refuse_side_file(&files)?;
        let replaced = match id {
            None => None,
            Some(_) if !force => return Err(exists(&files.database)),
            Some(id) => {
                let lock = Lock::of_existing(&files)?;
                files.is_replaceable()?;
                Some(Replaced { _lock: lock, id })
            }
        };
        let target = Target { files, replaced };
        target.refuse_applied()?;
        Ok(target)
    }

    /// Returns the path at which the copy is made.
    pub fn draft(&self) -> PathBuf {
        beside(&self.files.database, ".partial")
    }

    /// Refuses a destination that has a file beside it which SQLite would apply to the copy.
    fn refuse_applied(&self) -> Result<(), OperationError> {
        let found = APPLIED.map(|suffix| beside(&self.files.database, suffix));
        let applied = found.iter().find(|file| fs::symlink_metadata(file).is_ok_and(|found| found.len() > 0));
        applied.map_or(Ok(()), |file| {
            Err(Obstacle::Applied { path: self.files.database.clone(), file: file.clone() }.into())
        })
    }

    /// Renames the finished draft to its destination; deletes the draft if that fails.
    pub fn put(self, draft: &Path) -> Result<(), OperationError> {
        let put = self.rename(draft);
        if put.is_err() {
            let _ = fs::remove_file(draft);
        }
        put
    }

    fn rename(&self, draft: &Path) -> Result<(), OperationError> {
        let to = &self.files.database;
        let failed = |error: io::Error| {
            OperationError::Failed(Reason::with(format!("cannot write to {}: {error}", to.display()), error))
        };
        self.refuse_applied()?;
        let flags = match &self.replaced {
            // Another file put there meanwhile is not the one that was locked.
            Some(replaced) if id(to).is_some_and(|now| now != replaced.id) => return Err(exists(to)),
            Some(_) => {
                // Empty logs and shared memory, which belong to the replaced file.
                for suffix in ["-wal", "-journal", "-shm"] {
                    match fs::remove_file(beside(to, suffix)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                        _ => {}
                    }
                }
                RenameFlags::empty()
            }
            None => RenameFlags::NOREPLACE,
        };
        let renamed = match renameat_with(CWD, draft, CWD, to, flags) {
            // The file system does not support the flag.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if id(to).is_none() => fs::rename(draft, to),
            Err(rustix::io::Errno::EXIST) => return Err(exists(to)),
            other => other.map_err(io::Error::from),
        };
        renamed.and_then(|()| File::open(self.files.directory())?.sync_all()).map_err(failed)
    }
}

/// Returns the device and inode of the file that the path names now.
fn id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn exists(path: &Path) -> OperationError {
    Obstacle::Exists { path: path.into() }.into()
}
