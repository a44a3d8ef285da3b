//! The files below `packaging/` that are made from the declarations: shell completions, the man page and the
//! configuration file of the packages. A test compares them; `WRITE_PACKAGING=1 cargo test --lib packaging` rewrites
//! them.

mod bash;
mod fish;
mod man;
mod zsh;

use super::command::{Command, OptValue, SETTINGS_TOPIC, Settings};
use super::{COMMANDS, Completion};
use crate::config::{self, Kind, Setting};

const NOTE: &str = "Generated from the declarations in src/cmd and src/config; see src/cmd/packaging.rs.";

/// The options that every command takes.
const COMMON: [(&str, &str); 2] = [("help", "Print the help on the command."), ("version", "Print the version.")];

/// One option or setting, as a shell needs it.
struct Flag {
    name: String,
    text: &'static str,
    value: Values,
    is_list: bool,
}

/// The completions that a shell may offer for an option's value.
enum Values {
    None,
    Files(&'static str),
    Words(&'static [&'static str]),
    /// Nothing; the name stands for the value.
    Text(&'static str),
}

impl Flag {
    fn of_setting(setting: &Setting) -> Flag {
        let is_list = matches!(setting.kind, Kind::List { .. });
        let value = match setting.kind {
            Kind::Flag => Values::None,
            Kind::Choice(words) | Kind::SizeChoice(words) => Values::Words(words),
            Kind::Path | Kind::PathOrNone | Kind::List { item: "FILE", .. } => Values::Files("FILE"),
            kind => Values::Text(kind.placeholder()),
        };
        Flag { name: setting.flag(), text: setting.doc.trim(), value, is_list }
    }
}

/// Returns the flags of the settings, and `--config`.
fn settings() -> Vec<Flag> {
    let text = "The configuration file.";
    let config = Flag { name: "config".to_string(), text, value: Values::Files("FILE"), is_list: false };
    config::all().map(Flag::of_setting).chain([config]).collect()
}

/// Returns the options of a command, without the settings.
fn options(command: &Command) -> Vec<Flag> {
    let own = command.options.iter().map(|option| {
        let value = match option.value {
            OptValue::None => Values::None,
            OptValue::File(name) => Values::Files(name),
            OptValue::Text(name) => Values::Text(name),
        };
        Flag { name: option.name.to_string(), text: option.text, value, is_list: false }
    });
    let common = COMMON.map(|(name, text)| Flag { name: name.to_string(), text, value: Values::None, is_list: false });
    own.chain(common).collect()
}

/// Returns the words of the commands that take settings.
fn with_settings() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().filter(|command| command.settings == Settings::Taken).map(|command| command.word)
}

/// Returns the words of the commands with an argument of this kind.
fn with_argument(completion: Completion) -> impl Iterator<Item = &'static str> {
    let has = move |command: &&&Command| command.arguments.iter().any(|argument| argument.completion == completion);
    COMMANDS.iter().filter(has).map(|command| command.word)
}

/// Returns the topics that `racerd help` takes.
fn topics() -> String {
    let settings = config::all().map(Setting::flag);
    let topics =
        COMMANDS.iter().map(|command| command.word.to_string()).chain([SETTINGS_TOPIC.to_string()]).chain(settings);
    topics.collect::<Vec<_>>().join(" ")
}

/// Returns the first sentence of a text, for a list of choices.
fn first_sentence(text: &str) -> &str {
    let end = text.match_indices([':', '.']).find(|(at, _)| text[at + 1..].starts_with([' ', '\n']));
    end.map_or(text, |(at, _)| &text[..at]).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn compare(name: &str, wanted: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
        if std::env::var_os("WRITE_PACKAGING").is_some() {
            fs::write(&path, wanted).unwrap();
            return;
        }
        let fault = "is not what the declarations say; WRITE_PACKAGING=1 cargo test --lib packaging writes it";
        assert!(fs::read_to_string(&path).unwrap_or_default() == wanted, "packaging/{name} {fault}");
    }

    #[test]
    fn completions_are_those_of_the_declarations() {
        compare("completions/racerd.bash", &bash::script());
        compare("completions/_racerd", &zsh::script());
        compare("completions/racerd.fish", &fish::script());
    }

    #[test]
    fn the_man_page_is_that_of_the_declarations() {
        compare("racerd.1", &man::page());
    }

    #[test]
    fn the_configuration_file_is_that_of_the_declarations() {
        let text = config::example();
        compare("racerd.toml", &text);
        for (index, line) in text.lines().enumerate() {
            assert!(line.is_empty() || line.starts_with('#'), "line {} of racerd.toml sets something", index + 1);
        }
    }

    #[test]
    fn every_word_is_in_every_file() {
        for text in [bash::script(), zsh::script(), fish::script(), man::page().replace("\\-", "-")] {
            let names = COMMANDS.iter().flat_map(|command| command.options).map(|option| option.name.to_string());
            let words = COMMANDS.iter().map(|command| command.word.to_string());
            for word in names.chain(words).chain(config::all().map(Setting::flag)) {
                assert!(text.contains(&word), "{word} is missing");
            }
        }
    }

    #[test]
    fn sentences() {
        assert_eq!(first_sentence("One thing. Another."), "One thing");
        assert_eq!(first_sentence("What it is. full: 0.5 or e2e.x"), "What it is");
        assert_eq!(first_sentence("Alone"), "Alone");
    }
}
