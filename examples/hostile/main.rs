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
use std::time::SystemTime;

use attacks::{Attack, Form, Length};
use judge::Judged;
use peer::Peer;

const USAGE: &str = "usage: tests/hostile [--short | --long | --rotate] [--list] [--from 1|60] [--against ws|mosquitto|bun|nats|nchan] [ATTACK...]";

/// Rows of a day: about a minute.
const ROWS_A_DAY: usize = 4;

/// Rows of the short form that have no day. Where all places are taken from many addresses, connections that say
/// nothing wait for the few seats in which a newcomer could be answered, and the kernel's queue is first come first
/// served.
const NOT_YET: [(&str, Form); 1] = [("places", Form::Sixty)];

/// What is to be run.
struct Given {
    length: Length,
    form: Option<Form>,
    peer: Peer,
    names: Vec<String>,
    /// Another program's part: what a process that attacks is told.
    attack: Option<String>,
    is_list: bool,
    /// Only today's rows of the short form.
    is_rotated: bool,
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
        is_rotated: false,
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
            "--rotate" => (given.length, given.is_rotated) = (Length::Short, true),
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

/// Returns those of a day, such that each has its day.
fn of_day<T: Clone>(rows: &[T], day: u64) -> Vec<T> {
    let days = rows.len().div_ceil(ROWS_A_DAY).max(1);
    let today = usize::try_from(day).unwrap_or_default() % days;
    rows.iter().skip(today).step_by(days).cloned().collect()
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
    let mut rows: Vec<(Attack, Form)> = Vec::new();
    for attack in attacks::all().into_iter().filter(is_chosen) {
        let applies = |form: &Form| {
            given.form.is_none_or(|chosen| chosen == *form) && run::plan(attack.name, *form, given.peer).is_some()
        };
        rows.extend(attack.forms.iter().filter(|form| applies(form)).map(|form| (attack, *form)));
    }
    if given.is_rotated {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let is_not_yet = |(attack, form): &(Attack, Form)| NOT_YET.contains(&(attack.name, *form));
        let (not_yet, good): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_not_yet);
        for (attack, form) in not_yet {
            println!("{} from {} is left out: its verdict is not good yet", attack.name, form.name());
        }
        rows = of_day(&good, seconds / 86_400);
    }
    println!("{}", report::HEAD);
    let mut unfair = 0;
    for (attack, form) in &rows {
        let measure = || {
            let row = run::measure(&setting, attack, *form).map_err(|error| format!("{}: {error}", attack.name))?;
            run::keep(&setting, &row)?;
            Ok::<bool, String>(row.faults.is_empty())
        };
        let mut is_fair = measure()?;
        // Five handshakes say little about a machine that does other things meanwhile: what is unfair is so again.
        if !is_fair && given.is_rotated {
            is_fair = measure()?;
        }
        unfair += usize::from(!is_fair);
    }
    println!(
        "\n{} of {} were fair; times were {}",
        rows.len() - unfair,
        rows.len(),
        match judged {
            Judged::Counts => "measured, not judged",
            Judged::CountsAndTimes => "judged",
        }
    );
    Ok(unfair == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_day() {
        let rows: Vec<usize> = (0..30).collect();
        let mut done: Vec<usize> = (20_000..20_008).flat_map(|day| of_day(&rows, day)).collect();
        assert!((0..8).all(|day| of_day(&rows, day).len() <= ROWS_A_DAY));
        done.sort_unstable();
        assert_eq!(done, rows);
        assert_eq!(of_day(&rows[..2], 7), [0, 1]);
        assert!(of_day::<usize>(&[], 7).is_empty());
    }
}
