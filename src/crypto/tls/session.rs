//! One TLS session: ciphertext to plaintext and back, record by record. An idle one keeps its keys and no buffer: what
//! it is given lies in buffers that all sessions share, and only a record that has not come whole is kept here.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeTlsData, EncryptError, UnbufferedStatus};

/// Most bytes of plaintext in one record (RFC 8446 §5.1).
pub const RECORD: usize = 16 * 1024;
/// What a record, and perhaps a message that changes the keys before it, takes beside its plaintext.
const OVERHEAD: usize = 512;
/// Bytes that a peer may send until its handshake is done. A usual one has less than 2 KiB.
const HANDSHAKE: usize = 64 * 1024;
/// Bytes of records that may be kept until the rest comes: one record, or a message that came in pieces.
pub const UNFINISHED: usize = 64 * 1024;
/// Steps that the library may ask for before it writes: more would be a library that never comes to an end.
const STEPS: usize = 16;

/// Why a session cannot go on.
#[derive(Debug)]
pub enum Fault {
    /// What came is no TLS, or none that is spoken here.
    Tls(rustls::Error),
    LongHandshake,
    /// A record or message has come in part, and the part is too long.
    LongMessage,
    /// The stream ended without close_notify: whether the peer had more to say is not known (RFC 8446 §6.1).
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
    /// Ciphertext that is not whole. The machine remembers places in it, so it is shown the same bytes again.
    unfinished: Vec<u8>,
    /// Bytes that came before the handshake was done.
    handshake: usize,
    ended: bool,
    /// The machine said so, and is not asked again.
    broken: bool,
}

impl Session {
    /// A session that waits for the client's first message.
    ///
    /// # Errors
    /// The settings do not make one.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, Fault> {
        let machine = UnbufferedServerConnection::new(config)?;
        Ok(Session { machine, unfinished: Vec::new(), handshake: 0, ended: false, broken: false })
    }

    pub fn is_handshaking(&self) -> bool {
        self.machine.is_handshaking()
    }

    /// Has nothing come yet?
    pub fn is_fresh(&self) -> bool {
        self.handshake == 0
    }

    /// Has the peer said that it sends nothing more?
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Puts what has not come whole at the front of `buffer`, which has room for [`UNFINISHED`] bytes; how many they
    /// are. The bytes for [`Session::receive`] begin with them.
    pub fn put_unfinished(&self, buffer: &mut [u8]) -> usize {
        let length = self.unfinished.len().min(buffer.len());
        buffer.iter_mut().zip(&self.unfinished).for_each(|(to, from)| *to = *from);
        length
    }

    /// Takes ciphertext: what was unfinished, and `new` bytes behind it. Adds the plaintext to `plain`, and to `out`
    /// what is to be sent for the protocol's own sake.
    ///
    /// # Errors
    /// The session is over. `plain` has what was in order before, `out` what is still to be told to the peer.
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
                // It is in `out`, which is sent before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    // What stands behind it does not count (RFC 8446 §6.1).
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

    /// After an error: the alert that tells the peer. Not one step more, since that would look at the bytes again.
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

    /// Adds one record with this plaintext, of [`RECORD`] bytes at most, to `out`. Only after the handshake.
    ///
    /// # Errors
    /// The session is over.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.write(out, plain.len() + OVERHEAD, |state, buffer| match state {
            ConnectionState::WriteTraffic(mut traffic) => Some(traffic.encrypt(plain, buffer)),
            _ => None,
        })
    }

    /// Adds the word that nothing more is sent to `out`. During a handshake there is none.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.is_handshaking() {
            return;
        }
        // A session that cannot say it any more ends without.
        let _ = self.write(out, OVERHEAD, |state, buffer| match state {
            ConnectionState::WriteTraffic(mut traffic) => Some(traffic.queue_close_notify(buffer)),
            _ => None,
        });
    }

    /// Brings the machine to where it can write, and has it write into `room` bytes at the end of `out`.
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

/// Adds one message of the protocol's own to `out`; true, since more may follow.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    // A certificate's chain may take more than one record, each is a message of its own here.
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
