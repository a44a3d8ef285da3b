//! What only the log on disk must do: restarts, refusals, faults of the disk, files that vanish, the WAL's length.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::*;
use crate::sqlite::contract::{Bench, TempDir, options, parked, wake};
use crate::store::keys::COMMON;
use crate::store::samples::{ALICE, append, body_of, keyed, read, stored};
use crate::store::{Bounds, Claim, Outcome, Scope, Span};
use crate::types::{Durability, Seq, SessionId};

pub(super) const QUICK: Timing = Timing {
    idle: Duration::from_millis(50),
    pause: Duration::from_millis(1),
    look: Duration::ZERO,
    probe_first: Duration::from_millis(20),
    probe_last: Duration::from_millis(50),
    scrub: Duration::from_millis(10),
    retry: Duration::from_millis(10),
};

pub(super) fn open_quick(options: &StoreOptions) -> Bench {
    let (wake, wakes) = wake();
    let sqlite = Sqlite::open_timed(options, wake, QUICK).unwrap();
    Bench::of(Box::new(sqlite), wakes)
}

pub(super) fn sized(max_database_size: u64, directory: &Path) -> StoreOptions {
    let options = options(directory, Durability::Full);
    StoreOptions { bounds: Bounds { max_database_size, ..options.bounds }, ..options }
}

pub(super) fn refusal(options: StoreOptions) -> String {
    match Sqlite::open(&options, || ()) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// A look from outside, as the `sqlite3` shell has it.
pub(super) fn outside(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(10)).unwrap();
    conn
}

pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

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
        // What is submitted right before the end is stored, too.
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
fn a_restart_keeps_who_is_parked_and_the_token_key() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    assert_eq!((bench.store.token_key(), bench.store.running_seconds()), ([0x3c; 32], 0));
    bench.submit([StoreRequest::Park(parked(1, 5)), StoreRequest::Park(parked(2, 6))]);
    // No answer says that they are there: an orderly end does.
    bench.store.finish().unwrap();

    outside(&options.path).execute_batch("UPDATE meta SET running = running + 1000").unwrap();
    let options = StoreOptions { new_token_key: [0x4d; 32], ..options };
    let mut bench = Bench::open(options.clone());
    assert_eq!(bench.store.token_key(), [0x3c; 32], "tokens outlive the restart");
    assert!(bench.store.running_seconds() >= 1000);
    assert_eq!(bench.claim(1), Some(parked(1, 5)));
    bench.store.finish().unwrap();

    // Too old, by the server's own seconds.
    outside(&options.path).execute_batch("UPDATE meta SET running = running + 8 * 24 * 3600").unwrap();
    let mut bench = Bench::open(options);
    assert_eq!((bench.claim(1), bench.claim(2)), (None, None));
    bench.store.finish().unwrap();
}

#[test]
fn what_cannot_be_parked_now_is_parked_later() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    bench.submit([StoreRequest::Park(parked(1, 1)), StoreRequest::Park(parked(2, 1))]);
    let claim = Claim { ticket: append("a", "1", 1).ticket, session: SessionId([1; 16]) };
    bench.submit([StoreRequest::Claim(claim)]);
    let event = bench.next();
    assert_eq!(event, StoreEvent::ClaimFailed { ticket: claim.ticket, session: claim.session });
    bench.next_available().unwrap_err();
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(bench.claim(1), Some(parked(1, 1)));
    bench.store.finish().unwrap();
    assert_eq!(open_quick(&options).claim(2), Some(parked(2, 1)));
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "1", 1));
    let epoch = bench.store.epoch().clone();
    bench.store.finish().unwrap();
    outside(&options.path)
        .execute_batch(
            "ALTER TABLE meta DROP COLUMN scrubbed; ALTER TABLE meta DROP COLUMN damage; DROP TABLE parked;
             ALTER TABLE meta DROP COLUMN clock; ALTER TABLE meta DROP COLUMN rekey; ALTER TABLE meta DROP COLUMN key_id;
             ALTER TABLE meta DROP COLUMN token_key;
             DROP TABLE sealed_bodies; DROP TABLE sealed_bodies_filled; PRAGMA user_version = 1",
        )
        .unwrap();
    let mut bench = Bench::open(StoreOptions { new_token_key: [7; 32], ..options });
    assert_eq!((bench.store.epoch().clone(), bench.store.token_key()), (epoch, [7; 32]));
    assert_eq!(bench.everything("a").len(), 1);
    bench.submit([StoreRequest::Park(parked(1, 1))]);
    assert_eq!(bench.claim(1), Some(parked(1, 1)));
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
        // As a kill at this moment would leave them.
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

#[test]
fn a_second_racerd_is_refused() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "1", 1));
    let line = refusal(options.clone());
    assert!(line.contains("in use by another racerd") && line.contains("racerd.db.lock"), "{line}");
    // Nor by another name.
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).unwrap();
    assert!(refusal(StoreOptions { path: link, ..options.clone() }).contains("in use"));
    let hard = directory.path().join("hard.db");
    fs::hard_link(&options.path, &hard).unwrap();
    assert!(refusal(StoreOptions { path: hard, ..options.clone() }).contains("in use"));
    // Nor where somebody has tidied up.
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
    // A newer one that was killed: its version stands in the WAL only.
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
    let cases: [(Make, &str); 7] = [
        (&text, "not an SQLite file"),
        (&short, "not an SQLite file"),
        (&other, "another program's"),
        (&plain, "another program's"),
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

#[test]
fn bad_places_are_told_in_words() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let missing = directory.path().join("no/such/racerd.db");
    let line = refusal(StoreOptions { path: missing, ..options.clone() });
    assert!(line.contains("directory") && line.contains("no/such"), "{line}");
    let line = refusal(StoreOptions { path: directory.path().into(), ..options.clone() });
    assert!(line.contains("is not a file"), "{line}");
    // A link without a target is one to where the database is to be, and has its side files there.
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
    // The database was moved without its WAL: SQLite alone would delete what is left.
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
        let (_lock, opened) = open::open(&options(directory.path(), durability)).unwrap();
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
    let opened = open::open(&sized(0, directory.path()));
    let pages: i64 = opened.unwrap().1.writer.query_row("PRAGMA max_page_count", [], |row| row.get(0)).unwrap();
    let space = rustix::fs::statvfs(directory.path()).unwrap();
    let share = (space.f_bavail * space.f_frsize / 5 * 4 / 4096).min(0xffff_fffe) as i64;
    assert!((pages - share).abs() <= share / 10, "{pages} pages of about {share}");
}

#[test]
fn a_full_disk_refuses_whole_batches_and_recovers() {
    let directory = TempDir::new();
    let options = sized(400 << 10, directory.path());
    let mut bench = open_quick(&options);
    let mut kept = 0;
    loop {
        let keys: Vec<String> = (0..20).map(|n| format!("{}", kept + n)).collect();
        let batch: Vec<_> = keys.iter().map(|key| keyed("a", &body_of(1000), ALICE, key)).collect();
        let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
        if outcomes[0] == Outcome::Full {
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Full), "the whole batch fails");
            break;
        }
        kept += 20;
        for (outcome, seq) in outcomes.iter().zip(kept - 19..) {
            assert_eq!(stored(outcome).seq, Seq(seq));
        }
        assert!(kept < 1000, "the bound holds");
    }
    let reason = bench.next_available().unwrap_err();
    assert!(reason.contains("max_database_size") && reason.contains("keep_messages"), "{reason}");
    assert!(reason.contains("racerd.db") && !reason.contains('\n'), "{reason}");
    assert_eq!(bench.append(append("new-room", &body_of(200_000), 1)), Outcome::Full);
    assert_eq!(bench.everything("a").len() as u64, kept, "history is readable, without what was refused");
    assert_eq!(bench.page(read("new-room", Span::Newest, 1, 1)).head, Seq::ZERO);
    assert_eq!(bench.available, [], "failing on is no news");

    // Somebody makes space; the store finds out by itself.
    let conn = outside(&options.path);
    conn.execute("DELETE FROM messages WHERE id <= ?1", [schema::last_id(1, Seq(kept / 2))]).unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    let retried = bench.append(keyed("a", &body_of(1000), ALICE, &format!("{kept}")));
    assert_eq!(stored(&retried).seq, Seq(kept + 1), "a refused key is new, and seqs have no gap");
    let known = bench.append(keyed("a", &body_of(1000), ALICE, &format!("{}", kept - 1)));
    assert!(matches!(known, Outcome::Duplicate { seq, .. } if seq == Seq(kept)), "{known:?}");
    let page = bench.page(read("a", Span::Newest, 1, 1));
    assert_eq!((page.oldest, page.head), (Seq(kept / 2 + 1), Seq(kept + 1)));
    bench.store.finish().unwrap();
}

#[test]
fn a_size_raised_while_running_ends_a_full_disk_at_once_and_a_lowered_one_bounds_growth() {
    let directory = TempDir::new();
    let options = sized(400 << 10, directory.path());
    let mut bench = Bench::open(options.clone());
    let fill = |bench: &mut Bench| {
        let mut stored = 0;
        while matches!(bench.append(append("a", &body_of(50_000), 1)), Outcome::Stored(_)) {
            stored += 1;
            assert!(stored < 100, "the bound holds");
        }
        assert!(bench.next_available().unwrap_err().contains("max_database_size"));
        stored
    };
    assert!(fill(&mut bench) < 8);
    let bounds = Bounds { max_database_size: 1 << 20, ..options.bounds };
    bench.store.set_bounds(bounds);
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(bench.store.bounds(), bounds);
    assert!(fill(&mut bench) > 8);
    // Smaller than what is there: that stays, and nothing is added.
    bench.store.set_bounds(Bounds { max_database_size: 4096, ..bounds });
    assert_eq!(bench.append(append("a", &body_of(50_000), 1)), Outcome::Full);
    assert!(bench.everything("a").len() > 10);
    bench.store.finish().unwrap();
}

#[test]
fn a_database_that_another_program_holds_is_unavailable_for_that_long() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    bench.append(append("a", "1", 1));
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(bench.append(append("a", "2", 1)), Outcome::Unavailable);
    let reason = bench.next_available().unwrap_err();
    assert!(reason.contains("another program holds"), "{reason}");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(stored(&bench.append(append("a", "2", 1))).seq, Seq(2));
}

#[test]
fn files_that_are_gone_or_replaced_take_no_more_messages() {
    let other = TempDir::new();
    Bench::open(options(other.path(), Durability::Full)).store.finish().unwrap();
    let replacement = other.path().join("racerd.db");
    type Deed<'a> = &'a dyn Fn(&Path, &Path);
    let remove_all: Deed = &|database, wal| {
        fs::remove_file(database).unwrap();
        fs::remove_file(wal).unwrap();
    };
    let remove: Deed = &|database, _| fs::remove_file(database).unwrap();
    let remove_wal: Deed = &|_, wal| fs::remove_file(wal).unwrap();
    let rename: Deed = &|database, _| fs::rename(database, database.with_extension("old")).unwrap();
    let replace: Deed = &|database, _| {
        fs::remove_file(database).unwrap();
        fs::copy(&replacement, database).unwrap();
    };
    let replace_wal: Deed = &|_, wal| {
        fs::rename(wal, wal.with_extension("old")).unwrap();
        fs::write(wal, "").unwrap();
    };
    for (n, deed) in [remove_all, remove, remove_wal, rename, replace, replace_wal].into_iter().enumerate() {
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        let mut bench = open_quick(&options);
        bench.append(append("a", "1", 1));
        deed(&options.path, &directory.path().join("racerd.db-wal"));
        let foreign = fs::read(&options.path).ok();
        assert_eq!(bench.append(append("a", "2", 1)), Outcome::Unavailable, "deed {n}");
        let reason = bench.next_available().unwrap_err();
        assert!(reason.contains("restart") && reason.contains("racerd.db"), "{reason}");
        assert_eq!(bench.append(append("a", "3", 1)), Outcome::Unavailable, "until a restart");
        assert_eq!(bench.everything("a").len(), 1, "what was acknowledged can be read");
        assert_eq!(bench.available, []);
        assert!(bench.store.finish().unwrap_err().contains("restart"));
        assert!(fs::read(&options.path).ok() == foreign, "deed {n}: what lies there now is left alone");
    }
}

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
    // The file itself: its told length is that of the last piece of upkeep, and a pause between two rounds may have been
    // long enough to empty it once before.
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

#[test]
fn a_long_queue_is_split_and_stays_in_order() {
    let directory = TempDir::new();
    let mut bench = Bench::open(options(directory.path(), Durability::Full));
    bench.submit((0..10_000).map(|n| StoreRequest::Append(append("a", "1", n))));
    let (mut seen, mut batches) = (0, 0);
    while seen < 10_000 {
        let StoreEvent::Appended(appended) = bench.next() else { panic!("not asked for") };
        batches += 1;
        assert!(appended.len() <= 4096);
        for answer in appended {
            assert_eq!((answer.ticket.tag, stored(&answer.outcome).seq), (seen, Seq(seen + 1)));
            seen += 1;
        }
    }
    assert_eq!(batches, 3);
}

#[test]
fn a_damaged_row_keeps_its_place_as_unreadable_and_all_others_are_as_they_were() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    let damages = [
        "UPDATE messages SET body = x'22ff22'",
        // Text, and no JSON: a frame with it would be one that nobody can read.
        "UPDATE messages SET body = x'226f6b'",
        "UPDATE messages SET body = 7",
        "UPDATE messages SET name = ''",
        "UPDATE messages SET name = x'ff'",
        "UPDATE messages SET member = 'who'",
        "DELETE FROM messages",
    ];
    let mut bench = Bench::open(options.clone());
    let conn = outside(&options.path);
    for (n, damage) in damages.into_iter().enumerate() {
        let name = format!("room{n}");
        bench.append_all((1..=3).map(|n| append(&name, "\"ok\"", n)).collect());
        let id: i64 = conn.query_row("SELECT id FROM rooms WHERE name = ?1", [&name], |row| row.get(0)).unwrap();
        let damaged = conn.execute(&format!("{damage} WHERE id = ?1"), [schema::message_id(id, Seq(2))]);
        assert_eq!(damaged, Ok(1));
        bench.submit([StoreRequest::Read(read(&name, Span::Newest, 10, 1000))]);
        let StoreEvent::Page(page) = bench.next() else { panic!("{damage}: no page") };
        let found: Vec<_> = page.messages.iter().map(|m| (m.seq.0, m.at.0, m.body.is_unreadable())).collect();
        assert_eq!(found, [(1, 1, false), (2, 1, true), (3, 3, false)], "{damage}");
        let why = bench.next();
        assert!(
            matches!(&why, StoreEvent::Unreadable(why) if why.contains(&format!("message 2 of room {name}")) && why.contains("salvage")),
            "{damage}: {why:?}"
        );
        assert!(std::mem::take(&mut bench.damaged), "{damage}: /readyz is not told");
        assert!(!bench.page(read(&name, Span::Newest, 1, 1000)).messages[0].body.is_unreadable());
        assert_eq!(bench.page(read(&name, Span::After(Seq(1)), 1, 1000)).messages[0].seq, Seq(2));
        assert_eq!(stored(&bench.append(append(&name, "4", 4))).seq, Seq(4));
    }
}

#[test]
fn the_common_scope_keeps_its_last_hundred_thousand_keys() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = Bench::open(options.clone());
    bench.append(keyed("a", "1", Scope::Common, "first"));
    bench.append(keyed("a", "1", Scope::Common, "second"));
    bench.store.finish().unwrap();
    let conn = outside(&options.path);
    conn.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < {COMMON})
         INSERT INTO common_keys SELECT 1, randomblob(16), randomblob(16), i, 1 FROM n;
         UPDATE rooms SET head = {COMMON}, common = {COMMON};
         COMMIT;"
    ))
    .unwrap();
    let mut bench = Bench::open(options);
    assert!(matches!(bench.append(keyed("a", "1", Scope::Common, "first")), Outcome::Duplicate { .. }));
    let one_more = bench.append(keyed("a", "1", Scope::Common, "one more"));
    assert_eq!(stored(&one_more).seq, Seq(COMMON as u64 + 1));
    assert!(matches!(bench.append(keyed("a", "1", Scope::Common, "second")), Outcome::Duplicate { .. }));
    assert_eq!(stored(&bench.append(keyed("a", "1", Scope::Common, "first"))).seq, Seq(COMMON as u64 + 2));
    let count: i64 = conn.query_row("SELECT count(*) FROM common_keys", [], |row| row.get(0)).unwrap();
    assert_eq!(count, COMMON as i64);
}

#[test]
fn a_thread_that_panics_says_so_as_its_last_word() {
    let (events, answers) = channel();
    let (wake, wakes) = wake();
    let mut worker = Worker::start("reader", Answers { events, wake: Box::new(wake) }, |requests: Receiver<u32>| {
        let request = requests.recv().unwrap();
        assert_ne!(request, 7, "a panic that this test wants");
    })
    .unwrap();
    worker.send(7);
    wakes.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(answers.recv().unwrap(), StoreEvent::Died(why) if why.contains("reader")));
    worker.send(8);
    assert_eq!(worker.join(), None);
}

#[test]
fn a_room_without_numbers_left_is_refused_alone() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    Bench::open(options.clone()).store.finish().unwrap();
    let conn = outside(&options.path);
    conn.execute("INSERT INTO rooms VALUES (1, 'old', ?1, 5, 0), (0xffffff, 'last', 0, 0, 0)", [(1_i64 << 39) - 2])
        .unwrap();
    let mut bench = Bench::open(options);
    let batch = ["old", "old", "last", "new", "last"].map(|name| append(name, "1", 1)).to_vec();
    let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
    assert_eq!(stored(&outcomes[0]).seq, Seq((1 << 39) - 1));
    assert_eq!(outcomes[1], Outcome::Unavailable);
    assert_eq!(stored(&outcomes[2]).seq, Seq(1));
    assert_eq!(outcomes[3], Outcome::Unavailable);
    assert_eq!(stored(&outcomes[4]).seq, Seq(2));
    assert_eq!(bench.page(read("old", Span::After(Seq::ZERO), 5, 100)).messages[0].seq, Seq((1 << 39) - 1));
    assert_eq!(bench.page(read("old", Span::Newest, 5, 100)).messages.len(), 1, "and none of a neighbour");
    assert_eq!(bench.available, [], "the disk is well");
}
