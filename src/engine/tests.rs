//! The whole pure machine, bytes in and bytes out, with the memory log as its store and a network of the test's own:
//! any split, resets, peers that stop reading, answers that come late, steps of time; and a long jump of time at the end,
//! after which nothing may be left over.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::chat::{Chat, ChatLimits, Secrets};
use super::*;
use crate::api::Access;
use crate::conn::{ConnLimits, Rate};
use crate::http::head::HeadLimits;
use crate::hub::HubLimits;
use crate::protocol::server::Limits as WelcomeLimits;
use crate::store::MemoryLog;
use crate::types::{Durability, Epoch};

fn engine() -> Engine<Chat> {
    let limits = ConnLimits {
        head: HeadLimits::default(),
        ws: crate::ws::Limits { max_message: 4096, max_fragments: 16, binary: false },
        queue_bytes: 8192,
        reply_bytes: 8192,
        in_flight: 4,
        header_timeout: 10_000,
        keep_alive: 75_000,
        write_wait: 10_000,
        pong_wait: 60_000,
        ping_period: 25_000,
    };
    let hub = HubLimits {
        rooms_per_session: 3,
        presence_max: 4,
        page_bytes: 2048,
        page_messages: 20,
        reads_in_flight: 2,
        delivery_budget: 20,
        batch_bytes: 4096,
        tail_bytes: 4096,
        tail_bytes_total: 16_384,
        resume_within: 30_000,
        detached_max: 100,
    };
    let welcome = WelcomeLimits {
        max_message_size: 4096,
        in_flight: 4,
        rooms_per_session: 3,
        page_bytes: 2048,
        request_rate: 0,
        ping_period: 25_000,
        durability: Durability::Memory,
    };
    let secrets = Secrets { token_key: [1; 32], salt: [2; 16], seed: 7, running: 0 };
    let chat = ChatLimits {
        append_bytes: 3000,
        body_depth: 8,
        requests: Rate::new(50, 1000, 100),
        errors: Rate::new(20, 60_000, 20),
        welcome,
        resume_within: 30_000,
        park_for: 604_800,
    };
    let net = Connections::new(limits, Admission::new(0, Rate::new(0, 1, 1), Rate::new(0, 1, 1)));
    Engine::new(net, Chat::new(hub, Epoch("e".into()), chat, Access::default(), &secrets), 10_000)
}

mod events;

/// The world around an engine.
struct World {
    engine: Engine<Chat>,
    log: MemoryLog,
    now: Now,
    peers: BTreeMap<u32, Peer>,
    /// The store's answers that are still on their way.
    late: VecDeque<StoreEvent>,
    answers_at_once: bool,
    generation: u32,
}

struct Peer {
    id: ConnId,
    /// What it received.
    got: Vec<u8>,
    reads: bool,
    /// The engine asked for no more reading, and the peer's bytes wait.
    unread: Vec<u8>,
    ended: bool,
}

impl World {
    fn new() -> World {
        World {
            engine: engine(),
            log: MemoryLog::new(Epoch("e".into()), 4096, 65_536),
            now: Now { mono: Millis(1), wall: WallMillis(1_790_000_000_000) },
            peers: BTreeMap::new(),
            late: VecDeque::new(),
            answers_at_once: true,
            generation: 0,
        }
    }

    fn connect(&mut self, index: u32) {
        if self.peers.contains_key(&index) {
            return;
        }
        self.generation += 1;
        let id = ConnId { index, generation: self.generation };
        self.peers.insert(index, Peer { id, got: Vec::new(), reads: true, unread: Vec::new(), ended: false });
        let peer = "127.0.0.1:9".parse().unwrap();
        self.engine.handle(Input::Opened { conn: id, peer, loopback: true });
    }

    fn send(&mut self, index: u32, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.ended {
            peer.unread.extend_from_slice(bytes);
        }
    }

    fn upgrade(&mut self, index: u32, path: &str) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.send(index, request.as_bytes());
    }

    fn say(&mut self, index: u32, json: &str) {
        let mut frame = vec![0x81];
        match json.len() {
            n @ 0..126 => frame.push(0x80 | n as u8),
            n => {
                frame.push(0xfe);
                frame.extend((n as u16).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(json.as_bytes());
        self.send(index, &frame);
    }

    /// One turn, as the loop does it.
    fn turn(&mut self) {
        self.engine.handle(Input::Time(self.now));
        let indices: Vec<u32> = self.peers.keys().copied().collect();
        for index in indices {
            let Some(peer) = self.peers.get_mut(&index) else { continue };
            if peer.unread.is_empty() || !self.engine.may_read(peer.id) {
                continue;
            }
            let mut bytes = std::mem::take(&mut peer.unread);
            self.engine.handle(Input::Bytes { conn: peer.id, bytes: &mut bytes });
        }
        let mut requests = Vec::new();
        self.engine.take_requests(&mut requests);
        let mut events = Vec::new();
        self.log.answer(&mut requests, &mut events);
        self.late.extend(events);
        if self.answers_at_once {
            for event in std::mem::take(&mut self.late) {
                self.engine.handle(Input::Store(event));
            }
        }
        self.engine.end_turn();
        self.flush();
        self.engine.net.check().unwrap();
        self.engine.app.hub.check().unwrap();
    }

    fn flush(&mut self) {
        let mut dirty = Vec::new();
        self.engine.take_dirty(&mut dirty);
        for conn in dirty {
            let taken = match (self.engine.queue(conn), self.peers.values_mut().find(|p| p.id == conn)) {
                (Some(queue), Some(peer)) if peer.reads => {
                    let before = peer.got.len();
                    peer.got.extend(queue.pieces().flatten());
                    peer.got.len() - before
                }
                _ => 0,
            };
            self.engine.handle(Input::Wrote { conn, taken });
        }
        while let Some(output) = self.engine.poll_output() {
            if let Output::Close(conn) = output {
                self.peers.retain(|_, peer| peer.id != conn);
            }
        }
        for peer in self.peers.values() {
            let queued = self.engine.queue(peer.id).map_or(0, |queue| queue.len());
            assert!(queued <= 8192 + 8192 + 4096, "a queue of {queued} bytes");
        }
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.turn();
        }
    }

    /// The peer takes what waits for it.
    fn take(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let Some(queue) = self.engine.queue(peer.id) else { return };
        let before = peer.got.len();
        peer.got.extend(queue.pieces().flatten());
        let (conn, taken) = (peer.id, peer.got.len() - before);
        self.engine.handle(Input::Wrote { conn, taken });
        self.flush();
    }

    /// The JSON objects that a peer got over its WebSocket or event stream.
    fn heard(&self, index: u32) -> Vec<serde_json::Value> {
        let Some(peer) = self.peers.get(&index) else { return Vec::new() };
        objects(&peer.got)
    }

    /// Time passes as the loop lets it pass: from deadline to deadline, each strictly later than the one before.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now.mono.after(milliseconds);
        for _ in 0..10_000 {
            match self.engine.deadline() {
                Some(due) if due <= end => {
                    self.now.mono = due.max(self.now.mono);
                    self.turn();
                    let stuck = self.engine.deadline().is_some_and(|d| d <= self.now.mono);
                    assert!(
                        !stuck || self.engine.has_dirty(),
                        "a deadline that fired stands still at {:?}: connections {:?}, chat {:?}",
                        self.now.mono,
                        self.engine.net.deadline(),
                        self.engine.app.deadline(),
                    );
                }
                _ => {
                    self.now.mono = end;
                    self.turn();
                    return;
                }
            }
        }
        panic!("the loop spins");
    }
}

fn objects(bytes: &[u8]) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(bytes);
    if let Some((_, stream)) = text.split_once("Content-Type: text/event-stream\r\n") {
        // What does not end in an empty line is not an event yet.
        let whole = stream.rfind("\n\n").map_or("", |end| &stream[..end]);
        return whole
            .lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
    }
    let start = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let mut rest = &bytes[start..];
    let mut list = Vec::new();
    while !rest.is_empty() {
        let end = crate::ws::frame_end(rest);
        let header = if rest[1] < 126 { 2 } else { 4 };
        if rest[0] == 0x81 {
            list.push(serde_json::from_slice(&rest[header..end]).unwrap());
        }
        rest = &rest[end..];
    }
    list
}

fn types(list: &[serde_json::Value]) -> Vec<&str> {
    list.iter().filter_map(|o| o["type"].as_str()).collect()
}

#[test]
fn committed_then_acknowledged_then_fanned_out() {
    let mut world = World::new();
    world.connect(0);
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.settle();
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.turn();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members"], "nothing is said before the commit");
    world.answers_at_once = true;
    world.turn();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members", "ack", "message"]);
}

#[test]
fn an_answer_for_one_that_is_gone_reaches_nobody() {
    let mut world = World::new();
    world.connect(0);
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.settle();
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.say(0, r#"{"type":"history","id":2}"#);
    world.turn();
    let gone = world.peers.remove(&0).unwrap().id;
    world.engine.handle(Input::Lost { conn: gone });
    // The next one gets the same slot, before the answers come.
    world.connect(0);
    world.upgrade(0, "/rooms/other/ws?name=b");
    world.turn();
    world.answers_at_once = true;
    world.settle();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members"]);
    // Late events of the old one, too.
    world.engine.handle(Input::Bytes { conn: gone, bytes: &mut [0x88, 0x80, 0, 0, 0, 0] });
    world.engine.handle(Input::Ended { conn: gone });
    world.engine.handle(Input::Wrote { conn: gone, taken: 9 });
    world.settle();
    assert_eq!(world.engine.net.count(), 1);
}

#[test]
fn a_sender_past_its_share_is_not_read_and_loses_nothing() {
    let mut world = World::new();
    world.connect(0);
    world.upgrade(0, "/rooms/r/ws?name=a&presence=off");
    world.settle();
    world.answers_at_once = false;
    for id in 0..20 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":{id}}}"#));
    }
    world.turn();
    assert!(!world.engine.may_read(world.peers[&0].id), "four sends are open");
    world.answers_at_once = true;
    world.settle();
    let acks: Vec<u64> =
        world.heard(0).iter().filter(|o| o["type"] == "ack").map(|o| o["id"].as_u64().unwrap()).collect();
    assert_eq!(acks, (0..20).collect::<Vec<_>>());
    assert!(world.engine.may_read(world.peers[&0].id));
}

#[test]
fn a_slow_member_lags_and_reads_everything_in_the_end() {
    let mut world = World::new();
    for index in 0..2 {
        world.connect(index);
        world.upgrade(index, &format!("/rooms/r/ws?name=n{index}&presence=off"));
    }
    world.settle();
    world.peers.get_mut(&1).unwrap().reads = false;
    let body = "x".repeat(100);
    for id in 0..30 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":"{body}"}}"#));
        world.settle();
    }
    world.peers.get_mut(&1).unwrap().reads = true;
    for _ in 0..50 {
        world.take(1);
        world.turn();
    }
    let heard = world.heard(1);
    let seqs: Vec<u64> = heard.iter().filter(|o| o["type"] == "message").map(|o| o["seq"].as_u64().unwrap()).collect();
    let gaps = heard.iter().filter(|o| o["type"] == "gap").count();
    assert!(seqs.windows(2).all(|w| w[0] < w[1]), "{seqs:?}");
    assert_eq!(*seqs.last().unwrap(), 30);
    // The log of this world is small: what it no longer holds is told as a gap, never left out in silence.
    assert!(seqs.windows(2).filter(|w| w[1] != w[0] + 1).count() <= gaps, "{seqs:?}");
}

#[test]
fn pings_and_their_deadline() {
    let mut world = World::new();
    world.connect(0);
    world.upgrade(0, "/ws?name=a");
    world.settle();
    world.pass(24_000);
    assert!(!world.peers[&0].got.ends_with(&[0x89, 0]));
    world.pass(1_001);
    assert!(world.peers[&0].got.ends_with(&[0x89, 0]), "a silent connection is pinged");
    // Any byte is life: half a frame will do.
    world.pass(50_000);
    world.send(0, &[0x81]);
    world.turn();
    world.pass(20_000);
    assert_eq!(world.engine.net.count(), 1);
    world.pass(90_000);
    assert_eq!(world.engine.net.count(), 0, "and silence is its end");
}

#[test]
fn a_stop_tells_everyone_and_ends() {
    let mut world = World::new();
    for index in 0..3 {
        world.connect(index);
    }
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.upgrade(1, "/rooms/r/ws?name=b");
    world.settle();
    world.peers.get_mut(&1).unwrap().reads = false;
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.turn();
    world.engine.handle(Input::Stop);
    world.turn();
    assert!(!types(&world.heard(0)).contains(&"bye"), "what was accepted is committed first");
    world.answers_at_once = true;
    world.settle();
    let heard = world.heard(0);
    assert_eq!(types(&heard)[heard.len() - 3..], ["ack", "message", "bye"]);
    assert!(world.peers[&0].got.ends_with(b"shutting down"));
    assert!(!world.engine.is_finished(), "one does not read");
    world.pass(10_000);
    assert!(world.engine.is_finished());
}

/// Addresses are counted, IPv6 by /64, loopback not at all (DESIGN: "Bounds").
#[test]
fn one_address_gets_its_share() {
    let mut engine = engine();
    engine.net =
        Connections::new(engine.net.limits().clone(), Admission::new(2, Rate::new(1, 1000, 2), Rate::new(0, 1000, 1)));
    engine.handle(Input::Time(Now { mono: Millis(1), wall: WallMillis(0) }));
    let mut index = 0;
    let mut come = |engine: &mut Engine<Chat>, peer: &str| {
        index += 1;
        let conn = ConnId { index, generation: 1 };
        let peer = peer.parse().unwrap();
        engine.handle(Input::Opened { conn, peer, loopback: false });
        conn
    };
    let status = |engine: &Engine<Chat>, conn| -> String {
        let bytes: Vec<u8> = engine.queue(conn).unwrap().pieces().flatten().copied().collect();
        String::from_utf8_lossy(bytes.get(9..12).unwrap_or_default()).into_owned()
    };
    let first = come(&mut engine, "[2001:db8::1]:1");
    let second = come(&mut engine, "[2001:db8::ffff:2]:1");
    let third = come(&mut engine, "[2001:db8::3]:1");
    let other = come(&mut engine, "[2001:db8:0:1::3]:1");
    let answers = [first, second, third, other].map(|conn| status(&engine, conn));
    assert_eq!(answers, ["", "", "429", ""]);
    for _ in 0..5 {
        let local = come(&mut engine, "[::ffff:127.0.0.1]:1");
        assert_eq!(status(&engine, local), "");
    }
    // Who goes makes room; so does who was turned away.
    engine.handle(Input::Lost { conn: first });
    engine.handle(Input::Lost { conn: third });
    let next = come(&mut engine, "[2001:db8::4]:1");
    assert_eq!(status(&engine, next), "");
    // Handshakes: two at once, then one a second.
    let ask = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut got = Vec::new();
    for at in [1, 1, 1, 2001] {
        engine.handle(Input::Time(Now { mono: Millis(at), wall: WallMillis(0) }));
        let conn = come(&mut engine, "10.0.0.9:1");
        engine.handle(Input::Bytes { conn, bytes: &mut ask.to_vec() });
        got.push(status(&engine, conn));
        engine.handle(Input::Lost { conn });
    }
    assert_eq!(got, ["101", "101", "429", "101"]);
}

#[derive(Clone, Debug)]
enum Act {
    Connect(u32),
    Upgrade(u32, u8),
    Say(u32, u8, u8),
    Bytes(u32, Vec<u8>),
    Http(u32, u8),
    Turn,
    Pass(u16),
    Eof(u32),
    Reset(u32),
    Stall(u32),
    Read(u32),
    Late(bool),
    AnswerOne,
    StoreFails(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0u32..5;
    prop_oneof![
        2 => who.clone().prop_map(Act::Connect),
        2 => (who.clone(), 0u8..4).prop_map(|(w, k)| Act::Upgrade(w, k)),
        6 => (who.clone(), 0u8..12, any::<u8>()).prop_map(|(w, k, x)| Act::Say(w, k, x)),
        1 => (who.clone(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(w, b)| Act::Bytes(w, b)),
        1 => (who.clone(), 0u8..8).prop_map(|(w, k)| Act::Http(w, k)),
        5 => Just(Act::Turn),
        1 => any::<u16>().prop_map(Act::Pass),
        1 => who.clone().prop_map(Act::Eof),
        1 => who.clone().prop_map(Act::Reset),
        1 => who.clone().prop_map(Act::Stall),
        1 => who.prop_map(Act::Read),
        1 => any::<bool>().prop_map(Act::Late),
        2 => Just(Act::AnswerOne),
        1 => any::<bool>().prop_map(Act::StoreFails),
    ]
}

fn perform(world: &mut World, act: Act) {
    match act {
        Act::Connect(who) => world.connect(who),
        Act::Upgrade(who, kind) => {
            let paths = ["/rooms/r/ws?name=a", "/rooms/r/ws?last=5", "/ws", "/rooms/s/ws?after=3"];
            world.upgrade(who, paths[kind as usize]);
        }
        Act::Say(who, kind, x) => {
            let room = ["r", "s", "t", "u"][x as usize % 4];
            let long = "y".repeat(x as usize * 4);
            world.say(who, &match kind {
                0..=3 => format!(r#"{{"type":"send","id":{x},"room":"{room}","body":"{long}"}}"#),
                4 => format!(r#"{{"type":"send","room":"{room}","key":"k{}","body":{x}}}"#, x % 3),
                5 => format!(r#"{{"type":"join","id":{x},"room":"{room}","last":{}}}"#, x % 30),
                6 => format!(r#"{{"type":"leave","room":"{room}"}}"#),
                7 => format!(r#"{{"type":"signal","room":"{room}","body":{x}}}"#),
                8 => format!(r#"{{"type":"history","id":{x},"room":"{room}","limit":20}}"#),
                9 => format!(r#"{{"type":"members","room":"{room}"}}"#),
                10 => r#"{"type":"ping","id":1}"#.to_owned(),
                _ => "{".to_owned(),
            });
        }
        Act::Bytes(who, bytes) => world.send(who, &bytes),
        Act::Http(who, kind) => world.send(who, [
            &b"GET /rooms/r/messages?limit=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            b"POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /rooms/r/members HTTP/1.1\r\nHo",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\n",
            b"GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /rooms/r/events?last=9 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: e:3\r\n\r\n",
        ][kind as usize]),
        Act::Turn => world.turn(),
        Act::Pass(ms) => world.pass(u64::from(ms)),
        Act::Eof(who) => {
            if let Some(peer) = world.peers.get_mut(&who)
                && peer.unread.is_empty()
                && world.engine.may_read(peer.id)
            {
                peer.ended = true;
                let conn = peer.id;
                world.engine.handle(Input::Ended { conn });
            }
        }
        Act::Reset(who) => {
            if let Some(peer) = world.peers.remove(&who) {
                world.engine.handle(Input::Lost { conn: peer.id });
            }
        }
        Act::Stall(who) => {
            if let Some(peer) = world.peers.get_mut(&who) {
                peer.reads = false;
            }
        }
        Act::Read(who) => {
            if let Some(peer) = world.peers.get_mut(&who) {
                peer.reads = true;
            }
            world.take(who);
        }
        Act::Late(late) => world.answers_at_once = !late,
        Act::AnswerOne => {
            if let Some(event) = world.late.pop_front() {
                world.engine.handle(Input::Store(event.clone()));
                // A page that is answered twice is legal input.
                if matches!(event, StoreEvent::Page(_)) {
                    world.engine.handle(Input::Store(event));
                }
                world.flush();
            }
        }
        Act::StoreFails(fails) => {
            let state = if fails { Err("disk full".to_owned()) } else { Ok(()) };
            world.engine.handle(Input::Store(StoreEvent::Available(state)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_left_over(acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new();
        for act in acts {
            perform(&mut world, act);
        }
        world.answers_at_once = true;
        world.settle();
        // Every socket's and stream's messages of a room are in order, each once, holes only where they were told.
        for index in 0..5 {
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for object in world.heard(index) {
                let Some(room) = object["room"].as_str().map(str::to_owned) else { continue };
                match object["type"].as_str() {
                    Some("joined") => drop(last.insert(room, object["from"].as_u64().unwrap() - 1)),
                    Some("gap") => drop(last.insert(room, object["from"].as_u64().unwrap() - 1)),
                    Some("left") => drop(last.remove(&room)),
                    Some("message") => {
                        let seq = object["seq"].as_u64().unwrap();
                        prop_assert_eq!(last.insert(room, seq).map(|l| l + 1), Some(seq));
                    }
                    _ => {}
                }
            }
        }
        world.peers.values_mut().for_each(|peer| peer.reads = false);
        world.pass(400_000);
        prop_assert_eq!(world.engine.net.count(), 0, "a connection outlived every timeout");
        prop_assert_eq!(world.engine.app.hub.session_count(), 0);
        prop_assert_eq!(world.engine.app.hub.room_count(), 0);
        prop_assert_eq!(world.engine.deadline(), None);
    }

    /// The same bytes, in any pieces, give the same answers.
    #[test]
    fn any_split_of_the_bytes_gives_the_same(cuts in prop::collection::vec(0usize..2000, 0..30)) {
        let mut whole = World::new();
        let mut split = World::new();
        let mut bytes = Vec::new();
        for world in [&mut whole, &mut split] {
            world.connect(0);
            world.upgrade(0, "/rooms/r/ws?name=a");
            // All kinds but leaving: what one still hears of a room that one leaves depends on the turn.
            for x in (0..12u8).filter(|x| *x != 6) {
                perform(world, Act::Say(0, x, x * 20));
            }
            bytes = std::mem::take(&mut world.peers.get_mut(&0).unwrap().unread);
        }
        whole.send(0, &bytes);
        whole.settle();
        let mut ends: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            split.send(0, &bytes[start..end]);
            start = end;
            split.settle();
        }
        // Answers of different kinds may overtake each other; those of one kind keep their order.
        for kind in ["joined", "ack", "message", "error", "history", "members"] {
            let of_kind = |world: &World| -> Vec<serde_json::Value> {
                world.heard(0).into_iter().filter(|o| o["type"] == kind).collect()
            };
            if kind != "history" {
                prop_assert_eq!(of_kind(&whole), of_kind(&split));
            }
            prop_assert_eq!(of_kind(&whole).len(), of_kind(&split).len());
        }
    }
}
