//! Opening a database: refusal of foreign and newer files, a database in use and bad paths; the files that it creates,
//! and the settings of SQLite.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::sqlite::StoreOptions;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::repair::opening::open;
use crate::sqlite::schema::VERSION;
use crate::sqlite::tests::{contents, outside, refusal, sized};
use crate::store::samples::{append, stored};
use crate::testing::TempDir;
use crate::types::{Durability, Seq};

#[test]
fn a_second_racerd_is_refused() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "1", 1));
    let line = refusal(options.clone());
    assert!(line.contains("in use by another racerd") && line.contains("racerd.db.lock"), "{line}");
    // It cannot be opened under another name, either.
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).unwrap();
    assert!(refusal(StoreOptions { path: link, ..options.clone() }).contains("in use"));
    let hard = directory.path().join("hard.db");
    fs::hard_link(&options.path, &hard).unwrap();
    assert!(refusal(StoreOptions { path: hard, ..options.clone() }).contains("in use"));
    // Nor can it after somebody has deleted the lock file.
    fs::remove_file(directory.path().join("racerd.db.lock")).unwrap();
    assert!(refusal(options.clone()).contains("in use"));
    assert_eq!(stored(&bench.append(append("a", "2", 1))).seq, Seq(2), "the first goes on");
    bench.store.finish().unwrap();
    assert_eq!(Bench::open(options).everything("a").len(), 2);
}

#[test]
fn what_is_not_ours_is_refused_and_left_untouched() {
    let text = |path: &Path| fs::write(path, "Dear diary, \0 this is no database.".repeat(100)).unwrap();
    let short = |path: &Path| fs::write(path, "SQLite format 3\0").unwrap();
    let other = |path: &Path| {
        let conn = outside(path);
        conn.execute_batch("PRAGMA application_id = 77; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    };
    let plain = |path: &Path| outside(path).execute_batch("CREATE TABLE t (x)").unwrap();
    let vacuumed = |path: &Path| {
        outside(path).execute_batch("PRAGMA auto_vacuum = INCREMENTAL; CREATE TABLE t (x); DROP TABLE t").unwrap();
    };
    let with_wal = |path: &Path| {
        let conn = outside(path);
        conn.execute_batch("CREATE TABLE t (x); PRAGMA journal_mode = WAL; INSERT INTO t VALUES (1)").unwrap();
        let keep = |name: &Path| fs::read(name).unwrap();
        let wal = path.with_extension("db-wal");
        let (database, log) = (keep(path), keep(&wal));
        drop(conn);
        fs::write(path, database).unwrap();
        fs::write(wal, log).unwrap();
    };
    let newer = |path: &Path| {
        Bench::open(options(path.parent().unwrap(), Durability::Full)).store.finish().unwrap();
        outside(path).execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 999").unwrap();
    };
    // A newer database that was killed: its version is only in the WAL.
    let newer_in_wal = |path: &Path| {
        Bench::open(options(path.parent().unwrap(), Durability::Full)).store.finish().unwrap();
        let conn = outside(path);
        conn.execute_batch("PRAGMA user_version = 999").unwrap();
        let wal = path.with_extension("db-wal");
        let (database, log) = (fs::read(path).unwrap(), fs::read(&wal).unwrap());
        drop(conn);
        fs::write(path, database).unwrap();
        fs::write(wal, log).unwrap();
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(Make, &str); 8] = [
        (&text, "not an SQLite file"),
        (&short, "not an SQLite file"),
        (&other, "another program's"),
        (&plain, "another program's"),
        (&vacuumed, "another program's"),
        (&with_wal, "another program's"),
        (&newer, "newer racerd (version 999"),
        (&newer_in_wal, "newer racerd (version 999"),
    ];
    for (make, expected) in cases {
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        make(&options.path);
        let before = contents(directory.path());
        let line = refusal(options);
        assert!(line.contains(expected) && line.contains("racerd.db") && line.contains("not touched"), "{line}");
        assert!(!line.contains('\n'));
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let mut after = contents(directory.path());
        after.retain(|(name, _)| !name.ends_with("-shm"));
        assert_eq!(names(&after), names(&before), "{expected}");
        assert!(after == before, "{expected}: bytes changed");
    }
}

#[test]
fn a_missing_or_empty_file_is_a_new_database_for_its_owner_only() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "1", 1));
    for name in ["racerd.db", "racerd.db-wal", "racerd.db.lock"] {
        assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
    }
    bench.store.finish().unwrap();
    fs::write(&options.path, "").unwrap();
    let mut bench = Bench::open(options.clone());
    assert_eq!(stored(&bench.append(append("a", "1", 1))).seq, Seq(1));
    let conn = outside(&options.path);
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("auto_vacuum"), 2, "incremental");
    assert_eq!(pragma("application_id"), 0x7261_6372);
    assert_eq!(pragma("user_version"), i64::from(VERSION));
}

/// A process that was killed in its first start leaves what SQLite commits with the first statement.
#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    outside(&options.path).execute_batch("PRAGMA auto_vacuum = INCREMENTAL").unwrap();
    assert_ne!(fs::metadata(&options.path).unwrap().len(), 0, "SQLite commits that by itself");
    let mut bench = Bench::open(options.clone());
    assert_eq!(stored(&bench.append(append("a", "1", 1))).seq, Seq(1));
    bench.store.finish().unwrap();
    let conn = outside(&options.path);
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((pragma("auto_vacuum"), pragma("user_version")), (2, i64::from(VERSION)));
}

#[test]
fn bad_places_are_told_in_words() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let missing = directory.path().join("no/such/racerd.db");
    let line = refusal(StoreOptions { path: missing, ..options.clone() });
    assert!(line.contains("directory") && line.contains("no/such"), "{line}");
    let line = refusal(StoreOptions { path: directory.path().into(), ..options.clone() });
    assert!(line.contains("is not a file"), "{line}");
    // A dangling link names the place where the database will be, with its side files.
    let (disk, link) = (directory.path().join("disk"), directory.path().join("link.db"));
    std::os::unix::fs::symlink("hop.db", &link).unwrap();
    std::os::unix::fs::symlink(disk.join("chat.db"), directory.path().join("hop.db")).unwrap();
    let line = refusal(StoreOptions { path: link.clone(), ..options.clone() });
    assert!(line.contains("directory") && line.contains("/disk "), "{line}");
    fs::create_dir(&disk).unwrap();
    let mut bench = Bench::open(StoreOptions { path: link.clone(), ..options.clone() });
    assert_eq!(stored(&bench.append(append("a", "1", 1))).seq, Seq(1));
    assert!(disk.join("chat.db-wal").exists() && disk.join("chat.db.lock").exists());
    bench.store.finish().unwrap();
    fs::remove_file(disk.join("chat.db")).unwrap();
    fs::remove_file(directory.path().join("hop.db")).unwrap();
    std::os::unix::fs::symlink("link.db", directory.path().join("hop.db")).unwrap();
    let line = refusal(StoreOptions { path: link, ..options.clone() });
    assert!(line.contains("link"), "{line}");
    // The database was moved without its WAL: SQLite alone would delete the WAL.
    let wal = directory.path().join("racerd.db-wal");
    fs::write(&wal, "the last messages").unwrap();
    let line = refusal(options.clone());
    assert!(line.contains("may hold its last messages"), "{line}");
    assert_eq!(fs::read(&wal).unwrap(), b"the last messages");
    assert!(!options.path.exists());
}

#[test]
fn settings_are_set_and_read_back() {
    for (durability, synchronous) in [(Durability::Full, "2"), (Durability::Normal, "1")] {
        let directory = TempDir::new();
        let (_lock, opened) = open(&options(directory.path(), durability)).unwrap();
        let pragma = |conn: &Connection, name: &str| {
            conn.query_row(&format!("PRAGMA {name}"), [], |row| {
                Ok(match row.get_ref(0)? {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str()?.to_owned(),
                })
            })
            .unwrap()
        };
        let writer = [
            ("journal_mode", "wal"),
            ("synchronous", synchronous),
            ("wal_autocheckpoint", "0"),
            ("journal_size_limit", "8388608"),
            ("cache_size", "-512"),
            ("mmap_size", "0"),
            ("max_page_count", "262144"),
        ];
        for (name, expected) in writer {
            assert_eq!(pragma(&opened.writer, name), expected, "{name}");
        }
        for (name, expected) in [("query_only", "1"), ("cache_size", "-512"), ("mmap_size", "0")] {
            assert_eq!(pragma(&opened.reader, name), expected, "reader's {name}");
        }
        assert!(opened.reader.execute_batch("DELETE FROM rooms").is_err());
    }
}

#[test]
fn without_a_size_the_database_may_take_most_of_the_free_space() {
    let directory = TempDir::new();
    let opened = open(&sized(0, directory.path()));
    let pages: i64 = opened.unwrap().1.writer.query_row("PRAGMA max_page_count", [], |row| row.get(0)).unwrap();
    let space = rustix::fs::statvfs(directory.path()).unwrap();
    let share = (space.f_bavail * space.f_frsize / 5 * 4 / 4096).min(0xffff_fffe) as i64;
    assert!((pages - share).abs() <= share / 10, "{pages} pages of about {share}");
}
