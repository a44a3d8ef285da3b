//! A message from the server: one JSON object, whose fields keep the text in which they arrived. A body is handed on as
//! it was written, and no number is rounded. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::types::MAX_NUMBER;

/// One object from the server.
#[derive(Debug)]
pub struct ServerMessage<'a> {
    text: &'a str,
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> ServerMessage<'a> {
    /// Reads one object; `None` if the text is not one.
    pub fn parse(text: &'a str) -> Option<ServerMessage<'a>> {
        let fields = serde_json::from_str(text).ok()?;
        Some(ServerMessage { text, fields })
    }

    /// Returns the object as it arrived.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the field's JSON.
    pub fn raw(&self, field: &str) -> Option<&'a str> {
        self.fields.get(field).map(|raw| raw.get())
    }

    /// Returns a field that is a string, unescaped.
    pub fn string(&self, field: &str) -> Option<String> {
        serde_json::from_str(self.raw(field)?).ok()
    }

    /// Returns a field that is a whole number of the protocol. A number above [`MAX_NUMBER`] counts as absent, so that
    /// sums of a few of them cannot overflow.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.raw(field)?.parse().ok().filter(|number| *number <= MAX_NUMBER)
    }

    /// Returns a field that is an object.
    pub fn object(&self, field: &str) -> Option<ServerMessage<'a>> {
        ServerMessage::parse(self.raw(field)?)
    }
}

/// Returns the `detail` of a problem (RFC 9457 §3.1.4), or nothing.
pub fn detail_of(problem: &[u8]) -> String {
    let text = String::from_utf8_lossy(problem);
    ServerMessage::parse(&text).and_then(|problem| problem.string("detail")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_the_text_they_were() {
        let text = r#"{"type":"message","seq":42,"from":{"name":"a\u0062"},"body":[1e400, 0.10]}"#;
        let message = ServerMessage::parse(text).unwrap();
        assert_eq!((message.number("seq"), message.raw("body")), (Some(42), Some("[1e400, 0.10]")));
        assert_eq!(message.object("from").unwrap().string("name").as_deref(), Some("ab"));
        assert_eq!((message.number("type"), message.string("seq"), message.number("at")), (None, None, None));
        let large =
            ServerMessage::parse(r#"{"most":9007199254740992,"more":9007199254740993,"seq":18446744073709551615}"#)
                .unwrap();
        assert_eq!((large.number("most"), large.number("more"), large.number("seq")), (Some(MAX_NUMBER), None, None));
        for bad in ["", "[]", "1", "{", "{} {}"] {
            assert!(ServerMessage::parse(bad).is_none(), "{bad}");
        }
    }
}
