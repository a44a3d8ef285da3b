//! The completion for fish.

use super::{Flag, NOTE, Values, first_sentence, options, settings, topics, with_argument, with_settings};
use crate::cmd::{COMMANDS, Completion};
use std::fmt::Write as _;

const FUNCTIONS: &str = r"
# Whether no command was named yet.
function __racerd_is_first
    test (count (commandline -opc)) -eq 1
end

# Whether the command is one of these; without a command, it is serve.
function __racerd_is
    set -l words (commandline -opc)
    set -l command serve
    if set -q words[2]; and not string match -q -- '-*' $words[2]
        set command $words[2]
    end
    contains -- $command $argv
end

complete -c racerd -f
";

/// Returns the script.
pub fn script() -> String {
    let mut out = format!("# Completion of racerd for fish. {NOTE}\n{FUNCTIONS}");
    for command in COMMANDS {
        let summary = quoted(command.summary);
        let _ = writeln!(out, "complete -c racerd -n __racerd_is_first -a {} -d {summary}", command.word);
    }
    let words = |words: &mut dyn Iterator<Item = &'static str>| words.collect::<Vec<_>>().join(" ");
    for command in COMMANDS {
        for flag in options(command) {
            option(&mut out, command.word, &flag);
        }
    }
    let taking = words(&mut with_settings());
    for flag in settings() {
        option(&mut out, &taking, &flag);
    }
    let _ = writeln!(out, "complete -c racerd -n '__racerd_is {}' -F", words(&mut with_argument(Completion::Files)));
    let helped = words(&mut with_argument(Completion::Topics));
    let _ = writeln!(out, "complete -c racerd -n '__racerd_is {helped}' -a '{}'", topics());
    out
}

fn option(out: &mut String, commands: &str, flag: &Flag) {
    let value = match flag.value {
        Values::None => String::new(),
        Values::Files(_) => " -r -F".to_string(),
        Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
        Values::Text(_) => " -x".to_string(),
    };
    let text = quoted(first_sentence(flag.text));
    let _ = writeln!(out, "complete -c racerd -n '__racerd_is {commands}' -l {}{value} -d {text}", flag.name);
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
