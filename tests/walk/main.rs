//! An exhaustive walk of the hub on a small scale: one room, two clients, a few messages, and every order in which they
//! can be sent, committed, read, answered, announced and received, with an outside sender, a commit of unknown outcome,
//! a crash, a lost connection and a shortage of memory. Random runs (src/hub/tests/properties.rs) go deeper; this walk
//! omits nothing within its bounds.
//!
//!     cargo test -F testing --test walk                 its share of `cargo test`: small bounds
//!     cargo test -F testing --test walk -- --full       its share of `tests/run`, which builds it optimised
//!     cargo test -F testing --test walk -- --long       wider bounds
//!
//! The walk is breadth-first, so the first fault that it finds has the shortest story, which is printed. A state is
//! remembered by a 64-bit hash of all of it: among ten million states, two collide with a probability of 1 in 300,000.

mod judge;
mod state;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use state::{Act, Bounds, State};

/// The bounds of a walk, by the time that there is for it.
const SMALL: &[(&str, Bounds)] = &[
    ("a sender leaves and comes back", Bounds { joins: [2, 1], sends: 1, ..Bounds::NOTHING }),
    ("an unsure commit", Bounds { joins: [1, 0], posts: 2, unsure: 1, ..Bounds::STARTS }),
    ("a slow client", Bounds { joins: [0, 1], posts: 3, scarce: 1, ..Bounds::STARTS }),
    ("a lost connection", Bounds { joins: [1, 0], sends: 1, posts: 1, drops: 1, ..Bounds::STARTS }),
    ("a crash", Bounds { joins: [2, 0], posts: 1, crashes: 1, ..Bounds::STARTS }),
];

const FULL: &[(&str, Bounds)] = &[
    ("senders leave and come back", Bounds { joins: [2, 1], sends: 2, ..Bounds::STARTS }),
    ("three messages", Bounds { joins: [1, 1], sends: 3, scarce: 1, ..Bounds::NOTHING }),
    ("an unsure commit", Bounds { joins: [1, 1], sends: 1, posts: 1, unsure: 1, ..Bounds::STARTS }),
    ("a lost connection", Bounds { joins: [1, 0], sends: 2, posts: 1, drops: 1, ..Bounds::STARTS }),
    ("a crash", Bounds { joins: [2, 0], sends: 1, posts: 1, crashes: 1, ..Bounds::STARTS }),
    ("a read that fails", Bounds { joins: [1, 1], posts: 1, failures: 1, scarce: 1, ..Bounds::STARTS }),
];

const LONG: &[(&str, Bounds)] = &[
    ("senders leave and come back", Bounds { joins: [2, 1], sends: 2, unsure: 1, ..Bounds::STARTS }),
    ("three messages", Bounds { joins: [1, 1], sends: 2, posts: 1, unsure: 1, ..Bounds::NOTHING }),
    ("lost connections", Bounds { joins: [1, 1], sends: 1, posts: 1, drops: 1, ..Bounds::NOTHING }),
    ("a crash", Bounds { joins: [2, 1], sends: 1, posts: 1, unsure: 1, crashes: 1, ..Bounds::NOTHING }),
    ("reads that fail", Bounds { joins: [1, 1], posts: 2, failures: 2, scarce: 1, ..Bounds::NOTHING }),
];

fn main() -> ExitCode {
    let mut walks = SMALL;
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--full" => walks = FULL,
            "--long" => walks = LONG,
            // Options that cargo passes to all tests.
            "--nocapture" | "--show-output" | "--quiet" | "-q" => {}
            "--test-threads" | "--skip" | "--color" | "--format" => drop(arguments.next()),
            "--list" => return ExitCode::SUCCESS,
            name if !name.starts_with('-') && "walk".contains(name) => {}
            name if !name.starts_with('-') => return ExitCode::SUCCESS,
            _ => {
                eprintln!("usage: cargo test -F testing --test walk -- [--full | --long]");
                return ExitCode::from(2);
            }
        }
    }
    let begun = Instant::now();
    let walked = all(walks);
    let Ok(states) = walked else {
        println!("test result: FAILED");
        return ExitCode::FAILURE;
    };
    println!("test result: ok. {states} states in {:.1} s", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Runs these walks, as many at a time as there are cores, and prints how each ended. Returns the number of states that
/// they saw.
///
/// # Errors
/// A walk found a fault.
fn all(walks: &[(&str, Bounds)]) -> Result<usize, ()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut states = Ok(0);
        while let Some((name, bounds)) = walks.get(next.fetch_add(1, Relaxed)) {
            states = one(name, bounds).and_then(|seen| Ok(states? + seen));
        }
        states
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others
            .into_iter()
            .try_fold(mine?, |states, other| Ok(states + other.join().expect("what panics in a walk is caught there")?))
    })
}

/// Runs a walk and prints how it ended. Returns the number of states that it saw.
///
/// # Errors
/// The walk found a fault.
fn one(name: &str, bounds: &Bounds) -> Result<usize, ()> {
    let since = Instant::now();
    match walk(bounds) {
        Ok(Walked { seen, rests, deepest }) => {
            let seconds = since.elapsed().as_secs_f64();
            println!("walk: {name}: {seen} states, {rests} at rest, {deepest} steps deep, {seconds:.1} s");
            Ok(seen)
        }
        Err(Fault { what, seen, story }) => {
            let story: String = story.iter().map(|act| format!("    {act:?}\n")).collect();
            // In one piece: another walk may print, too.
            print!("walk: {name}: after {seen} states: {what}\n{story}");
            Err(())
        }
    }
}

struct Walked {
    seen: usize,
    rests: usize,
    deepest: usize,
}

struct Fault {
    what: String,
    seen: usize,
    story: Vec<Act>,
}

/// Visits every reachable state, nearest first.
fn walk(bounds: &Bounds) -> Result<Walked, Fault> {
    let first = State::new(bounds);
    // How each state was first reached: its predecessor, and the act.
    let mut seen: HashMap<u64, (u64, Act)> = HashMap::from([(first.digest(), (0, Act::Turn))]);
    let mut here = vec![first];
    let mut walked = Walked { seen: 0, rests: 0, deepest: 0 };
    let mut acts = Vec::new();
    while !here.is_empty() {
        let mut next = Vec::new();
        for state in here {
            let from = state.digest();
            acts.clear();
            state.possible(&mut acts);
            let mut rests = true;
            for &act in &acts {
                let mut after = state.clone();
                // The failure may be a panic of the hub's own checks.
                let done = catch_unwind(AssertUnwindSafe(|| after.step(act)));
                let done = done.unwrap_or_else(|_| Err("a panic, see above".to_owned()));
                let digest = after.digest();
                // The clients' own acts may be postponed forever.
                rests &= act.is_free() || digest == from;
                let is_new = match seen.entry(digest) {
                    Entry::Occupied(_) => false,
                    Entry::Vacant(place) => {
                        place.insert((from, act));
                        true
                    }
                };
                if let Err(what) = done {
                    return Err(Fault { what, seen: seen.len(), story: story(&seen, from, act) });
                }
                if is_new {
                    next.push(after);
                }
            }
            if rests {
                walked.rests += 1;
                if let Err(what) = state.at_rest() {
                    return Err(Fault { what, seen: seen.len(), story: story(&seen, from, Act::Turn) });
                }
            }
        }
        walked.deepest += 1;
        here = next;
    }
    walked.seen = seen.len();
    Ok(walked)
}

/// Returns the acts that led to a state, and the last one.
fn story(seen: &HashMap<u64, (u64, Act)>, mut state: u64, last: Act) -> Vec<Act> {
    let mut story = vec![last];
    while let Some(&(from, act)) = seen.get(&state).filter(|(from, _)| *from != 0) {
        story.push(act);
        state = from;
    }
    story.reverse();
    story
}
