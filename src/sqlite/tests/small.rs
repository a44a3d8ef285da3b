//! What a small database holds besides messages: strangers can make sessions, rooms and counters without end, and none
//! of them may keep messages out.

use std::os::unix::fs::FileExt as _;

use crate::sqlite::check;
use crate::sqlite::contract::options;
use crate::sqlite::tests::outside;
use crate::sqlite::tests::shares::{Log, is_stored};
use crate::store::samples::{append, body_of, room, session_in, ticket};
use crate::store::{Claim, Outcome, Parked, Purpose, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::Durability;

const MAX: u64 = 1 << 20;

impl Log {
    /// Hands requests in together. Then a second passes.
    fn ask(&mut self, mut requests: Vec<StoreRequest>) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        self.log.answer(&mut requests, &mut events);
        self.pass(1_000, &mut events);
        events
    }

    fn number(&self, sql: &str) -> i64 {
        let conn = rusqlite::Connection::open(&self.options.path).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Opens a small database that parks any number of sessions.
fn small(directory: &TempDir, keep_messages: u64) -> Log {
    let mut options = options(directory.path(), Durability::Full);
    let bounds = &mut options.bounds;
    (bounds.max_database_size, bounds.keep_messages, bounds.parked_max) = (MAX, keep_messages, u64::MAX);
    Log::open(options)
}

fn refusals(events: &[StoreEvent]) -> usize {
    let is_refusal = |event: &&StoreEvent| match event {
        StoreEvent::Appended(list) => !list.iter().all(|appended| is_stored(&appended.outcome)),
        _ => false,
    };
    events.iter().filter(is_refusal).count()
}

/// Each session was in 20 rooms, so that the rows would take some 10 MB.
#[test]
fn sessions_that_only_come_and_go_keep_no_message_out() {
    let directory = TempDir::new();
    let mut log = small(&directory, 10);
    log.fill("lobby", 10, 1_000);
    let rooms: Vec<String> = (0..20).map(|n| format!("a-room-of-many-{n:04}")).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for batch in 0..200 {
        let mut requests: Vec<StoreRequest> =
            (0..100).map(|n| StoreRequest::Park(session_in(100 * batch + n, &rooms))).collect();
        requests.push(StoreRequest::Append(append("lobby", &body_of(1_000), 0)));
        assert_eq!(refusals(&log.ask(requests)), 0, "{batch}");
    }
    let bytes = log.number("SELECT sum(length(rooms)) FROM parked");
    assert!((MAX as i64 / 16..MAX as i64 / 8).contains(&bytes), "{bytes}");
    assert_eq!(log.ends("lobby"), (201, 210), "the room keeps its ten messages");
    log.close();
}

/// A database that is full, and from which nothing may go: no message is refused since a session is parked with it, and
/// who comes back meanwhile is found.
#[test]
fn sessions_wait_while_the_database_is_full_and_are_found() {
    let directory = TempDir::new();
    let mut log = small(&directory, 0);
    while is_stored(&log.say("lobby", 10_000, 0)) {}
    let rooms: Vec<String> = (0..60).map(|n| format!("{n:02}{}", "x".repeat(60))).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for number in 0..100 {
        log.ask(vec![StoreRequest::Park(session_in(number, &rooms))]);
    }
    let small = StoreRequest::Append(append("lobby", "1", 0));
    let events = log.ask(vec![StoreRequest::Park(session_in(100, &rooms)), small]);
    assert_eq!(refusals(&events), 0, "the session does not fit, the message does");
    for number in [99, 3, 50] {
        let claim = Claim { ticket: ticket(Purpose::Resume, number), session: session_in(number, &[]).session };
        let events = log.ask(vec![StoreRequest::Claim(claim)]);
        let found = events.iter().find_map(|event| match event {
            StoreEvent::Claimed(claimed) => claimed.parked.as_ref(),
            _ => None,
        });
        assert_eq!(found, Some(&session_in(number, &rooms)));
    }
    log.close();
}

/// A batch that does not fit, with a session that is parked and comes back in it, and another one that is parked twice.
#[test]
fn who_comes_back_at_once_is_found_in_a_full_database() {
    let directory = TempDir::new();
    let mut log = small(&directory, 0);
    let bounds = crate::store::Bounds { park_for: 60, ..log.options.bounds };
    log.log.set_bounds(bounds, &mut Vec::new());
    let unused = "INSERT INTO rooms (id, name, head, at, common, oldest, used) VALUES (77, 'unused', 3, 0, 0, NULL, 0)";
    outside(&log.options.path).execute(unused, []).unwrap();
    log.pass(3 * 3_600_000, &mut Vec::new());
    while is_stored(&log.say("lobby", 10_000, 0)) {}
    let rooms: Vec<String> = (0..60).map(|n| format!("{n:02}{}", "x".repeat(60))).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    while log.number("SELECT count(*) FROM parked") < 300 {
        let before = log.number("SELECT count(*) FROM parked");
        log.ask(vec![StoreRequest::Park(session_in(1_000 + before as u64, &rooms))]);
        if log.number("SELECT count(*) FROM parked") == before {
            break;
        }
    }
    let claim = |number: u64| {
        let session = session_in(number, &[]).session;
        StoreRequest::Claim(Claim { ticket: ticket(Purpose::Resume, number), session })
    };
    let later = Parked { generation: 9, ..session_in(2, &rooms) };
    let requests = vec![
        StoreRequest::Park(session_in(1, &rooms)),
        StoreRequest::Park(session_in(2, &rooms)),
        claim(1),
        StoreRequest::Park(later.clone()),
        StoreRequest::Remove(room("unused")),
        StoreRequest::Append(append("lobby", "1", 0)),
    ];
    let events = log.ask(requests);
    let claimed = |events: &[StoreEvent]| -> Vec<Option<Parked>> {
        let parked = |event: &StoreEvent| match event {
            StoreEvent::Claimed(claimed) => Some(claimed.parked.clone()),
            StoreEvent::ClaimFailed { .. } => Some(None),
            _ => None,
        };
        events.iter().filter_map(parked).collect()
    };
    assert_eq!((claimed(&events), refusals(&events)), (vec![Some(session_in(1, &rooms))], 0));
    let removed = |event: &&StoreEvent| matches!(event, StoreEvent::Removed(removed) if !removed.is_gone);
    assert_eq!(events.iter().filter(removed).count(), 1, "a session that waits may have been in it");
    assert_eq!(claimed(&log.ask(vec![claim(2)])), [Some(later)]);
    assert_eq!(claimed(&log.ask(vec![claim(1), claim(2)])), [None, None], "each once");
    log.close();
}

/// One page of the table of sessions is overwritten on the disk.
#[test]
fn damage_among_parked_sessions_keeps_no_message_out() {
    let directory = TempDir::new();
    let mut log = small(&directory, 0);
    for number in 0..20 {
        log.ask(vec![StoreRequest::Park(session_in(number, &[]))]);
    }
    let options = log.options.clone();
    log.close();
    let mut log = Log::open(options);
    let root = log.number("SELECT rootpage FROM sqlite_schema WHERE name = 'parked'") as u64;
    let size = log.number("PRAGMA page_size") as u64;
    let file = std::fs::OpenOptions::new().write(true).open(&log.options.path).unwrap();
    file.write_all_at(&[0xff; 1_024], (root - 1) * size).unwrap();
    for number in 30..40 {
        let message = StoreRequest::Append(append("lobby", "1", 0));
        let events = log.ask(vec![StoreRequest::Park(session_in(number, &[])), message]);
        assert_eq!(refusals(&events), 0, "{number}");
    }
    assert_eq!(log.ends("lobby").1, 10);
    assert!(!check(&log.options.path, None).unwrap().faults.is_empty(), "it is damaged");
}

#[test]
fn rooms_take_a_part_of_the_database() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, MAX, 10);
    log.fill("lobby", 10, 1_000);
    let name = |n: u64| format!("{n:06}{}", "x".repeat(58));
    let mut notes = Vec::new();
    for batch in 0..40 {
        let requests = (100 * batch..100 * batch + 100)
            .map(|n| StoreRequest::Append(append(&name(n), "1", 0)))
            .chain([StoreRequest::Append(append("lobby", &body_of(1_000), 0))]);
        for event in log.ask(requests.collect()) {
            match event {
                StoreEvent::Appended(list) => {
                    for (n, appended) in list.iter().enumerate() {
                        let is_new = n < 100 && 100 * batch + n as u64 >= 2_047;
                        let refused = matches!(appended.outcome, Outcome::RoomsFull { limit: 2_048 });
                        assert!(if is_new { refused } else { is_stored(&appended.outcome) }, "{batch}, {n}");
                    }
                }
                StoreEvent::Note { text, .. } => notes.extend(text),
                _ => {}
            }
        }
    }
    assert_eq!(
        notes,
        ["the database has as many rooms as it takes (2048): messages to further rooms are refused; raise \
          max_database_size"]
    );
    // Those that there are go on, and so does the lobby.
    assert!((0..2_000).all(|n| is_stored(&log.say(&name(n), 30, 0))));
    assert_eq!(log.ends("lobby").1, 50);
    log.close();
}

/// A full database refuses some messages while others, which are smaller, still fit. That is told once.
#[test]
fn a_full_database_is_not_well_because_small_messages_fit() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, MAX, 0);
    while is_stored(&log.say("lobby", 100_000, 0)) {}
    let mut told = Vec::new();
    let mut outcomes = [0; 2];
    for n in 0..60 {
        let bytes = if n % 3 == 0 { 10 } else { 200_000 };
        let mut events = Vec::new();
        let append = append("lobby", &body_of(bytes), 0);
        log.log.answer(&mut vec![StoreRequest::Append(append)], &mut events);
        outcomes[usize::from(refusals(&events) > 0)] += 1;
        log.pass(20, &mut events);
        told.extend(events.into_iter().filter_map(|event| match event {
            StoreEvent::Available(outcome) => Some(outcome.is_ok()),
            _ => None,
        }));
    }
    assert_eq!(outcomes, [20, 40]);
    assert_eq!(told, [false; 0], "the fill has told it");
    // Once nothing is refused, it ends.
    let mut events = Vec::new();
    log.pass(1_000, &mut events);
    log.log.answer(&mut vec![StoreRequest::Append(append("lobby", "1", 0))], &mut events);
    let is_well = |event: &StoreEvent| matches!(event, StoreEvent::Available(Ok(())));
    assert_eq!(events.iter().filter(|event| is_well(event)).count(), 1);
    log.close();
}
