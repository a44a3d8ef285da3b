//! The primitives under snow: ring's ChaCha20-Poly1305 and SHA-256, x25519-dalek's X25519, and the randomness of one
//! handshake.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// Bytes by which a sealed message is longer than its plaintext.
pub const TAG_BYTES: usize = 16;
/// Bytes of the key of one direction.
pub const KEY_BYTES: usize = size_of::<ChaChaPoly>();

/// Primitives for one side of one handshake, and for the transport after it.
pub struct Primitives {
    random: Zeroizing<[u8; 32]>,
}

impl Primitives {
    pub fn new(random: [u8; 32]) -> Primitives {
        Primitives { random: Zeroizing::new(random) }
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.random.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| Box::new(X25519::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::SHA256).then(|| Box::new(Sha256(Context::new(&SHA256))) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly).then(|| Box::new(ChaChaPoly(key(&[0; 32]))) as Box<dyn Cipher>)
    }
}

/// 32 random bytes, given out once: each side of a handshake makes one ephemeral key.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let random = self.0.take().filter(|random| random.len() == dest.len()).ok_or(snow::Error::Rng)?;
        dest.copy_from_slice(random.as_slice());
        Ok(())
    }
}

/// A key pair of Curve25519 (RFC 7748).
struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl Default for X25519 {
    fn default() -> X25519 {
        X25519 { secret: StaticSecret::from([0; 32]), public: PublicKey::from([0; 32]) }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut bytes = [0; 32];
        // snow passes `priv_len` bytes; a shorter slice would give a key with zeros at its end, never a panic.
        for (to, from) in bytes.iter_mut().zip(privkey) {
            *to = *from;
        }
        self.secret = StaticSecret::from(bytes);
        self.public = PublicKey::from(&self.secret);
        bytes.zeroize();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        self.set(bytes.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow passes a buffer sized for the longest keys that it supports.
        let theirs: &[u8; 32] = pubkey.first_chunk().ok_or(snow::Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(*theirs));
        // A point of low order: the result would be the same for every key (RFC 7748 §6.1).
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.first_chunk_mut().ok_or(snow::Error::Dh).map(|out: &mut [u8; 32]| *out = shared.to_bytes())
    }
}

/// The key of one direction (RFC 8439). It lies in the connection's memory in ring's own form, which ring does not
/// wipe.
struct ChaChaPoly(LessSafeKey);

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    // proof: a key of ChaCha20-Poly1305 has 32 bytes, and any 32 will do.
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("32 bytes"))
}

/// Returns Noise's nonce for this cipher: four zeros, then the number in little endian (Noise specification §12.3).
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, bytes: &[u8; 32]) {
        self.0 = key(bytes);
    }

    fn encrypt(&self, number: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let length = plaintext.len();
        let (text, rest) = out.split_at_mut(length);
        text.copy_from_slice(plaintext);
        // proof: ring refuses only texts longer than 256 GiB, and snow those longer than 65,535 bytes.
        let tag = self.0.seal_in_place_separate_tag(nonce(number), Aad::from(authtext), text).expect("short enough");
        rest[..TAG_BYTES].copy_from_slice(tag.as_ref());
        length + TAG_BYTES
    }

    fn decrypt(&self, number: u64, authtext: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(snow::Error::Decrypt)?;
        let open = |buffer: &mut [u8]| {
            buffer.copy_from_slice(sealed);
            self.0
                .open_in_place(nonce(number), Aad::from(authtext), buffer)
                .map(|_| ())
                .map_err(|_| snow::Error::Decrypt)
        };
        if let Some(buffer) = out.get_mut(..sealed.len()) {
            open(buffer)?;
            return Ok(length);
        }
        // `out` has no room for the tag behind the text: only in the handshake, where there is no text.
        let mut buffer = Zeroizing::new(vec![0; sealed.len()]);
        open(&mut buffer)?;
        out.get_mut(..length).ok_or(snow::Error::Decrypt)?.copy_from_slice(&buffer[..length]);
        Ok(length)
    }
}

struct Sha256(Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Context::new(&SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.clone().finish();
        for (to, from) in out.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
    }
}
