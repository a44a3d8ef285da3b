//! The opening handshake, the server's side (RFC 6455 §4.2): an upgrade request in, 101 or a refusal out. Agrees to no
//! extension, so offers of them are not even read.

use data_encoding::BASE64;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::http::framing::BodyLength;
use crate::http::method::{Method, Version};
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::status::Status;

/// JSON in text frames; also spoken if no subprotocol is offered.
pub const SUBPROTOCOL: &str = "racerd.v1";
/// The same JSON, sealed, in binary frames; spoken if the server has a key.
pub const SEALED: &str = "racerd.v1.sealed";

/// What is offered beside these by a client that comes back, before its session's token: a script in a browser can put
/// it nowhere else in the request. It is never agreed to.
const SESSION: &str = "racerd.session.";

/// The protocol spoken over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Open,
    Sealed,
}

/// Bytes of an answer without a subprotocol, and some to spare.
const USUAL_ANSWER: usize = 192;

/// The GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An accepted handshake, with the contents of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
    /// The agreed subprotocol; `None` if none was offered.
    subprotocol: Option<Spoken>,
}

/// Returns whether a request asks to become a WebSocket, correctly or not. HTTP/1.0 cannot ask (RFC 9110 §7.8).
pub fn wants_upgrade(request: &Request) -> bool {
    request.version == Version::Http11
        && request.headers.has_token("Connection", "upgrade")
        && request.headers.has_token("Upgrade", "websocket")
}

/// Checks a request to a WebSocket's URL, even if it doesn't ask for an upgrade; the argument is the result of
/// [`spoken`].
///
/// # Errors
/// 405, 426 or 400; all of them close the connection, because a proxy that saw the request to upgrade may pass later
/// bytes on unseen.
pub fn check(request: &Request, spoken: Spoken) -> Result<Upgrade, Problem> {
    let wanted = wants_upgrade(request);
    let method_fits = match request.method {
        Method::Get => true,
        // Answered like GET, without the body (RFC 9110 §9.3.2).
        Method::Head => !wanted,
        _ => false,
    };
    if !method_fits {
        let problem = Problem::new(Status::MethodNotAllowed, "a WebSocket is opened with GET");
        return Err(problem.header("Allow", "GET").closing());
    }
    if !wanted {
        return Err(upgrade_required(
            "this URL is for WebSockets (wss:// or ws://), and the request does not ask for one over HTTP/1.1. \
             If it did when it was sent, a proxy on the way has not passed on its Upgrade header. nginx needs \
             'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
             proxy_set_header Connection \"upgrade\";', Caddy passes it by itself",
        ));
    }
    if only(request, "Sec-WebSocket-Version") != Some("13") {
        return Err(upgrade_required("the header Sec-WebSocket-Version must be there once and be 13"));
    }
    let Some(key) = only(request, "Sec-WebSocket-Key").filter(|key| is_key(key)) else {
        return Err(bad("the header Sec-WebSocket-Key must be there once and hold 16 bytes as base64"));
    };
    if request.body != BodyLength::None {
        return Err(bad("a request for a WebSocket has no body"));
    }
    let is_named = request.headers.tokens("Sec-WebSocket-Protocol").next().is_some();
    Ok(Upgrade { accept: accept(key), subprotocol: is_named.then_some(spoken) })
}

impl Upgrade {
    /// Returns the agreed protocol.
    pub fn spoken(&self) -> Spoken {
        self.subprotocol.unwrap_or(Spoken::Open)
    }

    /// Appends the answer 101 (RFC 6455 §4.2.2). Frames follow it on the connection.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve_exact(USUAL_ANSWER);
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(self.accept.as_bytes());
        if let Some(spoken) = self.subprotocol {
            let name = match spoken {
                Spoken::Open => SUBPROTOCOL,
                Spoken::Sealed => SEALED,
            };
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Returns the value of a header that occurs exactly once.
fn only<'a>(request: &'a Request, name: &'a str) -> Option<&'a str> {
    request.headers.one(name).ok().flatten()
}

/// Whether this is 16 bytes as base64. Bits that fill up the last character count for nothing, as with other servers:
/// the key is never decoded.
fn is_key(key: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix("==").is_some_and(|digits| digits.bytes().all(alphabet))
}

/// Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2, 5.4).
pub fn accept(key: &str) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    BASE64.encode(hash.finish().as_ref())
}

/// Returns the protocol of the first offered subprotocol that is known here; if none is offered, the open protocol,
/// which the answer then does not name. `seals` says whether sealed sockets are spoken here.
///
/// A script in a browser cannot set `Sec-` headers, so a plain GET that asks how an upgrade would fare may name a
/// subprotocol in its query: `?subprotocol=racerd.v1.sealed`.
///
/// # Errors
/// 400 if none of the offered subprotocols is spoken here.
pub fn spoken(request: &Request, seals: bool) -> Result<Spoken, Problem> {
    let asked = if wants_upgrade(request) { None } else { request.target.query.one("subprotocol")? };
    let offers = || request.headers.tokens("Sec-WebSocket-Protocol").chain(asked);
    // Case-sensitive, unlike the other lists (RFC 6455 §4.1, as the IANA registry's names are).
    let spoken = offers().find_map(|offer| match offer {
        SUBPROTOCOL => Some(Spoken::Open),
        SEALED if seals => Some(Spoken::Sealed),
        _ => None,
    });
    match spoken {
        Some(spoken) => Ok(spoken),
        None if offers().next().is_none() => Ok(Spoken::Open),
        None if offers().any(|offer| offer == SEALED) => {
            Err(bad("sealed sockets are not spoken here: the server has no key for them (--sealed-key)"))
        }
        None => Err(bad("none of the offered subprotocols is spoken here: offer racerd.v1, or none at all")),
    }
}

/// Returns the token of the session with which a client says that it comes back; the first, if it shows several.
pub fn session_shown(request: &Request) -> Option<&str> {
    request.headers.tokens("Sec-WebSocket-Protocol").find_map(|offer| offer.strip_prefix(SESSION))
}

/// Returns what a client offers beside its subprotocol to show the token of its session.
pub fn session_offer(token: &str) -> String {
    format!("{SESSION}{token}")
}

fn bad(detail: &'static str) -> Problem {
    Problem::new(Status::BadRequest, detail).closing()
}

/// Refuses with 426 and the protocol to upgrade to (RFC 9110 §15.5.22, RFC 6455 §4.4).
fn upgrade_required(detail: &'static str) -> Problem {
    Problem::new(Status::UpgradeRequired, detail)
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .closing()
}

#[cfg(test)]
mod tests;
