//! The doors: who is known by what they show, and what a guest may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Identity, Person, Sub, Who};
use crate::types::{Name, Right, RoomId};

/// What somebody showed to be known: the SHA-256 of their token. The token itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credential(pub [u8; 32]);

impl Credential {
    /// Returns the credential of a token.
    pub fn of(token: &[u8]) -> Credential {
        Credential(Sha256::digest(token).into())
    }
}

impl fmt::Debug for Credential {
    /// Shows nothing: a file of other credentials could be searched for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// All who are known, and what all others may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// The right of a guest, in every room; `None` for none at all.
    guests: Option<Right>,
    by_credential: BTreeMap<Credential, Arc<Identity>>,
    /// How the names of all who are known look.
    looks: BTreeSet<String>,
}

impl Doors {
    /// Returns the doors for these people, and for guests with this right in every room.
    pub fn new(guests: Option<Right>, people: Vec<Person>) -> Doors {
        let looks = people.iter().map(|person| person.name.look()).collect();
        let mut by_credential = BTreeMap::new();
        for Person { sub, name, grants, credentials } in people {
            for credential in credentials {
                let (sub, name, grants) = (sub.clone(), name.clone(), grants.clone());
                by_credential.insert(credential, Arc::new(Identity { sub, name, grants, credential }));
            }
        }
        Doors { guests, by_credential, looks }
    }

    /// Returns the doors of a server that is open to all.
    pub fn open() -> Doors {
        Doors::new(Some(Right::Send), Vec::new())
    }

    /// Returns what a guest may do in every room.
    pub fn guests(&self) -> Option<Right> {
        self.guests
    }

    /// Returns the number of those who are known.
    pub fn people(&self) -> usize {
        let subs: BTreeSet<&Sub> = self.by_credential.values().map(|identity| &identity.sub).collect();
        subs.len()
    }

    /// Returns whether a name looks like that of somebody known, so that nobody else may take it.
    pub fn is_taken(&self, name: &Name) -> bool {
        !self.looks.is_empty() && self.looks.contains(&name.look())
    }

    /// Returns who shows this token, if anybody is known by it. It takes as long for one that nobody has: what is
    /// compared are digests, of which a stranger cannot choose a part.
    pub fn by_token(&self, token: &[u8]) -> Option<&Arc<Identity>> {
        self.by_credential(&Credential::of(token))
    }

    /// Returns who is known by this credential.
    pub fn by_credential(&self, credential: &Credential) -> Option<&Arc<Identity>> {
        self.by_credential.get(credential)
    }

    /// Returns what somebody, who was known once, is by now: what is granted may have changed. `None` if their
    /// credential no longer counts.
    pub fn now(&self, who: &Who) -> Option<Who> {
        match who {
            Who::Guest => Some(Who::Guest),
            Who::Known(before) => {
                let now = self.by_credential.get(&before.credential)?;
                (now.sub == before.sub).then(|| Who::Known(now.clone()))
            }
        }
    }

    /// Returns what somebody may do in a room. What every guest may, everybody may.
    pub fn right(&self, who: &Who, room: &RoomId) -> Option<Right> {
        let granted = who.identity().and_then(|identity| identity.grants.right_in(room));
        granted.max(self.guests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Door, Grants};
    use crate::types::RoomPattern;

    fn person(sub: &str, tokens: &[&str], pattern: &str, right: Right) -> Person {
        Person {
            sub: Sub::at(Door::File, sub).unwrap(),
            name: Name::parse(sub).unwrap(),
            grants: Grants { rooms: vec![(RoomPattern::parse(pattern).unwrap(), right)], admin: false },
            credentials: tokens.iter().map(|token| Credential::of(token.as_bytes())).collect(),
        }
    }

    #[test]
    fn whoever_shows_a_token_is_known_by_it() {
        let doors = Doors::new(None, vec![person("alice", &["a", "b"], "*", Right::Send)]);
        for token in ["a", "b"] {
            assert_eq!(doors.by_token(token.as_bytes()).unwrap().sub.as_str(), "file:alice");
        }
        for token in ["", "c", "file:alice"] {
            assert!(doors.by_token(token.as_bytes()).is_none(), "{token}");
        }
    }

    #[test]
    fn nobody_may_do_less_than_a_guest() {
        let room = RoomId::parse("lobby").unwrap();
        let people = || vec![person("alice", &["a"], "team-*", Right::Moderate)];
        for guests in [None, Some(Right::Read), Some(Right::Send)] {
            let doors = Doors::new(guests, people());
            let alice = Who::Known(doors.by_token(b"a").unwrap().clone());
            assert_eq!((doors.right(&Who::Guest, &room), doors.right(&alice, &room)), (guests, guests));
            assert_eq!(doors.right(&alice, &RoomId::parse("team-a").unwrap()), Some(Right::Moderate));
        }
    }

    #[test]
    fn names_of_people_are_taken() {
        let doors = Doors::new(None, vec![person("alice", &["a"], "*", Right::Send)]);
        let is_taken = |name: &str| doors.is_taken(&Name::parse(name).unwrap());
        assert!(is_taken("alice") && is_taken("A L I C E") && !is_taken("alicia"));
        assert!(!Doors::open().is_taken(&Name::parse("alice").unwrap()));
    }

    #[test]
    fn grants_change_and_credentials_end() {
        let before = Doors::new(None, vec![person("alice", &["a", "b"], "*", Right::Send)]);
        let [by_a, by_b] = [b"a", b"b"].map(|token| Who::Known(before.by_token(token).unwrap().clone()));
        let after =
            Doors::new(None, vec![person("alice", &["a"], "*", Right::Read), person("bob", &["b"], "*", Right::Send)]);
        let room = RoomId::parse("lobby").unwrap();
        assert_eq!(after.right(&after.now(&by_a).unwrap(), &room), Some(Right::Read));
        assert_eq!(after.now(&by_b), None, "the token is somebody else's by now");
        assert_eq!(after.now(&Who::Guest), Some(Who::Guest));
    }
}
