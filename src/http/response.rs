//! Writes answers: status line, headers, body. The date comes in as text; there is no clock here.

use core::time::Duration;
use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use super::status::Status;

/// The interim answer to `Expect: 100-continue` (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: Status,
    headers: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Empty,
    Whole {
        media_type: &'static str,
        bytes: Cow<'static, [u8]>,
    },
    /// The body follows later and ends with the connection.
    Stream {
        media_type: &'static str,
    },
}

/// The circumstances in which an answer is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// An IMF-fixdate ([`imf_fixdate`]); `None` if the clock cannot be trusted (RFC 9110 §6.6.1).
    pub date: Option<&'a str>,
    /// Whether another request may follow on the connection. A stream ends it in any case.
    pub keep_alive: bool,
    /// The request was a HEAD: the same headers and no body (RFC 9110 §9.3.2).
    pub to_head: bool,
}

impl Response {
    /// Makes an answer without a body.
    pub fn empty(status: Status) -> Response {
        Response { status, headers: Vec::new(), content: Content::Empty }
    }

    /// Makes an answer with a body.
    pub fn whole(status: Status, media_type: &'static str, bytes: impl Into<Cow<'static, [u8]>>) -> Response {
        Response { status, headers: Vec::new(), content: Content::Whole { media_type, bytes: bytes.into() } }
    }

    /// Makes an answer that is true only now: no cache keeps it, and no browser guesses its type.
    pub fn of_api(status: Status, media_type: &'static str, bytes: impl Into<Cow<'static, [u8]>>) -> Response {
        Response::whole(status, media_type, bytes)
            .header("Cache-Control", "no-store")
            .header("X-Content-Type-Options", "nosniff")
    }

    /// Makes the head of an answer whose body is written later, piece by piece, and ends with the connection.
    pub fn stream(media_type: &'static str) -> Response {
        Response { status: Status::Ok, headers: Vec::new(), content: Content::Stream { media_type } }
            .header("Cache-Control", "no-store")
            .header("X-Content-Type-Options", "nosniff")
            // Otherwise nginx would buffer the stream.
            .header("X-Accel-Buffering", "no")
    }

    /// Adds one more header. Characters not allowed in a value (RFC 9110 §5.5) become spaces, so that no value,
    /// whatever its source, can end its line. Not for `Connection`, `Content-Length`, `Content-Type` or `Date`.
    pub fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Response {
        self.add_header(name, value);
        self
    }

    /// Adds one more header, as [`Response::header`] does.
    pub fn add_header(&mut self, name: &'static str, value: impl AsRef<str>) {
        let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { ' ' };
        self.headers.push((name, value.as_ref().chars().map(visible).collect()));
    }

    /// Appends the answer to `out`.
    pub fn write(&self, out: &mut Vec<u8>, sending: Sending<'_>) {
        let body = self.begin(out, sending);
        out.extend_from_slice(body);
    }

    /// Appends the answer to `out`, except for a static body: that one is returned, to be sent without a copy.
    pub fn write_uncopied(&self, out: &mut Vec<u8>, sending: Sending<'_>) -> &'static [u8] {
        let body = self.begin(out, sending);
        match &self.content {
            Content::Whole { bytes: Cow::Borrowed(bytes), .. } if !body.is_empty() => bytes,
            _ => {
                out.extend_from_slice(body);
                &[]
            }
        }
    }

    /// Appends the head to `out` and returns the body that follows.
    fn begin(&self, out: &mut Vec<u8>, sending: Sending<'_>) -> &[u8] {
        put(out, format_args!("HTTP/1.1 {} {}\r\n", self.status.code(), self.status.reason()));
        if let Some(date) = sending.date {
            put(out, format_args!("Date: {date}\r\n"));
        }
        let bodiless = self.status.is_bodiless();
        match &self.content {
            _ if bodiless => {}
            Content::Empty => put(out, format_args!("Content-Length: 0\r\n")),
            Content::Whole { media_type, bytes } => {
                put(out, format_args!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", bytes.len()));
            }
            Content::Stream { media_type } => put(out, format_args!("Content-Type: {media_type}\r\n")),
        }
        // Always sent: an HTTP/1.0 client takes its absence for close, an HTTP/1.1 client for keep-alive.
        let stays = sending.keep_alive && !matches!(self.content, Content::Stream { .. });
        // A sender of Upgrade names it in Connection, so that no proxy passes it on (RFC 9110 §7.8).
        let upgrade = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        put(
            out,
            format_args!(
                "Connection: {}{}\r\n",
                if upgrade { "Upgrade, " } else { "" },
                if stays { "keep-alive" } else { "close" }
            ),
        );
        for (name, value) in &self.headers {
            put(out, format_args!("{name}: {value}\r\n"));
        }
        out.extend_from_slice(b"\r\n");
        match &self.content {
            Content::Whole { bytes, .. } if !sending.to_head && !bodiless => bytes,
            _ => &[],
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.extend_from_slice(text.to_string().as_bytes());
}

/// Formats seconds since 1970 as an HTTP date (RFC 9110 §5.6.7). A date after the year 9999, the last with four digits,
/// becomes that year's last second.
pub fn imf_fixdate(unix_seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Problem;
    use proptest::prelude::*;

    fn written(response: &Response, keep_alive: bool, to_head: bool) -> String {
        let mut out = b"before ".to_vec();
        response.write(&mut out, Sending { date: Some("Sun, 06 Nov 1994 08:49:37 GMT"), keep_alive, to_head });
        String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned()
    }

    #[test]
    fn an_answer_in_full() {
        let response = Response::of_api(Status::Created, "application/json", &b"{\"seq\":1}"[..]);
        let head = "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
            Content-Length: 9\r\nConnection: keep-alive\r\nCache-Control: no-store\r\n\
            X-Content-Type-Options: nosniff\r\n\r\n";
        assert_eq!(written(&response, true, false), format!("{head}{{\"seq\":1}}"));
        assert_eq!(written(&response, true, true), head);
    }

    #[test]
    fn a_body_of_the_program_is_not_copied() {
        let sending = |to_head| Sending { date: None, keep_alive: true, to_head };
        let split = |response: Response, to_head| {
            let mut out = Vec::new();
            let body = response.write_uncopied(&mut out, sending(to_head));
            (String::from_utf8(out).unwrap(), body)
        };
        static BODY: &[u8] = b"body";
        let (head, body) = split(Response::whole(Status::Ok, "text/plain", BODY), false);
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(std::ptr::eq(body, BODY));
        let (same_head, body) = split(Response::whole(Status::Ok, "text/plain", BODY), true);
        assert_eq!((same_head, body), (head.clone(), &[][..]));
        let (whole, body) = split(Response::whole(Status::Ok, "text/plain", BODY.to_vec()), false);
        assert_eq!((whole, body), (head + "body", &[][..]));
    }

    #[test]
    fn without_a_body() {
        for (response, expected) in [
            (Response::empty(Status::Ok), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            (Response::empty(Status::NoContent), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
            (
                Response::whole(Status::NotModified, "text/html", &b"x"[..]),
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
            ),
        ] {
            let mut out = Vec::new();
            response.write(&mut out, Sending { date: None, keep_alive: false, to_head: false });
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_stream_ends_with_the_connection() {
        let text = written(&Response::stream("text/event-stream"), true, false);
        assert!(text.contains("Content-Type: text/event-stream\r\n"), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
        assert!(!text.contains("Content-Length"), "{text}");
    }

    #[test]
    fn upgrade_is_named_in_connection() {
        let problem = Problem::new(Status::UpgradeRequired, "x").header("Upgrade", "websocket");
        let text = written(&problem.into_response(), false, false);
        assert_eq!(text.matches("Connection:").count(), 1);
        assert!(text.contains("Connection: Upgrade, close\r\n"), "{text}");
        assert!(text.contains("Upgrade: websocket\r\n"), "{text}");
        assert!(text.contains("Content-Type: application/problem+json\r\n"), "{text}");
    }

    proptest! {
        /// A value stays on its line, whatever characters it has.
        #[test]
        fn no_value_ends_its_line(value in "[\\x00-\\x20a:\\u{7f}-\\u{9f}\\u{2028}\\r\\n]{0,20}") {
            let text = written(&Response::empty(Status::Ok).header("X", &value), true, false);
            let lines: Vec<&str> = text.split("\r\n").collect();
            prop_assert_eq!(lines.len(), 7);
            prop_assert!(lines[4].starts_with("X: "));
            prop_assert!(lines.iter().all(|line| line.chars().all(|c| c == ' ' || c.is_ascii_graphic())));
        }
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_704_067_199, "Sun, 31 Dec 2023 23:59:59 GMT"),
            (1_735_603_200, "Tue, 31 Dec 2024 00:00:00 GMT"),
            (1_790_000_000, "Mon, 21 Sep 2026 14:13:20 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds), expected);
        }
    }
}
