//! Tells the sandbox's refusals from those of a file's owner: the system says "Permission denied" to both, and only the
//! sandbox's need a restart.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Held, Hold, Reach};

/// The folders and files that the sandbox of this process admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admitted {
    /// No sandbox limits files.
    #[default]
    Everything,
    /// These, as they were at the start, and all that lies below them.
    Below { read: Vec<Inode>, written: Vec<Inode> },
}

/// The identity of a folder as Landlock sees it: its device and inode, whatever its name is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
}

/// The access that a file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Read,
    Written,
}

impl Admitted {
    /// Returns what a process may reach that has entered the sandbox with this reach just now.
    pub fn of(reach: &Reach, held: &Held) -> Admitted {
        let inodes = |paths: &[PathBuf]| paths.iter().filter_map(|path| inode(path)).collect();
        match held.files {
            Hold::Whole | Hold::Part(_) => {
                Admitted::Below { read: inodes(&reach.read), written: inodes(&reach.written) }
            }
            Hold::Missing(_) => Admitted::Everything,
        }
    }

    /// Returns what happened and what to do, if the sandbox is why this path was refused.
    pub fn refusal(&self, path: &Path, to: Use, error: &(dyn Error + 'static)) -> Option<String> {
        let Admitted::Below { read, written } = self else { return None };
        if !is_denied(error) {
            return None;
        }
        let is_in = |inode: &Inode| written.contains(inode) || (to == Use::Read && read.contains(inode));
        let is_admitted = chain(path).iter().any(is_in);
        (!is_admitted).then(|| {
            format!(
                "{} is outside the folders that the sandbox was given at the start: a folder was replaced, or a link \
                 leads elsewhere; needs a restart",
                path.display()
            )
        })
    }
}

/// Returns whether the system denied it: the error itself, or one behind it.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return system.kind() == io::ErrorKind::PermissionDenied;
        }
        at = error.source();
    }
    false
}

/// Returns the file and all folders above it, where links lead. Of a path that does not exist, the part that does.
fn chain(path: &Path) -> Vec<Inode> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let real = path.ancestors().find_map(|above| fs::canonicalize(above).ok());
    real.iter().flat_map(|real| real.ancestors()).filter_map(inode).collect()
}

fn inode(path: &Path) -> Option<Inode> {
    // The sandbox lets everything be looked at; only its content is out of reach.
    fs::metadata(path).ok().map(|about| Inode { device: about.dev(), number: about.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;
    use crate::types::{Cause, Unusable};
    use std::os::unix::fs::symlink;

    const WHOLE: Held = Held { files: Hold::Whole, calls: Hold::Whole };

    #[test]
    fn only_what_lies_outside_and_is_denied_is_the_sandboxs_refusal() {
        let folder = TempDir::new();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "etc/inner", "data", "else"] {
            fs::create_dir(at(name)).unwrap();
        }
        let reach = Reach { read: vec![at("etc")], written: vec![at("data")], ..Reach::default() };
        let admitted = Admitted::of(&reach, &WHOLE);
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let is_refused = |name: &str, to: Use| admitted.refusal(&at(name), to, &denied()).is_some();
        fs::write(at("etc/inner/file"), "").unwrap();
        fs::write(at("else/file"), "").unwrap();
        for (name, to, expected) in [
            ("etc/inner/file", Use::Read, false),
            ("etc/missing", Use::Read, false),
            ("etc/missing", Use::Written, true),
            ("data/file", Use::Read, false),
            ("data/file", Use::Written, false),
            ("else/file", Use::Read, true),
            ("nowhere/at/all", Use::Read, true),
        ] {
            assert_eq!(is_refused(name, to), expected, "{name}");
        }
        // A link that leads elsewhere, and a folder in the place of the one that was there.
        symlink(at("else/file"), at("etc/link")).unwrap();
        assert!(is_refused("etc/link", Use::Read));
        symlink(at("etc/inner/file"), at("else/link")).unwrap();
        assert!(!is_refused("else/link", Use::Read));
        fs::rename(at("etc"), at("old")).unwrap();
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/file"), "").unwrap();
        assert!(is_refused("etc/file", Use::Read) && !is_refused("old/inner/file", Use::Read));
        // An error of another kind, and the kernel's own words wrapped in ours.
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert!(admitted.refusal(&at("else/file"), Use::Read, &missing).is_none());
        let wrapped = Unusable::with(Cause::Folder, "cannot", denied());
        let said = admitted.refusal(&at("else/file"), Use::Read, &wrapped).unwrap();
        assert!(said.contains("else/file") && said.contains("sandbox") && said.contains("needs a restart"), "{said}");
        for open in [Admitted::default(), Admitted::of(&reach, &Held { files: Hold::Missing("x".into()), ..WHOLE })] {
            assert!(open.refusal(&at("else/file"), Use::Read, &denied()).is_none());
        }
    }
}
