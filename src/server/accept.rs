//! The listeners: they accept in batches, turn away connections over the limit, and pause accepting when there is no
//! room even for that. The connection limit is enforced here alone.

use std::io;
use std::net::{self, SocketAddr};

use mio::Registry;
use mio::net::TcpListener;
use socket2::SockRef;

use super::bind::{bind, explain};
use super::log::{Log, Throttle};
use super::open_files::{connections_for, raise_open_files};
use super::socket_options::set_options;
use super::sockets::Sockets;
use super::tls::{Tls, TlsStream};
use super::tokens;
use crate::engine::{Input, Now, kept_places};
use crate::types::{Cause, Millis, Place, Reason, Unusable};

/// Connections accepted from one listener in one turn.
const BATCH: usize = 64;
/// Excess connections held at once, beyond the limit: each only gets an answer that the server is full, and lasts some
/// seconds at most. Their descriptors are among those that [`RESERVED`](super::open_files::RESERVED) sets aside.
pub const EXCESS: usize = 16;
/// Milliseconds before accepting is retried after the system ran out of descriptors.
const RETRY: u64 = 1000;
/// Milliseconds between two log lines about the same condition.
const SILENCE: u64 = 60_000;
/// Hard maximum of connections, besides those in excess.
const MOST: usize = tokens::MAX_SOCKETS - EXCESS;

pub struct Listeners {
    list: Vec<Listener>,
    max_connections: usize,
    /// Connection limit of the settings (0: what the limit of open files allows). It is evaluated again when
    /// `max_connections` is reached, since the limit of open files can be raised while a process runs (prlimit(1)).
    wanted: Option<u32>,
    /// Accepting is paused until at most this number of connections is left, those in excess included.
    resume_at: Option<usize>,
    /// Or until this time, if the system ran out of descriptors.
    retry_at: Option<Millis>,
    resting: Throttle,
    full: Throttle,
    short: Throttle,
    /// For connections that the server itself cannot begin.
    failed: Throttle,
}

struct Listener {
    inner: TcpListener,
    address: SocketAddr,
    ready: bool,
    /// Passed in by the service manager, so connections may have queued on it before this process started.
    is_given: bool,
    /// Speaks no TLS, even if the other listeners do.
    is_plain: bool,
}

impl Listeners {
    /// Binds the places, and those of `plain`, which never speak TLS, and registers them with the poll. Connections
    /// beyond `max_connections` are turned away.
    ///
    /// # Errors
    /// The address that cannot be bound, why, and what to do; and the cause.
    pub fn bind(
        places: &[Place],
        plain: &[Place],
        max_connections: usize,
        registry: &Registry,
    ) -> Result<Listeners, Unusable> {
        let mut listeners = Listeners::none(max_connections);
        let all: Vec<&Place> = places.iter().chain(plain).collect();
        for (number, place) in all.iter().enumerate() {
            let refused =
                |(place, error): (String, io::Error)| Unusable::with(Cause::Address, explain(&place, &error), error);
            for inner in bind(place, &all).map_err(refused)? {
                let added = listeners.add(inner, false, number >= places.len(), registry);
                added.map_err(|error| refused((place.to_string(), error)))?;
            }
        }
        Ok(listeners)
    }

    /// Registers listeners passed in by the service manager with the poll. A listener that other machines can reach is
    /// refused unless `open`; one with an address of `plain` speaks no TLS. Connections beyond `max_connections` are
    /// turned away.
    ///
    /// # Errors
    /// The listener that cannot be used, why, and what to do; and the cause.
    pub fn given(
        given: Vec<net::TcpListener>,
        says_who_enters: bool,
        plain: &[Place],
        max_connections: usize,
        registry: &Registry,
    ) -> Result<Listeners, Unusable> {
        let mut listeners = Listeners::none(max_connections);
        for listener in given {
            let address = listener.local_addr();
            let failed =
                |what: String, error: io::Error| Unusable::with(Cause::System, format!("{what}: {error}"), error);
            let address = address.map_err(|error| failed("a given listener has no address".to_string(), error))?;
            if !says_who_enters && !is_loopback(address) {
                return Err(Unusable::new(
                    Cause::Settings,
                    format!(
                        "the given listener {address}: everyone who can reach it could read and write every room; say \
                         who may enter with --access-file, add --open (RACERD_OPEN=true) if everyone is meant, or give \
                         one on 127.0.0.1"
                    ),
                ));
            }
            let prepared = listener.set_nonblocking(true).and_then(|()| set_options(&SockRef::from(&listener)));
            let added = prepared.and_then(|()| {
                listeners.add(
                    TcpListener::from_std(listener),
                    true,
                    plain.iter().any(|place| place.names(address)),
                    registry,
                )
            });
            added.map_err(|error| failed(format!("the given listener {address} cannot be used"), error))?;
        }
        Ok(listeners)
    }

    fn none(max_connections: usize) -> Listeners {
        let max_connections = max_connections.min(MOST);
        Listeners {
            list: Vec::new(),
            max_connections,
            wanted: None,
            resume_at: None,
            retry_at: None,
            resting: Throttle::new(SILENCE),
            full: Throttle::new(SILENCE),
            short: Throttle::new(SILENCE),
            failed: Throttle::new(SILENCE),
        }
    }

    /// Evaluates the limit of open files again when the connection limit is reached; `connections` is the limit in the
    /// settings (0: what the open files allow).
    pub fn wanting(mut self, connections: u32) -> Listeners {
        self.wanted = Some(connections);
        self
    }

    /// Raises `max_connections` if the limit of open files has grown; true if it has.
    fn may_grow(&mut self) -> bool {
        let Some(wanted) = self.wanted else { return false };
        let now = connections_for(raise_open_files(), wanted).min(MOST);
        let grows = now > self.max_connections;
        self.max_connections = self.max_connections.max(now);
        grows
    }

    fn add(&mut self, mut inner: TcpListener, is_given: bool, is_plain: bool, registry: &Registry) -> io::Result<()> {
        registry.register(&mut inner, tokens::listener(self.list.len()), mio::Interest::READABLE)?;
        self.list.push(Listener { address: inner.local_addr()?, inner, ready: true, is_given, is_plain });
        Ok(())
    }

    /// Applies a new limit. Connections beyond it stay open; no new ones are accepted until there is room.
    pub fn set_limits(&mut self, max_connections: usize, wanted: u32) {
        self.wanted = Some(wanted);
        self.max_connections = max_connections.min(MOST);
        // The next accept decides again whether to pause.
        self.resume_at = None;
        self.retry_at = None;
    }

    /// Returns the connection limit; further connections are turned away.
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Returns the addresses as bound (for port 0, with the port that the system chose), and whether each never speaks
    /// TLS.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        self.list.iter().map(|listener| (listener.address, listener.is_plain))
    }

    pub fn ready(&mut self, number: usize) {
        if let Some(listener) = self.list.get_mut(number) {
            listener.ready = true;
        }
    }

    /// Reports whether connections wait to be accepted that no further edge will announce.
    pub fn has_more(&self) -> bool {
        self.resume_at.is_none() && self.list.iter().any(|listener| listener.ready)
    }

    pub fn deadline(&self) -> Option<Millis> {
        self.retry_at
    }

    /// Resumes accepting if enough connections were closed; `count` are left.
    pub fn freed(&mut self, count: usize) {
        if self.resume_at.is_some_and(|at| count <= at) {
            self.resume_at = None;
            self.retry_at = None;
        }
    }

    /// Returns whether [`Listeners::close`] was called: the server is shutting down.
    pub fn are_closed(&self) -> bool {
        self.list.is_empty()
    }

    /// Stops accepting. A listener that was passed in can still receive connections: they wait for the next server.
    pub fn close(&mut self, registry: &Registry) {
        for mut listener in self.list.drain(..) {
            // While another process holds the listener, closing it here does not remove it from the poll.
            let _ = registry.deregister(&mut listener.inner);
        }
        self.retry_at = None;
    }

    /// Accepts a batch from each ready listener; with `tls`, the new connections speak it. The memory budget allows
    /// `openings` more; further ones are turned away.
    ///
    /// # Errors
    /// A listener is broken beyond recovery.
    pub fn accept(
        &mut self,
        registry: &Registry,
        sockets: &mut Sockets,
        tls: Option<&Tls>,
        openings: usize,
        now: Now,
        log: &Log,
    ) -> Result<Vec<Input<'static>>, Reason> {
        let mut opened = Vec::new();
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.resume_at = None;
            self.retry_at = None;
        }
        for number in 0..self.list.len() {
            for _ in 0..BATCH {
                if self.resume_at.is_some() || !self.list[number].ready {
                    break;
                }
                let is_short = opened.len() >= openings;
                let is_excess = is_short || self.is_full(sockets) && !self.may_grow();
                if is_excess && is_short && sockets.excess() >= EXCESS {
                    let retry = now.mono.after(RETRY);
                    self.rest(sockets.count(), sockets.count() - 1, Some(retry), now.mono, "memory is short", log);
                    break;
                }
                if is_excess && sockets.count() >= self.max_connections + EXCESS {
                    let until = self.max_connections + EXCESS - 1;
                    self.rest(sockets.count(), until, None, now.mono, "the connection limit is reached", log);
                    break;
                }
                let listener = &mut self.list[number];
                match listener.inner.accept() {
                    Ok((stream, peer)) => {
                        if listener.is_given {
                            // A connection older than the options of its listener has not inherited them. If the peer
                            // is already gone, the next read will show it.
                            let _ = set_options(&SockRef::from(&stream));
                        }
                        let tls = tls.filter(|_| !listener.is_plain).map(Tls::open).transpose();
                        let tls = match tls {
                            Ok(tls) => tls.map(Box::<TlsStream>::new),
                            Err(error) => {
                                self.tell_failed("a connection could not begin TLS", &error, now.mono, log);
                                continue;
                            }
                        };
                        let secure = tls.is_some();
                        match sockets.insert(registry, stream, tls, is_excess) {
                            Ok(conn) if is_excess => {
                                match is_short {
                                    true => self.tell_short(sockets, now.mono, log),
                                    false => self.tell_full(sockets, now.mono, log),
                                }
                                opened.push(Input::Excess { conn, peer, secure });
                            }
                            Ok(conn) => opened.push(Input::Opened { conn, peer, secure }),
                            Err(error) => {
                                self.tell_failed("a connection could not be watched", &error, now.mono, log);
                            }
                        }
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.ready = false,
                        _ if out_of_descriptors(&error) => {
                            let retry = now.mono.after(RETRY);
                            let (count, reason) = (sockets.count(), "no file descriptor is left");
                            self.rest(count, count.saturating_sub(1), Some(retry), now.mono, reason, log);
                        }
                        // EBADF, EINVAL, ENOTSOCK: the listener cannot recover.
                        _ if matches!(error.raw_os_error(), Some(9 | 22 | 88)) => {
                            let line = format!("the listener {} is broken: {error}", listener.address);
                            return Err(Reason::with(line, error));
                        }
                        // Only this connection failed (reset during the handshake, say); the next may succeed.
                        _ => {}
                    },
                }
            }
        }
        Ok(opened)
    }

    /// Reports whether the connection limit, as last evaluated, is reached, but for the places that are kept for
    /// clients that come back.
    pub fn is_full(&self, sockets: &Sockets) -> bool {
        sockets.lasting() >= self.max_connections - kept_places(self.max_connections)
    }

    fn tell_full(&mut self, sockets: &Sockets, now: Millis, log: &Log) {
        if let Some(left_out) = self.full.pass(now) {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("connections", &sockets.lasting()), ("lines_left_out", &left_out)];
            log.warn("as many connections as there may be (max-connections): further ones are answered 503", &fields);
        }
    }

    fn tell_short(&mut self, sockets: &Sockets, now: Millis, log: &Log) {
        if let Some(left_out) = self.short.pass(now) {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("connections", &sockets.lasting()), ("lines_left_out", &left_out)];
            log.warn("short of memory (memory): new connections are answered 503", &fields);
        }
    }

    fn tell_failed(&mut self, what: &str, error: &dyn std::fmt::Display, now: Millis, log: &Log) {
        if let Some(left_out) = self.failed.pass(now) {
            log.warn(what, &[("error", error), ("lines_left_out", &left_out)]);
        }
    }

    /// Pauses accepting until there are at most `until` connections, or until `retry`.
    fn rest(&mut self, count: usize, until: usize, retry: Option<Millis>, now: Millis, why: &str, log: &Log) {
        self.resume_at = Some(until);
        self.retry_at = retry;
        if let Some(left_out) = self.resting.pass(now) {
            let fields: [(&str, &dyn std::fmt::Display); 3] =
                [("reason", &why), ("connections", &count), ("lines_left_out", &left_out)];
            log.warn("accepting rests", &fields);
        }
    }
}

/// Reports whether only this machine can reach the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Matches EMFILE and ENFILE.
fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}
