//! `racerd health`: asks a running server whether it is ready, for images without curl. One request, at most 3 s.

use super::command::{
    Argument, Command, Completion, Example, ExitCode, Group, Opt, OptValue, Run, Settings as TakesSettings,
};
use super::{Args, Failure};
use crate::client::{ConnectionError, Trust, connect, detail_of, host_and_port, without_zone};
use crate::config::Settings;
use crate::types::{Place, Reason, Unusable, escape};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const COMMAND: Command = Command {
    word: "health",
    group: Group::Server,
    usage: &["health [SETTINGS]", "health URL [--ca FILE]"],
    summary: "Ask a running server whether it is ready",
    about: &[
        "Asks the server that the same settings would start, or the server at URL, whether it is ready (/readyz), and \
         waits at most 3 s for the answer. For container images without curl.",
        "With settings, the certificate of a TLS listener is not verified, since it is this machine's own; with a URL, it \
         has to be trusted.",
    ],
    arguments: &[Argument {
        name: "URL",
        text: "http://HOST:PORT or https://HOST:PORT, with the path below which a proxy serves racerd.",
        completion: Completion::None,
    }],
    options: &[Opt {
        name: "ca",
        value: OptValue::File("FILE"),
        text: "Also trust the certificates in this PEM file. For a URL that begins with https:// only.",
    }],
    settings: TakesSettings::Taken,
    surplus: "it takes one URL",
    examples: &[
        Example { line: "racerd health", text: "Asks http://127.0.0.1:7077." },
        Example { line: "racerd health https://chat.example --ca ca.pem", text: "" },
    ],
    exit_codes: &[
        ExitCode { code: 0, text: "The server is ready." },
        ExitCode { code: 1, text: "The server is not ready, or did not answer." },
        ExitCode { code: 4, text: "The server's certificate is not trusted." },
    ],
    run: Run::OneShot(run),
};

/// Bounds connecting, asking and reading the answer, together.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;

/// Asks the server at the given URL, or else the one that the same settings would start.
///
/// # Errors
/// [`Failure::Usage`] where it is not clear which server to ask, or a file of certificates holds none;
/// [`Failure::Failed`] with the answer where the server is not ready; [`Failure::Mismatch`] where the certificate of a
/// URL's server is not trusted.
fn run(mut args: Args) -> Result<(), Failure> {
    let ca = args.value("ca").map(PathBuf::from);
    let target = match args.next_word() {
        Some(_) if args.has_settings() => {
            return Err(Failure::Usage("health takes either settings or a URL with --ca FILE".into()));
        }
        Some(url) => Target::of_url(&url.to_string_lossy(), ca),
        None if ca.is_some() => Err("--ca is for a URL that begins with https://".to_string()),
        None => Target::of_settings(&args.into_invocation().read()?.settings),
    };
    let target = target.map_err(|text| Failure::Usage(text.into()))?;
    let trust = target.trust()?;
    match ask(&target, trust.as_ref()) {
        Ok(answer) if is_ready(answer.line.as_bytes()) => Ok(()),
        Ok(Answer { line, detail }) => {
            let mut why = format!("not ready: {} answered {}", target.authority, escape(&line));
            if !detail.is_empty() {
                why.push_str(": ");
                why.push_str(&escape(&detail));
            }
            Err(Failure::Failed(why.into()))
        }
        Err(error @ ConnectionError::Mismatch(_)) => {
            let why = format!("{}: {}", target.authority, escape(&error.to_string()));
            Err(Failure::Mismatch(Reason::with(why, error)))
        }
        Err(error) => {
            let why = format!("no answer from {}: {}", target.authority, escape(&error.to_string()));
            Err(Failure::Failed(Reason::with(why, error)))
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    over: Over,
    /// Tried one after the other; without brackets.
    hosts: Vec<String>,
    port: u16,
    /// Host and port for the Host header.
    authority: String,
    path: String,
}

/// The transport that the health check uses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Over {
    Plain,
    /// TLS to a server whose certificate has to be signed by an authority of the system or of the file.
    Tls(Option<PathBuf>),
    /// TLS to this machine itself, whatever name its certificate is for.
    OwnTls,
}

impl Target {
    /// Reads `http://host:port` or `https://host:port`, with a path where a proxy serves racerd below one. `ca` is a
    /// file of certificates to trust.
    fn of_url(url: &str, ca: Option<PathBuf>) -> Result<Target, String> {
        let wrong = || format!("{} is not a URL of the form http://HOST:PORT or https://HOST:PORT", escape(url));
        let (over, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(_), _) if ca.is_some() => return Err("--ca is for a URL that begins with https://".to_string()),
            (Some(rest), _) => (Over::Plain, rest),
            (_, Some(rest)) => (Over::Tls(ca), rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@'));
        let default = if over == Over::Plain { 80 } else { 443 };
        let (host, port) = host_and_port(authority, default).filter(|_| fits(path)).ok_or_else(wrong)?;
        let prefix = path.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let authority = authority_of(&host, port);
        Ok(Target { over, hosts: vec![host], port, authority, path: format!("{prefix}/readyz") })
    }

    /// Returns the first listener of the server that these settings start, if possible one without TLS.
    fn of_settings(settings: &Settings) -> Result<Target, String> {
        let (listen, plain) = (settings.listening.listen.first(), settings.tls.plain_listen.first());
        let over = if settings.tls.is_on() && plain.is_none() { Over::OwnTls } else { Over::Plain };
        Target::of_listener(plain.or(listen), over)
    }

    /// Returns the place that a server listens on, as seen from the same machine.
    fn of_listener(place: Option<&Place>, over: Over) -> Result<Target, String> {
        let place = place.ok_or("there is no listener to ask")?;
        if place.port() == 0 {
            return Err(
                "--listen with port 0 does not name a port to ask; give the port that the server printed".to_string()
            );
        }
        let hosts = match place {
            Place::Address(SocketAddr::V6(v6)) if v6.scope_id() != 0 => vec![format!("{}%{}", v6.ip(), v6.scope_id())],
            Place::Zoned { ip, zone, .. } => vec![format!("{ip}%{zone}")],
            place => place.ips().into_iter().map(|ip| from_here(ip).to_string()).collect(),
        };
        let authority = authority_of(hosts.first().map_or("", String::as_str), place.port());
        Ok(Target { over, hosts, port: place.port(), authority, path: "/readyz".to_string() })
    }

    fn trust(&self) -> Result<Option<Trust>, Unusable> {
        match &self.over {
            Over::Plain => Ok(None),
            #[cfg(feature = "tls")]
            Over::Tls(ca) => Trust::new(ca.as_deref()).map(Some),
            #[cfg(feature = "tls")]
            Over::OwnTls => Trust::any().map(Some),
            #[cfg(not(feature = "tls"))]
            Over::Tls(_) | Over::OwnTls => Err(crate::client::no_tls()),
        }
    }
}

/// Replaces the address that stands for all of a machine's by loopback.
fn from_here(ip: IpAddr) -> IpAddr {
    match ip {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Formats host and port for the Host header, which has no zone (RFC 6874 §4).
fn authority_of(host: &str, port: u16) -> String {
    let host = without_zone(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

struct Answer {
    /// The first line, `HTTP/1.1 200 OK`.
    line: String,
    /// Why the server is not ready, in its own words, as far as they came.
    detail: String,
}

/// Asks, and reads the answer: of one that is ready, the first line alone.
fn ask(target: &Target, trust: Option<&Trust>) -> Result<Answer, ConnectionError> {
    let end = Instant::now() + TIMEOUT;
    let connections = target.hosts.iter().map(|host| connect(host, target.port, trust, end));
    let mut pipe = first(connections)?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.path, target.authority);
    pipe.write_all(request.as_bytes()).and_then(|()| pipe.flush()).map_err(ConnectionError::of_io)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < LONGEST_ANSWER && !first_line(&answer).is_some_and(is_ready) {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The first line already says that it is not ready.
            Err(_) if first_line(&answer).is_some() => break,
            Err(error) => return Err(ConnectionError::of_io(error)),
        }
    }
    if answer.is_empty() {
        return Err(ConnectionError::Refused("closed without an answer".into()));
    }
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").and_then(|end| answer.get(end + 4..));
    Ok(Answer {
        line: String::from_utf8_lossy(first_line(&answer).unwrap_or(&answer)).trim_end().to_string(),
        detail: body.map(detail_of).unwrap_or_default(),
    })
}

/// Returns the first line, once it is complete.
fn first_line(answer: &[u8]) -> Option<&[u8]> {
    answer.iter().position(|byte| *byte == b'\n').and_then(|end| answer.get(..end))
}

/// Returns the first success, or the last fault.
fn first<T>(tries: impl Iterator<Item = Result<T, ConnectionError>>) -> Result<T, ConnectionError> {
    let mut last = ConnectionError::Refused("there is no address to ask".into());
    for tried in tries {
        match tried {
            Ok(found) => return Ok(found),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// `HTTP/1.1 200 OK`
fn is_ready(line: &[u8]) -> bool {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    words.next().is_some_and(|version| version.starts_with(b"HTTP/1.")) && words.next() == Some(b"200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Formats a target for comparison: its transport, hosts, port, Host header and path.
    fn shown(target: Result<Target, String>) -> Option<String> {
        let Target { over, hosts, port, authority, path } = target.ok()?;
        Some(format!("{over:?} {}:{port} {authority} {path}", hosts.join("|")))
    }

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://a:7077", "Plain a:7077 a:7077 /readyz"),
            ("http://a/chat/", "Plain a:80 a:80 /chat/readyz"),
            ("http://[::1]:7077/", "Plain ::1:7077 [::1]:7077 /readyz"),
            ("https://a", "Tls(None) a:443 a:443 /readyz"),
            ("https://[fe80::1%25eth0]:1", "Tls(None) fe80::1%eth0:1 [fe80::1]:1 /readyz"),
        ] {
            assert_eq!(shown(Target::of_url(url, None)).as_deref(), Some(expected));
        }
        for bad in ["ftp://a", "http://", "http:///x", "http://a b", "http://u@a", "http://a/?x", "http://a\r\nX: y"] {
            assert!(Target::of_url(bad, None).is_err(), "{bad:?}");
        }
        let trusting = "Tls(Some(\"x.pem\")) a:443 a:443 /readyz";
        assert_eq!(shown(Target::of_url("https://a", Some("x.pem".into()))).as_deref(), Some(trusting));
        let plain = Target::of_url("http://a", Some("x.pem".into()));
        assert_eq!(shown(plain), None, "there is no certificate to trust");
    }

    #[test]
    fn a_url_takes_one_option_and_no_settings() {
        for args in [
            &["https://a", "--ca"][..],
            &["https://a", "--cb", "x"],
            &["https://a", "--ca", "x", "y"],
            &["http://a", "--ca", "x"],
            &["https://a", "--open"],
            &["--ca", "x"],
            &["a"],
        ] {
            let outcome = ask_with(args, []);
            assert!(matches!(outcome, Err(Failure::Usage(_))), "{args:?}: {outcome:?}");
        }
    }

    fn ask_with<const N: usize>(args: &[&str], environment: [(&str, &str); N]) -> Result<(), Failure> {
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        run(Args::read(&COMMAND, args.iter().map(Into::into), environment)?)
    }

    #[test]
    fn a_listener_for_all_is_asked_over_loopback() {
        let of = |place: &str| shown(Target::of_listener(Some(&place.parse().unwrap()), Over::Plain));
        for (place, expected) in [
            ("0.0.0.0:7077", "Plain 127.0.0.1:7077 127.0.0.1:7077 /readyz"),
            ("[::]:7077", "Plain ::1:7077 [::1]:7077 /readyz"),
            ("192.0.2.1:1", "Plain 192.0.2.1:1 192.0.2.1:1 /readyz"),
            ("localhost:1", "Plain 127.0.0.1|::1:1 127.0.0.1:1 /readyz"),
            ("[fe80::1%eth0]:1", "Plain fe80::1%eth0:1 [fe80::1]:1 /readyz"),
        ] {
            assert_eq!(of(place).as_deref(), Some(expected));
        }
        assert!(of("127.0.0.1:0").is_none() && Target::of_listener(None, Over::Plain).is_err());
    }

    #[test]
    fn status_lines() {
        assert!(is_ready(b"HTTP/1.1 200 OK") && is_ready(b"HTTP/1.0 200\r"));
        for bad in ["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 2000", "SSH-2.0 200", "", "200"] {
            assert!(!is_ready(bad.as_bytes()), "{bad}");
        }
    }

    /// Runs `health` against a server that gives this answer to one connection. Also returns the request that it got.
    fn against(answer: &'static [u8]) -> (Result<(), Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                asked.push(byte[0]);
            }
            for part in answer.chunks(3) {
                // The client may leave once it has read the status line.
                if stream.write_all(part).is_err() {
                    break;
                }
            }
            String::from_utf8(asked).unwrap()
        });
        let outcome = ask_with(&["--listen"], [("RACERD_LISTEN", &address)]);
        assert!(matches!(outcome, Err(Failure::Usage(_))), "a flag without a value");
        let outcome = ask_with(&[], [("RACERD_LISTEN", &address)]);
        (outcome, server.join().unwrap())
    }

    #[test]
    fn a_ready_server() {
        let (outcome, asked) = against(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(asked.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
    }

    #[test]
    fn a_server_that_is_not_ready_is_quoted_safely() {
        let (outcome, _) = against(b"HTTP/1.1 503 \x1b[2J\r\n\r\n");
        let Err(Failure::Failed(text)) = outcome else { panic!("{outcome:?}") };
        let text = text.to_string();
        assert!(text.contains("503") && !text.contains('\x1b'), "{text}");
        let (outcome, _) = against(b"");
        assert!(matches!(outcome, Err(Failure::Failed(text)) if text.as_str().contains("closed without an answer")));
    }

    #[test]
    fn the_reason_is_told() {
        let (outcome, _) = against(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 43\r\n\r\n{\"status\":503,\"detail\":\"disk \\u001b[2J full\"}",
        );
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("503 Service Unavailable: disk ") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn nobody_there() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let outcome = ask_with(&[&format!("http://{address}")], []);
        assert!(matches!(outcome, Err(Failure::Failed(_))), "{outcome:?}");
        let both = ask_with(&["--open", "http://a"], []);
        assert!(matches!(both, Err(Failure::Usage(_))), "{both:?}");
    }
}
