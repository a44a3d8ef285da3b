//! The files of a database: finds them, identifies a file before SQLite opens it, and checks that it is still the one
//! that was opened. Never opens the database while SQLite has it open: closing any descriptor of a file drops all POSIX
//! locks that the process holds on it, including SQLite's.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, StatVfsMountFlags};

use super::obstacle::Obstacle;
use super::schema::{APPLICATION_ID, VERSION};
use crate::sqlite::{OpenError, OperationError};
use crate::types::folder_of;

/// Mode of the files: only the owner may read messages.
pub(super) const MODE: u32 = 0o600;

/// Maximum number of symbolic links followed to a path that does not exist yet, the same as the kernel's
/// (path_resolution(7)).
const LINKS: u32 = 40;

/// Suffixes, after the database's name, of files with its older states.
const OLDER: [&str; 4] = [".replaced-", ".damaged-", ".draft", ".partial"];

/// Suffixes of the names of files that belong to the database named by the rest.
const SIDE_FILES: [&str; 8] =
    ["-wal", "-shm", "-journal", ".lock", ".draft", ".partial", ".instead-of-damaged", ".instead-of-replaced"];

/// A database file and those beside it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub database: PathBuf,
    pub wal: PathBuf,
    shm: PathBuf,
    pub lock: PathBuf,
    /// Size of the database at the start, in bytes; its growth since then has used space that was free.
    begun: u64,
}

/// The reason why a database is replaced; the old one is kept as `NAME.damaged-1` or `NAME.replaced-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    Damaged,
    Replaced,
}

impl Aside {
    const ALL: [Aside; 2] = [Aside::Damaged, Aside::Replaced];

    fn word(self) -> &'static str {
        match self {
            Aside::Damaged => "damaged",
            Aside::Replaced => "replaced",
        }
    }
}

impl Files {
    /// Resolves symbolic links, so that two names of one database share one lock, and makes the path absolute, so that
    /// SQLite does not take a name for a URI or `:memory:`.
    pub fn at(path: &Path) -> Result<Files, OpenError> {
        let database = real_path(path)?;
        if database.is_dir() {
            return Err(OpenError::NotAFile { path: path.into() });
        }
        let [wal, shm, lock] = ["-wal", "-shm", ".lock"].map(|suffix| beside(&database, suffix));
        let begun = fs::metadata(&database).map_or(0, |metadata| metadata.len());
        Ok(Files { wal, shm, lock, database, begun })
    }

    /// Returns the folder of the database.
    pub fn directory(&self) -> &Path {
        // The path is absolute and has a file name, so it has a parent.
        self.database.parent().unwrap_or(Path::new("/"))
    }

    /// Ensures that there is a file that SQLite may open: a racerd database, or an empty file, which is created if
    /// missing. Any other file is refused without touching it. Call it under the lock.
    pub fn prepare(&self) -> Result<(), OpenError> {
        match self.look()? {
            Found::Database => Ok(()),
            Found::Empty => self.refuse_a_stray_wal(),
            Found::Nothing => self.refuse_a_stray_wal().and_then(|()| self.create()),
        }
    }

    /// Returns whether the file is a racerd database that a command may read. An empty file is not.
    pub fn is_database(&self) -> Result<bool, OpenError> {
        Ok(matches!(self.look()?, Found::Database))
    }

    /// Refuses to replace a file that is not a racerd database, or not a regular file.
    pub fn is_replaceable(&self) -> Result<(), OperationError> {
        match self.look() {
            Err(OpenError::Foreign { path, what }) => Err(Obstacle::NotReplaceable { path, what }.into()),
            Ok(_) | Err(OpenError::Newer { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the WAL or rollback journal if one of them has content, which the database file then lacks.
    pub fn unapplied(&self) -> Option<PathBuf> {
        let logs = [self.wal.clone(), beside(&self.database, "-journal")];
        // One that cannot be inspected may hold anything.
        let holds = |log: &PathBuf| match fs::metadata(log) {
            Ok(metadata) => metadata.len() > 0,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        logs.into_iter().find(holds)
    }

    /// Returns whether this process may write to the database and its folder.
    pub fn is_writable(&self) -> bool {
        [&*self.database, self.directory()].iter().all(|path| rustix::fs::access(*path, Access::WRITE_OK).is_ok())
    }

    /// Returns whether the database is on a file system mounted read-only.
    pub fn is_on_read_only_medium(&self) -> bool {
        rustix::fs::statvfs(self.directory()).is_ok_and(|space| space.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Removes all access by other users to the database and the files beside it, which hold the same content. Returns
    /// remarks for the operator, one line each.
    pub fn tighten(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let journal = beside(&self.database, "-journal");
        let own = [&self.database, &self.wal, &self.shm, &journal, &self.lock].map(PathBuf::clone);
        for path in own.into_iter().chain(self.older()) {
            let open = |path: &Path| {
                let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
                Some(found.permissions().mode() & 0o777).filter(|mode| mode & 0o077 != 0)
            };
            let Some(mode) = open(&path) else { continue };
            let done = fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o700));
            let shown = path.display();
            remarks.push(match (done, open(&path)) {
                (Ok(()), None) => format!("others could read or change {shown} (mode {mode:03o}); now only its owner can"),
                (Ok(()), Some(_)) => format!(
                    "others may read or change {shown} (mode {mode:03o}), and its file system does not store modes; mount it so that \
                     only racerd's user can read it"
                ),
                (Err(error), _) => format!(
                    "others may read or change {shown} (mode {mode:03o}), and that cannot be changed: {error}; let the user that \
                     runs racerd own it, or run 'chmod 600' on it"
                ),
            });
        }
        remarks
    }

    /// Returns the path at which a replacement for this database is built, until it is complete and synced.
    pub fn draft(&self) -> PathBuf {
        beside(&self.database, ".draft")
    }

    /// Replaces the database with the draft, and keeps the old one beside it. Returns the old one's new path, if there
    /// was one. A crash at any moment leaves either the old or the new one in place, and never a database without its
    /// WAL; [`Files::finish_replacing`] completes the replacement then.
    pub fn replace(&self, kind: Aside) -> Result<Option<PathBuf>, OpenError> {
        let failed = |error| OpenError::File { action: "replace", path: self.database.clone(), error };
        fs::rename(self.draft(), self.decided(kind)).and_then(|()| self.sync_directory()).map_err(failed)?;
        self.finish_replacing()
    }

    /// Finishes an interrupted replacement. Call it under the lock.
    pub fn finish_replacing(&self) -> Result<Option<PathBuf>, OpenError> {
        let failed = |error| OpenError::File { action: "replace", path: self.database.clone(), error };
        let mut kept = None;
        for kind in Aside::ALL {
            if self.decided(kind).exists() {
                kept = self.set_aside(kind).map_err(failed)?;
                fs::rename(self.decided(kind), &self.database).and_then(|()| self.sync_directory()).map_err(failed)?;
            }
        }
        Ok(kept)
    }

    /// Returns the newest damaged database kept beside this one.
    pub fn damaged(&self) -> Option<PathBuf> {
        self.last_aside(Aside::Damaged).map(|number| self.aside(Aside::Damaged, number))
    }

    /// Lists files beside this one that hold its earlier content, by name: replaced databases and interrupted drafts.
    /// Empty if the folder cannot be read.
    pub fn older(&self) -> Vec<PathBuf> {
        let Some(name) = self.database.file_name() else { return Vec::new() };
        let is_older = |found: &OsStr| {
            let rest = found.as_bytes().strip_prefix(name.as_bytes()).unwrap_or_default();
            OLDER.iter().any(|suffix| rest.starts_with(suffix.as_bytes()))
        };
        let found = fs::read_dir(self.directory()).into_iter().flatten().flatten();
        let mut older: Vec<PathBuf> =
            found.filter(|entry| is_older(&entry.file_name())).map(|entry| entry.path()).collect();
        older.sort_unstable();
        older
    }

    /// Returns the name of a complete draft that is about to replace the database. A draft with this name is the
    /// database, even after a crash.
    fn decided(&self, kind: Aside) -> PathBuf {
        beside(&self.database, &format!(".instead-of-{}", kind.word()))
    }

    fn aside(&self, kind: Aside, number: u32) -> PathBuf {
        beside(&self.database, &format!(".{}-{number}", kind.word()))
    }

    fn last_aside(&self, kind: Aside) -> Option<u32> {
        (1..).take_while(|number| self.aside(kind, *number).exists()).last()
    }

    /// Moves the database aside, and then its side files. In this order, since the next start reports a WAL without its
    /// database, but could not detect a database without its WAL.
    fn set_aside(&self, kind: Aside) -> io::Result<Option<PathBuf>> {
        let last = self.last_aside(kind);
        let number = match last {
            // It was moved before a crash; the remaining files belong to it.
            Some(number) if !self.database.exists() => number,
            _ => last.unwrap_or(0) + 1,
        };
        let to = self.aside(kind, number);
        let mut any = false;
        for (from, suffix) in [(&self.database, ""), (&self.wal, "-wal"), (&self.shm, "-shm")] {
            if from.exists() {
                fs::rename(from, beside(&to, suffix))?;
                self.sync_directory()?;
                any |= suffix.is_empty();
            }
        }
        Ok(any.then_some(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }

    /// Identifies the file by its header (<https://www.sqlite.org/fileformat.html#the_database_header>). That works
    /// even while the WAL holds a newer state: the application id is written before WAL mode is entered.
    fn look(&self) -> Result<Found, OpenError> {
        let failed = |error| OpenError::File { action: "read", path: self.database.clone(), error };
        // Opening a FIFO would wait for its other end.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.database) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error)),
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(OpenError::NotAFile { path: self.database.clone() });
        }
        let mut header = Vec::with_capacity(100);
        file.by_ref().take(100).read_to_end(&mut header).map_err(failed)?;
        if header.is_empty() {
            return Ok(Found::Empty);
        }
        let foreign = |what| Err(OpenError::Foreign { path: self.database.clone(), what });
        let Some(header) = header.first_chunk::<100>().filter(|header| header.starts_with(b"SQLite format 3\0")) else {
            return foreign(NO_SQLITE);
        };
        // Both are constant ranges within the 100 bytes.
        let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        match (number(68), number(60)) {
            (APPLICATION_ID, version) if version <= VERSION => Ok(Found::Database),
            (APPLICATION_ID, version) => Err(OpenError::Newer { path: self.database.clone(), version }),
            // Ended right after `PRAGMA auto_vacuum`: a page that has it, and never had a table (no schema format).
            (0, 0) if number(28) == 1 && number(44) == 0 && number(64) == 1 => Ok(Found::Empty),
            _ => foreign("it is another program's SQLite file"),
        }
    }

    /// Refuses a WAL without its database: it may hold messages, and SQLite would delete it.
    fn refuse_a_stray_wal(&self) -> Result<(), OpenError> {
        match fs::metadata(&self.wal) {
            Ok(metadata) if metadata.len() > 0 => {
                Err(OpenError::StrayWal { path: self.database.clone(), wal: self.wal.clone() })
            }
            _ => Ok(()),
        }
    }

    fn create(&self) -> Result<(), OpenError> {
        let failed = |error| OpenError::File { action: "create", path: self.database.clone(), error };
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.database).map_err(failed)?;
        // The umask may have removed more bits. SQLite creates the WAL with the same mode.
        file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed)?;
        // The name must survive a power cut as well as the content.
        self.sync_directory().map_err(failed)
    }

    /// Returns which files these names refer to now.
    pub fn identity(&self) -> io::Result<Identity> {
        let id = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        Ok(Identity { database: id(&self.database)?, wal: id(&self.wal)? })
    }

    /// Returns the size of the WAL file in bytes; 0 without one.
    pub fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }

    /// Returns the maximum size of the database in bytes: its size at the start plus 80 % of the space that would have
    /// been free then. The database's own growth does not change this, but other programs' use of the disk does.
    pub fn share_of_free_space(&self) -> Result<u64, OpenError> {
        let failed = |error| OpenError::File { action: "measure", path: self.database.clone(), error };
        let has = fs::metadata(&self.database).map_err(failed)?.len();
        let free = self.free_space().map_err(failed)?;
        Ok(share(self.begun, has, free))
    }

    /// Returns the free space on the database's file system, in bytes.
    pub fn free_space(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(self.directory())?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Returns the absolute path without symbolic links. The file need not exist yet, not even at the end of links; its
/// folder must.
///
/// # Errors
/// The path that cannot be followed, and why.
pub fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        match fs::canonicalize(&at) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::File { action: "find", path: path.into(), error }),
        }
        let name = at.file_name().ok_or_else(|| OpenError::NotAFile { path: path.into() })?;
        let directory = folder_of(&at);
        let directory =
            fs::canonicalize(directory).map_err(|error| OpenError::Directory { path: directory.into(), error })?;
        let place = directory.join(name);
        match fs::read_link(&place) {
            Ok(target) => at = directory.join(target),
            Err(_) => return Ok(place),
        }
    }
    let error = io::Error::other("too many levels of symbolic links");
    Err(OpenError::File { action: "find", path: path.into(), error })
}

/// Computes the maximum size of a database with `begun` bytes at the start and `has` now, while `free` are free.
fn share(begun: u64, has: u64, free: u64) -> u64 {
    let then = free.saturating_add(has).saturating_sub(begun);
    (then / 5 * 4).saturating_add(begun)
}

/// Describes a file whose header is not SQLite's.
pub(super) const NO_SQLITE: &str = "it is not an SQLite file";

/// Returns the existing file whose side file this path names, if it does: `chat.db` for `chat.db-wal`. A file written
/// there would harm that database.
pub fn side_file_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let mut rest = name;
    while let Some(stem) = SIDE_FILES.iter().find_map(|suffix| rest.strip_suffix(suffix.as_bytes())) {
        let owner = path.with_file_name(std::ffi::OsString::from_vec(stem.to_vec()));
        if !stem.is_empty() && owner.is_file() {
            return Some(owner);
        }
        rest = stem;
    }
    None
}

/// Refuses a path that names a side file of a database.
pub(super) fn refuse_side_file(files: &Files) -> Result<(), OpenError> {
    match side_file_of(&files.database) {
        Some(owner) => Err(OpenError::SideFile { path: files.database.clone(), owner }),
        None => Ok(()),
    }
}

/// Appends a suffix to a path, which need not be UTF-8.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The kind of file that a path refers to.
enum Found {
    Nothing,
    /// An empty file, or one whose creation was interrupted before it had a table.
    Empty,
    /// A racerd database, perhaps one whose creation was interrupted; SQLite rolls that back.
    Database,
}

/// Device and inode of the database and of its WAL when they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    database: (u64, u64),
    wal: (u64, u64),
}

impl Identity {
    /// Checks that the names still refer to the files that SQLite writes to: writes to a deleted file are lost.
    ///
    /// # Errors
    /// Names the file that was moved, deleted or replaced.
    pub fn check(&self, files: &Files) -> Result<(), String> {
        let database = files.database.display();
        match files.identity() {
            Ok(now) if now == *self => Ok(()),
            Ok(now) if now.database == self.database => {
                Err(format!("{} was replaced while racerd was using it; restart racerd", files.wal.display()))
            }
            Ok(_) => Err(format!("{database} was replaced by another file while racerd was using it; restart racerd")),
            Err(error) => Err(format!(
                "{database} or its -wal file was moved or deleted while racerd was using it ({error}); put both back and restart racerd"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    /// The limit follows the disk, not the database's own size.
    #[test]
    fn a_share_of_what_is_free_changes_with_others_only() {
        const MIB: u64 = 1 << 20;
        assert_eq!(share(0, 0, 100 * MIB), 80 * MIB);
        assert_eq!(share(50 * MIB, 50 * MIB, 100 * MIB), 130 * MIB);
        assert_eq!(share(50 * MIB, 70 * MIB, 80 * MIB), 130 * MIB, "it grew");
        assert_eq!(share(50 * MIB, 30 * MIB, 120 * MIB), 130 * MIB, "it shrank");
        assert_eq!(share(50 * MIB, 50 * MIB, 50 * MIB), 90 * MIB, "somebody else took half of it");
        assert_eq!(share(50 * MIB, 50 * MIB, 0), 50 * MIB);
        assert_eq!(share(50 * MIB, 0, 10 * MIB), 50 * MIB);
    }
}
