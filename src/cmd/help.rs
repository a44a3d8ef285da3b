//! `racerd help`, `--help`: the commands and every setting.

use super::{Failure, say};
use crate::config;

const HEAD: &str = "\
racerd: a chat-room server over WebSockets in one small binary

Usage:
  racerd [serve] [SETTINGS]            serve rooms until SIGTERM or SIGINT
  racerd health [SETTINGS | URL]       ask a running racerd whether it is ready: exit code 0 or 1
  racerd backup FILE [--force] [SETTINGS]
                                       copy the database to FILE, also while a server runs
  racerd restore FILE [SETTINGS]       put a backup into the place of the database, which is kept
  racerd check [FILE] [SETTINGS]       look through FILE, or the database, and say what is wrong
  racerd salvage FILE NEW              copy what can be read of a damaged database to a new one
  racerd help | version                the same as --help and --version

Exit codes: 0 done, and for check: sound. 1 it failed, and nothing was changed; for check: damaged.
2 asked for wrongly: a mistake in the settings, a file that is missing or there already, a database
in use. serve ends with 0 when it was told to stop.

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
