//! `racerd keygen --data FILE`: a new key, in a file that only its owner may read.

use super::{Failure, say};
use crate::crypto::at_rest::DataKey;
use crate::server::key_file;
use std::ffi::OsString;
use std::path::Path;
use zeroize::Zeroizing;

/// Makes the key and writes its file.
///
/// # Errors
/// [`Failure::Usage`] where no file is named, or it exists or cannot be written.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    match args {
        [kind, file] if kind == "--data" => data(Path::new(file)),
        _ => Err(Failure::Usage("keygen needs a file: racerd keygen --data FILE".to_string())),
    }
}

/// A key for a sealed database.
fn data(file: &Path) -> Result<(), Failure> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice())
        .map_err(|error| Failure::Failed(format!("the system has no randomness: {error}")))?;
    let key = DataKey::new(*secret);
    key_file::write(file, &key.to_text()).map_err(Failure::Usage)?;
    say(&format!(
        "{} holds the data key {}; keep a copy of it elsewhere: without it, what it seals is lost\n",
        file.display(),
        key.id()
    ));
    Ok(())
}
