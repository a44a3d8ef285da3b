//! The writer thread. It takes everything that waits into one transaction, answers after the commit, and knows whether
//! the disk does. In between it does the upkeep, a bounded piece at a time. An idle writer with nothing left to do waits
//! without a timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::batch::{Batches, Decision, Write, roll_back};
use super::clock::Clock;
use super::dating::Dating;
use super::files::{Files, Identity};
use super::limits::Limit;
use super::open::WAL_FRAMES;
use super::parked::Parking;
use super::prune::Prune;
use super::retention::Retention;
use super::schema;
use super::sealing::Sealing;
use super::worker::Answers;
use crate::store::Bounds;
use crate::store::{Append, Appended, Claim, Claimed, Found, Outage, Outcome, Parked, Seek, Sought, StoreEvent, Why};
use crate::types::{Digest, Message};

/// One transaction holds at most so many appends, parkings and claims ...
const BATCH_WRITES: usize = 4_096;

/// ... and, but for the last of them, so many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// How often old messages make space for one batch. It is no larger than what goes each time; should it not fit then,
/// the log is not to be emptied for it.
const SPACE_TRIES: u32 = 3;

/// Parkings that wait for a store that fails, at most; the oldest are given up, as in a crash.
const LATE: usize = 10_000;

pub(super) enum Command {
    Write(Vec<Write>),
    /// Other bounds hold from now on.
    Bound(Bounds),
    /// Put down that the database is damaged, and how.
    Note(String),
    /// All of the database was read through.
    Scrubbed,
    /// Commit what came before, mark a clean end, leave.
    Finish,
}

/// The writer's times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// After so long without an append the WAL is emptied. Sooner would write each page of a slow talk twice.
    pub idle: Duration,
    /// Between two pieces of upkeep. One that took long is followed by four times as much, so that under load commits
    /// have most of the disk.
    pub pause: Duration,
    /// The files are looked for before a batch when the last look is this old.
    pub look: Duration,
    /// While writing fails and nobody appends, it is tried again after this long ...
    pub probe_first: Duration,
    /// ... and then each time after twice as long, but at most this.
    pub probe_last: Duration,
    /// How long after the start a pass through the database begins, if one is due.
    pub scrub: Duration,
    /// How long after a failed read such a pass begins anew.
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

pub(super) enum Health {
    Well,
    /// The last write failed; the next is tried with the next batch, or after this long.
    Failing {
        retry: Duration,
        /// As it was told last.
        why: Why,
    },
    /// The files are not the opened ones any more: nothing is written until a restart.
    Gone(String),
}

pub(super) struct WriterParts {
    pub conn: Connection,
    pub files: Files,
    pub identity: Identity,
    pub timing: Timing,
    pub clock: Clock,
    pub bounds: Bounds,
    /// Pages that the database may have.
    pub most_pages: i64,
    /// Set by either thread that meets damage: the run is not marked as ended in order then, so that the next start looks.
    pub damaged: Arc<AtomicBool>,
    /// Seconds that racerd had run on this log before this run.
    pub running_before: u64,
    /// Bytes of the WAL file, for whoever shows them.
    pub wal_bytes: Arc<AtomicU64>,
    /// Seals what is stored; `None`: it stays plain.
    pub sealing: Option<Sealing>,
    /// Takes a stored body apart: the digest of an encrypted one.
    pub sealed_body: fn(&str) -> Option<Digest>,
}

impl WriterParts {
    /// Works until [`Command::Finish`], whose outcome it returns, or until nobody can send one; then the log stays as
    /// it is, without the mark of a clean end.
    pub fn run(self, commands: &Receiver<Command>, answers: Answers) -> Result<(), String> {
        let mut writer = WriterLoop::new(self, answers);
        loop {
            let mut finish = match writer.receive(commands) {
                Ok(command) => writer.accept(command),
                Err(RecvTimeoutError::Timeout) => {
                    writer.use_the_pause();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the log was not closed in order".to_owned()),
            };
            loop {
                // Everything that has come meanwhile goes into the same transaction.
                while let Ok(command) = commands.try_recv() {
                    finish |= writer.accept(command);
                }
                if writer.waiting.is_empty() {
                    break;
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

/// A writer at work.
pub(super) struct WriterLoop {
    pub parts: WriterParts,
    pub answers: Answers,
    pub batches: Batches,
    waiting: VecDeque<Write>,
    /// What could not be parked yet.
    late: Vec<Parked>,
    pub health: Health,
    started: Instant,
    /// When the files were last looked for.
    looked: Instant,
    /// The WAL may hold something that is not in the database file yet.
    pub untidy: bool,
    /// How long to wait before the WAL is emptied.
    pub idle: Duration,
    /// When the last command came, or emptying the WAL was last tried.
    pub quiet_since: Instant,
    /// When the next piece of upkeep is due; `None` until something is written again.
    pub upkeep_due: Option<Instant>,
    /// The running seconds at which old keys and sessions were last looked for.
    pub swept: u64,
    /// Pages of the WAL past which it is made to start over.
    pub restart_past: i64,
    pub prune: Prune,
    pub retention: Retention,
    pub dating: Dating,
    pub noted: Noted,
}

/// Whether the log says that it is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// Nothing was found.
    Nothing,
    /// It could not be written yet.
    Waiting(String),
    Written,
}

impl WriterLoop {
    /// A writer that begins to work.
    pub fn new(mut parts: WriterParts, answers: Answers) -> WriterLoop {
        let now = parts.clock.now();
        let sealing = parts.sealing.take();
        let mut writer = WriterLoop {
            idle: parts.timing.idle,
            restart_past: WAL_FRAMES,
            batches: Batches::new(Parking::new(parts.bounds.parked_max, parts.bounds.park_for), sealing),
            waiting: VecDeque::new(),
            late: Vec::new(),
            health: Health::Well,
            started: now,
            looked: now,
            untidy: true,
            quiet_since: now,
            upkeep_due: Some(now),
            swept: 0,
            prune: Prune::default(),
            retention: Retention::default(),
            dating: Dating::default(),
            noted: Noted::Nothing,
            parts,
            answers,
        };
        writer.measure_wal();
        // Before anything is written, whose time it may have. A failure shows at the next append, if it lasts.
        let _ = writer.time_of_ages();
        writer
    }

    fn receive(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        match self.patience() {
            Some(pause) => commands.recv_timeout(pause),
            None => commands.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Returns how long it waits for a command before it uses the pause; `None`: for ever.
    pub fn patience(&self) -> Option<Duration> {
        let left = |due: Instant| due.saturating_duration_since(self.parts.clock.now());
        match &self.health {
            Health::Failing { retry, .. } => Some(*retry),
            Health::Well => {
                let tidy = self.untidy.then(|| left(self.quiet_since + self.idle));
                self.upkeep_due.map(left).into_iter().chain(tidy).min()
            }
            Health::Gone(_) => None,
        }
    }

    /// Whether nobody has asked for anything in so long that the WAL is to be emptied.
    pub fn is_quiet(&self) -> bool {
        self.untidy && self.parts.clock.since(self.quiet_since) >= self.idle
    }

    /// Whether this was the last command.
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

    /// Commits everything that waits, and answers it.
    pub fn write_all(&mut self) {
        while !self.waiting.is_empty() {
            self.write_batch();
            self.upkeep_if_due();
        }
    }

    /// Commits as much of what waits as one transaction may hold, and answers it.
    fn write_batch(&mut self) {
        let mut bytes = 0;
        let mut batch = Vec::with_capacity(self.late.len() + self.waiting.len().min(BATCH_WRITES));
        batch.extend(self.late.drain(..).map(Write::Park));
        let late = batch.len();
        let most_bytes = BATCH_BYTES.min(self.share());
        while batch.len() - late < BATCH_WRITES && bytes < most_bytes {
            let Some(write) = self.waiting.pop_front() else { break };
            bytes += write.bytes();
            batch.push(write);
        }
        self.look_for_the_files();
        if let Health::Gone(reason) = &self.health {
            let outage = Outage { why: Why::Gone, detail: reason.clone() };
            return self.refuse(batch, outage, false);
        }
        let now = self.running();
        let mut result = self.batches.commit(&self.parts.conn, &batch, now);
        let mut tries = 0;
        while tries < SPACE_TRIES && matches!(&result, Err(error) if is_full(error)) && self.make_space() {
            result = self.batches.commit(&self.parts.conn, &batch, now);
            tries += 1;
        }
        match result {
            Ok(decisions) => {
                self.untidy = true;
                self.idle = self.parts.timing.idle;
                self.tell(batch, decisions);
                self.bound_the_wal();
                self.upkeep_soon();
            }
            Err(error) => {
                let at_bound = is_full(&error) && self.is_at_bound();
                let outage = self.explain(&error, at_bound);
                self.refuse(batch, outage, at_bound);
            }
        }
    }

    /// Answers a batch that was committed.
    fn tell(&mut self, batch: Vec<Write>, decisions: Vec<Decision>) {
        let mut appended = Vec::with_capacity(batch.len());
        let mut others = Vec::new();
        for (write, decision) in batch.into_iter().zip(decisions) {
            match write {
                Write::Append(append) => {
                    appended.push(decided(append, decision));
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
                Write::Park(_) => {}
            }
        }
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        let recovered = self.recovered();
        self.answers.send(appended.into_iter().chain(others).chain(recovered));
    }

    /// Answers a batch of which nothing was stored, `full` if that is for the bound of the database's size. What was to be
    /// parked is kept for the next one.
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
            }
        }
        let extra = self.late.len().saturating_sub(LATE);
        self.late.drain(..extra);
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        // First why, so that the refusals can say it.
        let outage = self.failed(outage);
        self.answers.send(outage.into_iter().chain(appended).chain(failed));
    }

    /// Notes that writing does; the event that says so, if it did not before.
    pub fn recovered(&mut self) -> Option<StoreEvent> {
        match self.health {
            Health::Failing { .. } => {
                self.health = Health::Well;
                Some(StoreEvent::Available(Ok(())))
            }
            Health::Well | Health::Gone(_) => None,
        }
    }

    /// Notes that writing fails; the event that says so, if it did before.
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

    /// What is written to a file that was deleted or replaced is lost: then nothing is acknowledged any more.
    pub fn look_for_the_files(&mut self) {
        if matches!(self.health, Health::Gone(_)) || self.parts.clock.since(self.looked) < self.parts.timing.look {
            return;
        }
        if let Err(reason) = self.parts.identity.check(&self.parts.files) {
            self.health = Health::Gone(reason.clone());
            self.answers.send([StoreEvent::Available(Err(Outage { why: Why::Gone, detail: reason }))]);
        }
        self.looked = self.parts.clock.now();
    }

    /// Seconds that racerd has run on this log in all.
    pub fn running(&self) -> u64 {
        self.parts.running_before.saturating_add(self.parts.clock.since(self.started).as_secs())
    }

    /// The same in milliseconds, as far as is known: those before this run are whole seconds.
    pub fn running_millis(&self) -> u64 {
        let here = self.parts.clock.since(self.started).as_millis();
        self.parts.running_before.saturating_mul(1000).saturating_add(u64::try_from(here).unwrap_or(u64::MAX))
    }

    /// What happened, where, and what to do. `at_bound`: it was not the disk that was full.
    fn explain(&self, error: &rusqlite::Error, at_bound: bool) -> Outage {
        let WriterParts { files, bounds, .. } = &self.parts;
        let path = files.database.display();
        if at_bound {
            let advice = "raise it, or let old messages go with keep_messages or keep_for";
            let may_prune = bounds.keep_messages > 0 || bounds.keep_for > 0;
            let advice = if may_prune { "raise it" } else { advice };
            let detail = format!("cannot write to {path}: it has reached max_database_size; {advice}");
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
                (Why::Busy, "another program holds the database; end it")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.parts.damaged.store(true, Ordering::Relaxed);
                (Why::Damaged, crate::sqlite::error::DAMAGED)
            }
            Some(ErrorCode::SystemIoFailure) => (Why::Disk, "the disk reports errors; look at the kernel's log"),
            _ => (Why::Unknown, "racerd tries again by itself"),
        };
        Outage { why, detail: format!("cannot write to {path}: {error}; {advice}") }
    }

    /// Commits what could not be parked yet, and marks the end as clean.
    pub fn finish(mut self) -> Result<(), String> {
        if let Health::Gone(reason) = &self.health {
            return Err(reason.clone());
        }
        // Once more, however recent the last look is.
        self.parts.identity.check(&self.parts.files)?;
        if !self.late.is_empty() {
            self.write_batch();
        }
        if self.parts.damaged.load(Ordering::Relaxed) {
            self.note("a row or a page could not be read or written".to_owned());
        }
        let conn = &self.parts.conn;
        roll_back(conn);
        // The mark of a clean end is synced, and with it all that a `normal` run has left unsynced before it.
        let clean = !self.parts.damaged.load(Ordering::Relaxed);
        conn.execute_batch("PRAGMA synchronous = FULL")
            .and_then(|()| schema::end_run(conn, self.running(), clean))
            .map_err(|error| self.explain(&error, false).detail)?;
        // If a reader of another process is in the way, the next start finds the WAL.
        self.untidy = !self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self.untidy);
        Ok(())
    }
}

fn decided(append: Append, decision: Decision) -> Appended {
    let Append { ticket, room, author, body, .. } = append;
    let bytes = body.len();
    let outcome = match decision {
        Decision::Stored { seq, at } => Outcome::Stored(Message { room: room.clone(), seq, at, author, body }),
        Decision::Duplicate { seq, at } => Outcome::Duplicate { seq, at },
        Decision::KeyReused => Outcome::KeyReused,
        Decision::BodyReused => Outcome::BodyReused,
        Decision::Refused | Decision::Parked | Decision::Claimed(_) | Decision::Sought(_) => Outcome::Unavailable,
    };
    Appended { ticket, room, bytes, outcome }
}

fn refused(append: Append, full: bool) -> Appended {
    let outcome = if full { Outcome::Full } else { Outcome::Unavailable };
    Appended { ticket: append.ticket, room: append.room, bytes: append.body.len(), outcome }
}

pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
