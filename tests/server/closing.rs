//! WebSocket closing on the real binary: the code reaches the peer, nothing is sent after it, nothing received after
//! it is obeyed, and every wait is bounded.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::*;
use crate::timers::narrow;

fn joined(server: &Server) -> Raw {
    let mut raw = server.socket("/rooms/r1/ws?name=ann");
    raw.next_of("joined");
    raw
}

const SEND: &str = r#"{"type":"send","id":1,"body":"x"}"#;

/// An invalid close frame is answered with 1002; a reason that is not UTF-8, with 1007.
#[test]
fn bad_close_frames_are_not_echoed() {
    let server = Server::without_grace(&[]);
    let with = |bytes: Vec<u8>| {
        let mut raw = joined(&server);
        // Bytes behind the close frame are not obeyed.
        raw.send([bytes, text(SEND)].concat());
        raw.closed_with()
    };
    assert_eq!(with(frame(0x88, b"\x03")), 1002);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535] {
        assert_eq!(with(close(code, b"")), 1002, "{code}");
        assert_eq!(with(close(code, b"why")), 1002, "{code}");
    }
    for reason in [&b"\xff\xfe"[..], b"\xce", b"ok\xed\xa0\x80"] {
        assert_eq!(with(close(1000, reason)), 1007, "{reason:?}");
    }
    assert_eq!(with(close(1000, &[b'a'; 124])), 1002);
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 0);
}

/// Valid codes are echoed.
#[test]
fn a_close_is_answered_with_its_code() {
    let server = Server::without_grace(&[]);
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4001, 4999]) {
        let mut raw = joined(&server);
        raw.send([close(code, b"why"), text(SEND)].concat());
        assert_eq!(raw.closed_with(), code);
    }
    let mut raw = joined(&server);
    raw.send(close(1000, &[b'a'; 123]));
    assert_eq!(raw.closed_with(), 1000);
    // A close without a code is answered without one.
    let mut raw = joined(&server);
    raw.send(frame(0x88, b""));
    let last = loop {
        let frame = raw.frame().expect("a close frame before the end");
        if frame.first == 0x88 {
            break frame;
        }
    };
    assert_eq!(last.payload, b"");
    assert!(raw.ended());
    // A close may come between the fragments of a message.
    let mut raw = joined(&server);
    raw.send([frame(0x01, &SEND.as_bytes()[..9]), close(1000, b""), frame(0x80, &SEND.as_bytes()[9..])].concat());
    assert_eq!(raw.closed_with(), 1000);
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 0, "nothing behind a close is obeyed");
}

/// The answer goes out without waiting for any other event.
#[test]
fn the_answer_to_a_close_is_sent_at_once() {
    let server = Server::without_grace(&[]);
    let mut raw = joined(&server);
    let mut quiet = server.member("r2", "bob");
    quiet.sync();
    let begun = Instant::now();
    raw.send(close(1000, b""));
    assert_eq!(raw.closed_with(), 1000);
    // The close frame is split behind its first byte.
    let mut raw = joined(&server);
    let bytes = close(1000, b"");
    raw.send(&bytes[..1]);
    quiet.sync();
    raw.send(&bytes[1..]);
    assert_eq!(raw.closed_with(), 1000);
    // Any timer that could have sent it instead takes 10 seconds or more.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Fills the sockets of members that do not read until the server has to queue part of it.
fn fill(server: &Server, kilobytes: u64) {
    let mut publisher = server.member("r1", "publisher");
    let body = "x".repeat(8000);
    for id in 1..=kilobytes / 8 {
        publisher.say(id, json!(body));
    }
}

/// Reads to the end, checking that frames are whole and that the only close frame is the last. Returns its code and
/// the frames before it.
fn read_to_the_end(raw: &mut Raw) -> (u16, Vec<Frame>) {
    let mut frames = Vec::new();
    while let Some(frame) = raw.frame() {
        frames.push(frame);
    }
    let last = frames.pop().expect("a close frame");
    let code = last.close_code().unwrap_or_else(|| panic!("the last frame is {:x}", last.first));
    for frame in &frames {
        assert!(frame.first == 0x81 || frame.first == 0x89 || frame.first == 0x8a, "{:x}", frame.first);
        if frame.first == 0x81 {
            frame.json();
        }
    }
    (code, frames)
}

/// The answer to a peer's close goes behind the queued frames, and none of them is cut.
#[test]
fn a_close_behind_a_full_queue_comes_after_whole_frames() {
    let server = Server::without_grace(&["--request-rate", "0"]);
    let mut raw = narrow(&server, 4096);
    raw.upgrade("/rooms/r1/ws?name=slow");
    raw.next_of("joined");
    fill(&server, 800);
    raw.send(close(1000, b""));
    let (code, frames) = read_to_the_end(&mut raw);
    assert_eq!(code, 1000);
    let seqs: Vec<u64> = frames
        .iter()
        .filter(|f| f.first == 0x81)
        .map(Frame::json)
        .filter(|value| value["type"] == "message")
        .map(|value| value["seq"].as_u64().unwrap())
        .collect();
    let wanted: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, wanted, "what was queued comes whole and in order");
}

/// A close for an error does not wait for the queue, cuts no frame, and is the last frame.
#[test]
fn an_error_close_drops_what_is_not_begun_and_cuts_nothing() {
    // On a slow machine filling the queue takes longer than the 10 s of the default.
    let server = Server::without_grace(&["--request-rate", "0", "--write-wait", "2m"]);
    for (bytes, wanted) in [(frame(0x82, b"x"), 1003), (frame(0x81, &[b' '; 33_000]), 1009), (frame(0x83, b""), 1002)] {
        let mut raw = narrow(&server, 4096);
        raw.upgrade("/rooms/r1/ws?name=slow&presence=off");
        raw.next_of("joined");
        fill(&server, 800);
        raw.send(bytes);
        // The fault is noticed although the peer reads nothing, so handling it does not wait for the queue.
        eventually("the end of its session", || server.members("r1") == 0);
        let (code, frames) = read_to_the_end(&mut raw);
        assert_eq!(code, wanted);
        let taken: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        // The peer gets the bytes that the kernels held, not the 256 KiB of the queue.
        assert!(taken < 200_000, "{taken} bytes");
    }
}

/// The connection ends within the named bound after our close frame, whatever the peer does.
#[test]
fn a_peer_that_does_not_answer_a_close_is_not_waited_for_for_ever() {
    let server = Server::without_grace(&["--request-rate", "0"]);
    let mut observer = server.member("r1", "observer");
    let before = server.descriptors();
    let cause = frame(0x82, b"x");
    // (a) Twenty peers answer nothing; (c) one sends half a frame and stops.
    let mut silent: Vec<Raw> = (0..20).map(|_| joined(&server)).collect();
    let mut half = joined(&server);
    let mut busy = joined(&server);
    let mut proper = joined(&server);
    let begun = Instant::now();
    for raw in &mut silent {
        raw.send(&cause);
    }
    half.send([cause.clone(), text(SEND)[..9].to_vec()].concat());
    for raw in silent.iter_mut().chain([&mut half]) {
        assert_eq!(raw.closed_with(), 1003);
    }
    // (d) One answers properly, after a while.
    proper.send(&cause);
    let answered = loop {
        let frame = proper.frame().expect("a close frame");
        if frame.first == 0x88 {
            break frame;
        }
    };
    assert_eq!(answered.close_code(), Some(1003));
    (0..3).for_each(|_| drop(observer.sync()));
    proper.send(close(1003, b""));
    assert!(proper.ended(), "the code, then FIN, no reset");
    // (b) One goes on sending: none of it is obeyed, and in the end it is cut off.
    busy.send(&cause);
    assert_eq!(busy.closed_with(), 1003);
    let message = text(SEND);
    while busy.try_send(&message) {
        assert!(begun.elapsed() < SOON, "it may send for ever");
        // Other clients are served meanwhile.
        observer.sync();
    }
    eventually("all slots free", || server.descriptors() <= before);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 0);
    assert_eq!(server.get("/rooms/r1/members").json()["count"], 1);
}

/// A peer that reads nothing never sees its close frame, and is dropped after `write_wait`.
#[test]
fn a_peer_that_takes_nothing_is_gone_after_write_wait() {
    let server = Server::without_grace(&["--request-rate", "0", "--write-wait", "500ms"]);
    let before = server.descriptors();
    let mut raw = narrow(&server, 4096);
    raw.upgrade("/rooms/r1/ws?name=slow&presence=off");
    raw.next_of("joined");
    fill(&server, 800);
    let _ = raw.try_send(frame(0x82, b"x"));
    eventually("the slot free", || server.descriptors() <= before);
}

#[test]
fn a_client_that_reads_late_still_reads_the_code() {
    let server = Server::without_grace(&[]);
    // The peer sends a megabyte behind the fault before it reads.
    let mut raw = joined(&server);
    raw.send([frame(0x82, b"x"), text(SEND).repeat(25_000)].concat());
    eventually("the end of its session", || server.members("r1") == 0);
    assert_eq!(raw.closed_with(), 1003);
    // The same with tungstenite's client.
    let mut client = server.member("r1", "bob");
    client.socket.send(tungstenite::Message::binary(vec![0u8; 8])).expect("the server takes bytes");
    let code = loop {
        match client.socket.read() {
            Ok(tungstenite::Message::Close(frame)) => break frame.expect("a code").code,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(u16::from(code), 1003);
    let end = client.socket.read();
    assert!(matches!(end, Err(tungstenite::Error::ConnectionClosed)), "{end:?}");
}

/// Messages that arrive in one read with a close are all acknowledged before the close is answered.
#[test]
fn acknowledgements_come_before_the_answer_to_a_close() {
    let server = Server::without_grace(&[]);
    for code in [Some(1000), None, Some(1001), Some(4321)] {
        let before = server.get("/rooms/r1/messages").json()["head"].as_u64().unwrap();
        let mut raw = joined(&server);
        // More messages than may be in flight at once, in one segment with the close.
        let sends = (1..=40).flat_map(|id| text(&format!(r#"{{"type":"send","id":{id},"body":{id}}}"#)));
        let last = code.map_or_else(|| frame(0x88, b""), |code| close(code, b""));
        raw.send(sends.chain(last).collect::<Vec<u8>>());
        let mut acknowledged = Vec::new();
        let answered = loop {
            let frame = raw.frame().expect("a close frame before the end");
            match frame.first {
                0x88 => break frame.close_code(),
                _ if frame.json()["type"] == "ack" => acknowledged.push(frame.json()["id"].as_u64().unwrap()),
                _ => {}
            }
        };
        assert_eq!(answered, code);
        assert_eq!(raw.frame(), None, "nothing follows a close frame");
        assert_eq!(acknowledged, (1..=40).collect::<Vec<u64>>(), "{code:?}");
        assert_eq!(server.get("/rooms/r1/messages").json()["head"], before + 40);
    }
    assert_eq!(server.members("r1"), 0);
}

/// The same for HTTP: requests that arrive in one segment with the end of the client's stream are all answered.
#[test]
fn requests_before_the_end_of_a_stream_are_answered() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    let post = "POST /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1\r\n\r\n1";
    raw.send(post.repeat(5));
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for seq in 1..=5 {
        let answer = raw.answer();
        assert_eq!((answer.status, &answer.json()["seq"]), (201, &json!(seq)));
    }
    assert!(raw.ended());
}

#[test]
fn bye_comes_before_the_close_of_a_shutdown() {
    let mut server = Server::without_grace(&[]);
    let mut raw = joined(&server);
    server.signal(rustix::process::Signal::TERM);
    let (code, frames) = read_to_the_end(&mut raw);
    assert_eq!(code, 1001);
    let bye = frames.last().expect("bye").json();
    assert_eq!((&bye["type"], &bye["reason"]), (&json!("bye"), &json!("shutdown")));
    assert!(bye["reconnect_after_ms"].is_u64());
    raw.send(close(1001, b""));
    assert_eq!(server.wait(SOON).code(), Some(0));
}

#[test]
fn an_end_without_a_close_frame_leaves_nothing_behind() {
    let server = Server::without_grace(&[]);
    let before = server.descriptors();
    let ended = joined(&server);
    ended.stream.shutdown(std::net::Shutdown::Write).unwrap();
    joined(&server).reset();
    let mut half = joined(&server);
    half.send(&text(SEND)[..9]);
    drop(half);
    let mut fragment = joined(&server);
    fragment.send(frame(0x01, b"{"));
    drop(fragment);
    eventually("all slots free", || server.descriptors() <= before);
    assert_eq!(server.get("/rooms/r1/members").json()["count"], 0);
    drop(ended);
}

#[test]
fn a_closed_connection_has_one_line_in_the_log_with_its_reason() {
    let server = Server::without_grace(&[]);
    let mut raw = joined(&server);
    raw.send(frame(0x82, b"x"));
    raw.closed_with();
    drop(raw);
    let mut raw = joined(&server);
    raw.send(close(4000, b"secret"));
    raw.closed_with();
    drop(raw);
    let lines = || {
        server.log().lines().filter(|line| line.contains("connection closed")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("two lines", || lines().len() == 2);
    let lines = lines();
    assert!(lines[0].contains("1003") && lines[1].contains("4000"), "{lines:?}");
    assert!(!server.log().contains("secret"), "reasons of peers are theirs");
}
