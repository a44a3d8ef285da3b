//! Tests of room keys: both versions of bodies, the vectors that other implementations share, and what must not open.

use super::*;
use serde_json::Value;

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
    let sealed = cipher(1, "lobby").seal_first("k-1", [9; NONCE], body);
    let nonce = nonce_text(&[9; NONCE]);
    assert_eq!(cipher(1, "lobby").open_first("k-1", &nonce, &sealed).as_deref(), Some(body));
    assert_eq!(cipher(2, "lobby").open_first("k-1", &nonce, &sealed), None, "another room key");
    assert_eq!(cipher(1, "lobby2").open_first("k-1", &nonce, &sealed), None, "another room");
    assert_eq!(cipher(1, "lobby").open_first("k-2", &nonce, &sealed), None, "another idempotency key");
    assert_eq!(cipher(1, "lobby").open_first("k-1", &nonce_text(&[8; NONCE]), &sealed), None, "another nonce");
    assert_eq!(cipher(1, "lobby").open_first("k-1", "", &sealed), None);
    assert_eq!(cipher(1, "lobby").open_first("k-1", &nonce, ""), None);
}

/// The same file is read by the page's tests.
#[test]
fn vectors_shared_with_the_page() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/room_key.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 3);
    for vector in vectors {
        let text = |field: &str| vector[field].as_str().unwrap();
        let room = RoomId::parse(text("room")).unwrap();
        let cipher = RoomKey::parse(text("key")).unwrap().cipher(&room);
        let nonce = BASE64URL_NOPAD.decode(text("nonce").as_bytes()).unwrap().try_into().unwrap();
        assert_eq!(cipher.seal_first(text("k"), nonce, text("body")), text("c"), "{vector}");
        assert_eq!(cipher.open_first(text("k"), text("nonce"), text("c")).as_deref(), Some(text("body")), "{vector}");
    }
}

proptest::proptest! {
    #[test]
    fn what_was_sealed_opens_and_what_was_altered_does_not(
        body in "\\PC{0,80}", key in "\\PC{1,40}", nonce: [u8; NONCE], at: proptest::sample::Index, bit in 0..8
    ) {
        let cipher = cipher(3, "a");
        let sealed = cipher.seal_first(&key, nonce, &body);
        let opened = cipher.open_first(&key, &nonce_text(&nonce), &sealed);
        proptest::prop_assert_eq!(opened.as_deref(), Some(&*body));
        let mut bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let altered = BASE64URL_NOPAD.encode(&bytes);
        proptest::prop_assert_eq!(cipher.open_first(&key, &nonce_text(&nonce), &altered), None);
    }

    #[test]
    fn any_text_is_opened_or_not(key in "\\PC*", nonce in "\\PC*", ciphertext in "[A-Za-z0-9_-]*") {
        proptest::prop_assert_eq!(cipher(3, "a").open_first(&key, &nonce, &ciphertext), None);
    }
}

fn kind(word: &str) -> Kind {
    if word == "message" { Kind::Message } else { Kind::Signal }
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    BASE64URL_NOPAD.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

fn cipher_of(key: &str, room: &str) -> RoomCipher {
    RoomKey::parse(key).unwrap().cipher(&RoomId::parse(room).unwrap())
}

/// The file is made by `tests/foreign/room_key.py`; the library's tests read it, too.
#[test]
fn bodies_that_another_implementation_made() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/room_body.json")).unwrap();
    let of = |what: &str| vectors[what].as_array().unwrap().clone();
    assert!(of("opens").len() > 10 && of("faults").len() > 25 && of("padded").len() > 200);
    for vector in of("opens") {
        let text = |field: &str| vector[field].as_str().unwrap();
        let part = |field: &str| vector["sealed"][field].as_str().unwrap();
        let number = |field: &str| vector[field].as_u64().unwrap();
        let cipher = cipher_of(text("key"), text("room"));
        let mut stream = Stream::new(&Zeroizing::new(bytes(text("seed"))));
        stream.counter = number("counter") - 1;
        let unsealed = Unsealed { name: text("name"), sent: number("sent"), body: text("body") };
        assert_eq!(cipher.key_id(), part("i"), "{vector}");
        let sealed = cipher.seal(kind(text("kind")), part("k"), &bytes(part("n")), &mut stream, unsealed);
        assert_eq!(sealed, part("c"), "{vector}");
        let opened = open(&cipher, &vector).unwrap();
        assert_eq!((&*opened.name, opened.sent, &*opened.body), (text("name"), number("sent"), text("body")));
        assert_eq!((opened.stream.as_slice(), opened.counter), (stream.id(), number("counter")));
    }
    for vector in of("faults") {
        let text = |field: &str| vector[field].as_str().unwrap();
        let word = match open(&cipher_of(text("key"), text("room")), &vector) {
            Ok(_) => "opens",
            Err(Fault::OtherKey) => "other_key",
            Err(Fault::Altered) => "altered",
            Err(Fault::Malformed) => "malformed",
            Err(Fault::Forged) => "forged",
        };
        assert_eq!(word, text("fault"), "{vector}");
    }
    for vector in of("padded") {
        let length = |at: usize| usize::try_from(vector[at].as_u64().unwrap()).unwrap();
        assert_eq!(padded(length(0)), length(1), "{vector}");
    }
}

fn open(cipher: &RoomCipher, vector: &Value) -> Result<Opened, Fault> {
    let part = |field: &str| vector["sealed"][field].as_str().unwrap();
    cipher.open(kind(vector["kind"].as_str().unwrap()), part("i"), part("k"), part("n"), part("c"))
}

#[test]
fn a_stream_counts() {
    let (cipher, mut stream) = (cipher(1, "lobby"), Stream::new(&Zeroizing::new([4; 32])));
    let unsealed = Unsealed { name: "ann", sent: 5, body: "1" };
    for counter in 1..=3 {
        let sealed = cipher.seal(Kind::Message, "k", &[9; NONCE], &mut stream, unsealed);
        let opened = cipher.open(Kind::Message, &cipher.key_id(), "k", &nonce_text(&[9; NONCE]), &sealed).unwrap();
        assert_eq!((opened.counter, opened.stream.as_slice()), (counter, stream.id()));
    }
}

proptest::proptest! {
    #[test]
    fn bodies_open_as_they_were_sealed_and_hide_their_length(
        name in "\\PC{0,32}", body in "\\PC{0,300}", key in "\\PC{1,40}", sent in 0..=crate::types::MAX_NUMBER,
        nonce: [u8; NONCE], at: proptest::sample::Index, bit in 0..8
    ) {
        let (cipher, mut stream) = (cipher(3, "a"), Stream::new(&Zeroizing::new([4; 32])));
        let unsealed = Unsealed { name: &name, sent, body: &body };
        let sealed = cipher.seal(Kind::Signal, &key, &nonce, &mut stream, unsealed);
        let open = |sealed: &str| cipher.open(Kind::Signal, &cipher.key_id(), &key, &nonce_text(&nonce), sealed);
        let opened = open(&sealed).unwrap();
        proptest::prop_assert_eq!((opened.name, opened.sent, opened.body), (name.clone(), sent, body.clone()));
        let mut bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).unwrap();
        let content = 5 + name.len() + body.len();
        proptest::prop_assert_eq!(bytes.len(), 16 + 112 + padded(content));
        // Padmé adds at most 12 %.
        proptest::prop_assert!(content <= padded(content) && padded(content) <= (content + content / 8).max(64));
        proptest::prop_assert_eq!(padded(padded(content)), padded(content));
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        proptest::prop_assert_eq!(open(&BASE64URL_NOPAD.encode(&bytes)), Err(Fault::Altered));
    }
}
