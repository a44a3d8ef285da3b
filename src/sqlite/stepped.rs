//! The log on disk without its threads: the same writer and reader, stepped by the caller, with clocks that the caller
//! sets. What it does depends only on the calls, so that a simulation can repeat a run exactly.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::batch;
use super::clock::{Clock, SetClock};
use super::lock::Lock;
use super::log::{Held, Shared};
use super::open::Opened;
use super::reader::Reader;
use super::schema::Begun;
use super::worker::Answers;
use super::writer::{Command, Timing, WriterLoop};
use crate::sqlite::StoreOptions;
use crate::store::{Bounds, Read, Standing, StoreEvent, StoreRequest};
use crate::types::{Epoch, SessionId};

/// A database that the caller steps by hand. Dropping it leaves the files as a killed process would.
pub struct SteppedLog {
    begun: Begun,
    remarks: Vec<String>,
    writer: WriterLoop,
    reader: Reader,
    answers: Answers,
    events: Receiver<StoreEvent>,
    /// Commands from the reader to the writer.
    notes: Receiver<Command>,
    _lock: Lock,
}

impl SteppedLog {
    /// Starts an opened database.
    pub(super) fn start(options: &StoreOptions, lock: Lock, opened: Opened, clock: SetClock) -> SteppedLog {
        let (sender, events) = channel();
        let answers = || Answers { events: sender.clone(), wake: Box::new(|| {}) };
        let damaged = Arc::new(AtomicBool::new(false));
        let shared = Shared { timing: Timing::USUAL, clock: Clock::Set(clock), damaged };
        let (writer, reader, Held { begun, remarks, .. }) = shared.divide(options, opened);
        let (sender, notes) = channel();
        let reader = reader(sender);
        let writer = WriterLoop::new(writer, answers());
        SteppedLog { begun, remarks, writer, reader, answers: answers(), events, notes, _lock: lock }
    }

    /// Returns the log's epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.begun.epoch
    }

    /// Returns the key that seals session tokens.
    pub fn token_key(&self) -> [u8; 32] {
        self.begun.token_key
    }

    /// Returns how many seconds racerd had run on this log in total when it was opened.
    pub fn running_seconds(&self) -> u64 {
        self.begun.running
    }

    /// Returns remarks for the operator about the opening, one line each.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Decides and commits these writes, in one transaction if they fit. Reads among them are answered afterwards.
    pub fn answer(&mut self, requests: &mut Vec<StoreRequest>, events: &mut Vec<StoreEvent>) {
        let (writes, reads) = batch::divide(requests);
        if !writes.is_empty() {
            self.writer.accept(Command::Write(writes));
            self.writer.write_all();
        }
        for read in reads {
            self.reader.answer(read, &self.answers);
        }
        self.take_notes();
        events.extend(self.events.try_iter());
    }

    /// Reads one page.
    pub fn read(&mut self, read: Read, events: &mut Vec<StoreEvent>) {
        self.reader.answer(read, &self.answers);
        self.take_notes();
        events.extend(self.events.try_iter());
    }

    fn take_notes(&mut self) {
        for note in self.notes.try_iter() {
            self.writer.accept(note);
        }
    }

    /// Replaces the limits.
    pub fn set_bounds(&mut self, bounds: Bounds, events: &mut Vec<StoreEvent>) {
        self.writer.accept(Command::Bound(bounds));
        events.extend(self.events.try_iter());
    }

    /// Returns the running seconds for which no key had been used that was given up for space, if any was since the
    /// start.
    pub fn youngest_key_given(&self) -> Option<u64> {
        self.writer.giving.youngest_key()
    }

    /// Returns what the database says of a session's tokens.
    pub fn recorded(&self, session: SessionId) -> Option<Standing> {
        self.writer.recorded(session)
    }

    /// Returns how long the writer would wait for a request before the next piece of upkeep; `None` means forever.
    pub fn patience(&self) -> Option<Duration> {
        self.writer.patience()
    }

    /// Does one piece of upkeep, if one is due.
    pub fn use_the_pause(&mut self, events: &mut Vec<StoreEvent>) {
        self.writer.use_the_pause();
        events.extend(self.events.try_iter());
    }

    /// Records a clean shutdown.
    ///
    /// # Errors
    /// The reason why the log may not be complete on disk.
    pub fn finish(self) -> Result<(), String> {
        // The last connection to close removes the WAL, and the reader's may not write.
        drop(self.reader);
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::contract::options;
    use crate::store::samples::{append, read, stored};
    use crate::store::{Outcome, Span};
    use crate::testing::TempDir;
    use crate::types::{Durability, Millis, WallMillis};

    fn open(directory: &TempDir, options: &StoreOptions) -> (SteppedLog, SetClock) {
        let clock = SetClock::default();
        let options = StoreOptions { path: directory.path().join("racerd.db"), ..options.clone() };
        (SteppedLog::open(&options, clock.clone()).unwrap(), clock)
    }

    fn outcomes(events: Vec<StoreEvent>) -> Vec<Outcome> {
        let appended = events.into_iter().filter_map(|event| match event {
            StoreEvent::Appended(list) => Some(list.into_iter().map(|one| one.outcome)),
            _ => None,
        });
        appended.flatten().collect()
    }

    #[test]
    fn every_answer_is_there_when_a_step_returns() {
        let directory = TempDir::new();
        let (mut log, _) = open(&directory, &options(directory.path(), Durability::Full));
        let mut requests = vec![
            StoreRequest::Append(append("a", "1", 5)),
            StoreRequest::Read(read("a", Span::Newest, 10, 1000)),
            StoreRequest::Append(append("a", "2", 4)),
        ];
        let mut events = Vec::new();
        log.answer(&mut requests, &mut events);
        assert!(requests.is_empty());
        let page = events.iter().find_map(|event| if let StoreEvent::Page(page) = event { Some(page) } else { None });
        assert_eq!(page.map(|page| page.messages.len()), Some(2), "what is written comes before what is read");
        assert_eq!(outcomes(events).iter().map(|outcome| stored(outcome).seq.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_was_answered_survives_the_end_of_the_process() {
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        let (mut log, _) = open(&directory, &options);
        let epoch = log.epoch().clone();
        log.answer(&mut vec![StoreRequest::Append(append("a", "1", 5))], &mut Vec::new());
        drop(log);
        let (mut log, _) = open(&directory, &options);
        let mut events = Vec::new();
        log.read(read("a", Span::Newest, 10, 1000), &mut events);
        assert!(matches!(&events[..], [StoreEvent::Page(page)] if page.messages.len() == 1), "{events:?}");
        assert_eq!(*log.epoch(), epoch);
        assert_eq!(log.finish(), Ok(()));
    }

    #[test]
    fn upkeep_goes_by_the_clocks_that_are_set() {
        let directory = TempDir::new();
        let mut options = options(directory.path(), Durability::Full);
        options.bounds.keep_for = 60_000;
        let (mut log, clock) = open(&directory, &options);
        let oldest = |log: &mut SteppedLog| {
            let mut events = Vec::new();
            log.read(read("a", Span::Newest, 10, 1000), &mut events);
            match &events[..] {
                [StoreEvent::Page(page)] => page.oldest.0,
                other => panic!("{other:?}"),
            }
        };
        const BEGIN: u64 = 1_790_000_000_000;
        clock.set(Millis(0), WallMillis(BEGIN));
        log.use_the_pause(&mut Vec::new());
        log.answer(&mut vec![StoreRequest::Append(append("a", "1", BEGIN))], &mut Vec::new());
        log.answer(&mut vec![StoreRequest::Append(append("a", "2", BEGIN + 50_000))], &mut Vec::new());
        for second in 0..100 {
            clock.set(Millis(second * 1000), WallMillis(BEGIN + second * 1000));
            log.use_the_pause(&mut Vec::new());
            let expected = if second < 60 { 1 } else { 2 };
            let found = oldest(&mut log);
            // Ages are checked every ten seconds.
            assert!(found == expected || (60..72).contains(&second), "at {second} s: {found}");
        }
        assert_eq!(log.finish(), Ok(()));
    }
}
