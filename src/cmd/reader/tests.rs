//! Tests of what `tail` prints: for people and for programs, of plain and encrypted messages.

use super::*;
use crate::crypto::room_key::{NONCE, RoomKey, Stream, Unsealed, nonce_text};
use crate::types::RoomId;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// When [`message`] was stored.
const AT: u64 = 1_790_000_000_000;

fn cipher(key: u8) -> RoomCipher {
    RoomKey::new([key; 32]).cipher(&RoomId::parse("lobby").unwrap())
}

fn reader(key: Option<u8>, json: bool) -> Reader {
    Reader::new(key.map(cipher), json)
}

fn message(body: &str) -> String {
    format!(r#"{{"type":"message","seq":1,"at":{AT},"from":{{"member":"m-1","name":"ann"}},"body":{body}}}"#)
}

/// Returns a body in the form of earlier clients.
fn first(key: &str) -> String {
    let ciphertext = cipher(1).seal_first(key, [2; NONCE], r#"{"text":"psst"}"#);
    let nonce = nonce_text(&[2; NONCE]).into();
    Encrypted { version: Version::One, key: key.into(), nonce, ciphertext: ciphertext.into() }.to_body()
}

/// Returns the next body of a stream.
fn sealed(kind: Kind, key: &str, stream: &mut Stream, name: &str) -> String {
    let unsealed = Unsealed { name, sent: AT, body: r#"{"text":"psst"}"# };
    let ciphertext = cipher(1).seal(kind, key, &[2; NONCE], stream, unsealed);
    let version = Version::Two { key_id: cipher(1).key_id().into() };
    Encrypted { version, key: key.into(), nonce: nonce_text(&[2; NONCE]).into(), ciphertext: ciphertext.into() }
        .to_body()
}

fn stream(seed: u8) -> Stream {
    Stream::new(&Zeroizing::new([seed; 32]))
}

#[test]
fn lines_for_people() {
    let of = |body: &str| reader(None, false).line(&message(body));
    assert_eq!(of(r#"{"text":"hello"}"#), "ann: hello\n");
    assert_eq!(of(r#"{"text":"\u001b[2J\nbob: hi"}"#), "ann: \\u{1b}[2J\\nbob: hi\n");
    let forged = message("{\"text\":\"hi\"}").replace("ann", "bob: yes, send it.  eve");
    assert_eq!(reader(None, false).line(&forged), "\"bob: yes, send it.  eve\": hi\n");
    assert_eq!(of(r#"{"text":7, "x":1}"#), "ann: {\"text\":7, \"x\":1}\n");
    assert_eq!(of("[1,\n\t\"\u{9b}\"]"), "ann: [1,  \"\\u009b\"]\n");
    for body in [first("k"), sealed(Kind::Message, "k", &mut stream(1), "ann")] {
        assert_eq!(of(&body), "ann: (encrypted; --room-key KEY decrypts it)\n");
    }
    let damaged = r#"{"type":"message","seq":1,"from":{"name":"?"},"body":null,"unreadable":true}"#;
    for key in [None, Some(1)] {
        assert_eq!(reader(key, false).line(damaged), "?: (damaged on the server's disk)\n");
    }
    assert_eq!(reader(None, true).line(damaged), format!("{damaged}\n"));
}

#[test]
fn messages_of_earlier_clients_are_read_once_and_with_the_right_key() {
    let mut right = reader(Some(1), false);
    assert_eq!(right.line(&message(&first("k"))), "ann: psst\n");
    assert_eq!(right.line(&message("{\"text\":\"x\"}")), "ann (not encrypted): x\n");
    assert_eq!(right.unreadable, 0);
    assert!(right.line(&message(&first("k"))).contains("a repeat of"));
    assert_eq!(right.line(&message(&first("k2"))), "ann: psst\n");
    assert_eq!(right.unreadable, 1);
    let mut wrong = reader(Some(2), false);
    assert_eq!(wrong.line(&message(&first("k"))), "ann: (can't be read with this key)\n");
    assert_eq!(wrong.unreadable, 1);
}

/// An attacker without the key, the server among them, and a member who has it: what each of them can do shows.
#[test]
fn attacks_show() {
    let (mut ann, mut signals) = (stream(1), stream(2));
    let bodies: Vec<String> = (1..=5).map(|n| sealed(Kind::Message, &format!("k{n}"), &mut ann, "ann")).collect();
    let mut tail = reader(Some(1), false);
    let mut line = |body: &str| tail.line(&message(body));
    assert_eq!(line(&bodies[0]), "ann: psst\n");
    let as_message = sealed(Kind::Signal, "s1", &mut signals, "ann");
    assert_eq!(line(&as_message), "ann: (altered on its way)\n", "a signal stored as a message");
    assert_eq!(line(&bodies[0]), "ann: (a repeat of an earlier message)\n");
    assert_eq!(line(&bodies[3]), "ann (2 messages before it are missing): psst\n");
    assert_eq!(line(&bodies[2]), "ann (out of order: written before a message above): psst\n");
    let renamed = message(&bodies[4]).replace("\"ann\"", "\"bob\"");
    assert_eq!(tail.line(&renamed), "bob (signed as ann): psst\n");
    let nameless = message(&sealed(Kind::Message, "k6", &mut stream(3), ""));
    assert_eq!(tail.line(&nameless), "ann (signed without a name): psst\n");
    assert_eq!(tail.line(&message(&first("k7"))), "ann (old form: may be a repeat): psst\n");
    // A new log in which everything is replayed.
    tail.gap(0, 1, true);
    assert_eq!(tail.line(&message(&bodies[0])), "ann (from the former log): psst\n");
    assert_eq!(tail.line(&message(&bodies[0])), "ann: (a repeat of an earlier message)\n");
    assert_eq!(tail.unreadable(), 3);
    let another_key = message(&bodies[1]);
    assert_eq!(reader(Some(2), false).line(&another_key), "ann: (encrypted with another key)\n");
    let altered = message(&bodies[1].replace("\"k\":\"k2\"", "\"k\":\"k3\""));
    assert_eq!(reader(Some(1), false).line(&altered), "ann: (altered on its way)\n");
}

/// The same bodies, made by another implementation.
#[test]
fn a_member_who_continues_the_stream_of_another_shows() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/room_body.json")).unwrap();
    let forged: Vec<&Value> =
        vectors["faults"].as_array().unwrap().iter().filter(|vector| vector["fault"] == "forged").collect();
    assert!(forged.len() > 5);
    for vector in forged {
        let text = |field: &str| vector[field].as_str().unwrap();
        let cipher = RoomKey::parse(text("key")).unwrap().cipher(&RoomId::parse(text("room")).unwrap());
        let part = |field: &str| vector["sealed"][field].as_str().unwrap().into();
        let version = Version::Two { key_id: part("i") };
        let body = Encrypted { version, key: part("k"), nonce: part("n"), ciphertext: part("c") }.to_body();
        let line = Reader::new(Some(cipher), false).line(&message(&body));
        assert_eq!(line, "ann: (forged: its signature is not its author's)\n", "{vector}");
    }
}

#[test]
fn objects_for_programs() {
    let of = |key, body: &str| -> Value {
        let line = reader(key, true).line(&message(body));
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(of(None, "[1,\n2]")["body"], json!([1, 2]));
    let opened = of(Some(1), &first("k"));
    assert_eq!(
        (&opened["body"]["text"], &opened["encrypted"], &opened["marks"]),
        (&"psst".into(), &true.into(), &json!([]))
    );
    let mut bobs = stream(1);
    let opened = of(Some(1), &sealed(Kind::Message, "k", &mut bobs, "bob"));
    assert_eq!((&opened["body"], &opened["signed_name"]), (&json!({"text": "psst"}), &"bob".into()));
    assert_eq!((&opened["marks"], &opened["missing"]), (&json!(["name"]), &0.into()));
    assert_eq!((&opened["sent"], &opened["counter"]), (&AT.into(), &1.into()));
    assert_eq!(opened["stream"], BASE64URL_NOPAD.encode(bobs.id()));
    let unreadable = of(Some(2), &sealed(Kind::Message, "k", &mut bobs, "bob"));
    assert_eq!(
        (&unreadable["unreadable"], &unreadable["body"]["e2e"]),
        (&"encrypted with another key".into(), &2.into())
    );
    assert_eq!(of(Some(2), &first("k"))["unreadable"], "can't be read with this key");
    assert_eq!(of(Some(1), "1").get("encrypted"), None);
}
