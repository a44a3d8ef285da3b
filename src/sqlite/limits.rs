//! Finds the system limit behind an SQLite error, which does not tell them apart: open files, file size, disk space.

use std::fs::File;
use std::path::Path;

use rusqlite::ErrorCode;
use rustix::process::{Resource, getrlimit};

use crate::sqlite::error::is_out_of_files;
use crate::store::Why;
use crate::types::Cause;

/// A system limit that can cause an SQLite error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The number of open files.
    Files,
    /// The size of a file.
    FileSize,
    /// Space on the disk.
    Space,
}

impl Limit {
    /// Returns the limit behind an error about a file in this folder, if one is reached at the moment.
    pub fn behind(error: &rusqlite::Error, folder: &Path) -> Option<Limit> {
        match error.sqlite_error_code()? {
            ErrorCode::DiskFull => Some(Limit::Space),
            ErrorCode::CannotOpen => {
                // As many files as SQLite has open at once: the database, its WAL, the WAL index, and the folder to
                // sync it.
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

    /// Returns which limit is reached and what to do, for the log.
    pub fn advice(self) -> &'static str {
        match self {
            Limit::Files => "the open file limit is reached; raise it (ulimit -n, LimitNOFILE=)",
            Limit::FileSize => "the file size limit is reached; raise it (ulimit -f, LimitFSIZE=)",
            Limit::Space => "the disk is full; free some space",
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

/// Returns what to do about the limit behind an error of writing to this file, as the end of a sentence; nothing if
/// none is reached.
pub fn advice(error: &rusqlite::Error, file: &Path) -> String {
    let limit = file.parent().and_then(|folder| Limit::behind(error, folder));
    limit.map(|limit| format!("; {}", limit.advice())).unwrap_or_default()
}
