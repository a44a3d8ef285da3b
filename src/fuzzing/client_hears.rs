//! The command-line client, reading a server's messages: for any bytes, nothing panics, no message is shown twice or
//! out of order, no outgoing message is forgotten, and no terminal control character reaches `tail`'s output.

use serde_json::Value;

use super::input::Input;
use crate::client::{Begin, ClientSession, Event, SealedLineError, SealedLines, ServerMessage};
use crate::cmd::reader::Reader;
use crate::crypto::room_key::{NONCE, RoomKey, nonce_text};
use crate::protocol::encrypted::{Encrypted, Version};
use crate::types::{Name, RoomId, is_unsafe};

/// Most steps of one input.
const STEPS: usize = 200;

/// Selects the kind of session by the first byte; each step is one byte and its arguments: a text or a sealed message
/// from the server, the client's next lines, the passage of time, a lost connection.
pub fn client_hears(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut client = Client::new(how);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        client.step(&mut input);
    }
    client.settle();
}

struct Client {
    session: ClientSession,
    now: u64,
    /// `tail` and `tail --json`, without a key and with one.
    readers: [Reader; 4],
    lines: SealedLines,
    /// Sealed bytes since the last line feed.
    unfinished: usize,
    sent: usize,
    settled: usize,
    last: Option<u64>,
    /// Ids of the most recent pending requests.
    asked: Vec<u64>,
}

impl Client {
    fn new(how: u8) -> Client {
        let begin = [Begin::Now, Begin::Last(3), Begin::Last(500), Begin::Last(0)][usize::from(how) & 3];
        let name = (how & 4 != 0).then(|| Name::parse("ann").ok()).flatten();
        let mut session = ClientSession::new(room(), name, begin);
        session.connected(0, usize::MAX);
        let cipher = || RoomKey::new([5; 32]).cipher(&room());
        let readers = [(false, false), (true, false), (false, true), (true, true)]
            .map(|(has_key, json)| Reader::new(has_key.then(cipher), json));
        Client {
            session,
            now: 0,
            readers,
            lines: SealedLines::new(),
            unfinished: 0,
            sent: 0,
            settled: 0,
            last: None,
            asked: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let mut events = Vec::new();
        let step = input.byte();
        match step & 15 {
            0..=8 => {
                let text = said(step & 15, &self.asked, input);
                self.session.receive(&text, self.now, &mut events);
            }
            9 => {
                let length = usize::from(input.byte());
                let text = String::from_utf8_lossy(input.take(length)).into_owned();
                self.session.receive(&text, self.now, &mut events);
            }
            10 => self.unseal(input, &mut events),
            11 => {
                self.now += u64::from(input.short()) * 50;
                self.session.tick(self.now, &mut events);
            }
            12 => {
                self.sent += 1;
                let text = "hello".repeat(usize::from(step >> 4));
                self.session.send(self.sent as u64, format!("k{}", self.sent), format!("{{\"text\":\"{text}\"}}"));
            }
            13 => {
                self.session.disconnected();
                if let Some(pause) = self.session.reconnect_after.take() {
                    assert!((100..=3_600_000).contains(&pause), "away for {pause} ms");
                }
                self.session.connected(self.now, usize::MAX);
            }
            14 => self.session.drop_longest(&mut events),
            _ => self.say(&mut events),
        }
        self.look(events);
    }

    /// Takes the texts that the client sends now, and checks that each is one line of JSON within the server's limits.
    fn say(&mut self, events: &mut Vec<Event>) {
        for _ in 0..20 {
            let Some(text) = self.session.next_text(self.now, events) else { break };
            // proof: this must hold; the fuzzer looks for cases where it does not.
            let value: Value = serde_json::from_str(&text).expect("one JSON object");
            assert!(!text.contains('\n'), "two lines: {text}");
            if let Some(id) = value["id"].as_u64() {
                self.asked.push(id);
            }
        }
        let deadline = self.session.deadline(self.now);
        assert!(deadline <= self.now + 3_700_000, "the next look is at {deadline}, it is {}", self.now);
    }

    /// Receives the bytes of one sealed message: each complete line in them is processed, and the buffer for an
    /// incomplete one is bounded.
    fn unseal(&mut self, input: &mut Input<'_>, events: &mut Vec<Event>) {
        let (length, times) = (usize::from(input.short()) % 2000, usize::from(input.byte()) + 1);
        let plain = input.take(length).repeat(times);
        let longest = self.session.longest_line();
        self.lines.set_longest(longest);
        let mut lines = Vec::new();
        let done = self.lines.push(&plain, &mut lines);
        let feeds = plain.iter().filter(|byte| **byte == b'\n').count();
        match done {
            Ok(()) => {
                assert_eq!(lines.len(), feeds, "each line feed ends a line");
                let tail = plain.iter().rev().take_while(|byte| **byte != b'\n').count();
                self.unfinished = if feeds == 0 { self.unfinished + tail } else { tail };
                assert!(self.unfinished <= longest.max(1 << 20), "{} bytes of a line are kept", self.unfinished);
            }
            Err(fault) => {
                assert_eq!(fault == SealedLineError::Empty, plain.is_empty());
                // The connection cannot be used any more.
                (self.lines, self.unfinished) = (SealedLines::new(), 0);
                self.session.disconnected();
                self.session.connected(self.now, usize::MAX);
            }
        }
        for line in lines {
            assert!(!line.contains('\n'));
            self.session.receive(&line, self.now, events);
        }
    }

    /// Checks the events that the client reports, and the output of `tail` for them.
    fn look(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Message(text) => {
                    // proof: this must hold; the fuzzer looks for cases where it does not.
                    let heard = ServerMessage::parse(&text).expect("an object");
                    let seq = heard.number("seq");
                    assert!(seq.is_some() && self.last < seq, "{seq:?} comes after {:?}", self.last);
                    self.last = seq;
                    self.print(&text);
                }
                Event::Gap { after, from, new_log } => {
                    assert!(new_log || after + 1 < from, "an empty gap, from {after} to {from}");
                    if new_log {
                        self.last = None;
                    }
                    let [first, ..] = &mut self.readers;
                    let told = first.gap(after, from, new_log);
                    assert!(!told.chars().any(is_unsafe), "{told:?}");
                }
                Event::Acknowledged | Event::Refused(_) | Event::Unsendable(_) => self.settled += 1,
                Event::Unknown(count) => self.settled += count,
                Event::CaughtUp | Event::Reconnect(_) | Event::Deferred(_) | Event::GiveUp(_) => {}
            }
        }
        assert_eq!(self.settled + self.session.unacknowledged(), self.sent, "sends are settled once each");
    }

    fn print(&mut self, text: &str) {
        for (index, reader) in self.readers.iter_mut().enumerate() {
            let line = reader.line(text);
            // proof: this must hold; the fuzzer looks for cases where it does not.
            let shown = line.strip_suffix('\n').expect("a line");
            // The two joiners, which scripts and emoji need, cannot hide text.
            let unsafe_in = |c: char| is_unsafe(c) && (index >= 2 || !matches!(c, '\u{200c}' | '\u{200d}'));
            assert!(!shown.chars().any(unsafe_in), "{shown:?} steers a terminal");
            if index >= 2 {
                assert!(serde_json::from_str::<Value>(shown).is_ok() || !is_exact(text), "no JSON: {shown}");
            }
        }
    }

    /// Checks that no wait is endless: after a long silence the client gives up the connection.
    fn settle(&mut self) {
        self.session.connected(self.now, usize::MAX);
        let mut events = Vec::new();
        for _ in 0..3 {
            self.now += 40_000;
            self.session.tick(self.now, &mut events);
        }
        assert!(events.iter().any(|event| matches!(event, Event::Reconnect(_))), "silence is taken for an answer");
        self.look(events);
    }
}

fn room() -> RoomId {
    // proof: the target's own text.
    RoomId::parse("r").expect("a room id")
}

/// Returns whether the text is an object that a JSON value can hold, too. `ServerMessage` passes on numbers that
/// overflow one.
fn is_exact(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

/// Makes a message of the protocol with numbers and texts from the input.
fn said(kind: u8, asked: &[u64], input: &mut Input<'_>) -> String {
    let id = |input: &mut Input<'_>| {
        let back = usize::from(input.byte() % 4);
        asked.iter().rev().nth(back).copied().unwrap_or(1)
    };
    match kind {
        0 => format!(
            r#"{{"type":"welcome","session":"t{}","limits":{{"max_message_size":{},"in_flight":{},"request_rate":{},"page_bytes":{}}}}}"#,
            input.byte() % 3,
            number(input),
            number(input),
            number(input),
            number(input)
        ),
        1 => format!(r#"{{"type":"welcome","id":{},"session":"u"}}"#, id(input)),
        2 => format!(
            r#"{{"type":"joined","id":{},"room":"r","head":{},"from":{},"epoch":"{}"}}"#,
            id(input),
            number(input),
            number(input),
            ["e", "f"][usize::from(input.byte() & 1)]
        ),
        3 => format!(
            r#"{{"type":"message","room":"r","seq":{},"from":{{"name":{}}},"body":{}}}"#,
            number(input),
            words(input),
            body(input)
        ),
        4 => format!(r#"{{"type":"gap","room":"r","after":{},"from":{}}}"#, number(input), number(input)),
        5 => format!(r#"{{"type":"ack","id":{},"room":"r","seq":{}}}"#, id(input), number(input)),
        6 => {
            let codes = ["rate_limited", "storage_unavailable", "not_resumable", "already_joined", "bad_field"];
            format!(
                r#"{{"type":"error","id":{},"code":"{}","message":{},"retry_after_ms":{}}}"#,
                id(input),
                codes[usize::from(input.byte()) % codes.len()],
                words(input),
                number(input)
            )
        }
        7 => format!(r#"{{"type":"bye","reconnect_after_ms":{}}}"#, number(input)),
        _ => format!(
            r#"{{"type":"{}","id":{},"room":"r","session":{}}}"#,
            ["pong", "left", "presence", "signal"][usize::from(input.byte() % 4)],
            id(input),
            words(input)
        ),
    }
}

/// Makes a number: a small one, or one at which something may overflow.
fn number(input: &mut Input<'_>) -> String {
    match input.byte() {
        255 => u64::MAX.to_string(),
        254 => (1_u64 << 53).to_string(),
        253 => "-1".to_owned(),
        252 => "1e3".to_owned(),
        251 => "100000".to_owned(),
        small => small.to_string(),
    }
}

/// Makes a JSON string from the input's bytes, control characters included.
fn words(input: &mut Input<'_>) -> String {
    let length = usize::from(input.byte() % 32);
    serde_json::json!(String::from_utf8_lossy(input.take(length))).to_string()
}

/// Makes a body: a text, any JSON, or a ciphertext under the key that two of the readers have.
fn body(input: &mut Input<'_>) -> String {
    match input.byte() % 4 {
        0 => format!(r#"{{"text":{}}}"#, words(input)),
        1 => words(input),
        2 => {
            let (key, inner) = (format!("k{}", input.byte() % 4), format!(r#"{{"text":{}}}"#, words(input)));
            let ciphertext = RoomKey::new([5; 32]).cipher(&room()).seal_first(&key, [2; NONCE], &inner);
            Encrypted {
                version: Version::One,
                key: key.into(),
                nonce: nonce_text(&[2; NONCE]).into(),
                ciphertext: ciphertext.into(),
            }
            .to_body()
        }
        _ => {
            let length = usize::from(input.byte() % 64);
            let raw = String::from_utf8_lossy(input.take(length)).into_owned();
            if serde_json::from_str::<&serde_json::value::RawValue>(&raw).is_ok() { raw } else { "[]".to_owned() }
        }
    }
}
