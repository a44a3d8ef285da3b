//! The web page as served: its paths, its headers, 304, and several requests of a browser over one connection.

use crate::support::*;

const FILES: [&str; 2] = ["/", "/rooms/lobby"];

/// Returns the URLs that the page refers to, resolved against its path.
fn names(path: &str, html: &str) -> Vec<String> {
    let mut names = Vec::new();
    for mark in [" src=\"", " href=\""] {
        for rest in html.split(mark).skip(1) {
            let name = rest.split('"').next().unwrap();
            let base = if path == "/" { "/" } else { "/rooms/" };
            // The link back to the start view, or a part of the page itself.
            if name.ends_with("/.") || name == "." || name.starts_with('#') {
                continue;
            }
            names.push(match name.strip_prefix("../") {
                Some(up) if base == "/rooms/" => format!("/{up}"),
                _ => format!("{base}{name}"),
            });
        }
    }
    names
}

#[test]
fn the_page_and_all_that_it_names_are_there() {
    let server = Server::start(&[]);
    for path in FILES {
        let page = server.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let policy = page.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.split("; ").any(|have| have == part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let named = names(path, &page.body);
        for wanted in ["/page.js", "/page.css", "/icon.svg"] {
            assert!(named.iter().any(|name| name == wanted), "{path} names {named:?}");
        }
        for name in named {
            assert_eq!(server.get(&name).status, 200, "{name}");
        }
    }
    let client = server.get("/racerd.js");
    assert_eq!(client.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(client.body.contains("export function connect"));
    assert_eq!(server.get("/page.css").header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(server.get("/icon.svg").header("content-type"), Some("image/svg+xml"));
    let refused = server.get("/rooms/no%20room");
    assert_eq!(refused.status, 404);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("1 to 64 characters"));
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    let mut ask = |method: &str, path: &str, lines: &str| {
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
    };
    // One connection serves all requests: each answer has to end where it says.
    let mut tags = Vec::new();
    for path in ["/", "/rooms/lobby", "/page.js", "/racerd.js", "/page.css"] {
        ask("GET", path, "");
        ask("HEAD", path, "");
        tags.push(path);
    }
    let mut known = Vec::new();
    for path in tags {
        let page = raw.answer();
        let head = raw.answer_head();
        assert_eq!((page.status, head.status), (200, 200));
        let tag = page.header("etag").unwrap().to_string();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "a strong tag: {tag}");
        assert_eq!(head.header("etag"), Some(tag.as_str()));
        assert_eq!(head.header("content-length"), page.header("content-length"));
        known.push((path, tag));
    }
    for (path, tag) in known {
        for (lines, status) in [
            (format!("If-None-Match: {tag}\r\n"), 304),
            (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
            ("If-None-Match: *\r\n".to_string(), 304),
            ("If-None-Match: \"x\"\r\n".to_string(), 200),
        ] {
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
            let answer = raw.answer();
            assert_eq!(answer.status, status, "{path} {lines}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
            assert_eq!(answer.body.is_empty(), status == 304);
        }
    }
}

/// A peer that reads a file byte by byte gets all of it, and the next answer behind it.
#[test]
fn a_slow_reader_gets_the_whole_file() {
    let server = Server::start(&[]);
    let whole = server.get("/racerd.js").body;
    let mut raw = server.raw();
    for _ in 0..30 {
        raw.send("GET /racerd.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..30 {
        assert_eq!(raw.answer().body, whole);
    }
    assert_eq!(raw.answer().status, 200);
}
