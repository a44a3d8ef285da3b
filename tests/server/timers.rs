//! Silent and slow clients: pings, timeouts, and clients that must be left alone.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::*;

const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

#[test]
fn a_silent_client_is_pinged_and_a_pong_keeps_it() {
    let server = Server::start(&["--ping-period", "200ms", "--pong-wait", "3s"]);
    let mut raw = server.socket("/ws");
    let begun = Instant::now();
    let mut pings = 0;
    // For longer than `pong_wait`.
    while begun.elapsed() < Duration::from_secs(4) {
        let frame = raw.frame().expect("it stays open");
        if frame.first == PING {
            pings += 1;
            raw.send(self::frame(PONG, &frame.payload));
        }
    }
    assert!(pings >= 2);
    raw.send(text(r#"{"type":"ping","id":1}"#));
    assert_eq!(raw.next_of("pong")["id"], 1);
}

/// The client still answers TCP but sends no pong; a mute one (a pulled cable) looks the same from here.
#[test]
fn a_client_without_pongs_is_closed() {
    let server = Server::start(&["--ping-period", "200ms", "--pong-wait", "2s"]);
    let mut watcher = server.socket("/rooms/wake/ws");
    let mut raw = server.socket("/rooms/wake/ws?name=mute");
    // The watcher sends pongs from its own thread, and reports the member that left.
    let watching = thread::spawn(move || {
        loop {
            let frame = watcher.frame().expect("the one who answers stays");
            match frame.first {
                PING => watcher.send(self::frame(PONG, &frame.payload)),
                _ if frame.json()["events"][0]["event"] == "leave" => return frame.json(),
                _ => {}
            }
        }
    });
    assert_eq!(raw.closed_with(), 4002);
    let left = watching.join().unwrap();
    assert_eq!((&left["count"], &left["events"][0]["name"]), (&json!(1), &json!("mute")));
    eventually("the reason in the log", || server.log().contains("4002"));
}

#[test]
fn any_byte_counts_as_life() {
    let server = Server::start(&["--ping-period", "100ms", "--pong-wait", "3s"]);
    let keeps_open = |bytes: Vec<u8>| {
        let mut raw = server.socket("/ws");
        for byte in bytes {
            raw.send([byte]);
            // A ping comes after 100 ms of silence.
            while raw.frame().expect("it stays open").first != PING {}
        }
        raw.send(text(r#"{"type":"ping","id":2}"#));
        while raw.next_of("pong")["id"] != 2 {}
        // When no more bytes come, the connection is closed.
        assert_eq!(raw.closed_with(), 4002);
    };
    // One message whose upload takes twice `pong_wait`, and many short ones. No pong is ever sent.
    let long = text(&json!({"type": "ping", "id": 1, "x": "uploaded slowly"}).to_string());
    let short = text(r#"{"type":"ping"}"#).repeat(2);
    assert!(long.len() > 40 && short.len() > 40, "slower than a pong may be");
    at_once(vec![long, short], |_, bytes| keeps_open(bytes));
}

#[test]
fn between_requests_only_so_long() {
    let server = Server::start(&["--keep-alive", "2s", "--header-timeout", "1h"]);
    let mut raw = server.raw();
    for _ in 0..3 {
        raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
    }
    assert!(raw.ended(), "without a word: nothing was asked");
}

#[test]
fn a_request_has_to_come_whole() {
    let server = Server::start(&["--header-timeout", "500ms"]);
    let before = server.descriptors();
    // A connection that never sends anything.
    let mut silent = server.raw();
    let mut bytes = Vec::new();
    while silent.fill() {}
    bytes.append(&mut silent.buffer);
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "));
    // A head that arrives byte by byte, however steadily.
    let mut dripping = server.raw();
    dripping.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    for byte in "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaa".bytes() {
        dripping.send([byte]);
        if dripping.stream.peek(&mut [0]).is_ok() {
            break;
        }
    }
    dripping.stream.set_read_timeout(Some(SOON)).expect("a socket");
    assert_eq!(dripping.answer().status, 408);
    // A body that never arrives.
    let mut body = server.raw();
    body.send(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\n\r\n[1,2",
    );
    assert_eq!(body.answer().status, 408);
    eventually("all descriptors closed", || server.descriptors() <= before);
}

/// Connects a socket with this receive buffer size.
pub fn narrow(server: &Server, bytes: usize) -> Raw {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(bytes).expect("a socket");
    socket.connect(&server.address.into()).expect("the server listens");
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    Raw { stream, buffer: Vec::new() }
}

/// A client that reads history slowly and answers pings as it reads them stays connected. A client that reads nothing
/// does not.
#[test]
fn slow_is_not_dead() {
    let server = Server::without_grace(&[
        "--ping-period",
        "300ms",
        "--pong-wait",
        "3s",
        "--write-wait",
        "3s",
        "--request-rate",
        "0",
    ]);
    let mut writer = server.member("slow", "writer");
    for id in 1..=100 {
        writer.say(id, json!("x".repeat(4000)));
    }
    drop(writer);
    let mut dead = narrow(&server, 4096);
    dead.send(handshake("/rooms/slow/ws?last=100&name=dead", ""));
    let mut slow = narrow(&server, 4096);
    slow.upgrade("/rooms/slow/ws?last=100&name=slow");
    // The server's pings to a client that answers serve as the clock: one each 300 ms.
    let mut clock = server.socket("/ws");
    let mut tick = || {
        loop {
            let frame = clock.frame().expect("it stays open");
            if frame.first == PING {
                return clock.send(self::frame(PONG, &frame.payload));
            }
        }
    };
    let begun = Instant::now();
    for seq in 1..=100 {
        loop {
            let frame = slow.frame().expect("it stays open");
            match frame.first {
                PING => slow.send(self::frame(PONG, &frame.payload)),
                _ if frame.json()["type"] == "message" => {
                    assert_eq!(frame.json()["seq"], seq);
                    break;
                }
                _ => {}
            }
        }
        if seq % 6 == 0 {
            tick();
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "slower than a pong may be");
    slow.send(text(r#"{"type":"ping","id":3}"#));
    assert_eq!(slow.next_of("pong")["id"], 3);
    eventually("the end of the one who reads nothing", || server.members("slow") == 1);
    eventually("its reason", || server.log().contains("took nothing for the write timeout"));
    drop(dead);
}

/// A server that was stopped for longer than its deadlines first reads what arrived meanwhile.
#[test]
fn nobody_is_late_because_the_server_was() {
    let server = Server::start(&["--header-timeout", "2s", "--ping-period", "300ms", "--pong-wait", "2s"]);
    let mut member = server.socket("/ws");
    let ping = loop {
        let frame = member.frame().expect("it stays open");
        if frame.first == PING {
            break frame;
        }
    };
    let before = server.descriptors();
    let mut asking = server.raw();
    eventually("it is accepted", || server.descriptors() > before);
    server.signal(Signal::STOP);
    member.send(frame(PONG, &ping.payload));
    asking.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    asking.stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket");
    assert!(asking.stream.peek(&mut [0]).is_err(), "the server is stopped");
    server.signal(Signal::CONT);
    asking.stream.set_read_timeout(Some(SOON)).expect("a socket");
    assert_eq!(asking.answer().status, 200);
    member.send(text(r#"{"type":"ping","id":1}"#));
    loop {
        let frame = member.frame().expect("it stays open");
        match frame.first {
            PING => member.send(self::frame(PONG, &frame.payload)),
            _ if frame.json()["type"] == "pong" => break,
            _ => {}
        }
    }
}
