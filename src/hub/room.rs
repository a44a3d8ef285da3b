//! One room: its members, and three parts with a job each. `log` knows the messages, `agenda` what to tell at the end
//! of the turn, `headcount` the joins and leaves.

use std::collections::VecDeque;
use std::sync::Arc;

use super::agenda::Agenda;
use super::clients::{Live, PresenceEvent};
use super::headcount::Headcount;
use super::log::{Incarnation, RoomLog};
use super::member::Member;
use crate::store::{Purpose, Ticket};
use crate::types::{ConnId, RoomId, Seq};

/// A room with at least one member.
#[derive(Clone)]
pub struct Room {
    pub id: RoomId,
    /// Distinguishes this stay in the map from earlier ones of the same id, so that late answers are recognized.
    pub stay: u32,
    pub members: Vec<Member>,
    pub log: RoomLog,
    pub agenda: Agenda,
    pub headcount: Headcount,
    /// When its messages in memory were last touched, and their bytes then: for [`super::tail::Tails`].
    pub touched: Option<(u64, usize)>,
}

impl Room {
    pub fn new(id: RoomId, stay: u32, incarnation: Arc<Incarnation>) -> Room {
        Room {
            id,
            stay,
            members: Vec::new(),
            log: RoomLog::new(incarnation),
            agenda: Agenda::new(),
            headcount: Headcount::new(),
            touched: None,
        }
    }

    /// Puts the room on the list of those with something to tell.
    pub fn mark_dirty(&mut self, dirty: &mut VecDeque<RoomId>) {
        self.agenda.mark_dirty(&self.id, dirty);
    }

    /// Adds a message or signal to this turn's fan-out.
    pub fn say(&mut self, live: Live, dirty: &mut VecDeque<RoomId>) {
        self.agenda.push(live, &self.id, dirty);
    }

    pub fn presence_changed(&mut self, event: PresenceEvent, dirty: &mut VecDeque<RoomId>) {
        self.headcount.push(event);
        self.mark_dirty(dirty);
    }

    /// Returns the number of members that others see.
    pub fn count(&self) -> usize {
        self.members.len() - self.headcount.followers
    }

    /// Returns the cursor from which on the member at this seat is live.
    pub fn live_from(&self, seat: usize) -> Seq {
        self.agenda.live_from_at(seat, self.log.head)
    }

    /// Takes the member at this seat out. Returns it, and the seats at which another sits now: the last takes its
    /// place, but where a fan-out in progress has brought it something that the last one has not, the last of those
    /// that have.
    pub fn vacate(&mut self, seat: usize) -> (Member, [usize; 2]) {
        let told = self.agenda.told();
        let last_told = if seat < told { told - 1 } else { seat };
        if seat < told {
            self.members.swap(seat, last_told);
            self.agenda.untell();
        }
        (self.members.swap_remove(last_told), [seat, last_told])
    }

    /// Returns the ticket of the room's own reads.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(ConnId::NOBODY, Purpose::Deliver, u64::from(self.stay))
    }
}
