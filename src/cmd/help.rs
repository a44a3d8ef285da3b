//! `racerd help [TOPIC]`: the list of commands, one command, every setting, or one setting; all made from the
//! declarations.

use super::command::{Argument, Command, Completion, Example, Group, Run, SETTINGS_TOPIC, Settings};
use super::{Args, COMMANDS, EXIT_CODES, Failure, find, refuse_left_out, say};
use crate::config::{self, wrap};
use std::fmt::Write as _;

pub const COMMAND: Command = Command {
    word: "help",
    group: Group::Help,
    usage: &["help [COMMAND | SETTING | settings]", "[COMMAND] --help"],
    summary: "Print the help on a command or a setting",
    about: &["Without a topic, lists the commands."],
    arguments: &[Argument {
        name: "TOPIC",
        text: "A command; a setting, written as a flag, a variable or a line of the file has it; or settings, for the list \
               of all.",
        completion: Completion::Topics,
    }],
    options: &[],
    settings: Settings::NotTaken,
    surplus: "it takes one topic",
    examples: &[
        Example { line: "racerd help backup", text: "The same as racerd backup --help." },
        Example { line: "racerd help ping-period", text: "" },
    ],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Widest line, in columns: that of a terminal.
const WIDTH: usize = 80;

/// How settings are given, in one paragraph.
pub const ABOUT_SETTINGS: &str = "A setting is a flag (--ping-period 20s), a variable (RACERD_PING_PERIOD=20s), or a line \
                                  of the file (ping_period = \"20s\") that --config FILE or RACERD_CONFIG names. A flag \
                                  overrides a variable, and a variable overrides the file; an empty variable counts as \
                                  unset. SIGHUP makes a running server read the file again. Sizes are written 60000, 64k \
                                  or 32KiB, durations 250ms, 10s, 2m or 7d.";

/// Prints the help on the topic, or the list of commands.
///
/// # Errors
/// [`Failure::Usage`] where there is no such command and no such setting.
fn run(mut args: Args) -> Result<(), Failure> {
    let Some(topic) = args.next_word() else {
        say(&overview());
        return Ok(());
    };
    let topic = topic.to_string_lossy();
    refuse_left_out(&topic)?;
    say(&match find(&topic) {
        Some(command) => of_command(command),
        None if topic == SETTINGS_TOPIC => of_settings(),
        None => config::help_on(&topic).map_err(|error| unknown(&topic, error))?,
    });
    Ok(())
}

/// The line about a topic that is neither. A misspelt command is closer than a misspelt setting, as there are fewer.
fn unknown(topic: &str, error: String) -> Failure {
    let words = COMMANDS.iter().map(|command| command.word).chain([SETTINGS_TOPIC]);
    let hint = config::nearest(topic, words).map(|near| format!("did you mean {near}?"));
    Failure::Usage(match hint {
        Some(hint) => format!("no command or setting {}; {hint}", config::shown(topic)).into(),
        None => error.into(),
    })
}

/// Returns the list of commands.
fn overview() -> String {
    let mut out = String::from(
        "racerd: a chat-room server over WebSockets in one small binary\n\n\
         Usage: racerd [COMMAND] [ARGUMENTS]\n",
    );
    for group in Group::ALL {
        let commands: Vec<_> = COMMANDS.iter().filter(|command| command.group == group).collect();
        // A build without the chat client has none for rooms.
        if !commands.is_empty() {
            let _ = writeln!(out, "\n{}:", group.title());
        }
        for command in commands {
            entry(&mut out, command.word, command.summary, 16);
        }
    }
    out.push_str("\nMore help:\n");
    entry(&mut out, "racerd help COMMAND", "The usage, options and exit codes of a command", 27);
    entry(&mut out, "racerd help settings", "Every setting with its default", 27);
    entry(&mut out, "racerd help ping-period", "One setting and its spellings", 27);
    out.push_str("\nSettings:\n");
    paragraph(&mut out, ABOUT_SETTINGS, 2);
    out.push_str("\nExit codes:\n");
    for exit in EXIT_CODES {
        entry(&mut out, &exit.code.to_string(), exit.text, 7);
    }
    let (codes, commands) = if cfg!(feature = "client") { ("3-5", "send, tail and health") } else { ("4", "health") };
    entry(&mut out, codes, &format!("See the help on {commands}."), 7);
    out
}

/// Returns the help on one command.
fn of_command(command: &Command) -> String {
    let mut out = format!("racerd {}: {}\n\n", command.word, command.summary);
    for (index, usage) in command.usage.iter().enumerate() {
        let _ = writeln!(out, "{} racerd {usage}", if index == 0 { "Usage:" } else { "      " });
    }
    for text in command.about {
        out.push('\n');
        paragraph(&mut out, text, 0);
    }
    if !command.arguments.is_empty() {
        out.push_str("\nArguments:\n");
    }
    for argument in command.arguments {
        entry(&mut out, argument.name, argument.text, 8);
    }
    if !command.options.is_empty() {
        out.push_str("\nOptions:\n");
    }
    let widest = command.options.iter().map(|option| option.spelled().len()).max().unwrap_or(0);
    for option in command.options {
        entry(&mut out, &option.spelled(), option.text, widest + 4);
    }
    if command.settings == Settings::Taken {
        out.push_str("\nSettings:\n");
        let text = "Every setting is also an option here: racerd help settings lists them.";
        paragraph(&mut out, text, 2);
    }
    out.push_str("\nExit codes:\n");
    for exit in command.all_exit_codes() {
        entry(&mut out, &exit.code.to_string(), exit.text, 5);
    }
    if !command.examples.is_empty() {
        out.push_str("\nExamples:\n");
    }
    for example in command.examples {
        let _ = writeln!(out, "  {}", example.line);
        paragraph(&mut out, example.text, 6);
    }
    out
}

/// Returns the list of settings.
fn of_settings() -> String {
    let mut out = String::new();
    paragraph(&mut out, ABOUT_SETTINGS, 0);
    out.push_str("\nBehind each flag: its default and, where there are bounds, the allowed values.\n\n");
    out + config::help().trim_end() + "\n"
}

/// Writes a name, and its text from this column on.
fn entry(out: &mut String, name: &str, text: &str, column: usize) {
    let mut name = format!("  {name}");
    if name.len() + 1 > column {
        let _ = writeln!(out, "{name}");
        name.clear();
    }
    for line in wrap(text, WIDTH - column) {
        let _ = writeln!(out, "{name:column$}{line}");
        name.clear();
    }
}

fn paragraph(out: &mut String, text: &str, indent: usize) {
    for line in wrap(text, WIDTH - indent) {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str) -> Result<(), String> {
        run(Args::read(&COMMAND, [topic.into()], []).unwrap()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn lines_fit_a_terminal() {
        let texts = COMMANDS.iter().map(|command| of_command(command)).chain([overview(), of_settings()]);
        for line in texts.flat_map(|text| text.lines().map(str::to_string).collect::<Vec<_>>()) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }

    #[test]
    fn every_command_is_listed_once() {
        let text = overview();
        for command in COMMANDS {
            let line = format!("  {} ", command.word);
            assert_eq!(text.lines().filter(|text| text.starts_with(&line)).count(), 1, "{}", command.word);
        }
    }

    #[test]
    fn a_command_s_help_has_all_of_its_declaration() {
        for command in COMMANDS {
            let text = of_command(command);
            for option in command.options {
                assert!(text.contains(&format!("  {}", option.spelled())), "{}", option.name);
            }
            for argument in command.arguments.iter().map(|argument| argument.name) {
                let usage = command.usage.join(" ").replace("COMMAND | SETTING | settings", "TOPIC");
                assert!(text.contains(&format!("  {argument} ")) && usage.contains(argument), "{argument}");
            }
        }
    }

    #[test]
    fn a_misspelt_topic_gets_a_suggestion() {
        assert_eq!(of("chekc").unwrap_err(), "no command or setting chekc; did you mean check?");
        assert_eq!(of("ping-perod").unwrap_err(), "ping-perod: unknown setting; did you mean ping-period?");
        assert!(!of("\u{1b}\n").unwrap_err().contains(char::is_control));
    }
}
