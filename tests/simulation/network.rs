//! The links between clients and server: bytes that arrive late, in any pieces, in order on one link and in any order
//! between two; resets at any byte, ends of one direction, links that go silent, and kernels that hold so much and no
//! more for a peer that does not read.

use racerd::types::ConnId;

use super::agenda::{Event, Micros, SECOND};
use super::scene::Scene;

#[derive(Default)]
pub struct Links {
    all: Vec<Link>,
    /// They wait to be accepted.
    pub arrivals: Vec<usize>,
    /// The server has something to read on them.
    pub ready: Vec<usize>,
    /// Their kernel has room again.
    pub writable: Vec<usize>,
}

pub struct Link {
    pub client: usize,
    /// It leads to the listener with TLS.
    pub secure: bool,
    /// The start of the server that it leads to.
    pub run: u32,
    /// When the client opened it.
    pub opened: Micros,
    pub server: End,
    client_open: bool,
    /// Nothing passes any more, and nobody is told.
    silent: bool,
    /// A reset has reached the server's kernel.
    broken: bool,
    /// The server's last write was not taken whole.
    blocked: bool,
    /// By the server's clock, in milliseconds: when it was accepted, when something was read of it last, and since when
    /// it takes nothing more.
    accepted: u64,
    heard: u64,
    full_since: Option<u64>,
    /// The longest that nothing was read, and that nothing was taken, in milliseconds.
    silence: u64,
    fullness: u64,
    /// A write was not taken whole, if only for a moment.
    pub was_full: bool,
    /// Bytes that the server has written, that it has read, and that the client has sent.
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
    /// To be accepted.
    Waiting,
    Open(ConnId),
    Gone,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Written, and on its way.
    wire: Vec<u8>,
    /// It came, and nobody has read it.
    arrived: Vec<u8>,
    /// Nothing more will be written.
    shut: bool,
    /// That has arrived, too.
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

    /// Lets so many bytes arrive, and the end behind the last.
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

    /// What the server's loop would be woken for.
    pub fn wants_turn(&self) -> bool {
        !(self.arrivals.is_empty() && self.ready.is_empty() && self.writable.is_empty())
    }
}

impl Link {
    pub fn is_open_to_client(&self) -> bool {
        self.client_open
    }

    /// Is there something that a read would find?
    pub fn is_readable(&self) -> bool {
        self.broken || self.up.ended || !self.up.arrived.is_empty()
    }

    /// Is nothing under way, and would it let something through? What has arrived at the server may wait there.
    pub fn is_at_rest(&self) -> bool {
        let is_whole =
            self.client_open && !self.silent && !self.broken && !self.blocked && !self.up.shut && !self.down.shut;
        let is_empty = self.up.wire.is_empty() && self.down.wire.is_empty() && self.down.arrived.is_empty();
        is_whole && is_empty && matches!(self.server, End::Open(_))
    }

    /// By the server's clock, in milliseconds: how long it was open, the longest that it heard nothing on it, and the
    /// longest that it could write nothing to it.
    pub fn trials(&self, mono: u64) -> (u64, u64, u64) {
        let since = |then: u64| mono.saturating_sub(then);
        (since(self.accepted), self.silence.max(since(self.heard)), self.fullness.max(self.full_since.map_or(0, since)))
    }

    /// The server has written its last, and the client has got all.
    pub fn has_ended(&self) -> bool {
        self.down.ended && self.down.arrived.is_empty()
    }
}

// The client's side.
impl Scene {
    pub fn open_link(&mut self, client: usize, secure: bool) -> usize {
        let link = self.links.all.len();
        self.links.all.push(Link {
            client,
            secure,
            run: self.run,
            opened: self.now,
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
            up: Pipe { moving: true, ..Pipe::default() },
            down: Pipe::default(),
        });
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
            // The kernel over there knows no such connection.
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
        let pipe = &mut self.links.all[link].down;
        if !pipe.moving && pipe.has_more() {
            pipe.moving = true;
            let time = self.latency() + self.standstill();
            self.agenda.at(time, Event::Down { link });
        }
    }

    /// The client writes no more, and reads on.
    pub fn client_shuts(&mut self, link: usize) {
        self.links.all[link].up.shut = true;
        self.start_up(link);
    }

    /// The client closes: what still comes is not for it.
    pub fn client_closes(&mut self, link: usize) {
        self.links.all[link].client_open = false;
        self.links.all[link].down.clear();
        self.client_shuts(link);
    }

    /// The client is gone from one moment to the next, and its kernel says so.
    pub fn client_resets(&mut self, link: usize) {
        self.tally.resets += 1;
        self.links.all[link].client_open = false;
        self.links.all[link].down.clear();
        let time = self.latency();
        self.agenda.at(time, Event::Break { link });
    }

    /// The client is gone, and nobody is told.
    pub fn client_vanishes(&mut self, link: usize) {
        self.tally.silences += 1;
        self.links.all[link].client_open = false;
        self.links.all[link].silent = true;
    }

    /// What has come for the client; its kernel then has room for more.
    pub fn client_reads(&mut self, link: usize, most: usize) -> Vec<u8> {
        let end = &mut self.links.all[link];
        let bytes = end.down.take(most);
        if !bytes.is_empty() && std::mem::take(&mut end.blocked) {
            self.links.writable.push(link);
        }
        bytes
    }
}

// On the way.
impl Scene {
    /// Bytes move towards the server.
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

    /// Bytes move towards the client, which reads them when it does.
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

    /// How many of these bytes arrive together.
    fn piece(&mut self, bytes: usize) -> usize {
        let most = bytes.min(self.mix.network.chunk);
        if most <= 1 || self.mix.network.chunk == usize::MAX { most } else { 1 + self.random.below(most) }
    }

    fn gap(&mut self) -> Micros {
        let wait = self.standstill();
        self.now + wait + self.random.within((0, self.mix.network.latency.0))
    }

    /// How long a link stands still before its next movement.
    fn standstill(&mut self) -> Micros {
        if !self.random.chance(self.mix.network.standstill) {
            return 0;
        }
        self.tally.standstills += 1;
        self.random.magnitude((SECOND, 30 * SECOND))
    }

    /// Does the link fail here, between two bytes?
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

    /// The link breaks: the server finds out when it reads or writes. True if the client is to be told.
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

    /// Writes as much as the kernel takes; `None` if the socket failed.
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
            // Nobody is there: the answer is a reset.
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

    /// The server closes its socket. If it has not read all, the kernel resets the link, and what was on its way to the
    /// client may be lost.
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

    /// Of what is on its way to the client only a part arrives, and then a reset.
    fn lose_end(&mut self, link: usize) {
        let keep = self.random.below(self.links.all[link].down.wire.len() + 1);
        self.links.all[link].down.wire.truncate(keep);
        let time = self.latency();
        self.agenda.at(time, Event::Break { link });
    }

    /// The server's process is gone, or its whole machine, which tells nobody.
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

    /// Faults end: links that went silent are found out.
    pub fn break_silent_links(&mut self) {
        for link in 0..self.links.all.len() {
            let end = &mut self.links.all[link];
            if std::mem::take(&mut end.silent) {
                self.agenda.at(self.now, Event::Break { link });
            }
        }
    }
}
