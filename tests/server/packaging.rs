//! The statements of packaging/ about racerd hold: docs/operate.md shows the very files that were tested, and the
//! systemd unit forbids nothing that the binary does. Another step of tests/run checks that the unit is well-formed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::json;

use crate::support::*;

const UNIT: &str = include_str!("../../packaging/racerd.service");

#[test]
fn operate_md_shows_the_files_as_they_are() {
    let document = include_str!("../../docs/operate.md");
    for (name, text) in [
        ("packaging/nginx.conf", include_str!("../../packaging/nginx.conf")),
        ("packaging/Caddyfile", include_str!("../../packaging/Caddyfile")),
        ("packaging/haproxy.cfg", include_str!("../../packaging/haproxy.cfg")),
    ] {
        let shown: String =
            text.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("    {line}\n") }).collect();
        assert!(document.contains(&shown), "docs/operate.md does not show {name} as it is; it must contain\n{shown}");
    }
}

/// Returns the values of the unit's lines with this name.
fn values(name: &str) -> Vec<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

/// Returns the named sets of system calls of this machine's systemd.
fn sets() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze").arg("syscall-filter").output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze: {error}; tests/run installs it"));
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        match line.trim() {
            word if line.starts_with('@') => name = word.to_string(),
            word if line.starts_with(' ') && !word.starts_with('#') => {
                sets.entry(name.clone()).or_default().push(word.to_string());
            }
            _ => {}
        }
    }
    sets
}

fn expand(sets: &BTreeMap<String, Vec<String>>, name: &str, calls: &mut BTreeSet<String>) {
    match sets.get(name) {
        Some(members) => members.iter().for_each(|member| expand(sets, member, calls)),
        None => drop(calls.insert(name.to_string())),
    }
}

/// A core file would hold keys, and what strangers make racerd need is not taken from the whole machine.
#[test]
fn the_unit_bounds_memory_and_writes_no_core_file() {
    assert_eq!((values("LimitCORE"), values("MemoryMax")), (vec!["0"], vec!["50%"]));
}

/// A call that the filter refuses would fail only under systemd, unseen by every other test.
#[test]
fn the_unit_allows_every_system_call_that_is_made() {
    let sets = sets();
    let filter = values("SystemCallFilter");
    let refused = filter.iter().position(|word| word.starts_with('~')).expect("a list of what is refused");
    let (mut allowed, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    filter[..refused].iter().for_each(|name| expand(&sets, name, &mut allowed));
    filter[refused..].iter().for_each(|name| expand(&sets, name.trim_start_matches('~'), &mut forbidden));
    assert!(allowed.len() > 100 && forbidden.contains("reboot"), "the sets of system calls were not understood");

    let folder = TempDir::new();
    let trace = folder.path().join("trace");
    // SQLite calls fchown as root; a user namespace gives the test an ordinary user, like the unit's.
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "strace", "-D", "-f", "-qq", "-o"]).arg(&trace);
    let possible =
        Command::new("unshare").args(["--user", "--map-user=1000", "strace", "-o", "/dev/null", "true"]).status();
    assert!(
        possible.is_ok_and(|status| status.success()),
        "this test needs unshare and strace, and the right to trace in a namespace: tests/run installs them"
    );
    let serve = Server::command(&folder, "127.0.0.1:0", &["--max-message-size", "4KiB"]);
    command.arg(serve.get_program()).args(serve.get_args());
    let notified = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&notified).expect("a socket");
    command.env("NOTIFY_SOCKET", &notified).env("WATCHDOG_USEC", "30000000");
    let mut server = Server::start_as(folder, command);
    // A sample of everything: messages, history, pages, a refusal, a stop.
    let mut client = server.member("r", "a");
    for id in 0..50 {
        client.say(id, json!("x".repeat(3000)));
    }
    client.send(json!({"type": "history", "id": 99, "after": 0, "limit": 200}));
    client.next_of("history");
    assert_eq!(server.post("/rooms/r/messages", "1").status, 201);
    assert_eq!(server.get("/rooms/r/messages").status, 200);
    assert_eq!(server.post("/rooms/r/messages", &"1".repeat(5000)).status, 413);
    assert_eq!(server.stop().code(), Some(0));

    supervisor.set_nonblocking(true).expect("a socket");
    assert_eq!(supervisor.recv(&mut [0; 20]).ok(), Some("READY=1".len()));

    let text = String::from_utf8_lossy(&std::fs::read(&trace).expect("a trace")).into_owned();
    // Lines look like `123 name(arguments) = 0`; signals and exits begin differently.
    let calls: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        .collect();
    assert!(calls.contains("fdatasync") && calls.contains("writev") && calls.contains("accept4"), "{calls:?}");
    let wrong: Vec<&&str> =
        calls.iter().filter(|name| !allowed.contains(**name) || forbidden.contains(**name)).collect();
    assert!(wrong.is_empty(), "the unit's SystemCallFilter forbids {wrong:?}");
    // MemoryDenyWriteExecute: no memory is writable and executable, or becomes executable later.
    let code = |line: &&str| line.contains("PROT_EXEC") && (line.contains("PROT_WRITE") || line.contains(" mprotect("));
    assert_eq!(text.lines().find(code), None);
    // RestrictAddressFamilies: sockets of these families only.
    let families = values("RestrictAddressFamilies");
    for line in text.lines().filter(|line| line.contains(" socket(")) {
        assert!(families.iter().any(|family| line.contains(&format!("socket({family},"))), "{line}");
    }
}
