//! What must hold of the server after each turn, seen from outside: (4) sessions and rooms are those that somebody has,
//! (5) queues keep within their bounds and the account of memory is what is held.

use racerd::chat::Chat;
use racerd::crypto::sealed::MAX_SEALED;
use racerd::engine::Engine;
use racerd::types::{RoomId, SessionId};

use super::limits::{ENVELOPE, Limits};
use super::scene::{Checked, violation};
use super::store::Store;

const ROOMS: &str = "4: a room has a member, a session a client or a place";
const MEMORY: &str = "5: queues keep within their bounds";

/// A sealed socket's frames are made when less than this waits for it in frames, each of about so much at most, or of one
/// line that is longer; in bytes.
const SEALED_AHEAD: usize = 16 * 1024;

#[derive(Default)]
pub struct Bounds {
    /// The session in each slot, and the generation of its token, as they were after the last turn.
    generations: Vec<Option<(SessionId, u32)>>,
    /// A socket spoke sealed.
    saw_sealed: bool,
}

impl Bounds {
    pub fn check(&mut self, engine: &Engine<Chat>, store: &Store, limits: &Limits, repeats: bool) -> Checked {
        self.sessions(engine, limits)?;
        self.saw_sealed |= connections(engine, limits)?;
        tails(engine, limits)?;
        // A sealed message is looked at when it is whole, and may hold many requests.
        let begun = if self.saw_sealed { MAX_SEALED } else { limits.max_message };
        waiting(engine, store, limits, begun, repeats)
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
                // A later socket has it, and this one is about to be closed.
                _ => return violation(ROOMS, format!("the socket {conn} is open, and its session is another's")),
            }
        }
        let (sessions, detached) = (hub.session_count(), hub.detached_count());
        if sessions != attached + detached || detached > limits.detached_max {
            let text = format!(
                "{sessions} sessions: {attached} with a socket, {detached} without, of at most {}",
                limits.detached_max
            );
            return violation(ROOMS, text);
        }
        let mut rooms: Vec<&RoomId> = Vec::new();
        let mut generations = Vec::new();
        for (key, session) in hub.sessions() {
            for room in session.rooms() {
                if !rooms.contains(&room) {
                    rooms.push(room);
                }
            }
            if session.rooms().count() > limits.rooms_per_session {
                return violation(ROOMS, format!("{} is in too many rooms", session.member));
            }
            let key = key as usize;
            let before = self.generations.get(key).copied().flatten();
            if before.is_some_and(|(id, generation)| id == session.id && generation > session.generation) {
                return violation(ROOMS, format!("{} came back with an older token", session.member));
            }
            generations.resize(generations.len().max(key + 1), None);
            generations[key] = Some((session.id, session.generation));
        }
        self.generations = generations;
        if rooms.len() != hub.room_count() {
            let text = format!("{} rooms are there, and sessions are in {rooms:?}", hub.room_count());
            return violation(ROOMS, text);
        }
        Ok(())
    }
}

/// What rooms keep in memory beside the log is within its bounds, in each room and in all.
fn tails(engine: &Engine<Chat>, limits: &Limits) -> Checked {
    let mut total = 0;
    for (room, newest, read) in engine.app.hub.kept_in_memory() {
        if newest.max(read) > limits.tail_bytes {
            let text = format!("{room} keeps {newest} and {read} bytes, of at most {} each", limits.tail_bytes);
            return violation(MEMORY, text);
        }
        total += newest + read;
    }
    if total > limits.tail_bytes_total {
        return violation(MEMORY, format!("rooms keep {total} bytes, of at most {}", limits.tail_bytes_total));
    }
    Ok(())
}

/// True if one of them speaks sealed.
fn connections(engine: &Engine<Chat>, limits: &Limits) -> Checked<bool> {
    // What one push may add beyond a full queue: a batch, a page, or the answers to all that is open.
    let batch = limits.batch_bytes().max(limits.page_bytes).max(limits.max_message) + 2 * ENVELOPE;
    let answers = usize::from(limits.in_flight) * 256;
    let line = limits.page_bytes.max(limits.max_message) + 2 * ENVELOPE;
    let most = limits.queue_bytes + limits.reply_bytes + batch + answers;
    let mut saw_sealed = false;
    for conn in engine.net.ids() {
        let Some(connection) = engine.net.get(conn) else { continue };
        saw_sealed |= connection.is_sealed();
        let (length, waiting) = (connection.queue.len(), connection.waiting());
        // Plaintext that waits counts like any other; in frames it is a tag and a header longer for each, and what is
        // sealed ahead of the socket is short.
        let most = if connection.is_sealed() { most + SEALED_AHEAD } else { most };
        if waiting > most {
            return violation(MEMORY, format!("{conn} has {waiting} bytes queued, of at most {most}"));
        }
        if connection.is_sealed() && length > 2 * SEALED_AHEAD + line {
            return violation(MEMORY, format!("{conn} has {length} bytes sealed, and its longest line is {line}"));
        }
        let held: usize = connection.queue.pieces().map(<[u8]>::len).sum();
        if held != length {
            return violation(MEMORY, format!("{conn} counts {length} bytes and holds {held}"));
        }
        if connection.input.len() > limits.read_budget {
            return violation(MEMORY, format!("{conn} holds {} bytes that it has read", connection.input.len()));
        }
        let in_flight = connection.open().map_or(0, |open| open.in_flight);
        if in_flight > limits.in_flight {
            return violation(MEMORY, format!("{conn} has {in_flight} sends open"));
        }
    }
    Ok(saw_sealed)
}

fn waiting(engine: &Engine<Chat>, store: &Store, limits: &Limits, begun: usize, repeats: bool) -> Checked {
    let (undecided, bytes) = engine.app.undecided();
    let (held, held_bytes) = engine.app.hub.held();
    if (undecided, bytes) != (store.appends + held, store.append_bytes + held_bytes) {
        let text = format!(
            "{undecided} appends of {bytes} bytes are counted; the store has {} of {}, the hub {held} of {held_bytes}",
            store.appends, store.append_bytes
        );
        return violation(MEMORY, text);
    }
    // When the bound is reached, one connection has its turn: what it had begun before, and what it may read at once.
    let most = limits.append_bytes + limits.read_budget + begun;
    if bytes > most {
        return violation(MEMORY, format!("{bytes} bytes wait for the store, of at most {most}"));
    }
    if !repeats && store.most_reads_open > limits.reads_in_flight {
        return violation(MEMORY, format!("{} reads are with the store", store.most_reads_open));
    }
    Ok(())
}
