//! The ids of rooms.

use std::fmt;
use std::sync::Arc;

/// The id of a room: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`, never `.` or `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// Longest id, in characters (all of them ASCII).
    pub const MAX: usize = 64;

    /// The error text for an id that [`RoomId::parse`] refused, for the person who sent it.
    pub const RULE: &'static str = "a room id is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not '.' or '..'";

    /// Returns the room id, or `None` if the text breaks [`RoomId::RULE`].
    pub fn parse(text: &str) -> Option<RoomId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        let fits = (1..=RoomId::MAX).contains(&text.len()) && text.bytes().all(allowed);
        (fits && text != "." && text != "..").then(|| RoomId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ids() {
        for good in ["a", "lobby", "A-Z.a_z~0", "...", &"a".repeat(64)] {
            assert!(RoomId::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "café", "a b", "a\0b", "%41", &"a".repeat(65)] {
            assert!(RoomId::parse(bad).is_none(), "{bad}");
        }
    }
}
