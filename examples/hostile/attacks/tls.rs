//! Attacks on the handshakes of TLS.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use super::{Attack, BOTH, Certificate, Form, Length, SOUND, Shape, attack};
use crate::load::{Leaving, Plan, Script};
use crate::wire;

pub fn attacks() -> Vec<Attack> {
    let protects = "the loop's time: a handshake costs before its signature is computed";
    let replayed = |name, does, certificate, length| {
        attack(name, does, protects, length, BOTH, |form| Plan::at_once(replays(form)))
            .on(Shape { tls: Some(certificate), ..SOUND })
    };
    vec![
        replayed("tls-p256", "a ClientHello replayed, P-256", Certificate::P256, Length::Short),
        replayed("tls-rsa2048", "a ClientHello replayed, RSA-2048", Certificate::Rsa2048, Length::Long),
        replayed("tls-rsa4096", "a ClientHello replayed, RSA-4096", Certificate::Rsa4096, Length::Long),
    ]
}

fn replays(form: Form) -> Script {
    let hello = client_hello();
    Script::new(form.connections(), form.sources())
        .target(wire::server(wire::TLS_PORT))
        .hello(move |_, _, out| out.extend(&hello))
        .leaving(Leaving::Heard)
}

/// Returns the first flight of a client, as rustls makes it.
pub fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut client) = client() {
        let _ = client.write_tls(&mut bytes);
    }
    bytes
}

/// Returns a client that takes any certificate: what is tried here is not whom it speaks to.
pub fn client() -> Result<ClientConnection, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::IpAddress(std::net::IpAddr::V6(wire::SERVER).into());
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
