//! Idempotency keys: remembers the last keys of one sender in one room, and recognizes repeated ones. Pure; both
//! implementations of the log use it. It knows neither rooms nor where the keys are stored.

use crate::types::{Digest, IdempotencyKey, Seq, WallMillis};

/// Keys kept for each session in each room. A client has at most `in_flight` (32) sends open and repeats those first.
pub const WINDOW: usize = 64;

/// Keys kept in each room for all POSTs without an identity.
pub const COMMON: usize = 100_000;

/// A used key, with the position of its message. In a sealed database, key and body are keyed hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: IdempotencyKey,
    pub body: Digest,
    pub seq: Seq,
    pub at: WallMillis,
}

/// The result of comparing a message with the one first sent under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Same { seq: Seq, at: WallMillis },
    OtherBody,
}

/// Size of a stored entry in bytes: key, body, seq, at.
const ENTRY_BYTES: usize = 16 + 16 + 8 + 8;

impl Entry {
    /// Compares a message that repeats this entry's key with the one first sent under it.
    pub fn compare(&self, body: Digest) -> Seen {
        if self.body == body { Seen::Same { seq: self.seq, at: self.at } } else { Seen::OtherBody }
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        // The ranges lie within the 48 bytes.
        bytes[..16].copy_from_slice(&self.key.0.0);
        bytes[16..32].copy_from_slice(&self.body.0);
        bytes[32..40].copy_from_slice(&self.seq.0.to_be_bytes());
        bytes[40..].copy_from_slice(&self.at.0.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let (mut key, mut body, mut seq, mut at) = ([0; 16], [0; 16], [0; 8], [0; 8]);
        key.copy_from_slice(&bytes[..16]);
        body.copy_from_slice(&bytes[16..32]);
        seq.copy_from_slice(&bytes[32..40]);
        at.copy_from_slice(&bytes[40..]);
        Entry {
            key: IdempotencyKey(Digest(key)),
            body: Digest(body),
            seq: Seq(u64::from_be_bytes(seq)),
            at: WallMillis(u64::from_be_bytes(at)),
        }
    }
}

/// The last [`WINDOW`] keys of one sender in one room, oldest first. It holds the stored bytes as they are, since it is
/// loaded and written far more often than a single entry is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    bytes: Vec<u8>,
}

impl Window {
    /// Reads stored bytes. Damaged bytes yield only their whole entries: a lost key may let one repeat through, but an
    /// error here would refuse this sender, and everyone in the same batch, forever.
    pub fn from_bytes(bytes: &[u8]) -> Window {
        let (entries, _rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let late = entries.len().saturating_sub(WINDOW);
        // `late` is at most the number of entries.
        Window { bytes: entries[late..].as_flattened().to_vec() }
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Looks a key up; `None` if it is new.
    pub fn lookup(&self, key: IdempotencyKey, body: Digest) -> Option<Seen> {
        self.lookup_newest(key, body, WINDOW)
    }

    /// Looks a key up among the newest `count` entries.
    pub fn lookup_newest(&self, key: IdempotencyKey, body: Digest, count: usize) -> Option<Seen> {
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        // Repeats are usually of recent sends: search from the newest back.
        let found = entries.iter().rev().take(count).find(|entry| entry.starts_with(&key.0.0))?;
        Some(Entry::decode(found).compare(body))
    }

    /// Returns the window without the entries that are implausible.
    pub fn plausible(&self, is_plausible: impl Fn(&Entry) -> bool) -> Window {
        let mut window = Window::default();
        self.entries().filter(is_plausible).for_each(|entry| window.push(entry));
        window
    }

    /// Returns the highest seq and time among its entries.
    pub fn newest(&self) -> Option<(Seq, WallMillis)> {
        self.entries().map(|entry| (entry.seq, entry.at)).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// Returns its entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.bytes.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::decode)
    }

    /// Returns the window without the entries from this seq on.
    pub fn before(&self, seq: Seq) -> Window {
        self.plausible(|entry| entry.seq < seq)
    }

    /// Returns the number of its entries.
    pub fn count(&self) -> usize {
        self.bytes.len() / ENTRY_BYTES
    }

    /// Returns the window with the entries of a later one added that are newer than its own. Adding them twice changes
    /// nothing.
    pub fn followed_by(mut self, later: &Window) -> Window {
        let newest = self.newest().map_or(Seq::ZERO, |(seq, _)| seq);
        later.entries().filter(|entry| entry.seq > newest).for_each(|entry| self.push(entry));
        self
    }

    /// Returns the window for messages that were renumbered; `new_seq` returns `None` for a lost message, whose key is
    /// dropped.
    pub fn renumbered(&self, new_seq: impl Fn(Seq) -> Option<Seq>) -> Window {
        let mut window = Window::default();
        for entry in self.entries() {
            if let Some(seq) = new_seq(entry.seq) {
                window.push(Entry { seq, ..entry });
            }
        }
        window
    }

    /// Adds a new key; drops the oldest if there are too many.
    pub fn push(&mut self, entry: Entry) {
        if self.bytes.len() >= WINDOW * ENTRY_BYTES {
            self.bytes.drain(..ENTRY_BYTES);
        }
        self.bytes.extend_from_slice(&entry.encode());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        Entry {
            key: IdempotencyKey::of(&n.to_be_bytes()),
            body: Digest::of(b"body"),
            seq: Seq(n),
            at: WallMillis(u64::MAX - n),
        }
    }

    #[test]
    fn keeps_the_last_64_and_survives_a_round_trip() {
        let mut window = Window::default();
        for n in 0..100 {
            window.push(entry(n));
        }
        let back = Window::from_bytes(window.as_bytes());
        assert_eq!(back, window);
        assert_eq!(back.lookup(entry(35).key, entry(35).body), None);
        assert_eq!(
            back.lookup(entry(36).key, entry(36).body),
            Some(Seen::Same { seq: Seq(36), at: WallMillis(u64::MAX - 36) })
        );
        assert_eq!(back.lookup(entry(99).key, Digest::of(b"other")), Some(Seen::OtherBody));
    }

    #[test]
    fn damaged_bytes_yield_their_whole_entries() {
        let mut window = Window::default();
        window.push(entry(1));
        window.push(entry(2));
        let bytes = window.as_bytes();
        let cut = Window::from_bytes(&bytes[..bytes.len() - 1]);
        assert!(cut.lookup(entry(1).key, entry(1).body).is_some());
        assert!(cut.lookup(entry(2).key, entry(2).body).is_none());
        assert_eq!(Window::from_bytes(&[]), Window::default());
    }
}
