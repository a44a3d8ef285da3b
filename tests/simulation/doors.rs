//! By which doors clients come: a listener with TLS or one without, and what the server tells by which of them. Drawn by a
//! source of chance of its own, so that the rest of a seed's run is what it is without.

use super::random::{Ppm, Random};
use super::scene::Scene;

#[derive(Clone, Copy, Debug, Default)]
pub struct Doors {
    /// Of each connection: it comes by TLS. What TLS itself does is not simulated.
    pub secure: Ppm,
    /// Nothing is told in the clear: `--require-sealed`.
    pub private_only: bool,
    /// Weight against 1000 of a send: who is in a room is asked over HTTP.
    pub rosters: usize,
}

impl Doors {
    pub fn draw(random: &mut Random) -> Doors {
        let (secure, private_only) = match random.below(8) {
            0 => (random.within((500_000, 1_000_000)) as Ppm, true),
            1 | 2 => (random.within((50_000, 950_000)) as Ppm, false),
            _ => (0, false),
        };
        let rosters = if random.below(3) == 0 { random.magnitude((5, 100)) as usize } else { 0 };
        Doors { secure, private_only, rosters }
    }
}

impl Scene {
    /// Does the next connection come by TLS? Once faults have ended, it does where it has to.
    pub fn is_next_secure(&mut self) -> bool {
        let Doors { secure, private_only, .. } = self.mix.doors;
        self.is_calm && private_only || self.random.chance(secure)
    }

    /// Is nothing to be told on this link, unless it is sealed?
    pub fn is_too_open(&self, link: usize) -> bool {
        self.mix.doors.private_only && !self.links.get(link).secure
    }
}
