//! Relations that must hold between settings, and their error texts. Each setting's own bounds are in its declaration.

use super::{ConfigError, Parsed, Settings, all, text};
use crate::types::size::MAX_ENVELOPE;

/// Maximum number of listeners: a few for each network of a machine.
pub const MAX_LISTENERS: usize = 64;

/// Checks all relations; the error names the first relation that does not hold, in words for the user.
pub(super) fn check(parsed: &Parsed) -> Result<(), String> {
    for Relation { holds, fields, words } in relations(&parsed.settings) {
        if !holds {
            let setting = |field: &&str| all().find(|setting| setting.field == *field);
            let named: Vec<String> = fields.iter().filter_map(setting).map(|setting| parsed.spelled(setting)).collect();
            return Err(format!("{}: {words}", named.join(" and ")));
        }
    }
    Ok(())
}

/// A relation that must hold between settings.
struct Relation {
    holds: bool,
    fields: &'static [&'static str],
    /// The rule in words, printed after the settings and their values.
    words: String,
}

fn relations(settings: &Settings) -> Vec<Relation> {
    let Settings { listening, tls, sealed, storage, limits, time, .. } = settings;
    let envelope = text::show_size(MAX_ENVELOPE as u64);
    let whole = limits.max_message_size.saturating_add(MAX_ENVELOPE);
    let page = limits.page_bytes.saturating_add(MAX_ENVELOPE);
    let smallest_database = 1 << 20;
    let places = || listening.listen.iter().chain(&tls.plain_listen);
    let clash = places()
        .enumerate()
        .find_map(|(at, place)| places().take(at).find(|other| place.overlaps(other)).map(|other| (other, place)));

    vec![
        Relation {
            // gorilla/websocket: pingPeriod is at most 9/10 of pongWait, or a pong could arrive too late.
            holds: time.ping_period.saturating_mul(10) <= time.pong_wait.saturating_mul(9),
            fields: &["ping_period", "pong_wait"],
            words: "the first must be at most 9/10 of the second, so that a pong can come in time".to_string(),
        },
        Relation {
            holds: limits.queue_bytes >= whole,
            fields: &["queue_bytes", "max_message_size"],
            words: format!(
                "the first must be the larger by at least {envelope}, so that a message fits into the queue"
            ),
        },
        Relation {
            holds: limits.reply_bytes >= whole,
            fields: &["reply_bytes", "max_message_size"],
            words: format!("the first must be the larger by at least {envelope}, so that a page of one message fits"),
        },
        Relation {
            holds: limits.reply_bytes >= page,
            fields: &["reply_bytes", "page_bytes"],
            words: format!("the first must be the larger by at least {envelope}, so that a page fits"),
        },
        Relation {
            holds: limits.queue_bytes >= page,
            fields: &["queue_bytes", "page_bytes"],
            words: format!("the first must be the larger by at least {envelope}, so that a page fits into the queue"),
        },
        Relation {
            holds: limits.append_bytes >= whole,
            fields: &["append_bytes", "max_message_size"],
            words: format!(
                "the first must be the larger by at least {envelope}, so that a send can wait for the store"
            ),
        },
        Relation {
            holds: places().map(|place| place.ips().len()).sum::<usize>() <= MAX_LISTENERS,
            fields: &["listen", "plain_listen"],
            words: format!("at most {MAX_LISTENERS} addresses in all"),
        },
        Relation {
            holds: clash.is_none(),
            fields: &["listen", "plain_listen"],
            words: clash.map_or_else(String::new, |(one, other)| {
                format!("{one} and {other} have an address in common, and it can be listened on once; leave one out")
            }),
        },
        Relation {
            holds: tls.plain_listen.is_empty() || tls.is_on(),
            fields: &["plain_listen", "tls_cert", "tls_self_signed"],
            words:
                "the first is for a server that speaks TLS elsewhere; without one of the others, name its addresses \
                    in listen"
                    .to_string(),
        },
        Relation {
            holds: match tls.tls_key.len() {
                0 => tls.tls_cert.is_empty(),
                1 => !tls.tls_cert.is_empty(),
                keys => keys == tls.tls_cert.len(),
            },
            fields: &["tls_cert", "tls_key"],
            words: "give a key for each certificate, in the same order, or one for all".to_string(),
        },
        Relation {
            holds: tls.tls_cert.is_empty() || tls.tls_self_signed.is_none(),
            fields: &["tls_cert", "tls_self_signed"],
            words: "give one of the two".to_string(),
        },
        Relation {
            holds: sealed.sealed_key.len() <= 2,
            fields: &["sealed_key"],
            words: "at most two files: the present key, and the one before it".to_string(),
        },
        Relation {
            holds: limits.tail_bytes <= limits.tail_bytes_total,
            fields: &["tail_bytes", "tail_bytes_total"],
            words: "the first must be at most the second".to_string(),
        },
        Relation {
            holds: storage.max_database_size == 0 || storage.max_database_size >= smallest_database,
            fields: &["max_database_size"],
            words: format!("an empty database needs some room: at least {}, or 0", text::show_size(smallest_database)),
        },
    ]
}

/// Refuses a listener that other machines can reach, unless the settings say who may enter.
///
/// # Errors
/// One line that names the address and the option.
pub fn exposed(parsed: &Parsed) -> Result<(), ConfigError> {
    let listening = &parsed.settings.listening;
    let listen = listening.listen.iter().map(|address| ("listen", address));
    let plain = parsed.settings.tls.plain_listen.iter().map(|address| ("plain_listen", address));
    let reachable = listen.chain(plain).find(|(_, address)| !address.is_loopback());
    match reachable {
        Some((field, address)) if !parsed.settings.says_who_enters() => {
            let listen = all().find(|setting| setting.field == field);
            let origin = listen.map_or_else(String::new, |setting| parsed.origin(setting));
            Err(ConfigError::new(&format!(
                "{origin}: everyone who can reach {address} could read and write every room; say who may enter with \
                 --access-file, add --open (RACERD_OPEN=true, open = true) if everyone is meant, or listen on 127.0.0.1"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only live settings change while running. If a relation's settings are either all live or all not live, the
    /// settings that a running server takes over from a valid file are valid, too.
    #[test]
    fn each_names_settings_that_change_together() {
        for relation in relations(&Settings::default()) {
            assert!(relation.holds, "{:?}", relation.fields);
            let live = |field: &&str| all().find(|setting| setting.field == *field).expect("a setting").live;
            let count = relation.fields.iter().filter(|field| live(field)).count();
            assert!(count == 0 || count == relation.fields.len(), "{:?}", relation.fields);
        }
    }
}
