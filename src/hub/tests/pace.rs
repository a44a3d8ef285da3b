//! What one turn may cost: fan-outs that go on in the next, members that catch up in turn, large rooms that rest.

use super::clients::Heard;
use super::world::{LIMITS, Who, World, room};
use crate::hub::{HubLimits, Presence, Start};

/// Makes members of room `r` that have read everything so far.
fn members(world: &mut World, count: usize) -> Vec<Who> {
    let all: Vec<Who> = (0..count).map(|_| world.open()).collect();
    for who in &all {
        world.join(*who, &room("r"), Start::Now);
    }
    world.settle();
    for who in &all {
        world.news(*who);
    }
    all
}

fn publish(world: &mut World, count: usize) {
    (0..count).for_each(|_| world.publish(&room("r")));
    world.store_answers();
}

fn seqs(world: &mut World, all: &[Who]) -> Vec<Vec<u64>> {
    all.iter().map(|who| world.seqs(*who, &room("r"))).collect()
}

/// Ends turns until nothing is left over.
fn finish(world: &mut World) {
    for _ in 0..1000 {
        if !world.end_turn() && world.store.is_idle() {
            return;
        }
        world.store_answers();
    }
    panic!("the loop never rests");
}

fn signals(world: &mut World, who: Who) -> usize {
    world.heard(who).iter().filter(|h| matches!(h, Heard::Signal { .. })).count()
}

#[test]
fn a_fan_out_that_does_not_fit_goes_on_in_the_next_turn() {
    let mut world = World::new(HubLimits { delivery_budget: 2, ..LIMITS });
    let all = members(&mut world, 5);
    publish(&mut world, 3);
    assert!(world.end_turn());
    assert_eq!(seqs(&mut world, &all), [vec![1, 2, 3], vec![1, 2, 3], vec![], vec![], vec![]]);
    // What is said meanwhile comes after, to everyone.
    publish(&mut world, 1);
    assert!(world.end_turn() && world.end_turn());
    assert_eq!(seqs(&mut world, &all)[2..], [vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3]]);
    finish(&mut world);
    assert!(seqs(&mut world, &all).iter().all(|heard| *heard == [1, 2, 3, 4]));
    let lags = all.iter().any(|who| world.heard(*who).iter().any(|h| matches!(h, Heard::Lagging { .. })));
    assert!(!lags, "nobody lags who keeps up");
}

/// Members leave while a fan-out goes on: those that have it and those that do not must not be mixed up, since a signal
/// has no seq by which that could be told.
#[test]
fn whoever_leaves_meanwhile_changes_nothing_for_the_others() {
    for leaver in 0..6 {
        let mut world = World::new(HubLimits { delivery_budget: 3, ..LIMITS });
        let all = members(&mut world, 6);
        let talker = world.open();
        world.join(talker, &room("s"), Start::Now);
        world.settle();
        world.signal(all[0], &room("r")).unwrap();
        assert!(world.end_turn());
        world.leave(all[leaver], &room("r")).unwrap();
        finish(&mut world);
        for (seat, who) in all.iter().enumerate().filter(|(seat, _)| *seat != leaver) {
            assert_eq!(signals(&mut world, *who), usize::from(seat != 0), "seat {seat}, and {leaver} left");
        }
    }
}

#[test]
fn whoever_joins_meanwhile_hears_what_follows_its_place() {
    let mut world = World::new(HubLimits { delivery_budget: 2, ..LIMITS });
    let all = members(&mut world, 4);
    publish(&mut world, 2);
    assert!(world.end_turn());
    publish(&mut world, 1);
    let (now, earlier) = (world.open(), world.open());
    world.join(now, &room("r"), Start::Now);
    world.join(earlier, &room("r"), Start::Last(3));
    world.store_answers();
    publish(&mut world, 1);
    finish(&mut world);
    assert_eq!(world.seqs(now, &room("r")), [4]);
    assert_eq!(world.seqs(earlier, &room("r")), [1, 2, 3, 4]);
    assert!(seqs(&mut world, &all).iter().all(|heard| *heard == [1, 2, 3, 4]));
}

/// A member that catches up during a fan-out, at a seat that had its turn, reads what the fan-out brings.
#[test]
fn whoever_catches_up_meanwhile_misses_nothing() {
    let mut world = World::new(HubLimits { delivery_budget: 3, ..LIMITS });
    let all = members(&mut world, 6);
    world.set_queue(all[0], 4);
    publish(&mut world, 4);
    finish(&mut world);
    publish(&mut world, 2);
    assert!(world.end_turn(), "the first cannot take it, and lags; others are still to hear it");
    world.drain(all[0]);
    finish(&mut world);
    world.drain(all[0]);
    finish(&mut world);
    assert!(seqs(&mut world, &all).iter().all(|heard| *heard == [1, 2, 3, 4, 5, 6]));
}

#[test]
fn those_that_lag_all_at_once_are_served_in_turn() {
    for budget in [10, 100, 10_000] {
        all_lag_at_once(budget);
    }
}

fn all_lag_at_once(budget: usize) {
    let mut world = World::new(HubLimits { delivery_budget: budget, ..LIMITS });
    let all = members(&mut world, 40);
    for who in &all {
        world.set_queue(*who, 8);
    }
    publish(&mut world, 8);
    finish(&mut world);
    publish(&mut world, 2);
    finish(&mut world);
    // Everyone has been told, and nobody has room.
    assert_eq!(world.clients.pages, 0);
    let (mut caught_up, mut turns) = (0, 0);
    for who in &all {
        world.drain(*who);
    }
    loop {
        let before = world.clients.pages;
        turns += 1;
        assert!(turns < 1000);
        let more = world.end_turn();
        assert!(world.clients.pages - before <= budget, "{} pages in one turn", world.clients.pages - before);
        let now = seqs(&mut world, &all).iter().filter(|heard| heard.len() == 10).count();
        assert!(now >= caught_up);
        caught_up = now;
        if !more {
            break;
        }
    }
    assert_eq!(caught_up, 40);
}

/// One member of another room does not wait for all members of a large one.
#[test]
fn rooms_take_turns_however_many_lag_in_one() {
    let mut world = World::new(HubLimits { delivery_budget: 4, ..LIMITS });
    let all = members(&mut world, 40);
    let other = world.open();
    world.join(other, &room("s"), Start::Now);
    world.settle();
    let everyone: Vec<Who> = all.iter().copied().chain([other]).collect();
    for who in &everyone {
        world.drain(*who);
        world.set_queue(*who, 8);
    }
    for name in ["r", "s"] {
        (0..8).for_each(|_| world.publish(&room(name)));
        world.store_answers();
        finish(&mut world);
        (0..2).for_each(|_| world.publish(&room(name)));
        world.store_answers();
        finish(&mut world);
    }
    for who in &everyone {
        world.drain(*who);
    }
    let mut turns = 0;
    while world.seqs(other, &room("s")).len() < 10 {
        assert!(world.end_turn());
        turns += 1;
    }
    assert!(turns <= 4, "{turns} turns");
    assert!(seqs(&mut world, &all).iter().any(|heard| heard.len() < 10), "the others still wait");
    finish(&mut world);
}

/// A page from the log stays until everyone has had it who waited for it, whatever may be kept in memory.
#[test]
fn a_page_that_many_wait_for_is_read_once() {
    let mut world = World::new(HubLimits { delivery_budget: 3, tail_bytes: 0, ..LIMITS });
    publish(&mut world, 20);
    world.end_turn();
    let all: Vec<Who> = (0..12).map(|_| world.open()).collect();
    for who in &all {
        world.join(*who, &room("r"), Start::Last(20));
    }
    let mut turns = 0;
    loop {
        world.store_answers();
        turns += 1;
        assert!(turns < 1000);
        if !world.end_turn() && world.store.is_idle() {
            break;
        }
    }
    assert!(turns > 4, "{turns} turns");
    assert!(seqs(&mut world, &all).iter().all(|heard| heard.len() == 20));
    assert!(world.reads_taken <= 3, "{} reads", world.reads_taken);
}

/// Where a page is shared, a member may get less at once than it could; the rest follows.
#[test]
fn a_short_page_is_followed_by_the_next() {
    let mut world = World::new(HubLimits { delivery_budget: 2, ..LIMITS });
    publish(&mut world, 20);
    world.clients.page = Some(3);
    let who = world.open();
    world.join(who, &room("r"), Start::Last(20));
    world.settle_turn();
    assert_eq!(world.seqs(who, &room("r")), (1..=20).collect::<Vec<_>>());
    assert_eq!(world.clients.pages, 7);
}

#[test]
fn a_large_room_rests_and_then_brings_all_at_once() {
    // Six deliveries take 60 ms at this rate.
    let mut world = World::new(HubLimits { room_delivery_rate: 100, ..LIMITS });
    let all = members(&mut world, 6);
    world.pass(1000);
    publish(&mut world, 1);
    assert!(!world.end_turn());
    assert_eq!(world.seqs(all[0], &room("r")), [1], "the first comes at once");
    world.clients.deliveries = 0;
    for _ in 0..5 {
        world.pass(10);
        publish(&mut world, 1);
        assert!(!world.end_turn(), "the loop may sleep");
        assert_eq!(world.seqs(all[0], &room("r")), [1]);
    }
    let due = world.hub.deadline().expect("it goes on");
    assert_eq!(due, world.now.after(10));
    world.pass(10);
    assert!(!world.end_turn());
    assert_eq!(world.clients.deliveries, 6, "one delivery for each member");
    assert!(seqs(&mut world, &all).iter().all(|heard| *heard == [1, 2, 3, 4, 5, 6]));
}

#[test]
fn what_waits_for_a_resting_room_is_bounded_and_counted() {
    let mut world = World::new(HubLimits { room_delivery_rate: 1, batch_bytes: 1000, ..LIMITS });
    let all = members(&mut world, 3);
    world.pass(10_000);
    publish(&mut world, 1);
    assert!(!world.end_turn());
    let before = world.hub.memory();
    publish(&mut world, 3);
    assert!(!world.end_turn());
    assert_eq!(world.seqs(all[0], &room("r")), [1]);
    assert!(world.hub.memory() > before + 400, "{} bytes more", world.hub.memory() - before);
    publish(&mut world, 6);
    finish(&mut world);
    assert!(world.seqs(all[0], &room("r")).len() > 4, "a full batch does not wait");
    for who in all {
        world.leave(who, &room("r")).unwrap();
    }
    finish(&mut world);
    assert_eq!(world.hub.deadline(), None, "nothing is left of the room");
}

/// The counts of a large room cost no more for being sent to many: they go out as far as a turn goes.
#[test]
fn a_large_room_is_told_its_count_over_several_turns() {
    let mut world = World::new(HubLimits { presence_max: 2, delivery_budget: 3, ..LIMITS });
    let all: Vec<Who> = (0..10).map(|_| world.open()).collect();
    for who in &all {
        world.join_with(*who, &room("r"), Start::Now, Presence::Full);
        world.settle();
    }
    for who in &all {
        world.news(*who);
    }
    world.pass(2000);
    world.leave(all[9], &room("r")).unwrap();
    world.clients.deliveries = 0;
    let mut turns = 0;
    loop {
        let before = world.clients.deliveries;
        turns += 1;
        assert!(turns < 1000);
        let more = world.end_turn();
        assert!(world.clients.deliveries - before <= 3);
        if !more {
            break;
        }
    }
    assert_eq!((turns, world.clients.deliveries), (3, 9));
    for who in &all[..9] {
        let counts: Vec<_> = world.news(*who);
        assert!(matches!(counts[..], [Heard::Presence { count: 9, .. }]), "{counts:?}");
    }
}
