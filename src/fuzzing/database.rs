//! Arbitrary bytes as a database: racerd's own files with damage chosen by the input, or the input itself, with a
//! write-ahead log beside them. They are checked, salvaged, backed up, opened and served: nothing panics, hangs or
//! takes memory without a bound; only a server changes them; salvaged files are sound; and if damage goes unnoticed, no
//! message is lost silently. The only target that touches a disk, which is in memory where the system has /dev/shm.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use super::input::Input;
use crate::crypto::at_rest::DataKey;
use crate::sqlite::{SetClock, SteppedLog, StoreOptions, backup, check, salvage};
use crate::store::{Append, Parked, Purpose, Read, Scope, ScopedKey, Span, StoreEvent, StoreRequest, Ticket};
use crate::testing::TempDir;
use crate::types::{
    Author, Body, ConnId, IdempotencyKey, MemberId, Name, OnDamage, RoomId, Seq, SessionId, WallMillis,
};

/// Most damages of one input.
const DAMAGES: usize = 40;

/// The two files on the disk; with `key`, the rows are sealed.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    wal: Vec<u8>,
    has_key: bool,
}

/// The files after a backup, after a kill, and after a kill with sealed rows.
static FIXTURES: LazyLock<[Files; 3]> =
    LazyLock::new(|| [fixture(false, true), fixture(false, false), fixture(true, false)]);

/// Selects the files by the first byte, and the steps at their opening; then follows the damage, or for the fourth
/// kind, the content of the files: the length of the WAL, the WAL, the database.
pub fn database(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let files = match how & 3 {
        3 => {
            let length = usize::from(input.short());
            let wal = input.take(length).to_vec();
            Files { wal, database: input.rest().to_vec(), has_key: how & 4 != 0 }
        }
        kind => {
            let mut files = FIXTURES[usize::from(kind)].clone();
            for _ in 0..DAMAGES {
                if input.is_empty() {
                    break;
                }
                damage(&mut files, &mut input);
            }
            files
        }
    };
    let folder = TempDir::in_memory();
    let path = folder.path().join("racerd.db");
    // proof: the system running the fuzzer has room for it.
    fs::write(&path, &files.database).expect("a file in memory");
    if !files.wal.is_empty() {
        // proof: as above.
        fs::write(folder.path().join("racerd.db-wal"), &files.wal).expect("a file in memory");
    }
    let key = (files.has_key && how & 8 == 0).then(|| DataKey::new([9; 32]));
    let is_well = look(&path, key.as_ref());
    unchanged(&path, &files, "a check");
    save(&folder, &path, key.as_ref());
    unchanged(&path, &files, "a salvage");
    copy(&folder, &path, key.as_ref(), is_well);
    unchanged(&path, &files, "a backup");
    let on_damage = if how & 16 == 0 { OnDamage::Stop } else { OnDamage::Salvage };
    serve(&path, key, on_damage);
}

/// Makes one change to one of the files.
fn damage(files: &mut Files, input: &mut Input<'_>) {
    let what = input.byte();
    let file = if what & 1 == 0 { &mut files.database } else { &mut files.wal };
    // In steps of 4 bytes, so that two bytes reach the whole file.
    let at = usize::from(input.short()) * 4;
    let at = at % file.len().max(1);
    let page = at / 4096 * 4096;
    match (what >> 1) & 7 {
        0..=2 => {
            let length = usize::from(input.byte() % 16);
            let bytes = input.take(length);
            file.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = *new);
        }
        3 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (what >> 5)),
        4 => file.truncate(at),
        5 => file.iter_mut().skip(page).take(4096).for_each(|byte| *byte = if what & 0x80 == 0 { 0 } else { 0xa5 }),
        6 => {
            // One page replaces another.
            let from = usize::from(input.byte()) * 4096;
            let bytes: Vec<u8> = file.iter().skip(from).take(4096).copied().collect();
            file.iter_mut().skip(page).zip(&bytes).for_each(|(byte, new)| *byte = *new);
        }
        _ => file.extend(vec![what; usize::from(input.byte()) * 64]),
    }
}

/// Returns whether the check finds no damage. Its messages are for the operator, and their length is bounded.
fn look(path: &Path, key: Option<&DataKey>) -> bool {
    let Ok(checked) = check(path, key) else { return false };
    assert!(checked.faults.len() <= 20 && (checked.is_well() || !checked.faults.is_empty()));
    for fault in &checked.faults {
        assert!(fault.len() < 2_000 && !fault.chars().any(char::is_control), "a fault for nobody: {fault:?}");
    }
    checked.is_well()
}

/// Checks that the salvaged file is sound, and has the content that the report states.
fn save(folder: &TempDir, path: &Path, key: Option<&DataKey>) {
    let to = folder.path().join("salvaged.db");
    let Ok(report) = salvage(path, &to, key) else {
        return assert!(!to.exists(), "a salvage that failed leaves a file");
    };
    let checked = check(&to, key);
    match checked {
        Ok(checked) => {
            assert!(checked.is_well(), "what was salvaged is damaged: {:?}", checked.faults);
            assert_eq!(checked.messages, report.messages, "messages in what was salvaged");
        }
        // proof: this must not happen; the fuzzer looks for it.
        Err(error) => panic!("what was salvaged cannot be read: {error:?}"),
    }
}

/// Checks that the copy of a sound file is sound.
fn copy(folder: &TempDir, path: &Path, key: Option<&DataKey>, is_well: bool) {
    let to = folder.path().join("copy.db");
    let done = backup(path, &to, false, Box::new(|_, _| {}));
    if is_well {
        assert!(done.is_ok(), "what is well cannot be copied: {done:?}");
        assert!(look(&to, key), "the copy of what is well is not");
    }
    assert_eq!(done.is_ok(), to.exists(), "all of a copy, or nothing");
}

/// Runs a server on the file: it opens or gives the reason why not, reads the rows and takes new ones.
fn serve(path: &Path, key: Option<DataKey>, on_damage: OnDamage) {
    let options = StoreOptions { on_damage, data_key: key, ..StoreOptions::sample(path.to_owned()) };
    let clock = SetClock::default();
    let Ok(mut log) = SteppedLog::open(&options, clock) else { return };
    let mut events = Vec::new();
    for name in ["a", "b"] {
        log.answer(&mut vec![StoreRequest::Read(read(name))], &mut events);
    }
    log.answer(&mut vec![StoreRequest::Append(append("a", 99, None))], &mut events);
    log.answer(&mut vec![StoreRequest::Read(read("a"))], &mut events);
    let (mut pages, mut decided) = (0, 0);
    for event in &events {
        match event {
            StoreEvent::Appended(list) => decided += list.len(),
            StoreEvent::Page(page) => {
                pages += 1;
                let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq.0).collect();
                assert!(seqs.windows(2).all(|two| two[0] < two[1]), "a page out of order: {seqs:?}");
            }
            StoreEvent::ReadFailed(_) => pages += 1,
            _ => {}
        }
    }
    assert_eq!((pages, decided), (3, 1), "each request has one answer: {events:?}");
}

fn unchanged(path: &Path, files: &Files, by: &str) {
    // proof: this must hold; the fuzzer looks for cases where it does not.
    let now = fs::read(path).expect("the file is there");
    assert!(now == files.database, "{by} changed the database");
}

fn fixture(has_key: bool, is_copy: bool) -> Files {
    let folder = TempDir::in_memory();
    let path = folder.path().join("racerd.db");
    let options =
        StoreOptions { data_key: has_key.then(|| DataKey::new([9; 32])), ..StoreOptions::sample(path.clone()) };
    let clock = SetClock::default();
    clock.set(crate::types::Millis(1), WallMillis(1_790_000_000_000));
    // proof: the folder is new and empty.
    let mut log = SteppedLog::open(&options, clock).expect("a new database");
    let mut requests = Vec::new();
    for n in 0..24 {
        let scope = if n % 3 == 0 { Scope::Common } else { Scope::Session(SessionId([1; 16])) };
        let key = ScopedKey { scope, key: IdempotencyKey::of(&[n as u8]) };
        requests.push(StoreRequest::Append(append(["a", "b", "a"][n as usize % 3], n, Some(key))));
        if n % 8 == 7 {
            requests.push(StoreRequest::Park(Parked {
                session: SessionId([n as u8; 16]),
                member: MemberId::from_random(n),
                name: name("ann"),
                generation: 1,
                rooms: vec![(room("a"), Seq(3))],
            }));
            log.answer(&mut requests, &mut Vec::new());
        }
    }
    let taken = if is_copy { folder.path().join("copy.db") } else { path.clone() };
    if is_copy {
        // proof: it was written just now.
        backup(&path, &taken, false, Box::new(|_, _| {})).expect("a copy");
    }
    let contents = |path: &Path| {
        // proof: it was written just now.
        fs::read(path).expect("a file of the database")
    };
    let wal = if is_copy { Vec::new() } else { contents(&folder.path().join("racerd.db-wal")) };
    Files { database: contents(&taken), wal, has_key }
}

fn room(name: &str) -> RoomId {
    // proof: the target's own text.
    RoomId::parse(name).expect("a room id")
}

fn name(text: &str) -> Name {
    // proof: the target's own text.
    Name::parse(text).expect("a name")
}

fn ticket(purpose: Purpose) -> Ticket {
    Ticket::new(ConnId { index: 1, generation: 1 }, purpose, 1)
}

fn append(to: &str, n: u64, key: Option<ScopedKey>) -> Append {
    // Long bodies fill pages of their own.
    let body = format!("\"{}\"", "x".repeat(if n % 5 == 4 { 6_000 } else { 20 + n as usize }));
    Append {
        ticket: ticket(Purpose::Send),
        room: room(to),
        author: Author { member: Some(MemberId::from_random(7)), name: name("bob") },
        key,
        body: Body::checked(body.into()),
        sealed: None,
        era: None,
        at: WallMillis(1_790_000_000_000 + n),
    }
}

fn read(of: &str) -> Read {
    Read {
        ticket: ticket(Purpose::History),
        room: room(of),
        span: Span::Newest,
        limit: 50,
        bytes: 1 << 16,
        upto: Seq::ZERO,
    }
}
