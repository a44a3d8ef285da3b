//! `racerd keygen FILE`: a new key for sealed sockets; `racerd keygen --data FILE`: a new data key. In a file that only its
//! owner may read.

use super::{Failure, random, say, shown};
use crate::crypto::at_rest::DataKey;
use crate::crypto::sealed::SealedKey;
use crate::key_file;
use std::ffi::OsString;
use std::path::Path;

/// Makes the key and writes its file.
///
/// # Errors
/// [`Failure::Usage`] where no file is named or it exists, [`Failure::Failed`] where it cannot be written.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    match args {
        [kind, file] if kind == "--data" => data(Path::new(file)),
        [file] if !file.is_empty() && !file.as_encoded_bytes().starts_with(b"-") => sealed(Path::new(file)),
        _ => Err(Failure::Usage(
            "keygen takes one file, which must not exist: racerd keygen FILE for sealed sockets, racerd keygen --data FILE \
             for a data key"
                .to_string(),
        )),
    }
}

/// A key for sealed sockets. Its pin is what clients are told.
fn sealed(file: &Path) -> Result<(), Failure> {
    let key = SealedKey::new(*random().map_err(Failure::Failed)?);
    key_file::write(file, &key.to_text()).map_err(|(cause, line)| Failure::of(cause, line))?;
    say(&format!("{}\n", key.pin()));
    Ok(())
}

/// A key for a sealed database.
fn data(file: &Path) -> Result<(), Failure> {
    let key = DataKey::new(*random().map_err(Failure::Failed)?);
    key_file::write(file, &key.to_text()).map_err(|(cause, line)| Failure::of(cause, line))?;
    say(&format!(
        "{} holds the data key {}; keep a copy of it elsewhere: without it, what it seals is lost\n",
        shown(file),
        key.id()
    ));
    Ok(())
}
