//! The access file: TOML, one table of people, each with a name, the digests of their tokens, and grants. Works on the
//! text only.
//!
//! ```toml
//! [people]
//! alice = { name = "Alice", token_sha256 = "9f86d0...", grants = { "team-*" = "send", lobby = "moderate" } }
//! ```

use std::collections::BTreeMap;

use data_encoding::HEXLOWER_PERMISSIVE;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Credential, Door, Grants, Sub};
use crate::config::{ConfigError, File, kind_of, nearest, shown};
use crate::types::{Name, Right, RoomId, RoomPattern};

/// Longest access file, in bytes.
pub const LONGEST_FILE: u64 = 1 << 20;

/// Most people in an access file.
const MOST_PEOPLE: usize = 10_000;

/// Most tokens of one person: the present one, and those that are on their way out.
const MOST_TOKENS: usize = 8;

/// The fields of a person.
const FIELDS: [&str; 4] = ["name", "token_sha256", "grants", "admin"];

/// One entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub sub: Sub,
    pub name: Name,
    pub grants: Grants,
    pub credentials: Vec<Credential>,
}

type Value<'a> = Spanned<DeValue<'a>>;

/// Reads an access file.
///
/// # Errors
/// One line about the first fault, from the top of the file, with its place.
pub fn people(file: &File<'_>) -> Result<Vec<Person>, ConfigError> {
    let table = DeTable::parse(file.text).map_err(|error| file.malformed(error))?.into_inner();
    let mut reader = Reader { file, fault: None, seen: BTreeMap::new() };
    let mut found = Vec::new();
    for (key, value) in &table {
        let at = key.span().start;
        match (&**key.get_ref(), value.get_ref()) {
            ("people", DeValue::Table(table)) => {
                if table.len() > MOST_PEOPLE {
                    reader.wrong(at, "people", &format!("at most {MOST_PEOPLE} people"));
                }
                for (sub, value) in table.iter() {
                    found.extend(reader.person(sub.get_ref(), sub.span().start, value));
                }
            }
            ("people", other) => {
                reader.wrong(at, "people", &format!("a table [people] is wanted, not {}", kind_of(other)));
            }
            (other, _) => reader.wrong(at, other, "unknown table; there is [people]"),
        }
    }
    match reader.fault {
        Some((_, error)) => Err(error),
        None => Ok(found),
    }
}

/// Reads the entries, and keeps the topmost fault: the tables are sorted by name, but people read from the top.
struct Reader<'a> {
    file: &'a File<'a>,
    fault: Option<(usize, ConfigError)>,
    /// Whose each credential is: one that two people have says nothing of who shows it.
    seen: BTreeMap<Credential, String>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: usize, key: &str, text: &str) {
        if self.fault.as_ref().is_none_or(|(before, _)| at < *before) {
            let line = format!("{}: {}: {text}", self.file.place_at(at), shown(key));
            self.fault = Some((at, ConfigError::new(&line)));
        }
    }

    fn person(&mut self, sub: &str, at: usize, value: &Value<'_>) -> Option<Person> {
        let DeValue::Table(fields) = value.get_ref() else {
            self.wrong(at, sub, "a table is wanted, such as { token_sha256 = \"...\", grants = { lobby = \"send\" } }");
            return None;
        };
        let Some(known) = Sub::at(Door::File, sub) else {
            self.wrong(at, sub, &format!("this cannot name somebody: {}", Sub::RULE));
            return None;
        };
        let mut person =
            Person { sub: known, name: default_name(sub)?, grants: Grants::default(), credentials: vec![] };
        for (field, value) in fields.iter() {
            let (field, at) = (&**field.get_ref(), field.span().start);
            let place = format!("{sub}.{field}");
            let read = match field {
                "name" => name(value).map(|name| person.name = name),
                "token_sha256" => credentials(value).map(|list| person.credentials = list),
                "grants" => grants(value).map(|rooms| person.grants.rooms = rooms),
                "admin" => flag(value).map(|admin| person.grants.admin = admin),
                other => Err(match nearest(other, FIELDS.into_iter()) {
                    Some(near) => format!("unknown field; did you mean {near}?"),
                    None => format!("unknown field; there are {}", FIELDS.join(", ")),
                }),
            };
            if let Err(text) = read {
                self.wrong(at, &place, &text);
            }
        }
        if person.credentials.is_empty() && !fields.iter().any(|(field, _)| *field.get_ref() == "token_sha256") {
            let hint =
                "token_sha256 is missing, without which nobody can be known by this entry; racerd token makes one";
            self.wrong(at, sub, hint);
        }
        for credential in &person.credentials {
            if let Some(other) = self.seen.insert(*credential, sub.to_owned()) {
                let text = match other == sub {
                    true => "the same token_sha256 is given twice".to_owned(),
                    false => format!("this token_sha256 is also that of {other}: give each a token of their own"),
                };
                self.wrong(at, sub, &text);
            }
        }
        Some(person)
    }
}

/// Returns the name of somebody to whom the file gives none: what the entry is called, as far as a name is that long.
fn default_name(sub: &str) -> Option<Name> {
    let short: String = sub.chars().take(Name::MAX).collect();
    // What may stand in a sub may stand in a name.
    Name::parse(&short).ok()
}

fn name(value: &Value<'_>) -> Result<Name, String> {
    match value.get_ref() {
        DeValue::String(text) => Name::parse(text).map_err(|fault| fault.text().to_owned()),
        other => Err(format!("a string is wanted, not {}", kind_of(other))),
    }
}

fn flag(value: &Value<'_>) -> Result<bool, String> {
    match value.get_ref() {
        DeValue::Boolean(on) => Ok(*on),
        other => Err(format!("true or false is wanted, not {}", kind_of(other))),
    }
}

fn credentials(value: &Value<'_>) -> Result<Vec<Credential>, String> {
    let texts: Vec<&Value<'_>> = match value.get_ref() {
        DeValue::Array(list) => list.iter().collect(),
        _ => vec![value],
    };
    match texts.len() {
        0 => return Err("the list is empty, so nobody can be known by this entry".to_owned()),
        1..=MOST_TOKENS => {}
        _ => return Err(format!("at most {MOST_TOKENS} tokens")),
    }
    texts.into_iter().map(credential).collect()
}

fn credential(value: &Value<'_>) -> Result<Credential, String> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(format!("a string is wanted, or a list of strings, not {}", kind_of(value.get_ref())));
    };
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    // The value is not shown: it may be the token itself, put here by mistake.
    bytes.map(Credential).ok_or_else(|| {
        "64 hexadecimal digits are wanted, the SHA-256 of the token (never the token itself); racerd token makes both"
            .to_owned()
    })
}

fn grants(value: &Value<'_>) -> Result<Vec<(RoomPattern, Right)>, String> {
    let DeValue::Table(table) = value.get_ref() else {
        return Err(format!(
            "a table is wanted, such as {{ \"team-*\" = \"send\" }}, not {}",
            kind_of(value.get_ref())
        ));
    };
    if table.len() > Grants::MAX {
        return Err(format!("at most {} patterns", Grants::MAX));
    }
    let grant = |(pattern, right): (&Spanned<_>, &Value<'_>)| {
        let pattern: &str = AsRef::as_ref(pattern.get_ref());
        let rooms = RoomPattern::parse(pattern)
            .ok_or_else(|| format!("\"{}\" is {}: {}", shown(pattern), RoomPattern::RULE, RoomId::RULE))?;
        let right = match right.get_ref() {
            DeValue::String(text) => Right::parse(text),
            _ => None,
        };
        let right = right.ok_or_else(|| {
            format!("\"{}\" is granted \"read\", \"send\" or \"moderate\", nothing else", shown(pattern))
        })?;
        Ok((rooms, right))
    };
    table.iter().map(grant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(text: &str) -> Result<Vec<Person>, String> {
        people(&File { name: "access.toml", text }).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }

    #[test]
    fn people_and_what_they_are_granted() {
        let text = format!(
            "# who is known\n[people]\nalice = {{ name = \"Alice\", token_sha256 = \"{HASH}\", \
             grants = {{ \"team-*\" = \"send\", lobby = \"moderate\" }} }}\n\n\
             [people.\"door@hall\"]\ntoken_sha256 = [\"{}\", \"{}\"]\nadmin = true\n",
            HASH.replace('9', "8").to_uppercase(),
            HASH.replace('9', "7")
        );
        let people = read(&text).unwrap();
        let [alice, door] = people.as_slice() else { panic!("{people:?}") };
        assert_eq!((alice.sub.as_str(), alice.name.as_str()), ("file:alice", "Alice"));
        assert_eq!(alice.credentials, [Credential::of(b"test")]);
        let right = |room: &str| alice.grants.right_in(&RoomId::parse(room).unwrap());
        assert_eq!((right("lobby"), right("team-a"), right("x")), (Some(Right::Moderate), Some(Right::Send), None));
        assert_eq!((door.name.as_str(), door.credentials.len(), door.grants.admin), ("door@hall", 2, true));
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read("[people]").unwrap(), []);
    }

    #[test]
    fn each_fault_with_its_line() {
        let entry = |fields: &str| format!("[people]\na = {{ token_sha256 = \"{HASH}\", {fields} }}");
        refused("people = 1", "access.toml:1: people: a table [people] is wanted, not a number");
        refused("\n[groups]", "access.toml:2: groups: unknown table; there is [people]");
        refused("[people]\na = 1", "access.toml:2: a: a table is wanted, such as {");
        refused("[people]\n\"a b\" = {}", "access.toml:2: a b: this cannot name somebody: it has 1 to 64");
        refused("[people]\na = {}", "access.toml:2: a: token_sha256 is missing");
        refused("[people]\na = { token_sha256 = [] }", "access.toml:2: a.token_sha256: the list is empty");
        refused("[people]\na = { token_sha256 = \"rt1_x\" }", "access.toml:2: a.token_sha256: 64 hexadecimal digits");
        refused("[people]\na = { token_sha256 = 1 }", "access.toml:2: a.token_sha256: a string is wanted, or a list");
        refused(&entry("nmae = \"x\""), "access.toml:2: a.nmae: unknown field; did you mean name?");
        refused(&entry("colour = 1"), "access.toml:2: a.colour: unknown field; there are name, token_sha256, grants");
        refused(&entry("name = \"\""), "access.toml:2: a.name: a name has 1 to 32 characters");
        refused(&entry("admin = 1"), "access.toml:2: a.admin: true or false is wanted, not a number");
        refused(&entry("grants = [\"x\"]"), "access.toml:2: a.grants: a table is wanted, such as");
        refused(&entry("grants = { \"a/b\" = \"send\" }"), "access.toml:2: a.grants: \"a/b\" is neither a room id");
        refused(
            &entry("grants = { a = \"write\" }"),
            "access.toml:2: a.grants: \"a\" is granted \"read\", \"send\" or",
        );
        refused(&entry("grants = { a = 1 }"), "access.toml:2: a.grants: \"a\" is granted \"read\", \"send\" or");
        refused(
            &format!("{}\nb = {{ token_sha256 = \"{HASH}\" }}", entry("admin = false")),
            "access.toml:3: b: this token",
        );
        refused(
            &format!("[people]\na = {{ token_sha256 = [\"{HASH}\", \"{HASH}\"] }}"),
            "access.toml:2: a: the same token",
        );
        refused("[people]\na = {", "access.toml:2: ");
        // The first in the file, not in alphabetical order.
        refused("[people]\nz = 1\na = 1", "access.toml:2: z: ");
        let many = (0..=Grants::MAX).map(|n| format!("r{n} = \"read\", ")).collect::<String>();
        refused(&entry(&format!("grants = {{ {many} }}")), "access.toml:2: a.grants: at most 64 patterns");
    }

    #[test]
    fn a_token_put_there_by_mistake_is_not_shown() {
        let error = read("[people]\na = { token_sha256 = \"rt1_secret\" }").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_gives_people_or_one_line(
            fields in prop::collection::vec(
                prop_oneof![
                    Just(format!("token_sha256 = '{HASH}'")), Just("grants = { '*' = 'send' }".to_owned()),
                    "(name|admin|grants|token_sha256|same_as) = ('.{0,9}'|true|[0-9]{1,3}|\\[\\]|\\{\\})",
                ],
                0..4,
            ),
            rest in ".{0,40}",
        ) {
            for text in [format!("[people]\na = {{ {} }}", fields.join(", ")), format!("[people]\n{rest}"), rest.clone()] {
                if let Err(error) = read(&text) {
                    prop_assert!(!error.chars().any(char::is_control) && error.starts_with("access.toml:"), "{}", error);
                }
            }
        }
    }
}
