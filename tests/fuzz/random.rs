//! Random numbers by seed: one number names one input for ever, on every machine.
//!
//! SplitMix64 (Steele, Lea, Flood 2014). For nothing secret.

/// A stream of numbers.
pub(crate) struct Random(u64);

impl Random {
    /// The stream of input `number` of the target `name`.
    pub(crate) fn of(seed: u64, name: &str, number: u64) -> Self {
        let mut random = Self(seed);
        for byte in name.bytes() {
            random.0 ^= u64::from(byte);
            random.next();
        }
        random.0 ^= number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        random.next();
        random
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// True once in `many` times.
    pub(crate) fn once_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// A length: mostly short, rarely up to `most`.
    pub(crate) fn length(&mut self, most: usize) -> usize {
        let ceiling = 1usize << self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        self.below(ceiling.min(most) + 1)
    }

    /// One of `items`, which are not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
