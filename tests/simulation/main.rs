//! The simulator: the real engine, hub, protocol, codec and connections, bytes in and bytes out, under a virtual clock,
//! with a simulated network, a simulated store and many clients that use the real protocol, all derived from one
//! number. It has no sockets, no threads and no sleeps. The checks after each step are in `model`, `client::view`,
//! `bounds` and `world`.
//!
//!     cargo test -F testing --test simulation                                     its share of `cargo test`: a few seeds
//!     cargo test -F testing --test simulation -- --full                           its share of `tests/run`: a million client actions
//!     cargo test -F testing --test simulation -- --from 5000 --seeds 100          other seeds; `--actions N`: actions per seed
//!     cargo test -F testing --test simulation -- --seed 17                        one seed; if it fails, the end of its trace
//!     cargo test -F testing --test simulation -- --seed 17 --trace                its whole trace
//!     cargo test -F testing --test simulation -- --databases                      each log that outlives the server is SQLite's
//!
//! A failing seed is reduced to the fewest actions with which it still fails, and printed with the end of its trace.
//! The same seed and number of actions give the same run to the last byte.

mod agenda;
mod arguments;
mod bodies;
mod bounds;
mod client;
mod clock;
mod database;
mod doors;
mod encryption;
mod ends;
mod fairness;
mod faults;
mod flood;
mod here;
mod host;
mod keeping;
mod limits;
mod log;
mod making;
mod model;
mod network;
mod retention;
mod scene;
mod settings;
mod signals;
mod store;
mod strangers;
mod tally;
mod trace;
mod upkeep;
mod wire;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use arguments::Arguments;
use scene::Violation;
use tally::Tally;
use world::{Outcome, Plan, run};

/// Runs that failed once, whether the server or the checker was wrong: seed, actions, and whether each log is in a
/// database.
const WERE_RED: [(u64, u64, bool); 10] = [
    (2, 1, true),
    (49, 418, true),
    (160, 915, false),
    (226, 482, true),
    (238, 280, true),
    (367, 277, true),
    (417, 296, false),
    (835, 858, false),
    (982, 345, false),
    (7003, 400, true),
];

/// Lines of the trace that a failure shows.
const SHOWN: usize = 80;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(Some(arguments)) => arguments,
        // The filter names another test.
        Ok(None) => return ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

/// Runs a plan. A panic counts as a violation.
fn judged(plan: Plan) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Violation { checker: "no panic", text: text.unwrap_or_default() };
        Outcome { tally: Tally::default(), hash: 0, steps: 0, lines: Vec::new(), violation: Some(violation) }
    })
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let lines = if arguments.trace { usize::MAX } else { SHOWN };
    let outcome = judged(Plan { seed, actions: arguments.actions, lines, databases: arguments.databases });
    if arguments.trace || outcome.violation.is_some() {
        for line in &outcome.lines {
            println!("{line}");
        }
    }
    print(&outcome.tally);
    println!("seed {seed}: {} steps, trace {:016x}", outcome.steps, outcome.hash);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(Violation { checker, text }) => {
            println!("VIOLATION of {checker}: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all seeds, as many in parallel as there are cores: each is a world of its own. Returns what happened in them,
/// or the first seed that was found to fail.
fn run_all(arguments: &Arguments) -> Result<Tally, u64> {
    let end = arguments.from + arguments.seeds;
    let (next, failed) = (AtomicU64::new(arguments.from), AtomicU64::new(u64::MAX));
    let work = || {
        let mut tally = Tally::default();
        while failed.load(Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end {
                break;
            }
            let outcome = judged(Plan { seed, actions: arguments.actions, lines: 0, databases: arguments.databases });
            tally.add(&outcome.tally);
            if outcome.violation.is_some() {
                failed.fetch_min(seed, Relaxed);
            }
        }
        tally
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        total.add(&work());
        for other in others {
            total.add(&other.join().expect("what panics in a run is caught there"));
        }
    });
    match failed.into_inner() {
        u64::MAX => Ok(total),
        seed => Err(seed),
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let tally = match run_all(arguments) {
        Ok(tally) => tally,
        Err(seed) => {
            fail(seed, arguments);
            return ExitCode::FAILURE;
        }
    };
    for (seed, actions, databases) in WERE_RED {
        if judged(Plan { seed, actions, lines: 0, databases }).violation.is_some() {
            fail(seed, &Arguments { actions, databases, ..*arguments });
            return ExitCode::FAILURE;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    print(&tally);
    let (seeds, actions) = (arguments.seeds, tally.actions);
    println!("{seeds} seeds, {actions} client actions in {seconds:.1} s: {:.0} a second", actions as f64 / seconds);
    for (seed, actions) in [(1, 300), (2, 300), (3, 300)] {
        let hashes = [0, usize::MAX].map(|lines| judged(Plan { seed, actions, lines, databases: false }).hash);
        if hashes[0] != hashes[1] {
            println!("seed {seed} does not run the same way twice");
            return ExitCode::FAILURE;
        }
    }
    if !arguments.must_see_all {
        return ExitCode::SUCCESS;
    }
    let unseen: Vec<&str> =
        tally.entries().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    if !unseen.is_empty() {
        println!("never happened: {}", unseen.join("; "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Shortens the run as far as it still fails, and shows it.
fn fail(seed: u64, arguments: &Arguments) {
    let &Arguments { actions, databases, .. } = arguments;
    let fails = |actions| judged(Plan { seed, actions, lines: 0, databases }).violation.is_some();
    // A failure need not be monotonic in the number of actions, so the bisection finds a short run, not the shortest.
    let (mut passes, mut found) = (0, actions);
    while found - passes > 1 {
        let middle = passes + (found - passes) / 2;
        if fails(middle) {
            found = middle;
        } else {
            passes = middle;
        }
    }
    let outcome = judged(Plan { seed, actions: found, lines: SHOWN, databases });
    for line in &outcome.lines {
        println!("{line}");
    }
    if let Some(Violation { checker, text }) = outcome.violation {
        println!("VIOLATION of {checker}: {text}");
    }
    println!("seed {seed}, step {}, trace {:016x}; again, with all of its trace:", outcome.steps, outcome.hash);
    let databases = if databases { " --databases" } else { "" };
    println!("    cargo test -F testing --test simulation -- --seed {seed} --actions {found}{databases} --trace");
}

fn print(tally: &Tally) {
    let entries: Vec<String> =
        tally.entries().iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    println!("{}", entries.join(", "));
}
