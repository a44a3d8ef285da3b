//! The reference model, as simple as possible: the messages of each room in the order of their commits, which of them
//! were acknowledged, and which the log still has. Everything that a client hears is compared with it.
//!
//! Checkers: (1) every acknowledged message is in the log, with its seq; (3) each message sent once is stored once.

use std::collections::{BTreeMap, BTreeSet};

use racerd::testing::stamp;
use racerd::types::{Era, Message, RoomId, WallMillis};
use serde_json::Value;

use super::bodies::number;
use super::encryption::Sealed;
use super::log::Log;
use super::scene::{Checked, violation};
use super::strangers;

/// (4) of rooms that go and come anew: one room, epoch and seq name one message, and nobody begins anew who lost
/// nothing.
pub const ROOMS: &str = "4: a room that comes anew has another epoch, and no other has";

pub struct Model {
    /// The epoch of the present log, also while no server is up.
    pub epoch: String,
    pub rooms: Vec<Room>,
    /// Where each body was stored last, and at which running second. An encrypted body may be in every room that has no
    /// message of it yet, so it counts separately in each room.
    bodies: BTreeMap<(u64, Option<usize>), (usize, u64, u64)>,
    /// Encrypted bodies that were stored again: the room, and their earlier seq, which must be pruned.
    again: Vec<(usize, u64)>,
    /// The bodies that no server may accept.
    never: BTreeSet<u64>,
    /// The bodies that clients heard as messages, by room, epoch and seq.
    named: BTreeMap<(usize, String, u64), Value>,
    /// The texts that clients were given to send, by number.
    texts: BTreeMap<u64, Value>,
    next_body: u64,
    /// Messages whose rows were damaged, by room and seq.
    pub damaged: BTreeSet<(usize, u64)>,
    /// Seconds that servers have run on the log.
    pub running: u64,
    /// Running seconds for which a key is remembered at least.
    pub key_life: u64,
}

pub struct Room {
    pub id: RoomId,
    /// The era of the row; `None` until the room has its first message.
    pub era: Option<u64>,
    /// Rooms of this name that were removed, with what was said there.
    gone: Vec<(u64, Vec<Said>)>,
    /// The messages from seq 1 on, in order.
    said: Vec<Said>,
    /// Seqs that a client was told of, by an acknowledgement or with the message itself.
    acknowledged: BTreeMap<u64, u64>,
    pub told: u64,
    /// The oldest seq that the log keeps.
    pub oldest: u64,
}

struct Said {
    body: u64,
    at: u64,
    name: String,
    /// The member as clients see it; `None` if posted over HTTP.
    member: Option<String>,
    value: Value,
    /// The JSON text of an encrypted body, exactly as it was sent.
    sealed: Option<Box<str>>,
    /// Bytes of body and name.
    bytes: u64,
}

/// A message with an encrypted body that its room keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub seq: u64,
    run: u32,
}

impl Said {
    /// Returns the key by which its body is recognised in this room.
    fn known_as(&self, room: usize) -> (u64, Option<usize>) {
        (self.body, self.sealed.as_ref().map(|_| room))
    }
}

impl Room {
    /// Returns whether the room of this name that had this era was removed.
    pub fn is_gone(&self, era: u64) -> bool {
        self.gone.iter().any(|(gone, _)| *gone == era)
    }

    /// Returns the last seq.
    pub fn head(&self) -> u64 {
        self.said.len() as u64
    }

    /// Returns the time of a message.
    pub fn at(&self, seq: u64) -> Option<u64> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.said.get(index).map(|said| said.at)
    }
}

/// Formats a message for the trace.
pub fn short(message: &Message) -> String {
    format!("body {}", value(message).as_ref().map_or(u64::MAX, number))
}

fn value(message: &Message) -> Option<Value> {
    serde_json::from_str(message.body.as_str()).ok()
}

impl Model {
    pub fn new(rooms: usize, epoch: &str) -> Model {
        let room = |n| Room {
            id: RoomId::parse(&format!("r{n}")).expect("a room id"),
            era: None,
            gone: Vec::new(),
            said: Vec::new(),
            acknowledged: BTreeMap::new(),
            told: 0,
            oldest: 1,
        };
        Model {
            epoch: epoch.to_owned(),
            rooms: (0..rooms).map(room).collect(),
            bodies: BTreeMap::new(),
            again: Vec::new(),
            never: BTreeSet::new(),
            named: BTreeMap::new(),
            texts: BTreeMap::new(),
            next_body: 0,
            damaged: BTreeSet::new(),
            running: 0,
            key_life: u64::MAX,
        }
    }

    pub fn room(&self, name: &str) -> Option<usize> {
        // Most rooms are named by their index.
        let place = name.bytes().next_back().map_or(0, |digit| usize::from(digit.wrapping_sub(b'0')));
        let is_it = |room: &Room| room.id.as_str() == name;
        if self.rooms.get(place).is_some_and(is_it) { Some(place) } else { self.rooms.iter().position(is_it) }
    }

    /// Returns a new body's number.
    pub fn new_body(&mut self) -> u64 {
        self.next_body += 1;
        self.next_body
    }

    /// Records the text of the body with this number.
    pub fn write(&mut self, body: u64, text: &str) {
        self.texts.insert(body, serde_json::from_str(text).expect("a body is JSON"));
    }

    /// Returns the number of a body that no client may ever hear.
    pub fn body_for_nobody(&mut self) -> u64 {
        let body = self.new_body();
        self.never.insert(body);
        body
    }

    /// Returns a room's last seq.
    pub fn head(&self, room: usize) -> u64 {
        self.rooms[room].said.len() as u64
    }

    /// Returns whether no key has expired yet.
    pub fn knows_all_keys(&self) -> bool {
        self.running <= self.key_life
    }

    /// Records that the store removed a room, which must have had no message left.
    pub fn removed(&mut self, name: &RoomId) -> Checked {
        if strangers::is_theirs(name.as_str()) {
            return Ok(());
        }
        let Some(index) = self.room(name.as_str()) else {
            return violation(ROOMS, format!("{name} was removed, where nobody talks"));
        };
        let Room { id, era, gone, said, acknowledged, told, oldest } = &mut self.rooms[index];
        let Some(before) = era.take().filter(|_| *oldest > said.len() as u64) else {
            return violation(ROOMS, format!("{id} was removed with {oldest} to {} in it", said.len()));
        };
        gone.push((before, std::mem::take(said)));
        acknowledged.clear();
        (*told, *oldest) = (0, 1);
        self.bodies.retain(|_, (of, ..)| *of != index);
        self.again.retain(|(of, _)| *of != index);
        self.damaged.retain(|(of, _)| *of != index);
        Ok(())
    }

    /// Checks that a room, an epoch and a seq name one message, whatever was removed or lost in between.
    pub fn named(&mut self, room: usize, epoch: &str, message: &Value) -> Checked {
        let (seq, body) = (message["seq"].as_u64().unwrap_or(0), &message["body"]);
        // What cannot be read is damaged, and the same message.
        if message["unreadable"] == true {
            return Ok(());
        }
        let before = self.named.entry((room, epoch.to_owned(), seq)).or_insert_with(|| body.clone());
        if before != body {
            let text = format!("{} {epoch} {seq} is {body}, and was {before}", self.rooms[room].id);
            return violation(ROOMS, text);
        }
        Ok(())
    }

    /// Records that the store committed a message that the server received at `wall` by its clock, in a room of this
    /// era. Returns whether that came anew with it.
    pub fn stored(&mut self, message: &Message, era: Option<Era>, wall: u64) -> Checked<bool> {
        if strangers::is_theirs(message.room.as_str()) {
            return Ok(false);
        }
        let Some(room) = self.room(message.room.as_str()) else {
            return violation("store", format!("a message in {}, where nobody talks", message.room));
        };
        let Some(value) = value(message) else {
            return violation("store", format!("a body that is no JSON: {}", message.body.as_str()));
        };
        let (seq, body) = (message.seq.0, number(&value));
        if self.texts.get(&body).is_some_and(|text| *text != value) {
            return violation(
                "store",
                format!("body {body} was given as {} and is stored as {value}", self.texts[&body]),
            );
        }
        if seq != self.head(room) + 1 {
            return violation("store", format!("{} got seq {seq} behind {}", message.room, self.head(room)));
        }
        let last = self.rooms[room].said.last().map(|said| said.at);
        let at = stamp(WallMillis(wall), last.map(WallMillis)).0;
        if message.at.0 != at {
            let text = format!(
                "{} {seq} is of {}; the clock showed {wall} and the one before is of {last:?}, so it is to be of {at}",
                message.room, message.at.0
            );
            return violation("dates: a stamp is the clock's, but for small steps back", text);
        }
        if self.never.contains(&body) {
            return violation("sealed", format!("body {body} was in a broken sequence, and is {} {seq}", message.room));
        }
        let name = message.author.name.as_str().to_owned();
        let bytes = (message.body.len() + name.len()) as u64;
        let member = message.author.member.map(|member| format!("m-{:012x}", member.as_u64()));
        let sealed = value.get("e2e").map(|_| message.body.as_str().into());
        let said = Said { body, at: message.at.0, name, member, value, sealed, bytes };
        let before = self.bodies.insert(said.known_as(room), (room, seq, self.running));
        let is_known = |then: u64| self.running.saturating_sub(then) <= self.key_life;
        if let Some((other, first, then)) = before {
            if said.sealed.is_some() {
                self.again.push((room, first));
            }
            // Another member's key has another scope.
            let is_same_key = said.sealed.is_none() || self.rooms[other].said[first as usize - 1].member == said.member;
            if is_same_key && is_known(then) {
                let other = &self.rooms[other].id;
                let text = format!("body {body} was stored twice: as {other} {first} and as {} {seq}", message.room);
                return violation("3: a key is stored once", text);
            }
        }
        let Room { id, era: known, gone, said: list, .. } = &mut self.rooms[room];
        let era = era.map(|era| era.0);
        if era.is_none()
            || known.is_some_and(|known| Some(known) != era)
            || gone.iter().any(|(gone, _)| Some(*gone) >= era)
        {
            return violation(
                ROOMS,
                format!("{id} {seq} has the era {era:?}; its row had {known:?}, after {}", gone.len()),
            );
        }
        let is_anew = known.is_none() && !gone.is_empty();
        *known = era;
        list.push(said);
        Ok(is_anew)
    }

    /// Returns whether the key of a message may be forgotten: nobody has used it for long, perhaps because the machine
    /// slept.
    pub fn may_forget_the_key_of(&self, room: usize, seq: u64) -> bool {
        let is_old = |then: u64| self.running.saturating_sub(then) > self.key_life;
        self.bodies.values().any(|(of, at, then)| (*of, *at) == (room, seq) && is_old(*then))
    }

    /// Checks, after the log was read behind a commit, that no encrypted body is kept twice.
    pub fn judge_again(&mut self) -> Checked {
        for (room, before) in std::mem::take(&mut self.again) {
            let Room { id, oldest, .. } = &self.rooms[room];
            if before >= *oldest {
                let text =
                    format!("the body of {id} {before} was stored again, and {oldest} is the oldest that is kept");
                return violation("replays: a room keeps a sealed body once", text);
            }
        }
        Ok(())
    }

    /// Returns the last message of this encrypted body in the room, whether or not it is kept.
    pub fn last(&self, room: usize, body: u64) -> Option<u64> {
        self.bodies.get(&(body, Some(room))).map(|(_, seq, _)| *seq)
    }

    /// Returns the message of this encrypted body that the room keeps; `run` is the start of the present server.
    pub fn kept(&self, room: usize, body: u64, run: u32) -> Option<Kept> {
        let seq = self.last(room, body)?;
        (seq >= self.rooms[room].oldest).then_some(Kept { seq, run })
    }

    /// Returns whether this message was sent over HTTP with exactly this text. All publishers share one scope of keys.
    pub fn is_published(&self, room: usize, seq: u64, text: &str) -> bool {
        let said = seq.checked_sub(1).and_then(|index| self.rooms[room].said.get(index as usize));
        said.is_some_and(|said| said.member.is_none() && said.sealed.as_deref() == Some(text))
    }

    /// Returns whether an encrypted message under the same key was sent over HTTP with another text.
    pub fn is_published_otherwise(&self, room: usize, text: &str) -> bool {
        let key_of = |text: &str| Sealed::of(&serde_json::from_str(text).unwrap_or_default()).map(|sealed| sealed.key);
        let key = key_of(text);
        let published = self.rooms[room].said.iter().rev().filter(|said| said.member.is_none());
        let mut texts = published.filter_map(|said| said.sealed.as_deref());
        texts.any(|other| other != text && key_of(other) == key)
    }

    /// Returns whether this message is from this member.
    pub fn is_by(&self, room: usize, seq: u64, member: &str) -> bool {
        let said = seq.checked_sub(1).and_then(|index| self.rooms[room].said.get(index as usize));
        said.is_some_and(|said| said.member.as_deref() == Some(member))
    }

    /// Checks a client's acknowledgement that this body is stored at this seq.
    pub fn acknowledged(&mut self, room: usize, seq: u64, at: u64, body: u64) -> Checked {
        const CHECKER: &str = "1: what is acknowledged is in the log";
        let Room { id, said, gone, acknowledged, told, .. } = &mut self.rooms[room];
        let in_log = |said: &Vec<Said>| {
            let found = seq.checked_sub(1).and_then(|index| said.get(index as usize))?;
            Some((found.body, found.at))
        };
        // It may have been on its way to the client for longer than the room was there.
        if gone.iter().any(|(_, said)| in_log(said) == Some((body, at))) {
            return Ok(());
        }
        let found = seq.checked_sub(1).and_then(|index| said.get(index as usize));
        match found {
            None => violation(CHECKER, format!("{id} {seq} was acknowledged, and the log ends at {}", said.len())),
            Some(found) if (found.body, found.at) != (body, at) => violation(
                CHECKER,
                format!(
                    "body {body} was acknowledged as {id} {seq} at {at}, and that is body {} at {}",
                    found.body, found.at
                ),
            ),
            Some(_) => {
                acknowledged.insert(seq, body);
                *told = seq.max(*told);
                Ok(())
            }
        }
    }

    /// Returns whether this message, which the log holds or held before the room was removed, is from somebody of this
    /// name.
    pub fn is_of(&self, room: usize, seq: u64, name: &str) -> bool {
        let Room { said, gone, .. } = &self.rooms[room];
        let is_of = |said: &Vec<Said>| {
            let said = seq.checked_sub(1).and_then(|index| said.get(index as usize));
            said.is_some_and(|said| said.name == name)
        };
        is_of(said) || gone.iter().any(|(_, said)| is_of(said))
    }

    /// Returns the bytes of the body and the name of a message that the log holds.
    pub fn bytes(&self, room: usize, seq: u64) -> u64 {
        let said = seq.checked_sub(1).and_then(|index| self.rooms[room].said.get(index as usize));
        said.map_or(0, |said| said.bytes)
    }

    /// Checks a message that a client heard, live or in a page.
    pub fn heard(&mut self, room: usize, message: &Value) -> Checked {
        const CHECKER: &str = "2: everyone hears what the log holds";
        let Room { id, said, gone, told, .. } = &mut self.rooms[room];
        let seq = message["seq"].as_u64().unwrap_or(0);
        let is = |found: &Said| {
            message["at"] == found.at
                && message["from"]["name"] == *found.name
                && message["from"]["member"].as_str() == found.member.as_deref()
                && message["body"] == found.value
                && message["unreadable"].is_null()
        };
        let in_log =
            |said: &Vec<Said>| seq.checked_sub(1).is_some_and(|index| said.get(index as usize).is_some_and(is));
        // It may have been on its way to the client for longer than the room was there.
        if gone.iter().any(|(_, said)| in_log(said)) {
            return Ok(());
        }
        let Some(found) = seq.checked_sub(1).and_then(|index| said.get(index as usize)) else {
            return violation(CHECKER, format!("{id} {seq} was heard, and the log ends at {}", said.len()));
        };
        if message["unreadable"] == true && message["body"].is_null() && self.damaged.contains(&(room, seq)) {
            *told = seq.max(*told);
            return Ok(());
        }
        if !is(found) {
            let (member, name) = (&found.member, &found.name);
            let text = format!(
                "{id} {seq} was heard as {message}, and it is {} of {member:?} {name} at {}",
                found.value, found.at
            );
            return violation(CHECKER, text);
        }
        *told = seq.max(*told);
        Ok(())
    }

    /// Checks the log of a new server against what the disk kept: in the same epoch, nothing may be missing. Returns
    /// the number of missing messages.
    pub fn reopened(&mut self, log: &mut Log) -> Checked<u64> {
        const CHECKER: &str = "1: what is acknowledged is in the log";
        let is_new_epoch = log.epoch() != self.epoch;
        self.epoch = log.epoch().to_owned();
        let mut lost = 0;
        for (index, room) in self.rooms.iter_mut().enumerate() {
            let Some(page) = log.page(&room.id, u32::MAX) else {
                return violation(CHECKER, format!("{} cannot be read", room.id));
            };
            let head = page.head.0;
            if is_new_epoch {
                // A removal may be lost with the rest.
                while room.era != Some(page.era.0) && head > 0 {
                    let Some((era, said)) = room.gone.pop() else { break };
                    (room.era, room.said) = (Some(era), said);
                }
                if head == 0 {
                    room.era = None;
                }
                room.gone.clear();
                lost += (room.said.len() as u64).saturating_sub(head);
                room.acknowledged.clear();
                room.told = 0;
                self.damaged.retain(|(of, seq)| *of != index || *seq <= head);
                for said in room.said.split_off(room.said.len().min(head as usize)) {
                    self.bodies.remove(&said.known_as(index));
                }
            }
            room.oldest = page.oldest.0;
            if head > 0 && room.era != Some(page.era.0) {
                return violation(ROOMS, format!("{} has the era {:?}, and had {:?}", room.id, page.era, room.era));
            }
            if head != room.said.len() as u64 {
                return violation(CHECKER, format!("{} ends at {head} after {}", room.id, room.said.len()));
            }
            if !page.messages.is_empty() && page.messages.len() as u64 != head + 1 - page.oldest.0 {
                return violation(CHECKER, format!("{} has not all from {} to {head}", room.id, page.oldest.0));
            }
            for message in &page.messages {
                if message.body.is_unreadable() && self.damaged.contains(&(index, message.seq.0)) {
                    continue;
                }
                let (seq, body) = (message.seq.0, value(message).as_ref().map_or(u64::MAX, number));
                let is = room.said[seq as usize - 1].body;
                let told = room.acknowledged.get(&seq).copied().unwrap_or(is);
                if (is, told) != (body, body) {
                    let text = format!("{} {seq} is body {body} now; it was {is}, acknowledged as {told}", room.id);
                    return violation(CHECKER, text);
                }
            }
            if let Some((seq, _)) = room.acknowledged.last_key_value().filter(|(seq, _)| **seq > head) {
                return violation(CHECKER, format!("{} {seq} was acknowledged and is gone", room.id));
            }
        }
        Ok(lost)
    }
}
