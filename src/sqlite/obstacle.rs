//! What stands in the way of a command on a database until somebody changes it, worded for that person.

use std::fmt;
use std::path::PathBuf;

use crate::crypto::at_rest::KeyId;

/// Why the same command fails again. Displayed as one line: what happened, where, what to do.
#[derive(Debug)]
pub enum Obstacle {
    /// The copy would be the database that is copied.
    Itself { path: PathBuf },
    /// Something has the name of the copy already.
    Exists { path: PathBuf },
    /// What is to be replaced is no racerd database.
    NotReplaceable { path: PathBuf, what: &'static str },
    /// SQLite would apply the file beside it to the copy.
    Applied { path: PathBuf, file: PathBuf },
    /// The database cannot be copied as a whole.
    Damaged { path: PathBuf, error: String },
    /// The backup is not sound.
    Unsound { path: PathBuf, fault: String },
    /// There is nothing that could be sealed yet.
    NeverServed { path: PathBuf },
    /// It has this key already; `None` is none.
    HasKey { path: PathBuf, key: Option<KeyId> },
    /// A change to another key, or to none, has begun.
    Rekeying { path: PathBuf, to: Option<KeyId> },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Itself { path } => write!(f, "{} is the database itself", path.display()),
            Obstacle::Exists { path } => write!(f, "{} exists; give another name, or move it away", path.display()),
            Obstacle::NotReplaceable { path, what } => write!(
                f,
                "{} is not a racerd database ({what}), and was not touched; give another name, or move it away",
                path.display()
            ),
            Obstacle::Applied { path, file } => write!(
                f,
                "{} is beside {}, and SQLite would apply it to the new file: it belongs to a database that is in use, or \
                 was not shut down cleanly; give another name, or move both away",
                file.display(),
                path.display()
            ),
            Obstacle::Damaged { path, error } => {
                let path = path.display();
                write!(f, "{path} is damaged: {error}; 'racerd salvage {path} NEW' copies what can be read")
            }
            Obstacle::Unsound { path, fault } => write!(
                f,
                "{} is damaged: {fault}; 'racerd check' says more; 'racerd salvage' makes a sound file of what can be read",
                path.display()
            ),
            Obstacle::NeverServed { path } => {
                let path = path.display();
                write!(f, "{path} was never used by a server; its first start with --data-key-file seals it")
            }
            Obstacle::HasKey { path, key: Some(key) } => {
                let path = path.display();
                write!(f, "{path} is sealed with the key {key} already; name another with --new-key")
            }
            Obstacle::HasKey { path, key: None } => write!(f, "{} is plain already", path.display()),
            Obstacle::Rekeying { path, to } => {
                let to = to.map_or("to plain (--plain)".to_owned(), |id| format!("to the key {id}"));
                let path = path.display();
                write!(f, "{path} is in the middle of a change {to}; it was not touched; end that first")
            }
        }
    }
}
