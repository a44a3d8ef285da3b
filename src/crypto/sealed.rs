//! Sealed sockets: `Noise_NK_25519_ChaChaPoly_SHA256` by crate `snow`. Clients pin the server's static key; the
//! handshake takes one message each way, and after it each direction is a sequence of sealed messages. Knows no frame,
//! no JSON and no socket; the randomness of each handshake is passed in.
//!
//! A message that does not verify changes nothing here: the next genuine one still opens (RUSTSEC-2024-0011). Both
//! directions change their key by Noise's REKEY() (§4.2, §11.3 of the Noise specification, revision 34) after every
//! [`REKEY_AFTER`] messages.

mod primitives;

use core::fmt;

pub use primitives::TAG_BYTES;
use primitives::{KEY_BYTES, Primitives};

use data_encoding::BASE64URL_NOPAD;
use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, TransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// Mixed into each handshake, so that none is valid for another protocol.
pub const PROLOGUE: &[u8] = b"racerd.v1.sealed";
/// Bytes of each of the two handshake messages: an ephemeral key and the tag of an empty payload.
pub const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;
/// Longest sealed message, in bytes (Noise specification §3).
pub const MAX_SEALED: usize = 65_535;
/// Longest plaintext of one message, in bytes.
pub const MAX_PLAINTEXT: usize = MAX_SEALED - TAG_BYTES;
/// Number of messages of a direction that are sealed under one key.
pub const REKEY_AFTER: u64 = 65_536;

const PATTERN: &str = "Noise_NK_25519_ChaChaPoly_SHA256";
/// First part of the line in a key file.
const KEY_FILE: &str = "racerd-sealed-1 ";

/// Why sealing or opening failed. The connection cannot be used afterwards, except after a [`Fault::Message`], which
/// changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A handshake message of the wrong length, or one that was not made for this key.
    Handshake,
    /// A message that does not verify: altered, truncated, repeated, out of order, or sealed under another key.
    Message,
    /// More than [`MAX_PLAINTEXT`] bytes in one message.
    TooLong,
    /// A direction has sealed as many messages as Noise allows (2^64 - 1).
    Exhausted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Handshake => "the sealed handshake was not made for this key",
            Fault::Message => "a sealed message does not verify",
            Fault::TooLong => "too long for one sealed message",
            Fault::Exhausted => "no more messages can be sealed",
        })
    }
}

impl std::error::Error for Fault {}

/// The server's static public key, which a client must know beforehand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Reads the pin from its text: 43 characters of base64url without padding.
    pub fn parse(text: &str) -> Option<Pin> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// The server's static private key. Wiped when dropped, and never shown.
#[derive(Clone)]
pub struct SealedKey(StaticSecret);

impl SealedKey {
    /// Makes the key from 32 random bytes.
    pub fn new(mut random: [u8; 32]) -> SealedKey {
        let key = SealedKey(StaticSecret::from(random));
        random.zeroize();
        key
    }

    /// Reads the key from the text of a key file: `racerd-sealed-1 `, 43 characters of base64url, and perhaps LF.
    pub fn parse(text: &str) -> Option<SealedKey> {
        let digits = text.strip_suffix('\n').unwrap_or(text).strip_prefix(KEY_FILE)?;
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(digits.as_bytes()).ok()?);
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(SealedKey::new)
    }

    /// Returns the text of the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE.len() + 43 + 1));
        text.push_str(KEY_FILE);
        BASE64URL_NOPAD.encode_append(bytes.as_slice(), &mut text);
        text.push('\n');
        text
    }

    pub fn pin(&self) -> Pin {
        Pin(PublicKey::from(&self.0).to_bytes())
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedKey")
    }
}

/// The server's side of handshakes.
#[derive(Clone, Debug)]
pub struct Responder {
    key: SealedKey,
}

impl Responder {
    pub fn new(key: SealedKey) -> Responder {
        Responder { key }
    }

    pub fn pin(&self) -> Pin {
        self.key.pin()
    }

    /// Answers a client's first message: returns the reply, and the transport for all later messages. `random` is 32
    /// random bytes, new for each call.
    ///
    /// # Errors
    /// [`Fault::Handshake`]: not 48 bytes, or made for another key.
    pub fn answer(&self, first: &[u8], random: [u8; 32]) -> Result<([u8; HANDSHAKE_BYTES], Transport), Fault> {
        if first.len() != HANDSHAKE_BYTES {
            return Err(Fault::Handshake);
        }
        let mut handshake = responder(PROLOGUE, &self.key, random)?;
        handshake.read_message(first, &mut []).map_err(|_| Fault::Handshake)?;
        let mut answer = [0; HANDSHAKE_BYTES];
        handshake.write_message(&[], &mut answer).map_err(|_| Fault::Handshake)?;
        Ok((answer, Transport::after(handshake)?))
    }
}

/// The client's side of one handshake, between its first message and the answer.
pub struct Initiator {
    handshake: Box<HandshakeState>,
}

impl Initiator {
    /// Begins a handshake with the server that has this pin: returns the state and the first message. `random` is 32
    /// random bytes, new for each call.
    ///
    /// # Errors
    /// [`Fault::Handshake`]: the pin is not a valid public key.
    pub fn begin(pin: &Pin, random: [u8; 32]) -> Result<(Initiator, [u8; HANDSHAKE_BYTES]), Fault> {
        let mut handshake = Box::new(initiator(PROLOGUE, pin, random)?);
        let mut first = [0; HANDSHAKE_BYTES];
        handshake.write_message(&[], &mut first).map_err(|_| Fault::Handshake)?;
        Ok((Initiator { handshake }, first))
    }

    /// Takes the server's answer and returns the transport for all later messages.
    ///
    /// # Errors
    /// [`Fault::Handshake`]: the peer that answered does not have the pinned key.
    pub fn finish(mut self, answer: &[u8]) -> Result<Transport, Fault> {
        if answer.len() != HANDSHAKE_BYTES {
            return Err(Fault::Handshake);
        }
        self.handshake.read_message(answer, &mut []).map_err(|_| Fault::Handshake)?;
        Transport::after(*self.handshake)
    }
}

/// Both directions after the handshake. Boxed to one pointer, since most connections are not sealed.
pub struct Transport(Box<TransportState>);

impl Transport {
    fn after(handshake: HandshakeState) -> Result<Transport, Fault> {
        let state = handshake.into_transport_mode().map_err(|_| Fault::Handshake)?;
        Ok(Transport(Box::new(state)))
    }

    /// Appends `plaintext`, sealed as one message, to `out`.
    ///
    /// # Errors
    /// [`Fault::TooLong`] past [`MAX_PLAINTEXT`] bytes, and [`Fault::Exhausted`]; then `out` is as it was.
    pub fn seal_into(&mut self, out: &mut Vec<u8>, plaintext: &[u8]) -> Result<(), Fault> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(Fault::TooLong);
        }
        let start = out.len();
        out.resize(start + plaintext.len() + TAG_BYTES, 0);
        if self.0.write_message(plaintext, &mut out[start..]).is_err() {
            out.truncate(start);
            return Err(Fault::Exhausted);
        }
        // At once, so that the state does not depend on the next call.
        if self.0.sending_nonce().is_multiple_of(REKEY_AFTER) {
            self.0.rekey_outgoing();
        }
        Ok(())
    }

    /// Appends the plaintext of the message `sealed` to `out`. (Not in place: snow copies.)
    ///
    /// # Errors
    /// [`Fault::Message`], and [`Fault::Exhausted`]; then nothing has changed, `out` included.
    pub fn open_into(&mut self, out: &mut Vec<u8>, sealed: &[u8]) -> Result<(), Fault> {
        if sealed.len() > MAX_SEALED {
            return Err(Fault::Message);
        }
        let Some(length) = sealed.len().checked_sub(TAG_BYTES) else { return Err(Fault::Message) };
        let start = out.len();
        // Room for the tag, too: ring opens in place.
        out.resize(start + sealed.len(), 0);
        let opened = self.0.read_message(sealed, &mut out[start..]);
        if let Err(error) = opened {
            // What did not verify is not for anybody's eyes.
            out[start..].zeroize();
            out.truncate(start);
            let exhausted = matches!(error, snow::Error::State(snow::error::StateProblem::Exhausted));
            return Err(if exhausted { Fault::Exhausted } else { Fault::Message });
        }
        out.truncate(start + length);
        if self.0.receiving_nonce().is_multiple_of(REKEY_AFTER) {
            self.0.rekey_incoming();
        }
        Ok(())
    }

    /// Bytes on the heap for both directions: the state, and two keys.
    pub const BYTES: usize = size_of::<TransportState>() + 2 * KEY_BYTES;
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

fn responder(prologue: &[u8], key: &SealedKey, random: [u8; 32]) -> Result<HandshakeState, Fault> {
    let secret = Zeroizing::new(key.0.to_bytes());
    let builder = builder(random).prologue(prologue).and_then(|b| b.local_private_key(secret.as_slice()));
    builder.and_then(Builder::build_responder).map_err(|_| Fault::Handshake)
}

fn initiator(prologue: &[u8], pin: &Pin, random: [u8; 32]) -> Result<HandshakeState, Fault> {
    let builder = builder(random).prologue(prologue).and_then(|b| b.remote_public_key(&pin.0));
    builder.and_then(Builder::build_initiator).map_err(|_| Fault::Handshake)
}

fn builder<'a>(random: [u8; 32]) -> Builder<'a> {
    // proof: it is one of the names that snow knows, and each handshake in the tests parses it.
    let params: NoiseParams = PATTERN.parse().expect("a pattern of the Noise specification");
    Builder::with_resolver(params, Box::new(Primitives::new(random)))
}

#[cfg(test)]
mod tests;
