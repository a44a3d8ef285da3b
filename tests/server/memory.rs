//! The memory budget: who makes the server hold much is closed, and everybody else is served.

use std::time::Duration;

use serde_json::json;

use crate::command::{racerd, refused};
use crate::slow::{PING, PONG};
use crate::support::*;
use crate::timers::narrow;

/// Clients who ask for more than three times the budget, and take nothing of it.
const DEAF: usize = 80;

#[test]
fn who_holds_most_is_closed_and_others_are_served() {
    let server = Server::start(&["--memory=18MiB", "--request-rate=0", "--write-wait=5m", PING, PONG]);
    let mut writer = server.member("pages", "writer");
    for id in 0..40 {
        writer.say(id, json!("x".repeat(3000)));
    }
    let before = server.rss();
    let asks = text(r#"{"type":"history","id":1,"limit":200}"#).repeat(20);
    let mut deaf: Vec<Raw> = (0..DEAF)
        .map(|number| {
            let mut raw = narrow(&server, 4096);
            raw.stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket");
            // Some are turned away (503), and the first are closed meanwhile.
            let _ = raw.try_send(handshake(&format!("/rooms/pages/ws?name=deaf{number}"), "")) && raw.try_send(&asks);
            raw
        })
        .collect();
    eventually("the line that says so", || {
        server.log().contains("short of memory (memory): connections that held most of it were closed")
    });
    // The budget leaves a few megabytes for connections.
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
    writer.sync();
    eventually("a newcomer", || {
        let mut raw = Raw::connect(server.address);
        raw.send(handshake("/rooms/pages/ws?name=late", ""));
        raw.head().starts_with("HTTP/1.1 101 ")
    });
    // One who is closed finds whole frames, and then the reason or the end of the stream.
    let closed = deaf.iter_mut().filter_map(|raw| {
        raw.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut raw.stream, &mut rest);
        let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").filter(|_| rest[9..].starts_with(b"101"))?;
        raw.buffer = rest.split_off(end + 4);
        let frames = std::iter::from_fn(|| raw.whole_frame());
        frames.filter(|frame| frame.first == 0x88).last()
    });
    let codes: Vec<Vec<u8>> = closed.map(|frame| frame.payload[..2].to_vec()).collect();
    assert!(codes.iter().all(|code| *code == 1013u16.to_be_bytes()), "{codes:?}");
}

#[test]
fn too_little_is_refused_at_the_start() {
    refused(&racerd(&["--memory=1MiB"]), "memory: with these settings at least ");
    refused(&racerd(&["check-config", "--memory=1MiB"]), "memory: with these settings at least ");
}
