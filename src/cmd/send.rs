//! `racerd send URL [TEXT | -]`: sends messages to a room, and ends once the server has stored them.

use super::command::{Argument, Command, Completion, Example, ExitCode, Group, Opt, OptValue, Run, Settings};
use super::room::{self, RoomArgs, outcome, report};
use super::{Args, Failure, random};
use crate::client::{Begin, StdinLines, run as client};
use crate::crypto::room_key::{Kind, NONCE, RoomCipher, Stream, Unsealed, nonce_text};
use crate::protocol::encrypted::{Encrypted, Version};
use crate::types::Name;
use serde_json::value::RawValue;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

pub const COMMAND: Command = Command {
    word: "send",
    group: Group::Rooms,
    usage: &["send URL [TEXT | -] [OPTIONS]"],
    summary: "Send a message, or each line of standard input, to a room",
    about: &[
        "Sends TEXT, or each line of standard input as a message of its own, and ends once the server has stored all of \
         them. Empty lines are skipped. A line that cannot be sent is reported with its number, and the others are still \
         sent.",
        "After a lost connection it reconnects and resumes by itself; no message is lost or duplicated.",
    ],
    arguments: &[
        Argument { name: "URL", text: room::URL, completion: Completion::None },
        Argument {
            name: "TEXT",
            text: "The message. A text that begins with a dash goes behind --. Without TEXT, or with - in its place, the \
                   lines of standard input are sent.",
            completion: Completion::None,
        },
    ],
    options: &[
        room::NAME,
        room::ROOM_KEY,
        room::TOKEN,
        Opt {
            name: "key",
            value: OptValue::Text("KEY"),
            text: "The idempotency key of TEXT, 1 to 200 bytes. Without it, every message gets a random key.",
        },
        Opt {
            name: "json",
            value: OptValue::None,
            text: "TEXT, or each line, is the message's body in JSON. Without it, the body is {\"text\": TEXT}.",
        },
        room::PIN,
        room::CA,
        Opt {
            name: "timeout",
            value: OptValue::Text("DURATION"),
            text: "How long to wait for a connection. 0: for ever. Default: 30s.",
        },
    ],
    settings: Settings::NotTaken,
    surplus: "quote a text that contains spaces",
    examples: &[
        Example { line: "racerd send http://127.0.0.1:7077/rooms/lobby \"hello\" --name ann", text: "" },
        Example {
            line: "make 2>&1 | racerd send http://127.0.0.1:7077/rooms/builds -",
            text: "Sends each line as it is written.",
        },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "The server has stored every message." },
        ExitCode { code: 1, text: "The server refused a message, or did not acknowledge it in time." },
        room::USAGE_ERROR,
        room::NO_CONNECTION,
        room::MISMATCH,
    ],
    run: Run::OneShot(run),
};

/// Sends TEXT, or each line of standard input as one message, in order.
///
/// # Errors
/// [`Failure`]: messages that were not acknowledged may or may not be stored.
fn run(args: Args) -> Result<(), Failure> {
    let mut args = RoomArgs::read(args)?;
    args.warn_of_secrets();
    let cipher = args.cipher();
    if cipher.is_some() && args.name.is_none() && args.says_who() {
        let text = "send: with --token, a room key needs --name, too: the name by which the server knows you, since it is \
                    sealed into each message";
        return Err(Failure::Usage(text.into()));
    }
    if cipher.is_some() && args.name.is_none() {
        // What is sealed names its author, so the author cannot wait for the server to choose the name.
        args.name = Some(guest_name().map_err(|why| Failure::Failed(why.into()))?);
    }
    let text = match args.text.as_deref() {
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::Usage("send needs TEXT, or - to send the lines of standard input".into()));
        }
        None | Some("-") => None,
        Some(text) => Some(text),
    };
    if text.is_none() && args.key.is_some() {
        return Err(Failure::Usage("--key is for one TEXT; each line of standard input has its own key".into()));
    }
    let sealing = match (cipher, &args.name) {
        (Some(cipher), Some(name)) => {
            Some(Sealing::new(cipher, name.clone()).map_err(|why| Failure::Failed(why.into()))?)
        }
        _ => None,
    };
    let mut writer = Writer { sealing, json: args.json };
    let mut session = args.session(Begin::Now);
    if let Some(text) = text {
        let (key, body) = writer.message(text, args.key.clone()).map_err(|why| Failure::Usage(why.into()))?;
        session.send(0, key, body);
    }
    let is_one = text.is_some();
    let lines = StdinLines::new(Box::new(move |line| match line.trim().is_empty() {
        true => Ok(None),
        false => writer.message(line, None).map(Some),
    }));
    let lines = if is_one { lines.ended() } else { lines };
    let mut reported = String::new();
    outcome(client(&args.run_options(), &mut session, Some(lines), &mut |event| report(event, &mut reported)))
}

/// Turns texts into messages.
struct Writer {
    sealing: Option<Sealing>,
    /// The text is the body itself.
    json: bool,
}

/// What seals the messages of one run.
struct Sealing {
    cipher: RoomCipher,
    stream: Stream,
    name: Name,
}

impl Sealing {
    fn new(cipher: RoomCipher, name: Name) -> Result<Sealing, String> {
        Ok(Sealing { cipher, stream: Stream::new(&random()?), name })
    }

    /// Returns the body to be sent under this key.
    fn seal(&mut self, key: &str, body: &str) -> Result<String, String> {
        let nonce: [u8; NONCE] = *random()?;
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let sent = u64::try_from(sent).unwrap_or(u64::MAX);
        let unsealed = Unsealed { name: self.name.as_str(), sent, body };
        let ciphertext = self.cipher.seal(Kind::Message, key, &nonce, &mut self.stream, unsealed);
        let version = Version::Two { key_id: self.cipher.key_id().into() };
        let nonce = nonce_text(&nonce).into();
        Ok(Encrypted { version, key: key.into(), nonce, ciphertext: ciphertext.into() }.to_body())
    }
}

impl Writer {
    /// Returns key and body of the next message.
    fn message(&mut self, text: &str, key: Option<String>) -> Result<(String, String), String> {
        let key = match key {
            Some(key) => key,
            None => random_key()?,
        };
        let body = match self.json {
            true => {
                let fault = |error| format!("it is not a JSON value: {error}");
                serde_json::from_str::<&RawValue>(text).map_err(fault)?.get().to_string()
            }
            false => serde_json::json!({"text": text}).to_string(),
        };
        let body = match &mut self.sealing {
            Some(sealing) => sealing.seal(&key, &body)?,
            None => body,
        };
        Ok((key, body))
    }
}

/// Returns a name like those that the server gives to guests.
fn guest_name() -> Result<Name, String> {
    let name = format!("guest-{}", data_encoding::BASE32_NOPAD.encode(random::<4>()?.as_slice()).to_lowercase());
    Name::parse(&name).map_err(|fault| fault.text().to_owned())
}

/// Returns a key that nobody can guess, and use up beforehand: 128 random bits in base64url.
fn random_key() -> Result<String, String> {
    Ok(data_encoding::BASE64URL_NOPAD.encode(random::<16>()?.as_slice()))
}
