//! A client that uses the real protocol: it comes by a new link, gets its session back with its token and its cursors,
//! repeats what was not acknowledged under the same key, backs off. What it does next, `acts` says; what it makes of
//! what it hears, `hears`, with `coming` for how it gets in and `refusals` for what it is refused; what it does over
//! HTTP, `errands`.

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

/// Silence after which it asks whether somebody is there, and then how long it waits.
const QUIET: Micros = 15 * SECOND;
const PATIENCE: Micros = 10 * SECOND;
/// How often it looks up while it can do nothing.
const PAUSE: Micros = 20 * MILLISECOND;

pub struct Client {
    pub index: usize,
    /// The number in its name, which another may have, too.
    called: usize,
    /// It begins its sessions on sealed sockets.
    speaks_sealed: bool,
    pub phase: Phase,
    /// Its socket.
    link: Option<usize>,
    line: Line,
    reading: Reading,
    heard: Micros,
    pinged: Option<Micros>,
    /// Attempts to connect that failed in a row.
    failures: u32,
    pub identity: Option<Identity>,
    /// Who it would be on this socket, if it does not get its session back.
    provisional: Option<Identity>,
    pub rooms: BTreeMap<usize, View>,
    outbox: Vec<Draft>,
    asked: BTreeMap<u64, Request>,
    next_id: u64,
    /// A key that was acknowledged, with its room and the start of the server.
    used_key: Option<(usize, String, u32)>,
    /// What others have sealed, with its room; and the keys of others that its session has used.
    overheard: VecDeque<(usize, Sealed)>,
    taken: BTreeSet<(usize, String)>,
    /// Sockets that it has given up and not closed.
    old: BTreeMap<usize, Reader>,
    errands: BTreeMap<usize, Errand>,
    posts: Vec<Post>,
    /// What it listens to, over an event stream.
    stream: Option<Stream>,
    /// Nonsense sent on this socket, that may be answered without a number.
    nonsense: u32,
    /// Requests made on this socket, and those of them that were refused as faulty.
    said: u64,
    faults: Faults,
    /// Of sockets that it has given up: as many as there can have been.
    old_faults: BTreeMap<usize, u64>,
    /// Rooms that the server may know it in, which it lost count of with a socket.
    unsure_rooms: usize,
    /// The socket on which it got its session back, if the present one.
    resumed_on: Option<usize>,
    /// The session of each socket, and the sockets on which a token was shown, with its session.
    sessions: BTreeMap<usize, SessionId>,
    shown: Vec<(usize, Option<SessionId>)>,
    /// The code of its own close; and those on sockets that it has given up.
    closed_with: Option<Option<u16>>,
    old_closes: BTreeMap<usize, Option<u16>>,
    is_leaving: bool,
    /// A ping that was said right behind a signal, and the signal.
    signalled: Option<(u64, u64)>,
    /// The last rest, and the bytes that had come by then; and since when there was no more between two than a queue
    /// takes.
    rested: (Micros, u64),
    roomy: Micros,
}

/// Requests of a socket that were refused as faulty, and when the first was heard to be, by the server's clock.
#[derive(Clone, Copy, Default)]
struct Faults {
    count: u64,
    since: Option<u64>,
}

/// A request that is not answered.
struct Request {
    what: Asked,
    since: Micros,
    /// The server's clock then, in milliseconds.
    mono: u64,
    /// It had heard `joined` of the room that the request is for, and not asked to leave since.
    was_in_room: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Away {
        until: Micros,
    },
    /// It waits for `welcome`.
    Opening {
        since: Micros,
    },
    /// It waits to get its session back.
    Resuming {
        id: u64,
        since: Micros,
    },
    Open,
    /// It has sent a close frame.
    Closing {
        since: Micros,
    },
}

/// How it reads what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    All,
    /// Not before this time.
    Stopped {
        until: Micros,
    },
    /// So many bytes each time that it does something.
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
    /// On one that nobody on the way can read: sealed, or by TLS.
    is_private: bool,
    /// The server has heard the client's name.
    is_named: bool,
    /// A token that was presented and answered with a later one which was presented, too: it is good no more. With the
    /// start of the server that knows so.
    outdated: Option<(String, u32)>,
    /// The last token that was presented and answered.
    presented: Option<(String, u32)>,
}

/// Something that it wants said.
struct Draft {
    room: usize,
    key: Option<String>,
    body: u64,
    text: String,
    /// It was sent on the present link, and not answered there.
    is_open: bool,
    /// Not to be sent before.
    due: Micros,
    tries: u32,
}

/// What it asks.
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
    /// With a key that was used for something else.
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
    /// What another has sealed.
    Replay(Replay),
    /// An encrypted signal, which the store is asked about: its own number, or whose body it is.
    Signal {
        signal: Option<u64>,
        replay: Option<Replay>,
    },
    /// What is to be refused with this code.
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

    /// Can nobody on the way read what is said on this link of its own?
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

    /// The socket is of no use any more: it comes back after a while.
    fn drop_link(&mut self, scene: &mut Scene, wait: Micros) {
        self.link = None;
        self.provisional = None;
        self.line = Line::open();
        self.reading = Reading::All;
        self.pinged = None;
        // What it had asked to leave, the server may know it in yet, and the other way round.
        let leaves = |request: &&Request| matches!(request.what, Asked::Leave { .. } | Asked::Join { .. });
        self.unsure_rooms += self.asked.values().filter(leaves).count();
        self.asked.clear();
        self.nonsense = 0;
        (self.said, self.faults) = (0, Faults::default());
        (self.resumed_on, self.closed_with) = (None, None);
        (self.signalled, self.rested) = (None, (0, 0));
        self.rooms.values_mut().for_each(View::detach);
        // Whether something without a key was stored, nobody can find out.
        self.outbox.retain(|draft| draft.key.is_some() || draft.tries == 0);
        for draft in &mut self.outbox {
            draft.is_open = false;
            draft.due = scene.now;
        }
        self.phase = Phase::Away { until: scene.now + wait };
    }

    /// Exponential, with chance in it.
    fn back_off(&mut self, scene: &mut Scene) -> Micros {
        self.failures = (self.failures + 1).min(6);
        scene.random.within((50 * MILLISECOND, (100 * MILLISECOND) << self.failures))
    }

    /// It gives its socket up, in one of the ways in which that happens.
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

    /// It gives a socket up, and does not close it.
    fn leave_open(&mut self, link: usize) {
        if let Some(code) = self.closed_with {
            self.old_closes.insert(link, code);
        }
        let faults = self.faults.count + self.asked.len() as u64 + u64::from(self.nonsense);
        self.old_faults.insert(link, if self.line.is_spoilt { u64::MAX } else { faults });
        self.old.insert(link, std::mem::take(&mut self.line).into_reader());
    }

    /// Bytes have come on a link.
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

    /// It reads so many bytes of its socket, and what they say.
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

    /// A link broke.
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

    // For those who watch.

    /// Has it all that it wanted, and all that its rooms hold? If not, what is missing.
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

    /// Is it in this room?
    pub fn is_in(&self, room: usize) -> bool {
        self.rooms.get(&room).is_some_and(|view| view.is_joined)
    }

    /// Is it to go, and not to come back?
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Who it is to others.
    pub fn member(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.member.as_str())
    }

    /// Has it no link any more? If not, which.
    pub fn is_gone(&self) -> Result<(), String> {
        let streams = self.stream.as_ref().and_then(|stream| stream.link);
        let link = self.link.or(streams).or(self.old.keys().chain(self.errands.keys()).next().copied());
        link.map_or(Ok(()), |link| Err(format!("c{} has link {link} yet", self.index)))
    }

    /// When it does the next thing: after a thought, but not while there is nothing to do.
    pub fn plan(&self, scene: &mut Scene) {
        if self.is_leaving && self.is_gone().is_ok() {
            return;
        }
        let thought = scene.now + scene.random.within(scene.mix.think);
        let is_idle = self.errands.is_empty() && self.posts.is_empty() && self.old.is_empty();
        let time = match self.phase {
            Phase::Away { until } if is_idle && !self.is_leaving => thought.max(until),
            Phase::Opening { .. } | Phase::Resuming { .. } | Phase::Closing { .. } => thought.max(scene.now + PAUSE),
            // Nothing new is begun any more.
            Phase::Open if scene.is_calm => thought.max(scene.now + PAUSE),
            _ => thought,
        };
        scene.agenda.at(time, Event::Act { client: self.index });
    }
}
