//! `racerd backup FILE`: copies the database, also while a server writes to it.

use super::command::{Argument, Command, Completion, Example, Group, Opt, OptValue, Run, Settings};
use super::stream::{self, is_stream};
use super::{Args, Failure, complain, progress, say, shown};
use crate::sqlite;
use std::path::PathBuf;

pub const COMMAND: Command = Command {
    word: "backup",
    group: Group::Database,
    usage: &["backup FILE [--force] [SETTINGS]"],
    summary: "Copy the database to a file, also while a server runs",
    about: &[
        "Copies the database that the settings name (--data) to FILE, which must not exist. A server may read and write \
         the database meanwhile; the copy is complete in itself, without -wal or other files beside it.",
    ],
    arguments: &[Argument {
        name: "FILE",
        text: "The copy. - is standard output, unless that is a terminal.",
        completion: Completion::Files,
    }],
    options: &[Opt {
        name: "force",
        value: OptValue::None,
        text: "Replace FILE if it is an earlier copy. A database in use is never replaced.",
    }],
    settings: Settings::Taken,
    surplus: "it writes one FILE",
    examples: &[
        Example { line: "racerd backup nightly.db --force", text: "Replaces yesterday's copy." },
        Example {
            line: "racerd backup - --data /var/lib/racerd/racerd.db | gzip > racerd.db.gz",
            text: "Compresses the copy on its way.",
        },
    ],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Copies the database that the settings name to the file.
///
/// # Errors
/// [`Failure::Usage`] where no file is named, it exists (without `--force`), or there is no database;
/// [`Failure::Failed`] where it cannot be read or the copy cannot be written.
fn run(mut args: Args) -> Result<(), Failure> {
    let file = PathBuf::from(args.required("FILE")?);
    let force = args.has("force");
    let data = args.into_invocation().read()?.settings.storage.data;
    if is_stream(&file) {
        let bytes = stream::send(|copy| Ok(sqlite::backup(&data, copy, false, progress())?))?;
        complain(&format!("standard output has a backup of {}: {bytes} bytes", data.display()));
        return Ok(());
    }
    let bytes = sqlite::backup(&data, &file, force, progress())?;
    say(&format!("{} is a backup of {}: {bytes} bytes\n", shown(&file), shown(&data)));
    Ok(())
}
