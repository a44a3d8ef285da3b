//! Writes JSON (RFC 8259) to the end of a buffer, member by member, without a tree of values in between.

/// An object that is being written. [`Object::end`] closes it.
#[must_use = "the object is closed by `end`"]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    /// Begins an object of the protocol, whose first member is its type.
    pub fn of_type(out: &'a mut Vec<u8>, kind: &'static str) -> Object<'a> {
        Object::new(out).plain("type", kind)
    }

    /// Adds a string.
    pub fn string(mut self, name: &'static str, value: &str) -> Object<'a> {
        self.name(name);
        write_string(self.out, value);
        self
    }

    /// Adds a string of characters that need no escaping.
    pub fn plain(mut self, name: &'static str, value: &str) -> Object<'a> {
        debug_assert!(is_plain(value), "{value:?} needs escaping");
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
        self
    }

    /// Adds a number.
    pub fn number(mut self, name: &'static str, value: u64) -> Object<'a> {
        self.name(name);
        write_number(self.out, value);
        self
    }

    /// Adds a boolean.
    pub fn flag(mut self, name: &'static str, value: bool) -> Object<'a> {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// Adds `true` if the value is true; otherwise adds nothing.
    pub fn mark(self, name: &'static str, value: bool) -> Object<'a> {
        if value { self.flag(name, true) } else { self }
    }

    /// Adds a value that is already JSON.
    pub fn json(mut self, name: &'static str, value: &str) -> Object<'a> {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds the one JSON value that `write` appends.
    pub fn value(mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) -> Object<'a> {
        self.name(name);
        write(self.out);
        self
    }

    /// Adds an array; `write` appends each item as one JSON value.
    pub fn array<T>(
        mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) -> Object<'a> {
        self.name(name);
        self.out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self.out, item);
        }
        self.out.push(b']');
        self
    }

    /// Adds a number under a name that is known only at run time, and may contain any character.
    pub fn entry(mut self, name: &str, value: u64) -> Object<'a> {
        self.separate();
        write_string(self.out, name);
        self.out.push(b':');
        write_number(self.out, value);
        self
    }

    /// Calls `add` with the value, if there is one.
    pub fn optional<T>(self, value: Option<T>, add: impl FnOnce(Object<'a>, T) -> Object<'a>) -> Object<'a> {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &'static str) {
        debug_assert!(is_plain(name), "{name:?} needs escaping");
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn separate(&mut self) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
    }
}

/// Returns whether text needs no escaping in a JSON string.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))
}

/// Appends `text` as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok());
}

/// Appends a number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    let mut rest = number;
    // Two digits at a time: a division takes longer than both.
    while rest > 0 {
        let pair = (rest % 100) as u8;
        rest /= 100;
        start -= 2;
        digits[start] += pair / 10;
        digits[start + 1] += pair % 10;
    }
    // An odd number of digits has a zero before it, and zero itself has none yet.
    if number == 0 {
        start -= 1;
    } else if digits[start] == b'0' {
        start += 1;
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(out: &[u8]) -> Value {
        serde_json::from_slice(out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(out)))
    }

    #[test]
    fn numbers_have_no_leading_zeros() {
        let powers = (0..20).map(|exponent| 10u64.pow(exponent));
        for number in powers.flat_map(|power| [power - 1, power, power + 1, power.saturating_mul(9)]).chain([u64::MAX])
        {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out), Ok(number.to_string()));
        }
    }

    #[test]
    fn members_of_every_kind() {
        let mut out = b"before ".to_vec();
        Object::of_type(&mut out, "ack")
            .string("name", "a\"\u{1}\u{7f}é")
            .number("seq", u64::MAX)
            .flag("yes", true)
            .flag("no", false)
            .mark("marked", true)
            .mark("not marked", false)
            .json("body", "[1, 2]")
            .value("inner", |out| Object::new(out).end())
            .array("list", [1, 2], write_number)
            .array("none", [0; 0], write_number)
            .optional(Some(7), |object, id| object.number("id", id))
            .optional(None, |object, id| object.number("other", id))
            .end();
        let object = out.strip_prefix(b"before ").unwrap();
        let expected = json!({
            "type": "ack", "name": "a\"\u{1}\u{7f}é", "seq": u64::MAX, "yes": true, "no": false, "marked": true, "body": [1, 2],
            "inner": {}, "list": [1, 2], "none": [], "id": 7,
        });
        assert_eq!(read(object), expected);
    }

    #[test]
    fn numbers() {
        for n in [0, 7, 10, 1_790_000_000_123, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, n);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    #[test]
    fn an_object_without_members_and_one_of_names_that_are_data() {
        let mut out = Vec::new();
        Object::new(&mut out).end();
        assert_eq!(out, b"{}");
        out.clear();
        Object::new(&mut out).entry("a\"", 1).entry("b", 2).end();
        assert_eq!(out, br#"{"a\"":1,"b":2}"#);
    }

    proptest! {
        #[test]
        fn any_string_and_number_come_back(text: String, number: u64) {
            let mut out = Vec::new();
            Object::new(&mut out).string("text", &text).number("number", number).entry(&text, number).end();
            let expected: Value = [("text", json!(text)), ("number", json!(number)), (text.as_str(), json!(number))]
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect();
            prop_assert_eq!(read(&out), expected);
        }
    }
}
