//! A certificate and a client for the tests: rustls's own buffered client, which shares no code with ours.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::{Fault, Pair, Session, UNFINISHED};

/// Makes a certificate for these names, and its key, as the text of PEM files.
pub fn made(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der()))
}

pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
}

pub fn pair((certificate, key): &(String, String)) -> Pair {
    Pair::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
}

/// Returns the settings of a client that trusts only these certificates.
pub fn client_config(
    trusted: &[&(String, String)],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for (certificate, _) in trusted {
        use rustls::pki_types::pem::PemObject as _;
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

pub fn client(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_string()).unwrap()).unwrap()
}

/// Returns the bytes that the client has to send now.
pub fn says(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives ciphertext to the client; returns the resulting plaintext.
pub fn hears(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
        let _ = std::io::Read::read_to_end(&mut client.reader(), &mut plain);
    }
    Ok(plain)
}

/// Gives bytes to a session, as a socket would; returns the result, the plaintext and the bytes to send.
pub fn feed(session: &mut Session, bytes: &[u8]) -> (Result<(), Fault>, Vec<u8>, Vec<u8>) {
    let (mut buffer, mut plain, mut out) = (vec![0; UNFINISHED], Vec::new(), Vec::new());
    let before = session.put_unfinished(&mut buffer);
    buffer.truncate(before);
    buffer.extend_from_slice(bytes);
    let received = session.receive(&mut buffer, bytes.len(), &mut plain, &mut out);
    (received, plain, out)
}

/// Passes bytes both ways until neither side has more.
pub fn shake(client: &mut ClientConnection, session: &mut Session) -> Result<(), String> {
    loop {
        let said = says(client);
        if said.is_empty() && !client.is_handshaking() && !session.is_handshaking() {
            return Ok(());
        }
        let (received, _, out) = feed(session, &said);
        hears(client, &out).map_err(|error| error.to_string())?;
        received.map_err(|error| error.to_string())?;
        if said.is_empty() && out.is_empty() {
            return Err("neither says anything".to_string());
        }
    }
}
