//! `racerd check [FILE]`: checks a database for damage, also while a server writes to it.

use super::command::{Argument, Command, Completion, Example, ExitCode, Group, Run, Settings};
use super::stream::Source;
use super::{Args, Failure, say, shown};
use crate::config::Storage;
use crate::key_file;
use crate::sqlite::{self, Checked, rooms_within};
use crate::types::{Reason, counted, harmless};
use std::path::PathBuf;

pub const COMMAND: Command = Command {
    word: "check",
    group: Group::Database,
    usage: &["check [FILE] [SETTINGS]"],
    summary: "Check a database or a backup for damage",
    about: &[
        "Reads the whole of FILE, or of the database that the settings name (--data), and lists what is wrong with it. \
         It changes nothing, and a server may use the database meanwhile. Sealed content is checked with the data key \
         (--data-key-file).",
        "A database of an older version is checked as what it is, and its version is named.",
    ],
    arguments: &[Argument {
        name: "FILE",
        text: "The database or backup. - is standard input, unless that is a terminal.",
        completion: Completion::Files,
    }],
    options: &[],
    settings: Settings::Taken,
    surplus: "it reads one FILE",
    examples: &[
        Example { line: "racerd check", text: "Checks ./racerd.db." },
        Example { line: "racerd check nightly.db", text: "Checks a backup." },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "The database is sound." },
        ExitCode { code: 1, text: "The database is damaged, or could not be read." },
        ExitCode {
            code: 2,
            text: "Usage error: the arguments, a setting, a key, or a file that is no database of this racerd.",
        },
    ],
    run: Run::OneShot(run),
};

/// The settings by which a server refuses messages for good.
struct Bounds {
    max_database_size: u64,
    rooms_max: u64,
    /// Old messages may go, so none is refused for want of space.
    may_delete: bool,
}

impl Bounds {
    fn of(storage: &Storage) -> Bounds {
        Bounds {
            max_database_size: storage.max_database_size,
            rooms_max: u64::from(storage.rooms_max),
            may_delete: storage.keep_messages > 0 || storage.keep_for > 0,
        }
    }

    /// Returns a line for each of them that a database has reached, or nearly.
    fn remarks(&self, checked: &Checked) -> String {
        let mut lines = String::new();
        if let Some(text) = checked.fullness(self.max_database_size).filter(|_| !self.may_delete) {
            lines.push_str(&format!("it {text}\n"));
        }
        let within = match self.max_database_size {
            0 => u64::MAX,
            max => rooms_within(max),
        };
        if checked.rooms >= self.rooms_max.min(within) {
            let setting = if within < self.rooms_max { "max_database_size allows" } else { "rooms_max" };
            lines.push_str(&format!("it has as many rooms as {setting}: messages to further rooms are refused\n"));
        }
        lines
    }
}

/// Checks the file, or else the database that the settings name, and prints its findings.
///
/// # Errors
/// [`Failure::Usage`] where there is no database; [`Failure::Failed`] where it cannot be read or is not sound.
fn run(mut args: Args) -> Result<(), Failure> {
    let file = args.next_word().map(PathBuf::from);
    let settings = args.into_invocation().read()?.settings;
    let key = key_file::data_key(&settings)?;
    let storage = settings.storage;
    let bounds = file.is_none().then(|| Bounds::of(&storage));
    let from = Source::of(file.unwrap_or(storage.data))?;
    let checked = sqlite::check(&from.path(), key.as_ref()).map_err(|error| from.named(error.into()))?;
    let path = from.name();
    let mut text = String::new();
    for line in checked.faults.iter().chain(&checked.remarks) {
        // A damaged name may contain anything.
        text.push_str(&harmless(line));
        text.push('\n');
    }
    let count = checked.faults.len() as u64 + checked.more;
    if checked.is_well() {
        bounds.into_iter().for_each(|bounds| text.push_str(&bounds.remarks(&checked)));
        text.push_str(&format!(
            "{} is sound: {} in {}\n",
            shown(&path),
            counted(checked.messages, "message"),
            counted(checked.rooms, "room")
        ));
    }
    say(&text);
    if checked.is_well() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Failed(Reason::from(format!(
        "{path} is damaged: {}; 'racerd salvage {path} NEW' copies what is readable, or restore a backup",
        counted(count, "fault")
    ))))
}
