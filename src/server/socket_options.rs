//! Options common to all sockets.

use std::io;

use socket2::Socket;

/// Bytes not yet sent, beyond which a socket accepts no more: a stalled peer then holds kilobytes of the kernel's
/// memory, not megabytes. Accepted sockets inherit it.
pub const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Sets the common options. A listener's accepted sockets inherit them.
pub fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}
