//! Opens a database: locks it, inspects its files, connects, checks for damage, and sets SQLite's options. After this
//! the two threads own the connections.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::files::{Files, Identity, NO_SQLITE};
use super::limits::Limit;
use super::lock::Lock;
use super::repair::damage::{self, Found, LOOK_FOR, Noted, SAMPLE_FOR, is_damage};
use super::repair::target::refuse_side_file;
use super::schema::{self, Begun, Run, Sealed, VERSION};
use super::wal::Wal;
use super::{repair, retention, scrub};
use crate::crypto::at_rest::{DataKey, KeyId};
use crate::sqlite::{OpenError, StoreOptions};
use crate::store::new_epoch;
use crate::types::{Durability, OnDamage};

/// How long a statement waits for another process that holds the database.
pub(super) const BUSY: Duration = Duration::from_secs(1);

/// Pages in the WAL above which it starts over after a commit: 4 MiB.
pub(super) const WAL_FRAMES: i64 = 1_024;

/// Size in bytes to which a longer WAL file is truncated when it starts over. Twice the writer's limit, so that this
/// happens only after another program's reader has kept the WAL from starting over, and not every time.
pub(super) const JOURNAL_SIZE_LIMIT: u64 = 8 << 20;

/// Page cache of each connection, in KiB.
pub(super) const CACHE_KIB: i64 = 512;

/// An opened database, as the threads need it.
pub(super) struct Opened {
    pub files: Files,
    pub identity: Identity,
    pub writer: Connection,
    pub reader: Connection,
    pub begun: Begun,
    /// Maximum number of pages of the database.
    pub most_pages: i64,
    /// Remarks for the operator, one line each.
    pub remarks: Vec<String>,
    /// A note that holds until the operator has acted.
    pub note: Option<String>,
}

/// Opens the database, or creates it. A file that this racerd may not write is left untouched; a damaged database is
/// salvaged or refused, depending on the options. The lock must outlive the connections.
pub(super) fn open(options: &StoreOptions) -> Result<(Lock, Opened), OpenError> {
    let files = Files::at(&options.path)?;
    refuse_side_file(&files)?;
    let mut lock = Lock::take(&files)?;
    files.finish_replacing()?;
    let what = match open_sound(options, &files, &mut lock) {
        Err(OpenError::Damaged { what, .. }) if options.on_damage == OnDamage::Salvage => what,
        other => return other.map(|opened| (lock, opened)),
    };
    let (report, kept) = damage::salvage_in_place(&files, options.data_key.as_ref())?;
    let mut opened = open_sound(options, &files, &mut lock)?;
    let path = files.database.display();
    opened.remarks.insert(0, format!("{path} was damaged ({what}); {report}; the damaged file is kept as {kept}"));
    Ok((lock, opened))
}

/// Converts an SQLite error, adding the system limit that caused it, if any: SQLite does not report that.
fn refused(action: &'static str, files: &Files, error: rusqlite::Error) -> OpenError {
    let path = files.database.clone();
    match Limit::behind(&error, files.directory()) {
        Some(limit) => OpenError::Limit { action, path, advice: limit.advice(), cause: limit.cause() },
        None => OpenError::Sqlite { action, path, error },
    }
}

/// Opens the database if it is intact, as far as a short check can tell.
fn open_sound(options: &StoreOptions, files: &Files, lock: &mut Lock) -> Result<Opened, OpenError> {
    let damaged = |what| OpenError::Damaged { path: files.database.clone(), what };
    let failed = |action| {
        move |error: rusqlite::Error| match is_damage(&error) {
            true => damaged(error.to_string()),
            false => refused(action, files, error),
        }
    };
    match files.prepare() {
        Err(OpenError::Foreign { what: NO_SQLITE, .. }) if repair::salvage::recognises(files) => {
            return Err(damaged("its header is overwritten".to_owned()));
        }
        other => other?,
    }
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

    let mut writer = connect(&files.database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed("open"))?;
    if writer.is_readonly("main").map_err(failed("open"))? {
        return Err(OpenError::ReadOnly { path: files.database.clone() });
    }
    // Closing must not fold the WAL into a file that was replaced or is damaged, nor change one of a newer version.
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed("open"))?;
    // Checked before anything is written: a wrong key must not change the database.
    let key_id = options.data_key.as_ref().map(DataKey::id);
    if let Some(sealed) = schema::sealed(&writer).map_err(failed("read"))? {
        fits(files, sealed, key_id)?;
    }
    // The first read rolls back an interrupted creation, which leaves an empty file. auto_vacuum must be set while the
    // file is empty: later it would need a full rewrite (VACUUM).
    let pages: i64 = writer.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed("read"))?;
    if pages == 0 {
        writer.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(failed("create"))?;
    }
    // The tables are created with a rollback journal, so that the header of the file itself identifies racerd.
    let version = schema::migrate(&writer).map_err(failed("migrate"))?;
    if version != VERSION {
        return Err(OpenError::Newer { path: files.database.clone(), version });
    }
    let mut lost = false;
    match damage::look(&mut writer, &wal, &options.boot_id, LOOK_FOR).map_err(failed("read"))? {
        Found::Well => {}
        Found::ShortTimeUp => {
            let seed = u64::from_le_bytes(options.new_epoch);
            let records = options.data_key.as_ref().map(DataKey::records);
            let sample = scrub::sample(&writer, records.as_ref(), seed, Instant::now() + SAMPLE_FOR);
            if let Some(what) = sample.map_err(failed("read"))? {
                return Err(damaged(what));
            }
        }
        Found::Lost => {
            lost = true;
            remarks.push(format!(
                "{} lost what was not synced when the machine went down; clients are told that the log is a new one",
                files.database.display()
            ));
        }
        Found::Damage(what) => return Err(damaged(what)),
        Found::TimeUp => remarks.push(format!(
            "{} was not checked completely after an unclean shutdown, since that takes more than {} s; 'racerd check' does \
             so, also while racerd runs",
            files.database.display(),
            LOOK_FOR.as_secs()
        )),
    }
    match damage::noted(&mut writer, options.data_key.as_ref(), LOOK_FOR).map_err(failed("read"))? {
        None => {}
        Some(Noted::Holds(what)) => return Err(damaged(format!("{what} (found while it was in use)"))),
        Some(Noted::Mended(what)) => remarks.push(format!(
            "{} was reported damaged while it was in use ({what}); a complete read now found it intact",
            files.database.display()
        )),
    }
    // Drop the pages cached by the check: they are not the ones needed from now on.
    writer.execute_batch("PRAGMA shrink_memory").map_err(failed("read"))?;
    set(&writer, files, "journal_mode", "WAL", "wal")?;
    set(&writer, files, "synchronous", "FULL", "2")?;
    set(&writer, files, "wal_autocheckpoint", "0", "0")?;
    let limit = JOURNAL_SIZE_LIMIT.to_string();
    set(&writer, files, "journal_size_limit", &limit, &limit)?;
    let most_pages = bound(&writer, files, options.bounds.max_database_size)?;
    let prunes = options.bounds.keep_messages > 0 || options.bounds.keep_for > 0;
    if prunes && !retention::can_shrink(&writer).map_err(failed("read"))? {
        remarks.push(format!(
            "{} never shrinks (auto_vacuum is off); 'racerd backup' and then 'racerd restore' of the backup fix that",
            files.database.display()
        ));
    }

    let fresh = new_epoch(&options.new_epoch);
    let run = Run {
        durability: options.durability,
        boot: &options.boot_id,
        fresh: &fresh.0,
        token_key: options.data_key.as_ref().map_or(options.new_token_key, |key| *key.tokens()),
        key_id,
        lost,
    };
    // Always synced: a `normal` run must not be mistaken for the previous one.
    let begun = schema::begin_run(&writer, &run).map_err(failed("write to"))?;
    if options.durability == Durability::Normal {
        set(&writer, files, "synchronous", "NORMAL", "1")?;
    }

    // The transaction has created the WAL, so both files exist.
    let no_file = |error| OpenError::File { action: "find", path: files.database.clone(), error };
    let identity = files.identity().map_err(no_file)?;
    let reader = connect(&files.database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed("open"))?;
    set(&reader, files, "query_only", "ON", "1")?;
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
    Ok(Opened { files: files.clone(), identity, writer, reader, begun, most_pages, remarks, note })
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
pub(super) fn bound(conn: &Connection, files: &Files, max_bytes: u64) -> Result<i64, OpenError> {
    let bytes = if max_bytes == 0 { files.share_of_free_space()? } else { max_bytes };
    let set = || -> rusqlite::Result<i64> {
        let page: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        // Page numbers have 32 bits, and the highest are reserved by SQLite.
        let pages = schema::integer((bytes / schema::number(page).max(1)).clamp(1, 0xffff_fffe));
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(pages))
    };
    set().map_err(|error| refused("set up", files, error))
}
