//! Sealed sockets: a third-party client and our own beside open ones; the bytes on the wire; refusals.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use racerd::crypto::sealed::{Initiator, Pin, SealedKey, Transport};
use serde_json::{Value, json};

use crate::command::{ended, refused};
use crate::support::*;

fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().expect("the binary")
}

/// A new key file, as `racerd keygen` makes it.
pub struct Key {
    folder: TempDir,
    pub pin: Pin,
}

impl Key {
    pub fn new() -> Key {
        let folder = TempDir::new();
        let path = folder.path().join("key");
        let output = racerd(&["keygen", path.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        let pin = Pin::parse(String::from_utf8(output.stdout).unwrap().trim_end()).expect("a pin");
        Key { folder, pin }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    pub fn serve(&self, arguments: &[&str]) -> Server {
        Server::start(&[&["--sealed-key", self.path().to_str().unwrap()], arguments].concat())
    }
}

const OFFER: &str = "Sec-WebSocket-Protocol: racerd.v1.sealed\r\n";

/// A hand-written client of a sealed socket.
pub struct Sealed {
    pub raw: Raw,
    transport: Transport,
    /// Lines received and not yet taken, the next one last.
    waiting: Vec<String>,
}

impl Sealed {
    pub fn connect(address: SocketAddr, pin: &Pin) -> Sealed {
        let (mut raw, initiator) = Sealed::begin(address, pin);
        let answer = raw.frame().expect("an answer");
        assert_eq!((answer.first, answer.payload.len()), (0x82, 48));
        Sealed { raw, transport: initiator.finish(&answer.payload).expect("the pinned key"), waiting: Vec::new() }
    }

    /// Connects and sends the first handshake message.
    fn begin(address: SocketAddr, pin: &Pin) -> (Raw, Initiator) {
        let mut raw = Raw::connect(address);
        raw.send(handshake("/ws", OFFER));
        let head = raw.head();
        assert!(head.contains("Sec-WebSocket-Protocol: racerd.v1.sealed"), "{head}");
        let mut random = [0; 32];
        random[..8].copy_from_slice(&rand_seed().to_le_bytes());
        let (initiator, first) = Initiator::begin(pin, random).unwrap();
        raw.send(frame(0x82, &first));
        (raw, initiator)
    }

    fn seal(&mut self, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        self.transport.seal_into(&mut out, format!("{value}\n").as_bytes()).unwrap();
        out
    }

    pub fn send(&mut self, value: Value) {
        let sealed = self.seal(&value);
        self.raw.send(frame(0x82, &sealed));
    }

    /// Returns the next object; `None` at a close.
    fn next(&mut self) -> Option<Value> {
        self.next_line().map(|line| serde_json::from_str(&line).unwrap())
    }

    /// Returns the next object's text; `None` at a close.
    pub fn next_line(&mut self) -> Option<String> {
        while self.waiting.is_empty() {
            let frame = self.raw.frame()?;
            match frame.first {
                0x82 => {
                    let mut plain = Vec::new();
                    self.transport.open_into(&mut plain, &frame.payload).expect("the server's seal");
                    let text = String::from_utf8(plain).unwrap();
                    self.waiting = text.lines().map(str::to_string).collect();
                    self.waiting.reverse();
                }
                0x88 => return None,
                0x89 => self.raw.send(crate::support::frame(0x8a, &frame.payload)),
                other => panic!("a frame of kind {other:#x}"),
            }
        }
        self.waiting.pop()
    }

    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let value = self.next().unwrap_or_else(|| panic!("closed before {kind}"));
            if value["type"] == kind {
                return value;
            }
        }
    }

    fn join(&mut self, room: &str, name: &str) {
        self.send(json!({"type": "join", "id": 1, "room": room, "name": name}));
        self.next_of("joined");
    }

    fn say(&mut self, room: &str, id: u64, body: Value) {
        self.send(json!({"type": "send", "id": id, "room": room, "body": body}));
        assert_eq!(self.next_of("ack")["id"], id);
    }
}

/// On a sealed socket, messages sent before a close are acknowledged before the close is answered.
#[test]
fn sealed_acknowledgements_come_before_the_answer_to_a_close() {
    let key = Key::new();
    let server = key.serve(&[]);
    let mut client = Sealed::connect(server.address, &key.pin);
    client.join("r", "ann");
    let mut bytes = Vec::new();
    for id in 10..15 {
        let sealed = client.seal(&json!({"type": "send", "id": id, "room": "r", "body": id}));
        bytes.extend(frame(0x82, &sealed));
    }
    bytes.extend(close(1000, b""));
    client.raw.send(bytes);
    let heard: Vec<Value> = std::iter::from_fn(|| client.next()).filter(|value| value["type"] == "ack").collect();
    assert_eq!(heard.iter().map(|ack| &ack["id"]).collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    assert!(client.raw.ended());
}

/// Returns a number that no other call returns.
fn rand_seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Relays bytes in both directions and records them.
fn recording_proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, record) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&record);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            for (mut from, mut into) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut buffer = [0; 16 * 1024];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        kept.lock().unwrap().extend_from_slice(&buffer[..length]);
                        if into.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, record)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn python() -> String {
    std::env::var("RACERD_PYTHON").expect("RACERD_PYTHON: run tests/run, or `eval \"$(tests/run --env)\"`")
}

/// Written from docs/protocol.md alone: a sealed socket, and in it a room with a key.
#[test]
fn a_foreign_client_and_ours_read_each_other_in_a_room_with_a_key() {
    const ROOM_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let key = Key::new();
    let server = key.serve(&[]);
    let mut eve = server.member("e2e.foreign", "eve");
    let url = format!("http://{}/rooms/e2e.foreign#k={ROOM_KEY}&pin={}", server.address, key.pin);
    let ours = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_racerd")).args(arguments).arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said =
        Command::new(env!("CARGO_BIN_EXE_racerd")).args(["send", &url, "from ours", "--name", "ann"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let foreign = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/room_key.py"))
        .args(["talk", &format!("ws://{}", server.address), &key.pin.to_string()])
        .args(["e2e.foreign", ROOM_KEY, "bob", "2"])
        .output()
        .unwrap();
    assert!(foreign.status.success(), "{}", String::from_utf8_lossy(&foreign.stderr));
    let heard: Value = serde_json::from_slice(&foreign.stdout).unwrap();
    assert_eq!((&heard[0][1], &heard[0][2]["name"]), (&json!("ann"), &json!("ann")));
    assert_eq!((&heard[0][2]["body"], &heard[0][2]["counter"]), (&json!(r#"{"text":"from ours"}"#), &json!(1)));
    assert_eq!(ours(&["tail"]), "ann: from ours\nbob: from bob: κόσμε\n");
    let objects = ours(&["tail", "--json", "--last", "1"]);
    let object: Value = serde_json::from_str(&objects).unwrap();
    assert_eq!((&object["signed_name"], &object["marks"], &object["missing"]), (&json!("bob"), &json!([]), &json!(0)));
    let bodies = [eve.next_of("message"), eve.next_of("message"), eve.next_of("signal")];
    assert!(bodies.iter().all(|heard| heard["body"]["e2e"] == 2 && heard["body"]["i"] == bodies[0]["body"]["i"]));
}

/// What the other implementation makes is what the unit tests and the library's read.
#[test]
fn the_vectors_are_those_that_the_foreign_client_makes() {
    let made = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/room_key.py"))
        .arg("vectors")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(String::from_utf8(made.stdout).unwrap(), include_str!("../vectors/room_body.json"));
}

#[test]
fn a_foreign_client_talks_sealed_and_nothing_lies_open_on_the_wire() {
    let key = Key::new();
    let server = key.serve(&["--request-rate", "0", "--request-burst", "1000000"]);
    let (proxy, record) = recording_proxy(server.address);
    let mut open = server.member("secret-room", "open-member");
    let mut ours = Sealed::connect(proxy, &key.pin);
    ours.join("secret-room", "secret-name-ours");
    let foreign = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/sealed.py"))
        .args([&format!("ws://{proxy}"), &key.pin.to_string(), "secret-room", "secret-name", "9"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python");
    // The third-party client counts messages from its own join on, so the others wait for it.
    open.next_of("presence");
    while server.members("secret-room") < 3 {
        open.next_of("presence");
    }
    for n in 0..3 {
        open.say(n, json!({"open": n}));
        ours.say("secret-room", n, json!({"secret-body": n}));
    }
    let output = foreign.wait_with_output().expect("a client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("what it heard");
    let (heard, sent, received) = (&told[0], told[1].as_u64().unwrap(), told[2].as_u64().unwrap());
    assert!(received > 10 && received < sent, "{received} received: what one flush takes is sealed once");
    let log = server.history("secret-room");
    let expected: Vec<Value> = log.iter().map(|m| json!([m["seq"], m["from"]["name"], m["body"]])).collect();
    assert_eq!(*heard, json!(expected), "the same, in the same order");
    let of = |next: &mut dyn FnMut() -> Value| -> Vec<Value> {
        (0..9).map(|_| next()).map(|m| json!([m["seq"], m["from"]["name"], m["body"]])).collect()
    };
    // Two of the clients received some of these messages before their acknowledgements, so two late clients read them
    // all.
    let mut late_sealed = Sealed::connect(proxy, &key.pin);
    late_sealed.send(json!({"type": "join", "id": 1, "room": "secret-room", "last": 50}));
    let mut late_open = server.client("/rooms/secret-room/ws?last=50");
    assert_eq!(of(&mut || late_sealed.next_of("message")), expected);
    assert_eq!(of(&mut || late_open.next_of("message")), expected);

    let record = record.lock().unwrap();
    assert!(holds(&record, "racerd.v1.sealed") && record.len() > 100_000, "it was recorded");
    for text in ["secret-name", "secret-body", "open-member", "\"type\"", "welcome", "secret-room", "long: xxxx"] {
        assert!(!holds(&record, text), "{text} lies open on the wire");
    }
}

/// Sends more messages than one key seals, in batches.
#[test]
fn the_clients_key_changes_by_count() {
    let key = Key::new();
    let server = key.serve(&["--request-rate", "0"]);
    let mut client = Sealed::connect(server.address, &key.pin);
    let mut id = 0u64;
    while id <= 65_536 + 1000 {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            id += 1;
            let sealed = client.seal(&json!({"type": "ping", "id": id}));
            bytes.extend(frame(0x82, &sealed));
        }
        client.raw.send(bytes);
        while client.next_of("pong")["id"] != id {}
    }
}

#[test]
fn another_key_is_refused_on_both_sides() {
    let (key, other) = (Key::new(), Key::new());
    let server = key.serve(&[]);
    let (mut raw, _) = Sealed::begin(server.address, &other.pin);
    assert_eq!(raw.closed_with(), 1008);
    eventually("one line", || server.log().matches("closed with 1008: the sealed handshake was not made").count() == 1);
    // A man in the middle with a key of its own can answer, but cannot prove the pinned key.
    let man = Key::new().serve(&[]);
    let (mut raw, _) = Sealed::begin(man.address, &key.pin);
    assert_eq!(raw.closed_with(), 1008);
    let (_, initiator) = (0, Initiator::begin(&key.pin, [9; 32]).unwrap().0);
    let first = Initiator::begin(&other.pin, [8; 32]).unwrap().1;
    let responder = racerd::crypto::sealed::Responder::new(
        SealedKey::parse(&std::fs::read_to_string(other.path()).unwrap()).unwrap(),
    );
    let (answer, _) = responder.answer(&first, [7; 32]).unwrap();
    assert!(initiator.finish(&answer).is_err());
}

/// Each ends in 1008 and one log line, and no part of it is obeyed. Another connection is unaffected.
#[test]
fn bad_sealed_frames_end_the_connection() {
    let key = Key::new();
    let server = key.serve(&[]);
    let mut witness = Sealed::connect(server.address, &key.pin);
    witness.join("r", "witness");
    let evil = |id: u64| json!({"type": "send", "id": id, "room": "r", "body": "evil"});
    type Spoil<'a> = &'a dyn Fn(&mut Sealed) -> Vec<u8>;
    let spoiled: [(&str, Spoil); 6] = [
        ("does not verify", &|client| {
            let mut sealed = client.seal(&evil(1));
            sealed[7] ^= 0x10;
            frame(0x82, &sealed)
        }),
        ("does not verify", &|_| frame(0x82, b"")),
        ("does not verify", &|_| frame(0x82, &[1; 15])),
        ("does not verify", &|client| {
            let sealed = client.seal(&json!({"type": "ping", "id": 1}));
            [frame(0x82, &sealed), frame(0x82, &sealed)].concat()
        }),
        ("does not verify", &|client| {
            let first = client.seal(&evil(1));
            [frame(0x82, &client.seal(&evil(2))), frame(0x82, &first)].concat()
        }),
        ("text message", &|_| text(&evil(1).to_string())),
    ];
    for (number, (reason, spoil)) in spoiled.into_iter().enumerate() {
        let mut client = Sealed::connect(server.address, &key.pin);
        client.join("r", "bad");
        let bytes = spoil(&mut client);
        client.raw.send(bytes);
        let after = client.seal(&evil(9));
        client.raw.try_send(frame(0x82, &after));
        assert_eq!(client.raw.closed_with(), 1008, "{number}");
        eventually("one line for each", || server.log().matches("closed with 1008").count() == number + 1);
        let log = server.log();
        let line = log.lines().filter(|line| line.contains("1008")).nth(number).unwrap();
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(server.history("r"), Vec::<Value>::new(), "nothing was obeyed");
    witness.say("r", 1, json!("well"));
}

#[test]
fn a_sealed_session_goes_on_sealed_only() {
    let key = Key::new();
    let mut server = key.serve(&[]);
    let mut client = Sealed::connect(server.address, &key.pin);
    client.send(json!({"type": "join", "id": 1, "room": "r", "name": "sue"}));
    client.next_of("welcome");
    let token = client.next_of("welcome")["session"].clone();
    client.next_of("joined");
    let resume = json!({"type": "resume", "id": 5, "session": token});
    // The same holds after a restart, when the session is known only by its token.
    server.kill();
    server.restart();
    let mut open = server.client("/ws");
    open.send(resume.clone());
    let refusal = open.next_of("error");
    assert_eq!(refusal["code"], "not_resumable");
    assert!(refusal["message"].as_str().unwrap().contains("began encrypted"), "{refusal}");
    let mut again = Sealed::connect(server.address, &key.pin);
    again.next_of("welcome");
    again.send(resume);
    assert_eq!(again.next_of("welcome")["name"], "sue");
}

#[test]
fn where_sealed_is_required_nothing_else_is_told() {
    let key = Key::new();
    let server = key.serve(&["--require-sealed"]);
    for path in ["/rooms/r/messages", "/rooms/r/events", "/rooms/r/members"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("racerd.v1.sealed"));
    }
    assert_eq!(server.post("/rooms/r/messages", "1").status, 403);
    assert_eq!(server.request(handshake("/rooms/r/ws", "")).status, 403);
    assert_eq!(server.request(handshake("/ws", "Sec-WebSocket-Protocol: racerd.v1\r\n")).status, 403);
    for path in ["/healthz", "/readyz", "/", "/rooms/r"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let mut client = Sealed::connect(server.address, &key.pin);
    client.join("r", "sue");
    client.say("r", 1, json!("well"));
}

/// While the key is changed, clients of the key before it come in, too, and a file that lacks its line feed will do.
#[test]
fn the_key_is_changed_while_clients_know_the_old_one() {
    let (old, new, other) = (Key::new(), Key::new(), Key::new());
    let text = std::fs::read_to_string(new.path()).unwrap();
    std::fs::write(new.path(), text.trim_end()).unwrap();
    let (file, before) = (new.path().to_str().unwrap().to_owned(), old.path().to_str().unwrap().to_owned());
    let server = Server::start(&["--sealed-key", &file, "--sealed-key", &before]);
    for pin in [&new.pin, &old.pin, &old.pin] {
        let mut client = Sealed::connect(server.address, pin);
        client.join("r", "sue");
    }
    let (mut raw, _) = Sealed::begin(server.address, &other.pin);
    assert_eq!(raw.closed_with(), 1008);
    let line = "clients use the sealed key before the present one handshakes=1";
    eventually("the log", || server.log().contains(line));
    assert_eq!(server.log().matches("before the present one").count(), 1, "the next line comes a day later");
    assert!(!server.log().contains(&new.pin.to_string()) && !server.log().contains(&text[16..59]));

    let pins = racerd(&["pin", "--sealed-key", &file, "--sealed-key", &before, "--listen", "127.0.0.1:7077"]);
    let expected =
        format!("{} present\n{} before it\nhttp://127.0.0.1:7077/rooms/lobby#pin={}\n", new.pin, old.pin, new.pin);
    assert_eq!(String::from_utf8_lossy(&pins.stdout), expected);
    let three = other.path().to_str().unwrap().to_owned();
    let serve = |files: &[&str]| {
        let arguments: Vec<&str> = files.iter().flat_map(|file| ["--sealed-key", file]).collect();
        let folder = TempDir::new();
        let mut command = Server::command(&folder, "127.0.0.1:0", &arguments);
        command.stdin(Stdio::null()).output().expect("the binary")
    };
    refused(&serve(&[&file, &before, &three]), "at most two files");
    let copy = other.folder.path().join("copy");
    std::fs::copy(old.path(), &copy).unwrap();
    refused(&serve(&[&before, copy.to_str().unwrap()]), "are the same");
    // The configuration file takes one path or a list, and systemd's credentials do.
    let config = other.folder.path().join("racerd.toml");
    for (value, pin) in [(format!("{before:?}"), &old.pin), (format!("[{file:?}, {before:?}]"), &new.pin)] {
        std::fs::write(&config, format!("sealed_key = {value}\n")).unwrap();
        let pins = racerd(&["pin", "--config", config.to_str().unwrap()]);
        assert!(String::from_utf8_lossy(&pins.stdout).starts_with(&pin.to_string()), "{pins:?}");
    }
    let credentials = TempDir::new();
    std::fs::copy(old.path(), credentials.path().join("racerd-sealed-key")).unwrap();
    let mut command = Server::program();
    command.arg("pin").env("CREDENTIALS_DIRECTORY", credentials.path()).stdin(Stdio::null());
    assert!(String::from_utf8_lossy(&command.output().unwrap().stdout).starts_with(&old.pin.to_string()));
}

#[test]
fn the_key_file() {
    let key = Key::new();
    let path = key.path();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("racerd-sealed-1 ") && text.len() == 60 && text.ends_with('\n'));
    assert_eq!(mode(&path), 0o600);
    let name = path.to_str().unwrap();
    refused(&racerd(&["keygen", name]), "exists and was not touched");
    refused(&racerd(&["keygen"]), "keygen FILE");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    let pins = racerd(&["pin", "--sealed-key", name, "--listen", "127.0.0.1:7077"]);
    let url = format!("http://127.0.0.1:7077/rooms/lobby#pin={}\n", key.pin);
    assert_eq!(String::from_utf8_lossy(&pins.stdout), format!("{}\n{url}", key.pin));
    let urls = racerd(&["pin", "--url", "--sealed-key", name]);
    assert_eq!(String::from_utf8_lossy(&urls.stdout), url);
    refused(&racerd(&["pin"]), "--sealed-key");

    let serve = |more: &[&str]| {
        let folder = TempDir::new();
        let arguments = [&["--sealed-key", name], more].concat();
        let mut command = Server::command(&folder, "127.0.0.1:0", &arguments);
        command.stdin(Stdio::null()).output().expect("the binary")
    };
    for wrong in [0o640, 0o604, 0o660, 0o610] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wrong)).unwrap();
        refused(&serve(&[]), "chmod 600");
        refused(&racerd(&["pin", "--sealed-key", name]), "chmod 600");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for wrong in ["", "racerd-sealed-1 AAAA\n", "racerd-sealed-2 ", &text[..58], &format!("{text}{text}")] {
        std::fs::write(&path, wrong).unwrap();
        let output = serve(&[]);
        refused(&output, "is no key");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&text[16..59]), "the key is in no message");
    }
    std::fs::remove_file(&path).unwrap();
    // The key file may appear later.
    ended(&serve(&[]), 1, "racerd keygen");
    refused(&racerd(&["serve", "--listen", "127.0.0.1:0", "--require-sealed"]), "--sealed-key");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
