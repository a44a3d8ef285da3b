//! The request rates of clients behind trusted proxies. They share the proxies' connections, so each has a rate of its
//! own here; a direct client's rate is stored with its connection.

use core::net::IpAddr;
use std::collections::HashMap;

use crate::conn::{Bucket, Rate};
use crate::types::{Millis, Network, shares_of};

/// The most clients (IPv6: networks of three widths) that are remembered at once. Each is remembered only until its
/// bucket is full again. If more clients send requests at the same time, the half that took least is forgotten and
/// starts afresh: the server then serves requests over the rate, but no client is refused because of the requests of
/// others.
pub const MAX_CLIENTS: usize = 8192;
/// Bytes that one client takes, with its share of the map.
pub const CLIENT_BYTES: usize = 2 * size_of::<(Network, Bucket)>();

#[derive(Debug, Default)]
pub struct ClientRates {
    /// By the networks of each, of which the wider ones have several shares.
    clients: HashMap<Network, Bucket>,
}

impl ClientRates {
    /// Takes one request from the rate of this client (IPv6: of its /64, and of its wider networks).
    ///
    /// # Errors
    /// The rate is spent: the milliseconds until one more is free.
    pub fn take(&mut self, client: IpAddr, rate: Rate, now: Millis) -> Result<(), u64> {
        let bucket = |network| self.clients.get(&network).copied().unwrap_or_default();
        let waits = shares_of(client).map(|(network, shares)| bucket(network).wait(rate.times(shares), 0, now));
        match waits.max() {
            None | Some(0) => {}
            Some(wait) => return Err(wait),
        }
        for (network, shares) in shares_of(client) {
            if let Some(bucket) = self.clients.get_mut(&network) {
                bucket.spend(rate.times(shares), 1, now);
                continue;
            }
            let mut bucket = Bucket::default();
            bucket.spend(rate.times(shares), 1, now);
            if !bucket.is_full(now) {
                self.make_room(now);
                self.clients.insert(network, bucket);
            }
        }
        Ok(())
    }

    /// Forgets clients whose buckets are full, and if more than half of the places are still taken, the half that took
    /// least. The outcome does not depend on the order of the map.
    fn make_room(&mut self, now: Millis) {
        if self.clients.len() < MAX_CLIENTS {
            return;
        }
        self.clients.retain(|_, bucket| !bucket.is_full(now));
        if self.clients.len() > MAX_CLIENTS / 2 {
            let mut spent: Vec<Bucket> = self.clients.values().copied().collect();
            let (_, median, _) = spent.select_nth_unstable(MAX_CLIENTS / 2);
            let median = *median;
            self.clients.retain(|_, bucket| *bucket > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::from((n | 1 << 30).to_be_bytes())
    }

    #[test]
    fn each_client_has_a_rate_of_its_own() {
        let (mut rates, rate) = (ClientRates::default(), Rate::new(1, 1000, 2));
        for n in 0..3 {
            assert_eq!(rates.take(client(n), rate, Millis(5)), Ok(()));
            assert_eq!(rates.take(client(n), rate, Millis(5)), Ok(()));
            assert_eq!(rates.take(client(n), rate, Millis(5)), Err(1000));
            assert_eq!(rates.take(client(n), rate, Millis(1005)), Ok(()));
        }
        let network = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        assert_eq!(rates.take(network(1), rate, Millis(5)), Ok(()));
        assert_eq!(rates.take(network(2), rate, Millis(5)), Ok(()));
        assert!(rates.take(network(3), rate, Millis(5)).is_err(), "one /64 is one client");
        assert_eq!(rates.take(client(9), Rate::new(0, 1000, 1), Millis(5)), Ok(()));
        let known = Network::parse(&client(9).to_string()).unwrap();
        assert!(!rates.clients.contains_key(&known), "nothing to remember without a rate");
        let admitted = |rates: &mut ClientRates, step: u16| {
            let client = |n: u16| IpAddr::from([0x2001, 0xdb8, 1 + step, n * step, 0, 0, 0, 1]);
            (0..255).filter(|n| rates.take(client(*n), rate, Millis(5)).is_ok()).count()
        };
        assert_eq!((admitted(&mut rates, 1), admitted(&mut rates, 256)), (8, 32), "shares of a /56 and of a /48");
    }

    /// However many clients ask, the table is bounded, none is refused because of others, and a greedy client is not
    /// forgotten because of them.
    #[test]
    fn a_flood_of_clients_is_bounded_and_does_not_free_a_greedy_one() {
        let (mut rates, rate) = (ClientRates::default(), Rate::new(1, 1000, 100));
        let greedy = client(1_000_000);
        while rates.take(greedy, rate, Millis(1)).is_ok() {}
        for n in 0..100_000 {
            assert_eq!(rates.take(client(n), rate, Millis(1)), Ok(()));
            assert!(rates.clients.len() <= MAX_CLIENTS, "{}", rates.clients.len());
        }
        assert!(rates.take(greedy, rate, Millis(1)).is_err());
        // Every bucket is full again.
        for n in 0..10_000 {
            assert_eq!(rates.take(client(n), rate, Millis(200_000)), Ok(()));
        }
        assert_eq!(rates.take(greedy, rate, Millis(200_000)), Ok(()));
    }
}
