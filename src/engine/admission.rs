//! Limits on connections, handshakes and requests, from one address and in all. Knows addresses and numbers, but no
//! connection and no request.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;

use super::handshake_line::Coming;
use crate::conn::{Bucket, Rate, RetrySlots};
use crate::http::problem::Problem;
use crate::types::{Millis, Network, shares_of};

/// Limits per address (IPv6: per /64, and a multiple of them per /56 and per /48: see [`shares_of`]), and one rate for
/// all handshakes. Loopback and trusted proxies are exempt from the limits per address, since all clients behind them
/// share theirs.
///
/// An address is kept while it has connections or one of its buckets is not full. A bucket is full again some seconds
/// after an admitted handshake or request, and only addresses with connections make requests that count here, so the
/// number of addresses is bounded by the connections and the rate of all handshakes, whatever addresses a proxy names.
#[derive(Debug)]
pub struct Admission {
    /// The most connections of one address; 0 for no limit.
    pub per_address: u32,
    pub handshakes_per_address: Rate,
    pub handshakes: Rate,
    /// Requests of one address, over all of its connections.
    pub requests: Rate,
    /// Proxies that are trusted to name the client for whom they ask.
    pub trusted: Vec<Network>,
    all: Bucket,
    retry_slots: RetrySlots,
    addresses: HashMap<Network, Address>,
    /// The number of addresses at which the next sweep removes those that need not be kept.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    connections: u32,
    handshakes: Bucket,
    requests: Bucket,
    /// TLS handshakes.
    secure: Bucket,
    /// Times to retry for this address's refused handshakes.
    retry_slots: RetrySlots,
}

impl Address {
    /// Returns whether nothing that was taken has to be remembered.
    fn is_full(&self, now: Millis) -> bool {
        self.handshakes.is_full(now) && self.requests.is_full(now) && self.secure.is_full(now)
    }
}

/// Which of the networks of an address pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    All,
    /// The narrowest: an IPv4 address, or a /64.
    Own,
    /// Those of which it is a part, and others, too.
    Wider,
}

impl Width {
    fn holds(self, shares: u32) -> bool {
        match self {
            Width::All => true,
            Width::Own => shares == 1,
            Width::Wider => shares > 1,
        }
    }
}

/// The part of what may come at once of all handshakes that is kept for those who come back.
const KEPT: usize = 4;

/// How many TLS handshakes an address may make for each handshake of a WebSocket: a browser opens several connections
/// to load the page.
const SECURE: u32 = 4;

/// The number of addresses below which no sweep is worth its cost.
const MIN_SWEEP: usize = 1024;

impl Admission {
    /// Returns limits without trusted proxies.
    pub fn new(per_address: u32, handshakes_per_address: Rate, handshakes: Rate) -> Admission {
        Admission {
            per_address,
            handshakes_per_address,
            handshakes,
            requests: Rate::new(0, 1, 1),
            trusted: Vec::new(),
            all: Bucket::default(),
            retry_slots: RetrySlots::default(),
            addresses: HashMap::new(),
            sweep_at: MIN_SWEEP,
        }
    }

    /// Returns the same limits with these trusted proxies.
    pub fn trusting(self, trusted: Vec<Network>) -> Admission {
        Admission { trusted, ..self }
    }

    /// Returns the same limits with this rate of requests of one address.
    pub fn rating(self, requests: Rate) -> Admission {
        Admission { requests, ..self }
    }

    /// Applies other limits and proxies, and keeps the counts so far.
    pub(super) fn set_limits(&mut self, limits: Admission) {
        let (all, retry_slots, addresses) = (self.all, self.retry_slots, std::mem::take(&mut self.addresses));
        *self = Admission { all, retry_slots, addresses, ..limits };
    }

    /// Returns the number of connections that count against some address.
    pub fn counted(&self) -> usize {
        // Wider networks count the same ones again.
        let narrowest = self.addresses.iter().filter(|(network, _)| matches!(network.prefix(), 32 | 64));
        narrowest.map(|(_, address)| address.connections as usize).sum()
    }

    /// Checks whether this address may have one more connection. `part` is the most that an address may have now
    /// because few places are free, the wider networks included.
    ///
    /// # Errors
    /// 429: the address has reached its connection limit, or that part.
    pub fn may_connect(&self, address: IpAddr, part: Option<usize>) -> Result<(), Problem> {
        let has_its_part = |part| self.connections_of(address) as usize >= part;
        if part.is_some_and(has_its_part) && !self.is_exempt(address) {
            let detail = "few connections are free, and this address has a quarter of all that there may be";
            return Err(Problem::too_many(detail, 1000));
        }
        let is_spent = |(network, shares): (Network, u32)| {
            let held = self.addresses.get(&network).map_or(0, |a| a.connections);
            held >= self.per_address.saturating_mul(shares)
        };
        match self.per_address > 0 && !self.is_exempt(address) && shares_of(address).any(is_spent) {
            true => Err(Problem::too_many("too many connections from this address", 1000)),
            false => Ok(()),
        }
    }

    /// Returns the connections of the widest network of this address; 0 if it is exempt.
    pub fn connections_of(&self, address: IpAddr) -> u32 {
        let known = shares_of(address).filter_map(|(network, _)| self.addresses.get(&network));
        known.map(|known| known.connections).max().unwrap_or_default()
    }

    /// Counts one more connection of this address. Returns false if the address is exempt now: then the connection must
    /// not be uncounted either, even if the address has limits by then.
    pub fn count(&mut self, address: IpAddr, now: Millis) -> bool {
        if self.is_exempt(address) {
            return false;
        }
        self.sweep(now);
        for (network, _) in shares_of(address) {
            self.addresses.entry(network).or_default().connections += 1;
        }
        true
    }

    /// Uncounts a connection that was counted and is gone.
    pub fn uncount(&mut self, address: IpAddr, now: Millis) {
        for (network, _) in shares_of(address) {
            let Some(known) = self.addresses.get_mut(&network) else { continue };
            known.connections = known.connections.saturating_sub(1);
            if known.connections == 0 && known.is_full(now) {
                self.addresses.remove(&network);
            }
        }
    }

    /// Checks whether this address may ask for one more handshake, for a WebSocket or an event stream. Those of its
    /// networks that are `waiting` come first.
    ///
    /// # Errors
    /// 429: it asks too often.
    pub fn may_ask_for_handshake(
        &mut self,
        address: IpAddr,
        waiting: impl Fn(Network) -> usize,
        now: Millis,
    ) -> Result<(), Problem> {
        if self.is_exempt(address) {
            return Ok(());
        }
        let mut longest = 0;
        for (network, shares) in shares_of(address) {
            let (rate, known) = (self.handshakes_per_address.times(shares), self.addresses.get_mut(&network));
            let bucket = known.as_ref().map_or(Bucket::default(), |known| known.handshakes);
            let wait = bucket.wait(rate, waiting(network), now);
            if wait > longest {
                // A network that waits, or has spent its rate, has an entry.
                longest = known.map_or(wait, |known| known.retry_slots.next(rate, wait, now));
            }
        }
        match longest {
            0 => Ok(()),
            wait => Err(Problem::too_many("too many handshakes from this address", wait)),
        }
    }

    /// Returns whether the rate of all handshakes allows one more, for a client that comes in this way.
    pub fn has_handshake(&self, coming: Coming, now: Millis) -> bool {
        self.handshake_wait(coming, now) == 0
    }

    /// Returns the milliseconds until it does.
    pub fn handshake_wait(&self, coming: Coming, now: Millis) -> u64 {
        let kept = match coming {
            Coming::Back => 0,
            Coming::Anew => self.handshakes.burst() / KEPT,
        };
        self.all.wait(self.handshakes, kept, now)
    }

    /// Takes one handshake of this address from the rates.
    pub fn spend_handshake(&mut self, address: IpAddr, now: Millis) {
        self.all.spend(self.handshakes, 1, now);
        if self.is_exempt(address) {
            return;
        }
        self.sweep(now);
        for (network, shares) in shares_of(address) {
            let mut bucket = self.addresses.get(&network).map(|known| known.handshakes).unwrap_or_default();
            bucket.spend(self.handshakes_per_address.times(shares), 1, now);
            if !bucket.is_full(now) {
                self.addresses.entry(network).or_default().handshakes = bucket;
            }
        }
    }

    /// Returns how many handshakes the rate of all allows in so many milliseconds.
    pub fn handshakes_in(&self, milliseconds: u64) -> usize {
        self.handshakes.in_time(milliseconds).max(1)
    }

    /// Refuses a handshake with 503: all addresses together ask too often.
    pub fn too_many_handshakes(&mut self, now: Millis) -> Problem {
        let wait = self.handshake_wait(Coming::Anew, now);
        let wait = self.retry_slots.next(self.handshakes, wait, now);
        Problem::unavailable("too many handshakes at the moment", wait.div_ceil(1000).max(1))
    }

    /// Takes one request of this address from its rate, also beyond it. Returns until when the connection that made it
    /// is to wait: each of the address's connections for a time of its own, so that they take turns, and all together
    /// make no more than the rate.
    pub fn spend_request(&mut self, address: IpAddr, now: Millis) -> Millis {
        let rate = self.requests;
        let spend = |known: &mut Address, shares, sharers| known.requests.spend(rate.times(shares), sharers, now);
        self.until(address, Width::All, now, spend)
    }

    /// Returns whether this address may make one more TLS handshake without waiting.
    pub fn has_secure(&mut self, address: IpAddr, now: Millis) -> bool {
        let rate = self.handshakes_per_address.times(SECURE);
        let free_at = |known: &mut Address, shares| known.secure.free_at(rate.times(shares), 1, now);
        self.until(address, Width::All, now, |known, shares, _| free_at(known, shares)) <= now
    }

    /// Takes one TLS handshake of this address, before any of it is computed; of its own network, or of the wider ones,
    /// which pay only once its own has let it go on. Returns until when the connection is to wait, each of the
    /// network's connections for its turn.
    pub fn spend_secure(&mut self, address: IpAddr, width: Width, now: Millis) -> Millis {
        let rate = self.handshakes_per_address.times(SECURE);
        self.until(address, width, now, |known, shares, sharers| known.secure.spend(rate.times(shares), sharers, now))
    }

    /// Returns until when a new connection of this address is to wait: what the others took is to be paid for first, so
    /// that nobody gets around the rate by coming anew for each request.
    pub fn may_ask_at(&mut self, address: IpAddr, now: Millis) -> Millis {
        let rate = self.requests;
        let free_at = |known: &mut Address, shares, sharers| known.requests.free_at(rate.times(shares), sharers, now);
        self.until(address, Width::All, now, free_at)
    }

    /// Returns the latest time that `of` gives for the networks of this address that have connections, with the shares
    /// of each and the number of these; now, if it is exempt.
    fn until(
        &mut self,
        address: IpAddr,
        width: Width,
        now: Millis,
        of: impl Fn(&mut Address, u32, u32) -> Millis,
    ) -> Millis {
        if self.is_exempt(address) {
            return now;
        }
        let mut latest = now;
        for (network, shares) in shares_of(address).filter(|(_, shares)| width.holds(*shares)) {
            if let Some(known) = self.addresses.get_mut(&network) {
                let sharers = known.connections.max(1);
                latest = latest.max(of(known, shares, sharers));
            }
        }
        latest
    }

    /// Returns whether this is the address of a proxy that is trusted.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    pub(super) fn is_exempt(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.is_trusted(address)
    }

    /// Removes addresses that need not be kept, once there are `sweep_at`. That number doubles with the addresses that
    /// stay, so that the amortised cost per new address is constant.
    fn sweep(&mut self, now: Millis) {
        if self.addresses.len() >= self.sweep_at {
            // The outcome does not depend on the order of this walk.
            self.addresses.retain(|_, a| a.connections > 0 || !a.is_full(now));
            self.sweep_at = MIN_SWEEP.max(2 * self.addresses.len());
        }
    }
}

/// Returns the unit that counts as one address: the whole of an IPv4 address, the network (/64) of an IPv6 one.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
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

    /// Takes a handshake as somebody does who does not wait.
    fn handshake(admission: &mut Admission, address: IpAddr, now: Millis) -> Result<(), Problem> {
        admission.may_ask_for_handshake(address, |_| 0, now)?;
        if !admission.has_handshake(Coming::Anew, now) {
            return Err(admission.too_many_handshakes(now));
        }
        admission.spend_handshake(address, now);
        Ok(())
    }

    #[test]
    fn loopback_and_proxies_are_exempt() {
        let mut admission = admission(1, 1, 0).trusting(vec![Network::parse("10.0.0.0/8").unwrap()]);
        for free in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.9.9.9", "::ffff:10.9.9.9"] {
            for _ in 0..5 {
                assert!(!admission.count(ip(free), Millis(1)), "{free}");
                assert_eq!(admission.may_connect(ip(free), None), Ok(()));
                assert_eq!(handshake(&mut admission, ip(free), Millis(1)), Ok(()));
            }
        }
        assert_eq!(admission.addresses.len(), 0);
        assert!(admission.count(ip("11.0.0.1"), Millis(1)));
        assert!(admission.may_connect(ip("11.0.0.1"), None).is_err());
    }

    /// However many connections an address has, all together make no more requests than its rate, each has its turns,
    /// and one that comes anew gains nothing by that.
    #[test]
    fn the_connections_of_an_address_share_its_requests() {
        let mut admission = admission(0, 0, 0).rating(Rate::new(20, 1000, 8));
        let peer = ip("192.0.2.1");
        let mut waits = [Millis(0); 20];
        let mut made = [0; 20];
        assert!((0..20).all(|_| admission.count(peer, Millis(0))));
        for now in (0..2000).map(Millis) {
            for (until, made) in waits.iter_mut().zip(&mut made).filter(|(until, _)| **until <= now) {
                *until = admission.spend_request(peer, now);
                *made += 1;
            }
        }
        let all: u32 = made.iter().sum();
        assert!((40..=8 + 40 + 20).contains(&all), "{all}");
        assert!(made.iter().all(|made| (2..=5).contains(made)), "{made:?}");
        assert!(admission.may_ask_at(peer, Millis(2000)) > Millis(2500), "all others come first");
        assert_eq!(admission.may_ask_at(peer, Millis(60_000)), Millis(60_000));
    }

    /// Eighty a second of an address with the rate of twenty, and twice as many at once; each connection has its turn.
    #[test]
    fn tls_handshakes_beyond_the_rate_of_an_address_wait_in_turn() {
        let mut admission = Admission::new(0, Rate::new(20, 1000, 40), Rate::new(0, 1, 1));
        let mut waits = |address: &str, count| -> Vec<u64> {
            let mut one = || {
                assert!(admission.count(ip(address), Millis(1)));
                admission.spend_secure(ip(address), Width::Own, Millis(1)).0
            };
            (0..count).map(|_| one()).collect()
        };
        let until = waits("192.0.2.1", 240);
        assert_eq!(until.iter().filter(|until| **until == 1).count(), 159);
        assert!((950..=1_050).contains(&until[239]), "{until:?}");
        assert!(until.windows(2).all(|two| two[0] <= two[1]));
        assert_eq!(waits("192.0.2.2", 100), [1; 100], "others do not wait");
        assert_eq!(admission.spend_secure(ip("127.0.0.1"), Width::Own, Millis(1)), Millis(1));
        (0..240).for_each(|_| admission.uncount(ip("192.0.2.1"), Millis(1)));
        assert!(admission.addresses.len() == 2, "it is remembered although its connections are gone");
    }

    /// The list of proxies may change while an address has connections.
    #[test]
    fn a_counted_connection_is_uncounted_although_its_address_is_trusted_by_then() {
        let mut admission = admission(1, 0, 0);
        assert!(admission.count(ip("10.0.0.1"), Millis(1)));
        let trusting = self::admission(1, 0, 0).trusting(vec![Network::parse("10.0.0.0/8").unwrap()]);
        admission.set_limits(trusting);
        assert_eq!((admission.may_connect(ip("10.0.0.1"), None), admission.counted()), (Ok(()), 1));
        admission.uncount(ip("10.0.0.1"), Millis(2));
        admission.set_limits(self::admission(1, 0, 0));
        assert_eq!((admission.may_connect(ip("10.0.0.1"), None), admission.counted()), (Ok(()), 0));
        assert_eq!(admission.addresses.len(), 0);
    }

    /// A client with a /56 has 256 networks that would each count as one address; with a /48, it has 65,536.
    #[test]
    fn a_56_has_four_shares_and_a_48_sixteen() {
        let of = |n: u32| ip(&format!("2001:db8:0:{n:x}::1"));
        // One /64, those of one /56, and of one /48.
        for (step, count, shares) in [(0, 100, 1), (1, 256, 4), (256, 256, 16)] {
            let addresses = || (0..count).map(|n| of(n * step));
            let mut admission = admission(2, 3, 0).rating(Rate::new(10, 1000, 10));
            let mut admitted = 0;
            for address in addresses() {
                admitted += u32::from(handshake(&mut admission, address, Millis(1)).is_ok());
            }
            assert_eq!(admitted, 6 * shares, "handshakes, six of an address");
            let mut held = 0;
            for address in addresses() {
                let may = admission.may_connect(address, None).is_ok();
                held += u32::from(may && admission.count(address, Millis(1)));
            }
            assert_eq!((held, admission.counted()), (2 * shares, 2 * shares as usize), "connections");
            let asks = addresses().take(2 * shares as usize).cycle().take(1000);
            let until = asks.map(|address| admission.spend_request(address, Millis(1)));
            let at_once = until.take_while(|until| *until == Millis(1)).count();
            assert_eq!(at_once as u32, 10 * shares - 1, "requests");
            assert!(handshake(&mut admission, ip("2001:db8:1::1"), Millis(1)).is_ok(), "the next /48 is another one");
            addresses().take(2 * shares as usize).for_each(|address| admission.uncount(address, Millis(1)));
            assert_eq!(admission.counted(), 0);
        }
    }

    #[test]
    fn counts_outlive_a_change_of_the_limits() {
        let mut admission = admission(0, 0, 0);
        let peer = ip("192.0.2.1");
        assert!(admission.count(peer, Millis(0)) && admission.count(peer, Millis(0)));
        admission.set_limits(Admission::new(1, Rate::new(1, 1000, 1), Rate::new(0, 1, 1)));
        assert!(admission.may_connect(peer, None).is_err(), "two are open");
        assert!(
            handshake(&mut admission, peer, Millis(0)).is_ok() && handshake(&mut admission, peer, Millis(0)).is_err()
        );
    }

    /// However many addresses a proxy names, the number kept is bounded by the handshakes admitted within some seconds.
    #[test]
    fn addresses_without_connections_are_bounded() {
        let mut admission = admission(256, 20, 100);
        let mut max_kept = 0;
        let mut admitted = 0;
        for n in 0..200_000u32 {
            let now = Millis(1 + u64::from(n) / 20);
            admitted += usize::from(handshake(&mut admission, IpAddr::from((n | 1 << 30).to_be_bytes()), now).is_ok());
            max_kept = max_kept.max(admission.addresses.len());
        }
        // 150 at once, since a quarter is kept, then 100 a second for 10 s.
        assert!((1140..=1160).contains(&admitted), "{admitted}");
        assert!(max_kept <= MIN_SWEEP, "{max_kept}");
        // Without a limit for all: a bucket is full again after 50 ms, and one address is removed for each new one.
        admission.handshakes = Rate::new(0, 1000, 1);
        for n in 0..200_000u32 {
            let now = Millis(60_000 + u64::from(n) / 20);
            assert_eq!(handshake(&mut admission, IpAddr::from((n | 1 << 30).to_be_bytes()), now), Ok(()));
            max_kept = max_kept.max(admission.addresses.len());
        }
        assert!(max_kept <= 2 * 1024 + 2, "{max_kept}");
        // A connection that is gone leaves nothing either.
        for n in 0..10_000u32 {
            let address = IpAddr::from((n | 1 << 31).to_be_bytes());
            assert!(admission.count(address, Millis(80_000)));
            admission.uncount(address, Millis(80_000));
        }
        assert!(admission.addresses.len() <= max_kept);
    }

    /// Addresses with connections are never removed, and sweeps do not become frequent because of them.
    #[test]
    fn addresses_with_connections_stay() {
        let mut admission = admission(1, 0, 0);
        for n in 0..10_000u32 {
            assert!(admission.count(IpAddr::from((n | 1 << 31).to_be_bytes()), Millis(1)));
        }
        assert!(
            (0..10_000u32).all(|n| admission.may_connect(IpAddr::from((n | 1 << 31).to_be_bytes()), None).is_err())
        );
        assert!(admission.sweep_at > 10_000);
    }

    #[test]
    fn a_refusal_by_the_common_rate_spends_nothing_of_the_address() {
        let mut admission = admission(0, 1, 1);
        assert_eq!(handshake(&mut admission, ip("1.2.3.4"), Millis(1)), Ok(()));
        assert_eq!(handshake(&mut admission, ip("1.2.3.5"), Millis(1)), Ok(()));
        assert_eq!(handshake(&mut admission, ip("1.2.3.4"), Millis(1)).unwrap_err().status.code(), 503);
        assert_eq!(handshake(&mut admission, ip("1.2.3.6"), Millis(1)).unwrap_err().status.code(), 503);
        assert_eq!(admission.addresses.len(), 2);
        assert_eq!(handshake(&mut admission, ip("1.2.3.4"), Millis(1001)), Ok(()));
        assert_eq!(handshake(&mut admission, ip("1.2.3.4"), Millis(1001)).unwrap_err().status.code(), 503);
    }
}
