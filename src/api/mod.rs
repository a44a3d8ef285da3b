//! The HTTP API: the meaning of each request, and the JSON of the answers. Pure: a request becomes an [`Action`], which
//! the chat carries out with the hub and the store; this module knows neither sockets nor rooms.

pub mod answers;
pub mod events;

use crate::access::{Operation, Who};
use crate::http::authority::{Origin, named_origin_allowed, origin_allowed};
use crate::http::hosts::{Hosts, host_allowed};
use crate::http::method::Method;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::hub::{Presence, Start};
use crate::protocol::body::check_body;
use crate::protocol::client::DEFAULT_PAGE;
use crate::protocol::encrypted::{self, EncryptedRooms};
use crate::store::Span;
use crate::types::{Body, Digest, IdempotencyKey, MAX_NUMBER, Name, RoomId, Seq};
use crate::web::Asset;
use crate::ws::handshake::{self, Spoken};

/// Host names and origins that are accepted (docs/protocol.md, "Who may ask").
#[derive(Clone, Debug, Default)]
pub struct HostRules {
    /// Host names from the settings.
    pub hosts: Hosts,
    /// Host names of the machine and of the loaded certificates.
    pub own: Hosts,
    /// Allowed origins, in addition to the host itself.
    pub origins: Vec<Origin>,
}

/// The action that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The URL of a WebSocket; [`socket`] checks the request once it is clear that one more is admitted.
    Socket {
        room: Option<RoomId>,
    },
    /// A room's event stream; [`events::opening`] checks the request once it is clear that one more is admitted.
    Events {
        room: RoomId,
    },
    Browse {
        room: RoomId,
        span: Span,
        limit: u32,
    },
    Publish {
        room: RoomId,
        name: Option<Name>,
        key: Option<PostKey>,
    },
    Members {
        room: RoomId,
    },
    /// A file of the web page.
    Page(Asset),
    /// No resource is at this URL, but one is at `location`, relative to the requested URL.
    Moved {
        location: String,
    },
    Health,
    Ready,
    /// OPTIONS: the methods allowed here.
    Options {
        allow: &'static str,
    },
}

impl Action {
    /// Returns whether the answer is made from what is at hand, and must be had even from a busy server: the page, and
    /// whether the server lives.
    pub fn is_light(&self) -> bool {
        matches!(self, Action::Page(_) | Action::Moved { .. } | Action::Health | Action::Ready)
    }

    /// Returns whether the request or its answer reveals messages or members. A WebSocket's handshake does not.
    pub fn tells(&self) -> bool {
        match self {
            Action::Events { .. } | Action::Browse { .. } | Action::Publish { .. } | Action::Members { .. } => true,
            Action::Socket { .. } | Action::Page(_) | Action::Moved { .. } => false,
            Action::Health | Action::Ready | Action::Options { .. } => false,
        }
    }
}

impl Action {
    /// Returns whether the action counts against the rate of handshakes instead of that of requests, where a trusted
    /// proxy brings it.
    pub fn has_a_rate_of_its_own(&self) -> bool {
        matches!(self, Action::Socket { .. } | Action::Events { .. })
    }
}

impl Action {
    /// Returns what a plain request does in which room. A socket and an event stream are looked at when they open.
    pub fn operation(&self) -> Option<(Operation, &RoomId)> {
        match self {
            Action::Browse { room, .. } => Some((Operation::History, room)),
            Action::Members { room } => Some((Operation::Members, room)),
            Action::Publish { room, .. } => Some((Operation::Publish, room)),
            Action::Socket { .. } | Action::Events { .. } | Action::Page(_) | Action::Moved { .. } => None,
            Action::Health | Action::Ready | Action::Options { .. } => None,
        }
    }
}

/// The idempotency key of a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostKey {
    pub key: IdempotencyKey,
    /// Whether it has too few characters for the scope that all guests share.
    is_short: bool,
}

impl PostKey {
    /// Returns the key as the store keeps it: apart from others' if it is known who posts.
    ///
    /// # Errors
    /// 400 for a short one of a guest.
    pub fn of(self, who: &Who) -> Result<IdempotencyKey, Problem> {
        match who {
            Who::Known(identity) => Ok(identity.scoped(self.key)),
            Who::Guest if self.is_short => Err(bad_key(
                "an Idempotency-Key has 22 to 200 characters and is random: all guests who post share one scope",
            )),
            Who::Guest => Ok(self.key),
        }
    }
}

fn bad_key(detail: &'static str) -> Problem {
    bad("Idempotency-Key", detail)
}

/// The parameters with which a WebSocket opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub upgrade: crate::ws::handshake::Upgrade,
    pub name: Option<Name>,
    pub start: Start,
    pub presence: Presence,
}

/// Shortest idempotency key of a guest's POST, in bytes: all of those share one scope, so keys must not be guessable.
const MIN_COMMON_KEY: usize = 22;

enum Resource {
    Socket(Option<RoomId>),
    Messages(RoomId),
    Events(RoomId),
    Members(RoomId),
    Page(Asset),
    Health,
    Ready,
    /// `OPTIONS *`: the server as a whole.
    Server,
}

impl Resource {
    /// Finds the resource at a path, given as its decoded segments.
    fn at(segments: &[&str]) -> Result<Resource, Problem> {
        let room = |text: &str| RoomId::parse(text).ok_or_else(|| Problem::new(Status::NotFound, RoomId::RULE));
        Ok(match *segments {
            [] => Resource::Server,
            [""] => Resource::Page(Asset::HOME),
            ["ws"] => Resource::Socket(None),
            ["healthz"] => Resource::Health,
            ["readyz"] => Resource::Ready,
            ["rooms", id] => {
                room(id)?;
                Resource::Page(Asset::ROOM)
            }
            ["rooms", id, "ws"] => Resource::Socket(Some(room(id)?)),
            ["rooms", id, "messages"] => Resource::Messages(room(id)?),
            ["rooms", id, "events"] => Resource::Events(room(id)?),
            ["rooms", id, "members"] => Resource::Members(room(id)?),
            ref segments => Resource::Page(Asset::at(segments).ok_or_else(|| {
                Problem::new(
                    Status::NotFound,
                    "nothing is here; there are /, /rooms/{room}, /rooms/{room}/ws, /rooms/{room}/messages, \
                     /rooms/{room}/events, /rooms/{room}/members, /ws, /healthz and /readyz",
                )
            })?),
        })
    }

    fn allow(&self) -> &'static str {
        match self {
            Resource::Messages(_) | Resource::Server => "GET, HEAD, POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

/// Determines the action that a request asks for, and whether its sender may ask for it. Health checks are answered
/// under any host name, because monitors of many servers use names of their own.
///
/// # Errors
/// 400, 403, 404, 405, 415 or 421, each saying what to do.
pub fn action(request: &Request, rules: &HostRules) -> Result<Action, Problem> {
    let segments = request.target.segments();
    let resource = Resource::at(&segments);
    if !matches!(resource, Ok(Resource::Health | Resource::Ready)) {
        host_allowed(request.authority.as_ref(), &[&rules.hosts, &rules.own])?;
    }
    let resource = match resource {
        Ok(resource) => resource,
        Err(problem) => {
            let path = moved(&segments).ok_or(problem)?;
            return Ok(Action::Moved { location: path + &request.target.query_text() });
        }
    };
    let changes = !matches!(request.method, Method::Get | Method::Head | Method::Options);
    if changes || matches!(resource, Resource::Socket(_)) && request.method != Method::Options {
        origin_allowed(&request.headers, request.authority.as_ref(), &rules.origins)?;
    }
    // A page may ask by a plain GET how an upgrade would fare. To the page's own host, its browser sends Origin only
    // with the upgrade (Fetch standard, §3.1), and a script cannot set it; so the query may carry the origin.
    if matches!(resource, Resource::Socket(_))
        && !handshake::wants_upgrade(request)
        && let Some(origin) = request.target.query.one("origin")?
    {
        named_origin_allowed(origin, request.authority.as_ref(), &rules.origins)?;
    }
    let allow = resource.allow();
    if request.method == Method::Options {
        return Ok(Action::Options { allow });
    }
    let reads = matches!(request.method, Method::Get | Method::Head);
    match resource {
        // `socket` refuses a request that is not a correct handshake.
        Resource::Socket(room) if reads => Ok(Action::Socket { room }),
        Resource::Messages(room) if reads => browse(request, room),
        Resource::Messages(room) if request.method == Method::Post => publish(request, room),
        Resource::Events(room) if reads => Ok(Action::Events { room }),
        Resource::Members(room) if reads => Ok(Action::Members { room }),
        Resource::Page(asset) if reads => Ok(Action::Page(asset)),
        Resource::Health if reads => Ok(Action::Health),
        Resource::Ready if reads => Ok(Action::Ready),
        _ => {
            Err(Problem::new(Status::MethodNotAllowed, format!("this resource allows {allow}")).header("Allow", allow))
        }
    }
}

/// Returns the location of the resource that a path with one slash too many, or cut short, stands for; `None` if there
/// is none. The location is relative, so that it also holds if a proxy serves us under a path of its own (RFC 3986
/// §5.2).
fn moved(segments: &[&str]) -> Option<String> {
    match *segments {
        ["rooms"] => Some("./".to_string()),
        ["rooms", ""] => Some("../".to_string()),
        // The paths of resources need no escaping: they consist of unreserved characters (RFC 3986 §2.3).
        [ref whole @ .., ""] => {
            let last = whole.last().filter(|last| !last.is_empty())?;
            Resource::at(whole).is_ok().then(|| format!("../{last}"))
        }
        _ => None,
    }
}

/// Checks the query of a WebSocket's URL, then its handshake; `spoken` is the agreed protocol.
///
/// # Errors
/// 400, 405 or 426. Faults of the URL come before faults of the handshake, so that a plain GET of the same URL reveals
/// them.
pub fn socket(request: &Request, spoken: Spoken) -> Result<Opening, Problem> {
    let query = &request.target.query;
    // A request's URL and headers go over the wire in the clear.
    let is_bare = *request.target.segments() == ["ws"] && query.is_empty();
    if spoken == Spoken::Sealed && handshake::wants_upgrade(request) && !is_bare {
        let detail = "a sealed socket is opened at /ws without a query: room and name go inside, with 'join'";
        return Err(Problem::new(Status::BadRequest, detail).closing());
    }
    let start = start(request)?;
    let presence = match query.one("presence")? {
        None | Some("full") => Presence::Full,
        Some("count") => Presence::Count,
        Some("off") => Presence::Off,
        Some(_) => return Err(bad("presence", "'presence' is full, count or off")),
    };
    let name = name(request)?;
    Ok(Opening { upgrade: handshake::check(request, spoken)?, name, start, presence })
}

/// Returns whether a socket's client says who it is before anything else.
///
/// # Errors
/// 400.
pub fn auth_first(request: &Request) -> Result<bool, Problem> {
    match request.target.query.one("auth")? {
        None => Ok(false),
        Some("first") => Ok(true),
        Some(_) => Err(bad("auth", "'auth' is first, or left out")),
    }
}

/// Returns the starting point of a stream, as the query gives it.
fn start(request: &Request) -> Result<Start, Problem> {
    Ok(match (number(request, "after")?, number(request, "last")?) {
        (Some(_), Some(_)) => return Err(bad("last", "'after' and 'last' exclude each other")),
        (Some(seq), None) => Start::After { seq: Seq(seq), epoch: request.target.query.one("epoch")?.map(Into::into) },
        (None, Some(last)) if last > 0 => Start::Last(last.min(u64::from(PAGE_MAX)) as u32),
        _ => Start::Now,
    })
}

/// Messages of one page, at most.
pub const PAGE_MAX: u32 = 200;

fn browse(request: &Request, room: RoomId) -> Result<Action, Problem> {
    let span = match (number(request, "after")?, number(request, "before")?) {
        (Some(_), Some(_)) => return Err(bad("before", "'after' and 'before' exclude each other")),
        (Some(seq), None) => Span::After(Seq(seq)),
        (None, Some(seq)) => Span::Before(Seq(seq)),
        (None, None) => Span::Newest,
    };
    let limit = number(request, "limit")?.unwrap_or(u64::from(DEFAULT_PAGE));
    if limit == 0 {
        return Err(bad("limit", "'limit' is at least 1"));
    }
    Ok(Action::Browse { room, span, limit: limit.min(u64::from(PAGE_MAX)) as u32 })
}

fn publish(request: &Request, room: RoomId) -> Result<Action, Problem> {
    let media_type = request.headers.one("Content-Type")?.unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            Status::UnsupportedMediaType,
            "the body is the message, one JSON value, sent with 'Content-Type: application/json'",
        ));
    }
    let key = match request.headers.one("Idempotency-Key")? {
        None => None,
        Some(key) if (1..=IdempotencyKey::MAX).contains(&key.len()) => {
            Some(PostKey { key: IdempotencyKey::of(key.as_bytes()), is_short: key.len() < MIN_COMMON_KEY })
        }
        Some(_) => {
            return Err(bad_key(
                "an Idempotency-Key has 1 to 200 characters; that of a guest at least 22, and it is random",
            ));
        }
    };
    Ok(Action::Publish { room, name: name(request)?, key })
}

/// The rules for the body of a POST.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    /// Deepest nesting.
    pub depth: usize,
    /// The idempotency key sent with it.
    pub key: Option<IdempotencyKey>,
    /// Whether the room takes only encrypted messages.
    pub encrypted_only: bool,
}

/// Checks the body of a POST: one JSON value, encrypted where the room requires it. Returns it with its digest if it is
/// encrypted.
///
/// # Errors
/// 400; 422, with the reason in `code`, for a body that is not encrypted or is sealed under another key.
pub fn published_body(bytes: &[u8], rules: BodyRules) -> Result<(Body, Option<Digest>), Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| bad("body", "the body is not UTF-8"))?;
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).map_err(|error| {
        bad("body", format!("the body is not one JSON value (line {}, column {})", error.line(), error.column()))
    })?;
    check_body(raw.get(), rules.depth).map_err(|fault| bad("body", format!("the body is {fault}")))?;
    let refused = |code, text| Problem::new(Status::UnprocessableContent, text).member("code", code);
    match encrypted::of_send(raw.get(), rules.key) {
        Err(fault) => Err(refused("bad_field", fault.text()).member("field", fault.field())),
        Ok(None) if rules.encrypted_only => Err(refused("not_encrypted", EncryptedRooms::REFUSAL)),
        Ok(sealed) => Ok((Body::checked(raw.get().into()), sealed)),
    }
}

/// Returns the name that a request asks for.
///
/// # Errors
/// 400.
pub fn name(request: &Request) -> Result<Option<Name>, Problem> {
    match request.target.query.one("name")? {
        None => Ok(None),
        Some(text) => Name::parse(text).map(Some).map_err(|fault| bad("name", fault.text())),
    }
}

fn number(request: &Request, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(text) = request.target.query.one(name)? else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(n) if digits && n <= MAX_NUMBER => Ok(Some(n)),
        _ => Err(bad(name, format!("'{name}' is a whole number from 0 to 2^53"))),
    }
}

fn bad(field: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Status::BadRequest, detail).member("field", field)
}

#[cfg(test)]
mod tests;
