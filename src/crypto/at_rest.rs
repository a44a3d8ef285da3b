//! Encryption at rest: derives a key for each purpose from one data key, seals rows as records with XChaCha20-Poly1305,
//! and computes keyed hashes. Knows no table and no file; nonces are passed in.
//!
//! A record is: format 2, key id (8 bytes), nonce (24), ciphertext and tag (16). Its associated data are the format,
//! the key id and the row's place (kind, room and which of its name it is, seq, time, sender), so that a row that was
//! moved or swapped does not open. Its key is of one database alone, by the salt that was made with it: nor does a row
//! of another one. Records of format 1, which older versions wrote, know neither the salt nor which of its name a room
//! is; they are opened, and not written.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::SipHasher24;
use std::fmt;
use zeroize::Zeroizing;

use crate::types::{Digest, Seq, SessionId, WallMillis};

/// First part of the line in a key file.
const PREFIX: &str = "racerd-data-1 ";
/// Formats of a record.
const FORMAT_1: u8 = 1;
const FORMAT: u8 = 2;
/// What binds a record to its use, by its format.
const CONTEXT_1: &[u8] = b"racerd at rest 1\0";
const CONTEXT: &[u8] = b"racerd at rest 2\0";
/// Bytes of a record's nonce (draft-irtf-cfrg-xchacha §2.3): enough that random nonces do not collide.
pub const NONCE: usize = 24;
const HEAD: usize = 1 + KeyId::BYTES;
const TAG: usize = 16;
/// Bytes by which a record is longer than its plaintext.
pub const OVERHEAD: usize = HEAD + NONCE + TAG;

/// The secret from which all keys of a sealed database are derived. Wiped when dropped, and never shown.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Error text for a key file that [`DataKey::parse`] refused.
    pub const RULE: &'static str =
        "it is not one line of 'racerd-data-1 ' and 43 characters, as 'racerd keygen --data FILE' writes it";

    /// Makes a data key from a random `secret`.
    pub fn new(secret: [u8; 32]) -> DataKey {
        DataKey(Zeroizing::new(secret))
    }

    /// Reads the key from the text of a key file, which is one line; `None` where it breaks [`DataKey::RULE`].
    pub fn parse(text: &[u8]) -> Option<DataKey> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let encoded = line.strip_prefix(PREFIX.as_bytes())?;
        let mut secret = Zeroizing::new([0; 32]);
        if BASE64URL_NOPAD.decode_len(encoded.len()).ok()? != secret.len() {
            return None;
        }
        BASE64URL_NOPAD.decode_mut(encoded, secret.as_mut_slice()).ok()?;
        Some(DataKey(secret))
    }

    /// Returns the text of the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 44));
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(self.0.as_slice(), &mut text);
        text.push('\n');
        text
    }

    /// Returns an id that names this key and reveals nothing about it.
    pub fn id(&self) -> KeyId {
        KeyId(*self.derive(b"key id"))
    }

    /// Derives the key that seals the rows of the database with this salt.
    pub fn records(&self, salt: &LogSalt) -> RecordKey {
        let key: Zeroizing<[u8; 32]> = derive(Some(&salt.0), self.0.as_slice(), b"records");
        let before: Zeroizing<[u8; 32]> = self.derive(b"records");
        RecordKey {
            id: self.id(),
            cipher: XChaCha20Poly1305::new((&*key).into()),
            before: XChaCha20Poly1305::new((&*before).into()),
        }
    }

    /// Derives the two keys for the hashes of idempotency keys and bodies.
    pub fn hashes(&self) -> KeyedHashes {
        KeyedHashes { digests: self.derive(b"key windows: keys"), bodies: self.derive(b"key windows: bodies") }
    }

    /// Derives the key that seals session tokens, with the database's salt for them. Without one it is that of a
    /// database of before there were salts.
    pub fn tokens(&self, salt: Option<&[u8; 32]>) -> Zeroizing<[u8; 32]> {
        derive(salt.map(<[u8; 32]>::as_slice), self.0.as_slice(), b"session tokens")
    }

    /// Derives the key for one purpose, without a salt, since the secret is random already (RFC 5869 §3.1).
    fn derive<const N: usize>(&self, purpose: &[u8]) -> Zeroizing<[u8; N]> {
        derive(None, self.0.as_slice(), purpose)
    }
}

/// Derives the key that seals session tokens where rows are plain: the salt is all that is secret.
pub fn plain_tokens(salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    derive(Some(salt), &[], b"session tokens")
}

/// Derives the key for one purpose by HKDF-SHA256.
fn derive<const N: usize>(salt: Option<&[u8]>, secret: &[u8], purpose: &[u8]) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    let hkdf = Hkdf::<Sha256>::new(salt, secret);
    // proof: only outputs above 255 times 32 bytes are refused (RFC 5869 §2.3).
    hkdf.expand_multi_info(&[b"racerd data 1 ", purpose], key.as_mut_slice()).expect("a short key");
    key
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id())
    }
}

/// Names a data key: shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KeyId::BYTES]);

impl KeyId {
    pub const BYTES: usize = 8;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A random value that is made with a database and stays with it and with its copies. It is not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSalt(pub [u8; 16]);

impl LogSalt {
    /// Bytes of its stored form.
    pub const BYTES: usize = 16 + 4;

    /// Returns its stored form, which ends with a checksum: without the salt nothing that is sealed can be read.
    pub fn to_bytes(self) -> [u8; LogSalt::BYTES] {
        let mut bytes = [0; LogSalt::BYTES];
        bytes[..16].copy_from_slice(&self.0);
        bytes[16..].copy_from_slice(&self.sum());
        bytes
    }

    /// Reads the stored form; `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<LogSalt> {
        let (salt, sum) = bytes.split_first_chunk::<16>()?;
        let salt = LogSalt(*salt);
        (sum == salt.sum()).then_some(salt)
    }

    fn sum(self) -> [u8; 4] {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(self.0));
        [a, b, c, d]
    }
}

/// The place of a row, to which its record is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A message in this room; `era` says which of its name the room is.
    Message { room: &'a str, era: u64, seq: Seq, at: WallMillis, member: Option<u64> },
    /// A parked session; `at` is in running seconds.
    Parked { session: SessionId, at: u64 },
}

impl Place<'_> {
    /// Returns the associated data of a record with this head, which begins with its format. Each field has a fixed
    /// length or is the last, so no two places give the same bytes.
    fn bind(&self, head: &[u8]) -> Vec<u8> {
        let is_first = head.first() == Some(&FORMAT_1);
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(if is_first { CONTEXT_1 } else { CONTEXT });
        bytes.extend_from_slice(head);
        match self {
            Place::Message { room, era, seq, at, member } => {
                bytes.push(1);
                if !is_first {
                    bytes.extend_from_slice(&era.to_be_bytes());
                }
                bytes.extend_from_slice(&seq.0.to_be_bytes());
                bytes.extend_from_slice(&at.0.to_be_bytes());
                bytes.push(u8::from(member.is_some()));
                bytes.extend_from_slice(&member.unwrap_or(0).to_be_bytes());
                bytes.extend_from_slice(room.as_bytes());
            }
            Place::Parked { session, at } => {
                bytes.push(2);
                bytes.extend_from_slice(&session.0);
                bytes.extend_from_slice(&at.to_be_bytes());
            }
        }
        bytes
    }
}

/// Why a record does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not a record.
    NoRecord,
    /// Sealed with another key.
    OtherKey(KeyId),
    /// Altered, or moved from another place.
    Altered,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::NoRecord => f.write_str("it is not sealed"),
            Unreadable::OtherKey(id) => write!(f, "it is sealed with another key ({id})"),
            Unreadable::Altered => f.write_str("it was changed or moved on the disk"),
        }
    }
}

/// Returns the id of the key with which a record says it was sealed; `None` if these bytes cannot be a record. The
/// first [`KeyId::BYTES`] + 1 bytes are enough.
pub fn sealed_with(record: &[u8]) -> Option<KeyId> {
    let (format, rest) = record.split_first()?;
    let id = rest.first_chunk()?;
    matches!(*format, FORMAT_1 | FORMAT).then_some(KeyId(*id))
}

/// Returns whether a record has a format that is no longer written.
pub fn is_of_old_format(record: &[u8]) -> bool {
    record.first() == Some(&FORMAT_1)
}

/// Seals and opens rows.
#[derive(Clone)]
pub struct RecordKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
    /// That of records of format 1.
    before: XChaCha20Poly1305,
}

impl RecordKey {
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Replaces the content of `out` with the record of these parts, which are joined in order. `nonce` must be random:
    /// no nonce may be used twice with the same key.
    pub fn seal(&self, place: &Place, nonce: &[u8; NONCE], parts: &[&[u8]], out: &mut Vec<u8>) {
        self.seal_in(FORMAT, place, nonce, parts, out);
    }

    /// Does the same in the format of older versions.
    #[cfg(any(test, feature = "testing"))]
    pub fn seal_as_before(&self, place: &Place, nonce: &[u8; NONCE], parts: &[&[u8]], out: &mut Vec<u8>) {
        self.seal_in(FORMAT_1, place, nonce, parts, out);
    }

    fn cipher(&self, format: u8) -> &XChaCha20Poly1305 {
        if format == FORMAT_1 { &self.before } else { &self.cipher }
    }

    fn seal_in(&self, format: u8, place: &Place, nonce: &[u8; NONCE], parts: &[&[u8]], out: &mut Vec<u8>) {
        out.clear();
        out.push(format);
        out.extend_from_slice(&self.id.0);
        let bound = place.bind(out);
        out.extend_from_slice(nonce);
        for part in parts {
            out.extend_from_slice(part);
        }
        let (_, plain) = out.split_at_mut(HEAD + NONCE);
        let sealed = self.cipher(format).encrypt_inout_detached(&XNonce::from(*nonce), &bound, plain.into());
        // proof: the cipher refuses only texts longer than 256 GiB.
        let tag = sealed.expect("short enough");
        out.extend_from_slice(&tag);
    }

    /// Returns the plaintext of a record that was sealed for this place.
    ///
    /// # Errors
    /// The reason why the record does not open.
    pub fn open(&self, place: &Place, record: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let id = sealed_with(record).ok_or(Unreadable::NoRecord)?;
        let (head, rest) = record.split_at_checked(HEAD).ok_or(Unreadable::NoRecord)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(Unreadable::NoRecord)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(Unreadable::NoRecord)?;
        if id != self.id {
            return Err(Unreadable::OtherKey(id));
        }
        let cipher = self.cipher(head.first().copied().unwrap_or(FORMAT));
        let mut plain = sealed.to_vec();
        let (bound, nonce, tag) = (place.bind(head), XNonce::from(*nonce), Tag::from(*tag));
        let opened = cipher.decrypt_inout_detached(&nonce, &bound, plain.as_mut_slice().into(), &tag);
        opened.map(|()| plain).map_err(|_| Unreadable::Altered)
    }
}

/// Hashes idempotency keys and bodies with a secret of the data key, so that neither can be guessed from what is
/// stored. SipHash is a keyed function made for this (SipHash-2-4, 128 bits).
#[derive(Clone)]
pub struct KeyedHashes {
    digests: Zeroizing<[u8; 16]>,
    bodies: Zeroizing<[u8; 16]>,
}

impl KeyedHashes {
    /// Hashes the digest of an idempotency key of this sender in this room, or of a sealed body in this room: the same
    /// digest elsewhere has another hash.
    pub fn digest(&self, room: i64, sender: Option<SessionId>, digest: Digest) -> Digest {
        let mut bytes = [0; 8 + 1 + 16 + 16];
        bytes[..8].copy_from_slice(&room.to_be_bytes());
        if let Some(SessionId(sender)) = sender {
            bytes[8] = 1;
            bytes[9..25].copy_from_slice(&sender);
        }
        bytes[25..].copy_from_slice(&digest.0);
        Digest(SipHasher24::new_with_key(&self.digests).hash(&bytes).as_bytes())
    }

    /// Hashes the body that was sent with an idempotency key; `key` is that key's hash from [`KeyedHashes::digest`].
    /// The same body with another key has another hash.
    pub fn body(&self, key: Digest, body: &[u8]) -> Digest {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&key.0);
        bytes[16..].copy_from_slice(&SipHasher24::new_with_key(&self.bodies).hash(body).as_bytes());
        Digest(SipHasher24::new_with_key(&self.bodies).hash(&bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> DataKey {
        DataKey::new([n; 32])
    }

    const SAID: Place =
        Place::Message { room: "lobby", era: 3, seq: Seq(42), at: WallMillis(1_790_000_000_123), member: Some(0x7c2e) };
    const SALT: LogSalt = LogSalt([0x51; 16]);

    fn sealed(key: &RecordKey, place: &Place, plain: &[u8]) -> Vec<u8> {
        let mut out = b"what was there before".to_vec();
        key.seal(place, &[7; NONCE], &[plain], &mut out);
        out
    }

    /// Records on disk must open for ever, so a change here is a new format. The expected values come from other
    /// programs: libsodium, and Python's hmac.
    #[test]
    fn keys_and_records_never_change() {
        let key = key(1);
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        assert_eq!(key.id().to_string(), ID);
        assert_eq!(hex(key.tokens(None).as_slice()), TOKENS);
        let salt = std::array::from_fn(|n| 32 + n as u8);
        let salted = "a60703bf5c491a2ed22607f92246ec957d60b8638971e4738472ce9b5af1c254";
        assert_eq!(hex(key.tokens(Some(&salt)).as_slice()), salted);
        let plain = "00ac16c8a22187efa87a2a96b4a34d2afcea6ea2b198dffdb547be8d7155ab9a";
        assert_eq!(hex(plain_tokens(&salt).as_slice()), plain);
        assert_eq!(hex(&sealed(&key.records(&SALT), &SAID, b"hi")), RECORD);
        assert_eq!(hex(&SALT.to_bytes()), SALTED);
        let old = HEXLOWER.decode(OLD_RECORD.as_bytes()).unwrap();
        let mut again = Vec::new();
        key.records(&SALT).seal_as_before(&SAID, &[7; NONCE], &[b"hi"], &mut again);
        assert_eq!(again, old);
        assert_eq!(key.records(&SALT).open(&SAID, &old).as_deref(), Ok(&b"hi"[..]));
        assert!(is_of_old_format(&old) && !is_of_old_format(&sealed(&key.records(&SALT), &SAID, b"hi")));
        let hashes = key.hashes();
        let hash = hashes.digest(3, Some(SessionId([9; 16])), Digest([5; 16]));
        assert_eq!((hex(&hash.0), hex(&hashes.body(hash, b"hi").0)), (HASH.to_owned(), BODY.to_owned()));
    }
    const ID: &str = "0129abc03db7c268";
    const TOKENS: &str = "cafe62b6834ea8e5c5ba71a0b919fcf9b7a39bbc07cf2024989853073c412a74";
    const SALTED: &str = "51515151515151515151515151515151e69bbe11";
    const RECORD: &str =
        "020129abc03db7c2680707070707070707070707070707070707070707070707077ce3dffc5cfcd8f113b30bc5309c3428a86f";
    const OLD_RECORD: &str =
        "010129abc03db7c268070707070707070707070707070707070707070707070707b453133fd92973287c92a67225bb990e4434";
    const HASH: &str = "a58863b558d577c641f5bcf6bc7cb8d7";
    const BODY: &str = "d1eadf5cc4e54311b8d6c258ff2cd6f3";

    #[test]
    fn a_record_opens_in_its_place_only() {
        let records = key(1).records(&SALT);
        let record = sealed(&records, &SAID, b"hi");
        assert_eq!(records.open(&SAID, &record).as_deref(), Ok(&b"hi"[..]));
        let Place::Message { room, era, seq, at, member } = SAID else { panic!("it is a message") };
        let elsewhere = [
            Place::Message { room: "lobb", era, seq, at, member },
            Place::Message { room: "lobby2", era, seq, at, member },
            Place::Message { room, era, seq: Seq(43), at, member },
            Place::Message { room, era: 4, seq, at, member },
            Place::Message { room, era, seq, at: WallMillis(0), member },
            Place::Message { room, era, seq, at, member: None },
            Place::Message { room, era, seq, at, member: Some(0) },
            Place::Parked { session: SessionId([0; 16]), at: 0 },
        ];
        for place in elsewhere {
            assert_eq!(records.open(&place, &record), Err(Unreadable::Altered), "{place:?}");
        }
        let none = Place::Message { room, era, seq, at, member: None };
        let zero = Place::Message { room, era, seq, at, member: Some(0) };
        assert!(records.open(&zero, &sealed(&records, &none, b"hi")).is_err(), "nobody is not member 0");
        let parked = Place::Parked { session: SessionId([1; 16]), at: 5 };
        let record = sealed(&records, &parked, b"");
        assert_eq!((records.open(&parked, &record), record.len()), (Ok(Vec::new()), OVERHEAD));
        assert!(records.open(&Place::Parked { session: SessionId([1; 16]), at: 6 }, &record).is_err());
        assert!(records.open(&Place::Parked { session: SessionId([2; 16]), at: 5 }, &record).is_err());
    }

    #[test]
    fn a_changed_record_does_not_open() {
        let records = key(1).records(&SALT);
        let mut record = sealed(&records, &SAID, b"\"hello\"");
        for at in 0..record.len() {
            for bit in 0..8 {
                record[at] ^= 1 << bit;
                let opened = records.open(&SAID, &record);
                match at {
                    0 if matches!(record[0], FORMAT_1 | FORMAT) => assert_eq!(opened, Err(Unreadable::Altered)),
                    0 => assert_eq!(opened, Err(Unreadable::NoRecord)),
                    1..HEAD => assert!(matches!(opened, Err(Unreadable::OtherKey(_)))),
                    _ => assert_eq!(opened, Err(Unreadable::Altered), "byte {at}"),
                }
                record[at] ^= 1 << bit;
            }
        }
        for end in 0..record.len() {
            assert!(records.open(&SAID, &record[..end]).is_err(), "cut at {end}");
        }
        record.push(0);
        assert_eq!(records.open(&SAID, &record), Err(Unreadable::Altered));
    }

    /// The attack: a row of one database is put at its own place in another one under the same data key.
    #[test]
    fn a_record_opens_in_its_own_database_only() {
        let record = sealed(&key(1).records(&SALT), &SAID, b"hi");
        let other = key(1).records(&LogSalt([0x52; 16]));
        assert_eq!(other.open(&SAID, &record), Err(Unreadable::Altered));
    }

    #[test]
    fn a_salt_that_was_changed_is_none() {
        let stored = SALT.to_bytes();
        assert_eq!(LogSalt::from_bytes(&stored), Some(SALT));
        for at in 0..stored.len() {
            let mut changed = stored;
            changed[at] ^= 0x10;
            assert_eq!(LogSalt::from_bytes(&changed), None, "{at}");
            assert_eq!(LogSalt::from_bytes(&stored[..at]), None);
        }
        assert_eq!(LogSalt::from_bytes(&[&stored[..], &[0]].concat()), None);
    }

    #[test]
    fn another_key_is_told_by_its_id() {
        let record = sealed(&key(1).records(&SALT), &SAID, b"hi");
        assert_eq!(sealed_with(&record), Some(key(1).id()));
        assert_eq!(key(2).records(&SALT).open(&SAID, &record), Err(Unreadable::OtherKey(key(1).id())));
        assert_eq!((sealed_with(b""), sealed_with(b"\x01short")), (None, None));
        assert_eq!(sealed_with(b"\"a plain body\""), None);
    }

    #[test]
    fn a_key_file_is_one_line() {
        let text = key(0xfb).to_text();
        assert_eq!((text.len(), text.lines().count(), text.ends_with('\n')), (14 + 43 + 1, 1, true));
        assert_eq!(DataKey::parse(text.as_bytes()).map(|key| key.id()), Some(key(0xfb).id()));
        assert!(DataKey::parse(text.trim_end().as_bytes()).is_some(), "an editor may take the end of the line away");
        let other = text.replace("data", "sealed");
        let last = text.replace("-_s\n", "-_t\n");
        assert_ne!(last, *text);
        for bad in ["", "\n", PREFIX, &text[..40], &format!("{}\n", *text), &format!(" {}", *text), &other, &last] {
            assert!(DataKey::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", key(1)), format!("DataKey({})", key(1).id()), "no debug print shows a key");
    }

    #[test]
    fn each_purpose_has_its_own_key() {
        let (one, other) = (key(1), key(2));
        assert_ne!(one.tokens(None), other.tokens(None));
        assert_ne!(one.id(), other.id());
        let (hashes, record) = (one.hashes(), one.tokens(None));
        assert_ne!(hashes.digests.as_slice(), hashes.bodies.as_slice());
        assert_ne!(&record[..16], hashes.digests.as_slice());
    }

    #[test]
    fn equal_keys_and_bodies_do_not_look_equal() {
        let hashes = key(1).hashes();
        let (alice, bob) = (Some(SessionId([1; 16])), Some(SessionId([2; 16])));
        let digest = Digest::of(b"k");
        let hash = hashes.digest(1, alice, digest);
        assert_eq!(hashes.digest(1, alice, digest), hash);
        for (room, sender) in [(2, alice), (1, bob), (1, None)] {
            assert_ne!(hashes.digest(room, sender, digest), hash);
        }
        assert_ne!(hashes.digest(1, None, digest), hashes.digest(1, Some(SessionId([0; 16])), digest));
        assert_ne!(hash, digest);
        assert_ne!(key(2).hashes().digest(1, alice, digest), hash);
        let body = hashes.body(hash, b"yes");
        assert_ne!(hashes.body(hashes.digest(1, bob, digest), b"yes"), body);
        assert_ne!(hashes.body(hash, b"no"), body);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            room in "[A-Za-z0-9._~-]{1,64}",
            numbers: (u64, u64),
            member: Option<u64>,
            nonce: [u8; NONCE],
            plain: Vec<u8>,
            cut in 0usize..400,
        ) {
            let records = key(1).records(&SALT);
            let (seq, at) = (Seq(numbers.0), WallMillis(numbers.1));
            let place = Place::Message { room: &room, era: numbers.0, seq, at, member };
            let (mut record, middle) = (Vec::new(), plain.len() / 2);
            records.seal(&place, &nonce, &[&plain[..middle], &plain[middle..]], &mut record);
            prop_assert_eq!(record.len(), plain.len() + OVERHEAD);
            prop_assert_eq!(records.open(&place, &record), Ok(plain));
            record.truncate(cut.min(record.len() - 1));
            prop_assert!(records.open(&place, &record).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            prop_assert!(key(1).records(&SALT).open(&SAID, &bytes).is_err());
            let _ = (sealed_with(&bytes), DataKey::parse(&bytes));
        }
    }
}
