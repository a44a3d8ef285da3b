//! Messages that rooms keep in memory stay within one common bound.

use super::world::{LIMITS, World, room};
use crate::hub::member::Member;
use crate::hub::{HubLimits, Session, Start};
use crate::types::{Body, Seq};

const TOTAL: usize = 10_000;

/// Returns the bytes of messages that all rooms keep in memory.
fn kept(world: &World) -> usize {
    // Only a sum is computed, so the order of iteration does not matter.
    #[allow(clippy::iter_over_hash_type)]
    world.hub.rooms.values().map(|room| room.log.bytes()).sum()
}

/// A limit that was lowered holds from the next message on, also for pages that were read before.
#[test]
fn a_lower_limit_holds_for_pages_read_before() {
    let mut world = World::new(HubLimits { tail_bytes: 4_000, page_messages: 3, ..LIMITS });
    let (early, late) = (world.open(), world.open());
    world.join(early, &room("r"), Start::Now);
    let say = |world: &mut World| {
        world.publish_body(&room("r"), Body::checked(format!("\"{:0>800}\"", 0).into()));
        world.settle();
    };
    for _ in 0..30 {
        say(&mut world);
    }
    world.join(late, &room("r"), Start::After { seq: Seq(0), epoch: None });
    world.settle();
    let read = |world: &World| world.hub.rooms[&room("r")].log.past.bytes();
    assert!(read(&world) > 2_000, "{} bytes of pages", read(&world));
    world.hub.set_limits(HubLimits { tail_bytes: 2_000, ..LIMITS });
    say(&mut world);
    assert!(read(&world) <= 2_000, "{} bytes of pages", read(&world));
    world.judge_at_rest();
}

/// The memory for each member and each session must grow only on purpose, since there may be many of them.
#[test]
fn a_member_and_a_session_stay_small() {
    assert!(size_of::<Member>() <= 48, "{} bytes", size_of::<Member>());
    assert!(size_of::<Session>() <= 112, "{} bytes", size_of::<Session>());
}

#[test]
fn all_rooms_together_keep_at_most_tail_bytes_total() {
    let mut world = World::new(HubLimits { tail_bytes: 4_000, tail_bytes_total: TOTAL, ..LIMITS });
    let rooms: Vec<_> = (0..8).map(|n| room(&format!("r{n}"))).collect();
    let who = world.open();
    for room in &rooms {
        world.join(who, room, Start::Now);
    }
    world.settle();
    for round in 0..6 {
        for room in &rooms {
            world.publish_body(room, Body::checked(format!("\"{round}{:0>800}\"", 0).into()));
            world.settle_turn();
            assert!(kept(&world) <= TOTAL, "{} bytes after what was said", kept(&world));
        }
    }
    assert!(kept(&world) > TOTAL / 2, "it is used, too");
    // Also for messages read from the log, for a client that joins late.
    let late = world.open();
    for room in &rooms {
        world.join(late, room, Start::After { seq: Seq(0), epoch: None });
        world.settle_turn();
        assert!(kept(&world) <= TOTAL, "{} bytes after a page", kept(&world));
    }
    world.settle();
    world.judge_at_rest();
}
