//! Listen addresses: names with several addresses, and addresses that need a zone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::command::ended;
use crate::support::*;

/// Returns a port that is free at the moment.
fn free_port() -> u16 {
    TcpListener::bind("[::]:0").expect("a port").local_addr().expect("an address").port()
}

fn is_ready(address: SocketAddr) -> bool {
    let mut raw = Raw::connect(address);
    raw.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.answer().status == 200
}

fn racerd(arguments: &[&str]) -> std::process::Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().expect("the binary")
}

/// The listener on all of IPv6 leaves IPv4 to the one that exists for it (RFC 3493 §5.3).
#[test]
fn all_of_ipv4_and_all_of_ipv6_at_one_port() {
    for order in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["127.0.0.1", "[::]"]] {
        let port = free_port();
        let listen = order.map(|ip| format!("{ip}:{port}"));
        let mut server = Server::start_in(TempDir::new(), &listen.join(","), &["--open"]);
        assert!(is_ready((Ipv4Addr::LOCALHOST, port).into()) && is_ready((Ipv6Addr::LOCALHOST, port).into()));
        assert_eq!(server.stop().code(), Some(0));
    }
    // Alone, it takes both families.
    let port = free_port();
    let _server = Server::start_in(TempDir::new(), &format!("[::]:{port}"), &["--open"]);
    assert!(is_ready((Ipv4Addr::LOCALHOST, port).into()) && is_ready((Ipv6Addr::LOCALHOST, port).into()));
}

#[test]
fn localhost_is_both_loopback_addresses() {
    let server = Server::start_in(TempDir::new(), "localhost:0", &[]);
    let port = server.address.port();
    assert!(is_ready((Ipv4Addr::LOCALHOST, port).into()) && is_ready((Ipv6Addr::LOCALHOST, port).into()));
    assert_eq!(racerd(&["health", "--listen", &format!("localhost:{port}")]).status.code(), Some(0));
    assert_eq!(racerd(&["health", &format!("http://localhost:{port}")]).status.code(), Some(0));
    // Subdomains of localhost count, too, for the commands and for the server's own check of names (RFC 6761 §6.3).
    let url = format!("http://A.localhost.:{port}/rooms/r");
    assert_eq!(racerd(&["send", &url, "hello", "--timeout", "5s"]).status.code(), Some(0));
    assert_eq!(server.get("/rooms/r/messages").json()["messages"][0]["body"]["text"], "hello");
}

#[test]
fn places_that_contradict_each_other_are_named() {
    let folder = TempDir::new();
    for (arguments, words) in [
        (
            vec!["--listen", "localhost:7077,127.0.0.1:7077"],
            "localhost:7077 and 127.0.0.1:7077 have an address in common",
        ),
        (vec!["--listen", "0.0.0.0:7077,127.0.0.1:7077", "--open"], "leave one out"),
        (vec!["--listen", "127.0.0.1:0", "--plain-listen", "127.0.0.1:0"], "tls-cert none (default)"),
        (vec!["--listen", "[::1%lo]:7077"], "no other address has one"),
        (vec!["--listen", "[fe80::1]:7077", "--open"], "fe80::/10 needs its interface"),
        (vec!["--listen", "127.0.0.1:0", "--trusted-proxy", "fe80::1%eth0"], "write fe80::1"),
        (vec!["--listen", "[fe80::1%lo]:7077"], "--open"),
    ] {
        let data = folder.path().join("racerd.db");
        let output = Server::program().arg("serve").args(&arguments).arg("--data").arg(data).output().expect("it");
        crate::command::refused(&output, words);
    }
    // The interface may appear later.
    let data = folder.path().join("racerd.db");
    let arguments = ["serve", "--open", "--listen", "[fe80::1%nowhere0]:7077", "--data", data.to_str().unwrap()];
    ended(&racerd(&arguments), 1, "no interface nowhere0");
}

/// A network namespace whose only link-local address is on its loopback interface (RFC 4007, RFC 6874).
#[test]
fn link_local_addresses_have_zones() {
    let folder = TempDir::new();
    let script = r#"
        set -e
        ip link set lo up
        ip -6 addr add fe80::1/64 dev lo nodad
        "$0" serve --open --listen '[fe80::1%lo]:7077' --data "$1/racerd.db" >"$1/out" &
        server=$!
        trap 'kill $server' EXIT
        until "$0" health 'http://[fe80::1%25lo]:7077/' 2>/dev/null; do kill -0 $server; done
        cat "$1/out"
        "$0" health --listen '[fe80::1%lo]:7077' --open
        "$0" send 'http://[fe80::1%25lo]:7077/rooms/lobby' hello --name ann
        "$0" tail 'http://[fe80::1%25lo]:7077/rooms/lobby'
        "$0" tail 'http://[fe80::1%lo]:7077/rooms/lobby'
    "#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
    command.arg(Server::program().get_program()).arg(folder.path());
    let output = Server::clean(command).stdin(Stdio::null()).output().expect("unshare, which tests/run installs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(out.contains(" listens on http://[fe80::1%25lo]:7077/ "), "{out}");
    assert_eq!(out.matches("ann: hello\n").count(), 2, "{out}");
}
