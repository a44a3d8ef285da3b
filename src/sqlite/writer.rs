//! The writer thread. It commits all pending writes in one transaction, answers after the commit, and tracks whether
//! the disk works. In between it does the upkeep in bounded pieces. An idle writer with nothing left to do waits
//! without a timeout.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::batch::{Batches, Decision, Write, roll_back};
use super::checkpoint::{Copier, Length};
use super::clock::Clock;
use super::damage::is_damage;
use super::dating::Dating;
use super::files::{Files, Identity};
use super::folding::Folding;
use super::late::Late;
use super::open::{self, WAL_BYTES};
use super::outcome::claimed;
use super::pace::Pace;
use super::pages::Pages;
use super::parked::Parking;
use super::prune::Prune;
use super::retention::Retention;
use super::schema;
use super::sealing::Sealing;
use super::shortage::Giving;
use super::unfolded::FoldLimits;
use super::worker::Answers;
use crate::store::Bounds;
use crate::store::{Mark, Outage, Parked, Removed, Standing, StoreEvent, Why};
use crate::types::{Digest, SessionId};

/// Maximum number of appends, parkings and claims in one transaction ...
const BATCH_WRITES: usize = 4_096;

/// ... and maximum size in bytes, not counting the last one.
const BATCH_BYTES: usize = 8 << 20;

/// Maximum rounds of deleting old messages to make space for one batch. A batch is no larger than what one round frees;
/// if it still does not fit, the log must not be emptied for it.
pub(super) const SPACE_TRIES: u32 = 3;

/// A command to the writer thread.
pub(super) enum Command {
    Write(Vec<Write>),
    /// Replaces the limits.
    Bound(Bounds),
    /// Records in the database that it is damaged, and in what way.
    Note(String),
    /// Records that a background check has read the whole database.
    Scrubbed,
    /// Commits everything submitted before, records a clean shutdown, and ends the thread.
    Finish,
}

/// The writer's intervals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Idle time after which the WAL is emptied. With a shorter one, each page of a slow conversation would be written
    /// twice.
    pub idle: Duration,
    /// Pause between two pieces of upkeep; at least four times as long as the last piece took, so that under load
    /// commits get most of the disk.
    pub pause: Duration,
    /// Minimum interval between two checks, before a batch, that the files are still the opened ones.
    pub look: Duration,
    /// Delay before the first retry while writing fails and nobody appends ...
    pub probe_first: Duration,
    /// ... which doubles with each retry, up to this.
    pub probe_last: Duration,
    /// Delay after the start before a background check begins, if one is due.
    pub scrub: Duration,
    /// Delay after a failed read before a background check starts over.
    pub retry: Duration,
}

impl Timing {
    pub const USUAL: Timing = Timing {
        idle: Duration::from_secs(10),
        pause: Duration::from_millis(100),
        look: Duration::from_secs(5),
        probe_first: Duration::from_secs(1),
        probe_last: Duration::from_secs(5),
        scrub: Duration::from_secs(10),
        retry: super::scrub::RETRY,
    };
}

/// Whether the writer can write.
pub(super) enum Health {
    Well,
    /// The last write failed; the next attempt is with the next batch, or after `retry`.
    Failing {
        retry: Duration,
        /// The reason reported last.
        why: Why,
        /// When it last failed.
        since: Instant,
    },
    /// The files are no longer the opened ones: nothing is written until a restart.
    Gone(String),
}

/// The initial state of the writer thread.
pub(super) struct WriterParts {
    pub conn: Connection,
    pub copier: Copier,
    pub files: Files,
    pub identity: Identity,
    pub timing: Timing,
    pub clock: Clock,
    pub bounds: Bounds,
    /// Maximum number of pages of the database.
    pub most_pages: i64,
    pub pages: Pages,
    pub fold_limits: FoldLimits,
    /// Set by either thread that finds damage: the shutdown is then not recorded as clean, so that the next start
    /// checks.
    pub damaged: Arc<AtomicBool>,
    /// Seconds that racerd had run on this log before this run.
    pub running_before: u64,
    /// Seals stored rows; `None` for a plain database.
    pub sealing: Option<Sealing>,
    /// Returns the digest of a stored body if it is encrypted.
    pub sealed_body: fn(&str) -> Option<Digest>,
}

impl WriterParts {
    /// Runs until [`Command::Finish`], and returns its outcome, or until all senders are gone; then no clean shutdown
    /// is recorded.
    pub fn run(self, commands: &Receiver<Command>, answers: Answers) -> Result<(), String> {
        let mut writer = WriterLoop::new(self, answers);
        loop {
            let mut finish = match writer.receive(commands) {
                Ok(command) => writer.accept(command),
                Err(RecvTimeoutError::Timeout) => {
                    writer.use_the_pause();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the log was not shut down cleanly".to_owned()),
            };
            loop {
                // Everything that has arrived meanwhile goes into the same transaction.
                while let Ok(command) = commands.try_recv() {
                    finish |= writer.accept(command);
                }
                if writer.waiting.is_empty() {
                    break;
                }
                if let Some(pause) = writer.pause_before_commit().filter(|_| !finish) {
                    // Not at the channel: each command would wake this thread. What is urgent unparks it.
                    park_timeout(pause);
                    continue;
                }
                writer.write_batch();
                writer.upkeep_if_due();
            }
            if finish {
                return writer.finish();
            }
        }
    }
}

/// The running writer.
pub(super) struct WriterLoop {
    pub parts: WriterParts,
    pub answers: Answers,
    pub batches: Batches,
    waiting: VecDeque<Write>,
    /// Sessions that could not be parked yet.
    pub late: Late<Parked>,
    /// What became of sessions, as far as it could not be recorded yet.
    pub late_marks: Late<Mark>,
    pub health: Health,
    started: Instant,
    /// When the files were last checked.
    checked: Instant,
    /// When the writer last did what may end a failure.
    pub looked_again: Instant,
    /// Whether the WAL may hold content that is not in the database file yet.
    pub untidy: bool,
    /// Idle time after which the WAL is emptied.
    pub idle: Duration,
    /// When the last command arrived, or emptying the WAL was last attempted.
    pub quiet_since: Instant,
    /// When the next piece of upkeep is due; `None` until something is written again.
    pub upkeep_due: Option<Instant>,
    /// The running seconds of the last sweep for old keys and sessions.
    pub swept: u64,
    /// When rooms were last proposed for removal, in running seconds.
    pub proposed: u64,
    /// Number of pages above which the WAL is made to start over.
    pub restart_past: i64,
    /// The length of the WAL when it was last measured.
    pub wal: Length,
    /// Size in bytes of the frames that commits may have added to it since.
    pub unmeasured: i64,
    pub folding: Folding,
    pace: Pace,
    pub prune: Prune,
    /// What gives way next while the database is full.
    pub giving: Giving,
    pub retention: Retention,
    pub dating: Dating,
    pub noted: Noted,
    /// Damage that the upkeep has told.
    pub told: BTreeSet<String>,
    /// Whether the operator was told that no further room is accepted.
    pub rooms_full: bool,
    /// Whether the operator was told that senders over their share are refused.
    pub shares_told: bool,
}

/// Whether damage was found, and recorded in the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// No damage was found.
    Nothing,
    /// It could not be recorded yet.
    Waiting(String),
    Written,
}

impl WriterLoop {
    /// Starts the writer.
    pub fn new(mut parts: WriterParts, answers: Answers) -> WriterLoop {
        let now = parts.clock.now();
        let sealing = parts.sealing.take();
        let mut writer = WriterLoop {
            idle: parts.timing.idle,
            restart_past: parts.pages.in_bytes(WAL_BYTES),
            wal: Length::Usual,
            unmeasured: 0,
            batches: Batches::new(Parking::new(parts.bounds.parked_max, parts.bounds.park_for), sealing),
            waiting: VecDeque::new(),
            late: Late::default(),
            late_marks: Late::default(),
            health: Health::Well,
            started: now,
            checked: now,
            looked_again: now,
            untidy: true,
            quiet_since: now,
            upkeep_due: Some(now),
            swept: 0,
            proposed: 0,
            folding: Folding::Waiting,
            pace: Pace::default(),
            prune: Prune::default(),
            giving: Giving::default(),
            retention: Retention::default(),
            dating: Dating::default(),
            noted: Noted::Nothing,
            told: BTreeSet::new(),
            rooms_full: false,
            shares_told: false,
            parts,
            answers,
        };
        writer.batches.grown.keep(writer.parts.bounds.keep_messages);
        writer.bound_rooms();
        // If it cannot be set, messages may take the pages of folds.
        let _ = open::set_most_pages(&writer.parts.conn, writer.pages_for_messages());
        writer.bound_space();
        // It may be left from a run that was killed while another program read.
        if Length::of(writer.parts.files.wal_bytes(), writer.max_bytes()) != Length::Usual {
            writer.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        }
        writer.measure_wal();
        // Read before anything is written that could carry a wrong time. A lasting failure is noticed at the next
        // append.
        let _ = writer.time_of_ages();
        writer
    }

    fn receive(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        match self.patience() {
            Some(pause) => commands.recv_timeout(pause),
            None => commands.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Returns how long to wait for a command before the next piece of upkeep; `None` means forever.
    pub fn patience(&self) -> Option<Duration> {
        let left = |due: Instant| due.saturating_duration_since(self.parts.clock.now());
        match &self.health {
            Health::Failing { retry, .. } => Some(*retry),
            Health::Well => {
                let tidy = self.untidy.then(|| left(self.quiet_since + self.idle));
                self.upkeep_due.map(left).into_iter().chain(tidy).chain(self.fold_due_in()).min()
            }
            Health::Gone(_) => None,
        }
    }

    /// Returns whether the writer has been idle long enough to empty the WAL.
    pub fn is_quiet(&self) -> bool {
        self.untidy && self.parts.clock.since(self.quiet_since) >= self.idle
    }

    /// Accepts a command. Returns whether it was the last one.
    pub fn accept(&mut self, command: Command) -> bool {
        self.quiet_since = self.parts.clock.now();
        match command {
            Command::Write(writes) => self.waiting.extend(writes),
            Command::Bound(bounds) => self.bound(bounds),
            Command::Note(what) => self.note(what),
            Command::Scrubbed => self.scrubbed(),
            Command::Finish => return true,
        }
        false
    }

    /// Commits and answers all pending writes.
    pub fn write_all(&mut self) {
        while !self.waiting.is_empty() {
            self.write_batch();
            self.upkeep_if_due();
        }
    }

    /// Returns how long the next commit is to wait for more to share it. A claim or a search does not wait.
    fn pause_before_commit(&mut self) -> Option<Duration> {
        let is_urgent = self.waiting.len() >= BATCH_WRITES || self.waiting.iter().any(Write::is_urgent);
        let delay = self.parts.bounds.commit_delay;
        if is_urgent { None } else { self.pace.wait(self.parts.clock.now(), delay, self.waiting.len()) }
    }

    /// Commits and answers as many pending writes as one transaction may hold.
    fn write_batch(&mut self) {
        let mut bytes = 0;
        let max_bytes = BATCH_BYTES.min(self.share());
        let mut count = 0;
        while count < BATCH_WRITES && bytes < max_bytes {
            let Some(write) = self.waiting.get(count) else { break };
            bytes += write.bytes();
            count += 1;
        }
        let requests = self.waiting.drain(..count).collect();
        let rest = self.settle_late(requests, false);
        let mut batch = self.late_marks.begin();
        batch.extend(self.late.begin());
        batch.extend(rest);
        if batch.is_empty() {
            return;
        }
        self.check_files();
        if let Health::Gone(reason) = &self.health {
            let outage = Outage { why: Why::Gone, detail: reason.clone() };
            return self.refuse(batch, outage, false);
        }
        self.look_again_if_due();
        if self.wal == Length::TooLong {
            let outage = self.held_open();
            return self.refuse(batch, outage, false);
        }
        if let Err(error) = self.fold_down() {
            return self.refuse_for(batch, &error);
        }
        self.pace.begin(self.parts.clock.now(), batch.len() + self.waiting.len());
        let mut result = self.commit(&batch);
        // What is written of sessions keeps nothing else out of a database that is full, or damaged there.
        let is_session_at_fault = match &result {
            Err(error) if is_full(error) => self.is_at_bound(),
            Err(error) => is_damage(error),
            Ok(_) => false,
        };
        if is_session_at_fault && batch.iter().any(|write| matches!(write, Write::Park(_) | Write::Mark(_))) {
            self.take_back_late(&mut batch);
            batch = self.settle_late(batch, true);
            if batch.is_empty() {
                return;
            }
            result = self.commit(&batch);
        }
        match result {
            Ok(decisions) => {
                self.untidy = true;
                self.idle = self.parts.timing.idle;
                let writes = decisions.len();
                let (marked, late_marks) = self.late_marks.written(writes);
                let (_, late) = self.late.written(writes - marked);
                // What was taken in is folded before the rest.
                for write in batch.drain(writes..).skip(late_marks + late).rev() {
                    self.waiting.push_front(write);
                }
                self.answer(batch, decisions);
                self.bound_the_wal_after(writes, bytes);
                self.fold_if_due();
                self.upkeep_soon();
            }
            Err(error) => self.refuse_for(batch, &error),
        }
    }

    /// Takes what waits of sessions out of a batch that failed.
    pub fn take_back_late(&mut self, batch: &mut Vec<Write>) {
        self.late_marks.take_back(batch);
        self.late.take_back(batch);
    }

    /// Answers those of these requests that sessions decide which are not parked yet, and returns the others. With
    /// `aside`, what is to be written of sessions waits, too.
    fn settle_late(&mut self, requests: Vec<Write>, aside: bool) -> Vec<Write> {
        if self.late.is_empty() && self.late_marks.is_empty() && !aside {
            return requests;
        }
        let now = self.running();
        self.late.expire(now, self.batches.parking.keep);
        self.late_marks.expire(now, self.batches.parking.keep);
        let (mut rest, mut events) = (Vec::with_capacity(requests.len()), Vec::new());
        for request in requests {
            match request {
                Write::Park(parked) if aside => self.late.push(parked, now),
                Write::Park(parked) => {
                    self.late.remove(parked.session);
                    rest.push(Write::Park(parked));
                }
                Write::Mark(mark) if aside => events.extend(self.mark_later(mark, now)),
                Write::Claim(claim) => match self.late.remove(claim.session) {
                    Some(parked) => {
                        // As when a row is claimed.
                        rest.extend(parked.rooms.iter().map(|(room, _)| Write::Use(room.clone())));
                        let standing = self.known(claim.session);
                        events.push(claimed(&claim, parked, standing));
                    }
                    None => rest.push(Write::Claim(claim)),
                },
                // A session that waits may have been in it.
                Write::Remove(room) if !self.late.is_empty() => {
                    events.push(StoreEvent::Removed(Removed { room, is_gone: false }));
                }
                other => rest.push(other),
            }
        }
        self.answers.send(events);
        rest
    }

    /// Keeps a mark for later batches. Returns its answer, if somebody waits for it.
    pub fn mark_later(&mut self, mark: Mark, now: u64) -> Option<StoreEvent> {
        let waits = self.late_marks.get(mark.session).map(|late| late.standing);
        let standing = waits.map_or(mark.standing, |waits| waits.max(mark.standing));
        self.late_marks.push(Mark { standing, asker: None, ..mark }, now);
        mark.asker.map(StoreEvent::Marked)
    }

    /// Returns what became of a session, as far as that is known here or can be read.
    pub fn known(&self, session: SessionId) -> Option<Standing> {
        self.recorded(session).max(self.late_marks.get(session).map(|late| late.standing))
    }

    /// Returns what the database says became of a session, if it can be read.
    pub fn recorded(&self, session: SessionId) -> Option<Standing> {
        self.batches.standing(&self.parts.conn, session).ok().flatten()
    }

    /// Commits a batch. Makes space for it first, if the database is full and messages may be deleted.
    fn commit(&mut self, batch: &[Write]) -> rusqlite::Result<Vec<Decision>> {
        let now = self.running();
        let is_enough = self.waits(2);
        let mut result = self.batches.commit(&self.parts.conn, batch, now, &is_enough);
        let mut tries = 0;
        while tries < SPACE_TRIES && matches!(&result, Err(error) if is_full(error)) && self.make_space() {
            result = self.batches.commit(&self.parts.conn, batch, now, &is_enough);
            tries += 1;
        }
        result
    }

    /// Checks that the files are still the opened ones. Writes to a file that was deleted or replaced would be lost, so
    /// nothing is acknowledged from then on.
    pub fn check_files(&mut self) {
        if matches!(self.health, Health::Gone(_)) || self.parts.clock.since(self.checked) < self.parts.timing.look {
            return;
        }
        if let Err(reason) = self.parts.identity.check(&self.parts.files) {
            self.health = Health::Gone(reason.clone());
            self.answers.send([StoreEvent::Available(Err(Outage { why: Why::Gone, detail: reason }))]);
        }
        self.checked = self.parts.clock.now();
    }

    /// Returns how many seconds racerd has run on this log in total.
    pub fn running(&self) -> u64 {
        self.parts.running_before.saturating_add(self.parts.clock.since(self.started).as_secs())
    }

    /// Returns the same in milliseconds; earlier runs count in whole seconds.
    pub fn running_millis(&self) -> u64 {
        let here = self.parts.clock.since(self.started).as_millis();
        self.parts.running_before.saturating_mul(1000).saturating_add(u64::try_from(here).unwrap_or(u64::MAX))
    }

    /// Parks the remaining sessions, and records a clean shutdown.
    pub fn finish(mut self) -> Result<(), String> {
        if let Health::Gone(reason) = &self.health {
            return Err(reason.clone());
        }
        // Always checked here, however recent the last check is.
        self.parts.identity.check(&self.parts.files)?;
        let mut before = None;
        while !(self.late.is_empty() && self.late_marks.is_empty()) {
            let progress = (self.late.progress(), self.late_marks.progress());
            if before.replace(progress) == Some(progress) {
                break;
            }
            self.write_batch();
        }
        // What cannot be folded is taken in by the next run.
        if self.fold_all().is_err_and(|error| is_damage(&error)) {
            self.parts.damaged.store(true, Ordering::Relaxed);
        }
        if self.parts.damaged.load(Ordering::Relaxed) {
            self.note("a row or a page could not be read or written".to_owned());
        }
        roll_back(&self.parts.conn);
        // The record of a clean shutdown is synced, and with it everything that a `normal` run has left unsynced.
        let clean = !self.parts.damaged.load(Ordering::Relaxed);
        let end = |conn: &Connection| {
            conn.execute_batch("PRAGMA synchronous = FULL")?;
            schema::end_run(conn, self.running(), clean)
        };
        end(&self.parts.conn).map_err(|error| self.explain(&error, false).detail)?;
        self.parts.copier.close();
        // If a reader in another process prevents this, the next start finds the WAL.
        self.untidy = !self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        let conn = &self.parts.conn;
        let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self.untidy);
        Ok(())
    }
}

pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
