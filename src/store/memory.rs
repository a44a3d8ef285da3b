//! The in-memory log, for `durability = "memory"`, the simulator and the tests. Pure: its output depends on its input
//! alone; it uses no thread, clock, file or randomness. Each step costs amortized O(1); a read costs its page.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use super::holders::{Holders, Victim};
use super::idempotency::{COMMON, Entry, Seen, WINDOW, Window};
use super::request::{
    About, Append, Appended, Claimed, Found, Outcome, Page, Parked, Read, Removed, Scope, ScopedKey, Seek, Sought,
    Span, StoreEvent, StoreRequest,
};
use super::standing::{Mark, STANDINGS, Standing};
use crate::types::{Digest, Epoch, Era, IdempotencyKey, Message, RoomId, Seq, SessionId, WallMillis};

/// Default maximum number of rooms. A room's head is kept forever, so that no seq is assigned twice; appends to a
/// further room are refused. About 150 bytes each.
const ROOMS: usize = 100_000;

/// Minimum number of recently used key windows that are kept; up to twice as many may be.
const WINDOWS: usize = 4_096;

/// Default maximum number of parked sessions.
const PARKED: usize = 100_000;

/// Overhead of a message in addition to its body, in bytes.
const MESSAGE_BYTES: usize = size_of::<Message>() + size_of::<(u32, Seq)>();

/// Further overhead of an encrypted message, in bytes: its digest, twice.
const SEALED_BYTES: usize = size_of::<(Seq, Digest)>() + 2 * size_of::<Digest>();

/// Maximum memory of rooms and keys in addition to the messages, in bytes.
pub const FIXED_BYTES: usize = ROOMS * (150 + size_of::<Room>())
    + 2 * WINDOWS * (size_of::<(u32, SessionId, Window)>() + WINDOW * size_of::<Entry>())
    + 2 * COMMON * size_of::<(u32, IdempotencyKey, Entry)>();

/// A whole log in memory. Its limits are in bytes: above them the oldest messages are dropped, first those of a room
/// that is too large, then the oldest of all rooms. The message appended last always stays.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    room_bytes_max: usize,
    total_bytes_max: usize,
    /// Indexes into `rooms`.
    index: HashMap<RoomId, u32>,
    rooms: Vec<Room>,
    rooms_max: usize,
    /// Whether the operator was told that no further room is accepted.
    has_noted_bound: bool,
    /// Size of all messages, in bytes.
    bytes: usize,
    /// Number of messages.
    kept: usize,
    /// Every message, oldest first, by room and seq; may include some that were dropped.
    order: VecDeque<(u32, Seq)>,
    windows: Recent<(u32, SessionId), Window>,
    common: Recent<(u32, IdempotencyKey), Entry>,
    parking: Parking,
    standings: Standings,
}

#[derive(Clone, Debug, Default)]
struct Room {
    messages: VecDeque<Message>,
    head: Seq,
    at: WallMillis,
    bytes: usize,
    /// `None` until the room has an encrypted message.
    sealed: Option<Box<SealedBodies>>,
}

/// The digests of a room's encrypted messages.
#[derive(Clone, Debug, Default)]
struct SealedBodies {
    /// Oldest message first.
    order: VecDeque<(Seq, Digest)>,
    digests: HashSet<Digest>,
}

impl SealedBodies {
    fn add(&mut self, seq: Seq, digest: Digest) {
        self.order.push_back((seq, digest));
        self.digests.insert(digest);
    }

    /// Forgets the message with this seq, if it was encrypted. Returns whether it was.
    fn forget(&mut self, seq: Seq) -> bool {
        let Some((_, digest)) = self.order.front().filter(|(front, _)| *front == seq) else { return false };
        self.digests.remove(digest);
        self.order.pop_front();
        true
    }
}

impl Room {
    /// Returns the oldest stored seq; the head's successor if none is.
    fn oldest(&self) -> Seq {
        self.messages.front().map_or(self.head.next(), |message| message.seq)
    }

    /// Returns how many stored messages have a seq below this one. Seqs are contiguous.
    fn count_below(&self, seq: Seq) -> usize {
        let below = seq.0.saturating_sub(self.oldest().0);
        usize::try_from(below).map_or(self.messages.len(), |below| below.min(self.messages.len()))
    }

    /// Drops the oldest message. Returns its size in bytes.
    fn drop_oldest(&mut self) -> usize {
        let Some(message) = self.messages.pop_front() else { return 0 };
        let is_sealed = self.sealed.as_mut().is_some_and(|sealed| sealed.forget(message.seq));
        let bytes = cost(&message, is_sealed);
        self.bytes -= bytes;
        bytes
    }
}

fn cost(message: &Message, is_sealed: bool) -> usize {
    MESSAGE_BYTES + message.body.len() + if is_sealed { SEALED_BYTES } else { 0 }
}

impl MemoryLog {
    /// Creates an empty log that keeps at most `room_bytes` of messages in each room and `total_bytes` in all.
    pub fn new(epoch: Epoch, room_bytes: usize, total_bytes: usize) -> MemoryLog {
        MemoryLog {
            epoch,
            room_bytes_max: room_bytes,
            total_bytes_max: total_bytes,
            index: HashMap::new(),
            rooms: Vec::new(),
            rooms_max: ROOMS,
            has_noted_bound: false,
            bytes: 0,
            kept: 0,
            order: VecDeque::new(),
            windows: Recent::new(WINDOWS),
            common: Recent::new(COMMON),
            parking: Parking { max: PARKED, ..Parking::default() },
            standings: Standings { max: STANDINGS, ..Standings::default() },
        }
    }

    /// Sets the maximum number of rooms, which is never more than 100,000. Returns the note for the operator if further
    /// rooms are accepted again.
    pub fn set_rooms_max(&mut self, rooms_max: u64) -> Option<StoreEvent> {
        self.rooms_max = usize::try_from(rooms_max).map_or(ROOMS, |max| max.min(ROOMS));
        let is_over = self.has_noted_bound && self.rooms.len() < self.rooms_max;
        self.has_noted_bound &= !is_over;
        is_over.then_some(StoreEvent::Note { about: About::Rooms, text: None })
    }

    /// Sets the maximum number of parked sessions, instead of 100,000. Excess ones are dropped when the next is parked.
    pub fn set_parked_max(&mut self, max: u64) {
        self.parking.max = usize::try_from(max).unwrap_or(usize::MAX);
    }

    /// Sets the maximum number of sessions of which it is known what became of them, instead of 16,000.
    pub fn set_standings_max(&mut self, max: usize) {
        self.standings.max = max;
    }

    /// Returns what became of a session, as far as that is known.
    pub fn standing(&self, session: SessionId) -> Option<Standing> {
        self.standings.of(session)
    }

    /// Returns the same log under another epoch, as a later server would find it.
    pub fn reopened(self, epoch: Epoch) -> MemoryLog {
        MemoryLog { epoch, ..self }
    }

    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Replaces the limits, in bytes. Excess messages are dropped immediately.
    pub fn set_limits(&mut self, room_bytes: usize, total_bytes: usize) {
        self.room_bytes_max = room_bytes;
        self.total_bytes_max = total_bytes;
        for index in 0..self.rooms.len() {
            self.make_room(index as u32);
        }
    }

    /// Answers all requests in order. Consecutive appends are answered by one event.
    pub fn answer(&mut self, requests: &mut Vec<StoreRequest>, events: &mut Vec<StoreEvent>) {
        let mut appended = Vec::new();
        for request in requests.drain(..) {
            match request {
                StoreRequest::Append(append) => {
                    let decided = self.append(append);
                    if let Outcome::RoomsFull { limit } = decided.outcome {
                        events.extend(self.note_bound(limit));
                    }
                    appended.push(decided);
                }
                StoreRequest::Park(parked) => self.parking.park(parked),
                StoreRequest::Mark(mark) => {
                    if !appended.is_empty() {
                        events.push(StoreEvent::Appended(std::mem::take(&mut appended)));
                    }
                    events.extend(mark.asker.map(StoreEvent::Marked));
                    self.standings.put(&mark);
                }
                // This log proposes no room, and so removes none.
                StoreRequest::Use(_) => {}
                StoreRequest::Remove(room) => {
                    events.push(StoreEvent::Removed(Removed { room, is_gone: false }));
                }
                StoreRequest::Read(read) => {
                    if !appended.is_empty() {
                        events.push(StoreEvent::Appended(std::mem::take(&mut appended)));
                    }
                    events.push(StoreEvent::Page(self.read(read)));
                }
                StoreRequest::Seek(Seek { ticket, room, sealed, body }) => {
                    if !appended.is_empty() {
                        events.push(StoreEvent::Appended(std::mem::take(&mut appended)));
                    }
                    let found = self.index.get(&room).is_some_and(|index| self.keeps(*index, sealed));
                    let outcome = if found { Found::Kept } else { Found::Nowhere };
                    events.push(StoreEvent::Sought(Sought { ticket, room, body, outcome }));
                }
                StoreRequest::Claim(claim) => {
                    if !appended.is_empty() {
                        events.push(StoreEvent::Appended(std::mem::take(&mut appended)));
                    }
                    let (ticket, session) = (claim.ticket, claim.session);
                    let parked = self.parking.claim(session);
                    let standing = self.standings.of(session);
                    events.push(StoreEvent::Claimed(Claimed { ticket, session, parked, standing }));
                }
            }
        }
        if !appended.is_empty() {
            events.push(StoreEvent::Appended(appended));
        }
    }

    /// Stores one message, unless its key shows that it is a repeat.
    pub fn append(&mut self, append: Append) -> Appended {
        let Append { ticket, room, author, key, body, sealed, era: _, at } = append;
        let era = Some(Era::FIRST);
        let bytes = body.len();
        if ticket.makes_nothing() && !self.index.contains_key(&room) {
            return Appended { ticket, room, bytes, era: None, outcome: Outcome::NotMade };
        }
        let Some(index) = self.room(&room) else {
            let outcome = Outcome::RoomsFull { limit: self.rooms_max };
            return Appended { ticket, room, bytes, era: None, outcome };
        };
        let key = key.map(|key| (key, Digest::of(body.as_str().as_bytes())));
        match key.and_then(|(key, body)| self.lookup(index, key, body)) {
            Some(Seen::Same { seq, at }) => {
                return Appended { ticket, room, bytes, era, outcome: Outcome::Duplicate { seq, at } };
            }
            Some(Seen::OtherBody) => return Appended { ticket, room, bytes, era, outcome: Outcome::KeyReused },
            None if sealed.is_some_and(|sealed| self.keeps(index, sealed)) => {
                return Appended { ticket, room, bytes, era, outcome: Outcome::BodyReused };
            }
            None => {}
        }
        // `room` gave this index.
        let entry = &mut self.rooms[index as usize];
        let (seq, at) = (entry.head.next(), at.stamp_after(entry.at));
        let message = Message { room: room.clone(), seq, at, author, body };
        entry.head = seq;
        entry.at = at;
        if let Some(sealed) = sealed {
            entry.sealed.get_or_insert_default().add(seq, sealed);
        }
        let cost = cost(&message, sealed.is_some());
        entry.bytes += cost;
        self.bytes += cost;
        self.kept += 1;
        entry.messages.push_back(message.clone());
        self.order.push_back((index, seq));
        if let Some((key, body)) = key {
            self.remember(index, key.scope, Entry { key: key.key, body, seq, at });
        }
        self.make_room(index);
        Appended { ticket, room, bytes, era, outcome: Outcome::Stored(message) }
    }

    /// Returns the note for the operator that no further room is accepted. Only once, since rooms are never removed.
    fn note_bound(&mut self, limit: usize) -> Option<StoreEvent> {
        let is_first = !std::mem::replace(&mut self.has_noted_bound, true);
        let text = format!(
            "the in-memory log has {limit} rooms, its maximum: messages to further rooms are refused until a restart"
        );
        is_first.then_some(StoreEvent::Note { about: About::Rooms, text: Some(text) })
    }

    /// Returns whether a stored message of the room has this sealed body.
    fn keeps(&self, index: u32, sealed: Digest) -> bool {
        let room = self.rooms.get(index as usize);
        room.and_then(|room| room.sealed.as_ref()).is_some_and(|bodies| bodies.digests.contains(&sealed))
    }

    /// Reads one page of a room's log.
    pub fn read(&self, read: Read) -> Page {
        let Read { ticket, room, span, limit, bytes, upto: _ } = read;
        let Some(entry) = self.index.get(&room).and_then(|index| self.rooms.get(*index as usize)) else {
            let messages = Vec::new();
            return Page {
                ticket,
                room,
                span,
                messages,
                oldest: Seq(1),
                head: Seq::ZERO,
                more: false,
                era: Era::FIRST,
            };
        };
        let (limit, bytes) = (limit as usize, bytes as usize);
        let kept = entry.messages.len();
        let (messages, more) = match span {
            Span::After(seq) => {
                let start = entry.count_below(seq.next());
                let page = page_of(entry.messages.range(start..), limit, bytes);
                let more = start + page.len() < kept;
                (page, more)
            }
            Span::Before(_) | Span::Newest => {
                let end = if let Span::Before(seq) = span { entry.count_below(seq) } else { kept };
                let mut page = page_of(entry.messages.range(..end).rev(), limit, bytes);
                page.reverse();
                let more = page.len() < end;
                (page, more)
            }
        };
        Page { ticket, room, span, messages, oldest: entry.oldest(), head: entry.head, more, era: Era::FIRST }
    }

    /// Returns the room's index, adding the room if it is new; `None` if there are too many.
    fn room(&mut self, room: &RoomId) -> Option<u32> {
        if let Some(index) = self.index.get(room) {
            return Some(*index);
        }
        if self.rooms.len() >= self.rooms_max {
            return None;
        }
        let index = u32::try_from(self.rooms.len()).ok()?;
        self.index.insert(room.clone(), index);
        self.rooms.push(Room::default());
        Some(index)
    }

    fn lookup(&mut self, room: u32, key: ScopedKey, body: Digest) -> Option<Seen> {
        match key.scope {
            Scope::Session(session) => self.windows.get((room, session))?.lookup(key.key, body),
            Scope::Common => Some(self.common.get((room, key.key))?.compare(body)),
        }
    }

    fn remember(&mut self, room: u32, scope: Scope, entry: Entry) {
        match scope {
            Scope::Session(session) => {
                if let Some(window) = self.windows.get((room, session)) {
                    window.push(entry);
                } else {
                    let mut window = Window::default();
                    window.push(entry);
                    self.windows.insert((room, session), window);
                }
            }
            Scope::Common => self.common.insert((room, entry.key), entry),
        }
    }

    /// Drops the oldest messages until both limits hold, after an append to this room.
    fn make_room(&mut self, index: u32) {
        let room = &mut self.rooms[index as usize];
        while room.bytes > self.room_bytes_max && room.messages.len() > 1 {
            self.bytes -= room.drop_oldest();
            self.kept -= 1;
        }
        while self.bytes > self.total_bytes_max && self.kept > 1 {
            let Some((index, seq)) = self.order.pop_front() else { break };
            let room = &mut self.rooms[index as usize];
            // Otherwise the room's own limit has already dropped it.
            if room.oldest() == seq {
                self.bytes -= room.drop_oldest();
                self.kept -= 1;
            }
        }
        // Messages dropped by a room's own limit stay in `order` until they make up half of it: amortized O(1).
        if self.order.len() > 2 * self.kept + 64 {
            let rooms = &self.rooms;
            self.order.retain(|(index, seq)| *seq >= rooms[*index as usize].oldest());
        }
    }
}

/// Collects at most `limit` messages and `bytes` of bodies, but always at least one if there is one and `limit` is not
/// 0.
fn page_of<'a>(messages: impl Iterator<Item = &'a Message>, limit: usize, bytes: usize) -> Vec<Message> {
    let mut page: Vec<Message> = Vec::new();
    let mut left = bytes;
    for message in messages.take(limit) {
        if message.body.len() > left && !page.is_empty() {
            break;
        }
        left = left.saturating_sub(message.body.len());
        page.push(message.clone());
    }
    page
}

/// Parked sessions. They do not expire: the in-memory log knows no clock, and ends with the server.
#[derive(Clone, Debug, Default)]
struct Parking {
    max: usize,
    /// Each with its position in `order`.
    sessions: HashMap<SessionId, (u64, Parked)>,
    /// Oldest first; may include sessions that were claimed or parked again since.
    order: VecDeque<(u64, SessionId)>,
    next: u64,
}

impl Parking {
    fn park(&mut self, parked: Parked) {
        let (place, session) = (self.next, parked.session);
        self.next += 1;
        self.order.push_back((place, session));
        self.sessions.insert(session, (place, parked));
        while self.sessions.len() > self.max {
            let Some((place, session)) = self.order.pop_front() else { break };
            if self.is_at(place, session) {
                self.sessions.remove(&session);
            }
        }
        // Cleaned up once half of it is stale: amortized O(1).
        if self.order.len() > 2 * self.sessions.len() + 64 {
            let sessions = &self.sessions;
            self.order.retain(|(place, session)| sessions.get(session).is_some_and(|(at, _)| at == place));
        }
    }

    fn claim(&mut self, session: SessionId) -> Option<Parked> {
        self.sessions.remove(&session).map(|(_, parked)| parked)
    }

    fn is_at(&self, place: u64, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|(at, _)| *at == place)
    }
}

/// What became of sessions. The oldest of the network that has most gives way.
#[derive(Clone, Debug, Default)]
struct Standings {
    max: usize,
    known: HashMap<SessionId, Standing>,
    holders: Holders<SessionId>,
}

impl Standings {
    fn of(&self, session: SessionId) -> Option<Standing> {
        self.known.get(&session).copied()
    }

    fn put(&mut self, mark: &Mark) {
        let known = self.known.entry(mark.session).or_insert(mark.standing);
        *known = mark.standing.max(*known);
        self.holders.put(mark.session, mark.holder);
        while self.holders.len() > self.max {
            let Some(Victim::Record(session, _)) = self.holders.next_victim(0) else { break };
            self.known.remove(&session);
        }
    }
}

/// A map that keeps the last `limit` entries that were looked up or inserted, and at most twice as many. When the young
/// half is full, it becomes the old half, and the previous old half is dropped.
#[derive(Clone, Debug)]
struct Recent<K, V> {
    limit: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    fn new(limit: usize) -> Recent<K, V> {
        Recent { limit, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&mut self, key: K) -> Option<&mut V> {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key)?;
            self.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{ALICE, append, body_of, encrypted, read, stored};

    fn log(room_bytes: usize, total_bytes: usize) -> MemoryLog {
        MemoryLog::new(Epoch("test".into()), room_bytes, total_bytes)
    }

    #[test]
    fn a_full_room_drops_its_oldest_and_keeps_its_head() {
        let mut log = log(10 * (MESSAGE_BYTES + 100), usize::MAX);
        for n in 1..=1000u64 {
            let outcome = log.append(append("a", &body_of(100), n)).outcome;
            assert_eq!(stored(&outcome).seq, Seq(n));
        }
        log.append(append("b", "1", 1));
        let page = log.read(read("a", Span::Newest, 100, 60_000));
        assert_eq!((page.oldest, page.head, page.messages.len(), page.more), (Seq(991), Seq(1000), 10, false));
        assert!(log.order.len() <= 2 * log.kept + 65, "the order does not grow for ever: {}", log.order.len());
        let kept = log.rooms.iter().flat_map(|room| &room.messages);
        assert_eq!(log.bytes, kept.map(|message| cost(message, false)).sum::<usize>());
    }

    #[test]
    fn over_the_bound_in_all_the_oldest_of_all_rooms_goes() {
        let mut log = log(usize::MAX, 10 * (MESSAGE_BYTES + 100));
        for room in ["a", "b", "c", "d"] {
            for n in 0..4 {
                log.append(append(room, &body_of(100), n));
            }
        }
        let kept = ["a", "b", "c", "d"].map(|room| {
            let page = log.read(read(room, Span::Newest, 100, 60_000));
            (page.oldest.0, page.messages.len(), page.head.0)
        });
        assert_eq!(kept, [(5, 0, 4), (3, 2, 4), (1, 4, 4), (1, 4, 4)]);
    }

    #[test]
    fn what_goes_takes_its_digest_along() {
        let mut log = log(2 * (MESSAGE_BYTES + SEALED_BYTES + 30), usize::MAX);
        for n in 0..10 {
            stored(&log.append(encrypted("a", ALICE, &format!("k{n}"), &format!("c{n}"))).outcome);
            stored(&log.append(append("b", "1", 1)).outcome);
        }
        let bodies = log.rooms[0].sealed.as_ref().unwrap();
        assert_eq!((log.rooms[0].messages.len(), bodies.order.len(), bodies.digests.len()), (2, 2, 2));
        assert!(log.rooms[1].sealed.is_none(), "a room of plain messages pays nothing");
        let costs: [usize; 2] = [0, 1].map(|room| log.rooms[room].messages.iter().map(|m| cost(m, room == 0)).sum());
        assert_eq!((log.rooms[0].bytes, log.bytes), (costs[0], costs[0] + costs[1]));
        assert_eq!(log.append(encrypted("a", ALICE, "k", "c9")).outcome, Outcome::BodyReused);
        assert_eq!(
            stored(&log.append(encrypted("a", ALICE, "k", "c0")).outcome).seq,
            Seq(11),
            "the log has forgotten it"
        );
    }

    #[test]
    fn lower_bounds_hold_at_once() {
        let mut log = log(usize::MAX, usize::MAX);
        for room in ["a", "b"] {
            for n in 0..20 {
                log.append(append(room, &body_of(100), n));
            }
        }
        let kept =
            |log: &MemoryLog| ["a", "b"].map(|room| log.read(read(room, Span::Newest, 100, 60_000)).messages.len());
        log.set_limits(10 * (MESSAGE_BYTES + 100), usize::MAX);
        assert_eq!((kept(&log), log.kept), ([10, 10], 20));
        log.set_limits(usize::MAX, 15 * (MESSAGE_BYTES + 100));
        assert_eq!((kept(&log), log.bytes), ([5, 10], 15 * (MESSAGE_BYTES + 100)));
        assert_eq!(stored(&log.append(append("a", "1", 1)).outcome).seq, Seq(21));
    }

    #[test]
    fn one_message_larger_than_both_bounds_is_kept_till_the_next() {
        let mut log = log(10, 10);
        for n in 1..5 {
            log.append(append("a", &body_of(100), n));
            let page = log.read(read("a", Span::Newest, 100, 60_000));
            assert_eq!((page.messages.len(), page.oldest), (1, Seq(n)));
        }
        log.append(append("b", &body_of(100), 9));
        assert_eq!(log.read(read("a", Span::Newest, 100, 60_000)).oldest, Seq(5));
        assert_eq!(log.read(read("b", Span::Newest, 100, 60_000)).messages.len(), 1);
    }

    #[test]
    fn a_room_too_many_is_refused_and_the_others_go_on() {
        let mut log = log(1000, 100_000);
        for n in 0..ROOMS {
            assert!(matches!(log.append(append(&format!("r{n}"), "1", 1)).outcome, Outcome::Stored(_)));
        }
        let refused = Outcome::RoomsFull { limit: ROOMS };
        assert_eq!(log.append(append("one-more", "1", 1)).outcome, refused);
        assert_eq!(stored(&log.append(append("r0", "1", 1)).outcome).seq, Seq(2));
        // The operator is told only once.
        let mut ask = || {
            let mut events = Vec::new();
            log.answer(&mut vec![StoreRequest::Append(append("one-more", "1", 1))], &mut events);
            events
        };
        let is_refusal = |event: &StoreEvent| matches!(event, StoreEvent::Appended(list) if list[0].outcome == refused);
        let [StoreEvent::Note { about: About::Rooms, text: Some(text) }, told] = &ask()[..] else { panic!("no note") };
        assert!(text.contains("100000 rooms") && is_refusal(told), "{text}");
        assert!(matches!(&ask()[..], [told] if is_refusal(told)));
    }

    #[test]
    fn recent_keeps_what_was_used_and_stays_bounded() {
        let mut recent = Recent::new(10);
        recent.insert(0, 0);
        for n in 1..1000 {
            recent.insert(n, n);
            assert_eq!(recent.get(0), Some(&mut 0), "in use all the time");
            assert!(recent.young.len() + recent.old.len() <= 21);
        }
        for n in 991..1000 {
            assert!(recent.get(n).is_some(), "{n} is among the last");
        }
        assert!(recent.get(500).is_none());
    }
}
