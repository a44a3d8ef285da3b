//! Commands that work beside a live database: none damages it, whatever the arguments; read-only media; file modes;
//! streams.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::command::{ended, refused};
use crate::support::*;

fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().expect("the binary")
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text_of(output));
    text_of(output)
}

/// Starts a server with three messages in a room. Returns it with the path and inode of its database.
fn talking() -> (Server, PathBuf, u64) {
    let server = Server::start(&[]);
    let mut member = server.member("r", "ann");
    for id in 1..=3 {
        member.say(id, json!(id));
    }
    let data = server.data();
    let inode = fs::metadata(&data).unwrap().ino();
    (server, data, inode)
}

/// Checks that the server takes messages, and still has all of them after a crash.
fn lives(server: &mut Server, inode: u64, messages: usize) {
    assert_eq!(fs::metadata(server.data()).unwrap().ino(), inode, "it is another file");
    server.member("r", "ann").say(9, json!("still there"));
    assert_eq!(server.history("r").len(), messages + 1);
    assert_eq!(server.get("/readyz").status, 200);
    server.kill();
    server.restart();
    assert_eq!(server.history("r").len(), messages + 1);
    assert!(!server.log().contains("damaged"), "{}", server.log());
}

#[test]
fn no_command_harms_a_database_in_use() {
    let (mut server, data, inode) = talking();
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name);
    let copy = at("copy.db");
    done(&racerd(&["backup", copy.to_str().unwrap(), "--data", data.to_str().unwrap()]));
    let own: Vec<PathBuf> =
        ["", "-wal", "-shm", "-journal", ".lock", ".draft", ".partial", ".instead-of-damaged", "-wal-journal"]
            .iter()
            .map(|suffix| beside(&data, suffix))
            .collect();
    let mut targets = own.clone();
    for (n, path) in own.iter().enumerate() {
        let link = at(&format!("soft{n}"));
        symlink(path, &link).unwrap();
        targets.push(link);
        let link = at(&format!("hard{n}"));
        if path.exists() {
            fs::hard_link(path, &link).unwrap();
            targets.push(link);
        }
    }
    let [data, copy] = [&data, &copy].map(|path| path.to_str().unwrap());
    for target in &targets {
        let target = target.to_str().unwrap();
        // A server that rests for 10 s empties its WAL, and a hard link to that is an empty file like any other.
        assert_eq!(server.post("/rooms/other/messages", "1").status, 201);
        for arguments in [
            &["backup", target, "--data", data][..],
            &["backup", target, "--data", data, "--force"],
            &["backup", target, "--data", copy, "--force"],
            &["salvage", copy, target],
            &["restore", copy, "--data", target],
            &["keygen", target],
            &["keygen", "--data", target],
            &["rekey", target, "--plain"],
            &["serve", "--listen", "127.0.0.1:0", "--data", target],
        ] {
            // A restore only moves a hard link to a side file away; the side file keeps its own name.
            if arguments[0] == "restore" && target.contains("hard") && !target.ends_with("hard0") {
                continue;
            }
            let output = racerd(arguments);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {}", text_of(&output));
            assert_eq!(text_of(&output).lines().count(), 1, "{arguments:?}: {}", text_of(&output));
        }
    }
    lives(&mut server, inode, 3);
    for path in &own {
        let name = path.to_str().unwrap();
        assert!(
            !path.exists()
                || ["", "-wal", "-shm", ".lock"].iter().any(|suffix| name.ends_with(&format!("racerd.db{suffix}"))),
            "{name}"
        );
    }
}

#[test]
fn a_copy_replaces_nothing_but_an_earlier_copy() {
    let (mut server, data, inode) = talking();
    let (mut other, others, other_inode) = talking();
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let backup = |to: &str, force: bool| {
        let mut arguments = vec!["backup", to, "--data", data.to_str().unwrap()];
        arguments.extend(force.then_some("--force"));
        racerd(&arguments)
    };
    ended(&backup(others.to_str().unwrap(), true), 1, "in use by another racerd");
    // The lock file is only the quick check: without it, the answer is the same.
    fs::remove_file(beside(&others, ".lock")).unwrap();
    ended(&backup(others.to_str().unwrap(), true), 1, "in use by another racerd");
    lives(&mut other, other_inode, 3);

    let copy = at("copy");
    done(&backup(&copy, false));
    refused(&backup(&copy, false), "exists");
    let first = fs::metadata(&copy).unwrap().ino();
    done(&backup(&copy, true));
    assert_ne!(fs::metadata(&copy).unwrap().ino(), first, "it was replaced as a whole");
    // A stale WAL or journal would be applied to the new file.
    for suffix in ["-wal", "-journal"] {
        fs::write(at(&format!("copy{suffix}")), "its last messages").unwrap();
        refused(&backup(&copy, true), suffix);
        fs::write(at(&format!("new{suffix}")), "stray").unwrap();
        refused(&backup(&at("new"), false), suffix);
        fs::remove_file(at(&format!("new{suffix}"))).unwrap();
        fs::write(at(&format!("copy{suffix}")), "").unwrap();
        done(&backup(&copy, true));
        assert!(!Path::new(&at(&format!("copy{suffix}"))).exists());
    }
    // The target is not a copy of a database.
    fs::write(at("letter"), "Dear Ann").unwrap();
    refused(&backup(&at("letter"), true), "not a racerd database");
    assert_eq!(fs::read_to_string(at("letter")).unwrap(), "Dear Ann");
    refused(&backup(folder.path().to_str().unwrap(), true), "is not a file");
    let fifo = at("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&backup(&fifo, true), "is not a file");
    // Nobody writes to it: a command that opened it would wait for ever.
    let rescued = at("rescued");
    for reading in [vec!["check", &fifo], vec!["restore", &fifo, "--data", &rescued], vec!["salvage", &fifo, &rescued]]
    {
        refused(&racerd(&reading), "is not a file");
    }
    assert!(!Path::new(&at("fifo.lock")).exists());
    lives(&mut server, inode, 3);
}

#[test]
fn a_copy_is_written_to_a_new_file() {
    let (mut server, data, inode) = talking();
    let folder = TempDir::new();
    let copy = folder.path().join("copy");
    let partial = beside(&copy, ".partial");
    let backup = || racerd(&["backup", copy.to_str().unwrap(), "--data", data.to_str().unwrap(), "--force"]);
    symlink(&data, &partial).unwrap();
    ended(&backup(), 1, "move it away");
    fs::remove_file(&partial).unwrap();
    fs::hard_link(&data, &partial).unwrap();
    ended(&backup(), 1, "another racerd is writing to it");
    fs::remove_file(&partial).unwrap();
    let letter = folder.path().join("letter");
    fs::write(&letter, "Dear Ann").unwrap();
    fs::hard_link(&letter, &partial).unwrap();
    done(&backup());
    assert_eq!(fs::read_to_string(&letter).unwrap(), "Dear Ann", "only the name was ours");
    fs::write(&partial, "half a copy").unwrap();
    done(&backup());
    assert!(done(&racerd(&["check", copy.to_str().unwrap()])).contains("3 messages in 1 room\n"));
    // This database was served under such a name.
    fs::copy(&copy, &partial).unwrap();
    fs::write(beside(&partial, ".lock"), "").unwrap();
    ended(&backup(), 1, "move it away");
    lives(&mut server, inode, 3);
}

/// Runs a command that sees the folder as a read-only medium.
pub fn read_only(folder: &Path, arguments: &[&str]) -> Output {
    let script = r#"mount --bind -o ro "$0" "$0" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(folder).arg(Server::program().get_program()).args(arguments);
    Server::clean(command).stdin(Stdio::null()).output().expect("unshare")
}

/// Runs a command as a user without write permission in the folder; root without its privileges counts as one.
fn without_privileges(arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    command.arg(Server::program().get_program()).args(arguments);
    Server::clean(command).stdin(Stdio::null()).output().expect("setpriv")
}

/// Reads a database of `messages` messages in every way that writes nothing beside it.
fn reads(data: &Path, messages: usize, run: impl Fn(&[&str]) -> Output) {
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = data.to_str().unwrap();
    let count = format!("{messages} messages in 1 room\n");
    assert!(done(&run(&["check", data])).contains(&count));
    done(&run(&["backup", &at("copy"), "--data", data]));
    assert!(done(&racerd(&["check", &at("copy")])).contains(&count));
    assert!(done(&run(&["restore", data, "--data", &at("restored")])).contains(&count[..count.len() - 1]));
    assert!(done(&run(&["salvage", data, &at("salvaged")])).contains(&format!("copied {messages} messages")));
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(serve.status.code(), Some(1), "{}", text_of(&serve));
    assert!(text_of(&serve).contains("writ") && text_of(&serve).lines().count() == 1, "{}", text_of(&serve));
}

#[test]
fn a_database_is_read_where_nobody_can_write() {
    let (mut server, data, _) = talking();
    let folder = data.parent().unwrap().to_owned();
    assert_eq!(server.stop().code(), Some(0));
    let modes = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    reads(&data, 3, |arguments| read_only(&folder, arguments));
    modes(0o500);
    reads(&data, 3, without_privileges);
    modes(0o700);
    // After a crash, the last messages are in the WAL.
    server.restart();
    server.member("r", "ann").say(4, json!("the last one"));
    server.kill();
    assert!(fs::metadata(beside(&data, "-wal")).unwrap().len() > 0);
    reads(&data, 4, |arguments| read_only(&folder, arguments));
    modes(0o500);
    reads(&data, 4, without_privileges);
    modes(0o700);
    // SQLite cannot read a WAL without its shared memory file.
    fs::remove_file(beside(&data, "-shm")).unwrap();
    let name = data.to_str().unwrap();
    let copy = TempDir::new();
    let copy = copy.path().join("copy");
    let copy = copy.to_str().unwrap();
    for arguments in [&["check", name][..], &["backup", copy, "--data", name]] {
        ended(&read_only(&folder, arguments), 1, "-wal holds its last messages");
    }
    ended(&read_only(&folder, &["rekey", name, "--plain"]), 1, "cannot be written to; make both writable");
    assert!(done(&read_only(&folder, &["salvage", name, copy])).contains("copied 4 messages"));
}

#[test]
fn nobody_but_the_owner_reads_what_belongs_to_a_database() {
    let folder = TempDir::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let serve = Server::command(&folder, "127.0.0.1:0", &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
    let mut server = Server::start_as(folder, command);
    let data = server.data();
    server.member("r", "ann").say(1, json!("between us"));
    let files = ["", "-wal", "-shm", ".lock"].map(|suffix| beside(&data, suffix));
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let copy = beside(&data, ".copy");
    let mut backup = Command::new("sh");
    backup.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(Server::program().get_program());
    backup.args(["backup".as_ref(), copy.as_os_str(), "--data".as_ref(), data.as_os_str()]);
    done(&Server::clean(backup).output().unwrap());
    assert_eq!(mode(&copy), 0o600);
    // The files are as if copied by hand, with other modes.
    server.kill();
    let older = beside(&data, ".damaged-1");
    fs::copy(&data, &older).unwrap();
    for file in files.iter().chain([&older]) {
        open(file);
    }
    open(&copy);
    server.restart();
    for file in files.iter().chain([&older]) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let line = format!("others could read or change {} (mode 644)", file.display());
        eventually("a line in the log", || server.log().contains(&line));
    }
    assert_eq!(mode(&copy), 0o644, "it belongs to nobody here");
    assert_eq!(server.history("r").len(), 1);
    // Anonymous clients learn that a damaged copy exists, not where.
    let ready = server.get("/readyz");
    assert!(ready.status == 200 && ready.body.contains("damaged once"), "{ready:?}");
    assert!(!ready.body.contains('/') && !ready.body.contains("racerd.db"), "{ready:?}");
}

#[test]
fn what_commands_print_is_fit_for_a_terminal() {
    let (mut server, data, _) = talking();
    assert_eq!(server.stop().code(), Some(0));
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let strange = at("a\u{1b}[31m\n\u{202e}b.db");
    let data = data.to_str().unwrap();
    for arguments in [
        &["backup", &strange, "--data", data][..],
        &["backup", &strange, "--data", data],
        &["check", &strange],
        &["restore", data, "--data", &strange],
        &["restore", &strange, "--data", &strange],
        &["salvage", &strange, &at("c\u{1b}c")],
        &["salvage", &strange, &strange],
        &["rekey", &strange, "--plain"],
        &["rekey", &strange],
        &["keygen", "--data", &at("k\u{7}k")],
        &["keygen", &strange],
        &["check", &at("nothing\u{9b}2J")],
        &["serve", "--listen", "127.0.0.1:0", "--data", &at("no\u{1b}/folder")],
    ] {
        let text = text_of(&racerd(arguments));
        let safe = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(!text.is_empty() && text.chars().all(safe), "{arguments:?}: {text:?}");
    }
    let conn = rusqlite::Connection::open(&strange).unwrap();
    conn.execute("DELETE FROM messages WHERE id = (1 << 39) + 2", []).unwrap();
    drop(conn);
    let output = racerd(&["check", &strange]);
    let text = text_of(&output);
    assert!(output.status.code() == Some(1) && text.contains("message 2 is missing"), "{text}");
    assert!(text.contains("is damaged: 1 fault;") && text.lines().count() == 2, "{text}");
}

#[test]
fn many_holes_are_one_line() {
    let server = Server::start(&["--request-rate", "0"]);
    let mut member = server.member("r", "ann");
    for id in 1..=100 {
        member.say(id, json!("x".repeat(100)));
    }
    let copy = beside(&server.data(), ".copy");
    let [copy, data] = [&copy, &server.data()].map(|path| path.to_str().unwrap().to_owned());
    done(&racerd(&["backup", &copy, "--data", &data]));
    let conn = rusqlite::Connection::open(&copy).unwrap();
    conn.execute_batch(
        "DELETE FROM messages WHERE id % 3 = 0 AND id > 1; UPDATE messages SET body = x'ff' WHERE id % 7 = 0 AND id > 1",
    )
    .unwrap();
    drop(conn);
    let text = text_of(&racerd(&["check", &copy]));
    assert!(text.contains("messages are missing in 32 places"), "{text}");
    assert!(text.contains("more like it)"), "{text}");
    assert!(text.lines().count() <= 6, "{text}");
}

/// Pipes one racerd command into another. Returns the second one's output.
fn piped(first: &[&str], second: &[&str]) -> Output {
    let mut one = Server::program().args(first).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = Server::program().args(second).stdin(one.stdout.take().unwrap()).output().unwrap();
    done(&one.wait_with_output().unwrap());
    output
}

#[test]
fn copies_go_through_pipes() {
    let (server, data, _) = talking();
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = data.to_str().unwrap();
    let backup = ["backup", "-", "--data", data];
    assert!(done(&piped(&backup, &["check", "-"])).contains("- is sound: 3 messages in 1 room\n"));
    assert!(done(&piped(&backup, &["restore", "-", "--data", &at("restored")])).contains("3 messages"));
    assert!(done(&racerd(&["check", &at("restored")])).contains("3 messages in 1 room\n"));
    assert!(done(&piped(&backup, &["salvage", "-", &at("salvaged")])).contains("copied 3 messages"));
    assert!(done(&piped(&["salvage", &at("salvaged"), "-"], &["check", "-"])).contains("3 messages in 1 room\n"));
    let output = racerd(&backup);
    fs::write(at("redirected"), &output.stdout).unwrap();
    let conn = rusqlite::Connection::open(at("redirected")).unwrap();
    let count: i64 = conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
    assert!(!Path::new("-").exists());
    assert_eq!(server.history("r").len(), 3);
}

#[test]
fn a_stream_that_fails_is_told_and_leaves_nothing() {
    let (server, data, _) = talking();
    let folder = TempDir::new();
    let data = data.to_str().unwrap().to_owned();
    let run = |arguments: &[&str], input: Stdio, output: Stdio| {
        let mut command = Server::program();
        command.args(arguments).env("TMPDIR", folder.path()).stdin(input).stdout(output).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let left = || fs::read_dir(folder.path()).unwrap().count();
    let backup = ["backup", "-", "--data", &data];
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    ended(&run(&backup, Stdio::null(), full.into()).wait_with_output().unwrap(), 1, "standard output");
    let mut child = run(&backup, Stdio::null(), Stdio::piped());
    drop(child.stdout.take());
    ended(&child.wait_with_output().unwrap(), 1, "Broken pipe");
    let mut child = run(&["check", "-"], Stdio::piped(), Stdio::piped());
    child.stdin.take().unwrap().write_all(b"Dear Ann").unwrap();
    refused(&child.wait_with_output().unwrap(), "- is not a racerd database");
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for reading in [vec!["check", "-"], vec!["restore", "-", "--data", &at("a")], vec!["salvage", "-", &at("b")]] {
        let output = run(&reading, Stdio::null(), Stdio::piped()).wait_with_output().unwrap();
        ended(&output, 1, "standard input is empty");
    }
    let mut missing = Server::program();
    missing.args(backup).env("TMPDIR", "/nowhere/at/all");
    ended(&missing.output().unwrap(), 1, "TMPDIR");
    assert_eq!(left(), 0);
    // script(1) provides a terminal.
    let program = Server::program().get_program().to_str().unwrap().to_owned();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{program} backup - --data {data}"), "/dev/null"]).stdin(Stdio::null());
    let output = Server::clean(script).output().expect("script");
    assert!(output.status.code() == Some(2) && text_of(&output).contains("terminal"), "{}", text_of(&output));
    drop(server);
}
