//! An IP address or network, as used in a list of proxies, and the networks to which an address counts. Knows neither
//! the list nor any header, nor what is counted.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses with the same leading bits; a single address is a prefix of all its bits. IPv4 written as IPv6
/// (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) counts as IPv4, so that a dual-stack listener sees the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Canonical; the bits after the prefix are zero.
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads an address, or an address and the length of its prefix: `10.0.0.0/8`, `fd00::/8`, `::1`.
    ///
    /// # Errors
    /// The fault of the text, and what to write instead, in words.
    pub fn parse(text: &str) -> Result<Network, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        if let Some((address, _)) = address.split_once('%').filter(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok()) {
            // Peers are known without their zones. An error is better than trusting more links than the text names.
            return Err(format!(
                "{text:?} has a zone, which is not compared; write {address}, which then holds on every link"
            ));
        }
        let written: IpAddr = address.parse().map_err(|_| {
            format!(
                "{text:?} is not an address or network; write an IP address, or one with the length of its prefix, \
                 such as 127.0.0.1, 10.0.0.0/8 or fd00::/8"
            )
        })?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits(written);
        let prefix = match prefix.map(|prefix| prefix.parse::<u8>().ok().filter(|n| digits(prefix) && *n <= bits)) {
            None => bits,
            Some(Some(prefix)) => prefix,
            Some(None) => return Err(format!("{text:?}: the length of a prefix is 0 to {bits} bits here")),
        };
        let address = written.to_canonical();
        // The prefix of IPv4 written as IPv6 includes the 96 bits in front.
        let Some(prefix) = prefix.checked_sub(bits - self::bits(address)) else {
            return Err(format!("{text:?} holds more than IPv4; write the IPv4 network and the IPv6 network apart"));
        };
        let network = Network { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(format!("{text:?} has bits behind its prefix; write {network}, or {address} for that one"));
        }
        Ok(network)
    }

    /// Returns the length of the prefix, in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

/// Returns the networks to which an address counts, the narrowest first, and how many shares each has of what one
/// address may have. An IPv4 address is one. Of IPv6 a /64 is; but whoever has one may have 256 of them as a customer
/// with a /56, or 65,536 as a site with a /48 (RFC 6177), so these have a bound of their own.
pub fn shares_of(address: IpAddr) -> impl Iterator<Item = (Network, u32)> + Clone {
    const V4: &[(u8, u32)] = &[(32, 1)];
    const V6: &[(u8, u32)] = &[(64, 1), (56, 4), (48, 16)];
    let address = address.to_canonical();
    let widths = if address.is_ipv4() { V4 } else { V6 };
    widths.iter().map(move |&(prefix, shares)| (Network { address: masked(address, prefix), prefix }, shares))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix == bits(self.address) {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the address with all bits after the first `prefix` set to zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    // A shift by the full width should leave no bits, but Rust treats it as an overflow.
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(u32::from(32u8.saturating_sub(prefix))).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(u32::from(128u8.saturating_sub(prefix))).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn networks_take_one_form() {
        for (text, form) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1/32", "127.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::1", "::1"),
            ("::1/128", "::1"),
            ("FD00::/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/128", "192.0.2.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).to_string(), form, "{text}");
            assert_eq!(network(form), network(text));
        }
    }

    #[test]
    fn an_address_counts_to_its_networks() {
        let of = |text: &str| -> Vec<(String, u32)> {
            shares_of(text.parse().unwrap()).map(|(network, shares)| (network.to_string(), shares)).collect()
        };
        let named = |list: &[(&str, u32)]| -> Vec<(String, u32)> {
            list.iter().map(|(network, shares)| ((*network).to_owned(), *shares)).collect()
        };
        assert_eq!(of("192.0.2.1"), named(&[("192.0.2.1", 1)]));
        assert_eq!(of("::ffff:192.0.2.1"), named(&[("192.0.2.1", 1)]));
        let all = [("2001:db8:1:203::/64", 1), ("2001:db8:1:200::/56", 4), ("2001:db8:1::/48", 16)];
        assert_eq!(of("2001:db8:1:203:4::5"), named(&all));
    }

    #[test]
    fn a_typo_is_refused_in_words() {
        for (text, words) in [
            ("", "is not an address or network"),
            ("localhost", "such as 127.0.0.1, 10.0.0.0/8 or fd00::/8"),
            ("10.0.0", "is not an address"),
            ("10.0.0.256", "is not an address"),
            ("010.0.0.1", "is not an address"),
            ("127.0.0.1:80", "is not an address"),
            ("[::1]", "is not an address"),
            ("fe80::1%eth0", "write fe80::1, which then holds on every link"),
            ("*", "is not an address"),
            ("/8", "is not an address"),
            ("10.0.0.0/", "0 to 32 bits"),
            ("10.0.0.0/33", "0 to 32 bits"),
            ("10.0.0.0/+8", "0 to 32 bits"),
            ("10.0.0.0/8/8", "0 to 32 bits"),
            ("10.0.0.0/255.0.0.0", "0 to 32 bits"),
            ("fd00::/129", "0 to 128 bits"),
            ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1 for that one"),
            ("fd00::1/8", "write fd00::/8, or fd00::1 for that one"),
            ("::ffff:10.0.0.0/64", "write the IPv4 network and the IPv6 network apart"),
        ] {
            let error = Network::parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_in_and_what_is_not() {
        for (text, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1", "::1"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "a00::"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::/0", "2001:db8::1", "0.0.0.0"),
            // Not the IPv4 network with the same leading bits.
            ("::/0", "::1", "::ffff:1.2.3.4"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_holds_what_agrees_in_its_bits(a: u128, b: u128, v6: bool, prefix in 0u8..=128) {
            let address = |n: u128| match v6 {
                // Outside the block of IPv4-mapped addresses.
                true => IpAddr::from(Ipv6Addr::from(n | 1 << 127)),
                false => IpAddr::from(Ipv4Addr::from(n as u32)),
            };
            let bits = if v6 { 128 } else { 32 };
            let prefix = prefix.min(bits);
            let text = format!("{}/{prefix}", masked(address(a), prefix));
            let text_bits = |ip: IpAddr| -> String {
                match ip {
                    IpAddr::V4(ip) => format!("{:032b}", u32::from(ip)),
                    IpAddr::V6(ip) => format!("{:0128b}", u128::from(ip)),
                }
            };
            let agree = text_bits(address(a))[..usize::from(prefix)] == text_bits(address(b))[..usize::from(prefix)];
            let network = network(&text);
            prop_assert!(network.contains(address(a)));
            prop_assert_eq!(network.contains(address(b)), agree);
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f:./]{0,24}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
