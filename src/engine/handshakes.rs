//! Admits handshakes: at once while the rates allow it, else in line. A request that waits is a state of its
//! connection, which is not read meanwhile, and whose time does not run.

use super::handshake_line::{Coming, LONGEST_WAIT, MOST_WAITING};
use super::returns::{Gate, SessionMark};
use super::{Connections, Payer};
use crate::conn::Door;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::types::{ConnId, Millis, shares_of};

/// Handshakes of those who waited that one turn makes or refuses at most: after a stall, many may be due at once.
const CALLS: usize = 32;

/// Whether a handshake may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Now,
    /// It has to wait: hand the request to [`Connections::wait_for_handshake`].
    Later(Coming),
}

/// What becomes of a request that waited for its handshake.
#[derive(Debug)]
pub(super) enum Called {
    /// Its turn has come.
    In(ConnId, Request),
    /// It has waited for too long.
    Off(ConnId, Request, Problem),
}

impl Connections {
    /// Takes one handshake from the rates, if this connection may open one more WebSocket or event stream now.
    /// `becomes` is false if the request only asks whether another connection could: it never waits, and takes nothing
    /// of what is kept. `shown` is the session with whose token it comes.
    ///
    /// # Errors
    /// 429 if its client has too many of them, asks too often or has too many that wait, 503 if the server is full, or
    /// if all clients together ask too often for one that does not wait.
    pub fn admit_handshake(
        &mut self,
        id: ConnId,
        becomes: bool,
        shown: Option<SessionMark>,
    ) -> Result<Admitted, Problem> {
        if !becomes && self.is_full {
            return Err(Problem::full());
        }
        let now = self.now.mono;
        let Some(connection) = self.get(id) else { return Ok(Admitted::Now) };
        // A direct connection has counted since it came; a proxied one counts against its client only from now on.
        let (address, is_proxied) = (connection.peer.asker(), connection.peer.client().is_some());
        let is_called = matches!(connection.door(), Some(Door::Open));
        if is_proxied || !becomes {
            self.admission.may_connect(address, self.part_of_places())?;
        }
        let shown = shown.filter(|session| becomes && self.comes_back(id, *session));
        if is_called {
            self.came_back(id, shown, Gate::Past);
            return Ok(Admitted::Now);
        }
        let coming = if shown.is_some() { Coming::Back } else { Coming::Anew };
        let (line, is_exempt) = (&self.handshake_line, self.admission.is_exempt(address));
        self.admission.may_ask_for_handshake(address, |network| line.waiting(network), now)?;
        if self.handshake_line.may_pass(coming, |coming| self.admission.has_handshake(coming, now)) {
            self.admission.spend_handshake(address, now);
            self.handshake_line.passed(coming);
            self.came_back(id, shown, Gate::Past);
            return Ok(Admitted::Now);
        }
        // Whoever stood behind so many would wait in vain.
        let is_long = self.handshake_line.addresses(coming) >= self.admission.handshakes_in(LONGEST_WAIT);
        if !becomes || is_long {
            return Err(self.admission.too_many_handshakes(now));
        }
        let is_crowd = |(network, shares)| self.handshake_line.waiting(network) >= MOST_WAITING * shares as usize;
        if !is_exempt && shares_of(address).any(is_crowd) {
            return Err(Problem::too_many("too many handshakes from this address wait for their turn", LONGEST_WAIT));
        }
        self.came_back(id, shown, Gate::Line);
        Ok(Admitted::Later(coming))
    }

    /// Returns whether a connection that shows a token of this session is the first to do so lately, and counts among
    /// those who come back.
    pub(super) fn comes_back(&self, id: ConnId, session: SessionMark) -> bool {
        let (now, line) = (self.now.mono, &self.handshake_line);
        self.returns.comes_back(session, id, self.client_network(id), now, |conn| line.has(conn))
    }

    /// Notes that a connection has come back with a token of this session.
    pub(super) fn came_back(&mut self, id: ConnId, session: Option<SessionMark>, gate: Gate) {
        let Some(session) = session else { return };
        self.returns.note(session, id, gate, self.client_network(id), self.now.mono);
    }

    /// Takes one more handshake from the rates, for what an open WebSocket has cost beside its own.
    pub fn spend_handshake(&mut self, id: ConnId) {
        if let Some(address) = self.get(id).map(|connection| connection.peer.asker()) {
            self.admission.spend_handshake(address, self.now.mono);
        }
    }

    /// Has a request wait for its handshake. It is handled once more when its turn comes.
    pub fn wait_for_handshake(&mut self, id: ConnId, coming: Coming, request: Request) {
        let (payer, now): (Payer, Millis) = (self.payer(id), self.now.mono);
        let Some(reply) = self.get_mut(id).and_then(|connection| connection.reply_mut()) else { return };
        reply.door = Door::Line(Box::new(request));
        self.handshake_line.join(id, payer, coming, now);
        self.weigh(id);
    }

    /// Returns the number of requests that wait for their handshake.
    pub fn waiting_handshakes(&self) -> usize {
        self.handshake_line.len()
    }

    /// Returns what becomes next of somebody who waits, and counts those of this turn in `made`. Only when
    /// nobody's turn is due any more has anybody waited for too long: after a stall, what was free meanwhile comes
    /// first.
    pub(super) fn next_called(&mut self, made: &mut usize) -> Option<Called> {
        let now = self.now.mono;
        while *made < CALLS {
            let Some(id) = self.handshake_line.next(|coming| self.admission.has_handshake(coming, now)) else {
                let id = self.handshake_line.pop_late(now)?;
                *made += 1;
                let Some(request) = self.take_from_door(id, Door::Closed) else { continue };
                return Some(Called::Off(id, request, self.admission.too_many_handshakes(now)));
            };
            *made += 1;
            let Some(request) = self.take_from_door(id, Door::Open) else { continue };
            if let Some(address) = self.get(id).map(|connection| connection.peer.asker()) {
                self.admission.spend_handshake(address, now);
            }
            return Some(Called::In(id, request));
        }
        None
    }

    /// Returns whether somebody's turn is due, or somebody's time in line is over.
    pub(super) fn has_handshakes(&self) -> bool {
        self.handshake_deadline().is_some_and(|due| due <= self.now.mono)
    }

    fn take_from_door(&mut self, id: ConnId, door: Door) -> Option<Request> {
        let reply = self.get_mut(id)?.reply_mut()?;
        match std::mem::replace(&mut reply.door, door) {
            Door::Line(request) => Some(*request),
            Door::Closed | Door::Turn(_) | Door::Open => None,
        }
    }

    /// Returns when somebody's handshake is due, or the end of somebody's time in line.
    pub(super) fn handshake_deadline(&self) -> Option<Millis> {
        let now = self.now.mono;
        self.handshake_line.deadline(now, |coming| self.admission.handshake_wait(coming, now))
    }
}
