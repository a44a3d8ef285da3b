//! The words of a command line, read by the command's declaration: positional arguments, the command's own options, and
//! settings, which are handed on to [`crate::config`] as they were written.

use super::command::{Command, OptValue, Settings};
use super::{Failure, Invocation};
use crate::config;
use lexopt::{Arg, Parser};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};

/// The command line of one command, and the environment.
#[derive(Debug)]
pub struct Args {
    command: &'static Command,
    words: VecDeque<OsString>,
    /// The command's own options in the order given; the value is empty for an option without one.
    options: Vec<(&'static str, OsString)>,
    invocation: Invocation,
}

impl Args {
    /// Reads the words behind the command's own. Options and settings may stand anywhere before a `--`.
    ///
    /// # Errors
    /// [`Failure::Usage`]: an unknown option, an option without its value or with one too many, or too many arguments.
    pub fn read(
        command: &'static Command,
        args: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Args, Failure> {
        let (mut words, mut options, mut settings) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut parser = Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(|error| usage(command, &error.to_string()))? {
            let name = match arg {
                Arg::Value(word) if words.len() < command.arguments.len() => {
                    words.push_back(word);
                    continue;
                }
                // It may be part of a message, or of a key.
                Arg::Value(_) if command.settings == Settings::NotTaken => {
                    return Err(usage(command, &format!("too many arguments; {}", command.surplus)));
                }
                Arg::Value(word) => {
                    let word = config::shown(&word.to_string_lossy());
                    return Err(usage(command, &format!("unexpected argument {word}; {}", command.surplus)));
                }
                Arg::Short(letter) => return Err(unknown(command, &format!("-{letter}"))),
                Arg::Long(name) => name.to_string(),
            };
            if let Some(option) = command.option(&name) {
                let value = parser.optional_value();
                let value = match (option.value, value) {
                    (OptValue::None, None) => OsString::new(),
                    (OptValue::None, Some(_)) => return Err(usage(command, &format!("--{name} takes no value"))),
                    (_, Some(value)) => value,
                    (OptValue::Text(value) | OptValue::File(value), None) => parser
                        .value()
                        .map_err(|_| usage(command, &format!("--{name} needs a value: --{name} {value}")))?,
                };
                options.push((option.name, value));
            } else if command.settings == Settings::Taken
                && let Some(takes_value) = config::flag_takes_value(&name)
            {
                let mut word = OsString::from(format!("--{name}"));
                let value = match parser.optional_value() {
                    None if takes_value => config::separate_value(&mut parser),
                    joined => joined,
                };
                if let Some(value) = value {
                    word.push("=");
                    word.push(value);
                }
                settings.push(word);
            } else {
                return Err(unknown(command, &format!("--{name}")));
            }
        }
        Ok(Args { command, words, options, invocation: Invocation::new(settings, environment) })
    }

    /// Takes the next positional argument, if there is one.
    pub fn next_word(&mut self) -> Option<OsString> {
        self.words.pop_front()
    }

    /// Takes the next positional argument, which is needed.
    ///
    /// # Errors
    /// [`Failure::Usage`] where there is none, with the way in which the command is called.
    pub fn required(&mut self, name: &str) -> Result<OsString, Failure> {
        self.next_word().ok_or_else(|| {
            let usage = self.command.usage.join(", or racerd ");
            Failure::Usage(format!("{} needs {name}; usage: racerd {usage}", self.command.word).into())
        })
    }

    /// Returns whether the option was given.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == option)
    }

    /// Returns the option's value; of several, the last.
    pub fn value(&self, option: &str) -> Option<&OsStr> {
        self.options.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| value.as_os_str())
    }

    /// Takes the command's own options with their values, in the order given.
    pub fn take_options(&mut self) -> Vec<(&'static str, OsString)> {
        std::mem::take(&mut self.options)
    }

    /// Returns whether a setting was given as a flag.
    pub fn has_settings(&self) -> bool {
        self.invocation.has_flags()
    }

    /// Returns the settings' flags and the environment, to be read.
    pub fn into_invocation(self) -> Invocation {
        self.invocation
    }
}

fn usage(command: &Command, text: &str) -> Failure {
    Failure::Usage(format!("{}: {text}", command.word).into())
}

/// An option that the command does not have, with the one that was likely meant.
fn unknown(command: &Command, option: &str) -> Failure {
    let settings = match command.settings {
        Settings::Taken => config::flag_names(),
        Settings::NotTaken => Vec::new(),
    };
    let own = command.options.iter().map(|option| option.name).chain(["help", "version"]);
    let known = settings.iter().map(String::as_str).chain(own);
    let name = option.trim_start_matches('-');
    if command.settings == Settings::NotTaken && config::flag_takes_value(name).is_some() {
        return usage(command, &format!("{option} is a setting, and this command takes none; {}", command.surplus));
    }
    let hint = match config::nearest(name, known) {
        Some(near) => format!("did you mean --{near}?"),
        None => format!("see racerd help {}", command.word),
    };
    usage(command, &format!("unknown option {}; {hint}", config::shown(option)))
}
