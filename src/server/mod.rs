//! The edge: one mio loop that owns the listeners, every socket and the clock, feeds the engine with what came, and
//! carries out what it wants. It decides nothing about protocols; what a turn is can be read in [`Loop::turn`].

mod accept;
mod activation;
mod clock;
mod facts;
pub mod log;
pub mod memory;
mod reload;
pub mod sealed_key;
mod setup;
mod signals;
mod sockets;
mod supervisor;
mod tokens;

pub use accept::Listeners;
pub use activation::given_listeners;
pub use setup::{
    RESERVED, admission, check, conn_limits, connections_for, open_files, raise_open_files, run, store_bounds,
};
pub use tokens::WAKER;

use std::io;
use std::time::Duration;

use mio::{Events, Poll};

use crate::engine::{App, Engine, Input, Output};
use crate::store::{Store, StoreEvent, StoreRequest};
use crate::types::ConnId;
use clock::Clock;
use log::Log;
use reload::{Parts, Reload};
use signals::{Asked, Signals, Wish};
use sockets::{Read, Sockets, Written};
use supervisor::Supervisor;
use tokens::Source;

/// Why the server ended other than by a wish to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// It could not start: a mistake in the settings or in what surrounds it. Exit code 2.
    Start(String),
    /// It stopped by itself. Exit code 1.
    Failed(String),
}

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Everything the server owns.
pub struct Loop<A> {
    poll: Poll,
    events: Events,
    listeners: Listeners,
    sockets: Sockets,
    signals: Signals,
    engine: Engine<A>,
    store: Store,
    clock: Clock,
    log: Log,
    facts: facts::Facts,
    supervisor: Supervisor,
    reload: Option<Reload>,
    /// The one read buffer: as long as a connection's share of a turn.
    buffer: Vec<u8>,
    /// Sockets with bytes that no further edge will announce.
    ready: Vec<ConnId>,
    /// Sockets that can be written again.
    writable: Vec<ConnId>,
    /// Kept for their capacity.
    requests: Vec<StoreRequest>,
    answers: Vec<StoreEvent>,
    dirty: Vec<ConnId>,
    closed: Vec<ConnId>,
    /// Something is left over that no event will announce: the next turn does not wait.
    more: bool,
    failure: Option<String>,
}

impl<A: App> Loop<A> {
    /// A loop that is ready to turn. `read_budget` is in bytes.
    ///
    /// # Errors
    /// The poll cannot watch signals.
    pub fn new(
        poll: Poll,
        listeners: Listeners,
        engine: Engine<A>,
        store: Store,
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
            facts: facts::Facts::default(),
            supervisor: Supervisor::default(),
            reload: None,
            buffer: vec![0; read_budget],
            ready: Vec::new(),
            writable: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            dirty: Vec::new(),
            closed: Vec::new(),
            more: false,
            failure: None,
        })
    }

    /// Has this supervisor told what comes.
    fn supervised(mut self, supervisor: Supervisor) -> Loop<A> {
        self.supervisor = supervisor;
        self
    }

    /// Has SIGHUP read the settings again. Without this, there are none to read.
    pub fn reloading(mut self, reload: Reload) -> Loop<A> {
        self.reload = Some(reload);
        self
    }

    /// Turns until the server is told to stop, or cannot go on; either way in order, with the log on disk.
    ///
    /// # Errors
    /// Why it stopped by itself, or why the log may not be complete.
    pub fn run(mut self) -> Result<(), ServeError> {
        while !self.engine.is_finished() {
            match self.turn() {
                Ok(Wish::Now) => break,
                Ok(_) => {}
                Err(error) => {
                    self.failure = Some(format!("waiting for events failed: {error}"));
                    break;
                }
            }
        }
        let finished = self.store.finish();
        self.log.info("stopped", &[]);
        match (self.failure, finished) {
            (Some(reason), _) | (None, Err(reason)) => Err(ServeError::Failed(reason)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// One turn: wait, take what came, decide, store, answer, flush, free. The order is the point: nothing is freed
    /// before the whole batch of events is dealt with, and nothing is told that is not stored.
    fn turn(&mut self) -> io::Result<Wish> {
        self.wait()?;
        let now = self.clock.now();
        self.supervisor.turned(now.mono);
        self.engine.handle(Input::Time(now));
        let Asked { wish, reload } = self.sort_events();
        if wish == Wish::Now {
            return Ok(wish);
        }
        if reload {
            self.reload(wish == Wish::Stop);
        }
        self.accept();
        self.read();
        if wish == Wish::Stop {
            // Not before the reading: what clients had sent before the signal is still taken.
            self.stop();
        }
        self.consult_store();
        self.engine.end_turn();
        self.flush();
        self.carry_out();
        self.free();
        self.hand_over();
        Ok(wish)
    }

    fn wait(&mut self) -> io::Result<()> {
        let timeout = if self.more || !self.ready.is_empty() || self.listeners.has_more() {
            Some(Duration::ZERO)
        } else {
            let due = [self.engine.deadline(), self.listeners.deadline(), self.supervisor.deadline()];
            let due = due.into_iter().flatten().min();
            due.map(|due| Duration::from_millis(due.since(self.clock.now().mono)))
        };
        self.more = false;
        match self.poll.poll(&mut self.events, timeout) {
            // Whatever interrupted it comes as an event of its own.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Puts each event where it belongs. Flags are hints: a read or a write decides.
    fn sort_events(&mut self) -> Asked {
        let mut asked = Asked { wish: Wish::Go, reload: false };
        for event in &self.events {
            match tokens::source(event.token()) {
                Source::Waker => {}
                Source::Signals => asked = self.signals.take(self.engine.is_stopping()),
                Source::Listener(number) => self.listeners.ready(number),
                Source::Socket { index, generation } => {
                    let Some((id, socket)) = self.sockets.find(index, generation) else { continue };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        socket.hung_up |= event.is_read_closed() || event.is_error();
                        if !std::mem::replace(&mut socket.readable, true) {
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

    /// Before anything is read in this turn: it is read within the new limits.
    fn reload(&mut self, stops: bool) {
        if stops || self.engine.is_stopping() {
            return self.log.warn("stopping: the settings are not read again", &[]);
        }
        let Some(reload) = &mut self.reload else {
            return self.log.warn("no settings to read again", &[]);
        };
        reload.run(&mut Parts {
            engine: &mut self.engine,
            store: &mut self.store,
            listeners: &mut self.listeners,
            log: &mut self.log,
            buffer: &mut self.buffer,
        });
    }

    fn stop(&mut self) {
        self.supervisor.stopping();
        self.listeners.close(self.poll.registry());
        self.log.info("stopping", &[("connections", &self.engine.net.count())]);
        self.engine.handle(Input::Stop);
    }

    /// The server cannot go on: the same orderly stop, and another exit status.
    fn fail(&mut self, reason: String) {
        if self.failure.is_none() {
            self.log.error("cannot go on", &[("reason", &reason)]);
            self.failure = Some(reason);
            self.stop();
        }
    }

    fn accept(&mut self) {
        let now = self.clock.last();
        let opened = self.listeners.accept(self.poll.registry(), &mut self.sockets, now, &self.log);
        match opened {
            Ok(list) => {
                for input in list {
                    self.engine.handle(input);
                }
            }
            Err(reason) => self.fail(reason),
        }
    }

    /// One read for each socket that has something, at most a buffer full; who has more is first in line next turn.
    fn read(&mut self) {
        for conn in std::mem::take(&mut self.ready) {
            if !self.engine.may_read(conn) {
                // Its bytes wait in the kernel until the engine says so.
                continue;
            }
            let Some(socket) = self.sockets.get(conn) else { continue };
            match socket.read(&mut self.buffer) {
                Read::Some { bytes, more } => {
                    if more {
                        self.ready.push(conn);
                    }
                    self.engine.handle(Input::Bytes { conn, bytes });
                }
                Read::Nothing => {}
                Read::End => self.engine.handle(Input::Ended { conn }),
                Read::Failed => self.engine.handle(Input::Lost { conn }),
            }
        }
    }

    /// Hands over what is to be stored, and takes the answers that are there: those of the memory log at once.
    fn consult_store(&mut self) {
        self.engine.take_requests(&mut self.requests);
        self.store.submit(&mut self.requests);
        self.store.take(&mut self.answers);
        if !self.answers.is_empty() {
            self.facts.watch_wal(&self.log, self.store.wal_bytes(), self.clock.last().mono);
        }
        for event in std::mem::take(&mut self.answers) {
            let died = match &event {
                StoreEvent::Died(reason) => Some(format!("the store ended: {reason}")),
                _ => None,
            };
            self.engine.handle(Input::Store(event));
            if let Some(reason) = died {
                self.fail(reason);
            }
        }
    }

    /// What came up since: it goes to the store now, not with the next event.
    fn hand_over(&mut self) {
        self.engine.take_requests(&mut self.requests);
        if !self.requests.is_empty() {
            self.more |= self.store.is_inline();
            self.store.submit(&mut self.requests);
        }
        self.more |= self.engine.has_dirty();
    }

    /// One vectored write for each connection with something to say, unless its socket is known to be full.
    fn flush(&mut self) {
        let mut list = std::mem::take(&mut self.dirty);
        list.clear();
        self.engine.take_dirty(&mut list);
        list.append(&mut self.writable);
        for &conn in &list {
            let Some(socket) = self.sockets.get(conn) else { continue };
            let Some(queue) = self.engine.queue(conn) else { continue };
            match socket.write(queue) {
                Written::Some(taken) => self.engine.handle(Input::Wrote { conn, taken }),
                Written::Failed => self.engine.handle(Input::Lost { conn }),
            }
        }
        self.dirty = list;
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Shutdown(conn) => {
                    if let Some(socket) = self.sockets.get(conn) {
                        socket.shut_down();
                    }
                }
                Output::Close(conn) => self.closed.push(conn),
                Output::Resume(conn) => {
                    if self.sockets.get(conn).is_some_and(|socket| socket.readable) {
                        self.ready.push(conn);
                    }
                }
                Output::Log(fact) => self.facts.tell(&self.log, fact, self.clock.last().mono),
            }
        }
    }

    /// Slots become free only here, behind the whole batch: no late event can meet a successor.
    fn free(&mut self) {
        for conn in self.closed.drain(..) {
            self.sockets.remove(conn);
        }
        self.listeners.freed(self.sockets.count());
    }
}
