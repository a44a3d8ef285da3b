//! A kill on the way into each system call through which the database changes, in whatever does so: commits, folds, the
//! copying of the WAL, the clean end, the migration of an older database. strace, an independent program, kills the
//! server there, and once more in its next start. What was acknowledged is there, once and in its place, and its keys
//! are known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use racerd::testing::{Random, TempDir, older};
use serde_json::Value;

use crate::support::Server;
use crate::{rounds, seeded};

/// The system calls through which SQLite changes files, and makes that last.
const CALLS: [&str; 5] = ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink"];

/// Enough for the WAL to be copied before the end.
const POSTS: u64 = 50;

const BYTES: usize = 55_000;

const ARGUMENTS: [&str; 6] = ["--request-rate", "0", "--commit-delay", "0", "--max-message-size", "60KiB"];

/// The nth use of a system call in one of the server's threads.
type At = (&'static str, u32);

/// Returns the command of a server under strace with these options.
fn traced(folder: &TempDir, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // With -D, the server stays the test's child and strace is a detached process.
    command.args(["-D", "-f", "-qq"]).args(options);
    let serve = Server::command(folder, "127.0.0.1:0", &ARGUMENTS);
    command.arg(serve.get_program()).args(serve.get_args());
    Server::clean(command)
}

fn killed_at(folder: &TempDir, (call, n): At) -> Command {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    traced(folder, &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
}

/// Posts the nth message. Returns its seq; `None` if the server went away before it answered.
fn post(address: SocketAddr, n: u64) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let body = format!("\"{n} {}\"", "x".repeat(BYTES));
    let head = format!(
        "POST /rooms/r{}/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Idempotency-Key: key-{n:020}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        n % 3,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str::<Value>(body).ok()?["seq"].as_u64()
}

/// Posts what is not acknowledged yet, until the server goes away.
fn post_all(address: SocketAddr, acknowledged: &mut BTreeMap<u64, u64>) {
    for n in 0..POSTS {
        let Some(seq) = post(address, n) else { return };
        let before = *acknowledged.entry(n).or_insert(seq);
        assert_eq!(before, seq, "message {n} is the same one whenever its key comes again");
    }
}

/// Copies a database with everything that SQLite needs to recover it: a migration has a rollback journal.
fn copied(from: &Path, to: &TempDir) {
    for name in ["racerd.db", "racerd.db-journal", "racerd.db-wal"] {
        if let Ok(bytes) = fs::read(from.join(name)) {
            fs::write(to.path().join(name), bytes).expect("a file");
        }
    }
}

/// Runs a server on a copy of this folder until it is killed or has stored all messages and ended. Returns its folder,
/// and whether it was killed.
fn run(from: &Path, command: impl Fn(&TempDir) -> Command, acknowledged: &mut BTreeMap<u64, u64>) -> (TempDir, bool) {
    let folder = TempDir::new();
    copied(from, &folder);
    let command = command(&folder);
    match Server::try_start_as(folder, command) {
        Ok(mut server) => {
            post_all(server.address, acknowledged);
            let is_killed = server.end().signal().is_some();
            (std::mem::replace(&mut server.folder, TempDir::new()), is_killed)
        }
        Err(folder) => (folder, true),
    }
}

/// Returns where a run can be killed.
fn places(from: &Path, acknowledged: &BTreeMap<u64, u64>) -> Vec<At> {
    let traces = TempDir::new();
    let trace = traces.path().join("trace");
    let options = format!("trace={}", CALLS.join(","));
    let name = trace.to_str().expect("a path");
    run(from, |folder| traced(folder, &["-o", name, "-e", &options]), &mut acknowledged.clone());
    let text = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
    let mut counts = BTreeMap::new();
    let mut places = BTreeSet::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').expect("a thread");
        if let Some(call) = CALLS.into_iter().find(|call| rest.trim_start().starts_with(&format!("{call}("))) {
            let n = counts.entry((thread.to_owned(), call)).or_insert(0);
            *n += 1;
            places.insert((call, *n));
        }
    }
    places.into_iter().collect()
}

/// Kills servers that start on this folder in so many of the places where they can be killed, twice each.
fn kill_at_each_step(from: &Path, acknowledged: &BTreeMap<u64, u64>, rounds: usize, random: &mut Random) {
    let places = places(from, acknowledged);
    assert!(places.len() > 20, "{places:?}");
    let mut killed = 0;
    for round in 0..rounds {
        // Each call as often as the others: pages are written far more often than anything is synced.
        let all = CALLS.map(|call| places.iter().filter(|at| at.0 == call).collect::<Vec<_>>());
        let all: Vec<_> = all.into_iter().filter(|of_call| !of_call.is_empty()).collect();
        let of_call = &all[round % all.len()];
        let at = *of_call[random.below(of_call.len())];
        let again = places[random.below(places.len().min(40))];
        let mut acknowledged = acknowledged.clone();
        let (once, is_killed) = run(from, |folder| killed_at(folder, at), &mut acknowledged);
        killed += usize::from(is_killed);
        let (twice, _) = run(once.path(), |folder| killed_at(folder, again), &mut acknowledged);
        let mut server = Server::start_in(twice, "127.0.0.1:0", &ARGUMENTS);
        post_all(server.address, &mut acknowledged);
        assert_eq!(acknowledged.len() as u64, POSTS, "{at:?}, {again:?}");
        for room in 0..3 {
            let log = server.history(&format!("r{room}"));
            let said = acknowledged.iter().filter(|(n, _)| *n % 3 == room);
            assert_eq!(log.len(), said.clone().count(), "{at:?}, {again:?}: each once");
            for (n, seq) in said {
                let body = log[*seq as usize - 1]["body"].as_str().expect("a text");
                assert!(body.starts_with(&format!("{n} ")), "{at:?}, {again:?}: message {n} at {seq}");
            }
        }
        assert_eq!(server.stop().code(), Some(0), "{at:?}, {again:?}\n{}", server.log());
        let check = Server::program().arg("check").arg("--data").arg(server.data()).output().expect("the binary");
        assert!(check.status.success(), "{at:?}, {again:?}: {}", String::from_utf8_lossy(&check.stdout));
    }
    // Which thread copies, and how often, differs from run to run.
    assert!(killed * 4 >= rounds * 3, "{killed} of {rounds} were killed");
    println!("{killed} of {rounds} runs were killed, in {} places", places.len());
}

#[test]
fn a_kill_at_any_step_of_commits_folds_and_copies_loses_nothing() {
    let empty = TempDir::new();
    kill_at_each_step(empty.path(), &BTreeMap::new(), rounds().div_ceil(2), &mut seeded());
}

#[test]
fn a_kill_at_any_step_of_a_migration_loses_nothing() {
    let mut acknowledged = BTreeMap::new();
    let (folder, _) =
        run(TempDir::new().path(), |folder| Server::command(folder, "127.0.0.1:0", &ARGUMENTS), &mut acknowledged);
    // As the version before left it: no keys beside messages.
    let conn = rusqlite::Connection::open(folder.path().join("racerd.db")).expect("a database");
    conn.execute_batch("PRAGMA journal_mode = DELETE").expect("a database");
    conn.execute_batch(&older::back_to(6)).expect("an older database");
    drop(conn);
    kill_at_each_step(folder.path(), &acknowledged, rounds().div_ceil(2), &mut seeded());
}
