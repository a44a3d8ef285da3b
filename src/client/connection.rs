//! One connection to a server: TCP or TLS, the WebSocket, and with a pin the sealed channel in it; then JSON texts both
//! ways. With a pin, nothing is sent unsealed, whatever the server answers.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};

use super::dial::{Trust, connect};
use super::error::ConnectionError;
use super::handshake::upgrade;
use super::pipe::Pipe;
use super::sealed_lines::SealedLines;
use super::target::Target;
use crate::crypto::sealed::{Initiator, MAX_PLAINTEXT, PROLOGUE, Pin, Transport};
use crate::types::{Name, Reason};
use crate::ws::handshake::SUBPROTOCOL;

/// How long a server may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Milliseconds to stay away from a server that is overloaded, or that found this client too demanding.
const OVERLOAD_PAUSE: u64 = 5_000;

/// An open connection.
pub struct Connection {
    socket: WebSocket<Pipe>,
    transport: Option<Transport>,
    lines: SealedLines,
}

impl Connection {
    /// Connects, upgrades and, with a pin, seals, all before `deadline`. `name` goes into the URL of a socket that is
    /// not sealed, and so does `token` go into its request: that of the session that is to be resumed.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn open(
        target: &Target,
        pin: Option<&Pin>,
        name: Option<&Name>,
        token: Option<&str>,
        trust: Option<&Trust>,
        deadline: Instant,
    ) -> Result<Connection, ConnectionError> {
        let mut pipe = connect(&target.host, target.port, trust, deadline)?;
        let (protocol, name, token) = match pin {
            // The name is sent sealed, with the join, and the token with the resume.
            Some(_) => (sealed_protocol(), None, None),
            None => (SUBPROTOCOL, name, token),
        };
        let rest = upgrade(&mut pipe, target, protocol, name, token)?;
        let mut socket = WebSocket::from_partially_read(pipe, rest, Role::Client, None);
        let transport = pin.map(|pin| seal(&mut socket, pin)).transpose()?;
        socket.get_mut().set_read_deadline(None);
        Ok(Connection { socket, transport, lines: SealedLines::new() })
    }

    /// Sends one JSON object.
    ///
    /// # Errors
    /// The connection is lost, or the object is too long to be sealed.
    pub fn send(&mut self, text: &str) -> Result<(), ConnectionError> {
        let message = match &mut self.transport {
            None => Message::text(text),
            Some(transport) => {
                let mut sealed = Vec::new();
                let plain = [text.as_bytes(), b"\n"].concat();
                let done = transport.seal_into(&mut sealed, &plain);
                done.map_err(|fault| ConnectionError::Refused(fault.to_string().into()))?;
                Message::binary(sealed)
            }
        };
        self.socket.send(message).map_err(ConnectionError::of_socket)
    }

    /// Returns the length of the longest text that can be sent, in bytes: on a sealed socket it has to fit into one
    /// message together with its line feed.
    pub fn longest_text(&self) -> usize {
        match self.transport {
            None => usize::MAX,
            Some(_) => MAX_PLAINTEXT - 1,
        }
    }

    /// Appends every JSON object that has arrived, without waiting.
    ///
    /// # Errors
    /// How the connection ended.
    pub fn receive(&mut self, texts: &mut Vec<String>) -> Result<(), ConnectionError> {
        use tungstenite::Error::Io;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if self.transport.is_none() => texts.push(text.to_string()),
                Ok(Message::Binary(bytes)) if self.transport.is_some() => self.unseal(&bytes, texts)?,
                Ok(Message::Text(_) | Message::Binary(_)) => {
                    return Err(ConnectionError::lost("the server speaks another protocol"));
                }
                Ok(Message::Close(frame)) => {
                    let _ = self.socket.flush();
                    return Err(closed(frame.as_ref()));
                }
                Ok(_) => {}
                Err(Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectionError::of_socket(error)),
            }
        }
        match self.socket.flush() {
            Err(Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done.map_err(ConnectionError::of_socket),
        }
    }

    fn unseal(&mut self, sealed: &[u8], texts: &mut Vec<String>) -> Result<(), ConnectionError> {
        let mut plain = Vec::new();
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let opened = transport.open_into(&mut plain, sealed);
        opened.map_err(|fault| ConnectionError::lost(fault.to_string()))?;
        self.lines.push(&plain, texts).map_err(|error| ConnectionError::lost(Reason::of(error)))
    }

    /// Sets the longest sealed line to accept from now on, in bytes, as the server has announced it.
    pub fn set_longest_line(&mut self, longest: usize) {
        self.lines.set_longest(longest);
    }

    /// Sends a close frame, and waits a moment for the server's.
    pub fn close(mut self) {
        self.socket.get_mut().set_read_deadline(Some(Instant::now() + CLOSE_TIMEOUT));
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.socket.close(Some(frame)).is_ok() {
            while self.socket.read().is_ok() {}
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Returns the subprotocol of sealed sockets, whose name the Noise handshake is bound to.
fn sealed_protocol() -> &'static str {
    // proof: it is a constant in ASCII.
    std::str::from_utf8(PROLOGUE).expect("ASCII")
}

/// Translates a close frame (docs/protocol.md, "Close codes").
fn closed(frame: Option<&CloseFrame>) -> ConnectionError {
    let Some(frame) = frame else { return ConnectionError::lost("the server closed the connection") };
    let code = u16::from(frame.code);
    let why = Reason::from(format!("the server closed the connection: {code} {}", frame.reason.as_str()));
    match code {
        // 4003 and 4005 are reserved: no server sends them yet.
        4001 | 4003 | 4005 => ConnectionError::Refused(why),
        1009 => ConnectionError::TooLong(why),
        1008 | 1013 => ConnectionError::Lost(why, OVERLOAD_PAUSE),
        _ => ConnectionError::Lost(why, 0),
    }
}

/// Makes the sealed handshake (Noise NK), which only a server with the private key of the pin can answer.
fn seal(socket: &mut WebSocket<Pipe>, pin: &Pin) -> Result<Transport, ConnectionError> {
    let mismatch = || {
        let why = "the server's key does not match the pin (it is another server, or a man in the middle)";
        ConnectionError::Mismatch(why.into())
    };
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| ConnectionError::lost(error.to_string()))?;
    let (initiator, first) =
        Initiator::begin(pin, random).map_err(|_| ConnectionError::Refused("the pin is not a public key".into()))?;
    socket.send(Message::binary(first.to_vec())).map_err(ConnectionError::of_socket)?;
    loop {
        match socket.read().map_err(ConnectionError::of_socket)? {
            Message::Binary(answer) => return initiator.finish(&answer).map_err(|_| mismatch()),
            // A server with another key cannot read what was sent.
            Message::Close(Some(frame)) if frame.code == CloseCode::Policy => return Err(mismatch()),
            Message::Close(frame) => return Err(closed(frame.as_ref())),
            Message::Text(_) => return Err(mismatch()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_that_may_be_temporary_is_retried() {
        let close = |code: u16| closed(Some(&CloseFrame { code: code.into(), reason: "".into() }));
        for code in [4001, 4003, 4005] {
            assert!(matches!(close(code), ConnectionError::Refused(_)), "{code}");
        }
        assert!(matches!(close(1009), ConnectionError::TooLong(_)));
        assert!(matches!(close(1001), ConnectionError::Lost(_, 0)));
        assert!(matches!(close(1013), ConnectionError::Lost(_, OVERLOAD_PAUSE)));
    }
}
