//! Attacks by members of rooms.

use std::time::Duration;

use super::{Attack, BOTH, Form, Length, Machine, ONE, SIXTY, SOUND, Shape, attack};
use crate::judge::Bounds;
use crate::load::{Plan, Reading, Ready, Script};
use crate::wire::ask;

/// How many members a large room has.
const LARGE: usize = 9000;
const MIB: u64 = 1 << 20;

pub fn attacks() -> Vec<Attack> {
    [crowds(), floods()].concat()
}

/// Attacks in large rooms, and by what nobody reads.
fn crowds() -> Vec<Attack> {
    use Length::{Long, Short};
    let small = Shape { machine: Machine::Memory(64 * MIB), ..SOUND };
    vec![
        attack(
            "members-unread",
            "asks for members and reads nothing, in 64 MiB of memory",
            "memory: one budget over all that waits",
            Short,
            ONE,
            members_unread,
        )
        .on(small)
        .within(Bounds { memory: 32 * MIB, ..Bounds::STATED }),
        attack(
            "slow-room",
            "sends 32 KB messages into a room of 9,000 who read nothing",
            "memory: queues fall back to the log",
            Long,
            SIXTY,
            |form| crowd(form, Reading::Nothing, 20, |n, out| send("crowd", n, 32_000, out)),
        ),
        attack(
            "signal-room",
            "one signal of 100 bytes 20 times a second into a room of 9,000",
            "the loop's time: fan-out goes on in pieces",
            Long,
            SIXTY,
            |form| crowd(form, Reading::All, 20, |_, out| signal("crowd", 100, out)),
        ),
        attack(
            "send-room",
            "one message of 32 KB twice a second into a room of 9,000",
            "the loop's time: flushing goes on in pieces",
            Long,
            SIXTY,
            |form| crowd(form, Reading::All, 2, |n, out| send("crowd", n, 32_000, out)),
        ),
        attack(
            "members-large",
            "asks for the members of a room of 9,000, 20 times a second",
            "the loop's time: a page costs what it has",
            Long,
            SIXTY,
            |form| crowd(form, Reading::All, 20, |_, out| ask(r#"{"type":"members","room":"crowd"}"#, out)),
        ),
    ]
}

/// Attacks by members who all do the same, as fast as they may.
fn floods() -> Vec<Attack> {
    use Length::{Long, Short};
    vec![
        attack(
            "room-flood",
            "all send into one room, as fast as they may",
            "other rooms' deliveries",
            Short,
            BOTH,
            |form| members(form, |number, call, out| send("flood", number * 1_000_000 + call, 100, out)),
        ),
        attack(
            "signal-flood",
            "all signal in one room, as fast as they may",
            "other rooms' deliveries",
            Long,
            BOTH,
            |form| members(form, |_, _, out| signal("flood", 100, out)),
        ),
        attack(
            "join-leave",
            "all join and leave one room, as fast as they may",
            "the loop's time",
            Long,
            BOTH,
            |form| members(form, |_, call, out| comes_and_goes(call, out)),
        ),
        attack(
            "presence-storm",
            "80 members of whom each joins and leaves a room of 80",
            "the loop's time",
            Long,
            ONE,
            |form| {
                let mut plan = members(form, |_, call, out| comes_and_goes(call, out));
                plan.before.iter_mut().for_each(|script| script.connections = 80);
                plan
            },
        ),
        attack(
            "slow-readers",
            "members who take 100 bytes a second",
            "memory, and a minimum rate",
            Long,
            BOTH,
            |form| {
                let mut plan = members(form, |number, call, out| send("flood", number * 1_000_000 + call, 1000, out));
                plan.before.iter_mut().for_each(|script| script.reading = Reading::Slowly(100));
                plan
            },
        ),
        attack(
            "history-unread",
            "asks for pages of history and reads nothing",
            "memory of replies",
            Long,
            BOTH,
            |form| {
                let path = "/rooms/lobby/ws?name=h&presence=off";
                let page =
                    |_, _, out: &mut Vec<u8>| (0..110).for_each(|_| ask(r#"{"type":"history","limit":200}"#, out));
                let sockets = Script::new(form.connections(), form.sources()).sockets(path).once(page);
                Plan::held(sockets.reading(Reading::Nothing))
            },
        ),
    ]
}

/// Members of one room who say something 20 times a second each, which is as often as they may.
fn members(form: Form, mut say: impl FnMut(u64, u64, &mut Vec<u8>) + 'static) -> Plan {
    let sockets = Script::new(form.connections(), form.sources()).sockets("/rooms/flood/ws?name=m");
    Plan::held(sockets.every(Duration::from_millis(50), move |number, call, out| say(number, call, out)))
}

fn comes_and_goes(call: u64, out: &mut Vec<u8>) {
    let what = if call.is_multiple_of(2) { "leave" } else { "join" };
    ask(&format!(r#"{{"type":"{what}","room":"flood"}}"#), out);
}

fn members_unread(form: Form) -> Plan {
    let flood = Script::new(form.connections(), form.sources())
        .sockets("/rooms/crowd/ws?name=a-name-as-long-as-it-may-get&presence=off")
        .once(|_, _, out| (0..110).for_each(|_| ask(r#"{"type":"members","room":"crowd"}"#, out)))
        .reading(Reading::Nothing);
    Plan::held(flood)
}

/// A large room, in which one member says something so many times a second.
fn crowd(form: Form, reading: Reading, rate: u32, say: fn(u64, &mut Vec<u8>)) -> Plan {
    let members = Script::new(LARGE, form.sources()).sockets("/rooms/crowd/ws?name=m&presence=off").reading(reading);
    let speaker = Script::new(1, form.sources())
        .sockets("/rooms/crowd/ws?name=speaker&presence=off")
        .every(Duration::from_secs(1) / rate, move |_, call, out| say(call, out));
    Plan { before: vec![members], ready: Ready::Open, attack: vec![speaker] }
}

fn send(room: &str, number: u64, length: usize, out: &mut Vec<u8>) {
    let body = "x".repeat(length);
    ask(&format!(r#"{{"type":"send","id":{number},"room":"{room}","key":"crowd-{number}","body":"{body}"}}"#), out);
}

fn signal(room: &str, length: usize, out: &mut Vec<u8>) {
    ask(&format!(r#"{{"type":"signal","room":"{room}","body":"{}"}}"#, "x".repeat(length)), out);
}
