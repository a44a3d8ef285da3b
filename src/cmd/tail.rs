//! `racerd tail URL [--follow]`: prints a room's messages, one line each.

use super::command::{Argument, Command, Completion, Example, ExitCode, Group, Opt, OptValue, Run, Settings};
use super::room::{self, RoomArgs, outcome, report};
use super::terminal::{harmless_json, quoted_name};
use super::{Args, Failure, complain};
use crate::client::{Begin, ClientSession, Event, RunError, ServerMessage, run as client};
use crate::crypto::room_key::RoomCipher;
use crate::protocol::encrypted::{Encrypted, Version};
use crate::types::{Digest, Reason, harmless};
use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Write};

pub const COMMAND: Command = Command {
    word: "tail",
    group: Group::Rooms,
    usage: &["tail URL [--follow] [OPTIONS]"],
    summary: "Print a room's messages",
    about: &[
        "Prints the room's newest messages as NAME: TEXT, one line each. Characters that could control the terminal are \
         escaped, and a name that could be mistaken for text is quoted. Messages that are missing are reported on \
         standard error.",
        "With --follow it then prints new messages as they come. After a lost connection it reconnects and resumes by \
         itself; no message is lost or duplicated.",
    ],
    arguments: &[Argument { name: "URL", text: room::URL, completion: Completion::None }],
    options: &[
        Opt {
            name: "last",
            value: OptValue::Text("N"),
            text: "How many of the newest messages to begin with. Default: 10.",
        },
        Opt { name: "follow", value: OptValue::None, text: "Continue with new messages, until a signal." },
        Opt { name: "json", value: OptValue::None, text: "Print each message as its JSON object, on one line." },
        room::NAME,
        room::ROOM_KEY,
        room::PIN,
        room::CA,
        Opt {
            name: "timeout",
            value: OptValue::Text("DURATION"),
            text: "How long to wait for a connection. 0: for ever. Default: 30s; with --follow, for ever once there was a \
                   connection.",
        },
    ],
    settings: Settings::NotTaken,
    surplus: "it takes one URL, and racerd send sends a message",
    examples: &[
        Example { line: "racerd tail http://127.0.0.1:7077/rooms/lobby --follow", text: "" },
        Example {
            line: "racerd tail http://127.0.0.1:7077/rooms/lobby --last 100 --json | jq .body",
            text: "Hands the bodies of the last 100 messages to a program.",
        },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "The messages were printed, or nobody reads the output any more." },
        ExitCode { code: 1, text: "The server refused, or did not answer in time." },
        room::USAGE_ERROR,
        room::NO_CONNECTION,
        room::MISMATCH,
        ExitCode { code: 5, text: "Some messages could not be read with this room key." },
    ],
    run: Run::OneShot(run),
};

/// Messages to begin with, by default.
const LAST: u64 = 10;
/// Keys of encrypted messages that are remembered in order to recognize repeats.
const KEYS: usize = 100_000;

/// Prints the newest messages, and with `--follow` all later ones.
///
/// # Errors
/// [`Failure`]; [`Failure::Unreadable`] at the end if a message could not be read with the room key.
fn run(args: Args) -> Result<(), Failure> {
    let args = RoomArgs::read(args)?;
    args.warn_of_key();
    let begin = Begin::Last(args.last.unwrap_or(LAST));
    let mut session = ClientSession::new(args.target.room.clone(), args.name_inside(), begin);
    let mut reader = Reader::new(args.cipher(), args.json);
    let mut reported = String::new();
    let done = client(&args.run_options(), &mut session, None, &mut |event| {
        match event {
            Event::Message(text) => print(&reader.line(text))?,
            Event::Gap { after, from, new_log } => complain(&reader.gap(*after, *from, *new_log)),
            _ => {}
        }
        report(event, &mut reported)
    });
    outcome(done)?;
    match reader.unreadable {
        0 => Ok(()),
        count => Err(Failure::Unreadable(format!("{count} messages could not be read with this room key").into())),
    }
}

fn print(line: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(RunError::OutputClosed),
        done => done.map_err(|error| RunError::Refused(Reason::with(format!("standard output: {error}"), error))),
    }
}

/// Turns messages into lines of output. Pure.
pub(crate) struct Reader {
    cipher: Option<RoomCipher>,
    /// Prints each message's JSON object.
    json: bool,
    seen: Seen,
    unreadable: u64,
}

/// The readable content of a body.
enum Reading {
    /// It is not encrypted.
    Plain,
    Opened(String),
    /// It is encrypted, and no key was given.
    Sealed,
    /// The server can no longer read it from its disk.
    Damaged,
    /// It cannot be read, for this reason.
    Unreadable(&'static str),
}

impl Reader {
    /// Without a cipher, encrypted messages cannot be read. With `json`, each line is the message's object.
    pub(crate) fn new(cipher: Option<RoomCipher>, json: bool) -> Reader {
        Reader { cipher, json, seen: Seen::default(), unreadable: 0 }
    }

    /// Returns the line about messages missing between two seqs, or with `new_log` about a log that replaced the
    /// former.
    pub(crate) fn gap(&mut self, after: u64, from: u64, new_log: bool) -> String {
        if new_log {
            // In a log restored from a backup, the same messages may come again.
            self.seen = Seen::default();
            return "the server has a new log; some messages may be missing".to_owned();
        }
        format!("messages {} to {} are no longer kept", after + 1, from - 1)
    }

    /// Returns the line of a message, with its line feed.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let Some(message) = ServerMessage::parse(text) else { return String::new() };
        let body = message.raw("body").unwrap_or("null");
        let is_damaged = message.raw("unreadable") == Some("true");
        let reading = if is_damaged { Reading::Damaged } else { self.read(body) };
        if matches!(reading, Reading::Unreadable(_)) {
            self.unreadable += 1;
        }
        if self.json { self.object(text, body, &reading) } else { self.text_line(&message, body, &reading) }
    }

    fn read(&mut self, body: &str) -> Reading {
        let Some(sealed) = Encrypted::parse(body) else { return Reading::Plain };
        let Some(cipher) = &self.cipher else { return Reading::Sealed };
        let opened = cipher.open(&sealed.key, &sealed.nonce, &sealed.ciphertext);
        let Some(opened) = opened.filter(|inner| serde_json::from_str::<&serde_json::value::RawValue>(inner).is_ok())
        else {
            return Reading::Unreadable("can't be read with this key");
        };
        // A message copied from the wire or the log cannot be passed off as a new one.
        match self.seen.is_new(&sealed.key) {
            true => Reading::Opened(opened),
            false => Reading::Unreadable("a repeat of an earlier message"),
        }
    }

    /// Returns `name: text`.
    fn text_line(&self, message: &ServerMessage, body: &str, reading: &Reading) -> String {
        let name = message.object("from").and_then(|from| from.string("name")).unwrap_or_default();
        let name = quoted_name(&name);
        match reading {
            // In an encrypted room anyone, also the server, can send a message that is not encrypted.
            Reading::Plain if self.cipher.is_some() => format!("{name} (not encrypted): {}\n", words(body)),
            Reading::Plain => format!("{name}: {}\n", words(body)),
            Reading::Opened(inner) => format!("{name}: {}\n", words(inner)),
            Reading::Sealed => format!("{name}: (encrypted; --room-key KEY decrypts it)\n"),
            Reading::Damaged => format!("{name}: (damaged on the server's disk)\n"),
            Reading::Unreadable(why) => format!("{name}: ({why})\n"),
        }
    }

    /// Returns the message's object. A decrypted message has its inner body and `"encrypted":true`; one that cannot be
    /// read has `unreadable` with the reason.
    fn object(&self, text: &str, body: &str, reading: &Reading) -> String {
        let text = text.trim_end();
        let with =
            |field: &str, value: &str| format!("{},\"{field}\":{value}}}", text.strip_suffix('}').unwrap_or(text));
        let line = match reading {
            Reading::Plain | Reading::Sealed | Reading::Damaged => text.to_string(),
            // The text of an encrypted body occurs only once in a message.
            Reading::Opened(inner) => with("encrypted", "true").replacen(body, inner, 1),
            Reading::Unreadable(why) => with("unreadable", &serde_json::json!(why).to_string()),
        };
        harmless_json(&line) + "\n"
    }
}

/// Returns the `text` of a body, or the whole body as JSON.
fn words(body: &str) -> String {
    match ServerMessage::parse(body).and_then(|body| body.string("text")) {
        Some(text) => harmless(&text),
        None => harmless_json(body),
    }
}

/// The keys of the last [`KEYS`] encrypted messages that were read.
#[derive(Default)]
struct Seen {
    keys: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Seen {
    fn is_new(&mut self, key: &str) -> bool {
        let digest = Digest::of(key.as_bytes());
        if !self.keys.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::room_key::{NONCE, RoomKey, nonce_text};
    use crate::types::RoomId;

    fn cipher(key: u8) -> RoomCipher {
        RoomKey::new([key; 32]).cipher(&RoomId::parse("lobby").unwrap())
    }

    fn reader(key: Option<u8>, json: bool) -> Reader {
        Reader::new(key.map(cipher), json)
    }

    fn message(body: &str) -> String {
        format!(r#"{{"type":"message","seq":1,"from":{{"member":"m-1","name":"ann"}},"body":{body}}}"#)
    }

    fn sealed(key: &str) -> String {
        let ciphertext = cipher(1).seal(key, [2; NONCE], r#"{"text":"psst"}"#);
        Encrypted {
            version: Version::One,
            key: key.into(),
            nonce: nonce_text(&[2; NONCE]).into(),
            ciphertext: ciphertext.into(),
        }
        .to_body()
    }

    #[test]
    fn lines_for_people() {
        let of = |body: &str| reader(None, false).line(&message(body));
        assert_eq!(of(r#"{"text":"hello"}"#), "ann: hello\n");
        assert_eq!(of(r#"{"text":"\u001b[2J\nbob: hi"}"#), "ann: \\u{1b}[2J\\nbob: hi\n");
        let forged = message("{\"text\":\"hi\"}").replace("ann", "bob: yes, send it.  eve");
        assert_eq!(reader(None, false).line(&forged), "\"bob: yes, send it.  eve\": hi\n");
        assert_eq!(of(r#"{"text":7, "x":1}"#), "ann: {\"text\":7, \"x\":1}\n");
        assert_eq!(of("[1,\n\t\"\u{9b}\"]"), "ann: [1,  \"\\u009b\"]\n");
        assert_eq!(of(&sealed("k")), "ann: (encrypted; --room-key KEY decrypts it)\n");
        let damaged = r#"{"type":"message","seq":1,"from":{"name":"?"},"body":null,"unreadable":true}"#;
        for key in [None, Some(1)] {
            assert_eq!(reader(key, false).line(damaged), "?: (damaged on the server's disk)\n");
        }
        assert_eq!(reader(None, true).line(damaged), format!("{damaged}\n"));
    }

    #[test]
    fn encrypted_messages_are_read_once_and_with_the_right_key() {
        let mut right = reader(Some(1), false);
        assert_eq!(right.line(&message(&sealed("k"))), "ann: psst\n");
        assert_eq!(right.line(&message("{\"text\":\"x\"}")), "ann (not encrypted): x\n");
        assert_eq!(right.unreadable, 0);
        assert!(right.line(&message(&sealed("k"))).contains("a repeat of"));
        assert_eq!(right.line(&message(&sealed("k2"))), "ann: psst\n");
        assert_eq!(right.unreadable, 1);
        let mut wrong = reader(Some(2), false);
        assert_eq!(wrong.line(&message(&sealed("k"))), "ann: (can't be read with this key)\n");
        assert_eq!(wrong.unreadable, 1);
    }

    #[test]
    fn objects_for_programs() {
        let of = |key, body: &str| -> serde_json::Value {
            let line = reader(key, true).line(&message(body));
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
            serde_json::from_str(&line).unwrap()
        };
        assert_eq!(of(None, "[1,\n2]")["body"], serde_json::json!([1, 2]));
        let opened = of(Some(1), &sealed("k"));
        assert_eq!((&opened["body"]["text"], &opened["encrypted"]), (&"psst".into(), &true.into()));
        let unreadable = of(Some(2), &sealed("k"));
        assert_eq!(
            (&unreadable["unreadable"], &unreadable["body"]["e2e"]),
            (&"can't be read with this key".into(), &1.into())
        );
        assert_eq!(of(Some(1), "1").get("encrypted"), None);
    }

    #[test]
    fn the_last_keys_are_remembered() {
        let mut seen = Seen::default();
        for n in 0..=KEYS {
            assert!(seen.is_new(&n.to_string()));
        }
        assert!(!seen.is_new("1") && seen.is_new("0"));
        assert_eq!((seen.keys.len(), seen.order.len()), (KEYS, KEYS));
    }
}
