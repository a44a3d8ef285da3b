//! The URL of a room, as the page has it, with pin and room key in the fragment. Pure. Errors never quote the fragment,
//! which is secret.

use core::fmt;

use super::host::{host_and_port, without_zone};
use crate::crypto::room_key::RoomKey;
use crate::crypto::sealed::Pin;
use crate::types::RoomId;

/// A room on a server, with the keys in its URL.
#[derive(Debug)]
pub struct Target {
    /// Whether the server is reached over TLS.
    pub tls: bool,
    /// A name or an address, without brackets; a link-local address has its zone behind `%`.
    pub host: String,
    pub port: u16,
    /// The path below which a proxy serves racerd: `/chat`, or nothing.
    pub prefix: String,
    pub room: RoomId,
    pub pin: Option<Pin>,
    pub room_key: Option<RoomKey>,
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH]/rooms/ROOM[#pin=PIN&k=KEY]`; `https`, `ws` and `wss` likewise.
    ///
    /// # Errors
    /// A sentence for the user that names the fault.
    pub fn parse(url: &str) -> Result<Target, String> {
        let (place, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (pin, room_key) = keys(fragment).map_err(|fault| fault.to_string())?;
        let form = "write it as the page has it, such as http://HOST:PORT/rooms/lobby";
        let shown = place.escape_debug();
        let (scheme, rest) = place.split_once("://").ok_or_else(|| format!("{shown} is not a URL; {form}"))?;
        let tls = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("{shown}: the scheme has to be http, https, ws or wss")),
        };
        if rest.contains('?') {
            return Err(format!("{shown}: the URL must not have a query; use options such as --last instead"));
        }
        let (authority, path) = rest.split_once('/').ok_or_else(|| format!("{shown} names no room; {form}"))?;
        let path = format!("/{path}");
        let at = path.rfind("/rooms/").ok_or_else(|| format!("{shown} names no room; {form}"))?;
        let (prefix, room) = (&path[..at], &path[at + "/rooms/".len()..]);
        let room = room.strip_suffix("/ws").unwrap_or(room);
        let room = RoomId::parse(room).ok_or_else(|| format!("{shown}: {}", RoomId::RULE))?;
        if !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{shown}: the path has to be percent-encoded"));
        }
        let (host, port) = host_and_port(authority, if tls { 443 } else { 80 }).ok_or_else(|| {
            format!("{shown}: the host has to be a name or an address, with or without a port; {form}")
        })?;
        Ok(Target { tls, host, port, prefix: prefix.to_string(), room, pin, room_key })
    }

    /// Returns host and port for the Host header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", without_zone(&self.host)) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// A fault in a URL fragment. Its text never quotes the fragment, which is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FragmentFault {
    Unknown,
    Repeated,
    Pin,
    Key,
}

impl fmt::Display for FragmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FragmentFault::Unknown => f.write_str("only pin=PIN and k=KEY may follow the #, with & between"),
            FragmentFault::Repeated => f.write_str("a key is given twice behind the #"),
            FragmentFault::Pin => f.write_str("the pin behind the # does not have 43 characters of A-Z a-z 0-9 - _"),
            FragmentFault::Key => write!(f, "behind the #: {}", RoomKey::RULE),
        }
    }
}

/// Reads a URL's fragment: nothing, or at most one `pin=` and one `k=`, joined by one `&`. Everything else is refused:
/// otherwise a mistyped pin would open a socket that is not sealed. The page has the same rule
/// (web/page/address.js; tests/vectors/fragments.json).
fn keys(fragment: &str) -> Result<(Option<Pin>, Option<RoomKey>), FragmentFault> {
    let (mut pin, mut room_key) = (None, None);
    for part in fragment.split('&').filter(|_| !fragment.is_empty()) {
        match part.split_once('=') {
            Some(("pin", _)) if pin.is_some() => return Err(FragmentFault::Repeated),
            Some(("k", _)) if room_key.is_some() => return Err(FragmentFault::Repeated),
            Some(("pin", text)) => pin = Some(Pin::parse(text).ok_or(FragmentFault::Pin)?),
            Some(("k", text)) => room_key = Some(RoomKey::parse(text).ok_or(FragmentFault::Key)?),
            _ => return Err(FragmentFault::Unknown),
        }
    }
    Ok((pin, room_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn urls_as_the_page_has_them() {
        for (url, tls, authority, prefix) in [
            ("http://a:7077/rooms/lobby", false, "a:7077", ""),
            ("ws://a/rooms/lobby/ws", false, "a", ""),
            ("https://chat.example/chat/rooms/lobby", true, "chat.example", "/chat"),
            ("wss://[::1]:8443/rooms/rooms/lobby", true, "[::1]:8443", "/rooms"),
            ("https://a:80/rooms/lobby#", true, "a:80", ""),
            ("http://[fe80::1%25eth0]:7077/rooms/lobby", false, "[fe80::1]:7077", ""),
            ("http://[fe80::1%eth0]/rooms/lobby", false, "[fe80::1]", ""),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.tls, target.authority().as_str(), target.prefix.as_str()), (tls, authority, prefix));
            assert_eq!((target.room.as_str(), target.pin), ("lobby", None));
        }
        let both = Target::parse(&format!("http://a/rooms/lobby#pin={PIN}&k={PIN}")).unwrap();
        assert_eq!(both.pin.unwrap().to_string(), PIN);
        assert_eq!(*both.room_key.unwrap().to_text(), PIN);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for bad in [
            "",
            "lobby",
            "a/rooms/lobby",
            "ftp://a/rooms/lobby",
            "http:///rooms/lobby",
            "http://a",
            "http://a/",
            "http://a/rooms/",
            "http://a/rooms/a/b",
            "http://a/rooms/a b",
            "http://u@a/rooms/lobby",
            "http://a:/rooms/lobby",
            "http://a:0/rooms/lobby",
            "http://a:+1/rooms/lobby",
            "http://a:65536/rooms/lobby",
            "http://[::1/rooms/lobby",
            "http://[::1%25eth0]/rooms/lobby",
            "http://[fe80::1%]/rooms/lobby",
            "http://[fe80::1%25a/b]/rooms/lobby",
            "http://[::1]x/rooms/lobby",
            "http://a\r\nX: y/rooms/lobby",
            "http://a/\u{1b}/rooms/lobby",
            "http://a/rooms/lobby?last=5",
        ] {
            let text = Target::parse(&format!("{bad}#k={PIN}")).unwrap_err();
            assert!(!text.contains(PIN) && !text.contains(['\n', '\u{1b}']), "{text}");
        }
        for bad in ["pim=x", "pin", "pin=x", "k=x", &format!("k={PIN}&pin"), &format!("K={PIN}")] {
            let text = Target::parse(&format!("http://a/rooms/lobby#{bad}")).unwrap_err();
            assert!(!text.contains(PIN), "{text}");
        }
    }

    #[test]
    fn fragments_by_the_vectors_shared_with_the_page() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/fragments.json")).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() > 30);
        for vector in vectors {
            let fragment = vector["fragment"].as_str().unwrap();
            let name = |fault: FragmentFault| match fault {
                FragmentFault::Unknown => "unknown",
                FragmentFault::Repeated => "repeated",
                FragmentFault::Pin => "pin",
                FragmentFault::Key => "k",
            };
            let read = keys(fragment).map_err(name);
            match vector["fault"].as_str() {
                Some(fault) => assert_eq!(read.err(), Some(fault), "{fragment}"),
                None => {
                    let (pin, room_key) = read.unwrap();
                    assert_eq!(pin.map(|pin| pin.to_string()).as_deref(), vector["pin"].as_str(), "{fragment}");
                    assert_eq!(
                        room_key.map(|key| key.to_text().to_string()).as_deref(),
                        vector["k"].as_str(),
                        "{fragment}"
                    );
                }
            }
        }
    }
}
