//! Starts the server that is attacked, on a machine with the faults that the attack asks for, and reads from /proc what
//! it takes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::attacks::{Certificate, Machine, Shape};
use crate::observers;
use crate::peer::Peer;
use crate::wire::{self, PORT, SERVER, TLS_PORT};

/// How long a server may take to listen, and to stop.
const SOON: Duration = Duration::from_secs(15);

/// The variable by which a server with test code is told where to count its turns (`src/testing/turn_counts.rs`), and
/// the file in its folder: beside the database, since a server's sandbox lets it write there.
const TURN_COUNTS: &str = "COUNT_TURNS_IN";
const TURNS: &str = "data/turns";

/// The counts of a server so far.
#[derive(Clone, Copy)]
pub struct Counted {
    pub turns: u64,
    /// The most reads and writes of one turn.
    pub most: u64,
}

impl Counted {
    pub fn read(file: &File) -> Option<Counted> {
        let mut bytes = [0; 24];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let [turns, _, most] = [0, 8, 16].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte])));
        Some(Counted { turns, most })
    }
}

pub struct Server {
    peer: Peer,
    child: Child,
    folder: PathBuf,
    machine: Machine,
    cgroup: Option<PathBuf>,
    /// What the machine could not be given.
    pub without: Option<&'static str>,
}

/// What the server takes at one moment.
#[derive(Clone, Copy)]
pub struct Taken {
    pub at: Instant,
    /// Time on a processor, of the whole process and of its loop.
    pub all: Duration,
    pub own: Duration,
    pub log: u64,
    pub lines: u64,
}

impl Server {
    /// Starts the binary in this new folder, with so much memory.
    pub fn start(peer: Peer, binary: &Path, folder: PathBuf, shape: &Shape, memory: u64) -> Result<Server, String> {
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        let cgroup = match shape.machine {
            Machine::Memory(most) => cgroup(&folder, most),
            _ => None,
        };
        let without = (matches!(shape.machine, Machine::Memory(_)) && cgroup.is_none())
            .then_some("no cgroup could be made: memory is judged, not bounded");
        if let Machine::Disk(size) = shape.machine {
            let option = format!("size={size}");
            run("mount", &["-t", "tmpfs", "-o", &option, "tmpfs", &data.to_string_lossy()])?;
        }
        let prologue = match (shape.machine, &cgroup) {
            (Machine::Files(most), _) => format!("ulimit -n {most} && "),
            (Machine::Memory(_), Some(cgroup)) => format!("echo $$ > '{}/cgroup.procs' && ", cgroup.display()),
            _ => String::new(),
        };
        let log = folder.join("log");
        let log = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{prologue}exec \"$@\""), "sh"]);
        if peer == Peer::Racerd {
            serve(&mut command, binary, &folder, shape, memory)?;
        } else {
            let other = peer.command(&folder)?;
            command.arg(other.get_program()).args(other.get_args());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(if shape.machine == Machine::LogUnread { Stdio::piped() } else { Stdio::from(log) });
        // A server takes variables that begin with RACERD for settings.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RACERD_")) {
            if peer == Peer::Racerd {
                command.env_remove(name);
            }
        }
        command.env(TURN_COUNTS, folder.join(TURNS));
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut server = Server { peer, child, folder, machine: shape.machine, cgroup, without };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let end = Instant::now() + SOON;
        while observers::connect(self.peer, wire::honest(0), PORT).is_err() {
            if let Some(how) = self.ended() {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the server ended ({how}):\n{log}"));
            }
            if Instant::now() > end {
                return Err(format!("the server does not listen after {SOON:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the file of counts, if this build of the server has one.
    pub fn counts(&self) -> Option<File> {
        File::open(self.folder.join(TURNS)).ok()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets each sync of the disk take so long, until the answer is dropped.
    pub fn slow_down(&self, delay: Duration) -> SlowDisk {
        let inject = format!("inject=fdatasync,fsync:delay_enter={}", delay.as_micros());
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "signal=none", "-e", "trace=fdatasync,fsync", "-e", &inject]);
        let own = self.pid().to_string();
        let tasks = fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().flatten();
        let names = tasks.map(|task| task.file_name().to_string_lossy().into_owned());
        // The store's threads; the loop is not to be slowed down by being watched.
        names.filter(|name| *name != own).for_each(|name| {
            strace.args(["-p", &name]);
        });
        SlowDisk(strace.stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok())
    }

    /// Returns how it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    pub fn taken(&self) -> Taken {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        Taken {
            at: Instant::now(),
            all: process_time(self.pid()),
            own: loop_time(self.pid()),
            log: log.len() as u64,
            lines: log.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }

    /// Returns the most memory that the process has had.
    pub fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid() as i32) {
            // A server that has ended takes no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops it and removes its folder.
    pub fn stop(mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let end = Instant::now() + SOON;
        while self.ended().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::remove_dir(cgroup);
        }
        if matches!(self.machine, Machine::Disk(_)) {
            let _ = run("umount", &["-l", &self.folder.join("data").to_string_lossy()]);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Appends racerd's own arguments.
fn serve(command: &mut Command, binary: &Path, folder: &Path, shape: &Shape, memory: u64) -> Result<(), String> {
    command.arg(binary).args(["serve", "--open", "--data"]).arg(folder.join("data/racerd.db"));
    if let Some(certificate) = shape.tls {
        let (cert, key) = make_certificate(certificate, folder)?;
        command.args(["--listen", &format!("[{SERVER}]:{TLS_PORT}"), "--tls-cert", &cert, "--tls-key", &key]);
        command.args(["--plain-listen", &format!("[{SERVER}]:{PORT}")]);
    } else {
        command.args(["--listen", &format!("[{SERVER}]:{PORT}")]);
    }
    if shape.is_sealed {
        let key = folder.join("sealed.key").to_string_lossy().into_owned();
        run(&binary.to_string_lossy(), &["keygen", &key])?;
        command.args(["--sealed-key", &key]);
    }
    command.arg(format!("--memory={memory}")).args(shape.arguments);
    Ok(())
}

/// What makes the disk slow.
pub struct SlowDisk(Option<Child>);

impl Drop for SlowDisk {
    fn drop(&mut self) {
        if let Some(strace) = &mut self.0 {
            // By this it lets go of the server.
            let _ = Pid::from_raw(strace.id() as i32).map(|pid| kill_process(pid, Signal::TERM));
            let _ = strace.wait();
        }
    }
}

/// Makes a cgroup of so much memory, by the second version or the first, named as the folder.
fn cgroup(folder: &Path, most: u64) -> Option<PathBuf> {
    let name = folder.file_name()?;
    let roots = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
    roots.into_iter().find_map(|(root, limit)| {
        let folder = Path::new(root).join(name);
        fs::create_dir(&folder).ok()?;
        // A folder without this file is no cgroup of memory.
        let wrote = File::options().write(true).open(folder.join(limit)).and_then(|mut file| write!(file, "{most}"));
        if wrote.is_err() {
            let _ = fs::remove_dir(&folder);
            return None;
        }
        Some(folder)
    })
}

fn make_certificate(certificate: Certificate, folder: &Path) -> Result<(String, String), String> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let (cert, key) = (cert.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    let mut arguments = vec!["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=hostile", "-newkey"];
    arguments.extend(match certificate {
        Certificate::P256 => ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"].as_slice(),
        Certificate::Rsa2048 => &["rsa:2048"],
        Certificate::Rsa4096 => &["rsa:4096"],
    });
    let name = format!("subjectAltName=IP:{SERVER}");
    arguments.extend(["-addext", &name, "-out", &cert, "-keyout", &key]);
    run("openssl", &arguments)?;
    Ok((cert, key))
}

/// Runs a command that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Returns the time that the process's first thread, which is the loop, has had on a processor.
pub fn loop_time(pid: u32) -> Duration {
    scheduled(&format!("/proc/{pid}/task/{pid}/schedstat"))
}

/// Returns the time that all threads of a process have had.
pub fn process_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| scheduled(&task.path().join("schedstat").to_string_lossy())).sum()
}

fn scheduled(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default())
}

/// Returns what the kernel holds for the sockets of the server, in bytes: what was received and not read, and what was
/// written and not taken.
pub fn kernel_memory() -> u64 {
    let output = Command::new("ss").args(["-tmnH", &format!("( sport = :{PORT} or sport = :{TLS_PORT} )")]).output();
    output.map_or(0, |output| socket_memory(&String::from_utf8_lossy(&output.stdout)))
}

/// Adds up `skmem:(r...,w...)` of each socket.
fn socket_memory(text: &str) -> u64 {
    let groups = text.split("skmem:(").skip(1).filter_map(|rest| rest.split(')').next());
    let fields = groups.flat_map(|group| group.split(','));
    fields.filter_map(|field| field.strip_prefix('r').or_else(|| field.strip_prefix('w'))?.parse::<u64>().ok()).sum()
}

/// Counts the turns of a server's loop for so long, where perf can: its thread's calls that wait for events.
pub struct Turns(Option<Child>);

impl Turns {
    pub fn count(pid: u32, time: Duration) -> Turns {
        let events = ["epoll_wait", "epoll_pwait", "epoll_pwait2"].map(|call| format!("syscalls:sys_enter_{call}"));
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", &events.join(","), "-t", &pid.to_string(), "--", "sleep"]);
        perf.arg(format!("{:.2}", time.as_secs_f64()));
        Turns(perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok())
    }

    pub fn finish(self) -> Option<u64> {
        let output = self.0?.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = text.lines().filter(|line| line.contains("sys_enter_epoll"));
        let turns = lines.filter_map(|line| line.split(',').next()?.parse::<u64>().ok()).sum();
        (turns > 0).then_some(turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_sockets_is_what_waits_both_ways() {
        let text = "ESTAB 0 0 a b\n\t skmem:(r100,rb131072,t0,tb2626560,f0,w20,o0,bl0,d0)\n\
                    ESTAB 0 0 a b\n\t skmem:(r3,rb1,t7,tb8,f9,w0,o0,bl0,d0)\n";
        assert_eq!(socket_memory(text), 123);
        assert_eq!(socket_memory(""), 0);
    }
}
