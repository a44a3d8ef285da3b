//! What a message costs the disk, with everything that belongs to it: commits, folds, checkpoints, the clean end.
//! Bytes are counted where racerd writes them (wchar) and where they reach the block device (write_bytes;
//! proc_pid_io(5)); CPU is that of the process. Every sender has a full window of keys before the count begins.
//!
//!     cargo bench --bench commit                              a table
//!     cargo bench --bench commit ROOMS BATCH MESSAGES BODY    one row: messages to random rooms, BATCH in a commit
//!
//! A page size behind it (1KiB, 4KiB) is that of the database. The last two columns are a read of 200 messages of a
//! room: where the system has the file in memory, and from the disk.
//!
//! The database is in a new folder in TMPDIR, which has to be on the disk that counts.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use racerd::sqlite::{SetClock, SteppedLog, StoreOptions};
use racerd::store::{Append, Bounds, Purpose, Read, Scope, ScopedKey, Span, StoreEvent, StoreRequest, Ticket};
use racerd::testing::{Random, TempDir};
use racerd::types::{
    Author, Body, ConnId, Durability, IdempotencyKey, MemberId, Millis, Name, PageSize, RoomId, Seq, SessionId,
    WallMillis,
};
use rustix::fs::{Advice, fadvise};

const SENDERS: usize = 4;

/// One row of the table.
#[derive(Clone, Copy)]
struct Load {
    rooms: usize,
    batch: usize,
    messages: usize,
    /// Size of a body in bytes.
    body: usize,
}

const TABLE: [Load; 7] = [
    Load { rooms: 1, batch: 1, messages: 20_000, body: 128 },
    Load { rooms: 500, batch: 1, messages: 20_000, body: 128 },
    Load { rooms: 500, batch: 8, messages: 40_000, body: 128 },
    Load { rooms: 500, batch: 32, messages: 80_000, body: 128 },
    Load { rooms: 5_000, batch: 8, messages: 40_000, body: 128 },
    Load { rooms: 500, batch: 8, messages: 8_000, body: 4_000 },
    Load { rooms: 500, batch: 8, messages: 2_000, body: 60_000 },
];

fn options(folder: &Path, page_size: PageSize) -> StoreOptions {
    let sample = StoreOptions::sample(folder.join("racerd.db"));
    let bounds = Bounds { max_database_size: 8 << 30, ..sample.bounds };
    StoreOptions { durability: Durability::Full, page_size, bounds, ..sample }
}

/// Bytes written through system calls, and to the block device; and CPU seconds.
#[derive(Clone, Copy)]
struct Spent {
    written: u64,
    device: u64,
    cpu: f64,
}

fn spent() -> Option<Spent> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok();
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name of the program, which may have blanks: fields 14 and 15 of proc_pid_stat(5), in hundredths.
    let ticks = stat.rsplit(')').next()?.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Spent { written: field("wchar:")?, device: field("write_bytes:")?, cpu: ticks as f64 / 100.0 })
}

fn append(room: usize, sender: usize, n: u64, body: &str) -> Option<Append> {
    let session = SessionId((((room * SENDERS) + sender) as u128).to_be_bytes());
    Some(Append {
        ticket: Ticket::new(ConnId { index: 0, generation: 0 }, Purpose::Send, n),
        room: RoomId::parse(&format!("room-{room}"))?,
        author: Author { member: Some(MemberId::from_random(n)), name: Name::parse("someone").ok()? },
        key: Some(ScopedKey { scope: Scope::Session(session), key: IdempotencyKey::of(&n.to_be_bytes()) }),
        body: Body::checked(body.into()),
        sealed: None,
        era: None,
        at: WallMillis(1_790_000_000_000),
    })
}

/// Number of rooms that are read back, at most.
const READ: usize = 100;

/// Reads 200 messages of some rooms each, and returns the mean time of a read in microseconds.
fn read(log: &mut SteppedLog, rooms: usize) -> Option<f64> {
    let begun = Instant::now();
    for room in 0..rooms.min(READ) {
        let read = Read {
            ticket: Ticket::new(ConnId { index: 0, generation: 0 }, Purpose::History, 1),
            room: RoomId::parse(&format!("room-{room}"))?,
            span: Span::Newest,
            limit: 200,
            bytes: 16 << 20,
            upto: Seq::ZERO,
        };
        let mut events = Vec::new();
        log.read(read, &mut events);
        let [StoreEvent::Page(page)] = &events[..] else { return None };
        if page.messages.len() != 200 {
            return None;
        }
    }
    Some(begun.elapsed().as_secs_f64() * 1e6 / rooms.min(READ) as f64)
}

/// Makes the system forget the file's content.
fn forget(file: &Path) -> Option<()> {
    let file = fs::File::open(file).ok()?;
    file.sync_all().ok()?;
    fadvise(&file, 0, None, Advice::DontNeed).ok()
}

fn run(load: Load, page_size: PageSize) -> Option<()> {
    let folder = TempDir::new();
    let options = options(folder.path(), page_size);
    let clock = SetClock::default();
    clock.set(Millis(0), WallMillis(1_790_000_000_000));
    let mut random = Random::new(1);
    let mut n = 0;
    let mut say = |log: &mut SteppedLog, count: usize, body: &str, whom: &mut dyn FnMut() -> (usize, usize)| {
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let (room, sender) = whom();
            n += 1;
            requests.push(StoreRequest::Append(append(room, sender, n, body)?));
        }
        log.answer(&mut requests, &mut Vec::new());
        Some(())
    };
    let mut log = SteppedLog::open(&options, clock.clone()).ok()?;
    for room in 0..load.rooms {
        for sender in 0..SENDERS {
            say(&mut log, 64, "1", &mut || (room, sender))?;
        }
    }
    log.finish().ok()?;
    let mut log = SteppedLog::open(&options, clock.clone()).ok()?;
    let body = format!("\"{}\"", "x".repeat(load.body - 2));
    let (file, before) = (fs::metadata(&options.path).ok()?.len(), spent()?);
    for _ in 0..load.messages / load.batch {
        say(&mut log, load.batch, &body, &mut || (random.below(load.rooms), random.below(SENDERS)))?;
    }
    log.finish().ok()?;
    let after = spent()?;
    let mut log = SteppedLog::open(&options, clock).ok()?;
    forget(&options.path)?;
    let cold = read(&mut log, load.rooms)?;
    let warm = read(&mut log, load.rooms)?;
    log.finish().ok()?;
    let each = |bytes: u64| bytes as f64 / load.messages as f64;
    println!(
        "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} | {:.0} |",
        load.rooms,
        load.batch,
        load.body,
        each(after.written - before.written),
        each(after.device - before.device),
        each(fs::metadata(&options.path).ok()?.len().saturating_sub(file)),
        (after.cpu - before.cpu) * 1e6 / load.messages as f64,
        warm,
        cold,
    );
    Some(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok()).collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let size = PageSize::ALL.into_iter().find(|size| arguments.iter().any(|argument| argument == size.as_str()));
    let size = size.unwrap_or(PageSize::TwoKib);
    let loads = match numbers[..] {
        [rooms, batch, messages, body] => vec![Load { rooms, batch, messages, body }],
        _ => TABLE.to_vec(),
    };
    println!(
        "| rooms | messages in a commit | body, B | written, B a message | to the device | file | CPU, us | 200 read, us | from the disk, us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    match loads.into_iter().map(|load| run(load, size)).collect::<Option<()>>() {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("the log, /proc/self/io or /proc/self/stat does not answer");
            ExitCode::FAILURE
        }
    }
}
