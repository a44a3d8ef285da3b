//! Plays the exchanges shown in docs/protocol.md against the binary: sends what the clients send there, and expects
//! the server output shown. `WRITE_TRANSCRIPTS=1 cargo test -F testing --test server transcripts` writes the actual
//! output into the document.
//!
//! Each block that begins with "```transcript" is played line by line. With arguments behind that word it starts a new
//! server with them (`fresh`: with none); without, it continues from the last block.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::sealed::{Key, Sealed};
use crate::support::*;
use crate::timers::narrow;

/// Fields whose values differ from run to run. A value that is repeated in the document has to be repeated in the run.
const VOLATILE: [&str; 8] =
    ["session", "member", "epoch", "at", "after", "behind", "reconnect_after_ms", "retry_after_ms"];

#[test]
fn the_documented_exchanges_are_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let text = fs::read_to_string(&path).expect("the document");
    let is_written = std::env::var_os("WRITE_TRANSCRIPTS").is_some();
    let mut play: Option<Play> = None;
    let (mut inside, mut blocks) = (false, 0);
    let mut written = String::new();
    for (index, line) in text.lines().enumerate() {
        let mut lines = vec![line.to_string()];
        match (line.strip_prefix("```transcript").map(str::trim), &mut play) {
            (Some(arguments), _) => {
                (inside, blocks) = (true, blocks + 1);
                if !arguments.is_empty() || play.is_none() {
                    play = Some(Play::begin(arguments));
                }
            }
            (None, Some(play)) if inside => {
                inside = line != "```";
                let played = play.play(index + 1, line);
                match played {
                    Ok(()) => {}
                    Err((_, real)) if is_written => lines = real,
                    Err((why, real)) => {
                        panic!("line {}: {why}\n  shown: {line}\n  real:  {}", index + 1, real.join("\n         "))
                    }
                }
            }
            (None, _) => {}
        }
        lines.iter().for_each(|line| written.extend([line, "\n"]));
    }
    assert!(blocks > 10 && !inside, "{blocks} blocks were played");
    if is_written {
        fs::write(&path, written).expect("the document");
    }
}

/// A server and the clients that speak to it.
struct Play {
    server: Server,
    speakers: BTreeMap<String, Speaker>,
    /// Values in the document, with the actual values of this run.
    known: BTreeMap<String, String>,
    /// The subset that is rewritten in the document.
    renewed: BTreeMap<String, String>,
    /// Output of the last command that the document has not shown yet.
    output: VecDeque<String>,
    /// Line number in the document, from 1.
    place: usize,
    key: Option<Key>,
}

impl Play {
    fn begin(arguments: &str) -> Play {
        let people = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/access.toml");
        let arguments = arguments.split_whitespace().filter(|word| *word != "fresh");
        let arguments = arguments.map(|word| if word == "access.toml" { people } else { word });
        let mut arguments: Vec<&str> = arguments.collect();
        if arguments.contains(&"--access-file") && !arguments.contains(&"--guests") {
            arguments.extend(["--guests", "none"]);
        }
        let key = arguments.contains(&"--sealed-key").then(Key::new);
        let server = match &key {
            Some(key) => {
                let is_key = |word: &&&str| !["--sealed-key", "KEY"].contains(*word);
                key.serve(&arguments.iter().filter(is_key).copied().collect::<Vec<_>>())
            }
            None => Server::start(&arguments),
        };
        let (speakers, known, renewed, output) = Default::default();
        Play { server, speakers, known, renewed, output, place: 0, key }
    }

    /// Plays one line.
    ///
    /// # Errors
    /// Fails with a reason and the lines that should stand in its place.
    fn play(&mut self, place: usize, line: &str) -> Result<(), (&'static str, Vec<String>)> {
        // Shown when the test fails.
        println!("line {place}: {line}");
        self.place = place;
        let is_output = line.is_empty()
            || ["{", "id: ", "event: ", "data: ", "retry: "].iter().any(|start| line.starts_with(start));
        if is_output {
            let real = self.output.pop_front();
            return match real {
                Some(real) => self.compare(line, real),
                None => Err(("the command did not say this", Vec::new())),
            };
        }
        let mut left: Vec<String> = self.output.drain(..).collect();
        let real = self.directive(line);
        if !left.is_empty() {
            left.push(real);
            return Err(("the command said more before this", left));
        }
        self.compare(line, real)
    }

    fn compare(&mut self, shown: &str, real: String) -> Result<(), (&'static str, Vec<String>)> {
        if self.is_same(shown, &real) {
            return Ok(());
        }
        self.learn(shown, &real);
        Err(("this is not what came", vec![real]))
    }

    /// Executes a line that is not output. Returns the line with its actual values.
    fn directive(&mut self, line: &str) -> String {
        let kept = line.to_string();
        if line == "```" {
            return kept;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            self.run(command);
            return kept;
        }
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(shown) = rest.strip_prefix("> ") {
            let said = self.real(shown);
            self.speaker(name).say(&said);
            return self.renewed.iter().fold(kept, |text, (shown, real)| text.replace(shown, real));
        }
        match *rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["<", "…"] => self.speaker(name).skip_messages(),
            ["<", ..] => return format!("{name} < {}", self.speaker(name).next()),
            ["opens", path] => self.enter(name, Way::Open(self.server.socket(path))),
            ["opens", path, "and", "reads", "nothing"] => {
                // The kernel buffers little for this socket.
                let mut raw = narrow(&self.server, 4096);
                raw.upgrade(path);
                self.enter(name, Way::Open(raw));
            }
            ["opens", "/ws", "sealed"] => {
                let key = self.key.as_ref().expect("a server with a key");
                let sealed = Sealed::connect(self.server.address, &key.pin);
                self.enter(name, Way::Sealed(Box::new(sealed)));
            }
            ["drops"] => drop(self.speakers.remove(name)),
            ["closes", code] => {
                let code: u16 = code.parse().expect("a code");
                let mut speaker = self.speakers.remove(name).expect("somebody");
                speaker.raw().send(close(code, b""));
                assert_eq!(speaker.raw().closed_with(), code);
            }
            ["is", "closed", "with", code] => {
                let mut speaker = self.speakers.remove(name).expect("somebody");
                assert_eq!(speaker.raw().closed_with().to_string(), code, "line {}", self.place);
            }
            ["sends", count, "messages", "of", bytes, "bytes"] => {
                let (count, bytes) = (count.parse().expect("a number"), bytes.parse().expect("a number"));
                self.speaker(name).flood(count, bytes);
            }
            ["keeps", "the", "newest", count] => self.wait_for_pruning(name, count.parse().expect("a number")),
            ["is", "stopped"] => self.server.signal(rustix::process::Signal::TERM),
            ["is", "restarted"] => {
                self.server.stop();
                self.server.restart();
            }
            _ => panic!("line {}: nobody knows how to play {line:?}", self.place),
        }
        kept
    }

    /// Returns whether the actual line matches the document, apart from values that differ from run to run.
    fn is_same(&mut self, shown: &str, real: &str) -> bool {
        if shown == real || shown.starts_with("retry: ") && real.starts_with("retry: ") {
            return true;
        }
        let split = |text: &str| text.find('{').unwrap_or(text.len());
        let (before, shown) = shown.split_at(split(shown));
        let (real_before, real) = real.split_at(split(real));
        let (Some((shown, rest)), Some((real, real_rest))) = (first_value(shown), first_value(real)) else {
            return self.real(before) == real_before && shown == real;
        };
        self.real(before) == real_before && rest == real_rest && self.agree(&shown, &real)
    }

    /// Maps values in the document to the actual ones, for the lines that follow.
    fn learn(&mut self, shown: &str, real: &str) {
        let value = |text: &str| text.find('{').and_then(|start| first_value(&text[start..])).map(|(value, _)| value);
        let (Some(shown), Some(real)) = (value(shown), value(real)) else { return };
        for field in VOLATILE {
            if let (Some(shown), Some(real)) = (shown[field].as_str(), real[field].as_str()) {
                self.known.insert(shown.to_string(), real.to_string());
                self.renewed.insert(shown.to_string(), real.to_string());
            }
        }
    }

    fn agree(&mut self, shown: &Value, real: &Value) -> bool {
        match (shown, real) {
            (Value::Object(shown), Value::Object(real)) => {
                shown.len() == real.len()
                    && shown.iter().zip(real).all(|((field, shown), (other, real))| {
                        field == other
                            && match VOLATILE.contains(&field.as_str()) || is_guest(shown) && is_guest(real) {
                                true if shown.is_object() || shown.is_array() => self.agree(shown, real),
                                true => self.bind(shown, real),
                                false => self.agree(shown, real),
                            }
                    })
            }
            (Value::Array(shown), Value::Array(real)) => {
                shown.len() == real.len() && shown.iter().zip(real).all(|(shown, real)| self.agree(shown, real))
            }
            _ => shown == real,
        }
    }

    /// Binds a value in the document to the actual one from now on. Numbers (times) may differ freely.
    fn bind(&mut self, shown: &Value, real: &Value) -> bool {
        match (shown, real) {
            (Value::Number(_), Value::Number(_)) => true,
            (Value::String(shown), Value::String(real)) => {
                self.known.entry(shown.clone()).or_insert_with(|| real.clone()) == real
            }
            _ => false,
        }
    }

    /// Returns the document's text with the actual values.
    fn real(&self, shown: &str) -> String {
        let text = shown.replace("localhost:7077", &self.server.address.to_string());
        self.known.iter().fold(text, |text, (shown, real)| text.replace(shown, real))
    }

    fn run(&mut self, command: &str) {
        let command = self.real(command);
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        let output = String::from_utf8(output.stdout).expect("text");
        self.output = output.lines().map(str::to_string).collect();
    }

    fn enter(&mut self, name: &str, way: Way) {
        self.speakers.insert(name.to_string(), Speaker { way, waiting: None });
    }

    fn speaker(&mut self, name: &str) -> &mut Speaker {
        let place = self.place;
        self.speakers.get_mut(name).unwrap_or_else(|| panic!("line {place}: {name} is not here"))
    }

    fn wait_for_pruning(&self, room: &str, count: u64) {
        eventually("the log is pruned", || {
            let page = self.server.get(&format!("/rooms/{room}/messages?limit=1")).json();
            page["oldest"].as_u64().expect("a seq") + count == page["head"].as_u64().expect("a seq") + 1
        });
    }
}

/// Splits off one JSON value at the beginning of a text.
fn first_value(text: &str) -> Option<(Value, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

/// Returns whether the server made up this name.
fn is_guest(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.starts_with("guest-"))
}

fn is_message(text: &str) -> bool {
    text.starts_with("{\"type\":\"message\"")
}

/// A client in the document.
struct Speaker {
    way: Way,
    /// A line received and not yet shown.
    waiting: Option<String>,
}

enum Way {
    Open(Raw),
    Sealed(Box<Sealed>),
}

impl Speaker {
    fn raw(&mut self) -> &mut Raw {
        match &mut self.way {
            Way::Open(raw) => raw,
            Way::Sealed(sealed) => &mut sealed.raw,
        }
    }

    fn say(&mut self, json: &str) {
        match &mut self.way {
            Way::Open(raw) => raw.send(text(json)),
            Way::Sealed(sealed) => sealed.send(serde_json::from_str(json).expect("JSON")),
        }
    }

    /// Returns the next object's text.
    fn next(&mut self) -> String {
        if let Some(text) = self.waiting.take() {
            return text;
        }
        match &mut self.way {
            Way::Sealed(sealed) => sealed.next_line().expect("it stays open"),
            Way::Open(raw) => loop {
                let heard = raw.frame().expect("it stays open");
                match heard.first {
                    0x81 => return String::from_utf8(heard.payload).expect("UTF-8"),
                    0x89 => raw.send(frame(0x8a, &heard.payload)),
                    _ => panic!("closed with {:?}", heard.close_code()),
                }
            },
        }
    }

    fn skip_messages(&mut self) {
        while self.waiting.is_none() {
            self.waiting = Some(self.next()).filter(|text| !is_message(text));
        }
    }

    /// Sends many messages, a few at a time, and reads all of them.
    fn flood(&mut self, count: u64, bytes: usize) {
        for id in 0..count {
            self.say(&json!({"type": "send", "id": id, "body": "x".repeat(bytes)}).to_string());
            while !is_message(&self.next()) {}
        }
    }
}
