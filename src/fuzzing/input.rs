//! The fuzzer's bytes as a line of decisions. At its end every further one is 0, so that any bytes are a whole input.

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

    /// Two bytes, the high one first.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// So many bytes, or what is left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Where a stream is to be cut: a count (at most 15), then the length of each piece but the last.
    pub fn cuts(&mut self) -> Cuts<'a> {
        let count = self.byte() & 15;
        Cuts { lengths: self.take(usize::from(count)) }
    }
}

/// The lengths of a stream's pieces; what they leave is the last one.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    lengths: &'a [u8],
}

impl<'a> Cuts<'a> {
    /// The stream in its pieces; some may be empty.
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

    /// No cut at all.
    pub fn none() -> Cuts<'static> {
        Cuts { lengths: &[] }
    }
}
