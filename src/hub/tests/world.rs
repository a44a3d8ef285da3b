//! A hub with its clients and its store, and the judge: the items that each client received must make sense to an
//! observer that knows nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clients::{Encoded, Fakes, Heard};
use crate::hub::{Became, Cursor, Entry, Hub, HubError, HubLimits, Presence, PresenceEvent, PresenceKind, Said, Start};
use crate::store::{Parked, Purpose, Span, Standing, StoreEvent, StoreRequest, Ticket};
use crate::testing::judge::{self, Begin, Change, Roster, Wanted};
use crate::testing::{Fate, Store};
use crate::types::{
    Body, ConnId, Epoch, IdempotencyKey, MemberId, Millis, Name, Right, RoomId, Seq, SessionClaim, SessionId,
    SessionSlot, WallMillis,
};

pub const LIMITS: HubLimits = HubLimits {
    rooms_per_session: 8,
    presence_max: 100,
    page_bytes: 60_000,
    page_messages: 500,
    reads_in_flight: 8,
    tail_bytes: 1 << 18,
    tail_bytes_total: 1 << 24,
    delivery_budget: 50_000,
    room_delivery_rate: usize::MAX,
    batch_bytes: usize::MAX,
    resume_within: 30_000,
    detached_max: 1000,
    renew_use: 0,
};

pub fn room(text: &str) -> RoomId {
    RoomId::parse(text).expect("a room id")
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A client with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub slot: SessionSlot,
    pub member: MemberId,
    index: u32,
    generation: u32,
}

impl Who {
    pub fn conn(self) -> ConnId {
        ConnId { index: self.index, generation: self.generation }
    }
}

/// A client that lost its connection, and its state: its token, and the last seq it received in each room.
#[derive(Clone, Debug)]
pub struct Lost {
    pub identity: SessionClaim,
    pub places: Vec<(RoomId, Seq, Presence)>,
    /// The presence it requested in each room, even where it has not received `joined` since its last resume.
    pub wishes: BTreeMap<RoomId, Presence>,
}

pub struct World {
    pub hub: Hub,
    pub clients: Fakes,
    pub store: Store,
    /// Answers to reads that were delivered, to be repeated.
    pub old: Vec<StoreEvent>,
    /// The most reads that were ever pending at once.
    pub most_reads: usize,
    pub reads_taken: usize,
    pub now: Millis,
    /// What everybody may do in every room, from their next join or return on.
    pub right: Option<Right>,
    limits: HubLimits,
    next_conn: u32,
    next_id: u64,
    pub next_body: u64,
    repeats: usize,
    judges: BTreeMap<(u32, u32), Judge>,
    /// The sessions that the store keeps.
    pub parked: BTreeMap<SessionId, Parked>,
    /// What became of sessions.
    pub standings: BTreeMap<SessionId, Standing>,
    /// The senders of each body, with their request ids.
    sent: BTreeMap<String, Vec<(ConnId, u64)>>,
}

impl World {
    pub fn new(limits: HubLimits) -> World {
        World {
            hub: Hub::new(limits, Epoch(Arc::from("k3f9"))),
            clients: Fakes::default(),
            store: Store::default(),
            old: Vec::new(),
            most_reads: 0,
            reads_taken: 0,
            now: Millis(5000),
            right: Some(Right::Send),
            limits,
            next_conn: 0,
            next_id: 0,
            next_body: 0,
            repeats: 0,
            judges: BTreeMap::new(),
            parked: BTreeMap::new(),
            standings: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    // Actions of clients.

    /// Opens a client with a session, in a slot of its own.
    pub fn open(&mut self) -> Who {
        self.next_conn += 1;
        self.open_in(self.next_conn, 0)
    }

    /// Opens a client in a slot that another one may have had.
    pub fn open_in(&mut self, index: u32, generation: u32) -> Who {
        let (identity, conn) = self.come(index, generation);
        let (member, slot) = (identity.member, self.hub.handle_session(identity, conn));
        Who { slot, member, index, generation }
    }

    /// Opens a client that only listens.
    pub fn follow(&mut self) -> Who {
        self.next_conn += 1;
        let (identity, conn) = self.come(self.next_conn, 0);
        let (member, slot) = (identity.member, self.hub.handle_follower(identity, conn));
        Who { slot, member, index: conn.index, generation: 0 }
    }

    fn come(&mut self, index: u32, generation: u32) -> (SessionClaim, ConnId) {
        let member = MemberId::from_random(u64::from(index) << 16 | u64::from(generation));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&member.as_u64().to_be_bytes());
        let conn = ConnId { index, generation };
        self.clients.open(conn);
        self.judges.insert((index, generation), Judge::new(member));
        let identity = SessionClaim {
            session: SessionId(id),
            member,
            name: name(&format!("{index}.{generation}")),
            generation: 0,
            private: false,
        };
        (identity, conn)
    }

    /// Breaks the client's socket: the client has received everything delivered so far except the last `unread`
    /// messages of each room.
    pub fn drop(&mut self, who: Who, unread: u64) -> Lost {
        let lost = self.lost(who, unread);
        self.clients.close(who.conn());
        self.judges.remove(&(who.index, who.generation));
        self.hub.handle_dropped(who.slot, who.conn(), self.now);
        lost
    }

    /// Returns the client's state, as for [`World::drop`], while its socket still looks alive.
    pub fn lost(&mut self, who: Who, unread: u64) -> Lost {
        self.judge();
        let session = self.hub.session(who.slot).expect("open");
        let identity = SessionClaim {
            session: session.id,
            member: session.member,
            name: session.name.clone(),
            generation: session.generation + 1,
            private: false,
        };
        let judge = self.judge_of(who);
        let mut wishes = judge.kept.clone();
        let mut places = Vec::new();
        for (room, stay) in &judge.stays {
            let received = (stay.next - 1).saturating_sub(unread).max(stay.first - 1);
            places.push((room.clone(), Seq(received), stay.presence));
            wishes.insert(room.clone(), stay.presence);
        }
        for (room, (start, presence)) in &judge.returns {
            if let Start::After { seq, .. } = start {
                places.push((room.clone(), *seq, *presence));
                wishes.insert(room.clone(), *presence);
            }
        }
        Lost { identity, places, wishes }
    }

    /// Resumes a client over a new socket with its cursors, or the first `named` of them.
    pub fn resume_in(&mut self, lost: &Lost, index: u32, generation: u32, named: usize) -> Result<Who, HubError> {
        let provisional = self.open_in(index, generation);
        let (id, conn) = (lost.identity.session, provisional.conn());
        let parked = match self.hub.find_session(id) {
            Some(_) => None,
            None => self.parked.remove(&id),
        };
        self.note_became();
        let standing = self.standings.get(&id).copied();
        let identity = lost.identity.clone();
        let resumed = self.hub.handle_resume(provisional.slot, conn, identity, parked.as_ref(), standing);
        let resumed = match resumed {
            Ok(resumed) => resumed,
            Err(error) => {
                self.parked.extend(parked.map(|parked| (id, parked)));
                self.gone(provisional);
                return Err(error);
            }
        };
        if let Some(old) = resumed.superseded {
            self.clients.close(old);
            self.judges.remove(&(old.index, old.generation));
            // The old connection's end arrives late, and changes nothing.
            self.hub.handle_dropped(resumed.slot, old, self.now);
        }
        let mut judge = Judge::new(lost.identity.member);
        let mut cursors = Vec::new();
        for (room, seq, presence) in lost.places.iter().take(named) {
            let epoch = Some("k3f9".into());
            judge.returns.insert(room.clone(), (Start::After { seq: *seq, epoch: epoch.clone() }, *presence));
            cursors.push(Cursor { room: room.clone(), epoch, seq: *seq, presence: Some(*presence) });
        }
        // The store does not keep presence requests.
        if parked.is_none() {
            judge.kept = lost.wishes.clone();
        }
        self.judges.insert((index, generation), judge);
        self.hub.handle_return(resumed.slot, None, cursors, parked, &|_| self.right, &mut self.clients);
        Ok(Who { slot: resumed.slot, member: lost.identity.member, index, generation })
    }

    /// Resumes in a slot of its own, with all cursors.
    pub fn resume(&mut self, lost: &Lost) -> Result<Who, HubError> {
        self.next_conn += 1;
        self.resume_in(lost, self.next_conn, 0, usize::MAX)
    }

    /// Ends the client's socket. Items that it received are judged first.
    pub fn gone(&mut self, who: Who) {
        self.judge();
        self.clients.close(who.conn());
        self.judges.remove(&(who.index, who.generation));
        self.hub.handle_gone(who.slot, who.conn());
    }

    /// Joins, or returns the refusal. The answer carries the returned id.
    pub fn try_join(&mut self, who: Who, room: &RoomId, start: Start, presence: Presence) -> Result<u64, HubError> {
        self.next_id += 1;
        let id = self.next_id;
        let entry = Entry { room: room.clone(), start: start.clone(), presence, right: self.right };
        self.hub.handle_join(who.slot, Some(id), entry, &mut self.clients)?;
        let judge = self.judge_of(who);
        judge.open.insert(id);
        judge.joins.insert(id, (start, presence));
        Ok(id)
    }

    pub fn join(&mut self, who: Who, room: &RoomId, start: Start) {
        self.join_with(who, room, start, Presence::Off);
    }

    pub fn join_with(&mut self, who: Who, room: &RoomId, start: Start, presence: Presence) {
        self.try_join(who, room, start, presence).expect("may join");
    }

    pub fn leave(&mut self, who: Who, room: &RoomId) -> Result<(), HubError> {
        self.next_id += 1;
        let id = self.next_id;
        self.hub.handle_leave(who.slot, Some(id), room, &mut self.clients)?;
        self.judge_of(who).open.insert(id);
        Ok(())
    }

    /// Sends a unique body; the ack carries the returned id.
    pub fn send(&mut self, who: Who, room: &RoomId) -> Result<u64, HubError> {
        self.next_body += 1;
        let body = self.next_body.to_string();
        self.send_body(who, room, &body, None)
    }

    pub fn send_body(&mut self, who: Who, room: &RoomId, body: &str, key: Option<&str>) -> Result<u64, HubError> {
        self.next_id += 1;
        let id = self.next_id;
        let key = key.map(|key| IdempotencyKey::of(key.as_bytes()));
        let said = Said {
            key,
            body: Body::checked(body.into()),
            sealed: None,
            at: WallMillis(0),
            payer: crate::store::NOBODY,
            making: crate::store::Making::Free,
            needs: 0,
        };
        self.hub.handle_send(who.slot, Some(id), room.clone(), said)?;
        self.sent.entry(body.to_owned()).or_default().push((who.conn(), id));
        self.judge_of(who).open.insert(id);
        Ok(id)
    }

    pub fn signal(&mut self, who: Who, room: &RoomId) -> Result<(), HubError> {
        self.hub.handle_signal(who.slot, room, Body::checked("\"typing\"".into()))
    }

    /// Requests a page of a room's log; the answer carries an id of its own.
    pub fn history(&mut self, who: Who, room: &RoomId, span: Span, limit: u32) {
        self.next_id += 1;
        let id = self.next_id;
        let ticket = Ticket::new(who.conn(), Purpose::History, id);
        self.hub.handle_read(ticket, room.clone(), span, limit);
        self.judge_of(who).open.insert(id);
    }

    pub fn set_queue(&mut self, who: Who, bound: usize) {
        self.clients.inbox(who.conn()).expect("open").bound = bound;
    }

    pub fn drain(&mut self, who: Who) {
        if self.clients.drain(who.conn()) {
            self.hub.handle_drained(who.slot, &mut self.clients);
        }
    }

    // Actions of the store.

    /// Keeps what became of sessions.
    pub fn note_became(&mut self) {
        for Became { session, standing, .. } in self.hub.poll_became() {
            let known = self.standings.entry(session).or_insert(standing);
            *known = standing.max(*known);
        }
    }

    /// Passes the turn's requests to the store.
    pub fn ask(&mut self) {
        self.note_became();
        self.store.appends.extend(self.hub.poll_appends());
        self.parked.extend(self.hub.poll_parks().map(|parked| (parked.session, parked)));
        while let Some(request) = self.hub.poll_request() {
            let StoreRequest::Read(read) = request else { unreachable!("the world keeps what is parked") };
            self.reads_taken += 1;
            self.store.reads.push(read);
        }
        self.most_reads = self.most_reads.max(self.store.reads.len() + self.store.answers.len());
        let most = self.limits.reads_in_flight + self.repeats;
        assert!(self.most_reads <= most, "{} reads at once", self.most_reads);
    }

    pub fn decide(&mut self, fate: Fate) {
        self.store.decide(fate);
    }

    /// Delivers the oldest answer to an append.
    pub fn decided(&mut self) {
        if let Some(appended) = self.store.decided.pop_front() {
            self.hub.handle_appended(appended, &mut self.clients);
        }
    }

    pub fn read(&mut self, index: usize) {
        self.store.read(index, true);
    }

    /// Delivers an answer to a read.
    pub fn arrive(&mut self, index: usize) {
        if let Some(answer) = self.store.arrive(index) {
            self.old.push(answer.clone());
            self.answer(answer);
        }
    }

    /// Delivers an answer to a read once more.
    pub fn repeat(&mut self, index: usize) {
        if !self.old.is_empty() {
            self.repeats += 1;
            let answer = self.old[index % self.old.len()].clone();
            self.answer(answer);
        }
    }

    pub fn answer(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Page(page) => self.hub.handle_page(page, &mut self.clients),
            StoreEvent::ReadFailed(failed) => self.hub.handle_read_failed(failed, self.now, &mut self.clients),
            StoreEvent::Appended(list) => {
                for appended in list {
                    self.hub.handle_appended(appended, &mut self.clients);
                }
            }
            StoreEvent::Unused(rooms) => self.hub.handle_unused(rooms),
            StoreEvent::Removed(removed) => self.hub.handle_removed(&removed),
            StoreEvent::Claimed(_) | StoreEvent::ClaimFailed { .. } | StoreEvent::Marked(_) | StoreEvent::Sought(_) => {
                unreachable!("claims, marks and looks are not the hub's")
            }
            StoreEvent::Remark(_) | StoreEvent::Note { .. } | StoreEvent::Damaged => {}
            StoreEvent::Unreadable(_) | StoreEvent::Available(_) | StoreEvent::Died(_) => {}
        }
    }

    /// Makes the store answer all requests, and all requests that follow from the answers.
    pub fn store_answers(&mut self) {
        self.ask();
        while !self.store.is_idle() {
            self.decide(Fate::Fine);
            self.decided();
            self.read(0);
            self.arrive(0);
            self.ask();
        }
    }

    // Turns and time.

    /// Ends the turn. True if some work had to wait for the next.
    pub fn end_turn(&mut self) -> bool {
        self.clients.take_encoded();
        self.hub.end_turn(self.now, usize::MAX, &mut self.clients);
        let more = self.hub.is_unfinished();
        let mut live = BTreeSet::new();
        for (room, kind) in &self.clients.encoded {
            assert!(*kind != Encoded::Live || live.insert(room.clone()), "{room} was encoded twice in one turn");
        }
        self.ask();
        self.judge();
        self.hub.check().expect("the invariants");
        more
    }

    pub fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.after(milliseconds);
        self.hub.handle_time(self.now, &mut self.clients);
        self.hub.handle_absences(self.now);
        let due = self.hub.deadline();
        assert!(due.is_none_or(|due| due > self.now), "after firing the next deadline lies later");
    }

    /// Ends all faults, empties every queue and lets time pass, until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.store_answers();
            let more = self.end_turn();
            let everyone: Vec<(u32, u32)> = self.judges.keys().copied().collect();
            let mut moved = more;
            for (index, generation) in everyone {
                let conn = ConnId { index, generation };
                if self.clients.drain(conn) {
                    moved = true;
                    let slot = self.hub.sessions.iter().find(|(_, s)| s.client == conn).map(|(slot, _)| slot);
                    self.hub.handle_drained(slot.expect("open"), &mut self.clients);
                }
            }
            if let Some(due) = self.hub.deadline() {
                moved = true;
                self.pass(due.since(self.now));
            }
            self.ask();
            if !moved && self.store.is_idle() && self.hub.dirty.is_empty() {
                self.judge();
                return self.hub.check().expect("the invariants");
            }
        }
        panic!("it never comes to rest");
    }

    /// Makes the store answer, and ends the turn.
    pub fn settle_turn(&mut self) {
        loop {
            self.store_answers();
            if !self.end_turn() && self.store.is_idle() {
                return;
            }
        }
    }

    // Knowledge of clients.

    pub fn heard(&mut self, who: Who) -> Vec<Heard> {
        self.clients.inbox(who.conn()).map(|inbox| inbox.heard.clone()).unwrap_or_default()
    }

    /// Returns the items that a client received since the last call. They are judged all the same.
    pub fn news(&mut self, who: Who) -> Vec<Heard> {
        self.judge();
        let judge = self.judges.get_mut(&(who.index, who.generation)).expect("open");
        let from = std::mem::replace(&mut judge.asked, judge.seen);
        self.clients.inbox(who.conn()).expect("open").heard[from..].to_vec()
    }

    /// Returns the seqs of a room's messages that a client received, in the order of their arrival.
    pub fn seqs(&mut self, who: Who, room: &RoomId) -> Vec<u64> {
        let heard = self.heard(who);
        heard
            .iter()
            .filter_map(|h| if let Heard::Message(m) = h { Some(m) } else { None })
            .filter(|m| m.room == *room)
            .map(|m| m.seq.0)
            .collect()
    }

    pub fn judge_of(&mut self, who: Who) -> &mut Judge {
        self.judges.get_mut(&(who.index, who.generation)).expect("open")
    }

    /// Judges the items received since the last call.
    pub fn judge(&mut self) {
        for (&(index, generation), judge) in &mut self.judges {
            let conn = ConnId { index, generation };
            let Some(inbox) = self.clients.inbox(conn) else { continue };
            let news: Vec<Heard> = inbox.heard[judge.seen..].to_vec();
            for heard in news {
                judge.seen += 1;
                if let Err(fault) = judge.hear(&heard, conn, &self.store, &self.sent) {
                    panic!("{conn} heard {heard:?}: {fault}");
                }
            }
        }
    }

    /// Checks, at rest, that every client has everything: every message from the start of its stay, the answer to every
    /// request, and the members present.
    pub fn judge_at_rest(&mut self) {
        for (&(index, generation), judge) in &self.judges {
            assert_eq!(judge.open, BTreeSet::new(), "{index}.{generation} waits for answers");
            for (room, stay) in &judge.stays {
                assert_eq!(stay.next, self.store.log.head(room) + 1, "{index}.{generation} in {room}");
                let (count, members, _) = self.hub.roster(room);
                let is_small = count <= self.limits.presence_max;
                if stay.presence != Presence::Off {
                    assert_eq!(stay.roster.count, count as u64, "{index}.{generation} counts the members of {room}");
                }
                if stay.presence == Presence::Full && is_small && !stay.roster.is_cut {
                    let known = stay.roster.names.as_ref().expect("a list of members");
                    let here = members.iter().map(|p| (p.member, p.away)).collect();
                    assert_eq!(*known, here, "{index}.{generation} in {room}");
                }
            }
        }
    }
}

/// The conclusions that one client may draw from its input.
pub struct Judge {
    me: MemberId,
    seen: usize,
    asked: usize,
    /// Requests without an answer.
    open: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    joins: BTreeMap<u64, (Start, Presence)>,
    /// The cursors it sent when it resumed, until each room is `joined`.
    pub returns: BTreeMap<RoomId, (Start, Presence)>,
    /// The presence it had requested in the rooms without a cursor.
    pub kept: BTreeMap<RoomId, Presence>,
    stays: BTreeMap<RoomId, Stay>,
}

struct Stay {
    presence: Presence,
    /// The first seq of this stay; `next` is the next seq to arrive.
    first: u64,
    next: u64,
    roster: Roster<MemberId>,
}

impl Judge {
    fn new(me: MemberId) -> Judge {
        Judge {
            me,
            seen: 0,
            asked: 0,
            open: BTreeSet::new(),
            answered: BTreeSet::new(),
            joins: BTreeMap::new(),
            returns: BTreeMap::new(),
            kept: BTreeMap::new(),
            stays: BTreeMap::new(),
        }
    }

    fn answer(&mut self, id: Option<u64>) -> Result<(), String> {
        let id = id.ok_or("an answer without an id")?;
        self.answered.insert(id);
        if self.open.remove(&id) { Ok(()) } else { Err("nothing was asked, or it was answered before".into()) }
    }

    fn stay(&mut self, room: &RoomId) -> Result<&mut Stay, String> {
        self.stays.get_mut(room).ok_or_else(|| "before `joined`, or after `left`".to_owned())
    }

    fn hear(
        &mut self,
        heard: &Heard,
        conn: ConnId,
        store: &Store,
        sent: &BTreeMap<String, Vec<(ConnId, u64)>>,
    ) -> Result<(), String> {
        let log = &store.log;
        match heard {
            Heard::Joined { id, room, from, recovered, members, head, .. } => {
                // In a room without a cursor, the client does not know its position.
                let is_named = id.is_some() || self.returns.contains_key(room);
                let (start, presence) = match id {
                    Some(join) => {
                        self.answer(*id)?;
                        self.joins.get(join).cloned().ok_or("no join")?
                    }
                    None => {
                        let presence = self.kept.get(room).copied().unwrap_or(Presence::Full);
                        let kept = (Start::After { seq: Seq(from - 1), epoch: None }, presence);
                        self.returns.remove(room).unwrap_or(kept)
                    }
                };
                let begin = match start {
                    Start::Now => Begin::Now,
                    Start::Last(count) => Begin::Last(count.into()),
                    Start::After { seq, epoch } if epoch.as_deref().is_none_or(|e| e == "k3f9") => Begin::After(seq.0),
                    Start::After { .. } => Begin::AfterOther,
                };
                if is_named {
                    begin.judge(*head, *from, *recovered, Some(log.oldest(room)))?;
                }
                if *head > log.head(room) || *from > head + 1 {
                    return Err("that is beyond the log".into());
                }
                let wanted = match presence {
                    Presence::Off => Wanted::Nothing,
                    Presence::Count => Wanted::Count,
                    Presence::Full => Wanted::Names,
                };
                let roster = Roster::new(wanted, *members as u64);
                let stay = Stay { presence, first: *from, next: *from, roster };
                if self.stays.insert(room.clone(), stay).is_some() {
                    return Err("joined twice".into());
                }
            }
            Heard::Left { id, room } => {
                id.map_or(Ok(()), |_| self.answer(*id))?;
                self.kept.remove(room);
                self.returns.remove(room);
                self.stays.remove(room);
            }
            Heard::Ack { id, .. } => self.answer(*id)?,
            Heard::Refused { id, .. } => self.answer(*id)?,
            Heard::Message(message) => {
                judge::message(&mut self.stay(&message.room)?.next, message.seq.0)?;
                if log.message(&message.room, message.seq.0) != Some(message) {
                    return Err("that is not what the log holds".into());
                }
                if message.author.member == Some(self.me) {
                    let ids = sent.get(message.body.as_str()).ok_or("nobody sent that")?;
                    // The ack of a message that it sent over an earlier socket went there.
                    let is_told = ids.iter().any(|(by, id)| *by != conn || self.answered.contains(id));
                    if !is_told {
                        return Err("its ack has to come first".into());
                    }
                }
            }
            Heard::Gap { room, after, from } => {
                judge::gap(&mut self.stay(room)?.next, *after, *from, Some(log.oldest(room)))?;
            }
            Heard::Signal { room, from, .. } => {
                let me = self.me;
                self.stay(room)?;
                if from.member == Some(me) {
                    return Err("its own".into());
                }
            }
            Heard::Lagging { room, .. } => drop(self.stay(room)?),
            Heard::Members { room, count, members, more } => {
                let list = members.iter().map(|present| (present.member, present.away)).collect();
                self.stay(room)?.roster.list(list, *count as u64, *more)?;
            }
            Heard::Presence { room, count, events } => {
                let change = |event: &PresenceEvent| {
                    let change = match event.kind {
                        PresenceKind::Join => Change::Join,
                        PresenceKind::Leave => Change::Leave,
                        PresenceKind::Away => Change::Away,
                        PresenceKind::Back => Change::Back,
                    };
                    (change, event.member)
                };
                self.stay(room)?.roster.changes(events.iter().map(change).collect(), *count as u64)?;
            }
            Heard::Page { id, .. } => self.answer(*id)?,
        }
        Ok(())
    }
}
