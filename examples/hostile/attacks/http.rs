//! Attacks by plain HTTP requests.

use std::time::Duration;

use super::{Attack, BOTH, Form, Length, Machine, SOUND, Shape, attack};
use crate::judge::{Allowance, Bounds};
use crate::load::{Leaving, Plan, Ready, Script};
use crate::wire::{get, post};

/// As many requests as a new connection may make before it is slowed down.
const BURST: u64 = 100;
/// The rooms that an address may make, by the default of `room-rate-per-address`.
const ROOMS: Allowance = Allowance { at_once: 100.0, a_second: 5.0 };
const SECOND: Duration = Duration::from_secs(1);

pub fn attacks() -> Vec<Attack> {
    [reads(), writes()].concat()
}

/// Attacks that leave nothing behind.
fn reads() -> Vec<Attack> {
    use Length::{Long, Short};
    vec![
        attack(
            "pipelined-get",
            "GETs of what is not there, as many as fit, on connections that stay",
            "the loop's time: HTTP takes from the rates, too",
            Short,
            BOTH,
            |form| pipelined(form, "/x"),
        ),
        attack(
            "log-lines",
            "refused upgrades and requests, each of another kind, on connections that come and go",
            "the log: a line costs, and each kind has its own rate",
            Short,
            BOTH,
            log_lines,
        ),
        attack(
            "page",
            "GETs of the web page, as many as fit",
            "the loop's time, and that the page comes",
            Long,
            BOTH,
            |form| pipelined(form, "/"),
        ),
        attack(
            "health",
            "GETs of /healthz, as many as fit",
            "health for those who ask it honestly",
            Long,
            BOTH,
            |form| pipelined(form, "/healthz"),
        ),
        attack(
            "history-scan",
            "pages of history, by GET on ever new connections",
            "the store's readers",
            Long,
            BOTH,
            |form| {
                Plan::at_once(batches(form, |_, out| {
                    (0..BURST).for_each(|_| get("/rooms/lobby/messages?limit=200", out))
                }))
            },
        ),
        attack(
            "event-streams",
            "opens event streams and follows them",
            "places, and the store's readers",
            Long,
            BOTH,
            |form| {
                let stream = |_, _, out: &mut Vec<u8>| get("/rooms/lobby/events?last=200", out);
                Plan::at_once(
                    Script::new(form.connections(), form.sources()).hello(stream).leaving(Leaving::After(SECOND)),
                )
            },
        ),
    ]
}

/// Attacks by what is stored.
fn writes() -> Vec<Attack> {
    use Length::{Long, Short};
    let bounded = Shape { arguments: &["--max-database-size", "16MiB", "--keep-messages", "100000"], ..SOUND };
    let slow =
        Shape { arguments: &["--pong-wait", "4s", "--ping-period", "1s"], machine: Machine::SlowDisk(SECOND), ..SOUND };
    vec![
        attack(
            "common-keys",
            "POSTs with ever new keys into one room that has 100,000 of them",
            "the store's time: evicting a key costs the same, however many there are",
            Long,
            BOTH,
            common_keys,
        ),
        attack(
            "new-rooms",
            "POSTs into ever new rooms",
            "room ids, rows and the store's time: making rooms has a rate",
            Short,
            BOTH,
            |form| Plan::at_once(new_rooms(form, 1)),
        )
        .within(Bounds { done: Some(ROOMS), ..Bounds::STATED }),
        attack(
            "big-new-rooms",
            "POSTs of 30 KB into ever new rooms, at a bound of 16 MiB for the database",
            "the history of other rooms",
            Short,
            BOTH,
            |form| Plan::at_once(new_rooms(form, 30_000)),
        )
        .on(bounded),
        attack(
            "slow-disk",
            "POSTs of 30 KB while each sync of the disk takes 1 s",
            "sockets: only who waits for the store waits",
            Short,
            BOTH,
            |form| Plan::at_once(new_rooms(form, 30_000)),
        )
        .on(slow)
        .within(Bounds { delivery_is_slow: true, ..Bounds::STATED }),
    ]
}

fn common_keys(form: Form) -> Plan {
    let keyed = |form: Form, from: u64| {
        batches(form, move |number, out| {
            for index in 0..BURST {
                post("keys", Some(&format!("{from:04}-{number:012}-{index:012}")), "1", out);
            }
        })
    };
    let mut first = keyed(Form::Sixty, 0);
    first.connections = 16;
    Plan { before: vec![first], ready: Ready::Done(100_000), attack: vec![keyed(form, 1)] }
}

/// Connections that make as many requests as they may at once, and then give way to new ones.
fn batches(form: Form, mut make: impl FnMut(u64, &mut Vec<u8>) + 'static) -> Script {
    Script::new(form.connections(), form.sources())
        .once(move |number, _, out| make(number, out))
        .leaving(Leaving::Answers(BURST))
}

/// As many GETs of one path as fit.
fn pipelined(form: Form, path: &'static str) -> Plan {
    let many = move |_, _, out: &mut Vec<u8>| (0..200).for_each(|_| get(path, out));
    Plan::at_once(Script::new(form.connections(), form.sources()).endlessly(many))
}

fn new_rooms(form: Form, length: usize) -> Script {
    let body = format!("\"{}\"", "x".repeat(length));
    batches(form, move |number, out| {
        for index in 0..BURST {
            post(&format!("new-{number}-{index}"), None, &body, out);
        }
    })
}

fn log_lines(form: Form) -> Plan {
    let lines = Script::new(form.connections(), form.sources())
        .hello(|number, _, out| match number % 4 {
            0 => get("/rooms/lobby/ws", out),
            1 => out.extend(b"GARBAGE\r\n\r\n"),
            2 => out.extend(format!("GET /{} HTTP/1.1\r\nHost: other.example\r\n\r\n", "y".repeat(3000)).as_bytes()),
            _ => get("/rooms/lobby/ws?name=%20", out),
        })
        .leaving(Leaving::Heard);
    Plan::at_once(lines)
}
