//! A file of PEM text, read whole.

use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::named_file::{self, Named};
use crate::types::{Cause, Unusable};

/// Longest file, in bytes: a certificate chain has less than a tenth of it.
const LONGEST: u64 = 1 << 20;

/// Reads the file that a setting names. What is read is wiped when it is dropped: it may be a key.
///
/// # Errors
/// Why the file of this setting cannot be read, or is none of PEM text.
pub fn contents(setting: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let wrong = |error: &dyn std::fmt::Display| format!("{setting} {} cannot be read: {error}", path.display());
    let failed = |error: io::Error| Unusable::with(Cause::of_file(&error), wrong(&error), error);
    let file = match named_file::open(path).map_err(failed)? {
        Named::Regular(file, about) if about.len() <= LONGEST => file,
        _ => return Err(Unusable::new(Cause::Settings, wrong(&"it is no file of PEM text"))),
    };
    // Allocated in full at once: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
    file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}
