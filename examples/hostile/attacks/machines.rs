//! Faults of the machine, with somebody who floods meanwhile.

use std::time::Duration;

use super::{Attack, Form, Length, Machine, ONE, SOUND, Shape, attack};
use crate::judge::Bounds;
use crate::load::{Leaving, Plan, Script};
use crate::wire::{get, post};

pub fn attacks() -> Vec<Attack> {
    let long = Length::Long;
    let machine = |machine| Shape { machine, ..SOUND };
    vec![
        attack("full-disk", "POSTs of 30 KB onto a disk of 8 MiB", "what was acknowledged", long, ONE, |form| {
            posts(form, 30_000)
        })
        .on(machine(Machine::Disk(8 << 20)))
        .within(Bounds { may_refuse: true, ..Bounds::STATED }),
        attack("log-unread", "refused requests while nobody reads the log", "the loop", long, ONE, |form| {
            let refused = |_, _, out: &mut Vec<u8>| get("/rooms/lobby/ws", out);
            Plan::at_once(Script::new(form.connections(), form.sources()).hello(refused).leaving(Leaving::Heard))
        })
        .on(machine(Machine::LogUnread)),
        attack("stopped", "POSTs while the server is stopped for 60 s", "honest members' places", long, ONE, |form| {
            posts(form, 100)
        })
        .on(machine(Machine::Stopped(Duration::from_secs(60))))
        .within(Bounds { pause: 61_000.0, ..Bounds::STATED }),
    ]
}

fn posts(form: Form, length: usize) -> Plan {
    let body = format!("\"{}\"", "x".repeat(length));
    let all = Script::new(form.connections(), form.sources())
        .once(move |_, _, out| (0..100).for_each(|_| post("posts", None, &body, out)))
        .leaving(Leaving::Answers(100));
    Plan::at_once(all)
}
