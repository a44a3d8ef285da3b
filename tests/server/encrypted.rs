//! Rooms that take only encrypted messages, because of their id or by setting; encrypted messages in any room.

use crate::support::{Server, eventually};
use serde_json::{Value, json};

const KEY: &str = "0123456789abcdef01234567";
const OTHER: &str = "another key, of 22 characters";

fn sealed(key: &str) -> Value {
    json!({"e2e": 1, "k": key, "n": "n".repeat(32), "c": "w".repeat(22)})
}

/// Returns an encrypted body as text, with `e2e` first.
fn sealed_text(key: &str) -> String {
    format!(r#"{{"e2e":1,"k":"{key}","n":"{}","c":"{}"}}"#, "n".repeat(32), "w".repeat(22))
}

fn post(server: &Server, room: &str, key: &str, body: &str) -> (u16, Value) {
    let answer = server.post_with(&format!("/rooms/{room}/messages"), body, &format!("Idempotency-Key: {key}\r\n"));
    (answer.status, answer.json())
}

#[test]
fn a_plain_body_is_refused_by_socket_and_by_post() {
    let server = Server::start(&["--encrypted-rooms", "vault,team-*"]);
    for room in ["e2e.garden", "vault", "team-a"] {
        let mut ann = server.member(room, "ann");
        let mut bob = server.member(room, "bob");
        for (request, field) in [
            (json!({"type": "send", "id": 1, "key": "a", "body": {"text": "in the clear"}}), "body"),
            (json!({"type": "signal", "id": 2, "body": {"typing": true}}), "body"),
        ] {
            ann.send(request);
            let error = ann.next_of("error");
            assert_eq!((&error["code"], &error["field"]), (&json!("not_encrypted"), &json!(field)), "{error}");
        }
        // serde_json would order the fields differently.
        ann.send_text(format!(r#"{{"type":"send","id":3,"key":"a","body":{}}}"#, sealed_text("a")));
        assert_eq!(ann.next_of("ack")["seq"], 1);
        ann.send_text(format!(r#"{{"type":"signal","body":{}}}"#, sealed_text("s")));
        assert_eq!(bob.next_of("message")["body"], sealed("a"), "the first that anybody hears");
        assert_eq!(bob.next_of("signal")["body"], sealed("s"));

        let (status, problem) = post(&server, room, KEY, "\"in the clear\"");
        assert_eq!((status, &problem["code"]), (422, &json!("not_encrypted")), "{problem}");
        assert_eq!(post(&server, room, KEY, &sealed_text(KEY)).0, 201);
        assert_eq!(server.history(room).len(), 2);
    }
    assert_eq!(post(&server, "vault2", KEY, "1").0, 201);
}

#[test]
fn a_body_sealed_under_another_key_is_refused_in_every_room() {
    let server = Server::start(&[]);
    for room in ["lobby", "e2e.garden"] {
        let mut ann = server.member(room, "ann");
        for key in [r#""key":"b","#, ""] {
            ann.send_text(format!(r#"{{"type":"send","id":3,{key}"body":{}}}"#, sealed_text("a")));
            let error = ann.next_of("error");
            assert_eq!((&error["code"], &error["field"]), (&json!("bad_field"), &json!("body.k")), "{error}");
        }
        let (status, problem) = post(&server, room, KEY, &sealed_text("another"));
        assert_eq!((status, &problem["field"]), (422, &json!("body.k")), "{problem}");
        assert_eq!(server.history(room).len(), 0);
    }
}

#[test]
fn the_setting_changes_while_the_server_runs() {
    let folder = crate::support::TempDir::new();
    let file = folder.path().join("racerd.toml");
    std::fs::write(&file, "encrypted_rooms = []\n").unwrap();
    let path = file.to_str().unwrap().to_string();
    let server = Server::start_in(folder, "127.0.0.1:0", &["--config", &path]);
    assert_eq!(post(&server, "vault", KEY, "1").0, 201);
    std::fs::write(&file, "encrypted_rooms = [\"vault\"]\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    let other = "another key, of 22 characters";
    eventually("a refusal", || post(&server, "vault", other, "1").0 == 422);
    assert_eq!(
        server.history("vault").len() as u64,
        server.get("/rooms/vault/messages").json()["head"].as_u64().unwrap()
    );
}

/// Returns the same fields in the second form, with the key's id.
fn second_form(text: &str) -> String {
    text.replace(r#"{"e2e":1,"#, &format!(r#"{{"e2e":2,"i":"{}","#, "A".repeat(22)))
}

#[test]
fn the_second_form_is_encrypted_too_and_no_repeat_hides_in_it() {
    let mut server = Server::start(&[]);
    let mut ann = server.member("e2e.second", "ann");
    let body = second_form(&sealed_text(KEY));
    ann.send_text(format!(r#"{{"type":"send","id":1,"key":"{KEY}","body":{body}}}"#));
    assert_eq!(ann.next_of("ack")["seq"], 1);
    assert_eq!(post(&server, "e2e.second", OTHER, &second_form(&with_nonce(OTHER, "other"))).0, 201);
    let longer = body.replacen('{', r#"{"text":"in the clear","#, 1);
    let no_id = body.replace(&format!(r#""i":"{}","#, "A".repeat(22)), "");
    for refused in [longer, no_id] {
        assert_eq!(post(&server, "e2e.second", KEY, &refused).1["code"], "not_encrypted", "{refused}");
    }
    server.stop();
    server.restart();
    let mut eve = server.member("e2e.second", "eve");
    for replayed in [body.clone(), sealed_text(KEY), body.replace(&"A".repeat(22), &"Q".repeat(22))] {
        eve.send_text(format!(r#"{{"type":"signal","id":3,"body":{replayed}}}"#));
        assert_eq!(eve.next_of("error")["code"], "key_reused", "{replayed}");
        assert_eq!(post(&server, "e2e.second", KEY, &replayed).1["code"], "key_reused", "{replayed}");
    }
    assert_eq!(server.history("e2e.second").len(), 2);
}

/// Returns the same body with another nonce, which makes it a different body.
fn with_nonce(key: &str, nonce: &str) -> String {
    sealed_text(key).replace(&"n".repeat(32), &format!("{nonce:n<32}"))
}

/// An attacker without the room key replays a member's message: by socket, by POST, as a signal.
#[test]
fn what_was_said_encrypted_is_not_taken_again() {
    let mut server = Server::start(&[]);
    let mut ann = server.member("e2e.replay", "ann");
    let mut eve = server.member("e2e.replay", "eve");
    ann.send_text(format!(r#"{{"type":"send","id":1,"key":"{KEY}","body":{}}}"#, sealed_text(KEY)));
    assert_eq!(ann.next_of("ack")["seq"], 1);
    // The original sender may repeat it, in case the answer was lost.
    ann.send_text(format!(r#"{{"type":"send","id":2,"key":"{KEY}","body":{}}}"#, sealed_text(KEY)));
    assert_eq!(ann.next_of("ack")["duplicate"], true);
    for request in [
        format!(r#"{{"type":"send","id":3,"key":"{KEY}","body":{}}}"#, sealed_text(KEY)),
        format!(r#"{{"type":"send","id":3,"key":"{KEY}","body":{}}}"#, sealed_text(KEY).replace(',', " , ")),
        format!(r#"{{"type":"signal","id":3,"body":{}}}"#, sealed_text(KEY)),
    ] {
        eve.send_text(request);
        let error = eve.next_of("error");
        assert_eq!((&error["id"], &error["code"], &error["field"]), (&json!(3), &json!("key_reused"), &json!("body")));
    }
    let (status, problem) = post(&server, "e2e.replay", KEY, &sealed_text(KEY));
    assert_eq!((status, &problem["code"]), (422, &json!("key_reused")), "{problem}");
    let crooked = sealed_text(KEY).replace(&"w".repeat(22), &format!("{}x", "w".repeat(21)));
    eve.send_text(format!(r#"{{"type":"signal","id":4,"body":{crooked}}}"#));
    assert_eq!(eve.next_of("error")["field"], "body.c", "the same bytes, spelt another way");
    assert_eq!(post(&server, "e2e.replay", KEY, &crooked).1["field"], "body.c");

    server.stop();
    server.restart();
    let mut eve = server.member("e2e.replay", "eve");
    let mut ann = server.member("e2e.replay", "ann");
    eve.send_text(format!(r#"{{"type":"signal","id":5,"body":{}}}"#, sealed_text(KEY)));
    assert_eq!(eve.next_of("error")["code"], "key_reused", "known over restarts");
    eve.send_text(format!(r#"{{"type":"signal","id":6,"body":{}}}"#, with_nonce(KEY, "fresh")));
    assert_eq!(ann.next_of("signal")["body"]["n"], format!("{:n<32}", "fresh"), "another body is a signal like any");
    assert_eq!(server.history("e2e.replay").len(), 1);
}

/// Keys can be guessed or stolen; an attacker who uses 50 of them first still silences no member.
#[test]
fn fifty_squatted_keys_silence_nobody() {
    let server = Server::start(&["--request-rate", "0"]);
    let mut ann = server.member("e2e.squat", "ann");
    let mut eve = server.member("e2e.squat", "eve");
    for n in 0..50 {
        let key = format!("prefix-{n}");
        eve.send_text(format!(r#"{{"type":"send","key":"{key}","body":{}}}"#, with_nonce(&key, "squat")));
        eve.next_of("ack");
    }
    for n in 0..50 {
        let key = format!("prefix-{n}");
        ann.send_text(format!(r#"{{"type":"send","key":"{key}","body":{}}}"#, with_nonce(&key, "genuine")));
        assert_eq!(ann.next_of("ack")["seq"], 51 + n);
    }
    let said = server.history("e2e.squat");
    let genuine = said.iter().filter(|message| message["body"]["n"].as_str().is_some_and(|n| n.starts_with("genuine")));
    assert_eq!(genuine.count(), 50);
}
