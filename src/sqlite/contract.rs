//! What every log must do, as one suite of tests over both: the log in memory and the one on disk.

mod sealed_bodies;

pub(super) use sealed_bodies::sought;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use proptest::prelude::*;

use super::{Sqlite, StoreOptions};
use crate::crypto::at_rest::DataKey;
use crate::store::samples::*;
use crate::store::*;
use crate::types::{
    Author, Body, Digest, Durability, MemberId, Message, Name, OnDamage, RoomId, Seq, SessionId, WallMillis,
};

/// A directory of its own, gone at the end of the test.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("racerd-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn options(directory: &Path, durability: Durability) -> StoreOptions {
    StoreOptions {
        path: directory.join("racerd.db"),
        durability,
        bounds: Bounds {
            max_database_size: 1 << 30,
            memory_room_bytes: 64 << 20,
            memory_total_bytes: 256 << 20,
            keep_messages: 0,
            keep_for: 0,
            parked_max: 5,
            park_for: 7 * 24 * 3600,
        },
        on_damage: OnDamage::Stop,
        scrub_rate: 1 << 40,
        data_key: None,
        new_epoch: [0x1a; 8],
        new_token_key: [0x3c; 32],
        sealed_body: sealed_body_of,
        boot_id: "this-boot".to_owned(),
    }
}

/// Opens the log that the options ask for.
pub(super) fn open(options: StoreOptions, wake: impl Fn() + Send + Clone + 'static) -> Box<dyn Store> {
    match options.durability {
        Durability::Memory => Box::new(InMemory::new(options.bounds, &options.new_epoch, options.new_token_key)),
        Durability::Full | Durability::Normal => Box::new(Sqlite::open(&options, wake).unwrap()),
    }
}

/// What a store calls to wake its owner, and where that arrives.
pub(super) fn wake() -> (impl Fn() + Send + Clone + 'static, Receiver<()>) {
    let (sender, wakes) = channel();
    let wake = move || {
        let _ = sender.send(());
    };
    (wake, wakes)
}

/// A store with the waiting that the loop does by polling.
pub(super) struct Bench {
    pub store: Box<dyn Store>,
    /// What it said of itself, in between.
    pub available: Vec<Result<(), String>>,
    /// Whether the store has said that it is damaged.
    pub damaged: bool,
    wakes: Receiver<()>,
    events: VecDeque<StoreEvent>,
}

impl Bench {
    pub fn open(options: StoreOptions) -> Bench {
        let (wake, wakes) = wake();
        Bench::of(open(options, wake), wakes)
    }

    pub fn of(store: Box<dyn Store>, wakes: Receiver<()>) -> Bench {
        Bench { store, available: Vec::new(), damaged: false, wakes, events: VecDeque::new() }
    }

    pub fn submit(&mut self, requests: impl IntoIterator<Item = StoreRequest>) {
        let mut requests = requests.into_iter().collect();
        self.store.submit(&mut requests);
        assert!(requests.is_empty(), "submit drains");
    }

    /// The next answer.
    pub fn next(&mut self) -> StoreEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.take_or_wait();
        }
    }

    /// Waits for the store to say whether it is available.
    pub fn next_available(&mut self) -> Result<(), String> {
        while self.available.is_empty() {
            self.take_or_wait();
        }
        self.available.remove(0)
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
                event => self.events.push_back(event),
            }
        }
    }

    /// Submits these at once, and collects their answers.
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

    /// The whole of a room, page by page.
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

#[test]
fn seqs_are_contiguous_in_each_room_and_answers_keep_the_order() {
    over_all(|bench| {
        let appends: Vec<Append> = (0..300).map(|n| append(ROOMS[n % 3], &n.to_string(), n as u64)).collect();
        let appended = bench.append_all(appends.clone());
        let mut heads = HashMap::new();
        for (asked, answer) in appends.iter().zip(&appended) {
            let head = heads.entry(asked.room.clone()).or_insert(Seq::ZERO);
            *head = head.next();
            assert_eq!((answer.ticket, &answer.room, answer.bytes), (asked.ticket, &asked.room, asked.body.len()));
            let message = stored(&answer.outcome);
            assert_eq!((message.seq, &message.body, &message.author), (*head, &asked.body, &asked.author));
        }
        let log = bench.everything("b");
        let answers = appended.iter().map(|answer| stored(&answer.outcome));
        let answers: Vec<&Message> = answers.filter(|message| message.room == room("b")).collect();
        assert_eq!(log.iter().collect::<Vec<_>>(), answers, "the log says what the answers said");
    });
}

#[test]
fn a_key_sent_again_is_stored_once() {
    over_all(|bench| {
        let first = bench.append(keyed("a", "1", ALICE, "k1"));
        assert_eq!(stored(&first).seq, Seq(1));
        bench.append(append("a", "2", 5));
        let again = Outcome::Duplicate { seq: Seq(1), at: WallMillis(1) };
        assert_eq!(bench.append(keyed("a", "1", ALICE, "k1")), again);
        assert_eq!(bench.append(keyed("a", "other", ALICE, "k1")), Outcome::KeyReused);
        assert_eq!(bench.append(keyed("a", "1", ALICE, "k1")), again, "the refused one has changed nothing");
        assert_eq!(bench.everything("a").len(), 2);
    });
}

#[test]
fn equal_keys_in_one_batch_meet() {
    over_all(|bench| {
        let appended = bench.append_all(vec![
            keyed("a", "1", ALICE, "k"),
            keyed("a", "1", ALICE, "k"),
            keyed("a", "2", ALICE, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("a", "2", Scope::Common, "k"),
            append("a", "1", 1),
        ]);
        let outcomes: Vec<Outcome> = appended.into_iter().map(|answer| answer.outcome).collect();
        let at = WallMillis(1);
        assert_eq!(stored(&outcomes[0]).seq, Seq(1));
        assert_eq!(outcomes[1..3], [Outcome::Duplicate { seq: Seq(1), at }, Outcome::KeyReused]);
        assert_eq!(stored(&outcomes[3]).seq, Seq(2));
        assert_eq!(outcomes[4..6], [Outcome::Duplicate { seq: Seq(2), at }, Outcome::KeyReused]);
        assert_eq!(stored(&outcomes[6]).seq, Seq(3));
    });
}

#[test]
fn a_key_counts_per_room_and_sender_and_as_a_whole() {
    over_all(|bench| {
        let appended = bench.append_all(vec![
            keyed("a", "1", ALICE, "k"),
            keyed("a", "1", BOB, "k"),
            keyed("a", "1", Scope::Common, "k"),
            keyed("b", "1", ALICE, "k"),
            keyed("a", "1", ALICE, "k\0"),
            keyed("a", "1", ALICE, "k\0x"),
        ]);
        let seqs: Vec<u64> = appended.iter().map(|answer| stored(&answer.outcome).seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 1, 4, 5]);
    });
}

#[test]
fn a_sender_has_its_last_64_keys() {
    over_all(|bench| {
        for n in 0..70 {
            bench.append(keyed("a", "1", ALICE, &format!("k{n}")));
        }
        let outcome = bench.append(keyed("a", "1", ALICE, "k6"));
        assert!(matches!(outcome, Outcome::Duplicate { seq: Seq(7), .. }), "{outcome:?}");
        assert_eq!(stored(&bench.append(keyed("a", "1", ALICE, "k5"))).seq, Seq(71));
    });
}

#[test]
fn at_holds_against_small_steps_back_and_follows_large_ones() {
    const MINUTE: u64 = WallMillis::HOLDS;
    over_all(|bench| {
        let mut at = |room: &str, at| stored(&bench.append(append(room, "1", at))).at.0;
        assert_eq!([100, 50, 0, 120].map(|wall| at("a", wall)), [100, 100, 100, 120]);
        assert_eq!(at("b", 5), 5, "each room for itself");
        let last = 120 + 10 * MINUTE;
        assert_eq!(at("a", last), last);
        assert_eq!(at("a", last - MINUTE), last, "a minute back");
        assert_eq!(at("a", last - MINUTE - 1), last - MINUTE - 1, "and a moment more");
        assert_eq!([last, 0, MINUTE, 30].map(|wall| at("a", wall)), [last, 0, MINUTE, MINUTE]);
        let batch =
            bench.append_all([4 * MINUTE, MINUTE, 2 * MINUTE, MINUTE + 1].map(|at| append("a", "1", at)).to_vec());
        let batch = batch.iter().map(|answer| stored(&answer.outcome).at.0).collect::<Vec<_>>();
        assert_eq!(batch, [4 * MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE]);
    });
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

#[test]
fn what_is_parked_is_claimed_once_and_in_order() {
    over_all(|bench| {
        assert_eq!(bench.claim(1), None);
        bench.submit([StoreRequest::Park(parked(1, 1)), StoreRequest::Park(parked(2, 1))]);
        assert_eq!(bench.claim(1), Some(parked(1, 1)));
        assert_eq!(bench.claim(1), None, "taken out");
        // All in one batch: each claim knows what was parked before it, and not what was after.
        let claim = |n| StoreRequest::Claim(Claim { ticket: ticket(Purpose::Resume, n), session: SessionId([2; 16]) });
        bench.submit([
            StoreRequest::Park(parked(2, 7)),
            StoreRequest::Append(append("a", "1", 1)),
            claim(2),
            claim(2),
            StoreRequest::Park(Parked { rooms: Vec::new(), ..parked(2, 8) }),
        ]);
        let mut claims = Vec::new();
        while claims.len() < 2 {
            match bench.next() {
                StoreEvent::Claimed(claimed) => claims.push(claimed.parked),
                StoreEvent::Appended(appended) => assert_eq!(stored(&appended[0].outcome).seq, Seq(1)),
                other => panic!("not asked for: {other:?}"),
            }
        }
        assert_eq!(claims, [Some(parked(2, 7)), None]);
        assert_eq!(bench.claim(2), Some(Parked { rooms: Vec::new(), ..parked(2, 8) }));
    });
}

#[test]
fn of_too_many_parked_the_oldest_go() {
    over_all(|bench| {
        bench.submit((0..5).map(|n| StoreRequest::Park(parked(n, 1))));
        // Parked anew: it is the youngest now.
        bench.submit([StoreRequest::Park(parked(0, 2))]);
        bench.submit((5..8).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..8).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [0, 4, 5, 6, 7]);
        bench.submit((0..200).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..200).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [195, 196, 197, 198, 199]);
        let bounds = Bounds { parked_max: 2, ..bench.store.bounds() };
        bench.store.set_bounds(bounds);
        bench.submit((0..9).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..9).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [7, 8], "a bound that is lowered holds from now on");
    });
}

#[test]
fn bodies_names_and_numbers_come_back_as_they_were() {
    let bodies = [
        "null",
        "\"a\\u0000b\"",
        "\"a\u{7f}b\"",
        "[9007199254740993,18446744073709551616,123456789012345678901234567890,9007199254740991.0,1e2,-0.0,1E400,0.1]",
        " { \"a\" : 1, \"a\" : 2 } ",
        "\"👩\u{200d}👩\u{200d}👧 Zoë \"",
    ];
    over_all(|bench| {
        for (to, name, member) in
            [("a", "Zoë 👩\u{200d}👩", None), ("b", "a'; --", Some(u64::MAX)), ("c", "x", Some(0))]
        {
            let author = Author { member: member.map(MemberId::from_random), name: Name::parse(name).unwrap() };
            for body in bodies {
                bench.append(Append { author: author.clone(), ..append(to, body, 1) });
            }
            let log = bench.everything(to);
            assert_eq!(log.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), bodies);
            assert!(log.iter().all(|message| message.author == author));
        }
    });
}

#[test]
fn an_unknown_room_is_an_empty_page() {
    over_all(|bench| {
        for span in [Span::After(Seq(5)), Span::Before(Seq(5)), Span::Newest] {
            let page = bench.page(read("never", span, 10, 1000));
            assert_eq!((page.messages.len(), page.oldest, page.head, page.more), (0, Seq(1), Seq::ZERO, false));
            assert_eq!((page.room, page.span), (room("never"), span));
        }
    });
}

#[test]
fn pages_at_the_edges() {
    over_all(|bench| {
        bench.append_all((1..=10).map(|n| append("a", &body_of(10), n)).collect());
        // (span, limit, bytes), then the seqs from and to (0: none) and `more`.
        let cases = [
            (Span::After(Seq(0)), 3, 1000, 1, 3, true),
            (Span::After(Seq(7)), 3, 1000, 8, 10, false),
            (Span::After(Seq(10)), 3, 1000, 0, 0, false),
            (Span::After(Seq(u64::MAX)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(4)), 3, 1000, 1, 3, false),
            (Span::Before(Seq(5)), 3, 1000, 2, 4, true),
            (Span::Before(Seq(1)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(0)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(u64::MAX)), 3, 1000, 8, 10, true),
            (Span::Newest, 10, 1000, 1, 10, false),
            (Span::Newest, u32::MAX, u32::MAX, 1, 10, false),
            (Span::Newest, 0, 1000, 0, 0, true),
            (Span::After(Seq(0)), 0, 1000, 0, 0, true),
            (Span::After(Seq(10)), 0, 1000, 0, 0, false),
            (Span::Newest, 10, 0, 10, 10, true),
            (Span::Newest, 10, 20, 9, 10, true),
            (Span::Newest, 10, 29, 9, 10, true),
            (Span::After(Seq(0)), 10, 30, 1, 3, true),
            (Span::After(Seq(9)), 10, 1, 10, 10, false),
        ];
        for (span, limit, bytes, from, to, more) in cases {
            let page = bench.page(read("a", span, limit, bytes));
            let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq.0).collect();
            let expected: Vec<u64> = if from == 0 { vec![] } else { (from..=to).collect() };
            assert_eq!((seqs, page.more), (expected, more), "{span:?} {limit} {bytes}");
            assert_eq!((page.oldest, page.head), (Seq(1), Seq(10)));
        }
    });
}

const ROOMS: [&str; 3] = ["a", "b", "c"];
const SCOPES: [Scope; 3] = [ALICE, BOB, Scope::Common];

/// Room, body's length, wall clock, and perhaps a scope and a key, all from few.
type Saying = (usize, usize, u64, Option<(usize, u8)>);

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Saying>),
    Read(usize, Span, u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3usize, 2..60usize, 0..200_000u64, proptest::option::of((0..3usize, 0..6u8)));
    let span = prop_oneof![
        (0..80u64).prop_map(|seq| Span::After(Seq(seq))),
        (0..80u64).prop_map(|seq| Span::Before(Seq(seq))),
        Just(Span::Newest),
    ];
    let read = (0..3usize, span, 0..30u32, 0..400u32);
    let step = prop_oneof![
        proptest::collection::vec(append, 1..20).prop_map(Step::Append),
        read.prop_map(|(room, span, limit, bytes)| Step::Read(room, span, limit, bytes)),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The log as a list that is searched from end to end.
#[derive(Default)]
struct Model {
    messages: Vec<Message>,
    keys: Vec<(RoomId, ScopedKey, Body, Seq, WallMillis)>,
}

impl Model {
    fn of(&self, room: &RoomId) -> Vec<Message> {
        self.messages.iter().filter(|message| message.room == *room).cloned().collect()
    }

    fn append(&mut self, append: &Append) -> Outcome {
        let known = self.keys.iter().find(|(room, key, ..)| *room == append.room && Some(*key) == append.key);
        match known {
            Some((.., body, seq, at)) if *body == append.body => return Outcome::Duplicate { seq: *seq, at: *at },
            Some(_) => return Outcome::KeyReused,
            None => {}
        }
        let before = self.of(&append.room);
        let seq = Seq(before.len() as u64 + 1);
        let last = before.last().map_or(0, |message| message.at.0);
        let at = if last > append.at.0 && last <= append.at.0 + 60_000 { WallMillis(last) } else { append.at };
        if let Some(key) = append.key {
            self.keys.push((append.room.clone(), key, append.body.clone(), seq, at));
        }
        let Append { room, author, body, .. } = append.clone();
        let message = Message { room, seq, at, author, body };
        self.messages.push(message.clone());
        Outcome::Stored(message)
    }

    /// What a page must be, said otherwise than the logs do it.
    fn check(&self, read: &Read, page: &Page) {
        let all = self.of(&read.room);
        let (mut there, backwards): (Vec<Message>, bool) = match read.span {
            Span::After(seq) => (all.iter().filter(|message| message.seq > seq).cloned().collect(), false),
            Span::Before(seq) => (all.iter().filter(|message| message.seq < seq).cloned().collect(), true),
            Span::Newest => (all.clone(), true),
        };
        let mut got = page.messages.clone();
        if backwards {
            there.reverse();
            got.reverse();
        }
        assert_eq!(got, there[..got.len()], "the page is the beginning of what lies there");
        let bytes = |messages: &[Message]| messages.iter().map(|message| message.body.len()).sum::<usize>();
        assert!(got.len() <= read.limit as usize);
        assert!(got.len() <= 1 || bytes(&got) <= read.bytes as usize);
        assert_eq!(page.more, got.len() < there.len());
        if page.more && got.len() < read.limit as usize {
            assert!(!got.is_empty(), "always one message");
            assert!(bytes(&there[..=got.len()]) > read.bytes as usize, "the next one would have fitted");
        }
        assert_eq!((page.oldest, page.head), (Seq(1), Seq(all.len() as u64)));
    }
}

fn compare(bench: &mut Bench, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(list) => {
                let one = |(to, length, at, key): Saying| {
                    let key = key.map(|(scope, key)| ScopedKey { scope: SCOPES[scope], key: Digest::of(&[key]) });
                    Append { key, ..append(ROOMS[to], &body_of(length), at) }
                };
                let appends: Vec<Append> = list.into_iter().map(one).collect();
                let expected: Vec<Outcome> = appends.iter().map(|append| model.append(append)).collect();
                let outcomes = bench.append_all(appends).into_iter().map(|answer| answer.outcome);
                assert_eq!(outcomes.collect::<Vec<_>>(), expected);
            }
            Step::Read(of, span, limit, bytes) => {
                let read = read(ROOMS[of], span, limit, bytes);
                model.check(&read, &bench.page(read.clone()));
            }
        }
    }
}

/// Reads a room to its end in pages, from both sides: no gap, no repeat.
fn walk(bench: &mut Bench, count: u64, limit: u32, bytes: u32) {
    bench.append_all((0..count).map(|n| append("walk", &body_of(2 + n as usize % 30), n)).collect());
    let (mut forth, mut back) = (Vec::new(), Vec::new());
    let mut span = Span::After(Seq::ZERO);
    loop {
        let page = bench.page(read("walk", span, limit, bytes));
        forth.extend(page.messages.iter().map(|message| message.seq.0));
        if !page.more {
            break;
        }
        span = Span::After(Seq(*forth.last().expect("a page with more has a message")));
    }
    let mut span = Span::Newest;
    loop {
        let page = bench.page(read("walk", span, limit, bytes));
        back.extend(page.messages.iter().rev().map(|message| message.seq.0));
        if !page.more {
            break;
        }
        span = Span::Before(Seq(*back.last().expect("a page with more has a message")));
    }
    back.reverse();
    let all: Vec<u64> = (1..=count).collect();
    assert_eq!((&forth, &back), (&all, &all));
}

fn memory() -> Bench {
    Bench::open(options(Path::new("/nonexistent"), Durability::Memory))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_like_the_model(steps in steps()) {
        compare(&mut memory(), steps);
    }

    #[test]
    fn memory_pages_have_no_gap(count in 0..60u64, limit in 1..20u32, bytes in 0..200u32) {
        walk(&mut memory(), count, limit, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_is_like_the_model(steps in steps()) {
        let directory = TempDir::new();
        compare(&mut Bench::open(options(directory.path(), Durability::Normal)), steps);
    }

    #[test]
    fn sealed_sqlite_is_like_the_model(steps in steps()) {
        let directory = TempDir::new();
        let data_key = Some(DataKey::new([1; 32]));
        let options = StoreOptions { data_key, ..options(directory.path(), Durability::Normal) };
        compare(&mut Bench::open(options), steps);
    }

    #[test]
    fn sqlite_pages_have_no_gap(count in 0..60u64, limit in 1..20u32, bytes in 0..200u32) {
        let directory = TempDir::new();
        walk(&mut Bench::open(options(directory.path(), Durability::Normal)), count, limit, bytes);
    }
}
