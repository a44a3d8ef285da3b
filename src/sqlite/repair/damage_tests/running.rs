//! Damage found while the server runs, and the background check that looks for it.

use std::fs;
use std::path::Path;

use crate::sqlite::StoreOptions;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::repair::damage_tests::database;
use crate::sqlite::tests::{open_quick, outside, refusal};
use crate::store::samples::{append, read};
use crate::store::{Outcome, Span, StoreEvent, StoreRequest};
use crate::testing::{Random, TempDir};
use crate::types::{Durability, OnDamage};

#[test]
fn damage_that_is_met_while_running_is_told_and_looked_for_at_the_next_start() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    let options = options(directory.path(), Durability::Full);
    let mut bench = open_quick(&options);
    let mut random = Random::new(11);
    // Never closed while the store has the database open: closing any descriptor of a file drops SQLite's locks on it.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    for page in 2..pages {
        std::os::unix::fs::FileExt::write_all_at(&file, &random.bytes(4096), page * 4096).unwrap();
    }
    bench.submit([StoreRequest::Read(read("lobby", Span::Newest, 200, 1 << 20))]);
    assert!(matches!(bench.next(), StoreEvent::ReadFailed(_)));
    let StoreEvent::Unreadable(why) = bench.next() else { panic!("why?") };
    assert!(why.contains("salvage") && why.contains("lobby"), "{why}");
    let outcome = bench.append(append("new-room", "1", 1));
    assert_eq!(outcome, Outcome::Unavailable);
    let why = bench.next_available().unwrap_err();
    assert!(why.contains("racerd.db") && why.contains("salvage"), "{why}");
    assert!(bench.damaged);
    let _ = bench.store.finish();
    std::mem::forget(file);
    assert!(refusal(options).contains("is damaged"));
}

#[test]
fn a_pass_finds_what_nobody_asked_for_and_the_next_start_does_what_it_is_told() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    // The last check is longer ago than any interval.
    outside(&path).execute_batch("UPDATE meta SET scrubbed = NULL").unwrap();
    let options = options(directory.path(), Durability::Full);
    let text = format!("\"151 {}", "y".repeat(40));
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there");
    // Only the text is overwritten, as by a medium that returns wrong data: SQLite's own checks find nothing wrong.
    let spoil = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 40], at as u64 + 5).unwrap();
        std::mem::forget(file);
    };
    let mut bench = open_quick(&options);
    spoil(&path);
    let StoreEvent::Unreadable(why) = bench.next() else { panic!("why?") };
    assert!(why.contains("background check") && why.contains("salvage"), "{why}");
    assert!(matches!(bench.append(append("new-room", "1", 1)), Outcome::Stored(_)), "appends go on");
    assert!(bench.damaged);
    bench.store.finish().unwrap();

    let line = refusal(options.clone());
    assert!(line.contains("is damaged") && line.contains("found while it was in use"), "{line}");
    let mut bench = Bench::open(StoreOptions { on_damage: OnDamage::Salvage, ..options.clone() });
    assert!(bench.store.remarks()[0].contains("was damaged"), "{:?}", bench.store.remarks());
    assert_eq!(bench.page(read("new-room", Span::Newest, 9, 999)).messages.len(), 1);
    bench.store.finish().unwrap();
    let bench = Bench::open(options);
    let [kept] = bench.store.remarks() else { panic!("{:?}", bench.store.remarks()) };
    assert!(
        kept.contains("racerd.db.damaged-1") && !kept.contains("found while"),
        "forgotten with the damaged one: {kept}"
    );
    // Anyone can read this note.
    assert!(bench.store.note().is_some_and(|note| !note.contains(['/', '\\']) && !note.contains(".db")));
}

#[test]
fn a_pass_over_a_sound_database_ends_and_is_put_down() {
    let directory = TempDir::new();
    let (path, said) = database(&directory);
    let scrubbed =
        || -> Option<i64> { outside(&path).query_row("SELECT scrubbed FROM meta", [], |row| row.get(0)).unwrap() };
    outside(&path).execute_batch("UPDATE meta SET scrubbed = NULL").unwrap();
    for (rate, ends) in [(0, false), (1 << 40, true)] {
        let options = StoreOptions { scrub_rate: rate, ..options(directory.path(), Durability::Full) };
        let mut bench = open_quick(&options);
        if ends {
            crate::sqlite::tests::wait_until("the end of the pass", || scrubbed().is_some());
        }
        for (room, said) in &said {
            assert_eq!(bench.everything(room), *said);
        }
        assert!(!bench.damaged);
        bench.store.finish().unwrap();
        assert_eq!(scrubbed().is_some(), ends);
    }
    // The record survives a restart, and the week until the next check counts from it.
    Bench::open(options(directory.path(), Durability::Full)).store.finish().unwrap();
    assert!(scrubbed().is_some());
}
