//! Graceful shutdown: accepted requests are answered, every client is told, nothing acknowledged is lost.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::*;
use crate::timers::narrow;

/// Reads until the close frame and the end of the stream. Returns the messages before it and the code.
fn last_words(raw: &mut Raw) -> (Vec<Value>, u16) {
    let mut values = Vec::new();
    loop {
        let frame = raw.frame().expect("a close frame before the end");
        if let Some(code) = frame.close_code() {
            raw.try_send(close(code, b""));
            assert_eq!(raw.frame(), None, "nothing follows a close frame");
            return (values, code);
        }
        if frame.first == 0x81 {
            values.push(frame.json());
        }
    }
}

fn of_type<'a>(values: &'a [Value], kind: &str) -> Vec<&'a Value> {
    values.iter().filter(|value| value["type"] == kind).collect()
}

#[test]
fn what_was_accepted_is_answered_before_the_end() {
    let mut server = Server::start(&[]);
    let epoch = server.get("/rooms/last/messages").json()["epoch"].clone();
    let mut known = 0;
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        let mut sender = server.socket("/rooms/last/ws?name=sender");
        let mut observer = server.socket("/rooms/last/ws?name=observer");
        observer.next_of("joined");
        sender.next_of("joined");
        let sends = (0..20).map(|id| text(&json!({"type": "send", "id": id, "body": id}).to_string()));
        sender.send(sends.collect::<Vec<_>>().concat());
        server.signal(signal);
        let (heard, code) = last_words(&mut sender);
        assert_eq!(code, 1001);
        let (acks, messages) = (of_type(&heard, "ack"), of_type(&heard, "message"));
        for (id, ack) in acks.iter().enumerate() {
            assert_eq!((&ack["id"], &ack["seq"]), (&json!(id), &json!(known + id + 1)));
        }
        assert_eq!(messages.len(), acks.len(), "every message that is acknowledged is also heard");
        let bye = heard.last().expect("a farewell");
        assert_eq!((&bye["type"], &bye["reason"]), (&json!("bye"), &json!("shutdown")));
        assert!(bye["reconnect_after_ms"].as_u64().is_some_and(|ms| (1..60_000).contains(&ms)));
        let (seen, code) = last_words(&mut observer);
        assert_eq!((code, of_type(&seen, "message").len()), (1001, acks.len()));
        assert_eq!(seen.last().expect("a farewell")["type"], "bye");
        let acked = acks.len();
        drop((sender, observer));
        assert_eq!(server.wait(SOON).code(), Some(0));
        server.restart();
        let kept = server.history("last");
        assert!(kept.len() >= known + acked);
        for (id, message) in kept[known..].iter().enumerate() {
            assert_eq!(message["body"], id);
        }
        known = kept.len();
        assert_eq!(server.get("/rooms/last/messages").json()["epoch"], epoch);
    }
    assert!(known > 0, "what was sent before the signal was not taken");
}

/// Tests a keep-alive connection between requests, one in the middle of a request, and a POST at the store.
#[test]
fn http_connections_end_as_well() {
    let mut server = Server::start(&["--header-timeout", "1h", "--drain-timeout", "5s"]);
    let mut idle = server.raw();
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    let mut half = server.raw();
    half.send("GET /healthz HTTP/1.1\r\nHost: lo");
    let mut post = server.raw();
    post.send(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1\r\n\r\n7",
    );
    // The other two were accepted before, so their bytes have arrived by the time this one is answered.
    assert_eq!(post.answer().status, 201);
    server.signal(Signal::TERM);
    while idle.fill() {}
    while half.fill() {}
    while post.fill() {}
    assert_eq!(server.wait(SOON).code(), Some(0));
}

#[test]
fn a_client_that_does_not_answer_does_not_hold_it_up() {
    let mut server = Server::start(&["--drain-timeout", "3s"]);
    let mut mute = server.socket("/rooms/r/ws");
    server.signal(Signal::TERM);
    assert_eq!(mute.closed_with(), 1001);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Creates a room in which one member reads nothing, with megabytes queued for it.
fn clogged(server: &Server) -> (Client, Raw) {
    let mut stuck = narrow(server, 4096);
    stuck.upgrade("/rooms/clogged/ws?name=stuck");
    let mut writer = server.member("clogged", "writer");
    for id in 0..60 {
        writer.say(id, json!("x".repeat(20_000)));
    }
    (writer, stuck)
}

fn lets_nobody_in(server: &Server) -> bool {
    match TcpStream::connect(server.address) {
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(mut stream) => matches!(stream.read(&mut [0]), Ok(0) | Err(_)),
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_off_in_time() {
    let mut server = Server::start(&["--drain-timeout", "2s", "--write-wait", "1h"]);
    let (mut writer, _stuck) = clogged(&server);
    server.signal(Signal::TERM);
    writer.next_of("bye");
    // No new client is let in meanwhile.
    eventually("a closed listener", || lets_nobody_in(&server));
    drop(writer);
    assert_eq!(server.wait(SOON).code(), Some(0));
    server.restart();
    assert_eq!(server.history("clogged").len(), 60);
}

#[test]
fn a_second_signal_stops_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let mut server = Server::start(&["--drain-timeout", "1h", "--write-wait", "1h"]);
        let (mut writer, _stuck) = clogged(&server);
        server.signal(first);
        writer.next_of("bye");
        drop(writer);
        eventually("the stop has begun", || server.log().contains("stopping"));
        eventually("a closed listener", || lets_nobody_in(&server));
        assert!(server.child.try_wait().unwrap().is_none(), "it waits for the one who does not read");
        server.signal(second);
        assert_eq!(server.wait(SOON).code(), Some(0));
        server.restart();
        assert_eq!(server.history("clogged").len(), 60);
    }
}
