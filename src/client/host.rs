//! The host in a URL: a name or an address, with or without a port. Pure; target.rs has its tests.

use crate::types::is_zone;

/// Returns the host for certificates and the Host header: without its zone, which means something only on this machine
/// (RFC 6874 §4).
pub fn without_zone(host: &str) -> &str {
    host.split_once('%').map_or(host, |(host, _)| host)
}

/// Reads host and port: a name, an IPv4 address, or an IPv6 address in brackets, link-local ones with their zone.
/// Returns the host without brackets, as [`super::connect`] takes it.
pub fn host_and_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (address(host)?, port)
        }
        None => {
            let (host, port) = authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon));
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if host.is_empty() || !host.bytes().all(fits) {
                return None;
            }
            (host.to_string(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if !digits.starts_with('+') => digits.parse().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => default,
        _ => return None,
    };
    Some((host, port))
}

/// Reads an IPv6 address; a link-local one may have a zone behind `%25` (RFC 6874 §2), or behind a bare `%`, as
/// browsers and curl accept it (§3).
fn address(text: &str) -> Option<String> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone))),
        None => (text, None),
    };
    let ip: core::net::Ipv6Addr = ip.parse().ok()?;
    match zone {
        None => Some(text.to_string()),
        Some(zone) if ip.is_unicast_link_local() && is_zone(zone) => Some(format!("{ip}%{zone}")),
        Some(_) => None,
    }
}
