//! The answers of the HTTP API.

use std::collections::BTreeMap;

use crate::access::Denied;
use crate::http::authorization;
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::hub::{HubError, Roster};
use crate::json::Object;
use crate::protocol::reasons::{self, Reason, StoreFault};
use crate::protocol::{ErrorCode, server};
use crate::store::{About, Page, Why};
use crate::types::{Epoch, RoomId, Seq, WallMillis};

const JSON: &str = "application/json";

/// Makes an API answer whose body is one JSON object.
fn json(status: Status, write: impl FnOnce(&mut Vec<u8>)) -> Response {
    let mut out = Vec::new();
    write(&mut out);
    Response::of_api(status, JSON, out)
}

/// Answers with one page of a room's messages.
pub fn messages(page: &Page, epoch: &Epoch) -> Response {
    json(Status::Ok, |out| {
        let object = Object::new(out)
            .plain("room", page.room.as_str())
            .string("epoch", &epoch.0)
            .number("head", page.head.0)
            .number("oldest", page.oldest.0)
            .flag("more", page.more);
        server::messages(object, &page.messages).end();
    })
}

/// Answers with the members of a room.
pub fn members(room: &RoomId, roster: &Roster<'_>) -> Response {
    json(Status::Ok, |out| server::roster(Object::new(out).plain("room", room.as_str()), roster).end())
}

/// Answers that a message was stored (201), or had been stored before under the same key (200).
pub fn published(seq: Seq, at: WallMillis, duplicate: bool) -> Response {
    json(if duplicate { Status::Ok } else { Status::Created }, |out| {
        server::stored(Object::new(out), seq, at, duplicate).end();
    })
}

/// Returns the refusal as an HTTP problem, worded as on a socket.
pub fn refusal(reason: Reason) -> Problem {
    let Reason { code, field, text, retry_after_ms } = reason;
    let status = match code {
        ErrorCode::StorageUnavailable => Status::ServiceUnavailable,
        ErrorCode::RateLimited => Status::TooManyRequests,
        ErrorCode::Unauthorized => Status::Unauthorized,
        ErrorCode::Forbidden => Status::Forbidden,
        ErrorCode::KeyReused | ErrorCode::NotEncrypted => Status::UnprocessableContent,
        ErrorCode::BadJson | ErrorCode::UnknownType | ErrorCode::BadField => Status::BadRequest,
        ErrorCode::NameTaken => Status::Conflict,
        // Only members of a room get these codes.
        ErrorCode::AlreadyJoined | ErrorCode::NotJoined | ErrorCode::NotResumable | ErrorCode::TooManyRooms => {
            Status::Conflict
        }
    };
    let mut problem = Problem::new(status, text).member("code", code.as_str());
    if status == Status::Unauthorized {
        problem = problem.header("WWW-Authenticate", authorization::CHALLENGE);
    }
    if let Some(field) = field {
        problem = problem.member("field", if field == "key" { "Idempotency-Key" } else { field });
    }
    match retry_after_ms {
        Some(ms) => problem.header("Retry-After", ms.div_ceil(1000).max(1).to_string()),
        None => problem,
    }
}

/// Refuses with 403 a request whose content would go over the wire in the clear. The page recognizes it by its `code`.
pub fn sealed_only() -> Problem {
    let detail = "this server sends nothing unencrypted: open a WebSocket at /ws with the subprotocol racerd.v1.sealed, \
                  or connect over TLS";
    Problem::new(Status::Forbidden, detail).member("code", "sealed_only")
}

/// Refuses with 401 or 403 what whoever asks may not do in a room.
pub fn denied(denied: Denied) -> Problem {
    // The store has no part in it.
    refusal(Reason::of(HubError::Denied(denied), StoreFault::Read(Why::default())))
}

/// Refuses with 409 a name that a guest may not take.
pub fn name_taken() -> Problem {
    Problem::new(Status::Conflict, reasons::NAME_TAKEN)
        .member("code", ErrorCode::NameTaken.as_str())
        .member("field", "name")
}

/// Refuses with 401 a token by which nobody is known.
pub fn unknown_token() -> Problem {
    Problem::new(Status::Unauthorized, reasons::UNKNOWN_PERSON)
        .member("code", ErrorCode::Unauthorized.as_str())
        .header("WWW-Authenticate", authorization::INVALID)
}

/// Refuses with 429 a request over the rate limit, with the milliseconds until the next one is allowed. The connection
/// stays open.
pub fn too_fast(retry_after_ms: u64) -> Problem {
    Problem::too_many(reasons::TOO_FAST, retry_after_ms).member("code", ErrorCode::RateLimited.as_str())
}

pub fn health() -> Response {
    json(Status::Ok, |out| Object::new(out).flag("alive", true).end())
}

/// Answers that the server is ready. `notes` are warnings that the operator should see nevertheless.
pub fn ready(notes: &BTreeMap<About, String>) -> Response {
    let notes: Vec<&str> = notes.values().map(String::as_str).collect();
    json(Status::Ok, |out| {
        let object = Object::new(out).flag("ready", true);
        match notes.is_empty() {
            true => object.end(),
            false => object.string("note", &notes.join("; ")).end(),
        }
    })
}

/// Redirects to another URL, relative to the requested one; the method stays the same.
pub fn moved(location: &str) -> Response {
    Response::empty(Status::PermanentRedirect).header("Location", location).header("Cache-Control", "no-cache")
}

pub fn options(allow: &'static str) -> Response {
    Response::empty(Status::NoContent).header("Allow", allow)
}
