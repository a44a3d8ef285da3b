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

/// What a salvage seals anew, since it has to move, opens in the salvaged database.
#[test]
fn a_salvage_of_an_older_database_seals_with_a_salt_that_it_keeps() {
    let directory = TempDir::new();
    let options = salted(&directory, 1);
    written(&options, "x");
    let back = older::back_to(older::FIRST_WITH_A_LOG_SALT - 1);
    take_back(&outside(&options.path), &back, Some(&key()));
    // Those before the hole move up to the others.
    outside(&options.path).execute_batch("DELETE FROM messages WHERE id & 63 = 3").unwrap();
    let saved = directory.path().join("saved.db");
    salvage(&options.path, &saved, Some(&key())).unwrap();
    let options = StoreOptions { path: saved, new_log_salt: [9; 16], ..options };
    let mut bench = Bench::open(options.clone());
    let bodies: Vec<String> = bench.everything("a").iter().map(|message| message.body.as_str().to_owned()).collect();
    assert_eq!(bodies, [0, 1, 3, 4].map(|n| format!("\"x {n}\"")));
    assert!(bench.claim(1).is_some(), "a parked session is sealed anew, too");
    bench.store.finish().unwrap();
    assert_eq!(check(&options.path, Some(&key())).unwrap().faults, [""; 0]);
}

#[test]
fn a_salvage_without_the_salt_says_that_nothing_can_be_read() {
    let directory = TempDir::new();
    let options = StoreOptions { on_damage: OnDamage::Salvage, ..salted(&directory, 1) };
    written(&options, "x");
    outside(&options.path).execute_batch("UPDATE meta SET log_salt = x''; UPDATE log_salt SET salt = x''").unwrap();
    for key in [Some(key()), None] {
        let error = salvage(&options.path, &directory.path().join("saved.db"), key.as_ref()).unwrap_err();
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
    let before = fs::read(&options.path).unwrap();
    assert!(refusal(options.clone()).contains("restore a backup"));
    assert!(fs::read(&options.path).unwrap() == before);
}

/// Which of its name a room is stands in its row alone; the messages tell, if that is lost.
#[test]
fn a_salvage_finds_which_of_its_name_a_room_is() {
    let directory = TempDir::new();
    let options = salted(&directory, 1);
    // Three of its name were removed before.
    let mut bench = Bench::open(options.clone());
    bench.append(append("b", "\"first\"", 7));
    bench.store.finish().unwrap();
    let conn = outside(&options.path);
    conn.execute_batch("UPDATE rooms SET era = 3; DELETE FROM messages; UPDATE rooms SET head = 0, oldest = NULL")
        .unwrap();
    conn.execute_batch("INSERT INTO removals (place, count) VALUES (77, 5)").unwrap();
    drop(conn);
    let mut bench = Bench::open(options.clone());
    (0..3).for_each(|n| _ = bench.append(append("b", &n.to_string(), 7)));
    let said = bench.everything("b");
    bench.store.finish().unwrap();
    assert_eq!(said.len(), 3);
    // The row goes, and the name stays in its index.
    let conn = outside(&options.path);
    conn.execute_batch("PRAGMA writable_schema = ON; PRAGMA journal_mode = DELETE").unwrap();
    let root: i64 =
        conn.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'rooms'", [], |row| row.get(0)).unwrap();
    let size: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(conn);
    let mut file = fs::read(&options.path).unwrap();
    let start = ((root - 1) * size) as usize;
    file[start..start + size as usize].fill(0xee);
    fs::write(&options.path, file).unwrap();
    let saved = directory.path().join("saved.db");
    salvage(&options.path, &saved, Some(&key())).unwrap();
    let mut bench = Bench::open(StoreOptions { path: saved, ..options });
    let bodies = |list: &[Message]| list.iter().map(|message| message.body.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(bodies(&bench.everything("b")), bodies(&said));
}

/// An older version was killed in the middle of a rekey: some rows are sealed with the new key, as it did that.
#[test]
fn a_rekey_goes_on_that_an_older_version_began() {
    let directory = TempDir::new();
    let options = salted(&directory, 1);
    written(&options, "x");
    let said = read(&options);
    let (old, new) = (key(), DataKey::new([2; 32]));
    let done = directory.path().join("done.db");
    fs::copy(&options.path, &done).unwrap();
    rekey(&done, Some(&old), Some(&new), Box::new(|_, _| ())).unwrap();
    let back = older::back_to(older::FIRST_WITH_A_LOG_SALT - 1);
    take_back(&outside(&options.path), &back, Some(&old));
    take_back(&outside(&done), &back, Some(&new));
    put(&done, &options.path);
    crate::sqlite::schema::begin_rekey(&outside(&options.path), Some(new.id())).unwrap();
    let outcome = rekey(&options.path, Some(&old), Some(&new), Box::new(|_, _| ())).unwrap();
    assert_eq!((outcome.changed, outcome.unreadable), (5, 0));
    assert_eq!(read(&StoreOptions { data_key: Some(new), ..options }), said);
}
