//! One TLS session: ciphertext to plaintext and back, record by record. An idle session holds its keys and no buffer:
//! input lies in buffers that all sessions share, and only an incomplete record is kept here.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeTlsData, EncryptError, UnbufferedStatus};

/// Most bytes of plaintext in one record (RFC 8446 §5.1).
pub const RECORD: usize = 16 * 1024;
/// Overhead of a record, and perhaps of a key-update message before it, beyond the plaintext.
const OVERHEAD: usize = 512;
/// Bytes that a peer may send until its handshake is done. A usual handshake has less than 2 KiB.
const HANDSHAKE: usize = 64 * 1024;
/// Bytes of incomplete input that may be kept: one record, or a message that arrived in fragments.
pub const UNFINISHED: usize = 64 * 1024;
/// Steps that the library may ask for before it writes: more would be a library that never finishes.
const STEPS: usize = 16;

/// Why a session cannot go on.
#[derive(Debug)]
pub enum Fault {
    /// The input is not TLS, or not a version or form that is supported here.
    Tls(rustls::Error),
    LongHandshake,
    /// An incomplete record or message is too long.
    LongMessage,
    /// The stream was truncated: it ended without close_notify, so the peer may have had more to say (RFC 8446 §6.1).
    Truncated,
    /// The session is over, or its keys are used up.
    Over,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Tls(error) => write!(f, "{error}"),
            Fault::LongHandshake => write!(f, "the handshake is longer than {HANDSHAKE} bytes"),
            Fault::LongMessage => write!(f, "a message in pieces is longer than {UNFINISHED} bytes"),
            Fault::Truncated => f.write_str("the stream was cut: it ended without close_notify"),
            Fault::Over => f.write_str("the session is over"),
        }
    }
}

impl From<rustls::Error> for Fault {
    fn from(error: rustls::Error) -> Fault {
        Fault::Tls(error)
    }
}

pub struct Session {
    machine: UnbufferedServerConnection,
    /// Incomplete ciphertext. The state machine remembers positions in it, so it must see the same bytes again.
    unfinished: Vec<u8>,
    /// Bytes received before the handshake was done.
    handshake: usize,
    ended: bool,
    /// The state machine has failed, and is not called again.
    broken: bool,
}

impl Session {
    /// Makes a session that waits for the client's first message.
    ///
    /// # Errors
    /// The library refuses the settings.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, Fault> {
        let machine = UnbufferedServerConnection::new(config)?;
        Ok(Session { machine, unfinished: Vec::new(), handshake: 0, ended: false, broken: false })
    }

    pub fn is_handshaking(&self) -> bool {
        self.machine.is_handshaking()
    }

    /// Returns whether nothing was received yet.
    pub fn is_fresh(&self) -> bool {
        self.handshake == 0
    }

    /// Returns whether the peer has announced that it sends nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the bytes of memory that a record which is not whole takes.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished.capacity()
    }

    /// Copies incomplete input to the front of `buffer`, which has room for [`UNFINISHED`] bytes; returns its length.
    /// The bytes for [`Session::receive`] begin with it.
    pub fn put_unfinished(&self, buffer: &mut [u8]) -> usize {
        let length = self.unfinished.len().min(buffer.len());
        buffer.iter_mut().zip(&self.unfinished).for_each(|(to, from)| *to = *from);
        length
    }

    /// Takes ciphertext: the incomplete input, and `new` bytes behind it. Appends the plaintext to `plain`, and to
    /// `out` the bytes that the protocol itself has to send.
    ///
    /// # Errors
    /// The session is over. `plain` has the valid data up to the error, `out` the bytes that are still to be sent to
    /// the peer.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        new: usize,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if self.broken {
            return Err(Fault::Over);
        }
        if self.is_handshaking() {
            self.handshake = self.handshake.saturating_add(new);
            if self.handshake > HANDSHAKE {
                return Err(Fault::LongHandshake);
            }
        }
        let mut at = 0;
        loop {
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.machine.process_tls_records(rest);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
                // The data is in `out`, which is sent before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    // Data after it is ignored (RFC 8446 §6.1).
                    self.ended = true;
                    return Ok(());
                }
                Ok(_) => false,
                Err(error) => {
                    self.broken = true;
                    self.last_words(bytes, at + discard, out);
                    return Err(error.into());
                }
            };
            at += discard;
            if !goes_on {
                break;
            }
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.len() > UNFINISHED {
            return Err(Fault::LongMessage);
        }
        self.unfinished = rest.to_vec();
        Ok(())
    }

    /// Adds the alert that tells the peer of an error to `out`. Not one step more, since that would process the bytes
    /// again.
    fn last_words(&mut self, bytes: &mut [u8], mut at: usize, out: &mut Vec<u8>) {
        for _ in 0..STEPS {
            if !self.machine.wants_write() {
                return;
            }
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.machine.process_tls_records(rest);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { return };
            encode(&mut data, out);
            at += discard;
        }
    }

    /// Appends one record with this plaintext, at most [`RECORD`] bytes, to `out`. Only after the handshake.
    ///
    /// # Errors
    /// The session is over.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.write(out, plain.len() + OVERHEAD, |state, buffer| match state {
            ConnectionState::WriteTraffic(mut traffic) => Some(traffic.encrypt(plain, buffer)),
            _ => None,
        })
    }

    /// Appends close_notify to `out`. During a handshake there is none.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.is_handshaking() {
            return;
        }
        // A session that can no longer send it ends without.
        let _ = self.write(out, OVERHEAD, |state, buffer| match state {
            ConnectionState::WriteTraffic(mut traffic) => Some(traffic.queue_close_notify(buffer)),
            _ => None,
        });
    }

    /// Advances the state machine until it can write, and has it write into `room` bytes at the end of `out`.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        put: impl Fn(ConnectionState<'_, '_, ServerConnectionData>, &mut [u8]) -> Option<Result<usize, EncryptError>>,
    ) -> Result<(), Fault> {
        for _ in 0..STEPS {
            if self.broken {
                break;
            }
            let UnbufferedStatus { discard, state } = self.machine.process_tls_records(&mut self.unfinished);
            let state = state.inspect_err(|_| self.broken = true)?;
            match state {
                ConnectionState::EncodeTlsData(mut data) => drop(encode(&mut data, out)),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.ended = true,
                state => {
                    let before = out.len();
                    out.resize(before + room, 0);
                    let written = put(state, out.get_mut(before..).unwrap_or_default());
                    let length = written.and_then(Result::ok);
                    out.truncate(before + length.unwrap_or(0));
                    return length.map(drop).ok_or(Fault::Over);
                }
            }
            self.unfinished.drain(..discard.min(self.unfinished.len()));
        }
        Err(Fault::Over)
    }
}

/// Appends one message of the protocol's own to `out`; true, since more may follow.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    // A certificate chain may take more than one record; rustls hands each out as a message of its own.
    let mut room = OVERHEAD;
    loop {
        out.resize(before + room, 0);
        match data.encode(out.get_mut(before..).unwrap_or_default()) {
            Ok(length) => {
                out.truncate(before + length);
                return true;
            }
            Err(rustls::unbuffered::EncodeError::InsufficientSize(error)) => room = error.required_size,
            Err(rustls::unbuffered::EncodeError::AlreadyEncoded) => {
                out.truncate(before);
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
