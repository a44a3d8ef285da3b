//! The completion for zsh.

use super::{Flag, NOTE, Values, first_sentence, options, settings, topics};
use crate::cmd::command::Settings;
use crate::cmd::{COMMANDS, Completion};
use std::fmt::Write as _;

/// Returns the script.
pub fn script() -> String {
    let mut out = format!("#compdef racerd\n# Completion of racerd for zsh. {NOTE}\n\n_racerd() {{\n");
    out.push_str("    local -a commands settings\n    local command=serve\n    commands=(\n");
    for command in COMMANDS {
        let _ = writeln!(out, "        {}", quoted(&format!("{}:{}", command.word, command.summary)));
    }
    out.push_str("    )\n    settings=(\n");
    for flag in settings() {
        let _ = writeln!(out, "        {}", option(&flag));
    }
    out.push_str("    )\n    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n");
    out.push_str("        _describe command commands\n        return\n    fi\n");
    out.push_str("    if [[ $words[2] != -* ]]; then\n        command=$words[2]\n        shift words\n");
    out.push_str("        (( CURRENT-- ))\n    fi\n    case $command in\n");
    for command in COMMANDS {
        let _ = writeln!(out, "        {})\n            _arguments \\", command.word);
        let mut specs: Vec<String> = options(command).iter().map(option).collect();
        if command.settings == Settings::Taken {
            specs.push("$settings".to_string());
        }
        for argument in command.arguments {
            let action = match argument.completion {
                Completion::None => " ".to_string(),
                Completion::Files => "_files".to_string(),
                Completion::Topics => format!("({})", topics()),
            };
            specs.push(quoted(&format!(":{}:{action}", argument.name)));
        }
        let _ = writeln!(out, "                {}\n            ;;", specs.join(" \\\n                "));
    }
    out + "    esac\n}\n\n_racerd \"$@\"\n"
}

fn option(flag: &Flag) -> String {
    let text = first_sentence(flag.text).replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
    let repeated = if flag.is_list { "*" } else { "" };
    let name = |name: &str| name.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    quoted(&match flag.value {
        Values::None => format!("{repeated}--{}[{text}]", flag.name),
        Values::Files(value) => format!("{repeated}--{}=[{text}]:{}:_files", flag.name, name(value)),
        Values::Words(words) => format!("{repeated}--{}=[{text}]:WORD:({})", flag.name, words.join(" ")),
        Values::Text(value) => format!("{repeated}--{}=[{text}]:{}: ", flag.name, name(value)),
    })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
