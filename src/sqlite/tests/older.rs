//! Databases of older versions: each command takes them for what they are, finds what is wrong with them, and loses
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::crypto::at_rest::DataKey;
use crate::sqlite::back::take_back;
use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::schema::VERSION;
use crate::sqlite::tests::{contents, outside, refusal};
use crate::sqlite::{OpenError, OperationError, StoreOptions, backup, check, rekey, restore, salvage};
use crate::store::samples::{ALICE, BOB, keyed};
use crate::store::{Outcome, Scope, StoreRequest};
use crate::testing::{TempDir, older};
use crate::types::{Durability, Message, OnDamage};

const ROOMS: [&str; 2] = ["a", "b"];

/// Number of messages in each room.
const EACH: u64 = 90;

/// A database of an older version, as a clean shutdown leaves it.
struct Older {
    folder: TempDir,
    version: i32,
    options: StoreOptions,
    said: &'static BTreeMap<&'static str, Vec<Message>>,
}

/// The file of a database of the newest version after a clean shutdown, and what was said in it.
type Base = (Vec<u8>, BTreeMap<&'static str, Vec<Message>>);

/// Returns a plain or a sealed one. It is made once for all tests.
fn base(data_key: Option<&DataKey>) -> &'static Base {
    static BASES: [OnceLock<Base>; 2] = [const { OnceLock::new() }; 2];
    BASES[usize::from(data_key.is_some())].get_or_init(|| {
        let folder = TempDir::in_memory();
        let options = StoreOptions { data_key: data_key.cloned(), ..options(folder.path(), Durability::Normal) };
        let mut bench = Bench::open(options.clone());
        for n in 0..EACH {
            let scopes = [ALICE, BOB, Scope::Common, ALICE];
            for (place, room) in ROOMS.iter().enumerate() {
                let scope = scopes[place + usize::try_from(n % 3).unwrap()];
                let append = keyed(room, &n.to_string(), scope, &format!("k{n}"));
                assert!(matches!(bench.append(append), Outcome::Stored(_)));
            }
        }
        bench.submit([StoreRequest::Park(parked(1, 1))]);
        let said = everything(&mut bench);
        bench.store.finish().unwrap();
        outside(&options.path).execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        (fs::read(&options.path).unwrap(), said)
    })
}

impl Older {
    fn new(version: i32, data_key: Option<DataKey>) -> Older {
        let folder = TempDir::in_memory();
        let (file, said) = base(data_key.as_ref());
        let options = StoreOptions { data_key, ..options(folder.path(), Durability::Normal) };
        fs::write(&options.path, file).unwrap();
        let older = Older { folder, version, options, said };
        let key = older.options.data_key.as_ref().filter(|_| older::is_sealed_without_a_salt(version));
        take_back(&outside(&older.options.path), &older::back_to(version), key);
        older
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn change(&self, sql: &str) {
        outside(&self.options.path).execute_batch(sql).unwrap();
    }

    fn faults(&self) -> Vec<String> {
        check(&self.options.path, self.options.data_key.as_ref()).unwrap().faults
    }

    /// Starts a server on this file, and looks whether everything is there.
    fn is_served_from(&self, path: &Path, data_key: Option<DataKey>) {
        let from = version_of(path);
        let mut bench = Bench::open(StoreOptions { path: path.into(), data_key, ..self.options.clone() });
        let told = format!("{} had database version {from}, and has {VERSION} now", path.display());
        let is_told = bench.store.remarks().iter().any(|remark| remark.starts_with(&told));
        assert_eq!(is_told, from < VERSION, "version {}", self.version);
        assert_eq!(&everything(&mut bench), self.said, "version {}", self.version);
        bench.store.finish().unwrap();
        assert_eq!(version_of(path), VERSION, "version {}", self.version);
    }
}

fn everything(bench: &mut Bench) -> BTreeMap<&'static str, Vec<Message>> {
    ROOMS.map(|room| (room, bench.everything(room))).into()
}

fn version_of(path: &Path) -> i32 {
    outside(path).query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn key() -> Option<DataKey> {
    Some(DataKey::new([1; 32]))
}

/// Runs a test on a plain database of each older version, and on a sealed one of each that could be sealed.
fn each(test: impl Fn(Older)) {
    for version in older::versions() {
        test(Older::new(version, None));
        if version >= older::FIRST_SEALED {
            test(Older::new(version, key()));
        }
    }
}

#[test]
fn there_is_a_way_back_to_each_version() {
    assert_eq!(older::versions(), 1..=VERSION - 1);
    each(|older| assert_eq!(version_of(&older.options.path), older.version));
}

#[test]
fn a_check_finds_it_sound_names_its_version_and_changes_nothing() {
    each(|older| {
        let before = contents(older.folder.path());
        let checked = check(&older.options.path, older.options.data_key.as_ref()).unwrap();
        assert!(checked.is_well(), "version {}: {:?}", older.version, checked.faults);
        assert_eq!((checked.version, checked.messages, checked.rooms), (older.version, 2 * EACH, 2));
        let said = format!("it has database version {}; this racerd writes version {VERSION},", older.version);
        assert!(checked.remarks[0].starts_with(&said), "{:?}", checked.remarks);
        let is_sealed = older.options.data_key.is_some() && older::is_sealed_without_a_salt(older.version);
        let old = |remark: &String| remark.contains("sealed as before");
        assert_eq!((checked.remarks.len(), checked.remarks.iter().any(old)), (1 + usize::from(is_sealed), is_sealed));
        assert!(contents(older.folder.path()) == before, "version {}: it was changed", older.version);
        older.is_served_from(&older.options.path, older.options.data_key.clone());
        let checked = check(&older.options.path, older.options.data_key.as_ref()).unwrap();
        assert_eq!((checked.version, checked.faults), (VERSION, vec![]));
        assert!(checked.remarks.iter().all(old), "what was sealed stays: {:?}", checked.remarks);
    });
}

#[test]
fn a_check_finds_what_is_wrong_in_it() {
    /// From this version on, this is wrong.
    const WRONGS: [(i32, &str, &str); 13] = [
        (1, "DELETE FROM messages WHERE id = (1 << 39) + 5", "room a: message 5 is missing"),
        (1, "DELETE FROM messages WHERE id = (1 << 39) + 90", "last message is 89, but its head is 90"),
        (1, "UPDATE rooms SET at = 0 WHERE id = 1", "later than its own time"),
        (1, "UPDATE rooms SET name = 'a b' WHERE id = 2", "name that no room can have"),
        (1, "UPDATE messages SET body = x'ff' WHERE id = (1 << 39) + 3", "message 3 "),
        (1, "UPDATE keys SET entries = zeroblob(100) WHERE session <> x''", "64 whole ones at most"),
        (1, "UPDATE common_keys SET seq = 100000 WHERE seq = (SELECT max(seq) FROM common_keys)", "never given"),
        (1, "UPDATE rooms SET common = common + 1 WHERE id = 1", "common keys"),
        (1, "DROP INDEX common_keys_by_age", "index common_keys_by_age is missing"),
        (2, "DROP TABLE parked", "index parked is missing"),
        (7, "UPDATE messages SET key = x'01' WHERE id = (1 << 39) + 3", "message 3 has a key that is none"),
        (8, "UPDATE rooms SET oldest = oldest + 1 WHERE id = 1", "another oldest message"),
        (9, "INSERT INTO free_rooms (id) VALUES (1)", "1 existing room would be given to others"),
    ];
    for (first, sql, expected) in WRONGS {
        for version in older::versions().filter(|version| *version >= first) {
            let older = Older::new(version, None);
            older.change(sql);
            let faults = older.faults();
            assert!(faults.iter().any(|fault| fault.contains(expected)), "version {version}: {sql}: {faults:?}");
        }
    }
    // A message behind the head in its room's row waits for a fold, but only since there are folds.
    for version in older::versions() {
        let older = Older::new(version, None);
        older.change("UPDATE rooms SET head = head - 1 WHERE id = 1; DELETE FROM keys; DELETE FROM common_keys; UPDATE rooms SET common = 0");
        let found = older.faults().iter().any(|fault| fault.contains("last message is 90, but its head is 89"));
        assert_eq!(found, version < 7, "version {version}");
    }
    // One that is sealed, with another message's record.
    for version in older::versions().filter(|version| *version >= older::FIRST_SEALED) {
        let older = Older::new(version, key());
        older.change(
            "UPDATE messages SET body = (SELECT body FROM messages WHERE id = (1 << 39) + 4) WHERE id = (1 << 39) + 3",
        );
        let faults = older.faults();
        assert!(faults.len() == 1 && faults[0].contains("message 3 cannot be read"), "version {version}: {faults:?}");
    }
}

/// Its tables are not those of the version in its header: nothing that is done by that number would be right.
#[test]
fn tables_of_another_version_are_damage_and_not_migrated() {
    for version in older::versions() {
        for other in (0..VERSION).filter(|other| *other != version) {
            let older = Older::new(version, None);
            older.change(&format!("PRAGMA user_version = {other}"));
            let faults = older.faults();
            assert_eq!(faults.len(), 1, "{version} as {other}: {faults:?}");
            let before = contents(older.folder.path());
            let line = refusal(older.options.clone());
            assert!(line.contains("is damaged") && line.contains(&faults[0]), "{version} as {other}: {line}");
            let line = rekey(&older.options.path, None, key().as_ref(), Box::new(|_, _| ())).unwrap_err().to_string();
            assert!(line.contains("is damaged") && line.contains(&faults[0]), "{version} as {other}: {line}");
            assert!(contents(older.folder.path()) == before, "{version} as {other}: it was changed");
        }
    }
    let older = Older::new(4, None);
    older.change("PRAGMA user_version = -1");
    assert!(older.faults()[0].contains("version -1"), "{:?}", older.faults());
    assert!(refusal(older.options.clone()).contains("is damaged"));
}

/// A salvage knows rows by their shape, so the version in the header does not matter.
#[test]
fn tables_of_another_version_are_salvaged_if_the_start_may_do_that() {
    let older = Older::new(5, None);
    older.change("PRAGMA user_version = 3");
    let mut bench = Bench::open(StoreOptions { on_damage: OnDamage::Salvage, ..older.options.clone() });
    assert_eq!(&everything(&mut bench), older.said);
    bench.store.finish().unwrap();
    assert_eq!((version_of(&older.options.path), version_of(&older.at("racerd.db.damaged-1"))), (VERSION, 3));
}

#[test]
fn a_backup_of_it_is_restored_and_served_with_all_that_was_in_it() {
    each(|older| {
        let (copy, restored) = (older.at("copy"), older.at("restored"));
        backup(&older.options.path, &copy, false, Box::new(|_, _| ())).unwrap();
        assert_eq!(version_of(&copy), older.version);
        let outcome = restore(&copy, &restored, Box::new(|_, _| ())).unwrap();
        assert_eq!((outcome.rooms, outcome.messages), (2, 2 * EACH), "version {}", older.version);
        let said = outcome.version.unwrap();
        assert!(said.starts_with(&format!("has database version {}; ", older.version)), "{said}");
        assert_eq!(version_of(&restored), older.version, "an older racerd reads it");
        let epoch: String = outside(&restored).query_row("SELECT epoch FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(epoch, "", "it is another log");
        older.is_served_from(&restored, older.options.data_key.clone());
        // Its own place, with a newer database in it, which is kept.
        older.is_served_from(&older.options.path, older.options.data_key.clone());
        let outcome = restore(&copy, &older.options.path, Box::new(|_, _| ())).unwrap();
        assert_eq!(version_of(&outcome.kept.unwrap()), VERSION);
        older.is_served_from(&older.options.path, older.options.data_key.clone());
    });
}

#[test]
fn a_damaged_backup_of_it_is_not_restored() {
    for version in older::versions() {
        let older = Older::new(version, None);
        older.change("DELETE FROM messages WHERE id = (1 << 39) + 5");
        let restored = older.at("restored");
        fs::write(&restored, "what was there").unwrap();
        let line = restore(&older.options.path, &restored, Box::new(|_, _| ())).unwrap_err().to_string();
        assert!(line.contains("is damaged: room a: message 5 is missing"), "version {version}: {line}");
        assert_eq!(fs::read_to_string(&restored).unwrap(), "what was there");
        assert!(!older.at("restored.draft").exists());
    }
}

/// A record of damage is about the file in which that was found, and a restored copy was found intact.
#[test]
fn a_restore_forgets_the_damage_that_was_noted() {
    for version in 6..VERSION {
        let older = Older::new(version, None);
        older.change("UPDATE meta SET damage = 'in messages: something'");
        let restored = older.at("restored");
        restore(&older.options.path, &restored, Box::new(|_, _| ())).unwrap();
        let noted: Option<String> =
            outside(&restored).query_row("SELECT damage FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(noted, None, "version {version}");
    }
}

#[test]
fn a_salvage_copies_all_of_it() {
    each(|older| {
        let new = older.at("new");
        let report = salvage(&older.options.path, &new, older.options.data_key.as_ref()).unwrap();
        let found = (report.rooms, report.messages, report.parked, report.lost_messages(), report.damaged_pages);
        let sessions = u64::from(older.version >= 2);
        assert_eq!(found, (2, 2 * EACH, sessions, 0, 0), "version {}: {report}", older.version);
        let checked = check(&new, older.options.data_key.as_ref()).unwrap();
        assert_eq!((checked.version, checked.faults), (VERSION, vec![]));
        older.is_served_from(&new, older.options.data_key.clone());
    });
}

#[test]
fn a_change_of_its_key_brings_it_up_to_date_and_says_so() {
    each(|older| {
        let other = Some(DataKey::new([2; 32]));
        let present = older.options.data_key.as_ref();
        let outcome = rekey(&older.options.path, present, other.as_ref(), Box::new(|_, _| ())).unwrap();
        assert_eq!((outcome.changed, outcome.unreadable), (2 * EACH, 0));
        let said = format!("had database version {}, and has {VERSION} now", older.version);
        assert!(outcome.remarks.iter().any(|remark| remark.contains(&said)), "{:?}", outcome.remarks);
        older.is_served_from(&older.options.path, other);
    });
}

/// The header of a killed one still has the version from before: the new one is in its WAL.
#[test]
fn a_newer_one_is_refused_in_words_by_whatever_reads_it() {
    let older = Older::new(VERSION - 1, None);
    let path = &older.options.path;
    let conn = outside(path);
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA user_version = 999").unwrap();
    let killed = older.at("killed");
    fs::copy(path, &killed).unwrap();
    fs::copy(older.at("racerd.db-wal"), older.at("killed-wal")).unwrap();
    drop(conn);
    let refused = |path: &Path| {
        let to = older.at("to");
        let outcomes: [Result<(), OperationError>; 5] = [
            check(path, None).map(drop),
            backup(path, &to, false, Box::new(|_, _| ())).map(drop),
            restore(path, &to, Box::new(|_, _| ())).map(drop),
            salvage(path, &to, None).map(drop),
            rekey(path, None, key().as_ref(), Box::new(|_, _| ())).map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, OperationError::Open(OpenError::Newer { version: 999, .. })), "{error:?}");
            assert!(error.needs_a_person() && !to.exists(), "{error}");
        }
    };
    refused(path);
    refused(&killed);
}
