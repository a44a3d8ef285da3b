//! A graceful restart under load, on a listener that is held open: every client is told when to reconnect, and
//! continues where it was. Clients keep their token, their cursor and their unacknowledged messages, as the client
//! library does.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;

use crate::activation::{listener, start_on};
use crate::support::*;

const CLIENTS: usize = 200;
/// Number of clients that send.
const SENDERS: usize = 8;
/// Members of the small room, whose presence events carry names.
const FEW: usize = 5;

/// One client across all its connections.
struct Member {
    number: usize,
    token: String,
    epoch: String,
    /// Last seq received in the large room, and in the small one if it is a member.
    seqs: [Option<u64>; 2],
    messages: usize,
    /// Messages sent but not acknowledged.
    open: Vec<(u64, String)>,
    next_key: u64,
    acknowledged: usize,
    /// Delay in milliseconds after which it was told to reconnect.
    told: Option<u64>,
    presence: Vec<Value>,
    ended: [bool; 2],
}

const ROOMS: [&str; 2] = ["large", "small"];

type Socket = WebSocket<TcpStream>;

fn connect(address: SocketAddr, path: &str) -> Socket {
    let stream = TcpStream::connect(address).expect("somebody listens all the time");
    stream.set_read_timeout(Some(3 * SOON)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    tungstenite::client(format!("ws://localhost{path}"), stream).expect("a handshake").0
}

fn send(socket: &mut Socket, value: &Value) -> bool {
    socket.send(tungstenite::Message::text(value.to_string())).is_ok()
}

impl Member {
    fn new(number: usize) -> Member {
        Member {
            number,
            token: String::new(),
            epoch: String::new(),
            seqs: [None, None],
            messages: 0,
            open: Vec::new(),
            next_key: 0,
            acknowledged: 0,
            told: None,
            presence: Vec::new(),
            ended: [false, number >= FEW],
        }
    }

    fn begin(&mut self, address: SocketAddr) -> Socket {
        let mut socket = connect(address, &format!("/rooms/large/ws?name=c{}", self.number));
        if self.number < FEW {
            assert!(send(&mut socket, &json!({"type": "join", "id": 1, "room": "small"})));
        }
        socket
    }

    fn resume(&mut self, address: SocketAddr) -> Socket {
        let mut socket = connect(address, "/ws");
        let seat = |room: usize| {
            self.seqs[room].map(|seq| (ROOMS[room].to_string(), json!({"epoch": self.epoch, "seq": seq})))
        };
        let cursors: serde_json::Map<String, Value> = (0..2).filter_map(seat).collect();
        let resume = json!({"type": "resume", "id": 1, "session": self.token, "cursors": cursors});
        assert!(send(&mut socket, &resume));
        socket
    }

    /// Sends one more message to the large room. Returns false if the connection has ended.
    fn say(&mut self, socket: &mut Socket) -> bool {
        self.next_key += 1;
        let (id, key) = (100 + self.next_key, format!("k-{}-{}", self.number, self.next_key));
        self.open.push((id, key.clone()));
        send(socket, &json!({"type": "send", "room": "large", "id": id, "key": key, "body": key}))
    }

    fn say_again(&mut self, socket: &mut Socket) {
        for (id, key) in &self.open {
            assert!(send(socket, &json!({"type": "send", "room": "large", "id": id, "key": key, "body": key})));
        }
    }

    /// Reads until `is_enough`. Returns false if the connection ends first.
    fn hear(&mut self, socket: &mut Socket, mut is_enough: impl FnMut(&Member, &Value) -> bool) -> bool {
        loop {
            let text = match socket.read() {
                Ok(tungstenite::Message::Text(text)) => text,
                Ok(_) => continue,
                Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => return false,
                // The server need not wait for a client whose close frame has crossed its own.
                Err(_) if self.told.is_some() => return false,
                Err(error) => panic!("client {}: {error}", self.number),
            };
            let value: Value = serde_json::from_str(&text).expect("JSON");
            self.take(&value);
            if is_enough(self, &value) {
                return true;
            }
        }
    }

    fn take(&mut self, value: &Value) {
        let room = ROOMS.iter().position(|room| value["room"] == *room);
        match (value["type"].as_str().expect("a type"), room) {
            ("welcome", _) => self.token = value["session"].as_str().expect("a token").to_string(),
            ("joined", Some(room)) => {
                self.epoch = value["epoch"].as_str().expect("an epoch").to_string();
                let from = value["from"].as_u64().expect("a seq");
                if let Some(seq) = self.seqs[room] {
                    assert_eq!((&value["recovered"], from), (&json!(true), seq + 1), "client {}", self.number);
                }
                self.seqs[room] = Some(from - 1);
            }
            ("message", Some(room)) => {
                let seq = value["seq"].as_u64().expect("a seq");
                let before = self.seqs[room].replace(seq).expect("joined first");
                assert_eq!(seq, before + 1, "client {}: a gap or a double", self.number);
                self.messages += usize::from(room == 0);
                self.ended[room] |= value["body"] == "end";
            }
            ("ack", _) => {
                self.open.retain(|(id, _)| value["id"] != *id);
                self.acknowledged += 1;
            }
            ("presence", Some(1)) => self.presence.extend(value["events"].as_array().cloned().unwrap_or_default()),
            ("bye", _) => self.told = value["reconnect_after_ms"].as_u64(),
            ("gap" | "error", _) => panic!("client {}: {value}", self.number),
            _ => {}
        }
    }
}

#[test]
fn everyone_goes_on_after_a_restart_under_load() {
    let (listener, address) = listener();
    let mut server = start_on(TempDir::new(), &listener, &["--request-rate", "0", "--in-flight", "32"]);
    let (joined, resumed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (may_talk, is_last) = (AtomicBool::new(false), AtomicBool::new(false));

    let live = |number: usize| {
        let mut member = Member::new(number);
        let is_there = |member: &Member| member.seqs[0].is_some() && (number >= FEW || member.seqs[1].is_some());
        let mut socket = member.begin(address);
        assert!(member.hear(&mut socket, |member, _| is_there(member)));
        joined.fetch_add(1, Ordering::Relaxed);
        if number < SENDERS {
            within(3 * SOON, "all have joined", || may_talk.load(Ordering::Relaxed));
            // The client sends as long as the server accepts it: some messages are under way when the stop comes.
            while member.open.len() >= 8 || member.say(&mut socket) {
                if member.open.len() >= 8 && !member.hear(&mut socket, |member, _| member.open.len() < 8) {
                    break;
                }
            }
        }
        member.hear(&mut socket, |_, _| false);
        let heard_before = std::mem::take(&mut member.presence);
        let acknowledged_before = member.acknowledged;

        std::thread::sleep(Duration::from_millis(member.told.expect("everyone is told")));
        let mut socket = member.resume(address);
        let mut back = [false, number >= FEW];
        let came_back = member.hear(&mut socket, |_, value| {
            let room = ROOMS.iter().position(|room| value["type"] == "joined" && value["room"] == *room);
            room.inspect(|room| back[*room] = true);
            back == [true, true]
        });
        assert!(came_back, "client {number} was let in");
        member.say_again(&mut socket);
        assert!(member.open.is_empty() || member.hear(&mut socket, |member, _| member.open.is_empty()));
        resumed.fetch_add(1, Ordering::Relaxed);
        assert!(member.hear(&mut socket, |member, _| member.ended == [true, true]));
        within(3 * SOON, "all have heard the end", || is_last.load(Ordering::Relaxed));
        (member, heard_before, acknowledged_before)
    };

    let live = &live;
    let members = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || live(number))).collect();
        within(3 * SOON, "all have joined", || joined.load(Ordering::Relaxed) == CLIENTS);
        may_talk.store(true, Ordering::Relaxed);
        eventually("they talk", || server.get("/rooms/large/messages?limit=1").json()["head"].as_u64() > Some(300));
        assert_eq!(server.stop().code(), Some(0));
        let folder = std::mem::replace(&mut server.folder, TempDir::new());
        server = start_on(folder, &listener, &["--request-rate", "0"]);
        within(3 * SOON, "all have resumed", || resumed.load(Ordering::Relaxed) == CLIENTS);
        // No member is listed twice, and none is missing.
        assert_eq!((server.members("large"), server.members("small")), (CLIENTS as u64, FEW as u64));
        for room in ROOMS {
            let posted = server.post(&format!("/rooms/{room}/messages"), "\"end\"");
            assert_eq!(posted.status, 201);
        }
        is_last.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });

    let history = server.history("large");
    let mut bodies: Vec<&str> = history.iter().filter_map(|message| message["body"].as_str()).collect();
    bodies.sort_unstable();
    assert!(bodies.windows(2).all(|pair| pair[0] != pair[1]), "a key is stored once");
    let acknowledged: usize = members.iter().map(|(member, ..)| member.acknowledged).sum();
    assert_eq!(bodies.len(), acknowledged + 1, "each is acknowledged in the end, and the end is one more");
    assert!(members[..SENDERS].iter().all(|(_, _, before)| *before > 0), "the load was before the stop");
    let mut told: Vec<u64> = Vec::new();
    for (member, heard_before, _) in &members {
        assert_eq!(member.seqs[0], Some(history.len() as u64), "client {}", member.number);
        assert!(heard_before.iter().all(|event| event["event"] == "join"), "nobody is seen leaving: {heard_before:?}");
        // After the restart, members see newcomers join, and see none of the earlier members leave.
        assert!(member.presence.iter().all(|event| event["event"] != "away"), "{:?}", member.presence);
        told.extend(member.told);
    }
    told.sort_unstable();
    assert!(told.iter().all(|ms| (250..1450).contains(ms)), "{told:?}");
    assert!(told[CLIENTS * 9 / 10] - told[CLIENTS / 10] > 700, "spread: {told:?}");
}
