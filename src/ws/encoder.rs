//! Encodes messages into frames for clients. Server frames carry no mask, so all recipients can share the bytes.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes left free for a text frame's header, as many as most messages' headers need.
const USUAL_HEADER: usize = 4;

/// Makes room for a text frame's header at the end of `out`. Write the payload behind it, then call [`end_text`] with
/// the returned mark.
pub fn begin_text(out: &mut Vec<u8>) -> usize {
    let mark = out.len();
    out.extend_from_slice(&[0; USUAL_HEADER]);
    mark
}

/// Writes the header of the frame begun at `mark`; its payload is everything behind the room made there.
pub fn end_text(out: &mut Vec<u8>, mark: usize) {
    end(out, mark, OpCode::Data(Data::Text));
}

fn end(out: &mut Vec<u8>, mark: usize, opcode: OpCode) {
    let length = out.len() - mark - USUAL_HEADER;
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let needed = header.len(length as u64);
    if needed < USUAL_HEADER {
        out.drain(mark..mark + USUAL_HEADER - needed);
    } else if needed > USUAL_HEADER {
        out.splice(mark..mark, std::iter::repeat_n(0, needed - USUAL_HEADER));
    }
    // Writing to memory of the right size cannot fail.
    let written = header.format(length as u64, &mut &mut out[mark..mark + needed]);
    debug_assert!(written.is_ok());
}

fn control(out: &mut Vec<u8>, opcode: Control, payload: &[u8]) {
    let mark = begin_text(out);
    out.extend_from_slice(payload);
    end(out, mark, OpCode::Control(opcode));
}

/// Appends a ping frame without payload.
pub fn ping_frame(out: &mut Vec<u8>) {
    control(out, Control::Ping, &[]);
}

/// Appends the pong that answers a ping with this payload (RFC 6455 §5.5.3).
pub fn pong_frame(out: &mut Vec<u8>, payload: &[u8]) {
    control(out, Control::Pong, payload);
}

/// Appends a close frame; a reason is truncated to 123 bytes, at a character boundary (RFC 6455 §5.5.1).
pub fn close_frame(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut payload = Vec::with_capacity(125);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let end = (0..=reason.len().min(123)).rev().find(|&i| reason.is_char_boundary(i)).unwrap_or(0);
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    control(out, Control::Close, &payload);
}

/// Appends a binary or text frame around a payload.
pub fn data_frame(out: &mut Vec<u8>, text: bool, payload: &[u8]) {
    let mark = begin_text(out);
    out.extend_from_slice(payload);
    end(out, mark, OpCode::Data(if text { Data::Text } else { Data::Binary }));
}

/// Appends the header of a binary frame; `length` bytes of payload follow.
pub fn binary_header(out: &mut Vec<u8>, length: usize) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
    // Writing to memory that grows cannot fail.
    let written = header.format(length as u64, out);
    debug_assert!(written.is_ok());
}

/// Returns the end of the server frame at the front of `frames`, in bytes; the length of `frames` if it is truncated.
/// Serves to find the boundary of a half-written frame.
pub fn frame_end(frames: &[u8]) -> usize {
    let mut cursor = std::io::Cursor::new(frames);
    match FrameHeader::parse(&mut cursor) {
        Ok(Some((_, length))) => (cursor.position() as usize + length as usize).min(frames.len()),
        _ => frames.len(),
    }
}
