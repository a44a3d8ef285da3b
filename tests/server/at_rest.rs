//! Encryption at rest on the real binary: the key file, the contents of the database's files, and key changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::json;

use crate::command::refused;
use crate::support::*;

fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().expect("the binary")
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Creates a key file in the folder. Returns its path and the output of `keygen`.
fn keygen(folder: &TempDir, name: &str) -> (String, String) {
    let path = folder.path().join(name);
    let path = path.to_str().unwrap();
    let output = racerd(&["keygen", "--data", path]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    (path.to_owned(), text_of(&output))
}

fn sealed() -> (Server, String) {
    let folder = TempDir::new();
    let (key, _) = keygen(&folder, "key");
    let server = Server::start_in(folder, "127.0.0.1:0", &["--request-rate", "0", "--data-key-file", &key]);
    (server, key)
}

/// Returns the files of a database in which this text is readable.
fn readable(data: &Path, text: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(data.parent().unwrap()).unwrap();
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_of_it = name.starts_with("racerd.db") || name.starts_with("copy");
        is_of_it && fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    });
    found
}

#[test]
fn a_key_file_is_made_once_and_is_for_its_owner_only() {
    let folder = TempDir::new();
    let (path, said) = keygen(&folder, "key");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("racerd-data-1 ") && text.len() == 58, "one line of 57 characters");
    assert!(!said.contains(text.trim_end().split(' ').nth(1).unwrap()), "it is not printed");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    refused(&racerd(&["keygen", "--data", &path]), "exists");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    for arguments in [&["keygen"][..], &["keygen", "--data"]] {
        refused(&racerd(arguments), "keygen --data FILE");
    }
    let start = |key: &str| Server::command(&folder, "127.0.0.1:0", &["--data-key-file", key]).output().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&start(&path), "chmod 600");
    refused(&racerd(&["--check-config", "--data-key-file", &path]), "chmod 600");
    refused(&start("/nowhere/key"), "/nowhere/key");
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "racerd-data-1 short\n").unwrap();
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&start(wrong.to_str().unwrap()), "43 characters");
    assert!(!folder.path().join("racerd.db").exists(), "nothing was made meanwhile");
}

#[test]
fn nothing_that_is_said_lies_readable_on_the_disk() {
    let (mut server, key) = sealed();
    let mut ann = server.member("r", "Annabella");
    let acked = ann.say(1, json!("the-secret-of-the-day"));
    server.post("/rooms/r/messages?name=Bartholomew", "{\"text\":\"another-secret\"}");
    let data = server.data();
    let copy = data.with_file_name("copy.db");
    let output = racerd(&["backup", copy.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    let secrets = ["the-secret-of-the-day", "another-secret", "Annabella", "Bartholomew"];
    for secret in secrets {
        assert_eq!(readable(&data, secret), Vec::<PathBuf>::new(), "{secret} while it runs");
    }
    assert!(readable(&data, "racerd.db").len() + readable(&data, "CREATE TABLE").len() > 0, "looked into the files");

    // First after a kill, with other members' history in the WAL; then after an orderly stop, with a parked session.
    server.kill();
    server.restart();
    assert_eq!(server.history("r")[0]["body"], "the-secret-of-the-day");
    assert_eq!(server.history("r")[0]["seq"], acked["seq"]);
    drop(server.member("r", "Christopher"));
    assert_eq!(server.stop().code(), Some(0));
    for secret in secrets.iter().chain(&["Christopher"]) {
        assert_eq!(readable(&data, secret), Vec::<PathBuf>::new(), "{secret} at the end");
    }
    // The backup replaces another database that has the same key.
    let output = racerd(&["restore", copy.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    server.restart();
    assert_eq!(server.history("r")[1]["from"]["name"], "Bartholomew");
    let output = racerd(&["check", "--data", data.to_str().unwrap(), "--data-key-file", &key]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    // A server without encryption leaves all of it readable, which shows that the search works.
    let plain = Server::start(&[]);
    plain.member("r", "Annabella").say(1, json!("the-secret-of-the-day"));
    assert!(!readable(&plain.data(), "the-secret-of-the-day").is_empty());
    assert!(!readable(&plain.data(), "Annabella").is_empty());
}

#[test]
fn a_session_is_resumed_over_a_restart_with_the_same_key() {
    let (mut server, _) = sealed();
    let mut ann = server.client("/ws?name=ann");
    let token = ann.welcome["session"].clone();
    ann.send(json!({"type": "join", "id": 1, "room": "r"}));
    ann.next_of("joined");
    ann.send(json!({"type": "send", "id": 2, "room": "r", "body": "before"}));
    ann.next_of("ack");
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let mut again = server.client("/ws");
    again.send(json!({"type": "resume", "id": 3, "session": token, "cursors": {}}));
    assert_eq!(again.next_of("welcome")["name"], "ann");
    assert_eq!(again.next_of("joined")["room"], "r");
}

#[test]
fn the_wrong_key_ends_the_start_and_touches_nothing() {
    let (mut server, key) = sealed();
    server.member("r", "a").say(1, json!("1"));
    assert_eq!(server.stop().code(), Some(0));
    let before = fs::read(server.data()).unwrap();
    let (other, said) = keygen(&server.folder, "other");
    let id = said.split("data key ").nth(1).unwrap()[..16].to_owned();
    let start = |arguments: &[&str]| Server::command(&server.folder, "127.0.0.1:0", arguments).output().unwrap();
    refused(&start(&[]), "--data-key-file");
    refused(&start(&["--data-key-file", &other]), &id);
    assert!(fs::read(server.data()).unwrap() == before, "not touched");
    // The key comes from systemd's credentials, whose files the group may read.
    let credentials = server.folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(&key, credentials.join("racerd-data-key")).unwrap();
    fs::set_permissions(credentials.join("racerd-data-key"), fs::Permissions::from_mode(0o440)).unwrap();
    let mut command = Server::program();
    let data = server.data();
    command.args(["check", "--data", data.to_str().unwrap()]).env("CREDENTIALS_DIRECTORY", &credentials);
    let output = command.output().unwrap();
    assert!(output.status.success() && !text_of(&output).contains("not given"), "{}", text_of(&output));
    server.restart();
    assert_eq!(server.history("r").len(), 1);
    // An in-memory database has nothing to encrypt.
    let memory = Server::start(&["--durability", "memory", "--data-key-file", &key]);
    assert_eq!(memory.member("r", "a").say(1, json!("1"))["seq"], 1);
}

#[test]
fn a_damaged_row_is_delivered_as_unreadable_and_the_room_goes_on() {
    let (mut server, key) = sealed();
    let mut ann = server.member("r", "ann");
    for n in 1..=5 {
        ann.say(n, json!(n));
    }
    assert_eq!(server.stop().code(), Some(0));
    let conn = rusqlite::Connection::open(server.data()).unwrap();
    let swap =
        "UPDATE messages SET body = (SELECT body FROM messages m WHERE m.id = messages.id + 1) WHERE id & 15 = 3";
    assert_eq!(conn.execute(swap, []), Ok(1));
    drop(conn);
    let output = racerd(&["check", server.data().to_str().unwrap(), "--data-key-file", &key]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(&output).contains("message 3 cannot be read"), "{}", text_of(&output));

    server.restart();
    let history = server.history("r");
    let bodies: Vec<_> = history.iter().map(|message| message["body"].clone()).collect();
    assert_eq!(bodies, [json!(1), json!(2), json!(null), json!(4), json!(5)]);
    assert_eq!((&history[2]["unreadable"], &history[2]["from"]["name"]), (&json!(true), &json!("?")));
    assert!(history[1].get("unreadable").is_none());
    let mut late = server.client("/rooms/r/ws?name=late&last=5");
    late.next_of("joined");
    let seqs: Vec<u64> = (0..5).map(|_| late.next_of("message")["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(late.say(1, json!("on"))["seq"], 6);
    eventually("it is logged", || server.log().contains("message 3 of room r cannot be read"));
}

#[test]
fn a_rekey_that_is_killed_goes_on() {
    let folder = TempDir::new();
    let (key, _) = keygen(&folder, "key");
    let (next, _) = keygen(&folder, "next");
    let mut server = Server::start_in(folder, "127.0.0.1:0", &["--request-rate", "0"]);
    server.member("r", "Annabella").say(1, json!("the-secret-of-the-day"));
    let data = server.data();
    let path = data.to_str().unwrap().to_owned();
    crate::command::ended(&racerd(&["rekey", &path, "--data-key-file", &key]), 1, "in use");
    assert_eq!(server.stop().code(), Some(0));
    let conn = rusqlite::Connection::open(&data).unwrap();
    conn.execute_batch(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO messages (id, at, member, name, body)
             SELECT (1 << 39) + i, (SELECT at FROM rooms), NULL, 'Bartholomew',
             CAST('\"a-secret ' || i || printf('%.200c', 'x') || '\"' AS BLOB) FROM n;
         UPDATE rooms SET head = 60000;
         COMMIT;",
    )
    .unwrap();
    drop(conn);
    refused(&racerd(&["rekey", &path]), "rekey needs a data key");
    refused(&racerd(&["rekey"]), "rekey FILE");
    refused(&racerd(&["rekey", &path, "--plain", "--new-key", &key]), "mutually exclusive");

    let started =
        |key: &str| Server::command(&server.folder, "127.0.0.1:0", &["--data-key-file", key]).output().unwrap();
    let changes: [&[&str]; 3] = [
        &["--data-key-file", &key],
        &["--data-key-file", &key, "--new-key", &next],
        &["--data-key-file", &next, "--plain"],
    ];
    for (turn, change) in changes.into_iter().enumerate() {
        let arguments = [&["rekey", path.as_str()][..], change].concat();
        let before = fs::read(&data).unwrap();
        let wal = data.with_file_name("racerd.db-wal");
        // The kill should come while part of the work is in the database itself or in the WAL. On a busy machine the
        // command may finish before the test has looked or before the kill arrives; the attempt is then repeated from
        // the same starting point.
        let is_cut_short = (0..20).any(|_| {
            let mut rekey = Server::program();
            let mut child = rekey.args(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Nothing is measured by this time: on a machine that is busy elsewhere, 60,000 rows took longer than 30 s.
            within(12 * SOON, "some rows are done", || {
                fs::metadata(&wal).is_ok_and(|wal| wal.len() > 1 << 20) || child.try_wait().unwrap().is_some()
            });
            child.kill().unwrap();
            let was_killed = child.wait().unwrap().code().is_none();
            let is_cut_short = was_killed && text_of(&racerd(&["check", &path])).contains("was cut short");
            if !is_cut_short {
                for left in [&wal, &data.with_file_name("racerd.db-shm")] {
                    drop(fs::remove_file(left));
                }
                fs::write(&data, &before).unwrap();
            }
            is_cut_short
        });
        assert!(is_cut_short, "no kill came in its midst");
        assert!(fs::read(&data).unwrap() != before || fs::metadata(&wal).unwrap().len() > 0);
        refused(&started(&key), "to finish it");
        let output = racerd(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
        let text = text_of(&output);
        assert!(text.contains("had been changed before"), "it did not begin anew: {text}");
        let is_plain = change.contains(&"--plain");
        for secret in ["the-secret-of-the-day", "a-secret", "Annabella", "Bartholomew"] {
            assert_eq!(readable(&data, secret).is_empty(), !is_plain, "{secret} after change {turn}");
        }
        assert!(!wal.exists(), "no WAL is left");
    }
    server.restart();
    let page = server.get("/rooms/r/messages?after=59990").json();
    assert_eq!(page["messages"].as_array().unwrap().len(), 10);
    assert_eq!(server.get("/rooms/r/messages?after=0&limit=1").json()["messages"][0]["body"], "the-secret-of-the-day");
    assert_eq!(racerd(&["check", &path]).status.code(), Some(0));
}
