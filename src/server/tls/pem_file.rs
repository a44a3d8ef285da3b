//! A file of PEM text, read whole.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

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
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(Unusable::new(Cause::Settings, wrong(&"it is no file of PEM text")));
    }
    fs::read(path).map(Zeroizing::new).map_err(failed)
}
