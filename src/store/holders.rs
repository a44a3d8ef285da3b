//! Records by the network that pays for each, so that the oldest of whoever has most give way first. A wider IPv6
//! network counts, too, with its shares: see [`shares_of`](crate::types::shares_of). Small for each record; whose go is
//! planned for many at once. Pure.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The part of all records that is planned to go at once.
const PLANNED: usize = 16;

/// Bytes of memory that a record takes: an entry of a map that may be half empty, and one of the list that is sorted.
pub const HOLDER_BYTES: usize = 2 * (size_of::<(u64, Record)>() + 1) * 8 / 7 + size_of::<Ranked<u64>>();

/// A network that pays: the 64 bits of an IPv6 network, or an IPv4 address in the place of a multicast network, which
/// nobody has as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u64);

const V4: u64 = 0xffff_ffff << 32;

impl Holder {
    /// Returns the holder with this address; those whose address is not known are one.
    pub fn of(address: Option<IpAddr>) -> Holder {
        Holder(match address.map(|address| address.to_canonical()) {
            None => 0,
            Some(IpAddr::V4(ip)) => V4 | u64::from(u32::from(ip)),
            Some(IpAddr::V6(ip)) => (u128::from(ip) >> 64) as u64,
        })
    }

    /// Returns the wider networks, the narrower first, each with its shares; of an IPv4 address it is itself.
    fn wider(self) -> [(u64, u64); 2] {
        if self.0 & V4 == V4 { [(self.0, 1); 2] } else { [(self.0 >> 8, 4), (self.0 >> 16, 16)] }
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    holder: Holder,
    age: u64,
}

/// A record that is compared with others: those of a network are together, the newest first.
type Ranked<K> = (Holder, std::cmp::Reverse<u64>, K);

/// Who is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim<K> {
    /// One of those that the caller has beside these.
    Other,
    /// A record, which is removed.
    Record(K, Holder),
}

/// Records, each with the network that pays for it.
#[derive(Clone, Debug)]
pub struct Holders<K> {
    records: HashMap<K, Record>,
    next: u64,
    /// Records that are to go next, with their ages: one that was renewed since stays.
    planned: VecDeque<(K, u64)>,
    planned_others: u64,
}

impl<K> Default for Holders<K> {
    fn default() -> Holders<K> {
        Holders { records: HashMap::new(), next: 0, planned: VecDeque::new(), planned_others: 0 }
    }
}

impl<K: Copy + Ord + Hash> Holders<K> {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn contains(&self, key: &K) -> bool {
        self.records.contains_key(key)
    }

    /// Adds a record as its network's newest; one that is there is renewed.
    pub fn put(&mut self, key: K, holder: Holder) {
        self.next += 1;
        self.records.insert(key, Record { holder, age: self.next });
    }

    /// Removes a record. Returns whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        self.records.remove(key).is_some()
    }

    /// Returns who is to go next. The caller's `others` count as one network more.
    pub fn next_victim(&mut self, others: u64) -> Option<Victim<K>> {
        let mut is_planned = false;
        loop {
            if self.planned_others > 0 && others > 0 {
                self.planned_others -= 1;
                return Some(Victim::Other);
            }
            while let Some((key, age)) = self.planned.pop_front() {
                if let Some(record) = self.records.get(&key).copied().filter(|record| record.age == age) {
                    self.records.remove(&key);
                    return Some(Victim::Record(key, record.holder));
                }
            }
            if std::mem::replace(&mut is_planned, true) {
                return None;
            }
            self.plan(others);
        }
    }

    /// Plans who goes next: each network may keep as many as any other, as far as it has so many.
    fn plan(&mut self, others: u64) {
        let rank = |(key, record): (&K, &Record)| (record.holder, std::cmp::Reverse(record.age), *key);
        let mut ranked: Vec<Ranked<K>> = self.records.iter().map(rank).collect();
        ranked.sort_unstable();
        let total = ranked.len() as u64 + others;
        let going = total.div_ceil(PLANNED as u64);
        let kept = |level: u64| kept(&ranked, level).iter().filter(|is| **is).count() as u64 + level.min(others);
        // The most that each may keep, so that enough go.
        let (mut level, mut too_high) = (0, total + 1);
        while too_high - level > 1 {
            let middle = level + (too_high - level) / 2;
            if kept(middle) <= total - going { level = middle } else { too_high = middle }
        }
        let (surely, perhaps) = (self::kept(&ranked, level + 1), self::kept(&ranked, level));
        let mut victims: Vec<(bool, u64, K)> = Vec::new();
        for (at, (_, age, key)) in ranked.iter().enumerate() {
            if !perhaps[at] {
                victims.push((surely[at], age.0, *key));
            }
        }
        // Of those who have one more than they may, the oldest go.
        victims.sort_unstable();
        self.planned_others = others.saturating_sub(level);
        victims.truncate(usize::try_from(going.saturating_sub(self.planned_others)).unwrap_or(usize::MAX));
        self.planned = victims.into_iter().map(|(_, age, key)| (key, age)).collect();
        self.planned_others = self.planned_others.min(going);
    }
}

/// Returns which of these stay if each network may keep so many, and wider ones as many times that as they have shares:
/// the newest.
fn kept<K>(ranked: &[Ranked<K>], level: u64) -> Vec<bool> {
    let most = |shares: u64| usize::try_from(level.saturating_mul(shares)).unwrap_or(usize::MAX);
    let mut kept = vec![true; ranked.len()];
    let mut narrow = |group: &dyn Fn(Holder) -> (u64, u64)| {
        let mut from = 0;
        while let Some((first, ..)) = ranked.get(from) {
            let (of, shares) = group(*first);
            let upto = from + ranked[from..].partition_point(|(holder, ..)| group(*holder).0 <= of);
            let mut staying: Vec<usize> = (from..upto).filter(|at| kept[*at]).collect();
            if staying.len() > most(shares) {
                staying.sort_unstable_by_key(|at| ranked[*at].1);
                staying[most(shares)..].iter().for_each(|at| kept[*at] = false);
            }
            from = upto;
        }
    };
    narrow(&|holder| (holder.0, 1));
    narrow(&|holder| holder.wider()[0]);
    narrow(&|holder| holder.wider()[1]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use crate::types::shares_of;

    fn v4(n: u32) -> IpAddr {
        core::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    fn v6(site: u16, network: u16) -> IpAddr {
        [0x2001, 0xdb8, site, network, 0, 0, 0, 7].into()
    }

    fn holders(records: impl IntoIterator<Item = IpAddr>) -> Holders<usize> {
        let mut holders = Holders::default();
        records.into_iter().enumerate().for_each(|(key, address)| holders.put(key, Holder::of(Some(address))));
        holders
    }

    fn pop(holders: &mut Holders<usize>) -> usize {
        match holders.next_victim(0) {
            Some(Victim::Record(key, _)) => key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_oldest_of_the_largest_goes_first() {
        let mut holders = holders([v4(1), v4(2), v4(2), v4(2)]);
        assert_eq!(pop(&mut holders), 1);
        // Renewed, so that the next one of its network is the oldest.
        holders.put(2, Holder::of(Some(v4(2))));
        assert_eq!(pop(&mut holders), 3);
        let mut rest = [pop(&mut holders), pop(&mut holders)];
        rest.sort_unstable();
        assert_eq!((rest, holders.next_victim(0), holders.is_empty()), ([0, 2], None, true));
    }

    #[test]
    fn who_has_few_keeps_them_however_many_another_adds() {
        let mut holders = holders([v4(1), v4(1)]);
        for key in 10..10_010 {
            holders.put(key, Holder::of(Some(v4(2))));
            if holders.len() > 100 {
                assert!(pop(&mut holders) >= 10);
            }
        }
        assert!(holders.contains(&0) && holders.contains(&1));
    }

    /// A site with thousands of networks counts as sixteen payers, and one with a /56 as four. (Since whose go is
    /// planned ahead, each may have fifteen sixteenths of its share.)
    #[test]
    fn a_site_is_not_as_many_as_it_has_networks() {
        for (shares, networks, apart) in [(16, 997, 0x1ff_u16), (4, 250, 1)] {
            let mut holders = holders([v4(1); 40]);
            for key in 100..4_100 {
                holders.put(key, Holder::of(Some(v6(7, ((key % networks) as u16).wrapping_mul(apart)))));
                if holders.len() > 50 + 50 * shares {
                    assert!(pop(&mut holders) >= 100);
                }
            }
            assert_eq!((0..40).filter(|key| holders.contains(key)).count(), 40);
        }
    }

    #[test]
    fn others_count_as_one_network() {
        let mut holders = holders((0..30).map(|n| v4(n % 3)));
        let mut others = 40_u64;
        while others + holders.len() as u64 > 40 {
            match holders.next_victim(others) {
                Some(Victim::Other) => others -= 1,
                other => assert!(others <= 11, "{other:?} of {others}"),
            }
        }
        assert!((9..=11).contains(&others), "{others}");
    }

    #[test]
    fn networks_are_as_everywhere() {
        let mut random = Random::new(5);
        let mut address = |_| match random.below(3) {
            0 => v4(random.below(3) as u32),
            _ => v6(random.below(2) as u16, *random.pick(&[1, 2, 0x100, 0x101, 0xff00])),
        };
        let all: Vec<IpAddr> = (0..40).map(&mut address).collect();
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            let (this, that) = (Holder::of(Some(a)), Holder::of(Some(b)));
            let is_one = |width: usize| match (shares_of(a).nth(width), shares_of(b).nth(width)) {
                (Some(a), Some(b)) => a == b,
                _ => a == b,
            };
            let wider = |width: usize| this.wider()[width - 1] == that.wider()[width - 1];
            assert_eq!((this == that, wider(1), wider(2)), (is_one(0), is_one(1), is_one(2)), "{a} {b}");
        }
        assert_eq!(Holder::of(None), Holder::of(Some(core::net::Ipv6Addr::LOCALHOST.into())));
    }

    /// However they come and go, nobody loses one while another keeps more by two than it had.
    #[test]
    fn whoever_has_most_gives_way() {
        let mut random = Random::new(3);
        for round in 0..200 {
            let mut holders = Holders::default();
            let networks = 1 + random.below(6) as u32;
            let count = 1 + random.below(300);
            for key in 0..count {
                holders.put(key, Holder::of(Some(v4(random.magnitude((0, networks.into())) as u32))));
            }
            let size =
                |holders: &Holders<usize>, of: Holder| holders.records.values().filter(|r| r.holder == of).count();
            while let Some(Victim::Record(_, holder)) = holders.next_victim(0) {
                let had = size(&holders, holder) + 1;
                let most = (0..=networks).map(|n| size(&holders, Holder::of(Some(v4(n))))).max().unwrap_or(0);
                assert!(most <= had + count.div_ceil(PLANNED), "{round}: {most}, where {had} gave one");
            }
        }
    }
}
