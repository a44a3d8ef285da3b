//! The key file of sealed sockets: read by the server and by `racerd pin`, written by `racerd keygen`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::crypto::sealed::SealedKey;

/// Longest file that is looked at, in bytes: one line of 59, and enough to see that it is another file.
const LONGEST: usize = 256;

/// Reads the key.
///
/// # Errors
/// The file cannot be read, is no key file, or others than its owner may touch it: one line that says what to do.
pub fn read(path: &Path) -> Result<SealedKey, String> {
    let failed = |reason: &dyn std::fmt::Display| format!("the key file {}: {reason}", path.display());
    // Nobody may be at the other end of a FIFO; opening it must not wait.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed(&format!("{error}; racerd keygen FILE makes one")),
        ErrorKind::PermissionDenied => failed(&format!("{error}; let the user that racerd runs as own it")),
        _ => failed(&error),
    })?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(failed(&"is not a regular file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(failed(&format!("others than its owner have access (mode {mode:04o}); run: chmod 600 FILE")));
    }
    // Of its full size from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    let key = std::str::from_utf8(&bytes).ok().and_then(SealedKey::parse);
    key.ok_or_else(|| failed(&"is no key of sealed sockets; racerd keygen FILE makes one"))
}

/// Makes a new key, in a new file that only its owner can read.
///
/// # Errors
/// The file exists or cannot be written.
pub fn make(path: &Path) -> Result<SealedKey, String> {
    let failed = |reason: &dyn std::fmt::Display| format!("the key file {}: {reason}", path.display());
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| failed(&format!("the system has no randomness: {error}")))?;
    let key = SealedKey::new(random);
    zeroize::Zeroize::zeroize(&mut random);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                failed(&"is there already; whoever pinned its key could not connect with another")
            }
            _ => failed(&error),
        })?;
    let written = file.write_all(key.to_text().as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is of no use to anybody.
        let _ = std::fs::remove_file(path);
        return Err(failed(&error));
    }
    Ok(key)
}
