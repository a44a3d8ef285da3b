//! The behavior required of every log, as one suite of tests for both: the log in memory and the one on disk.

mod appends;
mod model;
mod pages;
mod parking;
mod sealed_bodies;

pub(super) use sealed_bodies::sought;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Sqlite, StoreOptions};
use crate::crypto::at_rest::DataKey;
use crate::store::samples::*;
use crate::store::*;
use crate::testing::TempDir;
use crate::types::{Durability, MemberId, Message, Name, Seq, SessionId};

pub(super) fn options(directory: &Path, durability: Durability) -> StoreOptions {
    let sample = StoreOptions::sample(directory.join("racerd.db"));
    StoreOptions {
        durability,
        bounds: Bounds { commit_delay: Duration::from_millis(2), ..sample.bounds },
        scrub_rate: 1 << 40,
        sealed_body: sealed_body_of,
        ..sample
    }
}

/// Opens the kind of log that the options specify.
pub(super) fn open(options: StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Box<dyn Store> {
    match options.durability {
        Durability::Memory => Box::new(InMemory::new(options.bounds, &options.new_epoch, options.new_token_salt)),
        Durability::Full | Durability::Normal => Box::new(Sqlite::open(&options, wake).unwrap()),
    }
}

/// Returns a function that a store calls to wake its owner, and the receiver of these calls.
pub(super) fn wake() -> (impl Fn() + Send + Clone + 'static, Receiver<()>) {
    let (sender, wakes) = channel();
    let wake = move || {
        let _ = sender.send(());
    };
    (wake, wakes)
}

/// A store, and the waiting for it that the event loop does by polling.
pub(super) struct Bench {
    pub store: Box<dyn Store>,
    /// Reports received in between about whether the store is available.
    pub available: Vec<Result<(), String>>,
    /// Whether the store has reported that it is damaged.
    pub damaged: bool,
    /// Reports received in between about whether the WAL is long.
    pub long_wal: Vec<bool>,
    /// Reports received in between about whether further rooms are refused.
    pub full_of_rooms: Vec<bool>,
    wakes: Receiver<()>,
    events: VecDeque<StoreEvent>,
}

impl Bench {
    pub fn open(options: StoreOptions) -> Bench {
        let (wake, wakes) = wake();
        Bench::of(open(options, wake), wakes)
    }

    pub fn of(store: Box<dyn Store>, wakes: Receiver<()>) -> Bench {
        let (available, long_wal, full_of_rooms) = (Vec::new(), Vec::new(), Vec::new());
        Bench { store, available, damaged: false, long_wal, full_of_rooms, wakes, events: VecDeque::new() }
    }

    pub fn submit(&mut self, requests: impl IntoIterator<Item = StoreRequest>) {
        let mut requests = requests.into_iter().collect();
        self.store.submit(&mut requests);
        assert!(requests.is_empty(), "submit drains");
    }

    /// Returns the next answer.
    pub fn next(&mut self) -> StoreEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.take_or_wait();
        }
    }

    /// Waits for the store to report whether it is available.
    pub fn next_available(&mut self) -> Result<(), String> {
        while self.available.is_empty() {
            self.take_or_wait();
        }
        self.available.remove(0)
    }

    /// Waits for the store to report whether the WAL is long.
    pub fn next_long_wal(&mut self) -> bool {
        while self.long_wal.is_empty() {
            self.take_or_wait();
        }
        self.long_wal.remove(0)
    }

    fn take_or_wait(&mut self) {
        let mut events = Vec::new();
        self.store.take(&mut events);
        if events.is_empty() {
            assert!(!self.store.is_inline(), "the answers of an inline log are there at once");
            self.wakes.recv_timeout(Duration::from_secs(30)).expect("an answer");
        }
        for event in events {
            match event {
                StoreEvent::Available(available) => self.available.push(available.map_err(|outage| outage.detail)),
                StoreEvent::Damaged => self.damaged = true,
                StoreEvent::Note { about: About::Wal, text } => self.long_wal.push(text.is_some()),
                StoreEvent::Note { about: About::Rooms, text } => self.full_of_rooms.push(text.is_some()),
                event => self.events.push_back(event),
            }
        }
    }

    /// Submits all of these together, and collects their answers.
    pub fn append_all(&mut self, appends: Vec<Append>) -> Vec<Appended> {
        let count = appends.len();
        self.submit(appends.into_iter().map(StoreRequest::Append));
        let mut appended = Vec::new();
        while appended.len() < count {
            match self.next() {
                StoreEvent::Appended(more) => appended.extend(more),
                other => panic!("not asked for: {other:?}"),
            }
        }
        assert_eq!(appended.len(), count, "one answer each");
        appended
    }

    pub fn append(&mut self, append: Append) -> Outcome {
        self.append_all(vec![append]).remove(0).outcome
    }

    pub fn page(&mut self, read: Read) -> Page {
        let ticket = read.ticket;
        self.submit([StoreRequest::Read(read)]);
        match self.next() {
            StoreEvent::Page(page) => {
                assert_eq!(page.ticket, ticket);
                page
            }
            other => panic!("not a page: {other:?}"),
        }
    }

    /// Returns all of a room's messages, read page by page.
    pub fn everything(&mut self, of: &str) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |message| message.seq);
            let page = self.page(read(of, Span::After(after), 500, 1 << 20));
            all.extend(page.messages);
            if !page.more {
                assert_eq!(all.last().map_or(page.head, |last| last.seq), page.head);
                return all;
            }
        }
    }
}

/// Runs a test over each kind of log.
fn over_all(test: impl Fn(&mut Bench)) {
    let sealed = Some(DataKey::new([1; 32]));
    for (durability, data_key) in
        [(Durability::Memory, None), (Durability::Normal, None), (Durability::Full, None), (Durability::Normal, sealed)]
    {
        let directory = TempDir::new();
        let mut bench = Bench::open(StoreOptions { data_key, ..options(directory.path(), durability) });
        test(&mut bench);
        assert_eq!(bench.available, [], "{durability:?}");
        bench.store.finish().unwrap();
    }
}

pub(super) fn parked(n: u8, generation: u32) -> Parked {
    Parked {
        session: SessionId([n; 16]),
        member: MemberId::from_random(u64::from(n)),
        name: Name::parse("Zoë").unwrap(),
        generation,
        rooms: vec![(room("a"), Seq(u64::from(n))), (room("b"), Seq::ZERO)],
    }
}

impl Bench {
    pub fn claim(&mut self, n: u8) -> Option<Parked> {
        let claim = Claim { ticket: ticket(Purpose::Resume, u64::from(n)), session: SessionId([n; 16]) };
        self.submit([StoreRequest::Claim(claim)]);
        self.next_claimed(n)
    }

    pub fn next_claimed(&mut self, n: u8) -> Option<Parked> {
        match self.next() {
            StoreEvent::Claimed(claimed) => {
                assert_eq!((claimed.ticket, claimed.session.0), (ticket(Purpose::Resume, u64::from(n)), [n; 16]));
                claimed.parked
            }
            other => panic!("not claimed: {other:?}"),
        }
    }
}

const ROOMS: [&str; 3] = ["a", "b", "c"];
