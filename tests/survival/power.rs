//! Power cuts at any moment: every write and sync of a server under load is recorded (by strace, an independent
//! program), and the files are rebuilt as a disk may hold them at many moments of that record: everything that was
//! synced, and none, all or any part of the rest, cut at sectors. A server started on each state must have every
//! message acknowledged until then.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use racerd::testing::{Random, TempDir};

use crate::seeded;
use crate::support::Server;

/// An operation on the files, or an acknowledgement to a client.
#[derive(Debug)]
enum Event {
    Write { file: String, at: usize, bytes: Vec<u8> },
    Truncate { file: String, length: usize },
    Remove { file: String },
    Sync { file: String },
    Acknowledged { seq: u64 },
}

/// A disk: the durable content of each file, and the later writes, in order.
#[derive(Default)]
struct Disk {
    safe: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<String, Vec<(usize, Vec<u8>)>>,
}

impl Disk {
    fn happens(&mut self, event: &Event) {
        match event {
            Event::Write { file, at, bytes } => {
                self.safe.entry(file.clone()).or_default();
                self.open.entry(file.clone()).or_default().push((*at, bytes.clone()));
            }
            Event::Sync { file } => {
                for (at, bytes) in self.open.remove(file).unwrap_or_default() {
                    write(self.safe.entry(file.clone()).or_default(), at, &bytes);
                }
            }
            // A cut may also restore the state before one of these; each comes after a sync of what replaces it.
            Event::Truncate { file, length } => {
                self.happens(&Event::Sync { file: file.clone() });
                self.safe.entry(file.clone()).or_default().resize(*length, 0);
            }
            Event::Remove { file } => {
                self.safe.remove(file);
                self.open.remove(file);
            }
            Event::Acknowledged { .. } => {}
        }
    }

    /// Returns the files as a power cut at this moment leaves them.
    fn after_a_cut(&self, fate: Fate, random: &mut Random) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.safe.clone();
        for (file, writes) in &self.open {
            let content = files.entry(file.clone()).or_default();
            for (at, bytes) in writes {
                match fate {
                    Fate::Nothing => {}
                    Fate::All => write(content, *at, bytes),
                    Fate::Some if random.below(2) == 0 => write(content, *at, bytes),
                    Fate::Some => {}
                    Fate::Torn => {
                        for (n, sector) in bytes.chunks(512).enumerate() {
                            if random.below(4) != 0 {
                                write(content, at + n * 512, sector);
                            }
                        }
                    }
                }
            }
        }
        files
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The fate of writes that were not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    All,
    Some,
    Torn,
}

/// Decodes strace's `-xx`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits.get(..2).expect("two digits"), 16).expect("hexadecimal")).collect()
}

/// Returns the database file that a call names, by its suffix: `` or `-wal`.
fn file(text: &str) -> Option<String> {
    let path = String::from_utf8(unhex(text)).ok()?;
    let (_, name) = path.rsplit_once('/')?;
    let suffix = name.strip_prefix("racerd.db")?;
    matches!(suffix, "" | "-wal").then(|| suffix.to_owned())
}

/// Reads a trace. A sync counts from its end, a write from its beginning, so the record never promises too much.
fn read(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut syncing: BTreeMap<&str, String> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let inside = |open: char, close: char| call.split_once(open)?.1.split_once(close).map(|(inside, _)| inside);
        if call.starts_with("fdatasync(") || call.starts_with("fsync(") {
            let Some(file) = inside('<', '>').and_then(file) else { continue };
            if call.contains("<unfinished") {
                syncing.insert(thread, file);
            } else if call.ends_with("= 0") {
                events.push(Event::Sync { file });
            }
        } else if call.starts_with("<... fdatasync resumed") || call.starts_with("<... fsync resumed") {
            if let Some(file) = syncing.remove(thread)
                && call.ends_with("= 0")
            {
                events.push(Event::Sync { file });
            }
        } else if call.starts_with("pwrite64(") {
            let Some(file) = inside('<', '>').and_then(file) else { continue };
            let bytes = unhex(inside('"', '"').expect("bytes"));
            let mut numbers = call.rsplit_once('"').expect("bytes").1.split([',', ')', '<']).map(str::trim);
            let length: usize = numbers.nth(1).and_then(|n| n.parse().ok()).expect("a length");
            let at = numbers.next().and_then(|n| n.parse().ok()).expect("an offset");
            assert_eq!(bytes.len(), length, "strace shows all of it");
            events.push(Event::Write { file, at, bytes });
        } else if call.starts_with("ftruncate(") {
            let Some(file) = inside('<', '>').and_then(file) else { continue };
            let length = call.split([',', ')', '<']).filter_map(|n| n.trim().parse().ok()).next_back();
            events.push(Event::Truncate { file, length: length.expect("a length") });
        } else if call.starts_with("unlink(") && !call.contains("ENOENT") {
            let Some(file) = inside('"', '"').and_then(file) else { continue };
            events.push(Event::Remove { file });
        } else if call.starts_with("sendto(") || call.starts_with("write(") || call.starts_with("writev(") {
            let said = String::from_utf8_lossy(&unhex(call)).into_owned();
            for answer in said.split("HTTP/1.1 201").skip(1) {
                let seq = answer.split_once("{\"seq\":").and_then(|(_, rest)| rest.split_once(',')?.0.parse().ok());
                events.push(Event::Acknowledged { seq: seq.expect("a seq") });
            }
        }
    }
    events
}

/// Runs a server under strace that stores messages from several clients at once. Returns the acknowledged messages by
/// seq, and the trace.
fn record(durability: &str) -> (BTreeMap<u64, String>, Vec<Event>) {
    let folder = TempDir::new();
    let trace = folder.path().join("trace");
    let calls = "trace=fdatasync,fsync,pwrite64,ftruncate,unlink,write,writev,sendto";
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-y", "-xx", "-s", "1000000", "-e", calls, "-o"]).arg(&trace);
    let serve = Server::command(&folder, "127.0.0.1:0", &["--durability", durability, "--request-rate", "0"]);
    command.arg(serve.get_program()).args(serve.get_args());
    let mut server = Server::start_as(folder, command);
    let mut said = BTreeMap::new();
    std::thread::scope(|scope| {
        let talk = |who: usize| {
            let server = &server;
            move || -> Vec<(u64, String)> {
                let say = |n: usize| {
                    // Small bodies, and some that span several pages, so that the log is checkpointed, too.
                    let body = format!("\"{who}-{n}-{}\"", "x".repeat(n * 37 % 11 * 2500));
                    let answer = server.post("/rooms/r/messages", &body);
                    assert_eq!(answer.status, 201, "{answer:?}");
                    (answer.json()["seq"].as_u64().expect("a seq"), body)
                };
                (0..50).map(say).collect()
            }
        };
        let talkers: Vec<_> = (0..4).map(|who| scope.spawn(talk(who))).collect();
        said.extend(talkers.into_iter().flat_map(|talker| talker.join().expect("a talker")));
    });
    assert!(server.stop().success());
    let text = std::fs::read_to_string(&trace).expect("a trace");
    (said, read(&text))
}

fn lay_out(files: &BTreeMap<String, Vec<u8>>, folder: &Path) {
    for (suffix, content) in files {
        std::fs::write(folder.join(format!("racerd.db{suffix}")), content).expect("a file");
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    let possible = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    assert!(possible.is_ok_and(|status| status.success()), "this test needs strace: tests/run installs it");
    let mut random = seeded();
    let (said, events) = record("full");
    let syncs = events.iter().filter(|event| matches!(event, Event::Sync { .. })).count();
    let checkpoints = events.iter().filter(|event| matches!(event, Event::Sync { file } if file.is_empty())).count();
    let first = events.iter().position(|event| matches!(event, Event::Acknowledged { .. })).expect("an answer");

    let (mut disk, mut acknowledged, mut cuts, mut restored) = (Disk::default(), Vec::new(), 0, 0);
    for (index, event) in events.iter().enumerate() {
        disk.happens(event);
        if let Event::Acknowledged { seq } = event {
            acknowledged.push(*seq);
        }
        // Cuts right after an answer, right after a sync, and anywhere in between.
        let is_moment = match event {
            Event::Acknowledged { .. } => random.below(10) == 0,
            Event::Sync { .. } => random.below(6) == 0,
            _ => random.below(80) == 0,
        };
        if index < first || !is_moment {
            continue;
        }
        let fates = [Fate::Nothing, Fate::All, Fate::Some, Fate::Torn];
        let fate = fates[random.below(4)];
        cuts += 1;
        let folder = TempDir::new();
        lay_out(&disk.after_a_cut(fate, &mut random), folder.path());
        let mut server = Server::start_in(folder, "127.0.0.1:0", &["--log-level", "warn", "--request-rate", "0"]);
        let log = server.history("r");
        for seq in &acknowledged {
            let body = log.get(*seq as usize - 1).map(|message| message["body"].to_string());
            assert_eq!(body.as_ref(), said.get(seq), "{fate:?} at event {index}: {seq} was acknowledged");
        }
        for message in &log {
            let seq = message["seq"].as_u64().expect("a seq");
            assert_eq!(said.get(&seq), Some(&message["body"].to_string()), "{fate:?} at event {index}: {seq}");
        }
        restored += log.len();
        // The log continues from there.
        assert_eq!(server.post("/rooms/r/messages", "1").json()["seq"], log.len() as u64 + 1);
        server.kill();
    }
    println!(
        "{cuts} power cuts in {} events, {syncs} syncs, {checkpoints} checkpoints; {restored} messages read",
        events.len()
    );
    assert!(cuts > 20 && checkpoints > 0, "too little happened to say anything");
}

/// The same record and disk detect the losses that `normal` permits, so they would detect them under `full`.
#[test]
fn of_normal_a_power_cut_takes_what_was_not_synced() {
    let (_, events) = record("normal");
    // Only moments before the first checkpoint, which would sync.
    let told = |event: &Event| matches!(event, Event::Acknowledged { .. });
    let (last, _) = events.iter().enumerate().filter(|(_, event)| told(event)).nth(19).expect("twenty answers");
    let mut disk = Disk::default();
    events[..=last].iter().for_each(|event| disk.happens(event));
    let folder = TempDir::new();
    lay_out(&disk.after_a_cut(Fate::Nothing, &mut Random::new(0)), folder.path());
    let server = Server::start_in(folder, "127.0.0.1:0", &["--log-level", "warn", "--request-rate", "0"]);
    let left = server.history("r").len();
    assert!(left < 20, "all {left} messages are left");
}
