//! Requests as JSON: a request that was read, written out and read again is the same, whatever the spelling; an
//! independent parse of the fields agrees; refusals can be sent as they are; and no input makes the parser allocate
//! much more than its own length.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::hub::{Cursor, Presence, Start};
use crate::protocol::client::{Bounds, Command, Request, parse};
use crate::protocol::{ErrorCode, Refusal, server};
use crate::store::Span;
use crate::types::{Author, Body, IdempotencyKey, Message, Name, RoomId, Seq, WallMillis};

const BOUNDS: Bounds = Bounds { body_depth: 64, page_messages: 200 };

/// Bytes that reading one request may allocate for each byte of it, in total. A body is copied once. A text with
/// escapes costs most: serde_json collects it in a scratch buffer that grows by doubling, which is less than twice its
/// last size in total, and that is less than twice the text; and it returns a copy.
const PER_BYTE: u64 = 5;

/// Bytes that an object may cost in addition, since each may be a cursor of a `resume`: their list grows by doubling,
/// which is less than four times the last size in total; the room's name has its own header, and is compared by
/// reference.
const PER_OBJECT: u64 = 4 * size_of::<Cursor>() as u64 + 64;

/// Bytes that are allowed whatever the length: a refusal's message, the first size of a scratch buffer.
const AT_LEAST: u64 = 512;

/// Reads the input as the text of one frame. `allocated` runs the function that it is given and returns the total bytes
/// that this thread allocated meanwhile.
pub fn client_json(data: &[u8], allocated: impl Fn(&mut dyn FnMut()) -> u64) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut result = None;
    let bytes = allocated(&mut || result = Some(parse(text, &BOUNDS)));
    let objects = text.bytes().filter(|byte| *byte == b'{').count() as u64;
    let most = PER_BYTE * text.len() as u64 + PER_OBJECT * objects + AT_LEAST;
    assert!(bytes <= most, "{bytes} bytes allocated for {} of input", text.len());
    match result {
        None => {}
        Some(Ok(request)) => check_request(text, &request),
        Some(Err(refusal)) => check_refusal(&refusal),
    }
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Returns the object's fields, read without the code under test.
fn fields(text: &str) -> Fields<'_> {
    // proof: this must not fail where the request was read; the fuzzer looks for it.
    serde_json::from_str(text).expect("an object for one reader only")
}

fn check_request(text: &str, request: &Request) {
    let fields = fields(text);
    let key = fields.get("key").map(|raw| raw.get()).and_then(|raw| serde_json::from_str::<String>(raw).ok());
    if let Command::Send { key: digest, .. } = &request.command {
        assert_eq!(*digest, key.as_ref().map(|key| IdempotencyKey::of(key.as_bytes())), "another key");
    }
    if let Command::Send { body, .. } | Command::Signal { body, .. } = &request.command {
        assert_eq!(fields.get("body").map(|raw| raw.get()), Some(body.as_str()), "another body");
        check_body(body);
    }
    for spelling in [Spelling::Plain, Spelling::Escaped] {
        let written = write(request, key.as_deref(), spelling);
        let again = parse(&written, &BOUNDS);
        assert_eq!(again.as_ref(), Ok(request), "written as {written}");
    }
}

/// Checks that others can read a body: alone, and in a message that carries it.
fn check_body(body: &Body) {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(body.as_str()) {
        // Numbers of any size pass unchanged; this parser's range is limited.
        assert!(error.to_string().contains("number out of range"), "{error}");
    }
    let mut run = 0;
    for byte in body.as_str().bytes().filter(|_| !body.as_str().contains('"')) {
        run = if byte.is_ascii_digit() { run + 1 } else { 0 };
        assert!(run <= 300, "a number of more than 300 digits");
    }
    let message = Message {
        // proof: single letters are valid as a room's id and as a name.
        room: RoomId::parse("r").expect("a room id"),
        seq: Seq(1),
        at: WallMillis(1),
        // proof: as above.
        author: Author { member: None, name: Name::parse("n").expect("a name") },
        body: body.clone(),
    };
    let mut out = Vec::new();
    server::message(&mut out, &message);
    let out = String::from_utf8(out).unwrap_or_default();
    assert_eq!(fields(&out).get("body").map(|raw| raw.get()), Some(body.as_str()), "the body breaks out of {out}");
}

fn check_refusal(refusal: &Refusal) {
    let fault = matches!(refusal.code, ErrorCode::BadJson | ErrorCode::UnknownType | ErrorCode::BadField);
    assert!(fault, "{refusal:?}");
    assert_eq!(refusal.code == ErrorCode::BadJson, refusal.field.is_none(), "{refusal:?}");
    assert!(refusal.message.len() <= 200 && !refusal.message.contains(char::is_control), "{refusal:?}");
    let mut out = Vec::new();
    server::error(&mut out, refusal);
    let out = String::from_utf8(out).unwrap_or_default();
    assert_eq!(fields(&out).get("type").map(|raw| raw.get()), Some("\"error\""));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Plain,
    /// Every letter as an escape, the fields in another order, blanks between, and an unknown field.
    Escaped,
}

fn write(request: &Request, key: Option<&str>, spelling: Spelling) -> String {
    let mut fields: Vec<(&str, String)> = Vec::new();
    let text = |value: &str| string(value, spelling);
    if let Some(id) = request.id {
        fields.push(("id", id.to_string()));
    }
    let mut room = None;
    let kind = match &request.command {
        Command::Join { room: named, start, presence, name } => {
            fields.extend(name.as_ref().map(|name| ("name", text(name.as_str()))));
            room = named.as_ref();
            match start {
                Start::Now => {}
                Start::Last(n) => fields.push(("last", n.to_string())),
                Start::After { seq, epoch } => {
                    fields.push(("after", seq.0.to_string()));
                    fields.extend(epoch.as_ref().map(|epoch| ("epoch", text(epoch))));
                }
            }
            fields.push(("presence", text(presence_word(*presence))));
            "join"
        }
        Command::Leave { room: named } => {
            room = named.as_ref();
            "leave"
        }
        Command::Send { room: named, key: _, body, .. } => {
            room = named.as_ref();
            fields.extend(key.map(|key| ("key", text(key))));
            fields.push(("body", body.as_str().to_owned()));
            "send"
        }
        Command::Signal { room: named, body, .. } => {
            room = named.as_ref();
            fields.push(("body", body.as_str().to_owned()));
            "signal"
        }
        Command::History { room: named, span, limit } => {
            room = named.as_ref();
            match span {
                Span::After(seq) => fields.push(("after", seq.0.to_string())),
                Span::Before(seq) => fields.push(("before", seq.0.to_string())),
                Span::Newest => {}
            }
            fields.push(("limit", limit.to_string()));
            "history"
        }
        Command::Members { room: named } => {
            room = named.as_ref();
            "members"
        }
        Command::Resume { session, cursors } => {
            fields.push(("session", text(session)));
            let cursors =
                cursors.iter().map(|cursor| format!("{}:{}", text(cursor.room.as_str()), place(cursor, text)));
            fields.push(("cursors", format!("{{{}}}", cursors.collect::<Vec<_>>().join(","))));
            "resume"
        }
        Command::Auth { token } => {
            fields.push(("token", text(&String::from_utf8_lossy(token.as_bytes()))));
            "auth"
        }
        Command::Ping => "ping",
        Command::End => "end",
    };
    fields.extend(room.map(|room| ("room", text(room.as_str()))));
    fields.push(("type", text(kind)));
    if spelling == Spelling::Escaped {
        fields.push(("unknown", "[{\"type\":[]},null]".to_owned()));
        fields.reverse();
    }
    let blank = if spelling == Spelling::Escaped { "\r\n\t " } else { "" };
    let fields = fields.iter().map(|(name, value)| format!("{blank}{}{blank}:{blank}{value}", string(name, spelling)));
    format!("{blank}{{{}{blank}}}{blank}", fields.collect::<Vec<_>>().join(","))
}

fn presence_word(presence: Presence) -> &'static str {
    match presence {
        Presence::Full => "full",
        Presence::Count => "count",
        Presence::Off => "off",
    }
}

/// Returns the cursor of one room in a `resume`.
fn place(cursor: &Cursor, text: impl Fn(&str) -> String) -> String {
    let mut fields = vec![format!("{}:{}", text("seq"), cursor.seq.0)];
    fields.extend(cursor.epoch.as_ref().map(|epoch| format!("{}:{}", text("epoch"), text(epoch))));
    fields.extend(cursor.presence.map(|word| format!("{}:{}", text("presence"), text(presence_word(word)))));
    format!("{{{}}}", fields.join(","))
}

fn string(text: &str, spelling: Spelling) -> String {
    let escape = |unit: u16| format!("\\u{unit:04x}");
    match spelling {
        Spelling::Plain => serde_json::Value::from(text).to_string(),
        Spelling::Escaped => format!("\"{}\"", text.encode_utf16().map(escape).collect::<String>()),
    }
}
