//! The client's side of one room, over all of its connections: decides what to send next, and how to react to each text
//! that arrives. Pure: texts come in and go out; times in milliseconds and random keys are passed in.
//!
//! After a lost connection it resumes its session by the token and says how far it has read the room. Messages without
//! an acknowledgement are sent again under the same key, so that each is stored once. Where the session cannot be
//! resumed, it reports how many messages may or may not be stored. It respects the limits that the server announces.

use std::collections::VecDeque;

use serde_json::json;
use zeroize::Zeroizing;

use super::ServerMessage;
use super::outbox::Outbox;
use crate::types::size::MAX_ENVELOPE;
use crate::types::{Name, RoomId};

/// Milliseconds of silence after which the server is pinged, and for which it may then delay its answer.
const SILENCE: u64 = 30_000;
const ANSWER: u64 = 10_000;
/// Milliseconds after which the server is pinged for a fresh token, though it is not silent.
const TOKEN_AGE: u64 = 3_600_000;
/// Milliseconds before a retry, if the server names no pause.
const RETRY_AFTER: u64 = 2_000;
/// Bounds, in milliseconds, on the pause that the server may name: no busy loop, and no waiting for ever.
const MIN_RETRY_AFTER: u64 = 100;
const MAX_RETRY_AFTER: u64 = 3_600_000;
/// Messages that a join can begin with (`page_messages`). For more, the first seq is computed from the head.
const MAX_LAST: u64 = 200;
/// Most bytes of a page of messages beside a page and a message: a page is cut after the message that fills it.
const ENVELOPE: usize = 4 * MAX_ENVELOPE;

/// Where to begin when the room is joined for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the next message.
    Now,
    /// With this many of the newest messages.
    Last(u64),
}

/// An event that the session reports to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message: the object as it came. Each comes once and in order.
    Message(String),
    /// The messages between these seqs are no longer kept; with `new_log` the room has another log, whose seqs start
    /// over.
    Gap { after: u64, from: u64, new_log: bool },
    /// Every message from before the join has arrived.
    CaughtUp,
    /// One more message was acknowledged.
    Acknowledged,
    /// One message was refused for good, for this reason. The messages behind it are still sent.
    Unsendable(String),
    /// The room accepts no messages of this kind, for this reason: it would accept no other either.
    Refused(String),
    /// The server does not comply now, for this reason, and is asked again.
    Deferred(String),
    /// The session could not be resumed: this many messages may or may not be stored.
    Unknown(usize),
    /// The connection is of no use, for this reason; another one is needed.
    Reconnect(String),
    /// Another connection would not help either, for this reason.
    GiveUp(String),
}

/// How far this connection has come. The numbers are ids of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection, or its `welcome` has not come.
    Disconnected,
    /// Said who this is.
    Authenticating(u64),
    /// Asked to resume the session.
    Resuming(u64),
    Joining(u64),
    /// Joining only to learn where the head is.
    Probing(u64),
    /// Leaving, in order to join again.
    Leaving(u64),
    /// The room could not be joined; it is asked for again at this time.
    Waiting(u64),
    Joined,
}

/// The limits that the server has announced, in bytes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    max_message_size: usize,
    page_bytes: usize,
}

/// One room, as its client sees it.
pub struct ClientSession {
    room: RoomId,
    /// Sent with the join, where the URL has no name.
    name: Option<Name>,
    /// The token that says who this is.
    credentials: Option<Zeroizing<String>>,
    begin: Begin,
    phase: Phase,
    token: Option<String>,
    /// The token of a connection's first `welcome`, until it is known whether the session is resumed.
    provisional_token: Option<String>,
    epoch: Option<String>,
    /// The seq up to which the room was read.
    cursor: Option<u64>,
    head: u64,
    has_caught_up: bool,
    outbox: Outbox,
    limits: Limits,
    /// Longest text that this connection carries, in bytes, whatever the server announces.
    longest_text: usize,
    next_id: u64,
    /// Requests to be sent before any message.
    requests: VecDeque<String>,
    heard_at: u64,
    /// When a ping was sent that is not answered.
    pinged_at: Option<u64>,
    token_at: u64,
    /// Milliseconds for which the server, with its `bye`, asked not to be connected to.
    pub reconnect_after: Option<u64>,
    /// Why the server last deferred a request; until it complies.
    deferral: Option<String>,
}

impl ClientSession {
    /// Begins without a connection. `name` is sent with the join; it is `None` where the URL has it.
    pub fn new(room: RoomId, name: Option<Name>, begin: Begin) -> ClientSession {
        ClientSession {
            room,
            name,
            credentials: None,
            begin,
            phase: Phase::Disconnected,
            token: None,
            provisional_token: None,
            epoch: None,
            cursor: None,
            head: 0,
            has_caught_up: false,
            outbox: Outbox::new(),
            longest_text: usize::MAX,
            limits: Limits { max_message_size: 0, page_bytes: 0 },
            next_id: 1,
            requests: VecDeque::new(),
            heard_at: 0,
            pinged_at: None,
            token_at: 0,
            reconnect_after: None,
            deferral: None,
        }
    }

    /// Says, on each connection before all else, who this is, by a token. The server then gives the name.
    pub fn authenticating(self, token: Zeroizing<String>) -> ClientSession {
        ClientSession { credentials: Some(token), name: None, ..self }
    }

    /// Queues a message: `body` is JSON, `key` no other message has, and `line` is the line of the input that it came
    /// from, 0 where it is the only one.
    pub fn send(&mut self, line: u64, key: String, body: String) {
        self.outbox.push(line, key, body);
    }

    /// Returns the token of the session that the next connection will ask to resume, if there is one.
    pub fn resumable(&self) -> Option<&str> {
        self.cursor.and(self.token.as_deref())
    }

    /// Returns how many messages are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.outbox.len()
    }

    /// Returns the longest request that the server takes, in bytes; `None` before its first `welcome`.
    pub fn longest_message(&self) -> Option<usize> {
        Some(self.limits.max_message_size).filter(|longest| *longest > 0)
    }

    /// Returns the longest text that the server sends, in bytes, by the limits that it has announced: a message, or a
    /// page that ends with one.
    pub fn longest_line(&self) -> usize {
        let Limits { max_message_size, page_bytes } = self.limits;
        max_message_size.saturating_add(page_bytes).saturating_add(ENVELOPE)
    }

    /// Drops the longest message under way, if there is one: the server, or something on the way, ended the connection
    /// because a message was too long, and the same bytes would end the next connection, too.
    pub fn drop_longest(&mut self, events: &mut Vec<Event>) {
        let Some(send) = self.outbox.longest_in_flight().and_then(|index| self.outbox.remove(index)) else { return };
        let why = format!("{} bytes are more than the server, or something on the way, takes", send.body.len());
        events.push(unsendable(send.line, why));
    }

    /// Returns why the server last deferred a request, in its words; `None` once it complies.
    pub fn deferral(&self) -> Option<&str> {
        self.deferral.as_deref()
    }

    pub fn has_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Begins a connection, whose texts have at most `longest_text` bytes. The server's `welcome` comes next.
    pub fn connected(&mut self, now: u64, longest_text: usize) {
        self.longest_text = longest_text;
        self.phase = Phase::Disconnected;
        self.requests.clear();
        self.heard_at = now;
        self.pinged_at = None;
        self.reconnect_after = None;
    }

    /// Notes that the connection is lost.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Disconnected;
        self.requests.clear();
        self.outbox.connection_lost();
    }

    /// Returns the next text to send, if there is one that may go out now.
    pub fn next_text(&mut self, now: u64, events: &mut Vec<Event>) -> Option<String> {
        if let Some(text) = self.requests.pop_front() {
            return Some(text);
        }
        if self.phase != Phase::Joined {
            return None;
        }
        let index = self.outbox.next(now)?;
        let id = self.id();
        let send = self.outbox.get(index)?;
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
        self.outbox.set_in_flight(index, id);
        Some(text)
    }

    /// Returns when [`ClientSession::tick`] and [`ClientSession::next_text`] are due, even if nothing arrives.
    pub fn deadline(&mut self, now: u64) -> u64 {
        let mut at = self.pinged_at.map_or(self.heard_at + SILENCE, |pinged| pinged + ANSWER);
        if let Phase::Waiting(until) = self.phase {
            at = at.min(until);
        }
        if self.phase == Phase::Joined
            && let Some(wait) = self.outbox.next_in(now)
        {
            at = at.min(now + wait);
        }
        at
    }

    /// Lets time pass: pings a silent server, gives up one that does not answer, and retries a failed join.
    pub fn tick(&mut self, now: u64, events: &mut Vec<Event>) {
        match self.pinged_at {
            Some(pinged) if now >= pinged + ANSWER => {
                events.push(Event::Reconnect("the server does not answer".to_string()));
            }
            None if now >= self.heard_at + SILENCE || self.has_joined() && now >= self.token_at + TOKEN_AGE => {
                self.pinged_at = Some(now);
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

    /// Takes one object from the server.
    pub fn receive(&mut self, text: &str, now: u64, events: &mut Vec<Event>) {
        self.heard_at = now;
        self.pinged_at = None;
        let Some(message) = ServerMessage::parse(text) else {
            return events.push(Event::Reconnect("the server does not speak the protocol".to_string()));
        };
        let kind = message.string("type").unwrap_or_default();
        let id = message.number("id");
        let is_here = message.string("room").as_deref() == Some(self.room.as_str());
        match kind.as_str() {
            "welcome" => self.welcome(&message, id, now, events),
            "error" => self.error(&message, id, now, events),
            "bye" => self.reconnect_after = Some(retry_after(message.number("reconnect_after_ms"))),
            "pong" => {
                if let Some(token) = message.string("session") {
                    self.token = Some(token);
                    self.token_at = now;
                }
            }
            "joined" if is_here => self.joined(&message, events),
            "left" if is_here && Some(self.phase) == id.map(Phase::Leaving) => self.join(),
            "left" if is_here => {
                let reason = message.string("reason").unwrap_or_default();
                events.push(Event::GiveUp(format!("the server took this client out of the room: {reason}")));
            }
            "ack" => self.acknowledge(id, events),
            "message" if is_here => self.message(&message, events),
            "gap" if is_here => self.gap(message.number("from").unwrap_or(0), events),
            // A newer protocol may have types that are not known here.
            _ => {}
        }
    }

    fn welcome(&mut self, message: &ServerMessage, id: Option<u64>, now: u64, events: &mut Vec<Event>) {
        let token = message.string("session");
        if let Some(limits) = message.object("limits") {
            let number = |field| limits.number(field).and_then(|n| usize::try_from(n).ok());
            self.limits = Limits {
                max_message_size: number("max_message_size").unwrap_or(32 << 10),
                page_bytes: number("page_bytes").unwrap_or(0),
            };
            let in_flight = number("in_flight").unwrap_or(1).max(1);
            self.outbox.set_limits(in_flight, limits.number("request_rate").unwrap_or(1));
        }
        if let Phase::Resuming(asked) = self.phase
            && id == Some(asked)
        {
            self.adopt(token, now);
            // The room's `joined` answers the same request.
            self.phase = Phase::Joining(asked);
            return;
        }
        if let Phase::Disconnected = self.phase
            && let Some(token) = &self.credentials
        {
            let request = json!({"type": "auth", "token": token.as_str()});
            self.phase = Phase::Authenticating(self.request(request));
            return;
        }
        let is_known = matches!(self.phase, Phase::Authenticating(asked) if id == Some(asked));
        if self.phase != Phase::Disconnected && !is_known {
            if id.is_none() {
                // The join had a name: this token stands for it, the earlier one did not.
                self.token = token;
                self.token_at = now;
            }
            return;
        }
        match (self.resumable(), self.cursor) {
            (Some(session), Some(seq)) => {
                let place = json!({"epoch": self.epoch, "seq": seq, "presence": "off"});
                let request = json!({"type": "resume", "session": session, "cursors": {self.room.as_str(): place}});
                // It counts only if the session cannot be resumed.
                self.provisional_token = token;
                self.phase = Phase::Resuming(self.request(request));
            }
            _ => self.begin_anew(token, now, events),
        }
    }

    /// Adopts a session, and sends everything that is not acknowledged.
    fn adopt(&mut self, token: Option<String>, now: u64) {
        self.token = token;
        self.token_at = now;
        self.outbox.restart(now);
    }

    /// Begins another session, in which keys do not recognize messages that were sent in an earlier one.
    fn begin_anew(&mut self, token: Option<String>, now: u64, events: &mut Vec<Event>) {
        let unknown = self.outbox.drop_unknown();
        if unknown > 0 {
            events.push(Event::Unknown(unknown));
        }
        // Where the join has the name, this token is a guest's. A client that resumed with it would be that guest for
        // good; the next token comes with the name, before `joined`.
        self.adopt(token.filter(|_| self.name.is_none()), now);
        self.join();
    }

    fn join(&mut self) {
        let mut request = json!({"type": "join", "room": self.room.as_str(), "presence": "off"});
        if let Some(name) = &self.name {
            request["name"] = json!(name.as_str());
        }
        let probes = match (self.cursor, self.begin) {
            (Some(seq), _) => {
                request["after"] = json!(seq);
                request["epoch"] = json!(self.epoch);
                false
            }
            (None, Begin::Last(last)) if last <= MAX_LAST => {
                request["last"] = json!(last);
                false
            }
            (None, Begin::Last(_)) => true,
            (None, Begin::Now) => false,
        };
        let id = self.request(request);
        self.phase = if probes { Phase::Probing(id) } else { Phase::Joining(id) };
    }

    fn leave(&mut self) {
        let request = json!({"type": "leave", "room": self.room.as_str()});
        self.phase = Phase::Leaving(self.request(request));
    }

    fn joined(&mut self, message: &ServerMessage, events: &mut Vec<Event>) {
        let (Some(head), Some(from)) = (message.number("head"), message.number("from")) else { return };
        let epoch = message.string("epoch");
        match self.phase {
            Phase::Probing(_) => {
                if let Begin::Last(last) = self.begin {
                    self.cursor = Some(head.saturating_sub(last));
                }
                self.epoch = epoch;
                self.leave();
            }
            Phase::Joining(_) => {
                if let Some(after) = self.cursor {
                    let new_log = epoch != self.epoch || from <= after;
                    if new_log || from > after + 1 {
                        events.push(Event::Gap { after, from, new_log });
                    }
                }
                self.phase = Phase::Joined;
                self.deferral = None;
                self.epoch = epoch;
                self.cursor = Some(from.saturating_sub(1));
                self.head = head;
                self.has_caught_up = false;
                self.check_caught_up(events);
            }
            _ => {}
        }
    }

    fn message(&mut self, message: &ServerMessage, events: &mut Vec<Event>) {
        let (Phase::Joined, Some(cursor), Some(seq)) = (self.phase, self.cursor, message.number("seq")) else { return };
        if seq <= cursor {
            return;
        }
        self.gap(seq, events);
        self.cursor = Some(seq);
        events.push(Event::Message(message.text().to_string()));
        self.check_caught_up(events);
    }

    fn gap(&mut self, from: u64, events: &mut Vec<Event>) {
        let (Phase::Joined, Some(after)) = (self.phase, self.cursor) else { return };
        if from > after + 1 {
            events.push(Event::Gap { after, from, new_log: false });
            self.cursor = Some(from - 1);
            self.check_caught_up(events);
        }
    }

    fn check_caught_up(&mut self, events: &mut Vec<Event>) {
        if !self.has_caught_up && self.cursor.is_some_and(|cursor| cursor >= self.head) {
            self.has_caught_up = true;
            events.push(Event::CaughtUp);
        }
    }

    fn acknowledge(&mut self, id: Option<u64>, events: &mut Vec<Event>) {
        let Some(index) = self.outbox.position(id) else { return };
        self.outbox.remove(index);
        self.deferral = None;
        events.push(Event::Acknowledged);
    }

    fn error(&mut self, error: &ServerMessage, id: Option<u64>, now: u64, events: &mut Vec<Event>) {
        let code = error.string("code").unwrap_or_default();
        let message = error.string("message").unwrap_or_else(|| code.clone());
        let is_temporary = matches!(code.as_str(), "rate_limited" | "storage_unavailable");
        let retry_at = now + retry_after(error.number("retry_after_ms"));
        if is_temporary {
            if code != "rate_limited" {
                events.push(Event::Deferred(message.clone()));
            }
            self.deferral = Some(message.clone());
        }
        if let Some(index) = self.outbox.position(id) {
            if is_temporary {
                return self.outbox.defer(index, retry_at);
            }
            let line = self.outbox.remove(index).map_or(0, |send| send.line);
            // These codes concern the room, so every further message would be refused, too.
            return events.push(match code.as_str() {
                "not_encrypted" | "not_joined" | "unauthorized" | "forbidden" => Event::Refused(message),
                _ => unsendable(line, message),
            });
        }
        match self.phase {
            Phase::Authenticating(asked) if id == Some(asked) && is_temporary => {
                events.push(Event::Reconnect(message));
            }
            Phase::Authenticating(asked) if id == Some(asked) => events.push(Event::GiveUp(message)),
            Phase::Resuming(asked) if id == Some(asked) && is_temporary => events.push(Event::Reconnect(message)),
            Phase::Resuming(asked) if id == Some(asked) => {
                let token = self.provisional_token.take();
                self.begin_anew(token, now, events);
            }
            Phase::Joining(asked) | Phase::Probing(asked) if id == Some(asked) => match code.as_str() {
                _ if is_temporary => self.phase = Phase::Waiting(retry_at),
                // An earlier join succeeded, and its answer was lost. The room is joined again in order to begin in the
                // right place.
                "already_joined" => self.leave(),
                _ => events.push(Event::GiveUp(message)),
            },
            _ => {}
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Queues a request, and returns its id.
    fn request(&mut self, mut value: serde_json::Value) -> u64 {
        let id = self.id();
        value["id"] = json!(id);
        self.requests.push_back(value.to_string());
        id
    }
}

/// Returns the milliseconds to leave the server alone, within bounds.
fn retry_after(announced: Option<u64>) -> u64 {
    announced.unwrap_or(RETRY_AFTER).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
}

/// Returns the event for a message that is refused for good.
fn unsendable(line: u64, why: String) -> Event {
    match line {
        0 => Event::Refused(why),
        _ => Event::Unsendable(format!("line {line}: {why}")),
    }
}

#[cfg(test)]
mod tests;
