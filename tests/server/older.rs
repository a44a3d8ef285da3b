//! The real binary on databases of older versions: no command takes one for damaged, or loses anything of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use racerd::crypto::at_rest::DataKey;
use racerd::sqlite::back::take_back;
use racerd::testing::older;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::command::{racerd, refused};
use crate::copies::read_only;
use crate::support::*;

/// The version that this racerd writes.
fn newest() -> i32 {
    older::versions().end() + 1
}

/// A stopped database of an older version, and its data key.
struct Older {
    folder: TempDir,
    version: i32,
    key: Option<String>,
}

/// What a server has written: a member's messages, a POST with a key, and a session that is parked at the end.
struct Written {
    folder: TempDir,
    key: Option<String>,
    said: Vec<Value>,
}

impl Written {
    fn new(is_sealed: bool) -> Written {
        let folder = TempDir::new();
        let key = is_sealed.then(|| {
            let key = folder.path().join("key").to_str().unwrap().to_owned();
            assert!(racerd(&["keygen", "--data", &key]).status.success());
            key
        });
        let arguments: Vec<&str> = key.iter().flat_map(|key| ["--data-key-file", key]).collect();
        let mut server = Server::start_in(folder, "127.0.0.1:0", &arguments);
        let mut member = server.member("r", "ann");
        for id in 1..=3 {
            member.say(id, json!({"text": id}));
        }
        let posted = "POST /rooms/r/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                      Idempotency-Key: \"a-key-of-22-characters-or-more\"\r\nContent-Length: 1\r\n\r\n4";
        let mut raw = server.raw();
        raw.send(posted);
        assert_eq!(raw.answer().status, 201);
        drop((member, raw));
        let said = server.history("r");
        assert_eq!((server.stop().code(), said.len()), (Some(0), 4));
        let folder = std::mem::take(&mut server.folder);
        Written { folder, key, said }
    }

    /// Copies the database, and takes the copy back to an older version.
    fn as_of(&self, version: i32) -> Older {
        let older = Older { folder: TempDir::new(), version, key: self.key.clone() };
        fs::copy(self.folder.path().join("racerd.db"), older.data()).unwrap();
        let key = self.key.as_ref().map(|file| DataKey::parse(&fs::read(file).unwrap()).unwrap());
        let key = key.filter(|_| older::is_sealed_without_a_salt(version));
        take_back(&Connection::open(older.data()).unwrap(), &older::back_to(version), key.as_ref());
        older
    }
}

impl Older {
    fn data(&self) -> String {
        self.at("racerd.db")
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn change(&self, sql: &str) {
        rusqlite::Connection::open(self.data()).unwrap().execute_batch(sql).unwrap();
    }

    /// Runs a command with the data key.
    fn run(&self, arguments: &[&str]) -> Output {
        let key = self.key.iter().flat_map(|key| ["--data-key-file", key]);
        racerd(&arguments.iter().copied().chain(key).collect::<Vec<_>>())
    }

    /// Runs a command that succeeds. Returns what it prints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(0), "version {}: {arguments:?}: {text}", self.version);
        text
    }

    /// Starts a server on a file, and looks whether everything is there and the version the newest.
    fn is_served_from(&self, path: &str, written: &Written) {
        let folder = TempDir::new();
        fs::copy(path, folder.path().join("racerd.db")).unwrap();
        let arguments: Vec<&str> = self.key.iter().flat_map(|key| ["--data-key-file", key]).collect();
        let mut server = Server::start_in(folder, "127.0.0.1:0", &arguments);
        assert_eq!(server.history("r"), written.said, "version {}", self.version);
        let (from, told) = (version_of(path), server.log().contains(" had database version "));
        assert_eq!(told, from < newest(), "version {}: {}", self.version, server.log());
        assert_eq!(server.stop().code(), Some(0));
        assert_eq!(version_of(server.data()), newest(), "version {}", self.version);
    }
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn version_of(path: impl AsRef<Path>) -> i32 {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// Runs a test on a plain database of each older version, and on a sealed one of each that could be sealed.
fn each(test: impl Fn(&Older, &Written)) {
    for is_sealed in [false, true] {
        let written = Written::new(is_sealed);
        for version in older::versions().filter(|version| !is_sealed || *version >= older::FIRST_SEALED) {
            test(&written.as_of(version), &written);
        }
    }
}

#[test]
fn a_check_names_the_version_and_finds_what_is_wrong() {
    each(|older, _| {
        let before = fs::read(older.data()).unwrap();
        let said = older.done(&["check", &older.data()]);
        let version = format!(
            "it has database version {}; this racerd writes version {}, and raises the database to that when a server first \
             starts on it\n",
            older.version,
            newest()
        );
        let bound = match older.key.is_some() && older::is_sealed_without_a_salt(older.version) {
            true => {
                "4 messages are sealed as before version 12 of the database, not bound to it: another one with the same \
                 data key could pass them off as its own; 'racerd rekey' seals them anew, with another key or the same\n"
            }
            false => "",
        };
        assert_eq!(said, format!("{version}{bound}{} is sound: 4 messages in 1 room\n", older.data()));
        assert!(fs::read(older.data()).unwrap() == before, "version {}: it was changed", older.version);
        older.change("DELETE FROM messages WHERE id = (1 << 39) + 2");
        let output = older.run(&["check", &older.data()]);
        let said = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "version {}: {said}", older.version);
        assert!(said.contains("room r: message 2 is missing") && said.contains("is damaged: 1 fault"), "{said}");
    });
}

/// A look at an older file needs no place to write, beside it or elsewhere.
#[test]
fn it_is_read_where_nobody_can_write() {
    let written = Written::new(false);
    for version in older::versions() {
        let older = written.as_of(version);
        let (data, elsewhere) = (older.data(), TempDir::new());
        let to = elsewhere.path().join("restored");
        for command in [&["check", &data][..], &["restore", &data, "--data", to.to_str().unwrap()]] {
            let output = read_only(older.folder.path(), command);
            assert_eq!(output.status.code(), Some(0), "version {version}: {command:?}: {}", text_of(&output));
        }
        assert_eq!(version_of(&to), version);
    }
}

#[test]
fn a_backup_is_restored_and_served() {
    each(|older, written| {
        let (copy, restored) = (older.at("copy"), older.at("restored"));
        older.done(&["backup", &copy, "--data", &older.data()]);
        let said = older.done(&["restore", &copy, "--data", &restored]);
        let version = format!("\nit has database version {}; this racerd writes version", older.version);
        assert!(said.contains("4 messages in 1 room;") && said.contains(&version), "{said}");
        assert_eq!(version_of(&restored), older.version, "the older racerd reads it, too");
        older.is_served_from(&restored, written);
        // The file itself, as somebody may have copied it while the server was stopped, in the place of a newer one.
        older.is_served_from(&older.data(), written);
        let said = older.done(&["restore", &older.data(), "--data", &restored]);
        assert!(
            said.contains("restored.replaced-1") && older.done(&["check", &restored]).contains(" is sound"),
            "{said}"
        );
        // Damage is refused, with what it is, and leaves what is there.
        rusqlite::Connection::open(&copy)
            .unwrap()
            .execute_batch("DELETE FROM messages WHERE id = (1 << 39) + 2")
            .unwrap();
        let before = fs::read(&restored).unwrap();
        refused(&older.run(&["restore", &copy, "--data", &restored]), "is damaged: room r: message 2 is missing");
        assert!(fs::read(&restored).unwrap() == before && !PathBuf::from(older.at("restored.draft")).exists());
    });
}

#[test]
fn a_salvage_and_a_change_of_key_bring_it_up_to_date() {
    each(|older, written| {
        let new = older.at("new");
        let said = older.done(&["salvage", &older.data(), &new]);
        assert!(
            said.contains("copied 4 messages of 1 room") && said.contains("no message is known to be lost"),
            "{said}"
        );
        older.is_served_from(&new, written);
        let to = older.at("to");
        assert!(racerd(&["keygen", "--data", &to]).status.success());
        let said = older.done(&["rekey", &older.data(), "--new-key", &to]);
        let version = format!("had database version {}, and has {} now", older.version, newest());
        assert!(said.contains(": 4 messages changed") && said.contains(&version), "{said}");
        let rekeyed = Older { folder: TempDir::new(), version: older.version, key: Some(to) };
        rekeyed.is_served_from(&older.data(), written);
    });
}

#[test]
fn a_newer_one_is_refused_in_words() {
    let written = Written::new(false);
    let older = written.as_of(*older::versions().end());
    older.change("PRAGMA user_version = 999");
    let [data, to] = [older.data(), older.at("to")];
    for command in [
        &["check", &data][..],
        &["backup", &to, "--data", &data],
        &["restore", &data, "--data", &to],
        &["salvage", &data, &to],
        &["rekey", &data, "--plain"],
        &["serve", "--listen", "127.0.0.1:0", "--data", &data],
    ] {
        refused(&racerd(command), "was written by a newer racerd (version 999 of the database");
    }
    assert!(!Path::new(&to).exists());
}
