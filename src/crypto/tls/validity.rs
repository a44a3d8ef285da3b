//! Validity, issuer and subject of a certificate, which rustls does not expose. Reads only the first fields of the
//! certificate.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Reader, SliceReader, Tag, TagNumber, Tagged as _};

/// Seconds since 1970-01-01, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub begin: u64,
    pub end: u64,
}

/// Fields of a certificate in DER (RFC 5280 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The issuer's name, undecoded.
    pub issuer: &'a [u8],
    pub validity: Validity,
    /// The subject's name, undecoded.
    pub subject: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Returns the fields of a certificate; `None` where they cannot be read. A date before 1970 counts as unreadable.
    pub fn of(certificate: &'a [u8]) -> Option<Fields<'a>> {
        let mut reader = SliceReader::new(certificate).ok()?;
        let whole = AnyRef::decode(&mut reader).ok()?;
        let mut whole = within(whole)?;
        let mut fields = within(AnyRef::decode(&mut whole).ok()?)?;
        let mut field = AnyRef::decode(&mut fields).ok()?;
        let version = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
        if field.tag() == version {
            // The optional version came before it; this is the serial number.
            field = AnyRef::decode(&mut fields).ok()?;
        }
        if field.tag() != Tag::Integer {
            return None;
        }
        let _signature = AnyRef::decode(&mut fields).ok()?;
        let issuer = AnyRef::decode(&mut fields).ok()?.value();
        let mut times = within(AnyRef::decode(&mut fields).ok()?)?;
        let (begin, end) = (time(&mut times)?, time(&mut times)?);
        let subject = AnyRef::decode(&mut fields).ok()?.value();
        Some(Fields { issuer, validity: Validity { begin, end }, subject })
    }
}

fn within(sequence: AnyRef<'_>) -> Option<SliceReader<'_>> {
    (sequence.tag() == Tag::Sequence).then(|| SliceReader::new(sequence.value()).ok())?
}

fn time<'a>(reader: &mut SliceReader<'a>) -> Option<u64> {
    let since = match Tag::peek(reader).ok()? {
        Tag::UtcTime => reader.decode::<UtcTime>().ok()?.to_unix_duration(),
        _ => reader.decode::<GeneralizedTime>().ok()?.to_unix_duration(),
    };
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(begin: i32, end: i32) -> Vec<u8> {
        let mut wanted = rcgen::CertificateParams::new(["localhost".to_string()]).unwrap();
        wanted.not_before = rcgen::date_time_ymd(begin, 1, 1);
        wanted.not_after = rcgen::date_time_ymd(end, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        wanted.self_signed(&key).unwrap().der().to_vec()
    }

    fn validity(certificate: &[u8]) -> Option<Validity> {
        Fields::of(certificate).map(|fields| fields.validity)
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        // Dates up to 2049 have two digits for the year, later ones four.
        assert_eq!(validity(&certificate(2020, 2030)), Some(Validity { begin: 1_577_836_800, end: 1_893_456_000 }));
        assert_eq!(validity(&certificate(2020, 2060)), Some(Validity { begin: 1_577_836_800, end: 2_840_140_800 }));
    }

    #[test]
    fn a_cut_or_bent_certificate_is_no_panic() {
        let whole = certificate(2020, 2030);
        for length in 0..whole.len() {
            Fields::of(&whole[..length]);
            let mut bent = whole.clone();
            bent[length] ^= 0x55;
            Fields::of(&bent);
        }
        assert_eq!(Fields::of(&whole[..60]), None);
        assert_eq!(Fields::of(b""), None);
    }
}
