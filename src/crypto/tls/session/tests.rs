//! One session against the library's own client, and against input that no client sends.

use std::io::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind};

use super::super::tests::{client, client_config, feed, hears, made, pair, says, shake};
use super::super::{config, tickets};
use super::*;

fn server(names: &(String, String)) -> Arc<ServerConfig> {
    config(vec![pair(names)], tickets().unwrap()).unwrap()
}

fn open(version: &'static rustls::SupportedProtocolVersion) -> (ClientConnection, Session) {
    let certificate = made(&["a.example"]);
    let mut session = Session::new(server(&certificate)).unwrap();
    let mut client = client(&client_config(&[&certificate], &[version]), "a.example");
    shake(&mut client, &mut session).unwrap();
    (client, session)
}

#[test]
fn both_versions_talk_and_keep_no_buffer() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut session) = open(version);
        assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
        client.writer().write_all(b"hello").unwrap();
        let (received, plain, out) = feed(&mut session, &says(&mut client));
        assert!(received.is_ok() && plain == b"hello" && out.is_empty());
        let mut out = Vec::new();
        let long: Vec<u8> = (0..RECORD).map(|n| n as u8).collect();
        session.encrypt(b"and you", &mut out).unwrap();
        session.encrypt(&long, &mut out).unwrap();
        assert_eq!(hears(&mut client, &out).unwrap(), [b"and you", long.as_slice()].concat());
        assert_eq!(session.unfinished.capacity(), 0);
    }
}

/// The result does not depend on how the stream is cut.
#[test]
fn single_bytes_make_a_handshake_and_a_message() {
    let certificate = made(&["a.example"]);
    for version in [&TLS12, &TLS13] {
        let mut session = Session::new(server(&certificate)).unwrap();
        let mut client = client(&client_config(&[&certificate], &[version]), "a.example");
        client.writer().write_all(b"hello").unwrap();
        let mut heard = Vec::new();
        while heard != b"hello" {
            for byte in says(&mut client) {
                let (received, plain, out) = feed(&mut session, &[byte]);
                received.unwrap();
                heard.extend(plain);
                hears(&mut client, &out).unwrap();
            }
        }
    }
}

/// A returning client's second handshake is short, also after the certificate has changed.
#[test]
fn clients_resume_over_a_change_of_certificates() {
    let (old, new) = (made(&["a.example"]), made(&["a.example"]));
    let tickets = tickets().unwrap();
    for version in [&TLS12, &TLS13] {
        let trusting = client_config(&[&old, &new], &[version]);
        let mut kinds = Vec::new();
        for certificate in [&old, &new, &new] {
            let config = config(vec![pair(certificate)], Arc::clone(&tickets)).unwrap();
            let (mut client, mut session) = (client(&trusting, "a.example"), Session::new(config).unwrap());
            shake(&mut client, &mut session).unwrap();
            kinds.push(client.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    }
}

#[test]
fn the_end_is_said_and_heard() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut session) = open(version);
        client.writer().write_all(b"last").unwrap();
        client.send_close_notify();
        let said = [says(&mut client), b"what follows does not count".to_vec()].concat();
        let (received, plain, _) = feed(&mut session, &said);
        assert!(received.is_ok() && session.has_ended() && plain == b"last");
        // The other direction is still open.
        let mut out = Vec::new();
        session.encrypt(b"answer", &mut out).unwrap();
        session.close_notify(&mut out);
        assert_eq!(hears(&mut client, &out).unwrap(), b"answer");
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}

/// Crafted input, as far as a test without a socket can show: each ends with an error or waits for more, and nothing
/// grows.
#[test]
fn crafted_input_ends_the_session_or_waits() {
    let certificate = made(&["a.example"]);
    let config = server(&certificate);
    let hello = says(&mut client(&client_config(&[&certificate], &[&TLS12, &TLS13]), "a.example"));
    let fragments: Vec<u8> = hello[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let alert = b"\x15\x03\x03\x00\x02\x01\x00".to_vec();
    let of = |bytes: &[u8]| {
        let mut session = Session::new(Arc::clone(&config)).unwrap();
        let (received, plain, out) = feed(&mut session, bytes);
        assert!(plain.is_empty());
        (received.map(|()| session.unfinished.len()), out)
    };
    // A fragmented hello is valid.
    let (received, out) = of(&fragments);
    assert!(received.is_ok() && out.len() > 500, "{received:?}");
    // An end of stream in the middle of the handshake is reported.
    let mut session = Session::new(Arc::clone(&config)).unwrap();
    let (received, ..) = feed(&mut session, &[hello.clone(), alert].concat());
    assert!(received.is_err() || session.has_ended(), "{received:?}");
    for bad in [
        [b"\x16\x03\x01\x40\x01".to_vec(), vec![0; 16385]].concat(),
        [b"\x16\x03\x01\x00\x04\x01\xff\xff\xff".to_vec(), vec![]].concat(),
        [b"\x80\x2e\x01".to_vec(), vec![0; 60]].concat(),
        b"hello".to_vec(),
        [0x16, 3, 1, 0, 0].repeat(1000),
    ] {
        let (received, out) = of(&bad);
        assert!(received.is_err(), "{:?}: {received:?}", &bad[..5]);
        // An alert at most.
        assert!(out.len() <= 7, "{out:?}");
    }
    // A client that never finishes is cut off.
    let mut session = Session::new(Arc::clone(&config)).unwrap();
    let endless = [0x16, 3, 1, 0, 1, 1, 0x16, 3, 1, 0, 3, 0, 0xff, 0xff];
    assert!(feed(&mut session, &endless).0.is_ok());
    let mut fed = endless.len();
    let fault = loop {
        let record = [&[0x16, 3, 1, 4, 0][..], &[0; 1024]].concat();
        fed += record.len();
        match feed(&mut session, &record).0 {
            Ok(()) => assert!(fed < 100_000),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::LongHandshake) && fed > 60_000, "{fault} after {fed}");
}

#[test]
fn many_empty_records_end_the_session() {
    let (mut client, mut session) = open(&TLS12);
    client.writer().write_all(b"x").unwrap();
    assert!(feed(&mut session, &says(&mut client)).0.is_ok());
    let (received, ..) = feed(&mut session, &[0x17, 3, 3, 0, 0].repeat(1000));
    assert!(received.is_err());
}

/// A client of TLS 1.1 or earlier gets an alert: protocol_version, or handshake_failure where it lacks more (RFC 8446
/// §6.2).
#[test]
fn old_versions_are_refused_with_an_alert() {
    let certificate = made(&["a.example"]);
    for version in [1, 2] {
        let mut body = vec![3, version];
        body.extend([7; 32]);
        // No session, two suites, no compression.
        body.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
        let mut hello = vec![0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
        hello.extend(body);
        let mut session = Session::new(server(&certificate)).unwrap();
        let (received, _, out) = feed(&mut session, &hello);
        assert!(received.is_err());
        assert!(out == [0x15, 3, 3, 0, 2, 2, 70] || out == [0x15, 3, 3, 0, 2, 2, 40], "{out:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes changed anywhere in a client's stream end the session or have no effect, and never panic; nor does a later
    /// write.
    #[test]
    fn changed_bytes_are_no_panic(changes in prop::collection::vec((0usize..2000, 1u8..), 1..4), cut in 1usize..600) {
        let certificate = made(&["a.example"]);
        let mut session = Session::new(server(&certificate)).unwrap();
        let mut client = client(&client_config(&[&certificate], &[&TLS12, &TLS13]), "a.example");
        client.writer().write_all(&[b'x'; 100]).unwrap();
        let mut at = 0;
        'all: for _ in 0..4 {
            for piece in says(&mut client).chunks(cut) {
                let mut piece = piece.to_vec();
                for (place, change) in &changes {
                    if let Some(byte) = place.checked_sub(at).and_then(|place| piece.get_mut(place)) {
                        *byte ^= change;
                    }
                }
                at += piece.len();
                let (received, _, out) = feed(&mut session, &piece);
                if received.is_err() || hears(&mut client, &out).is_err() {
                    break 'all;
                }
            }
        }
        let mut out = Vec::new();
        session.close_notify(&mut out);
        let _ = session.encrypt(b"x", &mut out);
    }
}
