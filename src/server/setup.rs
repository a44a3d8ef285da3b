//! From settings to a running loop: limits of the system, store, listeners, engine.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use mio::{Poll, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::accept::Listeners;
use super::log::Log;
use super::supervisor::Supervisor;
use super::{Loop, ServeError, WAKER};
use crate::api::{self, Access};
use crate::config::Settings;
use crate::conn::{ConnLimits, Rate};
use crate::engine::chat::{Chat, ChatLimits, Secrets};
use crate::engine::{Admission, Connections, Engine};
use crate::http::authority::Origin;
use crate::http::head::HeadLimits;
use crate::hub::HubLimits;
use crate::protocol;
use crate::store::{Bounds, Store, StoreOptions};
use crate::types::Durability;
use crate::ws;

/// Descriptors that are not for connections: the database, the log, the loop's own, and some to spare.
const RESERVED: u64 = 64;
/// Longest request target, in bytes.
const MAX_TARGET: usize = 8 * 1024;

/// Serves until a signal says stop: on the listeners that were given, or where there are none on those of the settings.
///
/// # Errors
/// What was wrong at the start, or why it stopped by itself.
pub fn run(settings: Settings, given: Vec<TcpListener>) -> Result<(), ServeError> {
    let log = Log::stderr(settings.log.log_level);
    let start = |error: &dyn std::fmt::Display| ServeError::Start(error.to_string());
    let open_files = raise_open_files();
    let max_connections = connections_for(open_files, settings.limits.max_connections);

    let poll = Poll::new().map_err(|e| start(&format!("the system offers no event queue: {e}")))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(|e| start(&format!("cannot make a waker: {e}")))?;
    let waker = Arc::new(waker);
    let new_epoch = random(start)?;

    // Bound first: a second server on the same address should say so, and not wait for the database.
    let listeners = match given.is_empty() {
        true => Listeners::bind(&settings.listening.listen, max_connections, poll.registry()),
        false => Listeners::given(given, settings.listening.open, max_connections, poll.registry()),
    };
    let listeners = listeners.map_err(|error| start(&error))?;
    let options = StoreOptions {
        path: settings.storage.data.clone(),
        durability: settings.storage.durability,
        bounds: store_bounds(&settings),
        memory_room_bytes: settings.limits.tail_bytes,
        memory_total_bytes: settings.limits.tail_bytes_total,
        new_epoch,
        new_token_key: random(start)?,
        boot_id: boot_id(),
    };
    // A wake that fails finds a loop that is awake: the event queue is full.
    let store = Store::open(options, move || drop(waker.wake())).map_err(|error| start(&error))?;

    let secrets = Secrets {
        token_key: store.token_key(),
        salt: random(start)?,
        seed: u64::from_ne_bytes(random(start)?),
        running: store.running_seconds(),
    };
    let chat = chat(&settings, store.epoch().clone(), &secrets)?;
    let net = Connections::new(conn_limits(&settings), admission(&settings));
    let engine = Engine::new(net, chat, settings.time.drain_timeout);

    let addresses: Vec<SocketAddr> = listeners.addresses().collect();
    let server = Loop::new(poll, listeners, engine, store, settings.limits.read_budget, log)
        .map_err(|e| start(&format!("cannot watch signals: {e}")))?;
    // Not before signals are watched: whoever reads it may already send one.
    announce(&settings, &addresses, max_connections, open_files, &server.log);
    let (supervisor, unheard) = Supervisor::from_environment();
    if let Some(reason) = unheard {
        server.log.warn("the supervisor cannot be told", &[("reason", &reason)]);
    }
    supervisor.ready();
    server.supervised(supervisor).run()
}

fn random<const N: usize>(start: impl Fn(&dyn std::fmt::Display) -> ServeError) -> Result<[u8; N], ServeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| start(&format!("the system has no randomness: {e}")))?;
    Ok(bytes)
}

/// The kernel's id of this boot; empty where it does not say.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// How much the store may keep, from the settings.
pub fn store_bounds(settings: &Settings) -> Bounds {
    let storage = &settings.storage;
    Bounds {
        max_database_size: storage.max_database_size,
        parked_max: u64::from(storage.parked_max),
        park_for: storage.park_for.div_ceil(1000),
    }
}

/// Raises the soft limit of open files to the hard one. The limit that holds now; `None` where there is none.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// How many connections so many open files allow, if the setting does not say (0).
pub fn connections_for(open_files: Option<u64>, setting: u32) -> usize {
    let allowed = open_files.map_or(usize::MAX, |files| files.saturating_sub(RESERVED).max(1) as usize);
    match setting {
        0 => allowed.min(1_000_000),
        wanted => allowed.min(wanted as usize),
    }
}

fn announce(settings: &Settings, addresses: &[SocketAddr], max_connections: usize, open_files: Option<u64>, log: &Log) {
    let mut text = String::new();
    for address in addresses {
        text.push_str(&format!(
            "racerd {} listens on http://{address}/ and ws://{address}/rooms/lobby/ws?name=you\n",
            env!("CARGO_PKG_VERSION")
        ));
    }
    // A closed stdout is no reason not to serve.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let files = open_files.map_or("unlimited".to_owned(), |files| files.to_string());
    log.info(
        "started",
        &[
            ("data", &settings.storage.data.display()),
            ("durability", &settings.storage.durability.as_str()),
            ("max_connections", &max_connections),
            ("open_files", &files),
        ],
    );
    if settings.limits.max_connections as usize > max_connections {
        log.warn(
            "fewer connections than asked for: raise the limit of open files (ulimit -n, LimitNOFILE=)",
            &[("max_connections", &max_connections)],
        );
    }
}

/// The connections' limits, from the settings.
pub fn conn_limits(settings: &Settings) -> ConnLimits {
    let (limits, time) = (&settings.limits, &settings.time);
    ConnLimits {
        head: HeadLimits {
            max_head: limits.max_head_size,
            max_target: MAX_TARGET.min(limits.max_head_size),
            max_body: limits.max_message_size,
        },
        ws: ws::Limits { max_message: limits.max_message_size, max_fragments: limits.max_fragments, binary: false },
        queue_bytes: limits.queue_bytes,
        reply_bytes: limits.reply_bytes,
        // Bounded by the setting's own bound.
        in_flight: u16::try_from(limits.in_flight).unwrap_or(u16::MAX),
        header_timeout: time.header_timeout,
        keep_alive: time.keep_alive,
        write_wait: time.write_wait,
        pong_wait: time.pong_wait,
        ping_period: time.ping_period,
    }
}

/// How many may come, from the settings.
pub fn admission(settings: &Settings) -> Admission {
    let limits = &settings.limits;
    let rate = |count: u32| Rate::new(count, 1000, count.max(1).saturating_mul(2));
    Admission::new(
        limits.max_connections_per_address,
        rate(limits.handshake_rate_per_address),
        rate(limits.handshake_rate),
    )
}

fn chat(settings: &Settings, epoch: crate::types::Epoch, secrets: &Secrets) -> Result<Chat, ServeError> {
    let (limits, listening) = (&settings.limits, &settings.listening);
    let hub = HubLimits {
        rooms_per_session: limits.rooms_per_session as usize,
        presence_max: limits.presence_max as usize,
        page_bytes: limits.page_bytes,
        page_messages: api::PAGE_MAX,
        reads_in_flight: limits.reads_in_flight as usize,
        // The memory log has all that there is in memory.
        tail_bytes: if settings.storage.durability == Durability::Memory { 0 } else { limits.tail_bytes },
        tail_bytes_total: limits.tail_bytes_total,
        delivery_budget: limits.delivery_budget as usize,
        // Two of them fit into a queue.
        batch_bytes: limits.queue_bytes / 2,
        resume_within: settings.time.resume_within,
        detached_max: limits.detached_max,
    };
    let chat = ChatLimits {
        append_bytes: limits.append_bytes,
        body_depth: limits.body_depth as usize,
        requests: Rate::new(limits.request_rate, 1000, limits.request_burst),
        errors: Rate::new(limits.error_budget, 60_000, limits.error_budget),
        welcome: protocol::server::Limits {
            max_message_size: limits.max_message_size,
            in_flight: limits.in_flight as usize,
            rooms_per_session: limits.rooms_per_session as usize,
            page_bytes: limits.page_bytes,
            request_rate: limits.request_rate,
            ping_period: settings.time.ping_period,
            durability: settings.storage.durability,
        },
        resume_within: settings.time.resume_within,
        park_for: settings.storage.park_for / 1000,
    };
    let mut origins = Vec::new();
    for text in &listening.allow_origin {
        let origin = Origin::parse(text);
        origins.push(origin.ok_or_else(|| ServeError::Start(format!("--allow-origin {text}: {}", Origin::RULE)))?);
    }
    let access = Access { hosts: listening.host.clone(), origins };
    Ok(Chat::new(hub, epoch, chat, access, secrets))
}
