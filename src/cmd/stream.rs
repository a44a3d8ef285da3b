//! `-` in place of a database's file: standard input or standard output. SQLite needs a file in which it can seek, so
//! the stream goes through a temporary one, in a folder of its own below `TMPDIR`, or else `/var/tmp`.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::{Failure, random};
use crate::types::Reason;

/// Returns whether this name stands for standard input or standard output.
pub fn is_stream(file: &Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

/// A folder for one file, which only its owner may use. It is deleted when it is dropped.
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    fn new() -> Result<Spool, Failure> {
        let place = std::env::var_os("TMPDIR").filter(|name| !name.is_empty()).unwrap_or_else(|| "/var/tmp".into());
        let name =
            format!("racerd-{}", HEXLOWER.encode(random::<8>().map_err(|why| Failure::Failed(why.into()))?.as_slice()));
        let folder = PathBuf::from(place).join(name);
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| {
            let text = format!("cannot make the folder {} for a temporary file: {error}; set TMPDIR", folder.display());
            Failure::Failed(Reason::with(text, error))
        })?;
        Ok(Spool { folder })
    }

    /// Returns the file in it.
    pub fn file(&self) -> PathBuf {
        self.folder.join("database")
    }

    /// Replaces the name of the file by `-`, as the user wrote it.
    pub fn named(&self, failure: Failure) -> Failure {
        let file = self.file().display().to_string();
        failure.map(|text| text.replace(&file, "-"))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Calls `make` with the name of a temporary file, and copies the database that it makes there to standard output.
///
/// # Errors
/// [`Failure::Usage`] where that is a terminal; [`Failure::Failed`] where writing to it fails; and the errors of
/// `make`.
pub fn send<T>(make: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::Usage("a database cannot be written to a terminal; use a pipe or a file".into()));
    }
    let spool = Spool::new()?;
    let made = make(&spool.file()).map_err(|failure| spool.named(failure))?;
    let failed =
        |error: io::Error| Failure::Failed(Reason::with(format!("cannot write to standard output: {error}"), error));
    let mut file = File::open(spool.file()).map_err(failed)?;
    // Deletes the file, which stays open: however this ends, nothing is left behind.
    drop(spool);
    let mut out = io::stdout().lock();
    io::copy(&mut file, &mut out).and_then(|_| out.flush()).map_err(failed)?;
    Ok(made)
}

/// Copies a database from standard input to a temporary file.
///
/// # Errors
/// [`Failure::Usage`] where that is a terminal; [`Failure::Failed`] where it is empty, or cannot be read or kept.
pub fn receive() -> Result<Spool, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::Usage("a database cannot be read from a terminal; name its file, or use a pipe".into()));
    }
    let spool = Spool::new()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(spool.file());
    let kept = file.and_then(|mut file| io::copy(&mut io::stdin().lock(), &mut file));
    let length = kept.map_err(|error| {
        let text = format!("cannot copy standard input to a temporary file: {error}; set TMPDIR");
        Failure::Failed(Reason::with(text, error))
    })?;
    match length {
        0 => Err(Failure::Failed("standard input is empty: the command before the pipe wrote no database".into())),
        _ => Ok(spool),
    }
}

/// The database that a command reads: a file, or standard input.
pub enum Source {
    File(PathBuf),
    Stream(Spool),
}

impl Source {
    /// Opens the database of this name.
    ///
    /// # Errors
    /// As [`receive`].
    pub fn of(file: PathBuf) -> Result<Source, Failure> {
        if is_stream(&file) { receive().map(Source::Stream) } else { Ok(Source::File(file)) }
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Source::File(file) => file.clone(),
            Source::Stream(spool) => spool.file(),
        }
    }

    /// Returns the name for messages to people.
    pub fn name(&self) -> PathBuf {
        match self {
            Source::File(file) => file.clone(),
            Source::Stream(_) => PathBuf::from("-"),
        }
    }

    /// Makes a failure name the database as the user did.
    pub fn named(&self, failure: Failure) -> Failure {
        match self {
            Source::File(_) => failure,
            Source::Stream(spool) => spool.named(failure),
        }
    }
}
