//! The upgrade from HTTP to a WebSocket, on the real binary: which requests count as an upgrade, which URLs are valid,
//! and that no byte is lost or read twice on the way.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::*;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Returns an upgrade request with this first line, Host, and these header lines.
fn request(first: &str, lines: &str) -> String {
    format!("{first}\r\nHost: localhost\r\n{lines}\r\n")
}

fn answer(server: &Server, request: impl AsRef<[u8]>) -> Answer {
    let mut raw = server.raw();
    raw.send(request);
    raw.answer()
}

#[test]
fn a_correct_request_gets_101_and_a_welcome() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    raw.send(handshake("/rooms/r1/ws?name=ann", ""));
    let answer = raw.answer_head();
    assert_eq!(answer.status, 101);
    assert!(answer.head.starts_with("HTTP/1.1 101 "));
    // Example of RFC 6455 §1.3.
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("Upgrade"));
    assert_eq!(answer.header("sec-websocket-protocol"), None);
    assert_eq!(answer.header("content-length"), None);
    let first = raw.frame().unwrap().json();
    assert_eq!((&first["type"], &first["name"]), (&json!("welcome"), &json!("ann")));
    let second = raw.frame().unwrap().json();
    assert_eq!((&second["type"], &second["room"], second.get("id")), (&json!("joined"), &json!("r1"), None));
}

/// Twice the rate may come at once, a quarter of that only with a token; then they wait for two seconds at most.
#[test]
fn handshakes_beyond_the_rate_wait_and_who_comes_back_goes_first() {
    let server = Server::start(&["--handshake-rate", "10", "--log-level", "debug"]);
    let token = server.client("/ws?name=ann").welcome["session"].as_str().unwrap().to_owned();
    let mut newcomers: Vec<Raw> = (0..100).map(|_| server.raw()).collect();
    newcomers.iter_mut().for_each(|raw| raw.send(handshake("/ws", "")));
    // Those are read before this one, whose answer comes before that of most of them.
    let mut back = server.raw();
    back.send(handshake("/ws", &format!("Sec-WebSocket-Protocol: racerd.v1, racerd.session.{token}\r\n")));
    let answer = back.answer_head();
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("racerd.v1")));
    back.frame().unwrap();
    back.send(text(&json!({"type": "resume", "id": 1, "session": token}).to_string()));
    assert_eq!(back.next_of("welcome")["name"], "ann");
    let statuses: Vec<u16> = newcomers.iter_mut().map(|raw| raw.answer_head().status).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    // 14 at once, and some 20 in two seconds, or more where it takes long to ask.
    assert!(count(101) > 30 && count(503) > 0, "{statuses:?}");
    assert_eq!(count(101) + count(503), 100, "{statuses:?}");
    assert!(!server.log().contains(&token[..20]) && server.log().contains("too many handshakes at the moment"));
}

#[test]
fn connection_and_upgrade_are_lists_without_case() {
    let server = Server::start(&[]);
    let rest = format!("{KEY}Sec-WebSocket-Version: 13\r\n");
    for lines in [
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        "Upgrade: websocket\r\nconnection:upgrade\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: UPGRADE\r\n",
        "Upgrade: websocket\r\nConnection: ,, Upgrade ,\r\n",
        "Upgrade: websocket\r\nConnection:\tUpgrade\t\r\n",
        "Upgrade: WebSocket\r\nConnection: Upgrade\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    ] {
        let request = request("GET /ws HTTP/1.1", &format!("{lines}{rest}"));
        assert_eq!(answer(&server, &request).status, 101, "{request}");
    }
    let all_lower = handshake("/ws", "").to_lowercase().replace("get /ws http/1.1", "GET /ws HTTP/1.1");
    assert_eq!(answer(&server, all_lower).status, 101);
    for lines in [
        "Upgrade: websocket\r\nConnection: upgradeable\r\n",
        "Upgrade: websocket\r\nConnection: not-upgrade\r\n",
        "Upgrade: websocket\r\nConnection: close\r\n",
        "Upgrade: websocket\r\nConnection: Up grade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websockets\r\nConnection: Upgrade\r\n",
        "Upgrade: \"websocket\"\r\nConnection: Upgrade\r\n",
    ] {
        let request = request("GET /ws HTTP/1.1", &format!("{lines}{rest}"));
        assert_eq!(answer(&server, &request).status, 426, "{request}");
    }
    let good = format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{rest}");
    assert_eq!(answer(&server, request("GET /ws HTTP/1.0", &good)).status, 426);
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(answer(&server, request(&format!("{method} /ws HTTP/1.1"), &good)).status, 405);
    }
}

#[test]
fn a_refused_upgrade_says_which_version_and_nothing_behind_it_is_read() {
    let server = Server::start(&[]);
    let version = |lines: &str| {
        request("GET /ws HTTP/1.1", &format!("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n{KEY}{lines}"))
    };
    let key = |lines: &str| {
        let fixed = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        request("GET /ws HTTP/1.1", &format!("{fixed}{lines}"))
    };
    for (request, status) in [
        (version("Sec-WebSocket-Version: 8\r\n"), 426),
        (version("Sec-WebSocket-Version:\r\n"), 426),
        (version("Sec-WebSocket-Version: 13, 8\r\n"), 426),
        (version("Sec-WebSocket-Version: 013\r\n"), 426),
        (version("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n"), 426),
        (version(""), 426),
        (key(""), 400),
        (key("Sec-WebSocket-Key:\r\n"), 400),
        (key("Sec-WebSocket-Key: abc\r\n"), 400),
        (key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n"), 400),
        (key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh\r\n"), 400),
        (key(&KEY.repeat(2)), 400),
        (handshake("/ws", "Sec-WebSocket-Protocol: mqtt\r\n"), 400),
        (handshake("/rooms/a%2Fb/ws", ""), 404),
        (handshake("/nowhere", ""), 404),
        (handshake("/ws?name=%00", ""), 400),
        (handshake("/rooms/r1/ws?last=x", ""), 400),
        (handshake("/ws", "Content-Length: 1\r\n"), 400),
        (handshake("/ws", "").replacen("GET", "POST", 1), 405),
        (handshake("/ws", "").replacen("GET", "BREW", 1), 501),
        (handshake("/ws", "").replacen("Host: localhost", "Host: evil.example", 1), 421),
        (handshake("/ws", "Origin: https://evil.example\r\n"), 403),
        // An upgrade of a URL without a socket.
        (handshake("/healthz", ""), 200),
    ] {
        let mut raw = server.raw();
        raw.send(format!("{request}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.header("connection").unwrap().contains("close"), "{answer:?}");
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.header("connection"), Some("Upgrade, close"));
        }
        assert!(raw.ended(), "{request}: {:?} follows", String::from_utf8_lossy(&raw.buffer));
    }
}

#[test]
fn a_sockets_url_fetched_without_upgrade_explains_itself() {
    let server = Server::start(&[]);
    let answer = server.get("/rooms/r1/ws");
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    for words in ["proxy", "Upgrade", "nginx", "proxy_set_header Upgrade $http_upgrade", "Caddy"] {
        assert!(detail.contains(words), "{detail}");
    }
}

/// A browser cannot see why an upgrade was refused; a plain GET of the same URL tells.
#[test]
fn a_sockets_url_fetched_without_upgrade_answers_the_same_refusal() {
    let server = Server::start(&["--handshake-rate", "1"]);
    let origin = "Origin: https://evil.example\r\n";
    assert_eq!(answer(&server, handshake("/ws", origin)).status, 403);
    assert_eq!(answer(&server, request("GET /ws HTTP/1.1", origin)).status, 403);
    // The rate is one a second; both kinds of request count, since they share a bucket, but a fetch does not wait.
    let mut upgrades: Vec<Raw> = (0..12).map(|_| server.raw()).collect();
    upgrades.iter_mut().for_each(|raw| raw.send(handshake("/ws", "")));
    let mut answers = vec![answer(&server, request("GET /ws HTTP/1.1", ""))];
    let end = Instant::now() + SOON;
    while answers[0].status != 503 {
        assert!(Instant::now() < end, "handshakes are not counted");
        answers[0] = answer(&server, request("GET /ws HTTP/1.1", ""));
    }
    answers.extend(upgrades.iter_mut().map(Raw::answer_head).filter(|answer| answer.status != 101));
    assert!(answers.len() > 1, "all of them passed");
    for answer in answers {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|s| s >= 1)));
    }
}

#[test]
fn a_subprotocol_is_ours_or_none() {
    let server = Server::start(&[]);
    let offer = |lines: &str| answer(&server, handshake("/ws", lines));
    for lines in [
        "Sec-WebSocket-Protocol: racerd.v1\r\n",
        "Sec-WebSocket-Protocol: mqtt, racerd.v1\r\n",
        "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: racerd.v1\r\n",
        "sec-websocket-protocol:racerd.v1,\r\n",
    ] {
        let answer = offer(lines);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("racerd.v1")), "{lines}");
    }
    for lines in ["", "Sec-WebSocket-Protocol:\r\n", "Sec-WebSocket-Protocol: ,\r\n"] {
        let answer = offer(lines);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None), "{lines}");
    }
    for lines in [
        "Sec-WebSocket-Protocol: mqtt\r\n",
        "Sec-WebSocket-Protocol: RACERD.V1\r\n",
        "Sec-WebSocket-Protocol: racerd.v2\r\n",
    ] {
        let answer = offer(lines);
        assert_eq!(answer.status, 400, "{lines}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("racerd.v1"));
    }
}

/// No extension is negotiated, and a long list of them costs no work.
#[test]
fn extensions_are_offered_in_vain() {
    let server = Server::start(&[]);
    let many = "a, ".repeat(2700);
    let before = server.cpu();
    for offer in [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=\"",
        "constructor",
        "__proto__",
        ",;=;,",
        "",
        many.as_str(),
    ] {
        let mut raw = server.raw();
        raw.send(handshake("/ws", &format!("Sec-WebSocket-Extensions: {offer}\r\n")));
        let answer = raw.answer_head();
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None), "{offer}");
        raw.next_of("welcome");
        raw.send(frame(0xc1, b"x"));
        assert_eq!(raw.closed_with(), 1002, "RSV1 without an extension");
    }
    let blanks = format!("Sec-WebSocket-Protocol: b{}x\r\n", " ".repeat(15_000));
    assert_eq!(answer(&server, handshake("/ws", &blanks)).status, 400);
    let used = server.cpu() - before;
    assert!(used < Duration::from_secs(1), "{used:?}");
}

#[test]
fn frames_in_the_segment_of_the_handshake_are_not_lost() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    let frames = [
        text(r#"{"type":"send","id":1,"body":"first"}"#),
        frame(0x89, b"are you there"),
        text(r#"{"type":"ping","id":2}"#),
        close(1000, b""),
    ];
    raw.send([handshake("/rooms/r1/ws", "").into_bytes(), frames.concat()].concat());
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    let mut frames = Vec::new();
    while let Some(frame) = raw.frame() {
        frames.push(frame);
    }
    let kinds: Vec<_> = frames.iter().filter(|f| f.first == 0x81).map(|f| f.json()["type"].clone()).collect();
    assert_eq!(kinds[0], "welcome");
    assert!(kinds.contains(&json!("pong")), "{kinds:?}");
    assert!(frames.iter().any(|f| f.first == 0x8a && f.payload == b"are you there"), "{frames:?}");
    assert_eq!(frames.last().unwrap().close_code(), Some(1000));
    // The message is stored although its sender did not wait for the acknowledgement.
    eventually("the message", || server.get("/rooms/r1/messages").json()["head"] == 1);
}

#[test]
fn handshake_and_frames_may_come_in_any_pieces() {
    let server = Server::start(&["--request-rate", "0"]);
    let bytes = [
        handshake("/rooms/r1/ws", "").into_bytes(),
        text(r#"{"type":"send","id":1,"body":"hello"}"#),
        frame(0x89, b"ping"),
        frame(0x01, br#"{"type":"#),
        frame(0x80, br#""ping","id":2}"#),
        close(1000, b"bye"),
    ]
    .concat();
    let expect = |raw: &mut Raw| {
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        let mut frames = Vec::new();
        while let Some(frame) = raw.frame() {
            frames.push(frame);
        }
        assert!(frames.iter().any(|f| f.first == 0x8a && f.payload == b"ping"), "{frames:?}");
        let pong = frames.iter().filter(|f| f.first == 0x81).map(Frame::json).find(|value| value["type"] == "pong");
        assert_eq!(pong.expect("the fragmented message's answer")["id"], 2);
        assert_eq!(frames.last().unwrap().close_code(), Some(1000));
    };
    let mut raw = server.raw();
    for byte in &bytes {
        raw.send([*byte]);
    }
    expect(&mut raw);
    for at in (1..bytes.len()).step_by(7) {
        let mut raw = server.raw();
        raw.send(&bytes[..at]);
        raw.send(&bytes[at..]);
        expect(&mut raw);
    }
}

// Valid and invalid URLs.

#[test]
fn a_name_in_the_url_follows_the_rule() {
    let server = Server::start(&[]);
    let client = server.client("/ws");
    let guest = client.welcome["name"].as_str().unwrap();
    assert!(guest.starts_with("guest-") && guest.len() == 10, "{guest}");
    for (query, name) in [
        ("bob", "bob"),
        ("Zo%C3%AB", "Zoë"),
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("%E6%9D%8E+%E9%9B%B7", "李 雷"),
        ("%3Cimg%20src=x%3E", "<img src=x>"),
        ("%22%5C", "\"\\"),
    ] {
        assert_eq!(server.client(&format!("/rooms/r1/ws?name={query}")).welcome["name"], name);
    }
    let long = "%C3%A9".repeat(32);
    assert_eq!(server.client(&format!("/ws?name={long}")).welcome["name"], "é".repeat(32));
    let too_long = format!("{long}x");
    for name in [
        "",
        "+",
        "%20%20",
        "a%00b",
        "a%0Ab",
        "a%0d",
        "%1b[2J",
        "%E2%80%AEbob",
        "a%E2%80%8Bb",
        "%C2%85",
        "%E2%80%A8",
        "%7f",
        "&name=a",
        "a&name=b",
        too_long.as_str(),
    ] {
        let answer = answer(&server, handshake(&format!("/ws?name={name}"), ""));
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert_eq!(answer.json()["field"], "name", "{name}");
    }
    assert_eq!(answer(&server, handshake("/ws?name=%ff", "")).status, 400);
    assert!(!server.log().contains('\u{1b}'), "no log line carries an escape");
}

#[test]
fn a_url_says_from_where_a_member_reads() {
    let server = Server::start(&[]);
    let mut ann = server.member("r1", "ann");
    for n in 1..=5 {
        ann.say(n, json!(n));
    }
    let epoch = server.get("/rooms/r1/messages").json()["epoch"].as_str().unwrap().to_owned();
    let read = |query: &str| {
        let mut client = server.client(&format!("/rooms/r1/ws?{query}"));
        let joined = client.next_of("joined");
        assert_eq!(joined["head"], 5, "{joined}");
        let from = joined["from"].as_u64().unwrap();
        let seqs: Vec<u64> = (from..=5).map(|_| client.next_of("message")["seq"].as_u64().unwrap()).collect();
        client.send(json!({"type": "ping", "id": 1}));
        assert_eq!(client.next_of("pong")["heads"], json!({"r1": 5}));
        (joined["recovered"].as_bool().unwrap(), seqs)
    };
    assert_eq!(read(""), (true, vec![]));
    assert_eq!(read("last=2"), (true, vec![4, 5]));
    assert_eq!(read("last=50"), (true, vec![1, 2, 3, 4, 5]));
    assert_eq!(read("last=0"), (true, vec![]));
    assert_eq!(read("after=3"), (true, vec![4, 5]));
    assert_eq!(read(&format!("after=3&epoch={epoch}")), (true, vec![4, 5]));
    assert_eq!(read(&format!("after=0&epoch={epoch}")), (true, vec![1, 2, 3, 4, 5]));
    assert_eq!(read("after=5"), (true, vec![]));
    assert!(!read("after=6").0, "beyond the head");
    assert_eq!(read("after=3&epoch=another"), (false, vec![1, 2, 3, 4, 5]));
    for (query, field) in [
        ("last=-1", "last"),
        ("last=1.0", "last"),
        ("last=", "last"),
        ("after=1e2", "after"),
        ("after=9007199254740993", "after"),
        ("after=18446744073709551616", "after"),
        ("after=1&last=1", "last"),
        ("after=1&after=1", "after"),
        ("last=1&last=2", "last"),
        ("after=1&epoch=a&epoch=b", "epoch"),
        ("presence=loud", "presence"),
    ] {
        let answer = answer(&server, handshake(&format!("/rooms/r1/ws?{query}"), ""));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
    assert_eq!(answer(&server, handshake("/rooms/r1/ws?unknown=1", "")).status, 101, "that is how it grows");
}
