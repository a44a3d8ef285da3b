//! Rows as a sealed database has them: what is said, by whom, and who is parked, as one record in place of its columns.
//! Knows the layouts and draws the nonces; what a record is, `crypto::at_rest` knows.
//!
//! A message's row keeps its id, time and member; `name` is empty and `body` the record of name and body. A parked
//! session's row keeps session and time; `rooms` is the record of all else.

use rusqlite::Error;

use super::parked;
use crate::crypto::at_rest::{DataKey, KeyId, KeyedHashes, NONCE, Place, RecordKey, Unreadable};
use crate::store::{Parked, Scope, ScopedKey};
use crate::types::{Body, Digest, IdempotencyKey, MemberId, Name, Seq, SessionId, WallMillis};

/// Nonces drawn at once: one call of the system for so many rows.
const DRAWN: usize = 64;

/// Makes rows for a sealed database. About 2 KiB.
pub(super) struct Sealing {
    records: RecordKey,
    hashes: KeyedHashes,
    nonces: Box<[[u8; NONCE]; DRAWN]>,
    left: usize,
    /// The last record, so that not each one is an allocation.
    record: Vec<u8>,
}

impl Sealing {
    pub fn new(key: &DataKey) -> Sealing {
        Sealing {
            records: key.records(),
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

    /// The record of a message. Name and body are sealed as they are, also if damage has made them senseless.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn message(&mut self, place: &Place, name: &[u8], body: &[u8]) -> rusqlite::Result<&[u8]> {
        let nonce = self.nonce()?;
        // A name has at most 128 bytes; a longer one, which only damage makes, is cut.
        let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
        self.records.seal(place, &nonce, &[&[name.len() as u8], name, body], &mut self.record);
        Ok(&self.record)
    }

    /// The record of a parked session; `at` in running seconds.
    ///
    /// # Errors
    /// The system has no randomness.
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

    /// Returns what the index of sealed bodies stores of this one, in this room: the same whoever sends it, and under
    /// whichever idempotency key.
    pub fn sealed_body(&self, room: i64, digest: Digest) -> Digest {
        self.hashes.digest(room, None, digest)
    }

    fn nonce(&mut self) -> rusqlite::Result<[u8; NONCE]> {
        if self.left == 0 {
            let nonces = self.nonces.as_flattened_mut();
            getrandom::fill(nonces).map_err(|error| {
                let text = format!("the system has no randomness: {error}");
                Error::ToSqlConversionFailure(std::io::Error::other(text).into())
            })?;
            self.left = DRAWN;
        }
        self.left -= 1;
        // `left` is below the number of nonces, and each is taken once.
        Ok(self.nonces[self.left])
    }
}

/// Where a message's row belongs.
pub(super) fn message_place(room: &str, seq: Seq, at: WallMillis, member: Option<u64>) -> Place<'_> {
    Place::Message { room, seq, at, member }
}

/// Name and body of a message's record.
///
/// # Errors
/// Why it does not open. What opens and makes no sense was senseless when it was sealed.
pub(super) fn open_message(records: &RecordKey, place: &Place, record: &[u8]) -> Result<(Name, Body), Unreadable> {
    let (name, body) = open_parts(records, place, record)?;
    let name = str::from_utf8(&name).ok().and_then(Name::kept).ok_or(Unreadable::Altered)?;
    let body = String::from_utf8(body).map_err(|_| Unreadable::Altered)?;
    Ok((name, Body::checked(body.into())))
}

/// The same as bytes.
///
/// # Errors
/// Why it does not open.
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

/// The parked session of a record; `None` where it does not open.
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

/// In place of the name of who said what can't be read.
pub(super) fn nobody() -> Option<Name> {
    Name::kept("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RoomId;

    #[test]
    fn rows_come_back() {
        let key = DataKey::new([1; 32]);
        let mut sealing = Sealing::new(&key);
        let place = message_place("lobby", Seq(3), WallMillis(4), Some(5));
        for (name, body) in [("bob", "\"hello\""), (&"😀".repeat(32), "null"), ("x", "")] {
            let record = sealing.message(&place, name.as_bytes(), body.as_bytes()).unwrap().to_vec();
            let (found, text) = open_parts(&key.records(), &place, &record).unwrap();
            assert_eq!((found.as_slice(), text.as_slice()), (name.as_bytes(), body.as_bytes()));
            assert_eq!(open_message(&key.records(), &place, &record).unwrap().0.as_str(), name);
        }
        let senseless = sealing.message(&place, b"\xff", b"\xfe").unwrap().to_vec();
        assert!(open_message(&key.records(), &place, &senseless).is_err());
        assert!(open_parts(&key.records(), &place, &senseless).is_ok(), "what was damaged before is kept as it was");
        let parked = Parked {
            session: SessionId([1; 16]),
            member: MemberId::from_random(7),
            name: Name::parse("Zoë").unwrap(),
            generation: 9,
            rooms: vec![(RoomId::parse("a").unwrap(), Seq(1)), (RoomId::parse("b").unwrap(), Seq(2))],
        };
        let record = sealing.parked(&parked, 6).unwrap().to_vec();
        assert_eq!(open_parked(&key.records(), parked.session, 6, &record), Some(parked.clone()));
        assert_eq!(open_parked(&key.records(), parked.session, 7, &record), None);
    }

    #[test]
    fn no_nonce_comes_twice() {
        let mut sealing = Sealing::new(&DataKey::new([1; 32]));
        let nonces: std::collections::BTreeSet<[u8; NONCE]> =
            (0..3 * DRAWN).map(|_| sealing.nonce().unwrap()).collect();
        assert_eq!(nonces.len(), 3 * DRAWN);
    }
}
