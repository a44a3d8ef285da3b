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

/// Returns a table in which an address may make 4 TLS handshakes a second, and 8 at once, and have `most` connections.
fn with_tls(most: u32) -> Connections {
    let mut net = Connections::new(limits(1000), Admission::new(most, Rate::new(1, 1000, 2), Rate::new(0, 1, 1)));
    net.set_now(at(1));
    net
}

fn comes(net: &mut Connections, index: u32, address: &str) -> bool {
    let conn = ConnId { index, generation: 1 };
    let peer = core::net::SocketAddr::new(address.parse().unwrap(), 1);
    net.open(conn, Connection::new(peer, net.now.mono), true);
    net.slot(conn).is_some() && net.may_read(conn)
}

/// The attack: a /64 that comes again and again, and goes before its handshake's turn, would use up what its /48 has.
#[test]
fn tls_handshakes_that_are_never_made_cost_the_neighbours_nothing() {
    let mut net = with_tls(0);
    let made = (0..1_000).filter(|index| {
        let is_read = comes(&mut net, *index, "2001:db8:0:1::1");
        net.drop(ConnId { index: *index, generation: 1 }, crate::conn::Ending::Reset);
        is_read
    });
    assert!(made.count() <= 8);
    let of_neighbours = (2_000..2_024).filter(|n| comes(&mut net, *n, &format!("2001:db8:0:{n:x}::1")));
    assert_eq!(of_neighbours.count(), 24, "the /56 has 32");
    net.check().unwrap();
}

/// The wider networks pay when the handshake is made, and have a rate of their own.
#[test]
fn a_tls_handshake_that_has_waited_is_paid_for_by_all_of_its_networks() {
    let mut net = with_tls(0);
    let of = |n: u32| format!("2001:db8:0:{:x}::1", n % 8);
    let read = (0..72).filter(|n| comes(&mut net, *n, &of(*n))).count();
    assert_eq!(read, 31, "of the /56, by eight networks that have 8 each");
    let mut made = 0;
    for now in (1..=991).step_by(10) {
        net.set_now(at(now));
        while let Some(id) = net.pop_due(Millis(now)) {
            let limits = net.limits.clone();
            if matches!(net.get_mut(id).unwrap().timeout(Millis(now), &limits), crate::conn::Timeout::Waited) {
                net.waited(id);
            }
            made += usize::from(net.may_read(id));
            net.arm_after(id, Millis(now));
        }
    }
    assert!((14..=17).contains(&made), "sixteen a second of a /56: {made}");
}

/// A refusal over TLS costs a handshake, too.
#[test]
fn who_is_refused_over_tls_is_told_only_while_a_handshake_is_free() {
    let mut net = with_tls(1);
    assert!(comes(&mut net, 0, "192.0.2.1"));
    let told = (1..20).filter(|index| comes(&mut net, *index, "192.0.2.1")).count();
    assert_eq!((told, net.count()), (7, 8), "the others are dropped without a word");
    assert!(comes(&mut net, 30, "192.0.2.2"));
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
