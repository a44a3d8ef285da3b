//! Refusals as `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use super::response::Response;
use super::status::Status;

/// Why a request is refused, in words for the person who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: Status,
    /// What happened and what to do about it.
    pub detail: Cow<'static, str>,
    /// Nothing that follows on this connection may be read as HTTP: where the next request begins is not known, or a
    /// proxy may by now pass everything on unseen (a refused upgrade).
    pub close: bool,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    members: Vec<(&'static str, Cow<'static, str>)>,
}

impl Problem {
    pub fn new(status: Status, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, detail: detail.into(), close: false, headers: Vec::new(), members: Vec::new() }
    }

    /// The same, and the connection ends with it.
    pub fn closing(self) -> Problem {
        Problem { close: true, ..self }
    }

    /// The same with one more header of the answer.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Problem {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with one more member of the JSON object (RFC 9457 §3.2), such as the `field` at fault.
    pub fn member(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Problem {
        self.members.push((name, value.into()));
        self
    }

    /// The answer: status, headers and the JSON body.
    pub fn into_response(self) -> Response {
        let body = self.to_json().into_bytes();
        let response = Response::of_api(self.status, "application/problem+json", body);
        self.headers.into_iter().fold(response, |response, (name, value)| response.header(name, value))
    }

    fn to_json(&self) -> String {
        let mut json = String::from(r#"{"type":"about:blank","title":"#);
        push_json_string(&mut json, self.status.reason());
        json.push_str(&format!(r#","status":{},"detail":"#, self.status.code()));
        push_json_string(&mut json, &self.detail);
        for (name, value) in &self.members {
            json.push(',');
            push_json_string(&mut json, name);
            json.push(':');
            push_json_string(&mut json, value);
        }
        json.push('}');
        json
    }
}

/// Appends text as a JSON string (RFC 8259 §7).
fn push_json_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_carries_any_words(detail: String, field: String) {
            let problem = Problem::new(Status::NotFound, detail.clone()).member("field", field.clone());
            let read: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
            prop_assert_eq!(
                read,
                serde_json::json!({
                    "type": "about:blank", "title": "Not Found", "status": 404, "detail": detail, "field": field,
                })
            );
        }
    }

    #[test]
    fn json_as_it_is_sent() {
        assert_eq!(
            Problem::new(Status::BadRequest, "a \"b\" \\ \n é").to_json(),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"a \"b\" \\ \u000a é"}"#
        );
    }
}
