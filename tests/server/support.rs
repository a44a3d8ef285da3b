//! Starts the binary, and provides two clients: raw bytes over a socket, and JSON over tungstenite's independent
//! client. Tests wait for events with a deadline, never for a fixed time.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

pub use racerd::testing::TempDir;
use serde_json::Value;
use tungstenite::protocol::WebSocket;

/// Upper bound for anything that should happen at once, on a busy machine or an emulated one. Less than the 25 s after
/// which the first ping would hide that a wake-up was lost.
pub const SOON: Duration = Duration::from_secs(20);

/// A running racerd.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub folder: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server with these arguments, a free address and a new database.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_in(TempDir::new(), "127.0.0.1:0", arguments)
    }

    /// Does the same, but a dropped client leaves at once: for tests of how its end affects other members.
    pub fn without_grace(arguments: &[&str]) -> Server {
        Server::start(&[&["--resume-within", "0s"], arguments].concat())
    }

    pub fn start_in(folder: TempDir, listen: &str, arguments: &[&str]) -> Server {
        let (child, address) = spawn(&folder, listen, arguments);
        Server { child, address, folder, arguments: arguments.iter().map(|a| a.to_string()).collect() }
    }

    /// Runs this command, which must `exec` a racerd whose database is in the folder.
    pub fn start_as(folder: TempDir, command: Command) -> Server {
        let (child, address) = spawn_as(&folder, command);
        Server { child, address, folder, arguments: Vec::new() }
    }

    /// Does the same. Returns the folder if the server ends before it is ready.
    pub fn try_start_as(folder: TempDir, command: Command) -> Result<Server, TempDir> {
        match try_spawn(&folder, command, Stdio::null()) {
            Ok((child, address)) => Ok(Server { child, address, folder, arguments: Vec::new() }),
            Err(_) => Err(folder),
        }
    }

    /// Does the same with this descriptor as standard input.
    pub fn start_given(folder: TempDir, command: Command, given: OwnedFd) -> Server {
        let (child, address) = spawn_with(&folder, command, Stdio::from(given));
        Server { child, address, folder, arguments: Vec::new() }
    }

    /// Returns the command line of a server without starting it.
    pub fn command(folder: &TempDir, listen: &str, arguments: &[&str]) -> Command {
        let mut command = Server::program();
        command.args(["serve", "--listen", listen, "--data"]).arg(folder.path().join("racerd.db")).args(arguments);
        command
    }

    /// Returns the binary with a clean environment.
    pub fn program() -> Command {
        Server::clean(Command::new(Server::path()))
    }

    /// Returns the path of the binary: cargo's, or what `RUN_RACERD` names. Everything that starts racerd gets it from
    /// here, so that one for another processor is tested through a script that runs it in an emulator. (A server takes
    /// variables that begin with RACERD for settings.)
    pub fn path() -> PathBuf {
        std::env::var_os("RUN_RACERD").map_or_else(|| env!("CARGO_BIN_EXE_racerd").into(), PathBuf::from)
    }

    /// Removes racerd's variables from the environment that a command inherits. Those that it was given stay.
    pub fn clean(mut command: Command) -> Command {
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("RACERD_")) {
            if command.get_envs().all(|(given, _)| given != name) {
                command.env_remove(name);
            }
        }
        command
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("racerd.db")
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the server is there");
    }

    /// Waits for its end, at most this long.
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        let end = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "the server did not end within {most:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM. Returns the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait(Duration::from_secs(20))
    }

    /// Sends SIGTERM, if it has not ended by itself, and waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        match self.child.try_wait().expect("a child") {
            Some(status) => status,
            None => self.stop(),
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server is there");
        self.child.wait().expect("a child");
    }

    /// Restarts it on the same address and database; it must have ended.
    pub fn restart(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let (child, address) = spawn(&self.folder, &self.address.to_string(), &arguments);
        self.child = child;
        self.address = address;
    }

    /// Restarts it with other arguments on the same database; it must have ended.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        self.restart();
    }

    /// Restarts it with this command; it must have ended.
    pub fn restart_as(&mut self, command: Command) {
        let (child, address) = spawn_as(&self.folder, command);
        (self.child, self.address) = (child, address);
    }

    /// Returns the CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("a process");
        let line = text.lines().find(|line| line.starts_with("Rss:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Returns how often its threads have gone to sleep so far.
    pub fn sleeps(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a process");
        let count = |status: String| -> u64 {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).expect("a line");
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
        };
        tasks.map(|task| count(std::fs::read_to_string(task.expect("a task").path().join("status")).expect("it"))).sum()
    }

    /// Returns the CPU time used during an idle pause.
    pub fn cpu_over(&self, pause: Duration) -> Duration {
        let before = self.cpu();
        std::thread::sleep(pause);
        self.cpu() - before
    }

    /// Returns the number of members in a room.
    pub fn members(&self, room: &str) -> u64 {
        self.get(&format!("/rooms/{room}/members")).json()["count"].as_u64().expect("a count")
    }

    /// Returns a room's whole log, read page by page; it must be contiguous from 1.
    pub fn history(&self, room: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let page = self.get(&format!("/rooms/{room}/messages?after={}", all.len())).json();
            for message in page["messages"].as_array().expect("messages") {
                all.push(message.clone());
                assert_eq!(message["seq"], all.len());
            }
            if page["more"] == false {
                assert_eq!(page["head"], all.len());
                return all;
            }
        }
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process").count()
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// Opens a raw WebSocket and completes its handshake.
    pub fn socket(&self, path: &str) -> Raw {
        let mut raw = self.raw();
        raw.upgrade(path);
        raw
    }

    /// Connects a JSON client and reads `welcome`.
    pub fn client(&self, path: &str) -> Client {
        Client::connect(self.address, path)
    }

    /// Connects a client to this room and reads `welcome` and `joined`.
    pub fn member(&self, room: &str, name: &str) -> Client {
        let mut client = self.client(&format!("/rooms/{room}/ws?name={name}"));
        client.next_of("joined");
        client
    }

    /// Sends one HTTP request over a new connection.
    pub fn get(&self, path: &str) -> Answer {
        self.request(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, "")
    }

    /// Posts a body. `headers` holds further lines, each with its line end.
    pub fn post_with(&self, path: &str, body: &str, headers: &str) -> Answer {
        self.request(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        ))
    }

    pub fn request(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut raw = self.raw();
        raw.send(bytes);
        raw.answer()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

fn spawn(folder: &TempDir, listen: &str, arguments: &[&str]) -> (Child, SocketAddr) {
    spawn_as(folder, Server::command(folder, listen, arguments))
}

fn spawn_as(folder: &TempDir, command: Command) -> (Child, SocketAddr) {
    spawn_with(folder, command, Stdio::null())
}

fn spawn_with(folder: &TempDir, command: Command, input: Stdio) -> (Child, SocketAddr) {
    try_spawn(folder, command, input).unwrap_or_else(|line| {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("no address in {line:?}\n{log}")
    })
}

/// Returns the server's first line if that has no address.
fn try_spawn(folder: &TempDir, command: Command, input: Stdio) -> Result<(Child, SocketAddr), String> {
    // Where racerd is an argument of another program, that has this process's variables.
    let mut command = Server::clean(command);
    // Behind TLS, a proxy or another name, guests would have to be let in by each test that is not about them.
    let says_guests = command.get_args().any(|argument| argument == "--guests");
    if !says_guests && command.get_envs().all(|(name, _)| name != "RACERD_GUESTS") {
        command.env("RACERD_GUESTS", "all");
    }
    let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).expect("a log");
    let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(log).spawn().expect("the binary");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("a line");
    let address = line.split("://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
    let Some(address) = address else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(line);
    };
    Ok((child, address))
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Returns a header's value; the name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// First byte: FIN, RSV and opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn close_code(&self) -> Option<u16> {
        (self.first == 0x88).then(|| self.payload.get(..2).map(|c| u16::from_be_bytes([c[0], c[1]]))).flatten()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Returns a client's frame, masked with zeros so that the payload stays legible.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65536 => {
            out.push(0xfe);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0xff);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// Returns a valid upgrade request for this path, with further header lines (each with its line end).
pub fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// A raw socket for hand-written bytes.
pub struct Raw {
    pub stream: TcpStream,
    /// Bytes received and not yet taken.
    pub buffer: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        Raw { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes bytes");
    }

    /// Sends the bytes; false if the server has closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub fn upgrade(&mut self, path: &str) {
        self.send(handshake(path, ""));
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Reads more; false at the end of the stream. A reset fails the test.
    pub fn fill(&mut self) -> bool {
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => {
                    self.buffer.extend_from_slice(&chunk[..length]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("reading failed: {error}; so far {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }

    /// Reads an answer's status line and headers.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in ASCII");
            }
            assert!(self.fill(), "the stream ended within a head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads a whole answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head();
        let length = answer.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            assert!(self.fill(), "the stream ended within a body");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).expect("text");
        answer
    }

    /// Reads an answer without a body, as to HEAD.
    pub fn answer_head(&mut self) -> Answer {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, head, body: String::new() }
    }

    /// Returns the next frame if it is already in the buffer.
    pub fn whole_frame(&mut self) -> Option<Frame> {
        let (frame, used) = split_frame(&self.buffer)?;
        self.buffer.drain(..used);
        Some(frame)
    }

    /// Reads the next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole_frame() {
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "the stream ended within a frame");
                return None;
            }
        }
    }

    /// Skips to the close frame and returns its code. The stream must end right after it.
    pub fn closed_with(&mut self) -> u16 {
        loop {
            let frame = self.frame().expect("a close frame before the end");
            if let Some(code) = frame.close_code() {
                assert_eq!(self.frame(), None, "nothing follows a close frame");
                return code;
            }
        }
    }

    /// Reads up to the next text frame of this `type`.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if frame.first == 0x81 {
                let value = frame.json();
                if value["type"] == kind {
                    return value;
                }
            }
        }
    }

    /// Checks that the stream ends cleanly with nothing more.
    pub fn ended(&mut self) -> bool {
        while self.fill() {}
        self.buffer.is_empty()
    }

    /// Closes the connection with a reset instead of a FIN.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

fn split_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (length, header) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        n => (n as usize, 2),
    };
    let payload = bytes.get(header..header + length)?.to_vec();
    Some((Frame { first, payload }, header + length))
}

/// A JSON client over tungstenite.
pub struct Client {
    pub socket: WebSocket<TcpStream>,
    pub welcome: Value,
}

impl Client {
    pub fn connect(address: SocketAddr, path: &str) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        let (socket, _) = tungstenite::client(format!("ws://localhost{path}"), stream).expect("a handshake");
        let mut client = Client { socket, welcome: Value::Null };
        client.welcome = client.next_of("welcome");
        client
    }

    pub fn send(&mut self, value: Value) {
        self.send_text(value.to_string());
    }

    pub fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(tungstenite::Message::text(text.into())).expect("the server takes bytes");
    }

    /// Reads the next object; `None` at a close.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    return Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")));
                }
                Ok(tungstenite::Message::Close(_)) => return None,
                Ok(_) => {}
                // Reads with a timeout are interrupted if the machine was suspended for a moment.
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("reading failed: {error}"),
            }
        }
    }

    /// Reads up to the next object of this `type`; others are skipped.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let value = self.next().unwrap_or_else(|| panic!("closed before {kind}"));
            if value["type"] == kind {
                return value;
            }
            assert!(kind == "error" || value["type"] != "error", "waiting for {kind}: {value}");
        }
    }

    /// Sends a message and waits for its acknowledgement.
    pub fn say(&mut self, id: u64, body: Value) -> Value {
        self.send(serde_json::json!({"type": "send", "id": id, "body": body}));
        let ack = self.next_of("ack");
        assert_eq!(ack["id"], id);
        ack
    }

    /// Waits until the server has processed everything sent before.
    pub fn sync(&mut self) -> Value {
        self.send(serde_json::json!({"type": "ping", "id": 9_000_000}));
        self.next_of("pong")
    }
}

/// Waits until the condition holds.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(SOON, what, is_so);
}

/// Waits until the condition holds, at most this long.
pub fn within(most: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + most;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come about within {most:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a thread for each, all released at the same moment.
pub fn at_once<P: Send, T: Send>(prepared: Vec<P>, act: impl Fn(usize, P) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(prepared.len());
    let (barrier, act) = (&barrier, &act);
    std::thread::scope(|scope| {
        let start = |(index, with): (usize, P)| {
            scope.spawn(move || {
                barrier.wait();
                act(index, with)
            })
        };
        let threads: Vec<_> = prepared.into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}
