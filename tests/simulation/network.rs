//! The links between clients and server: bytes arrive late, in pieces of any size, in order on one link and in any
//! order across links. Links are reset at any byte, are half-closed, or go silent, and kernels buffer only a limited
//! amount for a peer that does not read.

use racerd::types::ConnId;

use super::agenda::{Event, Micros, SECOND};
use super::scene::Scene;

#[derive(Default)]
pub struct Links {
    all: Vec<Link>,
    /// Links that wait to be accepted.
    pub arrivals: Vec<usize>,
    /// Links on which the server has something to read.
    pub ready: Vec<usize>,
    /// Links whose kernel has room again.
    pub writable: Vec<usize>,
}

pub struct Link {
    pub client: usize,
    /// It leads to the listener with TLS.
    pub secure: bool,
    /// No network lies between: bytes arrive as they are written. So are strangers and their observer, for whom the
    /// server's turns count and no time does.
    is_near: bool,
    /// The start of the server that it leads to.
    pub run: u32,
    /// When the client opened the link.
    pub opened: Micros,
    pub server: End,
    client_open: bool,
    /// Nothing passes any more, and neither end is told.
    silent: bool,
    /// A reset has reached the server's kernel.
    broken: bool,
    /// The server's last write was taken only in part.
    blocked: bool,
    /// By the server's clock, in milliseconds: when the link was accepted, when data was last read from it, and since
    /// when it takes no more.
    accepted: u64,
    heard: u64,
    full_since: Option<u64>,
    /// The longest time without a read, and the longest time without room for a write, in milliseconds.
    silence: u64,
    fullness: u64,
    /// A write was taken only in part, if only for a moment.
    pub was_full: bool,
    /// Bytes that the server has written, bytes that it has read, and bytes that the client has sent.
    pub written: u64,
    pub read: u64,
    pub sent: u64,
    up: Pipe,
    down: Pipe,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// On its way to the listener.
    Connecting,
    /// Waiting to be accepted.
    Waiting,
    Open(ConnId),
    Gone,
}

/// One direction of a link.
#[derive(Default)]
struct Pipe {
    /// Written, and on its way.
    wire: Vec<u8>,
    /// Arrived, and not read yet.
    arrived: Vec<u8>,
    /// Nothing more will be written: a half-close.
    shut: bool,
    /// The half-close has arrived, too.
    ended: bool,
    /// Its next movement is on the agenda.
    moving: bool,
}

pub enum Read {
    Some { bytes: Vec<u8>, more: bool },
    Nothing,
    End,
    Failed,
}

impl Pipe {
    fn has_more(&self) -> bool {
        !self.wire.is_empty() || (self.shut && !self.ended)
    }

    /// Lets `bytes` bytes arrive, and after the last one the end.
    fn advance(&mut self, bytes: usize) {
        self.arrived.extend(self.wire.drain(..bytes));
        self.ended = self.shut && self.wire.is_empty();
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        if self.arrived.len() <= most {
            return std::mem::take(&mut self.arrived);
        }
        self.arrived.drain(..most).collect()
    }

    fn clear(&mut self) {
        self.wire = Vec::new();
        self.arrived = Vec::new();
    }
}

impl Links {
    pub fn get(&self, link: usize) -> &Link {
        &self.all[link]
    }

    /// Returns whether the server's loop would be woken.
    pub fn wants_turn(&self) -> bool {
        !(self.arrivals.is_empty() && self.ready.is_empty() && self.writable.is_empty())
    }
}

impl Link {
    fn new(client: usize, secure: bool, run: u32, opened: Micros) -> Link {
        Link {
            client,
            secure,
            is_near: false,
            run,
            opened,
            server: End::Connecting,
            client_open: true,
            silent: false,
            broken: false,
            blocked: false,
            accepted: 0,
            heard: 0,
            full_since: None,
            silence: 0,
            fullness: 0,
            was_full: false,
            written: 0,
            read: 0,
            sent: 0,
            up: Pipe::default(),
            down: Pipe::default(),
        }
    }

    pub fn is_open_to_client(&self) -> bool {
        self.client_open
    }

    /// Returns whether a read would find something.
    pub fn is_readable(&self) -> bool {
        self.broken || self.up.ended || !self.up.arrived.is_empty()
    }

    /// Returns whether the server would be told that nothing more comes than what has arrived.
    pub fn has_hung_up(&self) -> bool {
        self.broken || self.up.ended
    }

    /// Returns the bytes that have arrived at the server, and wait there.
    pub fn unread(&self) -> u64 {
        self.up.arrived.len() as u64
    }

    /// Returns whether a write would take something, as far as the server knows.
    pub fn takes_more(&self) -> bool {
        !self.blocked && !self.broken
    }

    /// Returns whether nothing is in flight although the link would let it through. Data that has arrived at the server
    /// may still wait there.
    pub fn is_at_rest(&self) -> bool {
        let is_whole =
            self.client_open && !self.silent && !self.broken && !self.blocked && !self.up.shut && !self.down.shut;
        let is_empty = self.up.wire.is_empty() && self.down.wire.is_empty() && self.down.arrived.is_empty();
        is_whole && is_empty && matches!(self.server, End::Open(_))
    }

    /// Returns, by the server's clock and in milliseconds, how long the link was open, the longest time without a read,
    /// and the longest time without a successful write.
    pub fn trials(&self, mono: u64) -> (u64, u64, u64) {
        let since = |then: u64| mono.saturating_sub(then);
        (since(self.accepted), self.silence.max(since(self.heard)), self.fullness.max(self.full_since.map_or(0, since)))
    }

    /// Returns whether the server has written its last byte and the client has received all.
    pub fn has_ended(&self) -> bool {
        self.down.ended && self.down.arrived.is_empty()
    }

    /// Returns whether the server has shut or closed a near link, or a fault has broken it.
    pub fn is_over(&self) -> bool {
        self.server == End::Gone || self.down.shut || !self.client_open
    }
}

// A peer beside the server.
impl Scene {
    /// Opens a link without a network between.
    pub fn open_near_link(&mut self, client: usize, secure: bool) -> Option<usize> {
        if !self.is_listening {
            return None;
        }
        let link = self.links.all.len();
        let server = End::Waiting;
        self.links.all.push(Link { server, is_near: true, ..Link::new(client, secure, self.run, self.now) });
        self.links.arrivals.push(link);
        Some(link)
    }

    pub fn near_writes(&mut self, link: usize, bytes: &[u8]) {
        let end = &mut self.links.all[link];
        end.up.arrived.extend_from_slice(bytes);
        end.sent += bytes.len() as u64;
        self.links.ready.push(link);
    }

    /// Takes everything that the server has written.
    pub fn near_reads(&mut self, link: usize) -> Vec<u8> {
        let end = &mut self.links.all[link];
        let bytes = std::mem::take(&mut end.down.wire);
        if std::mem::take(&mut end.blocked) {
            self.links.writable.push(link);
        }
        bytes
    }

    /// Ends a near link, with a reset or in order.
    pub fn near_ends(&mut self, link: usize, with_reset: bool) {
        if with_reset {
            self.break_link(link);
            return;
        }
        let end = &mut self.links.all[link];
        end.client_open = false;
        end.down.clear();
        (end.up.shut, end.up.ended) = (true, true);
        self.links.ready.push(link);
    }
}

// The client's side.
impl Scene {
    pub fn open_link(&mut self, client: usize, secure: bool) -> usize {
        let link = self.links.all.len();
        let up = Pipe { moving: true, ..Pipe::default() };
        self.links.all.push(Link { up, ..Link::new(client, secure, self.run, self.now) });
        let time = self.latency();
        self.agenda.at(time, Event::Up { link });
        link
    }

    pub fn client_writes(&mut self, link: usize, bytes: &[u8]) {
        let end = &mut self.links.all[link];
        if !end.client_open || end.silent {
            return;
        }
        if end.server == End::Gone {
            // The kernel of the other end knows no such connection.
            let time = self.latency();
            return self.agenda.at(time, Event::Break { link });
        }
        end.up.wire.extend_from_slice(bytes);
        end.sent += bytes.len() as u64;
        self.start_up(link);
    }

    fn start_up(&mut self, link: usize) {
        let pipe = &mut self.links.all[link].up;
        if !pipe.moving && pipe.has_more() {
            pipe.moving = true;
            let time = self.latency() + self.standstill();
            self.agenda.at(time, Event::Up { link });
        }
    }

    fn start_down(&mut self, link: usize) {
        let Link { down: pipe, is_near, .. } = &mut self.links.all[link];
        if !*is_near && !pipe.moving && pipe.has_more() {
            pipe.moving = true;
            let time = self.latency() + self.standstill();
            self.agenda.at(time, Event::Down { link });
        }
    }

    /// Half-closes the client's end: it writes no more, and continues to read.
    pub fn client_shuts(&mut self, link: usize) {
        self.links.all[link].up.shut = true;
        self.start_up(link);
    }

    /// Closes the client's end: later bytes are discarded.
    pub fn client_closes(&mut self, link: usize) {
        self.links.all[link].client_open = false;
        self.links.all[link].down.clear();
        self.client_shuts(link);
    }

    /// Ends the client abruptly, with a reset from its kernel.
    pub fn client_resets(&mut self, link: usize) {
        self.tally.resets += 1;
        self.links.all[link].client_open = false;
        self.links.all[link].down.clear();
        let time = self.latency();
        self.agenda.at(time, Event::Break { link });
    }

    /// Ends the client without any word to the server.
    pub fn client_vanishes(&mut self, link: usize) {
        self.tally.silences += 1;
        self.links.all[link].client_open = false;
        self.links.all[link].silent = true;
    }

    /// Takes the bytes that have arrived for the client; its kernel then has room for more.
    pub fn client_reads(&mut self, link: usize, most: usize) -> Vec<u8> {
        let end = &mut self.links.all[link];
        let bytes = end.down.take(most);
        if !bytes.is_empty() && std::mem::take(&mut end.blocked) {
            self.links.writable.push(link);
        }
        bytes
    }
}

// In flight.
impl Scene {
    /// Moves bytes towards the server.
    pub fn move_up(&mut self, link: usize) {
        self.links.all[link].up.moving = false;
        if self.fails_now(link) {
            return;
        }
        let listening = self.is_listening;
        let run = self.run;
        let end = &mut self.links.all[link];
        if end.server == End::Connecting {
            if !listening {
                self.agenda.at(self.now, Event::Break { link });
                return;
            }
            end.server = End::Waiting;
            end.run = run;
            self.links.arrivals.push(link);
            return self.start_up(link);
        }
        if end.server == End::Gone {
            return end.up.clear();
        }
        let bytes = self.piece(self.links.all[link].up.wire.len());
        self.links.all[link].up.advance(bytes);
        self.links.ready.push(link);
        if self.links.all[link].up.has_more() {
            self.links.all[link].up.moving = true;
            let time = self.gap();
            self.agenda.at(time, Event::Up { link });
        }
    }

    /// Moves bytes towards the client, which reads them later.
    pub fn move_down(&mut self, link: usize) {
        self.links.all[link].down.moving = false;
        if !self.links.all[link].client_open || self.fails_now(link) {
            return;
        }
        let bytes = self.piece(self.links.all[link].down.wire.len());
        self.links.all[link].down.advance(bytes);
        if self.links.all[link].down.has_more() {
            self.links.all[link].down.moving = true;
            let time = self.gap();
            self.agenda.at(time, Event::Down { link });
        }
    }

    /// Draws how many of these bytes arrive together.
    fn piece(&mut self, bytes: usize) -> usize {
        let most = bytes.min(self.mix.network.chunk);
        if most <= 1 || self.mix.network.chunk == usize::MAX { most } else { 1 + self.random.below(most) }
    }

    fn gap(&mut self) -> Micros {
        let wait = self.standstill();
        self.now + wait + self.random.within((0, self.mix.network.latency.0))
    }

    /// Draws how long a link stalls before its next movement.
    fn standstill(&mut self) -> Micros {
        if !self.random.chance(self.mix.network.standstill) {
            return 0;
        }
        self.tally.standstills += 1;
        self.random.magnitude((SECOND, 30 * SECOND))
    }

    /// Decides whether the link fails here, between two bytes.
    fn fails_now(&mut self, link: usize) -> bool {
        if self.links.all[link].silent {
            return true;
        }
        if self.random.chance(self.mix.network.silence) {
            self.tally.silences += 1;
            self.trace.line(self.now, format_args!("link {link}"), || "goes silent");
            self.links.all[link].silent = true;
            return true;
        }
        if self.random.chance(self.mix.network.reset) {
            self.tally.resets += 1;
            self.trace.line(self.now, format_args!("link {link}"), || "is reset");
            self.agenda.at(self.now, Event::Break { link });
            return true;
        }
        false
    }

    /// Breaks the link: the server finds out when it reads or writes. Returns true if the client is to be told.
    pub fn break_link(&mut self, link: usize) -> bool {
        let end = &mut self.links.all[link];
        let tells = std::mem::take(&mut end.client_open);
        if end.server == End::Connecting {
            end.server = End::Gone;
        }
        if end.server != End::Gone && !end.broken && !end.silent {
            end.broken = true;
            self.links.ready.push(link);
        }
        end.down.clear();
        tells
    }
}

// The server's side.
impl Scene {
    pub fn server_accepts(&mut self, link: usize, conn: ConnId) {
        let mono = self.witness.mono;
        let end = &mut self.links.all[link];
        end.server = End::Open(conn);
        (end.accepted, end.heard) = (mono, mono);
    }

    pub fn server_reads(&mut self, link: usize, budget: usize) -> Read {
        let mono = self.witness.mono;
        let end = &mut self.links.all[link];
        if end.broken {
            return Read::Failed;
        }
        let bytes = end.up.take(budget);
        end.read += bytes.len() as u64;
        if !bytes.is_empty() {
            end.silence = end.silence.max(mono.saturating_sub(end.heard));
            end.heard = mono;
        }
        match bytes.is_empty() {
            false => Read::Some { bytes, more: end.is_readable() },
            true if end.up.ended => Read::End,
            true => Read::Nothing,
        }
    }

    /// Writes as much as the kernel takes; returns `None` if the socket failed.
    pub fn server_writes<'a>(&mut self, link: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        let window = self.mix.network.window;
        let mono = self.witness.mono;
        let end = &mut self.links.all[link];
        if end.broken {
            return None;
        }
        if end.blocked {
            return Some(0);
        }
        let is_heard = end.client_open || end.silent;
        let mut taken = 0;
        for piece in pieces {
            let room = window.saturating_sub(end.down.wire.len() + end.down.arrived.len());
            let length = if is_heard { piece.len().min(room) } else { piece.len() };
            taken += length;
            end.written += length as u64;
            if is_heard {
                end.down.wire.extend_from_slice(&piece[..length]);
                self.trace.bytes(&piece[..length]);
            }
            if length < piece.len() {
                (end.blocked, end.was_full) = (true, true);
                break;
            }
        }
        if taken > 0 {
            end.fullness = end.fullness.max(end.full_since.take().map_or(0, |since| mono.saturating_sub(since)));
        }
        if end.blocked {
            end.full_since.get_or_insert(mono);
        }
        if !is_heard {
            // The client is gone: its kernel answers with a reset.
            let time = self.latency();
            self.agenda.at(time, Event::Break { link });
        } else if taken > 0 {
            self.start_down(link);
        }
        Some(taken)
    }

    pub fn server_shuts(&mut self, link: usize) {
        self.links.all[link].down.shut = true;
        self.start_down(link);
    }

    /// Closes the server's socket. If it has unread data, the kernel resets the link, and data in flight to the client
    /// may be lost.
    pub fn server_closes(&mut self, link: usize) {
        let end = &mut self.links.all[link];
        end.server = End::Gone;
        let unread = !end.up.arrived.is_empty() || !end.up.wire.is_empty();
        end.up.clear();
        if unread {
            self.lose_end(link);
        } else if end.client_open {
            self.server_shuts(link);
        }
    }

    /// Truncates the data in flight to the client, and ends it with a reset.
    fn lose_end(&mut self, link: usize) {
        let keep = self.random.below(self.links.all[link].down.wire.len() + 1);
        self.links.all[link].down.wire.truncate(keep);
        let time = self.latency();
        self.agenda.at(time, Event::Break { link });
    }

    /// Ends the server's process, or its whole machine, in which case no client is told.
    pub fn server_dies(&mut self, with_machine: bool) {
        self.links.arrivals.clear();
        self.links.ready.clear();
        self.links.writable.clear();
        for link in 0..self.links.all.len() {
            let end = &mut self.links.all[link];
            if !matches!(end.server, End::Waiting | End::Open(_)) {
                continue;
            }
            end.server = End::Gone;
            end.up.clear();
            if with_machine {
                end.silent = true;
            } else if end.client_open {
                self.lose_end(link);
            }
        }
    }

    /// Breaks the silent links once faults have ended.
    pub fn break_silent_links(&mut self) {
        for link in 0..self.links.all.len() {
            let end = &mut self.links.all[link];
            if std::mem::take(&mut end.silent) {
                self.agenda.at(self.now, Event::Break { link });
            }
        }
    }
}
