//! What comes from others, made harmless: so that nobody who talks in a room can drive the terminal of who reads it.

use crate::server::log::is_unsafe;
use std::fmt::Write;

/// Text on one line: what would end it, steer a terminal, reorder or hide text is written out, as `\n` or `\u{1b}`. The
/// two joiners stay, since scripts and emoji need them.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200c}' | '\u{200d}' => out.push(c),
            c if is_unsafe(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// A JSON value on one line that means the same: space between its parts is a blank, and inside its strings, where alone
/// they can be, such characters are escaped.
pub fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(harmless("\u{1b}]0;x\u{7}a\nbob: b\u{202e}\u{9b}2J"), r"\u{1b}]0;x\u{7}a\nbob: b\u{202e}\u{9b}2J");
        for plain in ["it's \"so\" \\ so", "李 雷", "👩\u{200d}👩\u{200d}👧"] {
            assert_eq!(harmless(plain), plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn json_stays_what_it_was(text in ".*") {
            let value = Value::from(text);
            let pretty = serde_json::to_string_pretty(&serde_json::json!([value, {"a": value}])).unwrap();
            let line = harmless_json(&pretty);
            proptest::prop_assert!(!line.chars().any(is_unsafe), "{}", line);
            proptest::prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), serde_json::from_str::<Value>(&pretty).unwrap());
        }
    }
}
