//! Damage of every kind: what a start says to it, what a salvage keeps, and what a check finds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::damage::{Found, look};
use super::*;
use crate::sqlite::contract::{Bench, TempDir, options, parked};
use crate::sqlite::tests::{open_quick, outside, refusal};
use crate::sqlite::wal::Wal;
use crate::sqlite::{OperationError, Sqlite, StoreOptions};
use crate::store::samples::{ALICE, BOB, append, keyed, read};
use crate::store::{Outcome, Scope, Span, Store as _, StoreEvent, StoreRequest};
use crate::types::{Durability, Message, OnDamage, Seq};

pub(in crate::sqlite) const ROOMS: [&str; 3] = ["lobby", "side.room", "x"];

/// Numbers that look random and are the same each time.
pub(in crate::sqlite) struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub fn garbage(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| self.roll(256) as u8).collect()
    }
}

/// A database as an orderly end leaves it, and all that was said in it.
pub(in crate::sqlite) fn database(directory: &TempDir) -> (PathBuf, BTreeMap<&'static str, Vec<Message>>) {
    let options = options(directory.path(), Durability::Normal);
    let mut bench = Bench::open(options.clone());
    let mut dice = Dice(1);
    for n in 0..300_u64 {
        let room = ROOMS[dice.roll(3) as usize];
        let scope = [ALICE, BOB, Scope::Common][dice.roll(3) as usize];
        let bytes = if n % 10 == 0 { dice.roll(20_000) } else { dice.roll(600) };
        let body = format!("\"{n} {}\"", "y".repeat(bytes as usize));
        assert!(matches!(bench.append(keyed(room, &body, scope, &format!("k{n}"))), Outcome::Stored(_)));
    }
    bench.submit((1..5).map(|n| StoreRequest::Park(parked(n, 1))));
    let said = ROOMS.map(|room| (room, bench.everything(room))).into();
    bench.store.finish().unwrap();
    (options.path, said)
}

/// Says that the last run did not end in order, so that the next start looks through all of it.
fn unclean(path: &Path) {
    outside(path).execute_batch("UPDATE meta SET clean = 0; PRAGMA journal_mode = DELETE").unwrap();
}

fn with_pages(bytes: &[u8], pages: &[usize], mut spoil: impl FnMut(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for page in pages {
        spoil(&mut bytes[page * 4096..(page + 1) * 4096]);
    }
    bytes
}

/// The new database is sound, holds nothing that was not said, keeps the order and what may be repeated, and its heads
/// are no lower; how many messages it holds.
fn is_honest(new: &Path, report: &Salvaged, said: &BTreeMap<&'static str, Vec<Message>>) -> usize {
    let checked = check(new, None).unwrap();
    assert!(checked.is_well(), "{checked:?}");
    let directory = new.parent().unwrap();
    let options = StoreOptions { path: new.into(), ..options(directory, Durability::Normal) };
    let mut bench = Bench::open(options);
    let mut count = 0;
    for (room, said) in said {
        let page = bench.page(read(room, Span::Newest, 0, 0));
        if page.head == Seq::ZERO {
            assert!(report.unnamed > 0 || report.damaged_pages > 0, "{room} is gone: {report}");
            continue;
        }
        assert!(page.head.0 >= said.len() as u64, "{room}: {report}");
        let kept = bench.everything_from(room, page.oldest);
        let mut rest = said.iter();
        for message in &kept {
            let found = rest.find(|said| said.body == message.body).expect("it was said, in this order");
            assert_eq!((&found.author, found.at), (&message.author, message.at));
        }
        count += kept.len();
        let next = bench.append(append(room, "\"after\"", 5000));
        assert!(matches!(next, Outcome::Stored(message) if message.seq == page.head.next()));
    }
    bench.store.finish().unwrap();
    count
}

#[test]
fn garbage_at_many_places_is_told_and_what_is_whole_is_kept() {
    let source = TempDir::new();
    let (path, said) = database(&source);
    unclean(&path);
    let sound = fs::read(&path).unwrap();
    let (pages, total) = (sound.len() / 4096, said.values().map(Vec::len).sum::<usize>());
    let (mut told, mut kept_in_all) = (0, 0);
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let spoilt: Vec<usize> = (0..=dice.roll(3)).map(|_| dice.roll(pages as u64) as usize).collect();
        let whole = dice.roll(2) == 0;
        let bytes = with_pages(&sound, &spoilt, |page| {
            let (from, to) = if whole { (0, 4096) } else { (512 * dice.roll(4) as usize, 2048) };
            let garbage = if dice.roll(3) == 0 { vec![0; to - from] } else { dice.garbage(to - from) };
            page[from..to].copy_from_slice(&garbage);
        });
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        fs::write(&options.path, &bytes).unwrap();

        let new = directory.path().join("new.db");
        let report = salvage(&options.path, &new, None).unwrap();
        let kept = is_honest(&new, &report, &said);
        kept_in_all += kept;
        assert!(kept + 40 * spoilt.len() >= total, "pages {spoilt:?} of seed {seed} cost {} messages", total - kept);
        assert!(fs::read(&options.path).unwrap() == bytes, "the damaged one is as it was");

        // A start sees it or not (the inside of a message is nobody's to know); if so it says what to do, and touches
        // nothing.
        match Sqlite::open(&options, || ()) {
            Ok(store) => Box::new(store).finish().unwrap(),
            Err(error) => {
                told += 1;
                let line = error.to_string();
                assert!(line.contains("racerd salvage") && line.contains("--on-damage salvage"), "seed {seed}: {line}");
                assert!(line.contains("racerd.db is damaged") && !line.contains('\n'), "{line}");
                assert!(fs::read(&options.path).unwrap() == bytes, "not touched");
                let options = StoreOptions { on_damage: OnDamage::Salvage, new_epoch: [seed as u8; 8], ..options };
                let mut bench = Bench::open(options.clone());
                assert_eq!(bench.store.epoch().0.as_ref(), format!("{seed:02x}").repeat(8), "a new world");
                let remarks = bench.store.remarks();
                assert!(remarks[0].contains("racerd.db.damaged-1") && remarks[0].contains("copied"), "{remarks:?}");
                assert!(bench.store.note().is_some_and(|note| note.contains("damaged once")));
                assert!(fs::read(directory.path().join("racerd.db.damaged-1")).unwrap() == bytes);
                assert!(matches!(bench.append(append("lobby", "1", 9)), Outcome::Stored(_)));
                bench.store.finish().unwrap();
                assert!(check(&options.path, None).unwrap().is_well());
            }
        }
    }
    assert!(told >= 26, "only {told} of 40 were seen at the start");
    assert!(kept_in_all > 40 * total * 8 / 10, "{kept_in_all} of {}", 40 * total);
}

impl Bench {
    /// A room's messages from this seq on.
    fn everything_from(&mut self, of: &str, oldest: Seq) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let after = all.last().map_or(Seq(oldest.0 - 1), |message| message.seq);
            let page = self.page(read(of, Span::After(after), 500, 1 << 20));
            all.extend(page.messages);
            if !page.more {
                let contiguous = all.iter().zip(oldest.0..).all(|(message, seq)| message.seq.0 == seq);
                assert!(contiguous, "no hole");
                return all;
            }
        }
    }
}

/// Whatever the bytes are, what comes of them is sound, or there is a reason why nothing does.
#[test]
fn any_bytes_are_salvaged_or_refused() {
    let source = TempDir::new();
    let (path, _) = database(&source);
    let sound = fs::read(&path).unwrap();
    let directory = TempDir::new();
    let (file, new) = (directory.path().join("any"), directory.path().join("new.db"));
    let mut salvaged = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut bytes = match seed % 3 {
            // Single bytes anywhere, lengths and pointers among them.
            0 => {
                let mut bytes = sound.clone();
                for _ in 0..200 {
                    let at = dice.roll(bytes.len() as u64) as usize;
                    bytes[at] = dice.roll(256) as u8;
                }
                bytes
            }
            // The heads of all pages, where their structure is.
            1 => {
                let mut bytes = sound.clone();
                for page in 1..bytes.len() / 4096 {
                    let at = page * 4096 + dice.roll(12) as usize;
                    bytes[at] = dice.roll(256) as u8;
                }
                bytes
            }
            _ => {
                let length = dice.roll(40_000) as usize;
                let mut bytes = dice.garbage(length);
                for at in (0..bytes.len()).step_by(512) {
                    bytes[at] = [0x0d, 0x0a, 0x02, 0x05][dice.roll(4) as usize];
                }
                bytes
            }
        };
        if seed % 2 == 0 && bytes.len() > 100 {
            bytes[..100].copy_from_slice(&sound[..100]);
            bytes[16..18].copy_from_slice(&[[2, 0], [16, 0], [0, 1], [0, 3]][dice.roll(4) as usize]);
        }
        fs::write(&file, &bytes).unwrap();
        fs::write(directory.path().join("any-wal"), dice.garbage(500)).unwrap();
        match salvage(&file, &new, None) {
            Ok(_) => {
                let checked = check(&new, None).unwrap();
                assert!(checked.is_well(), "{seed}: {checked:?}");
                salvaged += 1;
                fs::remove_file(&new).unwrap();
            }
            Err(error) => assert!(!new.exists(), "{error:?}"),
        }
    }
    assert!(salvaged >= 30, "{salvaged}");
}

#[test]
fn a_sound_database_is_copied_whole() {
    let directory = TempDir::new();
    let (path, said) = database(&directory);
    let new = directory.path().join("new.db");
    let report = salvage(&path, &new, None).unwrap();
    assert_eq!((report.messages, report.rooms, report.senders, report.parked), (300, 3, 6, 4), "{report}");
    assert_eq!((report.lost_messages(), report.empty, report.unnamed, report.damaged_pages), (0, 0, 0, 0));
    let mut bench = Bench::open(StoreOptions { path: new.clone(), ..options(directory.path(), Durability::Full) });
    for (room, said) in &said {
        assert_eq!(bench.everything(room), *said);
    }
    assert_eq!(bench.store.token_key(), [0x3c; 32], "tokens hold on");
    assert_eq!(bench.claim(3), Some(parked(3, 1)));
    let first = &said["lobby"][0];
    let n = first.body.as_str()[1..].split(' ').next().unwrap();
    for scope in [ALICE, BOB, Scope::Common] {
        let again = bench.append(keyed("lobby", first.body.as_str(), scope, &format!("k{n}")));
        let known = matches!(again, Outcome::Duplicate { seq: Seq(1), .. });
        let in_window = matches!(scope, Scope::Common);
        assert!(known || !in_window || matches!(again, Outcome::Stored(_)), "{again:?}");
    }
    bench.store.finish().unwrap();
    let again = salvage(&path, &new, None);
    assert!(matches!(&again, Err(OperationError::Asked(text)) if text.contains("exists")), "{again:?}");
    fs::write(directory.path().join("diary"), "dear diary ".repeat(2000)).unwrap();
    let nothing = salvage(&directory.path().join("diary"), &directory.path().join("never.db"), None);
    assert!(
        matches!(&nothing, Err(OperationError::Asked(text)) if text.contains("nothing of racerd's")),
        "{nothing:?}"
    );
    assert!(!directory.path().join("never.db").exists() && !directory.path().join("never.db.partial").exists());
}

#[test]
fn a_cut_file_keeps_what_is_left_of_it() {
    let source = TempDir::new();
    let (path, said) = database(&source);
    unclean(&path);
    let sound = fs::read(&path).unwrap();
    let mut dice = Dice(7);
    for part in 1..8 {
        let length = sound.len() * part / 8 + dice.roll(4096) as usize;
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        fs::write(&options.path, &sound[..length]).unwrap();
        let line = refusal(options.clone());
        assert!(line.contains("is damaged") && line.contains("racerd salvage"), "{line}");
        let new = directory.path().join("new.db");
        let report = salvage(&options.path, &new, None).unwrap();
        let kept = is_honest(&new, &report, &said);
        assert!(part < 6 || kept > 100, "{part}: {report}");
    }
}

#[test]
fn a_damaged_index_costs_no_message() {
    let source = TempDir::new();
    let (path, said) = database(&source);
    unclean(&path);
    let sound = fs::read(&path).unwrap();
    let indexes: Vec<usize> =
        (1..sound.len() / 4096).filter(|page| [0x0a, 0x02].contains(&sound[page * 4096])).collect();
    assert!(indexes.len() >= 4);
    let mut dice = Dice(3);
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    fs::write(&options.path, with_pages(&sound, &indexes, |page| page.copy_from_slice(&dice.garbage(4096)))).unwrap();
    assert!(refusal(options.clone()).contains("is damaged"));
    let new = directory.path().join("new.db");
    let report = salvage(&options.path, &new, None).unwrap();
    assert_eq!((report.messages, report.lost_messages(), report.unnamed), (300, 0, 0), "{report}");
    assert_eq!(is_honest(&new, &report, &said), 300);
}

/// A database that was killed, with its last 50 commits in the WAL.
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

    // Cut within its last transaction: that one was never answered.
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

    // Nothing of the run is left but what was there before it, which says that all was well.
    let conn = outside(&path);
    conn.execute_batch("UPDATE meta SET clean = 1; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(conn);
    bytes[..32].fill(7);
    fs::write(&wal, &bytes).unwrap();
    assert!(refusal(StoreOptions { boot_id: "another".into(), ..options }).contains("-wal"));
    assert!(fs::read(&wal).unwrap() == bytes);
}

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
fn damage_that_is_met_while_running_is_told_and_looked_for_at_the_next_start() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    let options = options(directory.path(), Durability::Full);
    let mut bench = open_quick(&options);
    let mut dice = Dice(11);
    // By the same descriptor rules as any other program: it is open elsewhere, and never closed by us in between.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    for page in 2..pages {
        std::os::unix::fs::FileExt::write_all_at(&file, &dice.garbage(4096), page * 4096).unwrap();
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

/// The page of the file in which this text is.
fn page_with(path: &Path, text: &str) -> u64 {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there");
    (at / 4096) as u64
}

#[test]
fn a_pass_finds_what_nobody_asked_for_and_the_next_start_does_what_it_is_told() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    // Longer ago than any pass.
    outside(&path).execute_batch("UPDATE meta SET scrubbed = NULL").unwrap();
    let options = options(directory.path(), Durability::Full);
    let page = page_with(&path, "\"151 y");
    // In place of the text only, as a medium does that lies: SQLite's own checks find nothing wrong.
    let spoil = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let bytes = fs::read(path).unwrap();
        let from = page * 4096 + 4096 - 200;
        assert!(bytes.len() as u64 > from);
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 100], from).unwrap();
        std::mem::forget(file);
    };
    let mut bench = open_quick(&options);
    spoil(&path);
    let StoreEvent::Unreadable(why) = bench.next() else { panic!("why?") };
    assert!(why.contains("look through the database") && why.contains("salvage"), "{why}");
    assert!(matches!(bench.append(append("new-room", "1", 1)), Outcome::Stored(_)), "appends go on");
    assert!(bench.damaged);
    bench.store.finish().unwrap();

    let line = refusal(options.clone());
    assert!(line.contains("is damaged") && line.contains("found while it was served"), "{line}");
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
    // Strangers read this one.
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
    // It lasts over a start, and a week of running is counted from it.
    Bench::open(options(directory.path(), Durability::Full)).store.finish().unwrap();
    assert!(scrubbed().is_some());
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
fn a_check_says_what_it_finds() {
    let cases = [
        ("DELETE FROM messages WHERE id = (1 << 39) + 5", "message 5 is missing"),
        ("DELETE FROM messages WHERE id = (SELECT max(id) FROM messages WHERE id < 2 << 39)", "but its head is"),
        ("UPDATE rooms SET at = 0 WHERE id = 1", "later than its own time"),
        ("UPDATE rooms SET name = 'a b' WHERE id = 2", "name that no room can have"),
        (
            "INSERT INTO messages SELECT (77 << 39) + 1, at, member, name, body FROM messages LIMIT 1",
            "room 77 that does not",
        ),
        ("UPDATE messages SET name = '' WHERE id = (1 << 39) + 3", "message 3 has no readable author"),
        ("UPDATE keys SET entries = zeroblob(100) WHERE id = 1", "64 whole ones at most"),
        ("UPDATE keys SET room = 99 WHERE id = 1", "keys of a room 99"),
        ("UPDATE common_keys SET seq = 100000 WHERE seq = (SELECT max(seq) FROM common_keys)", "never given"),
        ("UPDATE rooms SET common = common + 1 WHERE id = 1", "common keys"),
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

/// Order is the seq's, and a clock that was days ahead may have been set right.
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
        // What is an error instead is escaped where it is printed.
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

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let directory = TempDir::new();
    let (path, said) = database(&directory);
    let options = options(directory.path(), Durability::Full);
    let name = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let whole = fs::read(&path).unwrap();
    // Decided, and nothing moved yet; the old one moved; its WAL, too.
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
