//! Somebody on the way to a sealed server, without its key. It can lose a connection, and neither end nor stop
//! anything: the client comes back, and its session has its rooms.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use racerd::crypto::sealed::Pin;
use serde_json::json;

use crate::sealed::{Key, Sealed};
use crate::support::*;

/// What it does with a new connection.
#[derive(Clone)]
enum Plan {
    Relay,
    /// Answers the upgrade itself, with this.
    Answer(String),
    /// Lets the upgrade through, and answers the handshake itself.
    Pose,
}

/// Both ends of a connection that it relays.
struct Relayed {
    near: TcpStream,
    far: TcpStream,
}

struct Between {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    relayed: Arc<Mutex<Vec<Relayed>>>,
}

impl Between {
    fn new(server: SocketAddr, plan: Plan) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(plan));
        let relayed = Arc::new(Mutex::new(Vec::new()));
        let (plans, list) = (Arc::clone(&plan), Arc::clone(&relayed));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let plan = plans.lock().unwrap().clone();
                meet(near, server, &plan, &list);
            }
        });
        Between { address, plan, relayed }
    }

    fn relays(&self) {
        *self.plan.lock().unwrap() = Plan::Relay;
    }

    /// Writes this to the client and that to the server, and cuts the connection.
    fn inject(&self, to_client: &[u8], to_server: &[u8]) {
        let Relayed { mut near, mut far } = self.relayed.lock().unwrap().pop().expect("a connection");
        near.write_all(to_client).unwrap();
        // The client may have left by now, and the server closed.
        let _ = far.write_all(to_server);
        for stream in [near, far] {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn tail(&self, pin: &Pin, room: &str, more: &[&str]) -> Tail {
        let url = format!("http://{}/rooms/{room}#pin={pin}", self.address);
        let mut command = Server::program();
        command.args(["tail", &url, "--name", "ann"]).args(more);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        let said = Arc::new(Mutex::new(String::new()));
        let (mut stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let heard = BufReader::new(child.stdout.take().unwrap());
        Tail { child, heard, said }
    }
}

fn meet(mut near: TcpStream, server: SocketAddr, plan: &Plan, list: &Mutex<Vec<Relayed>>) {
    if let Plan::Answer(answer) = plan {
        read_head(&mut near);
        let _ = near.write_all(answer.as_bytes());
        return;
    }
    let mut far = TcpStream::connect(server).unwrap();
    if let Plan::Pose = plan {
        far.write_all(read_head(&mut near).as_bytes()).unwrap();
        near.write_all(read_head(&mut far).as_bytes()).unwrap();
        near.write_all(&[&[0x82, 48][..], &[7; 48]].concat()).unwrap();
        return;
    }
    for (mut from, mut into) in
        [(&near, &far), (&far, &near)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
    {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut into);
            let _ = into.shutdown(Shutdown::Write);
        });
    }
    list.lock().unwrap().push(Relayed { near, far });
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A `racerd tail` that runs.
struct Tail {
    child: Child,
    heard: BufReader<ChildStdout>,
    said: Arc<Mutex<String>>,
}

impl Tail {
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.heard.read_line(&mut line).unwrap();
        line
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A close frame as a server writes it.
fn server_close(code: u16, reason: &str) -> Vec<u8> {
    [&[0x88, 2 + reason.len() as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

fn post(server: &Server, room: &str, text: &str) {
    assert_eq!(
        server.post(&format!("/rooms/{room}/messages?name=bob"), &json!({"text": text}).to_string()).status,
        201
    );
}

#[test]
fn a_forged_close_stops_nobody_who_follows() {
    let key = Key::new();
    let server = key.serve(&[]);
    for code in [1000, 1001, 1008, 1009, 4001, 4003, 4005] {
        let room = format!("r{code}");
        let between = Between::new(server.address, Plan::Relay);
        let mut tail = between.tail(&key.pin, &room, &["--follow", "--last", "1"]);
        eventually("who follows", || server.members(&room) == 1);
        post(&server, &room, "before");
        assert_eq!(tail.next(), "bob: before\n");
        between.inject(&server_close(code, "a forged reason"), &close(1000, b""));
        post(&server, &room, "after");
        assert_eq!(tail.next(), "bob: after\n", "{code}: {}", tail.said());
        assert_eq!(server.members(&room), 1, "{code}: the session was resumed");
        assert!(!tail.said().contains("forged") && !tail.said().contains(&code.to_string()), "{}", tail.said());
    }
}

#[test]
fn a_forged_refusal_stops_nobody_and_is_not_shown() {
    let key = Key::new();
    let server = key.serve(&[]);
    post(&server, "r", "hello");
    for status in ["400 No", "401 No", "403 No", "404 No", "421 No", "429 No\r\nRetry-After: 9999", "101 Yes"] {
        let body = r#"{"detail":"give up, says the attacker"}"#;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let between = Between::new(server.address, Plan::Answer(answer));
        let arguments: &[&str] = if status.starts_with("429") { &["--timeout", "300ms"] } else { &["--follow"] };
        let mut tail = between.tail(&key.pin, "r", arguments);
        eventually("a word", || tail.said().contains("trying again") || tail.said().contains("no connection"));
        assert!(!tail.said().contains("attacker"), "{}", tail.said());
        if status.starts_with("429") {
            // It is not asked to stay away for hours.
            assert_eq!(tail.child.wait().unwrap().code(), Some(3));
            continue;
        }
        between.relays();
        assert_eq!(tail.next(), "bob: hello\n", "{status}");
    }
}

/// One wrong answer is a warning, and no end. A command that asks once ends with it.
#[test]
fn who_follows_tries_again_after_a_wrong_key() {
    let key = Key::new();
    let server = key.serve(&[]);
    post(&server, "r", "hello");
    let between = Between::new(server.address, Plan::Pose);
    let mut once = between.tail(&key.pin, "r", &[]);
    assert_eq!((once.child.wait().unwrap().code(), once.next().as_str()), (Some(4), ""));
    let mut tail = between.tail(&key.pin, "r", &["--follow"]);
    eventually("the warning", || tail.said().contains("does not match the pin"));
    between.relays();
    // The pause is of half a minute at most.
    within(2 * SOON, "another try", || !between.relayed.lock().unwrap().is_empty());
    assert_eq!(tail.next(), "bob: hello\n");
}

#[test]
fn a_sealed_client_that_is_done_ends_its_session() {
    let key = Key::new();
    let server = key.serve(&[]);
    let mut witness = server.member("r", "witness");
    post(&server, "r", "hello");
    let mut tail = Between::new(server.address, Plan::Relay).tail(&key.pin, "r", &[]);
    assert_eq!(tail.next(), "bob: hello\n");
    let mut event = || {
        let events = witness.next_of("presence")["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 1);
        (events[0]["event"].clone(), events[0]["name"].clone())
    };
    assert_eq!([event(), event()], ["join", "leave"].map(|kind| (json!(kind), json!("ann"))));
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
}

/// A client of before, which only closes: its session waits as after a lost line, and ages away.
#[test]
fn a_close_without_a_sealed_end_leaves_the_session() {
    let key = Key::new();
    let server = key.serve(&[]);
    let mut client = Sealed::connect(server.address, &key.pin);
    client.send(json!({"type": "join", "id": 1, "room": "r", "name": "sue"}));
    client.next_of("welcome");
    let token = client.next_of("welcome")["session"].clone();
    client.next_of("joined");
    client.raw.send(close(1000, b""));
    assert_eq!(client.raw.closed_with(), 1000);
    assert_eq!(server.members("r"), 1);
    let mut again = Sealed::connect(server.address, &key.pin);
    again.send(json!({"type": "resume", "id": 5, "session": token}));
    again.next_of("joined");
    again.send(json!({"type": "end"}));
    let closing = again.next_of("closing");
    assert_eq!(closing["code"], 1000);
    assert_eq!(again.raw.closed_with(), 1000);
    assert_eq!(server.members("r"), 0);
}
