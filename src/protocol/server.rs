//! Server messages: the hub's values as JSON, appended to a buffer. Framing is the caller's.

use super::errors::Refusal;
use crate::hub::{Live, PresenceEvent, PresenceKind, Removed, Roster};
use crate::json::Object;
use crate::types::{Author, Durability, Epoch, MemberId, Message, Name, RoomId, Seq, WallMillis};

/// The server's limits, as `welcome` announces them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_message_size: usize,
    pub in_flight: usize,
    pub rooms_per_session: usize,
    pub page_bytes: usize,
    /// Requests per second; 0 for no limit.
    pub request_rate: u32,
    /// Milliseconds.
    pub ping_period: u64,
    pub durability: Durability,
}

/// Appends a member's id as a JSON string.
fn member_id(out: &mut Vec<u8>, member: MemberId) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\"m-");
    out.extend((0..12).rev().map(|i| DIGITS[(member.as_u64() >> (4 * i)) as usize & 15]));
    out.push(b'"');
}

/// Adds a member's id and name.
fn identity<'a>(object: Object<'a>, member: MemberId, name: &Name) -> Object<'a> {
    object.value("member", |out| member_id(out, member)).string("name", name.as_str())
}

fn author(out: &mut Vec<u8>, author: &Author) {
    Object::new(out)
        .optional(author.member, |object, member| object.value("member", |out| member_id(out, member)))
        .string("name", author.name.as_str())
        .end();
}

/// Begins an answer, with the request's id if it had one.
fn answer<'a>(out: &'a mut Vec<u8>, kind: &'static str, id: Option<u64>) -> Object<'a> {
    Object::of_type(out, kind).optional(id, |object, id| object.number("id", id))
}

/// Begins an answer about a room. A room id needs no escaping.
fn room_answer<'a>(out: &'a mut Vec<u8>, kind: &'static str, id: Option<u64>, room: &RoomId) -> Object<'a> {
    answer(out, kind, id).plain("room", room.as_str())
}

/// Begins an unsolicited message from a room.
fn of_room<'a>(out: &'a mut Vec<u8>, kind: &'static str, room: &RoomId) -> Object<'a> {
    Object::of_type(out, kind).plain("room", room.as_str())
}

/// A client's identity, and the token with which it resumes.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The token; its characters need no escaping.
    pub session: &'a str,
    pub member: MemberId,
    pub name: &'a Name,
    /// The name by which the server knows it, if it does; its characters need no escaping.
    pub sub: Option<&'a str>,
    /// Milliseconds.
    pub resume_within: u64,
}

pub fn welcome(out: &mut Vec<u8>, id: Option<u64>, welcome: &Welcome<'_>, limits: &Limits) {
    identity(answer(out, "welcome", id).plain("session", welcome.session), welcome.member, welcome.name)
        .optional(welcome.sub, |object, sub| object.plain("sub", sub))
        .number("resume_within", welcome.resume_within.div_ceil(1000))
        .value("limits", |out| limits.write(out))
        .end();
}

impl Limits {
    fn write(&self, out: &mut Vec<u8>) {
        Object::new(out)
            .number("max_message_size", self.max_message_size as u64)
            .number("in_flight", self.in_flight as u64)
            .number("rooms", self.rooms_per_session as u64)
            .number("page_bytes", self.page_bytes as u64)
            .number("request_rate", u64::from(self.request_rate))
            .number("ping_period_ms", self.ping_period)
            .plain("durability", self.durability.as_str())
            .end();
    }
}

/// The fields of `joined` besides id and room.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub epoch: &'a Epoch,
    pub head: Seq,
    pub from: Seq,
    pub recovered: bool,
    pub members: usize,
}

pub fn joined(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, joined: &Joined<'_>) {
    room_answer(out, "joined", id, room)
        .string("epoch", &joined.epoch.0)
        .number("head", joined.head.0)
        .number("from", joined.from.0)
        .flag("recovered", joined.recovered)
        .number("members", joined.members as u64)
        .end();
}

/// Writes one message, in the same form live and in every list.
pub fn message(out: &mut Vec<u8>, message: &Message) {
    of_room(out, "message", &message.room)
        .number("seq", message.seq.0)
        .number("at", message.at.0)
        .value("from", |out| author(out, &message.author))
        .json("body", message.body.as_str())
        .mark("unreadable", message.body.is_unreadable())
        .end();
}

pub fn live(out: &mut Vec<u8>, room: &RoomId, live: &Live) {
    match live {
        Live::Message(m) => message(out, m),
        Live::Signal { from, body } => {
            of_room(out, "signal", room).value("from", |out| author(out, from)).json("body", body.as_str()).end();
        }
    }
}

pub fn ack(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, seq: Seq, at: WallMillis, duplicate: bool) {
    stored(room_answer(out, "ack", id, room), seq, at, duplicate).end();
}

/// Adds the place of a stored message, on a socket or over HTTP.
pub fn stored<'a>(object: Object<'a>, seq: Seq, at: WallMillis, duplicate: bool) -> Object<'a> {
    object.number("seq", seq.0).number("at", at.0).mark("duplicate", duplicate)
}

pub fn left(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, removed: Option<Removed>) {
    room_answer(out, "left", id, room)
        .optional(removed, |object, removed| object.plain("reason", reason(removed)))
        .end();
}

/// Returns the word for why a member was taken out of its room.
pub fn reason(removed: Removed) -> &'static str {
    match removed {
        Removed::Forbidden => "forbidden",
    }
}

/// Adds the messages of a page of history, on a socket or over HTTP.
pub fn messages<'a>(object: Object<'a>, list: &[Message]) -> Object<'a> {
    object.array("messages", list, message)
}

pub fn history(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, list: &[Message], oldest: Seq, more: bool) {
    messages(room_answer(out, "history", id, room), list).number("oldest", oldest.0).flag("more", more).end();
}

/// Adds a room's members, on a socket or over HTTP.
pub fn roster<'a>(object: Object<'a>, roster: &Roster<'_>) -> Object<'a> {
    let object = object.number("count", roster.count as u64).array("members", roster.members, |out, present| {
        identity(Object::new(out), present.member, &present.name).mark("away", present.away).end();
    });
    object.mark("more", roster.more)
}

pub fn members(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, list: &Roster<'_>) {
    roster(room_answer(out, "members", id, room), list).end();
}

pub fn presence(out: &mut Vec<u8>, room: &RoomId, count: usize, events: &[PresenceEvent]) {
    of_room(out, "presence", room)
        .number("count", count as u64)
        .array("events", events, |out, event| {
            let kind = match event.kind {
                PresenceKind::Join => "join",
                PresenceKind::Leave => "leave",
                PresenceKind::Away => "away",
                PresenceKind::Back => "back",
            };
            identity(Object::new(out).plain("event", kind), event.member, &event.name).end();
        })
        .end();
}

/// Writes a `pong`. `session` is a fresh token, if the client's is getting old.
pub fn pong<'a>(
    out: &mut Vec<u8>,
    id: Option<u64>,
    session: Option<&str>,
    heads: impl Iterator<Item = (&'a RoomId, Seq)>,
) {
    answer(out, "pong", id)
        .optional(session, |object, session| object.plain("session", session))
        .value("heads", |out| {
            heads.fold(Object::new(out), |object, (room, seq)| object.entry(room.as_str(), seq.0)).end();
        })
        .end();
}

pub fn lagging(out: &mut Vec<u8>, room: &RoomId, behind: u64) {
    of_room(out, "lagging", room).number("behind", behind).end();
}

pub fn gap(out: &mut Vec<u8>, room: &RoomId, after: Seq, from: Seq) {
    of_room(out, "gap", room).number("after", after.0).number("from", from.0).end();
}

pub fn error(out: &mut Vec<u8>, refusal: &Refusal) {
    answer(out, "error", refusal.id)
        .plain("code", refusal.code.as_str())
        .optional(refusal.field, |object, field| object.plain("field", field))
        .string("message", &refusal.message)
        .optional(refusal.retry_after_ms, |object, ms| object.number("retry_after_ms", ms))
        .end();
}

/// Writes the last message before a close frame.
pub fn bye(out: &mut Vec<u8>, reason: &str, message: Option<&str>, reconnect_after_ms: Option<u64>) {
    Object::of_type(out, "bye")
        .string("reason", reason)
        .optional(message, |object, message| object.string("message", message))
        .optional(reconnect_after_ms, |object, ms| object.number("reconnect_after_ms", ms))
        .end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubError;
    use crate::hub::Present;
    use crate::protocol::reasons::{Reason, StoreFault};
    use crate::store::Why;
    use crate::types::{Body, size};

    fn json(write: impl FnOnce(&mut Vec<u8>)) -> serde_json::Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
    }

    fn room() -> RoomId {
        RoomId::parse("lobby").unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_message_takes_no_more_than_its_bound_and_about_what_is_counted() {
        let of = |room: &str, member, named: &str, seq: u64| Message {
            room: RoomId::parse(room).unwrap(),
            seq: Seq(seq),
            at: WallMillis(seq),
            author: Author { member, name: name(named) },
            body: Body::checked("1".into()),
        };
        let bytes = |said: &Message| {
            let mut out = Vec::new();
            message(&mut out, said);
            out.len()
        };
        // Every character takes as many bytes as JSON can make of one, and every number has its most digits.
        let widest = "\u{1f600}".repeat(Name::MAX);
        let longest = of(&"r".repeat(RoomId::MAX), Some(MemberId::from_random(u64::MAX)), &widest, (1 << 53) - 1);
        assert!(bytes(&longest) + 10 <= size::MAX_ENVELOPE, "{}", bytes(&longest));
        let usual = of("a-room-of-about-thirty-letters", Some(MemberId::from_random(1)), "ann", 1_790_000_000_123);
        let counted = size::on_wire(&usual.author, &usual.body);
        assert!((counted - 20..=counted + 10).contains(&bytes(&usual)), "{} for {counted}", bytes(&usual));
    }

    #[test]
    fn everything_is_json_of_the_documented_shape() {
        let member = MemberId::from_random(0x7c2e);
        let said = Message {
            room: room(),
            seq: Seq(42),
            at: WallMillis(1_790_000_000_123),
            author: Author { member: Some(member), name: name("b\"o\\b") },
            body: Body::checked("[1, {\"x\":null}]".into()),
        };
        let value = json(|out| message(out, &said));
        assert_eq!(
            value,
            serde_json::json!({"type":"message","room":"lobby","seq":42,"at":1_790_000_000_123u64,
                "from":{"member":"m-000000007c2e","name":"b\"o\\b"},"body":[1,{"x":null}]})
        );
        let posted = Message { author: Author { member: None, name: name("x") }, ..said.clone() };
        assert_eq!(json(|out| message(out, &posted))["from"], serde_json::json!({"name":"x"}));

        let value = json(|out| history(out, Some(4), &room(), &[said.clone(), said], Seq(1), true));
        assert_eq!(value["messages"].as_array().map(Vec::len), Some(2));
        assert_eq!((&value["id"], &value["oldest"], &value["more"]), (&4.into(), &1.into(), &true.into()));

        let epoch = Epoch("k3f9".into());
        let at = Joined { epoch: &epoch, head: Seq(57), from: Seq(42), recovered: true, members: 3 };
        assert_eq!(
            json(|out| joined(out, Some(1), &room(), &at)),
            serde_json::json!({"type":"joined","id":1,"room":"lobby","epoch":"k3f9","head":57,"from":42,
                "recovered":true,"members":3})
        );
        assert_eq!(
            json(|out| ack(out, None, &room(), Seq(58), WallMillis(9), true)),
            serde_json::json!({"type":"ack","room":"lobby","seq":58,"at":9,"duplicate":true})
        );
        let events = [
            PresenceEvent { kind: PresenceKind::Join, member, name: name("a") },
            PresenceEvent { kind: PresenceKind::Leave, member, name: name("a") },
        ];
        assert_eq!(json(|out| presence(out, &room(), 3, &events))["events"][1]["event"], "leave");
        let two = room();
        assert_eq!(json(|out| pong(out, Some(7), None, [(&two, Seq(57))].into_iter()))["heads"]["lobby"], 57);
        assert_eq!(json(|out| pong(out, Some(7), Some("t"), [].into_iter()))["session"], "t");
        let list = Roster { count: 3, members: &[Present { member, name: name("a"), away: true }], more: true };
        assert_eq!(json(|out| members(out, Some(5), &room(), &list))["more"], true);
        let outage = StoreFault::Append(Why::DiskFull);
        let refused = Reason::of(HubError::StorageUnavailable, outage).refusal(Some(3));
        assert_eq!(json(|out| error(out, &refused))["retry_after_ms"], 1000);
        assert_eq!(json(|out| bye(out, "shutdown", None, Some(730)))["reconnect_after_ms"], 730);
        assert_eq!(json(|out| gap(out, &room(), Seq(41), Seq(101)))["from"], 101);
        assert_eq!(json(|out| lagging(out, &room(), 1200))["behind"], 1200);
        assert_eq!(json(|out| left(out, Some(2), &room(), None))["id"], 2);
        assert_eq!(json(|out| left(out, None, &room(), Some(Removed::Forbidden)))["reason"], "forbidden");
        let limits = Limits {
            max_message_size: 1,
            in_flight: 2,
            rooms_per_session: 3,
            page_bytes: 4,
            request_rate: 5,
            ping_period: 6,
            durability: Durability::Full,
        };
        let greeted = name("bob");
        let greeting =
            Welcome { session: "t0-k_n", member, name: &greeted, sub: Some("file:bob"), resume_within: 30_000 };
        let value = json(|out| welcome(out, Some(6), &greeting, &limits));
        assert_eq!((&value["limits"]["durability"], &value["sub"]), (&"full".into(), &"file:bob".into()));
        assert_eq!(
            (&value["id"], &value["session"], &value["resume_within"]),
            (&6.into(), &"t0-k_n".into(), &30.into())
        );
    }
}
