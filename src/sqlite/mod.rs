//! The log on disk: two threads with a connection each. The writer decides and commits appends, batch by batch, in the
//! order in which they came; the reader reads pages. Each answers by a channel and then calls `wake`; what one answers
//! may overtake what the other does. A thread that panics says [`StoreEvent::Died`] as its last word (in a build with
//! `panic = "abort"` the process ends instead). They own the database and nothing else.

mod ages;
mod batch;
mod clock;
mod dating;
mod error;
mod files;
mod limits;
mod lock;
mod open;
mod options;
mod parked;
mod piecemeal;
mod prune;
mod reader;
mod repair;
mod retention;
mod rows;
mod schema;
mod scrub;
mod sealed_bodies;
mod sealing;
mod stepped;
mod upkeep;
mod wal;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod sealed_bodies_tests;
#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use self::clock::Clock;
pub use self::clock::SetClock;
pub use self::error::{OpenError, OperationError};
use self::lock::Lock;
use self::open::Opened;
pub use self::options::StoreOptions;
use self::reader::Reader;
pub use self::repair::{
    Checked, Progress, Rekeyed, Restored, Salvaged, backup, check, rekey, restore, salvage, side_file_of,
};
use self::schema::Begun;
use self::schema::VERSION;
use self::scrub::Scrub;
pub use self::stepped::SteppedLog;
use self::writer::{Command, Timing, Writer};
use crate::crypto::at_rest::DataKey;
use crate::store::{Bounds, Read, Store, StoreEvent, StoreRequest};
use crate::types::Epoch;

/// Enough for SQLite, whose deepest calls take less than half of it.
const STACK_BYTES: usize = 256 << 10;

/// What the two threads may take: page caches, stacks, and the rooms that the writer remembers, in bytes.
pub const FIXED_BYTES: usize = 2 * ((open::CACHE_KIB as usize) << 10) + 2 * STACK_BYTES + batch::ROOMS * 150;

/// A database and its two threads. Dropping it waits for them, but leaves no mark of a clean end.
pub struct Sqlite {
    begun: Begun,
    bounds: Bounds,
    remarks: Vec<String>,
    note: Option<String>,
    events: Receiver<StoreEvent>,
    /// Holds a way to the writer, which ends once there is none: fields are dropped in this order.
    reader: Worker<Vec<Read>, ()>,
    writer: Worker<Command, Result<(), String>>,
    wal_bytes: Arc<AtomicU64>,
    /// Held until both threads are gone.
    _lock: Lock,
}

impl Sqlite {
    pub fn open(options: &StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Result<Sqlite, OpenError> {
        Sqlite::open_timed(options, wake, Timing::USUAL)
    }

    fn open_timed(
        options: &StoreOptions,
        wake: impl Fn() + Send + Clone + 'static,
        timing: Timing,
    ) -> Result<Sqlite, OpenError> {
        let (lock, opened) = open::open(options)?;
        let (sender, events) = channel();
        let answers = || Answers { events: sender.clone(), wake: Box::new(wake.clone()) };
        let parts =
            Parts { timing, clock: Clock::System, damaged: Arc::default(), wal_bytes: Arc::new(AtomicU64::new(0)) };
        let no_thread = |error| OpenError::Thread { error };

        let (writer, reader, held) = parts.divide(options, opened);
        let to = answers();
        let writer =
            Worker::start("writer", answers(), move |commands| writer.run(&commands, to)).map_err(no_thread)?;

        // proof: it has just been started.
        let reader = reader(writer.requests.clone().expect("a way to the writer"));
        let to = answers();
        let reader =
            Worker::start("reader", answers(), move |requests| reader.run(&requests, &to)).map_err(no_thread)?;
        let wal_bytes = parts.wal_bytes;

        Ok(Sqlite {
            begun: held.begun,
            bounds: options.bounds,
            remarks: held.remarks,
            note: held.note,
            events,
            reader,
            writer,
            wal_bytes,
            _lock: lock,
        })
    }
}

impl Store for Sqlite {
    fn epoch(&self) -> &Epoch {
        &self.begun.epoch
    }

    fn token_key(&self) -> [u8; 32] {
        self.begun.token_key
    }

    fn running_seconds(&self) -> u64 {
        self.begun.running
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The new bounds hold in the order of what is submitted.
    fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.writer.send(Command::Bound(bounds));
    }

    /// Hands the requests over, with one send to each thread. To a dead thread they are lost; it has said
    /// [`StoreEvent::Died`].
    fn submit(&mut self, requests: &mut Vec<StoreRequest>) {
        let (writes, reads) = batch::divide(requests);
        if !writes.is_empty() {
            self.writer.send(Command::Write(writes));
        }
        if !reads.is_empty() {
            self.reader.send(reads);
        }
    }

    fn take(&mut self, events: &mut Vec<StoreEvent>) {
        events.extend(self.events.try_iter());
    }

    fn is_inline(&self) -> bool {
        false
    }

    fn wal_bytes(&self) -> u64 {
        self.wal_bytes.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        // The last connection to close takes the WAL away, and the reader's may not write.
        self.reader.join();
        self.writer.send(Command::Finish);
        self.writer.join().unwrap_or_else(|| Err("the store's writer thread has died".to_owned()))
    }
}

/// What a writer and a reader are made of, beside what opening gives.
struct Parts {
    timing: Timing,
    clock: Clock,
    damaged: Arc<AtomicBool>,
    wal_bytes: Arc<AtomicU64>,
}

/// The part of an opened log that stays with its owner.
struct Held {
    begun: Begun,
    remarks: Vec<String>,
    note: Option<String>,
}

impl Parts {
    /// Divides what opening gave between the writer, the reader, once there is a way from it to the writer, and the holder:
    /// the same with threads and without.
    fn divide(
        &self,
        options: &StoreOptions,
        opened: Opened,
    ) -> (Writer, impl FnOnce(Sender<Command>) -> Reader + use<>, Held) {
        let Opened { writer, reader, files, identity, most_pages, begun, remarks, note, .. } = opened;
        let writer = Writer {
            conn: writer,
            files,
            identity,
            timing: self.timing,
            clock: self.clock.clone(),
            bounds: options.bounds,
            most_pages,
            damaged: self.damaged.clone(),
            running_before: begun.running,
            wal_bytes: self.wal_bytes.clone(),
            sealing: options.data_key.as_ref().map(sealing::Sealing::new),
            sealed_body: options.sealed_body,
        };
        let records = options.data_key.as_ref().map(DataKey::records);
        let due = begun.scrubbed.map_or(0, |then| (then + scrub::PERIOD).saturating_sub(begun.running));
        let begin = Instant::now() + self.timing.scrub.max(Duration::from_secs(due.min(scrub::PERIOD)));
        let scrub = Scrub::new(options.scrub_rate, begin, self.timing.retry);
        let damaged = self.damaged.clone();
        let reader =
            move |notes| Reader { conn: reader, damaged, records, told: BTreeSet::new(), failing: false, scrub, notes };
        (writer, reader, Held { begun, remarks, note })
    }
}

/// A thread that works requests off, one after the other. Dropping it tells it to end and waits until it has.
struct Worker<Q, T> {
    /// `None` once it was told to end.
    requests: Option<Sender<Q>>,
    thread: Option<JoinHandle<Option<T>>>,
}

impl<Q: Send + 'static, T: Send + 'static> Worker<Q, T> {
    /// Starts `work`, which returns when nobody can send requests any more. If it panics, `answers` end with a
    /// [`StoreEvent::Died`].
    fn start(
        name: &'static str,
        answers: Answers,
        work: impl FnOnce(Receiver<Q>) -> T + Send + 'static,
    ) -> io::Result<Worker<Q, T>> {
        let (requests, receiver) = channel();
        let thread = Builder::new().name(format!("racerd-{name}")).stack_size(STACK_BYTES).spawn(move || {
            // Nothing of what `work` held is used after a panic.
            let result = catch_unwind(AssertUnwindSafe(|| work(receiver)));
            if result.is_err() {
                answers
                    .send([StoreEvent::Died(format!("the store's {name} thread panicked; this is a bug in racerd"))]);
            }
            result.ok()
        })?;
        Ok(Worker { requests: Some(requests), thread: Some(thread) })
    }

    fn send(&self, request: Q) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }
}

impl<Q, T> Worker<Q, T> {
    /// Lets it work off what it has, and waits for its end. `None` if it panicked, or was joined before.
    fn join(&mut self) -> Option<T> {
        self.requests = None;
        self.thread.take()?.join().ok()?
    }
}

impl<Q, T> Drop for Worker<Q, T> {
    fn drop(&mut self) {
        self.join();
    }
}

/// The way back to the loop.
struct Answers {
    events: Sender<StoreEvent>,
    wake: Box<dyn Fn() + Send>,
}

impl Answers {
    /// Sends these events, if any, and wakes the loop once. Nobody may be there any more to hear them.
    fn send(&self, events: impl IntoIterator<Item = StoreEvent>) {
        let mut any = false;
        for event in events {
            any |= self.events.send(event).is_ok();
        }
        if any {
            (self.wake)();
        }
    }
}
