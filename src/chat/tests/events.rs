//! Event streams through the whole machine: they get the same messages as WebSockets, and end as they should.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::conn::Rate;
use crate::store::{ReadFailed, Why};

fn follow(world: &mut World, index: u32, path: &str, headers: &str) {
    world.comes(index);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    world.send(index, request.as_bytes());
}

fn text(world: &World, index: u32) -> String {
    String::from_utf8_lossy(&world.peers[&index].got).into_owned()
}

#[test]
fn sockets_and_streams_hear_the_same() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.upgrade(0, "/rooms/r/ws?name=a");
    follow(&mut world, 1, "/rooms/r/events", "");
    follow(&mut world, 2, "/rooms/r/events?name=b", "");
    world.settle();
    for id in 1..=3 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":[{id},"\n"]}}"#));
        world.say(0, r#"{"type":"signal","body":"types"}"#);
        world.settle();
    }
    let messages = |world: &World, index| -> Vec<serde_json::Value> {
        world.heard(index).into_iter().filter(|object| object["type"] == "message").collect()
    };
    assert_eq!(messages(&world, 0).len(), 3);
    for stream in [1, 2] {
        assert_eq!(messages(&world, stream), messages(&world, 0));
        let heard = world.heard(stream);
        let expected = ["joined", "message", "signal", "message", "signal", "message", "signal"];
        assert_eq!(BTreeSet::from_iter(types(&heard)), BTreeSet::from(expected));
        assert_eq!(heard.len(), expected.len());
        assert!(text(&world, stream).contains("\nid: e:3\n"));
    }
    assert!(world.heard(0).iter().all(|object| object["type"] != "presence"), "a listener is not announced");
    // A listener that drops is neither waited for nor parked.
    let conn = world.peers[&1].id;
    world.engine.handle(Input::Lost { conn });
    world.settle();
    assert_eq!((world.engine.app.hub.session_count(), world.engine.app.hub.detached_count()), (2, 0));
}

/// A stream whose first read fails would be silent for ever; its client has to learn that it must reconnect.
#[test]
fn a_stream_that_cannot_begin_ends() {
    let mut world = World::new(Sizes::USUAL);
    follow(&mut world, 0, "/rooms/r/events?last=3", "");
    turn_at(&mut world.engine, world.now);
    let peer = world.peers.get_mut(&0).unwrap();
    let (conn, mut bytes) = (peer.id, std::mem::take(&mut peer.unread));
    world.engine.handle(Input::Bytes { conn, bytes: &mut bytes });
    world.engine.end_turn(usize::MAX);
    let mut requests = Vec::new();
    world.engine.take_requests(&mut requests);
    let read =
        requests.into_iter().find_map(|request| if let StoreRequest::Read(read) = request { Some(read) } else { None });
    let read = read.expect("the log is read");
    let failed = ReadFailed { ticket: read.ticket, room: read.room, why: Why::Disk };
    world.engine.handle(Input::Store(StoreEvent::ReadFailed(failed)));
    world.settle();
    let text = text(&world, 0);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\r\n\r\nretry: "), "{text}");
    let bye = "event: bye\ndata: {\"type\":\"bye\",\"reason\":\"storage_unavailable\",\"message\":\"the server's disk reports errors; the room's messages cannot be read now\"}\n\n";
    assert!(text.ends_with(bye), "{text}");
    assert_eq!(world.engine.app.hub.session_count(), 0);
    world.pass(20_000);
    assert_eq!(world.engine.net.count(), 0);
}

/// A broadcast to many streams does not make all their comments due at the same moment.
#[test]
fn comments_have_jitter() {
    let mut world = World::new(Sizes::USUAL);
    for index in 0..40 {
        follow(&mut world, index, "/rooms/r/events", "");
    }
    world.comes(40);
    world.upgrade(40, "/rooms/r/ws?presence=off");
    world.settle();
    world.say(40, r#"{"type":"send","body":1}"#);
    world.settle();
    let said = world.now.mono;
    let mut times: BTreeMap<u32, u64> = BTreeMap::new();
    while times.len() < 40 && world.now.mono.since(said) < 30_000 {
        world.pass(100);
        for index in 0..40 {
            if world.peers[&index].got.ends_with(b"\n:\n\n") {
                times.entry(index).or_insert(world.now.mono.since(said));
            }
        }
    }
    assert_eq!(times.len(), 40);
    // An eighth of the ping period of 25 s.
    assert!(times.values().all(|ms| (21_800..=25_000).contains(ms)), "{times:?}");
    assert!(BTreeSet::from_iter(times.values()).len() > 15, "{times:?}");
}

/// Each client is told a time of its own to return, and more clients are spread over a longer time.
#[test]
fn returns_are_spread_over_the_handshake_rate() {
    let spread = |count: u32| {
        let mut world = World::new(Sizes::USUAL);
        let limits = world.engine.net.limits().clone();
        world.engine.net =
            Connections::new(limits, Admission::new(0, Rate::new(0, 1, 1), Rate::new(100, 1000, 10_000)));
        for index in 0..count {
            world.comes(index);
            world.upgrade(index, "/rooms/r/ws?presence=off");
        }
        world.settle();
        world.engine.handle(Input::Stop);
        world.settle();
        let time = |index| world.heard(index).last().and_then(|bye| bye["reconnect_after_ms"].as_u64());
        let mut times: Vec<u64> = (0..count).filter_map(time).collect();
        assert_eq!(times.len(), count as usize);
        times.sort_unstable();
        (times[0], times[times.len() / 2], times[times.len() - 1])
    };
    // 100 at 100/s: within two seconds. 1000: ten more.
    let (first, middle, last) = spread(100);
    assert!(first >= 250 && (800..1700).contains(&middle) && (1500..2250).contains(&last), "{first} {middle} {last}");
    let (first, middle, last) = spread(1000);
    assert!(
        first < 500 && (4700..6800).contains(&middle) && (10_500..11_250).contains(&last),
        "{first} {middle} {last}"
    );
}
