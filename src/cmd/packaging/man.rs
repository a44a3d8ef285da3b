//! The man page, in the macros of man(7).

use super::NOTE;
use crate::cmd::command::{Command, EXIT_CODES, ExitCode, Settings};
use crate::cmd::{COMMANDS, help};
use crate::config::{GROUPS, Kind};
use std::fmt::Write as _;

/// Variables that are not settings, and what racerd reads from them.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("RACERD_CONFIG", "The configuration file, as --config."),
    (
        "RACERD_SETTING",
        "Any setting, in upper case and with underscores for dashes: RACERD_PING_PERIOD is --ping-period.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "The directory of systemd's credentials, in which racerd-data-key is the data key, racerd-sealed-key that of \
         sealed sockets, and racerd-sealed-key-old the one before it.",
    ),
    (
        "LISTEN_FDS, LISTEN_PID, NOTIFY_SOCKET, WATCHDOG_USEC",
        "Listeners and supervision by a service manager, see sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3).",
    ),
    ("TMPDIR", "Where backup, restore, check and salvage keep a database that goes through a pipe. Default: /var/tmp."),
];

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "A server tells its clients, stores what it has accepted, and ends; at a second signal, at once. Other commands end \
         at once.",
    ),
    ("SIGHUP", "A server reads the configuration file again."),
];

/// Returns the page.
pub fn page() -> String {
    let mut out = format!(".\\\" {NOTE}\n.TH RACERD 1 \"\" racerd \"User Commands\"\n.nh\n.ad l\n.SH NAME\n");
    out.push_str("racerd \\- a chat\\-room server over WebSockets in one small binary\n.SH SYNOPSIS\n");
    for command in COMMANDS {
        for usage in command.usage {
            let _ = writeln!(out, "\\fBracerd\\fR {}\n.br", escaped(usage));
        }
    }
    heading(&mut out, "DESCRIPTION");
    text(
        &mut out,
        "racerd serves chat rooms to browsers and programs, and keeps their history in a SQLite database. Without a command it runs the server. The other commands talk to a server, or maintain its database and its keys.",
    );
    heading(&mut out, "COMMANDS");
    for command in COMMANDS {
        of_command(&mut out, command);
    }
    heading(&mut out, "SETTINGS");
    text(&mut out, help::ABOUT_SETTINGS);
    for group in &GROUPS {
        let _ = writeln!(out, ".SS {}", escaped(group.title));
        for setting in group.settings {
            let flag = format!("--{}", setting.flag());
            entry(&mut out, &flag, setting.kind.placeholder(), setting.doc);
            let allowed = match setting.kind {
                Kind::Flag | Kind::Path | Kind::PathOrNone => String::new(),
                Kind::List { .. } => "; can be repeated, or have several values with commas between".to_string(),
                kind => format!("; allowed: {}", kind.allowed()),
            };
            let live = if setting.live { "SIGHUP applies a new value." } else { "A new value needs a restart." };
            let _ = writeln!(out, ".br");
            text(&mut out, &format!("Default: {}{allowed}. {live}", setting.shown_default()));
        }
    }
    heading(&mut out, "EXIT STATUS");
    exit_codes(&mut out, EXIT_CODES.iter());
    heading(&mut out, "SIGNALS");
    for (name, what) in SIGNALS {
        entry(&mut out, name, "", what);
    }
    heading(&mut out, "ENVIRONMENT");
    for (name, what) in ENVIRONMENT {
        entry(&mut out, name, "", what);
    }
    heading(&mut out, "SEE ALSO");
    out.push_str(".BR systemd.service (5),\n.BR curl (1),\n.BR websocat (1)\n");
    out
}

fn of_command(out: &mut String, command: &Command) {
    let _ = writeln!(out, ".SS {}", escaped(command.word));
    for usage in command.usage {
        let _ = writeln!(out, "\\fBracerd\\fR {}\n.br", escaped(usage));
    }
    for paragraph in command.about {
        out.push_str(".PP\n");
        text(out, paragraph);
    }
    for argument in command.arguments {
        entry(out, argument.name, "", argument.text);
    }
    for option in command.options {
        let spelled = option.spelled();
        let (flag, value) = spelled.split_once(' ').unwrap_or((&spelled, ""));
        entry(out, flag, value, option.text);
    }
    if command.settings == Settings::Taken {
        out.push_str(".PP\nEvery setting is also an option here; see SETTINGS.\n");
    }
    if !command.exit_codes.is_empty() {
        out.push_str(".PP\nExit status:\n");
        exit_codes(out, command.all_exit_codes().into_iter());
    }
    for (index, example) in command.examples.iter().enumerate() {
        out.push_str(if index == 0 { ".PP\nExamples:\n.PP\n.RS\n.nf\n" } else { ".PP\n.RS\n.nf\n" });
        let _ = writeln!(out, "{}\n.fi\n.RE", escaped(example.line));
        if !example.text.is_empty() {
            out.push_str(".RS 12\n");
            text(out, example.text);
            out.push_str(".RE\n");
        }
    }
}

fn exit_codes<'a>(out: &mut String, codes: impl Iterator<Item = &'a ExitCode>) {
    for exit in codes {
        entry(out, &exit.code.to_string(), "", exit.text);
    }
}

fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, ".SH {title}");
}

/// Writes a tagged paragraph.
fn entry(out: &mut String, name: &str, value: &str, what: &str) {
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{}\\fR", escaped(value)) };
    let _ = writeln!(out, ".TP\n\\fB{}\\fR{value}", escaped(name));
    text(out, what);
}

/// Writes a text, each sentence on a line of its own where that is easily seen.
fn text(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", escaped(text.trim()).replace(". ", ".\n"));
}

/// Escapes text that roff would read as a request, an escape or a hyphen. Quotation marks and dots are harmless within
/// a line.
fn escaped(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ").replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('~', "\\(ti");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}
