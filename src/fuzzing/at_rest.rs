//! Sealed rows and key files, as altered by anyone who can write to the disk: no bytes panic, a record opens only in
//! its own place and only as it was sealed, and a key file has one reading.

use super::input::Input;
use crate::crypto::at_rest::{DataKey, LogSalt, NONCE, Place, RecordKey, is_of_old_format, sealed_with};
use crate::types::{Seq, SessionId, WallMillis};

/// The room in the places of records from outside.
const ROOM: &str = "lobby";

/// Uses the input twice: as bytes found on a disk, and as a plan: what to seal, where, and what to corrupt.
pub fn at_rest(data: &[u8]) {
    let records = DataKey::new([1; 32]).records(&LogSalt([3; 16]));
    check_bytes(&records, data);
    check_sealing(&records, Input::new(data));
    if let Some(key) = DataKey::parse(data) {
        let text = key.to_text();
        let line = data.strip_suffix(b"\n").unwrap_or(data);
        assert_eq!(text.trim_end().as_bytes(), line, "two texts of one key");
    }
}

/// Checks that bytes which open equal those that this key would seal with that nonce.
fn check_bytes(records: &RecordKey, bytes: &[u8]) {
    let (seq, at) = (Seq(42), WallMillis(1_790_000_000_123));
    for place in [
        Place::Message { room: ROOM, era: 0, seq, at, member: Some(0x7c2e) },
        Place::Message { room: ROOM, era: 0, seq, at, member: None },
        Place::Parked { session: SessionId([1; 16]), at: 5 },
    ] {
        let Ok(plain) = records.open(&place, bytes) else { continue };
        if is_of_old_format(bytes) {
            continue;
        }
        assert_eq!(sealed_with(bytes), Some(records.id()));
        let Some(nonce) = bytes.get(9..).and_then(|rest| rest.first_chunk::<NONCE>()) else {
            // proof: this must not happen; the fuzzer looks for it.
            panic!("a record without a nonce opens")
        };
        let mut again = Vec::new();
        records.seal(&place, nonce, &[&plain], &mut again);
        assert_eq!(again, bytes, "two records of one text");
    }
}

fn check_sealing(records: &RecordKey, mut input: Input) {
    let (place, other) = (place(&mut input), place(&mut input));
    let (at, bit) = (usize::from(input.short()), input.byte() % 8);
    let mut nonce = [0; NONCE];
    nonce.fill_with(|| input.byte());
    let plain = input.rest();
    let mut record = Vec::new();
    records.seal(&place, &nonce, &[plain], &mut record);
    assert_eq!(records.open(&place, &record).as_deref(), Ok(plain));
    assert_eq!(records.open(&other, &record).is_ok(), place == other, "{place:?} {other:?}");
    let at = at % record.len();
    if let Some(byte) = record.get_mut(at) {
        *byte ^= 1 << bit;
    }
    assert!(records.open(&place, &record).is_err(), "byte {at} was changed");
    record.truncate(at);
    assert!(records.open(&place, &record).is_err(), "cut at {at}");
}

fn place(input: &mut Input) -> Place<'static> {
    let kind = input.byte();
    let mut number = || u64::from(input.short());
    match kind % 4 {
        0 => Place::Parked { session: SessionId([kind / 4; 16]), at: number() },
        _ => {
            let (era, seq, at) = (u64::from(kind / 16), Seq(number()), WallMillis(number()));
            let member = (kind % 4 > 1).then(&mut number);
            Place::Message { room: if kind % 4 == 3 { ROOM } else { "a" }, era, seq, at, member }
        }
    }
}
