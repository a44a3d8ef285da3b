//! Bodies of version 2: what is in them, what they are bound to, and how they are signed. docs/protocol.md has the same
//! byte by byte. Nonces, seeds and dates are passed in.
//!
//! ```text
//! plaintext   signature 64 | stream 32 | counter 8 | sent 8 | name: length 1, bytes | body: length 4, bytes | zeros
//! bound to    version | kind | room | key's id | idempotency key | target, each with its length before it, 2 bytes
//! signed      what it is bound to, then the plaintext behind the signature
//! ```
//!
//! A *stream* is one run of a client: its id is an Ed25519 public key, and a counter in it numbers its bodies. So no
//! other member can continue it, and a body that comes twice, too late or not at all shows. What earlier clients wrote,
//! version 1, is only read.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::types::{MAX_NUMBER, RoomId};
use std::fmt;

/// Bytes of a nonce (draft-irtf-cfrg-xchacha §2.3).
pub const NONCE: usize = 24;
/// Purposes of what is derived; the room's id follows (HKDF's `info`, RFC 5869 §3.2). An id contains no blank.
const KEY_INFO: &[u8] = b"racerd e2e 2 key ";
const ID_INFO: &[u8] = b"racerd e2e 2 id ";
const FIRST_INFO: &[u8] = b"racerd e2e 1 ";
/// Bytes of a key's id.
const ID: usize = 16;
/// Start of the first version's associated data; then a zero byte, the room's id, a zero byte, and the idempotency key.
const CONTEXT: &[u8] = b"racerd e2e 1";
/// First field of the data that a body is bound to.
const VERSION: &[u8] = b"racerd e2e 2";
const SIGNATURE: usize = 64;
/// Bytes of a stream's id.
pub const STREAM: usize = 32;
/// Bytes before the name: signature, stream, counter and date.
const HEAD: usize = SIGNATURE + STREAM + 8 + 8;
/// Name and body together are padded to this length at least.
const SHORTEST: usize = 64;
/// Bytes of a fingerprint.
pub const FINGERPRINT: usize = 16;

/// What a body is for: one that was sealed as one kind does not open as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Signal,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Signal => "signal",
        }
    }
}

/// A body before it is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed<'a> {
    pub name: &'a str,
    /// The sender's clock, in milliseconds since 1970.
    pub sent: u64,
    /// JSON.
    pub body: &'a str,
}

/// One run of a client, with the key that signs its bodies.
pub struct Stream {
    pair: Ed25519KeyPair,
    /// Of the last body.
    pub(super) counter: u64,
}

impl Stream {
    /// Begins a stream from 32 bytes of the system's random source.
    pub fn new(seed: &Zeroizing<[u8; 32]>) -> Stream {
        // proof: only seeds of another length are refused.
        Stream { pair: Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("32 bytes"), counter: 0 }
    }

    /// Goes on with a stream behind this counter, for fuzzers.
    #[cfg(any(test, fuzzing))]
    pub fn from(seed: &[u8; 32], counter: u64) -> Stream {
        Stream { counter, ..Stream::new(&Zeroizing::new(*seed)) }
    }

    /// Returns the stream's id.
    pub fn id(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

/// A body that was opened, and whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub name: String,
    pub sent: u64,
    pub body: String,
    pub stream: [u8; STREAM],
    pub counter: u64,
    /// Equal for equal plaintexts only.
    pub fingerprint: [u8; FINGERPRINT],
}

/// The reason why a body does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was sealed with another key of the room.
    OtherKey,
    /// Something between its sender and here was changed, or it was sealed for another room, kind or idempotency key.
    Altered,
    /// The room key fits, but what is inside has not the form of a body.
    Malformed,
    /// The room key fits, but not the signature: a member has continued the stream of another.
    Forged,
}

/// Seals and opens the bodies of one room. Its keys are overwritten when dropped.
pub struct RoomCipher {
    key: Zeroizing<[u8; 32]>,
    /// Tells the room's keys apart, and commits to this one.
    id: [u8; ID],
    /// Of the bodies that earlier clients wrote.
    first_key: Zeroizing<[u8; 32]>,
    room: RoomId,
}

impl RoomCipher {
    /// Derives the room's keys: `derive` takes an info and fills the bytes.
    pub(super) fn new(room: &RoomId, derive: impl Fn(&[u8], &mut [u8])) -> RoomCipher {
        let (mut key, mut first_key) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        let mut id = [0; ID];
        let derive = |purpose: &[u8], into: &mut [u8]| derive(&[purpose, room.as_str().as_bytes()].concat(), into);
        derive(KEY_INFO, &mut *key);
        derive(FIRST_INFO, &mut *first_key);
        derive(ID_INFO, &mut id);
        RoomCipher { key, id, first_key, room: room.clone() }
    }

    /// Returns the id of the room's key, as it is sent over the wire.
    pub fn key_id(&self) -> String {
        BASE64URL_NOPAD.encode(&self.id)
    }

    /// Seals the next body of a stream, and returns the ciphertext, base64url without padding. `key` is the idempotency
    /// key; `nonce` must be random, and new for each body.
    pub fn seal(
        &self,
        kind: Kind,
        key: &str,
        nonce: &[u8; NONCE],
        stream: &mut Stream,
        unsealed: Unsealed<'_>,
    ) -> String {
        stream.counter += 1;
        let associated = self.associated(kind, key);
        let plain = plaintext(&associated, stream, unsealed);
        let payload = Payload { msg: &plain, aad: &associated };
        let sealed = XChaCha20Poly1305::new((&*self.key).into()).encrypt(&XNonce::from(*nonce), payload);
        // proof: the cipher refuses only texts longer than 256 GiB.
        BASE64URL_NOPAD.encode(&sealed.expect("short enough"))
    }

    /// Seals a plaintext of any form, as whoever has the key can.
    #[cfg(any(test, fuzzing))]
    pub fn seal_plaintext(&self, kind: Kind, key: &str, nonce: &[u8; NONCE], plain: &[u8]) -> String {
        let payload = Payload { msg: plain, aad: &self.associated(kind, key) };
        let sealed = XChaCha20Poly1305::new((&*self.key).into()).encrypt(&XNonce::from(*nonce), payload);
        BASE64URL_NOPAD.encode(&sealed.unwrap_or_default())
    }

    /// Seals what stands behind a stream's id, rightly signed.
    #[cfg(any(test, fuzzing))]
    pub fn seal_signed(&self, kind: Kind, key: &str, nonce: &[u8; NONCE], stream: &Stream, rest: &[u8]) -> String {
        let signed = [&*self.associated(kind, key), stream.id(), rest].concat();
        let plain = [stream.pair.sign(&signed).as_ref(), stream.id(), rest].concat();
        self.seal_plaintext(kind, key, nonce, &plain)
    }

    /// Opens a body from its parts, as they came over the wire.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(&self, kind: Kind, key_id: &str, key: &str, nonce: &str, ciphertext: &str) -> Result<Opened, Fault> {
        if BASE64URL_NOPAD.decode(key_id.as_bytes()).ok().as_deref() != Some(&self.id) {
            return Err(Fault::OtherKey);
        }
        let decoded = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Fault::Altered);
        let nonce = <[u8; NONCE]>::try_from(decoded(nonce)?).map_err(|_| Fault::Altered)?;
        let sealed = decoded(ciphertext)?;
        let associated = self.associated(kind, key);
        let payload = Payload { msg: &sealed, aad: &associated };
        let plain = XChaCha20Poly1305::new((&*self.key).into()).decrypt(&XNonce::from(nonce), payload);
        read(&associated, &plain.map_err(|_| Fault::Altered)?)
    }

    /// Returns the data that a body is bound to. The last field is the key of the message that is changed; neither kind
    /// has one.
    fn associated(&self, kind: Kind, key: &str) -> Vec<u8> {
        let fields = [VERSION, kind.word().as_bytes(), self.room.as_str().as_bytes(), &self.id, key.as_bytes(), b""];
        let mut bytes = Vec::new();
        for field in fields {
            // What the server takes has at most 200 bytes; a longer key opens for nobody.
            bytes.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// Seals a body as earlier clients did, for tests.
    #[cfg(any(test, fuzzing))]
    pub fn seal_first(&self, key: &str, nonce: [u8; NONCE], body: &str) -> String {
        let aad = self.first_associated(key);
        let payload = Payload { msg: body.as_bytes(), aad: &aad };
        let sealed = XChaCha20Poly1305::new((&*self.first_key).into()).encrypt(&XNonce::from(nonce), payload);
        BASE64URL_NOPAD.encode(&sealed.unwrap_or_default())
    }

    /// Opens a body of the first version from nonce and ciphertext as texts; `None` if it was not sealed with this room
    /// key, in this room and under this idempotency `key`.
    pub fn open_first(&self, key: &str, nonce: &str, ciphertext: &str) -> Option<String> {
        let nonce = <[u8; NONCE]>::try_from(BASE64URL_NOPAD.decode(nonce.as_bytes()).ok()?).ok()?;
        let sealed = BASE64URL_NOPAD.decode(ciphertext.as_bytes()).ok()?;
        let aad = self.first_associated(key);
        let payload = Payload { msg: &sealed, aad: &aad };
        let plain = XChaCha20Poly1305::new((&*self.first_key).into()).decrypt(&XNonce::from(nonce), payload).ok()?;
        String::from_utf8(plain).ok()
    }

    /// Returns the associated data. A room id contains no zero byte, so no two pairs give the same bytes.
    fn first_associated(&self, key: &str) -> Vec<u8> {
        [CONTEXT, self.room.as_str().as_bytes(), key.as_bytes()].join(&0)
    }
}

impl fmt::Debug for RoomCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomCipher({})", self.room)
    }
}

/// Returns the nonce as it is sent over the wire.
pub fn nonce_text(nonce: &[u8; NONCE]) -> String {
    BASE64URL_NOPAD.encode(nonce)
}

/// Returns the length to which name and body are padded: Padmé (Nikitin et al., PETS 2019), which adds at most an
/// eighth, and 64 bytes at least.
pub fn padded(length: usize) -> usize {
    if length <= SHORTEST {
        return SHORTEST;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept)) - 1;
    length.saturating_add(mask) & !mask
}

fn plaintext(associated: &[u8], stream: &Stream, unsealed: Unsealed<'_>) -> Zeroizing<Vec<u8>> {
    let Unsealed { name, sent, body } = unsealed;
    let content = 1 + name.len() + 4 + body.len();
    let mut plain = Zeroizing::new(Vec::with_capacity(HEAD + padded(content)));
    plain.resize(SIGNATURE, 0);
    plain.extend_from_slice(stream.id());
    plain.extend_from_slice(&stream.counter.to_be_bytes());
    plain.extend_from_slice(&sent.min(MAX_NUMBER).to_be_bytes());
    // A name has at most 32 characters, of 4 bytes each; a body less than what a server takes.
    plain.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    plain.extend_from_slice(name.as_bytes());
    plain.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    plain.extend_from_slice(body.as_bytes());
    plain.resize(HEAD + padded(content), 0);
    let (place, signed) = plain.split_at_mut(SIGNATURE);
    place.copy_from_slice(stream.pair.sign(&[associated, signed].concat()).as_ref());
    plain
}

fn read(associated: &[u8], plain: &[u8]) -> Result<Opened, Fault> {
    let (mut opened, signature) = parse(plain).ok_or(Fault::Malformed)?;
    let signed = [associated, plain.get(SIGNATURE..).unwrap_or_default()].concat();
    UnparsedPublicKey::new(&ED25519, opened.stream).verify(&signed, signature).map_err(|_| Fault::Forged)?;
    let digest = Sha256::digest(plain);
    opened.fingerprint.copy_from_slice(&digest[..FINGERPRINT]);
    Ok(opened)
}

/// Splits a plaintext; `None` if it is not what [`plaintext`] writes.
fn parse(plain: &[u8]) -> Option<(Opened, &[u8; SIGNATURE])> {
    let (signature, rest) = plain.split_first_chunk::<SIGNATURE>()?;
    let (stream, rest) = rest.split_first_chunk::<STREAM>()?;
    let (counter, rest) = rest.split_first_chunk::<8>()?;
    let (sent, content) = rest.split_first_chunk::<8>()?;
    let (&length, rest) = content.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (body, zeros) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (counter, sent) = (u64::from_be_bytes(*counter), u64::from_be_bytes(*sent));
    let fits = (1..=MAX_NUMBER).contains(&counter)
        && sent <= MAX_NUMBER
        && content.len() == padded(content.len() - zeros.len())
        && zeros.iter().all(|byte| *byte == 0);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let (name, body, stream) = (text(name)?, text(body)?, *stream);
    fits.then_some((Opened { name, sent, body, stream, counter, fingerprint: [0; FINGERPRINT] }, signature))
}
