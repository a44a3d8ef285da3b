//! Files that settings and arguments name: opened without waiting, and read only if they are regular files.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The kind of file behind a path.
pub enum Named {
    /// A file that can be read to its end, and what the system says of it.
    Regular(File, Metadata),
    Folder,
    /// A FIFO, a device or a socket: it may have no end, or nobody who writes to it.
    Other,
}

/// Opens the file of this name for reading, without waiting: opening a FIFO that has no writer would not return.
///
/// # Errors
/// The system's refusal.
pub fn open(path: &Path) -> io::Result<Named> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    Ok(match metadata.file_type() {
        kind if kind.is_file() => Named::Regular(file, metadata),
        kind if kind.is_dir() => Named::Folder,
        _ => Named::Other,
    })
}
