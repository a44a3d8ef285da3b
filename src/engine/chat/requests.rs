//! What clients ask, by socket and by HTTP, carried out with the hub.

use super::{Chat, Outbox};
use crate::api::{self, Action, BodyRules, answers};
use crate::engine::Connections;
use crate::http::authority::CrossOrigin;
use crate::http::headers::Headers;
use crate::http::request::{Method, Request as HttpRequest};
use crate::hub::{HubError, Roster, Said};
use crate::protocol::client::{Bounds, parse};
use crate::protocol::encrypted::EncryptedRooms;
use crate::protocol::{Command, ErrorCode, Refusal, Request, server};
use crate::store::{Append, Found, NO_ID, Purpose, Scope, ScopedKey, Seek, Sought, StoreRequest, Ticket};
#[cfg(bug = "ack-before-commit")]
use crate::types::Seq;
use crate::types::{Author, ConnId, Identity, MemberId, Name, RoomId, SessionId};
use crate::ws::code;
use crate::ws::handshake::Spoken;

impl Chat {
    // By socket.

    /// One text frame: at most one request a frame, answered or refused by its id.
    pub(super) fn socket_request(&mut self, net: &mut Connections, conn: ConnId, text: &str) {
        let now = net.now().mono;
        let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) else { return };
        let within_rate = open.requests.take(self.limits.requests, now);
        let bounds = Bounds { body_depth: self.limits.body_depth, page_messages: api::PAGE_MAX };
        let done = match (parse(text, &bounds), within_rate) {
            (Err(refusal), _) => Err(refusal),
            (Ok(request), Err(wait)) => Err(Refusal {
                retry_after_ms: Some(wait),
                ..Refusal::new(request.id, ErrorCode::RateLimited, "too many requests on this connection")
            }),
            (Ok(request), Ok(())) => self.carry_out(net, conn, request),
        };
        if let Err(refusal) = done {
            self.refuse(net, conn, &refusal);
        }
    }

    pub(super) fn refuse(&mut self, net: &mut Connections, conn: ConnId, refusal: &Refusal) {
        self.tell(net, conn, "error", |out| server::error(out, refusal));
        let now = net.now().mono;
        if refusal.code.is_clients_fault()
            && let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut())
            && open.errors.take(self.limits.errors, now).is_err()
        {
            net.doom(conn, code::POLICY, "too many faulty requests");
        }
    }

    fn carry_out(&mut self, net: &mut Connections, conn: ConnId, request: Request) -> Result<(), Refusal> {
        let id = request.id;
        let Some(session) = net.get(conn).and_then(|c| c.open()).map(|open| open.session) else { return Ok(()) };
        let room = |room| {
            let room = self.room_of(net, conn, room);
            room.ok_or_else(|| Refusal::field(id, "room", "'room' is missing: this socket was opened on no room"))
        };
        let hub_error = |error| server::refusal(id, error);
        match request.command {
            Command::Join { room: named, start, presence, name } => {
                let room = room(named)?;
                self.take_name(net, conn, id, name)?;
                self.hub
                    .handle_join(session, id, room, start, presence, &mut Outbox { net, epoch: &self.epoch })
                    .map_err(hub_error)
            }
            Command::Leave { room: named } => {
                let room = room(named)?;
                self.hub.handle_leave(session, id, &room, &mut Outbox { net, epoch: &self.epoch }).map_err(hub_error)
            }
            Command::Send { room: named, key, body, sealed } => {
                let room = room(named)?;
                self.keep_encrypted(id, &room, sealed.is_some())?;
                let bytes = body.len();
                let at = net.now().wall;
                #[cfg(bug = "ack-before-commit")]
                self.acknowledge_early(net, conn, session, id, &room);
                self.hub.handle_send(session, id, room, Said { key, body, sealed, at }).map_err(hub_error)?;
                self.expect(bytes);
                if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
                    open.in_flight += 1;
                }
                Ok(())
            }
            Command::Signal { room: named, body, sealed } => {
                let room = room(named)?;
                self.keep_encrypted(id, &room, sealed.is_some())?;
                match sealed {
                    None => self.hub.handle_signal(session, &room, body).map_err(hub_error),
                    Some(sealed) if self.hub.is_member(session, &room) => {
                        self.seek(
                            net,
                            Seek {
                                ticket: Ticket { conn, purpose: Purpose::Signal, tag: id.unwrap_or(NO_ID) },
                                room,
                                sealed,
                                body,
                            },
                        );
                        Ok(())
                    }
                    Some(_) => Err(hub_error(HubError::NotJoined)),
                }
            }
            Command::History { room: named, span, limit } => {
                let room = room(named)?;
                if !self.hub.is_member(session, &room) {
                    return Err(hub_error(HubError::NotJoined));
                }
                if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
                    open.reading = true;
                }
                let ticket = Ticket { conn, purpose: Purpose::History, tag: id.unwrap_or(NO_ID) };
                self.hub.handle_read(ticket, room, span, limit);
                Ok(())
            }
            Command::Members { room: named } => {
                let room = room(named)?;
                if !self.hub.is_member(session, &room) {
                    return Err(hub_error(HubError::NotJoined));
                }
                let (count, members, more) = self.hub.roster(&room);
                let roster = Roster { count, members: &members, more };
                self.tell(net, conn, "members", |out| server::members(out, id, &room, &roster));
                Ok(())
            }
            Command::Resume { session, cursors } => self.resume(net, conn, id, &session, cursors),
            Command::Ping => {
                let token = self.fresh_token(session, net.now().mono);
                self.tell(net, conn, "pong", |out| server::pong(out, id, token.as_deref(), self.hub.heads(session)));
                Ok(())
            }
        }
    }

    /// Asks the store whether a signal repeats what a message of the room said: whoever has no key could otherwise say it
    /// again. It waits, and counts, like a send.
    fn seek(&mut self, net: &mut Connections, seek: Seek) {
        self.expect(seek.body.len());
        if let Some(open) = net.get_mut(seek.ticket.conn).and_then(|c| c.open_mut()) {
            open.in_flight += 1;
        }
        self.requests.push(StoreRequest::Seek(seek));
    }

    /// The store has looked for a signal's body: the room hears it if no message of the room has it.
    pub(super) fn sought(&mut self, net: &mut Connections, sought: Sought) {
        let Sought { ticket, room, body, outcome } = sought;
        self.decided(body.len());
        super::answered(net, &ticket);
        let Some(session) = net.get(ticket.conn).and_then(|c| c.open()).map(|open| open.session) else { return };
        let done = match outcome {
            Found::Nowhere => self.hub.handle_signal(session, &room, body),
            Found::Kept => Err(HubError::BodyReused),
            Found::Unknown => Err(HubError::StorageUnavailable),
        };
        if let Err(error) = done {
            let id = (ticket.tag != NO_ID).then_some(ticket.tag);
            self.refuse(net, ticket.conn, &server::refusal(id, error));
        }
    }

    /// A room that takes only encrypted messages is given no other.
    fn keep_encrypted(&self, id: Option<u64>, room: &RoomId, encrypted: bool) -> Result<(), Refusal> {
        if encrypted || !self.limits.encrypted_rooms.contains(room) {
            return Ok(());
        }
        Err(Refusal { field: Some("body"), ..Refusal::new(id, ErrorCode::NotEncrypted, EncryptedRooms::REFUSAL) })
    }

    // By HTTP.

    pub(super) fn http_request(&mut self, net: &mut Connections, conn: ConnId, request: &HttpRequest, body: &[u8]) {
        let Some(connection) = net.get_mut(conn) else { return };
        let loopback = connection.loopback;
        let cross_origin = self.allow_reading(net, conn, &request.headers);
        match api::action(request, &self.access, loopback) {
            Err(problem) => net.refuse(conn, problem),
            Ok(action) if action.tells() && self.is_too_open(net, conn) => net.refuse(conn, answers::sealed_only()),
            Ok(Action::Socket { room }) => {
                if let Err(problem) = self.open_socket(net, conn, request, room) {
                    net.refuse(conn, problem);
                }
            }
            Ok(Action::Events { room }) => {
                if let Err(problem) = self.open_events(net, conn, request, room) {
                    net.refuse(conn, problem);
                }
            }
            Ok(Action::Browse { room, span, limit }) => {
                let ticket = Ticket { conn, purpose: Purpose::Browse, tag: NO_ID };
                self.hub.handle_read(ticket, room, span, limit);
            }
            Ok(Action::Publish { room, name, key }) => {
                let encrypted_only = self.limits.encrypted_rooms.contains(&room);
                let rules = BodyRules { depth: self.limits.body_depth, key, encrypted_only };
                match api::published_body(body, rules) {
                    Err(problem) => net.refuse(conn, problem),
                    Ok((body, sealed)) => {
                        self.expect(body.len());
                        let name = name.unwrap_or_else(|| self.guest());
                        self.hub.handle_publish(Append {
                            ticket: Ticket { conn, purpose: Purpose::Publish, tag: NO_ID },
                            room,
                            author: Author { member: None, name },
                            key: key.map(|key| ScopedKey { scope: Scope::Common, key }),
                            body,
                            sealed,
                            at: net.now().wall,
                        });
                    }
                }
            }
            Ok(Action::Members { room }) => {
                let (count, members, more) = self.hub.roster(&room);
                net.respond(conn, answers::members(&room, &Roster { count, members: &members, more }), false);
            }
            Ok(Action::Page(asset)) => net.respond(conn, asset.answer(&request.headers), false),
            Ok(Action::Health) => net.respond(conn, answers::health(), false),
            Ok(Action::Ready) => match self.not_ready() {
                None => net.respond(conn, answers::ready(self.note.as_deref()), false),
                Some(problem) => net.respond(conn, problem.into_response(), false),
            },
            Ok(Action::Options { allow }) => {
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
    }

    /// Has the answer, whatever it will be, say that a page of an allowed origin may read it: also refusals, since a
    /// page learns only so why.
    pub(super) fn allow_reading(&self, net: &mut Connections, conn: ConnId, headers: &Headers) -> Option<CrossOrigin> {
        let origin = CrossOrigin::of(headers, &self.access.origins)?;
        net.get_mut(conn)?.reply_mut()?.cross_origin = Some(Box::new(origin.clone()));
        Some(origin)
    }

    /// Acknowledges what the store has not decided, with the seq that it will have if all goes well.
    #[cfg(bug = "ack-before-commit")]
    fn acknowledge_early(&mut self, net: &mut Connections, conn: ConnId, session: u32, id: Option<u64>, room: &RoomId) {
        let at = net.now().wall;
        let Some(open) = net.get(conn).and_then(|c| c.open()) else { return };
        let waiting = u64::from(open.in_flight);
        let Some(head) = self.hub.heads(session).find_map(|(r, head)| (r == room).then_some(head)) else { return };
        let seq = Seq(head.0 + waiting + 1);
        self.tell(net, conn, "ack", |out| server::ack(out, id, room, seq, at, false));
    }

    /// Upgrades, greets, and joins the room that the URL names.
    fn open_socket(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        request: &HttpRequest,
        room: Option<crate::types::RoomId>,
    ) -> Result<(), crate::http::problem::Problem> {
        if self.is_stopping {
            return Err(answers::unavailable("the server is shutting down", 2).closing());
        }
        // A browser cannot see why an upgrade failed, so the same refusals come before the 426 (DESIGN: "HTTP").
        if request.method == Method::Get {
            net.admit_handshake(conn).map_err(crate::http::problem::Problem::closing)?;
        }
        let opening = api::socket(request, self.sealed.is_some())?;
        self.refuse_open(net, conn, opening.upgrade.spoken())?;
        let sealed = opening.upgrade.spoken() == Spoken::Sealed;
        let private = sealed || net.get(conn).is_some_and(|c| c.secure);
        let identity = self.new_identity(opening.name, private);
        let session = self.hub.handle_session(identity, conn);
        net.upgrade(conn, &opening.upgrade, session, room.clone());
        if sealed {
            // What is sealed follows the client's first message.
            return Ok(());
        }
        self.greet(net, conn, session, None);
        if let Some(room) = room
            && let Err(error) = self.hub.handle_join(
                session,
                None,
                room,
                opening.start,
                opening.presence,
                &mut Outbox { net, epoch: &self.epoch },
            )
        {
            self.refuse(net, conn, &server::refusal(None, error));
        }
        Ok(())
    }

    /// Who a session is that nobody was before.
    pub(super) fn new_identity(&mut self, name: Option<Name>, private: bool) -> Identity {
        let member = MemberId::from_random(self.random.next());
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&self.random.next().to_be_bytes());
        session_id[8..].copy_from_slice(&self.random.next().to_be_bytes());
        let name = name.unwrap_or_else(|| self.guest());
        Identity { session: SessionId(session_id), member, name, generation: 0, private }
    }

    /// A name for who gave none.
    fn guest(&mut self) -> Name {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let random = self.random.next();
        let tail: String = (0..4).map(|i| char::from(LETTERS[(random >> (5 * i)) as usize & 31])).collect();
        // proof: ten letters and digits are a name.
        Name::parse(&format!("guest-{tail}")).expect("letters and digits")
    }
}
