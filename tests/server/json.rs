//! JSON in and out: bodies unchanged, numbers and keys taken exactly, faults named by their field.

use serde_json::{Value, json};

use crate::support::*;

/// Returns a room's history by HTTP, as text.
fn browse(server: &Server, room: &str) -> String {
    server.get(&format!("/rooms/{room}/messages")).body
}

/// Sends raw text and returns the answer to it.
fn ask(client: &mut Client, text: &str) -> Value {
    client.send_text(text);
    loop {
        let value = client.next().expect("an answer");
        // The member list that follows `joined` is not the answer.
        if matches!(value["type"].as_str(), Some("ack" | "error" | "history" | "left" | "pong")) {
            return value;
        }
    }
}

/// Digits are preserved live, in history, over HTTP and after a restart.
#[test]
fn numbers_in_bodies_keep_their_digits() {
    let mut server = Server::start(&[]);
    let body =
        "[9007199254740993,18446744073709551616,123456789012345678901234567890,9007199254740991.0,1e2,-0.0,1E400,0.1]";
    let mut raw = server.socket("/rooms/r/ws?name=watcher");
    raw.next_of("joined");
    let mut ann = server.member("r", "ann");
    ann.send_text(format!("{{\"type\":\"send\",\"id\":1,\"body\":{body}}}"));
    ann.next_of("ack");
    let wanted = format!("\"body\":{body}}}");
    let live = loop {
        let frame = raw.frame().expect("a message");
        let text = String::from_utf8(frame.payload).unwrap_or_default();
        if text.contains("\"message\"") {
            break text;
        }
    };
    assert!(live.contains(&wanted), "{live}");
    raw.send(text(r#"{"type":"history","id":2}"#));
    let history = loop {
        let text = String::from_utf8(raw.frame().expect("a page").payload).unwrap_or_default();
        if text.contains("\"history\"") {
            break text;
        }
    };
    assert!(history.contains(&wanted), "{history}");
    assert!(browse(&server, "r").contains(&wanted));
    let posted = server.post("/rooms/r/messages", &format!(" \t{body}\n"));
    assert_eq!(posted.status, 201);
    assert_eq!(browse(&server, "r").matches(&wanted).count(), 2);
    server.stop();
    server.restart();
    assert_eq!(browse(&server, "r").matches(&wanted).count(), 2);
}

/// The protocol's own numbers are integers from 0 to 2^53, never rounded to a neighbour.
#[test]
fn the_protocols_numbers_are_exact_or_refused() {
    let server = Server::start(&[]);
    let mut ann = server.member("r", "ann");
    for (text, field) in [
        (r#"{"type":"ping","id":1.0}"#, "id"),
        (r#"{"type":"ping","id":1e2}"#, "id"),
        (r#"{"type":"ping","id":9007199254740993}"#, "id"),
        (r#"{"type":"ping","id":-1}"#, "id"),
        (r#"{"type":"join","id":1,"room":"x","after":18446744073709551616}"#, "after"),
        (r#"{"type":"history","id":1,"limit":-1}"#, "limit"),
        (r#"{"type":"history","id":1,"before":"7"}"#, "before"),
    ] {
        let answer = ask(&mut ann, text);
        assert_eq!((&answer["type"], &answer["field"]), (&json!("error"), &json!(field)), "{text}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|m| m.contains(field)), "{answer}");
    }
    assert_eq!(ask(&mut ann, r#"{"type":"ping","id":9007199254740992}"#)["id"], json!(9_007_199_254_740_992u64));
    for query in ["limit=-1", "limit=1.0", "after=18446744073709551616", "before=1e2", "limit=0", "after=1&before=2"] {
        let answer = server.get(&format!("/rooms/r/messages?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
}

/// U+0000 is kept in bodies and keys, and refused in names.
#[test]
fn nothing_is_cut_at_a_nul() {
    let mut server = Server::start(&[]);
    let mut ann = server.member("r", "ann");
    let first = ask(&mut ann, r#"{"type":"send","id":1,"key":"k\u0000x","body":"a\u0000b"}"#);
    let second = ask(&mut ann, r#"{"type":"send","id":2,"key":"k","body":"other"}"#);
    assert_eq!((&first["seq"], &second["seq"], &second["duplicate"]), (&json!(1), &json!(2), &Value::Null));
    let again = ask(&mut ann, r#"{"type":"send","id":3,"key":"k\u0000x","body":"a\u0000b"}"#);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    assert_eq!(server.get("/rooms/r/ws?name=a%00b").status, 400);
    let refused = server.request(handshake("/rooms/r/ws?name=a%00b", ""));
    assert_eq!(refused.status, 400, "{refused:?}");
    drop(ann);
    server.stop();
    server.restart();
    assert!(browse(&server, "r").contains(r#""body":"a\u0000b""#));
}

/// A duplicate protocol field is an error that names it; inside a body, duplicates pass.
#[test]
fn a_field_that_stands_there_twice_is_refused() {
    let server = Server::start(&[]);
    let mut ann = server.member("r1", "ann");
    for (text, field) in [
        (r#"{"type":"members","type":"leave","id":1}"#, "type"),
        (r#"{"type":"send","room":"r1","room":"r2","id":2,"body":1}"#, "room"),
        (r#"{"type":"send","id":3,"body":1,"body":2}"#, "body"),
        (r#"{"type":"send","id":4,"id":5,"body":1}"#, "id"),
        (r#"{"type":"send","id":4,"body":1,"b\u006fdy":2}"#, "body"),
        (r#"{"type":"send","id":4,"key":"a","key":"a","body":1}"#, "key"),
    ] {
        let answer = ask(&mut ann, text);
        assert_eq!((&answer["code"], &answer["field"]), (&json!("bad_field"), &json!(field)), "{text}: {answer}");
    }
    ann.send_text(r#"{"type":"send","id":6,"body":{"a":1,"a":2},"unknown":1,"unknown":2}"#);
    ann.next_of("ack");
    assert!(browse(&server, "r1").contains(r#""body":{"a":1,"a":2}"#));
    assert_eq!(server.get("/rooms/r1/messages?limit=1&limit=2").status, 400);
}

/// A body is any JSON value, also `null`. One that is nested too deep, holds half a surrogate pair or a number of more
/// than 300 digits is refused before it is stored.
#[test]
fn bodies_are_any_json_within_bounds() {
    let server = Server::start(&["--request-rate", "0", "--error-budget", "0"]);
    let mut ann = server.member("r", "ann");
    for (id, body) in ["null", "false", "0", "\"\"", "[]", "{}", " [ 1 ,\n\t2 ] "].iter().enumerate() {
        let answer = ask(&mut ann, &format!("{{\"type\":\"send\",\"id\":{id},\"body\":{body}}}"));
        assert_eq!(answer["type"], "ack", "{body}: {answer}");
    }
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(ask(&mut ann, &format!("{{\"type\":\"send\",\"id\":1,\"body\":{}}}", deep(64)))["type"], "ack");
    for bad in [deep(65), deep(10_000), r#""\ud800""#.into(), r#"{"\udc00":1}"#.into(), "1".repeat(301)] {
        let answer = ask(&mut ann, &format!("{{\"type\":\"send\",\"id\":1,\"body\":{bad}}}"));
        assert_eq!(answer["field"], "body", "{answer}");
        let posted = server.post("/rooms/r/messages", &bad);
        assert_eq!((posted.status, posted.json()["field"].clone()), (400, json!("body")), "{posted:?}");
    }
    for bad in ["", "{", "[]", "7", "nonsense", "{} {}", "\u{feff}{}"] {
        let answer = ask(&mut ann, bad);
        assert_eq!(answer["code"], "bad_json", "{bad}: {answer}");
    }
    assert_eq!(server.history("r").len(), 8);
}

/// An error repeats the request's id and names field or type; the connection stays open until the error budget is
/// spent, then it is closed with 1008.
#[test]
fn faults_are_answered_until_the_budget_is_spent() {
    let server = Server::start(&["--error-budget", "5"]);
    let mut raw = server.socket("/rooms/r/ws?name=ann");
    raw.next_of("joined");
    for id in 0..6 {
        raw.send(text(&format!(r#"{{"type":"nonsense","id":{id}}}"#)));
        let answer = raw.next_of("error");
        assert_eq!((&answer["id"], &answer["code"]), (&json!(id), &json!("unknown_type")));
    }
    assert_eq!(raw.closed_with(), 1008);
}

#[test]
fn requests_past_the_rate_are_told_when_to_come_again() {
    let server = Server::start(&["--request-rate", "1", "--request-burst", "3"]);
    let mut ann = server.member("r", "ann");
    for id in 0..3 {
        assert_eq!(ask(&mut ann, &format!(r#"{{"type":"ping","id":{id}}}"#))["type"], "pong");
    }
    let answer = ask(&mut ann, r#"{"type":"send","id":7,"body":1}"#);
    assert_eq!((&answer["code"], &answer["id"]), (&json!("rate_limited"), &json!(7)));
    assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 1000), "{answer}");
    assert_eq!(server.history("r").len(), 0);
}

/// One fault gets one `error`, which names the field and the request; the connection stays open.
#[test]
fn an_error_names_the_field_and_repeats_the_id() {
    let server = Server::start(&["--request-rate", "0", "--error-budget", "0"]);
    let mut ann = server.member("r", "ann");
    for (text, code, field) in [
        (r#"{"id":7}"#, "bad_field", "type"),
        (r#"{"type":null,"id":7}"#, "bad_field", "type"),
        (r#"{"type":"nonsense","id":7}"#, "unknown_type", "type"),
        (r#"{"type":"SEND","id":7,"body":1}"#, "unknown_type", "type"),
        (r#"{"type":"send","id":7}"#, "bad_field", "body"),
        (r#"{"type":"signal","id":7}"#, "bad_field", "body"),
        (r#"{"type":"send","id":7,"room":null,"body":1}"#, "bad_field", "room"),
        (r#"{"type":"send","id":7,"room":"a/b","body":1}"#, "bad_field", "room"),
        (r#"{"type":"join","id":7,"room":""}"#, "bad_field", "room"),
        (r#"{"type":"join","id":7,"room":".."}"#, "bad_field", "room"),
        (r#"{"type":"join","id":7,"room":"caf\u00e9"}"#, "bad_field", "room"),
        (r#"{"type":"join","id":7,"room":"x","after":1,"last":1}"#, "bad_field", "last"),
        (r#"{"type":"join","id":7,"room":"x","presence":"loud"}"#, "bad_field", "presence"),
        (r#"{"type":"join","id":7,"room":"x","after":1,"epoch":1}"#, "bad_field", "epoch"),
        (r#"{"type":"history","id":7,"after":1,"before":2}"#, "bad_field", "before"),
        (r#"{"type":"history","id":7,"limit":0}"#, "bad_field", "limit"),
        (r#"{"type":"send","id":7,"key":"","body":1}"#, "bad_field", "key"),
        (r#"{"type":"send","id":7,"key":1,"body":1}"#, "bad_field", "key"),
        (r#"{"type":"send","id":7,"key":"\ud800","body":1}"#, "bad_field", "key"),
        (r#"{"type":"send","id":7,"room":"elsewhere","body":1}"#, "not_joined", "room"),
        (r#"{"type":"leave","id":7,"room":"elsewhere"}"#, "not_joined", "room"),
    ] {
        let answer = ask(&mut ann, text);
        assert_eq!(
            (&answer["type"], &answer["id"], &answer["code"], &answer["field"]),
            (&json!("error"), &json!(7), &json!(code), &json!(field)),
            "{text}: {answer}"
        );
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    assert_eq!(ask(&mut ann, r#"{"type":"join","id":8,"room":"r"}"#)["code"], "already_joined");
    // A signal has no id to repeat, and an unreadable id is not guessed.
    assert_eq!(ask(&mut ann, r#"{"type":"send","id":4,"id":5,"body":1}"#).get("id"), None);
    assert_eq!(ask(&mut ann, r#"{"type":"signal"}"#).get("id"), None);
    // Unknown fields are ignored, and known ones are recognised however their names are escaped.
    assert_eq!(ask(&mut ann, r#"{"new":[{"type":"x"}],"t\u0079pe":"ping","id":9}"#)["id"], 9);
    // A socket that was opened without a room has to name one.
    let mut free = server.client("/ws?name=bob");
    for text in [r#"{"type":"send","id":1,"body":1}"#, r#"{"type":"join","id":1}"#, r#"{"type":"members","id":1}"#] {
        let answer = ask(&mut free, text);
        assert_eq!((&answer["id"], &answer["field"]), (&json!(1), &json!("room")), "{answer}");
    }
    assert_eq!(server.history("r").len(), 0);
}
