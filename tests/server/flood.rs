//! Bursts from one client: nothing is stuck in a buffer for lack of another edge, nothing is lost or reordered.

use std::thread;

use serde_json::json;

use crate::support::*;

/// Writes everything from its own thread, as fast as the server takes it.
fn pour(raw: &Raw, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = Raw { stream: raw.stream.try_clone().expect("a socket"), buffer: Vec::new() };
    thread::spawn(move || writer.send(bytes))
}

#[test]
fn five_megabytes_of_small_pings_are_all_answered() {
    const COUNT: u64 = 60_000;
    let server = Server::start(&["--request-rate", "0", "--control-rate", "0"]);
    let mut raw = server.socket("/ws");
    assert_eq!(raw.next_of("welcome")["type"], "welcome");
    let mut bytes = Vec::new();
    for id in 0..COUNT {
        bytes.extend(text(&format!(r#"{{"type":"ping","id":{id},"padding":"{}"}}"#, "-".repeat(30))));
        bytes.extend(frame(0x89, &id.to_be_bytes()));
    }
    assert!(bytes.len() > 5 << 20, "{}", bytes.len());
    let writer = pour(&raw, bytes);
    for id in 0..COUNT {
        assert_eq!(raw.frame().expect("a pong").json()["id"], id);
        let pong = raw.frame().expect("a pong");
        assert_eq!((pong.first, pong.payload.as_slice()), (0x8a, id.to_be_bytes().as_slice()));
    }
    writer.join().unwrap();
    raw.send(close(1000, b""));
    assert_eq!(raw.closed_with(), 1000);
}

#[test]
fn megabytes_of_signals_are_all_dealt_with() {
    const COUNT: u64 = 50_000;
    let server = Server::start(&["--request-rate", "0"]);
    let mut listener = server.member("loud", "listener");
    let mut raw = server.socket("/rooms/loud/ws?name=loud");
    let mut bytes = Vec::new();
    for number in 0..COUNT {
        bytes.extend(text(&format!(r#"{{"type":"signal","body":{number}}}"#)));
    }
    bytes.extend(text(r#"{"type":"ping","id":5}"#));
    bytes.extend(text(r#"{"type":"send","id":6,"body":"the end"}"#));
    let writer = pour(&raw, bytes);
    // A slow member may miss some messages, but sees them in order, including the one that follows.
    let mut last = None;
    let mut heard = 0;
    loop {
        let value = listener.next().expect("more");
        match value["type"].as_str().unwrap() {
            "signal" => {
                let number = value["body"].as_u64();
                assert!(number > last, "{number:?} behind {last:?}");
                last = number;
                heard += 1;
            }
            "message" => break,
            _ => {}
        }
    }
    assert!(heard > 0);
    writer.join().unwrap();
    assert_eq!(raw.next_of("pong")["id"], 5);
    assert_eq!(raw.next_of("ack")["id"], 6);
}

/// Ten thousand sends before the first read: the in-flight limit slows the client down and loses nothing.
#[test]
fn sends_far_beyond_in_flight_are_all_acknowledged_in_order() {
    const COUNT: u64 = 10_000;
    let server = Server::start(&["--request-rate", "0", "--durability", "full"]);
    let mut raw = server.socket("/rooms/pile/ws");
    let bytes: Vec<u8> =
        (1..=COUNT).flat_map(|id| text(&json!({"type": "send", "id": id, "body": id}).to_string())).collect();
    let writer = pour(&raw, bytes);
    // Waits until the answers fill the kernel's buffer, and then the connection's queue.
    let mut seen = vec![0; 60_000];
    eventually("answers that nobody reads", || raw.stream.peek(&mut seen).is_ok_and(|count| count == seen.len()));
    let (mut acked, mut heard) = (0, 0);
    while acked < COUNT || heard < COUNT {
        let value = raw.frame().expect("more").json();
        match value["type"].as_str().unwrap() {
            "ack" => {
                acked += 1;
                assert_eq!((&value["id"], &value["seq"]), (&json!(acked), &json!(acked)));
            }
            "message" => {
                heard += 1;
                assert_eq!((&value["seq"], &value["body"]), (&json!(heard), &json!(heard)));
                assert!(heard <= acked, "heard before it was acknowledged");
            }
            "error" => panic!("{value}"),
            _ => {}
        }
    }
    writer.join().unwrap();
    assert_eq!(server.history("pile").len(), COUNT as usize);
}
