//! Handshakes beyond the rate of all: who waits, in which order, for how long, and what a token that is shown is good
//! for.

use super::*;
use crate::conn::{ConnLimits, Rate};
use crate::crypto::{Token, TokenSealer};
use crate::testing::nonces;
use crate::types::{MemberId, Name, SessionClaim, SessionId};

/// Returns a world in which an address may make `own` handshakes a second, and all together `all`, twice as many at
/// once, of which a quarter is kept for those who come back.
fn world(own: u32, all: u32) -> World {
    let mut world = World::new(Sizes::USUAL);
    let rate = |count: u32| Rate::new(count, 1000, 2 * count);
    let limits = world.engine.net.limits().clone();
    world.engine.net = Connections::new(limits, Admission::new(0, rate(own), rate(all)));
    world.turn();
    world
}

/// Has a peer ask for a socket, and show this token.
fn ask(world: &mut World, index: u32, address: &str, token: Option<&str>) {
    world.connect(index, address);
    let shown = token.map(|token| format!("Sec-WebSocket-Protocol: racerd.v1, racerd.session.{token}\r\n"));
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        shown.unwrap_or_default()
    );
    world.send(index, request.as_bytes());
    world.turn();
}

fn token(world: &World, index: u32) -> String {
    world.heard(index)[0]["session"].as_str().expect("a token").to_owned()
}

/// Returns the status of a peer's answer; 0 if it has none.
fn status(world: &World, index: u32) -> u16 {
    let got = world.peers.get(&index).map(|peer| String::from_utf8_lossy(&peer.got).into_owned()).unwrap_or_default();
    got.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default()
}

/// Uses up what newcomers may have at once, from addresses of their own. Returns the next index.
fn spend(world: &mut World, first: u32, count: u32) -> u32 {
    for index in first..first + count {
        ask(world, index, &format!("198.51.{}.{}:1", index / 200, index % 200), None);
        assert_eq!(status(world, index), 101, "{index}");
    }
    first + count
}

/// The attack: many addresses, each within its own rate, ask for more than the rate of all.
#[test]
fn beyond_the_rate_of_all_addresses_take_turns_and_who_comes_back_goes_first() {
    let mut world = world(20, 100);
    ask(&mut world, 0, "192.0.2.1:1", None);
    let back = token(&world, 0);
    let mut next = spend(&mut world, 1, 149);
    for _ in 0..4 {
        for from in 0..30 {
            ask(&mut world, next, &format!("203.0.113.{from}:1"), None);
            assert_eq!(status(&world, next), 0, "it waits");
            next += 1;
        }
    }
    ask(&mut world, next, "203.0.113.0:1", None);
    assert_eq!(status(&world, next), 429, "four wait already");
    let (newcomer, resumes) = (next + 1, next + 2);
    ask(&mut world, newcomer, "192.0.2.2:1", None);
    ask(&mut world, resumes, "192.0.2.1:1", Some(&back));
    assert_eq!(status(&world, resumes), 101, "a quarter is kept for who comes back");
    assert_eq!(world.engine.net.waiting_handshakes(), 121);
    // Ten milliseconds for each of 31 addresses, and for the one that came back.
    world.pass(310);
    assert_eq!(status(&world, newcomer), 0);
    world.pass(10);
    assert_eq!(status(&world, newcomer), 101);
    world.pass(1_000);
    assert_eq!(world.engine.net.waiting_handshakes(), 0);
    assert!((150..next).all(|index| status(&world, index) == 101), "all were called within their time");
}

/// Tokens are free to get: whoever collects them must not keep newcomers out.
#[test]
fn newcomers_have_a_share_beside_those_who_come_back() {
    let mut world = world(50, 100);
    ask(&mut world, 0, "192.0.2.1:1", None);
    let first = spend(&mut world, 1, 149);
    let comes_back = |world: &mut World, index: u32| {
        let back = token(world, index - first);
        ask(world, index, &format!("203.0.113.{index}:1"), Some(&back));
    };
    (first..first + 50).for_each(|index| comes_back(&mut world, index));
    let waiting: Vec<u32> = (first + 50..first + 70).collect();
    waiting.iter().for_each(|index| comes_back(&mut world, *index));
    assert_eq!(world.engine.net.waiting_handshakes(), 20, "what is kept is spent");
    for index in 400..410 {
        ask(&mut world, index, &format!("192.0.2.{}:1", index - 300), None);
    }
    let passed = |world: &World, list: &[u32]| list.iter().filter(|index| status(world, **index) == 101).count();
    let newcomers: Vec<u32> = (400..410).collect();
    world.pass(200);
    assert_eq!((passed(&world, &waiting), passed(&world, &newcomers)), (15, 5));
    // The quarter that is kept for clients that come back fills first.
    world.pass(600);
    assert_eq!((passed(&world, &waiting), passed(&world, &newcomers)), (20, 10));
}

#[test]
fn who_waits_for_two_seconds_in_vain_is_refused_and_spends_nothing() {
    let mut world = world(4, 2);
    spend(&mut world, 0, 3);
    for index in 10..14 {
        ask(&mut world, index, "192.0.2.1:1", None);
    }
    ask(&mut world, 20, "192.0.2.2:1", None);
    world.send(20, b"");
    world.pass(1_999);
    let statuses = |world: &World| [10, 11, 12, 13, 20].map(|index| status(world, index));
    assert_eq!(statuses(&world), [101, 101, 0, 0, 101]);
    world.pass(1);
    assert_eq!(statuses(&world), [101, 101, 101, 503, 101], "the last one has its turn before others are refused");
    let refusal = String::from_utf8_lossy(&world.peers[&13].got).into_owned();
    assert!(
        refusal.contains("Retry-After: 1\r\n") && refusal.contains("too many handshakes at the moment"),
        "{refusal}"
    );
    world.pass(60_000);
    for index in 30..33 {
        ask(&mut world, index, "192.0.2.1:1", None);
        assert_eq!(status(&world, index), 101);
    }
}

/// The server was held up: what the rate allowed meanwhile comes before anybody's time is over.
#[test]
fn a_stall_of_the_server_is_nobodys_fault() {
    let mut world = world(100, 100);
    spend(&mut world, 0, 150);
    for index in 200..300 {
        ask(&mut world, index, &format!("192.0.2.{}:1", index - 200), None);
    }
    world.now.mono = world.now.mono.after(60_000);
    world.turn();
    let passed = (200..300).filter(|index| status(&world, *index) == 101).count();
    assert!((1..100).contains(&passed), "a turn has a bound, too: {passed}");
    world.settle();
    assert!((200..300).all(|index| status(&world, index) == 101));
}

#[test]
fn who_is_gone_waits_no_more_and_the_next_has_its_place() {
    let mut world = world(4, 2);
    spend(&mut world, 0, 3);
    for index in 10..14 {
        ask(&mut world, index, "192.0.2.1:1", None);
    }
    ask(&mut world, 14, "192.0.2.1:1", None);
    assert_eq!((status(&world, 14), world.engine.net.waiting_handshakes()), (429, 4));
    world.reset(10);
    world.reset(12);
    world.turn();
    ask(&mut world, 15, "192.0.2.1:1", None);
    assert_eq!((status(&world, 15), world.engine.net.waiting_handshakes()), (0, 3));
    world.pass(500);
    assert_eq!([11, 13, 15].map(|index| status(&world, index)), [101, 0, 0]);
    world.engine.handle(Input::Stop);
    world.settle();
    assert_eq!([13, 15].map(|index| status(&world, index)), [503, 503], "the server stops");
    assert_eq!(world.engine.net.waiting_handshakes(), 0);
}

/// The attack: a crowd that asks and goes at once would hold all of the line, and each of its handshakes would be made.
#[test]
fn who_hangs_up_while_it_waits_leaves_the_line_and_costs_nothing() {
    let mut world = world(50, 100);
    spend(&mut world, 0, 150);
    for index in 200..240 {
        ask(&mut world, index, &format!("203.0.113.{}:1", index - 200), None);
        if index % 2 == 0 {
            // What it sends besides does not hide that it is gone.
            world.say(index, r#"{"type":"ping","id":7}"#);
            world.turn();
        }
        world.end(index);
    }
    assert_eq!((world.engine.net.waiting_handshakes(), world.engine.net.count()), (0, 150));
    ask(&mut world, 300, "192.0.2.1:1", None);
    world.pass(10);
    assert_eq!(status(&world, 300), 101, "the first handshake that is free");
    // Whoever is told to have gone before it asks does not wait either.
    world.connect(301, "192.0.2.2:1");
    world.upgrade(301, "/ws");
    let conn = world.peers[&301].id;
    world.engine.handle(Input::HungUp { conn });
    world.turn();
    assert_eq!((world.engine.net.waiting_handshakes(), world.peers.contains_key(&301)), (0, false));
}

/// Nobody would read the answer to the handshake, and the place is another's.
#[test]
fn who_hangs_up_before_its_tls_handshake_leaves_its_place() {
    let mut world = world(1, 100);
    for index in 0..12 {
        world.connect_securely(index, "192.0.2.1:1");
        world.turn();
    }
    let waits = |world: &World, index: u32| {
        let connection = world.engine.net.get(world.peers[&index].id);
        connection.is_some_and(|connection| connection.slowed_until().is_some())
    };
    let waiting: Vec<u32> = (0..12).filter(|index| waits(&world, *index)).collect();
    assert!((3..6).contains(&waiting.len()), "{waiting:?}");
    for index in (0..12).rev() {
        let conn = world.peers[&index].id;
        world.engine.handle(Input::HungUp { conn });
        world.turn();
        assert_eq!(world.peers.contains_key(&index), !waiting.contains(&index), "{index}");
    }
    assert_eq!(world.engine.net.count(), 12 - waiting.len());
}

/// A client may send on before it has its answer, and its time to send a head does not run while it waits.
#[test]
fn what_is_sent_while_waiting_is_read_when_the_turn_has_come() {
    let mut world = world(4, 2);
    let limits = ConnLimits { header_timeout: 100, ..world.engine.net.limits().clone() };
    let rate = |count: u32| Rate::new(count, 1000, 2 * count);
    world.engine.net = Connections::new(limits, Admission::new(0, rate(4), rate(2)));
    world.turn();
    spend(&mut world, 0, 3);
    ask(&mut world, 10, "192.0.2.1:1", None);
    world.say(10, r#"{"type":"ping","id":7}"#);
    world.turn();
    let conn = world.peers[&10].id;
    assert!(!world.engine.read_on(conn), "it has no turn yet, though something of it has come");
    assert!(world.engine.net.ids().len() == 4 && status(&world, 10) == 0);
    world.pass(499);
    assert_eq!(status(&world, 10), 0);
    world.pass(1);
    assert_eq!(types(&world.heard(10)), ["welcome", "pong"]);
}

#[test]
fn streams_wait_likewise_and_who_only_asks_does_not() {
    let mut world = world(4, 2);
    spend(&mut world, 0, 3);
    world.connect(10, "192.0.2.1:1");
    world.send(10, b"GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.connect(11, "192.0.2.2:1");
    world.send(11, b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.turn();
    assert_eq!((status(&world, 10), status(&world, 11)), (0, 503));
    world.pass(500);
    assert_eq!(status(&world, 10), 200);
    assert_eq!(types(&world.heard(10)), ["joined"]);
}

/// The attack: one token, shown by many sockets from many addresses, which would have all that is kept for those who
/// come back, and go before everybody else.
#[test]
fn a_token_is_worth_one_handshake_in_five_seconds() {
    let mut world = world(50, 100);
    spend(&mut world, 0, 150);
    let (own, other) = (token(&world, 0), token(&world, 1));
    let shows = |world: &mut World, index: u32, token: &str| {
        ask(world, index, &format!("203.0.{}.{}:1", index / 200, index % 200), Some(token));
        status(world, index)
    };
    assert_eq!((200..220).map(|index| shows(&mut world, index, &own)).filter(|status| *status == 101).count(), 1);
    assert_eq!(shows(&mut world, 220, &other), 101, "others have what is kept");
    // Who only asks takes nothing of it, and the token is worth as much as before.
    let another = token(&world, 2);
    world.connect(221, "192.0.2.1:1");
    let asks = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Protocol: racerd.v1, racerd.session.{another}\r\n\r\n"
    );
    world.send(221, asks.as_bytes());
    world.turn();
    assert_eq!((status(&world, 221), shows(&mut world, 222, &another)), (503, 101));
    world.pass(5_000);
    let next = spend(&mut world, 300, 150);
    assert_eq!([0, 1].map(|n| shows(&mut world, next + n, &own)), [101, 0], "it counts again, once");
}

/// Whoever leaves the line has taken nothing, and may come again.
#[test]
fn a_token_in_line_is_worth_one_place() {
    let mut world = world(50, 100);
    spend(&mut world, 0, 150);
    let tokens: Vec<String> = (0..51).map(|index| token(&world, index)).collect();
    let shows = |world: &mut World, index: u32, token: usize| {
        ask(world, index, &format!("203.0.{}.{}:1", index / 200, index % 200), Some(&tokens[token]));
    };
    (0..50).for_each(|token| shows(&mut world, 200 + token, token as usize));
    (250..254).for_each(|index| shows(&mut world, index, 50));
    let statuses = |world: &World| [250, 251, 252, 253, 254].map(|index| status(world, index));
    world.reset(250);
    shows(&mut world, 254, 50);
    world.pass(10);
    assert_eq!(statuses(&world), [0, 0, 0, 0, 101], "it has the place of the first");
    world.pass(10);
    assert_eq!(statuses(&world), [0, 0, 0, 0, 101], "the others are newcomers");
    world.pass(600);
    assert_eq!(statuses(&world), [0, 101, 101, 101, 101]);
}

/// The session may even be parked meanwhile.
#[test]
fn who_waits_in_line_comes_back_as_the_same_member() {
    for before in [0, 29_500] {
        let mut world = world(50, 2);
        world.connect(0, "192.0.2.1:1");
        world.upgrade(0, "/rooms/r/ws?name=ann");
        world.turn();
        let (back, member) = (token(&world, 0), world.heard(0)[0]["member"].clone());
        world.reset(0);
        world.pass(before);
        let next = spend(&mut world, 1, if before == 0 { 2 } else { 3 });
        let others = [token(&world, 1), token(&world, 2)];
        ask(&mut world, next, "192.0.2.9:1", Some(&others[0]));
        assert_eq!(status(&world, next), 101, "what is kept");
        for (index, shown) in [(next + 1, &others[1]), (next + 2, &back)] {
            ask(&mut world, index, "192.0.2.1:1", Some(shown));
            assert_eq!(status(&world, index), 0);
        }
        world.peers.get_mut(&(next + 2)).unwrap().is_sealed = true;
        world.say(next + 2, &format!(r#"{{"type":"resume","id":1,"session":"{back}"}}"#));
        world.pass(1_000);
        assert_eq!(world.engine.app.hub.detached_count(), 0);
        let heard = world.heard(next + 2);
        assert_eq!(types(&heard)[..3], ["welcome", "welcome", "joined"], "after {before} ms");
        assert_eq!((&heard[1]["member"], &heard[2]["room"]), (&member, &serde_json::json!("r")));
    }
}

#[test]
fn only_a_token_that_its_socket_could_resume_with_is_worth_anything() {
    [true, false].iter().for_each(|is_latest| tokens_are_worth(*is_latest));
}

fn tokens_are_worth(is_latest: bool) {
    let mut world = world(50, 100);
    ask(&mut world, 0, "192.0.2.1:1", None);
    let first = token(&world, 0);
    world.connect(1, "192.0.2.1:1");
    world.upgrade(1, "/ws");
    world.turn();
    // The world's own judge of each peer's input expects a single `welcome`.
    world.peers.get_mut(&1).unwrap().is_sealed = true;
    world.say(1, &format!(r#"{{"type":"resume","id":1,"session":"{first}"}}"#));
    world.turn();
    let second = world.heard(1).last().unwrap()["session"].as_str().unwrap().to_owned();
    world.connect(2, "192.0.2.1:1");
    world.upgrade(2, "/ws");
    world.turn();
    world.peers.get_mut(&2).unwrap().is_sealed = true;
    world.say(2, &format!(r#"{{"type":"resume","id":1,"session":"{second}"}}"#));
    world.turn();
    let third = world.heard(2).last().unwrap()["session"].as_str().unwrap().to_owned();
    let next = spend(&mut world, 3, 147);
    let sealed = |key: [u8; 32], issued, private| {
        let claim = SessionClaim {
            session: SessionId([7; 16]),
            member: MemberId::from_random(7),
            name: Name::parse("ann").unwrap(),
            generation: 1,
            private,
        };
        TokenSealer::new(&key, nonces(9)).seal(&Token { claim, sub: None, issued }).unwrap()
    };
    // That of the world's secrets.
    let key = [1; 32];
    let cases = [
        (if is_latest { third.clone() } else { second }, 101),
        (first, 0),
        (format!("{third}A"), 0),
        ("A".repeat(300), 0),
        (sealed(key, 0, false), 101),
        (sealed([3; 32], 0, false), 0),
        (sealed(key, 0, true), 0),
    ];
    for (number, (token, expected)) in cases.iter().enumerate() {
        let index = next + number as u32;
        ask(&mut world, index, &format!("203.0.113.{number}:1"), Some(token));
        assert_eq!(status(&world, index), *expected, "{number}: {token}");
        let got = String::from_utf8_lossy(&world.peers[&index].got).into_owned();
        let offered = got.matches("Sec-WebSocket-Protocol: racerd.v1\r\n").count();
        assert_eq!((offered, got.contains("racerd.session")), (usize::from(*expected == 101), false), "{got}");
    }
}
