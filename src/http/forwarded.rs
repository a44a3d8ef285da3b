//! Finds the client behind proxies: `X-Forwarded-For`, believed only as far as its writers are trusted. `Forwarded`
//! (RFC 7239) is not read: a proxy that sets only one of the two headers passes on the other as the client wrote it.
//! Knows no limits and no log.

use core::net::{IpAddr, SocketAddr};

use super::headers::Headers;
use crate::types::Network;

/// Returns the client's address: the peer's own, unless the peer is a trusted proxy; then the rightmost address in the
/// header that is not itself trusted.
///
/// Each proxy appends the address of its peer, so the list is read from its end, for as long as the writer of an entry
/// is trusted. An entry that is not an address means that its writer knew no better: no trusted proxy vouches for the
/// entries to its left, so the writer's own address counts. If all are trusted, the first one counts. The work is
/// bounded by the header's length; nothing is allocated.
pub fn client(peer: IpAddr, headers: &Headers, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |address| trusted.iter().any(|network: &Network| network.contains(address));
    // Several lines form one list (RFC 9110 §5.3). Empty items count: a proxy that knew no address may append one.
    let mut entries = headers.all("X-Forwarded-For").flat_map(|line| line.split(',')).rev();
    while is_trusted(client) {
        let Some(address) = entries.next().and_then(address) else { break };
        client = address;
    }
    client
}

/// Reads `1.2.3.4`, `1.2.3.4:99`, `::1`, `[::1]`, `[::1]:99`; an IPv4-mapped IPv6 address becomes IPv4.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let address: IpAddr = entry.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXIES: &[&str] = &["127.0.0.1", "10.0.0.0/8", "fd00::/8"];

    fn client_of(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let headers = Headers::collect(lines.iter().map(|line| ("X-Forwarded-For", line.as_bytes())));
        let trusted: Vec<Network> = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for lines in [&["1.2.3.4"] as &[&str], &["127.0.0.1"], &["x"], &[]] {
            assert_eq!(client_of("127.0.0.1", lines, &[]), "127.0.0.1");
            assert_eq!(client_of("192.0.2.7", lines, PROXIES), "192.0.2.7");
            assert_eq!(client_of("::1", lines, PROXIES), "::1");
        }
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_counts() {
        for (lines, expected) in [
            (&["1.2.3.4"] as &[&str], "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6,1.2.3.4 ,\t10.0.0.9"], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (&["1.2.3.4", "10.0.0.9, fd00::9", "127.0.0.1"], "1.2.3.4"),
            // A host in a trusted network can itself be the client.
            (&["10.0.0.8"], "10.0.0.8"),
            (&["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
            // A loopback address is trusted only if it is listed.
            (&["1.2.3.4, ::1"], "::1"),
            (&["1.2.3.4:99"], "1.2.3.4"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:DB8::7]:80"], "2001:db8::7"),
            (&["::ffff:1.2.3.4"], "1.2.3.4"),
            (&["[::ffff:1.2.3.4]:80"], "1.2.3.4"),
            (&["1.2.3.4, ::ffff:10.0.0.9"], "1.2.3.4"),
        ] {
            assert_eq!(client_of("127.0.0.1", lines, PROXIES), expected, "{lines:?}");
            assert_eq!(client_of("::ffff:127.0.0.1", lines, PROXIES), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_search() {
        for garbage in [
            "",
            " ",
            "unknown",
            "unix:",
            "_hidden",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "1.2.3.4:x",
            "01.2.3.4",
            "1.2.3.4 5.6.7.8",
            "\"1.2.3.4\"",
            "for=1.2.3.4",
            "[1.2.3.4]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:",
            "fe80::1%eth0",
            "chat.example",
            "é",
        ] {
            // The client may have chosen the entries to its left.
            for lines in [&[garbage] as &[&str], &["6.6.6.6", garbage], &[&format!("6.6.6.6,{garbage}")]] {
                assert_eq!(client_of("127.0.0.1", lines, PROXIES), "127.0.0.1", "{lines:?}");
                let behind: Vec<&str> = lines.iter().copied().chain(["10.0.0.9"]).collect();
                assert_eq!(client_of("127.0.0.1", &behind, PROXIES), "10.0.0.9", "{lines:?}");
                let ahead: Vec<&str> = lines.iter().copied().chain(["1.2.3.4"]).collect();
                assert_eq!(client_of("127.0.0.1", &ahead, PROXIES), "1.2.3.4", "{lines:?}");
            }
        }
        assert_eq!(client_of("127.0.0.1", &[], PROXIES), "127.0.0.1");
    }

    #[test]
    fn a_long_list_is_no_problem() {
        let forged = "6.6.6.6, ".repeat(1200);
        assert_eq!(client_of("127.0.0.1", &[&format!("{forged}1.2.3.4")], PROXIES), "1.2.3.4");
        assert_eq!(client_of("127.0.0.1", &[&"9".repeat(10_000)], PROXIES), "127.0.0.1");
        assert_eq!(client_of("127.0.0.1", &[&",".repeat(10_000)], PROXIES), "127.0.0.1");
        let trusted = "10.0.0.9, ".repeat(1000);
        assert_eq!(client_of("127.0.0.1", &[&format!("1.2.3.4, {trusted}10.0.0.9")], PROXIES), "1.2.3.4");
    }

    #[test]
    fn the_other_header_is_not_read() {
        let fields = [("Forwarded", b"for=6.6.6.6" as &[u8]), ("X-Real-IP", b"6.6.6.6"), ("X-Forwarded", b"6.6.6.6")];
        let trusted = [Network::parse("127.0.0.1").unwrap()];
        let peer = "127.0.0.1".parse().unwrap();
        assert_eq!(client(peer, &Headers::collect(fields.into_iter()), &trusted), peer);
    }

    proptest! {
        /// The entry that a trusted proxy appends decides, whatever the client sends and however it is split into
        /// lines.
        #[test]
        fn the_client_chooses_nothing(lines in prop::collection::vec("[ -~\t]{0,40}|[0-9a-f:.,\\[\\] ]{0,40}", 0..5)) {
            let mut seen: Vec<&str> = lines.iter().map(String::as_str).collect();
            seen.push("192.0.2.7");
            prop_assert_eq!(client_of("127.0.0.1", &seen, PROXIES), "192.0.2.7");
            let appended = format!("{}, 192.0.2.7", lines.join(","));
            prop_assert_eq!(client_of("127.0.0.1", &[&appended], PROXIES), "192.0.2.7");
            let all: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(client_of("198.51.100.1", &all, PROXIES), "198.51.100.1");
        }

        /// The client is found through any chain of trusted proxies, in any spelling.
        #[test]
        fn a_chain_is_walked_to_its_end(address: [u16; 8], hops in prop::collection::vec(0u8..4, 0..8), split: u8) {
            let mut address = address;
            address[0] |= 0x2000;
            address[0] &= 0x2fff;
            let address = core::net::Ipv6Addr::from(address);
            let spelled = [address.to_string(), format!("[{address}]"), format!("[{address}]:7")];
            let mut list = vec!["6.6.6.6".to_string(), spelled[usize::from(split % 3)].clone()];
            list.extend(hops.iter().map(|n| ["10.1.2.3", "10.9.9.9:80", "[fd00::1]", "::ffff:127.0.0.1"][usize::from(*n)].into()));
            let cut = usize::from(split) % list.len();
            let lines = [list[..cut].join(", "), list[cut..].join(",")];
            let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(client_of("127.0.0.1", &lines, PROXIES), address.to_string());
        }
    }
}
