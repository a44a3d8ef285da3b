//! Dropped connections and resumes: the events that others receive, the client's own, and the sessions that the store
//! must keep.

use super::clients::Heard;
use super::world::{LIMITS, Lost, Who, World, name, room};
use crate::access::Denied;
use crate::hub::{HubError, HubLimits, Presence, PresenceKind, Start};
use crate::types::{ConnId, MemberId, Right, Seq, SessionClaim, SessionId};

fn join(world: &mut World) -> Who {
    let who = world.open();
    world.join_with(who, &room("r"), Start::Now, Presence::Full);
    world.settle_turn();
    who
}

fn say(world: &mut World, messages: usize) {
    for _ in 0..messages {
        world.publish(&room("r"));
    }
    world.settle_turn();
}

/// Returns the presence events among the items received.
fn events(heard: &[Heard]) -> Vec<PresenceKind> {
    let of = |h: &Heard| match h {
        Heard::Presence { events, .. } => events.iter().map(|e| e.kind).collect(),
        _ => Vec::new(),
    };
    heard.iter().flat_map(of).collect()
}

#[test]
fn a_short_drop_is_not_shown_and_nothing_is_missed() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let b = join(&mut world);
    say(&mut world, 3);
    world.news(a);
    let lost = world.drop(b, 2);
    say(&mut world, 2);
    world.pass(1999);
    let b = world.resume(&lost).unwrap();
    world.settle_turn();
    assert_eq!(world.seqs(b, &room("r")), [2, 3, 4, 5], "also what was queued and not received");
    assert_eq!(events(&world.news(a)), []);
    assert_eq!(world.hub.roster(&room("r")).0, 2);
    world.pass(60_000);
    world.settle();
    assert_eq!(events(&world.news(a)), [], "the old deadlines are gone");
    world.judge_at_rest();
}

#[test]
fn a_longer_drop_is_shown_as_away_and_back_and_never_as_a_leave() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let mut b = join(&mut world);
    world.news(a);
    for _ in 0..5 {
        let lost = world.drop(b, 0);
        world.pass(4000);
        world.settle_turn();
        let roster = world.hub.roster(&room("r")).1;
        assert!(roster.iter().any(|present| present.member == b.member && present.away));
        b = world.resume(&lost).unwrap();
        world.settle_turn();
        assert_eq!(events(&world.news(a)), [PresenceKind::Away, PresenceKind::Back]);
    }
    world.judge_at_rest();
}

#[test]
fn a_member_that_does_not_come_back_leaves_and_is_parked() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let b = join(&mut world);
    say(&mut world, 2);
    world.news(a);
    let lost = world.drop(b, 1);
    world.pass(LIMITS.resume_within);
    world.settle_turn();
    assert_eq!(events(&world.news(a)), [PresenceKind::Away, PresenceKind::Leave]);
    assert_eq!(world.hub.session_count(), 1);
    let parked = &world.parked[&lost.identity.session];
    assert_eq!(parked.rooms, [(room("r"), Seq(2))]);
    say(&mut world, 1);
    // It resumes with its own cursor; messages that it did not receive are read again.
    let b = world.resume(&lost).unwrap();
    world.settle_turn();
    assert_eq!(world.seqs(b, &room("r")), [2, 3]);
    assert_eq!(events(&world.news(a)), [PresenceKind::Join]);
    assert!(world.parked.is_empty());
    world.judge_at_rest();
}

/// What a session may do is what it may when it comes back, whatever it could before.
#[test]
fn a_session_comes_back_with_the_rights_of_now() {
    let denied = |right| HubError::Denied(Denied::Unauthorized(right));
    for away in [0, 4000, LIMITS.resume_within] {
        let mut world = World::new(LIMITS);
        let b = join(&mut world);
        assert!(world.send(b, &room("r")).is_ok());
        world.settle_turn();
        let lost = world.drop(b, 0);
        world.pass(away);
        world.settle_turn();
        world.right = Some(Right::Read);
        let b = world.resume(&lost).unwrap();
        world.settle_turn();
        assert_eq!(world.send(b, &room("r")), Err(denied(Right::Send)), "after {away}");
        let lost = world.drop(b, 0);
        world.right = None;
        let b = world.resume(&lost).unwrap();
        world.settle_turn();
        assert_eq!(world.send(b, &room("r")), Err(HubError::NotJoined));
        assert_eq!(world.hub.room_count(), 0, "it is taken out");
        assert_eq!(world.try_join(b, &room("r"), Start::Now, Presence::Full), Err(denied(Right::Read)));
    }
}

#[test]
fn a_client_that_lost_its_own_state_gets_its_rooms_back() {
    for parked in [false, true] {
        let mut world = World::new(LIMITS);
        let b = join(&mut world);
        world.join_with(b, &room("s"), Start::Now, Presence::Off);
        say(&mut world, 2);
        let lost = world.drop(b, 1);
        if parked {
            world.pass(LIMITS.resume_within);
            world.settle_turn();
            assert_eq!(world.hub.room_count(), 0);
        }
        say(&mut world, 1);
        let b = world.resume_in(&lost, 77, 0, 0).unwrap();
        world.settle_turn();
        assert_eq!(world.seqs(b, &room("r")), [3], "from the last that was queued to it");
        assert!(world.hub.is_member(b.slot, &room("s")));
    }
}

#[test]
fn a_name_that_came_with_the_join_is_kept_though_its_client_did_not_hear_so() {
    for parked in [false, true] {
        let mut world = World::new(LIMITS);
        let b = world.open();
        let before = world.hub.session(b.slot).unwrap().name.clone();
        assert!(world.hub.handle_name(b.slot, name("bob")));
        world.join_with(b, &room("r"), Start::Now, Presence::Full);
        world.settle_turn();
        let mut lost = world.drop(b, 0);
        // Its token was made when it was a guest.
        lost.identity.name = before;
        if parked {
            world.pass(LIMITS.resume_within);
            world.settle_turn();
        }
        let b = world.resume_in(&lost, 77, 0, 0).unwrap();
        assert_eq!(world.hub.session(b.slot).unwrap().name, name("bob"), "parked: {parked}");
        assert!(world.hub.is_member(b.slot, &room("r")));
    }
}

#[test]
fn a_resume_takes_over_from_a_socket_that_looks_alive_three_times_in_a_row() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let mut b = join(&mut world);
    world.news(a);
    for round in 0..3 {
        say(&mut world, 1);
        let lost = world.lost(b, 1);
        b = world.resume(&lost).unwrap();
        world.settle_turn();
        assert_eq!(world.seqs(b, &room("r")).last(), Some(&(round + 1)));
    }
    assert_eq!(events(&world.news(a)), []);
    assert_eq!(world.hub.session_count(), 2);
    world.judge_at_rest();
}

#[test]
fn an_older_token_is_refused_once_a_later_one_was_presented() {
    let mut world = World::new(LIMITS);
    let b = join(&mut world);
    let first = world.drop(b, 0);
    // The answer with the next token is lost, twice: the same token is valid again.
    for _ in 0..2 {
        let b = world.resume(&first).unwrap();
        world.drop(b, 0);
    }
    let b = world.resume(&first).unwrap();
    let second = world.drop(b, 0);
    let b = world.resume(&second).unwrap();
    assert_eq!(world.resume(&first), Err(HubError::NotResumable));
    assert!(world.hub.is_member(b.slot, &room("r")), "whoever presented the highest has it");
    // Nor when it is parked.
    world.drop(b, 0);
    world.pass(LIMITS.resume_within);
    world.settle_turn();
    assert_eq!(world.resume(&first), Err(HubError::NotResumable));
    assert_eq!(world.parked.len(), 1, "and it stays parked");
    world.resume(&second).unwrap();
}

#[test]
fn a_room_stays_while_a_member_may_come_back() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let b = join(&mut world);
    let lost = world.drop(a, 0);
    world.gone(b);
    assert_eq!(world.hub.room_count(), 1);
    say(&mut world, 1);
    let a = world.resume(&lost).unwrap();
    world.settle_turn();
    assert_eq!(world.seqs(a, &room("r")), [1]);
    world.gone(a);
    assert_eq!((world.hub.room_count(), world.hub.session_count()), (0, 0), "who leaves for good is not waited for");
}

#[test]
fn past_detached_max_the_longest_waiting_session_is_parked() {
    let mut world = World::new(HubLimits { detached_max: 2, ..LIMITS });
    let first = join(&mut world);
    let others = [join(&mut world), join(&mut world)];
    let lost = world.drop(first, 0);
    for (n, who) in others.into_iter().enumerate() {
        world.pass(1);
        assert!(world.hub.find_session(lost.identity.session).is_some());
        world.drop(who, 0);
        assert_eq!(world.hub.detached_count(), 2.min(n + 2));
    }
    world.settle_turn();
    assert!(world.parked.contains_key(&lost.identity.session));
}

#[test]
fn a_client_that_joined_nothing_or_waits_for_its_first_joined_leaves_nothing() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.drop(a, 0);
    let b = world.open();
    world.join(b, &room("r"), Start::Last(5));
    world.send(b, &room("r")).unwrap();
    world.drop(b, 0);
    assert_eq!((world.hub.session_count(), world.hub.room_count()), (0, 0));
    world.settle();
    assert_eq!(world.store.log.head(&room("r")), 1, "what it said is taken all the same");
}

#[test]
fn without_a_grace_period_a_drop_is_a_leave() {
    let mut world = World::new(HubLimits { resume_within: 0, ..LIMITS });
    let a = join(&mut world);
    world.drop(a, 0);
    assert_eq!((world.hub.session_count(), world.hub.room_count()), (0, 0));
}

#[test]
fn a_stop_parks_every_member() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let b = join(&mut world);
    let idle = world.open();
    say(&mut world, 1);
    let lost = world.drop(b, 0);
    world.hub.handle_stop();
    world.settle_turn();
    assert_eq!(world.parked.len(), 2);
    assert_eq!(world.parked[&lost.identity.session].rooms, [(room("r"), Seq(1))]);
    world.gone(a);
    world.gone(idle);
}

#[test]
fn the_end_of_a_superseded_socket_changes_nothing() {
    let mut world = World::new(LIMITS);
    let a = join(&mut world);
    let lost = world.lost(a, 0);
    let old = a.conn();
    let a = world.resume(&lost).unwrap();
    world.hub.handle_dropped(a.slot, old, world.now);
    world.hub.handle_gone(a.slot, old);
    world.hub.handle_dropped(a.slot, ConnId { index: 9, generation: 9 }, world.now);
    assert!(world.hub.is_member(a.slot, &room("r")));
    assert_eq!(world.hub.detached_count(), 0);
}

#[test]
fn a_thousand_members_back_after_a_restart_read_each_page_once() {
    let mut world = World::new(HubLimits { page_messages: 200, ..LIMITS });
    for _ in 0..700 {
        world.publish(&room("r"));
    }
    world.settle_turn();
    assert_eq!(world.hub.room_count(), 0);
    let lost = |n: u64| {
        let identity = SessionClaim {
            session: SessionId(u128::from(n).to_be_bytes()),
            member: MemberId::from_random(n),
            name: name("back"),
            generation: 1,
            private: false,
        };
        // Their cursors differ.
        let places = vec![(room("r"), Seq(200 - n % 7), Presence::Off)];
        Lost { identity, places, wishes: [(room("r"), Presence::Off)].into() }
    };
    let before = world.reads_taken;
    let back: Vec<Who> = (1 << 40..(1 << 40) + 1000).map(|n| world.resume(&lost(n)).unwrap()).collect();
    world.settle_turn();
    for who in &back {
        let seqs = world.seqs(*who, &room("r"));
        assert_eq!((seqs.len() >= 500, seqs.last()), (true, Some(&700)));
    }
    let reads = world.reads_taken - before;
    assert!(reads <= 8, "{reads} reads for a thousand members");
    world.judge_at_rest();
}

#[test]
fn a_slot_finds_nothing_once_its_session_is_over() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.join(a, &room("r"), Start::Now);
    world.settle();
    world.gone(a);
    let b = world.open();
    assert_eq!(a.slot.index, b.slot.index, "the place is used again");
    world.join(b, &room("r"), Start::Now);
    world.settle();
    assert!(world.hub.session(a.slot).is_none());
    assert!(!world.hub.is_member(a.slot, &room("r")));
    assert_eq!(world.signal(a, &room("r")), Err(HubError::NotJoined));
    assert_eq!(world.leave(a, &room("r")), Err(HubError::NotJoined));
    world.hub.handle_drained(a.slot, &mut world.clients);
    world.hub.handle_gone(a.slot, b.conn());
    assert!(world.hub.is_member(b.slot, &room("r")), "a stale slot ends nobody else's session");
    world.judge_at_rest();
}
