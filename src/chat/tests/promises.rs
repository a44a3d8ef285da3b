//! Promises of the settings and of the protocol, one by one: sessions and their tokens, charges against a budget, the
//! start of timeouts, and the state that a reconnect may rely on.

use super::*;
use crate::testing::Failure;

/// Opens a WebSocket on this path.
pub(super) fn open(world: &mut World, index: u32, path: &str) {
    world.comes(index);
    world.upgrade(index, path);
    world.settle();
}

/// Returns the token of the last `welcome`.
pub(super) fn token(world: &World, index: u32) -> String {
    let heard = world.heard(index);
    let welcome = heard.iter().rev().find(|object| object["type"] == "welcome").expect("a welcome");
    welcome["session"].as_str().expect("a token").to_owned()
}

pub(super) fn resume(world: &mut World, index: u32, token: &str) {
    resume_at(world, index, token, "");
}

/// Resumes with these cursors.
pub(super) fn resume_at(world: &mut World, index: u32, token: &str, cursors: &str) {
    open(world, index, "/ws");
    // The world's own judge of each peer's input expects a single `welcome`.
    if let Some(peer) = world.peers.get_mut(&index) {
        peer.is_sealed = true;
    }
    world.say(index, &format!(r#"{{"type":"resume","id":77,"session":"{token}","cursors":{{{cursors}}}}}"#));
}

/// Returns the codes of the errors that a peer got.
pub(super) fn errors(world: &World, index: u32) -> Vec<String> {
    let heard = world.heard(index);
    let errors = heard.iter().filter(|object| object["type"] == "error");
    errors.map(|object| object["code"].as_str().expect("a code").to_owned()).collect()
}

#[test]
fn a_parked_session_survives_a_client_that_leaves_during_its_claim() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    let token = token(&world, 0);
    world.reset(0);
    world.pass(31_000);
    assert_eq!(world.engine.app.hub.session_count(), 0, "it is parked");
    // A client asks to resume it, and is gone by the time the store has handed the session out.
    resume(&mut world, 1, &token);
    world.answers_at_once = false;
    world.turn();
    world.reset(1);
    world.answers_at_once = true;
    world.settle();
    resume(&mut world, 2, &token);
    world.settle();
    let heard = world.heard(2);
    let back = heard.iter().rposition(|object| object["type"] == "welcome").expect("a welcome");
    assert_eq!(heard[back]["name"], "ann");
    // The client named no room: only the parked session knows this one.
    assert!(heard[back..].iter().any(|object| object["type"] == "joined" && object["room"] == "r"), "{heard:?}");
}

#[test]
fn a_token_is_good_for_park_for_and_no_longer() {
    for (seconds, is_good) in [(604_700, true), (604_900, false)] {
        let mut world = World::new(Sizes::USUAL);
        // A session in no room is not kept: only the token has its identity.
        open(&mut world, 0, "/ws?name=ann");
        let token = token(&world, 0);
        world.reset(0);
        world.pass(seconds * 1000);
        resume(&mut world, 1, &token);
        world.settle();
        let refused = errors(&world, 1);
        assert_eq!(refused.is_empty(), is_good, "after {seconds} s: {refused:?}");
        assert!(is_good || refused == ["not_resumable"], "{refused:?}");
        assert_eq!(world.heard(1).last().unwrap()["name"] == "ann", is_good);
    }
}

/// It was in as many rooms as the limit allowed, and then a reload lowered the limit.
#[test]
fn a_session_in_more_rooms_than_there_may_be_by_now_is_resumed() {
    for (away, joined, refused) in [(1_000, 3, vec![]), (31_000, 1, vec!["too_many_rooms"])] {
        let mut world = World::new(Sizes::USUAL);
        open(&mut world, 0, "/ws?name=ann");
        for room in ["r", "s", "t"] {
            world.say(0, &format!(r#"{{"type":"join","id":1,"room":"{room}"}}"#));
        }
        world.settle();
        let token = token(&world, 0);
        let mut limits = Sizes::USUAL.limits();
        limits.app.hub.rooms_per_session = 1;
        limits.app.chat.welcome.rooms_per_session = 1;
        world.engine.set_limits(limits);
        world.reset(0);
        world.pass(away);
        resume_at(
            &mut world,
            1,
            &token,
            r#""r":{"epoch":"e","seq":0},"s":{"epoch":"e","seq":0},"t":{"epoch":"e","seq":0}"#,
        );
        world.settle();
        assert_eq!(errors(&world, 1), refused, "after {away} ms");
        let heard = world.heard(1);
        assert_eq!(heard.iter().filter(|object| object["type"] == "joined").count(), joined, "{heard:?}");
    }
}

#[test]
fn a_session_gets_a_fresh_token_at_half_the_life_of_the_last() {
    let mut world = World::new(Sizes::USUAL);
    let mut limits = Sizes::USUAL.limits();
    limits.app.chat.park_for = 40;
    world.engine.set_limits(limits);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    let first = token(&world, 0);
    let ask = |world: &mut World, after: u64| {
        world.pass(after);
        world.say(0, r#"{"type":"ping","id":9}"#);
        world.settle();
        let pong = world.heard(0).into_iter().rfind(|object| object["type"] == "pong").unwrap();
        pong["session"].as_str().map(str::to_owned)
    };
    assert_eq!(ask(&mut world, 19_000), None, "the first token is young");
    let second = ask(&mut world, 3_000).expect("a fresh token");
    assert_eq!(ask(&mut world, 1_000), None, "one fresh token is enough");
    assert!(ask(&mut world, 21_000).is_some(), "the fresh token ages, too");
    assert_ne!(first, second);
    // After a crash now, the first token has expired, and the second has not.
    world.reset(0);
    resume(&mut world, 1, &second);
    world.settle();
    assert_eq!(errors(&world, 1), [""; 0]);
}

#[test]
fn a_close_without_a_code_is_a_leave_and_no_drop() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    open(&mut world, 1, "/rooms/r/ws?name=bob");
    // The frame that `close()` in a browser sends.
    world.send(1, &masked(0x88, b"", [1, 2, 3, 4]));
    world.settle();
    let heard = world.heard(0);
    let last = heard.last().unwrap();
    assert_eq!((&last["type"], &last["count"]), (&"presence".into(), &1.into()), "{last}");
    assert_eq!(last["events"][0]["event"], "leave");
    assert_eq!((world.engine.app.hub.session_count(), world.engine.app.hub.detached_count()), (1, 0));
}

#[test]
fn what_the_store_cannot_do_is_no_fault_of_the_client() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann&presence=off");
    world.store.failure = Failure::Refused;
    for _ in 0..60 {
        world.ask(0, "send", r#","body":1"#);
        world.settle();
    }
    assert_eq!(errors(&world, 0), ["storage_unavailable"; 60]);
    // An encrypted signal is looked up in the log, which cannot answer either.
    let (nonce, said) = ("n".repeat(32), "w".repeat(22));
    let body = format!(r#","body":{{"e2e":1,"k":"k","n":"{nonce}","c":"{said}"}}"#);
    // More often than the error budget allows, and within the request rate.
    for _ in 0..30 {
        world.ask(0, "signal", &body);
        world.settle();
    }
    assert_eq!(errors(&world, 0), ["storage_unavailable"; 90]);
    world.store.failure = Failure::No;
    world.ask(0, "send", r#","body":1"#);
    world.settle();
    assert_eq!(world.heard(0).last().unwrap()["type"], "message", "the socket is still open, and works");
}

/// The reason is the same by WebSocket and by HTTP, and not that of a failing store.
#[test]
fn a_room_too_many_is_named_as_such() {
    let mut world = World::new(Sizes::USUAL);
    world.store.set_rooms_max(1);
    open(&mut world, 0, "/rooms/r/ws?name=ann&presence=off");
    open(&mut world, 1, "/rooms/other/ws?name=ann&presence=off");
    for index in [0, 1] {
        world.ask(index, "send", r#","body":1"#);
        world.settle();
    }
    assert_eq!(world.heard(0).last().unwrap()["type"], "message");
    let refused = world.heard(1).pop().unwrap();
    assert_eq!(refused["code"], "storage_unavailable");
    let reason = refused["message"].as_str().unwrap();
    assert!(reason.contains("as many rooms as it takes (1)") && reason.contains("nothing was stored"), "{reason}");
    world.comes(2);
    let head = "POST /rooms/third/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    world.send(2, format!("{head}Content-Length: 1\r\n\r\n1").as_bytes());
    world.settle();
    let answer = String::from_utf8_lossy(&world.peers[&2].got).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 10\r\n"), "{answer}");
    assert!(answer.contains(&format!("\"detail\":\"{reason}\"")), "{answer}");
    // A refused message does not count as waiting for the store.
    world.ask(0, "send", r#","body":2"#);
    world.settle();
    assert_eq!(world.heard(0).last().unwrap()["seq"], 2);
}

/// A client over its rate is told so, and not read until one more is free: that is no fault of a client that is fast.
#[test]
fn requests_past_the_rate_are_refused_one_at_a_time_and_spend_no_error_budget() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/ws?name=ann");
    for _ in 0..200 {
        world.say(0, r#"{"type":"ping"}"#);
    }
    world.settle();
    assert_eq!(errors(&world, 0), ["rate_limited"]);
    assert_eq!(world.engine.app.hub.session_count(), 1);
    world.pass(60_000);
    let (refused, answered) =
        (errors(&world, 0).len(), types(&world.heard(0)).iter().filter(|kind| **kind == "pong").count());
    assert_eq!(refused + answered, 200, "every one is answered in the end");
    assert!(answered >= 150, "{answered} of 200");
    assert_eq!(world.engine.app.hub.session_count(), 1);
}

/// A refusal that only the store can decide counts, too.
#[test]
fn reusing_a_key_for_other_bodies_spends_the_error_budget() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann&presence=off");
    for body in 0..30 {
        world.ask(0, "send", &format!(r#","key":"k","body":{body}"#));
        world.settle();
    }
    let refused = errors(&world, 0);
    assert!(refused.len() == 21 && refused.iter().all(|code| code == "key_reused"), "{refused:?}");
    assert!(world.peers[&0].got.ends_with(b"\x03\xf0too many faulty requests"), "closed with 1008");
}

#[test]
fn history_of_a_room_that_was_not_joined_is_refused() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/secret/ws?name=ann");
    world.say(0, r#"{"type":"send","id":1,"body":"for the room"}"#);
    open(&mut world, 1, "/ws?name=bob");
    for request in ["history", "members", "send", "signal", "leave"] {
        let body = if matches!(request, "send" | "signal") { r#","body":1"# } else { "" };
        world.say(1, &format!(r#"{{"type":"{request}","id":5,"room":"secret"{body}}}"#));
        world.settle();
    }
    assert_eq!(errors(&world, 1), ["not_joined"; 5]);
    assert_eq!(world.heard(1).len(), 6, "and nothing else");
}

#[test]
fn a_later_request_has_as_long_for_its_head_as_the_first() {
    let mut world = World::new(Sizes::USUAL);
    world.comes(0);
    world.send(0, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.settle();
    let answers = |world: &World| world.peers[&0].got.windows(13).filter(|w| w == b"HTTP/1.1 200 ").count();
    // The connection is idle for longer than `header_timeout`, but not for `keep_alive`.
    world.pass(60_000);
    world.send(0, b"GET /healthz HTTP/1.1\r\n");
    world.turn();
    world.pass(9_000);
    world.send(0, b"Host: localhost\r\n\r\n");
    world.settle();
    assert_eq!(answers(&world), 2);
    // It gets no more time than `header_timeout`.
    world.pass(60_000);
    world.send(0, b"GET /healthz HTTP/1.1\r\n");
    world.turn();
    world.pass(9_900);
    assert_eq!(answers(&world), 2);
    assert!(!world.peers[&0].got.windows(13).any(|w| w == b"HTTP/1.1 408 "));
    world.pass(200);
    assert!(world.peers[&0].got.windows(13).any(|w| w == b"HTTP/1.1 408 "));
}

/// A stream that is told of a gap and then breaks resumes with the first message after the gap, not the second.
#[test]
fn a_gap_in_a_stream_is_a_place_to_come_back_to() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=a&presence=off");
    world.comes(1);
    world.send(1, b"GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.settle();
    world.peers.get_mut(&1).unwrap().takes = 0;
    let body = "x".repeat(100);
    for id in 0..60 {
        world.say(0, &format!(r#"{{"type":"send","id":{id},"body":"{body}"}}"#));
        world.settle();
    }
    world.peers.get_mut(&1).unwrap().takes = usize::MAX;
    for _ in 0..50 {
        world.take(1, usize::MAX);
        world.turn();
    }
    let text = String::from_utf8_lossy(&world.peers[&1].got).into_owned();
    let events: Vec<&str> = text.split("\n\n").collect();
    let gap = events.iter().position(|event| event.contains("event: gap\n")).expect("a gap");
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned).unwrap_or_default()
    };
    let id = field(events[gap], "id: ");
    let data: serde_json::Value = serde_json::from_str(&field(events[gap], "data: ")).unwrap();
    let from = data["from"].as_u64().expect("a seq");
    assert!(from > 1 && from <= 60, "in mid-stream: {data}");
    world.comes(2);
    let again = format!("GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {id}\r\n\r\n");
    world.send(2, again.as_bytes());
    world.settle();
    let heard = world.heard(2);
    let first = heard.iter().find(|object| object["type"] == "message").expect("a message");
    assert_eq!(first["seq"], from, "{id}");
    assert!(heard.iter().all(|object| object["type"] != "gap"));
}

#[test]
fn a_shutdown_does_not_wait_for_a_store_that_died() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    world.answers_at_once = false;
    world.say(0, r#"{"type":"send","id":1,"body":1}"#);
    world.turn();
    world.store.is_dead = true;
    world.answer(Some(StoreEvent::Died("the disk is gone".to_owned())));
    world.engine.handle(Input::Stop);
    world.settle();
    assert_eq!(world.heard(0).last().unwrap()["type"], "bye", "appends that will never be answered delay nothing");
}

/// A failed write is noticed after the turn's deliveries. The deliveries that follow from it start another turn at
/// once, instead of waiting for the next event.
#[test]
fn a_member_found_gone_at_the_flush_is_announced_at_once() {
    let mut world = World::new(Sizes::USUAL);
    let mut limits = Sizes::USUAL.limits();
    (limits.app.chat.resume_within, limits.app.hub.resume_within) = (0, 0);
    world.engine.set_limits(limits);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    open(&mut world, 1, "/rooms/r/ws?name=bob");
    assert!(!world.engine.has_dirty() && world.engine.deadline() > Some(world.now.mono));
    let conn = world.peers[&1].id;
    world.engine.handle(Input::Lost { conn });
    assert!(world.engine.has_dirty(), "ann is to hear that bob left");
    assert_eq!(world.engine.deadline(), Some(world.now.mono));
    world.settle();
    let left = |object: &serde_json::Value| object["events"][0]["event"] == "leave";
    assert!(world.heard(0).iter().any(left), "{:?}", world.heard(0));
}

/// A server that was held up for longer than `resume-within` reads what has come before it gives up whoever has not.
#[test]
fn a_client_that_came_back_while_the_server_was_held_up_has_come_in_time() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    let token = token(&world, 0);
    world.reset(0);
    open(&mut world, 1, "/ws");
    if let Some(peer) = world.peers.get_mut(&1) {
        peer.is_sealed = true;
    }
    let asked_at = world.now.mono;
    world.now.mono = asked_at.after(31_000);
    world.engine.begin_turn(world.now);
    world.say(1, &format!(r#"{{"type":"resume","id":77,"session":"{token}"}}"#));
    world.feed(1, usize::MAX);
    world.engine.expire(asked_at, |_| false);
    let mut requests = Vec::new();
    world.engine.take_requests(&mut requests);
    let [StoreRequest::Mark(mark)] = &requests[..] else { panic!("nothing is parked or claimed: {requests:?}") };
    assert_eq!((mark.standing, mark.asker), (Standing::Presented(1), None), "it is noted that the token was presented");
    world.settle();
    let heard = world.heard(1);
    let back = heard.iter().rposition(|object| object["type"] == "welcome").expect("a welcome");
    assert_eq!((heard[back]["name"].as_str(), errors(&world, 1)), (Some("ann"), vec![]), "{heard:?}");
}
