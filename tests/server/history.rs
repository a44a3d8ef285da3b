//! Reading the log again: pages, idempotency keys, and following a room over lost connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use racerd::testing::Random;
use serde_json::{Value, json};

use crate::support::*;

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect()
}

/// Walks a room's log with `page`, which is given a query parameter and its value, and checks that no message is
/// missing or duplicated.
fn walk(count: u64, mut page: impl FnMut(&str, u64) -> Value) {
    let (mut newest_first, mut before): (Vec<u64>, u64) = (Vec::new(), count + 1);
    loop {
        let answer = page("before", before);
        let page = seqs(&answer);
        assert!(page.is_sorted() && !page.is_empty());
        assert_eq!(answer["oldest"], 1);
        newest_first.extend(page.iter().rev());
        before = page[0];
        assert_eq!(answer["more"], before != 1, "a short page is not the end, and the end says so");
        if before == 1 {
            break;
        }
    }
    assert!(newest_first.into_iter().eq((1..=count).rev()));
    let (mut oldest_first, mut after): (Vec<u64>, u64) = (Vec::new(), 0);
    loop {
        let answer = page("after", after);
        let page = seqs(&answer);
        oldest_first.extend(&page);
        after = *page.last().expect("no empty page before the end");
        assert_eq!(answer["more"], after != count);
        if after == count {
            break;
        }
    }
    assert!(oldest_first.into_iter().eq(1..=count));
    let beyond = page("after", count);
    assert_eq!((seqs(&beyond), &beyond["more"]), (vec![], &json!(false)));
    let first = page("before", 1);
    assert_eq!((seqs(&first), &first["more"]), (vec![], &json!(false)));
}

#[test]
fn pages_have_no_gap_and_no_repeat() {
    const COUNT: u64 = 120;
    let server = Server::without_grace(&["--request-rate", "0"]);
    let mut writer = server.member("long", "writer");
    for id in 1..=COUNT {
        // Every seventh message is long enough that the byte limit cuts pages before they are full.
        let body = if id % 7 == 0 { "x".repeat(20_000) } else { format!("{id}") };
        writer.say(id, json!(body));
    }
    for limit in [1000, 100, 7, 1] {
        let mut longest = 0;
        walk(COUNT, |query, value| {
            let answer = server.get(&format!("/rooms/long/messages?{query}={value}&limit={limit}"));
            assert_eq!(answer.status, 200);
            longest = longest.max(answer.body.len());
            let page = answer.json();
            assert_eq!((&page["room"], &page["head"]), (&json!("long"), &json!(COUNT)));
            assert!(seqs(&page).len() <= limit);
            page
        });
        assert!(longest < 64_000, "{longest} bytes in a page");
        walk(COUNT, |query, value| {
            writer.send(json!({"type": "history", "id": value, query: value, "limit": limit}));
            let page = writer.next_of("history");
            assert_eq!(page["id"], value);
            assert!(seqs(&page).len() <= limit);
            page
        });
    }
    let newest = server.get("/rooms/long/messages?limit=3").json();
    assert_eq!((seqs(&newest), &newest["more"]), (vec![118, 119, 120], &json!(true)));
}

#[test]
fn joining_with_history() {
    let server = Server::without_grace(&["--request-rate", "0"]);
    let mut writer = server.member("past", "writer");
    for id in 1..=300 {
        writer.say(id, json!(id));
    }
    let epoch = server.get("/rooms/past/messages?limit=1").json()["epoch"].as_str().unwrap().to_owned();
    let cases = [
        ("?last=150".to_owned(), 151, true),
        (format!("?after=290&epoch={epoch}"), 291, true),
        (format!("?after=300&epoch={epoch}"), 301, true),
        (String::new(), 301, true),
        // An unknown epoch, and a cursor past the head.
        ("?after=290&epoch=elsewhere".to_owned(), 1, false),
        (format!("?after=999&epoch={epoch}"), 301, false),
    ];
    for (query, from, recovered) in cases {
        let mut client = server.client(&format!("/rooms/past/ws{query}"));
        let joined = client.next_of("joined");
        assert_eq!(
            (&joined["from"], &joined["recovered"], &joined["head"]),
            (&json!(from), &json!(recovered), &json!(300)),
            "{query}"
        );
        for seq in from..=300 {
            let message = client.next_of("message");
            assert_eq!((&message["seq"], &message["body"]), (&json!(seq), &json!(seq)), "{query}");
        }
        assert_eq!(client.sync()["heads"]["past"], 300, "{query}");
    }
}

#[test]
fn sent_twice_stored_once() {
    let mut server = Server::without_grace(&[]);
    let mut raw = server.socket("/rooms/keys/ws?name=a");
    let send =
        |id: u64, key: &str, body: &str| text(&json!({"type": "send", "id": id, "key": key, "body": body}).to_string());
    // Both sends are in one segment, so in one batch of the store.
    raw.send([send(1, "k1", "one"), send(2, "k1", "one")].concat());
    let (first, second) = (raw.next_of("ack"), raw.next_of("ack"));
    assert_eq!((&first["id"], &first["seq"], first.get("duplicate")), (&json!(1), &json!(1), None));
    assert_eq!((&second["id"], &second["seq"], &second["duplicate"]), (&json!(2), &json!(1), &json!(true)));
    assert_eq!(second["at"], first["at"]);
    raw.send(send(3, "k1", "another"));
    assert_eq!(raw.next_of("error")["code"], "key_reused");
    // The same key of another member, or in another room, is a different key.
    let mut other = server.member("keys", "b");
    other.send(json!({"type": "send", "id": 1, "key": "k1", "body": "one"}));
    assert_eq!(other.next_of("ack")["seq"], 2);
    other.send(json!({"type": "join", "id": 2, "room": "more"}));
    other.next_of("joined");
    other.send(json!({"type": "send", "id": 3, "room": "more", "key": "k1", "body": "one"}));
    let ack = other.next_of("ack");
    assert_eq!((&ack["seq"], ack.get("duplicate")), (&json!(1), None));
    // Keys are compared in full.
    raw.send([send(4, "k\u{0}x", "nul"), send(5, "k", "no nul")].concat());
    assert_eq!((raw.next_of("ack")["seq"].clone(), raw.next_of("ack")["seq"].clone()), (json!(3), json!(4)));
    assert_eq!(server.history("keys").len(), 4);

    // The same by POST: many at a time, and again after a restart.
    let key = "Idempotency-Key: 0123456789abcdef0123456789\r\n";
    let answers = at_once(vec![(); 12], |_, ()| server.post_with("/rooms/posts/messages", "\"same\"", key));
    let mut statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    statuses.sort();
    assert_eq!(statuses, [[200; 11].as_slice(), &[201]].concat());
    assert!(answers.iter().all(|a| a.json()["seq"] == 1), "{answers:?}");
    assert_eq!(server.post_with("/rooms/posts/messages", "\"other\"", key).status, 422);
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let again = server.post_with("/rooms/posts/messages", "\"same\"", key);
    assert_eq!((again.status, &again.json()["seq"]), (200, &json!(1)));
    assert_eq!(server.post_with("/rooms/posts/messages", "\"other\"", key).status, 422);
    assert_eq!(server.history("posts").len(), 1);
}

/// Clients join with their cursor, are cut off at random moments, and join again: they get a contiguous log, each
/// message once, in order.
#[test]
fn following_a_room_over_lost_connections() {
    const COUNT: u64 = 2000;
    let server = Server::without_grace(&["--request-rate", "0", "--handshake-rate", "0", "--page-bytes", "2000"]);
    let epoch = server.get("/rooms/news/messages").json()["epoch"].as_str().unwrap().to_owned();
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = server.member("news", "writer");
            for burst in 0..COUNT / 20 {
                for id in burst * 20 + 1..=burst * 20 + 20 {
                    writer.send(json!({"type": "send", "id": id, "body": id}));
                }
                for _ in 0..20 {
                    writer.next_of("ack");
                }
            }
            writing.store(false, Ordering::Relaxed);
        });
        for follower in 0..8 {
            let (server, epoch, writing) = (&server, &epoch, &writing);
            scope.spawn(move || {
                let mut random = Random::new(follower);
                let (mut cursor, mut cuts) = (0, 0);
                while cursor < COUNT {
                    let mut raw = server.socket(&format!("/rooms/news/ws?after={cursor}&epoch={epoch}"));
                    let joined = raw.next_of("joined");
                    assert_eq!((&joined["from"], &joined["recovered"]), (&json!(cursor + 1), &json!(true)));
                    assert!(joined["head"].as_u64().unwrap() >= cursor);
                    // Once the writer is done, the client reads to the end in one go, so that the test ends, too.
                    let most = if writing.load(Ordering::Relaxed) { random.within((0, 119)) } else { COUNT };
                    for _ in 0..most.min(COUNT - cursor) {
                        let message = raw.next_of("message");
                        assert_eq!((&message["seq"], &message["body"]), (&json!(cursor + 1), &json!(cursor + 1)));
                        cursor += 1;
                    }
                    cuts += 1;
                    if random.below(2) == 0 {
                        raw.reset();
                    }
                }
                assert!(cuts > 1, "it was never cut off");
            });
        }
    });
    eventually("an empty room", || server.members("news") == 0);
}
