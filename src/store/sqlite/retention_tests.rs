//! Retention by the writer thread: what goes, that space comes back, and that commits go on meanwhile.

use std::fs;
use std::path::Path;

use super::tests::{open_quick, outside, wait_until};
use super::*;
use crate::store::contract::{Bench, TempDir, append, body_of, keyed, options, read, stored};
use crate::store::{Outcome, Span};
use crate::types::{Durability, Seq, WallMillis};

fn keeping(directory: &Path, change: impl FnOnce(&mut Bounds)) -> StoreOptions {
    let mut options = options(directory, Durability::Normal);
    change(&mut options.bounds);
    options
}

fn edge(bench: &mut Bench, room: &str) -> (Seq, Seq) {
    let page = bench.page(read(room, Span::Newest, 0, 0));
    (page.oldest, page.head)
}

fn say(bench: &mut Bench, room: &str, count: u64, bytes: usize, at: u64) {
    for outcome in bench.append_all((0..count).map(|_| append(room, &body_of(bytes), at)).collect()) {
        stored(&outcome.outcome);
    }
}

#[test]
fn each_room_keeps_its_newest_messages_and_space_comes_back() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_messages = 0);
    let mut bench = open_quick(&options);
    for _ in 0..10 {
        say(&mut bench, "a", 1000, 1000, 5);
        say(&mut bench, "b", 7, 1000, 5);
    }
    bench.store.finish().unwrap();
    let large = fs::metadata(&options.path).unwrap().len();
    assert!(large > 10 << 20);

    let mut bench = open_quick(&keeping(directory.path(), |bounds| bounds.keep_messages = 100));
    wait_until("room a has its newest", || edge(&mut bench, "a") == (Seq(9901), Seq(10_000)));
    assert_eq!(edge(&mut bench, "b"), (Seq(1), Seq(70)));
    wait_until("the file is small", || fs::metadata(&options.path).unwrap().len() < large / 5);
    // Across the edge: what is asked for from before it begins at it.
    let page = bench.page(read("a", Span::After(Seq(50)), 3, 10_000));
    assert_eq!((page.messages[0].seq, page.oldest), (Seq(9901), Seq(9901)));
    let page = bench.page(read("a", Span::Before(Seq(9000)), 3, 10_000));
    assert_eq!((page.messages.len(), page.oldest, page.more), (0, Seq(9901), false));
    say(&mut bench, "a", 1, 10, 6);
    wait_until("the oldest goes", || edge(&mut bench, "a") == (Seq(9902), Seq(10_001)));
    assert_eq!(bench.available, []);
    bench.store.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

#[test]
fn old_messages_go_and_their_room_keeps_its_head_and_keys() {
    let directory = TempDir::new();
    let hour = 3_600_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut bench = open_quick(&keeping(directory.path(), |bounds| bounds.keep_for = hour));
    let scope = crate::store::contract::ALICE;
    let old = WallMillis(now - 2 * hour);
    let key = crate::store::Append { at: old, ..keyed("a", "1", scope, "k") };
    assert_eq!(stored(&bench.append(key.clone())).seq, Seq(1));
    say(&mut bench, "b", 1, 10, now);
    wait_until("it is gone", || edge(&mut bench, "a") == (Seq(2), Seq(1)));
    assert_eq!(bench.append(key), Outcome::Duplicate { seq: Seq(1), at: old }, "a key outlives its message");
    assert_eq!(stored(&bench.append(append("a", "2", now))).seq, Seq(2));
    assert_eq!(edge(&mut bench, "b"), (Seq(1), Seq(1)));
    bench.store.finish().unwrap();
}

#[test]
fn while_the_clock_is_behind_the_newest_message_nothing_goes_by_age() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| (bounds.keep_for, bounds.keep_messages) = (1000, 5));
    let far_ahead = 1 << 45;
    let mut bench = open_quick(&options);
    say(&mut bench, "new", 9, 10, far_ahead);
    say(&mut bench, "old", 3, 10, 7);
    // By count it never rests; when that is done, the walk has been through the other room as well.
    wait_until("what is too many goes", || edge(&mut bench, "new") == (Seq(5), Seq(9)));
    assert_eq!(edge(&mut bench, "old"), (Seq(1), Seq(3)));
    bench.store.finish().unwrap();
}

#[test]
fn near_its_bound_a_database_gives_its_oldest_messages_if_it_may() {
    let directory = TempDir::new();
    let size = 2 << 20;
    let options =
        keeping(directory.path(), |bounds| (bounds.max_database_size, bounds.keep_messages) = (size, 1 << 30));
    let mut bench = open_quick(&options);
    say(&mut bench, "quiet", 16, 100, 5);
    for n in 0..40 {
        // Ten times what fits, in batches of a quarter of it.
        say(&mut bench, "loud", 50, 10_000, n);
        assert!(fs::metadata(&options.path).unwrap().len() <= size);
    }
    let (oldest, head) = edge(&mut bench, "loud");
    assert_eq!(head, Seq(2000));
    assert!(head.0 - oldest.0 > 50, "it kept a good part: {oldest:?}");
    let (_, head) = edge(&mut bench, "quiet");
    assert_eq!(head, Seq(16));
    assert_eq!(bench.available, [], "nobody was refused");
    bench.store.finish().unwrap();
    assert!(check(&options.path, None).unwrap().is_well());
}

/// What cannot fit at all is refused; the log is not emptied for it.
#[test]
fn one_message_too_large_for_the_database_costs_no_more_than_a_part_of_it() {
    let directory = TempDir::new();
    let size = 1 << 20;
    let options =
        keeping(directory.path(), |bounds| (bounds.max_database_size, bounds.keep_messages) = (size, 1 << 30));
    let mut bench = open_quick(&options);
    say(&mut bench, "a", 60, 10_000, 1);
    assert_eq!(bench.append(append("a", &body_of(3 << 20), 1)), Outcome::Full);
    assert!(bench.next_available().unwrap_err().contains("max_database_size"));
    let (oldest, head) = edge(&mut bench, "a");
    assert!(head == Seq(60) && oldest < Seq(40), "{oldest:?} {head:?}");
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(stored(&bench.append(append("a", "1", 1))).seq, Seq(61));
    bench.store.finish().unwrap();
}

/// Another program that reads for long keeps the WAL from being emptied; that is tried again until it can be.
#[test]
fn a_wal_that_cannot_be_emptied_now_is_emptied_later() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |_| ());
    let mut bench = open_quick(&options);
    say(&mut bench, "a", 1, 10, 1);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN").unwrap();
    let _: i64 = conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    say(&mut bench, "a", 1, 10, 1);
    conn.execute_batch("COMMIT").unwrap();
    wait_until("and empties it in the end", || bench.store.wal_bytes() == 0);
    bench.store.finish().unwrap();
}

#[test]
fn bounds_that_change_while_running_hold_at_once() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.max_database_size = 400 << 10);
    let mut bench = open_quick(&options);
    while let Outcome::Stored(_) = bench.append(append("a", &body_of(10_000), 1)) {}
    assert!(bench.next_available().unwrap_err().contains("max_database_size"));
    let (_, head) = edge(&mut bench, "a");
    bench.store.keep_within(Bounds { max_database_size: 4 << 20, ..options.bounds });
    assert_eq!(bench.next_available(), Ok(()));
    say(&mut bench, "a", 10, 10_000, 1);
    bench.store.keep_within(Bounds { max_database_size: 4 << 20, keep_messages: 3, ..options.bounds });
    wait_until("three are left", || edge(&mut bench, "a") == (Seq(head.0 + 8), Seq(head.0 + 10)));
    bench.store.finish().unwrap();
}

#[test]
fn a_database_that_cannot_shrink_says_so() {
    let directory = TempDir::new();
    let options = keeping(directory.path(), |bounds| bounds.keep_messages = 5);
    open_quick(&options).store.finish().unwrap();
    outside(&options.path).execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
    let bench = open_quick(&options);
    assert!(bench.store.remarks()[0].contains("never shrinks"), "{:?}", bench.store.remarks());
    bench.store.finish().unwrap();
    let copy = directory.path().join("copy.db");
    backup(&options.path, &copy, false, Box::new(|_, _| ())).unwrap();
    restore(&copy, &options.path, Box::new(|_, _| ())).unwrap();
    let bench = open_quick(&options);
    assert_eq!(bench.store.remarks(), [] as [String; 0], "a restored backup can");
    bench.store.finish().unwrap();
}
