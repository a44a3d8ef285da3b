//! How many may come: from one address, and in all. Knows addresses and numbers, no connection and no request.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;

use crate::conn::{Bucket, Rate, Turns};
use crate::http::problem::Problem;
use crate::types::{Millis, Network};

/// Limits per address, IPv6 by /64, and one for all handshakes. Loopback and trusted proxies are left out of the limits
/// per address: everyone behind them has the same.
///
/// An address is kept while it has connections or its bucket is not full. The latter is so only for some seconds after a
/// handshake that was let in, so that what is kept is bounded by the connections and the rate of all handshakes,
/// whatever addresses a proxy names.
#[derive(Debug)]
pub struct Admission {
    /// Connections of one address; 0 for no limit.
    pub per_address: u32,
    pub handshakes_per_address: Rate,
    pub handshakes: Rate,
    /// Proxies that may say for whom they ask.
    pub trusted: Vec<Network>,
    all: Bucket,
    turns: Turns,
    addresses: HashMap<IpAddr, Address>,
    /// With so many addresses those that need not be kept are looked for.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    connections: u32,
    handshakes: Bucket,
    /// Of those who were refused.
    turns: Turns,
}

/// Addresses kept before any are looked for that need not be.
const MANY: usize = 1024;

impl Admission {
    pub fn new(per_address: u32, handshakes_per_address: Rate, handshakes: Rate) -> Admission {
        Admission {
            per_address,
            handshakes_per_address,
            handshakes,
            trusted: Vec::new(),
            all: Bucket::default(),
            turns: Turns::default(),
            addresses: HashMap::new(),
            sweep_at: MANY,
        }
    }

    /// The same with these proxies.
    pub fn trusting(self, trusted: Vec<Network>) -> Admission {
        Admission { trusted, ..self }
    }

    /// Other limits and proxies, with what was counted so far.
    pub(super) fn keep_within(&mut self, limits: Admission) {
        let (all, turns, addresses) = (self.all, self.turns, std::mem::take(&mut self.addresses));
        *self = Admission { all, turns, addresses, ..limits };
    }

    /// Connections that count against some address.
    pub fn counted(&self) -> usize {
        self.addresses.values().map(|address| address.connections as usize).sum()
    }

    /// May one more connection come from there?
    ///
    /// # Errors
    /// 429: that address has as many as it may.
    pub fn may_connect(&self, address: IpAddr) -> Result<(), Problem> {
        let held = self.addresses.get(&key(address)).map_or(0, |a| a.connections);
        match self.per_address > 0 && held >= self.per_address && !self.is_exempt(address) {
            true => Err(Problem::too_many("too many connections from this address", 1000)),
            false => Ok(()),
        }
    }

    /// Counts one more connection of this address. False if the address has no limits now: then nothing is to be
    /// uncounted either, even if the address has limits by then.
    pub fn count(&mut self, address: IpAddr, now: Millis) -> bool {
        if self.is_exempt(address) {
            return false;
        }
        self.sweep(now);
        self.addresses.entry(key(address)).or_default().connections += 1;
        true
    }

    /// A connection that was counted is gone.
    pub fn uncount(&mut self, address: IpAddr, now: Millis) {
        let key = key(address);
        let Some(known) = self.addresses.get_mut(&key) else { return };
        known.connections = known.connections.saturating_sub(1);
        if known.connections == 0 && known.handshakes.is_full(now) {
            self.addresses.remove(&key);
        }
    }

    /// May one more WebSocket or event stream be opened from there? Takes it from the rates if so.
    ///
    /// # Errors
    /// 429 if that address is too fast, 503 if all together are.
    pub fn handshake(&mut self, address: IpAddr, now: Millis) -> Result<(), Problem> {
        let own = (!self.is_exempt(address)).then(|| key(address));
        let mut bucket = own.and_then(|key| self.addresses.get(&key)).map(|a| a.handshakes).unwrap_or_default();
        if own.is_some() {
            let taken = bucket.take(self.handshakes_per_address, now);
            taken.map_err(|ms| {
                // Who is refused has spent something, so the address is known.
                let known = own.and_then(|key| self.addresses.get_mut(&key));
                let ms = known.map_or(ms, |known| known.turns.next(self.handshakes_per_address, ms, now));
                Problem::too_many("too many handshakes from this address", ms)
            })?;
        }
        let taken = self.all.take(self.handshakes, now);
        taken.map_err(|ms| {
            let ms = self.turns.next(self.handshakes, ms, now);
            Problem::unavailable("too many handshakes at the moment", ms.div_ceil(1000).max(1))
        })?;
        if let Some(key) = own
            && !bucket.is_full(now)
        {
            self.sweep(now);
            self.addresses.entry(key).or_default().handshakes = bucket;
        }
        Ok(())
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.trusted.iter().any(|network| network.contains(address))
    }

    /// Forgets whom there is no cause to remember. Doubling where nobody is forgotten keeps its cost a constant for each
    /// address that comes.
    fn sweep(&mut self, now: Millis) {
        if self.addresses.len() >= self.sweep_at {
            // Which are forgotten does not depend on the order of this walk.
            self.addresses.retain(|_, a| a.connections > 0 || !a.handshakes.is_full(now));
            self.sweep_at = MANY.max(2 * self.addresses.len());
        }
    }
}

/// What counts as one address: the whole of IPv4, the network (/64) of IPv6.
pub(super) fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !0u128 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(per_address: u32, rate: u32, all: u32) -> Admission {
        Admission::new(per_address, Rate::new(rate, 1000, 2 * rate), Rate::new(all, 1000, 2 * all))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_and_proxies_have_no_limits() {
        let mut admission = admission(1, 1, 0).trusting(vec![Network::parse("10.0.0.0/8").unwrap()]);
        for free in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.9.9.9", "::ffff:10.9.9.9"] {
            for _ in 0..5 {
                assert!(!admission.count(ip(free), Millis(1)), "{free}");
                assert_eq!(admission.may_connect(ip(free)), Ok(()));
                assert_eq!(admission.handshake(ip(free), Millis(1)), Ok(()));
            }
        }
        assert_eq!(admission.addresses.len(), 0);
        assert!(admission.count(ip("11.0.0.1"), Millis(1)));
        assert!(admission.may_connect(ip("11.0.0.1")).is_err());
    }

    /// The list of proxies may change while an address has connections.
    #[test]
    fn what_was_counted_is_uncounted_whoever_is_trusted_by_then() {
        let mut admission = admission(1, 0, 0);
        assert!(admission.count(ip("10.0.0.1"), Millis(1)));
        let trusting = self::admission(1, 0, 0).trusting(vec![Network::parse("10.0.0.0/8").unwrap()]);
        admission.keep_within(trusting);
        assert_eq!((admission.may_connect(ip("10.0.0.1")), admission.counted()), (Ok(()), 1));
        admission.uncount(ip("10.0.0.1"), Millis(2));
        admission.keep_within(self::admission(1, 0, 0));
        assert_eq!((admission.may_connect(ip("10.0.0.1")), admission.counted()), (Ok(()), 0));
        assert_eq!(admission.addresses.len(), 0);
    }

    #[test]
    fn what_was_counted_stays_counted_with_other_limits() {
        let mut admission = admission(0, 0, 0);
        let peer = ip("192.0.2.1");
        assert!(admission.count(peer, Millis(0)) && admission.count(peer, Millis(0)));
        admission.keep_within(Admission::new(1, Rate::new(1, 1000, 1), Rate::new(0, 1, 1)));
        assert!(admission.may_connect(peer).is_err(), "two are there");
        assert!(admission.handshake(peer, Millis(0)).is_ok() && admission.handshake(peer, Millis(0)).is_err());
    }

    /// However many addresses a proxy names: what is kept is bounded by what was let in within some seconds.
    #[test]
    fn addresses_without_connections_are_bounded() {
        let mut admission = admission(256, 20, 100);
        let mut most = 0;
        let mut admitted = 0;
        for n in 0..200_000u32 {
            let now = Millis(1 + u64::from(n) / 20);
            admitted += usize::from(admission.handshake(IpAddr::from((n | 1 << 30).to_be_bytes()), now).is_ok());
            most = most.max(admission.addresses.len());
        }
        // 200 at once, then 100 a second for 10 s.
        assert!((1190..=1210).contains(&admitted), "{admitted}");
        assert!(most <= MANY, "{most}");
        // No limit for all: a bucket is full again after 50 ms, and one address forgotten for each that comes.
        admission.handshakes = Rate::new(0, 1000, 1);
        for n in 0..200_000u32 {
            let now = Millis(60_000 + u64::from(n) / 20);
            assert_eq!(admission.handshake(IpAddr::from((n | 1 << 30).to_be_bytes()), now), Ok(()));
            most = most.max(admission.addresses.len());
        }
        assert!(most <= 2 * 1024 + 2, "{most}");
        // Nor does a connection that went leave anything.
        for n in 0..10_000u32 {
            let address = IpAddr::from((n | 1 << 31).to_be_bytes());
            assert!(admission.count(address, Millis(80_000)));
            admission.uncount(address, Millis(80_000));
        }
        assert!(admission.addresses.len() <= most);
    }

    /// Those with connections are never forgotten, and looking for others does not become a habit.
    #[test]
    fn addresses_with_connections_stay() {
        let mut admission = admission(1, 0, 0);
        for n in 0..10_000u32 {
            assert!(admission.count(IpAddr::from((n | 1 << 31).to_be_bytes()), Millis(1)));
        }
        assert!((0..10_000u32).all(|n| admission.may_connect(IpAddr::from((n | 1 << 31).to_be_bytes())).is_err()));
        assert!(admission.sweep_at > 10_000);
    }

    #[test]
    fn who_is_refused_by_all_pays_nothing_of_its_own() {
        let mut admission = admission(0, 1, 1);
        assert_eq!(admission.handshake(ip("1.2.3.4"), Millis(1)), Ok(()));
        assert_eq!(admission.handshake(ip("1.2.3.5"), Millis(1)), Ok(()));
        assert_eq!(admission.handshake(ip("1.2.3.4"), Millis(1)).unwrap_err().status.code(), 503);
        assert_eq!(admission.handshake(ip("1.2.3.6"), Millis(1)).unwrap_err().status.code(), 503);
        assert_eq!(admission.addresses.len(), 2);
        assert_eq!(admission.handshake(ip("1.2.3.4"), Millis(1001)), Ok(()));
        assert_eq!(admission.handshake(ip("1.2.3.4"), Millis(1001)).unwrap_err().status.code(), 503);
    }
}
