//! What ends, ends: a kill right after the answer to an end brings no session back, and none after a session went on
//! with a later token brings back an older one.

use racerd::crypto::sealed::Pin;
use serde_json::{Value, json};

use crate::line::Line;
use crate::support::{Server, close, eventually};
use crate::{sealed_server, server};

/// How a client ends its session.
#[derive(Clone, Copy, Debug)]
enum By {
    /// It closes with 1000.
    Close,
    End,
    SealedEnd,
}

fn open(server: &Server, pin: Option<&Pin>, seed: u8) -> Line {
    Line::open(server.address, "ann", pin, [seed; 32]).expect("a socket")
}

/// Reads up to an object of this type.
fn next(line: &mut Line, kind: &str) -> Value {
    loop {
        let said = line.read().unwrap_or_else(|| panic!("the end, before {kind}"));
        if said["type"] == kind {
            return said;
        }
    }
}

fn token(welcome: &Value) -> String {
    welcome["session"].as_str().expect("a token").to_owned()
}

/// Joins the room with a new session. Returns its token.
fn join(line: &mut Line) -> String {
    let mut join = json!({"type": "join", "id": 2, "room": "r", "presence": "off"});
    let welcome = next(line, "welcome");
    let welcome = if line.is_sealed() {
        join["name"] = json!("ann");
        assert!(line.say(&join));
        next(line, "welcome")
    } else {
        assert!(line.say(&join));
        welcome
    };
    next(line, "joined");
    token(&welcome)
}

/// Tries to come back with a token, and names the room. Returns the answer.
fn resume(line: &mut Line, token: &str) -> Value {
    next(line, "welcome");
    let cursors = json!({"r": {"epoch": "e", "seq": 0}});
    assert!(line.say(&json!({"type": "resume", "id": 1, "session": token, "cursors": cursors})));
    loop {
        let said = line.read().expect("an answer");
        if said["id"] == 1 {
            return said;
        }
    }
}

fn is_refused(server: &Server, pin: Option<&Pin>, token: &str, seed: u8) -> bool {
    let answer = resume(&mut open(server, pin, seed), token);
    assert!(answer["type"] == "welcome" || answer["code"] == "not_resumable", "{answer}");
    answer["type"] == "error"
}

#[test]
fn kill_9_right_after_an_end_brings_nothing_back() {
    for (mut server, pin) in [server(), sealed_server()] {
        let mut tokens = Vec::new();
        for (round, by) in [By::Close, By::SealedEnd, By::End, By::Close].into_iter().enumerate() {
            let pin = matches!(by, By::SealedEnd).then_some(&pin);
            let seed = 10 * round as u8;
            let first = match by {
                By::Close => {
                    let mut raw = server.socket("/rooms/r/ws?name=ann");
                    let token = token(&raw.next_of("welcome"));
                    raw.next_of("joined");
                    raw.send(close(1000, b""));
                    assert_eq!(raw.closed_with(), 1000);
                    token
                }
                By::End | By::SealedEnd => {
                    let mut line = open(&server, pin, seed);
                    let token = join(&mut line);
                    assert!(line.say(&json!({"type": "end"})));
                    if pin.is_some() {
                        assert_eq!(next(&mut line, "closing")["code"], 1000);
                    }
                    assert_eq!(line.read(), None);
                    token
                }
            };
            // The moment at which the client knows that it has ended.
            server.kill();
            server.restart();
            assert!(is_refused(&server, pin, &first, seed + 1), "{by:?}: it lives again");
            tokens.push((first, pin.copied()));
        }
        // They stay so, over an end in order, too.
        assert!(server.stop().success());
        server.restart();
        for (n, (token, pin)) in tokens.iter().enumerate() {
            assert!(is_refused(&server, pin.as_ref(), token, 100 + n as u8), "{n}");
        }
    }
}

#[test]
fn kill_9_brings_no_older_token_back_once_a_later_one_is_recorded() {
    let (mut server, _) = server();
    let mut tokens = vec![join(&mut open(&server, None, 0))];
    for _ in 0..3 {
        let mut line = open(&server, None, 0);
        tokens.push(token(&resume(&mut line, &tokens[tokens.len() - 1])));
    }
    // A message of before is committed with what was recorded before it.
    let mut line = open(&server, None, 0);
    tokens.push(token(&resume(&mut line, &tokens[3])));
    assert!(line.say(&json!({"type": "send", "id": 9, "room": "r", "key": "k", "body": 1})));
    next(&mut line, "ack");
    for _ in 0..2 {
        server.kill();
        server.restart();
        for old in &tokens[..3] {
            assert!(is_refused(&server, None, old, 0), "an older one lives again");
        }
    }
    assert!(!is_refused(&server, None, &tokens[4], 0), "the newest is good");
}

/// A database that cannot be written keeps no close from its answer, and what it could not record is recorded later.
#[test]
fn an_end_while_nothing_can_be_written_is_answered_and_recorded_later() {
    let (mut server, _) = server();
    let mut raw = server.socket("/rooms/r/ws?name=ann");
    let first = token(&raw.next_of("welcome"));
    raw.next_of("joined");
    let other = rusqlite::Connection::open(server.data()).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    raw.send(close(1000, b""));
    assert_eq!(raw.closed_with(), 1000, "after a second at most");
    assert!(is_refused(&server, None, &first, 0), "it is known all the same");
    other.execute_batch("ROLLBACK").expect("unlocked");
    eventually("a write", || server.post("/rooms/r/messages", "1").status == 201);
    server.kill();
    server.restart();
    assert!(is_refused(&server, None, &first, 0), "it was recorded with the next commit");
}
