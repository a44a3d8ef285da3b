//! The server's own loop, sockets, HTTP and codec, with an echo in place of the hub, so that a third-party conformance
//! suite can test them: `cargo run --release --example ws_echo -- --listen 127.0.0.1:9001`.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use mio::Poll;
use racerd::config::{LogFormat, LogLevel, Settings};
use racerd::conn::{ConnLimits, Ending};
use racerd::engine::{App, Connections, Engine};
use racerd::http::headers::Headers;
use racerd::http::problem::Problem;
use racerd::http::request::Request;
use racerd::limits;
use racerd::server::log::Log;
use racerd::server::{Listeners, Loop, ServeError, connections_for, raise_open_files};
use racerd::store::{InMemory, StoreEvent, StoreRequest};
use racerd::types::{Cause, ConnId, Millis, Reason, SessionSlot, Unusable};
use racerd::ws;

/// Autobahn sends messages of 16 MiB, and of 4 MiB in 64-byte fragments.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Sends back each message that it receives.
struct Echo;

impl App for Echo {
    type Limits = ();

    fn set_limits(&mut self, _net: &mut Connections, (): ()) {}

    fn request(&mut self, net: &mut Connections, conn: ConnId, request: Request, _body: Vec<u8>) {
        match ws::handshake::check(&request, ws::handshake::Spoken::Open) {
            Err(problem) => net.refuse(conn, problem, None),
            Ok(upgrade) => {
                let now = net.now().mono;
                if let Some(connection) = net.get_mut(conn) {
                    connection.upgrade(&upgrade, SessionSlot { index: 0, generation: 0 }, now);
                }
            }
        }
    }

    fn refused(&mut self, net: &mut Connections, conn: ConnId, _headers: &Headers, problem: Problem) {
        net.refuse(conn, problem.closing(), None);
    }

    fn text(&mut self, net: &mut Connections, conn: ConnId, text: &str) {
        net.push_own(conn, |_, out| ws::data_frame(out, true, text.as_bytes()));
    }

    fn binary(&mut self, net: &mut Connections, conn: ConnId, payload: &[u8]) {
        net.push_own(conn, |_, out| ws::data_frame(out, false, payload));
    }

    fn gone(&mut self, _: &mut Connections, _: ConnId, _: SessionSlot, _: Ending) {}

    fn leaving(&mut self) {}
    fn drained(&mut self, _: &mut Connections, _: SessionSlot) {}
    fn store(&mut self, _: &mut Connections, _: StoreEvent) {}
    fn time(&mut self, _: &mut Connections) {}
    fn deadline(&self) -> Option<Millis> {
        None
    }
    fn end_turn(&mut self, _: &mut Connections, _: usize) -> usize {
        0
    }
    fn take_requests(&mut self, _: &mut Vec<StoreRequest>) {}
    fn stopping(&mut self) {}
    fn is_settled(&self) -> bool {
        true
    }
    fn farewell(&mut self, _: &mut Connections, _: ConnId) {}
}

fn run(listen: SocketAddr) -> Result<(), ServeError> {
    let start = |error: io::Error| Unusable { cause: Cause::System, reason: Reason::of(error) };
    let settings = Settings::default();
    let limits = ConnLimits {
        ws: ws::Limits { max_message: MAX_MESSAGE, max_fragments: 1_000_000, binary: true },
        queue_bytes: 2 * MAX_MESSAGE,
        ..limits::connections(&settings)
    };
    let poll = Poll::new().map_err(start)?;
    let listeners = Listeners::bind(&[listen.into()], &[], connections_for(raise_open_files(), 0), poll.registry())?;
    let store = Box::new(InMemory::new(limits::store(&settings), &[0; 8], [0; 32]));
    let engine = Engine::new(Connections::new(limits, limits::admission(&settings)), Echo, settings.time.drain_timeout);
    let log = Log::stderr(LogLevel::Warn, LogFormat::Text);
    Loop::new(poll, listeners, engine, store, settings.limits.read_budget, log).map_err(start)?.run()
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let listen = match (args.next(), args.next()) {
        (Some(flag), Some(address)) if flag == "--listen" => address.to_str().and_then(|a| a.parse().ok()),
        _ => None,
    };
    let Some(listen) = listen else {
        eprintln!("usage: ws_echo --listen ADDRESS:PORT");
        return ExitCode::from(2);
    };
    match run(listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ws_echo: {error}");
            ExitCode::FAILURE
        }
    }
}
