//! Two clients as the hub sees them, and the conclusions that each may draw from what it is told.

use core::ops::Range;

use racerd::hub::{Broadcast, CaughtUp, Clients, Delivery, HubError, Live, Notice};
use racerd::testing::judge::{self, Begin};
use racerd::types::{ConnId, Epoch, MemberId, Message, RoomId};

/// The index of the client whose queue holds one item at a time; the other takes whatever comes.
pub const SLOW: usize = 1;

#[derive(Clone, Default, Hash)]
pub struct Judge {
    pub clients: [Client; 2],
    pub said: Vec<Said>,
    /// The first inconsistency that the client saw.
    pub fault: Option<String>,
}

#[derive(Clone, Default, Hash)]
pub struct Client {
    /// The number of its present connection; its earlier ones are closed.
    pub generation: u32,
    pub connected: bool,
    pub place: Place,
    pub queued: usize,
    pub wants_drained: bool,
    /// The last seq that the client has received.
    pub known: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Place {
    #[default]
    Out,
    Joining(From),
    /// In the room; this seq is expected next.
    In(u64),
}

/// The place where a join is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    Now,
    After(u64),
    Newest(u64),
}

/// One message and its fate, as far as its sender knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Said {
    /// `None`: sent from outside.
    pub by: Option<(usize, u32)>,
    pub fate: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    Nothing,
    Refused,
    /// Refused, and sent once more: it may have been stored the first time, and be heard before this answer.
    Again,
    Acked(u64),
    /// Its sender is gone and will not learn the fate.
    Lost,
}

pub fn conn(client: usize, generation: u32) -> ConnId {
    ConnId { index: client as u32, generation }
}

pub fn member(client: usize) -> MemberId {
    MemberId::from_random(client as u64 + 1)
}

impl Judge {
    fn of(&mut self, conn: ConnId) -> Option<(usize, &mut Client)> {
        let index = conn.index as usize;
        let client = self.clients.get_mut(index)?;
        (client.connected && client.generation == conn.generation).then_some((index, client))
    }

    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.fault.is_none() {
            self.fault = Some(what());
        }
    }

    fn hear(&mut self, index: usize, message: &Message) {
        let client = &mut self.clients[index];
        let Place::In(mut next) = client.place else {
            return self.require(false, || format!("client {index} hears {} and is not in the room", message.seq.0));
        };
        let judged = judge::message(&mut next, message.seq.0);
        (client.place, client.known) = (Place::In(next), message.seq.0);
        let generation = client.generation;
        self.require(judged.is_ok(), || format!("client {index}: {}", judged.unwrap_err()));
        let body = message.body.as_str().parse::<usize>().unwrap_or(usize::MAX);
        let said = self.said.get(body).copied();
        self.require(said.is_some(), || "nobody said that".to_owned());
        let is_own = said.is_some_and(|said| said.by == Some((index, generation)) && said.fate == Told::Nothing);
        self.require(!is_own, || format!("client {index} hears its own message {} before its ack", message.seq.0));
    }

    fn answered(&mut self, id: Option<u64>, told: Told) {
        let said = id.and_then(|id| self.said.get_mut(id as usize));
        let was = said.map(|said| std::mem::replace(&mut said.fate, told));
        self.require(matches!(was, Some(Told::Nothing | Told::Again)), || "an answer that nobody waits for".to_owned());
    }

    fn joined(&mut self, index: usize, head: u64, from: u64, recovered: bool) {
        let client = &mut self.clients[index];
        let Place::Joining(start) = client.place else {
            return self.require(false, || format!("client {index} has joined, and did not ask to"));
        };
        client.place = Place::In(from);
        client.known = client.known.max(from - 1);
        let begin = match start {
            From::Now => Begin::Now,
            From::After(seq) => Begin::After(seq),
            From::Newest(count) => Begin::Last(count),
        };
        // The log keeps everything, so everything can be recovered.
        let judged = begin.judge(head, from, recovered, Some(1));
        self.require(judged.is_ok() && recovered, || format!("client {index}: {judged:?}, recovered: {recovered}"));
    }
}

impl Clients for Judge {
    type Frames<'a> = Vec<Option<Message>>;

    fn encode(&mut self, _room: &RoomId, _epoch: &Epoch, broadcast: Broadcast<'_>) -> Vec<Option<Message>> {
        match broadcast {
            Broadcast::Live(list) => {
                let message =
                    |live: &Live| if let Live::Message(message) = live { Some(message.clone()) } else { None };
                list.iter().map(message).collect()
            }
            Broadcast::Presence { .. } | Broadcast::Members(_) => vec![None],
        }
    }

    fn deliver(&mut self, client: ConnId, frames: &Vec<Option<Message>>, part: Range<usize>) -> Delivery {
        let Some((index, client)) = self.of(client) else { return Delivery::Taken };
        if index == SLOW && client.queued > 0 {
            return Delivery::Full;
        }
        client.queued += usize::from(index == SLOW) * part.len();
        for message in &frames[part] {
            match message {
                Some(message) => self.hear(index, message),
                None => self.require(false, || format!("client {index} hears of others, and wanted not to")),
            }
        }
        Delivery::Taken
    }

    fn tell(&mut self, client: ConnId, notice: Notice<'_>) {
        let Some((index, client)) = self.of(client) else { return };
        client.queued += usize::from(index == SLOW);
        match notice {
            Notice::Joined { head, from, recovered, .. } => self.joined(index, head.0, from.0, recovered),
            Notice::Left { .. } => client.place = Place::Out,
            Notice::Ack { id, seq, .. } => self.answered(id, Told::Acked(seq.0)),
            // The answer to the join itself.
            Notice::Refused { id: Some(id), .. } if id == u64::from(u32::MAX) => {
                self.require(matches!(self.clients[index].place, Place::Joining(_)), || "no join to refuse".to_owned());
                self.clients[index].place = Place::Out;
            }
            Notice::Refused { id, error: HubError::StorageUnavailable } => self.answered(id, Told::Refused),
            Notice::Lagging { .. } => {
                let is_in = matches!(client.place, Place::In(_));
                self.require(is_in, || format!("client {index} lags where it is not"));
            }
            other => self.require(false, || format!("client {index} hears {other:?}")),
        }
    }

    fn catch_up(&mut self, client: ConnId, _stay: u32, _epoch: &Epoch, messages: &[Message]) -> CaughtUp {
        if let Some((index, client)) = self.of(client) {
            client.queued += usize::from(index == SLOW);
            messages.iter().for_each(|message| self.hear(index, message));
        }
        CaughtUp { messages: messages.len(), work: 1 }
    }

    fn has_room(&mut self, client: ConnId) -> bool {
        let Some((_, client)) = self.of(client) else { return false };
        client.wants_drained = client.queued > 0;
        client.queued == 0
    }
}
