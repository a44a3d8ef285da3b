//! The errors of opening a database and of operating on one, worded for the operator.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::obstacle::Obstacle;
use crate::crypto::at_rest::KeyId;
use crate::types::{Cause, Reason, Unusable};

/// Advice for damage that is found while running.
pub(super) const DAMAGED: &str = "the file is damaged; stop racerd and run 'racerd salvage FILE NEW', or restart it with \
                                  --on-damage salvage, or restore a backup";

/// The reason why a store could not be opened. Displayed as one line: what happened, where, what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another racerd uses it.
    Locked {
        path: PathBuf,
        lock: PathBuf,
    },
    /// The file is not a racerd database. It was not touched.
    Foreign {
        path: PathBuf,
        what: &'static str,
    },
    /// The database is damaged. It was not touched.
    Damaged {
        path: PathBuf,
        what: String,
    },
    /// The database is damaged, and copying what can be read failed.
    Salvage {
        path: PathBuf,
        why: String,
        cause: Cause,
    },
    /// A newer racerd wrote it. It was not touched.
    Newer {
        path: PathBuf,
        version: i32,
    },
    /// It is sealed, and no key or the wrong key was given. It was not touched.
    NoKey {
        path: PathBuf,
        id: KeyId,
        given: Option<KeyId>,
    },
    /// A key was given, but the database is not sealed. It was not touched.
    Plain {
        path: PathBuf,
    },
    /// A rekey is unfinished. It was not touched.
    Rekeying {
        path: PathBuf,
    },
    /// The database is missing, but its WAL is not. Neither was touched.
    StrayWal {
        path: PathBuf,
        wal: PathBuf,
    },
    /// The path names a file that belongs to a database.
    SideFile {
        path: PathBuf,
        owner: PathBuf,
    },
    /// It is in a read-only location, and this WAL or journal beside it would have to be applied first.
    Unwritable {
        path: PathBuf,
        log: PathBuf,
    },
    /// The path names a directory or the like.
    NotAFile {
        path: PathBuf,
    },
    /// The directory is missing or not writable.
    Directory {
        path: PathBuf,
        error: io::Error,
    },
    /// The file can be read but not written.
    ReadOnly {
        path: PathBuf,
    },
    File {
        action: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    Sqlite {
        action: &'static str,
        path: PathBuf,
        error: rusqlite::Error,
    },
    /// A system limit is reached.
    Limit {
        action: &'static str,
        path: PathBuf,
        advice: &'static str,
        cause: Cause,
    },
    /// SQLite did not accept a setting that racerd's guarantees depend on.
    Setting {
        path: PathBuf,
        name: &'static str,
        wanted: String,
        found: String,
    },
    Thread {
        error: io::Error,
    },
}

impl OpenError {
    /// Returns the error of a damaged database, and what is wrong with it.
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: path.into(), what: what.into() }
    }

    /// Returns the cause, which decides the exit status.
    pub fn cause(&self) -> Cause {
        match self {
            // A path that no database can have is a wrong setting.
            OpenError::NotAFile { .. } | OpenError::SideFile { .. } => Cause::Settings,
            OpenError::NoKey { .. } | OpenError::Plain { .. } => Cause::Key,
            OpenError::Damaged { .. } | OpenError::StrayWal { .. } => Cause::Damaged,
            OpenError::Foreign { .. } | OpenError::Newer { .. } => Cause::Foreign,
            OpenError::Rekeying { .. } => Cause::Unfinished,
            OpenError::Locked { .. } => Cause::Held,
            OpenError::Sqlite { error, .. } if is_busy(error) => Cause::Held,
            OpenError::Directory { .. } | OpenError::ReadOnly { .. } | OpenError::Unwritable { .. } => Cause::Folder,
            OpenError::File { error, .. } if is_absence(error) => Cause::Folder,
            OpenError::File { .. } | OpenError::Sqlite { .. } | OpenError::Setting { .. } => Cause::Disk,
            OpenError::Salvage { cause, .. } | OpenError::Limit { cause, .. } => *cause,
            OpenError::Thread { .. } => Cause::System,
        }
    }
}

/// Returns whether another program holds SQLite's own lock, such as a shell within a transaction.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

/// Returns whether the process or the system has too many open files (EMFILE, ENFILE), for which the standard library
/// has no kind.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { path, lock } => write!(
                f,
                "{} is in use by another racerd (which holds {}); stop that one, or give this one another file with --data",
                path.display(),
                lock.display()
            ),
            OpenError::Foreign { path, what } => write!(
                f,
                "{} is not a racerd database: {what}; it was not touched; give another file with --data",
                path.display()
            ),
            OpenError::Damaged { path, what } => write!(
                f,
                "{} is damaged: {what}; it was not touched; either run 'racerd salvage {} NEW', which copies what can be read \
                 to NEW, or start with --on-damage salvage (RACERD_ON_DAMAGE=salvage), which does so automatically and keeps \
                 the damaged file",
                path.display(),
                path.display()
            ),
            OpenError::Salvage { path, why, .. } => {
                write!(f, "cannot copy what can be read of {}: {why}; it was not touched", path.display())
            }
            OpenError::Newer { path, version } => write!(
                f,
                "{} was written by a newer racerd (version {version} of the database, this one knows {}); it was not touched; update racerd",
                path.display(),
                super::schema::VERSION
            ),
            OpenError::NoKey { path, id, given } => {
                write!(f, "{} is sealed with the data key {id}, but {}", path.display(), key_advice(*given))
            }
            OpenError::Plain { path } => write!(
                f,
                "{} is not sealed, but a data key was given; it was not touched; 'racerd rekey {} --data-key-file FILE' seals \
                 it",
                path.display(),
                path.display()
            ),
            OpenError::Rekeying { path } => write!(
                f,
                "{} has an unfinished change of its data key; it was not touched; run the same 'racerd rekey' again to \
                 finish it",
                path.display()
            ),
            OpenError::StrayWal { path, wal } => write!(
                f,
                "{} is missing or empty, but {} is there and may hold its last messages; put the database back beside it, or move {} away to start a new database",
                path.display(),
                wal.display(),
                wal.display()
            ),
            OpenError::SideFile { path, owner } => write!(
                f,
                "{} is the name of a file that belongs to {}; it was not touched; choose another name",
                path.display(),
                owner.display()
            ),
            OpenError::Unwritable { path, log } => write!(
                f,
                "{} is in a read-only location, and {} holds its last messages, which cannot be applied there; copy both to \
                 a writable folder, or run 'racerd salvage {} NEW', which reads both as they are",
                path.display(),
                log.display(),
                path.display()
            ),
            OpenError::NotAFile { path } => {
                write!(f, "{} is not a file; give the name of a database file with --data", path.display())
            }
            OpenError::Directory { path, error } => {
                let (path, advice) = (path.display(), directory_advice(error));
                write!(f, "the database's directory {path} cannot be used: {error}; {advice}give another with --data")
            }
            OpenError::ReadOnly { path } => {
                write!(
                    f,
                    "{} or its folder cannot be written to; make both writable for the user that runs racerd",
                    path.display()
                )
            }
            OpenError::File { action, path, error } => {
                write!(f, "cannot {action} {}: {error}; {}", path.display(), file_advice(error))
            }
            OpenError::Sqlite { action, path, error } => {
                write!(f, "cannot {action} {}: {}", path.display(), sqlite_advice(error))
            }
            OpenError::Limit { action, path, advice, .. } => write!(f, "cannot {action} {}: {advice}", path.display()),
            OpenError::Setting { path, name, wanted, found } => write!(
                f,
                "{}: SQLite's {name} stays at {found} where {wanted} is needed; put the database on a local file system",
                path.display()
            ),
            OpenError::Thread { error } => {
                write!(f, "cannot start a thread for the store: {error}; raise the process limit (ulimit -u)")
            }
        }
    }
}

/// Says which key was given instead, and what to do.
fn key_advice(given: Option<KeyId>) -> String {
    match given {
        None => "no key was given; it was not touched; name the key file with --data-key-file".to_owned(),
        Some(given) => {
            format!("the given key is {given}; it was not touched; name the right key file with --data-key-file")
        }
    }
}

/// Says why SQLite fails, and what to do.
fn sqlite_advice(error: &rusqlite::Error) -> String {
    match is_busy(error) {
        true => "another program has it locked; end that program, and try again".to_owned(),
        false => format!("{error}; check the disk and the file, or restore a backup"),
    }
}

/// Says what to do about a file that the system refuses.
fn file_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_out_of_files(error) => "raise the open file limit (ulimit -n)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on the disk",
        _ => "check the path given with --data",
    }
}

/// Says what may make the directory one that can be used.
fn directory_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create it and make it writable, or ",
        io::ErrorKind::PermissionDenied => "let the user that runs racerd read and write it, or ",
        _ => "",
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Directory { error, .. } | OpenError::File { error, .. } | OpenError::Thread { error } => {
                Some(error)
            }
            OpenError::Sqlite { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<OpenError> for Unusable {
    fn from(error: OpenError) -> Unusable {
        Unusable { cause: error.cause(), reason: Reason::of(error) }
    }
}

/// Why a command could not do what it was asked to do to a database. Prints as one line.
#[derive(Debug)]
pub enum OperationError {
    /// The database cannot be opened.
    Open(OpenError),
    /// The user has to change something first.
    Usage(Obstacle),
    /// The operation failed, and may succeed later.
    Failed(Reason),
}

impl OperationError {
    /// Returns whether the same command fails again until the user has changed something.
    pub fn needs_a_person(&self) -> bool {
        match self {
            OperationError::Open(error) => error.cause().needs_a_person(),
            OperationError::Usage(_) => true,
            OperationError::Failed(_) => false,
        }
    }

    /// Returns a failure without an error behind it.
    pub(super) fn failed(text: String) -> OperationError {
        OperationError::Failed(text.into())
    }
}

impl From<OpenError> for OperationError {
    fn from(error: OpenError) -> OperationError {
        OperationError::Open(error)
    }
}

impl From<Obstacle> for OperationError {
    fn from(obstacle: Obstacle) -> OperationError {
        OperationError::Usage(obstacle)
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperationError::Open(error) => error.fmt(f),
            OperationError::Usage(obstacle) => obstacle.fmt(f),
            OperationError::Failed(reason) => reason.fmt(f),
        }
    }
}

impl std::error::Error for OperationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The text is the inner error's own, so its source is next.
            OperationError::Open(error) => error.source(),
            OperationError::Failed(reason) => reason.source(),
            OperationError::Usage(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_errors_behind_a_refused_start_can_be_told() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = OpenError::File { action: "write", path: "x.db".into(), error: full };
        let line = error.to_string();
        let refused = Unusable::from(error);
        assert_eq!((refused.cause, refused.to_string()), (Cause::Disk, line));
        let source = refused.source().and_then(|source| source.downcast_ref::<OpenError>());
        assert!(matches!(source, Some(OpenError::File { .. })), "{refused:?}");
        assert!(source.and_then(|source| source.source()).is_some_and(|source| source.is::<io::Error>()));
    }
}
