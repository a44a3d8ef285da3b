//! What stands behind the connections: the chat in racerd, an echo in the conformance example.

use super::Connections;
use crate::conn::Ending;
use crate::http::headers::Headers;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::store::{StoreEvent, StoreRequest};
use crate::types::{ConnId, Millis};

pub trait App {
    /// Its limits, as the settings give them.
    type Limits;

    /// Applies new limits, also to what is open.
    fn set_limits(&mut self, limits: Self::Limits);

    /// The machine and the loaded certificates have these names, beside which the settings may give others.
    fn known_by(&mut self, _names: &[String]) {}

    /// A whole request. It is answered with [`Connections::respond`], now or later, or by an upgrade.
    fn request(&mut self, net: &mut Connections, conn: ConnId, request: Request, body: Vec<u8>);

    /// What came is no request, or no whole one: it is refused and the connection closes. The header fields, where they
    /// could be read, say who may read the refusal.
    fn refused(&mut self, net: &mut Connections, conn: ConnId, headers: &Headers, problem: Problem);

    fn text(&mut self, net: &mut Connections, conn: ConnId, text: &str);

    fn binary(&mut self, net: &mut Connections, conn: ConnId, payload: &[u8]);

    /// The connection of this session is gone or closing, for this reason.
    fn gone(&mut self, net: &mut Connections, conn: ConnId, session: u32, ending: Ending);

    /// A queue that had no room has some again.
    fn drained(&mut self, net: &mut Connections, session: u32);

    fn store(&mut self, net: &mut Connections, event: StoreEvent);

    /// Time passed: fires what is due.
    fn time(&mut self, net: &mut Connections);

    fn deadline(&self) -> Option<Millis>;

    /// Ends the turn, as far as one turn goes: [`App::is_unfinished`] says whether something is left.
    fn end_turn(&mut self, net: &mut Connections);

    /// Returns whether the end of the next turn has something to tell. That can come up after a turn has ended: a write that
    /// fails makes a member leave.
    fn is_unfinished(&self) -> bool {
        false
    }

    /// Moves out what the store is to do, in order.
    fn take_requests(&mut self, requests: &mut Vec<StoreRequest>);

    /// Waits so much for the store that nothing more may be read?
    fn is_congested(&self) -> bool;

    /// The server is about to stop.
    fn stopping(&mut self);

    /// Everything that was accepted is decided, or time is up: what has to be kept of those who are here is handed over
    /// now. Then each hears [`App::farewell`].
    fn leaving(&mut self);

    /// Is everything that was accepted decided?
    fn is_settled(&self) -> bool;

    /// The last words to a WebSocket before it is closed for the stop.
    fn farewell(&mut self, net: &mut Connections, conn: ConnId);
}
