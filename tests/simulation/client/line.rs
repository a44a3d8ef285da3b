//! A client's state of one socket: the data that it read there and, on a sealed socket, the keys that seal and open.
//! The meaning of messages is not judged here. Frames come from `wire`; for the Noise protocol racerd's own client side
//! is used.

use std::collections::VecDeque;

use racerd::crypto::sealed::{Initiator, Pin, SealedKey, Transport};
use racerd::testing::Random;

use super::super::wire::{self, Reader, Said};

/// The most plaintext bytes that may share a frame with the next message.
const FRAME: usize = 8 * 1024;

#[derive(Default)]
pub struct Line {
    reader: Reader,
    sealed: Option<Box<Sealed>>,
    /// The client sent something that the server must not accept, so being closed for it is right.
    pub is_spoilt: bool,
    /// The code of a close that somebody on the way has sent to the server.
    pub forged: Option<Option<u16>>,
    /// The code of the close that the server has announced.
    pub announced: Option<u16>,
}

#[derive(Default)]
struct Sealed {
    state: State,
    /// Messages that are sent but not sealed yet.
    waiting: String,
    /// Messages that are opened but not handled yet.
    opened: VecDeque<String>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Asked(Initiator),
    Ready(Transport),
}

impl Line {
    pub fn open() -> Line {
        Line::default()
    }

    pub fn sealed() -> Line {
        Line { sealed: Some(Box::default()), ..Line::default() }
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Returns whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.sealed.as_ref().is_some_and(|sealed| matches!(sealed.state, State::Ready(_)))
    }

    /// Returns the bare reader, for a caller that only wants to see the socket's end.
    pub fn into_reader(self) -> Reader {
        self.reader
    }

    // In.

    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Returns the next item, opened.
    ///
    /// # Errors
    /// A description of anything that no server may send.
    pub fn next(&mut self) -> Result<Option<Said>, String> {
        loop {
            if let Some(line) = self.sealed.as_mut().and_then(|sealed| sealed.opened.pop_front()) {
                return Ok(Some(Said::Text(line)));
            }
            match (self.reader.next()?, &mut self.sealed) {
                (Some(Said::Binary(bytes)), Some(sealed)) => sealed.open(&bytes)?,
                (Some(Said::Binary(_)), None) => return Err("a binary frame where text is spoken".into()),
                (Some(Said::Text(_)), Some(_)) => return Err("a text frame on a sealed socket".into()),
                (said, _) => return Ok(said),
            }
        }
    }

    // Out.

    /// Starts the client's part of the handshake, on a sealed socket.
    pub fn begin(&mut self, pin: &Pin, random: &mut Random) -> Option<Vec<u8>> {
        let sealed = self.sealed.as_mut()?;
        let (initiator, first) = Initiator::begin(pin, random.array()).expect("the pin of a server");
        sealed.state = State::Asked(initiator);
        Some(wire::binary(&first, false, random))
    }

    /// Starts a handshake that is malformed or meant for another server.
    pub fn begin_badly(&mut self, pin: &Pin, random: &mut Random) -> Vec<u8> {
        self.is_spoilt = true;
        let kind = random.below(4);
        let other = SealedKey::new(random.array()).pin();
        let (_, first) = Initiator::begin(if kind == 0 { &other } else { pin }, random.array()).expect("a pin");
        let mut first = first.to_vec();
        match kind {
            0 => {}
            1 => change_a_bit(&mut first, random),
            2 => first.truncate(random.below(48)),
            _ => return wire::text("{\"type\":\"ping\"}", false, random),
        }
        wire::binary(&first, false, random)
    }

    /// Sends one message: returns the bytes to write now. A sealed socket may hold it back for more, or until
    /// [`Line::flush`].
    pub fn say(&mut self, text: &str, in_parts: bool, random: &mut Random) -> Vec<u8> {
        let Some(sealed) = &mut self.sealed else { return wire::text(text, in_parts, random) };
        let mut bytes = Vec::new();
        if sealed.waiting.len() + text.len() > FRAME {
            bytes = sealed.seal_what_waits(in_parts, random);
        }
        sealed.waiting.push_str(text);
        sealed.waiting.push('\n');
        if random.coin() {
            bytes.extend(sealed.seal_what_waits(in_parts, random));
        }
        bytes
    }

    /// Returns the bytes of the messages that were held back.
    pub fn flush(&mut self, random: &mut Random) -> Vec<u8> {
        self.sealed.as_mut().map(|sealed| sealed.seal_what_waits(false, random)).unwrap_or_default()
    }

    /// Returns frames that break a sealed sequence in one of the possible ways. The server may obey `harmless` and must
    /// not obey `never`, which is also sent once more, in order. Returns `None` if nothing is sealed yet.
    pub fn say_damaged(&mut self, harmless: &str, never: &str, random: &mut Random) -> Option<Vec<u8>> {
        let sealed = self.sealed.as_mut()?;
        let State::Ready(transport) = &mut sealed.state else { return None };
        let mut seal = |plaintext: String| {
            let mut out = Vec::new();
            transport.seal_into(&mut out, plaintext.as_bytes()).expect("a short message");
            out
        };
        let mut frames = Vec::new();
        match random.below(7) {
            0 => {
                let mut frame = seal(format!("{never}\n"));
                change_a_bit(&mut frame, random);
                frames.push(frame);
            }
            1 => {
                let mut frame = seal(format!("{never}\n"));
                frame.truncate(random.below(frame.len()));
                frames.push(frame);
            }
            2 => {
                let frame = seal(format!("{harmless}\n"));
                frames.extend([frame.clone(), frame]);
            }
            3 => {
                let (first, second) = (seal(format!("{never}\n")), seal(format!("{never}\n")));
                frames.extend([second, first]);
            }
            4 => frames.push(seal(String::new())),
            5 => frames.push(seal(never.to_owned())),
            _ => {}
        }
        let mut out = Vec::new();
        if frames.is_empty() {
            out.extend(wire::text(never, false, random));
        }
        frames.push(seal(format!("{never}\n")));
        for frame in frames {
            out.extend(wire::binary(&frame, false, random));
        }
        self.is_spoilt = true;
        Some(out)
    }
}

impl Sealed {
    fn open(&mut self, bytes: &[u8]) -> Result<(), String> {
        match std::mem::take(&mut self.state) {
            State::New => return Err("a binary frame before the handshake".into()),
            State::Asked(initiator) => {
                let transport = initiator.finish(bytes).map_err(|fault| fault.to_string())?;
                self.state = State::Ready(transport);
            }
            State::Ready(mut transport) => {
                let mut plaintext = Vec::new();
                transport.open_into(&mut plaintext, bytes).map_err(|fault| fault.to_string())?;
                self.state = State::Ready(transport);
                let text = String::from_utf8(plaintext).map_err(|_| "sealed text that is none")?;
                let lines = text.strip_suffix('\n').ok_or("a sealed message that does not end with its line")?;
                self.opened.extend(lines.split('\n').map(str::to_owned));
            }
        }
        Ok(())
    }

    fn seal_what_waits(&mut self, in_parts: bool, random: &mut Random) -> Vec<u8> {
        let (State::Ready(transport), false) = (&mut self.state, self.waiting.is_empty()) else { return Vec::new() };
        let mut sealed = Vec::new();
        transport.seal_into(&mut sealed, self.waiting.as_bytes()).expect("a short message");
        self.waiting.clear();
        wire::binary(&sealed, in_parts, random)
    }
}

fn change_a_bit(bytes: &mut [u8], random: &mut Random) {
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
}
