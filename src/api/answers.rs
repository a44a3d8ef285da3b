//! The answers of the HTTP API.

use std::collections::BTreeMap;

use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::hub::Roster;
use crate::protocol::json::{write_number, write_string};
use crate::protocol::reasons::{self, Reason};
use crate::protocol::{ErrorCode, server};
use crate::store::{About, Page};
use crate::types::{Epoch, RoomId, Seq, WallMillis};

const JSON: &str = "application/json";

/// The page of a room's messages that was asked for.
pub fn messages(page: &Page, epoch: &Epoch) -> Response {
    let mut out = Vec::new();
    begin_room(&mut out, &page.room);
    out.extend_from_slice(b",\"epoch\":");
    write_string(&mut out, &epoch.0);
    out.extend_from_slice(b",\"head\":");
    write_number(&mut out, page.head.0);
    out.extend_from_slice(b",\"oldest\":");
    write_number(&mut out, page.oldest.0);
    out.extend_from_slice(if page.more { b",\"more\":true" } else { b",\"more\":false" });
    server::messages(&mut out, &page.messages);
    out.push(b'}');
    Response::of_api(Status::Ok, JSON, out)
}

fn begin_room(out: &mut Vec<u8>, room: &RoomId) {
    out.extend_from_slice(b"{\"room\":");
    write_string(out, room.as_str());
}

pub fn members(room: &RoomId, roster: &Roster<'_>) -> Response {
    let mut out = Vec::new();
    begin_room(&mut out, room);
    server::roster(&mut out, roster);
    out.push(b'}');
    Response::of_api(Status::Ok, JSON, out)
}

/// A message was stored: 201; or had been before, under the same key: 200.
pub fn published(seq: Seq, at: WallMillis, duplicate: bool) -> Response {
    let mut out = b"{\"seq\":".to_vec();
    write_number(&mut out, seq.0);
    out.extend_from_slice(b",\"at\":");
    write_number(&mut out, at.0);
    out.extend_from_slice(if duplicate { b",\"duplicate\":true}" } else { b"}" });
    Response::of_api(if duplicate { Status::Ok } else { Status::Created }, JSON, out)
}

/// Returns the refusal as an HTTP status, in the same words as on a socket.
pub fn refusal(reason: Reason) -> Problem {
    let Reason { code, field, text, retry_after_ms } = reason;
    let status = match code {
        ErrorCode::StorageUnavailable => Status::ServiceUnavailable,
        ErrorCode::RateLimited => Status::TooManyRequests,
        ErrorCode::KeyReused | ErrorCode::NotEncrypted => Status::UnprocessableContent,
        ErrorCode::BadJson | ErrorCode::UnknownType | ErrorCode::BadField => Status::BadRequest,
        // Only members of a room are told these.
        ErrorCode::AlreadyJoined | ErrorCode::NotJoined | ErrorCode::NotResumable | ErrorCode::TooManyRooms => {
            Status::Conflict
        }
    };
    let mut problem = Problem::new(status, text).member("code", code.as_str());
    if let Some(field) = field {
        problem = problem.member("field", if field == "key" { "Idempotency-Key" } else { field });
    }
    match retry_after_ms {
        Some(ms) => problem.header("Retry-After", ms.div_ceil(1000).max(1).to_string()),
        None => problem,
    }
}

/// 403: what was asked for would go over the wire in the clear. The page knows it by its `code`.
pub fn sealed_only() -> Problem {
    let detail = "this server tells nothing in the clear: open a WebSocket at /ws with the subprotocol racerd.v1.sealed, \
                  or come over TLS";
    Problem::new(Status::Forbidden, detail).member("code", "sealed_only")
}

/// 429 for a request over the rate, with the milliseconds until one more is free. The connection stays.
pub fn too_fast(retry_after_ms: u64) -> Problem {
    Problem::too_many(reasons::TOO_FAST, retry_after_ms).member("code", ErrorCode::RateLimited.as_str())
}

pub fn health() -> Response {
    Response::of_api(Status::Ok, JSON, &b"{\"alive\":true}"[..])
}

/// `notes`: what is to be known all the same.
pub fn ready(notes: &BTreeMap<About, String>) -> Response {
    if notes.is_empty() {
        return Response::of_api(Status::Ok, JSON, &b"{\"ready\":true}"[..]);
    }
    let mut out = b"{\"ready\":true,\"note\":".to_vec();
    let notes: Vec<&str> = notes.values().map(String::as_str).collect();
    write_string(&mut out, &notes.join("; "));
    out.push(b'}');
    Response::of_api(Status::Ok, JSON, out)
}

/// The resource is at another URL, relative to the one that was asked for; by the same method.
pub fn moved(location: &str) -> Response {
    Response::empty(Status::PermanentRedirect).header("Location", location).header("Cache-Control", "no-cache")
}

pub fn options(allow: &'static str) -> Response {
    Response::empty(Status::NoContent).header("Allow", allow)
}
