//! What a sender has sent: the last keys of one sender in one room, and what they say about the next one. Pure; both
//! implementations of the log decide with it. It knows neither rooms nor where it is kept.

use crate::types::{Digest, Seq, WallMillis};

/// Keys kept per room and session. A client has at most `in_flight` (32) sends open and repeats those first.
pub const WINDOW: usize = 64;

/// Keys kept per room for all POSTs without an identity.
pub const COMMON: usize = 100_000;

/// One key that was used, and where its message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Digest,
    pub body: Digest,
    pub seq: Seq,
    pub at: WallMillis,
}

/// What a known key says about a message that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Same { seq: Seq, at: WallMillis },
    OtherBody,
}

/// An entry as it is stored: key, body, seq, at.
const ENTRY_BYTES: usize = 16 + 16 + 8 + 8;

impl Entry {
    pub fn compare(&self, body: Digest) -> Seen {
        if self.body == body { Seen::Same { seq: self.seq, at: self.at } } else { Seen::OtherBody }
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        // The ranges lie within the 48 bytes.
        bytes[..16].copy_from_slice(&self.key.0);
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
            key: Digest(key),
            body: Digest(body),
            seq: Seq(u64::from_be_bytes(seq)),
            at: WallMillis(u64::from_be_bytes(at)),
        }
    }
}

/// The last [`WINDOW`] keys of one sender in one room, oldest first, as the bytes that are stored: it is loaded and
/// written far more often than an entry is needed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    bytes: Vec<u8>,
}

impl Window {
    /// Reads stored bytes. Of damaged ones it takes the whole entries: a lost key may let one repeat through, but an
    /// error here would refuse this sender, and everyone in a batch with it, for ever.
    pub fn from_bytes(bytes: &[u8]) -> Window {
        let (entries, _rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let late = entries.len().saturating_sub(WINDOW);
        // `late` is at most the number of entries.
        Window { bytes: entries[late..].as_flattened().to_vec() }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is known of this key; `None` where it is new.
    pub fn look(&self, key: Digest, body: Digest) -> Option<Seen> {
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        // Repeats are of late sends: from the newest back.
        let found = entries.iter().rev().find(|entry| entry.starts_with(&key.0))?;
        Some(Entry::decode(found).compare(body))
    }

    /// The keys among them that make sense.
    pub fn sensible(&self, is_sensible: impl Fn(&Entry) -> bool) -> Window {
        let mut window = Window::default();
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        entries.iter().map(Entry::decode).filter(is_sensible).for_each(|entry| window.push(entry));
        window
    }

    /// The newest seq and time that its keys know of.
    pub fn newest(&self) -> Option<(Seq, WallMillis)> {
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        let entries = entries.iter().map(Entry::decode);
        entries.map(|entry| (entry.seq, entry.at)).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// The seqs that its keys stand for, oldest key first.
    pub fn seqs(&self) -> impl Iterator<Item = Seq> {
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        entries.iter().map(|entry| Entry::decode(entry).seq)
    }

    /// The same keys for messages that have other seqs now; without those whose message is lost.
    pub fn renumbered(&self, place: impl Fn(Seq) -> Option<Seq>) -> Window {
        let mut window = Window::default();
        for entry in self.bytes.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::decode) {
            if let Some(seq) = place(entry.seq) {
                window.push(Entry { seq, ..entry });
            }
        }
        window
    }

    /// Takes a new key in; the oldest one goes when there are too many.
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
            key: Digest::of(&n.to_be_bytes()),
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
        assert_eq!(back.look(entry(35).key, entry(35).body), None);
        assert_eq!(
            back.look(entry(36).key, entry(36).body),
            Some(Seen::Same { seq: Seq(36), at: WallMillis(u64::MAX - 36) })
        );
        assert_eq!(back.look(entry(99).key, Digest::of(b"other")), Some(Seen::OtherBody));
    }

    #[test]
    fn damaged_bytes_give_what_is_whole() {
        let mut window = Window::default();
        window.push(entry(1));
        window.push(entry(2));
        let bytes = window.as_bytes();
        let cut = Window::from_bytes(&bytes[..bytes.len() - 1]);
        assert!(cut.look(entry(1).key, entry(1).body).is_some());
        assert!(cut.look(entry(2).key, entry(2).body).is_none());
        assert_eq!(Window::from_bytes(&[]), Window::default());
    }
}
