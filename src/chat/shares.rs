//! Shares of what may wait for the store. Each payer with something waiting has an equal share, and one share more
//! stays free for the next payer. A message that exceeds its payer's share waits here: in order of arrival within a
//! payer, while payers take turns. It delays no other payer.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::growth::{self, Growths};
use crate::conn::{Bucket, Rate};
use crate::engine::Payer;
use crate::store::Making;
use crate::types::{ConnId, Millis, Network, shares_of};

/// The number of idle shares that are kept, so that a payer that comes again is found with one look-up.
const IDLE: usize = 1024;

#[derive(Debug, Default)]
struct Share {
    /// Messages at the store, and their bytes.
    count: usize,
    bytes: usize,
    /// Connections with one message each that waits for a place, and its bytes.
    waiting: VecDeque<(ConnId, usize)>,
    /// `None` if this payer has no rate and no share of the disk of its own.
    rooms: Option<Rooms>,
    /// Its network, if it has a rate.
    network: Option<IpAddr>,
    /// Bytes that it has added to the database: see [`Growths`].
    grown: u64,
}

/// The rooms that somebody makes.
#[derive(Clone, Copy, Debug, Default)]
struct Rooms {
    made: Bucket,
    /// Messages under way that may make one.
    pending: usize,
}

impl Rooms {
    fn wait(&self, rate: Rate, now: Millis) -> u64 {
        self.made.wait(rate, self.pending, now)
    }

    /// Returns whether nothing has to be remembered.
    fn is_forgettable(&self, now: Millis) -> bool {
        self.pending == 0 && self.made.is_full(now)
    }

    /// Notes that a message has been decided, and whether it has made a room.
    fn decided(&mut self, has_made: bool, rate: Rate, now: Millis) {
        self.pending = self.pending.saturating_sub(1);
        if has_made {
            self.made.spend(rate, 1, now);
        }
    }
}

/// Returns the networks wider than a share's own to which it counts, and how many shares each has.
fn wider_of(share: Option<&Share>) -> impl Iterator<Item = (Network, u32)> + Clone + use<> {
    share.and_then(|share| share.network).into_iter().flat_map(shares_of).filter(|(_, shares)| *shares > 1)
}

/// How fast rooms may be made: by one network, and by all together.
#[derive(Clone, Copy, Debug)]
pub struct RoomRates {
    pub own: Rate,
    pub all: Rate,
}

impl Share {
    fn is_idle(&self) -> bool {
        self.count == 0 && self.waiting.is_empty()
    }

    /// Returns whether nothing has to be remembered but its growth.
    fn is_forgettable(&self, now: Millis) -> bool {
        self.is_idle() && self.rooms.is_none_or(|rooms| rooms.is_forgettable(now))
    }
}

/// Everything that waits for the store or for a place there.
#[derive(Debug)]
pub(super) struct Shares {
    list: Slab<Share>,
    numbers: HashMap<Payer, u32>,
    /// Shares that are not idle.
    busy: usize,
    /// Messages at the store, and their bytes.
    count: usize,
    bytes: usize,
    /// Shares with connections that wait, the next first.
    line: VecDeque<u32>,
    /// Rooms that all payers make.
    rooms: Rooms,
    /// Rooms that are made from networks wider than a payer's, as long as they are to be remembered.
    wider: HashMap<Network, Rooms>,
    growths: Growths,
    /// The number of idle shares at which those are removed that need not be kept.
    sweep_at: usize,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            list: Slab::new(),
            numbers: HashMap::new(),
            busy: 0,
            count: 0,
            bytes: 0,
            line: VecDeque::new(),
            rooms: Rooms::default(),
            wider: HashMap::new(),
            growths: Growths::default(),
            sweep_at: IDLE,
        }
    }
}

impl Shares {
    /// Returns the number of messages at the store, and their bytes.
    pub fn total(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    /// Returns whether a message may go to the store now, if that may hold `bound` bytes. The first one of a payer may
    /// always, while there is room.
    pub fn may_take(&self, payer: Payer, bytes: usize, bound: usize) -> bool {
        let share = self.numbers.get(&payer).map(|number| &self.list[*number as usize]);
        share.is_none_or(|share| share.waiting.is_empty()) && self.fits(share, bytes, bound)
    }

    fn fits(&self, share: Option<&Share>, bytes: usize, bound: usize) -> bool {
        let own = share.map_or(0, |share| share.bytes);
        let payers = self.busy + usize::from(share.is_none_or(Share::is_idle));
        let has_room = self.bytes == 0 || self.bytes + bytes <= bound;
        has_room && (own == 0 || own + bytes <= bound / (payers + 1))
    }

    /// Takes a place for a message. Returns the number by which it is given back.
    pub fn take(&mut self, payer: Payer, bytes: usize, now: Millis) -> u32 {
        let number = self.number(payer, now);
        self.change(number, |share| {
            share.count += 1;
            share.bytes += bytes;
        });
        self.count += 1;
        self.bytes += bytes;
        number
    }

    /// Gives back a place: the store has decided about the message.
    pub fn give_back(&mut self, number: u32, bytes: usize) {
        if !self.list.contains(number as usize) {
            return;
        }
        self.change(number, |share| {
            share.count = share.count.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(bytes);
        });
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Gives back all places: the store has ended.
    pub fn give_back_all(&mut self) {
        let numbers: Vec<usize> = self.list.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.change(number as u32, |share| {
                (share.count, share.bytes) = (0, 0);
                share.rooms.iter_mut().for_each(|rooms| rooms.pending = 0);
            });
        }
        self.wider.values_mut().for_each(|rooms| rooms.pending = 0);
        (self.count, self.bytes, self.rooms.pending) = (0, 0, 0);
    }

    /// Decides whether a message that has a place may make its room. If so, that counts as pending until
    /// [`Shares::decided`], so that no more rooms are made than the rates allow, however many messages are under way.
    pub fn may_make(&mut self, number: u32, rates: RoomRates, now: Millis) -> Making {
        let wider = wider_of(self.list.get(number as usize));
        let own = self.list.get_mut(number as usize).and_then(|share| share.rooms.as_mut());
        let wait = own.as_ref().map_or(0, |own| own.wait(rates.own, now)).max(self.rooms.wait(rates.all, now));
        let wait_of = |(network, shares)| Some(self.wider.get(&network)?.wait(rates.own.times(shares), now));
        let wait = wider.clone().filter_map(wait_of).max().unwrap_or_default().max(wait);
        if wait > 0 {
            return Making::Refused { wait: u32::try_from(wait).unwrap_or(u32::MAX) };
        }
        own.into_iter().chain([&mut self.rooms]).for_each(|rooms| rooms.pending += 1);
        wider.for_each(|(network, _)| self.wider.entry(network).or_default().pending += 1);
        Making::Counted
    }

    /// Returns how many bytes must be left in the database for a message that has a place to be within its payer's
    /// share of the disk; 0 if its payer has none.
    pub fn needs(&mut self, number: u32, now: Millis) -> u64 {
        if self.growths.is_new_day(now) {
            self.growths.halve(now, self.list.iter_mut().map(|(_, share)| &mut share.grown));
        }
        let Some(share) = self.list.get(number as usize).filter(|share| share.rooms.is_some()) else { return 0 };
        let under_way = share.bytes as u64 + share.count as u64 * growth::of_message(0, false);
        self.growths.needs(share.grown, under_way)
    }

    /// Notes that a message of this payer was stored.
    pub fn stored(&mut self, number: u32, bytes: usize, has_made: bool) {
        let share = self.list.get_mut(number as usize).filter(|share| share.rooms.is_some());
        if let Some(share) = share {
            self.growths.add(&mut share.grown, growth::of_message(bytes, has_made));
        }
    }

    /// Notes what became of a message that was allowed to make its room.
    pub fn decided(&mut self, number: u32, has_made: bool, rates: RoomRates, now: Millis) {
        if let Some(own) = self.list.get_mut(number as usize).and_then(|share| share.rooms.as_mut()) {
            own.decided(has_made, rates.own, now);
        }
        for (network, shares) in wider_of(self.list.get(number as usize)) {
            if let Some(rooms) = self.wider.get_mut(&network) {
                rooms.decided(has_made, rates.own.times(shares), now);
                if rooms.is_forgettable(now) {
                    self.wider.remove(&network);
                }
            }
        }
        self.rooms.decided(has_made, rates.all, now);
    }

    /// Returns how many messages under way may make rooms: of this network, or of all.
    pub fn pending_rooms(&self, network: Option<IpAddr>) -> usize {
        let Some(network) = network else { return self.rooms.pending };
        let number = self.numbers.get(&Payer::Network(network));
        number.and_then(|number| self.list[*number as usize].rooms).map_or(0, |own| own.pending)
    }

    /// Puts a connection's message at the end of its payer's line. Returns the share's number.
    pub fn wait(&mut self, payer: Payer, conn: ConnId, bytes: usize, now: Millis) -> u32 {
        let number = self.number(payer, now);
        self.change(number, |share| share.waiting.push_back((conn, bytes)));
        if self.list[number as usize].waiting.len() == 1 {
            self.line.push_back(number);
        }
        number
    }

    /// Takes a connection out of its line: it is gone.
    pub fn leave(&mut self, number: u32, conn: ConnId) {
        self.change(number, |share| share.waiting.retain(|(waiting, _)| *waiting != conn));
        if self.list[number as usize].waiting.is_empty() {
            self.line.retain(|waiting| *waiting != number);
        }
    }

    /// Returns the next connection whose message may go to the store now, and takes it out of its line.
    pub fn next(&mut self, bound: usize) -> Option<ConnId> {
        for _ in 0..self.line.len() {
            if self.bytes >= bound {
                return None;
            }
            let number = self.line.pop_front()?;
            let share = &self.list[number as usize];
            // proof: a share in the line has connections that wait.
            let (conn, bytes) = *share.waiting.front().expect("a connection waits");
            let goes = self.fits(Some(share), bytes, bound);
            if goes {
                self.change(number, |share| _ = share.waiting.pop_front());
            }
            if !self.list[number as usize].waiting.is_empty() {
                self.line.push_back(number);
            }
            if goes {
                return Some(conn);
            }
        }
        None
    }

    /// Returns the share of a payer, which is made if there is none.
    fn number(&mut self, payer: Payer, now: Millis) -> u32 {
        if let Some(number) = self.numbers.get(&payer) {
            return *number;
        }
        if self.list.len() - self.busy >= self.sweep_at {
            let least = self.least_remembered(now);
            let growths = &mut self.growths;
            self.list.retain(|_, share| {
                let stays = !share.is_forgettable(now) || share.grown > least;
                if !stays {
                    growths.forget(share.grown);
                }
                stays
            });
            let list = &self.list;
            self.numbers.retain(|_, number| list.contains(*number as usize));
            self.wider.retain(|_, rooms| !rooms.is_forgettable(now));
            // It doubles with the shares that stay, so that the amortised cost of a new one is constant.
            self.sweep_at = IDLE.max(2 * (self.list.len() - self.busy));
        }
        // Loopback and a trusted proxy's own connection have no rate, as everywhere.
        let network = payer.network();
        let rooms = network.map(|_| Rooms::default());
        // Connections and their messages are far fewer than 2^32.
        let number = self.list.insert(Share { rooms, network, ..Share::default() }) as u32;
        self.numbers.insert(payer, number);
        number
    }

    /// Returns the growth above which an idle share stays: those that have grown most, as far as they count.
    fn least_remembered(&self, now: Millis) -> u64 {
        let counts = |share: &Share| share.is_forgettable(now) && share.grown >= growth::WRITES_FROM;
        let mut grown: Vec<u64> =
            self.list.iter().filter(|(_, share)| counts(share)).map(|(_, share)| share.grown).collect();
        if grown.len() < growth::REMEMBERED {
            return growth::WRITES_FROM - 1;
        }
        let place = grown.len() - growth::REMEMBERED / 2;
        *grown.select_nth_unstable(place).1
    }

    /// Changes a share, and keeps the number of busy ones.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Share)) {
        let share = &mut self.list[number as usize];
        let was_idle = share.is_idle();
        change(share);
        match (was_idle, share.is_idle()) {
            (true, false) => self.busy += 1,
            (false, true) => self.busy -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUND: usize = 1200;
    const NOW: Millis = Millis(5);

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn payer(index: u32) -> Payer {
        Payer::Connection(conn(index))
    }

    #[test]
    fn one_payer_leaves_room_for_the_next() {
        let mut shares = Shares::default();
        for _ in 0..6 {
            assert!(shares.may_take(payer(0), 100, BOUND));
            shares.take(payer(0), 100, NOW);
        }
        assert!(!shares.may_take(payer(0), 100, BOUND), "half is for who comes next");
        for _ in 0..4 {
            assert!(shares.may_take(payer(1), 100, BOUND));
            shares.take(payer(1), 100, NOW);
        }
        assert!(!shares.may_take(payer(1), 100, BOUND));
        assert!(shares.may_take(payer(2), 100, BOUND));
        assert!(!shares.may_take(payer(2), 300, BOUND), "1200 bytes are the bound of all");
    }

    #[test]
    fn payers_take_turns_and_each_keeps_its_order() {
        let mut shares = Shares::default();
        let number = shares.take(payer(0), BOUND, NOW);
        for (of, index) in [(0, 10), (0, 11), (1, 20), (1, 21), (2, 30)] {
            shares.wait(payer(of), conn(index), 100, NOW);
        }
        assert!(!shares.may_take(payer(1), 100, BOUND), "not before those that wait");
        assert_eq!(shares.next(BOUND), None);
        shares.give_back(number, BOUND);
        let order: Vec<u32> = std::iter::from_fn(|| shares.next(BOUND)).map(|conn| conn.index).collect();
        assert_eq!(order, [10, 20, 30, 11, 21]);
        assert_eq!(shares.total(), (0, 0));
    }

    #[test]
    fn who_is_gone_waits_no_more() {
        let mut shares = Shares::default();
        let number = shares.take(payer(0), BOUND, NOW);
        let waits = shares.wait(payer(1), conn(1), 100, NOW);
        shares.wait(payer(1), conn(2), 100, NOW);
        shares.leave(waits, conn(1));
        shares.give_back(number, BOUND);
        assert_eq!(shares.next(BOUND), Some(conn(2)));
        assert_eq!(shares.next(BOUND), None);
        assert_eq!((shares.busy, shares.line.len()), (0, 0));
    }

    /// A /56 has four shares of a /64, a /48 sixteen.
    #[test]
    fn rooms_have_a_rate_of_their_makers_wider_networks() {
        let rates = RoomRates { own: Rate::new(10, 1000, 3), all: Rate::new(0, 1000, 1) };
        for (step, made) in [(1, 12), (256, 48)] {
            let mut shares = Shares::default();
            let makers: Vec<u32> = (0..200)
                .map(|n: u16| Payer::Network([0x2001, 0xdb8, 0, n * step, 0, 0, 0, 0].into()))
                .map(|payer| shares.take(payer, 10, NOW))
                .collect();
            let may = |shares: &mut Shares, at| {
                let mut allowed = makers.clone();
                allowed.retain(|maker| shares.may_make(*maker, rates, at) == Making::Counted);
                allowed
            };
            let allowed = may(&mut shares, NOW);
            assert_eq!(allowed.len(), made);
            allowed.iter().for_each(|maker| shares.decided(*maker, false, rates, NOW));
            assert!(shares.wider.is_empty(), "nothing was made");
            let again = may(&mut shares, NOW);
            assert_eq!(again, allowed);
            again.iter().for_each(|maker| shares.decided(*maker, true, rates, NOW));
            assert!(may(&mut shares, NOW).is_empty());
            assert_eq!(may(&mut shares, NOW.after(100)).len(), made / 3);
            shares.give_back_all();
            let last = NOW.after(60_000);
            assert!(shares.wider.values().all(|rooms| rooms.is_forgettable(last)) && shares.wider.len() < 100);
        }
    }

    #[test]
    fn rooms_have_a_rate_of_their_maker_and_of_all() {
        let rates = RoomRates { own: Rate::new(10, 1000, 3), all: Rate::new(10, 1000, 5) };
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let network = |last| Payer::Network(ip(last));
        let mut shares = Shares::default();
        let one = shares.take(network(1), 10, NOW);
        let makes = |shares: &mut Shares, number, at| shares.may_make(number, rates, at);
        assert_eq!([0; 3].map(|_| makes(&mut shares, one, NOW)), [Making::Counted; 3]);
        assert_eq!(makes(&mut shares, one, NOW), Making::Refused { wait: 100 }, "three are under way");
        let pending = |shares: &Shares, last| (shares.pending_rooms(Some(ip(last))), shares.pending_rooms(None));
        assert_eq!((pending(&shares, 1), pending(&shares, 2)), ((3, 3), (0, 3)));
        shares.decided(one, false, rates, NOW);
        assert_eq!(makes(&mut shares, one, NOW), Making::Counted, "one of them has made none");
        (0..3).for_each(|_| shares.decided(one, true, rates, NOW));
        assert_eq!(makes(&mut shares, one, NOW), Making::Refused { wait: 100 }, "three are made");
        shares.give_back(one, 10);
        for index in 0..3000 {
            let number = shares.take(payer(index), 1, NOW);
            shares.give_back(number, 1);
        }
        assert_eq!(shares.take(network(1), 10, NOW), one, "who has made rooms is remembered");
        let local = shares.take(payer(0), 10, NOW);
        assert_eq!([0; 2].map(|_| makes(&mut shares, local, NOW)), [Making::Counted; 2]);
        assert_eq!(makes(&mut shares, local, NOW), Making::Refused { wait: 100 }, "the rate of all holds for all");
        let other = shares.take(network(2), 10, NOW);
        assert_eq!(makes(&mut shares, other, NOW), Making::Refused { wait: 100 });
        shares.give_back_all();
        assert_eq!(pending(&shares, 1), (0, 0));
        assert_eq!(makes(&mut shares, other, NOW), Making::Counted);
        assert_eq!(makes(&mut shares, one, NOW.after(100)), Making::Counted);
    }

    /// However many networks make rooms, only those are remembered whose buckets are not full.
    #[test]
    fn who_made_rooms_is_forgotten_once_the_bucket_is_full() {
        let none = Rate::new(0, 1000, 1);
        let rates = RoomRates { own: Rate::new(5, 1000, 100), all: none };
        let (mut shares, mut most) = (Shares::default(), 0);
        for index in 0..100_000_u32 {
            let now = Millis(1 + u64::from(index));
            let number = shares.take(Payer::Network((index | 1 << 30).to_be_bytes().into()), 1, now);
            assert_eq!(shares.may_make(number, rates, now), Making::Counted);
            shares.decided(number, true, rates, now);
            shares.give_back(number, 1);
            most = most.max(shares.list.len());
        }
        assert!(most <= 2 * IDLE, "{most}");
    }

    #[test]
    fn what_a_network_has_written_decides_what_must_be_left() {
        let network = |last| Payer::Network(IpAddr::from([192, 0, 2, last]));
        let mut shares = Shares::default();
        let one = shares.take(network(1), 1_000, NOW);
        assert_eq!(shares.needs(one, NOW), 2 * 1_100, "what is under way counts");
        shares.give_back(one, 1_000);
        shares.stored(one, 1_000, false);
        assert_eq!(shares.needs(one, NOW), 2 * 1_100);
        (0..100).for_each(|_| shares.stored(one, 999_900, false));
        let two = shares.take(network(2), 0, NOW);
        assert_eq!(shares.needs(two, NOW), 3 * 100, "one writes, this is another, and one may come");
        let local = shares.take(payer(3), 1 << 30, NOW);
        shares.stored(local, 1 << 30, true);
        assert_eq!(shares.needs(local, NOW), 0, "loopback and a proxy itself have no share");
        // It is remembered, however many come, and halved from day to day.
        for index in 10..3_000 {
            let number = shares.take(payer(index), 1, NOW);
            shares.give_back(number, 1);
        }
        assert_eq!(shares.take(network(1), 0, NOW), one);
        assert_eq!(shares.needs(one, Millis(86_400_000)), 2 * (100_001_100 / 2 + 100));
    }

    /// However many networks have written much, those that have written most are remembered, and not many more.
    #[test]
    fn remembered_growth_is_bounded() {
        let mut shares = Shares::default();
        let network = |index: u32| Payer::Network((index | 1 << 30).to_be_bytes().into());
        let mut most = 0;
        for index in 0..50_000 {
            let number = shares.take(network(index), 1, NOW);
            shares.give_back(number, 1);
            shares.stored(number, 100_000 + 10 * (index as usize % 1_000), false);
            most = most.max(shares.list.len());
        }
        assert!(most <= 4 * growth::REMEMBERED, "{most}");
        let sum = shares.list.iter().filter(|(_, share)| share.grown >= growth::WRITES_FROM).count();
        assert_eq!(shares.growths.needs(0, 1), sum as u64 + 2, "those that are forgotten count no more");
    }

    #[test]
    fn idle_shares_are_bounded() {
        let mut shares = Shares::default();
        for index in 0..100_000 {
            let number = shares.take(payer(index), 1, NOW);
            shares.give_back(number, 1);
        }
        assert!(shares.list.len() <= IDLE && shares.numbers.len() == shares.list.len());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send { of: u32, bytes: usize },
        Decide,
        Gone,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4u32, 1..400usize).prop_map(|(of, bytes)| Step::Send { of, bytes }),
            3 => Just(Step::Decide),
            1 => Just(Step::Gone),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// The bound holds, nobody waits while nothing is at the store, and in the end everyone was served.
        #[test]
        fn everyone_is_served_within_the_bound(steps in steps()) {
            let mut shares = Shares::default();
            let mut store: VecDeque<(u32, usize)> = VecDeque::new();
            let mut waiting: Vec<(ConnId, u32, u32, usize)> = Vec::new();
            let mut last = 0;
            for step in steps.into_iter().chain(std::iter::repeat_n(Step::Decide, 1000)) {
                match step {
                    Step::Send { of, bytes } if shares.may_take(payer(of), bytes, BOUND) => {
                        prop_assert!(waiting.iter().all(|(_, other, _, _)| *other != of), "not before an earlier one");
                        store.push_back((shares.take(payer(of), bytes, NOW), bytes));
                    }
                    Step::Send { of, bytes } => {
                        last += 1;
                        let number = shares.wait(payer(of), conn(last), bytes, NOW);
                        waiting.push((conn(last), of, number, bytes));
                    }
                    Step::Decide => {
                        if let Some((number, bytes)) = store.pop_front() {
                            shares.give_back(number, bytes);
                        }
                        while let Some(next) = shares.next(BOUND) {
                            let of = waiting.iter().find(|(conn, ..)| *conn == next).map(|(_, of, ..)| *of);
                            let first = waiting.iter().position(|(_, other, ..)| Some(*other) == of);
                            let (conn, of, _, bytes) = waiting.remove(first.expect("it waits"));
                            prop_assert_eq!(conn, next, "within a payer, first come first served");
                            store.push_back((shares.take(payer(of), bytes, NOW), bytes));
                        }
                    }
                    Step::Gone => {
                        if let Some((conn, _, number, _)) = waiting.pop() {
                            shares.leave(number, conn);
                        }
                    }
                }
                let bytes: usize = store.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(shares.total(), (store.len(), bytes));
                prop_assert!(bytes <= BOUND);
                prop_assert!(waiting.is_empty() || !store.is_empty(), "somebody waits for nothing");
            }
            prop_assert!(waiting.is_empty() && store.is_empty() && shares.busy == 0);
        }
    }
}
