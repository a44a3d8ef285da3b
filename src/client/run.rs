//! The loop around a session: connects, waits for the server and for standard input at once, and reconnects after a
//! loss. The pauses between attempts grow, and half of each is random, so that not all clients of a lost server return
//! at once.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::connection::Connection;
use super::dial::Trust;
#[cfg(not(feature = "tls"))]
use super::dial::no_tls;
use super::error::ConnectionError;
use super::pipe::timespec;
use super::{ClientSession, Event, RunError, StdinLines, Target};
use crate::crypto::sealed::Pin;
use crate::types::{Name, Reason};

/// The longest time for connecting and both handshakes.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The first and the longest pause between two attempts, in milliseconds.
const FIRST_PAUSE: u64 = 1_000;
const MAX_PAUSE: u64 = 30_000;
/// The first and the longest pause after a server without the pinned key, in milliseconds.
const MISMATCH_PAUSE: u64 = 30_000;
const MAX_MISMATCH_PAUSE: u64 = 300_000;
/// A connection that lasted this many milliseconds was stable: after it, the pauses start small again.
const STABLE: u64 = 10_000;
/// Standard input is read while fewer messages than this are unacknowledged.
const MAX_UNACKNOWLEDGED: usize = 64;

/// One run of the client: its target, its identity, and how long it keeps trying.
pub struct RunOptions<'a> {
    pub target: &'a Target,
    /// Use a sealed socket to the server with this pin, or fail.
    pub pin: Option<Pin>,
    /// The name for the URL of a socket that is not sealed.
    pub name: Option<Name>,
    /// A file of certificates to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Continue once the room's head is reached.
    pub follow: bool,
    /// Milliseconds to wait for the first connection; `None` is for ever.
    pub connect_timeout: Option<u64>,
    /// The same for a connection after a loss.
    pub reconnect_timeout: Option<u64>,
}

/// How a connection ended, where the run itself goes on or is done.
enum Outcome {
    Done,
    /// Why, and the milliseconds that the server asked to wait.
    Lost(Reason, u64),
}

/// Sends the session's messages and those of the lines, until all are acknowledged. Without lines, it receives until
/// the room's head is reached, or with [`RunOptions::follow`] for ever. `on_event` is told each event.
///
/// # Errors
/// Why it ended earlier, or the error of `on_event`.
pub fn run(
    options: &RunOptions,
    session: &mut ClientSession,
    lines: Option<StdinLines>,
    on_event: &mut dyn FnMut(&Event) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let trust = trust(options)?;
    let mut run = Run {
        options,
        session,
        lines,
        on_event,
        start: Instant::now(),
        refusal: None,
        unsendable: 0,
        has_caught_up: false,
        had_joined: false,
        had_mismatch: false,
        progress_at: 0,
    };
    let (mut failures, mut mismatches) = (0, 0);
    // The time since which there is no connection.
    let mut since = 0;
    loop {
        let left = run.timeout().map(|limit| (since + limit).saturating_sub(run.now()));
        let longest = left.map_or(HANDSHAKE, |left| HANDSHAKE.min(Duration::from_millis(left)));
        let opened_at = run.now();
        let deadline = Instant::now() + longest;
        let opened = Connection::open(
            options.target,
            options.pin.as_ref(),
            options.name.as_ref(),
            run.session.resumable(),
            trust.as_ref(),
            deadline,
        );
        let (why, wait) = match opened {
            Ok(mut connection) => {
                mismatches = 0;
                run.session.connected(run.now(), connection.longest_text());
                let outcome = run.exchange(&mut connection);
                let has_joined = run.session.has_joined();
                run.session.disconnected();
                if has_joined {
                    since = run.now();
                }
                if has_joined && run.now() > opened_at + STABLE {
                    failures = 0;
                }
                match outcome? {
                    Outcome::Done => {
                        connection.close();
                        return run.result();
                    }
                    Outcome::Lost(why, wait) => (why, wait),
                }
            }
            // It may be another server only for now, or somebody on the way who goes again.
            Err(ConnectionError::Mismatch(why)) if options.follow && options.pin.is_some() => {
                run.had_mismatch = true;
                mismatches += 1;
                (why, pause(mismatches, MISMATCH_PAUSE, MAX_MISMATCH_PAUSE))
            }
            Err(error) => retryable(error)?,
        };
        (run.on_event)(&Event::Reconnect(why.to_string()))?;
        failures += 1;
        let pause =
            run.session.reconnect_after.take().unwrap_or_else(|| pause(failures, FIRST_PAUSE, MAX_PAUSE)).max(wait);
        let left = run.timeout().map(|limit| (since + limit).saturating_sub(run.now()));
        if left == Some(0) {
            return Err(RunError::Unreached(why));
        }
        std::thread::sleep(Duration::from_millis(left.map_or(pause, |left| pause.min(left))));
    }
}

/// Sorts the failures of a connection: those after which to try again, and how many milliseconds later at the earliest;
/// and those that end the run.
fn retryable(error: ConnectionError) -> Result<(Reason, u64), RunError> {
    match error {
        ConnectionError::Lost(why, wait) => Ok((why, wait)),
        ConnectionError::TooLong(why) => Ok((why, 0)),
        ConnectionError::Refused(why) => Err(RunError::Refused(why)),
        ConnectionError::Mismatch(why) => Err(RunError::Mismatch(why)),
    }
}

#[cfg(feature = "tls")]
fn trust(options: &RunOptions) -> Result<Option<Trust>, RunError> {
    options.target.tls.then(|| Trust::new(options.ca.as_deref())).transpose().map_err(RunError::Trust)
}

#[cfg(not(feature = "tls"))]
fn trust(options: &RunOptions) -> Result<Option<Trust>, RunError> {
    match options.target.tls {
        true => Err(RunError::Trust(no_tls())),
        false => Ok(None),
    }
}

/// Returns the milliseconds before the next attempt: `first`, and twice as many with each further failure, up to
/// `most`. Half of them are random.
fn pause(failures: u32, first: u64, most: u64) -> u64 {
    let longest = most.min(first << failures.saturating_sub(1).min(10));
    let mut random = [0; 8];
    // Without random numbers it is the longest.
    let jitter = match getrandom::fill(&mut random) {
        Ok(()) => u64::from_ne_bytes(random) % (longest / 2 + 1),
        Err(_) => longest / 2,
    };
    longest / 2 + jitter
}

struct Run<'a, 'b> {
    options: &'a RunOptions<'a>,
    session: &'a mut ClientSession,
    lines: Option<StdinLines<'b>>,
    on_event: &'a mut dyn FnMut(&Event) -> Result<(), RunError>,
    start: Instant,
    /// Something was refused: no more input is read, and the run ends once everything under way is acknowledged.
    refusal: Option<Reason>,
    /// Messages that could not be sent, each of which was reported.
    unsendable: usize,
    has_caught_up: bool,
    /// The room was joined at least once.
    had_joined: bool,
    /// Something that is not the pinned server has answered at least once.
    had_mismatch: bool,
    /// When the server last answered something that the run waits for.
    progress_at: u64,
}

impl Run<'_, '_> {
    /// Returns the milliseconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Returns the milliseconds to wait for a connection, or for an answer; `None` is for ever.
    fn timeout(&self) -> Option<u64> {
        match self.had_joined || self.had_mismatch {
            true => self.options.reconnect_timeout,
            false => self.options.connect_timeout,
        }
    }

    /// Returns the result of a run that is done.
    fn result(&mut self) -> Result<(), RunError> {
        match (self.refusal.take(), self.unsendable) {
            (Some(refusal), _) => Err(RunError::Refused(refusal)),
            (None, 0) => Ok(()),
            (None, 1) => Err(RunError::Refused("1 message was not sent".into())),
            (None, count) => Err(RunError::Refused(format!("{count} messages were not sent").into())),
        }
    }

    fn is_done(&self) -> bool {
        match &self.lines {
            Some(lines) => (lines.has_ended() || self.refusal.is_some()) && self.session.unacknowledged() == 0,
            None => self.has_caught_up && !self.options.follow,
        }
    }

    /// Sends and receives over one connection until the run is done or the connection lost.
    fn exchange(&mut self, connection: &mut Connection) -> Result<Outcome, RunError> {
        let mut events = Vec::new();
        let mut texts = Vec::new();
        self.progress_at = self.now();
        loop {
            let now = self.now();
            self.session.tick(now, &mut events);
            let mut failure = None;
            while let Some(text) = self.session.next_text(now, &mut events) {
                if let Err(error) = connection.send(&text) {
                    failure = Some(error);
                    break;
                }
            }
            if failure.is_none() {
                failure = connection.receive(&mut texts).err();
            }
            let now = self.now();
            connection.set_longest_line(self.session.longest_line());
            let has_received = !texts.is_empty();
            for text in texts.drain(..) {
                self.session.receive(&text, now, &mut events);
            }
            if let Some(ConnectionError::TooLong(_)) = failure {
                self.session.drop_longest(&mut events);
            }
            let reconnect = self.handle(&mut events)?;
            if self.is_done() {
                return Ok(Outcome::Done);
            }
            if let Some(failure) = failure {
                return retryable(failure).map(|(why, wait)| Outcome::Lost(why, wait));
            }
            if let Some(why) = reconnect {
                return Ok(Outcome::Lost(why, 0));
            }
            if self.has_timed_out() {
                return Err(RunError::Refused(self.timeout_reason()));
            }
            if !has_received {
                self.wait(connection)?;
            }
        }
    }

    /// Reports the events. Returns why a new connection is needed, if it is.
    fn handle(&mut self, events: &mut Vec<Event>) -> Result<Option<Reason>, RunError> {
        let mut reconnect = None;
        self.had_joined |= self.session.has_joined();
        for event in events.drain(..) {
            (self.on_event)(&event)?;
            if !matches!(event, Event::Deferred(_)) {
                self.progress_at = self.now();
            }
            match event {
                Event::CaughtUp => self.has_caught_up = true,
                Event::Refused(why) => self.refuse(why.into()),
                Event::Unknown(count) => {
                    let why = format!(
                        "the session could not be resumed; it is not known whether {count} messages were stored"
                    );
                    self.refuse(why.into());
                }
                Event::GiveUp(why) => return Err(RunError::Refused(why.into())),
                Event::Reconnect(why) => reconnect = Some(why.into()),
                Event::Unsendable(_) => self.unsendable += 1,
                Event::Message(_) | Event::Gap { .. } | Event::Acknowledged | Event::Deferred(_) => {}
            }
        }
        Ok(reconnect)
    }

    /// Ends the run once everything under way is acknowledged; the first reason counts.
    fn refuse(&mut self, why: Reason) {
        self.refusal.get_or_insert(why);
    }

    /// Returns whether the run has waited without progress for as long as it may.
    fn has_timed_out(&self) -> bool {
        let is_waiting = if self.lines.is_some() { self.session.unacknowledged() > 0 } else { !self.has_caught_up };
        is_waiting && self.timeout().is_some_and(|limit| self.now() > self.progress_at + limit)
    }

    /// Explains a timeout: by the server's own reason, where it gave one.
    fn timeout_reason(&self) -> Reason {
        match self.session.deferral() {
            Some(why) => format!("gave up: the server keeps refusing: {why}").into(),
            None => "gave up: the server is connected and does not answer".into(),
        }
    }

    /// Waits for the server, for a line, for the reader of the output to go away, or for the next deadline.
    fn wait(&mut self, connection: &Connection) -> Result<(), RunError> {
        let now = self.now();
        let longest_wait = Duration::from_millis(self.session.deadline(now).saturating_sub(now).min(1000));
        // Before the first `welcome`, the longest message is not known.
        let longest = self.session.longest_message();
        let takes_lines =
            self.refusal.is_none() && longest.is_some() && self.session.unacknowledged() < MAX_UNACKNOWLEDGED;
        let wants_line = takes_lines && self.lines.as_ref().is_some_and(|lines| !lines.has_ended());
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut fds = vec![PollFd::new(connection, PollFlags::IN)];
        if wants_line {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        } else if self.lines.is_none() {
            // Without any flag, `poll` still reports that the other end is closed.
            fds.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()));
        }
        match poll(&mut fds, Some(&timespec(longest_wait))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(RunError::Refused(Reason::with(format!("cannot wait: {error}"), error))),
        }
        let second = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        if second.is_empty() {
            return Ok(());
        }
        match self.lines.as_mut().filter(|_| wants_line) {
            Some(lines) => {
                let mut events = Vec::new();
                if let Err(why) = lines.read(longest.unwrap_or_default(), self.session, &mut events) {
                    self.refuse(why);
                }
                self.progress_at = self.now();
                self.handle(&mut events).map(drop)
            }
            None => Err(RunError::OutputClosed),
        }
    }
}
