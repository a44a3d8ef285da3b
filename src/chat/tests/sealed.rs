//! Sealed sockets through the whole machine: bytes in, bytes out.

use super::*;
use crate::conn::{Rate, Wire};
use crate::crypto::sealed::{Initiator, Pin, SealedKey, Transport};
use crate::engine::Fact;
use crate::ws::code;

pub(super) fn sealing() -> (World, Pin) {
    sealing_with(Sizes::USUAL)
}

fn sealing_with(sizes: Sizes) -> (World, Pin) {
    sealing_after(sizes, None)
}

/// As [`sealing_with`], with an earlier key, too.
fn sealing_after(sizes: Sizes, earlier: Option<SealedKey>) -> (World, Pin) {
    let mut world = World::new(sizes);
    let key = SealedKey::new([7; 32]);
    let pin = key.pin();
    let mut count = 0;
    world.engine.app.seal(key, earlier, move || {
        count += 1;
        Some([count; 32])
    });
    (world, pin)
}

const OFFER: &str = "Sec-WebSocket-Protocol: racerd.v1.sealed\r\n";

fn ask(world: &mut World, index: u32, path: &str, headers: &str) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    world.comes(index);
    if let Some(peer) = world.peers.get_mut(&index) {
        peer.is_sealed = headers == OFFER;
    }
    world.send(index, request.as_bytes());
}

fn answer(world: &World, index: u32) -> String {
    world.peers.get(&index).map(|peer| String::from_utf8_lossy(&peer.got).into_owned()).unwrap_or_default()
}

/// Connects a peer that resumes, which the world's own judge of each peer's input does not expect.
fn comes_unheard(world: &mut World, index: u32) {
    world.comes(index);
    world.peers.get_mut(&index).unwrap().is_sealed = true;
}

/// The client's side of a sealed socket.
pub(super) struct Client {
    index: u32,
    transport: Transport,
    /// The number of received bytes that are read already.
    at: usize,
    pub(super) heard: Vec<serde_json::Value>,
    /// The line that goes on in the next frame.
    tail: String,
    close: Option<u16>,
}

impl Client {
    pub(super) fn open(world: &mut World, pin: &Pin, index: u32) -> Client {
        ask(world, index, "/ws", OFFER);
        world.settle();
        let got = world.peers[&index].got.clone();
        assert!(String::from_utf8_lossy(&got).contains("Protocol: racerd.v1.sealed\r\n\r\n"));
        let (initiator, first) = Initiator::begin(pin, [index as u8 + 100; 32]).unwrap();
        world.send(index, &masked(0x82, &first, [1, 2, 3, 4]));
        world.settle();
        let frame = &world.peers[&index].got[got.len()..];
        assert_eq!(frame[..2], [0x82, 48]);
        let transport = initiator.finish(&frame[2..50]).unwrap();
        let mut client =
            Client { index, transport, at: got.len() + 50, heard: Vec::new(), tail: String::new(), close: None };
        client.listen(world);
        client
    }

    fn seal(&mut self, lines: &str) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.transport.seal_into(&mut sealed, lines.as_bytes()).unwrap();
        sealed
    }

    fn frame(&mut self, lines: &str) -> Vec<u8> {
        masked(0x82, &self.seal(lines), [9, 8, 7, 6])
    }

    pub(super) fn say(&mut self, world: &mut World, lines: &str) {
        let frame = self.frame(lines);
        world.send(self.index, &frame);
        world.settle();
        self.listen(world);
    }

    fn listen(&mut self, world: &World) {
        let Some(peer) = world.peers.get(&self.index) else { return };
        while self.at < peer.got.len() {
            let rest = &peer.got[self.at..];
            let header = match rest[1] {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            let end = crate::ws::frame_end(rest);
            match rest[0] {
                0x82 => {
                    let mut plain = Vec::new();
                    self.transport.open_into(&mut plain, &rest[header..end]).unwrap();
                    self.tail.push_str(&String::from_utf8(plain).unwrap());
                    let whole = self.tail.rfind('\n').map_or(0, |end| end + 1);
                    let lines = self.tail.drain(..whole).collect::<String>();
                    let read = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
                    self.heard.extend(lines.lines().map(read));
                }
                0x88 => self.close = Some(u16::from_be_bytes([rest[2], rest[3]])),
                0x89 | 0x8a => {}
                other => panic!("{other:#x}: nothing goes out in the clear"),
            }
            self.at += end;
        }
    }

    fn types(&self) -> Vec<&str> {
        types(&self.heard)
    }

    fn bodies(&self) -> Vec<serde_json::Value> {
        self.heard.iter().filter(|o| o["type"] == "message").map(|o| o["body"].clone()).collect()
    }
}

const JOIN: &str = "{\"type\":\"join\",\"id\":1,\"room\":\"r\",\"name\":\"sue\",\"presence\":\"off\"}\n";

#[test]
fn sealed_and_open_members_hear_the_same() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    assert_eq!(client.types(), ["welcome"]);
    assert!(client.heard[0]["name"].as_str().unwrap().starts_with("guest-"));
    world.comes(1);
    world.upgrade(1, "/rooms/r/ws?name=bob&presence=off");
    client.say(&mut world, JOIN);
    assert_eq!(client.types(), ["welcome", "welcome", "joined"]);
    assert_eq!(client.heard[1]["name"], "sue");
    for n in 0..5 {
        client.say(&mut world, &format!("{{\"type\":\"send\",\"id\":{n},\"room\":\"r\",\"body\":{{\"n\":{n}}}}}\n"));
        world.say(1, &format!("{{\"type\":\"send\",\"id\":{n},\"body\":[\n{n}\n]}}"));
        world.settle();
    }
    // Two objects in one frame.
    client
        .say(&mut world, "{\"type\":\"send\",\"id\":7,\"room\":\"r\",\"body\":\"a\"}\n{\"type\":\"ping\",\"id\":8}\n");
    let of = |list: &[serde_json::Value]| -> Vec<serde_json::Value> {
        list.iter().filter(|o| o["type"] == "message").cloned().collect()
    };
    assert_eq!(of(&client.heard), of(&world.heard(1)));
    assert_eq!(client.bodies().len(), 11);
    assert!(client.heard.iter().any(|o| o["type"] == "pong" && o["id"] == 8));
    assert!(!answer(&world, 0).contains("sue"), "nothing in the clear");
    assert!(of(&client.heard).iter().any(|o| o["from"]["name"] == "sue"));
    client.say(&mut world, "{\"type\":\"join\",\"id\":9,\"room\":\"r2\",\"name\":\"eve\"}\n");
    let refused = client.heard.last().unwrap();
    assert_eq!((&refused["code"], &refused["field"]), (&"bad_field".into(), &"name".into()));
    client.say(&mut world, "{\"type\":\"join\",\"id\":9,\"room\":\"r2\",\"name\":\"sue\",\"presence\":\"off\"}\n");
    assert_eq!(client.heard.last().unwrap()["type"], "joined", "the same name again is no news");
}

#[test]
fn only_the_bare_url_is_opened_sealed() {
    let (mut world, _) = sealing();
    for (index, path) in ["/rooms/r/ws", "/ws?name=a", "/ws?last=1"].into_iter().enumerate() {
        ask(&mut world, index as u32, path, OFFER);
        world.turn();
        assert!(answer(&world, index as u32).starts_with("HTTP/1.1 400 "), "{path}");
    }
    let mut world = World::new(Sizes::USUAL);
    ask(&mut world, 0, "/ws", OFFER);
    world.turn();
    let text = answer(&world, 0);
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("--sealed-key"), "{text}");
}

/// Returns how many handshakes with the earlier key the log was told of since.
fn told_of_earlier(world: &mut World) -> Vec<u64> {
    let facts = std::mem::take(&mut world.facts);
    facts
        .into_iter()
        .filter_map(|fact| if let Fact::EarlierKey { clients } = fact { Some(clients) } else { None })
        .collect()
}

/// While the key is changed, clients of both keys come in; the log counts those of the earlier one, once a day.
#[test]
fn a_second_key_is_tried_where_the_first_does_not_verify() {
    let earlier = SealedKey::new([8; 32]);
    let before = earlier.pin();
    let (mut world, pin) = sealing_after(Sizes::USUAL, Some(earlier));
    for (index, pin) in [pin, before, before, pin, before].iter().enumerate() {
        let client = Client::open(&mut world, pin, index as u32);
        assert_eq!(client.types(), ["welcome"]);
    }
    assert_eq!(told_of_earlier(&mut world), [1]);
    world.pass(86_399_000);
    assert_eq!(told_of_earlier(&mut world), [0; 0]);
    world.pass(2_000);
    assert_eq!(told_of_earlier(&mut world), [2]);
    // Nobody used it for a day: nothing to say.
    world.pass(2 * 86_400_000);
    assert_eq!(told_of_earlier(&mut world), [0; 0]);
}

/// A handshake that needs the second key is as dear as two, also if that does not verify either.
#[test]
fn the_second_key_is_paid_for() {
    // Returns how many handshakes are left of three, after one with this key that is cut to so many bytes.
    let left = |earlier: Option<u8>, key: u8, cut: usize| {
        let (mut world, _) = sealing_after(Sizes::USUAL, earlier.map(|byte| SealedKey::new([byte; 32])));
        let limits = world.engine.net.limits().clone();
        // A quarter is kept for those who come back.
        world.engine.net = Connections::new(limits, Admission::new(0, Rate::new(0, 1, 1), Rate::new(1, 1000, 4)));
        world.turn();
        ask(&mut world, 0, "/ws", OFFER);
        world.settle();
        let (_, first) = Initiator::begin(&SealedKey::new([key; 32]).pin(), [3; 32]).unwrap();
        world.send(0, &masked(0x82, &first[..cut], [0; 4]));
        world.settle();
        (1..4).for_each(|index| ask(&mut world, index, "/ws", OFFER));
        world.turn();
        (1..4).filter(|index| answer(&world, *index).starts_with("HTTP/1.1 101 ")).count()
    };
    assert_eq!(left(Some(8), 7, 48), 2);
    assert_eq!(left(Some(8), 8, 48), 1);
    assert_eq!(left(Some(8), 9, 48), 1);
    assert_eq!(left(Some(8), 9, 47), 2, "nothing is tried");
    assert_eq!(left(None, 9, 48), 2);
}

/// Returns the request with which a client resumes the session of its last `welcome`.
fn resume(client: &Client) -> String {
    let token = client.heard.iter().rev().find(|o| o["type"] == "welcome").unwrap()["session"].clone();
    format!("{{\"type\":\"resume\",\"id\":5,\"session\":{token}}}\n")
}

/// Anybody on the way can write a close frame, of any code. The session lives on, with its rooms.
#[test]
fn an_unsealed_close_ends_no_session() {
    for code in [None, Some(1000), Some(1001), Some(4001), Some(4003)] {
        let (mut world, pin) = sealing();
        let mut client = Client::open(&mut world, &pin, 0);
        client.say(&mut world, JOIN);
        let payload = code.map(u16::to_be_bytes).unwrap_or_default();
        world.send(0, &masked(0x88, &payload[..code.map_or(0, |_| 2)], [0; 4]));
        world.settle();
        let answered = world.peers[&0].got.clone();
        world.reset(0);
        let mut again = Client::open(&mut world, &pin, 1);
        again.say(&mut world, &resume(&client));
        assert_eq!(again.types(), ["welcome", "welcome", "joined"], "{code:?}");
        assert_eq!(again.heard[1]["member"], client.heard[0]["member"]);
        assert!(
            answered
                .ends_with(&[&[0x88, 2 * u8::from(code.is_some())][..], &payload[..code.map_or(0, |_| 2)]].concat())
        );
    }
}

/// What a client sent before it ended its session is acknowledged first; then the end is told sealed.
#[test]
fn a_sealed_end_ends_the_session_behind_what_was_sent() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    let request = resume(&client);
    world.answers_at_once = false;
    let frame = client.frame(
        "{\"type\":\"send\",\"id\":2,\"room\":\"r\",\"body\":1}\n{\"type\":\"end\"}\n{\"type\":\"ping\",\"id\":3}\n",
    );
    world.send(0, &frame);
    world.turn();
    world.answers_at_once = true;
    world.settle();
    client.listen(&world);
    let (closing, before) = client.heard.split_last().unwrap();
    assert_eq!(before.last().unwrap()["type"], "ack", "{:?}", client.types());
    assert_eq!((&closing["type"], &closing["code"]), (&"closing".into(), &1000.into()));
    assert_eq!(client.close, Some(code::NORMAL));
    assert_eq!(world.engine.app.hub.session_count(), 0);
    let mut again = Client::open(&mut world, &pin, 1);
    again.say(&mut world, &request);
    assert_eq!((&again.heard[1]["type"], &again.heard[1]["code"]), (&"error".into(), &"not_resumable".into()));
    assert!(!again.types().contains(&"joined"), "{:?}", again.types());
}

/// A client that is over its rate may leave all the same.
#[test]
fn an_end_is_never_too_fast() {
    let (mut world, pin) = sealing_with(Sizes { requests: (1, 1), ..Sizes::USUAL });
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    client.say(&mut world, "{\"type\":\"end\"}\n");
    assert_eq!(client.types(), ["welcome", "welcome", "joined", "closing"]);
}

/// The server tells each close of its own sealed, before the close frame.
#[test]
fn a_close_by_the_server_is_told_sealed() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    let mut again = Client::open(&mut world, &pin, 1);
    again.say(&mut world, &resume(&client));
    client.listen(&world);
    let closing = client.heard.last().unwrap();
    assert_eq!(*closing, serde_json::json!({"type": "closing", "code": 4001, "reason": "resumed elsewhere"}));
    assert_eq!(client.close, Some(code::RESUMED_ELSEWHERE));
}

/// The socket is closed with 1008, and neither this message nor a later one takes effect.
#[test]
fn what_does_not_verify_ends_the_connection() {
    let send = "{\"type\":\"send\",\"id\":2,\"body\":\"good\"}\n";
    let evil = "{\"type\":\"send\",\"id\":3,\"body\":\"evil\"}\n";
    type Spoil = fn(&mut Client) -> Vec<u8>;
    let spoiled: [(&str, Spoil); 9] = [
        ("a bit", |client| {
            let mut sealed = client.seal("{\"type\":\"send\",\"id\":3,\"body\":\"evil\"}\n");
            sealed[20] ^= 1;
            masked(0x82, &sealed, [0; 4])
        }),
        ("empty", |_| masked(0x82, b"", [0; 4])),
        ("15 bytes", |_| masked(0x82, &[7; 15], [0; 4])),
        ("an empty plaintext", |client| client.frame("")),
        ("no line", |client| client.frame("{\"type\":\"send\",\"id\":3,\"body\":\"evil\"}")),
        ("repeated", |client| {
            let frame = client.frame("{\"type\":\"ping\",\"id\":3}\n");
            [frame.clone(), frame].concat()
        }),
        ("exchanged", |client| {
            let first = client.frame("{\"type\":\"send\",\"id\":3,\"body\":\"evil\"}\n");
            [client.frame("{\"type\":\"send\",\"id\":4,\"body\":\"evil\"}\n"), first].concat()
        }),
        ("text", |_| masked(0x81, b"{\"type\":\"send\",\"id\":3,\"room\":\"r\",\"body\":\"evil\"}", [0; 4])),
        ("a handshake again", |_| masked(0x82, &[5; 48], [0; 4])),
    ];
    for (what, spoil) in spoiled {
        let (mut world, pin) = sealing();
        let mut client = Client::open(&mut world, &pin, 0);
        client.say(&mut world, &JOIN.replace("\"id\":1,", ""));
        client.say(&mut world, &send.replace("\"id\":2,", "\"id\":2,\"room\":\"r\","));
        let frame = spoil(&mut client);
        world.send(0, &frame);
        let after = client.frame(&evil.replace("\"id\":3,", "\"id\":3,\"room\":\"r\","));
        world.send(0, &after);
        world.settle();
        client.listen(&world);
        assert_eq!(client.close, Some(code::POLICY), "{what}");
        assert_eq!(client.bodies(), ["good"], "{what}");
        let room = crate::types::RoomId::parse("r").unwrap();
        assert_eq!(world.store.head(&room).0, 1, "{what}: nothing of it was stored");
    }
}

#[test]
fn a_handshake_for_another_key_is_refused_once() {
    let (mut world, pin) = sealing();
    ask(&mut world, 0, "/ws", OFFER);
    world.settle();
    let (_, wrong) = Initiator::begin(&SealedKey::new([8; 32]).pin(), [1; 32]).unwrap();
    let (_, right) = Initiator::begin(&pin, [1; 32]).unwrap();
    let both = [masked(0x82, &wrong, [0; 4]), masked(0x82, &right, [0; 4])].concat();
    let before = world.peers[&0].got.len();
    world.send(0, &both);
    world.settle();
    let got = &world.peers[&0].got[before..];
    assert_eq!((got[0], &got[2..4]), (0x88, &code::POLICY.to_be_bytes()[..]), "no answer, a close frame");
    assert_eq!(world.engine.app.hub.session_count(), 0, "a session in no room is not waited for");
}

#[test]
fn a_session_that_began_sealed_goes_on_only_so() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    let request = resume(&client).trim_end().to_owned();
    world.reset(0);
    comes_unheard(&mut world, 1);
    world.upgrade(1, "/ws?name=x");
    world.say(1, &request);
    world.settle();
    let heard = world.heard(1);
    assert_eq!(heard.last().unwrap()["code"], "not_resumable", "{heard:?}");
    let mut again = Client::open(&mut world, &pin, 2);
    again.say(&mut world, &format!("{request}\n"));
    assert_eq!(again.types(), ["welcome", "welcome", "joined"]);
    assert_eq!(again.heard[1]["name"], "sue");
    assert_eq!(again.heard[1]["member"], client.heard[0]["member"]);
    // TLS is as good as a sealed socket.
    let request = resume(&again).trim_end().to_owned();
    world.reset(2);
    comes_unheard(&mut world, 3);
    world.upgrade(3, "/ws?name=x");
    let conn = world.peers[&3].id;
    world.engine.net.get_mut(conn).unwrap().wire = Wire::Tls;
    world.say(3, &request);
    world.settle();
    let heard = world.heard(3);
    assert_eq!(types(&heard), ["welcome", "welcome", "joined"], "{heard:?}");
}

#[test]
fn where_sealed_is_required_nothing_is_told_in_the_clear() {
    let (mut world, pin) = sealing();
    world.engine.app.sealed_only = true;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let post = "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1\r\n\r\n1";
    let refused = ["/rooms/r/messages", "/rooms/r/events", "/rooms/r/members"].map(get);
    for (index, request) in refused.iter().map(String::as_str).chain([post]).enumerate() {
        world.comes(index as u32);
        world.send(index as u32, request.as_bytes());
        world.turn();
        let text = answer(&world, index as u32);
        assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("racerd.v1.sealed"), "{request}: {text}");
    }
    world.comes(10);
    for path in ["/healthz", "/readyz", "/", "/rooms/r"] {
        world.send(10, get(path).as_bytes());
    }
    world.settle();
    assert_eq!(answer(&world, 10).matches("HTTP/1.1 200 ").count(), 4);
    ask(&mut world, 11, "/rooms/r/ws", "");
    world.settle();
    assert!(answer(&world, 11).starts_with("HTTP/1.1 403 "));
    let client = Client::open(&mut world, &pin, 12);
    assert_eq!(client.types(), ["welcome"]);
    // Over TLS, the plain subprotocol is encrypted, too.
    world.comes(13);
    let conn = world.peers[&13].id;
    world.engine.net.get_mut(conn).unwrap().wire = Wire::Tls;
    world.upgrade(13, "/rooms/r/ws");
    world.settle();
    assert!(answer(&world, 13).starts_with("HTTP/1.1 101 "));
}

/// Joins over a sealed socket that then takes no byte, while another member sends as many messages of that length.
fn stalled(sizes: Sizes, messages: usize, length: usize) -> (World, Client) {
    let (mut world, pin) = sealing_with(sizes);
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    world.comes(1);
    world.upgrade(1, "/rooms/r/ws?name=bob&presence=off");
    world.settle();
    world.peers.get_mut(&0).unwrap().takes = 0;
    let body = "x".repeat(length);
    for n in 0..messages {
        world.say(1, &format!("{{\"type\":\"send\",\"id\":{n},\"body\":\"{n} {body}\"}}"));
        world.settle();
    }
    (world, client)
}

#[test]
fn a_slow_sealed_member_lags_and_reads_everything_in_the_end() {
    let (mut world, mut client) = stalled(Sizes::USUAL, 50, 60);
    let conn = world.peers[&0].id;
    assert!(world.engine.net.get(conn).unwrap().waiting() <= 9000, "bounded by what queue_bytes allows");
    world.peers.get_mut(&0).unwrap().takes = usize::MAX;
    for _ in 0..100 {
        world.take(0, 700);
        world.settle();
    }
    client.listen(&world);
    assert!(client.types().contains(&"lagging"), "{:?}", client.types());
    let seqs: Vec<u64> =
        client.heard.iter().filter(|o| o["type"] == "message").map(|o| o["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
}

/// Sealing stays a little ahead of the socket. Lines beyond that are sealed and sent once the socket has taken the
/// sealed bytes, without another event.
#[test]
fn what_waits_to_be_sealed_goes_out_when_the_socket_takes_it() {
    let (mut world, mut client) = stalled(Sizes { queue_bytes: 100_000, ..Sizes::USUAL }, 20, 3000);
    let connection = world.engine.net.get(world.peers[&0].id).unwrap();
    assert!(connection.waiting() > 50_000 && connection.queue.len() < 40_000, "most of it waits in plaintext");
    world.peers.get_mut(&0).unwrap().takes = usize::MAX;
    world.take(0, usize::MAX);
    world.settle();
    client.listen(&world);
    assert_eq!(client.bodies().len(), 20);
}

/// At its in-flight limit a socket is not read. Lines that were opened already wait, and are carried out later.
#[test]
fn what_was_opened_waits_for_its_turn() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    client.say(&mut world, JOIN);
    world.answers_at_once = false;
    let sends = |from: u64| -> String {
        (from..from + 10).map(|n| format!("{{\"type\":\"send\",\"id\":{n},\"room\":\"r\",\"body\":{n}}}\n")).collect()
    };
    for from in [10, 20] {
        let frame = client.frame(&sends(from));
        world.send(0, &frame);
    }
    world.turn();
    assert!(!world.engine.may_read(world.peers[&0].id), "four sends await the store");
    world.answers_at_once = true;
    world.settle();
    client.listen(&world);
    let acks: Vec<u64> =
        client.heard.iter().filter(|o| o["type"] == "ack").map(|o| o["id"].as_u64().unwrap()).collect();
    assert_eq!(acks, (10..30).collect::<Vec<_>>());
    assert!(world.engine.may_read(world.peers[&0].id));
}

#[test]
fn a_shutdown_is_told_sealed_and_the_close_follows() {
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    ask(&mut world, 1, "/ws", OFFER);
    world.settle();
    let before = world.peers[&1].got.len();
    world.engine.handle(Input::Stop);
    world.turn();
    client.listen(&world);
    assert_eq!(client.types(), ["welcome", "bye", "closing"]);
    assert_eq!(client.close, Some(code::GOING_AWAY));
    assert_eq!(world.peers[&1].got[before], 0x88, "a socket without its handshake gets the close only");
    // A peer that closes gets its code back, after everything that waits.
    let (mut world, pin) = sealing();
    let mut client = Client::open(&mut world, &pin, 0);
    let frames = [client.frame("{\"type\":\"ping\",\"id\":1}\n"), masked(0x88, &[3, 0xe8], [0; 4])].concat();
    world.send(0, &frames);
    world.settle();
    client.listen(&world);
    assert_eq!((client.types(), client.close), (vec!["welcome", "pong"], Some(code::NORMAL)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The outcome does not depend on how the bytes are split, nor on how the answers are taken.
    #[test]
    fn splits_do_not_matter(cuts in prop::collection::vec(1usize..80, 1..60), takes in 1usize..200) {
        let (mut world, pin) = sealing();
        let mut client = Client::open(&mut world, &pin, 0);
        client.say(&mut world, JOIN);
        world.peers.get_mut(&0).unwrap().takes = takes;
        let mut bytes = Vec::new();
        for n in 0..8 {
            let line = format!("{{\"type\":\"send\",\"id\":{n},\"room\":\"r\",\"body\":{n}}}\n");
            bytes.extend(client.frame(&line.repeat(1 + n % 2)));
        }
        let mut cuts = cuts.into_iter().cycle();
        while !bytes.is_empty() {
            let rest = bytes.split_off(cuts.next().unwrap().min(bytes.len()));
            world.send(0, &bytes);
            bytes = rest;
            world.turn();
        }
        for _ in 0..2000 {
            world.take(0, takes);
        }
        world.settle();
        world.take(0, usize::MAX);
        world.settle();
        client.listen(&world);
        let acks = client.heard.iter().filter(|o| o["type"] == "ack").count();
        prop_assert_eq!((acks, client.bodies().len()), (12, 12));
    }
}
