//! TLS for a client: which certificates it trusts, and a connection with it. rustls does the work.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::pipe::Tcp;
use crate::named_file::{self, Named};
use crate::types::{Cause, Reason, Unusable};

/// Longest file of certificates, in bytes; all authorities of a Linux distribution take a quarter of a megabyte.
const LONGEST_FILE: u64 = 16 << 20;

/// A byte order mark in UTF-8, which editors and shells of Windows put before a text.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reads the file of `--ca`.
fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let failed = |error| Unusable {
        cause: Cause::of_file(&error),
        reason: Reason::with(format!("--ca {}: {error}", path.display()), error),
    };
    let Named::Regular(file, _) = named_file::open(path).map_err(failed)? else {
        return Err(Unusable::new(Cause::Settings, format!("--ca {}: is not a regular file", path.display())));
    };
    let mut text = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// The certificates that all connections of one run trust.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts the certificates that this machine trusts, and those of the PEM file `ca`: authorities, or the server's
    /// own if it is self-signed.
    ///
    /// # Errors
    /// The file cannot be read or contains no certificate, or there is no certificate to trust at all.
    pub fn new(ca: Option<&Path>) -> Result<Trust, Unusable> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        let mut own = Vec::new();
        if let Some(path) = ca {
            let shown = path.display();
            let text = read(path)?;
            for certificate in CertificateDer::pem_slice_iter(text.strip_prefix(BOM).unwrap_or(&text)) {
                let certificate = certificate.map_err(|error| Unusable {
                    cause: Cause::Settings,
                    reason: Reason::with(format!("--ca {shown}: {error}"), error),
                })?;
                let added = roots.add(certificate.clone());
                added.map_err(|error| Unusable {
                    cause: Cause::Settings,
                    reason: Reason::with(format!("--ca {shown}: {error}"), error),
                })?;
                own.push(certificate);
            }
            if own.is_empty() {
                let reason = format!("--ca {shown} holds no certificate in PEM form").into();
                return Err(Unusable { cause: Cause::Settings, reason });
            }
        }
        if roots.is_empty() {
            let reason = "this machine trusts no certificates; name one to trust with --ca FILE".into();
            return Err(Unusable { cause: Cause::System, reason });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let usual = usual.build().map_err(|error| Unusable { cause: Cause::System, reason: Reason::of(error) })?;
        Trust::by(provider, Trusted::Signed { usual, own })
    }

    /// Trusts any certificate: for a health check of the server that the same settings start on this machine. Its
    /// certificate is for the name that other machines use, and the answer is one line that is not secret.
    ///
    /// # Errors
    /// rustls refuses.
    pub fn any() -> Result<Trust, Unusable> {
        Trust::by(Arc::new(rustls::crypto::ring::default_provider()), Trusted::Any)
    }

    fn by(provider: Arc<CryptoProvider>, trusted: Trusted) -> Result<Trust, Unusable> {
        let verifier = Verifier { trusted, algorithms: provider.signature_verification_algorithms };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Unusable { cause: Cause::System, reason: Reason::of(error) })?.dangerous();
        let mut config = config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust(Arc::new(config)))
    }

    /// Begins TLS on a connection to this host; the handshake is made with the first byte.
    ///
    /// # Errors
    /// No certificate can name the host.
    pub fn connect(&self, tcp: Tcp, host: &str) -> Result<StreamOwned<ClientConnection, Tcp>, Reason> {
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|error| Reason::with(format!("{host}: {error}"), error))?;
        let connection = ClientConnection::new(self.0.clone(), name).map_err(Reason::of)?;
        Ok(StreamOwned::new(connection, tcp))
    }
}

/// Decides which certificates are trusted; the signature made with a certificate's key is verified in any case.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trusted {
    /// Those that rustls's own verifier trusts, and one more: a self-signed certificate that calls itself an authority,
    /// as `openssl req -x509` makes them, if it is the very one that the user named. RFC 5280 §4.2.1.9 forbids an
    /// authority's certificate for a server, but here no other authority is relied on. Its validity and the host's name
    /// are verified all the same.
    Signed { usual: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
    /// Every certificate whose private key the server has.
    Any,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trusted::Signed { usual, own } = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        match usual.verify_server_cert(certificate, others, host, ocsp, now) {
            // webpki calls this fault `CaUsedAsEndEntity`, and reports it after it has verified the validity.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(fault)))
                if fault.to_string().contains("CaUsedAsEndEntity") && own.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
                Ok(ServerCertVerified::assertion())
            }
            done => done,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
