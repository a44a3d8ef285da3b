//! The log behind the simulated disk: the in-memory one, which the disk preserves over restarts as it chooses, or a
//! database.

use racerd::engine::Now;
use racerd::store::{MemoryLog, Page, Purpose, Read, Span, Standing, StoreEvent, StoreRequest, Ticket};
use racerd::types::{ConnId, RoomId, Seq, SessionId};

use super::database::Database;

pub enum Log {
    Memory(Box<MemoryLog>),
    Database(Box<Database>),
}

impl Log {
    pub fn epoch(&self) -> &str {
        match self {
            Log::Memory(log) => &log.epoch().0,
            Log::Database(database) => &database.opened().epoch().0,
        }
    }

    /// Decides the requests and commits.
    pub fn answer(&mut self, now: Now, requests: &mut Vec<StoreRequest>, events: &mut Vec<StoreEvent>) {
        match self {
            Log::Memory(log) => log.answer(requests, events),
            Log::Database(database) => database.answer(now, requests, events),
        }
    }

    /// Returns what it has recorded of a session's tokens.
    pub fn recorded(&self, session: SessionId) -> Option<Standing> {
        match self {
            Log::Memory(log) => log.standing(session),
            Log::Database(database) => database.opened().recorded(session),
        }
    }

    /// Carries out a read. The first event is its answer.
    pub fn read(&mut self, read: Read, events: &mut Vec<StoreEvent>) {
        match self {
            Log::Memory(log) => events.push(StoreEvent::Page(log.read(read))),
            Log::Database(database) => database.read(read, events),
        }
    }

    /// Returns up to `limit` of the oldest messages of a room that the log keeps, for the observers; `None` if they
    /// cannot be read.
    pub fn page(&mut self, room: &RoomId, limit: u32) -> Option<Page> {
        let ticket = Ticket::new(ConnId::NOBODY, Purpose::Browse, 0);
        let span = Span::After(Seq::ZERO);
        let mut events = Vec::new();
        self.read(Read { ticket, room: room.clone(), span, limit, bytes: u32::MAX, upto: Seq::ZERO }, &mut events);
        events.into_iter().find_map(|event| if let StoreEvent::Page(page) = event { Some(page) } else { None })
    }
}
