//! The causes of refusals, sorted by what resolves them: a person, or time. The table of exit statuses is derived from
//! them, and so is the decision whether a failed start is retried.

use std::io::{self, ErrorKind};

/// The cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Settings that contradict each other, or cannot be read.
    Settings,
    /// A missing data key, or a key file that holds no key or the wrong one, or that others may read.
    Key,
    /// A damaged database.
    Damaged,
    /// A database that this racerd cannot serve: a newer one's, or another program's.
    Foreign,
    /// A change of the data key that was cut short.
    Unfinished,
    /// An address that cannot be listened on.
    Address,
    /// A folder or file that does not exist, or cannot be read or written.
    Folder,
    /// Another racerd holds the database.
    Held,
    /// The disk is full, or fails.
    Disk,
    /// The system is short of something: threads, descriptors, random numbers.
    System,
}

impl Cause {
    /// Returns the cause for the refusal of a file that settings or arguments name. A folder in place of a file stays a
    /// folder; everything else may resolve itself: a file that does not exist yet, a disk that is full or fails.
    pub fn of_file(error: &io::Error) -> Cause {
        match error.kind() {
            ErrorKind::IsADirectory => Cause::Settings,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::Disk,
            _ => Cause::Folder,
        }
    }

    /// All causes; those that need a person come first.
    pub const ALL: [Cause; 10] = [
        Cause::Settings,
        Cause::Key,
        Cause::Damaged,
        Cause::Foreign,
        Cause::Unfinished,
        Cause::Address,
        Cause::Folder,
        Cause::Held,
        Cause::Disk,
        Cause::System,
    ];

    /// Returns whether every further start fails until a person has changed something. Every other cause may resolve
    /// itself: a network that comes up late, a folder that is mounted later, an old server that is about to exit.
    pub fn needs_a_person(self) -> bool {
        match self {
            Cause::Settings | Cause::Key | Cause::Damaged | Cause::Foreign | Cause::Unfinished => true,
            Cause::Address | Cause::Folder | Cause::Held | Cause::Disk | Cause::System => false,
        }
    }

    /// Returns the cause's description in the documentation.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Settings => "settings that contradict each other or cannot be read",
            Cause::Key => "a wrong key, a missing data key",
            Cause::Damaged => "a damaged database",
            Cause::Foreign => "a database of a newer racerd or of another program",
            Cause::Unfinished => "a `rekey` that was cut short",
            Cause::Address => "an address that is not there yet, a port that is taken or needs rights",
            Cause::Folder => "a folder or file that is missing, not mounted or not accessible",
            Cause::Held => "a database that another racerd holds",
            Cause::Disk => "a disk that is full or fails",
            Cause::System => "too few threads, descriptors or random numbers",
        }
    }
}
