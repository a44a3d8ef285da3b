//! From the settings to what chat and hub keep within, at the start and whenever the settings change. Durations are
//! milliseconds, sizes bytes.

use super::ChatLimits;
use crate::api::{self, Access};
use crate::config::Settings;
use crate::conn::Rate;
use crate::http::authority::Origin;
use crate::http::hosts::Hosts;
use crate::hub::HubLimits;
use crate::protocol::encrypted::EncryptedRooms;
use crate::protocol::server::Limits as WelcomeLimits;
use crate::types::Durability;

pub fn hub(settings: &Settings) -> HubLimits {
    let limits = &settings.limits;
    HubLimits {
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
    }
}

pub fn chat(settings: &Settings) -> ChatLimits {
    let limits = &settings.limits;
    ChatLimits {
        append_bytes: limits.append_bytes,
        body_depth: limits.body_depth as usize,
        encrypted_rooms: EncryptedRooms::new(settings.listening.encrypted_rooms.iter().map(String::as_str)),
        requests: Rate::new(limits.request_rate, 1000, limits.request_burst),
        errors: Rate::new(limits.error_budget, 60_000, limits.error_budget),
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

/// Who may ask, as far as the settings say.
///
/// # Errors
/// The first origin that is none.
pub fn access(settings: &Settings) -> Result<Access, String> {
    let mut origins = Vec::new();
    for text in &settings.listening.allow_origin {
        let origin = Origin::parse(text);
        origins.push(origin.ok_or_else(|| format!("allow-origin {text}: {}", Origin::RULE))?);
    }
    Ok(Access { hosts: Hosts::new(&settings.listening.host), own: Hosts::default(), origins })
}
