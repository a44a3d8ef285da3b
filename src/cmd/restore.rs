//! `racerd restore FILE`: puts a backup in the place of the database.

use super::command::{Argument, Command, Completion, Example, Group, Run, Settings};
use super::stream::Source;
use super::{Args, Failure, complain, progress, say, shown};
use crate::sqlite;
use crate::types::counted;

pub const COMMAND: Command = Command {
    word: "restore",
    group: Group::Database,
    usage: &["restore FILE [SETTINGS]"],
    summary: "Put a backup in the place of the database, which is kept",
    about: &[
        "Checks the backup, then puts a copy of it in the place of the database that the settings name (--data). The \
         database that was there is kept beside it under another name, which is printed. The server must be stopped.",
        "A restored log counts as a new one: clients that reconnect are told that messages may be missing.",
        "A backup that an older racerd has made keeps its database version, which is named, until a server first starts \
         on it.",
    ],
    arguments: &[Argument {
        name: "FILE",
        text: "The backup. - is standard input, unless that is a terminal.",
        completion: Completion::Files,
    }],
    options: &[],
    settings: Settings::Taken,
    surplus: "it reads one FILE, and --data names the database",
    examples: &[Example { line: "racerd restore nightly.db --data /var/lib/racerd/racerd.db", text: "" }],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Puts a copy of the backup into the place of the database that the settings name.
///
/// # Errors
/// [`Failure::Usage`] where no backup is named; [`Failure::Failed`] where a server uses the database, the backup is
/// damaged, or it cannot be written.
fn run(mut args: Args) -> Result<(), Failure> {
    let file = args.required("FILE")?.into();
    let data = args.into_invocation().read()?.settings.storage.data;
    let from = Source::of(file)?;
    let restored = sqlite::restore(&from.path(), &data, progress()).map_err(|error| from.named(error.into()))?;
    let mut text = format!(
        "{} is restored from {}: {} in {}; clients will be told that it is a new log\n",
        shown(&data),
        shown(&from.name()),
        counted(restored.messages, "message"),
        counted(restored.rooms, "room")
    );
    if let Some(version) = restored.version {
        text.push_str(&format!("it {version}\n"));
    }
    if let Some(kept) = restored.kept {
        text.push_str(&format!("the earlier database is kept as {}\n", shown(&kept)));
    }
    for remark in restored.remarks {
        complain(&remark);
    }
    say(&text);
    Ok(())
}
