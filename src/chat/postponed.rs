//! Messages that wait for a place at the store. Their connections are not read meanwhile; all others are.

use std::collections::HashMap;

use super::Chat;
use super::shares::{Payer, Shares};
use crate::conn::Waits;
use crate::engine::Connections;
use crate::protocol::{Command, Request};
use crate::store::Append;
use crate::types::ConnId;

/// A message that waits. A connection has one at most, since it is not read meanwhile.
#[derive(Debug)]
pub(super) enum Wish {
    /// A request over a socket.
    Request(Request),
    /// A POST.
    Publish(Append),
}

/// What waits for the store, and for a place there.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub shares: Shares,
    /// The wish of each connection that waits, and the number of its share.
    wishes: HashMap<ConnId, (u32, Wish)>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.shares.total().0 == 0 && self.wishes.is_empty()
    }

    /// Returns the number of messages that wait for a place.
    pub fn waiting(&self) -> usize {
        self.wishes.len()
    }

    /// Forgets the wish of a connection that is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some((number, _)) = self.wishes.remove(&conn) {
            self.shares.leave(number, conn);
        }
    }
}

impl Chat {
    /// Returns who pays for what a connection's present request has wait for the store.
    pub(super) fn payer(net: &Connections, conn: ConnId) -> Payer {
        net.client_network(conn).map_or(Payer::Connection(conn), Payer::Network)
    }

    /// Lets a message wait until its payer has a place for it.
    pub(super) fn postpone(&mut self, net: &mut Connections, conn: ConnId, bytes: usize, wish: Wish) {
        let number = self.queue.shares.wait(Chat::payer(net, conn), conn, bytes);
        let before = self.queue.wishes.insert(conn, (number, wish));
        debug_assert!(before.is_none(), "a connection that waits is not read");
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.waits = Waits::Place;
            open.in_flight += 1;
        }
    }

    /// Grants the wishes for which there is a place now.
    pub(super) fn grant(&mut self, net: &mut Connections) {
        while let Some(conn) = self.queue.shares.next(self.limits.append_bytes) {
            match self.queue.wishes.remove(&conn) {
                Some((_, Wish::Publish(append))) => self.hand_in(net, append),
                Some((_, Wish::Request(request))) => {
                    if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
                        open.waits = Waits::Not;
                        // It is counted once more when it goes.
                        open.in_flight = open.in_flight.saturating_sub(1);
                    }
                    if let Err(refusal) = self.carry_out(net, conn, request) {
                        self.refuse(net, conn, &refusal);
                    }
                }
                None => {}
            }
            net.release(conn);
        }
    }

    /// Hands a POST's message in.
    pub(super) fn hand_in(&mut self, net: &Connections, append: Append) {
        let payer = self.queue.shares.take(Chat::payer(net, append.ticket.conn), append.body.len());
        self.hub.handle_publish(Append { ticket: append.ticket.paid_by(payer), ..append });
    }
}

/// Returns the bytes that a request has wait for the store.
pub(super) fn bytes_of(command: &Command) -> Option<usize> {
    match command {
        Command::Send { body, .. } | Command::Signal { body, sealed: Some(_), .. } => Some(body.len()),
        _ => None,
    }
}
