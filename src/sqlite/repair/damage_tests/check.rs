//! The faults that `racerd check` finds, and how it describes them.

use std::time::Duration;

use crate::sqlite::StoreOptions;
use crate::sqlite::check::Checked;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::pages::Pages;
use crate::sqlite::repair::damage_tests::{database, unclean};
use crate::sqlite::repair::{check, salvage};
use crate::sqlite::start_check::{Found, look};
use crate::sqlite::tests::outside;
use crate::sqlite::wal::Wal;
use crate::store::Outcome;
use crate::store::samples::append;
use crate::testing::TempDir;
use crate::types::Durability;

#[test]
fn a_check_says_what_it_finds() {
    let cases = [
        ("DELETE FROM messages WHERE id = (1 << 39) + 5", "message 5 is missing"),
        ("DELETE FROM messages WHERE id = (SELECT max(id) FROM messages WHERE id < 2 << 39)", "but its head is"),
        ("UPDATE rooms SET at = 0 WHERE id = 1", "later than its own time"),
        ("UPDATE rooms SET name = 'a b' WHERE id = 2", "name that no room can have"),
        (
            "INSERT INTO messages SELECT (77 << 39) + 1, at, member, name, body, key FROM messages LIMIT 1",
            "room 77 that does not",
        ),
        ("UPDATE messages SET name = '' WHERE id = (1 << 39) + 3", "message 3 has no readable author"),
        ("UPDATE messages SET key = x'01' WHERE id = (1 << 39) + 3", "message 3 has a key that is none"),
        ("UPDATE keys SET entries = zeroblob(100) WHERE id = 1", "64 whole ones at most"),
        ("UPDATE keys SET room = 99 WHERE id = 1", "keys of a room 99"),
        ("UPDATE common_keys SET seq = 100000 WHERE seq = (SELECT max(seq) FROM common_keys)", "never given"),
        ("UPDATE rooms SET common = common + 1 WHERE id = 1", "common keys"),
        ("UPDATE rooms SET oldest = oldest + 1 WHERE id = 1", "another oldest message"),
        ("UPDATE rooms SET oldest = NULL, oldest_at = NULL WHERE id = 1", "another oldest message"),
        ("DROP TABLE parked", "parked is missing"),
    ];
    for (sql, expected) in cases {
        let directory = TempDir::new();
        let (path, _) = database(&directory);
        assert!(check(&path, None).unwrap().is_well());
        outside(&path).execute_batch(sql).unwrap();
        let checked = check(&path, None).unwrap();
        assert!(
            !checked.is_well() && checked.faults.iter().any(|fault| fault.contains(expected)),
            "{sql}: {checked:?}"
        );
    }
}

#[test]
fn a_check_tells_a_full_database_from_one_that_is_nearly_full() {
    const MAX: u64 = 100 << 20;
    // 25,600 pages, less a 32nd for folds.
    let most = 24_800;
    let said = |used: i64, max: u64| {
        Checked { pages: Some((Pages::USUAL, used)), ..Checked::default() }.fullness(max).unwrap_or("").to_owned()
    };
    assert_eq!(said(most * 3 / 4, MAX), "");
    assert!(said(most * 3 / 4 + 1, MAX).starts_with("has nearly reached max_database_size: whoever"));
    assert!(said(most - 16, MAX).starts_with("has nearly reached"), "the largest message is taken");
    for used in [most - 15, most, most + 1_000, 100_000] {
        assert!(said(used, MAX).starts_with("has reached max_database_size: messages are refused"), "{used}");
    }
    assert_eq!(said(100_000, 0), "", "it is a share of the disk");
    assert_eq!(Checked::default().fullness(MAX), None);
}

/// The seq gives the order, and a clock that was days ahead may have been set right.
#[test]
fn times_that_go_back_are_no_damage() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    let day = 86_400_000;
    let now = 1_800_000_000_000;
    for at in [now + 400 * day, now, now - 3 * day, now] {
        assert!(matches!(bench.append(append("lobby", "1", at)), Outcome::Stored(_)));
    }
    bench.store.finish().unwrap();
    assert_eq!(check(&options.path, None).unwrap().faults, [] as [String; 0]);
    let copy = directory.path().join("copy.db");
    let report = salvage(&options.path, &copy, None).unwrap();
    assert_eq!((report.messages, check(&copy, None).unwrap().is_well()), (4, true));
    unclean(&options.path);
    let mut bench = Bench::open(StoreOptions { path: copy, ..options });
    let ats: Vec<u64> = bench.everything("lobby").iter().map(|message| message.at.0).collect();
    assert_eq!(ats, [now + 400 * day, now, now - 3 * day, now]);
}

#[test]
fn what_is_told_of_damage_fits_on_one_line() {
    let hostile = format!("\u{1b}]0;x\u{7}\u{202e}{}", "z".repeat(3_000));
    let schema = format!(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE parked(' || '{hostile}' WHERE name = 'parked'"
    );
    let room = format!("UPDATE rooms SET name = '{hostile}', head = head + 1 WHERE id = 2");
    for sql in [schema, room] {
        let directory = TempDir::new();
        let (path, _) = database(&directory);
        outside(&path).execute_batch(&sql).unwrap();
        // An error is not checked here: it is escaped where it is printed.
        let mut told = check(&path, None).map_or_else(|_| Vec::new(), |checked| checked.faults);
        if let Ok(Found::Damage(what)) = look(&mut outside(&path), &Wal::default(), "boot", Duration::from_secs(60)) {
            told.push(what);
        }
        assert!(!told.is_empty(), "{sql:.80}");
        for line in told {
            assert!(line.chars().count() < 600 && !line.chars().any(crate::types::is_unsafe), "{sql:.80}: {line:?}");
        }
    }
}
