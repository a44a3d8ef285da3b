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
/// slow line. Half of the time for a request is the handshake's, once it has begun: who connects and says nothing is as
/// idle as without TLS.
#[test]
fn a_slow_tls_handshake_is_not_idle() {
    let mut world = world();
    (0..57).for_each(|index| assert_eq!(joins(&mut world, index, index), 101));
    for index in 57..60 {
        world.connect_securely(index, &format!("192.0.2.{index}:1"));
        world.turn();
    }
    for index in 57..59 {
        world.engine.net.has_begun_tls(world.peers[&index].id);
    }
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

/// A /48 has 65,536 networks that could each count as an address with no connection.
#[test]
fn the_networks_of_a_site_are_one_at_the_last_places() {
    let of = |n: u32| format!("[2001:db8:0:{n:x}::1]:1");
    let mut world = world();
    world.engine.net.set_places(Some(256));
    let join = |world: &mut World, index: u32, address: &str| {
        world.connect(index, address);
        world.turn();
        upgraded(world, index, None)
    };
    // Somebody waits for nothing, and all other places are taken.
    connect(&mut world, 0, 0, false);
    (1..240).for_each(|index| assert_eq!(join(&mut world, index, &format!("192.0.{}.1:1", 2 + index)), 101));
    world.pass(2_000);
    let tokens: Vec<String> = (1..40).map(|index| token(&world, index)).collect();
    let comes = |world: &mut World, index: u32, address: &str, token: Option<&str>| {
        world.connect_in_excess(index, address);
        world.turn();
        let status = upgraded(world, index, token);
        world.pass(200);
        status
    };
    let back: Vec<u16> = (0..20).map(|n| comes(&mut world, 300 + n, &of(n), Some(&tokens[n as usize]))).collect();
    assert_eq!(back.iter().filter(|status| **status == 101).count(), 4, "one of them took who was idle: {back:?}");
    // Whoever is idle next does not give way to who has four places already, but to who has none.
    assert_eq!(comes(&mut world, 400, "192.0.1.1:1", Some(&tokens[30])), 101);
    world.reset(5);
    connect(&mut world, 5, 5, false);
    world.pass(1_500);
    assert_eq!(comes(&mut world, 401, &of(100), None), 503);
    assert!(world.peers.contains_key(&5));
    assert_eq!(comes(&mut world, 402, "192.0.1.2:1", None), 101);
    assert!(!world.peers.contains_key(&5));
}

#[derive(Clone, Copy, Debug)]
enum Stranger {
    Socket,
    /// Shows a token that it has got.
    Back,
    /// Asks for nothing.
    Silent,
    Tls,
    HalfHead,
    Health,
    Goes,
}

/// Where strangers come from: from all networks of so many sites, or addresses.
fn strangers() -> impl Strategy<Value = (u32, bool, Vec<(Stranger, u32)>)> {
    let stranger = prop_oneof![
        6 => Just(Stranger::Socket),
        2 => Just(Stranger::Back),
        2 => Just(Stranger::Silent),
        1 => Just(Stranger::Tls),
        1 => Just(Stranger::HalfHead),
        1 => Just(Stranger::Health),
        1 => Just(Stranger::Goes),
    ];
    (1..4u32, any::<bool>(), prop::collection::vec((stranger, any::<u32>()), 50..150))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Whatever strangers do who have no more than three sites, a client that comes back is let in at its first try.
    /// So is a newcomer while they have one.
    #[test]
    fn honest_clients_get_in_beside_strangers((sites, is_v6, steps) in strangers()) {
        let mut world = world();
        world.engine.net.set_places(Some(256));
        assert_eq!(joins(&mut world, 0, 1), 101);
        let mut own = token(&world, 0);
        world.reset(0);
        let mut tokens = Vec::new();
        // First they take all that they get.
        let first = (0..300).map(|number| (Stranger::Socket, 7 * number));
        for (number, (stranger, random)) in first.chain(steps).enumerate() {
            let index = 10 + number as u32;
            let address = match is_v6 {
                true => format!("[2001:db8:{:x}:{:x}::1]:1", random % sites, random / sites % 0x10000),
                false => format!("198.51.100.{}:1", random % sites),
            };
            let is_full = |world: &World| {
                let lasting = world.peers.values().filter(|peer| !peer.listener.is_excess).count();
                lasting >= 256 - kept_places(256)
            };
            match (stranger, is_full(&world)) {
                (Stranger::Goes, _) => world.reset(10 + random % index),
                (Stranger::Tls, false) => world.connect_securely(index, &address),
                (_, false) => world.connect(index, &address),
                (_, true) => world.connect_in_excess(index, &address),
            }
            world.turn();
            match stranger {
                Stranger::Socket if upgraded(&mut world, index, None) == 101 => tokens.push(token(&world, index)),
                Stranger::Back if !tokens.is_empty() => {
                    let shown = tokens[random as usize % tokens.len()].clone();
                    upgraded(&mut world, index, Some(&shown));
                }
                Stranger::HalfHead => world.send(index, b"GET / HTTP/1.1\r\n"),
                Stranger::Health => world.send(index, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                _ => {}
            }
            if number < 300 {
                continue;
            }
            world.pass(u64::from(random % 100));
            if number % 50 < 49 {
                continue;
            }
            let enter = |world: &mut World, index: u32, address: &str, token: Option<&str>| {
                match is_full(world) {
                    true => world.connect_in_excess(index, address),
                    false => world.connect(index, address),
                }
                world.turn();
                upgraded(world, index, token)
            };
            if sites == 1 {
                prop_assert_eq!(enter(&mut world, 5_000, "192.0.2.7:1", None), 101, "a newcomer, step {}", number);
            }
            world.pass(5_000);
            prop_assert_eq!(enter(&mut world, 5_001, "192.0.2.8:1", Some(&own)), 101, "who comes back, step {}", number);
            own = token(&world, 5_001);
            [5_000, 5_001].iter().for_each(|index| world.reset(*index));
        }
    }
}
