//! What racerd says: the hub's values to JSON, appended to a buffer. Framing is the caller's.

use super::errors::Refusal;
use super::json::{write_number, write_string};
use crate::hub::{Live, PresenceEvent, PresenceKind, Roster};
use crate::types::{Author, Durability, Epoch, MemberId, Message, Name, RoomId, Seq, WallMillis};

/// What `welcome` tells a client of the server's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_message_size: usize,
    pub in_flight: usize,
    pub rooms_per_session: usize,
    pub page_bytes: usize,
    /// Requests a second, 0 for no limit.
    pub request_rate: u32,
    /// Milliseconds.
    pub ping_period: u64,
    pub durability: Durability,
}

fn text(out: &mut Vec<u8>, literal: &str) {
    out.extend_from_slice(literal.as_bytes());
}

fn field_number(out: &mut Vec<u8>, name: &str, value: u64) {
    text(out, name);
    write_number(out, value);
}

/// `"id":7,` where the request had one.
fn id_field(out: &mut Vec<u8>, id: Option<u64>) {
    if let Some(id) = id {
        field_number(out, ",\"id\":", id);
    }
}

/// A room id needs no escaping: its characters are none of JSON's.
fn room_field(out: &mut Vec<u8>, room: &RoomId) {
    text(out, ",\"room\":\"");
    text(out, room.as_str());
    out.push(b'"');
}

fn member_id(out: &mut Vec<u8>, member: MemberId) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text(out, "\"m-");
    out.extend((0..12).rev().map(|i| DIGITS[(member.as_u64() >> (4 * i)) as usize & 15]));
    out.push(b'"');
}

fn author(out: &mut Vec<u8>, author: &Author) {
    out.push(b'{');
    if let Some(member) = author.member {
        text(out, "\"member\":");
        member_id(out, member);
        out.push(b',');
    }
    text(out, "\"name\":");
    write_string(out, author.name.as_str());
    out.push(b'}');
}

/// Who a client is now, and what it comes back with.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The token; its characters need no escaping.
    pub session: &'a str,
    pub member: MemberId,
    pub name: &'a Name,
    /// Milliseconds.
    pub resume_within: u64,
}

pub fn welcome(out: &mut Vec<u8>, id: Option<u64>, welcome: &Welcome<'_>, limits: &Limits) {
    text(out, "{\"type\":\"welcome\"");
    id_field(out, id);
    text(out, ",\"session\":");
    write_string(out, welcome.session);
    text(out, ",\"member\":");
    member_id(out, welcome.member);
    text(out, ",\"name\":");
    write_string(out, welcome.name.as_str());
    field_number(out, ",\"resume_within\":", welcome.resume_within.div_ceil(1000));
    field_number(out, ",\"limits\":{\"max_message_size\":", limits.max_message_size as u64);
    field_number(out, ",\"in_flight\":", limits.in_flight as u64);
    field_number(out, ",\"rooms\":", limits.rooms_per_session as u64);
    field_number(out, ",\"page_bytes\":", limits.page_bytes as u64);
    field_number(out, ",\"request_rate\":", u64::from(limits.request_rate));
    field_number(out, ",\"ping_period_ms\":", limits.ping_period);
    text(out, ",\"durability\":\"");
    text(out, limits.durability.as_str());
    text(out, "\"}}");
}

/// What `joined` says beside id and room.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub epoch: &'a Epoch,
    pub head: Seq,
    pub from: Seq,
    pub recovered: bool,
    pub members: usize,
}

pub fn joined(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, joined: &Joined<'_>) {
    text(out, "{\"type\":\"joined\"");
    id_field(out, id);
    room_field(out, room);
    text(out, ",\"epoch\":");
    write_string(out, &joined.epoch.0);
    field_number(out, ",\"head\":", joined.head.0);
    field_number(out, ",\"from\":", joined.from.0);
    text(out, if joined.recovered { ",\"recovered\":true" } else { ",\"recovered\":false" });
    field_number(out, ",\"members\":", joined.members as u64);
    out.push(b'}');
}

/// One message, the same live and in every list.
pub fn message(out: &mut Vec<u8>, message: &Message) {
    text(out, "{\"type\":\"message\"");
    room_field(out, &message.room);
    field_number(out, ",\"seq\":", message.seq.0);
    field_number(out, ",\"at\":", message.at.0);
    text(out, ",\"from\":");
    author(out, &message.author);
    text(out, ",\"body\":");
    text(out, message.body.as_str());
    if message.body.is_unreadable() {
        text(out, ",\"unreadable\":true");
    }
    out.push(b'}');
}

pub fn live(out: &mut Vec<u8>, room: &RoomId, live: &Live) {
    match live {
        Live::Message(m) => message(out, m),
        Live::Signal { from, body, .. } => {
            text(out, "{\"type\":\"signal\"");
            room_field(out, room);
            text(out, ",\"from\":");
            author(out, from);
            text(out, ",\"body\":");
            text(out, body.as_str());
            out.push(b'}');
        }
    }
}

pub fn ack(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, seq: Seq, at: WallMillis, duplicate: bool) {
    text(out, "{\"type\":\"ack\"");
    id_field(out, id);
    room_field(out, room);
    field_number(out, ",\"seq\":", seq.0);
    field_number(out, ",\"at\":", at.0);
    text(out, if duplicate { ",\"duplicate\":true}" } else { "}" });
}

pub fn left(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId) {
    text(out, "{\"type\":\"left\"");
    id_field(out, id);
    room_field(out, room);
    out.push(b'}');
}

fn separated<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Vec<u8>, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
}

/// `"messages":[...]` of a history, by socket or by HTTP.
pub fn messages(out: &mut Vec<u8>, list: &[Message]) {
    text(out, ",\"messages\":[");
    separated(out, list, message);
    out.push(b']');
}

pub fn history(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, list: &[Message], oldest: Seq, more: bool) {
    text(out, "{\"type\":\"history\"");
    id_field(out, id);
    room_field(out, room);
    messages(out, list);
    field_number(out, ",\"oldest\":", oldest.0);
    text(out, if more { ",\"more\":true}" } else { ",\"more\":false}" });
}

/// `"count":3,"members":[...]`, by socket or by HTTP.
pub fn roster(out: &mut Vec<u8>, roster: &Roster<'_>) {
    field_number(out, ",\"count\":", roster.count as u64);
    text(out, ",\"members\":[");
    separated(out, roster.members, |out, present| {
        text(out, "{\"member\":");
        member_id(out, present.member);
        text(out, ",\"name\":");
        write_string(out, present.name.as_str());
        text(out, if present.away { ",\"away\":true}" } else { "}" });
    });
    text(out, if roster.more { "],\"more\":true" } else { "]" });
}

pub fn members(out: &mut Vec<u8>, id: Option<u64>, room: &RoomId, list: &Roster<'_>) {
    text(out, "{\"type\":\"members\"");
    id_field(out, id);
    room_field(out, room);
    roster(out, list);
    out.push(b'}');
}

pub fn presence(out: &mut Vec<u8>, room: &RoomId, count: usize, events: &[PresenceEvent]) {
    text(out, "{\"type\":\"presence\"");
    room_field(out, room);
    field_number(out, ",\"count\":", count as u64);
    text(out, ",\"events\":[");
    separated(out, events, |out, event| {
        text(
            out,
            match event.kind {
                PresenceKind::Join => "{\"event\":\"join\",\"member\":",
                PresenceKind::Leave => "{\"event\":\"leave\",\"member\":",
                PresenceKind::Away => "{\"event\":\"away\",\"member\":",
                PresenceKind::Back => "{\"event\":\"back\",\"member\":",
            },
        );
        member_id(out, event.member);
        text(out, ",\"name\":");
        write_string(out, event.name.as_str());
        out.push(b'}');
    });
    text(out, "]}");
}

/// `session` is a fresh token, where the client's is getting old.
pub fn pong<'a>(
    out: &mut Vec<u8>,
    id: Option<u64>,
    session: Option<&str>,
    heads: impl Iterator<Item = (&'a RoomId, Seq)>,
) {
    text(out, "{\"type\":\"pong\"");
    id_field(out, id);
    if let Some(session) = session {
        text(out, ",\"session\":");
        write_string(out, session);
    }
    text(out, ",\"heads\":{");
    separated(out, heads, |out, (room, seq)| {
        write_string(out, room.as_str());
        field_number(out, ":", seq.0);
    });
    text(out, "}}");
}

pub fn lagging(out: &mut Vec<u8>, room: &RoomId, behind: u64) {
    text(out, "{\"type\":\"lagging\"");
    room_field(out, room);
    field_number(out, ",\"behind\":", behind);
    out.push(b'}');
}

pub fn gap(out: &mut Vec<u8>, room: &RoomId, after: Seq, from: Seq) {
    text(out, "{\"type\":\"gap\"");
    room_field(out, room);
    field_number(out, ",\"after\":", after.0);
    field_number(out, ",\"from\":", from.0);
    out.push(b'}');
}

pub fn error(out: &mut Vec<u8>, refusal: &Refusal) {
    text(out, "{\"type\":\"error\"");
    id_field(out, refusal.id);
    text(out, ",\"code\":\"");
    text(out, refusal.code.as_str());
    out.push(b'"');
    if let Some(field) = refusal.field {
        text(out, ",\"field\":\"");
        text(out, field);
        out.push(b'"');
    }
    text(out, ",\"message\":");
    write_string(out, &refusal.message);
    if let Some(ms) = refusal.retry_after_ms {
        field_number(out, ",\"retry_after_ms\":", ms);
    }
    out.push(b'}');
}

/// The last words before a close frame.
pub fn bye(out: &mut Vec<u8>, reason: &str, message: Option<&str>, reconnect_after_ms: Option<u64>) {
    text(out, "{\"type\":\"bye\",\"reason\":");
    write_string(out, reason);
    if let Some(message) = message {
        text(out, ",\"message\":");
        write_string(out, message);
    }
    if let Some(ms) = reconnect_after_ms {
        field_number(out, ",\"reconnect_after_ms\":", ms);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubError;
    use crate::hub::Present;
    use crate::protocol::reasons::{Reason, StoreFault};
    use crate::store::Why;
    use crate::types::Body;

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
        assert_eq!(json(|out| left(out, Some(2), &room()))["id"], 2);
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
        let greeting = Welcome { session: "t0-k_n", member, name: &greeted, resume_within: 30_000 };
        let value = json(|out| welcome(out, Some(6), &greeting, &limits));
        assert_eq!(value["limits"]["durability"], "full");
        assert_eq!(
            (&value["id"], &value["session"], &value["resume_within"]),
            (&6.into(), &"t0-k_n".into(), &30.into())
        );
    }
}
