//! Identities: who somebody is, whichever door they came through, and what they are granted.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Credential;
use crate::types::{Digest, IdempotencyKey, Name, Right, RoomId, RoomPattern};

/// A way to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The access file.
    File,
}

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Door::File => "file",
        }
    }
}

/// Names somebody for the server and its operator, never for other people. It begins with the door (`file:alice`), so
/// that nobody becomes somebody else by choosing a name at another door.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sub(Arc<str>);

impl Sub {
    /// Longest name behind the door, in characters (all of them ASCII).
    pub const MAX: usize = 64;

    /// The error text for a name that [`Sub::at`] refused.
    pub const RULE: &'static str = "it has 1 to 64 characters of A-Z a-z 0-9 . _ ~ + @ -";

    /// Returns the sub of this name at a door, or `None` if the name breaks [`Sub::RULE`].
    pub fn at(door: Door, name: &str) -> Option<Sub> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'@' | b'-');
        let fits = (1..=Sub::MAX).contains(&name.len()) && name.bytes().all(allowed);
        fits.then(|| Sub(format!("{}:{name}", door.as_str()).into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a digest that stands for this sub in session tokens. Nobody can make two subs that have the same.
    pub fn digest(&self) -> Digest {
        let whole = <[u8; 32]>::from(Sha256::digest(self.0.as_bytes()));
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        Digest(half)
    }
}

impl fmt::Debug for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The right in each room of a pattern. Where several patterns cover a room, the greatest counts.
    pub rooms: Vec<(RoomPattern, Right)>,
    /// Whether they may do everything, in every room.
    pub admin: bool,
}

impl Grants {
    /// Most patterns of one identity: all of them are compared at a request.
    pub const MAX: usize = 64;

    /// Returns the right in a room, if there is any.
    pub fn right_in(&self, room: &RoomId) -> Option<Right> {
        if self.admin {
            return Some(Right::Moderate);
        }
        self.rooms.iter().filter(|(pattern, _)| pattern.covers(room)).map(|(_, right)| *right).max()
    }
}

/// Somebody known.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub sub: Sub,
    /// The name that others see.
    pub name: Name,
    pub grants: Grants,
    /// What they showed to be known.
    pub credential: Credential,
}

impl Identity {
    /// Returns the form in which the store keeps this identity's idempotency keys: they are apart from those of
    /// everybody else, and the same over every connection with this credential.
    pub fn scoped(&self, key: IdempotencyKey) -> IdempotencyKey {
        let mut bytes = [0; 32 + 16];
        bytes[..32].copy_from_slice(&self.credential.0);
        bytes[32..].copy_from_slice(&key.0.0);
        IdempotencyKey(Digest::of(&bytes))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sub.fmt(f)
    }
}

/// Whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Who {
    #[default]
    Guest,
    Known(Arc<Identity>),
}

impl Who {
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Who::Guest => None,
            Who::Known(identity) => Some(identity),
        }
    }

    /// Returns whether the two are the same person, or both guests.
    pub fn is_same(&self, other: &Who) -> bool {
        self.identity().map(|identity| &identity.sub) == other.identity().map(|identity| &identity.sub)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns somebody of the access file with these grants, and a credential of their own.
    pub fn known(name: &str, grants: &[(&str, Right)]) -> Who {
        let rooms = grants.iter().map(|(pattern, right)| (RoomPattern::parse(pattern).unwrap(), *right)).collect();
        Who::Known(Arc::new(Identity {
            sub: Sub::at(Door::File, name).unwrap(),
            name: Name::parse(name).unwrap(),
            grants: Grants { rooms, admin: false },
            credential: Credential::of(name.as_bytes()),
        }))
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    #[test]
    fn the_greatest_grant_counts() {
        let who = known("alice", &[("*", Right::Read), ("team-*", Right::Send), ("team-a", Right::Moderate)]);
        let grants = &who.identity().unwrap().grants;
        assert_eq!(grants.right_in(&room("lobby")), Some(Right::Read));
        assert_eq!(grants.right_in(&room("team-b")), Some(Right::Send));
        assert_eq!(grants.right_in(&room("team-a")), Some(Right::Moderate));
        assert_eq!(Grants::default().right_in(&room("lobby")), None);
        assert_eq!(Grants { admin: true, ..Grants::default() }.right_in(&room("x")), Some(Right::Moderate));
    }

    #[test]
    fn subs_are_short_and_carry_their_door() {
        assert_eq!(Sub::at(Door::File, "alice").unwrap().as_str(), "file:alice");
        for bad in ["", "a b", "file:a", "é", &"a".repeat(65)] {
            assert_eq!(Sub::at(Door::File, bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_of_two_credentials_differ() {
        let key = IdempotencyKey::of(b"key");
        let [alice, bob] = ["alice", "bob"].map(|name| known(name, &[]).identity().unwrap().scoped(key));
        assert!(alice != bob && alice != key);
        assert_eq!(known("alice", &[]).identity().unwrap().scoped(key), alice);
    }

    #[test]
    fn nobody_is_a_guest_and_somebody() {
        let (alice, again, bob) = (known("alice", &[]), known("alice", &[("*", Right::Send)]), known("bob", &[]));
        assert!(alice.is_same(&again) && Who::Guest.is_same(&Who::Guest));
        assert!(!alice.is_same(&bob) && !alice.is_same(&Who::Guest) && !Who::Guest.is_same(&bob));
    }
}
