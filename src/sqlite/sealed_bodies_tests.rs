//! The index of sealed bodies across restarts: an older database is indexed, rows are deleted with their messages, and
//! a change of the key or a salvage rebuilds the index.

use super::tests::{open_quick, outside, wait_until};
use super::*;
use crate::crypto::at_rest::DataKey;
use crate::sqlite::back::take_back;
use crate::sqlite::contract::{Bench, options, sought};
use crate::store::samples::{ALICE, BOB, append, encrypted, read, stored};
use crate::store::{Found, Outcome, Span};
use crate::testing::{TempDir, older};
use crate::types::{Durability, Seq};

fn plain(directory: &TempDir) -> StoreOptions {
    options(directory.path(), Durability::Normal)
}

fn sealed(directory: &TempDir, n: u8) -> StoreOptions {
    StoreOptions { data_key: Some(DataKey::new([n; 32])), ..plain(directory) }
}

/// Appends plain messages to a room, with every hundredth one encrypted.
fn talk(bench: &mut Bench) {
    let list = (0..1500).map(|n| match n % 100 {
        99 => encrypted("a", ALICE, &format!("k{n}"), &format!("c{n}")),
        _ => append("a", "\"in the clear\"", n),
    });
    bench.append_all(list.collect());
}

fn count(path: &std::path::Path) -> i64 {
    outside(path).query_row("SELECT count(*) FROM sealed_bodies", [], |row| row.get(0)).unwrap()
}

fn all_are_kept(bench: &mut Bench) -> bool {
    (0..1500).filter(|n| n % 100 == 99).all(|n| sought(bench, "a", &format!("c{n}")) == Found::Kept)
}

#[test]
fn an_older_database_is_taken_in_a_stretch_at_a_time() {
    for key in [None, Some(1)] {
        let directory = TempDir::new();
        let options = key.map_or(plain(&directory), |n| sealed(&directory, n));
        let mut bench = Bench::open(options.clone());
        talk(&mut bench);
        bench.store.finish().unwrap();
        assert_eq!(count(&options.path), 15, "one for each encrypted message");
        take_back(&outside(&options.path), &older::back_to(3), options.data_key.as_ref());
        let mut bench = open_quick(&options);
        // A message that arrives while the old ones are still being indexed.
        bench.append(encrypted("a", BOB, "new", "new"));
        wait_until("all are taken in", || all_are_kept(&mut bench));
        assert_eq!(bench.append(encrypted("a", BOB, "x", "c99")), Outcome::BodyReused);
        assert_eq!(sought(&mut bench, "a", "new"), Found::Kept);
        bench.store.finish().unwrap();
        assert_eq!(count(&options.path), 16);
        assert!(check(&options.path, options.data_key.as_ref()).unwrap().is_well());
    }
}

#[test]
fn the_digests_of_a_sealed_database_are_made_with_its_key() {
    let directories = [TempDir::new(), TempDir::new(), TempDir::new()];
    let digests = [None, Some(1), Some(2)].into_iter().zip(&directories).map(|(key, directory)| {
        let options = key.map_or(plain(directory), |n| sealed(directory, n));
        let mut bench = Bench::open(options.clone());
        bench.append(encrypted("a", ALICE, "k", "c"));
        bench.store.finish().unwrap();
        outside(&options.path).query_row("SELECT digest FROM sealed_bodies", [], |row| row.get(0)).unwrap()
    });
    let digests: std::collections::BTreeSet<Vec<u8>> = digests.collect();
    assert_eq!(digests.len(), 3);
}

#[test]
fn a_digest_goes_with_its_message() {
    let directory = TempDir::new();
    let mut options = plain(&directory);
    let mut bench = Bench::open(options.clone());
    talk(&mut bench);
    bench.store.finish().unwrap();
    options.bounds.keep_messages = 250;
    let mut bench = open_quick(&options);
    wait_until("old ones go", || bench.page(read("a", Span::Newest, 0, 0)).oldest == Seq(1251));
    assert_eq!((sought(&mut bench, "a", "c1199"), sought(&mut bench, "a", "c1299")), (Found::Nowhere, Found::Kept));
    assert_eq!(stored(&bench.append(encrypted("a", BOB, "k", "c99"))).seq, Seq(1501), "of what went nothing is known");
    bench.store.finish().unwrap();
    assert_eq!(count(&options.path), 4);
}

#[test]
fn another_key_and_a_salvage_fill_it_anew() {
    let directory = TempDir::new();
    let options = plain(&directory);
    let mut bench = Bench::open(options.clone());
    talk(&mut bench);
    bench.store.finish().unwrap();
    rekey(&options.path, None, Some(&DataKey::new([1; 32])), Box::new(|_, _| ())).unwrap();
    assert_eq!(count(&options.path), 0);
    let mut bench = open_quick(&sealed(&directory, 1));
    wait_until("all are taken in", || all_are_kept(&mut bench));
    bench.store.finish().unwrap();

    let new = directory.path().join("new.db");
    salvage(&options.path, &new, Some(&DataKey::new([1; 32]))).unwrap();
    let mut bench = open_quick(&StoreOptions { path: new, ..sealed(&directory, 1) });
    wait_until("all are taken in", || all_are_kept(&mut bench));
    bench.store.finish().unwrap();
}
