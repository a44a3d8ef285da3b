//! `racerd rekey FILE [--new-key FILE | --plain]`: a stopped database is sealed, gets another key, or becomes plain.

use super::{Failure, complain, file_first, given::Given, say, shown};
use crate::crypto::at_rest::DataKey;
use crate::key_file;
use crate::sqlite::{self, Progress, Rekeyed};
use crate::types::counted;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often somebody hears how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(1);

const USAGE: &str = "rekey needs a database first: racerd rekey FILE [--new-key FILE | --plain] [--data-key-file FILE]";

/// Changes the key of the database. The key that it has is the settings'; a plain one gets the new key, or if none is named
/// the settings'.
///
/// # Errors
/// [`Failure::Usage`] where it is asked for wrongly, a key is missing or a wrong one, or a server uses the database;
/// [`Failure::Failed`] where it cannot be read or written. The same command goes on then.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let (Some(file), mut args) = file_first(args) else { return Err(Failure::Usage(USAGE.to_string())) };
    let new = take(&mut args, "--new-key", true)?;
    let plain = take(&mut args, "--plain", false)?.is_some();
    let parsed = Given::new(args, environment).read()?;
    let present = key_file::data_key(&parsed.settings).map_err(Failure::of_file)?;
    let new = new.map(|file| key_file::read_data_key(Path::new(&file))).transpose().map_err(Failure::of_file)?;
    let to: Option<&DataKey> = match (&new, plain) {
        (Some(_), true) => return Err(Failure::Usage("--new-key and --plain exclude each other".to_string())),
        (None, true) => None,
        (Some(new), false) => Some(new),
        (None, false) => match &present {
            Some(present) => Some(present),
            None => return Err(Failure::Usage(format!("no key is given; {USAGE}"))),
        },
    };
    let rekeyed = sqlite::rekey(&file, present.as_ref(), to, progress())?;
    rekeyed.remarks.iter().for_each(|remark| complain(remark));
    say(&told(&file, &rekeyed));
    Ok(())
}

/// What was done, and what is left to do.
fn told(file: &Path, rekeyed: &Rekeyed) -> String {
    let word = |id: Option<_>| id.map_or("plain".to_string(), |id| format!("the key {id}"));
    let file = shown(file);
    let mut text = if rekeyed.only_emptied {
        format!(
            "{file}: was on {} before; its -wal file, which may have held older content, is emptied",
            word(rekeyed.to)
        )
    } else {
        format!(
            "{file}: from {} to {}: {} changed",
            word(rekeyed.from),
            word(rekeyed.to),
            counted(rekeyed.changed, "message")
        )
    };
    if rekeyed.done > 0 {
        text.push_str(&format!(", {} were done before", rekeyed.done));
    }
    if rekeyed.unreadable > 0 {
        text.push_str(&format!(", {} could not be read and are as they were", rekeyed.unreadable));
    }
    if !rekeyed.only_emptied {
        text.push_str("; sessions of before have ended");
    }
    text.push('\n');
    for older in &rekeyed.beside {
        text.push_str(&format!(
            "{} holds what the database held before; delete it when nobody needs it\n",
            shown(older)
        ));
    }
    text
}

/// Takes a flag, and the value after it if it has one, out of the arguments.
fn take(args: &mut Vec<OsString>, flag: &str, has_value: bool) -> Result<Option<OsString>, Failure> {
    let Some(at) = args.iter().position(|arg| arg == flag) else { return Ok(None) };
    let found = args.remove(at);
    match (has_value, at < args.len()) {
        (false, _) => Ok(Some(found)),
        (true, true) => Ok(Some(args.remove(at))),
        (true, false) => Err(Failure::Usage(format!("{flag} needs a file"))),
    }
}

/// Says on standard error how far it is.
fn progress() -> Progress {
    let mut told = Instant::now();
    Box::new(move |done, total| {
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            complain(&format!("{done} of {total} messages"));
        }
    })
}
