//! A damaged write-ahead log, after a kill and after a power cut.

use std::fs;
use std::path::PathBuf;

use crate::sqlite::StoreOptions;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::tests::{outside, refusal};
use crate::sqlite::wal::Wal;
use crate::store::samples::append;
use crate::testing::TempDir;
use crate::types::{Durability, OnDamage};

/// Creates a database that was killed, with its last 50 commits in the WAL.
fn killed(directory: &TempDir, durability: Durability) -> (PathBuf, PathBuf, u64) {
    let options = options(directory.path(), durability);
    let mut bench = Bench::open(options.clone());
    for n in 0..50 {
        bench.append(append("lobby", &format!("\"{n}\""), n));
    }
    let copy = directory.path().join("killed");
    fs::create_dir_all(&copy).unwrap();
    for name in ["racerd.db", "racerd.db-wal"] {
        fs::copy(directory.path().join(name), copy.join(name)).unwrap();
    }
    (copy.join("racerd.db"), copy.join("racerd.db-wal"), 50)
}

#[test]
fn a_damaged_wal_is_not_taken_for_a_short_one() {
    let directory = TempDir::new();
    let (path, wal, count) = killed(&directory, Durability::Full);
    let sound = fs::read(&wal).unwrap();
    let scanned = Wal::scan(&wal).unwrap();
    assert_eq!((scanned.damage, scanned.page_size), (None, 4096));
    let options = StoreOptions { path: path.clone(), ..options(directory.path(), Durability::Full) };
    let database = fs::read(&path).unwrap();

    // Truncated within the last transaction, which was never acknowledged.
    fs::write(&wal, &sound[..sound.len() - 100]).unwrap();
    let mut bench = Bench::open(StoreOptions { new_epoch: [9; 8], ..options.clone() });
    assert_eq!(bench.everything("lobby").len() as u64, count - 1);
    assert_eq!(bench.store.epoch().0.as_ref(), "1a".repeat(8));
    drop(bench);

    let middle = 32 + 4120 * (sound.len() / 4120 / 2) + 1000;
    for at in [middle, 32 + 1000, 2] {
        let mut bytes = sound.clone();
        bytes[at..at + 16].copy_from_slice(b"these are damage");
        fs::write(&path, &database).unwrap();
        fs::write(&wal, &bytes).unwrap();
        let line = refusal(options.clone());
        assert!(line.contains("-wal") && line.contains("racerd salvage"), "{line}");
        assert!(fs::read(&wal).unwrap() == bytes && fs::read(&path).unwrap() == database, "not touched");
    }
    fs::write(&wal, &sound).unwrap();
    let mut bytes = sound.clone();
    bytes[middle..middle + 16].copy_from_slice(b"these are damage");
    fs::write(&wal, &bytes).unwrap();
    let mut bench = Bench::open(StoreOptions { on_damage: OnDamage::Salvage, new_epoch: [9; 8], ..options.clone() });
    let kept = bench.everything("lobby").len();
    assert!((10..45).contains(&kept), "{kept}");
    assert_eq!(bench.store.epoch().0.as_ref(), "09".repeat(8));
    assert!(fs::read(path.with_file_name("racerd.db.damaged-1-wal")).unwrap() == bytes);
    bench.store.finish().unwrap();
}

#[test]
fn after_a_power_cut_a_wal_that_was_not_synced_may_have_holes() {
    let directory = TempDir::new();
    let (path, wal, _) = killed(&directory, Durability::Normal);
    let mut bytes = fs::read(&wal).unwrap();
    let middle = 32 + 4120 * (bytes.len() / 4120 / 2) + 1000;
    bytes[middle..middle + 16].copy_from_slice(b"these were lost.");
    fs::write(&wal, &bytes).unwrap();
    let options =
        StoreOptions { path: path.clone(), new_epoch: [9; 8], ..options(directory.path(), Durability::Normal) };
    assert!(refusal(options.clone()).contains("is damaged"), "a process that was killed leaves no hole");
    let mut bench = Bench::open(StoreOptions { boot_id: "another".into(), ..options.clone() });
    assert_eq!(bench.store.epoch().0.as_ref(), "09".repeat(8), "seqs may be given again");
    assert!(bench.store.remarks()[0].contains("lost what was not synced"));
    let kept = bench.everything("lobby").len();
    assert!((10..45).contains(&kept), "{kept}");
    bench.store.finish().unwrap();

    // Nothing of the run is left, only the state before it, which records a clean shutdown.
    let conn = outside(&path);
    conn.execute_batch("UPDATE meta SET clean = 1; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(conn);
    bytes[..32].fill(7);
    fs::write(&wal, &bytes).unwrap();
    assert!(refusal(StoreOptions { boot_id: "another".into(), ..options }).contains("-wal"));
    assert!(fs::read(&wal).unwrap() == bytes);
}
