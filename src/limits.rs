//! Converts the settings into the limits of every part, at the start and at each reload. Durations are in milliseconds
//! and sizes in bytes, unless a name says otherwise.

use std::time::Duration;

use crate::access::Doors;
use crate::api::{self, HostRules};
use crate::chat::{self, ChatLimits, RoomRates};
use crate::config::{ConfigError, Settings};
use crate::conn::{ConnLimits, Rate};
use crate::engine::{self, Admission, Budget};
use crate::http::authority::Origin;
use crate::http::hosts::Hosts;
use crate::http::limits::HeadLimits;
use crate::hub::HubLimits;
use crate::protocol::encrypted::EncryptedRooms;
use crate::protocol::server::Limits as WelcomeLimits;
use crate::store::{self, Bounds};
use crate::types::Durability;
use crate::ws;

/// Longest request target, in bytes; a smaller limit of the whole head lowers it.
const MAX_TARGET: usize = 8 * 1024;

/// How many seconds' pings and pongs may come at once.
const CONTROL_BURST: u32 = 10;

/// How many seconds' requests of one address may come at once: an office loads the page.
const ADDRESS_BURST: u32 = 4;

/// How many seconds' new rooms of one address, and of all, may come at once.
const OWN_ROOMS_BURST: u32 = 20;
const ROOMS_BURST: u32 = 10;

/// Returns a rate per second, of which so many seconds' worth may come at once.
fn per_second(count: u32, seconds: u32) -> Rate {
    Rate::new(count, 1000, count.saturating_mul(seconds))
}

/// Returns the limits of everything that the engine runs; `doors` are who is known.
///
/// # Errors
/// One line about the first value that no part can use.
pub fn engine(settings: &Settings, doors: Doors) -> Result<engine::Limits<chat::Limits>, ConfigError> {
    Ok(engine::Limits {
        connections: connections(settings),
        admission: admission(settings),
        // The edge knows how much memory there is.
        memory: Budget::UNLIMITED,
        drain_timeout: settings.time.drain_timeout,
        app: chat(settings, doors)?,
    })
}

/// Returns the limits of each connection.
pub fn connections(settings: &Settings) -> ConnLimits {
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
        // The setting's own bound is far below the type's.
        in_flight: u16::try_from(limits.in_flight).unwrap_or(u16::MAX),
        requests: Rate::new(limits.request_rate, 1000, limits.request_burst),
        controls: per_second(limits.control_rate, CONTROL_BURST),
        header_timeout: time.header_timeout,
        keep_alive: time.keep_alive,
        write_wait: time.write_wait,
        pong_wait: time.pong_wait,
        ping_period: time.ping_period,
    }
}

/// Returns the limits of connections and handshakes.
pub fn admission(settings: &Settings) -> Admission {
    let limits = &settings.limits;
    let rate = |count: u32| Rate::new(count, 1000, count.max(1).saturating_mul(2));
    Admission::new(
        limits.max_connections_per_address,
        rate(limits.handshake_rate_per_address),
        rate(limits.handshake_rate),
    )
    .rating(per_second(limits.request_rate_per_address, ADDRESS_BURST))
    .trusting(settings.listening.trusted_proxy.clone())
}

/// Returns the limits of the chat and of the hub behind it.
///
/// # Errors
/// One line about the first origin that cannot be read.
pub fn chat(settings: &Settings, doors: Doors) -> Result<chat::Limits, ConfigError> {
    Ok(chat::Limits { hub: hub(settings), chat: requests(settings), hosts: hosts(settings)?, doors })
}

fn hub(settings: &Settings) -> HubLimits {
    let limits = &settings.limits;
    HubLimits {
        rooms_per_session: limits.rooms_per_session as usize,
        presence_max: limits.presence_max as usize,
        page_bytes: limits.page_bytes,
        page_messages: api::PAGE_MAX,
        reads_in_flight: limits.reads_in_flight as usize,
        // The memory log already has everything in memory.
        tail_bytes: if settings.storage.durability == Durability::Memory { 0 } else { limits.tail_bytes },
        tail_bytes_total: limits.tail_bytes_total,
        delivery_budget: limits.delivery_budget as usize,
        room_delivery_rate: limits.room_delivery_rate as usize,
        // Two batches fit into a queue.
        batch_bytes: limits.queue_bytes / 2,
        resume_within: settings.time.resume_within,
        detached_max: limits.detached_max,
        // Twice as often as the store counts on.
        renew_use: store::use_recorded_after(settings.storage.park_for.div_ceil(1000)) * 500,
    }
}

fn requests(settings: &Settings) -> ChatLimits {
    let limits = &settings.limits;
    ChatLimits {
        append_bytes: limits.append_bytes,
        body_depth: limits.body_depth as usize,
        auth_wait: settings.access.auth_wait,
        encrypted_rooms: EncryptedRooms::new(settings.listening.encrypted_rooms.iter().map(String::as_str)),
        requests: Rate::new(limits.request_rate, 1000, limits.request_burst),
        errors: Rate::new(limits.error_budget, 60_000, limits.error_budget),
        rooms: RoomRates {
            own: per_second(limits.room_rate_per_address, OWN_ROOMS_BURST),
            all: per_second(limits.room_rate, ROOMS_BURST),
        },
        welcome: WelcomeLimits {
            max_message_size: limits.max_message_size,
            in_flight: limits.in_flight as usize,
            rooms_per_session: limits.rooms_per_session as usize,
            page_bytes: limits.page_bytes,
            request_rate: limits.request_rate,
            ping_period: settings.time.ping_period,
            durability: settings.storage.durability,
        },
        resume_within: settings.time.resume_within,
        park_for: settings.storage.park_for.div_ceil(1000),
    }
}

fn hosts(settings: &Settings) -> Result<HostRules, ConfigError> {
    let mut origins = Vec::new();
    for text in &settings.listening.allow_origin {
        let origin = Origin::parse(text);
        origins.push(origin.ok_or_else(|| ConfigError::new(&format!("allow-origin {text}: {}", Origin::RULE)))?);
    }
    Ok(HostRules { hosts: Hosts::new(&settings.listening.host), own: Hosts::default(), origins })
}

/// Returns the store's limits of size and retention.
pub fn store(settings: &Settings) -> Bounds {
    let storage = &settings.storage;
    Bounds {
        max_database_size: storage.max_database_size,
        keep_messages: storage.keep_messages,
        keep_for: storage.keep_for,
        rooms_max: u64::from(storage.rooms_max),
        parked_max: u64::from(storage.parked_max),
        park_for: storage.park_for.div_ceil(1000),
        commit_delay: Duration::from_millis(storage.commit_delay),
        memory_room_bytes: settings.limits.tail_bytes,
        memory_total_bytes: settings.limits.tail_bytes_total,
    }
}
