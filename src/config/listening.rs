//! Settings: listeners and access.

use super::error::shown;
use super::setting::{Kind, settings};
use crate::types::{Network, Place, RoomId, RoomPattern};

settings! {
    /// Where to listen and who may ask.
    Listening in listening {
        /// Addresses and ports to listen on: IP:PORT, a link-local address with its interface as [fe80::1%eth0]:PORT,
        /// or localhost:PORT for both loopback addresses. [::] takes IPv4, too, unless another listener takes it at
        /// that port. Port 0 lets the system choose one, which is printed at start.
        listen: Vec<Place> = "127.0.0.1:7077",
            Kind::List { item: "IP:PORT", one_at_least: true, read: address }, live false;
        /// Let guests read and write every room, also where others can reach a listener (unless guests or access-file
        /// says otherwise). Such a listener is refused if none of the three says who may enter.
        open: bool = "false", Kind::Flag, live false;
        /// Host names by which the server may be asked, beside IP addresses, names without a dot, the machine's own and
        /// those of its certificates: the name at a proxy, say, which passes Host on. A page of the web could else
        /// give its own name the server's address, and read and write here. *: any name.
        host: Vec<String> = "", Kind::List { item: "NAME", one_at_least: false, read: host_name }, live true;
        /// Origins of other sites whose pages may connect and post: scheme://host[:port], or null.
        allow_origin: Vec<String> = "", Kind::List { item: "ORIGIN", one_at_least: false, read: origin }, live true;
        /// Proxies, by address or network, whose X-Forwarded-For is believed: limits and log then mean the client that
        /// it names. The proxies themselves, like loopback addresses, have no limits per address.
        trusted_proxy: Vec<Network> = "", Kind::List { item: "IP[/BITS]", one_at_least: false, read: network }, live true;
        /// Rooms that take only encrypted messages, which the server cannot read, beside those whose id begins with
        /// e2e.; an entry that ends with * stands for all ids that begin so.
        encrypted_rooms: Vec<String> = "",
            Kind::List { item: "ROOM[*]", one_at_least: false, read: room_or_prefix }, live true;
    }
}

pub(super) fn address(text: &str) -> Result<String, String> {
    let wrong = "write an IP address and a port, such as 127.0.0.1:7077, 0.0.0.0:7077, [::1]:7077 or \
                 [fe80::1%eth0]:7077 (fe80::/10 needs its interface, no other address has one), or localhost:7077";
    let place = text.parse::<Place>();
    place.map(|place| place.to_string()).map_err(|_| format!("\"{}\" is not an address; {wrong}", shown(text)))
}

/// Returns a host name in the form that requests are compared with: lower case, without the final dot.
fn host_name(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(format!(
            "\"{}\" is not a host name; write it without scheme and port, such as chat.example",
            shown(text)
        )),
    }
}

fn network(text: &str) -> Result<String, String> {
    Network::parse(text).map(|network| network.to_string())
}

/// Accepts a room id, or a prefix of room ids followed by `*`.
fn room_or_prefix(text: &str) -> Result<String, String> {
    let pattern = RoomPattern::parse(text).map(|pattern| pattern.to_string());
    pattern.ok_or_else(|| format!("\"{}\" is {}: {}", shown(text), RoomPattern::RULE, RoomId::RULE))
}

/// Returns an origin as browsers write it (RFC 6454 section 6.2): lower case, no path, no port if it is the default.
fn origin(text: &str) -> Result<String, String> {
    if text == "null" {
        return Ok(text.to_string());
    }
    let wrong = || {
        format!(
            "\"{}\" is not an origin; write scheme://host or scheme://host:port without a path, or null",
            shown(text)
        )
    };
    let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    // A literal IPv6 address has colons of its own, inside brackets.
    let after_host = authority.find(']').map_or(0, |end| end + 1);
    let (host, port) = match authority.get(after_host..).unwrap_or("").rfind(':') {
        Some(colon) => authority.split_at(after_host + colon),
        None => (authority, ""),
    };
    let host_fits = host != "*"
        && match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(literal) => literal.parse::<core::net::Ipv6Addr>().is_ok(),
            None => host_name(host).is_ok(),
        };
    let port_fits =
        port.is_empty() || port[1..].bytes().all(|b| b.is_ascii_digit()) && port[1..].parse::<u16>().is_ok();
    if !(scheme_fits && host_fits && port_fits) {
        return Err(wrong());
    }
    let scheme = scheme.to_ascii_lowercase();
    let own = matches!((scheme.as_str(), port), ("http", ":80") | ("https", ":443"));
    Ok(format!("{scheme}://{}{}", host.to_ascii_lowercase(), if own { "" } else { port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_take_one_form() {
        for (text, form) in [
            ("https://Chat.Example", "https://chat.example"),
            ("HTTPS://a:443", "https://a"),
            ("http://a:8080", "http://a:8080"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://[::1]", "http://[::1]"),
            ("null", "null"),
            ("app+x://local", "app+x://local"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(form), "{text}");
        }
        for bad in [
            "",
            "*",
            "a",
            "https://",
            "https://a/",
            "https://a:b",
            "https://a:",
            "https://a:70000",
            "https://a:+1",
            "://a",
            "https://u@a",
            "https://[::1",
            "https://[x]",
            "1://a",
            "https://é",
            "https://]a:1",
            "https://*.a",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_names() {
        for good in ["0.0.0.0:0", "[::1]:7077", "localhost:7077", "[fe80::1%eth0]:7077"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["7077", ":7077", "localhost", "127.0.0.1", "127.0.0.1:70000", "::1:7077x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        for good in ["lobby", "team-*", "*", ".*", "e2e"] {
            assert_eq!(room_or_prefix(good).as_deref(), Ok(good));
        }
        for bad in ["", "a/b", "*a", "a**", ".", &"a".repeat(65)] {
            assert!(room_or_prefix(bad).is_err(), "{bad}");
        }
        assert_eq!(host_name("Chat.Example").as_deref(), Ok("chat.example"));
        assert_eq!(host_name("a.b.").as_deref(), Ok("a.b"));
        assert_eq!(host_name("*").as_deref(), Ok("*"));
        for bad in ["", ".", "*.a", "**", "a..b", ".a", "a..", "a:80", "http://a", "a/b", "a b", "é", &"a".repeat(254)]
        {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }
}
