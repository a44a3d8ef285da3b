//! The commands, one file each, and the choice among them. Writing to a closed pipe is no error: `racerd help | head
//! -1` ends quietly.

mod args;
mod backup;
mod check;
mod check_config;
mod command;
mod failure;
mod health;
mod help;
mod invocation;
mod keygen;
#[cfg(all(test, feature = "client"))]
mod packaging;
mod pin;
mod print_config;
#[cfg(feature = "client")]
pub(crate) mod reader;
mod rekey;
mod restore;
#[cfg(feature = "client")]
mod room;
mod salvage;
#[cfg(feature = "client")]
mod send;
mod serve;
mod stream;
#[cfg(feature = "client")]
mod tail;
#[cfg(feature = "client")]
mod terminal;
mod token;
mod version;

pub use args::Args;
pub use command::{Command, Completion, EXIT_CODES};
pub use failure::Failure;
pub use invocation::Invocation;

use crate::config;
use crate::server::Early;
use crate::sqlite::Progress;
use crate::types::{Reason, harmless};
use command::Run;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use zeroize::Zeroizing;

/// Every command, in the order in which they are listed.
pub const COMMANDS: &[&Command] = &[
    &serve::COMMAND,
    &check_config::COMMAND,
    &print_config::COMMAND,
    &health::COMMAND,
    #[cfg(feature = "client")]
    &send::COMMAND,
    #[cfg(feature = "client")]
    &tail::COMMAND,
    &backup::COMMAND,
    &restore::COMMAND,
    &check::COMMAND,
    &salvage::COMMAND,
    &rekey::COMMAND,
    &keygen::COMMAND,
    &pin::COMMAND,
    &token::COMMAND,
    &help::COMMAND,
    &version::COMMAND,
];

/// The commands that this build lacks.
const LEFT_OUT: &[&str] = if cfg!(feature = "client") { &[] } else { &["send", "tail"] };

/// Runs the command that the command line names.
///
/// # Errors
/// Why it failed; [`Failure::code`] is the exit code.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let (command, args) = choose(args)?;
    let args = Args::read(command, args, environment)?;
    match command.run {
        Run::Server(run) => run(args),
        Run::OneShot(run) => {
            heed_signals()?;
            run(args)
        }
    }
}

/// Returns the command of this name.
fn find(word: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.word == word).copied()
}

/// Returns the command that the arguments name, and its own arguments. It is `serve` where they begin with an option,
/// or where there are none. `--help` and `--version` win wherever they stand before a `--`; `--check-config` and
/// `--print-config` may stand among the settings of `serve`.
///
/// # Errors
/// [`Failure::Usage`] where the first word is no command.
fn choose(args: impl IntoIterator<Item = OsString>) -> Result<(&'static Command, Vec<OsString>), Failure> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let named = match args.first() {
        Some(first) if !first.as_encoded_bytes().starts_with(b"-") => Some(named(&args.remove(0))?),
        _ => None,
    };
    let mut options = args.iter().take_while(|arg| *arg != "--");
    if options.clone().any(|arg| arg == "--help" || arg == "-h") {
        return Ok((&help::COMMAND, named.map(|command| command.word.into()).into_iter().collect()));
    }
    if options.any(|arg| arg == "--version" || arg == "-V") {
        return Ok((&version::COMMAND, Vec::new()));
    }
    let command = named.unwrap_or(&serve::COMMAND);
    match command.word {
        "serve" => Ok(serve_or_print(args)),
        // A topic may be written as a flag.
        "help" => Ok((command, [OsString::from("--")].into_iter().chain(args).collect())),
        _ => Ok((command, args)),
    }
}

/// Finds the command of this name, or the one that was likely meant.
fn named(word: &OsStr) -> Result<&'static Command, Failure> {
    let word = word.to_string_lossy();
    refuse_left_out(&word)?;
    find(&word).ok_or_else(|| {
        let hint = match config::nearest(&word, COMMANDS.iter().map(|command| command.word)) {
            Some(near) => format!("did you mean {near}?"),
            None => "racerd help lists the commands".to_string(),
        };
        Failure::Usage(format!("unknown command \"{}\"; {hint}", config::shown(&word)).into())
    })
}

/// Refuses a command that this build lacks.
///
/// # Errors
/// [`Failure::Usage`] where this is the name of one.
fn refuse_left_out(word: &str) -> Result<(), Failure> {
    if !LEFT_OUT.contains(&word) {
        return Ok(());
    }
    let line =
        "this racerd was built without its chat client; build it with the feature client, which is on by default";
    Err(Failure::Usage(format!("{word}: {line}").into()))
}

/// Returns the command for the arguments of a server: `serve`, or one that prints the settings instead.
fn serve_or_print(mut args: Vec<OsString>) -> (&'static Command, Vec<OsString>) {
    for (flag, command) in [("--check-config", &check_config::COMMAND), ("--print-config", &print_config::COMMAND)] {
        let before = args.len();
        args.retain(|arg| arg != flag);
        if args.len() < before {
            return (command, args);
        }
    }
    (&serve::COMMAND, args)
}

/// Reports the progress of a long copy on standard error.
fn progress() -> Progress {
    Box::new(|done, total| {
        const MIB: u64 = 1 << 20;
        complain(&format!("{} of about {} MiB", done / MIB, total.div_ceil(MIB)));
    })
}

/// Returns random bytes of the system, which are wiped when they are dropped.
///
/// # Errors
/// The system provides none.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, String> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| format!("the system provides no random numbers: {error}"))?;
    Ok(bytes)
}

/// Makes SIGTERM and SIGINT end a command, even where the kernel would not.
///
/// # Errors
/// The system refuses the handler.
fn heed_signals() -> Result<(), Failure> {
    // For good: a command has no loop that takes over.
    Early::for_command().map(drop).map_err(no_signals)
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::Failed(Reason::with(format!("cannot watch signals: {error}"), error))
}

/// Writes to standard output. It is no error if nobody reads it.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Escapes a path for a terminal: a file name may contain anything but a slash and a zero byte.
fn shown(path: &Path) -> String {
    harmless(&path.display().to_string())
}

/// Writes one line to standard error, escaped for a terminal, since it may contain a path.
pub fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("racerd: {}\n", harmless(text)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_command() {
        let of =
            |args: &[&str]| choose(args.iter().map(OsString::from)).map(|(command, args)| (command.word, args.len()));
        assert_eq!(of(&[]).unwrap(), ("serve", 0));
        assert_eq!(of(&["--open"]).unwrap(), ("serve", 1));
        assert_eq!(of(&["serve", "--open"]).unwrap(), ("serve", 1));
        assert_eq!(of(&["backup", "a.db", "--force"]).unwrap(), ("backup", 2));
        assert_eq!(of(&["health", "http://a", "--", "-h"]).unwrap(), ("health", 3));
        assert_eq!(of(&["check", "-h"]).unwrap(), ("help", 1), "on check");
        assert_eq!(of(&["serve", "--help"]).unwrap(), ("help", 1));
        assert_eq!(of(&["--open", "--help"]).unwrap(), ("help", 0));
        assert_eq!(of(&["-V"]).unwrap(), ("version", 0));
        assert_eq!(of(&["--open", "--check-config"]).unwrap(), ("check-config", 1));
        assert_eq!(of(&["serve", "--check-config", "--open"]).unwrap(), ("check-config", 1));
        assert_eq!(of(&["--print-config"]).unwrap(), ("print-config", 0));
        assert_eq!(of(&["health", "--check-config"]).unwrap(), ("health", 1));
        assert_eq!(of(&["help", "--ping-period"]).unwrap(), ("help", 2));
        for command in COMMANDS {
            assert_eq!(of(&[command.word]).unwrap().0, command.word);
        }
    }

    #[test]
    fn a_command_that_was_left_out_is_refused_by_its_name() {
        for word in LEFT_OUT {
            for args in [&[*word][..], &["help", *word]] {
                let failure = run(args.iter().map(Into::into), []).unwrap_err();
                assert_eq!(failure.code(), 2);
                assert!(
                    failure.to_string().starts_with(&format!("{word}: this racerd was built without")),
                    "{failure}"
                );
            }
        }
    }

    #[test]
    fn a_misspelt_command_gets_a_suggestion() {
        let of = |word: &str| choose([word.into()]).map(|(command, _)| command.word).unwrap_err().to_string();
        assert_eq!(of("chekc"), "unknown command \"chekc\"; did you mean check?");
        assert_eq!(of("frob"), "unknown command \"frob\"; racerd help lists the commands");
        assert!(of("").starts_with("unknown command \"\""));
        assert!(!of("serv\u{1b}\n").contains(char::is_control));
    }
}
