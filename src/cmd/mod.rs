//! The commands, one file each, and the choice among them. Output goes out without a panic where nobody takes it:
//! `racerd --help | head -1` ends quietly.

pub mod check;
mod given;
pub mod health;
pub mod help;
pub mod print;
pub mod serve;
pub mod version;

use std::ffi::OsString;
use std::io::Write;

/// Why a command did not do what it was asked for: one line for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Asked for wrongly, or something around it is not in order. Exit code 2.
    Usage(String),
    /// It tried, and failed. Exit code 1.
    Failed(String),
}

impl Failure {
    pub fn into_text(self) -> String {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Serve,
    Check,
    Print,
    Health,
    Help,
    Version,
}

/// The command that the arguments name, and the arguments that are its own. `serve` where they begin with a flag or
/// there are none. `--help` and `--version` win, wherever they stand; `--check-config` and `--print-config` may stand among
/// the settings of `serve`.
///
/// # Errors
/// [`Failure::Usage`] where the first word is no command.
pub fn choose(args: impl Iterator<Item = OsString>) -> Result<(Command, Vec<OsString>), Failure> {
    let mut args: Vec<OsString> = args.collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok((Command::Help, Vec::new()));
    }
    if args.iter().any(|arg| arg == "--version" || arg == "-V") {
        return Ok((Command::Version, Vec::new()));
    }
    if args.first().is_none_or(|arg| arg.as_encoded_bytes().starts_with(b"-")) {
        return Ok(serve_or_look(args));
    }
    let word = args.remove(0);
    let command = match word.to_str() {
        Some("serve") => return Ok(serve_or_look(args)),
        Some("check-config") => Command::Check,
        Some("print-config") => Command::Print,
        Some("health") => Command::Health,
        Some("help") => Command::Help,
        Some("version") => Command::Version,
        _ => {
            let word = word.to_string_lossy();
            let text = format!(
                "unknown command {word:?}; there are serve, check-config, print-config, health, help and version"
            );
            return Err(Failure::Usage(text));
        }
    };
    Ok((command, args))
}

/// The command line of a server, or one that asks what such a server would do.
fn serve_or_look(mut args: Vec<OsString>) -> (Command, Vec<OsString>) {
    for (flag, command) in [("--check-config", Command::Check), ("--print-config", Command::Print)] {
        let before = args.len();
        args.retain(|arg| arg != flag);
        if args.len() < before {
            return (command, args);
        }
    }
    (Command::Serve, args)
}

/// Writes to standard output. Nobody there to read it is not an error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One line on standard error.
pub fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("racerd: {text}\n").as_bytes());
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
        assert_eq!(of(&["health", "http://a"]), Ok((Command::Health, 1)));
        assert_eq!(of(&["serve", "--help"]), Ok((Command::Help, 0)));
        assert_eq!(of(&["-V"]), Ok((Command::Version, 0)));
        assert_eq!(of(&["--open", "--check-config"]), Ok((Command::Check, 1)));
        assert_eq!(of(&["serve", "--check-config", "--open"]), Ok((Command::Check, 1)));
        assert_eq!(of(&["check-config", "--open"]), Ok((Command::Check, 1)));
        assert_eq!(of(&["--print-config"]), Ok((Command::Print, 0)));
        assert_eq!(of(&["health", "--check-config"]), Ok((Command::Health, 1)));
        assert_eq!(of(&["help"]), Ok((Command::Help, 0)));
        assert!(matches!(of(&["serv\n"]), Err(Failure::Usage(text)) if !text.contains('\n')));
        assert!(matches!(of(&[""]), Err(Failure::Usage(_))));
    }
}
