//! `-` in place of a database's file: standard input or standard output. SQLite needs a file that it can move about in, so the
//! stream goes through one, in a folder of its own where temporary files go (`TMPDIR`, else `/var/tmp`).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::{Failure, random};

/// Whether this name stands for standard input or standard output.
pub fn is_stream(file: &Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

/// A folder for one file, for the owner only; deleted when it is dropped.
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    fn new() -> Result<Spool, Failure> {
        let place = std::env::var_os("TMPDIR").filter(|name| !name.is_empty()).unwrap_or_else(|| "/var/tmp".into());
        let name = format!("racerd-{}", HEXLOWER.encode(random::<8>().map_err(Failure::Failed)?.as_slice()));
        let folder = PathBuf::from(place).join(name);
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| {
            let text = format!("cannot make the folder {} for a temporary file: {error}; set TMPDIR", folder.display());
            Failure::Failed(text)
        })?;
        Ok(Spool { folder })
    }

    /// The file in it.
    pub fn file(&self) -> PathBuf {
        self.folder.join("database")
    }

    /// A failure that names `-`, as the person does, where it names the file.
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

/// Has a database made, and writes it to standard output.
///
/// # Errors
/// [`Failure::Usage`] where that is a terminal; [`Failure::Failed`] where it cannot be written to; and those of `make`.
pub fn send<T>(make: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::Usage("a database is not for a terminal; send it into a pipe or a file".to_owned()));
    }
    let spool = Spool::new()?;
    let made = make(&spool.file()).map_err(|failure| spool.named(failure))?;
    let failed = |error: io::Error| Failure::Failed(format!("cannot write to standard output: {error}"));
    let mut file = File::open(spool.file()).map_err(failed)?;
    // From here on nobody has to delete it, however this ends.
    drop(spool);
    let mut out = io::stdout().lock();
    io::copy(&mut file, &mut out).and_then(|_| out.flush()).map_err(failed)?;
    Ok(made)
}

/// Takes a database from standard input.
///
/// # Errors
/// [`Failure::Usage`] where that is a terminal; [`Failure::Failed`] where it cannot be read or kept.
pub fn receive() -> Result<Spool, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::Usage("a database does not come from a terminal; give its file, or a pipe".to_owned()));
    }
    let spool = Spool::new()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(spool.file());
    let kept = file.and_then(|mut file| io::copy(&mut io::stdin().lock(), &mut file));
    kept.map_err(|error| Failure::Failed(format!("cannot keep what comes from standard input: {error}; set TMPDIR")))?;
    Ok(spool)
}

/// A database that a command reads: a file, or standard input.
pub enum Source {
    File(PathBuf),
    Stream(Spool),
}

impl Source {
    /// The database of this name.
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

    /// A failure that names it so.
    pub fn named(&self, failure: Failure) -> Failure {
        match self {
            Source::File(_) => failure,
            Source::Stream(spool) => spool.named(failure),
        }
    }
}
