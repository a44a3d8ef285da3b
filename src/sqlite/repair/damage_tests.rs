//! Damage of every kind; this file has the helpers that the tests share.

mod check;
mod running;
mod salvage;
mod starts;
mod wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sqlite::contract::{Bench, options, parked};
use crate::sqlite::tests::outside;
use crate::store::samples::{ALICE, BOB, keyed};
use crate::store::{Outcome, Scope, StoreRequest};
use crate::testing::{Random, TempDir};
use crate::types::{Durability, Message};

pub(in crate::sqlite) const ROOMS: [&str; 3] = ["lobby", "side.room", "x"];

/// Creates a database as a clean shutdown leaves it. Returns its path, and all messages in it.
pub(in crate::sqlite) fn database(directory: &TempDir) -> (PathBuf, BTreeMap<&'static str, Vec<Message>>) {
    let options = options(directory.path(), Durability::Normal);
    let mut bench = Bench::open(options.clone());
    let mut random = Random::new(1);
    for n in 0..300_u64 {
        let room = ROOMS[random.below(3)];
        let scope = [ALICE, BOB, Scope::Common][random.below(3)];
        let bytes = if n % 10 == 0 { random.below(20_000) } else { random.below(600) };
        let body = format!("\"{n} {}\"", "y".repeat(bytes));
        assert!(matches!(bench.append(keyed(room, &body, scope, &format!("k{n}"))), Outcome::Stored(_)));
    }
    bench.submit((1..5).map(|n| StoreRequest::Park(parked(n, 1))));
    let said = ROOMS.map(|room| (room, bench.everything(room))).into();
    bench.store.finish().unwrap();
    (options.path, said)
}

/// Records that the last run was not shut down cleanly, so that the next start checks the whole database.
fn unclean(path: &Path) {
    outside(path).execute_batch("UPDATE meta SET clean = 0; PRAGMA journal_mode = DELETE").unwrap();
}
