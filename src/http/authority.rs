//! The rule for Origin: a web page that a user happens to have open must not write in a chat through that user's
//! browser. The rule for Host, against DNS rebinding, is in [`hosts`](super::hosts).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::headers::Headers;
use super::problem::Problem;
use super::status::Status;
use crate::types::is_zone;

/// A host with or without a port, as in the Host header (RFC 9110 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host[:port]`. Refuses user names, escapes and empty hosts (RFC 9110 §4.2.1, §4.2.4).
    pub fn parse(text: &str) -> Option<Authority> {
        // The colons of an IPv6 address stand in brackets.
        let host_end = match text.find(']') {
            Some(bracket) => bracket + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at_checked(host_end)?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            // An empty port counts as no port (RFC 3986 §3.2.3).
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Authority { host: Host::parse(host)?, port })
    }
}

/// A name or address in one spelling, so that equal hosts compare equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    /// In lower case, without the final dot.
    Name(Box<str>),
}

impl Host {
    /// Explains why [`Host::parse`] refused a text.
    pub const RULE: &'static str =
        "a host is a name of letters, digits, '-', '_' and '.', an IPv4 address, or an IPv6 address in brackets";

    /// Reads a name, an IPv4 address, or an IPv6 address in brackets. Narrower than RFC 3986, which allows nearly any
    /// character in names; every host that DNS or a hosts file can resolve still fits.
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(address) = text.strip_prefix('[') {
            let inside = address.strip_suffix(']')?;
            // A zone is meaningful only to its sender, which should have omitted it (RFC 6874 §4); not all do.
            let (address, zone) = inside.split_once('%').map_or((inside, None), |(ip, zone)| (ip, Some(zone)));
            let address: Ipv6Addr = address.parse().ok()?;
            let fits = |zone| address.is_unicast_link_local() && is_zone(zone);
            return zone.is_none_or(fits).then_some(Host::Ip(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Host::Ip(address.into()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed));
        fits.then(|| Host::Name(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(address)) => address.fmt(f),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// The origin of a page (RFC 6454 §4): scheme, host and port as a whole, or the opaque `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file or a sandboxed frame: it could be anybody's.
    Null,
    Page {
        /// In lower case.
        scheme: Box<str>,
        host: Host,
        /// The scheme's default port if none is given; `None` if the scheme has no default.
        port: Option<u16>,
    },
}

impl Origin {
    /// Explains why [`Origin::parse`] refused a text.
    pub const RULE: &'static str =
        "an origin is scheme://host or scheme://host:port, with nothing behind it (also no '/'), or null";

    /// Reads one origin, as a browser sends it.
    pub fn parse(text: &str) -> Option<Origin> {
        if text == "null" {
            return Some(Origin::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(allowed) {
            return None;
        }
        let Authority { host, port } = Authority::parse(authority)?;
        Some(Origin::Page { port: port.or(default_port(&scheme)), scheme: scheme.into(), host })
    }

    /// Returns whether a page of this origin came from the same host that it now sends a request to. Schemes are not
    /// compared, because TLS may end at a proxy; so a Host without a port may stand for either scheme's default port.
    fn is_of(&self, asked: &Authority) -> bool {
        let Origin::Page { scheme, host, port } = self else { return false };
        let Some(own_default) = default_port(scheme) else { return false };
        let port = port.unwrap_or(own_default);
        *host == asked.host && asked.port.map_or(matches!(port, 80 | 443), |asked| asked == port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Null => f.write_str("null"),
            Origin::Page { scheme, host, port } => match port {
                Some(port) if Some(*port) != default_port(scheme) => write!(f, "{scheme}://{host}:{port}"),
                _ => write!(f, "{scheme}://{host}"),
            },
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Checks that a request that changes something or opens a socket is allowed: no browser sent it (no Origin, RFC 6455
/// §10.2), or its page came from the requested host or from an origin in `allow`.
///
/// # Errors
/// 403 that closes the connection and names the option to add.
pub fn origin_allowed(headers: &Headers, host: Option<&Authority>, allow: &[Origin]) -> Result<(), Problem> {
    let mut lines = headers.all("Origin");
    let Some(line) = lines.next() else { return Ok(()) };
    let origin = if lines.next().is_none() { line } else { "" };
    named_origin_allowed(origin, host, allow)
}

/// Checks in the same way an origin that a page names itself because its browser sends none.
///
/// # Errors
/// As those of [`origin_allowed`].
pub fn named_origin_allowed(origin: &str, host: Option<&Authority>, allow: &[Origin]) -> Result<(), Problem> {
    let refusal = |detail: String| Problem::new(Status::Forbidden, detail).closing();
    let Some(origin) = Origin::parse(origin) else {
        return Err(refusal("the Origin header is not one origin".into()));
    };
    if allow.contains(&origin) || host.is_some_and(|host| origin.is_of(host)) {
        return Ok(());
    }
    Err(refusal(format!(
        "pages of the origin {origin} may not use this server; to allow it, start racerd with --allow-origin {origin}"
    )))
}

/// An origin in the allow list; its pages may read answers, including refusals (CORS, as the Fetch standard says).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossOrigin(String);

impl CrossOrigin {
    /// Returns the request's origin, if it is exactly one and in the list.
    pub fn of(headers: &Headers, allow: &[Origin]) -> Option<CrossOrigin> {
        let mut lines = headers.all("Origin");
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        // Browsers compare with their own spelling, so this is returned exactly as received.
        allow.contains(&Origin::parse(line)?).then(|| CrossOrigin(line.to_owned()))
    }

    /// Returns the headers for every answer to this origin.
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [
            ("Access-Control-Allow-Origin", &self.0),
            ("Access-Control-Expose-Headers", "Retry-After"),
            // The next request may come from another origin.
            ("Vary", "Origin"),
        ]
    }

    /// Returns further headers for the answer to a preflight: an OPTIONS request with Access-Control-Request-Method.
    /// `methods` is the resource's list, as in Allow.
    pub fn preflight<'a>(&self, methods: &'a str) -> [(&'static str, &'a str); 3] {
        [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"),
            // In seconds. Firefox caps it at a day, Chrome at two hours.
            ("Access-Control-Max-Age", "7200"),
        ]
    }
}

#[cfg(test)]
mod tests;
