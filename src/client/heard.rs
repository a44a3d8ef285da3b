//! What a server says, one JSON object, with its fields as the text that they came in: a body is handed on as it was
//! written, and no number is rounded. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::types::MAX_NUMBER;

/// One object that a server said.
#[derive(Debug)]
pub struct Heard<'a> {
    text: &'a str,
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Heard<'a> {
    /// Reads one object; `None` if it is none.
    pub fn parse(text: &'a str) -> Option<Heard<'a>> {
        let fields = serde_json::from_str(text).ok()?;
        Some(Heard { text, fields })
    }

    /// The objects of a sealed message, one behind the other; `None` at the first thing that is no object.
    pub fn each(texts: &str) -> impl Iterator<Item = Option<&str>> {
        let values = serde_json::Deserializer::from_str(texts).into_iter::<&RawValue>();
        values.map(|value| value.ok().map(RawValue::get))
    }

    /// The object as it came.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The field's JSON.
    pub fn raw(&self, field: &str) -> Option<&'a str> {
        self.fields.get(field).map(|raw| raw.get())
    }

    /// A field that is a string, unescaped.
    pub fn string(&self, field: &str) -> Option<String> {
        serde_json::from_str(self.raw(field)?).ok()
    }

    /// A field that is a whole number of the protocol, at most [`MAX_NUMBER`]: sums of a few of them overflow nothing. A larger
    /// one counts as absent.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.raw(field)?.parse().ok().filter(|number| *number <= MAX_NUMBER)
    }

    /// A field that is an object.
    pub fn object(&self, field: &str) -> Option<Heard<'a>> {
        Heard::parse(self.raw(field)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_the_text_they_were() {
        let text = r#"{"type":"message","seq":42,"from":{"name":"a\u0062"},"body":[1e400, 0.10]}"#;
        let heard = Heard::parse(text).unwrap();
        assert_eq!((heard.number("seq"), heard.raw("body")), (Some(42), Some("[1e400, 0.10]")));
        assert_eq!(heard.object("from").unwrap().string("name").as_deref(), Some("ab"));
        assert_eq!((heard.number("type"), heard.string("seq"), heard.number("at")), (None, None, None));
        let large =
            Heard::parse(r#"{"most":9007199254740992,"more":9007199254740993,"seq":18446744073709551615}"#).unwrap();
        assert_eq!((large.number("most"), large.number("more"), large.number("seq")), (Some(1 << 53), None, None));
        for bad in ["", "[]", "1", "{", "{} {}"] {
            assert!(Heard::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn several_objects_with_line_feeds_between_and_within() {
        let each: Vec<_> = Heard::each("{\"a\":1}\n{\"b\":\n2}\n").collect();
        assert_eq!(each, [Some("{\"a\":1}"), Some("{\"b\":\n2}")]);
        assert_eq!(Heard::each("{} nonsense").collect::<Vec<_>>(), [Some("{}"), None]);
    }
}
