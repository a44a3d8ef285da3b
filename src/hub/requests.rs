//! The requests of clients to the hub.

use crate::store::Making;
use crate::types::{Body, Digest, IdempotencyKey, Right, RoomId, Seq, WallMillis};

/// The position in a room's log at which a member begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the end of the log.
    Now,
    /// After this seq of this epoch (of the current one, if none is named).
    After { seq: Seq, epoch: Option<Box<str>> },
    /// With this many of the newest messages.
    Last(u32),
}

/// A wish to join a room.
#[derive(Clone, Debug)]
pub struct Entry {
    pub room: RoomId,
    pub start: Start,
    pub presence: Presence,
    /// What the session may do in the room.
    pub right: Option<Right>,
}

/// A message that a member sends to the store.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its idempotency key, if it has one.
    pub key: Option<IdempotencyKey>,
    pub body: Body,
    /// The digest of an encrypted body.
    pub sealed: Option<Digest>,
    /// The time of the request, by the wall clock.
    pub at: WallMillis,
    /// Who pays for it while it waits for the store.
    pub payer: u32,
    /// Whether it may make its room.
    pub making: Making,
    /// See [`Ticket::needs`](crate::store::Ticket::needs).
    pub needs: u64,
}

/// How much a member is told about the joins and leaves of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    Full,
    Count,
    Off,
}

/// A resuming client's claim of how far it was in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub room: RoomId,
    pub epoch: Option<Box<str>>,
    pub seq: Seq,
    /// `None` keeps the session's setting.
    pub presence: Option<Presence>,
}
