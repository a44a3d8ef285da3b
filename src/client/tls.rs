//! TLS for a client: whose certificates are believed, and a connection under it. racerd makes none of it; rustls does.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::pipe::Tcp;

/// What all connections of one run share.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Believes the certificates that this machine believes, and those of the PEM file `ca`: authorities, or the server's
    /// own if it signed itself.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; or nothing is believed at all.
    pub fn new(ca: Option<&Path>) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = ca {
            let shown = path.display();
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?;
            let mut some = false;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
                roots.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
                some = true;
            }
            if !some {
                return Err(format!("{shown} holds no certificate in PEM form"));
            }
        }
        if roots.is_empty() {
            return Err("this machine trusts no certificates; name the one to trust with --ca FILE".to_string());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            versions.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
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

/// Whether it failed because the certificate is not to be believed: what is wrong with it.
pub fn distrust(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(fault.to_string()),
        _ => None,
    }
}
