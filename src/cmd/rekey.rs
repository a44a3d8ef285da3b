//! `racerd rekey FILE`: encrypts a stopped database, changes its data key, or decrypts it.

use super::command::{Argument, Command, Completion, Example, Group, Opt, OptValue, Run, Settings};
use super::{Args, Failure, complain, say, shown};
use crate::crypto::at_rest::DataKey;
use crate::key_file;
use crate::sqlite::{self, Progress, Rekeyed};
use crate::types::counted;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The interval between two lines about progress.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub const COMMAND: Command = Command {
    word: "rekey",
    group: Group::Database,
    usage: &["rekey FILE [--new-key FILE | --plain] [SETTINGS]"],
    summary: "Encrypt a stopped database, change its data key, or decrypt it",
    about: &[
        "Changes the data key of the database FILE. The key that it has now is that of the settings (--data-key-file). \
         Without --new-key and --plain, a plain database is encrypted with the settings' key, and in one that has this key \
         already, rows that older versions encrypted are encrypted anew.",
        "No server may use the database. One of an older version gets the version that this racerd writes. If the command is interrupted, the same command continues where it stopped.",
    ],
    arguments: &[Argument { name: "FILE", text: "The database.", completion: Completion::Files }],
    options: &[
        Opt {
            name: "new-key",
            value: OptValue::File("FILE"),
            text: "The file of the new data key, as racerd keygen --data writes it.",
        },
        Opt { name: "plain", value: OptValue::None, text: "Decrypt the database." },
    ],
    settings: Settings::Taken,
    surplus: "it changes one FILE",
    examples: &[
        Example { line: "racerd rekey racerd.db --data-key-file data.key", text: "Encrypts a plain database." },
        Example {
            line: "racerd rekey racerd.db --data-key-file data.key --new-key new.key",
            text: "Changes the data key.",
        },
        Example { line: "racerd rekey racerd.db --data-key-file data.key --plain", text: "Decrypts the database." },
    ],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Changes the key of the database. The key that it has is the settings'; a plain database gets the new key or, without
/// one, the settings' key.
///
/// # Errors
/// [`Failure::Usage`] for a usage error, or a missing or wrong key; [`Failure::Failed`] where the database is in use,
/// or cannot be read or written. The same command then continues where this one stopped.
fn run(mut args: Args) -> Result<(), Failure> {
    let file = PathBuf::from(args.required("FILE")?);
    let new = args.value("new-key").map(PathBuf::from);
    let plain = args.has("plain");
    let parsed = args.into_invocation().read()?;
    let present = key_file::data_key(&parsed.settings)?;
    let new = new.map(|file| key_file::read_data_key(&file)).transpose()?;
    let to: Option<&DataKey> = match (&new, plain) {
        (Some(_), true) => return Err(Failure::Usage("--new-key and --plain are mutually exclusive".into())),
        (None, true) => None,
        (Some(new), false) => Some(new),
        (None, false) => match &present {
            Some(present) => Some(present),
            None => {
                let text = "rekey needs a data key: name it with --data-key-file FILE or --new-key FILE";
                return Err(Failure::Usage(text.into()));
            }
        },
    };
    let rekeyed = sqlite::rekey(&file, present.as_ref(), to, progress())?;
    rekeyed.remarks.iter().for_each(|remark| complain(remark));
    say(&report(&file, &rekeyed));
    Ok(())
}

/// Describes the steps done, and those left to do.
fn report(file: &Path, rekeyed: &Rekeyed) -> String {
    let word = |id: Option<_>| id.map_or("plain".to_string(), |id| format!("the key {id}"));
    let state = rekeyed.to.map_or("plain".to_string(), |id| format!("sealed with the key {id}"));
    let file = shown(file);
    let mut text = if rekeyed.only_emptied {
        format!("{file}: was already {state}; its -wal file, which may have held older content, is emptied")
    } else {
        format!(
            "{file}: from {} to {}: {} changed",
            word(rekeyed.from),
            word(rekeyed.to),
            counted(rekeyed.changed, "message")
        )
    };
    if rekeyed.done > 0 {
        text.push_str(&format!(", {} had been changed before", rekeyed.done));
    }
    if rekeyed.unreadable > 0 {
        text.push_str(&format!(", {} could not be read and stay as they were", rekeyed.unreadable));
    }
    if !rekeyed.only_emptied {
        text.push_str("; earlier sessions have ended");
    }
    text.push('\n');
    for older in &rekeyed.beside {
        text.push_str(&format!(
            "{} still holds the earlier content; delete it when it is no longer needed\n",
            shown(older)
        ));
    }
    text
}

/// Reports progress on standard error.
fn progress() -> Progress {
    let mut reported = Instant::now();
    Box::new(move |done, total| {
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            complain(&format!("{done} of {total} messages"));
        }
    })
}
