//! A naive log, and a store around it: requests wait until the test decides them, and answers until it delivers them,
//! so that reads and appends overtake each other in every possible way.

use std::collections::{BTreeMap, VecDeque};

use crate::store::{Append, Appended, Outcome, Page, Read, ReadFailed, ScopedKey, Span, StoreEvent, StoreRequest, Why};
use crate::types::{Digest, Message, RoomId, Seq, WallMillis};

#[derive(Default)]
pub struct Log {
    rooms: BTreeMap<RoomId, Vec<Message>>,
    /// Seqs below these are no longer kept.
    oldest: BTreeMap<RoomId, u64>,
    keys: Vec<(RoomId, ScopedKey, Digest, Seq)>,
}

impl Log {
    pub fn head(&self, room: &RoomId) -> u64 {
        self.rooms.get(room).map_or(0, |list| list.len() as u64)
    }

    /// Returns the oldest seq that is kept.
    pub fn oldest(&self, room: &RoomId) -> u64 {
        self.oldest.get(room).copied().unwrap_or(1)
    }

    pub fn message(&self, room: &RoomId, seq: u64) -> Option<&Message> {
        self.rooms.get(room)?.get(seq.checked_sub(1)? as usize)
    }

    /// Keeps only the messages from this seq on.
    pub fn prune(&mut self, room: &RoomId, oldest: u64) {
        let oldest = oldest.clamp(self.oldest(room), self.head(room) + 1);
        self.oldest.insert(room.clone(), oldest);
    }

    fn append(&mut self, append: &Append) -> Outcome {
        let body = Digest::of(append.body.as_str().as_bytes());
        let at = WallMillis(0);
        let seen = |(room, key, ..): &&(RoomId, ScopedKey, _, _)| *room == append.room && Some(*key) == append.key;
        if let Some((_, _, first, seq)) = self.keys.iter().find(seen) {
            return if *first == body { Outcome::Duplicate { seq: *seq, at } } else { Outcome::KeyReused };
        }
        let list = self.rooms.entry(append.room.clone()).or_default();
        let seq = Seq(list.len() as u64 + 1);
        let (room, author, body_text) = (append.room.clone(), append.author.clone(), append.body.clone());
        list.push(Message { room, seq, at, author, body: body_text });
        if let Some(key) = append.key {
            self.keys.push((append.room.clone(), key, body, seq));
        }
        Outcome::Stored(list[list.len() - 1].clone())
    }

    fn read(&self, read: &Read) -> Page {
        let (head, oldest) = (self.head(&read.room), self.oldest(&read.room));
        let kept = self.rooms.get(&read.room).map(|list| &list[oldest as usize - 1..]).unwrap_or_default();
        let forwards = matches!(read.span, Span::After(_));
        let is_in = |m: &&Message| match read.span {
            Span::After(seq) => m.seq > seq,
            Span::Before(seq) => m.seq < seq,
            Span::Newest => true,
        };
        let mut wanted: Vec<&Message> = kept.iter().filter(is_in).collect();
        if !forwards {
            wanted.reverse();
        }
        let (mut bytes, total) = (0, wanted.len());
        let fits = |m: &&Message| {
            let first = bytes == 0;
            bytes += m.body.len();
            first || bytes <= read.bytes as usize
        };
        let mut messages: Vec<Message> =
            wanted.into_iter().take(read.limit as usize).take_while(fits).cloned().collect();
        let more = messages.len() < total;
        if !forwards {
            messages.reverse();
        }
        let (ticket, room, span) = (read.ticket, read.room.clone(), read.span);
        Page { ticket, room, span, messages, oldest: Seq(oldest), head: Seq(head), more }
    }
}

/// Outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fine,
    Fails,
    /// Stored, though the store cannot confirm it.
    Unsure,
}

#[derive(Default)]
pub struct Store {
    pub log: Log,
    pub appends: VecDeque<Append>,
    /// Decided; the answers are pending, in order.
    pub decided: VecDeque<Appended>,
    pub reads: Vec<Read>,
    /// Read; the answers are pending, in any order.
    pub answers: Vec<StoreEvent>,
    /// Answers to reads that were delivered, to be repeated.
    pub old: Vec<StoreEvent>,
    /// The most reads that were ever pending at once.
    pub most_reads: usize,
    pub reads_taken: usize,
}

impl Store {
    pub fn take(&mut self, request: StoreRequest) {
        match request {
            StoreRequest::Append(append) => self.appends.push_back(append),
            StoreRequest::Read(read) => {
                self.reads_taken += 1;
                self.reads.push(read);
            }
            StoreRequest::Park(_) | StoreRequest::Claim(_) | StoreRequest::Seek(_) => {
                unreachable!("the world keeps what is parked")
            }
        }
        self.most_reads = self.most_reads.max(self.reads.len() + self.answers.len());
    }

    /// Decides the oldest waiting append.
    pub fn decide(&mut self, fate: Fate) {
        let Some(append) = self.appends.pop_front() else { return };
        let outcome = match fate {
            Fate::Fine => self.log.append(&append),
            Fate::Fails => Outcome::Unavailable,
            Fate::Unsure => {
                self.log.append(&append);
                Outcome::Unavailable
            }
        };
        let (ticket, room, bytes) = (append.ticket, append.room, append.body.len());
        self.decided.push_back(Appended { ticket, room, bytes, outcome });
    }

    /// Carries out one of the waiting reads.
    pub fn read(&mut self, index: usize, works: bool) {
        if self.reads.is_empty() {
            return;
        }
        let read = self.reads.remove(index % self.reads.len());
        self.answers.push(match works {
            true => StoreEvent::Page(self.log.read(&read)),
            false => StoreEvent::ReadFailed(ReadFailed { ticket: read.ticket, room: read.room, why: Why::Unknown }),
        });
    }

    /// Takes one of the pending answers to reads, for delivery to the hub.
    pub fn arrive(&mut self, index: usize) -> Option<StoreEvent> {
        if self.answers.is_empty() {
            return None;
        }
        let answer = self.answers.remove(index % self.answers.len());
        self.old.push(answer.clone());
        Some(answer)
    }

    pub fn is_idle(&self) -> bool {
        self.appends.is_empty() && self.decided.is_empty() && self.reads.is_empty() && self.answers.is_empty()
    }
}
