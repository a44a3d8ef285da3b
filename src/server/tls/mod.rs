//! TLS at the edge: the certificate files, read at start, on SIGHUP and after they have changed, and the log lines
//! about them. A new certificate does not affect open sessions.

mod pem_file;
mod self_signed;
mod stream;

pub use crate::crypto::tls::Fault;
pub use stream::{Scratch, TlsStream, WORST_BYTES};

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::log::{Log, timestamp};
use super::sandbox::{Admitted, Use};
use crate::config::Settings;
use crate::crypto::tls::{Pair, PairError, ProducesTickets, ServerConfig, config, tickets};
use crate::engine::Now;
use crate::types::{Cause, Millis, Unusable, WallMillis};
use pem_file::contents;
use self_signed::{Ensured, Own, Renewal};
use std::net::SocketAddr;

/// Milliseconds between two checks of the files.
const LOOK: u64 = 60_000;
/// Milliseconds between two checks of when the certificates expire, and between two log lines about it: a day.
const EXPIRY_CHECK: u64 = 86_400_000;
/// Seconds before a certificate's expiry at which the warnings begin: 14 days.
const WARN: u64 = 14 * 86_400;
/// Logged where the files cannot be used.
const STAY: &str = "the certificates stay as they were";
/// Mode bits that a key file should not have. Its group may read it: some systems keep keys for a group of servers.
const TOO_OPEN: u32 = 0o027;

/// The certificates of listeners that speak TLS.
pub struct Tls {
    files: Vec<(PathBuf, PathBuf)>,
    config: Arc<ServerConfig>,
    /// Outlives a change of certificates, so that clients can still resume without a full handshake.
    tickets: Arc<dyn ProducesTickets>,
    pairs: Vec<Pair>,
    /// State of the files when they were last read, with or without success.
    seen: Vec<Option<Stamp>>,
    look_at: Millis,
    warn_at: Millis,
    own: Option<Own>,
    /// Result of the renewal check at start, until it is logged.
    at_start: Renewal,
    admitted: Admitted,
}

/// The fingerprints of a certificate that racerd made, by which people recognise it.
pub struct Fingerprints {
    /// SHA-256 of the certificate, in hex with colons; changes on renewal.
    pub certificate: String,
    /// SHA-256 of its key, which stays on renewal.
    pub key: String,
    /// The key's SHA-256 in the form that `curl --pinnedpubkey` takes.
    pub pin: String,
}

/// File attributes that reveal a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Tls {
    /// Loads the certificates of the settings; `None` if they ask for no TLS. A self-signed certificate is made if
    /// there is none yet, for `addresses`, which are those that will speak TLS, and renewed if the clock says that it
    /// is due.
    ///
    /// # Errors
    /// The file that cannot be used, and what to do.
    pub fn load(settings: &Settings, addresses: &[SocketAddr], wall: WallMillis) -> Result<Option<Tls>, Unusable> {
        let folder = settings.tls.tls_self_signed.as_deref();
        let mut own = folder.map(|folder| Own::new(folder, addresses, &settings.listening.host));
        let files = match &own {
            Some(own) => {
                own.ensure(wall)?;
                vec![own.files()]
            }
            None => settings.tls.pairs(),
        };
        let names = Names::of(&own);
        if files.is_empty() {
            return Ok(None);
        }
        let tickets = tickets().map_err(|reason| Unusable::new(Cause::System, reason))?;
        let mut seen = stamps(&files);
        let mut pairs = read_all(&files, names)?;
        let mut at_start = Renewal::Kept;
        if let (Some(own), Some(pair)) = (&mut own, pairs.first()) {
            at_start = own.renew(pair, wall);
            if matches!(at_start, Renewal::Made(_)) {
                seen = stamps(&files);
                pairs = read_all(&files, names)?;
            }
        }
        let config = configured(&pairs, &tickets)?;
        let (look_at, warn_at) = (Millis(LOOK), Millis(EXPIRY_CHECK));
        Ok(Some(Tls {
            files,
            config,
            tickets,
            pairs,
            seen,
            look_at,
            warn_at,
            own,
            at_start,
            admitted: Admitted::Everything,
        }))
    }

    /// Explains refusals of the sandbox, which admits no more than this.
    pub fn sandboxed(&mut self, admitted: Admitted) {
        if let Some(own) = &mut self.own {
            own.sandboxed(admitted.clone());
        }
        self.admitted = admitted;
    }

    /// Checks whether a start would accept the certificates. Makes no certificate.
    ///
    /// # Errors
    /// The line with which the start would be refused.
    pub fn check(settings: &Settings) -> Result<(), Unusable> {
        read_all(&settings.tls.pairs(), Names::Pair)?;
        let Some(folder) = settings.tls.tls_self_signed.as_deref() else { return Ok(()) };
        self_signed::refuse_file(folder)?;
        self_signed::existing(folder).map_or(Ok(()), |files| read_all(&[files], Names::Folder).map(drop))
    }

    /// Starts TLS for a newly accepted socket.
    ///
    /// # Errors
    /// The library refuses.
    pub fn open(&self) -> Result<TlsStream, Fault> {
        TlsStream::new(Arc::clone(&self.config))
    }

    /// Returns the fingerprints of the certificate, if racerd made it.
    pub fn own_fingerprints(&self) -> Option<Fingerprints> {
        let certificate = self.pairs.first().filter(|_| self.own.is_some())?.certificate();
        let key = certificate.key;
        Some(Fingerprints { certificate: certificate.fingerprint, key: key.hex(), pin: key.pin() })
    }

    /// Returns the time at which [`Tls::look`] is due.
    pub fn deadline(&self) -> Millis {
        self.look_at.min(self.warn_at)
    }

    /// Returns the names for which the certificates are valid. Their addresses are left out: a server answers to every
    /// address.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.pairs.iter().flat_map(|pair| pair.certificate().names)
    }

    /// Sets the current names of `--host`, for which racerd's own certificate must be valid. The next check, due at
    /// once, renews it if a name is missing.
    pub fn set_hosts(&mut self, hosts: &[String]) {
        if let Some(own) = &mut self.own {
            own.set_names(hosts);
            self.look_at = Millis(0);
        }
    }

    /// Reads the files again if they have changed, renews racerd's own certificate if that is due, and logs once a day
    /// which certificates expire soon. True if the files were read.
    pub fn look(&mut self, now: Now, log: &Log) -> bool {
        let mut read = false;
        if self.look_at <= now.mono {
            self.look_at = now.mono.after(LOOK);
            if stamps(&self.files) != self.seen {
                self.read(now, log);
                read = true;
            }
            read |= self.renew(now, log);
        }
        if self.warn_at <= now.mono {
            self.warn(now, log);
        }
        read
    }

    /// Renews racerd's own certificate if that is due, and serves the new one. True if it was renewed.
    fn renew(&mut self, now: Now, log: &Log) -> bool {
        let (Some(own), Some(pair)) = (&mut self.own, self.pairs.first()) else { return false };
        let renewal = own.renew_while_serving(pair, now.mono, now.wall);
        let is_made = matches!(renewal, Renewal::Made(_));
        if is_made {
            self.read(now, log);
        }
        self.log_renewal(renewal, log);
        is_made
    }

    /// Reads the files again on request, and makes the next check, which also covers the renewal of racerd's own
    /// certificate, due at once. If somebody has removed racerd's own certificate, it is made anew, as at a start.
    pub fn reload(&mut self, now: Now, log: &Log) {
        if let Some(own) = &mut self.own {
            own.look_again();
            self.look_at = Millis(0);
            match own.ensure(now.wall) {
                Ok(Ensured::Kept) => {}
                Ok(Ensured::Made) => {
                    let what = "racerd's own certificate had been removed, and was made anew: browsers ask again";
                    log.warn(what, &[("file", &own.files().0.display())]);
                }
                Err(reason) => {
                    let reason = self.explained(reason, Use::Written);
                    return log.error(STAY, &[("reason", &reason)]);
                }
            }
        }
        self.read(now, log);
    }

    /// Reads the files again. New connections get the new certificates; if these cannot be used, everything stays as it
    /// was.
    fn read(&mut self, now: Now, log: &Log) {
        // Before the files are read, so that the next check notices a change in the meantime.
        self.seen = stamps(&self.files);
        let read = read_all(&self.files, Names::of(&self.own));
        let read = read.and_then(|pairs| Ok((configured(&pairs, &self.tickets)?, pairs)));
        match read {
            Ok((config, pairs)) => {
                (self.pairs, self.config) = (pairs, config);
                log.info("certificates read again", &[("count", &self.pairs.len())]);
                self.log_all(now, log);
            }
            Err(reason) => log.error(STAY, &[("reason", &self.explained(reason, Use::Read))]),
        }
    }

    /// Says that it was the sandbox, if one of the files lies outside of it.
    fn explained(&self, error: Unusable, to: Use) -> Unusable {
        let files = self.files.iter().flat_map(|(certificate, key)| [certificate, key]);
        let refusal = files.map(|file| self.admitted.refusal(file, to, &error)).find_map(|refusal| refusal);
        match refusal {
            Some(refusal) => Unusable::new(error.cause, refusal),
            None => error,
        }
    }

    /// Logs at the start the certificates, those that expire soon, and whether racerd's own was renewed.
    pub fn log_at_start(&mut self, now: Now, log: &Log) {
        let renewal = std::mem::replace(&mut self.at_start, Renewal::Kept);
        self.log_renewal(renewal, log);
        self.log_all(now, log);
    }

    fn log_all(&mut self, now: Now, log: &Log) {
        for (pair, (file, _)) in self.pairs.iter().zip(&self.files) {
            let certificate = pair.certificate();
            let until = certificate.validity.map_or("unknown".to_string(), |validity| date(validity.end));
            let (file, key) = (file.display(), certificate.key.hex());
            let fields: [(&str, &dyn std::fmt::Display); 4] =
                [("file", &file), ("until", &until), ("sha256", &certificate.fingerprint), ("key_sha256", &key)];
            log.info("certificate", &fields);
            if !certificate.has_alt_names {
                let what = "a certificate has no subjectAltName: clients refuse it; have it made again with one";
                log.warn(what, &[("file", &file)]);
            }
        }
        self.warn_of_open_keys(log);
        self.warn(now, log);
    }

    /// Logs the result of a renewal check, once.
    fn log_renewal(&mut self, renewal: Renewal, log: &Log) {
        let Some((file, _)) = self.files.first() else { return };
        if !self.own.as_mut().is_some_and(|own| own.is_news(&renewal)) {
            return;
        }
        let file = file.display();
        match renewal {
            Renewal::Kept => {}
            Renewal::Soon(at) => {
                let what = "racerd's own certificate will be made anew, with the same key: browsers will ask again";
                log.warn(what, &[("file", &file), ("at", &date(at))]);
            }
            Renewal::Made(why) => {
                let what = "racerd's own certificate was made anew, with the same key: browsers ask again";
                log.warn(what, &[("file", &file), ("why", &why)]);
            }
            Renewal::Failed(why, reason) => {
                let what = "racerd's own certificate cannot be made anew, and stays as it was";
                log.warn(what, &[("file", &file), ("why", &why), ("reason", &reason)]);
            }
            Renewal::NoClock(why) => {
                let what = "racerd's own certificate stays as it is until this machine's clock is set";
                log.warn(what, &[("file", &file), ("why", &why)]);
            }
        }
    }

    /// Warns of keys that are not private. They are used all the same: an update must not stop a server because of
    /// them.
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
        self.warn_at = now.mono.after(EXPIRY_CHECK);
        let seconds = now.wall.0 / 1000;
        for (pair, (file, _)) in self.pairs.iter().zip(&self.files) {
            let Some(validity) = pair.certificate().validity else { continue };
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

fn configured(pairs: &[Pair], tickets: &Arc<dyn ProducesTickets>) -> Result<Arc<ServerConfig>, Unusable> {
    config(pairs.to_vec(), Arc::clone(tickets)).map_err(|reason| Unusable::new(Cause::Settings, reason))
}

/// The settings by which an error names a file: those that the administrator gave.
#[derive(Clone, Copy)]
enum Names {
    /// tls_cert and tls_key.
    Pair,
    /// tls_self_signed, which names the folder of both.
    Folder,
}

impl Names {
    fn of(own: &Option<Own>) -> Names {
        if own.is_some() { Names::Folder } else { Names::Pair }
    }

    fn certificate(self) -> &'static str {
        match self {
            Names::Pair => "tls_cert",
            Names::Folder => "tls_self_signed",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Names::Pair => "tls_key",
            Names::Folder => "tls_self_signed",
        }
    }

    /// Returns what to do about files that cannot be used.
    fn advice(self) -> &'static str {
        match self {
            Names::Pair => "",
            Names::Folder => "; restore both files, or remove both: a start or SIGHUP then makes them anew",
        }
    }
}

/// Reads each pair.
fn read_all(files: &[(PathBuf, PathBuf)], names: Names) -> Result<Vec<Pair>, Unusable> {
    let pairs = files.iter().map(|(certificate, key)| read(certificate, key, names));
    pairs.collect::<Result<_, _>>().map_err(|Unusable { cause, reason }| {
        Unusable::new(cause, reason.map(|reason| format!("{reason}{}", names.advice())))
    })
}

fn read(certificate: &Path, key: &Path, names: Names) -> Result<Pair, Unusable> {
    let chain = contents(names.certificate(), certificate)?;
    let secret = contents(names.key(), key)?;
    Pair::from_pem(&chain, &secret).map_err(|error| {
        let (of_certificate, of_key) = (names.certificate(), names.key());
        let line = match (&error, names) {
            (PairError::Certificate(reason), _) => format!("{of_certificate} {}: {reason}", certificate.display()),
            (PairError::Key(reason), _) => format!("{of_key} {}: {reason}", key.display()),
            (PairError::Mismatch, Names::Pair) => format!(
                "tls_key {} is not the key of tls_cert {}; give the two in the same order",
                key.display(),
                certificate.display()
            ),
            (PairError::Mismatch, Names::Folder) => {
                format!("tls_self_signed {} is not the key of {}", key.display(), certificate.display())
            }
        };
        Unusable::with(Cause::Settings, line, error)
    })
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

/// Formats seconds since 1970 for people.
fn date(seconds: u64) -> String {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map_or("never".to_string(), timestamp)
}
