//! Joins and leaves in a room, and the number of members that others see.

use super::clients::PresenceEvent;
use crate::types::Millis;

/// The counting part of a room.
#[derive(Clone)]
pub struct Headcount {
    /// The number of members that only listen; they are not announced.
    pub followers: usize,
    /// The presence events of this turn.
    pub events: Vec<PresenceEvent>,
    pub change: Change,
    pub size: Size,
    /// When a large room may announce its count again, or become a small one.
    pub next_count: Millis,
    pub timer: Timer,
}

/// Whether the number of members was announced since it last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Told,
    Untold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    Small,
    /// Has, or recently had, more than `presence_max` members: only counts are announced.
    Large,
}

/// Whether a deadline for the next count is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    Idle,
    Armed,
}

impl Headcount {
    pub fn new() -> Headcount {
        Headcount {
            followers: 0,
            events: Vec::new(),
            change: Change::Told,
            size: Size::Small,
            next_count: Millis(0),
            timer: Timer::Idle,
        }
    }

    pub fn is_large(&self) -> bool {
        self.size == Size::Large
    }

    pub fn push(&mut self, event: PresenceEvent) {
        self.events.push(event);
        self.change = Change::Untold;
    }

    /// Arms the timer if a count is still to be announced. Returns when it fires, if it was not armed before.
    pub fn arm(&mut self) -> Option<Millis> {
        if self.change == Change::Told || self.timer == Timer::Armed {
            return None;
        }
        self.timer = Timer::Armed;
        Some(self.next_count)
    }
}
