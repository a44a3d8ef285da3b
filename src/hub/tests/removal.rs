//! Rooms that the store would like to remove, and the epochs that their members are told.

use super::clients::Heard;
use super::world::{LIMITS, World, room};
use crate::hub::{HubLimits, Start};
use crate::store::{Page, Removed, StoreEvent, StoreRequest};
use crate::testing::Fate;
use crate::types::{Era, RoomId};

fn requests(world: &mut World) -> Vec<StoreRequest> {
    world.hub.poll_removals().collect()
}

/// Returns the epochs of all `joined` that were heard since the last call.
fn epochs(world: &mut World, who: super::world::Who) -> Vec<String> {
    let joined = |heard: Heard| if let Heard::Joined { epoch, .. } = heard { Some(epoch) } else { None };
    world.news(who).into_iter().filter_map(joined).collect()
}

/// Answers the room's read as a store does that has removed so many rooms, and has no row of this one.
fn arrive_as(world: &mut World, era: u64) {
    let read = world.store.reads.remove(0);
    let page = Page { era: Era(era), ..world.store.log.read(&read) };
    world.answer(StoreEvent::Page(page));
}

#[test]
fn a_join_does_not_overtake_a_removal() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.hub.handle_unused(vec![room("r"), room("other"), room("r")]);
    assert_eq!(requests(&mut world), [StoreRequest::Remove(room("r")), StoreRequest::Remove(room("other"))]);
    // Whoever asks for it meanwhile.
    world.join(a, &room("r"), Start::Now);
    world.publish(&room("r"));
    world.send(a, &room("r")).unwrap();
    world.history(a, &room("r"), crate::store::Span::Newest, 5);
    world.ask();
    assert!(world.store.is_idle(), "nothing of the room reaches the store");
    // Others are not held up.
    world.publish(&room("elsewhere"));
    world.join(a, &room("elsewhere"), Start::Now);
    world.ask();
    assert_eq!((world.store.appends.len(), world.store.reads.len()), (1, 1));
    world.store_answers();
    world.hub.handle_removed(&Removed { room: room("other"), is_gone: true });
    world.ask();
    assert!(world.store.is_idle());
    world.hub.handle_removed(&Removed { room: room("r"), is_gone: true });
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [2], "what was held back goes on, in order: the POST before `joined`");
    assert_eq!(world.hub.pending(), 0);
}

#[test]
fn a_room_in_use_is_not_removed() {
    let mut world = World::new(HubLimits { renew_use: 1_000, ..LIMITS });
    let a = world.open();
    let ask = |world: &mut World| {
        world.hub.handle_unused(vec![room("r")]);
        requests(world)
    };
    // A read or an append is under way.
    world.history(a, &room("r"), crate::store::Span::Newest, 5);
    assert_eq!(ask(&mut world), []);
    world.store_answers();
    world.publish(&room("r"));
    assert_eq!(ask(&mut world), []);
    world.ask();
    assert_eq!(ask(&mut world), []);
    world.store_answers();
    // Somebody is in it, or comes in.
    world.join(a, &room("r"), Start::Now);
    assert_eq!(ask(&mut world), [StoreRequest::Use(room("r"))]);
    world.store_answers();
    assert_eq!(ask(&mut world), [StoreRequest::Use(room("r"))]);
    // The store is told by itself, too.
    assert_eq!(requests(&mut world), []);
    world.pass(1_000);
    assert_eq!(requests(&mut world), [StoreRequest::Use(room("r"))]);
    world.leave(a, &room("r")).unwrap();
    world.pass(1_000);
    assert_eq!(requests(&mut world), []);
    assert_eq!(ask(&mut world), [StoreRequest::Remove(room("r"))]);
}

/// The first message takes with it what the members were told, whatever the store has removed meanwhile.
#[test]
fn members_of_a_new_room_and_its_row_agree() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    world.ask();
    arrive_as(&mut world, 3);
    assert_eq!(epochs(&mut world, a), ["k3f9.3"]);
    world.join(b, &room("r"), Start::Now);
    assert_eq!(epochs(&mut world, b), ["k3f9.3"], "told by memory");
    world.send(a, &room("r")).unwrap();
    world.publish(&room("r"));
    world.publish(&room("nobody-is-here"));
    world.ask();
    let eras: Vec<Option<Era>> = world.store.appends.iter().map(|append| append.era).collect();
    assert_eq!(eras, [Some(Era(3)), Some(Era(3)), None]);
}

/// A POST makes the row while somebody joins: the join waits until it is known what the row says.
#[test]
fn a_join_waits_for_the_first_message_that_is_under_way() {
    for fate in [Fate::Fine, Fate::Fails] {
        let mut world = World::new(LIMITS);
        let a = world.open();
        world.publish(&room("r"));
        world.ask();
        world.join(a, &room("r"), Start::Now);
        world.ask();
        arrive_as(&mut world, 7);
        assert_eq!(epochs(&mut world, a), [""; 0], "another room may be removed before the message is stored");
        world.decide(fate);
        let mut appended = world.store.decided.pop_front().unwrap();
        appended.era = appended.era.map(|_| Era(8));
        world.answer(StoreEvent::Appended(vec![appended]));
        let told = if fate == Fate::Fine { "k3f9.8" } else { "k3f9.7" };
        assert_eq!(epochs(&mut world, a), [told]);
    }
}

/// A POST that comes while a join waits for another one may make the row, if that one fails.
#[test]
fn a_message_takes_with_it_what_those_who_wait_will_be_told() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.publish(&room("r"));
    world.ask();
    world.join(a, &room("r"), Start::Now);
    world.ask();
    arrive_as(&mut world, 7);
    world.publish(&room("r"));
    world.ask();
    assert_eq!(world.store.appends[1].era, Some(Era(7)));
    world.decide(Fate::Fails);
    let refused = world.store.decided.pop_front().unwrap();
    world.answer(StoreEvent::Appended(vec![refused]));
    assert_eq!(epochs(&mut world, a), ["k3f9.7"]);
}

/// A repeat shows which room it is; the page that was read before it was stored does not.
#[test]
fn a_page_older_than_a_message_does_not_say_which_room_it_is() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.join(a, &room("r"), Start::Now);
    world.ask();
    let read = world.store.reads.remove(0);
    let page = Page { era: Era(7), ..world.store.log.read(&read) };
    world.publish_key(&room("r"), "1", "k");
    world.ask();
    world.decide(Fate::Unsure);
    world.store_answers();
    world.publish_key(&room("r"), "1", "k");
    world.ask();
    world.decide(Fate::Fine);
    let mut repeat = world.store.decided.pop_front().unwrap();
    repeat.era = Some(Era(8));
    world.answer(StoreEvent::Appended(vec![repeat]));
    world.answer(StoreEvent::Page(page));
    assert_eq!(epochs(&mut world, a), ["k3f9.8"]);
}

/// However many rooms have members, a turn tells the store of a few.
#[test]
fn the_use_of_many_rooms_is_told_a_little_at_a_time() {
    let mut world = World::new(HubLimits { renew_use: 60_000, rooms_per_session: 2_000, ..LIMITS });
    let a = world.open();
    let names: Vec<_> = (0..1_200).map(|n| room(&format!("r{n}"))).collect();
    for name in &names {
        world.publish(name);
        world.join(a, name, Start::Now);
        world.ask();
        world.store_answers();
    }
    requests(&mut world);
    world.pass(60_000);
    let mut told = Vec::new();
    for _ in 0..3 {
        let some = requests(&mut world);
        assert!(some.len() <= 500, "{}", some.len());
        told.extend(some);
        world.pass(100);
    }
    let is_told = |name: &RoomId| told.contains(&StoreRequest::Use(name.clone()));
    assert!(told.len() == names.len() && names.iter().all(is_told), "each once");
    world.pass(59_000);
    assert_eq!(requests(&mut world), []);
    world.pass(1_000);
    assert_eq!(requests(&mut world).len(), 500);
}

/// A cursor of an earlier room of this name, or of a later one, is another log's.
#[test]
fn a_cursor_counts_in_its_own_era_alone() {
    for (named, recovered) in [("k3f9.2", true), ("k3f9.1", false), ("k3f9", false), ("k3f9.20", false), ("x.2", false)]
    {
        let mut world = World::new(LIMITS);
        let a = world.open();
        for _ in 0..3 {
            world.publish(&room("r"));
        }
        world.settle();
        world.join(a, &room("r"), Start::After { seq: crate::types::Seq(2), epoch: Some(named.into()) });
        world.ask();
        arrive_as(&mut world, 2);
        // The world's own judge knows one epoch.
        let heard = world.heard(a);
        let joined = heard.iter().find_map(|heard| match heard {
            Heard::Joined { from, recovered, epoch, .. } => Some((epoch.as_str(), *from, *recovered)),
            _ => None,
        });
        assert_eq!(joined, Some(("k3f9.2", if recovered { 3 } else { 1 }, recovered)), "{named}");
    }
}
