//! Randomness from a seed: SplitMix64 (Steele, Lea and Flood, 2014). Not for secrets.

/// A stream of throws.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of one stream: the same seed and stream give the same throws.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.bits();
        dice
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, `end` excluded; 0 if that is nothing.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// From `range.start` to `range.end`, the end excluded.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_give_the_same_throws_again_and_other_ones_do_not() {
        let throws = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [0; 8].map(|_| dice.bits())
        };
        assert_eq!(throws(7, 1), throws(7, 1));
        assert_ne!(throws(7, 1), throws(7, 2));
        assert_ne!(throws(7, 1), throws(8, 1));
    }

    #[test]
    fn a_throw_stays_in_its_range() {
        let mut dice = Dice::new(1, 1);
        assert!((0..1000).all(|_| (3..9).contains(&dice.within(3..9))));
        assert_eq!(dice.within(5..5), 5);
    }
}
