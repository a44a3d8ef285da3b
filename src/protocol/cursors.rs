//! The `cursors` of a `resume`: an object that maps each room to the client's position in it.

use serde_json::value::RawValue;

use super::raw::{entries, string, whole_number};
use crate::hub::{Cursor, Presence};
use crate::types::{RoomId, Seq};

/// Reads `{"lobby":{"epoch":"k3f9","seq":41,"presence":"count"}}`. `seq` is required; a room named twice is refused,
/// because either entry could be the right one.
///
/// # Errors
/// The fault, in words for the client, which quote nothing of what it sent.
pub fn parse(raw: &RawValue) -> Result<Vec<Cursor>, String> {
    read(raw).map_err(|fault| format!("'cursors' is an object of rooms, each with 'epoch' and 'seq': {fault}"))
}

fn read(raw: &RawValue) -> Result<Vec<Cursor>, &'static str> {
    let mut cursors: Vec<Cursor> = Vec::new();
    entries(raw, |room, place| {
        let room = RoomId::parse(room).ok_or(RoomId::RULE)?;
        cursors.push(cursor(room, place)?);
        Ok(())
    })?;
    let mut rooms: Vec<&RoomId> = cursors.iter().map(|cursor| &cursor.room).collect();
    rooms.sort_unstable();
    if rooms.windows(2).any(|two| two[0] == two[1]) {
        return Err("a room is named twice");
    }
    Ok(cursors)
}

fn cursor(room: RoomId, place: &RawValue) -> Result<Cursor, &'static str> {
    let (mut epoch, mut seq, mut presence) = (None, None, None);
    entries(place, |field, value| {
        let slot = match field {
            "epoch" => &mut epoch,
            "seq" => &mut seq,
            "presence" => &mut presence,
            _ => return Ok(()),
        };
        slot.replace(value).map_or(Ok(()), |_| Err("a field is given twice"))
    })?;
    let epoch = epoch.map(|raw| string(raw).ok_or("'epoch' is a string")).transpose()?;
    let seq = seq.ok_or("'seq' is missing")?;
    Ok(Cursor {
        room,
        epoch: epoch.map(|epoch| epoch.into()),
        seq: Seq(whole_number(seq).ok_or("'seq' is a whole number from 0 to 2^53")?),
        presence: presence.map(|raw| presence_of(raw).ok_or("'presence' is full, count or off")).transpose()?,
    })
}

fn presence_of(raw: &RawValue) -> Option<Presence> {
    match &*string(raw)? {
        "full" => Some(Presence::Full),
        "count" => Some(Presence::Count),
        "off" => Some(Presence::Off),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Cursor>, String> {
        parse(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn cursors_are_parsed() {
        let cursors = parsed(r#"{"lobby":{"epoch":"k3f9","seq":41},"b":{"seq":0,"presence":"off","more":[1]}}"#);
        let lobby =
            Cursor { room: RoomId::parse("lobby").unwrap(), epoch: Some("k3f9".into()), seq: Seq(41), presence: None };
        let b = Cursor { room: RoomId::parse("b").unwrap(), epoch: None, seq: Seq(0), presence: Some(Presence::Off) };
        assert_eq!(cursors, Ok(vec![lobby, b]));
        assert_eq!(parsed("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("[]", "an object"),
            ("7", "an object"),
            (r#"{"a/b":{"seq":1}}"#, "room id"),
            (r#"{"a":{}}"#, "'seq' is missing"),
            (r#"{"a":7}"#, "an object"),
            (r#"{"a":{"seq":-1}}"#, "whole number"),
            (r#"{"a":{"seq":1.0}}"#, "whole number"),
            (r#"{"a":{"seq":9007199254740993}}"#, "2^53"),
            (r#"{"a":{"seq":1,"seq":2}}"#, "twice"),
            (r#"{"a":{"seq":1},"a":{"seq":2}}"#, "twice"),
            (r#"{"a":{"seq":1,"epoch":7}}"#, "'epoch' is a string"),
            (r#"{"a":{"seq":1,"epoch":null}}"#, "'epoch' is a string"),
            (r#"{"a":{"seq":1,"presence":"loud"}}"#, "presence"),
            (r#"{"\ud800":{"seq":1}}"#, "Unicode"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    /// Errors go out to the client and into the log of whoever debugs it: their length is ours, not the client's.
    #[test]
    fn a_fault_quotes_nothing() {
        let long = "x".repeat(30_000);
        for text in [
            format!(r#""{long}""#),
            format!(r#"{{"{long}":{{"seq":1}}}}"#),
            format!(r#"{{"a":"{long}"}}"#),
            format!(r#"{{"a":["{long}"]}}"#),
            format!(r#"{{"a":{{"seq":"{long}"}}}}"#),
            format!(r#"{{"a":{{"seq":{}}}}}"#, "9".repeat(30_000)),
            format!(r#"{{"a":{{"seq":1,"epoch":["{long}"]}}}}"#),
            format!(r#"{{"a":{{"seq":1,"presence":"{long}"}}}}"#),
            format!(r#"{{"a":{{"seq":1,"presence":{{"{long}":1}}}}}}"#),
        ] {
            let error = parsed(&text).expect_err(&text[..20]);
            assert!(error.len() <= 200, "{error}");
        }
    }
}
