//! The state that a restart keeps: messages, keys, parked sessions, the epoch, and everything answered before a crash.

use std::fs;

use crate::crypto::at_rest::plain_tokens;
use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::tests::{contents, outside};
use crate::sqlite::{StoreOptions, check};
use crate::store::samples::{ALICE, append, body_of, keyed, stored};
use crate::store::{Outcome, Scope, StoreRequest};
use crate::testing::{TempDir, older};
use crate::types::{Durability, Seq};

#[test]
fn a_restart_keeps_messages_keys_and_epoch() {
    for durability in [Durability::Full, Durability::Normal] {
        let directory = TempDir::new();
        let options = options(directory.path(), durability);
        let mut bench = Bench::open(options.clone());
        let epoch = bench.store.epoch().clone();
        assert_eq!(epoch.0.as_ref(), "1a1a1a1a1a1a1a1a");
        bench.append(keyed("a", "1", ALICE, "k"));
        bench.append(keyed("a", "2", Scope::Common, "k"));
        let before = bench.everything("a");
        // A request submitted right before the end is stored, too.
        bench.submit([StoreRequest::Append(append("a", "3", 50))]);
        bench.store.finish().unwrap();
        let files: Vec<String> = contents(directory.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(files, [options.path.display().to_string()], "no WAL is left after a clean end");

        let mut bench = Bench::open(StoreOptions { new_epoch: [0x2b; 8], ..options });
        assert_eq!(*bench.store.epoch(), epoch);
        let after = bench.everything("a");
        assert_eq!(after[..2], before[..]);
        assert_eq!(after[2].body.as_str(), "3");
        assert!(matches!(bench.append(keyed("a", "1", ALICE, "k")), Outcome::Duplicate { seq: Seq(1), .. }));
        assert!(matches!(bench.append(keyed("a", "2", Scope::Common, "k")), Outcome::Duplicate { seq: Seq(2), .. }));
        assert_eq!(bench.append(keyed("a", "9", ALICE, "k")), Outcome::KeyReused);
        let next = bench.append(append("a", "4", 0));
        assert_eq!((stored(&next).seq, stored(&next).at.0), (Seq(4), 50), "at does not fall over a restart either");
    }
}

#[test]
fn a_restart_keeps_parked_sessions_and_the_token_key() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    assert_eq!((bench.store.token_key(), bench.store.running_seconds()), (*plain_tokens(&[0x3c; 32]), 0));
    bench.submit([StoreRequest::Park(parked(1, 5)), StoreRequest::Park(parked(2, 6))]);
    // Parking is not answered; a clean shutdown ensures that the sessions are stored.
    bench.store.finish().unwrap();

    outside(&options.path).execute_batch("UPDATE meta SET running = running + 1000").unwrap();
    let options = StoreOptions { new_token_salt: [0x4d; 32], ..options };
    let mut bench = Bench::open(options.clone());
    assert_eq!(bench.store.token_key(), *plain_tokens(&[0x3c; 32]), "tokens outlive the restart");
    assert!(bench.store.running_seconds() >= 1000);
    assert_eq!(bench.claim(1), Some(parked(1, 5)));
    bench.store.finish().unwrap();

    // Too old, in the server's own running seconds.
    outside(&options.path).execute_batch("UPDATE meta SET running = running + 8 * 24 * 3600").unwrap();
    let mut bench = Bench::open(options);
    assert_eq!((bench.claim(1), bench.claim(2)), (None, None));
    bench.store.finish().unwrap();
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "1", 1));
    let epoch = bench.store.epoch().clone();
    bench.store.finish().unwrap();
    outside(&options.path).execute_batch(&older::back_to(1)).unwrap();
    let path = options.path.clone();
    let mut bench = Bench::open(StoreOptions { new_token_salt: [7; 32], ..options });
    assert_eq!((bench.store.epoch().clone(), bench.store.token_key()), (epoch, *plain_tokens(&[7; 32])));
    assert_eq!(bench.everything("a").len(), 1);
    bench.submit([StoreRequest::Park(parked(1, 1))]);
    assert_eq!(bench.claim(1), Some(parked(1, 1)));
    bench.store.finish().unwrap();
    // The oldest message of each room, among others.
    assert_eq!(check(&path, None).unwrap().faults, Vec::<String>::new());
}

#[test]
fn what_was_answered_is_in_the_files_without_an_end() {
    for durability in [Durability::Full, Durability::Normal] {
        let directory = TempDir::new();
        let mut bench = Bench::open(options(directory.path(), durability));
        let mut count = 0;
        for size in [1, 7, 300, 2] {
            bench.append_all((0..size).map(|n| keyed("a", &body_of(500), ALICE, &format!("{size} {n}"))).collect());
            count += size;
        }
        // The state in which a kill at this moment would leave them.
        let copy = TempDir::new();
        for name in ["racerd.db", "racerd.db-wal"] {
            fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
        }
        let mut reborn = Bench::open(options(copy.path(), durability));
        assert_eq!(reborn.everything("a"), bench.everything("a"));
        assert_eq!(reborn.store.epoch(), bench.store.epoch(), "the same boot: nothing is lost, no new epoch");
        assert_eq!(stored(&reborn.append(append("a", "1", 1))).seq, Seq(count + 1));
        let integrity: String =
            outside(&copy.path().join("racerd.db")).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
    }
}
