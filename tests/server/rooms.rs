//! Rooms over real sockets: membership, delivery and order.

use std::thread;

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn two_clients_talk_and_a_restart_keeps_the_talk() {
    let mut server = Server::without_grace(&[]);
    let mut ann = server.member("lobby", "ann");
    let mut bob = server.member("lobby", "bob");
    let ack = ann.say(1, json!("hello"));
    assert_eq!(ack["seq"], 1);
    for client in [&mut ann, &mut bob] {
        let message = client.next_of("message");
        assert_eq!(
            (&message["seq"], &message["body"], &message["from"]["name"]),
            (&json!(1), &json!("hello"), &json!("ann"))
        );
    }
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let mut ann = server.client("/rooms/lobby/ws?name=ann&last=10");
    assert_eq!(ann.next_of("joined")["head"], 1);
    assert_eq!(ann.next_of("message")["body"], "hello");
}

#[test]
fn two_requests_for_one_room_id_make_one_entry() {
    let server = Server::without_grace(&[]);
    let mut first = server.client("/rooms/one/ws?name=first");
    assert_eq!(first.next_of("joined")["members"], 1);
    // The others come by other ways: a socket that is in no room yet, and an escaped spelling of the id.
    let mut second = server.client("/ws?name=second");
    second.send(json!({"type": "join", "id": 1, "room": "one"}));
    assert_eq!(second.next_of("joined")["members"], 2);
    let mut third = server.client("/rooms/%6Fne/ws?name=third");
    assert_eq!(third.next_of("joined")["members"], 3);
    assert_eq!(server.members("one"), 3);
    first.say(1, json!("to all"));
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.next_of("message")["body"], "to all");
    }
}

/// Has each client send one message at the same moment, and checks that all receive the same ones in the same order.
fn all_say_and_hear_the_same(clients: Vec<Client>, room: &str) {
    let count = clients.len();
    let heard = at_once(clients, |index, mut client| {
        client.send(json!({"type": "send", "id": 7, "room": room, "body": index}));
        let heard: Vec<(u64, u64)> = (0..count)
            .map(|_| client.next_of("message"))
            .map(|m| (m["seq"].as_u64().unwrap(), m["body"].as_u64().unwrap()))
            .collect();
        (client, heard)
    });
    let first = &heard[0].1;
    assert!(first.iter().map(|(seq, _)| *seq).eq(1..=count as u64), "{first:?}");
    for (_, other) in &heard {
        assert_eq!(first, other);
    }
}

#[test]
fn concurrent_requests_for_one_room_id_make_one_entry() {
    let server = Server::without_grace(&[]);
    for round in 0..3 {
        // `last` makes each join wait for the store, so that the joins are concurrent there, too.
        let room = format!("joined-{round}");
        let clients: Vec<Client> = (0..50).map(|_| server.client("/ws")).collect();
        let clients = at_once(clients, |_, mut client| {
            client.send(json!({"type": "join", "id": 1, "room": room, "last": 10}));
            assert_eq!(client.next_of("joined")["head"], 0);
            client
        });
        assert_eq!(server.members(&room), 50);
        all_say_and_hear_the_same(clients, &room);
        eventually("an empty room", || server.members(&room) == 0);

        let room = format!("opened-{round}");
        let path = format!("/rooms/{room}/ws?last=10");
        let clients = at_once(vec![(); 50], |_, ()| {
            let mut client = server.client(&path);
            client.next_of("joined");
            client
        });
        assert_eq!(server.members(&room), 50);
        all_say_and_hear_the_same(clients, &room);
    }
}

#[test]
fn concurrent_exits_leave_no_room_behind() {
    let server = Server::without_grace(&[]);
    for round in 0..6 {
        let room = format!("exits-{round}");
        let path = format!("/rooms/{room}/ws");
        let sockets: Vec<Raw> = (0..40).map(|_| server.socket(&path)).collect();
        eventually("all in", || server.members(&room) == 40);
        let kept = at_once(sockets, |index, mut raw| {
            if index % 2 == 0 {
                // The store's answer arrives when the sender is gone.
                raw.send(text(&json!({"type": "send", "id": 1, "body": index}).to_string()));
            }
            match (index / 2) % 4 {
                0 => {
                    raw.send(text(r#"{"type":"leave","id":2}"#));
                    assert_eq!(raw.next_of("left")["id"], 2);
                    return Some(raw);
                }
                1 => raw.send(close(1000, b"")),
                2 => {}
                _ => raw.reset(),
            }
            None
        });
        eventually("an empty room", || server.members(&room) == 0);
        let mut newcomer = server.client(&path);
        let joined = newcomer.next_of("joined");
        assert_eq!(joined["members"], 1);
        // The room continues its numbering: every stored message has its own seq.
        let ack = newcomer.say(1, json!("alone"));
        assert_eq!(ack["seq"], server.history(&room).len());
        // A client that only left is still served, and is told that it is not a member.
        for mut raw in kept.into_iter().flatten() {
            raw.send(text(r#"{"type":"leave","id":3}"#));
            assert_eq!(raw.next_of("error")["code"], "not_joined");
        }
    }
    assert!(!server.log().contains("ERROR"));
}

#[test]
fn everyone_hears_the_same_order_under_several_writers() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 100;
    let server = Server::without_grace(&["--request-rate", "0"]);
    let clients: Vec<Client> = (0..WRITERS + 3).map(|i| server.member("busy", &format!("c{i}"))).collect();
    let heard = at_once(clients, |index, mut client| {
        let writes = (index as u64) < WRITERS;
        if writes {
            for id in 0..EACH {
                client.send(json!({"type": "send", "id": id, "body": [index, id]}));
            }
        }
        let (mut acked, mut heard) = (0, Vec::new());
        while heard.len() < (WRITERS * EACH) as usize {
            let value = client.next().expect("more");
            match value["type"].as_str().unwrap() {
                "ack" => {
                    assert_eq!(value["id"], acked);
                    acked += 1;
                }
                "message" => {
                    // A client's own message comes after its acknowledgement.
                    assert!(value["body"][0] != index as u64 || value["body"][1].as_u64().unwrap() < acked, "{value}");
                    heard.push((value["seq"].as_u64().unwrap(), value["body"].to_string()));
                }
                "presence" | "members" => {}
                other => panic!("{other} was not expected"),
            }
        }
        assert_eq!(acked, if writes { EACH } else { 0 });
        heard
    });
    assert!(heard[0].iter().map(|(seq, _)| *seq).eq(1..=WRITERS * EACH));
    for other in &heard {
        assert_eq!(&heard[0], other);
    }
    for writer in 0..WRITERS {
        let own = heard[0].iter().filter_map(|(_, body)| {
            let body: Value = serde_json::from_str(body).unwrap();
            (body[0] == writer).then(|| body[1].as_u64().unwrap())
        });
        assert!(own.eq(0..EACH), "each writer's own order");
    }
}

#[test]
fn signals_reach_the_others_and_nobody_else() {
    let server = Server::without_grace(&[]);
    let mut ann = server.member("hall", "ann");
    let mut others = [server.member("hall", "bob"), server.member("hall", "eve")];
    let mut outsider = server.member("other", "out");
    for number in 0..50 {
        ann.send(json!({"type": "signal", "body": {"typing": number}}));
    }
    for other in &mut others {
        for number in 0..50 {
            let signal = other.next_of("signal");
            assert_eq!(signal["body"]["typing"], number);
            assert_eq!(signal["from"]["name"], "ann");
            assert!(signal.get("seq").is_none());
        }
    }
    for client in [&mut ann, &mut outsider] {
        client.send(json!({"type": "ping", "id": 1}));
        loop {
            let value = client.next().expect("a pong");
            assert_ne!(value["type"], "signal");
            if value["type"] == "pong" {
                break;
            }
        }
    }
    // Signals are not stored.
    assert_eq!(server.history("hall").len(), 0);
}

#[test]
fn one_socket_in_many_rooms() {
    let server = Server::without_grace(&["--rooms-per-session", "5"]);
    let mut many = server.client("/ws?name=many");
    let rooms = ["a", "b", "c", "d", "e"];
    for (id, room) in rooms.iter().enumerate() {
        many.send(json!({"type": "join", "id": id, "room": room}));
        let joined = many.next_of("joined");
        assert_eq!((&joined["id"], &joined["room"]), (&json!(id), &json!(room)));
    }
    for (room, code) in [("f", "too_many_rooms"), ("a", "already_joined")] {
        many.send(json!({"type": "join", "id": 9, "room": room}));
        assert_eq!(many.next_of("error")["code"], code);
    }
    assert_eq!(server.members("f"), 0);
    for room in rooms {
        let mut single = server.member(room, "single");
        single.say(1, json!(room));
        let message = many.next_of("message");
        assert_eq!((&message["room"], &message["body"], &message["seq"]), (&json!(room), &json!(room), &json!(1)));
    }
    many.send(json!({"type": "send", "id": 20, "body": 1}));
    assert_eq!(many.next_of("error")["code"], "bad_field", "this socket was opened on no room");
    many.send(json!({"type": "leave", "id": 21, "room": "b"}));
    assert_eq!(many.next_of("left")["room"], "b");
    many.send(json!({"type": "send", "id": 22, "room": "b", "body": 1}));
    assert_eq!(many.next_of("error")["code"], "not_joined");
    let pong = many.sync();
    assert_eq!(pong["heads"], json!({"a": 1, "c": 1, "d": 1, "e": 1}));
    drop(many);
    for room in rooms {
        eventually("an empty room", || server.members(room) == 0);
    }
}

/// A leaves, B creates the room anew, A's socket ends: B's room stays.
#[test]
fn the_late_end_of_one_member_leaves_the_room_of_others_alone() {
    let server = Server::without_grace(&[]);
    for (round, leaves_twice) in [(0, false), (1, true)] {
        let room = format!("room-{round}");
        let mut a = server.client("/ws?name=a");
        a.send(json!({"type": "join", "id": 1, "room": room}));
        a.next_of("joined");
        a.send(json!({"type": "leave", "id": 2, "room": room}));
        a.next_of("left");
        let mut b = server.member(&room, "b");
        if leaves_twice {
            a.send(json!({"type": "leave", "id": 3, "room": room}));
            assert_eq!(a.next_of("error")["code"], "not_joined");
        }
        drop(a);
        eventually("a's end", || server.log().matches("kind=websocket").count() > round);
        let mut c = server.member(&room, "c");
        assert_eq!(server.members(&room), 2);
        b.say(1, json!("from b"));
        c.say(1, json!("from c"));
        for client in [&mut b, &mut c] {
            let heard: Vec<Value> = (0..1).map(|_| client.next_of("message")).collect();
            assert!(["from b", "from c"].contains(&heard[0]["body"].as_str().unwrap()));
        }
    }
}

#[test]
fn leaving_and_joining_in_the_same_turn() {
    let server = Server::without_grace(&["--request-rate", "0"]);
    for round in 0..30 {
        let room = format!("turn-{round}");
        let join = json!({"type": "join", "id": 1, "room": room});
        let leave = json!({"type": "leave", "id": 2, "room": room});
        let mut a = server.client("/ws?name=a");
        a.send(join.clone());
        a.next_of("joined");
        let mut b = server.client("/ws?name=b");
        thread::scope(|scope| {
            let leaving = scope.spawn(|| a.send(leave));
            b.send(join);
            leaving.join().unwrap();
        });
        a.next_of("left");
        b.next_of("joined");
        assert_eq!(server.members(&room), 1);
        let mut c = server.member(&room, "c");
        b.send(json!({"type": "send", "id": 3, "room": room, "body": round}));
        assert_eq!(c.next_of("message")["body"], round);
        assert_eq!(b.next_of("message")["body"], round);
    }
}

/// A request that fails before the join, or whose client is gone before the answer, leaves neither a room nor a member
/// behind.
#[test]
fn requests_that_come_to_nothing_make_no_room() {
    let server = Server::without_grace(&["--handshake-rate", "0", "--log-level", "warn"]);
    let round = |from: usize, to: usize| {
        for n in from..to {
            let refused = handshake(&format!("/rooms/r{n}/ws"), "").replace("Version: 13", "Version: 9");
            assert_eq!(server.request(refused).status, 426);
            assert_eq!(server.get(&format!("/rooms/r{n}/messages")).status, 200);
            assert_eq!(server.members(&format!("r{n}")), 0);
            for start in ["", "?last=10"] {
                let mut raw = server.raw();
                raw.send(handshake(&format!("/rooms/r{n}/ws{start}"), ""));
                raw.reset();
            }
        }
    };
    round(0, 100);
    let before = server.rss();
    round(100, 500);
    for n in 0..500 {
        if n % 10 == 0 {
            eventually("an empty room", || server.members(&format!("r{n}")) == 0);
        }
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    assert_eq!(server.member("r7", "x").welcome["name"], "x");
}
