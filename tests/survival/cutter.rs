//! A proxy that cuts its connections after a random number of bytes, in either direction, with a reset or a clean
//! close.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use racerd::testing::Random;

pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Cutter {
    /// Starts a proxy in front of `server`; it ends with the process.
    pub fn start(server: SocketAddr, seed: u64) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("it");
        let (cuts, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, over) = (Arc::clone(&cuts), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let mut random = Random::new(seed);
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                for stream in [&client, &upstream] {
                    stream.set_nodelay(true).expect("a socket");
                }
                // Some connections die in the handshake, most in the middle of something.
                let most = [400, 3_000, 30_000][random.below(3)];
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let (cuts, over) = (Arc::clone(&counter), Arc::clone(&over));
                    let (budget, resets) = (random.below(most), random.below(2) == 0);
                    std::thread::Builder::new()
                        .stack_size(128 << 10)
                        .spawn(move || pass(from, to, budget, resets, &cuts, &over))
                        .expect("a thread");
                }
            }
        });
        Cutter { address, cuts, is_over }
    }

    pub fn wait_for_cuts(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.cuts.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < end, "{} cuts in two minutes", self.cuts.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn cut_no_more(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    mut budget: usize,
    resets: bool,
    cuts: &AtomicUsize,
    over: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let is_cut = count >= budget && !over.load(Ordering::Relaxed);
        let passed = if is_cut { budget } else { count };
        if to.write_all(&buffer[..passed]).is_err() {
            break;
        }
        if is_cut {
            cuts.fetch_add(1, Ordering::Relaxed);
            if resets {
                // Data in flight in the kernel is lost, too (RFC 9293 §3.10.4).
                for stream in [&from, &to] {
                    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
            }
            break;
        }
        budget = budget.saturating_sub(count).max(1);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
