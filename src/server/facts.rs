//! The engine's facts as lines of the log.

use super::log::{Log, Throttle};
use crate::conn::{Ending, Kind};
use crate::engine::Fact;
use crate::types::{ConnId, Millis};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// Milliseconds in which a failing store gets one line.
const SILENCE: u64 = 60_000;

/// Bytes of the store's write-ahead log past which somebody should know: some times what it has in peace.
const LONG_WAL: u64 = 16 << 20;

pub struct Facts {
    store: Throttle,
    reads: Throttle,
    wal: Throttle,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts { store: Throttle::new(SILENCE), reads: Throttle::new(SILENCE), wal: Throttle::minute() }
    }
}

impl Facts {
    /// The write-ahead log has so many bytes. It cannot start over while another program reads the database.
    pub fn watch_wal(&mut self, log: &Log, bytes: u64, now: Millis) {
        if bytes > LONG_WAL && self.wal.pass(now).is_some() {
            let message = "the database's -wal file grows: another program holds a read of the database open; end it";
            log.warn(message, &[("bytes", &bytes)]);
        }
    }

    pub fn tell(&mut self, log: &Log, fact: Fact, now: Millis) {
        match fact {
            Fact::Closed { conn, peer, client, ending, kind } => {
                let kind = match kind {
                    Kind::Http => "http",
                    Kind::WebSocket => "websocket",
                    Kind::Events => "events",
                };
                let reason = words(ending);
                with_client(log, "connection closed", (conn, peer, client), [("kind", &kind), ("reason", &reason)]);
            }
            Fact::Refused { conn, peer, client, status, detail } => {
                with_client(log, "refused", (conn, peer, client), [("status", &status), ("detail", &detail)]);
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
            Fact::StoreRecovered => log.info("the store takes messages again", &[]),
        }
    }
}

/// One line about a connection: `client` stands beside `peer` where a proxy stands between.
fn with_client(
    log: &Log,
    message: &str,
    (conn, peer, client): (ConnId, SocketAddr, Option<IpAddr>),
    [first, second]: [(&str, &dyn Display); 2],
) {
    match client {
        None => log.info(message, &[("conn", &conn), ("peer", &peer), first, second]),
        Some(client) => log.info(message, &[("conn", &conn), ("peer", &peer), ("client", &client), first, second]),
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
