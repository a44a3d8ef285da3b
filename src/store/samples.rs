//! Sample requests for the tests of every log.

use super::{Append, Outcome, Parked, Purpose, Read, Scope, ScopedKey, Span, Ticket};
use crate::types::{
    Author, Body, ConnId, Digest, IdempotencyKey, MemberId, Message, Name, RoomId, Seq, SessionId, WallMillis,
};

pub const ALICE: Scope = Scope::Session(SessionId([1; 16]));
pub const BOB: Scope = Scope::Session(SessionId([2; 16]));

pub fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

pub fn ticket(purpose: Purpose, tag: u64) -> Ticket {
    Ticket::new(ConnId { index: 7, generation: 3 }, purpose, tag)
}

pub fn body_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

pub fn append(to: &str, body: &str, at: u64) -> Append {
    Append {
        ticket: ticket(Purpose::Send, at),
        room: room(to),
        author: Author { member: Some(MemberId::from_random(0x7c2e)), name: Name::parse("bob").unwrap() },
        key: None,
        body: Body::checked(body.into()),
        sealed: None,
        era: None,
        at: WallMillis(at),
    }
}

pub fn keyed(to: &str, body: &str, scope: Scope, key: &str) -> Append {
    Append { key: Some(ScopedKey { scope, key: IdempotencyKey::of(key.as_bytes()) }), ..append(to, body, 1) }
}

pub fn read(of: &str, span: Span, limit: u32, bytes: u32) -> Read {
    Read { ticket: ticket(Purpose::History, 9), room: room(of), span, limit, bytes, upto: Seq::ZERO }
}

/// Builds a parked session of this number, which was in these rooms.
pub fn session_in(number: u64, rooms: &[&str]) -> Parked {
    let mut session = [0; 16];
    session[..8].copy_from_slice(&number.to_be_bytes());
    Parked {
        session: SessionId(session),
        member: MemberId::from_random(number),
        name: Name::parse("bob").unwrap(),
        generation: 1,
        rooms: rooms.iter().map(|of| (room(of), Seq(1))).collect(),
    }
}

pub fn stored(outcome: &Outcome) -> &Message {
    match outcome {
        Outcome::Stored(message) => message,
        other => panic!("not stored: {other:?}"),
    }
}

/// Returns the digest of a body if it is encrypted, as the tests write it: `{"e2e":1,"c":...}`, whatever follows.
pub fn sealed_body_of(body: &str) -> Option<Digest> {
    body.starts_with("{\"e2e\":").then(|| Digest::of(body.as_bytes()))
}

/// Builds an encrypted message that [`sealed_body_of`] recognizes, from this sender and under this key.
pub fn encrypted(to: &str, scope: Scope, key: &str, ciphertext: &str) -> Append {
    let body = format!("{{\"e2e\":1,\"c\":\"{ciphertext}\"}}");
    Append { sealed: sealed_body_of(&body), ..keyed(to, &body, scope, key) }
}
