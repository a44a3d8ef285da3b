//! One room: its members with their cursors, and what this turn has to tell them. Fan-out is here: what a turn said in
//! a room is encoded once and queued once to each member whose cursor stands right before it.

use super::clients::{Broadcast, Clients, Delivery, Live, Notice, PresenceEvent, Roster};
use super::reads::Reads;
use super::{Presence, SessionKey, Start};
use crate::store::{Purpose, Read, Span, Ticket};
use crate::types::{ConnId, MemberId, Millis, Name, RoomId, Seq, SessionId};

/// A room that somebody is in.
pub struct Room {
    pub id: RoomId,
    /// The highest seq heard of; meaningful once `head_known`.
    pub head: Seq,
    pub head_known: bool,
    pub members: Vec<Member>,
    /// What this turn said, in order.
    pub live: Vec<Live>,
    /// Who came and went in this turn.
    pub events: Vec<PresenceEvent>,
    /// The number of members changed since it was last told.
    pub count_changed: bool,
    /// When a large room may tell its count again.
    pub next_count: Millis,
    /// A deadline for that is set.
    pub count_armed: bool,
    /// Somebody waits for the list of members.
    pub snapshot_wanted: bool,
    /// Stands in the hub's list of rooms with something to tell.
    pub dirty: bool,
}

/// One session's presence in the room.
pub struct Member {
    pub session: SessionKey,
    pub session_id: SessionId,
    pub client: ConnId,
    /// Tells this stay from an earlier one of the same session, for answers that come late.
    pub visit: u32,
    /// The last seq queued to the client.
    pub cursor: Seq,
    pub state: State,
    pub presence: Presence,
    /// The list of members is owed to it.
    pub needs_snapshot: bool,
    /// A read for it is on its way.
    pub reading: bool,
    /// Present until `joined` was sent.
    pub joining: Option<Box<Joining>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `joined` is not sent yet: nothing of the room may precede it.
    Joining,
    /// The log is read for it, after its cursor.
    Lagging,
    /// Its cursor stands at the end of what was fanned out.
    Live,
}

pub struct Joining {
    pub id: Option<u64>,
    pub start: Start,
}

impl Room {
    pub fn new(id: RoomId) -> Room {
        Room {
            id,
            head: Seq::ZERO,
            head_known: false,
            members: Vec::new(),
            live: Vec::new(),
            events: Vec::new(),
            count_changed: false,
            next_count: Millis(0),
            count_armed: false,
            snapshot_wanted: false,
            dirty: false,
        }
    }

    /// The seq that a member has to have reached to be live: what lies after it, this turn's fan-out brings.
    fn live_from(&self) -> Seq {
        let first = self.live.iter().find_map(|live| match live {
            Live::Message(message) => Some(Seq(message.seq.0.saturating_sub(1))),
            Live::Signal { .. } => None,
        });
        first.unwrap_or(self.head)
    }

    /// Makes the member live if its cursor allows; else asks for the next page when the client can take one.
    pub fn advance(&mut self, slot: usize, reads: &mut Reads, page: (u32, u32), clients: &mut impl Clients) {
        let live_from = self.live_from();
        let head = self.head;
        let Some(member) = self.members.get_mut(slot) else { return };
        if member.cursor >= live_from {
            member.state = State::Live;
            if member.needs_snapshot {
                self.snapshot_wanted = true;
            }
            return;
        }
        member.state = State::Lagging;
        if !member.reading && clients.has_room(member.client) {
            member.reading = true;
            reads.push(Read {
                ticket: member.ticket(),
                room: self.id.clone(),
                span: Span::After(member.cursor),
                limit: page.0,
                bytes: page.1,
                upto: head,
            });
        }
    }

    /// Tells the members what this turn brought. How many deliveries that took.
    pub fn fan_out(
        &mut self,
        now: Millis,
        limits: &super::HubLimits,
        names: Names<'_>,
        clients: &mut impl Clients,
    ) -> usize {
        let mut deliveries = 0;
        if !self.live.is_empty() {
            deliveries += self.fan_out_live(clients);
            self.live.clear();
        }
        deliveries += self.fan_out_presence(now, limits, clients);
        if std::mem::take(&mut self.snapshot_wanted) {
            deliveries += self.send_snapshots(limits, names, clients);
        }
        deliveries
    }

    fn fan_out_live(&mut self, clients: &mut impl Clients) -> usize {
        let live = &self.live;
        let frames = clients.encode(&self.id, Broadcast::Live(live));
        let seqs = || live.iter().filter_map(|l| if let Live::Message(m) = l { Some(m.seq) } else { None });
        let first = seqs().next();
        let last = seqs().next_back();
        let has_signals = live.iter().any(|l| matches!(l, Live::Signal { .. }));
        let mut deliveries = 0;
        let mut lagging = Vec::new();
        for (slot, member) in self.members.iter_mut().enumerate() {
            if member.state != State::Live {
                continue;
            }
            deliveries += 1;
            let in_step = first.is_none_or(|first| member.cursor.next() == first);
            let own_signals = has_signals && live.iter().any(|l| is_own_signal(l, member.session_id));
            let outcome = if in_step && !own_signals {
                clients.deliver(member.client, &frames, 0..live.len())
            } else {
                deliver_piecewise(member, live, &frames, clients)
            };
            match (outcome, last) {
                (Delivery::Taken, Some(last)) => member.cursor = member.cursor.max(last),
                (Delivery::Taken, None) => {}
                // Signals alone may be dropped for a slow member; a message may not.
                (Delivery::Full, None) => {}
                (Delivery::Full, Some(_)) => {
                    member.state = State::Lagging;
                    member.needs_snapshot = member.presence == Presence::Full;
                    lagging.push(slot);
                }
            }
        }
        for slot in lagging {
            self.tell_lagging(slot, clients);
        }
        deliveries
    }

    fn tell_lagging(&self, slot: usize, clients: &mut impl Clients) {
        let Some(member) = self.members.get(slot) else { return };
        let behind = self.head.0.saturating_sub(member.cursor.0);
        clients.tell(member.client, Notice::Lagging { room: &self.id, behind });
        // Asks to hear of it when the queue has drained.
        clients.has_room(member.client);
    }

    fn fan_out_presence(&mut self, now: Millis, limits: &super::HubLimits, clients: &mut impl Clients) -> usize {
        let count = self.members.len();
        let large = count > limits.presence_max;
        if large {
            // So many members must not tell each other of each other: the count is enough, at most once a second.
            self.events.clear();
            if !self.count_changed || now < self.next_count {
                return 0;
            }
            self.next_count = now.after(COUNT_INTERVAL);
        } else if self.events.is_empty() && !self.count_changed {
            return 0;
        }
        self.count_changed = false;
        let events = std::mem::take(&mut self.events);
        let full = clients.encode(&self.id, Broadcast::Presence { count, events: &events });
        let only_count = self
            .members
            .iter()
            .any(|m| m.presence == Presence::Count)
            .then(|| clients.encode(&self.id, Broadcast::Presence { count, events: &[] }));
        let mut deliveries = 0;
        let mut lagging = Vec::new();
        for (slot, member) in self.members.iter_mut().enumerate() {
            let frames = match (member.presence, &only_count) {
                (Presence::Off, _) => continue,
                (Presence::Count, Some(only_count)) => only_count,
                _ => &full,
            };
            // Whoever waits for the list of members finds these events in it.
            if member.state != State::Live || member.needs_snapshot {
                continue;
            }
            deliveries += 1;
            if clients.deliver(member.client, frames, 0..1) == Delivery::Full && member.presence == Presence::Full {
                member.state = State::Lagging;
                member.needs_snapshot = true;
                lagging.push(slot);
            }
        }
        for slot in lagging {
            self.tell_lagging(slot, clients);
        }
        deliveries
    }

    fn send_snapshots(&mut self, limits: &super::HubLimits, names: Names<'_>, clients: &mut impl Clients) -> usize {
        let count = self.members.len();
        if count > limits.presence_max {
            for member in &mut self.members {
                member.needs_snapshot = false;
            }
            return 0;
        }
        let (members, more) = self.roster(limits, names);
        let frames = clients.encode(&self.id, Broadcast::Members(Roster { count, members: &members, more }));
        let mut deliveries = 0;
        let mut lagging = Vec::new();
        for (slot, member) in self.members.iter_mut().enumerate() {
            if !member.needs_snapshot || member.state != State::Live {
                continue;
            }
            deliveries += 1;
            match clients.deliver(member.client, &frames, 0..1) {
                Delivery::Taken => member.needs_snapshot = false,
                Delivery::Full => {
                    member.state = State::Lagging;
                    lagging.push(slot);
                }
            }
        }
        for slot in lagging {
            self.tell_lagging(slot, clients);
        }
        deliveries
    }

    /// The members by name, as many as fit a page; and whether there are more.
    pub fn roster(&self, limits: &super::HubLimits, names: Names<'_>) -> (Vec<(MemberId, Name)>, bool) {
        let mut bytes = 0;
        let mut list = Vec::new();
        for member in &self.members {
            let Some(session) = names.get(member.session as usize) else { continue };
            bytes += session.name.as_str().len() + ROSTER_ENTRY;
            if bytes > limits.page_bytes {
                return (list, true);
            }
            list.push((session.member, session.name.clone()));
        }
        (list, false)
    }
}

/// Milliseconds between two counts of a large room.
const COUNT_INTERVAL: u64 = 1000;
/// About what one entry of a `members` takes beside the name, in bytes.
const ROSTER_ENTRY: usize = 48;

/// The hub's sessions, for their names.
pub type Names<'a> = &'a slab::Slab<super::Session>;

impl Member {
    pub fn ticket(&self) -> Ticket {
        Ticket { conn: self.client, purpose: Purpose::Deliver, tag: super::visit_tag(self.session, self.visit) }
    }
}

fn is_own_signal(live: &Live, session: SessionId) -> bool {
    matches!(live, Live::Signal { session: from, .. } if *from == session)
}

/// The way for a member that is not to hear all of this turn: its own signals, or what a page brought already.
fn deliver_piecewise<C: Clients>(member: &Member, live: &[Live], frames: &C::Frames, clients: &mut C) -> Delivery {
    let mut cursor = member.cursor;
    let mut start = None;
    let mut runs = Vec::new();
    for (index, item) in live.iter().enumerate() {
        let wanted = match item {
            Live::Signal { .. } => !is_own_signal(item, member.session_id),
            Live::Message(message) if message.seq <= cursor => false,
            // A hole before this one: the log has what is missing.
            Live::Message(message) if message.seq != cursor.next() => return Delivery::Full,
            Live::Message(message) => {
                cursor = message.seq;
                true
            }
        };
        match (wanted, start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                runs.push(from..index);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        runs.push(from..live.len());
    }
    for run in runs {
        if clients.deliver(member.client, frames, run) == Delivery::Full {
            return Delivery::Full;
        }
    }
    Delivery::Taken
}
