//! Rates of requests and of control frames, and shares of the store. A connection that exceeds one is not read for a
//! while, and no other connection waits for it.

use super::*;
use crate::chat::RoomRates;
use crate::conn::{ConnLimits, Rate};
use crate::types::Network;

const GET: &[u8] = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";

/// An engine with small rates: ten a second and three at once for a connection, twenty and eight for an address.
struct Slow {
    engine: Engine<Chat>,
    last: u32,
}

impl Slow {
    fn new() -> Slow {
        let mut engine = Sizes::USUAL.engine();
        let (own, none) = (Rate::new(10, 1000, 3), Rate::new(0, 1, 1));
        let limits = ConnLimits { requests: own, controls: own, ..engine.net.limits().clone() };
        let trusted = vec![Network::parse("10.0.0.1").unwrap()];
        let admission = Admission::new(0, none, none).rating(Rate::new(20, 1000, 8)).trusting(trusted);
        engine.net = Connections::new(limits, admission);
        let mut slow = Slow { engine, last: 0 };
        slow.at(1);
        slow
    }

    fn at(&mut self, milliseconds: u64) {
        turn_at(&mut self.engine, after(milliseconds));
        self.read_on();
    }

    fn come(&mut self, peer: &str) -> ConnId {
        self.last += 1;
        let conn = ConnId { index: self.last, generation: 1 };
        self.engine.handle(Input::Opened { conn, peer: peer.parse().unwrap(), secure: false });
        conn
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.engine.handle(Input::Bytes { conn, bytes: &mut bytes.to_vec() });
        self.read_on();
    }

    /// Parses what the turns after this one would.
    fn read_on(&mut self) {
        let mut unread = Vec::new();
        self.engine.take_unread(&mut unread);
        while let Some(conn) = unread.pop() {
            self.engine.read_on(conn);
            self.engine.take_unread(&mut unread);
        }
    }

    /// Returns how often this text is in what waits for a peer.
    fn count(&self, conn: ConnId, text: &[u8]) -> usize {
        let bytes: Vec<u8> = self.engine.queue(conn).unwrap().pieces().flatten().copied().collect();
        bytes.windows(text.len()).filter(|window| *window == text).count()
    }
}

#[test]
fn http_requests_beyond_the_rate_wait() {
    let mut slow = Slow::new();
    let conn = slow.come("192.0.2.1:1");
    let other = slow.come("192.0.2.2:1");
    slow.send(conn, &GET.repeat(6));
    assert_eq!(slow.count(conn, b"HTTP/1.1 404"), 3);
    assert!(!slow.engine.may_read(conn) && slow.engine.may_read(other));
    slow.send(other, GET);
    assert_eq!(slow.count(other, b"HTTP/1.1 404"), 1);
    for (at, answered) in [(100, 3), (101, 4), (200, 4), (201, 5), (301, 6), (302, 6)] {
        slow.at(at);
        assert_eq!(slow.count(conn, b"HTTP/1.1 404"), answered, "at {at}");
        assert_eq!(slow.count(conn, b"429"), 0, "a direct client waits instead");
    }
    slow.at(401);
    assert!(slow.engine.may_read(conn));
}

/// A long burst from one connection is parsed in parts, so that other connections are served in between.
#[test]
fn much_at_once_is_parsed_in_parts() {
    let mut engine = Sizes::USUAL.engine();
    let none = Rate::new(0, 1, 1);
    engine.net = Connections::new(
        ConnLimits { reply_bytes: 1 << 20, queue_bytes: 1 << 20, ..engine.net.limits().clone() },
        Admission::new(0, none, none),
    );
    turn_at(&mut engine, after(1));
    let mut slow = Slow { engine, last: 0 };
    let conn = slow.come("192.0.2.1:1");
    let mut bytes = GET.repeat(80);
    slow.engine.handle(Input::Bytes { conn, bytes: &mut bytes });
    let mut unread = Vec::new();
    for (answered, is_left) in [(32, true), (64, true), (80, false)] {
        assert_eq!(slow.count(conn, b"HTTP/1.1 404"), answered);
        slow.engine.take_unread(&mut unread);
        assert_eq!(std::mem::take(&mut unread) == [conn], is_left);
        assert_eq!(slow.engine.may_read(conn), !is_left, "the bytes are parsed in their order");
        assert_eq!(slow.engine.read_on(conn), is_left);
    }
}

#[test]
fn all_connections_of_an_address_share_its_rate() {
    let mut slow = Slow::new();
    let conns: Vec<ConnId> = (0..9).map(|n| slow.come(&format!("[2001:db8::{n}]:1"))).collect();
    for conn in &conns {
        slow.send(*conn, GET);
    }
    let held: Vec<bool> = conns.iter().map(|conn| !slow.engine.may_read(*conn)).collect();
    assert_eq!(held, [[false; 7].as_slice(), &[true, true]].concat(), "eight at once");
    slow.send(conns[8], GET);
    slow.at(51);
    assert!(slow.engine.may_read(conns[7]));
    let local: Vec<ConnId> = (0..20).map(|_| slow.come("127.0.0.1:1")).collect();
    for conn in local {
        slow.send(conn, GET);
        assert!(slow.engine.may_read(conn), "loopback has no rate of its address");
    }
}

#[test]
fn pings_beyond_their_rate_wait_and_the_socket_lives() {
    let mut slow = Slow::new();
    let conn = slow.come("127.0.0.1:1");
    slow.send(
        conn,
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    slow.send(conn, &masked(0x89, b"ping", [0; 4]).repeat(40));
    let pong = b"\x8a\x04ping";
    assert_eq!(slow.count(conn, pong), 3);
    for (at, answered) in [(101, 4), (201, 5), (2_001, 8), (2_101, 9)] {
        slow.at(at);
        assert_eq!(slow.count(conn, pong), answered, "at {at}");
    }
    for at in (2_201..=5_401).step_by(100) {
        slow.at(at);
    }
    assert_eq!(slow.count(conn, pong), 40);
    assert!(slow.engine.may_read(conn));
}

#[test]
fn a_trusted_proxy_is_always_read() {
    let mut slow = Slow::new();
    let conn = slow.come("10.0.0.1:1");
    let request = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    for _ in 0..10 {
        slow.send(conn, request);
        assert!(slow.engine.may_read(conn));
    }
}

/// While the store takes its time, only those wait who send more than their share: everyone else is read and answered,
/// and a message of theirs goes to the store.
#[test]
fn a_full_store_holds_back_only_those_who_fill_it() {
    let mut world = World::new(Sizes::USUAL);
    for index in 0..3 {
        world.comes(index);
        world.upgrade(index, "/rooms/r/ws?name=a");
    }
    world.settle();
    world.answers_at_once = false;
    let long = format!(r#"{{"type":"send","id":1,"body":"{:.<1000}"}}"#, "");
    for _ in 0..3 {
        world.say(0, &long);
    }
    world.say(0, r#"{"type":"ping"}"#);
    world.send(1, b"");
    world.turn();
    assert_eq!(world.engine.app.undecided(), (1, 1002));
    assert_eq!(world.engine.app.postponed(), 1);
    world.say(1, r#"{"type":"send","id":1,"body":1}"#);
    world.say(1, r#"{"type":"signal","body":2}"#);
    world.say(1, r#"{"type":"ping"}"#);
    world.connect(7, "127.0.0.1:9");
    world.send(7, b"GET /rooms/r/members HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.turn();
    world.turn();
    assert_eq!(world.engine.app.undecided(), (2, 1003));
    let (greedy, other) = (types(&world.heard(0)).join(" "), types(&world.heard(1)).join(" "));
    assert!(other.ends_with("pong") && world.peers[&7].got.starts_with(b"HTTP/1.1 200 "), "{other}");
    assert!(greedy.ends_with("signal"), "{greedy}");
    // A peer that is not read is not silent.
    world.pass(200_000);
    world.answers_at_once = true;
    world.settle();
    let heard = world.heard(0);
    let greedy = types(&heard);
    assert_eq!(greedy.iter().filter(|kind| **kind == "ack").count(), 3, "{greedy:?}");
    let before: Vec<_> = greedy.iter().take_while(|kind| **kind != "pong").filter(|kind| **kind == "ack").collect();
    assert_eq!(before.len(), 2, "a request waits for those before it: {greedy:?}");
    assert_eq!(world.engine.app.postponed(), 0);
}

/// A POST that waits for a place is answered once it has one; if its client hangs up before, nothing is kept of it.
#[test]
fn a_post_waits_for_a_place_at_the_store_and_is_gone_with_its_client() {
    let mut world = World::new(Sizes::USUAL);
    world.answers_at_once = false;
    let body = format!("\"{:.<1000}\"", "");
    let post = format!(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                        Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for index in 0..6 {
        world.connect(index, "192.0.2.1:9");
        world.send(index, post.as_bytes());
    }
    world.turn();
    assert_eq!((world.engine.app.undecided(), world.engine.app.postponed()), ((1, 1002), 5));
    world.reset(2);
    assert_eq!(world.engine.app.postponed(), 4);
    world.answers_at_once = true;
    world.settle();
    assert_eq!((world.engine.app.undecided(), world.engine.app.postponed()), ((0, 0), 0));
    let answered = world.peers.values().filter(|peer| peer.got.starts_with(b"HTTP/1.1 201 ")).count();
    assert_eq!(answered, 5);
}

/// A room that cannot tell in one turn what was said in it lets its own senders wait, and nobody in other rooms.
#[test]
fn a_room_that_is_behind_holds_back_only_its_own_senders() {
    let mut world = World::new(Sizes::USUAL);
    for (index, room) in [(0, "r"), (1, "r"), (2, "s"), (3, "s")] {
        world.comes(index);
        world.upgrade(index, &format!("/rooms/{room}/ws?name=a&presence=off"));
    }
    world.settle();
    let long = format!(r#"{{"type":"signal","body":"{:.<1000}"}}"#, "");
    for _ in 0..6 {
        world.say(0, &long);
    }
    world.turn();
    assert_eq!(world.engine.app.postponed(), 0, "nothing was left over before");
    for index in [0, 1, 2] {
        world.say(index, r#"{"type":"signal","body":1}"#);
        world.say(index, r#"{"type":"ping"}"#);
    }
    world.turn();
    assert_eq!(world.engine.app.postponed(), 2);
    let last = |world: &World, index| types(&world.heard(index)).last().map(ToString::to_string);
    assert_eq!(last(&world, 2).as_deref(), Some("pong"));
    assert_eq!(last(&world, 3).as_deref(), Some("signal"));
    assert!(![0, 1].iter().any(|index| types(&world.heard(*index)).contains(&"pong")));
    world.settle();
    assert_eq!(world.engine.app.postponed(), 0);
    for (index, signals) in [(0, 1), (1, 7)] {
        let heard = world.heard(index);
        let heard = types(&heard);
        assert_eq!(heard.iter().filter(|kind| **kind == "signal").count(), signals);
        assert!(heard.contains(&"pong"));
    }
}

/// Whoever makes rooms faster than the rate is refused their first messages, and those only.
#[test]
fn new_rooms_have_a_rate() {
    let mut world = World::new(Sizes::USUAL);
    let mut limits = Sizes::USUAL.limits();
    limits.app.chat.rooms = RoomRates { own: Rate::new(1, 1000, 2), all: Rate::new(0, 1, 1) };
    world.engine.set_limits(limits);
    // Returns what a POST to this room is answered: the status, and the head's last line.
    let post = |world: &mut World, index: u32, room: &str| {
        let before = world.peers[&index].got.len();
        let head = "HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1";
        world.send(index, format!("POST /rooms/{room}/messages {head}\r\n\r\n1").as_bytes());
        world.settle();
        let got = String::from_utf8_lossy(&world.peers[&index].got[before..]).into_owned();
        (got[9..12].to_owned(), got)
    };
    world.connect(0, "192.0.2.1:9");
    world.connect(1, "192.0.2.2:9");
    let answers = ["a", "b", "c", "a", "c", "b"].map(|room| post(&mut world, 0, room).0);
    assert_eq!(answers, ["201", "201", "429", "201", "429", "201"], "rooms that have messages take more");
    let (_, told) = post(&mut world, 0, "c");
    assert!(told.contains("\r\nRetry-After: 1\r\n") && told.contains("\"rate_limited\""), "{told}");
    assert_eq!(post(&mut world, 1, "c").0, "201", "another address");
    assert_eq!(post(&mut world, 0, "c").0, "201", "which is there by now");
    world.connect(2, "192.0.2.1:10");
    world.upgrade(2, "/rooms/a/ws?name=a&last=5");
    world.settle();
    // Members who come before the store has told whether the room has messages.
    for (id, room) in [(1, "b"), (2, "d")] {
        world.say(2, &format!(r#"{{"type":"join","room":"{room}"}}"#));
        world.say(2, &format!(r#"{{"type":"send","id":{id},"room":"{room}","body":1}}"#));
    }
    world.settle();
    world.say(2, r#"{"type":"send","id":3,"room":"a","body":1}"#);
    world.say(2, r#"{"type":"send","id":4,"room":"d","body":1}"#);
    world.settle();
    let heard = world.heard(2);
    let of = |kind: &str| heard.iter().filter(|object| object["type"] == kind).collect::<Vec<_>>();
    let ids = |list: &[&serde_json::Value]| list.iter().filter_map(|object| object["id"].as_u64()).collect::<Vec<_>>();
    assert_eq!((ids(&of("ack")), ids(&of("error"))), (vec![1, 3], vec![2, 4]), "{heard:?}");
    for refused in of("error") {
        assert_eq!(refused["code"], "rate_limited");
        assert!(refused["retry_after_ms"].as_u64().is_some_and(|wait| (1..=1000).contains(&wait)), "{refused}");
    }
    world.pass(1_000);
    world.say(2, r#"{"type":"send","id":5,"room":"d","body":1}"#);
    world.settle();
    assert!(world.heard(2).iter().any(|object| object["type"] == "ack" && object["id"] == 5));
    assert_eq!(post(&mut world, 0, "e").0, "429", "both connections share their address's rate");
    world.connect(3, "127.0.0.1:9");
    for room in 0..50 {
        assert_eq!(post(&mut world, 3, &format!("local-{room}")).0, "201", "loopback has no rate per address");
    }
}

/// The rate of all holds for all, and however slow the store is, no more rooms are made than it allows.
#[test]
fn all_new_rooms_have_a_rate() {
    let mut world = World::new(Sizes::USUAL);
    let mut limits = Sizes::USUAL.limits();
    let none = Rate::new(0, 1, 1);
    limits.app.chat.rooms = RoomRates { own: none, all: Rate::new(1, 1000, 5) };
    world.engine.set_limits(limits);
    for index in 0..20 {
        world.connect(index, &format!("192.0.2.{}:9", index + 1));
        let head = "HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1";
        world.send(index, format!("POST /rooms/{index}/messages {head}\r\n\r\n1").as_bytes());
    }
    world.settle();
    let count = |status: &str| world.peers.values().filter(|peer| &peer.got[9..12] == status.as_bytes()).count();
    assert_eq!((count("201"), count("429")), (5, 15));
}
