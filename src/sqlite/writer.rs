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
use super::limits::Limit;
use super::open::{self, WAL_BYTES};
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
use crate::store::{
    Append, Appended, Claim, Claimed, Found, Outage, Outcome, Parked, Removed, Seek, Sought, StoreEvent, Why,
};
use crate::types::{Digest, Message};

/// Maximum number of appends, parkings and claims in one transaction ...
const BATCH_WRITES: usize = 4_096;

/// ... and maximum size in bytes, not counting the last one.
const BATCH_BYTES: usize = 8 << 20;

/// Maximum rounds of deleting old messages to make space for one batch. A batch is no larger than what one round frees;
/// if it still does not fit, the log must not be emptied for it.
pub(super) const SPACE_TRIES: u32 = 3;

/// Maximum number of sessions waiting to be parked while the store fails. Beyond it the oldest are lost, as in a crash.
const LATE: usize = 10_000;

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
    late: Vec<Parked>,
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
            late: Vec::new(),
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
        let mut batch = Vec::with_capacity(self.late.len() + self.waiting.len().min(BATCH_WRITES));
        batch.extend(self.late.drain(..).map(Write::Park));
        let late = batch.len();
        let max_bytes = BATCH_BYTES.min(self.share());
        while batch.len() - late < BATCH_WRITES && bytes < max_bytes {
            let Some(write) = self.waiting.pop_front() else { break };
            bytes += write.bytes();
            batch.push(write);
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
        let now = self.running();
        let is_enough = self.waits(2);
        let mut result = self.batches.commit(&self.parts.conn, &batch, now, &is_enough);
        let mut tries = 0;
        while tries < SPACE_TRIES && matches!(&result, Err(error) if is_full(error)) && self.make_space() {
            result = self.batches.commit(&self.parts.conn, &batch, now, &is_enough);
            tries += 1;
        }
        match result {
            Ok(decisions) => {
                self.untidy = true;
                self.idle = self.parts.timing.idle;
                let writes = decisions.len();
                // What was taken in is folded before the rest.
                for write in batch.drain(writes..).rev() {
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

    /// Answers a batch that could not be stored because of this error.
    fn refuse_for(&mut self, batch: Vec<Write>, error: &rusqlite::Error) {
        let at_bound = is_full(error) && self.is_at_bound();
        let outage = self.explain(error, at_bound);
        self.refuse(batch, outage, at_bound);
    }

    /// Answers a batch that was committed.
    fn answer(&mut self, batch: Vec<Write>, decisions: Vec<Decision>) {
        let mut appended = Vec::with_capacity(batch.len());
        let mut others = Vec::new();
        let (mut rooms_full, mut removed, mut over) = (false, false, false);
        for (write, decision) in batch.into_iter().zip(decisions) {
            match write {
                Write::Append(append) => {
                    rooms_full |= decision == Decision::RoomsFull;
                    over |= decision == Decision::OverShare;
                    appended.push(self.decided(append, decision));
                }
                Write::Claim(Claim { ticket, session }) => {
                    let parked = if let Decision::Claimed(parked) = decision { parked } else { None };
                    let parked = parked.map(|parked| *parked);
                    others.push(StoreEvent::Claimed(Claimed { ticket, session, parked }));
                }
                Write::Seek(Seek { ticket, room, body, .. }) => {
                    let outcome = if let Decision::Sought(found) = decision { found } else { Found::Unknown };
                    others.push(StoreEvent::Sought(Sought { ticket, room, body, outcome }));
                }
                Write::Remove(room) => {
                    let is_gone = decision == Decision::Removed { is_gone: true };
                    removed |= is_gone;
                    others.push(StoreEvent::Removed(Removed { room, is_gone }));
                }
                Write::Park(_) | Write::Use(_) => {}
            }
        }
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        let recovered = self.recovered();
        let note = rooms_full.then(|| self.note_rooms(true)).flatten();
        let shares = self.note_shares(over);
        self.answers.send(note.into_iter().chain(shares));
        self.answers.send(appended.into_iter().chain(others).chain(recovered));
        if removed {
            self.bound_rooms();
        }
    }

    fn decided(&self, append: Append, decision: Decision) -> Appended {
        let Append { ticket, room, author, body, .. } = append;
        let bytes = body.len();
        let (era, outcome) = match decision {
            Decision::Stored { seq, at, era } => {
                (Some(era), Outcome::Stored(Message { room: room.clone(), seq, at, author, body }))
            }
            Decision::Duplicate { seq, at, era } => (Some(era), Outcome::Duplicate { seq, at }),
            Decision::KeyReused(era) => (Some(era), Outcome::KeyReused),
            Decision::BodyReused(era) => (Some(era), Outcome::BodyReused),
            Decision::RoomsFull => {
                let limit = usize::try_from(self.batches.rooms_max).unwrap_or(usize::MAX);
                (None, Outcome::RoomsFull { limit })
            }
            Decision::NotMade => (None, Outcome::NotMade),
            Decision::OverShare => (None, Outcome::OverShare),
            // The others answer no append.
            _ => (None, Outcome::Unavailable),
        };
        Appended { ticket, room, bytes, era, outcome }
    }

    /// Answers a batch that was not stored; `full` if the database has reached its maximum size. Sessions to be parked
    /// are kept for the next batch.
    fn refuse(&mut self, batch: Vec<Write>, outage: Outage, full: bool) {
        let mut appended = Vec::with_capacity(batch.len());
        let mut failed = Vec::new();
        for write in batch {
            match write {
                Write::Append(append) => appended.push(refused(append, full)),
                Write::Claim(Claim { ticket, session }) => failed.push(StoreEvent::ClaimFailed { ticket, session }),
                Write::Seek(Seek { ticket, room, body, .. }) => {
                    failed.push(StoreEvent::Sought(Sought { ticket, room, body, outcome: Found::Unknown }));
                }
                Write::Park(parked) => self.late.push(parked),
                Write::Remove(room) => failed.push(StoreEvent::Removed(Removed { room, is_gone: false })),
                Write::Use(_) => {}
            }
        }
        let extra = self.late.len().saturating_sub(LATE);
        self.late.drain(..extra);
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        // The reason is sent first, so that the refusals can state it.
        let outage = self.failed(outage);
        self.answers.send(outage.into_iter().chain(appended).chain(failed));
    }

    /// Records that writing works. Returns the event that reports it, if it failed before.
    pub fn recovered(&mut self) -> Option<StoreEvent> {
        match self.health {
            Health::Failing { .. } => {
                self.health = Health::Well;
                Some(StoreEvent::Available(Ok(())))
            }
            Health::Well | Health::Gone(_) => None,
        }
    }

    /// Records that writing fails. Returns the event that reports it, if it worked before or the reason has changed.
    fn failed(&mut self, outage: Outage) -> Option<StoreEvent> {
        match &mut self.health {
            Health::Well => {
                self.health = Health::Failing { retry: self.parts.timing.probe_first, why: outage.why };
                Some(StoreEvent::Available(Err(outage)))
            }
            Health::Failing { why, .. } if *why != outage.why => {
                *why = outage.why;
                Some(StoreEvent::Available(Err(outage)))
            }
            Health::Failing { .. } | Health::Gone(_) => None,
        }
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

    /// Describes a failure: what happened, where, and what to do. `at_bound` means that the database, not the disk, has
    /// reached its limit.
    fn explain(&self, error: &rusqlite::Error, at_bound: bool) -> Outage {
        let WriterParts { files, bounds, .. } = &self.parts;
        let path = files.database.display();
        if at_bound {
            let may_prune = bounds.keep_messages > 0 || bounds.keep_for > 0;
            let expire = if may_prune { "" } else { ", or let old messages expire with keep_messages or keep_for" };
            let (reached, advice) = match bounds.max_database_size {
                0 => ("its share of the free disk space", "free some, or set max_database_size"),
                _ => ("max_database_size", "raise it"),
            };
            let detail = format!("cannot write to {path}: it has reached {reached}; {advice}{expire}");
            return Outage { why: Why::AtBound, detail };
        }
        if let Some(limit) = Limit::behind(error, files.directory()) {
            let detail = format!("cannot write to {path}: {error}; {}", limit.advice());
            return Outage { why: limit.why(), detail };
        }
        let (why, advice) = match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                (Why::NotWritable, "make the file and its directory writable")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (Why::Busy, "another program has the database locked; end that program")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.parts.damaged.store(true, Ordering::Relaxed);
                (Why::Damaged, crate::sqlite::error::DAMAGED)
            }
            Some(ErrorCode::SystemIoFailure) => (Why::Disk, "the disk reports errors; check the kernel log"),
            _ => (Why::Unknown, "racerd keeps retrying"),
        };
        Outage { why, detail: format!("cannot write to {path}: {error}; {advice}") }
    }

    /// Describes why nothing is written to a WAL that is too long.
    fn held_open(&self) -> Outage {
        let path = self.parts.files.database.display();
        let mebibytes = Length::allowed(self.max_bytes()) >> 20;
        let detail = format!(
            "cannot write to {path}: its -wal file has passed {mebibytes} MiB, since another program holds a read of the \
             database open; end that program"
        );
        Outage { why: Why::HeldOpen, detail }
    }

    /// Parks the remaining sessions, and records a clean shutdown.
    pub fn finish(mut self) -> Result<(), String> {
        if let Health::Gone(reason) = &self.health {
            return Err(reason.clone());
        }
        // Always checked here, however recent the last check is.
        self.parts.identity.check(&self.parts.files)?;
        if !self.late.is_empty() {
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

fn refused(append: Append, full: bool) -> Appended {
    let outcome = if full { Outcome::Full } else { Outcome::Unavailable };
    Appended { ticket: append.ticket, room: append.room, bytes: append.body.len(), era: None, outcome }
}

pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
