//! `racerd health`: asks a running racerd whether it is ready, for images without curl. One request, at most 3 s.

use super::{Failure, given::Given};
use crate::server::log::escape;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Connecting, asking and the answer's first line, together.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the server at the given URL, or else the one that the same settings would start.
///
/// # Errors
/// [`Failure::Usage`] where it is not clear whom to ask, [`Failure::Failed`] with what was got where it is not ready.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let target = match args.as_slice() {
        [url] if url.to_string_lossy().contains("://") => Target::of_url(&url.to_string_lossy()),
        _ => {
            let parsed = Given::new(args, environment).read()?;
            let (listening, tls) = (&parsed.settings.listening, &parsed.settings.tls);
            match tls.plain_listen.first().or(listening.listen.first().filter(|_| !tls.is_on())) {
                None if tls.is_on() => {
                    Err("all listeners speak TLS, and this question is asked without; add --plain-listen \
                                            127.0.0.1:PORT for it"
                        .to_string())
                }
                address => Target::of_listener(address.copied()),
            }
        }
    };
    let target = target.map_err(Failure::Usage)?;
    match ask(&target) {
        Ok(line) if is_ready(&line) => Ok(()),
        Ok(line) => Err(Failure::Failed(format!("not ready: {} answered {}", target.authority, escape(&line)))),
        Err(error) => Err(Failure::Failed(format!("no answer from {}: {error}", target.authority))),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Host and port.
    authority: String,
    path: String,
}

impl Target {
    /// `http://host:port`, and a path where racerd is behind one.
    fn of_url(url: &str) -> Result<Target, String> {
        let wrong = || format!("{} is not a URL of the form http://HOST:PORT", escape(url));
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@'));
        if authority.is_empty() || !fits(authority) || !fits(path) {
            return Err(wrong());
        }
        let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
        let has_port = authority.get(after_brackets..).unwrap_or("").contains(':');
        let authority = if has_port { authority.to_string() } else { format!("{authority}:80") };
        let prefix = path.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Target { authority, path: format!("{prefix}/readyz") })
    }

    /// The address that a server listens on, seen from the same machine.
    fn of_listener(address: Option<SocketAddr>) -> Result<Target, String> {
        let mut address = address.ok_or("there is no listener to ask")?;
        if address.port() == 0 {
            return Err("--listen with port 0 does not say whom to ask; give the port that serve printed".to_string());
        }
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Ok(Target { authority: address.to_string(), path: "/readyz".to_string() })
    }
}

/// The answer's first line.
fn ask(target: &Target) -> io::Result<String> {
    let end = Instant::now() + TIMEOUT;
    let mut stream = connect(&target.authority, end)?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.path, target.authority);
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while !line.contains(&b'\n') && line.len() < 1024 {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => line.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
    }
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().to_string())
}

/// To the first address of the name that takes the connection.
fn connect(authority: &str, end: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(end)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// `HTTP/1.1 200 OK`
fn is_ready(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|version| version.starts_with("HTTP/1.")) && words.next() == Some("200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn target(authority: &str, path: &str) -> Target {
        Target { authority: authority.to_string(), path: path.to_string() }
    }

    #[test]
    fn urls() {
        assert_eq!(Target::of_url("http://a:7077"), Ok(target("a:7077", "/readyz")));
        assert_eq!(Target::of_url("http://a/chat/"), Ok(target("a:80", "/chat/readyz")));
        assert_eq!(Target::of_url("http://[::1]:7077/"), Ok(target("[::1]:7077", "/readyz")));
        assert_eq!(Target::of_url("http://[::1]"), Ok(target("[::1]:80", "/readyz")));
        for bad in ["https://a", "http://", "http:///x", "http://a b", "http://u@a", "http://a/?x", "http://a\r\nX: y"]
        {
            assert!(Target::of_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_listener_for_all_is_asked_over_loopback() {
        let of = |address: &str| Target::of_listener(Some(address.parse().unwrap()));
        assert_eq!(of("0.0.0.0:7077"), Ok(target("127.0.0.1:7077", "/readyz")));
        assert_eq!(of("[::]:7077"), Ok(target("[::1]:7077", "/readyz")));
        assert_eq!(of("192.0.2.1:1"), Ok(target("192.0.2.1:1", "/readyz")));
        assert!(of("127.0.0.1:0").is_err() && Target::of_listener(None).is_err());
    }

    #[test]
    fn status_lines() {
        assert!(is_ready("HTTP/1.1 200 OK") && is_ready("HTTP/1.0 200"));
        for bad in ["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 2000", "SSH-2.0 200", "", "200"] {
            assert!(!is_ready(bad), "{bad}");
        }
    }

    /// Runs `health` against a server that gives this answer to one connection; also gives back what it was asked.
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
                stream.write_all(part).unwrap();
            }
            String::from_utf8(asked).unwrap()
        });
        let outcome = run(vec!["--listen".into()], [("RACERD_LISTEN".into(), address.clone().into())]);
        assert!(matches!(outcome, Err(Failure::Usage(_))), "a flag without a value");
        let outcome = run(Vec::new(), [("RACERD_LISTEN".into(), address.into())]);
        (outcome, server.join().unwrap())
    }

    #[test]
    fn a_ready_server() {
        let (outcome, asked) = against(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(outcome, Ok(()));
        assert!(asked.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
    }

    #[test]
    fn one_that_is_not_ready_is_quoted_safely() {
        let (outcome, _) = against(b"HTTP/1.1 503 \x1b[2J\r\n\r\n");
        let Err(Failure::Failed(text)) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("503") && !text.contains('\x1b'), "{text}");
        let (outcome, _) = against(b"");
        assert!(matches!(outcome, Err(Failure::Failed(text)) if text.contains("closed without an answer")));
    }

    #[test]
    fn nobody_there() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let outcome = run(vec![format!("http://{address}").into()], []);
        assert!(matches!(outcome, Err(Failure::Failed(_))), "{outcome:?}");
        let both = run(vec!["--open".into(), "http://a".into()], []);
        assert!(matches!(both, Err(Failure::Usage(_))), "{both:?}");
    }
}
