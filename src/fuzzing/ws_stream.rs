//! The frame codec: the same bytes, however split, give the same messages and the same close code, and a plain
//! tungstenite socket reads the same messages or refuses, too, but for the differences that [`Difference`] lists.

use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use super::input::{Cuts, Input};
use crate::ws::{Decoder, Limits, Message, Violation};

/// One item that a decoder returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Small, so that short inputs reach them.
const LIMITS: Limits = Limits { max_message: 300, max_fragments: 6, binary: true };

/// Reads flags and cuts, then the stream as it is or, by a flag, as a list of frames to be built.
pub fn ws_stream(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let limits = Limits { binary: flags & 2 == 0, ..LIMITS };
    let cuts = input.cuts();
    let stream = if flags & 1 == 0 { input.rest().to_vec() } else { frames(input) };
    judge(&stream, cuts.of(&stream), &limits);
}

/// Feeds the stream whole, in these pieces and byte by byte, and compares the results with each other and with
/// tungstenite.
pub fn judge<'a>(stream: &[u8], pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) {
    let whole = decode(Cuts::none().of(stream), limits);
    assert_eq!(whole, decode(pieces, limits), "the pieces make a difference");
    assert_eq!(whole, decode(stream.chunks(1), limits), "single bytes make a difference");
    compare(&whole, &reference(stream, limits));
}

/// Builds frames that are mostly valid: first byte, length, payload.
fn frames(mut input: Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() {
        let first = input.byte();
        let length = usize::from(input.byte());
        let mask = [length as u8, first, 0x55, 0xaa];
        stream.extend(masked(first, input.take(length), mask));
    }
    stream
}

/// Builds a client's frame, with the length in its shortest form.
pub fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65536 => {
            out.push(0xfe);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0xff);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// Feeds the pieces and returns the items until the end, a close or a violation.
pub fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> (Vec<Seen>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(input, limits) {
                Err(violation) => return (seen, Some(violation)),
                Ok((used, None)) => {
                    assert_eq!(used, input.len(), "all of the input is taken when more is needed");
                    break;
                }
                Ok((used, Some(message))) => {
                    seen.push(match message {
                        Message::Text(t) => Seen::Text(t.into_owned()),
                        Message::Binary(b) => Seen::Binary(b.into_owned()),
                        Message::Ping(p) => Seen::Ping(p.into_owned()),
                        Message::Pong => Seen::Pong,
                        Message::Close(c) => Seen::Close(c),
                    });
                    if let Some(Seen::Close(_)) = seen.last() {
                        return (seen, None);
                    }
                    input = &mut std::mem::take(&mut input)[used..];
                }
            }
        }
        let most = 2 * limits.max_message + 512;
        assert!(decoder.held_bytes() <= most, "an unfinished message holds {} bytes", decoder.held_bytes());
    }
    (seen, None)
}

/// Where our codec refuses and tungstenite does not, or does so later.
enum Difference {
    /// Both refuse here; or ours did at a frame's header or in the middle of its payload, while tungstenite checks only
    /// whole frames and, for UTF-8, whole messages. So tungstenite may still wait, or return control frames that stand
    /// between a bad fragment and the next, but no further message.
    Earlier,
    /// tungstenite accepts it, so its further output proves nothing.
    Stricter,
}

fn difference(violation: &Violation) -> Difference {
    match (violation.code, violation.reason) {
        // RFC 6455 §5.2: the minimal number of bytes must be used for the length. tungstenite accepts any.
        (_, "length not in its shortest form")
        // Our own bound on the work that one message may cost; tungstenite has none.
        | (_, "message in too many fragments")
        // The subprotocol is text only; tungstenite does not know of it.
        | (_, "binary message where text is spoken")
        // RFC 6455 §7.4: tungstenite returns such a close frame and answers with 1002 in place of the code.
        | (_, "close code that may not be sent") => Difference::Stricter,
        _ => Difference::Earlier,
    }
}

fn compare((ours, violation): &(Vec<Seen>, Option<Violation>), (theirs, refused): &(Vec<Seen>, bool)) {
    let agree = ours.len() <= theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs));
    assert!(agree, "{ours:?} and {violation:?}, but tungstenite {theirs:?}");
    let surplus = &theirs[ours.len()..];
    match violation {
        None => {
            assert!(surplus.is_empty(), "not handed out: {surplus:?}");
            let is_closed = matches!(ours.last(), Some(Seen::Close(_)));
            assert!(is_closed || !refused, "tungstenite refuses after {ours:?}");
        }
        Some(violation) => {
            let is_message = |seen: &Seen| matches!(seen, Seen::Text(_) | Seen::Binary(_));
            if let Difference::Earlier = difference(violation) {
                assert!(!surplus.iter().any(is_message), "{violation:?}, but tungstenite went on with {surplus:?}");
            }
        }
    }
}

/// Compares two items. 1014 was added to the registry of close codes after RFC 6455; tungstenite treats it as a code
/// that may not be sent.
fn is_same(ours: &Seen, theirs: &Seen) -> bool {
    ours == theirs || (ours, theirs) == (&Seen::Close(Some(1014)), &Seen::Close(Some(1002)))
}

/// Returns the items that a plain tungstenite socket reads from the same bytes, and whether it refused them in the end.
fn reference(bytes: &[u8], limits: &Limits) -> (Vec<Seen>, bool) {
    let config =
        WebSocketConfig::default().max_message_size(Some(limits.max_message)).max_frame_size(Some(limits.max_message));
    // Small buffers: this runs often.
    let config = config.read_buffer_size(512).write_buffer_size(0);
    let stream = Memory(std::io::Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(t)) => seen.push(Seen::Text(t.to_string())),
            Ok(tungstenite::Message::Binary(b)) => seen.push(Seen::Binary(b.to_vec())),
            Ok(tungstenite::Message::Ping(p)) => seen.push(Seen::Ping(p.to_vec())),
            Ok(tungstenite::Message::Pong(_)) => seen.push(Seen::Pong),
            Ok(tungstenite::Message::Close(frame)) => {
                seen.push(Seen::Close(frame.map(|f| u16::from(f.code))));
                return (seen, false);
            }
            Ok(tungstenite::Message::Frame(_)) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return (seen, false);
            }
            Err(_) => return (seen, true),
        }
    }
}

/// Memory as a stream: reads return the content, then would block.
struct Memory(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer) {
            Ok(0) => Err(std::io::ErrorKind::WouldBlock.into()),
            other => other,
        }
    }
}

impl std::io::Write for Memory {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
