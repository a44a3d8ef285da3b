//! The codec against the rules, against any split of the same bytes, and against a plain tungstenite socket.

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use super::*;

const LIMITS: Limits = Limits { max_message: 32 * 1024, max_fragments: 1000, binary: true };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Feeds the bytes in pieces; what came out until the end, a close or a violation.
fn decode(bytes: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<Seen>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        let mut input = &mut piece[..];
        loop {
            match decoder.next(input, limits) {
                Err(violation) => return (seen, Some(violation)),
                Ok((used, message)) => {
                    let closed = matches!(message, Some(Message::Close(_)));
                    let done = message.is_none();
                    match message {
                        Some(Message::Text(t)) => seen.push(Seen::Text(t.into_owned())),
                        Some(Message::Binary(b)) => seen.push(Seen::Binary(b.into_owned())),
                        Some(Message::Ping(p)) => seen.push(Seen::Ping(p.into_owned())),
                        Some(Message::Pong) => seen.push(Seen::Pong),
                        Some(Message::Close(c)) => seen.push(Seen::Close(c)),
                        None => {}
                    }
                    if closed {
                        return (seen, None);
                    }
                    if done {
                        assert_eq!(used, input.len(), "all of the input is taken when more is needed");
                        break;
                    }
                    input = &mut std::mem::take(&mut input)[used..];
                }
            }
        }
    }
    (seen, None)
}

fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65536 => {
            out.push(0xfe);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0xff);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, payload, [0; 4])
}

#[test]
fn faults_are_refused_at_the_header() {
    let long = |first: u8, length: [u8; 8]| [&[first, 0xff], &length[..], &[0; 4]].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("2^64-4", long(0x81, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc]), 1002),
        ("top bit", long(0x81, [0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        ("1 GiB", long(0x81, [0, 0, 0, 0, 0x40, 0, 0, 0]), 1009),
        ("not shortest, 16 bits", b"\x81\xfe\x00\x05\x00\x00\x00\x00".to_vec(), 1002),
        ("not shortest, 64 bits", long(0x81, [0, 0, 0, 0, 0, 0, 0, 200]), 1002),
        ("unmasked text", b"\x81\x02{}".to_vec(), 1002),
        ("unmasked ping", b"\x89\x00".to_vec(), 1002),
        ("unmasked close", b"\x88\x00".to_vec(), 1002),
        ("unmasked continuation", [plain(0x01, b"a"), b"\x80\x01b".to_vec()].concat(), 1002),
        ("long ping", b"\x89\xfe\x00\x7e\x00\x00\x00\x00".to_vec(), 1002),
        ("fragmented ping", b"\x09\x80\x00\x00\x00\x00".to_vec(), 1002),
        ("opcode 3", b"\x83\x80\x00\x00\x00\x00".to_vec(), 1002),
        ("opcode 11", b"\x8b\x80\x00\x00\x00\x00".to_vec(), 1002),
        ("rsv1", plain(0xc1, b"x"), 1002),
        ("rsv2", plain(0xa1, b"x"), 1002),
        ("rsv3", plain(0x91, b"x"), 1002),
        ("continuation of nothing", plain(0x80, b"x"), 1002),
        ("message in a message", [plain(0x01, b"a"), plain(0x81, b"b")].concat(), 1002),
        ("too big in pieces", [plain(0x01, &[b'a'; 32 * 1024]), plain(0x80, b"b")].concat(), 1009),
        ("close of one byte", plain(0x88, b"\x03"), 1002),
        ("close reason", plain(0x88, b"\x03\xe8\xff\xfe"), 1007),
        ("surrogate", plain(0x81, b"\xed\xa0\x80"), 1007),
        ("beyond unicode", plain(0x81, b"\xf4\x90\x80\x80"), 1007),
        ("overlong", plain(0x81, b"\xc0\xaf"), 1007),
        ("cut character", plain(0x81, b"a\xf0\x9f"), 1007),
        ("bad text before its end", plain(0x01, b"\xce\xba\xed\xa0\x80"), 1007),
    ];
    for (name, bytes, code) in cases {
        for cuts in [vec![], (0..bytes.len().min(64)).collect::<Vec<_>>()] {
            let (seen, violation) = decode(&bytes, &cuts, &LIMITS);
            assert_eq!(violation.map(|v| v.code), Some(code), "{name}");
            assert!(seen.is_empty(), "{name}: {seen:?}");
        }
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let (_, violation) = decode(&plain(0x88, &code.to_be_bytes()), &[], &LIMITS);
        assert_eq!(violation.map(|v| v.code), Some(1002), "{code}");
    }
    for code in [1000u16, 1003, 1007, 1014, 3000, 4999] {
        assert_eq!(decode(&plain(0x88, &code.to_be_bytes()), &[], &LIMITS), (vec![Seen::Close(Some(code))], None));
    }
}

#[test]
fn binary_is_refused_where_text_is_spoken() {
    let limits = Limits { binary: false, ..LIMITS };
    // The header alone suffices.
    assert_eq!(decode(b"\x82\x81\x00\x00\x00\x00", &[], &limits).1.map(|v| v.code), Some(1003));
}

#[test]
fn fragments_are_counted() {
    let limits = Limits { max_fragments: 3, ..LIMITS };
    let two_more = [plain(0x01, b"a"), plain(0x00, b""), plain(0x80, b"c")].concat();
    assert_eq!(decode(&two_more, &[], &limits), (vec![Seen::Text("ac".into())], None));
    let three_more = [plain(0x01, b"a"), plain(0x00, b""), plain(0x00, b""), plain(0x00, b"")].concat();
    assert_eq!(decode(&three_more, &[], &limits).1.map(|v| v.code), Some(1008));
}

#[test]
fn text_is_joined_across_fragments_with_control_frames_between() {
    let text = "\"κ😀\"".as_bytes();
    let mut bytes = masked(0x01, &text[..1], [1, 2, 3, 4]);
    for byte in &text[1..text.len() - 1] {
        bytes.extend(masked(0x00, &[*byte], [9, 8, 7, 6]));
        bytes.extend(masked(0x89, b"between", [5; 4]));
    }
    bytes.extend(masked(0x80, &text[text.len() - 1..], [1, 0, 0, 1]));
    let (seen, violation) = decode(&bytes, &[3, 8, 20], &LIMITS);
    assert_eq!(violation, None);
    assert_eq!(seen.iter().filter(|s| **s == Seen::Ping(b"between".to_vec())).count(), text.len() - 2);
    assert_eq!(seen.last(), Some(&Seen::Text("\"κ😀\"".into())));
}

#[test]
fn nothing_is_held_between_messages_and_nothing_reserved_ahead() {
    let mut decoder = Decoder::default();
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
    let mut header = plain(0x81, &vec![b'x'; 30_000]);
    let mut body = header.split_off(8);
    assert!(matches!(decoder.next(&mut header, &LIMITS), Ok((8, None))));
    assert!(decoder.held_bytes() < 256, "a header reserves nothing: {}", decoder.held_bytes());
    assert!(matches!(decoder.next(&mut body[..100], &LIMITS), Ok((100, None))));
    assert!(decoder.held_bytes() < 512);
    let rest = decoder.next(&mut body[100..], &LIMITS);
    assert!(matches!(rest, Ok((29_900, Some(Message::Text(_))))));
    drop(rest);
    assert!(decoder.is_idle());
}

#[test]
fn frames_round_trip_at_every_header_length() {
    for length in [0usize, 1, 125, 126, 127, 65535, 65536, 70_000] {
        let mut out = b"before".to_vec();
        let mark = begin_text(&mut out);
        out.extend(vec![b'x'; length]);
        end_text(&mut out, mark);
        let frame = &out[6..];
        assert_eq!(frame_end(frame), frame.len(), "{length}");
        let mut cursor = std::io::Cursor::new(frame);
        let (header, payload) = tungstenite::protocol::frame::FrameHeader::parse(&mut cursor).unwrap().unwrap();
        assert_eq!((payload as usize, header.mask, header.is_final), (length, None, true));
        assert_eq!(frame[0], 0x81);
        assert_eq!(frame.len() - cursor.position() as usize, length);
    }
}

#[test]
fn close_reasons_are_cut_at_a_character() {
    let mut out = Vec::new();
    close_frame(&mut out, Some(1008), &"é".repeat(100));
    assert_eq!(out.len(), 2 + 2 + 122);
    out.clear();
    close_frame(&mut out, None, "");
    assert_eq!(out, [0x88, 0]);
}

/// What a plain tungstenite socket makes of the same bytes.
fn reference(bytes: &[u8]) -> (Vec<Seen>, bool) {
    struct Memory(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Memory {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(std::io::ErrorKind::WouldBlock.into()),
                other => other,
            }
        }
    }
    impl std::io::Write for Memory {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let config =
        WebSocketConfig::default().max_message_size(Some(LIMITS.max_message)).max_frame_size(Some(LIMITS.max_message));
    let mut socket =
        WebSocket::from_raw_socket(Memory(std::io::Cursor::new(bytes.to_vec())), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(t)) => seen.push(Seen::Text(t.to_string())),
            Ok(tungstenite::Message::Binary(b)) => seen.push(Seen::Binary(b.to_vec())),
            Ok(tungstenite::Message::Ping(p)) => seen.push(Seen::Ping(p.to_vec())),
            Ok(tungstenite::Message::Pong(_)) => seen.push(Seen::Pong),
            Ok(tungstenite::Message::Close(frame)) => {
                seen.push(Seen::Close(frame.map(|f| u16::from(f.code))));
                return (seen, false);
            }
            Ok(tungstenite::Message::Frame(_)) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return (seen, false);
            }
            Err(_) => return (seen, true),
        }
    }
}

/// A stream of frames that is mostly valid, with a fault here and there.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "[a-zé😀]{0,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(vec![b'y'; 300]),
    ];
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81u8, 0x01, 0x00, 0x80, 0x82, 0x02]),
        3 => prop::sample::select(vec![0x89u8, 0x8a]),
        1 => prop::sample::select(vec![0x88u8, 0x09, 0xc1, 0x83]),
        1 => any::<u8>(),
    ];
    let frame = (first, text, any::<[u8; 4]>()).prop_map(|(first, payload, mask)| masked(first, &payload, mask));
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same(bytes in stream(), cuts in prop::collection::vec(any::<usize>(), 0..20)) {
        prop_assert_eq!(decode(&bytes, &[], &LIMITS), decode(&bytes, &cuts, &LIMITS));
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(decode(&bytes, &[], &LIMITS), decode(&bytes, &cuts, &LIMITS));
    }

    /// Same messages or a refusal. We may refuse earlier (a fault is seen at the header, bad UTF-8 before the end), so
    /// ours may end before the reference does; but where the reference refuses, so do we, and the messages agree.
    #[test]
    fn agrees_with_plain_tungstenite(bytes in stream(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let (ours, violation) = decode(&bytes, &cuts, &LIMITS);
        let (theirs, refused) = reference(&bytes);
        if refused {
            prop_assert!(violation.is_some());
        }
        let same_code = |a: &Seen, b: &Seen| match (a, b) {
            // tungstenite turns a code it does not allow into 1002 and goes on; we refuse.
            (Seen::Close(_), Seen::Close(_)) => true,
            _ => a == b,
        };
        for (a, b) in ours.iter().zip(&theirs) {
            prop_assert!(same_code(a, b), "{:?} {:?}", a, b);
        }
        match violation {
            None => prop_assert_eq!(ours.len(), theirs.len()),
            Some(_) => {
                // Never more than the reference; and where it goes on behind ours, only by what is unfinished there.
                prop_assert!(ours.len() <= theirs.len());
                if !refused {
                    prop_assert!(theirs.len() == ours.len() || matches!(theirs.last(), Some(Seen::Close(_))));
                }
            }
        }
    }
}
