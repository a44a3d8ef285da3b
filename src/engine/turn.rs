//! The order of a turn, for every loop around an engine. The server and the simulator run this same function, so what
//! holds in one holds in the other.

use super::fair_line::FairLine;
use super::line::Line;
use super::weighing::Measuring;
use super::{App, Connections, Engine, Fact, Input, Now, Output};

use crate::store::{StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis};

/// Connects an engine to listeners, sockets and a store: real ones, or simulated ones.
pub trait Edge {
    type App: App;
    /// Why the loop cannot go on.
    type Failure;

    fn engine(&mut self) -> &mut Engine<Self::App>;

    /// Begins a part of a turn that has a time of its own.
    fn begin_part(&mut self, part: Part);

    /// Returns whether the part that began last may go on: it has not taken longer than everyone may wait for it.
    fn has_time(&mut self) -> bool;

    /// Returns how much the end of this turn may deliver in the time of a part. A delivery cannot be interrupted by the
    /// clock, so its cost is known from earlier turns.
    fn work(&mut self) -> usize;

    /// Notes that the part that began last made this many deliveries, or what costs as much.
    fn worked(&mut self, done: usize);

    /// Applies new settings, if a reload was requested. Runs before [`Edge::read`], so that this turn already reads
    /// within the new limits.
    fn reload_if_asked(&mut self);

    /// Accepts connections, within a bound, and tells the engine about each.
    fn accept(&mut self);

    /// Adds the connections whose sockets have become readable to the list.
    fn take_ready(&mut self, list: &mut Vec<ConnId>);

    /// Returns when the sockets were last asked for what they have, if all that had something have been named since. A
    /// peer whose deadline was over by then, and of which nothing is there, is late. Returns `None` if more may be
    /// there.
    fn asked_at(&self) -> Option<Millis>;

    /// Returns whether a read of this socket costs little: it has no handshake of TLS to make.
    fn is_cheap_to_read(&mut self, conn: ConnId) -> bool;

    /// Reads once from a socket, if the engine allows it to be read, and feeds the engine. If there may be more to
    /// read, [`Edge::take_ready`] names the connection again. If it may not be read, and its peer has hung up, the
    /// engine is told that instead.
    fn read(&mut self, conn: ConnId);

    /// Returns how many bytes of this connection the kernel holds unread.
    fn unread(&mut self, conn: ConnId) -> u64;

    /// Closes the listeners, if a shutdown was requested and they are open. Returns true then: the engine is told a
    /// turn later, so that requests that had been sent by now are still read and answered, also over connections that
    /// were accepted just before.
    fn close_if_asked(&mut self) -> bool;

    /// Hands the requests to the store, and leaves the list empty.
    ///
    /// # Errors
    /// The loop cannot go on.
    fn submit(&mut self, requests: &mut Vec<StoreRequest>) -> Result<(), Self::Failure>;

    /// Returns true if the store's answers are there as soon as [`Edge::submit`] returns, without an event.
    fn is_inline(&self) -> bool;

    /// Adds the store's answers that have arrived to the list.
    fn take_answers(&mut self, answers: &mut Vec<StoreEvent>);

    /// Hands one answer to the engine.
    fn answer(&mut self, answer: StoreEvent) {
        self.engine().handle(Input::Store(answer));
    }

    /// Adds the sockets that have become writable to the list.
    fn take_writable(&mut self, list: &mut Vec<ConnId>);

    /// Writes from a connection's queue, once. Returns `None` if there is no such socket.
    fn write(&mut self, conn: ConnId) -> Option<Written>;

    /// Shuts the sending side of a socket.
    fn shut_down(&mut self, conn: ConnId);

    /// Counts a socket in excess among the others: its connection has a place now.
    fn keep(&mut self, conn: ConnId);

    /// Reads from this socket again in the next turn, if it has data.
    fn resume(&mut self, conn: ConnId);

    /// Writes this fact to the log.
    fn log(&mut self, fact: Fact);

    /// Closes these sockets, and leaves the list empty. Their ids may be used again from now on.
    fn free(&mut self, closed: &mut Vec<ConnId>);
}

/// A part of a turn, by what one step of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A read, with all that follows from it: up to 32 requests.
    Reading,
    /// A read that makes a handshake of TLS go on, which may take milliseconds.
    Handshaking,
    /// A read that is answered only if it asks for a static page or a health check.
    ReadingAhead,
    /// All deliveries and pages that the edge allows.
    Delivering,
    /// A write of what waits for one connection, which takes microseconds.
    Writing,
}

/// The result of a write to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The bytes that the kernel took; 0 if its buffer is full.
    Some(usize),
    Failed,
}

/// The number of ready connections up to which one turn serves all of them soon enough in any order.
const FEW: usize = 8;

/// Runs turns. Between turns it keeps only the capacity of its lists.
#[derive(Debug, Default)]
pub struct Turn {
    requests: Vec<StoreRequest>,
    answers: Vec<StoreEvent>,
    /// Connections to read.
    ready: FairLine,
    /// Those whose read costs much: otherwise all others would wait behind a signature for each of them.
    handshaking: FairLine,
    /// Those of them that may ask for something light, and were not looked at for that.
    ahead: FairLine,
    /// Connections that have just become ready, or have something to write.
    fresh: Vec<ConnId>,
    /// Connections that earlier turns had no time to flush, in order.
    backlog: Line,
    closed: Vec<ConnId>,
    /// The listeners are closed, and the next turn is the last one that reads before the engine shuts down.
    is_last_to_read: bool,
}

impl Turn {
    /// Runs one turn: reads, decides, stores, answers, flushes, ends what is over, frees. Reading and flushing stop
    /// when their time is over, and the next turn goes on where they stopped. The order is the point: no socket is
    /// freed before the whole batch of events is handled, no message is delivered before it is stored, and nobody is
    /// late whose bytes are there. Returns true if something is left over that no event will announce, so that the
    /// next turn must not wait.
    ///
    /// # Errors
    /// The loop cannot go on.
    pub fn run<E: Edge>(&mut self, edge: &mut E, now: Now) -> Result<bool, E::Failure> {
        edge.engine().begin_turn(now);
        edge.reload_if_asked();
        // A guess of what the kernel may hold unread would turn newcomers away.
        self.measure(edge, Measuring::BeforeReads);
        edge.accept();
        self.read(edge);
        if std::mem::take(&mut self.is_last_to_read) {
            edge.engine().handle(Input::Stop);
        }
        self.is_last_to_read = edge.close_if_asked();
        self.consult_store(edge)?;
        edge.begin_part(Part::Delivering);
        let work = edge.work();
        let done = edge.engine().end_turn(work);
        edge.worked(done);
        self.flush(edge);
        self.expire(edge);
        self.carry_out(edge);
        self.ready.forget(&self.closed);
        self.handshaking.forget(&self.closed);
        self.ahead.forget(&self.closed);
        self.backlog.forget(&self.closed);
        edge.free(&mut self.closed);
        self.hand_over(edge)
    }

    /// Reads once from each connection that is ready, or parses what was read from it before, while there is time, and
    /// from one at least.
    fn read<E: Edge>(&mut self, edge: &mut E) {
        edge.engine().take_unread(&mut self.fresh);
        edge.take_ready(&mut self.fresh);
        edge.begin_part(Part::Reading);
        let mut fresh = std::mem::take(&mut self.fresh);
        let mut has_time = true;
        if self.ready.is_empty() && fresh.len() <= FEW {
            for place in (1..fresh.len()).rev() {
                if fresh[..place].contains(&fresh[place]) {
                    fresh.remove(place);
                }
            }
            let mut done = 0;
            while has_time && let Some(conn) = fresh.get(done).copied() {
                if edge.engine().net.get(conn).is_some() {
                    match edge.is_cheap_to_read(conn) {
                        true => read(edge, conn),
                        false => self.line_up(edge, conn),
                    }
                    has_time = edge.has_time();
                }
                done += 1;
            }
            fresh.drain(..done);
        }
        for conn in fresh.drain(..) {
            self.line_up(edge, conn);
        }
        self.fresh = fresh;
        while has_time && let Some(conn) = self.ready.next() {
            read(edge, conn);
            has_time = edge.has_time();
        }
        self.read_ahead(edge);
        self.go_on_with_handshakes(edge);
        self.measure(edge, Measuring::BehindReads);
    }

    /// Reads from those who make a handshake of TLS, while there is time for that, and from one at least. Addresses
    /// take turns at it, and everybody else goes first, however many handshakes there are.
    fn go_on_with_handshakes<E: Edge>(&mut self, edge: &mut E) {
        if self.handshaking.is_empty() {
            return;
        }
        edge.begin_part(Part::Handshaking);
        while let Some(conn) = self.handshaking.next() {
            read(edge, conn);
            if !edge.has_time() {
                break;
            }
        }
    }

    /// Asks the kernel what it holds unread, if that may be too much.
    fn measure<E: Edge>(&self, edge: &mut E, now: Measuring) {
        if let Some(stalled) = edge.engine().net.note_unserved(self.ready.len() + self.handshaking.len(), now) {
            let waiting = self.ready.iter().chain(self.handshaking.iter());
            let unread: Vec<_> = waiting.chain(stalled).map(|conn| (conn, edge.unread(conn))).collect();
            edge.engine().net.measured(unread.into_iter(), now);
        }
    }

    /// Puts a connection into the line, if it is not gone: what was noted of one before it was freed would otherwise
    /// hold the place of the next that has its index, which then would never be served.
    fn line_up<E: Edge>(&mut self, edge: &mut E, conn: ConnId) {
        if edge.engine().net.get(conn).is_none() {
            return;
        }
        let of = edge.engine().net.takes_turns_as(conn);
        if !edge.is_cheap_to_read(conn) {
            return self.handshaking.join(conn, of);
        }
        self.ready.join(conn, of);
        if edge.engine().may_be_light(conn) {
            self.ahead.join(conn, of);
        }
    }

    /// Answers static pages and health checks of those to whom this turn did not come, in a time that only they have.
    /// The order is the same: the first connection of each address comes first. Whatever else they ask waits, parsed,
    /// for its turn, so that it is looked at once; a connection of which a whole request waits keeps its place.
    fn read_ahead<E: Edge>(&mut self, edge: &mut E) {
        if self.ready.is_empty() {
            return self.ahead.clear();
        }
        edge.begin_part(Part::ReadingAhead);
        let mut served = Vec::new();
        while let Some(conn) = self.ahead.next() {
            let waits = self.ready.has(conn) && edge.engine().may_be_light(conn);
            if !waits {
                continue;
            }
            edge.engine().answer_light_alone(true);
            read(edge, conn);
            edge.engine().answer_light_alone(false);
            if !edge.engine().has_its_turn_to_come(conn) {
                served.push(conn);
            }
            if !edge.has_time() {
                break;
            }
        }
        self.ready.forget(&served);
    }

    /// Submits the requests to the store, and handles the answers that are there; the memory log answers at once.
    fn consult_store<E: Edge>(&mut self, edge: &mut E) -> Result<(), E::Failure> {
        edge.engine().take_requests(&mut self.requests);
        edge.submit(&mut self.requests)?;
        edge.take_answers(&mut self.answers);
        for answer in self.answers.drain(..) {
            edge.answer(answer);
        }
        Ok(())
    }

    /// Writes once to each connection that has something to write, while there is time. Those of this turn and those
    /// that were left over have a time of their own each: an answer does not wait behind a large room, and a large room
    /// is not put off for ever by answers.
    fn flush<E: Edge>(&mut self, edge: &mut E) {
        edge.begin_part(Part::Writing);
        let mut done = 0;
        while let Some(conn) = self.backlog.get(done) {
            write(edge, conn);
            done += 1;
            if !edge.has_time() {
                break;
            }
        }
        self.backlog.serve(done);
        edge.engine().take_dirty(&mut self.fresh);
        edge.take_writable(&mut self.fresh);
        edge.begin_part(Part::Writing);
        let mut fresh = self.fresh.drain(..);
        for conn in fresh.by_ref() {
            write(edge, conn);
            if !edge.has_time() {
                break;
            }
        }
        join(&mut self.backlog, fresh, &edge.engine().net);
    }

    /// Ends the time of those whose deadline is over. Whoever waits to be read or written to has time until then: it is
    /// the server that is late.
    fn expire<E: Edge>(&self, edge: &mut E) {
        if let Some(asked_at) = edge.asked_at() {
            let waits = |conn| self.ready.has(conn) || self.handshaking.has(conn) || self.backlog.has(conn);
            edge.engine().expire(asked_at, waits);
        }
    }

    fn carry_out<E: Edge>(&mut self, edge: &mut E) {
        while let Some(output) = edge.engine().poll_output() {
            match output {
                Output::Shutdown(conn) => edge.shut_down(conn),
                Output::Close(conn) => self.closed.push(conn),
                Output::Keep(conn) => edge.keep(conn),
                Output::Resume(conn) => edge.resume(conn),
                Output::Log(fact) => edge.log(fact),
            }
        }
    }

    /// Submits the requests that came up since: they go to the store now, not with the next event.
    fn hand_over<E: Edge>(&mut self, edge: &mut E) -> Result<bool, E::Failure> {
        let mut more = false;
        edge.engine().take_requests(&mut self.requests);
        if !self.requests.is_empty() {
            more |= edge.is_inline();
            edge.submit(&mut self.requests)?;
        }
        let is_left_over = !self.ready.is_empty() || !self.handshaking.is_empty() || !self.backlog.is_empty();
        Ok(more || is_left_over || self.is_last_to_read || edge.engine().has_dirty())
    }
}

/// Puts connections at the end of a line, except those that are gone: what was noted of one before it was freed would
/// otherwise hold the place of the next that has its index, which then would never be served.
fn join(line: &mut Line, list: impl Iterator<Item = ConnId>, net: &Connections) {
    for conn in list.filter(|conn| net.get(*conn).is_some()) {
        line.join(conn);
    }
}

/// Makes a connection go on with what is here, or reads its socket.
fn read<E: Edge>(edge: &mut E, conn: ConnId) {
    if !edge.engine().read_on(conn) {
        edge.read(conn);
    }
}

/// Writes once to a connection.
fn write<E: Edge>(edge: &mut E, conn: ConnId) {
    match edge.write(conn) {
        Some(Written::Some(taken)) => edge.engine().handle(Input::Wrote { conn, taken }),
        Some(Written::Failed) => edge.engine().handle(Input::Lost { conn }),
        None => {}
    }
}
