//! The self-made certificate, on the real binary: its contents, when it is replaced, and how third-party clients react
//! to that.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::clock::FakeClock;
use crate::support::*;

const DAY: u64 = 86_400;

/// Folder of a certificate.
struct Own(PathBuf);

impl Own {
    fn in_(folder: &TempDir) -> Own {
        Own(folder.path().join("own"))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn certificate(&self) -> String {
        format!("{}/cert.pem", self.path())
    }

    fn key(&self) -> Vec<u8> {
        std::fs::read(self.0.join("key.pem")).unwrap()
    }

    fn asks(&self, question: &[&str]) -> String {
        x509(&self.certificate(), question)
    }

    fn serial(&self) -> String {
        self.asks(&["-serial"]).trim().split('=').nth(1).unwrap().to_string()
    }

    fn fingerprint(&self) -> String {
        self.asks(&["-fingerprint", "-sha256"]).trim().split('=').nth(1).unwrap().to_string()
    }

    /// Returns the first and last second of its validity.
    fn validity(&self) -> (u64, u64) {
        let text = self.asks(&["-dates", "-dateopt", "iso_8601"]);
        let seconds = |line: &str| {
            let date = text.lines().find_map(|it| it.strip_prefix(line)).unwrap();
            let output = Command::new("date").args(["-u", "-d", date, "+%s"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        };
        (seconds("notBefore="), seconds("notAfter="))
    }

    /// Copies the certificate to this name in the folder. Returns the path.
    fn copy(&self, name: &str) -> String {
        let copy = format!("{}/{name}", self.path());
        std::fs::copy(self.certificate(), &copy).unwrap();
        copy
    }
}

fn x509(file: &str, question: &[&str]) -> String {
    let output = Command::new("openssl").args(["x509", "-noout", "-in", file]).args(question).output().unwrap();
    assert!(output.status.success(), "{question:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Asks a server for its health. Returns whether curl trusts it.
fn curl(server: &Server, arguments: &[&str]) -> bool {
    let url = format!("https://localhost:{}/healthz", server.address.port());
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "--output", "/dev/null"]).args(arguments).arg(url);
    command.output().unwrap().status.success()
}

/// Returns the fingerprint of the certificate that the server presents.
fn served(server: &Server) -> String {
    let address = server.address.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", "localhost"]).stdin(Stdio::null());
    let file = server.folder.path().join("served.pem");
    std::fs::write(&file, command.output().unwrap().stdout).unwrap();
    let text = x509(file.to_str().unwrap(), &["-fingerprint", "-sha256"]);
    text.trim().split('=').nth(1).unwrap().to_string()
}

const MADE_ANEW: &str = "own certificate was made anew, with the same key: browsers ask again";

#[test]
fn it_is_made_once() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let mut server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path(), "--host", "gate.lan"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&own.0.join("cert.pem")), mode(&own.0.join("key.pem")), mode(&own.0)), (0o600, 0o600, 0o700));
    let fingerprint = own.fingerprint();
    eventually("the fingerprint", || server.log().contains(&fingerprint));
    let names = own.asks(&["-ext", "subjectAltName"]);
    for name in ["DNS:localhost", "IP Address:127.0.0.1", "DNS:gate.lan"] {
        assert!(names.contains(name), "{names}");
    }
    let (begin, end) = own.validity();
    assert!(end + 1 - begin <= 825 * DAY && (begin..end).contains(&now()), "{begin} {end}");
    // A client that accepted it once is not asked again.
    let key = own.key();
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    assert_eq!((own.fingerprint(), own.key()), (fingerprint, key));
    assert!(curl(&server, &["--cacert", &own.certificate()]));
    assert!(!server.log().contains("WARN"), "{}", server.log());
}

/// The key's fingerprint is printed in both forms, and is part of the certificate's name.
#[test]
fn its_keys_fingerprint_is_printed() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let mut command = Server::command(&folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // The command is the one of docs/operate.md.
    let script =
        "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -hex -c";
    let output = Command::new("sh").args(["-c", script, &own.certificate()]).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap().trim().split(' ').nth(1).unwrap().to_ascii_uppercase();
    assert!(
        said[1].contains(&own.fingerprint()) && said[2].contains(&hash) && said[2].contains("sha256//"),
        "{said:?}"
    );
    let short: String = hash.to_ascii_lowercase().split(':').take(4).collect();
    assert_eq!(own.asks(&["-subject"]).trim(), format!("subject=CN = racerd {short}"));
}

/// A name or address in the settings that the certificate lacks causes a new one, with the same key and another serial
/// number. Clients that trust the key are unaffected; a copy of the old file still works for racerd's own commands,
/// while OpenSSL's clients need the new one.
#[test]
fn a_missing_name_renews_the_certificate() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let mut server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let (old, old_key, old_serial) = (own.copy("old.pem"), own.key(), own.serial());
    assert!(server.log().is_empty() || !server.log().contains(MADE_ANEW));
    server.stop();
    server.restart_with(&["--tls-self-signed", own.path(), "--host", "chat.lan,10.9.8.7"]);
    eventually("why", || {
        let log = server.log();
        log.contains(MADE_ANEW) && log.contains("why=\"it did not hold for chat.lan, 10.9.8.7\"")
    });
    let names = own.asks(&["-ext", "subjectAltName"]);
    assert!(names.contains("DNS:chat.lan") && names.contains("IP Address:10.9.8.7"), "{names}");
    assert_eq!(own.key(), old_key);
    let serial = own.serial();
    assert_ne!(serial, old_serial);
    for serial in [&serial, &old_serial] {
        assert!(serial.len() == 32 && serial.starts_with(['4', '5', '6', '7']), "16 bytes, positive: {serial}");
    }
    assert_eq!(own.asks(&["-issuer"]), x509(&old, &["-issuer"]), "the issuer stays, so the serial must differ");

    assert!(curl(&server, &["--cacert", &own.certificate()]));
    assert!(!curl(&server, &["--cacert", &old]), "OpenSSL believes the certificate that it was given and no other");
    let script = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64";
    let output = Command::new("sh").args(["-c", script, &old]).output().unwrap();
    let pin = format!("sha256//{}", String::from_utf8(output.stdout).unwrap().trim());
    assert!(curl(&server, &["--insecure", "--pinnedpubkey", &pin]), "{pin}");
    assert!(!curl(&server, &["--insecure", "--pinnedpubkey", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]));
    let url = format!("https://localhost:{}/", server.address.port());
    for (trusted, is_fine) in [(&old, true), (&own.certificate(), true)] {
        let output = Server::program().args(["health", &url, "--ca", trusted]).output().unwrap();
        assert_eq!(output.status.success(), is_fine, "{trusted}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // It is replaced only once.
    let fingerprint = own.fingerprint();
    server.stop();
    server.restart();
    assert_eq!(own.fingerprint(), fingerprint);
    assert_eq!(server.log().matches(MADE_ANEW).count(), 1);
}

/// A deleted certificate file is made again with the existing key.
#[test]
fn without_its_certificate_the_key_is_kept() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let mut server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let (key, serial) = (own.key(), own.serial());
    server.stop();
    std::fs::remove_file(own.certificate()).unwrap();
    server.restart();
    assert_eq!(own.key(), key);
    assert_ne!(own.serial(), serial);
    server.stop();
    // An unusable key is never overwritten.
    std::fs::remove_file(own.certificate()).unwrap();
    std::fs::write(own.0.join("key.pem"), "garbage").unwrap();
    let output = Server::command(&server.folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.lines().count() == 1 && said.contains("key.pem"), "{said}");
    assert_eq!(own.key(), b"garbage");
}

/// If the folder takes no new file, the old certificate stays in use, and the log says so once.
/// Files that were removed while the server runs: the error names the setting that was given, and SIGHUP makes them
/// anew as a start would.
#[test]
fn removed_files_are_made_anew_on_request() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let (fingerprint, key) = (own.fingerprint(), own.key());
    let reload = |words: &str| {
        let before = server.log().len();
        server.signal(Signal::HUP);
        eventually(words, || server.log()[before..].contains(words));
        assert!(!server.log().contains("tls_cert"), "a setting that nobody gave: {}", server.log());
    };
    std::fs::remove_file(own.0.join("cert.pem")).unwrap();
    reload("own certificate had been removed, and was made anew");
    assert_eq!(own.key(), key, "the key was still there");
    assert_ne!(own.fingerprint(), fingerprint);
    assert_eq!(served(&server), own.fingerprint());
    std::fs::remove_file(own.0.join("cert.pem")).unwrap();
    std::fs::remove_file(own.0.join("key.pem")).unwrap();
    reload("own certificate had been removed, and was made anew");
    assert_ne!(own.key(), key);
    assert_eq!(served(&server), own.fingerprint());
    // A certificate without its key is not replaced: the key may only be moved.
    let fingerprint = own.fingerprint();
    std::fs::rename(own.0.join("key.pem"), own.0.join("kept.pem")).unwrap();
    reload("key.pem beside it; restore it, or move the certificate away");
    assert_eq!((served(&server), own.fingerprint()), (fingerprint.clone(), fingerprint));
}

#[test]
fn a_certificate_that_cannot_be_renewed_stays() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let mut server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let (fingerprint, key) = (own.fingerprint(), own.key());
    server.stop();
    std::fs::create_dir(own.0.join("cert.new")).unwrap();
    server.restart_with(&["--tls-self-signed", own.path(), "--host", "chat.lan"]);
    let words = "own certificate cannot be made anew, and stays as it was";
    eventually("a line", || server.log().contains(words));
    assert!(server.log().contains("chat.lan"), "{}", server.log());
    server.signal(Signal::HUP);
    eventually("a reading", || server.log().contains("no settings to read again"));
    assert_eq!((served(&server), own.fingerprint(), own.key()), (fingerprint.clone(), fingerprint, key));
    assert_eq!(server.log().matches(words).count(), 1);
    // It is replaced as soon as that is possible.
    std::fs::remove_dir(own.0.join("cert.new")).unwrap();
    server.signal(Signal::HUP);
    eventually("the change", || server.log().contains(MADE_ANEW));
    assert!(own.asks(&["-ext", "subjectAltName"]).contains("DNS:chat.lan"));
}

/// A running server adopts a new name at SIGHUP; existing connections continue.
#[test]
fn a_name_that_is_added_while_serving_is_taken_over() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let file = folder.path().join("racerd.toml");
    let settings = |hosts: &str| format!("tls_self_signed = \"{}\"\nhost = [{hosts}]\n", own.path());
    std::fs::write(&file, settings("")).unwrap();
    let server = Server::start_in(folder, "127.0.0.1:0", &["--config", file.to_str().unwrap()]);
    let old = served(&server);
    let key = own.key();
    std::fs::write(&file, settings("\"chat.lan\"")).unwrap();
    eventually("a start", || server.log().contains(" started "));
    server.signal(Signal::HUP);
    eventually("the change", || server.log().contains(MADE_ANEW));
    assert_ne!(served(&server), old);
    assert_eq!((served(&server), own.key()), (own.fingerprint(), key));
    assert!(own.asks(&["-ext", "subjectAltName"]).contains("DNS:chat.lan"));
}

/// The ten-year certificates of earlier versions are replaced, name included, and the key stays. A certificate from
/// elsewhere is left alone.
#[test]
fn our_certificate_of_more_than_825_days_is_renewed_and_a_foreign_one_is_not() {
    for (subject, goes) in [("racerd", true), ("gateway", false)] {
        let folder = TempDir::new();
        let own = Own::in_(&folder);
        std::fs::create_dir(&own.0).unwrap();
        let mut wanted = CertificateParams::new(["localhost".to_string()]).unwrap();
        wanted.distinguished_name.push(DnType::CommonName, subject);
        (wanted.not_before, wanted.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2036, 1, 1));
        let key = KeyPair::generate().unwrap();
        let der = wanted.self_signed(&key).unwrap();
        for (name, label, der) in
            [("cert.pem", "CERTIFICATE", der.der().as_ref()), ("key.pem", "PRIVATE KEY", key.serialized_der())]
        {
            let text = data_encoding::BASE64.encode(der);
            let mut file = std::fs::File::create(own.0.join(name)).unwrap();
            write!(file, "-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").unwrap();
        }
        std::fs::set_permissions(own.0.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let (before, key) = (own.fingerprint(), own.key());
        let server = Server::start_in(folder, "127.0.0.1:0", &["--tls-self-signed", own.path(), "--host", "chat.lan"]);
        eventually("a certificate", || server.log().contains(" certificate "));
        assert_eq!((own.fingerprint() != before, own.key()), (goes, key), "{subject}");
        let (begin, end) = own.validity();
        assert_eq!((end + 1 - begin <= 825 * DAY, server.log().contains(MADE_ANEW)), (goes, goes), "{subject}");
        assert_eq!(CertificateDer::pem_file_iter(own.certificate()).unwrap().count(), 1);
        assert_eq!(served(&server), own.fingerprint());
    }
}

/// A long-running server replaces its certificate 30 days before the end, without a restart, and says so 30 days
/// earlier. A clock that was never set changes nothing.
#[test]
fn a_running_server_crosses_the_dates() {
    let folder = TempDir::new();
    let own = Own::in_(&folder);
    let clock = FakeClock::showing(&folder, "+0");
    let command = Server::command(&folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
    let server = Server::start_as(folder, clock.over(command));
    let (_, end) = own.validity();
    let (first, key) = (own.fingerprint(), own.key());
    let soon = "own certificate will be made anew, with the same key: browsers will ask again";
    let mut readings = 0;
    // The server checks the dates at once after SIGHUP, otherwise within a minute.
    let mut at = |seconds: u64, words: &str| {
        let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+@%F %T"]).output().unwrap();
        clock.set(String::from_utf8(output.stdout).unwrap().trim());
        readings += 1;
        server.signal(Signal::HUP);
        eventually("a reading", || server.log().matches("no settings to read again").count() == readings);
        match words {
            // Two loop turns later, the check is done as well.
            "" => (0..2).for_each(|_| drop(served(&server))),
            words => eventually(words, || server.log().contains(words)),
        }
    };
    eventually("a start", || server.log().contains(" started "));
    at(end - 61 * DAY, "");
    assert!(!server.log().contains(soon), "{}", server.log());
    at(end - 60 * DAY + 60, soon);
    at(end - 31 * DAY, "");
    // Set back to 1970: no certificate is made, and the log says so.
    at(1000, "stays as it is until this machine's clock is set");
    assert_eq!((own.fingerprint(), own.key()), (first.clone(), key.clone()));
    at(end - 30 * DAY + 60, MADE_ANEW);
    let second = own.fingerprint();
    assert_ne!(second, first);
    assert_eq!((served(&server), own.key()), (second.clone(), key.clone()));
    let (begin, later) = own.validity();
    assert!(begin < end && later > end + 700 * DAY, "{begin} {later}");
    // If the clock was ahead when the certificate was made, clients would refuse it as not yet valid.
    at(begin - 2 * DAY, "it began in the future");
    assert_ne!(own.fingerprint(), second);
    assert_eq!((served(&server), own.key()), (own.fingerprint(), key));
    assert!((own.validity().0..own.validity().1).contains(&(begin - 2 * DAY)));
}

/// A machine without a real-time clock starts in 1970, or years ahead: it serves, and its certificate is fixed once
/// the clock is.
#[test]
fn a_start_under_a_wrong_clock_is_put_right_later() {
    for start in ["@1970-01-01 00:00:05", "@2099-01-01 00:00:00"] {
        let folder = TempDir::new();
        let own = Own::in_(&folder);
        let clock = FakeClock::showing(&folder, start);
        let command = Server::command(&folder, "127.0.0.1:0", &["--tls-self-signed", own.path()]);
        let server = Server::start_as(folder, clock.over(command));
        eventually("a start", || server.log().contains(" started "));
        assert_eq!(served(&server), own.fingerprint());
        clock.set("+0");
        server.signal(Signal::HUP);
        let is_valid = || (own.validity().0..own.validity().1).contains(&now());
        eventually("a certificate of today", is_valid);
        eventually("it is served", || served(&server) == own.fingerprint());
        assert!(curl(&server, &["--cacert", &own.certificate()]), "{start}");
    }
}
