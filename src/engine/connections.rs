//! All connections, and what they share: the limits, the time of this turn, the deadlines, the list of those to flush.
//! Knows what a connection is, not what is said over it.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::client_rates::ClientRates;
use super::{Admission, Fact, Now, Output};
use crate::conn::{ConnLimits, Connection, Counted, Ending, Form, Kind, Rate, Shared};
use crate::crypto::sealed::{HANDSHAKE_BYTES, Transport};
use crate::http::forwarded;
use crate::http::headers::Headers;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::{Response, imf_fixdate};
use crate::types::{ConnId, Millis, RoomId};
use crate::ws::handshake::Upgrade;

pub struct Connections {
    limits: Rc<ConnLimits>,
    /// After the bound on what may wait was lowered: the one before, and until when it still counts.
    before: Option<(usize, Millis)>,
    admission: Admission,
    client_rates: ClientRates,
    now: Now,
    /// The Date header of this second.
    date: (u64, String),
    slots: Vec<Option<(u32, Connection)>>,
    count: usize,
    /// One entry at most for each connection: the deadline that it has in `armed`.
    deadlines: BTreeSet<(Millis, ConnId)>,
    dirty: Vec<ConnId>,
    /// Where what is to be sealed is put together.
    scratch: Vec<u8>,
    /// Those whose hold may be over.
    released: Vec<ConnId>,
    /// Those that were refused reading because of all that waits for the store.
    congested: Vec<ConnId>,
    is_congested: bool,
    /// One more connection would be one too many.
    is_full: bool,
    /// To be closed with a code, once nothing is borrowed.
    doomed: VecDeque<(ConnId, u16, &'static str)>,
    outputs: VecDeque<Output>,
}

/// Milliseconds over which deadlines are spread that shorter times have made due all at once.
const SPREAD: u64 = 1000;

impl Connections {
    pub fn new(limits: ConnLimits, admission: Admission) -> Connections {
        Connections {
            limits: Rc::new(limits),
            before: None,
            admission,
            client_rates: ClientRates::default(),
            now: Now::default(),
            date: (u64::MAX, String::new()),
            slots: Vec::new(),
            count: 0,
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            scratch: Vec::new(),
            released: Vec::new(),
            congested: Vec::new(),
            is_congested: false,
            is_full: false,
            doomed: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Other limits hold from now on, for open connections, too. A deadline that comes earlier by them is armed (a later
    /// one is found when the old one fires), those that are over spread over a second; whoever a lower limit held goes on. Whoever has more waiting than a
    /// lowered limit allows is not read from before it has drained, nothing that many hear is added meanwhile, and for
    /// `write_wait` it is not closed for it.
    pub(super) fn keep_within(&mut self, limits: ConnLimits, admission: Admission) {
        let own = |limits: &ConnLimits| limits.queue_bytes + limits.reply_bytes;
        let (most, write_wait) = (self.most_waiting(), self.limits.write_wait.max(limits.write_wait));
        let is_lower = own(&limits) < own(&self.limits);
        self.limits = Rc::new(limits);
        if is_lower {
            // Lowered again, those within the bound between have their time, too.
            let until = self.now.mono.after(write_wait);
            self.before = Some((most, self.before.map_or(until, |(_, before)| before.max(until))));
        }
        self.admission.keep_within(admission);
        for (number, id) in self.ids().into_iter().enumerate() {
            // Who has been silent for too long by a shorter time is not all pinged in one turn.
            self.arm_after(id, self.now.mono.after(number as u64 % SPREAD));
            self.release(id);
        }
    }

    // Looking.

    pub fn now(&self) -> Now {
        self.now
    }

    pub fn limits(&self) -> &ConnLimits {
        &self.limits
    }

    pub fn admission(&self) -> &Admission {
        &self.admission
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
            Some((generation, connection)) if is_of(id, *generation) => Some(connection),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.slots.get_mut(id.index as usize)? {
            Some((generation, connection)) if is_of(id, *generation) => Some(connection),
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

    /// Invariants for tests: every armed deadline is there, and no other; nothing belongs to a connection that is gone;
    /// what counts against an address is what is open.
    pub fn check(&self) -> Result<(), String> {
        let counted =
            self.ids().into_iter().filter(|id| self.get(*id).is_some_and(|c| c.counted != Counted::Not)).count();
        if counted != self.admission.counted() {
            return Err(format!("{counted} connections count, {} are counted", self.admission.counted()));
        }
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

    /// Tells whether one more connection would be one too many, as those who ask about a WebSocket are to be told.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    pub(super) fn open(&mut self, id: ConnId, mut connection: Connection, secure: bool) {
        connection.secure = secure;
        let peer = connection.peer.address();
        let index = id.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        // One that is turned away takes a place, too, until it is gone.
        let admitted = self.admission.may_connect(peer.ip());
        if self.admission.count(peer.ip(), self.now.mono) {
            connection.counted = Counted::Peer;
        }
        if let Err(problem) = admitted {
            let date = self.date().to_owned();
            connection.turn_away(problem.into_response(), &date, self.now.mono);
        }
        self.slots[index] = Some((id.generation, connection));
        self.count += 1;
        self.touch(id);
        self.arm(id);
    }

    /// A request came: remembers for whom, if it came through a proxy that may say so. One connection of a proxy brings
    /// requests of many, so this holds until the next; a WebSocket's is the one of its handshake.
    pub(super) fn note_client(&mut self, id: ConnId, headers: &Headers) {
        let Some(peer) = self.get(id).map(|c| c.peer.address().ip()) else { return };
        let client = forwarded::client(peer, headers, &self.admission.trusted);
        if let Some(connection) = self.get_mut(id) {
            connection.peer.asks_for(client);
        }
    }

    /// The connection is over: its socket is closed, its slot free for the next.
    pub(super) fn drop(&mut self, id: ConnId, ending: Ending) {
        let Some(connection) = self.get(id) else { return };
        let (armed, peer, kind) = (connection.armed, connection.peer.address(), connection.kind());
        // An HTTP connection may have brought requests of several.
        let client = connection.peer.client().filter(|_| !matches!(kind, Kind::Http | Kind::Excess));
        let counted = connection.counted_address();
        self.deadlines.remove(&(armed, id));
        self.slots[id.index as usize] = None;
        self.count -= 1;
        if let Some(address) = counted {
            self.admission.uncount(address, self.now.mono);
        }
        self.push_output(Output::Close(id));
        self.push_output(Output::Log(Fact::Closed { conn: id, peer, client, ending, kind }));
    }

    /// May this connection open one more WebSocket or event stream? `becomes` is false where it is only asked whether
    /// another connection could.
    ///
    /// # Errors
    /// 429 if its client has enough of them or asks too often, 503 if all together do or the server is full.
    pub fn admit_handshake(&mut self, id: ConnId, becomes: bool) -> Result<(), Problem> {
        if !becomes && self.is_full {
            return Err(Problem::full());
        }
        let Some(connection) = self.get(id) else { return Ok(()) };
        // The peer's own connection is counted since it came; one through a proxy becomes its client's only now.
        let (peer, client) = (connection.peer.address().ip(), connection.peer.client());
        if client.is_some() || !becomes {
            self.admission.may_connect(client.unwrap_or(peer))?;
        }
        self.admission.handshake(client.unwrap_or(peer), self.now.mono)
    }

    /// Takes one HTTP request from the rate of this connection; of its client's, where a trusted proxy asks for one.
    ///
    /// # Errors
    /// It is over the rate: the milliseconds until one more is free.
    pub fn take_request(&mut self, id: ConnId, rate: Rate) -> Result<(), u64> {
        let now = self.now.mono;
        match self.get(id).and_then(|connection| connection.peer.client()) {
            Some(client) => self.client_rates.take(client, rate, now),
            None => self.get_mut(id).map_or(Ok(()), |connection| connection.take_request(rate, now)),
        }
    }

    /// Answers a request for an upgrade: the connection is a WebSocket from now on, and counts as one of its client's.
    pub fn upgrade(&mut self, id: ConnId, upgrade: &Upgrade, session: u32, room: Option<RoomId>) {
        let now = self.now.mono;
        let Some(connection) = self.get_mut(id) else { return };
        connection.upgrade(upgrade, session, room, now);
        self.count_as_clients(id);
    }

    /// Answers the handshake of a sealed socket; see [`Connection::begin_sealed`].
    pub fn begin_sealed(&mut self, id: ConnId, answer: &[u8; HANDSHAKE_BYTES], transport: Transport) {
        let now = self.now.mono;
        if let Some(connection) = self.get_mut(id) {
            connection.begin_sealed(answer, transport, now);
            self.touch(id);
        }
    }

    /// A connection through a proxy is its client's from now on.
    fn count_as_clients(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(connection) = self.get(id) else { return };
        let Some(client) = connection.peer.client() else { return };
        let before = connection.counted_address();
        if let Some(peer) = before {
            self.admission.uncount(peer, now);
        }
        let counted = if self.admission.count(client, now) { Counted::Client } else { Counted::Not };
        if let Some(connection) = self.get_mut(id) {
            connection.counted = counted;
        }
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

    /// Answers the request being waited for with the head of an event stream for this session, which counts as one of
    /// its client's. `early`: see [`Connection::begin_events`].
    pub fn begin_events(&mut self, id: ConnId, head: Response, session: u32, early: u8) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        if let Some(connection) = self.get_mut(id) {
            connection.begin_events(head, session, early, &date, now);
            self.count_as_clients(id);
            self.touch(id);
            self.release(id);
            self.arm(id);
        }
    }

    /// Answers with a refusal, in the form that its client reads, and says so in the log; with what was `asked` for, where
    /// that is at hand.
    pub fn refuse(&mut self, id: ConnId, problem: Problem, asked: Option<&Request>) {
        let Some(connection) = self.get(id) else { return };
        let (peer, client, shown) = (connection.peer.address(), connection.peer.client(), connection.shown());
        let (status, detail, close) = (problem.status.code(), problem.detail.to_string(), problem.close);
        let asked = asked.map(|request| format!("{} {}", request.method.as_str(), request.target.path()));
        self.push_output(Output::Log(Fact::Refused { conn: id, peer, client, status, detail, asked }));
        self.respond(id, problem.shown_as(shown), close);
    }

    /// Answers before anything was asked, says so in the log, and closes.
    pub(super) fn turn_away(&mut self, id: ConnId, problem: Problem) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        let Some(connection) = self.get_mut(id).filter(|c| c.is_http() && c.queue.is_empty()) else { return };
        let peer = connection.peer.address();
        let (status, detail) = (problem.status.code(), problem.detail.to_string());
        connection.turn_away(problem.into_response(), &date, now);
        self.push_output(Output::Log(Fact::Refused { conn: id, peer, client: None, status, detail, asked: None }));
        self.touch(id);
        self.arm(id);
    }

    /// Bytes that may wait for one connection; past them the next reply closes it.
    fn most_waiting(&self) -> usize {
        let most = self.limits.queue_bytes + self.limits.reply_bytes;
        match self.before {
            Some((before, until)) if self.now.mono < until => most.max(before),
            _ => most,
        }
    }

    /// Queues frames or events, whichever it takes, for one connection.
    pub fn push_own(&mut self, id: ConnId, write: impl FnOnce(Form, &mut Vec<u8>)) {
        let now = self.now.mono;
        let most = self.most_waiting();
        let Some(connection) = self.get_mut(id) else { return };
        let Some(form) = connection.form() else { return };
        connection.push_own(now, |out| write(form, out));
        if connection.waiting() > most {
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
        let Some(form) = connection.form() else { return true };
        let (bytes, start, end) = part(form);
        // An empty queue takes any one batch: it is shared, and bounded where it is made.
        let waiting = connection.waiting();
        if waiting > 0 && waiting + (end - start) as usize > most {
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
        let room = connection.waiting() <= low;
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
        if (connection.waiting() > 0 || connection.is_flushing()) && !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(id);
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        std::mem::swap(&mut self.dirty, list);
        let now = self.now.mono;
        let mut scratch = std::mem::take(&mut self.scratch);
        for id in list.iter() {
            if let Some(connection) = self.get_mut(*id) {
                connection.dirty = false;
                connection.seal(now, &mut scratch);
            }
        }
        self.scratch = scratch;
    }

    // Holding and going on.

    pub(super) fn may_read(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.get(id) else { return true };
        let waits = connection.has_input();
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

    /// A send of this connection was answered, and its client told.
    pub fn answered(&mut self, id: ConnId) {
        let now = self.now.mono;
        if self.get_mut(id).is_some_and(|connection| connection.answered(now)) {
            self.touch(id);
            self.arm(id);
        }
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

/// Is this the connection that was meant? The one before it in its slot had another generation.
fn is_of(id: ConnId, generation: u32) -> bool {
    generation == id.generation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Rate;
    use crate::http::limits::HeadLimits;
    use crate::types::WallMillis;
    use crate::ws;

    fn limits(header_timeout: u64) -> ConnLimits {
        ConnLimits {
            head: HeadLimits::default(),
            ws: ws::Limits { max_message: 1000, max_fragments: 10, binary: false },
            queue_bytes: 10_000,
            reply_bytes: 5_000,
            in_flight: 1,
            header_timeout,
            keep_alive: 1000,
            write_wait: 1000,
            pong_wait: 1000,
            ping_period: 1000,
        }
    }

    fn unlimited() -> Admission {
        Admission::new(0, Rate::new(0, 1, 1), Rate::new(0, 1, 1))
    }

    fn at(ms: u64) -> Now {
        Now { mono: Millis(ms), wall: WallMillis(ms) }
    }

    #[test]
    fn shorter_times_are_armed_and_spread() {
        let mut net = Connections::new(limits(3_600_000), unlimited());
        for index in 0..5000 {
            let connection = Connection::new("127.0.0.1:1".parse().unwrap(), Millis(0));
            net.open(ConnId { index, generation: 1 }, connection, false);
        }
        net.set_now(at(600_000));
        assert_eq!(net.pop_due(), None);
        net.keep_within(limits(1000), unlimited());
        net.check().unwrap();
        let mut due = |ms: u64| {
            net.set_now(at(600_000 + ms));
            std::iter::from_fn(|| net.pop_due()).count()
        };
        assert_eq!(due(0), 0);
        assert_eq!((1..=SPREAD).map(due).collect::<Vec<_>>(), [5; SPREAD as usize]);
    }

    #[test]
    fn what_may_wait_shrinks_after_a_while_and_grows_at_once() {
        let mut net = Connections::new(limits(1000), unlimited());
        let small = ConnLimits { queue_bytes: 2000, write_wait: 10, ..limits(1000) };
        assert_eq!(net.most_waiting(), 15_000);
        net.keep_within(small.clone(), unlimited());
        assert_eq!(net.most_waiting(), 15_000);
        net.set_now(at(500));
        net.keep_within(ConnLimits { queue_bytes: 1000, ..small }, unlimited());
        net.set_now(at(509));
        assert_eq!(net.most_waiting(), 15_000, "lowered twice, the first bound counts on");
        net.set_now(at(995));
        net.keep_within(ConnLimits { queue_bytes: 500, write_wait: 10, ..limits(1000) }, unlimited());
        net.set_now(at(1004));
        assert_eq!(net.most_waiting(), 15_000, "whoever keeps within the second bound has its time, too");
        net.set_now(at(1500));
        assert_eq!(net.most_waiting(), 5500);
        net.keep_within(limits(1000), unlimited());
        assert_eq!(net.most_waiting(), 15_000);
    }
}
