//! Turns the places in the settings into listening sockets, and addresses back into text for people, with IPv6 zones as
//! interface names.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mio::net::TcpListener;
use rustix::net::netdevice::{index_to_name, name_to_index};
use socket2::{Domain, Protocol, Socket, Type};

use super::socket_options::set_options;
use crate::types::Place;

/// Connections that may wait in the kernel to be accepted (the backlog).
const BACKLOG: i32 = 1024;
/// Attempts to find a port that is free on both loopback addresses.
const TRIES: usize = 16;

/// Binds listening sockets for the place: two for `localhost` if the machine has both addresses. `others` are all
/// places that are listened on.
///
/// # Errors
/// The address that cannot be bound, and why.
pub fn bind(place: &Place, others: &[&Place]) -> Result<Vec<TcpListener>, (String, io::Error)> {
    let one = |address: SocketAddr| {
        listener(address, shares_its_port(address, others)).map_err(|error| (place.to_string(), error))
    };
    match place {
        Place::Address(address) => Ok(vec![one(*address)?]),
        Place::Zoned { ip, zone, port } => {
            let index = interface(zone).map_err(|error| (place.to_string(), error))?;
            Ok(vec![one(SocketAddrV6::new(*ip, *port, 0, index).into())?])
        }
        Place::Localhost { port } => localhost(*port).map_err(|error| (place.to_string(), error)),
    }
}

/// Reports whether another listener takes IPv4 at this port, so that the one for all of IPv6 must be IPv6-only (RFC
/// 3493 §5.3).
fn shares_its_port(address: SocketAddr, others: &[&Place]) -> bool {
    let takes_v4 = |place: &&Place| place.port() == address.port() && place.ips().iter().any(IpAddr::is_ipv4);
    address.port() != 0 && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && others.iter().any(takes_v4)
}

/// Binds both loopback addresses at one port, or only one of them if the machine lacks the other.
fn localhost(port: u16) -> io::Result<Vec<TcpListener>> {
    let addresses =
        |port| [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let mut last = None;
    for _ in 0..TRIES {
        let mut found: Vec<TcpListener> = Vec::new();
        let mut taken = None;
        let mut wanted = port;
        for number in 0..2 {
            match listener(addresses(wanted)[number], false) {
                Ok(bound) => {
                    wanted = bound.local_addr()?.port();
                    found.push(bound);
                }
                Err(error) if is_absent(&error) => last = Some(error),
                Err(error) => taken = Some(error),
            }
        }
        match taken {
            // The port that the system chose is taken at the other address.
            Some(error) if port == 0 && error.kind() == ErrorKind::AddrInUse => last = Some(error),
            Some(error) => return Err(error),
            None if found.is_empty() => break,
            None => return Ok(found),
        }
    }
    Err(last.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// Matches EADDRNOTAVAIL and EAFNOSUPPORT: the machine lacks this address family.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

fn listener(address: SocketAddr, leaves_ipv4: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if leaves_ipv4 {
        socket.set_only_v6(true)?;
    }
    set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Returns the index of an interface. Any socket will do for the query.
fn interface(zone: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    name_to_index(&socket, zone)
        .map_err(|error| io::Error::new(ErrorKind::AddrNotAvailable, format!("no interface {zone}: {error}")))
}

/// Formats host and port as in a URL, with the interface's name if a link-local address needs it.
pub fn authority(address: SocketAddr) -> String {
    let SocketAddr::V6(v6) = address else { return address.to_string() };
    if v6.scope_id() == 0 {
        return address.to_string();
    }
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None);
    let name = socket.and_then(|socket| Ok(index_to_name(&socket, v6.scope_id())?));
    let zone = name.unwrap_or_else(|_| v6.scope_id().to_string());
    Place::Zoned { ip: *v6.ip(), zone: zone.into(), port: v6.port() }.authority()
}

pub fn explain(place: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "another program listens there; stop it, or choose another with --listen",
        ErrorKind::PermissionDenied => "ports below 1024 need rights; choose a higher one with --listen",
        ErrorKind::AddrNotAvailable => "this machine does not have that address; see --listen",
        _ => "see --listen",
    };
    format!("cannot listen on {place}: {error}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::super::socket_options::NOTSENT_LOWAT;
    use super::*;
    use socket2::SockRef;

    /// Both options are set once, on the listener: an accepted socket must have inherited them.
    #[test]
    fn accepted_sockets_inherit_their_options() {
        let listener = listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
    }
}
