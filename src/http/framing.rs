//! The end of a request's body, and whether the connection stays open after it (RFC 9112 §6, §9.3; RFC 9110 §10.1.1).
//! Each header is either exactly right or refused: a proxy and a server that read a length differently see different
//! requests.

use super::headers::Headers;
use super::method::Version;
use super::problem::Problem;
use super::status::Status;

/// Length of the body that follows the head, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body: no length was announced, or a length of 0.
    None,
    /// Exactly this many bytes, at least 1 and at most the limit.
    Length(usize),
}

impl BodyLength {
    pub fn bytes(self) -> usize {
        match self {
            BodyLength::None => 0,
            BodyLength::Length(bytes) => bytes,
        }
    }
}

/// Returns the length of the body. racerd takes no chunked bodies, so the head alone determines it.
pub(super) fn body_length(headers: &Headers, version: Version, max_body: usize) -> Result<BodyLength, Problem> {
    if headers.contains("Transfer-Encoding") {
        return Err(transfer_encoding(headers, version));
    }
    let Some(value) = headers.one("Content-Length")? else {
        return Ok(BodyLength::None);
    };
    // One decimal number; `5, 5` is not, though RFC 9110 §8.6 would let us repair it. 19 digits always fit 64 bits.
    let digits = (1..=19).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    let Some(length) = value.parse::<u64>().ok().filter(|_| digits) else {
        return Err(Problem::new(Status::BadRequest, "the Content-Length header is not one decimal number"));
    };
    match usize::try_from(length) {
        Ok(0) => Ok(BodyLength::None),
        Ok(length) if length <= max_body => Ok(BodyLength::Length(length)),
        _ => Err(Problem::new(
            Status::ContentTooLarge,
            format!("the body has {length} bytes; at most {max_body} are taken"),
        )),
    }
}

/// Returns why a request with a Transfer-Encoding is refused, as every such request is (RFC 9112 §6.1, §6.3).
fn transfer_encoding(headers: &Headers, version: Version) -> Problem {
    let bad = |detail: &'static str| Problem::new(Status::BadRequest, detail);
    if version == Version::Http10 {
        return bad("HTTP/1.0 has no Transfer-Encoding");
    }
    if headers.contains("Content-Length") {
        return bad("Content-Length and Transfer-Encoding may not stand in one request");
    }
    let chunked = |coding: &str| coding.eq_ignore_ascii_case("chunked");
    let mut lines = headers.all("Transfer-Encoding");
    if lines.next().is_some_and(chunked) && lines.next().is_none() {
        return Problem::new(
            Status::LengthRequired,
            "this server takes no chunked bodies; send the body with a Content-Length",
        );
    }
    let count = headers.tokens("Transfer-Encoding").filter(|coding| chunked(coding)).count();
    let last = headers.tokens("Transfer-Encoding").last();
    let others = headers.tokens("Transfer-Encoding").any(|coding| !chunked(coding));
    if count == 1 && others && last.is_some_and(chunked) {
        Problem::new(
            Status::NotImplemented,
            "this server takes no transfer codings; send the body as it is, with a Content-Length",
        )
    } else {
        bad("the Transfer-Encoding header is malformed, or its last coding is not chunked, once")
    }
}

/// Returns whether the client waits for `100 Continue`. HTTP/1.0 knows no expectations (RFC 9110 §10.1.1).
pub(super) fn expects_continue(headers: &Headers, version: Version) -> Result<bool, Problem> {
    if version == Version::Http10 {
        return Ok(false);
    }
    let mut expects = false;
    for expectation in headers.tokens("Expect") {
        if !expectation.eq_ignore_ascii_case("100-continue") {
            return Err(Problem::new(
                Status::ExpectationFailed,
                "the only expectation that can be met here is 100-continue",
            ));
        }
        expects = true;
    }
    Ok(expects)
}

/// Returns whether the client wants the connection to stay open (RFC 9112 §9.3).
pub(super) fn keep_alive(headers: &Headers, version: Version) -> bool {
    !headers.has_token("Connection", "close")
        && (version == Version::Http11 || headers.has_token("Connection", "keep-alive"))
}
