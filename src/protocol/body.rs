//! JSON values that pass through as the text they arrived in: one pass over the bytes finds what serde_json's
//! `RawValue` accepts but other parsers choke on.

use std::fmt;

use crate::types::leading;

/// The reason to refuse a body although it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Nested deeper than the limit; a recursive reader might run out of stack.
    TooDeep,
    /// `\ud800` without its other half is not a character; strict readers refuse the whole message (RFC 7493 §2.1).
    LoneSurrogate,
    /// A number of more than [`MOST_DIGITS`]: common readers fail on it, and then on all that comes with it.
    LongNumber,
}

/// Maximum number of digits of a number, with those behind its point and in its exponent. Python refuses integers of
/// more than 4,300.
pub const MOST_DIGITS: usize = 300;

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyFault::TooDeep => "nested too deeply",
            BodyFault::LoneSurrogate => "not Unicode: half of a surrogate pair (\\ud800 to \\udfff)",
            BodyFault::LongNumber => "not for every reader: it has a number of more than 300 digits",
        })
    }
}

/// Checks a JSON value that a parser has already accepted: at most `max_depth` nested arrays and objects, every `\u`
/// surrogate in a pair, and no number longer than common readers take. One pass, no allocation.
pub fn check_body(json: &str, max_depth: usize) -> Result<(), BodyFault> {
    let bytes = json.as_bytes();
    let mut depth = 0usize;
    let mut digits = 0usize;
    let mut in_string = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if in_string {
            let plain = leading(bytes.get(at..).unwrap_or_default(), |byte| (byte != b'"') & (byte != b'\\'));
            if plain > 0 {
                at += plain;
                continue;
            }
        }
        at += 1;
        match (in_string, byte) {
            (_, b'"') => in_string = !in_string,
            (true, b'\\') => {
                if let Some(unit) = escaped_unit(bytes, at) {
                    match unit {
                        0xd800..=0xdbff => {
                            let low = (bytes.get(at + 5) == Some(&b'\\')).then(|| escaped_unit(bytes, at + 6));
                            if !matches!(low.flatten(), Some(0xdc00..=0xdfff)) {
                                return Err(BodyFault::LoneSurrogate);
                            }
                            at += 11;
                        }
                        0xdc00..=0xdfff => return Err(BodyFault::LoneSurrogate),
                        _ => at += 5,
                    }
                } else {
                    at += 1;
                }
            }
            (false, b'0'..=b'9') => {
                digits += 1;
                if digits > MOST_DIGITS {
                    return Err(BodyFault::LongNumber);
                }
            }
            // They stand between the digits of one number.
            (false, b'.' | b'e' | b'E' | b'+' | b'-') => {}
            // Whatever separates two numbers.
            (false, b',' | b':') => digits = 0,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > max_depth {
                    return Err(BodyFault::TooDeep);
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the 16-bit unit of `uXXXX` at this place, behind a backslash.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    if bytes.get(at) != Some(&b'u') {
        return None;
    }
    let digits = std::str::from_utf8(bytes.get(at + 1..at + 5)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_outside_strings_only() {
        assert_eq!(check_body("[[1]]", 2), Ok(()));
        assert_eq!(check_body("[[1]]", 1), Err(BodyFault::TooDeep));
        assert_eq!(check_body(r#"["[[[[\"[["]"#, 1), Ok(()));
        assert_eq!(check_body(r#"{"a":{"b":[]}}"#, 3), Ok(()));
        assert_eq!(check_body(&"[".repeat(65), 64), Err(BodyFault::TooDeep));
        assert_eq!(check_body(r#"[[],[],[]]"#, 2), Ok(()));
    }

    #[test]
    fn numbers_have_at_most_three_hundred_digits() {
        let ones = |count: usize| "1".repeat(count);
        for good in [
            ones(300),
            format!("-{}.{}E-{}", ones(100), ones(100), ones(100)),
            format!("[{0},{0} , {0}]", ones(300)),
            format!("{{\"a\":{0},\"b\":[[{0}]],\"c\":true,\"{1}\":{0}}}", ones(300), ones(5_000)),
            format!("\"{}\"", ones(5_000)),
        ] {
            assert_eq!(check_body(&good, 64), Ok(()), "{good}");
        }
        for bad in [
            ones(301),
            format!("[{}]", ones(4_301)),
            format!("-0.{}", ones(300)),
            format!("{}e+{}", ones(150), ones(151)),
            format!("{{\"a\":[true,{}]}}", ones(301)),
        ] {
            assert_eq!(check_body(&bad, 64), Err(BodyFault::LongNumber), "{bad}");
        }
    }

    #[test]
    fn surrogates_come_in_pairs() {
        for good in [r#""\ud83d\ude00""#, r#""\u00e9\\ud800""#, r#""\uD83D\uDE00\n""#, r#""\u0000""#, r#""\\""#] {
            assert_eq!(check_body(good, 64), Ok(()), "{good}");
        }
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx\ude00""#,
            r#""\ud83d\ud83d""#,
            r#"{"\udfff":1}"#,
            r#""\ud83d\n""#,
        ] {
            assert_eq!(check_body(bad, 64), Err(BodyFault::LoneSurrogate), "{bad}");
        }
    }
}
