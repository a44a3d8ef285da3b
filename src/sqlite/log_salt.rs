//! The salt of a database: what the key of its sealed rows is derived with, beside the data key. It is stored in two
//! places, each with a checksum, since nothing that is sealed can be read without it.

use rusqlite::ffi::{self, SQLITE_CORRUPT};
use rusqlite::{Connection, Error, OptionalExtension as _, Row};

use super::schema;
use crate::crypto::at_rest::LogSalt;

/// The salt of a database, as it is found.
pub(super) enum Salt {
    /// There never was one: nothing is sealed with any.
    None,
    Is(LogSalt),
    /// What is stored is none.
    Damaged,
}

/// Looks for the salt of a database of any version, in both its places. Returns what was found, and whether both places
/// agree.
pub(super) fn find(conn: &Connection) -> rusqlite::Result<(Salt, bool)> {
    if !schema::has(conn, "log_salt")? {
        return Ok((Salt::None, true));
    }
    let read = |sql: &str| -> rusqlite::Result<Option<Vec<u8>>> {
        // A value of another type is damaged.
        let bytes = |row: &Row<'_>| Ok(row.get_ref(0)?.as_blob_or_null().unwrap_or(Some(b"")).map(<[u8]>::to_vec));
        Ok(conn.query_row(sql, [], bytes).optional()?.flatten())
    };
    let (one, other) =
        (read("SELECT log_salt FROM meta WHERE id = 1")?, read("SELECT salt FROM log_salt WHERE id = 1")?);
    let salt = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(LogSalt::from_bytes);
    let found = match (salt(&one).or_else(|| salt(&other)), one.is_none() && other.is_none()) {
        (Some(salt), _) => Salt::Is(salt),
        (None, true) => Salt::None,
        (None, false) => Salt::Damaged,
    };
    Ok((found, one == other))
}

/// Returns the salt of a database for reading; where none is known, one with which nothing is sealed.
pub(super) fn known(conn: &Connection) -> rusqlite::Result<LogSalt> {
    Ok(match find(conn)?.0 {
        Salt::Is(salt) => salt,
        Salt::None | Salt::Damaged => LogSalt([0; 16]),
    })
}

/// Returns the salt of a database, and stores it in both its places, where it is not; `new` if there never was one.
///
/// # Errors
/// It is lost, and something may be sealed with it.
pub(super) fn keep(conn: &Connection, new: LogSalt) -> rusqlite::Result<LogSalt> {
    let (salt, is_stored) = match find(conn)? {
        (Salt::Is(salt), agree) => (salt, agree),
        (Salt::None, _) => (new, false),
        (Salt::Damaged, _) => {
            let key: Option<Vec<u8>> = conn.query_row("SELECT key_id FROM meta WHERE id = 1", [], |row| row.get(0))?;
            if key.is_some() {
                let text = String::from("the salt of what is sealed is damaged in both its places");
                return Err(Error::SqliteFailure(ffi::Error::new(SQLITE_CORRUPT), Some(text)));
            }
            (new, false)
        }
    };
    if !is_stored {
        put(conn, salt)?;
    }
    Ok(salt)
}

/// Stores the salt of a database in both its places, if there is a row about the log as a whole.
pub(super) fn put(conn: &Connection, salt: LogSalt) -> rusqlite::Result<()> {
    let bytes = salt.to_bytes();
    conn.execute("UPDATE meta SET log_salt = ?1 WHERE id = 1", [bytes])?;
    conn.execute("INSERT OR REPLACE INTO log_salt (id, salt) VALUES (1, ?1)", [bytes]).map(drop)
}
