//! What a connection runs over: TCP, plain or under TLS. Reads wait as long as they are told to, or not at all, so that
//! one can wait for several things at once; writes always wait, but not for ever.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::types::is_localhost;

/// A server that takes no byte for so long is gone.
const WRITE: Duration = Duration::from_secs(30);

/// A TCP connection.
pub struct Tcp {
    stream: TcpStream,
    /// Reads wait until then; without it they don't.
    patience: Option<Instant>,
}

impl Tcp {
    /// To the first address of the host that takes the connection, before `until`. Reads wait until then.
    ///
    /// # Errors
    /// Why the last one that was tried did not.
    pub fn connect(host: &str, port: u16, until: Instant) -> io::Result<Tcp> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        // Names below `localhost` mean this machine, too, and not every resolver knows that (RFC 6761 §6.3).
        let host = if is_localhost(host) { "localhost" } else { host };
        for address in (host, port).to_socket_addrs()? {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    return Ok(Tcp { stream, patience: Some(until) });
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
            match (self.stream.read(buffer), self.patience) {
                (Err(error), Some(until)) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.stream, PollFlags::IN, until)?;
                }
                (done, _) => return done,
            }
        }
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = Instant::now() + WRITE;
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.stream, PollFlags::OUT, until)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until it can be read or written, or `until` is past.
fn wait(stream: &TcpStream, flags: PollFlags, until: Instant) -> io::Result<()> {
    let mut fds = [PollFd::new(stream, flags)];
    match poll(&mut fds, Some(&timespec(until.saturating_duration_since(Instant::now())))) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A duration as `poll` takes it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(1 << 30) as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// TCP, or TLS over it.
pub enum Pipe {
    Plain(Tcp),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Tcp>>),
}

impl Pipe {
    /// Reads wait until then; with `None` they don't.
    pub fn be_patient(&mut self, until: Option<Instant>) {
        self.tcp_mut().patience = until;
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match self {
            Pipe::Plain(tcp) => tcp,
            #[cfg(feature = "tls")]
            Pipe::Tls(tls) => &mut tls.sock,
        }
    }
}

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
