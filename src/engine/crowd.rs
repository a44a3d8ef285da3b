//! Who holds most, among connections of many addresses. The connections of a payer, the payers of an IPv6 site, and the
//! sites stand in heaps: when one connection goes, only its payer and its site find their places anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Payer;
use super::memory::Holding;
use crate::types::{ConnId, Network, shares_of};

/// A place in a heap: what is held, counted; what is held; whose lowest connection goes first among equals.
type Rank = (u64, u64, Reverse<ConnId>);

/// What shares a bound: a payer, or one of its wider networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Payer(Payer),
    Network(Network),
}

/// A node: a payer, with its connections, or a network, with the payers or networks in it.
struct Node {
    /// What is held in it, in bytes.
    bytes: u64,
    shares: u64,
    /// The group in which it is; `None` for the widest.
    wider: Option<Group>,
    members: Members,
}

enum Members {
    /// The largest last.
    Connections(Vec<Holding>),
    Groups(BinaryHeap<(Rank, Group)>),
}

pub(super) struct Crowd {
    nodes: BTreeMap<Group, Node>,
    /// The widest groups.
    heap: BinaryHeap<(Rank, Group)>,
    /// Number of places that were found in heaps.
    steps: usize,
}

impl Crowd {
    pub fn of(mut holdings: Vec<Holding>) -> Crowd {
        holdings.retain(|holding| holding.bytes > 0);
        holdings.sort_unstable_by_key(|holding| (holding.bytes, holding.conn));
        let mut crowd = Crowd { nodes: BTreeMap::new(), heap: BinaryHeap::new(), steps: 0 };
        let mut levels: [Vec<Group>; LEVELS] = Default::default();
        for holding in holdings {
            let path = path(holding.payer);
            for (level, (group, shares)) in path.iter().enumerate() {
                let node = crowd.nodes.entry(*group).or_insert_with(|| {
                    levels[level].push(*group);
                    Node {
                        bytes: 0,
                        shares: *shares,
                        wider: path.get(level + 1).map(|(wider, _)| *wider),
                        members: match level {
                            0 => Members::Connections(Vec::new()),
                            _ => Members::Groups(BinaryHeap::new()),
                        },
                    }
                });
                node.bytes += holding.bytes;
                if let Members::Connections(list) = &mut node.members {
                    list.push(holding);
                }
            }
        }
        // Narrow groups first: the rank of a wider one depends on them.
        levels.into_iter().flatten().for_each(|group| crowd.place(group));
        crowd
    }

    /// Returns as how many bytes the payer counts who counts as holding most.
    pub fn most(&self) -> u64 {
        self.heap.peek().map_or(0, |((counted, ..), _)| *counted)
    }

    /// Takes out the largest connection of that payer.
    pub fn pop(&mut self) -> Option<Holding> {
        let mut path = vec![self.heap.pop()?.1];
        let holding = loop {
            let node = self.nodes.get_mut(path.last()?)?;
            match &mut node.members {
                Members::Groups(heap) => path.push(heap.pop()?.1),
                Members::Connections(list) => break list.pop()?,
            }
        };
        for group in path.into_iter().rev() {
            if let Some(node) = self.nodes.get_mut(&group) {
                node.bytes = node.bytes.saturating_sub(holding.bytes);
            }
            self.place(group);
        }
        Some(holding)
    }

    /// Puts a group into the heap of the wider one, or of all, unless nothing is left in it.
    fn place(&mut self, group: Group) {
        let Some(node) = self.nodes.get(&group) else { return };
        let Some(rank) = node.rank() else { return };
        self.steps += 1;
        match node.wider.and_then(|wider| self.nodes.get_mut(&wider)).map(|node| &mut node.members) {
            Some(Members::Groups(heap)) => heap.push((rank, group)),
            _ => self.heap.push((rank, group)),
        }
    }
}

impl Node {
    /// Returns the rank of its payer who counts as holding most; `None` if it is empty.
    fn rank(&self) -> Option<Rank> {
        let part = self.bytes / self.shares;
        match &self.members {
            Members::Connections(list) => list.last().map(|holding| (part, self.bytes, Reverse(holding.conn))),
            Members::Groups(heap) => heap.peek().map(|((counted, own, first), _)| ((*counted).max(part), *own, *first)),
        }
    }
}

/// Number of levels: payers, and two kinds of wider networks.
const LEVELS: usize = 3;

/// Returns a payer and its wider networks, the narrowest first, each with its shares.
fn path(payer: Payer) -> Vec<(Group, u64)> {
    let wider = payer.network().into_iter().flat_map(shares_of).filter(|(_, shares)| *shares > 1);
    let wider = wider.map(|(network, shares)| (Group::Network(network), u64::from(shares)));
    [(Group::Payer(payer), 1)].into_iter().chain(wider).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attack: a connection from each of thousands of networks of one site.
    #[test]
    fn each_choice_finds_as_few_places_however_many_networks_a_site_has() {
        let network = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n, 0, 0, 0, 0].into());
        let held = |n: u16| Holding {
            payer: network(n),
            conn: ConnId { index: n.into(), generation: 1 },
            bytes: 1000 + u64::from(n),
        };
        let mut crowd = Crowd::of((0..4_000).map(held).collect());
        let built = crowd.steps;
        assert!(built <= 4_000 + 16 + 1, "{built}");
        // All of it counts as one site: 16 shares, of 4 for each of its /56s.
        let mut before = u64::MAX;
        for _ in 0..4_000 {
            let most = crowd.most();
            assert!(most <= before, "{most} after {before}");
            before = most;
            assert!(crowd.pop().is_some());
        }
        assert!(crowd.steps - built <= 3 * 4_000, "{}", crowd.steps - built);
        assert!(crowd.pop().is_none() && crowd.most() == 0);
    }
}
