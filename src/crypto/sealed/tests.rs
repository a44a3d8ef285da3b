//! The handshake against the Noise community's test vectors, and tampering with messages in transit.

use super::*;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

fn key() -> SealedKey {
    SealedKey::new([7; 32])
}

/// Returns a client and a server after their handshake.
fn pair() -> (Transport, Transport) {
    let (client, first) = Initiator::begin(&key().pin(), [1; 32]).unwrap();
    let (answer, server) = Responder::new(key()).answer(&first, [2; 32]).unwrap();
    (client.finish(&answer).unwrap(), server)
}

fn seal(transport: &mut Transport, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    transport.seal_into(&mut out, plaintext).unwrap();
    out
}

fn open(transport: &mut Transport, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    transport.open_into(&mut out, sealed).map(|()| out)
}

/// One of the Noise community's test vectors: keys of both sides, then payload and ciphertext of each message in turn.
struct Vector {
    prologue: &'static str,
    pin: &'static str,
    key: &'static str,
    ephemerals: [&'static str; 2],
    messages: &'static [(&'static str, &'static str)],
}

/// `Noise_NK_25519_ChaChaPoly_SHA256` in vectors/cacophony.txt of haskell-cryptography/cacophony, and in
/// tests/vectors/snow.txt of mcginty/snow.
const VECTORS: [Vector; 2] = [
    Vector {
        prologue: "4a6f686e2047616c74",
        pin: "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
        key: "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        ephemerals: [
            "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
            "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        ],
        messages: &[
            (
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79448134d00711fdb390a0d178fa008f6d47d2891e5ea1\
                 8ae136c3b4c23ac384efb0",
            ),
            (
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088438ea16e3701bc0d77744f117bee22451c9afa7f4cdb\
                 bcff00c04a8ee0913c88",
            ),
            ("462e20412e20486179656b", "a62de29ce27cb80245d440d986ed816c156e9d757d7008df2198b0"),
            ("4361726c204d656e676572", "174a35f11c689f4530d7208618e0564ae12f2f50ba8eb4df5382ff"),
            (
                "4a65616e2d426170746973746520536179",
                "337e475ebb8eae60f91974c4e455a5af38d1d8628d1803b160d60442874b0a1777",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "047e80e060b7bb08b53c5a23dfe9920cae135b9d1dc6302fc475003062723700366346ac9d",
            ),
        ],
    },
    Vector {
        prologue: "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e6420626f7269\
                   6e672e",
        pin: "a1685fa10096ad890ba2427ef08d85c44ffe7b1990ebb6ed7555f57b248b9319",
        key: "eb80faf5ebe8437d8edacb3bd95d0718a4eb3e5de6f835bca4d7e161301a563e",
        ephemerals: [
            "1b0c2affa2a0ba57c3d96a2b5def1671aa00f66a46d306618a2546a6757f5f65",
            "908f7161432df9036325367c1592ca275fea9a44cdf70d4f3135e16d0034dedc",
        ],
        messages: &[
            (
                "6b2da7554f3d4b8a27f371a0b2fb0d1b9c4830ea29e804b05d698f3f302740f4",
                "1c83e1721fadb9fc168e67da9d25503aa286e42d7d35b80c73096d29cce503096ee5516c7bd399fb1f8b0f2affa71e262626c7eb95\
                 7069a46177f86530217aac9d18bbb78c297d3de7b651995c6783cc",
            ),
            (
                "0216bdac2fb32a7c53d9c4711e3ed995c2e856d19fb1ed465cc88efd4f347e6f",
                "d514c7509ba675f32aaaaef759846609383fb36f6081a3aed84737c800a3127c66ebfa61ba8ee2a58b5074e40e3c0ce02ac02c30f3\
                 b6afd9ace9fcc4494485e7e3e545d05f5e9f1336ab5cd9f0d8eb54",
            ),
            (
                "0497dfc21ec4d70f04ffc7094b9467808c043d027c87d410b62e1af3dc791dce",
                "5bd6fb7c4fd75dd4d15b6600c8df4a59509709a97affb19f4e4a72e62dc8459f89361ae710a9fd58545eee4ceb37ec01",
            ),
            (
                "874ba1f2539061f556a212f83c7a96faf33a451aa75099ef8a9b2aeb54c48f36",
                "1f7b7dd2a4992441bc91b6996b0079c3b0747e5aa8dc2443b1fe01331d57644647bbef13cda29f0abc9836739df52fff",
            ),
        ],
    },
];

#[test]
fn the_figures_of_the_noise_community_come_out() {
    for vector in &VECTORS {
        let prologue = HEXLOWER.decode(vector.prologue.as_bytes()).unwrap();
        let key = SealedKey::new(hex(vector.key));
        assert_eq!(key.pin().0, hex(vector.pin));
        let [ours, theirs] = vector.ephemerals;
        let mut client = initiator(&prologue, &key.pin(), hex(ours)).unwrap();
        let mut server = responder(&prologue, &key, hex(theirs)).unwrap();
        let messages: Vec<[Vec<u8>; 2]> = vector
            .messages
            .iter()
            .map(|(payload, sealed)| [payload, sealed].map(|text| HEXLOWER.decode(text.as_bytes()).unwrap()))
            .collect();
        let (handshake, transport) = messages.split_at(2);
        let mut buffer = [0; 200];
        let mut said = [0; 200];
        for ([payload, sealed], from_client) in handshake.iter().zip([true, false]) {
            let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let length = from.write_message(payload, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], sealed);
            let length = to.read_message(sealed, &mut said).unwrap();
            assert_eq!(&said[..length], payload);
        }
        let (mut client, mut server) = (Transport::after(client).unwrap(), Transport::after(server).unwrap());
        for ([payload, sealed], from_client) in transport.iter().zip([true, false].into_iter().cycle()) {
            let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
            assert_eq!(seal(from, payload), *sealed);
            assert_eq!(open(to, sealed).unwrap(), *payload);
        }
    }
}

#[test]
fn keys_have_one_text() {
    let text = key().to_text();
    assert_eq!(text.len(), 16 + 43 + 1);
    assert_eq!(SealedKey::parse(&text).unwrap().pin(), key().pin());
    // An editor may have added no line feed.
    let bare = text.trim_end();
    assert_eq!(SealedKey::parse(bare).unwrap().pin(), key().pin());
    for wrong in
        ["", "\n", &bare[..58], &text[1..], &format!("{bare}A\n"), &format!("{bare}\r\n"), &format!("{bare}\n\n")]
    {
        assert!(SealedKey::parse(wrong).is_none(), "{wrong:?}");
    }
    assert_eq!(format!("{:?}", key()), "SealedKey");
    let pin = key().pin().to_string();
    assert_eq!((pin.len(), Pin::parse(&pin)), (43, Some(key().pin())));
    for wrong in ["", &pin[1..], &format!("{pin}="), &format!("{pin}A"), &"_".repeat(43)] {
        assert_eq!(Pin::parse(wrong), None, "{wrong}: 43 characters hold 258 bits, of which the last two are 0");
    }
}

/// Both sides detect a wrong pin: the server cannot read the first message, and no other server can answer it.
#[test]
fn another_key_is_refused() {
    let other = SealedKey::new([8; 32]);
    let (client, first) = Initiator::begin(&other.pin(), [1; 32]).unwrap();
    assert_eq!(Responder::new(key()).answer(&first, [2; 32]).unwrap_err(), Fault::Handshake);
    // A man in the middle, unable to read the client's message, sends one of its own and gets an answer to that.
    let (_, his) = Initiator::begin(&key().pin(), [3; 32]).unwrap();
    let (answer, _) = Responder::new(key()).answer(&his, [2; 32]).unwrap();
    assert_eq!(client.finish(&answer).unwrap_err(), Fault::Handshake);
}

#[test]
fn a_handshake_message_has_its_length_and_is_whole() {
    let server = Responder::new(key());
    let (_, first) = Initiator::begin(&key().pin(), [1; 32]).unwrap();
    for end in 0..first.len() {
        assert_eq!(server.answer(&first[..end], [2; 32]).unwrap_err(), Fault::Handshake);
    }
    let mut longer = first.to_vec();
    longer.push(0);
    assert_eq!(server.answer(&longer, [2; 32]).unwrap_err(), Fault::Handshake);
    for at in 0..first.len() {
        let mut altered = first;
        altered[at] ^= 1;
        assert_eq!(server.answer(&altered, [2; 32]).unwrap_err(), Fault::Handshake, "byte {at}");
    }
    for low_order in [[0; 32], hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")] {
        let first = [&low_order[..], &[0; 16]].concat();
        assert_eq!(server.answer(&first, [2; 32]).unwrap_err(), Fault::Handshake);
        assert!(Initiator::begin(&Pin(low_order), [1; 32]).is_err());
    }
    let (client, first) = Initiator::begin(&key().pin(), [1; 32]).unwrap();
    let (answer, _) = server.answer(&first, [2; 32]).unwrap();
    assert_eq!(client.finish(&answer[..47]).unwrap_err(), Fault::Handshake);
}

#[test]
fn what_does_not_verify_moves_nothing() {
    let (mut client, mut server) = pair();
    let [one, two, three] = ["one", "two", "three"].map(|text| seal(&mut client, text.as_bytes()));
    let altered = |at: usize| {
        let mut bytes = one.clone();
        bytes[at] ^= 0x80;
        bytes
    };
    let mut out = b"before".to_vec();
    let wrong = [altered(0), altered(2), altered(3), altered(18), Vec::new(), vec![0; 15], vec![0; 16], two.clone()];
    for (index, wrong) in wrong.iter().enumerate() {
        assert_eq!(server.open_into(&mut out, wrong), Err(Fault::Message), "{index}");
        assert_eq!(out, b"before");
    }
    assert_eq!(server.open_into(&mut out, &vec![0; 65_536]), Err(Fault::Message));
    assert_eq!(open(&mut server, &one[..one.len() - 1]), Err(Fault::Message));
    assert_eq!(open(&mut server, &one).unwrap(), b"one", "the genuine one opens all the same");
    assert_eq!(open(&mut server, &one), Err(Fault::Message), "repeated");
    assert_eq!(open(&mut server, &three), Err(Fault::Message), "out of order");
    assert_eq!(open(&mut server, &two).unwrap(), b"two");
    assert_eq!(open(&mut server, &three).unwrap(), b"three");
    let back = seal(&mut server, b"back");
    assert_eq!(open(&mut server, &back), Err(Fault::Message), "reflected");
    assert_eq!(open(&mut client, &back).unwrap(), b"back");
}

#[test]
fn the_longest_message_fits_and_no_longer_one() {
    let (mut client, mut server) = pair();
    let longest = vec![b'x'; MAX_PLAINTEXT];
    let sealed = seal(&mut client, &longest);
    assert_eq!(sealed.len(), MAX_SEALED);
    assert_eq!(open(&mut server, &sealed).unwrap(), longest);
    let mut out = b"before".to_vec();
    assert_eq!(client.seal_into(&mut out, &vec![b'x'; MAX_PLAINTEXT + 1]), Err(Fault::TooLong));
    assert_eq!(out, b"before");
    let next = seal(&mut client, b"");
    assert_eq!(open(&mut server, &next).unwrap(), b"", "what was too long has used no number");
}

/// Handshake and rekeying as computed by another implementation: PyPI noiseprotocol 0.3.1, with the keys of [`pair`].
#[test]
fn another_implementation_says_the_same() {
    let (client, first) = Initiator::begin(&key().pin(), [1; 32]).unwrap();
    let (answer, mut server) = Responder::new(key()).answer(&first, [2; 32]).unwrap();
    assert_eq!(
        HEXLOWER.encode(&first),
        "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a2091e0896ee55e6bad0c85b6573e462f39d"
    );
    assert_eq!(
        HEXLOWER.encode(&answer),
        "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59bcc4062cb2483e5b084cb3b7f7ccc108"
    );
    let mut client = client.finish(&answer).unwrap();
    for number in 0..=2 * REKEY_AFTER {
        let sealed = seal(&mut client, b"x");
        let expected = match number {
            0 => "fca3a4d6e959a5649569000d2dc48dbe93",
            65_535 => "92b262f93e650d59261c022e9934c2c574",
            65_536 => "45e17736cd25b7de0999e5d0fc3bb36272",
            131_072 => "b4526e117c993cc32ba0473f3b614dce59",
            _ => continue,
        };
        assert_eq!(HEXLOWER.encode(&sealed), expected, "message {number}");
    }
    assert_eq!(HEXLOWER.encode(&seal(&mut server, b"back")), "cd3695adca054ef43105d17cc0b7ae1240cbce7f");
}

/// Each direction rekeys on its own, even if a forged message arrives exactly at the change.
#[test]
fn keys_change_by_count() {
    let (mut client, mut server) = pair();
    let (mut ours, mut theirs) = pair();
    for number in 0..=2 * REKEY_AFTER {
        let sealed = seal(&mut client, b"x");
        if number % REKEY_AFTER <= 1 || (number + 1) % REKEY_AFTER == 0 {
            assert_eq!(open(&mut server, &[0; 17]), Err(Fault::Message));
            // The same without rekeying.
            let mut plain = [0; 17];
            ours.0.write_message(b"x", &mut plain).unwrap();
            assert_eq!(sealed == plain, number < REKEY_AFTER, "message {number}");
        } else {
            ours.0.write_message(b"x", &mut [0; 17]).unwrap();
        }
        assert_eq!(open(&mut server, &sealed).unwrap(), b"x", "message {number}");
    }
    // The other direction still has its first key.
    let mut plain = [0; 20];
    theirs.0.write_message(b"back", &mut plain).unwrap();
    let back = seal(&mut server, b"back");
    assert_eq!(back, plain);
    assert_eq!(open(&mut client, &back).unwrap(), b"back");
}

/// Noise reserves the number 2^64 - 1 for REKEY() (§5.1), so 2^64 - 2 is the last for a message.
#[test]
fn numbers_end() {
    let (_, mut server) = pair();
    server.0.set_receiving_nonce(u64::MAX - 1);
    assert_eq!(open(&mut server, &[0; 16]), Err(Fault::Message));
    server.0.set_receiving_nonce(u64::MAX);
    assert_eq!(open(&mut server, &[0; 16]), Err(Fault::Exhausted));
}

#[test]
fn it_is_small() {
    const { assert!(Transport::BYTES <= 1400) };
    assert_eq!(size_of::<Transport>(), size_of::<usize>());
}

proptest! {
    #[test]
    fn what_is_sealed_opens_in_order(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let (mut client, mut server) = pair();
        for message in &messages {
            let sealed = seal(&mut client, message);
            prop_assert_eq!(&open(&mut server, &sealed).unwrap(), message);
            let back = seal(&mut server, message);
            prop_assert_eq!(&open(&mut client, &back).unwrap(), message);
        }
    }

    /// Any bytes in any order give an error and no panic, and the next genuine message still opens.
    #[test]
    fn noise_is_only_noise(first in prop::collection::vec(any::<u8>(), 0..100), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(Responder::new(key()).answer(&first, [2; 32]).is_err());
        let (mut client, mut server) = pair();
        prop_assert_eq!(open(&mut server, &bytes), Err(Fault::Message));
        let sealed = seal(&mut client, b"x");
        prop_assert_eq!(open(&mut server, &sealed).unwrap(), b"x".to_vec());
    }
}
