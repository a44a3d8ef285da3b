//! `racerd help`, `--help`: the commands and every setting; `racerd help SETTING`: that one.

use super::{Failure, say};
use crate::config;
use std::ffi::OsString;

const HEAD: &str = "\
racerd: a chat-room server over WebSockets in one small binary

Usage:
  racerd [serve] [SETTINGS]        serve rooms until SIGTERM or SIGINT
  racerd --check-config [SETTINGS] show what would hold, where it comes from, and the memory it may take
  racerd --print-config            print a configuration file with every setting, to be changed
  racerd send URL [TEXT | -]       say TEXT, or each line of standard input, in the room of that URL
  racerd tail URL [--follow]       print what is said there
  racerd health [SETTINGS | URL [--ca FILE]]
                                   ask a running racerd whether it is ready: exit code 0 or 1
  racerd backup FILE [--force] [SETTINGS]
                                   copy the database to FILE, also while a server runs; --force
                                   replaces an earlier copy, but never a database in use
  racerd restore FILE [SETTINGS]   put a backup into the place of the database, which is kept
  racerd check [FILE] [SETTINGS]   look through FILE, or the database, and say what is wrong
  racerd salvage FILE NEW [SETTINGS]
                                   copy what can be read of a damaged database to a new one
                                   - as FILE or NEW of these four is standard input or output
  racerd rekey FILE [--new-key FILE | --plain] [SETTINGS]
                                   seal a stopped database, give it another data key, or none
  racerd keygen FILE               make a key for sealed sockets, and print its pin
  racerd keygen --data FILE        make a data key
  racerd pin [--url] [SETTINGS]    print the pin of sealed sockets, and the page's URL with it
  racerd help [SETTING]            this, or one setting with all of its spellings
  racerd --version                 which racerd this is

Exit codes: 0 done, and for check: sound. 1 the system refuses (a full disk, a database in use, a port
that is taken, a file that is missing), and nothing was changed; for check: damaged. 2 a person has to
change something: a mistake in the arguments or settings, a file that is there already, a wrong key, a
missing data key. serve ends with 0 when it was told to stop.

send and tail take http://HOST:PORT/rooms/ROOM (also ws, https, wss), with #pin=PIN&k=KEY as the page
has it; they come back by themselves after a loss, and lose and double nothing.
  --name NAME          who one is
  --room-key KEY|@FILE the key of an encrypted room, or a file that it stands in
  --pin PIN            speak sealed, to the server that has this pin, or not at all
  --ca FILE            trust the certificates in FILE, too
  --timeout DURATION   to wait for a connection (30s; 0: for ever); tail --follow, once it was there,
                       waits for ever unless this is given
  --json               send: TEXT or a line is the body; tail: a line is the message's JSON object
  --key KEY            send: the idempotency key of TEXT
  --last N             tail: begin with so many of the newest messages (10)
  --follow             tail: go on with what is said from now on
Text that begins with a dash stands behind --. Their exit codes: 0 done. 1 the server refused it, or it
was given up. 2 asked for wrongly. 3 no connection in time. 4 the pin or the certificate does not match.
5 tail: not every message could be read with this room key.

A setting is a flag (--ping-period 20s), a variable (RACERD_PING_PERIOD=20s), or a line of a file
(ping_period = \"20s\") that --config FILE or RACERD_CONFIG names. A flag is stronger than a variable,
a variable stronger than the file; an empty variable counts as not set. SIGHUP has a running racerd
read the file again. Sizes are written 60000, 64k or 32KiB, durations 250ms, 10s, 2m or 7d.
Below, after each flag: its default, and what it may be.

";

/// Prints the help, or the part of it about one setting.
///
/// # Errors
/// [`Failure::Usage`] where there is no such setting.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    match args {
        [] => say(&text()),
        [name] => say(&config::help_on(&name.to_string_lossy()).map_err(Failure::Usage)?),
        _ => return Err(Failure::Usage("help takes one setting, such as racerd help ping-period".to_string())),
    }
    Ok(())
}

fn text() -> String {
    format!("{HEAD}{}", config::help().trim_end()) + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_fit() {
        for line in super::text().lines() {
            assert!(line.chars().count() <= 104, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}
