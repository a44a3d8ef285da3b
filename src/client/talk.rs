//! A client's side of the talk in one room, over all its sockets: what to say next, and what is made of what is heard.
//! Pure: texts come in and go out, times in milliseconds and random keys are passed in.
//!
//! After a loss it resumes its session by the token and says where it is in the room; what was not acknowledged goes out
//! again under the same key, so that it is stored once. Where the session cannot be resumed, whether that was stored is
//! not known, and it says so. It asks for no faster and no more at once than the server takes.

use std::collections::VecDeque;

use serde_json::json;

use super::Heard;
use crate::types::{Name, RoomId};

/// Milliseconds of silence after which the server is asked whether it is there, and that it may take to answer.
const SILENCE: u64 = 30_000;
const ANSWER: u64 = 10_000;
/// A token is made anew with an answer, once it is old: so one asks so often, in milliseconds, where much is heard, too.
const OLD: u64 = 3_600_000;
/// Where a server does not say when to ask again.
const PAUSE: u64 = 2_000;
/// Shortest and longest pause that a server's wish is followed for, in milliseconds: it is not asked in a hot loop, and nobody
/// waits for ever because it says so.
const SHORTEST_PAUSE: u64 = 100;
const LONGEST_WISH: u64 = 3_600_000;
/// Messages that a join can begin with (`page_messages`); where more are wanted, their seqs are reckoned from the head.
const LAST_MAX: u64 = 200;
/// Bytes of what a line says beside bodies, at most.
const ENVELOPE: usize = 4096;

/// Where to begin when the room is joined for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what is said from now on.
    Now,
    /// With so many of the newest messages.
    Last(u64),
}

/// What whoever talks is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, each once and in order: the object as it came.
    Message(String),
    /// What lay between these seqs is not kept any more; with `anew` it is another log, whose seqs begin anew.
    Hole { after: u64, from: u64, anew: bool },
    /// All that was said before the join is here.
    CaughtUp,
    /// One more was acknowledged.
    Acknowledged,
    /// This one is refused for good: why. Those behind it go on.
    Unsendable(String),
    /// The room takes nothing of this kind: why. Nothing more is worth sending.
    Refused(String),
    /// The server does not do it now, for this reason, and is asked again.
    PutOff(String),
    /// The session could not be resumed: whether these many were stored is not known.
    Unsure(usize),
    /// The connection is of no use; try again after a pause.
    Again(String),
    /// There is no use in trying again.
    Stop(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Queued,
    /// Sent over this socket with this id.
    Flying(u64),
    /// Sent over one that is lost.
    Unsure,
}

#[derive(Debug)]
struct Send {
    /// The line of the input that it came from, for people.
    line: u64,
    key: String,
    /// JSON.
    body: String,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No socket, or its `welcome` has not come.
    Away,
    /// Asked to resume by the request with this id.
    Resuming(u64),
    /// The room is asked for, by the request with this id.
    Joining(u64),
    /// Asked for, only to hear where its head is.
    Probing(u64),
    /// Left, to be joined again.
    Leaving(u64),
    /// The room could not be joined; it is asked for again at this time.
    Waiting(u64),
    In,
}

/// What the server said of its bounds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    max_message_size: usize,
    page_bytes: usize,
    in_flight: usize,
    request_rate: u64,
}

/// The talk in one room.
pub struct Talk {
    room: RoomId,
    /// Said with the join, where no URL has said it.
    name: Option<Name>,
    begin: Begin,
    phase: Phase,
    token: Option<String>,
    /// That of the first `welcome` on a socket, until it is clear whether the session goes on.
    provisional: Option<String>,
    epoch: Option<String>,
    cursor: Option<u64>,
    head: u64,
    is_live: bool,
    outbox: VecDeque<Send>,
    limits: Limits,
    /// Longest text that this connection takes, in bytes, whatever the server announces.
    longest_text: usize,
    next_id: u64,
    saying: VecDeque<String>,
    heard_at: u64,
    /// When it was asked whether it is there.
    asked_at: Option<u64>,
    token_at: u64,
    paused_until: u64,
    /// Sends that may go out by now, so that the server need not refuse any, and when that was reckoned.
    allowance: (f64, u64),
    /// Milliseconds that the server asked to stay away.
    pub bye: Option<u64>,
    /// Why the server did not do something, but may later; until it does something.
    put_off: Option<String>,
}

impl Talk {
    /// `name`: what to say with the join; where the URL says it, none.
    pub fn new(room: RoomId, name: Option<Name>, begin: Begin) -> Talk {
        Talk {
            room,
            name,
            begin,
            phase: Phase::Away,
            token: None,
            provisional: None,
            epoch: None,
            cursor: None,
            head: 0,
            is_live: false,
            outbox: VecDeque::new(),
            longest_text: usize::MAX,
            limits: Limits { max_message_size: 0, page_bytes: 0, in_flight: 1, request_rate: 0 },
            next_id: 1,
            saying: VecDeque::new(),
            heard_at: 0,
            asked_at: None,
            token_at: 0,
            paused_until: 0,
            allowance: (0.0, 0),
            bye: None,
            put_off: None,
        }
    }

    /// Says something, when it may: `body` is JSON, `key` what no other message has, `line` the line of the input that it
    /// came from, 0 where it is the only one.
    pub fn send(&mut self, line: u64, key: String, body: String) {
        self.outbox.push_back(Send { line, key, body, fate: Fate::Queued });
    }

    /// Messages that are not acknowledged.
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Returns the longest request that the server takes, in bytes; `None` before its first `welcome`.
    pub fn longest_message(&self) -> Option<usize> {
        Some(self.limits.max_message_size).filter(|longest| *longest > 0)
    }

    /// Returns the longest line that this server says, in bytes, by what it has announced: a message, or a page that ends
    /// with one.
    pub fn longest_line(&self) -> usize {
        let Limits { max_message_size, page_bytes, .. } = self.limits;
        max_message_size.saturating_add(page_bytes).saturating_add(ENVELOPE)
    }

    /// The server, or something on the way, ended the connection because a message was too long: it was the longest of
    /// those under way, if it was any, and the same bytes are not sent again.
    pub fn refuse_longest(&mut self, events: &mut Vec<Event>) {
        let flying = self.outbox.iter().enumerate().filter(|(_, send)| matches!(send.fate, Fate::Flying(_)));
        let Some((index, send)) = flying.max_by_key(|(_, send)| send.body.len()) else { return };
        let (line, length) = (send.line, send.body.len());
        let why = format!("{length} bytes are more than the server, or something on the way, takes");
        self.outbox.remove(index);
        events.push(unsendable(line, why));
    }

    /// Why the server does not do what it was asked for now, in its words.
    pub fn put_off(&self) -> Option<&str> {
        self.put_off.as_deref()
    }

    pub fn is_in(&self) -> bool {
        self.phase == Phase::In
    }

    /// Begins a connection, whose texts have at most `longest_text` bytes. The server's `welcome` comes next.
    pub fn opened(&mut self, now: u64, longest_text: usize) {
        self.longest_text = longest_text;
        self.phase = Phase::Away;
        self.saying.clear();
        self.heard_at = now;
        self.asked_at = None;
        self.bye = None;
    }

    /// The socket is gone.
    pub fn lost(&mut self) {
        self.phase = Phase::Away;
        self.saying.clear();
        for send in &mut self.outbox {
            if matches!(send.fate, Fate::Flying(_)) {
                send.fate = Fate::Unsure;
            }
        }
    }

    /// The next text to send, if there is one that may go out now.
    pub fn poll(&mut self, now: u64, events: &mut Vec<Event>) -> Option<String> {
        if let Some(text) = self.saying.pop_front() {
            return Some(text);
        }
        if self.phase != Phase::In || now < self.paused_until {
            return None;
        }
        let flying = self.outbox.iter().filter(|send| matches!(send.fate, Fate::Flying(_))).count();
        if flying >= self.limits.in_flight {
            return None;
        }
        let index = self.outbox.iter().position(|send| send.fate == Fate::Queued)?;
        if self.pause(now) > 0 {
            return None;
        }
        let id = self.id();
        let send = self.outbox.get_mut(index)?;
        let text = format!(
            r#"{{"type":"send","id":{id},"room":"{}","key":{},"body":{}}}"#,
            self.room,
            json!(send.key),
            send.body
        );
        let (announced, carried) = (self.limits.max_message_size, self.longest_text);
        if text.len() > announced.min(carried) {
            let (line, length) = (send.line, text.len());
            let why = match announced <= carried {
                true => format!("{length} bytes are more than the server takes in one message ({announced})"),
                false => format!("{length} bytes are more than a sealed socket takes in one message ({carried})"),
            };
            self.outbox.remove(index);
            events.push(unsendable(line, why));
            return None;
        }
        send.fate = Fate::Flying(id);
        self.allowance.0 -= 1.0;
        Some(text)
    }

    /// When to look again at the latest, though nothing is heard.
    pub fn deadline(&mut self, now: u64) -> u64 {
        let mut at = self.asked_at.map_or(self.heard_at + SILENCE, |asked| asked + ANSWER);
        if let Phase::Waiting(until) = self.phase {
            at = at.min(until);
        }
        if self.phase == Phase::In && self.outbox.iter().any(|send| send.fate == Fate::Queued) {
            let pause = self.pause(now).max(self.paused_until.saturating_sub(now));
            if pause > 0 {
                at = at.min(now + pause);
            }
        }
        at
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64, events: &mut Vec<Event>) {
        match self.asked_at {
            Some(asked) if now >= asked + ANSWER => events.push(Event::Again("the server does not answer".to_string())),
            None if now >= self.heard_at + SILENCE || self.phase == Phase::In && now >= self.token_at + OLD => {
                self.asked_at = Some(now);
                self.token_at = now;
                self.request(json!({"type": "ping"}));
            }
            _ => {}
        }
        if let Phase::Waiting(until) = self.phase
            && now >= until
        {
            self.join();
        }
    }

    /// One object came.
    pub fn hear(&mut self, text: &str, now: u64, events: &mut Vec<Event>) {
        self.heard_at = now;
        self.asked_at = None;
        let Some(heard) = Heard::parse(text) else {
            return events.push(Event::Again("what the server says is not the protocol".to_string()));
        };
        let kind = heard.string("type").unwrap_or_default();
        let id = heard.number("id");
        let is_here = heard.string("room").as_deref() == Some(self.room.as_str());
        match kind.as_str() {
            "welcome" => self.welcome(&heard, id, now, events),
            "error" => self.refused(&heard, id, now, events),
            "bye" => self.bye = Some(wish(heard.number("reconnect_after_ms"))),
            "pong" => {
                if let Some(token) = heard.string("session") {
                    self.token = Some(token);
                    self.token_at = now;
                }
            }
            "joined" if is_here => self.joined(&heard, events),
            "left" if is_here && Some(self.phase) == id.map(Phase::Leaving) => self.join(),
            "ack" => self.acknowledged(id, events),
            "message" if is_here => self.message(&heard, events),
            "gap" if is_here => self.gap(heard.number("from").unwrap_or(0), events),
            // What is not known yet is passed over: that is how the protocol grows.
            _ => {}
        }
    }

    fn welcome(&mut self, heard: &Heard, id: Option<u64>, now: u64, events: &mut Vec<Event>) {
        let token = heard.string("session");
        if let Some(limits) = heard.object("limits") {
            let number = |field| limits.number(field).and_then(|n| usize::try_from(n).ok());
            self.limits = Limits {
                max_message_size: number("max_message_size").unwrap_or(32 << 10),
                page_bytes: number("page_bytes").unwrap_or(0),
                in_flight: number("in_flight").unwrap_or(1).max(1),
                request_rate: limits.number("request_rate").unwrap_or(1),
            };
        }
        if let (Phase::Resuming(asked), Some(_)) = (self.phase, id)
            && id == Some(asked)
        {
            self.be_somebody(token, now);
            // The answer to the resume says for itself that the room is joined.
            self.phase = Phase::Joining(asked);
            return;
        }
        if self.phase != Phase::Away {
            if id.is_none() {
                // The join said a name: this token knows it, the one before did not.
                self.token = token;
                self.token_at = now;
            }
            return;
        }
        match (&self.token, self.cursor) {
            (Some(session), Some(seq)) => {
                // Not ours yet: who one is comes with the answer to this.
                self.provisional = token;
                let place = json!({"epoch": self.epoch, "seq": seq, "presence": "off"});
                let ask = json!({"type": "resume", "session": session, "cursors": {self.room.as_str(): place}});
                self.phase = Phase::Resuming(self.request(ask));
            }
            _ => self.begin_anew(token, now, events),
        }
    }

    fn be_somebody(&mut self, token: Option<String>, now: u64) {
        self.token = token;
        self.token_at = now;
        self.allowance = (self.limits.request_rate as f64, now);
        self.paused_until = 0;
        for send in &mut self.outbox {
            send.fate = Fate::Queued;
        }
    }

    /// Another session: its keys say nothing of what was sent before.
    fn begin_anew(&mut self, token: Option<String>, now: u64, events: &mut Vec<Event>) {
        let before = self.outbox.len();
        self.outbox.retain(|send| send.fate != Fate::Unsure);
        if self.outbox.len() < before {
            events.push(Event::Unsure(before - self.outbox.len()));
        }
        // Where the join says the name, this token is a guest's. Who came back with it would be seated as that guest, and be
        // called so for good; the next one comes with the name, before `joined`.
        self.be_somebody(token.filter(|_| self.name.is_none()), now);
        self.join();
    }

    fn join(&mut self) {
        let mut ask = json!({"type": "join", "room": self.room.as_str(), "presence": "off"});
        if let Some(name) = &self.name {
            ask["name"] = json!(name.as_str());
        }
        let probes = match (self.cursor, self.begin) {
            (Some(seq), _) => {
                ask["after"] = json!(seq);
                ask["epoch"] = json!(self.epoch);
                false
            }
            (None, Begin::Last(last)) if last <= LAST_MAX => {
                ask["last"] = json!(last);
                false
            }
            (None, Begin::Last(_)) => true,
            (None, Begin::Now) => false,
        };
        let id = self.request(ask);
        self.phase = if probes { Phase::Probing(id) } else { Phase::Joining(id) };
    }

    fn joined(&mut self, heard: &Heard, events: &mut Vec<Event>) {
        let (Some(head), Some(from)) = (heard.number("head"), heard.number("from")) else { return };
        let epoch = heard.string("epoch");
        match self.phase {
            Phase::Probing(_) => {
                if let Begin::Last(last) = self.begin {
                    self.cursor = Some(head.saturating_sub(last));
                }
                self.epoch = epoch;
                let leave = json!({"type": "leave", "room": self.room.as_str()});
                self.phase = Phase::Leaving(self.request(leave));
            }
            Phase::Joining(_) => {
                if let Some(after) = self.cursor {
                    let anew = epoch != self.epoch || from <= after;
                    if anew || from > after + 1 {
                        events.push(Event::Hole { after, from, anew });
                    }
                }
                self.phase = Phase::In;
                self.put_off = None;
                self.epoch = epoch;
                self.cursor = Some(from.saturating_sub(1));
                self.head = head;
                self.is_live = false;
                self.progress(events);
            }
            _ => {}
        }
    }

    fn message(&mut self, heard: &Heard, events: &mut Vec<Event>) {
        let (Phase::In, Some(cursor), Some(seq)) = (self.phase, self.cursor, heard.number("seq")) else { return };
        if seq <= cursor {
            return;
        }
        self.gap(seq, events);
        self.cursor = Some(seq);
        events.push(Event::Message(heard.text().to_string()));
        self.progress(events);
    }

    fn gap(&mut self, from: u64, events: &mut Vec<Event>) {
        let (Phase::In, Some(after)) = (self.phase, self.cursor) else { return };
        if from > after + 1 {
            events.push(Event::Hole { after, from, anew: false });
            self.cursor = Some(from - 1);
            self.progress(events);
        }
    }

    fn progress(&mut self, events: &mut Vec<Event>) {
        if !self.is_live && self.cursor.is_some_and(|cursor| cursor >= self.head) {
            self.is_live = true;
            events.push(Event::CaughtUp);
        }
    }

    fn acknowledged(&mut self, id: Option<u64>, events: &mut Vec<Event>) {
        let Some(index) = self.flying(id) else { return };
        self.outbox.remove(index);
        self.put_off = None;
        events.push(Event::Acknowledged);
    }

    fn flying(&self, id: Option<u64>) -> Option<usize> {
        self.outbox.iter().position(|send| matches!(send.fate, Fate::Flying(own) if Some(own) == id))
    }

    fn refused(&mut self, heard: &Heard, id: Option<u64>, now: u64, events: &mut Vec<Event>) {
        let code = heard.string("code").unwrap_or_default();
        let message = heard.string("message").unwrap_or_else(|| code.clone());
        let is_for_now = matches!(code.as_str(), "rate_limited" | "storage_unavailable");
        let pause = wish(heard.number("retry_after_ms"));
        if is_for_now && code != "rate_limited" {
            events.push(Event::PutOff(message.clone()));
        }
        if is_for_now {
            self.put_off = Some(message.clone());
        }
        if let Some(index) = self.flying(id) {
            if !is_for_now {
                let line = self.outbox.remove(index).map_or(0, |send| send.line);
                // These two codes concern the room, so every further message would be refused, too.
                return events.push(match code.as_str() {
                    "not_encrypted" | "not_joined" => Event::Refused(message),
                    _ => unsendable(line, message),
                });
            }
            // Not stored, or perhaps stored: the same key is harmless.
            if let Some(send) = self.outbox.get_mut(index) {
                send.fate = Fate::Queued;
            }
            self.paused_until = now + pause;
            return;
        }
        match self.phase {
            Phase::Resuming(asked) if id == Some(asked) && is_for_now => events.push(Event::Again(message)),
            Phase::Resuming(asked) if id == Some(asked) => {
                let token = self.provisional.take();
                self.begin_anew(token, now, events);
            }
            Phase::Joining(asked) | Phase::Probing(asked) if id == Some(asked) => match code.as_str() {
                "rate_limited" | "storage_unavailable" => self.phase = Phase::Waiting(now + pause),
                // From a join whose answer was lost: it is to begin where it was asked to.
                "already_joined" => {
                    let leave = json!({"type": "leave", "room": self.room.as_str()});
                    self.phase = Phase::Leaving(self.request(leave));
                }
                _ => events.push(Event::Stop(message)),
            },
            _ => {}
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn request(&mut self, mut value: serde_json::Value) -> u64 {
        let id = self.id();
        value["id"] = json!(id);
        self.saying.push_back(value.to_string());
        id
    }

    /// Milliseconds until one more may be sent. At once there are a second's worth of them.
    fn pause(&mut self, now: u64) -> u64 {
        let rate = self.limits.request_rate as f64;
        if rate == 0.0 {
            return 0;
        }
        let (left, at) = self.allowance;
        let saved = (left + now.saturating_sub(at) as f64 * rate / 1000.0).min(rate);
        self.allowance = (saved, now);
        if saved >= 1.0 { 0 } else { ((1.0 - saved) * 1000.0 / rate).ceil() as u64 }
    }
}

/// Milliseconds to leave the server alone where it says this.
fn wish(said: Option<u64>) -> u64 {
    said.unwrap_or(PAUSE).clamp(SHORTEST_PAUSE, LONGEST_WISH)
}

/// The event for the message of this line, which is refused for good.
fn unsendable(line: u64, why: String) -> Event {
    match line {
        0 => Event::Refused(why),
        _ => Event::Unsendable(format!("line {line}: {why}")),
    }
}

#[cfg(test)]
mod tests;
