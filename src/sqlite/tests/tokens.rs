//! The key of session tokens: it outlives restarts and upgrades, and does not travel with copies. Whoever has a backup
//! can make no token.

use std::fs;
use std::path::{Path, PathBuf};

use crate::crypto::at_rest::{DataKey, plain_tokens};
use crate::sqlite::back::take_back;
use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::tests::outside;
use crate::sqlite::{StoreOptions, backup, rekey, restore, salvage};
use crate::store::StoreRequest;
use crate::store::samples::append;
use crate::testing::{TempDir, older};
use crate::types::Durability;

/// Random, so that no part of it is in a file by chance.
const SALT: [u8; 32] = [
    0x82, 0xb7, 0x0e, 0xee, 0x7f, 0x1a, 0x50, 0x39, 0xbe, 0xf0, 0x7e, 0xc2, 0x34, 0x7f, 0x06, 0x6e, 0xd0, 0x8f, 0x5d,
    0xc7, 0x51, 0x24, 0x47, 0xe3, 0x40, 0x43, 0x00, 0x02, 0x6b, 0x6e, 0x54, 0x55,
];
const NEXT: [u8; 32] = [0x4e; 32];

/// A database with a message and a parked session, whose server has ended.
struct Log {
    directory: TempDir,
    options: StoreOptions,
}

impl Log {
    fn new(data_key: Option<DataKey>) -> Log {
        let directory = TempDir::new();
        let options = StoreOptions { data_key, new_token_salt: SALT, ..options(directory.path(), Durability::Full) };
        let log = Log { directory, options };
        let mut bench = log.bench();
        bench.append(append("lobby", "1", 1));
        bench.submit([StoreRequest::Park(parked(1, 1))]);
        bench.store.finish().unwrap();
        outside(&log.options.path).execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        log
    }

    fn bench(&self) -> Bench {
        Bench::open(self.options.clone())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a server on a database, and returns the key of its tokens.
    fn key_at(&self, path: &Path) -> [u8; 32] {
        let options = StoreOptions { path: path.to_owned(), new_token_salt: NEXT, ..self.options.clone() };
        let bench = Bench::open(options);
        let key = bench.store.token_key();
        bench.store.finish().unwrap();
        key
    }
}

fn new_key(data_key: Option<&DataKey>) -> [u8; 32] {
    data_key.map_or_else(|| *plain_tokens(&NEXT), |key| *key.tokens(Some(&NEXT)))
}

/// Returns whether so many bytes of these in a row are in a file, from any place on.
fn holds_a_part(path: &Path, bytes: &[u8; 32], part: usize) -> bool {
    let file = fs::read(path).unwrap();
    bytes.windows(part).any(|part| file.windows(part.len()).any(|window| window == part))
}

#[test]
fn no_copy_has_what_tokens_are_made_with() {
    for data_key in [None, Some(DataKey::new([1; 32]))] {
        let log = Log::new(data_key);
        let data_key = log.options.data_key.as_ref();
        let (data, copy, restored) = (log.options.path.clone(), log.at("copy.db"), log.at("restored.db"));
        assert!(holds_a_part(&data, &SALT, 32), "the search finds it where it is");
        backup(&data, &copy, false, Box::new(|_, _| ())).unwrap();
        // Another racerd's restore may be older, and a copy of it by hand is a whole database.
        fs::copy(&data, log.at("by-hand.db")).unwrap();
        restore(&log.at("by-hand.db"), &restored, Box::new(|_, _| ())).unwrap();
        salvage(&data, &log.at("salvaged.db"), data_key).unwrap();
        for path in [&copy, &restored, &log.at("salvaged.db")] {
            assert!(!holds_a_part(path, &SALT, 6), "{}", path.display());
            assert_eq!(log.key_at(path), new_key(data_key), "{}", path.display());
            assert_eq!(log.key_at(path), new_key(data_key), "and it stays so");
        }
        let old = data_key.map_or_else(|| *plain_tokens(&SALT), |key| *key.tokens(Some(&SALT)));
        assert_eq!(log.key_at(&data), old, "the original keeps its own");
    }
}

/// Tokens of before an upgrade hold on, but not in a copy that was made before or after it.
#[test]
fn an_upgrade_in_place_keeps_the_key_and_copies_do_not_have_it() {
    for data_key in [None, Some(DataKey::new([1; 32]))] {
        for version in older::FIRST_SEALED..older::FIRST_WITH_A_TOKEN_SALT {
            let log = Log::new(data_key.clone());
            let (data, data_key) = (log.options.path.clone(), log.options.data_key.as_ref());
            take_back(&outside(&data), &older::back_to(version), data_key);
            let restored = log.at("restored.db");
            restore(&data, &restored, Box::new(|_, _| ())).unwrap();
            // A plain one has stored the key itself, which was the salt in this one.
            let before = data_key.map_or(SALT, |key| *key.tokens(None));
            for _ in 0..2 {
                assert_eq!(log.key_at(&data), before, "{version}: an upgrade resets nobody");
            }
            // A backup that an older racerd made: it has no epoch, but all else.
            let older_copy = log.at("older-copy.db");
            fs::copy(&data, &older_copy).unwrap();
            let void = "UPDATE meta SET epoch = ''; PRAGMA journal_mode = DELETE";
            outside(&older_copy).execute_batch(void).unwrap();
            assert_eq!(log.key_at(&older_copy), new_key(data_key), "{version}");
            let copy = log.at("copy.db");
            backup(&data, &copy, false, Box::new(|_, _| ())).unwrap();
            for path in [&restored, &copy] {
                assert!(!holds_a_part(path, &SALT, 6), "{version}: {}", path.display());
                assert_eq!(log.key_at(path), new_key(data_key), "{version}: {}", path.display());
            }
        }
    }
}

#[test]
fn a_rekey_ends_all_tokens() {
    let log = Log::new(None);
    let (data, key) = (log.options.path.clone(), DataKey::new([1; 32]));
    rekey(&data, None, Some(&key), Box::new(|_, _| ())).unwrap();
    assert!(!holds_a_part(&data, &SALT, 6));
    let options = StoreOptions { data_key: Some(key.clone()), new_token_salt: NEXT, ..log.options.clone() };
    let bench = Bench::open(options);
    assert_eq!(bench.store.token_key(), *key.tokens(Some(&NEXT)));
    bench.store.finish().unwrap();
}
