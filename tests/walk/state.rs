//! One state of the small world, and every act that may follow it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use racerd::hub::{self, Cursor, Entry, Hub, HubLimits, Presence, Start};
use racerd::store::{self, Append, Outcome, Purpose, Scope, ScopedKey, StoreEvent, StoreRequest, Ticket};
use racerd::testing::{Fate, Store};
use racerd::types::{
    Author, Body, ConnId, Epoch, IdempotencyKey, Millis, Name, Right, RoomId, Seq, SessionClaim, SessionId,
    SessionSlot, WallMillis,
};

use crate::judge::{Client, From, Judge, Place, Said, Told, conn, member};

/// How often each act may occur in one story.
#[derive(Clone, Hash)]
pub struct Bounds {
    /// Joins of each client.
    pub joins: [u8; 2],
    /// Messages of the clients.
    pub sends: u8,
    /// Messages from outside.
    pub posts: u8,
    /// Commits that are reported as unavailable; each such message may be sent once more.
    pub unsure: u8,
    pub crashes: u8,
    /// Connections that are lost; their clients may come back.
    pub drops: u8,
    /// Reads that fail.
    pub failures: u8,
    /// Shortages of memory: rooms keep no messages in memory from then on.
    pub scarce: u8,
    /// Clients also join from now on and with the newest message, not only after their cursor.
    pub all_starts: bool,
}

impl Bounds {
    pub const NOTHING: Bounds = Bounds {
        joins: [0, 0],
        sends: 0,
        posts: 0,
        unsure: 0,
        crashes: 0,
        drops: 0,
        failures: 0,
        scarce: 0,
        all_starts: false,
    };
    pub const STARTS: Bounds = Bounds { all_starts: true, ..Bounds::NOTHING };
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Join(u8, From),
    Leave(u8),
    Send(u8),
    Post,
    /// A message that was refused is sent again.
    Repeat(u8),
    /// The client's connection breaks; everything queued to it had arrived, or only a part.
    Drop(u8, Unread),
    Return(u8),
    Crash,
    Scarce,
    /// The turn ends, and the store gets the turn's requests.
    Turn,
    Commit,
    CommitUnsure,
    /// The answer to an append arrives.
    Answer,
    Snapshot(u8),
    SnapshotFails(u8),
    /// The answer to a read arrives.
    Page(u8),
    Drain(u8),
    /// Time passes until the hub has something to do.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    Nothing,
    One,
}

impl Act {
    /// Returns whether the act is a decision or bad luck, which need never happen.
    pub fn is_free(self) -> bool {
        use Act::*;
        match self {
            Join(..) | Leave(_) | Send(_) | Post | Repeat(_) | Drop(..) | Return(_) | Crash | Scarce => true,
            CommitUnsure | SnapshotFails(_) => true,
            Turn | Commit | Answer | Snapshot(_) | Page(_) | Drain(_) | Wait => false,
        }
    }
}

const LIMITS: HubLimits = HubLimits {
    rooms_per_session: 1,
    presence_max: 100,
    page_bytes: 60_000,
    // So small that a page may end before the log does.
    page_messages: 2,
    reads_in_flight: 2,
    tail_bytes: 1 << 16,
    tail_bytes_total: 1 << 20,
    delivery_budget: 1000,
    room_delivery_rate: usize::MAX,
    batch_bytes: usize::MAX,
    resume_within: 30_000,
    detached_max: 10,
    renew_use: 0,
};

#[derive(Clone)]
pub struct State {
    hub: Hub,
    judge: Judge,
    store: Store,
    left: Bounds,
    repeated: Vec<u8>,
    slots: [Option<SessionSlot>; 2],
    /// Clients that lost their connection in the room and may come back to their session.
    lost: [bool; 2],
    now: Millis,
}

fn room() -> RoomId {
    RoomId::parse("r").expect("a room id")
}

fn identity(client: usize, generation: u32, provisional: bool) -> SessionClaim {
    let mut id = [0; 16];
    id[0] = client as u8 + 1;
    if provisional {
        id[1..5].copy_from_slice(&generation.to_be_bytes());
    }
    let name = Name::parse(["ann", "bob"][client]).expect("a name");
    SessionClaim { session: SessionId(id), member: member(client), name, generation, private: false }
}

/// The id of every join; no message has it.
const JOIN: u64 = u32::MAX as u64;

impl State {
    pub fn new(bounds: &Bounds) -> State {
        let mut state = State {
            hub: Hub::new(LIMITS, Epoch(Arc::from("e"))),
            judge: Judge::default(),
            store: Store::default(),
            left: bounds.clone(),
            repeated: Vec::new(),
            slots: [None; 2],
            lost: [false; 2],
            now: Millis(1000),
        };
        (0..2).for_each(|client| state.connect(client));
        state
    }

    /// Returns a hash of everything that decides what may follow.
    pub fn digest(&self) -> u64 {
        let State { hub, judge, store, left, repeated, slots, lost, now: _ } = self;
        let mut to = DefaultHasher::new();
        hub.fingerprint(&mut to);
        (judge, store, left, repeated, slots, lost).hash(&mut to);
        to.finish()
    }

    pub fn possible(&self, acts: &mut Vec<Act>) {
        let left = &self.left;
        for client in 0..2u8 {
            let index = client as usize;
            let Client { connected, place, wants_drained, known, .. } = self.judge.clients[index];
            if place == Place::Out && connected && left.joins[index] > 0 {
                acts.push(Act::Join(client, From::After(known)));
                if left.all_starts {
                    acts.push(Act::Join(client, From::Now));
                    acts.push(Act::Join(client, From::Newest(1)));
                }
            }
            if place != Place::Out && connected {
                acts.push(Act::Leave(client));
                if left.sends > 0 {
                    acts.push(Act::Send(client));
                }
                if left.drops > 0 {
                    acts.push(Act::Drop(client, Unread::Nothing));
                    acts.push(Act::Drop(client, Unread::One));
                }
            }
            if self.lost[index] {
                acts.push(Act::Return(client));
            }
            if wants_drained {
                acts.push(Act::Drain(client));
            }
        }
        if left.posts > 0 {
            acts.push(Act::Post);
        }
        for (index, said) in self.judge.said.iter().enumerate() {
            let index = index as u8;
            if said.fate == Told::Refused && !self.repeated.contains(&index) && self.may_say(said) {
                acts.push(Act::Repeat(index));
            }
        }
        if !self.store.appends.is_empty() {
            acts.push(Act::Commit);
            if left.unsure > 0 {
                acts.push(Act::CommitUnsure);
            }
        }
        if !self.store.decided.is_empty() {
            acts.push(Act::Answer);
        }
        for index in 0..self.store.reads.len() as u8 {
            acts.push(Act::Snapshot(index));
            if left.failures > 0 {
                acts.push(Act::SnapshotFails(index));
            }
        }
        (0..self.store.answers.len() as u8).for_each(|index| acts.push(Act::Page(index)));
        acts.push(Act::Turn);
        if self.hub.deadline().is_some() {
            acts.push(Act::Wait);
        }
        if left.crashes > 0 {
            acts.push(Act::Crash);
        }
        if left.scarce > 0 {
            acts.push(Act::Scarce);
        }
    }

    /// Returns whether the sender of this message is still there to send it again.
    fn may_say(&self, said: &Said) -> bool {
        said.by.is_none_or(|(index, generation)| {
            let client = &self.judge.clients[index];
            client.connected && client.generation == generation && client.place != Place::Out
        })
    }

    /// Performs the act.
    ///
    /// # Errors
    /// The inconsistency that the act led to.
    pub fn step(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Join(client, from) => {
                let client = usize::from(client);
                self.left.joins[client] -= 1;
                self.judge.clients[client].place = Place::Joining(from);
                let start = match from {
                    From::Now => Start::Now,
                    From::After(seq) => Start::After { seq: Seq(seq), epoch: Some("e".into()) },
                    From::Newest(n) => Start::Last(n as u32),
                };
                let slot = self.slots[client].ok_or("a session")?;
                let entry = Entry { room: room(), start, presence: Presence::Off, right: Some(Right::Send) };
                let joined = self.hub.handle_join(slot, Some(JOIN), entry, &mut self.judge);
                joined.map_err(|error| format!("a join is refused: {error:?}"))?;
            }
            Act::Leave(client) => {
                let slot = self.slots[usize::from(client)].ok_or("a session")?;
                let left = self.hub.handle_leave(slot, Some(JOIN), &room(), &mut self.judge);
                left.map_err(|error| format!("to leave is refused: {error:?}"))?;
            }
            Act::Send(client) => {
                self.left.sends -= 1;
                let by = Some((usize::from(client), self.judge.clients[usize::from(client)].generation));
                self.judge.said.push(Said { by, fate: Told::Nothing });
                self.say(self.judge.said.len() - 1)?;
            }
            Act::Post => {
                self.left.posts -= 1;
                self.judge.said.push(Said { by: None, fate: Told::Nothing });
                self.say(self.judge.said.len() - 1)?;
            }
            Act::Repeat(index) => {
                self.repeated.push(index);
                self.judge.said[usize::from(index)].fate = Told::Again;
                self.say(usize::from(index))?;
            }
            Act::Drop(client, unread) => self.lose(usize::from(client), unread),
            Act::Return(client) => self.come_back(usize::from(client))?,
            Act::Crash => self.crash(),
            Act::Scarce => {
                self.left.scarce -= 1;
                self.hub.set_limits(HubLimits { tail_bytes_total: 0, ..LIMITS });
            }
            Act::Turn => {
                self.hub.end_turn(self.now, usize::MAX, &mut self.judge);
                self.store.appends.extend(self.hub.poll_appends());
                self.hub.poll_parks().for_each(drop);
                self.hub.poll_became().for_each(drop);
                while let Some(request) = self.hub.poll_request() {
                    let StoreRequest::Read(read) = request else { return Err(format!("{request:?}")) };
                    self.store.reads.push(read);
                }
            }
            Act::Commit => self.store.decide(Fate::Fine),
            Act::CommitUnsure => {
                self.left.unsure -= 1;
                self.store.decide(Fate::Unsure);
            }
            Act::Answer => self.answer(),
            Act::Snapshot(index) => self.store.read(usize::from(index), true),
            Act::SnapshotFails(index) => {
                self.left.failures -= 1;
                self.store.read(usize::from(index), false);
            }
            Act::Page(index) => match self.store.arrive(usize::from(index)) {
                Some(StoreEvent::Page(page)) => self.hub.handle_page(page, &mut self.judge),
                Some(StoreEvent::ReadFailed(failed)) => {
                    self.hub.handle_read_failed(failed, self.now, &mut self.judge);
                }
                other => return Err(format!("no answer to a read: {other:?}")),
            },
            Act::Drain(client) => {
                let it = &mut self.judge.clients[usize::from(client)];
                (it.queued, it.wants_drained) = (0, false);
                if let Some(slot) = self.slots[usize::from(client)] {
                    self.hub.handle_drained(slot, &mut self.judge);
                }
            }
            Act::Wait => self.wait(),
        }
        self.judge.fault.clone().map_or(Ok(()), Err)?;
        self.hub.check()
    }

    /// Checks, once no act is left that happens by itself, that everything is where it belongs.
    pub fn at_rest(&self) -> Result<(), String> {
        let acked = self.judge.said.iter().map(|said| if let Told::Acked(seq) = said.fate { seq } else { 0 });
        let acked = acked.max().unwrap_or(0);
        for (index, client) in self.judge.clients.iter().enumerate() {
            match client.place {
                Place::Joining(_) => return Err(format!("client {index} never joins")),
                Place::In(next) if next <= acked => {
                    return Err(format!("client {index} is live without message {next}, which is acknowledged"));
                }
                Place::In(_) | Place::Out => {}
            }
        }
        if self.judge.said.iter().any(|said| matches!(said.fate, Told::Nothing | Told::Again)) {
            return Err("a message is never answered".into());
        }
        if self.hub.pending() > 0 {
            return Err(format!("{} things are under way for ever", self.hub.pending()));
        }
        Ok(())
    }

    fn connect(&mut self, client: usize) {
        let it = &mut self.judge.clients[client];
        it.generation += 1;
        (it.connected, it.queued, it.wants_drained) = (true, 0, false);
        let generation = it.generation;
        self.slots[client] =
            Some(self.hub.handle_session(identity(client, generation, true), conn(client, generation)));
    }

    fn say(&mut self, index: usize) -> Result<(), String> {
        let body = Body::checked(index.to_string().into());
        let key = IdempotencyKey::of(&[index as u8]);
        match self.judge.said[index].by {
            Some((client, _)) => {
                let session = self.slots[client].ok_or("a session")?;
                let (payer, making) = (store::NOBODY, store::Making::Free);
                let said = hub::Said { key: Some(key), body, sealed: None, at: WallMillis(0), payer, making, needs: 0 };
                let sent = self.hub.handle_send(session, Some(index as u64), room(), said);
                sent.map_err(|error| format!("a send is refused: {error:?}"))
            }
            None => {
                let ticket = Ticket::new(ConnId::NOBODY, Purpose::Publish, index as u64);
                let author = Author { member: None, name: Name::parse("out").expect("a name") };
                let key = Some(ScopedKey { scope: Scope::Common, key });
                self.hub.handle_publish(Append {
                    ticket,
                    room: room(),
                    author,
                    key,
                    body,
                    sealed: None,
                    era: None,
                    at: WallMillis(0),
                });
                Ok(())
            }
        }
    }

    fn answer(&mut self) {
        let Some(appended) = self.store.decided.pop_front() else { return };
        // A publisher hears of the commit beside the hub, and at the same time.
        if appended.ticket.purpose == Purpose::Publish {
            let said = &mut self.judge.said[appended.ticket.tag as usize];
            said.fate = match &appended.outcome {
                Outcome::Stored(message) => Told::Acked(message.seq.0),
                Outcome::Duplicate { seq, .. } => Told::Acked(seq.0),
                _ => Told::Refused,
            };
        }
        self.hub.handle_appended(appended, &mut self.judge);
    }

    /// Breaks the connection, and tells the hub.
    fn lose(&mut self, client: usize, unread: Unread) {
        self.left.drops -= 1;
        let it = &mut self.judge.clients[client];
        let was_in = matches!(it.place, Place::In(_));
        it.known -= u64::from(unread == Unread::One && was_in && it.known > 0);
        (it.connected, it.place, it.wants_drained) = (false, Place::Out, false);
        let old = conn(client, it.generation);
        self.forget_open(Some(client));
        self.lost[client] = true;
        if let Some(slot) = self.slots[client].take() {
            self.hub.handle_dropped(slot, old, self.now);
        }
    }

    /// Brings the client back over a new connection; it resumes its session if that still exists.
    fn come_back(&mut self, client: usize) -> Result<(), String> {
        self.lost[client] = false;
        self.connect(client);
        let generation = self.judge.clients[client].generation;
        let provisional = self.slots[client].ok_or("a session")?;
        let first = identity(client, generation, true);
        // Its previous session is the one of an earlier generation.
        let had = (1..generation).rev().find_map(|generation| {
            let id = identity(client, generation, true).session;
            self.hub.find_session(id).map(|_| id)
        });
        let Some(session) = had else { return Ok(()) };
        let identity = SessionClaim { session, ..first };
        let resumed = self.hub.handle_resume(provisional, conn(client, generation), identity, None, None);
        let slot = resumed.map_err(|error| format!("its newest token: {error:?}"))?.slot;
        self.slots[client] = Some(slot);
        let known = self.judge.clients[client].known;
        self.judge.clients[client].place = Place::Joining(From::After(known));
        let cursor = Cursor { room: room(), epoch: Some("e".into()), seq: Seq(known), presence: Some(Presence::Off) };
        self.hub.handle_return(slot, None, vec![cursor], None, &|_| Some(Right::Send), &mut self.judge);
        Ok(())
    }

    /// Kills the process and starts it again; the clients connect anew.
    fn crash(&mut self) {
        self.left.crashes -= 1;
        self.hub = Hub::new(*self.hub.limits(), Epoch(Arc::from("e")));
        self.store.crash();
        self.forget_open(None);
        for client in 0..2 {
            (self.judge.clients[client].place, self.lost[client]) = (Place::Out, false);
            self.connect(client);
        }
    }

    /// Marks open messages as never to be answered: all of them, or one client's.
    fn forget_open(&mut self, client: Option<usize>) {
        for said in &mut self.judge.said {
            let is_its = client.is_none_or(|client| said.by.is_some_and(|(by, _)| by == client));
            if is_its && matches!(said.fate, Told::Nothing | Told::Again) {
                said.fate = Told::Lost;
            }
        }
    }

    fn wait(&mut self) {
        if let Some(due) = self.hub.deadline() {
            self.now = self.now.max(due);
            self.hub.handle_time(self.now, &mut self.judge);
            self.hub.handle_absences(self.now);
        }
    }
}
