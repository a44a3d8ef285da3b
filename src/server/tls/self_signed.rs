//! The folder of racerd's own certificate, for networks without a certificate authority: the certificate is made there,
//! renewed before it expires or when it lacks a name, and trusted by people who have compared its fingerprint.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::pem_file::contents;
use crate::crypto::tls::{Due, Made, Pair, Why, due, made, period};
use crate::server::names::host_name;
use crate::server::sandbox::{Admitted, Use};
use crate::types::{Cause, Millis, Reason, Unusable, WallMillis};

/// Milliseconds from a renewal, or an attempt, to the next: a day.
const RENEWAL_PAUSE: u64 = 86_400_000;

/// racerd's self-signed certificate.
pub struct Own {
    folder: PathBuf,
    /// Addresses of the listeners that speak TLS.
    addresses: Vec<SocketAddr>,
    /// Names of `--host`.
    names: Vec<String>,
    /// Earliest time of the next renewal. Otherwise, two servers that share the folder but differ in names, or a clock
    /// that jumps back and forth, would renew it at every check.
    again_at: Millis,
    /// Last logged result, so that each is logged once.
    said: Option<Renewal>,
    admitted: Admitted,
}

/// Result of a renewal check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The certificate stays.
    Kept,
    /// It will be renewed at this second since 1970.
    Soon(u64),
    /// It was renewed, with the same key.
    Made(Why),
    /// It could not be renewed.
    Failed(Why, String),
    /// It stays until the clock is set.
    NoClock(Why),
}

/// Whether there was a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    Kept,
    Made,
}

impl Own {
    pub fn new(folder: &Path, addresses: &[SocketAddr], names: &[String]) -> Own {
        Own {
            folder: folder.to_path_buf(),
            addresses: addresses.to_vec(),
            names: names.to_vec(),
            again_at: Millis(0),
            said: None,
            admitted: Admitted::Everything,
        }
    }

    /// Explains refusals of the sandbox, which admits no more than this.
    pub fn sandboxed(&mut self, admitted: Admitted) {
        self.admitted = admitted;
    }

    /// Returns the paths of the certificate and its key.
    pub fn files(&self) -> (PathBuf, PathBuf) {
        paths(&self.folder)
    }

    /// Makes the certificate if there is none, with the existing key if there is one.
    ///
    /// # Errors
    /// The file that cannot be read or written, and what to do.
    pub fn ensure(&self, now: WallMillis) -> Result<Ensured, Unusable> {
        refuse_file(&self.folder)?;
        let (certificate, key) = self.files();
        if !certificate.exists() {
            self.make(now).map_err(|Unusable { cause, reason }| {
                let folder = self.folder.display();
                let about =
                    |reason: &str| format!("tls_self_signed {folder}: no certificate can be made there: {reason}");
                Unusable::new(cause, reason.map(about))
            })?;
            return Ok(Ensured::Made);
        } else if !key.exists() {
            let (certificate, key) = (certificate.display(), key.display());
            let line = format!("{certificate} has no {key} beside it; restore it, or move the certificate away");
            return Err(Unusable::new(Cause::Folder, line));
        }
        Ok(Ensured::Kept)
    }

    /// Renews the certificate if that is due.
    pub fn renew(&mut self, pair: &Pair, wall: WallMillis) -> Renewal {
        let lacks = self.wanted().into_iter().filter(|name| !pair.holds_for(name)).collect();
        match due(&pair.certificate(), lacks, wall) {
            Due::Nothing => Renewal::Kept,
            Due::Soon(at) => Renewal::Soon(at),
            Due::NoClock(why) => Renewal::NoClock(why),
            Due::Now(why) => match self.make(wall) {
                Ok(()) => Renewal::Made(why),
                Err(error) => {
                    let refusal = self.admitted.refusal(&self.files().0, Use::Written, &error);
                    Renewal::Failed(why, refusal.unwrap_or_else(|| error.to_string()))
                }
            },
        }
    }

    /// Renews it while serving: at most once a day, unless the settings changed.
    pub fn renew_while_serving(&mut self, pair: &Pair, mono: Millis, wall: WallMillis) -> Renewal {
        if mono < self.again_at {
            return Renewal::Kept;
        }
        let renewal = self.renew(pair, wall);
        if matches!(renewal, Renewal::Made(_) | Renewal::Failed(..)) {
            self.again_at = mono.after(RENEWAL_PAUSE);
        }
        renewal
    }

    /// Replaces the names of `--host`; the next check renews the certificate if one is missing.
    pub fn set_names(&mut self, names: &[String]) {
        self.names = names.to_vec();
        self.look_again();
    }

    /// Lets the next check renew the certificate if that is due, however recent the last renewal.
    pub fn look_again(&mut self) {
        self.again_at = Millis(0);
    }

    /// Reports whether this result should be logged, because it differs from the last one.
    pub fn is_news(&mut self, renewal: &Renewal) -> bool {
        let is_news = *renewal != Renewal::Kept && self.said.as_ref() != Some(renewal);
        self.said = Some(renewal.clone());
        is_news
    }

    fn make(&self, now: WallMillis) -> Result<(), Unusable> {
        let (certificate, key) = paths(&self.folder);
        let kept = match key.exists() {
            true => Some(contents("tls_self_signed", &key)?),
            false => None,
        };
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|error| {
            Unusable::with(Cause::System, format!("the system has no random numbers: {error}"), error)
        })?;
        let text = kept.as_ref().map(|text| text.as_slice());
        let made = made(text, self.subjects(), period(now), serial);
        let Made { certificate: public, key: secret } = made
            .map_err(|reason| Unusable::new(Cause::Settings, reason.map(|why| format!("{}: {why}", key.display()))))?;
        let written = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).and_then(|()| {
            // The key is written first: a certificate must never exist without its key.
            if kept.is_none() {
                write(&key, secret.as_bytes())?;
            }
            write(&certificate, public.as_bytes())?;
            File::open(&self.folder)?.sync_all()
        });
        written.map_err(|error| Unusable { cause: Cause::of_file(&error), reason: Reason::of(error) })
    }

    /// Returns the names and addresses that the settings ask for. The machine's current ones are left out: they change
    /// with a container's name or a lease, and each renewal would make every browser ask again.
    fn wanted(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified());
        // `*` among the names of `--host` stands for any name.
        let names = self.names.iter().filter(|name| *name != "*").cloned();
        addresses.map(|address| address.to_string()).chain(names).collect()
    }

    /// Returns the names and addresses for which a certificate is made.
    fn subjects(&self) -> Vec<String> {
        let mut subjects = vec!["localhost".to_string(), "127.0.0.1".to_string(), "::1".to_string()];
        subjects.extend(self.wanted());
        // If the server listens on all of the machine's addresses, clients most likely reach it by the address of the
        // outgoing route, or by its name.
        let any = self.addresses.iter().map(SocketAddr::ip).filter(IpAddr::is_unspecified);
        subjects.extend(any.filter_map(way_out).map(|address| address.to_string()));
        subjects.extend(host_name().into_iter().flat_map(|name| [format!("{name}.local"), name]));
        let mut seen = Vec::new();
        subjects.retain(|subject| {
            !seen.contains(subject) && {
                seen.push(subject.clone());
                true
            }
        });
        subjects
    }
}

/// Refuses an existing path that is not a folder.
///
/// # Errors
/// The error line for the administrator.
pub fn refuse_file(folder: &Path) -> Result<(), Unusable> {
    match folder.exists() && !folder.is_dir() {
        true => Err(Unusable::new(Cause::Settings, format!("tls_self_signed {}: it is no folder", folder.display()))),
        false => Ok(()),
    }
}

/// Returns the paths of both files, if they exist.
pub fn existing(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    Some(paths(folder)).filter(|(certificate, key)| certificate.exists() && key.exists())
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("cert.pem"), folder.join("key.pem"))
}

/// Writes a file atomically: it gets its name only once it is complete and on disk. A replaced file keeps its mode.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(path).ok().map(|about| about.permissions().mode() & 0o777);
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text)?;
    if let Some(mode) = mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Returns the machine's address towards other networks. Asks the kernel for a route, and sends nothing.
fn way_out(any: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Addresses reserved for documentation (RFC 5737, RFC 3849).
    let far = if any.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}
