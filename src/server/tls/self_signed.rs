//! A certificate of racerd's own, for a network that no authority signs for: made once, kept in a folder, and trusted by
//! whoever has compared its fingerprint.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::server::names::host_name;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use zeroize::{Zeroize as _, Zeroizing};

/// Years that it holds. Who accepted it once should not be asked again soon.
const YEARS: i32 = 10;
/// A machine whose clock does not run yet makes one as if it were this year: its clients know better.
const EARLIEST: i32 = 2026;

/// The certificate's file and its key's in this folder, made now if there is none: for these addresses, these names, and
/// localhost.
///
/// # Errors
/// What cannot be read or written, and what to do.
pub fn files(folder: &Path, addresses: &[SocketAddr], names: &[String]) -> Result<(PathBuf, PathBuf), String> {
    let files = paths(folder);
    let (certificate, key) = &files;
    match (certificate.exists(), key.exists()) {
        (true, true) => return Ok(files),
        (true, false) => {
            return Err(format!(
                "{} has no {} beside it; restore it, or move the certificate away",
                show(certificate),
                show(key)
            ));
        }
        // A key without a certificate: the making was cut short. Nobody has seen a certificate of it.
        (false, _) => {}
    }
    make(folder, &files, addresses, names)
        .map_err(|error| format!("tls_self_signed {}: no certificate can be made there: {error}", show(folder)))?;
    Ok(files)
}

/// The files, if they are there.
pub fn existing(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    Some(paths(folder)).filter(|(certificate, key)| certificate.exists() && key.exists())
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("cert.pem"), folder.join("key.pem"))
}

fn make(
    folder: &Path,
    (certificate, key): &(PathBuf, PathBuf),
    addresses: &[SocketAddr],
    names: &[String],
) -> Result<(), String> {
    let year = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 31_556_952);
    let year = i32::try_from(year).map_or(EARLIEST, |years| EARLIEST.max(1970 + years));
    let mut wanted = CertificateParams::new(subjects(addresses, names)).map_err(|error| error.to_string())?;
    wanted.distinguished_name.push(DnType::CommonName, "racerd");
    wanted.not_before = date_time_ymd(year - 1, 1, 1);
    wanted.not_after = date_time_ymd(year + YEARS, 1, 1);
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut pair = KeyPair::generate().map_err(|error| error.to_string())?;
    let made = wanted.self_signed(&pair).map_err(|error| error.to_string());
    let secret = pem("PRIVATE KEY", pair.serialized_der());
    pair.zeroize();
    let text = pem("CERTIFICATE", made?.der());

    let written = DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| {
        // The key first: a certificate is there only with its key.
        write(key, secret.as_bytes())?;
        write(certificate, text.as_bytes())?;
        File::open(folder)?.sync_all()
    });
    written.map_err(|error| error.to_string())
}

/// Under its name only once it is whole and on disk.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Names and addresses for which the certificate is to hold.
fn subjects(addresses: &[SocketAddr], names: &[String]) -> Vec<String> {
    let mut subjects = vec!["localhost".to_string(), "127.0.0.1".to_string(), "::1".to_string()];
    for address in addresses.iter().map(SocketAddr::ip) {
        match address.is_unspecified() {
            false => subjects.push(address.to_string()),
            // All of the machine's addresses; others reach it by that of the way out, most likely, or by its name.
            true => subjects.extend(way_out(address).map(|address| address.to_string())),
        }
    }
    subjects.extend(host_name().into_iter().flat_map(|name| [format!("{name}.local"), name]));
    // `*` among the names of `--host` stands for any.
    subjects.extend(names.iter().filter(|name| *name != "*").cloned());
    let mut seen = Vec::new();
    subjects.retain(|subject| {
        !seen.contains(subject) && {
            seen.push(subject.clone());
            true
        }
    });
    subjects
}

/// The machine's address towards other networks. Asks the kernel for a route, and sends nothing.
fn way_out(any: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Addresses that are kept for documentation (RFC 5737, RFC 3849).
    let far = if any.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

/// A section of a PEM file (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(data_encoding::BASE64.encode(der));
    // Whole from the beginning: a text that grows leaves copies of itself behind.
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

fn show(path: &Path) -> std::path::Display<'_> {
    path.display()
}
