//! The whole pure machine, bytes in and bytes out, in the same world as under the fuzzer: named scenes, and steps in
//! any order.

mod access;
mod ends;
mod events;
mod handshakes;
mod places;
mod promises;
mod rates;
mod sealed;
mod shares;
mod turns;

use proptest::prelude::*;

use super::Chat;
use crate::engine::*;
use crate::fuzzing::world::{Sizes, World};
use crate::fuzzing::ws_stream::masked;
use crate::store::{Standing, StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis, WallMillis};

impl World {
    /// Returns the JSON objects that a peer got over its WebSocket or event stream.
    fn heard(&self, index: u32) -> Vec<serde_json::Value> {
        self.peers.get(&index).map(|peer| objects(&peer.got)).unwrap_or_default()
    }

    fn comes(&mut self, index: u32) {
        self.connect(index, "127.0.0.1:9");
    }
}

/// Lets a turn begin at this time, and ends what is over: no peer waits for the server.
fn turn_at(engine: &mut Engine<Chat>, now: Now) {
    engine.begin_turn(now);
    engine.expire(now.mono, |_| false);
}

/// Returns a time this many milliseconds after the start, in 1970.
fn after(milliseconds: u64) -> Now {
    Now { mono: Millis(milliseconds), wall: WallMillis(0) }
}

/// A store that does not answer delays the answer to a close by a second at most.
#[test]
fn the_answer_to_a_close_waits_a_second_for_acknowledgements() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/rooms/r/ws");
    world.settle();
    let sends = |world: &mut World, index| {
        world.answers_at_once = false;
        world.say(index, r#"{"type":"send","id":1,"body":1}"#);
        world.say(index, r#"{"type":"send","id":2,"body":2}"#);
        world.send(index, &masked(0x88, &1000u16.to_be_bytes(), [1, 2, 3, 4]));
        world.turn();
    };
    sends(&mut world, 0);
    let closed = |world: &World| world.peers[&0].got.ends_with(&[0x88, 2, 0x03, 0xe8]);
    world.pass(999);
    assert!(!closed(&world) && world.engine.app.hub.session_count() == 0, "the session is over at once");
    world.pass(1);
    assert!(closed(&world));
    assert!(!types(&world.heard(0)).contains(&"ack"));
    // The first acknowledgement of two is not enough; the second one lets the close go out at once.
    world.answers_at_once = true;
    world.settle();
    world.comes(1);
    world.upgrade(1, "/rooms/r/ws");
    world.settle();
    sends(&mut world, 1);
    world.pass(500);
    world.answers_at_once = true;
    world.turn();
    assert!(world.peers[&1].got.ends_with(&[0x88, 2, 0x03, 0xe8]));
    assert_eq!(types(&world.heard(1)).iter().filter(|kind| **kind == "ack").count(), 2);
    world.pass(20_000);
    assert_eq!(world.engine.net.count(), 0);
}

fn objects(bytes: &[u8]) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(bytes);
    if let Some((_, stream)) = text.split_once("Content-Type: text/event-stream\r\n") {
        return stream
            .lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some((_, stream)) = text.split_once("Content-Type: text/event-stream\r\n") {
        // An event without its empty line is not complete yet.
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
fn a_message_is_committed_then_acknowledged_then_delivered() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.settle();
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.turn();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members"], "nothing goes out before the commit");
    world.answers_at_once = true;
    world.turn();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members", "ack", "message"]);
}

#[test]
fn an_answer_for_a_gone_connection_reaches_nobody() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.settle();
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.say(0, r#"{"type":"history","id":2}"#);
    world.turn();
    let gone = world.peers[&0].id;
    world.reset(0);
    // The next connection gets the same slot before the answers come.
    world.comes(0);
    world.upgrade(0, "/rooms/other/ws?name=b");
    world.turn();
    world.answers_at_once = true;
    world.settle();
    assert_eq!(types(&world.heard(0)), ["welcome", "joined", "members"]);
    // Late events of the old connection reach nobody, either.
    world.engine.handle(Input::Bytes { conn: gone, bytes: &mut [0x88, 0x80, 0, 0, 0, 0] });
    world.engine.handle(Input::Ended { conn: gone });
    world.engine.handle(Input::Wrote { conn: gone, taken: 9 });
    world.settle();
    assert_eq!(world.engine.net.count(), 1);
}

#[test]
fn a_sender_at_its_in_flight_limit_is_not_read_and_loses_nothing() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/rooms/r/ws?name=a&presence=off");
    world.settle();
    world.answers_at_once = false;
    for id in 0..20 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":{id}}}"#));
    }
    world.turn();
    assert!(!world.engine.may_read(world.peers[&0].id), "four sends await the store");
    world.answers_at_once = true;
    world.settle();
    let acks: Vec<u64> =
        world.heard(0).iter().filter(|o| o["type"] == "ack").map(|o| o["id"].as_u64().unwrap()).collect();
    assert_eq!(acks, (0..20).collect::<Vec<_>>());
    assert!(world.engine.may_read(world.peers[&0].id));
}

#[test]
fn a_slow_member_lags_and_reads_everything_in_the_end() {
    let mut world = World::new(Sizes::USUAL);
    for index in 0..2 {
        world.comes(index);
        world.upgrade(index, &format!("/rooms/r/ws?name=n{index}&presence=off"));
    }
    world.settle();
    world.peers.get_mut(&1).unwrap().takes = 0;
    let body = "x".repeat(100);
    for id in 0..30 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":"{body}"}}"#));
        world.settle();
    }
    world.peers.get_mut(&1).unwrap().takes = usize::MAX;
    for _ in 0..50 {
        world.take(1, usize::MAX);
        world.turn();
    }
    let heard = world.heard(1);
    let seqs: Vec<u64> = heard.iter().filter(|o| o["type"] == "message").map(|o| o["seq"].as_u64().unwrap()).collect();
    let gaps = heard.iter().filter(|o| o["type"] == "gap").count();
    assert!(seqs.windows(2).all(|w| w[0] < w[1]), "{seqs:?}");
    assert_eq!(*seqs.last().unwrap(), 30);
    // The log of this world is small: what it no longer holds is reported as a gap, never omitted in silence.
    assert!(seqs.windows(2).filter(|w| w[1] != w[0] + 1).count() <= gaps, "{seqs:?}");
}

#[test]
fn pings_and_their_deadline() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/ws?name=a");
    world.settle();
    world.pass(24_000);
    assert!(!world.peers[&0].got.ends_with(&[0x89, 0]));
    world.pass(1_001);
    assert!(world.peers[&0].got.ends_with(&[0x89, 0]), "a silent connection is pinged");
    // Any byte is a sign of life, even half a frame.
    world.pass(50_000);
    world.send(0, &[0x81]);
    world.turn();
    world.pass(20_000);
    assert_eq!(world.engine.net.count(), 1);
    world.pass(90_000);
    assert_eq!(world.engine.net.count(), 0, "a silent connection is dropped in the end");
}

#[test]
fn a_graceful_shutdown_tells_everyone_and_ends() {
    let mut world = World::new(Sizes::USUAL);
    for index in 0..3 {
        world.comes(index);
    }
    world.upgrade(0, "/rooms/r/ws?name=a");
    world.upgrade(1, "/rooms/r/ws?name=b");
    world.settle();
    world.peers.get_mut(&1).unwrap().takes = 0;
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.turn();
    world.engine.handle(Input::Stop);
    world.turn();
    assert!(!types(&world.heard(0)).contains(&"bye"), "accepted messages are committed first");
    world.answers_at_once = true;
    world.settle();
    let heard = world.heard(0);
    assert_eq!(types(&heard)[heard.len() - 3..], ["ack", "message", "bye"]);
    assert!(world.peers[&0].got.ends_with(b"shutting down"));
    assert!(!world.engine.is_finished(), "one client does not read");
    world.pass(10_000);
    assert!(world.engine.is_finished());
}

/// Five connections have messages that wait here for acknowledgements. When all of these come at once, the connections
/// do not all resume at once.
#[test]
fn resumed_connections_keep_the_bound_on_waiting_appends() {
    let sizes = Sizes::USUAL;
    let mut world = World::new(sizes);
    for index in 0..5 {
        world.comes(index);
        world.upgrade(index, "/rooms/r/ws?name=a");
    }
    world.settle();
    world.answers_at_once = false;
    let large = 1200;
    for index in 0..5 {
        for bytes in [100, 100, 100, 100, large, large, large, large] {
            world.say(index, &format!(r#"{{"type":"send","body":"{:.<bytes$}"}}"#, ""));
        }
    }
    world.turn();
    while world.engine.app.undecided().0 > 0 {
        world.store.decide(usize::MAX);
        while let Some(event) = world.store.next_decided() {
            world.answer(Some(event));
            let (_, bytes) = world.engine.app.undecided();
            assert!(bytes <= sizes.append_bytes, "{bytes} bytes wait for the store");
        }
        world.turn();
    }
    world.answers_at_once = true;
    world.settle();
    let seqs = world.heard(0).iter().filter_map(|o| o["seq"].as_u64()).max();
    assert_eq!(seqs, Some(5 * 8), "everything is delivered in the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The fuzzer's steps, chosen at random.
    #[test]
    fn whatever_happens_nothing_is_left_over(steps in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::fuzzing::engine(&steps);
    }

    /// The same bytes give the same answers, however they are split.
    #[test]
    fn any_split_of_the_bytes_gives_the_same(cuts in prop::collection::vec(0usize..2000, 0..30)) {
        let mut whole = World::new(Sizes::USUAL);
        let mut split = World::new(Sizes::USUAL);
        let mut bytes = Vec::new();
        for world in [&mut whole, &mut split] {
            world.comes(0);
            world.upgrade(0, "/rooms/r/ws?name=a");
            // Every request but `leave`: which messages of a room still arrive after it depends on the turn.
            for (kind, fields) in [
                ("send", r#","body":"first""#),
                ("send", r#","room":"s","body":"too early""#),
                ("join", r#","room":"s","last":5"#),
                ("send", r#","room":"s","key":"k","body":1"#),
                ("send", r#","room":"s","key":"k","body":2"#),
                ("signal", r#","body":1"#),
                ("history", r#","limit":20"#),
                ("members", ""),
                ("ping", ""),
            ] {
                world.ask(0, kind, fields);
            }
            world.send(0, &masked(0x81, b"{", [1, 2, 3, 4]));
            world.ask(0, "send", &format!(r#","body":"{}""#, "y".repeat(200)));
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
        // Answers of different types and rooms may overtake each other; those of one type and room keep their order.
        for kind in ["joined", "ack", "message", "error", "history", "members", "pong"] {
            for room in ["r", "s"] {
                let of_kind = |world: &World| -> Vec<serde_json::Value> {
                    let is_it = |o: &serde_json::Value| o["type"] == kind && o["room"].as_str().is_none_or(|r| r == room);
                    let mut list: Vec<_> = world.heard(0).into_iter().filter(is_it).collect();
                    if kind == "error" {
                        // Some errors come at once, others with the store's answer.
                        list.sort_by_key(|o| o.to_string());
                    }
                    list
                };
                prop_assert_eq!(of_kind(&whole).len(), of_kind(&split).len());
                // The content of these depends on the moment.
                if !["history", "pong"].contains(&kind) {
                    prop_assert_eq!(of_kind(&whole), of_kind(&split));
                }
            }
        }
    }
}
