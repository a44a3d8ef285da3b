//! The options that every socket has.

use std::io;

use socket2::Socket;

/// Bytes in the kernel that are not sent yet, past which a socket takes no more: a peer that stalls then holds
/// kilobytes of the kernel's memory, not megabytes. Accepted sockets inherit it.
pub const NOTSENT_LOWAT: u32 = 16 * 1024;

/// What every socket has. A listener's accepted sockets inherit it.
pub fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}
