//! Salvage of a database that is damaged or truncated, or of a file that is no database at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::crypto::at_rest::plain_tokens;
use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::repair::damage_tests::{database, unclean};
use crate::sqlite::repair::{Salvaged, check, salvage};
use crate::sqlite::tests::{outside, refusal};
use crate::sqlite::{Sqlite, StoreOptions};
use crate::store::samples::{ALICE, BOB, append, keyed, read};
use crate::store::{Outcome, Scope, Span, Store as _};
use crate::testing::{Random, TempDir};
use crate::types::{Durability, Message, OnDamage, Seq};

fn with_pages(bytes: &[u8], pages: &[usize], mut spoil: impl FnMut(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for page in pages {
        spoil(&mut bytes[page * 4096..(page + 1) * 4096]);
    }
    bytes
}

/// Checks that the new database is intact, contains only messages that were sent, keeps their order and their keys, and
/// that its heads are no lower. Returns the number of its messages.
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
        let mut random = Random::new(seed);
        let spoilt: Vec<usize> = (0..=random.below(3)).map(|_| random.below(pages)).collect();
        let whole = random.below(2) == 0;
        let bytes = with_pages(&sound, &spoilt, |page| {
            let (from, to) = if whole { (0, 4096) } else { (512 * random.below(4), 2048) };
            let garbage = if random.below(3) == 0 { vec![0; to - from] } else { random.bytes(to - from) };
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

        // A start detects the damage or not (it cannot check the inside of a message). If it does, it says what to do,
        // and touches nothing.
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
    /// Returns a room's messages from this seq on.
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

/// Whatever the bytes are, the result is intact, or there is a reason why there is none.
#[test]
fn any_bytes_are_salvaged_or_refused() {
    let source = TempDir::new();
    let (path, _) = database(&source);
    let sound = fs::read(&path).unwrap();
    let directory = TempDir::new();
    let (file, new) = (directory.path().join("any"), directory.path().join("new.db"));
    let mut salvaged = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut bytes = match seed % 3 {
            // Single bytes anywhere, including lengths and pointers.
            0 => {
                let mut bytes = sound.clone();
                for _ in 0..200 {
                    let at = random.below(bytes.len());
                    bytes[at] = random.below(256) as u8;
                }
                bytes
            }
            // The headers of all pages, which hold their structure.
            1 => {
                let mut bytes = sound.clone();
                for page in 1..bytes.len() / 4096 {
                    let at = page * 4096 + random.below(12);
                    bytes[at] = random.below(256) as u8;
                }
                bytes
            }
            _ => {
                let length = random.below(40_000);
                let mut bytes = random.bytes(length);
                for at in (0..bytes.len()).step_by(512) {
                    bytes[at] = [0x0d, 0x0a, 0x02, 0x05][random.below(4)];
                }
                bytes
            }
        };
        if seed % 2 == 0 && bytes.len() > 100 {
            bytes[..100].copy_from_slice(&sound[..100]);
            bytes[16..18].copy_from_slice(&[[2, 0], [16, 0], [0, 1], [0, 3]][random.below(4)]);
        }
        fs::write(&file, &bytes).unwrap();
        fs::write(directory.path().join("any-wal"), random.bytes(500)).unwrap();
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
    let common: i64 = outside(&path).query_row("SELECT count(*) FROM common_keys", [], |row| row.get(0)).unwrap();
    let report = salvage(&path, &new, None).unwrap();
    assert_eq!((report.messages, report.rooms, report.senders, report.parked), (300, 3, 6, 4), "{report}");
    assert!(common > 0 && report.common == common as u64, "{report}");
    let told = format!("the keys of 6 senders, {common} keys of POSTs without a session, 4 parked sessions; ");
    assert!(report.to_string().contains(&told), "{report}");
    assert_eq!((report.lost_messages(), report.empty, report.unnamed, report.damaged_pages), (0, 0, 0, 0));
    let options = options(directory.path(), Durability::Full);
    let mut bench = Bench::open(StoreOptions { path: new.clone(), new_token_salt: [0x44; 32], ..options });
    for (room, said) in &said {
        assert_eq!(bench.everything(room), *said);
    }
    assert_eq!(bench.store.token_key(), *plain_tokens(&[0x44; 32]), "tokens of before are void");
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
    assert!(
        matches!(&again, Err(error) if error.needs_a_person() && error.to_string().contains("exists")),
        "{again:?}"
    );
    fs::write(directory.path().join("diary"), "dear diary ".repeat(2000)).unwrap();
    let nothing = salvage(&directory.path().join("diary"), &directory.path().join("never.db"), None);
    assert!(
        matches!(&nothing, Err(error) if error.needs_a_person() && error.to_string().contains("nothing of racerd's")),
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
    let mut random = Random::new(7);
    for part in 1..8 {
        let length = sound.len() * part / 8 + random.below(4096);
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
    let mut random = Random::new(3);
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Full);
    fs::write(&options.path, with_pages(&sound, &indexes, |page| page.copy_from_slice(&random.bytes(4096)))).unwrap();
    assert!(refusal(options.clone()).contains("is damaged"));
    let new = directory.path().join("new.db");
    let report = salvage(&options.path, &new, None).unwrap();
    assert_eq!((report.messages, report.lost_messages(), report.unnamed), (300, 0, 0), "{report}");
    assert_eq!(is_honest(&new, &report, &said), 300);
}

/// The rows of a newer racerd may mean something else. Where its version cannot be read, what is there is copied.
#[test]
fn a_newer_database_is_refused_and_not_salvaged_by_guess() {
    let directory = TempDir::new();
    let (path, _) = database(&directory);
    let new = directory.path().join("new.db");
    let refused = |path: &Path| {
        let error = salvage(path, &new, None).unwrap_err();
        let line = error.to_string();
        assert!(line.contains("newer racerd (version 999") && line.contains("update racerd"), "{line}");
        assert!(error.needs_a_person() && !line.contains('\n'), "{line}");
        assert!(!new.exists() && !directory.path().join("new.db.partial").exists());
    };
    // Its version is only in the WAL, and then in the file, too.
    let conn = outside(&path);
    conn.execute_batch("PRAGMA user_version = 999").unwrap();
    let killed = directory.path().join("killed.db");
    fs::copy(&path, &killed).unwrap();
    fs::copy(path.with_extension("db-wal"), killed.with_extension("db-wal")).unwrap();
    refused(&killed);
    conn.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    drop(conn);
    refused(&path);
    let options = StoreOptions { on_damage: OnDamage::Salvage, ..options(directory.path(), Durability::Full) };
    assert!(refusal(options).contains("newer racerd"), "nor does a start salvage it");
    let mut bytes = fs::read(&path).unwrap();
    bytes[72..92].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(salvage(&path, &new, None).unwrap().messages, 300);
    fs::remove_file(&new).unwrap();
    bytes[..100].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(salvage(&path, &new, None).unwrap().messages, 300);
}
