//! Bodies of messages: JSON of many kinds, each with a unique number by which it is recognised.

use racerd::testing::Random;
use serde_json::Value;

use super::encryption::{About, Sealed};

/// Draws the text of a body with this number, of at most `most` bytes (and at least 120). With `breaks` it may contain
/// line ends between its tokens.
pub fn draw(number: u64, index: usize, most: usize, breaks: bool, random: &mut Random) -> String {
    let begin = format!("{number}:{index}");
    let fixed = begin.len() + 110;
    let pad = random.magnitude((1, most.saturating_sub(fixed).max(1) as u64)) as usize - 1;
    match random.below(if breaks { 10 } else { 9 }) {
        0 => format!("\"{begin}\\n\\r\\t\\\"\\\\\\/\\u0000\\u2028\\ud83d\\ude00{:.<pad$}\"", ""),
        1 => format!("\"{begin} \u{2028}\u{85}\u{7f}\u{e9}\u{1f600}{:\u{e9}<1$}\"", "", pad / 2),
        2 => format!("{{\"n\":\"{begin}\",\"text\":\"{:.<pad$}\",\"deep\":{{\"a\":[1,2.5e3,null,{{\"b\":[]}}]}}}}", ""),
        3 => format!("[\"{begin}\",-0,9007199254740993,true,\"{:.<pad$}\"]", ""),
        9 => format!("[\"{begin}\",\n\n2,\r\n{{ \"a\"\r:\t3 }},\r\"{:.<pad$}\"\n]", ""),
        _ => format!("\"{begin}{:.<pad$}\"", ""),
    }
}

/// Returns the number of a body, wherever it stands in it. No two bodies have the same.
pub fn number(body: &Value) -> u64 {
    let text = match body {
        Value::String(text) => text,
        Value::Object(fields) if fields.contains_key("e2e") => {
            return match Sealed::of(body).and_then(|sealed| sealed.about()) {
                Some(About::Message(number)) => number,
                _ => u64::MAX,
            };
        }
        Value::Object(fields) => return fields.get("n").map_or(u64::MAX, number),
        Value::Array(items) => return items.first().map_or(u64::MAX, number),
        _ => return u64::MAX,
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(u64::MAX)
}
