//! What clients, links, store and server share: the time, the chance, the links between them, and those who watch.

use racerd::crypto::sealed::SealedKey;

use super::agenda::{Agenda, Event, Micros};
use super::clock::Clock;
use super::faults::Mix;
use super::here::Here;
use super::model::Model;
use super::network::Links;
use super::random::Random;
use super::settings::History;
use super::signals::Signals;
use super::tally::Tally;
use super::trace::Trace;
use super::witness::Witness;

/// What must not be was seen: who found it, and what it is.
#[derive(Clone, Debug)]
pub struct Violation {
    pub checker: &'static str,
    pub text: String,
}

pub type Checked<T = ()> = Result<T, Violation>;

/// A checker's verdict.
pub fn violation<T>(checker: &'static str, text: impl Into<String>) -> Checked<T> {
    Err(Violation { checker, text: text.into() })
}

pub struct Scene {
    pub now: Micros,
    /// The clocks that the server reads.
    pub clock: Clock,
    pub agenda: Agenda,
    pub random: Random,
    pub mix: Mix,
    /// Which limits the server has had since it started; `mix` has those of now.
    pub limits: History,
    pub links: Links,
    pub model: Model,
    pub tally: Tally,
    pub trace: Trace,
    pub witness: Witness,
    /// Who is in each room.
    pub here: Here,
    /// Signals that were said.
    pub signals: Signals,
    /// The server's key of sealed sockets, in a file of its own: it outlives every log.
    pub key: SealedKey,
    /// Does a server take connections?
    pub is_listening: bool,
    /// Faults have ended; everyone is to get live.
    pub is_calm: bool,
    /// The server's loop has something to do at once.
    pub is_turn_due: bool,
    /// Which start of the server this is, from 0.
    pub run: u32,
    /// The epoch of each start.
    pub epochs: Vec<String>,
}

impl Scene {
    /// Has this happen after some time within the bounds.
    pub fn later(&mut self, bounds: (Micros, Micros), event: Event) {
        let time = self.now + self.random.within(bounds);
        self.agenda.at(time, event);
    }

    /// The epoch of the server that this link leads to, or led to.
    pub fn epoch_of(&self, link: usize) -> &str {
        &self.epochs[self.links.get(link).run as usize]
    }

    /// Is the log still the one that this link's server spoke of?
    pub fn is_of_this_epoch(&self, link: usize) -> bool {
        self.model.epoch == self.epoch_of(link)
    }

    pub fn latency(&mut self) -> Micros {
        self.now + self.random.within(self.mix.network.latency)
    }
}
