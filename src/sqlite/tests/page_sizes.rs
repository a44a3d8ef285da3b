//! Databases with pages of each size.

use std::fs;

use crate::sqlite::contract::{Bench, options};
use crate::sqlite::repair::{backup, check, restore, salvage};
use crate::sqlite::tests::{RESTLESS, open_with, outside};
use crate::sqlite::{Sqlite, StoreOptions};
use crate::store::samples::{append, body_of};
use crate::store::{Outcome, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, PageSize};

#[test]
fn a_database_keeps_the_size_of_its_creation() {
    for page_size in PageSize::ALL {
        let directory = TempDir::new();
        let first = StoreOptions { page_size, ..options(directory.path(), Durability::Full) };
        let mut bench = Bench::open(first.clone());
        bench.append_all((0..100).map(|n| append("a", &body_of(if n % 10 == 0 { 9_000 } else { 100 }), n)).collect());
        let said = bench.everything("a");
        bench.store.finish().unwrap();
        let other = PageSize::ALL.into_iter().find(|size| *size != page_size).unwrap();
        let second = StoreOptions { page_size: other, ..first.clone() };
        let mut bench = Bench::open(second);
        bench.append(append("b", "1", 1));
        bench.store.finish().unwrap();

        let size_of = |path: &std::path::Path| {
            let size: u32 = outside(path).query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
            size
        };
        assert_eq!(size_of(&first.path), page_size.bytes());
        let [copy, restored, salvaged] =
            ["copy.db", "restored.db", "salvaged.db"].map(|name| directory.path().join(name));
        backup(&first.path, &copy, false, Box::new(|_, _| ())).unwrap();
        restore(&copy, &restored, Box::new(|_, _| ())).unwrap();
        // Nothing but its rows tells the size.
        let mut bytes = fs::read(&first.path).unwrap();
        bytes[..100].fill(0xa5);
        fs::write(&first.path, bytes).unwrap();
        let line = Sqlite::open(&first, || ()).map(drop).unwrap_err().to_string();
        assert!(line.contains("is damaged: its header is overwritten"), "{line}");
        salvage(&first.path, &salvaged, None).unwrap();
        for path in [copy, restored, salvaged] {
            assert_eq!(size_of(&path), page_size.bytes(), "{}", path.display());
            let mut bench = Bench::open(StoreOptions { path: path.clone(), ..first.clone() });
            assert_eq!(bench.everything("a"), said, "{}", path.display());
            bench.store.finish().unwrap();
            assert!(check(&path, None).unwrap().is_well());
        }
    }
}

/// Limits in bytes hold whatever the size of a page is.
#[test]
fn the_wal_and_the_database_keep_to_their_bytes() {
    const MOST: u64 = 32 << 20;
    for page_size in PageSize::ALL {
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Normal);
        let bounds = crate::store::Bounds { max_database_size: MOST, ..options.bounds };
        let options = StoreOptions { page_size, bounds, ..options };
        let mut bench = open_with(&options, RESTLESS);
        let wal = directory.path().join("racerd.db-wal");
        let mut longest = 0;
        let (mut stored, mut full) = (0, 0);
        for n in 0..450 {
            let appends: Vec<_> = (0..100).map(|_| StoreRequest::Append(append("a", &body_of(1_000), n))).collect();
            bench.submit(appends);
            let mut waiting = 100;
            while waiting > 0 {
                if let StoreEvent::Appended(appended) = bench.next() {
                    waiting -= appended.len();
                    let is_full = |outcome: &Outcome| matches!(outcome, Outcome::Full);
                    full += appended.iter().filter(|one| is_full(&one.outcome)).count();
                    stored += appended.iter().filter(|one| matches!(one.outcome, Outcome::Stored(_))).count();
                }
            }
            longest = longest.max(fs::metadata(&wal).unwrap().len());
        }
        assert!((4 << 20..10 << 20).contains(&longest), "{page_size:?}: a WAL of {longest} bytes");
        assert!(full > 0, "{page_size:?}: the database is full in the end");
        bench.store.finish().unwrap();
        let length = fs::metadata(&options.path).unwrap().len();
        assert!((MOST / 8 * 7..=MOST).contains(&length), "{page_size:?}: {length} bytes with {stored} messages");
    }
}
