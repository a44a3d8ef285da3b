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
use super::batch::{Batches, Decision, roll_back};
use super::files::{Files, Identity};
use super::open::{self, BUSY};
use super::prune::Prune;
use super::schema::{self, SCRATCH};
use crate::store::request::{Append, Appended, Outcome, StoreEvent};
use crate::types::Message;

/// One transaction holds at most so many appends ...
const BATCH_APPENDS: usize = 4_096;

/// ... and, but for the last of them, so many bytes of bodies.
const BATCH_BYTES: usize = 8 << 20;

/// A WAL of more pages starts over after a commit: 4 MiB.
const WAL_FRAMES: i64 = 1_024;

/// How long a checkpoint waits for readers. One of ours is gone within a page; another process's may stay for hours.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);

pub(super) enum Command {
    Append(Vec<Append>),
    /// The database may grow to so many bytes from now on; 0 as in [`crate::store::StoreOptions`].
    Bound(u64),
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
            batches: Batches::default(),
            waiting: VecDeque::new(),
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
    waiting: VecDeque<Append>,
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
            Command::Append(appends) => self.waiting.extend(appends),
            Command::Bound(bytes) => self.bound(bytes),
            Command::Finish => return true,
        }
        false
    }

    /// Where this fails, the disk does, and the next append says so; the bound before holds on.
    fn bound(&mut self, bytes: u64) {
        let _ = open::bound(&self.writer.conn, &self.writer.files, bytes);
        if let Health::Failing { retry } = self.health {
            // Perhaps it was the bound that was in the way.
            self.probe(retry);
        }
    }

    /// Commits as much of what waits as one transaction may hold, and answers it.
    fn write_batch(&mut self) {
        let mut bytes = 0;
        let mut batch = Vec::with_capacity(self.waiting.len().min(BATCH_APPENDS));
        while batch.len() < BATCH_APPENDS && bytes < BATCH_BYTES {
            let Some(append) = self.waiting.pop_front() else { break };
            bytes += append.body.len();
            batch.push(append);
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
                let appended = batch.into_iter().zip(decisions).map(|(append, decision)| decided(append, decision));
                let appended = StoreEvent::Appended(appended.collect());
                self.answers.send([Some(appended), self.recovered()].into_iter().flatten());
                self.untidy = true;
                self.idle = self.writer.timing.idle;
                self.bound_the_wal();
            }
            Err(reason) => {
                let appended = StoreEvent::Appended(batch.into_iter().map(refused).collect());
                self.answers.send([Some(appended), self.failed(reason)].into_iter().flatten());
            }
        }
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

    /// Drops keys that are too old, and empties the WAL.
    fn tidy(&mut self) {
        // A failure shows at the next append, if it lasts.
        let _ = self.prune.step(&self.writer.conn, self.running());
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
        Decision::Refused => Outcome::Unavailable,
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
