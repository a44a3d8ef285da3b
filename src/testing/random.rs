//! The random numbers of tests. Everything in a run that takes them is derived from one seed, so it can be repeated.

use crate::random::SplitMix64;

/// A probability in parts per million.
pub type Ppm = u32;

/// Draws from a sequence that its seed alone decides.
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(SplitMix64::new(seed))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    /// Returns a number from `first` to `last`, both included.
    pub fn within(&mut self, (first, last): (u64, u64)) -> u64 {
        first + self.0.below(last - first + 1)
    }

    /// Returns a number from `first` to `last`, both included, with each order of magnitude equally likely.
    pub fn magnitude(&mut self, (first, last): (u64, u64)) -> u64 {
        let (low, high) = (u64::from(first.max(1).ilog2()), u64::from(last.max(1).ilog2()));
        let top = 1u64 << self.within((low, high));
        self.within((top, top * 2 - 1)).clamp(first, last)
    }

    pub fn chance(&mut self, probability: Ppm) -> bool {
        probability > 0 && self.below(1_000_000) < probability as usize
    }

    pub fn coin(&mut self) -> bool {
        self.next_u64() & 1 == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next_u64() as u8)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next_u64() as u8).collect()
    }
}
/// Returns nonces for session tokens that follow from a seed.
pub fn nonces(seed: u64) -> Box<dyn FnMut() -> Option<[u8; 24]> + Send> {
    let mut random = SplitMix64::new(seed);
    Box::new(move || {
        let mut nonce = [0; 24];
        nonce.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next_u64().to_ne_bytes()));
        Some(nonce)
    })
}
