//! `racerd serve`: reads the settings and runs the server until a signal ends it.

use super::command::{Command, Example, ExitCode, Group, Opt, OptValue, Run, Settings};
use super::{Args, Failure, no_signals};
use crate::config::{LogLevel, Source};
use crate::server;
use crate::server::log::Log;

pub const COMMAND: Command = Command {
    word: "serve",
    group: Group::Server,
    usage: &["[serve] [SETTINGS]"],
    summary: "Run the server; the default command",
    about: &[
        "Serves rooms until SIGTERM or SIGINT. It then tells every client, stores what it has accepted, and ends; a \
         second signal ends it at once. SIGHUP reads the configuration file again.",
        "A listener that other machines can reach needs --open, since there are no accounts: everyone who reaches it \
         can read and write every room.",
    ],
    arguments: &[],
    options: &[
        Opt {
            name: "check-config",
            value: OptValue::None,
            text: "Print the effective settings instead, as racerd check-config does.",
        },
        Opt {
            name: "print-config",
            value: OptValue::None,
            text: "Print a configuration file with every setting instead, as racerd print-config does.",
        },
    ],
    settings: Settings::Taken,
    surplus: "settings begin with two dashes",
    examples: &[
        Example { line: "racerd", text: "Serves http://127.0.0.1:7077, with the history in ./racerd.db." },
        Example { line: "racerd --listen 0.0.0.0:7077 --open", text: "Serves everyone on the network." },
        Example { line: "racerd --config /etc/racerd.toml", text: "Takes the settings from a file." },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "A signal ended the server." },
        ExitCode {
            code: 1,
            text: "The system refused: a port that is taken, a full disk, a database in use. A service manager should \
                   try again.",
        },
        ExitCode {
            code: 2,
            text: "Usage error, or something else that somebody has to change first: a setting, a key, a damaged \
                   database. Trying again does not help.",
        },
    ],
    run: Run::Server(run),
};

/// Serves until a signal ends it. The two options never come here: [`super::choose`] takes them.
///
/// # Errors
/// [`Failure::Usage`] where somebody has to change something before a server can start, [`Failure::Failed`] where the
/// system refuses, or the server failed later.
fn run(args: Args) -> Result<(), Failure> {
    // First of all: it clears variables, which is allowed only while there is one thread.
    let listeners = server::given_listeners()?;
    let signals = server::Early::for_server().map_err(no_signals)?;
    let invocation = args.into_invocation();
    let parsed = invocation.read_to_serve()?;
    if !parsed.ignored.is_empty() {
        let log = Log::stderr(parsed.settings.log.log_level, parsed.settings.log.log_format);
        log.write(LogLevel::Info, "these variables are no settings", &[("ignored", &parsed.ignored.join(" "))]);
    }
    if !listeners.is_empty() && parsed.source("listen") != Source::Default {
        let log = Log::stderr(parsed.settings.log.log_level, parsed.settings.log.log_format);
        log.write(LogLevel::Warn, "listen is not used, since listeners are given", &[("given", &listeners.len())]);
    }
    let read_again = move || invocation.read_to_serve();
    Ok(server::run(parsed, listeners, Box::new(read_again), signals)?)
}
