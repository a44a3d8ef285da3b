//! Strangers who flood the server beside honest clients, from one address with many connections or from many addresses,
//! which may be networks of one site.
//! No network lies between them and the server. A flood goes on for as many turns as the observer needs to judge it
//! (`fairness`). Strangers talk in rooms of their own, so that the model of the honest rooms holds; they read any room.
//! They are drawn from a random source of their own, so that a seed without them stays the same.

use racerd::chat::Chat;
use racerd::engine::Engine;
use racerd::testing::Random;

use super::fairness::Observer;
use super::faults::Mix;
use super::flood::Flood;
use super::limits::Limits;
use super::network::End;
use super::scene::{Checked, Scene};

/// One in this many runs has strangers.
const RUNS: usize = 8;
/// Turns that a flood goes on at least, and at most.
const TURNS: (u32, u32) = (20, 250);
/// Requests of the observer that a flood is to see answered.
const ANSWERS: u32 = 4;
/// Connections that strangers open anew in one turn.
const ANEW: usize = 8;

/// The strangers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    pub addresses: usize,
    /// Connections of each address.
    each: usize,
    /// The addresses are networks of one site (IPv6: /64s of a /48), eight of them in each /56.
    pub is_site: bool,
    /// A flood begins after this many actions of the clients.
    every: u64,
}

impl Crowd {
    pub fn draw(random: &mut Random) -> Crowd {
        if random.below(RUNS) > 0 {
            return Crowd::default();
        }
        let (addresses, each) = match random.below(3) {
            0 => (1, random.within((16, 40)) as usize),
            1 => (random.within((8, 24)) as usize, 1),
            _ => (random.within((2, 6)) as usize, random.within((2, 8)) as usize),
        };
        let every = random.within((100, 300));
        Crowd { addresses, each, every, is_site: random.coin() }
    }

    pub fn is_there(self) -> bool {
        self.addresses > 0
    }

    /// Draws limits under which a turn does not come to everybody, and addresses may have a rate, and
    /// all handshakes.
    pub fn limit(self, limits: Limits, random: &mut Random) -> Limits {
        if !self.is_there() {
            return limits;
        }
        let address_rate = if random.coin() { 0 } else { random.within((100, 400)) as u32 };
        let part = random.magnitude((1, 64)) as usize;
        // All addresses of a run have their turn in a second.
        let handshakes = if random.coin() { 0 } else { random.within((100, 300)) as u32 };
        Limits { part, address_rate, handshakes, ..limits }
    }
}

/// Returns whether a room is one of the strangers, or of their observer.
pub fn is_theirs(room: &str) -> bool {
    room.starts_with('x')
}

pub struct Strangers {
    random: Random,
    seats: Vec<Seat>,
    flood: Option<Wave>,
    /// The client actions at which the next flood begins.
    next: u64,
    made: u64,
    observer: Option<Observer>,
}

/// The place of one connection.
#[derive(Default)]
struct Seat {
    client: usize,
    link: Option<usize>,
}

/// A flood that goes on.
struct Wave {
    flood: Flood,
    turns: u32,
    /// Answers that the observer had before.
    answers: u32,
}

impl Strangers {
    pub fn new(mix: &Mix, seed: u64) -> Strangers {
        let Crowd { addresses, each, every, .. } = mix.crowd;
        let seat = |index: usize| Seat { client: mix.clients + index / each.max(1), link: None };
        Strangers {
            random: Random::new(!seed ^ 0x57a9),
            seats: (0..addresses * each).map(seat).collect(),
            flood: None,
            next: every,
            made: 0,
            observer: mix.crowd.is_there().then(|| Observer::new(mix.clients + addresses, !seed ^ 0xfa12)),
        }
    }

    /// Begins a flood when it is time for one.
    pub fn act(&mut self, scene: &mut Scene) {
        if self.seats.is_empty() || scene.is_calm || self.flood.is_some() || scene.tally.actions < self.next {
            return;
        }
        self.next = scene.tally.actions + scene.mix.crowd.every;
        let flood = *self.random.pick(&Flood::ALL);
        flood.count(&mut scene.tally);
        scene.tally.floods_of_a_site += u64::from(scene.mix.crowd.is_site);
        scene.trace.line(scene.now, "strangers", || format!("{flood:?}"));
        self.leave(scene);
        let answers = self.observer.as_ref().map_or(0, Observer::answers);
        self.flood = Some(Wave { flood, turns: 0, answers });
        self.pour(flood, scene);
    }

    /// Goes on after a turn of the server, and judges it.
    pub fn turned(&mut self, engine: &Engine<Chat>, scene: &mut Scene) -> Checked {
        let Some(observer) = &mut self.observer else { return Ok(()) };
        observer.judge(engine, scene)?;
        if scene.is_calm {
            if self.flood.take().is_some() || self.seats.iter().any(|seat| seat.link.is_some()) {
                self.leave(scene);
            }
            self.observer.iter_mut().for_each(|observer| observer.leave(scene));
            return Ok(());
        }
        let Some(wave) = &mut self.flood else { return Ok(()) };
        wave.turns += 1;
        let is_judged = observer.answers() >= wave.answers + ANSWERS && wave.turns >= TURNS.0;
        if is_judged || wave.turns >= TURNS.1 {
            self.flood = None;
            if self.random.coin() {
                self.leave(scene);
            }
            return Ok(());
        }
        observer.ask(scene);
        let flood = wave.flood;
        self.pour(flood, scene);
        Ok(())
    }

    /// Has each connection send more, if the server has read what it sent.
    fn pour(&mut self, flood: Flood, scene: &mut Scene) {
        let mut anew = ANEW;
        for seat in &mut self.seats {
            if let Some(link) = seat.link.filter(|link| scene.links.get(*link).is_over()) {
                scene.near_ends(link, false);
                seat.link = None;
            }
            if let Some(link) = seat.link.take_if(|_| flood.is_brief() && self.random.coin()) {
                scene.near_ends(link, self.random.coin());
            }
            if seat.link.is_none() && anew > 0 {
                anew -= 1;
                let secure = scene.mix.doors.private_only || self.random.coin();
                seat.link = scene.open_near_link(seat.client, secure);
                let begin = flood.opening(self.made, &mut self.random);
                self.made += 1;
                seat.link.iter().for_each(|link| scene.near_writes(*link, &begin));
            }
            let Some(link) = seat.link else { continue };
            if flood.reads() {
                scene.near_reads(link);
            }
            let end = scene.links.get(link);
            if matches!(end.server, End::Open(_)) && end.unread() == 0 {
                let more = flood.more(self.made, &mut self.random);
                self.made += 1;
                if !more.is_empty() {
                    scene.near_writes(link, &more);
                }
            }
        }
    }

    /// Ends all connections.
    fn leave(&mut self, scene: &mut Scene) {
        for link in self.seats.iter_mut().filter_map(|seat| seat.link.take()) {
            scene.near_ends(link, self.random.coin());
        }
    }
}
