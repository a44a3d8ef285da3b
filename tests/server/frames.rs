//! WebSocket frames byte for byte, on the real binary: violations of RFC 6455 get the right close code as soon as they
//! show, and no part of them is obeyed; valid input works however it is split. Codes of close frames are in `closing`.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// Opens a socket in the room `r1` and reads up to `joined`.
fn joined(server: &Server) -> Raw {
    let mut raw = server.socket("/rooms/r1/ws?name=ann");
    raw.next_of("joined");
    raw
}

/// Joins a member to the same room that must receive nothing invalid.
fn observer(server: &Server) -> Client {
    server.client("/rooms/r1/ws?name=observer&presence=off")
}

/// Sends this on a new socket, which the server must close with this code and nothing else.
fn closes_with(server: &Server, bytes: impl AsRef<[u8]>, code: u16) {
    let mut raw = joined(server);
    raw.send(bytes.as_ref());
    let shown = &bytes.as_ref()[..bytes.as_ref().len().min(40)];
    assert_eq!(raw.closed_with(), code, "{shown:x?}");
}

/// Checks that the observer received nothing and still works.
fn heard_nothing(mut observer: Client) {
    observer.send(json!({"type": "ping", "id": 1}));
    loop {
        let value = observer.next().expect("it is open");
        match value["type"].as_str() {
            Some("pong") => break assert_eq!(value["heads"], json!({"r1": 0})),
            Some("joined") => {}
            _ => panic!("{value}"),
        }
    }
}

const SEND: &str = r#"{"type":"send","id":1,"body":"x"}"#;

/// A length is judged by the header alone, and no memory is reserved for announced bytes.
#[test]
fn lengths_are_judged_before_anything_of_them_comes() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    let header = |first: u8, length: &[u8]| {
        [&[first, 0x80 | if length.len() == 2 { 126 } else { 127 }], length, &[0; 4]].concat()
    };
    let before = server.rss();
    for (length, code) in [
        (u64::MAX - 3, 1002),
        (u64::MAX, 1002),
        (1 << 63, 1002),
        ((1 << 63) - 1, 1009),
        (u64::from(u32::MAX), 1009),
        (1 << 32, 1009),
        (1 << 30, 1009),
        (32 * 1024 + 1, 1002),
        (65_536, 1009),
    ] {
        closes_with(&server, header(0x81, &length.to_be_bytes()), code);
    }
    closes_with(&server, header(0x81, &(32 * 1024 + 1u16).to_be_bytes()), 1009);
    // The length uses more bytes than needed (RFC 6455 §5.2).
    closes_with(&server, [header(0x81, &5u16.to_be_bytes()), b"{\"a\":".to_vec()].concat(), 1002);
    closes_with(&server, header(0x81, &125u16.to_be_bytes()), 1002);
    closes_with(&server, header(0x81, &0u64.to_be_bytes()), 1002);
    closes_with(&server, header(0x81, &65_535u64.to_be_bytes()), 1002);
    // Many sockets announce the maximum and send nothing: no memory is reserved for them.
    let mut waiting: Vec<Raw> = (0..100).map(|_| joined(&server)).collect();
    for raw in &mut waiting {
        raw.send(header(0x81, &(32 * 1024u16).to_be_bytes()));
    }
    drop(observer);
    let mut last = joined(&server);
    last.send(text(r#"{"type":"ping","id":1}"#));
    last.next_of("pong");
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 3 << 20, "{grown} bytes");
}

#[test]
fn a_message_may_be_as_long_as_the_limit_says_and_no_byte_longer() {
    let server = Server::start(&["--max-message-size", "1000"]);
    let message = |length: usize| {
        let empty = r#"{"type":"send","id":1,"body":""}"#;
        format!(r#"{{"type":"send","id":1,"body":"{}"}}"#, "a".repeat(length - empty.len()))
    };
    let mut raw = joined(&server);
    raw.send(text(&message(1000)));
    raw.next_of("ack");
    // The limit applies to the sum of all fragments.
    let whole = message(1000);
    raw.send([frame(0x01, &whole.as_bytes()[..999]), frame(0x80, &whole.as_bytes()[999..])].concat());
    raw.next_of("ack");
    raw.send(frame(0x01, &[b' '; 999]));
    raw.send(&frame(0x80, b"{}")[..6]);
    assert_eq!(raw.closed_with(), 1009, "at the header of the fragment that is too much");
    closes_with(&server, text(&message(1001)), 1009);
    closes_with(&server, frame(0x01, &[b' '; 1001]), 1009);
    assert_eq!(server.get("/rooms/r1/messages").json()["head"], 2);
}

#[test]
fn frames_without_a_mask_are_refused_and_obeyed_in_no_part() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    let unmasked = |first: u8, payload: &str| [&[first, payload.len() as u8], payload.as_bytes()].concat();
    for bytes in [
        unmasked(0x81, "{}"),
        unmasked(0x81, SEND),
        unmasked(0x81, ""),
        unmasked(0x89, ""),
        unmasked(0x8a, ""),
        unmasked(0x88, ""),
        vec![0x88, 2, 3, 0xe8],
        // The header alone shows the fault: no byte after it is needed.
        vec![0x81, 0x02],
        vec![0x81, 0x7e, 0x01, 0x00],
        [frame(0x01, &SEND.as_bytes()[..9]), unmasked(0x80, &SEND[9..])].concat(),
        // Later frames are not obeyed either.
        [unmasked(0x89, ""), text(SEND)].concat(),
    ] {
        closes_with(&server, &bytes, 1002);
    }
    heard_nothing(observer);
}

#[test]
fn any_mask_is_taken_off() {
    let server = Server::start(&[]);
    let mut raw = joined(&server);
    for (n, mask) in [[0u8, 0, 0, 1], [0xff; 4], [1, 2, 3, 4], [0x37, 0xfa, 0x21, 0x3d]].into_iter().enumerate() {
        let payload = format!(r#"{{"type":"ping","id":{n}}}"#);
        let masked = payload.bytes().zip(mask.into_iter().cycle()).map(|(byte, key)| byte ^ key);
        let bytes: Vec<u8> = [0x81, 0x80 | payload.len() as u8].into_iter().chain(mask).chain(masked).collect();
        // The split also falls inside the mask's four-byte period.
        let (head, tail) = bytes.split_at(7 + n);
        raw.send(head);
        raw.send(tail);
        assert_eq!(raw.next_of("pong")["id"], n);
    }
}

/// Characters may be split anywhere.
#[test]
fn a_character_may_be_cut_between_fragments() {
    let server = Server::start(&["--request-rate", "0"]);
    let mut observer = server.member("r1", "observer");
    let mut raw = joined(&server);
    let said = "{\"type\":\"send\",\"id\":1,\"body\":\"κ😀é\"}".as_bytes();
    // One byte per fragment, in one send; then with a ping between all of them, byte by byte.
    let last = said.len() - 1;
    let piece = |at: usize| {
        let opcode = if at == 0 { 1 } else { 0 };
        let fin = if at == last { 0x80 } else { 0 };
        frame(fin | opcode, &said[at..=at])
    };
    raw.send((0..said.len()).flat_map(piece).collect::<Vec<u8>>());
    assert_eq!(observer.next_of("message")["body"], "κ😀é");
    for at in 0..said.len() {
        raw.send(frame(0x89, &[at as u8]));
        for byte in piece(at) {
            raw.send([byte]);
        }
    }
    assert_eq!(observer.next_of("message")["body"], "κ😀é");
    let mut pongs = Vec::new();
    while pongs.len() < said.len() {
        let frame = raw.frame().expect("it is open");
        if frame.first == 0x8a {
            pongs.extend(frame.payload);
        }
    }
    assert_eq!(pongs, (0..said.len() as u8).collect::<Vec<_>>(), "each answered, in order");
    // Empty fragments are allowed.
    raw.send(
        [frame(0x01, b""), frame(0x00, b""), frame(0x00, br#"{"type":"ping","id":7}"#), frame(0x80, b"")].concat(),
    );
    assert_eq!(raw.next_of("pong")["id"], 7);
}

/// Other members never receive text that their browser would reject.
#[test]
fn text_that_is_not_utf_8_ends_in_1007_and_reaches_nobody() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    let bad: [&[u8]; 9] = [
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf8\x88\x80\x80\x80",
        b"\xff",
        b"\x80",
        b"\xce",
        b"\xf0\x9f",
    ];
    for bytes in bad {
        let message = [br#"{"type":"send","id":1,"body":""#, bytes, br#""}"#].concat();
        closes_with(&server, frame(0x81, &message), 1007);
        closes_with(&server, [frame(0x01, &message[..30]), frame(0x80, &message[30..])].concat(), 1007);
        closes_with(&server, frame(0x81, bytes), 1007);
    }
    // The fault is detected before the message is complete, and even before the frame is.
    closes_with(&server, frame(0x01, b"\xce\xba\xed\xa0\x80"), 1007);
    closes_with(&server, &frame(0x01, b"\xce\xba\xed\xa0\x80 and more")[..11], 1007);
    closes_with(&server, [frame(0x01, b"\xf0"), frame(0x00, b"\x9f"), frame(0x00, b"x")].concat(), 1007);
    // A message may not end within a character, but a fragment may.
    closes_with(&server, [frame(0x01, b"\xf0\x9f"), frame(0x80, b"")].concat(), 1007);
    heard_nothing(observer);
}

#[test]
fn control_frames_are_short_and_whole() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    let long = |first: u8| frame(first, &[b'a'; 126]);
    for bytes in [
        long(0x89),
        // The header alone shows the fault, before the payload arrives.
        long(0x89)[..8].to_vec(),
        long(0x8a)[..8].to_vec(),
        long(0x88)[..8].to_vec(),
        vec![0x89, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        frame(0x09, b""),
        frame(0x0a, b""),
        frame(0x08, b""),
        // Reserved opcodes.
        frame(0x83, b""),
        frame(0x84, b""),
        frame(0x87, b""),
        frame(0x03, b""),
        frame(0x8b, b""),
        frame(0x8f, b""),
    ] {
        closes_with(&server, &bytes, 1002);
        closes_with(&server, [bytes, text(SEND)].concat(), 1002);
    }
    heard_nothing(observer);
    let mut raw = joined(&server);
    for length in [0, 1, 125] {
        let payload: Vec<u8> = (0..length).collect();
        raw.send(frame(0x89, &payload));
        let pong = loop {
            let frame = raw.frame().expect("it is open");
            if frame.first == 0x8a {
                break frame;
            }
        };
        assert_eq!(pong.payload, payload, "the same bytes go back (RFC 6455 §5.5.3)");
    }
    // Unsolicited pongs are allowed.
    raw.send([frame(0x8a, b""), frame(0x8a, b"hello"), text(r#"{"type":"ping","id":1}"#)].concat());
    assert_eq!(raw.next_of("pong")["id"], 1);
}

/// No extension was negotiated, so none of the reserved bits may be set.
#[test]
fn reserved_bits_are_refused() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0xc2, 0x41, 0xc9, 0xa8] {
        closes_with(&server, frame(first, SEND.as_bytes()), 1002);
        closes_with(&server, &frame(first, SEND.as_bytes())[..6], 1002);
    }
    closes_with(&server, [frame(0x01, &SEND.as_bytes()[..9]), frame(0xc0, &SEND.as_bytes()[9..])].concat(), 1002);
    heard_nothing(observer);
}

#[test]
fn fragments_come_in_order_or_not_at_all() {
    let server = Server::start(&["--max-fragments", "16"]);
    let observer = observer(&server);
    for bytes in [
        frame(0x80, SEND.as_bytes()),
        frame(0x00, b""),
        [frame(0x01, b"{"), text(SEND)].concat(),
        [frame(0x01, b"{"), frame(0x01, b"}")].concat(),
        [frame(0x01, b"{"), frame(0x82, b"}")].concat(),
    ] {
        closes_with(&server, &bytes, 1002);
    }
    // Each fragment costs the server work, while an empty one costs its sender nothing.
    let many = |count: usize| [frame(0x01, b"{"), frame(0x00, b"").repeat(count), frame(0x80, b"}")].concat();
    closes_with(&server, many(1000), 1008);
    heard_nothing(observer);
    let mut raw = joined(&server);
    raw.send(many(14));
    assert_eq!(raw.next_of("error")["field"], "type");
}

#[test]
fn binary_is_refused_with_1003_at_its_header() {
    let server = Server::start(&[]);
    let observer = observer(&server);
    for bytes in [
        frame(0x82, SEND.as_bytes()),
        frame(0x82, b""),
        frame(0x02, b"x"),
        frame(0x82, &[0; 1000])[..8].to_vec(),
        frame(0x82, &[0; 40_000])[..8].to_vec(),
        // The client keeps sending: it still reads the close code, not a reset.
        [frame(0x82, b"x"), text(SEND).repeat(1000)].concat(),
    ] {
        closes_with(&server, &bytes, 1003);
    }
    heard_nothing(observer);
}

/// The work for one large message in many small pieces is proportional to its size.
#[test]
fn a_large_message_in_small_pieces_costs_work_in_proportion() {
    let server = Server::start(&[
        "--append-bytes",
        "4MiB",
        "--max-message-size",
        "2MiB",
        "--queue-bytes",
        "4MiB",
        "--reply-bytes",
        "4MiB",
        "--max-fragments",
        "100000",
    ]);
    let mut raw = joined(&server);
    let body = "é".repeat(500_000);
    let message = format!("{{\"type\":\"send\",\"id\":1,\"body\":\"{body}\"}}");
    let pieces: Vec<&[u8]> = message.as_bytes().chunks(31).collect();
    let last = pieces.len() - 1;
    let bytes: Vec<u8> = pieces
        .iter()
        .enumerate()
        .flat_map(|(at, piece)| frame(if at == last { 0x80 } else { 0 } | u8::from(at == 0), piece))
        .collect();
    let before = server.cpu();
    // 32,000 fragments, in segments with arbitrary boundaries.
    for segment in bytes.chunks(997) {
        raw.send(segment);
    }
    raw.next_of("ack");
    let used = server.cpu() - before;
    assert!(used < Duration::from_millis(1500), "{used:?}");
    let heard = raw.next_of("message");
    assert_eq!(heard["body"].as_str().map(str::len), Some(body.len()));
}
