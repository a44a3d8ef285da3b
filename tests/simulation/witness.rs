//! A record of the server as seen from outside: its reads and writes, the store's answers, and the faults that hit it.
//! Every refusal and every close needs a reason in this record; without one it is a violation.

use std::collections::{BTreeMap, BTreeSet};

use racerd::crypto::{Token, TokenSealer};
use racerd::store::{Found, NO_ID, Outcome, Page, Purpose, ReadFailed, StoreEvent, StoreRequest, Ticket};
use racerd::testing::nonces;
use racerd::types::{ConnId, RoomId, SessionId};

use super::agenda::Micros;
use super::ends::Ends;
use super::limits::Limits;
use super::making::Makers;
use super::network::Links;

#[derive(Default)]
pub struct Witness {
    /// The present server's monotonic clock, as of its last turn, in milliseconds.
    pub mono: u64,
    /// Its running seconds, as of the same turn.
    pub running: u64,
    running_before: u64,
    /// The server was told to stop.
    pub is_stopping: bool,
    /// The links of its connections.
    links: BTreeMap<(u32, u32), usize>,
    /// Requests that the store failed, by link and number; requests over HTTP have no number.
    failed: BTreeSet<(usize, Option<u64>)>,
    /// When a read for a join or a catch-up last failed, by room.
    unread: BTreeMap<RoomId, Micros>,
    /// The same times by the server's clock.
    unread_mono: BTreeMap<RoomId, u64>,
    /// The requests that the store has not answered.
    asked: AtStore,
    /// The number of reads that the store may have at a time, as of its last answer to one: only an answer lets more
    /// reads follow, even if the limit is higher by now.
    reads_allowed: usize,
    /// Links that were accepted in excess.
    excess: BTreeSet<usize>,
    /// When each link was first seen to be closed by the server.
    closed: BTreeMap<usize, Micros>,
    /// The store answers each request once, so that what it has not answered can be counted.
    pub answers_once: bool,
    /// Bytes of bodies that the server counts as waiting for the store, and the limit for them.
    pub waiting_bytes: (usize, usize),
    /// Bytes of the message that is the first to wait until the store has room for it, as the server says; 0 if none
    /// does.
    pub held: usize,
    /// The last seq of each room that a commit told the server.
    heads: BTreeMap<RoomId, u64>,
    /// The last answer of the store about each session, and its time.
    claims: BTreeMap<SessionId, (Micros, Kept)>,
    /// When a claim last found a session, or could not look: whoever made it may have brought the session back.
    found: BTreeMap<SessionId, Micros>,
    /// Rows that the store handed out, until their session is here or parked again.
    owed: Vec<SessionId>,
    sealer: Option<TokenSealer>,
    /// The tokens that were sent to this server, by session.
    sent: BTreeMap<SessionId, Vec<Sent>>,
    /// Links whose queue was full when the server closed them as too slow, and the links that it looked at after the
    /// last turn.
    too_slow: BTreeSet<usize>,
    backed_up: BTreeSet<usize>,
    /// Links that the server closed for want of memory.
    no_memory: BTreeSet<usize>,
    /// Links that are not read, since their peers were over a rate.
    waits: BTreeSet<usize>,
    /// The highest generation that the present server has answered.
    answered: BTreeMap<SessionId, u32>,
    pub makers: Makers,
}

/// The state of a connection's queue.
pub enum Queue {
    /// Bytes wait that the socket did not take.
    Waits,
    /// The connection is being closed as too slow.
    TooSlow,
}

/// Requests that the store has not answered.
#[derive(Default)]
struct AtStore {
    /// Requests of sockets and of HTTP, by link.
    links: BTreeMap<usize, usize>,
    /// Appends and the hub's own reads, by room.
    rooms: BTreeMap<RoomId, usize>,
    reads: usize,
}

/// The store's answer about a session that a client wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The store has a row, with this generation.
    Row(u32),
    Nothing,
    /// The store could not look.
    Unknown,
}

/// A token of this generation, sent over a link behind `behind` bytes.
struct Sent {
    generation: u32,
    link: usize,
    behind: u64,
}

/// A token on its way to the server.
#[derive(Clone, Debug)]
pub struct Presented {
    /// `None` if the token is of another log.
    pub token: Option<Token>,
    pub at: Micros,
    /// The server's running seconds when it was sent.
    running: u64,
}

impl Witness {
    /// Notes that a server began on a log with this key, on which servers had run for `running` seconds.
    pub fn start(&mut self, token_key: &[u8; 32], running: u64, answers_once: bool, limits: &Limits) {
        *self = Witness {
            answers_once,
            reads_allowed: limits.reads_in_flight,
            running,
            running_before: running,
            sealer: Some(TokenSealer::new(token_key, nonces(0))),
            // A client may hear of it once the next server runs.
            no_memory: std::mem::take(&mut self.no_memory),
            ..Witness::default()
        };
    }

    /// Notes that a turn begins.
    pub fn turns(&mut self, mono: u64) {
        self.mono = mono;
        self.running = self.running_before + mono / 1000;
    }

    /// Notes that other limits hold.
    pub fn reconfigures(&mut self, limits: &Limits) {
        self.reads_allowed = self.reads_allowed.min(limits.reads_in_flight);
    }

    /// Notes that the server closes a connection, or has begun to.
    pub fn closes(&mut self, conn: ConnId, now: Micros) {
        if let Some(link) = self.links.get(&(conn.index, conn.generation)) {
            self.closed.entry(*link).or_insert(now);
        }
    }

    /// Returns whether this connection was closed before, or the server had begun to.
    pub fn is_known_to_close(&self, conn: ConnId) -> bool {
        self.links.get(&(conn.index, conn.generation)).is_some_and(|link| self.closed.contains_key(link))
    }

    /// Returns when the server closed this link, or began to.
    pub fn closed_at(&self, link: usize) -> Option<Micros> {
        self.closed.get(&link).copied()
    }

    pub fn accepted(&mut self, conn: ConnId, link: usize, is_excess: bool) {
        self.links.insert((conn.index, conn.generation), link);
        if is_excess {
            self.excess.insert(link);
        }
    }

    /// Returns whether the link was accepted in excess of the connection limit.
    pub fn is_excess(&self, link: usize) -> bool {
        self.excess.contains(&link)
    }

    fn link(&self, ticket: &Ticket) -> Option<usize> {
        self.links.get(&(ticket.conn.index, ticket.conn.generation)).copied()
    }

    fn fails(&mut self, ticket: &Ticket) {
        if let Some(link) = self.link(ticket) {
            let has_id =
                ticket.tag != NO_ID && matches!(ticket.purpose, Purpose::Send | Purpose::Signal | Purpose::History);
            self.failed.insert((link, has_id.then_some(ticket.tag)));
        }
    }

    /// Notes the requests that the server sends to the store.
    pub fn asks(&mut self, requests: &[StoreRequest]) {
        for request in requests {
            match request {
                StoreRequest::Append(append) => self.count(&append.ticket, Some(&append.room), true),
                StoreRequest::Read(read) => {
                    self.asked.reads += 1;
                    let is_rooms_own = read.ticket.purpose == Purpose::Deliver;
                    self.count(&read.ticket, Some(&read.room).filter(|_| is_rooms_own), true);
                }
                StoreRequest::Claim(claim) => self.count(&claim.ticket, None, true),
                // The closing frame waits for the answer.
                StoreRequest::Mark(mark) => mark.asker.iter().for_each(|asker| self.count(asker, None, true)),
                StoreRequest::Seek(seek) => self.count(&seek.ticket, None, true),
                // What is asked of the room waits for the answer.
                StoreRequest::Remove(room) => *self.asked.rooms.entry(room.clone()).or_default() += 1,
                StoreRequest::Park(_) | StoreRequest::Use(_) => {}
            }
        }
    }

    fn count(&mut self, ticket: &Ticket, room: Option<&RoomId>, is_asked: bool) {
        let step = |count: &mut usize| *count = if is_asked { *count + 1 } else { count.saturating_sub(1) };
        if let Some(link) = self.link(ticket) {
            step(self.asked.links.entry(link).or_default());
        }
        if let Some(room) = room {
            step(self.asked.rooms.entry(room.clone()).or_default());
        }
    }

    fn settles(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Appended(list) => {
                for appended in list {
                    self.count(&appended.ticket, Some(&appended.room), false);
                    if let Outcome::Stored(message) = &appended.outcome {
                        let head = self.heads.entry(message.room.clone()).or_default();
                        *head = message.seq.0.max(*head);
                    }
                }
            }
            StoreEvent::Page(Page { ticket, room, .. }) | StoreEvent::ReadFailed(ReadFailed { ticket, room, .. }) => {
                self.asked.reads = self.asked.reads.saturating_sub(1);
                self.count(ticket, Some(room).filter(|_| ticket.purpose == Purpose::Deliver), false);
            }
            StoreEvent::Claimed(claimed) => self.count(&claimed.ticket, None, false),
            StoreEvent::ClaimFailed { ticket, .. } => self.count(ticket, None, false),
            StoreEvent::Sought(sought) => self.count(&sought.ticket, None, false),
            StoreEvent::Marked(asker) => self.count(asker, None, false),
            StoreEvent::Removed(removed) => {
                let count = self.asked.rooms.entry(removed.room.clone()).or_default();
                *count = count.saturating_sub(1);
                if removed.is_gone {
                    self.heads.remove(&removed.room);
                }
            }
            _ => {}
        }
    }

    /// Returns the number of requests of this link that the store has not answered.
    pub fn at_store(&self, link: usize) -> usize {
        self.asked.links.get(&link).copied().unwrap_or_default()
    }

    pub fn is_room_at_store(&self, room: &RoomId) -> bool {
        self.asked.rooms.get(room).is_some_and(|count| *count > 0)
    }

    /// Returns whether further reads must wait until one is answered.
    pub fn reads_are_full(&self) -> bool {
        self.asked.reads >= self.reads_allowed
    }

    /// Returns whether a message of this client may have to wait for a place at the store: there is no room for the
    /// longest, or for one that is there first, or something of the client is there, so that its share may be used up.
    pub fn may_have_no_place(&self, client: usize, longest: usize, links: &Links) -> bool {
        let (bytes, bound) = self.waiting_bytes;
        let is_its = |(link, count): (&usize, &usize)| *count > 0 && links.get(*link).client == client;
        bytes > 0 && (bytes + longest.max(self.held) > bound || self.asked.links.iter().any(is_its))
    }

    pub fn head(&self, room: &RoomId) -> u64 {
        self.heads.get(room).copied().unwrap_or_default()
    }

    /// Returns whether a read of the room's own failed within the last `time` milliseconds.
    pub fn failed_within(&self, room: &RoomId, time: u64) -> bool {
        self.unread_mono.get(room).is_some_and(|at| self.mono <= at + time)
    }

    /// Notes that an answer of the store reaches the server.
    pub fn answer(&mut self, event: &StoreEvent, now: Micros, limits: &Limits, links: &Links) {
        if matches!(event, StoreEvent::Page(_) | StoreEvent::ReadFailed(_)) {
            self.reads_allowed = limits.reads_in_flight;
        }
        self.settles(event);
        match event {
            StoreEvent::Appended(list) => {
                for appended in list {
                    if matches!(appended.outcome, Outcome::Unavailable | Outcome::Full | Outcome::OverShare) {
                        self.fails(&appended.ticket);
                    }
                    if let Some(link) = self.link(&appended.ticket) {
                        let who = (links.get(link).client, link);
                        self.makers.answered(who, appended, limits.making, self.mono);
                    }
                }
            }
            StoreEvent::ReadFailed(failed) if failed.ticket.purpose == Purpose::Deliver => {
                self.unread.insert(failed.room.clone(), now);
                self.unread_mono.insert(failed.room.clone(), self.mono);
            }
            StoreEvent::ReadFailed(failed) => self.fails(&failed.ticket),
            StoreEvent::Sought(sought) if matches!(sought.outcome, Found::Unknown) => self.fails(&sought.ticket),
            StoreEvent::Claimed(claimed) => {
                let kept = claimed.parked.as_ref().map_or(Kept::Nothing, |parked| Kept::Row(parked.generation));
                self.claims.insert(claimed.session, (now, kept));
                if claimed.parked.is_some() {
                    self.found.insert(claimed.session, now);
                    self.owed.push(claimed.session);
                }
            }
            StoreEvent::ClaimFailed { session, .. } => {
                self.claims.insert(*session, (now, Kept::Unknown));
                self.found.insert(*session, now);
            }
            _ => {}
        }
    }

    /// Notes that the server parks a session.
    pub fn parks(&mut self, session: SessionId) {
        self.owed.retain(|owed| *owed != session);
    }

    /// Checks after a turn that each session that the store handed out is here or was given back.
    pub fn check_owed(&mut self, is_here: impl Fn(SessionId) -> bool) -> Result<(), String> {
        match self.owed.drain(..).find(|session| !is_here(*session)) {
            None => Ok(()),
            Some(session) => Err(format!("session {:02x?} was kept, and is lost", &session.0[..4])),
        }
    }

    /// Notes after a turn which links are not read, since their peers were over a rate.
    pub fn looks_at_waits(&mut self, list: impl Iterator<Item = ConnId>) {
        self.waits = list.filter_map(|conn| self.links.get(&(conn.index, conn.generation)).copied()).collect();
    }

    /// Returns whether the server does not read this link for a moment, since its peer was over a rate.
    pub fn waits(&self, link: usize) -> bool {
        self.waits.contains(&link)
    }

    /// Notes after a turn which links have a non-empty queue or have just been closed as too slow.
    pub fn looks_at_queues(&mut self, list: impl Iterator<Item = (ConnId, Queue)>) {
        let before = std::mem::take(&mut self.backed_up);
        for (conn, queue) in list {
            let Some(link) = self.links.get(&(conn.index, conn.generation)).copied() else { continue };
            match queue {
                Queue::Waits => drop(self.backed_up.insert(link)),
                Queue::TooSlow if before.contains(&link) => drop(self.too_slow.insert(link)),
                Queue::TooSlow => {}
            }
        }
    }

    /// Returns whether the server closed this link as too slow after a turn that left data in its queue.
    pub fn was_too_slow(&self, link: usize) -> bool {
        self.too_slow.contains(&link)
    }

    /// Notes that the server closes a connection for want of memory. Returns false if it was known.
    pub fn closes_for_memory(&mut self, conn: ConnId) -> bool {
        self.links.get(&(conn.index, conn.generation)).is_some_and(|link| self.no_memory.insert(*link))
    }

    /// Returns whether the server closed this link for want of memory.
    pub fn had_no_memory(&self, link: usize) -> bool {
        self.no_memory.contains(&link)
    }

    /// Returns whether the store failed this request.
    pub fn has_failed(&self, link: usize, id: Option<u64>) -> bool {
        self.failed.contains(&(link, id))
    }

    /// Returns whether a read of this room's own has failed since then.
    pub fn was_unread(&self, room: &RoomId, since: Micros) -> bool {
        self.unread.get(room).is_some_and(|at| *at >= since)
    }

    // Tokens.

    pub fn open(&self, token: &str) -> Option<Token> {
        self.sealer.as_ref()?.open(token)
    }

    /// Records that a client sends this token over a link on which it has sent `behind` bytes so far.
    pub fn presents(&mut self, token: &str, (link, behind): (usize, u64), now: Micros) -> Presented {
        let token = self.open(token);
        if let Some(token) = &token {
            let sent = Sent { generation: token.claim.generation, link, behind };
            self.sent.entry(token.claim.session).or_default().push(sent);
        }
        Presented { token, at: now, running: self.running }
    }

    fn kept(&self, presented: &Presented, session: SessionId) -> Option<Kept> {
        self.claims.get(&session).filter(|(at, _)| *at >= presented.at).map(|(_, kept)| *kept)
    }

    /// Judges the refusal of a token. With `is_private`, nobody could read it on its way.
    pub fn may_refuse(
        &self,
        presented: &Presented,
        is_private: bool,
        park_for: u64,
        links: &Links,
        ends: &Ends,
    ) -> Result<(), String> {
        let Some(token) = &presented.token else { return Ok(()) };
        let Token { claim, issued, .. } = token;
        let generation = claim.generation;
        if ends.bars(claim.session, generation) {
            return Ok(());
        }
        let age = self.running.saturating_sub(*issued);
        let kept = self.kept(presented, claim.session);
        let is_over = age > park_for && kept == Some(Kept::Nothing);
        // A later token has reached this server, or an earlier server that left a record of it.
        let has_come = |sent: &&Sent| sent.generation > generation && links.get(sent.link).read > sent.behind;
        let later = self.sent.get(&claim.session).and_then(|list| list.iter().find(has_come));
        let is_outdated = later.is_some() || matches!(kept, Some(Kept::Row(row)) if row > generation);
        if is_outdated || (claim.private && !is_private) || is_over {
            return Ok(());
        }
        Err(format!("a token of generation {generation} was refused; no later one has come, and it is {age} s old"))
    }

    /// Judges the acceptance of a token.
    pub fn may_accept(&mut self, presented: &Presented, is_private: bool, park_for: u64) -> Result<(), String> {
        let Some(token) = &presented.token else { return Err("a token of another log was taken".into()) };
        let Token { claim, issued, .. } = token;
        let (session, generation) = (claim.session, claim.generation);
        let kept = self.kept(presented, session);
        if claim.private && !is_private {
            return Err("a token of a private session was taken in the clear".into());
        }
        let answered = self.answered.get(&session).copied().unwrap_or_default();
        let is_outdated = match kept {
            Some(Kept::Row(row)) => generation < row,
            Some(Kept::Nothing | Kept::Unknown) => false,
            None => generation < answered,
        };
        if is_outdated {
            return Err(format!(
                "an outdated token was taken: of generation {generation}; {kept:?}, answered {answered}"
            ));
        }
        let age = presented.running.saturating_sub(*issued);
        // Another claim of the session, over a link that the client has given up, may have come first.
        let is_back = self.found.get(&session).is_some_and(|at| *at >= presented.at);
        if kept == Some(Kept::Nothing) && !is_back && age > park_for {
            return Err(format!("a token {age} s old was taken; nothing was kept, and it is good for {park_for} s"));
        }
        self.answered.insert(session, answered.max(generation));
        Ok(())
    }
}
