//! Long queues, damaged rows, and the limits of rooms and keys.

use crate::sqlite::StoreOptions;
use crate::sqlite::common::SPARE;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::schema;
use crate::sqlite::tests::outside;
use crate::store::idempotency::COMMON;
use crate::store::samples::{append, keyed, read, stored};
use crate::store::{Bounds, Outcome, Scope, Span, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, Seq};

#[test]
fn a_long_queue_is_split_and_stays_in_order() {
    let directory = TempDir::new();
    let mut bench = Bench::open(options(directory.path(), Durability::Full));
    bench.submit((0..10_000).map(|n| StoreRequest::Append(append("a", "1", n))));
    let (mut seen, mut batches) = (0, 0);
    while seen < 10_000 {
        let StoreEvent::Appended(appended) = bench.next() else { panic!("not asked for") };
        batches += 1;
        assert!(appended.len() <= 4096);
        for answer in appended {
            assert_eq!((answer.ticket.tag, stored(&answer.outcome).seq), (seen, Seq(seen + 1)));
            seen += 1;
        }
    }
    assert_eq!(batches, 3);
}

#[test]
fn a_damaged_row_keeps_its_place_as_unreadable_and_all_others_are_as_they_were() {
    let directory = TempDir::new();
    // On a slow machine, the background check would find the rows, too.
    let options = StoreOptions { scrub_rate: 0, ..options(directory.path(), Durability::Full) };
    let damages = [
        "UPDATE messages SET body = x'22ff22'",
        // Text that is not JSON: no client could read a frame that contains it.
        "UPDATE messages SET body = x'226f6b'",
        "UPDATE messages SET body = 7",
        "UPDATE messages SET name = ''",
        "UPDATE messages SET name = x'ff'",
        "UPDATE messages SET member = 'who'",
        "DELETE FROM messages",
    ];
    let mut bench = Bench::open(options.clone());
    let conn = outside(&options.path);
    for (n, damage) in damages.into_iter().enumerate() {
        let name = format!("room{n}");
        bench.append_all((1..=3).map(|n| append(&name, "\"ok\"", n)).collect());
        let id: i64 = conn.query_row("SELECT id FROM rooms WHERE name = ?1", [&name], |row| row.get(0)).unwrap();
        let damaged = conn.execute(&format!("{damage} WHERE id = ?1"), [schema::message_id(id, Seq(2))]);
        assert_eq!(damaged, Ok(1));
        bench.submit([StoreRequest::Read(read(&name, Span::Newest, 10, 1000))]);
        let StoreEvent::Page(page) = bench.next() else { panic!("{damage}: no page") };
        let found: Vec<_> = page.messages.iter().map(|m| (m.seq.0, m.at.0, m.body.is_unreadable())).collect();
        assert_eq!(found, [(1, 1, false), (2, 1, true), (3, 3, false)], "{damage}");
        let why = bench.next();
        assert!(
            matches!(&why, StoreEvent::Unreadable(why) if why.contains(&format!("message 2 of room {name}")) && why.contains("salvage")),
            "{damage}: {why:?}"
        );
        assert!(std::mem::take(&mut bench.damaged), "{damage}: /readyz is not told");
        assert!(!bench.page(read(&name, Span::Newest, 1, 1000)).messages[0].body.is_unreadable());
        assert_eq!(bench.page(read(&name, Span::After(Seq(1)), 1, 1000)).messages[0].seq, Seq(2));
        assert_eq!(stored(&bench.append(append(&name, "4", 4))).seq, Seq(4));
    }
}

#[test]
fn the_common_scope_keeps_its_last_hundred_thousand_keys() {
    let directory = TempDir::new();
    let options = options(directory.path(), Durability::Normal);
    let mut bench = Bench::open(options.clone());
    bench.append(keyed("a", "1", Scope::Common, "first"));
    bench.append(keyed("a", "1", Scope::Common, "second"));
    bench.store.finish().unwrap();
    let conn = outside(&options.path);
    // One key is missing until the oldest are evicted, and the second message is the first that is not among those.
    let (count, second) = (COMMON as u64 + SPARE - 1, SPARE + 1);
    conn.execute_batch(&format!(
        "BEGIN;
         UPDATE common_keys SET seq = {second} WHERE seq = 2;
         WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO common_keys SELECT 1, randomblob(16), randomblob(16), i, 1 FROM n WHERE i <> {second};
         UPDATE rooms SET head = {count}, common = {count};
         COMMIT;"
    ))
    .unwrap();
    let mut bench = Bench::open(options.clone());
    assert!(matches!(bench.append(keyed("a", "1", Scope::Common, "first")), Outcome::Duplicate { .. }));
    let one_more = bench.append(keyed("a", "1", Scope::Common, "one more"));
    assert_eq!(stored(&one_more).seq, Seq(count + 1));
    assert!(matches!(bench.append(keyed("a", "1", Scope::Common, "second")), Outcome::Duplicate { .. }));
    // The end of a run folds.
    bench.store.finish().unwrap();
    let kept: i64 = conn.query_row("SELECT count(*) FROM common_keys", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, COMMON as i64);
    let mut bench = Bench::open(options);
    assert!(matches!(bench.append(keyed("a", "1", Scope::Common, "second")), Outcome::Duplicate { .. }));
    assert_eq!(stored(&bench.append(keyed("a", "1", Scope::Common, "first"))).seq, Seq(count + 2));
}

/// The operator is told when it begins and when it is over, also by a server that starts with too many rooms.
#[test]
fn a_room_too_many_is_refused_until_the_bound_is_raised() {
    for durability in [Durability::Normal, Durability::Memory] {
        let directory = TempDir::new();
        let mut options = options(directory.path(), durability);
        options.bounds.rooms_max = 2;
        let mut bench = Bench::open(options.clone());
        let batch = ["a", "b", "c", "a"].map(|name| append(name, "1", 1)).to_vec();
        let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
        let full = Outcome::RoomsFull { limit: 2 };
        assert_eq!((stored(&outcomes[0]).seq, stored(&outcomes[1]).seq, &outcomes[2]), (Seq(1), Seq(1), &full));
        assert_eq!((stored(&outcomes[3]).seq, bench.append(append("c", "1", 1))), (Seq(2), full.clone()));
        assert_eq!((&bench.full_of_rooms[..], &bench.available[..]), (&[true][..], &[][..]), "told once");
        if durability != Durability::Memory {
            bench.store.finish().unwrap();
            bench = Bench::open(options.clone());
            assert_eq!((bench.append(append("c", "1", 1)), &bench.full_of_rooms[..]), (full, &[true][..]));
        }
        bench.store.set_bounds(Bounds { rooms_max: 3, ..options.bounds });
        assert_eq!(stored(&bench.append(append("c", "1", 1))).seq, Seq(1));
        assert_eq!(bench.append(append("d", "1", 1)), Outcome::RoomsFull { limit: 3 });
        assert_eq!(bench.full_of_rooms, [true, false, true]);
        // A lower bound takes nothing away.
        bench.store.set_bounds(Bounds { rooms_max: 1, ..options.bounds });
        assert_eq!(stored(&bench.append(append("c", "1", 1))).seq, Seq(2));
    }
}

#[test]
fn a_room_without_numbers_left_is_refused_alone() {
    let directory = TempDir::new();
    let mut options = options(directory.path(), Durability::Normal);
    // Large enough for as many rooms as there may be.
    options.bounds.max_database_size = 16 << 30;
    Bench::open(options.clone()).store.finish().unwrap();
    let conn = outside(&options.path);
    conn.execute(
        "INSERT INTO rooms (id, name, head, at, common) VALUES (1, 'old', ?1, 5, 0), (0xffffff, 'last', 0, 0, 0)",
        [(1_i64 << 39) - 2],
    )
    .unwrap();
    let mut bench = Bench::open(options);
    let batch = ["old", "old", "last", "new", "last"].map(|name| append(name, "1", 1)).to_vec();
    let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
    assert_eq!(stored(&outcomes[0]).seq, Seq((1 << 39) - 1));
    assert_eq!(outcomes[1], Outcome::Unavailable);
    assert_eq!(stored(&outcomes[2]).seq, Seq(1));
    assert_eq!(outcomes[3], Outcome::RoomsFull { limit: 0xff_ffff });
    assert_eq!(stored(&outcomes[4]).seq, Seq(2));
    assert_eq!(bench.page(read("old", Span::After(Seq::ZERO), 5, 100)).messages[0].seq, Seq((1 << 39) - 1));
    assert_eq!(bench.page(read("old", Span::Newest, 5, 100)).messages.len(), 1, "and none of a neighbour");
    assert_eq!(bench.available, [], "the disk is well");
}
