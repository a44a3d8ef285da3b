//! Every acknowledged message survives, none is duplicated or out of order, and every session resumes: tested on real
//! processes that are killed, and over connections that break at any byte, with clients that do what the protocol asks
//! of a good client.
//!
//! RACERD_SEED=N repeats a run's draws (threads and the kernel still take their own turns); RACERD_ROUNDS=N sets how
//! often the server is killed (20; `tests/run --long`: 200).

mod client;
#[path = "../server/clock.rs"]
mod clock;
mod cutter;
mod ends;
mod line;
mod power;
mod steps;
#[path = "../server/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{End, Life, Survivor};
use clock::FakeClock;
use cutter::Cutter;
use racerd::crypto::sealed::{Pin, SealedKey};
use racerd::testing::{Random, TempDir};
use support::{Server, eventually, within};

const CLIENTS: usize = 50;

/// Upper bound for what 50 clients need on a slow machine.
const LONG: Duration = Duration::from_secs(60);

fn rounds() -> usize {
    std::env::var("RACERD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Returns random numbers whose seed is RACERD_SEED, or else the clock. Prints the seed either way.
fn seeded() -> Random {
    let given = std::env::var("RACERD_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = given.unwrap_or(now.as_nanos() as u64);
    println!("RACERD_SEED={seed}");
    Random::new(seed)
}

/// Many clients share one small machine: only faults may hold them up, no rate limit.
const FREELY: [&str; 6] = ["--request-rate", "0", "--handshake-rate", "0", "--log-level", "warn"];

/// Makes a key file, and returns its path.
fn keygen(folder: &TempDir, name: &str, arguments: &[&str]) -> String {
    let file = folder.path().join(name);
    let keygen = Server::program().arg("keygen").args(arguments).arg(&file).output().expect("the binary");
    assert!(keygen.status.success(), "{keygen:?}");
    file.to_str().expect("a path").to_owned()
}

/// Starts a server that also speaks sealed, and returns the pin for that.
fn server() -> (Server, Pin) {
    start_server(TempDir::new(), &[])
}

/// Starts such a server whose database is sealed, too.
fn sealed_server() -> (Server, Pin) {
    let folder = TempDir::new();
    let key = keygen(&folder, "data.key", &["--data"]);
    start_server(folder, &["--data-key-file", &key])
}

fn start_server(folder: TempDir, arguments: &[&str]) -> (Server, Pin) {
    let file = keygen(&folder, "sealed.key", &[]);
    let text = std::fs::read_to_string(&file).expect("a key file");
    let pin = SealedKey::parse(&text).expect("a key").pin();
    let arguments = [&FREELY[..], arguments, &["--sealed-key", &file]].concat();
    (Server::start_in(folder, "127.0.0.1:0", &arguments), pin)
}

/// Starts the clients; each sends until told to stop, and then continues until it has everything. Every third speaks
/// sealed.
fn start(address: SocketAddr, pin: Pin, seed: u64, end: &Arc<End>) -> Vec<std::thread::JoinHandle<Life>> {
    let survivor = |n| {
        let (mut random, end) = (Random::new(seed ^ n as u64), Arc::clone(end));
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || Survivor::new(n, address, (n % 3 == 0).then_some(pin)).live(&mut random, &end))
            .expect("a thread")
    };
    (0..CLIENTS).map(survivor).collect()
}

/// Checks the histories of all clients against the log as it is at the end.
fn judge(lives: &[Life], server: &Server) {
    let history = server.history("r");
    let log: Vec<String> = history.iter().map(|m| m["body"].as_str().expect("a text").to_owned()).collect();
    let dates: Vec<u64> = history.iter().map(|m| m["at"].as_u64().expect("a date")).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, body) in log.iter().enumerate() {
        assert_eq!(places.insert(body, index + 1), None, "{body} is stored twice");
    }
    let (mut acknowledged, mut resumed, mut resumed_sealed, mut received) = (0, 0, 0, 0);
    for life in lives {
        for (body, seq, at) in &life.acknowledged {
            assert_eq!(places.get(body.as_str()), Some(&(*seq as usize)), "{body} was acknowledged as {seq}");
            assert_eq!(dates[*seq as usize - 1], *at, "{body} was acknowledged with another date");
        }
        assert_eq!(life.unacknowledged, 0, "{} still waits for answers", life.name);
        for (seq, at, body) in &life.received {
            assert_eq!(&log[*seq as usize - 1], body, "{} heard another {seq}", life.name);
            assert_eq!(dates[*seq as usize - 1], *at, "{} heard another date of {seq}", life.name);
        }
        let first = life.received.first().map_or(log.len() as u64 + 1, |(seq, ..)| *seq);
        let seqs: Vec<u64> = life.received.iter().map(|(seq, ..)| *seq).collect();
        assert_eq!(seqs, (first..=log.len() as u64).collect::<Vec<_>>(), "{} heard all, once, in order", life.name);
        assert_eq!(life.refused, Vec::<String>::new(), "{} could not resume", life.name);
        acknowledged += life.acknowledged.len();
        resumed += life.resumed;
        resumed_sealed += life.resumed_sealed;
        received += life.received.len();
    }
    assert_eq!(acknowledged, log.len(), "what is stored was sent by them, and told to them");
    println!(
        "{acknowledged} messages acknowledged, {received} received, {resumed} times resumed, {resumed_sealed} of them sealed"
    );
    assert!(acknowledged > lives.len() && resumed >= lives.len(), "too little happened to say anything");
    assert!(resumed_sealed >= lives.len() / 3, "too little was sealed to say anything");
    // The order is that of the seqs. Dates go back only where the clock was set back by more than a minute.
    for (index, two) in dates.windows(2).enumerate() {
        let is_fine = two[0] <= two[1] || two[0] - two[1] > 60_000;
        assert!(is_fine, "{} is dated {} and the one before it {}", index + 2, two[1], two[0]);
    }
}

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    kill_at_random_moments(server(), rounds());
}

#[test]
fn kill_9_loses_nothing_of_a_sealed_database() {
    kill_at_random_moments(sealed_server(), rounds().div_ceil(2));
}

/// The clock steps either way, by seconds and by decades, at each kill and between kills, with retention by age: no
/// message is pruned, and dates go back as docs/guarantees.md says.
#[test]
fn kill_9_under_a_clock_that_steps_loses_nothing() {
    let mut random = seeded();
    let folder = TempDir::new();
    let clock = FakeClock::showing(&folder, "+0");
    let file = keygen(&folder, "sealed.key", &[]);
    let pin = SealedKey::parse(&std::fs::read_to_string(&file).expect("a key file")).expect("a key").pin();
    let arguments = [&FREELY[..], &["--sealed-key", &file, "--keep-for", "30d"]].concat();
    let command = |folder: &TempDir, listen: &str| clock.over(Server::command(folder, listen, &arguments));
    let start_as = command(&folder, "127.0.0.1:0");
    let mut server = Server::start_as(folder, start_as);
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(server.address, pin, random.next_u64(), &end);
    let dates = ["+0", "-30", "-2h", "+40", "+3d", "@1970-01-01 00:00:09", "-90", "@2099-01-01 00:00:00", "-20y"];
    let draw = |random: &mut Random| *random.pick(&dates);
    for date in dates {
        std::thread::sleep(Duration::from_millis(random.within((20, 319))));
        clock.set(draw(&mut random));
        std::thread::sleep(Duration::from_millis(random.within((20, 119))));
        server.kill();
        clock.set(date);
        let restart_as = command(&server.folder, &server.address.to_string());
        server.restart_as(restart_as);
        // At least one message is sent under each date.
        let head = || server.get("/rooms/r/messages?limit=1").json()["head"].as_u64().expect("a head");
        let before = head();
        eventually("a message", || head() > before);
    }
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
    let dates: Vec<u64> = server.history("r").iter().filter_map(|message| message["at"].as_u64()).collect();
    assert!(dates.windows(2).any(|two| two[0] > two[1]), "the clock was never set back while somebody talked");
    assert!(
        dates.iter().any(|date| *date > 4_000_000_000_000) && dates.iter().any(|date| *date < 1_000_000),
        "{dates:?}"
    );
}

/// Lets somebody get on before every other stop. On a slow machine nobody would be in before all stops are over.
fn wait_before_a_stop(end: &End, round: usize) {
    let before = end.acknowledged();
    within(LONG, "a message", || round.is_multiple_of(2) || end.acknowledged() > before);
}

fn kill_at_random_moments((mut server, pin): (Server, Pin), rounds: usize) {
    let mut random = seeded();
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(server.address, pin, random.next_u64(), &end);
    for round in 0..rounds {
        wait_before_a_stop(&end, round);
        std::thread::sleep(Duration::from_millis(random.within((20, 319))));
        server.kill();
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_millis(random.within((0, 99))));
        }
        server.restart();
    }
    within(LONG, "enough to say anything", || end.shows_something());
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}

#[test]
fn graceful_restarts_lose_nothing() {
    let mut random = seeded();
    let (mut server, pin) = server();
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(server.address, pin, random.next_u64(), &end);
    for round in 0..rounds().min(5) {
        wait_before_a_stop(&end, round);
        std::thread::sleep(Duration::from_millis(random.within((50, 349))));
        assert!(server.stop().success());
        server.restart();
    }
    within(LONG, "enough to say anything", || end.shows_something());
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}

#[test]
fn connections_that_break_at_any_byte_lose_nothing() {
    let mut random = seeded();
    let (server, pin) = server();
    let cutter = Cutter::start(server.address, random.next_u64());
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(cutter.address, pin, random.next_u64(), &end);
    cutter.wait_for_cuts(CLIENTS * rounds());
    cutter.cut_no_more();
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}
