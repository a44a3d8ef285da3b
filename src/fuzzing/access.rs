//! An access file that anyone may have written: nothing panics, a refusal is one line fit for a terminal, and
//! whoever is accepted is known by their own tokens alone, and can do what the file grants and no more.

use std::collections::BTreeSet;

use crate::access::{Credential, Doors, Grants, Operation, Person, Who, people};
use crate::config::File;
use crate::types::{Right, RoomId};

/// Most characters of a refusal: a few lines of a terminal.
const LONGEST: usize = 600;

/// Rooms of which some patterns cover each.
const ROOMS: [&str; 4] = ["a", "ab", "team-a", "..."];

/// Takes the input as the text of an access file.
pub fn access(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match people(&File { name: "access.toml", text }) {
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("access.toml:") && !line.contains(char::is_control), "not one line: {line:?}");
            assert!(line.chars().count() <= LONGEST, "a line of {} characters", line.chars().count());
        }
        Ok(people) => check(people),
    }
}

fn check(people: Vec<Person>) {
    let credentials: Vec<Credential> = people.iter().flat_map(|person| person.credentials.iter().copied()).collect();
    assert_eq!(credentials.iter().collect::<BTreeSet<_>>().len(), credentials.len(), "two people have one token");
    let granted: Vec<(Who, Grants)> = {
        let doors = Doors::new(None, people.clone());
        people
            .iter()
            .flat_map(|person| person.credentials.iter().map(move |credential| (*credential, person)))
            .map(|(credential, person)| {
                // proof: the fuzzer looks for it.
                let who = doors.by_credential(&credential).expect("whoever is in the file is known");
                assert_eq!(who.sub, person.sub, "a token is somebody else's");
                (Who::Known(who.clone()), person.grants.clone())
            })
            .collect()
    };
    for guests in [None, Some(Right::Read), Some(Right::Send)] {
        let doors = Doors::new(guests, people.clone());
        for room in ROOMS.into_iter().filter_map(RoomId::parse) {
            for (who, grants) in &granted {
                let covering = grants.rooms.iter().filter(|(pattern, _)| pattern.covers(&room));
                let least = covering.map(|(_, right)| Some(*right)).max().unwrap_or(None);
                let expected = if grants.admin { Some(Right::Moderate) } else { least }.max(guests);
                for operation in Operation::all() {
                    let may = operation.check(who, doors.right(who, &room)).is_ok();
                    assert_eq!(may, expected >= Some(operation.needs()), "{operation:?} in {room}");
                }
            }
        }
    }
}
