//! The byte stream of a connection: TCP, plain or with TLS. Reads block until a deadline or not at all, so that the
//! caller can wait for several things at once; writes always block, but not for ever.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(feature = "client")]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::types::is_localhost;

/// How long a write waits for the server to take a byte.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A TCP connection.
pub struct Tcp {
    stream: TcpStream,
    /// Reads block until this time; without it, not at all.
    read_deadline: Option<Instant>,
}

impl Tcp {
    /// Connects to the first address of the host that accepts, before `deadline`. Reads block until that time.
    ///
    /// # Errors
    /// Why the last address did not accept.
    pub fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<Tcp> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
        // Names below `localhost` mean this machine, too, and not every resolver knows that (RFC 6761 §6.3).
        let host = if is_localhost(host) { "localhost" } else { host };
        for address in (host, port).to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    return Ok(Tcp { stream, read_deadline: Some(deadline) });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Read for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (self.stream.read(buffer), self.read_deadline) {
                (Err(error), Some(deadline)) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.stream, PollFlags::IN, deadline)?;
                }
                (done, _) => return done,
            }
        }
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.stream, PollFlags::OUT, deadline)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the stream is readable or writable, or fails at `deadline`.
fn wait(stream: &TcpStream, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    let mut fds = [PollFd::new(stream, flags)];
    match poll(&mut fds, Some(&timespec(deadline.saturating_duration_since(Instant::now())))) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Converts a duration for `poll`.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(1 << 30) as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// TCP, or TLS over it.
pub enum Pipe {
    Plain(Tcp),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Tcp>>),
}

#[cfg(feature = "client")]
impl Pipe {
    /// Makes reads block until this time; with `None`, not at all.
    pub fn set_read_deadline(&mut self, deadline: Option<Instant>) {
        self.tcp_mut().read_deadline = deadline;
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match self {
            Pipe::Plain(tcp) => tcp,
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => &mut tls.sock,
        }
    }
}

#[cfg(feature = "client")]
impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Pipe::Plain(tcp) => tcp.stream.as_fd(),
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => tls.sock.stream.as_fd(),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Pipe::Plain(tcp) => tcp.read(buffer),
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Pipe::Plain(tcp) => tcp.write(bytes),
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Pipe::Plain(tcp) => tcp.flush(),
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => tls.flush(),
        }
    }
}
