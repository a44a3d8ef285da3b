//! The vocabulary of racerd: the types that every part shares. Uses no other module of the crate, and no socket, file,
//! thread or clock: times are plain numbers that the edge passes in.

mod cause;
mod folder;
mod leading;
mod name;
mod network;
mod place;
mod printable;
mod reason;
mod right;
mod room_id;
mod room_pattern;
pub mod size;
mod unusable;

pub use cause::Cause;
pub use folder::folder_of;
pub use leading::leading;
pub use name::{Name, NameFault};
pub use network::{Network, shares_of};
pub use place::{NoPlace, Place, is_localhost, is_zone};
pub use printable::{escape, harmless, harmless_start, is_unsafe, push_escaped};
pub use reason::Reason;
pub use right::Right;
pub use room_id::RoomId;
pub use room_pattern::RoomPattern;
pub use unusable::Unusable;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use siphasher::sip128::SipHasher13;

/// A message's sequence number in its room: contiguous, from 1, assigned by the commit. 0 is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    pub const ZERO: Seq = Seq(0);

    /// Returns the seq after this one.
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

/// A random id of the whole log; it changes when seqs could be reused. A room that came anew, after one of its name was
/// removed, has another one: see [`Era`].
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Epoch(pub Arc<str>);

impl Epoch {
    /// Returns the epoch of a room of this log.
    pub fn of_room(&self, era: Era) -> Epoch {
        match era {
            Era::FIRST => self.clone(),
            Era(removed) => Epoch(format!("{}.{removed}", self.0).into()),
        }
    }

    /// Returns whether a named epoch is that of some room of this log.
    pub fn is_of_log(&self, named: &str) -> bool {
        let rest = named.strip_prefix(&*self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Tells rooms of one name apart, which begin at seq 1 each: the number of removals that the log had counted for this
/// name when the room's members, or its first message, came. A few names may share a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Era(pub u64);

impl Era {
    /// That of a room of which none was removed before.
    pub const FIRST: Era = Era(0);
}

/// Monotonic milliseconds since an arbitrary start: for deadlines and durations only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns this time plus a duration in milliseconds.
    pub fn after(self, milliseconds: u64) -> Millis {
        Millis(self.0.saturating_add(milliseconds))
    }

    /// Returns the milliseconds from `earlier` to this time; 0 if `earlier` is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The largest number of the protocol (RFC 7493 §2.2): many JSON parsers, JavaScript's among them, would round a larger
/// one.
pub const MAX_NUMBER: u64 = 1 << 53;

/// Milliseconds since 1970 by the wall clock: for dates that people read, and for ages that outlast a process. It may
/// be wrong by decades, step in either direction, and stand still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMillis(pub u64);

impl WallMillis {
    /// 2026-01-01T00:00:00Z: racerd is younger, so a clock or a stamp with an earlier time was never set.
    pub const EARLIEST: WallMillis = WallMillis(1_767_225_600_000);

    /// Milliseconds by which the clock may step back while a room's last stamp is repeated: everyday corrections of the
    /// clock make no message look older than the one before it.
    pub const HOLDS: u64 = 60_000;

    /// Returns whether this can be a date at all. A clock for which this is false was never set: nothing may be
    /// decided, dropped or made by it.
    pub fn is_date(self) -> bool {
        self >= WallMillis::EARLIEST
    }

    /// Returns the stamp of a room's next message, now, after one of `last`: the same again where that is ahead by no
    /// more than [`WallMillis::HOLDS`], else the clock's. Order is the seq's; stamps may go back.
    pub fn stamp_after(self, last: WallMillis) -> WallMillis {
        if last.0.saturating_sub(self.0) <= WallMillis::HOLDS { self.max(last) } else { self }
    }
}

/// The id by which others know a session, for as long as it lives. Shown as `m-` and 12 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(u64);

impl MemberId {
    /// Makes a member id from the low 48 bits of a random number.
    pub fn from_random(random: u64) -> MemberId {
        MemberId(random & 0xffff_ffff_ffff)
    }

    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-{:012x}", self.0)
    }
}

/// A session's number, which is no secret: the scope of its idempotency keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl Hash for SessionId {
    /// Hashes the first half: all of it is random, and no client can choose one.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// A session's place in the hub, for as long as the session lives. The generation distinguishes it from later sessions
/// in the same place: a stale slot finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionSlot {
    pub index: u32,
    pub generation: u32,
}

/// Hashes the index alone: the fingerprint of a hub must not change with a number that only rises.
impl std::hash::Hash for SessionSlot {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

/// The session that a client claims with its token, with what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaim {
    pub session: SessionId,
    pub member: MemberId,
    pub name: Name,
    pub generation: u32,
    /// Whether the session began on a connection that cannot be read in transit, and continues only on such ones.
    pub private: bool,
}

/// A 16-byte digest of an idempotency key or a body, which the store compares instead of the text. SipHash-1-3 with 128
/// bits and no secret (it is stored, so it must not change): a sender that makes two texts collide deceives only
/// itself, since each sender's keys are compared with its own, and the keys of the one shared scope are random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        let hash = SipHasher13::new().hash(bytes);
        let mut short = [0; 16];
        short[..8].copy_from_slice(&hash.h1.to_le_bytes());
        short[8..].copy_from_slice(&hash.h2.to_le_bytes());
        Digest(short)
    }
}

/// An idempotency key: a send that repeats a key is stored once. The server knows only the digest of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(pub Digest);

impl IdempotencyKey {
    /// Longest text of a key, in bytes.
    pub const MAX: usize = 200;

    /// Returns the key with this text, of whatever length: how long it may be is for the caller to check.
    pub fn of(text: &[u8]) -> IdempotencyKey {
        IdempotencyKey(Digest::of(text))
    }
}

/// One JSON value as the sender wrote it: checked once (syntax, depth, surrogates), never parsed or printed again.
/// An empty text stands for a body that the store can no longer read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Body(Box<str>);

impl Body {
    /// Takes text that the caller has checked to be one JSON value.
    pub fn checked(json: Box<str>) -> Body {
        Body(json)
    }

    /// Returns the body of a message whose stored row is damaged: the message keeps its place, so that none is missing.
    pub fn unreadable() -> Body {
        Body(Box::default())
    }

    pub fn is_unreadable(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the JSON; `null` if the body can't be read.
    pub fn as_str(&self) -> &str {
        if self.is_unreadable() { "null" } else { &self.0 }
    }

    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Always returns false, since no JSON value is empty.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl fmt::Debug for Body {
    /// Prints the length only: bodies are private to their room, even in debug output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// A message's author, as stored with it and shown to others. A POST without an identity has no member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Author {
    pub member: Option<MemberId>,
    pub name: Name,
}

/// A committed message, as confirmed by the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    pub room: RoomId,
    pub seq: Seq,
    pub at: WallMillis,
    pub author: Author,
    pub body: Body,
}

/// One connection, from accept to close. The generation distinguishes the owners of a slot, so that a late event, timer
/// or store answer cannot reach the next owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub index: u32,
    pub generation: u32,
}

impl ConnId {
    /// No connection, for a detached session, say. No slot has this index.
    pub const NOBODY: ConnId = ConnId { index: u32::MAX, generation: u32::MAX };
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The guarantee that an acknowledgement gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk and fsynced: survives a power cut.
    Full,
    /// Written, not synced at each commit: survives the process being killed.
    Normal,
    /// Kept in memory only: a restart loses it.
    Memory,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Full => "full",
            Durability::Normal => "normal",
            Durability::Memory => "memory",
        }
    }
}

/// The action of a start that finds a damaged database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Reports the damage and exits.
    Stop,
    /// Copies the readable data into a new database, and keeps the damaged one beside it.
    Salvage,
}

impl OnDamage {
    pub fn as_str(self) -> &'static str {
        match self {
            OnDamage::Stop => "stop",
            OnDamage::Salvage => "salvage",
        }
    }
}

/// The size of the pages of a new database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    OneKib,
    TwoKib,
    FourKib,
}

impl PageSize {
    pub const ALL: [PageSize; 3] = [PageSize::OneKib, PageSize::TwoKib, PageSize::FourKib];

    pub fn as_str(self) -> &'static str {
        match self {
            PageSize::OneKib => "1KiB",
            PageSize::TwoKib => "2KiB",
            PageSize::FourKib => "4KiB",
        }
    }

    pub fn bytes(self) -> u32 {
        match self {
            PageSize::OneKib => 1_024,
            PageSize::TwoKib => 2_048,
            PageSize::FourKib => 4_096,
        }
    }
}

/// Returns a count with its noun: `1 message`, `2 messages`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_stored_and_so_never_change() {
        let hex = |text: &str| data_encoding::HEXLOWER.encode(&Digest::of(text.as_bytes()).0);
        assert_eq!(hex(""), "0db4d9615d9334210333fb31d05e1cb9");
        assert_ne!(hex("k\0x"), hex("k"));
    }

    #[test]
    fn member_ids_are_48_bits() {
        assert_eq!(MemberId::from_random(u64::MAX).to_string(), "m-ffffffffffff");
        assert_eq!(MemberId::from_random(0x7c2e).to_string(), "m-000000007c2e");
    }
}
