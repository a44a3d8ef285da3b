//! The log while it cannot write, and how it recovers: a full disk, a lock held elsewhere, files that vanish, a thread
//! that panics.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::sqlite::contract::{Bench, options, parked, wake};
use crate::sqlite::schema;
use crate::sqlite::tests::{RESTLESS, open_quick, open_with, outside, sized};
use crate::sqlite::worker::{Answers, Worker};
use crate::store::samples::{ALICE, append, body_of, keyed, read, stored};
use crate::store::{Bounds, Claim, Outcome, Span, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, Seq, SessionId};

#[test]
fn what_cannot_be_parked_now_is_parked_later() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    bench.submit([StoreRequest::Park(parked(1, 1)), StoreRequest::Park(parked(2, 1))]);
    let claim = Claim { ticket: append("a", "1", 1).ticket, session: SessionId([9; 16]) };
    bench.submit([StoreRequest::Claim(claim)]);
    let event = bench.next();
    assert_eq!(event, StoreEvent::ClaimFailed { ticket: claim.ticket, session: claim.session, standing: None });
    bench.next_available().unwrap_err();
    assert_eq!(bench.claim(1), Some(parked(1, 1)), "it waits in memory");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(bench.claim(1), None);
    bench.store.finish().unwrap();
    assert_eq!(open_quick(&options).claim(2), Some(parked(2, 1)));
}

#[test]
fn a_full_disk_refuses_whole_batches_and_recovers() {
    let directory = TempDir::new();
    let options = sized(400 << 10, directory.path());
    let mut bench = open_quick(&options);
    let mut kept = 0;
    loop {
        let keys: Vec<String> = (0..20).map(|n| format!("{}", kept + n)).collect();
        let batch: Vec<_> = keys.iter().map(|key| keyed("a", &body_of(1000), ALICE, key)).collect();
        let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
        if outcomes[0] == Outcome::Full {
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Full), "the whole batch fails");
            break;
        }
        kept += 20;
        for (outcome, seq) in outcomes.iter().zip(kept - 19..) {
            assert_eq!(stored(outcome).seq, Seq(seq));
        }
        assert!(kept < 1000, "the bound holds");
    }
    let reason = bench.next_available().unwrap_err();
    assert!(reason.contains("max_database_size") && reason.contains("keep_messages"), "{reason}");
    assert!(reason.contains("racerd.db") && !reason.contains('\n'), "{reason}");
    assert_eq!(bench.append(append("new-room", &body_of(200_000), 1)), Outcome::Full);
    assert_eq!(bench.everything("a").len() as u64, kept, "history is readable, without what was refused");
    assert_eq!(bench.page(read("new-room", Span::Newest, 1, 1)).head, Seq::ZERO);
    assert_eq!(bench.available, [], "failing on is no news");

    // Somebody frees space; the store notices by itself.
    let conn = outside(&options.path);
    conn.execute("DELETE FROM messages WHERE id <= ?1", [schema::last_id(1, Seq(kept / 2))]).unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    let retried = bench.append(keyed("a", &body_of(1000), ALICE, &format!("{kept}")));
    assert_eq!(stored(&retried).seq, Seq(kept + 1), "a refused key is new, and seqs have no gap");
    let known = bench.append(keyed("a", &body_of(1000), ALICE, &format!("{}", kept - 1)));
    assert!(matches!(known, Outcome::Duplicate { seq, .. } if seq == Seq(kept)), "{known:?}");
    let page = bench.page(read("a", Span::Newest, 1, 1));
    assert_eq!((page.oldest, page.head), (Seq(kept / 2 + 1), Seq(kept + 1)));
    bench.store.finish().unwrap();
}

#[test]
fn a_size_raised_while_running_ends_a_full_disk_at_once_and_a_lowered_one_bounds_growth() {
    let directory = TempDir::new();
    let options = sized(400 << 10, directory.path());
    let mut bench = Bench::open(options.clone());
    let fill = |bench: &mut Bench| {
        let mut stored = 0;
        while matches!(bench.append(append("a", &body_of(50_000), 1)), Outcome::Stored(_)) {
            stored += 1;
            assert!(stored < 100, "the bound holds");
        }
        assert!(bench.next_available().unwrap_err().contains("max_database_size"));
        stored
    };
    assert!(fill(&mut bench) < 8);
    let bounds = Bounds { max_database_size: 1 << 20, ..options.bounds };
    bench.store.set_bounds(bounds);
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(bench.store.bounds(), bounds);
    assert!(fill(&mut bench) > 8);
    // A limit below the present size: the content stays, and nothing is added.
    bench.store.set_bounds(Bounds { max_database_size: 4096, ..bounds });
    assert_eq!(bench.append(append("a", &body_of(50_000), 1)), Outcome::Full);
    assert!(bench.everything("a").len() > 10);
    bench.store.finish().unwrap();
}

#[test]
fn a_database_that_another_program_holds_is_unavailable_for_that_long() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = open_quick(&options);
    bench.append(append("a", "1", 1));
    let conn = outside(&options.path);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(bench.append(append("a", "2", 1)), Outcome::Unavailable);
    let reason = bench.next_available().unwrap_err();
    assert!(reason.contains("another program has"), "{reason}");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.next_available(), Ok(()));
    assert_eq!(stored(&bench.append(append("a", "2", 1))).seq, Seq(2));
}

#[test]
fn a_deleted_or_replaced_database_accepts_no_messages() {
    let other = TempDir::new();
    Bench::open(options(other.path(), Durability::Full)).store.finish().unwrap();
    let replacement = other.path().join("racerd.db");
    type Deed<'a> = &'a dyn Fn(&Path, &Path);
    let remove_all: Deed = &|database, wal| {
        fs::remove_file(database).unwrap();
        fs::remove_file(wal).unwrap();
    };
    let remove: Deed = &|database, _| fs::remove_file(database).unwrap();
    let remove_wal: Deed = &|_, wal| fs::remove_file(wal).unwrap();
    let rename: Deed = &|database, _| fs::rename(database, database.with_extension("old")).unwrap();
    let replace: Deed = &|database, _| {
        fs::remove_file(database).unwrap();
        fs::copy(&replacement, database).unwrap();
    };
    let replace_wal: Deed = &|_, wal| {
        fs::rename(wal, wal.with_extension("old")).unwrap();
        fs::write(wal, "").unwrap();
    };
    for (n, deed) in [remove_all, remove, remove_wal, rename, replace, replace_wal].into_iter().enumerate() {
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        // A pause would have the WAL copied into the database, also one that is deleted already.
        let mut bench = open_with(&options, RESTLESS);
        bench.append(append("a", "1", 1));
        deed(&options.path, &directory.path().join("racerd.db-wal"));
        let foreign = fs::read(&options.path).ok();
        assert_eq!(bench.append(append("a", "2", 1)), Outcome::Unavailable, "deed {n}");
        let reason = bench.next_available().unwrap_err();
        assert!(reason.contains("restart") && reason.contains("racerd.db"), "{reason}");
        assert_eq!(bench.append(append("a", "3", 1)), Outcome::Unavailable, "until a restart");
        assert_eq!(bench.everything("a").len(), 1, "what was acknowledged can be read");
        assert_eq!(bench.available, []);
        assert!(bench.store.finish().unwrap_err().contains("restart"));
        assert!(fs::read(&options.path).ok() == foreign, "deed {n}: what lies there now is left alone");
    }
}

#[test]
fn a_thread_that_panics_says_so_as_its_last_word() {
    let (events, answers) = channel();
    let (wake, wakes) = wake();
    let mut worker = Worker::start("reader", Answers { events, wake: Box::new(wake) }, |requests: Receiver<u32>| {
        let request = requests.recv().unwrap();
        assert_ne!(request, 7, "a panic that this test wants");
    })
    .unwrap();
    worker.send(7);
    wakes.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(answers.recv().unwrap(), StoreEvent::Died(why) if why.contains("reader")));
    worker.send(8);
    assert_eq!(worker.join(), None);
}
