//! What a room has to tell at the end of the turn. A room with something to tell is always in the hub's line of such
//! rooms, since only the methods here add anything, and each of them puts the room in the line.

use std::collections::VecDeque;

use super::clients::Live;
use super::member::RosterState;
use crate::types::{RoomId, Seq};

/// The telling part of a room.
#[derive(Clone, Hash)]
pub struct Agenda {
    /// Messages and signals of this turn, in order; the messages by rising seq.
    live: Vec<Live>,
    commits: Commits,
    roster: RosterState,
    line: Line,
}

/// Whether commits brought all messages up to the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Commits {
    Complete,
    /// The log holds messages that no commit brought here.
    Missing,
}

/// Whether the room is in the hub's line of rooms with something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Outside,
    Inside,
}

impl Agenda {
    pub fn new() -> Agenda {
        Agenda { live: Vec::new(), commits: Commits::Complete, roster: RosterState::Current, line: Line::Outside }
    }

    pub fn live(&self) -> &[Live] {
        &self.live
    }

    /// Returns whether a member may be owed the roster.
    pub fn owes_roster(&self) -> bool {
        self.roster == RosterState::Owed
    }

    /// Puts the room `id`, whose agenda this is, in line.
    pub fn mark_dirty(&mut self, id: &RoomId, line: &mut VecDeque<RoomId>) {
        if self.line == Line::Outside {
            self.line = Line::Inside;
            line.push_back(id.clone());
        }
    }

    pub fn push(&mut self, live: Live, id: &RoomId, line: &mut VecDeque<RoomId>) {
        self.live.push(live);
        self.mark_dirty(id, line);
    }

    /// Notes that the log holds messages that no commit brought here.
    pub fn miss_commits(&mut self, id: &RoomId, line: &mut VecDeque<RoomId>) {
        self.commits = Commits::Missing;
        self.mark_dirty(id, line);
    }

    /// Notes that a live member is owed the roster.
    pub fn owe_roster(&mut self, id: &RoomId, line: &mut VecDeque<RoomId>) {
        self.roster = RosterState::Owed;
        self.mark_dirty(id, line);
    }

    /// Notes the same during the room's own fan-out, before [`Agenda::take_roster`].
    pub fn owe_roster_now(&mut self) {
        self.roster = RosterState::Owed;
    }

    /// Takes the room out of the line. Returns false if it was not there.
    pub fn leave_line(&mut self) -> bool {
        std::mem::replace(&mut self.line, Line::Outside) == Line::Inside
    }

    /// Keeps the first `count` items for this fan-out, and returns the later ones, for [`Agenda::take_live`].
    pub fn split_live(&mut self, count: usize) -> Vec<Live> {
        self.live.split_off(count)
    }

    /// Returns the items that were fanned out, and puts the later ones in their place.
    pub fn take_live(&mut self, later: Vec<Live>) -> Vec<Live> {
        std::mem::replace(&mut self.live, later)
    }

    /// Returns whether members must read the log up to the head, once; false while live items are left.
    pub fn take_missing(&mut self) -> bool {
        self.live.is_empty() && std::mem::replace(&mut self.commits, Commits::Complete) == Commits::Missing
    }

    /// Returns whether a member is owed the roster, once: the caller sends it now.
    pub fn take_roster(&mut self) -> bool {
        std::mem::replace(&mut self.roster, RosterState::Current) == RosterState::Owed
    }

    /// Returns the cursor from which on a member is live, in a room with this head: this turn's fan-out brings every
    /// message after it.
    pub fn live_from(&self, head: Seq) -> Seq {
        let first = self.live.iter().find_map(|live| match live {
            Live::Message(message) => Some(Seq(message.seq.0.saturating_sub(1))),
            Live::Signal { .. } => None,
        });
        first.unwrap_or(head)
    }

    /// Checks that a room with something to tell is in the line, for tests.
    pub fn check(&self) -> Result<(), String> {
        let has_something =
            !self.live.is_empty() || self.commits == Commits::Missing || self.roster == RosterState::Owed;
        if has_something && self.line == Line::Outside {
            Err("something to tell, and nobody will ask".into())
        } else {
            Ok(())
        }
    }
}
