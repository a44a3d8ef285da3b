//! The common part of `send` and `tail`: their arguments, and the exit codes of their runs.

use super::command::{ExitCode, Opt, OptValue};
use super::{Args, Failure, complain};
use crate::client::{Begin, ClientSession, Event, RunError, RunOptions, Target};
use crate::config;
use crate::crypto::room_key::{RoomCipher, RoomKey};
use crate::crypto::sealed::Pin;
use crate::named_file::{self, Named};
use crate::types::{Cause, MAX_NUMBER, Name, Unusable, harmless};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Milliseconds to wait for a connection, by default.
const TIMEOUT: u64 = 30_000;

/// Longest file of a room key or a token, in bytes.
const LONGEST_FILE: u64 = 8 << 10;

/// The argument and the options that both commands declare.
pub const URL: &str = "The room: http://HOST:PORT/rooms/ROOM (or https, ws, wss), as the page's address bar has it, with \
                       #pin=PIN&k=KEY if that is part of it.";
pub const NAME: Opt = Opt { name: "name", value: OptValue::Text("NAME"), text: "The name that others see." };
pub const ROOM_KEY: Opt = Opt {
    name: "room-key",
    value: OptValue::Text("KEY|@FILE"),
    text: "The key of an encrypted room, or the file that contains it, which keeps it out of the list of processes.",
};
pub const TOKEN: Opt = Opt {
    name: "token",
    value: OptValue::Text("TOKEN|@FILE"),
    text: "The token by which the server knows who this is, or the file that contains it. The server then gives the \
           name.",
};
pub const PIN: Opt = Opt {
    name: "pin",
    value: OptValue::Text("PIN"),
    text: "Use a sealed socket to the server whose key has this pin, or fail.",
};
pub const CA: Opt =
    Opt { name: "ca", value: OptValue::File("FILE"), text: "Also trust the certificates in this PEM file." };
pub const USAGE_ERROR: ExitCode = ExitCode { code: 2, text: "Usage error: the arguments, or a file that they name." };
pub const NO_CONNECTION: ExitCode = ExitCode { code: 3, text: "No connection in time." };
pub const MISMATCH: ExitCode = ExitCode { code: 4, text: "The server's pin or certificate does not match." };

/// Where a secret was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// In a file, or not at all.
    Hidden,
    /// In the URL or in an option, both of which the list of processes shows.
    Arguments,
}

impl Given {
    /// Returns where a secret was seen, if it is also given by this option: whatever comes after it, one among the
    /// arguments was.
    fn or(self, value: &str) -> Given {
        if value.starts_with('@') { self } else { Given::Arguments }
    }
}

/// The command line of `send` or `tail`.
#[derive(Debug)]
pub struct RoomArgs {
    pub target: Target,
    /// The argument behind the URL.
    pub text: Option<String>,
    pub name: Option<Name>,
    pub key: Option<String>,
    pub last: Option<u64>,
    pub json: bool,
    pub follow: bool,
    pin: Option<Pin>,
    room_key: Option<RoomKey>,
    token: Option<Zeroizing<String>>,
    key_given: Given,
    token_given: Given,
    ca: Option<PathBuf>,
    /// In milliseconds; 0 is for ever.
    timeout: Option<u64>,
}

impl RoomArgs {
    /// Reads the URL and the options.
    ///
    /// # Errors
    /// [`Failure::Usage`], which never quotes a secret; [`Failure::Failed`] where the file of a room key cannot be
    /// read.
    pub fn read(mut args: Args) -> Result<RoomArgs, Failure> {
        let mut target = Target::parse(&unicode("URL", args.required("URL")?)?).map_err(usage)?;
        let (pin, room_key) = (target.pin.take(), target.room_key.take());
        let key_given = if room_key.is_some() { Given::Arguments } else { Given::Hidden };
        let mut read = RoomArgs {
            target,
            text: args.next_word().map(|text| unicode("TEXT", text)).transpose()?,
            name: None,
            key: None,
            last: None,
            json: args.has("json"),
            follow: args.has("follow"),
            pin,
            room_key,
            token: None,
            key_given,
            token_given: Given::Hidden,
            ca: None,
            timeout: None,
        };
        for (option, value) in args.take_options() {
            match option {
                "json" | "follow" => {}
                "ca" => read.ca = Some(PathBuf::from(value)),
                "room-key" => {
                    let value = unicode("--room-key", value)?;
                    read.key_given = read.key_given.or(&value);
                    read.room_key = Some(room_key_of(value)?);
                }
                "token" => {
                    let value = unicode("--token", value)?;
                    read.token_given = read.token_given.or(&value);
                    read.token = Some(token_of(value)?);
                }
                _ => read.set(option, unicode(&format!("--{option}"), value)?).map_err(usage)?,
            }
        }
        Ok(read)
    }

    /// Returns the options of the run.
    pub fn run_options(&self) -> RunOptions<'_> {
        let limit = |timeout| Some(timeout).filter(|timeout| *timeout > 0);
        RunOptions {
            target: &self.target,
            pin: self.pin,
            // Whoever says who it is has the name by which it is known.
            name: self.name.clone().filter(|_| self.pin.is_none() && self.token.is_none()),
            ca: self.ca.clone(),
            follow: self.follow,
            connect_timeout: limit(self.timeout.unwrap_or(TIMEOUT)),
            reconnect_timeout: limit(self.timeout.unwrap_or(if self.follow { 0 } else { TIMEOUT })),
        }
    }

    /// Returns the name if it has to be sent with the join: the URL of a sealed socket has none.
    pub fn name_inside(&self) -> Option<Name> {
        self.name.clone().filter(|_| self.pin.is_some())
    }

    /// Returns the session of this room, which says who this is if a token was given.
    pub fn session(&self, begin: Begin) -> ClientSession {
        let session = ClientSession::new(self.target.room.clone(), self.name_inside(), begin);
        match &self.token {
            Some(token) => session.authenticating(token.clone()),
            None => session,
        }
    }

    /// Returns whether a token says who this is, so that the server gives the name.
    pub fn says_who(&self) -> bool {
        self.token.is_some()
    }

    /// Warns, once a run, if other users of the machine can see the room key or the token.
    pub fn warn_of_secrets(&self) {
        for text in self.warnings() {
            complain(text);
        }
    }

    fn warnings(&self) -> Vec<&'static str> {
        let of = |given, text| (given == Given::Arguments).then_some(text);
        let key =
            "warning: other users of this machine can see the room key among the arguments; --room-key @FILE hides it";
        let token =
            "warning: other users of this machine can see the token among the arguments; --token @FILE hides it";
        [of(self.key_given, key), of(self.token_given, token)].into_iter().flatten().collect()
    }

    /// Returns the cipher for the messages of an encrypted room.
    pub fn cipher(&self) -> Option<RoomCipher> {
        self.room_key.as_ref().map(|key| key.cipher(&self.target.room))
    }
}

/// Turns the end of a run into the outcome of the command.
pub fn outcome(done: Result<(), RunError>) -> Result<(), Failure> {
    match done {
        Ok(()) | Err(RunError::OutputClosed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text.into())
}

fn unicode(what: &str, value: OsString) -> Result<String, Failure> {
    value.into_string().map_err(|_| usage(format!("{what} is not valid UTF-8")))
}

impl RoomArgs {
    fn set(&mut self, option: &str, value: String) -> Result<(), String> {
        match option {
            "name" => self.name = Some(Name::parse(&value).map_err(|fault| format!("--name: {}", fault.text()))?),
            "key" => {
                let fits = (1..=200).contains(&value.len());
                self.key = Some(value).filter(|_| fits);
                self.key.as_ref().ok_or("--key: an idempotency key has 1 to 200 bytes")?;
            }
            "last" => {
                let number = value.parse().ok().filter(|number| *number <= MAX_NUMBER);
                self.last = Some(number.ok_or("--last: write a whole number of messages")?);
            }
            "pin" => {
                let pin = Pin::parse(&value).ok_or("--pin: a pin has 43 characters of A-Z a-z 0-9 - _")?;
                if self.pin.is_some_and(|other| other != pin) {
                    return Err("--pin and the URL name different pins".to_string());
                }
                self.pin = Some(pin);
            }
            _ => self.timeout = Some(config::duration(&value).map_err(|error| format!("--timeout: {error}"))?),
        }
        Ok(())
    }
}

/// Reports lost connections and deferred requests, once for each reason, and each message that cannot be sent.
/// `reported` is the last reason.
pub fn report(event: &Event, reported: &mut String) -> Result<(), RunError> {
    match event {
        Event::Reconnect(why) | Event::Deferred(why) if *why != *reported => {
            complain(&format!("{why}; trying again"));
            reported.clone_from(why);
        }
        Event::Unsendable(why) => complain(why),
        Event::CaughtUp | Event::Acknowledged => reported.clear(),
        _ => {}
    }
    Ok(())
}

/// Reads the key itself, or `@` and the file that contains it, which keeps it out of the list of processes.
fn room_key_of(value: String) -> Result<RoomKey, Unusable> {
    let (key, place) = secret_of("--room-key", value)?;
    RoomKey::parse(&key).ok_or_else(|| Unusable::new(Cause::Settings, format!("{place}: {}", RoomKey::RULE)))
}

/// Reads the token itself, or `@` and the file that contains it.
fn token_of(value: String) -> Result<Zeroizing<String>, Unusable> {
    let (token, place) = secret_of("--token", value)?;
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    match is_one {
        true => Ok(token),
        false => {
            Err(Unusable::new(Cause::Settings, format!("{place}: a token is one line of characters without blanks")))
        }
    }
}

/// Reads a secret that an option has as its value, or in a file. Returns it, and where it was for messages.
fn secret_of(option: &str, value: String) -> Result<(Zeroizing<String>, String), Unusable> {
    let value = Zeroizing::new(value);
    let Some(path) = value.strip_prefix('@') else { return Ok((value, option.to_owned())) };
    let shown = harmless(path);
    let refused =
        |error: io::Error| Unusable::with(Cause::of_file(&error), format!("{option}: {shown}: {error}"), error);
    // Room for the whole file: a string that grows leaves copies in memory.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_FILE as usize + 1));
    let Named::Regular(file, _) = named_file::open(Path::new(path)).map_err(refused)? else {
        return Err(Unusable::new(Cause::Settings, format!("{option}: {shown}: is not a regular file")));
    };
    match file.take(LONGEST_FILE + 1).read_to_string(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(refused(error)),
        _ => {}
    }
    // An editor's byte order mark is none of the secret's characters.
    let secret = Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(&text).trim().to_owned());
    Ok((secret, format!("{option}: {shown}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://a/rooms/lobby";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn of(args: &[&str]) -> Result<RoomArgs, String> {
        let args = Args::read(&crate::cmd::tail::COMMAND, args.iter().map(OsString::from), []);
        args.and_then(RoomArgs::read).map_err(|failure| failure.to_string())
    }

    #[test]
    fn options_stand_anywhere() {
        let read = of(&["--last=5", URL, "--name", "ann", "--follow", "--"]).unwrap();
        assert_eq!((read.last, read.follow, read.json), (Some(5), true, false));
        assert_eq!(read.name, Name::parse("ann").ok());
        let send = ["--json", "--key=--key", "--pin", KEY, URL, "--", "--json"].map(OsString::from);
        let read = RoomArgs::read(Args::read(&crate::cmd::send::COMMAND, send, []).unwrap()).unwrap();
        assert_eq!((read.text.as_deref(), read.key.as_deref(), read.json), (Some("--json"), Some("--key"), true));
        let sealed = of(&[URL, "--pin", KEY, "--room-key", KEY, "--timeout", "0", "--name", "ann"]).unwrap();
        assert!(sealed.cipher().is_some() && sealed.name_inside().is_some());
        let options = sealed.run_options();
        assert_eq!((options.name, options.connect_timeout, options.reconnect_timeout), (None, None, None));
    }

    /// Whatever comes after it, a key among the arguments was seen.
    #[test]
    fn keys_that_others_can_see_are_warned_of() {
        let file = crate::testing::TempDir::new();
        let file = file.path().join("key");
        std::fs::write(&file, KEY).unwrap();
        let hidden = format!("@{}", file.display());
        let link = format!("{URL}#k={KEY}");
        for (arguments, is_seen) in [
            (&[URL][..], false),
            (&[URL, "--room-key", &hidden], false),
            (&[URL, "--room-key", KEY], true),
            (&[&link], true),
            (&[&link, "--room-key", &hidden], true),
            (&[&format!("{URL}#pin={KEY}")], false),
        ] {
            let warnings = of(arguments).unwrap().warnings();
            assert_eq!(warnings.len(), usize::from(is_seen), "{arguments:?}");
            assert!(warnings.iter().all(|text| text.contains("--room-key @FILE") && !text.contains(KEY)));
        }
        let seen = of(&[URL, "--token", "rt1_secret", "--room-key", &hidden]).unwrap().warnings();
        assert!(seen.len() == 1 && seen[0].contains("--token @FILE") && !seen[0].contains("secret"), "{seen:?}");
        assert!(of(&[URL, "--token", &hidden]).unwrap().warnings().is_empty());
    }

    #[test]
    fn waiting_has_an_end_except_with_follow() {
        let limits = |args: &[&str]| {
            let read = of(args).unwrap();
            (read.run_options().connect_timeout, read.run_options().reconnect_timeout)
        };
        assert_eq!(limits(&[URL]), (Some(30_000), Some(30_000)));
        assert_eq!(limits(&[URL, "--follow"]), (Some(30_000), None));
        assert_eq!(limits(&[URL, "--follow", "--timeout", "2m"]), (Some(120_000), Some(120_000)));
    }

    #[test]
    fn mistakes_are_reported_without_secrets() {
        let both = format!("{URL}#pin={}", KEY.replace('A', "B"));
        let wrong = format!("{KEY}x");
        for bad in [
            &[][..],
            &["--last", "5"],
            &[URL, "--last"],
            &[URL, "--last", "-1"],
            &[URL, "--room-key", &wrong],
            &[URL, "--room-key", "@/nowhere/at/all"],
            &[URL, "--pin", &wrong],
            &[&both, "--pin", KEY],
            &[URL, "--name", "\u{1b}"],
            &[URL, "--timeout", "5"],
            &[URL, "--follow=x"],
            &[URL, "--key", "k"],
            &[URL, "-x"],
            &[URL, "text"],
            &[URL, "--room-key"],
        ] {
            let text = of(bad).unwrap_err();
            assert!(!text.contains(KEY) && !text.contains(['\n', '\u{1b}']), "{text}");
        }
    }
}
