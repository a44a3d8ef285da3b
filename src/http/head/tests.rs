//! Tests of reading a request head, however it is split.

use super::*;
use crate::http::framing::BodyLength;
use crate::http::method::{Method, Version};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn read(bytes: &[u8]) -> Head {
    HeadScan::default().advance(bytes, &HeadLimits::default())
}

fn request(text: &str) -> Request {
    match read(text.as_bytes()) {
        Head::Complete { request, used } => {
            assert_eq!(used, text.len());
            request
        }
        other => panic!("{text:?} gives {other:?}"),
    }
}

/// Reads a GET of HTTP/1.1 with these lines besides Host.
fn with(lines: &str) -> Request {
    request(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n"))
}

/// Returns the status with which bytes are refused; 200 if they are a request, 100 if more are needed.
fn status(bytes: impl AsRef<[u8]>) -> u16 {
    match read(bytes.as_ref()) {
        Head::Incomplete => 100,
        Head::Complete { .. } => 200,
        Head::Refused(fault) => {
            assert!(fault.problem.close, "where the next request begins is not known: {fault:?}");
            fault.problem.status.code()
        }
    }
}

#[test]
fn a_request_in_full() {
    let request = request(
        "POST /rooms/%6Cobby/messages?name=bob HTTP/1.1\r\nHost: Chat.Example:7077\r\n\
         Content-Type:application/json \t\r\n\
         Content-Length: 7\r\nExpect: 100-Continue\r\nX:\r\n\r\n",
    );
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.target.segments(), ["rooms", "lobby", "messages"]);
    assert_eq!(request.target.query.one("name"), Ok(Some("bob")));
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.authority.unwrap().host.to_string(), "chat.example");
    assert_eq!(request.headers.one("content-type"), Ok(Some("application/json")));
    assert_eq!(request.headers.one("x"), Ok(Some("")));
    assert_eq!(request.body, BodyLength::Length(7));
    assert!(request.keep_alive);
    assert!(request.expects_continue);
}

#[test]
fn methods() {
    for (token, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
    ] {
        assert_eq!(request(&format!("{token} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, method);
    }
    for token in ["TRACE", "CONNECT", "get", "Get", "BREW", "GETX", "!#$%&'*+-.^_`|~09", &"M".repeat(MAX_METHOD)] {
        assert_eq!(status(format!("{token} / HTTP/1.1\r\nHost: a\r\n\r\n")), 501, "{token}");
    }
    // Excess length is detected before the end.
    assert_eq!(status("M".repeat(MAX_METHOD)), 100);
    assert_eq!(status("M".repeat(MAX_METHOD + 1)), 501);
}

#[test]
fn request_lines() {
    for line in [
        "GET / HTTP/1.1 ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET /",
        "GET / ",
        "GET",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / FTP/1.1",
        "GET / HTTP/x.1",
        "G(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /# HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET /?a=%zz HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "/ HTTP/1.1",
    ] {
        assert_eq!(status(format!("{line}\r\nHost: a\r\n\r\n")), 400, "{line}");
    }
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        assert_eq!(status(format!("GET / {version}\r\nHost: a\r\n\r\n")), 505, "{version}");
    }
    assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target.segments(), Vec::<&str>::new());
}

#[test]
fn what_cannot_become_right_is_refused_at_once() {
    for text in [
        "\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nHost: localhost\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\n",
        "GET / HTTP/1.1\rH",
        "GET / HTTP/1.1\r\nHost: a\rX",
        "GET / HTTP/1.1\r\nHost: a\r\r",
        "GET / HTTP/1.1\r\nA: a\0",
        "GET / HTTP/1.1\r\nA: a\x0b",
        "GET / HTTP/1.1\r\nA: a\x7f",
        "GET / HTTP/1.1\r\nA: b\r\n ",
        "GET / HTTP/1.1\r\nA: b\r\n\t",
        "GET / HTTP/1.1\r\n ",
        "\x16\x03\x01",
        "\r\n\r\n\r\n\r\n\r\n",
    ] {
        let (but_the_last, _) = text.as_bytes().split_at(text.len() - 1);
        if text != "\x16\x03\x01" {
            assert_eq!(status(but_the_last), 100, "{text:?} before its last byte");
        }
        assert_eq!(status(text), 400, "{text:?}");
    }
    let Head::Refused(fault) = read(b"\x16\x03\x01\x02") else { panic!() };
    assert!(fault.problem.detail.contains("TLS"), "{fault:?}");
}

#[test]
fn header_lines() {
    for lines in [
        "Transfer-Encoding : chunked",
        "A\t: b",
        "A b: c",
        ": b",
        "A",
        "A\u{e9}: b",
        "A: b\r\n c",
        "A@: b",
        "(A): b",
        "A: b\r\nB",
    ] {
        assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")), 400, "{lines}");
    }
    let latin1 = b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n";
    let Head::Complete { request, .. } = read(latin1) else { panic!() };
    assert_eq!(request.headers.one("x"), Ok(Some("café")));
}

#[test]
fn empty_lines_before_a_request() {
    let text = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(MAX_EMPTY_LINES.into()));
    assert_eq!(request(&text).method, Method::Get);
    assert_eq!(status(format!("\r\n{text}")), 400);
}

#[test]
fn hosts() {
    let get = |version: &str, lines: &str| status(format!("GET / HTTP/{version}\r\n{lines}\r\n"));
    assert_eq!(get("1.1", "Host: a\r\n"), 200);
    assert_eq!(get("1.1", ""), 400);
    assert_eq!(get("1.0", ""), 200);
    assert_eq!(get("1.0", "Host: a\r\n"), 200);
    for version in ["1.0", "1.1"] {
        for lines in [
            "Host: a\r\nhost: a\r\n",
            "Host: a\r\nA: b\r\nHost: b\r\n",
            "Host:\r\n",
            "Host: a b\r\n",
            "Host: a, b\r\n",
            "Host: u@a\r\n",
        ] {
            assert_eq!(get(version, lines), 400, "{lines:?} in {version}");
        }
    }
    // An absolute target's authority takes the place of Host, which must be there and valid all the same (RFC 9112
    // §3.2.2).
    let absolute = request("GET http://a:1/healthz HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(absolute.authority, crate::http::authority::Authority::parse("a:1"));
    assert_eq!(absolute.target.segments(), ["healthz"]);
    assert_eq!(status("GET http://a/ HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status("GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
}

#[test]
fn body_lengths() {
    for method in ["GET", "POST"] {
        let post = |lines: &str| status(format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\ncontent-length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length: 5.",
            "Content-Length: 10000000000000000000",
            "Content-Length: 99999999999999999999",
            "Content-Length:",
            "Content-Length: \u{665}",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: gzip, chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked\r\n ",
            "Transfer-Encoding: chunked\x0b",
        ] {
            assert_eq!(post(lines), 400, "{method} {lines:?}");
        }
        for lines in ["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED\t"] {
            assert_eq!(post(lines), 411, "{method} {lines:?}");
        }
        for lines in ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"] {
            assert_eq!(post(lines), 501, "{method} {lines:?}");
        }
        for lines in ["Content-Length: 32769", "Content-Length: 8388608", "Content-Length: 9999999999999999999"] {
            assert_eq!(post(lines), 413, "{method} {lines:?}");
        }
    }
    assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    // The head alone shows it: before any of the body arrives, and before a 100.
    assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 32769\r\nExpect: 100-continue\r\n\r\n"), 413);
    for (lines, length) in [
        ("A: b", BodyLength::None),
        ("Content-Length: 0", BodyLength::None),
        ("Content-Length: 0000000000000000000", BodyLength::None),
        ("Content-Length: 007", BodyLength::Length(7)),
        ("content-length:\t32768 ", BodyLength::Length(32768)),
    ] {
        assert_eq!(with(lines).body, length, "{lines}");
    }
}

#[test]
fn expectations() {
    for lines in
        ["Expect: tea", "Expect: 100-continue, tea", "Expect: 100-continue\r\nExpect: tea", "Expect: 100-continue;a=b"]
    {
        assert_eq!(status(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")), 417, "{lines}");
    }
    assert!(with("Expect: 100-CONTINUE\r\nContent-Length: 1").expects_continue);
    // There is no body to wait for.
    assert!(!with("Expect: 100-continue").expects_continue);
    assert!(!with("Content-Length: 1").expects_continue);
    let old = request("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue, tea\r\n\r\n");
    assert!(!old.expects_continue);
}

#[test]
fn keeping_alive() {
    for (version, lines, expected) in [
        ("1.1", "A: b", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: keep-alive, CLOSE", false),
        ("1.1", "Connection: closed", true),
        ("1.1", "Connection: keep-alive\r\nConnection: close", false),
        ("1.0", "A: b", false),
        ("1.0", "Connection: Keep-Alive", true),
        ("1.0", "Connection: keep-alive, close", false),
        // Bytes after an upgrade request that is not granted are not read as HTTP.
        ("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: h2c", false),
        ("1.1", "Upgrade: websocket", false),
    ] {
        let request = request(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n"));
        assert_eq!(request.keep_alive, expected, "{version} {lines}");
    }
}

#[test]
fn limits_are_exact() {
    let limits = HeadLimits { max_head: 100, max_target: 20, max_body: 10 };
    let get = |bytes: &str| match HeadScan::default().advance(bytes.as_bytes(), &limits) {
        Head::Incomplete => 100,
        Head::Complete { .. } => 200,
        Head::Refused(fault) => fault.problem.status.code(),
    };
    let fill = |length: usize| {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{text}{}\r\n\r\n", "x".repeat(length - text.len() - 4))
    };
    assert_eq!(get(&fill(100)), 200);
    assert_eq!(get(&fill(101)), 431);
    assert_eq!(get(&format!("\r\n{}", fill(100))), 200);
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200));
    assert_eq!(get(&endless[..100]), 100);
    assert_eq!(get(&endless[..101]), 431);

    let target = |length: usize| format!("GET /{}", "t".repeat(length - 1));
    assert_eq!(get(&format!("{} HTTP/1.1\r\nHost: a\r\n\r\n", target(20))), 200);
    assert_eq!(get(&target(20)), 100);
    assert_eq!(get(&target(21)), 414, "though the request line is not whole");

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "a:b\r\n".repeat(count - 1));
    assert_eq!(status(format!("{}\r\n", fields(MAX_FIELDS))), 200);
    assert_eq!(status(fields(MAX_FIELDS)), 100);
    assert_eq!(status(format!("{}a", fields(MAX_FIELDS))), 431);
}

#[test]
fn a_refused_head_request_has_no_body() {
    for (text, expected) in [
        ("HEAD / HTTP/1.1\r\nA\n", true),
        ("\r\nHEAD / HTTP/1.1\r\n\r\n", true),
        ("HEADER / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.1\r\n\r\n", false),
    ] {
        let Head::Refused(fault) = read(text.as_bytes()) else { panic!("{text:?}") };
        assert_eq!(fault.to_head, expected, "{text:?}");
    }
}

#[test]
fn requests_behind_each_other() {
    let (first, second) = ("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let both = format!("{first}\r\n{second}");
    let mut scan = HeadScan::default();
    let Head::Complete { request, used } = scan.advance(both.as_bytes(), &HeadLimits::default()) else { panic!() };
    assert_eq!((request.target.segments(), used), (vec!["1"], first.len()));
    let rest = &both.as_bytes()[used..];
    let Head::Complete { request, used } = scan.advance(rest, &HeadLimits::default()) else { panic!() };
    assert_eq!((request.target.segments(), used), (vec!["2"], rest.len()));
}

/// Feeds a growing buffer, cut at the given places, until there is a verdict; returns it and the number of bytes looked
/// at.
fn feed(bytes: &[u8], cuts: impl Iterator<Item = usize>, limits: &HeadLimits) -> (Head, usize) {
    let mut scan = HeadScan::default();
    for cut in cuts.chain([bytes.len()]) {
        let (looked_at, scanned) = (scan.looked_at, scan.scanned);
        match scan.advance(&bytes[..cut], limits) {
            Head::Incomplete => {}
            // A complete request resets the scan and its count: add the rest of the head.
            Head::Complete { request, used } => {
                return (Head::Complete { request, used }, looked_at + used - scanned);
            }
            head => return (head, scan.looked_at),
        }
    }
    (Head::Incomplete, scan.looked_at)
}

#[test]
fn a_head_byte_by_byte_costs_each_byte_once() {
    let text = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nA: {}", "a".repeat(64 * 1024));
    let generous = HeadLimits { max_head: 128 * 1024, ..HeadLimits::default() };
    assert_eq!(feed(text.as_bytes(), 0..text.len(), &generous), (Head::Incomplete, text.len()));

    // The real limit refuses it there, and no byte behind is looked at.
    let (head, looked_at) = feed(text.as_bytes(), 0..text.len(), &HeadLimits::default());
    let Head::Refused(fault) = head else { panic!() };
    assert_eq!(fault.problem.status, Status::HeaderFieldsTooLarge);
    assert_eq!(looked_at, HeadLimits::default().max_head + 1);
    assert_eq!(feed(text.as_bytes(), [].into_iter(), &HeadLimits::default()).1, looked_at);
}

#[test]
fn a_refusal_stays() {
    let mut scan = HeadScan::default();
    let text = b"GET / HTTP/1.1\r\nA\n\r\n\r\n\r\n";
    let first = scan.advance(&text[..20], &HeadLimits::default());
    assert!(matches!(first, Head::Refused(_)));
    assert_eq!(scan.advance(text, &HeadLimits::default()), first);
}

/// Generates valid requests, nearly valid ones and garbage: pieces of heads in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /a%20b?c=d HTTP/1.1\r\n", "HEAD http://a/ HTTP/1.0\r\n", "Host: a\r\n",
            "Host: [::1]:1\r\n", "A: b\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n", "Expect: 100-continue\r\n", "\r\n",
            "X:\t y \t\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec![
            "\n", "\r", " ", "\t", ":", "\0", "é", "%", "#", "HTTP/2.0\r\n", "A : b\r\n", " folded\r\n", "GET /",
        ])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let shuffled = prop::collection::vec(line.clone(), 0..8).prop_map(|lines| lines.concat());
    // A head that begins like a request gets further.
    let likely = prop::collection::vec(line, 0..6)
        .prop_map(|lines| [&b"GET /x HTTP/1.1\r\nHost: a\r\n"[..], &lines.concat(), b"\r\n\r\n"].concat());
    prop_oneof![1 => shuffled, 2 => likely]
}

/// Checks an accepted head again, line by line, by the grammar of RFC 9112 and nothing else.
fn strictly_right(head: &[u8]) -> Result<(), String> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let body = text.trim_start_matches("\r\n").strip_suffix("\r\n\r\n").ok_or("no empty line at the end")?;
    let mut lines = body.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap_or("").split(' ').collect();
    let [method, target, version] = first[..] else { return Err("not three parts".into()) };
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method) {
        return Err(format!("method {method}"));
    }
    if target.is_empty() || !target.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return Err(format!("target {target}"));
    }
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(format!("version {version}"));
    }
    let mut counts = [0; 3];
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("no colon")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)) {
            return Err(format!("name {name:?}"));
        }
        if value.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f') {
            return Err(format!("value {value:?}"));
        }
        for (count, counted) in counts.iter_mut().zip(["host", "content-length", "transfer-encoding"]) {
            *count += usize::from(name.to_ascii_lowercase() == counted);
        }
        if name.eq_ignore_ascii_case("content-length") && value.trim().parse::<u64>().is_err() {
            return Err(format!("length {value:?}"));
        }
    }
    match counts {
        [1, 0 | 1, 0] => Ok(()),
        [0, 0 | 1, 0] if version == "HTTP/1.0" => Ok(()),
        counts => Err(format!("counts {counts:?}")),
    }
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        bytes in pieces(),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let limits = HeadLimits { max_head: 120, max_target: 24, max_body: 10 };
        let whole = feed(&bytes, [].into_iter(), &limits).0;
        cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
        prop_assert_eq!(&feed(&bytes, cuts.iter().map(|cut| cut.index(bytes.len() + 1)), &limits).0, &whole);
        let (by_bytes, looked_at) = feed(&bytes, 0..bytes.len(), &limits);
        prop_assert_eq!(&by_bytes, &whole);
        prop_assert!(looked_at <= bytes.len());
    }

    #[test]
    fn what_is_accepted_is_right(bytes in pieces()) {
        if let Head::Complete { used, request } = read(&bytes) {
            prop_assert_eq!(strictly_right(&bytes[..used]), Ok(()));
            prop_assert!(request.version == Version::Http10 || request.authority.is_some());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&[&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &bytes, b"\r\n\r\n"].concat());
    }
}

/// The strict second check would prove nothing if it accepted everything, or if no generated head were accepted.
#[test]
fn the_second_reading_can_say_no() {
    for text in
        ["GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nHost: a\r\n\r\n"]
    {
        assert!(strictly_right(text.as_bytes()).is_err(), "{text:?}");
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..200 {
        let bytes = pieces().new_tree(&mut runner).unwrap().current();
        accepted += usize::from(matches!(read(&bytes), Head::Complete { .. }));
    }
    assert!(accepted > 20, "{accepted} of 200");
}
