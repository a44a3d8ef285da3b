//! Invariants of the server after each turn, seen from outside: (4) every session and room has an owner, (5) queues
//! keep within their bounds, and the memory account equals the memory held. If a bound is lowered while the server
//! runs, more than it allows may be held for a while, but it must not grow.

use std::collections::BTreeMap;

use racerd::chat::Chat;
use racerd::crypto::sealed::MAX_SEALED;
use racerd::engine::Engine;
use racerd::types::{ConnId, RoomId, SessionId, size};

use super::agenda::{MILLISECOND, Micros};
use super::limits::{ENVELOPE, Limits};
use super::scene::{Checked, violation};
use super::settings::History;
use super::store::Store;

const ROOMS: &str = "4: a room has a member, a session a client or a place";
const MEMORY: &str = "5: queues keep within their bounds";

/// A sealed socket makes frames while fewer than this many bytes wait for it in frames. Each frame has about as many at
/// most, or one line that is longer.
const SEALED_AHEAD: usize = 16 * 1024;

/// The state after the last turn.
#[derive(Default)]
pub struct Bounds {
    /// The session in each slot, the generation of its token, and its rooms.
    sessions: Vec<Option<(SessionId, u32, usize)>>,
    detached: usize,
    connections: BTreeMap<ConnId, Held>,
    /// Bytes of each room in memory: of its newest messages, and of those read from the log.
    tails: BTreeMap<RoomId, (usize, usize)>,
    /// Bytes that wait for the store, and reads that it has not answered yet.
    waiting: usize,
    reads: usize,
    /// A socket spoke sealed at some time.
    saw_sealed: bool,
}

/// Bytes that a connection holds, and its unanswered sends.
#[derive(Clone, Copy, Default)]
struct Held {
    queued: usize,
    sealed: usize,
    input: usize,
    in_flight: u16,
}

impl Bounds {
    /// Checks the server after a turn at `now`. The last of `history` are the limits in force.
    pub fn check(
        &mut self,
        engine: &Engine<Chat>,
        store: &mut Store,
        history: &History,
        now: Micros,
        repeats: bool,
    ) -> Checked {
        let Some(limits) = history.last() else { return Ok(()) };
        self.sessions(engine, limits)?;
        self.connections(engine, history, now)?;
        self.tails(engine, limits)?;
        self.waiting(engine, store, history, repeats)
    }

    fn sessions(&mut self, engine: &Engine<Chat>, limits: &Limits) -> Checked {
        let hub = &engine.app.hub;
        if let Err(fault) = hub.check().and_then(|()| engine.net.check()) {
            return violation(ROOMS, fault);
        }
        let mut attached = 0;
        for conn in engine.net.ids() {
            let Some(session) = engine.net.get(conn).and_then(|connection| connection.session()) else { continue };
            attached += 1;
            match hub.session(session) {
                Some(session) if session.client == conn => {}
                // A later socket has taken the session over, and this one is about to be closed.
                _ => return violation(ROOMS, format!("the socket {conn} is open, and its session is another's")),
            }
        }
        let (sessions, detached) = (hub.session_count(), hub.detached_count());
        let before = std::mem::replace(&mut self.detached, detached);
        if sessions != attached + detached || detached > limits.detached_max.max(before) {
            let text = format!(
                "{sessions} sessions: {attached} with a socket, {detached} without, of at most {}",
                limits.detached_max
            );
            return violation(ROOMS, text);
        }
        let mut rooms: Vec<&RoomId> = Vec::new();
        let mut seen = Vec::new();
        for (slot, session) in hub.sessions() {
            for room in session.rooms() {
                if !rooms.contains(&room) {
                    rooms.push(room);
                }
            }
            let (index, count) = (slot.index as usize, session.rooms().count());
            let before = self.sessions.get(index).copied().flatten().filter(|(id, ..)| *id == session.id);
            let (_, generation, count_before) = before.unwrap_or((session.id, 0, 0));
            if count > limits.rooms_per_session.max(count_before) {
                return violation(ROOMS, format!("{} is in {count} rooms", session.member));
            }
            if generation > session.generation {
                return violation(ROOMS, format!("{} came back with an older token", session.member));
            }
            seen.resize(seen.len().max(index + 1), None);
            seen[index] = Some((session.id, session.generation, count));
        }
        self.sessions = seen;
        if rooms.len() != hub.room_count() {
            let text = format!("{} rooms are there, and sessions are in {rooms:?}", hub.room_count());
            return violation(ROOMS, text);
        }
        Ok(())
    }

    /// Checks that the messages that rooms keep in memory beside the log are within their bounds, per room and in all.
    fn tails(&mut self, engine: &Engine<Chat>, limits: &Limits) -> Checked {
        let before = std::mem::take(&mut self.tails);
        // A page that members are still to get stays whole, whatever may be kept. Its messages take more in memory.
        let page = limits.page_bytes + limits.max_message + limits.page_messages as usize * size::IN_MEMORY;
        for (room, newest, read, has_readers) in engine.app.hub.kept_in_memory() {
            let had = before.get(room).copied().unwrap_or_default();
            let most = if has_readers { limits.tail_bytes.max(page) } else { limits.tail_bytes };
            if newest > most.max(had.0) || read > most.max(had.1) {
                let text = format!("{room} keeps {newest} and {read} bytes, of at most {most} each, and had {had:?}");
                return violation(MEMORY, text);
            }
            self.tails.insert(room.clone(), (newest, read));
        }
        let sum = |tails: &BTreeMap<RoomId, (usize, usize)>| -> usize { tails.values().map(|(a, b)| a + b).sum() };
        let (total, had) = (sum(&self.tails), sum(&before));
        if total > limits.tail_bytes_total.max(had) {
            let text = format!("rooms keep {total} bytes, of at most {}, and had {had}", limits.tail_bytes_total);
            return violation(MEMORY, text);
        }
        Ok(())
    }

    fn connections(&mut self, engine: &Engine<Chat>, history: &History, now: Micros) -> Checked {
        // After the reply bound is lowered, queues may exceed it until their connections have had time to drain.
        let recent = now.saturating_sub(history.most(0, |limits| limits.write_wait) * 2 * MILLISECOND);
        // The most that one push may add to a full queue: a batch, a page, or the answers to all open requests.
        let most = history.most(recent, |limits| {
            let batch = limits.batch_bytes().max(limits.page_bytes).max(limits.max_message) + 2 * ENVELOPE;
            let answers = usize::from(limits.in_flight) * 256;
            limits.queue_bytes + limits.reply_bytes + batch + answers
        });
        let line = history.most(recent, |limits| limits.page_bytes.max(limits.max_message) + 2 * ENVELOPE);
        let Some(limits) = history.last() else { return Ok(()) };
        let before = std::mem::take(&mut self.connections);
        for conn in engine.net.ids() {
            let Some(connection) = engine.net.get(conn) else { continue };
            let had = before.get(&conn).copied().unwrap_or_default();
            let has = Held {
                queued: connection.waiting(),
                sealed: connection.queue.len(),
                input: connection.input.len(),
                in_flight: connection.open().map_or(0, |open| open.in_flight),
            };
            let Held { queued, sealed: length, input, in_flight } = has;
            self.saw_sealed |= connection.is_sealed();
            // Waiting plaintext counts like any other bytes. In frames, each line is longer by a tag and a header, and
            // only little is sealed ahead of the socket.
            let most = if connection.is_sealed() { most + SEALED_AHEAD } else { most };
            if queued > most.max(had.queued) {
                return violation(MEMORY, format!("{conn} has {queued} bytes queued, of at most {most}"));
            }
            if connection.is_sealed() && length > (2 * SEALED_AHEAD + line).max(had.sealed) {
                return violation(MEMORY, format!("{conn} has {length} bytes sealed, and its longest line is {line}"));
            }
            let held: usize = connection.queue.pieces().map(<[u8]>::len).sum();
            if held != length {
                return violation(MEMORY, format!("{conn} counts {length} bytes and holds {held}"));
            }
            if input > limits.read_budget.max(had.input) {
                return violation(MEMORY, format!("{conn} holds {input} bytes that it has read"));
            }
            if in_flight > limits.in_flight.max(had.in_flight) {
                return violation(MEMORY, format!("{conn} has {in_flight} sends open"));
            }
            self.connections.insert(conn, has);
        }
        Ok(())
    }

    fn waiting(&mut self, engine: &Engine<Chat>, store: &mut Store, history: &History, repeats: bool) -> Checked {
        let (undecided, bytes) = engine.app.undecided();
        let (held, held_bytes) = engine.app.hub.held();
        if (undecided, bytes) != (store.appends + held, store.append_bytes + held_bytes) {
            let text = format!(
                "{undecided} appends of {bytes} bytes are counted; the store has {} of {}, the hub {held} of {held_bytes}",
                store.appends, store.append_bytes
            );
            return violation(MEMORY, text);
        }
        let pending = engine.app.pending_rooms(None);
        if pending > undecided {
            return violation(MEMORY, format!("{pending} of {undecided} messages under way may make rooms"));
        }
        let Some(limits) = history.last() else { return Ok(()) };
        // Once the bound is reached, one more connection may have its turn: with the request that it had begun before,
        // and with one read. A sealed message is decoded only when it is complete, and may hold many requests.
        let begun = if self.saw_sealed { MAX_SEALED } else { limits.max_message };
        let most = limits.append_bytes + history.most(0, |limits| limits.read_budget) + begun;
        let had = std::mem::replace(&mut self.waiting, bytes);
        if bytes > most.max(had) {
            return violation(MEMORY, format!("{bytes} bytes wait for the store, of at most {most}"));
        }
        let had = std::mem::replace(&mut self.reads, store.reads_open);
        let reads = std::mem::replace(&mut store.most_reads_open, store.reads_open);
        if !repeats && reads > limits.reads_in_flight.max(had) {
            return violation(MEMORY, format!("{reads} reads are with the store"));
        }
        Ok(())
    }
}
