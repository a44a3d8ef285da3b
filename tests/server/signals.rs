//! Signals and resource limits that could end a process: each has a defined response. The table is in
//! src/server/signals.rs.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use serde_json::json;

use crate::support::*;

/// The binary as the first process of its own PID namespace, as in a container: the kernel delivers no signal to it
/// without a handler.
struct First {
    /// unshare(1), which exits with its child's status.
    outer: Child,
}

impl First {
    fn start(arguments: &[&str]) -> First {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
        command.arg(Server::program().get_program()).args(arguments);
        let outer = Server::clean(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        First { outer: outer.expect("unshare, which tests/run installs") }
    }

    fn pid(&self) -> Option<Pid> {
        let outer = self.outer.id();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Sends the signal and waits for the end. Returns the exit status.
    fn ends_with(mut self, signal: Signal) -> Option<i32> {
        kill_process(self.pid().expect("it runs"), signal).expect("a process of ours");
        let mut status = None;
        eventually("an end", || {
            status = self.outer.try_wait().expect("a child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

#[test]
fn the_first_process_of_a_container_can_be_stopped() {
    let server = Server::without_grace(&[]);
    let url = format!("http://{}/rooms/r", server.address);
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        for command in [vec!["tail", &url, "--follow"], vec!["send", &url, "-"]] {
            let first = First::start(&command);
            eventually("a member", || server.members("r") == 1);
            assert_eq!(first.ends_with(signal), Some(status), "{command:?}");
            eventually("it left", || server.members("r") == 0);
        }
    }
    // A command that waits for an answer.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let first = First::start(&["health", &url]);
    let _asked = mute.accept().unwrap();
    assert_eq!(first.ends_with(Signal::TERM), Some(143));
}

/// A server that is the first process stops gracefully, too.
#[test]
fn a_server_that_is_the_first_process_stops_in_order() {
    for signal in [Signal::TERM, Signal::POWER] {
        let folder = TempDir::new();
        let data = folder.path().join("racerd.db");
        let mut first = First::start(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
        let mut line = String::new();
        let mut said = std::io::BufReader::new(first.outer.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(line.contains("listens on"), "{line}");
        assert_eq!(first.ends_with(signal), Some(0), "{signal:?}");
    }
}

#[test]
fn signals_without_a_meaning_end_no_server() {
    let mut server = Server::start(&[]);
    let signals = [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::PIPE,
        Signal::XFSZ,
        Signal::STKFLT,
    ];
    for signal in signals {
        server.signal(signal);
        assert_eq!(server.get("/readyz").status, 200, "{signal:?}");
    }
    // The first one that is not the C library's own, SIGRTMIN, and others.
    let first = if cfg!(target_env = "musl") { "35" } else { "34" };
    for number in [first, "36", "50", "64"] {
        let status = Command::new("kill").args(["-s", number, &server.pid().to_string()]).status();
        assert!(status.unwrap().success());
        assert_eq!(server.get("/readyz").status, 200, "{number}");
    }
    eventually("a line", || server.log().contains("a signal that means nothing here signal=SIGUSR1"));
    eventually("another", || server.log().contains("signal=\"a real-time signal\""));
    server.signal(Signal::QUIT);
    assert_eq!(server.wait(SOON).code(), Some(0), "SIGQUIT stops it in order");
}

/// Whoever starts a process may have blocked signals for itself, and passes that on.
#[test]
fn signals_that_were_blocked_before_are_heard() {
    let blocked = |command: Command| {
        let mut env = Command::new("env");
        env.arg("--block-signal").arg(command.get_program()).args(command.get_args());
        Server::clean(env)
    };
    let folder = TempDir::new();
    let command = blocked(Server::command(&folder, "127.0.0.1:0", &[]));
    let mut server = Server::start_as(folder, command);
    server.signal(Signal::HUP);
    eventually("a reload", || server.log().contains("no settings to read again"));
    let url = format!("http://{}/rooms/r", server.address);
    let mut tail = Server::program();
    tail.args(["tail", &url, "--follow"]);
    let mut tail = blocked(tail).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("env");
    eventually("a member", || server.members("r") == 1);
    kill_process(Pid::from_child(&tail), Signal::TERM).expect("a process of ours");
    let mut status = None;
    eventually("its end", || {
        status = tail.try_wait().expect("a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(Signal::TERM.as_raw()));
    server.signal(Signal::TERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// The first is taken for a fault of this process by Rust's handler, which looks for overflows of a stack, finds none,
/// and leaves the next one to the system.
#[test]
fn a_fault_that_another_process_feigns_is_passed_over_once() {
    let mut server = Server::start(&[]);
    for signal in [Signal::SEGV, Signal::BUS] {
        server.signal(signal);
        assert_eq!(server.get("/readyz").status, 200, "{signal:?}");
    }
    server.signal(Signal::SEGV);
    assert_eq!(server.wait(SOON).signal(), Some(Signal::SEGV.as_raw()));
}

/// The CPU time limit sends a signal before it kills the process (setrlimit(2)).
#[test]
fn a_limit_of_processor_time_stops_in_order() {
    let mut server = Server::start(&[]);
    server.signal(Signal::XCPU);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// A write past the file size limit fails as on a full disk and does not end the process.
#[test]
fn a_limit_of_file_lengths_is_a_full_disk() {
    let mut server = Server::start(&[]);
    assert_eq!(server.post("/rooms/r/messages", "1").status, 201);
    let limit = |bytes: &str| {
        let pid = server.pid().to_string();
        let fsize = format!("--fsize={bytes}:unlimited");
        assert!(Command::new("prlimit").args(["--pid", &pid, &fsize]).status().expect("prlimit").success());
    };
    limit("4096");
    let answer = server.post("/rooms/r/messages", "2");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().is_some_and(|why| why.contains("file size limit")), "{answer:?}");
    eventually("what to do", || {
        server.log().contains("the file size limit is reached; raise it (ulimit -f, LimitFSIZE=)")
    });
    limit("unlimited");
    eventually("it takes messages again", || server.post("/rooms/r/messages", "3").status == 201);
    let bodies: Vec<u64> = server.history("r").iter().filter_map(|message| message["body"].as_u64()).collect();
    assert!(bodies.first() == Some(&1) && !bodies.contains(&2) && bodies.last() == Some(&3), "{bodies:?}");
    assert_eq!(server.stop().code(), Some(0));
}

/// A command past the limit fails with an error line that says so, whatever it copies, and leaves no half copy.
#[test]
fn a_copy_past_the_limit_says_so() {
    let mut server = Server::start(&[]);
    // More than the limit, which leaves room for what SQLite makes beside a database that it reads.
    for _ in 0..8 {
        assert_eq!(server.post("/rooms/r/messages", &json!("x".repeat(30_000)).to_string()).status, 201);
    }
    assert_eq!(server.stop().code(), Some(0));
    let at = |name: &str| server.folder.path().join(name).to_str().expect("a path").to_string();
    let data = server.data().to_str().expect("a path").to_string();
    for copying in [
        vec!["backup", &at("backup.db"), "--data", &data],
        vec!["restore", &data, "--data", &at("restored.db")],
        vec!["salvage", &data, &at("salvaged.db")],
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -f 100; exec "$0" "$@""#]).arg(Server::program().get_program()).args(&copying);
        crate::command::ended(&Server::clean(command).output().expect("a shell"), 1, "the file size limit is reached");
    }
    let names = std::fs::read_dir(server.folder.path()).expect("its folder");
    let names: Vec<String> = names.map(|entry| entry.expect("ours").file_name().into_string().expect("text")).collect();
    let half = names.iter().find(|name| [".partial", ".draft", "-journal"].iter().any(|end| name.ends_with(end)));
    assert!(half.is_none(), "{names:?}");
}

/// Standard descriptors 0 to 2 that are closed at the start are not reused for the database or a socket.
#[test]
fn closed_standard_streams_are_nobody_elses() {
    let folder = TempDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" <&- >&- 2>&-"#]).arg(Server::program().get_program());
    command.arg("serve").args(["--listen", &address.to_string(), "--data"]).arg(folder.path().join("racerd.db"));
    let mut child = Server::clean(command).spawn().expect("a shell");
    // An answer shows that the loop runs and handles signals.
    eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
    let mut raw = Raw::connect(address);
    raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    for descriptor in 0..3 {
        let target = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", child.id())).expect("a descriptor");
        assert_eq!(target.to_str(), Some("/dev/null"), "{descriptor}");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
