//! One connection to a server: TCP or TLS, the WebSocket's handshake, the sealed one where a pin is given; then JSON texts
//! both ways. With a pin nothing goes out unsealed, whatever the server answers.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};
use tungstenite::{Error, Message};

use super::pipe::{Pipe, Tcp};
use super::sealed_lines::SealedLines;
use super::{Heard, Target};
use crate::crypto::sealed::{Initiator, MAX_PLAINTEXT, PROLOGUE, Pin, Transport};
use crate::types::Name;
use crate::ws::handshake::{SUBPROTOCOL, accept};

/// Longest answer to the handshake that is read, in bytes: its head, and the reason of a refusal.
const LONGEST_ANSWER: usize = 64 << 10;
/// How long a server may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Milliseconds to stay away from a server that has too much to do, or to bear.
const OVERLOADED: u64 = 5_000;

/// Why there is no connection, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may be there again later; not before so many milliseconds.
    Lost(String, u64),
    /// As [`Fault::Lost`], because a message was too long for the server, or for something on the way to it.
    TooLong(String),
    /// The server will not have it.
    Refused(String),
    /// Who answers is not who was asked for.
    Mismatch(String),
}

impl Fault {
    fn lost(why: impl ToString) -> Fault {
        Fault::Lost(why.to_string(), 0)
    }

    pub fn of_io(error: io::Error) -> Fault {
        #[cfg(feature = "tls")]
        if let Some(fault) = super::tls::distrust(&error) {
            return Fault::Mismatch(format!("the server's certificate is not trusted: {fault}"));
        }
        match error.kind() {
            ErrorKind::TimedOut => Fault::lost("no answer in time"),
            ErrorKind::UnexpectedEof => Fault::lost("the connection was closed"),
            _ => Fault::lost(error),
        }
    }

    fn of_socket(error: Error) -> Fault {
        match error {
            Error::Io(error) => Fault::of_io(error),
            Error::ConnectionClosed | Error::AlreadyClosed => Fault::lost("the connection was closed"),
            other => Fault::lost(other),
        }
    }
}

/// Whom to believe under TLS.
#[cfg(feature = "tls")]
pub use super::tls::Trust;

/// Without TLS nobody is asked over it.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
pub struct Trust;

/// An open connection.
pub struct Line {
    socket: WebSocket<Pipe>,
    sealed: Option<Transport>,
    lines: SealedLines,
}

impl Line {
    /// Connects, upgrades and, with a pin, seals, all before `until`. `name` goes into the URL of an open socket.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(
        target: &Target,
        pin: Option<&Pin>,
        name: Option<&Name>,
        trust: Option<&Trust>,
        until: Instant,
    ) -> Result<Line, Fault> {
        let mut pipe = connect(&target.host, target.port, trust, until)?;
        // A sealed socket's URL says nothing.
        let (protocol, query) = match (pin, name) {
            (Some(_), _) => (sealed_protocol(), String::new()),
            (None, None) => (SUBPROTOCOL, String::new()),
            (None, Some(name)) => (SUBPROTOCOL, format!("?name={}", percent_encoded(name.as_str()))),
        };
        let rest = upgrade(&mut pipe, target, protocol, &query)?;
        let mut socket = WebSocket::from_partially_read(pipe, rest, Role::Client, None);
        let sealed = pin.map(|pin| seal(&mut socket, pin)).transpose()?;
        socket.get_mut().be_patient(None);
        Ok(Line { socket, sealed, lines: SealedLines::new() })
    }

    /// Says one JSON object.
    ///
    /// # Errors
    /// The connection is lost; or the object is too long to be sealed.
    pub fn say(&mut self, text: &str) -> Result<(), Fault> {
        let message = match &mut self.sealed {
            None => Message::text(text),
            Some(transport) => {
                let mut sealed = Vec::new();
                let plain = [text.as_bytes(), b"\n"].concat();
                transport.seal_into(&mut sealed, &plain).map_err(|fault| Fault::Refused(fault.to_string()))?;
                Message::binary(sealed)
            }
        };
        self.socket.send(message).map_err(Fault::of_socket)
    }

    /// Returns the length of the longest text that can be said, in bytes: on a sealed socket it has to fit into one message
    /// together with its line feed.
    pub fn longest_text(&self) -> usize {
        match self.sealed {
            None => usize::MAX,
            Some(_) => MAX_PLAINTEXT - 1,
        }
    }

    /// Hands over every JSON object that is there by now; waits for none.
    ///
    /// # Errors
    /// The connection ended: how.
    pub fn hear(&mut self, texts: &mut Vec<String>) -> Result<(), Fault> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if self.sealed.is_none() => texts.push(text.to_string()),
                Ok(Message::Binary(bytes)) if self.sealed.is_some() => self.unseal(&bytes, texts)?,
                Ok(Message::Text(_) | Message::Binary(_)) => {
                    return Err(Fault::lost("the server speaks another protocol"));
                }
                Ok(Message::Close(frame)) => {
                    let _ = self.socket.flush();
                    return Err(closed(frame.as_ref()));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::of_socket(error)),
            }
        }
        match self.socket.flush() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done.map_err(Fault::of_socket),
        }
    }

    fn unseal(&mut self, sealed: &[u8], texts: &mut Vec<String>) -> Result<(), Fault> {
        let mut plain = Vec::new();
        let Some(transport) = &mut self.sealed else { return Ok(()) };
        transport.open_into(&mut plain, sealed).map_err(Fault::lost)?;
        self.lines.push(&plain, texts).map_err(Fault::lost)
    }

    /// Takes sealed lines of this many bytes from now on: what the server has announced.
    pub fn allow(&mut self, longest: usize) {
        self.lines.allow(longest);
    }

    /// Says that one is done, and waits a moment for the answer.
    pub fn close(mut self) {
        self.socket.get_mut().be_patient(Some(Instant::now() + FAREWELL));
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.socket.close(Some(frame)).is_ok() {
            while self.socket.read().is_ok() {}
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// A connection to a host, under TLS where `trust` says whom to believe, before `until`. A zone behind `%` is for the system
/// alone; no certificate names it.
///
/// # Errors
/// Why there is none.
pub fn connect(host: &str, port: u16, trust: Option<&Trust>, until: Instant) -> Result<Pipe, Fault> {
    let tcp = Tcp::connect(host, port, until).map_err(Fault::of_io)?;
    under(trust, tcp, host.split_once('%').map_or(host, |(host, _)| host))
}

#[cfg(feature = "tls")]
fn under(trust: Option<&Trust>, tcp: Tcp, host: &str) -> Result<Pipe, Fault> {
    let Some(trust) = trust else { return Ok(Pipe::Plain(tcp)) };
    Ok(Pipe::Tls(Box::new(trust.over(tcp, host).map_err(Fault::Refused)?)))
}

#[cfg(not(feature = "tls"))]
fn under(_: Option<&Trust>, tcp: Tcp, _: &str) -> Result<Pipe, Fault> {
    Ok(Pipe::Plain(tcp))
}

/// The name of the subprotocol is what handshakes are bound to.
fn sealed_protocol() -> &'static str {
    // proof: it is a constant in ASCII.
    std::str::from_utf8(PROLOGUE).expect("ASCII")
}

/// The opening handshake, the client's side (RFC 6455 §4.1). Gives what came behind the answer.
fn upgrade(pipe: &mut Pipe, target: &Target, protocol: &str, query: &str) -> Result<Vec<u8>, Fault> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Fault::lost)?;
    let key = BASE64.encode(&random);
    let request = format!(
        "GET {}/ws{query} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        target.prefix,
        target.authority()
    );
    pipe.write_all(request.as_bytes()).and_then(|()| pipe.flush()).map_err(Fault::of_io)?;
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > LONGEST_ANSWER || !fill(pipe, &mut answer).map_err(Fault::of_io)? {
            return Err(Fault::lost("what answers is no HTTP server, or speaks TLS where none was asked for"));
        }
    };
    let rest = answer.split_off(end);
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(&answer).map_err(|error| Fault::lost(format!("the answer is no HTTP: {error}")))?;
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let status = head.code.unwrap_or(0);
    if status != 101 {
        let length = header("Content-Length").and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let wait = header("Retry-After").and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
        return Err(refusal(status, &reason(pipe, rest, length), wait.saturating_mul(1000)));
    }
    if header("Sec-WebSocket-Accept") != Some(accept(&key).as_str()) {
        return Err(Fault::Refused("what answers is no WebSocket server".to_string()));
    }
    if header("Sec-WebSocket-Protocol") != Some(protocol) {
        return Err(Fault::Refused(format!("the server does not speak {protocol}")));
    }
    Ok(rest)
}

/// Reads more; false at the end.
fn fill(pipe: &mut Pipe, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    let length = pipe.read(&mut chunk)?;
    into.extend(chunk.iter().take(length));
    Ok(length > 0)
}

/// The body of a refusal: its `detail` (RFC 9457), if it has one.
fn reason(pipe: &mut Pipe, mut body: Vec<u8>, length: usize) -> String {
    while body.len() < length.min(LONGEST_ANSWER) && fill(pipe, &mut body).unwrap_or(false) {}
    let text = String::from_utf8_lossy(&body);
    Heard::parse(&text).and_then(|problem| problem.string("detail")).unwrap_or_default()
}

/// What a status other than 101 means. `wait`: milliseconds that it asked for.
fn refusal(status: u16, detail: &str, wait: u64) -> Fault {
    let mut why = format!("the server answers {status}");
    if !detail.is_empty() {
        let _ = write!(why, ": {detail}");
    }
    match status {
        408 | 429 | 500..=599 => Fault::Lost(why, wait),
        _ => Fault::Refused(why),
    }
}

/// What a close means (docs/protocol.md, "Close codes").
fn closed(frame: Option<&CloseFrame>) -> Fault {
    let Some(frame) = frame else { return Fault::lost("the server closed the connection") };
    let code = u16::from(frame.code);
    let why = format!("the server closed the connection: {code} {}", frame.reason.as_str());
    match code {
        // 4003 and 4005 are reserved: no server sends them yet.
        4001 | 4003 | 4005 => Fault::Refused(why),
        1009 => Fault::TooLong(why),
        1008 | 1013 => Fault::Lost(why, OVERLOADED),
        _ => Fault::lost(why),
    }
}

/// The sealed handshake (Noise NK): only who has the private key of the pin can answer it.
fn seal(socket: &mut WebSocket<Pipe>, pin: &Pin) -> Result<Transport, Fault> {
    let mismatch = || {
        Fault::Mismatch(
            "who answers has not the key of this pin: it may be another server, or someone in between".to_string(),
        )
    };
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(Fault::lost)?;
    let (initiator, first) =
        Initiator::begin(pin, random).map_err(|_| Fault::Refused("the pin is no public key".to_string()))?;
    socket.send(Message::binary(first.to_vec())).map_err(Fault::of_socket)?;
    loop {
        match socket.read().map_err(Fault::of_socket)? {
            Message::Binary(answer) => return initiator.finish(&answer).map_err(|_| mismatch()),
            // A server with another key cannot read what was sent.
            Message::Close(Some(frame)) if frame.code == CloseCode::Policy => return Err(mismatch()),
            Message::Close(frame) => return Err(closed(frame.as_ref())),
            Message::Text(_) => return Err(mismatch()),
            _ => {}
        }
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
    fn what_may_pass_is_tried_again() {
        assert_eq!(refusal(503, "full", 2000), Fault::Lost("the server answers 503: full".to_string(), 2000));
        for status in [400, 401, 403, 404, 421, 426, 200] {
            assert!(matches!(refusal(status, "", 0), Fault::Refused(_)), "{status}");
        }
        let close = |code: u16| closed(Some(&CloseFrame { code: code.into(), reason: "".into() }));
        for code in [4001, 4003, 4005] {
            assert!(matches!(close(code), Fault::Refused(_)), "{code}");
        }
        assert!(matches!(close(1009), Fault::TooLong(_)));
        assert!(matches!(close(1001), Fault::Lost(_, 0)) && matches!(close(1013), Fault::Lost(_, OVERLOADED)));
    }
}
