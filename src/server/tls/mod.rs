//! TLS at the edge: the certificates' files, read at start, at SIGHUP and when they have changed, and what is to be said
//! about them. Sessions that are open stay as they began.

mod self_signed;
mod stream;

pub use crate::crypto::tls::Fault;
pub use stream::{Scratch, TlsStream, WORST_BYTES};

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::log::{Log, timestamp};
use crate::config::Settings;
use crate::crypto::tls::{Certificate, Pair, PairError, ProducesTickets, ServerConfig, config, tickets};
use crate::engine::Now;
use crate::types::Millis;
use std::net::SocketAddr;

/// Milliseconds between two looks at the files.
const LOOK: u64 = 60_000;
/// Milliseconds between two looks at when the certificates end, and between two lines about it.
const DAY: u64 = 86_400_000;
/// Seconds before a certificate's end from which on there is a warning: 14 days.
const WARN: u64 = 14 * 86_400;
/// Longest file, in bytes: a chain of certificates has less than a tenth.
const LONGEST: u64 = 1 << 20;
/// Mode bits that a key's file should not have. Its group may read it: some systems keep keys for a group of servers.
const TOO_OPEN: u32 = 0o027;

/// The certificates with which listeners speak TLS.
pub struct Tls {
    files: Vec<(PathBuf, PathBuf)>,
    config: Arc<ServerConfig>,
    /// Outlives a change of certificates, so that clients still come back without a whole handshake.
    tickets: Arc<dyn ProducesTickets>,
    certificates: Vec<Certificate>,
    /// The files as they were when they were last read, with success or without.
    seen: Vec<Option<Stamp>>,
    look_at: Millis,
    warn_at: Millis,
    is_own: bool,
}

/// By what a changed file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Tls {
    /// What the settings ask for; `None` where they ask for no TLS. A certificate of racerd's own is made if there is none
    /// yet, for `addresses`, which are those that will speak TLS.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn load(settings: &Settings, addresses: &[SocketAddr]) -> Result<Option<Tls>, String> {
        let own = settings.tls.tls_self_signed.as_deref();
        let files = match own {
            Some(folder) => vec![self_signed::files(folder, addresses, &settings.listening.host)?],
            None => settings.tls.pairs(),
        };
        if files.is_empty() {
            return Ok(None);
        }
        let tickets = tickets()?;
        let seen = stamps(&files);
        let pairs = read_all(&files)?;
        let certificates = pairs.iter().map(Pair::certificate).collect();
        let config = config(pairs, Arc::clone(&tickets))?;
        let (look_at, warn_at) = (Millis(LOOK), Millis(DAY));
        Ok(Some(Tls { files, config, tickets, certificates, seen, look_at, warn_at, is_own: own.is_some() }))
    }

    /// Whether a start would find everything in order. Makes no certificate.
    ///
    /// # Errors
    /// The line with which it would be refused.
    pub fn check(settings: &Settings) -> Result<(), String> {
        read_all(&settings.tls.pairs())?;
        match settings.tls.tls_self_signed.as_deref().and_then(self_signed::existing) {
            Some(files) => read_all(&[files]).map(drop),
            None => Ok(()),
        }
    }

    /// TLS for a socket that was just accepted.
    ///
    /// # Errors
    /// The library refuses.
    pub fn open(&self) -> Result<TlsStream, Fault> {
        TlsStream::new(Arc::clone(&self.config))
    }

    /// The fingerprint of the certificate, if racerd made it.
    pub fn own_fingerprint(&self) -> Option<String> {
        self.certificates.first().filter(|_| self.is_own).map(|certificate| certificate.fingerprint.clone())
    }

    /// When [`Tls::look`] is due.
    pub fn deadline(&self) -> Millis {
        self.look_at.min(self.warn_at)
    }

    /// The names for which the certificates hold.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.certificates.iter().flat_map(|certificate| &certificate.names).map(String::as_str)
    }

    /// Reads the files again if they have changed, and once a day says which certificates end soon. True if they were read.
    pub fn look(&mut self, now: Now, log: &Log) -> bool {
        let mut read = false;
        if self.look_at <= now.mono {
            self.look_at = now.mono.after(LOOK);
            if stamps(&self.files) != self.seen {
                self.reload(now, log);
                read = true;
            }
        }
        if self.warn_at <= now.mono {
            self.warn(now, log);
        }
        read
    }

    /// Reads the files again. Connections that come from now on get what is in them; if that cannot be used, all stays as
    /// it was.
    pub fn reload(&mut self, now: Now, log: &Log) {
        // Before the reading: what changes meanwhile is seen by the next look.
        self.seen = stamps(&self.files);
        let read = read_all(&self.files).and_then(|pairs| {
            let certificates = pairs.iter().map(Pair::certificate).collect();
            Ok((certificates, config(pairs, Arc::clone(&self.tickets))?))
        });
        match read {
            Ok((certificates, config)) => {
                (self.certificates, self.config) = (certificates, config);
                log.info("certificates read again", &[("count", &self.certificates.len())]);
                self.tell(now, log);
            }
            Err(reason) => log.error("the certificates stay as they were", &[("reason", &reason)]),
        }
    }

    /// Says which certificates there are, and which of them end soon.
    pub fn tell(&mut self, now: Now, log: &Log) {
        for (certificate, (file, _)) in self.certificates.iter().zip(&self.files) {
            let until = certificate.validity.map_or("unknown".to_string(), |validity| date(validity.end));
            let file = file.display();
            log.info("certificate", &[("file", &file), ("until", &until), ("sha256", &certificate.fingerprint)]);
            if !certificate.has_alt_names {
                let what = "a certificate has no subjectAltName: clients refuse it; have it made again with one";
                log.warn(what, &[("file", &file)]);
            }
        }
        self.warn_of_open_keys(log);
        self.warn(now, log);
    }

    /// Says which keys are not private. They are used all the same: an update must not stop a server for it.
    fn warn_of_open_keys(&self, log: &Log) {
        for (_, key) in &self.files {
            let Ok(about) = fs::metadata(key) else { continue };
            let mode = about.permissions().mode() & 0o777;
            if mode & TOO_OPEN != 0 {
                let mode = format!("{mode:03o}");
                let what = "others may read or change a TLS key: run chmod 600 on it";
                log.warn(what, &[("file", &key.display()), ("mode", &mode)]);
            }
        }
    }

    fn warn(&mut self, now: Now, log: &Log) {
        self.warn_at = now.mono.after(DAY);
        let seconds = now.wall.0 / 1000;
        for (certificate, (file, _)) in self.certificates.iter().zip(&self.files) {
            let Some(validity) = certificate.validity else { continue };
            let (what, at) = if seconds > validity.end {
                ("a certificate has ended: clients refuse it; renew it", validity.end)
            } else if seconds < validity.begin {
                ("a certificate is not valid yet, or this machine's clock is wrong", validity.begin)
            } else if validity.end - seconds < WARN {
                ("a certificate ends soon: renew it", validity.end)
            } else {
                continue;
            };
            log.warn(what, &[("file", &file.display()), ("at", &date(at))]);
        }
    }
}

/// Reads each pair.
fn read_all(files: &[(PathBuf, PathBuf)]) -> Result<Vec<Pair>, String> {
    files.iter().map(|(certificate, key)| read(certificate, key)).collect()
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, String> {
    let chain = contents("tls_cert", certificate)?;
    let secret = contents("tls_key", key)?;
    Pair::from_pem(&chain, &secret).map_err(|error| match error {
        PairError::Certificate(reason) => format!("tls_cert {}: {reason}", certificate.display()),
        PairError::Key(reason) => format!("tls_key {}: {reason}", key.display()),
        PairError::Mismatch => format!(
            "tls_key {} is not the key of tls_cert {}; give the two in the same order",
            key.display(),
            certificate.display()
        ),
    })
}

fn contents(setting: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{setting} {} cannot be read: {error}", path.display());
    let about = fs::metadata(path).map_err(|error| wrong(&error))?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(wrong(&"it is no file of PEM text"));
    }
    fs::read(path).map(Zeroizing::new).map_err(|error| wrong(&error))
}

fn stamps(files: &[(PathBuf, PathBuf)]) -> Vec<Option<Stamp>> {
    let all = files.iter().flat_map(|(certificate, key)| [certificate, key]);
    all.map(|path| {
        let about = fs::metadata(path).ok()?;
        let changed = (about.mtime(), about.mtime_nsec());
        Some(Stamp { device: about.dev(), inode: about.ino(), size: about.size(), changed })
    })
    .collect()
}

/// Seconds since 1970 for a person.
fn date(seconds: u64) -> String {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map_or("never".to_string(), timestamp)
}
