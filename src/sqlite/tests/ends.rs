//! What became of sessions: what was answered outlives a kill, ages, takes no more than its part, and travels with no
//! copy.

use std::time::Duration;

use crate::crypto::at_rest::DataKey;
use crate::sqlite::contract::{options, parked};
use crate::sqlite::tests::shares::{Log, is_stored};
use crate::sqlite::tests::{open_quick, outside};
use crate::sqlite::{backup, check, rekey};
use crate::store::samples::{session_in, ticket};
use crate::store::{Bounds, Claim, Holder, Mark, Parked, Purpose, Standing, StoreEvent, StoreRequest, Ticket};
use crate::testing::TempDir;
use crate::types::{Durability, SessionId};

const ENDED: Option<Standing> = Some(Standing::Ended);

fn presented(generation: u32) -> Option<Standing> {
    Some(Standing::Presented(generation))
}

fn asker() -> Ticket {
    ticket(Purpose::End, 0)
}

fn mark(number: u64, standing: Standing, network: u8) -> StoreRequest {
    let session = session_in(number, &[]).session;
    let holder = Holder::of(Some([192, 0, 2, network].into()));
    StoreRequest::Mark(Mark { session, standing, holder, asker: Some(asker()) })
}

fn claim(session: SessionId) -> StoreRequest {
    StoreRequest::Claim(Claim { ticket: ticket(Purpose::Resume, 1), session })
}

impl Log {
    fn marks(&mut self, marks: impl IntoIterator<Item = StoreRequest>) {
        let mut marks: Vec<StoreRequest> = marks.into_iter().collect();
        let (count, mut events) = (marks.len(), Vec::new());
        self.log.answer(&mut marks, &mut events);
        let answered = events.iter().filter(|event| **event == StoreEvent::Marked(asker())).count();
        assert_eq!(answered, count, "each is answered once");
    }

    fn claims(&mut self, session: SessionId) -> (Option<Parked>, Option<Standing>) {
        let mut events = Vec::new();
        self.log.answer(&mut vec![claim(session)], &mut events);
        let claimed = events.into_iter().find_map(|event| match event {
            StoreEvent::Claimed(claimed) => Some((claimed.parked, claimed.standing)),
            StoreEvent::ClaimFailed { standing, .. } => Some((None, standing)),
            _ => None,
        });
        claimed.expect("an answer")
    }

    fn standing(&mut self, number: u64) -> Option<Standing> {
        self.claims(session_in(number, &[]).session).1
    }

    fn rows(&self) -> i64 {
        outside(&self.options.path).query_row("SELECT count(*) FROM standings", [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn what_was_answered_outlives_a_kill() {
    for data_key in [None, Some(DataKey::new([1; 32]))] {
        let directory = TempDir::new();
        let options = crate::sqlite::StoreOptions { data_key, ..options(directory.path(), Durability::Full) };
        let mut log = Log::open(options);
        log.marks([mark(1, Standing::Ended, 1), mark(2, Standing::Presented(4), 1)]);
        // What is later stays, in whatever order it comes.
        log.marks([mark(1, Standing::Presented(9), 1), mark(2, Standing::Presented(3), 2)]);
        let mut log = log.killed();
        assert_eq!((log.standing(1), log.standing(2), log.standing(3)), (ENDED, presented(4), None));
        let id: i64 =
            outside(&log.options.path).query_row("SELECT min(id) FROM standings", [], |row| row.get(0)).unwrap();
        assert!(id.unsigned_abs() > u64::from(u32::MAX), "it is not the session's own id, which is small here");
        log.close();
    }
}

/// The row of a parked session goes when it is claimed, and its generation was perhaps never noted: it was parked by an
/// older racerd, or its note had to give way.
#[test]
fn a_claim_leaves_what_the_parked_session_says_of_its_tokens() {
    let directory = TempDir::new();
    let mut log = Log::open(options(directory.path(), Durability::Full));
    log.log.answer(&mut vec![StoreRequest::Park(parked(1, 7))], &mut Vec::new());
    assert_eq!(log.claims(SessionId([1; 16])), (Some(parked(1, 7)), None));
    let mut log = log.killed();
    assert_eq!(log.claims(SessionId([1; 16])), (None, presented(7)));
    // An end is final, even if the session is parked, too.
    let ended = Mark { session: SessionId([1; 16]), standing: Standing::Ended, holder: Holder::of(None), asker: None };
    log.log.answer(&mut vec![StoreRequest::Mark(ended), StoreRequest::Park(parked(1, 8))], &mut Vec::new());
    assert_eq!(log.claims(SessionId([1; 16])), (None, ENDED));
    log.close();
}

#[test]
fn what_cannot_be_written_is_answered_known_and_written_later() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    let next = |bench: &mut crate::sqlite::contract::Bench| loop {
        match bench.next() {
            StoreEvent::Marked(to) => assert_eq!(to, asker()),
            StoreEvent::Claimed(claimed) => return claimed.standing,
            StoreEvent::ClaimFailed { standing, .. } => return standing,
            other => panic!("not asked for: {other:?}"),
        }
    };
    let session = |number| session_in(number, &[]).session;
    bench.submit([mark(1, Standing::Ended, 1), claim(session(1))]);
    assert_eq!(next(&mut bench), ENDED);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    bench.submit([mark(2, Standing::Presented(5), 1), mark(2, Standing::Ended, 1), claim(session(2))]);
    assert_eq!(next(&mut bench), ENDED, "it waits in memory");
    bench.next_available().unwrap_err();
    bench.submit([claim(session(1))]);
    assert_eq!(next(&mut bench), ENDED, "it can be read");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    bench.submit([claim(session(2))]);
    assert_eq!(next(&mut bench), ENDED);
    bench.store.finish().unwrap();
    let mut bench = open_quick(&options);
    bench.submit([claim(session(2))]);
    assert_eq!(next(&mut bench), ENDED, "it is written");
    bench.store.finish().unwrap();
}

/// A database that is full, and from which nothing may go.
#[test]
fn ends_wait_while_the_database_is_full_and_keep_no_message_out() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 1 << 20, 0);
    while is_stored(&log.say("lobby", 10_000, 0)) {}
    for number in 0..2_000 {
        log.marks([mark(number, Standing::Ended, 1)]);
    }
    assert!(log.rows() < 1_000, "most of them wait in memory: {}", log.rows());
    assert!(is_stored(&log.say("lobby", 1, 0)), "a message that fits is stored");
    assert!((0..2_000).rev().step_by(50).all(|number| log.standing(number) == ENDED || number < 1_000));
    let bounds = Bounds { max_database_size: 4 << 20, ..log.options.bounds };
    log.log.set_bounds(bounds, &mut Vec::new());
    (0..20).for_each(|_| assert!(is_stored(&log.say("lobby", 1, 0))));
    log.options.bounds = bounds;
    let mut log = log.killed();
    assert!((1_000..2_000).all(|number| log.standing(number) == ENDED));
    log.close();
}

/// The attack: sessions that end without end, from one address.
#[test]
fn who_ends_many_sessions_keeps_the_ends_of_others_none_the_shorter() {
    const MOST: i64 = 1_000;
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 1 << 20, 10);
    log.marks((0..10).map(|n| mark(n, Standing::Ended, 1)));
    for batch in 0..40 {
        log.marks((0..100).map(|n| mark(10_000 + 100 * batch + n, Standing::Ended, 2)));
    }
    assert!(log.rows() <= MOST + 100, "{}", log.rows());
    assert!((0..10).all(|n| log.standing(n) == ENDED));
    assert_eq!((log.standing(10_000), log.standing(13_999)), (None, ENDED), "its own oldest went");
    // After a restart nobody knows whose they were: they count as one address more.
    let mut log = log.killed();
    log.marks((0..5).map(|n| mark(20_000 + n, Standing::Ended, 1)));
    for batch in 0..40 {
        log.marks((0..100).map(|n| mark(30_000 + 100 * batch + n, Standing::Ended, 2)));
    }
    assert!(log.rows() <= MOST + 100, "{}", log.rows());
    assert!((0..5).all(|n| log.standing(20_000 + n) == ENDED));
    let earlier = (10_000..14_000).filter(|n| log.standing(*n) == ENDED).count();
    assert!((400..600).contains(&earlier), "{earlier}");
    log.close();
}

#[test]
fn they_go_once_the_tokens_of_their_sessions_have() {
    let directory = TempDir::new();
    let mut log = Log::open(options(directory.path(), Durability::Full));
    let bounds = Bounds { park_for: 1_000, commit_delay: Duration::ZERO, ..log.options.bounds };
    log.log.set_bounds(bounds, &mut Vec::new());
    log.marks((0..9_000).map(|n| mark(n, Standing::Ended, 1)));
    let pass = |seconds: u64, log: &mut Log| {
        for _ in 0..seconds / 100 {
            assert!(is_stored(&log.say("lobby", 1, 0)));
            log.pass(100_000, &mut Vec::new());
        }
    };
    pass(1_000, &mut log);
    assert_eq!(log.rows(), 9_000);
    pass(2_000, &mut log);
    assert_eq!((log.rows(), log.standing(5)), (0, None));
    log.close();
}

#[test]
fn no_copy_has_them_and_a_rekey_ends_them() {
    let directory = TempDir::new();
    let mut log = Log::open(options(directory.path(), Durability::Full));
    log.marks((0..2_500).map(|n| mark(n, Standing::Ended, 1)));
    let path = log.options.path.clone();
    log.close();
    let copy = directory.path().join("copy.db");
    backup(&path, &copy, false, Box::new(|_, _| ())).unwrap();
    let rows =
        |path| outside(path).query_row("SELECT count(*) FROM standings", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((rows(&copy), rows(&path)), (0, 2_500));
    assert_eq!(check(&copy, None).unwrap().faults, [""; 0]);
    rekey(&path, None, Some(&DataKey::new([1; 32])), Box::new(|_, _| ())).unwrap();
    assert_eq!(rows(&path), 0);
}

/// A page, and once in many rows another one for a page that is split.
#[test]
fn each_costs_a_page() {
    let directory = TempDir::new();
    let mut log = Log::open(options(directory.path(), Durability::Full));
    log.marks((0..10_000).map(|n| mark(n, Standing::Presented(1), 1)));
    let size = || std::fs::metadata(directory.path().join("racerd.db-wal")).unwrap().len();
    let page: i64 = outside(&log.options.path).query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page = page.unsigned_abs();
    for (first, standing) in [(50_000, Standing::Ended), (0, Standing::Ended), (500, Standing::Presented(2))] {
        let before = size();
        (0..100).for_each(|n| log.marks([mark(first + n, standing, 1)]));
        let each = (size() - before) / 100;
        assert!((page..page + page / 4).contains(&each), "{each} bytes with pages of {page}: {standing:?}");
    }
    log.close();
}
