//! Generates load: many connections on one thread, each of which follows a script. Runs as a process of its own, so
//! that its time and memory are not the observers'.
//!
//! A script says how many connections there are and from where, what they say first, what they go on saying, how they
//! read, and when they leave. Connections that end are opened again, as fast as the script allows.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::wire::{self, Statuses};

/// Appends what a connection says next. The number is that of the connection, from 0; the second counts its calls.
pub type Make = Box<dyn FnMut(u64, u64, &mut Vec<u8>)>;

/// What a connection says once it is open.
pub enum Saying {
    Nothing,
    /// This, once.
    Once(Make),
    /// As much as the server takes.
    Endlessly(Make),
    /// This, again and again.
    Every(Duration, Make),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    All,
    Nothing,
    /// So many bytes a second.
    Slowly(usize),
}

/// When a connection is reset and another one opened in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Never by itself.
    Never,
    /// After so many answers over HTTP.
    Answers(u64),
    /// As soon as the connection stands.
    Connected,
    /// As soon as the socket is upgraded and has said what it says once.
    Upgraded,
    /// After the first bytes of the server.
    Heard,
    /// After so long.
    After(Duration),
}

pub struct Script {
    pub connections: usize,
    pub sources: Vec<Ipv6Addr>,
    pub target: SocketAddrV6,
    /// Connections opened per second, and how many more at once in the beginning.
    pub rate: f64,
    pub burst: f64,
    /// The first bytes.
    pub hello: Make,
    /// Waits for `101` before it goes on.
    pub upgrades: bool,
    /// The first bytes after that.
    pub greeting: Make,
    pub saying: Saying,
    pub reading: Reading,
    pub leaving: Leaving,
    /// The size of the kernel's receive buffer, where the script chooses one.
    pub receive_buffer: Option<usize>,
}

impl Script {
    /// Returns a script of connections that are opened without haste, say nothing and read everything.
    pub fn new(connections: usize, sources: Vec<Ipv6Addr>) -> Script {
        Script {
            connections,
            sources,
            target: wire::server(wire::PORT),
            rate: 20_000.0,
            burst: 0.0,
            hello: Box::new(|_, _, _| ()),
            upgrades: false,
            greeting: Box::new(|_, _, _| ()),
            saying: Saying::Nothing,
            reading: Reading::All,
            leaving: Leaving::Never,
            receive_buffer: None,
        }
    }

    /// Makes them WebSockets that open this path. An address may open 20 a second, all together 1,000; twice as many
    /// at once.
    pub fn sockets(mut self, path: &'static str) -> Script {
        let addresses = self.sources.len() as f64;
        self.rate = (19.0 * addresses).min(900.0);
        self.burst = (40.0 * addresses).min(1800.0);
        self.upgrades = true;
        self.hello = Box::new(move |_, _, out| out.extend(wire::upgrade(path, None)));
        self
    }

    pub fn hello(mut self, make: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Script {
        self.hello = Box::new(make);
        self
    }

    pub fn greeting(mut self, make: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Script {
        self.greeting = Box::new(make);
        self
    }

    pub fn once(mut self, make: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Script {
        self.saying = Saying::Once(Box::new(make));
        self
    }

    pub fn endlessly(mut self, make: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Script {
        self.saying = Saying::Endlessly(Box::new(make));
        self
    }

    pub fn every(mut self, period: Duration, make: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Script {
        self.saying = Saying::Every(period, Box::new(make));
        self
    }

    pub fn reading(mut self, reading: Reading) -> Script {
        self.reading = reading;
        self
    }

    pub fn leaving(mut self, leaving: Leaving) -> Script {
        self.leaving = leaving;
        self
    }

    pub fn rate(mut self, rate: f64, burst: f64) -> Script {
        self.rate = rate;
        self.burst = burst;
        self
    }

    pub fn target(mut self, target: SocketAddrV6) -> Script {
        self.target = target;
        self
    }
}

/// When the load is ready to be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// All connections are open.
    Open,
    /// So many requests were answered with 2xx.
    Done(u64),
    /// At once.
    Now,
    /// Not before it is told to stop.
    Never,
}

/// What an attack does: first what it needs, which goes on, then the attack.
pub struct Plan {
    pub before: Vec<Script>,
    pub ready: Ready,
    pub attack: Vec<Script>,
}

impl Plan {
    pub fn at_once(attack: Script) -> Plan {
        Plan { before: Vec::new(), ready: Ready::Now, attack: vec![attack] }
    }

    /// Opens the connections of `attack` first, all of which begin to say what they say at the same time.
    pub fn held(attack: Script) -> Plan {
        Plan { before: vec![attack], ready: Ready::Open, attack: Vec::new() }
    }
}

enum Stage {
    Connecting,
    /// The answer's head so far.
    Upgrading(Vec<u8>),
    /// Nothing more to wait for; whether what is said once was said.
    Open {
        said: bool,
    },
}

struct Connection {
    stream: TcpStream,
    script: usize,
    number: u64,
    stage: Stage,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    at: usize,
    calls: u64,
    since: Instant,
    next: Instant,
    statuses: Statuses,
    heard: u64,
    /// The end of what was read last, in which an answer may begin.
    carry: Vec<u8>,
    is_queued: bool,
}

struct State {
    script: Script,
    open: usize,
    standing: usize,
    number: u64,
    budget: f64,
}

/// What was done so far.
#[derive(Default, Clone)]
pub struct Tally {
    opened: u64,
    upgraded: u64,
    refused: u64,
    ended: u64,
    sent: u64,
    heard: u64,
    statuses: Statuses,
}

pub struct Load {
    poll: Poll,
    connections: Slab<Connection>,
    states: Vec<State>,
    ready: VecDeque<usize>,
    tally: Tally,
    done_in_all: u64,
    buffer: Vec<u8>,
    /// Sockets that are open begin to say what they say.
    is_released: bool,
}

/// How much one connection may write or read before others have their turn.
const PIECE: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(10);

impl Load {
    pub fn new() -> std::io::Result<Load> {
        Ok(Load {
            poll: Poll::new()?,
            connections: Slab::new(),
            states: Vec::new(),
            ready: VecDeque::new(),
            tally: Tally::default(),
            done_in_all: 0,
            buffer: vec![0; PIECE],
            is_released: true,
        })
    }

    pub fn add(&mut self, script: Script) {
        let budget = script.burst.max(40.0);
        self.states.push(State { script, open: 0, standing: 0, number: 0, budget });
    }

    /// Keeps what is open silent until `release`.
    pub fn hold(&mut self) {
        self.is_released = false;
    }

    /// Lets all begin, and forgets what was counted.
    pub fn release(&mut self) {
        self.is_released = true;
        self.tally = Tally::default();
        let all: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.queue(index));
    }

    fn is_ready(&self, ready: Ready) -> bool {
        match ready {
            Ready::Now => true,
            Ready::Never => false,
            Ready::Done(most) => self.done_in_all >= most,
            Ready::Open => self.states.iter().all(|state| state.standing >= state.script.connections),
        }
    }

    /// Returns what was done as JSON.
    pub fn report(&self) -> Value {
        let tally = &self.tally;
        json!({
            "held": self.states.iter().map(|state| state.standing).sum::<usize>(),
            "opened": tally.opened, "upgraded": tally.upgraded, "refused": tally.refused, "ended": tally.ended,
            "sent": tally.sent, "heard": tally.heard, "done": tally.statuses.done,
            "limited": tally.statuses.limited, "unavailable": tally.statuses.unavailable,
            "other": tally.statuses.other,
        })
    }

    /// Runs until it is ready or told to stop, at most this long; returns whether it is ready.
    pub fn until(&mut self, ready: Ready, most: Duration, stop: &AtomicBool) -> std::io::Result<bool> {
        let end = Instant::now() + most;
        let mut events = Events::with_capacity(4096);
        let mut ticked = Instant::now();
        while !self.is_ready(ready) {
            let now = Instant::now();
            if now >= end || stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if now - ticked >= TICK {
                self.tick(now, now - ticked);
                ticked = now;
            }
            self.open_missing(now);
            let wait = if self.ready.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => events.iter().for_each(|event| self.queue(event.token().0)),
            }
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.serve(index, now);
                }
            }
        }
        Ok(true)
    }

    fn queue(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.ready.push_back(index);
        }
    }

    /// Gives out what time allows: connections to open, bytes to read, what is said again and again, ends.
    fn tick(&mut self, now: Instant, passed: Duration) {
        for state in &mut self.states {
            let rate = state.script.rate;
            state.budget =
                (state.budget + rate * passed.as_secs_f64()).min((rate / 20.0).max(40.0).max(state.script.burst));
        }
        let mut due = Vec::new();
        let mut over = Vec::new();
        for (index, connection) in &self.connections {
            let script = &self.states[connection.script].script;
            let most = match script.leaving {
                Leaving::After(most) => most,
                // It was left without an answer.
                Leaving::Answers(_) => Duration::from_secs(5),
                _ => Duration::MAX,
            };
            if now - connection.since >= most {
                over.push(index);
            } else if matches!(script.saying, Saying::Every(..)) && now >= connection.next
                || matches!(script.reading, Reading::Slowly(_))
            {
                due.push(index);
            }
        }
        over.into_iter().for_each(|index| self.end(index));
        due.into_iter().for_each(|index| self.queue(index));
    }

    fn open_missing(&mut self, now: Instant) {
        for script in 0..self.states.len() {
            for _ in 0..64 {
                let state = &self.states[script];
                if state.open >= state.script.connections || state.budget < 1.0 || !self.open(script, now) {
                    break;
                }
            }
        }
    }

    fn open(&mut self, script: usize, now: Instant) -> bool {
        let state = &mut self.states[script];
        let number = state.number;
        state.number += 1;
        state.budget -= 1.0;
        let source = state.script.sources[number as usize % state.script.sources.len()];
        let mut stream = match connect(source, &state.script) {
            Ok(stream) => stream,
            Err(_) => {
                self.tally.refused += 1;
                return false;
            }
        };
        state.open += 1;
        let mut out = Vec::new();
        (state.script.hello)(number, 0, &mut out);
        let entry = self.connections.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(entry.key()), interest).is_err() {
            state.open -= 1;
            return false;
        }
        let stage = Stage::Connecting;
        let (statuses, calls, heard) = (Statuses::default(), 0, 0);
        let (since, next) = (now, now);
        let (carry, is_queued) = (Vec::new(), false);
        entry.insert(Connection {
            stream,
            script,
            number,
            stage,
            out,
            at: 0,
            calls,
            since,
            next,
            statuses,
            heard,
            carry,
            is_queued,
        });
        true
    }

    fn end(&mut self, index: usize) {
        let Some(connection) = self.connections.try_remove(index) else { return };
        let state = &mut self.states[connection.script];
        state.open -= 1;
        if matches!(connection.stage, Stage::Open { .. }) {
            state.standing -= 1;
        }
        self.tally.ended += 1;
    }

    /// Writes and reads what one connection can; queues it again if there may be more.
    fn serve(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        connection.is_queued = false;
        let State { script, standing, .. } = &mut self.states[connection.script];
        let stood = connection.stands();
        let wrote = write(connection, script, now, self.is_released, &mut self.tally);
        let (read, done) = match wrote {
            Progress::Over => (Progress::Over, 0),
            _ => read(connection, script, &mut self.buffer, &mut self.tally),
        };
        self.done_in_all += done;
        if !stood && connection.stands() {
            *standing += 1;
            // It may say now what it has to say.
            self.ready.push_back(index);
            connection.is_queued = true;
        }
        if connection.leaves(script.leaving) || wrote == Progress::Over || read == Progress::Over {
            self.end(index);
        } else if wrote == Progress::More || read == Progress::More {
            self.queue(index);
        }
    }
}

impl Connection {
    fn stands(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    fn leaves(&self, leaving: Leaving) -> bool {
        let has_written = self.at == self.out.len();
        match leaving {
            Leaving::Never | Leaving::After(_) => false,
            Leaving::Connected => has_written && !matches!(self.stage, Stage::Connecting),
            Leaving::Upgraded => has_written && matches!(self.stage, Stage::Open { said: true }),
            Leaving::Answers(most) => self.statuses.all() >= most,
            Leaving::Heard => self.heard > 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The kernel takes or has no more.
    Waits,
    /// It stopped for others to have their turn.
    More,
    Over,
}

fn connect(source: Ipv6Addr, script: &Script) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // A reset instead of a polite end: no port waits.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(size) = script.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&SocketAddrV6::new(source, 0, 0, 0).into())?;
    match socket.connect(&script.target.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Fills the empty buffer with what the script says next; returns whether there is anything.
fn fill(connection: &mut Connection, script: &mut Script, now: Instant) -> bool {
    let Connection { out, at, number, calls, .. } = connection;
    let mut make = |make: &mut Make| {
        out.clear();
        *at = 0;
        make(*number, *calls, out);
        *calls += 1;
        !out.is_empty()
    };
    let Stage::Open { said } = &mut connection.stage else { return false };
    let is_first = !std::mem::replace(said, true);
    match &mut script.saying {
        Saying::Nothing => false,
        Saying::Once(what) => is_first && make(what),
        Saying::Endlessly(what) => make(what),
        Saying::Every(period, what) => {
            let is_due = now >= connection.next;
            if is_due {
                connection.next = (connection.next + *period).max(now);
            }
            is_due && make(what)
        }
    }
}

fn write(
    connection: &mut Connection,
    script: &mut Script,
    now: Instant,
    is_released: bool,
    tally: &mut Tally,
) -> Progress {
    if matches!(connection.stage, Stage::Connecting) {
        match connection.stream.take_error() {
            Ok(None) if connection.stream.peer_addr().is_ok() => {}
            Ok(None) => return Progress::Waits,
            _ => {
                tally.refused += 1;
                return Progress::Over;
            }
        }
        tally.opened += 1;
        connection.stage = if script.upgrades { Stage::Upgrading(Vec::new()) } else { Stage::Open { said: false } };
    }
    let mut written = 0;
    loop {
        if connection.at == connection.out.len() && !(is_released && fill(connection, script, now)) {
            return Progress::Waits;
        }
        if written >= PIECE {
            return Progress::More;
        }
        match connection.stream.write(&connection.out[connection.at..]) {
            Ok(length) => {
                connection.at += length;
                written += length;
                tally.sent += length as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Progress::Over,
        }
    }
}

/// Counts the answers that begin in these bytes, or in the end of those before.
fn count(statuses: &mut Statuses, carry: &mut Vec<u8>, bytes: &[u8]) {
    carry.extend(&bytes[..bytes.len().min(11)]);
    statuses.count(carry);
    statuses.count(bytes);
    carry.clear();
    carry.extend(&bytes[bytes.len().saturating_sub(11)..]);
}

/// Reads; returns the number of requests done, too.
fn read(connection: &mut Connection, script: &mut Script, buffer: &mut [u8], tally: &mut Tally) -> (Progress, u64) {
    let is_upgrading = matches!(connection.stage, Stage::Upgrading(_));
    let most = match script.reading {
        Reading::All => buffer.len(),
        _ if is_upgrading => 1,
        Reading::Nothing => return (Progress::Waits, 0),
        Reading::Slowly(rate) => (rate as f64 * TICK.as_secs_f64()).ceil() as usize,
    };
    if matches!(connection.stage, Stage::Connecting) {
        return (Progress::Waits, 0);
    }
    match connection.stream.read(&mut buffer[..most]) {
        Ok(0) => (Progress::Over, 0),
        Ok(length) => {
            let bytes = &buffer[..length];
            connection.heard += length as u64;
            tally.heard += length as u64;
            let before = connection.statuses;
            count(&mut connection.statuses, &mut connection.carry, bytes);
            let done = connection.statuses.done - before.done;
            tally.statuses.done += done;
            tally.statuses.limited += connection.statuses.limited - before.limited;
            tally.statuses.unavailable += connection.statuses.unavailable - before.unavailable;
            tally.statuses.other += connection.statuses.other - before.other;
            if let Stage::Upgrading(head) = &mut connection.stage {
                head.extend(bytes);
                if wire::head_length(head).is_some() {
                    if !head.starts_with(b"HTTP/1.1 101") {
                        tally.refused += 1;
                        return (Progress::Over, done);
                    }
                    tally.upgraded += 1;
                    connection.stage = Stage::Open { said: false };
                    (script.greeting)(connection.number, 0, &mut connection.out);
                }
            }
            let goes_on = script.reading == Reading::All || matches!(connection.stage, Stage::Upgrading(_));
            (if goes_on { Progress::More } else { Progress::Waits }, done)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (Progress::Waits, 0),
        Err(_) => (Progress::Over, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_however_it_is_cut() {
        let whole = b"HTTP/1.1 201 Created\r\n\r\n{}HTTP/1.1 429 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        for piece in 11..whole.len() {
            let (mut statuses, mut carry) = (Statuses::default(), Vec::new());
            whole.chunks(piece).for_each(|bytes| count(&mut statuses, &mut carry, bytes));
            assert_eq!((statuses.done, statuses.limited, statuses.all()), (2, 1, 3), "in pieces of {piece}");
        }
    }
}
