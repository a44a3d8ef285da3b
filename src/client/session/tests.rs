//! A session without a connection: texts in, texts and events out.

use super::*;
use serde_json::Value;

struct Client {
    session: ClientSession,
    now: u64,
    events: Vec<Event>,
}

impl Client {
    fn new(begin: Begin) -> Client {
        let room = RoomId::parse("lobby").unwrap();
        Client { session: ClientSession::new(room, None, begin), now: 0, events: Vec::new() }
    }

    /// In the room, with its head at 5 and everything received.
    fn seated() -> Client {
        let mut client = Client::new(Begin::Now);
        client.open("t1");
        let [join] = client.said().try_into().unwrap();
        assert_eq!((&join["type"], join.get("last"), join.get("after")), (&json!("join"), None, None));
        client.joined("e", 5, 6, &join["id"]);
        assert_eq!(client.events(), [Event::CaughtUp]);
        client
    }

    fn open(&mut self, token: &str) {
        self.session.connected(self.now, 300);
        let limits = json!({"max_message_size": 200, "in_flight": 2, "request_rate": 10});
        self.receives(json!({"type": "welcome", "session": token, "limits": limits}));
    }

    fn joined(&mut self, epoch: &str, head: u64, from: u64, id: &Value) {
        self.receives(json!({"type": "joined", "room": "lobby", "epoch": epoch, "head": head, "from": from, "id": id}));
    }

    fn receives(&mut self, value: Value) {
        self.session.receive(&value.to_string(), self.now, &mut self.events);
    }

    fn message(&mut self, seq: u64) {
        self.receives(json!({"type": "message", "room": "lobby", "seq": seq, "body": 1}));
    }

    fn said(&mut self) -> Vec<Value> {
        let texts = std::iter::from_fn(|| self.session.next_text(self.now, &mut self.events));
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    fn send(&mut self, key: &str) {
        self.session.send(0, key.to_string(), "1".to_string());
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes the events, and returns the seqs of the messages among them.
    fn seqs(&mut self) -> Vec<u64> {
        let seq = |event| match event {
            Event::Message(text) => ServerMessage::parse(&text).unwrap().number("seq"),
            _ => None,
        };
        self.events().into_iter().filter_map(seq).collect()
    }
}

fn keys(said: &[Value]) -> Vec<&str> {
    said.iter().map(|send| send["key"].as_str().unwrap()).collect()
}

#[test]
fn the_token_from_before_its_name_was_heard_is_not_shown() {
    let mut client = Client::new(Begin::Now);
    client.session = ClientSession::new(RoomId::parse("lobby").unwrap(), Name::parse("ann").ok(), Begin::Now);
    client.open("a-guest's");
    let [join] = client.said().try_into().unwrap();
    assert_eq!(join["name"], "ann");
    client.receives(json!({"type": "welcome", "session": "ann's"}));
    client.joined("e", 5, 6, &join["id"]);
    client.session.disconnected();
    client.open("provisional");
    let [resume] = client.said().try_into().unwrap();
    assert_eq!((&resume["type"], &resume["session"]), (&json!("resume"), &json!("ann's")));
    // Not resumable; and the next socket is lost before the name arrives.
    client.receives(json!({"type": "error", "code": "not_resumable", "message": "gone", "id": resume["id"]}));
    let [join] = client.said().try_into().unwrap();
    assert_eq!((&join["type"], &join["name"], &join["after"]), (&json!("join"), &json!("ann"), &json!(5)));
    client.session.disconnected();
    client.open("another guest's");
    let [join] = client.said().try_into().unwrap();
    assert_eq!((&join["type"], &join["name"], &join["after"]), (&json!("join"), &json!("ann"), &json!(5)));
}

#[test]
fn after_a_loss_it_goes_on_where_it_was() {
    let mut client = Client::seated();
    client.message(6);
    client.message(7);
    client.session.disconnected();
    client.open("provisional");
    let [resume] = client.said().try_into().unwrap();
    assert_eq!((&resume["type"], &resume["session"]), (&json!("resume"), &json!("t1")));
    assert_eq!(resume["cursors"]["lobby"], json!({"epoch": "e", "seq": 7, "presence": "off"}));
    client.receives(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    client.joined("e", 9, 8, &Value::Null);
    for seq in [7, 8, 8, 9] {
        client.message(seq);
    }
    assert_eq!(client.seqs(), [6, 7, 8, 9], "each once");
    client.session.disconnected();
    client.open("provisional");
    assert_eq!(client.said()[0]["session"], "t2", "the next token");
}

#[test]
fn what_was_not_acknowledged_goes_out_again_under_its_key() {
    let mut client = Client::seated();
    for key in ["a", "b", "c"] {
        client.send(key);
    }
    let first = client.said();
    assert_eq!(keys(&first), ["a", "b"], "no more at once than the server takes");
    client.receives(json!({"type": "ack", "id": first[0]["id"], "seq": 6}));
    assert_eq!(keys(&client.said()), ["c"]);
    client.session.disconnected();
    client.open("provisional");
    let resume = client.said().remove(0);
    client.receives(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    assert!(client.said().is_empty(), "not before the room is joined");
    client.joined("e", 7, 6, &Value::Null);
    let again = client.said();
    assert_eq!(keys(&again), ["b", "c"]);
    for send in &again {
        client.receives(json!({"type": "ack", "id": send["id"], "seq": 7, "duplicate": true}));
    }
    assert_eq!((client.session.unacknowledged(), client.said().len()), (0, 0));
}

#[test]
fn without_its_session_it_says_what_it_does_not_know() {
    let mut client = Client::seated();
    for key in ["a", "b", "c"] {
        client.send(key);
    }
    assert_eq!(client.said().len(), 2);
    client.session.disconnected();
    client.open("new");
    let resume = client.said().remove(0);
    client.receives(json!({"type": "error", "id": resume["id"], "code": "not_resumable", "message": "m"}));
    let join = client.said().remove(0);
    assert_eq!((&join["type"], &join["after"], &join["epoch"]), (&json!("join"), &json!(5), &json!("e")));
    client.joined("e", 5, 6, &join["id"]);
    assert!(client.events().contains(&Event::Unknown(2)));
    assert_eq!(keys(&client.said()), ["c"], "what never went out is sent");
}

#[test]
fn what_is_refused_for_now_is_sent_again_and_what_is_refused_is_not() {
    let mut client = Client::seated();
    client.send("a");
    client.send("b");
    let said = client.said();
    client.receives(json!({"type": "error", "id": said[0]["id"], "code": "rate_limited", "retry_after_ms": 300}));
    client.receives(json!({"type": "error", "id": said[1]["id"], "code": "not_encrypted", "message": "no"}));
    assert_eq!(client.events(), [Event::Refused("no".to_string())]);
    assert!(client.said().is_empty());
    assert_eq!(client.session.deferral(), Some("rate_limited"), "the reason for giving up");
    assert_eq!(client.session.deadline(client.now), 300);
    client.now = 300;
    assert_eq!(keys(&client.said()), ["a"]);
    client.receives(json!({"type": "error", "id": 99, "code": "storage_unavailable", "message": "the disk is full"}));
    assert_eq!(client.events(), [Event::Deferred("the disk is full".to_string())]);
}

/// A fault in one message does not hold up the messages behind it.
#[test]
fn what_cannot_be_sent_is_told_by_its_line_and_the_rest_goes_on() {
    let mut client = Client::seated();
    for (line, key, body) in [(1, "a", "1".repeat(200)), (2, "b", "2".to_string()), (3, "c", "3".to_string())] {
        client.session.send(line, key.to_string(), body);
    }
    let said = [client.said(), client.said()].concat();
    assert_eq!(keys(&said), ["b", "c"]);
    let told = |client: &mut Client| match &client.events()[..] {
        [Event::Unsendable(why)] => why.clone(),
        other => panic!("{other:?}"),
    };
    let why = told(&mut client);
    assert!(why.starts_with("line 1: ") && why.contains("(200)"), "{why}");
    client.receives(json!({"type": "error", "id": said[0]["id"], "code": "bad_field", "message": "too deep"}));
    assert_eq!(told(&mut client), "line 2: too deep");
    client.receives(json!({"type": "ack", "id": said[1]["id"], "room": "lobby", "seq": 6}));
    assert_eq!((client.events(), client.session.unacknowledged()), (vec![Event::Acknowledged], 0));
    // A sealed socket takes less than the server announces; the only text is told without a line.
    client.session.connected(client.now, 100);
    client.receives(json!({"type": "welcome", "session": "t2"}));
    let resume = client.said().remove(0);
    client
        .receives(json!({"type": "welcome", "id": resume["id"], "session": "t3", "limits": {"max_message_size": 200}}));
    client.joined("e", 6, 7, &resume["id"]);
    client.events();
    client.session.send(0, "d".to_string(), "4".repeat(80));
    assert!(client.said().is_empty());
    assert!(matches!(&client.events()[..], [Event::Refused(why)] if why.contains("sealed") && why.contains("(100)")));
}

/// The same bytes would end the next connection, too.
#[test]
fn after_a_close_for_size_the_longest_is_not_sent_again_and_what_is_behind_it_is() {
    let mut client = Client::seated();
    for (key, body) in [("a", "1"), ("b", "\"long, long\""), ("c", "2")] {
        client.session.send(7, key.to_string(), body.to_string());
    }
    assert_eq!(keys(&client.said()), ["a", "b"]);
    client.session.drop_longest(&mut client.events);
    assert!(matches!(&client.events()[..], [Event::Unsendable(why)] if why.contains("12 bytes are more")));
    client.session.disconnected();
    client.session.drop_longest(&mut client.events);
    assert_eq!(client.events(), [], "nothing was under way");
    client.open("provisional");
    let resume = client.said().remove(0);
    client.receives(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    client.joined("e", 5, 6, &Value::Null);
    assert_eq!(keys(&client.said()), ["a", "c"]);
}

#[test]
fn no_faster_than_the_server_takes() {
    let mut client = Client::seated();
    let mut sent = 0;
    for n in 0..25 {
        client.send(&n.to_string());
    }
    for _ in 0..20 {
        for send in client.said() {
            sent += 1;
            client.receives(json!({"type": "ack", "id": send["id"], "seq": 6}));
        }
    }
    assert_eq!((sent, client.session.deadline(0)), (10, 100));
    client.now = 100;
    assert_eq!(client.said().len(), 1);
}

#[test]
fn many_of_the_newest_are_reckoned_from_the_head() {
    let mut client = Client::new(Begin::Last(500));
    client.open("t");
    let probe = client.said().remove(0);
    client.joined("e", 900, 901, &probe["id"]);
    client.message(901);
    let leave = client.said().remove(0);
    assert_eq!(leave["type"], "leave");
    client.receives(json!({"type": "left", "room": "lobby", "id": leave["id"]}));
    let join = client.said().remove(0);
    assert_eq!((&join["after"], &join["epoch"]), (&json!(400), &json!("e")));
    client.joined("e", 901, 401, &join["id"]);
    client.message(401);
    assert_eq!(client.seqs(), [401]);
    let mut few = Client::new(Begin::Last(200));
    few.open("t");
    assert_eq!(few.said()[0]["last"], 200);
}

#[test]
fn gaps_are_reported() {
    let mut client = Client::seated();
    client.receives(json!({"type": "gap", "room": "lobby", "after": 5, "from": 9}));
    client.message(11);
    let gaps = client.events();
    assert_eq!(gaps[0], Event::Gap { after: 5, from: 9, new_log: false });
    assert_eq!(gaps[1], Event::Gap { after: 8, from: 11, new_log: false });
    client.session.disconnected();
    client.open("p");
    let resume = client.said().remove(0);
    client.receives(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    client.joined("other", 2, 1, &Value::Null);
    assert_eq!(client.events(), [Event::Gap { after: 11, from: 1, new_log: true }]);
    client.message(1);
    client.message(2);
    assert_eq!(client.seqs(), [1, 2]);
}

#[test]
fn a_room_that_cannot_be_joined_yet_is_asked_for_again() {
    let mut client = Client::new(Begin::Now);
    client.open("t");
    let join = client.said().remove(0);
    client.receives(json!({"type": "error", "id": join["id"], "code": "storage_unavailable", "retry_after_ms": 700}));
    assert_eq!(client.session.deadline(0), 700);
    client.session.tick(699, &mut client.events);
    assert!(client.said().is_empty());
    client.session.tick(700, &mut client.events);
    let join = client.said().remove(0);
    client.receives(json!({"type": "error", "id": join["id"], "code": "already_joined"}));
    let leave = client.said().remove(0);
    client.receives(json!({"type": "left", "room": "lobby", "id": leave["id"]}));
    let join = client.said().remove(0);
    client.receives(json!({"type": "error", "id": join["id"], "code": "bad_field", "message": "no"}));
    assert_eq!(client.events(), [Event::Deferred("storage_unavailable".to_string()), Event::GiveUp("no".to_string())]);
}

#[test]
fn a_server_that_is_silent_is_asked_and_then_given_up() {
    let mut client = Client::seated();
    assert_eq!(client.session.deadline(0), SILENCE);
    client.session.tick(SILENCE, &mut client.events);
    let ping = client.said().remove(0);
    assert_eq!((&ping["type"], client.session.deadline(SILENCE)), (&json!("ping"), SILENCE + ANSWER));
    client.now = SILENCE + ANSWER - 1;
    client.receives(json!({"type": "pong", "id": ping["id"], "session": "t9"}));
    client.session.tick(SILENCE + ANSWER, &mut client.events);
    assert_eq!(client.events(), []);
    client.now += SILENCE;
    client.session.tick(client.now, &mut client.events);
    client.session.tick(client.now + ANSWER, &mut client.events);
    assert!(matches!(client.events()[..], [Event::Reconnect(_)]));
    client.session.disconnected();
    client.open("p");
    assert_eq!(client.said()[0]["session"], "t9", "the token that came with the answer");
}

proptest::proptest! {
    /// Whatever a server sends: no panic, and seqs only grow within one log.
    #[test]
    fn any_server_is_borne(lines in proptest::collection::vec(line(), 0..40)) {
        let mut client = Client::seated();
        client.send("a");
        let mut last = 5;
        for line in lines {
            client.said();
            client.receives(line);
            for event in client.events() {
                match event {
                    Event::Message(text) => {
                        let seq = ServerMessage::parse(&text).unwrap().number("seq").unwrap();
                        proptest::prop_assert!(seq > last);
                        last = seq;
                    }
                    Event::Gap { new_log: true, from, .. } => last = from.saturating_sub(1),
                    _ => {}
                }
            }
        }
    }
}

fn line() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let kind = prop::sample::select(vec!["welcome", "joined", "message", "ack", "error", "left", "gap", "pong", "bye"]);
    let code = prop::sample::select(vec!["rate_limited", "not_resumable", "already_joined", "other"]);
    (kind, code, 0..12u64, 0..12u64, 0..6u64).prop_map(|(kind, code, seq, from, id)| {
        json!({"type": kind, "code": code, "room": "lobby", "seq": seq, "from": from, "head": seq, "id": id, "session": "s"})
    })
}
