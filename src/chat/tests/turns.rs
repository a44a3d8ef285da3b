//! Turns at an edge that is made for the test: whom a turn reads, and the last turns of a server that is told to stop.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// An edge whose clients have sent all they say before they are accepted. As in a kernel, a socket is known to be
/// readable from the turn on that follows the one in which it was accepted.
struct Porch {
    engine: Engine<Chat>,
    arrivals: Vec<ConnId>,
    ready: Vec<ConnId>,
    unread: BTreeMap<ConnId, Vec<u8>>,
    stop: bool,
    /// Reads for which a turn has time.
    steps: usize,
    left: usize,
    /// Those ahead.
    ahead: usize,
    /// Connections whose reads cost much, and for how many of those a turn has time.
    dear: BTreeSet<ConnId>,
    handshakes: usize,
    got: Vec<u8>,
    /// How many more connections the memory allowed in the last turn.
    openings: usize,
}

impl Porch {
    fn new(arrivals: &[ConnId]) -> Porch {
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        Porch {
            engine: Sizes::USUAL.engine(),
            arrivals: arrivals.to_vec(),
            ready: Vec::new(),
            unread: arrivals.iter().map(|conn| (*conn, request.to_vec())).collect(),
            stop: false,
            steps: usize::MAX,
            left: 0,
            ahead: 1,
            dear: BTreeSet::new(),
            handshakes: 1,
            got: Vec::new(),
            openings: 0,
        }
    }
}

const fn conn(index: u32, generation: u32) -> ConnId {
    ConnId { index, generation }
}

const NOW: Now = Now { mono: Millis(1), wall: WallMillis(1) };

impl Edge for Porch {
    type App = Chat;
    type Failure = std::convert::Infallible;

    fn engine(&mut self) -> &mut Engine<Chat> {
        &mut self.engine
    }
    fn begin_part(&mut self, part: Part) {
        self.left = match part {
            Part::Reading => self.steps,
            Part::ReadingAhead => self.ahead,
            Part::Handshaking => self.handshakes,
            Part::Delivering | Part::Writing => usize::MAX,
        };
    }
    fn has_time(&mut self) -> bool {
        self.left -= 1;
        self.left > 0
    }
    fn work(&mut self) -> usize {
        usize::MAX
    }
    fn worked(&mut self, _: usize) {}
    fn reload_if_asked(&mut self) {}

    fn accept(&mut self) {
        self.openings = self.engine.net.openings();
        for conn in self.arrivals.drain(..) {
            self.engine.handle(Input::Opened {
                conn,
                peer: ([192, 0, 2, (conn.index / 10) as u8], 1).into(),
                secure: false,
            });
        }
    }

    fn take_ready(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.ready);
    }
    fn asked_at(&self) -> Option<Millis> {
        Some(self.engine.net.now().mono)
    }

    fn is_cheap_to_read(&mut self, conn: ConnId) -> bool {
        !self.dear.contains(&conn)
    }

    fn read(&mut self, conn: ConnId) {
        if let Some(bytes) = self.unread.get_mut(&conn).filter(|_| self.engine.may_read(conn)) {
            self.engine.handle(Input::Bytes { conn, bytes: &mut std::mem::take(bytes) });
        }
    }

    fn unread(&mut self, conn: ConnId) -> u64 {
        self.unread.get(&conn).map_or(0, |bytes| bytes.len() as u64)
    }
    fn close_if_asked(&mut self) -> bool {
        std::mem::take(&mut self.stop)
    }
    fn submit(&mut self, requests: &mut Vec<crate::store::StoreRequest>) -> Result<(), Self::Failure> {
        requests.clear();
        Ok(())
    }
    fn is_inline(&self) -> bool {
        false
    }
    fn take_answers(&mut self, _: &mut Vec<StoreEvent>) {}
    fn take_writable(&mut self, _: &mut Vec<ConnId>) {}

    fn write(&mut self, conn: ConnId) -> Option<Written> {
        let queue = self.engine.queue(conn)?;
        let before = self.got.len();
        queue.pieces().for_each(|piece| self.got.extend_from_slice(piece));
        Some(Written::Some(self.got.len() - before))
    }

    fn shut_down(&mut self, _: ConnId) {}
    fn keep(&mut self, _: ConnId) {}

    fn resume(&mut self, conn: ConnId) {
        self.ready.push(conn);
    }
    fn log(&mut self, _: Fact) {}
    fn free(&mut self, closed: &mut Vec<ConnId>) {
        closed.clear();
    }
}

#[test]
fn a_request_that_came_before_the_stop_is_answered_though_its_connection_was_just_accepted() {
    let mut porch = Porch { stop: true, ..Porch::new(&[conn(0, 1)]) };
    let mut turn = Turn::default();
    let Ok(more) = turn.run(&mut porch, NOW);
    assert!(more && porch.got.is_empty(), "it does not wait for an event");
    porch.ready.push(conn(0, 1));
    let Ok(_) = turn.run(&mut porch, NOW);
    let got = String::from_utf8_lossy(&porch.got);
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    assert!(porch.engine.is_stopping());
}

/// What was noted of a connection before it was freed does not take the place of the next one that has its index.
#[test]
fn who_comes_under_an_index_that_was_in_line_is_read() {
    let (gone, other, next) = (conn(0, 1), conn(1, 1), conn(0, 2));
    let mut porch = Porch::new(&[gone, other]);
    let mut turn = Turn::default();
    let Ok(_) = turn.run(&mut porch, NOW);
    porch.engine.handle(Input::Lost { conn: gone });
    let Ok(_) = turn.run(&mut porch, NOW);
    assert_eq!(porch.engine.net.count(), 1);
    // The turn accepts the next one, and has time for the first that is ready.
    porch.unread.insert(next, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
    (porch.arrivals, porch.ready, porch.steps) = (vec![next], vec![other, gone], 1);
    let Ok(_) = turn.run(&mut porch, NOW);
    porch.ready.push(next);
    for _ in 0..3 {
        let Ok(_) = turn.run(&mut porch, NOW);
    }
    assert!(porch.unread[&next].is_empty() && porch.unread[&other].is_empty(), "{:?}", porch.unread);
}

/// Returns a porch whose turns read one connection, and look at so many ahead. All of these have come and are ready.
fn busy(conns: &[ConnId], ahead: usize, request: impl Fn(ConnId) -> String) -> (Porch, Turn) {
    let mut porch = Porch { steps: 1, ahead, ..Porch::new(conns) };
    let mut turn = Turn::default();
    let Ok(_) = turn.run(&mut porch, NOW);
    porch.unread.iter_mut().for_each(|(conn, bytes)| *bytes = request(*conn).into_bytes());
    porch.ready = conns.to_vec();
    (porch, turn)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The attack: requests of many addresses, many at once on each connection, and the server's own health check behind
/// them.
#[test]
fn health_and_the_page_are_answered_in_the_turn_that_does_not_come_to_them() {
    let conns: Vec<ConnId> = (0..32).map(|index| conn(index, 1)).collect();
    let (mut porch, mut turn) = busy(&conns, usize::MAX, |conn| match conn.index {
        30 => get("/healthz"),
        31 => get("/"),
        _ => get("/rooms/r/members").repeat(3),
    });
    for turns in 1..=30 {
        let Ok(_) = turn.run(&mut porch, NOW);
        let got = String::from_utf8_lossy(&porch.got).into_owned();
        let light = (got.matches("{\"alive\":true}").count(), got.matches("<html").count());
        let answers = got.matches("\"members\":[]").count();
        assert_eq!((answers, light), (3 * turns, (1, 1)), "of one connection each turn, and these besides");
        assert_eq!(porch.engine.net.check(), Ok(()));
    }
    let Ok(_) = turn.run(&mut porch, NOW);
    let Ok(more) = turn.run(&mut porch, NOW);
    assert!(!more, "nobody is left over");
}

/// The attack: handshakes of many addresses, each of which takes longer than a turn has time for. Nobody else waits for
/// more than one of them, and they take turns.
#[test]
fn nobody_waits_behind_handshakes_but_those_who_make_one() {
    for few in [true, false] {
        let attackers: Vec<ConnId> = (0..if few { 6 } else { 60 }).map(|index| conn(index, 1)).collect();
        let (honest, newcomer) = (conn(90, 1), conn(91, 1));
        let conns = [attackers.as_slice(), &[newcomer, honest]].concat();
        let (mut porch, mut turn) = busy(&conns, 1, |_| get("/rooms/r/members"));
        porch.steps = 1000;
        porch.dear = attackers.iter().copied().chain([newcomer]).collect();
        let handshakes = |porch: &Porch| porch.dear.iter().filter(|conn| porch.unread[conn].is_empty()).count();
        let addresses = attackers.len().div_ceil(10) + 1;
        for turns in 1..=conns.len() {
            // Whoever has said all says more.
            porch.unread.insert(honest, get("/rooms/r/members").into_bytes());
            porch.ready.push(honest);
            let Ok(_) = turn.run(&mut porch, NOW);
            assert!(porch.unread[&honest].is_empty(), "turn {turns}");
            assert_eq!(handshakes(&porch), turns.min(porch.dear.len()), "one in each turn");
            assert!(turns < addresses || porch.unread[&newcomer].is_empty(), "its address has its turn by {turns}");
        }
        let Ok(_) = turn.run(&mut porch, NOW);
        let Ok(more) = turn.run(&mut porch, NOW);
        assert!(!more, "nobody is left over");
    }
}

/// Nor do many health checks of one address keep those of others waiting.
#[test]
fn addresses_take_turns_at_what_is_light() {
    let conns: Vec<ConnId> = (0..12).map(|index| conn(index, 1)).collect();
    let (mut porch, mut turn) = busy(&conns, 2, |_| get("/healthz").repeat(3));
    let Ok(_) = turn.run(&mut porch, NOW);
    let read: Vec<u32> = conns.iter().filter(|conn| porch.unread[conn].is_empty()).map(|conn| conn.index).collect();
    assert_eq!(read, [0, 1, 10]);
    let answers = |porch: &Porch| String::from_utf8_lossy(&porch.got).matches("HTTP/1.1 200 ").count();
    assert_eq!(answers(&porch), 3 + 1 + 1, "one of each connection that is looked at ahead");
    for _ in 0..40 {
        let Ok(_) = turn.run(&mut porch, NOW);
    }
    assert_eq!(answers(&porch), 36);
}

/// The kernel could hold far more for those who wait to be read than it does.
#[test]
fn nobody_is_turned_away_for_what_the_kernel_might_hold() {
    let conns: Vec<ConnId> = (0..40).map(|index| conn(index, 1)).collect();
    let (mut porch, mut turn) = busy(&conns, 1, |_| get("/rooms/r/members"));
    let memory = Budget { kernel: 1 << 20, socket: 5_000, unread: 64 << 10, ..Budget::UNLIMITED };
    porch.engine.set_limits(Limits { memory, ..Sizes::USUAL.limits() });
    for turns in 0..30 {
        // No measurement of the turn before holds any more.
        let Ok(_) = turn.run(&mut porch, Now { mono: Millis(100 * turns), ..NOW });
        assert!(porch.openings > 100, "{} in turn {turns}", porch.openings);
    }
}
