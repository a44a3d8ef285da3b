//! Renewal of the certificate, under clocks of every kind, and what a renewal keeps.

use std::sync::Arc;

use rustls::version::TLS13;

use super::super::tests::{client, client_config, pair, shake};
use super::super::{Pair, Session, config, tickets};
use super::*;

const NOW: u64 = WallMillis::EARLIEST.0 / 1000 + 400 * DAY;

fn wall(seconds: u64) -> WallMillis {
    WallMillis(seconds * 1000)
}

fn make(key: Option<&str>, names: &[&str], now: u64, serial: u8) -> (String, String) {
    let names = names.iter().map(|name| name.to_string()).collect();
    let made = made(key.map(str::as_bytes), names, period(wall(now)), [serial; 16]).unwrap();
    (made.certificate, made.key.to_string())
}

fn lacks(pair: &Pair, names: &[&str]) -> Vec<String> {
    names.iter().filter(|name| !pair.holds_for(name)).map(|name| name.to_string()).collect()
}

#[test]
fn renewal_is_announced_and_happens_before_expiry() {
    let certificate = pair(&make(None, &["localhost"], NOW, 1)).certificate();
    let Validity { begin, end } = certificate.validity.unwrap();
    assert!(certificate.is_own && end + 1 - begin <= 825 * DAY && begin < NOW, "{certificate:?}");
    let due = |seconds| due(&certificate, Vec::new(), wall(seconds));
    let change = end - 30 * DAY;
    for (at, expected) in [
        (begin, Due::Nothing),
        (NOW, Due::Nothing),
        (change - 30 * DAY - 1, Due::Nothing),
        (change - 30 * DAY, Due::Soon(change)),
        (change - 1, Due::Soon(change)),
        (change, Due::Now(Why::Ends)),
        (end + 1, Due::Now(Why::Ends)),
        (NOW + 80 * 365 * DAY, Due::Now(Why::Ends)),
        // The clock went back further than certificates are backdated.
        (begin - 1, Due::Now(Why::NotBegun)),
        // It was never set.
        (0, Due::NoClock(Why::NotBegun)),
        (WallMillis::EARLIEST.0 / 1000 - 1, Due::NoClock(Why::NotBegun)),
    ] {
        assert_eq!(due(at), expected, "{at}");
    }
}

#[test]
fn a_missing_name_or_address_renews_the_certificate() {
    let pair = pair(&make(None, &["localhost", "127.0.0.1", "::1", "chat.lan"], NOW, 1));
    assert_eq!(lacks(&pair, &["localhost", "chat.lan", "CHAT.lan", "127.0.0.1", "::1"]), [""; 0]);
    let missing = lacks(&pair, &["gate.lan", "x.chat.lan", "127.0.0.2", "fe80::1"]);
    assert_eq!(missing, ["gate.lan", "x.chat.lan", "127.0.0.2", "fe80::1"]);
    assert_eq!(lacks(&pair, &["*", "no name"]), [""; 0], "no certificate can hold for these");
    let due = |seconds| due(&pair.certificate(), missing.clone(), wall(seconds));
    assert_eq!(due(NOW), Due::Now(Why::Lacks(missing.clone())));
    assert_eq!(due(5), Due::NoClock(Why::Lacks(missing.clone())));
}

/// Earlier versions made certificates for ten years, which are replaced. Foreign certificates are left alone.
#[test]
fn a_certificate_of_more_than_825_days_goes_and_one_of_others_stays() {
    let of = |subject: &str, days: u64| {
        let mut wanted = CertificateParams::new(["localhost".to_string()]).unwrap();
        wanted.distinguished_name.push(DnType::CommonName, subject);
        let date = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        (wanted.not_before, wanted.not_after) = (date(NOW), date(NOW + days * DAY));
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.self_signed(&key).unwrap();
        let text = (*pem("CERTIFICATE", certificate.der())).clone();
        pair(&(text, (*pem("PRIVATE KEY", key.serialized_der())).clone())).certificate()
    };
    assert_eq!(due(&of("racerd", 4017), Vec::new(), wall(NOW)), Due::Now(Why::TooLong));
    assert_eq!(due(&of("racerd", 825), Vec::new(), wall(NOW)), Due::Now(Why::TooLong), "both ends are included");
    assert_eq!(due(&of("racerd", 800), Vec::new(), wall(NOW)), Due::Nothing);
    let others = of("gateway", 4017);
    assert_eq!(due(&others, vec!["a.lan".to_string()], wall(NOW + 5000 * DAY)), Due::Nothing);
}

#[test]
fn a_clock_that_is_wrong_by_decades_makes_a_certificate_all_the_same() {
    for now in [0, 1, WallMillis::EARLIEST.0 / 1000, NOW, 4_102_444_800, LATEST, u64::MAX / 1000] {
        let made = make(None, &["localhost"], now, 1);
        let Validity { begin, end } = pair(&made).certificate().validity.unwrap();
        assert_eq!(end + 1 - begin, 825 * DAY, "{now}");
        let is_believed = (WallMillis::EARLIEST.0 / 1000..=LATEST).contains(&now);
        assert!(!is_believed || (begin..end).contains(&now), "{now}");
    }
}

#[test]
fn a_renewed_certificate_keeps_its_key_and_name_and_has_a_new_serial() {
    let old = make(None, &["localhost"], NOW, 1);
    let new = make(Some(&old.1), &["localhost"], NOW + 5 * DAY, 2);
    let [before, after] = [&old, &new].map(|made| pair(made).certificate());
    assert_eq!((&old.1, before.key), (&new.1, after.key));
    assert_ne!(before.fingerprint, after.fingerprint);
    let other = pair(&make(None, &["localhost"], NOW, 1)).certificate();
    assert_ne!(before.key, other.key);
    assert_eq!((before.key.short().len(), before.key.hex().len()), (8, 95));
    for (made, serial) in [(&old, 1), (&new, 2)] {
        assert!(
            has_serial(&made.0, positive([serial; 16])),
            "the number that was drawn, and none of the key: {serial}"
        );
    }
    assert!(made(Some(b"no key"), vec!["a".to_string()], period(wall(NOW)), [1; 16]).is_err());
}

/// Returns whether a certificate's serial number (the first INTEGER of 16 bytes in it) is this.
fn has_serial(text: &str, serial: [u8; 16]) -> bool {
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    let start = der.windows(2).position(|bytes| bytes == [0x02, 0x10]).unwrap_or(der.len());
    der[start..].starts_with(&[&[0x02, 0x10], serial.as_slice()].concat())
}

#[test]
fn serials_are_positive_and_of_16_bytes() {
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        let serial = positive([byte; 16]);
        assert!(serial[0] < 0x80 && serial[0] > 0 && serial[1..] == [byte; 15], "{serial:?}");
    }
}

/// A client of rustls or webpki trusts a name and a key, so with the old file it accepts the new certificate. OpenSSL
/// and browsers do not: see tests/server.
#[test]
fn a_client_of_rustls_that_trusts_the_old_one_takes_the_new_one() {
    // The client uses the machine's clock.
    let always = Validity { begin: 0, end: 4_102_444_800 };
    let make = |key: Option<&str>, serial: u8| {
        let made = made(key.map(str::as_bytes), vec!["localhost".to_string()], always, [serial; 16]).unwrap();
        (made.certificate, made.key.to_string())
    };
    let old = make(None, 1);
    let new = make(Some(&old.1), 2);
    let stranger = make(None, 2);
    for (given, is_taken) in [(&old, true), (&new, true), (&stranger, false)] {
        let config = config(vec![pair(given)], tickets().unwrap()).unwrap();
        let mut session = Session::new(Arc::clone(&config)).unwrap();
        let done = shake(&mut client(&client_config(&[&old], &[&TLS13]), "localhost"), &mut session);
        assert_eq!(done.is_ok(), is_taken, "{done:?}");
    }
}
