//! Judges what was measured: pure, so that a planted unfairness can be shown to it.
//!
//! Counts are judged always: losses, refusals, honest handshakes that got through, turns of the server's loop until an
//! honest request was answered (the loop's own time where it does not count them), bytes held, bytes and lines logged.
//! Times depend on the machine; the long form judges them, too.

/// The spread of a set of figures.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(mut figures: Vec<f64>) -> Spread {
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (figures.len() as f64 * part).ceil() as usize;
            figures.get(index.saturating_sub(1)).copied().unwrap_or_default()
        };
        Spread { count: figures.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// How many tried, and how many of them succeeded in time.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Share {
    pub tried: usize,
    pub done: usize,
}

/// Measurements of honest clients in one phase. Times are in milliseconds.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Seen {
    pub ping: Spread,
    pub delivery: Spread,
    /// Time of the server's loop on a processor, from an honest request to its answer.
    pub work: Spread,
    /// Turns of the server's loop from an honest request to its answer, where the server counts them.
    pub turns: Spread,
    /// Of newcomers who got in.
    pub handshake: Spread,
    pub newcomers: Share,
    pub resumes: Share,
    pub reads: Share,
    /// Members that wait for the loop: none of these may be sent away.
    pub dropped: u64,
}

/// Counts of what became of the messages that honest members sent.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Fate {
    pub sent: u64,
    /// Acknowledged, and not heard by somebody.
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
    /// Neither acknowledged nor refused.
    pub unanswered: u64,
    pub refused: u64,
}

/// Everything that was measured of one attack.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    pub quiet: Seen,
    pub during: Seen,
    pub fate: Fate,
    /// Why handshakes, resumes and reads during the attack did not succeed.
    pub failed: Vec<String>,
    /// Part of one processor that the server took during the attack.
    pub cpu: f64,
    /// Mean time on a processor of one turn of the loop, where turns could be counted.
    pub turn: Option<f64>,
    /// The most reads and writes of one turn, where the server counts them.
    pub most_work: u64,
    /// The most memory of the process, and the most that the kernel held for its sockets, in bytes.
    pub memory: u64,
    pub kernel: u64,
    /// Bytes and lines of log a second.
    pub log: f64,
    pub lines: f64,
    /// Messages in the honest members' room before and after.
    pub history: (u64, u64),
    /// Requests that the attacker got done, from how many addresses, and in how many seconds.
    pub done: f64,
    pub addresses: usize,
    pub lasted: f64,
    /// How the server ended, if it did.
    pub ended: Option<String>,
}

/// The limits of what an attack may cost others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The most that the process may hold, and the kernel for its sockets as much again: the server is told so.
    pub memory: u64,
    /// The disk itself is slow: deliveries may be, too.
    pub delivery_is_slow: bool,
    /// The store cannot take messages, which may be refused but not lost.
    pub may_refuse: bool,
    /// The server itself stands still for so many milliseconds.
    pub pause: f64,
    /// The most requests that each address of the attacker may get done, if addresses have shares of them.
    pub done: Option<Allowance>,
}

/// Requests that an address may get done: so many at once, and so many a second from the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    pub at_once: f64,
    pub a_second: f64,
}

impl Bounds {
    /// The bounds that hold where nothing else is said.
    pub const STATED: Bounds =
        Bounds { memory: 256 << 20, delivery_is_slow: false, may_refuse: false, pause: 0.0, done: None };
}

/// Milliseconds of the loop's time until an honest request is answered: the rest of one turn, and the next. The
/// system tells a running thread's time with the grain of its clock, 4 ms at each end.
pub const WORK: f64 = 20.0 + 8.0;
/// Turns until half of all honest requests are answered: see [`turns_until_answered`]. An observer may look at the
/// counts late, and the loop goes on turning meanwhile. The simulator, where nobody is late, judges each request.
pub const TURNS: f64 = turns_until_answered(75, 560, 8) as f64;
/// Milliseconds above what was seen before.
pub const PING_P50: f64 = 5.0;
pub const PING_P99: f64 = 50.0;
pub const DELIVERY_P99: f64 = 100.0;
/// Milliseconds of one turn.
pub const TURN: f64 = 10.0;
/// Parts of honest handshakes, resumes and reads that succeed.
pub const DONE: f64 = 0.95;
/// Bytes of log a second.
pub const LOG: f64 = 100_000.0;

/// The figures that are compared with the bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    Counts,
    CountsAndTimes,
}

/// Returns the turns within which an honest request is answered, as the simulator's judge derives them
/// (`tests/simulation/fairness.rs`): addresses take turns to be read, and each connection is written to once before any
/// is again. A part of a turn, of 2 ms, reads or writes `part` of them at least, on the slowest machine and with the
/// slowest build. There are 60 strange addresses and 15 honest ones, and 8 connections of each strange one.
const fn turns_until_answered(addresses: u32, connections: u32, part: u32) -> u32 {
    (2 * addresses).div_ceil(part) + connections.div_ceil(part)
}

/// Returns what was not kept, in words; empty if the server was fair.
pub fn judge(figures: &Figures, bounds: &Bounds, judged: Judged) -> Vec<String> {
    let mut faults = counts(figures, bounds);
    if judged == Judged::CountsAndTimes {
        faults.extend(times(figures, bounds));
    }
    faults
}

fn counts(figures: &Figures, bounds: &Bounds) -> Vec<String> {
    let Figures { during, fate, .. } = figures;
    let mut faults = Vec::new();
    let mut none = |count: u64, what: &str| {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    };
    none(fate.lost, "lost");
    none(fate.doubled, "doubled");
    none(fate.reordered, "out of order");
    none(fate.unanswered, "sends unanswered");
    none(if bounds.may_refuse { 0 } else { fate.refused }, "sends refused");
    none(during.dropped, "honest members dropped");
    if let Some(how) = &figures.ended {
        faults.push(format!("server ended: {how}"));
    }
    for (share, what) in [(during.newcomers, "handshakes"), (during.resumes, "resumes"), (during.reads, "reads")] {
        // A stopped server can let nobody in, but it has to keep those who were in.
        if bounds.pause == 0.0 && (share.done as f64) < DONE * share.tried as f64 {
            faults.push(format!("{} of {} {what}", share.done, share.tried));
        }
    }
    // A stopped server says nothing about its loop.
    let is_counted = during.turns.count > 0;
    if bounds.pause == 0.0 && !is_counted && during.work.p99 > WORK {
        faults.push(format!("{:.0} ms of work until answered", during.work.p99));
    }
    if bounds.pause == 0.0 && during.turns.p50 > TURNS {
        faults.push(format!("{} turns until answered", during.turns.p50));
    }
    for (held, what) in [(figures.memory, "memory"), (figures.kernel, "kernel's memory")] {
        if held > bounds.memory {
            faults.push(format!("{what} {} MiB", held >> 20));
        }
    }
    if figures.log > LOG {
        faults.push(format!("log {:.0} KB/s", figures.log / 1000.0));
    }
    let most = |allowed: Allowance| figures.addresses as f64 * (allowed.at_once + allowed.a_second * figures.lasted);
    if let Some(most) = bounds.done.map(most).filter(|most| figures.done > *most) {
        faults.push(format!("{:.0} of {most:.0} done for the attacker", figures.done));
    }
    if figures.history.1 < figures.history.0 {
        faults.push(format!("history {} to {}", figures.history.0, figures.history.1));
    }
    faults
}

fn times(figures: &Figures, bounds: &Bounds) -> Vec<String> {
    let Figures { quiet, during, .. } = figures;
    let mut faults = Vec::new();
    let mut above = |before: f64, after: f64, most: f64, what: &str| {
        if after - before > most {
            faults.push(format!("{what} {before:.1} to {after:.1} ms"));
        }
    };
    above(quiet.ping.p50, during.ping.p50, PING_P50 + bounds.pause, "ping p50");
    above(quiet.ping.p99, during.ping.p99, PING_P99 + bounds.pause, "ping p99");
    if !bounds.delivery_is_slow {
        above(quiet.delivery.p99, during.delivery.p99, DELIVERY_P99 + bounds.pause, "delivery p99");
    }
    above(0.0, figures.turn.unwrap_or_default(), TURN, "turn");
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that was fair.
    fn fair() -> Figures {
        let all = Share { tried: 20, done: 20 };
        let spread = Spread { count: 100, p50: 0.3, p99: 2.0, max: 3.0 };
        let seen = Seen {
            ping: spread,
            delivery: spread,
            work: spread,
            turns: spread,
            handshake: spread,
            newcomers: all,
            resumes: all,
            reads: all,
            dropped: 0,
        };
        Figures {
            quiet: seen,
            during: seen,
            history: (500, 500),
            memory: 20 << 20,
            turn: Some(1.0),
            ..Figures::default()
        }
    }

    #[track_caller]
    fn seen(plant: impl FnOnce(&mut Figures), judged: Judged, fault: &str) {
        let mut figures = fair();
        plant(&mut figures);
        assert_eq!(judge(&figures, &Bounds::STATED, judged), [fault]);
    }

    #[test]
    fn a_fair_server_passes() {
        assert_eq!(judge(&fair(), &Bounds::STATED, Judged::CountsAndTimes), Vec::<String>::new());
    }

    #[test]
    fn each_planted_unfairness_is_seen_by_its_count() {
        let counts = Judged::Counts;
        seen(|f| f.fate.lost = 1, counts, "1 lost");
        seen(|f| f.fate.doubled = 2, counts, "2 doubled");
        seen(|f| f.fate.reordered = 1, counts, "1 out of order");
        seen(|f| f.fate.unanswered = 1, counts, "1 sends unanswered");
        seen(|f| f.fate.refused = 1, counts, "1 sends refused");
        seen(|f| f.during.dropped = 1, counts, "1 honest members dropped");
        seen(|f| f.ended = Some("signal 9".into()), counts, "server ended: signal 9");
        seen(|f| f.during.newcomers.done = 18, counts, "18 of 20 handshakes");
        seen(|f| f.during.resumes.done = 0, counts, "0 of 20 resumes");
        seen(|f| f.during.reads.done = 18, counts, "18 of 20 reads");
        seen(|f| (f.during.turns.count, f.during.work.p99) = (0, 1019.0), counts, "1019 ms of work until answered");
        seen(|f| f.during.turns.p50 = 256.0, counts, "256 turns until answered");
        seen(|f| f.memory = 703 << 20, counts, "memory 703 MiB");
        seen(|f| f.kernel = 308 << 20, counts, "kernel's memory 308 MiB");
        seen(|f| f.log = 16e6, counts, "log 16000 KB/s");
        seen(|f| f.history.1 = 4, counts, "history 500 to 4");
    }

    #[test]
    fn what_the_attacker_got_done_is_judged_where_it_is_shared_out() {
        let figures = Figures { done: 301.0, addresses: 2, lasted: 10.0, ..fair() };
        let bounds = Bounds { done: Some(Allowance { at_once: 100.0, a_second: 5.0 }), ..Bounds::STATED };
        assert_eq!(judge(&figures, &bounds, Judged::Counts), ["301 of 300 done for the attacker"]);
        assert_eq!(judge(&Figures { done: 300.0, ..figures.clone() }, &bounds, Judged::Counts), Vec::<String>::new());
        assert_eq!(judge(&figures, &Bounds::STATED, Judged::Counts), Vec::<String>::new());
    }

    #[test]
    fn times_are_judged_in_the_long_form_alone() {
        let slow = |f: &mut Figures| f.during.ping.p50 = 2105.0;
        seen(slow, Judged::CountsAndTimes, "ping p50 0.3 to 2105.0 ms");
        seen(|f| f.during.ping.p99 = 60.0, Judged::CountsAndTimes, "ping p99 2.0 to 60.0 ms");
        seen(|f| f.during.delivery.p99 = 4768.0, Judged::CountsAndTimes, "delivery p99 2.0 to 4768.0 ms");
        seen(|f| f.turn = Some(65.0), Judged::CountsAndTimes, "turn 0.0 to 65.0 ms");
        let mut figures = fair();
        slow(&mut figures);
        assert_eq!(judge(&figures, &Bounds::STATED, Judged::Counts), Vec::<String>::new());
    }

    #[test]
    fn what_is_at_its_bound_is_kept() {
        let mut figures = fair();
        figures.during.newcomers.done = 19;
        figures.during.work.p99 = WORK;
        figures.during.turns.p50 = TURNS;
        figures.log = LOG;
        figures.memory = Bounds::STATED.memory;
        figures.during.ping.p50 = figures.quiet.ping.p50 + PING_P50;
        assert_eq!(judge(&figures, &Bounds::STATED, Judged::CountsAndTimes), Vec::<String>::new());
    }

    #[test]
    fn a_slow_disk_and_a_stop_excuse_only_what_they_cause() {
        let mut figures = fair();
        figures.during.delivery.p99 = 3000.0;
        figures.fate.refused = 1;
        let slow = Bounds { delivery_is_slow: true, may_refuse: true, ..Bounds::STATED };
        assert_eq!(judge(&figures, &slow, Judged::CountsAndTimes), Vec::<String>::new());
        figures.during.ping.p99 = 70.0;
        figures.fate.lost = 1;
        assert_eq!(judge(&figures, &slow, Judged::CountsAndTimes), ["1 lost", "ping p99 2.0 to 70.0 ms"]);
    }

    #[test]
    fn a_spread_takes_the_nearest_rank() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 100, p50: 50.0, p99: 99.0, max: 100.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { count: 1, p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }
}
