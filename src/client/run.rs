//! The loop around a talk: connects, waits for the server and for standard input at once, and connects again after a
//! loss, each time after a longer pause with chance in it, so that all who lost a server do not come back in one moment.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use zeroize::Zeroize;

use super::line::{Fault, Line, Trust};
use super::pipe::timespec;
use super::{Ended, Event, Talk, Target};
use crate::crypto::sealed::Pin;
use crate::types::Name;

/// A handshake takes so long at most.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The longest pause between two tries, in milliseconds.
const LONGEST_PAUSE: u64 = 30_000;
/// A connection that lived so long, in milliseconds, was a good one: the pauses begin anew.
const GOOD: u64 = 10_000;
/// Lines that may wait to be acknowledged before more are read.
const WAITING: usize = 64;

/// What is to be done, and how long it may be tried.
pub struct Errand<'a> {
    pub target: &'a Target,
    /// Speak sealed, to the server that has this pin, or not at all.
    pub pin: Option<Pin>,
    /// Goes into the URL, where it is not sealed.
    pub name: Option<Name>,
    /// Certificates to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Do not end when the room's head is reached.
    pub follow: bool,
    /// Milliseconds to wait for the first connection, and for one after a loss; for ever without.
    pub first: Option<u64>,
    pub later: Option<u64>,
}

/// Standard input, line by line, each made into a message.
pub struct Lines<'a> {
    /// Key and JSON body of a line; nothing for one to be passed over.
    compose: Compose<'a>,
    /// A line whose end has not come.
    buffer: Vec<u8>,
    rest: Rest,
    /// Lines so far.
    count: u64,
    has_ended: bool,
}

/// Whether the rest of the line that is being read is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Kept,
    /// The line is longer than any message: its rest is thrown away.
    Dropped,
}

type Compose<'a> = Box<dyn FnMut(&str) -> Result<Option<(String, String)>, String> + 'a>;

impl<'a> Lines<'a> {
    /// `compose` gives key and JSON body of a line, nothing for one to be passed over, or why the line cannot be sent.
    pub fn new(compose: Compose<'a>) -> Lines<'a> {
        Lines { compose, buffer: Vec::new(), rest: Rest::Kept, count: 0, has_ended: false }
    }

    /// No line is read: all that is to be said is said to the talk beforehand.
    pub fn ended(mut self) -> Lines<'a> {
        self.has_ended = true;
        self
    }

    /// Reads once, and gives to the talk what are whole lines. A line that cannot be sent becomes an event, and so does one
    /// of more than `longest` bytes.
    ///
    /// # Errors
    /// Standard input cannot be read.
    fn read(&mut self, longest: usize, talk: &mut Talk, events: &mut Vec<Event>) -> Result<(), String> {
        // Larger than what `Stdin` keeps for itself, which so keeps nothing: `poll` would not know of it.
        let mut chunk = [0; 16 << 10];
        let length = match io::stdin().lock().read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            done => done.map_err(|error| format!("standard input: {error}"))?,
        };
        self.take(chunk.get(..length).unwrap_or_default(), longest, talk, events);
        chunk.zeroize();
        self.has_ended = length == 0;
        if self.has_ended && self.rest == Rest::Kept {
            // The last line may do without its end.
            let line = std::mem::take(&mut self.buffer);
            self.give(&line, talk, events);
        }
        Ok(())
    }

    /// Keeps at most `longest` bytes of a line, and its end.
    fn take(&mut self, bytes: &[u8], longest: usize, talk: &mut Talk, events: &mut Vec<Event>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = part.ends_with(b"\n");
            if self.rest == Rest::Kept && self.buffer.len() + part.len() > longest.saturating_add(2) {
                self.count += 1;
                let why = format!("it has more bytes than the server takes in one message ({longest})");
                events.push(Event::Unsendable(format!("line {}: {why}", self.count)));
                self.buffer = Vec::new();
                self.rest = Rest::Dropped;
            }
            if self.rest == Rest::Kept {
                self.buffer.extend_from_slice(part);
                if is_whole {
                    let line = std::mem::take(&mut self.buffer);
                    self.give(&line, talk, events);
                }
            } else if is_whole {
                self.rest = Rest::Kept;
            }
        }
    }

    fn give(&mut self, line: &[u8], talk: &mut Talk, events: &mut Vec<Event>) {
        self.count += 1;
        let message = match std::str::from_utf8(line) {
            Ok(text) => (self.compose)(text.trim_end_matches(['\n', '\r'])),
            Err(_) => Err("it is not UTF-8".to_string()),
        };
        match message {
            Ok(Some((key, body))) => talk.send(self.count, key, body),
            Ok(None) => {}
            Err(why) => events.push(Event::Unsendable(format!("line {}: {why}", self.count))),
        }
    }
}

/// How a connection ended, where nothing is wrong.
enum Outcome {
    Done,
    Lost(String, u64),
}

/// Does the errand: sends what the talk has and what comes by the lines until all is acknowledged; without lines, hears
/// until the room's head is reached, or for ever. `on` is told each event.
///
/// # Errors
/// Why it ended before; or what `on` says.
pub fn run(
    errand: &Errand,
    talk: &mut Talk,
    lines: Option<Lines>,
    on: &mut dyn FnMut(&Event) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let trust = trust(errand)?;
    let mut run = Run {
        errand,
        talk,
        lines,
        on,
        start: Instant::now(),
        fault: None,
        unsendable: 0,
        caught_up: false,
        was_in: false,
        progress: 0,
    };
    let mut failures = 0;
    // Since when there is no connection.
    let mut since = 0;
    loop {
        let limit = if run.was_in { errand.later } else { errand.first };
        let left = limit.map(|limit| (since + limit).saturating_sub(run.now()));
        let most = left.map_or(HANDSHAKE, |left| HANDSHAKE.min(Duration::from_millis(left)));
        let opened_at = run.now();
        let opened =
            Line::open(errand.target, errand.pin.as_ref(), errand.name.as_ref(), trust.as_ref(), Instant::now() + most);
        let (why, wait) = match opened.map_err(ended) {
            Ok(mut line) => {
                run.talk.opened(run.now(), line.longest_text());
                let outcome = run.converse(&mut line);
                let was_here = run.talk.is_in();
                run.talk.lost();
                if was_here {
                    since = run.now();
                }
                if was_here && run.now() > opened_at + GOOD {
                    failures = 0;
                }
                match outcome {
                    Ok(Outcome::Done) => {
                        line.close();
                        return run.result();
                    }
                    Ok(Outcome::Lost(why, wait)) => (why, wait),
                    Err(ended) => return Err(ended),
                }
            }
            Err(Ok((why, wait))) => (why, wait),
            Err(Err(ended)) => return Err(ended),
        };
        (run.on)(&Event::Again(why.clone()))?;
        failures += 1;
        let pause = run.talk.bye.take().unwrap_or_else(|| pause(failures)).max(wait);
        let limit = if run.was_in { errand.later } else { errand.first };
        let left = limit.map(|limit| (since + limit).saturating_sub(run.now()));
        if left == Some(0) {
            return Err(Ended::Unreached(why));
        }
        std::thread::sleep(Duration::from_millis(left.map_or(pause, |left| pause.min(left))));
    }
}

/// A fault that ends the run, or one after which to try again.
fn ended(fault: Fault) -> Result<(String, u64), Ended> {
    match fault {
        Fault::Lost(why, wait) => Ok((why, wait)),
        Fault::TooLong(why) => Ok((why, 0)),
        Fault::Refused(why) => Err(Ended::Refused(why)),
        Fault::Mismatch(why) => Err(Ended::Mismatch(why)),
    }
}

#[cfg(feature = "tls")]
fn trust(errand: &Errand) -> Result<Option<Trust>, Ended> {
    let trust = errand.target.tls.then(|| Trust::new(errand.ca.as_deref())).transpose();
    trust.map_err(|(cause, why)| Ended::NotBegun(cause, why))
}

#[cfg(not(feature = "tls"))]
fn trust(errand: &Errand) -> Result<Option<Trust>, Ended> {
    match errand.target.tls {
        true => Err(Ended::Refused("this racerd was built without TLS".to_string())),
        false => Ok(None),
    }
}

/// Milliseconds before the next try; half of it is chance.
fn pause(failures: u32) -> u64 {
    let longest = LONGEST_PAUSE.min(500 << failures.min(10));
    let mut random = [0; 8];
    // Without chance it is the longest.
    let chance = match getrandom::fill(&mut random) {
        Ok(()) => u64::from_ne_bytes(random) % (longest / 2 + 1),
        Err(_) => longest / 2,
    };
    longest / 2 + chance
}

struct Run<'a, 'b> {
    errand: &'a Errand<'a>,
    talk: &'a mut Talk,
    lines: Option<Lines<'b>>,
    on: &'a mut dyn FnMut(&Event) -> Result<(), Ended>,
    start: Instant,
    /// Something was refused: nothing more is read, and what is under way is waited for.
    fault: Option<String>,
    /// Messages that could not be sent, each of which was told.
    unsendable: usize,
    caught_up: bool,
    /// The room was joined at least once.
    was_in: bool,
    /// When something was last heard that the errand waits for.
    progress: u64,
}

impl Run<'_, '_> {
    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// How it ends, once it is done.
    fn result(&self) -> Result<(), Ended> {
        match (&self.fault, self.unsendable) {
            (Some(fault), _) => Err(Ended::Refused(fault.clone())),
            (None, 0) => Ok(()),
            (None, 1) => Err(Ended::Refused("1 message was not sent".to_string())),
            (None, count) => Err(Ended::Refused(format!("{count} messages were not sent"))),
        }
    }

    fn is_done(&self) -> bool {
        match &self.lines {
            Some(lines) => (lines.has_ended || self.fault.is_some()) && self.talk.unsent() == 0,
            None => self.caught_up && !self.errand.follow,
        }
    }

    /// Talks over one connection until the errand is done or the connection lost.
    fn converse(&mut self, line: &mut Line) -> Result<Outcome, Ended> {
        let mut events = Vec::new();
        let mut texts = Vec::new();
        self.progress = self.now();
        loop {
            let now = self.now();
            self.talk.tick(now, &mut events);
            let mut fault = None;
            while let Some(text) = self.talk.poll(now, &mut events) {
                if let Err(error) = line.say(&text) {
                    fault = Some(error);
                    break;
                }
            }
            if fault.is_none() {
                fault = line.hear(&mut texts).err();
            }
            let now = self.now();
            line.allow(self.talk.longest_line());
            let heard_some = !texts.is_empty();
            for text in texts.drain(..) {
                self.talk.hear(&text, now, &mut events);
            }
            if let Some(Fault::TooLong(_)) = fault {
                self.talk.refuse_longest(&mut events);
            }
            let again = self.take(&mut events)?;
            if self.is_done() {
                return Ok(Outcome::Done);
            }
            if let Some(fault) = fault {
                return ended(fault).map(|(why, wait)| Outcome::Lost(why, wait));
            }
            if let Some(why) = again {
                return Ok(Outcome::Lost(why, 0));
            }
            if self.gives_up() {
                return Err(Ended::Refused(self.given_up()));
            }
            if !heard_some {
                self.wait(line)?;
            }
        }
    }

    /// Tells what happened; gives why the connection is to be made anew, if it is.
    fn take(&mut self, events: &mut Vec<Event>) -> Result<Option<String>, Ended> {
        let mut again = None;
        self.was_in |= self.talk.is_in();
        for event in events.drain(..) {
            (self.on)(&event)?;
            if !matches!(event, Event::PutOff(_)) {
                self.progress = self.now();
            }
            match event {
                Event::CaughtUp => self.caught_up = true,
                Event::Refused(why) => self.fault = self.fault.take().or(Some(why)),
                Event::Unsure(count) => {
                    let why =
                        format!("the session could not be resumed; whether {count} messages were stored is not known");
                    self.fault = self.fault.take().or(Some(why));
                }
                Event::Stop(why) => return Err(Ended::Refused(why)),
                Event::Again(why) => again = Some(why),
                Event::Unsendable(_) => self.unsendable += 1,
                Event::Message(_) | Event::Hole { .. } | Event::Acknowledged | Event::PutOff(_) => {}
            }
        }
        Ok(again)
    }

    /// Nothing came of it for as long as a connection is waited for.
    fn gives_up(&self) -> bool {
        let is_awaited = if self.lines.is_some() { self.talk.unsent() > 0 } else { !self.caught_up };
        let limit = if self.was_in { self.errand.later } else { self.errand.first };
        is_awaited && limit.is_some_and(|limit| self.now() > self.progress + limit)
    }

    /// What to say then: the server's own reason, where it gave one.
    fn given_up(&self) -> String {
        match self.talk.put_off() {
            Some(why) => format!("gave up: the server keeps refusing: {why}"),
            None => "gave up: the server is there, and answers nothing".to_string(),
        }
    }

    /// Waits for the server, for a line, for whoever reads to go away, or for the next deadline.
    fn wait(&mut self, line: &Line) -> Result<(), Ended> {
        let now = self.now();
        let most = Duration::from_millis(self.talk.deadline(now).saturating_sub(now).min(1000));
        // Before the first `welcome`, how long a message may be is not known.
        let longest = self.talk.longest_message();
        let takes_lines = self.fault.is_none() && longest.is_some() && self.talk.unsent() < WAITING;
        let wants_line = takes_lines && self.lines.as_ref().is_some_and(|lines| !lines.has_ended);
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut fds = vec![PollFd::new(line, PollFlags::IN)];
        if wants_line {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        } else if self.lines.is_none() {
            // Nothing is asked for; that its other end is gone is told all the same.
            fds.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()));
        }
        match poll(&mut fds, Some(&timespec(most))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Ended::Refused(format!("cannot wait: {error}"))),
        }
        let second = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        if second.is_empty() {
            return Ok(());
        }
        match self.lines.as_mut().filter(|_| wants_line) {
            Some(lines) => {
                let mut events = Vec::new();
                if let Err(why) = lines.read(longest.unwrap_or_default(), self.talk, &mut events) {
                    self.fault = Some(why);
                }
                self.progress = self.now();
                self.take(&mut events).map(drop)
            }
            None => Err(Ended::Unread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Begin;
    use crate::types::RoomId;

    /// Reads these chunks where a message has at most 10 bytes. Returns the lines that were composed, the events' texts, and
    /// the most bytes that were kept at a time.
    fn read(chunks: &[&[u8]]) -> (Vec<String>, Vec<String>, usize) {
        let composed = std::cell::RefCell::new(Vec::new());
        let mut lines = Lines::new(Box::new(|line| {
            composed.borrow_mut().push(line.to_string());
            Ok(None)
        }));
        let mut talk = Talk::new(RoomId::parse("r").unwrap(), None, Begin::Now);
        let (mut events, mut most) = (Vec::new(), 0);
        for chunk in chunks {
            lines.take(chunk, 10, &mut talk, &mut events);
            most = most.max(lines.buffer.len());
        }
        drop(lines);
        let told = events.into_iter().map(|event| match event {
            Event::Unsendable(why) => why,
            other => panic!("{other:?}"),
        });
        (composed.take(), told.collect(), most)
    }

    #[test]
    fn a_line_without_an_end_has_a_bound_and_the_next_one_is_read() {
        let (composed, told, most) = read(&[b"one\n0123456789\r\n01234", &[b'x'; 7], &[b'x'; 1000], b"\ntwo\n"]);
        assert_eq!(composed, ["one", "0123456789", "two"]);
        assert_eq!(told, ["line 3: it has more bytes than the server takes in one message (10)"]);
        assert!(most <= 12, "{most}");
        // The same in one chunk, and byte by byte.
        let all = [b"one\n".as_slice(), &[b'x'; 50], b"\n\n", &[b'y'; 13], b"\ntwo\n"].concat();
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        for chunks in [&[all.as_slice()][..], &bytes] {
            let (composed, told, _) = read(chunks);
            assert_eq!((composed, told.len()), (vec!["one".to_string(), String::new(), "two".to_string()], 2));
        }
    }
}
