//! Refusals and their reasons on every path: upgrade and plain GET of the same URL, programs and browsers, sockets and
//! HTTP, `/readyz`, the command line, the log.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::sealed::Key;
use crate::support::*;

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

fn plain(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

/// Checks that an upgrade of this URL and a plain GET, each on its own connection, are refused with this status and
/// for the same reason, which contains `words`.
fn both_say(server: &Server, path: &str, headers: &str, (status, words): (u16, &str)) {
    let named = |request: String| match headers.contains("Host:") {
        true => request.replacen("Host: localhost\r\n", "", 1),
        false => request,
    };
    // Which never waits.
    let asked = server.request(named(plain(path, headers)));
    let upgrade = server.request(named(handshake(path, headers)));
    for answer in [&upgrade, &asked] {
        assert_eq!(answer.status, status, "{path} {headers}: {answer:?}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{answer:?}");
    }
    assert_eq!(upgrade.json(), asked.json(), "{path} {headers}");
    let wait = |answer: &Answer| answer.header("Retry-After").map(str::to_owned);
    assert_eq!(wait(&upgrade).is_some(), wait(&asked).is_some(), "{path} {headers}");
}

/// A browser's script only learns that an upgrade failed, and asks for the reason with a plain GET.
#[test]
fn a_plain_get_says_why_an_upgrade_is_refused() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--max-connections-per-address", "1"]);
    let room = "/rooms/r/ws";
    both_say(&server, room, "Host: evil.example\r\n", (421, "--host evil.example"));
    both_say(&server, room, "Origin: https://evil.example\r\n", (403, "--allow-origin https://evil.example"));
    both_say(&server, "/rooms/a%20b/ws", "", (404, "A-Z a-z 0-9"));
    both_say(&server, "/rooms/r/ws?name=%0a", "", (400, "name"));
    both_say(&server, "/rooms/r/ws?last=x", "", (400, "last"));
    both_say(&server, room, "Sec-WebSocket-Protocol: other\r\n", (400, "racerd.v1"));
    both_say(&server, "/ws", "Sec-WebSocket-Protocol: racerd.v1.sealed\r\n", (400, "--sealed-key"));
    let asked = server.get("/ws?subprotocol=racerd.v1.sealed");
    assert!(asked.status == 400 && asked.body.contains("--sealed-key"), "{asked:?}");
    // A page's plain GET to its own host carries no Origin header, so the page sends the origin in the query.
    let origin = "Origin: https://evil.example\r\n";
    let upgrade = server.request(handshake(room, origin));
    let asked = server.get("/rooms/r/ws?origin=https%3A%2F%2Fevil.example");
    assert_eq!((asked.status, asked.json()), (403, upgrade.json()));
    for own in ["http%3A%2F%2Flocalhost", "https://localhost"] {
        assert_eq!(server.get(&format!("/ws?origin={own}")).status, 426, "{own}");
    }
    // For an upgrade, only the header counts.
    let mut raw = server.raw();
    raw.send(handshake("/rooms/r/ws?origin=https://evil.example", ""));
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    // This client's connection limit is reached.
    let from = "X-Forwarded-For: 192.0.2.7\r\n";
    let mut held = server.raw();
    held.send(handshake(room, from));
    assert!(held.head().starts_with("HTTP/1.1 101 "));
    both_say(&server, room, from, (429, "too many connections"));
    // A request that is valid except for the missing upgrade.
    let answer = server.get(room);
    assert!(answer.status == 426 && answer.header("Upgrade") == Some("websocket"), "{answer:?}");

    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--handshake-rate-per-address", "1"]);
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut raw = server.raw();
        raw.send(handshake(room, from));
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        open.push(raw);
    }
    both_say(&server, room, from, (429, "too many handshakes"));
    // The same for the global rate: two plain GETs have used it up.
    let server = Server::start(&["--handshake-rate", "1"]);
    assert_eq!([server.get(room).status, server.get(room).status], [426, 426]);
    // As many wait as have their turns while one may.
    let mut waiting: Vec<Raw> = (0..8).map(|_| server.raw()).collect();
    waiting.iter_mut().for_each(|raw| raw.send(handshake("/ws", "")));
    both_say(&server, room, "", (503, "too many handshakes"));
}

/// A server that requires sealed sockets says so before any other fault of the upgrade, with a code for the reason.
#[test]
fn only_sealed_is_told_to_a_plain_get() {
    let key = Key::new();
    let server = key.serve(&["--require-sealed", "--handshake-rate", "1"]);
    for path in ["/ws", "/rooms/r/ws", "/rooms/r/ws?name=%0a"] {
        both_say(&server, path, "", (403, "racerd.v1.sealed"));
        assert_eq!(server.get(path).json()["code"], "sealed_only");
    }
    // If the refusals above had counted against the rate, this would be refused.
    assert_eq!(server.get("/ws?subprotocol=racerd.v1.sealed").status, 426);
    for path in ["/rooms/r/messages", "/rooms/r/members", "/rooms/r/events"] {
        let answer = server.get(path);
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("sealed_only")), "{path}");
    }
}

#[test]
fn a_browser_gets_a_page_and_a_program_json() {
    let server = Server::start(&["--request-rate", "1", "--request-burst", "3", "--trusted-proxy", "127.0.0.1"]);
    let cases = [
        ("/nowhere", "", 404, Some("./")),
        ("/rooms/r/nowhere", "", 404, Some("../../")),
        ("/rooms/a%20b", "", 404, Some("../")),
        ("/", "Host: evil.example\r\n", 421, Some("./")),
        ("/rooms/r/ws", "", 426, Some("../../")),
        ("/rooms/r/messages?limit=x", "", 400, Some("../../")),
        // If the head cannot be read, neither the way home nor the wish for a page is known.
        ("/%zz", "", 400, None),
    ];
    for (path, headers, status, home) in cases {
        let request = |more: &str| {
            let request = plain(path, &format!("{headers}{more}"));
            if headers.contains("Host") { request.replacen("Host: localhost\r\n", "", 1) } else { request }
        };
        let page = server.request(request(BROWSER));
        assert_eq!((page.status, page.header("content-type")), (status, Some("text/html; charset=utf-8")), "{page:?}");
        assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
        let link = home.map(|way| format!("<a href=\"{way}\">"));
        assert_eq!(page.body.contains("<a "), link.is_some(), "{page:?}");
        assert!(link.is_none_or(|link| page.body.contains(&link)), "{page:?}");
        let json = server.request(request("Accept: */*\r\n"));
        assert_eq!((json.status, json.header("content-type")), (status, Some("application/problem+json")), "{json:?}");
        let detail = json.json()["detail"].as_str().unwrap().to_lowercase();
        let shown = page.body.replace("&quot;", "\"").replace("&amp;", "&").replace("&gt;", ">").replace("&lt;", "<");
        assert!(shown.to_lowercase().contains(&detail), "the same words: {page:?}");
    }
    let mut raw = server.raw();
    for status in [404, 404, 404, 429] {
        raw.send(plain("/x", BROWSER).replacen("Connection: close\r\n", "", 1));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("text/html; charset=utf-8")));
    }
}

/// The log names method and path, without the query, which holds names and cursors.
#[test]
fn the_log_names_what_was_asked_for() {
    let server = Server::start(&[]);
    server.get("/apple-touch-icon.png?name=secret");
    server.post("/rooms/a%20b/messages?name=secret", "1");
    server.get("/a%0a%22b");
    eventually("three lines", || server.log().matches(" refused ").count() == 3);
    let log = server.log();
    for asked in
        ["asked=\"GET /apple-touch-icon.png\"", "asked=\"POST /rooms/a%20b/messages\"", "asked=\"GET /a%0A%22b\""]
    {
        assert!(log.contains(&format!("status=404 {asked}")), "{asked} in {log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

/// The reason is the same on every path, and only the log contains a file path.
#[test]
fn a_store_that_fails_says_why_everywhere() {
    let server = Server::start(&[]);
    let mut client = server.member("r", "ann");
    client.say(1, json!(1));
    std::fs::remove_file(server.data()).unwrap();
    let reason = "the server's database file was deleted or replaced";
    let mut answer = server.post("/rooms/r/messages", "2");
    eventually("it is noticed", || {
        answer = server.post("/rooms/r/messages", "2");
        answer.status == 503
    });
    let mut told = vec![answer.json()];
    assert_eq!((&told[0]["code"], answer.header("Retry-After")), (&json!("storage_unavailable"), Some("1")));
    client.send(json!({"type": "send", "id": 2, "body": 2}));
    let refused: Value = client.next_of("error");
    assert_eq!(refused["message"], told[0]["detail"], "the same words by socket and by HTTP");
    told.push(refused);
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 503);
    told.push(ready.json());
    let url = format!("http://{}/rooms/r", server.address);
    let command = ["send", &url, "hello", "--timeout", "2s"];
    let output = Server::program().args(command).stdin(Stdio::null()).output().expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    told.push(json!(String::from_utf8(output.stderr).unwrap()));
    let folder = server.folder.path().to_str().unwrap();
    for told in &told {
        let told = told.to_string();
        assert!(told.contains(reason), "{told}");
        assert!(!told.contains(folder) && !told.contains("racerd.db"), "{told}");
    }
    assert!(server.log().contains(server.data().to_str().unwrap()), "the operator is told where");
}

/// The redirect is relative and keeps the query.
#[test]
fn a_slash_too_many_leads_to_the_room() {
    let server = Server::start(&[]);
    let answer = server.get("/rooms/lobby/?name=a%20b&last=5");
    assert_eq!((answer.status, answer.header("location")), (308, Some("../lobby?name=a%20b&last=5")), "{answer:?}");
    assert_eq!(server.get("/rooms").header("location"), Some("./"));
    assert_eq!(server.get("/rooms/").header("location"), Some("../"));
    let posted = server.post("/rooms/lobby/messages/", "1");
    assert_eq!((posted.status, posted.header("location")), (308, Some("../messages")));
    assert_eq!(server.get("/rooms/lobby/messages").json()["head"], 0);
}
