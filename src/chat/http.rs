//! Requests by HTTP, carried out with the hub, and the upgrade to a WebSocket.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::api::{self, Action, BodyRules, answers};
use crate::conn::{Connection, Wire};
use crate::engine::{Admitted, Connections};
use crate::http::authority::CrossOrigin;
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::hub::Roster;
use crate::protocol::reasons::Reason;
use crate::store::{Append, NO_ID, Purpose, Scope, ScopedKey, Ticket};
use crate::types::{Author, ConnId, IdempotencyKey, Identity, MemberId, Name, RoomId, SessionId};
use crate::ws::handshake::{self, Spoken};

impl Chat {
    /// Carries out one HTTP request, or refuses it.
    pub(super) fn http_request(&mut self, net: &mut Connections, conn: ConnId, request: Request, body: &[u8]) {
        let cross_origin = self.allow_reading(net, conn, &request.headers);
        match self.carry_out_http(net, conn, &request, body, cross_origin) {
            Ok(Admitted::Now) => {}
            Ok(Admitted::Later(coming)) => net.wait_for_handshake(conn, coming, request),
            Err(problem) => net.refuse(conn, problem, Some(&request)),
        }
    }

    fn carry_out_http(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        request: &Request,
        body: &[u8],
        cross_origin: Option<CrossOrigin>,
    ) -> Result<Admitted, Problem> {
        let action = api::action(request, &self.access);
        let now = net.now().mono;
        let is_health = matches!(action, Ok(Action::Health | Action::Ready));
        if !is_health && action.is_ok() && net.get(conn).is_some_and(Connection::is_excess) {
            let private = net.get(conn).is_some_and(|c| c.wire != Wire::Plain);
            let asks_for_socket = matches!(action, Ok(Action::Socket { .. })) && handshake::wants_upgrade(request);
            let session = if asks_for_socket { self.session_of(request, private, now) } else { None };
            if !session.is_some_and(|session| net.keep(conn, session)) {
                return Err(Problem::full());
            }
        }
        let action = match action {
            // The connection ends with this refusal, so there is nothing to count.
            Err(problem) if problem.close => return Err(problem),
            Ok(action) if action.has_a_rate_of_its_own() => action,
            counted => {
                net.take_request(conn, self.limits.requests).map_err(answers::too_fast)?;
                counted?
            }
        };
        if action.tells() && self.is_too_open(net, conn) {
            return Err(answers::sealed_only());
        }
        match action {
            Action::Socket { room } => return self.open_socket(net, conn, request, room),
            Action::Events { room } => return self.open_events(net, conn, request, room),
            Action::Browse { room, span, limit } => {
                let ticket = Ticket::new(conn, Purpose::Browse, NO_ID);
                self.hub.handle_read(ticket, room, span, limit);
            }
            Action::Publish { room, name, key } => self.publish(net, conn, (room, name, key), body)?,
            Action::Members { room } => {
                let (count, members, more) = self.hub.roster(&room);
                net.respond(conn, answers::members(&room, &Roster { count, members: &members, more }), false);
            }
            Action::Page(asset) => net.respond(conn, asset.answer(&request.headers), false),
            Action::Moved { location } => net.respond(conn, answers::moved(&location), false),
            Action::Health => net.respond(conn, answers::health(), false),
            Action::Ready => {
                // Not `refuse`: a health check every second must not log a line each time.
                let response = match self.not_ready() {
                    None => answers::ready(&self.notes),
                    Some(problem) => problem.shown_as(net.get(conn).map(|c| c.shown()).unwrap_or_default()),
                };
                net.respond(conn, response, false);
            }
            Action::Options { allow } => {
                let mut response = answers::options(allow);
                if let Some(origin) = cross_origin
                    && request.headers.contains("Access-Control-Request-Method")
                {
                    for (name, value) in origin.preflight(allow) {
                        response = response.header(name, value);
                    }
                }
                net.respond(conn, response, false);
            }
        }
        Ok(Admitted::Now)
    }

    fn publish(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        (room, name, key): (RoomId, Option<Name>, Option<IdempotencyKey>),
        body: &[u8],
    ) -> Result<(), Problem> {
        let encrypted_only = self.limits.encrypted_rooms.contains(&room);
        let (body, sealed) =
            api::published_body(body, BodyRules { depth: self.limits.body_depth, key, encrypted_only })?;
        let name = name.unwrap_or_else(|| self.guest());
        let append = Append {
            ticket: Ticket::new(conn, Purpose::Publish, NO_ID),
            room,
            author: Author { member: None, name },
            key: key.map(|key| ScopedKey { scope: Scope::Common, key }),
            body,
            sealed,
            era: None,
            at: net.now().wall,
        };
        self.hand_in_or_wait(net, append);
        Ok(())
    }

    /// Lets pages of an allowed origin read the answer, whatever it will be: a page must be able to read why it is
    /// refused.
    pub(super) fn allow_reading(&self, net: &mut Connections, conn: ConnId, headers: &Headers) -> Option<CrossOrigin> {
        let origin = CrossOrigin::of(headers, &self.access.origins)?;
        net.get_mut(conn)?.reply_mut()?.cross_origin = Some(Box::new(origin.clone()));
        Some(origin)
    }

    /// Upgrades the connection, greets its client, and joins the room in the URL.
    ///
    /// A browser's script cannot see why an upgrade failed, so it asks again with a plain GET. Therefore every refusal
    /// is decided in the same order for both, and the upgrade's own headers are checked last.
    fn open_socket(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        request: &Request,
        room: Option<RoomId>,
    ) -> Result<Admitted, Problem> {
        if self.is_stopping {
            return Err(Problem::stopping().closing());
        }
        let spoken = handshake::spoken(request, self.sealed.is_some())?;
        if spoken == Spoken::Open && self.is_too_open(net, conn) {
            return Err(answers::sealed_only().closing());
        }
        let sealed = spoken == Spoken::Sealed;
        let private = sealed || net.get(conn).is_some_and(|c| c.wire != Wire::Plain);
        if request.method == Method::Get {
            let session = self.session_of(request, private, net.now().mono);
            let admitted = net.admit_handshake(conn, handshake::wants_upgrade(request), session);
            if let later @ Admitted::Later(_) = admitted.map_err(Problem::closing)? {
                return Ok(later);
            }
        }
        let opening = api::socket(request, spoken)?;
        let identity = self.new_identity(opening.name, private);
        let session = self.hub.handle_session(identity, conn);
        self.first_rooms.set(conn, room.clone());
        net.upgrade(conn, &opening.upgrade, session);
        if sealed {
            // Everything else follows the client's handshake message.
            return Ok(Admitted::Now);
        }
        self.greet(net, conn, session, None);
        if let Some(room) = room
            && let Err(error) = self.hub.handle_join(
                session,
                None,
                room,
                opening.start,
                opening.presence,
                &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable)),
            )
        {
            self.refuse(net, conn, &Reason::of(error, outage(self.unavailable)).refusal(None));
        }
        Ok(Admitted::Now)
    }

    /// Returns the identity of a new session.
    pub(super) fn new_identity(&mut self, name: Option<Name>, private: bool) -> Identity {
        let member = MemberId::from_random(self.random.next_u64());
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&self.random.next_u64().to_be_bytes());
        session_id[8..].copy_from_slice(&self.random.next_u64().to_be_bytes());
        let name = name.unwrap_or_else(|| self.guest());
        Identity { session: SessionId(session_id), member, name, generation: 0, private }
    }

    /// Returns a random name for a client that gave none.
    fn guest(&mut self) -> Name {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let random = self.random.next_u64();
        let tail: String = (0..4).map(|i| char::from(LETTERS[(random >> (5 * i)) as usize & 31])).collect();
        // proof: ten letters, digits and a hyphen are a valid name.
        Name::parse(&format!("guest-{tail}")).expect("letters and digits")
    }
}
