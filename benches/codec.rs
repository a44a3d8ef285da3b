//! The frame codec beside tungstenite's own context: time per message, and memory of idle connections. `cargo bench
//! --bench codec`. Times are medians of interleaved runs; compare them only within one run.

use std::hint::black_box;
use std::io::{Cursor, Read, Write};
use std::time::Instant;

use racerd::ws::{Decoder, Limits, Message};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

const MESSAGES: usize = 2000;
const RUNS: usize = 31;
const IDLE: usize = 2000;

/// Memory as a stream: reads return the content, then would block.
struct Memory(Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer) {
            Ok(0) => Err(std::io::ErrorKind::WouldBlock.into()),
            other => other,
        }
    }
}

impl Write for Memory {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn frames(size: usize) -> Vec<u8> {
    let mask = [7, 77, 177, 211];
    let mut out = Vec::new();
    for _ in 0..MESSAGES {
        out.push(0x81);
        if size < 126 {
            out.push(0x80 | size as u8);
        } else {
            out.push(0xfe);
            out.extend((size as u16).to_be_bytes());
        }
        out.extend(mask);
        out.extend((0..size).map(|i| b'a' ^ mask[i % 4]));
    }
    out
}

fn ours(mut bytes: Vec<u8>) -> f64 {
    let limits = Limits { max_message: 32 * 1024, max_fragments: 1000, binary: false };
    let mut decoder = Decoder::default();
    let start = Instant::now();
    let (mut at, mut count) = (0, 0);
    while let Ok((used, Some(message))) = decoder.next(&mut bytes[at..], &limits) {
        if let Message::Text(text) = message {
            count += usize::from(!black_box(text).is_empty());
        }
        at += used;
    }
    assert_eq!(count, MESSAGES);
    start.elapsed().as_nanos() as f64 / MESSAGES as f64
}

fn theirs(bytes: Vec<u8>) -> f64 {
    let mut context = WebSocketContext::new(Role::Server, Some(small()));
    let mut stream = Memory(Cursor::new(bytes));
    let start = Instant::now();
    let mut count = 0;
    while let Ok(tungstenite::Message::Text(text)) = context.read(&mut stream) {
        count += usize::from(!black_box(text).is_empty());
    }
    assert_eq!(count, MESSAGES);
    start.elapsed().as_nanos() as f64 / MESSAGES as f64
}

/// Configures tungstenite with the smallest buffers that it can use well.
fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0)
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default() * 4096.0
}

fn memory<T>(what: &str, mut make: impl FnMut() -> T) {
    let before = resident();
    let all: Vec<T> = (0..IDLE).map(|_| make()).collect();
    println!("{what}: {:.0} bytes resident each", (resident() - before) / IDLE as f64);
    drop(black_box(all));
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn main() {
    for size in [20, 200, 4000] {
        let bytes = frames(size);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            a.push(ours(bytes.clone()));
            b.push(theirs(bytes.clone()));
        }
        let (a, b) = (median(a), median(b));
        println!("{size} bytes: decoder {a:.0} ns, WebSocketContext {b:.0} ns a message, ratio {:.2}", a / b);
    }
    let mut one = frames(20);
    one.truncate(26);
    memory("a decoder after a message", || {
        let mut decoder = Decoder::default();
        let limits = Limits { max_message: 32 * 1024, max_fragments: 1000, binary: false };
        let _ = decoder.next(&mut one.clone(), &limits);
        decoder
    });
    for (name, config) in [("as it comes", WebSocketConfig::default()), ("with 4 KiB to read", small())] {
        memory(&format!("a WebSocketContext after a message, {name}"), || {
            let mut context = WebSocketContext::new(Role::Server, Some(config));
            let _ = context.read(&mut Memory(Cursor::new(one.clone())));
            context
        });
    }
}
