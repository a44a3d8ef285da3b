//! To what a sealed row is bound: its database, and which of its name its room is. The salt by which a database is told
//! from another one outlives damage in one of its two places.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::crypto::at_rest::DataKey;
use crate::sqlite::back::take_back;
use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::tests::{outside, refusal};
use crate::sqlite::{StoreOptions, backup, check, rekey, restore, salvage};
use crate::store::StoreRequest;
use crate::store::samples::append;
use crate::testing::{TempDir, older};
use crate::types::{Durability, Message, OnDamage};

fn key() -> DataKey {
    DataKey::new([1; 32])
}

/// Returns the options of a database that is made with this salt.
fn salted(directory: &TempDir, salt: u8) -> StoreOptions {
    StoreOptions { data_key: Some(key()), new_log_salt: [salt; 16], ..options(directory.path(), Durability::Full) }
}

/// Makes a database in which something was said, and ends its server.
fn written(options: &StoreOptions, what: &str) {
    let mut bench = Bench::open(options.clone());
    (0..5).for_each(|n| _ = bench.append(append("a", &format!("\"{what} {n}\""), 7)));
    bench.submit([StoreRequest::Park(parked(1, 5))]);
    bench.store.finish().unwrap();
}

fn read(options: &StoreOptions) -> Vec<Message> {
    let mut bench = Bench::open(options.clone());
    let messages = bench.everything("a");
    bench.store.finish().unwrap();
    messages
}

/// Copies message 3 of the room from one file to the other, as it is.
fn put(from: &Path, to: &Path) {
    let conn = outside(to);
    conn.execute("ATTACH ?1 AS other", [from.to_str().unwrap()]).unwrap();
    let sql = "UPDATE messages SET (at, member, name, body) =
                   (SELECT at, member, name, body FROM other.messages o WHERE o.id = messages.id)
               WHERE id & 63 = 3";
    assert_eq!(conn.execute(sql, []), Ok(1));
}

/// The attack: a row of another database under the same data key, put at its own place.
#[test]
fn a_row_of_another_database_does_not_open() {
    let (one, other) = (TempDir::new(), TempDir::new());
    let (one, other) = (salted(&one, 1), salted(&other, 2));
    written(&one, "here");
    written(&other, "there");
    put(&other.path, &one.path);
    let faults = check(&one.path, Some(&key())).unwrap().faults;
    assert_eq!(faults, ["room a: message 3 cannot be read: it was changed or moved on the disk"]);
    let unreadable: Vec<bool> = read(&one).iter().map(|message| message.body.is_unreadable()).collect();
    assert_eq!(unreadable, [false, false, true, false, false]);
}

/// A room that was removed comes again under its name, and begins at 1.
#[test]
fn a_row_of_a_room_of_before_does_not_open() {
    let (before, now) = (TempDir::new(), TempDir::new());
    let (before, now) = (salted(&before, 1), salted(&now, 1));
    written(&before, "before");
    written(&now, "now");
    // The same database as far as its salt says. What it seals from now on is of the next room of this name.
    let next = |options: &StoreOptions| outside(&options.path).execute("UPDATE rooms SET era = 1", []).unwrap();
    next(&now);
    assert!(read(&now).iter().all(|message| message.body.is_unreadable()));
    put(&before.path, &now.path);
    assert!(read(&now).iter().all(|message| message.body.is_unreadable()), "at its seq, but of the room before");
}

/// Copies are the same database as their original.
#[test]
fn copies_and_a_salvage_keep_the_salt() {
    let directory = TempDir::new();
    let options = salted(&directory, 1);
    written(&options, "x");
    let said = read(&options);
    let [copy, restored, saved] = ["copy.db", "restored.db", "saved.db"].map(|name| directory.path().join(name));
    backup(&options.path, &copy, false, Box::new(|_, _| ())).unwrap();
    restore(&copy, &restored, Box::new(|_, _| ())).unwrap();
    for (path, key) in [(saved, Some(key())), (directory.path().join("without-a-key.db"), None)] {
        salvage(&options.path, &path, key.as_ref()).unwrap();
        let options = StoreOptions { path, new_log_salt: [9; 16], ..options.clone() };
        assert_eq!(read(&options), said);
    }
    for path in [copy, restored] {
        let options = StoreOptions { path, new_log_salt: [9; 16], ..options.clone() };
        assert_eq!(read(&options), said);
    }
}

#[test]
fn one_of_the_two_places_of_the_salt_is_enough() {
    for damage in [
        "UPDATE meta SET log_salt = x'00'",
        "UPDATE meta SET log_salt = NULL",
        "UPDATE meta SET log_salt = 'text'",
        "UPDATE log_salt SET salt = zeroblob(20)",
        "DELETE FROM log_salt",
    ] {
        let directory = TempDir::new();
        let options = salted(&directory, 1);
        written(&options, "x");
        let said = read(&options);
        outside(&options.path).execute_batch(damage).unwrap();
        let faults = check(&options.path, Some(&key())).unwrap().faults;
        assert!(matches!(&faults[..], [one] if one.contains("one of the two places of the salt")), "{faults:?}");
        let saved = directory.path().join("saved.db");
        salvage(&options.path, &saved, Some(&key())).unwrap();
        assert_eq!(read(&StoreOptions { path: saved, new_log_salt: [9; 16], ..options.clone() }), said, "{damage}");
        assert_eq!(read(&StoreOptions { new_log_salt: [9; 16], ..options.clone() }), said, "{damage}");
        assert_eq!(check(&options.path, Some(&key())).unwrap().faults, [""; 0], "{damage}: the start has mended it");
    }
}

/// A new salt would make everything unreadable for good, although a backup may still have the old one.
#[test]
fn where_the_salt_is_lost_no_server_starts_on_what_is_sealed() {
    let lose = "UPDATE meta SET log_salt = x''; UPDATE log_salt SET salt = x''";
    let directory = TempDir::new();
    let options = StoreOptions { on_damage: OnDamage::Stop, ..salted(&directory, 1) };
    written(&options, "x");
    outside(&options.path).execute_batch(lose).unwrap();
    let before = fs::read(&options.path).unwrap();
    let line = refusal(options.clone());
    assert!(line.contains("salt") && line.contains("damaged"), "{line}");
    assert!(fs::read(&options.path).unwrap() == before, "it was changed");
    let faults = check(&options.path, Some(&key())).unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains("damaged in both its places")), "{faults:?}");
    // Nothing is sealed in a plain one.
    let directory = TempDir::new();
    let plain = StoreOptions { data_key: None, ..salted(&directory, 1) };
    written(&plain, "x");
    let said = read(&plain);
    outside(&plain.path).execute_batch(lose).unwrap();
    assert_eq!(read(&plain), said);
    assert_eq!(check(&plain.path, None).unwrap().faults, [""; 0]);
}

/// What older versions have sealed opens, and is sealed anew by a rekey, also with the same key.
#[test]
fn a_rekey_with_the_same_key_seals_old_rows_anew() {
    let directory = TempDir::new();
    let options = salted(&directory, 1);
    written(&options, "x");
    let said = read(&options);
    let back = older::back_to(older::FIRST_WITH_A_LOG_SALT - 1);
    take_back(&outside(&options.path), &back, Some(&key()));
    let formats = |conn: &Connection| -> (i64, i64) {
        let sql = "SELECT count(*), count(*) FILTER (WHERE substr(body, 1, 1) = x'02') FROM messages WHERE id > 0";
        conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(formats(&outside(&options.path)), (5, 0));
    assert_eq!(read(&options), said);
    let mut bench = Bench::open(options.clone());
    bench.append(append("a", "\"new\"", 7));
    let said = bench.everything("a");
    bench.store.finish().unwrap();
    assert_eq!(formats(&outside(&options.path)), (6, 1), "what is new is bound");
    let remarks = check(&options.path, Some(&key())).unwrap().remarks;
    assert!(remarks.iter().any(|remark| remark.starts_with("5 messages are sealed as before")), "{remarks:?}");
    let outcome = rekey(&options.path, Some(&key()), Some(&key()), Box::new(|_, _| ())).unwrap();
    assert_eq!((outcome.changed, outcome.done, outcome.unreadable), (5, 1, 0));
    assert_eq!(formats(&outside(&options.path)), (6, 6));
    assert_eq!(read(&options), said);
    assert_eq!(check(&options.path, Some(&key())).unwrap().remarks, [""; 0]);
    assert!(rekey(&options.path, Some(&key()), Some(&key()), Box::new(|_, _| ())).unwrap_err().needs_a_person());
}
