//! The sandbox: a running server is in it, and what breaks into one can do little. Where the kernel offers a part only,
//! the server has to say so.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use racerd::server::sandbox::{self, Hold, Reach};

use crate::support::*;

/// Makes the test binary play the intruder: what to try, and the folder of the case.
const INTRUDER: &str = "RACERD_TEST_INTRUDER";

/// What an intruder tries, in order. Each line of its report is one of these and what came of it.
const ATTEMPTS: [&str; 18] = [
    "write inside",
    "read inside",
    "replace inside",
    "thread",
    "unix socket",
    "read what is readable",
    "write what is readable",
    "read beside",
    "write beside",
    "remove beside",
    "link out",
    "exec",
    "fork",
    "connect out",
    "listen",
    "send a datagram",
    "signal another",
    "see another's memory",
];

/// How many of them a server has to be able to do itself.
const NEEDED: usize = 6;

/// Tries to do something, in the sandbox of a server whose database is in `inside`, as the child of this process.
fn attempt(what: &str, folder: &Path, parent: rustix::process::Pid) -> Result<(), String> {
    let (inside, readable, beside) = (folder.join("inside"), folder.join("readable"), folder.join("beside"));
    let port = fs::read_to_string(inside.join("port")).map_err(|error| error.to_string())?;
    let outcome = match what {
        "write inside" => fs::write(inside.join("new"), "x"),
        "read inside" => fs::read(inside.join("port")).map(drop),
        "replace inside" => {
            fs::rename(inside.join("new"), inside.join("newer")).and_then(|()| fs::remove_file(inside.join("newer")))
        }
        "thread" => std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap_or_default()),
        "unix socket" => UnixDatagram::unbound().map(drop),
        "read what is readable" => fs::read(readable.join("config")).map(drop),
        "write what is readable" => fs::OpenOptions::new().write(true).open(readable.join("config")).map(drop),
        "read beside" => fs::read(beside.join("secret")).map(drop),
        "write beside" => fs::write(beside.join("new"), "x"),
        "remove beside" => fs::remove_file(beside.join("secret")),
        "link out" => fs::rename(inside.join("port"), beside.join("port")),
        "exec" => Command::new("/bin/true").status().map(drop),
        // A process by clone(2) without a thread's flags, as `posix_spawn` and `fork` make one.
        "fork" => Command::new("/proc/self/exe").arg("--list").spawn().map(drop),
        "connect out" => TcpStream::connect(port.trim()).map(drop),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "send a datagram" => {
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", port.trim())).map(drop)
        }
        "signal another" => rustix::process::test_kill_process(parent).map_err(Into::into),
        "see another's memory" => fs::read("/proc/1/maps").map(drop),
        other => panic!("{other:?} is no attempt"),
    };
    outcome.map_err(|error| error.to_string())
}

/// Plays the intruder, in a process of its own; without its variable it looks at what is above only.
#[test]
fn the_intruder() {
    let Some(folder) = std::env::var_os(INTRUDER).map(PathBuf::from) else {
        return assert!(ATTEMPTS.len() > NEEDED, "an intruder tries more than a server needs");
    };
    // Asked for before: which process started this one is no business of a server.
    let parent = rustix::process::getppid().expect("the test that started it");
    let reach = Reach { written: vec![folder.join("inside")], read: vec![folder.join("readable")], ..Reach::default() };
    let held = sandbox::enter(&reach);
    println!("\nheld: {held:?}");
    for what in ATTEMPTS {
        println!("attempt: {what}: {:?}", attempt(what, &folder, parent));
    }
}

#[test]
fn an_intruder_is_stopped_and_a_server_is_not() {
    let folder = TempDir::new();
    let [inside, readable, beside] = ["inside", "readable", "beside"].map(|name| folder.path().join(name));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let files = [(&inside, "port", address.as_str()), (&readable, "config", ""), (&beside, "secret", "secret")];
    for (place, file, text) in files {
        fs::create_dir(place).expect("a folder");
        fs::write(place.join(file), text).expect("a file");
    }
    let trace = folder.path().join("trace");
    let mut intruder = Command::new("strace");
    intruder.args(["-f", "-qq", "-e", "trace=clone,clone3,fork,vfork", "-o"]).arg(&trace);
    intruder.arg(std::env::current_exe().expect("this program"));
    intruder.args(["--exact", "sandbox::the_intruder", "--nocapture", "--test-threads=1"]);
    let output = intruder.env(INTRUDER, folder.path()).output().expect("strace, which tests/run installs");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let offered = sandbox::offered();
    for (at, what) in ATTEMPTS.into_iter().enumerate() {
        let line = format!("attempt: {what}: ");
        let came = report.lines().find_map(|found| found.strip_prefix(&line));
        let came = came.unwrap_or_else(|| panic!("no word on {what} in\n{report}"));
        if at < NEEDED {
            assert_eq!(came, "Ok(())", "{what}: a server needs this\n{report}");
        } else if offered.gaps().is_empty() {
            assert!(came.starts_with("Err"), "{what}: {came}\n{report}");
        }
    }
    assert!(beside.join("secret").exists() || !offered.gaps().is_empty());
    // To start a program fails at the program already: whether there was a process for it, only the trace shows.
    let trace = fs::read_to_string(trace).expect("a trace");
    let forks: Vec<&str> =
        trace.lines().filter(|line| !line.contains("CLONE_THREAD") && line.contains(" = ")).collect();
    if offered.calls == Hold::Whole {
        assert!(!forks.is_empty() && forks.iter().all(|line| line.contains(" = -1 E")), "{forks:?}");
    }
}

/// Returns a field of a process or thread, by its folder in /proc.
fn field(folder: &Path, name: &str) -> String {
    let status = fs::read_to_string(folder.join("status")).expect("a thread");
    let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of every kernel");
    value.trim().to_string()
}

/// Returns a field of each thread of the server.
fn of_each_thread(server: &Server, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("a process");
    tasks.map(|task| field(&task.expect("a thread").path(), name)).collect()
}

#[test]
fn every_thread_of_a_server_is_in_the_sandbox() {
    let server = Server::start(&[]);
    let offered = sandbox::offered();
    let filtered = of_each_thread(&server, "Seccomp:");
    assert!(filtered.len() > 1, "the store has threads of its own");
    // A container may filter the calls of everything in it.
    let own = field(Path::new("/proc/self"), "Seccomp:");
    let held = if offered.calls == Hold::Whole { "2" } else { &own };
    assert!(filtered.iter().all(|mode| mode == held), "{filtered:?}");
    assert_eq!(server.log().contains("the sandbox is not whole"), !offered.gaps().is_empty(), "{}", server.log());
    let open = Server::start(&["--sandbox", "off"]);
    assert!(of_each_thread(&open, "Seccomp:").iter().all(|mode| *mode == own));
    assert!(!open.log().contains("sandbox"), "{}", open.log());
}

/// The configuration may be replaced in its folder; a link to elsewhere is read only without the sandbox.
#[test]
fn a_reload_reads_only_the_folders_of_the_start() {
    let is_held = matches!(sandbox::offered().files, Hold::Whole | Hold::Part(_));
    for sandbox in ["on", "off"] {
        let (folder, elsewhere) = (TempDir::new(), TempDir::new());
        let file = folder.path().join("racerd.toml");
        fs::write(&file, "request_rate = 30\n").expect("a file");
        let config = file.to_str().expect("a path of this test").to_string();
        let server = Server::start_in(folder, "127.0.0.1:0", &["--config", &config, "--sandbox", sandbox]);
        let reload = |word: &str| {
            let before = server.log().len();
            server.signal(rustix::process::Signal::HUP);
            eventually(word, || server.log()[before..].contains(word));
        };
        // A file that takes the place of the old one, as editors and configuration tools do it.
        let draft = file.with_extension("new");
        fs::write(&draft, "request_rate = 31\n").expect("a file");
        fs::rename(&draft, &file).expect("the same folder");
        reload("setting changed name=request_rate");
        let other = elsewhere.path().join("other.toml");
        fs::write(&other, "request_rate = 32\n").expect("a file");
        fs::remove_file(&file).and_then(|()| std::os::unix::fs::symlink(&other, &file)).expect("a link");
        match sandbox == "on" && is_held {
            true => reload("the settings stay as they were"),
            false => reload("setting changed name=request_rate"),
        }
    }
}
