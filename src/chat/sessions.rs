//! Sessions and their tokens: the token that each client gets, and how a client resumes its session with it.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::conn::Waits;
use crate::crypto::Token;
use crate::engine::{Connections, SessionMark};
use crate::http::request::Request;
use crate::hub::{Became, Cursor, Session};
use crate::protocol::reasons::{Reason, UNKNOWN_TOKEN};
use crate::protocol::{ErrorCode, Refusal, server};
use crate::store::{Claim, Claimed, Holder, Mark, NO_ID, Parked, Purpose, Standing, StoreRequest, Ticket};
use crate::types::{ConnId, Millis, RoomId, SessionClaim, SessionId, SessionSlot};
use crate::ws::code;
use crate::ws::handshake::session_shown;

/// A client whose resume waits for the store's record of the session.
pub struct Resuming {
    id: Option<u64>,
    token: Token,
    cursors: Vec<Cursor>,
    /// The changes of the session when it was claimed: see [`Claims`](super::claims::Claims).
    changes: u32,
}

impl Chat {
    /// Returns the seconds that servers have run on this database.
    fn running_seconds(&self, now: Millis) -> u64 {
        self.running + now.0 / 1000
    }

    /// Tells a client its identity, and gives it the token with which it can resume.
    pub(super) fn greet(&mut self, net: &mut Connections, conn: ConnId, slot: SessionSlot, id: Option<u64>) {
        let Some(token) = self.token(slot, net.now().mono) else { return };
        let Some(Session { member, name, who, .. }) = self.hub.session(slot) else { return };
        let welcome = server::Welcome {
            session: &token,
            member: *member,
            name,
            sub: who.identity().map(|identity| identity.sub.as_str()),
            resume_within: self.limits.resume_within,
        };
        self.send_object(net, conn, "welcome", |out| server::welcome(out, id, &welcome, &self.limits.welcome));
    }

    /// Issues the session's next token.
    fn token(&mut self, slot: SessionSlot, now: Millis) -> Option<String> {
        let issued = self.running_seconds(now);
        let session = self.hub.session(slot)?;
        let claim = SessionClaim {
            session: session.id,
            member: session.member,
            name: session.name.clone(),
            generation: session.generation.saturating_add(1),
            private: session.private,
        };
        let sub = session.who.identity().map(|identity| identity.sub.digest());
        let token = self.tokens.seal(&Token { claim, sub, issued })?;
        self.hub.handle_token(slot, issued);
        Some(token)
    }

    /// Returns a new token if the session has had its last one for half its life: otherwise a crash would lose sessions
    /// that have stayed for long.
    pub(super) fn fresh_token(&mut self, slot: SessionSlot, now: Millis) -> Option<String> {
        let age = self.running_seconds(now).saturating_sub(self.hub.session(slot)?.token_issued);
        if age > self.limits.park_for / 2 { self.token(slot, now) } else { None }
    }

    /// Returns the session with which the client of a request for a WebSocket comes back. It does if it shows a token
    /// that its socket could resume with: one of this server, not too old, and the session's latest as far as is known
    /// here. Takes nothing, and changes nothing: whether the session is resumed is decided when its client asks for
    /// that.
    pub(super) fn session_of(&self, request: &Request, private: bool, now: Millis) -> Option<SessionMark> {
        let token = self.tokens.open(session_shown(request)?)?;
        let age = self.running_seconds(now).saturating_sub(token.issued);
        let session = self.hub.find_session(token.claim.session).and_then(|slot| self.hub.session(slot));
        let is_stale = match session {
            Some(session) => token.claim.generation < session.generation,
            None => age > self.limits.park_for,
        };
        let is_exposed = token.claim.private && !private;
        (!is_stale && !is_exposed).then_some(SessionMark(token.claim.session.0))
    }

    /// Resumes a session: at once if it is here, otherwise once the store has said what it kept.
    ///
    /// # Errors
    /// The refusal of this request.
    pub(super) fn resume(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        id: Option<u64>,
        token: &str,
        cursors: Vec<Cursor>,
    ) -> Result<(), Refusal> {
        let refused = |text: &'static str| Refusal::new(id, ErrorCode::NotResumable, text);
        let Some(connection) = net.get(conn) else { return Ok(()) };
        let is_private = connection.is_private();
        let Some(provisional) = connection.open().map(|open| open.session) else { return Ok(()) };
        if self.hub.session(provisional).is_none_or(|s| !s.is_idle()) {
            return Err(refused("this socket has already joined a room; resume on a new one, before any join"));
        }
        let Some(token) = self.tokens.open(token) else {
            return Err(refused(UNKNOWN_TOKEN));
        };
        if token.claim.private && !is_private {
            return Err(refused("this session began encrypted: resume it over a sealed socket or TLS, or join again"));
        }
        let who = self.hub.session(provisional).map(|session| &session.who);
        let sub = who.and_then(|who| who.identity()).map(|identity| identity.sub.digest());
        match token.sub {
            bound if bound == sub => {}
            // Its client can do something about that.
            Some(_) if sub.is_none() => {
                return Err(Refusal::new(id, ErrorCode::Unauthorized, "say first whose session this is: 'auth'"));
            }
            _ => return Err(refused("this is somebody else's session; join again")),
        }
        if self.hub.find_session(token.claim.session).is_some() {
            return self.take_over(net, conn, Resuming { id, token, cursors, changes: 0 }, None, None);
        }
        self.claim(net, conn, Resuming { id, token, cursors, changes: 0 });
        Ok(())
    }

    /// Asks the store for its record of a session.
    fn claim(&mut self, net: &mut Connections, conn: ConnId, resuming: Resuming) {
        let session = resuming.token.claim.session;
        let ticket = Ticket::new(conn, Purpose::Resume, resuming.id.unwrap_or(NO_ID));
        self.requests.push(StoreRequest::Claim(Claim { ticket, session }));
        let changes = self.claims.begin(session);
        self.resuming.insert(conn, Box::new(Resuming { changes, ..resuming }));
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.waits = Waits::Page;
        }
    }

    /// Returns the resume of this connection that has waited for the answer to a claim of this session, if there is
    /// one, and whether anything became of the session since: the answer does not say so.
    fn take_resuming(&mut self, conn: ConnId, session: SessionId) -> Option<(Resuming, bool)> {
        self.resuming.get(&conn).filter(|asked| asked.token.claim.session == session)?;
        let asked = self.resuming.remove(&conn)?;
        let is_late = self.claims.end(session) != asked.changes && self.hub.find_session(session).is_none();
        Some((*asked, is_late))
    }

    /// Forgets the resume of a connection that is gone.
    pub(super) fn forget_claim(&mut self, conn: ConnId) {
        if let Some(asked) = self.resuming.remove(&conn) {
            self.claims.end(asked.token.claim.session);
        }
    }

    /// Hands over to the store what became of sessions. The closing frame of a client that has ended its session waits
    /// for the answer.
    pub(super) fn note_became(&mut self, net: &mut Connections) {
        for Became { session, standing, client } in self.hub.poll_became() {
            self.claims.change(session);
            let asker = (standing == Standing::Ended).then(|| Ticket::new(client, Purpose::End, 0));
            if asker.is_some() {
                net.hold_close(client);
            }
            let holder = Holder::of(net.payer(client).network());
            self.requests.push(StoreRequest::Mark(Mark { session, standing, holder, asker }));
        }
    }

    /// Continues a resume with the record that the store kept of the session.
    pub(super) fn claimed(&mut self, net: &mut Connections, claimed: Claimed) {
        let Claimed { ticket, session, parked, standing } = claimed;
        super::chat::answered(net, &ticket);
        let Some((asked, is_late)) = self.take_resuming(ticket.conn, session) else {
            // The client is gone, and may try again.
            return self.park_again(parked);
        };
        if is_late {
            self.park_again(parked);
            return self.claim(net, ticket.conn, asked);
        }
        let id = asked.id;
        let age = self.running_seconds(net.now().mono).saturating_sub(asked.token.issued);
        let done = if parked.is_none() && self.hub.find_session(session).is_none() && age > self.limits.park_for {
            Err(Refusal::new(id, ErrorCode::NotResumable, "the session has expired; join again"))
        } else {
            self.take_over(net, ticket.conn, asked, parked, standing)
        };
        self.settle_resume(net, ticket.conn, done);
    }

    /// Continues a resume although the store cannot read its record: the token identifies the client, and the cursors
    /// say where it continues. `standing` is what is known of the session all the same.
    pub(super) fn claim_failed(
        &mut self,
        net: &mut Connections,
        ticket: &Ticket,
        session: SessionId,
        standing: Option<Standing>,
    ) {
        super::chat::answered(net, ticket);
        if let Some((asked, is_late)) = self.take_resuming(ticket.conn, session) {
            if is_late {
                return self.claim(net, ticket.conn, asked);
            }
            let done = self.take_over(net, ticket.conn, asked, None, standing);
            self.settle_resume(net, ticket.conn, done);
        }
    }

    /// Refuses a resume that failed.
    fn settle_resume(&mut self, net: &mut Connections, conn: ConnId, done: Result<(), Refusal>) {
        if let Err(refusal) = done {
            self.refuse(net, conn, &refusal);
        }
    }

    /// Hands a session's record back to the store.
    fn park_again(&mut self, parked: Option<Parked>) {
        self.requests.extend(parked.map(StoreRequest::Park));
    }

    /// Moves a session to this connection, and closes its earlier one.
    fn take_over(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        resuming: Resuming,
        parked: Option<Parked>,
        standing: Option<Standing>,
    ) -> Result<(), Refusal> {
        let Resuming { id, token, cursors, .. } = resuming;
        let Some(provisional) = net.get(conn).and_then(|c| c.open()).map(|open| open.session) else {
            self.park_again(parked);
            return Ok(());
        };
        let resumed = match self.hub.handle_resume(provisional, conn, token.claim, parked.as_ref(), standing) {
            Ok(resumed) => resumed,
            Err(error) => {
                self.park_again(parked);
                return Err(Reason::of(error, outage(self.unavailable)).refusal(id));
            }
        };
        if let Some(old) = resumed.superseded {
            net.schedule_close(old, code::RESUMED_ELSEWHERE, "resumed elsewhere");
        }
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.session = resumed.slot;
        }
        self.greet(net, conn, resumed.slot, id);
        let who = self.hub.session(resumed.slot).map(|session| session.who.clone()).unwrap_or_default();
        let rights = |room: &RoomId| self.doors.right(&who, room);
        let outage = outage(self.unavailable);
        let mut out = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage);
        self.hub.handle_return(resumed.slot, id, cursors, parked, &rights, &mut out);
        Ok(())
    }
}
