//! Bodies of rooms with a key, as any member or stranger can make them: no bytes panic, a body opens only in its own
//! place and only as it was sealed, and what a reader marks follows from what stands above.

use super::input::Input;
use crate::client::{Heard, Judged, Marks};
use crate::crypto::room_key::{
    FINGERPRINT, Fault, Kind, NONCE, RoomCipher, RoomKey, STREAM, Stream, Unsealed, nonce_text,
};
use crate::types::RoomId;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Most messages of one log that is read.
const MESSAGES: usize = 100;

/// Uses the input three times: as a plaintext that some member made up, as a plan of what to seal and what to change,
/// and as a log of messages.
pub fn room_body(data: &[u8]) {
    // proof: a room's id by its rule.
    let cipher = RoomKey::new([5; 32]).cipher(&RoomId::parse("r").expect("an id"));
    check_plaintext(&cipher, data);
    check_sealing(&cipher, Input::new(data));
    check_marks(Input::new(data));
}

/// Checks a plaintext from outside: what opens is what would be sealed of its parts. It can be signed here only if its
/// stream is ours, so the parts behind the signature are taken and signed.
fn check_plaintext(cipher: &RoomCipher, data: &[u8]) {
    let stream = Stream::new(&Zeroizing::new([6; 32]));
    let nonce = [2; NONCE];
    let open = |sealed: &str| cipher.open(Kind::Message, &cipher.key_id(), "k", &nonce_text(&nonce), sealed);
    let unsigned = open(&cipher.seal_plaintext(Kind::Message, "k", &nonce, data));
    assert!(matches!(unsigned, Err(Fault::Malformed | Fault::Forged)), "nobody has signed it: {unsigned:?}");
    let signed = cipher.seal_signed(Kind::Message, "k", &nonce, &stream, data);
    match open(&signed) {
        Ok(opened) => {
            let mut again = Stream::from(&[6; 32], opened.counter - 1);
            let unsealed = Unsealed { name: &opened.name, sent: opened.sent, body: &opened.body };
            assert_eq!(cipher.seal(Kind::Message, "k", &nonce, &mut again, unsealed), signed, "two texts of one body");
        }
        Err(fault) => assert_eq!(fault, Fault::Malformed),
    }
}

fn check_sealing(cipher: &RoomCipher, mut input: Input) {
    let kind = if input.byte() & 1 == 0 { Kind::Message } else { Kind::Signal };
    let other = if kind == Kind::Message { Kind::Signal } else { Kind::Message };
    let (at, bit) = (usize::from(input.short()), input.byte() % 8);
    let sent = u64::from(input.short());
    let length = usize::from(input.byte() % 129);
    let name = String::from_utf8_lossy(input.take(length)).into_owned();
    let name: String = name.chars().take(32).collect();
    let body = String::from_utf8_lossy(input.rest()).into_owned();
    let mut stream = Stream::new(&Zeroizing::new([6; 32]));
    let nonce = [3; NONCE];
    let sealed = cipher.seal(kind, "k", &nonce, &mut stream, Unsealed { name: &name, sent, body: &body });
    let open = |kind, key, sealed: &str| cipher.open(kind, &cipher.key_id(), key, &nonce_text(&nonce), sealed);
    // proof: this must hold; the fuzzer looks for cases where it does not.
    let opened = open(kind, "k", &sealed).expect("what was sealed");
    assert_eq!((opened.name, opened.sent, opened.body, opened.counter), (name, sent, body, 1));
    assert_eq!(open(other, "k", &sealed), Err(Fault::Altered), "as another kind");
    assert_eq!(open(kind, "k2", &sealed), Err(Fault::Altered), "under another idempotency key");
    let mut bytes = data_encoding::BASE64URL_NOPAD.decode(sealed.as_bytes()).unwrap_or_default();
    let at = at % bytes.len();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
    let altered = data_encoding::BASE64URL_NOPAD.encode(&bytes);
    assert_eq!(open(kind, "k", &altered), Err(Fault::Altered), "byte {at} was changed");
}

/// Reads a log, each message two bytes, and holds the marks against a model that remembers everything.
fn check_marks(mut input: Input) {
    let mut heard = Heard::default();
    let (mut earlier, mut now) = (BTreeMap::<(u8, u64), u8>::new(), BTreeMap::<(u8, u64), u8>::new());
    for _ in 0..MESSAGES {
        if input.is_empty() {
            break;
        }
        let (what, counter) = (input.byte(), u64::from(input.byte() % 32) + 1);
        if what == 255 {
            heard.new_log();
            for (id, print) in std::mem::take(&mut now) {
                earlier.entry(id).or_insert(print);
            }
            continue;
        }
        let (stream, print) = (what % 4, what / 128);
        let id = (stream, counter);
        let before = earlier.get(&id).copied();
        let highest = now.keys().filter(|other| other.0 == stream).map(|other| other.1).max();
        let is_repeat = now.contains_key(&id) || before.is_some_and(|before| before != print);
        let judged = heard.second([stream; STREAM], counter, [print; FINGERPRINT]);
        if is_repeat {
            assert_eq!(judged, Judged::Repeat);
            continue;
        }
        now.insert(id, print);
        let out_of_order = highest.is_some_and(|highest| counter < highest);
        let missing = highest.map_or(0, |highest| counter.saturating_sub(highest + 1));
        let marks = Marks { again: before.is_some(), out_of_order, missing, old_form: false };
        assert_eq!(judged, Judged::New(marks), "{id:?} above {highest:?}");
    }
}
