//! Files named by settings and arguments: one rule per kind for the exit status. An error from the system ends with 1,
//! one that the user has to fix with 2; a data key or a configuration that cannot be read is among the latter.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use crate::support::*;
use crate::tls::made;

/// Faults that a file can have, by its name here.
const FAULTS: [&str; 6] = ["missing", "no-folder/missing", "loop", "folder", "fifo", "junk"];
/// Statuses of a file whose faults all need the user: no retry.
const SETTING: [i32; 6] = [2, 2, 2, 2, 2, 2];
/// Statuses of a file that may appear later; one of the wrong kind stays wrong.
const FILE: [i32; 6] = [1, 1, 1, 2, 2, 2];

#[test]
fn each_kind_of_file_has_one_rule() {
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let racerd = |arguments: &[String]| {
        let mut command = Server::program();
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.output().expect("the binary")
    };
    let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
    std::fs::create_dir(at("folder")).unwrap();
    symlink("loop", at("loop")).unwrap();
    // Nobody writes to it: a command that waited would wait for ever.
    assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    std::fs::write(at("junk"), "junk\n").unwrap();
    std::fs::set_permissions(at("junk"), std::fs::Permissions::from_mode(0o600)).unwrap();
    made(folder.path(), "good", &[], |_| {});
    assert!(racerd(&words("keygen --data data.key")).status.success());
    let serve = "serve --listen 127.0.0.1:0 --data racerd.db";
    let (room, secure) = ("http://127.0.0.1:1/rooms/r", "https://127.0.0.1:1/rooms/r");
    for (line, statuses) in [
        (format!("{serve} --config FILE"), SETTING),
        ("check-config --config FILE".to_string(), SETTING),
        (format!("{serve} --data-key-file FILE"), SETTING),
        ("check-config --data-key-file FILE".to_string(), SETTING),
        ("rekey racerd.db --data-key-file FILE".to_string(), SETTING),
        ("rekey racerd.db --new-key FILE".to_string(), SETTING),
        (format!("{serve} --tls-cert FILE --tls-key good.key"), FILE),
        (format!("{serve} --tls-cert good.pem --tls-key FILE"), FILE),
        ("check-config --tls-cert FILE --tls-key good.key".to_string(), FILE),
        (format!("{serve} --sealed-key FILE"), FILE),
        ("check-config --sealed-key FILE".to_string(), FILE),
        ("pin --sealed-key FILE".to_string(), FILE),
        (format!("send {secure} x --timeout 1s --ca FILE"), FILE),
        (format!("tail {secure} --timeout 1s --ca FILE"), FILE),
        ("health https://127.0.0.1:1 --ca FILE".to_string(), FILE),
        (format!("send {room} x --timeout 1s --room-key @FILE"), FILE),
        (format!("tail {room} --timeout 1s --room-key @FILE"), FILE),
        ("check FILE".to_string(), FILE),
        ("backup copy.db --data FILE".to_string(), FILE),
        ("restore FILE --data other.db".to_string(), FILE),
        ("rekey FILE --data-key-file data.key".to_string(), FILE),
        ("salvage FILE new.db".to_string(), FILE),
    ] {
        for (fault, status) in FAULTS.iter().zip(statuses) {
            let arguments = words(&line.replace("FILE", fault));
            let output = racerd(&arguments);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
            let name = fault.split('/').next().unwrap();
            assert!(told.lines().count() == 1 && told.contains(name), "{arguments:?}: {told}");
            assert!(!told.contains("no answer"), "it is the file's fault: {arguments:?}: {told}");
        }
    }
    // A missing database is created, so only its folder can be missing; the same holds for a certificate's folder.
    for (line, status) in [
        (format!("{serve}/x"), 1),
        ("serve --listen 127.0.0.1:0 --data no-folder/x".to_string(), 1),
        ("serve --listen 127.0.0.1:0 --data folder".to_string(), 2),
        ("serve --listen 127.0.0.1:0 --data junk".to_string(), 2),
        (format!("{serve} --tls-self-signed junk"), 2),
        ("check-config --tls-self-signed junk".to_string(), 2),
        (format!("{serve} --tls-self-signed loop"), 1),
        ("keygen no-folder/new".to_string(), 1),
        ("keygen junk".to_string(), 2),
        ("backup no-folder/new --data junk".to_string(), 2),
    ] {
        let output = racerd(&words(&line));
        assert_eq!(output.status.code(), Some(status), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    assert_eq!(names, ["data.key", "fifo", "folder", "good.key", "good.pem", "junk", "loop"], "nothing was made");
}
