//! A client that uses the real protocol: it connects by a new link, resumes its session with its token and its cursors,
//! repeats unacknowledged messages under the same keys, and backs off. `acts` decides its next action; `hears` judges
//! what it receives, with `coming` for the handshake and `refusals` for refusals; `errands` has its requests over HTTP.

mod acts;
mod coming;
mod errands;
mod hears;
mod line;
mod pages;
mod reasons;
mod refusals;
mod rest;
mod sealed;
mod stream;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use racerd::types::SessionId;

use super::agenda::{Event, MILLISECOND, Micros, SECOND};
use super::encryption::Sealed;
use super::scene::{Checked, Scene};
use super::wire::Reader;
use super::witness::Presented;
use errands::{Errand, Post};
use line::Line;
use pages::Wanted;
use sealed::Replay;
use stream::Stream;
use view::Start;
pub use view::View;

/// Silence after which it asks whether the server is there, and the time that it then waits.
const QUIET: Micros = 15 * SECOND;
const PATIENCE: Micros = 10 * SECOND;
/// How often it checks again while it can do nothing.
const PAUSE: Micros = 20 * MILLISECOND;

pub struct Client {
    pub index: usize,
    /// The number in its name, which another client may share.
    called: usize,
    /// Begins its sessions on sealed sockets.
    speaks_sealed: bool,
    pub phase: Phase,
    /// Its present socket.
    link: Option<usize>,
    line: Line,
    reading: Reading,
    heard: Micros,
    pinged: Option<Micros>,
    /// Failed attempts to connect in a row.
    failures: u32,
    pub identity: Option<Identity>,
    /// Its identity on this socket, if it does not resume its session.
    provisional: Option<Identity>,
    pub rooms: BTreeMap<usize, View>,
    outbox: Vec<Draft>,
    asked: BTreeMap<u64, Request>,
    next_id: u64,
    /// An acknowledged key, with its room and the start of the server.
    used_key: Option<(usize, String, u32)>,
    /// Sealed bodies of others, with their rooms; and the keys of others that its session has used.
    overheard: VecDeque<(usize, Sealed)>,
    taken: BTreeSet<(usize, String)>,
    /// Sockets that it has abandoned without closing them.
    old: BTreeMap<usize, Reader>,
    errands: BTreeMap<usize, Errand>,
    posts: Vec<Post>,
    /// The room that it follows over an event stream.
    stream: Option<Stream>,
    /// Malformed requests on this socket that may be answered without a number.
    nonsense: u32,
    /// Requests on this socket, and the number of them that were refused as faulty.
    said: u64,
    faults: Faults,
    /// Faulty requests on abandoned sockets: the most that there can have been.
    old_faults: BTreeMap<usize, u64>,
    /// Rooms that the server may have it in, uncertain since a socket was lost.
    unsure_rooms: usize,
    /// The socket on which it resumed its session, if it is the present one.
    resumed_on: Option<usize>,
    /// The session of each socket; and the sockets on which it presented a token, with the token's session.
    sessions: BTreeMap<usize, SessionId>,
    shown: Vec<(usize, Option<SessionId>)>,
    /// The code of its own close; and those on abandoned sockets.
    closed_with: Option<Option<u16>>,
    old_closes: BTreeMap<usize, Option<u16>>,
    is_leaving: bool,
    /// A ping that was sent right behind a signal, and the signal.
    signalled: Option<(u64, u64)>,
    /// The last rest, and the bytes that had come by then; and the time since which no more came between two rests than
    /// a queue holds.
    rested: (Micros, u64),
    roomy: Micros,
}

/// Requests of a socket that were refused as faulty, and when the client heard of the first, by the server's clock.
#[derive(Clone, Copy, Default)]
struct Faults {
    count: u64,
    since: Option<u64>,
}

/// An unanswered request.
struct Request {
    what: Asked,
    since: Micros,
    /// The server's clock when it was sent, in milliseconds.
    mono: u64,
    /// The client had heard the room's `joined` by then, and had not asked to leave it since.
    was_in_room: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Away {
        until: Micros,
    },
    /// Waits for `welcome`.
    Opening {
        since: Micros,
    },
    /// Waits for its session to be resumed.
    Resuming {
        id: u64,
        since: Micros,
    },
    Open,
    /// Has sent a close frame.
    Closing {
        since: Micros,
    },
}

/// How it reads its socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    All,
    /// Reads nothing before this time.
    Stopped {
        until: Micros,
    },
    /// Reads this many bytes per action.
    Dripping {
        bytes: usize,
        until: Micros,
    },
}

#[derive(Clone)]
pub struct Identity {
    token: String,
    pub member: String,
    /// The session began on a sealed socket.
    is_sealed: bool,
    /// The session began on a socket that nobody on the way can read: a sealed one, or by TLS.
    is_private: bool,
    /// The server has heard the client's name.
    is_named: bool,
    /// A token that was answered with a later one, which was then presented, too: it is no longer valid. With the start
    /// of the server that knows so.
    outdated: Option<(String, u32)>,
    /// The last token that was presented and answered.
    presented: Option<(String, u32)>,
}

/// A message that it wants to send.
struct Draft {
    room: usize,
    key: Option<String>,
    body: u64,
    text: String,
    /// It was sent on the present link, and not answered there.
    is_open: bool,
    /// The earliest time to send it.
    due: Micros,
    tries: u32,
}

/// The kind of a request.
#[derive(Debug)]
enum Asked {
    Join {
        room: usize,
    },
    Leave {
        room: usize,
    },
    Send {
        body: u64,
    },
    /// A message under a key that was used for another one.
    Reuse {
        room: usize,
        body: u64,
        run: u32,
    },
    History {
        wanted: Wanted,
    },
    Members {
        room: usize,
    },
    Resume {
        token: String,
        is_outdated: bool,
        presented: Presented,
    },
    /// A sealed body of another client.
    Replay(Replay),
    /// An encrypted signal, for which the server asks the store: its own number, or the body that it repeats.
    Signal {
        signal: Option<u64>,
        replay: Option<Replay>,
    },
    /// A body that must be refused with this code.
    Faulty {
        code: &'static str,
    },
    Ping,
    Nonsense,
}

impl Client {
    pub fn new(index: usize, called: usize, speaks_sealed: bool) -> Client {
        Client {
            index,
            called,
            speaks_sealed,
            phase: Phase::Away { until: 0 },
            link: None,
            line: Line::open(),
            reading: Reading::All,
            heard: 0,
            pinged: None,
            failures: 0,
            identity: None,
            provisional: None,
            rooms: BTreeMap::new(),
            outbox: Vec::new(),
            asked: BTreeMap::new(),
            next_id: 0,
            used_key: None,
            overheard: VecDeque::new(),
            taken: BTreeSet::new(),
            old: BTreeMap::new(),
            errands: BTreeMap::new(),
            posts: Vec::new(),
            stream: None,
            nonsense: 0,
            said: 0,
            faults: Faults::default(),
            old_faults: BTreeMap::new(),
            unsure_rooms: 0,
            resumed_on: None,
            sessions: BTreeMap::new(),
            shown: Vec::new(),
            closed_with: None,
            old_closes: BTreeMap::new(),
            is_leaving: false,
            signalled: None,
            rested: (0, 0),
            roomy: 0,
        }
    }

    /// Returns whether nobody on the way can read this link of its own.
    fn is_private(&self, link: usize, scene: &Scene) -> bool {
        self.line.is_sealed() || scene.links.get(link).secure
    }

    fn name(&self) -> String {
        format!("c{}", self.called)
    }

    fn trace(&self, scene: &mut Scene, what: impl FnOnce() -> String) {
        scene.trace.line(scene.now, format_args!("c{}", self.index), what);
    }

    // Links.

    /// Drops its socket, which is of no more use, and comes back after a while.
    fn drop_link(&mut self, scene: &mut Scene, wait: Micros) {
        self.link = None;
        self.provisional = None;
        self.line = Line::open();
        self.reading = Reading::All;
        self.pinged = None;
        // The server may still have it in a room that it asked to leave, and the other way round.
        let leaves = |request: &&Request| matches!(request.what, Asked::Leave { .. } | Asked::Join { .. });
        self.unsure_rooms += self.asked.values().filter(leaves).count();
        self.asked.clear();
        self.nonsense = 0;
        (self.said, self.faults) = (0, Faults::default());
        (self.resumed_on, self.closed_with) = (None, None);
        (self.signalled, self.rested) = (None, (0, 0));
        self.rooms.values_mut().for_each(View::detach);
        // Nobody can find out whether a message without a key was stored.
        self.outbox.retain(|draft| draft.key.is_some() || draft.tries == 0);
        for draft in &mut self.outbox {
            draft.is_open = false;
            draft.due = scene.now;
        }
        self.phase = Phase::Away { until: scene.now + wait };
    }

    /// Returns an exponential back-off with jitter.
    fn back_off(&mut self, scene: &mut Scene) -> Micros {
        self.failures = (self.failures + 1).min(6);
        scene.random.within((50 * MILLISECOND, (100 * MILLISECOND) << self.failures))
    }

    /// Abandons its socket, in one of the ways in which that happens.
    fn abandon(&mut self, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        match scene.random.below(4) {
            0 => scene.client_closes(link),
            1 => scene.client_resets(link),
            2 => scene.client_vanishes(link),
            _ => self.leave_open(link),
        }
        let wait = self.back_off(scene);
        self.drop_link(scene, wait);
    }

    /// Abandons a socket without closing it.
    fn leave_open(&mut self, link: usize) {
        if let Some(code) = self.line.forged.or(self.closed_with) {
            self.old_closes.insert(link, code);
        }
        let faults = self.faults.count + self.asked.len() as u64 + u64::from(self.nonsense);
        self.old_faults.insert(link, if self.line.is_spoilt { u64::MAX } else { faults });
        self.old.insert(link, std::mem::take(&mut self.line).into_reader());
    }

    /// Handles the arrival of bytes on a link.
    pub fn bytes(&mut self, link: usize, scene: &mut Scene) -> Checked {
        if self.link == Some(link) {
            if self.reading == Reading::All {
                self.read(link, usize::MAX, scene)?;
                self.flush(scene);
            }
            return Ok(());
        }
        if self.streams_on(link) {
            return self.stream_bytes(link, scene);
        }
        if self.errands.contains_key(&link) {
            return self.errand_bytes(link, scene);
        }
        let bytes = scene.client_reads(link, usize::MAX);
        let Some(reader) = self.old.get_mut(&link) else { return Ok(()) };
        reader.push(&bytes);
        self.hear_old(link, scene)
    }

    /// Reads up to `most` bytes of its socket, and handles them.
    fn read(&mut self, link: usize, most: usize, scene: &mut Scene) -> Checked {
        let bytes = scene.client_reads(link, most);
        if !bytes.is_empty() {
            self.heard = scene.now;
            self.pinged = None;
            self.line.push(&bytes);
            while self.link == Some(link) {
                match self.line.next() {
                    Ok(None) => break,
                    Ok(Some(said)) => self.hear(link, said, scene)?,
                    Err(fault) => return super::scene::violation("wire", fault),
                }
            }
        }
        if self.link == Some(link) && scene.links.get(link).has_ended() {
            self.trace(scene, || format!("link {link} has ended"));
            scene.client_closes(link);
            let wait = self.back_off(scene);
            self.drop_link(scene, wait);
        }
        Ok(())
    }

    /// Handles a broken link.
    pub fn lost(&mut self, link: usize, scene: &mut Scene) {
        if self.link == Some(link) {
            self.trace(scene, || format!("link {link} is lost"));
            let wait = self.back_off(scene);
            self.drop_link(scene, wait);
        } else if self.streams_on(link) {
            self.stream_lost(scene);
        } else if self.errands.contains_key(&link) {
            self.errand_over(link, scene);
        } else {
            self.old.remove(&link);
        }
    }

    // For the observers.

    /// Checks that it has received everything that it wanted and everything that its rooms hold. Otherwise says what is
    /// missing.
    pub fn is_settled(&self, scene: &Scene) -> Result<(), String> {
        if self.phase != Phase::Open {
            return Err(format!("c{} is {:?}", self.index, self.phase));
        }
        if let Some(draft) = self.outbox.first() {
            return Err(format!("c{} has not heard of body {} for r{}", self.index, draft.body, draft.room));
        }
        if !self.posts.is_empty() || !self.errands.is_empty() {
            return Err(format!("c{} waits for an answer over HTTP", self.index));
        }
        let listened = self.stream.as_ref().map(|stream| &stream.view);
        for view in self.rooms.values().chain(listened) {
            let told = scene.model.rooms[view.room].told;
            if !view.is_joined || view.next <= told {
                let state = if view.is_joined { "hears" } else { "is not in" };
                return Err(format!(
                    "c{} {state} r{}: it stands before {}, and {told} was told",
                    self.index, view.room, view.next
                ));
            }
        }
        Ok(())
    }

    /// Returns whether it is in this room.
    pub fn is_in(&self, room: usize) -> bool {
        self.rooms.get(&room).is_some_and(|view| view.is_joined)
    }

    /// Returns whether it is to leave for good.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Returns its member as others see it.
    pub fn member(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.member.as_str())
    }

    /// Checks that it has no link any more. Otherwise says which one.
    pub fn is_gone(&self) -> Result<(), String> {
        let streams = self.stream.as_ref().and_then(|stream| stream.link);
        let link = self.link.or(streams).or(self.old.keys().chain(self.errands.keys()).next().copied());
        link.map_or(Ok(()), |link| Err(format!("c{} has link {link} yet", self.index)))
    }

    /// Plans its next action: after a pause to think, but not while it has nothing to do.
    pub fn plan(&self, scene: &mut Scene) {
        if self.is_leaving && self.is_gone().is_ok() {
            return;
        }
        let thought = scene.now + scene.random.within(scene.mix.think);
        let is_idle = self.errands.is_empty() && self.posts.is_empty() && self.old.is_empty();
        let time = match self.phase {
            Phase::Away { until } if is_idle && !self.is_leaving => thought.max(until),
            Phase::Opening { .. } | Phase::Resuming { .. } | Phase::Closing { .. } => thought.max(scene.now + PAUSE),
            // No new work is begun any more.
            Phase::Open if scene.is_calm => thought.max(scene.now + PAUSE),
            _ => thought,
        };
        scene.agenda.at(time, Event::Act { client: self.index });
    }
}
