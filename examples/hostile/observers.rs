//! Well-behaved clients, each at an address of its own: a pair of members who exchange a message each 50 ms, a member
//! who pings, newcomers, members who come back, readers over HTTP, and members who only listen.
//!
//! What they do goes on by the clock, whether or not the server answers, so that a stall is felt by all that falls into
//! it: what an honest client holds back because too much is under way counts with the time that it waits. Everything is
//! kept with the phase in which it began.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::judge::{Fate, Seen, Share, Spread};
use crate::peer::{self, Peer};
use crate::server::{self, Counted, Server};
use crate::wire::{self, BINARY, CLOSE, Frames, PING, PONG, TEXT};

/// How long an honest client waits for a handshake, a resume or an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
const MESSAGES: Duration = Duration::from_millis(50);
const PINGS: Duration = Duration::from_millis(60);
const ARRIVALS: Duration = Duration::from_millis(250);

/// How many of its messages or pings an honest client has under way: `in_flight` of racerd's limits.
const UNDER_WAY: usize = 32;
/// The line of the pinger, behind those of the pair.
const PINGER: usize = 2;

/// What is measured at present.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Starting,
    Quiet,
    Preparing,
    During,
    After,
}

const PHASES: [Phase; 5] = [Phase::Starting, Phase::Quiet, Phase::Preparing, Phase::During, Phase::After];

/// A message of the pair, or a ping.
struct Sent {
    phase: Phase,
    at: Instant,
    /// Time of the server's loop before, and its turns.
    loop_time: Duration,
    turns: Option<u64>,
    answer: Option<Answer>,
    /// When each of the pair heard it.
    heard: [Option<Instant>; 2],
}

/// Something that could not be said when it was time, because too much was under way.
struct Held {
    phase: Phase,
    line: usize,
    at: Instant,
    until: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Answer {
    Done { at: Instant, loop_time: Duration, turns: Option<u64> },
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Newcomer,
    Resume,
    Read,
}

#[derive(Default)]
struct Kept {
    messages: Vec<Sent>,
    pings: Vec<Sent>,
    held: Vec<Held>,
    under_way: [usize; 3],
    /// For each of the pair and each sender, what is to come next; 0: anything.
    next: [[u64; 2]; 2],
    doubled: u64,
    reordered: u64,
    dropped: Vec<Phase>,
    /// Who came, when, and after how many milliseconds they were in, or why not.
    tries: Vec<(Kind, Phase, Result<f64, String>)>,
    /// How many of them still try.
    trying: usize,
}

struct Shared {
    kept: Mutex<Kept>,
    phase: AtomicU8,
    is_over: AtomicBool,
    peer: Peer,
    pid: u32,
    /// The server's counts.
    counts: Option<File>,
    is_tls: bool,
}

impl Kept {
    /// Takes a place for what this line says now; `false` if it has to be held back.
    fn takes(&mut self, line: usize, phase: Phase) -> bool {
        let has_room = self.under_way[line] < UNDER_WAY;
        if has_room {
            self.under_way[line] += 1;
        } else {
            self.held.push(Held { phase, line, at: Instant::now(), until: None });
        }
        has_room
    }

    /// Keeps the answer to a message or a ping of this line.
    fn answer(&mut self, line: usize, number: usize, answer: Answer) {
        let sent = if line == PINGER { &mut self.pings } else { &mut self.messages };
        let Some(sent) = sent.get_mut(number) else { return };
        if sent.answer.replace(answer).is_none() {
            self.under_way[line] -= 1;
            let held = self.held.iter_mut().filter(|held| held.line == line && held.until.is_none());
            held.for_each(|held| held.until = Some(Instant::now()));
        }
    }

    /// Keeps that one of the pair heard a message, which stands at a place in an order that rises by a step.
    fn hear(&mut self, member: usize, number: u64, (order, place, step): (usize, u64, u64)) {
        let next = std::mem::replace(&mut self.next[member][order], place + step);
        if next != 0 && next != place {
            self.reordered += 1;
        }
        let heard = self.messages.get_mut(number as usize).map(|sent| sent.heard[member].replace(Instant::now()));
        if heard.flatten().is_some() {
            self.doubled += 1;
        }
    }

    /// Keeps that somebody came; who is not in by the end never was.
    fn begin(&mut self, kind: Kind, phase: Phase) -> usize {
        self.tries.push((kind, phase, Err(String::from("not in by the end"))));
        self.trying += 1;
        self.tries.len() - 1
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn sent(&self) -> Sent {
        let loop_time = server::loop_time(self.pid);
        Sent { phase: self.phase(), at: Instant::now(), loop_time, turns: self.turns(), answer: None, heard: [None; 2] }
    }

    fn turns(&self) -> Option<u64> {
        Counted::read(self.counts.as_ref()?).map(|counted| counted.turns)
    }
}

/// The running observers.
pub struct Observers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    streams: Vec<TcpStream>,
}

/// An open WebSocket.
struct Line {
    stream: TcpStream,
    frames: Frames,
}

impl Observers {
    /// Opens all lines; from then on the observers work by themselves.
    pub fn start(peer: Peer, server: &Server, idle: usize, is_tls: bool) -> Result<Observers, String> {
        let (pid, counts) = (server.pid(), server.counts());
        let phase = AtomicU8::new(0);
        let is_over = AtomicBool::new(false);
        let shared = Arc::new(Shared { kept: Mutex::default(), phase, is_over, peer, pid, counts, is_tls });
        let mut observers = Observers { shared, threads: Vec::new(), streams: Vec::new() };
        let mut writers = Vec::new();
        for member in 0..2 {
            let line = Line::join(peer, wire::honest(member), "observed", &format!("observer-{member}"))?;
            writers.push(observers.listen(line, move |shared, value| pair(shared, member, value))?);
        }
        observers.work(MESSAGES, move |shared, _| {
            let (phase, mut kept) = (shared.phase(), shared.kept());
            let number = kept.messages.len();
            let sender = number % 2;
            if !kept.takes(sender, phase) {
                return;
            }
            kept.messages.push(shared.sent());
            drop(kept);
            let frame = peer.publish("observed", number as u64, &format!("@{number}@"));
            // A line that broke is counted by its reader.
            let _ = writers[sender].write_all(&frame);
        });
        let line = Line::join(peer, wire::honest(2), "pinged", "pinger")?;
        let mut pinger = observers.listen(line, ponged)?;
        observers.work(PINGS, move |shared, _| {
            let (phase, mut kept) = (shared.phase(), shared.kept());
            if !kept.takes(PINGER, phase) {
                return;
            }
            kept.pings.push(shared.sent());
            let number = kept.pings.len() - 1;
            drop(kept);
            if peer == Peer::Racerd {
                say(&mut pinger, &format!(r#"{{"type":"ping","id":{number}}}"#));
            } else {
                let _ = pinger.write_all(&peer.publish("pinged", number as u64, &format!("@{number}@")));
            }
        });
        for index in 0..idle {
            let line = Line::join(peer, wire::honest(3 + index), "idle", &format!("idle-{index}"))?;
            observers.listen(line, |_, _| ())?;
        }
        observers.work(ARRIVALS, arrive);
        Ok(observers)
    }

    pub fn enter(&self, phase: Phase) {
        let index = PHASES.iter().position(|other| *other == phase).unwrap_or_default();
        self.shared.phase.store(index as u8, Ordering::Relaxed);
    }

    /// Reads a line on a thread of its own; returns what writes to it.
    fn listen(
        &mut self,
        mut line: Line,
        mut hear: impl FnMut(&Shared, &str) + Send + 'static,
    ) -> Result<TcpStream, String> {
        let broken = |error: std::io::Error| error.to_string();
        line.stream.set_read_timeout(None).map_err(broken)?;
        self.streams.push(line.stream.try_clone().map_err(broken)?);
        let writer = line.stream.try_clone().map_err(broken)?;
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::spawn(move || {
            while let Some(text) = line.read() {
                hear(&shared, &text);
            }
            if !shared.is_over() {
                let phase = shared.phase();
                shared.kept().dropped.push(phase);
            }
        }));
        Ok(writer)
    }

    /// Does something at each tick of the clock.
    fn work(&mut self, period: Duration, mut act: impl FnMut(&Arc<Shared>, u64) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::spawn(move || {
            let begun = Instant::now();
            let mut turn = 0;
            while !shared.is_over() {
                act(&shared, turn);
                turn += 1;
                std::thread::sleep((begun + period * turn as u32).saturating_duration_since(Instant::now()));
            }
        }));
    }

    /// Waits until everything that was said is answered and heard, at most so long; then all leave.
    pub fn finish(self, most: Duration) -> (Seen, Seen, Fate, Vec<String>) {
        let end = Instant::now() + most;
        // No more is sent: the threads that do are told first.
        self.shared.is_over.store(true, Ordering::Relaxed);
        while !settled(&self.shared.kept()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        let kept = self.shared.kept();
        (seen(&kept, Phase::Quiet), seen(&kept, Phase::During), fate(&kept), failed(&kept))
    }
}

/// All that was sent was answered, and all that was acknowledged was heard by both.
fn settled(kept: &Kept) -> bool {
    let is_heard = |sent: &Sent| match sent.answer {
        None => false,
        Some(Answer::Refused) => true,
        Some(Answer::Done { .. }) => sent.heard.iter().all(Option::is_some),
    };
    kept.trying == 0 && kept.messages.iter().all(is_heard) && kept.pings.iter().all(|ping| ping.answer.is_some())
}

fn answered(shared: &Shared, is_done: bool) -> Answer {
    if is_done {
        Answer::Done { at: Instant::now(), loop_time: server::loop_time(shared.pid), turns: shared.turns() }
    } else {
        Answer::Refused
    }
}

/// Keeps what one of the pair hears.
fn pair(shared: &Shared, member: usize, text: &str) {
    if shared.peer != Peer::Racerd {
        // Whoever hears its own message takes it for acknowledged.
        let answer = answered(shared, true);
        for number in peer::numbers(text) {
            let sender = number as usize % 2;
            let mut kept = shared.kept();
            kept.hear(member, number, (sender, number, 2));
            if sender == member {
                kept.answer(member, number as usize, answer);
            }
        }
        return;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let answer = answered(shared, value["type"] == "ack");
    let mut kept = shared.kept();
    match value["type"].as_str() {
        Some("ack" | "error") => {
            let number = value["id"].as_u64().unwrap_or(u64::MAX) as usize;
            kept.answer(member, number, answer);
        }
        Some("message") => {
            let seq = value["seq"].as_u64().unwrap_or_default();
            let numbers = peer::numbers(value["body"].as_str().unwrap_or_default());
            numbers.into_iter().for_each(|number| kept.hear(member, number, (0, seq, 1)));
        }
        _ => {}
    }
}

fn ponged(shared: &Shared, text: &str) {
    let numbers = match serde_json::from_str::<Value>(text) {
        Ok(value) if shared.peer == Peer::Racerd => {
            if value["type"] == "pong" {
                value["id"].as_u64().into_iter().collect()
            } else {
                Vec::new()
            }
        }
        _ => peer::numbers(text),
    };
    let answer = answered(shared, true);
    for number in numbers {
        shared.kept().answer(PINGER, number as usize, answer);
    }
}

/// Lets somebody come, on a thread of its own: a newcomer, one who comes back, a reader, a newcomer, ...
fn arrive(shared: &Arc<Shared>, turn: u64) {
    let shared = Arc::clone(shared);
    let source = wire::honest(16 + turn as usize % (wire::HONEST - 16));
    std::thread::spawn(move || {
        let begun = Instant::now();
        let kind = match turn % 4 {
            _ if shared.peer != Peer::Racerd => Kind::Newcomer,
            0 => Kind::Newcomer,
            1 => Kind::Resume,
            _ => Kind::Read,
        };
        let index = shared.kept().begin(kind, shared.phase());
        let done = match turn % 4 {
            _ if shared.peer != Peer::Racerd => joins_other(shared.peer, source, turn),
            1 => come_back(source),
            2 => asks(source, "/rooms/observed/messages?limit=1"),
            3 => asks(source, "/healthz"),
            _ if shared.is_tls => comes_by_tls(source),
            _ => joins(source),
        };
        let took = begun.elapsed();
        let mut kept = shared.kept();
        kept.trying -= 1;
        kept.tries[index].2 = match done {
            Ok(()) if took <= PATIENCE => Ok(millis(took)),
            Ok(()) => Err(format!("after {:.0} ms", millis(took))),
            Err(why) => Err(why),
        };
    });
}

fn joins(source: Ipv6Addr) -> Result<(), String> {
    let mut line = Line::open(source, "/rooms/newcomers/ws?name=new&presence=off")?;
    let end = Instant::now() + PATIENCE;
    line.until("joined", end).ok_or("not joined")?;
    let mut close = Vec::new();
    wire::frame(CLOSE, &1000_u16.to_be_bytes(), &mut close);
    line.stream.write_all(&close).map_err(in_words)
}

/// Comes to another server: is in once it hears what it said.
fn joins_other(peer: Peer, source: Ipv6Addr, turn: u64) -> Result<(), String> {
    let name = format!("new-{turn}");
    let mut line = Line::join(peer, source, &name, &name)?;
    line.stream.write_all(&peer.publish(&name, 0, "@1@")).map_err(in_words)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if peer::numbers(&line.read().ok_or("ended")?) == [1] {
            return Ok(());
        }
    }
    Err(String::from("does not hear itself"))
}

/// Drops a connection and resumes its session.
fn come_back(source: Ipv6Addr) -> Result<(), String> {
    let mut line = Line::open(source, "/ws?name=back")?;
    let end = Instant::now() + PATIENCE;
    let welcome = line.until("welcome", end).ok_or("not welcome")?;
    let token = welcome["session"].as_str().ok_or("no session")?.to_owned();
    drop(line);
    // It shows its token, as racerd's own clients do.
    let shown = format!("racerd.v1, racerd.session.{token}");
    let mut line = Line::ask(Peer::Racerd, source, &wire::upgrade("/ws", Some(&shown)))?;
    say(&mut line.stream, &format!(r#"{{"type":"resume","id":1,"session":"{token}"}}"#));
    line.until("welcome", end).ok_or("not welcome again")?;
    match line.until("welcome", end) {
        Some(again) if again["id"] == 1 => Ok(()),
        _ => Err(String::from("not resumed")),
    }
}

fn asks(source: Ipv6Addr, path: &str) -> Result<(), String> {
    let mut stream = connect(Peer::Racerd, source, wire::PORT).map_err(in_words)?;
    let mut request = Vec::new();
    wire::get(path, &mut request);
    stream.write_all(&request).map_err(in_words)?;
    expect("HTTP/1.1 200", &mut stream).map_err(|why| format!("{path}: {why}"))
}

fn comes_by_tls(source: Ipv6Addr) -> Result<(), String> {
    let client = crate::attacks::tls_client()?;
    let stream = connect(Peer::Racerd, source, wire::TLS_PORT).map_err(in_words)?;
    let mut stream = rustls::StreamOwned::new(client, stream);
    stream.write_all(&wire::upgrade("/rooms/newcomers/ws?name=new", None)).map_err(in_words)?;
    expect("HTTP/1.1 101", &mut stream)
}

/// Reads an answer that has to begin so.
fn expect(begin: &str, stream: &mut impl Read) -> Result<(), String> {
    let (head, rest) = read_head(stream).map_err(in_words)?;
    if head.starts_with(begin) { Ok(()) } else { Err(refusal(&head, &rest)) }
}

/// Returns the status line and what came of the body.
fn refusal(head: &str, body: &[u8]) -> String {
    format!("{} {}", head.lines().next().unwrap_or_default(), String::from_utf8_lossy(body).trim_end())
}

fn in_words(error: std::io::Error) -> String {
    error.to_string()
}

/// Makes a connection from this address. Everything it waits for may take `PATIENCE`.
pub fn connect(peer: Peer, source: Ipv6Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.bind(&SocketAddrV6::new(peer.reach(source), 0, 0, 0).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&SocketAddrV6::new(peer.reach(wire::SERVER), port, 0, 0).into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Reads the head of an answer, and what came with it.
pub fn read_head(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend(&buffer[..length]),
        }
        if let Some(length) = wire::head_length(&bytes) {
            let rest = bytes.split_off(length);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
    }
}

fn say(stream: &mut TcpStream, json: &str) {
    let mut out = Vec::new();
    wire::ask(json, &mut out);
    // A line that broke is counted by its reader.
    let _ = stream.write_all(&out);
}

impl Line {
    /// Opens a socket of racerd.
    fn open(source: Ipv6Addr, path: &str) -> Result<Line, String> {
        Line::ask(Peer::Racerd, source, &wire::upgrade(path, None)).map_err(|error| format!("{path}: {error}"))
    }

    /// Opens a socket in a room.
    fn join(peer: Peer, source: Ipv6Addr, room: &str, name: &str) -> Result<Line, String> {
        let mut line = Line::ask(peer, source, &peer.upgrade(room)).map_err(|error| format!("{room}: {error}"))?;
        line.stream.write_all(&peer.greeting(room, name)).map_err(|error| format!("{room}: {error}"))?;
        Ok(line)
    }

    fn ask(peer: Peer, source: Ipv6Addr, upgrade: &[u8]) -> Result<Line, String> {
        let mut stream = connect(peer, source, wire::PORT).map_err(in_words)?;
        stream.write_all(upgrade).map_err(in_words)?;
        let (head, rest) = read_head(&mut stream).map_err(in_words)?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(refusal(&head, &rest));
        }
        let mut frames = Frames::default();
        frames.push(&rest);
        Ok(Line { stream, frames })
    }

    /// Returns the next text; answers pings meanwhile.
    fn read(&mut self) -> Option<String> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.frames.next() {
                Some((TEXT | BINARY, payload)) => return Some(String::from_utf8_lossy(&payload).into_owned()),
                Some((PING, payload)) => {
                    let mut pong = Vec::new();
                    wire::frame(PONG, &payload, &mut pong);
                    self.stream.write_all(&pong).ok()?;
                }
                Some((CLOSE, _)) => return None,
                Some(_) => {}
                None => match self.stream.read(&mut buffer) {
                    Ok(length) if length > 0 => self.frames.push(&buffer[..length]),
                    _ => return None,
                },
            }
        }
    }

    /// Reads until something of this type comes.
    fn until(&mut self, kind: &str, end: Instant) -> Option<Value> {
        while Instant::now() < end {
            let value: Value = serde_json::from_str(&self.read()?).ok()?;
            if value["type"] == kind {
                return Some(value);
            }
        }
        None
    }
}

const fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Sums up one phase. What was never answered counts as answered now.
fn seen(kept: &Kept, phase: Phase) -> Seen {
    let of_phase = |sent: &&Sent| sent.phase == phase;
    let now = Instant::now();
    let until = |sent: &Sent, end: Option<Instant>| millis(end.unwrap_or(now) - sent.at);
    let pings = || kept.pings.iter().filter(of_phase);
    let answer = |sent: &Sent| match sent.answer {
        Some(Answer::Done { at, .. }) => Some(at),
        _ => None,
    };
    let work = |sent: &Sent| match sent.answer {
        Some(Answer::Done { loop_time, .. }) => Some(millis(loop_time.saturating_sub(sent.loop_time))),
        _ => None,
    };
    let turns = |sent: &Sent| match sent.answer {
        Some(Answer::Done { turns, .. }) => Some((turns? - sent.turns?) as f64),
        _ => None,
    };
    let acknowledged = kept.messages.iter().filter(of_phase).filter(|sent| answer(sent).is_some());
    let share = |kind: Kind| {
        let tries = || kept.tries.iter().filter(|(of, at, _)| *of == kind && *at == phase);
        Share { tried: tries().count(), done: tries().filter(|(_, _, took)| took.is_ok()).count() }
    };
    let took = |(kind, at, took): &(Kind, Phase, Result<f64, String>)| {
        took.as_ref().ok().copied().filter(|_| *kind == Kind::Newcomer && *at == phase)
    };
    let held = |is_ping: bool| {
        let held = kept.held.iter().filter(move |held| held.phase == phase && (held.line == PINGER) == is_ping);
        held.map(|held| millis(held.until.unwrap_or(now) - held.at))
    };
    let deliveries = acknowledged.flat_map(|sent| sent.heard.map(|heard| until(sent, heard)));
    Seen {
        ping: Spread::of(pings().map(|sent| until(sent, answer(sent))).chain(held(true)).collect()),
        delivery: Spread::of(deliveries.chain(held(false)).collect()),
        work: Spread::of(pings().filter_map(work).collect()),
        turns: Spread::of(pings().filter_map(turns).collect()),
        handshake: Spread::of(kept.tries.iter().filter_map(took).collect()),
        newcomers: share(Kind::Newcomer),
        resumes: share(Kind::Resume),
        reads: share(Kind::Read),
        dropped: kept.dropped.iter().filter(|at| **at >= phase).count() as u64,
    }
}

/// Returns why attempts during the attack did not succeed.
fn failed(kept: &Kept) -> Vec<String> {
    let during = kept.tries.iter().filter(|(_, phase, _)| *phase == Phase::During);
    during.filter_map(|(_, _, done)| done.as_ref().err().cloned()).collect()
}

fn fate(kept: &Kept) -> Fate {
    let count = |is: &dyn Fn(&Sent) -> bool| kept.messages.iter().filter(|sent| is(sent)).count() as u64;
    Fate {
        sent: kept.messages.len() as u64,
        lost: count(&|sent| matches!(sent.answer, Some(Answer::Done { .. })) && sent.heard.iter().any(Option::is_none)),
        doubled: kept.doubled,
        reordered: kept.reordered,
        unanswered: count(&|sent| sent.answer.is_none()),
        refused: count(&|sent| matches!(sent.answer, Some(Answer::Refused))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(phase: Phase) -> Sent {
        Sent { phase, at: Instant::now(), loop_time: Duration::ZERO, turns: None, answer: None, heard: [None; 2] }
    }

    fn done() -> Answer {
        Answer::Done { at: Instant::now(), loop_time: Duration::ZERO, turns: None }
    }

    #[test]
    fn a_loss_a_repeat_and_a_wrong_order_are_seen() {
        let mut kept = Kept { messages: (0..4).map(|_| sent(Phase::During)).collect(), ..Kept::default() };
        kept.under_way[0] = 4;
        for (number, seq) in [(0, 1), (1, 2), (3, 4), (2, 3)] {
            kept.hear(0, number, (0, seq, 1));
        }
        assert_eq!((kept.reordered, kept.doubled), (2, 0));
        kept.hear(0, 2, (0, 4, 1));
        assert_eq!((kept.reordered, kept.doubled), (2, 1));
        (0..2).for_each(|number| kept.answer(0, number, done()));
        kept.answer(0, 2, Answer::Refused);
        kept.hear(1, 0, (0, 1, 1));
        let expected = Fate { sent: 4, lost: 1, doubled: 1, reordered: 2, unanswered: 1, refused: 1 };
        assert_eq!(fate(&kept), expected);
    }

    #[test]
    fn what_is_held_back_waits_until_an_answer_of_its_own_line() {
        let mut kept = Kept::default();
        for _ in 0..UNDER_WAY {
            assert!(kept.takes(PINGER, Phase::During));
            kept.pings.push(sent(Phase::During));
        }
        assert!(!kept.takes(PINGER, Phase::During));
        assert!(kept.takes(0, Phase::During), "the other lines have room");
        kept.messages.push(sent(Phase::During));
        kept.answer(0, 0, done());
        assert_eq!(kept.held[0].until, None);
        kept.answer(PINGER, 5, done());
        kept.answer(PINGER, 5, done());
        assert!(kept.held[0].until.is_some());
        assert_eq!(kept.under_way, [0, 0, UNDER_WAY - 1]);
        assert_eq!(seen(&kept, Phase::During).ping.count, UNDER_WAY + 1);
    }

    #[test]
    fn who_never_got_in_counts_in_the_phase_of_the_try() {
        let mut kept = Kept::default();
        kept.begin(Kind::Newcomer, Phase::Quiet);
        let index = kept.begin(Kind::Newcomer, Phase::During);
        kept.tries[index].2 = Ok(3.0);
        kept.begin(Kind::Resume, Phase::During);
        let seen = seen(&kept, Phase::During);
        assert_eq!(seen.newcomers, Share { tried: 1, done: 1 });
        assert_eq!(seen.resumes, Share { tried: 1, done: 0 });
        assert_eq!(seen.handshake.max, 3.0);
    }
}
