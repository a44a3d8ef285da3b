//! Writes the engine's facts to the log, as lines, as many as their rates allow.

use super::log::rates::{Kind, Rates};
use super::log::{Log, Throttle};
use crate::config::LogLevel;
use crate::conn::{Ending, Protocol};
use crate::engine::Fact;
use crate::store::About;
use crate::types::{ConnId, Millis};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// Milliseconds between two log lines about a failing store, or about memory.
const SILENCE: u64 = 60_000;

pub struct Facts {
    store: Throttle,
    reads: Throttle,
    memory: Throttle,
    /// Connections closed for want of memory that no line has told of.
    closed: usize,
    /// Lines that strangers can cause.
    rates: Rates,
    /// Foreign host names whose refusals were logged.
    strangers: BTreeSet<String>,
}

/// Distinct foreign host names that are logged, each once.
const STRANGERS: usize = 64;

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            store: Throttle::new(SILENCE),
            reads: Throttle::new(SILENCE),
            memory: Throttle::new(SILENCE),
            closed: 0,
            rates: Rates::default(),
            strangers: BTreeSet::new(),
        }
    }
}

impl Facts {
    /// Decides whether a refusal is logged: for a foreign host name once per name, any other as its kind's rate has it.
    /// Returns the number of lines left out before it.
    fn refusal_passes(&mut self, status: u16, detail: &str, now: Millis) -> Option<u64> {
        let kind = match status {
            421 if self.strangers.contains(detail) => return None,
            421 if self.strangers.len() < STRANGERS => {
                let left_out = self.rates.pass(Kind::Refused, now)?;
                self.strangers.insert(detail.to_owned());
                return Some(left_out);
            }
            421 => Kind::Stranger,
            429 => Kind::TooFast,
            503 => Kind::Unavailable,
            _ => Kind::Refused,
        };
        self.rates.pass(kind, now)
    }

    pub fn log(&mut self, log: &Log, fact: Fact, now: Millis) {
        match fact {
            Fact::Closed { conn, peer, client, ending, protocol } => {
                let (level, rate, kind) = match protocol {
                    Protocol::Http | Protocol::ExcessHttp => (LogLevel::Debug, Kind::Http, "http"),
                    Protocol::WebSocket => (LogLevel::Info, Kind::Session, "websocket"),
                    Protocol::EventStream => (LogLevel::Info, Kind::Session, "events"),
                };
                if !log.wants(level) {
                    return;
                }
                let Some(left_out) = self.rates.pass(rate, now) else { return };
                let reason = words(ending);
                let fields: [(&str, &dyn Display); 2] = [("kind", &kind), ("reason", &reason)];
                let line = Line { level, message: "connection closed", left_out };
                self.rates.written(line.with_client(log, (conn, peer, client), &fields));
            }
            Fact::Refused { conn, peer, client, status, detail, asked } => {
                if !log.wants(LogLevel::Info) {
                    return;
                }
                let Some(left_out) = self.refusal_passes(status, &detail, now) else { return };
                let mut fields: Vec<(&str, &dyn Display)> = vec![("status", &status)];
                if let Some(asked) = &asked {
                    fields.push(("asked", asked));
                }
                fields.push(("detail", &detail));
                let line = Line { level: LogLevel::Info, message: "refused", left_out };
                self.rates.written(line.with_client(log, (conn, peer, client), &fields));
            }
            Fact::EarlierKey { clients } => {
                log.info("clients use the sealed key before the present one", &[("handshakes", &clients)]);
            }
            Fact::ShortOfMemory { closed } => {
                self.closed += closed;
                if let Some(left_out) = self.memory.pass(now) {
                    let closed = std::mem::take(&mut self.closed);
                    let fields: [(&str, &dyn Display); 2] = [("connections", &closed), ("lines_left_out", &left_out)];
                    log.warn("short of memory (memory): connections that held most of it were closed", &fields);
                }
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
            // Something is refused until somebody acts.
            Fact::StoreNote { about: About::Rooms | About::Shares, text: Some(text) } => log.error(&text, &[]),
            Fact::StoreNote { text: Some(text), .. } => log.warn(&text, &[]),
            Fact::StoreNote { about, text: None } => log.info(over(about), &[]),
            Fact::StoreRecovered => log.info("the store takes messages again", &[]),
        }
    }

    /// Logs that TLS has ended a connection.
    pub fn log_tls(&mut self, log: &Log, conn: ConnId, reason: &dyn Display, now: Millis) {
        if !log.wants(LogLevel::Info) {
            return;
        }
        let Some(left_out) = self.rates.pass(Kind::Tls, now) else { return };
        let line = Line { level: LogLevel::Info, message: "TLS ended the connection", left_out };
        self.rates.written(line.write(log, vec![("conn", &conn), ("reason", reason)]));
    }

    /// Tells how many lines were left out, where no further line of their kind does.
    pub fn tell_left_out(&mut self, log: &Log, now: Millis) {
        if let Some((kind, left_out)) = self.rates.untold(now) {
            let fields: [(&str, &dyn Display); 2] = [("kind", &kind.name()), ("lines_left_out", &left_out)];
            self.rates.written(log.write_counted(LogLevel::Info, "lines left out", &fields));
        }
    }
}

/// A line about a connection.
struct Line {
    level: LogLevel,
    message: &'static str,
    /// Number of lines of its kind that were left out before it.
    left_out: u64,
}

impl Line {
    /// Writes it: `client` is given beside `peer` if the connection came through a proxy. Returns its length.
    fn with_client(
        &self,
        log: &Log,
        (conn, peer, client): (ConnId, SocketAddr, Option<IpAddr>),
        more: &[(&str, &dyn Display)],
    ) -> usize {
        let mut fields: Vec<(&str, &dyn Display)> = vec![("conn", &conn), ("peer", &peer)];
        if let Some(client) = &client {
            fields.push(("client", client));
        }
        fields.extend(more.iter().copied());
        self.write(log, fields)
    }

    /// Writes it with these fields, and the number of lines left out if there is any. Returns its length.
    fn write<'a>(&'a self, log: &Log, mut fields: Vec<(&'a str, &'a dyn Display)>) -> usize {
        if self.left_out > 0 {
            fields.push(("lines_left_out", &self.left_out));
        }
        log.write_counted(self.level, self.message, &fields)
    }
}

/// Returns the log line for the end of a note.
fn over(about: About) -> &'static str {
    match about {
        About::Damaged => "the database is well again",
        About::Unreadable => "what is stored can be read again",
        About::Wal => "the database's -wal file has its usual length again",
        About::Rooms => "messages to further rooms are taken again",
        About::Shares => "the database has space again for whoever writes",
        About::Clock => "the clock is believed again: messages go by age as it says",
    }
}

fn words(ending: Ending) -> String {
    match ending {
        Ending::Done => "done".into(),
        Ending::PeerClosed(Some(code)) => format!("closed by the peer with {code}"),
        Ending::PeerClosed(None) => "closed by the peer".into(),
        Ending::UnsealedClose(Some(code)) => format!("a close frame with {code} came unsealed"),
        Ending::UnsealedClose(None) => "a close frame came unsealed".into(),
        Ending::PeerEnded => "the client ended its session".into(),
        Ending::Closed(code, reason) => format!("closed with {code}: {reason}"),
        Ending::Eof => "ended by the peer without a close".into(),
        Ending::Reset => "reset".into(),
        Ending::Idle => "no request came".into(),
        Ending::Refused => "its address has too many connections, and few are free".into(),
        Ending::TooSlow => "took nothing for the write timeout".into(),
        Ending::NoMemory => "held much while the server was short of memory".into(),
        Ending::Stopped => "the server stopped".into(),
    }
}

#[cfg(test)]
mod tests;
