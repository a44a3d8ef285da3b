//! The app's output to connections: answers, frames and events go into their write queues, whose bounds are enforced
//! here.

use super::slot::Reading;
use super::{Connections, Fact, Output};
use crate::conn::{Encoding, Ending, Shared};
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::{Response, imf_fixdate};
use crate::types::{ConnId, SessionSlot};
use crate::ws::code;

/// What is to be done after a write.
pub(super) struct Done {
    /// A closing connection's last byte is written; with true, the peer has shut its side, too. And why it closes.
    pub flushed: Option<(bool, Ending)>,
    /// The app waits for the queue to drain.
    pub wants_drained: bool,
    /// More is to be sealed, for which there is room now.
    pub wants_sealing: bool,
    /// Reading pauses; it may be that it waited for this.
    pub is_paused: bool,
}

impl Connections {
    /// Answers the awaited request. With `close` the connection ends with the answer.
    pub fn respond(&mut self, id: ConnId, response: Response, close: bool) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        self.handshake_line.leave(id);
        if let Some(connection) = self.get_mut(id) {
            connection.respond(response, close, &date, now);
            self.mark_dirty(id);
            self.release(id);
            self.arm(id);
        }
    }

    /// Answers with a refusal, in the format that its client reads, and logs it, with the method and path of the
    /// `request` if there is one.
    pub fn refuse(&mut self, id: ConnId, problem: Problem, request: Option<&Request>) {
        let Some(connection) = self.get(id) else { return };
        let (peer, client, shown) = (connection.peer.address(), connection.peer.client(), connection.shown());
        let (status, detail, close) = (problem.status.code(), problem.detail.to_string(), problem.close);
        let asked = request.map(|request| format!("{} {}", request.method.as_str(), request.target.path()));
        self.push_output(Output::Log(Fact::Refused { conn: id, peer, client, status, detail, asked }));
        self.respond(id, problem.shown_as(shown), close);
    }

    /// Answers with a refusal before any request came, logs it, and closes.
    pub(super) fn turn_away(&mut self, id: ConnId, problem: Problem) {
        let now = self.now.mono;
        let date = self.date().to_owned();
        let Some(connection) = self.get_mut(id).filter(|c| c.is_http() && c.queue.is_empty()) else { return };
        let peer = connection.peer.address();
        let (status, detail) = (problem.status.code(), problem.detail.to_string());
        connection.turn_away(problem.into_response(), &date, now);
        self.push_output(Output::Log(Fact::Refused { conn: id, peer, client: None, status, detail, asked: None }));
        self.mark_dirty(id);
        self.arm(id);
    }

    /// Returns how many bytes may wait for one connection. The next reply past this bound closes it.
    pub(super) fn max_waiting(&self) -> usize {
        let bound = self.most_queued + self.limits.reply_bytes;
        match self.bound_before {
            Some((before, until)) if self.now.mono < until => bound.max(before),
            _ => bound,
        }
    }

    /// Queues frames or events for one connection, in the encoding that it takes.
    pub fn push_own(&mut self, id: ConnId, write: impl FnOnce(Encoding, &mut Vec<u8>)) {
        let now = self.now.mono;
        let bound = self.max_waiting();
        let Some(connection) = self.get_mut(id) else { return };
        let Some(encoding) = connection.encoding() else { return };
        connection.push_own(now, |out| write(encoding, out));
        if connection.waiting() > bound {
            self.schedule_close(id, code::TOO_SLOW, "replies are not read");
        }
        self.weigh(id);
        self.mark_dirty(id);
    }

    /// Queues part of a shared buffer for one connection; `part` chooses it by the connection's encoding. Returns false
    /// if the queue has no room for it. A connection that is gone or closing accepts everything and discards it.
    pub fn push_shared<'a>(&mut self, id: ConnId, part: impl FnOnce(Encoding) -> (&'a Shared, u32, u32)) -> bool {
        let now = self.now.mono;
        let high_water = self.limits.queue_bytes;
        let Some(slot) = self.slot_mut(id) else { return true };
        let Some(encoding) = slot.connection.encoding() else { return true };
        let (bytes, start, end) = part(encoding);
        // An empty queue accepts any one batch: the batch is shared, and bounded where it is made.
        let waiting = slot.connection.waiting();
        if waiting > 0 && waiting + (end - start) as usize > high_water {
            return false;
        }
        slot.connection.push_shared(bytes, start, end, now);
        if !std::mem::replace(&mut slot.is_dirty, true) {
            self.dirty.push(id);
        }
        if waiting > 0 {
            self.weigh(id);
        }
        true
    }

    /// Queues part of a shared page for one connection that has room for it, whatever waits there.
    pub fn push_page(&mut self, id: ConnId, bytes: &Shared, start: u32, end: u32) {
        let now = self.now.mono;
        let Some(connection) = self.get_mut(id) else { return };
        connection.push_shared(bytes, start, end, now);
        self.weigh(id);
        self.mark_dirty(id);
    }

    /// Takes out of the queue what the socket took, and returns what is to be done now. With one look-up, since it runs
    /// for every delivery.
    pub(super) fn wrote(&mut self, id: ConnId, taken: usize) -> Option<Done> {
        let slot = self.slots.get_mut(id.index as usize)?.as_mut().filter(|slot| slot.generation == id.generation)?;
        let (connection, now) = (&mut slot.connection, self.now.mono);
        let before = u32::from(connection.is_backed_up());
        connection.wrote(taken, now);
        let flushed = connection.flushed(now, &self.limits).map(|peer_ended| (peer_ended, connection.ending()));
        self.memory.unsent = self.memory.unsent + u32::from(connection.is_backed_up()) - before;
        Some(Done {
            flushed,
            wants_drained: slot.wants_drained,
            wants_sealing: connection.wants_sealing(),
            is_paused: slot.reading != Reading::Allowed,
        })
    }

    /// Returns whether the queue is below its low-water mark, so that one more page may be read for it. If it is not,
    /// [`super::App::drained`] is called once it is.
    pub fn has_room(&mut self, id: ConnId) -> bool {
        let low_water = self.low_water();
        let Some(slot) = self.slot_mut(id) else { return false };
        let has_room = slot.connection.waiting() <= low_water;
        // In one room of its session the client may have room again before it was told so for another.
        slot.wants_drained |= !has_room;
        has_room
    }

    /// Returns the session whose queue has drained, if the app waits for that. It is returned once.
    pub(super) fn take_drained(&mut self, id: ConnId) -> Option<SessionSlot> {
        let low_water = self.low_water();
        let slot = self.slot_mut(id)?;
        let is_drained = slot.wants_drained && slot.connection.waiting() <= low_water;
        slot.wants_drained &= !is_drained;
        slot.connection.session().filter(|_| is_drained)
    }

    fn low_water(&self) -> usize {
        self.limits.queue_bytes / 4
    }

    /// Closes a connection with this code and reason, as soon as nothing is borrowed.
    pub fn schedule_close(&mut self, id: ConnId, code: u16, reason: &'static str) {
        self.scheduled_closes.push_back((id, code, reason));
    }

    pub(super) fn pop_scheduled_close(&mut self) -> Option<(ConnId, u16, &'static str)> {
        self.scheduled_closes.pop_front()
    }

    /// Puts a connection on the list of those to flush, if it has something to write. A closing connection with an
    /// empty queue is flushed, too: then its sending side is shut.
    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        let Some(slot) = self.slot_mut(id) else { return };
        let has_work = slot.connection.waiting() > 0 || slot.connection.is_flushing();
        if has_work && !std::mem::replace(&mut slot.is_dirty, true) {
            self.dirty.push(id);
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Moves the list of connections to flush into the empty `list`, and seals the plaintext that waits for them.
    pub(super) fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        std::mem::swap(&mut self.dirty, list);
        let now = self.now.mono;
        let mut scratch = std::mem::take(&mut self.scratch);
        for id in list.iter() {
            if let Some(slot) = self.slot_mut(*id) {
                slot.is_dirty = false;
                if slot.connection.wants_sealing() {
                    slot.connection.seal(now, &mut scratch);
                    self.weigh(*id);
                }
            }
        }
        self.scratch = scratch;
    }

    /// Returns the Date header of this second, which is formatted once a second.
    pub(super) fn date(&mut self) -> &str {
        let second = self.now.wall.0 / 1000;
        if self.date.0 != second {
            self.date = (second, imf_fixdate(second));
        }
        &self.date.1
    }
}
