//! Slow members: full, then lagging, then reading from the log, then live again.

use super::clients::Heard;
use super::world::{LIMITS, Who, World, room};
use crate::hub::{HubLimits, Start};
use crate::store::{Page, Span, StoreEvent};
use crate::testing::Fate;
use crate::types::{Body, Seq};

/// Makes a fast member and a slow one, whose queue holds `bound` items; both have read all earlier items.
fn fast_and_slow(world: &mut World, bound: usize) -> (Who, Who) {
    let (fast, slow) = (world.open(), world.open());
    world.join(fast, &room("r"), Start::Now);
    world.join(slow, &room("r"), Start::Now);
    world.settle();
    world.drain(slow);
    world.set_queue(slow, bound);
    world.clients.inbox(slow.conn()).unwrap().queued = 0;
    (fast, slow)
}

fn say(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(&room("r"));
    }
    world.store_answers();
    world.end_turn();
}

#[test]
fn a_full_member_lags_then_reads_the_log_then_is_live() {
    let mut world = World::new(LIMITS);
    let (fast, slow) = fast_and_slow(&mut world, 4);
    say(&mut world, 3);
    say(&mut world, 2);
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3]);
    assert!(world.heard(slow).contains(&Heard::Lagging { room: room("r"), behind: 2 }));
    // While it lags, no messages are queued to it, and no other member waits for it.
    say(&mut world, 2);
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3]);
    assert_eq!(world.seqs(fast, &room("r")), [1, 2, 3, 4, 5, 6, 7]);
    assert!(world.store.is_idle());
    world.drain(slow);
    world.store_answers();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3, 4, 5, 6, 7]);
    world.set_queue(slow, 100);
    say(&mut world, 1);
    assert_eq!(world.seqs(slow, &room("r")).last(), Some(&8));
    let lags = world.heard(slow).iter().filter(|h| matches!(h, Heard::Lagging { .. })).count();
    assert_eq!(lags, 1);
}

#[test]
fn a_turn_larger_than_the_queue_is_read_at_once_if_a_page_fits() {
    // No drained edge will come: the queue is already empty.
    let mut world = World::new(LIMITS);
    let (_, slow) = fast_and_slow(&mut world, 4);
    world.clients.inbox(slow.conn()).unwrap().strict = true;
    for _ in 0..6 {
        world.publish(&room("r"));
    }
    world.store_answers();
    world.end_turn();
    world.store_answers();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_page_is_not_queued_if_it_no_longer_fits() {
    // A client that lags in many rooms has room when each room asks; the pages together would be too much.
    let mut world = World::new(HubLimits { page_messages: 4, ..LIMITS });
    let rooms: Vec<_> = (0..8).map(|n| room(&format!("r{n}"))).collect();
    let slow = world.open();
    for r in &rooms {
        world.join(slow, r, Start::Now);
    }
    world.settle();
    world.set_queue(slow, 8);
    world.clients.inbox(slow.conn()).unwrap().queued = 8;
    for r in &rooms {
        for _ in 0..4 {
            world.publish(r);
        }
    }
    world.store_answers();
    world.end_turn();
    world.drain(slow);
    for _ in 0..50 {
        world.store_answers();
        let queued = world.clients.inbox(slow.conn()).unwrap().queued;
        assert!(queued <= 2 + 4, "{queued} items are queued");
        world.drain(slow);
    }
    world.settle();
    for r in &rooms {
        assert_eq!(world.seqs(slow, r), [1, 2, 3, 4]);
    }
}

#[test]
fn commits_during_catch_up_are_delivered_once_in_either_order_of_answers() {
    for page_first in [false, true] {
        let mut world = World::new(LIMITS);
        let (_, slow) = fast_and_slow(&mut world, 1);
        say(&mut world, 1);
        say(&mut world, 2);
        world.drain(slow);
        world.ask();
        world.publish(&room("r"));
        world.ask();
        world.decide(Fate::Fine);
        world.read(0);
        world.set_queue(slow, 100);
        if page_first {
            world.arrive(0);
            world.decided();
        } else {
            world.decided();
            world.arrive(0);
        }
        world.end_turn();
        assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3, 4], "page first: {page_first}");
        world.settle();
        world.judge_at_rest();
    }
}

#[test]
fn a_log_pruned_past_the_cursor_is_a_gap() {
    let mut world = World::new(HubLimits { tail_bytes: 0, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 5);
    world.store.log.prune(&room("r"), 4);
    world.settle();
    let heard = world.heard(slow);
    assert!(heard.contains(&Heard::Gap { room: room("r"), after: 1, from: 4 }), "{heard:?}");
    assert_eq!(world.seqs(slow, &room("r")), [1, 4, 5, 6]);
}

#[test]
fn a_log_pruned_whole_is_a_gap_up_to_the_head() {
    let mut world = World::new(HubLimits { tail_bytes: 0, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 5);
    world.store.log.prune(&room("r"), 7);
    world.settle();
    assert!(world.heard(slow).contains(&Heard::Gap { room: room("r"), after: 1, from: 7 }));
    world.set_queue(slow, 100);
    say(&mut world, 1);
    assert_eq!(world.seqs(slow, &room("r")), [1, 7]);
}

#[test]
fn a_failed_read_is_tried_again_after_a_second() {
    let mut world = World::new(HubLimits { tail_bytes: 0, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 2);
    world.drain(slow);
    for _ in 0..3 {
        world.ask();
        assert_eq!(world.store.reads.len(), 1);
        world.store.read(0, false);
        world.arrive(0);
        world.end_turn();
        assert!(world.store.is_idle(), "not at once");
        assert_eq!(world.hub.deadline(), Some(world.now.after(1000)));
        world.pass(999);
        world.ask();
        assert!(world.store.is_idle());
        world.pass(1);
        assert_eq!(world.hub.deadline(), None);
    }
    world.settle();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3]);
    assert_eq!(world.hub.heads(slow.slot).collect::<Vec<_>>(), [(&room("r"), Seq(3))]);
}

#[test]
fn an_empty_page_is_not_requested_again_at_once() {
    let mut world = World::new(HubLimits { tail_bytes: 0, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 2);
    world.drain(slow);
    for _ in 0..3 {
        world.ask();
        world.read(0);
        // As if the log had lost messages that it had reported as stored.
        let Some(StoreEvent::Page(page)) = world.store.arrive(0) else { panic!("a page") };
        world.answer(StoreEvent::Page(Page { messages: Vec::new(), head: Seq(1), ..page }));
        assert!(!world.end_turn());
        assert!(world.store.is_idle(), "no spin of reads");
        world.pass(1000);
    }
    world.settle();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3]);
}

#[test]
fn a_repeated_page_is_delivered_once() {
    let mut world = World::new(HubLimits { page_messages: 2, reads_in_flight: 1, ..LIMITS });
    let (fast, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 6);
    world.set_queue(slow, 1000);
    world.drain(slow);
    for _ in 0..6 {
        // Two requests in line: the second is with the store while the first one's answer is repeated.
        world.history(fast, &room("r"), Span::Newest, 1);
        world.ask();
        world.read(0);
        world.arrive(0);
        world.ask();
        let waiting = world.store.reads.len();
        for index in 0..world.old.len() {
            let old = world.old[index].clone();
            world.answer(old);
            world.ask();
        }
        assert_eq!(world.store.reads.len(), waiting, "what is with the store is not done yet");
    }
    world.settle();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(world.most_reads, 1);
    world.settle();
    world.judge_at_rest();
}

#[test]
fn a_member_that_leaves_before_a_read_is_retried_leaves_nothing() {
    let mut world = World::new(LIMITS);
    let (fast, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 2);
    world.drain(slow);
    world.ask();
    world.store.read(0, false);
    world.arrive(0);
    world.gone(slow);
    let next = world.open_in(90, 0);
    assert_eq!(next.slot.index, slow.slot.index);
    world.join(next, &room("r"), Start::Now);
    world.settle();
    assert_eq!(world.seqs(next, &room("r")), [0u64; 0]);
    world.gone(next);
    world.gone(fast);
    assert!(world.hub.stalled.is_empty());
    assert_eq!(world.hub.deadline(), None);
}

#[test]
fn a_message_larger_than_a_page_is_read_once() {
    // One message always fits a page, even where memory would not keep that much.
    let mut world = World::new(HubLimits { tail_bytes: 0, page_bytes: 1024, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 1);
    world.publish_body(&room("r"), Body::checked(format!("\"{}\"", "a".repeat(2000)).into()));
    world.store_answers();
    world.end_turn();
    world.settle();
    assert_eq!(world.seqs(slow, &room("r")), [1, 2, 3]);
}

#[test]
fn a_gap_reaches_to_the_known_head() {
    let mut world = World::new(HubLimits { tail_bytes: 0, ..LIMITS });
    let (_, slow) = fast_and_slow(&mut world, 1);
    say(&mut world, 1);
    say(&mut world, 3);
    // Stored, but the hub was not told: the known head stays at 4. Then the log keeps only the last two.
    for _ in 0..4 {
        world.publish(&room("r"));
    }
    world.ask();
    for _ in 0..4 {
        world.decide(Fate::Unsure);
        world.decided();
    }
    world.end_turn();
    world.store.log.prune(&room("r"), 7);
    world.settle();
    assert!(world.heard(slow).contains(&Heard::Gap { room: room("r"), after: 1, from: 5 }));
    let late = world.open();
    world.join(late, &room("r"), Start::After { seq: Seq(4), epoch: None });
    world.settle();
    world.set_queue(slow, 100);
    say(&mut world, 1);
    world.settle();
    assert!(world.heard(slow).contains(&Heard::Gap { room: room("r"), after: 4, from: 7 }));
    assert_eq!(world.seqs(slow, &room("r")), [1, 7, 8, 9]);
    assert_eq!(world.seqs(late, &room("r")), [7, 8, 9]);
}
