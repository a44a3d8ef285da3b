//! All connections, and what they share: the limits, the time of this turn, the deadlines, the list of those to flush.
//! Knows what a connection is, not what is said over it.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use super::{Fact, Now, Output};
use crate::api::answers;
use crate::conn::{Bucket, ConnLimits, Connection, Ending, Form, Rate, Shared, Turns};
use crate::http::problem::Problem;
use crate::http::response::{Response, imf_fixdate};
use crate::types::{ConnId, Millis};

pub struct Connections {
    limits: Rc<ConnLimits>,
    admission: Admission,
    now: Now,
    /// The Date header of this second.
    date: (u64, String),
    slots: Vec<Option<(u32, Connection)>>,
    count: usize,
    /// One entry at most for each connection: the deadline that it has in `armed`.
    deadlines: BTreeSet<(Millis, ConnId)>,
    dirty: Vec<ConnId>,
    /// Those whose hold may be over.
    released: Vec<ConnId>,
    /// Those that were refused reading because of all that waits for the store.
    congested: Vec<ConnId>,
    is_congested: bool,
    /// To be closed with a code, once nothing is borrowed.
    doomed: VecDeque<(ConnId, u16, &'static str)>,
    outputs: VecDeque<Output>,
}

/// How many may come, from one address and in all.
#[derive(Debug)]
pub struct Admission {
    /// Connections of one address (IPv6: of one /64); 0 for no limit. Loopback addresses have none.
    pub per_address: u32,
    pub handshakes_per_address: Rate,
    pub handshakes: Rate,
    all: Bucket,
    turns: Turns,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    connections: u32,
    handshakes: Bucket,
    turns: Turns,
    last: Millis,
}

/// Milliseconds after which an address without connections is forgotten; by then its bucket is full again.
const FORGET: u64 = 60_000;
/// Addresses kept before the idle ones are looked for.
const MANY: usize = 1024;

impl Admission {
    pub fn new(per_address: u32, handshakes_per_address: Rate, handshakes: Rate) -> Admission {
        let (all, turns) = (Bucket::default(), Turns::default());
        Admission { per_address, handshakes_per_address, handshakes, all, turns, addresses: HashMap::new() }
    }

    /// The address that counts; `None` for loopback, where everyone has the same.
    fn key(peer: IpAddr) -> Option<IpAddr> {
        match peer.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !0u128 << 64))),
            v4 => Some(v4),
        }
    }

    fn opened(&mut self, peer: IpAddr, now: Millis) -> Result<(), Problem> {
        let Some(key) = Admission::key(peer) else { return Ok(()) };
        if self.addresses.len() >= MANY {
            // Which are forgotten does not depend on the order of this walk.
            self.addresses.retain(|_, a| a.connections > 0 || now.since(a.last) < FORGET);
        }
        let address = self.addresses.entry(key).or_default();
        address.connections += 1;
        address.last = now;
        if self.per_address > 0 && address.connections > self.per_address {
            return Err(answers::too_many("too many connections from this address", 1000));
        }
        Ok(())
    }

    fn closed(&mut self, peer: IpAddr, now: Millis) {
        if let Some(address) = Admission::key(peer).and_then(|key| self.addresses.get_mut(&key)) {
            address.connections = address.connections.saturating_sub(1);
            address.last = now;
        }
    }

    /// May one more WebSocket or event stream be opened from there? Counts it if so.
    fn handshake(&mut self, peer: IpAddr, now: Millis) -> Result<(), Problem> {
        if let Some(address) = Admission::key(peer).and_then(|key| self.addresses.get_mut(&key)) {
            let taken = address.handshakes.take(self.handshakes_per_address, now);
            taken.map_err(|ms| {
                let ms = address.turns.next(self.handshakes_per_address, ms, now);
                answers::too_many("too many handshakes from this address", ms)
            })?;
        }
        let taken = self.all.take(self.handshakes, now);
        taken.map_err(|ms| {
            let ms = self.turns.next(self.handshakes, ms, now);
            answers::unavailable("too many handshakes at the moment", ms.div_ceil(1000).max(1))
        })
    }
}

impl Connections {
    pub fn new(limits: ConnLimits, admission: Admission) -> Connections {
        Connections {
            limits: Rc::new(limits),
            admission,
            now: Now::default(),
            date: (u64::MAX, String::new()),
            slots: Vec::new(),
            count: 0,
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            released: Vec::new(),
            congested: Vec::new(),
            is_congested: false,
            doomed: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    // Looking.

    pub fn now(&self) -> Now {
        self.now
    }

    pub fn limits(&self) -> &ConnLimits {
        &self.limits
    }

    pub(super) fn clock_and_limits(&self) -> (Now, Rc<ConnLimits>) {
        (self.now, Rc::clone(&self.limits))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        match self.slots.get(id.index as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.slots.get_mut(id.index as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub fn ids(&self) -> Vec<ConnId> {
        let ids = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref().map(|(generation, _)| ConnId { index: index as u32, generation: *generation })
        });
        ids.collect()
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Milliseconds in which the rate of handshakes lets in as many as are here now.
    pub fn return_time(&self) -> u64 {
        self.admission.handshakes.time_for(self.count)
    }

    /// Invariants for tests: every armed deadline is there, and no other; nothing belongs to a connection that is gone.
    pub fn check(&self) -> Result<(), String> {
        let armed = self.ids().into_iter().filter(|id| self.get(*id).is_some_and(|c| c.armed.0 != u64::MAX)).count();
        if armed != self.deadlines.len() {
            return Err(format!("{armed} connections are armed, {} deadlines stand", self.deadlines.len()));
        }
        match self.deadlines.iter().find(|(at, id)| self.get(*id).is_none_or(|c| c.armed != *at)) {
            Some((at, id)) => Err(format!("the deadline {at:?} of {id} is nobody's")),
            None => Ok(()),
        }
    }

    // Coming and going.

    pub(super) fn open(&mut self, id: ConnId, peer: SocketAddr, loopback: bool) {
        let mut connection = Connection::new(peer, loopback, self.now.mono);
        let index = id.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        if let Err(problem) = self.admission.opened(peer.ip(), self.now.mono) {
            let date = self.date().to_owned();
            connection.turn_away(problem.into_response(), &date, self.now.mono);
        }
        self.slots[index] = Some((id.generation, connection));
        self.count += 1;
        self.touch(id);
        self.arm(id);
    }

    /// The connection is over: its socket is closed, its slot free for the next.
    pub(super) fn drop(&mut self, id: ConnId, ending: Ending) {
        let Some(connection) = self.get(id) else { return };
        let (armed, peer, kind) = (connection.armed, connection.peer, connection.kind());
        self.deadlines.remove(&(armed, id));
        self.slots[id.index as usize] = None;
        self.count -= 1;
        self.admission.closed(peer.ip(), self.now.mono);
        self.push_output(Output::Close(id));
        self.push_output(Output::Log(Fact::Closed { conn: id, peer, ending, kind }));
    }

    /// May this connection open one more WebSocket or event stream?
    pub fn admit_handshake(&mut self, id: ConnId) -> Result<(), Problem> {
        let Some(peer) = self.get(id).map(|c| c.peer.ip()) else { return Ok(()) };
        self.admission.handshake(peer, self.now.mono)
    }

    // Writing.

    /// Answers the request being waited for.
    pub fn respond(&mut self, id: ConnId, response: Response, close: bool) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        if let Some(connection) = self.get_mut(id) {
            connection.respond(response, close, &date, now);
            self.touch(id);
            self.release(id);
            self.arm(id);
        }
    }

    /// Answers the request being waited for with the head of an event stream for this session. `early`: see
    /// [`Connection::begin_events`].
    pub fn begin_events(&mut self, id: ConnId, head: Response, session: u32, early: u8) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        if let Some(connection) = self.get_mut(id) {
            connection.begin_events(head, session, early, &date, now);
            self.touch(id);
            self.release(id);
            self.arm(id);
        }
    }

    /// Answers with a refusal, and says so in the log.
    pub fn refuse(&mut self, id: ConnId, problem: Problem) {
        let Some(peer) = self.get(id).map(|c| c.peer) else { return };
        let (status, detail, close) = (problem.status.code(), problem.detail.to_string(), problem.close);
        self.push_output(Output::Log(Fact::Refused { conn: id, peer, status, detail }));
        self.respond(id, problem.into_response(), close);
    }

    /// Queues frames or events, whichever it takes, for one connection.
    pub fn push_own(&mut self, id: ConnId, write: impl FnOnce(Form, &mut Vec<u8>)) {
        let now = self.now.mono;
        let most = self.limits.queue_bytes + self.limits.reply_bytes;
        let Some(connection) = self.get_mut(id) else { return };
        let Some((_, form)) = connection.attached() else { return };
        connection.push_own(now, |out| write(form, out));
        if connection.queue.len() > most {
            self.doom(id, crate::ws::code::TOO_SLOW, "replies are not taken");
        }
        self.touch(id);
    }

    /// Queues part of a shared buffer for one connection, which `part` chooses by the form that it takes; false if its
    /// queue has no room for it. A connection that is gone or closing takes everything.
    pub fn push_shared<'a>(&mut self, id: ConnId, part: impl FnOnce(Form) -> (&'a Shared, u32, u32)) -> bool {
        let now = self.now.mono;
        let most = self.limits.queue_bytes;
        let Some(connection) = self.get_mut(id) else { return true };
        let Some((_, form)) = connection.attached() else { return true };
        let (bytes, start, end) = part(form);
        // An empty queue takes any one batch: it is shared, and bounded where it is made.
        if !connection.queue.is_empty() && connection.queue.len() + (end - start) as usize > most {
            return false;
        }
        connection.push_shared(bytes, start, end, now);
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(id);
        }
        true
    }

    /// Is the queue low enough for one more page? If not, the drained hook says when.
    pub fn has_room(&mut self, id: ConnId) -> bool {
        let low = self.limits.queue_bytes / 4;
        let Some(connection) = self.get_mut(id) else { return false };
        let room = connection.queue.len() <= low;
        connection.wants_drained = !room;
        room
    }

    /// To be closed for cause, as soon as nothing is borrowed.
    pub fn doom(&mut self, id: ConnId, code: u16, reason: &'static str) {
        self.doomed.push_back((id, code, reason));
    }

    pub(super) fn pop_doomed(&mut self) -> Option<(ConnId, u16, &'static str)> {
        self.doomed.pop_front()
    }

    /// Puts a connection on the list of those to flush, if it is not there. Closing ones, too: with nothing left to
    /// write, they are to be shut.
    pub(super) fn touch(&mut self, id: ConnId) {
        let Some(connection) = self.get_mut(id) else { return };
        if (!connection.queue.is_empty() || connection.is_flushing()) && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        std::mem::swap(&mut self.dirty, list);
        for id in list.iter() {
            if let Some(connection) = self.get_mut(*id) {
                connection.dirty = false;
            }
        }
    }

    // Holding and going on.

    pub(super) fn may_read(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.get(id) else { return true };
        let waits = !connection.input.is_empty();
        self.may_go_on(id) && !waits
    }

    /// May the connection look at more bytes? If not, it is remembered for when it may.
    pub(super) fn may_go_on(&mut self, id: ConnId) -> bool {
        let limits = Rc::clone(&self.limits);
        let congested = self.is_congested;
        let Some(connection) = self.get_mut(id) else { return true };
        if connection.is_closing() {
            return true;
        }
        if connection.is_held(&limits) {
            connection.stalled = true;
            return false;
        }
        if congested {
            connection.stalled = true;
            if !std::mem::replace(&mut connection.congested, true) {
                self.congested.push(id);
            }
            return false;
        }
        true
    }

    /// Something that may have held the connection is gone.
    pub fn release(&mut self, id: ConnId) {
        if self.get(id).is_some_and(|c| c.stalled) {
            self.released.push(id);
        }
    }

    pub(super) fn pop_released(&mut self) -> Option<ConnId> {
        self.released.pop()
    }

    pub(super) fn set_congested(&mut self, congested: bool) {
        if self.is_congested && !congested {
            for id in std::mem::take(&mut self.congested) {
                if let Some(connection) = self.get_mut(id) {
                    connection.congested = false;
                    self.released.push(id);
                }
            }
        }
        self.is_congested = congested;
    }

    // Time.

    pub(super) fn set_now(&mut self, now: Now) {
        // The monotonic clock does not step back; if the caller's does, this one rests.
        self.now = Now { mono: now.mono.max(self.now.mono), wall: now.wall };
    }

    fn date(&mut self) -> &str {
        let second = self.now.wall.0 / 1000;
        if self.date.0 != second {
            self.date = (second, imf_fixdate(second));
        }
        &self.date.1
    }

    /// Arms the connection's deadline, if it lies before the one that is armed. A later one is found when that fires:
    /// so a busy connection does not touch the structure at each byte.
    pub(super) fn arm(&mut self, id: ConnId) {
        self.arm_after(id, Millis(0));
    }

    /// The same for one that just fired: strictly after `fired`, so that the loop cannot spin.
    pub(super) fn arm_after(&mut self, id: ConnId, fired: Millis) {
        let limits = Rc::clone(&self.limits);
        let Some(connection) = self.get_mut(id) else { return };
        let Some(due) = connection.deadline(&limits) else { return };
        let due = due.max(fired.after(1));
        if due < connection.armed {
            let before = std::mem::replace(&mut connection.armed, due);
            self.deadlines.remove(&(before, id));
            self.deadlines.insert((due, id));
        }
    }

    /// The next connection whose deadline has come.
    pub(super) fn pop_due(&mut self) -> Option<ConnId> {
        let now = self.now.mono;
        if self.deadline()? > now {
            return None;
        }
        let (_, id) = self.deadlines.pop_first()?;
        if let Some(connection) = self.get_mut(id) {
            connection.armed = Millis(u64::MAX);
        }
        Some(id)
    }

    // Out.

    pub(super) fn push_output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// For the log.
    pub fn tell(&mut self, fact: Fact) {
        self.push_output(Output::Log(fact));
    }
}
