//! Limits of the system behind an error of SQLite's, which does not tell them apart: too few descriptors, files that may
//! not grow, a disk without space.

use std::fs::File;
use std::path::Path;

use rusqlite::ErrorCode;
use rustix::process::{Resource, getrlimit};

use crate::sqlite::error::is_out_of_files;
use crate::store::Why;
use crate::types::Cause;

/// A limit that stands behind an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of open files.
    Files,
    /// Of a file's length.
    FileSize,
    /// The disk has no space left.
    Space,
}

impl Limit {
    /// Returns the limit behind an error over a file in this folder, if one is in the way now.
    pub fn behind(error: &rusqlite::Error, folder: &Path) -> Option<Limit> {
        match error.sqlite_error_code()? {
            ErrorCode::DiskFull => Some(Limit::Space),
            ErrorCode::CannotOpen => {
                // As many at once as SQLite opens: the database, its WAL, the index of that, and the folder to sync it.
                let all: Result<Vec<File>, _> = (0..4).map(|_| File::open(folder)).collect();
                all.is_err_and(|error| is_out_of_files(&error)).then_some(Limit::Files)
            }
            ErrorCode::SystemIoFailure => {
                if rustix::fs::statvfs(folder).is_ok_and(|space| space.f_bavail == 0) {
                    return Some(Limit::Space);
                }
                getrlimit(Resource::Fsize).current.map(|_| Limit::FileSize)
            }
            _ => None,
        }
    }

    /// Returns what it is and what to do, for the log.
    pub fn advice(self) -> &'static str {
        match self {
            Limit::Files => "the limit of open files is met; raise it (ulimit -n, LimitNOFILE=)",
            Limit::FileSize => "a file must not grow further; raise the limit of file sizes (ulimit -f, LimitFSIZE=)",
            Limit::Space => "the disk is full; free some space on it",
        }
    }

    pub fn cause(self) -> Cause {
        match self {
            Limit::Files => Cause::System,
            Limit::FileSize | Limit::Space => Cause::Disk,
        }
    }

    pub fn why(self) -> Why {
        match self {
            Limit::Files => Why::Unknown,
            Limit::FileSize => Why::FileSize,
            Limit::Space => Why::DiskFull,
        }
    }
}
