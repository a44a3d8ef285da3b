//! The log over its lifetime: epochs, damage, retention, its size limit, and the backup commands.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use racerd::testing::Random;
use serde_json::{Value, json};

use crate::command::{ended, refused};
use crate::support::*;

fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).output().expect("the binary")
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn epoch(server: &Server) -> Value {
    server.get("/rooms/r/messages").json()["epoch"].clone()
}

fn outside(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// Joins with a cursor of this epoch. Returns `joined`.
fn rejoin(server: &Server, after: u64, epoch: &Value) -> Value {
    let path = format!("/rooms/r/ws?name=a&after={after}&epoch={}", epoch.as_str().unwrap());
    server.client(&path).next_of("joined")
}

#[test]
fn the_epoch_holds_where_no_seq_can_be_given_twice_and_changes_where_one_could() {
    for (durability, keeps) in [("full", true), ("normal", false)] {
        let mut server = Server::start(&["--durability", durability]);
        let first = epoch(&server);
        for id in 1..=5 {
            server.member("r", "a").say(id, json!(id));
        }
        // A kill within the same boot loses nothing.
        server.kill();
        server.restart();
        assert_eq!(epoch(&server), first, "{durability}");
        assert_eq!(server.history("r").len(), 5);
        server.kill();
        // This simulates a reboot since.
        let conn = outside(&server.data());
        conn.execute("UPDATE meta SET boot = 'the boot before'", []).unwrap();
        drop(conn);
        server.restart();
        let second = epoch(&server);
        assert_eq!(second == first, keeps, "{durability}");
        let joined = rejoin(&server, 5, &first);
        assert_eq!((&joined["recovered"], &joined["epoch"]), (&json!(keeps), &second));
        // An orderly stop is remembered across a reboot.
        assert_eq!(server.stop().code(), Some(0));
        outside(&server.data()).execute("UPDATE meta SET boot = 'the boot before'", []).unwrap();
        server.restart();
        assert_eq!(epoch(&server), second, "{durability}");
        // The database file is deleted.
        assert_eq!(server.stop().code(), Some(0));
        fs::remove_file(server.data()).unwrap();
        server.restart();
        assert_ne!(epoch(&server), second);
        assert_eq!(rejoin(&server, 5, &second)["recovered"], false);
    }
}

/// Fills a room and kills the server, so that the next start checks the whole database.
fn killed(arguments: &[&str], messages: u64) -> Server {
    let mut server = Server::start(arguments);
    let mut client = server.member("r", "a");
    for id in 1..=messages {
        client.say(id, json!(format!("{id} {}", "x".repeat(1000))));
    }
    server.kill();
    let conn = outside(&server.data());
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(conn);
    server
}

/// Overwrites some pages of a file.
fn spoil(path: &Path, pages: impl IntoIterator<Item = usize>) {
    let mut bytes = fs::read(path).unwrap();
    let mut random = Random::new(5);
    for page in pages {
        bytes[page * 2048..(page + 1) * 2048].fill_with(|| random.below(256) as u8);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_database_stops_the_start_and_can_be_salvaged_by_hand() {
    let server = killed(&["--request-rate", "0"], 300);
    let data = server.data();
    spoil(&data, [30, 40]);
    let before = fs::read(&data).unwrap();
    let output = Server::command(&server.folder, "127.0.0.1:0", &[]).output().unwrap();
    refused(&output, "is damaged");
    let line = text_of(&output);
    assert!(line.contains("racerd salvage") && line.contains("--on-damage salvage"), "{line}");
    assert!(fs::read(&data).unwrap() == before, "not touched");

    let path = data.to_str().unwrap();
    let checked = racerd(&["check", path]);
    assert_eq!(checked.status.code(), Some(1), "{}", text_of(&checked));
    assert!(text_of(&checked).contains("racerd salvage"));
    let new = server.folder.path().join("new.db");
    let new_path = new.to_str().unwrap();
    let salvaged = racerd(&["salvage", path, new_path]);
    assert_eq!(salvaged.status.code(), Some(0), "{}", text_of(&salvaged));
    assert!(text_of(&salvaged).contains("messages are lost"), "{}", text_of(&salvaged));
    assert_eq!(racerd(&["salvage", path, new_path]).status.code(), Some(2), "the new one exists");
    assert!(fs::read(&data).unwrap() == before, "the damaged one is as it was");
    assert_eq!(racerd(&["check", new_path]).status.code(), Some(0));
    let restored = racerd(&["restore", new_path, "--data", path]);
    assert_eq!(restored.status.code(), Some(0), "{}", text_of(&restored));
    assert!(fs::read(beside(&data, ".replaced-1")).unwrap() == before, "kept");

    let mut server = server;
    server.restart();
    let page = server.get("/rooms/r/messages?limit=200").json();
    assert_eq!(page["head"], 300, "the head has not gone back");
    assert_eq!(page["messages"].as_array().unwrap().last().unwrap()["seq"], 300);
    assert!(page["oldest"].as_u64().unwrap() > 1, "what was lost counts as pruned");
    assert_eq!(server.member("r", "a").say(1, json!("on"))["seq"], 301);
}

#[test]
fn a_gateway_salvages_by_itself() {
    let mut server = killed(&["--request-rate", "0", "--on-damage", "salvage"], 300);
    server.restart();
    let first = epoch(&server);
    assert_eq!(server.get("/readyz").body, "{\"ready\":true}");
    server.kill();
    let data = server.data();
    outside(&data).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    // The lost pages include the file's first.
    spoil(&data, [0, 30]);
    assert_eq!(racerd(&["check", "--data", data.to_str().unwrap()]).status.code(), Some(1));
    let damaged = fs::read(&data).unwrap();
    for round in 0..2 {
        server.restart();
        assert_ne!(epoch(&server), first);
        let ready = server.get("/readyz");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
        assert!(ready.json()["note"].as_str().unwrap().contains("damaged once"), "round {round}: {ready:?}");
        assert_eq!(racerd(&["health", &format!("http://{}", server.address)]).status.code(), Some(0));
        assert_eq!(server.log().matches("was damaged").count(), 1, "{}", server.log());
        let joined = rejoin(&server, 300, &first);
        assert_eq!(joined["recovered"], false);
        let head = server.get("/rooms/r/messages").json()["head"].as_u64().unwrap();
        assert_eq!(server.member("r", "a").say(1, json!("on"))["seq"], head + 1);
        assert!(head >= 300);
        assert_eq!(server.stop().code(), Some(0));
    }
    assert!(fs::read(beside(&data, ".damaged-1")).unwrap() == damaged);
    fs::remove_file(beside(&data, ".damaged-1")).unwrap();
    server.restart();
    assert_eq!(server.get("/readyz").body, "{\"ready\":true}", "nobody needs the note any more");
}

#[test]
fn damage_that_is_met_is_told_and_the_next_start_acts_on_it() {
    let mut server = Server::start(&["--request-rate", "0", "--on-damage", "salvage"]);
    let mut member = server.member("r", "a");
    for n in 1..=300 {
        member.say(n, json!(format!("{n} {}", "x".repeat(200))));
    }
    drop(member);
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    assert_eq!(server.get("/readyz").body, "{\"ready\":true}");
    // The damage happens while the server runs, on pages that it has not read yet.
    let data = server.data();
    let bytes = fs::read(&data).unwrap();
    let page = bytes.windows(6).position(|window| window == b"\"100 x").unwrap() / 2048;
    let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
    let mut random = Random::new(9);
    let garbage: Vec<u8> = random.bytes(8192);
    file.write_all_at(&garbage, page as u64 * 2048).unwrap();
    assert!(server.get("/rooms/r/messages?after=0&limit=200").body.contains("\"unreadable\":true"));
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 200, "messages are taken");
    let note = ready.json()["note"].as_str().unwrap().to_owned();
    assert!(note.contains("cannot be read") && !note.contains("racerd.db"), "{note}");
    assert_eq!(server.member("other", "a").say(1, json!("on"))["seq"], 1);
    eventually("it is logged", || server.log().contains("of room r cannot be read"));
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    // Notes about the opened database are logged after the line that the server has started.
    eventually("the next start salvages", || {
        let log = server.log();
        log.contains("racerd.db was damaged") && log.contains("racerd.db.damaged-1")
    });
    assert_eq!(server.get("/readyz").json()["note"].as_str().map(|note| note.contains("cannot be read")), Some(false));
    assert_eq!(server.get("/rooms/other/messages").json()["head"], 1);
    assert_eq!(server.get("/rooms/r/messages").json()["head"], 300, "the head has not gone back");
}

#[test]
fn rooms_keep_their_newest_messages() {
    let mut server = Server::start(&["--request-rate", "0"]);
    let first = epoch(&server);
    let mut client = server.member("r", "a");
    for id in 1..=200 {
        client.say(id, json!(id));
    }
    drop(client);
    assert_eq!(server.stop().code(), Some(0));
    let folder = std::mem::replace(&mut server.folder, TempDir::new());
    let server = Server::start_in(folder, "127.0.0.1:0", &["--keep-messages", "50", "--request-rate", "0"]);
    let page = || server.get("/rooms/r/messages?limit=200").json();
    eventually("the older ones go", || page()["oldest"] == 151);
    assert_eq!((&page()["head"], page()["messages"].as_array().unwrap().len()), (&json!(200), 50));
    // A cursor within the kept messages is served without a gap; an older one is reported as not recovered.
    let joined = rejoin(&server, 180, &first);
    assert_eq!((&joined["recovered"], &joined["from"]), (&json!(true), &json!(181)));
    let joined = rejoin(&server, 100, &first);
    assert_eq!((&joined["recovered"], &joined["from"]), (&json!(false), &json!(151)));
    let mut client = server.member("r", "a");
    for id in 1..=30 {
        assert_eq!(client.say(id, json!(id))["seq"], 200 + id, "seqs go on");
    }
    eventually("and on", || page()["oldest"] == 181);
}

#[test]
fn a_database_at_its_bound_says_which_setting_it_is() {
    let server = Server::start(&["--max-database-size", "1MiB", "--request-rate", "0"]);
    let mut client = server.member("r", "a");
    let mut refusal = Value::Null;
    for id in 0..200 {
        client.send(json!({"type": "send", "id": id, "body": "x".repeat(20_000)}));
        let answer = client.next().unwrap();
        if answer["type"] == "error" {
            refusal = answer;
            break;
        }
        client.next_of("message");
    }
    assert_eq!(refusal["code"], "storage_unavailable");
    let said = refusal["message"].as_str().unwrap();
    let advice = "its operator can raise that, let old messages expire (keep_messages, keep_for), or free disk space";
    assert!(said.contains("max_database_size") && said.contains(advice), "{refusal}");
    let post = server.post("/rooms/r/messages", &json!("x".repeat(30_000)).to_string());
    assert!(post.status == 503 && post.body.contains("max_database_size"), "{post:?}");
    let ready = server.get("/readyz");
    assert!(ready.status == 503 && ready.body.contains("max_database_size"), "{ready:?}");
    assert!(ready.body.contains(advice), "{ready:?}");
    let data = server.data();
    let checked = text_of(&racerd(&["check", "--data", data.to_str().unwrap(), "--max-database-size", "1MiB"]));
    assert!(checked.contains("it has reached max_database_size: messages are refused, large ones first"), "{checked}");
    assert!(server.log().contains("keep_messages"), "what could be done is for the operator: {}", server.log());

    // With retention, old messages make room and no send is refused.
    let server = Server::start(&["--max-database-size", "1MiB", "--keep-for", "365d", "--request-rate", "0"]);
    let mut client = server.member("r", "a");
    for id in 1..=200 {
        assert_eq!(client.say(id, json!("x".repeat(20_000)))["seq"], id);
    }
    assert!(server.get("/rooms/r/messages").json()["oldest"].as_u64().unwrap() > 100);
    assert!(fs::metadata(server.data()).unwrap().len() <= 1 << 20);
    assert_eq!(server.get("/readyz").status, 200);
}

/// Checks that a backup holds everything acknowledged before the command began. Returns its message count.
fn holds(backup: &Path, acked: u64) -> u64 {
    // The copy is alone in a folder, so that it depends on no side file.
    let elsewhere = TempDir::new();
    let copy = elsewhere.path().join("copy.db");
    fs::copy(backup, &copy).unwrap();
    let conn = outside(&copy);
    let integrity: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let count: i64 = conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert!(count as u64 >= acked, "{count} of {acked}");
    count as u64
}

#[test]
fn a_backup_of_a_running_server_is_whole_and_can_be_restored() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let mut server = Server::start(&["--request-rate", "0"]);
    let first = epoch(&server);
    let data = server.data();
    let data_path = data.to_str().unwrap();
    let (acked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let address = server.address;
    let file = |n: u64| server.folder.path().join(format!("backup-{n}.db"));
    let heads: Vec<u64> = thread::scope(|scope| {
        let (acked, stop) = (&acked, &stop);
        scope.spawn(move || {
            let mut client = Client::connect(address, "/rooms/r/ws?name=a");
            client.next_of("joined");
            for id in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                client.say(id, json!(format!("{id} {}", "x".repeat(500))));
                acked.store(id, Ordering::Relaxed);
            }
        });
        let taken = (0..5).map(|n| {
            eventually("more messages", || acked.load(Ordering::Relaxed) > n * 40);
            let known = acked.load(Ordering::Relaxed);
            let output = racerd(&["backup", file(n).to_str().unwrap(), "--data", data_path]);
            assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
            holds(&file(n), known)
        });
        let heads = taken.collect();
        stop.store(true, Ordering::Relaxed);
        heads
    });
    let backup = file(2);
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(server.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");

    let path = backup.to_str().unwrap();
    let bytes = fs::read(&backup).unwrap();
    refused(&racerd(&["backup", path, "--data", data_path]), "exists");
    assert!(fs::read(&backup).unwrap() == bytes);
    assert_eq!(racerd(&["backup", file(0).to_str().unwrap(), "--force", "--data", data_path]).status.code(), Some(0));
    assert_eq!(racerd(&["check", "--data", data_path]).status.code(), Some(0), "of a running server");
    crate::command::ended(&racerd(&["restore", path, "--data", data_path]), 1, "in use");
    let head = server.history("r").len() as u64;

    // The server is killed: its WAL holds messages that must not get into the restored database.
    server.kill();
    let output = racerd(&["restore", path, "--data", data_path]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    assert!(fs::read(&backup).unwrap() == bytes, "a backup is not used up");
    server.restart();
    let second = epoch(&server);
    assert_ne!(second, first);
    assert_eq!(server.history("r").len() as u64, heads[2]);
    for after in [1, heads[2], head] {
        let joined = rejoin(&server, after, &first);
        assert_eq!((&joined["recovered"], &joined["from"]), (&json!(false), &json!(1)), "after {after}");
    }
    assert_eq!(server.member("r", "a").say(1, json!("on"))["seq"], heads[2] + 1);
    assert_eq!(server.stop().code(), Some(0));

    // The replaced database is kept whole and can be restored.
    let kept = beside(&data, ".replaced-1");
    let output = racerd(&["restore", kept.to_str().unwrap(), "--data", data_path]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    server.restart();
    assert_eq!(server.history("r").len() as u64, head);
    assert_ne!(epoch(&server), second);
    // A copy put in place by hand gets a new epoch as well.
    assert_eq!(server.stop().code(), Some(0));
    fs::copy(&backup, &data).unwrap();
    server.restart();
    assert!(epoch(&server) != first && epoch(&server) != second);
    assert_eq!(server.history("r").len() as u64, heads[2]);
}

#[test]
fn commands_say_what_they_lack() {
    let folder = TempDir::new();
    let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let none = name("none.db");
    fs::write(name("diary"), "dear diary, ".repeat(1000)).unwrap();
    for (arguments, expected) in [
        (vec!["backup"], "backup FILE"),
        (vec!["backup", &name("b.db"), "--data", &name("diary")], "not a racerd database"),
        (vec!["backup", &name("b.db"), "--frob"], "--frob"),
        (vec!["restore"], "restore FILE"),
        (vec!["restore", &name("diary"), "--data", &name("a.db")], "not a racerd database"),
        (vec!["salvage", &name("diary")], "salvage FILE NEW"),
    ] {
        refused(&racerd(&arguments), expected);
    }
    // The file may appear later.
    for (arguments, expected) in [
        (vec!["backup", &name("b.db"), "--data", &none], "no database"),
        (vec!["restore", &none, "--data", &name("a.db")], "no database"),
        (vec!["check", &none], "no database"),
        (vec!["salvage", &none, &name("n.db")], "does not exist"),
    ] {
        ended(&racerd(&arguments), 1, expected);
    }
    assert_eq!(racerd(&["salvage", &name("diary"), &name("n.db")]).status.code(), Some(2), "nothing of ours in it");
    assert!(!folder.path().join("a.db").exists() && !folder.path().join("n.db").exists());
}

#[test]
fn a_restore_that_cannot_be_trusted_changes_nothing() {
    let mut server = Server::start(&["--request-rate", "0"]);
    let mut client = server.member("r", "a");
    for id in 1..=200 {
        client.say(id, json!("x".repeat(1000)));
    }
    let backup = server.folder.path().join("backup.db");
    let data = server.data();
    let (path, data_path) = (backup.to_str().unwrap(), data.to_str().unwrap());
    assert_eq!(racerd(&["backup", path, "--data", data_path]).status.code(), Some(0));
    assert_eq!(server.stop().code(), Some(0));
    spoil(&backup, [20, 30]);
    let before = fs::read(&data).unwrap();
    // Trying again does not help.
    refused(&racerd(&["restore", path, "--data", data_path]), "is damaged");
    assert!(fs::read(&data).unwrap() == before);
    let half = server.folder.path().join("half.db");
    fs::write(&half, &before[..before.len() / 2]).unwrap();
    let copy = server.folder.path().join("copy.db");
    refused(&racerd(&["backup", copy.to_str().unwrap(), "--data", half.to_str().unwrap()]), "is damaged");
    assert!(!copy.exists());
    let left: Vec<_> = fs::read_dir(server.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("draft")), "{left:?}");
    // A room without a sound backup is salvaged, and the result can be restored.
    let new = server.folder.path().join("new.db");
    assert_eq!(racerd(&["salvage", path, new.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(racerd(&["restore", new.to_str().unwrap(), "--data", data_path]).status.code(), Some(0));
    server.restart();
    assert_eq!(server.get("/rooms/r/messages").json()["head"], 200);
}

/// Commits continue while a large room is pruned: none waits for more than one pruning step.
#[test]
fn pruning_does_not_delay_senders() {
    let mut server = Server::start(&["--request-rate", "0", "--durability", "normal"]);
    assert_eq!(server.stop().code(), Some(0));
    outside(&server.data())
        .execute_batch(
            "BEGIN;
             INSERT INTO rooms (id, name, head, at, common, oldest, oldest_at) VALUES (1, 'r', 100000, 1, 0, 1, 1);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO messages (id, at, member, name, body)
                 SELECT (1 << 39) + i, 1, NULL, 'x', CAST('\"' || hex(zeroblob(200)) || '\"' AS BLOB) FROM n;
             COMMIT;",
        )
        .unwrap();
    let large = fs::metadata(server.data()).unwrap().len();
    let folder = std::mem::replace(&mut server.folder, TempDir::new());
    let arguments = ["--keep-messages", "100", "--request-rate", "0", "--durability", "normal"];
    let server = Server::start_in(folder, "127.0.0.1:0", &arguments);
    let oldest = || server.get("/rooms/r/messages?limit=1").json()["oldest"].as_u64().unwrap();
    let mut client = server.member("r", "a");
    let (mut id, mut while_pruned, begun) = (0, 0, Instant::now());
    while oldest() <= 99_900 {
        id += 1;
        client.say(id, json!(id));
        while_pruned += 1;
        assert!(begun.elapsed() < Duration::from_secs(60), "the walk does not come to its end: {}", oldest());
    }
    assert!(while_pruned > 50, "{while_pruned} messages were committed meanwhile");
    within(Duration::from_secs(60), "a small file", || fs::metadata(server.data()).unwrap().len() < large / 4);
}
