//! `racerd send` and `racerd tail` against the real server, also one that is killed while they run, and against
//! impostors.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use data_encoding::BASE64URL_NOPAD;
use racerd::crypto::sealed::{Responder, SealedKey, Transport};
use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Error, Message};

use crate::support::*;

fn url(address: SocketAddr, room: &str) -> String {
    format!("http://{address}/rooms/{room}")
}

fn racerd(arguments: &[&str]) -> Command {
    let mut command = Server::program();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the child's end, up to a deadline.
fn finish(mut child: Child) -> Output {
    let mut stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stdout) = &mut stdout {
            stdout.read_to_end(&mut text).unwrap();
        }
        text
    });
    within(6 * SOON, "the end of the client", || child.try_wait().unwrap().is_some());
    let mut output = child.wait_with_output().unwrap();
    output.stdout = reader.join().unwrap();
    output
}

/// Runs the command. Returns exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    told(finish(racerd(arguments).spawn().unwrap()))
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs the command with this standard input.
fn run_with(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = racerd(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let written = child.stdin.take().unwrap().write_all(input);
    // One that ends before it has read everything says why, and its caller judges that.
    if let Err(error) = written {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{arguments:?}: {error}");
    }
    told(finish(child))
}

fn key(byte: u8) -> String {
    BASE64URL_NOPAD.encode(&[byte; 32])
}

#[test]
fn what_is_sent_is_printed() {
    let server = Server::start(&[]);
    let lobby = url(server.address, "lobby");
    assert_eq!(run(&["send", &lobby, "hello, 李 雷", "--name", "Zoë"]), (0, String::new(), String::new()));
    assert_eq!(run_with(&["send", &lobby, "-", "--name=bob"], b"one\n\ntwo\r\nthree").0, 0);
    assert_eq!(run_with(&["send", &lobby, "--json", "--name", "bot"], b"{\"text\":7}\n[1, 2]\n").0, 0);
    assert_eq!(run(&["send", &lobby, "--name", "bob", "--", "--help"]).0, 0, "text that looks like an option");
    let (code, out, _) = run(&["tail", &lobby]);
    let all = "Zoë: hello, 李 雷\nbob: one\nbob: two\nbob: three\nbot: {\"text\":7}\nbot: [1, 2]\nbob: --help\n";
    assert_eq!((code, out.as_str()), (0, all));
    let (_, out, _) = run(&["tail", &lobby, "--last", "2", "--json"]);
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&objects[0]["body"], &objects[0]["seq"], objects.len()), (&json!([1, 2]), &json!(6), 2));
    assert_eq!(run(&["tail", &url(server.address, "empty")]), (0, String::new(), String::new()));
    assert_eq!(server.history("lobby").len(), 7);
}

#[test]
fn more_of_the_newest_than_one_join_gives() {
    let server = Server::start(&["--request-rate", "0"]);
    let lobby = url(server.address, "lobby");
    let lines: String = (0..450).map(|n| format!("{n}\n")).collect();
    assert_eq!(run_with(&["send", &lobby, "-", "--name", "bob"], lines.as_bytes()).0, 0);
    let (code, out, _) = run(&["tail", &lobby, "--last", "300"]);
    let wanted: String = (150..450).map(|n| format!("bob: {n}\n")).collect();
    assert_eq!((code, out), (0, wanted));
}

#[test]
fn what_others_say_drives_no_terminal() {
    let server = Server::start(&[]);
    let body = r#"{"text":"\u001b]0;owned\u0007\u009b2J\nbob: forged \u202e"}"#;
    assert_eq!(server.post("/rooms/lobby/messages?name=eve", body).status, 201);
    assert_eq!(server.post("/rooms/lobby/messages?name=eve", "{\n\"a\u{9b}\": \"\u{7f}\"}").status, 201);
    let lobby = url(server.address, "lobby");
    for arguments in [&["tail", &lobby][..], &["tail", &lobby, "--json"]] {
        let (code, out, _) = run(arguments);
        assert_eq!((code, out.lines().count()), (0, 2), "{out:?}");
        let is_harmless = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(out.chars().all(is_harmless), "{out:?}");
    }
}

#[test]
fn mistakes_have_their_exit_codes() {
    let server = Server::start(&[]);
    let lobby = url(server.address, "lobby");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (code, arguments) in [
        (1, &["send", &url(server.address, "e2e.garden"), "in the clear"][..]),
        // The refusal is nothing that the pinned server has said.
        (3, &["send", &lobby, "hello", "--pin", &key(9), "--timeout", "300ms"]),
        (2, &["send", &lobby, "two", "texts"]),
        (2, &["send", "lobby", "hello"]),
        (2, &["tail", &lobby, "--room-key", "short"]),
        (2, &["tail", &lobby, "text"]),
        (2, &["tail", &format!("{lobby}#pim={}", key(9))]),
        (3, &["tail", &url(nobody, "lobby"), "--timeout", "300ms"]),
        (3, &["send", &url(nobody, "lobby"), "hello", "--timeout", "300ms"]),
    ] {
        let (got, out, err) = run(arguments);
        assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("racerd: ") && !err.contains(&key(9)), "{err}");
    }
    let (code, _, err) = run_with(&["send", &lobby, "-"], b"first\n\xff\nthird\n");
    assert!(code == 1 && err.contains("line 2: it is not UTF-8") && err.contains("1 message was not sent"), "{err}");
    let (code, _, err) = run(&["send", &lobby, &"x".repeat(40_000)]);
    assert!(code == 1 && err.contains("bytes are more than the server takes") && !err.contains("line"), "{err}");
    assert_eq!(server.history("lobby").len(), 2, "what came before the mistake, and behind it");
}

/// However the input is split in the pipe, every line that can be sent is sent.
#[test]
fn a_line_that_is_too_long_holds_up_none_behind_it() {
    let folder = TempDir::new();
    let file = folder.path().join("sealed.key").to_str().unwrap().to_string();
    let made = run(&["keygen", &file]).1;
    let pin = made.split_whitespace().last().unwrap().to_string();
    let wide =
        ["--sealed-key", &file, "--max-message-size", "300KiB", "--queue-bytes", "2MiB", "--reply-bytes", "2MiB"];
    let mut input = vec![b'z'; 60_000];
    input.push(b'\n');
    input.extend(vec![b'w'; 100_000]);
    input.extend(b"\nsmall\n");
    for (arguments, is_sealed) in [(&[][..], false), (&wide[..], true)] {
        let server = Server::start(arguments);
        let url = url(server.address, "p");
        let pin = ["--pin", pin.as_str()];
        let arguments = [&["send", url.as_str(), "-"][..], if is_sealed { &pin[..] } else { &[] }].concat();
        let (code, _, err) = run_with(&arguments, &input);
        assert_eq!(code, 1, "{err}");
        let (short, bound) = if is_sealed { (true, "(65518)") } else { (false, "(32768)") };
        assert_eq!(!err.contains("line 1: "), short, "{err}");
        assert!(err.contains("line 2: ") && err.contains(bound), "{err}");
        let stored = server.history("p");
        assert_eq!(
            (stored.len(), &stored[stored.len() - 1]["body"]["text"]),
            (1 + usize::from(short), &json!("small"))
        );
    }
}

/// An endless line is reported while it is still arriving, and is not held in memory.
#[test]
fn a_line_without_an_end_is_told_and_the_next_one_sent() {
    let server = Server::start(&[]);
    let lobby = url(server.address, "lobby");
    let mut child = racerd(&["send", &lobby, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    for _ in 0..64 {
        input.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 48 << 10, "{peak} KiB");
    input.write_all(b"\ntwo").unwrap();
    drop(input);
    let (code, _, err) = told(finish(child));
    assert_eq!((code, err.lines().count()), (1, 2), "{err}");
    assert!(err.contains("line 2: it has more bytes than the server takes in one message (32768)"), "{err}");
    let texts: Vec<Value> = server.history("lobby").iter().map(|message| message["body"]["text"].clone()).collect();
    assert_eq!(texts, ["one", "two"]);
}

/// Relays to the server, swallows the first connection's acknowledgements and then ends it without a close frame.
fn swallows_acknowledgements(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut is_first = true;
        for near in listener.incoming().map_while(Result::ok) {
            let far = std::net::TcpStream::connect(server).unwrap();
            let (mut from_near, mut to_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_near, &mut to_far));
            relay(far, near, std::mem::take(&mut is_first));
        }
    });
    address
}

fn relay(mut far: std::net::TcpStream, mut near: std::net::TcpStream, swallows: bool) {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = far.read(&mut buffer) {
        heard.extend_from_slice(&buffer[..length]);
        let heard = String::from_utf8_lossy(&heard).into_owned();
        if swallows && heard.contains("\"type\":\"ack\"") {
            break;
        }
        if near.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for stream in [near, far] {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A message that was stored but not acknowledged is sent again by the same session under the same key: it is stored
/// once.
#[test]
fn acknowledgements_that_are_lost_double_nothing() {
    let server = Server::start(&[]);
    let relay = url(swallows_acknowledgements(server.address), "lobby");
    assert_eq!(run_with(&["send", &relay, "-"], b"one\ntwo\nthree\n").0, 0);
    let texts: Vec<Value> = server.history("lobby").iter().map(|message| message["body"]["text"].clone()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

/// The same from the server's side: a client's FIN without a close frame ends the socket, but not the session.
#[test]
fn what_was_sent_before_a_bare_fin_is_stored_once() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    raw.send(handshake("/rooms/r/ws?name=ann", ""));
    raw.head();
    let session = raw.next_of("welcome")["session"].clone();
    raw.next_of("joined");
    let send =
        |id: u64| json!({"type": "send", "id": id, "room": "r", "key": format!("k{id}"), "body": id}).to_string();
    let all: Vec<u8> = (1..=5).flat_map(|id| text(&send(id))).collect();
    raw.send(&all);
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    while raw.frame().is_some() {}
    eventually("all stored", || server.history("r").len() == 5);
    let mut client = server.client("/ws");
    client.send(json!({"type": "resume", "id": 9, "session": session, "cursors": {}}));
    client.next_of("joined");
    for id in 1..=5 {
        client.send_text(send(id));
        let ack = client.next_of("ack");
        assert_eq!((&ack["id"], &ack["seq"], &ack["duplicate"]), (&json!(id), &json!(id), &json!(true)), "{ack}");
    }
    assert_eq!(server.history("r").len(), 5);
}

/// What is said of a room key among the arguments.
const SEEN: &str = "racerd: warning: other users of this machine can see the room key among the arguments; --room-key \
                    @FILE hides it\n";

#[test]
fn encrypted_rooms_are_read_with_their_key_alone() {
    let server = Server::start(&[]);
    let garden = url(server.address, "e2e.garden");
    let folder = TempDir::new();
    let file = folder.path().join("key");
    // As an editor of Windows writes it, with a byte order mark.
    std::fs::write(&file, format!("\u{feff}{}\r\n", key(1))).unwrap();
    let from_file = format!("@{}", file.display());
    assert_eq!(run(&["send", &garden, "by the file", "--name", "ann", "--room-key", &from_file]).0, 0);
    assert_eq!(run_with(&["send", &format!("{garden}#k={}", key(1)), "--name", "ann"], b"by the link\n").0, 0);
    for message in server.history("e2e.garden") {
        assert_eq!(message["body"].as_object().unwrap().len(), 5, "{message}");
    }
    let both = "ann: by the file\nann: by the link\n";
    assert_eq!(run(&["tail", &garden, "--room-key", &from_file]), (0, both.to_string(), String::new()));
    // A key among the arguments works, with one warning.
    let by_link = format!("{garden}#k={}", key(1));
    for arguments in [&["tail", &by_link][..], &["tail", &garden, "--room-key", &key(1)]] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str(), err.as_str()), (0, both, SEEN));
    }
    let (code, out, err) = run(&["tail", &garden, "--room-key", &key(2)]);
    assert_eq!((code, out.as_str()), (5, &*"ann: (encrypted with another key)\n".repeat(2)), "{err}");
    assert!(!err.contains(&key(2)), "{err}");
    assert_eq!(run(&["tail", &garden]).0, 0);
    // A ciphertext is moved to another room, where the server does not check it.
    let moved = server.history("e2e.garden").remove(0)["body"].clone();
    let moved = format!(r#"{{"e2e":1,"k":{},"n":{},"c":{}}}"#, moved["k"], moved["n"], moved["c"]);
    let mut eve = server.member("lobby", "eve");
    let k = serde_json::from_str::<Value>(&moved).unwrap()["k"].clone();
    eve.send_text(format!(r#"{{"type":"send","id":1,"key":{k},"body":{moved}}}"#));
    eve.next_of("ack");
    let (code, out, _) = run(&["tail", &url(server.address, "lobby"), "--room-key", &key(1)]);
    assert_eq!((code, out.as_str()), (5, "eve: (can't be read with this key)\n"));
}

#[test]
fn sealed_talk_over_a_server_that_is_killed() {
    let folder = TempDir::new();
    let file = folder.path().join("sealed.key").to_str().unwrap().to_string();
    assert_eq!(run(&["keygen", &file]).0, 0);
    let pin = SealedKey::parse(&std::fs::read_to_string(&file).unwrap()).unwrap().pin();
    let mut server = Server::start(&["--sealed-key", &file, "--require-sealed"]);
    let address = server.address;
    let link = move |room: &str| format!("{}#pin={pin}&k={}", url(address, room), key(1));
    assert_eq!(run(&["send", &link("e2e.garden"), "hello", "--name", "Zoë"]), (0, String::new(), SEEN.to_string()));
    let tail = racerd(&["tail", &link("e2e.garden"), "--follow"]).stdin(Stdio::null()).spawn().unwrap();
    let mut tail = Running(tail);
    let mut heard = BufReader::new(tail.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        heard.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(next(), "Zoë: hello\n");
    server.kill();
    server.restart();
    assert_eq!(run_with(&["send", &link("e2e.garden"), "-", "--name", "bob"], b"one\ntwo\n").0, 0);
    assert_eq!((next(), next()), ("bob: one\n".to_string(), "bob: two\n".to_string()));
    let (code, _, err) = run(&["send", &url(address, "lobby"), "secret", "--pin", &key(9), "--timeout", "5s"]);
    assert_eq!(code, 4, "{err}");
    let (code, _, err) = run(&["send", &url(address, "lobby"), "in the clear", "--timeout", "5s"]);
    assert_eq!(code, 1, "{err}");
}

/// A child process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_killed_again_and_again_loses_and_doubles_nothing() {
    const LINES: usize = 8000;
    let mut server = Server::start(&["--request-rate", "0"]);
    let busy = url(server.address, "busy");
    let folder = TempDir::new();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("lines"), (0..LINES).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
    let mut tail = racerd(&["tail", &busy, "--follow", "--last", "0"]);
    let tail = tail.stdout(File::create(path("heard")).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let _tail = Running(tail);
    eventually("who listens", || server.members("busy") == 1);
    let mut send = racerd(&["send", &busy, "-", "--name", "bob", "--timeout", "1m"]);
    let mut send = send.stdin(File::open(path("lines")).unwrap()).spawn().unwrap();
    for most in [500, 2000, 4000] {
        let head = |server: &Server| server.get("/rooms/busy/messages?limit=1").json()["head"].as_u64().unwrap();
        within(6 * SOON, "messages", || head(&server) > most);
        server.kill();
        assert!(send.try_wait().unwrap().is_none(), "killed in the middle");
        server.restart();
    }
    let (code, _, err) = told(finish(send));
    assert_eq!(code, 0, "{err}");
    let stored = server.history("busy");
    let said: Vec<String> =
        stored.iter().map(|message| message["body"]["text"].as_str().unwrap().to_string()).collect();
    let wanted: Vec<String> = (0..LINES).map(|n| format!("line {n}")).collect();
    assert!(said == wanted, "lost, doubled or out of order: {} of {LINES}", said.len());
    let heard = || std::fs::read_to_string(path("heard")).unwrap();
    within(6 * SOON, "the last line", || heard().ends_with(&format!("line {}\n", LINES - 1)));
    let lines: String = wanted.iter().map(|line| format!("bob: {line}\n")).collect();
    assert!(heard() == lines, "heard {} lines of {LINES}", heard().lines().count());
}

#[test]
fn nobody_reads_any_more() {
    let server = Server::start(&[]);
    let lobby = url(server.address, "lobby");
    assert_eq!(run(&["send", &lobby, "hello", "--name", "bob"]).0, 0);
    let mut tail = racerd(&["tail", &lobby, "--follow"]).spawn().unwrap();
    let mut first = [0; 11];
    let mut out = tail.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"bob: hello\n");
    drop(out);
    assert_eq!(told(finish(tail)), (0, String::new(), String::new()));
}

// Test servers.

/// Serves one connection: a room with one message in it, sealed if a key is given. Returns the requests received.
fn serve_once<S: Read + Write>(stream: S, responder: Option<&Responder>) -> Vec<Value> {
    #[allow(clippy::result_large_err)]
    let name = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let offered = request.headers()["Sec-WebSocket-Protocol"].clone();
        response.headers_mut().insert("Sec-WebSocket-Protocol", offered);
        Ok(response)
    };
    let mut asked = Vec::new();
    // A client that does not trust the certificate leaves in the middle of the handshake.
    let Ok(socket) = tungstenite::accept_hdr(stream, name) else { return asked };
    let mut peer = Peer { socket, sealed: None };
    if let Some(responder) = responder {
        let Ok(Message::Binary(first)) = peer.socket.read() else { panic!("no handshake") };
        match responder.answer(&first, [7; 32]) {
            Ok((answer, transport)) => {
                peer.socket.send(Message::binary(answer.to_vec())).unwrap();
                peer.sealed = Some(transport);
            }
            Err(_) => {
                let frame = CloseFrame { code: CloseCode::Policy, reason: "".into() };
                peer.socket.close(Some(frame)).unwrap();
                while peer.socket.read().is_ok() {}
                return asked;
            }
        }
    }
    let limits = json!({"max_message_size": 1000, "in_flight": 4, "request_rate": 0});
    peer.say(json!({"type": "welcome", "session": "s", "limits": limits}));
    while let Some(request) = peer.hear() {
        let id = request["id"].clone();
        if request["type"] == "join" {
            let message =
                json!({"type": "message", "room": "lobby", "seq": 1, "from": {"name": "sam"}, "body": {"text": "hi"}});
            peer.say(json!({"type": "joined", "id": id, "room": "lobby", "epoch": "e", "head": 1, "from": 1}));
            peer.say(message);
        }
        asked.push(request);
    }
    asked
}

struct Peer<S> {
    socket: WebSocket<S>,
    sealed: Option<Transport>,
}

impl<S: Read + Write> Peer<S> {
    fn say(&mut self, value: Value) {
        let message = match &mut self.sealed {
            None => Message::text(value.to_string()),
            Some(transport) => {
                let mut out = Vec::new();
                transport.seal_into(&mut out, format!("{value}\n").as_bytes()).unwrap();
                Message::binary(out)
            }
        };
        self.socket.send(message).unwrap();
    }

    /// Returns the next request; `None` at the end.
    fn hear(&mut self) -> Option<Value> {
        loop {
            match (self.socket.read(), &mut self.sealed) {
                (Ok(Message::Text(text)), None) => return Some(serde_json::from_str(&text).unwrap()),
                (Ok(Message::Binary(bytes)), Some(transport)) => {
                    let mut plain = Vec::new();
                    transport.open_into(&mut plain, &bytes).unwrap();
                    assert!(plain.ends_with(b"\n"));
                    return Some(serde_json::from_slice(&plain).unwrap());
                }
                (Ok(Message::Text(_) | Message::Binary(_)), _) => panic!("not as it began"),
                (Ok(_) | Err(Error::Io(_)), _) if self.socket.can_read() => {}
                _ => return None,
            }
        }
    }
}

/// Listens for one connection and serves it in a thread.
fn one(serve: impl FnOnce(std::net::TcpStream) -> Vec<Value> + Send + 'static) -> (SocketAddr, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        serve(stream)
    });
    (address, server)
}

#[test]
fn sealed_to_the_server_with_the_pin_and_to_no_other() {
    let own = SealedKey::new([1; 32]);
    let pin = own.pin().to_string();
    let (address, server) = one(move |stream| serve_once(stream, Some(&Responder::new(own))));
    let lobby = url(address, "lobby");
    let (code, out, err) = run(&["tail", &format!("{lobby}#pin={pin}"), "--name", "Zoë"]);
    assert_eq!((code, out.as_str()), (0, "sam: hi\n"), "{err}");
    let asked = server.join().unwrap();
    assert_eq!((&asked[0]["type"], &asked[0]["name"]), (&json!("join"), &json!("Zoë")), "the name goes inside");

    let other = SealedKey::new([2; 32]);
    let (address, server) = one(move |stream| serve_once(stream, Some(&Responder::new(other))));
    let (code, out, err) = run(&["send", &url(address, "lobby"), "secret", "--pin", &pin, "--timeout", "5s"]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert_eq!(server.join().unwrap(), Vec::<Value>::new(), "nothing was said to it");

    // Two impostors: one answers with a handshake of its own, one in the clear.
    for answer in [Message::binary(vec![7; 48]), Message::text(r#"{"type":"welcome"}"#)] {
        let (address, server) = one(move |stream| {
            #[allow(clippy::result_large_err)]
            let name = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let offered = request.headers()["Sec-WebSocket-Protocol"].clone();
                response.headers_mut().insert("Sec-WebSocket-Protocol", offered);
                Ok(response)
            };
            let mut socket = tungstenite::accept_hdr(stream, name).unwrap();
            socket.read().unwrap();
            socket.send(answer).unwrap();
            let mut heard = Vec::new();
            while let Ok(message) = socket.read() {
                heard.push(Value::from(message.len()));
            }
            heard
        });
        let (code, _, err) = run(&["send", &url(address, "lobby"), "secret", "--pin", &pin, "--timeout", "5s"]);
        assert_eq!(code, 4, "{err}");
        assert_eq!(server.join().unwrap(), Vec::<Value>::new(), "nothing was said to it");
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_to_a_server_whose_certificate_is_trusted_and_to_no_other() {
    let folder = TempDir::new();
    let names = || rcgen::CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    // Like a certificate from `openssl req -x509`, it marks itself as an authority.
    let mut authority = names();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut old = authority.clone();
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut elsewhere = authority.clone();
    elsewhere.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.example".try_into().unwrap())];
    let path = |name: &str| folder.path().join(format!("{name}.pem"));
    std::fs::write(path("empty"), "").unwrap();
    let config = |name: &str, parameters: rcgen::CertificateParams| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(path(name), certificate.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap())
    };
    let (own, authority) = (config("own", names()), config("authority", authority));
    let (old, elsewhere) = (config("old", old), config("elsewhere", elsewhere));
    for (config, file, code) in [
        (&own, "own", 0),
        (&own, "authority", 4),
        (&own, "empty", 2),
        (&authority, "authority", 0),
        (&authority, "own", 4),
        (&old, "old", 4),
        (&elsewhere, "elsewhere", 4),
    ] {
        let config = config.clone();
        let (address, server) = one(move |stream| {
            let tls = rustls::ServerConnection::new(config).unwrap();
            serve_once(rustls::StreamOwned::new(tls, stream), None)
        });
        let lobby = format!("wss://localhost:{}/rooms/lobby", address.port());
        let (got, out, err) = run(&["tail", &lobby, "--ca", path(file).to_str().unwrap(), "--timeout", "5s"]);
        assert_eq!((got, out.as_str()), (code, if code == 0 { "sam: hi\n" } else { "" }), "{file}: {err}");
        if code == 2 {
            // The command never connected; this connection lets the server thread end.
            drop(std::net::TcpStream::connect(address));
        }
        server.join().unwrap();
    }
}
