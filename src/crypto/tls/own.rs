//! racerd's own self-signed certificate: when to renew it, and its making. The key stays, so that clients that pinned
//! it need not be asked again.

use core::time::Duration;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData as _};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

use super::certificates::{Certificate, KeyHash, private_key};
use super::validity::Fields;
use super::{USABLE, Validity};
use crate::types::{Reason, WallMillis};

const DAY: u64 = 86_400;
/// Seconds of validity, both ends included. Apple's clients accept at most 825 days
/// (<https://support.apple.com/en-us/103769>).
const LIFE: u64 = 825 * DAY;
/// Seconds by which a new certificate is backdated, since some clients' clocks are behind.
const BEGUN: u64 = 30 * DAY;
/// Seconds before its end at which it is renewed.
const SPARE: u64 = 30 * DAY;
/// Seconds before the renewal at which it is announced.
const NOTICE: u64 = 30 * DAY;
/// Latest second at which a certificate may begin, in the year 9983: dates have four digits for the year.
const LATEST: u64 = 252_880_000_000;
/// The common name, followed by a space and digits of the key: no two servers share an issuer, for which equal serials
/// would matter.
const NAME: &str = "racerd";

/// The next step for a certificate of racerd's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// It will be renewed soon, at this second since 1970.
    Soon(u64),
    /// It is due for renewal now.
    Now(Why),
    /// It would be renewed, but the clock was never set.
    NoClock(Why),
}

/// Why a certificate is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not valid for these names and addresses.
    Lacks(Vec<String>),
    TooLong,
    /// It begins in the future.
    NotBegun,
    Ends,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Lacks(names) => write!(f, "it did not hold for {}", names.join(", ")),
            Why::TooLong => f.write_str("it was valid for more than 825 days, which Apple's clients refuse"),
            Why::NotBegun => f.write_str("it began in the future: the clock was ahead when it was made"),
            Why::Ends => f.write_str("its end was near"),
        }
    }
}

/// Decides the next step for a certificate that lacks these names. A certificate that racerd did not make is left
/// alone.
pub fn due(certificate: &Certificate, lacks: Vec<String>, now: WallMillis) -> Due {
    let Some(Validity { begin, end }) = certificate.validity.filter(|_| certificate.is_own) else {
        return Due::Nothing;
    };
    let seconds = now.0 / 1000;
    let change = end.saturating_sub(SPARE);
    let why = if !lacks.is_empty() {
        Why::Lacks(lacks)
    } else if end.saturating_sub(begin) >= LIFE {
        Why::TooLong
    } else if seconds < begin {
        Why::NotBegun
    } else if seconds >= change {
        Why::Ends
    } else if seconds >= change.saturating_sub(NOTICE) {
        return Due::Soon(change);
    } else {
        return Due::Nothing;
    };
    if now.is_date() { Due::Now(why) } else { Due::NoClock(why) }
}

/// Returns the validity of a certificate that is made now. A clock that was never set counts as
/// [`WallMillis::EARLIEST`].
pub fn period(now: WallMillis) -> Validity {
    let seconds = (now.max(WallMillis::EARLIEST).0 / 1000).min(LATEST);
    let begin = seconds.saturating_sub(BEGUN);
    Validity { begin, end: begin + LIFE - 1 }
}

/// A certificate and its key, as the text of PEM files.
pub struct Made {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

/// Makes a certificate for these names and addresses, with the key in this PEM text, or with a new one. `serial` must
/// be random.
///
/// # Errors
/// The key cannot be used, a name is not allowed in a certificate, or the system has no randomness.
pub fn made(key: Option<&[u8]>, subjects: Vec<String>, validity: Validity, serial: [u8; 16]) -> Result<Made, Reason> {
    let mut pair = match key {
        Some(text) => {
            let mut der = private_key(text)?;
            let pair = KeyPair::try_from(&der).map_err(|error| Reason::with(USABLE, error));
            der.zeroize();
            pair?
        }
        None => KeyPair::generate().map_err(Reason::of)?,
    };
    let certificate = signed(&pair, subjects, validity, serial);
    let key = pem("PRIVATE KEY", pair.serialized_der());
    pair.zeroize();
    Ok(Made { certificate: pem("CERTIFICATE", &certificate?).to_string(), key })
}

fn signed(pair: &KeyPair, subjects: Vec<String>, validity: Validity, serial: [u8; 16]) -> Result<Vec<u8>, Reason> {
    let mut wanted = CertificateParams::new(subjects).map_err(Reason::of)?;
    let hash = KeyHash::of(&pair.subject_public_key_info());
    wanted.distinguished_name.push(DnType::CommonName, format!("{NAME} {}", hash.short()));
    // rcgen derives its serial from the key: Firefox refuses a second certificate with the same issuer and serial.
    wanted.serial_number = Some(positive(serial).to_vec().into());
    let date = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    (wanted.not_before, wanted.not_after) = (date(validity.begin), date(validity.end));
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.self_signed(pair).map(|made| made.der().to_vec()).map_err(Reason::of)
}

/// Returns a serial number that is positive in any encoding (RFC 5280 §4.1.2.2), of 16 bytes.
fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    // Setting the second highest bit keeps all 16 bytes; the highest is the sign.
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// Returns whether racerd made the certificate with these fields.
pub(super) fn is_own(fields: &Fields<'_>) -> bool {
    fields.issuer == fields.subject && fields.subject.windows(NAME.len()).any(|bytes| bytes == NAME.as_bytes())
}

/// Returns a section of a PEM file (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(data_encoding::BASE64.encode(der));
    // Allocated whole from the start: a growing text leaves copies of itself behind.
    let mut out = Zeroizing::new(String::with_capacity(base64.len() * 66 / 64 + 128));
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = later;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests;
