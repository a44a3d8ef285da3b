//! Listeners inherited from the process that starts the server, and notifications to its supervisor. The test creates
//! the listeners; a shell moves them to where the convention expects them (descriptor 3, LISTEN_FDS, LISTEN_PID).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// Shell code that moves descriptor 0 to 3 and replaces itself with the process that the variables name.
const PASS: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS="$FDS" LISTEN_PID="${PID:-$$}" exec "$0" "$@""#;

/// Returns a command that takes its standard input as its first listener. `fds` is the value of LISTEN_FDS.
fn with_given(folder: &TempDir, fds: &str, arguments: &[&str]) -> Command {
    let mut command = Server::clean(Command::new("sh"));
    command.args(["-c", PASS]).arg(Server::path()).args(["serve", "--data"]).arg(folder.path().join("racerd.db"));
    command.args(arguments).env("FDS", fds).env_remove("PID");
    command
}

/// Creates a listener that outlives the servers on it.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn share(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().expect("a descriptor").into()
}

/// Starts a server on a listener that the test holds.
pub fn start_on(folder: TempDir, listener: &TcpListener, arguments: &[&str]) -> Server {
    let command = with_given(&folder, "1", arguments);
    Server::start_given(folder, command, share(listener))
}

/// Connections that arrive while no server runs wait for the next one; none is refused.
#[test]
fn a_restart_refuses_nobody() {
    let (listener, address) = listener();
    // The same holds before the first server starts.
    let early = TcpStream::connect(address).expect("the test listens");
    let mut server = start_on(TempDir::new(), &listener, &[]);
    assert_eq!(server.address, address);
    let mut early = Raw { stream: early, buffer: Vec::new() };
    early.stream.set_read_timeout(Some(SOON)).expect("a socket");
    early.upgrade("/rooms/r/ws?name=early");
    early.next_of("joined");
    assert_eq!(server.post("/rooms/r/messages", "1").status, 201);
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(early.closed_with(), 1001);
    // No server runs now.
    let waiting: Vec<Raw> = (0..20)
        .map(|_| {
            let mut raw = Raw::connect(address);
            raw.send(handshake("/rooms/r/ws?name=waiting&after=0", ""));
            raw
        })
        .collect();
    server = {
        let folder = std::mem::replace(&mut server.folder, TempDir::new());
        start_on(folder, &listener, &[])
    };
    for mut raw in waiting {
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(raw.next_of("message")["body"], 1);
    }
    // An inherited listener becomes non-blocking, whatever it was before, and gets the same options as racerd's own.
    assert!(server.cpu_over(Duration::from_millis(500)) < Duration::from_millis(250));
    let socket = socket2::SockRef::from(&listener);
    assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 * 1024);
}

#[test]
fn what_is_given_is_used_instead_of_listen() {
    let (listener, address) = listener();
    let (taken, other) = self::listener();
    let folder = TempDir::new();
    let command = with_given(&folder, "1", &["--listen", &other.to_string()]);
    let server = Server::start_given(folder, command, share(&listener));
    assert_eq!(server.address, address);
    assert_eq!(server.get("/healthz").status, 200);
    assert!(server.log().contains("listen is not used"), "{}", server.log());
    drop(taken);
}

/// The listener is also non-blocking, so the loop cannot hang in `accept` on a connection that has gone away
/// meanwhile.
#[test]
fn no_child_inherits_what_is_given() {
    let (listener, _) = listener();
    let server = start_on(TempDir::new(), &listener, &[]);
    assert_eq!(server.get("/healthz").status, 200);
    let path = format!("/proc/{}/fdinfo/3", server.pid());
    let info = std::fs::read_to_string(&path).expect("a process");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    let flags = u32::from_str_radix(flags, 8).expect("octal");
    assert_eq!(flags & 0o2_004_000, 0o2_004_000, "close-on-exec and non-blocking: {info}");
}

/// If the variables name another process, the server ignores them and listens where its settings say.
#[test]
fn what_is_anothers_is_left_alone() {
    let (listener, address) = listener();
    for pid in ["1", "0", "x", " "] {
        let folder = TempDir::new();
        let mut command = with_given(&folder, "1", &["--listen", "127.0.0.1:0"]);
        command.env("PID", pid);
        let server = Server::start_given(folder, command, share(&listener));
        assert_ne!(server.address, address, "LISTEN_PID={pid}");
        assert_eq!(server.get("/healthz").status, 200);
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let folder = TempDir::new();
    let (tcp, address) = listener();
    let file = std::fs::File::create(folder.path().join("a file")).expect("a file");
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let unix = UnixListener::bind(folder.path().join("a socket")).expect("a socket");
    let connected = TcpStream::connect(address).expect("the test listens");
    let open = TcpListener::bind("0.0.0.0:0").expect("a port");
    let cases: [(OwnedFd, &str, &str); 12] = [
        (share(&tcp), "0", "LISTEN_FDS=0"),
        (share(&tcp), "-1", "LISTEN_FDS=-1"),
        (share(&tcp), "99999999999", "LISTEN_FDS=99999999999"),
        (share(&tcp), "65", "from 1 to 64"),
        (share(&tcp), "one", "LISTEN_FDS=one"),
        (share(&tcp), "", "LISTEN_FDS="),
        // The second listener is missing.
        (share(&tcp), "2", "given listener 2 of 2"),
        (file.into(), "1", "not a socket"),
        (udp.into(), "1", "not a valid tcp socket"),
        (unix.into(), "1", "not a valid tcp socket"),
        (connected.into(), "1", "does not listen"),
        (share(&open), "1", "--open"),
    ];
    for (given, fds, words) in cases {
        let output = with_given(&folder, fds, &[]).stdin(Stdio::from(given)).output().expect("a shell");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("racerd: ") && text.contains(words), "{words}: {text}");
    }
    // The last case again, with the option that its message names.
    let command = with_given(&folder, "1", &["--open"]);
    let server = Server::start_given(folder, command, share(&open));
    assert_eq!(server.address.port(), open.local_addr().expect("an address").port());
}

/// Tests with systemd's own try-out tool, which waits for the first connection and keeps it.
#[test]
fn systemd_activates_it() {
    let folder = TempDir::new();
    let port = listener().1.port();
    let mut command = Command::new("systemd-socket-activate");
    command.arg("-l").arg(format!("127.0.0.1:{port}")).args(["-E", "RACERD_LOG_LEVEL=info"]);
    command.arg(Server::path()).args(["serve", "--data"]).arg(folder.path().join("racerd.db"));
    let mut activator = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(activator) = activator.as_mut() else { panic!("systemd-socket-activate is missing: run tests/run") };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut first = None;
    eventually("it listens", || {
        first = TcpStream::connect(address).ok();
        first.is_some()
    });
    let stream = first.expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    let mut raw = Raw { stream, buffer: Vec::new() };
    raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(raw.answer().status, 200, "the first connection is not lost");
    // The tool has become the server, in the same process.
    let pid = rustix::process::Pid::from_child(activator);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the server is there");
    assert_eq!(activator.wait().expect("a child").code(), Some(0));
}

// Notifications to the supervisor.

fn heard(socket: &UnixDatagram) -> String {
    datagram(socket).expect("a datagram in time")
}

/// Returns the next datagram; `None` if none arrives within the socket's timeout.
fn datagram(socket: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 200];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => return Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn supervised(watchdog: &[(&str, &str)]) -> (Server, UnixDatagram) {
    let folder = TempDir::new();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a socket");
    let mut command = Server::command(&folder, "127.0.0.1:0", &[]);
    command.env("NOTIFY_SOCKET", &path).envs(watchdog.iter().copied());
    let server = Server::start_as(folder, command);
    assert_eq!(heard(&socket), "READY=1");
    (server, socket)
}

#[test]
fn readiness_and_the_stop_are_told() {
    // The watchdog of another process is not fed.
    let (mut server, socket) = supervised(&[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(server.get("/readyz").status, 200);
    let mut client = server.member("r", "ann");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(heard(&socket), "STOPPING=1");
    client.next_of("bye");
    drop(client);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// An idle loop turns often enough to feed the watchdog; a stopped one sends nothing.
#[test]
fn the_watchdog_hears_the_loop() {
    let (server, socket) = supervised(&[("WATCHDOG_USEC", "200000")]);
    for _ in 0..5 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    server.signal(rustix::process::Signal::STOP);
    let silence = || {
        socket.set_read_timeout(Some(Duration::from_millis(600))).expect("a socket");
        datagram(&socket).is_none()
    };
    // Some datagrams may still be on their way.
    assert!((0..10).any(|_| silence()));
    server.signal(rustix::process::Signal::CONT);
    socket.set_read_timeout(Some(SOON)).expect("a socket");
    assert_eq!(heard(&socket), "WATCHDOG=1");
}

#[test]
fn a_supervisor_that_cannot_be_reached_is_no_obstacle() {
    for (address, warned) in [("/nowhere/at/all", false), ("relative", true), ("", false)] {
        let folder = TempDir::new();
        let mut command = Server::command(&folder, "127.0.0.1:0", &[]);
        command.env("NOTIFY_SOCKET", address);
        let server = Server::start_as(folder, command);
        let mut client = server.member("r", "ann");
        client.say(1, json!("served"));
        assert_eq!(server.log().contains("NOTIFY_SOCKET"), warned, "{}", server.log());
    }
}
