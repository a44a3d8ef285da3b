//! TLS on the real binary: third-party clients, malformed input, how streams end. The clients here are rustls's own,
//! by hand, and openssl, curl and Python's websockets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;

use crate::support::*;

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Writes a certificate for localhost and these names, and its key: NAME.pem and NAME.key.
pub fn made(folder: &Path, name: &str, names: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) {
    let names: Vec<String> = names.iter().chain(&["localhost", "127.0.0.1"]).map(|name| name.to_string()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new(names).unwrap();
    change(&mut wanted);
    let certificate = wanted.self_signed(&key).unwrap();
    // Each file is replaced atomically: a server may read it at any moment.
    for (end, label, der) in
        [("pem", "CERTIFICATE", certificate.der().as_ref()), ("key", "PRIVATE KEY", key.serialized_der())]
    {
        let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der));
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::set_permissions(folder.join("new"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(folder.join("new"), folder.join(format!("{name}.{end}"))).unwrap();
    }
}

/// A server with one certificate for localhost, in its folder as a.pem and a.key.
pub struct Secure {
    pub server: Server,
}

impl Secure {
    pub fn start(arguments: &[&str]) -> Secure {
        let folder = TempDir::new();
        made(folder.path(), "a", &[], |_| {});
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (certificate, key) = (file("a.pem"), file("a.key"));
        let own = ["--tls-cert", &certificate, "--tls-key", &key];
        Secure { server: Server::start_in(folder, "127.0.0.1:0", &[&own, arguments].concat()) }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.server.folder.path().join(name)
    }

    /// Returns a client configuration that trusts only this certificate.
    pub fn config(&self, name: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file(name)).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    pub fn open(&self) -> Stream {
        self.open_with(self.config("a.pem"))
    }

    pub fn open_with(&self, config: Arc<ClientConfig>) -> Stream {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(config, name).unwrap(), self.server.raw().stream)
    }

    pub fn member(&self, room: &str, name: &str) -> Member {
        let mut member = Member::over(self.open(), &format!("/rooms/{room}/ws?name={name}"));
        member.next_of("joined");
        member
    }

    /// Sends one request over a new connection. Returns everything until close_notify.
    pub fn request(&self, text: &str) -> String {
        let mut stream = self.open();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an end with close_notify");
        String::from_utf8(answer).unwrap()
    }

    pub fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn head_of(&self, room: &str) -> Value {
        let answer = self.get(&format!("/rooms/{room}/messages"));
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["head"].clone()
    }
}

/// A WebSocket over TLS, with tungstenite.
pub struct Member {
    pub socket: WebSocket<Stream>,
}

impl Member {
    pub fn over(stream: Stream, path: &str) -> Member {
        Member { socket: tungstenite::client(format!("ws://localhost{path}"), stream).expect("a handshake").0 }
    }

    pub fn send(&mut self, value: Value) {
        self.socket.send(tungstenite::Message::text(value.to_string())).expect("the server takes bytes");
    }

    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            if let tungstenite::Message::Text(text) = self.socket.read().expect("the server goes on") {
                let value: Value = serde_json::from_str(&text).unwrap();
                if value["type"] == kind {
                    return value;
                }
                assert_ne!(value["type"], "error", "{value}");
            }
        }
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{:?}: {error}; tests/run installs it", command.get_program()))
}

fn s_client(secure: &Secure, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &secure.server.address.to_string(), "-servername", "localhost"]);
    command.arg("-CAfile").arg(secure.file("a.pem")).args(arguments);
    let output = run(&mut command);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn openssl_speaks_1_2_and_1_3_and_nothing_older() {
    let secure = Secure::start(&[]);
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(&secure, &[version, "-alpn", "h2,http/1.1"]);
        for words in [&format!("New, {name}"), "Verify return code: 0 (ok)", "ALPN protocol: http/1.1"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    for version in ["-tls1", "-tls1_1"] {
        // Without this, openssl itself does not offer them any more.
        let said = s_client(&secure, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        let alert = said.contains("alert protocol version") || said.contains("alert handshake failure");
        assert!(alert && said.contains("Cipher is (NONE)"), "{said}");
    }
    // Broken ciphers.
    for cipher in ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "NULL-SHA256"] {
        let said = s_client(&secure, &["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
        assert!(said.contains("Cipher is (NONE)"), "{cipher}: {said}");
    }
    assert!(s_client(&secure, &["-tls1_2", "-reconnect"]).contains("Reused, TLSv1.2"), "resumption");
    eventually("a line", || secure.server.log().contains("TLS ended the connection"));
}

#[test]
fn curl_and_python_talk_over_it() {
    let secure = Secure::start(&[]);
    let port = secure.server.address.port();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "10", "--cacert"]).arg(secure.file("a.pem")).args(arguments);
        let output = run(&mut command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (page, room) = (format!("https://localhost:{port}/"), format!("https://localhost:{port}/rooms/r/messages"));
    assert!(curl(&[&page]).trim_end().ends_with("</html>"), "the page");
    let post = |origin: &str| {
        let json = "Content-Type: application/json";
        curl(&["-H", json, "-H", &format!("Origin: {origin}"), "-d", "1", "-w", "%{http_code}", &room])
    };
    // The origin must match Host, whose port is the server's.
    assert!(post(&format!("https://localhost:{port}")).ends_with("201"));
    assert!(post("https://localhost").ends_with("403") && post("https://elsewhere.example").ends_with("403"));
    let longer = "x".repeat(20_000);
    assert!(curl(&["-H", "Content-Type: application/json", "-d", &json!(longer).to_string(), &room]).contains("seq"));
    assert!(curl(&[&room]).contains(&longer));

    let python = std::env::var("RACERD_PYTHON").expect("RACERD_PYTHON; tests/run sets it");
    let talk = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/talk.py"));
        command.args([&format!("wss://localhost:{port}"), "foreign", name, "2"]);
        command.env("SSL_CERT_FILE", secure.file("a.pem"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python")
    };
    let heard = ["py1", "py2"].map(talk).map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert_eq!(heard[0].as_array().unwrap().len(), 6);
    assert_eq!(heard[0], heard[1]);
}

#[test]
fn the_other_protocol_on_a_port_is_told_so() {
    let secure = Secure::start(&["--plain-listen", "127.0.0.1:0"]);
    let answer = secure.server.get("/healthz");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("use https:// or wss://"), "{}", answer.body);
    eventually("a line", || secure.server.log().contains("use https:// or wss://"));
    // A peer that sends much more still gets its answer.
    let long = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n{}", "x".repeat(3_000_000));
    assert_eq!(secure.server.request(long).status, 400);
    assert!(secure.get("/healthz").starts_with("HTTP/1.1 200 "));

    let plain = Server::start(&[]);
    let mut raw = plain.raw();
    raw.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03");
    assert_eq!(raw.answer().status, 400);
    eventually("a line", || plain.log().contains("begins like TLS"));
}

#[test]
fn plain_listeners_stay_plain() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let secure = Secure::start(&["--plain-listen", &port.to_string()]);
    let mut raw = Raw::connect(port);
    raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    assert!(secure.get("/healthz").starts_with("HTTP/1.1 200 "));
}

/// Another client is served all the while.
#[test]
fn crafted_input_stops_nobody() {
    let secure = Secure::start(&["--header-timeout", "5s", "--request-rate", "0"]);
    let mut other = secure.member("r", "other");
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(secure.config("a.pem"), name).unwrap().write_tls(&mut hello).unwrap();
    let fragments: Vec<u8> = hello[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let inputs: Vec<Vec<u8>> = vec![
        [hello.clone(), b"\x15\x03\x03\x00\x02\x01\x00".to_vec()].concat(),
        fragments,
        [b"\x16\x03\x01\x40\x01".to_vec(), vec![0; 16385]].concat(),
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff".to_vec(),
        b"\x80\x2e\x01".to_vec(),
        hello.clone(),
        hello[..100].to_vec(),
        b"\x00".to_vec(),
        Vec::new(),
    ];
    let mut opened = Vec::new();
    for (id, bytes) in inputs.into_iter().enumerate() {
        let mut raw = secure.server.raw();
        raw.try_send(&bytes);
        opened.push((raw, bytes));
        other.send(json!({"type": "send", "id": id, "body": id}));
        assert_eq!(other.next_of("ack")["id"], id);
    }
    // Each connection ends by itself: with an error, or by header_timeout.
    for (mut raw, bytes) in opened {
        loop {
            match raw.stream.read(&mut [0; 4096]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{:?} is not ended: {error}", &bytes.get(..9)),
            }
        }
    }
    // After the handshake, empty records in TLS 1.2's form, where records are not disguised by encryption.
    let mut stream = secure.open();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    stream.sock.write_all(&[0x17, 3, 3, 0, 0].repeat(1000)).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_err(), "an alert or a reset");
    other.send(json!({"type": "ping", "id": 99}));
    assert_eq!(other.next_of("pong")["id"], 99);
    assert_eq!(secure.server.log().matches("panicked").count(), 0);
}

/// Many clients stop in the middle of a handshake: others are served meanwhile, and nothing is left of them
/// afterwards.
#[test]
fn a_crowd_of_half_handshakes_is_ended_by_the_header_timeout() {
    let secure = Secure::start(&["--header-timeout", "2s"]);
    let mut other = secure.member("r", "other");
    let before = secure.server.descriptors();
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(secure.config("a.pem"), name).unwrap().write_tls(&mut hello).unwrap();
    let mut crowd: Vec<Raw> = (0..200).map(|_| secure.server.raw()).collect();
    for raw in &mut crowd {
        raw.send(&hello);
    }
    other.send(json!({"type": "send", "id": 1, "body": "x"}));
    assert_eq!(other.next_of("ack")["id"], 1);
    for raw in &mut crowd {
        // The server's flight, and then the end of the stream.
        while raw.fill() {}
        assert!(raw.buffer.len() > 500);
    }
    assert!(secure.get("/healthz").starts_with("HTTP/1.1 200 "));
    eventually("all of them gone", || secure.server.descriptors() == before);
}

/// Checks that FIN, not a reset, follows close_notify.
fn ends_well(mut stream: Stream) {
    assert_eq!(stream.read(&mut [0; 16]).expect("close_notify"), 0);
    assert_eq!(stream.sock.read(&mut [0; 16]).expect("FIN, and no reset"), 0);
}

#[test]
fn an_end_is_said_and_a_cut_is_none() {
    let secure = Secure::start(&[]);
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for says_end_first in [false, true] {
        let mut stream = secure.open();
        stream.write_all(get.as_bytes()).unwrap();
        if says_end_first {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("close_notify behind the whole body");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.trim_end().ends_with("</html>"), "{answer}");
        assert_eq!(stream.sock.read(&mut [0; 16]).expect("FIN, and no reset"), 0);
    }
    // A truncated message is not stored, and is reported in the log.
    for end in ["", "\"unfini"] {
        let mut stream = secure.open();
        let length = if end.is_empty() { "" } else { "Content-Length: 20\r\n" };
        let head = "POST /rooms/cut/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        stream.write_all(format!("{head}{length}\r\n{end}").as_bytes()).unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(secure.head_of("cut"), 0);
    eventually("a line", || secure.server.log().contains("it ended without close_notify"));

    // A WebSocket ends with close frame, close_notify and FIN.
    let mut stream = secure.open();
    stream.write_all(handshake("/rooms/r/ws?name=ann", "").as_bytes()).unwrap();
    stream.write_all(&close(1000, b"")).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("close_notify");
    assert!(said.ends_with(&[0x88, 2, 3, 0xe8]), "{said:?}");
    ends_well(stream);
}

/// A server's own stop ends connections as cleanly as a client's close.
#[test]
fn a_stop_says_bye_and_the_end() {
    let mut secure = Secure::start(&[]);
    let mut member = secure.member("r", "ann");
    secure.server.signal(rustix::process::Signal::TERM);
    member.next_of("bye");
    assert!(matches!(member.socket.read(), Ok(tungstenite::Message::Close(_))));
    let _ = member.socket.flush();
    ends_well(std::mem::replace(member.socket.get_mut(), secure.open_nowhere()));
    assert_eq!(secure.server.wait(Duration::from_secs(20)).code(), Some(0));
}

impl Secure {
    /// Opens a stream without a peer, as a placeholder for one that is taken out.
    fn open_nowhere(&self) -> Stream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(self.config("a.pem"), name).unwrap();
        StreamOwned::new(connection, TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }
}

/// Decrypted data never waits for an edge that does not come: a burst of records, more than one turn reads and more
/// than may be in flight at once.
#[test]
fn a_burst_is_answered_whole() {
    let secure = Secure::start(&["--request-rate", "0", "--in-flight", "2", "--read-budget", "4k"]);
    let mut stream = secure.open();
    let mut burst = handshake("/rooms/r/ws?name=ann", "").into_bytes();
    for id in 1..=300 {
        burst.extend(text(&format!(r#"{{"type":"send","id":{id},"body":"{}"}}"#, "x".repeat(500))));
    }
    stream.write_all(&burst).unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(r#""id":300,"#) {
        let mut chunk = [0; 65_536];
        let length = stream.read(&mut chunk).expect("all are answered");
        heard.extend_from_slice(&chunk[..length]);
    }
    assert_eq!(secure.head_of("r"), 300);
}

/// A slow reader gets everything in order, and the server does not pile up ciphertext for it.
#[test]
fn a_slow_reader_hears_all_in_order() {
    // It takes no byte for as long as the other one's messages need, on a busy machine, too.
    let arguments = ["--request-rate", "0", "--durability", "normal", "--write-wait", "10m", "--pong-wait", "10m"];
    let secure = Secure::start(&arguments);
    let mut slow = secure.member("r", "slow");
    let mut fast = secure.member("r", "fast");
    let body = "x".repeat(8000);
    for id in 1..=600 {
        fast.send(json!({"type": "send", "id": id, "body": body}));
        assert_eq!(fast.next_of("ack")["id"], id);
    }
    for seq in 1..=600 {
        assert_eq!(slow.next_of("message")["seq"], seq);
    }
}

/// Idle connections keep no buffers.
#[test]
fn idle_connections_are_small() {
    let secure = Secure::start(&["--handshake-rate-per-address", "0", "--handshake-rate", "0"]);
    let config = secure.config("a.pem");
    let join = |number: usize| {
        let stream = secure.open_with(Arc::clone(&config));
        let mut member = Member::over(stream, &format!("/rooms/r{}/ws?name=n&presence=off", number / 50));
        member.next_of("joined");
        member
    };
    let _warm: Vec<Member> = (0..50).map(join).collect();
    let before = secure.server.rss();
    let _idle: Vec<Member> = (50..450).map(join).collect();
    let each = (secure.server.rss() - before) / 400;
    assert!(each < 10 << 10, "{each} bytes for an idle connection");
}

/// A session that began over TLS is private: its token is useless on a connection that others could read. TLS also
/// counts as a sealed socket where open ones are refused.
#[test]
fn what_began_over_tls_does_not_go_on_in_the_open() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let secure = Secure::start(&["--plain-listen", &port.to_string()]);
    let mut member = Member::over(secure.open(), "/rooms/r/ws?name=ann");
    let token = member.next_of("welcome")["session"].clone();
    member.next_of("joined");
    let resume = json!({"type": "resume", "id": 1, "session": token, "cursors": {}});
    let mut open = Client::connect(port, "/ws");
    open.send(resume.clone());
    assert_eq!(open.next_of("error")["code"], "not_resumable");
    let mut again = Member::over(secure.open(), "/ws");
    again.next_of("welcome");
    again.send(resume);
    assert_eq!(again.next_of("welcome")["id"], 1);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let strict = Secure::start(&["--plain-listen", &port.to_string(), "--require-sealed"]);
    strict.member("r", "ann");
    let mut raw = Raw::connect(port);
    raw.send(handshake("/rooms/r/ws?name=bob", ""));
    assert_eq!(raw.answer().status, 403);
}

/// By its settings, `health` accepts its own server's certificate for any name; by URL, only a trusted one.
#[test]
fn health_asks_over_tls() {
    let secure = Secure::start(&[]);
    let address = secure.server.address.to_string();
    let file = |name: &str| secure.server.folder.path().join(name).to_str().unwrap().to_string();
    let (certificate, key) = (file("a.pem"), file("a.key"));
    let code = |arguments: &[&str]| {
        let output = Server::program().arg("health").args(arguments).output().expect("the binary");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let settings = ["--listen", &address, "--tls-cert", &certificate, "--tls-key", &key];
    assert_eq!(code(&settings), (Some(0), String::new()));
    let url = format!("https://{address}");
    assert_eq!(code(&[&url, "--ca", &certificate]), (Some(0), String::new()));
    let (status, said) = code(&[&url, "--ca", &key]);
    assert!(status == Some(2) && said.contains("holds no certificate"), "{said}");
    made(secure.server.folder.path(), "other", &[], |_| {});
    let (status, said) = code(&[&url, "--ca", &file("other.pem")]);
    assert!(status == Some(4) && said.contains("certificate is not trusted"), "{said}");
    let (status, said) = code(&[&format!("http://{address}")]);
    assert!(status == Some(1) && said.contains("400 Bad Request: this port speaks TLS"), "{said}");
    // Editors and shells of Windows put a byte order mark before a text.
    let marked = [b"\xEF\xBB\xBF".to_vec(), std::fs::read(&certificate).unwrap()].concat();
    std::fs::write(file("marked.pem"), marked).unwrap();
    assert_eq!(code(&[&url, "--ca", &file("marked.pem")]), (Some(0), String::new()));
    // As openssl makes it: it calls itself an authority.
    let authority = |wanted: &mut rcgen::CertificateParams| {
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    made(secure.server.folder.path(), "a", &[], authority);
    secure.server.signal(rustix::process::Signal::HUP);
    eventually("the new certificate", || secure.server.log().contains("certificates read again"));
    let (status, said) = code(&[&url, "--ca", &file("other.pem")]);
    assert!(status == Some(4) && said.contains("its issuer is not trusted on this machine"), "{said}");
    let plain = Server::start(&[]);
    let (status, said) = code(&[&format!("https://{}", plain.address)]);
    assert!(status == Some(1) && said.contains("the peer does not speak TLS"), "{said}");
}

/// A connection beyond the limit gets its handshake and its answer; one that never starts TLS times out.
#[test]
fn a_full_server_says_so_behind_tls() {
    let secure = Secure::start(&["--max-connections", "1", "--resume-within", "0s"]);
    let member = secure.member("r", "ann");
    let refused = secure.get("/rooms/r/messages");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\"code\":\"full\""), "{refused}");
    assert!(secure.get("/healthz").starts_with("HTTP/1.1 200 "));
    let before = secure.server.descriptors();
    let silent: Vec<Raw> = (0..5).map(|_| secure.server.raw()).collect();
    eventually("they came", || secure.server.descriptors() > before);
    eventually("they went", || secure.server.descriptors() <= before);
    drop((silent, member));
    eventually("a free place", || secure.get("/rooms/r/messages").starts_with("HTTP/1.1 200 "));
}
