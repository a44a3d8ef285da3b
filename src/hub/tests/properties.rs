//! Invariants under any sequence of events: proptest generates the sequences, `World` judges them.

use proptest::prelude::*;

use super::world::{LIMITS, Lost, Who, World, room};
use crate::hub::{HubLimits, Presence, Start};
use crate::testing::Fate;
use crate::types::{RoomId, Seq};

/// Indices are taken modulo the number of objects, so that every sequence is valid and can be shrunk.
#[derive(Clone, Debug)]
enum Step {
    Join {
        client: usize,
        room: usize,
        start: u8,
        presence: u8,
    },
    Leave {
        client: usize,
        room: usize,
    },
    Gone {
        client: usize,
    },
    /// The socket breaks; in each room the last `unread` messages were queued and not received.
    Drop {
        client: usize,
        unread: u64,
    },
    /// Returns over a new socket, perhaps before the old one is seen to be gone; the first `named` cursors are sent.
    Resume {
        client: usize,
        unread: u64,
        named: usize,
    },
    Send {
        client: usize,
        room: usize,
        key: u8,
    },
    Signal {
        client: usize,
        room: usize,
    },
    Publish {
        room: usize,
        key: u8,
    },
    Queue {
        client: usize,
        bound: usize,
        strict: bool,
    },
    Drain {
        client: usize,
    },
    /// Requests go to the store before the turn ends.
    Ask,
    Decide(Fate),
    Decided,
    Read {
        index: usize,
        works: bool,
    },
    Arrive {
        index: usize,
    },
    Repeat {
        index: usize,
    },
    Prune {
        room: usize,
        oldest: u64,
    },
    Turn,
    Pass {
        milliseconds: u64,
    },
}

const CLIENTS: usize = 5;
const ROOMS: usize = 3;

struct Story {
    world: World,
    rooms: Vec<RoomId>,
    /// Each slot's connection, by its generation; a closed one is reopened when it joins.
    clients: [Option<Who>; CLIENTS],
    generations: [u32; CLIENTS],
    lost: [Option<Lost>; CLIENTS],
}

impl Story {
    fn new(limits: HubLimits) -> Story {
        Story {
            world: World::new(limits),
            rooms: (0..ROOMS).map(|n| room(&format!("r{n}"))).collect(),
            clients: [None; CLIENTS],
            generations: [0; CLIENTS],
            lost: [const { None }; CLIENTS],
        }
    }

    fn take(&mut self, step: &Step) {
        let world = &mut self.world;
        let rooms = &self.rooms;
        match *step {
            Step::Join { client, room, start, presence } => {
                let generation = &mut self.generations[client];
                let who = *self.clients[client].get_or_insert_with(|| {
                    *generation += 1;
                    world.open_in(client as u32 + 1, *generation)
                });
                let room = &rooms[room];
                let head = world.store.log.head(room);
                let start = match start {
                    0..3 => Start::Now,
                    3..5 => Start::Last(3),
                    5 => Start::After { seq: Seq(head), epoch: None },
                    6..8 => Start::After { seq: Seq(head.saturating_sub(2)), epoch: Some("k3f9".into()) },
                    8 => Start::After { seq: Seq(head + 2), epoch: None },
                    _ => Start::After { seq: Seq(1), epoch: Some("old".into()) },
                };
                let presence = [Presence::Full, Presence::Full, Presence::Count, Presence::Off][presence as usize];
                let joined = world.hub.is_member(who.slot, room);
                assert_eq!(world.try_join(who, room, start, presence).is_err(), joined);
            }
            Step::Leave { client, room } => {
                let Some(who) = self.clients[client] else { return };
                let joined = world.hub.is_member(who.slot, &rooms[room]);
                assert_eq!(world.leave(who, &rooms[room]).is_ok(), joined);
            }
            Step::Gone { client } => {
                let Some(who) = self.clients[client].take() else { return };
                world.gone(who);
            }
            Step::Drop { client, unread } => {
                let Some(who) = self.clients[client].take() else { return };
                self.lost[client] = Some(world.drop(who, unread));
            }
            Step::Resume { client, unread, named } => {
                let lost = match self.clients[client].take() {
                    Some(who) => world.lost(who, unread),
                    None => match self.lost[client].take() {
                        Some(lost) => lost,
                        None => return,
                    },
                };
                self.generations[client] += 1;
                let back = world.resume_in(&lost, client as u32 + 1, self.generations[client], named);
                self.clients[client] = Some(back.expect("its newest token"));
            }
            Step::Send { client, room, key } => {
                let Some(who) = self.clients[client] else { return };
                let (index, generation) = (who.conn().index, who.conn().generation);
                let joined = world.hub.is_member(who.slot, &rooms[room]);
                let sent = match key {
                    0 => world.send(who, &rooms[room]),
                    key => {
                        let body = format!("\"{index}.{generation}.{key}\"");
                        world.send_body(who, &rooms[room], &body, Some(&key.to_string()))
                    }
                };
                assert_eq!(sent.is_ok(), joined);
            }
            Step::Signal { client, room } => {
                let Some(who) = self.clients[client] else { return };
                let joined = world.hub.is_member(who.slot, &rooms[room]);
                assert_eq!(world.signal(who, &rooms[room]).is_ok(), joined);
            }
            Step::Publish { room, key } => match key {
                0..2 => world.publish(&rooms[room]),
                key => world.publish_key(&rooms[room], &format!("\"post.{key}\""), &key.to_string()),
            },
            Step::Queue { client, bound, strict } => {
                let Some(inbox) = self.clients[client].and_then(|who| world.clients.inbox(who.conn())) else { return };
                (inbox.bound, inbox.strict) = (bound, strict);
            }
            Step::Drain { client } => {
                let Some(who) = self.clients[client] else { return };
                world.drain(who);
            }
            Step::Ask => world.ask(),
            Step::Decide(fate) => world.decide(fate),
            Step::Decided => world.decided(),
            Step::Read { index, works } => world.store.read(index, works),
            Step::Arrive { index } => world.arrive(index),
            Step::Repeat { index } => world.repeat(index),
            Step::Prune { room, oldest } => world.store.log.prune(&rooms[room], oldest),
            Step::Turn => drop(world.end_turn()),
            Step::Pass { milliseconds } => world.pass(milliseconds),
        }
        self.world.judge();
        self.world.hub.check().expect("the invariants");
    }

    /// Ends all faults: everyone must become live, with nothing missing.
    fn settle(&mut self) {
        for inbox in self.world.clients.inboxes.values_mut() {
            inbox.bound = inbox.bound.max(1);
        }
        self.world.settle();
        // Messages that were stored without an answer are found with the next message, at the latest.
        for room in &self.rooms {
            self.world.publish(room);
        }
        self.world.settle();
        self.world.judge_at_rest();
    }

    /// Disconnects every client; none of their state may be left.
    fn end(&mut self) {
        for who in self.clients.iter_mut().filter_map(Option::take) {
            self.world.gone(who);
        }
        // Dropped sessions are kept for this time, and no longer.
        self.world.pass(LIMITS.resume_within);
        let hub = &self.world.hub;
        assert_eq!((hub.room_count(), hub.session_count(), hub.detached_count()), (0, 0, 0));
        assert!(hub.counts.is_empty() && hub.by_id.is_empty(), "no room is left to be counted");
        // Also for answers that are still pending in the store.
        self.world.settle();
        self.world.pass(3_600_000);
        self.world.end_turn();
        let hub = &mut self.world.hub;
        assert_eq!((hub.room_count(), hub.session_count(), hub.deadline()), (0, 0, None));
        assert!(hub.dirty.is_empty() && hub.counts.is_empty() && hub.stalled.is_empty());
        assert!(hub.appending.is_empty() && hub.poll_request().is_none() && hub.poll_appends().next().is_none());
    }
}

fn client() -> std::ops::Range<usize> {
    0..CLIENTS
}

fn a_room() -> std::ops::Range<usize> {
    0..ROOMS
}

fn coming_and_going() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (client(), a_room(), 0..10u8, 0..4u8)
            .prop_map(|(client, room, start, presence)| Step::Join { client, room, start, presence }),
        3 => (client(), a_room()).prop_map(|(client, room)| Step::Leave { client, room }),
        1 => client().prop_map(|client| Step::Gone { client }),
        2 => (client(), 0..3u64).prop_map(|(client, unread)| Step::Drop { client, unread }),
        2 => (client(), 0..3u64, 0..4usize)
            .prop_map(|(client, unread, named)| Step::Resume { client, unread, named }),
    ]
}

fn the_store() -> impl Strategy<Value = Step> {
    let index = 0..8usize;
    prop_oneof![
        4 => Just(Step::Ask),
        4 => Just(Step::Decide(Fate::Fine)),
        1 => prop_oneof![Just(Step::Decide(Fate::Fails)), Just(Step::Decide(Fate::Unsure))],
        4 => Just(Step::Decided),
        5 => (index.clone(), prop::bool::weighted(0.9)).prop_map(|(index, works)| Step::Read { index, works }),
        5 => index.clone().prop_map(|index| Step::Arrive { index }),
        1 => index.prop_map(|index| Step::Repeat { index }),
    ]
}

fn talk() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (client(), a_room(), 0..4u8).prop_map(|(client, room, key)| Step::Send { client, room, key }),
        1 => (client(), a_room()).prop_map(|(client, room)| Step::Signal { client, room }),
        3 => (a_room(), 0..4u8).prop_map(|(room, key)| Step::Publish { room, key }),
        2 => (client(), 0..6usize, any::<bool>())
            .prop_map(|(client, bound, strict)| Step::Queue { client, bound, strict }),
        3 => client().prop_map(|client| Step::Drain { client }),
        1 => (a_room(), 1..20u64).prop_map(|(room, oldest)| Step::Prune { room, oldest }),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    prop_oneof![5 => Just(Step::Turn), 1 => prop_oneof![3 => 1..1500u64, 1 => 1500..40_000u64].prop_map(|milliseconds| Step::Pass { milliseconds })]
}

fn limits() -> impl Strategy<Value = HubLimits> {
    let presence_max = prop_oneof![Just(1usize), Just(2), Just(100)];
    // The smaller page fits two messages, and a list of all members.
    let page_bytes = prop_oneof![Just(320usize), Just(60_000)];
    let budget = prop_oneof![Just(1usize), Just(3), Just(1000)];
    // A room rests for half a second or so at the lower rate.
    let rate = prop_oneof![Just(10usize), Just(usize::MAX), Just(usize::MAX)];
    // The smaller batch fits one message.
    let batch = prop_oneof![Just(1usize), Just(usize::MAX)];
    let detached = prop_oneof![Just(1usize), Just(100)];
    (1..4usize, presence_max, page_bytes, 1..4u32, budget, rate, batch, detached).prop_map(
        |(
            reads_in_flight,
            presence_max,
            page_bytes,
            page_messages,
            delivery_budget,
            rate,
            batch_bytes,
            detached_max,
        )| {
            HubLimits {
                reads_in_flight,
                presence_max,
                page_bytes,
                page_messages,
                delivery_budget,
                room_delivery_rate: rate,
                batch_bytes,
                detached_max,
                renew_use: 0,
                ..LIMITS
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn concurrent_exits_leave_nothing_behind(
        limits in limits(),
        steps in prop::collection::vec(
            prop_oneof![6 => coming_and_going(), 4 => the_store(), 1 => talk(), 2 => time()], 1..120),
    ) {
        let mut story = Story::new(limits);
        for step in &steps {
            story.take(step);
        }
        story.end();
    }

    #[test]
    fn everyone_hears_everything_once_and_in_order(
        limits in limits(),
        steps in prop::collection::vec(
            prop_oneof![2 => coming_and_going(), 7 => the_store(), 5 => talk(), 3 => time()], 1..200),
    ) {
        let mut story = Story::new(limits);
        for step in &steps {
            story.take(step);
        }
        story.settle();
        story.end();
    }
}
