//! The limit of open files, and how many connections it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: the database, the log, the loop's own, connections that are only told that
/// the server is full, and some to spare.
pub const RESERVED: u64 = 64;

/// Fewer connections than this, without being asked for, are warned of: a limit of open files that low is an oversight.
pub const FEW: usize = 256;

/// The limit of open files that a server will have; `None` where there is none.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises the soft limit of open files to the hard one. The limit that holds now; `None` where there is none.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// How many connections so many open files allow, if the setting does not say (0).
pub fn connections_for(open_files: Option<u64>, setting: u32) -> usize {
    let allowed = open_files.map_or(usize::MAX, |files| files.saturating_sub(RESERVED).max(1) as usize);
    match setting {
        0 => allowed.min(1_000_000),
        wanted => allowed.min(wanted as usize),
    }
}
