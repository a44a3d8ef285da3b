//! Guarantees of an acknowledgement when the process is killed or the disk fails.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use racerd::testing::Random;
use serde_json::{Value, json};

use crate::command::{ended, refused};
use crate::support::*;

/// Longer than the interval at which the writer checks that its files still exist.
const LOOK: Duration = Duration::from_secs(20);

/// Sends one POST. Returns the status and answer; `None` if the server went away before it answered.
fn try_post(address: SocketAddr, key: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    let head = format!(
        "POST /rooms/kept/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// A writer's acknowledged messages, and those without an answer.
#[derive(Default)]
struct Told {
    acked: Vec<(u64, Value)>,
    open: Vec<Value>,
}

/// Sends by socket, several at a time, until the server is gone.
fn write_by_socket(address: SocketAddr, name: &str, acks: &AtomicUsize) -> Told {
    let mut told = Told::default();
    let mut client = Client::connect(address, &format!("/rooms/kept/ws?name={name}"));
    for id in 0u64.. {
        let body = json!([name, id]);
        let send = json!({"type": "send", "id": id, "body": body}).to_string();
        if client.socket.send(tungstenite::Message::text(send)).is_err() {
            return told;
        }
        told.open.push(body);
        while told.open.len() >= 8 {
            let Ok(message) = client.socket.read() else { return told };
            let Ok(text) = message.into_text() else { return told };
            let Ok(value) = serde_json::from_str::<Value>(&text) else { return told };
            if value["type"] == "ack" {
                told.acked.push((value["seq"].as_u64().unwrap(), told.open.remove(0)));
                acks.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    told
}

/// Posts, each with its own key, until the server is gone.
fn write_by_post(address: SocketAddr, name: &str, acks: &AtomicUsize) -> Told {
    let mut told = Told::default();
    for id in 0u64.. {
        let body = json!([name, id]);
        match try_post(address, &post_key(&body), &body) {
            Some((201, answer)) => told.acked.push((answer["seq"].as_u64().unwrap(), body)),
            Some(other) => panic!("{other:?}"),
            None => {
                told.open.push(body);
                return told;
            }
        }
        acks.fetch_add(1, Ordering::Relaxed);
    }
    told
}

fn post_key(body: &Value) -> String {
    format!("a-key-that-is-long-enough-{}-{}", body[0].as_str().unwrap(), body[1])
}

/// After several kill -9 during writes, each acknowledged message is there under its seq, and none is there twice.
fn survives_kills(durability: &str) {
    let mut server = Server::start(&["--durability", durability, "--request-rate", "0", "--log-level", "warn"]);
    let epoch = server.get("/rooms/kept/messages").json()["epoch"].clone();
    let mut acked: Vec<(u64, Value)> = Vec::new();
    let mut random = Random::new(durability.len() as u64);
    for round in 0..4 {
        let acks = AtomicUsize::new(0);
        let enough = 40 + random.below(200);
        let address = server.address;
        let told: Vec<Told> = thread::scope(|scope| {
            let acks = &acks;
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    scope.spawn(move || {
                        let name = format!("w{writer}-{round}");
                        let write = if writer < 2 { write_by_socket } else { write_by_post };
                        write(address, &name, acks)
                    })
                })
                .collect();
            eventually("enough to lose", || acks.load(Ordering::Relaxed) >= enough);
            server.kill();
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
        });
        server.restart();
        let mut again = Vec::new();
        for told in told {
            acked.extend(told.acked);
            again.extend(told.open.into_iter().filter(|body| body[0].as_str().unwrap() >= "w2"));
        }
        // The unacknowledged messages are sent again, and some of the acknowledged ones, too.
        for body in &again {
            let (status, answer) = try_post(address, &post_key(body), body).expect("an answer");
            assert!(matches!(status, 200 | 201), "{status} {answer}");
            acked.push((answer["seq"].as_u64().unwrap(), body.clone()));
        }
        let posted: Vec<_> = acked.iter().filter(|(_, body)| body[0].as_str().unwrap() >= "w2").collect();
        for (seq, body) in posted.into_iter().rev().take(5) {
            let (status, answer) = try_post(address, &post_key(body), body).expect("an answer");
            assert_eq!((status, &answer["seq"]), (200, &json!(seq)));
        }
        let kept = server.history("kept");
        for (seq, body) in &acked {
            assert_eq!(&kept[*seq as usize - 1]["body"], body, "what was acknowledged as {seq}");
        }
        let mut bodies: Vec<String> = kept.iter().map(|message| message["body"].to_string()).collect();
        bodies.sort();
        let count = bodies.len();
        bodies.dedup();
        assert_eq!(bodies.len(), count, "something is there twice");
        assert_eq!(server.get("/rooms/kept/messages").json()["epoch"], epoch);
    }
}

#[test]
fn kill_9_loses_nothing_acknowledged_at_full() {
    survives_kills("full");
}

#[test]
fn kill_9_loses_nothing_acknowledged_at_normal() {
    survives_kills("normal");
}

#[test]
fn memory_begins_anew() {
    let mut server = Server::start(&["--durability", "memory"]);
    let epoch = server.get("/rooms/m/messages").json()["epoch"].clone();
    server.member("m", "a").say(1, json!("gone soon"));
    assert_eq!(server.history("m").len(), 1);
    assert!(!server.data().exists());
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    assert_eq!(server.history("m").len(), 0);
    assert_ne!(server.get("/rooms/m/messages").json()["epoch"], epoch);
}

/// Sends until the store refuses. Returns the number of accepted messages.
fn fill(client: &mut Client, size: usize) -> u64 {
    for id in 0..10_000 {
        client.send(json!({"type": "send", "id": id, "body": "x".repeat(size)}));
        loop {
            let value = client.next().expect("it stays open");
            match value["type"].as_str().unwrap() {
                "ack" => break,
                "error" => {
                    assert_eq!((&value["id"], &value["code"]), (&json!(id), &json!("storage_unavailable")));
                    return id;
                }
                _ => {}
            }
        }
    }
    panic!("it was never full");
}

/// Checks that the observer receives exactly these messages and no more.
fn heard_exactly(observer: &mut Client, first: u64, last: u64) {
    for seq in first..=last {
        assert_eq!(observer.next_of("message")["seq"], seq);
    }
    observer.send(json!({"type": "ping", "id": 8}));
    loop {
        let value = observer.next().expect("a pong");
        assert_ne!(value["type"], "message", "a refused message was shown");
        if value["type"] == "pong" {
            return;
        }
    }
}

fn refuses_and_lives(server: &Server, sender: &mut Client, observer: &mut Client, stored: u64) {
    heard_exactly(observer, 1, stored);
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.header("retry-after").is_some()
            && ["disk is full", "max_database_size"].iter().any(|why| ready.body.contains(why)),
        "{ready:?}"
    );
    assert_eq!(server.get("/healthz").status, 200);
    let post = server.post("/rooms/full/messages", "1");
    assert!(matches!(post.status, 201 | 503), "{post:?}");
    assert!(server.history("full").len() >= stored as usize);
    sender.sync();
    let used = server.cpu_over(Duration::from_secs(1));
    assert!(used < Duration::from_millis(300), "{used:?} of CPU while it waits");
    assert_eq!(server.log().matches("takes no messages").count(), 1, "{}", server.log());
}

#[test]
fn a_full_database_refuses_and_lives() {
    let mut server = Server::start(&["--max-database-size", "1MiB", "--request-rate", "0"]);
    let mut observer = server.member("full", "observer");
    let mut sender = server.member("full", "sender");
    let stored = fill(&mut sender, 20_000);
    assert!(stored > 10);
    // This many messages fill the database until even the smallest does not fit.
    for id in 0..100 {
        sender.send(json!({"type": "send", "id": id, "body": "x".repeat(2000)}));
    }
    let mut more = 0;
    for _ in 0..100 {
        let value = loop {
            let value = sender.next().expect("it stays open");
            if value["type"] == "ack" || value["type"] == "error" {
                break value;
            }
        };
        more += u64::from(value["type"] == "ack");
    }
    // A batch may have been refused as a whole, and its last messages would have fitted: fill up one by one.
    more += fill(&mut sender, 2000);
    refuses_and_lives(&server, &mut sender, &mut observer, stored + more);
    assert_eq!(server.stop().code(), Some(0));
    // With a higher limit, it continues where it stopped.
    let folder = std::mem::replace(&mut server.folder, TempDir::new());
    let server = Server::start_in(folder, "127.0.0.1:0", &["--max-database-size", "4MiB"]);
    let kept = server.history("full").len() as u64;
    assert!(kept >= stored + more);
    assert_eq!(server.member("full", "sender").say(1, json!("again"))["seq"], kept + 1);
    assert_eq!(server.get("/readyz").status, 200);
}

/// A file system of 4 MiB that a filler file fills and frees. It is mounted in the server's own namespace, so that it
/// disappears with the server; the test sees it through /proc.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let folder = TempDir::new();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&disk);
        command
    };
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$1\"";
    let possible = unshare(mount).stderr(Stdio::null()).status();
    // The test must not pass because it was skipped.
    assert!(
        possible.is_ok_and(|status| status.success()),
        "this test needs unshare, and a kernel that lets one mount a tmpfs in a namespace of one's own"
    );
    let mut command = unshare(&format!("{mount} && shift && exec \"$@\""));
    let data = disk.join("racerd.db");
    command.arg(Server::path()).args(["serve", "--listen", "127.0.0.1:0", "--request-rate", "0"]);
    command.args(["--max-database-size", "1GiB", "--data"]).arg(&data);
    let mut server = Server::start_as(folder, command);
    let inside = |path: &Path| Path::new(&format!("/proc/{}/root", server.pid())).join(path.strip_prefix("/").unwrap());
    assert!(inside(&data).exists(), "the server is in its own namespace");

    let mut observer = server.member("full", "observer");
    let mut sender = server.member("full", "sender");
    sender.say(0, json!("there is space"));
    let filler = inside(&disk.join("filler"));
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 65536]).is_ok() {}
    drop(file);
    let stored = 1 + fill(&mut sender, 1000);
    refuses_and_lives(&server, &mut sender, &mut observer, stored);
    let known = server.history("full").len() as u64;

    fs::remove_file(&filler).unwrap();
    within(LOOK, "readiness", || server.get("/readyz").status == 200);
    // A refused message may still have been stored. In either case seqs stay contiguous, and all members receive the
    // same.
    let ack = sender.say(1, json!("space again"));
    assert!(ack["seq"].as_u64().unwrap() > known.max(stored));
    loop {
        let message = observer.next_of("message");
        if message["body"] == "space again" {
            assert_eq!(message["seq"], ack["seq"]);
            break;
        }
    }
    assert_eq!(server.history("full").len() as u64, ack["seq"].as_u64().unwrap());
    assert_eq!(server.log().matches("takes messages again").count(), 1);
    assert_eq!(server.stop().code(), Some(0));
}

/// The disk fails with an error other than a full disk: a file size limit that the test sets and lifts.
#[test]
fn an_error_of_the_disk_refuses_and_recovers() {
    let folder = TempDir::new();
    let serve = Server::command(&folder, "127.0.0.1:0", &["--request-rate", "0"]);
    let mut command = Command::new("sh");
    // Otherwise the signal that accompanies the error would end it.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
    let mut server = Server::start_as(folder, command);
    let limit = |bytes: Option<u64>| {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Pid::from_raw(server.child.id() as i32), Resource::Fsize, limit).expect("a limit");
    };
    let mut observer = server.member("full", "observer");
    let mut sender = server.member("full", "sender");
    assert_eq!(sender.say(1, json!("before"))["seq"], 1);
    limit(Some(1));
    for id in 2..20 {
        sender.send(json!({"type": "send", "id": id, "key": format!("k{id}"), "body": id}));
        loop {
            let value = sender.next().expect("it stays open");
            assert_ne!(value["type"], "ack");
            if value["type"] == "error" {
                assert_eq!((&value["id"], &value["code"]), (&json!(id), &json!("storage_unavailable")));
                break;
            }
        }
    }
    heard_exactly(&mut observer, 1, 1);
    let ready = server.get("/readyz");
    assert!(ready.status == 503 && ready.body.contains("file size limit"), "{ready:?}");
    assert_eq!(server.history("full").len(), 1);
    limit(None);
    within(LOOK, "readiness", || server.get("/readyz").status == 200);
    for id in 2..20 {
        sender.send(json!({"type": "send", "id": id, "key": format!("k{id}"), "body": id}));
        assert_eq!(sender.next_of("ack")["seq"], id, "each once, without a gap");
    }
    heard_exactly(&mut observer, 2, 19);
    assert_eq!(server.stop().code(), Some(0));
}

fn files(data: &Path) -> [std::path::PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| format!("{}{suffix}", data.display()).into())
}

/// The files are removed in one way or another: soon nothing is acknowledged any more, and the reason is given.
fn loses_its_files(take_away: impl Fn(&Path)) {
    let mut server = Server::start(&["--request-rate", "0"]);
    let mut client = server.member("r", "a");
    client.say(0, json!("safe"));
    take_away(&server.data());
    let mut id = 0;
    within(LOOK, "a refusal", || {
        id += 1;
        client.send(json!({"type": "send", "id": id, "body": id}));
        loop {
            let value = client.next().expect("it stays open");
            match value["type"].as_str().unwrap() {
                "ack" => break false,
                "error" => {
                    assert_eq!(value["code"], "storage_unavailable");
                    break true;
                }
                _ => {}
            }
        }
    });
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("deleted or replaced") && !ready.body.contains("racerd.db"), "{ready:?}");
    // The stop was not clean, and the server says so.
    assert_eq!(server.stop().code(), Some(1));
    let log = server.log();
    let told = log.lines().find(|line| line.contains("the store takes no messages")).expect("a line");
    assert!(told.contains("racerd.db") && told.contains("restart"), "{told}");
}

#[test]
fn no_acknowledgement_into_files_that_are_gone() {
    let ways: Vec<fn(&Path)> = vec![
        |data| files(data).iter().for_each(|file| fs::remove_file(file).unwrap()),
        |data| fs::rename(data, data.with_extension("moved")).unwrap(),
        |data| {
            // Another database takes its place.
            let other = data.with_extension("other");
            fs::copy(data, &other).unwrap();
            fs::rename(&other, data).unwrap();
        },
    ];
    at_once(ways, |_, way| loses_its_files(way));
}

fn serve(folder: &TempDir) -> std::process::Output {
    Server::command(folder, "127.0.0.1:0", &[]).stdin(Stdio::null()).output().expect("the binary")
}

/// A folder in which nothing can be made, or whose entries cannot be synced, is named before anything is made in it.
#[test]
fn a_folder_that_is_no_place_for_a_database_is_left_as_it_was() {
    let folder = TempDir::new();
    let serve = |data: &str| {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            // Without its privileges, modes hold for root, too.
            command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        }
        command.arg(Server::program().get_program()).args(["serve", "--listen", "127.0.0.1:0", "--data", data]);
        let output = Server::clean(command).stdin(Stdio::null()).output().expect("setpriv");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let modes = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("ours");
    for mode in [0o300, 0o500] {
        modes(mode);
        let told = serve(folder.path().join("x.db").to_str().expect("a path"));
        assert!(told.contains("Permission denied") && told.contains("read and write it"), "{mode:o}: {told}");
        modes(0o700);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{mode:o}");
    }
    let told = serve("/proc/x.db");
    assert!(told.contains("/proc cannot be used: its file system takes no new files"), "{told}");
    let told = serve("/nowhere/x.db");
    assert!(
        told.contains("/nowhere cannot be used: No such file or directory") && told.contains("create it"),
        "{told}"
    );
}

#[test]
fn a_second_server_on_one_database_is_refused() {
    let server = Server::start(&[]);
    server.member("r", "a").say(1, json!(1));
    ended(&serve(&server.folder), 1, "in use by another racerd");
    assert_eq!(server.member("r", "b").say(1, json!(2))["seq"], 2);
}

#[test]
fn what_is_not_ours_is_left_as_it_is() {
    let untouched = |folder: &TempDir, expected: &str| {
        let data = folder.path().join("racerd.db");
        let before = fs::read(&data).unwrap();
        refused(&serve(folder), expected);
        assert!(fs::read(&data).unwrap() == before, "{expected}: the file was changed");
        assert!(!files(&data)[1].exists() && !files(&data)[2].exists(), "{expected}: something lies beside it");
    };
    let foreign = TempDir::new();
    fs::write(foreign.path().join("racerd.db"), "dear diary, ".repeat(1000)).unwrap();
    untouched(&foreign, "is not a racerd database");

    let other = TempDir::new();
    let conn = rusqlite::Connection::open(other.path().join("racerd.db")).unwrap();
    conn.execute_batch("CREATE TABLE shopping (item TEXT); INSERT INTO shopping VALUES ('milk')").unwrap();
    drop(conn);
    untouched(&other, "is not a racerd database");

    let mut server = Server::start(&[]);
    server.member("r", "a").say(1, json!(1));
    assert_eq!(server.stop().code(), Some(0));
    let conn = rusqlite::Connection::open(server.data()).unwrap();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 999").unwrap();
    drop(conn);
    untouched(&server.folder, "newer racerd");

    // A WAL without its database may hold some client's last messages.
    let stray = TempDir::new();
    let [data, wal, _] = files(&stray.path().join("racerd.db"));
    fs::write(&wal, "not empty").unwrap();
    refused(&serve(&stray), "-wal");
    assert!(!data.exists() && fs::read(&wal).unwrap() == b"not empty");
}

/// At `full`, an fdatasync of the WAL lies between the last write of a commit and its acknowledgement; at `normal`,
/// none does.
#[test]
fn acknowledged_is_synced() {
    for (durability, synced) in [("full", true), ("normal", false)] {
        let folder = TempDir::new();
        let trace = folder.path().join("trace");
        let mut command = Command::new("strace");
        // With -D, the server stays the test's child and strace is a detached process.
        command
            .args(["-D", "-f", "-y", "-s", "60", "-e", "trace=fdatasync,fsync,pwrite64,write,writev", "-o"])
            .arg(&trace);
        let serve = Server::command(&folder, "127.0.0.1:0", &["--durability", durability]);
        command.arg(serve.get_program()).args(serve.get_args());
        let possible = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        assert!(
            possible.is_ok_and(|status| status.success()),
            "this test needs strace, and the right to trace: tests/run installs it"
        );
        let mut server = Server::start_as(folder, command);
        let mut client = server.member("r", "a");
        for id in 0..20 {
            client.say(id, json!(id));
        }
        drop(client);
        assert_eq!(server.stop().code(), Some(0));
        let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
        let (mut written, mut synced_since, mut acks) = (false, false, 0);
        for line in text.lines() {
            if line.contains("pwrite64(") && line.contains("-wal>") {
                (written, synced_since) = (true, false);
            } else if (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains("-wal>") {
                synced_since = true;
            } else if line.contains(r#"{\"type\":\"ack\""#) {
                acks += 1;
                assert!(written, "an acknowledgement without a write\n{line}");
                assert_eq!(synced_since, synced, "{durability}: {line}");
                (written, synced_since) = (false, false);
            }
        }
        assert_eq!(acks, 20, "{text}");
    }
}

/// The WAL stays bounded while members page slowly; a reader in another program holds it up only for a limited time.
#[test]
fn the_wal_stays_bounded() {
    // Who reads nothing stays to the end, however slow the machine is.
    let server = Server::start(&["--request-rate", "0", "--write-wait", "5m"]);
    let [data, wal, _] = files(&server.data());
    let size = || fs::metadata(&wal).map_or(0, |metadata| metadata.len());
    let mut writer = server.member("wal", "writer");
    let mut write = |megabytes: u64| {
        for burst in 0..megabytes * 5 {
            for id in 0..20 {
                writer.send(json!({"type": "send", "id": burst * 20 + id, "body": "x".repeat(10_000)}));
            }
            for _ in 0..20 {
                writer.next_of("ack");
            }
        }
    };
    // One client asks for pages now and then; another asks and never reads.
    let mut slow = server.member("wal", "slow");
    let mut deaf = server.socket("/rooms/wal/ws");
    let mut longest = 0;
    for _ in 0..8 {
        write(2);
        slow.send(json!({"type": "history", "id": 1, "after": 0, "limit": 200}));
        deaf.send(text(r#"{"type":"history","id":1,"limit":200}"#));
        longest = longest.max(size());
    }
    slow.next_of("history");
    assert!(longest < 16 << 20, "{longest} bytes");
    assert!(!server.log().contains("-wal file grows"));

    let reader = rusqlite::Connection::open(&data).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    write(20);
    assert!(size() > longest, "nothing can help that");
    assert_eq!(server.log().matches("-wal file grows").count(), 1, "{}", server.log());
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    write(6);
    eventually("a short WAL", || size() < 16 << 20);
    within(LOOK, "an empty WAL when nobody writes any more", || size() == 0);
}

/// A system limit or lock that prevents a start is named, and is not taken for damage that needs a backup.
#[test]
fn a_start_says_which_limit_or_program_is_in_the_way() {
    let mut server = Server::start(&[]);
    assert_eq!(server.stop().code(), Some(0));
    let folder = &server.folder;
    let start = |limits: &str| {
        let serve = Server::command(folder, "127.0.0.1:0", &[]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits} exec \"$@\""), "sh"]).arg(serve.get_program()).args(serve.get_args());
        Server::clean(command).output().unwrap()
    };
    let path = folder.path().join("racerd.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    ended(&start(""), 1, "another program has it locked; end that program");
    drop(conn);
    // With fewer descriptors, not even the event queue can be created.
    let few: Vec<String> = (8..14)
        .map(|files| {
            let output = start(&format!("ulimit -n {files};"));
            assert_eq!(output.status.code(), Some(1), "{files}: {output:?}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        })
        .collect();
    assert!(few.iter().any(|said| said.contains("raise it (ulimit -n, LimitNOFILE=)")), "{few:?}");
    assert!(few.iter().all(|said| !said.contains("restore a backup")), "{few:?}");
}
