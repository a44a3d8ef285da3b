//! A log line as one JSON object: `time`, `level`, `message`, then the fields. Valid JSON whatever the values hold, and
//! never longer than the longest text line.

use super::parts::{Bounded, LONGEST_LINE, LONGEST_VALUE, timestamp};
use crate::config::{Choice as _, LogLevel};
use crate::types::is_unsafe;
use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use crate::types::MAX_NUMBER;

/// Marks a line that had no room for all of its fields.
const CUT: &str = ",\"cut\":true";

/// The end of each line.
const END: &str = "}\n";

/// Maximum bytes of a line before the cut mark and the end.
const MOST: usize = LONGEST_LINE - CUT.len() - END.len();

/// Returns the line, with its newline.
pub(super) fn line(at: SystemTime, level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    let mut line = format!("{{\"time\":\"{}\",\"level\":\"{}\"", timestamp(at), level.as_str());
    let whole =
        member(&mut line, "message", &message) && fields.iter().all(|(key, value)| member(&mut line, key, value));
    if !whole {
        line.push_str(CUT);
    }
    line.push_str(END);
    line
}

/// Adds a key and its value; returns false, and adds nothing, if there is no room.
fn member(line: &mut String, key: &str, value: &dyn Display) -> bool {
    let before = line.len();
    line.push_str(",\"");
    escape(line, key);
    line.push_str("\":");
    let text = shown(format_args!("{value}"));
    if is_number(&text, value) {
        line.push_str(&text);
    } else {
        line.push('"');
        escape(line, &text);
        line.push('"');
    }
    if line.len() <= MOST {
        return true;
    }
    line.truncate(before);
    false
}

/// Returns the value's text, cut as in a text line. If a `Display` fails, the text that it wrote until then is used.
fn shown(value: std::fmt::Arguments<'_>) -> String {
    let mut text = String::new();
    let _ = write!(Bounded { out: &mut text, left: LONGEST_VALUE }, "{value}");
    text
}

/// Reports whether the value is of an integer type, not just a text of digits: the JSON type of a field must not depend
/// on text that somebody else supplied. With the `+` flag an integer shows a sign; a text ignores the flag, and so do
/// composite values. Integers past [`MAX_NUMBER`] stay text, since many JSON readers would round them.
fn is_number(text: &str, value: &dyn Display) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        && text.parse().is_ok_and(|number: u64| number <= MAX_NUMBER)
        && shown(format_args!("{value:+}")).starts_with('+')
}

/// Applies JSON's own escapes (RFC 8259 section 7), and also escapes characters that would control a terminal or hide
/// text.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::UNIX_EPOCH;

    fn read(line: &str) -> Value {
        assert!(line.ends_with('\n') && line.lines().count() == 1 && line.len() <= LONGEST_LINE, "{line:?}");
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn one_object_a_line() {
        let fields: [(&str, &dyn Display); 5] =
            [("n", &3u16), ("text", &"3"), ("sign", &"+3"), ("big", &u64::MAX), ("many", &format_args!("{} {}", 1, 2))];
        let line = line(UNIX_EPOCH, LogLevel::Warn, "a \"b\"", &fields);
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","level":"warn","message":"a \"b\"","n":3,"text":"3","#;
        assert!(line.starts_with(expected), "{line}");
        assert_eq!(read(&line)["sign"], "+3");
        assert_eq!(read(&line)["big"], u64::MAX.to_string());
        assert_eq!(read(&line)["many"], "1 2");
    }

    #[test]
    fn what_others_wrote_stays_in_its_place() {
        let hostile = "x\n{\"level\":\"error\"} \u{1b}[2J \u{9b}2J \u{202e}evil\u{2028}\u{85}\r\0\u{e0001}\"";
        let line = line(UNIX_EPOCH, LogLevel::Info, hostile, &[("name", &hostile)]);
        assert!(!line.trim_end().chars().any(is_unsafe), "{line:?}");
        assert_eq!((&read(&line)["name"], &read(&line)["message"]), (&json!(hostile), &json!(hostile)));
    }

    #[test]
    fn long_values_and_long_lines_are_cut_and_stay_json() {
        let long = "e\u{301}".repeat(10_000);
        let value = read(&line(UNIX_EPOCH, LogLevel::Info, &long, &[("name", &long)]));
        assert_eq!(value["name"].as_str().unwrap().chars().count(), LONGEST_VALUE + 3);
        assert!(value.get("cut").is_none() && value["message"].as_str().unwrap().ends_with("..."));
        // Twelve bytes each: the first fits, the second does not.
        let wide = "\u{e0001}".repeat(300);
        let value = read(&line(UNIX_EPOCH, LogLevel::Info, "m", &[("a", &wide), ("b", &wide), ("c", &1)]));
        assert_eq!((&value["a"], value.get("b"), &value["cut"]), (&json!(wide), None, &json!(true)));
    }

    proptest! {
        #[test]
        fn any_text_makes_one_bounded_object(message in any::<String>(), values in prop::collection::vec("\\PC{0,400}|.*", 0..6)) {
            let fields: Vec<(&str, &dyn Display)> = values.iter().map(|value| ("value", value as &dyn Display)).collect();
            let line = line(UNIX_EPOCH, LogLevel::Warn, &message, &fields);
            let value = read(&line);
            prop_assert_eq!(&value["level"], "warn");
            prop_assert!(!line.trim_end_matches('\n').chars().any(is_unsafe));
            if message.chars().count() <= LONGEST_VALUE && value.get("cut").is_none() {
                prop_assert_eq!(&value["message"], &json!(message));
            }
        }
    }
}
