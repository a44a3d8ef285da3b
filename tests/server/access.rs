//! Access control on the real binary: Host, Origin, CORS and `--open`.

use std::time::{Duration, Instant};

use crate::support::*;

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
}

/// Returns an upgrade request with these Host and Origin lines.
fn upgrade(headers: &str) -> String {
    handshake("/rooms/r1/ws", headers).replacen("Host: localhost\r\n", "", 1)
}

fn post(headers: &str) -> String {
    format!(
        "POST /rooms/r1/messages HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: 1\r\n{headers}\r\n1"
    )
}

/// Returns the three requests that the Origin check guards (an upgrade, a plain GET of its URL, a POST), each with the
/// status that an allowed one gets.
fn guarded(headers: &str) -> [(String, u16); 3] {
    [(upgrade(headers), 101), (get("/rooms/r1/ws", headers), 426), (post(headers), 201)]
}

fn status(server: &Server, request: &str) -> u16 {
    let mut raw = server.raw();
    raw.send(request);
    raw.answer_head().status
}

/// Without a list, a page is allowed if its host and port are those of the request's Host.
#[test]
fn a_page_of_the_same_host_and_port_may_ask_and_no_other() {
    let server = Server::start(&[]);
    let port = server.address.port();
    for (host, origin, allowed) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}"), true),
        // TLS may have been terminated at a proxy.
        (format!("localhost:{port}"), format!("https://localhost:{port}"), true),
        (format!("localhost:{port}"), format!("http://LOCALHOST:{port}"), true),
        (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"), true),
        (format!("[::1]:{port}"), format!("http://[::1]:{port}"), true),
        ("localhost".into(), "http://localhost".into(), true),
        ("localhost".into(), "https://localhost".into(), true),
        ("localhost:443".into(), "https://localhost".into(), true),
        (format!("localhost:{port}"), "http://localhost".into(), false),
        (format!("localhost:{port}"), "http://localhost:1".into(), false),
        (format!("localhost:{port}"), format!("http://127.0.0.1:{port}"), false),
        (format!("localhost:{port}"), format!("http://localhost.evil:{port}"), false),
        (format!("localhost:{port}"), format!("http://evillocalhost:{port}"), false),
        (format!("localhost:{port}"), format!("http://localhost:{port}.evil"), false),
        (format!("localhost:{port}"), format!("http://localhost:{port}/"), false),
        (format!("localhost:{port}"), format!("http://u@localhost:{port}"), false),
        (format!("localhost:{port}"), "http://evil.example".into(), false),
        (format!("localhost:{port}"), "null".into(), false),
        (format!("localhost:{port}"), String::new(), false),
        (format!("localhost:{port}"), "localhost".into(), false),
        (format!("localhost:{port}"), format!("http://localhost:{port}\r\nOrigin: http://localhost:{port}"), false),
    ] {
        for (request, answer) in guarded(&format!("Host: {host}\r\nOrigin: {origin}\r\n")) {
            let expected = if allowed { answer } else { 403 };
            assert_eq!(status(&server, &request), expected, "{request}");
        }
        // Reads change nothing, and without CORS headers no page sees the answer.
        let read = get("/rooms/r1/messages", &format!("Host: {host}\r\nOrigin: {origin}\r\n"));
        let answer = server.request(&read);
        assert_eq!(answer.status, 200, "{read}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    for (request, answer) in guarded("Host: localhost\r\n") {
        assert_eq!(status(&server, &request), answer, "no Origin is no browser: {request}");
    }
}

/// With a list, scheme, host and port are compared as a whole.
#[test]
fn an_allowed_origin_is_compared_as_a_whole() {
    let server = Server::start(&["--allow-origin", "https://chat.example"]);
    for (origin, allowed) in [
        ("https://chat.example", true),
        ("https://CHAT.example", true),
        ("HTTPS://chat.example:443", true),
        ("https://chat.example.evil", false),
        ("https://evilchat.example", false),
        ("https://evil-chat.example", false),
        ("https://x.chat.example", false),
        ("http://chat.example", false),
        ("https://chat.example:444", false),
        ("https://chat.example:80", false),
        ("https://chat.example@evil.example", false),
        ("https://chat.example, https://chat.example", false),
        ("https://chat.example\r\nOrigin: https://chat.example", false),
        ("null", false),
        ("", false),
    ] {
        for (request, answer) in guarded(&format!("Host: localhost\r\nOrigin: {origin}\r\n")) {
            assert_eq!(status(&server, &request), if allowed { answer } else { 403 }, "{request}");
        }
    }
    let open = Server::start(&["--allow-origin", "null"]);
    assert_eq!(status(&open, &upgrade("Host: localhost\r\nOrigin: null\r\n")), 101);
}

/// The bytes behind a refused request are not read; the answer and the log name the remedy.
#[test]
fn a_refused_origin_ends_the_connection_and_names_the_option() {
    let server = Server::start(&[]);
    let headers = "Host: localhost\r\nOrigin: https://chat.example:8443\r\n";
    for (request, _) in guarded(headers) {
        let mut raw = server.raw();
        raw.send(request.replace("Connection: close\r\n", "") + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = raw.answer();
        assert_eq!(answer.status, 403);
        assert!(answer.json()["detail"].as_str().unwrap().contains("--allow-origin https://chat.example:8443"));
        assert!(raw.ended(), "{request}");
    }
    eventually("a line in the log", || server.log().contains("--allow-origin https://chat.example:8443"));
    // Following that advice works.
    let server = Server::start(&["--allow-origin", "https://chat.example:8443"]);
    assert_eq!(status(&server, &upgrade(headers)), 101);
}

#[test]
fn an_allowed_origin_may_read_answers_and_refusals() {
    let server = Server::start(&["--allow-origin", "https://chat.example", "--handshake-rate", "1"]);
    let from = |origin: &str, request: &str| {
        server.request(request.replacen("\r\n", &format!("\r\nHost: localhost\r\nOrigin: {origin}\r\n"), 1))
    };
    let long = "POST /rooms/r1/messages HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n";
    let cases = [
        (get("/rooms/r1/messages", ""), 200),
        (post(""), 201),
        (post("").replace("\r\n1", "\r\n{").replace("Length: {", "Length: 1"), 400),
        (post("").replace("application/json", "text/plain"), 415),
        (get("/nowhere", ""), 404),
        (get("/rooms/r1/ws", ""), 426),
        ("PUT /rooms/r1/messages HTTP/1.1\r\n\r\n".into(), 405),
        (long.into(), 413),
    ];
    for (request, status) in cases {
        let answer = from("https://chat.example", &request);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://chat.example"), "{answer:?}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("Retry-After"));
        assert!(answer.header("vary").is_some_and(|vary| vary.contains("Origin")));
        let answer = from("https://other.example", &request);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
    }
}

#[test]
fn a_preflight_tells_an_allowed_origin_what_it_may_send() {
    let server = Server::start(&["--allow-origin", "https://chat.example"]);
    let preflight = |origin: &str| {
        server.request(format!(
            "OPTIONS /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, idempotency-key\r\n\r\n"
        ))
    };
    let answer = preflight("https://chat.example");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://chat.example"));
    assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    let headers = answer.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("Content-Type") && headers.contains("Idempotency-Key"), "{headers}");
    assert!(answer.header("access-control-max-age").is_some());
    let answer = preflight("https://other.example");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("access-control-allow-methods"), None);
}

/// Every listener checks the name, no matter which peers can reach it.
#[test]
fn a_listener_answers_to_addresses_names_without_a_dot_and_known_names_only() {
    answers_to_its_names(&Server::start(&["--host", "chat.example"]));
    answers_to_its_names(&Server::start_in(TempDir::new(), "0.0.0.0:0", &["--open", "--host", "chat.example"]));
    let server = Server::start_in(TempDir::new(), "0.0.0.0:0", &["--open", "--host", "*"]);
    for (request, answer) in guarded("Host: evil.example\r\nOrigin: http://evil.example\r\n") {
        assert_eq!(status(&server, &request), answer, "it was asked for: {request}");
    }
}

/// A server answers to the machine's own names on the network.
#[test]
fn a_machine_answers_to_its_own_names() {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_ascii_lowercase();
    let server = Server::start(&[]);
    let local = format!("{}.local", name.split('.').next().unwrap());
    for host in [&name, &local] {
        assert_eq!(status(&server, &get("/", &format!("Host: {host}\r\n"))), 200, "{host}");
    }
}

/// Monitoring asks many servers for their health, by names of its own.
#[test]
fn health_is_told_under_any_name() {
    let server = Server::start(&[]);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&server, &get(path, "Host: checks.example\r\n")), 200, "{path}");
    }
    assert_eq!(status(&server, &get("/healthz/", "Host: checks.example\r\n")), 421);
}

/// A foreign name is logged once, however often it is used, with the option that would allow it.
#[test]
fn a_name_of_others_is_told_once() {
    let server = Server::start(&[]);
    for n in 0..200 {
        for _ in 0..2 {
            assert_eq!(status(&server, &get("/", &format!("Host: evil{n}.example\r\n"))), 421);
        }
    }
    let told = |n: usize| server.log().matches(&format!("--host evil{n}.example ")).count();
    eventually("the first", || told(0) == 1);
    assert_eq!(told(5), 1);
    let all = server.log().matches("status=421").count();
    assert!((64..=70).contains(&all), "no more than a bound: {all}");
}

fn answers_to_its_names(server: &Server) {
    for (host, allowed) in [
        ("localhost", true),
        ("localhost:7077", true),
        ("gateway", true),
        ("LocalHost.", true),
        ("127.0.0.1", true),
        ("192.168.1.9:80", true),
        ("[::1]:7077", true),
        ("chat.example", true),
        ("CHAT.example:443", true),
        ("chat.example.", true),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("x.chat.example", false),
        ("chat.example.evil", false),
        ("127.0.0.1.evil.example", false),
    ] {
        let headers = format!("Host: {host}\r\n");
        for (request, answer) in guarded(&headers).into_iter().chain([(get("/rooms/r1/messages", &headers), 200)]) {
            assert_eq!(status(server, &request), if allowed { answer } else { 421 }, "{request}");
        }
    }
    let mut raw = server.raw();
    raw.send("GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = raw.answer();
    assert_eq!((answer.status, answer.header("content-type")), (421, Some("application/problem+json")));
    assert!(answer.json()["detail"].as_str().unwrap().contains("--host evil.example"), "{answer:?}");
    assert!(raw.ended());
    eventually("a line in the log", || server.log().contains("--host evil.example"));
    // The host of an absolute target overrides Host (RFC 9112 §3.2.2).
    assert_eq!(status(server, "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 421);
    // A request without Host does not come from a browser.
    assert_eq!(status(server, "GET / HTTP/1.0\r\n\r\n"), 200);
}

#[test]
fn a_listener_that_others_reach_needs_open() {
    let folder = TempDir::new();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let mut child = Server::command(&folder, listen, &[])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the binary");
        let end = Instant::now() + SOON;
        while child.try_wait().expect("a child").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                panic!("it serves everyone on {listen}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("--open"), "{text}");
        assert!(!folder.path().join("racerd.db").exists(), "nothing was begun");
    }
    let server = Server::start_in(TempDir::new(), "0.0.0.0:0", &["--open"]);
    // With `--open`, any client that reaches the server by address is allowed; pages of other origins are still
    // refused.
    assert_eq!(status(&server, &get("/rooms/r1/messages", "Host: 192.0.2.1\r\n")), 200);
    for (request, answer) in guarded("Host: 192.0.2.1\r\nOrigin: http://192.0.2.1\r\n") {
        assert_eq!(status(&server, &request), answer);
    }
    for (request, _) in guarded("Host: 192.0.2.1\r\nOrigin: https://evil.example\r\n") {
        assert_eq!(status(&server, &request), 403);
    }
}

/// The log line shows the whole value to add, however long the name is.
#[test]
fn the_log_names_a_long_name_whole() {
    let server = Server::start(&[]);
    let name = format!("{}.example", ["a".repeat(61).as_str(); 3].join("."));
    assert_eq!(status(&server, &get("/", &format!("Host: {name}\r\n"))), 421);
    eventually("a line", || server.log().contains(&format!("--host {name} ")));
}
