//! Salvage of sealed rows. A row that keeps its seq needs no key; a row that has to move is sealed anew for its new
//! seq. With the key, rows that do not open count as lost.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::image::Value;
use super::salvage::{Failed, Moved};
use crate::crypto::at_rest::{DataKey, KeyId, LogSalt};
use crate::sqlite::log_salt;
use crate::sqlite::schema::{self, Sealed, integer, last_id, number, seq_of};
use crate::sqlite::sealing::{self, Sealing, message_place, open_parked, open_parts};
use crate::types::{Era, RoomId, Seq, SessionId, WallMillis};

/// How many of its name a room whose row is lost may be, from the last one that is known of.
const ERAS: usize = 100_000;

/// Returns whether a message is sealed with a salt.
fn is_bound(to: &Connection) -> rusqlite::Result<bool> {
    to.prepare("SELECT 1 FROM messages WHERE name = '' AND substr(body, 1, 1) = x'02' LIMIT 1")?.exists([])
}

/// The facts known about how the rows are sealed.
pub(super) struct SealedRows {
    key: Option<DataKey>,
    /// How rows are sealed according to the log's own row, if that was found.
    log: Option<Sealed>,
    /// The salt of what is sealed, as far as it was found.
    salt: Option<LogSalt>,
    /// Number of sealed rows found, by the key id that they state.
    seen: BTreeMap<KeyId, u64>,
    /// Opens and seals rows, once it is known that the key is theirs.
    sealing: Option<Sealing>,
}

impl SealedRows {
    pub fn new(key: Option<&DataKey>) -> SealedRows {
        SealedRows { key: key.cloned(), log: None, salt: None, seen: BTreeMap::new(), sealing: None }
    }

    /// Records how rows are sealed according to the log's own row.
    pub fn log_says(&mut self, key_id: &Value, rekey: &Value) {
        let id = |bytes: &[u8]| bytes.try_into().ok().map(KeyId);
        let with = if let Value::Blob(bytes) = key_id { id(bytes) } else { None };
        let rekey = if let Value::Blob(bytes) = rekey { Some(id(bytes)) } else { None };
        self.log = Some(Sealed { with, rekey });
    }

    /// Records a salt that was found.
    pub fn salt_is(&mut self, salt: LogSalt) {
        self.salt = Some(salt);
    }

    /// Counts a sealed row that states this key id.
    pub fn saw(&mut self, id: KeyId) {
        *self.seen.entry(id).or_default() += 1;
    }

    /// Records how the rows are sealed, once all were found, and deletes those that no server would trust.
    pub fn begin(&mut self, to: &Connection) -> Result<(), Failed> {
        let most = self.seen.iter().max_by_key(|(_, count)| **count).map(|(id, _)| *id);
        let sealed = self.log.unwrap_or(Sealed { with: most, rekey: None });
        if sealed == Sealed::default() {
            return Ok(());
        }
        schema::put_sealed(to, sealed)?;
        let salt = match self.salt {
            Some(salt) => salt,
            None if is_bound(to)? => {
                let why = "the salt of what is sealed is lost in both its places, so that it cannot be read any more; restore \
                           a backup";
                return Err(Failed::Key(why.to_owned()));
            }
            // Older versions had none.
            None => sealing::new_salt()?,
        };
        log_salt::put(to, salt)?;
        let Some(id) = sealed.with.filter(|_| sealed.rekey.is_none()) else { return Ok(()) };
        to.execute("DELETE FROM messages WHERE name <> ''", [])?;
        match &self.key {
            Some(key) if key.id() == id => self.sealing = Some(Sealing::new(key, &salt)),
            Some(key) => {
                let given = key.id();
                return Err(Failed::Key(format!("it is sealed with the data key {id}, and the given one is {given}")));
            }
            None => {}
        }
        Ok(())
    }

    /// Returns which of its name a room is whose row is lost: the last one, up to `most`, whose messages open.
    pub fn era_of(&self, to: &Connection, room: i64, name: &RoomId, most: Era) -> rusqlite::Result<Era> {
        let Some(sealing) = &self.sealing else { return Ok(Era::FIRST) };
        let range = [last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))];
        let last = to
            .prepare_cached(
                "SELECT id, at, member, body FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(range, |row| {
                let member = row.get::<_, Option<i64>>(2)?.map(number);
                Ok((row.get(0)?, WallMillis(number(row.get(1)?)), member, row.get_ref(3)?.as_bytes()?.to_vec()))
            })
            .optional()?;
        let Some((id, at, member, body)) = last else { return Ok(Era::FIRST) };
        let opens = |era: &Era| {
            let place = message_place((name.as_str(), *era), seq_of(id), at, member);
            open_parts(sealing.records(), &place, &body).is_ok()
        };
        Ok((0..=most.0).rev().take(ERAS).map(Era).find(opens).unwrap_or(Era::FIRST))
    }

    /// Deletes the messages of a room that do not open, if there is a key.
    pub fn drop_unreadable(&self, to: &Connection, room: i64, (name, era): (&RoomId, Era)) -> rusqlite::Result<()> {
        let Some(sealing) = &self.sealing else { return Ok(()) };
        let range = [last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))];
        let mut gone: Vec<i64> = Vec::new();
        {
            let mut statement =
                to.prepare_cached("SELECT id, at, member, body FROM messages WHERE id > ?1 AND id <= ?2")?;
            let mut rows = statement.query(range)?;
            while let Some(row) = rows.next()? {
                let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
                let member = row.get::<_, Option<i64>>(2)?.map(number);
                let place = message_place((name.as_str(), era), seq_of(id), WallMillis(number(at)), member);
                if open_parts(sealing.records(), &place, row.get_ref(3)?.as_bytes()?).is_err() {
                    gone.push(id);
                }
            }
        }
        let mut delete = to.prepare_cached("DELETE FROM messages WHERE id = ?1")?;
        for id in gone {
            delete.execute([id])?;
        }
        Ok(())
    }

    /// Moves a message to another id in its room.
    ///
    /// # Errors
    /// The message is sealed, and there is no key.
    pub fn move_message(
        &mut self,
        to: &Connection,
        (name, era): (&RoomId, Era),
        from: i64,
        id: i64,
    ) -> Result<(), Failed> {
        let row = to
            .prepare_cached("SELECT at, member, name, body FROM messages WHERE id = ?1")?
            .query_row([from], |row| {
                let is_sealed = row.get_ref(2)?.as_bytes()?.is_empty();
                let member = row.get::<_, Option<i64>>(1)?.map(number);
                Ok((WallMillis(number(row.get(0)?)), member, is_sealed, row.get_ref(3)?.as_bytes()?.to_vec()))
            })
            .optional()?;
        let Some((at, member, is_sealed, body)) = row else { return Ok(()) };
        let mut update = to.prepare_cached("UPDATE messages SET id = ?2, body = ?3 WHERE id = ?1")?;
        if !is_sealed {
            update.execute(params![from, id, body])?;
            return Ok(());
        }
        let Some(sealing) = &mut self.sealing else {
            return Err(Failed::Key(format!(
                "messages of room {name} are lost, and those before them are sealed and can move up to the others only with the \
                 data key; name its file with --data-key-file"
            )));
        };
        let place = message_place((name.as_str(), era), seq_of(from), at, member);
        if let Ok((said_by, body)) = open_parts(sealing.records(), &place, &body) {
            let place = message_place((name.as_str(), era), seq_of(id), at, member);
            update.execute(params![from, id, sealing.message(&place, &said_by, &body)?])?;
        }
        Ok(())
    }

    /// Moves the cursors of parked sessions, so that these continue after the last message they had; deletes sessions
    /// that do not open.
    pub fn move_cursors(&mut self, to: &Connection, moved: &HashMap<RoomId, Moved>) -> rusqlite::Result<()> {
        let Some(sealing) = &mut self.sealing else { return Ok(()) };
        let parked: Vec<(i64, Vec<u8>, i64, Vec<u8>)> = to
            .prepare("SELECT id, session, at, rooms FROM parked")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, session, at, record) in parked {
            let session = <[u8; 16]>::try_from(session.as_slice()).map(SessionId).unwrap_or(SessionId([0; 16]));
            let Some(mut parked) = open_parked(sealing.records(), session, number(at), &record) else {
                to.prepare_cached("DELETE FROM parked WHERE id = ?1")?.execute([id])?;
                continue;
            };
            for (room, cursor) in &mut parked.rooms {
                if let Some(shift) = moved.get(room) {
                    *cursor = shift.cursor(*cursor);
                }
            }
            let mut update = to.prepare_cached("UPDATE parked SET rooms = ?2 WHERE id = ?1")?;
            update.execute(params![id, sealing.parked(&parked, number(integer(number(at))))?])?;
        }
        Ok(())
    }

    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }
}
