//! What is true, as simply as it can be said: the messages of each room in the order in which they were committed, what
//! of them was acknowledged, and which the log still has. Everything that a client hears is held against it.
//!
//! Checkers: (1) what was acknowledged is in the log, with its seq; (3) what was sent once is stored once.

use std::collections::{BTreeMap, BTreeSet};

use racerd::store::{MemoryLog, Page, Purpose, Read, Span, Ticket};
use racerd::types::{ConnId, Message, RoomId, Seq};

use super::scene::{Checked, violation};

pub struct Model {
    /// The epoch of the log as it is now, also while no server is up.
    pub epoch: String,
    pub rooms: Vec<Room>,
    /// Where each body was stored.
    bodies: BTreeMap<u64, (usize, u64)>,
    /// Those of what no server may obey.
    never: BTreeSet<u64>,
    next_body: u64,
}

pub struct Room {
    pub id: RoomId,
    /// Of seq 1, 2, 3 and so on.
    said: Vec<Said>,
    /// Seqs that somebody was told of, by an acknowledgement or with the message itself.
    acknowledged: BTreeMap<u64, u64>,
    pub told: u64,
    /// The oldest seq that the log keeps.
    pub oldest: u64,
}

struct Said {
    body: u64,
    at: u64,
    name: String,
}

/// The number that a body begins with: no two sends have the same.
pub fn number(body: &str) -> u64 {
    let digits = body.trim_start_matches('"');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(u64::MAX)
}

/// A body as the trace shows it.
pub fn short(body: &str) -> String {
    format!("body {}", number(body))
}

impl Model {
    pub fn new(rooms: usize, epoch: &str) -> Model {
        let room = |n| Room {
            id: RoomId::parse(&format!("r{n}")).expect("a room id"),
            said: Vec::new(),
            acknowledged: BTreeMap::new(),
            told: 0,
            oldest: 1,
        };
        Model {
            epoch: epoch.to_owned(),
            rooms: (0..rooms).map(room).collect(),
            bodies: BTreeMap::new(),
            never: BTreeSet::new(),
            next_body: 0,
        }
    }

    pub fn room(&self, name: &str) -> Option<usize> {
        self.rooms.iter().position(|room| room.id.as_str() == name)
    }

    /// The number of a body that nobody has sent yet.
    pub fn new_body(&mut self) -> u64 {
        self.next_body += 1;
        self.next_body
    }

    /// The number of a body that nobody may ever hear of.
    pub fn body_for_nobody(&mut self) -> u64 {
        let body = self.new_body();
        self.never.insert(body);
        body
    }

    /// A room's last seq.
    pub fn head(&self, room: usize) -> u64 {
        self.rooms[room].said.len() as u64
    }

    /// The store committed a message.
    pub fn stored(&mut self, message: &Message) -> Checked {
        let Some(room) = self.room(message.room.as_str()) else {
            return violation("store", format!("a message in {}, where nobody talks", message.room));
        };
        let (seq, body) = (message.seq.0, number(message.body.as_str()));
        if seq != self.head(room) + 1 {
            return violation("store", format!("{} got seq {seq} behind {}", message.room, self.head(room)));
        }
        if let Some((other, first)) = self.bodies.insert(body, (room, seq)) {
            let other = &self.rooms[other].id;
            let text = format!("body {body} was stored twice: as {other} {first} and as {} {seq}", message.room);
            return violation("3: a key is stored once", text);
        }
        if self.never.contains(&body) {
            return violation("sealed", format!("body {body} was in a broken sequence, and is {} {seq}", message.room));
        }
        let name = message.author.name.as_str().to_owned();
        self.rooms[room].said.push(Said { body, at: message.at.0, name });
        Ok(())
    }

    /// What the log keeps changed.
    pub fn look_at(&mut self, log: &MemoryLog) {
        for room in &mut self.rooms {
            room.oldest = page(log, &room.id, 0).oldest.0;
        }
    }

    /// A client was told that this body is stored as that seq.
    pub fn acknowledged(&mut self, room: usize, seq: u64, at: u64, body: u64) -> Checked {
        const CHECKER: &str = "1: what is acknowledged is in the log";
        let Room { id, said, acknowledged, told, .. } = &mut self.rooms[room];
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

    /// Is that message, which the log holds, of somebody with this name?
    pub fn is_of(&self, room: usize, seq: u64, name: &str) -> bool {
        let said = seq.checked_sub(1).and_then(|index| self.rooms[room].said.get(index as usize));
        said.is_some_and(|said| said.name == name)
    }

    /// A client heard a message, live or in a page.
    pub fn heard(&mut self, room: usize, seq: u64, at: u64, body: u64, name: &str) -> Checked {
        const CHECKER: &str = "2: everyone hears what the log holds";
        let Room { id, said, told, .. } = &mut self.rooms[room];
        let found = seq.checked_sub(1).and_then(|index| said.get(index as usize));
        match found {
            None => violation(CHECKER, format!("{id} {seq} was heard, and the log ends at {}", said.len())),
            Some(found) if (found.body, found.at, found.name.as_str()) != (body, at, name) => violation(
                CHECKER,
                format!(
                    "{id} {seq} was heard as body {body} of {name} at {at}, and it is body {} of {} at {}",
                    found.body, found.name, found.at
                ),
            ),
            Some(_) => {
                *told = seq.max(*told);
                Ok(())
            }
        }
    }

    /// The server began anew over what the disk kept. In the same epoch, nothing may be missing. How many messages are.
    pub fn reopened(&mut self, log: &MemoryLog) -> Checked<u64> {
        const CHECKER: &str = "1: what is acknowledged is in the log";
        let is_new_epoch = *log.epoch().0 != *self.epoch;
        self.epoch = log.epoch().0.to_string();
        let mut lost = 0;
        for room in &mut self.rooms {
            let page = page(log, &room.id, u32::MAX);
            let head = page.head.0;
            if is_new_epoch {
                lost += (room.said.len() as u64).saturating_sub(head);
                room.acknowledged.clear();
                room.told = 0;
                for said in room.said.split_off(room.said.len().min(head as usize)) {
                    self.bodies.remove(&said.body);
                }
            }
            room.oldest = page.oldest.0;
            if head != room.said.len() as u64 {
                return violation(CHECKER, format!("{} ends at {head} after {}", room.id, room.said.len()));
            }
            if !page.messages.is_empty() && page.messages.len() as u64 != head + 1 - page.oldest.0 {
                return violation(CHECKER, format!("{} has not all from {} to {head}", room.id, page.oldest.0));
            }
            for message in &page.messages {
                let (seq, body) = (message.seq.0, number(message.body.as_str()));
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

/// So many of the oldest messages that a log keeps of a room.
fn page(log: &MemoryLog, room: &RoomId, limit: u32) -> Page {
    let ticket = Ticket { conn: ConnId::NOBODY, purpose: Purpose::Browse, tag: 0 };
    let span = Span::After(Seq::ZERO);
    log.read(Read { ticket, room: room.clone(), span, limit, bytes: u32::MAX, upto: Seq::ZERO })
}
