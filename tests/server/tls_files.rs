//! Certificate files on the real binary: changed during conversations, faulty, near expiry.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::*;
use crate::tls::{Member, Secure, made};

fn hang_up(secure: &Secure) {
    secure.server.signal(rustix::process::Signal::HUP);
}

/// Existing connections continue; new ones get the new certificate.
#[test]
fn a_renewed_certificate_drops_nobody() {
    let secure = Secure::start(&["--request-rate", "0"]);
    let old = secure.config("a.pem");
    let mut members: Vec<Member> = (0..20).map(|number| secure.member("r", &format!("n{number}"))).collect();
    let folder = secure.server.folder.path();
    for round in 1..=5 {
        // Each member has a message in flight while the files change.
        for member in &mut members {
            member.send(json!({"type": "send", "id": round, "body": "x".repeat(3000)}));
        }
        made(folder, "a", &[], |_| {});
        hang_up(&secure);
        let read = |log: String| log.matches("certificates read again").count();
        eventually("the new files", || read(secure.server.log()) == round);
        for member in &mut members {
            assert_eq!(member.next_of("ack")["id"], round);
        }
        secure.member("other", "new");
    }
    let old = secure.open_with(old).write_all(
        b"GET / HTTP/1.1

",
    );
    assert!(old.unwrap_err().to_string().contains("invalid peer certificate"), "the old one is not given any more");
    for member in &mut members {
        member.send(json!({"type": "ping", "id": 99}));
        assert_eq!(member.next_of("pong")["heads"]["r"], 100);
    }
}

/// The names in the certificates are the server's own, matched as TLS matches them; the same for renewed ones.
#[test]
fn a_server_answers_to_the_names_of_its_certificates() {
    let secure = Secure::start(&[]);
    made(secure.server.folder.path(), "a", &["chat.example", "*.wild.example"], |_| {});
    hang_up(&secure);
    eventually("the new files", || secure.server.log().contains("certificates read again"));
    let status = |host: &str| {
        let answer = secure.request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for host in ["chat.example", "CHAT.example.:443", "a.wild.example", "localhost"] {
        assert_eq!(status(host), "200", "{host}");
    }
    for host in ["wild.example", "a.b.wild.example", "x.chat.example", "evil.example"] {
        assert_eq!(status(host), "421", "{host}");
    }
    made(secure.server.folder.path(), "a", &["other.example"], |_| {});
    hang_up(&secure);
    eventually("the newer files", || secure.server.log().matches("certificates read again").count() == 2);
    assert_eq!([status("other.example"), status("chat.example")], ["200", "421"]);
}

#[test]
fn files_that_are_no_pair_change_nothing() {
    let secure = Secure::start(&[]);
    let old = secure.config("a.pem");
    let (certificate, key) = (secure.file("a.pem"), secure.file("a.key"));
    let (kept, kept_key) = (std::fs::read(&certificate).unwrap(), std::fs::read(&key).unwrap());
    made(secure.server.folder.path(), "b", &[], |_| {});
    let stays = |count: usize, words: &str| {
        hang_up(&secure);
        eventually(words, || secure.server.log().matches("the certificates stay as they were").count() == count);
        assert!(secure.server.log().contains(words), "{words}");
        Member::over(secure.open_with(old.clone()), "/rooms/r/ws").next_of("joined");
    };
    std::fs::copy(secure.file("b.pem"), &certificate).unwrap();
    stays(1, "is not the key of");
    std::fs::write(&certificate, "no certificate").unwrap();
    stays(2, "there is no CERTIFICATE section in it");
    std::fs::remove_file(&certificate).unwrap();
    stays(3, "cannot be read");
    std::fs::write(&certificate, kept).unwrap();
    std::fs::write(&key, &kept_key[..60]).unwrap();
    stays(4, "there is no PRIVATE KEY section");
    // The log contains no part of a key.
    let text = String::from_utf8(kept_key.clone()).unwrap();
    assert!(!secure.server.log().contains(text.lines().nth(1).unwrap()));
    std::fs::write(&key, kept_key).unwrap();
    hang_up(&secure);
    eventually("all well", || secure.server.log().contains("certificates read again"));
}

#[test]
fn an_end_that_is_near_is_said_at_start_and_at_reload() {
    let day = |days: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.checked_add_signed(days * 86_400).unwrap())
    };
    let secure = Secure::start(&[]);
    assert!(!secure.server.log().contains("WARN"), "{}", secure.server.log());
    let folder = secure.server.folder.path();
    for (round, (begin, end, words)) in [
        (-30, 13, "a certificate ends soon"),
        (-30, -1, "a certificate has ended"),
        (2, 90, "a certificate is not valid yet"),
        (-30, 15, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let warnings = secure.server.log().matches("WARN").count();
        made(folder, "a", &[], |wanted| (wanted.not_before, wanted.not_after) = (day(begin), day(end)));
        hang_up(&secure);
        // This is the last line about a reload.
        eventually("the new file", || secure.server.log().matches("no settings to read again").count() == round + 1);
        let said = || secure.server.log().matches("WARN").count() - warnings;
        match words {
            "" => assert_eq!(said(), 0, "SIGHUP is how the certificates are read again"),
            words => eventually(words, || secure.server.log().contains(words) && said() == 1),
        }
    }
}

/// A fault in the files ends the start with one line.
#[test]
fn wrong_files_end_the_start() {
    let folder = TempDir::new();
    made(folder.path(), "a", &[], |_| {});
    made(folder.path(), "b", &[], |_| {});
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (a, b) = ((file("a.pem"), file("a.key")), (file("b.pem"), file("b.key")));
    let half = file("half");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(format!("{half}/cert.pem"), "x").unwrap();
    let file = file("a.pem/x");
    for (arguments, words) in [
        (vec!["--tls-cert", &a.0], "tls-cert"),
        (vec!["--tls-cert", &a.0, "--tls-key", &b.1], "is not the key of"),
        (
            vec!["--tls-cert", &format!("{},{}", a.0, b.0), "--tls-key", &format!("{},{}", b.1, a.1)],
            "is not the key of",
        ),
        (vec!["--tls-cert", "/nowhere/a.pem", "--tls-key", &a.1], "/nowhere/a.pem cannot be read"),
        (vec!["--tls-cert", &a.1, "--tls-key", &a.1], "no CERTIFICATE section"),
        (vec!["--tls-cert", "/dev/zero", "--tls-key", &a.1], "/dev/zero cannot be read"),
        (vec!["--tls-self-signed", &file], "no certificate can be made there"),
        (vec!["--tls-self-signed", &half], "restore it, or move the certificate away"),
        (vec!["--tls-cert", &a.0, "--tls-key", &a.1, "--plain-listen", "0.0.0.0:0"], "--open"),
        (vec!["--plain-listen", "127.0.0.1:0"], "the first is for a server that speaks TLS elsewhere"),
    ] {
        let output = Server::command(&folder, "127.0.0.1:0", &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // A missing file may appear later; a fault in a file has to be fixed by the user.
        let is_absent = ["nowhere", "can be made there", "restore it"].iter().any(|word| words.contains(word));
        assert_eq!(output.status.code(), Some(if is_absent { 1 } else { 2 }), "{arguments:?}: {said}");
        assert!(said.lines().count() == 1 && said.contains(words), "{arguments:?}: {said}");
    }
    // --check-config finds the same faults as a start.
    let check = |arguments: &[&str]| {
        let output = Server::command(&folder, "127.0.0.1:0", arguments).arg("--check-config").output().unwrap();
        output.status.code()
    };
    assert_eq!(check(&["--tls-cert", &a.0, "--tls-key", &b.1]), Some(2));
    assert_eq!(check(&["--tls-cert", &a.0, "--tls-key", &a.1]), Some(0));
}

fn openssl(folder: &TempDir, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An unusable key is reported with the reason: encrypted (in both forms), or on a curve that rustls does not support.
#[test]
fn a_key_that_cannot_be_used_says_why() {
    let folder = TempDir::new();
    made(folder.path(), "a", &[], |_| {});
    openssl(&folder, "pkcs8 -topk8 -in a.key -out new.key -passout pass:secret");
    openssl(&folder, "genrsa -traditional -aes128 -passout pass:secret -out old.key 2048");
    openssl(&folder, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key");
    for (key, words) in [
        ("new.key", "is encrypted"),
        ("old.key", "is encrypted"),
        ("p521.key", "the curves P-256 and P-384"),
        ("a.pem", "no PRIVATE KEY section"),
    ] {
        let [certificate, key] = ["a.pem", key].map(|name| folder.path().join(name).to_str().unwrap().to_string());
        let arguments = ["--tls-cert", &certificate, "--tls-key", &key];
        let output = Server::command(&folder, "127.0.0.1:0", &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{key}: {said}");
        assert!(said.lines().count() == 1 && said.contains(words), "{key}: {said}");
    }
}

/// A byte order mark at the start of either file is ignored.
#[test]
fn a_byte_order_mark_is_passed_over() {
    let secure = Secure::start(&[]);
    made(secure.server.folder.path(), "a", &["marked.example"], |_| {});
    for file in ["a.pem", "a.key"] {
        let text = std::fs::read(secure.file(file)).unwrap();
        std::fs::write(secure.file(file), [b"\xEF\xBB\xBF".as_slice(), &text].concat()).unwrap();
    }
    hang_up(&secure);
    eventually("the marked files", || secure.server.log().contains("certificates read again"));
}

/// Working but surprising files are reported: no subjectAltName, a key that others may read.
#[test]
fn an_open_key_and_a_certificate_without_names_are_warned_of() {
    let secure = Secure::start(&[]);
    let (nameless, open) = ("has no subjectAltName", "others may read or change a TLS key");
    assert!(!secure.server.log().contains("WARN"), "{}", secure.server.log());
    let mut readings = 0;
    let mut said_after = |mode: u32| {
        std::fs::set_permissions(secure.file("a.key"), std::fs::Permissions::from_mode(mode)).unwrap();
        let before = secure.server.log().len();
        hang_up(&secure);
        readings += 1;
        // This is the last line about a reload.
        eventually("a reading", || secure.server.log().matches("no settings to read again").count() == readings);
        let log = secure.server.log().split_off(before);
        [log.contains(nameless), log.contains(open)]
    };
    for (mode, is_open) in [(0o644, true), (0o604, true), (0o660, true), (0o640, false), (0o400, false)] {
        let [_, said] = said_after(mode);
        assert_eq!(said, is_open, "mode {mode:03o}");
    }
    made(secure.server.folder.path(), "a", &[], |wanted| wanted.subject_alt_names.clear());
    assert_eq!(said_after(0o600), [true, false]);
    made(secure.server.folder.path(), "a", &[], |_| {});
    assert_eq!(said_after(0o600), [false, false]);
}
