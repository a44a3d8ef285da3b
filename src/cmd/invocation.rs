//! The settings of one invocation: from its flags, its environment, and the configuration file that these name. The
//! only place that reads that file: at the start, and again at each SIGHUP, with the flags and the environment of the
//! start.

use crate::config::{self, ConfigError, File, Parsed};
use crate::named_file::{self, Named};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;

/// Longest file, in bytes: some hundred times what all settings with their texts take.
const LONGEST_FILE: u64 = 1 << 20;

/// The flags of the settings, and the environment: kept to be read again.
#[derive(Debug)]
pub struct Invocation {
    flags: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Invocation {
    pub fn new(flags: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Invocation {
        Invocation { flags, environment: environment.into_iter().collect() }
    }

    /// Returns whether a setting, or the configuration file, was given as a flag.
    pub fn has_flags(&self) -> bool {
        !self.flags.is_empty()
    }

    /// Reads the settings from the file, the environment and the flags.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is wrong.
    pub fn read(&self) -> Result<Parsed, ConfigError> {
        let name = config::file_name(&self.flags, &self.environment)?;
        let text = name.as_deref().map(read_file).transpose()?;
        let file = name.as_deref().zip(text.as_deref()).map(|(name, text)| File { name, text });
        config::parse(file, self.flags.iter().cloned(), self.environment.iter().cloned())
    }

    /// Reads the settings for a server: a listener that other machines can reach needs `--open`.
    ///
    /// # Errors
    /// As [`Invocation::read`], and where such a listener lacks `--open`.
    pub fn read_to_serve(&self) -> Result<Parsed, ConfigError> {
        let parsed = self.read()?;
        config::exposed(&parsed)?;
        Ok(parsed)
    }
}

/// Reads the configuration file.
fn read_file(name: &str) -> Result<String, ConfigError> {
    let refused = |what: &str| ConfigError::new(&format!("the configuration file {name}: {what}"));
    let failed = |error: io::Error| {
        ConfigError::with(&format!("the configuration file {name}: {error}{}", advice(&error)), error)
    };
    if name.contains('\0') {
        return Err(refused("a path cannot contain a zero byte"));
    }
    let file = match named_file::open(Path::new(name)).map_err(failed)? {
        Named::Regular(file, _) => file,
        Named::Folder => return Err(refused("is a directory; name the file in it")),
        Named::Other => return Err(refused("is not a regular file")),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(refused("is longer than 1 MiB, too large for a configuration of racerd"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::with(&format!("{name}:{line}: not valid UTF-8; write the file as UTF-8"), error)
    })
}

/// Says what to do about it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; racerd print-config writes one",
        io::ErrorKind::PermissionDenied => "; let the user that racerd runs as read it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_of_the_system_is_the_source() {
        let flags = vec!["--config=/nonexistent/racerd.toml".into()];
        let error = Invocation::new(flags, []).read().unwrap_err();
        assert!(error.to_string().contains("print-config"), "{error}");
        assert!(error.source().is_some_and(|source| source.is::<io::Error>()), "{error:?}");
    }
}
