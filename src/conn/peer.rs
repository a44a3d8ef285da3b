//! The peer of a connection, and the client for whom it asks where it is a proxy. Knows addresses only: which proxies
//! are trusted is decided elsewhere.

use core::net::{IpAddr, SocketAddr};

/// The addresses at the other end. As small as the peer's alone: only a proxied connection pays for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(Route);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Direct(SocketAddr),
    Proxied(Box<(SocketAddr, IpAddr)>),
}

impl Peer {
    /// Returns a peer that asks for itself.
    pub fn new(address: SocketAddr) -> Peer {
        Peer(Route::Direct(address))
    }

    /// Returns the address of the socket's peer.
    pub fn address(&self) -> SocketAddr {
        match &self.0 {
            Route::Direct(address) => *address,
            Route::Proxied(both) => both.0,
        }
    }

    /// Returns the client of the current or last request, if it is not the peer itself.
    pub fn client(&self) -> Option<IpAddr> {
        match &self.0 {
            Route::Direct(_) => None,
            Route::Proxied(both) => Some(both.1),
        }
    }

    /// Returns the address of whoever makes the current or last request: the client's, or the peer's own.
    pub fn asker(&self) -> IpAddr {
        self.client().unwrap_or(self.address().ip())
    }

    /// Records for which client the peer asks from now on; that may be itself.
    pub fn asks_for(&mut self, client: IpAddr) {
        let address = self.address();
        self.0 = match client == address.ip().to_canonical() {
            true => Route::Direct(address),
            false => Route::Proxied(Box::new((address, client))),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_connection_pays_nothing_for_proxies() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }

    #[test]
    fn one_connection_may_ask_for_many_clients() {
        let mut peer = Peer::new("[::ffff:127.0.0.1]:9".parse().unwrap());
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for (client, expected) in [("1.2.3.4", Some("1.2.3.4")), ("::1", Some("::1")), ("127.0.0.1", None)] {
            peer.asks_for(ip(client));
            assert_eq!(peer.client(), expected.map(ip));
            assert_eq!(peer.address().to_string(), "[::ffff:127.0.0.1]:9");
        }
    }
}
