//! The declaration of a command: its word, arguments, options, texts, examples and exit codes. Each command declares
//! itself once, as data, in the file of the same name. The command line is read by that declaration ([`super::args`]);
//! the help, the suggestions for misspelt words, the shell completions and the man page are made from it.

use super::{Args, Failure};

/// One command, as declared.
#[derive(Debug)]
pub struct Command {
    pub word: &'static str,
    pub group: Group,
    /// Its usage, without `racerd`. Several lines if it has several forms.
    pub usage: &'static [&'static str],
    /// One line for the list of commands: begins with a verb, and has no full stop.
    pub summary: &'static str,
    /// The description, in paragraphs.
    pub about: &'static [&'static str],
    /// The positional arguments, in order. Which of them are needed, the command itself decides.
    pub arguments: &'static [Argument],
    pub options: &'static [Opt],
    pub settings: Settings,
    /// The text after the error about one argument too many, or about a setting that the command does not take.
    pub surplus: &'static str,
    pub examples: &'static [Example],
    /// The exit codes whose meaning here differs from [`EXIT_CODES`], or that only this command has.
    pub exit_codes: &'static [ExitCode],
    pub run: Run,
}

/// The part of the list of commands in which a command appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Server,
    Rooms,
    Database,
    Keys,
    Help,
}

impl Group {
    /// In the order in which they are listed.
    pub const ALL: [Group; 5] = [Group::Server, Group::Rooms, Group::Database, Group::Keys, Group::Help];

    pub fn title(self) -> &'static str {
        match self {
            Group::Server => "Server",
            Group::Rooms => "Rooms",
            Group::Database => "Database",
            Group::Keys => "Keys",
            Group::Help => "Help",
        }
    }
}

/// A positional argument.
#[derive(Debug)]
pub struct Argument {
    pub name: &'static str,
    pub text: &'static str,
    pub completion: Completion,
}

/// An option of one command.
#[derive(Debug)]
pub struct Opt {
    /// Without the dashes.
    pub name: &'static str,
    pub value: OptValue,
    pub text: &'static str,
}

/// The value of an option, if it has one: its placeholder in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptValue {
    None,
    Text(&'static str),
    File(&'static str),
}

/// The completions that a shell may offer for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    None,
    Files,
    /// The commands, the settings, and `SETTINGS_TOPIC`.
    Topics,
}

/// Whether a command also takes the settings, which [`crate::config`] declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    Taken,
    NotTaken,
}

#[derive(Debug)]
pub struct Example {
    pub line: &'static str,
    pub text: &'static str,
}

#[derive(Debug)]
pub struct ExitCode {
    pub code: u8,
    pub text: &'static str,
}

/// The function that runs the command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A server, which watches the signals itself.
    Server(fn(Args) -> Result<(), Failure>),
    /// A command that ends by itself, and at the first signal.
    OneShot(fn(Args) -> Result<(), Failure>),
}

/// The topic of `racerd help` that lists every setting.
pub const SETTINGS_TOPIC: &str = "settings";

/// The exit codes of every command that does not declare its own.
pub const EXIT_CODES: &[ExitCode] = &[
    ExitCode { code: 0, text: "Success." },
    ExitCode {
        code: 1,
        text: "The system refused: a full disk, a database in use, a port that is taken, a missing file. Nothing was \
               changed, and the same command may succeed later.",
    },
    ExitCode {
        code: 2,
        text: "Usage error, or something else that somebody has to change first: the arguments, a setting, a key, a file \
               that already exists, a damaged database.",
    },
];

impl Command {
    /// Returns the declared option of this name, which has no dashes.
    pub fn option(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Returns every exit code of this command, in ascending order.
    pub fn all_exit_codes(&self) -> Vec<&'static ExitCode> {
        let common = EXIT_CODES.iter().filter(|common| self.exit_codes.iter().all(|own| own.code != common.code));
        let mut codes: Vec<&ExitCode> = common.chain(self.exit_codes).collect();
        codes.sort_by_key(|exit| exit.code);
        codes
    }
}

impl Opt {
    /// Returns the option as it is written: `--room-key KEY|@FILE`.
    pub fn spelled(&self) -> String {
        match self.value {
            OptValue::None => format!("--{}", self.name),
            OptValue::Text(value) | OptValue::File(value) => format!("--{} {value}", self.name),
        }
    }
}
