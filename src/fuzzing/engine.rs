//! The whole pure engine, bytes in and bytes out, through a list of steps: clients connect, send, stall and leave, time
//! passes, the store answers late, twice, out of order or not at all, and the server stops; in any order. At the end
//! the faults cease and every client must become live; then time passes, and nothing may be left.

use super::input::Input as Decisions;
use super::world::{Sizes, World};
use crate::engine::Input;
use crate::store::{Outage, StoreEvent, Why};
use crate::testing::Failure;
use crate::types::WallMillis;

/// Clients at the same time.
const PEERS: u32 = 5;

/// Most steps of one input; the expensive checks are made once, at the end.
const STEPS: usize = 300;

/// Reads the sizes, then steps of one byte (action and client) and their arguments.
pub fn engine(data: &[u8]) {
    let mut input = Decisions::new(data);
    let mut world = World::with_sealed(if input.byte() & 1 == 0 { Sizes::TIGHT } else { Sizes::USUAL });
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let byte = input.byte();
        step(&mut world, byte & 31, u32::from(byte >> 5) % PEERS, &mut input);
    }
    world.heal();
    world.outlast();
}

fn step(world: &mut World, what: u8, who: u32, input: &mut Decisions<'_>) {
    match what {
        0 => world.connect(who, "127.0.0.1:9"),
        1 => {
            let addresses = ["10.0.0.9:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[::ffff:10.0.0.9]:2"];
            world.connect(who, addresses[usize::from(input.byte()) % addresses.len()]);
        }
        2 => {
            let paths = [
                "/rooms/r/ws?name=a",
                "/rooms/r/ws?last=5",
                "/ws",
                "/rooms/s/ws?after=3",
                "/rooms/r/ws?after=2&epoch=e&presence=count",
                "/rooms/r/ws?after=900&presence=off",
                "/rooms/r/ws?after=1&epoch=other",
                "/rooms/s/ws?last=0",
            ];
            world.upgrade(who, paths[usize::from(input.byte()) % paths.len()]);
        }
        3..=11 => talk(world, what, who, input.byte()),
        12 => browse(world, who, input.byte()),
        13 => {
            let length = usize::from(input.byte());
            let bytes = input.take(length);
            if let Some(peer) = world.peers.get_mut(&who) {
                peer.listener.said_anything();
            }
            world.send(who, bytes);
        }
        14 => world.turn(),
        15 => {
            let time = u64::from(input.short());
            world.pass(time);
        }
        16 => world.end(who),
        17 => world.reset(who),
        18 => takes(world, who, 0),
        19 => {
            takes(world, who, usize::MAX);
            world.take(who, usize::MAX);
        }
        20 => {
            let most = usize::from(input.byte());
            takes(world, who, most);
            world.take(who, most);
        }
        21 => world.answers_at_once = !world.answers_at_once,
        22 => world.store.decide(usize::from(input.byte() % 8)),
        23 => {
            let event = world.store.next_decided();
            world.answer(event);
        }
        24 => {
            // Violates the contract, but must not crash the engine.
            if let Some(event) = world.store.next_decided() {
                world.store.repeated_itself = true;
                world.answer(Some(event.clone()));
                world.answer(Some(event));
            }
        }
        25 => world.store.read_next(),
        26 => {
            let event = world.store.next_page();
            world.answer(event);
        }
        27 => {
            let event = world.store.next_page();
            world.answer(event.clone());
            world.answer(event);
        }
        28 => fail(world, input.byte()),
        29 => {
            let most = usize::from(input.byte());
            world.feed(who, most);
        }
        30 => late_events(world, input.byte()),
        _ => match input.byte() {
            0xff => {
                world.engine.handle(Input::Stop);
                world.flush();
            }
            0xfe => world.configure(Sizes::USUAL),
            0xfd => world.configure(Sizes::TIGHT),
            0xfc => world.connect_in_excess(who, "127.0.0.1:9"),
            // Years either way; and around the minute up to which a stamp ahead of the clock stays.
            byte @ 0..0x80 => world.now.wall = WallMillis(u64::from(byte) << 34),
            byte => {
                let step = i64::from(byte) * 1_500 - 285_000;
                world.now.wall = WallMillis(world.now.wall.0.saturating_add_signed(step));
            }
        },
    }
}

fn takes(world: &mut World, who: u32, most: usize) {
    if let Some(peer) = world.peers.get_mut(&who) {
        peer.takes = most;
    }
}

/// Sends a request over the socket, of the kind that the step selects.
fn talk(world: &mut World, what: u8, who: u32, x: u8) {
    let room = ["r", "s", "t", "u"][usize::from(x) % 4];
    let named = format!(",\"room\":\"{room}\"");
    match what {
        3 => world.ask(who, "send", &format!("{named},\"body\":\"{}\"", "y".repeat(usize::from(x)))),
        4 => world.ask(who, "send", &format!("{named},\"key\":\"k{}\",\"body\":{}", x / 4 % 3, x / 16 % 2)),
        5 => {
            let start = match x / 4 % 5 {
                0 => String::new(),
                1 => format!(",\"last\":{}", x / 20),
                2 => format!(",\"after\":{}", x / 20),
                3 => format!(",\"after\":{},\"epoch\":\"e\",\"presence\":\"count\"", x / 20),
                _ => ",\"after\":900,\"presence\":\"off\"".to_owned(),
            };
            world.ask(who, "join", &format!("{named}{start}"));
        }
        6 => world.ask(who, "leave", &named),
        7 => world.say_plainly(who, &format!("{{\"type\":\"signal\"{named},\"body\":{x}}}")),
        8 => {
            let span = ["", ",\"before\":5", ",\"after\":2", ",\"limit\":1"][usize::from(x / 4) % 4];
            world.ask(who, "history", &format!("{named}{span}"));
        }
        9 => world.ask(who, "members", &named),
        10 => world.ask(who, "ping", ""),
        _ => match x % 4 {
            0 => world.say_plainly(who, "{"),
            1 => world.ask(who, "nonsense", ""),
            2 => world.ask(who, "send", ",\"room\":\"a/b\",\"body\":1"),
            // The end of its session; or a close frame, with a code, which ends none on a sealed socket.
            _ if x & 0xc0 == 0x40 => world.say_plainly(who, "{\"type\":\"end\"}"),
            _ if x & 0x80 == 0 => world.send(who, &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]),
            // Resumes its own or another session, which may still be connected, with or without cursors.
            _ if x & 0x40 == 0 => world.resume(who, u32::from(x >> 2) % PEERS, x & 0x20 == 0),
            _ => world.upgrade_sealed(who),
        },
    }
}

/// Sends a request over HTTP.
fn browse(world: &mut World, who: u32, x: u8) {
    let requests = [
        "GET /rooms/r/messages?limit=3 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}",
        "POST /rooms/s/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Idempotency-Key: 0123456789abcdefghijkl\r\nContent-Length: 1\r\n\r\n7",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /rooms/r/members HTTP/1.1\r\nHo",
        "GET /rooms/r/messages?after=0 HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\n",
        "GET /rooms/r/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /rooms/r/events?last=9 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: e:3\r\n\r\n",
        "GET /rooms/s/events HTTP/1.0\r\nLast-Event-ID: old:3\r\n\r\n",
    ];
    world.send(who, requests[usize::from(x) % requests.len()].as_bytes());
}

/// Makes the store fail, or recover.
fn fail(world: &mut World, x: u8) {
    let available = match x % 8 {
        0 => Failure::No,
        1 | 2 => Failure::Refused,
        3 => Failure::StoredAll,
        4 | 5 => {
            world.store.reads_fail = x % 8 == 4;
            return;
        }
        6 if x == 0xfe => {
            // The store's loop has stopped then.
            world.store.is_dead = true;
            world.answer(Some(StoreEvent::Died("the disk is gone".to_owned())));
            world.engine.handle(Input::Stop);
            return world.flush();
        }
        _ => return,
    };
    world.store.failure = available;
    let said = if available == Failure::No {
        Ok(())
    } else {
        Err(Outage { why: Why::DiskFull, detail: "disk full".to_owned() })
    };
    world.answer(Some(StoreEvent::Available(said)));
}

/// Feeds events of connections that are already gone.
fn late_events(world: &mut World, x: u8) {
    let Some(conn) = world.gone.last().copied() else { return };
    match x % 4 {
        0 => world.engine.handle(Input::Bytes { conn, bytes: &mut [0x88, 0x80, 0, 0, 0, 0] }),
        1 => world.engine.handle(Input::Ended { conn }),
        2 => world.engine.handle(Input::Lost { conn }),
        _ => world.engine.handle(Input::Wrote { conn, taken: 9 }),
    }
}
