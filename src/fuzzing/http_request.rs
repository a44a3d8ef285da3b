//! HTTP as a connection reads it: the same bytes, however split, give the same requests and the same refusal, and a
//! second, strict parser accepts every accepted request and reads it the same way.

use super::input::{Cuts, Input};
use super::strict_http;
use crate::conn::{ConnLimits, Connection, Rate, Step};
use crate::http::headers::Headers;
use crate::http::limits::HeadLimits;
use crate::http::method::{Method, Version};
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::{CONTINUE, Response};
use crate::http::status::Status;
use crate::types::Millis;

/// Small, so that short inputs reach them.
const LIMITS: HeadLimits = HeadLimits { max_head: 512, max_target: 128, max_body: 64 };

/// Reads the cuts from the input, then the stream of one connection.
pub fn http_request(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let stream = input.rest();
    let whole = read(stream, Cuts::none().of(stream));
    let cut = read(stream, cuts.of(stream));
    assert_eq!(whole, cut, "the pieces {cuts:?} make a difference");
    let single = read(stream, stream.chunks(1));
    assert_eq!(whole, single, "single bytes make a difference");
    for event in &whole.events {
        if let Event::Request { request, body, from, to } = event {
            compare(&stream[*from..*to], request, body);
        }
    }
}

/// All effects of one connection that a client and the other parts of a server can observe.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    events: Vec<Event>,
    /// The written bytes, without interim answers: whether a client waits for one depends on the arrival of its bytes.
    written: Vec<u8>,
    is_closing: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// A request, and the range of its bytes in the stream, empty lines before it included.
    Request { request: Box<Request>, body: Vec<u8>, from: usize, to: usize },
    /// A refusal. The connection ends with it, so its place in the stream does not matter.
    Malformed { problem: Problem, headers: Headers },
}

fn read<'a>(stream: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let limits = ConnLimits {
        head: LIMITS,
        ws: crate::ws::Limits { max_message: 64, max_fragments: 4, binary: false },
        queue_bytes: 4096,
        reply_bytes: 4096,
        in_flight: 4,
        requests: Rate::new(0, 1, 1),
        controls: Rate::new(0, 1, 1),
        header_timeout: 10_000,
        keep_alive: 75_000,
        write_wait: 10_000,
        pong_wait: 60_000,
        ping_period: 25_000,
    };
    let now = Millis(1);
    let mut connection = Connection::new(core::net::SocketAddr::from(([127, 0, 0, 1], 9)), now);
    let mut seen = Seen { events: Vec::new(), written: Vec::new(), is_closing: false };
    let (mut consumed, mut from) = (0, 0);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            assert!(!connection.is_held(&limits), "held although everything was answered");
            let length = piece.len();
            let (used, step) = connection.next(&mut piece[at..], now, &limits);
            assert!(used <= length - at, "took {used} bytes of {}", length - at);
            (at, consumed) = (at + used, consumed + used);
            let is_over = step.is_none() && (at == length || used == 0);
            match step {
                None | Some(Step::Again) => {}
                Some(Step::Request(request, body)) => {
                    assert!(body.len() <= LIMITS.max_body);
                    seen.events.push(Event::Request { request, body, from, to: consumed });
                    from = consumed;
                    connection.respond(Response::empty(Status::NoContent), false, "now", now);
                }
                Some(Step::Malformed(problem, headers)) => {
                    check_refusal(&problem);
                    let response = problem.clone().into_response();
                    seen.events.push(Event::Malformed { problem, headers });
                    connection.respond(response, true, "now", now);
                }
                Some(Step::Text(_) | Step::Binary(_) | Step::Ended(_)) => {
                    // proof: this must not happen; the fuzzer looks for it.
                    panic!("HTTP became something else");
                }
            }
            let out: Vec<u8> = connection.queue.pieces().flatten().copied().collect();
            connection.wrote(out.len(), now);
            if out != CONTINUE {
                seen.written.extend_from_slice(&out);
            }
            if connection.is_closing() {
                seen.is_closing = true;
                return seen;
            }
            if is_over {
                assert_eq!(at, piece.len(), "bytes were left although nothing holds them");
                break;
            }
        }
    }
    assert!(consumed == stream.len());
    seen
}

/// Checks that a refusal closes, gives the reason, and has a status that some request can get before its path is
/// examined.
fn check_refusal(problem: &Problem) {
    assert!(problem.close, "the connection outlives a refusal: {problem:?}");
    let status = problem.status.code();
    assert!([400, 404, 411, 413, 414, 417, 431, 501, 505].contains(&status), "refused with {status}");
    assert!(!problem.detail.is_empty() && !problem.detail.contains(char::is_control), "{problem:?}");
}

/// Checks that the strict parser accepts an accepted request and reads it the same way.
fn compare(bytes: &[u8], request: &Request, body: &[u8]) {
    let strict = match strict_http::read(bytes) {
        Ok(strict) => strict,
        // proof: this must not happen; the fuzzer looks for it.
        Err(rule) => panic!("accepted against {rule}: {}", String::from_utf8_lossy(bytes)),
    };
    let method = match request.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
    };
    assert_eq!(strict.method, method.as_bytes());
    assert_eq!(strict.minor, if request.version == Version::Http11 { b'1' } else { b'0' });
    assert_eq!(strict.body, body);
    let fields: Vec<(String, String)> = request.headers.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let read: Vec<(String, String)> = strict.fields.iter().map(|(n, v)| (text(n), text(v))).collect();
    assert_eq!(read, fields);
    assert_eq!(strict.closes(), !request.keep_alive, "who closes?");
    assert_eq!(strict.segments(), request.target.segments(), "another path");
    match (strict.host(), &request.authority) {
        (None, None) => {}
        (Some(host), Some(authority)) => {
            let port = authority.port.map_or(String::new(), |port| format!(":{port}"));
            let same = strict_http::normal_host(host) == format!("{}{port}", authority.host);
            assert!(same, "another host: {:?} for {}", authority, text(host));
        }
        // proof: this must not happen; the fuzzer looks for it.
        (strict, ours) => panic!("a host for one reader only: {strict:?}, {ours:?}"),
    }
}

/// Decodes a text as headers are decoded: UTF-8, else ISO-8859-1.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}
