//! The memory budget: how much all connections, rooms and sockets may hold together, how it is shared out, and which
//! connections end when they hold more.
//!
//! Queues get smaller as memory runs short: each may hold an eighth of what is left, so that however many fill, some is
//! left. Past three quarters of the budget, connections of whoever holds most are closed; past seven eighths, new
//! connections are turned away. Between the two lies room for what one turn can add.

use super::Payer;
use super::crowd::Crowd;
use crate::conn::Ledger;
use crate::types::{ConnId, Millis};

/// What the server may hold, and what it holds for each connection. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What racerd may allocate for connections and rooms.
    pub own: u64,
    /// What the kernel may hold for the sockets.
    pub kernel: u64,
    /// What racerd allocates for an idle connection, and beside that if it speaks TLS.
    pub idle: u32,
    pub secure: u32,
    /// What the kernel holds for a socket without data.
    pub socket: u32,
    /// The most that it holds besides for a peer that does not read.
    pub unsent: u32,
    /// The most that it holds besides for a peer that is not read.
    pub unread: u32,
}

impl Budget {
    /// A budget without limits.
    pub const UNLIMITED: Budget =
        Budget { own: u64::MAX, kernel: u64::MAX, idle: 0, secure: 0, socket: 0, unsent: 0, unread: 0 };
}

/// The smallest bound on what waits for a connection, in bytes.
const MIN_QUEUE: usize = 2048;

/// The part of the memory that is left which one queue may fill.
const QUEUE_PART: u64 = 8;

/// What is held, against what may be. All in bytes, apart from numbers of connections.
#[derive(Debug)]
pub(super) struct Memory {
    pub budget: Budget,
    /// Buffers that several queues share.
    pub shared: Ledger,
    /// What the app holds: rooms, sessions, messages.
    pub app: u64,
    /// What connections hold, beside idle ones.
    pub connections: u64,
    /// Connections, and among them those that do not read, those that are not read, and those that could be read and
    /// had no turn yet.
    pub count: u32,
    pub unsent: u32,
    pub unread: u32,
    pub unserved: u32,
    /// What the kernel holds unread, and when that was looked at.
    pub measured: Option<(Millis, u64)>,
}

/// Milliseconds for which a measurement holds. Each costs a system call for each connection that is not read.
const MEASURED_FOR: u64 = 20;

impl Memory {
    pub fn new(budget: Budget) -> Memory {
        Memory {
            budget,
            shared: Ledger::default(),
            app: 0,
            connections: 0,
            count: 0,
            unsent: 0,
            unread: 0,
            unserved: 0,
            measured: None,
        }
    }

    /// Returns what racerd has allocated for connections and rooms.
    pub fn own(&self) -> u64 {
        times(self.count, self.budget.idle) + self.connections + self.shared.bytes() as u64 + self.app
    }

    /// Returns what the kernel holds for the sockets: as far as that is known, or else at most.
    pub fn kernel(&self) -> u64 {
        let unread = times(self.unread, self.budget.unread) + times(self.unserved, self.budget.unread);
        self.kernel_certain() + if self.measured.is_some() { 0 } else { unread }
    }

    /// Returns what the kernel holds for the sockets, without what may be unread and was not looked at.
    fn kernel_certain(&self) -> u64 {
        let Budget { socket, unsent, .. } = self.budget;
        times(self.count, socket) + times(self.unsent, unsent) + self.measured.map_or(0, |(_, unread)| unread)
    }

    /// Returns whether what the kernel holds unread is to be measured: it may be too much.
    pub fn wants_measure(&self) -> bool {
        self.measured.is_none() && self.kernel() > soft(self.budget.kernel)
    }

    /// Forgets a measurement that is too old.
    pub fn pass(&mut self, now: Millis) {
        self.measured = self.measured.filter(|(at, _)| now.since(*at) < MEASURED_FOR);
    }

    /// Returns how much a payer may hold in any case, when connections are closed.
    pub fn innocent(&self) -> u64 {
        (self.budget.own.min(self.budget.kernel) / 256).max(2 * MIN_QUEUE as u64)
    }

    /// Returns how many more connections may be opened, with or without TLS.
    pub fn openings(&self) -> usize {
        let left = |held: u64, bound: u64| (bound / 8 * 7).saturating_sub(held);
        let own = left(self.own(), self.budget.own).checked_div((self.budget.idle + self.budget.secure).into());
        let kernel = left(self.kernel(), self.budget.kernel).checked_div(self.budget.socket.into());
        own.unwrap_or(u64::MAX).min(kernel.unwrap_or(u64::MAX)).try_into().unwrap_or(usize::MAX)
    }

    /// Returns how much may wait for one connection at present, if the settings allow `most`. The result is `most`
    /// halved some times, so that it does not change in every turn.
    pub fn queue_bound(&self, most: usize) -> usize {
        let part = soft(self.budget.own).saturating_sub(self.own()) / QUEUE_PART;
        let mut bound = most;
        while bound as u64 > part && bound / 2 >= MIN_QUEUE {
            bound /= 2;
        }
        bound
    }

    /// Returns how much is to be freed, once racerd itself or the kernel holds more than the mark at which connections
    /// are closed. The kernel fills its buffers between two turns, so more than the excess is to be freed there.
    pub fn excess(&self) -> Excess {
        let over = |held: u64, budget: u64| if held > soft(budget) { held - budget / 2 } else { 0 };
        Excess {
            own: self.own().saturating_sub(soft(self.budget.own)),
            kernel: over(self.kernel_certain(), self.budget.kernel),
        }
    }
}

/// What is to be freed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub own: u64,
    pub kernel: u64,
}

fn soft(budget: u64) -> u64 {
    budget / 4 * 3
}

fn times(count: u32, bytes: u32) -> u64 {
    u64::from(count) * u64::from(bytes)
}

/// What closing one connection would free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub payer: Payer,
    pub conn: ConnId,
    pub bytes: u64,
}

/// Chooses the connections to close until `excess` bytes are free: always the largest of the payer who counts as
/// holding most. A payer who counts as holding no more than `innocent` bytes is never chosen: if nobody does, no queue
/// is to blame. A payer counts as holding its part of what its wider networks hold, if that is more.
pub(super) fn largest_first(holdings: Vec<Holding>, excess: u64, innocent: u64) -> Vec<ConnId> {
    let mut crowd = Crowd::of(holdings);
    let (mut chosen, mut freed) = (Vec::new(), 0);
    while freed < excess
        && crowd.most() > innocent
        && let Some(holding) = crowd.pop()
    {
        chosen.push(holding.conn);
        freed += holding.bytes;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use proptest::prelude::*;

    const BUDGET: Budget =
        Budget { own: 32 << 20, kernel: 32 << 20, idle: 2048, secure: 4096, socket: 5000, unsent: 141_000, unread: 0 };

    fn payer(number: u8) -> Payer {
        Payer::Network(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    /// However many queues fill up to the bound that holds for them at that moment, connections still may open.
    #[test]
    fn full_queues_leave_room() {
        let mut memory = Memory { count: 1000, ..Memory::new(BUDGET) };
        for _ in 0..1000 {
            memory.connections += memory.queue_bound(256 << 10) as u64;
        }
        assert!(memory.excess().own < 1000 * MIN_QUEUE as u64, "{:?}", memory.excess());
        assert!(memory.openings() > 100, "{}", memory.openings());
        assert_eq!(memory.queue_bound(256 << 10), 2048);
        assert_eq!(Memory::new(BUDGET).queue_bound(256 << 10), 256 << 10, "there is no need yet");
        assert_eq!(Memory::new(Budget::UNLIMITED).openings(), usize::MAX);
        assert_eq!(Memory::new(Budget::UNLIMITED).queue_bound(1 << 30), 1 << 30);
    }

    #[test]
    fn sockets_whose_peers_read_nothing_leave_room_for_fewer() {
        let most = Memory::new(BUDGET).openings();
        assert_eq!(most, (28 << 20) / 6144, "bound by what racerd itself allocates for TLS");
        let stalled = Memory { count: 150, unsent: 150, ..Memory::new(BUDGET) };
        assert_eq!(stalled.openings() as u64, ((28 << 20) - 150 * (5000 + 141_000)) / 5000);
        let stalled = Memory { count: 210, unsent: 210, ..Memory::new(BUDGET) };
        assert_eq!((stalled.openings(), stalled.excess().own), (0, 0));
        assert_eq!(stalled.excess().kernel, 210 * (5000 + 141_000) - (16 << 20));
    }

    #[test]
    fn who_holds_most_gives_first() {
        let held = |payer_number, index, bytes| Holding { payer: payer(payer_number), conn: conn(index), bytes };
        // One holds much in small pieces, another one large piece.
        let holdings: Vec<Holding> =
            (0..50).map(|n| held(1, n, 1000)).chain([held(2, 90, 20_000), held(3, 91, 0)]).collect();
        let chosen = largest_first(holdings.clone(), 30_000, 0);
        assert_eq!(chosen.len(), 30);
        assert!(!chosen.contains(&conn(90)));
        // Once the other holds more, it gives.
        assert!(largest_first(holdings.clone(), 31_001, 0).contains(&conn(90)));
        assert_eq!(largest_first(holdings.clone(), u64::MAX, 0).len(), 51, "and nobody who holds nothing");
        assert_eq!(largest_first(holdings, u64::MAX, 20_000).len(), 30, "20,000 bytes are no fault");
    }

    /// The attack: a connection of each network of a /48, each of which holds less than anybody else does.
    #[test]
    fn a_wider_network_gives_once_it_holds_more_than_its_shares() {
        for (step, shares) in [(1, 4), (256, 16)] {
            let network = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n * step, 0, 0, 0, 0].into());
            let held = |payer, index, bytes| Holding { payer, conn: conn(index), bytes };
            let crowd = (0..100).map(|n| held(network(n), n.into(), 1000 + u64::from(n)));
            let honest = held(payer(1), 900, 2000);
            let holdings: Vec<Holding> = crowd.chain([honest]).collect();
            // Until what they hold is 2000 for each share, and no more than that.
            let left = 2000 * shares;
            let most = (0..100).map(|n| 1000 + n).sum::<u64>() - left;
            let chosen = largest_first(holdings.clone(), most, 0);
            assert!(!chosen.contains(&conn(900)) && chosen.len() as u64 >= (100 - 2 * shares) - 8);
            assert_eq!(chosen.first(), Some(&conn(99)), "the largest of them is the first");
            assert!(largest_first(holdings.clone(), most + 2000, 0).contains(&conn(900)));
            assert_eq!(largest_first(holdings, u64::MAX, 2000).len(), chosen.len(), "what is no fault stays");
        }
    }

    proptest! {
        /// What is chosen suffices, nothing is chosen in vain, and a payer who is left holds no more than a chosen
        /// connection's payer held before it.
        #[test]
        fn the_choice_suffices(bytes in prop::collection::vec((0u8..5, 0u64..1000), 0..60), excess in 0u64..20_000) {
            let holdings: Vec<Holding> = bytes.iter().enumerate().map(|(index, (number, bytes))| Holding {
                payer: payer(*number), conn: conn(index as u32), bytes: *bytes,
            }).collect();
            let chosen = largest_first(holdings.clone(), excess, 0);
            let of = |conn: &ConnId| holdings[conn.index as usize].bytes;
            let freed: u64 = chosen.iter().map(of).sum();
            let all: u64 = holdings.iter().map(|holding| holding.bytes).sum();
            prop_assert!(freed >= excess.min(all));
            if let Some(last) = chosen.last() {
                prop_assert!(freed - of(last) < excess);
                let left = |number: u8| -> u64 {
                    let own = holdings.iter().filter(|h| h.payer == payer(number) && !chosen.contains(&h.conn));
                    own.map(|holding| holding.bytes).sum()
                };
                let payer_of_last = bytes[last.index as usize].0;
                prop_assert!((0..5).all(|number| left(number) <= left(payer_of_last) + of(last)));
            }
        }
    }
}
