//! The memory log as a slow store: appends wait for their commit, reads for their turn, and answers for delivery, each
//! at its own pace, as with the threads of the real store. Appends keep their order, and so do reads; reads and
//! appends overtake each other. It can fail, and remembers every message that it ever stored and every positive answer.
//! It is for the whole engine, which also parks and claims sessions and meets the log's bounds; [`Store`](super::Store)
//! is for the hub alone.

use std::collections::{HashMap, HashSet, VecDeque};

use super::stamp;
use crate::store::{
    Append, Appended, Found, MemoryLog, Outcome, Read, ReadFailed, Seek, Sought, StoreEvent, StoreRequest, Why,
};
use crate::types::{ConnId, Epoch, Message, RoomId, Seq, WallMillis};

/// Ways in which appends fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    No,
    /// Nothing is stored.
    Refused,
    /// The message is stored, but reported as failed: the answer of a disk that fails after the commit.
    StoredAll,
}

pub struct LateStore {
    log: MemoryLog,
    appends: VecDeque<Append>,
    reads: VecDeque<Read>,
    decided: VecDeque<StoreEvent>,
    pages: VecDeque<StoreEvent>,
    pub failure: Failure,
    pub reads_fail: bool,
    /// It no longer answers.
    pub is_dead: bool,
    /// An answer to an append was given twice, against the contract: the promises about acks no longer hold.
    pub repeated_itself: bool,
    stored: HashMap<(RoomId, Seq), Message>,
    heads: HashMap<RoomId, Seq>,
    /// The last stamp in each room.
    stamps: HashMap<RoomId, WallMillis>,
    /// Messages that were stored but reported as failed.
    denied: HashSet<(RoomId, Seq)>,
    /// Positive answers that the engine was given: connection, tag, room and seq.
    told: HashSet<(ConnId, u64, RoomId, Seq)>,
}

impl LateStore {
    /// Makes a store that keeps this many bytes of messages per room and in total.
    pub fn new(room_bytes: usize, total_bytes: usize) -> LateStore {
        LateStore {
            log: MemoryLog::new(Epoch("e".into()), room_bytes, total_bytes),
            appends: VecDeque::new(),
            reads: VecDeque::new(),
            decided: VecDeque::new(),
            pages: VecDeque::new(),
            failure: Failure::No,
            reads_fail: false,
            is_dead: false,
            repeated_itself: false,
            stored: HashMap::new(),
            heads: HashMap::new(),
            stamps: HashMap::new(),
            denied: HashSet::new(),
            told: HashSet::new(),
        }
    }

    /// Sets the number of rooms in which it takes messages.
    pub fn set_rooms_max(&mut self, rooms_max: u64) {
        self.log.set_rooms_max(rooms_max);
    }

    // Looking.

    pub fn stored(&self, room: &RoomId, seq: Seq) -> Option<&Message> {
        self.stored.get(&(room.clone(), seq))
    }

    /// Returns the last seq that was assigned in a room.
    pub fn head(&self, room: &RoomId) -> Seq {
        self.heads.get(room).copied().unwrap_or(Seq::ZERO)
    }

    pub fn was_denied(&self, room: &RoomId, seq: Seq) -> bool {
        self.denied.contains(&(room.clone(), seq))
    }

    pub fn was_told(&self, conn: ConnId, tag: u64, room: &RoomId, seq: Seq) -> bool {
        self.told.contains(&(conn, tag, room.clone(), seq))
    }

    // Feeding.

    pub fn submit(&mut self, requests: impl Iterator<Item = StoreRequest>) {
        for request in requests {
            match request {
                StoreRequest::Append(append) => self.appends.push_back(append),
                StoreRequest::Read(read) => self.reads.push_back(read),
                other => self.answer_at_once(other),
            }
        }
    }

    /// Parks a session, or looks one up; the answer to a look-up waits among the decisions.
    fn answer_at_once(&mut self, request: StoreRequest) {
        if self.is_dead {
            return;
        }
        if let (StoreRequest::Claim(claim), true) = (&request, self.failure == Failure::Refused) {
            let (ticket, session) = (claim.ticket, claim.session);
            return self.decided.push_back(StoreEvent::ClaimFailed {
                ticket,
                session,
                standing: self.log.standing(session),
            });
        }
        if let (StoreRequest::Seek(seek), true) = (&request, self.failure == Failure::Refused) {
            let Seek { ticket, room, body, .. } = seek.clone();
            return self.decided.push_back(StoreEvent::Sought(Sought { ticket, room, body, outcome: Found::Unknown }));
        }
        let mut events = Vec::new();
        self.log.answer(&mut vec![request], &mut events);
        self.decided.extend(events);
    }

    /// Decides `count` appends as one batch.
    pub fn decide(&mut self, count: usize) {
        let count = count.min(self.appends.len());
        if count == 0 || self.is_dead {
            return;
        }
        let batch: Vec<Append> = self.appends.drain(..count).collect();
        let batch = batch.into_iter().map(|append| self.append(append)).collect();
        self.decided.push_back(StoreEvent::Appended(batch));
    }

    fn append(&mut self, append: Append) -> Appended {
        if self.failure == Failure::Refused {
            let (ticket, room, bytes) = (append.ticket, append.room, append.body.len());
            return Appended { ticket, room, bytes, era: None, outcome: Outcome::Unavailable };
        }
        let clock = append.at;
        let mut appended = self.log.append(append);
        if let Outcome::Stored(message) = &appended.outcome {
            let place = (message.room.clone(), message.seq);
            assert!(self.stored.insert(place.clone(), message.clone()).is_none(), "a seq was given twice");
            self.heads.insert(message.room.clone(), message.seq);
            let last = self.stamps.insert(message.room.clone(), message.at);
            assert_eq!(message.at, stamp(clock, last), "a stamp that is not by the rule, after {last:?}");
            if self.failure == Failure::StoredAll {
                self.denied.insert(place);
                appended.outcome = Outcome::Unavailable;
            }
        }
        appended
    }

    /// Carries out the next read, on the log as it is now.
    pub fn read_next(&mut self) {
        if self.is_dead {
            return;
        }
        let Some(read) = self.reads.pop_front() else { return };
        self.pages.push_back(match self.reads_fail {
            true => StoreEvent::ReadFailed(ReadFailed { ticket: read.ticket, room: read.room, why: Why::Disk }),
            false => StoreEvent::Page(self.log.read(read)),
        });
    }

    // Draining.

    /// Returns the next answer to a batch of appends, to be given to the engine.
    pub fn next_decided(&mut self) -> Option<StoreEvent> {
        let event = self.decided.pop_front()?;
        if let StoreEvent::Appended(batch) = &event {
            for Appended { ticket, room, outcome, .. } in batch {
                if let Outcome::Stored(Message { seq, .. }) | Outcome::Duplicate { seq, .. } = outcome {
                    self.told.insert((ticket.conn, ticket.tag, room.clone(), *seq));
                }
            }
        }
        Some(event)
    }

    /// Returns the next answer to a read, to be given to the engine.
    pub fn next_page(&mut self) -> Option<StoreEvent> {
        self.pages.pop_front()
    }
}
