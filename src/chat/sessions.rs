//! Sessions over their connections: the token that each client gets, and coming back with it.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::crypto::Token;
use crate::engine::Connections;
use crate::hub::{Cursor, Session, SessionKey};
use crate::protocol::reasons::Reason;
use crate::protocol::{ErrorCode, Refusal, server};
use crate::store::{Claim, Claimed, NO_ID, Parked, Purpose, StoreRequest, Ticket};
use crate::types::{ConnId, Identity, Millis, SessionId};
use crate::ws::code;

/// A client waits to hear what the store kept of the session that it wants back.
pub struct Resuming {
    id: Option<u64>,
    token: Token,
    cursors: Vec<Cursor>,
}

impl Chat {
    /// Seconds that servers have run on this database.
    fn running_seconds(&self, now: Millis) -> u64 {
        self.running + now.0 / 1000
    }

    /// Tells a client who it is, and gives it the token to come back with.
    pub(super) fn greet(&mut self, net: &mut Connections, conn: ConnId, key: SessionKey, id: Option<u64>) {
        let Some(token) = self.token(key, net.now().mono) else { return };
        let Some(Session { member, name, .. }) = self.hub.session(key) else { return };
        let welcome =
            server::Welcome { session: &token, member: *member, name, resume_within: self.limits.resume_within };
        self.tell(net, conn, "welcome", |out| server::welcome(out, id, &welcome, &self.limits.welcome));
    }

    /// The session's next token.
    fn token(&mut self, key: SessionKey, now: Millis) -> Option<String> {
        let issued = self.running_seconds(now);
        let session = self.hub.session(key)?;
        let identity = Identity {
            session: session.id,
            member: session.member,
            name: session.name.clone(),
            generation: session.generation.saturating_add(1),
            private: session.private,
        };
        self.hub.handle_token(key, issued);
        Some(self.tokens.seal(&Token { identity, issued }))
    }

    /// A new token for who has had the last one for half its life: else a crash would lose who stayed for long.
    pub(super) fn fresh_token(&mut self, key: SessionKey, now: Millis) -> Option<String> {
        let age = self.running_seconds(now).saturating_sub(self.hub.session(key)?.token_issued);
        if age > self.limits.park_for / 2 { self.token(key, now) } else { None }
    }

    /// A client wants its session back.
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
            return Err(refused("this socket is in a room already; resume on a new one, before any join"));
        }
        let Some(token) = self.tokens.open(token) else {
            return Err(refused("no session of this server has this token; join anew"));
        };
        if token.identity.private && !is_private {
            return Err(refused("this session began sealed: resume it over a sealed socket or TLS, or join anew"));
        }
        if self.hub.find_session(token.identity.session).is_some() {
            return self.take_over(net, conn, Resuming { id, token, cursors }, None);
        }
        let session = token.identity.session;
        let ticket = Ticket { conn, purpose: Purpose::Resume, tag: id.unwrap_or(NO_ID) };
        self.requests.push(StoreRequest::Claim(Claim { ticket, session }));
        self.resuming.insert(conn, Box::new(Resuming { id, token, cursors }));
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.reading = true;
        }
        Ok(())
    }

    /// The store said what it kept of a session.
    pub(super) fn claimed(&mut self, net: &mut Connections, claimed: Claimed) {
        let Claimed { ticket, session, parked } = claimed;
        super::chat::answered(net, &ticket);
        let asked = self.resuming.remove(&ticket.conn).filter(|asked| asked.token.identity.session == session);
        let Some(asked) = asked else {
            // Whoever asked is gone. It may come again.
            return self.park_again(parked);
        };
        let id = asked.id;
        let age = self.running_seconds(net.now().mono).saturating_sub(asked.token.issued);
        let done = if parked.is_none() && self.hub.find_session(session).is_none() && age > self.limits.park_for {
            Err(Refusal::new(id, ErrorCode::NotResumable, "the session is no longer kept; join anew"))
        } else {
            self.take_over(net, ticket.conn, *asked, parked)
        };
        self.settle_resume(net, ticket.conn, done);
    }

    /// The store cannot say what it kept. The token alone tells who it is and, with the cursors, where it goes on.
    pub(super) fn claim_failed(&mut self, net: &mut Connections, ticket: &Ticket, session: SessionId) {
        super::chat::answered(net, ticket);
        let asked = self.resuming.remove(&ticket.conn).filter(|asked| asked.token.identity.session == session);
        if let Some(asked) = asked {
            let done = self.take_over(net, ticket.conn, *asked, None);
            self.settle_resume(net, ticket.conn, done);
        }
    }

    fn settle_resume(&mut self, net: &mut Connections, conn: ConnId, done: Result<(), Refusal>) {
        if let Err(refusal) = done {
            self.refuse(net, conn, &refusal);
        }
    }

    fn park_again(&mut self, parked: Option<Parked>) {
        self.requests.extend(parked.map(StoreRequest::Park));
    }

    /// The session goes on at this connection, whoever had it until now.
    fn take_over(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        resuming: Resuming,
        parked: Option<Parked>,
    ) -> Result<(), Refusal> {
        let Resuming { id, token, cursors } = resuming;
        let Some(provisional) = net.get(conn).and_then(|c| c.open()).map(|open| open.session) else {
            self.park_again(parked);
            return Ok(());
        };
        let resumed = match self.hub.handle_resume(provisional, conn, token.identity, parked.as_ref()) {
            Ok(resumed) => resumed,
            Err(error) => {
                self.park_again(parked);
                return Err(Reason::of(error, outage(self.unavailable)).refusal(id));
            }
        };
        if let Some(old) = resumed.superseded {
            net.doom(old, code::RESUMED_ELSEWHERE, "resumed elsewhere");
        }
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.session = resumed.key;
        }
        self.greet(net, conn, resumed.key, id);
        self.hub.handle_return(
            resumed.key,
            id,
            cursors,
            parked,
            &mut Outbox::new(net, &self.epoch, &self.limits, outage(self.unavailable)),
        );
        Ok(())
    }
}
