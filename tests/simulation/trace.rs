//! The trace of a run: lines for people, where they are wanted, and a hash of everything that shows whether two runs
//! were the same.

use std::collections::VecDeque;
use std::fmt::Display;

use super::agenda::Micros;

pub struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    most: usize,
}

impl Trace {
    /// Creates a trace that keeps the last `most` lines; with 0 none are formatted.
    pub fn new(most: usize) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: (most > 0).then(VecDeque::new), most }
    }

    /// Records an event as a number.
    pub fn mark(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// Records bytes that were transferred.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mark(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mark(u64::from(*byte));
        }
    }

    /// Records a line, which is formatted only if lines are kept.
    pub fn line<T: Display>(&mut self, now: Micros, who: impl Display, what: impl FnOnce() -> T) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == self.most {
            lines.pop_front();
        }
        lines.push_back(format!("{:>11.6}  {who:<8}  {}", now as f64 / 1e6, what()));
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().map(Vec::from).unwrap_or_default()
    }
}
