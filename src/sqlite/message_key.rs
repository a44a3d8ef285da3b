//! The idempotency key in a message's row: what the windows and the table of common keys are made from, until a fold
//! has written them, and again after a kill.

use crate::store::idempotency::Entry;
use crate::store::{Scope, ScopedKey};
use crate::types::{Digest, IdempotencyKey, Seq, SessionId, WallMillis};

/// A key, and the digest of the body sent under it, as the windows keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageKey {
    pub key: ScopedKey,
    pub body: Digest,
}

/// The bytes of a key: 16 each of the key, the body and the session; without a session it is a common key.
pub(super) struct KeyBytes {
    bytes: [u8; 48],
    length: usize,
}

impl KeyBytes {
    pub fn as_slice(&self) -> &[u8] {
        // `length` is 32 or 48.
        &self.bytes[..self.length]
    }
}

impl MessageKey {
    /// Returns the entry of a window or of the common keys for the message with this seq and time.
    pub fn entry(&self, seq: Seq, at: WallMillis) -> Entry {
        Entry { key: self.key.key, body: self.body, seq, at }
    }

    pub fn encode(&self) -> KeyBytes {
        let mut bytes = [0; 48];
        // The ranges lie within the 48 bytes.
        bytes[..16].copy_from_slice(&self.key.key.0.0);
        bytes[16..32].copy_from_slice(&self.body.0);
        let length = match self.key.scope {
            Scope::Common => 32,
            Scope::Session(session) => {
                bytes[32..].copy_from_slice(&session.0);
                48
            }
        };
        KeyBytes { bytes, length }
    }

    /// Decodes a stored key; `None` for bytes of any other length, which only damage can cause.
    pub fn decode(bytes: &[u8]) -> Option<MessageKey> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (body, rest) = rest.split_first_chunk::<16>()?;
        let scope = match rest {
            [] => Scope::Common,
            _ => Scope::Session(SessionId(rest.try_into().ok()?)),
        };
        Some(MessageKey { key: ScopedKey { scope, key: IdempotencyKey(Digest(*key)) }, body: Digest(*body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::ALICE;

    #[test]
    fn keys_come_back_and_other_lengths_are_none() {
        for scope in [ALICE, Scope::Common] {
            let key =
                MessageKey { key: ScopedKey { scope, key: IdempotencyKey::of(b"key") }, body: Digest::of(b"body") };
            let bytes = key.encode();
            assert_eq!(MessageKey::decode(bytes.as_slice()), Some(key));
            let cut = &bytes.as_slice()[..bytes.as_slice().len() - 1];
            assert_eq!(MessageKey::decode(cut), None);
        }
        assert_eq!(MessageKey::decode(&[]), None);
        assert_eq!(MessageKey::decode(&[0; 49]), None);
    }
}
