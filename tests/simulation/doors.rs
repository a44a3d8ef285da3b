//! The listeners through which clients connect, with TLS or without, and what the server may say on each. Drawn from a
//! random source of its own, so that the rest of a seed's run stays the same without them.

use racerd::testing::{Ppm, Random};

use super::scene::{Checked, Scene, violation};

/// Connections above the limit that are accepted only to be told so.
pub const EXCESS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
pub struct Doors {
    /// The share of connections that use TLS. TLS itself is not simulated.
    pub secure: Ppm,
    /// Nothing is sent in the clear: `--require-sealed`.
    pub private_only: bool,
    /// Weight against 1000 of a send: asking over HTTP for a room's members.
    pub rosters: usize,
    /// The connection limit, excess connections not counted; 0 for none.
    pub max_connections: usize,
}

impl Doors {
    pub fn draw(random: &mut Random) -> Doors {
        let (secure, private_only) = match random.below(8) {
            0 => (random.within((500_000, 1_000_000)) as Ppm, true),
            1 | 2 => (random.within((50_000, 950_000)) as Ppm, false),
            _ => (0, false),
        };
        let rosters = if random.below(3) == 0 { random.magnitude((5, 100)) as usize } else { 0 };
        let max_connections = if random.below(6) == 0 { random.within((1, 12)) as usize } else { 0 };
        Doors { secure, private_only, rosters, max_connections }
    }
}

impl Scene {
    /// Decides whether the next connection uses TLS. Once faults have ended, it does if it has to.
    pub fn is_next_secure(&mut self) -> bool {
        let Doors { secure, private_only, .. } = self.mix.doors;
        self.is_calm && private_only || self.random.chance(secure)
    }

    /// Judges an answer: an excess connection is told that and nothing else, and no other connection is.
    pub fn judge_excess(&mut self, link: usize, status: u16, text: &str) -> Checked {
        if !self.is_of_this_run(link) {
            return Ok(());
        }
        let is_excess = self.witness.is_excess(link);
        let is_full = status == 503 && text.contains("\"code\":\"full\"");
        self.tally.full += u64::from(is_full);
        // Its address has too many connections, or the server is stopping.
        let is_other = status == 429 || status == 503 && self.witness.is_stopping;
        if is_full == is_excess || is_excess && is_other {
            return Ok(());
        }
        violation("5: who comes in excess is told so", format!("in excess: {is_excess}, link {link}: {status} {text}"))
    }

    /// Returns whether the server must say nothing on this link unless it is sealed.
    pub fn is_too_open(&self, link: usize) -> bool {
        self.mix.doors.private_only && !self.links.get(link).secure
    }
}
