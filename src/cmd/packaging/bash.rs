//! The completion for bash.

use super::{Flag, NOTE, Values, options, settings, topics, with_argument};
use crate::cmd::command::Settings;
use crate::cmd::{COMMANDS, Completion};
use std::fmt::Write as _;

const FUNCTIONS: &str = r#"
_racerd_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_racerd_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}
"#;

const MAIN: &str = r#"
_racerd() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=serve
    COMPREPLY=()
    # bash splits --name=value at the =.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ $COMP_CWORD -eq 1 && $current != -* ]]; then
        _racerd_words "$_racerd_commands" "$current"
        return
    fi
    if [[ ${COMP_WORDS[1]} != -* ]]; then command=${COMP_WORDS[1]}; fi
    if _racerd_value "$command" "$previous" "$current"; then return; fi
    if [[ $current == -* ]]; then
        _racerd_words "$(_racerd_options "$command")" "$current"
        return
    fi
    case $command in
"#;

/// Returns the script.
pub fn script() -> String {
    let words: Vec<&str> = COMMANDS.iter().map(|command| command.word).collect();
    let mut out = format!("# Completion of racerd for bash. {NOTE}\n\n_racerd_commands=\"{}\"\n", words.join(" "));
    let names = |flags: &[Flag]| flags.iter().map(|flag| format!("--{}", flag.name)).collect::<Vec<_>>().join(" ");
    let _ = writeln!(out, "_racerd_settings=\"{}\"\n_racerd_topics=\"{}\"", names(&settings()), topics());
    out.push_str(FUNCTIONS);

    out.push_str("\n# Prints the options of a command.\n_racerd_options() {\n    case $1 in\n");
    for command in COMMANDS {
        let settings = if command.settings == Settings::Taken { " $_racerd_settings" } else { "" };
        let _ = writeln!(out, "        {}) echo \"{}{settings}\" ;;", command.word, names(&options(command)));
    }
    out.push_str("    esac\n}\n");

    out.push_str("\n# Completes the value of the option $2 of the command $1; fails where it has none.\n");
    out.push_str("_racerd_value() {\n    case $1:$2 in\n");
    for command in COMMANDS {
        for flag in options(command) {
            value(&mut out, &format!("{}:--{}", command.word, flag.name), &flag);
        }
    }
    let without = COMMANDS.iter().filter(|command| command.settings == Settings::NotTaken);
    let without: Vec<String> = without.map(|command| format!("{}:*", command.word)).collect();
    let _ = writeln!(out, "        {}) return 1 ;;", without.join(" | "));
    for flag in settings() {
        value(&mut out, &format!("*:--{}", flag.name), &flag);
    }
    out.push_str("        *) return 1 ;;\n    esac\n}\n");

    out.push_str(MAIN);
    let files: Vec<&str> = with_argument(Completion::Files).collect();
    let topics: Vec<&str> = with_argument(Completion::Topics).collect();
    let _ = writeln!(out, "        {}) _racerd_files \"$current\" ;;", files.join(" | "));
    let _ = writeln!(out, "        {}) _racerd_words \"$_racerd_topics\" \"$current\" ;;", topics.join(" | "));
    out.push_str("    esac\n}\n\ncomplete -F _racerd racerd\n");
    out
}

fn value(out: &mut String, pattern: &str, flag: &Flag) {
    let _ = match flag.value {
        // The option of another command may have one.
        Values::None => writeln!(out, "        {pattern}) return 1 ;;"),
        Values::Files(_) => writeln!(out, "        {pattern}) _racerd_files \"$3\" ;;"),
        Values::Words(words) => writeln!(out, "        {pattern}) _racerd_words \"{}\" \"$3\" ;;", words.join(" ")),
        Values::Text(_) => writeln!(out, "        {pattern}) ;;"),
    };
}
