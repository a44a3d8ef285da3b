//! Certificates with their keys, from PEM text, and the choice among them by the name that the client asks for (SNI).

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::ring::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use zeroize::Zeroize as _;

use super::validity::Fields;
use super::{Validity, own};
use crate::types::Reason;

/// A certificate with its chain and its private key.
#[derive(Clone)]
pub struct Pair(Arc<CertifiedKey>);

/// The properties of a certificate that an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the whole certificate, as browsers show it: hex, with colons.
    pub fingerprint: String,
    /// SHA-256 of its SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), which a renewed certificate with the same key shares.
    pub key: KeyHash,
    /// Whether racerd made it: it is self-signed, and its name begins as racerd's do.
    pub is_own: bool,
    /// `None` where the certificate's dates cannot be read.
    pub validity: Option<Validity>,
    /// The names for which it is valid; a leading `*.` stands for one label (RFC 6125 §6.4.3).
    pub names: Vec<String>,
    /// Whether it has a subjectAltName. Clients look for the server's name nowhere else (RFC 9110 §4.3.4, RFC 9525
    /// §6.3).
    pub has_alt_names: bool,
}

/// SHA-256 of a public key in the form that certificates contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Returns the hash of a SubjectPublicKeyInfo in DER.
    pub fn of(spki: &[u8]) -> KeyHash {
        KeyHash(hash(spki))
    }

    /// Returns the hash as browsers show it: hex, with colons.
    pub fn hex(&self) -> String {
        colons(&self.0)
    }

    /// Returns the hash as `curl --pinnedpubkey` takes it.
    pub fn pin(&self) -> String {
        format!("sha256//{}", data_encoding::BASE64.encode(&self.0))
    }

    /// Returns the first eight hex digits.
    pub fn short(&self) -> String {
        let hex: String = data_encoding::HEXLOWER.encode(&self.0);
        hex.chars().take(8).collect()
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn colons(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    hex.join(":")
}

/// The DER of the subjectAltName's object identifier, 2.5.29.17 (RFC 5280 §4.2.1.6).
const ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];

/// A byte order mark in UTF-8, which editors and shells of Windows put before a text.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Why a certificate and a key do not make a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairError {
    /// The certificate's file is at fault.
    Certificate(String),
    /// The key's file is at fault. The text reveals nothing of its content.
    Key(String),
    /// Both are valid, but do not belong together.
    Mismatch,
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PairError::Certificate(reason) | PairError::Key(reason) => reason,
            PairError::Mismatch => "the key is not the certificate's",
        })
    }
}

impl Error for PairError {}

impl Pair {
    /// Reads a pair from the text of a PEM file with the certificate chain, the server's own certificate first, and the
    /// text of one with the private key (PKCS #8, PKCS #1 or SEC 1). Other sections are skipped, so both may be one
    /// file; so is a byte order mark.
    ///
    /// # Errors
    /// The problem, and the file that has it.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Pair, PairError> {
        let certificate = certificate.strip_prefix(BOM).unwrap_or(certificate);
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| PairError::Certificate(format!("it is no PEM: {error}")))?;
        let Some(own) = chain.first() else {
            return Err(PairError::Certificate("there is no CERTIFICATE section in it".to_string()));
        };
        ParsedCertificate::try_from(own)
            .map_err(|error| PairError::Certificate(format!("its first certificate cannot be used: {error}")))?;
        let mut key = private_key(key).map_err(|reason| PairError::Key(reason.to_string()))?;
        let signing = any_supported_type(&key);
        key.zeroize();
        let signing = signing.map_err(|_| PairError::Key(USABLE.to_string()))?;
        let pair = CertifiedKey::new(chain, signing);
        pair.keys_match().map_err(|_| PairError::Mismatch)?;
        Ok(Pair(Arc::new(pair)))
    }

    /// Returns the properties to report.
    pub fn certificate(&self) -> Certificate {
        let der = self.own().map(|own| own.as_ref()).unwrap_or_default();
        let parsed = self.own().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
        let names = parsed.iter().flat_map(|parsed| parsed.valid_dns_names()).map(str::to_owned).collect();
        // The bytes could occur elsewhere by chance; then a warning is missing, and nothing else.
        let has_alt_names = der.windows(ALT_NAME.len()).any(|bytes| bytes == ALT_NAME);
        let fields = Fields::of(der);
        Certificate {
            fingerprint: colons(&hash(der)),
            key: KeyHash::of(parsed.map(|parsed| parsed.subject_public_key_info()).as_deref().unwrap_or_default()),
            is_own: fields.is_some_and(|fields| own::is_own(&fields)),
            validity: fields.map(|fields| fields.validity),
            names,
            has_alt_names,
        }
    }

    /// Returns whether clients accept the certificate for this name or address. True for a text that is neither, since
    /// no certificate can name it.
    pub fn holds_for(&self, name: &str) -> bool {
        ServerName::try_from(name).map_or(true, |name| self.is_for(&name))
    }

    fn own(&self) -> Option<&CertificateDer<'static>> {
        self.0.cert.first()
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.own().and_then(|own| ParsedCertificate::try_from(own).ok());
        parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

/// Returns the private key in this text, after an optional byte order mark.
///
/// # Errors
/// The reason why there is none. It reveals nothing of the content.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    PrivateKeyDer::from_pem_slice(text).map_err(|_| unreadable(text))
}

/// Error text for a key of another kind (P-521, DSA, Ed448), or of another size.
pub(super) const USABLE: &str =
    "its key cannot be used; RSA of 2048 to 4096 bits, ECDSA over the curves P-256 and P-384, and Ed25519 can";

/// Returns why no private key can be read from this text.
fn unreadable(text: &[u8]) -> &'static str {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|bytes| bytes == mark);
    // PKCS #8 marks encryption in the label (RFC 7468 §11), the older forms in a header (RFC 1421 §4.6.1.1).
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        "its private key is encrypted, and nobody can give the passphrase at a start; \
         'openssl pkey -in OLD -out NEW' writes one that is not"
    } else {
        "there is no PRIVATE KEY section in it that can be read"
    }
}

/// Makes a source of tickets, with which clients resume without a full handshake. The server keeps no state for them;
/// the source has its own keys, which change every few hours, so it outlives a change of certificates.
///
/// # Errors
/// The system has no randomness.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, Reason> {
    Ticketer::new().map_err(|error| Reason::with(format!("the system has no randomness: {error}"), error))
}

/// Returns the settings of sessions: TLS 1.2 and 1.3, HTTP/1.1, one of these certificates. A client whose name matches
/// none of them, or that sends no name, gets the first.
///
/// # Errors
/// `pairs` is empty, or the library refuses.
pub fn config(pairs: Vec<Pair>, tickets: Arc<dyn ProducesTickets>) -> Result<Arc<ServerConfig>, Reason> {
    if pairs.is_empty() {
        return Err("there is no certificate".into());
    }
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Reason::of)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(ByName(pairs)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = tickets;
    // Otherwise 256 sessions would be kept for TLS 1.2 clients that do not take tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

struct ByName(Vec<Pair>);

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let asked = || {
            let name = name.as_ref()?;
            // Two certificates for one name have different kinds of key: a client gets one that it can verify.
            let mut fitting = self.0.iter().filter(|pair| pair.is_for(name)).peekable();
            let first = fitting.peek().copied();
            fitting.find(|pair| pair.0.key.choose_scheme(hello.signature_schemes()).is_some()).or(first)
        };
        let pair = match self.0.as_slice() {
            [only] => Some(only),
            all => asked().or(all.first()),
        };
        pair.map(|pair| Arc::clone(&pair.0))
    }
}

#[cfg(test)]
mod tests;
