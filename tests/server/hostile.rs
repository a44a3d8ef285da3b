//! Deceptive names of members, rooms and other things are refused, and any part of them that reaches the log is one
//! line of plain text.

use serde_json::json;

use crate::support::*;

const HOSTILE: &[&str] = &[
    "x\n2026-01-01T00:00:00.000Z ERROR forged",
    "x\r\n2026-01-01T00:00:00.000Z ERROR forged",
    "\u{1b}[2J\u{1b}[1;31mred",
    "\u{9b}2J",
    "\u{202e}nimda",
    "\u{2066}x\u{2069}",
    "x\u{2028}y",
    "\u{85}",
    "\u{0}",
    "\u{7f}",
    "\u{feff}",
    "\u{e0041}",
    "",
    "   ",
];

/// Percent-encodes every byte.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Checks that each log line begins as racerd's do and holds no character that ends a line, controls a terminal or
/// reverses text direction.
fn assert_plain(server: &Server) {
    let log = server.log();
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line:?}");
        assert!(["ERROR ", "WARN  ", "INFO  ", "DEBUG "].iter().any(|level| rest.starts_with(level)), "{line:?}");
        assert!(!rest.starts_with("ERROR"), "{line:?}");
        let steers = |c: char| {
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        };
        assert!(!line.chars().any(steers), "{line:?}");
        assert!(line.len() < 4096);
    }
}

#[test]
fn names_and_rooms_that_deceive_are_refused() {
    let server = Server::start(&["--log-level", "debug", "--error-budget", "0"]);
    let marks = format!("e{}", "\u{301}".repeat(10_000));
    let long = "x".repeat(1 << 20);
    let few_marks = format!("e{}", "\u{301}".repeat(32));
    let mut client = server.member("lobby", "watcher");
    for text in HOSTILE.iter().copied().chain([marks.as_str(), &long, &few_marks]) {
        let shown: String = text.chars().take(20).collect();
        let text = escaped(text);
        let statuses = if text.len() > 8000 { [414, 431, 431] } else { [400, 404, 404] };
        for target in [format!("/ws?name={text}"), format!("/rooms/lobby/ws?name={text}")] {
            let mut raw = server.raw();
            // The server may have closed the connection before a refused request is fully sent.
            raw.try_send(handshake(&target, ""));
            let answer = raw.answer();
            assert!(statuses.contains(&answer.status) && answer.status != 404, "{shown:?}: {answer:?}");
        }
        let mut raw = server.raw();
        raw.try_send(format!(
            "POST /rooms/lobby/messages?name={text} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: 1\r\nConnection: close\r\n\r\n1"
        ));
        assert!(statuses.contains(&raw.answer().status), "{shown:?}");
        for target in [format!("/rooms/{text}/ws"), format!("/rooms/{text}/messages"), format!("/{text}")] {
            let mut raw = server.raw();
            raw.try_send(handshake(&target, ""));
            let answer = raw.answer();
            // `/` and blanks alone lead to the page itself.
            let is_page = target == "/" && answer.status == 200;
            assert!(is_page || statuses.contains(&answer.status), "{shown:?}: {answer:?}");
        }
    }
    for text in HOSTILE {
        client.send(json!({"type": "join", "id": 1, "room": text}));
        let error = client.next_of("error");
        assert_eq!((&error["code"], &error["field"]), (&json!("bad_field"), &json!("room")), "{text:?}");
        // A type, a presence and a key are untrusted text, too.
        client.send(json!({"type": text, "id": 2}));
        assert_eq!(client.next_of("error")["code"], "unknown_type", "{text:?}");
        client.send(json!({"type": "join", "id": 3, "room": "r", "presence": text}));
        assert_eq!(client.next_of("error")["code"], "bad_field", "{text:?}");
    }
    assert_eq!(server.members("lobby"), 1, "nobody came in");
    assert_plain(&server);
}

/// Bodies are arbitrary and come back unchanged; neither they nor close reasons appear in the log.
#[test]
fn bodies_and_reasons_are_nobodys_business() {
    let server = Server::start(&["--log-level", "debug"]);
    let mut client = server.member("lobby", "ann");
    for (id, text) in (1..).zip(HOSTILE) {
        client.say(id, json!({"text": format!("secret{text}")}));
        assert_eq!(client.next_of("message")["body"]["text"], format!("secret{text}"));
        let mut raw = server.socket("/rooms/lobby/ws?presence=off");
        raw.send(close(4321, format!("secret{text}").as_bytes()));
        assert_eq!(raw.closed_with(), 4321);
    }
    eventually("lines about all", || server.log().matches("closed by the peer with 4321").count() == HOSTILE.len());
    assert!(!server.log().contains("secret"), "{}", server.log());
    assert_plain(&server);
}

/// These headers do appear in the log.
#[test]
fn headers_forge_no_line() {
    let server = Server::start(&["--log-level", "debug", "--trusted-proxy", "127.0.0.1"]);
    for text in HOSTILE {
        for name in ["Host", "Origin", "X-Forwarded-For", "Forwarded", "User-Agent", "Sec-WebSocket-Protocol"] {
            let mut raw = server.raw();
            let request = handshake("/rooms/lobby/ws", &format!("{name}: x{text}\r\n"));
            raw.try_send(if name == "Host" { request.replacen("Host: localhost\r\n", "", 1) } else { request });
            let _ = raw.answer_head();
        }
    }
    // The log shows only valid values of these headers.
    let mut raw = server.raw();
    raw.send("GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n");
    assert_eq!(raw.answer().status, 421);
    eventually("its line", || server.log().contains("client=1.2.3.4 status=421"));
    assert_plain(&server);
}
