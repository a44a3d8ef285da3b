//! The access file: read at the start and at each SIGHUP.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::access::{Doors, LONGEST_FILE, people};
use crate::config::{ConfigError, File, Settings};
use crate::named_file::{self, Named};

/// Returns who is known by the settings and the access file that they name, and what a guest may do.
///
/// # Errors
/// One line about the file, which cannot be read or has a fault.
pub fn doors(settings: &Settings) -> Result<Doors, ConfigError> {
    let people = match &settings.access.access_file {
        None => Vec::new(),
        Some(path) => {
            let name = path.display().to_string();
            people(&File { name: &name, text: &read(path)? })?
        }
    };
    Ok(Doors::new(settings.guests(), people))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let shown = path.display();
    let wrong = |text: &str| ConfigError::new(&format!("the access file {shown}: {text}"));
    let (file, metadata) = match named_file::open(path) {
        Ok(Named::Regular(file, metadata)) => (file, metadata),
        Ok(Named::Folder) => return Err(wrong("it is a folder")),
        Ok(Named::Other) => return Err(wrong("it is no regular file")),
        Err(error) => {
            return Err(ConfigError::with(&format!("the access file {shown}: {error}"), error));
        }
    };
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(wrong("others than its owner may write it, and so let anybody in: chmod go-w"));
    }
    let mut text = String::new();
    let read = file.take(LONGEST_FILE + 1).read_to_string(&mut text);
    read.map_err(|error| ConfigError::with(&format!("the access file {shown}: {error}"), error))?;
    match text.len() as u64 <= LONGEST_FILE {
        true => Ok(text),
        false => Err(wrong("it is longer than 1 MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;
    use std::fs::{self, Permissions};

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let dir = TempDir::new();
        let path = dir.path().join("access.toml");
        let doors = |path: &Path| {
            let mut settings = Settings::default();
            settings.access.access_file = Some(path.to_path_buf());
            doors(&settings).map_err(|error| error.to_string())
        };
        let refused = |path: &Path, expected: &str| {
            let error = doors(path).unwrap_err();
            assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
        };
        refused(&path, "No such file");
        refused(dir.path(), "it is a folder");
        fs::write(&path, "[people]\nalice = 1\n").unwrap();
        refused(&path, ":2: alice: a table is wanted");
        fs::write(&path, [0xff]).unwrap();
        refused(&path, "UTF-8");
        fs::write(&path, format!("#{}", "x".repeat(LONGEST_FILE as usize))).unwrap();
        refused(&path, "longer than 1 MiB");
        fs::write(&path, "[people]\n").unwrap();
        assert_eq!(doors(&path), Ok(Doors::new(None, Vec::new())));
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        refused(&path, "chmod go-w");
    }
}
