//! A room with damage in its history, in a real database file: clients get in by every door, receive every readable
//! message, whole and in order, and are told which ones are lost.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use racerd::testing::Random;
use serde_json::{Value, json};

use crate::event_stream::EventStream;
use crate::support::*;

const MANY: u64 = 300;
const PAGE: u64 = 2048;

/// Overwrites the database page that contains this text: the last such page, since a page keeps its old bytes after a
/// split.
fn damage(data: &Path, text: &str) {
    let bytes = std::fs::read(data).unwrap();
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).unwrap() as u64;
    let file = OpenOptions::new().write(true).open(data).unwrap();
    let mut random = Random::new(7);
    let garbage: Vec<u8> = random.bytes(PAGE as usize);
    file.write_all_at(&garbage, at / PAGE * PAGE).unwrap();
}

/// Starts a server with a room of `MANY` messages and damages those around these seqs while it runs.
fn damaged(numbers: &[u64]) -> Server {
    let mut server = Server::start(&["--request-rate", "0"]);
    let mut member = server.member("r", "ann");
    for n in 1..=MANY {
        member.say(n, json!(format!("{n} {}", "x".repeat(200))));
    }
    drop(member);
    // After a restart it reads the file instead of its cache.
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    for number in numbers {
        damage(&server.data(), &format!("\"{number} x"));
    }
    server
}

/// Checks consecutive messages from this seq on: each is either the original or marked as unreadable. Returns the seqs
/// of the unreadable ones.
fn lost(messages: &[Value], from: u64) -> Vec<u64> {
    let mut lost = Vec::new();
    for (seq, message) in (from..).zip(messages) {
        assert_eq!(message["seq"], seq, "each once, in order");
        if message["unreadable"] == true {
            assert_eq!((&message["body"], &message["from"]["name"]), (&json!(null), &json!("?")));
            assert!(message["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "near its neighbours: {message}");
            lost.push(seq);
        } else {
            assert_eq!(message["body"].as_str().unwrap().split(' ').next(), Some(seq.to_string().as_str()));
        }
    }
    lost
}

fn heard(client: &mut Client, count: u64) -> Vec<Value> {
    (0..count).map(|_| client.next_of("message")).collect()
}

#[test]
fn a_room_with_a_damaged_page_is_entered_by_every_door() {
    let server = damaged(&[100, 260]);
    // From the beginning: the loss is one contiguous stretch around each.
    let mut client = server.client("/rooms/r/ws?name=bob&after=0");
    let joined = client.next_of("joined");
    assert_eq!((&joined["head"], &joined["from"], &joined["recovered"]), (&json!(MANY), &json!(1), &json!(true)));
    let all = heard(&mut client, MANY);
    let lost_seqs = lost(&all, 1);
    assert!(lost_seqs.contains(&100) && lost_seqs.contains(&260) && lost_seqs.len() < 60, "{lost_seqs:?}");
    let stretches = lost_seqs.chunk_by(|a, b| a + 1 == *b).count();
    assert_eq!(stretches, 2, "{lost_seqs:?}");
    assert_eq!(client.say(1, json!("on"))["seq"], MANY + 1, "it goes on");

    // The newest messages, then a history page from within the room.
    let mut late = server.client("/rooms/r/ws?name=cat&last=60");
    late.next_of("joined");
    assert!(lost(&heard(&mut late, 59), MANY - 58).contains(&260));
    late.send(json!({"type": "history", "id": 7, "before": 120, "limit": 50}));
    let page = late.next_of("history");
    assert_eq!((&page["id"], &page["more"], &page["oldest"]), (&json!(7), &json!(true), &json!(1)));
    assert!(lost(page["messages"].as_array().unwrap(), 70).contains(&100));
    // A cursor in the middle of the lost stretch.
    let mut middle = server.client("/rooms/r/ws?name=dan&after=100");
    middle.next_of("joined");
    assert_eq!(
        lost(&heard(&mut middle, MANY - 100), 101),
        lost_seqs.iter().copied().filter(|n| *n > 100).collect::<Vec<_>>()
    );

    let answer = server.get("/rooms/r/messages?after=90&limit=20");
    assert_eq!(answer.status, 200);
    assert!(lost(answer.json()["messages"].as_array().unwrap(), 91).contains(&100));
    let mut stream = EventStream::open(&server, "/rooms/r/events?after=95");
    stream.next_of("joined");
    let told: Vec<Value> = (0..10).map(|_| stream.next_of("message").json()).collect();
    assert!(lost(&told, 96).contains(&100));

    let room = format!("http://{}/rooms/r", server.address);
    let tail = Server::program().args(["tail", &room, "--last", "60"]).output().unwrap();
    let told = String::from_utf8(tail.stdout).unwrap();
    assert!(tail.status.success() && told.lines().count() == 60 && told.ends_with("bob: \"on\"\n"), "{told}");
    assert!(told.contains("?: (damaged on the server's disk)\n"), "{told}");

    let ready = server.get("/readyz");
    assert_eq!(ready.status, 200, "messages are taken");
    assert!(ready.json()["note"].as_str().unwrap().contains("cannot be read"));
    eventually("it is logged", || server.log().contains("of room r cannot be read"));
    let lines = server.log().lines().filter(|line| line.contains("of room r cannot be read")).count();
    assert!(lines <= 4, "each message is told once, in stretches: {}", server.log());
}

#[test]
fn a_session_comes_back_over_a_damaged_stretch_and_misses_nothing_else() {
    let server = damaged(&[150]);
    let mut client = server.client("/rooms/r/ws?name=bob&after=140");
    let token = client.welcome["session"].clone();
    let joined = client.next_of("joined");
    let first = heard(&mut client, 5);
    lost(&first, 141);
    drop(client);
    let mut again = server.client("/ws");
    let cursor = json!({"r": {"epoch": joined["epoch"], "seq": 145}});
    again.send(json!({"type": "resume", "id": 1, "session": token, "cursors": cursor}));
    assert_eq!(again.next_of("joined")["recovered"], true);
    assert!(lost(&heard(&mut again, MANY - 145), 146).contains(&150));
    assert!(again.sync()["heads"]["r"] == MANY);
}

/// Damage in the table of rooms is reported as such, and no message is made up.
#[test]
fn a_room_whose_place_is_damaged_is_refused_with_the_reason() {
    let mut server = Server::start(&["--request-rate", "0"]);
    server.member("r", "ann").say(1, json!("hello"));
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let data = server.data();
    let conn = rusqlite::Connection::open(&data).unwrap();
    let root: u32 =
        conn.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'rooms'", [], |row| row.get(0)).unwrap();
    std::mem::forget(conn);
    let file = OpenOptions::new().write(true).open(&data).unwrap();
    file.write_all_at(&[0xa5; PAGE as usize], u64::from(root - 1) * PAGE).unwrap();
    let answer = server.get("/rooms/r/messages");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("storage_unavailable")));
    assert!(answer.json()["detail"].as_str().unwrap().contains("database is damaged"), "{answer:?}");
    let mut client = server.client("/rooms/r/ws?name=bob&last=5");
    let error = client.next_of("error");
    assert_eq!(error["code"], "storage_unavailable");
    assert!(error["message"].as_str().unwrap().contains("database is damaged"), "{error}");
}
