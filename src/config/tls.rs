//! Settings: TLS, for a server without a proxy in front.

use super::listening::address;
use super::setting::{Kind, settings};
use crate::types::Place;
use std::path::PathBuf;

settings! {
    /// Encryption between clients and a server without a proxy in front.
    Tls in tls {
        /// PEM files, each with a certificate and those that vouch for it. With them, all listeners speak TLS (https,
        /// wss) but those of plain-listen. A client gets the first that fits the name it asks for, else the first.
        /// Changed files are taken over at SIGHUP, and within a minute.
        tls_cert: Vec<String> = "", Kind::List { item: "FILE", one_at_least: false, read: file }, live false;
        /// PEM files with the private keys: one for each tls-cert, in the same order, or one for all.
        tls_key: Vec<String> = "", Kind::List { item: "FILE", one_at_least: false, read: file }, live false;
        /// Folder of a certificate that racerd makes for itself, for a network without an authority: cert.pem and
        /// key.pem. Made anew, with the same key, before it ends and when it lacks a name that is asked for. Its
        /// fingerprints are printed at start.
        tls_self_signed: Option<PathBuf> = "", Kind::PathOrNone, live false;
        /// Addresses to listen on, beside listen, that never speak TLS where the others do: for health checks
        /// on 127.0.0.1, say. Given listeners with these addresses speak none either.
        plain_listen: Vec<Place> = "", Kind::List { item: "IP:PORT", one_at_least: false, read: address }, live false;
    }
}

impl Tls {
    /// Returns whether listeners speak TLS.
    pub fn is_on(&self) -> bool {
        !self.tls_cert.is_empty() || self.tls_self_signed.is_some()
    }

    /// Returns the files of each certificate and its key.
    pub fn pairs(&self) -> Vec<(PathBuf, PathBuf)> {
        let keys = |at: usize| self.tls_key.get(at).or(self.tls_key.first());
        let pairs = self.tls_cert.iter().enumerate();
        pairs.filter_map(|(at, cert)| Some((PathBuf::from(cert), PathBuf::from(keys(at)?)))).collect()
    }
}

pub(super) fn file(text: &str) -> Result<String, String> {
    match text.contains('\0') {
        true => Err("a path has no zero byte in it".to_string()),
        false => Ok(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn certificates_and_keys_go_in_pairs() {
        let of = |args: &[&str]| parse(None, args.iter().map(std::ffi::OsString::from), []);
        let pairs = |args: &[&str]| {
            let pairs = of(args).unwrap().settings.tls.pairs();
            pairs.iter().map(|(cert, key)| format!("{} {}", cert.display(), key.display())).collect::<Vec<_>>()
        };
        assert_eq!(pairs(&["--tls-cert", "a,b", "--tls-key", "c", "--tls-key", "d"]), ["a c", "b d"]);
        assert_eq!(pairs(&["--tls-cert", "a,b", "--tls-key", "c"]), ["a c", "b c"]);
        assert_eq!(pairs(&[]), [""; 0]);
        for bad in [
            &["--tls-cert", "a"][..],
            &["--tls-key", "a"],
            &["--tls-cert", "a", "--tls-key", "b,c"],
            &["--tls-cert", "a,b,c", "--tls-key", "d,e"],
            &["--tls-cert", "a", "--tls-key", "b", "--tls-self-signed", "c"],
        ] {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains("tls-cert") && !error.contains('\n'), "{error}");
        }
    }
}
