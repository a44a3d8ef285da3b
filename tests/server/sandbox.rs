//! The sandbox: a running server is in it, and what breaks into one can do little. Where the kernel offers a part only,
//! the server has to say so.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;

use racerd::server::sandbox::{self, Half, Hold, Reach};
use rustix::net::{AddressFamily, SocketType};

use crate::support::*;
use crate::tls::made;

/// Makes the test binary play the intruder: which sandbox to enter, and the folder of the case.
const INTRUDER: &str = "RACERD_TEST_INTRUDER";

/// What an intruder tries, in order, and the halves of the sandbox that stop it; a server needs what none stops. All
/// of it succeeds without a sandbox.
const ATTEMPTS: [(&str, &[Half]); 23] = [
    ("write inside", &[]),
    ("read inside", &[]),
    ("replace inside", &[]),
    ("thread", &[]),
    ("unix socket", &[]),
    ("read what is readable", &[]),
    ("write what is readable", &[Half::Files]),
    ("make a folder inside", &[Half::Files]),
    ("read beside", &[Half::Files]),
    ("read the machine's users", &[Half::Files]),
    ("list beside", &[Half::Files]),
    ("write beside", &[Half::Files]),
    ("link out", &[Half::Files]),
    ("remove beside", &[Half::Files]),
    ("exec", &[Half::Files, Half::Calls]),
    ("fork", &[Half::Files, Half::Calls]),
    ("connect out", &[Half::Files, Half::Calls]),
    ("listen", &[Half::Files, Half::Calls]),
    ("send a datagram", &[Half::Calls]),
    ("netlink socket", &[Half::Calls]),
    ("abstract socket", &[Half::Files]),
    ("signal another", &[Half::Files, Half::Calls]),
    ("see another's memory", &[Half::Files]),
];

/// The abstract socket of a case, whose folder has a name of its own.
fn abstract_address(folder: &Path) -> UnixAddr {
    UnixAddr::from_abstract_name(folder.as_os_str().as_encoded_bytes()).expect("a short name")
}

/// Tries to do something, in the sandbox of a server whose database is in `inside`, as the child of this process.
fn attempt(what: &str, folder: &Path, parent: rustix::process::Pid, address: &str) -> Result<(), String> {
    let (inside, readable, beside) = (folder.join("inside"), folder.join("readable"), folder.join("beside"));
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
        "make a folder inside" => fs::create_dir(inside.join("folder")),
        "read beside" => fs::read(beside.join("secret")).map(drop),
        "read the machine's users" => fs::read("/etc/passwd").map(drop),
        "list beside" => fs::read_dir(&beside).map(drop),
        "write beside" => fs::write(beside.join("new"), "x"),
        "link out" => fs::rename(inside.join("port"), beside.join("port")),
        "remove beside" => fs::remove_file(beside.join("secret")),
        "exec" => Command::new("/bin/true").status().map(drop),
        // A process by clone(2) without a thread's flags, as `posix_spawn` and `fork` make one.
        "fork" => Command::new("/proc/self/exe").arg("--list").output().map(drop),
        "connect out" => TcpStream::connect(address).map(drop),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "send a datagram" => UdpSocket::bind("127.0.0.1:0").and_then(|it| it.send_to(b"x", address)).map(drop),
        // The kernel's routes and interfaces; raw, as sockets of these families are, for users without rights, too.
        "netlink socket" => {
            let made = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None);
            made.map(drop).map_err(Into::into)
        }
        "abstract socket" => {
            UnixDatagram::unbound().and_then(|it| it.send_to_addr(b"x", &abstract_address(folder))).map(drop)
        }
        // One that the parent does not act on.
        "signal another" => rustix::process::kill_process(parent, rustix::process::Signal::CONT).map_err(Into::into),
        "see another's memory" => fs::read(format!("/proc/{}/maps", parent.as_raw_nonzero())).map(drop),
        other => panic!("{other:?} is no attempt"),
    };
    outcome.map_err(|error| error.to_string())
}

/// Plays the intruder, in a process of its own; without its variable it looks at what is above only.
#[test]
fn the_intruder() {
    let Some(case) = std::env::var(INTRUDER).ok() else {
        return assert!(ATTEMPTS.iter().any(|(_, halves)| halves.is_empty()), "what a server needs is tried as well");
    };
    let (halves, folder) = case.split_once(' ').expect("two words");
    let folder = PathBuf::from(folder);
    // Asked for before: which process started this one is no business of a server.
    let parent = rustix::process::getppid().expect("the test that started it");
    let address = fs::read_to_string(folder.join("inside/port")).expect("the address of the test");
    let reach = Reach { written: vec![folder.join("inside")], read: vec![folder.join("readable")], ..Reach::default() };
    match halves {
        "none" => println!("\nheld: nothing"),
        "files" => println!("\nheld: {:?}", sandbox::enter_half(Half::Files, &reach)),
        "calls" => println!("\nheld: {:?}", sandbox::enter_half(Half::Calls, &reach)),
        _ => println!("\nheld: {:?}", sandbox::enter(&reach)),
    }
    for (what, _) in ATTEMPTS {
        println!("attempt: {what}: {:?}", attempt(what, &folder, parent, &address));
    }
}

/// What came of each attempt, in order, and the trace of the processes and threads that were made.
struct Report {
    outcomes: Vec<String>,
    trace: String,
}

/// Lets an intruder try everything, in these halves of the sandbox.
fn intrude(halves: &str) -> Report {
    let folder = TempDir::new();
    let [inside, readable, beside] = ["inside", "readable", "beside"].map(|name| folder.path().join(name));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let _hears = UnixDatagram::bind_addr(&abstract_address(folder.path())).expect("a name of its own");
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
    intruder.env(INTRUDER, format!("{halves} {}", folder.path().display()));
    let output = intruder.output().expect("strace, which tests/run installs");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome = |(what, _): (&str, _)| {
        let line = format!("attempt: {what}: ");
        let came = report.lines().find_map(|found| found.strip_prefix(&line));
        came.unwrap_or_else(|| panic!("no word on {what} in\n{report}")).to_string()
    };
    let outcomes = ATTEMPTS.into_iter().map(outcome).collect();
    Report { outcomes, trace: fs::read_to_string(trace).expect("a trace") }
}

/// Each attempt is stopped by the halves that should, and by no other: each half is all that some systems have. What
/// no half stops, and everything without a sandbox, succeeds.
#[test]
fn an_intruder_is_stopped_and_a_server_is_not() {
    let offered = sandbox::offered();
    let holds = |half: Half| match half {
        Half::Files => offered.files == Hold::Whole,
        Half::Calls => offered.calls == Hold::Whole,
    };
    for (name, entered) in
        [("none", &[][..]), ("files", &[Half::Files]), ("calls", &[Half::Calls]), ("both", &[Half::Files, Half::Calls])]
    {
        if !entered.iter().all(|half| holds(*half)) {
            continue;
        }
        let report = intrude(name);
        for ((what, halves), came) in ATTEMPTS.iter().zip(&report.outcomes) {
            let is_stopped = halves.iter().any(|half| entered.contains(half));
            assert_eq!(came != "Ok(())", is_stopped, "{what} with {name}: {came}\n{:#?}", report.outcomes);
        }
        // To start a program fails at the program already: whether there was a process for it, only the trace shows.
        let is_fork = |line: &&str| !line.contains("CLONE_THREAD") && line.contains(" = ");
        let forks: Vec<&str> = report.trace.lines().filter(is_fork).collect();
        let is_refused = forks.iter().all(|line| line.contains(" = -1 E"));
        assert!(!forks.is_empty() && is_refused == entered.contains(&Half::Calls), "{name}: {forks:?}");
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
            true => {
                reload("the settings stay as they were");
                let log = server.log();
                let reason = log.lines().rfind(|line| line.contains("the settings stay as they were")).unwrap();
                assert!(reason.contains("the sandbox") && reason.contains("needs a restart"), "{reason}");
                assert!(!reason.contains("let the user"), "it is not the file's mode: {reason}");
            }
            false => reload("setting changed name=request_rate"),
        }
    }
}

/// A folder that was replaced by another: what lies in it is read at the next start.
#[test]
fn a_certificate_in_another_folder_needs_a_restart() {
    let is_held = matches!(sandbox::offered().files, Hold::Whole | Hold::Part(_));
    let folder = TempDir::new();
    let keys = TempDir::new();
    let live = keys.path().join("live");
    fs::create_dir(&live).expect("a folder");
    made(&live, "a", &[], |_| {});
    let [cert, key] = ["a.pem", "a.key"].map(|name| live.join(name).to_str().expect("a path").to_string());
    let own = folder.path().join("own");
    let arguments = ["--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_in(TempDir::new(), "127.0.0.1:0", &arguments);
    let of_its_own = Server::start(&["--tls-self-signed", own.to_str().expect("a path")]);
    fs::rename(&live, keys.path().join("old")).expect("another name");
    fs::create_dir(&live).expect("a folder");
    made(&live, "a", &[], |_| {});
    fs::remove_dir_all(&own).expect("its folder");
    for server in [&server, &of_its_own] {
        server.signal(rustix::process::Signal::HUP);
        let told = |word: &str| server.log().lines().any(|line| line.contains("certificates") && line.contains(word));
        match is_held {
            true => eventually("a refusal", || told("the sandbox") && told("needs a restart")),
            false => eventually("the new files", || told("certificates read again")),
        }
    }
}
