//! Shares of the store, of rooms and of the disk.

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
        assert!(shares.wider.values().all(|wider| wider.rooms.is_forgettable(NOW)), "nothing was made");
        let again = may(&mut shares, NOW);
        assert_eq!(again, allowed);
        again.iter().for_each(|maker| shares.decided(*maker, true, rates, NOW));
        assert!(may(&mut shares, NOW).is_empty());
        assert_eq!(may(&mut shares, NOW.after(100)).len(), made / 3);
        shares.give_back_all();
        let last = NOW.after(60_000);
        assert!(shares.wider.values().all(|wider| wider.rooms.is_forgettable(last)) && shares.wider.len() < 100);
    }
}

/// The attack: a message of each network of a /48. A /56 in it has four shares, and the whole /48 sixteen.
#[test]
fn a_wider_network_has_no_more_than_its_shares_of_the_store() {
    for (step, part) in [(1, 4), (256, 16)] {
        let mut shares = Shares::default();
        let network = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n * step, 0, 0, 0, 0].into());
        let honest = Payer::Network([192, 0, 2, 1].into());
        let bound = 10 * (part + 1);
        let mut taken = Vec::new();
        for n in 0..200 {
            match shares.may_take(network(n), 10, bound) {
                true => taken.push(shares.take(network(n), 10, NOW)),
                false => _ = shares.wait(network(n), conn(n.into()), 10, NOW),
            }
        }
        assert_eq!((taken.len(), shares.busy), (part, part), "one of {} is for who comes next", part + 1);
        assert!(shares.may_take(honest, 10, bound));
        let own = shares.take(honest, 10, NOW);
        shares.wait(honest, conn(900), 10, NOW);
        shares.wait(honest, conn(901), 10, NOW);
        shares.give_back(own, 10);
        assert_eq!(shares.next(bound), Some(conn(900)));
        let own = shares.take(honest, 10, NOW);
        // Then they take turns, as one with one.
        taken.drain(..).for_each(|number| shares.give_back(number, 10));
        shares.give_back(own, 10);
        let order: Vec<bool> = (0..2).filter_map(|_| shares.next(bound)).map(|conn| conn.index == 901).collect();
        assert_eq!(order.iter().filter(|is_honest| **is_honest).count(), 1, "{order:?}");
        while shares.next(usize::MAX).is_some() {}
        assert_eq!((shares.busy, shares.line.len()), (0, 0));
        assert!(shares.wider.is_empty());
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

/// Small messages that keep coming, from the same /56, the same /48, or everywhere, go past a large one, but not for
/// ever.
#[test]
fn a_large_message_has_its_turn() {
    let of_a_56 = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n, 0, 0, 0, 0].into());
    let of_a_48 = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n << 8, 0, 0, 0, 0].into());
    let of_anywhere = |n: u16| Payer::Network([192, 0, 2, n as u8].into());
    let networks: [fn(u16) -> Payer; 3] = [of_a_56, of_a_48, of_anywhere];
    let sizes = [(6, 5 * 90), (20, 17 * 30), (6, 6 * 20)];
    for (network, (senders, bound)) in networks.into_iter().zip(sizes) {
        let mut shares = Shares::default();
        let mut store = VecDeque::new();
        let (mut last, mut waiting) = (100, HashMap::new());
        let mut large = false;
        for round in 0..100 {
            // As many as there are send 20 bytes each, as often as they may.
            for n in 0..senders {
                if shares.may_take(network(n), 20, bound) {
                    store.push_back((shares.take(network(n), 20, NOW), 20));
                } else if waiting.values().filter(|(of, _)| *of == n).count() < 3 {
                    last += 1;
                    shares.wait(network(n), conn(last), 20, NOW);
                    waiting.insert(conn(last), (n, 20));
                }
            }
            if round == 10 {
                assert!(!shares.may_take(network(99), 110, bound), "of {senders}");
                shares.wait(network(99), conn(1), 110, NOW);
                waiting.insert(conn(1), (99, 110));
            }
            let (number, bytes) = store.pop_front().expect("something is at the store");
            shares.give_back(number, bytes);
            while let Some(next) = shares.next(bound) {
                let (of, bytes) = waiting.remove(&next).expect("it waits");
                large |= bytes == 110;
                store.push_back((shares.take(network(of), bytes, NOW), bytes));
            }
        }
        assert!(large, "one of {senders} still waits");
    }
}

#[test]
fn who_is_gone_holds_up_nobody() {
    let network = |n: u16| Payer::Network([0x2001, 0xdb8, 0, n, 0, 0, 0, 0].into());
    for (first, bound) in [(300, BOUND), (1_000, BOUND)] {
        let mut shares = Shares::default();
        shares.take(network(0), first, NOW);
        let large = shares.wait(network(1), conn(1), BOUND, NOW);
        assert_eq!(shares.next(bound), None);
        assert!(!shares.may_take(network(2), 10, bound), "one is held");
        shares.wait(network(2), conn(2), 10, NOW);
        assert_eq!((shares.next(bound), shares.is_loose()), (None, false));
        shares.leave(large, conn(1));
        assert!(shares.is_loose(), "nobody else says that another may go");
        assert_eq!((shares.next(bound), shares.is_loose()), (Some(conn(2)), false));
        assert!(shares.may_take(network(2), 10, bound));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { of: usize, bytes: usize },
    Decide,
    Gone,
}

/// Connections of loopback, an IPv4 address, and parts of one /48: three /64s of a /56, and another /56.
const SENDERS: [Option<[u16; 4]>; 7] = [
    None,
    None,
    Some([0, 0, 0, 0]),
    Some([0x2001, 0xdb8, 7, 0x100]),
    Some([0x2001, 0xdb8, 7, 0x101]),
    Some([0x2001, 0xdb8, 7, 0x102]),
    Some([0x2001, 0xdb8, 7, 0x300]),
];

fn sender(of: usize) -> Payer {
    match SENDERS[of] {
        None => payer(of as u32),
        Some([0, ..]) => Payer::Network([192, 0, 2, 1].into()),
        Some([a, b, c, d]) => Payer::Network([a, b, c, d, 0, 0, 0, 0].into()),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..SENDERS.len(), 1..400usize).prop_map(|(of, bytes)| Step::Send { of, bytes }),
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
        let mut waiting: Vec<(ConnId, usize, u32, usize)> = Vec::new();
        let mut last = 0;
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Decide, 1000)) {
            match step {
                Step::Send { of, bytes } if shares.may_take(sender(of), bytes, BOUND) => {
                    prop_assert!(waiting.iter().all(|(_, other, _, _)| *other != of), "not before an earlier one");
                    store.push_back((shares.take(sender(of), bytes, NOW), bytes));
                }
                Step::Send { of, bytes } => {
                    last += 1;
                    let number = shares.wait(sender(of), conn(last), bytes, NOW);
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
                        store.push_back((shares.take(sender(of), bytes, NOW), bytes));
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
        prop_assert!(shares.wider.is_empty() && shares.line.len() == 0);
    }
}
