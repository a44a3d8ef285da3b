//! A stream over a socket with a settable capacity, against the library's own client.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::conn::{Ledger, SharedBytes};
use crate::crypto::tls::tests::{client, client_config, hears, made, pair, says};
use crate::crypto::tls::{config, tickets};
use crate::ws;

/// A socket that accepts `room` bytes, then no more.
#[derive(Default)]
struct Socket {
    room: usize,
    out: Vec<u8>,
    input: VecDeque<u8>,
    ended: bool,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.out.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.is_empty() {
            true if self.ended => Ok(0),
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.input.read(buffer),
        }
    }
}

struct Both {
    client: ClientConnection,
    tls: TlsStream,
    socket: Socket,
    scratch: Scratch,
    heard: Vec<u8>,
}

impl Both {
    fn open(version: &'static rustls::SupportedProtocolVersion) -> Both {
        let certificate = made(&["a.example"]);
        let config = config(vec![pair(&certificate)], tickets().unwrap()).unwrap();
        let client = client(&client_config(&[&certificate], &[version]), "a.example");
        let (tls, socket) = (TlsStream::new(config).unwrap(), Socket { room: 1 << 20, ..Socket::default() });
        let mut both = Both { client, tls, socket, scratch: Scratch::default(), heard: Vec::new() };
        while both.client.is_handshaking() || both.tls.is_handshaking() || both.client.wants_write() {
            both.socket.input.extend(says(&mut both.client));
            let _ = both.read();
            both.write(&WriteQueue::default(), 1 << 20);
        }
        both.socket.room = 0;
        both
    }

    /// Returns the result of one read, as a word and bytes.
    fn read(&mut self) -> (&'static str, Vec<u8>) {
        match self.tls.read(&mut self.socket, &mut self.scratch, 65_536, false) {
            Received::Some { bytes, more } => (if more { "more" } else { "some" }, bytes.to_vec()),
            Received::Nothing => ("nothing", Vec::new()),
            Received::End => ("end", Vec::new()),
            Received::Broken(Fault::Truncated) => ("truncated", Vec::new()),
            Received::Broken(_) => ("broken", Vec::new()),
            Received::Failed => ("failed", Vec::new()),
            Received::PlainHttp => ("plain", Vec::new()),
        }
    }

    /// Writes into a socket that accepts `room` bytes, and passes them to the client.
    fn write(&mut self, queue: &WriteQueue, room: usize) -> usize {
        self.socket.room = room;
        let mut blocked = false;
        let Written::Some(taken) = self.tls.write(&mut self.socket, queue, &mut self.scratch, &mut blocked) else {
            panic!("the socket is well")
        };
        assert!(self.tls.waiting.len() <= RECORD + 256, "one record waits at most");
        assert_eq!(blocked, self.tls.wants_write());
        let out = std::mem::take(&mut self.socket.out);
        self.heard.extend(hears(&mut self.client, &out).unwrap());
        taken
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// All queued bytes arrive once and in order, however little the socket accepts; and the queue is empty only when
    /// the socket has accepted all.
    #[test]
    fn all_arrives_once(
        tls13 in any::<bool>(),
        steps in prop::collection::vec((0usize..3, 2usize..40_000, 0usize..30_000), 1..40),
    ) {
        let mut both = Both::open(if tls13 { &TLS13 } else { &TLS12 });
        let (mut queue, mut said) = (WriteQueue::default(), Vec::new());
        let mut next = 0u8;
        for (kind, size, room) in steps {
            next = next.wrapping_add(1);
            let bytes = vec![next; size];
            match kind {
                0 => queue.push_shared(&SharedBytes::share(bytes.clone(), &Ledger::default()), 0, size as u32),
                1 => queue.push_own(|out| out.extend_from_slice(&bytes)),
                _ => {}
            }
            if kind < 2 {
                said.extend(bytes);
            }
            let taken = both.write(&queue, room);
            prop_assert!(taken <= queue.len());
            queue.advance(taken);
            prop_assert!(!queue.is_empty() || !both.tls.wants_write());
            prop_assert!(said.starts_with(&both.heard));
        }
        let taken = both.write(&queue, 1 << 24);
        prop_assert_eq!(taken, queue.len());
        prop_assert!(both.heard == said);
        prop_assert!(both.tls.waiting.capacity() == 0 && !both.tls.owed);
    }
}

/// A close with an error drops frames that have not begun: a frame with any encrypted byte has begun, even if that byte
/// is its last.
#[test]
fn a_dropped_queue_leaves_whole_frames() {
    for room in [0, 10, 100] {
        let mut both = Both::open(&TLS13);
        let mut queue = WriteQueue::default();
        let mut first = Vec::new();
        ws::data_frame(&mut first, true, &[b'a'; 90]);
        queue.push_shared(&SharedBytes::share(first.clone(), &Ledger::default()), 0, first.len() as u32);
        let taken = both.write(&queue, room);
        assert_eq!(taken, first.len() - 1);
        queue.advance(taken);
        queue.push_own(|out| ws::data_frame(out, true, b"not begun"));
        queue.drop_unbegun();
        let mut last = Vec::new();
        ws::close_frame(&mut last, Some(1008), "why");
        queue.push_own(|out| out.extend_from_slice(&last));
        let taken = both.write(&queue, 1 << 20);
        queue.advance(taken);
        assert!(queue.is_empty());
        assert_eq!(both.heard, [first, last].concat());
    }
}

#[test]
fn an_end_is_told_apart_from_a_cut() {
    for version in [&TLS12, &TLS13] {
        let mut both = Both::open(version);
        both.client.writer().write_all(b"last").unwrap();
        both.client.send_close_notify();
        both.socket.input.extend(says(&mut both.client));
        assert_eq!(both.read(), ("more", b"last".to_vec()));
        assert_eq!(both.read(), ("end", Vec::new()));
        // The end is reported only once.
        both.socket.input.extend(b"more bytes that count no more");
        assert_eq!(both.read(), ("some", Vec::new()));
        both.socket.ended = true;
        assert_eq!(both.read(), ("nothing", Vec::new()));

        let mut both = Both::open(version);
        both.client.writer().write_all(b"last").unwrap();
        both.socket.input.extend(says(&mut both.client));
        both.socket.ended = true;
        assert_eq!(both.read(), ("some", b"last".to_vec()));
        assert_eq!(both.read(), ("truncated", Vec::new()));
    }
}

#[test]
fn our_last_word_goes_out_before_the_socket_is_shut() {
    let mut both = Both::open(&TLS13);
    assert!(!both.tls.close(&mut both.socket) && !both.tls.is_closed());
    both.write(&WriteQueue::default(), 5);
    assert!(!both.tls.is_closed());
    both.write(&WriteQueue::default(), 100);
    assert!(both.tls.is_closed() && both.tls.close(&mut both.socket));
    assert!(both.client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn the_first_bytes_reveal_a_client_without_tls() {
    let of = |bytes: &[u8]| {
        let config = config(vec![pair(&made(&["a.example"]))], tickets().unwrap()).unwrap();
        let mut tls = TlsStream::new(Arc::clone(&config)).unwrap();
        let mut socket = Socket { input: bytes.iter().copied().collect(), ended: true, ..Socket::default() };
        let mut scratch = Scratch::default();
        let came = tls.read(&mut socket, &mut scratch, 65_536, false);
        matches!(came, Received::PlainHttp)
    };
    assert!(of(b"GET / HTTP/1.1\r\n") && of(b"G") && of(b"OPTIONS * HTTP/1.1\r\n"));
    assert!(!of(b"\x16\x03\x01") && !of(b"") && !of(b"\x80\x2e\x01") && !of(b"hello"));
}
