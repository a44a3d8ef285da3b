//! Options common to all sockets.

use std::io;

use socket2::Socket;

/// Bytes not yet sent, beyond which a socket accepts no more: a stalled peer then holds kilobytes of the kernel's
/// memory, not megabytes. Accepted sockets inherit it.
pub const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Bytes that the kernel takes from a peer before they are read; it counts its own structures in, and sets twice as
/// much. Without this it takes up to megabytes from a peer that was fast once.
const RECEIVED: usize = 32 * 1024;

/// Bytes that the kernel keeps until the peer has acknowledged them, likewise.
const SENT: usize = 64 * 1024;

/// Sets the common options. A listener's accepted sockets inherit them.
pub fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(RECEIVED)?;
    socket.set_send_buffer_size(SENT)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}
