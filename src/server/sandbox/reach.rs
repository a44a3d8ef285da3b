//! What a running server reads and writes, from its settings. Folders rather than files: Landlock follows what a path
//! meant at the start, and databases, certificates and configuration files are replaced by renames.

use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::types::{Durability, folder_of};

/// Read while serving, whatever the settings: SQLite's source of random numbers, and the machine's name, which may
/// change.
const ALWAYS_READ: [&str; 2] = ["/dev/urandom", "/proc/sys/kernel/hostname"];

/// The files and sockets that a sandboxed server can still reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Folders in which it reads, creates, writes, renames and removes files.
    pub written: Vec<PathBuf>,
    /// Folders and files that it reads.
    pub read: Vec<PathBuf>,
    /// Whether it may open UDP sockets and connect them: to ask the kernel for the address that a certificate of its
    /// own must hold. Nothing else needs them.
    pub routes: bool,
    /// Whether it may send to sockets with an abstract name: the service manager's may be one.
    pub abstract_sockets: bool,
}

impl Reach {
    /// Returns what a server with these settings reaches. `config` is the file that they were read from. `real` returns
    /// a path without symbolic links: certificates are often links into another folder.
    pub fn of(settings: &Settings, config: Option<&Path>, real: impl Fn(&Path) -> Option<PathBuf>) -> Reach {
        let folders = |file: &Path| {
            let folders = [Some(file.to_path_buf()), real(file)].into_iter().flatten();
            folders.map(|file| folder_of(&file).to_path_buf())
        };
        let own = settings.tls.tls_self_signed.as_deref();
        let data = match settings.storage.durability {
            Durability::Full | Durability::Normal => Some(settings.storage.data.as_path()),
            Durability::Memory => None,
        };
        let written = data.into_iter().flat_map(folders).chain(own.map(Path::to_path_buf));
        let pairs = settings.tls.pairs().into_iter().flat_map(|(cert, key)| [cert, key]);
        let access = settings.access.access_file.clone();
        let files = pairs.chain(config.map(Path::to_path_buf)).chain(access);
        let read =
            ALWAYS_READ.map(PathBuf::from).into_iter().chain(files.flat_map(|file| folders(&file).collect::<Vec<_>>()));
        Reach { written: unique(written), read: unique(read), routes: own.is_some(), abstract_sockets: false }
    }

    /// Returns those of its folders that hold more than racerd's files, so that its sandbox is wider than it need be:
    /// folders that a system shares, and those that `home` is in or is itself.
    pub fn broad<'a>(paths: &'a [PathBuf], home: Option<&'a Path>) -> impl Iterator<Item = &'a PathBuf> {
        paths.iter().filter(move |path| {
            SHARED.iter().any(|shared| Path::new(shared) == *path) || home.is_some_and(|home| home.starts_with(path))
        })
    }
}

/// Folders in which other programs' files lie (hier(7)).
const SHARED: [&str; 30] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/etc/ssl",
    "/etc/ssl/private",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/local/etc",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

fn unique(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::ffi::OsString;

    fn of(args: &[&str], config: Option<&str>) -> Reach {
        let settings = parse(None, args.iter().map(OsString::from), []).unwrap().settings;
        let real = |path: &Path| Some(Path::new("/real").join(path.strip_prefix("/link").ok()?));
        Reach::of(&settings, config.map(Path::new), real)
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_server_writes_the_folder_of_its_database_and_reads_little() {
        let reach = of(&[], None);
        assert_eq!((reach.written, reach.read, reach.routes), (paths(&["."]), paths(&ALWAYS_READ), false));
        assert_eq!(of(&["--data", "/srv/chat/racerd.db"], None).written, paths(&["/srv/chat"]));
        assert_eq!(of(&["--durability", "memory"], None).written, paths(&[]), "nothing is written");
    }

    #[test]
    fn certificates_and_configuration_are_read_from_their_folders_and_where_links_lead() {
        let args = ["--tls-cert", "/link/live/cert.pem", "--tls-key", "/etc/keys/key.pem"];
        let reach = of(&args, Some("racerd.toml"));
        let read = [ALWAYS_READ[0], "/etc/keys", "/link/live", ALWAYS_READ[1], "/real/live", "."];
        assert_eq!(reach.read, paths(&read));
        assert_eq!(of(&["--data", "/link/x.db"], None).written, paths(&["/link", "/real"]));
    }

    #[test]
    fn folders_that_hold_more_than_a_server_needs_are_broad() {
        let broad = |path: &str| Reach::broad(&paths(&[path]), Some(Path::new("/home/ann"))).next().is_some();
        for path in ["/", "/etc", "/etc/", "/tmp", "/home", "/home/ann", "/var/lib"] {
            assert!(broad(path), "{path}");
        }
        for path in ["/etc/racerd", "/home/ann/chat", "/home/bob", "/var/lib/racerd", "/tmp/x"] {
            assert!(!broad(path), "{path}");
        }
        assert_eq!(Reach::broad(&paths(&["/home/ann"]), None).count(), 0);
        // Where homes lie in a folder of another name.
        let (people, home) = (paths(&["/data/people", "/data/people/ann"]), Path::new("/data/people/ann"));
        assert_eq!(Reach::broad(&people, Some(home)).count(), 2);
    }

    #[test]
    fn a_certificate_of_its_own_is_written_and_needs_the_routes() {
        let reach = of(&["--tls-self-signed", "/etc/racerd/tls"], None);
        assert_eq!((reach.written, reach.routes), (paths(&["/etc/racerd/tls", "."]), true));
    }
}
