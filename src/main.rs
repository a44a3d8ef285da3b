//! Dispatch only: which command, and which exit code. 0: done; 1: it failed; 2: asked for wrongly.
#![forbid(unsafe_code)]

use racerd::cmd::{Command, Failure, check, choose, complain, health, help, print, serve, version};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = choose(std::env::args_os().skip(1)).and_then(|(command, args)| match command {
        Command::Serve => serve::run(args, std::env::vars_os()),
        Command::Health => health::run(args, std::env::vars_os()),
        Command::Check => check::run(args, std::env::vars_os()),
        Command::Print => print::run(&args),
        Command::Help => help::run(&args),
        Command::Version => version::run(),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            complain(&text);
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}
