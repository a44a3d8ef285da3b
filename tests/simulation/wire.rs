//! A client's side of the wire: parses responses and frames from bytes, and encodes requests and frames to bytes. It is
//! written from the RFCs, without racerd's own code, so that the two check each other.

use std::fmt::Write as _;

use racerd::testing::Random;

/// Anything that a server may send.
#[derive(Debug)]
pub enum Said {
    Response { status: u16, retry_after: Option<u64>, body: String },
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// The parser of one link.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes that are already parsed.
    at: usize,
    is_websocket: bool,
}

impl Reader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.at));
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the bytes that follow the last parsed item.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.buffer.split_off(std::mem::take(&mut self.at))
    }

    /// Returns the next item.
    ///
    /// # Errors
    /// A description of anything that no server may send.
    pub fn next(&mut self) -> Result<Option<Said>, String> {
        let found =
            if self.is_websocket { frame(&self.buffer[self.at..])? } else { response(&self.buffer[self.at..])? };
        let Some((length, said)) = found else { return Ok(None) };
        self.at += length;
        self.is_websocket |= matches!(said, Said::Response { status: 101, .. });
        Ok(Some(said))
    }
}

fn response(bytes: &[u8]) -> Result<Option<(usize, Said)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
    let status: u16 = status.and_then(|digits| digits.parse().ok()).ok_or("a response without a status")?;
    let mut length = 0usize;
    let mut retry_after = None;
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a field without a colon")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| "a length that is no number")?,
            "retry-after" => retry_after = value.parse().ok(),
            _ => {}
        }
    }
    let Some(body) = bytes.get(end + 4..end + 4 + length) else { return Ok(None) };
    let body = String::from_utf8(body.to_vec()).map_err(|_| "a body that is no text")?;
    Ok(Some((end + 4 + length, Said::Response { status, retry_after, body })))
}

/// RFC 6455 §5.2. A server's frames carry no mask, and racerd's are whole.
fn frame(bytes: &[u8]) -> Result<Option<(usize, Said)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x80 == 0 || first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(format!("a frame that begins with {first:02x} {second:02x}"));
    }
    let (header, length): (usize, usize) = match second {
        126 => match rest {
            [a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(*length)).map_err(|_| "a frame without an end")?),
            None => return Ok(None),
        },
        short => (2, usize::from(*short)),
    };
    let Some(payload) = bytes.get(header..header.saturating_add(length)) else { return Ok(None) };
    let said = match first & 0x0f {
        1 => Said::Text(String::from_utf8(payload.to_vec()).map_err(|_| "a text that is none")?),
        2 => Said::Binary(payload.to_vec()),
        8 => Said::Close(payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))),
        9 => Said::Ping(payload.to_vec()),
        10 => Said::Pong,
        other => return Err(format!("a frame of kind {other}")),
    };
    Ok(Some((header + length, said)))
}

// Encoding.

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], random: &mut Random) {
    out.push(first);
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = random.array();
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Encodes a text message; in parts it is two frames with a ping between them.
pub fn text(text: &str, in_parts: bool, random: &mut Random) -> Vec<u8> {
    message(TEXT, text.as_bytes(), in_parts, random)
}

/// Encodes a binary message, likewise.
pub fn binary(bytes: &[u8], in_parts: bool, random: &mut Random) -> Vec<u8> {
    message(BINARY, bytes, in_parts, random)
}

fn message(kind: u8, bytes: &[u8], in_parts: bool, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 20);
    if in_parts {
        let (first, second) = bytes.split_at(random.below(bytes.len() + 1));
        write_frame(&mut out, kind, first, random);
        write_frame(&mut out, 0x80 | PING, b"", random);
        write_frame(&mut out, 0x80, second, random);
    } else {
        write_frame(&mut out, 0x80 | kind, bytes, random);
    }
    out
}

pub fn pong(payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, 0x80 | PONG, payload, random);
    out
}

pub fn ping(payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, 0x80 | PING, payload, random);
    out
}

pub fn close(code: Option<u16>, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(
        &mut out,
        0x80 | CLOSE,
        &code.map(u16::to_be_bytes).unwrap_or_default()[..code.map_or(0, |_| 2)],
        random,
    );
    out
}

/// Encodes a WebSocket upgrade, with the subprotocol if one is named.
pub fn upgrade(path: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// Encodes a request for an event stream, which begins after the event with this id.
pub fn events(path: &str, last_id: Option<&str>) -> Vec<u8> {
    let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{last}\r\n").into_bytes()
}

/// Encodes an HTTP request. A body, if there is one, is JSON.
pub fn request(method: &str, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(key) = key {
        let _ = write!(out, "Idempotency-Key: {key}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(out, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    out.push_str("\r\n");
    out.push_str(body);
    out.into_bytes()
}
