//! Client requests: one JSON object becomes a [`Command`]. serde's `tag = "type"` buffers its input and cannot keep a
//! raw body, so the fields are collected by hand: each at most once, unknown ones ignored, `null` distinct from absent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::body::check_body;
use super::cursors;
use super::encrypted;
use super::errors::{ErrorCode, Refusal};
use super::raw::{self, FieldName};
use crate::hub::{Cursor, Presence, Start};
use crate::types::{Body, Digest, IdempotencyKey, Name, RoomId, Seq};

/// Limits on a request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deepest nesting of a body.
    pub body_depth: usize,
    /// Most messages of one `history` page or `last`.
    pub page_messages: u32,
}

/// Messages of a page if the request sets no limit.
pub const DEFAULT_PAGE: u32 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's own number for the request; the reply repeats it.
    pub id: Option<u64>,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `name`: the name that the client wants; accepted on a sealed socket that has joined nothing.
    Join {
        room: Option<RoomId>,
        start: Start,
        presence: Presence,
        name: Option<Name>,
    },
    Leave {
        room: Option<RoomId>,
    },
    /// `sealed`: the digest of an encrypted body, which names this key.
    Send {
        room: Option<RoomId>,
        key: Option<IdempotencyKey>,
        body: Body,
        sealed: Option<Digest>,
    },
    Signal {
        room: Option<RoomId>,
        body: Body,
        sealed: Option<Digest>,
    },
    History {
        room: Option<RoomId>,
        span: crate::store::Span,
        limit: u32,
    },
    Members {
        room: Option<RoomId>,
    },
    Resume {
        session: String,
        cursors: Vec<Cursor>,
    },
    /// The client says who it is, by a token.
    Auth {
        token: Credentials,
    },
    Ping,
    /// The client is done: its session ends.
    End,
}

/// A token as a client showed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

impl Credentials {
    /// Longest token, in bytes.
    pub const MAX: usize = 4096;

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Credentials {
    /// Shows nothing of it, even in debug output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// The fields of all commands, as raw text.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    body: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
    before: Option<&'a RawValue>,
    last: Option<&'a RawValue>,
    limit: Option<&'a RawValue>,
    epoch: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    token: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    cursors: Option<&'a RawValue>,
    doubled: Option<&'static str>,
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    /// Avoids serde's own refusal (also that of `deserialize_map`), which quotes the whole text, escaped, only for it
    /// to be discarded.
    fn visit_str<E: Error>(self, _: &str) -> Result<Fields<'de>, E> {
        Err(E::invalid_type(Unexpected::Other("a string"), &self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
        let mut fields = Fields::default();
        // A key with an escape cannot be borrowed; keys are compared after unescaping all the same.
        while let Some(FieldName(key)) = map.next_key::<FieldName<'de>>()? {
            let (name, slot) = match &*key {
                "type" => ("type", &mut fields.kind),
                "id" => ("id", &mut fields.id),
                "room" => ("room", &mut fields.room),
                "key" => ("key", &mut fields.key),
                "body" => ("body", &mut fields.body),
                "after" => ("after", &mut fields.after),
                "before" => ("before", &mut fields.before),
                "last" => ("last", &mut fields.last),
                "limit" => ("limit", &mut fields.limit),
                "epoch" => ("epoch", &mut fields.epoch),
                "presence" => ("presence", &mut fields.presence),
                "session" => ("session", &mut fields.session),
                "token" => ("token", &mut fields.token),
                "name" => ("name", &mut fields.name),
                "cursors" => ("cursors", &mut fields.cursors),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // Not `Option<&RawValue>`, which reads `null` as absent.
            let value = map.next_value::<&RawValue>()?;
            if slot.replace(value).is_some() {
                fields.doubled = fields.doubled.or(Some(name));
            }
        }
        Ok(fields)
    }
}

/// Reads one text frame.
///
/// # Errors
/// The refusal to send back, naming the field at fault.
pub fn parse(text: &str, bounds: &Bounds) -> Result<Request, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer
        .deserialize_any(FieldsVisitor)
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|error| Refusal::new(None, ErrorCode::BadJson, not_an_object(&error)))?;
    let id = match fields.id {
        None => None,
        Some(raw) => Some(number(None, "id", raw)?),
    };
    if let Some(field) = fields.doubled {
        // With two ids, neither is the request's.
        let id = id.filter(|_| field != "id");
        return Err(Refusal::field(id, field, format!("'{field}' is given twice")));
    }
    let Some(kind) = fields.kind else {
        return Err(Refusal::field(id, "type", "'type' is missing"));
    };
    let command = fields.command(id, &string(id, "type", kind)?, bounds)?;
    Ok(Request { id, command })
}

/// Describes an error of serde and its position in our words, without quoting the text.
fn not_an_object(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "not a JSON object",
        serde_json::error::Category::Eof => "the JSON ends in the middle",
        _ => "not valid JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

impl Fields<'_> {
    fn command(&self, id: Option<u64>, kind: &str, bounds: &Bounds) -> Result<Command, Refusal> {
        let room = || self.room.map(|raw| room_id(id, raw)).transpose();
        let body = || match self.body {
            None => Err(Refusal::field(id, "body", "'body' is missing")),
            Some(raw) => match check_body(raw.get(), bounds.body_depth) {
                Ok(()) => Ok(Body::checked(raw.get().into())),
                Err(fault) => Err(Refusal::field(id, "body", format!("'body' is {fault}"))),
            },
        };
        let limited = |field, raw: Option<&RawValue>| match raw {
            None => Ok(None),
            // A larger limit is cut to the maximum.
            Some(raw) => number(id, field, raw).map(|n| Some(n.min(u64::from(bounds.page_messages)) as u32)),
        };
        let fault = |fault: encrypted::Fault| Refusal::field(id, fault.field(), fault.text());
        Ok(match kind {
            "join" => Command::Join {
                room: room()?,
                start: self.start(id, bounds)?,
                presence: self.presence(id)?,
                name: self.name(id)?,
            },
            "leave" => Command::Leave { room: room()? },
            "send" => {
                let (key, body) = (self.key(id)?, body()?);
                let sealed = encrypted::of_send(body.as_str(), key).map_err(fault)?;
                Command::Send { room: room()?, key, body, sealed }
            }
            "signal" => {
                let body = body()?;
                let sealed = encrypted::of_signal(body.as_str()).map_err(fault)?;
                Command::Signal { room: room()?, body, sealed }
            }
            "history" => {
                let span = match (self.after, self.before) {
                    (Some(_), Some(_)) => {
                        return Err(Refusal::field(id, "before", "'after' and 'before' exclude each other"));
                    }
                    (Some(raw), None) => crate::store::Span::After(Seq(number(id, "after", raw)?)),
                    (None, Some(raw)) => crate::store::Span::Before(Seq(number(id, "before", raw)?)),
                    (None, None) => crate::store::Span::Newest,
                };
                let limit = limited("limit", self.limit)?.unwrap_or(DEFAULT_PAGE);
                if limit == 0 {
                    return Err(Refusal::field(id, "limit", "'limit' is at least 1"));
                }
                Command::History { room: room()?, span, limit }
            }
            "members" => Command::Members { room: room()? },
            "resume" => Command::Resume { session: self.session(id)?, cursors: self.cursors(id)? },
            "auth" => Command::Auth { token: self.token(id)? },
            "ping" => Command::Ping,
            "end" => Command::End,
            _ => {
                let mut refusal = Refusal::new(id, ErrorCode::UnknownType, "no such type of request");
                refusal.field = Some("type");
                return Err(refusal);
            }
        })
    }

    fn start(&self, id: Option<u64>, bounds: &Bounds) -> Result<Start, Refusal> {
        match (self.after, self.last) {
            (Some(_), Some(_)) => Err(Refusal::field(id, "last", "'after' and 'last' exclude each other")),
            (Some(raw), None) => {
                let epoch = self.epoch.map(|raw| string(id, "epoch", raw)).transpose()?;
                Ok(Start::After { seq: Seq(number(id, "after", raw)?), epoch: epoch.map(|e| e.into_owned().into()) })
            }
            (None, Some(raw)) => {
                let last = number(id, "last", raw)?.min(u64::from(bounds.page_messages));
                Ok(if last == 0 { Start::Now } else { Start::Last(last as u32) })
            }
            (None, None) => Ok(Start::Now),
        }
    }

    fn presence(&self, id: Option<u64>) -> Result<Presence, Refusal> {
        let Some(raw) = self.presence else { return Ok(Presence::Full) };
        match &*string(id, "presence", raw)? {
            "full" => Ok(Presence::Full),
            "count" => Ok(Presence::Count),
            "off" => Ok(Presence::Off),
            _ => Err(Refusal::field(id, "presence", "'presence' is full, count or off")),
        }
    }

    fn name(&self, id: Option<u64>) -> Result<Option<Name>, Refusal> {
        let Some(raw) = self.name else { return Ok(None) };
        Name::parse(&string(id, "name", raw)?).map(Some).map_err(|fault| Refusal::field(id, "name", fault.text()))
    }

    fn session(&self, id: Option<u64>) -> Result<String, Refusal> {
        let raw = self.session.ok_or_else(|| Refusal::field(id, "session", "'session' is missing"))?;
        string(id, "session", raw).map(Cow::into_owned)
    }

    fn token(&self, id: Option<u64>) -> Result<Credentials, Refusal> {
        let raw = self.token.ok_or_else(|| Refusal::field(id, "token", "'token' is missing"))?;
        let token = string(id, "token", raw)?;
        match token.len() {
            1..=Credentials::MAX => Ok(Credentials(token.into_owned())),
            _ => Err(Refusal::field(id, "token", format!("'token' has 1 to {} bytes", Credentials::MAX))),
        }
    }

    fn cursors(&self, id: Option<u64>) -> Result<Vec<Cursor>, Refusal> {
        match self.cursors {
            None => Ok(Vec::new()),
            Some(raw) => cursors::parse(raw).map_err(|text| Refusal::field(id, "cursors", text)),
        }
    }

    fn key(&self, id: Option<u64>) -> Result<Option<IdempotencyKey>, Refusal> {
        let Some(raw) = self.key else { return Ok(None) };
        let key = string(id, "key", raw)?;
        match key.len() {
            1..=IdempotencyKey::MAX => Ok(Some(IdempotencyKey::of(key.as_bytes()))),
            _ => Err(Refusal::field(id, "key", "'key' has 1 to 200 bytes")),
        }
    }
}

fn number(id: Option<u64>, field: &'static str, raw: &RawValue) -> Result<u64, Refusal> {
    raw::whole_number(raw)
        .ok_or_else(|| Refusal::field(id, field, format!("'{field}' is a whole number from 0 to 2^53")))
}

fn string<'a>(id: Option<u64>, field: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Refusal> {
    raw::string(raw).ok_or_else(|| Refusal::field(id, field, format!("'{field}' is a string")))
}

fn room_id(id: Option<u64>, raw: &RawValue) -> Result<RoomId, Refusal> {
    let text = string(id, "room", raw)?;
    RoomId::parse(&text).ok_or_else(|| Refusal::field(id, "room", RoomId::RULE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { body_depth: 64, page_messages: 200 };

    fn ok(text: &str) -> Request {
        parse(text, &BOUNDS).unwrap_or_else(|r| panic!("{text}: {r:?}"))
    }

    fn refused(text: &str) -> (Option<u64>, ErrorCode, Option<&'static str>) {
        match parse(text, &BOUNDS) {
            Ok(request) => panic!("{text}: {request:?}"),
            Err(r) => (r.id, r.code, r.field),
        }
    }

    #[test]
    fn commands() {
        let room = RoomId::parse("lobby");
        assert_eq!(
            ok(r#"{"type":"join","id":1,"room":"lobby","after":41,"epoch":"k3f9","presence":"count"}"#).command,
            Command::Join {
                room: room.clone(),
                start: Start::After { seq: Seq(41), epoch: Some("k3f9".into()) },
                presence: Presence::Count,
                name: None
            }
        );
        assert_eq!(
            ok(r#"{"type":"join","last":5000}"#).command,
            Command::Join { room: None, start: Start::Last(200), presence: Presence::Full, name: None }
        );
        let send = ok(r#" {"id":3,"body": null ,"type":"send","key":"c1-17","more":[1,{}]} "#);
        assert_eq!(send.id, Some(3));
        assert_eq!(
            send.command,
            Command::Send {
                room: None,
                key: Some(IdempotencyKey::of(b"c1-17")),
                body: Body::checked("null".into()),
                sealed: None
            }
        );
        assert_eq!(ok(r#"{"t\u0079pe":"ping"}"#).command, Command::Ping);
        assert_eq!(
            ok(r#"{"type":"history","before":30,"limit":9}"#).command,
            Command::History { room: None, span: crate::store::Span::Before(Seq(30)), limit: 9 }
        );
    }

    #[test]
    fn bodies_pass_as_they_are() {
        let body = "[9007199254740993,18446744073709551616,123456789012345678901234567890,9007199254740991.0,1e2,-0.0,1E400,0.1, \"a\\u0000b\"]";
        let Command::Send { body: got, .. } = ok(&format!("{{\"type\":\"send\",\"body\":{body}}}")).command else {
            panic!()
        };
        assert_eq!(got.as_str(), body);
    }

    #[test]
    fn refusals_name_the_field() {
        use ErrorCode::*;
        for (text, code, field) in [
            ("", BadJson, None),
            ("[]", BadJson, None),
            ("{", BadJson, None),
            (r#"{"type":"ping"} {}"#, BadJson, None),
            ("{}", BadField, Some("type")),
            (r#"{"type":7}"#, BadField, Some("type")),
            (r#"{"type":"nonsense"}"#, UnknownType, Some("type")),
            (r#"{"type":"ping","id":1.0}"#, BadField, Some("id")),
            (r#"{"type":"ping","id":1e2}"#, BadField, Some("id")),
            (r#"{"type":"ping","id":-1}"#, BadField, Some("id")),
            (r#"{"type":"ping","id":"1"}"#, BadField, Some("id")),
            (r#"{"type":"ping","id":null}"#, BadField, Some("id")),
            (r#"{"type":"ping","id":9007199254740993}"#, BadField, Some("id")),
            (r#"{"type":"join","after":18446744073709551616}"#, BadField, Some("after")),
            (r#"{"type":"join","after":1,"last":1}"#, BadField, Some("last")),
            (r#"{"type":"history","limit":-1}"#, BadField, Some("limit")),
            (r#"{"type":"history","limit":0}"#, BadField, Some("limit")),
            (r#"{"type":"history","after":1,"before":1}"#, BadField, Some("before")),
            (r#"{"type":"join","room":"a/b"}"#, BadField, Some("room")),
            (r#"{"type":"join","room":null}"#, BadField, Some("room")),
            (r#"{"type":"join","presence":"loud"}"#, BadField, Some("presence")),
            (r#"{"type":"send"}"#, BadField, Some("body")),
            (r#"{"type":"send","body":"\ud800"}"#, BadField, Some("body")),
            (r#"{"type":"send","body":1,"key":""}"#, BadField, Some("key")),
            (r#"{"type":"send","body":1,"key":"\ud800"}"#, BadField, Some("key")),
            (r#"{"type":"members","type":"leave"}"#, BadField, Some("type")),
            (r#"{"type":"send","room":"r1","room":"r2","body":1}"#, BadField, Some("room")),
            (r#"{"type":"send","body":1,"body":2}"#, BadField, Some("body")),
            (r#"{"type":"send","body":1,"bod\u0079":2}"#, BadField, Some("body")),
        ] {
            let (_, got, named) = refused(text);
            assert_eq!((got, named), (code, field), "{text}");
        }
        assert_eq!(refused(r#"{"type":"send","id":3}"#).0, Some(3));
        let deep = format!(r#"{{"type":"send","body":{}{}}}"#, "[".repeat(65), "]".repeat(65));
        assert_eq!(refused(&deep).2, Some("body"));
        let very_deep = format!(r#"{{"type":"send","x":{}"#, "[".repeat(30_000));
        assert_eq!(refused(&very_deep).1, BadJson);
    }

    #[test]
    fn encrypted_bodies_are_seen() {
        let body = format!(r#"{{"e2e":1,"k":"k-1","n":"{}","c":"{}"}}"#, "n".repeat(32), "w".repeat(22));
        let is_encrypted = |text: &str| match ok(text).command {
            Command::Send { sealed, .. } | Command::Signal { sealed, .. } => sealed.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(is_encrypted(&format!(r#"{{"type":"send","key":"k-1","body":{body}}}"#)));
        assert!(is_encrypted(&format!(r#"{{"type":"signal","body": {body} }}"#)));
        assert!(!is_encrypted(r#"{"type":"send","body":{"e2e":1}}"#) && !is_encrypted(r#"{"type":"signal","body":1}"#));
        for wrong in [r#""key":"k-2","#, ""] {
            let text = format!(r#"{{"type":"send","id":3,{wrong}"body":{body}}}"#);
            assert_eq!(refused(&text), (Some(3), ErrorCode::BadField, Some("body.k")), "{text}");
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        let key = |text: &str| match ok(text).command {
            Command::Send { key, .. } => key,
            _ => None,
        };
        assert_ne!(
            key("{\"type\":\"send\",\"body\":1,\"key\":\"k\\u0000x\"}"),
            key("{\"type\":\"send\",\"body\":1,\"key\":\"k\"}")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text, &BOUNDS);
        }

        #[test]
        fn any_json_like_text_is_read_or_refused(text in "[{}\\[\\]\",:\\\\0-9a-z ]{0,60}") {
            let _ = parse(&text, &BOUNDS);
        }
    }
}
