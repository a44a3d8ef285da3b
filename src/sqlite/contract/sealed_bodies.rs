//! A sealed body is accepted once in a room: the tests for each log.

use super::*;

/// Asks whether the room has a message with this ciphertext, as a signal does.
pub(in crate::sqlite) fn sought(bench: &mut Bench, to: &str, ciphertext: &str) -> Found {
    let Append { room, body, sealed: Some(sealed), .. } = encrypted(to, ALICE, "k", ciphertext) else {
        panic!("an encrypted body")
    };
    bench.submit([StoreRequest::Seek(Seek { ticket: ticket(Purpose::Signal, 5), room, sealed, body: body.clone() })]);
    match bench.next() {
        StoreEvent::Sought(sought) => {
            assert_eq!((sought.body, sought.ticket), (body, ticket(Purpose::Signal, 5)), "handed back untouched");
            sought.outcome
        }
        other => panic!("not an answer: {other:?}"),
    }
}

#[test]
fn an_encrypted_body_is_accepted_once_regardless_of_its_sender() {
    over_all(|bench| {
        assert_eq!(sought(bench, "a", "x"), Found::Nowhere, "nor is there a room");
        assert_eq!(stored(&bench.append(encrypted("a", ALICE, "k1", "x"))).seq, Seq(1));
        let again = bench.append(encrypted("a", ALICE, "k1", "x"));
        assert!(matches!(again, Outcome::Duplicate { seq: Seq(1), .. }), "its sender repeats it: {again:?}");
        for other in [
            encrypted("a", ALICE, "k2", "x"),
            encrypted("a", BOB, "k1", "x"),
            encrypted("a", Scope::Common, "k1", "x"),
            Append { key: None, ..encrypted("a", BOB, "k1", "x") },
        ] {
            assert_eq!(bench.append(other), Outcome::BodyReused);
        }
        assert_eq!((sought(bench, "a", "x"), sought(bench, "a", "y")), (Found::Kept, Found::Nowhere));
        assert_eq!(sought(bench, "b", "x"), Found::Nowhere);
        // With another room's key, the same words would have another ciphertext; this one was copied there, where
        // nobody can open it.
        assert_eq!(stored(&bench.append(encrypted("b", BOB, "k1", "x"))).seq, Seq(1));
        assert_eq!(bench.everything("a").len(), 1, "what was refused took no seq");
    });
}

#[test]
fn equal_sealed_bodies_in_one_batch_meet() {
    over_all(|bench| {
        let list = vec![
            encrypted("a", ALICE, "k", "x"),
            encrypted("a", BOB, "k", "x"),
            encrypted("a", ALICE, "k", "x"),
            encrypted("a", BOB, "k2", "y"),
        ];
        let outcomes: Vec<Outcome> = bench.append_all(list).into_iter().map(|answer| answer.outcome).collect();
        assert_eq!((stored(&outcomes[0]).seq, &outcomes[1]), (Seq(1), &Outcome::BodyReused));
        assert!(matches!(outcomes[2], Outcome::Duplicate { seq: Seq(1), .. }));
        assert_eq!(stored(&outcomes[3]).seq, Seq(2));
    });
}

#[test]
fn fifty_squatted_keys_silence_nobody() {
    over_all(|bench| {
        for n in 0..50 {
            bench.append(encrypted("a", BOB, &format!("prefix-{n}"), &format!("squatted-{n}")));
        }
        for n in 0..50 {
            let outcome = bench.append(encrypted("a", ALICE, &format!("prefix-{n}"), &format!("genuine-{n}")));
            assert_eq!(stored(&outcome).seq, Seq(51 + n));
        }
    });
}
