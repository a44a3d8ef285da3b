//! The engine: what it is fed ([`Input`]), what it asks for ([`Output`]), and how a stop proceeds.

use core::net::{IpAddr, SocketAddr};

use super::admission::Admission;
use super::app::App;
use super::connections::Connections;
use crate::conn::{ConnLimits, Connection, Ending, Kind, Step, Timeout, WriteQueue};
use crate::http::headers::Headers;
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::store::{About, StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis, WallMillis};
use crate::ws::code;

/// The two clocks: durations come from the first alone, what people read from the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Millis,
    pub wall: WallMillis,
}

/// What happens to the engine. Events of connections that are gone are legal, and ignored.
#[derive(Debug)]
pub enum Input<'a> {
    /// A turn begins, and this is the time for all of it.
    Time(Now),
    Opened {
        conn: ConnId,
        peer: SocketAddr,
        /// Its bytes are encrypted on their way, below this.
        secure: bool,
    },
    /// A connection beyond those that there may be: it is answered once, and closed. All but health hears that the server
    /// is full.
    Excess {
        conn: ConnId,
        peer: SocketAddr,
        secure: bool,
    },
    /// Bytes from the peer. They are spent: unmasked where they lie.
    Bytes {
        conn: ConnId,
        bytes: &'a mut [u8],
    },
    /// What came is of another protocol than the one that is spoken here; what to do instead. Nothing else came before.
    WrongProtocol {
        conn: ConnId,
        detail: &'static str,
    },
    /// The peer sends nothing more.
    Ended {
        conn: ConnId,
    },
    /// The socket failed.
    Lost {
        conn: ConnId,
    },
    /// The socket took so many bytes of the queue.
    Wrote {
        conn: ConnId,
        taken: usize,
    },
    Store(StoreEvent),
    /// Stop in order, within the drain timeout.
    Stop,
}

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Shut the socket's sending side; go on reading.
    Shutdown(ConnId),
    /// Close the socket; its id may be used again after the turn.
    Close(ConnId),
    /// Reading was refused by [`Engine::may_read`], and is allowed again.
    Resume(ConnId),
    Log(Fact),
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `client` is whose WebSocket or event stream it was, where a trusted proxy named another than the peer.
    Closed {
        conn: ConnId,
        peer: SocketAddr,
        client: Option<IpAddr>,
        ending: Ending,
        kind: Kind,
    },
    /// `client` is whose request it was, likewise.
    Refused {
        conn: ConnId,
        peer: SocketAddr,
        client: Option<IpAddr>,
        status: u16,
        detail: String,
        /// Method and path, where they could be read. Without the query, in which names stand.
        asked: Option<String>,
    },
    StoreFailed {
        reason: String,
    },
    StoreRecovered,
    /// Something about the store that an operator should read.
    StoreRemark {
        line: String,
    },
    /// The store is well, but for this; `None`: this is over.
    StoreNote {
        about: About,
        text: Option<String>,
    },
    /// A page of the log cannot be read.
    StoreUnreadable {
        reason: String,
    },
}

pub struct Engine<A> {
    pub net: Connections,
    pub app: A,
    stop: Stop,
    drain_timeout: u64,
    /// The turn's end left something for the next turn.
    unfinished: bool,
}

/// The limits of everything that an engine runs; `L` are those of the app.
#[derive(Debug)]
pub struct Limits<L> {
    pub connections: ConnLimits,
    pub admission: Admission,
    /// How long a stop may take, in milliseconds.
    pub drain_timeout: u64,
    pub app: L,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// What was accepted is being committed.
    Settling {
        until: Millis,
        dead: Millis,
    },
    /// Everyone was told.
    Leaving {
        dead: Millis,
    },
}

impl<A: App> Engine<A> {
    /// An engine with no connection; `drain_timeout` in milliseconds.
    pub fn new(net: Connections, app: A, drain_timeout: u64) -> Engine<A> {
        Engine { net, app, stop: Stop::No, drain_timeout, unfinished: false }
    }

    // Looking.

    /// How long a stop may take, in milliseconds.
    pub fn drain_timeout(&self) -> u64 {
        self.drain_timeout
    }

    /// May the socket be read? If not, an [`Output::Resume`] follows when it may.
    pub fn may_read(&mut self, conn: ConnId) -> bool {
        self.net.may_read(conn)
    }

    pub fn queue(&self, conn: ConnId) -> Option<&WriteQueue> {
        self.net.get(conn).map(|c| &c.queue)
    }

    /// Does a connection have something to write, or is something left over from this turn, or come up since?
    pub fn has_dirty(&self) -> bool {
        self.app.is_unfinished() || self.net.has_dirty()
    }

    /// When the next [`Input::Time`] is due. Now, if something is left over from this turn.
    pub fn deadline(&self) -> Option<Millis> {
        if self.app.is_unfinished() {
            return Some(self.net.now().mono);
        }
        let stop = match self.stop {
            Stop::No => None,
            Stop::Settling { until, .. } => Some(until),
            // At that time nobody is left.
            Stop::Leaving { dead } => (self.net.count() > 0).then_some(dead),
        };
        [self.net.deadline(), self.app.deadline(), stop].into_iter().flatten().min()
    }

    pub fn is_stopping(&self) -> bool {
        self.stop != Stop::No
    }

    /// After [`Input::Stop`]: is everything said and everyone gone?
    pub fn is_finished(&self) -> bool {
        matches!(self.stop, Stop::Leaving { .. }) && self.net.count() == 0
    }

    // Feeding.

    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::Time(now) => self.time(now),
            Input::Opened { conn, peer, secure } => {
                let connection = Connection::new(peer, self.net.now().mono);
                self.net.open(conn, connection, secure);
            }
            Input::Excess { conn, peer, secure } => {
                let connection = Connection::in_excess(peer, self.net.now().mono);
                self.net.open(conn, connection, secure);
            }
            Input::Bytes { conn, bytes } => self.bytes(conn, bytes),
            Input::WrongProtocol { conn, detail } => self.net.turn_away(conn, Problem::new(Status::BadRequest, detail)),
            Input::Ended { conn } => self.ended(conn),
            Input::Lost { conn } => self.end(conn, Ending::Reset),
            Input::Wrote { conn, taken } => self.wrote(conn, taken),
            Input::Store(event) => self.app.store(&mut self.net, event),
            Input::Stop => self.begin_stop(),
        }
        self.settle();
    }

    /// Applies new limits, also to what is open. A stop that has begun keeps the drain timeout with which it began.
    pub fn set_limits(&mut self, limits: Limits<A::Limits>) {
        self.app.set_limits(limits.app);
        self.drain_timeout = limits.drain_timeout;
        self.net.keep_within(limits.connections, limits.admission);
        self.settle();
    }

    fn time(&mut self, now: Now) {
        self.net.set_now(now);
        while let Some(conn) = self.net.pop_due() {
            let (_, limits) = self.net.clock_and_limits();
            let Some(connection) = self.net.get_mut(conn) else { continue };
            let session = connection.session();
            match connection.timeout(now.mono, &limits) {
                Timeout::Nothing => {}
                Timeout::Late(problem, headers) => self.refused(conn, &headers, problem),
                Timeout::Full => self.net.turn_away(conn, Problem::full()),
                Timeout::Ended(ending) => self.session_over(conn, session, ending),
                Timeout::Drop(ending) => {
                    self.session_over(conn, session, ending);
                    self.net.drop(conn, ending);
                }
            }
            self.net.touch(conn);
            self.net.arm_after(conn, now.mono);
        }
        self.app.time(&mut self.net);
        self.advance_stop();
    }

    fn bytes(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let Some(connection) = self.net.get_mut(conn) else { return };
        if connection.input.is_empty() {
            return self.run(conn, bytes);
        }
        // More came although reading was refused: it waits behind the rest.
        connection.input.extend_from_slice(bytes);
    }

    /// Lets a connection look at bytes until it needs more, or may not go on.
    fn run(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let mut at = 0;
        loop {
            if !self.net.may_go_on(conn) {
                if let Some(connection) = self.net.get_mut(conn) {
                    connection.input.extend_from_slice(&bytes[at..]);
                }
                break;
            }
            let (now, limits) = self.net.clock_and_limits();
            let Some(connection) = self.net.get_mut(conn) else { return };
            let session = connection.session();
            let length = bytes.len();
            let (used, step) = connection.next(&mut bytes[at..], now.mono, &limits);
            at += used;
            match step {
                None if at == length || used == 0 => {
                    debug_assert_eq!(at, length, "a connection that may go on takes all there is");
                    break;
                }
                None | Some(Step::Again) => {}
                Some(Step::Request(request, body)) => {
                    self.net.note_client(conn, &request.headers);
                    self.app.request(&mut self.net, conn, *request, body);
                }
                Some(Step::Malformed(problem, headers)) => self.refused(conn, &headers, problem),
                Some(Step::Text(text)) => self.app.text(&mut self.net, conn, &text),
                Some(Step::Binary(payload)) => self.app.binary(&mut self.net, conn, &payload),
                Some(Step::Ended(ending)) => self.session_over(conn, session, ending),
            }
            self.net.touch(conn);
            if self.net.get(conn).is_some_and(Connection::is_drained) {
                let ending = self.net.get(conn).map_or(Ending::Reset, Connection::ending);
                return self.net.drop(conn, ending);
            }
        }
        self.net.arm(conn);
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
            self.net.drop(conn, ending);
        } else {
            self.net.touch(conn);
            self.net.arm(conn);
        }
    }

    /// Drops a connection, and ends its session if it had one.
    fn end(&mut self, conn: ConnId, ending: Ending) {
        let Some(connection) = self.net.get(conn) else { return };
        let session = connection.session();
        self.session_over(conn, session, ending);
        self.net.drop(conn, ending);
    }

    fn session_over(&mut self, conn: ConnId, session: Option<u32>, ending: Ending) {
        if let Some(session) = session {
            self.app.gone(&mut self.net, conn, session, ending);
        }
    }

    fn wrote(&mut self, conn: ConnId, taken: usize) {
        let (now, limits) = self.net.clock_and_limits();
        let Some(connection) = self.net.get_mut(conn) else { return };
        let drained = connection.wrote(taken, now.mono, &limits);
        if let Some(peer_ended) = connection.flushed(now.mono, &limits) {
            let ending = connection.ending();
            if peer_ended {
                return self.net.drop(conn, ending);
            }
            self.net.push_output(Output::Shutdown(conn));
        }
        let session = self.net.get(conn).and_then(Connection::session);
        if let (true, Some(session)) = (drained, session) {
            self.app.drained(&mut self.net, session);
        }
        if self.net.get(conn).is_some_and(Connection::wants_sealing) {
            self.net.touch(conn);
        }
        self.net.release(conn);
        self.net.arm(conn);
    }

    /// Carries out what came up while something else was borrowed: closes for cause, and goes on with whoever was held.
    fn settle(&mut self) {
        loop {
            // Each time anew: what one of them said may be as much as may wait.
            self.net.set_congested(self.app.is_congested() || self.is_stopping() || self.unfinished);
            if let Some((conn, code, reason)) = self.net.pop_doomed() {
                self.close(conn, code, reason, false);
            } else if let Some(conn) = self.net.pop_released() {
                self.go_on(conn);
            } else {
                return;
            }
        }
    }

    /// What held a connection is gone: looks at the bytes that wait here, then has the socket read again.
    fn go_on(&mut self, conn: ConnId) {
        if !self.net.may_go_on(conn) {
            return;
        }
        let Some(connection) = self.net.get_mut(conn) else { return };
        connection.stalled = false;
        let has_input = connection.has_input();
        let mut input = std::mem::take(&mut connection.input);
        if has_input {
            self.run(conn, &mut input);
        }
        if self.net.get(conn).is_some_and(|c| !c.stalled) {
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
        self.net.touch(conn);
        self.net.arm(conn);
    }

    // Stopping.

    fn begin_stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        let now = self.net.now().mono;
        let until = now.after(self.drain_timeout / 2);
        self.stop = Stop::Settling { until, dead: now.after(self.drain_timeout) };
        self.app.stopping();
        self.advance_stop();
    }

    /// What was accepted is committed and told first; then everyone hears `bye` and is closed; who does not go is cut.
    fn advance_stop(&mut self) {
        let now = self.net.now().mono;
        match self.stop {
            Stop::No => {}
            Stop::Settling { until, dead } => {
                if (self.app.is_settled() && !self.unfinished) || now >= until {
                    self.stop = Stop::Leaving { dead };
                    self.app.leaving();
                    for conn in self.net.ids() {
                        self.dismiss(conn);
                    }
                }
            }
            Stop::Leaving { dead } => {
                if now >= dead {
                    for conn in self.net.ids() {
                        self.end(conn, Ending::Stopped);
                    }
                }
            }
        }
    }

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
        self.net.touch(conn);
        self.net.arm(conn);
    }

    // Draining.

    /// Ends the turn: fans out what it brought.
    pub fn end_turn(&mut self) {
        self.app.end_turn(&mut self.net);
        self.unfinished = self.app.is_unfinished();
        self.advance_stop();
        self.settle();
    }

    /// Moves the turn's requests for the store out, in order.
    pub fn take_requests(&mut self, requests: &mut Vec<StoreRequest>) {
        self.app.take_requests(requests);
    }

    /// Moves out the connections that have something to write. `list` must be empty.
    pub fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        self.net.take_dirty(list);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.net.poll_output()
    }
}

fn stopping_response() -> Response {
    Problem::stopping().into_response()
}
