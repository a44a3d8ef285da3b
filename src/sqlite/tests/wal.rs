//! The length of the write-ahead log, with readers in the way and without.

use std::fs;

use crate::sqlite::contract::{Bench, options};
use crate::sqlite::tests::{RESTLESS, open_quick, open_with, outside, wait_until};
use crate::sqlite::{SetClock, SteppedLog, StoreOptions};
use crate::store::samples::{append, body_of, read, stored};
use crate::store::{Outcome, Span, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, Millis, Seq, WallMillis};

#[test]
fn the_wal_stays_short_while_pages_are_read() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_with(&options, RESTLESS);
    let wal = directory.path().join("racerd.db-wal");
    let (mut longest, mut pages, mut after) = (0, 0, Seq::ZERO);
    let mut waiting = 0;
    for round in 0..500 {
        let appends = (0..100).map(|n| StoreRequest::Append(append("a", &body_of(1000), round * 100 + n)));
        bench.submit(appends);
        bench.submit([StoreRequest::Read(read("a", Span::After(after), 50, 60_000))]);
        waiting += 100;
        let mut paged = false;
        while waiting > 1000 || !paged {
            match bench.next() {
                StoreEvent::Appended(appended) => waiting -= appended.len(),
                StoreEvent::Page(page) => {
                    paged = true;
                    pages += 1;
                    after = page.messages.last().map_or(after, |message| message.seq);
                }
                other => panic!("{other:?}"),
            }
        }
        longest = longest.max(fs::metadata(&wal).unwrap().len());
    }
    while waiting > 0 {
        match bench.next() {
            StoreEvent::Appended(appended) => waiting -= appended.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pages, 500);
    assert!(longest > 4 << 20, "the limit is reached at all: {longest}");
    assert!(longest < 10 << 20, "{longest}");
    assert!(bench.long_wal.is_empty(), "and was never long");
    bench.store.finish().unwrap();
    let mut bench = open_quick(&options);
    assert_eq!(bench.page(read("a", Span::Newest, 0, 0)).head, Seq(50_000));
    bench.append(append("a", "1", 50_000));
    wait_until("the WAL is emptied in a pause", || fs::metadata(&wal).unwrap().len() == 0);
}

#[test]
fn a_read_that_another_program_holds_open_only_makes_the_wal_grow() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    bench.append(append("a", "1", 1));
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN").unwrap();
    let count = || conn.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    for n in 0..24 {
        bench.append_all((0..1000).map(|_| append("a", &body_of(1000), n)).collect());
    }
    assert_eq!((count(), bench.page(read("a", Span::Newest, 0, 0)).head), (1, Seq(24_001)));
    assert!(bench.next_long_wal(), "its length is told, once");
    assert!(bench.available.is_empty() && bench.long_wal.is_empty(), "and nobody is refused");
    conn.execute_batch("COMMIT").unwrap();
    assert!(!bench.next_long_wal(), "it shrinks once the reader is gone");
}

#[test]
fn behind_a_read_that_never_ends_nothing_more_is_written_from_some_length_on() {
    let directory = TempDir::new();
    let mut options = options(directory.path(), Durability::Normal);
    options.bounds.max_database_size = 200 << 20;
    let mut bench = open_quick(&options);
    bench.append(append("a", "1", 1));
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    let mut kept = 1;
    while bench.available.is_empty() {
        let appended = bench.append_all((0..100).map(|_| append("a", &body_of(20_000), 1)).collect());
        kept += appended.iter().filter(|one| matches!(one.outcome, Outcome::Stored(_))).count() as u64;
    }
    let refusal = bench.next_available().unwrap_err();
    let words =
        "its -wal file has passed 64 MiB, since another program holds a read of the database open; end that program";
    assert!(refusal.ends_with(words), "{refusal}");
    let length = fs::metadata(directory.path().join("racerd.db-wal")).unwrap().len();
    assert!((64 << 20..80 << 20).contains(&length), "one batch beyond the limit at most: {length}");
    assert_eq!(bench.append(append("a", "2", 2)), Outcome::Unavailable, "as long as the reader stays");
    conn.execute_batch("COMMIT").unwrap();
    assert_eq!(bench.next_available(), Ok(()), "messages are accepted again by themselves");
    assert_eq!(stored(&bench.append(append("a", "3", 3))).seq, Seq(kept + 1), "and nothing is lost");
    assert_eq!(bench.long_wal, [true, false]);
}

#[test]
fn messages_are_taken_again_after_a_long_read_however_many_come_meanwhile() {
    let directory = TempDir::new();
    let mut options = options(directory.path(), Durability::Normal);
    options.bounds.max_database_size = 200 << 20;
    let clock = SetClock::default();
    let mut log = SteppedLog::open(&options, clock.clone()).unwrap();
    let mut append_all = |second: u64, count: u64| -> Vec<StoreEvent> {
        clock.set(Millis(second * 1_000), WallMillis(second * 1_000));
        let mut events = Vec::new();
        let appends = (0..count).map(|_| StoreRequest::Append(append("a", &body_of(20_000), 1)));
        log.answer(&mut appends.collect(), &mut events);
        events
    };
    append_all(0, 1);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    let refused = |events: &[StoreEvent]| events.iter().any(|event| matches!(event, StoreEvent::Available(Err(_))));
    while !refused(&append_all(0, 100)) {}
    assert_eq!(append_all(1, 1).len(), 1, "it stays refused");
    // A kill leaves the long WAL, and the next start finds no other program.
    let killed = TempDir::new();
    for file in ["racerd.db", "racerd.db-wal"] {
        fs::copy(directory.path().join(file), killed.path().join(file)).unwrap();
    }
    let after = StoreOptions { path: killed.path().join("racerd.db"), ..options.clone() };
    let mut events = Vec::new();
    let append_one = StoreRequest::Append(append("a", "1", 1));
    SteppedLog::open(&after, SetClock::default()).unwrap().answer(&mut vec![append_one], &mut events);
    let [StoreEvent::Appended(appended)] = &events[..] else { panic!("{events:?}") };
    assert!(matches!(appended[0].outcome, Outcome::Stored(_)), "{events:?}");
    conn.execute_batch("COMMIT").unwrap();
    // The writer is never idle: something comes each second.
    let again = (2..12).any(|second| append_all(second, 1).contains(&StoreEvent::Available(Ok(()))));
    assert!(again);
}

#[test]
fn the_wal_is_copied_before_it_has_to_start_over() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    // With its usual times the writer itself empties the WAL after ten idle seconds only.
    let mut bench = Bench::open(options.clone());
    bench.append_all((0..2_000).map(|n| append("a", &body_of(1000), n)).collect());
    let conn = outside(&options.path);
    let frames = |column| conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(column)).unwrap();
    assert!((512..1_024).contains(&frames(1)), "{}", frames(1));
    wait_until("the thread copies", || frames(2) == frames(1));
    assert!(frames(1) >= 512, "and the WAL goes on: {}", frames(1));
}
