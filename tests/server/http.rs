//! HTTP over real sockets: routes and methods, persistent connections, requests split anywhere, faults and their
//! answers, posting. Access control is in `access`, the upgrade to a WebSocket in `handshake`.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::support::*;

const GET_HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Returns a POST with a JSON body, for a persistent connection.
fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         {headers}\r\n{body}",
        body.len()
    )
}

/// Checks that an answer is an RFC 9457 problem document with this status.
fn problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["status"], status);
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer:?}");
    assert!(body["title"].is_string() && body["type"] == "about:blank", "{answer:?}");
}

/// Checks that these bytes get exactly this refusal and then the end of the stream: the bytes behind are not read as
/// HTTP.
fn refused_once(server: &Server, bytes: impl AsRef<[u8]>, status: u16) -> Answer {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let mut raw = server.raw();
    raw.send(bytes);
    let answer = raw.answer();
    assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
    problem(&answer, status);
    assert!(answer.header("connection").is_some_and(|c| c.contains("close")), "{answer:?}");
    assert!(raw.ended(), "{shown:?}: {:?} follows", String::from_utf8_lossy(&raw.buffer));
    answer
}

// Routes and methods.

#[test]
fn each_route_answers_its_methods_and_405_says_which() {
    let server = Server::start(&[]);
    let all = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    for (path, get, allow) in [
        ("/", 200, "GET, HEAD, OPTIONS"),
        ("/rooms/r1", 200, "GET, HEAD, OPTIONS"),
        ("/racerd.js", 200, "GET, HEAD, OPTIONS"),
        ("/healthz", 200, "GET, HEAD, OPTIONS"),
        ("/readyz", 200, "GET, HEAD, OPTIONS"),
        ("/rooms/r1/members", 200, "GET, HEAD, OPTIONS"),
        ("/rooms/r1/messages", 200, "GET, HEAD, POST, OPTIONS"),
        ("/rooms/r1/ws", 426, "GET, HEAD, OPTIONS"),
        ("/ws", 426, "GET, HEAD, OPTIONS"),
    ] {
        let allowed: Vec<&str> = allow.split(", ").collect();
        let mut got = server.get(path);
        assert_eq!(got.status, get, "{path}: {got:?}");
        got.head = without_date(&got.head);
        for method in all {
            let mut raw = server.raw();
            raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
            match method {
                "GET" => {}
                "HEAD" => {
                    // The same headers as for GET, without the body (RFC 9110 §9.3.2).
                    let answer = raw.answer_head();
                    assert_eq!(without_date(&answer.head), got.head, "{path}");
                    assert!(raw.ended(), "HEAD {path} has a body");
                }
                "OPTIONS" => {
                    let answer = raw.answer();
                    assert_eq!((answer.status, answer.header("allow")), (204, Some(allow)), "{path}");
                }
                _ if allowed.contains(&method) => assert_eq!(raw.answer().status, 415, "{method} {path}"),
                _ => {
                    let answer = raw.answer();
                    problem(&answer, 405);
                    assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
                }
            }
        }
    }
    let answer = server.request("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
    for method in ["TRACE", "CONNECT", "BREW", "get"] {
        refused_once(&server, format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n{GET_HEALTH}"), 501);
    }
}

fn without_date(head: &str) -> String {
    head.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_answer_says_that_it_is_true_now_only_and_how_long_it_is() {
    let server = Server::start(&[]);
    let answer = server.get("/rooms/r1/messages");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")));
    assert_eq!(server.get("/readyz").json(), json!({"ready": true}));
}

/// A path is split first, decoded once, and only then validated.
#[test]
fn paths_are_decoded_once_and_judged_afterwards() {
    let server = Server::start(&[]);
    let mut observer = server.member("lobby", "ann");
    let mut other = server.client("/rooms/%6Cobby/ws?name=b%6Fb");
    assert_eq!(other.next_of("joined")["room"], "lobby");
    other.say(1, json!("the same room"));
    assert_eq!(observer.next_of("message")["from"]["name"], "bob");
    let long = format!("/rooms/{}/ws", "a".repeat(65));
    for path in [
        "/rooms/a%2Fb/ws",
        "/rooms/%2e%2e/ws",
        "/rooms/%2e/ws",
        "/rooms/../ws",
        "/rooms/%252e/ws",
        "/rooms/a%00b/ws",
        "/rooms/a%20b/ws",
        "/rooms//ws",
        "/rooms/a/b",
        "/rooms/caf%C3%A9/ws",
        "/rooms/a+b/messages",
        long.as_str(),
        "/..%2f..%2fetc/passwd",
        "/../../etc/passwd",
        "/rooms/r1/ws//",
        "/Healthz",
        "//healthz",
        "/nowhere",
    ] {
        let plain = server.get(path);
        problem(&plain, 404);
        let upgrade = server.request(handshake(path, ""));
        problem(&upgrade, 404);
    }
    let answer = server.get("/rooms/caf%C3%A9/messages");
    assert!(answer.json()["detail"].as_str().unwrap().contains("A-Z a-z 0-9"), "{answer:?}");
    for path in ["/rooms/%zz/ws", "/rooms/%/ws", "/rooms/%f/ws", "/%ff", "/healthz?%", "/healthz?a=%g0"] {
        problem(&server.get(path), 400);
    }
    assert_eq!(server.get("/rooms/%41-Z.a_z~0/messages").json()["room"], "A-Z.a_z~0");
    for target in ["http://localhost/healthz", "HTTP://127.0.0.1:80/healthz", "/healthz?x=y"] {
        let answer = server.request(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
    }
}

// Persistent connections, and requests split anywhere.

#[test]
fn a_connection_stays_and_pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    let requests = [
        post("/rooms/r1/messages", "", "1"),
        "HEAD /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
        "GET /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
        "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
        post("/rooms/r1/messages", "", "2"),
        // Old clients send an empty line behind a body (RFC 9112 §2.2).
        "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
        post("/rooms/r1/messages", "", "3"),
    ];
    raw.send(requests.concat());
    assert_eq!(raw.answer().json()["seq"], 1);
    assert_eq!(raw.answer_head().status, 200);
    assert_eq!(raw.answer().json()["messages"][0]["body"], 1);
    assert_eq!(raw.answer().status, 404);
    assert_eq!(raw.answer().json()["seq"], 2);
    let last = raw.answer();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(raw.ended(), "nothing is read behind Connection: close");
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 2);
}

#[test]
fn many_pipelined_requests_in_one_send_are_all_answered() {
    let server = Server::start(&["--request-rate", "0"]);
    let mut raw = server.raw();
    let mut writer = raw.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(GET_HEALTH.repeat(5000).as_bytes()));
    for _ in 0..5000 {
        assert_eq!(raw.answer().status, 200);
    }
    sending.join().unwrap().unwrap();
}

/// Waits for as long as the server keeps an idle connection.
fn idle(server: &Server) {
    let mut raw = server.raw();
    raw.send(GET_HEALTH);
    assert_eq!(raw.answer().status, 200);
    assert!(raw.ended());
}

/// A slow reader is not idle: the idle time begins when it has read the last answer.
#[test]
fn slow_reading_of_many_answers_is_not_idleness() {
    let server = Server::start(&["--keep-alive", "300ms", "--request-rate", "0"]);
    let mut raw = server.raw();
    for _ in 0..2 {
        raw.send(post("/rooms/r1/messages", "", &format!("\"{}\"", "a".repeat(29_000))));
        assert_eq!(raw.answer().status, 201);
    }
    let mut writer = raw.stream.try_clone().unwrap();
    let request = "GET /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // 12 MB of answers: more than the kernel buffers.
    let sending = std::thread::spawn(move || writer.write_all(request.repeat(200).as_bytes()));
    // Three times the idle timeout.
    (0..3).for_each(|_| idle(&server));
    for _ in 0..200 {
        assert!(raw.answer().body.len() > 58_000);
    }
    sending.join().unwrap().unwrap();
    assert!(raw.ended());
}

#[test]
fn http_1_0_ends_with_its_answer_unless_it_asks_to_stay() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    raw.send("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(raw.answer().header("connection"), Some("keep-alive"));
    assert_eq!(raw.answer().header("connection"), Some("close"));
    assert!(raw.ended());
}

#[test]
fn a_client_that_shuts_its_sending_side_gets_its_answers_whole() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    raw.send([post("/rooms/r1/messages", "", "1"), GET_HEALTH.into()].concat());
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(raw.answer().status, 201);
    assert_eq!(raw.answer().status, 200);
    assert!(raw.ended());
}

#[test]
fn a_request_is_the_same_in_any_pieces() {
    let server = Server::start(&["--request-rate", "0"]);
    let request = post("/rooms/r1/messages", "", "\"hello\"");
    // Split into single bytes.
    let mut raw = server.raw();
    for byte in request.bytes() {
        raw.send([byte]);
    }
    assert_eq!(raw.answer().json()["seq"], 1);
    // Split in two, the second piece with the first half of the next request behind it.
    for at in 1..request.len() {
        raw.send(&request.as_bytes()[..at]);
        raw.send(format!("{}{}", &request[at..], &GET_HEALTH[..20]));
        assert_eq!(raw.answer().json()["seq"], at + 1);
        raw.send(&GET_HEALTH[20..]);
        assert_eq!(raw.answer().status, 200);
    }
}

// Faults.

/// Only exactly one valid length is accepted; bytes behind a refused request are not read as a second one.
#[test]
fn a_length_that_could_be_read_two_ways_is_refused() {
    let server = Server::start(&[]);
    for (lines, status) in [
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length: 5.0", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length:", 400),
        ("Content-Length : 5", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: chunked, identity", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked", 411),
        ("X: a\r\n b", 400),
        ("X: a\r\n\tb", 400),
        ("X: a\nY: b", 400),
        ("X: a\rY: b", 400),
        ("X: a\x00b", 400),
        ("X: a\x7f", 400),
        ("X\x00: a", 400),
        ("X Y: a", 400),
        (": a", 400),
        ("X", 400),
    ] {
        for method in ["POST", "GET"] {
            let head = format!(
                "{method} /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n\r\n"
            );
            refused_once(&server, format!("{head}\"abc\"{GET_HEALTH}"), status);
        }
    }
    // No chunked body is accepted, so chunk sizes cannot be misread.
    for size in ["5;ext", "-1", "fffffffffffffffff", "5\n"] {
        let head = "POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused_once(&server, format!("{head}{size}\r\n\"abc\"\r\n0\r\n\r\n{GET_HEALTH}"), 411);
    }
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 0, "nothing of all that was obeyed");
}

#[test]
fn a_head_that_is_not_one_is_refused() {
    let server = Server::start(&[]);
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n", 400),
        ("GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /caf\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: localhost\r\n\r\n", 505),
    ] {
        refused_once(&server, format!("{head}{GET_HEALTH}"), status);
    }
    let answer = refused_once(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400);
    assert!(answer.json()["detail"].as_str().unwrap().contains("TLS"), "{answer:?}");
    refused_once(&server, format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)), 414);
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    refused_once(&server, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431);
    // The refusal of a HEAD has no body either.
    let mut raw = server.raw();
    raw.send("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n");
    assert_eq!(raw.answer_head().status, 400);
    assert!(raw.ended());
}

/// Parsing costs work proportional to the bytes, however they are split, and stops at the head limit.
#[test]
fn a_long_header_costs_work_in_proportion_and_then_431() {
    let server = Server::start(&["--max-head-size", "64KiB"]);
    let before = server.cpu();
    let mut raw = server.raw();
    raw.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nA: ");
    for _ in 0..16_000 {
        raw.send("aaaa");
    }
    raw.send("\r\n\r\n");
    assert_eq!(raw.answer().status, 426, "64,000 bytes are a head within the limit");
    let used = server.cpu() - before;
    // Restarting at each piece would take half a billion steps: several seconds here.
    assert!(used < Duration::from_millis(1500), "{used:?}");
}

#[test]
fn a_header_without_end_gets_431_at_the_limit_and_takes_no_memory() {
    let server = Server::start(&[]);
    // Sent byte by byte: the refusal comes when the limit is passed, not at the end of the head.
    let mut raw = server.raw();
    let head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nA: ";
    raw.send(head);
    for _ in head.len()..=16 * 1024 {
        raw.send("a");
    }
    problem(&raw.answer(), 431);
    assert!(raw.ended());
    // 20 MB as fast as possible.
    let before = server.rss();
    let mut raw = server.raw();
    let mut writer = raw.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let _ = writer.write_all(head.as_bytes());
        let _ = writer.write_all(&vec![b'a'; 20_000_000]);
    });
    problem(&raw.answer(), 431);
    sending.join().unwrap();
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes");
}

/// The answer arrives whole, then the end of the stream, even if the client reads only after sending everything.
#[test]
fn an_early_refusal_arrives_whole_although_the_body_is_still_coming() {
    let server = Server::start(&[]);
    let path = "/rooms/r1/messages";
    for (head, status) in [
        (format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n"), 413),
        (format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"), 400),
        (format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"), 411),
        ("BREW / HTTP/1.1\r\n\r\n".into(), 501),
        ("GET / HTTP/1.1\r\nA: ".into(), 431),
    ] {
        let mut raw = server.raw();
        raw.send(head);
        raw.send(vec![b'a'; 8_388_608]);
        problem(&raw.answer(), status);
        assert!(raw.ended(), "one answer, and no reset");
    }
}

#[test]
fn an_early_refusal_arrives_whole_even_on_a_slow_line() {
    let server = Server::start(&["--keep-alive", "300ms"]);
    let mut raw = server.raw();
    raw.send("POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    // 2.7 seconds: longer than a peer may stay silent after the last answer.
    for _ in 0..9 {
        raw.send([b'a'; 11_000]);
        idle(&server);
    }
    problem(&raw.answer(), 413);
    assert!(raw.ended());
}

#[test]
fn an_expectation_is_met_at_once_or_answered_finally() {
    let server = Server::start(&[]);
    let head = |length: usize, expect: &str, version: &str| {
        format!(
            "POST /rooms/r1/messages HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nExpect: {expect}\r\n\r\n"
        )
    };
    let mut raw = server.raw();
    for expect in ["100-continue", "100-Continue"] {
        raw.send(head(7, expect, "1.1"));
        assert_eq!(raw.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        raw.send("\"hello\"");
        assert_eq!(raw.answer().status, 201);
    }
    // The body is already there: no 100 is needed.
    raw.send(head(7, "100-continue", "1.1") + "\"hello\"");
    assert_eq!(raw.answer().status, 201);
    // There is no body to wait for.
    raw.send(head(0, "100-continue", "1.1"));
    assert_eq!(raw.answer().status, 400);
    // The announced length is too large: no body is requested.
    refused_once(&server, head(40_000, "100-continue", "1.1"), 413);
    refused_once(&server, head(7, "tea", "1.1"), 417);
    refused_once(&server, head(7, "100-continue, tea", "1.1"), 417);
    let mut old = server.raw();
    old.send(head(7, "100-continue", "1.0"));
    old.send("\"hello\"");
    assert_eq!(old.answer().status, 201, "HTTP/1.0 knows no interim answers");
}

#[test]
fn a_request_that_is_not_whole_in_time_gets_408_however_slowly_it_drips() {
    let server = Server::start(&["--header-timeout", "1s", "--keep-alive", "100ms"]);
    let path = "/rooms/r1/messages";
    let body = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3000\r\n\r\n\""
    );
    let second = format!("{GET_HEALTH}GET / HTTP/1.1\r\nA: ");
    for (begin, before) in [("GET / HTTP/1.1\r\nA: ", 0), (body.as_str(), 0), (second.as_str(), 1)] {
        let mut raw = server.raw();
        raw.send(begin);
        for _ in 0..before {
            assert_eq!(raw.answer().status, 200);
        }
        let mut writer = raw.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the server cuts it off, or long past that time: one byte each 100 ms.
                for _ in 0..50 {
                    if writer.write_all(b"a").is_err() {
                        break;
                    }
                    idle(&server);
                }
            });
            problem(&raw.answer(), 408);
            assert!(raw.ended());
        });
    }
}

#[test]
fn a_connection_on_which_nothing_is_asked_is_ended_without_a_word() {
    let server = Server::start(&["--header-timeout", "300ms", "--keep-alive", "300ms"]);
    assert!(server.raw().ended());
    let mut raw = server.raw();
    raw.send(GET_HEALTH);
    assert_eq!(raw.answer().status, 200);
    assert!(raw.ended());
}

// Posting and reading.

#[test]
fn a_post_is_a_message_to_the_room() {
    let server = Server::start(&[]);
    let mut ann = server.member("r1", "ann");
    let answer = server.post("/rooms/r1/messages?name=Zo%C3%AB+B", "{\"a\": [1 , 2]}");
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["seq"], 1);
    assert!(answer.json()["at"].is_u64());
    let message = ann.next_of("message");
    assert_eq!(
        (&message["seq"], &message["at"], &message["body"]),
        (&json!(1), &answer.json()["at"], &json!({"a": [1, 2]}))
    );
    assert_eq!(message["from"], json!({"name": "Zoë B"}), "who posts is no member");
    server.post("/rooms/r1/messages", "2");
    let name = ann.next_of("message")["from"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("guest-") && name.len() == 10, "{name}");
}

#[test]
fn a_post_that_is_not_one_json_value_is_refused() {
    let server = Server::start(&[]);
    let post = |body: &str| server.post("/rooms/r1/messages", body);
    for body in ["", " ", "{", "{\"a\":1}}", "1 2", "nul", "'a'", "\"\\ud800\"", "\"a\nb\"", "\u{feff}1", "NaN"] {
        let answer = post(body);
        problem(&answer, 400);
        assert_eq!(answer.json()["field"], "body", "{body}");
    }
    let answer = server.request(
        [b"POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n\"".as_slice(), b"\xff\""].concat(),
    );
    problem(&answer, 400);
    problem(&post(&format!("{}{}", "[".repeat(65), "]".repeat(65))), 400);
    assert_eq!(post(&format!("{}{}", "[".repeat(64), "]".repeat(64))).status, 201);
    let quoted = |length: usize| format!("\"{}\"", "a".repeat(length - 2));
    assert_eq!(post(&quoted(32 * 1024)).status, 201);
    problem(&post(&quoted(32 * 1024 + 1)), 413);
    for (query, field) in
        [("name=", "name"), ("name=%00", "name"), ("name=%E2%80%AEa", "name"), ("name=a&name=b", "name")]
    {
        let answer = server.post(&format!("/rooms/r1/messages?{query}"), "1");
        problem(&answer, 400);
        assert_eq!(answer.json()["field"], field, "{query}");
    }
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 2);
}

#[test]
fn a_post_without_application_json_is_415() {
    let server = Server::start(&[]);
    let post = |media: &str| {
        server.request(format!(
            "POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{media}Content-Length: 1\r\n\r\n1"
        ))
    };
    for media in
        ["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded", "text/plain;application/json"]
    {
        let line = if media.is_empty() { String::new() } else { format!("Content-Type: {media}\r\n") };
        problem(&post(&line), 415);
    }
    for media in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x"] {
        assert_eq!(post(&format!("Content-Type: {media}\r\n")).status, 201, "{media}");
    }
    problem(&post("Content-Type: application/json\r\nContent-Type: application/json\r\n"), 400);
}

#[test]
fn a_repeated_idempotency_key_is_one_message() {
    let server = Server::start(&[]);
    let post =
        |key: &str, body: &str| server.post_with("/rooms/r1/messages", body, &format!("Idempotency-Key: {key}\r\n"));
    let key = "0123456789abcdefghij-1";
    let first = post(key, "{\"a\":1}");
    assert_eq!((first.status, &first.json()["seq"]), (201, &json!(1)));
    let again = post(key, "{\"a\":1}");
    assert_eq!(again.status, 200);
    assert_eq!((&again.json()["seq"], &again.json()["at"]), (&first.json()["seq"], &first.json()["at"]));
    problem(&post(key, "{\"a\":2}"), 422);
    assert_eq!(post("0123456789abcdefghij-2", "{\"a\":1}").json()["seq"], 2);
    assert_eq!(server.post_with("/rooms/r2/messages", "3", &format!("Idempotency-Key: {key}\r\n")).status, 201);
    assert_eq!(post(&"k".repeat(200), "1").status, 201);
    for key in ["", "0123456789abcdefghij1", &"k".repeat(201)] {
        let answer = post(key, "1");
        problem(&answer, 400);
        assert_eq!(answer.json()["field"], "Idempotency-Key");
    }
    problem(&post(&format!("{key}\r\nIdempotency-Key: {key}"), "1"), 400);
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 3);
}

#[test]
fn history_is_read_from_either_end() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    for n in 1..=7 {
        raw.send(post("/rooms/r1/messages?name=ann", "", &n.to_string()));
        assert_eq!(raw.answer().status, 201);
    }
    let page = |query: &str| {
        let page = server.get(&format!("/rooms/r1/messages?{query}")).json();
        let seqs = page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect::<Vec<_>>();
        (seqs, page["more"].as_bool().unwrap())
    };
    assert_eq!(page(""), ((1..=7).collect(), false));
    assert_eq!(page("limit=3"), (vec![5, 6, 7], true));
    assert_eq!(page("before=5&limit=3"), (vec![2, 3, 4], true));
    assert_eq!(page("before=4&limit=3"), (vec![1, 2, 3], false));
    assert_eq!(page("before=1"), (vec![], false));
    assert_eq!(page("after=2&limit=2"), (vec![3, 4], true));
    assert_eq!(page("after=5"), (vec![6, 7], false));
    assert_eq!(page("after=100"), (vec![], false));
    assert_eq!(page("limit=9007199254740992"), ((1..=7).collect(), false));
    let whole = server.get("/rooms/r1/messages").json();
    assert_eq!((&whole["room"], &whole["head"], &whole["oldest"]), (&json!("r1"), &json!(7), &json!(1)));
    assert!(whole["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()));
    assert_eq!(whole["messages"][0]["from"]["name"], "ann");
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=+1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1e2", "limit"),
        ("limit=", "limit"),
        ("limit", "limit"),
        ("after=9007199254740993", "after"),
        ("after=18446744073709551616", "after"),
        ("before=x", "before"),
        ("after=1&before=2", "before"),
        ("limit=1&limit=1", "limit"),
    ] {
        let answer = server.get(&format!("/rooms/r1/messages?{query}"));
        problem(&answer, 400);
        assert_eq!(answer.json()["field"], field, "{query}: {answer:?}");
    }
}

#[test]
fn members_are_listed_without_a_socket() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/rooms/r1/members").json(), json!({"room": "r1", "count": 0, "members": []}));
    let ann = server.member("r1", "ann");
    let answer = server.get("/rooms/r1/members").json();
    assert_eq!(answer["count"], 1);
    assert_eq!(answer["members"], json!([{"member": ann.welcome["member"], "name": "ann"}]));
}
