//! The length of the write-ahead log, with readers in the way and without.

use std::fs;

use crate::sqlite::contract::options;
use crate::sqlite::tests::{open_quick, outside, wait_until};
use crate::store::samples::{append, body_of, read};
use crate::store::{Span, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, Seq};

#[test]
fn the_wal_stays_short_while_pages_are_read() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
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
    // The file itself is measured: the reported length is that of the last piece of upkeep, and a pause between two
    // rounds may have been long enough to empty the WAL once before.
    let is_empty = || fs::metadata(&wal).unwrap().len() == 0 && bench.store.wal_bytes() == 0;
    wait_until("the WAL is emptied in a pause", is_empty);
    assert_eq!(bench.page(read("a", Span::Newest, 0, 0)).head, Seq(50_000));
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
    wait_until("the length is told", || bench.store.wal_bytes() > 20 << 20);
    assert_eq!(bench.available, [], "and nobody is refused");
    conn.execute_batch("COMMIT").unwrap();
    wait_until("it shrinks once the reader is gone", || bench.store.wal_bytes() == 0);
}
