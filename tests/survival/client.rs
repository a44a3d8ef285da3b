//! A client that loses nothing: it keeps its token and its cursor, resumes with them, and repeats unacknowledged
//! messages under the same keys.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use racerd::crypto::sealed::Pin;
use racerd::testing::Random;
use racerd::testing::judge::{self, Begin};
use serde_json::{Value, json};

use crate::line::Line;

/// The history of one client.
pub struct Life {
    pub name: String,
    /// Acknowledged bodies, with their seqs and dates.
    pub acknowledged: Vec<(String, u64, u64)>,
    pub unacknowledged: usize,
    /// Seqs, dates and bodies, in the order in which they were received.
    pub received: Vec<(u64, u64, String)>,
    pub resumed: usize,
    /// The resumptions over sealed sockets among them.
    pub resumed_sealed: usize,
    /// The server's answers where it should have resumed a session.
    pub refused: Vec<String>,
}

pub struct Survivor {
    address: SocketAddr,
    /// The server's pin; with one, the client speaks sealed.
    pin: Option<Pin>,
    life: Life,
    token: Option<String>,
    member: Option<String>,
    epoch: String,
    /// The last seq received; a cursor exists from the first `joined` on.
    cursor: Option<u64>,
    outbox: VecDeque<(u64, String)>,
    next: u64,
    /// The number of messages of the outbox that were sent over this socket.
    sent: usize,
    /// The client has sent everything, and so had all the others before the log was last read.
    is_silent: bool,
    all_silent: bool,
}

/// What all clients share: the end of sending, and counts of what happened so far.
pub struct End {
    called: AtomicBool,
    silent: AtomicUsize,
    clients: usize,
    acknowledged: AtomicUsize,
    resumed: AtomicUsize,
    resumed_sealed: AtomicUsize,
}

impl End {
    pub fn of(clients: usize) -> End {
        let none = || AtomicUsize::new(0);
        let (silent, acknowledged, resumed, resumed_sealed) = (none(), none(), none(), none());
        End { called: AtomicBool::new(false), silent, clients, acknowledged, resumed, resumed_sealed }
    }

    /// Returns how many messages were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Returns true once every client was acknowledged something and came back, on average, a third of them sealed.
    pub fn shows_something(&self) -> bool {
        let reached = |count: &AtomicUsize, least| count.load(Ordering::SeqCst) >= least;
        self.acknowledged() > self.clients
            && reached(&self.resumed, self.clients)
            && reached(&self.resumed_sealed, self.clients / 3)
    }

    pub fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
    }

    fn is_called(&self) -> bool {
        self.called.load(Ordering::SeqCst)
    }
}

/// The most unacknowledged sends at a time.
const WINDOW: usize = 4;
/// The time for a client to receive everything once faults have ended.
const PATIENCE: Duration = Duration::from_secs(60);

impl Survivor {
    pub fn new(number: usize, address: SocketAddr, pin: Option<Pin>) -> Survivor {
        Survivor {
            address,
            pin,
            life: Life {
                name: format!("c{number}"),
                acknowledged: Vec::new(),
                unacknowledged: 0,
                received: Vec::new(),
                resumed: 0,
                resumed_sealed: 0,
                refused: Vec::new(),
            },
            token: None,
            member: None,
            epoch: String::new(),
            cursor: None,
            outbox: VecDeque::new(),
            next: 0,
            sent: 0,
            is_silent: false,
            all_silent: false,
        }
    }

    /// Sends until the end is called, then runs until everything that any client sent is acknowledged and received.
    pub fn live(mut self, random: &mut Random, end: &End) -> Life {
        let mut patience = None;
        loop {
            let fresh = random.array();
            if let Some(mut line) = Line::open(self.address, &self.life.name, self.pin.as_ref(), fresh)
                && self.talk(&mut line, random, end)
            {
                self.life.unacknowledged = self.outbox.len();
                return self.life;
            }
            if end.is_called() {
                let limit = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                assert!(Instant::now() < limit, "{} does not get to the end", self.life.name);
            }
            std::thread::sleep(Duration::from_millis(random.within((5, 34))));
        }
    }

    /// Uses one socket until it breaks, and then returns false; returns true once everything is done.
    fn talk(&mut self, line: &mut Line, random: &mut Random, end: &End) -> bool {
        self.sent = 0;
        let mut is_in = false;
        let mut is_welcome = false;
        let mut asked_head = false;
        loop {
            let Some(said) = line.read() else { return false };
            match said["type"].as_str().unwrap_or_default() {
                "welcome" => {
                    let was_welcome = std::mem::replace(&mut is_welcome, true);
                    if !self.welcomed(line, &said, was_welcome, end) {
                        return false;
                    }
                }
                "joined" => {
                    is_in = true;
                    assert_eq!(said["recovered"], true, "{}: {said}", self.life.name);
                    self.epoch = said["epoch"].as_str().expect("an epoch").to_owned();
                    let number = |field: &str| said[field].as_u64().expect("a seq");
                    let (head, from) = (number("head"), number("from"));
                    // Without a cursor, it may be back in a room whose first `joined` was lost: the server knows where.
                    if let Some(cursor) = self.cursor {
                        let judged = Begin::After(cursor).judge(head, from, true, None);
                        assert_eq!(judged, Ok(()), "{} goes on where it was", self.life.name);
                    }
                    self.cursor = Some(from - 1);
                }
                "message" => {
                    let seq = said["seq"].as_u64().expect("a seq");
                    let mut next = self.cursor.expect("joined before") + 1;
                    assert_eq!(judge::message(&mut next, seq), Ok(()), "{}", self.life.name);
                    self.cursor = Some(seq);
                    let body = said["body"].as_str().expect("a text").to_owned();
                    let sender = said["from"]["name"].as_str().expect("a name");
                    assert!(body.starts_with(&format!("{sender}-")), "{body} is said to be of {sender}");
                    self.life.received.push((seq, said["at"].as_u64().expect("a date"), body));
                }
                "ack" => {
                    let id = said["id"].as_u64().expect("an id");
                    let at = self.outbox.iter().position(|(n, _)| n + 10 == id).expect("a send of mine");
                    let (_, body) = self.outbox.remove(at).expect("there");
                    self.sent -= 1;
                    let number = |field: &str| said[field].as_u64().expect("a number");
                    self.life.acknowledged.push((body, number("seq"), number("at")));
                    end.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                "history" => {
                    let newest = said["messages"].as_array().and_then(|list| list.last());
                    if self.all_silent && newest.is_none_or(|m| m["seq"].as_u64() == self.cursor) {
                        line.close();
                        return true;
                    }
                    asked_head = false;
                }
                "error" if said["id"] == 1 => {
                    self.life.refused.push(said.to_string());
                    return false;
                }
                // The message was not acknowledged; send it again over a new socket.
                "error" => return false,
                _ => {}
            }
            if !is_in {
                continue;
            }
            let is_over = end.is_called();
            while !is_over && self.outbox.len() < WINDOW {
                self.outbox.push_back((self.next, format!("{}-{}", self.life.name, self.next)));
                self.next += 1;
            }
            while let Some((n, body)) = self.outbox.get(self.sent) {
                let send = json!({"type": "send", "id": n + 10, "room": "r", "key": body, "body": body});
                if !line.say(&send) {
                    return false;
                }
                self.sent += 1;
            }
            if is_over && self.outbox.is_empty() && !asked_head {
                if !std::mem::replace(&mut self.is_silent, true) {
                    end.silent.fetch_add(1, Ordering::SeqCst);
                }
                // Until the others have sent everything, there may be more. Their acknowledged messages are in the log
                // that is read afterwards. (A pong only covers what was queued for this socket, which may still be
                // reading the log.)
                std::thread::sleep(Duration::from_millis(random.within((5, 24))));
                self.all_silent = end.silent.load(Ordering::SeqCst) == end.clients;
                asked_head = true;
                if !line.say(&json!({"type": "history", "id": 3, "room": "r", "limit": 1})) {
                    return false;
                }
            }
        }
    }

    /// Resumes its session, or joins the room; returns false if the socket is broken.
    fn welcomed(&mut self, line: &mut Line, said: &Value, was_welcome: bool, end: &End) -> bool {
        let greets_back = said["id"] == 1;
        if was_welcome && !greets_back {
            // The join said its name, and this token knows it.
            assert!(line.is_sealed(), "{} is greeted twice: {said}", self.life.name);
            self.token = said["session"].as_str().map(str::to_owned);
            return true;
        }
        if let Some(token) = self.token.as_ref().filter(|_| !greets_back) {
            // Not the client's own session yet: that comes with the answer to this.
            let mut cursors = json!({});
            if let Some(seq) = self.cursor {
                cursors["r"] = json!({"epoch": self.epoch, "seq": seq, "presence": "off"});
            }
            let ask = json!({"type": "resume", "id": 1, "session": token, "cursors": cursors});
            return line.say(&ask);
        }
        self.token = said["session"].as_str().map(str::to_owned);
        let member = said["member"].as_str().map(str::to_owned);
        if greets_back {
            self.life.resumed += 1;
            self.life.resumed_sealed += usize::from(line.is_sealed());
            end.resumed.fetch_add(1, Ordering::SeqCst);
            end.resumed_sealed.fetch_add(usize::from(line.is_sealed()), Ordering::SeqCst);
            assert_eq!(member, self.member, "{} is somebody else now", self.life.name);
        }
        self.member = member;
        let mut join = json!({"type": "join", "id": 2, "room": "r", "presence": "off"});
        if line.is_sealed() {
            join["name"] = json!(self.life.name);
        }
        self.cursor.is_some() || line.say(&join)
    }
}
