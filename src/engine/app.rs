//! The application behind the connections: the chat in racerd, an echo in the conformance example.

use super::Connections;
use crate::conn::Ending;
use crate::http::headers::Headers;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::store::{StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis, SessionSlot};

/// Decides what requests and messages mean. The engine calls it with the connections, over which it answers.
pub trait App {
    /// The app's limits, as the settings give them.
    type Limits;

    /// Applies new limits, also to open connections.
    fn set_limits(&mut self, net: &mut Connections, limits: Self::Limits);

    /// Sets the names of the machine and of the loaded certificates. The settings may add others.
    fn known_by(&mut self, _names: &[String]) {}

    /// Handles a whole request. It must be answered with [`Connections::respond`], now or later, or by an upgrade.
    fn request(&mut self, net: &mut Connections, conn: ConnId, request: Request, body: Vec<u8>);

    /// Returns whether a request is for what must be there even on a busy server, such as a health check, and costs
    /// little: see [`super::Turn`].
    fn is_light(&self, _request: &Request) -> bool {
        false
    }

    /// Refuses bytes that are not a whole request, and closes. The header fields, where they could be read, say which
    /// origins may read the refusal.
    fn refused(&mut self, net: &mut Connections, conn: ConnId, headers: &Headers, problem: Problem);

    /// Handles a text message of an open WebSocket.
    fn text(&mut self, net: &mut Connections, conn: ConnId, text: &str);

    /// Handles a binary message of an open WebSocket, or the handshake message of a sealed one.
    fn binary(&mut self, net: &mut Connections, conn: ConnId, payload: &[u8]);

    /// Ends a session's use of its connection, which is gone or closing for this reason.
    fn gone(&mut self, net: &mut Connections, conn: ConnId, session: SessionSlot, ending: Ending);

    /// Goes on with a session whose queue had no room and has drained.
    fn drained(&mut self, net: &mut Connections, session: SessionSlot);

    /// Handles an answer or a report of the store.
    fn store(&mut self, net: &mut Connections, event: StoreEvent);

    /// Fires the timers that are due at the time of this turn.
    fn time(&mut self, net: &mut Connections);

    /// Ends the time of absent clients that was over at `until`. Runs after the turn has read, and `until` is from
    /// before: a client that came back while the server was held up has come in time.
    fn expire(&mut self, _until: Millis) {}

    /// Returns when [`App::time`] is next due.
    fn deadline(&self) -> Option<Millis>;

    /// Returns the bytes of memory that the app holds for sessions, rooms and messages. Called in every turn.
    fn memory(&self) -> u64 {
        0
    }

    /// Ends the turn: delivers its messages and events, as far as this much `work` goes, in deliveries. Returns the
    /// work done. [`App::is_unfinished`] says whether some is left.
    fn end_turn(&mut self, net: &mut Connections, work: usize) -> usize;

    /// Returns whether the end of the next turn has something to deliver. That can come up after a turn has ended: a
    /// failed write makes a member leave.
    fn is_unfinished(&self) -> bool {
        false
    }

    /// Moves out the requests to the store, in order.
    fn take_requests(&mut self, requests: &mut Vec<StoreRequest>);

    /// Forgets a connection that is gone, whatever it was.
    fn freed(&mut self, _conn: ConnId) {}

    /// Prepares for a graceful shutdown, which begins now.
    fn stopping(&mut self);

    /// Hands the current sessions to the store, as far as it must keep them. Called once every accepted message is
    /// decided or time is up; then each connection gets its [`App::farewell`].
    fn leaving(&mut self);

    /// Returns whether the store has decided every accepted message.
    fn is_settled(&self) -> bool;

    /// Queues the last object for a session before its connection is closed for the shutdown.
    fn farewell(&mut self, net: &mut Connections, conn: ConnId);
}
