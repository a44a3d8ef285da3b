//! A server at its connection limit: each further client is told why, and health checks are answered.

use std::process::Stdio;

use serde_json::json;

use crate::support::*;

const FULL: &str = "the server is full";

/// Starts a server with this connection limit, all of it taken by members of the room `in`.
fn full(most: usize, arguments: &[&str]) -> (Server, Vec<Client>) {
    let most_text = most.to_string();
    let server = Server::without_grace(&[&["--max-connections", &most_text], arguments].concat());
    let members = (0..most).map(|_| server.member("in", "member")).collect();
    (server, members)
}

fn asks(server: &Server, request: &str) -> (Raw, Answer) {
    let mut raw = server.raw();
    raw.send(request);
    let answer = raw.answer();
    (raw, answer)
}

#[test]
fn a_full_server_answers_503_to_everything_but_health() {
    let (server, mut members) = full(3, &[]);
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let post = "POST /rooms/in/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1\r\n\r\n1";
    for request in [
        handshake("/rooms/in/ws", ""),
        get("/rooms/in/ws", ""),
        get("/rooms/in/events", ""),
        get("/rooms/in/messages", ""),
        get("/", ""),
        post.to_string(),
    ] {
        let (mut raw, answer) = asks(&server, &request);
        assert_eq!(answer.status, 503, "{request}");
        assert!(answer.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)), "{answer:?}");
        let told = answer.json();
        assert_eq!(
            (&told["code"], told["detail"].as_str().unwrap().starts_with(FULL)),
            (&json!("full"), true),
            "{told}"
        );
        assert!(raw.ended(), "and closed: {request}");
    }
    let (_, page) = asks(&server, &get("/rooms/in", "Accept: text/html\r\n"));
    assert_eq!((page.status, page.header("Content-Type")), (503, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("The server is full"), "{page:?}");
    for path in ["/healthz", "/readyz"] {
        let (mut raw, answer) = asks(&server, &get(path, ""));
        assert_eq!(answer.status, 200, "{path}");
        assert!(raw.ended(), "its place is for the next");
    }
    // A malformed head keeps its own reason.
    assert_eq!(asks(&server, "GET / HTTP/1.1\r\n\r\n").1.status, 400);
    // A client that sends no request is told, too, and is disconnected.
    let mut silent = server.raw();
    let mut begun = server.raw();
    begun.send("GET /healthz HTT");
    for raw in [&mut silent, &mut begun] {
        let answer = raw.answer();
        assert!(answer.status == 503 && answer.body.contains(FULL), "{answer:?}");
        assert!(raw.ended());
    }
    let log = server.log();
    assert_eq!(log.matches("WARN  as many connections").count(), 1, "one line, however many come: {log}");
    // Existing clients are served, and a free place is taken again.
    members[0].say(1, json!("served"));
    drop(members.pop());
    eventually("a free place", || asks(&server, &handshake("/rooms/in/ws", "")).1.status == 101);
}

/// A browser does not show why an upgrade failed; a plain GET of the same URL tells, also over an existing connection.
#[test]
fn a_plain_get_says_what_an_upgrade_would_be_told() {
    let server = Server::without_grace(&["--max-connections", "2"]);
    let _member = server.member("in", "member");
    let mut kept = server.raw();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    kept.send(get("/rooms/in/messages"));
    assert_eq!(kept.answer().status, 200);
    // Whoever is about to ask keeps its place.
    let whole = get("/rooms/in/ws");
    let (begun, rest) = whole.split_at(9);
    kept.send(begun);
    let upgrade = asks(&server, &handshake("/rooms/in/ws", "")).1;
    kept.send(rest);
    let told = kept.answer();
    assert_eq!((told.status, &told.body), (503, &upgrade.body));
}

/// Idle HTTP connections give way, the last places are for clients that show a token, and each is one place only.
#[test]
fn idle_connections_give_way_and_the_last_places_are_for_who_comes_back() {
    let server = Server::without_grace(&["--max-connections", "64", "--keep-alive", "60s"]);
    let mut idle: Vec<Raw> = (0..20).map(|_| server.raw()).collect();
    for raw in &mut idle {
        raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
    }
    let mut members: Vec<Client> = (0..40).map(|_| server.member("in", "member")).collect();
    // They are let in as soon as those have been idle for a second, one for one.
    let mut newcomers = Vec::new();
    eventually("all idle ones have given way", || {
        let (raw, answer) = asks(&server, &handshake("/ws", ""));
        newcomers.extend((answer.status == 101).then_some(raw));
        newcomers.len() == 20
    });
    assert_eq!(asks(&server, &handshake("/ws", "")).1.status, 503);
    assert!(idle.iter_mut().all(Raw::ended));
    let comes_back = |member: usize| {
        let token = members[member].welcome["session"].as_str().unwrap();
        asks(&server, &handshake("/ws", &format!("Sec-WebSocket-Protocol: racerd.v1, racerd.session.{token}\r\n")))
    };
    let back: Vec<(Raw, Answer)> = [0, 0, 1, 2, 3, 4].map(comes_back).into_iter().collect();
    let statuses: Vec<u16> = back.iter().map(|(_, answer)| answer.status).collect();
    assert_eq!(statuses, [101, 503, 101, 101, 101, 503]);
    members[0].say(1, json!("served"));
}

#[test]
fn the_command_line_says_that_a_server_is_full() {
    let (server, members) = full(1, &[]);
    let url = format!("http://{}/rooms/in", server.address);
    let send = |timeout: &str| {
        let command = ["send", &url, "hello", "--timeout", timeout];
        Server::program().args(command).stdin(Stdio::null()).output().expect("the binary")
    };
    let output = send("2s");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && told.contains(FULL), "{:?} {told}", output.status);
    let health = Server::program().args(["health", &format!("http://{}", server.address)]).output().expect("it");
    assert_eq!(health.status.code(), Some(0), "{health:?}");
    drop(members);
    eventually("a free place", || server.get("/rooms/in/members").status == 200);
    let output = send("60s");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Beyond the limit, only a few clients at a time get their answer; the others wait in the kernel's backlog.
#[test]
fn what_strangers_take_of_a_full_server_is_bounded() {
    const ANSWERED_AT_ONCE: usize = 16;
    let (server, mut members) = full(4, &[]);
    let before = server.descriptors();
    let crowd: Vec<Raw> = (0..120).map(|_| server.raw()).collect();
    eventually("a line about it", || server.log().contains("accepting rests"));
    let mut most = 0;
    for id in 0..50 {
        members[0].say(id, json!(id));
        most = most.max(server.descriptors() - before);
    }
    assert!((1..=ANSWERED_AT_ONCE).contains(&most), "{most}");
    drop(crowd);
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    eventually("health", || asks(&server, get).1.status == 200);
    eventually("all closed", || server.descriptors() <= before);
}
