//! The bytes that wait to be written to one socket: references to shared bytes and the connection's own bytes, with an
//! offset into the first chunk.
//!
//! The common case, one shared buffer for a whole turn that the socket takes at once, allocates nothing: the first
//! chunk is stored in the queue itself.

use core::cell::Cell;
use core::ops::Deref;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::ws;

/// Bytes that many queues share.
pub type Shared = Rc<SharedBytes>;

/// The memory that all living [`SharedBytes`] of one server take, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Rc<Cell<usize>>);

impl Ledger {
    /// Returns the bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }
}

/// A buffer that counts in a ledger for as long as any queue refers to it.
#[derive(Debug)]
pub struct SharedBytes {
    bytes: Vec<u8>,
    ledger: Ledger,
}

impl SharedBytes {
    /// Returns the bytes, ready to be shared. They count in this ledger from now on.
    pub fn share(bytes: Vec<u8>, ledger: &Ledger) -> Shared {
        ledger.0.set(ledger.0.get() + bytes.capacity());
        Rc::new(SharedBytes { bytes, ledger: ledger.clone() })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        self.ledger.0.set(self.ledger.0.get().saturating_sub(self.bytes.capacity()));
    }
}

/// Bytes that an acknowledgement with its frame fits in.
const USUAL_OBJECT: usize = 128;

#[derive(Debug)]
enum Chunk {
    /// Whole frames or events, from `start` to `end` of a buffer that other queues share.
    Shared { bytes: Shared, start: u32, end: u32 },
    /// Whole frames or events for this connection only.
    Own(Vec<u8>),
    /// Part of an HTTP answer, without frame boundaries.
    Http(Vec<u8>),
    /// The body of the HTTP answer before it.
    Body(&'static [u8]),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Shared { bytes, start, end } => &bytes[*start as usize..*end as usize],
            Chunk::Own(bytes) | Chunk::Http(bytes) => bytes,
            Chunk::Body(bytes) => bytes,
        }
    }

    fn is_http(&self) -> bool {
        matches!(self, Chunk::Http(_) | Chunk::Body(_))
    }

    /// Returns the bytes of memory that only this chunk takes.
    fn own_bytes(&self) -> usize {
        match self {
            Chunk::Own(bytes) | Chunk::Http(bytes) => bytes.capacity(),
            Chunk::Shared { .. } | Chunk::Body(_) => 0,
        }
    }
}

/// Invariants: `rest` is empty while `first` is; `offset` lies within `first`; `length` counts the bytes left to write,
/// and `own` the memory of the chunks that are this queue's only.
#[derive(Debug, Default)]
pub struct WriteQueue {
    first: Option<Chunk>,
    /// Boxed, since every connection has a queue but few ever need this.
    #[allow(clippy::box_collection)]
    rest: Option<Box<VecDeque<Chunk>>>,
    /// The number of bytes of `first` already written.
    offset: u32,
    length: u32,
    own: u32,
}

impl WriteQueue {
    /// Returns the number of bytes that wait.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the bytes of memory that this queue takes: the chunks that are its own, and the list of them. Shared
    /// buffers count in their [`Ledger`].
    pub fn memory(&self) -> usize {
        let list = self.rest.as_ref().map_or(0, |rest| rest.capacity() * size_of::<Chunk>());
        self.own as usize + list
    }

    /// Queues part of a shared buffer: whole frames or whole events. Copies nothing, and allocates nothing if the queue
    /// is empty.
    pub fn push_shared(&mut self, bytes: &Shared, start: u32, end: u32) {
        if start < end {
            self.push(Chunk::Shared { bytes: Rc::clone(bytes), start, end }, end - start);
        }
    }

    /// Queues frames or events for this connection only; `write` appends them, if possible to the last chunk.
    pub fn push_own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Chunk::Own(bytes)) = self.last_mut() {
            let (before, capacity) = (bytes.len(), bytes.capacity());
            write(bytes);
            let (length, grown) = (bytes.len() - before, bytes.capacity() - capacity);
            self.length += length as u32;
            self.own += grown as u32;
            return;
        }
        let mut bytes = Vec::with_capacity(USUAL_OBJECT);
        write(&mut bytes);
        let length = bytes.len() as u32;
        if length > 0 {
            self.push(Chunk::Own(bytes), length);
        }
    }

    /// Queues part of an HTTP answer.
    pub fn push_http(&mut self, bytes: Vec<u8>) {
        let length = bytes.len() as u32;
        if length > 0 {
            self.push(Chunk::Http(bytes), length);
        }
    }

    /// Queues the body of the answer just queued, without a copy: it is part of the program.
    pub fn push_body(&mut self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.push(Chunk::Body(bytes), bytes.len() as u32);
        }
    }

    fn push(&mut self, chunk: Chunk, length: u32) {
        self.length += length;
        self.own += chunk.own_bytes() as u32;
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            self.rest.get_or_insert_default().push_back(chunk);
        }
    }

    fn last_mut(&mut self) -> Option<&mut Chunk> {
        match self.rest.as_mut().and_then(|rest| rest.back_mut()) {
            Some(chunk) => Some(chunk),
            None => self.first.as_mut(),
        }
    }

    /// Returns the waiting bytes, in order, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.first.as_ref().map(|chunk| &chunk.bytes()[self.offset as usize..]);
        first.into_iter().chain(self.rest.iter().flat_map(|rest| rest.iter()).map(Chunk::bytes))
    }

    /// Removes the bytes that the socket took. A number beyond the queue's length empties the queue.
    pub fn advance(&mut self, mut taken: usize) {
        self.length -= taken.min(self.length as usize) as u32;
        if self.length == 0 {
            *self = WriteQueue::default();
            return;
        }
        while let Some(first) = &self.first {
            let left = first.bytes().len() - self.offset as usize;
            if taken < left {
                self.offset += taken as u32;
                return;
            }
            taken -= left;
            self.own -= first.own_bytes() as u32;
            self.offset = 0;
            self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        }
    }

    /// Drops every WebSocket frame that is not partly written. A partly written frame stays whole, since a truncated
    /// one would corrupt everything after it. HTTP answers stay, too: without them, no frame has a meaning.
    pub fn drop_unbegun(&mut self) {
        if self.first.as_ref().is_some_and(Chunk::is_http) {
            if let Some(rest) = &mut self.rest {
                let answers = rest.iter().take_while(|chunk| chunk.is_http()).count();
                rest.truncate(answers);
            }
            self.length = self.pieces().map(|piece| piece.len() as u32).sum();
            let chunks = self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()));
            self.own = chunks.map(|chunk| chunk.own_bytes() as u32).sum();
            return;
        }
        let keep = match &self.first {
            Some(chunk) if self.offset > 0 => {
                let bytes = chunk.bytes();
                let mut end = 0;
                while end < self.offset as usize {
                    end += ws::frame_end(&bytes[end..]);
                }
                end
            }
            _ => 0,
        };
        let offset = self.offset;
        match self.first.take() {
            Some(mut chunk) if keep > offset as usize => {
                match &mut chunk {
                    Chunk::Shared { start, end, .. } => *end = *start + keep as u32,
                    Chunk::Own(bytes) => bytes.truncate(keep),
                    Chunk::Http(_) | Chunk::Body(_) => {}
                }
                let own = chunk.own_bytes() as u32;
                *self = WriteQueue { first: Some(chunk), rest: None, offset, length: keep as u32 - offset, own };
            }
            _ => *self = WriteQueue::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(queue: &WriteQueue) -> Vec<u8> {
        queue.pieces().flatten().copied().collect()
    }

    fn shared(bytes: Vec<u8>) -> Shared {
        SharedBytes::share(bytes, &Ledger::default())
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        ws::data_frame(&mut out, true, payload);
        out
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<WriteQueue>() <= 56, "{}", size_of::<WriteQueue>());
    }

    #[test]
    fn dropping_frames_truncates_none() {
        for written in 0..=12 {
            let mut queue = WriteQueue::default();
            // Frames of 4, 5 and 3 bytes.
            let shared = shared([frame(b"ab"), frame(b"cde"), frame(b"f")].concat());
            queue.push_shared(&shared, 0, 12);
            queue.push_own(ws::ping_frame);
            queue.advance(written);
            queue.drop_unbegun();
            let expected = match written {
                0 | 4 | 9 | 12 => 0,
                n @ 1..=3 => 4 - n,
                n @ 5..=8 => 9 - n,
                n => 12 - n,
            };
            assert_eq!(queue.len(), expected, "{written}");
            assert_eq!(all(&queue), shared[written..written + expected]);
        }
    }

    #[test]
    fn an_answer_is_kept_whole() {
        let mut queue = WriteQueue::default();
        queue.push_http(b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec());
        queue.push_own(ws::ping_frame);
        queue.advance(3);
        queue.drop_unbegun();
        assert!(all(&queue).ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn answers_stay_before_frames() {
        for written in [0, 2, 7] {
            let mut queue = WriteQueue::default();
            queue.push_http(b"head".to_vec());
            queue.push_body(b"body");
            queue.push_http(b"101".to_vec());
            queue.push_own(ws::ping_frame);
            queue.advance(written);
            queue.drop_unbegun();
            assert_eq!(all(&queue), b"headbody101"[written..]);
            assert_eq!(queue.len(), 11 - written);
        }
    }

    proptest! {
        /// Whatever is queued comes out once and in order, however it is taken.
        #[test]
        fn nothing_is_lost_or_duplicated(steps in prop::collection::vec((0u8..5, 0usize..40), 0..60)) {
            let mut queue = WriteQueue::default();
            let mut model: Vec<u8> = Vec::new();
            let mut next = 0u8;
            let ledger = Ledger::default();
            for (kind, size) in steps {
                let bytes: Vec<u8> = (0..size).map(|i| next.wrapping_add(i as u8)).collect();
                next = next.wrapping_add(size as u8);
                match kind {
                    0 => {
                        queue.push_shared(&SharedBytes::share(bytes.clone(), &ledger), 0, size as u32);
                        model.extend(bytes);
                    }
                    1 => {
                        queue.push_own(|out| out.extend(&bytes));
                        model.extend(bytes);
                    }
                    2 => {
                        queue.push_http(bytes.clone());
                        model.extend(bytes);
                    }
                    3 => {
                        let body = &b"a body that lies in the program, of 49 bytes in all"[..size];
                        queue.push_body(body);
                        model.extend(body);
                    }
                    _ => {
                        queue.advance(size);
                        model.drain(..size.min(model.len()));
                    }
                }
                prop_assert_eq!(all(&queue), model.clone());
                prop_assert_eq!(queue.len(), model.len());
                // The memory is that of the chunks, and nothing is left of it when the queue is empty.
                let chunks = || queue.first.iter().chain(queue.rest.iter().flat_map(|rest| rest.iter()));
                let own: usize = chunks().map(Chunk::own_bytes).sum();
                let shared: usize = chunks().map(|chunk| match chunk {
                    Chunk::Shared { bytes, .. } => bytes.bytes.capacity(),
                    _ => 0,
                }).sum();
                prop_assert_eq!((queue.own as usize, ledger.bytes()), (own, shared));
                prop_assert!(!queue.is_empty() || queue.memory() == 0);
            }
        }
    }
}
