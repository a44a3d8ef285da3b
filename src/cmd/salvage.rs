//! `racerd salvage FILE NEW`: copies the readable data of a damaged database to a new one.

use super::command::{Argument, Command, Completion, Example, Group, Run, Settings};
use super::stream::{self, Source, is_stream};
use super::{Args, Failure, complain, say, shown};
use crate::key_file;
use crate::sqlite;
use std::path::{Path, PathBuf};

pub const COMMAND: Command = Command {
    word: "salvage",
    group: Group::Database,
    usage: &["salvage FILE NEW [SETTINGS]"],
    summary: "Copy what is readable of a damaged database to a new one",
    about: &[
        "Reads the damaged database FILE row by row, copies every message that is still readable to the new database \
         NEW, and reports what was lost. FILE stays as it is. No server may use it meanwhile.",
    ],
    arguments: &[
        Argument {
            name: "FILE",
            text: "The damaged database. - is standard input, unless that is a terminal.",
            completion: Completion::Files,
        },
        Argument {
            name: "NEW",
            text: "The new database, which must not exist. - is standard output, unless that is a terminal.",
            completion: Completion::Files,
        },
    ],
    options: &[],
    settings: Settings::Taken,
    surplus: "it takes two files, FILE and NEW",
    examples: &[Example { line: "racerd salvage racerd.db rescued.db", text: "" }],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Copies every readable row, and reports what was lost.
///
/// # Errors
/// [`Failure::Usage`] where the files are not both named, or the new one exists; [`Failure::Failed`] where a server
/// uses the database, nothing can be read, or the new file cannot be written.
fn run(mut args: Args) -> Result<(), Failure> {
    let from = args.required("FILE")?;
    let to = PathBuf::from(args.required("NEW")?);
    let settings = args.into_invocation().read()?.settings;
    let key = key_file::data_key(&settings)?;
    let from = Source::of(from.into())?;
    let salvage = |to: &Path| sqlite::salvage(&from.path(), to, key.as_ref()).map_err(|error| from.named(error.into()));
    if is_stream(&to) {
        let report = stream::send(salvage)?;
        complain(&report.to_string());
        return Ok(());
    }
    let report = salvage(&to)?;
    say(&format!("{report}\n{} can be served with --data, or restored\n", shown(&to)));
    Ok(())
}
