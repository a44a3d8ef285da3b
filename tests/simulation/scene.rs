//! The state that clients, links, store and server share: the time, the randomness, the links, and the observers.

use racerd::crypto::sealed::SealedKey;
use racerd::testing::Random;
use racerd::types::Millis;

use super::agenda::{Agenda, Event, Micros};
use super::clock::Clock;
use super::ends::Ends;
use super::faults::Mix;
use super::here::Here;
use super::model::Model;
use super::network::Links;
use super::settings::History;
use super::signals::Signals;
use super::tally::Tally;
use super::trace::Trace;
use super::witness::Witness;

/// A violation: the checker that found it, and its description.
#[derive(Clone, Debug)]
pub struct Violation {
    pub checker: &'static str,
    pub text: String,
}

pub type Checked<T = ()> = Result<T, Violation>;

/// Returns a violation as a checker's verdict.
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
    /// The limits that the server has had since it started; `mix` has the present ones.
    pub limits: History,
    pub links: Links,
    pub model: Model,
    pub tally: Tally,
    pub trace: Trace,
    pub witness: Witness,
    /// The members of each room.
    pub here: Here,
    /// The signals that were sent.
    pub signals: Signals,
    /// What ends sessions over sealed sockets.
    pub ends: Ends,
    /// The server's key for sealed sockets, in a file of its own: it outlives every log.
    pub key: SealedKey,
    /// Whether a server accepts connections.
    pub is_listening: bool,
    /// Faults have ended; every client is to get live.
    pub is_calm: bool,
    /// The server's loop has work to do at once.
    pub is_turn_due: bool,
    /// Until when rooms rest that have something to tell, by the server's clock.
    pub rests_until: Option<Millis>,
    /// The number of this start of the server, from 0.
    pub run: u32,
    /// The epoch of each start.
    pub epochs: Vec<String>,
}

impl Scene {
    /// Schedules an event after a random delay within the bounds.
    pub fn later(&mut self, bounds: (Micros, Micros), event: Event) {
        let time = self.now + self.random.within(bounds);
        self.agenda.at(time, event);
    }

    /// Returns the epoch of the server that this link leads to, or led to.
    pub fn epoch_of(&self, link: usize) -> &str {
        &self.epochs[self.links.get(link).run as usize]
    }

    /// Returns whether this link's server is the one that runs now.
    pub fn is_of_this_run(&self, link: usize) -> bool {
        self.links.get(link).run == self.run
    }

    /// Returns whether the log is still the one of this link's server.
    pub fn is_of_this_epoch(&self, link: usize) -> bool {
        self.model.epoch == self.epoch_of(link)
    }

    pub fn latency(&mut self) -> Micros {
        self.now + self.random.within(self.mix.network.latency)
    }
}
