//! The event loop: it owns the sockets, the clock and the store, feeds the engine and carries out the engine's
//! requests.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::accept::Listeners;
use super::clock::Clock;
use super::log::Log;
use super::pace::Pace;
use super::received::Received;
use super::reload::{Parts, Reload};
use super::signals::{Asked, Signals, Wish};
use super::sockets::Sockets;
use super::supervisor::Supervisor;
use super::tls::{Scratch, Tls};
use super::tokens::Source;
use crate::engine::{App, Edge, Engine, Fact, Input, Part, Turn, Written};
use crate::store::{Store, StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis, Reason, Unusable};

/// Why the server ended, other than on request.
#[derive(Debug)]
pub enum ServeError {
    /// It could not start. The cause decides the exit status.
    Start(Unusable),
    /// It stopped by itself, because of a failure.
    Failed(Reason),
}

impl From<Unusable> for ServeError {
    fn from(error: Unusable) -> ServeError {
        ServeError::Start(error)
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Start(error) => error.fmt(f),
            ServeError::Failed(reason) => reason.fmt(f),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ServeError::Start(error) => error.source(),
            ServeError::Failed(reason) => reason.source(),
        }
    }
}

/// Maximum of events taken from the kernel at once.
const EVENTS: usize = 1024;
/// How long a part of a turn goes on: reading, delivering and catching up, or one of two kinds of writing. All
/// connections wait for it.
const PART: Duration = Duration::from_millis(2);

/// How long TLS handshakes go on in a turn, of which one at least does: a signature of RSA-4096 takes 3.4 ms, one of
/// P-256 0.1 ms.
const HANDSHAKES: Duration = Duration::from_millis(1);

/// How long static pages and health checks are answered besides, if a turn does not come to everybody.
const AHEAD: Duration = Duration::from_micros(500);

/// Writes for each look at the clock. A write takes microseconds, so a part ends in time all the same.
const WRITES_A_LOOK: u32 = 8;

/// Answer to a client that speaks plain HTTP where TLS is expected.
const PLAIN_ON_TLS: &str = "this port speaks TLS, and the request came without: use https:// or wss://";

/// Everything the server owns.
pub struct Loop<A: App> {
    poll: Poll,
    events: Events,
    listeners: Listeners,
    sockets: Sockets,
    signals: Signals,
    engine: Engine<A>,
    pub(super) store: Box<dyn Store>,
    pub(super) clock: Clock,
    pub(super) log: Log,
    facts: super::facts::Facts,
    supervisor: Supervisor,
    reload: Option<Reload<A::Limits>>,
    pub(super) tls: Option<Tls>,
    scratch: Scratch,
    /// The one read buffer: as long as the read budget of one connection per turn.
    buffer: Vec<u8>,
    /// Sockets with bytes that no further edge will announce.
    ready: Vec<ConnId>,
    /// Sockets that can be written again.
    writable: Vec<ConnId>,
    turn: Turn,
    /// Requests made by signals in this turn.
    asked: Asked,
    /// When the present part of the turn has taken its time.
    part_until: Instant,
    /// Steps of this part for each look at the clock, and those since the last.
    each_look: u32,
    unlooked: u32,
    pace: Pace,
    /// Work is left over that no event will announce: the next turn does not wait.
    more: bool,
    /// When the kernel was last asked for events.
    asked_at: Millis,
    /// How many times in a row it may have had more events than it returned.
    untold: usize,
    failure: Option<Reason>,
    #[cfg(feature = "testing")]
    counts: crate::testing::TurnCounts,
}

impl<A: App> Loop<A> {
    /// Creates a loop that is ready to run. `read_budget` is in bytes.
    ///
    /// # Errors
    /// The poll cannot watch signals. For tests: turns cannot be counted where they are to be.
    pub fn new(
        poll: Poll,
        listeners: Listeners,
        engine: Engine<A>,
        store: Box<dyn Store>,
        read_budget: usize,
        log: Log,
    ) -> io::Result<Loop<A>> {
        let signals = Signals::new(poll.registry())?;
        Ok(Loop {
            poll,
            events: Events::with_capacity(EVENTS),
            listeners,
            sockets: Sockets::default(),
            signals,
            engine,
            store,
            clock: Clock::start(),
            log,
            facts: super::facts::Facts::default(),
            supervisor: Supervisor::default(),
            reload: None,
            tls: None,
            scratch: Scratch::default(),
            buffer: vec![0; read_budget],
            ready: Vec::new(),
            writable: Vec::new(),
            turn: Turn::default(),
            asked: Asked::NOTHING,
            part_until: Instant::now(),
            each_look: 1,
            unlooked: 0,
            pace: Pace::new(),
            more: false,
            asked_at: Millis(0),
            untold: 0,
            failure: None,
            #[cfg(feature = "testing")]
            counts: crate::testing::TurnCounts::from_environment()?,
        })
    }

    /// Notifies this supervisor of the server's state.
    pub(super) fn supervised(mut self, supervisor: Supervisor) -> Loop<A> {
        self.supervisor = supervisor;
        self
    }

    /// Makes the listeners speak TLS, except those that are always plain.
    pub(super) fn encrypting(mut self, tls: Option<Tls>) -> Loop<A> {
        self.tls = tls;
        self
    }

    /// Enables reload on SIGHUP.
    pub fn reloading(mut self, reload: Reload<A::Limits>) -> Loop<A> {
        self.reload = Some(reload);
        self
    }

    /// Runs until the server is told to stop or cannot go on; either way the shutdown is graceful, and leaves the log
    /// on disk.
    ///
    /// # Errors
    /// Why it stopped by itself, or why the log may be incomplete.
    pub fn run(mut self) -> Result<(), ServeError> {
        while !self.engine.is_finished() {
            match self.turn() {
                Ok(Wish::Now) => break,
                Ok(_) => {}
                Err(error) => {
                    self.failure = Some(Reason::with(format!("waiting for events failed: {error}"), error));
                    break;
                }
            }
        }
        let finished = self.store.finish();
        self.log.info("stopped", &[]);
        match (self.failure, finished) {
            (Some(reason), _) => Err(ServeError::Failed(reason)),
            (None, Err(reason)) => Err(ServeError::Failed(reason.into())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Waits for events, and handles them in one turn.
    fn turn(&mut self) -> io::Result<Wish> {
        self.wait()?;
        let now = self.clock.now();
        self.supervisor.turned(now.mono);
        self.asked = self.sort_events();
        if let Some(signal) = self.asked.meaningless {
            self.log.info("a signal that means nothing here", &[("signal", &signal)]);
        }
        if self.asked.wish == Wish::Now {
            return Ok(Wish::Now);
        }
        let mut turn = std::mem::take(&mut self.turn);
        let Ok(more) = turn.run(self, now);
        self.turn = turn;
        self.more |= more;
        #[cfg(feature = "testing")]
        self.counts.turn();
        Ok(self.asked.wish)
    }

    fn wait(&mut self) -> io::Result<()> {
        // Before the kernel is asked: what has come by then is told, even if the process is stopped right behind this.
        self.asked_at = self.clock.now().mono;
        let timeout = if self.more || !self.ready.is_empty() || self.listeners.has_more() {
            Some(Duration::ZERO)
        } else {
            let tls = self.tls.as_ref().map(Tls::deadline);
            let due = [self.engine.deadline(), self.listeners.deadline(), self.supervisor.deadline(), tls];
            let due = due.into_iter().flatten().min();
            due.map(|due| Duration::from_millis(due.since(self.asked_at)))
        };
        self.more = false;
        match self.poll.poll(&mut self.events, timeout) {
            // The cause of the interruption arrives as an event of its own.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                self.untold += 1;
                Ok(())
            }
            other => {
                let is_full = self.events.iter().count() >= EVENTS;
                self.untold = if is_full { self.untold + 1 } else { 0 };
                other
            }
        }
    }

    /// Dispatches each event to its source. The flags are hints: only a read or a write shows the actual state.
    fn sort_events(&mut self) -> Asked {
        let mut asked = Asked::NOTHING;
        for event in &self.events {
            match super::tokens::source(event.token()) {
                Source::Waker => {}
                Source::Signals => asked = self.signals.take(self.listeners.are_closed()),
                Source::Listener(number) => self.listeners.ready(number),
                Source::Socket { index, generation } => {
                    let Some((id, socket)) = self.sockets.find(index, generation) else { continue };
                    let has_ended = event.is_read_closed() || event.is_error();
                    if event.is_readable() || has_ended {
                        // Told at once, even to a connection that is not read at present.
                        let is_news = has_ended && !std::mem::replace(&mut socket.hung_up, true);
                        if !std::mem::replace(&mut socket.readable, true) || is_news {
                            self.ready.push(id);
                        }
                    }
                    if event.is_writable() && std::mem::replace(&mut socket.blocked, false) {
                        self.writable.push(id);
                    }
                }
            }
        }
        asked
    }

    /// Tells the engine the server's own host names, in addition to those of the settings.
    pub(super) fn name(&mut self) {
        self.engine.app.known_by(&super::names::own(self.tls.iter().flat_map(Tls::names)));
    }

    /// Reads the settings again.
    fn reload(&mut self) {
        if self.asked.wish == Wish::Stop || self.listeners.are_closed() {
            return self.log.warn("stopping: the settings are not read again", &[]);
        }
        if let Some(tls) = &mut self.tls {
            tls.reload(self.clock.last(), &self.log);
        }
        self.name();
        let Some(reload) = &mut self.reload else {
            return self.log.warn("no settings to read again", &[]);
        };
        reload.run(&mut Parts {
            engine: &mut self.engine,
            store: self.store.as_mut(),
            listeners: &mut self.listeners,
            log: &mut self.log,
            tls: self.tls.as_mut(),
            buffer: &mut self.buffer,
        });
    }

    fn close(&mut self) {
        self.supervisor.stopping();
        self.listeners.close(self.poll.registry());
        self.log.info("stopping", &[("connections", &self.engine.net.count())]);
    }

    /// Starts the same graceful shutdown after a fatal error, but with another exit status.
    fn fail(&mut self, reason: Reason) {
        if self.failure.is_none() {
            self.log.error("cannot go on", &[("reason", &reason)]);
            self.failure = Some(reason);
            if !self.listeners.are_closed() {
                self.close();
            }
            self.engine.handle(Input::Stop);
        }
    }
}

impl<A: App> Edge for Loop<A> {
    type App = A;
    type Failure = Infallible;

    fn engine(&mut self) -> &mut Engine<A> {
        &mut self.engine
    }

    fn begin_part(&mut self, part: Part) {
        let time = match part {
            Part::Reading | Part::Delivering | Part::Writing => PART,
            Part::Handshaking => HANDSHAKES,
            Part::ReadingAhead => AHEAD,
        };
        self.part_until = Instant::now() + time;
        self.each_look = if part == Part::Writing { WRITES_A_LOOK } else { 1 };
        self.unlooked = 0;
    }

    fn has_time(&mut self) -> bool {
        #[cfg(feature = "testing")]
        self.counts.work();
        self.unlooked += 1;
        if self.unlooked < self.each_look {
            return true;
        }
        self.unlooked = 0;
        Instant::now() < self.part_until
    }

    fn work(&mut self) -> usize {
        self.pace.within(PART)
    }

    fn worked(&mut self, done: usize) {
        if Pace::tells(done) {
            // A part begins when it has all its time left.
            let begun = self.part_until.checked_sub(PART).unwrap_or(self.part_until);
            self.pace.note(done, begun.elapsed());
        }
    }

    fn reload_if_asked(&mut self) {
        let now = self.clock.last();
        if let Some(tls) = self.tls.as_mut().filter(|tls| tls.deadline() <= now.mono) {
            let has_read = tls.look(now, &self.log);
            if has_read {
                self.name();
            }
        }
        if self.asked.reload {
            self.reload();
        }
    }

    fn accept(&mut self) {
        let now = self.clock.last();
        let openings = self.engine.net.openings();
        let (registry, tls) = (self.poll.registry(), self.tls.as_ref());
        let opened = self.listeners.accept(registry, &mut self.sockets, tls, openings, now, &self.log);
        // Set before the requests of these connections are read.
        let is_short = openings == 0;
        self.engine.net.set_full(is_short || self.listeners.is_full(&self.sockets));
        self.engine.net.set_places((!is_short).then(|| self.listeners.max_connections()));
        match opened {
            Ok(list) => {
                for input in list {
                    self.engine.handle(input);
                }
            }
            Err(reason) => self.fail(reason),
        }
    }

    fn take_ready(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.ready);
    }

    /// The kernel names those that are ready in turn, so that after as many times as it takes for all, it has.
    fn asked_at(&self) -> Option<Millis> {
        let is_told = self.untold == 0 || self.untold > self.engine.net.count() / EVENTS + 1;
        is_told.then_some(self.asked_at)
    }

    fn is_cheap_to_read(&mut self, conn: ConnId) -> bool {
        self.sockets.get(conn).is_some_and(|socket| !socket.is_handshaking())
    }

    /// Reads at most a buffer full; a socket with more to read is ready in the next turn, too.
    fn read(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get(conn) else { return };
        if !self.engine.may_read(conn) {
            // The bytes wait in the kernel until the engine resumes this connection.
            if socket.hung_up {
                self.engine.handle(Input::HungUp { conn });
            }
            return;
        }
        let read = socket.read(&mut self.buffer, &mut self.scratch);
        let growth = socket.growth();
        if socket.wants_write() {
            self.writable.push(conn);
            self.engine.net.has_begun_tls(conn);
        }
        self.engine.net.grows_beside(conn, growth);
        match read {
            Received::Some { bytes, more } => {
                if more {
                    self.ready.push(conn);
                }
                // With TLS, a read may have brought no whole record.
                if !bytes.is_empty() {
                    self.engine.handle(Input::Bytes { conn, bytes });
                }
            }
            Received::Nothing => {}
            Received::End => self.engine.handle(Input::Ended { conn }),
            Received::Failed => self.engine.handle(Input::Lost { conn }),
            Received::Broken(fault) => {
                self.facts.log_tls(&self.log, conn, &fault, self.clock.last().mono);
                self.engine.handle(Input::Lost { conn });
            }
            Received::PlainHttp => {
                socket.speak_plainly();
                self.engine.handle(Input::WrongProtocol { conn, detail: PLAIN_ON_TLS });
            }
        }
    }

    fn unread(&mut self, conn: ConnId) -> u64 {
        self.sockets.get(conn).map_or(0, |socket| socket.unread())
    }

    fn close_if_asked(&mut self) -> bool {
        let is_asked = self.asked.wish == Wish::Stop && !self.listeners.are_closed();
        if is_asked {
            self.close();
        }
        is_asked
    }

    fn submit(&mut self, requests: &mut Vec<StoreRequest>) -> Result<(), Infallible> {
        self.store.submit(requests);
        Ok(())
    }

    fn is_inline(&self) -> bool {
        self.store.is_inline()
    }

    fn take_answers(&mut self, answers: &mut Vec<StoreEvent>) {
        self.store.take(answers);
    }

    fn answer(&mut self, answer: StoreEvent) {
        let died = match &answer {
            StoreEvent::Died(reason) => Some(Reason::from(format!("the store ended: {reason}"))),
            _ => None,
        };
        self.engine.handle(Input::Store(answer));
        if let Some(reason) = died {
            self.fail(reason);
        }
    }

    fn take_writable(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.writable);
    }

    /// Makes one vectored write, unless the socket is known to be full.
    fn write(&mut self, conn: ConnId) -> Option<Written> {
        let socket = self.sockets.get(conn)?;
        let queue = self.engine.queue(conn)?;
        let written = socket.write(queue, &mut self.scratch);
        self.engine.net.grows_beside(conn, socket.growth());
        Some(written)
    }

    fn shut_down(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get(conn) {
            socket.shut_down();
        }
    }

    fn keep(&mut self, conn: ConnId) {
        self.sockets.keep(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        if self.sockets.get(conn).is_some_and(|socket| socket.readable) {
            self.ready.push(conn);
        }
    }

    fn log(&mut self, fact: Fact) {
        self.facts.log(&self.log, fact, self.clock.last().mono);
    }

    fn free(&mut self, closed: &mut Vec<ConnId>) {
        for conn in closed.drain(..) {
            self.sockets.remove(conn);
        }
        self.facts.tell_left_out(&self.log, self.clock.last().mono);
        self.listeners.freed(self.sockets.count());
    }
}
