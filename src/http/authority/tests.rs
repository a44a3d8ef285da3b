//! Tests of the rules for Host and Origin.

use super::*;
use proptest::prelude::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    Headers::collect(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn origin(text: &str) -> Origin {
    Origin::parse(text).unwrap()
}

#[test]
fn authorities() {
    for (text, shown, port) in [
        ("localhost", "localhost", None),
        ("LOCALHOST.:80", "localhost", Some(80)),
        ("localhost:", "localhost", None),
        ("a_b-c.Example:65535", "a_b-c.example", Some(65535)),
        ("127.0.0.1:7077", "127.0.0.1", Some(7077)),
        ("[::1]", "[::1]", None),
        ("[0:0::1]:7077", "[::1]", Some(7077)),
        ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", None),
    ] {
        let authority = Authority::parse(text).unwrap();
        assert_eq!((authority.host.to_string().as_str(), authority.port), (shown, port), "{text}");
    }
    let long = format!("{}.example", "a".repeat(250));
    for text in [
        "",
        ":80",
        ".",
        "..",
        "a..b",
        ".a",
        "a:b",
        "a:-1",
        "a:+1",
        "a:65536",
        "a:1:2",
        "a b",
        "a,b",
        "a/b",
        "a@b",
        "u:p@b",
        "a?",
        "a#",
        "a%41",
        "é",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::1]x",
        "[::1]:x",
        "[127.0.0.1]",
        "[fe80::1%]",
        "[::1%25eth0]",
        "[fe80::1%25a/b]",
        "a]b",
        "[v1.a]",
        "a\tb",
        "a:8 0",
        &long,
    ] {
        assert_eq!(Authority::parse(text), None, "{text}");
    }
}

#[test]
fn origins_as_text() {
    for (text, shown) in [
        ("null", "null"),
        ("https://CHAT.example", "https://chat.example"),
        ("HTTPS://chat.example:443", "https://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"),
        ("http://[::1]:7077", "http://[::1]:7077"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ] {
        assert_eq!(origin(text).to_string(), shown);
        assert_eq!(origin(shown), origin(text), "what is shown means the same");
    }
    for text in [
        "",
        "Null",
        "chat.example",
        "//chat.example",
        "://a",
        "1a://b",
        "a b://c",
        "https:/a",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a?b",
        "https://u@a",
        "https://a https://b",
        "https://a, https://b",
        "https://a:b",
        "*",
        "https://*.a",
    ] {
        assert_eq!(Origin::parse(text), None, "{text}");
    }
}

/// Returns the verdict on a request with these Origin lines.
fn verdict(origins: &[&str], host: &str, allow: &[Origin]) -> Result<(), Problem> {
    let lines: Vec<_> = origins.iter().map(|line| ("origin", *line)).collect();
    origin_allowed(&headers(&lines), Authority::parse(host).as_ref(), allow)
}

#[test]
fn an_allow_list_is_compared_as_a_whole() {
    let allow = [origin("https://chat.example")];
    for origins in [&[][..], &["https://chat.example"], &["https://CHAT.example"], &["https://chat.example:443"]] {
        assert_eq!(verdict(origins, "inner:7077", &allow), Ok(()), "{origins:?}");
    }
    for origins in [
        &["https://chat.example.evil"][..],
        &["https://evilchat.example"],
        &["http://chat.example"],
        &["https://chat.example:444"],
        &["null"],
        &["https://chat.example", "https://chat.example"],
        &["https://chat.example", "https://evil.example"],
        &["https://chat.example https://evil.example"],
        &["https://chat.example, https://evil.example"],
        &["https://chat.example/"],
        &["https://chat.example@evil.example"],
        &[""],
        &["*"],
    ] {
        let problem = verdict(origins, "inner:7077", &allow).unwrap_err();
        assert_eq!((problem.status, problem.close), (Status::Forbidden, true), "{origins:?}");
    }
    assert_eq!(verdict(&["null"], "inner", &[Origin::Null]), Ok(()));
}

#[test]
fn a_page_may_ask_its_own_host() {
    for (page, host) in [
        ("http://localhost:7077", "localhost:7077"),
        ("http://LOCALHOST:7077", "localhost.:7077"),
        ("http://[::1]:7077", "[0::1]:7077"),
        ("https://chat.example", "chat.example"),
        ("http://chat.example", "chat.example"),
        ("https://chat.example", "chat.example:443"),
        ("http://chat.example", "chat.example:80"),
        ("https://chat.example:80", "chat.example"),
        ("http://chat.example:443", "chat.example:443"),
    ] {
        assert_eq!(verdict(&[page], host, &[]), Ok(()), "{page} asks {host}");
    }
    for (page, host) in [
        ("http://localhost:7078", "localhost:7077"),
        ("http://localhost", "localhost:7077"),
        ("http://localhost:7077", "localhost"),
        ("http://localhost:7077", "127.0.0.1:7077"),
        ("https://chat.example", "chat.example:80"),
        ("https://chat.example.evil", "chat.example"),
        ("https://evilchat.example", "chat.example"),
        ("app://chat.example", "chat.example"),
        ("app://chat.example:80", "chat.example:80"),
        ("null", "null"),
    ] {
        assert!(verdict(&[page], host, &[]).is_err(), "{page} asks {host}");
    }
    let problem = verdict(&["https://EVIL.example:8443"], "localhost", &[]).unwrap_err();
    assert!(problem.detail.ends_with(" --allow-origin https://evil.example:8443"), "{}", problem.detail);
    assert!(verdict(&["null"], "localhost", &[]).unwrap_err().detail.ends_with(" --allow-origin null"));
    let no_host = headers(&[("Origin", "http://localhost")]);
    assert!(origin_allowed(&no_host, None, &[]).is_err());
}

#[test]
fn cors_is_for_listed_origins_only() {
    let allow = [origin("https://chat.example")];
    let of = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("Origin", *line)).collect();
        CrossOrigin::of(&headers(&lines), &allow)
    };
    let cross = of(&["https://chat.example"]).unwrap();
    assert!(cross.headers().contains(&("Access-Control-Allow-Origin", "https://chat.example")));
    assert!(cross.headers().contains(&("Vary", "Origin")));
    assert!(cross.preflight("GET, POST").contains(&("Access-Control-Allow-Methods", "GET, POST")));
    for lines in
        [&[][..], &["https://other.example"], &["null"], &["https://chat.example", "https://chat.example"], &["*"]]
    {
        assert_eq!(of(lines), None, "{lines:?}");
    }
}

proptest! {
    /// A displayed host parses to the same host, and two hosts that differ are displayed differently.
    #[test]
    fn hosts_have_one_spelling(text in "[a-zA-Z0-9.:_\\[\\]-]{0,24}", other in "[aA1.:]{0,5}") {
        for text in [&text, &other] {
            if let Some(host) = Host::parse(text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Some(host));
            }
        }
        let (one, two) = (Host::parse(&text), Host::parse(&other));
        if let (Some(one), Some(two)) = (one, two) {
            prop_assert_eq!(one == two, one.to_string() == two.to_string());
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = (Authority::parse(&text), Origin::parse(&text));
    }
}
