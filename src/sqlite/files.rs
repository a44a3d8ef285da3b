//! The files of a database: where they are, what a file is before SQLite touches it, and whether it is still the one that was opened. Never opens the database once SQLite has it: closing any
//! descriptor of a file drops all POSIX locks that the process holds on it, SQLite's too.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, StatVfsMountFlags};

use super::schema::{APPLICATION_ID, VERSION};
use crate::sqlite::{OpenError, OperationError};

/// Only the owner reads what people say to each other.
pub(super) const MODE: u32 = 0o600;

/// Links that are followed to a place where nothing is yet; the kernel's bound is the same (path_resolution(7)).
const LINKS: u32 = 40;

/// How names of older states of a database begin, behind its own name.
const OLDER: [&str; 4] = [".replaced-", ".damaged-", ".draft", ".partial"];

/// A database file and those beside it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub database: PathBuf,
    pub wal: PathBuf,
    shm: PathBuf,
    pub lock: PathBuf,
    /// Bytes of the database when it was named: what has grown since came out of the free space of then.
    begun: u64,
}

/// What becomes of a database in whose place another one comes: `NAME.damaged-1` or `NAME.replaced-1`.
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
    /// Resolves symbolic links, so that two names of one database meet at one lock; and makes the path absolute, so
    /// that SQLite takes no name for a URI or for `:memory:`.
    pub fn at(path: &Path) -> Result<Files, OpenError> {
        let database = resolve(path)?;
        if database.is_dir() {
            return Err(OpenError::NotAFile { path: path.into() });
        }
        let [wal, shm, lock] = ["-wal", "-shm", ".lock"].map(|suffix| beside(&database, suffix));
        let begun = fs::metadata(&database).map_or(0, |metadata| metadata.len());
        Ok(Files { wal, shm, lock, database, begun })
    }

    pub fn directory(&self) -> &Path {
        // The path is absolute and has a file name, so it has a parent.
        self.database.parent().unwrap_or(Path::new("/"))
    }

    /// Sees to it that a file is there that SQLite may open: an empty one, made where there is none, or one of ours. Any
    /// other is refused without touching it. Call it under the lock.
    pub fn prepare(&self) -> Result<(), OpenError> {
        match self.look()? {
            Found::Database => Ok(()),
            Found::Empty => self.refuse_a_stray_wal(),
            Found::Nothing => self.refuse_a_stray_wal().and_then(|()| self.create()),
        }
    }

    /// Whether a database of racerd's lies there, which a command may read. An empty file is none.
    pub fn is_database(&self) -> Result<bool, OpenError> {
        Ok(matches!(self.look()?, Found::Database))
    }

    /// Refuses a file that a copy may not replace: it is none of racerd's, or no file at all.
    pub fn is_replaceable(&self) -> Result<(), OperationError> {
        match self.look() {
            Err(OpenError::Foreign { path, what }) => Err(OperationError::Asked(format!(
                "{} is not a racerd database ({what}), and was not touched; give another name, or move it away",
                path.display()
            ))),
            Ok(_) | Err(OpenError::Newer { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The WAL or rollback journal that holds something, if one does: what the database's own file lacks.
    pub fn unapplied(&self) -> Option<PathBuf> {
        let logs = [self.wal.clone(), beside(&self.database, "-journal")];
        // One that cannot be looked at may hold anything.
        let holds = |log: &PathBuf| match fs::metadata(log) {
            Ok(metadata) => metadata.len() > 0,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        logs.into_iter().find(holds)
    }

    /// Whether this process may write to the database and beside it.
    pub fn is_writable(&self) -> bool {
        [&*self.database, self.directory()].iter().all(|path| rustix::fs::access(*path, Access::WRITE_OK).is_ok())
    }

    /// Whether nobody can write where the database lies, by this mount at least.
    pub fn is_on_read_only_medium(&self) -> bool {
        rustix::fs::statvfs(self.directory()).is_ok_and(|space| space.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Takes all access of others away from the database and the files beside it, which hold the same; what somebody should
    /// know of that, a line each.
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
                (Ok(()), None) => format!("others could read or change {shown} (mode {mode:03o}); now its owner only can"),
                (Ok(()), Some(_)) => format!(
                    "others may read or change {shown} (mode {mode:03o}), and its file system keeps no modes; mount it so that only \
                     racerd's user may read it"
                ),
                (Err(error), _) => format!(
                    "others may read or change {shown} (mode {mode:03o}), and that cannot be changed: {error}; let the user that \
                     runs racerd own it, or run 'chmod 600' on it"
                ),
            });
        }
        remarks
    }

    /// Where a database is made that is to come into this one's place, until it is whole and synced.
    pub fn draft(&self) -> PathBuf {
        beside(&self.database, ".draft")
    }

    /// Puts the draft into the database's place, which is kept beside it; where, if there was one. A crash at any moment
    /// leaves either one or the other, and never a database without its WAL: [`Files::finish_replacing`] goes on then.
    pub fn replace(&self, kind: Aside) -> Result<Option<PathBuf>, OpenError> {
        let failed = |error| OpenError::File { action: "replace", path: self.database.clone(), error };
        fs::rename(self.draft(), self.decided(kind)).and_then(|()| self.sync_directory()).map_err(failed)?;
        self.finish_replacing()
    }

    /// Ends a replacement that was decided. Call it under the lock.
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

    /// The newest damaged database that lies beside this one.
    pub fn damaged(&self) -> Option<PathBuf> {
        self.last_aside(Aside::Damaged).map(|number| self.aside(Aside::Damaged, number))
    }

    /// Files beside this one, by name, that hold what it held once: databases that were put aside, and drafts that were
    /// cut short. Nothing, where the directory cannot be read.
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

    /// The name under which a whole draft waits for its place: from now on it is the database, whatever happens.
    fn decided(&self, kind: Aside) -> PathBuf {
        beside(&self.database, &format!(".instead-of-{}", kind.word()))
    }

    fn aside(&self, kind: Aside, number: u32) -> PathBuf {
        beside(&self.database, &format!(".{}-{number}", kind.word()))
    }

    fn last_aside(&self, kind: Aside) -> Option<u32> {
        (1..).take_while(|number| self.aside(kind, *number).exists()).last()
    }

    /// Moves the database away, and what belongs to it after it: a WAL without its database is told at the next start,
    /// a database without its WAL is not.
    fn set_aside(&self, kind: Aside) -> io::Result<Option<PathBuf>> {
        let last = self.last_aside(kind);
        let number = match last {
            // Moved before a crash; what is left belongs to it.
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

    /// Reads the header (<https://www.sqlite.org/fileformat.html#the_database_header>). It tells whose database this
    /// is, also while a newer state lies in the WAL: the application id is written before WAL mode is entered.
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
            _ => foreign("it is another program's SQLite file"),
        }
    }

    /// A WAL without its database holds somebody's messages; SQLite would delete it.
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
        // The umask may have taken more away. SQLite gives the WAL the same mode.
        file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed)?;
        // The name must survive a power cut as well as the content.
        self.sync_directory().map_err(failed)
    }

    /// Which files these names mean now.
    pub fn identity(&self) -> io::Result<Identity> {
        let id = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        Ok(Identity { database: id(&self.database)?, wal: id(&self.wal)? })
    }

    /// Bytes of the WAL file; 0 where there is none.
    pub fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }

    /// What the database may grow to: what it had at the start, and 80 % of what was free then, had the disk been as it is
    /// now. Its own growth changes nothing of it; what others take or give back does.
    pub fn share_of_free_space(&self) -> Result<u64, OpenError> {
        let failed = |error| OpenError::File { action: "measure", path: self.database.clone(), error };
        let has = fs::metadata(&self.database).map_err(failed)?.len();
        let free = self.free_space().map_err(failed)?;
        Ok(share(self.begun, has, free))
    }

    /// Bytes that are free where the database lies.
    pub fn free_space(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(self.directory())?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// The absolute path that this one means, without links. What it names need not be there yet, at the end of links either;
/// its directory must.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        match fs::canonicalize(&at) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::File { action: "find", path: path.into(), error }),
        }
        let name = at.file_name().ok_or_else(|| OpenError::NotAFile { path: path.into() })?;
        let directory = at.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory =
            fs::canonicalize(directory).map_err(|error| OpenError::Directory { path: directory.into(), error })?;
        let place = directory.join(name);
        match fs::read_link(&place) {
            Ok(target) => at = directory.join(target),
            Err(_) => return Ok(place),
        }
    }
    let error = io::Error::other("its links lead nowhere");
    Err(OpenError::File { action: "find", path: path.into(), error })
}

/// Bytes for a database that had `begun` at the start and has `has` now, where `free` are free.
fn share(begun: u64, has: u64, free: u64) -> u64 {
    let then = free.saturating_add(has).saturating_sub(begun);
    (then / 5 * 4).saturating_add(begun)
}

/// What is wrong with a file whose head is not SQLite's.
pub(super) const NO_SQLITE: &str = "it is not an SQLite file";

/// `PATH` + suffix, as bytes: a path need not be UTF-8.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What lies at the path.
enum Found {
    Nothing,
    /// A file of no bytes.
    Empty,
    /// One of ours; perhaps with a creation in it that was cut short, which SQLite rolls back.
    Database,
}

/// Device and inode of the database and of its WAL: which files the names meant when they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    database: (u64, u64),
    wal: (u64, u64),
}

impl Identity {
    /// Whether the names still mean the files that SQLite writes to; if not, why. What is written to a deleted file
    /// is lost.
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

    /// The bound follows the disk, not the database.
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
