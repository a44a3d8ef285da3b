//! The folder of a certificate of racerd's own, for a network that no authority signs for: made there, made anew before
//! it ends or when it lacks a name, and trusted by those who have compared its fingerprint.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{DAY, Problem, contents};
use crate::crypto::tls::{Due, Made, Pair, Why, due, made, period};
use crate::server::names::host_name;
use crate::types::{Cause, Millis, WallMillis};

/// The certificate that racerd keeps for itself.
pub struct Own {
    folder: PathBuf,
    /// Those that speak TLS.
    addresses: Vec<SocketAddr>,
    /// Those of `--host`.
    names: Vec<String>,
    /// Not made anew before this: two servers that share the folder and differ in names, or a clock that leaps to and
    /// fro, would else have it made at each look.
    again_at: Millis,
    /// What was said last, so that it is said once.
    said: Option<Renewal>,
}

/// What came of a look at the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It stays.
    Kept,
    /// It is made anew at this second since 1970.
    Soon(u64),
    /// It was made anew, with the same key.
    Made(Why),
    /// It could not be made anew.
    Failed(Why, String),
    /// It stays until the clock is set.
    NoClock(Why),
}

impl Own {
    pub fn new(folder: &Path, addresses: &[SocketAddr], names: &[String]) -> Own {
        Own {
            folder: folder.to_path_buf(),
            addresses: addresses.to_vec(),
            names: names.to_vec(),
            again_at: Millis(0),
            said: None,
        }
    }

    /// Returns the certificate's file and its key's. Makes the certificate if there is none, with the key that is
    /// there.
    ///
    /// # Errors
    /// What cannot be read or written, and what to do.
    pub fn files(&self, now: WallMillis) -> Result<(PathBuf, PathBuf), Problem> {
        refuse_file(&self.folder)?;
        let files = paths(&self.folder);
        let (certificate, key) = &files;
        if !certificate.exists() {
            self.make(now).map_err(|(cause, error)| {
                let folder = self.folder.display();
                (cause, format!("tls_self_signed {folder}: no certificate can be made there: {error}"))
            })?;
        } else if !key.exists() {
            let (certificate, key) = (certificate.display(), key.display());
            let line = format!("{certificate} has no {key} beside it; restore it, or move the certificate away");
            return Err((Cause::Folder, line));
        }
        Ok(files)
    }

    /// Makes the certificate anew if that is due.
    pub fn renew(&mut self, pair: &Pair, wall: WallMillis) -> Renewal {
        let lacks = self.wanted().into_iter().filter(|name| !pair.holds_for(name)).collect();
        match due(&pair.certificate(), lacks, wall) {
            Due::Nothing => Renewal::Kept,
            Due::Soon(at) => Renewal::Soon(at),
            Due::NoClock(why) => Renewal::NoClock(why),
            Due::Now(why) => match self.make(wall) {
                Ok(()) => Renewal::Made(why),
                Err((_, reason)) => Renewal::Failed(why, reason),
            },
        }
    }

    /// The same while serving: at most once a day, unless the settings changed.
    pub fn renew_while_serving(&mut self, pair: &Pair, mono: Millis, wall: WallMillis) -> Renewal {
        if mono < self.again_at {
            return Renewal::Kept;
        }
        let renewal = self.renew(pair, wall);
        if matches!(renewal, Renewal::Made(_) | Renewal::Failed(..)) {
            self.again_at = mono.after(DAY);
        }
        renewal
    }

    /// Takes the names of `--host` anew, and has the next look make the certificate anew if one is missing.
    pub fn set_names(&mut self, names: &[String]) {
        self.names = names.to_vec();
        self.look_again();
    }

    /// Has the next look make it anew if that is due, however short ago it was made.
    pub fn look_again(&mut self) {
        self.again_at = Millis(0);
    }

    /// Whether this is to be said: not what was said before.
    pub fn is_news(&mut self, renewal: &Renewal) -> bool {
        let is_news = *renewal != Renewal::Kept && self.said.as_ref() != Some(renewal);
        self.said = Some(renewal.clone());
        is_news
    }

    fn make(&self, now: WallMillis) -> Result<(), Problem> {
        let (certificate, key) = paths(&self.folder);
        let kept = match key.exists() {
            true => Some(contents("tls_self_signed", &key)?),
            false => None,
        };
        let mut serial = [0; 16];
        getrandom::fill(&mut serial)
            .map_err(|error| (Cause::System, format!("the system has no random numbers: {error}")))?;
        let text = kept.as_ref().map(|text| text.as_slice());
        let made = made(text, self.subjects(), period(now), serial);
        let Made { certificate: public, key: secret } =
            made.map_err(|reason| (Cause::Settings, format!("{}: {reason}", key.display())))?;
        let written = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).and_then(|()| {
            // The key first: a certificate is there only with its key.
            if kept.is_none() {
                write(&key, secret.as_bytes())?;
            }
            write(&certificate, public.as_bytes())?;
            File::open(&self.folder)?.sync_all()
        });
        written.map_err(|error| (Cause::of_file(&error), error.to_string()))
    }

    /// Returns the names and addresses that the settings ask for. Those that the machine merely has now are not among
    /// them: they change with a container's name or a lease, and every browser would be asked again for that.
    fn wanted(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified());
        // `*` among the names of `--host` stands for any.
        let names = self.names.iter().filter(|name| *name != "*").cloned();
        addresses.map(|address| address.to_string()).chain(names).collect()
    }

    /// Returns the names and addresses for which a certificate is made.
    fn subjects(&self) -> Vec<String> {
        let mut subjects = vec!["localhost".to_string(), "127.0.0.1".to_string(), "::1".to_string()];
        subjects.extend(self.wanted());
        // Where all of the machine's addresses are listened on: others reach it by that of the way out, most likely, or
        // by its name.
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

/// Refuses what is there and is no folder.
///
/// # Errors
/// The line for the person who named it.
pub fn refuse_file(folder: &Path) -> Result<(), Problem> {
    match folder.exists() && !folder.is_dir() {
        true => Err((Cause::Settings, format!("tls_self_signed {}: it is no folder", folder.display()))),
        false => Ok(()),
    }
}

/// The files, if they are there.
pub fn existing(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    Some(paths(folder)).filter(|(certificate, key)| certificate.exists() && key.exists())
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("cert.pem"), folder.join("key.pem"))
}

/// Under its name only once it is whole and on disk. A file that is replaced keeps its mode.
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

/// The machine's address towards other networks. Asks the kernel for a route, and sends nothing.
fn way_out(any: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Addresses that are kept for documentation (RFC 5737, RFC 3849).
    let far = if any.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}
