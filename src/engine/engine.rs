//! The engine: it hands each [`Input`] to its connection, hands the resulting steps to the app, and carries out a
//! graceful shutdown.

use super::app::App;
use super::connections::Connections;
use super::handshakes::Called;
use super::slot::Reading;
use super::values::{Fact, Input, Limits, Now, Output};
use super::weighing::Relief;
use crate::conn::{Connection, Door, Ending, Step, Timeout, WriteQueue};
use crate::http::headers::Headers;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::store::StoreRequest;
use crate::types::{ConnId, Millis, SessionSlot};
use crate::ws::code;

/// How much a connection parses in one go before the others have their turn: so many frames or requests, or so many
/// times [`WORK_BYTES`].
const WORK: usize = 32;
/// Bytes that are as much work as one more frame.
const WORK_BYTES: usize = 4096;

/// The reason of a close for want of memory.
pub const SHORT_OF_MEMORY: &str = "the server is short of memory";

pub struct Engine<A> {
    pub net: Connections,
    pub app: A,
    stop: Stop,
    /// Milliseconds.
    drain_timeout: u64,
    /// The end of the last turn left something for the next one.
    unfinished: bool,
    /// Only light requests are answered at present: see [`App::is_light`].
    light_alone: bool,
}

/// How far a graceful shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Accepted messages are being committed, until this time at the latest.
    Settling {
        until: Millis,
        deadline: Millis,
    },
    /// Every client was told and is being closed. Connections left at the deadline are dropped.
    Leaving {
        deadline: Millis,
    },
}

impl<A: App> Engine<A> {
    /// Returns an engine without connections; `drain_timeout` is in milliseconds.
    pub fn new(net: Connections, app: A, drain_timeout: u64) -> Engine<A> {
        Engine { net, app, stop: Stop::No, drain_timeout, unfinished: false, light_alone: false }
    }

    /// Returns how long a graceful shutdown may take, in milliseconds.
    pub fn drain_timeout(&self) -> u64 {
        self.drain_timeout
    }

    /// Returns the bytes that racerd holds, and the bytes that the kernel may hold, for connections and rooms.
    pub fn held(&self) -> (u64, u64) {
        self.net.held(self.app.memory())
    }

    /// Returns whether the socket may be read. If it may not, an [`Output::Resume`] follows once it may.
    pub fn may_read(&mut self, conn: ConnId) -> bool {
        self.net.may_read(conn)
    }

    /// Returns the write queue of a connection.
    pub fn queue(&self, conn: ConnId) -> Option<&WriteQueue> {
        self.net.get(conn).map(|c| &c.queue)
    }

    /// Returns whether a connection has something to write or bytes to parse, or work is left over from this turn or
    /// has come up since.
    pub fn has_dirty(&self) -> bool {
        self.app.is_unfinished() || self.net.has_dirty() || self.net.has_unread() || self.net.has_handshakes()
    }

    /// Adds the connections to the list of which bytes are here that may be parsed now: each is to get its
    /// [`Engine::read_on`].
    pub fn take_unread(&mut self, list: &mut Vec<ConnId>) {
        self.net.take_unread(list);
    }

    /// Returns when the next turn is due: now, if something is left over from this turn.
    pub fn deadline(&self) -> Option<Millis> {
        if self.app.is_unfinished() {
            return Some(self.net.now().mono);
        }
        let stop = match self.stop {
            Stop::No => None,
            Stop::Settling { until, .. } => Some(until),
            // Without connections there is nothing to wait for.
            Stop::Leaving { deadline } => (self.net.count() > 0).then_some(deadline),
        };
        [self.net.deadline(), self.app.deadline(), stop].into_iter().flatten().min()
    }

    pub fn is_stopping(&self) -> bool {
        self.stop != Stop::No
    }

    /// Returns whether the shutdown that [`Input::Stop`] began is complete: every client was told and is gone.
    pub fn is_finished(&self) -> bool {
        matches!(self.stop, Stop::Leaving { .. }) && self.net.count() == 0
    }

    /// Answers, from now on, one light request of each connection that is read and no other one, or all again.
    pub fn answer_light_alone(&mut self, light_alone: bool) {
        self.light_alone = light_alone;
    }

    /// Returns whether the next thing that a connection asks may be light.
    pub fn may_be_light(&self, conn: ConnId) -> bool {
        self.net.get(conn).is_some_and(|connection| connection.is_http() && !connection.is_waiting())
    }

    /// Returns whether a connection has asked for something that waits for its turn.
    pub fn has_its_turn_to_come(&self, conn: ConnId) -> bool {
        matches!(self.net.get(conn).and_then(Connection::door), Some(Door::Turn(_)))
    }

    /// Handles one input, and everything that it makes possible.
    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::Opened { conn, peer, secure } => {
                let connection = Connection::new(peer, self.net.now().mono);
                self.net.open(conn, connection, secure);
            }
            Input::Excess { conn, peer, secure } => {
                let mut connection = Connection::in_excess(peer, self.net.now().mono);
                let idle = self.net.next_idle(peer.ip());
                if let Some(idle) = idle {
                    self.end(idle, Ending::Idle);
                }
                if idle.is_some() || self.net.has_place() {
                    connection.keep();
                    self.net.push_output(Output::Keep(conn));
                }
                self.net.open(conn, connection, secure);
            }
            Input::Bytes { conn, bytes } => self.bytes(conn, bytes),
            Input::WrongProtocol { conn, detail } => self.net.turn_away(conn, Problem::new(Status::BadRequest, detail)),
            Input::Ended { conn } => self.ended(conn),
            Input::HungUp { conn } => self.hung_up(conn),
            Input::Lost { conn } => self.end(conn, Ending::Reset),
            Input::Wrote { conn, taken } => self.wrote(conn, taken),
            Input::Store(event) => self.app.store(&mut self.net, event),
            Input::Stop => self.begin_stop(),
        }
        self.settle();
    }

    /// Applies new limits, also to open connections. A shutdown in progress keeps the drain timeout with which it
    /// began.
    pub fn set_limits(&mut self, limits: Limits<A::Limits>) {
        self.app.set_limits(&mut self.net, limits.app);
        self.drain_timeout = limits.drain_timeout;
        self.net.set_budget(limits.memory);
        self.net.set_limits(limits.connections, limits.admission);
        self.settle();
    }

    /// Begins a turn at this time. [`Engine::expire`] is to follow in it.
    pub fn begin_turn(&mut self, now: Now) {
        self.net.set_now(now);
        self.relieve();
        self.app.time(&mut self.net);
        self.call_handshakes();
        self.advance_stop();
        self.settle();
    }

    /// Ends the time of the peers whose deadline is over at `until`, which is no later than this turn, but for those
    /// that wait for the server itself.
    pub fn expire(&mut self, until: Millis, waits: impl Fn(ConnId) -> bool) {
        let now = self.net.now();
        while let Some(conn) = self.net.pop_due(until.min(now.mono)) {
            if waits(conn) {
                self.net.arm_after(conn, now.mono);
                continue;
            }
            let (_, limits) = self.net.clock_and_limits();
            let Some(connection) = self.net.get_mut(conn) else { continue };
            let session = connection.session();
            match connection.timeout(now.mono, &limits) {
                Timeout::Nothing => {}
                Timeout::Late(problem, headers) => self.refused(conn, &headers, problem),
                Timeout::Waited => self.net.waited(conn),
                Timeout::Full => self.net.turn_away(conn, Problem::full()),
                Timeout::Ended(ending) => self.session_over(conn, session, ending),
                Timeout::Drop(ending) => {
                    self.session_over(conn, session, ending);
                    self.drop(conn, ending);
                }
            }
            self.net.mark_dirty(conn);
            self.net.arm_after(conn, now.mono);
        }
        self.app.expire(until);
        self.settle();
    }

    /// Makes the handshakes that are due of those who wait, and refuses those who have waited for too long.
    fn call_handshakes(&mut self) {
        let mut made = 0;
        while let Some(called) = self.net.next_called(&mut made) {
            let conn = match called {
                Called::In(conn, request) => {
                    self.app.request(&mut self.net, conn, request, Vec::new());
                    conn
                }
                Called::Off(conn, request, problem) => {
                    self.net.refuse(conn, problem, Some(&request));
                    conn
                }
            };
            self.net.mark_dirty(conn);
            self.net.arm(conn);
        }
    }

    /// Closes connections while more memory is held than may be.
    fn relieve(&mut self) {
        let app = self.app.memory();
        let chosen = self.net.relieve(app);
        if chosen.is_empty() {
            return;
        }
        self.net.log(Fact::ShortOfMemory { closed: chosen.len() });
        for relief in chosen {
            match relief {
                Relief::Told(conn) => self.close(conn, code::OVERLOADED, SHORT_OF_MEMORY, false),
                Relief::Dropped(conn) => self.end(conn, Ending::NoMemory),
            }
        }
    }

    fn bytes(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let Some(connection) = self.net.get_mut(conn) else { return };
        let mut used = 0;
        if connection.input.is_empty() {
            used = self.run(conn, bytes);
        }
        // Bytes that came although reading is paused wait behind the earlier ones.
        if let Some(connection) = self.net.get_mut(conn) {
            connection.input.extend_from_slice(&bytes[used..]);
            self.net.weigh(conn);
        }
    }

    /// Makes a connection go on with the bytes that it has here. Returns false if it has none, so that its socket may
    /// be read, or if it may not go on.
    pub fn read_on(&mut self, conn: ConnId) -> bool {
        let has_turn = self.take_turn(conn);
        if !self.net.may_go_on(conn) {
            return has_turn;
        }
        let Some(connection) = self.net.get_mut(conn).filter(|connection| connection.has_input()) else {
            return has_turn;
        };
        let mut input = std::mem::take(&mut connection.input);
        let used = self.run(conn, &mut input);
        if let Some(connection) = self.net.get_mut(conn) {
            if used < input.len() {
                input.drain(..used);
                connection.input = input;
            }
            self.net.weigh(conn);
            let Some(connection) = self.net.get(conn) else { return true };
            if !connection.has_input() && self.net.is_reading(conn) {
                self.net.push_output(Output::Resume(conn));
            }
        }
        self.settle();
        true
    }

    /// Carries out the request that waited for its connection's turn. Returns false if there is none.
    fn take_turn(&mut self, conn: ConnId) -> bool {
        let Some(reply) = self.net.get_mut(conn).and_then(Connection::reply_mut) else { return false };
        let (request, body) = match std::mem::take(&mut reply.door) {
            Door::Turn(held) => *held,
            other => {
                reply.door = other;
                return false;
            }
        };
        self.request(conn, request, body);
        self.settle();
        true
    }

    fn request(&mut self, conn: ConnId, request: Request, body: Vec<u8>) {
        self.net.note_client(conn, &request.headers);
        self.net.spend_request(conn);
        self.app.request(&mut self.net, conn, request, body);
        self.leave_line_if_gone(conn);
        self.net.mark_dirty(conn);
        self.net.arm(conn);
    }

    /// Makes a connection parse bytes until it needs more, must pause, or has made as much work as it may in one go.
    /// Returns the number of bytes parsed: all, if it needs more.
    fn run(&mut self, conn: ConnId, bytes: &mut [u8]) -> usize {
        let length = bytes.len();
        let (mut at, mut work) = (0, 0);
        loop {
            if !self.net.may_go_on(conn) {
                break;
            }
            if work >= if self.light_alone { 1 } else { WORK } {
                self.net.unread.push(conn);
                break;
            }
            let (now, limits) = self.net.clock_and_limits();
            let Some(connection) = self.net.get_mut(conn) else { return length };
            let session = connection.session();
            let (used, step) = connection.next(&mut bytes[at..], now.mono, &limits);
            at += used;
            work += 1 + used / WORK_BYTES;
            match step {
                None if at == length || used == 0 => {
                    debug_assert_eq!(at, length, "a connection that may go on takes all there is");
                    break;
                }
                None | Some(Step::Again) => {}
                Some(Step::Request(request, body)) if self.light_alone && !self.app.is_light(&request) => {
                    let Some(reply) = self.net.get_mut(conn).and_then(Connection::reply_mut) else { return length };
                    reply.door = Door::Turn(Box::new((*request, body)));
                }
                Some(Step::Request(request, body)) => self.request(conn, *request, body),
                Some(Step::Malformed(problem, headers)) => self.refused(conn, &headers, problem),
                Some(Step::Text(text)) => self.app.text(&mut self.net, conn, &text),
                Some(Step::Binary(payload)) => self.app.binary(&mut self.net, conn, &payload),
                Some(Step::Ended(ending)) => self.session_over(conn, session, ending),
            }
            self.net.mark_dirty(conn);
            if self.net.get(conn).is_some_and(Connection::is_drained) {
                let ending = self.net.get(conn).map_or(Ending::Reset, Connection::ending);
                self.drop(conn, ending);
                return length;
            }
        }
        self.net.arm(conn);
        at
    }

    fn refused(&mut self, conn: ConnId, headers: &Headers, problem: Problem) {
        self.net.note_client(conn, headers);
        self.app.refused(&mut self.net, conn, headers, problem);
    }

    fn ended(&mut self, conn: ConnId) {
        let Some(connection) = self.net.get_mut(conn) else { return };
        let session = connection.session();
        let Some((ending, over)) = connection.ended() else { return };
        self.session_over(conn, session, ending);
        if over {
            self.drop(conn, ending);
        } else {
            self.net.mark_dirty(conn);
            self.net.arm(conn);
        }
    }

    fn hung_up(&mut self, conn: ConnId) {
        if let Some(connection) = self.net.get_mut(conn) {
            connection.has_hung_up = true;
            self.leave_line_if_gone(conn);
        }
    }

    /// Drops a connection that waits for its handshake, or for one of TLS, if its peer is gone: it would use nothing of
    /// the socket, and those behind it wait.
    fn leave_line_if_gone(&mut self, conn: ConnId) {
        let waits = |connection: &Connection| {
            matches!(connection.door(), Some(Door::Line(_)))
                || connection.is_before_tls() && connection.slowed_until().is_some()
        };
        let is_gone = self.net.get(conn).is_some_and(|connection| connection.has_hung_up && waits(connection));
        if is_gone {
            self.drop(conn, Ending::Eof);
        }
    }

    /// Drops a connection, and ends its session if it had one.
    fn end(&mut self, conn: ConnId, ending: Ending) {
        let Some(connection) = self.net.get(conn) else { return };
        let session = connection.session();
        self.session_over(conn, session, ending);
        self.drop(conn, ending);
    }

    fn drop(&mut self, conn: ConnId, ending: Ending) {
        self.app.freed(conn);
        self.net.drop(conn, ending);
    }

    fn session_over(&mut self, conn: ConnId, session: Option<SessionSlot>, ending: Ending) {
        if let Some(session) = session {
            self.app.gone(&mut self.net, conn, session, ending);
        }
        self.net.settle_close(conn);
    }

    fn wrote(&mut self, conn: ConnId, taken: usize) {
        let Some(done) = self.net.wrote(conn, taken) else { return };
        if let Some((peer_ended, ending)) = done.flushed {
            if peer_ended {
                return self.drop(conn, ending);
            }
            self.net.push_output(Output::Shutdown(conn));
        }
        if done.wants_drained
            && let Some(session) = self.net.take_drained(conn)
        {
            self.app.drained(&mut self.net, session);
        }
        if done.wants_sealing {
            self.net.mark_dirty(conn);
        }
        if done.is_paused {
            self.net.release(conn);
        }
        self.net.arm(conn);
    }

    /// Carries out actions that had to wait while something was borrowed: scheduled closes, and reading that may
    /// resume.
    fn settle(&mut self) {
        loop {
            if let Some((conn, code, reason)) = self.net.pop_scheduled_close() {
                self.close(conn, code, reason, false);
            } else if let Some(conn) = self.net.pop_released() {
                self.go_on(conn);
            } else {
                return;
            }
        }
    }

    /// Resumes a paused connection: it parses the bytes that wait here when its turn comes, and then its socket is read
    /// again.
    fn go_on(&mut self, conn: ConnId) {
        if !self.net.may_go_on(conn) {
            return;
        }
        let Some(slot) = self.net.slot(conn) else { return };
        let has_input = slot.connection.has_input();
        self.net.set_reading(conn, Reading::Allowed);
        if has_input {
            self.net.unread.push(conn);
        } else {
            self.net.push_output(Output::Resume(conn));
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &'static str, politely: bool) {
        let now = self.net.now().mono;
        let Some(connection) = self.net.get_mut(conn) else { return };
        let Some(session) = connection.session() else { return };
        if politely {
            connection.close_politely(code, reason, now);
        } else {
            connection.close(code, reason, now);
        }
        self.app.gone(&mut self.net, conn, session, Ending::Closed(code, reason));
        self.net.mark_dirty(conn);
        self.net.arm(conn);
    }

    fn begin_stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        let now = self.net.now().mono;
        let until = now.after(self.drain_timeout / 2);
        self.stop = Stop::Settling { until, deadline: now.after(self.drain_timeout) };
        self.net.is_stopping = true;
        self.app.stopping();
        self.advance_stop();
    }

    /// Advances the shutdown: accepted messages are committed and delivered first, then every client gets `bye` and is
    /// closed, and connections left at the deadline are dropped.
    fn advance_stop(&mut self) {
        let now = self.net.now().mono;
        match self.stop {
            Stop::No => {}
            Stop::Settling { until, deadline } => {
                if (self.app.is_settled() && !self.unfinished) || now >= until {
                    self.stop = Stop::Leaving { deadline };
                    self.app.leaving();
                    for conn in self.net.ids() {
                        self.dismiss(conn);
                    }
                }
            }
            Stop::Leaving { deadline } => {
                if now >= deadline {
                    for conn in self.net.ids() {
                        self.end(conn, Ending::Stopped);
                    }
                }
            }
        }
    }

    /// Says goodbye to a connection in its protocol's own way, and closes it.
    fn dismiss(&mut self, conn: ConnId) {
        let Some(connection) = self.net.get_mut(conn) else { return };
        if connection.session().is_some() {
            self.app.farewell(&mut self.net, conn);
            return self.close(conn, code::GOING_AWAY, "shutting down", true);
        }
        if connection.is_waiting() {
            self.net.respond(conn, stopping_response(), true);
        } else if connection.is_http() {
            connection.finish(Ending::Stopped);
        }
        self.net.mark_dirty(conn);
        self.net.arm(conn);
    }

    /// Ends the turn: delivers its messages and events to the rooms, as far as this much `work` goes, in deliveries.
    /// Returns the work done.
    pub fn end_turn(&mut self, work: usize) -> usize {
        let done = self.app.end_turn(&mut self.net, work);
        self.unfinished = self.app.is_unfinished();
        self.advance_stop();
        self.settle();
        done
    }

    /// Moves out the turn's requests to the store, in order.
    pub fn take_requests(&mut self, requests: &mut Vec<StoreRequest>) {
        self.app.take_requests(requests);
    }

    /// Moves the connections that have something to write into `list`, which must be empty.
    pub fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        self.net.take_dirty(list);
    }

    /// Returns the next output of this turn.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.net.poll_output()
    }
}

fn stopping_response() -> Response {
    Problem::stopping().into_response()
}
