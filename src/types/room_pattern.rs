//! Patterns of room ids, as settings and grants have them.

use std::fmt;

use super::room_id::RoomId;

/// Rooms by their ids: one room, all whose id begins so (`team-*`), or every room (`*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomPattern {
    One(RoomId),
    /// The beginning of the ids, without the `*`; it may be empty.
    Beginning(Box<str>),
}

impl RoomPattern {
    /// The error text for a pattern that [`RoomPattern::parse`] refused.
    pub const RULE: &'static str = "neither a room id nor the beginning of one with * behind it";

    /// Returns the pattern, or `None` if the text breaks [`RoomPattern::RULE`].
    pub fn parse(text: &str) -> Option<RoomPattern> {
        match text.strip_suffix('*') {
            // No room has the id `.` or `..`, but ids may begin so.
            Some(beginning) if ["", ".", ".."].contains(&beginning) || RoomId::parse(beginning).is_some() => {
                Some(RoomPattern::Beginning(beginning.into()))
            }
            Some(_) => None,
            None => RoomId::parse(text).map(RoomPattern::One),
        }
    }

    /// Returns whether the room is one of these.
    pub fn covers(&self, room: &RoomId) -> bool {
        match self {
            RoomPattern::One(one) => one == room,
            RoomPattern::Beginning(beginning) => room.as_str().starts_with(&**beginning),
        }
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoomPattern::One(room) => room.fmt(f),
            RoomPattern::Beginning(beginning) => write!(f, "{beginning}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_one_room_or_all_that_begin_so() {
        let covers =
            |pattern: &str, room: &str| RoomPattern::parse(pattern).unwrap().covers(&RoomId::parse(room).unwrap());
        for (pattern, room) in [("a", "a"), ("a*", "a"), ("a*", "ab"), ("*", "z"), (".*", ".a"), ("..*", "...")] {
            assert!(covers(pattern, room), "{pattern} {room}");
            assert_eq!(RoomPattern::parse(pattern).unwrap().to_string(), pattern);
        }
        for (pattern, room) in [("a", "ab"), ("a", "A"), ("ab*", "a"), (".*", "a")] {
            assert!(!covers(pattern, room), "{pattern} {room}");
        }
        for bad in ["", "a/b", "*a", "a**", ".", "..", "a b*", &format!("{}*", "a".repeat(65))] {
            assert_eq!(RoomPattern::parse(bad), None, "{bad}");
        }
    }
}
