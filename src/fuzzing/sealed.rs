//! Handshake and messages of sealed sockets, as sent by anyone who can write to them: no bytes panic, no message opens
//! that the other side did not seal in just that form and at just that point, and a message that does not open changes
//! no state.

use super::input::Input;
use crate::crypto::sealed::{Fault, HANDSHAKE_BYTES, Initiator, MAX_PLAINTEXT, Pin, Responder, SealedKey, Transport};

/// Most steps of one input.
const STEPS: usize = 24;

/// Selects the meaning of the other bytes by the first one: a client's first message, a server's answer, a corruption
/// of either, a conversation, or a key's text.
pub fn sealed(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => check_first(input.rest()),
        1 => check_answer(input.rest()),
        2 => check_spoilt_handshake(input),
        3 => check_talk(input),
        _ => check_text(input.rest()),
    }
}

fn key() -> SealedKey {
    SealedKey::new([7; 32])
}

/// Returns a client's state and its first message, always the same.
fn begin() -> (Initiator, [u8; HANDSHAKE_BYTES]) {
    // proof: it is the pin of a key, and every input that gets here shows it.
    Initiator::begin(&key().pin(), [1; 32]).expect("a pin")
}

fn answer(first: &[u8]) -> Result<([u8; HANDSHAKE_BYTES], Transport), Fault> {
    Responder::new(key()).answer(first, [2; 32])
}

fn pair() -> (Transport, Transport) {
    let (client, first) = begin();
    // proof: it was made for this key; again, every input that gets here shows it.
    let (answer, server) = answer(&first).expect("a genuine first message");
    // proof: it answers that message.
    (client.finish(&answer).expect("a genuine answer"), server)
}

/// Checks that an accepted first message has the right length, and that the answer leads to a usable transport.
fn check_first(first: &[u8]) {
    match answer(first) {
        Ok((_, mut server)) => {
            assert_eq!(first.len(), HANDSHAKE_BYTES);
            assert_eq!(server.seal_into(&mut Vec::new(), b"x"), Ok(()));
        }
        Err(fault) => assert_eq!(fault, Fault::Handshake),
    }
}

/// Checks that only the holder of the key can answer: an accepted answer leads to the same keys on both sides.
fn check_answer(bytes: &[u8]) {
    let (client, first) = begin();
    match client.finish(bytes) {
        Ok(mut client) => {
            // proof: it was made for this key.
            let (answer, mut server) = answer(&first).expect("a genuine first message");
            assert_eq!(answer, bytes, "somebody else answered");
            check_genuine(&mut client, &mut server, b"x");
        }
        Err(fault) => assert_eq!(fault, Fault::Handshake),
    }
}

fn check_spoilt_handshake(mut input: Input) {
    let (client, mut first) = begin();
    // proof: it was made for this key.
    let (mut answered, _) = answer(&first).expect("a genuine first message");
    let is_first = input.byte() & 1 == 0;
    spoil(if is_first { &mut first } else { &mut answered }, &mut input);
    match is_first {
        true => assert!(answer(&first).is_err(), "an altered first message is answered"),
        false => assert!(client.finish(&answered).is_err(), "an altered answer is taken"),
    }
}

/// Checks that both sides stay in step, whatever bytes arrive between genuine messages.
fn check_talk(mut input: Input) {
    let (mut client, mut server) = pair();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        let (from, to) = if step & 1 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        match (step >> 1) % 5 {
            0 => {
                let length = usize::from(input.byte());
                check_genuine(from, to, input.take(length));
            }
            1 => {
                let length = usize::from(input.short());
                check_genuine(from, to, &vec![step; length]);
            }
            2 => {
                let length = usize::from(input.byte());
                check_bytes(from, to, input.take(length));
            }
            3 => {
                let length = usize::from(input.byte());
                let plaintext = input.take(length);
                check_damaged(from, to, plaintext, &mut input);
            }
            _ => {
                let length = usize::from(input.byte());
                check_repeated(from, to, input.take(length));
            }
        }
    }
    check_genuine(&mut client, &mut server, b"the last word");
    check_genuine(&mut server, &mut client, b"and its answer");
}

fn check_genuine(from: &mut Transport, to: &mut Transport, plaintext: &[u8]) {
    let Some(sealed) = seal(from, plaintext) else { return };
    assert_eq!(open(to, &sealed).as_deref(), Some(plaintext));
}

/// Checks that bytes which open are the other side's next message.
fn check_bytes(from: &mut Transport, to: &mut Transport, bytes: &[u8]) {
    let Some(plaintext) = open(to, bytes) else { return };
    assert_eq!(seal(from, &plaintext).as_deref(), Some(bytes), "two messages of one text");
}

fn check_damaged(from: &mut Transport, to: &mut Transport, plaintext: &[u8], input: &mut Input) {
    let Some(sealed) = seal(from, plaintext) else { return };
    let mut spoilt = sealed.clone();
    let at = spoil(&mut spoilt, input);
    assert_eq!(open(to, &spoilt), None, "byte {at} was changed");
    assert_eq!(open(to, sealed.get(..at).unwrap_or_default()), None, "cut at {at}");
    assert_eq!(open(to, &[&sealed[..], b"x"].concat()), None, "longer than it was");
    assert_eq!(open(to, &sealed).as_deref(), Some(plaintext), "what was damaged moved something");
}

/// Checks that a message opens once, on the other side, and not after a later one.
fn check_repeated(from: &mut Transport, to: &mut Transport, plaintext: &[u8]) {
    let (Some(first), Some(second)) = (seal(from, plaintext), seal(from, plaintext)) else { return };
    assert_eq!(open(from, &first), None, "thrown back");
    assert_eq!(open(to, &second), None, "before its time");
    assert_eq!(open(to, &first).as_deref(), Some(plaintext));
    assert_eq!(open(to, &first), None, "twice");
    assert_eq!(open(to, &second).as_deref(), Some(plaintext));
}

fn seal(transport: &mut Transport, plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let done = transport.seal_into(&mut out, plaintext);
    let expected = if plaintext.len() > MAX_PLAINTEXT { Err(Fault::TooLong) } else { Ok(()) };
    assert_eq!(done, expected, "{} bytes", plaintext.len());
    assert!(out.starts_with(b"before"));
    let sealed = out.split_off(b"before".len());
    assert_eq!(sealed.is_empty(), done.is_err());
    done.is_ok().then_some(sealed)
}

/// Returns the plaintext; `None` where the message does not verify, and then nothing was appended.
fn open(transport: &mut Transport, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let done = transport.open_into(&mut out, sealed);
    assert!(out.starts_with(b"before"));
    let plaintext = out.split_off(b"before".len());
    match done {
        Ok(()) => Some(plaintext),
        Err(fault) => {
            assert_eq!((fault, plaintext.len()), (Fault::Message, 0));
            None
        }
    }
}

/// Flips one bit, and returns the index of its byte.
fn spoil(bytes: &mut [u8], input: &mut Input) -> usize {
    let (at, bit) = (usize::from(input.short()) % bytes.len().max(1), input.byte() % 8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
    at
}

/// Checks that a key has exactly one text, but for its final line feed, and a pin exactly one.
fn check_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(key) = SealedKey::parse(text) {
        let whole = key.to_text();
        assert!(*whole == text || whole.strip_suffix('\n') == Some(text), "two texts of one key");
    }
    if let Some(pin) = Pin::parse(text) {
        assert_eq!(pin.to_string(), text, "two texts of one pin");
    }
}
