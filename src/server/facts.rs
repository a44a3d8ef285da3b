//! Writes the engine's facts to the log, as lines.

use super::log::{Log, Throttle};
use crate::conn::{Ending, Protocol};
use crate::engine::Fact;
use crate::store::About;
use crate::types::{ConnId, Millis};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// Milliseconds between two log lines about a failing store.
const SILENCE: u64 = 60_000;

pub struct Facts {
    store: Throttle,
    reads: Throttle,
    /// Foreign host names whose refusals were logged, and the throttle for any further ones.
    strangers: BTreeSet<String>,
    more_strangers: Throttle,
    /// Throttle for requests over the rate limit.
    fast: Throttle,
    /// Throttle for requests that cannot be served now.
    unavailable: Throttle,
}

/// Distinct foreign host names that are logged, each once.
const STRANGERS: usize = 64;
/// Milliseconds between two lines about requests over the rate limit, and between two about requests that cannot be
/// served now.
const FAST: u64 = 1_000;

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            store: Throttle::new(SILENCE),
            reads: Throttle::new(SILENCE),
            strangers: BTreeSet::new(),
            more_strangers: Throttle::minute(),
            fast: Throttle::new(FAST),
            unavailable: Throttle::new(FAST),
        }
    }
}

impl Facts {
    /// Decides whether a refusal is logged: for a foreign host name once per name; over the rate limit, and for a
    /// request that cannot be served now, once a second each; any other each time. Returns the number of lines left out
    /// before it.
    fn refusal_passes(&mut self, status: u16, detail: &str, now: Millis) -> Option<u64> {
        match status {
            421 if self.strangers.contains(detail) => None,
            421 if self.strangers.len() < STRANGERS => {
                self.strangers.insert(detail.to_owned());
                Some(0)
            }
            421 => self.more_strangers.pass(now),
            429 => self.fast.pass(now),
            503 => self.unavailable.pass(now),
            _ => Some(0),
        }
    }

    pub fn log(&mut self, log: &Log, fact: Fact, now: Millis) {
        match fact {
            Fact::Closed { conn, peer, client, ending, protocol } => {
                let kind = match protocol {
                    Protocol::Http | Protocol::ExcessHttp => "http",
                    Protocol::WebSocket => "websocket",
                    Protocol::EventStream => "events",
                };
                let reason = words(ending);
                with_client(log, "connection closed", (conn, peer, client), &[("kind", &kind), ("reason", &reason)]);
            }
            Fact::Refused { conn, peer, client, status, detail, asked } => {
                let Some(left_out) = self.refusal_passes(status, &detail, now) else { return };
                let mut fields: Vec<(&str, &dyn Display)> = vec![("status", &status)];
                if let Some(asked) = &asked {
                    fields.push(("asked", asked));
                }
                fields.push(("detail", &detail));
                if left_out > 0 {
                    fields.push(("lines_left_out", &left_out));
                }
                with_client(log, "refused", (conn, peer, client), &fields);
            }
            Fact::StoreFailed { reason } => {
                if let Some(left_out) = self.store.pass(now) {
                    log.error("the store takes no messages", &[("reason", &reason), ("lines_left_out", &left_out)]);
                }
            }
            Fact::StoreUnreadable { reason } => {
                if let Some(left_out) = self.reads.pass(now) {
                    log.error("the store cannot read", &[("reason", &reason), ("lines_left_out", &left_out)]);
                }
            }
            Fact::StoreRemark { line } => log.warn(&line, &[]),
            Fact::StoreNote { text: Some(text), .. } => log.warn(&text, &[]),
            Fact::StoreNote { about, text: None } => log.info(over(about), &[]),
            Fact::StoreRecovered => log.info("the store takes messages again", &[]),
        }
    }
}

/// Logs one line about a connection: `client` is given beside `peer` if the connection came through a proxy.
fn with_client(
    log: &Log,
    message: &str,
    (conn, peer, client): (ConnId, SocketAddr, Option<IpAddr>),
    more: &[(&str, &dyn Display)],
) {
    let mut fields: Vec<(&str, &dyn Display)> = vec![("conn", &conn), ("peer", &peer)];
    if let Some(client) = &client {
        fields.push(("client", client));
    }
    fields.extend(more.iter().copied());
    log.info(message, &fields);
}

/// Returns the log line for the end of a note.
fn over(about: About) -> &'static str {
    match about {
        About::Damaged => "the database is well again",
        About::Unreadable => "what is stored can be read again",
        About::Wal => "the database's -wal file has its usual length again",
        About::Rooms => "messages to further rooms are taken again",
        About::Clock => "the clock is believed again: messages go by age as it says",
    }
}

fn words(ending: Ending) -> String {
    match ending {
        Ending::Done => "done".into(),
        Ending::PeerClosed(Some(code)) => format!("closed by the peer with {code}"),
        Ending::PeerClosed(None) => "closed by the peer".into(),
        Ending::Closed(code, reason) => format!("closed with {code}: {reason}"),
        Ending::Eof => "ended by the peer without a close".into(),
        Ending::Reset => "reset".into(),
        Ending::Idle => "no request came".into(),
        Ending::TooSlow => "took nothing for the write timeout".into(),
        Ending::Stopped => "the server stopped".into(),
    }
}
