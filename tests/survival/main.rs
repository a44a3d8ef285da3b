//! Nothing acknowledged is lost, nothing comes twice, nothing out of order, every session resumes: on real processes that
//! are killed, and over connections that break at any byte, with clients that do what the protocol asks of a good one.
//!
//! RACERD_SEED=N repeats a run's draws (threads and the kernel still take their own turns); RACERD_ROUNDS=N sets how often
//! the server is killed (20; `tests/run --long`: 200).

mod client;
mod cutter;
mod line;
mod power;
mod random;
#[path = "../server/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{End, Life, Survivor};
use cutter::Cutter;
use racerd::crypto::sealed::{Pin, SealedKey};
use random::Random;
use support::{Folder, Server};

const CLIENTS: usize = 50;

fn rounds() -> usize {
    std::env::var("RACERD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// The machine is small and the clients are many: nothing but faults may hold them up.
const FREELY: [&str; 6] = ["--request-rate", "0", "--handshake-rate", "0", "--log-level", "warn"];

/// Makes a key file: its path.
fn keygen(folder: &Folder, name: &str, arguments: &[&str]) -> String {
    let file = folder.path().join(name);
    let keygen = Server::program().arg("keygen").args(arguments).arg(&file).output().expect("the binary");
    assert!(keygen.status.success(), "{keygen:?}");
    file.to_str().expect("a path").to_owned()
}

/// One that also speaks sealed, and the pin for that.
fn server() -> (Server, Pin) {
    start_server(Folder::new(), &[])
}

/// One whose database is sealed, too.
fn sealed_server() -> (Server, Pin) {
    let folder = Folder::new();
    let key = keygen(&folder, "data.key", &["--data"]);
    start_server(folder, &["--data-key-file", &key])
}

fn start_server(folder: Folder, arguments: &[&str]) -> (Server, Pin) {
    let file = keygen(&folder, "sealed.key", &[]);
    let text = std::fs::read_to_string(&file).expect("a key file");
    let pin = SealedKey::parse(&text).expect("a key").pin();
    let arguments = [&FREELY[..], arguments, &["--sealed-key", &file]].concat();
    (Server::start_in(folder, "127.0.0.1:0", &arguments), pin)
}

/// Starts the clients; each sends until told to stop, and then goes on until it knows all. Every third speaks sealed.
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

/// What must hold of all lives, against the log as it is at the end.
fn judge(lives: &[Life], server: &Server) {
    let log: Vec<String> = server.history("r").iter().map(|m| m["body"].as_str().expect("a text").to_owned()).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, body) in log.iter().enumerate() {
        assert_eq!(places.insert(body, index + 1), None, "{body} is stored twice");
    }
    let (mut acknowledged, mut resumed, mut resumed_sealed, mut received) = (0, 0, 0, 0);
    for life in lives {
        for (body, seq) in &life.acknowledged {
            assert_eq!(places.get(body.as_str()), Some(&(*seq as usize)), "{body} was acknowledged as {seq}");
        }
        assert_eq!(life.unacknowledged, 0, "{} still waits for answers", life.name);
        for (seq, body) in &life.received {
            assert_eq!(&log[*seq as usize - 1], body, "{} heard another {seq}", life.name);
        }
        let first = life.received.first().map_or(log.len() as u64 + 1, |(seq, _)| *seq);
        let seqs: Vec<u64> = life.received.iter().map(|(seq, _)| *seq).collect();
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
}

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    kill_at_random_moments(server(), rounds());
}

#[test]
fn kill_9_loses_nothing_of_a_sealed_database() {
    kill_at_random_moments(sealed_server(), rounds().div_ceil(2));
}

fn kill_at_random_moments((mut server, pin): (Server, Pin), rounds: usize) {
    let mut random = Random::from_environment();
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(server.address, pin, random.next(), &end);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(20 + random.below(300)));
        server.kill();
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(100)));
        }
        server.restart();
    }
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}

#[test]
fn graceful_restarts_lose_nothing() {
    let mut random = Random::from_environment();
    let (mut server, pin) = server();
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(server.address, pin, random.next(), &end);
    for _ in 0..rounds().min(5) {
        std::thread::sleep(Duration::from_millis(50 + random.below(300)));
        assert!(server.stop().success());
        server.restart();
    }
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}

#[test]
fn connections_that_break_at_any_byte_lose_nothing() {
    let mut random = Random::from_environment();
    let (server, pin) = server();
    let cutter = Cutter::start(server.address, random.next());
    let end = Arc::new(End::of(CLIENTS));
    let clients = start(cutter.address, pin, random.next(), &end);
    cutter.wait_for_cuts(CLIENTS * rounds());
    cutter.cut_no_more();
    end.call();
    let lives: Vec<Life> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    judge(&lives, &server);
}
