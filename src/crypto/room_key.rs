//! Room keys, which people share so that the server cannot read their messages in a room. The room's message key is
//! derived from the key and the room's id (HKDF-SHA256); each message is sealed with XChaCha20-Poly1305, bound to the
//! room and to the idempotency key of its send. Knows no JSON: `protocol::encrypted` has the wire format. Nonces are
//! passed in.

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
/// Purpose of the message key; the room's id follows (HKDF's `info`, RFC 5869 §3.2).
const INFO: &[u8] = b"racerd e2e 1 ";
/// Start of the associated data; then a zero byte, the room's id, a zero byte, and the idempotency key.
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
        let info = [INFO, room.as_str().as_bytes()].concat();
        let mut key = Zeroizing::new([0; 32]);
        // proof: only lengths above 255 times 32 bytes are refused (RFC 5869 §2.3).
        Hkdf::<Sha256>::new(None, &*self.0).expand(&info, &mut *key).expect("32 bytes");
        RoomCipher { key, room: room.clone() }
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomKey")
    }
}

/// Seals and opens the messages of one room. Its key is overwritten when dropped.
pub struct RoomCipher {
    key: Zeroizing<[u8; 32]>,
    room: RoomId,
}

impl RoomCipher {
    /// Seals a message body and returns the ciphertext, base64url without padding. `key` is the idempotency key of the
    /// send; `nonce` must be random, and new for each message.
    pub fn seal(&self, key: &str, nonce: [u8; NONCE], body: &str) -> String {
        let aad = self.associated(key);
        let payload = Payload { msg: body.as_bytes(), aad: &aad };
        let sealed = XChaCha20Poly1305::new((&*self.key).into()).encrypt(&XNonce::from(nonce), payload);
        // proof: the cipher refuses only texts longer than 256 GiB.
        BASE64URL_NOPAD.encode(&sealed.expect("short enough"))
    }

    /// Opens a body from nonce and ciphertext as texts; `None` if it was not sealed with this room key, in this room
    /// and under this idempotency `key`.
    pub fn open(&self, key: &str, nonce: &str, ciphertext: &str) -> Option<String> {
        let nonce = <[u8; NONCE]>::try_from(BASE64URL_NOPAD.decode(nonce.as_bytes()).ok()?).ok()?;
        let sealed = BASE64URL_NOPAD.decode(ciphertext.as_bytes()).ok()?;
        let aad = self.associated(key);
        let payload = Payload { msg: &sealed, aad: &aad };
        let plain = XChaCha20Poly1305::new((&*self.key).into()).decrypt(&XNonce::from(nonce), payload).ok()?;
        String::from_utf8(plain).ok()
    }

    /// Returns the associated data. A room id contains no zero byte, so no two pairs give the same bytes.
    fn associated(&self, key: &str) -> Vec<u8> {
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
mod tests {
    use super::*;

    fn cipher(key: u8, room: &str) -> RoomCipher {
        RoomKey::new([key; 32]).cipher(&RoomId::parse(room).unwrap())
    }

    #[test]
    fn keys_have_one_form() {
        let text = RoomKey::new([7; 32]).to_text();
        assert_eq!(text.len(), 43);
        assert_eq!(*RoomKey::parse(&text).unwrap().0, [7; 32]);
        assert_eq!(format!("{:?} {:?}", RoomKey::parse(&text), cipher(7, "a")), "Some(RoomKey) RoomCipher(a)");
        // The last of 43 characters has two unused bits.
        let mut odd = text.to_string();
        odd.replace_range(42.., "d");
        for bad in ["", "A", &text[..42], &format!("{}A", *text), &format!("{}=", *text), &odd, &"+".repeat(43)] {
            assert!(RoomKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_room_key_and_idempotency_key_together_open() {
        let body = r#"{"text":"hello, 李 雷"}"#;
        let sealed = cipher(1, "lobby").seal("k-1", [9; NONCE], body);
        let nonce = nonce_text(&[9; NONCE]);
        assert_eq!(cipher(1, "lobby").open("k-1", &nonce, &sealed).as_deref(), Some(body));
        assert_eq!(cipher(2, "lobby").open("k-1", &nonce, &sealed), None, "another room key");
        assert_eq!(cipher(1, "lobby2").open("k-1", &nonce, &sealed), None, "another room");
        assert_eq!(cipher(1, "lobby").open("k-2", &nonce, &sealed), None, "another idempotency key");
        assert_eq!(cipher(1, "lobby").open("k-1", &nonce_text(&[8; NONCE]), &sealed), None, "another nonce");
        assert_eq!(cipher(1, "lobby").open("k-1", "", &sealed), None);
        assert_eq!(cipher(1, "lobby").open("k-1", &nonce, ""), None);
    }

    /// The same file is read by the page's tests.
    #[test]
    fn vectors_shared_with_the_page() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/room_key.json")).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let text = |field: &str| vector[field].as_str().unwrap();
            let room = RoomId::parse(text("room")).unwrap();
            let cipher = RoomKey::parse(text("key")).unwrap().cipher(&room);
            let nonce = BASE64URL_NOPAD.decode(text("nonce").as_bytes()).unwrap().try_into().unwrap();
            assert_eq!(cipher.seal(text("k"), nonce, text("body")), text("c"), "{vector}");
            assert_eq!(cipher.open(text("k"), text("nonce"), text("c")).as_deref(), Some(text("body")), "{vector}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_sealed_opens_and_what_was_altered_does_not(
            body in "\\PC{0,80}", key in "\\PC{1,40}", nonce: [u8; NONCE], at: proptest::sample::Index, bit in 0..8
        ) {
            let cipher = cipher(3, "a");
            let sealed = cipher.seal(&key, nonce, &body);
            let opened = cipher.open(&key, &nonce_text(&nonce), &sealed);
            proptest::prop_assert_eq!(opened.as_deref(), Some(&*body));
            let mut bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let altered = BASE64URL_NOPAD.encode(&bytes);
            proptest::prop_assert_eq!(cipher.open(&key, &nonce_text(&nonce), &altered), None);
        }

        #[test]
        fn any_text_is_opened_or_not(key in "\\PC*", nonce in "\\PC*", ciphertext in "[A-Za-z0-9_-]*") {
            proptest::prop_assert_eq!(cipher(3, "a").open(&key, &nonce, &ciphertext), None);
        }
    }
}
