//! Encrypted bodies: the form of a message that the server cannot read, and the rooms that accept no other. Knows no
//! keys and opens nothing (`crypto::room_key` does).
//!
//! A body is encrypted if it begins with `{"e2e":` and has one of these forms; the server does not inspect any other
//! body:
//!
//! ```json
//! {"e2e":2,"i":KEYID,"k":KEY,"n":NONCE,"c":CIPHERTEXT}
//! {"e2e":1,"k":KEY,"n":NONCE,"c":CIPHERTEXT}
//! ```
//!
//! with exactly these fields. KEY is the idempotency key of the send, KEYID 16 bytes, NONCE 24 bytes and CIPHERTEXT 16
//! bytes or more, all base64url without padding, in the canonical spelling (RFC 4648 §3.5): equal bytes have equal
//! texts, so that a repeat can be recognized by comparing texts. Earlier clients wrote the second form.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::raw::FieldName;
use crate::json::Object;
use crate::types::{Digest, IdempotencyKey, RoomId};

/// How the body of an encrypted message begins.
const BEGINNING: &str = "{\"e2e\":";
/// Base64url characters of 16 bytes.
const KEY_ID_CHARS: usize = 22;
/// Base64url characters of 24 bytes.
const NONCE_CHARS: usize = 32;
/// Base64url characters of a tag alone, 16 bytes.
const CIPHERTEXT_CHARS: usize = 22;
/// Prefix of the ids of rooms that take only encrypted messages, whatever the settings say.
pub const PREFIX: &str = "e2e.";

/// The forms of encrypted bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version<'a> {
    One,
    Two {
        /// Tells the room's keys apart.
        key_id: Cow<'a, str>,
    },
}

/// An encrypted body, split into its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted<'a> {
    pub version: Version<'a>,
    /// The idempotency key under which it was sent, according to its sender.
    pub key: Cow<'a, str>,
    pub nonce: Cow<'a, str>,
    pub ciphertext: Cow<'a, str>,
}

impl<'a> Encrypted<'a> {
    /// Splits a body into its fields; `None` if it does not have the form of an encrypted one. Costs a comparison of
    /// seven bytes if it does not begin like one.
    pub fn parse(body: &'a str) -> Option<Encrypted<'a>> {
        if !body.starts_with(BEGINNING) {
            return None;
        }
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let found = deserializer.deserialize_map(ShapeVisitor).ok()?;
        deserializer.end().ok()?;
        let fits = found.version.fits()
            && (1..=IdempotencyKey::MAX).contains(&found.key.len())
            && found.nonce.len() == NONCE_CHARS
            && is_base64url(&found.nonce)
            && found.ciphertext.len() >= CIPHERTEXT_CHARS
            // A single leftover character encodes no byte.
            && found.ciphertext.len() % 4 != 1
            && is_base64url(&found.ciphertext);
        fits.then_some(found)
    }

    /// Returns the digest of the sealed body: of `k`, `n` and `c`, however the JSON around them is written. No other
    /// message can be made under it that opens, whoever knows `k`. The version and the key's id have no part in it:
    /// they are bound to the ciphertext, which under others opens for nobody.
    pub fn digest(&self) -> Digest {
        // The nonce has a fixed length and the key a length in front, so no two sealed bodies give the same bytes.
        let mut bytes = Vec::with_capacity(4 + self.key.len() + self.nonce.len() + self.ciphertext.len());
        bytes.extend_from_slice(self.nonce.as_bytes());
        // proof of the width: a key has at most IdempotencyKey::MAX (200) bytes.
        bytes.extend_from_slice(&(self.key.len() as u32).to_be_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.ciphertext.as_bytes());
        Digest::of(&bytes)
    }

    /// Reports whether the ciphertext is spelt in the only way that is allowed. A nonce of 24 bytes leaves no bits
    /// over.
    fn is_canonical(&self) -> bool {
        ends_in_zeros(&self.ciphertext)
    }

    /// Returns the body's text.
    pub fn to_body(&self) -> String {
        let mut out = Vec::new();
        let object = Object::new(&mut out);
        let object = match &self.version {
            Version::One => object.number("e2e", 1),
            Version::Two { key_id } => object.number("e2e", 2).string("i", key_id),
        };
        object.string("k", &self.key).string("n", &self.nonce).string("c", &self.ciphertext).end();
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Version<'_> {
    /// Reports whether the key's id, if there is one, is 16 bytes in the canonical spelling.
    fn fits(&self) -> bool {
        match self {
            Version::One => true,
            Version::Two { key_id } => key_id.len() == KEY_ID_CHARS && is_base64url(key_id) && ends_in_zeros(key_id),
        }
    }
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| base64url_value(byte).is_some())
}

/// Reports whether the last character leaves no bit unused, or only zeros (RFC 4648 §3.5).
fn ends_in_zeros(text: &str) -> bool {
    let unused = match text.len() % 4 {
        2 => 0b1111,
        3 => 0b11,
        _ => 0,
    };
    text.bytes().last().and_then(base64url_value).is_some_and(|value| value & unused == 0)
}

/// Returns the six bits that a base64url character stands for (RFC 4648 §5).
fn base64url_value(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Encrypted<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an encrypted body")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Encrypted<'de>, M::Error> {
        let wrong = || M::Error::custom("not the shape");
        let (mut version, mut key_id, mut key, mut nonce, mut ciphertext) = (None, None, None, None, None);
        while let Some(FieldName(name)) = map.next_key::<FieldName<'de>>()? {
            if name == "e2e" {
                if version.replace(map.next_value::<u8>()?).is_some() {
                    return Err(wrong());
                }
                continue;
            }
            let slot = match &*name {
                "i" => &mut key_id,
                "k" => &mut key,
                "n" => &mut nonce,
                "c" => &mut ciphertext,
                // Any other field would be readable.
                _ => return Err(wrong()),
            };
            // `FieldName` reads any string, and borrows it where it can.
            let FieldName(text) = map.next_value::<FieldName<'de>>()?;
            if slot.replace(text).is_some() {
                return Err(wrong());
            }
        }
        let version = match (version, key_id) {
            (Some(1), None) => Version::One,
            (Some(2), Some(key_id)) => Version::Two { key_id },
            _ => return Err(wrong()),
        };
        let (Some(key), Some(nonce), Some(ciphertext)) = (key, nonce, ciphertext) else { return Err(wrong()) };
        Ok(Encrypted { version, key, nonce, ciphertext })
    }
}

/// The reason to refuse a body in the form of an encrypted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The body names another idempotency key than the one it is sent with: it may have been taken from someone else's
    /// message.
    OtherKey,
    /// The ciphertext is not in the canonical spelling, so that the same message would look like another.
    NotCanonical,
}

impl Fault {
    /// Returns the field at fault, as a path from the request.
    pub fn field(self) -> &'static str {
        match self {
            Fault::OtherKey => "body.k",
            Fault::NotCanonical => "body.c",
        }
    }

    /// Explains the fault to people.
    pub fn text(self) -> &'static str {
        match self {
            Fault::OtherKey => "'body.k' of an encrypted body is the key that it is sent with",
            Fault::NotCanonical => {
                "'body.c' is not canonical base64url: the unused bits of its last character must be zero"
            }
        }
    }
}

/// Returns the digest of a body to be stored, if it is encrypted; `key` is the idempotency key sent with it.
///
/// # Errors
/// [`Fault`] if it is encrypted and names another key or is not canonical.
pub fn of_send(body: &str, key: Option<IdempotencyKey>) -> Result<Option<Digest>, Fault> {
    let Some(found) = Encrypted::parse(body) else { return Ok(None) };
    if key != Some(IdempotencyKey::of(found.key.as_bytes())) {
        return Err(Fault::OtherKey);
    }
    canonical_digest(&found).map(Some)
}

/// Returns the digest of a signal's body, if it is encrypted. A signal has no key beside the body's own.
///
/// # Errors
/// [`Fault::NotCanonical`].
pub fn of_signal(body: &str) -> Result<Option<Digest>, Fault> {
    Encrypted::parse(body).map(|found| canonical_digest(&found)).transpose()
}

/// Returns the digest of a stored body; `None` if it is not encrypted.
pub fn of_stored(body: &str) -> Option<Digest> {
    Encrypted::parse(body).map(|found| found.digest())
}

fn canonical_digest(found: &Encrypted) -> Result<Digest, Fault> {
    if found.is_canonical() { Ok(found.digest()) } else { Err(Fault::NotCanonical) }
}

/// The rooms that take only encrypted messages: those whose id begins with [`PREFIX`], and those from the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptedRooms {
    ids: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl EncryptedRooms {
    /// The refusal of an unencrypted message in such a room.
    pub const REFUSAL: &'static str = "this room takes only encrypted messages; one needs its room key to talk here";

    /// Takes a list of ids; an entry that ends with `*` stands for all ids with that prefix.
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

    /// Returns whether this room takes only encrypted messages.
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

    /// The same fields in the second form.
    fn second(first: &str) -> String {
        first.replace(r#""e2e":1,"#, &format!(r#""e2e":2,"i":"{}","#, "i".repeat(21) + "w"))
    }

    #[test]
    fn one_shape() {
        let c = "w".repeat(22);
        let good = body("k-1", &nonce(), &c);
        let found = Encrypted::parse(&good).unwrap();
        assert!(matches!(&found, Encrypted { key: Cow::Borrowed("k-1"), .. }), "{found:?}");
        assert_eq!((found.to_body(), found.ciphertext.len()), (good.clone(), 22));
        let spaced = good.replace(',', " ,\n ").replace("1 ", " 1 ");
        assert_eq!(Encrypted::parse(&spaced), Some(found.clone()), "{spaced}");
        let escaped = good.replace("k-1", r"k\u002d1");
        assert_eq!(Encrypted::parse(&escaped), Some(found));
        let newer = second(&good);
        let found = Encrypted::parse(&newer).unwrap();
        assert!(matches!(&found.version, Version::Two { key_id: Cow::Borrowed(_) }), "{found:?}");
        assert_eq!(found.to_body(), newer);
        for bad in [
            newer.replace("\"e2e\":2", "\"e2e\":1"),
            newer.replace("\"e2e\":2", "\"e2e\":3"),
            newer.replace("iw\"", "i\""),
            newer.replace("iw\"", "iiw\""),
            newer.replace("iw\"", "ix\""),
            newer.replace("iw\"", "i+\""),
            newer.replace("\"k\":", "\"i\":\"a\",\"k\":"),
            newer.replace('}', ",\"text\":\"hello\"}"),
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
        let key = |text: &str| Some(IdempotencyKey::of(text.as_bytes()));
        let sealed = body("k-1", &nonce(), &"w".repeat(22));
        let found = Encrypted::parse(&sealed).unwrap().digest();
        assert_eq!(of_send(&sealed, key("k-1")), Ok(Some(found)));
        assert_eq!(of_send(&sealed, key("k-2")), Err(Fault::OtherKey));
        assert_eq!(of_send(&sealed, None), Err(Fault::OtherKey));
        assert_eq!(of_send("{\"e2e\":\"any JSON\"}", None), Ok(None));
        assert_eq!((of_signal(&sealed), of_signal("1"), of_stored(&sealed)), (Ok(Some(found)), Ok(None), Some(found)));
    }

    #[test]
    fn one_sealed_body_has_one_digest_and_one_spelling() {
        let digest = |body: &str| Encrypted::parse(body).unwrap().digest();
        let (n, c) = (nonce(), "w".repeat(22));
        let plain = body("k-1", &n, &c);
        for same in [plain.replace(',', " , "), plain.replace("k-1", r"k\u002d1"), plain.replace("1,\"k\"", "1 ,\"k\"")]
        {
            assert_eq!(digest(&same), digest(&plain), "{same}");
        }
        let moved = format!(r#"{{"e2e":1,"c":"{c}","n":"{n}","k":"k-1"}}"#);
        assert_eq!(digest(&moved), digest(&plain), "the fields in another order");
        assert_eq!(digest(&second(&plain)), digest(&plain), "a repeat in the clothes of the other form");
        assert_eq!(of_signal(&second(&plain)), Ok(Some(digest(&plain))));
        let others = [body("k-2", &n, &c), body("k-1", &"m".repeat(32), &c), body("k-1", &n, &"w".repeat(24))];
        assert!(others.iter().all(|other| digest(other) != digest(&plain)));
        // 16, 17, 18 bytes: four, two and no bits of the last character are unused.
        for (length, good, bad) in [(22, "AQgw", "BCxZ_"), (23, "AEIw8", "BCDx_"), (24, "ABC_-9", "")] {
            let ends = |end: char| format!("{}{end}", "w".repeat(length - 1));
            let fault = |end| of_signal(&body("k", &n, &ends(end))).err();
            assert!(good.chars().all(|end| fault(end).is_none()), "{length}: {good}");
            assert!(bad.chars().all(|end| fault(end) == Some(Fault::NotCanonical)), "{length}: {bad}");
            let key = Some(IdempotencyKey::of(b"k"));
            assert!(bad.chars().all(|end| of_send(&body("k", &n, &ends(end)), key) == Err(Fault::NotCanonical)));
        }
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
        fn what_is_written_is_read(
            id in proptest::option::of("[A-Za-z0-9_-]{21}[AQgw]"), key in "\\PC{1,40}", nonce in "[A-Za-z0-9_-]{32}",
            c in "[A-Za-z0-9_-]{24,60}"
        ) {
            proptest::prop_assume!(c.len() % 4 != 1);
            let version = id.map_or(Version::One, |id| Version::Two { key_id: id.into() });
            let written = Encrypted { version, key: key.into(), nonce: nonce.into(), ciphertext: c.into() };
            let body = written.to_body();
            proptest::prop_assert_eq!(Encrypted::parse(&body), Some(written));
        }
    }
}
