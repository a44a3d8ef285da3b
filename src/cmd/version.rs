//! `racerd version`: prints the name and the version.

use super::command::{Command, Group, Run, Settings};
use super::{Args, Failure, say};

pub const COMMAND: Command = Command {
    word: "version",
    group: Group::Help,
    usage: &["version", "--version"],
    summary: "Print the version",
    about: &["Prints the name and the version."],
    arguments: &[],
    options: &[],
    settings: Settings::NotTaken,
    surplus: "it takes none",
    examples: &[],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Prints the name and the version.
///
/// # Errors
/// None.
fn run(_: Args) -> Result<(), Failure> {
    say(concat!("racerd ", env!("CARGO_PKG_VERSION"), "\n"));
    Ok(())
}
