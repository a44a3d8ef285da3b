//! The opening handshake of a WebSocket, on the client's side (RFC 6455 §4.1).

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use data_encoding::BASE64;

use super::error::ConnectionError;
use super::pipe::Pipe;
use super::server_message::detail_of;
use super::target::Target;
use crate::types::{Name, Reason};
use crate::ws::handshake::{SEALED, accept, session_offer};

/// Longest response to the handshake that is read, in bytes: its head, and the reason of a refusal.
const LONGEST_RESPONSE: usize = 64 << 10;

/// Upgrades the connection to a WebSocket with this subprotocol. `token` is the token of the session to be resumed, if
/// it may be sent in the clear: the server lets clients that come back in before newcomers. Returns the bytes received
/// after the response.
///
/// # Errors
/// Why it could not be upgraded.
pub fn upgrade(
    pipe: &mut Pipe,
    target: &Target,
    protocol: &str,
    name: Option<&Name>,
    token: Option<&str>,
) -> Result<Vec<u8>, ConnectionError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ConnectionError::lost(error.to_string()))?;
    let key = BASE64.encode(&random);
    let query = name.map(|name| format!("?name={}", percent_encoded(name.as_str()))).unwrap_or_default();
    let shown = token.map(|token| format!(", {}", session_offer(token))).unwrap_or_default();
    let request = format!(
        "GET {}/ws{query} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}{shown}\r\n\r\n",
        target.prefix,
        target.authority()
    );
    pipe.write_all(request.as_bytes()).and_then(|()| pipe.flush()).map_err(ConnectionError::of_io)?;
    let mut response = Vec::new();
    let end = loop {
        if let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if response.len() > LONGEST_RESPONSE || !fill(pipe, &mut response).map_err(ConnectionError::of_io)? {
            return Err(ConnectionError::lost("the peer is not an HTTP server, or it expects TLS (https, wss)"));
        }
    };
    let rest = response.split_off(end);
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(&response);
    parsed.map_err(|error| ConnectionError::lost(Reason::with(format!("the response is not HTTP: {error}"), error)))?;
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let status = head.code.unwrap_or(0);
    if status != 101 {
        let length = header("Content-Length").and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let wait = header("Retry-After").and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
        let wait = wait.saturating_mul(1000);
        return Err(match protocol {
            // Whoever answers has not proved to be the server: its words are not shown.
            SEALED => {
                let guess = if status == 400 { "perhaps the server has no key for sealed sockets" } else { "" };
                refusal("the server, or something on the way,", status, guess, wait)
            }
            _ => refusal("the server", status, &detail(pipe, rest, length), wait),
        });
    }
    if header("Sec-WebSocket-Accept") != Some(accept(&key).as_str()) {
        return Err(ConnectionError::Refused("the peer is not a WebSocket server".into()));
    }
    if header("Sec-WebSocket-Protocol") != Some(protocol) {
        return Err(ConnectionError::Refused(format!("the server does not speak {protocol}").into()));
    }
    Ok(rest)
}

/// Reads more; returns false at the end.
fn fill(pipe: &mut Pipe, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    let length = pipe.read(&mut chunk)?;
    into.extend(chunk.iter().take(length));
    Ok(length > 0)
}

/// Returns the `detail` of a refusal's body, or nothing.
fn detail(pipe: &mut Pipe, mut body: Vec<u8>, length: usize) -> String {
    while body.len() < length.min(LONGEST_RESPONSE) && fill(pipe, &mut body).unwrap_or(false) {}
    detail_of(&body)
}

/// Translates a status other than 101. `wait` is the pause that it asks for, in milliseconds.
fn refusal(who: &str, status: u16, detail: &str, wait: u64) -> ConnectionError {
    let mut why = format!("{who} answers {status}");
    if !detail.is_empty() {
        let _ = write!(why, ": {detail}");
    }
    match status {
        408 | 429 | 500..=599 => ConnectionError::Lost(why.into(), wait),
        _ => ConnectionError::Refused(why.into()),
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_query() {
        assert_eq!(percent_encoded("a b&=é~"), "a%20b%26%3D%C3%A9~");
    }

    #[test]
    fn a_refusal_that_may_be_temporary_is_retried() {
        let error = refusal("the server", 503, "full", 2000);
        assert!(matches!(&error, ConnectionError::Lost(_, 2000)), "{error:?}");
        assert_eq!(error.to_string(), "the server answers 503: full");
        for status in [400, 401, 403, 404, 421, 426, 200] {
            let error = refusal("the server", status, "", 3_600_000);
            assert!(matches!(error, ConnectionError::Refused(_)), "{status}");
            assert!(matches!(error.unproved(), ConnectionError::Lost(_, 0)), "{status}");
        }
        let asked = refusal("the server", 429, "", 3_600_000).unproved();
        assert!(matches!(asked, ConnectionError::Lost(_, 30_000)), "{asked:?}");
    }
}
