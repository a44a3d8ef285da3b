//! Tests of the codec against the rules, against any split of the same bytes, and against a plain tungstenite socket.

use proptest::prelude::*;

use super::*;
use crate::fuzzing::ws_stream::{Seen, decode as decode_pieces, judge, masked};

const LIMITS: Limits = Limits { max_message: 32 * 1024, max_fragments: 1000, binary: true };

/// Feeds the bytes cut at these places; returns the output up to the end, a close or a violation.
fn decode(bytes: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<Seen>, Option<Violation>) {
    decode_pieces(pieces(bytes, cuts).into_iter(), limits)
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).collect()
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

/// Generates a stream of frames that is mostly valid, with occasional faults.
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
    /// Any split gives the same result, and a plain tungstenite socket agrees.
    #[test]
    fn streams_of_frames(bytes in stream(), cuts in prop::collection::vec(any::<usize>(), 0..20)) {
        judge(&bytes, pieces(&bytes, &cuts).into_iter(), &LIMITS);
    }

    #[test]
    fn random_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        judge(&bytes, pieces(&bytes, &cuts).into_iter(), &LIMITS);
    }
}
