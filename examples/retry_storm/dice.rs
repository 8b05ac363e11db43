//! Randomness from a seed: SplitMix64 (Steele, Lea and Flood, 2014).

pub struct Dice(u64);

impl Dice {
    /// Of one stream: the same seed and stream give the same throws.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, `end` excluded.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
