//! Servers under a wrong clock, provided by Debian's faketime through a file that the test writes. Monotonic clocks
//! stay unchanged, as they do when the real clock is set.

use std::path::PathBuf;
use std::process::Command;

use crate::support::TempDir;

/// The wall clock of one server.
pub struct FakeClock(PathBuf);

impl FakeClock {
    /// Starts a clock at this date, in faketime's form: `@2099-01-01 00:00:00`, in UTC.
    pub fn showing(folder: &TempDir, date: &str) -> FakeClock {
        let clock = FakeClock(folder.path().join("clock"));
        clock.set(date);
        clock
    }

    /// Sets the clock to this date; `+0` is the real time.
    pub fn set(&self, date: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{date}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    /// Has the server that this command starts use this clock.
    pub fn over(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.0).env("TZ", "UTC");
        for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(name, "1");
        }
        command
    }
}

impl Drop for FakeClock {
    /// Removes the shared memory that faketime leaves behind for killed processes.
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
