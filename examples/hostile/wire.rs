//! Writes what clients send and reads what servers answer: HTTP heads, WebSocket frames (RFC 6455 §5.2), JSON requests.
//! Only what an attacker and an observer need; nothing here is shared with the server that it measures.

use std::net::{Ipv6Addr, SocketAddrV6};

/// Opcodes of frames.
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The port of the server in its namespace, in the clear; TLS has the next one.
pub const PORT: u16 = 7077;
pub const TLS_PORT: u16 = 7078;

/// The server's address.
pub const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

pub fn server(port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(SERVER, port, 0, 0)
}

/// Returns the address of a well-behaved client; each stands in a /48 of its own.
pub fn honest(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0x100 + (index % HONEST) as u16, 0, 0, 0, 0, 1)
}

pub const HONEST: usize = 64;

/// Returns the address of the attacker with this number; each stands in a /48 of its own.
pub fn attacker(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0x2000 + (index % ATTACKERS) as u16, 0, 0, 0, 0, 1)
}

pub const ATTACKERS: usize = 60;

/// Returns an address of one /48 that has many /64s.
pub fn of_one_site(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0x3000, (index % SITE) as u16, 0, 0, 0, 1)
}

pub const SITE: usize = 240;

/// Appends a final frame of a client, masked.
pub fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    piece(0x80 | opcode, payload, out);
}

/// Appends a frame whose first byte is given, so that it can be a fragment.
pub fn piece(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Returns a request that opens a WebSocket.
pub fn upgrade(path: &str, protocol: Option<&str>) -> Vec<u8> {
    let protocol = protocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: [{SERVER}]:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// Appends a GET.
pub fn get(path: &str, out: &mut Vec<u8>) {
    out.extend(format!("GET {path} HTTP/1.1\r\nHost: [{SERVER}]:{PORT}\r\n\r\n").as_bytes());
}

/// Appends a POST of a JSON body into a room, with an idempotency key if one is given.
pub fn post(room: &str, key: Option<&str>, body: &str, out: &mut Vec<u8>) {
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    let head = format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nHost: [{SERVER}]:{PORT}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{key}\r\n",
        body.len()
    );
    out.extend(head.as_bytes());
    out.extend(body.as_bytes());
}

/// Appends a JSON request as a text frame.
pub fn ask(json: &str, out: &mut Vec<u8>) {
    frame(TEXT, json.as_bytes(), out);
}

/// Returns the length of a response's head, with its empty line.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Counts the answers that begin in these bytes, by the first digit of their status and the two that matter.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    pub done: u64,
    pub limited: u64,
    pub unavailable: u64,
    pub other: u64,
}

impl Statuses {
    pub fn count(&mut self, bytes: &[u8]) {
        for twelve in bytes.windows(12).filter(|twelve| twelve.starts_with(b"HTTP/1.1 ")) {
            match &twelve[9..] {
                b"429" => self.limited += 1,
                b"503" => self.unavailable += 1,
                [b'1' | b'2', ..] => self.done += 1,
                _ => self.other += 1,
            }
        }
    }

    pub fn all(&self) -> u64 {
        self.done + self.limited + self.unavailable + self.other
    }
}

/// Takes a server's frames out of its bytes.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    at: usize,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend(bytes);
    }

    /// Returns the next whole frame: its opcode and payload.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let rest = &self.bytes[self.at..];
        let (first, second) = (*rest.first()?, *rest.get(1)?);
        let (length, head) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?), 10),
            length => (u64::from(length), 2),
        };
        let payload = rest.get(head..head + usize::try_from(length).ok()?)?.to_vec();
        self.at += head + payload.len();
        Some((first & 0x0f, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_however_they_are_cut() {
        let mut sent = vec![0x81, 2, b'h', b'i', 0x8a, 0];
        sent.extend([0x82, 126, 1, 0]);
        sent.extend([7; 256]);
        let mut frames = Frames::default();
        let mut heard = Vec::new();
        for byte in sent {
            frames.push(&[byte]);
            heard.extend(frames.next());
        }
        assert_eq!(heard, [(TEXT, b"hi".to_vec()), (PONG, vec![]), (2, vec![7; 256])]);
    }

    #[test]
    fn a_frame_is_masked_and_has_the_shortest_length() {
        let mut out = Vec::new();
        frame(TEXT, b"ab", &mut out);
        assert_eq!(out, [0x81, 0x82, 0x37, 0xfa, 0x21, 0x3d, b'a' ^ 0x37, b'b' ^ 0xfa]);
        out.clear();
        frame(TEXT, &[0; 126], &mut out);
        assert_eq!(out[..4], [0x81, 0xfe, 0, 126]);
        out.clear();
        frame(TEXT, &[0; 65536], &mut out);
        assert_eq!(out[..10], [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let mut statuses = Statuses::default();
        statuses.count(b"HTTP/1.1 201 Created\r\n\r\nHTTP/1.1 429 Too\r\n\r\nHTTP/1.1 503 x\r\n\r\nHTTP/1.1 404 x\r\n");
        assert_eq!(statuses, Statuses { done: 1, limited: 1, unavailable: 1, other: 1 });
        assert_eq!(statuses.all(), 4);
    }

    #[test]
    fn every_party_has_a_network_of_its_own() {
        let networks: std::collections::BTreeSet<_> =
            (0..HONEST).map(honest).chain((0..ATTACKERS).map(attacker)).map(|a| a.segments()[2]).collect();
        assert_eq!(networks.len(), HONEST + ATTACKERS);
        assert_eq!(of_one_site(1).segments()[..3], of_one_site(2).segments()[..3]);
        assert_ne!(of_one_site(1).segments()[3], of_one_site(2).segments()[3]);
    }
}
