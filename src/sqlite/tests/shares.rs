//! Who may still write, and what gives way, near the maximum size of the database.

use rusqlite::Connection;

use crate::sqlite::contract::options;
use crate::sqlite::{SetClock, SteppedLog, StoreOptions, check};
use crate::store::samples::{append, keyed, read};
use crate::store::{About, Append, Outcome, Scope, Span, StoreEvent, StoreRequest};
use crate::testing::TempDir;
use crate::types::{Durability, Millis, SessionId, WallMillis};

const BEGIN: u64 = 1_790_000_000_000;

/// Needs of a sender that is over its share as soon as the database is nearly full.
const OVER: u64 = u64::MAX;

pub(super) struct Log {
    pub options: StoreOptions,
    pub log: SteppedLog,
    clock: SetClock,
    now: u64,
    /// Whether the operator was told that senders over their share are refused, at each change.
    told: Vec<bool>,
}

impl Log {
    pub fn new(directory: &TempDir, bytes: u64, keep_messages: u64) -> Log {
        let mut options = options(directory.path(), Durability::Full);
        (options.bounds.max_database_size, options.bounds.keep_messages) = (bytes, keep_messages);
        Log::open(options)
    }

    pub fn open(options: StoreOptions) -> Log {
        let clock = SetClock::default();
        clock.set(Millis(0), WallMillis(BEGIN));
        let log = SteppedLog::open(&options, clock.clone()).unwrap();
        Log { options, log, clock, now: 0, told: Vec::new() }
    }

    /// Ends the process, and starts another.
    pub fn killed(self) -> Log {
        let Log { options, log, .. } = self;
        drop(log);
        Log::open(options)
    }

    pub fn take(&mut self, events: Vec<StoreEvent>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for event in events {
            match event {
                StoreEvent::Note { about: About::Shares, text } => self.told.push(text.is_some()),
                StoreEvent::Appended(list) => outcomes.extend(list.into_iter().map(|appended| appended.outcome)),
                _ => {}
            }
        }
        outcomes
    }

    /// Hands a message in, for a sender that needs so many bytes left. Then some time passes, with all upkeep that is
    /// due.
    pub fn append(&mut self, append: Append, needs: u64) -> Outcome {
        let ticket = append.ticket.needing(needs);
        self.append_all(vec![Append { ticket, ..append }], 120).pop().expect("an answer")
    }

    /// Hands messages in together. Then so many milliseconds pass, with the upkeep that is due.
    pub fn append_all(&mut self, appends: Vec<Append>, millis: u64) -> Vec<Outcome> {
        let mut events = Vec::new();
        let at = WallMillis(BEGIN + self.now);
        let mut requests = appends.into_iter().map(|append| StoreRequest::Append(Append { at, ..append })).collect();
        self.log.answer(&mut requests, &mut events);
        self.pass(millis, &mut events);
        self.take(events)
    }

    /// Lets so many milliseconds pass, with the upkeep that is due.
    pub fn pass(&mut self, millis: u64, events: &mut Vec<StoreEvent>) {
        self.now += millis;
        self.clock.set(Millis(self.now), WallMillis(BEGIN + self.now));
        self.log.use_the_pause(events);
    }

    pub fn say(&mut self, to: &str, bytes: usize, needs: u64) -> Outcome {
        self.append(append(to, &format!("\"{}\"", "x".repeat(bytes)), 0), needs)
    }

    /// Stores so many messages of a sender within its share.
    pub fn fill(&mut self, room: &str, messages: usize, bytes: usize) {
        (0..messages).for_each(|_| assert!(is_stored(&self.say(room, bytes, 0))));
    }

    /// Returns the oldest message of a room, and its head.
    pub fn ends(&mut self, of: &str) -> (u64, u64) {
        let mut events = Vec::new();
        self.log.read(read(of, Span::Newest, 0, 1000), &mut events);
        let ends = events.iter().find_map(|event| match event {
            StoreEvent::Page(page) => Some((page.oldest.0, page.head.0)),
            _ => None,
        });
        ends.expect("a page")
    }

    pub fn close(self) {
        let path = self.options.path.clone();
        self.log.finish().unwrap();
        assert_eq!(check(&path, None).unwrap().faults, [""; 0]);
    }
}

pub(super) fn is_stored(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored(_))
}

#[test]
fn who_is_over_the_share_is_refused_and_others_still_write() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 2 << 20, 0);
    let first = log.append(keyed("lobby", "1", Scope::Common, "first"), 10);
    assert!(is_stored(&first));
    // One sender, whose needs are twice what it has written.
    let mut written = 0;
    let refused = loop {
        let outcome = log.say("junk", 10_000, 2 * (written + 10_100));
        if !is_stored(&outcome) {
            break outcome;
        }
        written += 10_100;
    };
    assert_eq!((refused, log.told.clone()), (Outcome::OverShare, vec![true]));
    assert!((3 << 18..7 << 18).contains(&written), "about three quarters: {written}");
    assert_eq!(log.say("new", 10, OVER), Outcome::OverShare);
    assert!(matches!(log.append(keyed("lobby", "1", Scope::Common, "first"), OVER), Outcome::Duplicate { .. }));
    // Whoever has written little goes on, and nothing was deleted.
    for n in 0..20 {
        assert!(is_stored(&log.say("lobby", 100, 200 * (n + 1))) && is_stored(&log.say("another", 1_000, 0)));
        assert_eq!(log.say("junk", 10, OVER), Outcome::OverShare);
    }
    assert_eq!((log.ends("lobby"), log.ends("junk").0, log.told.clone()), ((1, 21), 1, vec![true]), "told once");
    // A larger maximum ends it.
    let bounds = crate::store::Bounds { max_database_size: 64 << 20, ..log.options.bounds };
    let mut events = Vec::new();
    log.log.set_bounds(bounds, &mut events);
    log.take(events);
    assert_eq!(log.told, [true, false]);
    assert!(is_stored(&log.say("junk", 10, OVER)));
    let path = log.options.path.clone();
    log.close();
    let count = |conn: &Connection| conn.query_row("SELECT count(*) FROM rooms", [], |row| row.get::<_, i64>(0));
    assert_eq!(count(&Connection::open(path).unwrap()), Ok(3), "no room was made for a message that was refused");
}

/// Large messages into ever new rooms, of senders over their share: the rooms of others keep all.
#[test]
fn new_rooms_of_who_is_over_the_share_give_way_first() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 2 << 20, 100_000);
    log.fill("lobby", 300, 200);
    for n in 0..200 {
        assert!(is_stored(&log.say(&format!("junk-{n}"), 30_000, OVER)), "{n}");
    }
    assert_eq!(log.ends("lobby"), (1, 300));
    let kept = (0..200).filter(|n| log.ends(&format!("junk-{n}")).0 == 1).count();
    assert!((20..70).contains(&kept), "{kept}");
    log.close();
}

#[test]
fn the_largest_room_gives_way_first() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 2 << 20, 100_000);
    log.fill("lobby", 100, 100);
    log.fill("large", 300, 20_000);
    let (oldest, head) = log.ends("large");
    assert!(head == 300 && oldest > 200, "{oldest}");
    assert_eq!(log.ends("lobby"), (1, 100));
    log.close();
}

#[test]
fn far_from_the_maximum_size_no_message_goes() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 2 << 20, 100_000);
    let pages = |log: &Log| {
        let conn = Connection::open(&log.options.path).unwrap();
        conn.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    // An eighth less than all.
    while pages(&log) < 448 {
        assert!(is_stored(&log.say("lobby", 2_000, 0)));
        assert_eq!(log.ends("lobby").0, 1, "of {} pages", pages(&log));
    }
    log.close();
}

/// After a restart nobody knows who wrote what, so size alone counts, up to the last message of a room.
#[test]
fn large_rooms_give_their_last_message_before_small_ones_give_any() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 2 << 20, 100_000);
    log.fill("lobby", 100, 100);
    for n in 0..40 {
        assert!(is_stored(&log.say(&format!("old-{n}"), 30_000, 0)));
    }
    log = log.killed();
    for n in 0..100 {
        assert!(is_stored(&log.say(&format!("junk-{n}"), 30_000, 0)), "{n}");
    }
    assert_eq!(log.ends("lobby"), (1, 100));
    log.close();
}

/// Returns a short message to one of many rooms; every second one has a key.
fn to_many_rooms(n: u64) -> Append {
    // Knuth's multiplicative hash.
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let room = format!("room-{}", (random >> 40) % 2_000);
    let scope = match n % 8 {
        0 => Scope::Session(SessionId(u128::from(random >> 52).to_be_bytes())),
        _ => Scope::Common,
    };
    if n.is_multiple_of(2) { keyed(&room, "1", scope, &n.to_string()) } else { append(&room, "1", 0) }
}

/// After some time nearly all that is left are keys, and the last messages of rooms. Folds split pages all over the
/// database, which takes more of them than are kept for folds.
#[test]
fn a_small_database_of_many_rooms_and_keys_goes_on() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 1 << 20, 10);
    for batch in 0..640 {
        if batch == 600 {
            log = log.killed();
        }
        let outcomes = log.append_all((0..16).map(|n| to_many_rooms(16 * batch + n)).collect(), 2_000);
        assert!(outcomes.iter().all(is_stored), "{batch}");
    }
    log.close();
}

/// Rooms with a single message each, and few keys: the upkeep's rounds in between change nothing in what gives way.
#[test]
fn oldest_messages_give_way_before_young_keys() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 1 << 20, 1);
    let mut last = 0;
    for batch in 0..500_u64 {
        let one = |n: u64| {
            let (room, body) = (format!("room-{}", n % 2_000), format!("\"{}\"", "x".repeat(350)));
            if n.is_multiple_of(16) {
                keyed(&room, &body, Scope::Common, &n.to_string())
            } else {
                append(&room, &body, 0)
            }
        };
        let outcomes = log.append_all((0..16).map(|n| one(16 * batch + n)).collect(), 2_000);
        assert!(outcomes.iter().all(is_stored), "{batch}");
        last = 16 * batch + 15;
    }
    // How long ago the messages were said that are gone.
    let is_gone = |ago: &u64| {
        let (oldest, head) = log.ends(&format!("room-{}", (last - ago) % 2_000));
        oldest > head
    };
    let gone: Vec<u64> = (0..2_000).filter(is_gone).collect();
    assert!(gone.first().is_some_and(|first| *first > 1_000), "it was full, and the oldest went: {gone:?}");
    assert_eq!(log.log.youngest_key_given(), None);
    log.close();
}

/// The attack: a new sender for each message, whose key takes as much as the message. Beyond a quarter of the maximum
/// size its own keys give way, not what others said.
#[test]
fn keys_of_many_senders_do_not_push_out_messages() {
    for scope in [|n: u64| Scope::Session(SessionId(n.to_be_bytes().repeat(2).try_into().unwrap())), |_| Scope::Common]
    {
        let directory = TempDir::new();
        let mut log = Log::new(&directory, 1 << 20, 1_000);
        log.fill("lobby", 400, 200);
        let mut last = 0;
        for batch in 0..1_500_u64 {
            last += 16;
            let one = |n: u64| keyed("other", "1", scope(n), &n.to_string());
            let outcomes = log.append_all((last - 16..last).map(one).collect(), 640);
            assert!(outcomes.iter().all(is_stored), "{batch}");
        }
        assert_eq!(log.ends("lobby"), (1, 400));
        assert!(log.log.youngest_key_given().is_some_and(|age| age >= 60));
        log.close();
    }
}

/// Keys that were just used stay: the messages may be repeated. So there may be nothing to give, but not for long.
#[test]
fn what_refuses_messages_in_a_database_full_of_young_keys_ends_after_a_minute() {
    let directory = TempDir::new();
    let mut log = Log::new(&directory, 1 << 20, 10);
    let mut count = 0;
    let mut batch = |log: &mut Log, millis| {
        count += 16;
        let of_young = |n: u64| keyed(&format!("room-{}", n % 2_000), "1", Scope::Common, &n.to_string());
        let outcomes = log.append_all((count - 16..count).map(of_young).collect(), millis);
        outcomes.iter().all(is_stored)
    };
    // Refused, and again after the pause between two searches.
    let is_full = (0..2_000).any(|_| !batch(&mut log, 10) && !batch(&mut log, 2_000) && !batch(&mut log, 10));
    assert!(is_full);
    assert_eq!(log.log.youngest_key_given(), None);
    batch(&mut log, 61_000);
    batch(&mut log, 2_000);
    assert!((0..50).all(|_| batch(&mut log, 10)), "as many as went");
    assert_eq!(log.log.youngest_key_given(), Some(60));
    log.close();
}
