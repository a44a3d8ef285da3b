//! The rows of a sealed database: a message's name and body, or a parked session's data, are one sealed record in place
//! of their columns. This module knows the layouts and draws the nonces; `crypto::at_rest` defines the records.
//!
//! A message's row keeps its id, time and member; `name` is empty, and `body` holds the record of name and body. A
//! parked session's row keeps session and time; `rooms` holds the record of everything else.

use rusqlite::Error;

use super::parked;
use crate::crypto::at_rest::{DataKey, KeyId, KeyedHashes, LogSalt, NONCE, Place, RecordKey, Unreadable};
use crate::store::{Parked, Scope, ScopedKey};
use crate::types::{Body, Digest, Era, IdempotencyKey, MemberId, Name, Seq, SessionId, WallMillis};

/// Number of nonces drawn with one system call.
const DRAWN: usize = 64;

/// Builds the rows of a sealed database. About 2 KiB.
pub(super) struct Sealing {
    records: RecordKey,
    hashes: KeyedHashes,
    nonces: Box<[[u8; NONCE]; DRAWN]>,
    left: usize,
    /// The last record: a buffer that is reused, to save an allocation for each record.
    record: Vec<u8>,
}

impl Sealing {
    pub fn new(key: &DataKey, salt: &LogSalt) -> Sealing {
        Sealing {
            records: key.records(salt),
            hashes: key.hashes(),
            nonces: Box::new([[0; NONCE]; DRAWN]),
            left: 0,
            record: Vec::new(),
        }
    }

    pub fn key_id(&self) -> KeyId {
        self.records.id()
    }

    pub fn records(&self) -> &RecordKey {
        &self.records
    }

    /// Returns the record of a message. Name and body are sealed as they are, even if damage has garbled them.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn message(&mut self, place: &Place, name: &[u8], body: &[u8]) -> rusqlite::Result<&[u8]> {
        let nonce = self.nonce()?;
        // A name has at most 128 bytes; a longer one, which only damage can cause, is truncated.
        let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
        self.records.seal(place, &nonce, &[&[name.len() as u8], name, body], &mut self.record);
        Ok(&self.record)
    }

    /// Returns the record of a parked session; `at` in running seconds.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn parked(&mut self, parked: &Parked, at: u64) -> rusqlite::Result<&[u8]> {
        let nonce = self.nonce()?;
        let place = Place::Parked { session: parked.session, at };
        let name = parked.name.as_str().as_bytes();
        let (member, generation) = (parked.member.as_u64().to_be_bytes(), parked.generation.to_be_bytes());
        let rooms = parked::encode(&parked.rooms);
        let parts: [&[u8]; 5] = [&member, &generation, &[name.len() as u8], name, &rooms];
        self.records.seal(&place, &nonce, &parts, &mut self.record);
        Ok(&self.record)
    }

    /// Returns what is stored of an idempotency key and of the body sent with it, in this room.
    pub fn hash(&self, room: i64, key: ScopedKey, body: &[u8]) -> (ScopedKey, Digest) {
        let sender = match key.scope {
            Scope::Session(session) => Some(session),
            Scope::Common => None,
        };
        let hash = self.hashes.digest(room, sender, key.key.0);
        (ScopedKey { key: IdempotencyKey(hash), ..key }, self.hashes.body(hash, body))
    }

    /// Returns the digest by which a session is found that the database does not name. No message is in room 0.
    pub fn session(&self, session: SessionId) -> Digest {
        self.hashes.digest(0, Some(session), Digest([0; 16]))
    }

    /// Returns the digest that the index of sealed bodies stores for this body in this room. It does not depend on the
    /// sender or the idempotency key.
    pub fn sealed_body(&self, room: i64, digest: Digest) -> Digest {
        self.hashes.digest(room, None, digest)
    }

    /// Drops the nonces that were drawn ahead: a virtual machine that is started twice from one snapshot would use them
    /// twice.
    pub fn drop_nonces(&mut self) {
        self.left = 0;
    }

    #[cfg(test)]
    pub fn drawn_ahead(&self) -> usize {
        self.left
    }

    fn nonce(&mut self) -> rusqlite::Result<[u8; NONCE]> {
        if self.left == 0 {
            let nonces = self.nonces.as_flattened_mut();
            getrandom::fill(nonces).map_err(no_randomness)?;
            self.left = DRAWN;
        }
        self.left -= 1;
        // `left` is below the number of nonces, and each is taken once.
        Ok(self.nonces[self.left])
    }
}

/// Returns a salt for a database that has none.
///
/// # Errors
/// The system provides no random bytes.
pub(super) fn new_salt() -> rusqlite::Result<LogSalt> {
    let mut salt = LogSalt([0; 16]);
    getrandom::fill(&mut salt.0).map_err(no_randomness)?;
    Ok(salt)
}

fn no_randomness(error: getrandom::Error) -> Error {
    let text = format!("the system has no randomness: {error}");
    Error::ToSqlConversionFailure(std::io::Error::other(text).into())
}

/// Returns the place that a message's record is bound to.
pub(super) fn message_place((room, era): (&str, Era), seq: Seq, at: WallMillis, member: Option<u64>) -> Place<'_> {
    Place::Message { room, era: era.0, seq, at, member }
}

/// Returns the name and the body in a message's record.
///
/// # Errors
/// The reason why the record does not open. A record that opens but makes no sense was garbled before it was sealed.
pub(super) fn open_message(records: &RecordKey, place: &Place, record: &[u8]) -> Result<(Name, Body), Unreadable> {
    let (name, body) = open_parts(records, place, record)?;
    let name = str::from_utf8(&name).ok().and_then(Name::kept).ok_or(Unreadable::Altered)?;
    let body = String::from_utf8(body).map_err(|_| Unreadable::Altered)?;
    Ok((name, Body::checked(body.into())))
}

/// Returns the same as `open_message`, but as bytes.
///
/// # Errors
/// The reason why the record does not open.
pub(super) fn open_parts(records: &RecordKey, place: &Place, record: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Unreadable> {
    let mut name = records.open(place, record)?;
    let length = name.first().copied().map_or(0, usize::from) + 1;
    if name.len() < length {
        return Err(Unreadable::Altered);
    }
    let body = name.split_off(length);
    name.remove(0);
    Ok((name, body))
}

/// Returns the parked session in a record; `None` if the record does not open.
pub(super) fn open_parked(records: &RecordKey, session: SessionId, at: u64, record: &[u8]) -> Option<Parked> {
    let plain = records.open(&Place::Parked { session, at }, record).ok()?;
    let (member, rest) = plain.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first()?;
    let (name, rooms) = rest.split_at_checked(usize::from(*length))?;
    Some(Parked {
        session,
        member: MemberId::from_random(u64::from_be_bytes(*member)),
        name: Name::kept(str::from_utf8(name).ok()?)?,
        generation: u32::from_be_bytes(*generation),
        rooms: parked::decode(rooms),
    })
}

/// Returns the name shown for the author of an unreadable message.
pub(super) fn nobody() -> Option<Name> {
    Name::kept("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RoomId;

    const SALT: LogSalt = LogSalt([6; 16]);

    #[test]
    fn rows_come_back() {
        let key = DataKey::new([1; 32]);
        let mut sealing = Sealing::new(&key, &SALT);
        let place = message_place(("lobby", Era(2)), Seq(3), WallMillis(4), Some(5));
        for (name, body) in [("bob", "\"hello\""), (&"😀".repeat(32), "null"), ("x", "")] {
            let record = sealing.message(&place, name.as_bytes(), body.as_bytes()).unwrap().to_vec();
            let (found, text) = open_parts(&key.records(&SALT), &place, &record).unwrap();
            assert_eq!((found.as_slice(), text.as_slice()), (name.as_bytes(), body.as_bytes()));
            assert_eq!(open_message(&key.records(&SALT), &place, &record).unwrap().0.as_str(), name);
        }
        let senseless = sealing.message(&place, b"\xff", b"\xfe").unwrap().to_vec();
        assert!(open_message(&key.records(&SALT), &place, &senseless).is_err());
        assert!(
            open_parts(&key.records(&SALT), &place, &senseless).is_ok(),
            "what was damaged before is kept as it was"
        );
        let parked = Parked {
            session: SessionId([1; 16]),
            member: MemberId::from_random(7),
            name: Name::parse("Zoë").unwrap(),
            generation: 9,
            rooms: vec![(RoomId::parse("a").unwrap(), Seq(1)), (RoomId::parse("b").unwrap(), Seq(2))],
        };
        let record = sealing.parked(&parked, 6).unwrap().to_vec();
        assert_eq!(open_parked(&key.records(&SALT), parked.session, 6, &record), Some(parked.clone()));
        assert_eq!(open_parked(&key.records(&SALT), parked.session, 7, &record), None);
    }

    #[test]
    fn no_nonce_comes_twice() {
        let mut sealing = Sealing::new(&DataKey::new([1; 32]), &SALT);
        let nonces: std::collections::BTreeSet<[u8; NONCE]> =
            (0..3 * DRAWN).map(|_| sealing.nonce().unwrap()).collect();
        assert_eq!(nonces.len(), 3 * DRAWN);
        sealing.nonce().unwrap();
        assert_eq!(sealing.drawn_ahead(), DRAWN - 1);
        sealing.drop_nonces();
        assert_eq!(sealing.drawn_ahead(), 0);
    }
}
