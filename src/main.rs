//! Dispatch only: which command, and which exit code (`Failure::code`).
#![forbid(unsafe_code)]

use racerd::cmd::{
    Command, backup, check, check_config, choose, complain, health, help, keygen, pin, print, rekey, restore, salvage,
    send, serve, tail, version,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = choose(std::env::args_os().skip(1)).and_then(|(command, args)| match command {
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
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code();
            complain(&failure.into_text());
            ExitCode::from(code)
        }
    }
}
