//! Tests of the log on disk alone, grouped by what goes wrong; this file has the helpers that they share.

mod ends;
mod folds;
mod older;
mod opening;
mod outages;
mod page_sizes;
mod removal;
mod restarts;
mod rows;
mod seals;
mod shares;
mod small;
mod tokens;
mod wal;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::writer::Timing;
use super::{Sqlite, StoreOptions};
use crate::sqlite::contract::{Bench, options, wake};
use crate::store::Bounds;
use crate::types::Durability;

pub(super) const QUICK: Timing = Timing {
    idle: Duration::from_millis(50),
    pause: Duration::from_millis(1),
    look: Duration::ZERO,
    probe_first: Duration::from_millis(20),
    probe_last: Duration::from_millis(50),
    scrub: Duration::from_millis(10),
    retry: Duration::from_millis(10),
};

/// Like `QUICK`, but the writer never rests long enough to empty the WAL, however slow the machine is.
pub(super) const RESTLESS: Timing = Timing { idle: Duration::from_secs(3_600), ..QUICK };

pub(super) fn open_quick(options: &StoreOptions) -> Bench {
    open_with(options, QUICK)
}

pub(super) fn open_with(options: &StoreOptions, timing: Timing) -> Bench {
    let (wake, wakes) = wake();
    let sqlite = Sqlite::open_timed(options, wake, timing).unwrap();
    Bench::of(Box::new(sqlite), wakes)
}

pub(super) fn sized(max_database_size: u64, directory: &Path) -> StoreOptions {
    let options = options(directory, Durability::Full);
    StoreOptions { bounds: Bounds { max_database_size, ..options.bounds }, ..options }
}

pub(super) fn refusal(options: StoreOptions) -> String {
    match Sqlite::open(&options, || ()) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// Opens the database from outside, as the `sqlite3` shell does.
pub(super) fn outside(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(10)).unwrap();
    conn
}

/// Waits until something holds, and fails where it never would. The limit is no measure of speed: an emulated processor
/// on a busy machine takes tens of seconds for what takes one otherwise.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
