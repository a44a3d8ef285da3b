//! Temporary folders for tests that need files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own, deleted with everything in it when it is dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates a folder where the system keeps temporary files (`TMPDIR`, or else `/tmp`).
    pub fn new() -> TempDir {
        TempDir::below(&std::env::temp_dir())
    }

    /// Creates a folder in memory (`/dev/shm`) if the system has that, for tests that sync often.
    pub fn in_memory() -> TempDir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { TempDir::below(memory) } else { TempDir::new() }
    }

    fn below(parent: &Path) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("racerd-test-{}-{count}", std::process::id()));
        // An earlier process of the same id may have been killed.
        let _ = fs::remove_dir_all(&path);
        // proof: the machine that runs the tests has room for it.
        fs::create_dir_all(&path).expect("a temporary folder");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> TempDir {
        TempDir::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_empty_and_its_own_and_goes_with_its_value() {
        for create in [TempDir::new, TempDir::in_memory] {
            let (one, other) = (create(), create());
            assert_ne!(one.path(), other.path());
            fs::create_dir(one.path().join("below")).unwrap();
            assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
            let path = one.path().to_owned();
            drop(one);
            assert!(!path.exists() && other.path().is_dir());
        }
    }
}
