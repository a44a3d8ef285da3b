//! Who asks: the credentials that requests and sockets show, and the sockets of those who have yet to say who they are.

use std::collections::{BTreeSet, HashMap};

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::access::{Denied, Operation, Who};
use crate::api::answers;
use crate::conn::{Connection, Encoding};
use crate::engine::Connections;
use crate::http::authorization::bearer;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::hub::{Entry, Presence, Start};
use crate::protocol::client::Credentials;
use crate::protocol::reasons::{AUTH_FIRST, Reason, UNKNOWN_PERSON};
use crate::protocol::{ErrorCode, Refusal, server};
use crate::types::{ConnId, Millis, Right, RoomId, SessionSlot};
use crate::ws::code;

/// What follows once a client has said who it is.
#[derive(Debug)]
pub(super) enum Then {
    /// It joins this room. Until then it has no identity at all, not even a guest's.
    Join(RoomId, Start, Presence),
    /// It has no identity until then, and then whatever it asks.
    Greet,
    /// Nothing: it is a guest, who may do nothing.
    Nothing,
}

/// The sockets whose clients have yet to say who they are. A connection has one entry at most.
#[derive(Debug, Default)]
pub(super) struct Entering {
    by_conn: HashMap<ConnId, (Millis, Then)>,
    by_time: BTreeSet<(Millis, ConnId)>,
}

impl Entering {
    fn add(&mut self, conn: ConnId, until: Millis, then: Then) {
        self.by_conn.insert(conn, (until, then));
        self.by_time.insert((until, conn));
    }

    /// Forgets a socket. Returns what was to follow.
    pub fn remove(&mut self, conn: ConnId) -> Option<Then> {
        let (until, then) = self.by_conn.remove(&conn)?;
        self.by_time.remove(&(until, conn));
        Some(then)
    }

    fn has(&self, conn: ConnId) -> bool {
        self.by_conn.contains_key(&conn)
    }

    /// Returns whether nothing may be asked on this socket before its client has said who it is.
    pub fn is_nobody(&self, conn: ConnId) -> bool {
        matches!(self.by_conn.get(&conn), Some((_, Then::Join(..) | Then::Greet)))
    }

    /// Returns when [`Chat::end_late_entries`] is next due.
    pub fn deadline(&self) -> Option<Millis> {
        self.by_time.first().map(|(until, _)| *until)
    }

    fn pop_late(&mut self, now: Millis) -> Option<ConnId> {
        let conn = self.by_time.first().filter(|(until, _)| *until <= now).map(|(_, conn)| *conn)?;
        self.remove(conn);
        Some(conn)
    }

    /// Forgets those who wait as guests: guests may do something by now.
    fn let_guests_in(&mut self) {
        let by_time = &mut self.by_time;
        self.by_conn.retain(|conn, (until, then)| {
            let stays = !matches!(then, Then::Nothing);
            if !stays {
                by_time.remove(&(*until, *conn));
            }
            stays
        });
    }
}

impl Chat {
    /// Returns who asks over HTTP.
    ///
    /// # Errors
    /// 401 for a token by which nobody is known: who shows one does not mean to be a guest. 400 for two of them.
    pub(super) fn asker(&self, request: &Request) -> Result<Who, Problem> {
        match bearer(&request.headers)? {
            None => Ok(Who::Guest),
            Some(token) => {
                let known = self.doors.by_token(token.as_bytes()).cloned();
                known.map(Who::Known).ok_or_else(answers::unknown_token)
            }
        }
    }

    /// Returns whether somebody may do this in a room.
    ///
    /// # Errors
    /// Which right is missing.
    pub(super) fn may(&self, who: &Who, operation: Operation, room: &RoomId) -> Result<(), Denied> {
        operation.check(who, self.doors.right(who, room))
    }

    /// Returns what the client of a session may do in a room.
    pub(super) fn right_of(&self, slot: SessionSlot, room: &RoomId) -> Option<Right> {
        self.doors.right(&self.hub.session(slot)?.who, room)
    }

    /// Gives a socket's client a while to say who it is.
    pub(super) fn wait_for_auth(&mut self, net: &Connections, conn: ConnId, then: Then) {
        self.entering.add(conn, net.now().mono.after(self.limits.auth_wait), then);
    }

    /// Gives a socket's client a while to say who it is if it is a guest, and guests may do nothing here.
    pub(super) fn wait_if_guests_may_nothing(&mut self, net: &Connections, conn: ConnId, slot: SessionSlot) {
        let is_guest = self.hub.session(slot).is_some_and(|session| session.who == Who::Guest);
        if is_guest && self.doors.guests().is_none() {
            self.wait_for_auth(net, conn, Then::Nothing);
        }
    }

    /// Makes the client of a socket who it shows to be. In a room it already is somebody, and stays that; the same
    /// person may show a token again.
    ///
    /// # Errors
    /// The refusal of this request. What the client was before, it still is.
    pub(super) fn authenticate(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        id: Option<u64>,
        token: &Credentials,
    ) -> Result<(), Refusal> {
        let Some(identity) = self.doors.by_token(token.as_bytes()).cloned() else {
            return Err(Refusal::new(id, ErrorCode::Unauthorized, UNKNOWN_PERSON));
        };
        let Some(before) = net.get(conn).and_then(|c| c.session()) else { return Ok(()) };
        let Some(session) = self.hub.session(before) else { return Ok(()) };
        let (private, who) = (session.private, Who::Known(identity.clone()));
        if session.who.is_same(&who) {
            self.hub.handle_identity(before, who);
            self.renew_rights(net, before);
            self.greet(net, conn, before, id);
            return Ok(());
        }
        if !session.is_idle() {
            let text = "this socket is in a room as somebody else; say who you are on a new one, before any join";
            return Err(Refusal::new(id, ErrorCode::Forbidden, text));
        }
        // Another session: what was given to the client so far is the token of a guest's.
        let claim = self.new_session(Some(identity.name.clone()), private);
        let slot = self.hub.handle_session(claim, conn);
        self.hub.handle_identity(slot, who);
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.session = slot;
        }
        self.hub.handle_gone(before, conn);
        self.greet(net, conn, slot, id);
        if let Some(Then::Join(room, start, presence)) = self.entering.remove(conn) {
            self.enter(net, conn, slot, (room, start, presence));
        }
        Ok(())
    }

    /// Joins the room on which a socket was opened; a refusal is told without a request's id.
    pub(super) fn enter(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        slot: SessionSlot,
        (room, start, presence): (RoomId, Start, Presence),
    ) {
        let right = self.right_of(slot, &room);
        let outage = outage(self.unavailable);
        let mut out = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage);
        let entry = Entry { room, start, presence, right };
        if let Err(error) = self.hub.handle_join(slot, None, entry, &mut out) {
            self.refuse(net, conn, &Reason::of(error, outage).refusal(None));
        }
    }

    /// Closes the sockets whose clients did not say in time who they are.
    pub(super) fn end_late_entries(&mut self, net: &mut Connections) {
        let now = net.now().mono;
        while let Some(conn) = self.entering.pop_late(now) {
            self.turn_out(net, conn, AUTH_FIRST);
        }
    }

    /// Tells a client that it is nobody here, and closes its socket or ends its stream.
    fn turn_out(&self, net: &mut Connections, conn: ConnId, text: &'static str) {
        let refusal = Refusal::new(None, ErrorCode::Unauthorized, text);
        match net.get(conn).and_then(Connection::encoding) {
            // In a browser, an event named `error` would look like a broken connection.
            Some(Encoding::Events) => self.send_object(net, conn, "bye", |out| {
                server::bye(out, refusal.code.as_str(), Some(text), None);
            }),
            _ => self.send_object(net, conn, "error", |out| server::error(out, &refusal)),
        }
        net.schedule_close(conn, code::UNAUTHORIZED, text);
    }

    /// Applies to all sessions, also those whose clients are away, who is known by now and what they may do. An
    /// operator's reload pays for it, whatever it costs.
    pub(super) fn review(&mut self, net: &mut Connections) {
        if self.doors.guests().is_some() {
            self.entering.let_guests_in();
        }
        let slots: Vec<SessionSlot> = self.hub.sessions().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(session) = self.hub.session(slot) else { continue };
            let client = session.client;
            match self.doors.now(&session.who) {
                Some(who) => {
                    self.hub.handle_identity(slot, who);
                    self.renew_rights(net, slot);
                    if client != ConnId::NOBODY && !self.entering.has(client) {
                        self.wait_if_guests_may_nothing(net, client, slot);
                    }
                }
                None => {
                    self.turn_out(net, client, "this token counts no longer");
                    self.hub.handle_gone(slot, client);
                }
            }
        }
    }

    /// Looks up anew what a session may do in its rooms.
    fn renew_rights(&mut self, net: &mut Connections, slot: SessionSlot) {
        let Some(who) = self.hub.session(slot).map(|session| session.who.clone()) else { return };
        let outage = outage(self.unavailable);
        let mut out = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage);
        self.hub.handle_rights(slot, &|room| self.doors.right(&who, room), &mut out);
    }
}
