//! One connection's slot: the connection, and the engine's own state about it, which `conn/` does not know.

use core::net::IpAddr;

use crate::conn::Connection;
use crate::types::Millis;

/// Holds a connection, and records which of the engine's lists contain it.
pub(super) struct Slot {
    /// Distinguishes this connection from earlier ones with the same index.
    pub generation: u32,
    pub counted: Counted,
    pub reading: Reading,
    /// The connection is in the list of those to flush.
    pub is_dirty: bool,
    /// The app waits for the queue to drain to its low-water mark.
    pub wants_drained: bool,
    /// The connection's entry in the set of deadlines; [`UNARMED`] if it has none.
    pub armed: Millis,
    /// Bytes of memory that the connection held when it was weighed last.
    pub held: u32,
    /// Bytes that layers above and below hold for it: a postponed message, records of TLS that are not whole.
    pub beside: u32,
    pub connection: Connection,
}

/// Bytes of a connection's slot beside the connection.
pub const SLOT_BYTES: usize = size_of::<Option<Slot>>() - size_of::<Connection>();

/// The value of [`Slot::armed`] without a deadline.
pub(super) const UNARMED: Millis = Millis(u64::MAX);

/// Whether the engine lets the connection's bytes be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Allowed,
    /// Paused like [`Reading::Held`], but for longer than an answer takes: what the peer sends fills the kernel's
    /// buffer.
    Stalled,
    /// Paused until the connection's own answer, acknowledgement or flush: the code that completes it calls
    /// [`super::Connections::release`]. Or the server stops.
    Held,
}

/// The address against whose limit a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Not,
    /// The socket's peer.
    Peer,
    /// The client for whom a trusted proxy asks.
    Client,
}

impl Slot {
    /// Returns a slot for a new connection, which counts against no address yet.
    pub fn new(generation: u32, connection: Connection) -> Slot {
        Slot {
            generation,
            counted: Counted::Not,
            reading: Reading::Allowed,
            is_dirty: false,
            wants_drained: false,
            armed: UNARMED,
            held: 0,
            beside: 0,
            connection,
        }
    }

    /// Returns the address against whose limit the connection counts.
    pub fn counted_address(&self) -> Option<IpAddr> {
        match self.counted {
            Counted::Not => None,
            Counted::Peer => Some(self.connection.peer.address().ip()),
            Counted::Client => self.connection.peer.client(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection costs a slot, even each of ten thousand idle ones.
    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Option<Slot>>() <= 232, "{}", size_of::<Option<Slot>>());
    }
}
