//! What clients ask of the hub.

use crate::types::{Body, Digest, RoomId, Seq, WallMillis};

/// Where in a room's log a member begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// From now on.
    Now,
    /// After this seq of this epoch (of the current one, if none is named).
    After { seq: Seq, epoch: Option<Box<str>> },
    /// With the newest so many.
    Last(u32),
}

/// A message on its way to the store.
#[derive(Clone, Debug)]
pub struct Said {
    /// The digest of its idempotency key.
    pub key: Option<Digest>,
    pub body: Body,
    /// The digest of an encrypted body.
    pub sealed: Option<Digest>,
    /// The wall clock.
    pub at: WallMillis,
}

/// What a member wants to hear of others coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    Full,
    Count,
    Off,
}

/// Where a client says it was in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub room: RoomId,
    pub epoch: Option<Box<str>>,
    pub seq: Seq,
    /// `None`: as before.
    pub presence: Option<Presence>,
}
