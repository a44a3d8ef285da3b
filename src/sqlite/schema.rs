//! The tables, their versions, and the one row about the log as a whole. Uses SQL, but no files.

use std::collections::BTreeMap;

use rusqlite::ffi::{self, SQLITE_CORRUPT};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, params};

use super::damage::LONGEST_TOLD;
use super::log_salt;
use crate::crypto::at_rest::{DataKey, KeyId, LogSalt, plain_tokens};
use crate::types::{Durability, Epoch, Seq, WallMillis, harmless_start};

/// Marks a file as racerd's ("racr"), <https://www.sqlite.org/pragma.html#pragma_application_id>.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"racr");

/// `MIGRATIONS[n]` turns version n into version n + 1. Append only; version 0 is the empty file. The way back, for
/// tests, is in `testing/older.rs`.
const MIGRATIONS: &[&str] = &[
    "
    -- About the log as a whole: one row.
    CREATE TABLE meta (
        id         INTEGER PRIMARY KEY CHECK (id = 1),
        epoch      TEXT    NOT NULL,
        clean      INTEGER NOT NULL,  -- 1: the last run ended in order
        boot       TEXT    NOT NULL,  -- the kernel's boot id during the last run
        durability TEXT    NOT NULL,  -- of the last run
        running    INTEGER NOT NULL   -- seconds that racerd has run on this log in all
    );
    -- A room that ever had a message. Its row stays when its messages go, so that no seq is given twice.
    CREATE TABLE rooms (
        id     INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 0xffffff),
        name   TEXT    NOT NULL UNIQUE,
        head   INTEGER NOT NULL,
        at     INTEGER NOT NULL,      -- of the head, milliseconds since 1970
        common INTEGER NOT NULL       -- rows in common_keys
    );
    -- The id is the room's id and the seq in one number, so rows lie by room and seq, and a page is one stretch. (A key
    -- of two columns needs WITHOUT ROWID, whose rows spill into a page of their own from a quarter of a page on: a
    -- message of 1 KB would take 4.6.) Room 0 is scratch space for the probe.
    CREATE TABLE messages (
        id     INTEGER PRIMARY KEY,
        at     INTEGER NOT NULL,
        member INTEGER,
        name   TEXT    NOT NULL,
        body   BLOB    NOT NULL
    );
    -- The last keys of one session in one room. The long row is found by an index and rewritten in its own page; the
    -- index changes only when a sender is new.
    CREATE TABLE keys (
        id      INTEGER PRIMARY KEY,
        room    INTEGER NOT NULL,
        session BLOB    NOT NULL,
        used    INTEGER NOT NULL,     -- in running seconds
        entries BLOB    NOT NULL,
        UNIQUE (room, session)
    );
    -- Keys of POSTs without an identity.
    CREATE TABLE common_keys (
        room INTEGER NOT NULL,
        key  BLOB    NOT NULL,
        body BLOB    NOT NULL,
        seq  INTEGER NOT NULL,
        at   INTEGER NOT NULL,
        PRIMARY KEY (room, key)
    ) WITHOUT ROWID;
    CREATE INDEX common_keys_by_age ON common_keys (room, seq);
",
    "
    -- What session tokens are sealed with. It stays with the log, so that tokens outlive a restart.
    ALTER TABLE meta ADD COLUMN token_key BLOB;
    -- Sessions that nobody is attached to. Ids rise with the time of parking.
    CREATE TABLE parked (
        id         INTEGER PRIMARY KEY,
        session    BLOB    NOT NULL UNIQUE,
        at         INTEGER NOT NULL,  -- when it was parked, in running seconds
        member     INTEGER NOT NULL,
        name       TEXT    NOT NULL,
        generation INTEGER NOT NULL,
        rooms      BLOB    NOT NULL   -- each room's id and the last seq queued there
    );
",
    "
    -- The key that messages and parked sessions are sealed with, by its id; NULL: they are plain.
    ALTER TABLE meta ADD COLUMN key_id BLOB;
    -- While a rekey is under way: the key that they are to be sealed with, empty for none.
    ALTER TABLE meta ADD COLUMN rekey BLOB;
",
    "
    -- The digest of each encrypted message that is kept, by the message's id. It goes with the message.
    CREATE TABLE sealed_bodies (
        id     INTEGER PRIMARY KEY,
        digest BLOB    NOT NULL
    );
    CREATE INDEX sealed_bodies_by_digest ON sealed_bodies (digest);
    -- Messages up to this id are in it, whenever they were stored; the greatest number: all are. One row.
    CREATE TABLE sealed_bodies_filled (upto INTEGER NOT NULL);
    INSERT INTO sealed_bodies_filled (upto) VALUES (0);
",
    "
    -- What the wall clock has shown lately, where messages go by their age (ages.rs).
    ALTER TABLE meta ADD COLUMN clock BLOB;
",
    "
    -- What was found to be damaged while a server ran, for the next start.
    ALTER TABLE meta ADD COLUMN damage TEXT;
    -- The running seconds at which all of the database had last been read through.
    ALTER TABLE meta ADD COLUMN scrubbed INTEGER;
",
    "
    -- The idempotency key of a message that had one (message_key.rs). A room's head and at, the windows in keys, and
    -- common_keys are written by folds (fold.rs) from now on: for messages behind the head in the room's row, they are
    -- in the rows of the messages alone.
    ALTER TABLE messages ADD COLUMN key BLOB;
",
    "
    -- The seq and the time of a room's oldest message, NULL without any: retention finds by them what is due. Written when
    -- an empty room gets a message, and when a room is pruned.
    ALTER TABLE rooms ADD COLUMN oldest INTEGER;
    ALTER TABLE rooms ADD COLUMN oldest_at INTEGER;
    UPDATE rooms SET (oldest, oldest_at) = (SELECT id & (1 << 39) - 1, at FROM messages
        WHERE messages.id > rooms.id << 39 AND messages.id < (rooms.id + 1) << 39 ORDER BY messages.id LIMIT 1);
    CREATE INDEX rooms_by_oldest ON rooms (oldest_at) WHERE oldest_at IS NOT NULL;
",
    "
    -- Rooms that nobody uses are removed (removal.rs), and come anew under another epoch: which of its name a room is.
    ALTER TABLE rooms ADD COLUMN era INTEGER NOT NULL DEFAULT 0;
    -- When an empty room was last used, in running seconds.
    ALTER TABLE rooms ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    UPDATE rooms SET used = coalesce((SELECT running FROM meta WHERE id = 1), 0);
    CREATE INDEX rooms_by_use ON rooms (oldest, used) WHERE oldest IS NULL;
    -- How many rooms were removed whose names have this place (removal::place).
    CREATE TABLE removals (place INTEGER PRIMARY KEY, count INTEGER NOT NULL);
    -- Their ids, which are given again.
    CREATE TABLE free_rooms (id INTEGER PRIMARY KEY);
",
    "
    -- About how many bytes a room's messages take (sizes.rs); the large ones are found by it. For those of before, as many
    -- times the average as there are messages.
    ALTER TABLE rooms ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE rooms SET bytes = (head - oldest + 1) * (SELECT total.bytes / total.messages FROM (
        SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size) AS bytes,
            (SELECT sum(head - oldest + 1) FROM rooms WHERE oldest IS NOT NULL AND head >= oldest) AS messages) AS total)
        WHERE oldest IS NOT NULL AND head >= oldest;
    CREATE INDEX rooms_by_size ON rooms (bytes) WHERE bytes >= 16384;
",
    "
    -- The salt of the key of session tokens (token_key). Empty in a copy: its first start draws another. NULL: the key is
    -- that of before this column, token_key or one derived from the data key without a salt.
    ALTER TABLE meta ADD COLUMN token_salt BLOB;
",
    "
    -- What the key of sealed rows is derived with, beside the data key (LogSalt). The same in a table of its own, so that
    -- it outlives the loss of a page.
    ALTER TABLE meta ADD COLUMN log_salt BLOB;
    CREATE TABLE log_salt (id INTEGER PRIMARY KEY, salt BLOB NOT NULL);
",
    "
    -- What became of sessions that were in a room (standings.rs). The id is half a digest of the session's.
    CREATE TABLE standings (
        id         INTEGER PRIMARY KEY,
        at         INTEGER NOT NULL,  -- when it was written, in running seconds
        generation INTEGER            -- the highest one of its tokens that was presented; NULL: it has ended
    );
",
];

/// The version that this racerd writes.
pub const VERSION: i32 = 13;

const _: () = assert!(MIGRATIONS.len() == VERSION as usize, "a migration for each version");

/// The versions that brought what a look at an older database has to do without.
pub(super) mod since {
    /// `meta.damage`.
    pub const DAMAGE_NOTED: i32 = 6;
    /// `messages.key`; before, each commit wrote the head of its room and its keys.
    pub const FOLDS: i32 = 7;
    /// `rooms.oldest` and `rooms.oldest_at`.
    pub const OLDEST: i32 = 8;
    /// `free_rooms`, and `rooms.era`.
    pub const REMOVAL: i32 = 9;
    /// `standings`.
    pub const STANDINGS: i32 = 13;
}

/// Returns the database's version: 0 for an empty file, and possibly one that this racerd does not know.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i32> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Describes a database of an older version, after a word for it; `None` for any other.
pub(super) fn older(version: i32) -> Option<String> {
    (version < VERSION).then(|| {
        format!(
            "has database version {version}; this racerd writes version {VERSION}, and raises the database to that when a \
             server first starts on it"
        )
    })
}

/// Describes what a migration has done to a database that had tables, after a word for it; `None` for any other.
pub(super) fn raised(before: i32) -> Option<String> {
    (1..VERSION)
        .contains(&before)
        .then(|| format!("had database version {before}, and has {VERSION} now: an older racerd refuses it"))
}

/// Migrates an empty or older database to [`VERSION`], in one transaction. Returns the resulting version; a database of
/// a newer version is left as it is.
///
/// # Errors
/// Tables that are not those of the database's version count as damage, and nothing is changed.
pub(super) fn migrate(conn: &Connection) -> rusqlite::Result<i32> {
    let version = version(conn)?;
    if version >= VERSION {
        return Ok(version);
    }
    let is_empty = version == 0 && tables(conn)?.is_empty();
    if let Some(wrong) = wrong_tables(conn)?.filter(|_| !is_empty) {
        return Err(Error::SqliteFailure(ffi::Error::new(SQLITE_CORRUPT), Some(wrong)));
    }
    let missing = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).unwrap_or_default();
    let transaction = conn.unchecked_transaction()?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(VERSION)
}

/// The facts about a run of racerd that are recorded in the log.
pub(super) struct Run<'a> {
    pub durability: Durability,
    /// The kernel's boot id; empty if unknown.
    pub boot: &'a str,
    /// A new epoch, used if one is needed.
    pub fresh: &'a str,
    /// A new salt for the key of session tokens, used if there is none.
    pub new_token_salt: [u8; 32],
    /// A new salt for the key of sealed rows, used if there is none.
    pub new_log_salt: LogSalt,
    /// `None` if rows are not sealed.
    pub data_key: Option<&'a DataKey>,
    /// Whether something is known to be lost: the epoch ends then.
    pub lost: bool,
}

/// The state in which a run finds the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub epoch: Epoch,
    pub token_key: [u8; 32],
    pub log_salt: LogSalt,
    /// Seconds that racerd had run on this log before.
    pub running: u64,
    /// The running seconds when a background check last completed; `None` if none ever did.
    pub scrubbed: Option<u64>,
}

/// Marks the log as in use, and decides whether its epoch still holds. Assigned seqs may be lost, and would be assigned
/// again, if the last run did not sync, was not shut down cleanly, and the machine has been restarted since.
pub(super) fn begin_run(conn: &Connection, run: &Run) -> rusqlite::Result<Begun> {
    let transaction = conn.unchecked_transaction()?;
    let last = transaction
        .query_row(
            "SELECT epoch, clean, boot, durability, running, token_key, token_salt, scrubbed FROM meta WHERE id = 1",
            [],
            |row| {
                let epoch: String = row.get(0)?;
                let clean: bool = row.get(1)?;
                let boot: String = row.get(2)?;
                let synced = row.get_ref(3)?.as_str()? == Durability::Full.as_str();
                let safe = clean || synced || (boot == run.boot && !boot.is_empty());
                let (key, salt) = (row.get_ref(5)?.as_blob_or_null()?, row.get_ref(6)?.as_blob_or_null()?);
                // A copy that an older racerd made has no epoch, but the key of its original.
                let key = if epoch.is_empty() { Some(&b""[..]) } else { key };
                let tokens = TokenKey::of(key, salt, run);
                // A backup has no epoch: seqs assigned after it was made could be assigned again.
                let epoch = Some(epoch).filter(|epoch| safe && !run.lost && !epoch.is_empty());
                Ok((epoch, row.get::<_, i64>(4)?, tokens, row.get::<_, Option<i64>>(7)?))
            },
        )
        .optional()?;
    // What is new has nothing to be read through.
    let new = TokenKey::Salted(run.new_token_salt);
    let (epoch, running, tokens, scrubbed) = last.unwrap_or((None, 0, new, Some(0)));
    let epoch = epoch.unwrap_or_else(|| run.fresh.to_owned());
    let (stored, salt) = match &tokens {
        TokenKey::Salted(salt) => (None, Some(salt)),
        TokenKey::Stored(key) => (Some(key), None),
        TokenKey::Derived(_) => (None, None),
    };
    let key_id = run.data_key.map(|key| key.id().0);
    transaction.execute(
        "INSERT INTO meta (id, epoch, clean, boot, durability, running, token_key, token_salt, key_id, scrubbed)
         VALUES (1, ?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, clean = 0, boot = excluded.boot,
             durability = excluded.durability, token_key = excluded.token_key, token_salt = excluded.token_salt,
             key_id = excluded.key_id, rekey = NULL, damage = NULL, scrubbed = excluded.scrubbed",
        params![epoch, run.boot, run.durability.as_str(), running, stored, salt, key_id, scrubbed],
    )?;
    let log_salt = log_salt::keep(&transaction, run.new_log_salt)?;
    // Deletes the leftover of an interrupted probe.
    transaction.execute("DELETE FROM messages WHERE id = ?1", [SCRATCH])?;
    transaction.commit()?;
    let token_key = tokens.key(run.data_key);
    Ok(Begun {
        epoch: Epoch(epoch.into()),
        token_key,
        log_salt,
        running: number(running),
        scrubbed: scrubbed.map(number),
    })
}

/// What the key of session tokens is made of.
enum TokenKey {
    /// A salt, and the data key if there is one.
    Salted([u8; 32]),
    /// In a database of before there were salts, which was never copied: a key that is stored, ...
    Stored([u8; 32]),
    /// ... or one that was derived from the data key alone.
    Derived([u8; 32]),
}

impl TokenKey {
    /// Reads it from its columns. What has another length was made void in a copy, or is damaged: there is a new one
    /// then.
    fn of(key: Option<&[u8]>, salt: Option<&[u8]>, run: &Run) -> TokenKey {
        let exact = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
        let new = TokenKey::Salted(run.new_token_salt);
        match (salt, key, run.data_key) {
            (Some(salt), ..) => exact(salt).map_or(new, TokenKey::Salted),
            (None, None, Some(data_key)) => TokenKey::Derived(*data_key.tokens(None)),
            (None, Some(key), None) => exact(key).map_or(new, TokenKey::Stored),
            (None, ..) => new,
        }
    }

    fn key(&self, data_key: Option<&DataKey>) -> [u8; 32] {
        match (self, data_key) {
            (TokenKey::Salted(salt), Some(key)) => *key.tokens(Some(salt)),
            (TokenKey::Salted(salt), None) => *plain_tokens(salt),
            (TokenKey::Stored(key) | TokenKey::Derived(key), _) => *key,
        }
    }
}

/// How the rows of a database are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The key they are sealed with; `None` if they are plain.
    pub with: Option<KeyId>,
    /// The target of an interrupted rekey: some rows are already sealed with this key, or are plain if the inner value
    /// is `None`.
    pub rekey: Option<Option<KeyId>>,
}

/// Returns how the log's rows are sealed; `None` if the log was never used. Changes nothing, even in a database of an
/// older version.
pub(super) fn sealed(conn: &Connection) -> rusqlite::Result<Option<Sealed>> {
    if !has(conn, "id")? {
        return Ok(None);
    }
    let sql = match has(conn, "key_id")? && has(conn, "rekey")? {
        true => "SELECT key_id, rekey FROM meta WHERE id = 1",
        false => "SELECT NULL, NULL FROM meta WHERE id = 1",
    };
    let id = |bytes: &[u8]| bytes.try_into().ok().map(KeyId);
    conn.query_row(sql, [], |row| {
        let (with, rekey) = (row.get_ref(0)?.as_blob_or_null()?, row.get_ref(1)?.as_blob_or_null()?);
        let with = with.map(|bytes| id(bytes).ok_or_else(|| wrong_id(0))).transpose()?;
        let rekey = match rekey {
            Some([]) => Some(None),
            Some(bytes) => Some(Some(id(bytes).ok_or_else(|| wrong_id(1))?)),
            None => None,
        };
        Ok(Sealed { with, rekey })
    })
    .optional()
}

/// Returns whether the table `meta` has this column: databases of older versions lack some.
pub(super) fn has(conn: &Connection, column: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info('meta') WHERE name = ?1";
    conn.query_row(sql, [column], |row| row.get::<_, i64>(0)).map(|count| count == 1)
}

fn wrong_id(column: usize) -> Error {
    Error::InvalidColumnType(column, "key_id".into(), Type::Blob)
}

/// Records how the rows of a salvaged log are sealed.
pub(super) fn put_sealed(conn: &Connection, sealed: Sealed) -> rusqlite::Result<()> {
    let rekey = sealed.rekey.map(|to| to.map_or(Vec::new(), |id| id.0.to_vec()));
    conn.execute(
        "INSERT INTO meta (id, epoch, clean, boot, durability, running, token_salt, key_id, rekey)
         VALUES (1, '', 1, '', 'full', 0, x'', ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, rekey = excluded.rekey",
        params![sealed.with.map(|id| id.0), rekey],
    )
    .map(drop)
}

/// Begins or continues a rekey: until it ends, no server may open the log. Existing tokens become invalid, and
/// everything that belongs to sessions ends with them.
pub(super) fn begin_rekey(conn: &Connection, to: Option<KeyId>) -> rusqlite::Result<()> {
    let to = to.map_or(Vec::new(), |id| id.0.to_vec());
    conn.execute("UPDATE meta SET rekey = ?1 WHERE id = 1", [to])?;
    void_tokens(conn)
}

/// Ends a rekey, once all rows have their final form.
pub(super) fn end_rekey(conn: &Connection, to: Option<KeyId>) -> rusqlite::Result<()> {
    conn.execute("UPDATE meta SET key_id = ?1, rekey = NULL WHERE id = 1", [to.map(|id| id.0)]).map(drop)
}

/// Records a clean shutdown. Everything committed before must reach the disk before this record does. `clean` is false
/// if damage was found: the next start then checks the database.
pub(super) fn end_run(conn: &Connection, running: u64, clean: bool) -> rusqlite::Result<()> {
    conn.execute("UPDATE meta SET clean = ?2, running = ?1 WHERE id = 1", params![integer(running), clean]).map(drop)
}

/// Returns the stored history of the wall clock, empty if there is none.
pub(super) fn clock(conn: &Connection) -> rusqlite::Result<Vec<u8>> {
    let found = conn.query_row("SELECT clock FROM meta WHERE id = 1", [], |row| {
        // A value of another type is damaged, and counts as none.
        Ok(row.get_ref(0)?.as_blob_or_null().ok().flatten().unwrap_or_default().to_vec())
    });
    Ok(found.optional()?.unwrap_or_default())
}

/// Returns the newest timestamp of a room's last message, if there is any; for a room without messages, that in its
/// row. Looks at each room.
pub(super) fn newest(conn: &Connection) -> rusqlite::Result<Option<WallMillis>> {
    let sql = "SELECT max(at) FROM (
                   SELECT CASE WHEN head > 0 THEN at END AS at FROM rooms
                   UNION ALL
                   SELECT (SELECT at FROM messages
                           WHERE messages.id > (rooms.id << 39) + head AND messages.id < (rooms.id + 1) << 39
                           ORDER BY messages.id DESC LIMIT 1) FROM rooms)";
    let newest: Option<i64> = conn.query_row(sql, [], |row| row.get(0))?;
    Ok(newest.map(|at| WallMillis(number(at))))
}

/// Returns the running seconds, as last stored.
pub(super) fn running(conn: &Connection) -> rusqlite::Result<u64> {
    let running: Option<i64> =
        conn.prepare_cached("SELECT running FROM meta WHERE id = 1")?.query_row([], |row| row.get(0)).optional()?;
    Ok(number(running.unwrap_or(0)))
}

/// Stores the history of the wall clock, and the running seconds with it.
pub(super) fn put_clock(conn: &Connection, shown: &[u8], running: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE meta SET clock = ?1, running = ?2 WHERE id = 1")?
        .execute(params![shown, integer(running)])
        .map(drop)
}

/// Records that the log is damaged; an earlier record stays.
pub(super) fn note_damage(conn: &Connection, what: &str) -> rusqlite::Result<()> {
    let what = harmless_start(what, LONGEST_TOLD);
    conn.execute("UPDATE meta SET damage = coalesce(damage, ?1) WHERE id = 1", [what]).map(drop)
}

/// Removes the record of damage, after the whole log was read and found intact. Older versions have none.
pub(super) fn forget_damage(conn: &Connection) -> rusqlite::Result<()> {
    if version(conn)? < since::DAMAGE_NOTED {
        return Ok(());
    }
    conn.execute("UPDATE meta SET damage = NULL WHERE id = 1", []).map(drop)
}

/// Returns the damage that an earlier run has recorded.
pub(super) fn noted_damage(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let noted = conn.query_row("SELECT damage FROM meta WHERE id = 1", [], |row| row.get(0)).optional()?;
    Ok(noted.flatten())
}

/// Records the running second at which the whole log was last read.
pub(super) fn note_scrubbed(conn: &Connection, running: u64) -> rusqlite::Result<()> {
    conn.execute("UPDATE meta SET scrubbed = ?1 WHERE id = 1", [integer(running)]).map(drop)
}

/// How the last run on the log ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastRun {
    pub clean: bool,
    /// Whether the WAL may have holes: it was not synced, and the machine may have lost power since.
    pub holes: bool,
}

/// Returns how the last run ended, as seen from this boot; `None` if there was none.
pub(super) fn last_run(conn: &Connection, boot: &str) -> rusqlite::Result<Option<LastRun>> {
    conn.query_row("SELECT clean, boot, durability FROM meta WHERE id = 1", [], |row| {
        let synced = row.get_ref(2)?.as_str()? == Durability::Full.as_str();
        let same_boot = row.get_ref(1)?.as_str()? == boot && !boot.is_empty();
        Ok(LastRun { clean: row.get(0)?, holes: !synced && !same_boot })
    })
    .optional()
}

/// Removes the epoch from a copy, so that its next start creates a new one: seqs assigned in the original may be
/// assigned again in the copy. Session tokens of the original are void there.
pub(super) fn forget_epoch(conn: &Connection) -> rusqlite::Result<()> {
    // Otherwise most of the key's bytes stay in what the shorter row leaves free of its page.
    conn.execute_batch("PRAGMA secure_delete = ON")?;
    conn.execute("UPDATE meta SET epoch = '', clean = 1 WHERE id = 1", [])?;
    void_tokens(conn)?;
    if version(conn)? >= since::STANDINGS {
        // No token of theirs opens any more.
        while conn.execute("DELETE FROM standings WHERE id IN (SELECT id FROM standings LIMIT 1000)", [])? > 0 {}
    }
    Ok(())
}

/// Removes what the key of session tokens is made of: the next start makes another. A database of an older version
/// keeps the mark when it is migrated.
fn void_tokens(conn: &Connection) -> rusqlite::Result<()> {
    if has(conn, "token_key")? {
        conn.execute("UPDATE meta SET token_key = x'' WHERE id = 1", [])?;
    }
    if has(conn, "token_salt")? {
        conn.execute("UPDATE meta SET token_salt = x'' WHERE id = 1", [])?;
    }
    Ok(())
}

/// Stores what a salvage has found about the log as a whole. The larger number of seconds is kept.
pub(super) fn put_meta(conn: &Connection, running: u64) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO meta (id, epoch, clean, boot, durability, running, token_salt)
         VALUES (1, '', 1, '', 'full', ?1, x'')
         ON CONFLICT (id) DO UPDATE SET running = max(running, excluded.running)",
        [integer(running)],
    )
    .map(drop)
}

/// Returns what is wrong with the tables, if anything: each must exist as the migrations up to the database's version
/// create it, and none of a later one.
pub(super) fn wrong_tables(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let version = version(conn)?;
    let steps = usize::try_from(version).ok().filter(|steps| *steps > 0);
    let Some((present, later)) = steps.and_then(|steps| MIGRATIONS.split_at_checked(steps)) else {
        return Ok(Some(format!("its header has version {version}, which no database of this racerd has")));
    };
    let model = Connection::open_in_memory()?;
    model.execute_batch(&present.concat())?;
    let (found, expected) = (tables(conn)?, tables(&model)?);
    if let Some((name, _)) = expected.iter().find(|(name, sql)| found.get(*name) != Some(*sql)) {
        return Ok(Some(format!("its table or index {name} is missing or another one")));
    }
    model.execute_batch(&later.concat())?;
    let surplus = tables(&model)?.into_keys().find(|name| !expected.contains_key(name) && found.contains_key(name));
    Ok(surplus
        .map(|name| format!("its table or index {name} is of a later version than its header, which has {version}")))
}

/// Returns the tables and indexes by their names, with the SQL that creates them; an automatic index has none.
fn tables(conn: &Connection) -> rusqlite::Result<BTreeMap<String, Option<String>>> {
    let mut statement = conn.prepare("SELECT name, sql FROM sqlite_schema")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Bits of a message's id that hold the seq: 5 * 10^11 messages in a room, and 2^24 - 1 rooms.
const SEQ_BITS: u32 = 39;

const _: () = assert!(SEQ_BITS == 39, "the SQL of newest, of a migration, and of prune.rs shift by so many");

/// The last seq that a room can assign.
const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// Returns the greatest id of a room.
pub(super) fn last_room(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT coalesce(max(id), 0) FROM rooms")?.query_row([], |row| row.get(0)).map(number)
}

/// The greatest id that a room can have, and so the greatest number of rooms.
pub(super) const ROOM_IDS: u64 = 0xff_ffff;

/// The id of the probe's message.
pub(super) const SCRATCH: i64 = 1;

/// Returns the id of a room's message; `None` past the room's last possible seq.
pub(super) fn message_id(room: i64, seq: Seq) -> Option<i64> {
    (seq.0 <= SEQ_MAX).then(|| (room << SEQ_BITS) | integer(seq.0))
}

/// Returns the greatest id that the room's messages up to this seq can have; all of them are above the id of seq 0.
pub(super) fn last_id(room: i64, seq: Seq) -> i64 {
    (room << SEQ_BITS) | integer(seq.0.min(SEQ_MAX))
}

/// Returns the room's id in a message's id.
pub(super) fn room_of(id: i64) -> i64 {
    id >> SEQ_BITS
}

/// Returns the seq in a message's id.
pub(super) fn seq_of(id: i64) -> Seq {
    Seq(number(id) & SEQ_MAX)
}

/// Converts a number for SQLite, whose integers end at 2^63 - 1, which no seq and no time reaches.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a number from SQLite; a negative one, which only damage can cause, is 0.
pub(super) fn number(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}

#[cfg(test)]
mod tests;
