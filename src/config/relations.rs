//! What must hold between settings, in words. Each setting's own bounds are in its declaration.

use super::{Parsed, Settings, all, text};

/// The most that racerd's own JSON adds to a message's body, in bytes: type, room (64), member, name (32 characters of
/// up to 12 bytes where JSON escapes them), numbers, and the frame's header.
pub const ENVELOPE: usize = 1024;

/// Listeners at most: a few for each network that a machine is on.
pub const MAX_LISTENERS: usize = 64;

/// The first relation that does not hold, for the person who set the values.
pub(super) fn check(parsed: &Parsed) -> Result<(), String> {
    let Settings { listening, storage, limits, time, .. } = &parsed.settings;
    let envelope = text::show_size(ENVELOPE as u64);
    let whole = limits.max_message_size.saturating_add(ENVELOPE);
    let page = limits.page_bytes.saturating_add(ENVELOPE);
    let smallest_database = 1 << 20;

    let relations: [(bool, &[&str], String); 9] = [
        (
            // gorilla/websocket: pingPeriod is at most 9/10 of pongWait, or a pong could come too late.
            time.ping_period.saturating_mul(10) <= time.pong_wait.saturating_mul(9),
            &["ping_period", "pong_wait"],
            "the first must be at most 9/10 of the second, so that a pong can come in time".to_string(),
        ),
        (
            limits.queue_bytes >= whole,
            &["queue_bytes", "max_message_size"],
            format!("the first must be the larger by at least {envelope}, so that a message fits into the queue"),
        ),
        (
            limits.reply_bytes >= whole,
            &["reply_bytes", "max_message_size"],
            format!("the first must be the larger by at least {envelope}, so that a page of one message fits"),
        ),
        (
            limits.reply_bytes >= page,
            &["reply_bytes", "page_bytes"],
            format!("the first must be the larger by at least {envelope}, so that a page fits"),
        ),
        (
            limits.queue_bytes >= page,
            &["queue_bytes", "page_bytes"],
            format!("the first must be the larger by at least {envelope}, so that a page fits into the queue"),
        ),
        (
            limits.append_bytes >= whole,
            &["append_bytes", "max_message_size"],
            format!("the first must be the larger by at least {envelope}, so that a send can wait for the store"),
        ),
        (listening.listen.len() <= MAX_LISTENERS, &["listen"], format!("at most {MAX_LISTENERS} addresses")),
        (
            limits.tail_bytes <= limits.tail_bytes_total,
            &["tail_bytes", "tail_bytes_total"],
            "the first must be at most the second".to_string(),
        ),
        (
            storage.max_database_size == 0 || storage.max_database_size >= smallest_database,
            &["max_database_size"],
            format!("an empty database needs some room: at least {}, or 0", text::show_size(smallest_database)),
        ),
    ];
    for (holds, fields, words) in relations {
        if !holds {
            let setting = |field: &&str| all().find(|setting| setting.field == *field);
            let named: Vec<String> = fields.iter().filter_map(setting).map(|setting| parsed.spelled(setting)).collect();
            return Err(format!("{}: {words}", named.join(" and ")));
        }
    }
    Ok(())
}

/// Refuses a listener that others can reach, unless `open` says that this is meant.
///
/// # Errors
/// One line that names the address and the option.
pub fn exposed(parsed: &Parsed) -> Result<(), String> {
    let listening = &parsed.settings.listening;
    let reachable = listening.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
    match reachable {
        Some(address) if !listening.open => {
            let listen = all().find(|setting| setting.field == "listen");
            let origin = listen.map_or_else(String::new, |setting| parsed.origin(setting));
            Err(format!(
                "{origin}: everyone who can reach {address} could read and write every room; add --open \
                 (RACERD_OPEN=true, open = true) if that is meant, or listen on 127.0.0.1"
            ))
        }
        _ => Ok(()),
    }
}
