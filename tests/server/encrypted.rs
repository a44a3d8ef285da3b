//! Rooms that take only encrypted messages, by their id and by the setting; and encrypted messages in any room.

use crate::support::{Server, eventually};
use serde_json::{Value, json};

const KEY: &str = "0123456789abcdef01234567";

fn sealed(key: &str) -> Value {
    json!({"e2e": 1, "k": key, "n": "n".repeat(32), "c": "c".repeat(22)})
}

/// As text, with `e2e` first.
fn sealed_text(key: &str) -> String {
    format!(r#"{{"e2e":1,"k":"{key}","n":"{}","c":"{}"}}"#, "n".repeat(32), "c".repeat(22))
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
        // serde_json's own order of fields is another one.
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
    let folder = crate::support::Folder::new();
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
