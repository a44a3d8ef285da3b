//! The limit of open files, and how many connections it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors set aside for other uses than connections: the database, the log, the loop's own, excess connections
/// that are only told that the server is full, and some spare ones.
pub const RESERVED: u64 = 64;

/// A connection limit below this causes a warning, unless the settings ask for it: such a low limit of open files is an
/// oversight.
pub const FEW: usize = 256;

/// Returns the limit of open files that a server will have; `None` if there is none.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises the soft limit of open files to the hard one. Returns the limit in effect; `None` if there is none.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// Returns the number of connections for this limit of open files: the setting, or for 0 as many as fit.
pub fn connections_for(open_files: Option<u64>, setting: u32) -> usize {
    let allowed = open_files.map_or(usize::MAX, |files| files.saturating_sub(RESERVED).max(1) as usize);
    match setting {
        0 => allowed.min(1_000_000),
        wanted => allowed.min(wanted as usize),
    }
}
