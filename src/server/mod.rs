//! (being written)

pub mod log;

use crate::config::Settings;

/// Why the server ended other than by a wish to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// It could not start: a mistake in the settings or in what surrounds it. Exit code 2.
    Start(String),
    /// It stopped by itself. Exit code 1.
    Failed(String),
}

pub fn run(_: Settings) -> Result<(), ServeError> {
    Err(ServeError::Start("the loop is not built yet".to_string()))
}
