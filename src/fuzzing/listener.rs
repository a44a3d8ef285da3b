//! One client's view: reads the bytes that the engine wrote to its connection, and checks them against the guarantees.
//! It remembers only the state needed for that, and knows nothing of how the engine works.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::value::RawValue;

use crate::crypto::sealed::{Initiator, Transport};
use crate::store::NO_ID;
use crate::testing::LateStore;
use crate::testing::judge::{self, Begin};
use crate::types::{ConnId, RoomId, Seq};

pub struct Listener {
    conn: ConnId,
    stage: Stage,
    sealing: Sealing,
    /// Bytes of the input that are parsed already.
    read: usize,
    /// Requests without an answer.
    pub unanswered: BTreeSet<u64>,
    /// The client sent requests of unknown meaning, so the answers to expect are not known.
    pub is_vague: bool,
    /// The member id from `welcome`.
    member: Option<String>,
    /// The newest token, with which the session can be resumed.
    pub token: Option<String>,
    /// Requests that would resume a session: the answer is another `welcome`, and the member may change.
    pub resuming: BTreeSet<u64>,
    /// The next seq in each room, from the cursors of the pending resume: all messages from there on are owed.
    pub owed: BTreeMap<String, u64>,
    /// The session was resumed: earlier messages are its own, too, though their acks went to another socket.
    has_resumed: bool,
    /// The joined rooms, and the next seq in each.
    pub rooms: BTreeMap<String, u64>,
    acked: BTreeSet<(String, u64)>,
    /// The close was announced on a sealed socket: nothing but the close frame may follow.
    is_told_to_close: bool,
    /// The connection exceeds the connection limit: it gets one answer, and nothing is opened for it.
    pub is_excess: bool,
    answers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Http,
    Frames,
    /// An event stream.
    Events,
    /// After a close frame.
    Closed,
    /// Later output cannot be parsed: a client that sent arbitrary bytes may have sent HEAD.
    Deaf,
}

/// The client's end of a sealed socket, if it asked for one.
enum Sealing {
    Open,
    /// The first message of the handshake was sent.
    Begun(Box<Initiator>),
    Ready(Box<Transport>),
}

type Object<'a> = HashMap<&'a str, &'a RawValue>;

impl Listener {
    pub fn new(conn: ConnId) -> Listener {
        Listener {
            conn,
            stage: Stage::Http,
            sealing: Sealing::Open,
            read: 0,
            unanswered: BTreeSet::new(),
            is_vague: false,
            member: None,
            token: None,
            resuming: BTreeSet::new(),
            owed: BTreeMap::new(),
            has_resumed: false,
            rooms: BTreeMap::new(),
            acked: BTreeSet::new(),
            is_told_to_close: false,
            is_excess: false,
            answers: 0,
        }
    }

    /// Notes that the client has asked for a sealed socket and begun its handshake.
    pub fn begin_sealed(&mut self, initiator: Initiator) {
        self.sealing = Sealing::Begun(Box::new(initiator));
    }

    /// Returns whether no answer to a handshake is pending.
    pub fn may_speak(&self) -> bool {
        !matches!(self.sealing, Sealing::Begun(_))
    }

    /// Returns the first byte and the payload of the frame for this text; `None` while the client may not send.
    pub fn frame_of(&mut self, json: &str) -> Option<(u8, Vec<u8>)> {
        match &mut self.sealing {
            Sealing::Open => Some((0x81, json.as_bytes().to_vec())),
            Sealing::Begun(_) => None,
            Sealing::Ready(transport) => {
                let mut sealed = Vec::new();
                transport.seal_into(&mut sealed, format!("{json}\n").as_bytes()).ok()?;
                Some((0x82, sealed))
            }
        }
    }

    /// Returns whether the client listens to a room, as an event stream.
    pub fn is_stream(&self) -> bool {
        self.stage == Stage::Events
    }

    /// Notes that the client sends bytes of unknown meaning.
    pub fn said_anything(&mut self) {
        self.is_vague = true;
        if self.stage == Stage::Http {
            self.stage = Stage::Deaf;
        }
    }

    /// Reads on in `got`, which holds everything received so far.
    pub fn listen(&mut self, got: &[u8], store: &LateStore) {
        loop {
            let rest = &got[self.read..];
            let used = match self.stage {
                Stage::Deaf => rest.len(),
                Stage::Http => self.answer(rest),
                Stage::Frames => self.frame(rest, store),
                Stage::Events => self.event(rest, store),
                Stage::Closed => {
                    assert!(rest.is_empty(), "{} bytes follow a close frame", rest.len());
                    0
                }
            };
            if used == 0 {
                return;
            }
            self.read += used;
        }
    }

    /// Reads one HTTP answer and returns its length, or 0 if it is incomplete.
    fn answer(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return 0 };
        let head = String::from_utf8_lossy(&bytes[..end]);
        assert!(head.starts_with("HTTP/1.1 "), "no answer: {head}");
        if head.starts_with("HTTP/1.1 101") {
            self.stage = Stage::Frames;
        }
        if head.contains("Content-Type: text/event-stream") {
            self.stage = Stage::Events;
            // An event stream has no name here, and the client's input is ignored.
            self.member = Some(String::new());
            self.is_vague = true;
        }
        let opens = self.stage != Stage::Http || head.starts_with("HTTP/1.1 201");
        assert!(!(self.is_excess && opens), "in excess: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let whole = end + 4 + length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if bytes.len() < whole {
            return 0;
        }
        self.answers += usize::from(!head.starts_with("HTTP/1.1 100"));
        assert!(!self.is_excess || self.answers <= 1, "in excess, a second answer: {head}");
        whole
    }

    /// Reads one frame and returns its length, or 0 if it is incomplete. The server's frames are whole messages without
    /// a mask.
    fn frame(&mut self, bytes: &[u8], store: &LateStore) -> usize {
        let [first, second, ..] = *bytes else { return 0 };
        let (header, length) = match (second, bytes) {
            (0..126, _) => (2, usize::from(second)),
            (126, [_, _, high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (126, _) => return 0,
            // proof: nothing here is that long; the fuzzer looks for it.
            _ => panic!("a frame with a mask, or of more than 64 KiB"),
        };
        let Some(payload) = bytes.get(header..header + length) else { return 0 };
        match first {
            0x82 => self.open(payload, store),
            0x81 => {
                assert!(matches!(self.sealing, Sealing::Open), "said in the open on a sealed socket");
                // proof: this must hold; the fuzzer looks for cases where it does not.
                let object = serde_json::from_slice(payload).expect("JSON objects");
                self.hear(&object, store);
            }
            0x88 => self.stage = Stage::Closed,
            0x89 | 0x8a => {}
            // proof: this must not happen; the fuzzer looks for it.
            _ => panic!("a frame that begins with {first:02x}"),
        }
        header + length
    }

    /// Opens a sealed message: the answer to the handshake, or whole lines.
    fn open(&mut self, payload: &[u8], store: &LateStore) {
        match std::mem::replace(&mut self.sealing, Sealing::Open) {
            // proof: this must not happen; the fuzzer looks for it.
            Sealing::Open => panic!("a binary frame on an open socket"),
            Sealing::Begun(initiator) => {
                // proof: this must hold; the fuzzer looks for cases where it does not.
                self.sealing = Sealing::Ready(Box::new(initiator.finish(payload).expect("a genuine answer")));
            }
            Sealing::Ready(mut transport) => {
                let mut plain = Vec::new();
                let opened = transport.open_into(&mut plain, payload);
                assert_eq!(opened, Ok(()), "a sealed message that does not open, or out of its turn");
                self.sealing = Sealing::Ready(transport);
                let text = String::from_utf8_lossy(&plain);
                assert!(text.ends_with('\n'), "a line without its end: {text}");
                for line in text.lines() {
                    // proof: this must hold; the fuzzer looks for cases where it does not.
                    self.hear(&serde_json::from_str(line).expect("a JSON object on each line"), store);
                }
            }
        }
    }

    /// Reads one block of an event stream and returns its length, or 0 if it is incomplete.
    fn event(&mut self, bytes: &[u8], store: &LateStore) -> usize {
        let Some(end) = bytes.windows(2).position(|w| w == b"\n\n") else { return 0 };
        let block = String::from_utf8_lossy(&bytes[..end]);
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        assert!(block.lines().all(|line| line == ":" || line.contains(": ")), "a line that is no field: {block}");
        if let Some(data) = field("data: ") {
            // proof: this must hold; the fuzzer looks for cases where it does not.
            let object: Object<'_> = serde_json::from_str(data).expect("a JSON object on one line");
            self.hear(&object, store);
            let kind = text(&object, "type");
            assert_eq!(field("event: ").unwrap_or("message"), kind, "the event's type is the object's");
            if let Some(id) = field("id: ") {
                let next = self.next(text(&object, "room"), kind);
                assert_eq!(id, format!("e:{}", *next - 1), "the id is the cursor");
            }
            assert!(kind != "message" || field("id: ").is_some(), "a message without an id");
        }
        end + 2
    }

    fn hear(&mut self, object: &Object<'_>, store: &LateStore) {
        let kind = text(object, "type");
        assert!(!self.is_told_to_close, "{kind} follows the announcement of a close");
        assert!(kind != "closing" || matches!(self.sealing, Sealing::Ready(_)), "a close announced in the open");
        let id = object.get("id").map(|_| number(object, "id"));
        let is_resumed = kind == "welcome" && id.is_some_and(|id| self.resuming.contains(&id));
        assert_eq!(
            kind == "welcome" && !is_resumed,
            self.member.is_none(),
            "welcome is the first, and answers a resume"
        );
        if let Some(id) = id {
            let is_known = self.unanswered.remove(&id);
            assert!(is_known || self.is_vague || store.repeated_itself, "{kind} answers {id}, which is not open");
        }
        let room = object.get("room").map(|_| text(object, "room")).unwrap_or_default();
        match kind {
            "welcome" => {
                self.member = Some(text(object, "member").to_owned());
                self.token = Some(text(object, "session").to_owned());
                self.has_resumed |= is_resumed;
                assert!(!is_resumed || self.rooms.is_empty(), "resumed within a room");
            }
            "joined" => {
                let (head, from) = (number(object, "head"), number(object, "from"));
                assert!(from >= 1 && from <= head + 1, "joined from {from}");
                assert!(self.rooms.insert(room.to_owned(), from).is_none(), "joined {room} twice");
                if let Some(next) = self.owed.remove(room)
                    && self.has_resumed
                {
                    let judged = Begin::After(next - 1).judge(head, from, raw(object, "recovered") == "true", None);
                    assert_eq!(judged, Ok(()), "owed from {next}, and given from {from}");
                }
            }
            "left" => assert!(self.rooms.remove(room).is_some() || self.is_vague || id.is_some(), "left {room}"),
            "message" => self.message(room, object, store),
            "gap" => {
                let is_stream = self.stage == Stage::Events;
                let next = self.next(room, kind);
                if is_stream && number(object, "from") == *next {
                    // The counterpart of `recovered` on a socket.
                    return assert!(number(object, "after") < *next);
                }
                let judged = judge::gap(next, number(object, "after"), number(object, "from"), None);
                assert_eq!(judged, Ok(()), "in {room}");
            }
            "lagging" | "presence" => drop(self.next(room, kind)),
            "signal" => {
                self.next(room, kind);
                let from: Object<'_> = parse(object, "from");
                assert_ne!(Some(text(&from, "member")), self.member.as_deref(), "one's own signal");
            }
            "members" if id.is_none() && !self.is_vague => drop(self.next(room, kind)),
            "ack" => {
                let seq = number(object, "seq");
                let was_told = store.was_told(self.conn, id.unwrap_or(NO_ID), &room_id(room), Seq(seq));
                assert!(was_told, "an ack for {seq} in {room} before the store said so");
                self.acked.insert((room.to_owned(), seq));
            }
            "history" => self.history(room, object, store),
            "pong" => {
                let heads: HashMap<&str, u64> = parse(object, "heads");
                let ours: HashMap<&str, u64> =
                    self.rooms.iter().map(|(room, next)| (room.as_str(), next - 1)).collect();
                assert_eq!(heads, ours, "a pong knows the last seq queued before it");
            }
            "closing" => self.is_told_to_close = true,
            "members" | "error" | "bye" => drop(id.map(|id| self.resuming.remove(&id))),
            // proof: the protocol has no other types; the fuzzer looks for them.
            _ => panic!("a message of type {kind}"),
        }
    }

    /// Returns the next seq in a room. No message of a room may precede its `joined`.
    fn next(&mut self, room: &str, kind: &str) -> &mut u64 {
        match self.rooms.get_mut(room) {
            Some(next) => next,
            // proof: this must not happen; the fuzzer looks for it.
            None => panic!("{kind} of {room}, which is not joined"),
        }
    }

    fn message(&mut self, room: &str, object: &Object<'_>, store: &LateStore) {
        let seq = number(object, "seq");
        assert_eq!(judge::message(self.next(room, "message"), seq), Ok(()), "in {room}");
        let own = self.check_stored(room, object, store);
        if own && !self.has_resumed && !store.repeated_itself && !store.was_denied(&room_id(room), Seq(seq)) {
            assert!(self.acked.contains(&(room.to_owned(), seq)), "one's own {seq} of {room} before its ack");
        }
    }

    fn history(&mut self, room: &str, object: &Object<'_>, store: &LateStore) {
        let messages: Vec<Object<'_>> = parse(object, "messages");
        let seqs: Vec<u64> = messages.iter().map(|message| number(message, "seq")).collect();
        assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "a page with a hole: {seqs:?}");
        for message in &messages {
            self.check_stored(room, message, store);
        }
    }

    /// Checks that a received message was stored with the same content. Returns whether it is the client's own.
    fn check_stored(&self, room: &str, message: &Object<'_>, store: &LateStore) -> bool {
        let seq = number(message, "seq");
        // proof: this must hold; the fuzzer looks for cases where it does not.
        let stored = store.stored(&room_id(room), Seq(seq)).expect("what is heard was stored");
        assert_eq!(message.get("body").map(|raw| raw.get()), Some(stored.body.as_str()), "another body");
        assert_eq!(number(message, "at"), stored.at.0, "another time");
        let from: Object<'_> = parse(message, "from");
        let member = from.get("member").map(|_| text(&from, "member"));
        assert_eq!(member.map(str::to_owned), stored.author.member.map(|member| member.to_string()), "another author");
        member.is_some() && member == self.member.as_deref()
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(object: &Object<'a>, field: &str) -> T {
    // proof: the server wrote it; the fuzzer looks for cases where it is not valid.
    serde_json::from_str(raw(object, field)).expect("a field of its kind")
}

fn raw<'a>(object: &Object<'a>, field: &str) -> &'a str {
    // proof: as above.
    object.get(field).unwrap_or_else(|| panic!("no {field} in {object:?}")).get()
}

fn number(object: &Object<'_>, field: &str) -> u64 {
    parse(object, field)
}

/// Returns a text that needs no escapes.
fn text<'a>(object: &Object<'a>, field: &str) -> &'a str {
    raw(object, field).trim_matches('"')
}

fn room_id(room: &str) -> RoomId {
    // proof: the server wrote it; the fuzzer looks for cases where it is not valid.
    RoomId::parse(room).expect("a room id")
}
