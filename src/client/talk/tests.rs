//! The talk, with nobody on the other side: texts in, texts and events out.

use super::*;
use serde_json::Value;

struct Desk {
    talk: Talk,
    now: u64,
    events: Vec<Event>,
}

impl Desk {
    fn new(begin: Begin) -> Desk {
        let room = RoomId::parse("lobby").unwrap();
        Desk { talk: Talk::new(room, None, begin), now: 0, events: Vec::new() }
    }

    /// In the room, with its head at 5 and all of it heard.
    fn seated() -> Desk {
        let mut desk = Desk::new(Begin::Now);
        desk.open("t1");
        let [join] = desk.said().try_into().unwrap();
        assert_eq!((&join["type"], join.get("last"), join.get("after")), (&json!("join"), None, None));
        desk.joined("e", 5, 6, &join["id"]);
        assert_eq!(desk.events(), [Event::CaughtUp]);
        desk
    }

    fn open(&mut self, token: &str) {
        self.talk.opened(self.now, 300);
        let limits = json!({"max_message_size": 200, "in_flight": 2, "request_rate": 10});
        self.hears(json!({"type": "welcome", "session": token, "limits": limits}));
    }

    fn joined(&mut self, epoch: &str, head: u64, from: u64, id: &Value) {
        self.hears(json!({"type": "joined", "room": "lobby", "epoch": epoch, "head": head, "from": from, "id": id}));
    }

    fn hears(&mut self, value: Value) {
        self.talk.hear(&value.to_string(), self.now, &mut self.events);
    }

    fn message(&mut self, seq: u64) {
        self.hears(json!({"type": "message", "room": "lobby", "seq": seq, "body": 1}));
    }

    fn said(&mut self) -> Vec<Value> {
        let texts = std::iter::from_fn(|| self.talk.poll(self.now, &mut self.events));
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    fn send(&mut self, key: &str) {
        self.talk.send(0, key.to_string(), "1".to_string());
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What happened, without the messages' texts: their seqs.
    fn seqs(&mut self) -> Vec<u64> {
        let seq = |event| match event {
            Event::Message(text) => Heard::parse(&text).unwrap().number("seq"),
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
    let mut desk = Desk::new(Begin::Now);
    desk.talk = Talk::new(RoomId::parse("lobby").unwrap(), Name::parse("ann").ok(), Begin::Now);
    desk.open("a-guest's");
    let [join] = desk.said().try_into().unwrap();
    assert_eq!(join["name"], "ann");
    desk.hears(json!({"type": "welcome", "session": "ann's"}));
    desk.joined("e", 5, 6, &join["id"]);
    desk.talk.lost();
    desk.open("provisional");
    let [resume] = desk.said().try_into().unwrap();
    assert_eq!((&resume["type"], &resume["session"]), (&json!("resume"), &json!("ann's")));
    // Not resumable; and the next socket is lost before the name is heard.
    desk.hears(json!({"type": "error", "code": "not_resumable", "message": "gone", "id": resume["id"]}));
    let [join] = desk.said().try_into().unwrap();
    assert_eq!((&join["type"], &join["name"], &join["after"]), (&json!("join"), &json!("ann"), &json!(5)));
    desk.talk.lost();
    desk.open("another guest's");
    let [join] = desk.said().try_into().unwrap();
    assert_eq!((&join["type"], &join["name"], &join["after"]), (&json!("join"), &json!("ann"), &json!(5)));
}

#[test]
fn after_a_loss_it_goes_on_where_it_was() {
    let mut desk = Desk::seated();
    desk.message(6);
    desk.message(7);
    desk.talk.lost();
    desk.open("provisional");
    let [resume] = desk.said().try_into().unwrap();
    assert_eq!((&resume["type"], &resume["session"]), (&json!("resume"), &json!("t1")));
    assert_eq!(resume["cursors"]["lobby"], json!({"epoch": "e", "seq": 7, "presence": "off"}));
    desk.hears(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    desk.joined("e", 9, 8, &Value::Null);
    for seq in [7, 8, 8, 9] {
        desk.message(seq);
    }
    assert_eq!(desk.seqs(), [6, 7, 8, 9], "each once");
    desk.talk.lost();
    desk.open("provisional");
    assert_eq!(desk.said()[0]["session"], "t2", "the next token");
}

#[test]
fn what_was_not_acknowledged_goes_out_again_under_its_key() {
    let mut desk = Desk::seated();
    for key in ["a", "b", "c"] {
        desk.send(key);
    }
    let first = desk.said();
    assert_eq!(keys(&first), ["a", "b"], "no more at once than the server takes");
    desk.hears(json!({"type": "ack", "id": first[0]["id"], "seq": 6}));
    assert_eq!(keys(&desk.said()), ["c"]);
    desk.talk.lost();
    desk.open("provisional");
    let resume = desk.said().remove(0);
    desk.hears(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    assert!(desk.said().is_empty(), "not before the room is joined");
    desk.joined("e", 7, 6, &Value::Null);
    let again = desk.said();
    assert_eq!(keys(&again), ["b", "c"]);
    for send in &again {
        desk.hears(json!({"type": "ack", "id": send["id"], "seq": 7, "duplicate": true}));
    }
    assert_eq!((desk.talk.unsent(), desk.said().len()), (0, 0));
}

#[test]
fn without_its_session_it_says_what_it_does_not_know() {
    let mut desk = Desk::seated();
    for key in ["a", "b", "c"] {
        desk.send(key);
    }
    assert_eq!(desk.said().len(), 2);
    desk.talk.lost();
    desk.open("new");
    let resume = desk.said().remove(0);
    desk.hears(json!({"type": "error", "id": resume["id"], "code": "not_resumable", "message": "m"}));
    let join = desk.said().remove(0);
    assert_eq!((&join["type"], &join["after"], &join["epoch"]), (&json!("join"), &json!(5), &json!("e")));
    desk.joined("e", 5, 6, &join["id"]);
    assert!(desk.events().contains(&Event::Unsure(2)));
    assert_eq!(keys(&desk.said()), ["c"], "what never went out is sent");
}

#[test]
fn what_is_refused_for_now_is_sent_again_and_what_is_refused_is_not() {
    let mut desk = Desk::seated();
    desk.send("a");
    desk.send("b");
    let said = desk.said();
    desk.hears(json!({"type": "error", "id": said[0]["id"], "code": "rate_limited", "retry_after_ms": 300}));
    desk.hears(json!({"type": "error", "id": said[1]["id"], "code": "not_encrypted", "message": "no"}));
    assert_eq!(desk.events(), [Event::Refused("no".to_string())]);
    assert!(desk.said().is_empty());
    assert_eq!(desk.talk.put_off(), Some("rate_limited"), "whoever gives up can say why");
    assert_eq!(desk.talk.deadline(desk.now), 300);
    desk.now = 300;
    assert_eq!(keys(&desk.said()), ["a"]);
    desk.hears(json!({"type": "error", "id": 99, "code": "storage_unavailable", "message": "the disk is full"}));
    assert_eq!(desk.events(), [Event::PutOff("the disk is full".to_string())]);
}

/// What is wrong with one message says nothing of those behind it.
#[test]
fn what_cannot_be_sent_is_told_by_its_line_and_the_rest_goes_on() {
    let mut desk = Desk::seated();
    for (line, key, body) in [(1, "a", "1".repeat(200)), (2, "b", "2".to_string()), (3, "c", "3".to_string())] {
        desk.talk.send(line, key.to_string(), body);
    }
    let said = [desk.said(), desk.said()].concat();
    assert_eq!(keys(&said), ["b", "c"]);
    let told = |desk: &mut Desk| match &desk.events()[..] {
        [Event::Unsendable(why)] => why.clone(),
        other => panic!("{other:?}"),
    };
    let why = told(&mut desk);
    assert!(why.starts_with("line 1: ") && why.contains("(200)"), "{why}");
    desk.hears(json!({"type": "error", "id": said[0]["id"], "code": "bad_field", "message": "too deep"}));
    assert_eq!(told(&mut desk), "line 2: too deep");
    desk.hears(json!({"type": "ack", "id": said[1]["id"], "room": "lobby", "seq": 6}));
    assert_eq!((desk.events(), desk.talk.unsent()), (vec![Event::Acknowledged], 0));
    // A sealed socket takes less than the server announces; the only text is told without a line.
    desk.talk.opened(desk.now, 100);
    desk.hears(json!({"type": "welcome", "session": "t2"}));
    let resume = desk.said().remove(0);
    desk.hears(json!({"type": "welcome", "id": resume["id"], "session": "t3", "limits": {"max_message_size": 200}}));
    desk.joined("e", 6, 7, &resume["id"]);
    desk.events();
    desk.talk.send(0, "d".to_string(), "4".repeat(80));
    assert!(desk.said().is_empty());
    assert!(matches!(&desk.events()[..], [Event::Refused(why)] if why.contains("sealed") && why.contains("(100)")));
}

/// The same bytes would end the next connection, too.
#[test]
fn after_a_close_for_size_the_longest_is_not_sent_again_and_what_is_behind_it_is() {
    let mut desk = Desk::seated();
    for (key, body) in [("a", "1"), ("b", "\"long, long\""), ("c", "2")] {
        desk.talk.send(7, key.to_string(), body.to_string());
    }
    assert_eq!(keys(&desk.said()), ["a", "b"]);
    desk.talk.refuse_longest(&mut desk.events);
    assert!(matches!(&desk.events()[..], [Event::Unsendable(why)] if why.contains("12 bytes are more")));
    desk.talk.lost();
    desk.talk.refuse_longest(&mut desk.events);
    assert_eq!(desk.events(), [], "nothing was under way");
    desk.open("provisional");
    let resume = desk.said().remove(0);
    desk.hears(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    desk.joined("e", 5, 6, &Value::Null);
    assert_eq!(keys(&desk.said()), ["a", "c"]);
}

#[test]
fn no_faster_than_the_server_takes() {
    let mut desk = Desk::seated();
    let mut sent = 0;
    for n in 0..25 {
        desk.send(&n.to_string());
    }
    for _ in 0..20 {
        for send in desk.said() {
            sent += 1;
            desk.hears(json!({"type": "ack", "id": send["id"], "seq": 6}));
        }
    }
    assert_eq!((sent, desk.talk.deadline(0)), (10, 100));
    desk.now = 100;
    assert_eq!(desk.said().len(), 1);
}

#[test]
fn many_of_the_newest_are_reckoned_from_the_head() {
    let mut desk = Desk::new(Begin::Last(500));
    desk.open("t");
    let probe = desk.said().remove(0);
    desk.joined("e", 900, 901, &probe["id"]);
    desk.message(901);
    let leave = desk.said().remove(0);
    assert_eq!(leave["type"], "leave");
    desk.hears(json!({"type": "left", "room": "lobby", "id": leave["id"]}));
    let join = desk.said().remove(0);
    assert_eq!((&join["after"], &join["epoch"]), (&json!(400), &json!("e")));
    desk.joined("e", 901, 401, &join["id"]);
    desk.message(401);
    assert_eq!(desk.seqs(), [401]);
    let mut few = Desk::new(Begin::Last(200));
    few.open("t");
    assert_eq!(few.said()[0]["last"], 200);
}

#[test]
fn holes_are_told() {
    let mut desk = Desk::seated();
    desk.hears(json!({"type": "gap", "room": "lobby", "after": 5, "from": 9}));
    desk.message(11);
    let holes = desk.events();
    assert_eq!(holes[0], Event::Hole { after: 5, from: 9, anew: false });
    assert_eq!(holes[1], Event::Hole { after: 8, from: 11, anew: false });
    desk.talk.lost();
    desk.open("p");
    let resume = desk.said().remove(0);
    desk.hears(json!({"type": "welcome", "id": resume["id"], "session": "t2"}));
    desk.joined("other", 2, 1, &Value::Null);
    assert_eq!(desk.events(), [Event::Hole { after: 11, from: 1, anew: true }]);
    desk.message(1);
    desk.message(2);
    assert_eq!(desk.seqs(), [1, 2]);
}

#[test]
fn a_room_that_cannot_be_joined_yet_is_asked_for_again() {
    let mut desk = Desk::new(Begin::Now);
    desk.open("t");
    let join = desk.said().remove(0);
    desk.hears(json!({"type": "error", "id": join["id"], "code": "storage_unavailable", "retry_after_ms": 700}));
    assert_eq!(desk.talk.deadline(0), 700);
    desk.talk.tick(699, &mut desk.events);
    assert!(desk.said().is_empty());
    desk.talk.tick(700, &mut desk.events);
    let join = desk.said().remove(0);
    desk.hears(json!({"type": "error", "id": join["id"], "code": "already_joined"}));
    let leave = desk.said().remove(0);
    desk.hears(json!({"type": "left", "room": "lobby", "id": leave["id"]}));
    let join = desk.said().remove(0);
    desk.hears(json!({"type": "error", "id": join["id"], "code": "bad_field", "message": "no"}));
    assert_eq!(desk.events(), [Event::PutOff("storage_unavailable".to_string()), Event::Stop("no".to_string())]);
}

#[test]
fn a_server_that_is_silent_is_asked_and_then_given_up() {
    let mut desk = Desk::seated();
    assert_eq!(desk.talk.deadline(0), SILENCE);
    desk.talk.tick(SILENCE, &mut desk.events);
    let ping = desk.said().remove(0);
    assert_eq!((&ping["type"], desk.talk.deadline(SILENCE)), (&json!("ping"), SILENCE + ANSWER));
    desk.now = SILENCE + ANSWER - 1;
    desk.hears(json!({"type": "pong", "id": ping["id"], "session": "t9"}));
    desk.talk.tick(SILENCE + ANSWER, &mut desk.events);
    assert_eq!(desk.events(), []);
    desk.now += SILENCE;
    desk.talk.tick(desk.now, &mut desk.events);
    desk.talk.tick(desk.now + ANSWER, &mut desk.events);
    assert!(matches!(desk.events()[..], [Event::Again(_)]));
    desk.talk.lost();
    desk.open("p");
    assert_eq!(desk.said()[0]["session"], "t9", "the token that came with the answer");
}

proptest::proptest! {
    /// Whatever a server says: no panic, and seqs only grow within one log.
    #[test]
    fn any_server_is_borne(lines in proptest::collection::vec(line(), 0..40)) {
        let mut desk = Desk::seated();
        desk.send("a");
        let mut last = 5;
        for line in lines {
            desk.said();
            desk.hears(line);
            for event in desk.events() {
                match event {
                    Event::Message(text) => {
                        let seq = Heard::parse(&text).unwrap().number("seq").unwrap();
                        proptest::prop_assert!(seq > last);
                        last = seq;
                    }
                    Event::Hole { anew: true, from, .. } => last = from.saturating_sub(1),
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
