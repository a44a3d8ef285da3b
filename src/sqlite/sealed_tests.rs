//! A sealed log: the content of its files, refusal of a wrong key, swapped rows, a change of the key, and salvage.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::repair::Rekeyed;
use super::tests::{open_quick, outside, refusal};
use super::*;
use crate::crypto::at_rest::DataKey;
use crate::sqlite::OperationError;
use crate::sqlite::contract::{Bench, options, parked};
use crate::store::samples::{ALICE, append, keyed, read, room};
use crate::store::{Outcome, Scope, Span, StoreEvent, StoreRequest};
use crate::testing::{TempDir, older};
use crate::types::{Digest, Durability, Message, OnDamage, Seq};

/// Returns the text of a refusal that the user has to act on.
fn for_a_person<T: std::fmt::Debug>(outcome: Result<T, OperationError>) -> String {
    let error = outcome.unwrap_err();
    assert!(error.needs_a_person(), "{error:?}");
    error.to_string()
}

fn key(n: u8) -> DataKey {
    DataKey::new([n; 32])
}

fn sealed(directory: &TempDir, n: u8) -> StoreOptions {
    StoreOptions { data_key: Some(key(n)), ..options(directory.path(), Durability::Full) }
}

fn plain(directory: &TempDir) -> StoreOptions {
    options(directory.path(), Durability::Full)
}

/// Texts that a sealed database's files must not contain, but a plain one's do.
const SECRETS: [&str; 3] = ["the-body-of-a-message", "bob", "Zo\u{eb}"];

/// Sends messages, half of them under keys, and parks a session.
fn talk(bench: &mut Bench) {
    for n in 0..40 {
        let body = format!("\"{} {n}\"", SECRETS[0]);
        bench.append(keyed("lobby", &body, [ALICE, Scope::Common][n % 2], &format!("key-{n}")));
        bench.append(append("side", &body, 5));
    }
    bench.submit([StoreRequest::Park(parked(1, 5))]);
}

/// Returns the content of every file in the directory, with its path.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, Vec<u8>)> =
        entries.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

/// Returns the secrets that the files contain: texts, and unkeyed hashes of a key and of a body.
fn found(directory: &Path) -> Vec<String> {
    let mut secrets: Vec<(String, Vec<u8>)> =
        SECRETS.iter().map(|text| ((*text).to_owned(), text.as_bytes().to_vec())).collect();
    secrets.push(("hash of a key".to_owned(), Digest::of(b"key-0").0.to_vec()));
    let body = format!("\"{} 0\"", SECRETS[0]);
    secrets.push(("hash of a body".to_owned(), Digest::of(body.as_bytes()).0.to_vec()));
    let mut found = Vec::new();
    for (name, bytes) in files(directory) {
        for (secret, text) in &secrets {
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(format!("{secret} in {name}"));
            }
        }
    }
    found
}

#[test]
fn nothing_that_was_said_can_be_read_from_the_files() {
    for (is_sealed, expected) in [(false, 5), (true, 0)] {
        let directory = TempDir::new();
        let options = if is_sealed { sealed(&directory, 1) } else { plain(&directory) };
        let mut bench = Bench::open(options.clone());
        talk(&mut bench);
        // The answer to a claim comes after everything parked before is stored.
        assert_eq!(bench.claim(9), None);
        // Before the search, which may take so long that a pause empties it.
        let wal = fs::metadata(directory.path().join("racerd.db-wal")).unwrap().len();
        assert!(wal > 0, "a WAL that can be looked into");
        let running = found(directory.path());
        backup(&options.path, &directory.path().join("copy.db"), false, Box::new(|_, _| ())).unwrap();
        bench.store.finish().unwrap();
        let ended = found(directory.path());
        assert!(running.len() >= expected && ended.len() >= 2 * expected, "{running:?} {ended:?}");
        if is_sealed {
            assert_eq!((running, ended), (Vec::new(), Vec::new()));
            let conn = outside(&options.path);
            let token_key: Option<Vec<u8>> =
                conn.query_row("SELECT token_key FROM meta", [], |row| row.get(0)).unwrap();
            assert_eq!(token_key, None, "nor a key that tokens could be made with");
        }
    }
}

#[test]
fn a_restart_with_the_key_keeps_all_that_a_plain_one_keeps() {
    let directory = TempDir::new();
    let options = sealed(&directory, 1);
    let mut bench = Bench::open(options.clone());
    let (epoch, token_key) = (bench.store.epoch().clone(), bench.store.token_key());
    assert_eq!(token_key, *key(1).tokens(Some(&[0x3c; 32])));
    talk(&mut bench);
    let said = bench.everything("lobby");
    bench.store.finish().unwrap();

    let mut bench = Bench::open(StoreOptions { new_token_salt: [9; 32], new_epoch: [9; 8], ..options });
    assert_eq!((bench.store.epoch(), bench.store.token_key()), (&epoch, token_key));
    assert_eq!(bench.everything("lobby"), said);
    let body = format!("\"{} 0\"", SECRETS[0]);
    let again = bench.append(keyed("lobby", &body, ALICE, "key-0"));
    assert!(matches!(again, Outcome::Duplicate { seq: Seq(1), .. }), "{again:?}");
    let common = bench.append(keyed("lobby", &body.replace('0', "1"), Scope::Common, "key-1"));
    assert!(matches!(common, Outcome::Duplicate { seq: Seq(2), .. }), "{common:?}");
    assert_eq!(bench.append(keyed("lobby", "1", ALICE, "key-0")), Outcome::KeyReused);
    assert_eq!((bench.claim(1), bench.claim(1)), (Some(parked(1, 5)), None));
}

#[test]
fn a_wrong_or_missing_key_is_told_and_touches_nothing() {
    let (directory, other) = (TempDir::new(), TempDir::new());
    for options in [sealed(&directory, 1), plain(&other)] {
        let mut bench = Bench::open(options);
        talk(&mut bench);
        bench.store.finish().unwrap();
    }
    let cases = [
        (plain(&directory), vec![key(1).id().to_string(), "--data-key-file".to_owned()]),
        (sealed(&directory, 2), vec![key(1).id().to_string(), key(2).id().to_string()]),
        (sealed(&other, 1), vec!["racerd rekey".to_owned(), "racerd.db".to_owned()]),
    ];
    for (options, words) in cases {
        let before = fs::read(&options.path).unwrap();
        for on_damage in [OnDamage::Stop, OnDamage::Salvage] {
            let line = refusal(StoreOptions { on_damage, ..options.clone() });
            assert!(words.iter().all(|word| line.contains(word)) && line.contains("not touched"), "{line}");
            assert!(fs::read(&options.path).unwrap() == before, "{line}");
        }
    }
    // The in-memory log seals nothing, and accepts any key.
    contract::open(StoreOptions { durability: Durability::Memory, ..sealed(&other, 1) }, || ());
}

/// Returns the room's messages, and the reports about the unreadable ones.
fn told(bench: &mut Bench, of: &str) -> (Vec<Message>, Vec<String>) {
    let page = bench.page(read(of, Span::After(Seq::ZERO), 500, 1 << 20));
    let stretches = page.messages.chunk_by(|a, b| a.body.is_unreadable() == b.body.is_unreadable());
    let unreadable = stretches.filter(|stretch| stretch[0].body.is_unreadable()).count();
    let told = (0..unreadable).map(|_| match bench.next() {
        StoreEvent::Unreadable(line) => line,
        other => panic!("not told: {other:?}"),
    });
    let told: Vec<String> = told.collect();
    (page.messages, told)
}

#[test]
fn rows_that_were_swapped_moved_or_changed_are_told_and_the_rest_is_served() {
    let swap = "UPDATE messages SET body = (SELECT o.body FROM old o WHERE o.id = CASE messages.id & 15
                    WHEN 2 THEN messages.id + 1 ELSE messages.id - 1 END) WHERE id & 15 IN (2, 3)";
    let cases: [(&str, &[u64]); 9] = [
        (swap, &[2, 3]),
        ("UPDATE messages SET at = at + 1 WHERE id & 15 = 4", &[4]),
        ("UPDATE messages SET member = 1 WHERE id & 15 = 4", &[4]),
        ("UPDATE messages SET member = NULL WHERE id & 15 = 4", &[4]),
        ("UPDATE messages SET member = 'who', body = 7 WHERE id & 15 = 4", &[4]),
        ("UPDATE messages SET body = zeroblob(length(body)) WHERE id & 15 = 4", &[4]),
        ("UPDATE messages SET name = 'eve', body = '\"planted\"' WHERE id & 15 = 4", &[4]),
        (
            "UPDATE messages SET body = (SELECT m.body FROM messages m, rooms r WHERE r.name = 'b' AND
                 m.id = (r.id << 39) + 4) WHERE id & 15 = 4",
            &[4],
        ),
        (
            "UPDATE rooms SET name = CASE name WHEN 'a' THEN 'c' WHEN 'b' THEN 'a' END WHERE name IN ('a', 'b')",
            &[1, 2, 3, 4, 5],
        ),
    ];
    for (damage, expected) in cases {
        let directory = TempDir::new();
        let mut bench = Bench::open(sealed(&directory, 1));
        let append_all = |room| (1..=5).map(|n| append(room, &format!("\"{room}{n}\""), n)).collect();
        bench.append_all(append_all("a"));
        bench.append_all(append_all("b"));
        bench.store.finish().unwrap();
        let path = sealed(&directory, 1).path;
        let only_a = damage.replace("WHERE id & 15", "WHERE id >> 39 = 1 AND id & 15");
        let conn = outside(&path);
        conn.execute("CREATE TEMP TABLE old AS SELECT id, body FROM messages", []).unwrap();
        assert!(conn.execute(&only_a, []).unwrap() > 0);
        drop(conn);

        let with_key = check(&path, Some(&key(1))).unwrap();
        assert!(with_key.faults.len() >= expected.len(), "{damage}: {with_key:?}");
        let mut bench = Bench::open(sealed(&directory, 1));
        let (messages, lines) = told(&mut bench, "a");
        let seqs: Vec<u64> = messages.iter().map(|message| message.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5], "none is missing: {damage}");
        let of_those = |unreadable: bool| messages.iter().filter(move |m| m.body.is_unreadable() == unreadable);
        assert_eq!(of_those(true).map(|message| message.seq.0).collect::<Vec<_>>(), *expected, "{damage}");
        for message in of_those(false) {
            assert_eq!(message.body.as_str(), format!("\"a{}\"", message.seq.0));
        }
        let [line] = &lines[..] else { panic!("{damage}: {lines:?}") };
        let which = match expected {
            [seq] => format!("message {seq} of room a"),
            _ => format!("messages {} to {} of room a", expected[0], expected[expected.len() - 1]),
        };
        assert!(line.contains(&which) && !line.contains('\n'), "{line}");
        assert!(std::mem::take(&mut bench.damaged), "{damage}: /readyz is not told");
        bench.submit([StoreRequest::Read(read("a", Span::Newest, 500, 1 << 20))]);
        assert!(matches!(bench.next(), StoreEvent::Page(_)));
        let next = bench.append(append("a", "\"on\"", 9));
        assert!(matches!(&next, Outcome::Stored(message) if message.seq == Seq(6)), "{next:?}");
    }
}

#[test]
fn a_parked_session_that_was_changed_is_none() {
    let directory = TempDir::new();
    let mut bench = Bench::open(sealed(&directory, 1));
    bench.submit((1..4).map(|n| StoreRequest::Park(parked(n, 5))));
    bench.store.finish().unwrap();
    let conn = outside(&sealed(&directory, 1).path);
    conn.execute("UPDATE parked SET at = at + 1 WHERE session = ?1", [[1_u8; 16]]).unwrap();
    conn.execute(
        "UPDATE parked SET rooms = (SELECT rooms FROM parked WHERE session = ?2) WHERE session = ?1",
        [[2_u8; 16], [3; 16]],
    )
    .unwrap();
    drop(conn);
    let mut bench = Bench::open(sealed(&directory, 1));
    assert_eq!((bench.claim(1), bench.claim(2), bench.claim(3)), (None, None, Some(parked(3, 5))));
}

fn change(path: &Path, present: Option<u8>, to: Option<u8>) -> Result<Rekeyed, OperationError> {
    let (present, to) = (present.map(key), to.map(key));
    rekey(path, present.as_ref(), to.as_ref(), Box::new(|_, _| ()))
}

#[test]
fn a_key_comes_changes_and_goes() {
    let directory = TempDir::new();
    let path = plain(&directory).path;
    let mut bench = Bench::open(plain(&directory));
    talk(&mut bench);
    let said = bench.everything("lobby");
    let epoch = bench.store.epoch().clone();
    let token_key = bench.store.token_key();
    bench.store.finish().unwrap();
    // Leaves old plaintext in free pages.
    outside(&path)
        .execute_batch(
            "DELETE FROM messages WHERE id >> 39 = 2 AND id & 63 < 20;
             UPDATE rooms SET (oldest, oldest_at) = (SELECT id & 63, at FROM messages
                 WHERE id >> 39 = 2 ORDER BY id LIMIT 1) WHERE id = 2",
        )
        .unwrap();
    assert!(found(directory.path()).len() >= 5);

    for (present, to) in [(None, Some(1)), (Some(1), Some(2)), (Some(2), None), (None, Some(1))] {
        let before = fs::read(&path).unwrap();
        assert!(change(&path, present, present).unwrap_err().needs_a_person(), "nothing to do");
        if present.is_some() {
            for wrong in [None, Some(7)] {
                let line = for_a_person(change(&path, wrong, to));
                assert!(line.contains("not touched"), "{line}");
            }
        }
        assert!(fs::read(&path).unwrap() == before, "not touched");
        let outcome = change(&path, present, to).unwrap();
        assert_eq!((outcome.from, outcome.to), (present.map(|n| key(n).id()), to.map(|n| key(n).id())));
        assert_eq!((outcome.changed, outcome.done, outcome.unreadable), (61, 0, 0));
        let names: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 2, "database and lock, no WAL: {names:?}");
        let left = found(directory.path());
        assert_eq!(left.is_empty(), to.is_some(), "{left:?}");
        let record = [&[2_u8][..], &present.map_or([0; 8], |n| key(n).id().0)].concat();
        let database = fs::read(&path).unwrap();
        assert!(!database.windows(9).any(|window| window == record), "nothing is left of the old key's records");

        let options = StoreOptions { data_key: to.map(key), new_token_salt: [0x77; 32], ..plain(&directory) };
        let checked = check(&path, to.map(key).as_ref()).unwrap();
        assert!(checked.is_well() && checked.messages == 61, "{checked:?}");
        let mut bench = Bench::open(options);
        assert_eq!(*bench.store.epoch(), epoch);
        assert_eq!(bench.everything("lobby"), said);
        assert_ne!(bench.store.token_key(), token_key, "tokens of before are good no more");
        assert_eq!(bench.claim(1), None, "and so are the sessions");
        bench.store.finish().unwrap();
    }
}

#[test]
fn a_rekey_that_was_cut_short_goes_on_where_it_was() {
    let directory = TempDir::new();
    let path = plain(&directory).path;
    let mut bench = Bench::open(plain(&directory));
    talk(&mut bench);
    let said = bench.everything("lobby");
    bench.store.finish().unwrap();
    // The state that a kill leaves: the rekey has begun, and some rows are done.
    let sealed_copy = TempDir::new();
    fs::copy(&path, sealed_copy.path().join("racerd.db")).unwrap();
    change(&sealed_copy.path().join("racerd.db"), None, Some(1)).unwrap();
    let conn = outside(&path);
    conn.execute("ATTACH ?1 AS done", [sealed_copy.path().join("racerd.db").to_str().unwrap()]).unwrap();
    let half = "UPDATE messages SET name = '', body = (SELECT body FROM done.messages d WHERE d.id = messages.id)
                WHERE id >> 39 = 1 AND id & 63 <= 25";
    assert_eq!(conn.execute(half, []), Ok(25));
    conn.execute_batch("DETACH done").unwrap();
    schema::begin_rekey(&conn, Some(key(1).id())).unwrap();
    drop(conn);

    for options in [plain(&directory), sealed(&directory, 1)] {
        let line = refusal(options);
        assert!(line.contains("rekey") && line.contains("to finish it"), "{line}");
    }
    let checked = check(&path, None).unwrap();
    assert!(checked.is_well() && checked.remarks.iter().any(|remark| remark.contains("cut short")), "{checked:?}");
    for to in [Some(2), None] {
        let line = for_a_person(change(&path, None, to));
        assert!(line.contains("in the middle") && line.contains(&key(1).id().to_string()), "{line}");
    }
    let outcome = change(&path, None, Some(1)).unwrap();
    assert_eq!((outcome.changed, outcome.done, outcome.unreadable), (80 - 25, 25, 0));
    assert_eq!(found(directory.path()), Vec::<String>::new());
    assert_eq!(Bench::open(sealed(&directory, 1)).everything("lobby"), said);
}

/// While another program's read is open, SQLite leaves the old pages in the file, and the new ones in the WAL.
#[test]
fn a_rekey_ends_only_when_nothing_of_before_is_left() {
    let directory = TempDir::new();
    let path = plain(&directory).path;
    let mut bench = Bench::open(plain(&directory));
    talk(&mut bench);
    bench.store.finish().unwrap();
    let reading = |path: &Path| {
        let conn = outside(path);
        conn.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
        conn
    };
    let held = |outcome: Result<Rekeyed, OperationError>| {
        let Err(OperationError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
        let line = reason.as_str();
        assert!(line.contains("somebody has the database") && line.contains("same command again"), "{line}");
    };

    // A reader that has been there from the beginning, and reads content of the WAL: the rekey does not begin.
    let other = outside(&path);
    other.execute_batch("UPDATE rooms SET at = at + 1").unwrap();
    let reader = reading(&path);
    held(change(&path, None, Some(1)));
    assert_eq!(schema::sealed(&other).unwrap().unwrap(), schema::Sealed::default(), "nothing is begun");
    drop((reader, other));

    // A reader that arrives when all rows are changed.
    let (late, at) = (Arc::new(std::sync::Mutex::new(None)), path.clone());
    let held_here = late.clone();
    let begin = move |done, total| {
        if done == total {
            held_here.lock().unwrap().get_or_insert_with(|| reading(&at));
        }
    };
    held(rekey(&path, None, Some(&key(1)), Box::new(begin)));
    drop(late.lock().unwrap().take());
    assert!(refusal(sealed(&directory, 1)).contains("to finish it"), "it has not ended");
    let outcome = change(&path, None, Some(1)).unwrap();
    assert_eq!((outcome.changed, outcome.done), (0, 80));
    assert_eq!(found(directory.path()), Vec::<String>::new());

    // A sealed database with content in its WAL, as an older racerd has left it: the WAL is emptied, and the rekey not
    // refused.
    let conn = outside(&path);
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    conn.execute_batch("UPDATE rooms SET at = at + 1").unwrap();
    drop(conn);
    let wal = directory.path().join("racerd.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    for name in ["racerd.db.replaced-1", "racerd.db.damaged-2", "racerd.db.draft", "racerd.database"] {
        fs::write(directory.path().join(name), "old text").unwrap();
    }
    let outcome = change(&path, Some(1), Some(1)).unwrap();
    assert!(outcome.only_emptied && !wal.exists());
    let beside: Vec<_> = outcome.beside.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(beside, ["racerd.db.damaged-2", "racerd.db.draft", "racerd.db.replaced-1"]);
    assert!(for_a_person(change(&path, Some(1), Some(1))).contains("already"));
}

#[test]
fn a_rekey_leaves_what_it_cannot_read_as_it_is() {
    let directory = TempDir::new();
    let mut bench = Bench::open(sealed(&directory, 1));
    talk(&mut bench);
    bench.store.finish().unwrap();
    let path = sealed(&directory, 1).path;
    let planted = "UPDATE messages SET name = 'eve', body = '\"planted\"' WHERE id = (1 << 39) + 4";
    let altered = "UPDATE messages SET at = at + 1 WHERE id = (1 << 39) + 6";
    outside(&path).execute_batch(&format!("{planted}; {altered}")).unwrap();
    assert_eq!(
        change(&path, Some(1), Some(2)).unwrap().unreadable,
        2,
        "a plain row is not sealed as if it were genuine"
    );
    let mut bench = Bench::open(sealed(&directory, 2));
    let (messages, lines) = told(&mut bench, "lobby");
    assert_eq!((messages.len(), lines.len()), (40, 2));
}

#[test]
fn a_backup_stays_sealed_and_is_restored_without_the_key() {
    let directory = TempDir::new();
    let options = sealed(&directory, 1);
    let mut bench = open_quick(&options);
    talk(&mut bench);
    assert_eq!(bench.claim(9), None);
    let copy = directory.path().join("copy.db");
    backup(&options.path, &copy, false, Box::new(|_, _| ())).unwrap();
    let said = bench.everything("lobby");
    bench.append(append("lobby", "\"later\"", 9));
    bench.store.finish().unwrap();
    let checked = check(&copy, None).unwrap();
    assert!(checked.is_well() && checked.remarks.iter().any(|line| line.contains("not given")), "{checked:?}");
    restore(&copy, &options.path, Box::new(|_, _| ())).unwrap();
    assert!(refusal(plain(&directory)).contains(&key(1).id().to_string()));
    let mut bench = Bench::open(StoreOptions { new_epoch: [7; 8], ..options });
    assert_eq!(bench.everything("lobby"), said);
    assert_eq!(bench.store.epoch().0.as_ref(), "0707070707070707");
}

/// Creates a sealed database, and overwrites a page of its messages. Returns the messages sent.
fn spoilt(directory: &TempDir) -> Vec<Message> {
    let options = sealed(directory, 1);
    let mut bench = Bench::open(options.clone());
    bench.append_all((0..200).map(|n| append("lobby", &format!("\"{n} {}\"", "y".repeat(300)), n)).collect());
    bench.submit([StoreRequest::Park(parked(2, 5))]);
    let said = bench.everything("lobby");
    bench.store.finish().unwrap();
    let conn = outside(&options.path);
    conn.execute_batch("UPDATE meta SET clean = 0; PRAGMA journal_mode = DELETE").unwrap();
    drop(conn);
    let mut bytes = fs::read(&options.path).unwrap();
    let id = (1_i64 << 39) + 100;
    let page = (0..bytes.len() / 4096).find(|page| {
        // The page whose cells contain the id of a message from the middle, as a varint of six bytes.
        let varint: Vec<u8> =
            (0..6).rev().map(|n| (id >> (7 * n)) as u8 & 0x7f | if n > 0 { 0x80 } else { 0 }).collect();
        bytes[page * 4096] == 0x0d && bytes[page * 4096..(page + 1) * 4096].windows(6).any(|window| window == varint)
    });
    let page = page.expect("it is somewhere");
    bytes[page * 4096..page * 4096 + 4096].fill(0xa5);
    fs::write(&options.path, bytes).unwrap();
    said
}

fn is_part_of(kept: &[Message], said: &[Message]) -> bool {
    let mut rest = said.iter();
    kept.iter().all(|kept| rest.any(|said| said.body == kept.body && said.author == kept.author && said.at == kept.at))
}

#[test]
fn a_salvage_moves_sealed_rows_with_the_key_and_asks_for_it() {
    let directory = TempDir::new();
    let said = spoilt(&directory);
    let path = sealed(&directory, 1).path;
    let new = directory.path().join("new.db");
    for (given, words) in [(None, "--data-key-file"), (Some(key(3)), "the given one is")] {
        let line = for_a_person(salvage(&path, &new, given.as_ref()));
        assert!(line.contains(words), "{line}");
        assert!(!new.exists());
    }
    let report = salvage(&path, &new, Some(&key(1))).unwrap();
    assert!(report.lost_messages() > 0 && report.messages > 150 && report.parked == 1, "{report}");
    assert!(check(&new, Some(&key(1))).unwrap().is_well());
    let mut bench = Bench::open(StoreOptions { path: new, ..sealed(&directory, 1) });
    let page = bench.page(read("lobby", Span::Newest, 500, 1 << 20));
    assert_eq!(page.head, Seq(200));
    assert!(page.messages.iter().all(|message| !message.body.is_unreadable()) && is_part_of(&page.messages, &said));
    assert_eq!(page.messages.len() as u64, report.messages);
    assert!(bench.claim(2).is_some_and(|parked| parked.rooms.len() == 2));
}

#[test]
fn a_start_salvages_a_sealed_database_by_itself() {
    let directory = TempDir::new();
    let said = spoilt(&directory);
    let mut bench = Bench::open(StoreOptions { on_damage: OnDamage::Salvage, ..sealed(&directory, 1) });
    assert!(bench.store.remarks()[0].contains("was damaged"), "{:?}", bench.store.remarks());
    let kept = bench.page(read("lobby", Span::Newest, 500, 1 << 20)).messages;
    assert!(kept.len() > 150 && is_part_of(&kept, &said));
}

#[test]
fn a_salvage_without_holes_needs_no_key_and_no_row_about_the_log() {
    let directory = TempDir::new();
    let mut bench = Bench::open(sealed(&directory, 1));
    talk(&mut bench);
    let said = bench.everything("lobby");
    bench.store.finish().unwrap();
    let path = sealed(&directory, 1).path;
    outside(&path).execute_batch("DELETE FROM meta; PRAGMA journal_mode = DELETE").unwrap();
    let new = directory.path().join("new.db");
    let report = salvage(&path, &new, None).unwrap();
    assert_eq!((report.messages, report.lost_messages(), report.parked), (80, 0, 1));
    assert_eq!(found(directory.path()), Vec::<String>::new());
    let opened = |options: StoreOptions| StoreOptions { path: new.clone(), ..options };
    assert!(refusal(opened(plain(&directory))).contains(&key(1).id().to_string()), "it knows by its rows");
    let mut bench = Bench::open(opened(sealed(&directory, 1)));
    assert_eq!((bench.everything("lobby"), bench.claim(1)), (said, Some(parked(1, 5))));
    assert_eq!(bench.page(read("side", Span::Newest, 1, 1)).room, room("side"));
}

/// A database of an older version: nothing in it is sealed, and a key for it is refused before the migration.
#[test]
fn an_older_database_is_plain() {
    let directory = TempDir::new();
    let conn = Connection::open(plain(&directory).path).unwrap();
    schema::migrate(&conn).unwrap();
    conn.execute_batch(&older::back_to(2)).unwrap();
    conn.execute_batch(
        "INSERT INTO meta (id, epoch, clean, boot, durability, running, token_key) VALUES (1, 'e', 1, '', 'full', 7, NULL)",
    )
    .unwrap();
    drop(conn);
    let before = fs::read(plain(&directory).path).unwrap();
    assert!(refusal(sealed(&directory, 1)).contains("racerd rekey"));
    assert!(fs::read(plain(&directory).path).unwrap() == before);
    let outcome = change(&plain(&directory).path, None, Some(1)).unwrap();
    assert_eq!(outcome.to, Some(key(1).id()));
    assert_eq!(Bench::open(sealed(&directory, 1)).store.running_seconds(), 7);
}
