//! The writer thread. It takes everything that waits into one transaction, answers after the commit, and owns what
//! goes with writing: checkpoints, finding out that the disk does not do, and that it does again. An idle writer with
//! nothing left to tidy waits without a timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::Answers;
use super::batch::{Batches, Decision, Write, roll_back};
use super::files::{Files, Identity};
use super::open::{self, BUSY};
use super::parked::Parking;
use super::prune::Prune;
use super::schema::{self, SCRATCH};
use crate::store::Bounds;
use crate::store::request::{Append, Appended, Claim, Claimed, Outcome, Parked, StoreEvent};
use crate::types::Message;

/// One transaction holds at most so many appends, parkings and claims ...
const BATCH_WRITES: usize = 4_096;

/// ... and, but for the last of them, so many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Parkings that wait for a store that fails, at most; the oldest are given up, as in a crash.
const LATE: usize = 10_000;

/// A WAL of more pages starts over after a commit: 4 MiB.
const WAL_FRAMES: i64 = 1_024;

/// How long a checkpoint waits for readers. One of ours is gone within a page; another process's may stay for hours.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);

pub(super) enum Command {
    Write(Vec<Write>),
    /// Other bounds hold from now on.
    Bound(Bounds),
    /// Commit what came before, mark a clean end, leave.
    Finish,
}

/// The writer's times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// After so long without an append the WAL is emptied. Sooner would write each page of a slow talk twice.
    pub idle: Duration,
    /// The files are looked for before a batch when the last look is this old.
    pub look: Duration,
    /// While writing fails and nobody appends, it is tried again after this long ...
    pub probe_first: Duration,
    /// ... and then each time after twice as long, but at most this.
    pub probe_last: Duration,
}

impl Timing {
    pub const USUAL: Timing = Timing {
        idle: Duration::from_secs(10),
        look: Duration::from_secs(5),
        probe_first: Duration::from_secs(1),
        probe_last: Duration::from_secs(5),
    };
}

enum Health {
    Well,
    /// The last write failed; the next is tried with the next batch, or after this long.
    Failing {
        retry: Duration,
    },
    /// The files are not the opened ones any more: nothing is written until a restart.
    Gone(String),
}

pub(super) struct Writer {
    pub conn: Connection,
    pub files: Files,
    pub identity: Identity,
    pub timing: Timing,
    pub bounds: Bounds,
    /// Seconds that racerd had run on this log before this run.
    pub running_before: u64,
    /// Bytes of the WAL file, for whoever shows them.
    pub wal_bytes: Arc<AtomicU64>,
}

impl Writer {
    /// Works until [`Command::Finish`], whose outcome it returns, or until nobody can send one; then the log stays as
    /// it is, without the mark of a clean end.
    pub fn run(self, commands: &Receiver<Command>, answers: &Answers) -> Result<(), String> {
        let now = Instant::now();
        let mut state = State {
            idle: self.timing.idle,
            restart_past: WAL_FRAMES,
            batches: Batches::new(Parking::new(self.bounds.parked_max, self.bounds.park_for)),
            waiting: VecDeque::new(),
            late: Vec::new(),
            health: Health::Well,
            started: now,
            looked: now,
            untidy: true,
            prune: Prune::default(),
            writer: self,
            answers,
        };
        state.measure_wal();
        loop {
            let mut finish = match state.receive(commands) {
                Ok(command) => state.accept(command),
                Err(RecvTimeoutError::Timeout) => {
                    state.use_the_pause();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the log was not closed in order".to_owned()),
            };
            loop {
                // Everything that has come meanwhile goes into the same transaction.
                while let Ok(command) = commands.try_recv() {
                    finish |= state.accept(command);
                }
                if state.waiting.is_empty() {
                    break;
                }
                state.write_batch();
            }
            if finish {
                return state.finish();
            }
        }
    }
}

/// A writer at work.
struct State<'a> {
    writer: Writer,
    answers: &'a Answers,
    batches: Batches,
    waiting: VecDeque<Write>,
    /// What could not be parked yet.
    late: Vec<Parked>,
    health: Health,
    started: Instant,
    /// When the files were last looked for.
    looked: Instant,
    /// The WAL may hold something that is not in the database file yet.
    untidy: bool,
    /// How long to wait before tidying up.
    idle: Duration,
    /// Pages of the WAL past which it is made to start over.
    restart_past: i64,
    prune: Prune,
}

impl State<'_> {
    fn receive(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        let pause = match &self.health {
            Health::Failing { retry } => Some(*retry),
            Health::Well => self.untidy.then_some(self.idle),
            Health::Gone(_) => None,
        };
        match pause {
            Some(pause) => commands.recv_timeout(pause),
            None => commands.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Whether this was the last command.
    fn accept(&mut self, command: Command) -> bool {
        match command {
            Command::Write(writes) => self.waiting.extend(writes),
            Command::Bound(bounds) => self.bound(bounds),
            Command::Finish => return true,
        }
        false
    }

    /// Where this fails, the disk does, and the next append says so; the bound before holds on.
    fn bound(&mut self, bounds: Bounds) {
        let before = std::mem::replace(&mut self.writer.bounds, bounds);
        (self.batches.parking.most, self.batches.parking.keep) = (bounds.parked_max, bounds.park_for);
        if bounds.max_database_size == before.max_database_size {
            return;
        }
        let _ = open::bound(&self.writer.conn, &self.writer.files, bounds.max_database_size);
        if let Health::Failing { retry } = self.health {
            // Perhaps it was the bound that was in the way.
            self.probe(retry);
        }
    }

    /// Commits as much of what waits as one transaction may hold, and answers it.
    fn write_batch(&mut self) {
        let mut bytes = 0;
        let mut batch = Vec::with_capacity(self.late.len() + self.waiting.len().min(BATCH_WRITES));
        batch.extend(self.late.drain(..).map(Write::Park));
        let late = batch.len();
        while batch.len() - late < BATCH_WRITES && bytes < BATCH_BYTES {
            let Some(write) = self.waiting.pop_front() else { break };
            bytes += write.bytes();
            batch.push(write);
        }
        self.look_for_the_files();
        let result = match &self.health {
            Health::Gone(reason) => Err(reason.clone()),
            _ => {
                let now = self.running();
                let result = self.batches.commit(&self.writer.conn, &batch, now);
                result.map_err(|error| explain(&error, &self.writer.files))
            }
        };
        match result {
            Ok(decisions) => {
                self.untidy = true;
                self.idle = self.writer.timing.idle;
                self.tell(batch, decisions);
                self.bound_the_wal();
            }
            Err(reason) => self.refuse(batch, reason),
        }
    }

    /// Answers a batch that was committed.
    fn tell(&mut self, batch: Vec<Write>, decisions: Vec<Decision>) {
        let mut appended = Vec::with_capacity(batch.len());
        let mut claimed = Vec::new();
        for (write, decision) in batch.into_iter().zip(decisions) {
            match write {
                Write::Append(append) => appended.push(decided(append, decision)),
                Write::Claim(Claim { ticket, session }) => {
                    let parked = if let Decision::Claimed(parked) = decision { parked } else { None };
                    claimed.push(StoreEvent::Claimed(Claimed { ticket, session, parked }));
                }
                Write::Park(_) => {}
            }
        }
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        self.answers.send(appended.into_iter().chain(claimed).chain(self.recovered()));
    }

    /// Answers a batch of which nothing was stored. What was to be parked is kept for the next one.
    fn refuse(&mut self, batch: Vec<Write>, reason: String) {
        let mut appended = Vec::with_capacity(batch.len());
        let mut failed = Vec::new();
        for write in batch {
            match write {
                Write::Append(append) => appended.push(refused(append)),
                Write::Claim(Claim { ticket, session }) => failed.push(StoreEvent::ClaimFailed { ticket, session }),
                Write::Park(parked) => self.late.push(parked),
            }
        }
        let extra = self.late.len().saturating_sub(LATE);
        self.late.drain(..extra);
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        let failed = appended.into_iter().chain(failed).chain(self.failed(reason));
        self.answers.send(failed);
    }

    /// Notes that writing does; the event that says so, if it did not before.
    fn recovered(&mut self) -> Option<StoreEvent> {
        match self.health {
            Health::Failing { .. } => {
                self.health = Health::Well;
                Some(StoreEvent::Available(Ok(())))
            }
            Health::Well | Health::Gone(_) => None,
        }
    }

    /// Notes that writing fails; the event that says so, if it did before.
    fn failed(&mut self, reason: String) -> Option<StoreEvent> {
        match self.health {
            Health::Well => {
                self.health = Health::Failing { retry: self.writer.timing.probe_first };
                Some(StoreEvent::Available(Err(reason)))
            }
            Health::Failing { .. } | Health::Gone(_) => None,
        }
    }

    /// What is written to a file that was deleted or replaced is lost: then nothing is acknowledged any more.
    fn look_for_the_files(&mut self) {
        if matches!(self.health, Health::Gone(_)) || self.looked.elapsed() < self.writer.timing.look {
            return;
        }
        if let Err(reason) = self.writer.identity.check(&self.writer.files) {
            self.health = Health::Gone(reason.clone());
            self.answers.send([StoreEvent::Available(Err(reason))]);
        }
        self.looked = Instant::now();
    }

    /// Nobody has asked for anything in a while.
    fn use_the_pause(&mut self) {
        match self.health {
            Health::Well => self.tidy(),
            Health::Failing { retry } => self.probe(retry),
            Health::Gone(_) => {}
        }
    }

    /// Drops keys and parked sessions that are too old, and empties the WAL.
    fn tidy(&mut self) {
        // A failure shows at the next append, if it lasts.
        let (now, bounds) = (self.running(), &self.writer.bounds);
        let _ = self.prune.step(&self.writer.conn, now, bounds.park_for);
        let _ = self.batches.parking.sweep(&self.writer.conn, now);
        if self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)") {
            self.untidy = false;
            self.restart_past = WAL_FRAMES;
        } else {
            // Another process reads; it is not for us to hurry it.
            self.idle = (self.idle * 2).min(self.writer.timing.idle * 16);
        }
        self.measure_wal();
    }

    /// Tries whether writing does again: 64 KiB, really written, and gone again. Emptying the WAL may itself be what
    /// gives the disk its space back.
    fn probe(&mut self, retry: Duration) {
        let again = (retry * 2).min(self.writer.timing.probe_last);
        self.look_for_the_files();
        if matches!(self.health, Health::Gone(_)) {
            return;
        }
        let conn = &self.writer.conn;
        roll_back(conn);
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        let written = conn
            .execute(
                "INSERT OR REPLACE INTO messages (id, at, name, body) VALUES (?1, 0, '', zeroblob(65536))",
                [SCRATCH],
            )
            .and_then(|_| conn.execute("DELETE FROM messages WHERE id = ?1", [SCRATCH]));
        if written.is_ok() {
            let recovered = self.recovered();
            self.answers.send(recovered);
        } else {
            self.health = Health::Failing { retry: again };
        }
    }

    /// Makes the WAL start over once it is too long. A passive checkpoint would not: under load there is always a
    /// reader on its end. Where one stays, it is tried again after as much has been added again.
    fn bound_the_wal(&mut self) {
        self.measure_wal();
        let frames = self.frames();
        if frames > self.restart_past {
            let restarted = self.checkpoint("PRAGMA wal_checkpoint(RESTART)");
            self.restart_past = if restarted { WAL_FRAMES } else { frames + WAL_FRAMES };
        }
    }

    /// Pages in the WAL since it last started over. The file may be longer: it is overwritten from its beginning, which
    /// is cheaper than cutting it off each time. (NOOP counts and does nothing.)
    fn frames(&self) -> i64 {
        let count = |sql| self.writer.conn.prepare_cached(sql)?.query_row([], |row| row.get(1));
        count("PRAGMA wal_checkpoint(NOOP)").unwrap_or(0)
    }

    /// Whether all of the WAL is in the database file now, and no reader needs it.
    fn checkpoint(&self, pragma: &str) -> bool {
        let conn = &self.writer.conn;
        let _ = conn.busy_timeout(CHECKPOINT_BUSY);
        let busy = conn.query_row(pragma, [], |row| row.get::<_, bool>(0));
        let _ = conn.busy_timeout(BUSY);
        busy == Ok(false)
    }

    fn measure_wal(&self) {
        self.writer.wal_bytes.store(self.writer.files.wal_bytes(), Ordering::Relaxed);
    }

    /// Seconds that racerd has run on this log in all.
    fn running(&self) -> u64 {
        self.writer.running_before.saturating_add(self.started.elapsed().as_secs())
    }

    fn finish(mut self) -> Result<(), String> {
        if let Health::Gone(reason) = &self.health {
            return Err(reason.clone());
        }
        // Once more, however recent the last look is.
        self.writer.identity.check(&self.writer.files)?;
        if !self.late.is_empty() {
            self.write_batch();
        }
        let conn = &self.writer.conn;
        roll_back(conn);
        // The mark of a clean end is synced, and with it all that a `normal` run has left unsynced before it.
        conn.execute_batch("PRAGMA synchronous = FULL")
            .and_then(|()| schema::end_run(conn, self.running()))
            .map_err(|error| explain(&error, &self.writer.files))?;
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
        Decision::Refused | Decision::Parked | Decision::Claimed(_) => Outcome::Unavailable,
    };
    Appended { ticket, room, bytes, outcome }
}

fn refused(append: Append) -> Appended {
    Appended { ticket: append.ticket, room: append.room, bytes: append.body.len(), outcome: Outcome::Unavailable }
}

/// What happened, where, and what to do.
fn explain(error: &rusqlite::Error, files: &Files) -> String {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space on the disk, or raise max_database_size",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "make the file and its directory writable"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds the database; end it",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "the file is damaged; restore a backup",
        Some(ErrorCode::SystemIoFailure) => "the disk reports errors; look at the kernel's log",
        _ => "racerd tries again by itself",
    };
    format!("cannot write to {}: {error}; {advice}", files.database.display())
}
