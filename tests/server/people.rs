//! Who may do what, on the real binary: the access file at the start and at SIGHUP, the command line, and clients that
//! we did not write.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use racerd::crypto::sealed::SealedKey;
use serde_json::json;

use crate::command::ended;
use crate::foreign::environment;
use crate::support::*;

/// Makes a token and the line of the access file, as an operator would.
fn token(arguments: &[&str]) -> (String, String) {
    let output = Server::program().arg("token").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (token, line) = text.split_once('\n').unwrap();
    assert!(token.starts_with("rt1_") && token.len() == 47, "{token}");
    assert!(!line.contains(token), "the line has only the digest");
    (token.to_owned(), line.trim_end().to_owned())
}

struct Known {
    server: Server,
    /// Those of writer, reader and bot.
    tokens: [String; 3],
    lines: [String; 3],
}

impl Known {
    /// Starts a server whose access file names three people.
    fn start(arguments: &[&str]) -> Known {
        let folder = TempDir::new();
        let people = [
            token(&["writer", "--name", "Will", "--grant", "team-*=send"]),
            token(&["reader", "--grant", "team-*=read"]),
            token(&["bot", "--name", "Bot", "--grant", "*=send"]),
        ];
        let [tokens, lines] =
            [0, 1].map(|part| people.clone().map(|(token, line)| if part == 0 { token } else { line }));
        let file = folder.path().join("access.toml");
        fs::write(&file, format!("[people]\n{}\n", lines.join("\n"))).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let arguments = [&["--access-file", &file, "--guests", "auto"], arguments].concat();
        Known { server: Server::start_in(folder, "127.0.0.1:0", &arguments), tokens, lines }
    }

    fn file(&self) -> std::path::PathBuf {
        self.server.folder.path().join("access.toml")
    }

    /// Replaces the file as an editor does, and makes the server read it.
    fn names(&self, text: &str) {
        let new = self.server.folder.path().join("new.toml");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
        self.server.signal(rustix::process::Signal::HUP);
    }

    /// Writes a token into a file, for the command line.
    fn token_file(&self, index: usize) -> String {
        let path = self.server.folder.path().join(format!("token-{index}"));
        fs::write(&path, format!("{}\n", self.tokens[index])).unwrap();
        format!("@{}", path.display())
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.server.request(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn racerd(arguments: &[&str]) -> Output {
    Server::program().args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn people_do_what_they_are_granted() {
    let known = Known::start(&[]);
    let [writer, reader, _] = &known.tokens;
    let messages = "/rooms/team-a/messages";
    assert_eq!(known.server.post_with(messages, "1", &bearer(writer)).status, 201);
    let refused = known.server.post_with(messages, "2", &bearer(reader));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("forbidden")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("the right 'send'"), "{}", refused.body);
    for answer in [known.server.post(messages, "3"), known.get(messages, ""), known.get("/rooms/team-a/ws", "")] {
        assert_eq!((answer.status, answer.header("WWW-Authenticate")), (401, Some("Bearer realm=\"racerd\"")));
    }
    let history = known.get(messages, &bearer(reader)).json();
    let said: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|m| (&m["body"], &m["from"]["name"])).collect();
    assert_eq!(said, [(&json!(1), &json!("Will"))]);
    assert_eq!(known.get("/rooms/other/messages", &bearer(writer)).status, 403);
    // A browser is told how to ask, and may send the header from another origin.
    for path in ["/", "/rooms/team-a", "/healthz", "/readyz"] {
        assert_eq!(known.get(path, "").status, 200, "{path}");
    }
    let log = known.server.log();
    assert!(log.contains("guests=none people=3") && !log.contains("rt1_"), "{log}");
}

#[test]
fn the_file_is_read_again_and_applied_at_once() {
    let known = Known::start(&[]);
    let [writer, reader, bot] = &known.tokens;
    let open = |token: &str| {
        let mut socket = known.server.raw();
        socket.send(handshake("/rooms/team-a/ws", &bearer(token)));
        assert!(socket.head().starts_with("HTTP/1.1 101"));
        socket.next_of("joined");
        socket
    };
    let (mut will, mut other) = (open(writer), open(bot));
    // A fault leaves everything as it was.
    known.names("[people]\nwriter = { grants = 1 }\n");
    eventually("the fault is told", || known.server.log().contains("access.toml:2: writer"));
    other.send(text(r#"{"type":"send","id":1,"body":1}"#));
    assert_eq!(will.next_of("message")["body"], 1);
    // Will goes, and whoever was the bot may only read by now.
    let line = known.lines[2].replace("\"send\"", "\"read\"");
    known.names(&format!("[people]\n{}\n{line}\n", known.lines[1]));
    assert_eq!(will.next_of("error")["code"], "unauthorized");
    assert_eq!(will.closed_with(), 4005);
    other.send(text(r#"{"type":"send","id":2,"body":2}"#));
    assert_eq!(other.next_of("error")["code"], "forbidden");
    assert_eq!(known.get("/rooms/team-a/messages", &bearer(writer)).status, 401);
    assert_eq!(known.get("/rooms/team-a/messages", &bearer(reader)).status, 200);
    assert_eq!(known.get("/rooms/team-a/members", &bearer(reader)).json()["count"], 1);
}

#[test]
fn an_access_file_that_cannot_be_used_stops_the_start() {
    let folder = TempDir::new();
    let file = folder.path().join("access.toml");
    fs::write(&file, "[people]\nalice = { token_sha256 = \"rt1_secret\" }\n").unwrap();
    let data = folder.path().join("racerd.db");
    let [shown, data] = [&file, &data].map(|path| path.to_str().unwrap());
    let start = || racerd(&["serve", "--listen", "127.0.0.1:0", "--data", data, "--access-file", shown]);
    ended(&start(), 2, "access.toml:2: alice.token_sha256: 64 hexadecimal digits are wanted");
    ended(&racerd(&["check-config", "--access-file", shown]), 2, "access.toml:2: ");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    ended(&start(), 2, "chmod go-w");
    fs::remove_file(&file).unwrap();
    ended(&start(), 2, "No such file");
}

/// The usual server is on loopback behind a proxy, where everybody can reach it.
#[test]
fn a_server_for_others_lets_nobody_in_by_itself() {
    for (arguments, status) in [
        (&[][..], 200),
        (&["--host", "chat.example"], 401),
        (&["--trusted-proxy", "127.0.0.1"], 401),
        (&["--host", "chat.example", "--open"], 200),
    ] {
        let server = Server::start(&[arguments, &["--guests", "auto"]].concat());
        let answer = server.get("/rooms/lobby/messages");
        assert_eq!(answer.status, status, "{arguments:?}");
        let warned = server.log().contains("nobody may enter: name people in --access-file");
        assert_eq!(warned, status == 401, "{arguments:?}: {}", server.log());
    }
}

#[test]
fn the_command_line_says_who_it_is() {
    let folder = TempDir::new();
    let key = folder.path().join("sealed.key");
    let key = key.to_str().unwrap();
    assert!(racerd(&["keygen", key]).status.success());
    let pin = SealedKey::parse(&fs::read_to_string(key).unwrap()).unwrap().pin();
    let known = Known::start(&["--sealed-key", key]);
    let url = format!("http://{}/rooms/team-a", known.server.address);
    let (writer, reader) = (known.token_file(0), known.token_file(1));
    for url in [url.clone(), format!("{url}#pin={pin}")] {
        let sent = racerd(&["send", &url, "hello", "--token", &writer]);
        assert!(sent.status.success(), "{sent:?}");
        let heard = racerd(&["tail", &url, "--token", &reader, "--last", "1"]);
        assert_eq!(String::from_utf8(heard.stdout).unwrap(), "Will: hello\n");
        ended(&racerd(&["send", &url, "hello", "--token", &reader]), 1, "you may not write in this room");
        ended(&racerd(&["tail", &url]), 1, "guests may not read this room");
        let wrong = folder.path().join("wrong");
        fs::write(&wrong, "rt1_wrong").unwrap();
        let refused = racerd(&["tail", &url, "--token", &format!("@{}", wrong.display())]);
        ended(&refused, 1, "nobody is known by this token");
    }
    // What is sealed for a room names its author, as the server does.
    let sealed = url.replace("team-a", "team-sealed");
    let room_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let key = folder.path().join("room.key");
    fs::write(&key, room_key).unwrap();
    let key = format!("@{}", key.display());
    ended(&racerd(&["send", &sealed, "hello", "--token", &writer, "--room-key", &key]), 2, "needs --name, too");
    let sent = racerd(&["send", &sealed, "hello", "--token", &writer, "--room-key", &key, "--name", "Will"]);
    assert!(sent.status.success(), "{sent:?}");
    let heard = racerd(&["tail", &sealed, "--token", &reader, "--room-key", &key, "--last", "1"]);
    assert_eq!(String::from_utf8(heard.stdout).unwrap(), "Will: hello\n");
    // Whoever follows stops once the token is gone, and says so.
    let mut child = Server::program();
    let child = child.args(["tail", &url, "--follow", "--last", "1", "--token", &reader]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "Will: hello\n");
    known.names(&format!("[people]\n{}\n", known.lines[0]));
    within(6 * SOON, "the end of tail", || child.try_wait().unwrap().is_some());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("4005") && child.wait().unwrap().code() == Some(1), "{text}");
}

#[test]
fn pythons_websockets_says_who_it_is() {
    let known = Known::start(&[]);
    let output = Command::new(environment("RACERD_PYTHON"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/known.py"))
        .args([format!("ws://{}", known.server.address), "team-a".into(), known.tokens[2].clone()])
        .output()
        .expect("python; run tests/run, which installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let history = known.get("/rooms/team-a/messages", &bearer(&known.tokens[1])).json();
    let bodies: Vec<_> = history["messages"].as_array().unwrap().iter().map(|message| &message["body"]).collect();
    assert_eq!(bodies, [&json!("by a header"), &json!("by a frame")]);
}

/// A key that somebody used before a restart is recognized after it, over another kind of connection.
#[test]
fn keys_of_somebody_known_outlive_a_kill() {
    let mut known = Known::start(&[]);
    let mut socket = known.server.raw();
    socket.send(handshake("/rooms/team-a/ws", &bearer(&known.tokens[0])));
    assert!(socket.head().starts_with("HTTP/1.1 101"));
    socket.next_of("joined");
    socket.send(text(r#"{"type":"send","id":1,"key":"k-1","body":{"text":"once"}}"#));
    let seq = socket.next_of("ack")["seq"].clone();
    known.server.kill();
    known.server.restart();
    let headers = format!("{}Idempotency-Key: k-1\r\n", bearer(&known.tokens[0]));
    let again = known.server.post_with("/rooms/team-a/messages", r#"{"text":"once"}"#, &headers);
    assert_eq!((again.status, &again.json()["seq"], &again.json()["duplicate"]), (200, &seq, &json!(true)));
}
