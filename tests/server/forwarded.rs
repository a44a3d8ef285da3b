//! Requests through a proxy: the client named in X-Forwarded-For, in the limits and in the log. The tests act as the
//! proxy; nginx and Caddy are in `proxies`.

use std::time::Instant;

use crate::support::*;

/// Returns the header as a proxy sends it.
fn forwarded_for(list: &str) -> String {
    format!("X-Forwarded-For: {list}\r\n")
}

/// Asks for a socket for this client. Returns the connection and the status.
fn open(server: &Server, headers: &str) -> (Raw, u16) {
    let mut raw = server.raw();
    raw.send(handshake("/rooms/r1/ws?presence=off", headers));
    let status = raw.answer_head().status;
    (raw, status)
}

fn line_with(server: &Server, words: &[&str]) {
    let found = || server.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    eventually(&format!("a line with {words:?}"), found);
}

/// A client's connection limit holds however it connects; the proxy itself has none.
#[test]
fn a_client_behind_a_proxy_gets_its_share_of_connections() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--max-connections-per-address", "2"]);
    let from = |list: &str| open(&server, &forwarded_for(list));
    let (first, status) = from("1.2.3.4");
    assert_eq!(status, 101);
    // The address written by the client is to the left and is ignored.
    let (_second, status) = from("6.6.6.6, ::ffff:1.2.3.4");
    assert_eq!(status, 101);
    assert_eq!(from("9.9.9.9, [::1], 1.2.3.4:99").1, 429);
    line_with(&server, &["refused", "peer=127.0.0.1:", "client=1.2.3.4 ", "status=429"]);
    // A plain GET of the same URL tells the reason, which a browser cannot see otherwise.
    let plain = format!("GET /rooms/r1/ws HTTP/1.1\r\nHost: localhost\r\n{}\r\n", forwarded_for("1.2.3.4"));
    let answer = server.request(&plain);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    // A plain read does not count as a connection of the client.
    assert_eq!(server.request(plain.replace("/ws", "/members")).status, 200);

    let others = ["1.2.3.5", "6.6.6.6", "2001:db8::1", "[2001:db8::ffff:2]:7", "2001:db8:0:1::1"];
    let open_now: Vec<(Raw, u16)> = others.iter().map(|list| from(list)).collect();
    assert_eq!(open_now.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [101; 5]);
    // IPv6 addresses count per /64.
    assert_eq!(from("2001:db8::3").1, 429);
    assert_eq!(from("2001:db8:0:1:ffff::1").1, 101);
    // With no address, a malformed one or a loopback one, the request counts as the proxy's own.
    let free = ["", "X-Forwarded-For:\r\n", "X-Forwarded-For: 1.2.3.4, unknown\r\n", "X-Forwarded-For: 127.0.0.1\r\n"];
    let own: Vec<(Raw, u16)> = free.iter().chain(&free).map(|headers| open(&server, headers)).collect();
    assert_eq!(own.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [101; 8]);
    assert_eq!(open(&server, "Forwarded: for=1.2.3.4\r\n").1, 101);

    // A connection that ends frees its place.
    drop(first);
    eventually("room for one more", || from("1.2.3.4").1 == 101);
    line_with(&server, &["connection closed", "peer=127.0.0.1:", "client=1.2.3.4 ", "kind=websocket"]);
}

/// The client cannot choose its bucket by what it writes into the header.
#[test]
fn a_client_behind_a_proxy_gets_its_rate_of_handshakes() {
    let server =
        Server::start(&["--trusted-proxy", "10.0.0.0/8,::ffff:127.0.0.1", "--handshake-rate-per-address", "1"]);
    let statuses = |list: &dyn Fn(u32) -> String| {
        let begun = Instant::now();
        let all: Vec<u16> = (0..100).map(|n| open(&server, &list(n)).1).collect();
        let admitted = all.iter().filter(|status| **status == 101).count();
        assert!(all.iter().all(|status| matches!(status, 101 | 429)), "{all:?}");
        (admitted, 3 + begun.elapsed().as_secs() as usize)
    };
    for list in [
        &(|n| forwarded_for(&format!("6.6.6.{n}, 1.2.3.4"))) as &dyn Fn(u32) -> String,
        &|n| format!("{}{}", forwarded_for(&format!("6.6.6.{n}")), forwarded_for("1.2.3.5, 10.0.0.9")),
        &|n| forwarded_for(&format!("2001:db8::{n}")),
        &|n| forwarded_for(&format!("1.2.3.6:{n}")),
        &|n| forwarded_for(&format!("{n}.6.6.6, {}1.2.3.7", "6.6.6.6, ".repeat(1000))),
    ] {
        let (admitted, most) = statuses(list);
        assert!(admitted <= most, "{admitted} of 100 were let in");
    }
    // Other clients have their own buckets, and the proxy has none.
    assert_eq!(statuses(&|n| forwarded_for(&format!("1.2.4.{n}"))).0, 100);
    assert_eq!(statuses(&|_| String::new()).0, 100);
}

/// The header is ignored by default.
#[test]
fn without_a_trusted_proxy_nobody_is_believed() {
    for trusted in [&[] as &[&str], &["--trusted-proxy", "10.0.0.1,127.0.0.2,::1"]] {
        let arguments = [trusted, &["--max-connections-per-address", "1", "--log-level", "debug"]].concat();
        let server = Server::start(&arguments);
        let sockets: Vec<(Raw, u16)> = (0..5).map(|_| open(&server, &forwarded_for("1.2.3.4"))).collect();
        // The requests count for the peer, which is loopback.
        assert!(sockets.iter().all(|(_, status)| *status == 101));
        drop(sockets);
        let request = format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n{}\r\n", forwarded_for("1.2.3.4"));
        assert_eq!(server.request(request).status, 404);
        eventually("six lines", || server.log().matches("connection closed").count() >= 6);
        assert!(server.log().contains("refused") && !server.log().contains("client="), "{}", server.log());
    }
}

/// A proxy reuses one connection for many clients' requests; each counts for its own client.
#[test]
fn one_connection_brings_requests_of_many_clients() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--max-message-size", "4KiB", "--log-level", "debug"]);
    let mut raw = server.raw();
    for (n, headers) in ["X-Forwarded-For: 1.2.3.4\r\n", "", "X-Forwarded-For: 2001:db8::7\r\n"].iter().enumerate() {
        raw.send(format!("GET /nowhere{n} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        assert_eq!(raw.answer().status, 404);
    }
    // This also holds for a request that is refused before its body arrives.
    raw.send("POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    raw.send(format!("Content-Length: 9999\r\n{}\r\n", forwarded_for("1.2.3.5")));
    assert_eq!(raw.answer().status, 413);
    drop(raw);
    line_with(&server, &["connection closed"]);
    let log = server.log();
    let clients: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" refused "))
        .map(|line| line.split(" client=").nth(1).map_or("", |rest| rest.split(' ').next().unwrap_or_default()))
        .collect();
    assert_eq!(clients, ["1.2.3.4", "", "2001:db8::7", "1.2.3.5"], "{log}");
    // The connection itself belongs to the proxy.
    let closed = log.lines().find(|line| line.contains("connection closed")).unwrap();
    assert!(closed.contains("kind=http") && !closed.contains("client="), "{closed}");
}

/// After SIGHUP, the new list of trusted proxies applies to the next request; a connection stays counted until it
/// ends.
#[test]
fn the_list_may_change_while_clients_are_there() {
    let folder = TempDir::new();
    let file = folder.path().join("racerd.toml");
    let rest = "max_connections_per_address = 1\n";
    std::fs::write(&file, format!("{rest}trusted_proxy = [\"127.0.0.1\"]\n")).expect("a file");
    let server = Server::start_in(folder, "127.0.0.1:0", &["--config", file.to_str().expect("a path")]);
    let reads = |text: &str, times: usize| {
        std::fs::write(&file, text).expect("a file");
        server.signal(rustix::process::Signal::HUP);
        eventually("the file is read", || server.log().matches("settings read again").count() == times);
    };
    let from = |list: &str| open(&server, &forwarded_for(list));
    let (first, status) = from("1.2.3.4");
    assert_eq!((status, from("1.2.3.4").1), (101, 429));
    reads(rest, 1);
    assert_eq!(from("1.2.3.4").1, 101, "it is loopback that asks");
    reads(&format!("{rest}trusted_proxy = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n"), 2);
    assert_eq!(from("1.2.3.4").1, 429);
    // By the time this connection ends, its address belongs to a trusted proxy.
    reads(&format!("{rest}trusted_proxy = [\"1.2.3.4\", \"127.0.0.1\"]\n"), 3);
    drop(first);
    line_with(&server, &["connection closed", "client=1.2.3.4 "]);
    reads(&format!("{rest}trusted_proxy = [\"127.0.0.1\"]\n"), 4);
    let (_one, status) = from("1.2.3.4");
    assert_eq!((status, from("1.2.3.4").1), (101, 429));
}

#[test]
fn a_typo_in_the_list_ends_the_start() {
    for (list, words) in [
        ("localhost", "--trusted-proxy localhost: \"localhost\" is not an address or network"),
        ("127.0.0.1,10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1 for that one"),
    ] {
        let output = Server::program().args(["serve", "--trusted-proxy", list]).output().expect("the binary");
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    }
}
