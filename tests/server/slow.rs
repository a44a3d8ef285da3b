//! Members that do not read: memory is bounded, other members are unaffected, and nothing is lost once they read.

use std::time::Duration;

use serde_json::json;

use crate::support::*;
use crate::timers::narrow;

/// Bytes that may wait for one connection: `queue_bytes` plus `reply_bytes`.
const QUEUE: u64 = (256 + 64) << 10;
/// So long that a client that is silent is neither pinged nor closed: an emulator takes half a minute for some of these
/// tests.
pub const PING: &str = "--ping-period=1h";
pub const PONG: &str = "--pong-wait=2h";

/// Publishes `count` messages of 8 KB while one member reads at once and the others do not. Returns the server's
/// growth.
fn publish_to_the_deaf(server: &Server, count: u64) -> u64 {
    let mut listener = server.member("slow", "listener");
    let mut publisher = server.member("slow", "publisher");
    let before = server.rss();
    let mut peak = 0;
    let body = "x".repeat(8000);
    for burst in 0..count / 20 {
        for id in burst * 20 + 1..=burst * 20 + 20 {
            publisher.send(json!({"type": "send", "id": id, "body": body}));
        }
        for _ in 0..20 {
            publisher.next_of("ack");
        }
        // The reading member is served as if the others were absent.
        for seq in burst * 20 + 1..=burst * 20 + 20 {
            assert_eq!(listener.next_of("message")["seq"], seq);
        }
        peak = peak.max(server.rss());
    }
    listener.sync();
    peak.saturating_sub(before)
}

#[test]
fn slow_readers_take_bounded_memory_and_miss_nothing() {
    const DEAF: u64 = 20;
    const COUNT: u64 = 2000;
    let server = Server::start(&["--request-rate", "0", "--write-wait", "5m", PING, PONG]);
    let mut deaf: Vec<Raw> = (0..DEAF)
        .map(|i| {
            let mut raw = narrow(&server, 4096);
            raw.upgrade(&format!("/rooms/slow/ws?name=deaf{i}"));
            raw
        })
        .collect();
    eventually("all in", || server.members("slow") == DEAF);
    let grown = publish_to_the_deaf(&server, COUNT);
    // 16 MB were sent to each of twenty members. SQLite's caches and pages in flight take a few megabytes, too.
    assert!(grown < DEAF * QUEUE + (6 << 20), "grew by {grown} bytes");

    deaf.truncate(6);
    at_once(deaf, |_, mut raw| {
        // Now the client reads fast.
        socket2::SockRef::from(&raw.stream).set_recv_buffer_size(1 << 20).expect("a socket");
        let (mut seq, mut lagged) = (0, 0);
        while seq < COUNT {
            let value = raw.frame().expect("it stays open").json();
            match value["type"].as_str().unwrap() {
                "message" => {
                    seq += 1;
                    assert_eq!(value["seq"], seq, "each once, in order");
                }
                "lagging" => {
                    lagged += 1;
                    assert!(value["behind"].as_u64().unwrap() > 0);
                }
                "gap" | "error" | "bye" => panic!("{value}"),
                _ => {}
            }
        }
        assert!(lagged > 0, "it was told why there was a pause");
        // The client is live again.
        raw.send(text(r#"{"type":"send","id":1,"body":"back"}"#));
        while raw.next_of("message")["body"] != "back" {}
    });
}

/// A client that reads nothing for the write timeout is closed: with 4004 if the code can still be sent.
#[test]
fn clients_that_never_read_are_closed() {
    let server = Server::without_grace(&["--request-rate", "0", "--write-wait", "1s"]);
    let before = server.descriptors();
    let mut deaf: Vec<Raw> = (0..10)
        .map(|_| {
            let mut raw = narrow(&server, 4096);
            raw.upgrade("/rooms/slow/ws?name=deaf");
            raw
        })
        .collect();
    publish_to_the_deaf(&server, 400);
    eventually("an empty room", || server.members("slow") == 0);
    eventually("all descriptors closed", || server.descriptors() <= before);
    assert_eq!(server.log().matches("took nothing for the write timeout").count(), 10, "{}", server.log());
    // Each finds whole frames, in order, and then the end, however the kernel reports it.
    for raw in &mut deaf {
        let mut last = 0;
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut raw.stream, &mut rest);
        raw.buffer.append(&mut rest);
        while let Some(frame) = raw.whole_frame() {
            if frame.first == 0x81 && frame.json()["type"] == "message" {
                last += 1;
                assert_eq!(frame.json()["seq"], last);
            }
        }
    }
}

/// The server stops reading from a client that does not read its answers, and other clients are unaffected.
#[test]
fn answers_that_are_not_read_hold_their_asker_back() {
    let server = Server::start(&["--request-rate", "0", "--write-wait", "5m", PING, PONG]);
    let mut writer = server.member("pages", "writer");
    for id in 0..40 {
        writer.say(id, json!("x".repeat(3000)));
    }
    let before = server.rss();
    let asks = text(r#"{"type":"history","id":1,"limit":200}"#).repeat(400_000);
    let mut deaf = narrow(&server, 4096);
    deaf.upgrade("/rooms/pages/ws");
    deaf.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    assert!(!deaf.try_send(&asks), "it took 400,000 requests for pages of 60 KB");
    for id in 100..110 {
        writer.say(id, json!("still quick"));
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    // The server reads more requests as the client reads answers.
    for _ in 0..50 {
        assert_eq!(deaf.next_of("history")["id"], 1);
    }
}

/// One member stops reading while 100 MB are sent: this costs its queue and nothing else; later it receives all of it.
#[test]
fn a_client_that_stops_reading_costs_its_queue_and_misses_nothing() {
    const BODY: usize = 25_000;
    const WARM: u64 = 400;
    const COUNT: u64 = WARM + 4_000;
    let members: usize = std::env::var("SLOW_MEMBERS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let server = Server::start(&["--request-rate", "0", "--write-wait", "10m", "--durability", "normal", PING, PONG]);
    let mut deaf = server.raw();
    deaf.upgrade("/rooms/slow/ws?name=deaf&presence=off");
    let readers: Vec<_> = (0..members)
        .map(|_| {
            let mut raw = server.raw();
            raw.upgrade("/rooms/slow/ws?presence=off");
            std::thread::spawn(move || {
                // Only bytes are counted, to keep the other members fast.
                let (mut heard, mut buffer) = (0, vec![0; 1 << 16]);
                while heard < COUNT as usize * BODY {
                    heard += std::io::Read::read(&mut raw.stream, &mut buffer).expect("it stays open");
                }
            })
        })
        .collect();
    eventually("all in", || server.members("slow") == members as u64 + 1);
    let mut publisher = server.client("/rooms/slow/ws?presence=off");
    let body = "x".repeat(BODY);
    let mut publish = |from: u64, upto: u64| {
        for burst in (from..upto).step_by(20) {
            for id in burst..burst + 20 {
                publisher.send(json!({"type": "send", "id": id, "body": body}));
            }
            for _ in 0..20 {
                publisher.next_of("ack");
            }
        }
    };
    let next = |deaf: &mut Raw| loop {
        let value = deaf.frame().expect("it stays open").json();
        match value["type"].as_str().unwrap_or_default() {
            "message" => return value["seq"].as_u64().expect("a seq"),
            "gap" | "error" | "bye" => panic!("{value}"),
            _ => {}
        }
    };
    // Warm-up: allocates the log's and the queues' memory for this pace, while all members read.
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=WARM).for_each(|seq| assert_eq!(next(&mut deaf), seq)));
        publish(0, WARM);
    });
    let before = server.rss();
    publish(WARM, COUNT);
    let grown = server.rss().saturating_sub(before);
    println!(
        "{members} members read {} MB; one did not: {grown} bytes more",
        (COUNT - WARM) as usize * BODY / 1_000_000
    );
    assert!(grown < 2 << 20, "grew by {grown} bytes");
    for seq in WARM + 1..=COUNT {
        assert_eq!(next(&mut deaf), seq, "each once, in order");
    }
    readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
}
