//! Queued lines come out once and in order, in frames of whole lines, however the peer takes them.

use super::*;
use crate::conn::{Ledger, SharedBytes};
use crate::crypto::sealed::{Initiator, Responder, SealedKey};
use proptest::prelude::*;

/// Returns a sealed socket after its handshake, and its client.
fn pair() -> (Sealing, WriteQueue, Client) {
    let server = Responder::new(SealedKey::new([7; 32]));
    let (initiator, first) = Initiator::begin(&server.pin(), [1; 32]).unwrap();
    let (answer, transport) = server.answer(&first, [2; 32]).unwrap();
    let (mut sealing, mut queue) = (Sealing::default(), WriteQueue::default());
    sealing.begin(&answer, transport, &mut queue);
    queue.advance(queue.len());
    let transport = initiator.finish(&answer).unwrap();
    (sealing, queue, Client { transport, bytes: Vec::new(), frames: Vec::new(), close: None })
}

struct Client {
    transport: Transport,
    bytes: Vec<u8>,
    /// The plaintext of each frame.
    frames: Vec<Vec<u8>>,
    close: Option<Vec<u8>>,
}

impl Client {
    /// Takes up to `count` bytes from the queue.
    fn take(&mut self, queue: &mut WriteQueue, count: usize) {
        let count = count.min(queue.len());
        self.bytes.extend(queue.pieces().flatten().take(count));
        queue.advance(count);
        loop {
            let (opcode, header, length) = match *self.bytes.as_slice() {
                [opcode, short @ 0..=125, ..] => (opcode, 2, usize::from(short)),
                [opcode, 126, high, low, ..] => (opcode, 4, usize::from(u16::from_be_bytes([high, low]))),
                _ => return,
            };
            if self.bytes.len() < header + length {
                return;
            }
            let rest = self.bytes.split_off(header + length);
            let frame = std::mem::replace(&mut self.bytes, rest);
            assert!(self.close.is_none(), "nothing follows the close frame");
            match opcode {
                0x88 => self.close = Some(frame),
                0x82 => {
                    let mut out = Vec::new();
                    self.transport.open_into(&mut out, &frame[header..]).unwrap();
                    self.frames.push(out);
                }
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.transport.seal_into(&mut out, plaintext).unwrap();
        out
    }
}

fn seal_all(sealing: &mut Sealing, queue: &mut WriteQueue, client: &mut Client) {
    while sealing.may_seal(queue) {
        sealing.seal(queue, &mut Vec::new()).unwrap();
        client.take(queue, usize::MAX);
    }
}

fn line(length: usize) -> Vec<u8> {
    let mut line = vec![b'x'; length - 1];
    line.push(b'\n');
    line
}

#[test]
fn one_flush_makes_one_frame() {
    let (mut sealing, mut queue, mut client) = pair();
    let shared = SharedBytes::share(line(200), &Ledger::default());
    for _ in 0..3 {
        sealing.plain.push_shared(&shared, 0, 200);
        sealing.plain.push_own(|out| out.extend_from_slice(&line(50)));
    }
    sealing.seal(&mut queue, &mut Vec::new()).unwrap();
    assert!(!sealing.may_seal(&queue));
    assert_eq!((sealing.len(), queue.len()), (0, 4 + 750 + 16));
    client.take(&mut queue, usize::MAX);
    assert_eq!(client.frames, [[line(200), line(50), line(200), line(50), line(200), line(50)].concat()]);
}

#[test]
fn frames_end_with_lines() {
    let (mut sealing, mut queue, mut client) = pair();
    let lengths = [10_000, 10_000, 20_000, 65_519, 65_520, 140_000, 5, 16_384, 16_385];
    for length in lengths {
        sealing.plain.push_own(|out| out.extend_from_slice(&line(length)));
        // A shared line is a piece of its own.
        sealing.plain.push_shared(&SharedBytes::share(line(7), &Ledger::default()), 0, 7);
    }
    seal_all(&mut sealing, &mut queue, &mut client);
    let expected: Vec<u8> = lengths.iter().flat_map(|&length| [line(length), line(7)].concat()).collect();
    assert_eq!(client.frames.concat(), expected);
    let unfinished = client.frames.iter().filter(|frame| !frame.ends_with(b"\n")).count();
    // 65,520 bytes take two frames, 140,000 three.
    assert_eq!(unfinished, 3);
    assert!(client.frames.iter().all(|frame| frame.len() <= MAX_PLAINTEXT));
    assert!(client.frames.len() <= 2 * lengths.len() + 3, "{}", client.frames.len());
}

/// The ciphertext that waits for a slow peer is bounded, however much plaintext waits.
#[test]
fn a_slow_peer_has_no_backlog_of_ciphertext() {
    let (mut sealing, mut queue, mut client) = pair();
    for _ in 0..1000 {
        sealing.plain.push_own(|out| out.extend_from_slice(&line(300)));
        sealing.seal(&mut queue, &mut Vec::new()).unwrap();
        assert!(queue.len() < AHEAD + FRAME + 20, "{}", queue.len());
    }
    sealing.push_last(|out| ws::close_frame(out, Some(1001), ""));
    sealing.seal(&mut queue, &mut Vec::new()).unwrap();
    assert!(!sealing.may_seal(&queue));
    seal_all(&mut sealing, &mut queue, &mut client);
    client.take(&mut queue, usize::MAX);
    seal_all(&mut sealing, &mut queue, &mut client);
    assert_eq!(client.frames.concat().len(), 300_000);
    assert!(client.close.is_some(), "after everything else");
    assert_eq!(sealing.len(), 0);
}

#[test]
fn before_the_handshake_only_the_close_goes_out() {
    let (mut sealing, mut queue) = (Sealing::default(), WriteQueue::default());
    sealing.plain.push_own(|out| out.extend_from_slice(b"{}\n"));
    assert!(!sealing.may_seal(&queue));
    sealing.seal(&mut queue, &mut Vec::new()).unwrap();
    assert_eq!(queue.len(), 0);
    assert_eq!(sealing.open(&[0; 48]), Err(DOES_NOT_VERIFY));
    sealing.push_last(|out| ws::close_frame(out, Some(1008), ""));
    assert!(sealing.may_seal(&queue));
    sealing.seal(&mut queue, &mut Vec::new()).unwrap();
    assert_eq!((sealing.len(), queue.pieces().flatten().copied().collect::<Vec<u8>>()), (0, vec![0x88, 2, 3, 0xf0]));
}

/// Of a line that the client has in part it gets the rest, and the lines behind it are dropped: the announcement of the
/// close is a line of its own, in its turn.
#[test]
fn a_close_is_announced_behind_the_rest_of_a_line() {
    for length in [10, 140_000] {
        let (mut sealing, mut queue, mut client) = pair();
        sealing.plain.push_shared(&SharedBytes::share(line(length), &Ledger::default()), 0, length as u32);
        sealing.plain.push_own(|out| out.extend_from_slice(b"dropped\n"));
        sealing.seal(&mut queue, &mut Vec::new()).unwrap();
        sealing.drop_plain();
        sealing.announce_close(1008, "why \"not\"");
        sealing.push_last(|out| ws::close_frame(out, Some(1008), ""));
        client.take(&mut queue, usize::MAX);
        seal_all(&mut sealing, &mut queue, &mut client);
        client.take(&mut queue, usize::MAX);
        let said = client.frames.concat();
        let closing = b"{\"type\":\"closing\",\"code\":1008,\"reason\":\"why \\\"not\\\"\"}\n";
        let kept = if length == 10 { [&line(10)[..], b"dropped\n"].concat() } else { line(length) };
        assert_eq!(said, [&kept, &closing[..]].concat());
        assert!(client.close.is_some());
    }
}

/// What can no longer be sealed is not said at all.
#[test]
fn without_its_keys_a_socket_only_closes() {
    let (mut sealing, mut queue, mut client) = pair();
    sealing.plain.push_own(|out| out.extend_from_slice(b"{}\n"));
    sealing.give_up();
    sealing.announce_close(1008, "");
    sealing.push_last(|out| ws::close_frame(out, Some(1008), ""));
    seal_all(&mut sealing, &mut queue, &mut client);
    assert_eq!((client.frames.len(), client.close.is_some(), sealing.len()), (0, true, 0));
}

#[test]
fn lines_come_one_by_one() {
    let (mut sealing, _, mut client) = pair();
    let next = |sealing: &mut Sealing| sealing.next_line(10);
    let message = client.seal(b"one\n\ntwo\n");
    sealing.open(&message).unwrap();
    for expected in ["one", "", "two"] {
        assert!(sealing.has_lines());
        assert_eq!(next(&mut sealing), Some(Ok(expected.to_string())));
    }
    assert_eq!((sealing.has_lines(), next(&mut sealing)), (false, None));
    let message = client.seal(b"0123456789\n");
    sealing.open(&message).unwrap();
    assert_eq!(next(&mut sealing), Some(Ok("0123456789".to_string())));
    assert_eq!((sealing.has_lines(), next(&mut sealing), sealing.opened.capacity()), (false, None, 0));
    for (wrong, violation) in [(&b"01234567890\n"[..], TOO_BIG), (b"\xff\n", NOT_UTF8)] {
        let message = client.seal(wrong);
        sealing.open(&message).unwrap();
        assert_eq!(next(&mut sealing), Some(Err(violation)));
    }
    for (wrong, violation) in [(&b""[..], EMPTY), (b"x", NO_LINE), (b"x\ny", NO_LINE)] {
        let message = client.seal(wrong);
        assert_eq!(sealing.open(&message), Err(violation));
        assert_eq!(next(&mut sealing), None, "nothing of it is obeyed");
    }
    assert_eq!(sealing.open(&[]), Err(DOES_NOT_VERIFY));
}

#[test]
fn it_is_small() {
    const { assert!(size_of::<Sealing>() + Transport::BYTES <= 1536) };
}

proptest! {
    #[test]
    fn nothing_is_lost_or_duplicated(steps in prop::collection::vec((0u8..3, 1usize..40_000), 1..40)) {
        let (mut sealing, mut queue, mut client) = pair();
        let mut expected = Vec::new();
        let mut scratch = Vec::new();
        for (kind, size) in steps {
            match kind {
                0 => {
                    expected.extend(line(size));
                    sealing.plain.push_own(|out| out.extend_from_slice(&line(size)));
                }
                1 => {
                    expected.extend(line(size));
                    sealing.plain.push_shared(&SharedBytes::share(line(size), &Ledger::default()), 0, size as u32);
                }
                _ => client.take(&mut queue, size),
            }
            sealing.seal(&mut queue, &mut scratch).unwrap();
        }
        sealing.push_last(|out| ws::close_frame(out, Some(1000), ""));
        while sealing.len() > 0 || !queue.is_empty() {
            client.take(&mut queue, 5000);
            sealing.seal(&mut queue, &mut scratch).unwrap();
        }
        prop_assert!(client.close.is_some());
        prop_assert!(client.frames.iter().all(|frame| frame.ends_with(b"\n")), "no line is longer than a frame");
        prop_assert!(client.frames.concat() == expected);
    }
}

/// Ten thousand idle sockets must not keep the buffers of earlier input.
#[test]
fn an_idle_socket_keeps_no_buffer_of_what_it_heard() {
    let (mut sealing, _queue, mut client) = pair();
    for lines in [1, 3] {
        let sealed = client.seal(&line(1000).repeat(lines));
        sealing.open(&sealed).unwrap();
        for _ in 0..lines {
            assert_eq!(sealing.next_line(2000).map(|line| line.map(|line| line.len())), Some(Ok(999)));
        }
        assert!(sealing.next_line(2000).is_none() && !sealing.has_lines());
        assert_eq!(sealing.opened.capacity(), 0, "after {lines} lines");
    }
}
