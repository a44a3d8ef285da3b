//! One member of a room. Each state owns its data, so that a live member cannot wait for a page, and only a joining one
//! can hold back messages.

use super::{Presence, Start};
use crate::store::Append;
use crate::types::{ConnId, MemberId, Seq, SessionSlot};

/// One session's presence in a room.
#[derive(Clone, Hash)]
pub struct Member {
    pub session: SessionSlot,
    /// The session's member id, by which its own signals are kept from it.
    pub member: MemberId,
    pub client: ConnId,
    pub presence: Presence,
    pub state: State,
}

/// How far a member is. Each `cursor` is the last seq queued to the client.
#[derive(Clone, Hash)]
pub enum State {
    /// `joined` is not sent yet: nothing of the room may precede it.
    Joining(Box<Joining>),
    /// The log is read for it, after its cursor.
    Lagging { cursor: Seq, wait: Wait, roster: RosterState },
    /// Its cursor is the last seq fanned out.
    Live { cursor: Seq, roster: RosterState },
    /// Its client dropped and may come back: nothing is queued.
    Away { cursor: Seq },
}

/// What a member needs before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Nothing from the store; at most room in its client's queue, or the next retry.
    Nothing,
    /// The answer to the room's next read.
    Page,
    /// Its turn: the work of this turn is spent, or others wait longer.
    Turn,
    /// Its turn, in which it is first told that it lags: since the turn with this number.
    Notice(u8),
}

/// Whether a member knows the current roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RosterState {
    Current,
    /// It missed a change, and is owed the list of members (or their number, if that is all it is told).
    Owed,
}

#[derive(Clone, Hash)]
pub struct Joining {
    pub id: Option<u64>,
    pub start: Start,
    /// Messages that the member sent meanwhile. They go to the store after `joined`, so that no ack precedes it and the
    /// member receives its own messages.
    pub sends: Vec<Append>,
    /// The cursor of a returning member: only its client is new.
    pub kept: Option<Seq>,
    pub wait: Wait,
}

impl Member {
    /// Returns the last seq queued to the client; `None` before the member's first `joined`.
    pub fn cursor(&self) -> Option<Seq> {
        match &self.state {
            State::Joining(joining) => joining.kept,
            State::Lagging { cursor, .. } | State::Live { cursor, .. } | State::Away { cursor } => Some(*cursor),
        }
    }

    /// Returns the unfinished join, if there is one.
    pub fn joining(&self) -> Option<&Joining> {
        match &self.state {
            State::Joining(joining) => Some(joining),
            _ => None,
        }
    }

    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// Returns whether the member goes on when the room's next page comes.
    pub fn waits(&self) -> bool {
        match &self.state {
            State::Joining(joining) => joining.wait == Wait::Page,
            State::Lagging { wait, .. } => *wait == Wait::Page,
            State::Live { .. } | State::Away { .. } => false,
        }
    }

    /// Sets what a joining or lagging member waits for; the others wait for nothing. Returns whether it waited for a
    /// page.
    pub fn set_wait(&mut self, new: Wait) -> bool {
        let wait = match &mut self.state {
            State::Joining(joining) => &mut joining.wait,
            State::Lagging { wait, .. } => wait,
            State::Live { .. } | State::Away { .. } => return false,
        };
        std::mem::replace(wait, new) == Wait::Page
    }

    /// Returns whether the member goes on when its turn comes.
    pub fn waits_for_turn(&self) -> bool {
        match &self.state {
            State::Joining(joining) => joining.wait == Wait::Turn,
            State::Lagging { wait, .. } => matches!(wait, Wait::Turn | Wait::Notice(_)),
            State::Live { .. } | State::Away { .. } => false,
        }
    }

    /// Ends a wait for a page. Returns false if the member waited for none.
    pub fn end_wait_for_page(&mut self) -> bool {
        self.waits() && self.set_wait(Wait::Nothing)
    }

    /// Makes a live member lag: the log is read for it once its turn comes, and its client has room. It misses joins
    /// and leaves meanwhile.
    pub fn lag(&mut self, turn: u8) {
        if let State::Live { cursor, roster } = self.state {
            let roster = if self.presence == Presence::Full { RosterState::Owed } else { roster };
            self.state = State::Lagging { cursor, wait: Wait::Notice(turn), roster };
        }
    }

    /// Notes that the member missed a change of the roster. A joining or returning member gets the whole roster anyway.
    pub fn owe_roster(&mut self) {
        if let State::Lagging { roster, .. } | State::Live { roster, .. } = &mut self.state {
            *roster = RosterState::Owed;
        }
    }

    /// Notes that the member was sent the roster.
    pub fn roster_told(&mut self) {
        if let State::Lagging { roster, .. } | State::Live { roster, .. } = &mut self.state {
            *roster = RosterState::Current;
        }
    }

    /// Returns whether a roster that is owed can be sent now.
    pub fn roster_due(&self) -> bool {
        matches!(self.state, State::Live { roster: RosterState::Owed, .. })
    }
}
