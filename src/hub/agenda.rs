//! What a room has to tell at the end of the turn. A room with something to tell is always in the hub's line of such
//! rooms, since only the methods here add anything, and each of them puts the room in the line.

use std::collections::VecDeque;

use super::clients::Live;
use super::member::RosterState;
use crate::types::{Millis, RoomId, Seq};

/// The telling part of a room.
#[derive(Clone, Hash)]
pub struct Agenda {
    /// Messages and signals of this turn, in order; the messages by rising seq.
    live: Vec<Live>,
    /// About the bytes of `live` on the wire.
    bytes: u32,
    /// The bytes with which it was last counted.
    weighed: u32,
    round: Option<Box<Round>>,
    /// A large room rests after each fan-out until then, and brings all that came meanwhile at once.
    rests_until: Millis,
    commits: Commits,
    roster: RosterState,
    /// The line of rooms with something to tell.
    line: Line,
}

/// A fan-out that did not fit a turn, and goes on in the next.
#[derive(Clone, Hash)]
pub struct Round {
    /// Its messages, by rising seq, and its signals.
    pub items: Vec<Live>,
    /// Members at seats below this have it.
    pub told: usize,
    /// The number of deliveries so far.
    pub deliveries: usize,
}

/// Whether commits brought all messages up to the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Commits {
    Complete,
    /// The log holds messages that no commit brought here.
    Missing,
}

/// Whether the room is in a line of the hub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    Outside,
    Inside,
}

impl Agenda {
    pub fn new() -> Agenda {
        Agenda {
            live: Vec::new(),
            bytes: 0,
            weighed: 0,
            round: None,
            rests_until: Millis(0),
            commits: Commits::Complete,
            roster: RosterState::Current,
            line: Line::Outside,
        }
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
        self.bytes += live.size() as u32;
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

    /// Takes the first items out, as many as one fan-out may bring.
    pub fn take_live(&mut self, batch_bytes: usize) -> Vec<Live> {
        let count = fitting(&self.live, batch_bytes);
        let later = self.live.split_off(count);
        let items = std::mem::replace(&mut self.live, later);
        self.bytes = bytes_of(&self.live);
        items
    }

    /// Takes the fan-out that is to go on, if there is one.
    pub fn take_round(&mut self) -> Option<Round> {
        self.round.take().map(|round| *round)
    }

    /// Keeps a fan-out that is to go on in the next turn.
    pub fn suspend(&mut self, round: Round) {
        self.round = Some(Box::new(round));
    }

    /// Returns the number of members, from the first seat, that have what the fan-out in progress brings.
    pub fn told(&self) -> usize {
        self.round.as_ref().map_or(0, |round| round.told)
    }

    /// Notes that a member of those leaves.
    pub fn untell(&mut self) {
        if let Some(round) = &mut self.round {
            round.told -= 1;
        }
    }

    /// Returns until when the room rests, if it does and has not more to tell than it may bring at once.
    pub fn rests_until(&self, now: Millis, batch_bytes: usize) -> Option<Millis> {
        let is_full = self.bytes as usize >= batch_bytes;
        (now < self.rests_until && !is_full && self.round.is_none()).then_some(self.rests_until)
    }

    /// Returns whether there is something to tell that no fan-out has begun with.
    pub fn has_something(&self) -> bool {
        !self.live.is_empty() || self.commits == Commits::Missing || self.roster == RosterState::Owed
    }

    /// Returns the end of its last rest, if it ever rested.
    pub fn last_rest(&self) -> Option<Millis> {
        (self.rests_until > Millis(0)).then_some(self.rests_until)
    }

    /// Counts the bytes that this agenda holds in a total, instead of those that it was counted with before.
    pub fn weigh(&mut self, total: &mut usize) {
        let held = self.bytes + self.round.as_ref().map_or(0, |round| bytes_of(&round.items));
        *total = *total + held as usize - std::mem::replace(&mut self.weighed, held) as usize;
    }

    /// Stops counting it.
    pub fn weigh_off(&self, total: &mut usize) {
        *total -= self.weighed as usize;
    }

    /// Makes the room rest from now on, for this many milliseconds.
    pub fn rest(&mut self, now: Millis, time: u64) {
        self.rests_until = if time > 0 { now.after(time) } else { Millis(0) };
    }

    /// Returns whether members must read the log up to the head, once; false while live items are left.
    pub fn take_missing(&mut self) -> bool {
        self.live.is_empty()
            && self.round.is_none()
            && std::mem::replace(&mut self.commits, Commits::Complete) == Commits::Missing
    }

    /// Returns whether a member is owed the roster, once: the caller sends it now.
    pub fn take_roster(&mut self) -> bool {
        std::mem::replace(&mut self.roster, RosterState::Current) == RosterState::Owed
    }

    /// Returns the cursor from which on fan-outs that have not begun bring every message, in a room with this head.
    pub fn live_from(&self, head: Seq) -> Seq {
        before_first(&self.live).unwrap_or(head)
    }

    /// Returns the cursor from which on the member at this seat is live: the fan-out in progress and those that follow
    /// bring it every message after that.
    pub fn live_from_at(&self, seat: usize, head: Seq) -> Seq {
        let round = self.round.as_ref().filter(|round| seat >= round.told);
        round.and_then(|round| before_first(&round.items)).unwrap_or_else(|| self.live_from(head))
    }

    /// Checks that a room with something to tell is in the line, unless it rests, for tests.
    pub fn check(&self, is_resting: bool) -> Result<(), String> {
        if self.round.is_some() && self.line == Line::Outside {
            return Err("a fan-out in progress, and nobody will go on".into());
        }
        if self.bytes != bytes_of(&self.live) {
            return Err("the bytes to tell are not those that are counted".into());
        }
        if self.has_something() && self.line == Line::Outside && !is_resting {
            Err("something to tell, and nobody will ask".into())
        } else {
            Ok(())
        }
    }
}

/// Returns how many of these one fan-out may bring: at least one.
fn fitting(live: &[Live], batch_bytes: usize) -> usize {
    let mut bytes = 0;
    let within = |item: &&Live| {
        bytes += item.size();
        bytes <= batch_bytes
    };
    live.iter().take_while(within).count().max(1).min(live.len())
}

/// Returns about how many bytes these take on the wire.
fn bytes_of(items: &[Live]) -> u32 {
    items.iter().map(|live| live.size() as u32).sum()
}

/// Returns the seq before the first message of these.
fn before_first(items: &[Live]) -> Option<Seq> {
    items.iter().find_map(|live| match live {
        Live::Message(message) => Some(Seq(message.seq.0.saturating_sub(1))),
        Live::Signal { .. } => None,
    })
}
