//! Connections that come and go in every way, and leaks that must not happen: slots, descriptors, CPU time, a frame
//! delivered to the wrong client.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use racerd::testing::Random;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;

use crate::support::*;

/// Checks that the server is idle: under 5 % of one second of CPU time.
fn assert_quiet(server: &Server) {
    let used = server.cpu_over(Duration::from_secs(1));
    assert!(used <= Duration::from_millis(50), "{used:?} of CPU in a second without work\n{}", server.log());
}

/// A reset in every state of a connection.
#[test]
fn a_port_scan_leaves_nothing_behind() {
    let states: [fn(&Server) -> Raw; 11] = [
        |server| server.raw(),
        |server| {
            let mut raw = server.raw();
            raw.send("GET /healthz HT");
            raw
        },
        |server| {
            let mut raw = server.raw();
            raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all \r\n\r\n");
            raw
        },
        |server| {
            let mut raw = server.raw();
            raw.send("GET /rooms/scan/messages HTTP/1.1\r\nHost: localhost\r\n\r\n");
            raw
        },
        |server| {
            let mut raw = server.raw();
            raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            raw.answer();
            raw
        },
        |server| {
            let mut raw = server.raw();
            raw.send(
                "POST /rooms/scan/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 100\r\n\r\n[1,",
            );
            raw
        },
        |server| {
            let mut raw = server.raw();
            raw.send(handshake("/rooms/scan/ws?last=5", ""));
            raw
        },
        |server| server.socket("/rooms/scan/ws"),
        |server| {
            let mut raw = server.socket("/rooms/scan/ws");
            raw.send(&text(r#"{"type":"send","id":1,"body":"never whole"}"#)[..20]);
            raw
        },
        |server| {
            let mut raw = server.socket("/rooms/scan/ws");
            raw.send(text(r#"{"type":"send","id":1,"body":"asked and gone"}"#));
            raw.send(text(r#"{"type":"history","id":2}"#));
            raw
        },
        |server| {
            let mut raw = server.socket("/rooms/scan/ws");
            raw.send(close(1000, b""));
            raw
        },
    ];
    let server = Server::without_grace(&["--handshake-rate", "0", "--log-level", "warn"]);
    let mut watcher = server.member("watch", "watcher");
    let before = server.descriptors();
    for _ in 0..200 {
        for state in states {
            state(&server).reset();
        }
    }
    eventually("all descriptors closed", || server.descriptors() <= before);
    eventually("an empty room", || server.members("scan") == 0);
    assert_quiet(&server);
    watcher.say(1, json!("still here"));
    assert_eq!(server.member("scan", "new").welcome["name"], "new");
}

#[test]
fn half_closed_sockets_end() {
    let server = Server::without_grace(&[]);
    let before = server.descriptors();
    let mut watcher = server.member("half", "watcher");
    let shut = |raw: &Raw| raw.stream.shutdown(Shutdown::Write).expect("a socket");

    // Half-closed right after connecting.
    let mut silent = server.raw();
    shut(&silent);
    assert!(silent.ended());
    // Half-closed in the middle of a head.
    let mut cut = server.raw();
    cut.send("GET /healthz HTTP/1.1\r\nHo");
    shut(&cut);
    while cut.fill() {}
    // Half-closed behind a whole request: the whole answer arrives (RFC 9112 §9.6), also if the store is involved.
    for path in ["/healthz", "/rooms/half/messages", "/rooms/half/members"] {
        let mut raw = server.raw();
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        shut(&raw);
        assert_eq!(raw.answer().status, 200, "{path}");
        assert!(raw.ended());
    }
    let mut raw = server.raw();
    raw.send(
        "POST /rooms/half/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1\r\n\r\n7",
    );
    shut(&raw);
    assert_eq!(raw.answer().status, 201);
    assert!(raw.ended());
    assert_eq!(watcher.next_of("message")["body"], 7);
    // On a WebSocket, a half-close ends the connection, and the other members see it.
    let mut socket = server.socket("/rooms/half/ws?name=half");
    assert_eq!(watcher.next_of("presence")["events"][0]["event"], "join");
    shut(&socket);
    assert_eq!(watcher.next_of("presence")["events"][0]["event"], "leave");
    while socket.frame().is_some() {}

    // None of these clients closes its socket, and yet the server keeps none of them.
    eventually("all descriptors closed", || server.descriptors() <= before + 1);
    assert_quiet(&server);
    drop((silent, cut, raw, socket));
}

#[test]
fn an_idle_server_sleeps() {
    let server = Server::without_grace(&[
        "--header-timeout",
        "1h",
        "--keep-alive",
        "1h",
        "--ping-period",
        "1h",
        "--pong-wait",
        "2h",
    ]);
    let members: Vec<Client> = (0..50).map(|i| server.member("idle", &format!("m{i}"))).collect();
    let _between_requests = {
        let mut raw = server.raw();
        raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
        raw
    };
    let _silent = server.raw();
    let before = server.sleeps();
    assert!(server.cpu_over(Duration::from_secs(2)) <= Duration::from_millis(20));
    // One wake of the store's writer, ten seconds after the last message, is allowed; a periodic tick is not.
    let woken = server.sleeps() - before;
    assert!(woken <= 5, "woken {woken} times in two seconds");
    drop(members);
}

/// A connection that reuses a slot gets nothing that was meant for its predecessor.
#[test]
fn the_next_in_a_slot_gets_nothing_of_the_one_before() {
    let server = Server::without_grace(&["--request-rate", "0", "--handshake-rate", "0", "--log-level", "warn"]);
    let talking = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut talker = server.member("old", "talker");
            let mut id = 0;
            while talking.load(Ordering::Relaxed) {
                id += 1;
                talker.say(id, json!("x".repeat(500)));
                talker.send(json!({"type": "signal", "body": "for the old"}));
            }
        });
        let halves = [0, 1].map(|half| {
            let server = &server;
            scope.spawn(move || {
                let mut random = Random::new(half);
                for round in 0..100 {
                    let mut old = server.socket("/rooms/old/ws?last=20");
                    // The store's answers to all of these are under way when the connection ends.
                    for request in [r#"{"type":"send","id":777,"body":"late"}"#, r#"{"type":"history","id":778}"#] {
                        old.send(text(request));
                    }
                    match random.below(3) {
                        0 => old.reset(),
                        1 => old.send(close(1000, b"")),
                        _ => drop(old),
                    }
                    let room = format!("new-{half}-{round}");
                    let mut new = server.socket(&format!("/rooms/{room}/ws"));
                    new.send(text(r#"{"type":"send","id":1,"body":"mine"}"#));
                    new.send(text(r#"{"type":"history","id":2}"#));
                    loop {
                        let frame = new.frame().expect("it stays open");
                        let value = frame.json();
                        assert!(value["type"] == "welcome" || value["room"] == room.as_str(), "{value}");
                        if value["type"] == "history" {
                            assert_eq!(value["id"], 2);
                            break;
                        }
                    }
                }
            })
        });
        let done = halves.map(|half| half.join());
        talking.store(false, Ordering::Relaxed);
        assert!(done.iter().all(Result::is_ok), "see above");
    });
}

/// Opens as many connections as the limit allows, and more that wait outside: existing clients are served, and nothing
/// spins.
fn beyond_the_limit(server: &Server, most: usize, reason: &str) {
    let mut member = server.member("in", "member");
    let crowd: Vec<Raw> = (0..most + 30).map(|_| server.raw()).collect();
    eventually("a line about it", || server.log().contains("accepting rests"));
    for id in 0..20 {
        member.say(id, json!(id));
    }
    assert_quiet(server);
    let log = server.log();
    assert_eq!(log.matches("accepting rests").count(), 1, "{log}");
    assert!(log.contains(reason), "{log}");
    drop(crowd);
    eventually("a free place", || server.get("/rooms/in/members").status == 200);
    let mut late = server.member("in", "late");
    late.say(1, json!("in again"));
    drop((member, late));
    eventually("an empty room", || server.members("in") == 0);
}

#[test]
fn the_limit_of_open_files() {
    let folder = TempDir::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 80; exec \"$@\"", "sh"]);
    let serve = Server::command(&folder, "127.0.0.1:0", &["--resume-within", "0s"]);
    command.arg(serve.get_program()).args(serve.get_args());
    let server = Server::start_as(folder, command);
    eventually("both limits in the log", || server.log().contains("max_connections=16 open_files=80"));
    eventually("that this is little", || server.log().contains("leaves room for few connections"));
    beyond_the_limit(&server, 16, "the connection limit is reached");
}

#[test]
fn the_limit_of_connections() {
    let server = Server::without_grace(&["--max-connections", "10"]);
    eventually("the limit in the log", || server.log().contains("max_connections=10"));
    beyond_the_limit(&server, 10, "the connection limit is reached");
}

/// EMFILE below the connection limit: the process has fewer descriptors than it counted on.
#[test]
fn no_descriptor_left() {
    let server = Server::without_grace(&[]);
    let pid = Pid::from_raw(server.pid() as i32);
    let now = server.descriptors() as u64 + 5;
    let few = Rlimit { current: Some(now), maximum: Some(now) };
    prlimit(pid, Resource::Nofile, few).expect("one's own child");
    beyond_the_limit(&server, 5, "no file descriptor is left");
}

/// Two clients never stop writing; the others are served, and timers fire.
#[test]
fn busy_sockets_leave_time_for_the_others() {
    let server = Server::without_grace(&["--request-rate", "0", "--header-timeout", "1s"]);
    let flooding = AtomicBool::new(true);
    thread::scope(|scope| {
        for room in ["flood-1", "flood-2"] {
            let (server, flooding) = (&server, &flooding);
            scope.spawn(move || {
                let mut raw = server.socket(&format!("/rooms/{room}/ws"));
                let signals = text(r#"{"type":"signal","body":1}"#).repeat(1000);
                while flooding.load(Ordering::Relaxed) {
                    raw.send(&signals);
                }
            });
        }
        let patient = scope.spawn(|| {
            let mut late = server.raw();
            late.send("GET /healthz HTTP/1.1\r\nHost: lo");
            let begun = Instant::now();
            assert_eq!(late.answer().status, 408);
            begun.elapsed()
        });
        let mut client = server.member("calm", "client");
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            let begun = Instant::now();
            client.sync();
            assert_eq!(server.get("/healthz").status, 200);
            longest = longest.max(begun.elapsed());
        }
        let late = patient.join();
        flooding.store(false, Ordering::Relaxed);
        assert!(longest < Duration::from_secs(5), "{longest:?} for a ping");
        assert!(late.expect("a timeout") < Duration::from_secs(6));
    });
}

/// A connection keeps no memory from a long message that it received.
#[test]
fn an_idle_connection_costs_little_memory() {
    const COUNT: u64 = 1000;
    // The test needs descriptors for its own ends, too.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("as many as may be");
    // The rooms' in-memory tail for reconnecting clients has its own bound and is kept small here.
    let server =
        Server::without_grace(&["--handshake-rate", "0", "--log-level", "warn", "--tail-bytes-total", "256KiB"]);
    let warm: Vec<Client> = (0..20).map(|_| server.member("warm", "x")).collect();
    drop(warm);
    let before = server.rss();
    let mut sockets: Vec<Client> = (0..COUNT).map(|i| server.member(&format!("r{i}"), "m")).collect();
    let each = server.rss().saturating_sub(before) / COUNT;
    assert!(each < 4096, "{each} bytes for each idle connection");
    // Each connection gets one long message; then all of them are idle again.
    let idle = server.rss();
    let long = "x".repeat(32_000);
    for client in &mut sockets {
        client.say(1, json!(long));
        client.next_of("message");
    }
    // SQLite's caches and the allocator keep some memory, but not per connection.
    let kept = server.rss().saturating_sub(idle);
    assert!(kept < 2 << 20, "{kept} bytes stay after {COUNT} messages of 32 KB");
}

/// Kept bytes are copied out of the read buffer, so that a short message does not keep a long buffer alive.
#[test]
fn a_short_message_that_came_with_a_long_one_costs_little_memory() {
    const COUNT: usize = 2000;
    let server = Server::without_grace(&["--durability", "memory", "--tail-bytes", "8MiB", "--request-rate", "0"]);
    let mut sender = server.socket("/rooms/r/ws");
    let long = json!({"type": "signal", "body": "x".repeat(32_000)}).to_string();
    let short = |id: usize| json!({"type": "send", "id": id, "body": "y".repeat(100)}).to_string();
    let mut both = |id: usize| {
        sender.send([text(&long), text(&short(id))].concat());
        assert_eq!(sender.next_of("ack")["id"], id);
    };
    both(0);
    let before = server.rss();
    (1..COUNT).for_each(both);
    let kept = server.rss().saturating_sub(before) as usize;
    // A message with its bookkeeping takes some 300 bytes. The reads that they came with: 64 MB.
    assert!(kept < COUNT * 2048, "{kept} bytes for {COUNT} messages of 100 bytes");
    assert_eq!(server.history("r").len(), COUNT);
}

/// The end of one connection amid other traffic is announced to the others once.
#[test]
fn a_reset_is_seen_by_the_others() {
    let server = Server::without_grace(&[]);
    let mut watcher = server.member("seen", "watcher");
    let victim = server.socket("/rooms/seen/ws?name=victim");
    assert_eq!(watcher.next_of("presence")["count"], 2);
    victim.reset();
    let presence = watcher.next_of("presence");
    assert_eq!((&presence["count"], &presence["events"][0]["name"]), (&json!(1), &json!("victim")));
    eventually("a line with the reason", || server.log().contains("connection closed"));
    // Once the peer is gone, a read returns at once.
    let mut raw = server.socket("/ws");
    raw.send(close(1000, b""));
    while raw.frame().is_some() {}
    let mut byte = [0];
    assert!(
        matches!(raw.stream.read(&mut byte), Ok(0))
            || raw.stream.read(&mut byte).is_err_and(|e| e.kind() != ErrorKind::WouldBlock)
    );
}
