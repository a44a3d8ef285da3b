//! One connection to a server: TCP or TLS, the WebSocket, and with a pin the sealed channel in it; then JSON texts both
//! ways. With a pin, nothing is sent unsealed, whatever the server answers, and nothing that came unsealed is believed:
//! it can lose the connection, but neither end nor stop anything.

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
use super::server_message::ServerMessage;
use super::target::Target;
use crate::crypto::sealed::{HANDSHAKE_BYTES, Initiator, MAX_PLAINTEXT, Pin, Transport};
use crate::types::{Name, Reason};
use crate::ws::handshake::{SEALED, SUBPROTOCOL};

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
        let Some(pin) = pin else {
            let socket = open_socket(target, SUBPROTOCOL, name, token, trust, deadline)?;
            return Ok(Connection::over(socket, None));
        };
        let handshake = Handshake::begin(pin)?;
        // The name is sent sealed, with the join, and the token with the resume.
        let socket = open_socket(target, SEALED, None, None, trust, deadline);
        let sealed = socket.and_then(|mut socket| Ok((handshake.finish(&mut socket)?, socket)));
        let (transport, socket) = sealed.map_err(ConnectionError::unproved)?;
        Ok(Connection::over(socket, Some(transport)))
    }

    fn over(mut socket: WebSocket<Pipe>, transport: Option<Transport>) -> Connection {
        socket.get_mut().set_read_deadline(None);
        Connection { socket, transport, lines: SealedLines::new() }
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
                    return Err(if self.transport.is_some() { cut() } else { closed(frame.as_ref()) });
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
        let before = texts.len();
        let pushed = self.lines.push(&plain, texts);
        if let Some((at, closing)) =
            texts.iter().enumerate().skip(before).find_map(|(at, text)| Some((at, closing(text)?)))
        {
            texts.truncate(at);
            return Err(closing);
        }
        pushed.map_err(|error| ConnectionError::lost(Reason::of(error)))
    }

    /// Sets the longest sealed line to accept from now on, in bytes, as the server has announced it.
    pub fn set_longest_line(&mut self, longest: usize) {
        self.lines.set_longest(longest);
    }

    /// Ends the session: says so on a sealed socket and waits a moment for the answer, then for that to a close frame.
    pub fn close(mut self) {
        self.socket.get_mut().set_read_deadline(Some(Instant::now() + CLOSE_TIMEOUT));
        if self.transport.is_some() && self.send(r#"{"type":"end"}"#).is_ok() {
            self.await_end();
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.socket.close(Some(frame)).is_ok() {
            while self.socket.read().is_ok() {}
        }
    }
}

impl Connection {
    /// Reads until the server has confirmed the end of the session, or refused it: one of before knows no such request,
    /// and takes the close frame for it.
    fn await_end(&mut self) {
        let mut texts = Vec::new();
        while let Ok(message) = self.socket.read() {
            if let Message::Binary(bytes) = message
                && (self.unseal(&bytes, &mut texts).is_err() || texts.drain(..).any(|text| is_of(&text, "error")))
            {
                break;
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Connects and upgrades.
fn open_socket(
    target: &Target,
    protocol: &str,
    name: Option<&Name>,
    token: Option<&str>,
    trust: Option<&Trust>,
    deadline: Instant,
) -> Result<WebSocket<Pipe>, ConnectionError> {
    let mut pipe = connect(&target.host, target.port, trust, deadline)?;
    let rest = upgrade(&mut pipe, target, protocol, name, token)?;
    Ok(WebSocket::from_partially_read(pipe, rest, Role::Client, None))
}

/// Returns whether the object is of this type. Most texts are not even parsed.
fn is_of(text: &str, kind: &str) -> bool {
    text.contains(kind)
        && ServerMessage::parse(text).and_then(|message| message.string("type")).as_deref() == Some(kind)
}

/// Returns how the connection ended, if this sealed text announces its close.
fn closing(text: &str) -> Option<ConnectionError> {
    let message = ServerMessage::parse(text).filter(|_| is_of(text, "closing"))?;
    let code = message.number("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    Some(closed_with(code, &message.string("reason").unwrap_or_default()))
}

/// Returns how a sealed connection ended, if nothing sealed said why. Whatever a close frame says, anybody on the way
/// could have written it.
fn cut() -> ConnectionError {
    ConnectionError::lost("the sealed connection was cut")
}

fn closed(frame: Option<&CloseFrame>) -> ConnectionError {
    match frame {
        None => ConnectionError::lost("the server closed the connection"),
        Some(frame) => closed_with(frame.code.into(), frame.reason.as_str()),
    }
}

/// Translates a close (docs/protocol.md, "Close codes").
fn closed_with(code: u16, reason: &str) -> ConnectionError {
    let why = Reason::from(format!("the server closed the connection: {code} {reason}"));
    match code {
        // 4003 and 4005 are reserved: no server sends them yet.
        4001 | 4003 | 4005 => ConnectionError::Refused(why),
        1009 => ConnectionError::TooLong(why),
        1008 | 1013 => ConnectionError::Lost(why, OVERLOAD_PAUSE),
        _ => ConnectionError::Lost(why, 0),
    }
}

/// The sealed handshake (Noise NK), which only a server with the private key of the pin can answer.
struct Handshake {
    initiator: Initiator,
    first: [u8; HANDSHAKE_BYTES],
}

impl Handshake {
    fn begin(pin: &Pin) -> Result<Handshake, ConnectionError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| ConnectionError::lost(error.to_string()))?;
        let begun = Initiator::begin(pin, random);
        let (initiator, first) = begun.map_err(|_| ConnectionError::Refused("the pin is not a public key".into()))?;
        Ok(Handshake { initiator, first })
    }

    fn finish(self, socket: &mut WebSocket<Pipe>) -> Result<Transport, ConnectionError> {
        let mismatch = || {
            let why = "the server's key does not match the pin (it is another server, or a man in the middle)";
            ConnectionError::Mismatch(why.into())
        };
        socket.send(Message::binary(self.first.to_vec())).map_err(ConnectionError::of_socket)?;
        loop {
            match socket.read().map_err(ConnectionError::of_socket)? {
                Message::Binary(answer) => return self.initiator.finish(&answer).map_err(|_| mismatch()),
                // A server with another key cannot read what was sent.
                Message::Close(Some(frame)) if frame.code == CloseCode::Policy => return Err(mismatch()),
                Message::Close(_) => return Err(cut()),
                Message::Text(_) => return Err(mismatch()),
                _ => {}
            }
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

    #[test]
    fn only_a_sealed_close_is_believed() {
        let told = |code: u16| closing(&format!(r#"{{"reason":"why","code":{code},"type":"closing"}}"#)).unwrap();
        assert!(matches!(told(4001), ConnectionError::Refused(_)));
        assert!(matches!(told(1009), ConnectionError::TooLong(_)));
        assert_eq!(told(1008).to_string(), "the server closed the connection: 1008 why");
        for other in ["{\"type\":\"message\",\"body\":\"closing\"}", "{\"type\":\"bye\"}", "closing"] {
            assert!(closing(other).is_none(), "{other}");
        }
    }
}
