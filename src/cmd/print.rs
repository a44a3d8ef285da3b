//! `racerd --print-config`: a configuration file of all defaults, to be changed and given to `--config`.

use super::{Failure, say};
use crate::config;
use std::ffi::OsString;

/// Prints the file.
///
/// # Errors
/// [`Failure::Usage`] where something else is asked for, too: the file shows the defaults, not what would hold.
pub fn run(args: &[OsString]) -> Result<(), Failure> {
    if let Some(arg) = args.first() {
        let text =
            format!("--print-config shows the defaults and takes nothing else, such as {arg:?}; see --check-config");
        return Err(Failure::Usage(text));
    }
    say(&config::example());
    Ok(())
}
