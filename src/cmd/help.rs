//! `racerd help`, `--help`: the commands and every setting.

use super::{Failure, say};
use crate::config;

const HEAD: &str = "\
racerd: a chat-room server over WebSockets in one small binary

Usage:
  racerd [serve] [SETTINGS]            serve rooms until SIGTERM or SIGINT
  racerd health [SETTINGS | URL]       ask a running racerd whether it is ready: exit code 0 or 1
  racerd help | version                the same as --help and --version

Each setting is a flag or an environment variable; the flag is stronger. Sizes are written 60000,
64k or 32KiB, durations 250ms, 10s, 2m or 7d. An empty variable counts as not set. Below, after each
flag: its default and its variable.

";

/// Prints the help.
///
/// # Errors
/// None.
pub fn run() -> Result<(), Failure> {
    say(&text());
    Ok(())
}

fn text() -> String {
    format!("{HEAD}{}", config::help().trim_end()) + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_fit() {
        for line in super::text().lines() {
            assert!(line.chars().count() <= 100, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}
