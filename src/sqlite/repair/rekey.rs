//! Changes the data key of a stopped database: from plain to sealed, from one key to another, or back to plain. It goes
//! row by row in bounded transactions; each row's key id tells whether it is done, so that an interrupted run can be
//! continued. Until all rows are done, the log records that a rekey is under way, and no server opens it.
//!
//! Sessions end with a rekey: tokens are derived from the key, so nobody could come back for a parked session or repeat
//! a send under its own keys. All idempotency keys are deleted, too, since their hashes are made with the old key: the
//! windows, the common keys, and those in the rows of messages that wait for a fold. So nothing is folded before; the
//! rooms' heads follow from the rows, as after a kill.
//!
//! No old content stays: `secure_delete` zeroes the space that rows free in their pages, and a final VACUUM rewrites
//! all pages through the WAL, which is emptied then. VACUUM's temporary file holds rows in their final form. A reader
//! in another process keeps SQLite from moving the new pages into the file, which still has the old text: the rekey
//! ends only once a checkpoint reports that nothing prevented it.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::copying::Progress;
use crate::crypto::at_rest::{DataKey, KeyId, LogSalt, RecordKey, is_of_old_format, sealed_with};
use crate::sqlite::damage::is_damage;
use crate::sqlite::files::{Files, refuse_side_file};
use crate::sqlite::lock::Lock;
use crate::sqlite::log_salt::{self, Salt};
use crate::sqlite::obstacle::Obstacle;
use crate::sqlite::open::BUSY;
use crate::sqlite::rows::{self, Row};
use crate::sqlite::schema::{self, SCRATCH, Sealed, VERSION, number, room_of, seq_of};
use crate::sqlite::sealed_bodies;
use crate::sqlite::sealing::{self, Sealing, message_place, open_parts};
use crate::sqlite::start_check::{self, Found, LOOK_FOR};
use crate::sqlite::wal::Wal;
use crate::sqlite::{OpenError, OperationError};
use crate::types::{Era, Reason};

/// Maximum number of rows in one transaction ...
const ROWS: usize = 1_000;

/// ... and maximum size of their bodies in bytes, not counting the last one.
const BYTES: usize = 1 << 20;

/// Free disk space required, in sizes of the database: VACUUM's temporary copy, the WAL, and a reserve.
const FREE: u64 = 3;

/// The result of a rekey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    pub from: Option<KeyId>,
    pub to: Option<KeyId>,
    /// Number of messages that this run has changed.
    pub changed: u64,
    /// Number of messages that already had their final form, from an earlier run.
    pub done: u64,
    /// Number of messages that could not be read, and were left as they are.
    pub unreadable: u64,
    /// Whether the database already had its final form, so that only its WAL was emptied.
    pub only_emptied: bool,
    /// Older databases and drafts beside this one, which hold its earlier content.
    pub beside: Vec<PathBuf>,
    /// Remarks for the operator, one line each.
    pub remarks: Vec<String>,
}

/// Changes the key of the database at `data` to `to`, or makes it plain without one. `present` is its present key,
/// which is ignored if it is not needed.
///
/// # Errors
/// A racerd uses the database; there is none; its present key was not given; a rekey to another key is under way; it
/// cannot be read or written, or another program reads it, in which case the same call continues later.
pub fn rekey(
    data: &Path,
    present: Option<&DataKey>,
    to: Option<&DataKey>,
    progress: Progress,
) -> Result<Rekeyed, OperationError> {
    let files = Files::at(data)?;
    let path = files.database.display();
    refuse_side_file(&files)?;
    let _lock = Lock::take(&files)?;
    files.finish_replacing()?;
    if !files.is_database()? {
        return Err(OperationError::failed(format!("there is no database at {path}")));
    }
    if !files.is_writable() || files.is_on_read_only_medium() {
        return Err(OpenError::ReadOnly { path: files.database }.into());
    }
    let mut remarks = files.tighten();
    let damaged = |what: String| OpenError::damaged(&files.database, what);
    let failed = |error: rusqlite::Error| match is_damage(&error) {
        true => OperationError::from(damaged(error.to_string())),
        false => OperationError::Failed(Reason::with(
            format!(
                "cannot change the key of {path}: {error}; free some space or repair the disk, then run the same command \
                 again to continue"
            ),
            error,
        )),
    };
    let wal = Wal::scan(&files.wal);
    let wal = wal.map_err(|error| OpenError::File { action: "read", path: files.wal.clone(), error })?;
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(&files.database, access).map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    // Set until it is known that the database may be changed.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    conn.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192; PRAGMA synchronous = FULL")
        .map_err(failed)?;
    let Some(sealed) = schema::sealed(&conn).map_err(failed)? else {
        return Err(Obstacle::NeverServed { path: files.database }.into());
    };
    let salt = match log_salt::find(&conn).map_err(failed)?.0 {
        Salt::Is(salt) => salt,
        Salt::None => sealing::new_salt().map_err(failed)?,
        Salt::Damaged => return Err(damaged("the salt of what is sealed".to_owned()).into()),
    };
    let rekey = Rekey::plan(&files, sealed, &salt, present, to)?;
    let is_done =
        sealed.rekey.is_none() && sealed.with == rekey.outcome().to && !has_old_format(&conn).map_err(failed)?;
    if is_done && files.wal_bytes() == 0 {
        return Err(Obstacle::HasKey { path: files.database, key: sealed.with }.into());
    }
    let bytes: i64 = conn
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))
        .map_err(failed)?;
    let free = files.free_space().map_err(|error| {
        OperationError::Failed(Reason::with(format!("cannot measure the free space beside {path}: {error}"), error))
    })?;
    let needed = if is_done { 0 } else { number(bytes).saturating_mul(FREE) };
    if free < needed {
        return Err(OperationError::failed(format!(
            "{path} was not touched: changing its key needs {} MiB of free space, and there are {}",
            needed.div_ceil(1 << 20),
            free >> 20
        )));
    }

    let before = schema::version(&conn).map_err(failed)?;
    let version = schema::migrate(&conn).map_err(failed)?;
    if version != VERSION {
        return Err(OpenError::Newer { path: files.database.clone(), version }.into());
    }
    remarks.extend(schema::raised(before).map(|text| format!("{path} {text}")));
    // The boot id does not matter here: a log that has lost something has another epoch at its next start in any case.
    if let Found::Damage(what) = start_check::look(&mut conn, &wal, "", LOOK_FOR).map_err(failed)? {
        return Err(damaged(what).into());
    }
    let transaction = conn.unchecked_transaction().map_err(failed)?;
    log_salt::put(&transaction, salt).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    // Better to fail now than after hours of work.
    empty_wal(&conn, &files).map_err(|error| error.told(failed, &files))?;
    let mut outcome = match is_done {
        true => Rekeyed { only_emptied: true, ..rekey.outcome() },
        false => rekey.run(&conn, &files, progress).map_err(|error| error.told(failed, &files))?,
    };
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    outcome.remarks = remarks;
    if outcome.to.is_some() {
        outcome.beside = files.older();
    }
    Ok(outcome)
}

/// Returns whether a message is sealed as older versions did it.
fn has_old_format(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM messages WHERE name = '' AND substr(body, 1, 1) = x'01' LIMIT 1")?.exists([])
}

/// The reason why a rekey did not finish.
enum Failed {
    Sqlite(rusqlite::Error),
    /// Another program reads the database.
    Busy,
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Sqlite(error)
    }
}

impl Failed {
    fn told(self, failed: impl Fn(rusqlite::Error) -> OperationError, files: &Files) -> OperationError {
        match self {
            Failed::Sqlite(error) => failed(error),
            Failed::Busy => OperationError::failed(format!(
                "somebody has the database {} open, so that its old content cannot be overwritten yet; close it and run the \
                 same command again",
                files.database.display()
            )),
        }
    }
}

/// Moves the whole WAL into the database file and truncates it: that overwrites the old content of its pages.
fn empty_wal(conn: &Connection, files: &Files) -> Result<(), Failed> {
    let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
    // A reader that has started since does not matter, but a writer may have begun a new WAL.
    if busy || files.wal_bytes() > 0 { Err(Failed::Busy) } else { Ok(()) }
}

/// The old and the new key of a rekey.
struct Rekey {
    from: Option<RecordKey>,
    to: Option<Sealing>,
}

impl Rekey {
    /// Checks that the keys are those that the log needs.
    fn plan(
        files: &Files,
        sealed: Sealed,
        salt: &LogSalt,
        present: Option<&DataKey>,
        to: Option<&DataKey>,
    ) -> Result<Rekey, OperationError> {
        let path = files.database.clone();
        let to_id = to.map(DataKey::id);
        if let Some(begun) = sealed.rekey.filter(|begun| *begun != to_id) {
            return Err(Obstacle::Rekeying { path, to: begun }.into());
        }
        let from = match sealed.with {
            None => None,
            Some(id) => match [present, to].into_iter().flatten().find(|key| key.id() == id) {
                Some(key) => Some(key.records(salt)),
                None => return Err(OpenError::NoKey { path, id, given: present.map(DataKey::id) }.into()),
            },
        };
        Ok(Rekey { from, to: to.map(|key| Sealing::new(key, salt)) })
    }

    fn outcome(&self) -> Rekeyed {
        let to = self.to.as_ref().map(Sealing::key_id);
        Rekeyed { from: self.from.as_ref().map(RecordKey::id), to, ..Rekeyed::default() }
    }

    fn run(mut self, conn: &Connection, files: &Files, mut progress: Progress) -> Result<Rekeyed, Failed> {
        let mut outcome = self.outcome();
        // The temporary file holds only rows in their final form, or plain ones: there is no reason to use memory for
        // it.
        conn.execute_batch("PRAGMA temp_store = FILE; PRAGMA secure_delete = ON")?;
        conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        schema::begin_rekey(conn, outcome.to)?;
        forget_sessions(conn)?;
        // The index's digests are made with the old key.
        sealed_bodies::restart(conn)?;
        let total = number(conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?);
        let mut after = SCRATCH;
        while let Some(last) = self.step(conn, after, &mut outcome)? {
            after = last;
            progress(outcome.changed + outcome.done + outcome.unreadable, total);
        }
        if outcome.to.is_some() {
            conn.execute_batch("VACUUM")?;
        }
        empty_wal(conn, files)?;
        schema::end_rekey(conn, outcome.to)?;
        empty_wal(conn, files)?;
        Ok(outcome)
    }

    /// Changes the next rows. Returns the last one's id; `None` if there are no more.
    fn step(&mut self, conn: &Connection, after: i64, outcome: &mut Rekeyed) -> rusqlite::Result<Option<i64>> {
        let transaction = conn.unchecked_transaction()?;
        let rows = rows::read(&transaction, after, ROWS, BYTES)?;
        let mut update = transaction.prepare_cached("UPDATE messages SET name = ?2, body = ?3 WHERE id = ?1")?;
        let mut room = (0, Default::default());
        for row in &rows {
            if room.0 != room_of(row.id) {
                // A message without a room is damage; it is sealed nevertheless, so that nothing stays readable.
                room = (room_of(row.id), rows::room_name(&transaction, room_of(row.id))?.unwrap_or_default());
            }
            match self.change(row, &room.1)? {
                Changed::Is => outcome.done += 1,
                Changed::Unreadable => outcome.unreadable += 1,
                Changed::To(name, body) => {
                    update.execute(params![row.id, name, body])?;
                    outcome.changed += 1;
                }
            }
        }
        drop(update);
        if let Some(last) = rows.last() {
            // The keys were hashed with the old data key, and their windows are deleted.
            transaction
                .prepare_cached("UPDATE messages SET key = NULL WHERE id > ?1 AND id <= ?2 AND key IS NOT NULL")?
                .execute([after, last.id])?;
        }
        transaction.commit()?;
        Ok(rows.last().map(|row| row.id))
    }

    fn change(&mut self, row: &Row, (room, era): &(String, Era)) -> rusqlite::Result<Changed> {
        let place = message_place((room, *era), seq_of(row.id), row.at, row.member);
        let present = sealed_with(&row.body).filter(|_| row.name.is_empty());
        let is_old = present.is_some() && is_of_old_format(&row.body);
        if present == self.to.as_ref().map(Sealing::key_id) && !is_old {
            return Ok(Changed::Is);
        }
        let to = self.to.as_ref().filter(|to| present == Some(to.key_id()));
        let opener = to.map(Sealing::records).or(self.from.as_ref());
        let (name, body) = match (opener, present) {
            (None, None) => (row.name.clone(), row.body.clone()),
            (Some(from), Some(_)) => match open_parts(from, &place, &row.body) {
                Ok(parts) => parts,
                Err(_) => return Ok(Changed::Unreadable),
            },
            // A plain row in a sealed database cannot be trusted, and a plain database has no sealed rows.
            _ => return Ok(Changed::Unreadable),
        };
        Ok(match &mut self.to {
            Some(to) => Changed::To(String::new(), to.message(&place, &name, &body)?.to_vec()),
            None => match String::from_utf8(name) {
                Ok(name) => Changed::To(name, body),
                Err(_) => Changed::Unreadable,
            },
        })
    }
}

enum Changed {
    /// The row already has its final form.
    Is,
    Unreadable,
    /// The row gets this name and body.
    To(String, Vec<u8>),
}

/// Deletes parked sessions, what became of others, and key windows, some at a time.
fn forget_sessions(conn: &Connection) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM parked WHERE id IN (SELECT id FROM parked LIMIT 1000)",
        "DELETE FROM standings WHERE id IN (SELECT id FROM standings LIMIT 1000)",
        "DELETE FROM keys WHERE id IN (SELECT id FROM keys LIMIT 1000)",
        "DELETE FROM common_keys WHERE (room, key) IN (SELECT room, key FROM common_keys LIMIT 1000)",
    ] {
        while conn.execute(sql, [])? > 0 {}
    }
    conn.execute("UPDATE rooms SET common = 0 WHERE common <> 0", []).map(drop)
}
