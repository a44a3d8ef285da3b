//! Who may do what, through the whole machine: bytes in, bytes out. The matrix is made from the table of rights.

use super::sealed::{Client, sealing};
use super::*;
use crate::access::{Credential, Door, Doors, Grants, Operation, Person, Sub};
use crate::crypto::sealed::Pin;
use crate::types::{Name, Right, RoomId, RoomPattern};
use serde_json::json;

/// Somebody in an access file; the token is the sub.
fn person(sub: &str, grants: &[(&str, Right)]) -> Person {
    let rooms = grants.iter().map(|(pattern, right)| (RoomPattern::parse(pattern).unwrap(), *right)).collect();
    Person {
        sub: Sub::at(Door::File, sub).unwrap(),
        name: Name::parse(&sub.to_uppercase()).unwrap(),
        grants: Grants { rooms, admin: sub == "root" },
        credentials: vec![Credential::of(sub.as_bytes())],
    }
}

fn people() -> Vec<Person> {
    vec![
        person("reader", &[("r", Right::Read)]),
        person("writer", &[("r*", Right::Send)]),
        person("moderator", &[("*", Right::Moderate)]),
        person("stranger", &[("other-*", Right::Moderate)]),
        person("root", &[]),
    ]
}

/// Makes the server read who is known again.
fn know(world: &mut World, guests: Option<Right>, people: Vec<Person>) {
    let mut limits = Sizes::USUAL.limits();
    limits.app.doors = Doors::new(guests, people);
    world.engine.set_limits(limits);
    world.flush();
}

fn world_of(guests: Option<Right>) -> World {
    let mut world = World::new(Sizes::USUAL);
    know(&mut world, guests, people());
    world
}

/// Connects a peer of which the world's own judge of each peer's input is to expect nothing.
fn comes_unheard(world: &mut World, index: u32) {
    world.comes(index);
    world.peers.get_mut(&index).unwrap().is_sealed = true;
}

fn bearer(who: Option<&str>) -> String {
    who.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

fn upgrade(world: &mut World, index: u32, path: &str, headers: &str) {
    comes_unheard(world, index);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    world.send(index, request.as_bytes());
    world.settle();
}

fn request(world: &mut World, index: u32, line: &str, headers: &str, body: &str) {
    comes_unheard(world, index);
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    );
    world.send(index, request.as_bytes());
    world.settle();
}

/// Returns all that a peer got, in whatever form.
fn text(world: &World, index: u32) -> String {
    world.peers.get(&index).map(|peer| String::from_utf8_lossy(&peer.got).into_owned()).unwrap_or_default()
}

fn status(world: &World, index: u32) -> u16 {
    text(world, index).get(9..12).and_then(|status| status.parse().ok()).expect("an answer")
}

fn say(world: &mut World, index: u32, json: &str) {
    world.say(index, json);
    world.settle();
}

fn has(world: &World, index: u32, kind: &str) -> bool {
    types(&world.heard(index)).contains(&kind)
}

fn code(world: &World, index: u32) -> Option<String> {
    let heard = world.heard(index);
    let error = heard.iter().rev().find(|object| object["type"] == "error")?;
    error["code"].as_str().map(str::to_owned)
}

fn is_closed_with(world: &World, index: u32, code: u16) -> bool {
    let got = &world.peers[&index].got;
    let [high, low] = code.to_be_bytes();
    // The last frame: a close, with its code.
    got.windows(4).rev().any(|bytes| bytes[0] == 0x88 && bytes[2..4] == [high, low])
}

fn stored(world: &World) -> u64 {
    ["r", "other-1"].iter().map(|room| world.store.head(&RoomId::parse(room).unwrap()).0).sum()
}

/// The ways in which somebody may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A WebSocket whose upgrade shows the token.
    Header,
    /// A WebSocket on a room, whose client says first who it is.
    First,
    /// A WebSocket on no room, whose client then says who it is.
    Auth,
    /// A sealed socket, whose client says it inside.
    Sealed,
    /// HTTP.
    Http,
}

const WAYS: [Way; 5] = [Way::Header, Way::First, Way::Auth, Way::Sealed, Way::Http];

/// Returns how something is asked for in the room `r` over a socket, and the type of the answer if it is done.
fn asked(operation: Operation) -> Option<(&'static str, &'static str)> {
    match operation {
        Operation::Join => Some((r#"{"type":"join","id":2,"room":"r"}"#, "joined")),
        Operation::History => Some((r#"{"type":"history","id":3,"room":"r"}"#, "history")),
        Operation::Members => Some((r#"{"type":"members","id":3,"room":"r"}"#, "members")),
        Operation::Send => Some((r#"{"type":"send","id":3,"room":"r","body":7}"#, "ack")),
        Operation::Signal => Some((r#"{"type":"signal","id":3,"room":"r","body":"secret"}"#, "")),
        Operation::Listen | Operation::Publish => None,
    }
}

/// Tries something in the room `r` over a sealed socket.
fn attempt_sealed(world: &mut World, pin: &Pin, who: Option<&str>, operation: Operation) -> Option<bool> {
    let (json, kind) = asked(operation)?;
    let mut client = Client::open(world, pin, 50);
    if let Some(token) = who {
        client.say(world, &format!("{{\"type\":\"auth\",\"id\":1,\"token\":\"{token}\"}}\n"));
    }
    if operation != Operation::Join {
        client.say(world, "{\"type\":\"join\",\"id\":2,\"room\":\"r\"}\n");
    }
    let before = client.heard.len();
    client.say(world, &format!("{json}\n"));
    Some(match operation {
        Operation::Signal => has(world, 0, "signal"),
        _ => client.heard[before..].iter().any(|object| object["type"] == kind),
    })
}

/// Tries something in the room `r`. Returns whether it was done; `None` if there is no such way to do it.
fn attempt(world: &mut World, pin: &Pin, who: Option<&str>, way: Way, operation: Operation) -> Option<bool> {
    if way == Way::Sealed {
        return attempt_sealed(world, pin, who, operation);
    }
    let headers = bearer(who);
    if way == Way::Http {
        let (line, body) = match operation {
            Operation::Listen => ("GET /rooms/r/events", ""),
            Operation::History => ("GET /rooms/r/messages", ""),
            Operation::Members => ("GET /rooms/r/members", ""),
            Operation::Publish => ("POST /rooms/r/messages", "7"),
            Operation::Join | Operation::Send | Operation::Signal => return None,
        };
        request(world, 50, line, &headers, body);
        let status = status(world, 50);
        let refusal = if who.is_none() { 401 } else { 403 };
        assert!(status < 300 || status == refusal, "{who:?} {operation:?}: {}", text(world, 50));
        assert_eq!(status == 401, text(world, 50).contains("WWW-Authenticate: Bearer realm=\"racerd\""));
        return Some(status < 300);
    }
    match way {
        Way::Header => upgrade(world, 50, "/rooms/r/ws", &headers),
        Way::First if who.is_some() => upgrade(world, 50, "/rooms/r/ws?auth=first", ""),
        Way::Auth => upgrade(world, 50, "/ws", ""),
        _ => return None,
    }
    if let Some(token) = who.filter(|_| way != Way::Header) {
        say(world, 50, &format!(r#"{{"type":"auth","id":1,"token":"{token}"}}"#));
    }
    if way == Way::Auth {
        say(world, 50, r#"{"type":"join","id":2,"room":"r"}"#);
    }
    let (json, kind) = asked(operation)?;
    if operation == Operation::Join {
        return Some(has(world, 50, kind));
    }
    // An upgrade that was refused is no socket.
    if status(world, 50) != 101 {
        return Some(false);
    }
    let before = types(&world.heard(50)).len();
    say(world, 50, json);
    let heard = world.heard(50);
    Some(match operation {
        Operation::Signal => has(world, 0, "signal"),
        _ => types(&heard)[before..].contains(&kind),
    })
}

#[test]
fn everybody_may_do_what_they_are_granted_and_nothing_else() {
    let roles = [
        (None, None),
        (Some("reader"), Some(Right::Read)),
        (Some("writer"), Some(Right::Send)),
        (Some("moderator"), Some(Right::Moderate)),
        (Some("stranger"), None),
        (Some("root"), Some(Right::Moderate)),
    ];
    let mut tried = 0;
    for guests in [None, Some(Right::Read), Some(Right::Send)] {
        for (who, granted) in roles {
            for operation in Operation::all() {
                for way in WAYS {
                    let (mut world, pin) = sealing();
                    know(&mut world, guests, people());
                    // A witness, who hears what is said.
                    upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("moderator")));
                    let Some(done) = attempt(&mut world, &pin, who, way, operation) else { continue };
                    let case = format!("{who:?} {operation:?} by {way:?}, guests {guests:?}");
                    assert_eq!(done, granted.max(guests) >= Some(operation.needs()), "{case}: {}", text(&world, 50));
                    let writes = matches!(operation, Operation::Send | Operation::Publish);
                    assert_eq!(stored(&world), u64::from(done && writes), "{case}");
                    assert_eq!(has(&world, 0, "message"), done && writes, "{case}");
                    assert_eq!(has(&world, 0, "signal"), done && operation == Operation::Signal, "{case}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn a_socket_that_is_to_say_first_who_it_is_is_nobody_until_then() {
    // Also where guests may do everything.
    for guests in [None, Some(Right::Send)] {
        for path in ["/rooms/r/ws?auth=first&name=ann", "/ws?auth=first"] {
            let mut world = world_of(guests);
            upgrade(&mut world, 0, path, "");
            say(&mut world, 0, r#"{"type":"join","id":1,"room":"r"}"#);
            say(&mut world, 0, r#"{"type":"send","id":2,"room":"r","body":1}"#);
            say(&mut world, 0, r#"{"type":"auth","id":3,"token":"nobody"}"#);
            assert_eq!(types(&world.heard(0)), ["error", "error", "error"], "no welcome, no room");
            assert!(world.heard(0).iter().all(|object| object["code"] == "unauthorized"));
            world.pass(9_999);
            assert!(!is_closed_with(&world, 0, 4005));
            world.pass(1);
            assert!(is_closed_with(&world, 0, 4005), "{path}");
            assert_eq!((stored(&world), world.engine.app.hub.room_count()), (0, 0));
            world.pass(400_000);
            assert_eq!(world.engine.deadline(), None, "nothing is left");
        }
    }
}

#[test]
fn whoever_says_in_time_who_they_are_stays() {
    let mut world = world_of(None);
    upgrade(&mut world, 0, "/rooms/r/ws?auth=first&name=ann", "");
    world.pass(9_000);
    say(&mut world, 0, r#"{"type":"auth","id":3,"token":"writer"}"#);
    let heard = world.heard(0);
    assert_eq!(types(&heard)[..2], ["welcome", "joined"]);
    assert_eq!(
        (&heard[0]["id"], &heard[0]["sub"], &heard[0]["name"]),
        (&3.into(), &"file:writer".into(), &"WRITER".into())
    );
    world.pass(9_000);
    say(&mut world, 0, r#"{"type":"send","id":4,"body":1}"#);
    assert!(has(&world, 0, "ack"));
}

/// Where guests may do nothing, a guest's socket has no longer to say who it is.
#[test]
fn guests_who_may_do_nothing_do_not_stay() {
    let mut world = world_of(None);
    upgrade(&mut world, 0, "/ws", "");
    upgrade(&mut world, 1, "/ws", "");
    world.pass(5_000);
    say(&mut world, 1, r#"{"type":"auth","id":3,"token":"reader"}"#);
    world.pass(5_000);
    assert!(is_closed_with(&world, 0, 4005) && !is_closed_with(&world, 1, 4005));
    // Nor does one that could do something before.
    let mut world = world_of(Some(Right::Send));
    upgrade(&mut world, 0, "/rooms/r/ws", "");
    know(&mut world, None, people());
    world.pass(5_000);
    know(&mut world, None, vec![person("reader", &[("r", Right::Read)])]);
    world.pass(4_999);
    assert!(has(&world, 0, "left") && !is_closed_with(&world, 0, 4005));
    world.pass(1);
    assert!(is_closed_with(&world, 0, 4005));
    // Unless they may do something by then.
    let mut world = world_of(None);
    upgrade(&mut world, 0, "/ws", "");
    know(&mut world, Some(Right::Read), people());
    world.pass(20_000);
    assert!(!is_closed_with(&world, 0, 4005));
}

#[test]
fn a_token_that_is_none_never_makes_a_guest() {
    for guests in [None, Some(Right::Send)] {
        let mut world = world_of(guests);
        upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("nobody")));
        request(&mut world, 1, "GET /rooms/r/messages", &bearer(Some("nobody")), "");
        request(&mut world, 2, "GET /rooms/r/events", &bearer(Some("")), "");
        for index in 0..3 {
            assert_eq!(status(&world, index), 401, "{index}");
            assert!(text(&world, index).contains("error=\"invalid_token\""));
        }
        // Two tokens, of which one is somebody's.
        request(&mut world, 3, "GET /rooms/r/messages", &(bearer(Some("root")) + &bearer(Some("x"))), "");
        assert_eq!(status(&world, 3), 400);
        // A proxy's password is not for us.
        request(&mut world, 4, "GET /rooms/r/messages", "Authorization: Basic YTpi\r\n", "");
        assert_eq!(status(&world, 4), if guests.is_some() { 200 } else { 401 });
    }
}

#[test]
fn the_page_and_health_need_no_token() {
    let mut world = world_of(None);
    for (index, line) in
        ["GET /", "GET /rooms/r", "GET /healthz", "GET /readyz", "OPTIONS /rooms/r/messages"].iter().enumerate()
    {
        request(&mut world, index as u32, line, "", "");
        assert!(status(&world, index as u32) < 300, "{line}");
    }
}

#[test]
fn nobody_becomes_somebody_else_in_a_room() {
    let mut world = world_of(Some(Right::Read));
    upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("writer")));
    upgrade(&mut world, 1, "/rooms/r/ws?name=ann", "");
    for index in [0, 1] {
        say(&mut world, index, r#"{"type":"auth","id":1,"token":"moderator"}"#);
        assert_eq!(code(&world, index).as_deref(), Some("forbidden"));
    }
    // Each is still who they were.
    say(&mut world, 0, r#"{"type":"send","id":2,"body":1}"#);
    say(&mut world, 1, r#"{"type":"send","id":2,"body":1}"#);
    assert!(has(&world, 0, "ack") && code(&world, 1).as_deref() == Some("unauthorized"));
    // The same person may show a token again; out of every room, anybody may.
    say(&mut world, 0, r#"{"type":"auth","id":3,"token":"writer"}"#);
    say(&mut world, 1, r#"{"type":"leave","id":3}"#);
    say(&mut world, 1, r#"{"type":"auth","id":4,"token":"moderator"}"#);
    let names = |index| -> Vec<String> {
        let heard = world.heard(index);
        let welcomes = heard.iter().filter(|object| object["type"] == "welcome");
        welcomes.map(|welcome| welcome["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(0), names(1)), (vec!["WRITER".into(), "WRITER".into()], vec!["ann".into(), "MODERATOR".into()]));
}

/// Resumes, as somebody, the session of a token.
fn resume_as(world: &mut World, index: u32, who: Option<&str>, token: &str) {
    upgrade(world, index, "/ws", &bearer(who));
    say(world, index, &format!(r#"{{"type":"resume","id":77,"session":"{token}","cursors":{{}}}}"#));
}

#[test]
fn a_session_is_resumed_by_whose_it_is_and_by_nobody_else() {
    // Attached, waited for, and parked.
    for away in [None, Some(1_000), Some(31_000)] {
        let mut world = world_of(Some(Right::Send));
        upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("writer")));
        upgrade(&mut world, 1, "/rooms/r/ws?name=ann", "");
        let tokens = [0, 1].map(|index| promises::token(&world, index));
        if let Some(away) = away {
            world.reset(0);
            world.reset(1);
            world.pass(away);
        }
        for (who, whose, refused) in [
            (None, 0, "unauthorized"),
            (Some("moderator"), 0, "not_resumable"),
            (Some("root"), 1, "not_resumable"),
            (Some("writer"), 1, "not_resumable"),
        ] {
            resume_as(&mut world, 10, who, &tokens[whose]);
            assert_eq!(code(&world, 10).as_deref(), Some(refused), "{who:?}, after {away:?}");
            assert!(!has(&world, 10, "joined"));
            world.reset(10);
            world.settle();
        }
        for (index, who, whose, name) in [(11, Some("writer"), 0, "WRITER"), (12, None, 1, "ann")] {
            resume_as(&mut world, index, who, &tokens[whose]);
            let heard = world.heard(index);
            assert!(has(&world, index, "joined"), "{who:?}, after {away:?}: {heard:?}");
            let welcome = heard.iter().rev().find(|object| object["type"] == "welcome").unwrap();
            assert_eq!((&welcome["name"], &welcome["id"]), (&name.into(), &77.into()));
        }
    }
}

/// The first `welcome` of a socket gives the token of a guest's session; it must not lead to what follows.
#[test]
fn the_token_from_before_is_of_no_use_afterwards() {
    let mut world = world_of(Some(Right::Send));
    upgrade(&mut world, 0, "/ws", "");
    let before = promises::token(&world, 0);
    say(&mut world, 0, r#"{"type":"auth","id":1,"token":"writer"}"#);
    say(&mut world, 0, r#"{"type":"join","id":2,"room":"r"}"#);
    resume_as(&mut world, 1, None, &before);
    assert!(!has(&world, 1, "joined") && !is_closed_with(&world, 0, 4001));
    say(&mut world, 0, r#"{"type":"send","id":3,"room":"r","body":1}"#);
    assert!(has(&world, 0, "ack") && !has(&world, 1, "message"));
}

#[test]
fn what_is_no_longer_granted_ends_at_once() {
    let mut world = world_of(None);
    upgrade(&mut world, 0, "/ws", &bearer(Some("writer")));
    for (id, room) in [(1, "r"), (2, "r2")] {
        say(&mut world, 0, &format!(r#"{{"type":"join","id":{id},"room":"{room}"}}"#));
    }
    upgrade(&mut world, 1, "/rooms/r2/ws", &bearer(Some("moderator")));
    request(&mut world, 2, "GET /rooms/r2/events", &bearer(Some("writer")), "");
    // Send in r becomes read, and r2 is gone.
    know(&mut world, None, vec![person("writer", &[("r", Right::Read)]), person("moderator", &[("*", Right::Send)])]);
    world.settle();
    let heard = world.heard(0);
    let left = heard.iter().find(|object| object["type"] == "left").expect("it is told");
    assert_eq!(
        (&left["room"], &left["reason"], &left["id"]),
        (&"r2".into(), &"forbidden".into(), &serde_json::Value::Null)
    );
    say(&mut world, 1, r#"{"type":"send","id":1,"body":"secret"}"#);
    assert!(!text(&world, 0).contains("secret") && !text(&world, 2).contains("secret"));
    assert!(
        text(&world, 2).contains("event: left") && world.peers.get(&2).is_none_or(|_| text(&world, 2).contains("bye"))
    );
    for (room, refused) in [("r", "forbidden"), ("r2", "not_joined")] {
        say(&mut world, 0, &format!(r#"{{"type":"send","id":9,"room":"{room}","body":1}}"#));
        assert_eq!(code(&world, 0).as_deref(), Some(refused));
    }
    say(&mut world, 0, r#"{"type":"history","id":10,"room":"r"}"#);
    assert!(has(&world, 0, "history"), "what is granted goes on");
}

#[test]
fn whoever_is_no_longer_known_is_gone_wherever_they_are() {
    for away in [None, Some(1_000), Some(31_000)] {
        let mut world = world_of(None);
        upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("writer")));
        upgrade(&mut world, 1, "/rooms/r/ws", &bearer(Some("moderator")));
        let token = promises::token(&world, 0);
        if let Some(away) = away {
            world.reset(0);
            world.pass(away);
        }
        know(&mut world, None, vec![person("moderator", &[("*", Right::Moderate)])]);
        world.settle();
        if away.is_none() {
            assert_eq!(code(&world, 0).as_deref(), Some("unauthorized"));
            assert!(is_closed_with(&world, 0, 4005));
        }
        let (count, ..) = world.engine.app.hub.roster(&RoomId::parse("r").unwrap());
        assert_eq!(count, 1, "it is in no room, after {away:?}");
        say(&mut world, 1, r#"{"type":"send","id":1,"body":"secret"}"#);
        // Known again, the session that was not parked by then is over; the one that was begins to live again.
        know(&mut world, None, people());
        resume_as(&mut world, 5, Some("writer"), &token);
        assert_eq!(has(&world, 5, "joined"), away == Some(31_000), "after {away:?}: {:?}", world.heard(5));
    }
}

/// A POST that waits for its place at the store is looked at once more when it has one.
#[test]
fn what_waits_is_refused_if_it_may_not_be_done_any_more() {
    for (people, expected) in [
        (people(), 201),
        (vec![person("writer", &[("r", Right::Read)])], 403),
        (vec![person("moderator", &[("*", Right::Send)])], 401),
    ] {
        let mut world = world_of(None);
        world.answers_at_once = false;
        let half = format!("\"{}\"", "x".repeat(Sizes::USUAL.append_bytes / 2 - 100));
        for index in 0..3 {
            request(&mut world, index, "POST /rooms/r/messages", &bearer(Some("writer")), &half);
        }
        assert_eq!(world.engine.app.postponed(), 1);
        let waiting = (0..3).find(|index| text(&world, *index).is_empty()).unwrap();
        know(&mut world, None, people);
        world.answers_at_once = true;
        world.settle();
        world.settle();
        let answers: Vec<u16> = (0..3).map(|index| status(&world, index)).collect();
        assert_eq!(answers.iter().filter(|status| **status == expected).count(), if expected == 201 { 3 } else { 1 });
        assert_eq!(stored(&world), if expected == 201 { 3 } else { 2 }, "{waiting}");
    }
}

/// Somebody's rights are looked at anew when they come back.
#[test]
fn a_resumed_session_has_the_rights_of_now() {
    for away in [1_000, 31_000] {
        let mut world = world_of(None);
        upgrade(&mut world, 0, "/ws", &bearer(Some("writer")));
        for (id, room) in [(1, "r"), (2, "r2")] {
            say(&mut world, 0, &format!(r#"{{"type":"join","id":{id},"room":"{room}"}}"#));
        }
        let token = promises::token(&world, 0);
        world.reset(0);
        world.pass(away);
        know(&mut world, None, vec![person("writer", &[("r", Right::Read)])]);
        resume_as(&mut world, 1, Some("writer"), &token);
        let heard = world.heard(1);
        let rooms = |kind: &str| -> Vec<&str> {
            let of_kind = heard.iter().filter(|object| object["type"] == kind);
            of_kind.map(|object| object["room"].as_str().unwrap()).collect()
        };
        assert_eq!(rooms("joined"), ["r"], "after {away}");
        // One that was waited for has been told by nobody yet.
        assert_eq!(rooms("left"), if away > 30_000 { vec!["r2"] } else { vec![] });
        say(&mut world, 1, r#"{"type":"send","id":9,"room":"r","body":1}"#);
        assert_eq!(code(&world, 1).as_deref(), Some("forbidden"));
    }
}

/// The scope of an identity's keys is its credential, over every kind of connection.
#[test]
fn a_repeated_key_of_one_person_is_stored_once_however_it_comes() {
    let mut world = world_of(Some(Right::Send));
    let seq_of = |world: &mut World, index: u32, who: Option<&str>, key: &str| {
        let headers = format!("{}Idempotency-Key: {key}\r\n", bearer(who));
        request(world, index, "POST /rooms/r/messages", &headers, "7");
        (status(world, index), text(world, index).contains("\"duplicate\":true"))
    };
    upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("writer")));
    say(&mut world, 0, r#"{"type":"send","id":1,"key":"k","body":7}"#);
    assert_eq!(seq_of(&mut world, 1, Some("writer"), "k"), (200, true));
    upgrade(&mut world, 2, "/rooms/r/ws", &bearer(Some("writer")));
    say(&mut world, 2, r#"{"type":"send","id":1,"key":"k","body":7}"#);
    assert!(world.heard(2).iter().any(|object| object["type"] == "ack" && object["duplicate"] == true));
    assert_eq!(stored(&world), 1);
    // Other people's keys are their own.
    assert_eq!(seq_of(&mut world, 3, Some("moderator"), "k"), (201, false));
    let long = "k".repeat(22);
    assert_eq!(seq_of(&mut world, 4, Some("writer"), &long), (201, false));
    assert_eq!(seq_of(&mut world, 5, None, &long), (201, false));
    assert_eq!(seq_of(&mut world, 6, None, "k"), (400, false), "a guest's key must be long");
}

#[test]
fn people_have_the_name_by_which_they_are_known() {
    let mut world = world_of(Some(Right::Send));
    upgrade(&mut world, 0, "/rooms/r/ws?name=somebody", &bearer(Some("writer")));
    request(&mut world, 1, "POST /rooms/r/messages?name=somebody", &bearer(Some("writer")), "7");
    let heard = world.heard(0);
    let message = heard.iter().find(|object| object["type"] == "message").unwrap();
    assert_eq!((&heard[0]["name"], &message["from"]["name"]), (&"WRITER".into(), &"WRITER".into()));
    assert!(heard[0]["sub"] == "file:writer" && !message.to_string().contains("file:"), "others never see the sub");
}

#[test]
fn guests_do_not_take_the_names_of_people() {
    let (mut world, pin) = sealing();
    know(&mut world, Some(Right::Send), people());
    for (index, name, taken) in [(0, "w%20riter", true), (1, "WRITER", true), (2, "writers", false)] {
        upgrade(&mut world, index, &format!("/rooms/r/ws?name={name}"), "");
        request(&mut world, 10 + index, &format!("POST /rooms/r/messages?name={name}"), "", "7");
        // A page asks by a plain GET why its upgrade was refused.
        request(&mut world, 20 + index, &format!("GET /rooms/r/ws?name={name}"), "", "");
        let expected = if taken { [409, 409, 409] } else { [101, 201, 426] };
        assert_eq!([index, 10 + index, 20 + index].map(|index| status(&world, index)), expected, "{name}");
    }
    assert!(text(&world, 0).contains("\"code\":\"name_taken\""));
    // Whoever is known may be called so, and two of them the same.
    upgrade(&mut world, 3, "/rooms/r/ws?name=WRITER", &bearer(Some("writer")));
    assert!(has(&world, 3, "joined"));
    // On a sealed socket the name goes with the first join.
    let mut client = Client::open(&mut world, &pin, 4);
    for (id, name, kind) in [(1, "Writer", "error"), (2, "ann", "joined")] {
        client.say(&mut world, &format!("{{\"type\":\"join\",\"id\":{id},\"room\":\"r\",\"name\":\"{name}\"}}\n"));
        let answer = client.heard.iter().find(|object| object["id"] == id).unwrap();
        assert_eq!(
            (&answer["type"], &answer["field"]),
            (&kind.into(), &if id == 1 { "name".into() } else { json!(null) })
        );
    }
}

#[test]
fn the_log_names_no_token() {
    let mut world = world_of(None);
    upgrade(&mut world, 0, "/rooms/r/ws", &bearer(Some("rt1_secret")));
    request(&mut world, 1, "POST /rooms/r/messages", &bearer(Some("rt1_secret")), "7");
    upgrade(&mut world, 2, "/ws", "");
    say(&mut world, 2, r#"{"type":"auth","id":1,"token":"rt1_secret"}"#);
    world.pass(20_000);
    assert!(!world.facts.is_empty() && !format!("{:?}", world.facts).contains("secret"));
    assert!(!(0..3).any(|index| text(&world, index).contains("secret")));
}
