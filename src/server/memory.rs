//! The memory of a server: its budget, from the settings and from what the machine has, and its worst case, from the
//! limits alone: every bound reached by every connection at once. The figures are those that the code enforces; a
//! comment beside each names the place.

use super::accept::EXCESS;
use super::machine::Machine;
use super::tls::WORST_BYTES;
use crate::config::{ConfigError, Settings};
use crate::engine::Budget;
use crate::types::size::MAX_ENVELOPE;
use crate::types::{Durability, RoomId, Seq};
use crate::{chat, conn, engine, hub, store};
use std::mem::size_of;

/// One part of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub what: &'static str,
    /// The settings and constants from which it is computed.
    pub from: String,
    pub bytes: u64,
    /// A server needs it from its start on, whoever connects.
    pub is_fixed: bool,
}

/// The sum and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worst {
    pub per_connection: Vec<Term>,
    pub connections: u64,
    pub shared: Vec<Term>,
}

/// Bytes in the kernel for a socket without data, as measured.
const SOCKET_BYTES: u32 = 5 << 10;

/// Bytes in the kernel beside it for a peer that reads nothing, as measured with the options that `socket_options`
/// sets.
const UNSENT_BYTES: u32 = 141 << 10;

/// Bytes in the kernel beside it for a peer that is not read: as much as `socket_options` lets it take.
const UNREAD_BYTES: u32 = 64 << 10;

/// Bytes that have to be left for connections and rooms.
const LEAST: u64 = 1 << 20;

/// Bytes that a server takes before the first connection, besides its log: as measured.
const BASE: u64 = 7 << 19;

/// Bytes of a connection with empty buffers.
const IDLE_BYTES: usize = conn::IDLE_BYTES + engine::SLOT_BYTES + chat::FIRST_ROOM_BYTES;

/// Bytes that the server keeps for a connection besides connection and session: its socket, its deadline, its address
/// and, through a proxy, its client.
const PLACE_BYTES: usize = size_of::<super::sockets::Socket>() + 24 + 64 + 64;

/// Returns the memory that a server may take, and where that is from.
pub fn allowed(settings: &Settings, machine: Machine) -> (u64, &'static str) {
    match settings.limits.memory {
        0 => machine.usual(),
        bytes => (bytes, "memory"),
    }
}

/// Returns the budget of connections and rooms: what is left of `memory` beside what a server needs from its start on.
///
/// # Errors
/// The setting leaves too little.
pub fn budget(settings: &Settings, machine: Machine) -> Result<Budget, ConfigError> {
    let (memory, _) = allowed(settings, machine);
    let worst = Worst::of(settings, 0);
    let fixed: u64 = worst.shared.iter().filter(|term| term.is_fixed).map(|term| term.bytes).sum();
    let own = memory.saturating_sub(fixed);
    if own < LEAST && settings.limits.memory > 0 {
        let least = (fixed + LEAST).div_ceil(1 << 20);
        return Err(ConfigError::new(&format!(
            "memory: with these settings at least {least}MiB are needed; lower page-bytes, reads-in-flight or \
             max-message-size for less"
        )));
    }
    Ok(Budget {
        own: own.max(LEAST),
        kernel: memory,
        idle: (IDLE_BYTES + PLACE_BYTES) as u32,
        secure: if settings.tls.is_on() { 4096 } else { 0 },
        socket: SOCKET_BYTES,
        unsent: UNSENT_BYTES,
        unread: UNREAD_BYTES,
    })
}

/// What the budget comes to, for people. Sizes in bytes.
pub struct Sums {
    pub allowed: u64,
    /// Where `allowed` is from.
    pub from: &'static str,
    /// What is left of it for connections and rooms.
    pub left: u64,
    /// An idle connection with its session, in racerd and in the kernel, and how many fit.
    pub idle: u64,
    pub socket: u64,
    pub most_idle: u64,
    /// A peer that reads nothing, in the kernel, and how many fit.
    pub stalled: u64,
    pub most_stalled: u64,
}

impl Sums {
    /// Returns what the budget comes to; `None` if there is no limit.
    ///
    /// # Errors
    /// See [`budget`].
    pub fn of(settings: &Settings, machine: Machine) -> Result<Option<Sums>, ConfigError> {
        let budget = budget(settings, machine)?;
        let (allowed, from) = allowed(settings, machine);
        if allowed == u64::MAX {
            return Ok(None);
        }
        let idle = u64::from(budget.idle + budget.secure) + hub::SESSION_BYTES as u64;
        let socket = u64::from(budget.socket);
        let stalled = socket + u64::from(budget.unsent);
        // `engine/memory.rs`: past seven eighths nobody is admitted, past three quarters the stalled are closed.
        let most_idle = (budget.own / 8 * 7 / idle).min(budget.kernel / 8 * 7 / socket);
        let most_stalled = budget.kernel / 4 * 3 / stalled;
        Ok(Some(Sums { allowed, from, left: budget.own, idle, socket, most_idle, stalled, most_stalled }))
    }
}

/// Applies the budget to the engine's limits: the messages kept in memory take a quarter of it at most.
///
/// # Errors
/// See [`budget`].
pub fn within(
    limits: engine::Limits<chat::Limits>,
    settings: &Settings,
    machine: Machine,
) -> Result<engine::Limits<chat::Limits>, ConfigError> {
    let memory = budget(settings, machine)?;
    let mut limits = engine::Limits { memory, ..limits };
    let quarter = usize::try_from(memory.own / 4).unwrap_or(usize::MAX);
    let hub = &mut limits.app.hub;
    hub.tail_bytes_total = hub.tail_bytes_total.min(quarter);
    hub.tail_bytes = hub.tail_bytes.min(quarter);
    Ok(limits)
}

impl Worst {
    /// Computes the sum for these settings and this number of connections.
    pub fn of(settings: &Settings, connections: usize) -> Worst {
        let limits = &settings.limits;
        let term = |what, from: &str, bytes: u64| Term { what, from: from.to_string(), bytes, is_fixed: false };
        let fixed = |what, from: &str, bytes: u64| Term { is_fixed: true, ..term(what, from, bytes) };
        // In 64 bits on every machine: sums and products of the limits can be larger than an address.
        let (message, envelope) = (limits.max_message_size as u64, MAX_ENVELOPE as u64);
        let (page_bytes, read_budget) = (limits.page_bytes as u64, limits.read_budget as u64);
        let (head_size, queue) = (limits.max_head_size as u64, limits.queue_bytes as u64);
        let (rooms, append) = (u64::from(limits.rooms_per_session), size_of::<store::Append>() as u64);

        // `conn/http.rs`: a head is kept, copied once when it is complete, and then its body is collected.
        // `ws/decoder.rs`: a message is collected. Collecting buffers grow by doubling.
        let head = head_size.saturating_mul(3);
        let collected = head_size.saturating_add(message.saturating_mul(2));
        // `engine/writing.rs`, `push_own`: past the two, the next reply closes the connection; that reply counts in
        // full.
        let replies = (limits.reply_bytes as u64).saturating_add(page_bytes.max(message)).saturating_add(envelope);
        let mut any = vec![
            term("idle", "connection, socket, session", (IDLE_BYTES + PLACE_BYTES + hub::SESSION_BYTES) as u64),
            // `chat/postponed.rs`: or a message that waits for a place at the store.
            term("request or message coming in", "max_head_size, max_message_size", head.max(collected)),
            // `engine/engine.rs`, `bytes`: reading stops while bytes wait here. If none do, the signals taken from one
            // turn's read use the space instead.
            term("read and not yet looked at", "read_budget", read_budget),
        ];
        // `tls/stream.rs`: incomplete records, and ciphertext that waits.
        if let Some(bytes) = WORST_BYTES.filter(|_| settings.tls.is_on()) {
            any.push(term("TLS", "keys, and records that are not whole or not taken", bytes as u64));
        }
        // `accept.rs`: excess connections never become members.
        let member = vec![
            term(
                "memberships",
                "rooms_per_session, each in a room of its own",
                rooms.saturating_mul(hub::MEMBERSHIP_BYTES as u64),
            ),
            // `engine/writing.rs`, `push_shared`: an empty queue takes one batch whatever its size, at most half a
            // queue and a message (`limits.rs`, `hub`).
            term(
                "room messages waiting",
                "queue_bytes",
                queue.max((queue / 2).saturating_add(message).saturating_add(envelope)),
            ),
            term("replies waiting", "reply_bytes, and one page or message more", replies),
            // Their bodies are part of append_bytes.
            term("sends under way", "in_flight", append.saturating_mul(limits.in_flight.into())),
        ];
        let excess = any.iter().fold(0, |sum: u64, term| sum.saturating_add(term.bytes));
        let per_connection = [any, member].concat();

        // `chat/shares.rs`.
        let appends = limits.append_bytes as u64;
        // `hub/reads.rs`: `reads_in_flight` pages at once, each of a page and at least one message.
        let page = page_bytes.saturating_add(message).saturating_add(envelope);
        let mut shared = vec![
            term("sends waiting for the store", "append_bytes", appends),
            // `chat/outbox.rs`, `encode`: the store's answers, a second time, as frames.
            term("the same as frames for the rooms", "append_bytes", appends),
            fixed(
                "pages read from the log",
                "reads_in_flight, page_bytes",
                page.saturating_mul(limits.reads_in_flight.into()),
            ),
            fixed("read buffer", "read_budget", read_budget),
            fixed("connections told that the server is full", "their number", excess.saturating_mul(EXCESS as u64)),
        ];
        shared.push(term("messages kept in memory", "tail_bytes_total", limits.tail_bytes_total as u64));
        let returns = (engine::MAX_RETURNS * engine::RETURN_BYTES) as u64;
        shared.push(fixed("sessions that came back lately", "their number", returns));
        shared.push(term(
            "sessions waited for",
            "detached_max",
            (limits.detached_max as u64).saturating_mul((hub::SESSION_BYTES + hub::MEMBERSHIP_BYTES) as u64),
        ));
        // `sqlite/standings.rs`.
        let became = (store::STANDINGS * store::HOLDER_BYTES) as u64;
        shared.push(fixed("what became of sessions", "their number", became));
        if settings.storage.durability == Durability::Memory {
            // A row, its place in the order, and its rooms with their ids.
            let rooms = rooms.saturating_mul((size_of::<(RoomId, Seq)>() + RoomId::MAX) as u64);
            let parked = rooms.saturating_add(size_of::<store::Parked>() as u64 + 64);
            let parked = parked.saturating_mul(settings.storage.parked_max.into());
            shared.push(term("parked sessions", "parked_max, rooms_per_session", parked));
        }
        if !settings.listening.trusted_proxy.is_empty() {
            let bytes = (engine::MAX_CLIENTS * engine::CLIENT_BYTES) as u64;
            shared.push(fixed("rates of clients behind proxies", "their number", bytes));
        }
        let from = match settings.storage.durability {
            Durability::Memory => "rooms and keys",
            Durability::Full | Durability::Normal => "SQLite's caches, three threads",
        };
        shared.push(fixed("log", from, super::backend::fixed_bytes(settings.storage.durability) as u64));
        shared.push(fixed("racerd itself", "measured", BASE));
        Worst { per_connection, connections: connections as u64, shared }
    }

    /// Returns the bytes of one connection.
    pub fn connection(&self) -> u64 {
        sum(&self.per_connection)
    }

    /// Returns the total bytes.
    pub fn total(&self) -> u64 {
        self.connection().saturating_mul(self.connections).saturating_add(sum(&self.shared))
    }
}

fn sum(terms: &[Term]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(term.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_follows_the_limits() {
        let settings = Settings::default();
        let worst = Worst::of(&settings, 1000);
        assert_eq!(worst.total(), worst.connection() * 1000 + sum(&worst.shared));
        // By hand: queue 256 KiB, replies 64 KiB and a page, message twice and head, read budget, and small things.
        let hand = (256 << 10) + (64 << 10) + 60_000 + MAX_ENVELOPE as u64 + (80 << 10) + (64 << 10);
        assert!((hand..hand + (64 << 10)).contains(&worst.connection()), "{worst:?}");
        let mut larger = settings.clone();
        larger.limits.queue_bytes += 1000;
        larger.limits.append_bytes += 1000;
        assert_eq!(Worst::of(&larger, 1000).total(), worst.total() + 1000 * 1000 + 2000);
        let mut memory = settings.clone();
        memory.storage.durability = Durability::Memory;
        let kept =
            |settings: &Settings| Worst::of(settings, 0).shared.iter().any(|term| term.what == "parked sessions");
        assert!(kept(&memory) && !kept(&settings));
    }

    #[test]
    fn what_is_more_than_32_bits_is_told_in_full() {
        let mut settings = Settings::default();
        settings.storage.durability = Durability::Memory;
        settings.storage.parked_max = 10_000_000;
        settings.limits.rooms_per_session = 10_000;
        settings.limits.page_bytes = 16 << 20;
        settings.limits.reads_in_flight = 1024;
        settings.limits.detached_max = 10_000_000;
        let worst = Worst::of(&settings, 1000);
        let bytes = |what| worst.shared.iter().find(|term| term.what == what).map_or(0, |term| term.bytes);
        assert!(bytes("pages read from the log") > 16 << 30, "{worst:?}");
        assert!(bytes("sessions waited for") > 10_000_000 * hub::SESSION_BYTES as u64, "{worst:?}");
        assert!(bytes("parked sessions") > 10_000_000 * 10_000 * RoomId::MAX as u64, "{worst:?}");
    }

    #[test]
    fn the_largest_limits_do_not_overflow() {
        let mut settings = Settings::default();
        settings.limits.queue_bytes = usize::MAX;
        settings.limits.append_bytes = usize::MAX;
        assert_eq!(Worst::of(&settings, usize::MAX).total(), u64::MAX);
    }
}
