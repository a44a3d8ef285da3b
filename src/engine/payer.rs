//! Who pays for what a connection makes the server hold.

use core::net::IpAddr;

use super::Connections;
use crate::types::ConnId;

/// Who pays for what a connection makes the server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// A network: all of its connections share.
    Network(IpAddr),
    /// A connection from loopback or from a trusted proxy, which cannot be told apart by address.
    Connection(ConnId),
}

impl Payer {
    /// Returns the network that pays; `None` if a connection does.
    pub fn network(self) -> Option<IpAddr> {
        match self {
            Payer::Network(network) => Some(network),
            Payer::Connection(_) => None,
        }
    }
}

impl Connections {
    /// Returns who pays for what this connection, and its present request, makes the server hold.
    pub fn payer(&self, id: ConnId) -> Payer {
        self.client_network(id).map_or(Payer::Connection(id), Payer::Network)
    }
}
