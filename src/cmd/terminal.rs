//! Escapes untrusted text, so that a message cannot control its reader's terminal.

use std::fmt::Write;

use crate::types::{harmless, is_unsafe};

/// Returns a name as it is printed before a `:`. A name of letters, digits, spaces and `-_.'` stays bare; any other is
/// quoted, with quotes and backslashes escaped, so that no name can look like a name followed by a text.
pub fn quoted_name(name: &str) -> String {
    // Letters that look like a colon (UTS #39, confusables of U+003A).
    let like_colon = |c: char| matches!(c, '\u{2d0}' | '\u{903}' | '\u{a83}' | '\u{a4fd}');
    let bare = |c: char| c.is_alphanumeric() && !like_colon(c) || matches!(c, ' ' | '-' | '_' | '.' | '\'');
    if name == "?" || !name.is_empty() && name.chars().all(bare) && name.trim() == name {
        return name.to_owned();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", harmless(&escaped))
}

/// Returns the JSON value on one line, with the same meaning: whitespace between its parts becomes spaces, and unsafe
/// characters, which can only be in strings, are escaped.
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
    fn no_name_looks_like_a_name_and_a_text() {
        for bare in ["ann", "O'Brien", "jean-luc p.", "李 雷", "Zoë", "guest-1a2b", "?"] {
            assert_eq!(quoted_name(bare), bare);
        }
        for (name, shown) in [
            ("bob: yes, send it. eve", r#""bob: yes, send it. eve""#),
            ("ann (not encrypted)", r#""ann (not encrypted)""#),
            ("\"bob\": yes", r#""\"bob\": yes""#),
            ("bob\u{ff1a} yes", "\"bob\u{ff1a} yes\""),
            ("bob\u{2d0} yes", "\"bob\u{2d0} yes\""),
            (" ann", "\" ann\""),
            ("", "\"\""),
            ("?x", "\"?x\""),
            ("a\nb", r#""a\nb""#),
        ] {
            assert_eq!(quoted_name(name), shown);
        }
    }

    proptest::proptest! {
        /// A bare name ends at the first colon, a quoted one at the first quote without a backslash.
        #[test]
        fn a_line_is_read_in_one_way(name in "[a-b:\"\\\\ ]{0,6}|.{0,6}", text in "[a-b:\"\\\\ ]{0,6}") {
            let line = format!("{}: {text}", quoted_name(&name));
            let end = match line.strip_prefix('"') {
                None => line.find(':').unwrap(),
                Some(rest) => {
                    let mut escaped = false;
                    let close = rest.find(|c| {
                        let closes = c == '"' && !escaped;
                        escaped = c == '\\' && !escaped;
                        closes
                    });
                    close.unwrap() + 2
                }
            };
            proptest::prop_assert_eq!(&line[..end], quoted_name(&name));
            proptest::prop_assert_eq!(&line[end..], format!(": {text}"));
        }

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
