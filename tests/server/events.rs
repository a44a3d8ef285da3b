//! Event streams: the room's messages, each once and in order, from the client's cursor on; with the same bounds and
//! the same endings as sockets.

use racerd::testing::Random;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::event_stream::*;
use crate::slow::{PING, PONG};
use crate::support::*;
use crate::timers::narrow;

fn publish(server: &Server, room: &str, body: &str) -> u64 {
    let answer = server.post(&format!("/rooms/{room}/messages?name=poster"), body);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["seq"].as_u64().expect("a seq")
}

#[test]
fn a_stream_tells_what_a_socket_hears() {
    let server = Server::start(&[]);
    let mut socket = server.member("r", "ann");
    let mut stream = EventStream::open(&server, "/rooms/r/events");
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    assert!(stream.head.header("Content-Length").is_none() && stream.head.header("Transfer-Encoding").is_none());
    let joined = stream.next().expect("an event");
    assert!(stream.retry.is_some_and(|ms| (1000..2000).contains(&ms)), "{:?}", stream.retry);
    let epoch = server.get("/rooms/r/messages").json()["epoch"].as_str().expect("an epoch").to_string();
    assert_eq!((joined.kind.as_str(), joined.id.as_str()), ("joined", format!("{epoch}:0").as_str()));
    let joined = joined.json();
    assert_eq!((&joined["epoch"], &joined["head"], &joined["from"]), (&json!(epoch), &json!(0), &json!(1)));
    for id in 1..=3 {
        socket.send(json!({"type": "send", "id": id, "body": {"n": id}}));
        let heard = socket.next_of("message");
        socket.send(json!({"type": "signal", "body": {"typing": id}}));
        let event = stream.next().expect("a message");
        assert_eq!((event.kind.as_str(), event.id), ("message", format!("{epoch}:{id}")));
        let event: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(event, heard);
        let signal = stream.next().expect("a signal");
        // A signal does not move the cursor.
        assert_eq!((signal.kind.as_str(), &signal.id), ("signal", &format!("{epoch}:{id}")));
        assert_eq!(signal.json()["body"]["typing"], id);
    }
}

/// A client that only listens is not announced, counted or listed, and is not told of the members' presence.
#[test]
fn a_stream_is_no_presence() {
    let server = Server::start(&[]);
    let mut stream = EventStream::open(&server, "/rooms/r/events?name=spy");
    assert_eq!(stream.next_of("joined").json()["members"], 0);
    let mut ann = server.client("/rooms/r/ws?name=ann");
    assert_eq!(ann.next_of("joined")["members"], 1);
    let members = ann.next_of("members");
    assert_eq!((&members["count"], members["members"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let mut second = EventStream::open(&server, "/rooms/r/events");
    second.next_of("joined");
    let bob = server.member("r", "bob");
    drop(second);
    drop(stream);
    ann.send(json!({"type": "send", "id": 1, "body": 1}));
    let mut events: Vec<Value> = Vec::new();
    loop {
        let value = ann.next().expect("more");
        match value["type"].as_str() {
            Some("presence") => events.extend(value["events"].as_array().cloned().unwrap_or_default()),
            Some("message") => break,
            _ => {}
        }
    }
    let names: Vec<_> = events.iter().map(|event| (event["event"].as_str(), event["name"].as_str())).collect();
    assert_eq!(names, [(Some("join"), Some("bob"))], "ann's own coming precedes her list");
    assert_eq!(server.members("r"), 2);
    let mut third = EventStream::open(&server, "/rooms/r/events");
    assert_eq!(third.next_of("joined").json()["members"], 2);
    drop(bob);
}

#[test]
fn line_breaks_stay_in_their_event() {
    let server = Server::start(&[]);
    let mut stream = EventStream::open(&server, "/rooms/r/events");
    stream.next_of("joined");
    let mut socket = server.member("r", "ann");
    let broken = "[1,\n\n2,\r\n3,\r4]";
    let strings = "\n[\"\u{2028}\u{85}\u{2029}\",\r\"id: 7\\n\\ndata: x\"\n]\r\n";
    let mut seq = 0;
    for body in [broken, strings] {
        let expected: Value = serde_json::from_str(body).expect("JSON");
        socket.send_text(format!("{{\"type\":\"send\",\"id\":1,\"body\":{body}}}"));
        socket.next_of("ack");
        publish(&server, "r", body);
        publish(&server, "r", "\"next\"");
        for expected in [&expected, &expected, &json!("next")] {
            seq += 1;
            let event = stream.next().expect("a message");
            assert_eq!(event.kind, "message");
            assert!(event.id.ends_with(&format!(":{seq}")), "{event:?}");
            assert_eq!((&event.json()["body"], &event.json()["seq"]), (expected, &json!(seq)));
        }
    }
    // The same holds for messages read from the log.
    let mut late = EventStream::open(&server, "/rooms/r/events?after=0");
    late.next_of("joined");
    for seq in 1..=6 {
        assert_eq!(late.message()["seq"], seq);
    }
}

#[test]
fn a_stream_resumes_where_it_broke_even_after_a_restart() {
    let mut server = Server::start(&[]);
    for n in 1..=5 {
        publish(&server, "r", &n.to_string());
    }
    let mut stream = EventStream::open(&server, "/rooms/r/events?last=2");
    assert_eq!(stream.next_of("joined").json()["from"], 4);
    assert_eq!((stream.message()["body"].clone(), stream.message()["body"].clone()), (json!(4), json!(5)));
    let id = stream.id.clone();
    for n in 6..=8 {
        publish(&server, "r", &n.to_string());
    }
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    publish(&server, "r", "9");
    // Browsers repeat the query; the id takes precedence.
    let mut stream = EventStream::open_after(&server, "/rooms/r/events?last=2", &id);
    let joined = stream.next_of("joined");
    assert_eq!((&joined.json()["from"], &joined.json()["recovered"], joined.id), (&json!(6), &json!(true), id));
    for n in 6..=9 {
        assert_eq!(stream.message()["body"], n);
    }
    publish(&server, "r", "10");
    assert_eq!(stream.message()["body"], 10);
    // A cursor in the query does the same for clients that cannot send the header.
    let epoch = joined_epoch(&server);
    let mut stream = EventStream::open(&server, &format!("/rooms/r/events?after=9&epoch={epoch}"));
    assert_eq!(stream.next_of("joined").json()["recovered"], true);
    assert_eq!(stream.message()["body"], 10);
}

fn joined_epoch(server: &Server) -> String {
    server.get("/rooms/r/messages").json()["epoch"].as_str().expect("an epoch").to_string()
}

#[test]
fn what_is_no_longer_kept_is_a_gap() {
    let mut server = Server::start(&["--durability", "memory", "--tail-bytes", "4KiB"]);
    let body = json!("x".repeat(1000)).to_string();
    for _ in 0..10 {
        publish(&server, "r", &body);
    }
    let epoch = joined_epoch(&server);
    let oldest = server.get("/rooms/r/messages").json()["oldest"].as_u64().expect("a seq");
    assert!(oldest > 3, "{oldest}");
    let mut stream = EventStream::open_after(&server, "/rooms/r/events", &format!("{epoch}:2"));
    let joined = stream.next().expect("joined");
    assert_eq!((joined.kind.as_str(), &joined.json()["recovered"]), ("joined", &json!(false)));
    let gap = stream.next().expect("a gap");
    assert_eq!((gap.kind.as_str(), &gap.id), ("gap", &format!("{epoch}:{}", oldest - 1)));
    assert_eq!((&gap.json()["after"], &gap.json()["from"]), (&json!(2), &json!(oldest)));
    for seq in oldest..=10 {
        assert_eq!(stream.message()["seq"], seq);
    }
    let id = stream.id.clone();
    // Another log under the same address: all of it is new to the client.
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    publish(&server, "r", "\"new\"");
    let mut stream = EventStream::open_after(&server, "/rooms/r/events", &id);
    let joined = stream.next_of("joined").json();
    assert_eq!((&joined["recovered"], &joined["from"]), (&json!(false), &json!(1)));
    assert_ne!(joined["epoch"], epoch);
    assert_eq!(stream.next_of("gap").json()["after"], 0);
    assert_eq!(stream.message()["body"], "new");
    // A cursor past the head.
    let beyond = format!("{}:99", joined_epoch(&server));
    let mut stream = EventStream::open_after(&server, "/rooms/r/events", &beyond);
    assert_eq!(stream.next_of("joined").json()["from"], 2);
    let gap = stream.next_of("gap").json();
    assert_eq!((&gap["after"], &gap["from"]), (&json!(1), &json!(2)));
}

#[test]
fn requests_are_refused_by_name() {
    let server = Server::start(&["--allow-origin", "https://page.example"]);
    for (query, headers, field) in [
        ("", "Last-Event-ID: 41\r\n", "Last-Event-ID"),
        ("?after=x", "", "after"),
        ("?after=1&last=2", "Last-Event-ID: a:1\r\n", "last"),
    ] {
        let path = format!("/rooms/r/events{query}");
        let origin = "Origin: https://page.example\r\n";
        let answer = server.request(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{origin}{headers}\r\n"));
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["field"], field, "{path}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://page.example"));
    }
    assert_eq!(server.post("/rooms/r/events", "1").status, 405);
    assert_eq!(server.get("/rooms/./events").status, 404);
    // Pages of the allowed origin may read the stream, those of others may not.
    for (origin, allowed) in [("https://page.example", Some("https://page.example")), ("https://evil.example", None)] {
        let stream = EventStream::open_with(server.raw(), "/rooms/r/events", &format!("Origin: {origin}\r\n"));
        assert_eq!(stream.head.header("Access-Control-Allow-Origin"), allowed);
    }
}

/// HTTP/1.0 has no chunked encoding, and a HEAD answer has no body; in both cases the connection ends.
#[test]
fn old_clients_and_head() {
    let server = Server::start(&[]);
    let mut head = server.raw();
    head.send("HEAD /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = head.answer_head();
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/event-stream")));
    assert!(head.ended(), "{:?}", head.buffer);
    let mut raw = server.raw();
    raw.send("GET /rooms/r/events HTTP/1.0\r\n\r\n");
    assert_eq!(raw.answer_head().status, 200);
    let mut until = |text| {
        while !String::from_utf8_lossy(&raw.buffer).contains(text) {
            assert!(raw.fill(), "{:?}", String::from_utf8_lossy(&raw.buffer));
        }
    };
    // The response head is sent before the start position of the stream is known.
    until("event: joined\n");
    publish(&server, "r", "1");
    until("\"body\":1}\n\n");
}

#[test]
fn silence_is_broken_by_comments() {
    let server = Server::start(&["--ping-period", "300ms", "--pong-wait", "1s"]);
    let mut stream = EventStream::open(&server, "/rooms/r/events");
    stream.next_of("joined");
    // Six comments take longer than `pong_wait`: the server waits for no answer to them.
    stream.until_comments(6);
    publish(&server, "r", "1");
    assert_eq!(stream.message()["seq"], 1);
    stream.until_comments(8);
}

#[test]
fn a_stream_is_admitted_like_a_socket() {
    let server = Server::start(&["--handshake-rate", "1", "--max-connections", "40"]);
    let mut streams: Vec<Raw> = (0..30).map(|_| server.raw()).collect();
    streams.iter_mut().for_each(|raw| raw.send("GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let heads: Vec<Answer> = streams.iter_mut().map(Raw::answer_head).collect();
    let refused: Vec<&Answer> = heads.iter().filter(|head| head.status != 200).collect();
    assert!((1..=26).contains(&refused.len()), "two at once, then one a second for two seconds: {}", refused.len());
    for head in refused {
        assert_eq!(head.status, 503);
        assert!(head.header("Retry-After").and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| s >= 1), "{head:?}");
    }
}

/// Bytes behind the request are not a second request, and the end of the client's stream ends the server's.
#[test]
fn streams_end_with_their_clients() {
    let server = Server::start(&[]);
    let before = server.descriptors();
    let mut talks = EventStream::open(&server, "/rooms/r/events");
    talks.raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100));
    talks.next_of("joined");
    publish(&server, "r", "1");
    assert_eq!(talks.message()["seq"], 1, "and no answer to what it said");
    let mut half = EventStream::open(&server, "/rooms/r/events");
    half.raw.stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    while half.next().is_some() {}
    let reset = EventStream::open(&server, "/rooms/r/events");
    reset.raw.reset();
    drop(talks);
    eventually("all descriptors closed", || server.descriptors() <= before);
    assert!(server.log().contains("kind=events"), "{}", server.log());
}

#[test]
fn the_stop_is_told_and_spread() {
    let mut server = Server::start(&[]);
    let mut streams: Vec<EventStream> = (0..20).map(|_| EventStream::open(&server, "/rooms/r/events")).collect();
    for stream in &mut streams {
        stream.next_of("joined");
    }
    server.signal(Signal::TERM);
    let mut times = Vec::new();
    for stream in &mut streams {
        let bye = stream.next_of("bye").json();
        assert_eq!(bye["reason"], "shutdown");
        // The value in `bye` equals the one that the browser obeys.
        assert_eq!(bye["reconnect_after_ms"].as_u64(), stream.retry);
        times.extend(stream.retry);
        assert_eq!(stream.next(), None, "a clean end");
    }
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 10, "{times:?}");
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Clients drop at random moments, also while they catch up, and reconnect with the last id received.
#[test]
fn a_thousand_messages_once_and_in_order() {
    const MESSAGES: u64 = 1000;
    let server = Server::start(&["--handshake-rate", "0", "--request-rate", "0"]);
    let mut publisher = server.member("r", "publisher");
    let server = &server;
    std::thread::scope(|scope| {
        let follow = |seed: u64| {
            move || {
                let mut random = Random::new(seed);
                let mut next = 1;
                let mut id = String::new();
                while next <= MESSAGES {
                    let mut stream = match id.as_str() {
                        "" => EventStream::open(server, "/rooms/r/events?after=0"),
                        id => EventStream::open_after(server, "/rooms/r/events", id),
                    };
                    let joined = stream.next_of("joined").json();
                    assert_eq!((&joined["from"], &joined["recovered"]), (&json!(next), &json!(true)));
                    for _ in 0..=random.below(150) {
                        if next > MESSAGES {
                            break;
                        }
                        let message = stream.message();
                        assert_eq!((&message["seq"], &message["body"]), (&json!(next), &json!(next)));
                        next += 1;
                    }
                    id = stream.id.clone();
                    if random.below(2) == 0 {
                        stream.raw.reset();
                    }
                }
            }
        };
        let threads: Vec<_> = (0..12).map(|seed| scope.spawn(follow(seed))).collect();
        for burst in 0..MESSAGES / 20 {
            for n in burst * 20 + 1..=burst * 20 + 20 {
                publisher.send(json!({"type": "send", "id": n, "body": n}));
            }
            for _ in 0..20 {
                publisher.next_of("ack");
            }
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

/// Streams that are not read cost no more than their queues; once read, they miss nothing.
#[test]
fn a_slow_stream_lags_and_catches_up() {
    const STREAMS: u64 = 10;
    const MESSAGES: u64 = 1000;
    // The publisher answers no ping while the streams catch up.
    let server = Server::start(&["--request-rate", "0", "--write-wait", "5m", PING, PONG]);
    let mut publisher = server.member("slow", "publisher");
    let deaf: Vec<EventStream> =
        (0..STREAMS).map(|_| EventStream::open_with(narrow(&server, 4096), "/rooms/slow/events", "")).collect();
    let before = server.rss();
    let body = "x".repeat(10_000);
    let mut peak = 0;
    for burst in 0..MESSAGES / 20 {
        for n in burst * 20 + 1..=burst * 20 + 20 {
            publisher.send(json!({"type": "send", "id": n, "body": body}));
        }
        for _ in 0..20 {
            publisher.next_of("ack");
        }
        peak = peak.max(server.rss().saturating_sub(before));
    }
    // 10 MB were sent to each. The queues hold shared bytes at first; this is the bound if they shared none.
    let bound = STREAMS * ((256 + 64) << 10) + (3 << 20);
    assert!(peak < bound, "grew by {peak} bytes, {bound} are allowed");
    // All at once: on a slow machine, the last of a row would wait longer than a server waits for anybody.
    let deaf = at_once(deaf, |_, mut stream| {
        stream.next_of("joined");
        let mut lagged = 0;
        let mut next = 1;
        while next <= MESSAGES {
            let event = stream.next().expect("the stream goes on");
            match event.kind.as_str() {
                "message" => {
                    assert_eq!(event.json()["seq"], next);
                    next += 1;
                }
                "lagging" => lagged += 1,
                other => panic!("{other}"),
            }
        }
        assert!(lagged > 0);
        stream
    });
    publisher.say(1, json!("live again"));
    for mut stream in deaf {
        assert_eq!(stream.message()["body"], "live again");
    }
}

#[test]
fn a_stream_that_takes_nothing_is_cut() {
    let server = Server::start(&["--request-rate", "0", "--write-wait", "500ms"]);
    let before = server.descriptors();
    let mut deaf = EventStream::open_with(narrow(&server, 4096), "/rooms/r/events", "");
    let mut publisher = server.member("r", "publisher");
    for id in 0..100 {
        publisher.say(id, json!("x".repeat(20_000)));
    }
    eventually("the stream is cut", || server.log().contains("took nothing for the write timeout"));
    eventually("its descriptor is closed", || server.descriptors() <= before + 1);
    // A half-sent event ends with the connection; the client makes no event of it.
    deaf.next_of("joined");
    let mut next = 1;
    let _ = std::io::Read::read_to_end(&mut deaf.raw.stream, &mut deaf.raw.buffer);
    deaf.raw.stream.shutdown(std::net::Shutdown::Both).unwrap_or(());
    while let Some(event) = deaf.next() {
        if event.kind == "message" {
            assert_eq!(event.json()["seq"], next);
            next += 1;
        }
    }
}
