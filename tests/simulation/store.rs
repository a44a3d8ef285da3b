//! The simulated store: the real in-memory log, or the real database, behind a disk that is slow, full, failing or
//! unsure, whose commits and reads overtake each other, and on which a crash leaves exactly what the durability
//! guarantees. It shares no code with the fake stores of the unit tests (src/testing): it plans everything on the
//! virtual clock, and keeps what a disk would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use racerd::store::{
    Appended, Found, Mark, MemoryLog, Outage, Outcome, Read, ReadFailed, Removed, Seek, Sought, Standing, StoreEvent,
    StoreRequest, Why,
};
use racerd::testing::Random;
use racerd::types::{Durability, Epoch, SessionId, WallMillis};

use super::agenda::{Event, Micros, SECOND};
use super::database::Database;
use super::faults::Mix;
use super::limits::Limits;
use super::log::Log;
use super::model::Room;
use super::retention::Retention;
use super::scene::{Checked, Scene, violation};

/// The state that outlives the server.
pub struct Disk {
    pub(super) log: Log,
    pub epoch: String,
    pub token_key: [u8; 32],
    /// Seconds that servers have run on the disk, by its own count.
    pub running: u64,
}

pub struct Store {
    pub disk: Disk,
    /// The state of an in-memory log that a power cut leaves, where a commit is not synced at once.
    synced: Option<Box<MemoryLog>>,
    /// The judge of pruning, and the state of it that a power cut restores.
    pub(super) retention: Retention,
    pub(super) saved: Retention,
    /// When the database's writer will have waited long enough.
    pub(super) upkeep_at: Option<Micros>,
    /// How often it had read its clock.
    pub(super) looks: u64,
    /// The database accepts no appends, since it has reached its size limit.
    pub(super) is_ailing: bool,
    waiting: VecDeque<StoreRequest>,
    /// Parkings and marks that could not be stored yet.
    late: Vec<StoreRequest>,
    /// The marks of the transaction that is being decided.
    marks: Vec<Mark>,
    /// When the next transaction is decided.
    commit_at: Option<Micros>,
    /// Only sessions that could not be parked wait for the next transaction.
    is_probing: bool,
    reads: BTreeMap<u64, Read>,
    /// Answers on their way to the loop, each with whether this is its first delivery.
    answers: BTreeMap<u64, (StoreEvent, bool)>,
    /// Answers that have reached the loop.
    arrived: Vec<(StoreEvent, bool)>,
    next: u64,
    /// When the last answers of the writer and of the reader arrive: each keeps its own order.
    writer_until: Micros,
    reader_until: Micros,
    is_full: bool,
    is_failing: bool,
    /// Unanswered appends, and the bytes of their bodies.
    pub appends: usize,
    pub append_bytes: usize,
    /// Unanswered reads.
    pub reads_open: usize,
    pub most_reads_open: usize,
    since: Micros,
    /// The wall times of all turns of the server.
    shown: BTreeSet<WallMillis>,
}

fn new_log(limits: &Limits, epoch: &str) -> Log {
    let mut log = MemoryLog::new(Epoch(epoch.into()), limits.room_bytes, limits.total_bytes);
    log.set_parked_max(limits.parked_max as u64);
    Log::Memory(Box::new(log))
}

impl Store {
    pub fn new(mix: &Mix, random: &mut Random) -> Store {
        let Mix { limits, keeping, .. } = mix;
        let epoch = format!("{:016x}", random.next_u64());
        let token_key = random.array();
        let disk = if keeping.in_database {
            let database = Database::new(keeping.options(limits, random));
            Disk { log: Log::Database(Box::new(database)), epoch: String::new(), token_key, running: 0 }
        } else {
            Disk { log: new_log(limits, &epoch), epoch, token_key, running: 0 }
        };
        Store::on(disk, 0)
    }

    fn on(disk: Disk, now: Micros) -> Store {
        let synced = if let Log::Memory(log) = &disk.log { Some(log.clone()) } else { None };
        Store {
            disk,
            synced,
            retention: Retention::default(),
            saved: Retention::default(),
            upkeep_at: None,
            looks: 0,
            is_ailing: false,
            waiting: VecDeque::new(),
            late: Vec::new(),
            marks: Vec::new(),
            commit_at: None,
            is_probing: false,
            reads: BTreeMap::new(),
            answers: BTreeMap::new(),
            arrived: Vec::new(),
            next: 0,
            writer_until: 0,
            reader_until: 0,
            is_full: false,
            is_failing: false,
            appends: 0,
            append_bytes: 0,
            reads_open: 0,
            most_reads_open: 0,
            since: now,
            shown: BTreeSet::new(),
        }
    }

    pub fn is_inline(scene: &Scene) -> bool {
        scene.mix.limits.durability == Durability::Memory && scene.mix.store.inline
    }

    // The loop's side.

    pub fn submit(&mut self, requests: &mut Vec<StoreRequest>, scene: &mut Scene) -> Checked {
        self.shown.insert(scene.clock.read(scene.now).wall);
        for request in requests.iter() {
            match request {
                StoreRequest::Append(append) => {
                    // The append may have waited until its sender was in the room.
                    if !self.shown.contains(&append.at) {
                        let text = format!("a message of {} is of {:?}, which no clock showed", append.room, append.at);
                        return violation("dates: a stamp is the clock's, but for small steps back", text);
                    }
                    self.appends += 1;
                    self.append_bytes += append.body.len();
                }
                StoreRequest::Read(_) => self.reads_open += 1,
                StoreRequest::Park(parked) => {
                    scene.tally.parked += 1;
                    scene.witness.parks(parked.session);
                }
                StoreRequest::Mark(mark) => scene.ends.told(mark.session, mark.standing),
                StoreRequest::Claim(_) | StoreRequest::Use(_) | StoreRequest::Remove(_) => {}
                StoreRequest::Seek(seek) => {
                    self.appends += 1;
                    self.append_bytes += seek.body.len();
                }
            }
        }
        self.most_reads_open = self.most_reads_open.max(self.reads_open);
        if Store::is_inline(scene) {
            let mut events = Vec::new();
            let mut walls = walls(requests);
            self.marks = marks(requests);
            self.disk.log.answer(scene.clock.read(scene.now), requests, &mut events);
            self.note_marks(scene);
            for event in events {
                note(&event, &mut walls, scene)?;
                self.arrived.push((event, true));
            }
            return self.look(scene);
        }
        for request in requests.drain(..) {
            match request {
                StoreRequest::Read(read) => {
                    self.next += 1;
                    self.reads.insert(self.next, read);
                    scene.later(scene.mix.store.read, Event::Read { number: self.next });
                }
                write => self.waiting.push_back(write),
            }
        }
        self.plan_commit(scene);
        Ok(())
    }

    fn plan_commit(&mut self, scene: &mut Scene) {
        let has_new = !self.waiting.is_empty();
        let is_planned = self.commit_at.is_some() && !(self.is_probing && has_new);
        if !is_planned && (has_new || !self.late.is_empty()) {
            self.is_probing = !has_new;
            // A failed parking is tried again with the next write, or after a while.
            let bounds = if self.is_probing { (SECOND, 2 * SECOND) } else { scene.mix.store.commit };
            let time = scene.now + scene.random.within(bounds);
            self.commit_at = Some(time);
            scene.agenda.at(time, Event::Commit);
        }
    }

    /// Returns whether the store decides now. A decision that was planned for an earlier server is not due.
    pub fn is_due(&self, now: Micros) -> bool {
        self.commit_at == Some(now)
    }

    /// Returns whether answers wait for the loop to take them.
    pub fn has_answers(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub fn take(&mut self) -> Vec<StoreEvent> {
        let arrived = std::mem::take(&mut self.arrived);
        for (event, _) in arrived.iter().filter(|(_, is_first)| *is_first) {
            match event {
                StoreEvent::Appended(list) => {
                    self.appends -= list.len();
                    self.append_bytes -= list.iter().map(|appended| appended.bytes).sum::<usize>();
                }
                StoreEvent::Sought(sought) => {
                    self.appends -= 1;
                    self.append_bytes -= sought.body.len();
                }
                StoreEvent::Page(_) | StoreEvent::ReadFailed(_) => self.reads_open -= 1,
                _ => {}
            }
        }
        arrived.into_iter().map(|(event, _)| event).collect()
    }

    // The disk's side.

    /// Decides one transaction, which takes all of the waiting requests or some of them.
    pub fn commit(&mut self, scene: &mut Scene) -> Checked {
        self.commit_at = None;
        let faults = scene.mix.store;
        let mut batch = std::mem::take(&mut self.late);
        let count = self.waiting.len().min(faults.batch);
        batch.extend(self.waiting.drain(..count));
        if self.is_full || scene.random.chance(faults.fails) {
            scene.tally.commits_failed += 1;
            scene.trace.line(scene.now, "store", || format!("{} writes fail", batch.len()));
            // A full disk may mean that the database has reached its size limit, which is known before anything is
            // stored.
            let outcome = if self.is_full && scene.random.coin() { Outcome::Full } else { Outcome::Unavailable };
            self.refuse(batch, &outcome, scene);
        } else {
            let is_unsure = scene.random.chance(faults.unsure);
            self.write(batch, is_unsure, scene)?;
        }
        self.plan_commit(scene);
        Ok(())
    }

    fn write(&mut self, mut batch: Vec<StoreRequest>, is_unsure: bool, scene: &mut Scene) -> Checked {
        scene.tally.commits += 1;
        let mut events = Vec::new();
        self.marks = marks(&batch);
        if is_unsure {
            scene.tally.commits_unsure += 1;
            // The answer to a claim holds: the row is still there.
            let (claims, writes) = batch.into_iter().partition(|write| matches!(write, StoreRequest::Claim(_)));
            self.refuse(claims, &Outcome::Unavailable, scene);
            batch = writes;
        }
        let mut walls = walls(&batch);
        self.count_running(scene);
        self.disk.log.answer(scene.clock.read(scene.now), &mut batch, &mut events);
        self.note_marks(scene);
        for event in &events {
            note(event, &mut walls, scene)?;
        }
        self.note_health(&events);
        self.look(scene)?;
        self.plan_upkeep(scene);
        if scene.mix.limits.durability == Durability::Full {
            // Nothing is undone later, so no earlier state is needed.
        } else if scene.random.below(8) == 0 {
            match &self.disk.log {
                Log::Memory(log) => self.synced = Some(log.clone()),
                Log::Database(database) => {
                    database.save();
                    self.saved = self.retention.clone();
                }
            }
        }
        for event in events {
            match event {
                StoreEvent::Appended(list) if is_unsure => {
                    let unavailable = |appended| Appended { era: None, outcome: Outcome::Unavailable, ..appended };
                    self.answer_write(StoreEvent::Appended(list.into_iter().map(unavailable).collect()), scene);
                }
                StoreEvent::Removed(removed) if is_unsure => {
                    self.answer_write(StoreEvent::Removed(Removed { is_gone: false, ..removed }), scene);
                }
                event => self.answer_write(event, scene),
            }
        }
        if std::mem::replace(&mut self.is_failing, is_unsure) != is_unsure {
            let unsure = Outage { why: Why::Unknown, detail: "the disk is not sure".to_owned() };
            let outcome = if is_unsure { Err(unsure) } else { Ok(()) };
            self.answer_write(StoreEvent::Available(outcome), scene);
        }
        Ok(())
    }

    /// Notes what has been recorded of sessions.
    fn note_marks(&mut self, scene: &mut Scene) {
        for mark in std::mem::take(&mut self.marks) {
            if let Some(standing) = self.disk.log.recorded(mark.session) {
                scene.ends.recorded(mark.session, standing, scene.witness.running);
            }
        }
    }

    /// Returns what is known of a session's tokens, recorded or not.
    fn known(&self, session: SessionId) -> Option<Standing> {
        let late = self.late.iter().filter_map(|late| match late {
            StoreRequest::Mark(mark) => Some(mark),
            _ => None,
        });
        let marks = late.chain(&self.marks).filter(|mark| mark.session == session).map(|mark| mark.standing);
        marks.max().max(self.disk.log.recorded(session))
    }

    fn refuse(&mut self, batch: Vec<StoreRequest>, outcome: &Outcome, scene: &mut Scene) {
        let mut appended = Vec::new();
        let is_full = *outcome == Outcome::Full;
        for write in batch {
            scene.tally.refused_full += u64::from(is_full && matches!(write, StoreRequest::Append(_)));
            match write {
                StoreRequest::Append(append) => appended.push(Appended {
                    ticket: append.ticket,
                    room: append.room,
                    bytes: append.body.len(),
                    era: None,
                    outcome: outcome.clone(),
                }),
                StoreRequest::Claim(claim) => {
                    scene.tally.claims_failed += 1;
                    let (ticket, session) = (claim.ticket, claim.session);
                    let failed = StoreEvent::ClaimFailed { ticket, session, standing: self.known(session) };
                    self.answer_write(failed, scene);
                }
                StoreRequest::Seek(Seek { ticket, room, body, .. }) => {
                    let sought = Sought { ticket, room, body, outcome: Found::Unknown };
                    self.answer_write(StoreEvent::Sought(sought), scene);
                }
                StoreRequest::Remove(room) => {
                    self.answer_write(StoreEvent::Removed(Removed { room, is_gone: false }), scene);
                }
                StoreRequest::Use(_) => {}
                StoreRequest::Mark(mark) => {
                    if let Some(asker) = mark.asker {
                        self.answer_write(StoreEvent::Marked(asker), scene);
                    }
                    self.late.push(StoreRequest::Mark(Mark { asker: None, ..mark }));
                }
                park => self.late.push(park),
            }
        }
        if !appended.is_empty() {
            self.answer_write(StoreEvent::Appended(appended), scene);
        }
        if !std::mem::replace(&mut self.is_failing, true) {
            self.answer_write(
                StoreEvent::Available(Err(Outage { why: Why::Disk, detail: "the disk failed".to_owned() })),
                scene,
            );
        }
    }

    /// Carries out a read: it sees everything committed by now, whatever the loop has heard of that.
    pub fn read(&mut self, number: u64, scene: &mut Scene) -> Checked {
        let Some(read) = self.reads.remove(&number) else { return Ok(()) };
        scene.tally.reads += 1;
        let mut events = Vec::new();
        if scene.random.chance(scene.mix.store.read_fails) {
            scene.tally.reads_failed += 1;
            events.push(StoreEvent::ReadFailed(ReadFailed { ticket: read.ticket, room: read.room, why: Why::Disk }));
        } else {
            let upto = read.upto;
            self.disk.log.read(read, &mut events);
            match &events[..] {
                [StoreEvent::Page(page), ..] => scene.tally.reads_overtook += u64::from(page.head > upto),
                other => return violation("store: a page can be read", format!("{other:?}")),
            }
        }
        let time = scene.now + scene.random.within(scene.mix.store.answer);
        let time = if scene.mix.store.shuffles { time } else { time.max(self.reader_until) };
        self.reader_until = time;
        events.into_iter().for_each(|event| self.answer(event, time, scene));
        Ok(())
    }

    pub(super) fn answer_write(&mut self, event: StoreEvent, scene: &mut Scene) {
        let time = (scene.now + scene.random.within(scene.mix.store.answer)).max(self.writer_until);
        self.writer_until = time;
        self.answer(event, time, scene);
    }

    fn answer(&mut self, event: StoreEvent, time: Micros, scene: &mut Scene) {
        // The receiver counts the answers to appends, so each of those is delivered once.
        let repeats = matches!(event, StoreEvent::Page(_) | StoreEvent::ReadFailed(_) | StoreEvent::ClaimFailed { .. });
        let again = (repeats && scene.random.chance(scene.mix.store.repeats)).then(|| event.clone());
        self.put((event, true), time, scene);
        if let Some(event) = again {
            scene.tally.answers_repeated += 1;
            let time = time + scene.random.within((0, SECOND));
            self.put((event, false), time, scene);
        }
    }

    fn put(&mut self, answer: (StoreEvent, bool), time: Micros, scene: &mut Scene) {
        self.next += 1;
        self.answers.insert(self.next, answer);
        scene.agenda.at(time, Event::Answer { number: self.next });
    }

    /// Delivers an answer. Returns true if the loop is to be woken.
    pub fn deliver(&mut self, number: u64) -> bool {
        let Some(answer) = self.answers.remove(&number) else { return false };
        self.arrived.push(answer);
        true
    }

    pub fn is_full(&self) -> bool {
        self.is_full
    }

    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Returns whether everything is decided and told.
    pub fn is_idle(&self) -> bool {
        let nothing_asked = self.waiting.is_empty() && self.late.is_empty() && self.reads.is_empty();
        nothing_asked && self.answers.is_empty() && self.arrived.is_empty()
    }

    // The ends of the server.

    /// Commits the waiting requests, as a graceful shutdown does.
    pub fn finish(&mut self, scene: &mut Scene) -> Checked {
        let mut batch = std::mem::take(&mut self.late);
        batch.extend(self.waiting.drain(..));
        if self.is_full {
            return Ok(());
        }
        let mut events = Vec::new();
        let mut walls = walls(&batch);
        self.count_running(scene);
        self.marks = marks(&batch);
        self.disk.log.answer(scene.clock.read(scene.now), &mut batch, &mut events);
        self.note_marks(scene);
        events.iter().try_for_each(|event| note(event, &mut walls, scene))?;
        self.look(scene)
    }

    /// Reopens the log for the next server. `is_clean`: the last one ended cleanly; `with_power`: the machine kept
    /// running.
    pub fn reopen(mut self, is_clean: bool, with_power: bool, scene: &mut Scene) -> Checked<Store> {
        let limits = scene.mix.limits;
        let is_synced = limits.durability == Durability::Full || is_clean || with_power;
        if !is_synced || limits.durability == Durability::Memory {
            scene.ends.loses();
        }
        // Numbers of answers to the earlier server are not used again.
        let next = self.next;
        let mut disk = self.disk;
        if let Log::Database(database) = &mut disk.log {
            database.close(scene.clock.read(scene.now), is_clean, with_power)?;
            let is_lost = limits.durability == Durability::Normal && !is_clean && !with_power;
            if is_lost {
                // Seqs could be assigned again.
                disk.epoch = String::new();
                self.retention = self.saved;
            }
            return Ok(Store { next, retention: self.retention, ..Store::on(disk, scene.now) });
        }
        let ran = (scene.now - self.since) / SECOND;
        // After a crash the counter may lag by a minute.
        disk.running += if is_clean { ran } else { ran.saturating_sub(scene.random.within((0, 60))) };
        match (limits.durability, self.synced) {
            (Durability::Memory, _) => {
                let epoch = format!("{:016x}", scene.random.next_u64());
                let log = new_log(&limits, &epoch);
                disk = Disk { log, epoch, token_key: scene.random.array(), running: 0 };
            }
            (Durability::Normal, Some(synced)) if !is_clean && !with_power => {
                // Seqs could be assigned again.
                disk.epoch = format!("{:016x}", scene.random.next_u64());
                disk.log = Log::Memory(synced);
            }
            _ => {}
        }
        if let Log::Memory(log) = disk.log {
            // A database may have recorded some later than they were handed in.
            scene.ends.forgets(|session| log.standing(session));
            disk.log = Log::Memory(Box::new(log.reopened(Epoch(disk.epoch.as_str().into()))));
        }
        scene.tally.lost_commits += scene.model.reopened(&mut disk.log)?;
        Ok(Store { next, ..Store::on(disk, scene.now) })
    }
}

/// Returns the oldest seq that the log keeps of a room.
pub fn oldest(log: &mut Log, room: &Room) -> Option<u64> {
    log.page(&room.id, 0).map(|page| page.oldest.0)
}

/// Returns the arrival times of the messages to be stored, by the server's clock: they are answered in this order.
fn walls(requests: &[StoreRequest]) -> VecDeque<u64> {
    let wall = |request: &StoreRequest| match request {
        StoreRequest::Append(append) => Some(append.at.0),
        _ => None,
    };
    requests.iter().filter_map(wall).collect()
}

/// Returns what is to be recorded of sessions.
fn marks(requests: &[StoreRequest]) -> Vec<Mark> {
    let mark = |request: &StoreRequest| match request {
        StoreRequest::Mark(mark) => Some(*mark),
        _ => None,
    };
    requests.iter().filter_map(mark).collect()
}

/// Records a commit for the observers.
fn note(event: &StoreEvent, walls: &mut VecDeque<u64>, scene: &mut Scene) -> Checked {
    match event {
        StoreEvent::Appended(list) => {
            for appended in list {
                let wall = walls.pop_front().unwrap_or_default();
                if appended.outcome == Outcome::OverShare {
                    scene.tally.over_share += 1;
                    if scene.mix.keeping.lets_go() {
                        let text = format!("{} refuses a message though others may go for it", appended.room);
                        return violation("shares: who is over the share is refused only where nothing may go", text);
                    }
                }
                if appended.outcome == Outcome::NotMade {
                    scene.tally.not_made += 1;
                    let room = scene.model.room(appended.room.as_str()).map(|room| &scene.model.rooms[room]);
                    if room.is_some_and(|room| room.head() > 0) {
                        let text = format!("{} has messages, and refuses one that may make no room", appended.room);
                        return violation("rates: a room that has messages takes more", text);
                    }
                }
                if let Outcome::Stored(message) = &appended.outcome {
                    scene.trace.line(scene.now, "store", || {
                        format!("{} {} is {}", message.room, message.seq.0, super::model::short(message))
                    });
                    scene.tally.anew += u64::from(scene.model.stored(message, appended.era, wall)?);
                }
            }
        }
        StoreEvent::Claimed(claimed) => scene.tally.claimed += u64::from(claimed.parked.is_some()),
        StoreEvent::Removed(removed) if removed.is_gone => {
            scene.tally.removed += 1;
            scene.trace.line(scene.now, "store", || format!("{} is removed", removed.room));
            scene.model.removed(&removed.room)?;
        }
        _ => {}
    }
    Ok(())
}
