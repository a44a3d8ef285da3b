//! racerd behind the real nginx, Caddy and HAProxy, with the unchanged files of packaging/: only addresses, ports and
//! the one timeout that is too long for a test are replaced.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::*;

const NGINX: &str = include_str!("../../packaging/nginx.conf");
const CADDY: &str = include_str!("../../packaging/Caddyfile");
const HAPROXY: &str = include_str!("../../packaging/haproxy.cfg");

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Nginx,
    Caddy,
    Haproxy,
}

const ALL: [Kind; 3] = [Kind::Nginx, Kind::Caddy, Kind::Haproxy];

/// A running proxy in front of a racerd.
struct Proxy {
    kind: Kind,
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    fn start(kind: Kind, racerd: SocketAddr) -> Proxy {
        Proxy::start_with(kind, racerd, &[])
    }

    /// Starts one with these words of its file replaced.
    fn start_with(kind: Kind, racerd: SocketAddr, replaced: &[(&str, &str)]) -> Proxy {
        let mut folder = TempDir::new();
        // No proxy can listen on port 0. If another program takes the free port first, the next one is tried.
        for _ in 0..3 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
            let spawned = kind.command(&folder, free, racerd, replaced).spawn();
            let child = spawned.unwrap_or_else(|error| panic!("{kind:?}: {error}; tests/run installs it"));
            let mut proxy = Proxy { kind, child, address: free, folder };
            let mut ended = false;
            eventually("a proxy that listens, or ends", || {
                ended = proxy.child.try_wait().expect("a child").is_some();
                ended || TcpStream::connect(free).is_ok()
            });
            if !ended {
                return proxy;
            }
            folder = std::mem::replace(&mut proxy.folder, TempDir::new());
        }
        panic!("{kind:?} does not start\n{}", log(&folder));
    }

    fn host(&self) -> String {
        format!("chat.example:{}", self.address.port())
    }

    /// Returns a request with the Host that a client of the proxy sends.
    fn for_host(&self, request: &str) -> String {
        request.replacen("Host: localhost", &format!("Host: {}", self.host()), 1)
    }

    fn request(&self, request: &str) -> Answer {
        let mut raw = Raw::connect(self.address);
        raw.send(self.for_host(request));
        raw.answer()
    }

    fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.request(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Sends a handshake. Returns the connection and the status.
    fn handshake(&self, path: &str, headers: &str) -> (Raw, u16) {
        self.handshake_on(Raw::connect(self.address), path, headers)
    }

    fn handshake_on(&self, mut raw: Raw, path: &str, headers: &str) -> (Raw, u16) {
        raw.send(self.for_host(&handshake(path, headers)));
        let status = raw.answer_head().status;
        (raw, status)
    }

    /// Opens a WebSocket that has joined.
    fn member(&self, path: &str) -> Raw {
        let (mut raw, status) = self.handshake(path, "");
        assert_eq!(status, 101, "{:?} {path}", self.kind);
        raw.next_of("joined");
        raw
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of {:?}\n{}", self.kind, log(&self.folder));
        }
    }
}

impl Kind {
    /// Returns the command for the proxy in the foreground, as one process, with all its files in the folder.
    fn command(self, folder: &TempDir, own: SocketAddr, racerd: SocketAddr, replaced: &[(&str, &str)]) -> Command {
        let (path, log) = (folder.path(), folder.path().join("log"));
        let put = |text: String, (from, to): (&str, &str)| {
            assert!(text.contains(from), "{self:?}: no {from:?} in the file");
            text.replace(from, to)
        };
        let racerd = racerd.to_string();
        let mut command;
        match self {
            Kind::Nginx => {
                let listen = format!("listen {own};");
                let file = [("127.0.0.1:7077", &*racerd), ("listen 80;", &listen)].into_iter().fold(NGINX.into(), put);
                let file = replaced.iter().copied().fold(file, put);
                // A single process cannot leave another one behind, whatever happens to the test.
                let mut whole =
                    String::from("daemon off;\nmaster_process off;\npid pid;\nevents {}\nhttp {\naccess_log off;\n");
                for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                    whole.push_str(&format!("{name}_temp_path {};\n", path.join(name).display()));
                }
                std::fs::write(path.join("nginx.conf"), format!("{whole}{file}}}\n")).expect("a file");
                command = Command::new("nginx");
                command.arg("-p").arg(path).arg("-c").arg(path.join("nginx.conf")).arg("-e").arg(&log);
                // Debian's path, which is not in every user's PATH.
                command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
            }
            Kind::Caddy => {
                let site = format!("http://chat.example:{} {{", own.port());
                let file =
                    [("127.0.0.1:7077", &*racerd), ("chat.example {", &site)].into_iter().fold(CADDY.into(), put);
                let file = replaced.iter().copied().fold(file, put);
                let global = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n";
                std::fs::write(path.join("Caddyfile"), format!("{global}{file}")).expect("a file");
                command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path.join("Caddyfile"));
                command.env("HOME", path).env("XDG_DATA_HOME", path).env("XDG_CONFIG_HOME", path);
            }
            Kind::Haproxy => {
                let bind = format!("bind {own}");
                let file = [("127.0.0.1:7077", &*racerd), ("bind :80", &bind)].into_iter().fold(HAPROXY.into(), put);
                let file = replaced.iter().copied().fold(file, put);
                std::fs::write(path.join("haproxy.cfg"), file).expect("a file");
                command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(path.join("haproxy.cfg"));
                command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
            }
        }
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }
}

fn log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

/// Starts racerd with the options that the files require.
fn racerd(arguments: &[&str]) -> Server {
    Server::start(&[&["--host", "chat.example", "--trusted-proxy", "127.0.0.1"], arguments].concat())
}

fn say(raw: &mut Raw, id: u64, body: &str) {
    raw.send(text(&json!({"type": "send", "id": id, "body": body}).to_string()));
    assert_eq!(raw.next_of("ack")["id"], id);
}

/// Connects from another address of this machine.
fn connect_from(local: Ipv4Addr, address: SocketAddr) -> Raw {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((local, 0)).into()).expect("an address of 127.0.0.0/8");
    socket.connect(&address.into()).expect("the proxy listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    Raw { stream, buffer: Vec::new() }
}

#[test]
fn people_talk_through_it() {
    let server = racerd(&[]);
    for (kind, prefix) in ALL.into_iter().flat_map(|kind| [(kind, ""), (kind, "/chat")]) {
        let room = format!("r-{kind:?}-{}", prefix.len());
        let proxy = Proxy::start(kind, server.address);
        let mut ann = proxy.member(&format!("{prefix}/rooms/{room}/ws?name=ann"));
        // The same room, also when its name is spelled differently.
        let mut bob = proxy.member(&format!("{prefix}/rooms/%72-{kind:?}-{}/ws?name=bob&last=5", prefix.len()));
        say(&mut ann, 1, "through the proxy");
        let heard = bob.next_of("message");
        assert_eq!((&heard["body"], &heard["from"]["name"]), (&json!("through the proxy"), &json!("ann")));
        // A message of nearly the maximum size in both directions, and one by HTTP.
        let long = "x".repeat(30_000);
        say(&mut bob, 2, &long);
        assert_eq!(ann.next_of("message")["body"], "through the proxy");
        assert_eq!(ann.next_of("message")["body"], *long);
        let answer = proxy.post(&format!("{prefix}/rooms/{room}/messages?name=carl"), "\"posted\"");
        assert_eq!((answer.status, &answer.json()["seq"]), (201, &json!(3)), "{kind:?}");
        assert_eq!(ann.next_of("message")["body"], "posted");
        let page = proxy.get(&format!("{prefix}/rooms/{room}/messages?limit=2"));
        assert_eq!(page.status, 200);
        // Caddy may send a body of unknown length in chunks; the message is in it either way.
        assert!(page.body.contains("\"posted\""), "{page:?}");
        for path in ["/", "/healthz", "/readyz"] {
            assert_eq!(proxy.get(&format!("{prefix}{path}")).status, 200, "{kind:?} {prefix}{path}");
        }
        // The redirect is relative, so it stays under the prefix.
        let moved = proxy.get(&format!("{prefix}/rooms/{room}/?name=a%20b"));
        let location = format!("../{room}?name=a%20b");
        assert_eq!((moved.status, moved.header("location")), (308, Some(location.as_str())), "{kind:?} {moved:?}");
        // A close handshake started by the client.
        ann.send(close(1000, b""));
        assert_eq!(ann.closed_with(), 1000, "{kind:?}");
    }
    // The page's relative links need the trailing slash.
    for kind in ALL {
        let answer = Proxy::start(kind, server.address).get("/chat");
        assert!(matches!(answer.status, 301 | 302), "{answer:?}");
        assert!(answer.header("location").is_some_and(|to| to.ends_with("/chat/")), "{answer:?}");
    }
}

#[test]
fn the_clients_address_is_in_the_log() {
    for kind in ALL {
        let server = racerd(&[]);
        let proxy = Proxy::start(kind, server.address);
        let client = || connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.address);
        // An address that the client writes itself is ignored.
        let (socket, status) = proxy.handshake_on(client(), "/ws", "X-Forwarded-For: 6.6.6.6\r\n");
        assert_eq!(status, 101);
        drop(socket);
        let mut raw = client();
        raw.send(proxy.for_host("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"));
        assert_eq!(raw.answer().status, 404);
        for words in ["connection closed", "refused"] {
            eventually("a line with the client", || {
                server.log().lines().any(|line| line.contains(words) && line.contains(" client=127.0.0.2 "))
            });
        }
        assert!(!server.log().contains("6.6.6.6"), "{kind:?}\n{}", server.log());
    }
}

/// The test acts as another trusted proxy in front of this one, so that not all clients are loopback.
#[test]
fn the_clients_address_is_what_limits_count() {
    let server = racerd(&["--max-connections-per-address", "2"]);
    let chain = "reverse_proxy 127.0.0.1:7077 {\n\t\t\ttrusted_proxies 127.0.0.1\n\t\t}";
    for kind in ALL {
        let chain = chain.replace("127.0.0.1:7077", &server.address.to_string());
        let direct = format!("reverse_proxy {}", server.address);
        let replaced: &[(&str, &str)] = if kind == Kind::Caddy { &[(&direct, &chain)] } else { &[] };
        let proxy = Proxy::start_with(kind, server.address, replaced);
        let from = |client: &str| proxy.handshake("/ws", &format!("X-Forwarded-For: {client}\r\n"));
        let sockets = ["203.0.113.7", "203.0.113.7", "203.0.113.8", "2001:db8::1", "2001:db8::2"].map(from);
        assert_eq!(sockets.each_ref().map(|(_, status)| *status), [101; 5], "{kind:?}");
        for (client, status) in [("203.0.113.7", 429), ("2001:db8::3", 429), ("203.0.113.8", 101)] {
            assert_eq!(from(client).1, status, "{kind:?} {client}");
        }
        let mut raw = Raw::connect(proxy.address);
        raw.send(proxy.for_host(&handshake("/ws", "X-Forwarded-For: 203.0.113.7\r\n")));
        let answer = raw.answer();
        assert_eq!(answer.header("retry-after"), Some("1"), "{kind:?} {answer:?}");
        drop(sockets);
        eventually("room again", || from("203.0.113.7").1 == 101);
        eventually("nobody's sockets", || server.log().matches("kind=websocket").count() >= 7);
        // The next proxy's clients have the same addresses, so these must be gone.
        eventually("an empty house", || from("203.0.113.7").1 == 101);
    }
}

/// All clients share the proxy's few connections, and each has its own request rate.
#[test]
fn each_client_has_its_rate_of_requests() {
    let server = racerd(&["--request-rate", "1", "--request-burst", "3"]);
    let chain = "reverse_proxy 127.0.0.1:7077 {\n\t\t\ttrusted_proxies 127.0.0.1\n\t\t}";
    for kind in ALL {
        let chain = chain.replace("127.0.0.1:7077", &server.address.to_string());
        let direct = format!("reverse_proxy {}", server.address);
        let replaced: &[(&str, &str)] = if kind == Kind::Caddy { &[(&direct, &chain)] } else { &[] };
        let proxy = Proxy::start_with(kind, server.address, replaced);
        for client in [format!("203.0.113.{}", kind as u8), format!("2001:db8:0:{}::1", kind as u8)] {
            let ask = |_| {
                proxy.request(&format!(
                    "GET /rooms/r/members HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
                ))
            };
            let answers: Vec<Answer> = (0..12).map(ask).collect();
            assert!(answers[..3].iter().all(|answer| answer.status == 200), "{kind:?} {answers:?}");
            let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
            assert!(refused.len() >= 5, "{kind:?} {client}: {answers:?}");
            assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()), "{kind:?}");
        }
    }
}

#[test]
fn a_page_of_the_proxys_host_may_connect_and_no_other() {
    let server = racerd(&[]);
    for kind in ALL {
        let proxy = Proxy::start(kind, server.address);
        let status = |host: &str, origin: &str| {
            let mut raw = Raw::connect(proxy.address);
            raw.send(handshake("/rooms/r1/ws", &format!("Origin: {origin}\r\n")).replacen("localhost", host, 1));
            raw.answer_head().status
        };
        let host = proxy.host();
        assert_eq!(status(&host, &format!("http://{host}")), 101, "{kind:?}");
        // TLS ends at a proxy on 443.
        assert_eq!(status("chat.example", "https://chat.example"), 101, "{kind:?}");
        for foreign in ["https://evil.example", "http://chat.example:1", "null", "https://chat.example.evil"] {
            assert_eq!(status(&host, foreign), 403, "{kind:?} {foreign}");
        }
    }
    // Host is passed on, and racerd names the option that it needs.
    let server = Server::start(&[]);
    for kind in ALL {
        let proxy = Proxy::start(kind, server.address);
        let answer = proxy.get("/rooms/r1/messages");
        assert_eq!(answer.status, 421, "{kind:?}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("at a proxy") && detail.contains("--host chat.example"), "{detail}");
    }
}

/// Starts the proxies, with a timeout of 30 s without traffic.
fn impatient(racerd: SocketAddr) -> [Proxy; 3] {
    let direct = format!("reverse_proxy {racerd}");
    let times = format!("{direct} {{\n\ttransport http {{\n\t\tread_timeout 30s\n\t}}\n}}");
    [
        Proxy::start_with(Kind::Nginx, racerd, &[("proxy_read_timeout 60s", "proxy_read_timeout 30s")]),
        Proxy::start_with(Kind::Caddy, racerd, &[(&direct, &times)]),
        Proxy::start_with(Kind::Haproxy, racerd, &[("timeout tunnel 60s", "timeout tunnel 30s")]),
    ]
}

/// Uses the default ping-period of 25 s. A racerd with a longer one shows that the proxies do enforce their timeout.
#[test]
fn an_idle_socket_outlives_the_proxys_timeout() {
    let server = racerd(&[]);
    let late = racerd(&["--ping-period", "50s"]);
    let [nginx, caddy, haproxy] = impatient(server.address);
    let mut sockets =
        [nginx.member("/rooms/r1/ws"), caddy.member("/chat/rooms/r1/ws"), haproxy.member("/rooms/r1/ws?presence=off")];
    let late_proxies = impatient(late.address);
    let mut forgotten = late_proxies.each_ref().map(|proxy| proxy.member("/rooms/r1/ws?presence=off"));
    let begun = Instant::now();
    for socket in &mut forgotten {
        socket.stream.set_read_timeout(Some(Duration::from_secs(50))).expect("a socket");
        assert!(socket.ended());
    }
    assert!(begun.elapsed() > Duration::from_secs(25), "the proxies' timeout is not what was asked for");
    // Each socket was pinged once meanwhile, and answers as a browser does.
    for socket in &mut sockets {
        let ping = std::iter::from_fn(|| socket.frame()).find(|frame| frame.first & 0x0f != 1);
        assert_eq!(ping, Some(Frame { first: 0x89, payload: Vec::new() }));
        socket.send(frame(0x8a, b""));
    }
    let [ann, bob, carl] = &mut sockets;
    say(ann, 1, "still here");
    assert_eq!(bob.next_of("message")["body"], "still here");
    assert_eq!(carl.next_of("message")["body"], "still here");
    say(bob, 2, "me, too");
}

#[test]
fn refusals_arrive_as_they_are() {
    let server = racerd(&["--max-head-size", "2KiB"]);
    for kind in ALL {
        let proxy = Proxy::start(kind, server.address);
        let long_body = format!("\"{}\"", "x".repeat(40_000));
        let long_head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(4000));
        for (answer, status, words) in [
            (proxy.post("/rooms/r1/messages", &long_body), 413, "body"),
            (proxy.request(&long_head), 431, "head"),
            (proxy.get("/nowhere"), 404, "nothing is here"),
            (proxy.get("/chat/rooms/a%20b/messages"), 404, "a room id is"),
            (proxy.post("/rooms/r1/messages", "{"), 400, "not one JSON value"),
            (proxy.get("/rooms/r1/ws"), 426, "WebSocket"),
            (proxy.request("DELETE /rooms/r1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405, "allows"),
        ] {
            assert_eq!(answer.status, status, "{kind:?} {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{kind:?} {answer:?}");
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains(words), "{kind:?} {status}: {detail}");
        }
        // No proxy opens a tunnel for a refused upgrade; in a tunnel, this header would come unchecked from the
        // client.
        let mut raw = connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.address);
        let behind =
            "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
        let upgrade = proxy.for_host(&handshake("/rooms/r1/ws", "Origin: https://evil.example\r\n"));
        raw.send(upgrade + &proxy.for_host(behind));
        assert_eq!(raw.answer().status, 403);
        while raw.fill() {}
    }
    let log = server.log();
    assert!(log.contains("client=127.0.0.2 status=403") && !log.contains("6.6.6.6"), "{log}");
}

/// The proxies answer 502 or 503 while racerd is down and recover with it; a graceful stop is visible through them.
#[test]
fn racerd_goes_and_comes_back() {
    let mut server = racerd(&[]);
    let proxies = ALL.map(|kind| Proxy::start(kind, server.address));
    let mut sockets = proxies.each_ref().map(|proxy| proxy.member("/rooms/r1/ws"));
    for (socket, proxy) in sockets.iter_mut().zip(&proxies) {
        say(socket, 1, "before");
        assert_eq!(proxy.get("/readyz").status, 200);
    }
    assert!(server.stop().success());
    for (mut socket, proxy) in sockets.into_iter().zip(&proxies) {
        assert_eq!(socket.next_of("bye")["reason"], "shutdown");
        assert_eq!(socket.closed_with(), 1001, "{:?}", proxy.kind);
        let refused = if proxy.kind == Kind::Haproxy { 503 } else { 502 };
        assert_eq!(proxy.get("/readyz").status, refused);
        assert_eq!(proxy.handshake("/rooms/r1/ws", "").1, refused);
    }
    server.restart();
    for proxy in &proxies {
        eventually("racerd through the proxy", || proxy.get("/readyz").status == 200);
        let page = proxy.get("/rooms/r1/messages");
        assert!(page.body.contains("before"), "{page:?}");
        say(&mut proxy.member("/rooms/r1/ws"), 2, "after");
    }
    // After a kill, the only sign is the end of the connection.
    let mut sockets = proxies.each_ref().map(|proxy| proxy.member("/rooms/r2/ws?presence=off"));
    server.kill();
    assert!(sockets.iter_mut().all(Raw::ended));
}
