//! HTTP rate limits: each connection, and each client behind a trusted proxy, has the rate of the settings.

use crate::support::*;

fn post(headers: &str) -> String {
    format!(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1\r\n{headers}\r\n1"
    )
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn ask(raw: &mut Raw, request: &str) -> u16 {
    raw.send(request);
    raw.answer().status
}

#[test]
fn requests_over_the_rate_are_refused_and_the_connection_stays() {
    let server = Server::start(&["--request-rate", "1", "--request-burst", "5"]);
    let mut raw = server.raw();
    let requests = [post(""), get("/rooms/r/messages", ""), get("/rooms/r/members", ""), get("/nowhere", "")];
    let mut refused = 0;
    for n in 0..50 {
        raw.send(&requests[n % requests.len()]);
        let answer = raw.answer();
        assert!(n >= 5 || answer.status != 429, "{n}: {answer:?}");
        if answer.status == 429 {
            refused += 1;
            assert!(answer.header("Retry-After").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)));
            assert_eq!(answer.json()["code"], "rate_limited");
            assert_eq!(answer.header("Connection"), Some("keep-alive"));
        }
    }
    // On a slow machine some seconds may have passed.
    assert!((30..=45).contains(&refused), "{refused}");
    for free in ["/healthz", "/readyz", "/", "/rooms/r", "/racerd.js"] {
        assert_eq!(ask(&mut raw, &get(free, "")), 200, "{free}");
    }
    // Another connection has its own rate; every connection has one.
    assert_eq!(server.post("/rooms/r/messages", "1").status, 201);
    eventually("one more is free", || ask(&mut raw, &post("")) == 201);
    let log = server.log();
    assert!(log.matches("status=429").count() < 30, "no line for each of them: {log}");
}

/// Behind a proxy each client has its own rate, over any of the proxy's connections; the proxy has none.
#[test]
fn clients_of_a_proxy_have_rates_of_their_own() {
    let server = Server::start(&["--request-rate", "1", "--request-burst", "3", "--trusted-proxy", "127.0.0.1"]);
    let mut connections = [server.raw(), server.raw()];
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let request = post(&format!("X-Forwarded-For: 6.6.6.6, {client}\r\n"));
        let statuses: Vec<u16> = (0..12).map(|n| ask(&mut connections[n % 2], &request)).collect();
        assert_eq!(statuses[..3], [201; 3], "{client}");
        assert!(statuses.iter().filter(|status| **status == 429).count() >= 6, "{client}: {statuses:?}");
    }
    // A request without the header counts as the proxy's own, on this connection.
    assert_eq!((0..3).map(|_| ask(&mut connections[0], &post(""))).collect::<Vec<_>>(), [201; 3]);
}

#[test]
fn without_a_rate_nobody_is_refused() {
    let server = Server::start(&["--request-rate", "0"]);
    let mut raw = server.raw();
    for _ in 0..300 {
        assert_eq!(ask(&mut raw, &get("/rooms/r/members", "")), 200);
    }
}
