//! The only source of randomness: everything in a run is derived from one u64. It knows nothing about its callers.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and any seed is a good one.
pub struct Random(u64);

/// A probability in parts per million.
pub type Ppm = u32;

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Returns a number from `first` to `last`, both included.
    pub fn within(&mut self, (first, last): (u64, u64)) -> u64 {
        first + ((u128::from(self.next()) * u128::from(last - first + 1)) >> 64) as u64
    }

    /// Returns such a number, with each order of magnitude equally likely.
    pub fn magnitude(&mut self, (first, last): (u64, u64)) -> u64 {
        let (low, high) = (u64::from(first.max(1).ilog2()), u64::from(last.max(1).ilog2()));
        let top = 1u64 << self.within((low, high));
        self.within((top, top * 2 - 1)).clamp(first, last)
    }

    pub fn chance(&mut self, probability: Ppm) -> bool {
        probability > 0 && self.below(1_000_000) < probability as usize
    }

    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
