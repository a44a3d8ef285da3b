//! Limits of one address: its connections and handshakes, whether it connects directly or through a proxy.

use proptest::prelude::*;

use super::*;
use crate::conn::{EXCESS_TIME, Rate};
use crate::types::Network;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// An engine to which addresses connect.
struct Door {
    engine: Engine<Chat>,
    last: u32,
}

impl Door {
    /// Allows two connections per address, and two handshakes at once and then one a second. Trusts these proxies.
    fn new(trusted: &[&str]) -> Door {
        let mut engine = Sizes::USUAL.engine();
        let trusted = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        let admission = Admission::new(2, Rate::new(1, 1000, 2), Rate::new(0, 1000, 1)).trusting(trusted);
        engine.net = Connections::new(engine.net.limits().clone(), admission);
        let mut door = Door { engine, last: 0 };
        door.at(1);
        door
    }

    fn at(&mut self, milliseconds: u64) {
        turn_at(&mut self.engine, after(milliseconds));
    }

    fn come(&mut self, peer: &str) -> ConnId {
        self.last += 1;
        let conn = ConnId { index: self.last, generation: 1 };
        self.engine.handle(Input::Opened { conn, peer: peer.parse().unwrap(), secure: false });
        conn
    }

    /// Returns the status of the first answer in the queue, or nothing.
    fn status(&self, conn: ConnId) -> String {
        let bytes: Vec<u8> = self.engine.queue(conn).unwrap().pieces().flatten().copied().collect();
        String::from_utf8_lossy(bytes.get(9..12).unwrap_or_default()).into_owned()
    }

    /// Makes a handshake for this client. Returns the connection and the status of the answer.
    fn open(&mut self, peer: &str, forwarded_for: &str) -> (ConnId, String) {
        let conn = self.come(peer);
        let request = format!("{HANDSHAKE}X-Forwarded-For: {forwarded_for}\r\n\r\n");
        self.engine.handle(Input::Bytes { conn, bytes: &mut request.into_bytes() });
        assert_eq!(self.engine.net.check(), Ok(()));
        (conn, self.status(conn))
    }

    fn lose(&mut self, conn: ConnId) {
        self.engine.handle(Input::Lost { conn });
        assert_eq!(self.engine.net.check(), Ok(()));
    }

    /// Returns the facts so far: whether each is a refusal, and its client.
    fn clients(&mut self) -> Vec<(bool, Option<String>)> {
        let outputs = std::iter::from_fn(|| self.engine.poll_output());
        let facts = outputs.filter_map(|output| match output {
            Output::Log(Fact::Refused { client, .. }) => Some((true, client)),
            Output::Log(Fact::Closed { client, .. }) => Some((false, client)),
            _ => None,
        });
        facts.map(|(refused, client)| (refused, client.map(|ip| ip.to_string()))).collect()
    }
}

/// Connections count per address, IPv6 per /64, loopback not at all (docs/settings.md, "Limits").
#[test]
fn one_address_gets_its_share() {
    let mut door = Door::new(&[]);
    let first = door.come("[2001:db8::1]:1");
    let second = door.come("[2001:db8::ffff:2]:1");
    let third = door.come("[2001:db8::3]:1");
    let other = door.come("[2001:db8:0:1::3]:1");
    assert_eq!([first, second, third, other].map(|conn| door.status(conn)), ["", "", "429", ""]);
    for _ in 0..5 {
        let local = door.come("[::ffff:127.0.0.1]:1");
        assert_eq!(door.status(local), "");
    }
    // A connection that is gone makes room, even if it had been refused.
    door.lose(first);
    door.lose(third);
    let next = door.come("[2001:db8::4]:1");
    assert_eq!(door.status(next), "");
    // Two handshakes at once are admitted, then one a second.
    let mut got = Vec::new();
    for at in [1, 1, 1, 2001] {
        door.at(at);
        let (conn, status) = door.open("10.0.0.9:1", "");
        got.push(status);
        door.lose(conn);
    }
    assert_eq!(got, ["101", "101", "429", "101"]);
}

/// A header that the client made up changes nothing, nor does one from an untrusted proxy.
#[test]
fn without_a_trusted_proxy_all_requests_share_one_bucket() {
    for trusted in [&[] as &[&str], &["10.0.0.1"]] {
        let mut door = Door::new(trusted);
        let statuses: Vec<String> = (0..100)
            .map(|n| {
                let (conn, status) = door.open("192.0.2.7:1", &format!("6.6.6.{n}, 10.0.0.1"));
                door.lose(conn);
                status
            })
            .collect();
        assert_eq!(statuses.iter().filter(|status| *status == "101").count(), 2);
        assert!(statuses[2..].iter().all(|status| status == "429"));
        assert!(door.clients().iter().all(|(_, client)| client.is_none()));
    }
}

/// A proxied WebSocket counts against its client from its handshake to its end. The proxy's other connections do not
/// count.
#[test]
fn a_socket_counts_for_the_client_of_its_handshake() {
    let mut door = Door::new(&["10.0.0.0/8", "fd00::1"]);
    let connections: Vec<ConnId> = (0..10).map(|_| door.come("10.0.0.1:1")).collect();
    assert!(connections.iter().all(|conn| door.status(*conn).is_empty()));
    // One direct connection and one through a chain of proxies make two.
    let own = door.come("1.2.3.4:5");
    let (through, status) = door.open("[fd00::1]:1", "6.6.6.6, 1.2.3.4, 10.9.9.9");
    assert_eq!((door.status(own).as_str(), status.as_str()), ("", "101"));
    assert_eq!(door.open("10.0.0.1:1", "1.2.3.4").1, "429");
    let refused = door.come("1.2.3.4:5");
    assert_eq!(door.status(refused), "429");
    door.lose(refused);
    // Another client has a limit of its own, and so has an unnamed one.
    assert_eq!(door.open("10.0.0.1:1", "1.2.3.5").1, "101");
    assert_eq!(door.open("10.0.0.1:1", "").1, "101");
    // The end of the socket makes room for one more, direct or proxied.
    door.clients();
    door.lose(through);
    assert_eq!(door.clients(), [(false, Some("1.2.3.4".to_string()))]);
    door.at(10_000);
    assert_eq!(door.open("10.0.0.1:1", "::ffff:1.2.3.4").1, "101");
    assert_eq!(door.open("10.0.0.1:1", "1.2.3.4").1, "429");
    assert_eq!(door.clients(), [(true, Some("1.2.3.4".to_string()))]);
}

proptest! {
    /// However clients connect and whatever they request, exactly the open connections count, and in the end none.
    #[test]
    fn what_counts_is_what_is_open(steps in prop::collection::vec((0usize..4, 0usize..6, any::<bool>()), 0..60)) {
        let mut door = Door::new(&["10.0.0.0/8"]);
        let mut open = Vec::new();
        for (peer, client, leaves) in steps {
            let peer = ["127.0.0.1:1", "10.0.0.1:1", "1.2.3.4:1", "[2001:db8::1]:1"][peer];
            let client = ["1.2.3.4", "2001:db8::2", "10.0.0.2", "127.0.0.1", "unknown", ""][client];
            let (conn, status) = door.open(peer, client);
            prop_assert!(["101", "429"].contains(&status.as_str()), "{}", status);
            open.push(conn);
            if leaves {
                door.lose(open.remove(open.len() / 2));
            }
        }
        while let Some(conn) = open.pop() {
            door.lose(conn);
        }
        door.at(60_000);
        prop_assert_eq!(door.open("10.0.0.1:1", "1.2.3.4").1, "101");
    }
}

/// A connection in excess has limited time to send a request, gets one answer, and has limited time to take it.
#[test]
fn a_connection_in_excess_is_soon_gone() {
    let mut door = Door::new(&["127.0.0.1"]);
    let come = |door: &mut Door, bytes: &str| {
        door.last += 1;
        let conn = ConnId { index: door.last, generation: 1 };
        let peer = "127.0.0.1:9".parse().unwrap();
        door.engine.handle(Input::Excess { conn, peer, secure: true });
        door.engine.handle(Input::Bytes { conn, bytes: &mut bytes.as_bytes().to_vec() });
        conn
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (path, status) in [("/healthz", "200"), ("/readyz", "200"), ("/", "503"), ("/rooms/r/messages", "503")] {
        let conn = come(&mut door, &get(path).repeat(2));
        assert_eq!(door.status(conn), status, "{path}");
        assert!(door.engine.net.get(conn).unwrap().is_flushing(), "no second request: {path}");
        door.lose(conn);
    }
    let handshaking = come(&mut door, &format!("{HANDSHAKE}\r\n"));
    assert_eq!((door.status(handshaking).as_str(), door.engine.app.hub.session_count()), ("503", 0));
    door.lose(handshaking);
    let (silent, begun) = (come(&mut door, ""), come(&mut door, "GET /healthz HT"));
    door.at(EXCESS_TIME);
    assert_eq!([silent, begun].map(|conn| door.status(conn)), ["", ""]);
    door.at(EXCESS_TIME + 1);
    assert_eq!([silent, begun].map(|conn| door.status(conn)), ["503", "503"]);
    // One takes the answer and keeps sending; the other takes nothing.
    let taken = door.engine.queue(silent).unwrap().len();
    door.engine.handle(Input::Wrote { conn: silent, taken });
    for ms in 1..=1000 {
        door.at(EXCESS_TIME + 1 + ms);
        door.engine.handle(Input::Bytes { conn: silent, bytes: &mut [b'x'] });
    }
    assert!(door.engine.queue(silent).is_none() && door.engine.queue(begun).is_some());
    door.at(2 * EXCESS_TIME + 1);
    assert_eq!(door.engine.net.count(), 0);
}

/// A page asks why its WebSocket failed with a plain GET, over a connection that is open already.
#[test]
fn a_plain_get_learns_that_the_server_is_full() {
    let mut door = Door::new(&[]);
    let ask = |door: &mut Door| {
        let conn = door.come("127.0.0.1:9");
        let request = "GET /rooms/r/ws HTTP/1.1\r\nHost: localhost\r\n\r\n";
        door.engine.handle(Input::Bytes { conn, bytes: &mut request.as_bytes().to_vec() });
        door.status(conn)
    };
    assert_eq!(ask(&mut door), "426");
    door.engine.net.set_full(true);
    assert_eq!(ask(&mut door), "503");
    assert_eq!(door.open("127.0.0.1:9", "127.0.0.1").1, "101", "an open connection may become a WebSocket");
    door.engine.net.set_full(false);
    assert_eq!(ask(&mut door), "426");
}
