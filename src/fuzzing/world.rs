//! The world around an engine: a simulated network, store and clock, driven as the loop drives the real ones. The
//! engine's tests use it, too. After each turn the invariants are checked, and every client reads its output.

use std::collections::{BTreeMap, BTreeSet};

use super::listener::Listener;
pub use super::sizes::Sizes;
use crate::chat::Chat;
use crate::conn::Connection;
use crate::crypto::sealed::{Initiator, SealedKey};
use crate::engine::{Engine, Fact, Input, Now, Output};
use crate::store::{StoreEvent, StoreRequest};
use crate::testing::{Failure, LateStore};
use crate::types::{ConnId, Millis, WallMillis};

/// The key of a server that accepts sealed sockets.
const SEALED_KEY: [u8; 32] = [7; 32];
/// Seconds that the end of a run waits at most for peers that were over their rate.
const WAITS: usize = 1_000;

pub struct World {
    pub engine: Engine<Chat>,
    pub store: LateStore,
    pub now: Now,
    /// The dates that the clock has shown.
    walls: BTreeSet<WallMillis>,
    pub peers: BTreeMap<u32, Peer>,
    /// The store answers within the turn.
    pub answers_at_once: bool,
    /// Ids of connections that are gone.
    pub gone: Vec<ConnId>,
    /// What the log was told.
    pub facts: Vec<Fact>,
    /// The newest token that each peer received, over any connection, and the next seq in each of its rooms at that
    /// time.
    remembered: BTreeMap<u32, (String, BTreeMap<String, u64>)>,
    most_queued: usize,
    generation: u32,
    /// Counts all activity, to detect when there is none.
    activity: usize,
}

/// The other end of a connection.
pub struct Peer {
    pub id: ConnId,
    pub listener: Listener,
    /// All that it received.
    pub got: Vec<u8>,
    /// Bytes that it reads from each flush.
    pub takes: usize,
    /// Bytes that it sent and the engine has not read.
    pub unread: Vec<u8>,
    pub ended: bool,
    /// Its input is sealed, so the listener cannot parse it.
    pub is_sealed: bool,
    /// It has not sent anything yet.
    is_new: bool,
    /// The engine refused to read; nothing more is read until it allows that, as in the loop.
    refused: bool,
    next_id: u64,
}

impl World {
    pub fn new(sizes: Sizes) -> World {
        let mut world = World {
            engine: sizes.engine(),
            store: LateStore::new(sizes.log_room, 16 * sizes.log_room),
            now: Now { mono: Millis(1), wall: WallMillis(1_790_000_000_000) },
            walls: BTreeSet::new(),
            peers: BTreeMap::new(),
            answers_at_once: true,
            gone: Vec::new(),
            facts: Vec::new(),
            remembered: BTreeMap::new(),
            most_queued: sizes.most_queued(),
            generation: 0,
            activity: 0,
        };
        // The loop reads its clocks before it feeds the engine.
        world.read_clocks();
        world
    }

    /// Makes a world whose server accepts sealed sockets, too.
    pub fn with_sealed(sizes: Sizes) -> World {
        let mut world = World::new(sizes);
        let mut count = 0;
        world.engine.app.seal(SealedKey::new(SEALED_KEY), None, move || {
            count += 1;
            Some([count; 32])
        });
        world
    }

    /// Makes the server read its settings again; the new limits apply.
    pub fn configure(&mut self, sizes: Sizes) {
        self.engine.set_limits(sizes.limits());
        self.most_queued = self.most_queued.max(sizes.most_queued());
        self.flush();
    }

    // Actions of clients.

    pub fn connect(&mut self, index: u32, address: &str) {
        self.arrive(index, address, false, false);
    }

    /// Connects to a listener that speaks TLS; the world has only what is inside.
    pub fn connect_securely(&mut self, index: u32, address: &str) {
        self.arrive(index, address, false, true);
    }

    /// Connects beyond the connection limit.
    pub fn connect_in_excess(&mut self, index: u32, address: &str) {
        self.arrive(index, address, true, false);
    }

    fn arrive(&mut self, index: u32, address: &str, is_excess: bool, secure: bool) {
        if self.peers.contains_key(&index) {
            return;
        }
        self.generation += 1;
        let id = ConnId { index, generation: self.generation };
        let mut listener = Listener::new(id);
        listener.is_excess = is_excess;
        let peer = Peer {
            id,
            listener,
            got: Vec::new(),
            takes: usize::MAX,
            unread: Vec::new(),
            ended: false,
            is_sealed: false,
            is_new: true,
            refused: false,
            next_id: 0,
        };
        self.peers.insert(index, peer);
        // proof: the test's own addresses.
        let peer: core::net::SocketAddr = address.parse().expect("an address with a port");
        self.engine.handle(match is_excess {
            true => Input::Excess { conn: id, peer, secure },
            false => Input::Opened { conn: id, peer, secure },
        });
    }

    /// Makes the peer send bytes, which the next turn reads.
    pub fn send(&mut self, index: u32, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.ended {
            peer.is_new = false;
            peer.unread.extend_from_slice(bytes);
        }
    }

    pub fn upgrade(&mut self, index: u32, path: &str) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.send(index, request.as_bytes());
    }

    /// Asks for a sealed socket and begins its handshake; after the answer, the peer's messages are sealed. Only
    /// allowed as its first request.
    pub fn upgrade_sealed(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(&index).filter(|peer| peer.is_new) else { return };
        // proof: it is the pin of a key.
        let (initiator, first) = Initiator::begin(&SealedKey::new(SEALED_KEY).pin(), [1; 32]).expect("a pin");
        peer.listener.begin_sealed(initiator);
        self.send(
            index,
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Protocol: racerd.v1.sealed\r\n\r\n",
        );
        self.send(index, &super::ws_stream::masked(0x82, &first, [0; 4]));
    }

    /// Asks to resume the session of `whose`, by the last token that it received, here or on a connection that is gone.
    /// With `tells` the request has its cursors, so that the messages after them are owed.
    pub fn resume(&mut self, index: u32, whose: u32, tells: bool) {
        if let Some(peer) = self.peers.get(&whose) {
            self.remember(whose, peer.id);
        }
        let Some((token, rooms)) = self.remembered.get(&whose).cloned() else { return };
        let Some(peer) = self.peers.get_mut(&index).filter(|peer| !peer.ended && peer.listener.may_speak()) else {
            return;
        };
        peer.listener.resuming.insert(peer.next_id);
        if tells {
            peer.listener.owed = rooms.clone();
        }
        let places = rooms.iter().filter(|_| tells);
        let places: Vec<String> =
            places.map(|(room, next)| format!("\"{room}\":{{\"epoch\":\"e\",\"seq\":{}}}", next - 1)).collect();
        let cursors = places.join(",");
        self.ask(index, "resume", &format!(",\"session\":\"{token}\",\"cursors\":{{{cursors}}}"));
    }

    fn remember(&mut self, index: u32, id: ConnId) {
        let Some(peer) = self.peers.get(&index).filter(|peer| peer.id == id) else { return };
        if let Some(token) = &peer.listener.token {
            self.remembered.insert(index, (token.clone(), peer.listener.rooms.clone()));
        }
    }

    /// Sends a text frame; the expected answers are not known here.
    pub fn say(&mut self, index: u32, json: &str) {
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.listener.is_vague = true;
        }
        self.say_plainly(index, json);
    }

    /// Sends a text frame that has no answer, or a refusal without an id.
    pub fn say_plainly(&mut self, index: u32, json: &str) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let Some((first, payload)) = peer.listener.frame_of(json) else { return };
        self.send(index, &super::ws_stream::masked(first, &payload, [0; 4]));
    }

    /// Sends a request with an id of its own, which has to be answered; `fields` follow the id.
    pub fn ask(&mut self, index: u32, kind: &str, fields: &str) {
        let Some(peer) = self.peers.get_mut(&index).filter(|peer| peer.listener.may_speak()) else { return };
        let id = peer.next_id;
        if !peer.ended {
            peer.next_id += 1;
            peer.listener.unanswered.insert(id);
        }
        self.say_plainly(index, &format!("{{\"type\":\"{kind}\",\"id\":{id}{fields}}}"));
    }

    /// Ends the peer's stream. The loop sees the end after all bytes sent before, and only while it may read; till then
    /// the engine is told that the peer has hung up.
    pub fn end(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let conn = peer.id;
        if !peer.ended && (peer.refused || !self.engine.may_read(conn)) {
            self.engine.handle(Input::HungUp { conn });
            return self.flush();
        }
        if peer.unread.is_empty() && !peer.ended && !peer.refused && self.engine.may_read(peer.id) {
            peer.ended = true;
            self.engine.handle(Input::Ended { conn });
            self.flush();
        }
    }

    pub fn reset(&mut self, index: u32) {
        let Some(peer) = self.peers.get(&index) else { return };
        self.engine.handle(Input::Lost { conn: peer.id });
        self.flush();
    }

    /// Makes the peer read at most `most` bytes of the output that waits for it.
    pub fn take(&mut self, index: u32, most: usize) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let (conn, taken) = (peer.id, Self::taken(&self.engine, peer, most));
        self.activity += taken;
        self.engine.handle(Input::Wrote { conn, taken });
        self.flush();
    }

    fn taken(engine: &Engine<Chat>, peer: &mut Peer, most: usize) -> usize {
        let Some(queue) = engine.queue(peer.id) else { return 0 };
        let before = peer.got.len();
        for piece in queue.pieces() {
            let left = most - (peer.got.len() - before);
            peer.got.extend(piece.iter().take(left));
        }
        peer.got.len() - before
    }

    // Actions of the loop.

    /// Hands over at most `most` of the bytes that a peer sent.
    pub fn feed(&mut self, index: u32, most: usize) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if peer.unread.is_empty() || peer.refused {
            return;
        }
        if !self.engine.may_read(peer.id) {
            peer.refused = true;
            return;
        }
        let rest = peer.unread.split_off(most.min(peer.unread.len()));
        let mut bytes = std::mem::replace(&mut peer.unread, rest);
        self.activity += bytes.len();
        self.engine.handle(Input::Bytes { conn: peer.id, bytes: &mut bytes });
    }

    /// Gives the engine an answer from the store.
    pub fn answer(&mut self, event: Option<StoreEvent>) {
        let Some(event) = event else { return };
        self.activity += 1;
        self.engine.handle(Input::Store(event));
    }

    fn read_clocks(&mut self) {
        self.walls.insert(self.now.wall);
        self.engine.begin_turn(self.now);
    }

    /// Runs one turn, as the loop does.
    pub fn turn(&mut self) {
        self.read_clocks();
        let mut unread = Vec::new();
        self.engine.take_unread(&mut unread);
        for conn in unread {
            self.engine.read_on(conn);
        }
        let indices: Vec<u32> = self.peers.keys().copied().collect();
        for index in indices {
            self.feed(index, usize::MAX);
        }
        self.consult_store();
        self.engine.end_turn(usize::MAX);
        self.write();
        let peers = &self.peers;
        let waits = |conn| peers.values().any(|peer| peer.id == conn && !peer.unread.is_empty() && !peer.refused);
        self.engine.expire(self.now.mono, waits);
        self.carry_out();
        self.consult_store();
    }

    fn consult_store(&mut self) {
        let mut requests = Vec::new();
        self.engine.take_requests(&mut requests);
        self.activity += requests.len();
        for request in &requests {
            if let StoreRequest::Append(append) = request {
                assert!(self.walls.contains(&append.at), "a message is dated {:?}, which no clock showed", append.at);
            }
        }
        self.store.submit(requests.into_iter());
        if self.answers_at_once {
            self.answer_all();
        }
    }

    fn answer_all(&mut self) {
        self.store.decide(usize::MAX);
        while let Some(event) = self.store.next_decided() {
            self.answer(Some(event));
        }
        loop {
            self.store.read_next();
            match self.store.next_page() {
                None => return,
                page => self.answer(page),
            }
        }
    }

    /// Writes the queued output and carries out the engine's requests; then all clients read, and the invariants are
    /// checked.
    pub fn flush(&mut self) {
        self.write();
        self.carry_out();
    }

    fn write(&mut self) {
        let mut dirty = Vec::new();
        self.engine.take_dirty(&mut dirty);
        for conn in dirty {
            let taken = match self.peers.values_mut().find(|peer| peer.id == conn) {
                Some(peer) => Self::taken(&self.engine, peer, peer.takes),
                None => 0,
            };
            self.activity += taken;
            self.engine.handle(Input::Wrote { conn, taken });
        }
        for peer in self.peers.values_mut() {
            // It may have been given a place in this turn.
            peer.listener.is_excess &= self.engine.net.get(peer.id).is_none_or(Connection::is_excess);
        }
        for peer in self.peers.values_mut().filter(|peer| !peer.is_sealed) {
            peer.listener.listen(&peer.got, &self.store);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Close(conn) => {
                    let index = self.peers.iter().find(|(_, peer)| peer.id == conn).map(|(index, _)| *index);
                    index.into_iter().for_each(|index| self.remember(index, conn));
                    let before = self.peers.len();
                    self.peers.retain(|_, peer| peer.id != conn);
                    assert_eq!(self.peers.len() + 1, before, "{conn} is closed twice");
                    self.gone.push(conn);
                }
                Output::Keep(_) => {}
                Output::Resume(conn) => {
                    if let Some(peer) = self.peers.values_mut().find(|peer| peer.id == conn) {
                        self.activity += usize::from(peer.refused);
                        peer.refused = false;
                    }
                }
                Output::Shutdown(conn) => {
                    let queued = self.engine.queue(conn).map_or(0, |queue| queue.len());
                    assert_eq!(queued, 0, "shut down with something to say");
                }
                Output::Log(fact) => self.facts.push(fact),
            }
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.engine.net.check(), Ok(()));
        assert_eq!(self.engine.app.hub.check(), Ok(()));
        assert_eq!(self.engine.net.count(), self.peers.len(), "connections and sockets");
        for peer in self.peers.values() {
            let queued = self.engine.queue(peer.id).map_or(0, |queue| queue.len());
            assert!(queued <= self.most_queued, "a queue of {queued} bytes");
            let has_session = self.engine.net.get(peer.id).is_some_and(|connection| connection.session().is_some());
            assert!(!(peer.listener.is_excess && has_session), "{} came in excess and has a session", peer.id);
        }
    }

    /// Runs turns until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..2000 {
            let before = self.activity;
            self.turn();
            if self.activity == before && !self.engine.has_dirty() {
                return;
            }
        }
        // proof: this must not happen; the fuzzer looks for it.
        panic!("it does not come to rest");
    }

    /// Lets time pass as the loop does: from deadline to deadline, each strictly later than the one before.
    pub fn pass(&mut self, milliseconds: u64) {
        // The loop does not let time pass while there are bytes that it may read or deliver.
        let waits = |peer: &Peer| !peer.unread.is_empty() && !peer.refused;
        let end = self.now.mono.after(milliseconds);
        for _ in 0..10_000 {
            if self.engine.has_dirty() || self.peers.values().any(waits) {
                self.turn();
            }
            match self.engine.deadline() {
                Some(due) if due <= end => {
                    self.now.mono = due.max(self.now.mono);
                    self.turn();
                    let stuck = self.engine.deadline().is_some_and(|d| d <= self.now.mono);
                    let at = self.now.mono;
                    assert!(!stuck || self.engine.has_dirty(), "a deadline that fired stands still at {at:?}");
                }
                _ => {
                    self.now.mono = end;
                    return self.turn();
                }
            }
        }
        // proof: this must not happen; the fuzzer looks for it.
        panic!("the loop spins");
    }

    // The end of all.

    /// Ends all faults: every client reads its output, the store works and answers. Then every client must become live,
    /// and every request must have its answer.
    pub fn heal(&mut self) {
        self.store.failure = Failure::No;
        self.store.reads_fail = false;
        self.answers_at_once = true;
        self.answer_all();
        let indices: Vec<u32> = self.peers.keys().copied().collect();
        for index in indices {
            if let Some(peer) = self.peers.get_mut(&index) {
                peer.takes = usize::MAX;
            }
            self.take(index, usize::MAX);
        }
        self.settle();
        if self.engine.is_stopping() || self.store.is_dead {
            return;
        }
        // A failed read is retried after a second.
        self.pass(1_100);
        self.settle();
        // One more message in each room reveals messages that were stored but reported as failed.
        let rooms: BTreeSet<String> =
            self.peers.values().flat_map(|peer| peer.listener.rooms.keys().cloned()).collect();
        for room in rooms {
            self.connect(99, "127.0.0.1:9");
            self.send(99, post(&room).as_bytes());
            self.settle();
            self.end(99);
            self.settle();
        }
        self.pass(1_100);
        self.settle();
        // Whoever was over a rate is read again, one request after the other.
        for _ in 0..WAITS {
            let has_input = |peer: &Peer| self.engine.net.get(peer.id).is_some_and(Connection::has_input);
            if self.peers.values().all(|peer| peer.unread.is_empty() && !has_input(peer)) {
                break;
            }
            self.pass(1_000);
            self.settle();
        }
        // A room rests after a delivery, also after the last one.
        self.pass(1_000);
        self.settle();
        for (index, peer) in &self.peers {
            let Some(connection) = self.engine.net.get(peer.id) else { continue };
            if connection.session().is_none() {
                continue;
            }
            assert!(peer.unread.is_empty(), "{index} is not read any more");
            for (room, next) in &peer.listener.rooms {
                // proof: a joined room has an id.
                let head = self.store.head(&crate::types::RoomId::parse(room).expect("a room id"));
                assert_eq!(*next, head.0 + 1, "{index} is not live in {room}");
            }
            let unanswered = &peer.listener.unanswered;
            assert!(unanswered.is_empty() || peer.listener.is_vague, "{index} waits for {unanswered:?}");
        }
    }

    /// Lets much time pass with no client reading: nothing may be left over.
    pub fn outlast(&mut self) {
        for peer in self.peers.values_mut() {
            peer.takes = 0;
        }
        self.pass(400_000);
        let engine = &self.engine;
        assert_eq!(engine.net.count(), 0, "a connection outlived every timeout");
        assert_eq!(engine.app.hub.session_count(), 0, "a session is left");
        assert_eq!(engine.app.hub.room_count(), 0, "a room is left");
        assert_eq!(engine.deadline(), None, "a deadline is left");
        assert!(!engine.has_dirty(), "something is left to flush");
        assert!(self.store.is_dead || engine.app.hub.pending() == 0, "{} requests are left", engine.app.hub.pending());
        assert!(!engine.is_stopping() || engine.is_finished(), "it does not stop");
    }
}

fn post(room: &str) -> String {
    format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1\r\n\r\n7"
    )
}
