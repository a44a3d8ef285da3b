//! Presence: lists and events agree, large rooms get counts, and slow members receive the events that they missed.

use super::clients::{Encoded, Heard};
use super::world::{LIMITS, Who, World, room};
use crate::hub::{HubLimits, Presence, PresenceKind, Start};
use crate::types::MemberId;

fn join(world: &mut World, presence: Presence) -> Who {
    let who = world.open();
    world.join_with(who, &room("r"), Start::Now, presence);
    who
}

fn few() -> HubLimits {
    HubLimits { presence_max: 3, ..LIMITS }
}

/// Returns the presence events that were received, and the counts that came without events.
fn presence(heard: &[Heard]) -> (Vec<(PresenceKind, MemberId)>, Vec<usize>) {
    let mut named = Vec::new();
    let mut counts = Vec::new();
    for h in heard {
        if let Heard::Presence { count, events, .. } = h {
            named.extend(events.iter().map(|e| (e.kind, e.member)));
            if events.is_empty() {
                counts.push(*count);
            }
        }
    }
    (named, counts)
}

fn lists(heard: &[Heard]) -> usize {
    heard.iter().filter(|h| matches!(h, Heard::Members { .. })).count()
}

#[test]
fn a_member_list_follows_joined_then_the_events_of_others() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world, Presence::Full);
    world.settle();
    let heard = world.heard(a);
    assert!(matches!(&heard[..], [Heard::Joined { members: 1, .. }, Heard::Members { count: 1, .. }]), "{heard:?}");
    let b = join(&mut world, Presence::Full);
    world.settle();
    world.leave(b, &room("r")).unwrap();
    world.settle();
    let (events, _) = presence(&world.heard(a));
    assert_eq!(events, [(PresenceKind::Join, b.member), (PresenceKind::Leave, b.member)]);
    assert_eq!(presence(&world.heard(b)).0, [], "its own coming is in its list");
    assert_eq!(lists(&world.heard(b)), 1);
    world.judge_at_rest();
}

#[test]
fn arrivals_of_one_turn_share_a_frame() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world, Presence::Full);
    let counting = join(&mut world, Presence::Count);
    world.settle();
    world.news(a);
    world.news(counting);
    let others: Vec<Who> = (0..20).map(|_| join(&mut world, Presence::Full)).collect();
    world.leave(others[0], &room("r")).unwrap();
    world.end_turn();
    let kinds: Vec<Encoded> = world.clients.take_encoded().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(
        kinds,
        [Encoded::Presence, Encoded::Presence, Encoded::Members],
        "names, a number, and the list for the new"
    );
    let news = world.news(a);
    assert_eq!(news.len(), 1);
    assert_eq!(presence(&news).0.len(), 21);
    assert_eq!(presence(&world.news(counting)), (vec![], vec![21]));
    world.judge_at_rest();
}

#[test]
fn a_large_room_counts_at_most_once_a_second() {
    let mut world = World::new(few());
    let a = join(&mut world, Presence::Full);
    let b = join(&mut world, Presence::Count);
    world.settle();
    let mut guests = vec![join(&mut world, Presence::Off), join(&mut world, Presence::Off)];
    world.end_turn();
    world.news(a);
    world.news(b);
    for _ in 0..10 {
        guests.push(join(&mut world, Presence::Off));
        world.end_turn();
        world.pass(50);
        world.end_turn();
    }
    assert_eq!(presence(&world.news(a)), (vec![], vec![]), "told half a second ago");
    let due = world.hub.deadline().expect("a count is due");
    world.pass(due.since(world.now));
    world.end_turn();
    assert_eq!(world.clients.take_encoded(), [(room("r"), Encoded::Presence)], "the same for both");
    assert_eq!(presence(&world.news(a)), (vec![], vec![14]));
    assert_eq!(presence(&world.news(b)), (vec![], vec![14]));
    assert_eq!(world.hub.deadline(), None);
    // After a quiet second the next event is sent at once.
    world.pass(1000);
    world.gone(guests[0]);
    world.end_turn();
    assert_eq!(presence(&world.news(a)), (vec![], vec![13]));
    world.gone(guests[1]);
    world.end_turn();
    assert_eq!(presence(&world.news(a)), (vec![], vec![]));
    world.settle();
    assert_eq!(presence(&world.news(a)), (vec![], vec![12]));
    world.judge_at_rest();
}

#[test]
fn a_room_that_shrinks_below_presence_max_sends_the_list() {
    // No client has the names of those that joined or left while the room was large.
    let mut world = World::new(few());
    let a = join(&mut world, Presence::Full);
    let counting = join(&mut world, Presence::Count);
    world.settle();
    let guests: Vec<Who> = (0..3).map(|_| join(&mut world, Presence::Full)).collect();
    world.settle();
    world.gone(guests[0]);
    world.gone(guests[1]);
    world.settle();
    assert_eq!(lists(&world.heard(a)), 2);
    assert_eq!(lists(&world.heard(guests[2])), 1);
    assert_eq!(lists(&world.heard(counting)), 0);
    world.judge_at_rest();
    // From here on by name again.
    let last = guests[2];
    world.news(a);
    world.gone(last);
    world.settle();
    assert_eq!(presence(&world.news(a)).0, [(PresenceKind::Leave, last.member)]);
    world.judge_at_rest();
}

#[test]
fn a_room_around_presence_max_sends_no_list_each_turn() {
    let mut world = World::new(few());
    let a = join(&mut world, Presence::Full);
    join(&mut world, Presence::Full);
    join(&mut world, Presence::Full);
    world.settle();
    world.news(a);
    for _ in 0..20 {
        let guest = join(&mut world, Presence::Full);
        world.end_turn();
        world.gone(guest);
        world.end_turn();
    }
    assert!(world.news(a).len() <= 2, "no time passed");
    world.settle();
    world.judge_at_rest();
}

#[test]
fn the_list_comes_again_after_a_lag() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world, Presence::Full);
    world.settle();
    world.set_queue(a, 2);
    for _ in 0..3 {
        world.publish(&room("r"));
        world.store_answers();
        world.end_turn();
    }
    // B misses this.
    let b = join(&mut world, Presence::Full);
    let c = join(&mut world, Presence::Full);
    world.end_turn();
    world.leave(b, &room("r")).unwrap();
    world.end_turn();
    assert_eq!(presence(&world.heard(a)).0, []);
    world.settle();
    let heard = world.heard(a);
    assert_eq!((lists(&heard), presence(&heard).0.len()), (2, 0));
    world.judge_at_rest();
    world.gone(c);
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_member_whose_presence_queue_is_full_is_told_everything_later() {
    for wish in [Presence::Full, Presence::Count] {
        let mut world = World::new(LIMITS);
        let a = join(&mut world, wish);
        world.settle();
        world.set_queue(a, 1);
        for _ in 0..5 {
            join(&mut world, Presence::Off);
            world.end_turn();
        }
        world.settle();
        world.judge_at_rest();
    }
}

#[test]
fn a_lagging_member_of_a_large_room_is_told_the_count_it_missed() {
    let mut world = World::new(LIMITS);
    for _ in 0..3 {
        world.publish(&room("r"));
    }
    world.store_answers();
    let a = world.open();
    world.set_queue(a, 1);
    world.join_with(a, &room("r"), Start::Last(3), Presence::Count);
    world.store_answers();
    assert_eq!(world.seqs(a, &room("r")), [0u64; 0], "`joined` fills the queue");
    let b = join(&mut world, Presence::Off);
    world.end_turn();
    world.settle();
    assert_eq!(presence(&world.heard(a)).1.last(), Some(&2));
    world.gone(b);
    world.settle();
    world.judge_at_rest();
}

#[test]
fn undelivered_presence_does_not_hasten_the_next_turn() {
    let mut world = World::new(HubLimits { batch_bytes: 1, ..LIMITS });
    let a = join(&mut world, Presence::Full);
    let b = join(&mut world, Presence::Off);
    world.settle();
    world.clients.inbox(a.conn()).unwrap().bound = 1;
    world.drain(a);
    for _ in 0..4 {
        world.publish(&room("r"));
    }
    let c = join(&mut world, Presence::Off);
    world.store_answers();
    // The first message fills A's queue; the event about C finds it full. The other three wait for their turns.
    for told in 1..=4 {
        assert_eq!(world.end_turn(), told < 4);
        assert_eq!(world.seqs(b, &room("r")), (1..=told).collect::<Vec<_>>());
        assert_eq!(world.seqs(a, &room("r")), [1]);
    }
    assert_eq!(world.heard(a).iter().filter(|h| matches!(h, Heard::Lagging { .. })).count(), 1);
    world.settle();
    world.gone(c);
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_client_with_room_that_takes_no_presence_causes_no_busy_loop() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world, Presence::Full);
    let b = join(&mut world, Presence::Full);
    world.settle();
    world.clients.inbox(a.conn()).unwrap().deaf = true;
    world.leave(b, &room("r")).unwrap();
    for _ in 0..10 {
        assert!(!world.end_turn());
        assert!(world.hub.dirty.is_empty());
    }
    assert_eq!(world.hub.deadline(), Some(world.now.after(1000)));
    world.clients.inbox(a.conn()).unwrap().deaf = false;
    world.settle();
    world.judge_at_rest();
}

/// A client that only listens receives everything and is visible to nobody; none of its state is kept.
#[test]
fn a_listener_is_not_a_member() {
    let mut world = World::new(HubLimits { presence_max: 2, resume_within: 5000, ..LIMITS });
    let a = world.open();
    let all: Vec<_> = (0..5).map(|_| world.follow()).collect();
    for follower in &all {
        world.join_with(*follower, &room("r"), Start::Now, Presence::Off);
    }
    world.join_with(a, &room("r"), Start::Now, Presence::Full);
    world.settle();
    assert_eq!((world.hub.roster(&room("r")).0, world.hub.roster(&room("r")).1.len()), (1, 1));
    let told = |world: &mut World| -> Vec<Heard> {
        let heard = world.clients.inbox(a.conn()).unwrap().heard.clone();
        heard.into_iter().filter(|h| matches!(h, Heard::Presence { .. } | Heard::Members { .. })).collect()
    };
    let before = told(&mut world);
    assert!(matches!(&before[..], [Heard::Members { count: 1, members, .. }] if members.len() == 1), "{before:?}");
    world.hub.handle_dropped(all[0].slot, all[0].conn(), world.now);
    world.hub.handle_gone(all[1].slot, all[1].conn());
    world.settle();
    assert_eq!(told(&mut world), before, "a small room, in which nobody came or went");
    assert_eq!((world.hub.session_count(), world.hub.detached_count()), (4, 0));
    world.hub.handle_stop();
    assert_eq!(world.hub.poll_parks().map(|parked| parked.member).collect::<Vec<_>>(), [a.member]);
}
