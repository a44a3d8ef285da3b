//! Attacks by connections that are slow, silent, cut short or half open, before there is anything to say.

use std::time::Duration;

use super::{Attack, BOTH, Certificate, Form, Length, ONE, SOUND, Shape, attack};
use crate::load::{Leaving, Plan, Script};
use crate::wire;

pub fn attacks() -> Vec<Attack> {
    let long = Length::Long;
    let slow = |name, does, plan| attack(name, does, "connections' places and deadlines", long, BOTH, plan);
    let tls = |attack: Attack| attack.on(Shape { tls: Some(Certificate::P256), ..SOUND });
    let sealed = |attack: Attack| attack.on(Shape { is_sealed: true, ..SOUND });
    vec![
        slow("silence", "connects and says nothing", |form| {
            Plan::at_once(Script::new(form.connections(), form.sources()))
        }),
        slow("slow-heads", "a head of a request, one byte each 100 ms", |form| {
            drip(form, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        }),
        slow("slow-bodies", "a POST whose body comes one byte each 100 ms", |form| {
            drip(
                form,
                b"POST /rooms/slow/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                         Content-Length: 30000\r\n\r\n\"",
            )
        }),
        slow("declared-bodies", "a POST that declares 32 KB and brings 1 KB", |form| {
            Plan::at_once(Script::new(form.connections(), form.sources()).hello(|_, _, out| {
                out.extend(b"POST /rooms/slow/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
                out.extend(b"Content-Length: 32768\r\n\r\n\"");
                out.extend([b'x'; 1024]);
            }))
        }),
        attack("resets", "connects and resets, as fast as it goes", "accepting", long, BOTH, |form| {
            Plan::at_once(Script::new(form.connections(), form.sources()).leaving(Leaving::Connected))
        }),
        attack("resets-in-head", "resets in the middle of a head", "accepting, and the log", long, BOTH, |form| {
            let half = |_, _, out: &mut Vec<u8>| out.extend(b"GET /rooms/lobby/ws HTTP/1.1\r\nHost: ");
            Plan::at_once(Script::new(form.connections(), form.sources()).hello(half).leaving(Leaving::Connected))
        }),
        attack(
            "resets-upgraded",
            "joins and resets",
            "sessions that are waited for, and the log",
            long,
            BOTH,
            |form| {
                let sockets = Script::new(form.connections(), form.sources()).sockets("/rooms/resets/ws?name=reset");
                Plan::at_once(sockets.leaving(Leaving::Heard))
            },
        ),
        tls(slow("half-open-tls", "half a ClientHello, and then nothing", |form| {
            let half = super::tls::client_hello();
            let hello = move |_, _, out: &mut Vec<u8>| out.extend(&half[..half.len() / 2]);
            let connections = Script::new(form.connections(), form.sources()).hello(hello);
            Plan::at_once(connections.target(wire::server(wire::TLS_PORT)))
        })),
        sealed(slow("half-open-sealed", "an upgrade to a sealed socket, and then nothing", |form| {
            let upgrade = |_, _, out: &mut Vec<u8>| out.extend(wire::upgrade("/ws", Some("racerd.v1.sealed")));
            Plan::at_once(Script::new(form.connections(), form.sources()).sockets("/ws").hello(upgrade))
        })),
        sealed(attack(
            "sealed-replays",
            "a first message of a sealed handshake, again and again",
            "the loop's time: a handshake costs before its keys are computed",
            long,
            ONE,
            |form| {
                let upgrade = |_, _, out: &mut Vec<u8>| out.extend(wire::upgrade("/ws", Some("racerd.v1.sealed")));
                // 32 bytes that are a point of the curve, and no proof of anything behind them.
                let first = |_, _, out: &mut Vec<u8>| wire::frame(2, &[[9; 32].as_slice(), &[0; 16]].concat(), out);
                let sockets = Script::new(form.connections(), form.sources()).sockets("/ws").hello(upgrade).once(first);
                Plan::at_once(sockets.leaving(Leaving::Upgraded))
            },
        )),
    ]
}

/// Connections that begin so and then say a byte now and then.
fn drip(form: Form, beginning: &'static [u8]) -> Plan {
    let connections = Script::new(form.connections(), form.sources());
    let byte = |_, _, out: &mut Vec<u8>| out.push(b'x');
    let drip = connections.hello(move |_, _, out| out.extend(beginning)).every(Duration::from_millis(100), byte);
    Plan::at_once(drip)
}
