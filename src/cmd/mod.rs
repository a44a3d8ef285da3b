//! The commands, one file each, and the choice among them. Output goes out without a panic where nobody takes it:
//! `racerd --help | head -1` ends quietly.

pub mod backup;
pub mod check;
pub mod check_config;
mod failure;
mod given;
pub mod health;
pub mod help;
pub mod keygen;
pub mod pin;
pub mod print;
pub mod rekey;
pub mod restore;
mod room;
pub mod salvage;
pub mod send;
pub mod serve;
mod stream;
pub mod tail;
mod terminal;
pub mod version;

pub use failure::Failure;

use crate::server::Early;
use crate::sqlite::Progress;
use crate::types::harmless;
use given::Given;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Serve,
    CheckConfig,
    Print,
    Send,
    Tail,
    Health,
    Backup,
    Restore,
    Check,
    Salvage,
    Rekey,
    Keygen,
    Pin,
    Help,
    Version,
}

/// The command that the arguments name, and the arguments that are its own. `serve` where they begin with a flag or
/// there are none. `--help` and `--version` win, wherever they stand before a `--`; `--check-config` and `--print-config` may stand among
/// the settings of `serve`.
///
/// # Errors
/// [`Failure::Usage`] where the first word is no command.
pub fn choose(args: impl Iterator<Item = OsString>) -> Result<(Command, Vec<OsString>), Failure> {
    let mut args: Vec<OsString> = args.collect();
    let mut before_text = args.iter().take_while(|arg| *arg != "--");
    if before_text.clone().any(|arg| arg == "--help" || arg == "-h") {
        return Ok((Command::Help, Vec::new()));
    }
    if before_text.any(|arg| arg == "--version" || arg == "-V") {
        return Ok((Command::Version, Vec::new()));
    }
    if args.first().is_none_or(|arg| arg.as_encoded_bytes().starts_with(b"-")) {
        return Ok(serve_or_look(args));
    }
    let word = args.remove(0);
    let command = match word.to_str() {
        Some("serve") => return Ok(serve_or_look(args)),
        Some("check-config") => Command::CheckConfig,
        Some("print-config") => Command::Print,
        Some("send") => Command::Send,
        Some("tail") => Command::Tail,
        Some("health") => Command::Health,
        Some("backup") => Command::Backup,
        Some("restore") => Command::Restore,
        Some("check") => Command::Check,
        Some("salvage") => Command::Salvage,
        Some("rekey") => Command::Rekey,
        Some("keygen") => Command::Keygen,
        Some("pin") => Command::Pin,
        Some("help") => Command::Help,
        Some("version") => Command::Version,
        _ => {
            let word = word.to_string_lossy();
            let text = format!(
                "unknown command {word:?}; there are serve, send, tail, check-config, print-config, health, backup, restore, check, \
                 salvage, rekey, keygen, pin, help and version"
            );
            return Err(Failure::Usage(text));
        }
    };
    Ok((command, args))
}

/// The command line of a server, or one that asks what such a server would do.
fn serve_or_look(mut args: Vec<OsString>) -> (Command, Vec<OsString>) {
    for (flag, command) in [("--check-config", Command::CheckConfig), ("--print-config", Command::Print)] {
        let before = args.len();
        args.retain(|arg| arg != flag);
        if args.len() < before {
            return (command, args);
        }
    }
    (Command::Serve, args)
}

/// The file that a command's first argument names, and the arguments behind it, which are settings.
fn file_first(mut args: Vec<OsString>) -> (Option<PathBuf>, Vec<OsString>) {
    match args.first() {
        Some(first) if !first.as_encoded_bytes().starts_with(b"--") => (Some(PathBuf::from(args.remove(0))), args),
        _ => (None, args),
    }
}

/// The database that the settings name.
fn data(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<PathBuf, Failure> {
    Ok(Given::new(args, environment).read()?.settings.storage.data)
}

/// Says on standard error how far a long copy is.
fn progress() -> Progress {
    Box::new(|done, total| {
        const MIB: u64 = 1 << 20;
        complain(&format!("{} of about {} MiB", done / MIB, total.div_ceil(MIB)));
    })
}

/// Random bytes of the system's, wiped when they are dropped.
///
/// # Errors
/// The system has none.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, String> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

/// Has signals end a command, also where the kernel would not.
///
/// # Errors
/// The system takes no handler.
pub fn heed_signals() -> Result<(), Failure> {
    // For good: a command has no loop that takes over.
    Early::for_command().map(drop).map_err(no_signals)
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::Failed(format!("cannot watch signals: {error}"))
}

/// Writes to standard output. Nobody there to read it is not an error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A path, fit for a terminal: a name may hold anything but a slash and a zero byte.
fn shown(path: &Path) -> String {
    harmless(&path.display().to_string())
}

/// One line on standard error, made harmless: it may hold a path.
pub fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("racerd: {}\n", harmless(text)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_command() {
        let of = |args: &[&str]| choose(args.iter().map(OsString::from)).map(|(command, args)| (command, args.len()));
        assert_eq!(of(&[]), Ok((Command::Serve, 0)));
        assert_eq!(of(&["--open"]), Ok((Command::Serve, 1)));
        assert_eq!(of(&["serve", "--open"]), Ok((Command::Serve, 1)));
        assert_eq!(of(&["backup", "a.db", "--force"]), Ok((Command::Backup, 2)));
        assert_eq!(of(&["check", "a.db"]), Ok((Command::Check, 1)));
        assert_eq!(of(&["health", "http://a"]), Ok((Command::Health, 1)));
        assert_eq!(of(&["send", "http://a/rooms/b", "--", "-h"]), Ok((Command::Send, 3)));
        assert_eq!(of(&["tail", "-h"]), Ok((Command::Help, 0)));
        assert_eq!(of(&["serve", "--help"]), Ok((Command::Help, 0)));
        assert_eq!(of(&["-V"]), Ok((Command::Version, 0)));
        assert_eq!(of(&["--open", "--check-config"]), Ok((Command::CheckConfig, 1)));
        assert_eq!(of(&["serve", "--check-config", "--open"]), Ok((Command::CheckConfig, 1)));
        assert_eq!(of(&["check-config", "--open"]), Ok((Command::CheckConfig, 1)));
        assert_eq!(of(&["--print-config"]), Ok((Command::Print, 0)));
        assert_eq!(of(&["health", "--check-config"]), Ok((Command::Health, 1)));
        assert_eq!(of(&["help"]), Ok((Command::Help, 0)));
        assert!(matches!(of(&["serv\n"]), Err(Failure::Usage(text)) if !text.contains('\n')));
        assert!(matches!(of(&[""]), Err(Failure::Usage(_))));
    }
}
