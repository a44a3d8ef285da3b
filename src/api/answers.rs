//! The answers of the HTTP API.

use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::hub::{HubError, Roster};
use crate::protocol::json::{write_number, write_string};
use crate::protocol::server;
use crate::store::Page;
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

/// What the hub did not do, as a status.
pub fn refusal(error: HubError) -> Problem {
    match error {
        HubError::KeyReused => Problem::new(
            Status::UnprocessableContent,
            "this Idempotency-Key was used for another body; nothing was stored",
        )
        .member("code", "key_reused"),
        HubError::BodyReused => Problem::new(
            Status::UnprocessableContent,
            "this room has a message with this very ciphertext; nothing was stored",
        )
        .member("code", "key_reused"),
        HubError::StorageUnavailable => unavailable("the store does not answer; nothing was acknowledged", 1),
        HubError::StorageFull => {
            unavailable("the server's database has reached max_database_size; nothing was stored", 10)
        }
        // Only members of a room are told these.
        HubError::AlreadyJoined | HubError::NotJoined | HubError::NotResumable | HubError::TooManyRooms { .. } => {
            Problem::new(Status::Conflict, "that cannot be done here")
        }
    }
}

/// 503 with the seconds to wait.
pub fn unavailable(detail: impl Into<std::borrow::Cow<'static, str>>, retry_after: u64) -> Problem {
    Problem::new(Status::ServiceUnavailable, detail).header("Retry-After", retry_after.to_string())
}

/// 403: what was asked for would go over the wire in the clear.
pub fn sealed_only() -> Problem {
    let detail = "this server tells nothing in the clear: open a WebSocket at /ws with the subprotocol racerd.v1.sealed, \
                  or come over TLS";
    Problem::new(Status::Forbidden, detail)
}

/// 429 with the milliseconds to wait, given in whole seconds.
pub fn too_many(detail: &'static str, retry_after_ms: u64) -> Problem {
    Problem::new(Status::TooManyRequests, detail)
        .header("Retry-After", retry_after_ms.div_ceil(1000).max(1).to_string())
}

pub fn health() -> Response {
    Response::of_api(Status::Ok, JSON, &b"{\"alive\":true}"[..])
}

/// `note`: what is to be known all the same.
pub fn ready(note: Option<&str>) -> Response {
    let Some(note) = note else { return Response::of_api(Status::Ok, JSON, &b"{\"ready\":true}"[..]) };
    let mut out = b"{\"ready\":true,\"note\":".to_vec();
    write_string(&mut out, note);
    out.push(b'}');
    Response::of_api(Status::Ok, JSON, out)
}

pub fn options(allow: &'static str) -> Response {
    Response::empty(Status::NoContent).header("Allow", allow)
}
