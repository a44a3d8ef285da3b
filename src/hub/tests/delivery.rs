//! Every message reaches everyone once, in one order, encoded once.

use super::clients::{Encoded, Heard};
use super::world::{LIMITS, Who, World, room};
use crate::hub::{HubError, HubLimits, Presence, Start};
use crate::store::{Outcome, Span, StoreEvent};
use crate::testing::Fate;
use crate::types::{Body, Seq};

fn members(world: &mut World, count: usize) -> Vec<Who> {
    let all: Vec<Who> = (0..count).map(|_| world.open()).collect();
    for who in &all {
        world.join(*who, &room("r"), Start::Now);
    }
    world.settle();
    all
}

#[test]
fn the_ack_comes_before_the_message_at_its_sender_and_nowhere_else() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 2);
    let id = world.send(all[0], &room("r")).unwrap();
    world.news(all[0]);
    world.news(all[1]);
    world.settle();
    let news = world.news(all[0]);
    assert_eq!(news[0], Heard::Ack { id: Some(id), room: room("r"), seq: 1, duplicate: false });
    assert!(matches!(&news[1], Heard::Message(m) if m.seq == Seq(1)));
    assert_eq!(news.len(), 2);
    let news = world.news(all[1]);
    assert!(matches!(&news[..], [Heard::Message(m)] if m.seq == Seq(1)));
}

#[test]
fn the_ack_comes_first_even_when_a_page_overtakes_the_commits_answer() {
    let mut world = World::new(HubLimits { page_messages: 1, ..LIMITS });
    let all = members(&mut world, 2);
    let a = all[0];
    // A lags, with two messages to read; then it sends.
    world.set_queue(a, 1);
    for _ in 0..3 {
        world.publish(&room("r"));
        world.store_answers();
        world.end_turn();
    }
    world.drain(a);
    world.send(a, &room("r")).unwrap();
    world.ask();
    world.decide(Fate::Fine);
    // The commit is done, its answer is pending. Pages already show the message.
    for _ in 0..10 {
        world.read(0);
        world.arrive(0);
        world.drain(a);
        world.ask();
        world.judge();
    }
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [1, 2, 3, 4]);
    world.judge_at_rest();
}

#[test]
fn the_ack_comes_first_in_a_recreated_room() {
    let mut world = World::new(LIMITS);
    let a = members(&mut world, 1)[0];
    world.send(a, &room("r")).unwrap();
    world.ask();
    world.leave(a, &room("r")).unwrap();
    world.join(a, &room("r"), Start::Last(5));
    world.ask();
    world.decide(Fate::Fine);
    // If the log were read before the append's answer arrives, the message would come before its ack.
    world.read(0);
    world.arrive(0);
    world.judge();
    world.settle();
    assert_eq!(world.seqs(a, &room("r")), [1]);
    world.judge_at_rest();
}

#[test]
fn a_join_waits_for_failing_appends_no_longer_than_for_others() {
    let mut world = World::new(LIMITS);
    let a = members(&mut world, 1)[0];
    world.send(a, &room("r")).unwrap();
    world.send(a, &room("r")).unwrap();
    world.ask();
    world.leave(a, &room("r")).unwrap();
    world.join(a, &room("r"), Start::Last(5));
    world.ask();
    for _ in 0..2 {
        world.decide(Fate::Fails);
        world.decided();
    }
    world.end_turn();
    world.settle();
    world.judge_at_rest();
    assert!(world.hub.appending.is_empty());
}

#[test]
fn every_member_sees_the_same_order() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 5);
    for round in 0..20 {
        world.send(all[round % 5], &room("r")).unwrap();
        world.send(all[(round * 3 + 1) % 5], &room("r")).unwrap();
        if round % 3 == 0 {
            world.store_answers();
            world.end_turn();
        }
    }
    world.settle();
    let said = |world: &mut World, who| -> Vec<String> {
        let heard = world.heard(who);
        heard
            .iter()
            .filter_map(|h| if let Heard::Message(m) = h { Some(m.body.as_str().to_owned()) } else { None })
            .collect()
    };
    let first = said(&mut world, all[0]);
    assert_eq!(first.len(), 40);
    for who in &all {
        assert_eq!(said(&mut world, *who), first);
        assert_eq!(world.seqs(*who, &room("r")), (1..=40).collect::<Vec<_>>());
    }
}

#[test]
fn a_room_is_encoded_once_a_turn_however_many_listen() {
    for count in [1, 2, 50] {
        let mut world = World::new(LIMITS);
        let all = members(&mut world, count);
        for _ in 0..5 {
            world.publish(&room("r"));
            world.signal(all[0], &room("r")).unwrap();
        }
        world.store_answers();
        world.end_turn();
        assert_eq!(world.clients.take_encoded(), [(room("r"), Encoded::Live)], "{count} members");
        world.end_turn();
        assert_eq!(world.clients.take_encoded(), [], "nothing was said");
    }
}

#[test]
fn signals_reach_everyone_but_the_sender_and_move_no_cursor() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 3);
    // In one turn with messages, before and after them.
    world.signal(all[0], &room("r")).unwrap();
    world.publish(&room("r"));
    world.store_answers();
    world.signal(all[1], &room("r")).unwrap();
    world.settle();
    let order = |world: &mut World, who| -> Vec<&'static str> {
        let heard = world.heard(who);
        let word = |h: &Heard| match h {
            Heard::Signal { .. } => Some("signal"),
            Heard::Message(_) => Some("message"),
            _ => None,
        };
        heard.iter().filter_map(word).collect()
    };
    assert_eq!(order(&mut world, all[0]), ["message", "signal"]);
    assert_eq!(order(&mut world, all[1]), ["signal", "message"]);
    assert_eq!(order(&mut world, all[2]), ["signal", "message", "signal"]);
    world.signal(all[0], &room("r")).unwrap();
    world.settle();
    for who in all {
        assert_eq!(world.hub.heads(who.slot).collect::<Vec<_>>(), [(&room("r"), Seq(1))]);
        assert_eq!(world.seqs(who, &room("r")), [1]);
    }
}

#[test]
fn signals_are_dropped_for_a_full_member_which_does_not_lag() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 2);
    world.set_queue(all[1], 2);
    for _ in 0..5 {
        world.signal(all[0], &room("r")).unwrap();
        world.end_turn();
    }
    let heard = world.heard(all[1]);
    assert_eq!(heard.iter().filter(|h| matches!(h, Heard::Signal { .. })).count(), 2);
    assert!(!heard.iter().any(|h| matches!(h, Heard::Lagging { .. })));
    world.drain(all[1]);
    world.publish(&room("r"));
    world.settle();
    assert_eq!(world.seqs(all[1], &room("r")), [1]);
}

#[test]
fn a_message_before_a_dropped_signal_is_delivered_once() {
    // The member's own signals split the turn; the first part fits, the rest does not.
    for tail in ["signal", "message"] {
        let mut world = World::new(LIMITS);
        let all = members(&mut world, 2);
        let (a, b) = (all[0], all[1]);
        world.set_queue(a, 1);
        world.publish(&room("r"));
        world.store_answers();
        world.signal(a, &room("r")).unwrap();
        match tail {
            "signal" => world.signal(b, &room("r")).unwrap(),
            _ => {
                world.publish(&room("r"));
                world.store_answers();
            }
        }
        world.end_turn();
        assert_eq!(world.seqs(a, &room("r")), [1]);
        let lags = world.heard(a).iter().any(|h| matches!(h, Heard::Lagging { .. }));
        assert_eq!(lags, tail == "message");
        world.settle();
        world.judge_at_rest();
    }
}

/// A room that was closed and created again in one turn is in the delivery queue twice; it delivers once.
#[test]
fn a_room_recreated_within_a_turn_delivers_once() {
    let mut world = World::new(HubLimits { batch_bytes: 1, ..LIMITS });
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("r"), Start::Now);
    world.settle();
    world.signal(a, &room("r")).unwrap();
    world.leave(a, &room("r")).unwrap();
    world.join(a, &room("r"), Start::Now);
    world.join(b, &room("r"), Start::Now);
    world.store_answers();
    world.signal(a, &room("r")).unwrap();
    world.signal(a, &room("r")).unwrap();
    assert!(world.end_turn(), "the second signal waits for the next turn");
    world.settle();
    assert_eq!(world.heard(b).iter().filter(|h| matches!(h, Heard::Signal { .. })).count(), 2);
}

#[test]
fn a_turn_stops_at_its_delivery_budget_and_the_next_goes_on_in_order() {
    let mut world = World::new(HubLimits { delivery_budget: 3, ..LIMITS });
    let rooms: Vec<_> = (0..5).map(|n| room(&format!("r{n}"))).collect();
    let all: Vec<_> = (0..2).map(|_| world.open()).collect();
    for who in &all {
        for r in &rooms {
            world.join(*who, r, Start::Now);
        }
    }
    world.settle();
    for who in &all {
        world.news(*who);
    }
    for r in &rooms {
        world.publish(r);
    }
    world.store_answers();
    world.clients.deliveries = 0;
    assert!(world.end_turn());
    assert_eq!(world.clients.deliveries, 3, "one room, and one of the second's two members");
    // Messages sent meanwhile are queued behind.
    world.publish(&rooms[4]);
    world.publish(&rooms[0]);
    world.store_answers();
    while world.end_turn() {
        assert!(world.clients.deliveries <= 12);
    }
    let heard = world.news(all[0]);
    let order: Vec<_> = heard
        .iter()
        .map(|h| if let Heard::Message(m) = h { (m.room.as_str(), m.seq.0) } else { panic!("{h:?}") })
        .collect();
    assert_eq!(order, [("r0", 1), ("r1", 1), ("r2", 1), ("r3", 1), ("r4", 1), ("r4", 2), ("r0", 2)]);
}

#[test]
fn a_room_delivers_a_bounded_number_of_bytes_a_turn_and_the_rest_in_the_next() {
    // Two messages of about 160 bytes and a signal.
    let mut world = World::new(HubLimits { batch_bytes: 400, ..LIMITS });
    let all = members(&mut world, 2);
    for _ in 0..5 {
        world.publish(&room("r"));
    }
    world.store_answers();
    world.signal(all[1], &room("r")).unwrap();
    for (told, more) in [(2, true), (4, true), (5, false)] {
        assert_eq!(world.end_turn(), more);
        assert_eq!(world.clients.encoded, [(room("r"), Encoded::Live)]);
        assert_eq!(world.seqs(all[0], &room("r")), (1..=told).collect::<Vec<_>>());
        let has_signal = world.heard(all[0]).iter().any(|h| matches!(h, Heard::Signal { .. }));
        assert_eq!(has_signal, !more);
    }
    // A client that joins in between receives each once as well.
    for _ in 0..5 {
        world.publish(&room("r"));
    }
    world.store_answers();
    world.end_turn();
    let late = world.open();
    world.join(late, &room("r"), Start::After { seq: Seq(6), epoch: None });
    world.settle();
    assert_eq!(world.seqs(late, &room("r")), [7, 8, 9, 10]);
    world.judge_at_rest();
}

#[test]
fn an_unsure_commit_makes_no_member_lag_that_waits_for_the_next_turn() {
    let mut world = World::new(HubLimits { batch_bytes: 1, ..LIMITS });
    let all = members(&mut world, 2);
    world.publish(&room("r"));
    world.publish(&room("r"));
    world.send_body(all[0], &room("r"), "\"x\"", Some("key")).unwrap();
    world.ask();
    for fate in [Fate::Fine, Fate::Fine, Fate::Unsure] {
        world.decide(fate);
        world.decided();
    }
    world.send_body(all[0], &room("r"), "\"x\"", Some("key")).unwrap();
    world.store_answers();
    for told in 1..=2 {
        world.end_turn();
        assert_eq!(world.seqs(all[1], &room("r")), (1..=told).collect::<Vec<_>>());
    }
    world.settle();
    let behind = |h: &Heard| if let Heard::Lagging { behind, .. } = h { Some(*behind) } else { None };
    assert_eq!(world.heard(all[1]).iter().filter_map(behind).collect::<Vec<_>>(), [1]);
    world.judge_at_rest();
}

#[test]
fn reads_in_flight_are_bounded_and_all_are_answered() {
    let mut world = World::new(HubLimits { reads_in_flight: 2, ..LIMITS });
    let all: Vec<_> = (0..20).map(|_| world.open()).collect();
    for who in &all {
        world.join(*who, &room("r"), Start::Last(3));
        world.history(*who, &room("r"), Span::Newest, 3);
    }
    world.ask();
    assert_eq!((world.store.reads.len(), world.most_reads), (2, 2));
    // A failed read also makes room for the next one.
    world.store.read(1, false);
    world.arrive(0);
    world.ask();
    assert_eq!(world.store.reads.len(), 2);
    world.settle();
    assert_eq!(world.most_reads, 2);
    for who in &all {
        let heard = world.heard(*who);
        let answers = |h: &&Heard| matches!(h, Heard::Page { .. } | Heard::Refused { .. } | Heard::Joined { .. });
        assert_eq!(heard.iter().filter(answers).count(), 2, "{heard:?}");
    }
}

#[test]
fn a_read_that_no_member_needs_any_more_is_not_requested() {
    let mut world = World::new(HubLimits { reads_in_flight: 1, ..LIMITS });
    let (a, b) = (world.open(), world.open());
    world.join(a, &room("first"), Start::Now);
    for n in 0..100 {
        world.join(b, &room(&format!("r{n}")), Start::Now);
        world.leave(b, &room(&format!("r{n}"))).unwrap();
    }
    world.ask();
    world.read(0);
    world.arrive(0);
    world.ask();
    assert!(world.store.is_idle(), "{:?}", world.store.reads);
}

#[test]
fn a_repeated_answer_to_an_append_is_heard_once() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 2);
    for _ in 0..3 {
        world.publish(&room("r"));
    }
    world.ask();
    let mut old = Vec::new();
    for _ in 0..3 {
        world.decide(Fate::Fine);
        let answer = world.store.decided.front().cloned().unwrap();
        world.decided();
        old.push(answer);
        world.answer(StoreEvent::Appended(old.clone()));
    }
    world.end_turn();
    old.reverse();
    world.answer(StoreEvent::Appended(old));
    let late = world.open();
    world.join(late, &room("r"), Start::Now);
    world.settle();
    assert!(matches!(world.heard(late)[..], [Heard::Joined { head: 3, from: 4, .. }]));
    for who in &all {
        assert_eq!(world.seqs(*who, &room("r")), [1, 2, 3]);
    }
}

#[test]
fn refusals_reach_the_sender_only() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 2);
    let first = world.send_body(all[0], &room("r"), "1", Some("key")).unwrap();
    let again = world.send_body(all[0], &room("r"), "1", Some("key")).unwrap();
    let other = world.send_body(all[0], &room("r"), "2", Some("key")).unwrap();
    world.settle();
    let failed = world.send_body(all[0], &room("r"), "3", None).unwrap();
    world.ask();
    world.decide(Fate::Fails);
    world.settle();
    let heard = world.heard(all[0]);
    for expected in [
        Heard::Ack { id: Some(first), room: room("r"), seq: 1, duplicate: false },
        Heard::Ack { id: Some(again), room: room("r"), seq: 1, duplicate: true },
        Heard::Refused { id: Some(other), error: HubError::KeyReused },
        Heard::Refused { id: Some(failed), error: HubError::StorageUnavailable },
    ] {
        assert_eq!(heard.iter().filter(|h| **h == expected).count(), 1, "{expected:?}");
    }
    assert_eq!(world.seqs(all[0], &room("r")), [1]);
    assert_eq!(world.heard(all[1]).len(), 2, "`joined` and the one message");
}

#[test]
fn a_message_of_an_unsure_commit_is_delivered_once_the_store_tells_of_it() {
    // Reported unavailable, but stored. If it is sent again with its key, the duplicate is acknowledged, and everyone
    // receives it; or the next message reveals the missing message, in the same turn as others or alone.
    for way in ["again", "next", "in one turn"] {
        let mut world = World::new(LIMITS);
        let all = members(&mut world, 3);
        if way == "in one turn" {
            world.publish(&room("r"));
        }
        world.send_body(all[0], &room("r"), "\"x\"", Some("key")).unwrap();
        if way == "in one turn" {
            world.publish(&room("r"));
            world.ask();
            world.decide(Fate::Fine);
            world.decided();
        }
        world.ask();
        world.decide(Fate::Unsure);
        world.decided();
        match way {
            "again" => drop(world.send_body(all[0], &room("r"), "\"x\"", Some("key")).unwrap()),
            "next" => world.publish(&room("r")),
            _ => {}
        }
        world.settle();
        let head = world.store.log.head(&room("r"));
        for who in &all {
            assert_eq!(world.seqs(*who, &room("r")), (1..=head).collect::<Vec<_>>(), "{way}");
        }
        world.judge_at_rest();
    }
}

#[test]
fn a_history_page_is_cut_at_its_far_end_to_page_bytes() {
    let mut world = World::new(HubLimits { page_bytes: 1000, ..LIMITS });
    for _ in 0..3 {
        world.publish_body(&room("r"), Body::checked(format!("\"{}\"", "x".repeat(300)).into()));
    }
    world.store_answers();
    let a = world.open();
    for span in [Span::Newest, Span::Before(Seq(3)), Span::After(Seq(0)), Span::After(Seq(2))] {
        world.history(a, &room("r"), span, 10);
    }
    world.settle();
    let heard = world.heard(a);
    let page = |h: &Heard| if let Heard::Page { seqs, more, .. } = h { (seqs.clone(), *more) } else { panic!("{h:?}") };
    let pages: Vec<_> = heard.iter().map(page).collect();
    assert_eq!(pages, [(vec![2, 3], true), (vec![1, 2], false), (vec![1, 2], true), (vec![3], false)]);
}

#[test]
fn messages_of_members_who_left_are_still_delivered_to_the_room() {
    let mut world = World::new(LIMITS);
    let all = members(&mut world, 2);
    world.send(all[0], &room("r")).unwrap();
    world.ask();
    world.gone(all[0]);
    world.settle();
    assert_eq!(world.seqs(all[1], &room("r")), [1]);
    // Also when the room is gone.
    world.send(all[1], &room("r")).unwrap();
    world.ask();
    world.gone(all[1]);
    world.decide(Fate::Fine);
    assert!(matches!(world.store.decided[0].outcome, Outcome::Stored(_)));
    world.settle();
    assert_eq!((world.hub.room_count(), world.hub.session_count()), (0, 0));
}

#[test]
fn a_join_without_presence_sends_and_receives_none() {
    let mut world = World::new(LIMITS);
    let (a, b) = (world.open(), world.open());
    world.join_with(a, &room("r"), Start::Now, Presence::Off);
    world.join_with(b, &room("r"), Start::Now, Presence::Off);
    world.settle();
    assert_eq!((world.heard(a).len(), world.heard(b).len()), (1, 1));
    assert_eq!(world.clients.encoded, [], "nobody listens");
}
