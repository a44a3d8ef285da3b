//! The order in which a turn serves connections that are ready. A turn's time is bounded, and what it does not come to
//! waits for the next one; so that nobody waits behind all connections of one address, addresses take turns.

use core::net::IpAddr;
use std::collections::HashMap;

use super::Connections;
use super::admission::network_of;
use crate::types::ConnId;

/// The number of ready connections up to which one turn serves all of them soon enough in any order.
const FEW: usize = 8;

/// Puts ready connections into their order. Keeps only the capacity of its lists between turns.
#[derive(Debug, Default)]
pub struct Fairness {
    /// How many connections of each address are in line.
    counts: HashMap<IpAddr, usize>,
    ranked: Vec<(usize, usize, ConnId)>,
}

impl Fairness {
    /// Puts the first connection of each address before the second of any, and so on. Connections of one address, and
    /// those of the same rank, keep their order: who was left over comes first. Loopback and trusted proxies carry
    /// many clients: each of their connections counts as an address of its own.
    pub fn order(&mut self, ready: &mut Vec<ConnId>, net: &Connections) {
        if ready.len() <= FEW {
            return;
        }
        self.counts.clear();
        for (place, conn) in ready.drain(..).enumerate() {
            let rank = net.rated_address(conn).map_or(0, |address| {
                let count = self.counts.entry(network_of(address)).or_default();
                *count += 1;
                *count - 1
            });
            self.ranked.push((rank, place, conn));
        }
        self.ranked.sort_unstable();
        ready.extend(self.ranked.drain(..).map(|(_, _, conn)| conn));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Now};
    use super::*;
    use crate::conn::{Connection, Rate};
    use crate::engine::connections::tests::limits;
    use crate::types::{Millis, Network, WallMillis};

    #[test]
    fn addresses_take_turns_and_each_keeps_its_order() {
        let no_rate = Rate::new(0, 1, 1);
        let trusted = vec![Network::parse("10.0.0.0/8").unwrap()];
        let mut net = Connections::new(limits(1000), Admission::new(0, no_rate, no_rate).trusting(trusted));
        net.set_now(Now { mono: Millis(1), wall: WallMillis(1) });
        let peers = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "127.0.0.1", "10.0.0.1"];
        let mut open = |index: u32, peer: &str| {
            let conn = ConnId { index, generation: 1 };
            let peer = core::net::SocketAddr::new(peer.parse().unwrap(), 1);
            net.open(conn, Connection::new(peer, Millis(1)), false);
            conn
        };
        let mut ready: Vec<ConnId> = (0..10).map(|index| open(index, peers[0])).collect();
        ready.extend((10..12).map(|index| open(index, peers[1])));
        ready.extend([open(12, peers[2]), open(13, peers[3])]);
        ready.extend((14..16).map(|index| open(index, peers[4])));
        ready.extend((16..18).map(|index| open(index, peers[5])));
        Fairness::default().order(&mut ready, &net);
        let order: Vec<u32> = ready.iter().map(|conn| conn.index).collect();
        assert_eq!(order, [0, 10, 12, 14, 15, 16, 17, 1, 11, 13, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
