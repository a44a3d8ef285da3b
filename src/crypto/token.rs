//! Session tokens: the claim of a session, sealed with XChaCha20-Poly1305 under a key of the database. The server
//! stores nothing for a token, so connecting writes nothing and no session is lost in a crash; clients can neither read
//! nor alter a token.

use chacha20poly1305::aead::{Aead, AeadInOut, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;

use crate::types::{Digest, MemberId, Name, SessionClaim, SessionId};

/// The content of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub claim: SessionClaim,
    /// The digest of the person to whom the session is bound, if it is not a guest's.
    pub sub: Option<Digest>,
    /// Time of issue, in the server's own running seconds.
    pub issued: u64,
}

/// Bytes of the nonce (draft-irtf-cfrg-xchacha §2.3).
const NONCE: usize = 24;
/// Bytes of the authentication tag.
const TAG: usize = 16;
/// session, member, generation, issued.
const FIXED: usize = 16 + 8 + 4 + 8;
/// The digest of the sub, in tokens that are bound to one.
const SUB: usize = 16;
/// Longest text that is examined: a name has 32 characters of at most 4 bytes.
const LONGEST: usize = (NONCE + SUB + FIXED + Name::MAX * 4 + TAG).div_ceil(3) * 4;
/// The kinds of sessions: whether one is private, whether it is bound to a person, and what binds its token to its use
/// and format.
const KINDS: [(bool, bool, &[u8]); 4] = [
    (false, false, b"racerd session token 1"),
    (true, false, b"racerd session token 1 private"),
    (false, true, b"racerd session token 1 bound"),
    (true, true, b"racerd session token 1 bound private"),
];

/// Draws the nonces of tokens: random bytes, fresh from the system for each; `None` if it has none. Numbers that are
/// drawn ahead, or counted, would come twice where a virtual machine is started twice from one snapshot.
pub type Nonces = Box<dyn FnMut() -> Option<[u8; 24]> + Send>;

/// Makes and reads tokens.
pub struct TokenSealer {
    cipher: XChaCha20Poly1305,
    nonces: Nonces,
}

impl TokenSealer {
    pub fn new(key: &[u8; 32], nonces: Nonces) -> TokenSealer {
        TokenSealer { cipher: XChaCha20Poly1305::new(key.into()), nonces }
    }

    /// Seals a token and returns its text: letters, digits, `-` and `_`; `None` if there is no nonce.
    pub fn seal(&mut self, token: &Token) -> Option<String> {
        let Token { claim, sub, issued } = token;
        let nonce = (self.nonces)()?;
        let mut bytes = Vec::with_capacity(NONCE + SUB + FIXED + claim.name.as_str().len() + TAG);
        bytes.extend_from_slice(&nonce);
        bytes.extend(sub.iter().flat_map(|sub| sub.0));
        bytes.extend_from_slice(&claim.session.0);
        bytes.extend_from_slice(&claim.member.as_u64().to_be_bytes());
        bytes.extend_from_slice(&claim.generation.to_be_bytes());
        bytes.extend_from_slice(&issued.to_be_bytes());
        bytes.extend_from_slice(claim.name.as_str().as_bytes());
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                context(claim.private, sub.is_some()),
                (&mut bytes[NONCE..]).into(),
            )
            .ok()?;
        bytes.extend_from_slice(&tag);
        Some(BASE64URL_NOPAD.encode(&bytes))
    }

    /// Returns the content of a token; `None` if it was not made with this key.
    pub fn open(&self, text: &str) -> Option<Token> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let decrypt = |(private, bound, context)| {
            let payload = Payload { msg: sealed, aad: context };
            self.cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(|plain| (plain, private, bound))
        };
        let (plain, private, bound) = KINDS.into_iter().find_map(decrypt)?;
        let (sub, rest) = match bound {
            true => plain.split_first_chunk::<SUB>().map(|(sub, rest)| (Some(Digest(*sub)), rest))?,
            false => (None, plain.as_slice()),
        };
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (member, rest) = rest.split_first_chunk::<8>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (issued, name) = rest.split_first_chunk::<8>()?;
        let claim = SessionClaim {
            session: SessionId(*session),
            member: MemberId::from_random(u64::from_be_bytes(*member)),
            generation: u32::from_be_bytes(*generation),
            name: Name::kept(std::str::from_utf8(name).ok()?)?,
            private,
        };
        Some(Token { claim, sub, issued: u64::from_be_bytes(*issued) })
    }
}

fn context(private: bool, bound: bool) -> &'static [u8] {
    let kind = KINDS.iter().find(|(is_private, is_bound, _)| (*is_private, *is_bound) == (private, bound));
    // proof: the table has all four.
    kind.expect("two kinds of two").2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Token {
        let claim = SessionClaim {
            session: SessionId([7; 16]),
            member: MemberId::from_random(0x7c2e),
            name: Name::parse(name).unwrap(),
            generation: 3,
            private: name.len() == 3,
        };
        Token { claim, sub: None, issued: 86_400 }
    }

    fn sealer_of(key: u8) -> TokenSealer {
        let mut count = 0_u64;
        let nonces = move || {
            count += 1;
            let mut nonce = [9; NONCE];
            nonce[..8].copy_from_slice(&count.to_be_bytes());
            Some(nonce)
        };
        TokenSealer::new(&[key; 32], Box::new(nonces))
    }

    /// Made with libsodium (PyNaCl), under a nonce as an older racerd had it: a salt and a count.
    #[test]
    fn a_token_of_another_implementation_opens() {
        let text = "AgICAgICAgICAgICAgICAgAAAAAAAAAAIWCJDeYpKJLK4NZMiJwInTumUxxyIyPnBjRyPNJb5Cwvkpdn\
                    Lq41ObMVlIXgaxLt0oRj_1LSrQ";
        assert_eq!(sealer_of(1).open(text), Some(token("bob")));
    }

    #[test]
    fn a_token_is_bound_to_whose_session_it_is() {
        let mut sealer = sealer_of(1);
        for name in ["bob", "alice"] {
            let bound = Token { sub: Some(Digest([5; 16])), ..token(name) };
            let text = sealer.seal(&bound).unwrap();
            assert_eq!(sealer.open(&text), Some(bound), "{name}");
        }
    }

    #[test]
    fn without_a_nonce_there_is_no_token() {
        assert_eq!(TokenSealer::new(&[1; 32], Box::new(|| None)).seal(&token("bob")), None);
    }

    #[test]
    fn a_token_says_what_was_sealed() {
        let mut sealer = sealer_of(1);
        for name in ["bob", "👩‍👩‍👧", &"\u{10ffff}".repeat(32).replace('\u{10ffff}', "😀")] {
            let text = sealer.seal(&token(name)).unwrap();
            assert_eq!(sealer.open(&text), Some(token(name)));
            assert_ne!(sealer.seal(&token(name)), Some(text), "no nonce comes twice");
        }
    }

    #[test]
    fn what_was_altered_or_made_elsewhere_is_no_token() {
        let mut sealer = sealer_of(1);
        let text = sealer.seal(&token("bob")).unwrap();
        let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(sealer.open(&BASE64URL_NOPAD.encode(&bytes)), None, "byte {at}");
            bytes[at] ^= 1;
        }
        for end in 0..text.len() {
            assert_eq!(sealer.open(&text[..end]), None);
        }
        assert_eq!(sealer_of(3).open(&text), None);
        assert_eq!(sealer.open(&format!("{text}A")), None);
        assert_eq!(sealer.open(&"A".repeat(100_000)), None);
    }
}
