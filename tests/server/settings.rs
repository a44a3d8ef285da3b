//! The configuration file, the output of `--check-config` and `--print-config`, and SIGHUP on a running server.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::command::refused;
use crate::support::*;

/// A server with a configuration file to reload.
struct Configured {
    server: Server,
    file: PathBuf,
}

impl Configured {
    fn start(text: &str) -> Configured {
        let folder = TempDir::new();
        let file = folder.path().join("racerd.toml");
        fs::write(&file, text).unwrap();
        let server = Server::start_in(folder, "127.0.0.1:0", &["--config", file.to_str().unwrap()]);
        // This line follows the one that shows the address.
        eventually("a line", || server.log().contains(" started "));
        Configured { server, file }
    }

    /// Writes the file, sends SIGHUP, and waits for this word in the log. Returns the log since then.
    fn reads(&self, text: &str, word: &str) -> String {
        let before = self.server.log().len();
        fs::write(&self.file, text).unwrap();
        self.server.signal(Signal::HUP);
        let since = || self.server.log()[before..].to_string();
        eventually(word, || since().lines().any(|line| line.contains(word)) && since().ends_with('\n'));
        since()
    }

    /// Does the same with a valid file.
    fn takes(&self, text: &str) -> String {
        self.reads(text, "settings read again")
    }
}

fn racerd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Server::program().args(arguments).envs(environment.iter().copied()).output().expect("the binary")
}

fn body(size: usize) -> Value {
    json!("x".repeat(size))
}

#[test]
fn longer_and_shorter_messages_on_an_open_socket() {
    let racer = Configured::start("max_message_size = 1024\n");
    let mut client = racer.server.member("r", "ann");
    assert_eq!(client.welcome["limits"]["max_message_size"], 1024);
    client.say(1, body(100));
    let logged = racer.takes("max_message_size = \"8KiB\"\n");
    assert!(logged.contains("setting changed name=max_message_size old=1KiB new=8KiB"), "{logged}");
    client.say(2, body(5000));
    assert_eq!(racer.server.member("r", "bob").welcome["limits"]["max_message_size"], 8192);
    assert_eq!(racer.server.post("/rooms/r/messages", &body(5000).to_string()).status, 201);
    racer.takes("max_message_size = 1024\n");
    assert_eq!(racer.server.post("/rooms/r/messages", &body(5000).to_string()).status, 413);
    let mut raw = racer.server.socket("/rooms/r/ws?name=cat");
    raw.send(text(&json!({"type": "send", "id": 1, "body": body(5000)}).to_string()));
    assert_eq!(raw.closed_with(), 1009);
    client.say(3, body(100));
    client.send(json!({"type": "send", "id": 4, "body": body(5000)}));
    while client.next().is_some() {}
}

#[test]
fn a_shorter_ping_period_reaches_a_connection_that_is_idle_already() {
    // All times are long: an earlier deadline of any kind would make the server recompute the others, too.
    const LONG: &str =
        "ping_period = '1h'\npong_wait = '2h'\nkeep_alive = '1h'\nheader_timeout = '1h'\nwrite_wait = '1h'\n";
    let racer = Configured::start(LONG);
    let mut idle = racer.server.raw();
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    let mut raw = racer.server.socket("/ws");
    raw.send(text(r#"{"type":"ping","id":1}"#));
    raw.next_of("pong");
    racer.takes(&LONG.replace("'1h'", "'100ms'").replace("'2h'", "'200ms'"));
    assert_eq!(raw.frame().expect("a ping").first, 0x89);
    assert_eq!(raw.closed_with(), 4002);
    assert!(idle.ended(), "it has been idle for long enough by the new time");
}

#[test]
fn origins_come_and_go() {
    let racer = Configured::start("");
    let status = || racer.server.post_with("/rooms/r/messages", "1", "Origin: https://chat.example\r\n").status;
    assert_eq!(status(), 403);
    racer.takes("allow_origin = [\"https://other.example\", \"https://Chat.example:443\"]\n");
    assert_eq!(status(), 201);
    racer.takes("allow_origin = []\n");
    assert_eq!(status(), 403);
}

/// The allowed host names are those of the current file.
#[test]
fn hosts_come_and_go() {
    let racer = Configured::start("");
    let status = || racer.server.request("GET / HTTP/1.1\r\nHost: chat.example\r\n\r\n").status;
    assert_eq!(status(), 421);
    racer.takes("host = [\"Chat.Example.\"]\n");
    assert_eq!(status(), 200);
    racer.takes("host = [\"other.example\"]\n");
    assert_eq!(status(), 421);
    racer.takes("host = [\"*\"]\n");
    assert_eq!(status(), 200);
}

#[test]
fn the_log_grows_silent_and_changes_its_form() {
    let racer = Configured::start("log_level = \"info\"\n");
    let refuse = || assert_eq!(racer.server.request("nonsense\r\n\r\n").status, 400);
    refuse();
    eventually("a line", || racer.server.log().contains(" refused "));
    racer.takes("log_level = \"info\"\nlog_format = \"json\"\n");
    let before = racer.server.log().len();
    refuse();
    eventually("an object", || racer.server.log()[before..].contains("\"message\":\"refused\""));
    for line in racer.server.log()[before..].lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["time"].is_string() && value["level"].is_string(), "{line}");
        assert!(value["message"] != "refused" || value["status"] == 400, "numbers are numbers: {line}");
    }
    // At level `error`, neither this change nor the refusal after it is logged; the next fault is.
    fs::write(&racer.file, "log_level = \"error\"\nlog_format = \"json\"\nrequest_rate = 0\n").unwrap();
    racer.server.signal(Signal::HUP);
    eventually("the change", || racer.server.member("r", "ann").welcome["limits"]["request_rate"] == 0);
    let before = racer.server.log().len();
    refuse();
    let logged = racer.reads("nonsense", "the settings stay as they were");
    assert!(!racer.server.log()[before..].contains("refused"), "{logged}");
}

#[test]
fn a_file_that_is_not_in_order_changes_nothing() {
    let racer = Configured::start("max_message_size = 1024\nrooms_per_session = 7\n");
    let stays = "the settings stay as they were";
    for (text, words) in [
        (
            "max_message_size = 2048\nrooms_per_sesion = 8\n",
            "racerd.toml:2: rooms_per_sesion: unknown setting; did you mean",
        ),
        ("max_message_size = 2048\nping_period = \"2m\"\n", "9/10"),
        ("max_message_size = 2048\nhost = [\"a b\"]\n", "racerd.toml:2: host = a b: "),
        ("max_message_size = \n", "racerd.toml:1: "),
    ] {
        let logged = racer.reads(text, stays);
        assert!(logged.contains(words) && logged.lines().count() == 1, "{logged}");
    }
    fs::remove_file(&racer.file).unwrap();
    fs::create_dir(&racer.file).unwrap();
    let before = racer.server.log().len();
    racer.server.signal(Signal::HUP);
    eventually("a word on it", || racer.server.log()[before..].contains("is a directory"));
    let limits = racer.server.member("r", "ann").welcome["limits"].clone();
    assert_eq!((&limits["max_message_size"], &limits["rooms"]), (&json!(1024), &json!(7)));
}

#[test]
fn what_needs_a_restart_is_named() {
    let racer = Configured::start("rooms_per_session = 7\n");
    let logged = racer.takes("rooms_per_session = 8\nlisten = [\"127.0.0.1:1\"]\ndurability = \"normal\"\n");
    // The command line sets the listen address and takes precedence.
    assert!(!logged.contains("name=listen"), "{logged}");
    assert!(logged.contains("setting needs a restart name=durability running=full read=normal"), "{logged}");
    assert!(logged.contains("changed=1 need_restart=1"), "{logged}");
    let logged = racer.takes("rooms_per_session = 8\ndurability = \"normal\"\n");
    assert!(logged.contains("changed=0 need_restart=1"), "{logged}");
    assert_eq!(racer.server.member("r", "ann").welcome["limits"]["durability"], "full");
}

#[test]
fn without_a_file_it_says_so_and_goes_on() {
    let server = Server::start(&[]);
    server.signal(Signal::HUP);
    eventually("a word on it", || server.log().contains("without --config"));
    server.member("r", "ann").say(1, json!(1));
}

#[test]
fn a_storm_of_signals_disturbs_nobody() {
    let racer = Configured::start("rooms_per_session = 1\n");
    let mut client = racer.server.member("r", "ann");
    for round in 1..=50 {
        fs::write(&racer.file, format!("rooms_per_session = {round}\n")).unwrap();
        for _ in 0..10 {
            racer.server.signal(Signal::HUP);
        }
        client.say(round, json!(round));
    }
    eventually("the last file", || racer.server.member("r", "bob").welcome["limits"]["rooms"] == 50);
    assert!(!racer.server.log().contains("stay as they were"), "a half-written file is an empty one");
}

#[test]
fn sighup_while_stopping_is_declined() {
    let mut racer = Configured::start("drain_timeout = \"30s\"\nwrite_wait = \"1h\"\n");
    let mut stuck = crate::timers::narrow(&racer.server, 4096);
    stuck.upgrade("/rooms/r/ws");
    let mut writer = racer.server.member("r", "writer");
    for id in 0..30 {
        writer.say(id, body(30_000));
    }
    racer.server.signal(Signal::TERM);
    writer.next_of("bye");
    let before = racer.server.log().len();
    racer.server.signal(Signal::HUP);
    eventually("a word on it", || racer.server.log()[before..].contains("stopping: the settings are not read again"));
    drop((writer, stuck));
    assert_eq!(racer.server.wait(SOON).code(), Some(0));
}

#[test]
fn more_connections_are_accepted_once_they_may() {
    let racer = Configured::start("max_connections = 2\n");
    let (mut first, _second) = (racer.server.member("r", "ann"), racer.server.member("r", "bob"));
    let third = || {
        let mut third = racer.server.raw();
        third.send(handshake("/rooms/r/ws", ""));
        third.answer_head().status
    };
    assert_eq!(third(), 503);
    racer.takes("max_connections = 10\n");
    assert_eq!(third(), 101);
    racer.takes("max_connections = 1\n");
    first.say(1, json!("those beyond a lowered limit stay"));
}

/// Messages queued under the old limit are still delivered, and none is missing after them.
#[test]
fn a_queue_smaller_than_what_waits_loses_nothing() {
    // On a slow machine filling the queue takes longer than the 10 s of the default.
    let racer = Configured::start("queue_bytes = \"4MiB\"\nwrite_wait = \"2m\"\n");
    let mut slow = crate::timers::narrow(&racer.server, 4096);
    slow.upgrade("/rooms/r/ws?name=slow");
    slow.next_of("joined");
    let mut writer = racer.server.member("r", "writer");
    writer.send(json!({"type": "ping", "id": 1}));
    writer.next_of("pong");
    for id in 0..60 {
        writer.say(id, body(30_000));
    }
    racer.takes("queue_bytes = \"64KiB\"\nwrite_wait = \"2m\"\nrequest_rate = 0\n");
    for id in 60..65 {
        writer.say(id, body(30_000));
    }
    let seqs: Vec<Value> = (0..65).map(|_| slow.next_of("message")["seq"].clone()).collect();
    assert_eq!(seqs, (1..=65).map(|seq| json!(seq)).collect::<Vec<_>>());
}

#[test]
fn strong_and_weak_sources() {
    let folder = TempDir::new();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "\nping_period = \"1s\"\npong_wait = \"2s\"\nwrite_wait = \"3s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let environment = [("RACERD_CONFIG", file), ("RACERD_PONG_WAIT", "20s"), ("RACERD_WRITE_WAIT", "30s")];
    let output = racerd(&["--check-config", "--write-wait", "40s"], &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default().to_string();
    assert!(line("ping-period").contains("1s ") && line("ping-period").ends_with("mine.toml:2"), "{text}");
    assert!(line("pong-wait").contains("20s ") && line("pong-wait").ends_with("RACERD_PONG_WAIT"), "{text}");
    assert!(line("write-wait").contains("40s ") && line("write-wait").ends_with("--write-wait"), "{text}");
    // The last `--config` wins.
    assert_eq!(racerd(&["--config", "/nowhere", "--config", file, "--check-config"], &[]).status.code(), Some(0));
    assert_eq!(racerd(&["check-config", "--config", file], &[]).status.code(), Some(0));
}

#[test]
fn a_check_opens_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new();
    let data = folder.path().join("racerd.db");
    let listen = taken.local_addr().unwrap().to_string();
    let output = racerd(&["--check-config", "--listen", &listen, "--data", data.to_str().unwrap()], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{text}");
    assert!(text.contains(&listen) && text.contains("Memory: at most "), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_printed_file_starts_a_server() {
    let output = racerd(&["--print-config"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let racer = Configured::start(std::str::from_utf8(&output.stdout).unwrap());
    racer.server.member("r", "ann").say(1, json!(1));
    assert!(racer.takes(std::str::from_utf8(&output.stdout).unwrap()).contains("changed=0 need_restart=0"));
    refused(&racerd(&["--print-config", "--open"], &[]), "racerd check-config");
}

/// Start and check report the same fault of a file in one line and end with status 2.
#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = TempDir::new();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(path(name), bytes).unwrap();
        path(name)
    };
    let fifo = path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (name, words) in [
        (path("none.toml"), "No such file"),
        (folder.path().to_str().unwrap().to_string(), "is a directory"),
        (fifo, "is not a regular file"),
        (file("long.toml", &b"# long\n".repeat(200_000)), "longer than 1 MiB"),
        (file("latin.toml", b"data = \"a\"\n# caf\xe9\n"), "latin.toml:2: not valid UTF-8"),
        (file("zero.toml", b"\0\0\0\0"), "zero.toml:1: "),
        (file("deep.toml", "x = ".to_string().as_bytes()), "deep.toml:1: "),
        (file("nest.toml", format!("x = {}", "[".repeat(100_000)).as_bytes()), "nest.toml:1: "),
        (file("twice.toml", b"open = false\nopen = true\n"), "twice.toml:2: duplicate key: open"),
        (file("table.toml", b"[limits]\nin_flight = 3\n"), "table.toml:1: limits: the file has no tables"),
        (
            file("typo.toml", b"\n\nping_perod = \"1s\"\n"),
            "typo.toml:3: ping_perod: unknown setting; did you mean ping_period?",
        ),
        (file("type.toml", b"open = \"perhaps\"\n"), "type.toml:1: open = perhaps: allowed: true, false"),
        (file("self.toml", b"config = \"x\"\n"), "self.toml:1: config: only --config"),
    ] {
        refused(&racerd(&["serve", "--config", &name], &[]), words);
        refused(&racerd(&["--check-config", "--config", &name], &[]), words);
        refused(&racerd(&["health"], &[("RACERD_CONFIG", &name)]), words);
    }
    refused(&racerd(&["--config"], &[]), "--config needs a value");
    refused(&racerd(&["--config="], &[]), "--config needs a value");
    // The component that uses the setting finds this fault, not the setting's declaration.
    refused(&racerd(&["--check-config", "--allow-origin", "https://a..b"], &[]), "https://a..b");
}

#[test]
fn json_from_the_first_line_to_the_last() {
    let mut server = Server::start(&["--log-format", "json"]);
    let hostile = "\"}\n{\u{1b}[2J\u{202e}";
    server.request(format!("GET /{hostile} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    server.request("GET /rooms/%22%0a%7b/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    server.member("r", "ann").say(1, json!("not to be seen in a log"));
    assert_eq!(server.stop().code(), Some(0));
    let log = server.log();
    let messages: Vec<String> = log
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            value["message"].as_str().unwrap().to_string()
        })
        .collect();
    for word in ["started", "refused", "connection closed", "stopping", "stopped"] {
        assert!(messages.iter().any(|message| message == word), "{word}: {log}");
    }
    assert!(!log.contains("not to be seen"));
    // The reason for a failed start is plain text, for a human reader.
    refused(&racerd(&["--log-format", "json", "--data"], &[]), "racerd: --data needs a value");
}
