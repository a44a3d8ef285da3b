//! Choice of the certificate, and files that are refused.

use std::sync::Arc;

use rustls::version::TLS13;

use super::super::Session;
use super::super::tests::{client, client_config, made, pair, pem, shake};
use super::*;

fn error(certificate: &str, key: &str) -> PairError {
    Pair::from_pem(certificate.as_bytes(), key.as_bytes()).map(|pair| pair.certificate()).unwrap_err()
}

#[test]
fn a_client_gets_the_certificate_for_its_name() {
    let all = [made(&["a.example", "www.a.example"]), made(&["*.b.example"]), made(&["c.example", "a.example"])];
    let config = config(all.iter().map(pair).collect(), tickets().unwrap()).unwrap();
    // A client that trusts only one certificate shows which one it gets.
    for (name, expected) in [
        ("a.example", Some(0)),
        ("www.a.example", Some(0)),
        ("x.b.example", Some(1)),
        ("c.example", Some(2)),
        ("d.example", None),
        ("b.example", None),
    ] {
        for (number, certificate) in all.iter().enumerate() {
            let mut session = Session::new(Arc::clone(&config)).unwrap();
            let done = shake(&mut client(&client_config(&[certificate], &[&TLS13]), name), &mut session);
            assert_eq!(done.is_ok(), expected == Some(number), "{name} with {number}: {done:?}");
        }
    }
}

/// An address is not a name (RFC 6066 §3): the client sends no SNI, and gets the first certificate.
#[test]
fn a_client_without_a_name_gets_the_first() {
    let all = [made(&["127.0.0.1"]), made(&["b.example"])];
    let config = config(all.iter().map(pair).collect(), tickets().unwrap()).unwrap();
    let mut session = Session::new(config).unwrap();
    shake(&mut client(&client_config(&[&all[0]], &[&TLS13]), "127.0.0.1"), &mut session).unwrap();
}

#[test]
fn what_is_no_pair_says_where() {
    let (certificate, key) = made(&["a.example"]);
    let other = made(&["a.example"]).1;
    assert_eq!(error(&certificate, &other), PairError::Mismatch);
    assert!(matches!(error("", &key), PairError::Certificate(_)));
    assert!(matches!(error(&key, &key), PairError::Certificate(_)));
    assert!(matches!(error(&pem("CERTIFICATE", b"no DER"), &key), PairError::Certificate(_)));
    assert!(matches!(error(&certificate.replace("=\n", "!\n").replace("M", "\0"), &key), PairError::Certificate(_)));
    assert!(matches!(error(&certificate, ""), PairError::Key(_)));
    assert!(matches!(error(&certificate, &certificate), PairError::Key(_)));
    let secret = data_encoding::BASE64.encode(b"a secret that is no key");
    let PairError::Key(text) = error(&certificate, &pem("PRIVATE KEY", b"a secret that is no key")) else { panic!() };
    assert!(!text.contains(&secret) && !text.contains("secret"), "{text}");
    // Both in one file, in either order.
    for both in [format!("{key}{certificate}"), format!("{certificate}{key}")] {
        assert!(Pair::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
    }
    assert!(config(Vec::new(), tickets().unwrap()).is_err());
}

/// The hash of the certificate's bytes, in the format of browsers and openssl.
#[test]
fn the_fingerprint_is_the_usual_one() {
    let text = pair(&made(&["a.example"])).certificate().fingerprint;
    let parts: Vec<&str> = text.split(':').collect();
    assert!(parts.len() == 32 && parts.iter().all(|part| part.len() == 2), "{text}");
}
