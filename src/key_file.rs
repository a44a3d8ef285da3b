//! Key files: one line that only its owner may read. Read at the start and by the commands that need a key. No message
//! shows the content of one.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::Settings;
use crate::crypto::at_rest::DataKey;
use crate::crypto::sealed::SealedKey;
use crate::named_file::{self, Named};
use crate::sqlite;
use crate::types::{Cause, Durability, Unusable, folder_of};

/// The data key's name in systemd's directory of credentials (<https://systemd.io/CREDENTIALS/>).
const CREDENTIAL: &str = "racerd-data-key";
/// The names of the keys of sealed sockets there: the present one, and the one before it.
const SEALED_CREDENTIALS: [&str; 2] = ["racerd-sealed-key", "racerd-sealed-key-old"];

/// A kind of key file, as messages describe it.
struct KeyFile {
    name: &'static str,
    /// The command that makes one, without the file's name.
    made_by: &'static str,
    /// Whether a file that the system refuses may become readable later. An unavailable data key is as bad as a wrong
    /// one: the server must never start without it.
    may_come: bool,
}

const DATA: KeyFile = KeyFile { name: "the data key file", made_by: "racerd keygen --data", may_come: false };
const SEALED: KeyFile = KeyFile { name: "the sealed sockets' key file", made_by: "racerd keygen", may_come: true };

/// The bits that the mode of a credential may not have. systemd gives the service access by an ACL, whose mask shows in
/// the group's bits of the mode; the directory is the service's own.
const CREDENTIAL_CLOSED: u32 = 0o007;

/// Longest file, in bytes: several times the length of a key's line.
const LONGEST: u64 = 1024;

/// Returns the data key that the settings name, or else the one among systemd's credentials; `None` if there is
/// neither, or if nothing is written to a disk.
///
/// # Errors
/// The fault of its file, in one line.
pub fn data_key(settings: &Settings) -> Result<Option<DataKey>, Unusable> {
    if settings.storage.durability == Durability::Memory {
        return Ok(None);
    }
    match &settings.storage.data_key_file {
        Some(path) => read_data_key(path).map(Some),
        None => credential(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref()),
    }
}

/// Returns the keys of sealed sockets that the settings name, or else those among systemd's credentials: the present
/// one first, and perhaps the one before it. There may be none.
///
/// # Errors
/// The fault of a file, in one line.
pub fn sealed_keys(settings: &Settings) -> Result<Vec<SealedKey>, Unusable> {
    let keys = match settings.sealed.sealed_key.as_slice() {
        [] => sealed_credentials(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref())?,
        files => files.iter().map(|file| read_sealed_key(Path::new(file), 0o077)).collect::<Result<_, _>>()?,
    };
    match keys.as_slice() {
        [present, earlier] if present.pin() == earlier.pin() => {
            let line =
                "the two keys of sealed sockets are the same; leave one out, or make a new one with racerd keygen";
            Err(Unusable::new(Cause::Key, line))
        }
        _ => Ok(keys),
    }
}

fn sealed_credentials(directory: Option<&OsStr>) -> Result<Vec<SealedKey>, Unusable> {
    let Some(directory) = directory.filter(|name| !name.is_empty()) else { return Ok(Vec::new()) };
    let [present, earlier] = SEALED_CREDENTIALS.map(|name| PathBuf::from(directory).join(name));
    if !present.exists() {
        return Ok(Vec::new());
    }
    let files = [Some(present), Some(earlier).filter(|file| file.exists())];
    files.into_iter().flatten().map(|file| read_sealed_key(&file, CREDENTIAL_CLOSED)).collect()
}

/// Reads the data key in this file.
///
/// # Errors
/// The fault of the file, in one line.
pub fn read_data_key(path: &Path) -> Result<DataKey, Unusable> {
    parse(path, &read(path, &DATA, 0o077)?)
}

fn read_sealed_key(path: &Path, closed: u32) -> Result<SealedKey, Unusable> {
    let text = read(path, &SEALED, closed)?;
    let key = std::str::from_utf8(&text).ok().and_then(SealedKey::parse);
    key.ok_or_else(|| {
        let shown = path.display();
        let line = format!("{} {shown}: is no key of sealed sockets; 'racerd keygen FILE' makes one", SEALED.name);
        Unusable::new(Cause::Key, line)
    })
}

fn credential(directory: Option<&OsStr>) -> Result<Option<DataKey>, Unusable> {
    let Some(directory) = directory.filter(|name| !name.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(directory).join(CREDENTIAL);
    if !path.exists() {
        return Ok(None);
    }
    parse(&path, &read(&path, &DATA, CREDENTIAL_CLOSED)?).map(Some)
}

fn parse(path: &Path, text: &[u8]) -> Result<DataKey, Unusable> {
    let line = || format!("the data key file {}: {}", path.display(), DataKey::RULE);
    DataKey::parse(text).ok_or_else(|| Unusable::new(Cause::Key, line()))
}

/// Reads the file's bytes; refuses the file if its mode has one of the bits `closed`.
fn read(path: &Path, kind: &KeyFile, closed: u32) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let KeyFile { name, made_by, may_come } = kind;
    let shown = path.display();
    let failed = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => format!("; '{made_by} {shown}' makes a new one"),
            io::ErrorKind::PermissionDenied => "; let the user that racerd runs as own it".to_string(),
            _ => String::new(),
        };
        let cause = if *may_come { Cause::of_file(&error) } else { Cause::Key };
        Unusable::with(cause, format!("{name} {shown}: {error}{advice}"), error)
    };
    let Named::Regular(file, metadata) = named_file::open(path).map_err(failed)? else {
        return Err(Unusable::new(Cause::Key, format!("{name} {shown}: is not a regular file")));
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & closed != 0 {
        let line = format!("{name} {shown}: others may read or change it (mode {mode:03o}); run 'chmod 600 {shown}'");
        return Err(Unusable::new(Cause::Key, line));
    }
    // Allocated in full at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes a new file that only its owner may read, and syncs it.
///
/// # Errors
/// The file exists, or cannot be written; in one line.
pub fn write(path: &Path, text: &str) -> Result<(), Unusable> {
    let shown = path.display();
    if let Some(owner) = sqlite::side_file_of(path) {
        let line = format!("{shown} is the name of a file that belongs to {}; give another name", owner.display());
        return Err(Unusable::new(Cause::Settings, line));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let line = "exists and was not touched: a key that is written over is lost for good; give another name";
            Unusable::with(Cause::Settings, format!("{shown} {line}"), error)
        }
        _ => Unusable::with(Cause::Folder, format!("cannot write the key file {shown}: {error}"), error),
    })?;
    let directory = folder_of(path);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| File::open(directory)?.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        Unusable::with(Cause::Disk, format!("cannot write the key file {shown}: {error}"), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;
    use std::fs;

    #[test]
    fn the_keys_of_sealed_sockets_are_those_of_the_settings_or_credentials() {
        let directory = TempDir::new();
        let at = |name: &str| directory.path().join(name);
        let (present, earlier) = (SealedKey::new([1; 32]), SealedKey::new([2; 32]));
        let found = || {
            let keys = sealed_credentials(Some(directory.path().as_os_str())).unwrap();
            keys.iter().map(SealedKey::pin).collect::<Vec<_>>()
        };
        assert!(sealed_credentials(None).unwrap().is_empty());
        write(&at(SEALED_CREDENTIALS[1]), &earlier.to_text()).unwrap();
        assert_eq!(found(), [], "an old key alone is none");
        // As an editor leaves it that adds no line feed.
        write(&at(SEALED_CREDENTIALS[0]), present.to_text().trim_end()).unwrap();
        fs::set_permissions(at(SEALED_CREDENTIALS[0]), fs::Permissions::from_mode(0o440)).unwrap();
        assert_eq!(found(), [present.pin(), earlier.pin()]);
        let mut settings = Settings::default();
        let of =
            |settings: &Settings| sealed_keys(settings).map(|keys| keys.iter().map(SealedKey::pin).collect::<Vec<_>>());
        let file = |name: &str| at(name).to_str().unwrap().to_owned();
        settings.sealed.sealed_key = vec![file(SEALED_CREDENTIALS[1])];
        assert_eq!(of(&settings).unwrap(), [earlier.pin()]);
        write(&at("same"), &earlier.to_text()).unwrap();
        settings.sealed.sealed_key.push(file("same"));
        assert!(of(&settings).unwrap_err().to_string().contains("are the same"));
        settings.sealed.sealed_key = vec![file(SEALED_CREDENTIALS[0])];
        assert!(of(&settings).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn only_a_private_file_of_one_key_is_read() {
        let directory = TempDir::new();
        let path = directory.path().join(CREDENTIAL);
        let key = DataKey::new([7; 32]);
        assert!(read_data_key(&path).unwrap_err().to_string().contains("keygen"));
        assert!(credential(Some(directory.path().as_os_str())).unwrap().is_none(), "no credential of that name");
        assert!(credential(None).unwrap().is_none());
        write(&path, &key.to_text()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, "other").unwrap_err().to_string().contains("exists"));
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_data_key(&path).unwrap().id(), key.id());
        }
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let line = read_data_key(&path).unwrap_err().to_string();
            assert!(line.contains("chmod 600") && line.contains(&format!("{mode:o}")), "{line}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert_eq!(credential(Some(directory.path().as_os_str())).unwrap().unwrap().id(), key.id());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(credential(Some(directory.path().as_os_str())).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "racerd-sealed-1 AAAA\n", &format!("{}#", *key.to_text()), &"x".repeat(5000)] {
            fs::write(&path, bad).unwrap();
            let line = read_data_key(&path).unwrap_err().to_string();
            assert!(line.contains("43 characters") && !line.contains('\n'), "{line}");
        }
        assert!(read_data_key(directory.path()).unwrap_err().to_string().contains("not a regular file"));
    }
}
