//! One room: its members with their cursors, and what is to be told to them at the end of the turn. Who stands where is
//! decided here; `fan_out` and `presence` do the telling.

use std::collections::VecDeque;

use super::clients::{Live, PresenceEvent};
use super::run::Run;
use super::{Presence, Start};
use crate::store::{Append, Purpose, Ticket};
use crate::types::{ConnId, MemberId, Millis, RoomId, Seq, SessionSlot};

/// A room that somebody is in.
#[derive(Clone)]
pub struct Room {
    pub id: RoomId,
    /// Tells this stay in the map from an earlier one of the same id, for answers that come late.
    pub stay: u32,
    /// The last seq that a commit told of, or the log's when the first page was read. Until `head_known`, the log reaches
    /// at least this far.
    pub head: Seq,
    pub head_known: bool,
    /// The oldest seq that the log still had when it was last read.
    pub oldest: Option<Seq>,
    /// A read of the log is on its way, for whoever waits for it.
    pub reading: bool,
    /// Whose turn it is to choose what is read next.
    pub next_reader: usize,
    /// The newest messages, up to the last that was told.
    pub tail: Run,
    /// Older ones that were read from the log lately.
    pub past: Run,
    /// When the two were last touched, and the bytes that they had then: for [`super::tail::Tails`].
    pub touched: Option<(u64, usize)>,
    pub members: Vec<Member>,
    /// Those of them that only listen: nobody is told of them.
    pub followers: usize,
    /// What this turn said, in order; messages in rising order of seq.
    pub live: Vec<Live>,
    /// The log holds messages up to `head` that no commit brought here.
    pub unheard: bool,
    /// The first page came, and may show messages that are not acknowledged yet: its head counts when the store has decided
    /// this many more appends.
    pub undecided: u32,
    /// Who came and went in this turn.
    pub events: Vec<PresenceEvent>,
    /// The number of members changed since it was last told.
    pub count_changed: bool,
    /// More than `presence_max` members, or so until a moment ago: only counts are told.
    pub is_large: bool,
    /// When a large room may tell its count again, or become a small one.
    pub next_count: Millis,
    /// A deadline for that is set.
    pub count_armed: bool,
    /// A live member is owed the list of members or their number.
    pub roster_owed: bool,
    /// Stands in the hub's list of rooms with something to tell.
    pub dirty: bool,
}

/// One session's presence in the room.
#[derive(Clone, Hash)]
pub struct Member {
    pub session: SessionSlot,
    /// Its session's, for what it is not to hear of itself.
    pub member: MemberId,
    pub client: ConnId,
    /// The last seq queued to the client.
    pub cursor: Seq,
    pub state: State,
    pub presence: Presence,
    /// It missed something of who is here, and is owed the list of members (or their number, if that is all it hears).
    pub owed_roster: bool,
    /// It goes on when the room's next read comes.
    pub waiting: bool,
    /// Present until `joined` was sent.
    pub joining: Option<Box<Joining>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `joined` is not sent yet: nothing of the room may precede it.
    Joining,
    /// The log is read for it, after its cursor.
    Lagging,
    /// Its cursor stands at the end of what was fanned out.
    Live,
    /// Its client dropped and may come back: nothing is queued.
    Away,
}

#[derive(Clone, Hash)]
pub struct Joining {
    pub id: Option<u64>,
    pub start: Start,
    /// What the member said meanwhile. It goes to the store after `joined`, so that no ack precedes that and the
    /// member hears its own message.
    pub sends: Vec<Append>,
    /// It was a member before, and only its client is new.
    pub resumes: bool,
}

impl Room {
    pub fn new(id: RoomId, stay: u32) -> Room {
        Room {
            id,
            stay,
            head: Seq::ZERO,
            head_known: false,
            oldest: None,
            reading: false,
            next_reader: 0,
            tail: Run::default(),
            past: Run::default(),
            touched: None,
            members: Vec::new(),
            followers: 0,
            live: Vec::new(),
            unheard: false,
            undecided: 0,
            events: Vec::new(),
            count_changed: false,
            is_large: false,
            next_count: Millis(0),
            count_armed: false,
            roster_owed: false,
            dirty: false,
        }
    }

    /// Puts the room on the list of those with something to tell.
    pub fn mark_dirty(&mut self, dirty: &mut VecDeque<RoomId>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push_back(self.id.clone());
        }
    }

    pub fn presence_changed(&mut self, event: PresenceEvent, dirty: &mut VecDeque<RoomId>) {
        self.events.push(event);
        self.count_changed = true;
        self.mark_dirty(dirty);
    }

    /// How many members there are in the eyes of the others.
    pub fn count(&self) -> usize {
        self.members.len() - self.followers
    }

    /// The seq that a member has to have reached to be live: what lies after it, this turn's fan-out brings.
    pub fn live_from(&self) -> Seq {
        let first = self.live.iter().find_map(|live| match live {
            Live::Message(message) => Some(Seq(message.seq.0.saturating_sub(1))),
            Live::Signal { .. } => None,
        });
        first.unwrap_or(self.head)
    }

    /// What the room's own reads are known by.
    pub fn ticket(&self) -> Ticket {
        Ticket { conn: ConnId::NOBODY, purpose: Purpose::Deliver, tag: u64::from(self.stay) }
    }
}

impl Member {
    /// The client took no more: the log is read for it when it can. It misses who comes and goes meanwhile.
    pub fn lag(&mut self) {
        self.state = State::Lagging;
        self.owed_roster |= self.presence == Presence::Full;
    }
}
