//! A small seeded generator: the same seed gives the same run. Not for secrets.

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that differs from process to process, from the OS through the standard hasher.
    #[must_use]
    pub fn seed_from_os() -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0x6d69_6c6c_7261_6365_u64)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound` (0 if `bound` is 0). The bias is below 2^-32 for bounds we use.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u64::from(bound) * (self.bits() >> 32);
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    /// Ten random octets, as many as a UUID version 7 wants.
    pub fn ten_bytes(&mut self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.bits().to_be_bytes());
        bytes[8..].copy_from_slice(&self.bits().to_be_bytes()[..2]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_run_and_bounds_hold() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        for _ in 0..1000 {
            let bound = 1 + (one.bits() % 50) as u32;
            assert_eq!(two.bits() % 50 + 1, u64::from(bound));
            assert!(one.below(bound) < bound);
            two.bits();
        }
        assert_eq!(one.below(0), 0);
    }
}
