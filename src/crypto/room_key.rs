//! Room keys, which people share so that the server cannot read their messages in a room. The keys of its messages are
//! derived from it and the room's id (HKDF-SHA256), and so is the id by which it is told from others; each body is
//! sealed with XChaCha20-Poly1305 (`body`). Knows no JSON: `protocol::encrypted` has the wire format.

mod body;

pub use body::{FINGERPRINT, Fault, Kind, NONCE, Opened, RoomCipher, STREAM, Stream, Unsealed, nonce_text, padded};

use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

use crate::types::RoomId;

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
        RoomCipher::new(room, |info, derived| {
            // proof: only lengths above 255 times 32 bytes are refused (RFC 5869 §2.3).
            Hkdf::<Sha256>::new(None, &*self.0).expand(info, derived).expect("32 bytes");
        })
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomKey")
    }
}

#[cfg(test)]
mod tests;
