//! The agenda: future events in order of time. Events due at the same time happen in the order in which they were
//! added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the run began.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1000;
pub const SECOND: Micros = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A client takes its next action.
    Act {
        client: usize,
    },
    /// Bytes move on a link, to the server or to the client.
    Up {
        link: usize,
    },
    Down {
        link: usize,
    },
    /// A link breaks, and both ends are told.
    Break {
        link: usize,
    },
    /// The server's loop makes a turn.
    Turn,
    /// The store decides the writes that wait.
    Commit,
    /// The database's writer has waited long enough and does some upkeep.
    Upkeep,
    /// The store reads a page.
    Read {
        number: u64,
    },
    /// An answer of the store reaches the loop.
    Answer {
        number: u64,
    },
    Mishap(Mishap),
    /// The server starts again.
    Start,
}

/// A fault or a command that hits the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// The process is killed.
    Kill,
    /// The machine loses power.
    PowerCut,
    /// The process is told to stop.
    Stop,
    /// The monotonic clock jumps ahead.
    Suspend,
    /// The settings have changed, and the process is told to reload them.
    Reload,
    /// The wall clock is set.
    SetClock,
    /// The disk is full, or has room again.
    DiskFull,
    DiskFree,
    /// A row of the database is damaged.
    Damage,
}

#[derive(Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    count: u64,
}

impl Agenda {
    pub fn at(&mut self, time: Micros, event: Event) {
        self.count += 1;
        self.heap.push(Reverse((time, self.count, event)));
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub fn pop(&mut self) -> Option<(Micros, Event)> {
        self.heap.pop().map(|Reverse((time, _, event))| (time, event))
    }
}
