//! Why a connection, or a whole run of the client, failed.

use crate::types::{Reason, Unusable};
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

/// The longest pause, in milliseconds, that somebody may ask for without the pinned key.
#[cfg(feature = "client")]
const LONGEST_UNPROVED: u64 = 30_000;

/// Why there is no connection, or no longer.
#[derive(Debug)]
pub enum ConnectionError {
    /// It may succeed later, after this many milliseconds at the earliest.
    Lost(Reason, u64),
    /// As [`ConnectionError::Lost`], because a message was too long for the server, or for something on the way to it.
    TooLong(Reason),
    /// The server refuses this client.
    Refused(Reason),
    /// The server is not the requested one.
    Mismatch(Reason),
}

impl ConnectionError {
    pub(super) fn lost(why: impl Into<Reason>) -> ConnectionError {
        ConnectionError::Lost(why.into(), 0)
    }

    /// Sorts an error again that came before the server has proved that it has the pinned key. Anybody on the way could
    /// have caused it, so it is not final, and asks for no long pause.
    #[cfg(feature = "client")]
    pub(super) fn unproved(self) -> ConnectionError {
        match self {
            ConnectionError::Lost(why, wait) => ConnectionError::Lost(why, wait.min(LONGEST_UNPROVED)),
            ConnectionError::Refused(why) | ConnectionError::TooLong(why) => ConnectionError::Lost(why, 0),
            ConnectionError::Mismatch(why) => ConnectionError::Mismatch(why),
        }
    }

    /// Sorts an error of reading or writing.
    pub fn of_io(error: io::Error) -> ConnectionError {
        #[cfg(feature = "tls")]
        if let Some(fault) = distrust(&error) {
            let why = format!("the server's certificate is not trusted: {fault}");
            return ConnectionError::Mismatch(Reason::with(why, error));
        }
        #[cfg(feature = "tls")]
        if answers_in_the_clear(&error) {
            return ConnectionError::lost(Reason::with(
                "the peer does not speak TLS; does it expect http or ws?",
                error,
            ));
        }
        ConnectionError::lost(match error.kind() {
            ErrorKind::TimedOut => Reason::with("no answer in time", error),
            ErrorKind::UnexpectedEof => Reason::with("the connection was closed", error),
            _ => Reason::of(error),
        })
    }

    #[cfg(feature = "client")]
    pub(super) fn of_socket(error: tungstenite::Error) -> ConnectionError {
        use tungstenite::Error::{AlreadyClosed, ConnectionClosed, Io};
        match error {
            Io(error) => ConnectionError::of_io(error),
            ConnectionClosed | AlreadyClosed => ConnectionError::lost(Reason::with("the connection was closed", error)),
            other => ConnectionError::lost(Reason::of(other)),
        }
    }

    pub fn reason(&self) -> &Reason {
        match self {
            ConnectionError::Lost(reason, _)
            | ConnectionError::TooLong(reason)
            | ConnectionError::Refused(reason)
            | ConnectionError::Mismatch(reason) => reason,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason().source()
    }
}

/// Why a run ended before it was done.
#[derive(Debug)]
pub enum RunError {
    /// The certificates to trust could not be loaded. No server was asked.
    Trust(Unusable),
    /// The server refused, or ended the session for good.
    Refused(Reason),
    /// There was no connection within the time allowed.
    Unreached(Reason),
    /// The server is not the requested one: another pin, or a certificate that is not trusted.
    Mismatch(Reason),
    /// Standard output is closed: nobody reads it.
    OutputClosed,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Trust(error) => error.fmt(f),
            RunError::Refused(reason) | RunError::Mismatch(reason) => reason.fmt(f),
            RunError::Unreached(reason) => write!(f, "no connection: {reason}"),
            RunError::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RunError::Trust(error) => error.source(),
            RunError::Refused(reason) | RunError::Mismatch(reason) | RunError::Unreached(reason) => reason.source(),
            RunError::OutputClosed => None,
        }
    }
}

/// Says that nobody whom this machine trusts vouches for a certificate.
#[cfg(feature = "tls")]
const UNTRUSTED: &str = "its issuer is not trusted on this machine; --ca FILE names certificates to trust";

/// Returns whether the peer's first bytes are not TLS.
#[cfg(feature = "tls")]
fn answers_in_the_clear(error: &io::Error) -> bool {
    use rustls::{Error::InvalidMessage, InvalidMessage::InvalidContentType};
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(InvalidMessage(InvalidContentType)))
}

/// Returns what is wrong with the certificate, where the error is that it is not trusted.
#[cfg(feature = "tls")]
fn distrust(error: &io::Error) -> Option<String> {
    use rustls::CertificateError;
    let rustls::Error::InvalidCertificate(fault) = error.get_ref()?.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(match fault {
        CertificateError::UnknownIssuer => UNTRUSTED.to_string(),
        // webpki's words for a self-signed certificate that calls itself an authority, as openssl makes them.
        CertificateError::Other(fault) if fault.to_string().contains("CaUsedAsEndEntity") => UNTRUSTED.to_string(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_string(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_string()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host".to_string()
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_the_source() {
        let refused = || io::Error::from(ErrorKind::ConnectionRefused);
        let error = ConnectionError::of_io(refused());
        assert!(error.source().is_some_and(|source| source.is::<io::Error>()), "{error:?}");
        let error = RunError::Unreached(Reason::of(refused()));
        assert!(error.to_string().starts_with("no connection: "));
        assert!(error.source().is_some_and(|source| source.is::<io::Error>()), "{error:?}");
    }
}
