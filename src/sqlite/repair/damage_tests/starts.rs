//! Damage that a start finds, and what the start does about it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use crate::sqlite::contract::{Bench, options};
use crate::sqlite::repair::damage_tests::{database, unclean};
use crate::sqlite::start_check::{Found, look};
use crate::sqlite::tests::{outside, refusal};
use crate::sqlite::wal::Wal;
use crate::testing::TempDir;
use crate::types::Durability;

#[test]
fn the_look_at_the_start_has_an_end() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    outside(&path)
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO parked (session, at, member, name, generation, rooms)
             SELECT randomblob(16), 0, 1, 'x', 1, zeroblob(3000) FROM n",
        )
        .unwrap();
    unclean(&path);
    let mut conn = outside(&path);
    let look = |conn: &mut Connection, most| look(conn, &Wal::default(), "boot", most).unwrap();
    assert_eq!(look(&mut conn, Duration::ZERO), Found::TimeUp);
    assert_eq!(look(&mut conn, Duration::from_secs(60)), Found::Well);
}

#[test]
fn a_missing_or_changed_table_is_damage() {
    for sql in ["DROP TABLE keys", "DROP INDEX common_keys_by_age", "ALTER TABLE rooms RENAME COLUMN at TO til"] {
        let directory = TempDir::new();
        let (path, _) = database(&directory);
        outside(&path).execute_batch(sql).unwrap();
        let line = refusal(options(directory.path(), Durability::Full));
        assert!(line.contains("is damaged") && line.contains("table or index"), "{sql}: {line}");
    }
}

#[test]
fn a_note_about_a_database_that_is_sound_does_not_stop_a_start() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    outside(&path).execute_batch("UPDATE meta SET damage = 'cosmic rays'").unwrap();
    let options = options(directory.path(), Durability::Full);
    let bench = Bench::open(options.clone());
    assert!(bench.store.remarks()[0].contains("cosmic rays"), "{:?}", bench.store.remarks());
    bench.store.finish().unwrap();
    assert_eq!(Bench::open(options).store.remarks(), [] as [String; 0]);
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let directory = TempDir::new();
    let (path, said) = database(&directory);
    let options = options(directory.path(), Durability::Full);
    let name = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let whole = fs::read(&path).unwrap();
    // Interrupted replacements: decided, but nothing moved yet; the old database moved; its WAL moved, too.
    for moved in 0..3 {
        fs::write(&path, "the old one").unwrap();
        fs::write(name("-wal"), "its last messages").unwrap();
        fs::write(name(".instead-of-damaged"), &whole).unwrap();
        if moved > 0 {
            fs::rename(&path, name(&format!(".damaged-{}", moved + 1))).unwrap();
        }
        if moved > 1 {
            fs::rename(name("-wal"), name(&format!(".damaged-{}-wal", moved + 1))).unwrap();
        }
        let mut bench = Bench::open(options.clone());
        assert_eq!(bench.everything("lobby"), said["lobby"]);
        bench.store.finish().unwrap();
        let kept = name(&format!(".damaged-{}", moved + 1));
        assert_eq!(fs::read(&kept).unwrap(), b"the old one", "{moved}");
        assert_eq!(fs::read(name(&format!(".damaged-{}-wal", moved + 1))).unwrap(), b"its last messages");
        assert!(!name(".instead-of-damaged").exists());
    }
}
