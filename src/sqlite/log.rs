//! The log on disk behind [`Store`]: starts the threads of an opened database, and passes requests and answers
//! between them and the event loop. [`Sqlite::open`] is in `repair/opening.rs`, since it may have to salvage first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::batch::{self, Write};
use super::checkpoint::Copier;
use super::clock::Clock;
use super::lock::Lock;
use super::open::Opened;
use super::reader::Reader;
use super::schema::Begun;
use super::scrub::Scrub;
use super::unfolded::{self, FoldLimits};
use super::worker::{Answers, STACK_BYTES, Worker};
use super::writer::{Command, Timing, WriterParts};
use super::{OpenError, StoreOptions, open, scrub, sealing};
use crate::store::{Bounds, Read, Store, StoreEvent, StoreRequest};
use crate::types::Epoch;

/// Maximum memory of the three threads, in bytes: page caches, stacks, the rooms that the writer caches, and what waits
/// for a fold.
pub const FIXED_BYTES: usize =
    2 * ((open::CACHE_KIB as usize) << 10) + 3 * STACK_BYTES + batch::ROOMS * 150 + unfolded::MOST_MEMORY;

/// A database and its threads. Dropping it waits for them, but does not record a clean shutdown.
pub struct Sqlite {
    begun: Begun,
    bounds: Bounds,
    remarks: Vec<String>,
    note: Option<String>,
    events: Receiver<StoreEvent>,
    /// Holds a sender to the writer, which ends once no sender is left: fields are dropped in this order.
    reader: Worker<Vec<Read>, ()>,
    writer: Worker<Command, Result<(), String>>,
    /// Held until both threads have ended.
    _lock: Lock,
}

impl Sqlite {
    /// Starts the threads of an opened database. They call `wake` when they have sent an answer.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(
        options: &StoreOptions,
        lock: Lock,
        opened: Opened,
        wake: impl Fn() + Send + Clone + 'static,
        timing: Timing,
    ) -> Result<Sqlite, OpenError> {
        let (sender, events) = channel();
        let answers = || Answers { events: sender.clone(), wake: Box::new(wake.clone()) };
        let shared = Shared { timing, clock: Clock::System, damaged: Arc::default() };
        let no_thread = |error| OpenError::Thread { error };

        let (mut writer, reader, held) = shared.divide(options, opened);
        writer.copier = writer.copier.on_a_thread(answers()).map_err(no_thread)?;
        let to = answers();
        let writer =
            Worker::start("writer", answers(), move |commands| writer.run(&commands, to)).map_err(no_thread)?;

        // proof: it has just been started.
        let reader = reader(writer.requests.clone().expect("a sender to the writer"));
        let to = answers();
        let reader =
            Worker::start("reader", answers(), move |requests| reader.run(&requests, &to)).map_err(no_thread)?;

        Ok(Sqlite {
            begun: held.begun,
            bounds: options.bounds,
            remarks: held.remarks,
            note: held.note,
            events,
            reader,
            writer,
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

    /// Sets new limits, which take effect in order with the requests submitted.
    fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.writer.send(Command::Bound(bounds));
    }

    /// Submits the requests, with one send to each thread. A dead thread has sent [`StoreEvent::Died`], and requests to
    /// it are lost.
    fn submit(&mut self, requests: &mut Vec<StoreRequest>) {
        let (writes, reads) = batch::divide(requests);
        if !writes.is_empty() {
            let is_urgent = writes.iter().any(Write::is_urgent);
            self.writer.send(Command::Write(writes));
            if is_urgent {
                self.writer.hurry();
            }
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

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        // The last connection to close removes the WAL, and the reader's may not write.
        self.reader.join();
        self.writer.send(Command::Finish);
        self.writer.hurry();
        self.writer.join().unwrap_or_else(|| Err("the store's writer thread has died".to_owned()))
    }
}

/// State that the writer and the reader share, in addition to the opened database.
pub(super) struct Shared {
    pub timing: Timing,
    pub clock: Clock,
    pub damaged: Arc<AtomicBool>,
}

/// The part of an opened log that its owner keeps.
pub(super) struct Held {
    pub begun: Begun,
    pub remarks: Vec<String>,
    pub note: Option<String>,
}

impl Shared {
    /// Divides an opened database among the writer, the reader (built once a sender to the writer exists) and the
    /// owner. Used both with threads and without.
    pub fn divide(
        &self,
        options: &StoreOptions,
        opened: Opened,
    ) -> (WriterParts, impl FnOnce(Sender<Command>) -> Reader + use<>, Held) {
        let Opened { writer, reader, copier, files, identity, most_pages, pages, begun, remarks, note, .. } = opened;
        let writer = WriterParts {
            conn: writer,
            copier: Copier::Inline(copier),
            files,
            identity,
            timing: self.timing,
            clock: self.clock.clone(),
            bounds: options.bounds,
            most_pages,
            pages,
            fold_limits: FoldLimits::USUAL,
            damaged: self.damaged.clone(),
            running_before: begun.running,
            sealing: options.data_key.as_ref().map(|key| sealing::Sealing::new(key, &begun.log_salt)),
            sealed_body: options.sealed_body,
        };
        let records = options.data_key.as_ref().map(|key| key.records(&begun.log_salt));
        let due = begun.scrubbed.map_or(0, |then| (then + scrub::PERIOD).saturating_sub(begun.running));
        let begin = Instant::now() + self.timing.scrub.max(Duration::from_secs(due.min(scrub::PERIOD)));
        let scrub = Scrub::new(options.scrub_rate, begin, self.timing.retry);
        let damaged = self.damaged.clone();
        let reader =
            move |notes| Reader { conn: reader, damaged, records, told: BTreeSet::new(), failing: false, scrub, notes };
        (writer, reader, Held { begun, remarks, note })
    }
}
