//! Places for connections, where few are free: what an address may hold, who gives one up, and who gets the last.

use super::*;
use crate::conn::Rate;

/// Returns a world with 64 places.
fn world() -> World {
    let mut world = World::new(Sizes::USUAL);
    let (limits, none) = (world.engine.net.limits().clone(), Rate::new(0, 1, 1));
    world.engine.net = Connections::new(limits, Admission::new(0, none, none));
    world.engine.net.set_places(Some(64));
    world.turn();
    world
}

/// Connects from the host with this number, in excess or not.
fn connect(world: &mut World, index: u32, host: u32, is_excess: bool) {
    let address = format!("192.0.{}.{}:1", 2 + host / 200, host % 200);
    match is_excess {
        true => world.connect_in_excess(index, &address),
        false => world.connect(index, &address),
    }
    world.turn();
}

/// Returns the status of the answer to an upgrade: 0 if there is none, 1 if the connection is gone without one.
fn upgraded(world: &mut World, index: u32, token: Option<&str>) -> u16 {
    if !world.peers.contains_key(&index) {
        return 1;
    }
    match token {
        None => world.upgrade(index, "/ws"),
        Some(token) => {
            let request = format!(
                "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Protocol: racerd.v1, racerd.session.{token}\r\n\r\n"
            );
            world.send(index, request.as_bytes());
        }
    }
    world.turn();
    status(world, index)
}

fn status(world: &World, index: u32) -> u16 {
    let got = world.peers.get(&index).map(|peer| String::from_utf8_lossy(&peer.got).into_owned()).unwrap_or_default();
    got.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default()
}

fn token(world: &World, index: u32) -> String {
    world.heard(index)[0]["session"].as_str().expect("a token").to_owned()
}

fn joins(world: &mut World, index: u32, host: u32) -> u16 {
    connect(world, index, host, false);
    upgraded(world, index, None)
}

#[test]
fn an_address_has_more_than_a_quarter_only_while_a_quarter_is_free() {
    let mut world = world();
    let statuses: Vec<u16> = (0..100).map(|index| joins(&mut world, index, 0)).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(101), count(429), count(1)), (48, 8, 44), "told, then without a word: {statuses:?}");
    assert_eq!((0..8).map(|n| joins(&mut world, 100 + n, 1 + n)).collect::<Vec<_>>(), [101; 8], "others have room");
    world.pass(2_000);
    // A quarter is an address's at any time, while there is room.
    let statuses: Vec<u16> = (0..8).map(|n| joins(&mut world, 200 + n, 50)).collect();
    assert_eq!(statuses, [101; 8]);
    assert_eq!(joins(&mut world, 300, 0), 1);
    (0..20).for_each(|index| world.reset(index));
    world.turn();
    assert_eq!(joins(&mut world, 301, 0), 101, "more than a quarter is free again");
}

/// A client that is accepted in the same turn as a refused crowd gets one of the places that the crowd did not.
#[test]
fn who_comes_behind_a_crowd_has_its_place() {
    let mut world = world();
    (0..48).for_each(|index| assert_eq!(joins(&mut world, index, 0), 101));
    (48..64).for_each(|index| world.connect(index, "192.0.2.0:1"));
    world.connect_in_excess(100, "192.0.2.9:1");
    world.turn();
    assert_eq!(upgraded(&mut world, 100, None), 101);
}

#[test]
fn loopback_is_many_and_has_no_part() {
    let mut world = world();
    for index in 0..64 {
        world.connect(index, "127.0.0.1:1");
        world.turn();
        assert_eq!(upgraded(&mut world, index, None), 101);
    }
}

/// A newcomer takes the place of an idle connection: of those of the address that has most, the one idle for longest.
#[test]
fn idle_connections_go_first_where_all_places_are_taken() {
    let mut world = world();
    (0..44).for_each(|index| connect(&mut world, index, 0, false));
    (44..47).for_each(|index| connect(&mut world, index, 1, false));
    world.pass(10);
    (47..64).for_each(|index| assert_eq!(joins(&mut world, index, index), 101));
    connect(&mut world, 100, 100, true);
    assert_eq!(upgraded(&mut world, 100, None), 503, "nobody is idle for long");
    world.pass(2_500);
    for n in 0..40 {
        connect(&mut world, 200 + n, 100 + n, true);
        assert!(!world.peers.contains_key(&n) && world.peers.contains_key(&(n + 1)), "{n}");
        assert_eq!(upgraded(&mut world, 200 + n, None), 101);
        world.pass(50);
    }
    connect(&mut world, 300, 0, true);
    assert!(world.peers.contains_key(&40) && world.peers.contains_key(&44), "nobody takes one from who has fewer");
    assert_eq!(upgraded(&mut world, 300, None), 503);
    world.pass(1_000);
    connect(&mut world, 301, 1, true);
    assert_eq!((upgraded(&mut world, 301, None), world.peers.contains_key(&40)), (101, false));
    assert_eq!(world.engine.net.count(), 64);
}

/// The attack: newcomers make everybody give way whose handshake takes longer than a second, as a phone's does on a
/// slow line. Half of the time for a request is the handshake's.
#[test]
fn a_slow_tls_handshake_is_not_idle() {
    let mut world = world();
    (0..57).for_each(|index| assert_eq!(joins(&mut world, index, index), 101));
    for index in 57..59 {
        world.connect_securely(index, &format!("192.0.2.{index}:1"));
        world.turn();
    }
    connect(&mut world, 59, 59, false);
    world.pass(10);
    world.send(58, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.pass(1_500);
    let here = |world: &World| [57, 58, 59].map(|index| world.peers.contains_key(&index));
    let comes = |world: &mut World, index| {
        connect(world, index, index, true);
        upgraded(world, index, None)
    };
    assert_eq!((comes(&mut world, 100), here(&world)), (101, [true, true, false]), "the first that is idle");
    world.pass(200);
    assert_eq!(
        (comes(&mut world, 101), here(&world)),
        (101, [true, false, false]),
        "it was answered, and says no more"
    );
    world.pass(3_289);
    assert_eq!((comes(&mut world, 102), here(&world)), (503, [true, false, false]));
    world.pass(100);
    assert_eq!((comes(&mut world, 103), here(&world)), (101, [false, false, false]), "its time is over");
}

/// Connections in excess may show that they come back, and there are places for that.
#[test]
fn the_last_places_are_for_who_comes_back() {
    let mut world = world();
    (0..60).for_each(|index| assert_eq!(joins(&mut world, index, index), 101));
    let tokens: Vec<String> = (0..5).map(|index| token(&world, index)).collect();
    let mut comes = |index, token: Option<&str>| {
        connect(&mut world, index, index, true);
        upgraded(&mut world, index, token)
    };
    assert_eq!([comes(100, None), comes(101, Some("Zm9yZ2Vk"))], [503, 503]);
    assert_eq!(comes(102, Some(&tokens[0])), 101);
    assert_eq!([comes(103, Some(&tokens[0])), comes(104, Some(&tokens[0]))], [503, 503], "one token, one place");
    let statuses: Vec<u16> = (1..5).map(|n| comes(104 + n, Some(&tokens[n as usize]))).collect();
    assert_eq!(statuses, [101, 101, 101, 503]);
    assert_eq!(kept_places(64), 4);
    world.pass(60_000);
    assert_eq!(world.engine.net.count(), 64);
}

/// A token is not bound to an address, and anybody may have many.
#[test]
fn one_address_does_not_have_all_places_that_are_kept() {
    let mut world = world();
    world.engine.net.set_places(Some(256));
    (0..240).for_each(|index| assert_eq!(joins(&mut world, index, index), 101));
    let mut comes = |index, host, request: &str| {
        connect(&mut world, index, host, true);
        let token = token(&world, index - 300);
        match request {
            "upgrade" => upgraded(&mut world, index, Some(&token)),
            _ => {
                let text =
                    format!("GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: racerd.session.{token}\r\n\r\n");
                world.send(index, text.as_bytes());
                world.turn();
                status(&world, index)
            }
        }
    };
    assert_eq!(comes(300, 390, "only asks"), 503, "it needs no place");
    let statuses: Vec<u16> = (301..310).map(|index| comes(index, 391, "upgrade")).collect();
    assert_eq!(statuses, [101, 101, 101, 101, 503, 503, 503, 503, 503]);
    assert_eq!(comes(310, 392, "upgrade"), 101, "others have theirs");
}
