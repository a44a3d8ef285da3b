//! Encrypted messages, as the server sees them: bodies of the right shape whose content nobody here reads. The number
//! of a message is in its nonce, since any client may use any `k`.

use racerd::protocol::encrypted::EncryptedRooms;
use racerd::testing::{Ppm, Random};
use serde_json::Value;

/// Decides which runs have encrypted messages, and what clients do with each other's. Drawn from a random source of its
/// own, so that the rest of a seed's run stays the same without them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encryption {
    /// The first room accepts encrypted messages only.
    pub only: bool,
    /// The share of messages and signals in the other rooms that are encrypted.
    pub share: Ppm,
    /// Weights against 1000 of a send, 0 for never: replaying another client's sealed body; taking a `k` that another
    /// client has used or will use; sending a body that must be refused.
    pub replay: usize,
    pub squat: usize,
    pub faulty: usize,
}

/// One in this many runs has encrypted messages.
const RUNS: usize = 4;

impl Encryption {
    pub fn draw(random: &mut Random) -> Encryption {
        if random.below(RUNS) > 0 {
            return Encryption::default();
        }
        let mut weight = |most: u64| if random.below(4) > 0 { random.magnitude((10, most)) as usize } else { 0 };
        let (replay, squat, faulty) = (weight(300), weight(200), weight(50));
        Encryption { only: random.below(4) > 0, share: random.within((0, 500_000)) as Ppm, replay, squat, faulty }
    }

    /// Returns whether the run has encrypted messages.
    pub fn is_on(&self) -> bool {
        self.only || self.share > 0
    }

    /// Returns whether the room accepts encrypted messages only.
    pub fn takes_only(&self, room: usize) -> bool {
        self.only && room == 0
    }

    /// Decides whether the next message in this room is encrypted.
    pub fn is_next(&self, room: usize, random: &mut Random) -> bool {
        self.takes_only(room) || random.chance(self.share)
    }

    /// Returns the corresponding setting of the server.
    pub fn rooms(&self) -> EncryptedRooms {
        EncryptedRooms::new(self.only.then_some("r0"))
    }
}

/// The kind of content of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Message(u64),
    Signal(u64),
}

/// An encrypted body, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub key: String,
    nonce: String,
    ciphertext: String,
}

/// Bytes around the key, the nonce and the ciphertext, in any spelling.
const AROUND: usize = 90;
/// The key's id, which the server does not compare with anything.
const KEY_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
/// Characters of a nonce, and of the shortest ciphertext.
const NONCE: usize = 32;
const TAG: usize = 22;

impl Sealed {
    /// Draws a body under this key, of at most `most` bytes (and at least 200).
    pub fn draw(about: About, key: String, most: usize, random: &mut Random) -> Sealed {
        let nonce = match about {
            About::Message(number) => format!("{number:0>NONCE$}"),
            About::Signal(number) => format!("S{number:0>0$}", NONCE - 1),
        };
        let longest = most.saturating_sub(key.len() + NONCE + AROUND).max(TAG);
        // A single base64 character encodes no byte; the last character leaves its unused bits zero.
        let length = match random.magnitude((TAG as u64, longest as u64)) as usize {
            length if length % 4 == 1 => length - 1,
            length => length,
        };
        let letter = char::from(b'a' + random.below(26) as u8);
        let ciphertext = format!("{:A>length$}", String::from(letter).repeat(length.min(TAG) - 1) + "A");
        Sealed { key, nonce, ciphertext }
    }

    /// Parses a message's or a signal's body; returns `None` if it is not encrypted.
    pub fn of(body: &Value) -> Option<Sealed> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        body.get("e2e")?;
        Some(Sealed { key: text("k")?, nonce: text("n")?, ciphertext: text("c")? })
    }

    pub fn about(&self) -> Option<About> {
        match self.nonce.strip_prefix('S') {
            Some(number) => number.parse().ok().map(About::Signal),
            None => self.nonce.parse().ok().map(About::Message),
        }
    }

    /// Returns the body as clients write it.
    pub fn text(&self) -> String {
        let Sealed { key, nonce, ciphertext } = self;
        format!("{{\"e2e\":2,\"i\":\"{KEY_ID}\",\"k\":\"{key}\",\"n\":\"{nonce}\",\"c\":\"{ciphertext}\"}}")
    }

    /// Returns an equivalent spelling of the body in JSON.
    pub fn spelt(&self, random: &mut Random) -> String {
        let Sealed { key, nonce, ciphertext } = self;
        match random.below(4) {
            0 => self.text(),
            1 => format!(
                "{{\"e2e\":2, \"i\" : \"{KEY_ID}\", \"k\" : \"{key}\", \"n\" : \"{nonce}\", \"c\" : \"{ciphertext}\" }}"
            ),
            2 => format!("{{\"e2e\":2,\"c\":\"{ciphertext}\",\"n\":\"{nonce}\",\"k\":\"{key}\",\"i\":\"{KEY_ID}\"}}"),
            _ => format!(
                "{{\"e2e\":2,\"i\":\"{KEY_ID}\",\"k\":\"{key}\",\"n\":\"\\u00{:x}{}\",\"c\":\"{ciphertext}\"}}",
                nonce.as_bytes()[0],
                &nonce[1..]
            ),
        }
    }

    /// Returns the same bytes in a non-canonical encoding: an unused bit is set.
    pub fn not_canonical(&self) -> String {
        let whole = self.ciphertext.len() / 4 * 4;
        Sealed { ciphertext: format!("{}AB", &self.ciphertext[..whole]), ..self.clone() }.text()
    }
}
