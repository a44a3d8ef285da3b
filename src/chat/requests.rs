//! Requests over a WebSocket, carried out with the hub.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use super::outbox::charge;
use super::postponed::Place;
use crate::api;
use crate::conn::Waits;
use crate::engine::{App as _, Connections, Now};
use crate::hub::{Entry, HubError, Roster, Said};
use crate::protocol::client::{Bounds, parse};
use crate::protocol::encrypted::EncryptedRooms;
use crate::protocol::reasons::{self, Reason};
use crate::protocol::{Command, ErrorCode, Refusal, Request, server};
use crate::store::{Found, NO_ID, Purpose, Seek, Sought, StoreRequest, Ticket};
use crate::types::{ConnId, RoomId};

impl Chat {
    /// Carries out the one request of a text frame, or refuses it.
    pub(super) fn socket_request(&mut self, net: &mut Connections, conn: ConnId, text: &str) {
        let now = net.now().mono;
        let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) else { return };
        let within_rate = open.requests.take(self.limits.requests, now);
        match within_rate {
            Ok(()) => net.spend_of_address(conn),
            Err(wait) => net.slow(conn, wait),
        }
        let bounds = Bounds { body_depth: self.limits.body_depth, page_messages: api::PAGE_MAX };
        let done = match (parse(text, &bounds), within_rate) {
            (Err(refusal), _) => Err(refusal),
            // No rate keeps a client from leaving: it is the socket's last request.
            (Ok(request), Err(wait)) if request.command != Command::End => Err(Refusal {
                retry_after_ms: Some(wait),
                ..Refusal::new(request.id, ErrorCode::RateLimited, reasons::TOO_FAST)
            }),
            (Ok(request), _) => {
                let Some(request) = self.now_or_later(net, conn, request) else { return };
                self.carry_out(net, conn, request)
            }
        };
        if let Err(refusal) = done {
            self.refuse(net, conn, &refusal);
        }
    }

    /// Refuses a request, and counts that against the client's error budget.
    pub(super) fn refuse(&mut self, net: &mut Connections, conn: ConnId, refusal: &Refusal) {
        self.send_object(net, conn, "error", |out| server::error(out, refusal));
        charge(net, conn, refusal.code, self.limits.errors);
    }

    pub(super) fn carry_out(&mut self, net: &mut Connections, conn: ConnId, request: Request) -> Result<(), Refusal> {
        let id = request.id;
        let Some(session) = net.get(conn).and_then(|c| c.open()).map(|open| open.session) else { return Ok(()) };
        self.not_nobody(conn, &request)?;
        let room = |room| {
            let room = self.room_of(conn, room);
            room.ok_or_else(|| {
                Refusal::field(id, "room", "'room' is missing, and this socket was not opened on a room")
            })
        };
        let outage = outage(self.unavailable);
        let hub_error = |error| Reason::of(error, outage).refusal(id);
        match request.command {
            Command::Join { room: named, start, presence, name } => {
                let room = room(named)?;
                self.take_name(net, conn, id, name)?;
                let right = self.right_of(session, &room);
                let mut out = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage);
                let entry = Entry { room, start, presence, right };
                self.hub.handle_join(session, id, entry, &mut out).map_err(hub_error)
            }
            Command::Leave { room: named } => {
                let room = room(named)?;
                let mut out = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage);
                self.hub.handle_leave(session, id, &room, &mut out).map_err(hub_error)
            }
            Command::Send { room: named, key, body, sealed } => {
                let room = room(named)?;
                self.keep_encrypted(id, &room, sealed.is_some())?;
                let bytes = body.len();
                let Now { wall: at, mono } = net.now();
                let Place { payer, making, needs } = self.take_place(net, conn, &room, bytes);
                let said = Said { key, body, sealed, at, payer, making, needs };
                if let Err(error) = self.hub.handle_send(session, id, room, said) {
                    self.give_place_back((payer, making), bytes, false, mono);
                    return Err(hub_error(error));
                }
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
                                ticket: Ticket::new(conn, Purpose::Signal, id.unwrap_or(NO_ID)),
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
                    open.waits = Waits::Page;
                }
                let ticket = Ticket::new(conn, Purpose::History, id.unwrap_or(NO_ID));
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
                self.send_object(net, conn, "members", |out| server::members(out, id, &room, &roster));
                Ok(())
            }
            Command::Resume { session, cursors } => self.resume(net, conn, id, &session, cursors),
            Command::Auth { token } => self.authenticate(net, conn, id, &token),
            Command::Ping => {
                let token = self.fresh_token(session, net.now().mono);
                self.send_object(net, conn, "pong", |out| {
                    server::pong(out, id, token.as_deref(), self.hub.heads(session))
                });
                Ok(())
            }
            Command::End => {
                self.end(net, conn);
                Ok(())
            }
        }
    }

    /// Refuses what nobody may ask before it is known who asks.
    ///
    /// # Errors
    /// The refusal of this request.
    fn not_nobody(&self, conn: ConnId, request: &Request) -> Result<(), Refusal> {
        let may_always = matches!(request.command, Command::Auth { .. } | Command::Ping | Command::End);
        match may_always || !self.entering.is_nobody(conn) {
            true => Ok(()),
            false => Err(Refusal::new(request.id, ErrorCode::Unauthorized, reasons::AUTH_FIRST)),
        }
    }

    /// Ends the session of a client that is done, and closes its socket.
    fn end(&mut self, net: &mut Connections, conn: ConnId) {
        let Some(session) = net.get(conn).and_then(|c| c.open()).map(|open| open.session) else { return };
        if let Some(ending) = net.end(conn) {
            self.gone(net, conn, session, ending);
            net.settle_close(conn);
        }
    }

    /// Asks the store whether a signal repeats the ciphertext of a message in the room: otherwise somebody without the
    /// room's key could replay it. The signal waits and counts like a send.
    fn seek(&mut self, net: &mut Connections, seek: Seek) {
        let payer = self.queue.shares.take(net.payer(seek.ticket.conn), seek.body.len(), net.now().mono);
        let seek = Seek { ticket: seek.ticket.paid_by(payer), ..seek };
        if let Some(open) = net.get_mut(seek.ticket.conn).and_then(|c| c.open_mut()) {
            open.in_flight += 1;
        }
        self.requests.push(StoreRequest::Seek(seek));
    }

    /// Delivers a signal to its room, if the store has found its body in no message there.
    pub(super) fn sought(&mut self, net: &mut Connections, sought: Sought) {
        let Sought { ticket, room, body, outcome } = sought;
        self.queue.shares.give_back(ticket.payer, body.len());
        super::chat::answered(net, &ticket);
        let Some(session) = net.get(ticket.conn).and_then(|c| c.open()).map(|open| open.session) else { return };
        let done = match outcome {
            Found::Nowhere => self.hub.handle_signal(session, &room, body),
            Found::Kept => Err(HubError::BodyReused),
            Found::Unknown => Err(HubError::StorageUnavailable),
        };
        if let Err(error) = done {
            let id = (ticket.tag != NO_ID).then_some(ticket.tag);
            self.refuse(net, ticket.conn, &Reason::of(error, outage(self.unavailable)).refusal(id));
        }
    }

    /// Refuses a plain body in a room that accepts only encrypted messages.
    ///
    /// # Errors
    /// The refusal of this request.
    fn keep_encrypted(&self, id: Option<u64>, room: &RoomId, encrypted: bool) -> Result<(), Refusal> {
        if encrypted || !self.limits.encrypted_rooms.contains(room) {
            return Ok(());
        }
        Err(Refusal { field: Some("body"), ..Refusal::new(id, ErrorCode::NotEncrypted, EncryptedRooms::REFUSAL) })
    }
}
