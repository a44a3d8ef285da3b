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
fn requests_over_the_rate_wait_and_all_are_answered() {
    let server = Server::start(&["--request-rate", "5", "--request-burst", "5"]);
    let mut raw = server.raw();
    let requests = [post(""), get("/rooms/r/messages", ""), get("/rooms/r/members", ""), get("/nowhere", "")];
    let statuses: Vec<u16> = (0..12).map(|n| ask(&mut raw, &requests[n % requests.len()])).collect();
    assert_eq!(statuses, [201, 200, 200, 404].repeat(3));
    for path in ["/healthz", "/readyz", "/", "/rooms/r", "/racerd.js"] {
        assert_eq!(ask(&mut raw, &get(path, "")), 200, "{path}");
    }
    // All at once, as a client that pipelines does.
    raw.send(get("/rooms/r/members", "").repeat(8));
    for _ in 0..8 {
        assert_eq!(raw.answer().status, 200);
    }
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
