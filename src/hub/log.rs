//! What a room knows of its log, and the part of it in memory.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::agenda::Line;
use super::run::Run;
use crate::types::{Epoch, Era, Seq};

/// The reading part of a room.
#[derive(Clone, Hash)]
pub struct RoomLog {
    /// The seq of the last commit, or the log's last seq when the first page was read. The log reaches at least this
    /// far.
    pub head: Seq,
    pub knowledge: Knowledge,
    /// The incarnation that members are told, and append with, once the head is known.
    pub incarnation: Arc<Incarnation>,
    /// The oldest seq that the log still had when it was last read.
    pub oldest: Option<Seq>,
    pub read: ReadState,
    /// The index of the member at which the search for the next reader begins. The reader chooses the page, so that
    /// each waiting member has its turn.
    pub next_reader: u32,
    /// The seat at which the search for the next member begins that waits for a turn.
    pub next_turn: u32,
    /// Whether the room is in the hub's line of rooms with such members.
    line: Line,
    /// The newest messages, up to the last one whose fan-out has begun.
    pub tail: Run,
    /// Older messages, recently read from the log.
    pub past: Run,
}

/// Which of the rooms of its name a room is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    pub era: Era,
    /// The epoch of its members' cursors.
    pub epoch: Epoch,
}

impl Incarnation {
    /// Returns that of a room in the log with this epoch.
    pub fn new(log: &Epoch, era: Era) -> Incarnation {
        Incarnation { era, epoch: log.of_room(era) }
    }
}

/// Whether `head` is where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knowledge {
    /// No page has come, and no commit.
    Unread,
    /// The first page came, and may show messages that are not acknowledged yet: its head counts once the store has
    /// decided this many more appends.
    Held {
        undecided: NonZeroU32,
    },
    Known,
}

/// Whether a read of the log is in flight, for all waiting members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadState {
    Idle,
    InFlight,
}

impl RoomLog {
    /// Creates the reading part of a room that nothing is known of, except what most are.
    pub fn new(incarnation: Arc<Incarnation>) -> RoomLog {
        RoomLog {
            head: Seq::ZERO,
            knowledge: Knowledge::Unread,
            incarnation,
            oldest: None,
            read: ReadState::Idle,
            next_reader: 0,
            next_turn: 0,
            line: Line::Outside,
            tail: Run::default(),
            past: Run::default(),
        }
    }

    pub fn is_known(&self) -> bool {
        self.knowledge == Knowledge::Known
    }

    pub fn is_held(&self) -> bool {
        matches!(self.knowledge, Knowledge::Held { .. })
    }

    /// Returns whether a read may be requested: none is in flight, and the last page is neither held back nor still to
    /// be given to somebody.
    pub fn may_read(&self) -> bool {
        self.read == ReadState::Idle && !self.is_held() && self.line == Line::Outside
    }

    /// Notes that the room is in the line of those with members that wait for a turn. Returns false if it was before.
    pub fn join_line(&mut self) -> bool {
        std::mem::replace(&mut self.line, Line::Inside) == Line::Outside
    }

    pub fn leave_line(&mut self) {
        self.line = Line::Outside;
    }

    /// Returns whether the room is in that line.
    pub fn is_in_line(&self) -> bool {
        self.line == Line::Inside
    }

    /// Takes over which of the rooms of its name this is. Nobody was told before.
    pub fn is_of(&mut self, log: &Epoch, era: Era) {
        if self.incarnation.era != era {
            self.incarnation = Arc::new(Incarnation::new(log, era));
        }
    }

    /// Takes over the head of the first page, which counts once the store has decided `undecided` appends.
    pub fn hold(&mut self, head: Seq, undecided: u32) {
        self.head = self.head.max(head);
        self.knowledge = match NonZeroU32::new(undecided) {
            Some(undecided) => Knowledge::Held { undecided },
            None => Knowledge::Known,
        };
    }

    /// Counts an append that the store decided.
    pub fn settle(&mut self) {
        if let Knowledge::Held { undecided } = self.knowledge {
            self.knowledge = match NonZeroU32::new(undecided.get() - 1) {
                Some(undecided) => Knowledge::Held { undecided },
                None => Knowledge::Known,
            };
        }
    }

    /// Returns the bytes of messages in memory.
    pub fn bytes(&self) -> usize {
        self.tail.bytes() + self.past.bytes()
    }
}
