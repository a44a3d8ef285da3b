//! A server under a clock that is wrong: Debian's faketime gives it one, by a file that a test writes. Monotonic clocks
//! go on as they are, as they do where the real one is set.

use std::path::PathBuf;
use std::process::Command;

use crate::support::Folder;

/// The wall clock of one server.
pub struct FakeClock(PathBuf);

impl FakeClock {
    /// One that shows this date and goes on from there, as faketime writes it: `@2099-01-01 00:00:00`, in UTC.
    pub fn showing(folder: &Folder, date: &str) -> FakeClock {
        let clock = FakeClock(folder.path().join("clock"));
        clock.set(date);
        clock
    }

    /// Has it show this date from now on; `+0` is the real one.
    pub fn set(&self, date: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{date}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    /// Puts the server that this command starts under it.
    pub fn over(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.0).env("TZ", "UTC");
        for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(name, "1");
        }
        command
    }
}

impl Drop for FakeClock {
    /// Removes the shared memory that faketime leaves of processes that were killed.
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|start| name.strip_prefix(start));
            if pid.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("Debian's package faketime; tests/run installs it")
}
