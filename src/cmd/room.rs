//! What `send` and `tail` have in common: their arguments, and how their ends are told.

use super::Failure;
use crate::client::{Ended, Errand, Target};
use crate::config;
use crate::crypto::room_key::{RoomCipher, RoomKey};
use crate::crypto::sealed::Pin;
use crate::types::{Cause, Name, harmless};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Milliseconds to wait for a connection, unless said otherwise.
const TIMEOUT: u64 = 30_000;

/// Longest file of a room key, in bytes: some times what the key takes.
const LONGEST_FILE: u64 = 1024;

/// What the command line says.
#[derive(Debug)]
pub struct RoomArgs {
    pub target: Target,
    /// What else stands there, in order.
    pub words: Vec<String>,
    pub name: Option<Name>,
    pub key: Option<String>,
    pub last: Option<u64>,
    pub json: bool,
    pub follow: bool,
    pin: Option<Pin>,
    room_key: Option<RoomKey>,
    ca: Option<PathBuf>,
    /// Milliseconds; 0 is for ever.
    timeout: Option<u64>,
}

impl RoomArgs {
    /// Reads the arguments behind `command`, which takes `own` of the options that not both take.
    ///
    /// # Errors
    /// [`Failure::Usage`], without repeating a secret; [`Failure::Failed`] where the file of a room key is not to be had.
    pub fn parse(command: &str, own: &[&str], args: Vec<OsString>) -> Result<RoomArgs, Failure> {
        let (mut read, options) = read(command, own, args).map_err(Failure::Usage)?;
        for (flag, value) in options {
            match flag.as_str() {
                "--room-key" => read.room_key = Some(room_key(value).map_err(Failure::of_file)?),
                _ => read.set(&flag, value).map_err(Failure::Usage)?,
            }
        }
        Ok(read)
    }

    /// What to run.
    pub fn errand(&self) -> Errand<'_> {
        let limit = |timeout| Some(timeout).filter(|timeout| *timeout > 0);
        Errand {
            target: &self.target,
            pin: self.pin,
            name: self.name.clone().filter(|_| self.pin.is_none()),
            ca: self.ca.clone(),
            follow: self.follow,
            first: limit(self.timeout.unwrap_or(TIMEOUT)),
            later: limit(self.timeout.unwrap_or(if self.follow { 0 } else { TIMEOUT })),
        }
    }

    /// The name, where it is to be said with the join: a sealed socket's URL says none.
    pub fn name_inside(&self) -> Option<Name> {
        self.name.clone().filter(|_| self.pin.is_some())
    }

    /// What seals and opens the room's messages, if it is an encrypted one.
    pub fn cipher(&self) -> Option<RoomCipher> {
        self.room_key.as_ref().map(|key| key.cipher(&self.target.room))
    }
}

/// How a run ended, as a command's outcome.
pub fn outcome(done: Result<(), Ended>) -> Result<(), Failure> {
    match done {
        Ok(()) | Err(Ended::Unread) => Ok(()),
        Err(Ended::NotBegun(cause, why)) => Err(Failure::of(cause, harmless(&why))),
        Err(Ended::Refused(why)) => Err(Failure::Failed(harmless(&why))),
        Err(Ended::Unreached(why)) => Err(Failure::Unreached(format!("no connection: {}", harmless(&why)))),
        Err(Ended::Mismatch(why)) => Err(Failure::Mismatch(harmless(&why))),
    }
}

/// The arguments in order, and the options that are still to be read, with their values.
fn read(command: &str, own: &[&str], args: Vec<OsString>) -> Result<(RoomArgs, Vec<(String, String)>), String> {
    let mut texts = Vec::new();
    for arg in args {
        texts.push(arg.into_string().map_err(|_| format!("{command}: an argument is not UTF-8"))?);
    }
    let mut texts = texts.into_iter();
    let (mut words, mut options) = (Vec::new(), Vec::new());
    let (mut json, mut follow) = (false, false);
    while let Some(text) = texts.next() {
        if text == "--" {
            words.extend(texts.by_ref());
        } else if text == "-" || !text.starts_with('-') {
            words.push(text);
        } else if text == "--json" {
            json = true;
        } else if text == "--follow" && own.contains(&"--follow") {
            follow = true;
        } else {
            let (flag, value) = match text.split_once('=') {
                Some((flag, value)) => (flag.to_string(), Some(value.to_string())),
                None => (text, None),
            };
            let known = ["--name", "--room-key", "--pin", "--ca", "--timeout"];
            if !known.contains(&flag.as_str()) && !own.contains(&flag.as_str()) || flag == "--follow" {
                let flag = harmless(&flag);
                return Err(format!(
                    "{command} has no option {flag}; see racerd --help (text that begins with a dash stands behind --)"
                ));
            }
            let value = value.or_else(|| texts.next()).ok_or_else(|| format!("{flag} needs a value"))?;
            options.push((flag, value));
        }
    }
    if words.is_empty() {
        return Err(format!(
            "{command} needs the room's URL, such as racerd {command} http://127.0.0.1:7077/rooms/lobby"
        ));
    }
    let mut target = Target::parse(&words.remove(0))?;
    let (pin, room_key) = (target.pin.take(), target.room_key.take());
    let read = RoomArgs {
        target,
        words,
        json,
        follow,
        pin,
        room_key,
        name: None,
        key: None,
        last: None,
        ca: None,
        timeout: None,
    };
    Ok((read, options))
}

impl RoomArgs {
    fn set(&mut self, flag: &str, value: String) -> Result<(), String> {
        match flag {
            "--name" => self.name = Some(Name::parse(&value).map_err(|fault| format!("--name: {}", fault.text()))?),
            "--key" => {
                let fits = (1..=200).contains(&value.len());
                self.key = Some(value).filter(|_| fits);
                self.key.as_ref().ok_or("--key: an idempotency key has 1 to 200 bytes")?;
            }
            "--last" => {
                let number = value.parse().ok().filter(|number| *number <= 1 << 53);
                self.last = Some(number.ok_or("--last: how many messages, a whole number")?);
            }
            "--pin" => {
                let pin = Pin::parse(&value).ok_or("--pin: a pin is 43 characters of A-Z a-z 0-9 - _")?;
                if self.pin.is_some_and(|other| other != pin) {
                    return Err("--pin and the URL name different pins".to_string());
                }
                self.pin = Some(pin);
            }
            "--ca" => self.ca = Some(PathBuf::from(value)),
            _ => self.timeout = Some(config::duration(&value).map_err(|error| format!("--timeout: {error}"))?),
        }
        Ok(())
    }
}

/// The key itself, or `@` and a file that it stands in, so that it is in no list of processes.
fn room_key(value: String) -> Result<RoomKey, (Cause, String)> {
    let value = Zeroizing::new(value);
    let wrong = |why: &dyn Display| (Cause::Settings, format!("--room-key: {why}"));
    let Some(path) = value.strip_prefix('@') else {
        return RoomKey::parse(&value).ok_or_else(|| wrong(&RoomKey::RULE));
    };
    let shown = harmless(path);
    let refused = |error: io::Error| (Cause::of_file(&error), format!("--room-key: {shown}: {error}"));
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_FILE as usize + 1));
    let file = File::open(path).map_err(refused)?;
    match file.take(LONGEST_FILE + 1).read_to_string(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(refused(error)),
        _ => {}
    }
    RoomKey::parse(text.trim()).ok_or_else(|| wrong(&format!("{shown}: {}", RoomKey::RULE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://a/rooms/lobby";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn of(args: &[&str]) -> Result<RoomArgs, String> {
        let args = args.iter().map(OsString::from).collect();
        RoomArgs::parse("tail", &["--last", "--follow"], args).map_err(Failure::into_text)
    }

    #[test]
    fn options_stand_anywhere() {
        let read = of(&["--last=5", URL, "--name", "ann", "-", "--follow", "--", "--json"]).unwrap();
        assert_eq!((read.last, read.follow, read.json), (Some(5), true, false));
        assert_eq!((read.words, read.name), (vec!["-".to_string(), "--json".to_string()], Name::parse("ann").ok()));
        let sealed = of(&[URL, "--pin", KEY, "--room-key", KEY, "--timeout", "0", "--name", "ann"]).unwrap();
        assert!(sealed.cipher().is_some() && sealed.name_inside().is_some());
        let errand = sealed.errand();
        assert_eq!((errand.name, errand.first, errand.later), (None, None, None));
    }

    #[test]
    fn waiting_has_an_end_but_for_who_follows() {
        let limits = |args: &[&str]| {
            let read = of(args).unwrap();
            (read.errand().first, read.errand().later)
        };
        assert_eq!(limits(&[URL]), (Some(30_000), Some(30_000)));
        assert_eq!(limits(&[URL, "--follow"]), (Some(30_000), None));
        assert_eq!(limits(&[URL, "--follow", "--timeout", "2m"]), (Some(120_000), Some(120_000)));
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
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
        ] {
            let text = of(bad).unwrap_err();
            assert!(!text.contains(KEY) && !text.contains(['\n', '\u{1b}']), "{text}");
        }
    }
}
