//! Appends: seqs, idempotency keys, timestamps, and that content is returned unchanged.

use std::collections::HashMap;

use super::{ROOMS, over_all};
use crate::store::samples::{ALICE, BOB, append, keyed, room, stored};
use crate::store::{Append, Making, Outcome, Scope};
use crate::types::{Author, MemberId, Message, Name, Seq, WallMillis};

#[test]
fn seqs_are_contiguous_in_each_room_and_answers_keep_the_order() {
    over_all(|bench| {
        let appends: Vec<Append> = (0..300).map(|n| append(ROOMS[n % 3], &n.to_string(), n as u64)).collect();
        let appended = bench.append_all(appends.clone());
        let mut heads = HashMap::new();
        for (asked, answer) in appends.iter().zip(&appended) {
            let head = heads.entry(asked.room.clone()).or_insert(Seq::ZERO);
            *head = head.next();
            assert_eq!((answer.ticket, &answer.room, answer.bytes), (asked.ticket, &asked.room, asked.body.len()));
            let message = stored(&answer.outcome);
            assert_eq!((message.seq, &message.body, &message.author), (*head, &asked.body, &asked.author));
        }
        let log = bench.everything("b");
        let answers = appended.iter().map(|answer| stored(&answer.outcome));
        let answers: Vec<&Message> = answers.filter(|message| message.room == room("b")).collect();
        assert_eq!(log.iter().collect::<Vec<_>>(), answers, "the log says what the answers said");
    });
}

#[test]
fn a_key_sent_again_is_stored_once() {
    over_all(|bench| {
        let first = bench.append(keyed("a", "1", ALICE, "k1"));
        assert_eq!(stored(&first).seq, Seq(1));
        bench.append(append("a", "2", 5));
        let again = Outcome::Duplicate { seq: Seq(1), at: WallMillis(1) };
        assert_eq!(bench.append(keyed("a", "1", ALICE, "k1")), again);
        assert_eq!(bench.append(keyed("a", "other", ALICE, "k1")), Outcome::KeyReused);
        assert_eq!(bench.append(keyed("a", "1", ALICE, "k1")), again, "the refused one has changed nothing");
        assert_eq!(bench.everything("a").len(), 2);
    });
}

/// The store alone knows whether a room exists of which the server has no member.
#[test]
fn who_may_make_no_room_may_write_in_those_that_exist() {
    over_all(|bench| {
        let ticket = append("a", "1", 1).ticket.making(Making::Refused { wait: 1 });
        let timid = |room, key| Append { ticket, ..keyed(room, "1", Scope::Common, key) };
        let batch = vec![timid("a", "k1"), keyed("a", "1", Scope::Common, "k2"), timid("a", "k2"), timid("a", "k3")];
        let outcomes: Vec<Outcome> = bench.append_all(batch).into_iter().map(|answer| answer.outcome).collect();
        assert_eq!((&outcomes[0], stored(&outcomes[1]).seq), (&Outcome::NotMade, Seq(1)));
        assert_eq!(outcomes[2], Outcome::Duplicate { seq: Seq(1), at: WallMillis(1) });
        assert_eq!(stored(&outcomes[3]).seq, Seq(2));
        assert_eq!(bench.append(timid("b", "k4")), Outcome::NotMade);
        assert!(bench.everything("b").is_empty());
        assert_eq!(stored(&bench.append(append("b", "1", 1))).seq, Seq(1));
    });
}

#[test]
fn equal_keys_in_one_batch_meet() {
    over_all(|bench| {
        let appended = bench.append_all(vec![
            keyed("a", "1", ALICE, "k"),
            keyed("a", "1", ALICE, "k"),
            keyed("a", "2", ALICE, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("a", "2", Scope::Common, "k"),
            append("a", "1", 1),
        ]);
        let outcomes: Vec<Outcome> = appended.into_iter().map(|answer| answer.outcome).collect();
        let at = WallMillis(1);
        assert_eq!(stored(&outcomes[0]).seq, Seq(1));
        assert_eq!(outcomes[1..3], [Outcome::Duplicate { seq: Seq(1), at }, Outcome::KeyReused]);
        assert_eq!(stored(&outcomes[3]).seq, Seq(2));
        assert_eq!(outcomes[4..6], [Outcome::Duplicate { seq: Seq(2), at }, Outcome::KeyReused]);
        assert_eq!(stored(&outcomes[6]).seq, Seq(3));
    });
}

#[test]
fn a_key_counts_per_room_and_sender_and_as_a_whole() {
    over_all(|bench| {
        let appended = bench.append_all(vec![
            keyed("a", "1", ALICE, "k"),
            keyed("a", "1", BOB, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("b", "1", ALICE, "k"),
            keyed("a", "1", ALICE, "k\0"),
            keyed("a", "1", ALICE, "k\0x"),
        ]);
        let seqs: Vec<u64> = appended.iter().map(|answer| stored(&answer.outcome).seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 1, 4, 5]);
    });
}

#[test]
fn a_sender_has_its_last_64_keys() {
    over_all(|bench| {
        for n in 0..70 {
            bench.append(keyed("a", "1", ALICE, &format!("k{n}")));
        }
        let outcome = bench.append(keyed("a", "1", ALICE, "k6"));
        assert!(matches!(outcome, Outcome::Duplicate { seq: Seq(7), .. }), "{outcome:?}");
        assert_eq!(stored(&bench.append(keyed("a", "1", ALICE, "k5"))).seq, Seq(71));
    });
}

#[test]
fn at_holds_against_small_steps_back_and_follows_large_ones() {
    const MINUTE: u64 = WallMillis::HOLDS;
    over_all(|bench| {
        let mut at = |room: &str, at| stored(&bench.append(append(room, "1", at))).at.0;
        assert_eq!([100, 50, 0, 120].map(|wall| at("a", wall)), [100, 100, 100, 120]);
        assert_eq!(at("b", 5), 5, "each room for itself");
        let last = 120 + 10 * MINUTE;
        assert_eq!(at("a", last), last);
        assert_eq!(at("a", last - MINUTE), last, "a minute back");
        assert_eq!(at("a", last - MINUTE - 1), last - MINUTE - 1, "and a moment more");
        assert_eq!([last, 0, MINUTE, 30].map(|wall| at("a", wall)), [last, 0, MINUTE, MINUTE]);
        let batch =
            bench.append_all([4 * MINUTE, MINUTE, 2 * MINUTE, MINUTE + 1].map(|at| append("a", "1", at)).to_vec());
        let batch = batch.iter().map(|answer| stored(&answer.outcome).at.0).collect::<Vec<_>>();
        assert_eq!(batch, [4 * MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE]);
    });
}

#[test]
fn bodies_names_and_numbers_come_back_as_they_were() {
    let bodies = [
        "null",
        "\"a\\u0000b\"",
        "\"a\u{7f}b\"",
        "[9007199254740993,18446744073709551616,123456789012345678901234567890,9007199254740991.0,1e2,-0.0,1E400,0.1]",
        " { \"a\" : 1, \"a\" : 2 } ",
        "\"👩\u{200d}👩\u{200d}👧 Zoë \"",
    ];
    over_all(|bench| {
        for (to, name, member) in
            [("a", "Zoë 👩\u{200d}👩", None), ("b", "a'; --", Some(u64::MAX)), ("c", "x", Some(0))]
        {
            let author = Author { member: member.map(MemberId::from_random), name: Name::parse(name).unwrap() };
            for body in bodies {
                bench.append(Append { author: author.clone(), ..append(to, body, 1) });
            }
            let log = bench.everything(to);
            assert_eq!(log.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), bodies);
            assert!(log.iter().all(|message| message.author == author));
        }
    });
}
