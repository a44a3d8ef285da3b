//! What is to happen, by time. Two things at the same time happen in the order in which they were put down.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the run began.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1000;
pub const SECOND: Micros = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A client does the next thing.
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
    /// A link breaks: both ends are told.
    Break {
        link: usize,
    },
    /// The server's loop turns.
    Turn,
    /// The store decides what waits to be written.
    Commit,
    /// The database's writer has waited for long enough, and does some upkeep.
    Upkeep,
    /// It reads a page.
    Read {
        number: u64,
    },
    /// An answer of the store arrives at the loop.
    Answer {
        number: u64,
    },
    Mishap(Mishap),
    /// The server starts again.
    Start,
}

/// What befalls the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// The process is killed.
    Kill,
    /// The machine loses its power.
    PowerCut,
    /// The process is told to stop.
    Stop,
    /// The monotonic clock jumps ahead.
    Suspend,
    /// Its settings have changed, and it is told to read them again.
    Reload,
    /// The wall clock is set.
    SetClock,
    /// The disk is full, and has room again.
    DiskFull,
    DiskFree,
    /// A row of the database is not as it was written.
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
