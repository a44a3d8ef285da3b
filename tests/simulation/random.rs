//! The one source of chance: everything that a run does comes from one u64. It knows nothing of what it decides.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and any seed is a good one.
pub struct Random(u64);

/// A probability, in millionths.
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

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A number from the first to the last, both included.
    pub fn within(&mut self, (first, last): (u64, u64)) -> u64 {
        first + ((u128::from(self.next()) * u128::from(last - first + 1)) >> 64) as u64
    }

    /// The same, but each order of magnitude is as likely as the next.
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
