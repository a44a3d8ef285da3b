//! The sockets, in a slab. Reads and writes never block, and tell whether there is more to do. TLS, if used, ends here:
//! the layers above see plaintext only.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use slab::Slab;
use socket2::SockRef;

use super::received::Received;
use super::tls::{Scratch, TlsStream};
use super::tokens;
use crate::conn::WriteQueue;
use crate::engine::Written;
use crate::types::ConnId;

pub struct Socket {
    stream: TcpStream,
    generation: u32,
    /// Exceeds the connection limit.
    is_excess: bool,
    tls: Option<Box<TlsStream>>,
    /// Set if there may be bytes that no further edge will announce.
    pub readable: bool,
    /// The peer has ended or the socket failed: it must be read until that shows.
    pub hung_up: bool,
    /// The last write was partial: an edge will announce when to continue.
    pub blocked: bool,
}

/// Maximum pieces of one vectored write.
const PIECES: usize = 64;

impl Socket {
    /// Reads once. With edge-triggered events, a read that does not fill the buffer has emptied the socket.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8], scratch: &'a mut Scratch) -> Received<'a> {
        if let Some(tls) = &mut self.tls {
            let read = tls.read(&mut self.stream, scratch, buffer.len(), self.hung_up);
            self.readable = matches!(read, Received::Some { more: true, .. });
            return read;
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    return Received::End;
                }
                Ok(length) => {
                    let more = length == buffer.len() || self.hung_up;
                    self.readable = more;
                    return Received::Some { bytes: &mut buffer[..length], more };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Received::Nothing;
                }
                Err(_) => {
                    self.readable = false;
                    return Received::Failed;
                }
            }
        }
    }

    /// Returns how many bytes the kernel holds unread; 0 if it does not say.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.stream).unwrap_or(0)
    }

    /// Writes from the queue until the socket accepts no more.
    pub fn write(&mut self, queue: &WriteQueue, scratch: &mut Scratch) -> Written {
        if self.tls.is_some() {
            return self.write_encrypted(queue, scratch);
        }
        if self.blocked || queue.is_empty() {
            return Written::Some(0);
        }
        let mut waiting = queue.pieces();
        let mut total = 0;
        // Nearly always a single pass. If the queue has more pieces than one write takes, and the socket would accept
        // them, the loop must go on: no edge would follow.
        loop {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slot, piece) in pieces.iter_mut().zip(waiting.by_ref()) {
                *slot = IoSlice::new(piece);
                count += 1;
            }
            let offered: usize = pieces[..count].iter().map(|piece| piece.len()).sum();
            match self.write_once(&pieces[..count]) {
                Ok(taken) => {
                    total += taken;
                    self.blocked = taken < offered;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(_) => return Written::Failed,
            }
            if self.blocked || count < PIECES {
                return Written::Some(total);
            }
        }
    }

    fn write_once(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let written = match pieces {
                [one] => self.stream.write(one),
                many => self.stream.write_vectored(many),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_encrypted(&mut self, queue: &WriteQueue, scratch: &mut Scratch) -> Written {
        let Some(tls) = self.tls.as_mut().filter(|_| !self.blocked) else { return Written::Some(0) };
        let written = tls.write(&mut self.stream, queue, scratch, &mut self.blocked);
        if tls.is_closed() {
            // The shutdown was requested earlier, and only waited for the last bytes.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        written
    }

    /// Returns how many bytes of memory TLS holds more than when it was asked last, or less.
    pub fn growth(&mut self) -> i64 {
        self.tls.as_mut().map_or(0, |tls| tls.growth())
    }

    /// Shuts down the sending side; with TLS, after the close_notify. A peer that is already gone is not an error.
    pub fn shut_down(&mut self) {
        if let Some(tls) = &mut self.tls
            && !tls.close(&mut self.stream)
        {
            self.blocked = true;
            return;
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reports whether a TLS handshake is in progress.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Reports whether TLS has bytes to write that no queue contains, and that no event would announce.
    pub fn wants_write(&self) -> bool {
        !self.blocked && self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Drops TLS for this socket. Nothing of TLS was sent before.
    pub fn speak_plainly(&mut self) {
        self.tls = None;
    }
}

#[derive(Default)]
pub struct Sockets {
    slab: Slab<Socket>,
    next_generation: u32,
    /// Sockets beyond the connection limit.
    excess: usize,
}

impl Sockets {
    pub fn count(&self) -> usize {
        self.slab.len()
    }

    /// Returns the number of sockets, without those in excess.
    pub fn lasting(&self) -> usize {
        self.slab.len() - self.excess
    }

    /// Returns the number of sockets in excess.
    pub fn excess(&self) -> usize {
        self.excess
    }

    /// Adds a socket and registers it with the poll: both directions, edge-triggered, once and for all.
    pub fn insert(
        &mut self,
        registry: &mio::Registry,
        mut stream: TcpStream,
        tls: Option<Box<TlsStream>>,
        is_excess: bool,
    ) -> io::Result<ConnId> {
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = tokens::cut(self.next_generation);
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        registry.register(&mut stream, tokens::socket(index, generation), interest)?;
        entry.insert(Socket { stream, generation, is_excess, tls, readable: false, hung_up: false, blocked: false });
        self.excess += usize::from(is_excess);
        Ok(ConnId { index: index as u32, generation })
    }

    /// Counts a socket in excess among the others.
    pub fn keep(&mut self, id: ConnId) {
        if let Some(socket) = self.get(id) {
            let was_excess = std::mem::replace(&mut socket.is_excess, false);
            self.excess -= usize::from(was_excess);
        }
    }

    pub fn get(&mut self, id: ConnId) -> Option<&mut Socket> {
        self.slab.get_mut(id.index as usize).filter(|socket| socket.generation == id.generation)
    }

    /// Returns the socket that a token names, unless it has been replaced.
    pub fn find(&mut self, index: usize, generation: u32) -> Option<(ConnId, &mut Socket)> {
        let id = ConnId { index: u32::try_from(index).ok()?, generation };
        self.get(id).map(|socket| (id, socket))
    }

    /// Closes the socket, which also removes it from the poll. What its peer has not taken is given up: the kernel
    /// would keep it for minutes.
    pub fn remove(&mut self, id: ConnId) {
        if let Some(socket) = self.get(id) {
            if socket.blocked {
                let _ = SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
            }
            if let Some(tls) = &mut socket.tls {
                // If the close_notify cannot be sent at once, the peer has stopped reading.
                tls.close(&mut socket.stream);
            }
            self.excess -= usize::from(socket.is_excess);
            self.slab.remove(id.index as usize);
        }
    }
}
