//! Refusals: `application/problem+json` (RFC 9457) for programs, a page for people who use a browser.

use std::borrow::Cow;

use super::response::Response;
use super::status::Status;
use crate::json::Object;

/// The reason for a refusal, in words for the sender of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: Status,
    /// What happened and what to do about it.
    pub detail: Cow<'static, str>,
    /// Nothing after this request may be read as HTTP: it is unknown where the next request begins, or a proxy may by
    /// now pass everything on unseen (a refused upgrade).
    pub close: bool,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    members: Vec<(&'static str, Cow<'static, str>)>,
}

impl Problem {
    pub fn new(status: Status, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, detail: detail.into(), close: false, headers: Vec::new(), members: Vec::new() }
    }

    /// Refuses with 503 and the seconds until another attempt makes sense.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u64) -> Problem {
        Problem::new(Status::ServiceUnavailable, detail).header("Retry-After", retry_after.to_string())
    }

    /// Refuses with 503: the server is stopping, and another may take its place in a moment.
    pub fn stopping() -> Problem {
        Problem::unavailable("the server is shutting down", 2)
    }

    /// Refuses with 503 and closes the connection: the server has reached its connection limit.
    pub fn full() -> Problem {
        let detail = "the server is full: it has as many connections as it may have; try again later";
        Problem::unavailable(detail, 5).member("code", "full").closing()
    }

    /// Refuses with 429 and the milliseconds until another attempt makes sense, sent as whole seconds.
    pub fn too_many(detail: &'static str, retry_after_ms: u64) -> Problem {
        Problem::new(Status::TooManyRequests, detail)
            .header("Retry-After", retry_after_ms.div_ceil(1000).max(1).to_string())
    }

    /// Makes the refusal close the connection.
    pub fn closing(self) -> Problem {
        Problem { close: true, ..self }
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Problem {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a member to the JSON object (RFC 9457 §3.2), such as the `field` at fault.
    pub fn member(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Problem {
        self.members.push((name, value.into()));
        self
    }

    /// Returns the answer: status, headers and the JSON body.
    pub fn into_response(self) -> Response {
        self.shown_as(Shown::Json)
    }

    /// Returns the answer with its body in this form.
    pub fn shown_as(self, shown: Shown) -> Response {
        let response = match shown {
            Shown::Json => Response::of_api(self.status, "application/problem+json", self.to_json()),
            Shown::Page { up } => {
                Response::of_api(self.status, "text/html; charset=utf-8", self.to_html(up).into_bytes())
                    .header("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
                    .header("Referrer-Policy", "no-referrer")
            }
        };
        self.headers.into_iter().fold(response, |response, (name, value)| response.header(name, value))
    }

    fn to_html(&self, up: Option<u8>) -> String {
        let (code, title) = (self.status.code(), self.status.reason());
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{code} {title}</title>\n<h1>{title}</h1>\n<p>"
        );
        let mut detail = self.detail.chars();
        if let Some(first) = detail.next() {
            push_html(&mut html, first.to_uppercase().chain(detail));
        }
        html.push_str(".</p>\n");
        if let Some(up) = up {
            // Relative, because a proxy may serve us under a path of its own.
            let way = if up == 0 { "./".to_string() } else { "../".repeat(usize::from(up)) };
            html.push_str(&format!("<p><a href=\"{way}\">All rooms</a></p>\n"));
        }
        html
    }

    fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let object = Object::new(&mut out)
            .plain("type", "about:blank")
            .plain("title", self.status.reason())
            .number("status", self.status.code().into())
            .string("detail", &self.detail);
        self.members.iter().fold(object, |object, (name, value)| object.string(name, value)).end();
        out
    }
}

/// The form of a refusal's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    #[default]
    Json,
    /// A page with a link to the page at the root, which lies `up` folders above; `None` if the depth is unknown.
    Page { up: Option<u8> },
}

impl Shown {
    /// Chooses by the items of `Accept` (RFC 9110 §12.5.1): a page for clients that name HTML and weigh it above JSON,
    /// as browsers do for pages; JSON for all others. Programs send `*/*`.
    pub fn of<'a>(accept: impl Iterator<Item = &'a str>, up: Option<u8>) -> Shown {
        let (mut html, mut json) = (0, 0);
        for item in accept {
            let (range, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = weight(parameters);
            match range.trim().to_ascii_lowercase().as_str() {
                "text/html" | "application/xhtml+xml" => html = weight.max(html),
                "application/json" | "application/problem+json" => json = weight.max(json),
                _ => {}
            }
        }
        if html > json { Shown::Page { up } } else { Shown::Json }
    }
}

/// Returns `q` in thousandths (RFC 9110 §12.4.2); 1000 if absent, 0 if malformed.
fn weight(parameters: &str) -> u32 {
    let q = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(q) = q else { return 1000 };
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" => 1000,
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Appends text to HTML, escaped so that none of it is markup.
fn push_html(html: &mut String, text: impl Iterator<Item = char>) {
    for c in text {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::Headers;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_carries_any_words(detail: String, field: String) {
            let problem = Problem::new(Status::NotFound, detail.clone()).member("field", field.clone());
            let read: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
            prop_assert_eq!(
                read,
                serde_json::json!({
                    "type": "about:blank", "title": "Not Found", "status": 404, "detail": detail, "field": field,
                })
            );
        }
    }

    #[test]
    fn browsers_get_a_page_and_programs_get_json() {
        let page = Shown::Page { up: Some(2) };
        for (lines, expected) in [
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"] as &[&str], page),
            (&["text/html"], page),
            (&["TEXT/HTML ; q=0.5", "application/json;q=0.4"], page),
            (&["application/xhtml+xml"], page),
            (&["text/html;level=1;q=1.000"], page),
            (&["*/*"], Shown::Json),
            (&[], Shown::Json),
            (&["application/json"], Shown::Json),
            (&["application/json, text/html"], Shown::Json),
            (&["text/html;q=0"], Shown::Json),
            (&["text/html;q=0.0005"], Shown::Json),
            (&["text/html;q=x, text/htmlx, text/*"], Shown::Json),
            (&["text/event-stream"], Shown::Json),
        ] {
            let headers = Headers::collect(lines.iter().map(|line| ("Accept", line.as_bytes())));
            assert_eq!(Shown::of(headers.tokens("Accept"), Some(2)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_page_shows_the_reason_and_the_way_home_and_runs_nothing() {
        let html = |up| {
            let mut out = Vec::new();
            let sending = crate::http::response::Sending { date: None, keep_alive: true, to_head: false };
            let problem =
                Problem::new(Status::NotFound, "no <b>\"room\"</b> & nothing else").header("Retry-After", "3");
            problem.shown_as(Shown::Page { up }).write(&mut out, sending);
            String::from_utf8(out).unwrap()
        };
        let text = html(Some(3));
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\nContent-Type: text/html; charset=utf-8\r\n"), "{text}");
        assert!(
            text.contains("\r\nRetry-After: 3\r\n") && text.contains("Content-Security-Policy: default-src 'none'")
        );
        assert!(text.contains("<p>No &lt;b&gt;&quot;room&quot;&lt;/b&gt; &amp; nothing else.</p>"), "{text}");
        assert!(text.contains("<a href=\"../../../\">"), "{text}");
        assert!(html(Some(0)).contains("<a href=\"./\">") && !html(None).contains("<a "));
    }

    #[test]
    fn json_as_it_is_sent() {
        assert_eq!(
            Problem::new(Status::BadRequest, "a \"b\" \\ \n é").to_json(),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"a \"b\" \\ \n é"}"#.as_bytes()
        );
    }
}
