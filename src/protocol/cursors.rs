//! The `cursors` of a `resume`: an object that maps each room to the client's position in it.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::field_name::FieldName;
use crate::hub::{Cursor, Presence};
use crate::types::{MAX_NUMBER, RoomId, Seq};

/// Reads `{"lobby":{"epoch":"k3f9","seq":41,"presence":"count"}}`. `seq` is required; a room named twice is refused,
/// because either entry could be the right one.
///
/// # Errors
/// The fault, in words for the client.
pub fn parse(raw: &RawValue) -> Result<Vec<Cursor>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(RoomsVisitor).map_err(|error| {
        // serde appends a position, which is relative to this field.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        format!("'cursors' is an object of rooms, each with 'epoch' and 'seq': {text}")
    })
}

struct RoomsVisitor;

impl<'de> Visitor<'de> for RoomsVisitor {
    type Value = Vec<Cursor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<Cursor>, M::Error> {
        let mut cursors: Vec<Cursor> = Vec::new();
        while let Some(FieldName(key)) = map.next_key::<FieldName<'de>>()? {
            let room = RoomId::parse(&key).ok_or_else(|| M::Error::custom(RoomId::RULE))?;
            let Place { epoch, seq, presence } = map.next_value()?;
            cursors.push(Cursor { room, epoch, seq, presence });
        }
        let mut rooms: Vec<&RoomId> = cursors.iter().map(|cursor| &cursor.room).collect();
        rooms.sort_unstable();
        if rooms.windows(2).any(|two| two[0] == two[1]) {
            return Err(M::Error::custom("a room is named twice"));
        }
        Ok(cursors)
    }
}

struct Place {
    epoch: Option<Box<str>>,
    seq: Seq,
    presence: Option<Presence>,
}

impl<'de> serde::Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_map(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with 'epoch' and 'seq'")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Place, M::Error> {
        let (mut epoch, mut seq, mut presence) = (None, None, None);
        while let Some(FieldName(key)) = map.next_key::<FieldName<'de>>()? {
            let doubled = match &*key {
                "epoch" => epoch.replace(map.next_value::<String>()?.into_boxed_str()).is_some(),
                "seq" => seq.replace(map.next_value::<u64>()?).is_some(),
                "presence" => presence.replace(map.next_value::<String>()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if doubled {
                return Err(M::Error::custom("a field is given twice"));
            }
        }
        let presence = match presence.as_deref() {
            None => None,
            Some("full") => Some(Presence::Full),
            Some("count") => Some(Presence::Count),
            Some("off") => Some(Presence::Off),
            Some(_) => return Err(M::Error::custom("'presence' is full, count or off")),
        };
        match seq {
            Some(seq) if seq <= MAX_NUMBER => Ok(Place { epoch, seq: Seq(seq), presence }),
            Some(_) => Err(M::Error::custom("'seq' is a whole number from 0 to 2^53")),
            None => Err(M::Error::custom("'seq' is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Cursor>, String> {
        parse(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn cursors_are_read() {
        let cursors = read(r#"{"lobby":{"epoch":"k3f9","seq":41},"b":{"seq":0,"presence":"off","more":[1]}}"#);
        let lobby =
            Cursor { room: RoomId::parse("lobby").unwrap(), epoch: Some("k3f9".into()), seq: Seq(41), presence: None };
        let b = Cursor { room: RoomId::parse("b").unwrap(), epoch: None, seq: Seq(0), presence: Some(Presence::Off) };
        assert_eq!(cursors, Ok(vec![lobby, b]));
        assert_eq!(read("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("[]", "an object"),
            ("7", "an object"),
            (r#"{"a/b":{"seq":1}}"#, "room id"),
            (r#"{"a":{}}"#, "'seq' is missing"),
            (r#"{"a":{"seq":-1}}"#, "integer"),
            (r#"{"a":{"seq":1.0}}"#, "float"),
            (r#"{"a":{"seq":9007199254740993}}"#, "2^53"),
            (r#"{"a":{"seq":1,"seq":2}}"#, "twice"),
            (r#"{"a":{"seq":1},"a":{"seq":2}}"#, "twice"),
            (r#"{"a":{"seq":1,"epoch":7}}"#, "string"),
            (r#"{"a":{"seq":1,"presence":"loud"}}"#, "presence"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
