//! Dispatch only: which command, and which exit code (`Failure::code`).
#![forbid(unsafe_code)]

use racerd::cmd::{
    Command, Failure, backup, check, check_config, choose, complain, health, heed_signals, help, keygen, pin, print,
    rekey, restore, salvage, send, serve, tail, version,
};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = choose(std::env::args_os().skip(1)).and_then(|(command, args)| run(command, args));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code();
            complain(&failure.into_text());
            ExitCode::from(code)
        }
    }
}

fn run(command: Command, args: Vec<OsString>) -> Result<(), Failure> {
    // A server watches them itself.
    if command != Command::Serve {
        heed_signals()?;
    }
    match command {
        Command::Serve => serve::run(args, std::env::vars_os()),
        Command::Send => send::run(args),
        Command::Tail => tail::run(args),
        Command::Health => health::run(args, std::env::vars_os()),
        Command::CheckConfig => check_config::run(args, std::env::vars_os()),
        Command::Backup => backup::run(args, std::env::vars_os()),
        Command::Restore => restore::run(args, std::env::vars_os()),
        Command::Check => check::run(args, std::env::vars_os()),
        Command::Salvage => salvage::run(args, std::env::vars_os()),
        Command::Rekey => rekey::run(args, std::env::vars_os()),
        Command::Keygen => keygen::run(&args),
        Command::Pin => pin::run(args, std::env::vars_os()),
        Command::Print => print::run(&args),
        Command::Help => help::run(&args),
        Command::Version => version::run(),
    }
}
