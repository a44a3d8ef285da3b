//! `racerd print-config`: prints a configuration file with every setting, to be edited and given to `--config`.

use super::command::{Command, Example, Group, Run, Settings};
use super::{Args, Failure, say};
use crate::config;

pub const COMMAND: Command = Command {
    word: "print-config",
    group: Group::Server,
    usage: &["print-config", "--print-config"],
    summary: "Print a configuration file with every setting",
    about: &[
        "Prints a configuration file in which every setting is commented out and has its default, to be edited and given \
         to --config. It takes no settings: racerd check-config prints the effective ones.",
    ],
    arguments: &[],
    options: &[],
    settings: Settings::NotTaken,
    surplus: "racerd check-config prints the effective settings",
    examples: &[Example { line: "racerd print-config > racerd.toml", text: "" }],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Prints the file.
///
/// # Errors
/// None.
fn run(_: Args) -> Result<(), Failure> {
    say(&config::example());
    Ok(())
}
