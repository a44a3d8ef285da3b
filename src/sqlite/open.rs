//! Opens an intact database: locks it, inspects its files, connects, checks for damage, and sets SQLite's options.
//! After this the threads own the connections. What becomes of a damaged one is decided in `repair/opening.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::damage::is_damage;
use super::files::{Files, Identity, refuse_side_file};
use super::limits::Limit;
use super::lock::Lock;
use super::log_salt;
use super::pages::Pages;
use super::schema::{self, Begun, Run, Sealed, VERSION};
use super::start_check::{self, Found, LOOK_FOR, Noted, SAMPLE_FOR};
use super::wal::Wal;
use super::{retention, scrub};
use crate::crypto::at_rest::{DataKey, KeyId, LogSalt};
use crate::sqlite::{OpenError, StoreOptions};
use crate::store::new_epoch;
use crate::types::{Durability, PageSize};

/// How long a statement waits for another process that holds the database.
pub(super) const BUSY: Duration = Duration::from_secs(1);

/// Size in bytes of the pages in the WAL above which it starts over after a commit.
pub(super) const WAL_BYTES: i64 = 4 << 20;

/// Size in bytes to which a longer WAL file is truncated when it starts over. Twice the writer's limit, so that this
/// happens only after another program's reader has kept the WAL from starting over, and not every time.
pub(super) const JOURNAL_SIZE_LIMIT: u64 = 8 << 20;

/// Page cache of the writer's and of the reader's connection, in KiB. A checkpoint needs none.
pub(super) const CACHE_KIB: i64 = 512;

/// An opened database, as the threads need it.
pub(super) struct Opened {
    pub files: Files,
    pub identity: Identity,
    pub writer: Connection,
    pub reader: Connection,
    /// For checkpoints alone.
    pub copier: Connection,
    pub begun: Begun,
    /// Maximum number of pages of the database.
    pub most_pages: i64,
    pub pages: Pages,
    /// Remarks for the operator, one line each.
    pub remarks: Vec<String>,
    /// A note that holds until the operator has acted.
    pub note: Option<String>,
}

/// Locks the database at this path, and finishes a replacement of its file that was cut short.
pub(super) fn lock(path: &Path) -> Result<(Lock, Files), OpenError> {
    let files = Files::at(path)?;
    refuse_side_file(&files)?;
    let lock = Lock::take(&files)?;
    files.finish_replacing()?;
    Ok((lock, files))
}

/// Converts an SQLite error, adding the system limit that caused it, if any: SQLite does not report that.
fn refused(action: &'static str, files: &Files, error: rusqlite::Error) -> OpenError {
    let path = files.database.clone();
    match Limit::behind(&error, files.directory()) {
        Some(limit) => OpenError::Limit { action, path, advice: limit.advice(), cause: limit.cause() },
        None => OpenError::Sqlite { action, path, error },
    }
}

/// Converts an SQLite error of an opening; one that says that bytes are wrong is damage.
fn failed<'a>(files: &'a Files, action: &'static str) -> impl Fn(rusqlite::Error) -> OpenError + 'a {
    move |error| match is_damage(&error) {
        true => OpenError::damaged(&files.database, error.to_string()),
        false => refused(action, files, error),
    }
}

/// Opens the database if it is intact, as far as a short check can tell.
pub(super) fn open_sound(options: &StoreOptions, files: &Files, lock: &mut Lock) -> Result<Opened, OpenError> {
    files.prepare()?;
    // The database may be a different file than when the lock was taken.
    lock.hold(files)?;
    if !files.is_writable() {
        return Err(OpenError::ReadOnly { path: files.database.clone() });
    }
    // SQLite creates its files with the database's mode.
    let mut remarks = files.tighten();
    // Scanned before SQLite opens the WAL: it would start writing at the damaged frame.
    let wal = Wal::scan(&files.wal);
    let wal = wal.map_err(|error| OpenError::File { action: "read", path: files.wal.clone(), error })?;

    let key_id = options.data_key.as_ref().map(DataKey::id);
    let (mut writer, version) = open_writer(files, key_id, options.page_size)?;
    remarks.extend(schema::raised(version).map(|text| format!("{} {text}", files.database.display())));
    let lost = check_damage(&mut writer, options, files, &wal, &mut remarks)?;
    // Drop the pages cached by the check: they are not the ones needed from now on.
    writer.execute_batch("PRAGMA shrink_memory").map_err(failed(files, "read"))?;
    let pages = Pages::of(&writer).map_err(failed(files, "read"))?;
    let most_pages = configure(&writer, options, files, pages, &mut remarks)?;

    let fresh = new_epoch(&options.new_epoch);
    let run = Run {
        durability: options.durability,
        boot: &options.boot_id,
        fresh: &fresh.0,
        new_token_salt: options.new_token_salt,
        new_log_salt: LogSalt(options.new_log_salt),
        data_key: options.data_key.as_ref(),
        lost,
    };
    // Always synced: a `normal` run must not be mistaken for the previous one.
    let begun = schema::begin_run(&writer, &run).map_err(failed(files, "write to"))?;
    if options.durability == Durability::Normal {
        set(&writer, files, "synchronous", "NORMAL", "1")?;
    }

    // The transaction has created the WAL, so both files exist.
    let no_file = |error| OpenError::File { action: "find", path: files.database.clone(), error };
    let identity = files.identity().map_err(no_file)?;
    let reader = connect(&files.database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed(files, "open"))?;
    set(&reader, files, "query_only", "ON", "1")?;
    let copier = open_copier(files).map_err(failed(files, "open"))?;
    let note = files.damaged().map(|path| {
        remarks.push(format!(
            "{} is kept beside the database that was salvaged from it; move it away once it is no longer needed",
            path.display()
        ));
        // Anyone can read this text, so it names no path.
        "the database was damaged once, and what could be read was copied; the log names the damaged file: move it away once it \
         is no longer needed"
            .to_owned()
    });
    Ok(Opened { files: files.clone(), identity, writer, reader, copier, begun, most_pages, pages, remarks, note })
}

/// Opens the writer's connection, and creates the tables of a new database, with pages of this size. Returns the
/// version that the database had before. Nothing is written to one that is sealed with another key than `key_id`, or
/// that a newer racerd wrote.
fn open_writer(files: &Files, key_id: Option<KeyId>, page_size: PageSize) -> Result<(Connection, i32), OpenError> {
    let writer = connect(&files.database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed(files, "open"))?;
    if writer.is_readonly("main").map_err(failed(files, "open"))? {
        return Err(OpenError::ReadOnly { path: files.database.clone() });
    }
    // Closing must not fold the WAL into a file that was replaced or is damaged, nor change one of a newer version.
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed(files, "open"))?;
    // Checked before anything is written: a wrong key must not change the database.
    if let Some(sealed) = schema::sealed(&writer).map_err(failed(files, "read"))? {
        fits(files, sealed, key_id)?;
    }
    // The first read rolls back an interrupted creation, which leaves an empty file, or its first page, which has
    // auto_vacuum. That and the pages' size must be set while the file is empty: later they would need a full rewrite
    // (VACUUM).
    let pages: i64 = writer.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed(files, "read"))?;
    if pages == 0 {
        let bytes = page_size.bytes();
        let begin = format!("PRAGMA page_size = {bytes}; PRAGMA auto_vacuum = INCREMENTAL");
        writer.execute_batch(&begin).map_err(failed(files, "create"))?;
    }
    // The tables are created with a rollback journal, so that the header of the file itself identifies racerd.
    let before = schema::version(&writer).map_err(failed(files, "read"))?;
    let version = schema::migrate(&writer).map_err(failed(files, "migrate"))?;
    if version != VERSION {
        return Err(OpenError::Newer { path: files.database.clone(), version });
    }
    Ok((writer, before))
}

/// Opens the connection for checkpoints. It syncs what it copies, whatever the durability.
fn open_copier(files: &Files) -> rusqlite::Result<Connection> {
    let conn = connect(&files.database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The writer alone decides whether the WAL stays when the log is closed.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.execute_batch("PRAGMA cache_size = 0; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")?;
    Ok(conn)
}

/// Refuses a damaged database, as far as a check in limited time can tell; adds remarks about what it found. Returns
/// whether the WAL has lost some of what was not synced, so that seqs may be given again.
fn check_damage(
    writer: &mut Connection,
    options: &StoreOptions,
    files: &Files,
    wal: &Wal,
    remarks: &mut Vec<String>,
) -> Result<bool, OpenError> {
    let mut lost = false;
    match start_check::look(writer, wal, &options.boot_id, LOOK_FOR).map_err(failed(files, "read"))? {
        Found::Well => {}
        Found::ShortTimeUp => {
            let seed = u64::from_le_bytes(options.new_epoch);
            let salt = log_salt::known(writer).map_err(failed(files, "read"))?;
            let records = options.data_key.as_ref().map(|key| key.records(&salt));
            let sample = scrub::sample(writer, records.as_ref(), seed, Instant::now() + SAMPLE_FOR);
            if let Some(what) = sample.map_err(failed(files, "read"))? {
                return Err(OpenError::damaged(&files.database, what));
            }
        }
        Found::Lost => {
            lost = true;
            remarks.push(format!(
                "{} lost what was not synced when the machine went down; clients are told that the log is a new one",
                files.database.display()
            ));
        }
        Found::Damage(what) => return Err(OpenError::damaged(&files.database, what)),
        Found::TimeUp => remarks.push(format!(
            "{} was not checked completely after an unclean shutdown, since that takes more than {} s; 'racerd check' does \
             so, also while racerd runs",
            files.database.display(),
            LOOK_FOR.as_secs()
        )),
    }
    match start_check::noted(writer, options.data_key.as_ref(), LOOK_FOR).map_err(failed(files, "read"))? {
        None => {}
        Some(Noted::Holds(what)) => {
            return Err(OpenError::damaged(&files.database, format!("{what} (found while it was in use)")));
        }
        Some(Noted::Mended(what)) => remarks.push(format!(
            "{} was reported damaged while it was in use ({what}); a complete read now found it intact",
            files.database.display()
        )),
    }
    Ok(lost)
}

/// Sets SQLite's options for the writer, and returns the database's maximum number of pages.
fn configure(
    writer: &Connection,
    options: &StoreOptions,
    files: &Files,
    pages: Pages,
    remarks: &mut Vec<String>,
) -> Result<i64, OpenError> {
    set(writer, files, "journal_mode", "WAL", "wal")?;
    set(writer, files, "synchronous", "FULL", "2")?;
    set(writer, files, "wal_autocheckpoint", "0", "0")?;
    // The number of a removed room is given to another, in which a salvage must find nothing of before.
    set(writer, files, "secure_delete", "ON", "1")?;
    let limit = JOURNAL_SIZE_LIMIT.to_string();
    set(writer, files, "journal_size_limit", &limit, &limit)?;
    let most_pages = bound(writer, files, pages, options.bounds.max_database_size)?;
    let prunes = options.bounds.keep_messages > 0 || options.bounds.keep_for > 0;
    if prunes && !retention::can_shrink(writer).map_err(failed(files, "read"))? {
        remarks.push(format!(
            "{} never shrinks (auto_vacuum is off); 'racerd backup' and then 'racerd restore' of the backup fix that",
            files.database.display()
        ));
    }
    Ok(most_pages)
}

/// Checks that the given key is exactly the one that the sealed rows need, and that none is given for plain rows.
pub(super) fn fits(files: &Files, sealed: Sealed, given: Option<KeyId>) -> Result<(), OpenError> {
    let path = files.database.clone();
    match (sealed.rekey, sealed.with) {
        (Some(_), _) => Err(OpenError::Rekeying { path }),
        (None, with) if with == given => Ok(()),
        (None, Some(id)) => Err(OpenError::NoKey { path, id, given }),
        (None, None) => Err(OpenError::Plain { path }),
    }
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(32);
    conn.execute_batch(&format!(
        "PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF"
    ))?;
    Ok(conn)
}

/// Sets a pragma and reads it back: SQLite reports no error if it cannot comply.
fn set(conn: &Connection, files: &Files, name: &'static str, value: &str, expected: &str) -> Result<(), OpenError> {
    let read = |conn: &Connection| -> rusqlite::Result<String> {
        // Some pragmas return a row when they are set, some do not; all do when they are queried.
        let mut statement = conn.prepare(&format!("PRAGMA {name} = {value}"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        conn.query_row(&format!("PRAGMA {name}"), [], |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str()?.to_owned(),
            })
        })
    };
    let found = read(conn).map_err(|error| refused("set up", files, error))?;
    if found == expected {
        Ok(())
    } else {
        Err(OpenError::Setting { path: files.database.clone(), name, wanted: expected.to_owned(), found })
    }
}

/// Limits the database's size, and returns the limit in pages. SQLite raises it to the present size if that is larger.
pub(super) fn bound(conn: &Connection, files: &Files, pages: Pages, max_bytes: u64) -> Result<i64, OpenError> {
    let bytes = if max_bytes == 0 { files.share_of_free_space()? } else { max_bytes };
    let set = || -> rusqlite::Result<i64> {
        // Page numbers have 32 bits, and the highest are reserved by SQLite.
        let most = pages.in_bytes(schema::integer(bytes)).min(0xffff_fffe);
        set_most_pages(conn, most).map(|()| most)
    };
    set().map_err(|error| refused("set up", files, error))
}

/// Limits the number of pages that this connection may take.
pub(super) fn set_most_pages(conn: &Connection, pages: i64) -> rusqlite::Result<()> {
    conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
