//! Refusals in one table for sockets, event streams and HTTP: one code for programs, one sentence for people, and when
//! to retry. None of them names a path on the server.

use std::borrow::Cow;

use super::errors::{ErrorCode, Refusal};
use crate::access::Denied;
use crate::hub::HubError;
use crate::store::Why;
use crate::types::Right;

/// The refusal of a request over the rate limit.
pub const TOO_FAST: &str = "too many requests in a short time";

/// The refusal of a token that no server has issued on this database.
pub const UNKNOWN_TOKEN: &str = "unknown session token; join again";

/// The refusal of credentials by which nobody is known.
pub const UNKNOWN_PERSON: &str = "nobody is known by this token";

/// The refusal of a name that a guest may not take.
pub const NAME_TAKEN: &str = "this is the name of somebody who is known here, or looks like it; choose another one";

/// The refusal of a request before its client has said who it is.
pub const AUTH_FIRST: &str = "say first who this is: 'auth', with a token";

/// The operation in which the store failed, with the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    Append(Why),
    Read(Why),
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: ErrorCode,
    /// The request's field at fault.
    pub field: Option<&'static str>,
    pub text: Cow<'static, str>,
    pub retry_after_ms: Option<u64>,
}

impl Reason {
    /// Returns the reason why the hub refuses; `outage` gives the operation and the cause if the store is unavailable.
    pub fn of(error: HubError, outage: StoreFault) -> Reason {
        let (code, text): (ErrorCode, Cow<'static, str>) = match error {
            HubError::Denied(denied) => (code_of(denied), denial(denied)),
            HubError::AlreadyJoined => (ErrorCode::AlreadyJoined, "this session is in that room already".into()),
            HubError::NotJoined => (ErrorCode::NotJoined, "join the room first".into()),
            HubError::TooManyRooms { limit } => {
                (ErrorCode::TooManyRooms, format!("a session is in at most {limit} rooms").into())
            }
            HubError::StorageFull => {
                (ErrorCode::StorageUnavailable, format!("{}; nothing was stored", Why::AtBound.text()).into())
            }
            HubError::OverShare => (
                ErrorCode::StorageUnavailable,
                "the server's database has nearly reached max_database_size, and this address has written more than its \
                 share of what is left; nothing was stored. Its operator can raise that, or let old messages expire \
                 (keep_messages, keep_for)"
                    .into(),
            ),
            HubError::RoomsFull { limit } => (
                ErrorCode::StorageUnavailable,
                format!(
                    "the server has as many rooms as it takes ({limit}); nothing was stored: write in a room that has \
                     messages already"
                )
                .into(),
            ),
            HubError::TooManyNew { .. } => (
                ErrorCode::RateLimited,
                "too many new rooms in a short time; nothing was stored: rooms that have messages take more".into(),
            ),
            HubError::StorageUnavailable => (ErrorCode::StorageUnavailable, outage.text().into()),
            HubError::KeyReused => {
                (ErrorCode::KeyReused, "this key was used for another body; nothing was stored".into())
            }
            HubError::BodyReused => (
                ErrorCode::KeyReused,
                "this room has a message with this very ciphertext; nothing was stored or passed on".into(),
            ),
            HubError::SessionEnded => (ErrorCode::NotResumable, "the session has ended; join again".into()),
            HubError::UnknownToken => (ErrorCode::NotResumable, UNKNOWN_TOKEN.into()),
            HubError::NotResumable => (
                ErrorCode::NotResumable,
                "the session has gone on with a later token, or this socket is in a room already; resume on a new socket"
                    .into(),
            ),
        };
        let field = match error {
            HubError::NotJoined => Some("room"),
            HubError::KeyReused => Some("key"),
            HubError::BodyReused => Some("body"),
            _ => None,
        };
        let retry_after_ms = match error {
            HubError::StorageFull | HubError::RoomsFull { .. } => Some(10_000),
            // Shares change with the hours.
            HubError::OverShare => Some(60_000),
            HubError::TooManyNew { retry_after_ms } => Some(u64::from(retry_after_ms)),
            HubError::StorageUnavailable => Some(1000),
            _ => None,
        };
        Reason { code, field, text, retry_after_ms }
    }

    /// Returns the reply to the request with this id.
    pub fn refusal(self, id: Option<u64>) -> Refusal {
        let Reason { code, field, text, retry_after_ms } = self;
        Refusal { id, code, field, message: text, retry_after_ms }
    }
}

fn code_of(denied: Denied) -> ErrorCode {
    match denied {
        Denied::Unauthorized(_) => ErrorCode::Unauthorized,
        Denied::Forbidden(_) => ErrorCode::Forbidden,
    }
}

/// Says what whoever asks may not do, and which right that needs.
pub fn denial(denied: Denied) -> Cow<'static, str> {
    let doing = |right| match right {
        Right::Read => "read this room",
        Right::Send => "write in this room",
        Right::Moderate => "moderate this room",
    };
    match denied {
        Denied::Unauthorized(right) => format!("guests may not {}; say who you are, with a token", doing(right)).into(),
        Denied::Forbidden(right) => format!("you may not {}: that needs the right '{right}'", doing(right)).into(),
    }
}

impl StoreFault {
    fn text(self) -> String {
        match self {
            StoreFault::Append(why) => {
                format!("{}; nothing was acknowledged: send it again, with the same key", why.text())
            }
            StoreFault::Read(why) => format!("{}; the room's messages cannot be read now", why.text()),
        }
    }
}
