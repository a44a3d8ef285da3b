//! What ends, ends: no token brings a session back that its client has ended, and none that is older than one that was
//! presented, or further ahead than any can be.

use super::promises::{errors, open, resume, resume_at, token};
use super::*;
use crate::crypto::Token;

fn close(world: &mut World, index: u32) {
    world.send(index, &masked(0x88, &1000u16.to_be_bytes(), [1, 2, 3, 4]));
}

fn is_closed(world: &World, index: u32) -> bool {
    world.peers[&index].got.ends_with(&[0x88, 2, 0x03, 0xe8])
}

/// Returns the sentence with which the last request was refused.
fn refusal(world: &World, index: u32) -> String {
    let heard = world.heard(index);
    let last = heard.last().expect("an answer");
    assert_eq!(last["code"], "not_resumable", "{last}");
    last["message"].as_str().expect("a sentence").to_owned()
}

/// Copies a token with another generation, as anybody with the key could.
fn forged(world: &mut World, token: &str, generation: u32) -> String {
    let Token { claim, sub, issued } = world.engine.app.tokens.open(token).expect("a token");
    let claim = crate::types::SessionClaim { generation, ..claim };
    world.engine.app.tokens.seal(&Token { claim, sub, issued }).expect("a nonce")
}

#[test]
fn a_close_is_answered_once_the_end_is_recorded_or_after_a_second() {
    for is_recorded in [true, false] {
        let mut world = World::new(Sizes::USUAL);
        open(&mut world, 0, "/rooms/r/ws?name=ann");
        world.answers_at_once = false;
        close(&mut world, 0);
        world.turn();
        assert_eq!(world.engine.app.hub.session_count(), 0, "it ends at once");
        world.pass(500);
        assert!(!is_closed(&world, 0));
        if is_recorded {
            world.answers_at_once = true;
            world.turn();
        } else {
            world.pass(499);
            assert!(!is_closed(&world, 0));
            world.pass(1);
        }
        assert!(is_closed(&world, 0), "recorded: {is_recorded}");
    }
}

#[test]
fn nothing_is_recorded_of_a_session_that_was_in_no_room() {
    let mut world = World::new(Sizes::USUAL);
    world.answers_at_once = false;
    world.comes(0);
    world.upgrade(0, "/ws?name=ann");
    world.turn();
    close(&mut world, 0);
    world.turn();
    assert!(is_closed(&world, 0), "it waits for nothing");
}

#[test]
fn an_ended_session_does_not_live_again() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    // A room that it has left counts, too.
    world.say(0, r#"{"type":"leave"}"#);
    let first = token(&world, 0);
    resume(&mut world, 1, &first);
    world.settle();
    let second = token(&world, 1);
    close(&mut world, 1);
    world.settle();
    for (index, token) in [(2, &first), (3, &second)] {
        resume_at(&mut world, index, token, r#""r":{"epoch":"e","seq":0}"#);
        world.settle();
        assert_eq!(refusal(&world, index), "the session has ended; join again");
    }
}

/// Both clients have asked for the session while it was parked; the first one gets it, and ends it before the store's
/// answer for the second arrives.
#[test]
fn an_answer_of_before_an_end_brings_nothing_back() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    let token = token(&world, 0);
    world.reset(0);
    world.pass(31_000);
    world.answers_at_once = false;
    for index in [1, 2] {
        world.answers_at_once = true;
        open(&mut world, index, "/ws");
        world.answers_at_once = false;
    }
    for index in [1, 2] {
        world.peers.get_mut(&index).unwrap().is_sealed = true;
        world.say(index, &format!(r#"{{"type":"resume","id":77,"session":"{token}","cursors":{{}}}}"#));
    }
    world.turn();
    let first = world.store.next_decided();
    world.answer(first);
    close(&mut world, 1);
    world.turn();
    assert_eq!(world.engine.app.hub.session_count(), 1, "the first one is done, and the second one waits");
    world.answers_at_once = true;
    world.settle();
    assert_eq!(refusal(&world, 2), "the session has ended; join again");
}

#[test]
fn a_token_that_leaps_ahead_is_refused_like_an_unknown_one_and_locks_nobody_out() {
    for (name, away) in [("here", 0), ("waited for", 1_000), ("parked", 31_000)] {
        let mut world = World::new(Sizes::USUAL);
        open(&mut world, 0, "/rooms/r/ws?name=ann");
        let honest = token(&world, 0);
        if away > 0 {
            world.reset(0);
            world.pass(away);
        }
        for (index, generation) in [(1, u32::MAX), (2, 1 << 20), (3, 1_000)] {
            let forged = forged(&mut world, &honest, generation);
            resume(&mut world, index, &forged);
            world.settle();
            assert_eq!(refusal(&world, index), "unknown session token; join again", "{name}");
            world.reset(index);
        }
        resume(&mut world, 4, &honest);
        world.settle();
        assert_eq!(errors(&world, 4), [""; 0], "{name}");
        assert_eq!(world.heard(4).iter().rfind(|object| object["type"] == "welcome").unwrap()["name"], "ann");
    }
    // Nor where nothing is known of the session.
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/ws?name=ann");
    let honest = token(&world, 0);
    world.reset(0);
    let forged = forged(&mut world, &honest, u32::MAX);
    resume_at(&mut world, 1, &forged, r#""r":{"epoch":"e","seq":0}"#);
    world.settle();
    assert_eq!(refusal(&world, 1), "unknown session token; join again");
}

/// Their records outlive the sessions, for as long as their tokens do.
#[test]
fn an_older_token_is_refused_after_its_session_was_left_without_an_end() {
    let mut world = World::new(Sizes::USUAL);
    open(&mut world, 0, "/rooms/r/ws?name=ann");
    let mut tokens = vec![token(&world, 0)];
    for index in 1..4 {
        resume(&mut world, index, tokens.last().unwrap());
        world.settle();
        tokens.push(token(&world, index));
    }
    // In no room, it is neither waited for nor parked.
    world.say(3, r#"{"type":"leave","room":"r"}"#);
    world.settle();
    world.reset(3);
    assert_eq!(world.engine.app.hub.session_count(), 0);
    resume(&mut world, 4, &tokens[1]);
    world.settle();
    assert!(refusal(&world, 4).starts_with("the session has gone on with a later token"));
    resume(&mut world, 5, &tokens[3]);
    world.settle();
    assert_eq!(errors(&world, 5), [""; 0]);
}
