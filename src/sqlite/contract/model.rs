//! Random histories against the naive log, and walks over all pages of a room.

use std::path::Path;

use proptest::prelude::*;

use super::{Bench, ROOMS, options};
use crate::crypto::at_rest::DataKey;
use crate::sqlite::StoreOptions;
use crate::store::samples::{ALICE, BOB, append, body_of, read};
use crate::store::{Append, Outcome, Scope, ScopedKey, Span};
use crate::testing::{NaiveLog, TempDir};
use crate::types::{Durability, IdempotencyKey, PageSize, Seq};

const SCOPES: [Scope; 3] = [ALICE, BOB, Scope::Common];

/// Room, length of the body, wall clock, and an optional scope and key, each one of a few.
type Saying = (usize, usize, u64, Option<(usize, u8)>);

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Saying>),
    Read(usize, Span, u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3usize, 2..60usize, 0..200_000u64, proptest::option::of((0..3usize, 0..6u8)));
    let span = prop_oneof![
        (0..80u64).prop_map(|seq| Span::After(Seq(seq))),
        (0..80u64).prop_map(|seq| Span::Before(Seq(seq))),
        Just(Span::Newest),
    ];
    let read = (0..3usize, span, 0..30u32, 0..400u32);
    let step = prop_oneof![
        proptest::collection::vec(append, 1..20).prop_map(Step::Append),
        read.prop_map(|(room, span, limit, bytes)| Step::Read(room, span, limit, bytes)),
    ];
    proptest::collection::vec(step, 1..40)
}

fn page_sizes() -> impl Strategy<Value = PageSize> {
    proptest::sample::select(&PageSize::ALL)
}

fn compare(bench: &mut Bench, steps: Vec<Step>) {
    let mut model = NaiveLog::default();
    for step in steps {
        match step {
            Step::Append(list) => {
                let one = |(to, length, at, key): Saying| {
                    let key =
                        key.map(|(scope, key)| ScopedKey { scope: SCOPES[scope], key: IdempotencyKey::of(&[key]) });
                    Append { key, ..append(ROOMS[to], &body_of(length), at) }
                };
                let appends: Vec<Append> = list.into_iter().map(one).collect();
                let expected: Vec<Outcome> = appends.iter().map(|append| model.append(append)).collect();
                let outcomes = bench.append_all(appends).into_iter().map(|answer| answer.outcome);
                assert_eq!(outcomes.collect::<Vec<_>>(), expected);
            }
            Step::Read(of, span, limit, bytes) => {
                let read = read(ROOMS[of], span, limit, bytes);
                assert_eq!(bench.page(read.clone()), model.read(&read));
            }
        }
    }
}

/// Reads a room to its end in pages, from both sides: no gap, no repeat.
fn walk(bench: &mut Bench, count: u64, limit: u32, bytes: u32) {
    bench.append_all((0..count).map(|n| append("walk", &body_of(2 + n as usize % 30), n)).collect());
    let (mut forth, mut back) = (Vec::new(), Vec::new());
    let mut span = Span::After(Seq::ZERO);
    loop {
        let page = bench.page(read("walk", span, limit, bytes));
        forth.extend(page.messages.iter().map(|message| message.seq.0));
        if !page.more {
            break;
        }
        span = Span::After(Seq(*forth.last().expect("a page with more has a message")));
    }
    let mut span = Span::Newest;
    loop {
        let page = bench.page(read("walk", span, limit, bytes));
        back.extend(page.messages.iter().rev().map(|message| message.seq.0));
        if !page.more {
            break;
        }
        span = Span::Before(Seq(*back.last().expect("a page with more has a message")));
    }
    back.reverse();
    let all: Vec<u64> = (1..=count).collect();
    assert_eq!((&forth, &back), (&all, &all));
}

fn memory() -> Bench {
    Bench::open(options(Path::new("/nonexistent"), Durability::Memory))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_like_the_model(steps in steps()) {
        compare(&mut memory(), steps);
    }

    #[test]
    fn memory_pages_have_no_gap(count in 0..60u64, limit in 1..20u32, bytes in 0..200u32) {
        walk(&mut memory(), count, limit, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_is_like_the_model(steps in steps(), page_size in page_sizes()) {
        let directory = TempDir::new();
        let options = StoreOptions { page_size, ..options(directory.path(), Durability::Normal) };
        compare(&mut Bench::open(options), steps);
    }

    #[test]
    fn sealed_sqlite_is_like_the_model(steps in steps()) {
        let directory = TempDir::new();
        let data_key = Some(DataKey::new([1; 32]));
        let options = StoreOptions { data_key, ..options(directory.path(), Durability::Normal) };
        compare(&mut Bench::open(options), steps);
    }

    #[test]
    fn sqlite_pages_have_no_gap(count in 0..60u64, limit in 1..20u32, bytes in 0..200u32) {
        let directory = TempDir::new();
        walk(&mut Bench::open(options(directory.path(), Durability::Normal)), count, limit, bytes);
    }
}
