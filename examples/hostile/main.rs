//! Attacks a server and measures what its well-behaved clients notice: `tests/hostile` builds and runs this, in a
//! network namespace of its own, since every party has an address.
//!
//! For each attack a fresh server is started; the observers work in quiet, then under the attack. A table and a file of
//! JSON lines say what they saw, and whether the stated bounds were kept. The attacker is a process of its own: this
//! program again, as `--attack NAME --from FORM`.
#![forbid(unsafe_code)]

mod attacks;
mod judge;
mod load;
mod observers;
mod peer;
mod report;
mod run;
mod server;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use attacks::{Attack, Form, Length};
use judge::Judged;
use peer::Peer;

const USAGE: &str = "usage: tests/hostile [--short | --long] [--list] [--from 1|60] [--against ws|mosquitto|bun|nats|nchan] [ATTACK...]";

/// What is to be run.
struct Given {
    length: Length,
    form: Option<Form>,
    peer: Peer,
    names: Vec<String>,
    /// Another program's part: what a process that attacks is told.
    attack: Option<String>,
    is_list: bool,
    server: PathBuf,
    out: PathBuf,
}

fn given() -> Result<Given, String> {
    let mut given = Given {
        length: Length::Short,
        form: None,
        peer: Peer::Racerd,
        names: Vec::new(),
        attack: None,
        is_list: false,
        server: PathBuf::from("target/release/racerd"),
        out: PathBuf::from("target/hostile"),
    };
    // What is not Unicode is no attack and no option, and said to be none.
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: needs a value\n{USAGE}"));
        match argument.as_str() {
            "--short" => given.length = Length::Short,
            "--long" => given.length = Length::Long,
            "--list" => given.is_list = true,
            "--from" => given.form = Some(Form::of(&value()?).ok_or(format!("--from: 1 or 60\n{USAGE}"))?),
            "--against" => given.peer = Peer::of(&value()?).ok_or(format!("--against: no such server\n{USAGE}"))?,
            "--attack" => given.attack = Some(value()?),
            "--server" => given.server = value()?.into(),
            "--out" => given.out = value()?.into(),
            name if attacks::named(name).is_some() => given.names.push(name.to_owned()),
            other => return Err(format!("{other}: no such attack or option; --list has the attacks\n{USAGE}")),
        }
    }
    Ok(given)
}

fn main() -> ExitCode {
    let given = match given() {
        Ok(given) => given,
        Err(error) => {
            eprintln!("hostile: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match &given.attack {
        _ if given.is_list => {
            list();
            Ok(true)
        }
        Some(name) => run::attack(name, given.form.unwrap_or(Form::One), given.peer).map(|()| true),
        None => run_all(&given),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("| attack | what it does | what it is to leave alone | from | form |\n|---|---|---|---|---|");
    for Attack { name, does, protects, forms, length, .. } in attacks::all() {
        let forms: Vec<&str> = forms.iter().map(|form| form.name()).collect();
        let length = if length == Length::Short { "short, long" } else { "long" };
        println!("| {name} | {does} | {protects} | {} | {length} |", forms.join(", "));
    }
}

/// Runs what was chosen; returns whether all was fair.
fn run_all(given: &Given) -> Result<bool, String> {
    let is_chosen = |attack: &Attack| match given.names.is_empty() {
        true => given.length == Length::Long || attack.length == Length::Short,
        false => given.names.iter().any(|name| name == attack.name),
    };
    let judged = if given.length == Length::Long { Judged::CountsAndTimes } else { Judged::Counts };
    let setting = run::Setting { peer: given.peer, binary: given.server.clone(), out: given.out.clone(), judged };
    run::prepare(&setting)?;
    println!("{}", report::HEAD);
    let mut rows = 0;
    let mut unfair = 0;
    for attack in attacks::all().into_iter().filter(is_chosen) {
        let applies = |form: &Form| {
            given.form.is_none_or(|chosen| chosen == *form) && run::plan(attack.name, *form, given.peer).is_some()
        };
        for form in attack.forms.iter().copied().filter(applies) {
            let row = run::measure(&setting, &attack, form).map_err(|error| format!("{}: {error}", attack.name))?;
            run::keep(&setting, &row)?;
            rows += 1;
            unfair += usize::from(!row.faults.is_empty());
        }
    }
    println!(
        "\n{} of {rows} were fair; times were {}",
        rows - unfair,
        match judged {
            Judged::Counts => "measured, not judged",
            Judged::CountsAndTimes => "judged",
        }
    );
    Ok(unfair == 0)
}
