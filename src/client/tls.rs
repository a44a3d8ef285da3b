//! TLS for a client: whose certificates are believed, and a connection under it. racerd makes none of it; rustls does.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::pipe::Tcp;
use crate::types::Cause;

/// What all connections of one run share.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Believes the certificates that this machine believes, and those of the PEM file `ca`: authorities, or the server's
    /// own if it signed itself.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; or nothing is believed at all.
    pub fn new(ca: Option<&Path>) -> Result<Trust, (Cause, String)> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        let mut own = Vec::new();
        if let Some(path) = ca {
            let shown = path.display();
            let refused = |error: pem::Error| match error {
                pem::Error::Io(error) => (Cause::of_file(&error), format!("--ca {shown}: {error}")),
                error => (Cause::Settings, format!("--ca {shown}: {error}")),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(refused)? {
                let certificate = certificate.map_err(refused)?;
                let added = roots.add(certificate.clone());
                added.map_err(|error| (Cause::Settings, format!("--ca {shown}: {error}")))?;
                own.push(certificate);
            }
            if own.is_empty() {
                return Err((Cause::Settings, format!("--ca {shown} holds no certificate in PEM form")));
            }
        }
        if roots.is_empty() {
            let line = "this machine trusts no certificates; name the one to trust with --ca FILE";
            return Err((Cause::System, line.to_string()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let usual = usual.build().map_err(|error| (Cause::System, error.to_string()))?;
        Trust::by(provider, Believed::Signed { usual, own }).map_err(|line| (Cause::System, line))
    }

    /// Believes any certificate: for questions to a server that the same settings start on this machine, whose answer is
    /// one line that is no secret. Its certificate is for the name by which others ask.
    ///
    /// # Errors
    /// The library refuses.
    pub fn anyone() -> Result<Trust, (Cause, String)> {
        let trust = Trust::by(Arc::new(rustls::crypto::ring::default_provider()), Believed::Any);
        trust.map_err(|line| (Cause::System, line))
    }

    fn by(provider: Arc<CryptoProvider>, believed: Believed) -> Result<Trust, String> {
        let verifier = Verifier { believed, algorithms: provider.signature_verification_algorithms };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.dangerous();
        let mut config = config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust(Arc::new(config)))
    }

    /// TLS over a connection to this host; its handshake is made with the first byte.
    ///
    /// # Errors
    /// The host is none that a certificate can name.
    pub fn over(&self, tcp: Tcp, host: &str) -> Result<StreamOwned<ClientConnection, Tcp>, String> {
        let name = ServerName::try_from(host.to_string()).map_err(|error| format!("{host}: {error}"))?;
        let connection = ClientConnection::new(self.0.clone(), name).map_err(|error| error.to_string())?;
        Ok(StreamOwned::new(connection, tcp))
    }
}

/// Which certificates are believed; the signature made with a certificate's key is looked at in any case.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Believed {
    /// Those that rustls's own verifier believes, and one more: a certificate that signed itself and calls itself an
    /// authority, as `openssl req -x509` makes them, if it is the very one that the user named. RFC 5280 §4.2.1.9 lets no
    /// authority's certificate stand for a server; but here nobody else's word is taken for it. Its time and the host's
    /// name are looked at all the same.
    Signed { usual: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
    /// Every certificate whose key the server has.
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
        let Believed::Signed { usual, own } = &self.believed else { return Ok(ServerCertVerified::assertion()) };
        match usual.verify_server_cert(certificate, others, host, ocsp, now) {
            // webpki has judged its time before it came to that; it calls this fault `CaUsedAsEndEntity`.
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

/// Whether it failed because the certificate is not to be believed: what is wrong with it.
pub fn distrust(error: &std::io::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(fault) = error.get_ref()?.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(match fault {
        CertificateError::UnknownIssuer => {
            "nobody whom this machine trusts has signed it; --ca FILE names who is trusted".to_string()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its time is over".to_string(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its time has not begun".to_string()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host".to_string()
        }
        other => other.to_string(),
    })
}
