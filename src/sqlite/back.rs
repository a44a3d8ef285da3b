//! Takes a database of the newest version back to an older one, for tests: its rows stay what a server wrote, but that
//! sealed ones are sealed as before.

use rusqlite::Connection;

use super::schema::{number, seq_of};
use crate::crypto::at_rest::{DataKey, LogSalt, NONCE, Place};
use crate::types::{SessionId, WallMillis};

/// Takes a database of the newest version back to an older one with this SQL. Rows that are sealed with this key are
/// sealed as before.
///
/// # Panics
/// The database is not a whole one, sealed with this key.
pub fn take_back(conn: &Connection, sql: &str, key: Option<&DataKey>) {
    if let Some(key) = key {
        // proof: a test gives what the documentation asks for, and fails otherwise; so below.
        reseal(conn, key).expect("a sealed database");
    }
    // proof: as above.
    conn.execute_batch(sql).expect("a database of the newest version");
}

/// Seals all rows as older versions did it.
fn reseal(conn: &Connection, key: &DataKey) -> rusqlite::Result<()> {
    let salt: Vec<u8> = conn.query_row("SELECT log_salt FROM meta WHERE id = 1", [], |row| row.get(0))?;
    // proof: as in `take_back`.
    let records = key.records(&LogSalt::from_bytes(&salt).expect("a salt"));
    let again = |place: &Place, record: &[u8]| {
        // proof: as in `take_back`.
        let plain = records.open(place, record).expect("its record");
        // proof: a record that opens has one.
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
            let number = |column| row.get(column).map(number);
            let room: String = row.get(4)?;
            let place = Place::Message {
                room: &room,
                era: number(5)?,
                seq: seq_of(id),
                at: WallMillis(number(1)?),
                member: row.get::<_, Option<i64>>(2)?.map(super::schema::number),
            };
            let record = again(&place, &row.get::<_, Vec<u8>>(3)?);
            transaction.execute("UPDATE messages SET body = ?2 WHERE id = ?1", (id, record))?;
        }
        let mut statement = transaction.prepare("SELECT id, session, at, rooms FROM parked")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(2)?);
            let place = Place::Parked { session: SessionId(row.get(1)?), at: number(at) };
            let record = again(&place, &row.get::<_, Vec<u8>>(3)?);
            transaction.execute("UPDATE parked SET rooms = ?2 WHERE id = ?1", (id, record))?;
        }
    }
    transaction.commit()
}
