//! Databases of older versions: what takes one of the newest version back. Its rows stay what a server wrote, but that
//! sealed ones are sealed as before.

use rusqlite::Connection;

use crate::crypto::at_rest::{DataKey, LogSalt, NONCE, Place};
use crate::types::{Seq, SessionId, WallMillis};

/// `BACK[n]` takes version n + 2 back to version n + 1.
const BACK: [&str; 11] = [
    "DROP TABLE parked; ALTER TABLE meta DROP COLUMN token_key",
    "ALTER TABLE meta DROP COLUMN rekey; ALTER TABLE meta DROP COLUMN key_id",
    "DROP TABLE sealed_bodies_filled; DROP TABLE sealed_bodies",
    "ALTER TABLE meta DROP COLUMN clock",
    "ALTER TABLE meta DROP COLUMN scrubbed; ALTER TABLE meta DROP COLUMN damage",
    "ALTER TABLE messages DROP COLUMN key",
    "DROP INDEX rooms_by_oldest; ALTER TABLE rooms DROP COLUMN oldest_at; ALTER TABLE rooms DROP COLUMN oldest",
    "DROP TABLE free_rooms; DROP TABLE removals; DROP INDEX rooms_by_use; ALTER TABLE rooms DROP COLUMN used;
     ALTER TABLE rooms DROP COLUMN era",
    "DROP INDEX rooms_by_size; ALTER TABLE rooms DROP COLUMN bytes",
    // Those versions store a key, if rows are plain.
    "UPDATE meta SET token_key = CASE WHEN key_id IS NULL THEN token_salt END; ALTER TABLE meta DROP COLUMN token_salt",
    "DROP TABLE log_salt; ALTER TABLE meta DROP COLUMN log_salt",
];

/// The first version whose rows may be sealed.
pub const FIRST_SEALED: i32 = 3;

/// The first version that has a salt for the key of session tokens, and the first that has one for that of sealed rows.
pub const FIRST_WITH_A_TOKEN_SALT: i32 = 11;
pub const FIRST_WITH_A_LOG_SALT: i32 = 12;

/// Takes a database of the newest version back to an older one; see [`back_to`].
///
/// # Panics
/// There is no such older version, or the database is not a whole one, sealed with this key.
pub fn take_back(conn: &Connection, version: i32, key: Option<&DataKey>) {
    if let Some(key) = key.filter(|_| version < FIRST_WITH_A_LOG_SALT) {
        reseal(conn, key).expect("a sealed database");
    }
    conn.execute_batch(&back_to(version)).expect("a database of the newest version");
}

/// Seals all rows as older versions did it.
fn reseal(conn: &Connection, key: &DataKey) -> rusqlite::Result<()> {
    let salt: Vec<u8> = conn.query_row("SELECT log_salt FROM meta WHERE id = 1", [], |row| row.get(0))?;
    let records = key.records(&LogSalt::from_bytes(&salt).expect("a salt"));
    let again = |place: &Place, record: &[u8]| {
        let plain = records.open(place, record).expect("its record");
        let nonce = record.get(9..).and_then(|rest| rest.first_chunk::<NONCE>()).expect("a nonce");
        let mut out = Vec::new();
        records.seal_as_before(place, nonce, &[&plain], &mut out);
        out
    };
    let transaction = conn.unchecked_transaction()?;
    {
        let sql = "SELECT messages.id, messages.at, member, body, name, era
                   FROM (SELECT id, at, member, body FROM messages WHERE id > 0) AS messages
                   JOIN rooms ON rooms.id = messages.id >> 39";
        let mut statement = transaction.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            let room: String = row.get(4)?;
            let place = Place::Message {
                room: &room,
                era: number(5)?,
                seq: Seq(id as u64 & ((1 << 39) - 1)),
                at: WallMillis(number(1)?),
                member: row.get::<_, Option<i64>>(2)?.map(|member| member as u64),
            };
            let record = again(&place, &row.get::<_, Vec<u8>>(3)?);
            transaction.execute("UPDATE messages SET body = ?2 WHERE id = ?1", (id, record))?;
        }
        let mut statement = transaction.prepare("SELECT id, session, at, rooms FROM parked")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(2)?);
            let place = Place::Parked { session: SessionId(row.get(1)?), at: at as u64 };
            let record = again(&place, &row.get::<_, Vec<u8>>(3)?);
            transaction.execute("UPDATE parked SET rooms = ?2 WHERE id = ?1", (id, record))?;
        }
    }
    transaction.commit()
}

/// The versions before the newest one.
pub fn versions() -> std::ops::RangeInclusive<i32> {
    1..=BACK.len() as i32
}

/// Returns the SQL that takes a database of the newest version, closed in order, back to an older version. (A server
/// that was killed leaves heads and keys in the rows of messages alone, which versions before 7 do not know.) A sealed
/// one can go back to [`FIRST_SEALED`].
///
/// # Panics
/// There is no such older version.
pub fn back_to(version: i32) -> String {
    assert!(versions().contains(&version), "version {version} is not an older one");
    let back = BACK.iter().skip(version as usize - 1).rev().copied();
    let ends = format!("PRAGMA user_version = {version}");
    back.chain([ends.as_str()]).collect::<Vec<_>>().join("; ")
}
