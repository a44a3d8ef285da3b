//! What the attacks that do not depend on racerd's protocol say to other servers.

use std::time::Duration;

use super::{Form, Plan};
use crate::load::{Leaving, Reading, Ready, Script};
use crate::peer::Peer;
use crate::wire::{PING, PONG, TEXT, frame, get, piece};

/// Returns the plan of this attack on another server; `None` where it does not apply.
pub fn plan(name: &str, form: Form, peer: Peer) -> Option<Plan> {
    let connections = || Script::new(form.connections(), form.sources());
    let many = |opcode: u8| {
        let frames = move |_, _, out: &mut Vec<u8>| (0..500).for_each(|_| frame(opcode, b"", out));
        Some(Plan::held(sockets(connections(), peer, "flood").endlessly(frames)))
    };
    let said = |room: &'static str, length: usize| {
        let text = "x".repeat(length);
        move |number, call, out: &mut Vec<u8>| out.extend(peer.publish(room, number * 1_000_000 + call, &text))
    };
    let crowd = |reading, rate: u32, length| {
        let members = sockets(Script::new(9000, form.sources()), peer, "crowd").reading(reading);
        let speaker = sockets(Script::new(1, form.sources()), peer, "crowd");
        let speaker = speaker.every(Duration::from_secs(1) / rate, said("crowd", length));
        Some(Plan { before: vec![members], ready: Ready::Open, attack: vec![speaker] })
    };
    match name {
        "pipelined-get" => {
            let gets = |_, _, out: &mut Vec<u8>| (0..200).for_each(|_| get("/x", out));
            Some(Plan::at_once(connections().endlessly(gets)))
        }
        "ping-flood" => many(PING),
        "pong-flood" => many(PONG),
        "fragments" => {
            let empty = |_, call: u64, out: &mut Vec<u8>| {
                piece(if call == 0 { TEXT } else { 0 }, b"", out);
                (0..500).for_each(|_| piece(0, b"", out));
            };
            Some(Plan::held(sockets(connections(), peer, "flood").endlessly(empty)))
        }
        "silence" | "slow-heads" | "resets" | "resets-in-head" => super::named(name).map(|attack| (attack.plan)(form)),
        "resets-upgraded" => Some(Plan::at_once(sockets(connections(), peer, "resets").leaving(Leaving::Heard))),
        "room-flood" => {
            let members = sockets(connections(), peer, "flood");
            Some(Plan::held(members.every(Duration::from_millis(50), said("flood", 100))))
        }
        "slow-room" => crowd(Reading::Nothing, 20, 32_000),
        "signal-room" => crowd(Reading::All, 20, 100),
        "send-room" => crowd(Reading::All, 2, 32_000),
        "nofile-128" => {
            let hello = move |number: u64, _, out: &mut Vec<u8>| {
                if number.is_multiple_of(2) {
                    out.extend(peer.upgrade("idle"));
                }
            };
            Some(Plan::at_once(Script::new(256, form.sources()).hello(hello)))
        }
        _ => None,
    }
}

/// Makes them sockets in a room of this server.
fn sockets(script: Script, peer: Peer, room: &'static str) -> Script {
    let process = std::process::id();
    script
        .sockets("/")
        .hello(move |_, _, out| out.extend(peer.upgrade(room)))
        .greeting(move |number, _, out| out.extend(peer.greeting(room, &format!("a{process}-{room}-{number}"))))
}
