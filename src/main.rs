//! The program: runs the command that its arguments name, and ends with that command's exit code.
#![forbid(unsafe_code)]

use racerd::cmd::{complain, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}
