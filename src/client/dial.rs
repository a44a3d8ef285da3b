//! A connection to a host: TCP, or TLS over it.

use std::time::Instant;

use super::error::ConnectionError;
use super::host::without_zone;
use super::pipe::{Pipe, Tcp};
#[cfg(not(feature = "tls"))]
use crate::types::{Cause, Unusable};

/// Which certificates are trusted.
#[cfg(feature = "tls")]
pub use super::tls::Trust;

/// Stands for the certificates that a racerd without TLS cannot trust.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
pub struct Trust;

/// The error where TLS is asked for.
#[cfg(not(feature = "tls"))]
pub fn no_tls() -> Unusable {
    let line = "this racerd was built without TLS; build it with the feature tls, which is on by default";
    Unusable::new(Cause::Settings, line)
}

/// Connects to a host before `deadline`, with TLS where `trust` is given. A zone behind `%` is for the system alone; no
/// certificate names it.
///
/// # Errors
/// Why there is no connection.
pub fn connect(host: &str, port: u16, trust: Option<&Trust>, deadline: Instant) -> Result<Pipe, ConnectionError> {
    let tcp = Tcp::connect(host, port, deadline).map_err(ConnectionError::of_io)?;
    with_tls(trust, tcp, without_zone(host))
}

#[cfg(feature = "tls")]
fn with_tls(trust: Option<&Trust>, tcp: Tcp, host: &str) -> Result<Pipe, ConnectionError> {
    let Some(trust) = trust else { return Ok(Pipe::Plain(tcp)) };
    Ok(Pipe::Tls(Box::new(trust.connect(tcp, host).map_err(ConnectionError::Refused)?)))
}

#[cfg(not(feature = "tls"))]
fn with_tls(_: Option<&Trust>, tcp: Tcp, _: &str) -> Result<Pipe, ConnectionError> {
    Ok(Pipe::Plain(tcp))
}
