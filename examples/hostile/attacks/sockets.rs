//! Attacks by WebSockets on the server as a whole: frames, handshakes, places.

use super::{Attack, BOTH, Form, Length, Machine, ONE, SOUND, Shape, attack};
use crate::load::{Leaving, Plan, Script};
use crate::wire::{self, PING, PONG, TEXT, ask, frame, piece};

pub fn attacks() -> Vec<Attack> {
    use Length::{Long, Short};
    let time = "the loop's time: control frames cost, too";
    let few = Shape { arguments: &["--max-connections", "64"], idle: 2, ..SOUND };
    let fewer = Shape { machine: Machine::Files(128), idle: 2, ..SOUND };
    vec![
        attack("ping-flood", "pings, as many as fit", time, Short, BOTH, |form| frames(form, PING)),
        attack("pong-flood", "pongs that nobody asked for, as many as fit", time, Long, BOTH, |form| {
            frames(form, PONG)
        }),
        attack(
            "many-64s",
            "handshakes from 240 /64s of one site, or from 60 sites, each within its own rate",
            "places in the queue of handshakes; resumes come before newcomers",
            Short,
            BOTH,
            handshakes,
        ),
        attack(
            "places",
            "holds all it can get of 64 connections",
            "places: an address may not have nearly all",
            Short,
            BOTH,
            |form| Plan::at_once(idle(form)),
        )
        .on(few),
        attack(
            "nofile-128",
            "holds all it can get where the limit of open files is 128",
            "places, where the system has few",
            Short,
            ONE,
            |form| Plan::at_once(idle(form)),
        )
        .on(fewer),
        attack("fragments", "messages of ever more empty fragments", "the loop's time", Long, BOTH, |form| {
            flood(form, |call, out| {
                piece(if call == 0 { TEXT } else { 0 }, b"", out);
                (0..500).for_each(|_| piece(0, b"", out));
            })
        }),
        attack("one-byte", "pings, one byte a segment", "the loop's time: a read has a cost", Long, BOTH, |form| {
            let mut ping = Vec::new();
            frame(PING, b"", &mut ping);
            flood(form, move |call, out| out.push(ping[call as usize % ping.len()]))
        }),
        attack(
            "declared-frames",
            "a frame of 32 KB of which 1 KB comes",
            "memory of partial messages",
            Long,
            BOTH,
            |form| {
                let declared = |_, _, out: &mut Vec<u8>| {
                    let mut whole = Vec::new();
                    frame(TEXT, &[b' '; 32_000], &mut whole);
                    out.extend(&whole[..1024]);
                };
                Plan::held(Script::new(form.connections(), form.sources()).sockets("/ws?name=flood").once(declared))
            },
        ),
        attack(
            "faulty",
            "frames that are no JSON",
            "the log and the loop's time: the error budget",
            Long,
            BOTH,
            |form| flood(form, |_, out| (0..100).for_each(|_| ask("nonsense", out))),
        ),
        attack(
            "false-tokens",
            "resumes of sessions that never were",
            "the loop's and the store's time",
            Long,
            BOTH,
            |form| {
                flood(form, |_, out| {
                    let token = "A".repeat(107);
                    ask(&format!(r#"{{"type":"resume","id":1,"session":"{token}"}}"#), out);
                })
            },
        ),
    ]
}

/// Sockets that go on saying something, all from the same moment on.
fn flood(form: Form, mut make: impl FnMut(u64, &mut Vec<u8>) + 'static) -> Plan {
    let sockets = Script::new(form.connections(), form.sources()).sockets("/ws?name=flood");
    Plan::held(sockets.endlessly(move |_, call, out| make(call, out)))
}

fn frames(form: Form, opcode: u8) -> Plan {
    flood(form, move |_, out| (0..500).for_each(|_| frame(opcode, b"", out)))
}

fn handshakes(form: Form) -> Plan {
    let sources = match form {
        Form::One => (0..wire::SITE).map(wire::of_one_site).collect(),
        Form::Sixty => form.sources(),
    };
    let addresses = sources.len() as f64;
    Plan::at_once(
        Script::new(4000, sources)
            .sockets("/ws?name=x")
            .leaving(Leaving::Heard)
            .rate(20.0 * addresses, 40.0 * addresses),
    )
}

/// Connections that keep their places: half are WebSockets, half have asked nothing yet.
fn idle(form: Form) -> Script {
    Script::new(256, form.sources()).hello(|number, _, out| {
        if number % 2 == 0 {
            out.extend(wire::upgrade("/ws?name=idle", None));
        }
    })
}
