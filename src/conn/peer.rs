//! Who is at the other end: the socket's peer, and where that is a proxy, for whom it asks. Knows addresses only; whom to
//! believe is decided elsewhere.

use core::net::{IpAddr, SocketAddr};

/// As small as the peer's address alone: only a proxy's connection pays for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Itself(SocketAddr),
    For(Box<(SocketAddr, IpAddr)>),
}

impl Peer {
    pub fn new(address: SocketAddr) -> Peer {
        Peer(Kind::Itself(address))
    }

    /// The socket's peer.
    pub fn address(&self) -> SocketAddr {
        match &self.0 {
            Kind::Itself(address) => *address,
            Kind::For(both) => both.0,
        }
    }

    /// Whose request it is, or was last, if it is another than the peer.
    pub fn client(&self) -> Option<IpAddr> {
        match &self.0 {
            Kind::Itself(_) => None,
            Kind::For(both) => Some(both.1),
        }
    }

    /// From now on it asks for this one, which may be itself.
    pub fn asks_for(&mut self, client: IpAddr) {
        let address = self.address();
        self.0 = match client == address.ip().to_canonical() {
            true => Kind::Itself(address),
            false => Kind::For(Box::new((address, client))),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_pays_for_what_only_proxies_have() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }

    #[test]
    fn one_connection_asks_for_many() {
        let mut peer = Peer::new("[::ffff:127.0.0.1]:9".parse().unwrap());
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for (client, expected) in [("1.2.3.4", Some("1.2.3.4")), ("::1", Some("::1")), ("127.0.0.1", None)] {
            peer.asks_for(ip(client));
            assert_eq!(peer.client(), expected.map(ip));
            assert_eq!(peer.address().to_string(), "[::ffff:127.0.0.1]:9");
        }
    }
}
