//! Joining and leaving: one entry per room, however many clients ask at once, and none when the room is empty.

use super::clients::Heard;
use super::world::{LIMITS, World, room};
use crate::hub::{HubError, HubLimits, Presence, Start};
use crate::store::{Page, ReadFailed, Span, StoreEvent, Why};
use crate::testing::Fate;
use crate::types::{Body, Era, Seq};

fn after(seq: u64) -> Start {
    Start::After { seq: Seq(seq), epoch: Some("k3f9".into()) }
}

/// The steps of two messages, from request to delivery.
const MOMENTS: [fn(&mut World); 10] = [
    |world| world.publish(&room("r")),
    |world| world.ask(),
    |world| world.decide(Fate::Fine),
    |world| world.decided(),
    |world| {
        world.end_turn();
    },
    |world| world.publish(&room("r")),
    |world| world.ask(),
    |world| world.decide(Fate::Fine),
    |world| world.decided(),
    |world| {
        world.end_turn();
    },
];

/// Returns the answer to a join: head, from, recovered.
fn joined(heard: &[Heard]) -> Option<(u64, u64, bool)> {
    heard.iter().find_map(|h| match h {
        Heard::Joined { head, from, recovered, .. } => Some((*head, *from, *recovered)),
        _ => None,
    })
}

/// Makes a world with a room that has `messages` messages in its log, and no members.
fn with_log(limits: HubLimits, messages: u64) -> World {
    let mut world = World::new(limits);
    for _ in 0..messages {
        world.publish(&room("r"));
    }
    world.store_answers();
    world
}

#[test]
fn two_requests_for_one_room_id_make_one_entry() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    world.settle();
    world.join(b, &room("r"), Start::Now);
    world.settle();
    assert_eq!(world.hub.room_count(), 1);
    assert_eq!(world.hub.roster(&room("r")).0, 2);
    world.send(a, &room("r")).unwrap();
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [1]);
    assert_eq!(world.seqs(b, &room("r")), [1]);
}

/// Each request brings a copy of the room's id, which an idle member must not keep.
#[test]
fn members_of_a_room_share_its_id() {
    let mut world = World::new(LIMITS);
    let all = [world.open(), world.open(), world.open()];
    for who in &all {
        world.join(*who, &room("r"), Start::Now);
        world.settle();
    }
    let places = all.map(|who| {
        let session = world.hub.session(who.slot).expect("it is here");
        session.rooms().map(|room| room.as_str().as_ptr()).collect::<Vec<_>>()
    });
    assert_eq!((places[0].len(), &places[0], &places[0]), (1, &places[1], &places[2]));
}

#[test]
fn two_concurrent_requests_for_one_room_id_make_one_entry() {
    let mut world = with_log(LIMITS, 3);
    let all: Vec<_> = (0..50).map(|_| world.open()).collect();
    for who in &all {
        world.join(*who, &room("r"), Start::Last(2));
        // The store's answer is pending all the while.
        assert_eq!(world.hub.room_count(), 1);
    }
    world.end_turn();
    assert_eq!(world.hub.roster(&room("r")).0, 50);
    for who in &all {
        assert!(world.hub.is_member(who.slot, &room("r")));
        assert_eq!(world.heard(*who), []);
    }
    world.settle();
    for who in &all {
        assert_eq!(joined(&world.heard(*who)), Some((3, 2, true)));
        assert_eq!(world.seqs(*who, &room("r")), [2, 3]);
    }
    world.judge_at_rest();
}

#[test]
fn a_second_join_is_refused_even_while_the_first_is_pending() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.join(a, &room("r"), Start::Now);
    assert_eq!(world.try_join(a, &room("r"), Start::Now, Presence::Off), Err(HubError::AlreadyJoined));
    world.settle();
    assert_eq!(world.try_join(a, &room("r"), Start::Last(1), Presence::Off), Err(HubError::AlreadyJoined));
    assert_eq!(world.hub.roster(&room("r")).0, 1);
}

#[test]
fn a_session_joins_at_most_rooms_per_session_rooms() {
    let mut world = World::new(HubLimits { rooms_per_session: 2, ..LIMITS });
    let a = world.open();
    world.join(a, &room("r1"), Start::Now);
    world.join(a, &room("r2"), Start::Now);
    let refused = world.try_join(a, &room("r3"), Start::Now, Presence::Off);
    assert_eq!(refused, Err(HubError::TooManyRooms { limit: 2 }));
    assert_eq!(world.hub.room_count(), 2, "a refused join makes no room");
    world.leave(a, &room("r1")).unwrap();
    world.join(a, &room("r3"), Start::Now);
    world.settle();
}

#[test]
fn an_empty_room_leaves_the_map() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    world.join(b, &room("r"), Start::Now);
    world.settle();
    world.leave(a, &room("r")).unwrap();
    assert_eq!(world.hub.room_count(), 1);
    world.gone(b);
    assert_eq!(world.hub.room_count(), 0);
    world.settle();
    assert_eq!(world.leave(a, &room("r")), Err(HubError::NotJoined));
    assert_eq!(world.send(a, &room("r")), Err(HubError::NotJoined));
    assert_eq!(world.signal(a, &room("r")), Err(HubError::NotJoined));
    assert_eq!(world.hub.session_count(), 1);
}

#[test]
fn a_late_leave_of_one_member_leaves_the_room_of_another_alone() {
    // A leaves and B joins in the same turn, in both orders; then A's socket ends.
    for b_first in [false, true] {
        let mut world = World::new(LIMITS);
        let (a, b, c) = (world.open(), world.open(), world.open());
        world.join(a, &room("r"), Start::Now);
        world.settle();
        if b_first {
            world.join_with(b, &room("r"), Start::Now, Presence::Full);
            world.leave(a, &room("r")).unwrap();
        } else {
            world.leave(a, &room("r")).unwrap();
            world.join_with(b, &room("r"), Start::Now, Presence::Full);
        }
        world.end_turn();
        assert_eq!(world.leave(a, &room("r")), Err(HubError::NotJoined));
        world.gone(a);
        world.settle();
        world.join_with(c, &room("r"), Start::Now, Presence::Full);
        world.settle();
        assert_eq!((world.hub.room_count(), world.hub.roster(&room("r")).0), (1, 2));
        world.send(b, &room("r")).unwrap();
        world.send(c, &room("r")).unwrap();
        world.settle();
        assert_eq!(world.seqs(b, &room("r")), [1, 2]);
        assert_eq!(world.seqs(c, &room("r")), [1, 2]);
        world.judge_at_rest();
    }
}

#[test]
fn a_room_recreated_within_a_turn_hears_nothing_of_the_old_one() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    world.settle();
    world.send(a, &room("r")).unwrap();
    world.ask();
    world.decide(Fate::Fine);
    world.decided();
    world.signal(a, &room("r")).unwrap();
    world.leave(a, &room("r")).unwrap();
    world.join(b, &room("r"), Start::Now);
    world.settle();
    assert_eq!(joined(&world.heard(b)), Some((1, 2, true)));
    assert_eq!(world.heard(b).len(), 1);
}

#[test]
fn join_from_now_on_needs_no_page_if_the_head_is_known() {
    let mut world = with_log(LIMITS, 7);
    let (a, b, c) = (world.open(), world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    assert_eq!(world.heard(a), []);
    world.settle();
    assert_eq!(joined(&world.heard(a)), Some((7, 8, true)));
    world.join(b, &room("r"), Start::Now);
    world.join(c, &room("r"), after(7));
    world.ask();
    assert!(world.store.is_idle(), "nothing to read");
    assert_eq!(joined(&world.heard(b)), Some((7, 8, true)));
    assert_eq!(joined(&world.heard(c)), Some((7, 8, true)));
}

#[test]
fn join_with_the_newest_n_messages() {
    // Bodies are one byte here; an entry takes about 150: one, two, or all of them fit a page.
    for page_bytes in [1, 320, 60_000] {
        for page_messages in [1, 3, 500] {
            for (n, from) in [(0, 11), (1, 10), (4, 7), (10, 1), (11, 1), (u32::MAX, 1)] {
                let mut world = with_log(HubLimits { page_bytes, page_messages, ..LIMITS }, 10);
                let a = world.open();
                world.join(a, &room("r"), Start::Last(n));
                world.settle();
                assert_eq!(joined(&world.heard(a)), Some((10, from, true)));
                assert_eq!(world.seqs(a, &room("r")), (from..=10).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn join_with_the_newest_n_messages_of_a_pruned_log_begins_at_its_oldest() {
    let mut world = with_log(LIMITS, 10);
    world.store.log.prune(&room("r"), 8);
    for (n, from) in [(2, 9), (3, 8), (4, 8), (50, 8)] {
        let a = world.open();
        world.join(a, &room("r"), Start::Last(n));
        world.settle();
        assert_eq!(joined(&world.heard(a)), Some((10, from, true)));
        assert_eq!(world.seqs(a, &room("r")), (from..=10).collect::<Vec<_>>());
        assert!(!world.heard(a).iter().any(|h| matches!(h, Heard::Gap { .. })));
    }
}

#[test]
fn join_after_a_cursor() {
    struct Case {
        seq: u64,
        epoch: Option<&'static str>,
        oldest: u64,
        expect: (u64, u64, bool),
    }
    let ours = Some("k3f9");
    let cases = [
        Case { seq: 4, epoch: ours, oldest: 1, expect: (10, 5, true) },
        Case { seq: 4, epoch: None, oldest: 1, expect: (10, 5, true) },
        Case { seq: 0, epoch: ours, oldest: 1, expect: (10, 1, true) },
        Case { seq: 10, epoch: ours, oldest: 1, expect: (10, 11, true) },
        // Beyond the head.
        Case { seq: 11, epoch: ours, oldest: 1, expect: (10, 11, false) },
        Case { seq: u64::MAX, epoch: ours, oldest: 1, expect: (10, 11, false) },
        // Of another log.
        Case { seq: 4, epoch: Some("old"), oldest: 1, expect: (10, 1, false) },
        Case { seq: 10, epoch: Some("old"), oldest: 6, expect: (10, 6, false) },
        // Pruned.
        Case { seq: 4, epoch: ours, oldest: 6, expect: (10, 6, false) },
        Case { seq: 5, epoch: ours, oldest: 6, expect: (10, 6, true) },
        Case { seq: 7, epoch: ours, oldest: 6, expect: (10, 8, true) },
        Case { seq: 4, epoch: ours, oldest: 11, expect: (10, 11, false) },
        Case { seq: 10, epoch: ours, oldest: 11, expect: (10, 11, true) },
    ];
    for Case { seq, epoch, oldest, expect } in cases {
        for somebody_is_there in [false, true] {
            let mut world = with_log(LIMITS, 10);
            world.store.log.prune(&room("r"), oldest);
            if somebody_is_there {
                let first = world.open();
                world.join(first, &room("r"), Start::Now);
                world.settle();
            }
            let a = world.open();
            world.join(a, &room("r"), Start::After { seq: Seq(seq), epoch: epoch.map(Into::into) });
            world.settle();
            let heard = world.heard(a);
            assert_eq!(joined(&heard), Some(expect), "after {seq} of {epoch:?}, kept from {oldest}");
            assert_eq!(world.seqs(a, &room("r")), (expect.1..=10).collect::<Vec<_>>());
            assert!(!heard.iter().any(|h| matches!(h, Heard::Gap { .. })), "`from` said it already");
            world.judge_at_rest();
        }
    }
}

#[test]
fn join_of_an_empty_room_has_a_cursor() {
    for start in [Start::Now, Start::Last(5), after(0)] {
        let mut world = World::new(LIMITS);
        let a = world.open();
        world.join(a, &room("r"), start);
        world.settle();
        assert_eq!(joined(&world.heard(a)), Some((0, 1, true)));
        assert_eq!(world.hub.heads(a.slot).collect::<Vec<_>>(), [(&room("r"), Seq(0))]);
    }
}

#[test]
fn a_join_at_any_moment_around_a_commit_misses_nothing() {
    // The join, the read of its page and the page's arrival each take place before every step of two messages, in a
    // room with a member and in an empty one.
    let starts = [Start::Now, Start::Last(2), Start::Last(50), after(1), after(3)];
    let count = MOMENTS.len();
    let times = (0..=count).flat_map(|join| (join..=count).map(move |read| (join, read)));
    let times = times.flat_map(|(join, read)| (read..=count).map(move |arrive| (join, read, arrive)));
    for (join, read, arrive) in times {
        for (start, somebody_is_there) in starts.iter().flat_map(|start| [(start, false), (start, true)]) {
            let mut world = with_log(LIMITS, 3);
            let (first, joiner) = (world.open(), world.open());
            if somebody_is_there {
                world.join(first, &room("r"), Start::Now);
                world.settle();
            }
            for moment in 0..=count {
                if moment == join {
                    world.join(joiner, &room("r"), start.clone());
                    world.ask();
                }
                if moment == read {
                    world.read(0);
                }
                if moment == arrive {
                    world.arrive(0);
                }
                if let Some(pass) = MOMENTS.get(moment) {
                    pass(&mut world);
                }
            }
            // The client's judge knows which messages must follow `joined`, and knows all of them at rest.
            world.settle();
            world.judge_at_rest();
            if somebody_is_there {
                assert_eq!(world.seqs(first, &room("r")), [4, 5]);
            }
        }
    }
}

#[test]
fn a_message_sent_before_joined_is_acknowledged_after_it_and_delivered() {
    // A client that does not wait for `joined`; its send could be committed before the head is read.
    for start in [Start::Now, Start::Last(1), after(2)] {
        let mut world = with_log(LIMITS, 2);
        let a = world.open();
        world.join(a, &room("r"), start);
        let id = world.send(a, &room("r")).unwrap();
        world.settle();
        let heard = world.heard(a);
        let place = |wanted: &dyn Fn(&Heard) -> bool| heard.iter().position(wanted).expect("heard");
        let joined = place(&|h| matches!(h, Heard::Joined { .. }));
        let ack = place(&|h| matches!(h, Heard::Ack { id: Some(i), seq: 3, .. } if *i == id));
        let message = place(&|h| matches!(h, Heard::Message(m) if m.seq == Seq(3)));
        assert!(joined < ack && ack < message, "{heard:?}");
        world.judge_at_rest();
    }
}

#[test]
fn messages_sent_before_joined_are_stored_even_if_the_member_leaves() {
    for ends in [0, 1, 2] {
        let mut world = World::new(LIMITS);
        let (a, b) = (world.open(), world.open());
        world.join(a, &room("r"), Start::Now);
        world.send(a, &room("r")).unwrap();
        match ends {
            0 => world.leave(a, &room("r")).unwrap(),
            1 => world.gone(a),
            _ => {
                world.ask();
                world.store.read(0, false);
                world.arrive(0);
            }
        }
        assert_eq!(world.hub.room_count(), 0);
        world.settle();
        world.judge_at_rest();
        world.join(b, &room("r"), Start::Last(5));
        world.settle();
        assert_eq!(world.seqs(b, &room("r")), [1]);
    }
}

#[test]
fn a_join_that_is_left_before_it_completes_is_answered() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    let join = world.try_join(a, &room("r"), Start::Now, Presence::Full).unwrap();
    world.leave(a, &room("r")).unwrap();
    world.settle();
    let heard = world.heard(a);
    assert_eq!(heard[0], Heard::Refused { id: Some(join), error: HubError::NotJoined });
    assert!(matches!(heard[1], Heard::Left { .. }) && heard.len() == 2, "{heard:?}");
}

#[test]
fn a_join_is_refused_if_the_log_cannot_be_read() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    let id = world.try_join(a, &room("r"), Start::Last(5), Presence::Full).unwrap();
    world.ask();
    world.store.read(0, false);
    world.arrive(0);
    assert_eq!(world.heard(a), [Heard::Refused { id: Some(id), error: HubError::StorageUnavailable }]);
    assert_eq!(world.hub.room_count(), 0);
    assert!(!world.hub.is_member(a.slot, &room("r")));
    world.end_turn();
    assert_eq!(world.hub.deadline(), None);
    // The next client is not affected.
    world.join(b, &room("r"), Start::Last(5));
    world.join(a, &room("r"), Start::Now);
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_late_page_for_a_visit_that_ended_is_ignored() {
    let mut world = with_log(LIMITS, 3);
    let a = world.open();
    world.join(a, &room("r"), after(0));
    world.ask();
    world.leave(a, &room("r")).unwrap();
    world.read(0);
    // A second stay, from now on: it must not receive the page of the first.
    world.join(a, &room("r"), Start::Now);
    world.news(a);
    world.arrive(0);
    assert_eq!(world.news(a), []);
    world.settle();
    assert_eq!(joined(&world.news(a)), Some((3, 4, true)));
    assert_eq!(world.seqs(a, &room("r")), [0u64; 0]);
}

#[test]
fn a_late_page_for_a_slot_that_another_session_has_is_ignored() {
    let mut world = with_log(LIMITS, 3);
    let a = world.open_in(1, 0);
    world.join(a, &room("r"), after(0));
    world.ask();
    world.read(0);
    world.gone(a);
    let b = world.open_in(1, 1);
    assert_eq!(a.slot.index, b.slot.index, "the same place in the hub");
    world.join(b, &room("r"), Start::Now);
    world.arrive(0);
    assert_eq!(world.heard(b), []);
    world.settle();
    assert_eq!(world.heard(b).len(), 1);
    assert_eq!(joined(&world.heard(b)), Some((3, 4, true)));
}

#[test]
fn a_late_failure_for_a_visit_that_ended_is_ignored() {
    let mut world = World::new(LIMITS);
    let a = world.open();
    world.join(a, &room("r"), Start::Now);
    world.ask();
    world.store.read(0, false);
    world.leave(a, &room("r")).unwrap();
    world.join(a, &room("r"), Start::Now);
    world.news(a);
    world.arrive(0);
    assert_eq!(world.news(a), []);
    assert!(world.hub.is_member(a.slot, &room("r")));
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_page_requested_before_the_room_existed_does_not_set_its_head() {
    // A GET reads the log at 1; then 2 is committed; then the room is opened. If 1 were taken for the head, a client
    // that resumes after 1 would be live without having received 2.
    let mut world = with_log(LIMITS, 1);
    let ticket = crate::store::Ticket::new(
        crate::types::ConnId { index: 77, generation: 0 },
        crate::store::Purpose::Browse,
        crate::store::NO_ID,
    );
    world.hub.handle_read(ticket, room("r"), Span::Newest, 10);
    world.ask();
    world.read(0);
    world.publish(&room("r"));
    world.ask();
    world.decide(Fate::Fine);
    world.decided();
    let (a, b) = (world.open(), world.open());
    world.join(b, &room("r"), Start::Now);
    world.arrive(0);
    world.join(a, &room("r"), after(1));
    world.settle();
    assert_eq!(joined(&world.heard(b)), Some((2, 3, true)));
    assert_eq!(world.seqs(a, &room("r")), [2]);
}

#[test]
fn unrequested_answers_change_nothing() {
    let mut world = with_log(LIMITS, 2);
    let a = world.open();
    world.join(a, &room("r"), Start::Now);
    world.settle();
    let before = world.heard(a);
    let ticket = crate::store::Ticket::new(a.conn(), crate::store::Purpose::Deliver, u64::MAX);
    let nowhere = room("nowhere");
    let page = Page {
        ticket,
        room: nowhere.clone(),
        span: Span::After(Seq(0)),
        messages: Vec::new(),
        oldest: Seq(900),
        head: Seq(899),
        more: false,
        era: Era::FIRST,
    };
    world.answer(StoreEvent::Page(Page { room: room("r"), ..page.clone() }));
    world.answer(StoreEvent::Page(page));
    world.answer(StoreEvent::ReadFailed(ReadFailed { ticket, room: nowhere, why: Why::Unknown }));
    world.settle();
    assert_eq!(world.heard(a), before);
    world.publish_body(&room("r"), Body::checked("3".into()));
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [3]);
}

#[test]
fn a_message_sent_before_a_rejoin_is_acknowledged_before_its_page_shows_it() {
    // The room's read is requested before the append, carried out after its commit, and answered before the append is.
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(b, &room("r"), Start::Now);
    world.join(a, &room("r"), Start::Now);
    world.ask();
    world.send(a, &room("r")).unwrap();
    world.leave(a, &room("r")).unwrap();
    world.join(a, &room("r"), after(0));
    world.ask();
    world.decide(Fate::Fine);
    // The reads of the room's bounds, and of the messages after A's cursor.
    for _ in 0..2 {
        world.read(0);
        world.arrive(0);
        world.ask();
    }
    assert_eq!(world.seqs(a, &room("r")), [0u64; 0], "its ack is still on the way");
    world.end_turn();
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [1]);
    world.judge_at_rest();
}

#[test]
fn a_page_waits_only_for_appends_submitted_before_it() {
    // A stranger whose pending sends reveal nothing about the head must not keep others out.
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(b, &room("r"), Start::Now);
    world.ask();
    let say = |world: &mut World| {
        world.join(a, &room("r"), Start::Now);
        world.send(a, &room("r")).unwrap();
        world.leave(a, &room("r")).unwrap();
        world.ask();
    };
    say(&mut world);
    world.read(0);
    world.arrive(0);
    assert_eq!(joined(&world.news(b)), None, "the page may show what has no answer yet");
    say(&mut world);
    world.decide(Fate::Fails);
    world.decided();
    assert_eq!(joined(&world.news(b)), Some((0, 1, true)));
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_duplicate_moves_the_head_of_a_room_whose_first_page_is_pending() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), after(0));
    world.ask();
    world.read(0);
    let stored = |world: &mut World, fate| {
        world.publish_key(&room("r"), "1", "key");
        world.ask();
        world.decide(fate);
        world.decided();
    };
    stored(&mut world, Fate::Unsure);
    stored(&mut world, Fate::Fine);
    world.arrive(0);
    world.join(b, &room("r"), Start::Now);
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [1], "it is acknowledged");
    assert_eq!(joined(&world.heard(b)), Some((1, 2, true)));
    world.judge_at_rest();
}
