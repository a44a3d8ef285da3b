//! Room keys, which people share so that the server cannot read their messages in a room. The keys of its messages are
//! derived from it and the room's id (HKDF-SHA256), and so is the id by which it is told from others; each body is
//! sealed with XChaCha20-Poly1305. `body` has what is written now; here is what earlier clients wrote, which is only
//! read. Knows no JSON: `protocol::encrypted` has the wire format.

mod body;

pub use body::{FINGERPRINT, Fault, Kind, Opened, STREAM, Stream, Unsealed, padded};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

use crate::types::RoomId;

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

/// 32 random bytes, shared by all readers of a room. Overwritten when dropped, never shown.
pub struct RoomKey(Zeroizing<[u8; 32]>);

impl RoomKey {
    /// Error text for a key that [`RoomKey::parse`] refused. The key itself must not be repeated.
    pub const RULE: &'static str = "a room key is 32 bytes in base64url: 43 characters of A-Z a-z 0-9 - _";

    /// Makes a key from 32 bytes of the system's random source.
    pub fn new(random: [u8; 32]) -> RoomKey {
        RoomKey(Zeroizing::new(random))
    }

    /// Reads the key from its text, base64url without padding; `None` where it breaks [`RoomKey::RULE`].
    pub fn parse(text: &str) -> Option<RoomKey> {
        let mut decoded = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let key = <[u8; 32]>::try_from(decoded.as_slice()).ok().map(RoomKey::new);
        decoded.zeroize();
        key
    }

    /// Returns the text that [`RoomKey::parse`] reads: a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(&*self.0))
    }

    /// Returns the cipher for the messages of one room.
    pub fn cipher(&self, room: &RoomId) -> RoomCipher {
        let (mut key, mut first_key) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        let mut id = [0; ID];
        self.derive(KEY_INFO, room, &mut *key);
        self.derive(FIRST_INFO, room, &mut *first_key);
        self.derive(ID_INFO, room, &mut id);
        RoomCipher { key, id, first_key, room: room.clone() }
    }

    fn derive(&self, purpose: &[u8], room: &RoomId, into: &mut [u8]) {
        let info = [purpose, room.as_str().as_bytes()].concat();
        // proof: only lengths above 255 times 32 bytes are refused (RFC 5869 §2.3).
        Hkdf::<Sha256>::new(None, &*self.0).expand(&info, into).expect("32 bytes");
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomKey")
    }
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

#[cfg(test)]
mod tests;
