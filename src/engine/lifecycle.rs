//! Opens connections, turns them into WebSockets or event streams, and drops them; counts each against an address
//! meanwhile.

use core::net::IpAddr;

use super::admission::Width;
use super::slot::{Counted, Slot};
use super::{Connections, Fact, Now, Output};
use crate::conn::{Connection, Ending, Protocol, Rate, Wire};
use crate::crypto::sealed::{HANDSHAKE_BYTES, Transport};
use crate::http::forwarded;
use crate::http::headers::Headers;
use crate::http::response::Response;
use crate::types::{ConnId, SessionSlot};
use crate::ws::handshake::Upgrade;

impl Connections {
    /// Sets whether the server has reached its connection limit, for requests that ask whether a WebSocket would open.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Notes that the peer has begun its TLS handshake, and was answered.
    pub fn has_begun_tls(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.wire = Wire::Tls;
        }
    }

    /// Adds a new connection. If its address has too many, it is answered with 429 and closed; without a word, where
    /// its answer would take one of the last places, or need a TLS handshake that is not free.
    pub(super) fn open(&mut self, id: ConnId, mut connection: Connection, secure: bool) {
        connection.wire = if secure { Wire::SilentTls } else { Wire::Plain };
        let peer = connection.peer.address();
        let index = id.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let admitted = self.admission.may_connect(peer.ip(), self.part_of_places());
        // A refused connection counts, too, until it is gone.
        let is_counted = self.admission.count(peer.ip(), self.now.mono);
        let may_be_told = !self.is_tight() && (!secure || self.admission.has_secure(peer.ip(), self.now.mono));
        let is_dropped = admitted.is_err() && !may_be_told;
        if let Err(problem) = admitted {
            let date = self.date().to_owned();
            connection.turn_away(problem.into_response(), &date, self.now.mono);
        }
        let asks_at = self.admission.may_ask_at(peer.ip(), self.now.mono);
        connection.slow_until(asks_at, self.now.mono);
        let counted = if is_counted { Counted::Peer } else { Counted::Not };
        self.memory.count += 1;
        self.places.excess += usize::from(connection.is_excess());
        self.slots[index] = Some(Slot { counted, ..Slot::new(id.generation, connection) });
        if secure {
            let bytes = self.memory.budget.secure;
            self.grows_beside(id, bytes.into());
        }
        if is_dropped {
            return self.drop(id, Ending::Refused);
        }
        if secure {
            self.begin_tls(id, peer.ip());
        }
        self.mark_dirty(id);
        self.arm(id);
    }

    /// Lets a new connection make its TLS handshake, when its turn has come.
    fn begin_tls(&mut self, id: ConnId, address: IpAddr) {
        let now = self.now.mono;
        let until = self.admission.spend_secure(address, Width::Own, now);
        if let Some(connection) = self.get_mut(id) {
            connection.slow_until(until, now);
            connection.owes_tls = true;
        }
        if until <= now {
            self.pay_for_tls(id);
        }
    }

    /// Goes on with a connection that was over a rate and has waited.
    pub(super) fn waited(&mut self, id: ConnId) {
        self.pay_for_tls(id);
        self.release(id);
    }

    /// Takes the TLS handshake that this connection is about to make from its wider networks, if that is not done. What
    /// is over the rate of its own network, and perhaps never comes to anything, must not take from its neighbours.
    fn pay_for_tls(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(connection) = self.get_mut(id).filter(|connection| connection.owes_tls) else { return };
        connection.owes_tls = false;
        let address = connection.peer.address().ip();
        let until = self.admission.spend_secure(address, Width::Wider, now);
        if let Some(connection) = self.get_mut(id) {
            connection.slow_until(until, now);
        }
    }

    /// Records for which client a request came, if its peer is a trusted proxy. A proxy's connection carries requests
    /// of many clients, so this holds until the next request; for a WebSocket it is the client of the handshake.
    pub(super) fn note_client(&mut self, id: ConnId, headers: &Headers) {
        let Some(peer) = self.get(id).map(|c| c.peer.address().ip()) else { return };
        let client = forwarded::client(peer, headers, &self.admission.trusted);
        if let Some(connection) = self.get_mut(id) {
            connection.peer.asks_for(client);
        }
    }

    /// Drops a connection: its socket is to be closed, and its slot is free for the next one.
    pub(super) fn drop(&mut self, id: ConnId, ending: Ending) {
        let Some(slot) = self.slot(id) else { return };
        let (armed, counted) = (slot.armed, slot.counted_address());
        let (peer, protocol) = (slot.connection.peer.address(), slot.connection.protocol());
        // An HTTP connection may have carried requests of several clients.
        let client =
            slot.connection.peer.client().filter(|_| !matches!(protocol, Protocol::Http | Protocol::ExcessHttp));
        self.deadlines.remove(&(armed, id));
        self.handshake_line.leave(id);
        self.places.excess -= usize::from(protocol == Protocol::ExcessHttp);
        self.weigh_off(id);
        self.slots[id.index as usize] = None;
        if let Some(address) = counted {
            self.admission.uncount(address, self.now.mono);
        }
        self.push_output(Output::Close(id));
        self.push_output(Output::Log(Fact::Closed { conn: id, peer, client, ending, protocol }));
    }

    /// Takes one HTTP request of any kind from the rates of the connection and of its address. Past either of them the
    /// socket is not read for a while. A trusted proxy's socket is always read, since it carries requests of many.
    pub(super) fn spend_request(&mut self, id: ConnId) {
        let (Now { mono, .. }, limits) = self.clock_and_limits();
        let Some(peer) = self.get(id).map(|connection| connection.peer.address().ip()) else { return };
        if self.admission.is_trusted(peer) {
            return;
        }
        let until = self.admission.spend_request(peer, mono);
        if let Some(connection) = self.get_mut(id) {
            let own = connection.spend_request(limits.requests, mono);
            connection.slow_until(own.max(until), mono);
        }
    }

    /// Takes one HTTP request that a trusted proxy brings from its client's rate, or from the connection's where it
    /// names none. Others have waited instead.
    ///
    /// # Errors
    /// The rate is spent: the milliseconds until one more is free.
    pub fn take_request(&mut self, id: ConnId, rate: Rate) -> Result<(), u64> {
        let now = self.now.mono;
        let Some(peer) = self.get(id).map(|connection| &connection.peer) else { return Ok(()) };
        match peer.client() {
            Some(client) => self.client_rates.take(client, rate, now),
            None if !self.admission.is_trusted(peer.address().ip()) => Ok(()),
            None => self.get_mut(id).map_or(Ok(()), |connection| connection.take_request(rate, now)),
        }
    }

    /// Takes one request over a socket from the rate of its address. Past it the socket is not read until its turn
    /// comes.
    pub fn spend_of_address(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(address) = self.get(id).map(|connection| connection.peer.asker()) else { return };
        let until = self.admission.spend_request(address, now);
        if let Some(connection) = self.get_mut(id) {
            connection.slow_until(until, now);
        }
    }

    /// Answers a request for an upgrade. The connection is a WebSocket from now on, and counts against its client.
    pub fn upgrade(&mut self, id: ConnId, upgrade: &Upgrade, session: SessionSlot) {
        let now = self.now.mono;
        let Some(connection) = self.get_mut(id) else { return };
        connection.upgrade(upgrade, session, now);
        self.count_against_client(id);
    }

    /// Answers the handshake of a sealed socket; see [`Connection::begin_sealed`].
    pub fn begin_sealed(&mut self, id: ConnId, answer: &[u8; HANDSHAKE_BYTES], transport: Transport) {
        let now = self.now.mono;
        if let Some(connection) = self.get_mut(id) {
            connection.begin_sealed(answer, transport, now);
            self.mark_dirty(id);
        }
    }

    /// Closes a WebSocket whose client has ended its session; see [`Connection::end`].
    pub fn end(&mut self, id: ConnId) -> Option<Ending> {
        let now = self.now.mono;
        let ending = self.get_mut(id)?.end(now);
        self.mark_dirty(id);
        self.arm(id);
        ending
    }

    /// Makes the answer to a client's close wait for one thing more; see [`Connection::hold_close`].
    pub fn hold_close(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.hold_close();
        }
    }

    /// Answers a client's close, if it waits for nothing; see [`Connection::settle_close`].
    pub fn settle_close(&mut self, id: ConnId) {
        let now = self.now.mono;
        if self.get_mut(id).is_some_and(|connection| connection.settle_close(now)) {
            self.mark_dirty(id);
            self.arm(id);
        }
    }

    /// Answers the awaited request with the head of an event stream for this session. The connection counts against its
    /// client from now on. `early`: see [`Connection::begin_events`].
    pub fn begin_events(&mut self, id: ConnId, head: Response, session: SessionSlot, early: u8) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        if let Some(connection) = self.get_mut(id) {
            connection.begin_events(head, session, early, &date, now);
            self.count_against_client(id);
            self.mark_dirty(id);
            self.release(id);
            self.arm(id);
        }
    }

    /// Counts a proxied connection against its client instead of the proxy.
    fn count_against_client(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(slot) = self.slot(id) else { return };
        let Some(client) = slot.connection.peer.client() else { return };
        if let Some(peer) = slot.counted_address() {
            self.admission.uncount(peer, now);
        }
        let counted = if self.admission.count(client, now) { Counted::Client } else { Counted::Not };
        if let Some(slot) = self.slot_mut(id) {
            slot.counted = counted;
        }
    }
}
