//! The line of connections that are ready to be read. A turn's time is bounded, and what it does not come to waits for
//! the next one; so that nobody waits behind all connections of one address, addresses take turns. An IPv6 site has as
//! many turns as it has [shares](crate::types::shares_of), whatever number of addresses it uses. Costs the same for
//! each connection, however many wait: only who joins or is served is looked at.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

use super::{Connections, Payer};
use crate::types::ConnId;

/// Queues that are kept for the next addresses, so that few allocations are made.
const SPARE: usize = 64;

/// The connections of one address, the first to go first.
#[derive(Debug)]
struct Queue {
    of: Payer,
    order: VecDeque<ConnId>,
}

/// A line in which each connection stands once, however often it is announced: one that is announced faster than it is
/// served must not take the places of the others.
#[derive(Debug, Default)]
pub struct FairLine {
    queues: Slab<Queue>,
    numbers: HashMap<Payer, u32>,
    /// The queues that take turns, the next first.
    turns: VecDeque<u32>,
    /// For each index of a connection, one more than its queue's number; 0 if it does not wait.
    places: Vec<u32>,
    spare: Vec<VecDeque<ConnId>>,
    /// The number of connections that wait.
    len: usize,
}

impl Connections {
    /// Returns with whom a connection takes turns. Loopback and trusted proxies carry many clients: each of their
    /// connections counts as an address of its own.
    pub(super) fn takes_turns_as(&self, conn: ConnId) -> Payer {
        self.rated_address(conn).map_or(Payer::Connection(conn), |address| Payer::Network(turn_of(address)))
    }
}

/// Returns the same for all addresses that share a turn: for those of a /64; of a /56, whose /64s are divided among 4;
/// of a /48, whose /56s are divided among 4 times 4.
fn turn_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, subnet, ..] = address.segments();
            let share = 4 * ((subnet >> 8) % 4) + subnet % 4;
            Ipv6Addr::new(a, b, c, share, 0, 0, 0, 0).into()
        }
    }
}

impl FairLine {
    /// Puts a connection at the end of its address's queue, unless it waits already.
    pub fn join(&mut self, conn: ConnId, of: Payer) {
        let index = conn.index as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, 0);
        }
        if self.places[index] > 0 {
            return;
        }
        let (queues, spare) = (&mut self.queues, &mut self.spare);
        let number = *self.numbers.entry(of).or_insert_with(|| {
            let order = spare.pop().unwrap_or_default();
            // As many as connections at most.
            queues.insert(Queue { of, order }) as u32
        });
        let queue = &mut self.queues[number as usize];
        queue.order.push_back(conn);
        if queue.order.len() == 1 {
            self.turns.push_back(number);
        }
        self.places[index] = number + 1;
        self.len += 1;
    }

    /// Takes out the first connection of the next address.
    pub fn next(&mut self) -> Option<ConnId> {
        let number = self.turns.pop_front()?;
        let queue = &mut self.queues[number as usize];
        let conn = queue.order.pop_front();
        match queue.order.is_empty() {
            true => self.remove(number),
            false => self.turns.push_back(number),
        }
        if let Some(conn) = conn {
            self.places[conn.index as usize] = 0;
            self.len -= 1;
        }
        conn
    }

    /// Returns whether a connection waits.
    pub fn has(&self, conn: ConnId) -> bool {
        self.places.get(conn.index as usize).is_some_and(|place| *place > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Returns the number of connections that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns those that wait, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = ConnId> {
        self.queues.iter().flat_map(|(_, queue)| queue.order.iter().copied())
    }

    /// Takes out connections that were served otherwise, or are about to be freed: their indexes may be used again.
    pub fn forget(&mut self, conns: &[ConnId]) {
        if self.is_empty() {
            return;
        }
        let places = &mut self.places;
        let take = |conn: &ConnId| places.get_mut(conn.index as usize).map_or(0, std::mem::take);
        let mut changed: Vec<u32> = conns.iter().map(take).filter(|place| *place > 0).collect();
        self.len -= changed.len();
        changed.sort_unstable();
        changed.dedup();
        let mut emptied = BTreeSet::new();
        for number in changed.into_iter().map(|place| place - 1) {
            let (queue, places) = (&mut self.queues[number as usize], &self.places);
            queue.order.retain(|conn| places[conn.index as usize] > 0);
            if queue.order.is_empty() {
                emptied.insert(number);
            }
        }
        if !emptied.is_empty() {
            self.turns.retain(|number| !emptied.contains(number));
            emptied.into_iter().for_each(|number| self.remove(number));
        }
    }

    /// Takes out everybody.
    pub fn clear(&mut self) {
        while self.next().is_some() {}
    }

    fn remove(&mut self, number: u32) {
        let Queue { of, order } = self.queues.remove(number as usize);
        self.numbers.remove(&of);
        if self.spare.len() < SPARE {
            self.spare.push(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Now};
    use super::*;
    use crate::conn::{Connection, Rate};
    use crate::engine::connections::tests::limits;
    use crate::types::{Millis, Network, WallMillis};

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn served(line: &mut FairLine) -> Vec<u32> {
        std::iter::from_fn(|| line.next()).map(|conn| conn.index).collect()
    }

    #[test]
    fn addresses_take_turns_and_each_keeps_its_order() {
        let no_rate = Rate::new(0, 1, 1);
        let trusted = vec![Network::parse("10.0.0.0/8").unwrap()];
        let mut net = Connections::new(limits(1000), Admission::new(0, no_rate, no_rate).trusting(trusted));
        net.set_now(Now { mono: Millis(1), wall: WallMillis(1) });
        let peers = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "127.0.0.1", "10.0.0.1"];
        let mut open = |index: u32, peer: &str| {
            let peer = core::net::SocketAddr::new(peer.parse().unwrap(), 1);
            net.open(conn(index), Connection::new(peer, Millis(1)), false);
            conn(index)
        };
        let mut ready: Vec<ConnId> = (0..10).map(|index| open(index, peers[0])).collect();
        ready.extend((10..12).map(|index| open(index, peers[1])));
        ready.extend([open(12, peers[2]), open(13, peers[3])]);
        ready.extend((14..16).map(|index| open(index, peers[4])));
        ready.extend((16..18).map(|index| open(index, peers[5])));
        let mut line = FairLine::default();
        ready.iter().for_each(|conn| line.join(*conn, net.takes_turns_as(*conn)));
        assert_eq!((line.len(), line.iter().count()), (18, 18));
        assert_eq!(served(&mut line), [0, 10, 12, 14, 15, 16, 17, 1, 11, 13, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(line.is_empty() && line.queues.is_empty() && line.numbers.is_empty());
    }

    fn payer(last: u8) -> Payer {
        Payer::Network([192, 0, 2, last].into())
    }

    #[test]
    fn who_waits_already_does_not_wait_twice() {
        let mut line = FairLine::default();
        [3, 200, 3, 64, 200, 3].iter().for_each(|index| line.join(conn(*index), payer(1)));
        assert_eq!(line.next(), Some(conn(3)));
        [200, 3].iter().for_each(|index| line.join(conn(*index), payer(1)));
        assert_eq!(served(&mut line), [200, 64, 3]);
    }

    #[test]
    fn who_is_freed_leaves_its_place_to_who_comes_next_under_its_index() {
        let mut line = FairLine::default();
        [1, 2, 3].iter().for_each(|index| line.join(conn(*index), payer(*index as u8 % 2)));
        line.forget(&[conn(2), conn(900)]);
        let next = ConnId { index: 2, generation: 2 };
        assert!(!line.has(next) && line.has(conn(1)) && !line.has(conn(900)));
        line.join(next, payer(1));
        assert!(line.has(next));
        assert_eq!(served(&mut line), [1, 3, 2]);
        line.join(conn(5), payer(1));
        line.forget(&[conn(5)]);
        assert!(line.is_empty() && line.queues.is_empty() && line.numbers.is_empty());
    }

    /// The attack: a connection from each of thousands of /64s of one site. It has its 16 turns to one of anybody else.
    #[test]
    fn a_site_has_as_many_turns_as_shares() {
        let mut line = FairLine::default();
        let of = |subnet: u32| Payer::Network(turn_of([0x2001, 0xdb8, 7, subnet as u16, 0, 0, 0, 1].into()));
        (0..4_096).for_each(|index| line.join(conn(index), of(index)));
        // One of its /56s, and a neighbour outside.
        let within = |subnet: u32| Payer::Network(turn_of([0x2001, 0xdb8, 8, subnet as u16, 0, 0, 0, 1].into()));
        (0..256).for_each(|index| line.join(conn(5_000 + index), within(index)));
        line.join(conn(9_000), payer(1));
        let first: Vec<u32> = std::iter::from_fn(|| line.next()).take(21).map(|conn| conn.index).collect();
        let count = |part: std::ops::Range<u32>| first.iter().filter(|index| part.contains(index)).count();
        assert_eq!((count(0..4_096), count(5_000..5_256), count(9_000..9_001)), (16, 4, 1), "{first:?}");
        assert_eq!(
            turn_of([0x2001, 0xdb8, 7, 3, 1, 2, 3, 4].into()),
            turn_of([0x2001, 0xdb8, 7, 3, 9, 9, 9, 9].into())
        );
    }

    /// However many addresses hang up at once, the turns of the others are looked at once.
    #[test]
    fn many_that_leave_together_leave_the_others_in_order() {
        let mut line = FairLine::default();
        let own = |index: u32| Payer::Connection(conn(index));
        (0..1_000).for_each(|index| line.join(conn(index), own(index)));
        let gone: Vec<ConnId> = (0..1_000).filter(|index| index % 3 > 0).map(conn).collect();
        line.forget(&gone);
        assert_eq!((line.len(), line.turns.len(), line.queues.len()), (334, 334, 334));
        assert_eq!(served(&mut line), (0..1_000).step_by(3).collect::<Vec<_>>());
    }

    /// Whoever comes when thousands wait has its turn when each other address has had one.
    #[test]
    fn who_comes_last_waits_for_one_of_each_address() {
        let mut line = FairLine::default();
        (0..9_000).for_each(|index| line.join(conn(index), payer((index % 60) as u8)));
        let served = std::iter::from_fn(|| line.next());
        assert!(served.take(90).all(|conn| conn.index < 90));
        line.join(conn(9_000), payer(200));
        let place = std::iter::from_fn(|| line.next()).position(|conn| conn.index == 9_000);
        assert_eq!(place, Some(60));
    }
}
