//! Encrypted bodies: the shape that a message has which the server cannot read, and the rooms that take no other.
//! Knows no keys and opens nothing (`crypto::room_key` does).
//!
//! A body is encrypted if it begins with `{"e2e":` and has this shape; the server looks no further at any other:
//!
//! ```json
//! {"e2e":1,"k":KEY,"n":NONCE,"c":CIPHERTEXT}
//! ```
//!
//! with exactly these fields. KEY is the idempotency key of the send, NONCE 24 bytes and CIPHERTEXT 16 bytes or more,
//! both base64url without padding.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::client::{Key, MAX_KEY};
use super::json::write_string;
use crate::types::{Digest, RoomId};

/// How the body of an encrypted message begins.
const BEGINNING: &str = "{\"e2e\":";
/// Characters of 24 bytes.
const NONCE_CHARS: usize = 32;
/// Characters of a tag, 16 bytes, with nothing before it.
const CIPHERTEXT_CHARS: usize = 22;
/// Rooms whose id begins so take only encrypted messages, whatever the settings say.
pub const PREFIX: &str = "e2e.";

/// An encrypted body, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted<'a> {
    /// The idempotency key under which it was sent, as its sender says.
    pub key: Cow<'a, str>,
    pub nonce: Cow<'a, str>,
    pub ciphertext: Cow<'a, str>,
}

impl<'a> Encrypted<'a> {
    /// Takes a body apart; `None` if it has not the shape of an encrypted one. Costs a comparison of seven bytes where
    /// it does not begin like one.
    pub fn parse(body: &'a str) -> Option<Encrypted<'a>> {
        if !body.starts_with(BEGINNING) {
            return None;
        }
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let found = deserializer.deserialize_map(ShapeVisitor).ok()?;
        deserializer.end().ok()?;
        let is_base64url = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let fits = (1..=MAX_KEY).contains(&found.key.len())
            && found.nonce.len() == NONCE_CHARS
            && is_base64url(&found.nonce)
            && found.ciphertext.len() >= CIPHERTEXT_CHARS
            // One character alone stands for no byte.
            && found.ciphertext.len() % 4 != 1
            && is_base64url(&found.ciphertext);
        fits.then_some(found)
    }

    /// The body's text.
    pub fn to_body(&self) -> String {
        let mut out = format!("{BEGINNING}1,\"k\":").into_bytes();
        write_string(&mut out, &self.key);
        out.extend_from_slice(b",\"n\":");
        write_string(&mut out, &self.nonce);
        out.extend_from_slice(b",\"c\":");
        write_string(&mut out, &self.ciphertext);
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Encrypted<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an encrypted body")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Encrypted<'de>, M::Error> {
        let wrong = || M::Error::custom("not the shape");
        let (mut version, mut key, mut nonce, mut ciphertext) = (None, None, None, None);
        while let Some(Key(name)) = map.next_key::<Key<'de>>()? {
            if name == "e2e" {
                if version.replace(map.next_value::<u8>()?).is_some() {
                    return Err(wrong());
                }
                continue;
            }
            let slot = match &*name {
                "k" => &mut key,
                "n" => &mut nonce,
                "c" => &mut ciphertext,
                // What else stands there would be readable.
                _ => return Err(wrong()),
            };
            // A key of an object and a text are read alike: borrowed where they can be.
            let Key(text) = map.next_value::<Key<'de>>()?;
            if slot.replace(text).is_some() {
                return Err(wrong());
            }
        }
        match (version, key, nonce, ciphertext) {
            (Some(1), Some(key), Some(nonce), Some(ciphertext)) => Ok(Encrypted { key, nonce, ciphertext }),
            _ => Err(wrong()),
        }
    }
}

/// A body says that it is sealed under another idempotency key than the one that it is sent with: it may have been
/// taken from somebody else's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherKey;

impl OtherKey {
    pub const TEXT: &'static str = "'body.k' of an encrypted body is the key that it is sent with";
}

/// Whether the body of a send is encrypted. `key` is the one that it is sent with.
///
/// # Errors
/// [`OtherKey`] where it is, and names another.
pub fn of_send(body: &str, key: Option<Digest>) -> Result<bool, OtherKey> {
    match Encrypted::parse(body) {
        None => Ok(false),
        Some(found) if key == Some(Digest::of(found.key.as_bytes())) => Ok(true),
        Some(_) => Err(OtherKey),
    }
}

/// The rooms that take only encrypted messages: those whose id begins with [`PREFIX`], and those of the setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptedRooms {
    ids: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl EncryptedRooms {
    /// What a room is told that takes only encrypted messages and got another.
    pub const REFUSAL: &'static str = "this room takes only encrypted messages; one needs its room key to talk here";

    /// From a list of ids; an entry that ends with `*` stands for all that begin so.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> EncryptedRooms {
        let mut rooms = EncryptedRooms::default();
        for entry in entries {
            match entry.strip_suffix('*') {
                Some(prefix) => rooms.prefixes.push(prefix.to_string()),
                None => drop(rooms.ids.insert(entry.to_string())),
            }
        }
        rooms
    }

    /// Does this room take only encrypted messages?
    pub fn contains(&self, room: &RoomId) -> bool {
        let id = room.as_str();
        id.starts_with(PREFIX)
            || self.ids.contains(id)
            || self.prefixes.iter().any(|prefix| id.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> String {
        "n".repeat(32)
    }

    fn body(key: &str, nonce: &str, ciphertext: &str) -> String {
        format!(r#"{{"e2e":1,"k":"{key}","n":"{nonce}","c":"{ciphertext}"}}"#)
    }

    #[test]
    fn one_shape() {
        let c = "c".repeat(22);
        let good = body("k-1", &nonce(), &c);
        let found = Encrypted::parse(&good).unwrap();
        assert!(matches!(&found, Encrypted { key: Cow::Borrowed("k-1"), .. }), "{found:?}");
        assert_eq!((found.to_body(), found.ciphertext.len()), (good.clone(), 22));
        let spaced = good.replace(',', " ,\n ").replace("1 ", " 1 ");
        assert_eq!(Encrypted::parse(&spaced), Some(found.clone()), "{spaced}");
        let escaped = good.replace("k-1", r"k\u002d1");
        assert_eq!(Encrypted::parse(&escaped), Some(found));
        for bad in [
            "1".to_string(),
            "{}".to_string(),
            "{\"e2e\":".to_string(),
            good[..good.len() - 1].to_string(),
            format!("{good} 1"),
            good.replace("\"e2e\":1", "\"e2e\":2"),
            good.replace("\"e2e\":1", "\"e2e\":true"),
            good.replace("\"e2e\":1", "\"e2e\":1,\"e2e\":1"),
            good.replace("\"k\":", "\"k\":\"k-1\",\"k\":"),
            good.replace("\"k-1\"", "null"),
            good.replace("\"k-1\"", "7"),
            good.replace('}', ",\"text\":\"hello\"}"),
            good.replace("\"n\":", "\"m\":"),
            format!(" {good}"),
            body("", &nonce(), &c),
            body(&"k".repeat(201), &nonce(), &c),
            body("k", &"n".repeat(31), &c),
            body("k", &"+".repeat(32), &c),
            body("k", &nonce(), &"c".repeat(21)),
            body("k", &nonce(), &"c".repeat(25)),
            body("k", &nonce(), "hello, this is not encrypted"),
        ] {
            assert_eq!(Encrypted::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_key_is_the_sends() {
        let digest = |text: &str| Some(Digest::of(text.as_bytes()));
        let sealed = body("k-1", &nonce(), &"c".repeat(22));
        assert_eq!(of_send(&sealed, digest("k-1")), Ok(true));
        assert_eq!(of_send(&sealed, digest("k-2")), Err(OtherKey));
        assert_eq!(of_send(&sealed, None), Err(OtherKey));
        assert_eq!(of_send("{\"e2e\":\"any JSON\"}", None), Ok(false));
    }

    #[test]
    fn encrypted_rooms() {
        let rooms = EncryptedRooms::new(["secret", "team-*"]);
        let is = |id: &str| rooms.contains(&RoomId::parse(id).unwrap());
        assert!(is("e2e.x") && is("secret") && is("team-") && is("team-a"));
        assert!(!is("e2e") && !is("secret2") && !is("team") && !is("a.e2e."));
        assert!(EncryptedRooms::new(["*"]).contains(&RoomId::parse("any").unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_the_shape_or_not(rest in "[{}\\[\\]\",:\\\\0-9a-ekn ]{0,60}") {
            let _ = Encrypted::parse(&format!("{BEGINNING}{rest}"));
        }

        #[test]
        fn what_is_written_is_read(key in "\\PC{1,40}", nonce in "[A-Za-z0-9_-]{32}", c in "[A-Za-z0-9_-]{24,60}") {
            proptest::prop_assume!(c.len() % 4 != 1);
            let written = Encrypted { key: key.into(), nonce: nonce.into(), ciphertext: c.into() };
            let body = written.to_body();
            proptest::prop_assert_eq!(Encrypted::parse(&body), Some(written));
        }
    }
}
