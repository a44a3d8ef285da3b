//! Sessions that came back lately. Those who come back go before newcomers and have places of their own, but a token
//! is free to copy: so each session counts once every few seconds, on the connection that shows it first.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap};

use crate::types::{ConnId, Millis, Network, shares_of};

/// Milliseconds for which a session that came back is worth nothing on any other connection.
const LATELY: u64 = 5000;
/// Sessions that are remembered of one address; of its wider networks, so many for each of their shares. Whoever has
/// reached that pays by itself: its further ones come as newcomers until the first of them is forgotten.
const MOST_OF_ADDRESS: usize = 256;
/// Sessions that are remembered in all. Past that the oldest is forgotten, so that its token counts again a little too
/// soon: nobody comes as a newcomer because of the sessions of others.
pub const MAX_RETURNS: usize = 4096;
/// Bytes that each of them takes, with its share of the maps.
pub const RETURN_BYTES: usize = 2 * (size_of::<(SessionMark, Return)>() + size_of::<(Millis, SessionMark)>());

/// Tells sessions apart: the same for all tokens of one, and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionMark(pub [u8; 16]);

/// How far a connection has come that has shown a session's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It stands in the line of handshakes. If it leaves, it has taken nothing.
    Line,
    /// It has its handshake, or a place that was kept.
    Past,
}

#[derive(Clone, Copy, Debug)]
struct Return {
    conn: ConnId,
    gate: Gate,
    until: Millis,
    /// Who pays; `None` for loopback and a trusted proxy's own.
    address: Option<IpAddr>,
}

/// The sessions that came back lately.
#[derive(Debug, Default)]
pub struct Returns {
    sessions: HashMap<SessionMark, Return>,
    ends: BTreeSet<(Millis, SessionMark)>,
    /// How many of each network are remembered, of the wider ones, too.
    counts: HashMap<Network, usize>,
}

impl Returns {
    /// Returns whether a connection that shows a token of this session comes back. `is_in_line` tells whether another
    /// one waits for its handshake.
    pub fn comes_back(
        &self,
        session: SessionMark,
        conn: ConnId,
        address: Option<IpAddr>,
        now: Millis,
        is_in_line: impl Fn(ConnId) -> bool,
    ) -> bool {
        match self.sessions.get(&session).filter(|known| known.until > now) {
            Some(known) => known.conn == conn || known.gate == Gate::Line && !is_in_line(known.conn),
            None => networks(address).all(|(network, most)| self.count(network) < most),
        }
    }

    /// Notes that a connection came back with a token of this session.
    pub fn note(&mut self, session: SessionMark, conn: ConnId, gate: Gate, address: Option<IpAddr>, now: Millis) {
        let known = self.sessions.get(&session).filter(|known| known.conn == conn && known.until > now);
        let until = known.map_or(now.after(LATELY), |known| known.until);
        self.forget(session);
        while let Some((end, oldest)) = self.ends.first().copied()
            && (end <= now || self.ends.len() >= MAX_RETURNS)
        {
            self.forget(oldest);
        }
        self.sessions.insert(session, Return { conn, gate, until, address });
        self.ends.insert((until, session));
        networks(address).for_each(|(network, _)| *self.counts.entry(network).or_default() += 1);
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or_default()
    }

    fn forget(&mut self, session: SessionMark) {
        let Some(known) = self.sessions.remove(&session) else { return };
        self.ends.remove(&(known.until, session));
        for (network, _) in networks(known.address) {
            if let Some(count) = self.counts.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&network);
                }
            }
        }
    }
}

/// Returns the networks that pay for a session of this address, and how many each may have.
fn networks(address: Option<IpAddr>) -> impl Iterator<Item = (Network, usize)> {
    address.into_iter().flat_map(shares_of).map(|(network, shares)| (network, MOST_OF_ADDRESS * shares as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(10);

    fn session(number: u32) -> SessionMark {
        let mut id = [7; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        SessionMark(id)
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn come(returns: &mut Returns, number: u32, address: Option<IpAddr>, now: Millis) -> bool {
        let comes_back = returns.comes_back(session(number), conn(number), address, now, |_| false);
        if comes_back {
            returns.note(session(number), conn(number), Gate::Past, address, now);
        }
        comes_back
    }

    #[test]
    fn an_address_pays_for_its_own_sessions() {
        let mut returns = Returns::default();
        let of = |network: u32| -> Option<IpAddr> { format!("2001:db8:0:{network:x}::1").parse().ok() };
        let count = |returns: &mut Returns, from: u32, networks: u32, step: u32| {
            (from..from + 2000).filter(|n| come(returns, *n, of(n % networks * step), NOW)).count()
        };
        assert_eq!(count(&mut returns, 0, 1, 1), MOST_OF_ADDRESS, "a /64");
        assert_eq!(count(&mut returns, 2000, 256, 1), 3 * MOST_OF_ADDRESS, "its /56 has four shares");
        assert!(come(&mut returns, 9000, of(0x100), NOW), "the next /56 has its own");
        assert!(come(&mut returns, 9001, "192.0.2.1".parse().ok(), NOW));
        assert!((10_000..10_500).all(|n| come(&mut returns, n, None, NOW)), "loopback is many");
        assert!(!come(&mut returns, 9002, of(0), NOW.after(LATELY - 1)));
        assert!(come(&mut returns, 9003, None, NOW.after(LATELY)));
        assert!(come(&mut returns, 9004, of(0), NOW.after(LATELY)), "what is over costs nothing");
        assert_eq!((returns.sessions.len(), returns.ends.len(), returns.counts.len()), (2, 2, 3));
    }

    /// Nobody comes as a newcomer because of the sessions of others, and the number that is kept is bounded.
    #[test]
    fn past_the_bound_of_all_the_oldest_is_forgotten() {
        let mut returns = Returns::default();
        for n in 0..3 * MAX_RETURNS as u32 {
            let address = IpAddr::from(((n / 100) | (1 << 30)).to_be_bytes());
            assert!(come(&mut returns, n, Some(address), NOW.after(u64::from(n / 100))), "{n}");
            assert!(returns.sessions.len() <= MAX_RETURNS && returns.ends.len() == returns.sessions.len());
        }
        let comes_back = |n: u32| returns.comes_back(session(n), conn(1), None, NOW.after(200), |_| false);
        assert!(comes_back(0) && !comes_back(3 * MAX_RETURNS as u32 - 1));
    }
}
