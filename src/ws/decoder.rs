//! Decodes a client's bytes into messages (RFC 6455 §5). One header at a time is parsed with tungstenite's
//! `FrameHeader::parse` and judged at once, before any payload is awaited or memory is reserved for it; payload is
//! unmasked in place. A message that lies whole within the input is returned in place. Only an unfinished one is
//! copied, into a state that exists for just that time: between messages a decoder is one null pointer.
//!
//! tungstenite's `WebSocketContext` is not used: it reserves the announced length from the header alone, keeps 128 KiB
//! of buffer for each connection, and detects mask, RSV and length faults only when the frame is whole.

use std::borrow::Cow;
use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::code;

/// Limits of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message, in bytes, over all its fragments; a longer one ends in 1009.
    pub max_message: usize,
    /// Most frames of one message; more end in 1008, since each costs work and an empty one costs its sender nothing.
    pub max_fragments: u32,
    /// Whether binary messages are accepted; otherwise they are refused with 1003 at their header.
    pub binary: bool,
}

/// One message or control frame. Borrows the input if it arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    Ping(Cow<'a, [u8]>),
    Pong,
    /// The peer's close frame: its code, if it gave one, checked to be one that may be sent.
    Close(Option<u16>),
}

/// A violation of the protocol or of a limit by the peer, with its close code and the reason. No bytes may be fed
/// afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

/// The longest header a client can send: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;
/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;

/// Reads one client's frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Present only while a frame or a message is unfinished.
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug, Default)]
struct Unfinished {
    /// A header that has arrived in part.
    header: [u8; MAX_HEADER],
    header_length: u8,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// Payload so far of a control frame, which may stand between the fragments of a message.
    control: Vec<u8>,
    message: Option<Assembly>,
}

/// An accepted header; `remaining` bytes of its payload are still to come.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: OpcodeKind,
    fin: bool,
    mask: [u8; 4],
    remaining: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpcodeKind {
    Text,
    Binary,
    Continuation,
    Ping,
    Pong,
    Close,
}

impl OpcodeKind {
    fn is_control(self) -> bool {
        matches!(self, OpcodeKind::Ping | OpcodeKind::Pong | OpcodeKind::Close)
    }
}

/// A data message that is not complete yet.
#[derive(Debug)]
struct Assembly {
    text: bool,
    data: Vec<u8>,
    /// Bytes of `data` known to be UTF-8; at most three bytes behind them may be the beginning of a character.
    valid: usize,
    frames: u32,
}

impl Assembly {
    /// Unmasks `payload` and appends it; text is validated as it arrives (RFC 6455 §8.1).
    fn extend(&mut self, payload: &[u8], mask: [u8; 4]) -> Result<(), Violation> {
        let start = self.data.len();
        self.data.extend_from_slice(payload);
        unmask(&mut self.data[start..], mask);
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.valid..]) {
            Ok(_) => self.valid = self.data.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }

    fn finish<'a>(self) -> Result<Message<'a>, Violation> {
        if !self.text {
            return Ok(Message::Binary(Cow::Owned(self.data)));
        }
        String::from_utf8(self.data).map(|text| Message::Text(Cow::Owned(text))).map_err(|_| NOT_UTF8)
    }
}

const NOT_UTF8: Violation = violation(code::INVALID_DATA, "text that is not UTF-8");

impl Decoder {
    /// Returns the bytes of memory beside this value itself: what has come of an unfinished frame or message.
    pub fn memory(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| {
            let message = unfinished.message.as_ref().map_or(0, |message| message.data.capacity());
            size_of::<Unfinished>() + unfinished.control.capacity() + message
        })
    }

    /// Consumes bytes from the front of `input` until a message is complete; returns their number and the message.
    /// `None` means that all of the input was consumed and more is needed. The input is unmasked in place, so consumed
    /// bytes are spent.
    ///
    /// # Errors
    /// The first violation, as soon as the bytes that show it have arrived.
    pub fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Message<'a>>), Violation> {
        let mut taken = 0;
        loop {
            let frame = match self.unfinished.as_ref().and_then(|u| u.frame) {
                Some(frame) => frame,
                None => match self.header(&input[taken..], limits)? {
                    (used, None) => return Ok((taken + used, None)),
                    (used, Some(frame)) => {
                        taken += used;
                        frame
                    }
                },
            };
            let here = frame.remaining.min(input.len() - taken);
            let whole = here == frame.remaining;
            if whole && self.unfinished.is_none() && (frame.kind.is_control() || frame.fin) {
                // The common case: nothing is kept or copied.
                let payload = &mut input[taken..taken + here];
                unmask(payload, frame.mask);
                return Ok((taken + here, Some(in_place(frame.kind, payload)?)));
            }
            let payload = &input[taken..taken + here];
            taken += here;
            if let Some(message) = self.collect(frame, payload, whole)? {
                return Ok((taken, Some(message)));
            }
            if !whole {
                return Ok((taken, None));
            }
        }
    }

    /// Returns whether nothing is pending: no partial frame, no fragment.
    pub fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }

    /// Returns the number of bytes held for an unfinished message.
    pub fn held_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |u| {
            size_of::<Unfinished>() + u.control.capacity() + u.message.as_ref().map_or(0, |m| m.data.capacity())
        })
    }

    /// Reads a header from its kept part and the input; returns the number of input bytes used, and the frame.
    fn header(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, Option<Frame>), Violation> {
        let kept = self.unfinished.as_ref().map_or(0, |u| usize::from(u.header_length));
        let fragmented = self.unfinished.as_ref().and_then(|u| u.message.as_ref());
        if kept == 0 {
            return match parse(input, fragmented, limits)? {
                Some((used, frame)) => Ok((used, Some(frame))),
                None => {
                    if !input.is_empty() {
                        // The parser asked for more, so there are fewer than MAX_HEADER bytes.
                        let state = self.unfinished.get_or_insert_default();
                        state.header[..input.len()].copy_from_slice(input);
                        state.header_length = input.len() as u8;
                    }
                    Ok((input.len(), None))
                }
            };
        }
        let Some(state) = self.unfinished.as_mut() else { return Ok((0, None)) };
        let more = input.len().min(MAX_HEADER - kept);
        state.header[kept..kept + more].copy_from_slice(&input[..more]);
        match parse(&state.header[..kept + more], state.message.as_ref(), limits)? {
            Some((used, frame)) => {
                state.header_length = 0;
                self.drop_if_idle();
                Ok((used - kept, Some(frame)))
            }
            None => {
                state.header_length = (kept + more) as u8;
                Ok((more, None))
            }
        }
    }

    /// Adds payload to the unfinished frame; returns the message if this completed one.
    fn collect<'a>(&mut self, frame: Frame, payload: &[u8], whole: bool) -> Result<Option<Message<'a>>, Violation> {
        let state = self.unfinished.get_or_insert_default();
        let mut rest = frame;
        rest.remaining -= payload.len();
        rest.mask.rotate_left(payload.len() % 4);
        state.frame = (!whole).then_some(rest);
        if frame.kind.is_control() {
            let start = state.control.len();
            state.control.extend_from_slice(payload);
            unmask(&mut state.control[start..], frame.mask);
            if !whole {
                return Ok(None);
            }
            let control = std::mem::take(&mut state.control);
            self.drop_if_idle();
            return control_frame(frame.kind, Cow::Owned(control)).map(Some);
        }
        let assembly = state.message.get_or_insert_with(|| Assembly {
            text: frame.kind == OpcodeKind::Text,
            data: Vec::new(),
            valid: 0,
            frames: 1,
        });
        assembly.extend(payload, frame.mask)?;
        if !whole {
            return Ok(None);
        }
        if frame.fin {
            let message = state.message.take();
            self.drop_if_idle();
            return message.map(Assembly::finish).transpose();
        }
        assembly.frames += 1;
        Ok(None)
    }

    fn drop_if_idle(&mut self) {
        let idle = |u: &Unfinished| u.frame.is_none() && u.message.is_none() && u.header_length == 0;
        if self.unfinished.as_deref().is_some_and(idle) {
            self.unfinished = None;
        }
    }
}

/// Parses and judges one header; returns its length in bytes and the frame, or `None` if bytes are missing.
fn parse(bytes: &[u8], message: Option<&Assembly>, limits: &Limits) -> Result<Option<(usize, Frame)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let (header, length) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(None),
        Err(_) => return Err(violation(code::PROTOCOL, "reserved opcode")),
    };
    let used = cursor.position() as usize;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(violation(code::PROTOCOL, "reserved bits set without an extension"));
    }
    let Some(mask) = header.mask else {
        return Err(violation(code::PROTOCOL, "frame without a mask"));
    };
    if header.len(length) != used {
        return Err(violation(code::PROTOCOL, "length not in its shortest form"));
    }
    if length > i64::MAX as u64 {
        return Err(violation(code::PROTOCOL, "length with its top bit set"));
    }
    let kind = match header.opcode {
        OpCode::Data(Data::Text) => OpcodeKind::Text,
        OpCode::Data(Data::Binary) => OpcodeKind::Binary,
        OpCode::Data(Data::Continue) => OpcodeKind::Continuation,
        OpCode::Control(Control::Ping) => OpcodeKind::Ping,
        OpCode::Control(Control::Pong) => OpcodeKind::Pong,
        OpCode::Control(Control::Close) => OpcodeKind::Close,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(violation(code::PROTOCOL, "reserved opcode"));
        }
    };
    if kind.is_control() {
        if !header.is_final {
            return Err(violation(code::PROTOCOL, "fragmented control frame"));
        }
        if length > MAX_CONTROL {
            return Err(violation(code::PROTOCOL, "control frame longer than 125 bytes"));
        }
    } else {
        match (kind, message) {
            (OpcodeKind::Continuation, None) => return Err(violation(code::PROTOCOL, "continuation of nothing")),
            (OpcodeKind::Continuation, Some(message)) if message.frames > limits.max_fragments => {
                return Err(violation(code::POLICY, "message in too many fragments"));
            }
            (OpcodeKind::Text | OpcodeKind::Binary, Some(_)) => {
                return Err(violation(code::PROTOCOL, "new message inside a fragmented one"));
            }
            (OpcodeKind::Binary, None) if !limits.binary => {
                return Err(violation(code::UNSUPPORTED, "binary message where text is spoken"));
            }
            _ => {}
        }
        let before = message.map_or(0, |m| m.data.len());
        if length > limits.max_message.saturating_sub(before) as u64 {
            return Err(violation(code::TOO_BIG, "message too big"));
        }
    }
    // `length` is at most MAX_CONTROL or max_message, so it fits a usize on every machine.
    Ok(Some((used, Frame { kind, fin: header.is_final, mask, remaining: length as usize })))
}

/// Makes a message of one whole frame, whose payload is already unmasked in place.
fn in_place(kind: OpcodeKind, payload: &[u8]) -> Result<Message<'_>, Violation> {
    match kind {
        OpcodeKind::Text => {
            std::str::from_utf8(payload).map(|text| Message::Text(Cow::Borrowed(text))).map_err(|_| NOT_UTF8)
        }
        // A continuation always has a message before it, and then the decoder is not idle.
        OpcodeKind::Binary | OpcodeKind::Continuation => Ok(Message::Binary(Cow::Borrowed(payload))),
        OpcodeKind::Ping | OpcodeKind::Pong | OpcodeKind::Close => control_frame(kind, Cow::Borrowed(payload)),
    }
}

fn control_frame(kind: OpcodeKind, payload: Cow<'_, [u8]>) -> Result<Message<'_>, Violation> {
    match kind {
        OpcodeKind::Ping => return Ok(Message::Ping(payload)),
        OpcodeKind::Close => {}
        _ => return Ok(Message::Pong),
    }
    // RFC 6455 §5.5.1: either nothing, or a code and perhaps a reason.
    match *payload {
        [] => Ok(Message::Close(None)),
        [_] => Err(violation(code::PROTOCOL, "close frame of one byte")),
        [high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !code::may_be_sent(code) {
                return Err(violation(code::PROTOCOL, "close code that may not be sent"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(violation(code::INVALID_DATA, "close reason that is not UTF-8"));
            }
            Ok(Message::Close(Some(code)))
        }
    }
}

/// XORs the mask over the bytes (RFC 6455 §5.3), eight at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}
