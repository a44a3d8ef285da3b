//! `racerd keygen FILE`: a new key for sealed sockets.

use super::{Failure, say};
use crate::server::sealed_key;
use std::ffi::OsString;
use std::path::Path;

/// Makes the key and prints its pin.
///
/// # Errors
/// [`Failure::Usage`] where not one file is named, or it exists or cannot be written.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    let file = match args {
        [file] if !file.as_encoded_bytes().starts_with(b"-") && !file.is_empty() => Path::new(file),
        _ => return Err(Failure::Usage("keygen takes one file, which must not exist: racerd keygen FILE".to_string())),
    };
    let key = sealed_key::make(file).map_err(Failure::Usage)?;
    say(&format!("{}\n", key.pin()));
    Ok(())
}
