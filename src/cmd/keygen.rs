//! `racerd keygen FILE`: makes a key for sealed sockets, or with `--data` a data key, in a file that only its owner may
//! read.

use super::command::{Argument, Command, Completion, Example, Group, Opt, OptValue, Run, Settings};
use super::{Args, Failure, random, say, shown};
use crate::crypto::at_rest::DataKey;
use crate::crypto::sealed::SealedKey;
use crate::key_file;
use std::path::{Path, PathBuf};

pub const COMMAND: Command = Command {
    word: "keygen",
    group: Group::Keys,
    usage: &["keygen FILE", "keygen --data FILE"],
    summary: "Make a key for sealed sockets, or a data key",
    about: &[
        "Writes a new key to FILE, which must not exist and which only its owner may read.",
        "Without --data it is the private key of sealed sockets (--sealed-key); its pin, which clients need, is printed. \
         With --data it is a data key (--data-key-file), with which the server encrypts its database. Keep a copy of a \
         data key elsewhere: without it, the encrypted content is lost.",
    ],
    arguments: &[Argument { name: "FILE", text: "The key file to write.", completion: Completion::Files }],
    options: &[Opt { name: "data", value: OptValue::None, text: "Make a data key." }],
    settings: Settings::NotTaken,
    surplus: "it writes one FILE",
    examples: &[
        Example { line: "racerd keygen sealed.key", text: "Then: racerd --sealed-key sealed.key" },
        Example { line: "racerd keygen --data data.key", text: "Then: racerd --data-key-file data.key" },
    ],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Makes the key and writes its file.
///
/// # Errors
/// [`Failure::Usage`] where no file is named or it exists, [`Failure::Failed`] where it cannot be written.
fn run(mut args: Args) -> Result<(), Failure> {
    let file = PathBuf::from(args.required("FILE")?);
    match args.has("data") {
        true => data(&file),
        false => sealed(&file),
    }
}

/// Makes a key for sealed sockets and prints its pin, which clients are told.
fn sealed(file: &Path) -> Result<(), Failure> {
    let key = SealedKey::new(*random().map_err(|why| Failure::Failed(why.into()))?);
    key_file::write(file, &key.to_text())?;
    say(&format!("{}\n", key.pin()));
    Ok(())
}

/// Makes a data key, for a sealed database.
fn data(file: &Path) -> Result<(), Failure> {
    let key = DataKey::new(*random().map_err(|why| Failure::Failed(why.into()))?);
    key_file::write(file, &key.to_text())?;
    say(&format!(
        "{} holds the data key {}; keep a copy of it elsewhere: without it, what it seals is lost\n",
        shown(file),
        key.id()
    ));
    Ok(())
}
