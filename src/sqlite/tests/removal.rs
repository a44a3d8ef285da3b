//! Rooms that are removed, and come anew: which go and when, what they begin with, and what a kill in between leaves.

use crate::sqlite::contract::{options, parked};
use crate::sqlite::tests::outside;
use crate::sqlite::{SetClock, SteppedLog, StoreOptions, backup, check, restore, salvage};
use crate::store::samples::{append, keyed, read, room, ticket};
use crate::store::{
    Append, Appended, Claim, Outcome, Page, Parked, Purpose, Removed, Scope, Span, StoreEvent, StoreRequest,
};
use crate::testing::{TempDir, older};
use crate::types::{Durability, Era, Millis, Seq, SessionId, WallMillis};

const BEGIN: u64 = 1_790_000_000_000;
const HOUR: u64 = 3_600_000;

/// How long messages are kept, and then keys, parked sessions and unused rooms: in milliseconds.
const KEEP: u64 = HOUR;
const PARK: u64 = 10 * HOUR;

/// A log whose clocks the test sets.
struct Log {
    options: StoreOptions,
    log: SteppedLog,
    clock: SetClock,
    now: u64,
    events: Vec<StoreEvent>,
}

impl Log {
    fn new(directory: &TempDir, change: impl FnOnce(&mut StoreOptions)) -> Log {
        let mut options = options(directory.path(), Durability::Full);
        (options.bounds.keep_for, options.bounds.park_for) = (KEEP, PARK / 1000);
        change(&mut options);
        Log::open(options, 0)
    }

    fn open(options: StoreOptions, now: u64) -> Log {
        let clock = SetClock::default();
        clock.set(Millis(now), WallMillis(BEGIN + now));
        let log = SteppedLog::open(&options, clock.clone()).unwrap();
        Log { options, log, clock, now, events: Vec::new() }
    }

    /// Ends the process, and starts another.
    fn killed(self) -> Log {
        let Log { options, log, now, .. } = self;
        drop(log);
        Log::open(options, now)
    }

    fn ask(&mut self, request: StoreRequest) -> Vec<StoreEvent> {
        self.events.clear();
        self.log.answer(&mut vec![request], &mut self.events);
        std::mem::take(&mut self.events)
    }

    fn append(&mut self, append: Append) -> Appended {
        let events = self.ask(StoreRequest::Append(Append { at: WallMillis(BEGIN + self.now), ..append }));
        let appended = |event| if let StoreEvent::Appended(mut list) = event { list.pop() } else { None };
        events.into_iter().find_map(appended).expect("an answer")
    }

    /// Stores a message in a room; returns its seq and the room's era.
    fn say(&mut self, to: &str) -> (u64, u64) {
        let Appended { era, outcome, .. } = self.append(append(to, "1", 0));
        let Outcome::Stored(message) = outcome else { panic!("{outcome:?}") };
        (message.seq.0, era.unwrap().0)
    }

    fn remove(&mut self, name: &str) -> bool {
        let events = self.ask(StoreRequest::Remove(room(name)));
        let removed = events.iter().find_map(|event| match event {
            StoreEvent::Removed(Removed { room: removed, is_gone }) if *removed == room(name) => Some(*is_gone),
            _ => None,
        });
        removed.expect("an answer")
    }

    /// Lets time pass, with all upkeep that is due. Returns the rooms that were proposed.
    fn later(&mut self, milliseconds: u64) -> Vec<String> {
        let mut proposed = Vec::new();
        for _ in 0..20 {
            self.now += milliseconds / 20;
            for _ in 0..20 {
                self.now += 200;
                self.clock.set(Millis(self.now), WallMillis(BEGIN + self.now));
                self.log.use_the_pause(&mut self.events);
            }
        }
        for event in self.events.drain(..) {
            if let StoreEvent::Unused(rooms) = event {
                proposed.extend(rooms.into_iter().map(|room| room.as_str().to_owned()));
            }
        }
        proposed.dedup();
        proposed
    }

    /// Returns head, oldest and era, as a reader is told.
    fn page(&mut self, of: &str) -> (u64, u64, u64) {
        self.log.read(read(of, Span::Newest, 10, 1000), &mut self.events);
        let page =
            self.events.drain(..).find_map(|event| if let StoreEvent::Page(page) = event { Some(page) } else { None });
        let Page { head, oldest, era, .. } = page.expect("a page");
        (head.0, oldest.0, era.0)
    }

    fn close(self) {
        let path = self.options.path.clone();
        self.log.finish().unwrap();
        assert_eq!(check(&path, None).unwrap().faults, [""; 0]);
    }
}

#[test]
fn a_room_that_nobody_uses_goes_and_comes_anew_under_another_era() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    assert_eq!((log.say("a"), log.say("a"), log.say("b")), ((1, 0), (2, 0), (1, 0)));
    assert!(log.later(KEEP + HOUR).is_empty());
    assert_eq!((log.page("a"), log.page("b")), ((2, 3, 0), (1, 2, 0)), "empty, and known");
    assert!(log.later(PARK - HOUR / 2).is_empty(), "use is recorded hourly: it may have been used an hour later");
    log.say("b");
    assert_eq!(log.later(HOUR), ["a"]);
    assert!(log.remove("a") && !log.remove("b") && !log.remove("a") && !log.remove("nowhere"));
    assert_eq!((log.page("a"), log.page("b").2), ((0, 1, 1), 0));
    assert_eq!(log.page("new"), (0, 1, 0), "whoever was told of a room that was never written to is told the same");
    // The answer may never have come.
    log = log.killed();
    assert_eq!((log.page("a"), log.say("a"), log.say("a")), ((0, 1, 1), (1, 1), (2, 1)));
    assert_eq!((log.say("b"), log.page("a").2), ((3, 0), 1), "those that were there stay what they are");
    // What its members were told counts, whatever was removed meanwhile.
    let told = |log: &mut Log, name: &str, era| {
        log.append(Append { era: Some(Era(era)), ..append(name, "1", 0) }).era.unwrap().0
    };
    assert_eq!((told(&mut log, "new", 7), told(&mut log, "a", 0)), (7, 1));
    log.close();
}

#[test]
fn a_room_in_use_stays() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    for name in ["idle", "keyed", "posted", "joined", "parked", "claimed", "written"] {
        log.say(name);
    }
    let parking = |n, name: &str| Parked { rooms: vec![(room(name), Seq(1))], ..parked(n, 1) };
    log.ask(StoreRequest::Park(parking(1, "claimed")));
    log.later(KEEP + PARK);
    // Each in its way, long after they were emptied.
    log.append(keyed("keyed", "1", crate::store::samples::ALICE, "k"));
    log.append(keyed("posted", "1", Scope::Common, "k"));
    log.ask(StoreRequest::Use(room("joined")));
    log.ask(StoreRequest::Park(parking(2, "parked")));
    log.ask(StoreRequest::Park(parking(3, "claimed")));
    log.say("written");
    let mut proposed = log.later(3 * HOUR);
    proposed.sort_unstable();
    assert_eq!(proposed, ["idle"]);
    for name in ["keyed", "posted", "joined", "parked", "claimed", "written"] {
        assert!(!log.remove(name), "{name}");
    }
    // A session that comes back is a use: it may join before the hub's request is decided.
    log.later(PARK - 5 * HOUR);
    let claim = Claim { ticket: ticket(Purpose::Resume, 1), session: SessionId([3; 16]) };
    let claimed = log.ask(StoreRequest::Claim(claim));
    let is_back = |event: &StoreEvent| matches!(event, StoreEvent::Claimed(claimed) if claimed.parked.is_some());
    assert!(claimed.iter().any(is_back), "{claimed:?}");
    log.later(3 * HOUR);
    assert!(!log.remove("claimed") && log.remove("joined"));
    // What was proposed is looked at again when it is to go.
    log.later(PARK);
    assert!(log.later(2 * HOUR).contains(&"claimed".to_owned()));
    log.say("claimed");
    assert!(!log.remove("claimed"));
    log.close();
}

/// A room that a repeat has brought into the writer's memory is not taken for the one that comes anew.
#[test]
fn a_room_that_the_writer_knows_is_forgotten_with_its_row() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    let first = || keyed("a", "1", crate::store::samples::ALICE, "k");
    assert!(matches!(log.append(first()).outcome, Outcome::Stored(_)));
    log.later(2 * KEEP);
    assert!(matches!(log.append(first()).outcome, Outcome::Duplicate { .. }));
    log.later(PARK + 3 * HOUR);
    assert!(log.remove("a"));
    assert_eq!((log.say("a"), log.page("a")), ((1, 1), (1, 1, 1)));
    log.close();
}

/// The number of a removed room is given again, so rooms that go make space for others.
#[test]
fn a_removed_room_makes_space_for_another() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |options| options.bounds.rooms_max = 3);
    for name in ["a", "b", "c"] {
        log.say(name);
    }
    assert_eq!(log.append(append("d", "1", 0)).outcome, Outcome::RoomsFull { limit: 3 });
    log.later(KEEP + PARK + 3 * HOUR);
    for (removed, new) in [("b", "d"), ("a", "e"), ("c", "f"), ("f", "g")] {
        if removed == "f" {
            log.later(KEEP + PARK + 3 * HOUR);
        }
        assert!(log.remove(removed), "{removed}");
        assert_eq!(log.say(new).0, 1);
        assert_eq!(log.append(append("one-more", "1", 0)).outcome, Outcome::RoomsFull { limit: 3 });
    }
    log = log.killed();
    assert_eq!((log.page("g"), log.page("f")), ((1, 1, 0), (0, 1, 1)));
    log.close();
}

#[test]
fn a_backup_knows_what_was_removed() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    log.say("a");
    log.say("b");
    log.later(KEEP + PARK + 3 * HOUR);
    assert!(log.remove("a"));
    assert_eq!(log.say("a"), (1, 1));
    let (options, now) = (log.options.clone(), log.now);
    let copy = directory.path().join("copy.db");
    backup(&options.path, &copy, false, Box::new(|_, _| ())).unwrap();
    assert!(log.remove("b"));
    log.close();
    restore(&copy, &options.path, Box::new(|_, _| ())).unwrap();
    let mut log = Log::open(options, now);
    assert_eq!((log.page("a"), log.page("b"), log.page("new")), ((1, 1, 1), (1, 2, 0), (0, 1, 0)));
    assert_eq!(log.say("a"), (2, 1));
    log.close();
}

/// What a salvage finds in the pages of a removed room would be taken for messages of the room that has its number now.
#[test]
fn nothing_of_a_removed_room_stays_in_the_file() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    for n in 0..300 {
        log.append(append("a", &format!("\"of-the-old-room {n} {}\"", "x".repeat(40)), 0));
    }
    log.say("b");
    log.later(KEEP + PARK + 3 * HOUR);
    assert!(log.remove("a"));
    assert_eq!(log.say("new"), (1, 0));
    let path = log.options.path.clone();
    log.close();
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(15).any(|bytes| bytes == b"of-the-old-room"));
}

/// The numbers that are free are found again by a salvage, and rooms without messages are as young as can be.
#[test]
fn a_salvaged_database_has_space_for_as_many_rooms() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |options| options.bounds.rooms_max = 3);
    for name in ["a", "b", "c"] {
        log.say(name);
    }
    log.later(KEEP + PARK + 3 * HOUR);
    assert!(log.remove("a"));
    log.say("c");
    let (options, now) = (log.options.clone(), log.now);
    log.close();
    let new = directory.path().join("new.db");
    salvage(&options.path, &new, None).unwrap();
    let mut log = Log::open(StoreOptions { path: new, ..options }, now);
    assert_eq!((log.page("b").0, log.page("c").0), (1, 2));
    assert!(log.later(HOUR).is_empty());
    assert!(!log.remove("b"));
    assert_eq!(log.say("d"), (1, 0));
    assert_eq!(log.append(append("e", "1", 0)).outcome, Outcome::RoomsFull { limit: 3 });
    log.close();
}

/// The rooms of an older racerd are what they were: nobody is sent back to their beginnings.
#[test]
fn rooms_of_the_version_before_keep_their_epoch() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, |_| ());
    assert_eq!((log.say("a"), log.say("b")), ((1, 0), (1, 0)));
    log.later(KEEP + PARK / 2);
    log.say("b");
    let (options, now, epoch) = (log.options.clone(), log.now, log.log.epoch().clone());
    log.close();
    outside(&options.path).execute_batch(&older::back_to(8)).unwrap();
    let mut log = Log::open(options, now);
    assert_eq!(*log.log.epoch(), epoch);
    assert_eq!((log.page("a"), log.page("b"), log.page("new")), ((1, 2, 0), (2, 2, 0), (0, 1, 0)));
    assert!(log.later(PARK - HOUR).is_empty(), "unused from the upgrade on");
    assert_eq!(log.say("b"), (3, 0));
    assert!(log.later(3 * HOUR).contains(&"a".to_owned()));
    assert!(log.remove("a"));
    log.close();
}
