//! Requests by HTTP, carried out with the hub, and the upgrade to a WebSocket.

use super::Chat;
use super::entering::Then;
use crate::access::{Operation, Who};
use crate::api::{self, Action, BodyRules, PostKey, answers};
use crate::conn::{Connection, Wire};
use crate::engine::{Admitted, Connections};
use crate::http::authority::CrossOrigin;
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::hub::Roster;
use crate::store::{Append, NO_ID, Purpose, Scope, ScopedKey, Ticket};
use crate::types::{Author, ConnId, MemberId, Name, RoomId, SessionClaim, SessionId};
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
        let action = api::action(request, &self.hosts);
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
        let who = match action.operation() {
            Some((operation, room)) => {
                let who = self.asker(request)?;
                self.may(&who, operation, room).map_err(answers::denied)?;
                who
            }
            None => Who::Guest,
        };
        match action {
            Action::Socket { room } => return self.open_socket(net, conn, request, room),
            Action::Events { room } => return self.open_events(net, conn, request, room),
            Action::Browse { room, span, limit } => {
                let ticket = Ticket::new(conn, Purpose::Browse, NO_ID);
                self.hub.handle_read(ticket, room, span, limit);
            }
            Action::Publish { room, name, key } => self.publish(net, conn, (room, name, key), &who, body)?,
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
        (room, name, key): (RoomId, Option<Name>, Option<PostKey>),
        who: &Who,
        body: &[u8],
    ) -> Result<(), Problem> {
        let encrypted_only = self.limits.encrypted_rooms.contains(&room);
        let stored = key.map(|key| key.of(who)).transpose()?;
        let rules = BodyRules { depth: self.limits.body_depth, key: key.map(|key| key.key), encrypted_only };
        let (body, sealed) = api::published_body(body, rules)?;
        let name = match who {
            Who::Known(identity) => identity.name.clone(),
            Who::Guest if name.as_ref().is_some_and(|name| self.doors.is_taken(name)) => {
                return Err(answers::name_taken());
            }
            Who::Guest => name.unwrap_or_else(|| self.guest()),
        };
        let append = Append {
            ticket: Ticket::new(conn, Purpose::Publish, NO_ID),
            room,
            author: Author { member: None, name },
            key: stored.map(|key| ScopedKey { scope: Scope::Common, key }),
            body,
            sealed,
            era: None,
            at: net.now().wall,
        };
        self.hand_in_or_wait(net, append, who.clone());
        Ok(())
    }

    /// Lets pages of an allowed origin read the answer, whatever it will be: a page must be able to read why it is
    /// refused.
    pub(super) fn allow_reading(&self, net: &mut Connections, conn: ConnId, headers: &Headers) -> Option<CrossOrigin> {
        let origin = CrossOrigin::of(headers, &self.hosts.origins)?;
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
        let (who, is_to_say) = self.opener(request, room.as_ref(), sealed).map_err(Problem::closing)?;
        let opening = api::socket(request, spoken)?;
        let name = who.identity().map(|identity| identity.name.clone()).or(opening.name);
        let claim = self.new_session(name, private);
        let session = self.hub.handle_session(claim, conn);
        self.hub.handle_identity(session, who);
        self.first_rooms.set(conn, room.clone());
        net.upgrade(conn, &opening.upgrade, session);
        match (room, is_to_say) {
            // Everything else follows the client's handshake message.
            _ if sealed => {}
            (Some(room), true) => self.wait_for_auth(net, conn, Then::Join(room, opening.start, opening.presence)),
            (None, true) => self.wait_for_auth(net, conn, Then::Greet),
            (Some(room), false) => {
                self.greet(net, conn, session, None);
                self.enter(net, conn, session, (room, opening.start, opening.presence));
            }
            (None, false) => {
                self.greet(net, conn, session, None);
                self.wait_if_guests_may_nothing(net, conn, session);
            }
        }
        Ok(Admitted::Now)
    }

    /// Returns who opens a socket, and whether they are to say that before anything else.
    ///
    /// # Errors
    /// What they may not do: join the room at once, take the name of somebody known, or show a token outside the seal.
    fn opener(&self, request: &Request, room: Option<&RoomId>, sealed: bool) -> Result<(Who, bool), Problem> {
        let who = self.asker(request)?;
        if sealed && who != Who::Guest {
            let detail = "on a sealed socket the token goes inside, with 'auth', where nobody else can read it";
            return Err(Problem::new(Status::BadRequest, detail).member("code", "token_in_the_clear"));
        }
        let is_to_say = api::auth_first(request)? && who == Who::Guest;
        if who == Who::Guest && !is_to_say && api::name(request)?.is_some_and(|name| self.doors.is_taken(&name)) {
            return Err(answers::name_taken());
        }
        if let Some(room) = room.filter(|_| !is_to_say) {
            self.may(&who, Operation::Join, room).map_err(answers::denied)?;
        }
        Ok((who, is_to_say))
    }

    /// Returns the claim of a new session.
    pub(super) fn new_session(&mut self, name: Option<Name>, private: bool) -> SessionClaim {
        let member = MemberId::from_random(self.random.next_u64());
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&self.random.next_u64().to_be_bytes());
        session_id[8..].copy_from_slice(&self.random.next_u64().to_be_bytes());
        let name = name.unwrap_or_else(|| self.guest());
        SessionClaim { session: SessionId(session_id), member, name, generation: 0, private }
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
