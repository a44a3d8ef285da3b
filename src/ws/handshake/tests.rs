//! Tests of the opening handshake.

use super::*;
use crate::http::head::{Head, HeadScan};
use crate::http::limits::HeadLimits;
use crate::http::response::Sending;

/// Returns a request with the lines of a correct handshake, with those in `changed` replaced or added; a line without a
/// colon removes the header of that name.
fn request(first: &str, changed: &[&str]) -> Request {
    let correct = [
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let name = |line: &str| line.split(':').next().unwrap().to_ascii_lowercase();
    let kept = correct.iter().copied().filter(|line| !changed.iter().any(|change| name(change) == name(line)));
    let lines: Vec<&str> = kept.chain(changed.iter().copied().filter(|line| line.contains(':'))).collect();
    let text = format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"));
    match HeadScan::default().advance(text.as_bytes(), &HeadLimits { max_head: 64 * 1024, ..HeadLimits::default() }) {
        Head::Complete { request, .. } => request,
        other => panic!("{text:?} gives {other:?}"),
    }
}

fn get(changed: &[&str]) -> Request {
    request("GET /rooms/r1/ws HTTP/1.1", changed)
}

/// Runs both halves of the check in their order.
fn agree(request: &Request, seals: bool) -> Result<Upgrade, Problem> {
    check(request, spoken(request, seals)?)
}

fn answer(request: &Request) -> String {
    let mut out = Vec::new();
    agree(request, false).unwrap_or_else(|problem| panic!("{problem:?}")).write(&mut out);
    String::from_utf8(out).unwrap()
}

fn refusal(request: &Request) -> (u16, String) {
    let problem = agree(request, false).expect_err("must be refused");
    assert!(problem.close, "a refused upgrade is the last thing on its connection: {problem:?}");
    let status = problem.status.code();
    let mut out = Vec::new();
    problem.into_response().write(&mut out, Sending { date: None, keep_alive: false, to_head: false });
    (status, String::from_utf8(out).unwrap())
}

/// The sample of RFC 6455 §1.3.
#[test]
fn the_sample_of_the_rfc() {
    assert_eq!(
        answer(&get(&[])),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn connection_and_upgrade_are_lists_without_case() {
    for changed in [
        &["Connection: keep-alive, Upgrade"][..],
        &["connection:upgrade"],
        &["Connection: keep-alive", "Connection: UPGRADE"],
        &["Connection: ,, Upgrade ,"],
        &["Connection: close, upgrade"],
        &["Upgrade: WebSocket"],
        &["Upgrade: h2c, websocket"],
        &["Upgrade: h2c", "Upgrade: websocket"],
        &[
            "host: a",
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-version: 13",
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
    ] {
        let request = get(changed);
        assert!(wants_upgrade(&request), "{changed:?}");
        assert!(answer(&request).starts_with("HTTP/1.1 101 "), "{changed:?}");
    }
    for changed in [
        &["Connection: upgradeable"][..],
        &["Connection: not-upgrade"],
        &["Connection: close"],
        &["Connection"],
        &["Upgrade: h2c"],
        &["Upgrade: websocket/13"],
        &["Upgrade: websockets"],
        &["Upgrade"],
    ] {
        let request = get(changed);
        assert!(!wants_upgrade(&request), "{changed:?}");
        assert_eq!(refusal(&request).0, 426, "{changed:?}");
    }
}

#[test]
fn a_plain_get_learns_about_proxies() {
    for request in
        [get(&["Upgrade", "Connection"]), request("GET /ws HTTP/1.0", &[]), request("HEAD /ws HTTP/1.1", &["Upgrade"])]
    {
        let (status, text) = refusal(&request);
        assert_eq!(status, 426);
        assert!(text.contains("proxy_set_header Upgrade $http_upgrade"), "{text}");
        assert!(text.contains("Caddy"), "{text}");
    }
}

#[test]
fn only_get_opens_a_socket() {
    for first in
        ["POST /ws HTTP/1.1", "PUT /ws HTTP/1.1", "DELETE /ws HTTP/1.1", "OPTIONS /ws HTTP/1.1", "HEAD /ws HTTP/1.1"]
    {
        let (status, text) = refusal(&request(first, &[]));
        assert_eq!(status, 405, "{first}");
        assert!(text.contains("\r\nAllow: GET\r\n"), "{text}");
    }
    assert_eq!(refusal(&request("POST /ws HTTP/1.1", &["Upgrade"])).0, 405);
}

#[test]
fn the_version_is_13() {
    for changed in [
        &["Sec-WebSocket-Version"][..],
        &["Sec-WebSocket-Version:"],
        &["Sec-WebSocket-Version: 8"],
        &["Sec-WebSocket-Version: 13, 8"],
        &["Sec-WebSocket-Version: 013"],
        &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"],
        &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"],
        // The version is checked before the key, because another version may have other rules for keys.
        &["Sec-WebSocket-Version: 14", "Sec-WebSocket-Key: x"],
    ] {
        let (status, text) = refusal(&get(changed));
        assert_eq!(status, 426, "{changed:?}");
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: Upgrade, close\r\n"), "{text}");
    }
}

#[test]
fn the_key_is_16_bytes_once() {
    for changed in [
        &["Sec-WebSocket-Key"][..],
        &["Sec-WebSocket-Key:"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQo="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA"],
        // Complete base64 of 1, 13 and 19 bytes.
        &["Sec-WebSocket-Key: dA=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBubw=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAAAA=="],
        &["Sec-WebSocket-Key: dGhl-HNhbXBsZSBub25jZ_=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jé=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="],
    ] {
        assert_eq!(refusal(&get(changed)).0, 400, "{changed:?}");
    }
}

#[test]
fn the_token_of_a_session_may_be_shown_and_is_never_agreed_to() {
    let shown = |line: &str| {
        let request = get(&[&format!("Sec-WebSocket-Protocol: {line}")]);
        let token = session_shown(&request).map(str::to_owned);
        (token, agree(&request, false).is_ok() && !answer(&request).contains("session"))
    };
    assert_eq!(session_offer("a-_9"), "racerd.session.a-_9");
    for (line, token) in [
        ("racerd.v1, racerd.session.a-_9", Some("a-_9")),
        ("racerd.session.a-_9 ,racerd.v1", Some("a-_9")),
        ("racerd.v1, racerd.session.a, racerd.session.b", Some("a")),
        ("racerd.v1, racerd.session.", Some("")),
        ("racerd.v1, racerd.Session.a", None),
        ("racerd.v1", None),
    ] {
        assert_eq!(shown(line), (token.map(str::to_owned), true), "{line}");
    }
    assert_eq!(shown("racerd.session.a"), (Some("a".to_owned()), false), "it is no protocol to speak");
    assert_eq!(session_shown(&get(&[])), None);
}

#[test]
fn a_handshake_has_no_body() {
    assert_eq!(refusal(&get(&["Content-Length: 6"])).0, 400);
    assert!(agree(&get(&["Content-Length: 0"]), false).is_ok());
}

#[test]
fn subprotocols() {
    for (changed, named) in [
        (&["Sec-WebSocket-Protocol: racerd.v1"][..], true),
        (&["Sec-WebSocket-Protocol: mqtt, racerd.v1 ,x"], true),
        (&["Sec-WebSocket-Protocol: mqtt", "sec-websocket-protocol: ,racerd.v1"], true),
        (&["Sec-WebSocket-Protocol: ,"], false),
        (&[], false),
    ] {
        assert_eq!(answer(&get(changed)).contains("\r\nSec-WebSocket-Protocol: racerd.v1\r\n"), named, "{changed:?}");
    }
    let blanks = format!("Sec-WebSocket-Protocol: b{}x", " ".repeat(16_000));
    for line in ["mqtt", "RACERD.V1", "racerd.v10", "racerd.v1 x", "racerd.v1;q=1"] {
        assert_eq!(refusal(&get(&[&format!("Sec-WebSocket-Protocol: {line}")])).0, 400, "{line}");
    }
    let (status, text) = refusal(&get(&[&blanks]));
    assert_eq!(status, 400);
    assert!(text.contains("racerd.v1"), "{text}");
}

/// The first offer, in the client's order, that is spoken here wins.
#[test]
fn sealed_is_spoken_where_there_is_a_key() {
    let offers = |text: &str| get(&[&format!("Sec-WebSocket-Protocol: {text}")]);
    for (text, seals, expected) in [
        ("racerd.v1.sealed", true, Spoken::Sealed),
        ("x, racerd.v1.sealed, racerd.v1", true, Spoken::Sealed),
        ("racerd.v1, racerd.v1.sealed", true, Spoken::Open),
        ("racerd.v1.sealed, racerd.v1", false, Spoken::Open),
    ] {
        assert_eq!(agree(&offers(text), seals).map(|upgrade| upgrade.spoken()), Ok(expected), "{text} {seals}");
    }
    let mut out = Vec::new();
    agree(&offers("racerd.v1.sealed"), true).unwrap().write(&mut out);
    assert!(String::from_utf8(out).unwrap().contains("\r\nSec-WebSocket-Protocol: racerd.v1.sealed\r\n"));
    let problem = agree(&offers("racerd.v1.sealed"), false).unwrap_err();
    assert!(problem.detail.contains("--sealed-key"), "{}", problem.detail);
    assert_eq!(agree(&offers("racerd.v1.Sealed"), true).unwrap_err().status, Status::BadRequest);
}

/// A script cannot set `Sec-` headers. An upgrade names its subprotocols in the header alone.
#[test]
fn a_plain_get_may_name_a_subprotocol_in_its_query() {
    let asks = |query: &str, seals| {
        let request = request(&format!("GET /ws{query} HTTP/1.1"), &["Connection: close"]);
        spoken(&request, seals).map_err(|problem| problem.detail.to_string())
    };
    assert_eq!(asks("", true), Ok(Spoken::Open));
    assert_eq!(asks("?subprotocol=racerd.v1", true), Ok(Spoken::Open));
    assert_eq!(asks("?subprotocol=racerd.v1.sealed", true), Ok(Spoken::Sealed));
    assert!(asks("?subprotocol=racerd.v1.sealed", false).unwrap_err().contains("--sealed-key"));
    assert!(asks("?subprotocol=x", true).unwrap_err().contains("racerd.v1"));
    let upgrade = request("GET /ws?subprotocol=racerd.v1.sealed HTTP/1.1", &[]);
    assert_eq!(spoken(&upgrade, true), Ok(Spoken::Open));
}

#[test]
fn extensions_are_never_agreed_to() {
    let many = "a, ".repeat(8 * 1024 / 3);
    for offer in [
        "permessage-deflate; client_max_window_bits",
        "constructor",
        ",;=;,",
        "permessage-deflate; server_max_window_bits=\"",
        many.as_str(),
    ] {
        let text = answer(&get(&[&format!("Sec-WebSocket-Extensions: {offer}")]));
        assert!(!text.to_ascii_lowercase().contains("extensions"), "{text}");
    }
}
