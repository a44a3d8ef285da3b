//! New limits reach open connections.

use super::*;
use crate::conn::Rate;
use crate::http::limits::HeadLimits;
use crate::types::WallMillis;
use crate::ws;

pub(in crate::engine) fn limits(header_timeout: u64) -> ConnLimits {
    ConnLimits {
        head: HeadLimits::default(),
        ws: ws::Limits { max_message: 1000, max_fragments: 10, binary: false },
        queue_bytes: 10_000,
        reply_bytes: 5_000,
        in_flight: 1,
        requests: Rate::new(0, 1, 1),
        controls: Rate::new(0, 1, 1),
        header_timeout,
        keep_alive: 1000,
        write_wait: 1000,
        pong_wait: 1000,
        ping_period: 1000,
    }
}

fn unlimited() -> Admission {
    Admission::new(0, Rate::new(0, 1, 1), Rate::new(0, 1, 1))
}

fn at(ms: u64) -> Now {
    Now { mono: Millis(ms), wall: WallMillis(ms) }
}

#[test]
fn shorter_timeouts_are_armed_with_jitter() {
    let mut net = Connections::new(limits(3_600_000), unlimited());
    for index in 0..5000 {
        let connection = Connection::new("127.0.0.1:1".parse().unwrap(), Millis(0));
        net.open(ConnId { index, generation: 1 }, connection, false);
    }
    net.set_now(at(600_000));
    assert_eq!(net.pop_due(Millis(600_000)), None);
    net.set_limits(limits(1000), unlimited());
    net.check().unwrap();
    let mut due = |ms: u64| {
        net.set_now(at(600_000 + ms));
        std::iter::from_fn(|| net.pop_due(Millis(600_000 + ms))).count()
    };
    assert_eq!(due(0), 0);
    assert_eq!((1..=SPREAD).map(due).collect::<Vec<_>>(), [5; SPREAD as usize]);
}

#[test]
fn a_lowered_bound_holds_after_write_wait_and_a_raised_one_at_once() {
    let mut net = Connections::new(limits(1000), unlimited());
    let small = ConnLimits { queue_bytes: 2000, write_wait: 10, ..limits(1000) };
    assert_eq!(net.max_waiting(), 15_000);
    net.set_limits(small.clone(), unlimited());
    assert_eq!(net.max_waiting(), 15_000);
    net.set_now(at(500));
    net.set_limits(ConnLimits { queue_bytes: 1000, ..small }, unlimited());
    net.set_now(at(509));
    assert_eq!(net.max_waiting(), 15_000, "lowered twice, the first bound still holds");
    net.set_now(at(995));
    net.set_limits(ConnLimits { queue_bytes: 500, write_wait: 10, ..limits(1000) }, unlimited());
    net.set_now(at(1004));
    assert_eq!(net.max_waiting(), 15_000, "connections within the second bound have their time, too");
    net.set_now(at(1500));
    assert_eq!(net.max_waiting(), 5500);
    net.set_limits(limits(1000), unlimited());
    assert_eq!(net.max_waiting(), 15_000);
}

/// Otherwise the last to be paused would be the first to go on, each turn anew, and use up its time.
#[test]
fn connections_that_were_paused_together_go_on_in_order() {
    let mut net = Connections::new(limits(1000), unlimited());
    let conns = [2, 0, 1].map(|index| ConnId { index, generation: 1 });
    for conn in conns {
        net.open(conn, Connection::new("127.0.0.1:1".parse().unwrap(), Millis(1)), false);
        net.slow(conn, 10);
        assert!(!net.may_read(conn));
    }
    conns.iter().for_each(|conn| net.release(*conn));
    let order: Vec<ConnId> = std::iter::from_fn(|| net.pop_released()).collect();
    assert_eq!(order, conns);
}

/// The rate is checked before the first byte is read, so that a client that comes too often costs no signature.
#[test]
fn tls_connections_beyond_the_rate_are_not_read() {
    let admission = Admission::new(0, Rate::new(1, 1000, 2), Rate::new(0, 1, 1));
    let mut net = Connections::new(limits(1000), admission);
    net.set_now(at(1));
    let mut come = |index, secure| {
        let conn = ConnId { index, generation: 1 };
        net.open(conn, Connection::new("192.0.2.1:1".parse().unwrap(), Millis(1)), secure);
        net.may_read(conn)
    };
    let read: Vec<bool> = (0..10).map(|index| come(index, true)).collect();
    assert_eq!(read.iter().filter(|is_read| **is_read).count(), 7, "{read:?}");
    assert!(come(10, false));
    net.set_now(at(251));
    assert_eq!(net.pop_due(Millis(251)), Some(ConnId { index: 7, generation: 1 }), "each has its turn");
    net.check().unwrap();
}

/// A session may be in many rooms. What one of them is told of the queue must not be forgotten because another asks
/// when the bound has risen meanwhile.
#[test]
fn who_waits_for_room_is_told_of_it_whoever_asks_later() {
    let mut net = Connections::new(ConnLimits { queue_bytes: 400, ..limits(1000) }, unlimited());
    let conn = ConnId { index: 0, generation: 1 };
    let mut connection = Connection::new("127.0.0.1:1".parse().unwrap(), Millis(0));
    connection.queue.push_own(|out| out.extend([b'x'; 300]));
    net.open(conn, connection, false);
    assert!(!net.has_room(conn));
    net.set_limits(limits(1000), unlimited());
    assert!(net.has_room(conn), "the bound is higher now");
    assert!(net.wrote(conn, 1).unwrap().wants_drained, "the first still waits");
}
