//! What somebody may do in a room.

use std::fmt;

/// A right in a room. Each includes those before it; no right at all is `None` of an `Option<Right>`, which compares
/// as less than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Be a member, hear the room, and read its history.
    Read,
    /// Write messages and signals.
    Send,
    /// Decide about other people and their messages.
    Moderate,
}

impl Right {
    /// All rights, the least first.
    pub const ALL: [Right; 3] = [Right::Read, Right::Send, Right::Moderate];

    /// Reads a right by its name.
    pub fn parse(text: &str) -> Option<Right> {
        Right::ALL.into_iter().find(|right| right.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Send => "send",
            Right::Moderate => "moderate",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_includes_those_before_it() {
        assert!(None < Some(Right::Read) && Right::Read < Right::Send && Right::Send < Right::Moderate);
        for right in Right::ALL {
            assert_eq!(Right::parse(right.as_str()), Some(right));
        }
        for text in ["", "Read", "admin", "write", "send "] {
            assert_eq!(Right::parse(text), None, "{text}");
        }
    }
}
