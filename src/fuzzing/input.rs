//! The fuzzer's bytes as a sequence of decisions. After the end every further byte is 0, so that any bytes are a
//! complete input.

pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Reads two bytes, the high one first.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Takes `count` bytes, or the rest if there are fewer.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Returns the rest.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Reads the places at which a stream is to be cut: a count (at most 15), then the length of each piece but the
    /// last.
    pub fn cuts(&mut self) -> Cuts<'a> {
        let count = self.byte() & 15;
        Cuts { lengths: self.take(usize::from(count)) }
    }
}

/// The lengths of a stream's pieces; the remainder is the last piece.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    lengths: &'a [u8],
}

impl<'a> Cuts<'a> {
    /// Returns the stream in pieces, some of which may be empty.
    pub fn of<'s>(self, stream: &'s [u8]) -> impl Iterator<Item = &'s [u8]> + use<'a, 's> {
        let mut lengths = self.lengths.iter();
        let mut rest = Some(stream);
        std::iter::from_fn(move || {
            let stream = rest?;
            let Some(length) = lengths.next() else { return rest.take() };
            let (piece, left) = stream.split_at(usize::from(*length).min(stream.len()));
            rest = Some(left);
            Some(piece)
        })
    }

    /// Returns no cuts at all.
    pub fn none() -> Cuts<'static> {
        Cuts { lengths: &[] }
    }
}
