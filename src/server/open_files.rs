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
    let free = open_files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED).max(1));
    let allowed = usize::try_from(free).unwrap_or(usize::MAX);
    match setting {
        0 => allowed.min(1_000_000),
        wanted => allowed.min(wanted as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_any_limit_of_open_files() {
        let of = |files| (connections_for(files, 0), connections_for(files, 500));
        assert_eq!((of(None), of(Some(RESERVED)), of(Some(RESERVED + 100))), ((1_000_000, 500), (1, 1), (100, 100)));
        // Past 32 bits.
        for files in [1 << 32, (1 << 32) + RESERVED, u64::MAX] {
            assert_eq!(of(Some(files)), (1_000_000, 500), "{files}");
        }
    }
}
