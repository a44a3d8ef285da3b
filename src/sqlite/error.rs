//! Why a store could not be opened, in words for the person who starts racerd.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::crypto::at_rest::KeyId;
use crate::types::Cause;

/// What to do about damage that is met while running.
pub(super) const DAMAGED: &str = "the file is damaged; stop racerd and run 'racerd salvage FILE NEW', or restart it with \
                                  --on-damage salvage, or restore a backup";

/// Why a store could not be opened. Prints as one line: what happened, where, what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another racerd has it.
    Locked {
        path: PathBuf,
        lock: PathBuf,
    },
    /// Something else lies there. It was not touched.
    Foreign {
        path: PathBuf,
        what: &'static str,
    },
    /// It is racerd's, and it is damaged. It was not touched.
    Damaged {
        path: PathBuf,
        what: String,
    },
    /// It is damaged, and what can be read of it could not be copied.
    Salvage {
        path: PathBuf,
        why: String,
        cause: Cause,
    },
    /// A newer racerd has written it. It was not touched.
    Newer {
        path: PathBuf,
        version: i32,
    },
    /// It is sealed with a key that was not given, or with another than the given one. It was not touched.
    NoKey {
        path: PathBuf,
        id: KeyId,
        given: Option<KeyId>,
    },
    /// A key was given, and it is plain. It was not touched.
    Plain {
        path: PathBuf,
    },
    /// A rekey was cut short. It was not touched.
    Rekeying {
        path: PathBuf,
    },
    /// The database is gone and its WAL is not. Neither was touched.
    StrayWal {
        path: PathBuf,
        wal: PathBuf,
    },
    /// The path names a file that belongs to a database.
    SideFile {
        path: PathBuf,
        owner: PathBuf,
    },
    /// It lies where nothing can be written, and this log beside it would have to be applied first.
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
    /// A limit of the system is in the way.
    Limit {
        action: &'static str,
        path: PathBuf,
        advice: &'static str,
        cause: Cause,
    },
    /// SQLite did not take a setting that the promises depend on.
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
    /// What stands behind it.
    pub fn cause(&self) -> Cause {
        match self {
            // A name that cannot be a database's is a wrong setting.
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

/// Whether another program holds SQLite's own lock, such as a shell within a transaction.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

/// Returns whether the process or the system has too many files open (EMFILE, ENFILE), for which the standard library has no
/// kind.
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
                "{} is in use by another racerd (which holds {}); end that one, or give this one another file with --data",
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
                 to NEW, or start with --on-damage salvage (RACERD_ON_DAMAGE=salvage), which does so by itself and keeps the \
                 damaged file",
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
            OpenError::NoKey { path, id, given: None } => write!(
                f,
                "{} is sealed with the data key {id}, and none was given; it was not touched; name the key's file with \
                 --data-key-file",
                path.display()
            ),
            OpenError::NoKey { path, id, given: Some(given) } => write!(
                f,
                "{} is sealed with the data key {id}, and the given one is {given}; it was not touched; name the right file \
                 with --data-key-file",
                path.display()
            ),
            OpenError::Plain { path } => write!(
                f,
                "{} is not sealed, and a data key was given; it was not touched; 'racerd rekey {} --data-key-file FILE' seals \
                 it",
                path.display(),
                path.display()
            ),
            OpenError::Rekeying { path } => write!(
                f,
                "{} is in the middle of a change of its data key; it was not touched; run the same 'racerd rekey' again, which \
                 goes on",
                path.display()
            ),
            OpenError::StrayWal { path, wal } => write!(
                f,
                "{} is missing or empty, but {} is there and may hold its last messages; put the database back beside it, or move {} away to begin anew",
                path.display(),
                wal.display(),
                wal.display()
            ),
            OpenError::SideFile { path, owner } => write!(
                f,
                "{} is the name of a file that belongs to {}; it was not touched; give another name",
                path.display(),
                owner.display()
            ),
            OpenError::Unwritable { path, log } => write!(
                f,
                "{} lies where nothing can be written, and {} holds its last messages, which cannot be applied there; copy both to \
                 a folder that can be written to, or run 'racerd salvage {} NEW', which reads both as they are",
                path.display(),
                log.display(),
                path.display()
            ),
            OpenError::NotAFile { path } => {
                write!(f, "{} is not a file; give the name of a database file with --data", path.display())
            }
            OpenError::Directory { path, error } => write!(
                f,
                "the database's directory {} cannot be used: {error}; create it and make it writable, or give another with --data",
                path.display()
            ),
            OpenError::ReadOnly { path } => {
                write!(
                    f,
                    "{} or its folder cannot be written to; make both writable for the user that runs racerd",
                    path.display()
                )
            }
            OpenError::File { action, path, error } => {
                let advice = match error.kind() {
                    _ if is_out_of_files(error) => "raise the limit of open files (ulimit -n)",
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on the disk",
                    _ => "check the path given with --data",
                };
                write!(f, "cannot {action} {}: {error}; {advice}", path.display())
            }
            OpenError::Sqlite { action, path, error } if is_busy(error) => write!(
                f,
                "cannot {action} {}: another program holds it locked; end that program, and try again",
                path.display()
            ),
            OpenError::Sqlite { action, path, error } => write!(
                f,
                "cannot {action} {}: {error}; check the disk and the file, or restore a backup",
                path.display()
            ),
            OpenError::Limit { action, path, advice, .. } => write!(f, "cannot {action} {}: {advice}", path.display()),
            OpenError::Setting { path, name, wanted, found } => write!(
                f,
                "{}: SQLite's {name} stays at {found} where {wanted} is needed; put the database on a local file system",
                path.display()
            ),
            OpenError::Thread { error } => {
                write!(f, "cannot start a thread for the store: {error}; raise the limit of processes")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a command could not do to a database what it was asked for. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationError {
    /// A person has to change something first: names that are not there, or that are there already; a wrong key.
    Asked(String),
    Failed(String),
}

impl From<OpenError> for OperationError {
    fn from(error: OpenError) -> OperationError {
        let text = error.to_string();
        match error.cause().needs_a_person() {
            true => OperationError::Asked(text),
            false => OperationError::Failed(text),
        }
    }
}
