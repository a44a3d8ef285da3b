//! Tests of the action that each request maps to, and of the refusals.

use super::*;
use crate::http::head::{Head, HeadScan};
use crate::http::limits::HeadLimits;

fn request(first: &str, lines: &str) -> Request {
    let text = format!("{first} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    match HeadScan::default().advance(text.as_bytes(), &HeadLimits::default()) {
        Head::Complete { request, .. } => request,
        other => panic!("{text:?} gives {other:?}"),
    }
}

fn host_rules() -> HostRules {
    HostRules {
        hosts: Hosts::new(["chat.example"]),
        own: Hosts::new(["box.local"]),
        origins: Origin::parse("https://page.example").into_iter().collect(),
    }
}

fn asked(first: &str, lines: &str) -> Result<Action, (u16, String)> {
    action(&request(first, lines), &host_rules()).map_err(|problem| (problem.status.code(), text(problem)))
}

/// Returns a refusal as it is sent.
fn text(problem: Problem) -> String {
    let mut out = Vec::new();
    let sending = crate::http::response::Sending { date: None, keep_alive: true, to_head: false };
    problem.into_response().write(&mut out, sending);
    String::from_utf8(out).unwrap()
}

fn status(first: &str, lines: &str) -> u16 {
    asked(first, lines).map_or_else(|(status, _)| status, |_| 200)
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn routes() {
    let browse = |span, limit| Action::Browse { room: room("r1"), span, limit };
    let publish = |name: &str, key: Option<&str>| Action::Publish {
        room: room("r1"),
        name: Name::parse(name).ok(),
        key: key.map(|key| PostKey { key: IdempotencyKey::of(key.as_bytes()), is_short: key.len() < MIN_COMMON_KEY }),
    };
    for (first, lines, expected) in [
        ("GET /", "", Action::Page(Asset::HOME)),
        ("HEAD /", "", Action::Page(Asset::HOME)),
        ("GET /rooms/r1", "", Action::Page(Asset::ROOM)),
        ("GET /rooms/r1?x", "", Action::Page(Asset::ROOM)),
        ("GET /racerd.js", "", Action::Page(Asset::at(&["racerd.js"]).unwrap())),
        ("GET /page/log.js", "", Action::Page(Asset::at(&["page", "log.js"]).unwrap())),
        ("GET /healthz", "", Action::Health),
        ("GET /readyz?verbose", "", Action::Ready),
        ("GET /ws", "", Action::Socket { room: None }),
        ("GET /ws?name=bob", "", Action::Socket { room: None }),
        ("GET /rooms/r1/ws", "", Action::Socket { room: Some(room("r1")) }),
        ("HEAD /rooms/r1/ws", "", Action::Socket { room: Some(room("r1")) }),
        ("GET /rooms/%72%31/ws", "", Action::Socket { room: Some(room("r1")) }),
        ("GET /rooms/r1/events?last=5", "", Action::Events { room: room("r1") }),
        ("HEAD /rooms/r1/events", "Last-Event-ID: x\r\n", Action::Events { room: room("r1") }),
        ("OPTIONS /rooms/r1/events", "", Action::Options { allow: "GET, HEAD, OPTIONS" }),
        ("GET http://localhost/rooms/r1/members", "", Action::Members { room: room("r1") }),
        ("GET /rooms/r1/messages", "", browse(Span::Newest, DEFAULT_PAGE)),
        ("HEAD /rooms/r1/messages?limit=1", "", browse(Span::Newest, 1)),
        ("GET /rooms/r1/messages?after=0", "", browse(Span::After(Seq(0)), DEFAULT_PAGE)),
        ("GET /rooms/r1/messages?before=7&limit=200", "", browse(Span::Before(Seq(7)), 200)),
        // A larger limit is cut to the maximum.
        ("GET /rooms/r1/messages?limit=201", "", browse(Span::Newest, PAGE_MAX)),
        ("GET /rooms/r1/messages?limit=9007199254740992", "", browse(Span::Newest, PAGE_MAX)),
        ("POST /rooms/r1/messages", JSON, publish("", None)),
        ("POST /rooms/r1/messages?name=Zo%C3%AB", JSON, publish("Zoë", None)),
        ("POST /rooms/r1/messages", "content-type: APPLICATION/json ; charset=utf-8\r\n", publish("", None)),
        (
            "POST /rooms/r1/messages",
            "Content-Type: application/json\r\nIdempotency-Key: 0123456789012345678901\r\n",
            publish("", Some("0123456789012345678901")),
        ),
        ("OPTIONS *", "", Action::Options { allow: "GET, HEAD, POST, OPTIONS" }),
        ("OPTIONS /rooms/r1/messages", "", Action::Options { allow: "GET, HEAD, POST, OPTIONS" }),
        ("OPTIONS /rooms/r1/ws", "", Action::Options { allow: "GET, HEAD, OPTIONS" }),
        ("OPTIONS /healthz", "Origin: https://evil.example\r\n", Action::Options { allow: "GET, HEAD, OPTIONS" }),
    ] {
        assert_eq!(asked(first, lines), Ok(expected), "{first}");
    }
}

#[test]
fn what_is_not_there_is_404() {
    for first in [
        "GET /x",
        "GET //",
        "GET /WS",
        "GET /rooms//",
        "GET /rooms/../",
        "GET /rooms/a%20b",
        "GET /rooms/..",
        "GET /page/",
        "GET /page%2Flog.js",
        "GET /page/room.js//",
        "GET /index.html",
        "GET /rooms/r1//",
        "GET /rooms/r1/ws/x",
        "GET /rooms/r1/ws/x/",
        "GET /rooms//ws",
        "GET /rooms/./ws",
        "GET /rooms/../ws",
        "GET /rooms/%2e%2e/ws",
        "GET /rooms/a%2fb/ws",
        "GET /rooms/a%00/ws",
        "GET /rooms/%2572/ws",
        "POST /x",
        "OPTIONS /x",
        "DELETE /x",
    ] {
        assert_eq!(status(first, ""), 404, "{first}");
    }
    let (_, text) = asked("GET /rooms/a%20b/ws", "").unwrap_err();
    assert!(text.contains(RoomId::RULE), "{text}");
}

/// A slash too many, at every resource. The location is relative and keeps the query.
#[test]
fn a_slash_too_many_leads_to_the_resource() {
    for (target, location) in [
        ("/rooms/lobby/", "../lobby"),
        ("/rooms/lobby/?name=a%20b&x", "../lobby?name=a%20b&x"),
        ("/rooms/l%6Fbby/", "../lobby"),
        ("/rooms/~a._-/", "../~a._-"),
        ("/rooms/r1/ws/?last=5", "../ws?last=5"),
        ("/rooms/r1/messages/", "../messages"),
        ("/rooms/r1/events/", "../events"),
        ("/rooms/r1/members/", "../members"),
        ("/ws/", "../ws"),
        ("/healthz/", "../healthz"),
        ("/readyz/", "../readyz"),
        ("/racerd.js/", "../racerd.js"),
        ("/page/room.js/", "../room.js"),
        ("/rooms", "./"),
        ("/rooms/", "../"),
        ("/rooms?a=b", "./?a=b"),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let moved = Action::Moved { location: location.to_string() };
            assert_eq!(asked(&format!("{method} {target}"), ""), Ok(moved), "{method} {target}");
        }
    }
}

#[test]
fn other_methods_are_405_with_those_that_are_allowed() {
    for (first, allow) in [
        ("POST /", "GET, HEAD, OPTIONS"),
        ("PUT /rooms/r1/messages", "GET, HEAD, POST, OPTIONS"),
        ("DELETE /rooms/r1/members", "GET, HEAD, OPTIONS"),
        ("POST /rooms/r1/ws", "GET, HEAD, OPTIONS"),
        ("POST /rooms/r1/events", "GET, HEAD, OPTIONS"),
        ("PATCH /ws", "GET, HEAD, OPTIONS"),
    ] {
        let (status, text) = asked(first, "").unwrap_err();
        assert_eq!(status, 405, "{first}");
        assert!(text.contains(&format!("\r\nAllow: {allow}\r\n")), "{text}");
        // OPTIONS lists the same methods.
        let path = first.split_once(' ').unwrap().1;
        assert_eq!(asked(&format!("OPTIONS {path}"), ""), Ok(Action::Options { allow }));
    }
}

#[test]
fn allowed_methods_and_hosts() {
    let evil = "Origin: https://evil.example\r\n";
    for (first, lines, expected) in [
        ("GET /rooms/r1/ws", evil, 403),
        ("HEAD /ws", evil, 403),
        ("POST /rooms/r1/messages", "Origin: https://evil.example\r\nContent-Type: application/json\r\n", 403),
        ("POST /rooms/r1/messages", "Origin: http://localhost\r\nContent-Type: application/json\r\n", 200),
        ("POST /rooms/r1/messages", "Origin: https://page.example\r\nContent-Type: application/json\r\n", 200),
        // A refused origin does not learn which methods exist.
        ("DELETE /healthz", evil, 403),
        ("GET /rooms/r1/messages", evil, 200),
        // The browser decides by the answer's headers what the page may read.
        ("GET /rooms/r1/events", evil, 200),
        ("OPTIONS /rooms/r1/messages", evil, 200),
    ] {
        assert_eq!(status(first, lines), expected, "{first} {lines}");
    }
    let to = |target: &str| status(&format!("GET {target}"), "");
    for host in ["chat.example", "box.local", "127.0.0.1:99", "localhost", "box"] {
        assert_eq!(to(&format!("http://{host}/")), 200, "{host}");
    }
    for target in ["", "nowhere", "rooms/r1", "rooms/r1/", "rooms/r1/ws", "ws", "healthz/", "rooms/r1/messages"] {
        assert_eq!(to(&format!("http://evil.example/{target}")), 421, "{target}: before anything else is said");
    }
    assert_eq!((to("http://evil.example/healthz"), to("http://evil.example/readyz")), (200, 200));
}

#[test]
fn posts_are_json_and_their_keys_long() {
    for media in ["", "Content-Type:\r\n", "Content-Type: text/plain\r\n", "Content-Type: application/jsonp\r\n"] {
        assert_eq!(status("POST /rooms/r1/messages", media), 415, "{media}");
    }
    let key_of = |key: &str| asked("POST /rooms/r1/messages", &format!("{JSON}Idempotency-Key: {key}\r\n"));
    for key in ["", &"k".repeat(201)] {
        let (status, text) = key_of(key).unwrap_err();
        assert_eq!(status, 400, "{key}");
        assert!(text.contains(r#""field":"Idempotency-Key""#), "{text}");
    }
    for key in ["x", "012345678901234567890"] {
        let Ok(Action::Publish { key: Some(key), .. }) = key_of(key) else { panic!("{key}") };
        let problem = key.of(&Who::Guest).unwrap_err();
        assert_eq!(problem.status, Status::BadRequest);
        assert!(text(problem).contains(r#""field":"Idempotency-Key""#));
    }
}

#[test]
fn bodies_are_one_json_value_as_it_came() {
    for good in ["1", " [ 1E400 , -0.0 ]\n", r#"{"a":1,"a":2}"#, "null", r#""\u0000""#] {
        assert_eq!(published_body(good.as_bytes(), rules(64)).unwrap().0.as_str(), good.trim());
    }
    for bad in ["", " ", "1 2", "{", "nope", "[[[[]]]]", r#""\ud800""#, "\u{feff}1"] {
        assert_eq!(published_body(bad.as_bytes(), rules(3)).unwrap_err().status, Status::BadRequest, "{bad}");
    }
    assert_eq!(published_body(b"\"\xff\"", rules(3)).unwrap_err().status, Status::BadRequest);
}

#[test]
fn queries_are_exact_or_refused_by_name() {
    for (first, field) in [
        ("GET /rooms/r1/messages?limit=0", "limit"),
        ("GET /rooms/r1/messages?limit=-1", "limit"),
        ("GET /rooms/r1/messages?limit=%2B1", "limit"),
        ("GET /rooms/r1/messages?limit=1.0", "limit"),
        ("GET /rooms/r1/messages?limit", "limit"),
        ("GET /rooms/r1/messages?after=9007199254740993", "after"),
        ("GET /rooms/r1/messages?after=99999999999999999999", "after"),
        ("GET /rooms/r1/messages?before=1&after=1", "before"),
        ("GET /rooms/r1/messages?before=1&before=1", "before"),
    ] {
        let (status, text) = asked(first, "").unwrap_err();
        assert_eq!(status, 400, "{first}");
        assert!(text.contains(&format!(r#""field":"{field}""#)), "{first}: {text}");
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn how_a_socket_begins() {
    let opening = |query: &str| socket(&request(&format!("GET /rooms/r1/ws?{query}"), UPGRADE), Spoken::Open);
    let start = |query| opening(query).unwrap().start;
    assert_eq!(start(""), Start::Now);
    assert_eq!(start("last=0"), Start::Now);
    assert_eq!(start("last=50"), Start::Last(50));
    assert_eq!(start("last=9007199254740992"), Start::Last(PAGE_MAX));
    assert_eq!(start("after=41"), Start::After { seq: Seq(41), epoch: None });
    assert_eq!(start("after=41&epoch=k3f9"), Start::After { seq: Seq(41), epoch: Some("k3f9".into()) });
    assert_eq!(start("epoch=k3f9"), Start::Now, "an epoch alone says from nowhere");
    for (query, presence) in
        [("", Presence::Full), ("presence=count", Presence::Count), ("presence=off", Presence::Off)]
    {
        assert_eq!(opening(query).unwrap().presence, presence);
    }
    assert_eq!(opening("name=a+b").unwrap().name, Name::parse("a b").ok());
    assert_eq!(opening("").unwrap().name, None);
    for (query, field) in [
        ("last=x", "last"),
        ("after=1&last=1", "last"),
        ("after=-1", "after"),
        ("after=1&epoch=a&epoch=a", "epoch"),
        ("presence=", "presence"),
        ("name=", "name"),
        ("name=%0a", "name"),
        ("name=a&name=b", "name"),
    ] {
        let problem = opening(query).unwrap_err();
        assert_eq!(problem.status, Status::BadRequest, "{query}");
        let text = text(problem);
        assert!(text.contains(&format!(r#""field":"{field}""#)), "{query}: {text}");
    }
    // A plain GET learns of faults in the URL first, and only then that it is no upgrade.
    let plain = |first| socket(&request(first, ""), Spoken::Open).unwrap_err().status;
    assert_eq!(plain("GET /ws?name="), Status::BadRequest);
    assert_eq!(plain("GET /ws?name=a"), Status::UpgradeRequired);
}

#[test]
fn where_an_event_stream_begins() {
    let opening = |query: &str, lines: &str| events::opening(&request(&format!("GET /rooms/r1/events?{query}"), lines));
    let after = |seq, epoch: Option<&str>| Start::After { seq: Seq(seq), epoch: epoch.map(Into::into) };
    for (query, lines, expected) in [
        ("", "", Start::Now),
        ("last=5", "", Start::Last(5)),
        ("after=41&epoch=k3f9", "", after(41, Some("k3f9"))),
        // A reconnecting browser repeats the query; its `Last-Event-ID` is more recent.
        ("last=5", "Last-Event-ID: k3f9:41\r\n", after(41, Some("k3f9"))),
        ("after=7&epoch=old", "last-event-id: k3f9:0\r\n", after(0, Some("k3f9"))),
        ("last=5", "Last-Event-ID:\r\n", Start::Last(5)),
    ] {
        assert_eq!(opening(query, lines).unwrap(), expected, "{query} {lines}");
    }
    for (query, lines, field) in [
        ("", "Last-Event-ID: 41\r\n", "Last-Event-ID"),
        ("last=5", "Last-Event-ID: x\r\n", "Last-Event-ID"),
        ("after=x", "Last-Event-ID: k3f9:41\r\n", "after"),
        ("after=1&last=1", "", "last"),
    ] {
        let problem = opening(query, lines).unwrap_err();
        assert_eq!(problem.status, Status::BadRequest, "{query} {lines}");
        assert!(text(problem).contains(&format!(r#""field":"{field}""#)), "{query} {lines}");
    }
}

fn rules(depth: usize) -> BodyRules {
    BodyRules { depth, key: None, encrypted_only: false }
}

#[test]
fn encrypted_bodies() {
    let sealed = format!(r#"{{"e2e":1,"k":"k-1","n":"{}","c":"{}"}}"#, "n".repeat(32), "w".repeat(22));
    let publish = |text: &str, key: &str, encrypted_only| {
        let rules = BodyRules { depth: 8, key: Some(IdempotencyKey::of(key.as_bytes())), encrypted_only };
        let refusal = |problem: Problem| format!("{problem:?}");
        published_body(text.as_bytes(), rules).map(|_| ()).map_err(refusal)
    };
    for encrypted_only in [false, true] {
        assert_eq!(publish(&sealed, "k-1", encrypted_only), Ok(()));
        let refusal = publish(&sealed, "k-2", encrypted_only).unwrap_err();
        assert!(refusal.contains("Unprocessable") && refusal.contains("body.k"), "{refusal}");
    }
    assert_eq!(publish("1", "k-1", false), Ok(()));
    let refusal = publish("1", "k-1", true).unwrap_err();
    assert!(refusal.contains("Unprocessable") && refusal.contains("not_encrypted"), "{refusal}");
}
