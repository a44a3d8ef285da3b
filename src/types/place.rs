//! A place to listen on, as a user writes it: an address, a link-local address with its zone, or `localhost`. The edge
//! finds out which interface a zone is, and which addresses this machine has.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address and a port. A zone written as a number is the address's scope id.
    Address(SocketAddr),
    /// A link-local address on the interface of this name (RFC 4007 §11).
    Zoned { ip: Ipv6Addr, zone: Box<str>, port: u16 },
    /// Both loopback addresses, as far as this machine has them (RFC 6761 §6.3).
    Localhost { port: u16 },
}

/// The error for a text that is not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

/// Longest name of an interface, in bytes (IFNAMSIZ - 1, netdevice(7)).
const LONGEST_ZONE: usize = 15;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Place, NoPlace> {
        if let Ok(address) = text.parse() {
            // The kernel refuses a link-local address whose interface is not known (RFC 4007 §6).
            let is_ambiguous =
                matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
            return if is_ambiguous { Err(NoPlace) } else { Ok(Place::Address(address)) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(NoPlace)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(NoPlace)?;
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(Place::Localhost { port });
        }
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).ok_or(NoPlace)?;
        let (ip, zone) = inside.split_once('%').ok_or(NoPlace)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| NoPlace)?;
        let fits = ip.is_unicast_link_local() && is_zone(zone);
        fits.then(|| Place::Zoned { ip, zone: zone.into(), port }).ok_or(NoPlace)
    }
}

/// Returns whether the text can be an interface's name in a URL: the characters that a kernel allows, without those
/// that end a host in a URL.
pub fn is_zone(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'@');
    (1..=LONGEST_ZONE).contains(&text.len()) && text.bytes().all(allowed)
}

/// Reports whether the name can only mean this machine: `localhost` and every name below it, in any case, with a final
/// dot or without (RFC 6761 §6.3).
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit_once('.').map_or(name, |(_, last)| last);
    last.eq_ignore_ascii_case("localhost")
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Place {
        Place::Address(address)
    }
}

impl Place {
    pub fn port(&self) -> u16 {
        match self {
            Place::Address(address) => address.port(),
            Place::Zoned { port, .. } | Place::Localhost { port } => *port,
        }
    }

    /// Returns whether only this machine can reach the place.
    pub fn is_loopback(&self) -> bool {
        match self {
            Place::Address(address) => address.ip().to_canonical().is_loopback(),
            Place::Zoned { .. } => false,
            Place::Localhost { .. } => true,
        }
    }

    /// Returns whether the place stands for all addresses of its family.
    pub fn is_unspecified(&self) -> bool {
        matches!(self, Place::Address(address) if address.ip().is_unspecified())
    }

    /// Returns the addresses of this place, without their zones.
    pub fn ips(&self) -> Vec<IpAddr> {
        match self {
            Place::Address(address) => vec![address.ip()],
            Place::Zoned { ip, .. } => vec![(*ip).into()],
            Place::Localhost { .. } => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }

    /// Returns whether a listener bound to this address belongs to this place. Interfaces are not compared.
    pub fn names(&self, address: SocketAddr) -> bool {
        self.port() == address.port() && self.ips().contains(&address.ip())
    }

    /// Returns whether listening on both places is impossible: one port, and an address in common. IPv4 and IPv6 have
    /// none in common, since a listener for all of IPv6 leaves IPv4 to a listener for IPv4 (RFC 3493 §5.3).
    pub fn overlaps(&self, other: &Place) -> bool {
        let zone = |place: &Place| match place {
            Place::Zoned { zone, .. } => Some(zone.clone()),
            Place::Address(SocketAddr::V6(address)) if address.scope_id() != 0 => {
                Some(address.scope_id().to_string().into())
            }
            _ => None,
        };
        let meet = |one: IpAddr, two: IpAddr| {
            one.is_ipv4() == two.is_ipv4() && (one == two || one.is_unspecified() || two.is_unspecified())
        };
        let all = self.is_unspecified() || other.is_unspecified();
        let (ours, theirs) = (self.ips(), other.ips());
        self.port() == other.port()
            && self.port() != 0
            && ours.iter().any(|one| theirs.iter().any(|two| meet(*one, *two)))
            && (all || zone(self) == zone(other))
    }

    /// Returns host and port as written in a URL, with a zone's `%` escaped (RFC 6874 §2).
    pub fn authority(&self) -> String {
        self.to_string().replace('%', "%25")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::Zoned { ip, zone, port } => write!(f, "[{ip}%{zone}]:{port}"),
            Place::Localhost { port } => write!(f, "localhost:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn names_of_this_machine() {
        for own in ["localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST", "a.localhost."] {
            assert!(is_localhost(own), "{own}");
        }
        for other in ["", ".", "localhost..", "alocalhost", "localhost.example", "a.localhost.example", "localhost.a."]
        {
            assert!(!is_localhost(other), "{other}");
        }
    }

    #[test]
    fn places_have_one_spelling() {
        for (text, shown) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[FE80::1%eth0]:7077", "[fe80::1%eth0]:7077"),
            ("[fe80::1%br-lan.5]:1", "[fe80::1%br-lan.5]:1"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
            ("LocalHost:80", "localhost:80"),
        ] {
            assert_eq!(place(text).to_string(), shown);
            assert_eq!(place(shown), place(text));
        }
        assert_eq!(place("[fe80::1%eth0]:80").authority(), "[fe80::1%25eth0]:80");
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:65536",
            "host:80",
            "fe80::1%eth0:80",
            "[fe80::1]:80",
            "[fe80::1%]:80",
            "[2001:db8::1%eth0]:80",
            "[::1%eth0]:80",
            "[fe80::1%a/b]:80",
            "[fe80::1%sixteen-letters.]:80",
            "[127.0.0.1%eth0]:80",
            "[fe80::1%eth0]",
        ] {
            assert_eq!(bad.parse::<Place>(), Err(NoPlace), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_listened_on_twice() {
        for (one, other, meet) in [
            ("0.0.0.0:1", "[::]:1", false),
            ("127.0.0.1:1", "[::]:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:2", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "[fe80::1%eth0]:1", true),
            ("localhost:1", "[::1]:1", true),
            ("localhost:1", "127.0.0.1:1", true),
            ("localhost:1", "127.0.0.2:1", false),
            ("[fe80::1%eth0]:1", "[fe80::1%eth1]:1", false),
            ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1", true),
            ("[fe80::1%2]:1", "[fe80::1%3]:1", false),
        ] {
            assert_eq!(place(one).overlaps(&place(other)), meet, "{one} {other}");
            assert_eq!(place(other).overlaps(&place(one)), meet, "{other} {one}");
        }
        assert!(place("localhost:1").is_loopback() && !place("[fe80::1%eth0]:1").is_loopback());
        assert!(place("localhost:1").names("[::1]:1".parse().unwrap()));
    }
}
