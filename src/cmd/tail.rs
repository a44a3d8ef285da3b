//! `racerd tail URL [--follow]`: prints a room's messages, one line each.

use super::command::{Argument, Command, Completion, Example, ExitCode, Group, Opt, OptValue, Run, Settings};
use super::reader::Reader;
use super::room::{self, RoomArgs, outcome, report};
use super::{Args, Failure, complain};
use crate::client::{Begin, Event, RunError, run as client};
use crate::types::Reason;
use std::io::{ErrorKind, Write};

pub const COMMAND: Command = Command {
    word: "tail",
    group: Group::Rooms,
    usage: &["tail URL [--follow] [OPTIONS]"],
    summary: "Print a room's messages",
    about: &[
        "Prints the room's newest messages as NAME: TEXT, one line each. Characters that could control the terminal are \
         escaped, and a name that could be mistaken for text is quoted. Messages that are missing are reported on \
         standard error.",
        "With --follow it then prints new messages as they come. After a lost connection it reconnects and resumes by \
         itself; no message is lost or duplicated.",
    ],
    arguments: &[Argument { name: "URL", text: room::URL, completion: Completion::None }],
    options: &[
        Opt {
            name: "last",
            value: OptValue::Text("N"),
            text: "How many of the newest messages to begin with. Default: 10.",
        },
        Opt { name: "follow", value: OptValue::None, text: "Continue with new messages, until a signal." },
        Opt { name: "json", value: OptValue::None, text: "Print each message as its JSON object, on one line." },
        room::NAME,
        room::ROOM_KEY,
        room::TOKEN,
        room::PIN,
        room::CA,
        Opt {
            name: "timeout",
            value: OptValue::Text("DURATION"),
            text: "How long to wait for a connection. 0: for ever. Default: 30s; with --follow, for ever once there was a \
                   connection.",
        },
    ],
    settings: Settings::NotTaken,
    surplus: "it takes one URL, and racerd send sends a message",
    examples: &[
        Example { line: "racerd tail http://127.0.0.1:7077/rooms/lobby --follow", text: "" },
        Example {
            line: "racerd tail http://127.0.0.1:7077/rooms/lobby --last 100 --json | jq .body",
            text: "Hands the bodies of the last 100 messages to a program.",
        },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "The messages were printed, or nobody reads the output any more." },
        ExitCode { code: 1, text: "The server refused, or did not answer in time." },
        room::USAGE_ERROR,
        room::NO_CONNECTION,
        room::MISMATCH,
        ExitCode { code: 5, text: "Some messages could not be read with this room key." },
    ],
    run: Run::OneShot(run),
};

/// Messages to begin with, by default.
const LAST: u64 = 10;

/// Prints the newest messages, and with `--follow` all later ones.
///
/// # Errors
/// [`Failure`]; [`Failure::Unreadable`] at the end if a message could not be read with the room key.
fn run(args: Args) -> Result<(), Failure> {
    let args = RoomArgs::read(args)?;
    args.warn_of_secrets();
    let begin = Begin::Last(args.last.unwrap_or(LAST));
    let mut session = args.session(begin);
    let mut reader = Reader::new(args.cipher(), args.json);
    let mut reported = String::new();
    let done = client(&args.run_options(), &mut session, None, &mut |event| {
        match event {
            Event::Message(text) => print(&reader.line(text))?,
            Event::Gap { after, from, new_log } => complain(&reader.gap(*after, *from, *new_log)),
            _ => {}
        }
        report(event, &mut reported)
    });
    outcome(done)?;
    match reader.unreadable() {
        0 => Ok(()),
        count => Err(Failure::Unreadable(format!("{count} messages could not be read with this room key").into())),
    }
}

fn print(line: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(RunError::OutputClosed),
        done => done.map_err(|error| RunError::Refused(Reason::with(format!("standard output: {error}"), error))),
    }
}
