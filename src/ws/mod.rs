//! WebSocket (RFC 6455): the handshake and the frame codec, bytes to messages and back. Knows no JSON, no room, no
//! connection. tungstenite reads and writes the frame headers; the state between frames is kept here (see `decoder`).

mod decoder;
mod encoder;
pub mod handshake;

pub use decoder::{Decoder, Limits, Message, Violation};
pub use encoder::{begin_text, binary_header, close_frame, data_frame, end_text, frame_end, ping_frame, pong_frame};

/// Close codes of RFC 6455 §7.4.1 and racerd's own (docs/protocol.md, "Close codes").
pub mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    pub const UNSUPPORTED: u16 = 1003;
    pub const INVALID_DATA: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const OVERLOADED: u16 = 1013;
    pub const RESUMED_ELSEWHERE: u16 = 4001;
    pub const NO_PONG: u16 = 4002;
    /// Nobody is known by what the client has shown, or it has shown nothing in time.
    pub const UNAUTHORIZED: u16 = 4005;
    pub const TOO_SLOW: u16 = 4004;

    /// Returns whether a peer may send this code in a close frame (RFC 6455 §7.4.1, §7.4.2, and the IANA registry up to
    /// 1014).
    pub fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests;
