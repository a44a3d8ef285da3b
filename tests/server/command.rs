//! The command line: messages when it cannot start, an output that is closed or stuck, and `health`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::*;

/// Runs the binary to its end, with nothing on standard input.
pub fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().expect("the binary")
}

/// Checks for exit status 2 (the user has to change something) and one line on stderr that contains this.
pub fn refused(output: &Output, expected: &str) {
    ended(output, 2, expected);
}

/// Checks for this exit status and one line on stderr that contains this.
pub fn ended(output: &Output, status: i32, expected: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(expected) && text.ends_with('\n'), "{text:?} does not say {expected:?}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let folder = TempDir::new();
    let data = folder.path().join("racerd.db");
    let data = data.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["serve", "--frobnicate"], "--frobnicate"),
        (vec!["serve", "--listen"], "--listen"),
        (vec!["serve", "--listen", "nonsense"], "nonsense"),
        (vec!["serve", "--durability", "some"], "some"),
        (vec!["serve", "--pong-wait", "soon"], "soon"),
        (vec!["frob"], "frob"),
        (vec!["serve", "--data", data, "--listen", "0.0.0.0:0"], "--open"),
        (vec!["serve", "--config", "/nowhere/racerd.toml"], "/nowhere/racerd.toml"),
        (vec!["serve", "--data", data, "--data-key-file", "/nowhere/key"], "/nowhere/key"),
        (vec!["serve", "--data", folder.path().to_str().unwrap()], "is not a file"),
    ] {
        refused(&racerd(&arguments), expected);
    }
}

/// A service manager should retry these: they may succeed without a change of settings.
#[test]
fn what_may_heal_by_itself_ends_with_1() {
    let server = Server::start(&[]);
    let taken = server.address.to_string();
    let held = server.data();
    let folder = TempDir::new();
    let data = folder.path().join("racerd.db");
    let [held, data] = [&held, &data].map(|path| path.to_str().unwrap());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data"];
    for (arguments, expected) in [
        (vec!["serve", "--listen", &taken, "--data", data], taken.as_str()),
        // This machine does not have this address yet (RFC 5737).
        (vec!["serve", "--open", "--listen", "192.0.2.1:7077", "--data", data], "does not have that address"),
        ([&serve[..], &["/nowhere/at/all/racerd.db"]].concat(), "/nowhere/at/all"),
        ([&serve[..], &[held]].concat(), "in use by another racerd"),
    ] {
        ended(&racerd(&arguments), 1, expected);
    }
    // A file size limit stands in for a disk without room for an empty database.
    let mut full = Command::new("sh");
    full.args(["-c", r#"ulimit -f 4; exec "$0" "$@""#]).arg(Server::program().get_program()).args(serve).arg(data);
    let output = Server::clean(full).stdin(Stdio::null()).output().expect("a shell");
    ended(&output, 1, "racerd.db");
}

#[test]
fn health() {
    let code = |address: SocketAddr| {
        let output = racerd(&["health", "--listen", &address.to_string()]);
        (output.status.code(), output.stderr.iter().filter(|byte| **byte == b'\n').count())
    };
    let mut server = Server::start(&["--drain-timeout", "5s", "--write-wait", "1h"]);
    assert_eq!(code(server.address), (Some(0), 0));
    let url = format!("http://{}", server.address);
    assert_eq!(racerd(&["health", &url]).status.code(), Some(0));
    // The server is stopping; one client delays it.
    let mut stuck = crate::timers::narrow(&server, 4096);
    stuck.upgrade("/rooms/r/ws");
    let mut writer = server.member("r", "writer");
    for id in 0..30 {
        writer.say(id, json!("x".repeat(30_000)));
    }
    server.signal(Signal::TERM);
    writer.next_of("bye");
    assert_eq!(code(server.address), (Some(1), 1));
    drop((writer, stuck));
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(code(server.address), (Some(1), 1));
    // The server serves, but is not ready.
    let full = Server::start(&["--max-database-size", "1MiB"]);
    let body = json!("x".repeat(30_000)).to_string();
    eventually("a full store", || full.post("/rooms/r/messages", &body).status == 503);
    assert_eq!(code(full.address), (Some(1), 1));
    assert_eq!(full.get("/healthz").status, 200);
    refused(&racerd(&["health", "ftp://localhost"]), "ftp://localhost");
}

/// A server whose standard streams are what the test chooses.
struct Odd {
    child: std::process::Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Odd {
    /// Starts it on a free address chosen here, since its first line cannot be read.
    fn start(spawn: impl FnOnce(&TempDir, &str) -> std::process::Child) -> Odd {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = TempDir::new();
        let child = spawn(&folder, &address.to_string());
        eventually("a listener", || TcpStream::connect(address).is_ok());
        Odd { child, address, folder }
    }

    /// Exchanges messages, provokes a few log lines, and stops it.
    fn serves_to_the_end(mut self) {
        for round in 0..3 {
            let mut raw = Raw::connect(self.address);
            raw.send("nonsense\r\n\r\n");
            assert_eq!(raw.answer().status, 400);
            let mut client = Client::connect(self.address, "/rooms/odd/ws?name=a&last=10");
            assert_eq!(client.next_of("joined")["head"], round);
            client.say(round, json!("hello"));
        }
        // A client sees only frames, whatever descriptor number its socket has.
        let mut raw = Raw::connect(self.address);
        raw.upgrade("/rooms/odd/ws");
        raw.send(text("not JSON"));
        raw.next_of("error");
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(raw.closed_with(), 1001);
        let mut status = None;
        eventually("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.and_then(|s| s.code()), Some(0));
        let conn = rusqlite::Connection::open(self.folder.path().join("racerd.db")).unwrap();
        let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_reads_its_output() {
    Odd::start(|folder, address| {
        let mut command = Server::command(folder, address, &["--log-level", "debug"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        drop((child.stdout.take(), child.stderr.take()));
        child
    })
    .serves_to_the_end();
}

/// The pipe is neither read nor closed: it fills.
#[test]
fn its_output_is_stuck() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let odd = Odd::start(|folder, address| {
        let mut command = Server::command(folder, address, &["--log-level", "debug"]);
        let full = writer.try_clone().expect("a pipe");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(OwnedFd::from(full)).spawn().expect("the binary")
    });
    // 64 KiB fit into a pipe; several thousand lines do not.
    for _ in 0..1000 {
        let mut raw = Raw::connect(odd.address);
        raw.send("nonsense\r\n\r\n");
        raw.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(raw.answer().status, 400);
    }
    odd.serves_to_the_end();
    drop((reader, writer));
}

#[test]
fn its_log_has_no_space() {
    Odd::start(|folder, address| {
        let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let mut command = Server::command(folder, address, &["--log-level", "debug"]);
        command.stdin(Stdio::null()).stdout(full()).stderr(full()).spawn().expect("the binary")
    })
    .serves_to_the_end();
}

#[test]
fn started_without_standard_streams() {
    Odd::start(|folder, address| {
        let serve = Server::command(folder, address, &["--log-level", "debug"]);
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(serve.get_program()).args(serve.get_args());
        Server::clean(command).spawn().expect("a shell")
    })
    .serves_to_the_end();
}

#[test]
fn one_shot_commands_end_quietly_in_a_pipe() {
    for command in ["--help", "--version"] {
        let mut child =
            Server::program().arg(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
        assert!(output.status.success(), "{command}");
    }
    assert!(racerd(&["--help"]).stdout.len() > 1000);
    std::io::stdout().flush().unwrap();
}
