//! Reads one whole request head (RFC 9112 §3): httparse splits it, and this module checks the meaning of its parts.

use std::mem::MaybeUninit;

use super::authority::Authority;
use super::framing::{self, BodyLength};
use super::headers::Headers;
use super::limits::{HeadLimits, MAX_FIELDS};
use super::method::{Method, Version};
use super::problem::Problem;
use super::status::Status;
use super::target::Target;

/// A request without its body. Lives only while it is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    /// The host that the request addresses: the authority of an absolute target, else the Host header. `None` if an
    /// HTTP/1.0 client named none.
    pub authority: Option<Authority>,
    pub version: Version,
    pub headers: Headers,
    pub body: BodyLength,
    /// Whether the client expects to send more requests on this connection (RFC 9112 §9.3). Never if it asks for an
    /// upgrade: a proxy that saw the request may pass later bytes on unseen, so they are not read as HTTP if the
    /// upgrade isn't granted.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`, or for a final answer, before it sends the body.
    pub expects_continue: bool,
}

/// Reads a head that ends in its empty line. Every refusal must close the connection; `fields` then still holds the
/// header fields that could be read.
pub(super) fn parse(head: &[u8], limits: &HeadLimits, fields: &mut Headers) -> Result<Request, Problem> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parts = httparse::Request::new(&mut []);
    match parts.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(malformed("the request head is malformed")),
        Err(error) => return Err(explain(error, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parts.method, parts.path, parts.version) else {
        return Err(malformed("the request line is malformed"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::parse(method).ok_or_else(unknown_method)?;
    *fields = Headers::collect(parts.headers.iter().map(|field| (field.name, field.value)));
    let headers = &*fields;

    let host = host(headers, version)?;
    let (target, authority) = Target::parse(target, method)?;
    let body = framing::body_length(headers, version, limits.max_body)?;
    let expects_continue = framing::expects_continue(headers, version)? && body != BodyLength::None;
    let keep_alive = framing::keep_alive(headers, version) && !headers.contains("upgrade");
    let authority = authority.or(host);
    let headers = std::mem::take(fields);
    Ok(Request { method, target, authority, version, headers, body, keep_alive, expects_continue })
}

pub(super) fn unknown_method() -> Problem {
    Problem::new(
        Status::NotImplemented,
        "this method is not known here; methods are GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, in capitals",
    )
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(Status::BadRequest, detail)
}

/// Reads the Host header: exactly one in HTTP/1.1, at most one in HTTP/1.0, and valid (RFC 9112 §3.2).
fn host(headers: &Headers, version: Version) -> Result<Option<Authority>, Problem> {
    match headers.one("Host")? {
        Some(text) => match Authority::parse(text) {
            Some(authority) => Ok(Some(authority)),
            None => Err(malformed("the Host header is not a host name or address with or without a port")),
        },
        None if version == Version::Http10 => Ok(None),
        None => Err(malformed("the Host header is missing")),
    }
}

/// Explains an error of httparse to people.
fn explain(error: httparse::Error, head: &[u8]) -> Problem {
    match error {
        httparse::Error::HeaderName => malformed(
            "a header's name is malformed; it consists of letters, digits and hyphens, \
             and the colon follows without a blank",
        ),
        httparse::Error::HeaderValue => malformed("a header's value contains a control character"),
        httparse::Error::Version if names_a_version(head) => Problem::new(
            Status::VersionNotSupported,
            "this server speaks HTTP/1.1 and HTTP/1.0; for HTTP/2 or HTTP/3 put a proxy before it",
        ),
        httparse::Error::TooManyHeaders => {
            Problem::new(Status::HeaderFieldsTooLarge, "the request has too many header fields")
        }
        _ => malformed("the request line is malformed; it has the form METHOD /path HTTP/1.1"),
    }
}

/// Returns whether the request line ends in some version of HTTP, such as `HTTP/2.0` (RFC 9112 §2.3).
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}
